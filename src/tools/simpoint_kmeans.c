// simpoint_kmeans.c - from vectors to phases: projection, k-means, and how many clusters are
// enough.
//
// Projection. A vector has as many dimensions as the program has blocks; distances survive, nearly,
// in 15 random ones. The matrix is never stored: an entry is a hash of (seed, block, dimension).
//
// k-means. For each k several restarts, each with centres of its own to begin with: the first takes
// the points furthest from those it has (finds phases that are well apart, and outliers), the
// others draw points by their squared distance (k-means++). Then Lloyd's two steps until no label
// changes. A cluster that runs empty gets the point that lies furthest from its centre.
//
// How many. A k's score is the Bayesian information criterion of its best restart, for clusters
// that are spherical Gaussians of one variance, as SimPoint 3.2 has it: likelihood of the points,
// less half the logarithm of their number for each parameter. More clusters nearly always score
// better, so the smallest k is taken whose score reaches 90 % of the way from the worst to the
// best. One deviation: the variance counts as at least MIN_VARIANCE, for the likelihood of points
// that lie exactly on their centres would be infinite, and of those that differ by roundings an
// accident.
//
// Threads. One run of k-means is one task of one thread, so no sum depends on who computes it, and
// of two restarts that score the same the first wins whichever ends first. Workers share Search:
// read only but for `next`, `failed` (atomic) and `best` (under `lock`).
#include "simpoint.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

// Of frequencies, which are from 0 to 1: differences of a millionth are noise.
#define MIN_VARIANCE 1e-12

SimpointOptions simpoint_options_default(void) {
    return (SimpointOptions){.max_k = 30,
                             .dim = 15,
                             .restarts = 5,
                             .max_iterations = 100,
                             .threads = 1,
                             .bic_threshold = 0.9,
                             .seed = 1};
}

// ---- random numbers by place ----

static uint64_t mix(uint64_t x) { // a bijection that leaves no pattern (SplitMix64's last step)
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
    x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
    return x ^ (x >> 31);
}

static uint64_t random_at(uint64_t stream, uint64_t place) {
    return mix(stream + (place + 1) * 0x9e3779b97f4a7c15);
}

// These instead of libm's: a library more to load costs every start of the command 40 us.
static double lesser(double a, double b) {
    return a < b ? a : b;
}
static double greater(double a, double b) {
    return a > b ? a : b;
}

// The natural logarithm of a normal number above 0: x is 2^e m with m near 1, and ln m is twice the
// series of artanh((m - 1) / (m + 1)), whose terms here fall by 34 and more.
static double ln(double x) {
    const double ln2 = 0x1.62e42fefa39efp-1;
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    int e = (int)(bits >> 52) - 1023;
    bits = (bits & 0xfffffffffffff) | 1023ull << 52;
    double m, sum = 0;
    memcpy(&m, &bits, sizeof m);
    if (m > 0x1.6a09e667f3bcdp0) m /= 2, e++; // the square root of 2
    double s = (m - 1) / (m + 1), s2 = s * s;
    for (int k = 21; k > 1; k -= 2) sum = (sum + 1.0 / k) * s2;
    return e * ln2 + 2 * (s + s * sum);
}

static double unit(uint64_t random) { // [0, 1)
    return (double)(random >> 11) * 0x1p-53;
}

double simpoint_direction(uint64_t seed, uint64_t block, unsigned dim) {
    return 2 * unit(random_at(random_at(mix(seed), block), dim)) - 1;
}

// ---- threads ----

// Runs work(ctx) on so many threads at once, the caller's among them. That fewer can be had does
// not matter, for work() takes tasks until there are none.
static void on_threads(unsigned n, void *(*work)(void *), void *ctx) {
    pthread_t thread[SIMPOINT_MAX_THREADS];
    unsigned started = 0;
    while (started + 1 < n && started < SIMPOINT_MAX_THREADS &&
           !pthread_create(&thread[started], NULL, work, ctx))
        started++;
    work(ctx);
    while (started) pthread_join(thread[--started], NULL);
}

// ---- projection ----

enum { ROWS_PER_TASK = 64 };

typedef struct Projection {
    const SimpointVectors *v;
    SimpointPoints *p;
    uint64_t stream;
    atomic_size_t next;
} Projection;

