// fp_scalar.c - scalar floating point: one, two and three sources, comparison, select, immediate.
// (Conversions and moves to general registers are in fp_convert.c.) ftype is the manual's: 0
// single, 1 double, 3 half. Rows exclude 2; half needs FEAT_FP16, but for FMOV-like moves of bits.
#include "guest/aarch64/simd.h"

// False when the CPU lacks the type.
static bool fp_type(const Lift *l, unsigned ftype, IrType *t) {
    static const IrType types[] = {IR_F32, IR_F64, IR_VOID, IR_F16};
    *t = types[ftype];
    return ftype != 2 && (ftype != 3 || lift_has(l, A64_FEAT(fp16)));
}

// FMUL, FDIV, FADD, FSUB, FMAX, FMIN, FMAXNM, FMINNM, FNMUL Vd, Vn, Vm
bool lift_fp_two(Lift *l, const Args_fp_two *a) {
    static const IrOp ops[] = {IR_fmul, IR_fdiv,    IR_fadd,    IR_fsub, IR_fmax,
                               IR_fmin, IR_fmaxnum, IR_fminnum, IR_fmul};
    IrType t;
    if (!fp_type(l, a->ftype, &t)) return false;
    unsigned opcode = bits_get(l->insn, 12, 4);
    IrRef v = ir_op2(l->r, ops[opcode], t, s_get(l, a->rn, t), s_get(l, a->rm, t));
    s_put(l, a->rd, opcode == 8 ? ir_fneg(l->r, v) : v);
    return true;
}

// FMADD, FMSUB, FNMADD, FNMSUB Vd, Vn, Vm, Va: inputs are negated, never the result
bool lift_fp_three(Lift *l, const Args_fp_three *a) {
    IrType t;
    if (!fp_type(l, a->ftype, &t)) return false;
    unsigned o1 = bits_get(l->insn, 21, 1), o0 = bits_get(l->insn, 15, 1);
    IrRef n = s_get(l, a->rn, t), m = s_get(l, a->rm, t), acc = s_get(l, a->ra, t);
    if (o1) acc = ir_fneg(l->r, acc);
    if (o0 != o1) n = ir_fneg(l->r, n);
    s_put(l, a->rd, ir_op3(l->r, IR_fma, t, n, m, acc));
    return true;
}

// FMOV, FABS, FNEG, FSQRT Vd, Vn
bool lift_fp_one(Lift *l, const Args_fp_one *a) {
    IrType t;
    if (!fp_type(l, a->ftype, &t)) return false;
    IrRef v = s_get(l, a->rn, t);
    switch (bits_get(l->insn, 15, 2)) {
    case 1: v = ir_fabs(l->r, v); break;
    case 2: v = ir_fneg(l->r, v); break;
    case 3: v = ir_op1(l->r, IR_fsqrt, t, v); break;
    default: break;
    }
    s_put(l, a->rd, v);
    return true;
}

// FRINTN, P, M, Z, A, X, I Vd, Vn; rm is an IrRm, exact: raise inexact
bool lift_fp_round(Lift *l, const Args_fp_round *a) {
    IrType t;
    if (!fp_type(l, a->ftype, &t)) return false;
    IrRef v = ir_emit(l->r, IR_fround, t, s_get(l, a->rn, t), 0, 0, a->rm, a->exact, 0);
    s_put(l, a->rd, v);
    return true;
}

// FRINT32Z, FRINT32X, FRINT64Z, FRINT64X Vd, Vn (FEAT_FRINTTS)
bool lift_fp_round_n(Lift *l, const Args_fp_round_n *a) {
    Shape s = shape_scalar(a->ftype ? IR_F64 : IR_F32);
    uint64_t imm = shape_size(s) | 1 << SIMD_LANES_SHIFT |
                   (bits_get(l->insn, 15, 1) ? SIMD_ROUND : 0) |
                   (bits_get(l->insn, 16, 1) ? SIMD_SIGNED : 0);
    v_put(l, a->rd, v_call(l, &simd_frint_n, v_get(l, a->rn), 0, 0, imm), s);
    return true;
}

// FCMP, FCMPE Vn, Vm or #0.0
bool lift_fcmp(Lift *l, const Args_fcmp *a) {
    IrType t;
    if (!fp_type(l, a->ftype, &t)) return false;
    IrRef m = a->zero ? ir_const(l->r, t, 0) : s_get(l, a->rm, t);
    lift_put_flags(l, ir_emit(l->r, IR_fl_fcmp, IR_FLAGS, s_get(l, a->rn, t), m, 0, a->e, 0, 0));
    return true;
}

// FCCMP, FCCMPE Vn, Vm, #nzcv, cond. When cond is false 0 is compared with 0, so that nothing is
// raised.
bool lift_fccmp(Lift *l, const Args_fccmp *a) {
    IrType t;
    if (!fp_type(l, a->ftype, &t)) return false;
    IrRef n = s_get(l, a->rn, t), m = s_get(l, a->rm, t);
    IrRef cond = lift_cond(l, a->cond), zero = ir_const(l->r, t, 0);
    n = ir_select(l->r, cond, n, zero);
    m = ir_select(l->r, cond, m, zero);
    IrRef flags = ir_emit(l->r, IR_fl_fcmp, IR_FLAGS, n, m, 0, a->e, 0, 0);
    lift_put_flags(l, ir_select(l->r, cond, flags, lift_nzcv(l, a->nzcv)));
    return true;
}

// FCSEL Vd, Vn, Vm, cond
bool lift_fcsel(Lift *l, const Args_fcsel *a) {
    IrType t;
    if (!fp_type(l, a->ftype, &t)) return false;
    IrRef n = s_get(l, a->rn, t), m = s_get(l, a->rm, t);
    s_put(l, a->rd, ir_select(l->r, lift_cond(l, a->cond), n, m));
    return true;
}

uint64_t fp_expand_imm(unsigned size, unsigned imm8) {
    static const uint8_t exp_bits[] = {0, 5, 8, 11}, frac_bits[] = {0, 10, 23, 52};
    unsigned e = exp_bits[size], f = frac_bits[size];
    uint64_t b6 = imm8 >> 6 & 1; // exponent: NOT b6, b6 ..., imm8<5:4>
    uint64_t exp = (b6 ^ 1) << (e - 1) | (b6 ? bits_mask(e - 3) << 2 : 0) | (imm8 >> 4 & 3);
    return (uint64_t)(imm8 >> 7) << (e + f) | exp << f | (uint64_t)(imm8 & 15) << (f - 4);
}

// FMOV Vd, #imm
bool lift_fmov_imm(Lift *l, const Args_fmov_imm *a) {
    static const uint8_t sizes[] = {2, 3, 0, 1};
    IrType t;
    if (!fp_type(l, a->ftype, &t)) return false;
    lift_put_v(l, a->rd, ir_vconst(l->r, IR_V128, fp_expand_imm(sizes[a->ftype], a->imm8), 0));
    return true;
}
