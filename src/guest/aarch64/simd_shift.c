// simd_shift.c - "Advanced SIMD shift by immediate" and its scalar forms. immh's highest set bit is
// the element size; immh:immb counts right shifts down from twice the width, left shifts up from
// it.
#include "guest/aarch64/simd.h"

static unsigned imm_size(unsigned immh) {
    return 31 - (unsigned)__builtin_clz(immh);
}
static unsigned imm_right(unsigned size, unsigned immhb) {
    return (16u << size) - immhb;
}
static unsigned imm_left(unsigned size, unsigned immhb) {
    return immhb - (8u << size);
}

static Shape shape_of(unsigned size, unsigned q, bool scalar) {
    return scalar ? shape_scalar(int_elem(size)) : shape_vec(int_elem(size), q);
}

// SSHR, USHR, SSRA, USRA, SRSHR, URSHR, SRSRA, URSRA
bool lift_simd_shr(Lift *l, const Args_simd_shr *a) {
    unsigned size = imm_size(a->immhb >> 3), shift = imm_right(size, a->immhb);
    Shape s = shape_of(size, a->q, a->scalar);
    IrOp op = bits_get(l->insn, 29, 1) ? IR_shri : IR_sari;
    IrRef n = v_get(l, a->rn);
    IrRef v = a->round ? v_shift_round(l, op, s.t, n, shift) : v_imm(l, op, s.t, n, shift);
    if (a->acc) v = v2(l, IR_add, s, v_get(l, a->rd), v);
    v_put(l, a->rd, v, s);
    return true;
}

// SRI, SLI: shift, and keep the bits of Vd that nothing was shifted into
static bool insert(Lift *l, Shape s, IrRef shifted, uint64_t mask, unsigned rd) {
    v_put(l, rd, v_bsl(l, v_splat_const(l, s.t, mask), shifted, v_get(l, rd)), s);
    return true;
}
bool lift_sri(Lift *l, const Args_sri *a) {
    unsigned size = imm_size(a->immhb >> 3), shift = imm_right(size, a->immhb);
    Shape s = shape_of(size, a->q, a->scalar);
    uint64_t mask = shift == 64 ? 0 : bits_mask(8u << size) >> shift;
    return insert(l, s, v_imm(l, IR_shri, s.t, v_get(l, a->rn), shift), mask, a->rd);
}
bool lift_sli(Lift *l, const Args_sli *a) {
    unsigned size = imm_size(a->immhb >> 3), shift = imm_left(size, a->immhb);
    Shape s = shape_of(size, a->q, a->scalar);
    return insert(l, s, v_imm(l, IR_shli, s.t, v_get(l, a->rn), shift), ~0ull << shift, a->rd);
}

// SHL
bool lift_shl(Lift *l, const Args_shl *a) {
    unsigned size = imm_size(a->immhb >> 3);
    Shape s = shape_of(size, a->q, a->scalar);
    v_put(l, a->rd, v_imm(l, IR_shli, s.t, v_get(l, a->rn), imm_left(size, a->immhb)), s);
    return true;
}

// SQSHL, UQSHL, SQSHLU: what does not shift back to itself saturates by its sign
bool lift_simd_sqshl(Lift *l, const Args_simd_sqshl *a) {
    unsigned size = imm_size(a->immhb >> 3), shift = imm_left(size, a->immhb);
    Shape s = shape_of(size, a->q, a->scalar);
    bool unsigned_result = bits_get(l->insn, 29, 1);
    bool to_unsigned = unsigned_result && !bits_get(l->insn, 12, 1); // SQSHLU: of signed
    IrRef n = v_get(l, a->rn), sign = v_imm(l, IR_sari, s.t, n, 63), limit;
    uint64_t max = bits_mask(shape_esize(s) - 1);
    if (!unsigned_result)
        limit = v2(l, IR_xor, s, sign, v_splat_const(l, s.t, max));
    else if (to_unsigned)
        limit = v1(l, IR_not, s, sign);
    else
        limit = v_splat_const(l, s.t, ~0ull);
    IrRef wrapped = v_imm(l, IR_shli, s.t, n, shift);
    IrOp back_op = unsigned_result ? IR_shri : IR_sari;
    IrRef fits = v_cmp(l, s, IR_EQ, v_imm(l, back_op, s.t, wrapped, shift), n);
    if (to_unsigned) fits = v2(l, IR_andn, s, fits, sign); // negative never fits
    qc_or(l, v1(l, IR_not, s, fits), s);
    v_put(l, a->rd, v_bsl(l, fits, wrapped, limit), s);
    return true;
}