static void project_row(const Projection *j, size_t i) {
    const SimpointCount *first = j->v->count + (i ? j->v->end[i - 1] : 0),
                        *end = j->v->count + j->v->end[i];
    double *row = j->p->at + i * j->p->dim, total = 0;
    for (const SimpointCount *c = first; c < end; c++) total += (double)c->count;
    for (const SimpointCount *c = first; c < end; c++) {
        double frequency = (double)c->count / total;
        uint64_t stream = random_at(j->stream, c->block);
        for (unsigned d = 0; d < j->p->dim; d++)
            row[d] += frequency * (2 * unit(random_at(stream, d)) - 1);
    }
}

static void *project_some(void *ctx) {
    Projection *j = ctx;
    for (size_t i; (i = atomic_fetch_add(&j->next, ROWS_PER_TASK)) < j->p->n;)
        for (size_t row = i; row < j->p->n && row < i + ROWS_PER_TASK; row++) project_row(j, row);
    return NULL;
}

static int compare_rows(const void *a, const void *b, void *ctx) {
    const double *x = *(const double *const *)a, *y = *(const double *const *)b;
    for (unsigned d = 0, dim = *(const unsigned *)ctx; d < dim; d++)
        if (x[d] != y[d]) return x[d] < y[d] ? -1 : 1;
    return 0;
}

// How many points differ: there cannot be more clusters.
static bool count_distinct(SimpointPoints *p) {
    const double **row = malloc(p->n * sizeof *row);
    if (!row) return false;
    for (size_t i = 0; i < p->n; i++) row[i] = p->at + i * p->dim;
    qsort_r(row, p->n, sizeof *row, compare_rows, &p->dim);
    p->distinct = 1;
    for (size_t i = 1; i < p->n; i++)
        p->distinct += compare_rows(&row[i - 1], &row[i], &p->dim) != 0;
    free(row);
    return true;
}

bool simpoint_project(const SimpointVectors *v, const SimpointOptions *o, SimpointPoints *p) {
    *p = (SimpointPoints){.n = v->n, .dim = o->dim};
    if (v->n > SIZE_MAX / sizeof(double) / o->dim) return false;
    p->at = calloc(v->n * o->dim, sizeof *p->at);
    if (!p->at) return false;
    Projection j = {.v = v, .p = p, .stream = mix(o->seed)};
    on_threads(o->threads, project_some, &j);
    return count_distinct(p);
}

void simpoint_points_free(SimpointPoints *p) {
    free(p->at);
    *p = (SimpointPoints){0};
}

// ---- one run of k-means ----

typedef struct Clusters {
    const SimpointPoints *p;
    unsigned k, iterations;
    double *centre;   // dim rows of k, so that one point meets all centres in one pass
    double *sum;      // the same of the next centres
    double *gap;      // k: from one point to each centre, squared
    double *moved;    // k: how far the last step took each centre
    double *half;     // k: half the way to the nearest other centre
    size_t *size;     // k
    unsigned *label;  // n
    double *distance; // n: to the nearest centre when last measured, squared
    double *near;     // n: bounds of distances, not squared
    double *far;
} Clusters;

static void clusters_free(Clusters *c) {
    double **arrays[] = {&c->centre, &c->sum,      &c->gap,  &c->moved,
                         &c->half,   &c->distance, &c->near, &c->far};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) free(*arrays[i]);
    free(c->size);
    free(c->label);
}

static bool clusters_init(Clusters *c, const SimpointPoints *p, unsigned k) {
    *c = (Clusters){.p = p, .k = k};
    c->centre = calloc((size_t)k * p->dim, sizeof *c->centre);
    c->sum = calloc((size_t)k * p->dim, sizeof *c->sum);
    c->gap = calloc(k, sizeof *c->gap);
    c->moved = calloc(k, sizeof *c->moved);
    c->half = calloc(k, sizeof *c->half);
    c->size = calloc(k, sizeof *c->size);
    c->label = calloc(p->n, sizeof *c->label);
    c->distance = calloc(p->n, sizeof *c->distance);
    c->near = calloc(p->n, sizeof *c->near);
    c->far = calloc(p->n, sizeof *c->far);
    if (c->centre && c->sum && c->gap && c->moved && c->half && c->size && c->label &&
        c->distance && c->near && c->far)
        return true;
    clusters_free(c);
    return false;
}

