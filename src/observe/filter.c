// filter.c - which code a tool is shown: options that every tool has, so that none needs its own.
//
// What is not shown is not asked about, so it costs nothing. Where looking begins or ends at run
// time (a function, a number of instructions, dgm_enable), all code is translated anew.
#include "observe/observe.h"

#include <errno.h>
#include <stdlib.h>

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
    w->off = w->from || w->after;
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

void filter_show(dgm_watch *w, dgm_block *b) {
    dgm_symbol s;
    if ((w->from || w->to) && dgm_symbol_at(w, b->address, &s) && s.address == b->address) {
        if (w->from && !strcmp(s.name, w->from)) dgm_at_call(b, 0, begins, DGM_NO_REGS, w);
        if (w->to && !strcmp(s.name, w->to)) dgm_at_call(b, 0, ends, DGM_NO_REGS, w);
    }
    if (is_shown(w, b->address)) w->tool->block(w, b);
}
