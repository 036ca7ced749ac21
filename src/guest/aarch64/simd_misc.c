// simd_misc.c - "Advanced SIMD two-register miscellaneous", its scalar forms, and "across lanes".
#include "guest/aarch64/simd.h"

static Shape shape_of(unsigned size, unsigned q, bool scalar) {
    return scalar ? shape_scalar(int_elem(size)) : shape_vec(int_elem(size), q);
}

// ---- bits and bytes ----

// REV64, REV32, REV16 Vd.T, Vn.T: group is that many bytes
bool lift_simd_rev(Lift *l, const Args_simd_rev *a) {
    Shape s = shape_vec(int_elem(a->size), a->q);
    v_put(l, a->rd, v_imm(l, IR_vrev, s.t, v_get(l, a->rn), a->group), s);
    return true;
}

// CLZ, CLS Vd.T, Vn.T
bool lift_clz_v(Lift *l, const Args_clz_v *a) {
    Shape s = shape_vec(int_elem(a->size), a->q);
    v_put(l, a->rd, v1(l, IR_clz, s, v_get(l, a->rn)), s);
    return true;
}
bool lift_cls_v(Lift *l, const Args_cls_v *a) {
    Shape s = shape_vec(int_elem(a->size), a->q);
    IrRef n = v_get(l, a->rn); // leading bits equal to the next lower one
    IrRef differ = v2(l, IR_xor, s, n, v_imm(l, IR_sari, s.t, n, 1));
    IrRef one = v_splat_const(l, s.t, 1);
    v_put(l, a->rd, v2(l, IR_sub, s, v1(l, IR_clz, s, differ), one), s);
    return true;
}

// CNT, NOT (MVN), RBIT Vd.8B or 16B
static bool bytes_op(Lift *l, IrOp op, unsigned q, unsigned rd, unsigned rn) {
    Shape s = shape_vec(IR_I8, q);
    v_put(l, rd, v1(l, op, s, v_get(l, rn)), s);
    return true;
}
bool lift_cnt_v(Lift *l, const Args_cnt_v *a) {
    return bytes_op(l, IR_popcnt, a->q, a->rd, a->rn);
}
bool lift_not_v(Lift *l, const Args_not_v *a) {
    return bytes_op(l, IR_not, a->q, a->rd, a->rn);
}
bool lift_rbit_v(Lift *l, const Args_rbit_v *a) {
    return bytes_op(l, IR_rbit, a->q, a->rd, a->rn);
}

// ---- arithmetic ----

// ABS, NEG
static bool abs_neg(Lift *l, Shape s, unsigned rd, unsigned rn) {
    IrOp op = bits_get(l->insn, 29, 1) ? IR_neg : IR_abs;
    v_put(l, rd, v1(l, op, s, v_get(l, rn)), s);
    return true;
}
bool lift_simd_abs_neg(Lift *l, const Args_simd_abs_neg *a) {
    return abs_neg(l, shape_of(a->size, a->q, a->scalar), a->rd, a->rn);
}

// SQABS, SQNEG: only the most negative value saturates
bool lift_simd_sqabs_neg(Lift *l, const Args_simd_sqabs_neg *a) {
    Shape s = shape_of(a->size, a->q, a->scalar);
    IrRef n = v_get(l, a->rn), v, wrapped;
    if (bits_get(l->insn, 29, 1)) {
        wrapped = v1(l, IR_neg, s, n);
        v = v2(l, IR_sqsub, s, v_zero(l, s.t), n);
    } else {
        wrapped = v1(l, IR_abs, s, n);
        v = v2(l, IR_umin, s, wrapped, v_splat_const(l, s.t, bits_mask(shape_esize(s) - 1)));
    }
    v_put(l, a->rd, v_saturated(l, s, v, wrapped), s);
    return true;
}

// SUQADD, USQADD Vd, Vn: Vn has the other signedness
bool lift_simd_mixed_qadd(Lift *l, const Args_simd_mixed_qadd *a) {
    Shape s = shape_of(a->size, a->q, a->scalar);
    uint64_t imm = a->size | (bits_get(l->insn, 29, 1) ? 0 : SIMD_SIGNED);
    IrRef v = v_call_qc(l, &simd_mixed_qadd, s, v_get(l, a->rd), v_get(l, a->rn), 0, imm);
    v_put(l, a->rd, v, s);
    return true;
}

