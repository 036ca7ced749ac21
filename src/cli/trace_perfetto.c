// trace_perfetto.c - a trace on a time line, as Chrome's trace-event JSON, which ui.perfetto.dev
// and chrome://tracing show: each thread, the functions in it, its system calls and signals.
//
// Whether a function executes as many instructions as --min-insns asks for is known when it is
// over, or has executed them, so what is to be written waits in a queue behind the first function
// that is not decided yet. A caller executes more than what it calls, so what is written nests.
#include "cli.h"
#include "trace.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

typedef enum ItemKind { ITEM_FUNCTION, ITEM_SIGNAL, ITEM_END, ITEM_CALL, ITEM_LEFT } ItemKind;
typedef struct Item {
    ItemKind kind;
    bool undecided, dropped;
    uint64_t ns, insn;
    TraceFunction f;          // FUNCTION
    int signal;               // SIGNAL
    uint64_t insns;           // END: between begin and end
    const dgm_trace_event *e; // CALL, LEFT
} Item;

enum { NO_MARK = SIZE_MAX };

typedef struct Perfetto {
    TraceJob *j;
    dgm_trace_info info;
    bool first; // event of the file
    // of one thread
    TraceTime time;
    TraceCalls calls;
    size_t event; // the next one of time.events
    Item *items;
    size_t head, n, cap, gone; // items[head..n) wait; gone: how many were before items[0]
    size_t decided;            // frames of which it is known that they are written
    dgm_trace_record before;
    bool have_before, begun, failed;
    uint64_t last_insn;
} Perfetto;

// ---- JSON ----

static void put_string(FILE *f, const char *s) {
    fputc('"', f);
    for (; *s; s++) {
        unsigned char ch = (unsigned char)*s;
        if (ch == '"' || ch == '\\')
            fprintf(f, "\\%c", ch);
        else if (ch < 0x20 || ch >= 0x7f) // names may be any bytes
            fprintf(f, "\\u%04x", ch);
        else
            fputc(ch, f);
    }
    fputc('"', f);
}

static void put_begin(Perfetto *p, const char *phase, uint64_t ns) {
    fprintf(p->j->out, "%s\n{\"ph\":\"%s\",\"pid\":%u,\"tid\":%" PRIu64 ",\"ts\":%" PRIu64 ".%03u",
            p->first ? "" : ",", phase, p->info.pid, p->time.tid, ns / 1000, (unsigned)(ns % 1000));
    p->first = false;
}

static void put_name(Perfetto *p, const char *category, const char *name) {
    fprintf(p->j->out, ",\"cat\":\"%s\",\"name\":", category);
    put_string(p->j->out, name);
}

static void put_metadata(Perfetto *p, const char *what, const char *name) {
    put_begin(p, "M", 0);
    fprintf(p->j->out, ",\"name\":\"%s\",\"args\":{\"name\":", what);
    put_string(p->j->out, name);
    fprintf(p->j->out, "}}");
}

static void put_function(Perfetto *p, const Item *it) {
    char name[300];
    const dgm_trace_module *m = dgm_trace_module_at(p->j->t, it->f.low);
    const char *slash = m ? strrchr(m->path, '/') : NULL;
    if (m)
        snprintf(name, sizeof name, "%.200s+0x%" PRIx64, slash ? slash + 1 : m->path,
                 it->f.low - m->bias);
    else
        snprintf(name, sizeof name, "0x%" PRIx64, it->f.low);
    put_begin(p, "B", it->ns);
    put_name(p, "function", it->f.name ? it->f.name : name);
    fprintf(p->j->out, "}");
}

static void put_call(Perfetto *p, const Item *it) {
    const dgm_trace_event *e = it->e;
    const char *known = dgm_trace_syscall_name(p->j->t, e->number);
    char name[40];
    snprintf(name, sizeof name, "system call %" PRIu64, e->number);
    put_begin(p, it->kind == ITEM_CALL ? "B" : "i", it->ns);
    put_name(p, "syscall", known ? known : name);
    fprintf(p->j->out, ",\"args\":{\"instruction\":%" PRIu64 ",\"arguments\":\"", e->insn);
    for (unsigned i = 0; i < 6; i++) fprintf(p->j->out, "%s0x%" PRIx64, i ? ", " : "", e->args[i]);
    fputc('"', p->j->out);
    if (e->kind == DGM_TRACE_CALL) fprintf(p->j->out, ",\"result\":%" PRId64, e->result);
    fprintf(p->j->out, it->kind == ITEM_CALL ? "}}" : "},\"s\":\"t\"}");
}