// SHRN, RSHRN, SQSHRN, SQRSHRN, SQSHRUN, SQRSHRUN, UQSHRN, UQRSHRN and the same with "2".
// saturate: 0 not, 1 signed, 2 unsigned, 3 signed to unsigned
bool lift_simd_shr_narrow(Lift *l, const Args_simd_shr_narrow *a) {
    unsigned size = imm_size(a->immhb >> 3), shift = imm_right(size, a->immhb);
    IrType wide = ir_vec_of(int_elem(size + 1));
    Shape s = a->scalar ? shape_scalar(int_elem(size)) : shape_vec(int_elem(size), 0);
    IrOp op = a->saturate == 1 || a->saturate == 3 ? IR_sari : IR_shri;
    IrRef n = v_get(l, a->rn);
    n = a->round ? v_shift_round(l, op, wide, n, shift) : v_imm(l, op, wide, n, shift);
    static const IrOp ops[] = {IR_vtrunc, IR_vsqxtn, IR_vuqxtn, IR_vsqxtun};
    IrRef v =
        a->saturate ? v_narrow_saturated(l, ops[a->saturate], s, n) : v2(l, IR_vtrunc, s, n, n);
    if (a->scalar)
        v_put(l, a->rd, v, s);
    else
        v_put_narrow(l, a->rd, v, a->q);
    return true;
}

// SSHLL, USHLL (SXTL, UXTL) and the same with "2"
bool lift_simd_shl_long(Lift *l, const Args_simd_shl_long *a) {
    static const IrOp ops[] = {IR_vsextl, IR_vzextl, IR_vsexth, IR_vzexth};
    unsigned size = imm_size(a->immhb >> 3), shift = imm_left(size, a->immhb);
    IrType wide = ir_vec_of(int_elem(size + 1));
    IrRef v = ir_op1(l->r, ops[a->q << 1 | bits_get(l->insn, 29, 1)], wide, v_get(l, a->rn));
    lift_put_v(l, a->rd, shift ? v_imm(l, IR_shli, wide, v, shift) : v);
    return true;
}

// SCVTF, UCVTF (fixed-point)
bool lift_simd_fixed_to_fp(Lift *l, const Args_simd_fixed_to_fp *a) {
    unsigned size = imm_size(a->immhb >> 3);
    if (size == 1 && !lift_has(l, A64_FEAT(fp16))) return false;
    Shape s = shape_as(shape_of(size, a->q, a->scalar), fp_elem(size));
    IrOp op = bits_get(l->insn, 29, 1) ? IR_u2f : IR_s2f;
    IrRef v = ir_emit(l->r, op, s.t, fv_get(l, a->rn, s), 0, 0, 0, 0, imm_right(size, a->immhb));
    v_put(l, a->rd, v, s);
    return true;
}

// FCVTZS, FCVTZU (fixed-point)
bool lift_simd_fp_to_fixed(Lift *l, const Args_simd_fp_to_fixed *a) {
    unsigned size = imm_size(a->immhb >> 3);
    if (size == 1 && !lift_has(l, A64_FEAT(fp16))) return false;
    Shape s = shape_of(size, a->q, a->scalar);
    IrOp op = bits_get(l->insn, 29, 1) ? IR_f2u : IR_f2s;
    IrRef v = ir_emit(l->r, op, s.t, fv_get(l, a->rn, shape_as(s, fp_elem(size))), 0, 0, IR_RM_ZERO,
                      0, imm_right(size, a->immhb));
    v_put(l, a->rd, v, s);
    return true;
}