static size_t furthest(const Clusters *c) {
    size_t best = 0;
    for (size_t i = 1; i < c->p->n; i++)
        if (c->distance[i] > c->distance[best]) best = i;
    return best;
}

// A point, drawn by its squared distance from the nearest centre so far.
static size_t draw(const Clusters *c, double random) {
    double total = 0, sum = 0;
    for (size_t i = 0; i < c->p->n; i++) total += c->distance[i];
    for (size_t i = 0; i < c->p->n; i++)
        if (c->distance[i] > 0 && (sum += c->distance[i]) > random * total) return i;
    return furthest(c);
}

// The first centres are points. `stream` is this run's own.
static void seed_centres(Clusters *c, uint64_t stream, bool by_furthest) {
    const SimpointPoints *p = c->p;
    size_t chosen = (size_t)(unit(random_at(stream, 0)) * (double)p->n);
    for (unsigned k = 0; k < c->k; k++) {
        if (k) chosen = by_furthest ? furthest(c) : draw(c, unit(random_at(stream, k)));
        const double *to = p->at + chosen * p->dim;
        for (unsigned d = 0; d < p->dim; d++) c->centre[(size_t)d * c->k + k] = to[d];
        for (size_t i = 0; i < p->n; i++) {
            const double *from = p->at + i * p->dim;
            double sum = 0;
            for (unsigned d = 0; d < p->dim; d++) sum += (from[d] - to[d]) * (from[d] - to[d]);
            if (!k || sum < c->distance[i]) c->distance[i] = sum;
        }
    }
}

// All of gap[].
static void measure(const Clusters *c, const double *row) {
    double *restrict gap = c->gap;
    const double *restrict centre = c->centre;
    unsigned k = c->k;
    for (unsigned i = 0; i < k; i++) gap[i] = 0;
    for (unsigned d = 0; d < c->p->dim; d++, centre += k)
        for (unsigned i = 0; i < k; i++) gap[i] += (row[d] - centre[i]) * (row[d] - centre[i]);
}

// A point to its nearest centre, the first of several. False: it had been there already.
static bool place(Clusters *c, size_t i) {
    unsigned best = 0;
    double second = INFINITY;
    measure(c, c->p->at + i * c->p->dim);
    for (unsigned k = 1; k < c->k; k++)
        if (c->gap[k] < c->gap[best]) {
            second = c->gap[best];
            best = k;
        } else if (c->gap[k] < second) {
            second = c->gap[k];
        }
    bool stays = c->label[i] == best;
    c->label[i] = best;
    c->distance[i] = c->gap[best];
    c->near[i] = sqrt(c->gap[best]);
    c->far[i] = sqrt(second);
    return !stays;
}

static void place_all(Clusters *c) {
    memset(c->size, 0, c->k * sizeof *c->size);
    for (size_t i = 0; i < c->p->n; i++) {
        place(c, i);
        c->size[c->label[i]]++;
    }
}

static double between(const Clusters *c, unsigned a, unsigned b) {
    double sum = 0;
    for (const double *row = c->centre, *end = row + (size_t)c->k * c->p->dim; row < end;
         row += c->k)
        sum += (row[a] - row[b]) * (row[a] - row[b]);
    return sqrt(sum);
}

// After the centres moved. False: no point went over to another.
static bool place_restless(Clusters *c) {
    const double slack = 1 + 1e-9; // roundings must not make a bound too bold
    double most = 0;
    bool changed = false;
    for (unsigned a = 0; a < c->k; a++) {
        c->half[a] = INFINITY;
        for (unsigned b = 0; b < c->k; b++)
            if (a != b) c->half[a] = lesser(c->half[a], between(c, a, b) / 2);
        most = greater(most, c->moved[a]);
    }
    for (size_t i = 0; i < c->p->n; i++) {
        unsigned before = c->label[i];
        c->near[i] += c->moved[before];
        c->far[i] -= most;
        if (c->near[i] * slack < greater(c->half[before], c->far[i])) continue;
        if (!place(c, i)) continue;
        c->size[before]--;
        c->size[c->label[i]]++;
        changed = true;
    }
    return changed;
}

