// fp_guard.c - how results of the host's FPU come to be Arm's, bit for bit and flag for flag.
//
// In the usual FP mode (regions with fp_exact go to the evaluator as a whole) host and Arm agree on
// everything but:
//  (a) an invalid operation makes a negative NaN here and a positive one there;
//  (b) of two NaN operands the host returns the first, Arm a signalling one before a quiet one;
//  (c) fma with several NaNs returns the addend's last here and first there, and with a quiet NaN as
//      addend infinity * 0 is invalid only there; a negated operand's NaN is negated only there;
//  (d) tininess: the host finds it after rounding, Arm before. They differ only where a number rounds
//      up to the least normal one: the result is the same, but Arm raises underflow. Sums that small
//      are exact, square roots are never that small, and quotients of p bits do not lie so close below
//      a power of two (with ma < mb, ma / mb < 1 - 2^-p): only products, fma and narrowing can do it;
//  (e) conversions to integers out of range, minimum and maximum of NaNs, and comparisons, which make
//      the same of a NaN but are told of it in the same way.
// Whatever is in doubt is done again by ir_eval, from the operands, which must still be there.
//
// With traps (the usual way) the FPU itself finds the doubt: MXCSR leaves invalid and underflow
// unmasked while translated code runs. (a), (b) with a signalling NaN, and (e) raise invalid, before
// the instruction has written anything; of two quiet NaNs both return the first, if the operands are
// given in Arm's order. For (c) the addend's copy is made by a minimum of it with itself, which is
// invalid for a NaN. For (d) the result is multiplied by a half: that is exact, and tiny (which traps
// even when exact) for all below twice the least normal. So sums, quotients and roots are one
// instruction, products two, fma three. A host signal leads to the op's cold code (HostTrap), which
// ends behind the op. Invalid and underflow, masked in C, are sticky in IrFpEnv only; what else the
// interrupted instruction has raised (inexact, overflow, division by zero in another lane) Arm raises
// as well.
//
// Programs that trap all the time are retranslated without (fp_traps_too_often in run.c): compares and
// branches behind each op, with all exceptions masked.
#include "host/x86_64/sel_vec.h"

bool fp_traps(const X86 *x) {
    return x_region(x)->fp_traps && x->h->cpu.fp_traps;
}

// ---- traps ----

ColdSite fp_trap_site(X86 *x, const IrInst *in) {
    Cold *c = x86_cold_trap_eval(x, ref_of(x, in));
    return (ColdSite){c ? (uint32_t)(c - x->cold) : MAX_COLD};
}

// Traps when any lane of t is tiny, were it half as large.
static void trap_if_least(X86 *x, int s, unsigned t, unsigned scratch) {
    static const Vop mul[4] = {V_mulps, V_mulpd, V_mulss, V_mulsd};
    uint64_t half = s == PD || s == SD ? 0x3FE0000000000000 : 0x3F0000003F000000;
    op3m(x, mul[s], scratch, t, vliteral(x, half, half));
}

// ---- compares and branches ----

// Predicate imm (of vcmpps/pd) of t and u is true in any lane.
static void cold_if_any_lane(X86 *x, const IrInst *in, int s, unsigned t, unsigned u, unsigned imm,
                             unsigned result) {
    if (has_avx512(x)) {
        op3i(x, s == PS ? V_vcmpps_k : V_vcmppd_k, 1, t, u, imm);
        kortest(x, 1);
    } else {
        unsigned m = vtmp(x);
        op3i(x, s == PS ? V_cmpps : V_cmppd, m, t, u, imm);
        test_any(x, m);
        vfree(x, m);
    }
    cold_eval(x, in, CC_NE, result);
}

// Branches to cold code, which evaluates `in` from its operands into register t and comes back
// behind the branch, when t holds a NaN in any lane.
static void cold_if_nan(X86 *x, const IrInst *in, int s, unsigned t) {
    if (s == SS || s == SD) {
        op2(x, s == SS ? V_ucomiss : V_ucomisd, t, t);
        cold_eval(x, in, CC_P, t);
        return;
    }
    cold_if_any_lane(x, in, s, t, t, 3, t);
}

