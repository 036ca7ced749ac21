// fp_guard.c - how results of the host's FPU come to be Arm's, bit for bit and flag for flag.
//
// In the usual FP mode (regions with fp_exact go to the evaluator as a whole) host and Arm agree on
// everything but:
//
// (a) an invalid operation makes a negative NaN here and a positive one there;
//
// (b) of two NaN operands the host returns the first, Arm a signalling one before a quiet one;
//
// (c) fma with several NaNs returns the addend's last here and first there, and with a quiet NaN as
// addend infinity * 0 is invalid only there; a negated operand's NaN is negated only there;
//
// (d) tininess: the host finds it after rounding, Arm before. They differ only where a number
// rounds up to the least normal one: the result is the same, but Arm raises underflow. Sums that
// small are exact, square roots are never that small, and quotients of p bits do not lie so close
// below a power of two (with ma < mb, ma / mb < 1 - 2^-p). Nor do squares: the least normal number
// is an even power of two, and with m <= 1 - 2^-p, m * m < 1 - 2^-p. Only other products, fma and
// narrowing can do it;
//
// (e) conversions to integers out of range, minimum and maximum of NaNs, and comparisons, which
// make the same of a NaN but are told of it in the same way.
//
// Whatever is in doubt is done again by ir_eval, from the operands, which must still be there.
//
// With traps (the usual way) the FPU itself finds the doubt: MXCSR leaves invalid and underflow
// unmasked while translated code runs. (a), (b) with a signalling NaN, and (e) raise invalid,
// before the instruction has written anything; of two quiet NaNs both return the first, if the
// operands are given in Arm's order. What is left is looked for, behind the op, by an instruction
// that traps.
//
// Where there are mask registers, a number is compared as a pair of half its width, aloud, and only
// the upper half (sees_halves): it is a NaN when the number is one, which is enough for (c), for an
// addend that is a NaN makes the sum one; and it is denormal when the number is within 2^7 (2^8) of
// the least normal one (d), so there denormal operands are unmasked as well.
//
// Elsewhere the addend's copy is made by a minimum of it with itself, which is invalid for a NaN
// (c), and the result is multiplied by a half: exact, and tiny (which traps even when exact) for
// all below twice the least normal (d).
//
// So sums, quotients and roots are one instruction, products two, fma three (it overwrites an
// operand, of which a copy must last). A host signal leads to the op's cold code (HostTrap), which
// ends behind the op. Invalid and underflow are sticky in IrFpEnv only; what else the interrupted
// instruction has raised (inexact, overflow, division by zero in another lane) Arm raises as well.
//
// Programs that trap all the time are translated without (fp_trap_count in run.c): compares and
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

// Numbers can be looked at as pairs of half their width, of which the upper one tells: it is a NaN,
// or denormal, when the number is a NaN (or very large), or next to the least normal one.
static bool sees_halves(const X86 *x, int s) {
    return x->h->masks && (s == PD || s == SD || x->h->cpu.avx512_fp16);
}

