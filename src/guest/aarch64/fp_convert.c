// fp_convert.c - scalar conversions: between floating-point types, to and from general registers as
// integers and fixed point, and FMOV that carries bits between the register files.
#include "guest/aarch64/simd.h"

static bool fp_type(const Lift *l, unsigned ftype, IrType *t) {
    static const IrType types[] = {IR_F32, IR_F64, IR_VOID, IR_F16};
    *t = types[ftype];
    return ftype != 2 && (ftype != 3 || lift_has(l, A64_FEAT(fp16)));
}

// FCVT Vd, Vn: between half, single and double (half needs no FEAT_FP16 here)
bool lift_fcvt(Lift *l, const Args_fcvt *a) {
    static const IrType types[] = {IR_F32, IR_F64, IR_VOID, IR_F16};
    IrRef n = s_get(l, a->rn, types[a->ftype]);
    s_put(l, a->rd, ir_op1(l->r, IR_fcvt, types[a->opc], n));
    return true;
}

// FCVTNS, NU, PS, PU, MS, MU, ZS, ZU, AS, AU Rd, Vn; rm is an IrRm
bool lift_fcvt_to_int(Lift *l, const Args_fcvt_to_int *a) {
    IrType t;
    if (!fp_type(l, a->ftype, &t)) return false;
    IrOp op = bits_get(l->insn, 16, 1) ? IR_f2u : IR_f2s;
    IrRef v = ir_emit(l->r, op, lift_type(a->sf), s_get(l, a->rn, t), 0, 0, a->rm, 0, 0);
    lift_put_reg(l, a->rd, v);
    return true;
}

// FCVTZS, FCVTZU Rd, Vn, #fbits
bool lift_fcvt_to_fixed(Lift *l, const Args_fcvt_to_fixed *a) {
    IrType t;
    if (!fp_type(l, a->ftype, &t)) return false;
    IrOp op = bits_get(l->insn, 16, 1) ? IR_f2u : IR_f2s;
    IrRef v =
        ir_emit(l->r, op, lift_type(a->sf), s_get(l, a->rn, t), 0, 0, IR_RM_ZERO, 0, 64 - a->scale);
    lift_put_reg(l, a->rd, v);
    return true;
}

// SCVTF, UCVTF Vd, Rn
bool lift_cvtf_int(Lift *l, const Args_cvtf_int *a) {
    IrType t;
    if (!fp_type(l, a->ftype, &t)) return false;
    IrOp op = bits_get(l->insn, 16, 1) ? IR_u2f : IR_s2f;
    s_put(l, a->rd, ir_op1(l->r, op, t, lift_reg(l, lift_type(a->sf), a->rn)));
    return true;
}

// SCVTF, UCVTF Vd, Rn, #fbits
bool lift_cvtf_fixed(Lift *l, const Args_cvtf_fixed *a) {
    IrType t;
    if (!fp_type(l, a->ftype, &t)) return false;
    IrOp op = bits_get(l->insn, 16, 1) ? IR_u2f : IR_s2f;
    IrRef n = lift_reg(l, lift_type(a->sf), a->rn);
    s_put(l, a->rd, ir_emit(l->r, op, t, n, 0, 0, 0, 0, 64 - a->scale));
    return true;
}

// FMOV Rd, Vn and Vd, Rn: bits; size 1 half, 2 single, 3 double
bool lift_fmov_to_general(Lift *l, const Args_fmov_to_general *a) {
    lift_put_reg(l, a->rd, s_get(l, a->rn, int_elem(a->size)));
    return true;
}
bool lift_fmov_from_general(Lift *l, const Args_fmov_from_general *a) {
    s_put(l, a->rd, lift_reg(l, int_elem(a->size), a->rn));
    return true;
}

// FMOV Xd, Vn.D[1]; FMOV Vd.D[1], Xn
bool lift_fmov_top_to_general(Lift *l, const Args_fmov_top_to_general *a) {
    lift_put_reg(l, a->rd, v_lane(l, IR_I64, v_get(l, a->rn), 1));
    return true;
}
bool lift_fmov_top_from_general(Lift *l, const Args_fmov_top_from_general *a) {
    lift_put_v(l, a->rd, v_set_lane(l, IR_I64X2, v_get(l, a->rd), 1, lift_x(l, a->rn)));
    return true;
}

// FJCVTZS Wd, Dn (FEAT_JSCVT): Z says that the conversion was exact
bool lift_fjcvtzs(Lift *l, const Args_fjcvtzs *a) {
    IrRef args[] = {s_get(l, a->rn, IR_I64)};
    IrRef v = ir_call(l->r, IR_I64, &fp_jcvtzs, 1, args, 0);
    IrRef z = ir_op1(l->r, IR_trunc, IR_I32, ir_shr(l->r, v, lift_i64(l, 32)));
    lift_put_reg(l, a->rd, ir_op1(l->r, IR_trunc, IR_I32, v));
    lift_put_flags(l, ir_op1(l->r, IR_fl_pack, IR_FLAGS, ir_shl(l->r, z, lift_i32(l, 30))));
    return true;
}