static void put_item(Perfetto *p, const Item *it) {
    char name[32];
    switch (it->kind) {
    case ITEM_FUNCTION: put_function(p, it); break;
    case ITEM_SIGNAL:
        snprintf(name, sizeof name, "signal %d", it->signal);
        put_begin(p, it->e ? "i" : "B", it->ns);
        put_name(p, "signal", name);
        fprintf(p->j->out, it->e ? ",\"s\":\"t\"}" : "}");
        break;
    case ITEM_END:
        put_begin(p, "E", it->ns);
        if (it->insns) fprintf(p->j->out, ",\"args\":{\"instructions\":%" PRIu64 "}", it->insns);
        fprintf(p->j->out, "}");
        break;
    case ITEM_CALL:
    case ITEM_LEFT: put_call(p, it); break;
    }
}

// ---- the queue ----

static void flush(Perfetto *p) {
    for (; p->head < p->n && !p->items[p->head].undecided; p->head++)
        if (!p->items[p->head].dropped) put_item(p, &p->items[p->head]);
    if (!p->n || p->head < p->n / 2) return;
    memmove(p->items, p->items + p->head, (p->n - p->head) * sizeof *p->items);
    p->gone += p->head;
    p->n -= p->head;
    p->head = 0;
}

// Of the n outermost frames those that have executed enough are written, and those above them may
// still be.
static void decide(Perfetto *p, size_t n, uint64_t insn) {
    while (p->decided < n) {
        TraceFrame *f = &p->calls.frames[p->decided];
        if (f->mark != NO_MARK && insn - f->insn < p->j->min_insns) break;
        if (f->mark != NO_MARK) p->items[f->mark - p->gone].undecided = false;
        p->decided++;
    }
    flush(p);
}

static size_t add(Perfetto *p, const Item *it) {
    if (p->n == p->cap) {
        size_t cap = p->cap * 2 + 256;
        Item *more = realloc(p->items, cap * sizeof *more);
        p->failed |= !more;
        if (!more) return NO_MARK;
        p->items = more;
        p->cap = cap;
    }
    p->items[p->n] = *it;
    return p->gone + p->n++;
}

static void begin_frame(void *state, TraceFrame *f, uint64_t insn) {
    Perfetto *p = state;
    decide(p, p->calls.n - 1, insn);
    f->mark = NO_MARK;
    if (p->j->depth && p->calls.n > p->j->depth) return;
    f->mark = add(p, &(Item){.kind = f->signal ? ITEM_SIGNAL : ITEM_FUNCTION,
                             .undecided = true,
                             .ns = trace_time_ns(&p->time, insn),
                             .insn = insn,
                             .f = f->f,
                             .signal = f->signal});
}

// The frame is no longer among p->calls.frames[0..n), but still there.
static void end_frame(void *state, TraceFrame *f, uint64_t insn) {
    Perfetto *p = state;
    uint64_t insns = insn - f->insn;
    bool known = p->decided > p->calls.n;
    if (known) p->decided = p->calls.n;
    if (f->mark == NO_MARK) return;
    if (!known) {
        Item *it = &p->items[f->mark - p->gone];
        it->undecided = false;
        it->dropped = insns < p->j->min_insns;
        if (it->dropped) return;
    }
    add(p,
        &(Item){
            .kind = ITEM_END, .ns = trace_time_ns(&p->time, insn), .insn = insn, .insns = insns});
}

// ---- a thread ----

static bool is_sigreturn(const Perfetto *p, const dgm_trace_event *e) {
    const char *name = dgm_trace_syscall_name(p->j->t, e->number);
    return name && !strcmp(name, "rt_sigreturn");
}

// A call that is begun anew after a signal lasted until that came.
static uint64_t end_of(const Perfetto *p, const dgm_trace_event *e) {
    const dgm_trace_event *next = e + 1;
    if (e->kind == DGM_TRACE_LEFT && next < p->time.events + p->time.n &&
        next->kind == DGM_TRACE_SIGNAL && next->insn == e->insn)
        return next->start_ns;
    return e->kind == DGM_TRACE_CALL ? e->end_ns : 0;
}

static void add_event(Perfetto *p, const dgm_trace_event *e) {
    // the clock stands at the call's begin, or later, and passes to its end
    uint64_t start = e->start_ns > p->time.last ? e->start_ns : p->time.last, end = end_of(p, e);
    Item it = {.kind = end ? ITEM_CALL : ITEM_LEFT, .ns = start, .e = e};
    if (e->kind == DGM_TRACE_SIGNAL) {
        it.kind = ITEM_SIGNAL;
        it.signal = (int)e->number;
    }
    p->time.last = start;
    decide(p, p->calls.n, e->insn);
    add(p, &it);
    if (!end) return;
    if (end > p->time.last) p->time.last = end;
    add(p, &(Item){.kind = ITEM_END, .ns = p->time.last});
}

