// simpoint.c - `dragoman simpoint`: which intervals of a run to simulate, from its basic-block
// vectors.
#include "cli.h"
#include "progress.h"

#include "tools/page.h"
#include "tools/simpoint.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct Job {
    SimpointOptions opt;
    const char *file, *prefix, *simpoints, *weights, *labels, *html;
    char *const *argv; // the command line, NULL-terminated
    bool json, help;
    ProgressWish progress;
    Progress *line;
    atomic_size_t runs_done, runs; // of k-means; 0: the file is still being read
} Job;

typedef struct Option {
    const char *name, *arg, *help; // arg: NULL: takes none
    bool (*set)(Job *, const char *arg);
} Option;

// ---- options ----

static bool set_whole(const char *arg, uint64_t low, uint64_t high, uint64_t *out) {
    char *end;
    errno = 0;
    unsigned long long n = strtoull(arg, &end, 0);
    if (errno || end == arg || *end || *arg < '0' || *arg > '9' || n < low || n > high)
        return false;
    *out = n;
    return true;
}
static bool set_unsigned(const char *arg, unsigned high, unsigned *out) {
    uint64_t n;
    if (!set_whole(arg, 1, high, &n)) return false;
    *out = (unsigned)n;
    return true;
}

static bool set_max_k(Job *j, const char *arg) {
    return set_unsigned(arg, SIMPOINT_MAX_K, &j->opt.max_k);
}
static bool set_k(Job *j, const char *arg) {
    return set_unsigned(arg, SIMPOINT_MAX_K, &j->opt.k);
}
static bool set_dim(Job *j, const char *arg) {
    return set_unsigned(arg, SIMPOINT_MAX_DIM, &j->opt.dim);
}
static bool set_seed(Job *j, const char *arg) {
    return set_whole(arg, 0, UINT64_MAX, &j->opt.seed);
}
static bool set_iterations(Job *j, const char *arg) {
    return set_unsigned(arg, 1000000, &j->opt.max_iterations);
}
static bool set_restarts(Job *j, const char *arg) {
    return set_unsigned(arg, 10000, &j->opt.restarts);
}
static bool set_threads(Job *j, const char *arg) {
    return set_unsigned(arg, SIMPOINT_MAX_THREADS, &j->opt.threads);
}
static bool set_threshold(Job *j, const char *arg) {
    char *end;
    double f = strtod(arg, &end);
    if (end == arg || *end || !(f >= 0 && f <= 1)) return false;
    j->opt.bic_threshold = f;
    return true;
}
static bool set_simpoints(Job *j, const char *arg) {
    return j->simpoints = arg, true;
}
static bool set_weights(Job *j, const char *arg) {
    return j->weights = arg, true;
}
static bool set_labels(Job *j, const char *arg) {
    return j->labels = arg, true;
}
static bool set_prefix(Job *j, const char *arg) {
    return j->prefix = arg, true;
}
static bool set_html(Job *j, const char *arg) {
    return j->html = arg, true;
}
static bool set_json(Job *j, const char *arg) {
    return (void)arg, j->json = true;
}
static bool set_progress(Job *j, const char *arg) {
    return (void)arg, j->progress = PROGRESS_ON, true;
}
static bool set_no_progress(Job *j, const char *arg) {
    return (void)arg, j->progress = PROGRESS_OFF, true;
}
static bool set_help(Job *j, const char *arg) {
    return (void)arg, j->help = true;
}

static const Option options[] = {
    {"-o", "PREFIX", "write PREFIX.simpoints and PREFIX.weights", set_prefix},
    {"--save-simpoints", "FILE", "lines \"interval cluster\"; intervals count from 0",
     set_simpoints},
    {"--save-weights", "FILE", "lines \"weight cluster\"; the weights add up to 1", set_weights},
    {"--save-labels", "FILE", "for each interval \"cluster distance\"", set_labels},
    {"--html", "FILE", "a page with the phases over time and the scores", set_html},
    {"--json", NULL, "print all there is to know instead of a table", set_json},
    {"--max-k", "N", "at most so many clusters (30)", set_max_k},
    {"--k", "N", "exactly so many, whatever their score", set_k},
    {"--bic-threshold", "F", "the smallest k whose score comes so near the best (0.9)",
     set_threshold},
    {"--dim", "N", "dimensions after random projection (15)", set_dim},
    {"--seed", "N", "another seed, another projection and other starts (1)", set_seed},
    {"--iters", "N", "at most so many steps of k-means in each run (100)", set_iterations},
    {"--restarts", "N", "runs of k-means for each k (5)", set_restarts},
    {"--threads", "N", "at work at once (one for each CPU); the result is the same", set_threads},
    {"--progress", NULL, "say how far it is, also where stderr is no terminal", set_progress},
    {"--no-progress", NULL, "do not, though stderr is a terminal", set_no_progress},
    {"--help", NULL, "this text", set_help},
};
enum { N_OPTIONS = sizeof options / sizeof *options };

