// trace.h - `dragoman trace` between its files: trace.c is the command, each format has a file.
#ifndef DGM_CLI_TRACE_H
#define DGM_CLI_TRACE_H

#include "dragoman/tool.h"
#include "dragoman/trace.h"

#include <stdio.h>

typedef struct TraceJob {
    dgm_trace *t;
    const char *path, *output; // output: NULL for standard output
    FILE *out;                 // unless the format opens its files itself
    uint64_t from, count;      // of instructions; count 0: to the end
    uint32_t thread;
    bool one_thread, symbols;
    uint64_t depth, min_insns; // of functions that are shown; 0: any
} TraceJob;

// Each returns 0, or 1 after complaining.
int trace_write_text(TraceJob *j);
int trace_write_csv(TraceJob *j);
int trace_write_champsim(TraceJob *j);
int trace_write_perfetto(TraceJob *j);
int trace_write_drmemtrace(TraceJob *j);

// Calls fn with each record that is asked for, as the file has them: 0, or 1 after complaining. fn
// returns false to stop.
typedef bool (*trace_record_fn)(void *state, const dgm_trace_record *r);
int trace_walk(TraceJob *j, trace_record_fn fn, void *state);
// The same for one thread.
int trace_walk_thread(TraceJob *j, uint32_t thread, trace_record_fn fn, void *state);

enum {
    TRACE_BRANCHES =
        DGM_CLASS_JUMP | DGM_CLASS_BRANCH | DGM_CLASS_INDIRECT | DGM_CLASS_CALL | DGM_CLASS_RETURN
};

// ---- a thread's time (trace_time.c) ----

// What happened to a thread, and when its instructions were executed as far as that says: between
// two events whose time is known, instructions take equally long.
typedef struct TraceTime {
    const dgm_trace_event *events;
    size_t n, passed; // events that are not later than what was asked last
    uint64_t last;
    uint64_t tid; // never 0
    const char *name;
} TraceTime;
// 0, or 1 after complaining.
int trace_time_open(TraceTime *c, TraceJob *j, uint32_t thread, uint32_t pid);
// CLOCK_MONOTONIC in nanoseconds before the thread's n-th instruction, after the events before it.
// From call to call n does not get smaller, and neither does the answer.
uint64_t trace_time_ns(TraceTime *c, uint64_t n);

// ---- a thread's functions (trace_calls.c) ----

typedef struct TraceFunction {
    const char *name; // NULL: not known
    uint64_t low, high;
} TraceFunction;
typedef struct TraceFrame {
    TraceFunction f;
    uint64_t ret;  // where it returns to; 0: not known
    uint64_t insn; // its first
    bool setjmp;   // where it returns to, longjmp may come, too
    int signal;    // not a function: this signal's handler is above
    size_t mark;   // the owner's
} TraceFrame;
// Who called whom, from what an instruction is and where the next one was. begin and end are called
// as functions come and go, inner ones inside of outer ones.
typedef struct TraceCalls {
    dgm_trace *t;
    void (*begin)(void *data, TraceFrame *f, uint64_t insn);
    void (*end)(void *data, TraceFrame *f, uint64_t insn);
    void *data;
    TraceFrame *frames;
    size_t n, cap;
    struct {
        uint64_t at;
        size_t depth;
    } setjmps[16]; // the latest
    unsigned next_setjmp;
} TraceCalls;
// Before instruction `insn` at `to`; `before` is the thread's last one, NULL: none.
void trace_calls_go(TraceCalls *c, const dgm_trace_record *before, uint64_t to, uint64_t insn);
void trace_calls_signal(TraceCalls *c, int signal, uint64_t handler, uint64_t insn);
void trace_calls_sigreturn(TraceCalls *c, uint64_t insn);
// All are ended.
void trace_calls_close(TraceCalls *c, uint64_t insn);

#endif
