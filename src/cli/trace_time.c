// trace_time.c - when a thread's instructions were executed. A trace has the time of system calls,
// signals, pieces and the thread's ends only; this draws lines between them.
#include "cli.h"
#include "trace.h"

int trace_time_open(TraceTime *c, TraceJob *j, uint32_t thread, uint32_t pid) {
    *c = (TraceTime){.name = "", .tid = (uint64_t)pid + thread};
    if (dgm_trace_events(j->t, thread, &c->events, &c->n)) {
        complain("%s: %s", j->path, dgm_trace_error(j->t));
        return 1;
    }
    for (size_t i = 0; i < c->n; i++) {
        if (c->events[i].kind == DGM_TRACE_BEGIN && c->events[i].number)
            c->tid = c->events[i].number;
        if (c->events[i].kind == DGM_TRACE_END) c->name = c->events[i].text;
    }
    if (!c->tid) c->tid = 1;
    return 0;
}

// A nanosecond an instruction where there is nothing to draw a line to.
static uint64_t guess(const dgm_trace_event *before, const dgm_trace_event *after, uint64_t n) {
    if (!before && !after) return n;
    if (!before) {
        uint64_t back = after->insn - n;
        return after->start_ns > back ? after->start_ns - back : 0;
    }
    uint64_t from = before->end_ns;
    if (!after) return from + (n - before->insn);
    if (after->start_ns <= from) return from;
    unsigned __int128 wide = after->start_ns - from;
    return from + (uint64_t)(wide * (n - before->insn) / (after->insn - before->insn));
}

uint64_t trace_time_ns(TraceTime *c, uint64_t n) {
    while (c->passed < c->n && c->events[c->passed].insn <= n) c->passed++;
    const dgm_trace_event *before = c->passed ? &c->events[c->passed - 1] : NULL;
    const dgm_trace_event *after = c->passed < c->n ? &c->events[c->passed] : NULL;
    uint64_t ns = guess(before, after, n);
    if (ns > c->last) c->last = ns;
    return c->last;
}
