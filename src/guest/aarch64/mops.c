// mops.c - memory copy and set in three steps (FEAT_MOPS): CPYFP/M/E, CPYP/M/E, SETP/M/E.
//
// Of the two ways that the architecture leaves open this is "option A" (C = 0 after the prologue):
// the prologue makes the count negative and the addresses those behind the end, the main step does
// all the work, the epilogue what is left. A backward copy has a positive count and the start
// addresses instead. Each step works on state through a helper, page by page, and writes the count
// back before each piece, so a fault leaves the registers at what is done and the instruction can
// be taken up again. The options (unprivileged, non-temporal) make no difference in user mode.
#include "guest/aarch64/lift.h"

#include "engine/vcpu.h"

enum { MOPS_PAGE = 4096 };
typedef enum MopsStep { MOPS_PROLOGUE, MOPS_MAIN, MOPS_EPILOGUE } MopsStep;
typedef struct MopsRegs { // as packed into a helper's argument
    uint8_t d, s, n;
} MopsRegs;

static uint64_t pack_regs(unsigned d, unsigned s, unsigned n) {
    return d | s << 8 | n << 16;
}
static MopsRegs unpack_regs(uint64_t packed) {
    return (MopsRegs){(uint8_t)packed, (uint8_t)(packed >> 8), (uint8_t)(packed >> 16)};
}

// Bytes from addr to the end of its page, or back from it to the start.
static uint64_t page_rest(uint64_t addr) {
    return MOPS_PAGE - addr % MOPS_PAGE;
}
static uint64_t page_before(uint64_t addr) {
    return (addr - 1) % MOPS_PAGE + 1;
}

// The first byte alone, so that a fault is at its address.
static void touch(volatile uint8_t *to, const volatile uint8_t *from) {
    *to = *from;
}

// ---- helpers ----

static void do_copy_prologue(void *state, uint64_t packed, uint64_t forward_only) {
    A64State *st = state;
    MopsRegs r = unpack_regs(packed);
    uint64_t most = forward_only ? INT64_MAX : 0x007fffffffffffff;
    uint64_t n = MIN(st->x[r.n], most), d = st->x[r.d], s = st->x[r.s];
    uint64_t mask = bits_mask(56); // top bytes are no part of the comparison
    bool backward = !forward_only && (s & mask) < (d & mask) && (d & mask) < ((s + n) & mask);
    st->x[r.n] = backward ? n : 0 - n;
    if (!backward) {
        st->x[r.d] = d + n;
        st->x[r.s] = s + n;
    }
    st->nzcv = 0;
}

static void copy_forward(void *state, MopsRegs r) {
    A64State *st = state;
    while (st->x[r.n]) {
        uint64_t left = 0 - st->x[r.n], to = st->x[r.d] - left, from = st->x[r.s] - left;
        uint64_t n = MIN(left, MIN(page_rest(to), page_rest(from)));
        if (to != from && to - from < n) n = to - from; // what is read was written before
        touch(vcpu_mem(state, to), vcpu_mem(state, from));
        memmove(vcpu_mem(state, to), vcpu_mem(state, from), n);
        st->x[r.n] += n;
    }
}

static void copy_backward(void *state, MopsRegs r) {
    A64State *st = state;
    while (st->x[r.n]) {
        uint64_t left = st->x[r.n], to = st->x[r.d] + left, from = st->x[r.s] + left;
        uint64_t n = MIN(left, MIN(page_before(to), page_before(from)));
        if (to - from < n) n = to - from;
        touch(vcpu_mem(state, to - 1), vcpu_mem(state, from - 1));
        memmove(vcpu_mem(state, to - n), vcpu_mem(state, from - n), n);
        st->x[r.n] -= n;
    }
}

static void do_copy(void *state, uint64_t packed) {
    MopsRegs r = unpack_regs(packed);
    if ((int64_t)((A64State *)state)->x[r.n] < 0)
        copy_forward(state, r);
    else
        copy_backward(state, r);
}

static void do_set_prologue(void *state, uint64_t packed) {
    A64State *st = state;
    MopsRegs r = unpack_regs(packed);
    uint64_t n = MIN(st->x[r.n], (uint64_t)INT64_MAX);
    st->x[r.d] += n;
    st->x[r.n] = 0 - n;
    st->nzcv = 0;
}

static void do_set(void *state, uint64_t packed) {
    A64State *st = state;
    MopsRegs r = unpack_regs(packed);
    uint8_t value = r.s == 31 ? 0 : (uint8_t)st->x[r.s];
    while (st->x[r.n]) {
        uint64_t left = 0 - st->x[r.n], to = st->x[r.d] - left, n = MIN(left, page_rest(to));
        touch(vcpu_mem(state, to), &value);
        memset(vcpu_mem(state, to), value, n);
        st->x[r.n] += n;
    }
}

#define MOPS_HELPER(ident, function, faults)                                                       \
    static const IrHelper ident = {.name = #ident,                                                 \
                                   .fn = (void (*)(void))function,                                 \
                                   .reads_state = true,                                            \
                                   .writes_state = true,                                           \
                                   .can_fault = faults}
MOPS_HELPER(mops_copy_prologue, do_copy_prologue, false);
MOPS_HELPER(mops_copy, do_copy, true);
MOPS_HELPER(mops_set_prologue, do_set_prologue, false);
MOPS_HELPER(mops_set, do_set, true);

// ---- lifters ----

static bool call_step(Lift *l, const IrHelper *h, uint64_t packed) {
    const IrRef args[] = {lift_i64(l, packed)};
    ir_call(l->r, IR_VOID, h, 1, args, 0);
    return true;
}

// CPYFP, CPYFM, CPYFE, CPYP, CPYM, CPYE [Xd]!, [Xs]!, Xn!
bool lift_cpy(Lift *l, const Args_cpy *a) {
    if (a->rd == 31 || a->rs == 31 || a->rn == 31) return false;
    if (a->rd == a->rs || a->rd == a->rn || a->rs == a->rn) return false;
    uint64_t packed = pack_regs(a->rd, a->rs, a->rn);
    if (a->step != MOPS_PROLOGUE) return call_step(l, &mops_copy, packed);
    const IrRef args[] = {lift_i64(l, packed), lift_i64(l, a->forward)};
    ir_call(l->r, IR_VOID, &mops_copy_prologue, 2, args, 0);
    return true;
}

// SETP, SETM, SETE [Xd]!, Xn!, Xs
bool lift_set(Lift *l, const Args_set *a) {
    if (a->rd == 31 || a->rn == 31) return false;
    if (a->rd == a->rs || a->rd == a->rn || a->rs == a->rn) return false;
    return call_step(l, a->step == MOPS_PROLOGUE ? &mops_set_prologue : &mops_set,
                     pack_regs(a->rd, a->rs, a->rn));
}