// Traps when any lane of t is tiny, were it half as large; where halves are seen, also for a NaN.
static void trap_if_least(X86 *x, int s, unsigned t, unsigned scratch) {
    static const Vop mul[4] = {V_mulps, V_mulpd, V_mulss, V_mulsd};
    if (sees_halves(x, s)) {
        enum { LESS_ALOUD = 1 }; // the predicate that minds quiet NaNs, too
        VecMask mask = s == PD ? VEC_HIGH_HALVES : s == PS ? VEC_HIGH_WORDS : VEC_HIGH_HALF0;
        Vop cmp = s == PD || s == SD ? V_vcmpps_k : V_vcmpph_k;
        x->at = vec_encode_masked(x->at, mask, cmp, 1, t, t, LESS_ALOUD);
        return;
    }
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
//
// Cold code comes back behind the op, so none of it may be the allocator's: registers are all asked
// for before the first instruction that can trap.

FpGuard fp_guard(X86 *x, const IrInst *in, FpDoubt doubt) {
    FpGuard g = {.doubt = doubt, .traps = fp_traps(x)};
    if (g.traps) g.site = fp_trap_site(x, in);
    return g;
}

unsigned fp_guard_def(X86 *x, const IrInst *in, FpGuard *g) {
    if (!g->traps) return vdef_fresh(x, in);
    if (g->doubt != FP_NAN_OR_LEAST) return vdef(x, in);
    unsigned d = vdef_fresh(x, in);
    g->scratch = vtmp(x);
    return d;
}

void fp_guard_end(X86 *x, const IrInst *in, FpGuard g, int s, unsigned d) {
    if (g.traps) {
        if (g.doubt == FP_NAN_OR_LEAST) trap_if_least(x, s, d, g.scratch);
        cold_eval_at(x, g.site, d);
    } else if (g.doubt == FP_NAN_OR_LEAST) {
        cold_if_nan_or_least(x, in, s, d);
    } else if (g.doubt == FP_NAN) {
        cold_if_nan(x, in, s, d);
    }
}

// ---- comparisons: the trap knows that the operands are unordered ----

// Again, with exceptions masked: a denormal is no reason for anything.
static void emit_compare(X86 *x, const Cold *c) {
    x86_fp_masked(x, true);
    op2(x, (Vop)c->imm, c->args[0], c->args[1]);
    x86_fp_masked(x, false);
    x86_cold_back(x, c);
}

void fp_compare(X86 *x, Vop op, unsigned a, unsigned b) {
    Cold *c = fp_traps(x) ? x86_cold_trap(x, emit_compare) : NULL;
    op2(x, op, a, b);
    if (!c) return;
    c->imm = op;
    c->args[0] = (uint8_t)a, c->args[1] = (uint8_t)b;
    c->back = x->at;
}

// What it would raise, another comparison of the same operands has raised.
void fp_compare_silently(X86 *x, Vop op, unsigned a, unsigned b) {
    if (!fp_traps(x)) {
        op2(x, op, a, b);
    } else if (has_avx512(x)) {
        x->at = vec_encode_silent(x->at, op, a, b);
    } else {
        x86_fp_masked(x, true);
        op2(x, op, a, b);
        x86_fp_masked(x, false);
    }
}

// ---- a * b + c ----

// The form of the instruction by the operand whose register the result takes; b is the second
// factor in each, for of two NaNs the first factor's is Arm's.
enum { FORM_132, FORM_213, FORM_231 };
static void fma_op(X86 *x, int s, unsigned form, unsigned d, const FpFma *f) {
    unsigned sign = f->neg_a * 2 + f->neg_c;
    unsigned second = form == FORM_132 ? f->c : f->a, third = form == FORM_213 ? f->c : f->b;
    Vop first = (Vop)(V_vfmadd132ps + 16 * form + 4 * sign);
    if (f->clear)
        x->at = vec_encode_masked(x->at, VEC_LANE0, (Vop)(first + s - SS), d, second, third, 0);
    else
        op3(x, (Vop)(first + s), d, second, third);
}

// Traps when the addend is a NaN, or the first factor, whose sign would be changed; else t is c
// (unless neg_a).
static void trap_if_nan(X86 *x, int s, unsigned t, const FpFma *f) {
    static const Vop min[4] = {V_minps, V_minpd, V_minss, V_minsd};
    op3(x, min[s], t, f->neg_a ? f->a : f->c, f->c);
}

// The cold code that follows wants the addend in the temporary, where it is not yet.
static void emit_copy(X86 *x, const Cold *c) {
    vmov(x, c->result, c->args[0]);
}

// Evaluates from the copy t of what is in register d.
static ColdSite site_with_copy(X86 *x, const IrInst *in, unsigned d, unsigned t) {
    ColdSite site = fp_trap_site(x, in);
    for (unsigned i = 0; i < 3 && site.index < MAX_COLD; i++)
        if (x->cold[site.index].args[i] == d) x->cold[site.index].args[i] = (uint8_t)t;
    return site;
}

// In the register of an operand, of which a copy is kept until all is known to be well.
static void fma_in_place(X86 *x, const IrInst *in, int s, unsigned form, unsigned d,
                         const FpFma *f) {
    unsigned t = vtmp(x), u = t;
    ColdSite site;
    if (sees_halves(x, s)) {
        vmov(x, t, d);
        site = site_with_copy(x, in, d, t);
    } else if (form == FORM_231 && !f->neg_a) {
        Cold *c = x86_cold_trap(x, emit_copy);
        if (c) c->args[0] = (uint8_t)d, c->result = (uint8_t)t;
        trap_if_nan(x, s, t, f);
        site = site_with_copy(x, in, d, t);
    } else {
        u = vtmp(x);
        vmov(x, t, d);
        site = site_with_copy(x, in, d, t);
        trap_if_nan(x, s, u, f);
    }
    vdef(x, in); // is d
    fma_op(x, s, form, d, f);
    trap_if_least(x, s, d, u);
    cold_eval_at(x, site, d);
}

void fp_fma(X86 *x, const IrInst *in, int s, const FpFma *f) {
    int home = fp_traps(x) ? x86_home_free(x, ref_of(x, in)) : -1;
    bool factors = s < SS || f->clear; // else what is above the result must be what is above c
    if (home == (int)f->c) {
        fma_in_place(x, in, s, FORM_231, f->c, f);
    } else if (factors && home == (int)f->a) {
        fma_in_place(x, in, s, FORM_132, f->a, f);
    } else if (factors && home == (int)f->b) {
        fma_in_place(x, in, s, FORM_213, f->b, f);
    } else {
        FpGuard g = fp_guard(x, in, FP_NAN_OR_LEAST);
        unsigned d = fp_guard_def(x, in, &g);
        vmov(x, d, f->c);
        if (g.traps && !sees_halves(x, s)) trap_if_nan(x, s, g.scratch, f);
        fma_op(x, s, FORM_231, d, f);
        fp_guard_end(x, in, g, s, d);
    }
}