// What happened before instruction `insn`, which is at `to`; 0: there is none. True when that has
// something to do with where it is.
static bool pass_events(Perfetto *p, uint64_t insn, uint64_t to) {
    bool diverted = false;
    for (; p->event < p->time.n && p->time.events[p->event].insn <= insn; p->event++) {
        const dgm_trace_event *e = &p->time.events[p->event], *next = e + 1;
        bool wanted = e->insn > p->j->from || !p->j->from;
        if (!wanted || e->kind == DGM_TRACE_TIME || e->kind == DGM_TRACE_BEGIN ||
            e->kind == DGM_TRACE_END)
            continue;
        while (next < p->time.events + p->time.n && next->insn <= insn &&
               next->kind != DGM_TRACE_SIGNAL)
            next++;
        bool more = next < p->time.events + p->time.n && next->insn <= insn;
        uint64_t goes_on = more ? next->address : to;
        if (e->kind == DGM_TRACE_SIGNAL && goes_on && goes_on != e->address) {
            if (!diverted && p->have_before)
                trace_calls_go(&p->calls, &p->before, e->address, insn);
            trace_calls_signal(&p->calls, (int)e->number, goes_on, insn);
            diverted = true;
            continue;
        }
        if (e->kind == DGM_TRACE_LEFT && is_sigreturn(p, e)) {
            trace_calls_sigreturn(&p->calls, insn);
            diverted = true;
            continue;
        }
        add_event(p, e);
    }
    return diverted;
}

static void begin_thread(Perfetto *p, uint32_t thread, uint64_t insn) {
    char name[80];
    const char *slash = strrchr(p->info.program, '/');
    const char *program = slash ? slash + 1 : p->info.program;
    snprintf(name, sizeof name, "%.40s (thread %u)", *p->time.name ? p->time.name : program,
             thread);
    put_metadata(p, "thread_name", name);
    put_begin(p, "B", trace_time_ns(&p->time, insn));
    put_name(p, "thread", name);
    fprintf(p->j->out, "}");
    p->begun = true;
}

static bool perfetto_record(void *state, const dgm_trace_record *r) {
    Perfetto *p = state;
    if (r->kind != DGM_TRACE_INSN) return true;
    if (!p->begun) begin_thread(p, r->thread, p->j->from); // not r->insn: others may not be traced
    bool events = p->event < p->time.n && p->time.events[p->event].insn <= r->insn;
    bool diverted = events && pass_events(p, r->insn, r->address);
    bool gap = p->have_before && p->before.insn + 1 != r->insn;
    if (!diverted && (!p->have_before || gap || p->before.classes & TRACE_BRANCHES ||
                      p->before.address + p->before.size != r->address))
        trace_calls_go(&p->calls, p->have_before && !gap ? &p->before : NULL, r->address, r->insn);
    p->before = *r;
    p->have_before = true;
    p->last_insn = r->insn;
    return !p->failed;
}

static int write_thread(Perfetto *p, uint32_t thread) {
    p->calls = (TraceCalls){.t = p->j->t, .begin = begin_frame, .end = end_frame, .data = p};
    p->head = p->n = p->gone = p->decided = p->event = 0;
    p->have_before = p->begun = false;
    if (trace_time_open(&p->time, p->j, thread, p->info.pid)) return 1;
    int e = trace_walk_thread(p->j, thread, perfetto_record, p);
    if (p->have_before) {
        uint64_t end = p->last_insn + 1;
        pass_events(p, end, 0);
        trace_calls_close(&p->calls, end);
        decide(p, 0, end);
        put_begin(p, "E", trace_time_ns(&p->time, end));
        fprintf(p->j->out, "}");
    }
    if (p->failed) complain("%s: out of memory", p->j->path);
    return e || p->failed;
}

int trace_write_perfetto(TraceJob *j) {
    Perfetto p = {.j = j, .first = true};
    int e = 0;
    dgm_trace_get_info(j->t, &p.info);
    fprintf(j->out, "{\"displayTimeUnit\":\"ns\",\"traceEvents\":[");
    p.time.tid = p.info.pid;
    put_metadata(&p, "process_name", p.info.program);
    if (j->one_thread)
        e = write_thread(&p, j->thread);
    else
        for (uint32_t i = 0; !e && i < p.info.threads; i++) e = write_thread(&p, i);
    fprintf(j->out, "\n]}\n");
    free(p.items);
    return e;
}
