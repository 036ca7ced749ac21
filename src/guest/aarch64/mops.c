// mops.c - memory copy and set in three steps (FEAT_MOPS): CPYFP/M/E, CPYP/M/E, SETP/M/E.
//
// Of the two ways that the architecture leaves open this is "option A" (C = 0 after the prologue):
// the prologue makes the count negative and the addresses those behind the end, the main step does
// small sizes (mops_small.c), the epilogue what is left. A backward copy has a positive count and
// the start addresses instead. A helper works page by page on guest state and writes the count back
// before each piece, so a fault leaves the registers at what is done and the instruction can be
// taken up again. The options (unprivileged, non-temporal) make no difference in user mode.
#include "guest/aarch64/mops.h"
#include "guest/aarch64/lift.h"

#include "engine/vcpu.h"

enum { MOPS_PAGE = 4096 };
typedef enum MopsStep { MOPS_PROLOGUE, MOPS_MAIN, MOPS_EPILOGUE } MopsStep;

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
    MopsRegs r = mops_unpack(packed);
    if ((int64_t)((A64State *)state)->x[r.n] < 0)
        copy_forward(state, r);
    else
        copy_backward(state, r);
}

static void do_set(void *state, uint64_t packed) {
    A64State *st = state;
    MopsRegs r = mops_unpack(packed);
    uint8_t value = r.s == 31 ? 0 : (uint8_t)st->x[r.s];
    while (st->x[r.n]) {
        uint64_t left = 0 - st->x[r.n], to = st->x[r.d] - left, n = MIN(left, page_rest(to));
        touch(vcpu_mem(state, to), &value);
        memset(vcpu_mem(state, to), value, n);
        st->x[r.n] += n;
    }
}

#define MOPS_HELPER(ident, function)                                                               \
    static const IrHelper ident = {.name = #ident,                                                 \
                                   .fn = (void (*)(void))function,                                 \
                                   .reads_state = true,                                            \
                                   .writes_state = true,                                           \
                                   .can_fault = true}
MOPS_HELPER(mops_copy, do_copy);
MOPS_HELPER(mops_set, do_set);

// ---- lifters ----

// What is left is done by a helper, when anything is: in the main step what is small, by one that
// is cheap to call, in the epilogue the rest.
static bool call_step(Lift *l, const IrHelper *h, unsigned d, unsigned s, unsigned n) {
    IrRef done = ir_icmp(l->r, IR_EQ, lift_x(l, n), lift_i64(l, 0));
    ir_exit_if(l->r, done, l->pc + 4);
    const IrRef args[] = {lift_i64(l, mops_pack(d, s, n))};
    ir_call(l->r, IR_VOID, h, 1, args, 0);
    ir_exit(l->r, l->pc + 4);
    l->ended = true;
    return true;
}

static IrRef at_most(Lift *l, IrRef v, uint64_t most) {
    IrRef limit = lift_i64(l, most);
    return ir_select(l->r, ir_icmp(l->r, IR_ULT, v, limit), v, limit);
}

static void clear_flags(Lift *l) {
    ir_put(l->r, A64_NZCV, ir_op1(l->r, IR_fl_pack, IR_FLAGS, ir_const(l->r, IR_I32, 0)));
}

static void copy_prologue(Lift *l, const Args_cpy *a) {
    IrRegion *r = l->r;
    IrRef d = lift_x(l, a->rd), s = lift_x(l, a->rs);
    IrRef n = at_most(l, lift_x(l, a->rn), a->forward ? INT64_MAX : 0x007fffffffffffff);
    IrRef new_d = ir_add(r, d, n), new_s = ir_add(r, s, n), new_n = ir_neg(r, n);
    if (!a->forward) { // top bytes are no part of the comparison
        IrRef mask = lift_i64(l, bits_mask(56)), to = ir_and(r, d, mask);
        IrRef above = ir_icmp(r, IR_ULT, ir_and(r, s, mask), to);
        IrRef within = ir_icmp(r, IR_ULT, to, ir_and(r, new_s, mask));
        IrRef backward = ir_and(r, above, within);
        new_d = ir_select(r, backward, d, new_d);
        new_s = ir_select(r, backward, s, new_s);
        new_n = ir_select(r, backward, n, new_n);
    }
    lift_put_reg(l, a->rd, new_d);
    lift_put_reg(l, a->rs, new_s);
    lift_put_reg(l, a->rn, new_n);
    clear_flags(l);
}

// CPYFP, CPYFM, CPYFE, CPYP, CPYM, CPYE [Xd]!, [Xs]!, Xn!
bool lift_cpy(Lift *l, const Args_cpy *a) {
    if (a->rd == 31 || a->rs == 31 || a->rn == 31) return false;
    if (a->rd == a->rs || a->rd == a->rn || a->rs == a->rn) return false;
    if (a->step != MOPS_PROLOGUE) {
        const IrHelper *h = a->step == MOPS_MAIN ? &mops_copy_small : &mops_copy;
        return call_step(l, h, a->rd, a->rs, a->rn);
    }
    copy_prologue(l, a);
    return true;
}

// SETP, SETM, SETE [Xd]!, Xn!, Xs
bool lift_set(Lift *l, const Args_set *a) {
    if (a->rd == 31 || a->rn == 31) return false;
    if (a->rd == a->rs || a->rd == a->rn || a->rs == a->rn) return false;
    if (a->step != MOPS_PROLOGUE) {
        const IrHelper *h = a->step == MOPS_MAIN ? &mops_set_small : &mops_set;
        return call_step(l, h, a->rd, a->rs, a->rn);
    }
    IrRef n = at_most(l, lift_x(l, a->rn), INT64_MAX);
    IrRef end = ir_add(l->r, lift_x(l, a->rd), n);
    lift_put_reg(l, a->rd, end);
    lift_put_reg(l, a->rn, ir_neg(l->r, n));
    clear_flags(l);
    return true;
}
