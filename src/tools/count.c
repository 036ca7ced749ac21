// count.c - exact counts: instructions; on request blocks, classes, loads and stores, functions.
//
// Instructions alone cost least: the engine's own count in a host register. Everything else is a
// counter that goes up once a basic block.
#include "tools/tools.h"

#include "tools/page.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

typedef struct Function {
    uint64_t address;
    dgm_counter insns;
    struct Function *next;
} Function;

typedef struct ThreadCount {
    uint32_t thread, tid;
    uint64_t insns;
    struct ThreadCount *next;
} ThreadCount;

typedef struct Count {
    Report report;
    bool blocks, classes, memory, functions, threads;
    uint64_t top;
    bool filtered;
    dgm_counter insn; // filtered: what was shown of it
    dgm_counter block, load, store, class[DGM_CLASS_COUNT];
    Map by_function;
    Function *all;
    size_t n_functions;
    pthread_mutex_t lock; // ended, others
    ThreadCount *ended;
    uint64_t others; // instructions of threads that ended
    dgm_vcpu *first;
} Count;

static int start(dgm_watch *w) {
    Count *c = calloc(1, sizeof *c);
    if (!c) return dgm_fail(w, -ENOMEM, "out of memory");
    dgm_set_context(w, c);
    pthread_mutex_init(&c->lock, NULL);
    bool all = dgm_option(w, "all") || dgm_option(w, "html");
    c->blocks = dgm_option(w, "blocks") || all;
    c->classes = dgm_option(w, "classes") || all;
    c->memory = dgm_option(w, "memory") || all;
    c->functions = dgm_option(w, "functions") || all;
    c->threads = dgm_option(w, "threads") || all;
    c->top = dgm_option_number(w, "top", 20, 1, 1000000);
    c->filtered = dgm_filtered(w);
    c->insn = dgm_counter_new(w);
    c->block = dgm_counter_new(w);
    c->load = dgm_counter_new(w);
    c->store = dgm_counter_new(w);
    for (unsigned i = 0; i < DGM_CLASS_COUNT; i++) c->class[i] = dgm_counter_new(w);
    dgm_want(w, DGM_COUNTS);
    return report_start(&c->report, w);
}

// Code that no symbol names is put together by module.
static Function *function_of(dgm_watch *w, Count *c, uint64_t address) {
    dgm_symbol s;
    const dgm_module *m;
    uint64_t key = 1;
    if (dgm_symbol_at(w, address, &s))
        key = s.address;
    else if ((m = dgm_module_at(w, address)))
        key = m->low;
    Function **f = (Function **)map_at(&c->by_function, key);
    if (!f || *f) return f ? *f : NULL;
    *f = calloc(1, sizeof **f);
    if (!*f) return NULL;
    **f = (Function){.address = key, .insns = dgm_counter_new(w), .next = c->all};
    c->all = *f;
    c->n_functions++;
    return *f;
}

static void count_insn(dgm_watch *w, Count *c, dgm_block *b, unsigned i) {
    const dgm_insn *n = dgm_block_insn(b, i);
    for (unsigned k = 0; c->classes && k < DGM_CLASS_COUNT; k++)
        if (n->classes >> k & 1) dgm_at_count(b, i, c->class[k], 1);
    if (c->memory) {
        dgm_at_access_count(b, i, DGM_READ, c->load, 1);
        dgm_at_access_count(b, i, DGM_WRITE, c->store, 1);
    }
    Function *f = c->functions ? function_of(w, c, n->address) : NULL;
    if (f) dgm_at_count(b, i, f->insns, 1);
}

static void block(dgm_watch *w, dgm_block *b) {
    Count *c = dgm_context(w);
    if (c->blocks) dgm_at_count(b, 0, c->block, 1);
    for (unsigned i = 0; c->filtered && i < dgm_block_insns(b); i++) dgm_at_count(b, i, c->insn, 1);
    if (!c->classes && !c->memory && !c->functions) return;
    for (unsigned i = 0; i < dgm_block_insns(b); i++) count_insn(w, c, b, i);
}

static uint64_t insns_of(const Count *c, dgm_vcpu *v) {
    return c->filtered ? dgm_counter_of(v, c->insn) : dgm_vcpu_insns(v);
}

// A thread that begins or was forked has counted nothing.
static void thread_start(dgm_watch *w, dgm_vcpu *v) {
    Count *c = dgm_context(w);
    if (!dgm_vcpu_thread(v)) c->first = v;
}

static void thread_end(dgm_watch *w, dgm_vcpu *v) {
    Count *c = dgm_context(w);
    ThreadCount *t = calloc(1, sizeof *t);
    pthread_mutex_lock(&c->lock);
    c->others += insns_of(c, v);
    if (c->first == v) c->first = NULL;
    if (t) {
        *t = (ThreadCount){dgm_vcpu_thread(v), dgm_vcpu_tid(v), insns_of(c, v), c->ended};
        c->ended = t;
    }
    pthread_mutex_unlock(&c->lock);
}

static void forget_ended(Count *c) {
    for (ThreadCount *t = c->ended, *next; t; t = next) {
        next = t->next;
        free(t);
    }
    c->ended = NULL;
    c->others = 0;
}

static void forked(dgm_watch *w, dgm_vcpu *v) {
    Count *c = dgm_context(w);
    pthread_mutex_init(&c->lock, NULL);
    forget_ended(c);
    c->first = v;
}