// Sums of adjacent lanes in lanes twice as wide.
static IrRef pairs_long(Lift *l, Shape s, IrRef v, unsigned is_unsigned) {
    IrType wide = type_wider(s.t);
    unsigned e = shape_esize(s);
    IrOp shift = is_unsigned ? IR_shri : IR_sari;
    IrRef even = v_imm(l, shift, wide, v_imm(l, IR_shli, wide, v, e), e);
    return ir_op2(l->r, IR_add, wide, even, v_imm(l, shift, wide, v, e));
}

// SADDLP, UADDLP, SADALP, UADALP Vd.Ta, Vn.Tb
bool lift_simd_pair_long(Lift *l, const Args_simd_pair_long *a) {
    Shape s = shape_vec(int_elem(a->size), a->q);
    IrRef v = pairs_long(l, s, v_get(l, a->rn), bits_get(l->insn, 29, 1));
    if (a->acc) v = ir_op2(l->r, IR_add, type_wider(s.t), v_get(l, a->rd), v);
    v_put(l, a->rd, v, s);
    return true;
}

// CMGT, CMGE, CMEQ, CMLE, CMLT Vd, Vn, #0
bool lift_simd_cmp_zero(Lift *l, const Args_simd_cmp_zero *a) {
    static const IrCc ccs[] = {IR_SGT, IR_SGE, IR_EQ, IR_SLE, IR_SLT};
    IrCc cc = ccs[bits_get(l->insn, 12, 2) << 1 | bits_get(l->insn, 29, 1)];
    Shape s = shape_of(a->size, a->q, a->scalar);
    v_put(l, a->rd, v_cmp(l, s, cc, v_get(l, a->rn), v_zero(l, s.t)), s);
    return true;
}

// XTN, SQXTN, SQXTUN, UQXTN and the same with "2"
bool lift_simd_narrow(Lift *l, const Args_simd_narrow *a) {
    Shape s = a->scalar ? shape_scalar(int_elem(a->size)) : shape_vec(int_elem(a->size), 0);
    IrRef n = v_get(l, a->rn), v;
    unsigned u = bits_get(l->insn, 29, 1), saturating = bits_get(l->insn, 14, 1);
    if (u || saturating) {
        IrOp op = !u ? IR_vsqxtn : saturating ? IR_vuqxtn : IR_vsqxtun;
        v = v_narrow_saturated(l, op, s, n);
    } else {
        v = v2(l, IR_vtrunc, s, n, n);
    }
    if (a->scalar)
        v_put(l, a->rd, v, s);
    else
        v_put_narrow(l, a->rd, v, a->q);
    return true;
}

// SHLL Vd.Ta, Vn.Tb, #width
bool lift_shll(Lift *l, const Args_shll *a) {
    IrType wide = ir_vec_of(int_elem(a->size + 1));
    IrRef v = ir_op1(l->r, a->q ? IR_vzexth : IR_vzextl, wide, v_get(l, a->rn));
    lift_put_v(l, a->rd, v_imm(l, IR_shli, wide, v, 8u << a->size));
    return true;
}

// URECPE, URSQRTE Vd.T, Vn.T
bool lift_simd_int_estimate(Lift *l, const Args_simd_int_estimate *a) {
    const IrHelper *h = bits_get(l->insn, 29, 1) ? &simd_ursqrte : &simd_urecpe;
    v_put(l, a->rd, v_call(l, h, v_get(l, a->rn), 0, 0, 0), shape_vec(IR_I32, a->q));
    return true;
}

// ---- floating point. Rows give `scalar`, and `half` for the FP16 forms (which have no sz). ----

static Shape fp_shape(unsigned sz, unsigned q, bool scalar, bool half) {
    IrElem e = half ? IR_F16 : fp_elem(2 + sz);
    return scalar ? shape_scalar(e) : shape_vec(e, q);
}

// FABS, FNEG Vd.T, Vn.T
bool lift_simd_fp_abs_neg(Lift *l, const Args_simd_fp_abs_neg *a) {
    Shape s = fp_shape(a->sz, a->q, false, a->half);
    IrOp op = bits_get(l->insn, 29, 1) ? IR_fneg : IR_fabs;
    v_put(l, a->rd, v1(l, op, s, v_get(l, a->rn)), s);
    return true;
}