static void help(FILE *to) {
    fprintf(
        to,
        "Usage: dragoman simpoint [OPTION...] FILE.bb\n\n"
        "Chooses the intervals of a run that stand for the whole of it (SimPoint).\n\n"
        "FILE.bb has a line for each interval of the run, in the order of time: how often each\n"
        "basic block ran in it, times its instructions (\"-\": standard input):\n\n"
        "  T:1:7000 :4:2990 :19:10\n\n"
        "Intervals that run the same blocks as often behave alike. They are clustered by\n"
        "k-means; each cluster is a phase of the program. Of each phase the interval nearest\n"
        "its centre is simulated in detail, and what it shows (cycles, misses) counts by the\n"
        "phase's weight:\n\n"
        "  CPI of the run = sum of weight x CPI of the phase's interval\n\n"
        "Options:\n");
    for (int i = 0; i < N_OPTIONS; i++) {
        char left[64];
        snprintf(left, sizeof left, "%s %s", options[i].name, options[i].arg ? options[i].arg : "");
        fprintf(to, "  %-21s %s\n", left, options[i].help);
    }
    fprintf(to,
            "\nExamples:\n"
            "  dragoman simpoint run.bb                what phases there are\n"
            "  dragoman simpoint -o run run.bb         run.simpoints and run.weights, as gem5,\n"
            "                                          Sniper and SimPoint's own tools read them\n"
            "  dragoman simpoint --max-k 10 run.bb     at most ten intervals to simulate\n"
            "  dragoman simpoint --html p.html run.bb  phases over time, to look at\n"
            "  dragoman simpoint --json run.bb         scores of every k, each interval's phase\n"
            "  zcat run.bb.gz | dragoman simpoint -    a compressed file\n");
}

static int unknown_option(const char *word) {
    const char *names[N_OPTIONS + 1] = {NULL};
    for (int i = 0; i < N_OPTIONS; i++) names[i] = options[i].name;
    const char *near = nearest(word, names);
    complain("simpoint %s: no such option%s%s%s", word, near ? "; did you mean '" : "",
             near ? near : "; see 'dragoman simpoint --help'", near ? "'?" : "");
    return EXIT_USAGE;
}

// One option at argv[*i], its argument behind it or behind '='.
static int parse_option(Job *j, int argc, char **argv, int *i) {
    const char *word = strcmp(argv[*i], "-h") ? argv[*i] : "--help", *equals = strchr(word, '=');
    size_t n = equals ? (size_t)(equals - word) : strlen(word);
    for (const Option *o = options; o < options + N_OPTIONS; o++) {
        if (strlen(o->name) != n || strncmp(o->name, word, n)) continue;
        const char *arg = equals ? equals + 1 : NULL;
        if (!o->arg && arg) {
            complain("simpoint %s: takes no argument", o->name);
            return EXIT_USAGE;
        }
        if (o->arg && !arg && !(arg = *i + 1 < argc ? argv[++*i] : NULL)) {
            complain("simpoint %s: needs an argument: %s", o->name, o->arg);
            return EXIT_USAGE;
        }
        if (o->set(j, arg)) return 0;
        complain("simpoint %s %s: out of range, or no number; see 'dragoman simpoint --help'",
                 o->name, arg);
        return EXIT_USAGE;
    }
    return unknown_option(word);
}

static int parse(Job *j, int argc, char **argv) {
    int status = 0;
    bool only_files = false;
    for (int i = 1; i < argc && !status && !j->help; i++) {
        if (!only_files && !strcmp(argv[i], "--")) {
            only_files = true;
        } else if (!only_files && argv[i][0] == '-' && argv[i][1]) {
            status = parse_option(j, argc, argv, &i);
        } else if (j->file) {
            complain("simpoint %s: one file at a time; %s was given already", argv[i], j->file);
            status = EXIT_USAGE;
        } else {
            j->file = argv[i];
        }
    }
    if (!status && !j->help && !j->file) {
        complain("simpoint: no file given; see 'dragoman simpoint --help'");
        status = EXIT_USAGE;
    }
    return status;
}

