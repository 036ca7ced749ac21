// sel_vec.h - what the selectors of vector and floating-point ops share, and the short names they
// use for the core's services (x86.h). Selectors are functions `bool sel_xxx(X86 *, const IrInst
// *)`; x86_sel_vec() is the switch.
//
// Rules of the house:
//  - A selector reads all operands before it writes the result, whose register may be that of an
//    operand that dies here. It returns false before anything was emitted but reloads.
//  - There are six xmm temporaries. Operands and the result may sit in them, so a selector of two
//    operands may hold three more at a time, one of three operands two more (`fresh` finds the
//    result's register when that is no operand's); vfree gives one back early.
//  - F16, F32 and F64 live in lane 0 of an xmm register, upper lanes unspecified; loads, reloads
//  and
//    cold code leave zeros there, and moves between xmm registers are of all 128 bits (upper_zero).
//    I1..I32 live in GPRs with the bits above unspecified; selectors write them zero-extended.
//  - k1 and EFLAGS are scratch within one instruction.
//  - cold_branch (before which only vdef_fresh may have made a result of the operands' kind) emits
//  a never-taken jcc; cold_eval_at binds it: cold code evaluates the instruction
//    with the operands in the registers they had at the branch, puts the result in `result` (xmm or
//    GPR by its type) and goes on where cold_eval_at was called.
#ifndef DGM_HOST_X86_64_SEL_VEC_H
#define DGM_HOST_X86_64_SEL_VEC_H

#include "host/x86_64/x86.h"

typedef struct ColdSite {
    uint32_t index; // into x->cold; MAX_COLD: there was no room, and the block will be given up
} ColdSite;

// ---- the core's services by short names ----
static inline const IrRegion *x_region(const X86 *x) {
    return x->r;
}
static inline IrRef ref_of(const X86 *x, const IrInst *in) {
    return (IrRef)(in - x->r->insts);
}
static inline unsigned vuse(X86 *x, IrRef v) {
    return x86_use_vec(x, v);
}
static inline unsigned vdef(X86 *x, const IrInst *in) {
    return x86_def_vec(x, ref_of(x, in));
}
static inline unsigned vdef_fresh(X86 *x, const IrInst *in) {
    return x86_def_vec_fresh(x, ref_of(x, in));
}
static inline unsigned vtmp(X86 *x) {
    return x86_tmp_vec(x);
}
static inline void vfree(X86 *x, unsigned tmp) {
    x->vec_locked &= ~(1u << tmp);
}
static inline unsigned guse(X86 *x, IrRef v) {
    return x86_use_int(x, v);
}
unsigned guse_zext(X86 *x, IrRef v); // a copy with zeros above unless they are there
static inline unsigned gdef(X86 *x, const IrInst *in) {
    return x86_def_int(x, ref_of(x, in));
}
static inline unsigned gtmp(X86 *x) {
    return x86_tmp_int(x);
}
static inline bool type_in_xmm(const X86 *x, IrType t) {
    return !ir_is_vec(t) && x86_in_vec(t);
}
static inline VecRm vliteral(X86 *x, uint64_t lo, uint64_t hi) {
    return vrm_rip(x86_const128(x, lo, hi));
}
ColdSite cold_branch(X86 *x, const IrInst *in, unsigned cc);
void cold_eval_at(X86 *x, ColdSite site, unsigned result);

// ---- exact floating point (fp_guard.c) ----
enum { PS, PD, SS, SD }; // shapes: packed and scalar, single and double
typedef enum FpDoubt {
    FP_TRAPS_ONLY,   // what is wrong raises invalid or underflow; else the selector looks itself
    FP_NAN,          // a NaN
    FP_NAN_OR_LEAST, // or the least normal number, which may have been tiny before rounding
} FpDoubt;
typedef struct FpGuard {
    FpDoubt doubt;
    bool traps;
    ColdSite site;
    unsigned scratch;
} FpGuard;
bool fp_traps(const X86 *x); // the FPU's exceptions are unmasked; all that can raise one has a site
ColdSite fp_trap_site(X86 *x, const IrInst *in); // for cold_eval_at; from here on
// The operands are in their registers, the result has none: in this order, with the op before the
// end.
FpGuard fp_guard(X86 *x, const IrInst *in, FpDoubt doubt);
unsigned fp_guard_def(X86 *x, const IrInst *in, FpGuard *g);
void fp_guard_end(X86 *x, const IrInst *in, FpGuard g, int shape, unsigned d);
void fp_compare(X86 *x, Vop op, unsigned a, unsigned b);          // [u]comiss/sd
void fp_compare_silently(X86 *x, Vop op, unsigned a, unsigned b); // raises nothing, does not trap
typedef struct FpFma {
    unsigned a, b, c; // registers
    bool neg_a, neg_c;
    bool clear; // a scalar, with zeros above the result
} FpFma;
void fp_fma(X86 *x, const IrInst *in, int shape, const FpFma *f); // the whole op

