// early_counts.c - the rounds of an unrolled loop are counted once.
//
// Adds to one counter that are marked IR_EARLY are made with the counter's first in the region,
// when all ways out in between can pay back. From the first until its own place comes, such an add
// is *owed*: the cold code of a side exit, and code that a fault is sent through, take off what is
// owed there. So counts are exact wherever anybody can look.
//
// What can be left in no such way (helpers that fault, accesses that must be aligned) has its
// counts in place. The guest instructions of IR_count and IR_budget are one more counter.
#include "host/x86_64/emit.h"

enum { MAX_COUNTERS = 8 };
static const int64_t INSNS = -1; // as a counter

// Of each counter that is begun, what is owed.
typedef struct Owed {
    unsigned n;
    struct {
        int64_t counter;
        uint64_t sum;
    } of[MAX_COUNTERS];
} Owed;

// What in adds to which counter. False: it is not one that counts.
static bool adds(const IrRegion *r, const IrInst *in, int64_t *counter, uint64_t *n) {
    if (in->op == IR_slot_add) {
        *counter = in->imm;
        return ir_const_value(r, in->a, n);
    }
    *counter = INSNS;
    *n = (uint64_t)in->imm;
    return in->op == IR_count || in->op == IR_budget;
}

static uint64_t *sum_of(Owed *o, int64_t counter) {
    unsigned i = 0;
    while (i < o->n && o->of[i].counter != counter) i++;
    return i < o->n ? &o->of[i].sum : NULL;
}

// Behind the instruction at `at`; x86_early_begin() has seen that there is room.
static Owed owed_behind(const IrRegion *r, IrRef at) {
    Owed owed = {0}, *o = &owed;
    for (IrRef i = 1; i < r->n_insts; i++) {
        int64_t counter;
        uint64_t n;
        if (!adds(r, &r->insts[i], &counter, &n)) continue;
        uint64_t *sum = sum_of(o, counter);
        if (i > at) {
            if (sum) *sum += n;
        } else if (!sum) {
            o->of[o->n++].counter = counter;
        }
    }
    return owed;
}

// Of a hot region: of each counter all but the first are early, and who leaves in between can pay
// back.
void x86_early_begin(X86 *x) {
    const IrRegion *r = x->r;
    Owed first = {0};
    uint64_t all = 0, n;
    int64_t counter;
    uint32_t n_early = 0;
    for (IrRef i = 1; i < r->n_insts; i++) {
        const IrInst *in = &r->insts[i];
        bool access = in->op == IR_load || in->op == IR_store;
        if (access ? in->aux2 & (IR_ALIGNED | IR_WITHIN16) : ir_op_effect[in->op] == IR_MEM) return;
        if (in->op == IR_call_if || in->op == IR_executed || in->op == IR_slot_get) return;
        if (in->op != IR_slot_add && in->op != IR_count && in->op != IR_budget) continue;
        if (!adds(r, in, &counter, &n)) return;
        all += n;
        bool known = sum_of(&first, counter);
        if (in->aux == IR_EARLY) n_early++;
        if (known != (in->aux == IR_EARLY)) return;
        if (known) continue;
        if (first.n == MAX_COUNTERS) return;
        first.of[first.n++].counter = counter;
    }
    if (all <= INT32_MAX) x->n_early = n_early;
}

// The add that is compiled now. What it is to add; 0: it was added before.
uint64_t x86_early_sum(X86 *x, const IrInst *in, uint64_t n) {
    if (!x->n_early) return n;
    x->owed_at = x->now;
    if (in->aux == IR_EARLY) {
        x->n_early--;
        return 0;
    }
    Owed o = owed_behind(x->r, x->now);
    int64_t counter;
    uint64_t own;
    return adds(x->r, in, &counter, &own) ? n + *sum_of(&o, counter) : n;
}

// At this place of the region. Keeps EFLAGS, and all registers but rax.
void x86_pay_back(X86 *x, IrRef at) {
    Owed o = owed_behind(x->r, at);
    for (unsigned i = 0; i < o.n; i++) {
        int32_t n = (int32_t)o.of[i].sum;
        if (!n) continue;
        if (o.of[i].counter == INSNS) {
            unsigned reg = (unsigned)x->h->count_reg;
            lea(x, 64, reg, mem_at((int)reg, n));
            continue;
        }
        Mem slot = x86_slot_mem((uint32_t)o.of[i].counter);
        mov_load(x, 64, RAX, slot);
        lea(x, 64, RAX, mem_at(RAX, -n));
        mov_store(x, 64, slot, RAX);
    }
}

// In the cold code of an exit: what follows is where it leads until it is linked for good.
void x86_exit_pays(X86 *x, const Cold *c, HostLink *l) {
    if (!c->owed_at) return;
    x86_pay_back(x, c->owed_at);
    x86_jump_here(x, l);
}
