// simd_diff.c - "Advanced SIMD three different": operands and result of different widths (long,
// wide, narrow high), with the scalar SQDMULL family. The forms without "2" use the low halves of
// their narrow operands or write the low half of the destination; the "2" forms (Q = 1) the high.
#include "guest/aarch64/simd.h"

// A narrow operand's half in wide lanes.
static IrRef widen(Lift *l, IrType wide, IrRef v, unsigned high, unsigned is_unsigned) {
    static const IrOp ops[] = {IR_vsextl, IR_vzextl, IR_vsexth, IR_vzexth};
    return ir_op1(l->r, ops[high << 1 | is_unsigned], wide, v);
}

static IrOp product_op(unsigned high, unsigned is_unsigned) {
    static const IrOp ops[] = {IR_vsmull, IR_vumull, IR_vsmull2, IR_vumull2};
    return ops[high << 1 | is_unsigned];
}

// SADDL, UADDL, SSUBL, USUBL Vd.Ta, Vn.Tb, Vm.Tb; SADDW.. Vd.Ta, Vn.Ta, Vm.Tb
bool lift_simd_add_long(Lift *l, const Args_simd_add_long *a) {
    IrType wide = ir_vec_of(int_elem(a->size + 1));
    IrRef n = v_get(l, a->rn), m = widen(l, wide, v_get(l, a->rm), a->q, a->u);
    if (!a->wide) n = widen(l, wide, n, a->q, a->u);
    lift_put_v(l, a->rd, ir_op2(l->r, a->sub ? IR_sub : IR_add, wide, n, m));
    return true;
}

// SABDL, UABDL, SABAL, UABAL
bool lift_simd_abd_long(Lift *l, const Args_simd_abd_long *a) {
    IrType wide = ir_vec_of(int_elem(a->size + 1));
    IrRef n = widen(l, wide, v_get(l, a->rn), a->q, a->u);
    IrRef m = widen(l, wide, v_get(l, a->rm), a->q, a->u);
    IrRef v = ir_op1(l->r, IR_abs, wide, ir_op2(l->r, IR_sub, wide, n, m));
    lift_put_v(l, a->rd, a->acc ? ir_op2(l->r, IR_add, wide, v_get(l, a->rd), v) : v);
    return true;
}

// acc 0: n * m, 1: d + n * m, 2: d - n * m
static void mul_long(Lift *l, unsigned size, unsigned high, unsigned u, unsigned acc, unsigned rd,
                     IrRef n, IrRef m) {
    IrType wide = ir_vec_of(int_elem(size + 1));
    IrRef v = ir_op2(l->r, product_op(high, u), wide, n, m);
    if (acc) v = ir_op2(l->r, acc == 1 ? IR_add : IR_sub, wide, v_get(l, rd), v);
    lift_put_v(l, rd, v);
}

// The same doubled and saturated; s is the wide shape.
static void sqdmul_long(Lift *l, Shape s, unsigned high, unsigned acc, unsigned rd, IrRef n,
                        IrRef m) {
    IrRef v = simd_sqdmull(l, s, n, m, high);
    if (acc) {
        IrRef d = v_get(l, rd);
        v = v_saturated(l, s, v2(l, acc == 1 ? IR_sqadd : IR_sqsub, s, d, v),
                        v2(l, acc == 1 ? IR_add : IR_sub, s, d, v));
    }
    v_put(l, rd, v, s);
}

// SMULL, UMULL, SMLAL, UMLAL, SMLSL, UMLSL
bool lift_simd_mul_long(Lift *l, const Args_simd_mul_long *a) {
    mul_long(l, a->size, a->q, a->u, a->acc, a->rd, v_get(l, a->rn), v_get(l, a->rm));
    return true;
}

// SQDMULL, SQDMLAL, SQDMLSL
bool lift_simd_sqdmul_long(Lift *l, const Args_simd_sqdmul_long *a) {
    sqdmul_long(l, shape_vec(int_elem(a->size + 1), 1), a->q, a->acc, a->rd, v_get(l, a->rn),
                v_get(l, a->rm));
    return true;
}

