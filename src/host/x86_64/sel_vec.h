// sel_vec.h - what the selectors of vector and floating-point ops share, and what they need of the
// core. Selectors are functions `bool sel_xxx(X86 *, const IrInst *)`; x86_sel_vec() is the switch.
//
// Contract with the core (the block "the core provides"):
//  - vuse/guse give the register of an operand and keep it there to the end of the instruction;
//    vdef/gdef give the result's, which may be that of an operand that dies here. The selectors
//    read all operands before they write a result, so that this is always right.
//  - vtmp/gtmp give registers free to the end of the instruction, never an operand's or the
//  result's.
//  - F32 and F64 (and F16 if type_in_xmm says so) live in lane 0 of an xmm register, upper lanes
//    unspecified; I1..I32 live in GPRs with the bits above them unspecified (guse_zext clears them,
//    selectors write I1..I32 zero-extended).
//  - loads and reloads of F32 and F64, and cold code, leave zeros above the scalar; moves between
//    xmm registers are of all 128 bits (see upper_zero).
//  - k1 and the host's flags are scratch within one instruction.
//  - cold_branch emits a never-taken jcc; cold_eval_at binds it: cold code runs ir_eval on `in`
//  with
//    the operands in the registers that vuse/guse gave, puts the result in `result` (xmm or GPR by
//    the instruction's type) and continues at the place where cold_eval_at was called.
// A selector that returns false has emitted nothing but reloads.
#ifndef DGM_HOST_X86_64_SEL_VEC_H
#define DGM_HOST_X86_64_SEL_VEC_H

#include "host/x86_64/emit_vec.h"
#include "ir/ir.h"

typedef struct X86 X86;

enum VecFeature {
    VF_SSSE3 = 1,
    VF_SSE41 = 2,
    VF_SSE42 = 4,
    VF_AVX = 8,
    VF_AVX2 = 16,
    VF_FMA = 32,
    VF_F16C = 64,
    VF_AVX512 = 128, // F, VL, BW, DQ, CD together
    VF_BITALG = 256, // and VPOPCNTDQ
    VF_VBMI = 512,
    VF_VNNI = 1024,
    VF_GFNI = 2048,
    VF_AES = 4096,
    VF_PCLMUL = 8192, // with VAES, VPCLMULQDQ when there is AVX512
};

typedef struct ColdSite {
    uint8_t *end; // of the jcc with its 32-bit displacement
} ColdSite;

// ---- the core provides ----
const IrRegion *x_region(const X86 *x);
uint32_t x_features(const X86 *x); // VecFeature bits
uint8_t **x_cursor(X86 *x);        // where the next byte goes; room for one instruction is there
unsigned vuse(X86 *x, IrRef v);
unsigned vdef(X86 *x, const IrInst *in);
unsigned vtmp(X86 *x);
unsigned guse(X86 *x, IrRef v);
unsigned guse_zext(X86 *x, IrRef v);
unsigned gdef(X86 *x, const IrInst *in);
unsigned gtmp(X86 *x);
bool type_in_xmm(const X86 *x, IrType scalar);
VecRm vliteral(X86 *x, uint64_t lo, uint64_t hi); // 16-byte aligned constant in memory
ColdSite cold_branch(X86 *x, unsigned cc);
void cold_eval_at(X86 *x, const IrInst *in, ColdSite site, unsigned result);

// ---- what this host has ----
static inline bool has_ssse3(const X86 *x) {
    return x_features(x) & VF_SSSE3;
}
static inline bool has_sse41(const X86 *x) {
    return x_features(x) & VF_SSE41;
}
static inline bool has_sse42(const X86 *x) {
    return x_features(x) & VF_SSE42;
}
static inline bool has_avx(const X86 *x) {
    return x_features(x) & VF_AVX;
}
static inline bool has_avx2(const X86 *x) {
    return x_features(x) & VF_AVX2;
}
static inline bool has_fma(const X86 *x) {
    return x_features(x) & VF_FMA;
}
static inline bool has_f16c(const X86 *x) {
    return x_features(x) & VF_F16C;
}
static inline bool has_avx512(const X86 *x) {
    return x_features(x) & VF_AVX512;
}
static inline bool has_bitalg(const X86 *x) {
    return x_features(x) & VF_BITALG;
}
static inline bool has_vbmi(const X86 *x) {
    return x_features(x) & VF_VBMI;
}
static inline bool has_vnni(const X86 *x) {
    return x_features(x) & VF_VNNI;
}
static inline bool has_gfni(const X86 *x) {
    return x_features(x) & VF_GFNI;
}
static inline bool has_aes(const X86 *x) {
    return x_features(x) & VF_AES;
}
static inline bool has_pclmul(const X86 *x) {
    return x_features(x) & VF_PCLMUL;
}
static inline bool is_xmm_scalar(const X86 *x, IrRef v) {
    return type_in_xmm(x, ir_type(x_region(x), v));
}
static inline unsigned lane_log2(IrType t) {
    return (unsigned)__builtin_ctz(ir_elem_bits(t) / 8);
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
enum {
    CC_O = 0,
    CC_B = 2,
    CC_AE = 3,
    CC_Z = 4,
    CC_NZ = 5,
    CC_BE = 6,
    CC_A = 7,
    CC_S = 8,
    CC_P = 10,
    CC_NP = 11
};
void gmov32(X86 *x, unsigned d, unsigned a);
void gshr32(X86 *x, unsigned d, unsigned n);
void gshl32(X86 *x, unsigned d, unsigned n);
void gor32(X86 *x, unsigned d, unsigned a);
void gand32(X86 *x, unsigned d, unsigned a);
void gzext8(X86 *x, unsigned d);
void gconst(X86 *x, unsigned d, uint32_t value); // keeps the flags
void gset(X86 *x, unsigned cc, unsigned d);      // low byte only
void gcmov(X86 *x, unsigned cc, unsigned d, unsigned a);
void gcmp_imm(X86 *x, bool is64, unsigned a, int imm8);
void gtest64(X86 *x, unsigned a);
static inline void cold_eval(X86 *x, const IrInst *in, unsigned cc, unsigned result) {
    cold_eval_at(x, in, cold_branch(x, cc), result);
}

// ---- shared sequences ----
void cmp_mask(X86 *x, unsigned L, bool is_unsigned, unsigned d, unsigned a, unsigned b,
              unsigned imm);
void blend_bits(X86 *x, unsigned d, unsigned m, unsigned a, unsigned b);
void shift_lanes(X86 *x, IrOp op, unsigned L, unsigned d, unsigned a, uint64_t n);
void splat_low(X86 *x, unsigned L, unsigned d, unsigned a);
void zero_above(X86 *x, unsigned bytes, unsigned d, unsigned a);
void widen(X86 *x, unsigned L, bool is_signed, bool high, unsigned d, unsigned a);
// Compares for a scalar fcmp and returns the host condition; *parity: 1 and-not-parity, 2
// or-parity.
unsigned fcmp_flags(X86 *x, const IrInst *in, unsigned *parity);

// Whether the register that holds scalar v has zeros above it.
bool upper_zero(const X86 *x, IrRef v);
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

// Selects one instruction that has a vector or float operand or result. False: the evaluator shall.
bool x86_sel_vec(X86 *x, const IrInst *in);

#endif
