// fuzz_simpoint.c - any bytes as basic-block vectors: the parser's promises, and that whatever it
// accepts can be clustered.
#include "fuzz.h"

#include "tools/simpoint.h"

#include <math.h>

static void check_vectors(const SimpointVectors *v, const uint8_t *data, size_t n) {
    require(v->n && v->n <= v->room && v->n_counts <= v->room_counts);
    require(v->end[v->n - 1] == v->n_counts);
    require(v->n_counts <= n / 4 + 1); // of four bytes at least, `:1:2`
    for (size_t i = 0; i < v->n; i++) {
        size_t first = i ? v->end[i - 1] : 0;
        bool any = false;
        require(first < v->end[i]);
        for (size_t c = first; c < v->end[i]; c++) any |= v->count[c].count != 0;
        require(any);
    }
    require(!v->cut_line == (data[n - 1] == '\n'));
}

static void check_clusters(const SimpointVectors *v) {
    SimpointOptions o = simpoint_options_default();
    o.max_k = 3;
    o.dim = 2;
    o.restarts = 2;
    SimpointPoints p;
    SimpointResult r = {0};
    require(simpoint_project(v, &o, &p) && simpoint_search(&p, &o, &r));
    require(r.n == v->n && r.k >= 1 && r.k <= 3 && r.k <= p.distinct);
    size_t all = 0;
    for (unsigned k = 0; k < r.k; k++) {
        const SimpointCluster *c = &r.cluster[k];
        require(c->size && c->interval < r.n && r.label[c->interval] == k);
        all += c->size;
    }
    require(all == r.n);
    for (unsigned i = 0; i < r.n_scores; i++) require(isfinite(r.score[i].bic));
    simpoint_result_free(&r);
    simpoint_points_free(&p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    if (!n) return 0;
    FILE *f = fmemopen((void *)data, n, "r");
    require(f);
    SimpointVectors v;
    SimpointError error;
    if (simpoint_read(f, &v, &error)) {
        check_vectors(&v, data, n);
        if (v.n < 500) check_clusters(&v);
    } else {
        require(error.text[0] && !strchr(error.text, '\n'));
    }
    fclose(f);
    simpoint_vectors_free(&v);
    return 0;
}