// ---- results ----

typedef struct Row {
    uint64_t address, insns;
} Row;

static int by_insns(const void *a, const void *b) {
    const Row *x = a, *y = b;
    if (x->insns != y->insns) return x->insns < y->insns ? 1 : -1;
    return x->address < y->address ? -1 : 1;
}

static void write_functions(Count *c, dgm_watch *w, FILE *f, uint64_t total) {
    Row *rows = calloc(c->n_functions + 1, sizeof *rows);
    size_t n = 0;
    for (Function *x = c->all; rows && x; x = x->next)
        rows[n++] = (Row){x->address, dgm_counter_read(w, x->insns)};
    if (n) qsort(rows, n, sizeof *rows, by_insns);
    fprintf(f, c->report.json ? ",\n \"functions\": [" : "\n     instructions      %%  function\n");
    for (size_t i = 0; i < n && i < report_rows(&c->report, c->top) && rows[i].insns; i++) {
        char number[32];
        if (c->report.json) {
            fprintf(f, "%s\n  {\"instructions\": %" PRIu64 ", ", i ? "," : "", rows[i].insns);
            report_place(f, w, rows[i].address, true);
            fprintf(f, "}");
            continue;
        }
        fprintf(f, "%17s %6.2f  ", report_number(rows[i].insns, number),
                total ? 100.0 * (double)rows[i].insns / (double)total : 0);
        report_place(f, w, rows[i].address, false);
        fprintf(f, "\n");
    }
    if (c->report.json) fprintf(f, "]");
    free(rows);
}

static void write_line(Count *c, FILE *f, const char *name, uint64_t n) {
    char number[32];
    if (c->report.json)
        fprintf(f, ",\n \"%s\": %" PRIu64, name, n);
    else
        fprintf(f, "%-14s %20s\n", name, report_number(n, number));
}

static void write_classes(Count *c, dgm_watch *w, FILE *f) {
    char number[32];
    fprintf(f, c->report.json ? ",\n \"classes\": {" : "\nclass\n");
    for (unsigned i = 0; i < DGM_CLASS_COUNT; i++) {
        uint64_t n = dgm_counter_read(w, c->class[i]);
        if (c->report.json)
            fprintf(f, "%s\"%s\": %" PRIu64, i ? ", " : "", dgm_class_name(i), n);
        else if (n)
            fprintf(f, "  %-12s %20s\n", dgm_class_name(i), report_number(n, number));
    }
    if (c->report.json) fprintf(f, "}");
}

static void write_threads(Count *c, FILE *f) {
    char number[32];
    fprintf(f, c->report.json ? ",\n \"threads\": [" : "\nthread       tid\n");
    for (ThreadCount *t = c->ended; t; t = t->next)
        if (c->report.json)
            fprintf(f, "%s{\"thread\": %u, \"tid\": %u, \"instructions\": %" PRIu64 "}",
                    t == c->ended ? "" : ", ", t->thread, t->tid, t->insns);
        else
            fprintf(f, "%6u %9u %18s\n", t->thread, t->tid, report_number(t->insns, number));
    if (c->report.json) fprintf(f, "]");
}

static void write_report(dgm_watch *w, FILE *f) {
    Count *c = dgm_context(w);
    uint64_t insns = c->others + (c->first ? insns_of(c, c->first) : 0);
    char number[32];
    if (c->report.json)
        fprintf(f, "{\"tool\": \"count\",\n \"instructions\": %" PRIu64, insns);
    else
        fprintf(f, "%-14s %20s\n", "instructions", report_number(insns, number));
    if (c->blocks) write_line(c, f, "blocks", dgm_counter_read(w, c->block));
    if (c->memory) {
        write_line(c, f, "loads", dgm_counter_read(w, c->load));
        write_line(c, f, "stores", dgm_counter_read(w, c->store));
    }
    if (c->classes) write_classes(c, w, f);
    if (c->threads) write_threads(c, f);
    if (c->functions) write_functions(c, w, f, insns);
    if (c->report.json) fprintf(f, "}\n");
}

static void finish(dgm_watch *w, bool last) {
    Count *c = dgm_context(w);
    report_write(&c->report, w, "count", page_count, write_report);
    (void)last;
}

static void release(dgm_watch *w) {
    Count *c = dgm_context(w);
    if (!c) return;
    for (Function *x = c->all, *next; x; x = next) {
        next = x->next;
        free(x);
    }
    forget_ended(c);
    map_free(&c->by_function);
    report_free(&c->report);
    free(c);
}

static const char *const options[] = {
    "blocks      basic blocks, too",
    "classes     instructions by class: load, store, branch, call, simd...",
    "memory      loads and stores",
    "functions   instructions by function",
    "threads     instructions by thread",
    "all         all of these (html= means it)",
    "top=N       so many functions (20)",
    REPORT_OPTIONS,
    NULL,
};

const dgm_tool tool_count = {
    .version = DGM_TOOL_VERSION,
    .name = "count",
    .summary = "instructions, exactly; also blocks, classes, loads, stores, functions",
    .options = options,
    .start = start,
    .block = block,
    .thread_start = thread_start,
    .thread_end = thread_end,
    .forked = forked,
    .finish = finish,
    .free = release,
};
