// trace_calls.c - a thread's call stack, followed along its instructions. A call pushes a function
// and a return pops those above the caller; a jump to another function's beginning is a tail call,
// which takes the place of the function that makes it. What comes otherwise (longjmp, exceptions,
// coroutines) lands in a function: if that is on the stack, those above it are over, else it takes
// the place of the top. So the stack may be wrong for a while, but each function that begins ends.
#include "trace.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_FRAMES = 1 << 20, MAX_SEARCH = 4096 };

static TraceFunction function_at(const TraceCalls *c, uint64_t address) {
    dgm_trace_symbol s;
    if (!dgm_trace_symbol_at(c->t, address, &s)) return (TraceFunction){NULL, address, address};
    return (TraceFunction){s.name, s.address, s.address + s.bytes};
}

// glibc's setjmp goes on by tail calls to functions of other names.
static bool is_setjmp(const TraceFunction *f) {
    return f->name && (strstr(f->name, "setjmp") || strstr(f->name, "sigjmp"));
}

static void push(TraceCalls *c, TraceFrame f) {
    if (c->n == c->cap) {
        size_t cap = c->cap * 2 + 64;
        TraceFrame *more = c->n < MAX_FRAMES ? realloc(c->frames, cap * sizeof *more) : NULL;
        if (!more) return; // it is part of its caller
        c->frames = more;
        c->cap = cap;
    }
    c->frames[c->n] = f;
    c->begin(c->data, &c->frames[c->n++], f.insn);
}

static void pop_to(TraceCalls *c, size_t depth, uint64_t insn) {
    while (c->n > depth) c->end(c->data, &c->frames[--c->n], insn);
}

static void replace(TraceCalls *c, TraceFunction f, uint64_t insn) {
    TraceFrame top = c->frames[c->n - 1];
    if (top.signal) { // the handler is gone, in a way that we did not see
        push(c, (TraceFrame){.f = f, .insn = insn});
        return;
    }
    pop_to(c, c->n - 1, insn);
    push(c,
         (TraceFrame){.f = f, .ret = top.ret, .insn = insn, .setjmp = top.setjmp || is_setjmp(&f)});
}

// A part of a function that the compiler has put elsewhere: "f.cold" of "f".
static bool is_part(const TraceFunction *part, const TraceFunction *of) {
    size_t n = of->name ? strlen(of->name) : 0;
    return n && !strncmp(part->name, of->name, n) && part->name[n] == '.';
}

// To the middle of another function: where longjmp goes, that one is on the stack.
static void land(TraceCalls *c, TraceFunction f, uint64_t to, uint64_t insn) {
    for (unsigned i = 0; i < sizeof c->setjmps / sizeof *c->setjmps; i++)
        if (c->setjmps[i].at == to && c->setjmps[i].depth && c->setjmps[i].depth <= c->n) {
            pop_to(c, c->setjmps[i].depth, insn);
            return;
        }
    for (size_t i = c->n; i-- > 0 && c->n - i < MAX_SEARCH;)
        if (!c->frames[i].signal && c->frames[i].f.name && c->frames[i].f.low == f.low) {
            pop_to(c, i + 1, insn);
            return;
        }
    replace(c, f, insn);
}

static void jumped(TraceCalls *c, uint64_t to, uint64_t insn) {
    const TraceFunction top = c->frames[c->n - 1].f;
    if (to >= top.low && to < top.high) return;
    TraceFunction f = function_at(c, to);
    if (!f.name && !top.name && !c->frames[c->n - 1].signal) return; // nobody knows
    if (f.name && (f.low == top.low || is_part(&f, &top))) return;
    if (!f.name || to == f.low)
        replace(c, f, insn);
    else
        land(c, f, to, insn);
}

static void returned(TraceCalls *c, uint64_t to, uint64_t insn) {
    for (size_t i = c->n; i-- > 1 && c->n - i < MAX_SEARCH;) {
        if (c->frames[i].ret != to) continue;
        if (c->frames[i].setjmp) {
            unsigned k = c->next_setjmp++ % (sizeof c->setjmps / sizeof *c->setjmps);
            for (unsigned m = 0; m < sizeof c->setjmps / sizeof *c->setjmps; m++)
                if (c->setjmps[m].at == to) k = m;
            c->setjmps[k].at = to;
            c->setjmps[k].depth = i;
        }
        pop_to(c, i, insn);
        return;
    }
    jumped(c, to, insn);
}

void trace_calls_go(TraceCalls *c, const dgm_trace_record *before, uint64_t to, uint64_t insn) {
    if (!c->n) {
        push(c, (TraceFrame){.f = function_at(c, to), .insn = insn});
        return;
    }
    uint64_t behind = before ? before->address + before->size : to;
    if (before && before->classes & DGM_CLASS_CALL) {
        TraceFunction f = function_at(c, to);
        push(c, (TraceFrame){.f = f, .ret = behind, .insn = insn, .setjmp = is_setjmp(&f)});
    } else if (before && before->classes & DGM_CLASS_RETURN) {
        returned(c, to, insn);
    } else if (to != behind || !before) {
        jumped(c, to, insn);
    }
}

void trace_calls_signal(TraceCalls *c, int signal, uint64_t handler, uint64_t insn) {
    push(c, (TraceFrame){.insn = insn, .signal = signal});
    push(c, (TraceFrame){.f = function_at(c, handler), .insn = insn});
}

void trace_calls_sigreturn(TraceCalls *c, uint64_t insn) {
    for (size_t i = c->n; i-- > 0;)
        if (c->frames[i].signal) {
            pop_to(c, i, insn);
            return;
        }
}

void trace_calls_close(TraceCalls *c, uint64_t insn) {
    pop_to(c, 0, insn);
    free(c->frames);
    c->frames = NULL;
    c->cap = 0;
}