// FSQRT Vd.T, Vn.T
bool lift_fsqrt_v(Lift *l, const Args_fsqrt_v *a) {
    Shape s = fp_shape(a->sz, a->q, false, a->half);
    v_put(l, a->rd, v1(l, IR_fsqrt, s, fv_get(l, a->rn, s)), s);
    return true;
}

// FCMGT, FCMGE, FCMEQ, FCMLE, FCMLT Vd, Vn, #0.0
bool lift_simd_fp_cmp_zero(Lift *l, const Args_simd_fp_cmp_zero *a) {
    static const IrFcc ccs[] = {IR_OGT, IR_OGE, IR_OEQ, IR_OLE, IR_OLT};
    IrFcc cc = ccs[bits_get(l->insn, 12, 2) << 1 | bits_get(l->insn, 29, 1)];
    Shape s = fp_shape(a->sz, a->q, a->scalar, a->half);
    IrRef n = fv_get(l, a->rn, s);
    IrRef v = ir_emit(l->r, IR_vfcmp, s.t, n, v_zero(l, s.t), 0, cc, cc != IR_OEQ, 0);
    v_put(l, a->rd, v, s);
    return true;
}

// FRINTN, P, M, Z, A, X, I Vd.T, Vn.T; rm is an IrRm, exact: raise inexact
bool lift_simd_fp_round(Lift *l, const Args_simd_fp_round *a) {
    Shape s = fp_shape(a->sz, a->q, false, a->half);
    IrRef v = ir_emit(l->r, IR_fround, s.t, fv_get(l, a->rn, s), 0, 0, a->rm, a->exact, 0);
    v_put(l, a->rd, v, s);
    return true;
}

// FRINT32Z, FRINT32X, FRINT64Z, FRINT64X Vd.T, Vn.T (FEAT_FRINTTS)
bool lift_simd_fp_round_n(Lift *l, const Args_simd_fp_round_n *a) {
    Shape s = fp_shape(a->sz, a->q, false, false);
    uint64_t imm = shape_size(s) | shape_lanes(s) << SIMD_LANES_SHIFT |
                   (bits_get(l->insn, 29, 1) ? SIMD_ROUND : 0) |
                   (bits_get(l->insn, 12, 1) ? SIMD_SIGNED : 0);
    v_put(l, a->rd, v_call(l, &simd_frint_n, v_get(l, a->rn), 0, 0, imm), s);
    return true;
}

// FCVTNS and all its kin between lanes of the same width; rm is an IrRm
bool lift_simd_fp_to_int(Lift *l, const Args_simd_fp_to_int *a) {
    Shape s = fp_shape(a->sz, a->q, a->scalar, a->half);
    IrOp op = bits_get(l->insn, 29, 1) ? IR_f2u : IR_f2s;
    IrType t = ir_vec_of(int_elem(shape_size(s)));
    v_put(l, a->rd, ir_emit(l->r, op, t, fv_get(l, a->rn, s), 0, 0, a->rm, 0, 0), s);
    return true;
}

// SCVTF, UCVTF
bool lift_simd_int_to_fp(Lift *l, const Args_simd_int_to_fp *a) {
    Shape s = fp_shape(a->sz, a->q, a->scalar, a->half);
    IrOp op = bits_get(l->insn, 29, 1) ? IR_u2f : IR_s2f;
    v_put(l, a->rd, v1(l, op, s, fv_get(l, a->rn, s)), s);
    return true;
}

// Conversions between lanes of two widths; the IR wants the source's width in imm.
// FCVTL, FCVTL2 Vd.Ta, Vn.Tb
bool lift_fcvtl(Lift *l, const Args_fcvtl *a) {
    IrType wide = ir_vec_of(fp_elem(2 + a->sz));
    IrRef n = v_get(l, a->rn);
    lift_put_v(l, a->rd, ir_emit(l->r, IR_fcvt, wide, n, 0, 0, a->q, 0, ir_elem_bits(wide) / 2));
    return true;
}