// ---- what comes out ----

static void write_simpoints(FILE *to, const SimpointResult *r) {
    for (unsigned i = 0; i < r->k; i++) fprintf(to, "%zu %u\n", r->cluster[i].interval, i);
}
static void write_weights(FILE *to, const SimpointResult *r) {
    for (unsigned i = 0; i < r->k; i++) fprintf(to, "%.9g %u\n", r->cluster[i].weight, i);
}
static void write_labels(FILE *to, const SimpointResult *r) {
    for (size_t i = 0; i < r->n; i++) fprintf(to, "%u %.9g\n", r->label[i], r->distance[i]);
}

static bool save(const char *path, void (*write)(FILE *, const SimpointResult *),
                 const SimpointResult *r) {
    FILE *to = fopen(path, "w");
    bool good = to != NULL;
    if (to) {
        write(to, r);
        good = !ferror(to);
        if (fclose(to)) good = false;
    }
    if (!good) complain("simpoint: %s: %s", path, strerror(errno));
    return good;
}

static bool save_with(const char *prefix, const char *suffix,
                      void (*write)(FILE *, const SimpointResult *), const SimpointResult *r) {
    char *path = NULL;
    if (asprintf(&path, "%s%s", prefix, suffix) < 0) {
        complain("simpoint: out of memory");
        return false;
    }
    bool good = save(path, write, r);
    free(path);
    return good;
}

static bool save_all(const Job *j, const SimpointResult *r) {
    bool good = true;
    if (j->prefix) {
        good &= save_with(j->prefix, ".simpoints", write_simpoints, r);
        good &= save_with(j->prefix, ".weights", write_weights, r);
    }
    if (j->simpoints) good &= save(j->simpoints, write_simpoints, r);
    if (j->weights) good &= save(j->weights, write_weights, r);
    if (j->labels) good &= save(j->labels, write_labels, r);
    return good;
}

static void write_json(FILE *to, const Job *j, const SimpointPoints *p, const SimpointResult *r) {
    fprintf(to,
            "{\"tool\": \"simpoint\", \"intervals\": %zu, \"distinct\": %zu, \"dim\": %u, "
            "\"seed\": %llu,\n"
            " \"bic_threshold\": %.17g, \"k\": %u,\n \"scores\": [",
            p->n, p->distinct, p->dim, (unsigned long long)j->opt.seed, j->opt.bic_threshold, r->k);
    for (unsigned i = 0; i < r->n_scores; i++) {
        const SimpointScore *s = &r->score[i];
        fprintf(to, "%s\n  {\"k\": %u, \"bic\": %.17g, \"distortion\": %.17g, \"iterations\": %u}",
                i ? "," : "", s->k, s->bic, s->distortion, s->iterations);
    }
    fprintf(to, "],\n \"simpoints\": [");
    for (unsigned i = 0; i < r->k; i++) {
        const SimpointCluster *c = &r->cluster[i];
        fprintf(to,
                "%s\n  {\"cluster\": %u, \"interval\": %zu, \"weight\": %.17g, \"intervals\": %zu}",
                i ? "," : "", i, c->interval, c->weight, c->size);
    }
    fprintf(to, "],\n \"labels\": [");
    for (size_t i = 0; i < r->n; i++)
        fprintf(to, "%s%u", i ? i % 32 ? ", " : ",\n  " : "", r->label[i]);
    fprintf(to, "]}\n");
}

// The command as it was typed, but for quotes.
static char *command_of(const Job *j) {
    char *text = NULL;
    size_t n = 0;
    FILE *to = open_memstream(&text, &n);
    if (!to) return NULL;
    fputs("dragoman", to);
    for (char *const *word = j->argv; *word; word++) fprintf(to, " %s", *word);
    return fclose(to) ? NULL : text;
}

static bool save_page(const Job *j, const SimpointPoints *p, const SimpointResult *r) {
    char *command = command_of(j);
    PageHead head = {.tool = "simpoint",
                     .script = page_simpoint,
                     .program = j->file,
                     .command = command ? command : "dragoman simpoint"};
    FILE *to = page_open(j->html, &head);
    if (to) write_json(to, j, p, r);
    bool good = to && page_close(to, &head);
    if (!good) complain("simpoint: %s: %s", j->html, strerror(errno));
    free(command);
    return good;
}