// ---- what this host has ----
static inline bool has_ssse3(const X86 *x) {
    return x->h->cpu.ssse3;
}
static inline bool has_sse41(const X86 *x) {
    return x->h->cpu.sse41;
}
static inline bool has_sse42(const X86 *x) {
    return x->h->cpu.sse42;
}
static inline bool has_avx(const X86 *x) {
    return x->h->level >= VEC_AVX;
}
static inline bool has_avx2(const X86 *x) {
    return x->h->cpu.avx2;
}
static inline bool has_fma(const X86 *x) {
    return x->h->cpu.fma;
}
static inline bool has_f16c(const X86 *x) {
    return x->h->cpu.f16c;
}
// F, VL, BW and DQ; every CPU with these has CD too.
static inline bool has_avx512(const X86 *x) {
    return x->h->level == VEC_AVX512;
}
static inline bool has_bitalg(const X86 *x) {
    return has_avx512(x) && x->h->cpu.avx512_bitalg && x->h->cpu.avx512_vpopcntdq;
}
static inline bool has_vbmi(const X86 *x) {
    return has_avx512(x) && x->h->cpu.avx512_vbmi;
}
static inline bool has_vnni(const X86 *x) {
    return has_avx512(x) && x->h->cpu.avx512_vnni;
}
static inline bool has_gfni(const X86 *x) {
    return x->h->cpu.gfni;
}
static inline bool has_aes(const X86 *x) {
    return x->h->cpu.aes;
}
static inline bool has_pclmul(const X86 *x) {
    return x->h->cpu.pclmul;
}
static inline bool is_xmm_scalar(const X86 *x, IrRef v) {
    return type_in_xmm(x, ir_type(x_region(x), v));
}
static inline unsigned lane_log2(IrType t) {
    return (unsigned)__builtin_ctz(ir_elem_bits(t) / 8);
}
// The result's register, or a temporary when that is an operand's.
static inline unsigned fresh(X86 *x, unsigned d, unsigned a, unsigned b, unsigned c) {
    return d != a && d != b && d != c ? d : vtmp(x);
}

// Openings of selectors: operands, then the result's register.
#define VEC_A  unsigned a = vuse(x, in->a), d = vdef(x, in)
#define VEC_AB unsigned a = vuse(x, in->a), b = vuse(x, in->b), d = vdef(x, in)

// ---- emission (sel_vec.c): any registers; legacy forms get their moves here ----
void op3i(X86 *x, Vop op, unsigned d, unsigned a, unsigned b, unsigned imm);
void op3mi(X86 *x, Vop op, unsigned d, unsigned a, VecRm m, unsigned imm);
void op2i(X86 *x, Vop op, unsigned d, unsigned a, unsigned imm);
void op2mi(X86 *x, Vop op, unsigned d, VecRm m, unsigned imm);
void op2sti(X86 *x, Vop op, unsigned d, unsigned a,
            unsigned imm); // store forms: d is the rm operand
// Three-operand forms whose result's low lane depends on b alone: no copy of a in legacy code.
void op3loi(X86 *x, Vop op, unsigned d, unsigned a, unsigned b, unsigned imm);
void shift_imm(X86 *x, Vop op, unsigned d, unsigned a, unsigned n);
static inline void op3(X86 *x, Vop op, unsigned d, unsigned a, unsigned b) {
    op3i(x, op, d, a, b, 0);
}
static inline void op3m(X86 *x, Vop op, unsigned d, unsigned a, VecRm m) {
    op3mi(x, op, d, a, m, 0);
}
static inline void op3k(X86 *x, Vop op, unsigned d, unsigned a, uint64_t lo, uint64_t hi) {
    op3mi(x, op, d, a, vliteral(x, lo, hi), 0);
}
static inline void op3lo(X86 *x, Vop op, unsigned d, unsigned a, unsigned b) {
    op3loi(x, op, d, a, b, 0);
}
static inline void op2(X86 *x, Vop op, unsigned d, unsigned a) {
    op2i(x, op, d, a, 0);
}
static inline void op2m(X86 *x, Vop op, unsigned d, VecRm m) {
    op2mi(x, op, d, m, 0);
}
static inline void op2st(X86 *x, Vop op, unsigned d, unsigned a) {
    op2sti(x, op, d, a, 0);
}
void vmov(X86 *x, unsigned d, unsigned a); // nothing when d == a
void vzero_reg(X86 *x, unsigned d);
void vones_reg(X86 *x, unsigned d);
void vconst_to(X86 *x, unsigned d, uint64_t lo, uint64_t hi);
unsigned vzero(X86 *x); // a temporary with zeros, with ones, with a constant
unsigned vones(X86 *x);
unsigned vconst_reg(X86 *x, uint64_t lo, uint64_t hi);
void test_any(X86 *x, unsigned m); // CC_NZ when any bit of a mask vector is set; not with AVX512
void kortest(X86 *x, unsigned k);  // CC_NZ when any bit of k is set