// FCVTN, FCVTN2, FCVTXN, FCVTXN2 Vd.Tb, Vn.Ta
bool lift_simd_fp_narrow(Lift *l, const Args_simd_fp_narrow *a) {
    IrType narrow = ir_vec_of(fp_elem(1 + a->sz));
    unsigned odd = bits_get(l->insn, 29, 1);
    IrRef v =
        ir_emit(l->r, IR_fcvt, narrow, v_get(l, a->rn), 0, 0, 0, odd, ir_elem_bits(narrow) * 2);
    v_put_narrow(l, a->rd, v, a->q);
    return true;
}

// FCVTXN Sd, Dn
bool lift_fcvtxn_scalar(Lift *l, const Args_fcvtxn_scalar *a) {
    s_put(l, a->rd, ir_emit(l->r, IR_fcvt, IR_F32, s_get(l, a->rn, IR_F64), 0, 0, 0, 1, 0));
    return true;
}

// FRECPE, FRSQRTE, FRECPX
static bool estimate(Lift *l, const IrHelper *h, Shape s, unsigned rd, unsigned rn) {
    uint64_t imm = shape_size(s) | shape_lanes(s) << SIMD_LANES_SHIFT;
    v_put(l, rd, v_call(l, h, v_get(l, rn), 0, 0, imm), s);
    return true;
}
bool lift_simd_fp_estimate(Lift *l, const Args_simd_fp_estimate *a) {
    const IrHelper *h = bits_get(l->insn, 29, 1) ? &simd_frsqrte : &simd_frecpe;
    return estimate(l, h, fp_shape(a->sz, a->q, a->scalar, a->half), a->rd, a->rn);
}
bool lift_frecpx(Lift *l, const Args_frecpx *a) {
    return estimate(l, &simd_frecpx, fp_shape(a->sz, 0, true, a->half), a->rd, a->rn);
}

// ---- across lanes ----

// All lanes that count into lane 0 by halving; for ops where order does not matter.
static IrRef across(Lift *l, Shape s, IrOp op, IrRef v) {
    for (unsigned bytes = s.bits / 16; bytes >= shape_esize(s) / 8; bytes /= 2)
        v = v2(l, op, s, v, ir_emit(l->r, IR_vext, IR_I8X16, v, v, 0, 0, 0, bytes));
    return v;
}

// ADDV, SMAXV, UMAXV, SMINV, UMINV Vd, Vn.T
bool lift_simd_across(Lift *l, const Args_simd_across *a) {
    static const IrOp ops[] = {IR_smax, IR_umax, IR_smin, IR_umin, IR_add, IR_add};
    unsigned kind = bits_get(l->insn, 12, 1) ? 2 : bits_get(l->insn, 16, 1);
    Shape s = shape_vec(int_elem(a->size), a->q);
    IrRef v = across(l, s, ops[kind << 1 | bits_get(l->insn, 29, 1)], v_get(l, a->rn));
    v_put(l, a->rd, v, shape_scalar(int_elem(a->size)));
    return true;
}

// SADDLV, UADDLV Vd, Vn.T
bool lift_simd_across_long(Lift *l, const Args_simd_across_long *a) {
    Shape s = shape_vec(int_elem(a->size), a->q), wide = shape_as(s, int_elem(a->size + 1));
    IrRef v = pairs_long(l, s, v_get(l, a->rn), bits_get(l->insn, 29, 1));
    v_put(l, a->rd, across(l, wide, IR_add, v), shape_scalar(int_elem(a->size + 1)));
    return true;
}

// FMAXV, FMINV, FMAXNMV, FMINNMV Vd, Vn.T: adjacent pairs first, which decides among NaNs
bool lift_simd_fp_across(Lift *l, const Args_simd_fp_across *a) {
    static const IrOp ops[] = {IR_fmaxnum, IR_fminnum, IR_fmax, IR_fmin};
    IrOp op = ops[bits_get(l->insn, 13, 1) << 1 | bits_get(l->insn, 23, 1)];
    Shape s = fp_shape(0, a->q, false, a->half);
    IrRef v = v_doubled(l, v_get(l, a->rn), s);
    for (unsigned lanes = shape_lanes(s); lanes > 1; lanes /= 2)
        v = v2(l, op, s, v2(l, IR_uzpe, s, v, v), v2(l, IR_uzpo, s, v, v));
    v_put(l, a->rd, v, shape_scalar(ir_elem(s.t)));
    return true;
}