static void print_table(const Job *j, const SimpointPoints *p, const SimpointResult *r) {
    printf("%zu interval%s, %zu of them different in %u dimensions\n", p->n, p->n == 1 ? "" : "s",
           p->distinct, p->dim);
    printf("%u cluster%s", r->k, r->k == 1 ? "" : "s");
    if (j->opt.k)
        printf(" (asked for %u)", j->opt.k);
    else
        printf(" (the first of 1 to %u whose score comes %g %% of the way to the best)",
               r->score[r->n_scores - 1].k, 100 * j->opt.bic_threshold);
    printf("; BIC %.1f\n\ncluster  interval    weight  intervals\n", r->score[r->chosen].bic);
    for (unsigned i = 0; i < r->k; i++)
        printf("%7u %9zu  %8.6f %10zu\n", i, r->cluster[i].interval, r->cluster[i].weight,
               r->cluster[i].size);
}

// ---- the command ----

static bool read_file(const Job *j, SimpointVectors *v) {
    bool standard = !strcmp(j->file, "-");
    *v = (SimpointVectors){0};
    FILE *from = standard ? stdin : fopen(j->file, "re");
    if (!from) {
        complain("simpoint: %s: %s", j->file, strerror(errno));
        return false;
    }
    SimpointError error;
    bool good = simpoint_read(from, v, &error);
    if (!good || v->cut_line) progress_hide(j->line, 0);
    if (!standard) fclose(from);
    if (!good && error.line)
        complain("simpoint: %s:%llu: %s", j->file, (unsigned long long)error.line, error.text);
    else if (!good)
        complain("simpoint: %s: %s", j->file, error.text);
    else if (v->cut_line)
        complain("simpoint: %s:%llu: warning: the last line has no end; read up to there", j->file,
                 (unsigned long long)v->cut_line);
    return good;
}

static int cluster(const Job *j, const SimpointVectors *v) {
    SimpointPoints p;
    SimpointResult r = {0};
    bool good = simpoint_project(v, &j->opt, &p) && simpoint_search(&p, &j->opt, &r);
    progress_hide(j->line, -1);
    if (!good) {
        complain("simpoint: %s: out of memory", j->file);
    } else {
        if (r.k < j->opt.k)
            complain("simpoint: %s: warning: %u clusters, not %u: no more can be told apart",
                     j->file, r.k, j->opt.k);
        good = save_all(j, &r);
        if (j->html) good &= save_page(j, &p, &r);
        if (j->json)
            write_json(stdout, j, &p, &r);
        else
            print_table(j, &p, &r);
        if (fflush(stdout) || ferror(stdout)) {
            complain("simpoint: standard output: %s", strerror(errno));
            good = false;
        }
    }
    simpoint_result_free(&r);
    simpoint_points_free(&p);
    return good ? 0 : 1;
}

static void runs_done(void *ctx, size_t done, size_t all) {
    Job *j = ctx;
    atomic_store(&j->runs, all);
    atomic_store(&j->runs_done, done);
}

static void say(void *ctx, double seconds, char *out, size_t cap) {
    Job *j = ctx;
    size_t all = atomic_load(&j->runs), done = atomic_load(&j->runs_done);
    if (all)
        snprintf(out, cap, "k-means: %zu of %zu runs, %.0f s", done, all, seconds);
    else
        snprintf(out, cap, "reading %.100s, %.0f s", j->file, seconds);
}

// Reads, clusters, and takes the status line away before anything is printed.
static int do_all(Job *j) {
    SimpointVectors v;
    bool wanted =
        j->progress == PROGRESS_ON || (j->progress == PROGRESS_AUTO && progress_possible());
    j->line = wanted ? progress_start(say, j) : NULL;
    int status = read_file(j, &v) ? cluster(j, &v) : 1;
    progress_end(j->line);
    simpoint_vectors_free(&v);
    return status;
}

int cmd_simpoint(int argc, char **argv) {
    Job j = {.opt = simpoint_options_default(), .argv = argv};
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    j.opt.threads = cpus < 1                      ? 1
                    : cpus > SIMPOINT_MAX_THREADS ? SIMPOINT_MAX_THREADS
                                                  : (unsigned)cpus;
    int status = parse(&j, argc, argv);
    if (status) return status;
    if (j.help) {
        help(stdout);
        return 0;
    }
    j.opt.progress = runs_done;
    j.opt.progress_ctx = &j;
    return do_all(&j);
}