bool lift_simd_sqdmul_long_scalar(Lift *l, const Args_simd_sqdmul_long_scalar *a) {
    sqdmul_long(l, shape_scalar(int_elem(a->size + 1)), 0, a->acc, a->rd, v_get(l, a->rn),
                v_get(l, a->rm));
    return true;
}

// Lane index of Vm in every lane; size 1 or 2. Halves have 16 registers only.
static IrRef element(Lift *l, unsigned size, unsigned h, unsigned lo, unsigned m, unsigned rm) {
    unsigned index = size == 1 ? h << 2 | lo << 1 | m : h << 1 | lo;
    return v_everywhere(l, size, v_get(l, size == 1 ? rm : m << 4 | rm), index);
}

// SMULL... Vd.Ta, Vn.Tb, Vm.Ts[index]
bool lift_simd_mul_long_element(Lift *l, const Args_simd_mul_long_element *a) {
    mul_long(l, a->size, a->q, a->u, a->acc, a->rd, v_get(l, a->rn),
             element(l, a->size, a->h, a->l, a->m, a->rm));
    return true;
}

bool lift_simd_sqdmul_long_element(Lift *l, const Args_simd_sqdmul_long_element *a) {
    sqdmul_long(l, shape_vec(int_elem(a->size + 1), 1), a->q, a->acc, a->rd, v_get(l, a->rn),
                element(l, a->size, a->h, a->l, a->m, a->rm));
    return true;
}

bool lift_simd_sqdmul_long_element_scalar(Lift *l, const Args_simd_sqdmul_long_element_scalar *a) {
    sqdmul_long(l, shape_scalar(int_elem(a->size + 1)), 0, a->acc, a->rd, v_get(l, a->rn),
                element(l, a->size, a->h, a->l, a->m, a->rm));
    return true;
}

// PMULL Vd.8H, Vn.8B, Vm.8B; PMULL2 ... 16B
bool lift_pmull_8(Lift *l, const Args_pmull_8 *a) {
    IrRef n = v_get(l, a->rn), m = v_get(l, a->rm);
    if (a->q) {
        n = ir_emit(l->r, IR_vext, IR_I8X16, n, n, 0, 0, 0, 8);
        m = ir_emit(l->r, IR_vext, IR_I8X16, m, m, 0, 0, 0, 8);
    }
    lift_put_v(l, a->rd, v_call(l, &simd_pmull8, n, m, 0, 0));
    return true;
}

// PMULL Vd.1Q, Vn.1D, Vm.1D; PMULL2 ... 2D (FEAT_PMULL)
bool lift_pmull_64(Lift *l, const Args_pmull_64 *a) {
    IrRef n = v_get(l, a->rn), m = v_get(l, a->rm);
    lift_put_v(l, a->rd, ir_emit(l->r, IR_clmul, IR_I64X2, n, m, 0, 0, 0, a->q ? 3 : 0));
    return true;
}

// ADDHN, SUBHN, RADDHN, RSUBHN Vd.Tb, Vn.Ta, Vm.Ta: the high halves of the lanes' sums
bool lift_simd_narrow_high(Lift *l, const Args_simd_narrow_high *a) {
    IrType wide = ir_vec_of(int_elem(a->size + 1)), narrow = ir_vec_of(int_elem(a->size));
    IrRef v = ir_op2(l->r, a->sub ? IR_sub : IR_add, wide, v_get(l, a->rn), v_get(l, a->rm));
    if (a->round)
        v = ir_op2(l->r, IR_add, wide, v,
                   v_splat_const(l, wide, 1ull << (ir_elem_bits(narrow) - 1)));
    v_put_narrow(l, a->rd, ir_op2(l->r, IR_uzpo, narrow, v, v), a->q);
    return true;
}