// The few general-register instructions that the selectors need.
void gmov32(X86 *x, unsigned d, unsigned a);
void gshr32(X86 *x, unsigned d, unsigned n);
void gshl32(X86 *x, unsigned d, unsigned n);
void gor32(X86 *x, unsigned d, unsigned a);
void gand32(X86 *x, unsigned d, unsigned a);
void gzext8(X86 *x, unsigned d);
void gconst(X86 *x, unsigned d, uint32_t value); // keeps the flags
void gset(X86 *x, unsigned cc, unsigned d);      // low byte only
void gcmov_const(X86 *x, unsigned cc, unsigned d, uint32_t value);
void gcmp_imm(X86 *x, bool is64, unsigned a, int imm8);
void gtest64(X86 *x, unsigned a);
static inline void cold_eval(X86 *x, const IrInst *in, unsigned cc, unsigned result) {
    cold_eval_at(x, cold_branch(x, in, cc), result);
}

// ---- shared sequences ----
void cmp_mask(X86 *x, unsigned L, bool is_unsigned, unsigned d, unsigned a, unsigned b,
              unsigned imm);
void blend_bits(X86 *x, unsigned d, unsigned m, unsigned a, unsigned b);
void shift_lanes(X86 *x, IrOp op, unsigned L, unsigned d, unsigned a, uint64_t n);
void splat_low(X86 *x, unsigned L, unsigned d, unsigned a);
void zero_above(X86 *x, unsigned bytes, unsigned d, unsigned a);
void widen(X86 *x, unsigned L, bool is_signed, bool high, unsigned d, unsigned a);
// or-parity.

// Whether the register that holds scalar v has zeros above it.
// Loads and stores of vectors and float scalars (zeros above the scalar); one access each. Storing
// F16 without SSE4.1 is left to the caller (false), through a general register.
void vec_load(X86 *x, IrType mem, unsigned d, VecRm m);
bool vec_store(X86 *x, IrType mem, unsigned a, VecRm m);

// ---- selectors ----
bool sel_vadd(X86 *, const IrInst *), sel_vsub(X86 *, const IrInst *),
    sel_vmul(X86 *, const IrInst *), sel_vmulh(X86 *, const IrInst *),
    sel_vneg(X86 *, const IrInst *), sel_vabs(X86 *, const IrInst *),
    sel_vminmax(X86 *, const IrInst *), sel_vlogic(X86 *, const IrInst *),
    sel_vnot(X86 *, const IrInst *), sel_bsl(X86 *, const IrInst *),
    sel_vcmp(X86 *, const IrInst *), sel_vshift(X86 *, const IrInst *),
    sel_vshift_imm(X86 *, const IrInst *), sel_vpopcnt(X86 *, const IrInst *),
    sel_vclz(X86 *, const IrInst *), sel_vrbit(X86 *, const IrInst *),
    sel_vsat(X86 *, const IrInst *), sel_vhalving(X86 *, const IrInst *),
    sel_vdot(X86 *, const IrInst *), sel_vmull(X86 *, const IrInst *),
    sel_clmul(X86 *, const IrInst *), sel_aes(X86 *, const IrInst *);
bool sel_splat(X86 *, const IrInst *), sel_vzext(X86 *, const IrInst *),
    sel_vget(X86 *, const IrInst *), sel_vset(X86 *, const IrInst *),
    sel_vlow(X86 *, const IrInst *), sel_vzip(X86 *, const IrInst *),
    sel_vuzp(X86 *, const IrInst *), sel_vtrn(X86 *, const IrInst *),
    sel_vext(X86 *, const IrInst *), sel_tbl(X86 *, const IrInst *),
    sel_vrev(X86 *, const IrInst *), sel_vwiden(X86 *, const IrInst *),
    sel_vtrunc(X86 *, const IrInst *), sel_vnarrow_sat(X86 *, const IrInst *);
bool sel_farith(X86 *, const IrInst *), sel_fsqrt(X86 *, const IrInst *),
    sel_fma(X86 *, const IrInst *), sel_fsign(X86 *, const IrInst *),
    sel_fminmax(X86 *, const IrInst *), sel_fcmp(X86 *, const IrInst *),
    sel_fl_fcmp(X86 *, const IrInst *), sel_vfcmp(X86 *, const IrInst *),
    sel_fcvt(X86 *, const IrInst *), sel_fround(X86 *, const IrInst *),
    sel_f2i(X86 *, const IrInst *), sel_i2f(X86 *, const IrInst *),
    sel_bitcast(X86 *, const IrInst *);

#endif