// A cluster that ran empty gets the worst placed of the points that do not lie alone.
static void fill_empty(Clusters *c) {
    bool measured = false;
    for (unsigned k = 0; k < c->k; k++) {
        if (c->size[k]) continue;
        if (!measured) place_all(c); // for distance[]
        measured = true;
        size_t worst = c->p->n;
        for (size_t i = 0; i < c->p->n; i++)
            if (c->size[c->label[i]] > 1 && c->distance[i] > 0 &&
                (worst == c->p->n || c->distance[i] > c->distance[worst]))
                worst = i;
        if (worst == c->p->n) return;
        c->size[c->label[worst]]--;
        c->label[worst] = k;
        c->size[k] = 1;
        c->distance[worst] = c->near[worst] = c->far[worst] = 0;
    }
}

// Each centre to the mean of its points; one that has none stays.
static void move_centres(Clusters *c) {
    const SimpointPoints *p = c->p;
    memset(c->sum, 0, (size_t)c->k * p->dim * sizeof *c->sum);
    memset(c->moved, 0, c->k * sizeof *c->moved);
    for (size_t i = 0; i < p->n; i++)
        for (unsigned d = 0; d < p->dim; d++)
            c->sum[(size_t)d * c->k + c->label[i]] += p->at[i * p->dim + d];
    for (unsigned d = 0; d < p->dim; d++)
        for (unsigned k = 0; k < c->k; k++) {
            double *centre = &c->centre[(size_t)d * c->k + k];
            if (!c->size[k]) continue;
            double mean = c->sum[(size_t)d * c->k + k] / (double)c->size[k];
            c->moved[k] += (mean - *centre) * (mean - *centre);
            *centre = mean;
        }
    for (unsigned k = 0; k < c->k; k++) c->moved[k] = sqrt(c->moved[k]);
}

static void iterate(Clusters *c, unsigned limit) {
    place_all(c);
    for (c->iterations = 0; c->iterations < limit;) {
        fill_empty(c);
        move_centres(c);
        c->iterations++;
        if (!place_restless(c)) break;
    }
    place_all(c);
}

static double distortion(const Clusters *c) {
    double sum = 0;
    for (size_t i = 0; i < c->p->n; i++) sum += c->distance[i];
    return sum;
}

static double bic(const Clusters *c, double distorted) {
    double n = (double)c->p->n, dim = c->p->dim, k = c->k;
    double variance = greater(distorted / (dim * n), MIN_VARIANCE);
    double likelihood = -n * dim / 2 * (ln(2 * M_PI * variance) + 1);
    for (unsigned i = 0; i < c->k; i++)
        if (c->size[i]) likelihood += (double)c->size[i] * ln((double)c->size[i] / n);
    double parameters = (k - 1) + k * dim + 1; // shares, centres, the variance
    return likelihood - parameters / 2 * ln(n);
}

// ---- all runs ----

typedef struct Best { // of the restarts of one k
    SimpointScore score;
    unsigned restart;
    double *centre; // NULL: none has ended
} Best;

typedef struct Search {
    const SimpointPoints *p;
    const SimpointOptions *o;
    Best *best;
    unsigned n, first_k; // best[i] is of first_k + i
    atomic_size_t next, done;
    atomic_bool failed;
    pthread_mutex_t lock;
} Search;

static void keep_if_better(Search *s, Best *best, Best *mine) {
    pthread_mutex_lock(&s->lock);
    if (!best->centre || mine->score.bic > best->score.bic ||
        (mine->score.bic == best->score.bic && mine->restart < best->restart)) {
        Best worse = *best;
        *best = *mine;
        *mine = worse;
    }
    pthread_mutex_unlock(&s->lock);
    free(mine->centre);
}

static bool run_once(Search *s, Best *best, unsigned k, unsigned restart) {
    Clusters c;
    if (!clusters_init(&c, s->p, k)) return false;
    uint64_t stream = random_at(random_at(~mix(s->o->seed), k), restart);
    seed_centres(&c, stream, restart == 0);
    iterate(&c, s->o->max_iterations);
    double distorted = distortion(&c);
    Best mine = {.score = {.k = k,
                           .iterations = c.iterations,
                           .bic = bic(&c, distorted),
                           .distortion = distorted},
                 .restart = restart,
                 .centre = c.centre};
    c.centre = NULL;
    clusters_free(&c);
    keep_if_better(s, best, &mine);
    return true;
}

