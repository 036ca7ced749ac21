// filter.c - which code a tool is shown: options that every tool has, so that none needs its own.
//
// What is not shown is not asked about, so it costs nothing. Threads that a tool does not watch
// have translations of their own (VcpuHot.unwatched is part of a block's key). Where looking begins
// or ends at run time (a function, a number of instructions, dgm_enable), all code is translated
// anew.
#include "observe/observe.h"

#include <errno.h>
#include <stdlib.h>

enum { MAX_THREAD_BITS = 3 }; // what a block's key has room for

static int read_range(dgm_watch *w, const char *text) {
    char *end;
    w->low = strtoull(text, &end, 16);
    if (end != text && *end == '-') w->high = strtoull(end + 1, &end, 16);
    if (*end || w->high <= w->low)
        return dgm_fail(w, -EINVAL, "range=%s: expected LO-HI in hexadecimal", text);
    return 0;
}

int filter_start(dgm_watch *w) {
    const char *range = dgm_option(w, "range");
    w->module = dgm_option(w, "module");
    w->symbol = dgm_option(w, "symbol");
    w->from = dgm_option(w, "from");
    w->to = dgm_option(w, "to");
    w->after = dgm_option_number(w, "after", 0, 1, INT64_MAX);
    if (w->after) dgm_want(w, DGM_STOPS);
    w->marks = dgm_option(w, "marks");
    uint64_t thread = dgm_option_number(w, "only-thread", UINT64_MAX, 0, UINT32_MAX);
    w->thread = (int64_t)thread;
    if (w->thread >= 0 && w->ws->n_thread_bits == MAX_THREAD_BITS)
        return dgm_fail(w, -EINVAL, "only %d tools can have only-thread=", MAX_THREAD_BITS);
    if (w->thread >= 0) w->thread_bit = 1u << w->ws->n_thread_bits++;
    w->off = w->from || w->after || w->marks;
    return range ? read_range(w, range) : 0;
}

static bool same_name(const char *path, const char *name) {
    const char *base = strrchr(path, '/');
    return !strcmp(path, name) || (base && !strcmp(base + 1, name));
}

static bool is_shown(dgm_watch *w, uint64_t address) {
    dgm_symbol s;
    if (atomic_load(&w->off)) return false;
    if (w->high && (address < w->low || address >= w->high)) return false;
    if (w->module) {
        const dgm_module *m = dgm_module_at(w, address);
        if (!m || !same_name(m->path, w->module)) return false;
    }
    return !w->symbol || (dgm_symbol_at(w, address, &s) && !strcmp(s.name, w->symbol));
}

void dgm_enable(dgm_watch *w, bool on) {
    if (atomic_exchange(&w->off, !on) == on) dgm_retranslate(w);
}

bool dgm_filtered(const dgm_watch *w) {
    return w->high || w->module || w->symbol || w->from || w->to || w->marks || w->after ||
           w->thread_bit;
}

static void begins(dgm_vcpu *v, void *watch) {
    (void)v;
    dgm_enable(watch, true);
}
static void ends(dgm_vcpu *v, void *watch) {
    (void)v;
    dgm_enable(watch, false);
}

void filter_reached(dgm_watch *w, dgm_vcpu *v) {
    (void)v;
    dgm_enable(w, true);
}

void filter_thread(Watches *ws, VcpuHot *hot) {
    uint32_t bits = 0;
    for (dgm_watch *w = ws->first; w; w = w->next)
        if (w->thread_bit && (uint64_t)w->thread != *vcpu_slot(hot, SLOT_THREAD))
            bits |= w->thread_bit;
    hot->unwatched = bits;
}

static void ask_marks(dgm_watch *w, dgm_block *b) {
    for (unsigned i = 0; i < b->n_insns; i++) {
        const dgm_insn *n = &b->insns[i];
        enum GuestMark mark = n->bytes ? w->ws->guest->mark(n->bytes, n->size) : GUEST_NO_MARK;
        if (mark) dgm_at_call(b, i, mark == GUEST_MARK_BEGIN ? begins : ends, DGM_NO_REGS, w);
    }
}

void filter_show(dgm_watch *w, dgm_block *b) {
    if (w->marks) ask_marks(w, b);
    dgm_symbol s;
    if ((w->from || w->to) && dgm_symbol_at(w, b->address, &s) && s.address == b->address) {
        if (w->from && !strcmp(s.name, w->from)) dgm_at_call(b, 0, begins, DGM_NO_REGS, w);
        if (w->to && !strcmp(s.name, w->to)) dgm_at_call(b, 0, ends, DGM_NO_REGS, w);
    }
    if (is_shown(w, b->address)) w->tool->block(w, b);
}
