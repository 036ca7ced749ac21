// syscalls.c - what the guest asks of the kernel: calls, errors, time; like strace -c.
#include "tools/tools.h"

#include "tools/page.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_CALLS = 512, LATENCY_BUCKETS = 40 }; // bucket i: below 2^i nanoseconds

typedef struct Call {
    const char *name;
    uint64_t n, errors, ns, slowest_ns, by_error[134], by_latency[LATENCY_BUCKETS];
} Call;

typedef struct Syscalls {
    Report report;
    pthread_mutex_t lock;
    bool detail;
    Call call[MAX_CALLS];
} Syscalls;

static int start(dgm_watch *w) {
    Syscalls *s = calloc(1, sizeof *s);
    if (!s) return dgm_fail(w, -ENOMEM, "out of memory");
    dgm_set_context(w, s);
    pthread_mutex_init(&s->lock, NULL);
    s->detail = dgm_option(w, "detail");
    return report_start(&s->report, w);
}

static void done(dgm_watch *w, dgm_vcpu *v, dgm_syscall *call) {
    Syscalls *s = dgm_context(w);
    uint64_t ns = clock_ns(CLOCK_MONOTONIC) - call->start_ns;
    if (call->number >= MAX_CALLS || call->again) return;
    Call *c = &s->call[call->number];
    pthread_mutex_lock(&s->lock);
    c->name = call->name;
    c->n++;
    c->ns += ns;
    if (ns > c->slowest_ns) c->slowest_ns = ns;
    unsigned bucket = ns ? 64u - (unsigned)__builtin_clzll(ns) : 0;
    c->by_latency[bucket < LATENCY_BUCKETS ? bucket : LATENCY_BUCKETS - 1]++;
    if (call->result < 0 && call->result > -4096) {
        c->errors++;
        if (-call->result < 134) c->by_error[-call->result]++;
    }
    pthread_mutex_unlock(&s->lock);
    (void)v;
}

static void forked(dgm_watch *w, dgm_vcpu *v) {
    Syscalls *s = dgm_context(w);
    pthread_mutex_init(&s->lock, NULL);
    memset(s->call, 0, sizeof s->call);
    (void)v;
}

static int by_time(const void *a, const void *b) {
    const Call *x = *(Call *const *)a, *y = *(Call *const *)b;
    if (x->ns != y->ns) return x->ns < y->ns ? 1 : -1;
    return strcmp(x->name ? x->name : "", y->name ? y->name : "");
}

static uint64_t percentile(const Call *c, unsigned percent) {
    uint64_t want = (c->n * percent + 99) / 100, seen = 0;
    for (unsigned i = 0; i < LATENCY_BUCKETS; i++)
        if ((seen += c->by_latency[i]) >= want) return 1ull << i;
    return c->slowest_ns;
}

static void write_json(const Call *c, FILE *f, bool first) {
    fprintf(f, "%s\n  {\"name\": ", first ? "" : ",");
    report_string(f, c->name ? c->name : "?");
    fprintf(f,
            ", \"calls\": %" PRIu64 ", \"errors\": %" PRIu64 ", \"nanoseconds\": %" PRIu64
            ", \"slowest\": %" PRIu64 ", \"by_error\": {",
            c->n, c->errors, c->ns, c->slowest_ns);
    const char *comma = "";
    for (int e = 1; e < 134; e++)
        if (c->by_error[e]) {
            fprintf(f, "%s\"%s\": %" PRIu64, comma, strerrorname_np(e), c->by_error[e]);
            comma = ", ";
        }
    fprintf(f,
            "}, \"within\": {"); // calls that took less than so many nanoseconds, by powers of two
    comma = "";
    for (unsigned i = 0; i < LATENCY_BUCKETS; i++)
        if (c->by_latency[i]) {
            fprintf(f, "%s\"%" PRIu64 "\": %" PRIu64, comma, UINT64_C(1) << i, c->by_latency[i]);
            comma = ", ";
        }
    fprintf(f, "}}");
}

static void write_text(const Call *c, FILE *f, uint64_t total_ns, bool detail) {
    fprintf(f, "%6.2f %11.6f %9" PRIu64 " %9" PRIu64 " %8" PRIu64 " %10" PRIu64 " %s\n",
            total_ns ? 100.0 * (double)c->ns / (double)total_ns : 0, (double)c->ns / 1e9,
            c->n ? c->ns / c->n : 0, c->n, c->errors, c->slowest_ns, c->name ? c->name : "?");
    if (!detail) return;
    fprintf(f, "%68s half within %" PRIu64 " ns, 99 %% within %" PRIu64 " ns", "",
            percentile(c, 50), percentile(c, 99));
    for (int e = 1; e < 134; e++)
        if (c->by_error[e]) fprintf(f, ", %s %" PRIu64, strerrorname_np(e), c->by_error[e]);
    fprintf(f, "\n");
}

static void write_report(dgm_watch *w, FILE *f) {
    Syscalls *s = dgm_context(w);
    Call *rows[MAX_CALLS];
    size_t n = 0;
    Call total = {.name = "total"};
    pthread_mutex_lock(&s->lock);
    for (unsigned i = 0; i < MAX_CALLS; i++) {
        Call *c = &s->call[i];
        if (!c->n) continue;
        rows[n++] = c;
        total.n += c->n, total.ns += c->ns, total.errors += c->errors;
        if (c->slowest_ns > total.slowest_ns) total.slowest_ns = c->slowest_ns;
    }
    if (n) qsort(rows, n, sizeof *rows, by_time);
    if (s->report.json)
        fprintf(f, "{\"tool\": \"syscalls\", \"calls\": [");
    else
        fprintf(f, "%% time     seconds  ns/call     calls    errors    slowest  syscall\n");
    for (size_t i = 0; i < n; i++)
        if (s->report.json)
            write_json(rows[i], f, !i);
        else
            write_text(rows[i], f, total.ns, s->detail);
    if (s->report.json)
        fprintf(f, "]}\n");
    else
        write_text(&total, f, total.ns, false);
    pthread_mutex_unlock(&s->lock);
}

static void finish(dgm_watch *w, bool last) {
    Syscalls *s = dgm_context(w);
    report_write(&s->report, w, "syscalls", page_syscalls, write_report);
    (void)last;
}

static void release(dgm_watch *w) {
    Syscalls *s = dgm_context(w);
    if (!s) return;
    report_free(&s->report);
    free(s);
}

static const char *const options[] = {
    "detail      how long half and 99 % of the calls took at most, and which errors there were",
    REPORT_OPTIONS,
    NULL,
};

const dgm_tool tool_syscalls = {
    .version = DGM_TOOL_VERSION,
    .name = "syscalls",
    .summary = "system calls: how many, how long, which errors",
    .options = options,
    .start = start,
    .syscall_done = done,
    .forked = forked,
    .finish = finish,
    .free = release,
};