// The longest first, so that no thread is left with one at the end.
static void *run_some(void *ctx) {
    Search *s = ctx;
    unsigned restarts = s->o->restarts;
    size_t tasks = (size_t)s->n * restarts;
    for (size_t t; !atomic_load(&s->failed) && (t = atomic_fetch_add(&s->next, 1)) < tasks;) {
        unsigned i = s->n - 1 - (unsigned)(t / restarts);
        if (!run_once(s, &s->best[i], s->first_k + i, (unsigned)(t % restarts)))
            atomic_store(&s->failed, true);
        size_t done = atomic_fetch_add(&s->done, 1) + 1;
        if (s->o->progress) s->o->progress(s->o->progress_ctx, done, tasks);
    }
    return NULL;
}

static unsigned choose(const SimpointScore *score, unsigned n, double threshold) {
    unsigned low = 0, high = 0;
    for (unsigned i = 1; i < n; i++) {
        if (score[i].bic < score[low].bic) low = i;
        if (score[i].bic > score[high].bic) high = i;
    }
    double enough = score[low].bic + (score[high].bic - score[low].bic) * threshold;
    for (unsigned i = 0; i < n; i++)
        if (score[i].bic >= enough) return i;
    return high; // `enough` was rounded up past the highest
}

// Labels by the first interval of each cluster, and each cluster's representative.
static bool describe(SimpointResult *r, const Clusters *c) {
    unsigned *name = calloc(c->k, sizeof *name); // plus one; 0: not met yet
    r->n = c->p->n;
    r->label = malloc(r->n * sizeof *r->label);
    r->distance = malloc(r->n * sizeof *r->distance);
    r->cluster = calloc(c->k, sizeof *r->cluster);
    bool good = name && r->label && r->distance && r->cluster;
    for (size_t i = 0; good && i < r->n; i++) {
        unsigned *mine = &name[c->label[i]];
        if (!*mine) *mine = ++r->k;
        SimpointCluster *cluster = &r->cluster[*mine - 1];
        r->label[i] = *mine - 1;
        r->distance[i] = sqrt(c->distance[i]);
        if (!cluster->size++ || r->distance[i] < r->distance[cluster->interval])
            cluster->interval = i;
    }
    for (unsigned k = 0; good && k < r->k; k++)
        r->cluster[k].weight = (double)r->cluster[k].size / (double)r->n;
    free(name);
    return good;
}

static bool conclude(Search *s, SimpointResult *r) {
    r->score = calloc(s->n, sizeof *r->score);
    if (!r->score) return false;
    r->n_scores = s->n;
    for (unsigned i = 0; i < s->n; i++) r->score[i] = s->best[i].score;
    r->chosen = choose(r->score, s->n, s->o->bic_threshold);
    Clusters c;
    unsigned k = s->first_k + r->chosen;
    if (!clusters_init(&c, s->p, k)) return false;
    memcpy(c.centre, s->best[r->chosen].centre, (size_t)k * s->p->dim * sizeof *c.centre);
    place_all(&c);
    bool good = describe(r, &c);
    clusters_free(&c);
    return good;
}

bool simpoint_search(const SimpointPoints *p, const SimpointOptions *o, SimpointResult *r) {
    *r = (SimpointResult){0};
    unsigned last = o->k ? o->k : o->max_k;
    if (last > p->distinct) last = (unsigned)p->distinct;
    Search s = {.p = p, .o = o, .first_k = o->k ? last : 1};
    s.n = last - s.first_k + 1;
    s.best = calloc(s.n, sizeof *s.best);
    if (!s.best) return false;
    pthread_mutex_init(&s.lock, NULL);
    on_threads(o->threads, run_some, &s);
    bool good = !atomic_load(&s.failed) && conclude(&s, r);
    pthread_mutex_destroy(&s.lock);
    for (unsigned i = 0; i < s.n; i++) free(s.best[i].centre);
    free(s.best);
    return good;
}

void simpoint_result_free(SimpointResult *r) {
    free(r->score);
    free(r->cluster);
    free(r->label);
    free(r->distance);
    *r = (SimpointResult){0};
}