// The same when t holds a NaN or, of either sign, the least normal number.
static void cold_if_nan_or_least(X86 *x, const IrInst *in, int s, unsigned t) {
    bool is64 = s == PD || s == SD;
    uint64_t magnitude = is64 ? INT64_MAX : 0x7fffffff7fffffff;
    uint64_t least = is64 ? 1ull << 52 : 0x0080000000800000;
    unsigned m = vtmp(x);
    op3k(x, V_pand, m, t, magnitude, magnitude);
    if (s == SS || s == SD) { // equal or unordered
        op2m(x, s == SS ? V_ucomiss : V_ucomisd, m, vliteral(x, least, least));
        cold_eval(x, in, CC_E, t);
    } else if (has_avx512(x)) {
        op3mi(x, s == PS ? V_vcmpps_k : V_vcmppd_k, 1, m, vliteral(x, least, least), 8);
        kortest(x, 1);
        cold_eval(x, in, CC_NE, t);
    } else {
        Vop cmp = s == PS ? V_cmpps : V_cmppd;
        if (has_avx(x)) {
            op3mi(x, cmp, m, m, vliteral(x, least, least), 8);
        } else { // the legacy form knows equal, and unordered, but not both
            unsigned u = vtmp(x);
            op3i(x, cmp, u, m, m, 3);
            op3mi(x, cmp, m, m, vliteral(x, least, least), 0);
            op3(x, V_por, m, m, u);
            vfree(x, u);
        }
        test_any(x, m);
        cold_eval(x, in, CC_NE, t);
    }
    vfree(x, m);
}

// ---- both ----

FpGuard fp_guard(X86 *x, const IrInst *in, FpDoubt doubt) {
    FpGuard g = {.doubt = doubt, .traps = fp_traps(x)};
    if (g.traps) g.site = fp_trap_site(x, in);
    return g;
}

unsigned fp_guard_def(X86 *x, const IrInst *in, FpGuard g) {
    return g.traps && g.doubt != FP_NAN_OR_LEAST ? vdef(x, in) : vdef_fresh(x, in);
}

void fp_guard_end(X86 *x, const IrInst *in, FpGuard g, int s, unsigned d) {
    if (g.traps) {
        if (g.doubt == FP_NAN_OR_LEAST) {
            unsigned t = vtmp(x);
            trap_if_least(x, s, d, t);
            vfree(x, t);
        }
        cold_eval_at(x, g.site, d);
    } else if (g.doubt == FP_NAN_OR_LEAST) {
        cold_if_nan_or_least(x, in, s, d);
    } else if (g.doubt == FP_NAN) {
        cold_if_nan(x, in, s, d);
    }
}

// ---- comparisons: the trap knows that the operands are unordered ----

static void emit_unordered(X86 *x, const Cold *c) {
    x86_cold_unordered(x);
    x86_cold_back(x, c);
}

void fp_compare(X86 *x, Vop op, unsigned a, unsigned b) {
    Cold *c = fp_traps(x) ? x86_cold_trap(x, emit_unordered) : NULL;
    op2(x, op, a, b);
    if (c) c->back = x->at;
}

// ---- a * b + c ----

// The cold code that follows wants the addend in the temporary, where it is not yet.
static void emit_copy(X86 *x, const Cold *c) {
    vmov(x, c->result, c->args[0]);
}

// t = c; traps when c is a NaN, or a, whose sign would be changed.
static void copy_addend(X86 *x, int s, unsigned t, unsigned a, bool neg_a, unsigned c) {
    static const Vop min[4] = {V_minps, V_minpd, V_minss, V_minsd};
    op3(x, min[s], t, neg_a ? a : c, c);
    if (neg_a) vmov(x, t, c);
}

void fp_fma(X86 *x, const IrInst *in, int s, Vop op, Vop op_lane0, const FpFma *f) {
    bool traps = fp_traps(x);
    bool in_place = traps && f->a != f->c && f->b != f->c && x86_home_free(x, ref_of(x, in)) == (int)f->c;
    FpGuard g = {.doubt = FP_NAN_OR_LEAST, .traps = traps};
    unsigned d, t = 0;
    if (in_place) { // the addend's copy stands for the addend
        Cold *c = x86_cold_trap(x, emit_copy);
        t = vtmp(x);
        copy_addend(x, s, t, f->a, f->neg_a, f->c);
        g.site = fp_trap_site(x, in);
        d = vdef(x, in);
        if (c) c->args[0] = (uint8_t)f->c, c->result = (uint8_t)t;
        if (g.site.index < MAX_COLD) x->cold[g.site.index].args[2] = (uint8_t)t;
    } else {
        if (traps) g.site = fp_trap_site(x, in);
        d = vdef_fresh(x, in);
        if (traps)
            copy_addend(x, s, d, f->a, f->neg_a, f->c);
        else
            vmov(x, d, f->c);
    }
    if (f->clear)
        x->at = vec_encode_lane0(x->at, op_lane0, d, f->a, f->b);
    else
        op3(x, op, d, f->a, f->b);
    if (in_place) {
        trap_if_least(x, s, d, t);
        cold_eval_at(x, g.site, d);
    } else {
        fp_guard_end(x, in, g, s, d);
    }
}
