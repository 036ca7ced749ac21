// simd_element.c - "Advanced SIMD vector x indexed element" and its scalar forms: the operations of
// the three-same group with one lane of Vm for every lane. The long ones are in simd_diff.c, dot
// products and complex numbers in simd_extra.c.
#include "guest/aarch64/simd.h"

// Lane index of Vm everywhere. Lanes of halves have a 3-bit index and only V0-V15.
static IrRef element(Lift *l, Shape s, unsigned h, unsigned lo, unsigned m, unsigned rm) {
    unsigned size = shape_size(s);
    unsigned index = size == 1 ? h << 2 | lo << 1 | m : size == 2 ? h << 1 | lo : h;
    return v_everywhere(l, size, v_get(l, size == 1 ? rm : m << 4 | rm), index);
}

// MUL, MLA, MLS, SQDMULH, SQRDMULH, SQRDMLAH, SQRDMLSH Vd.T, Vn.T, Vm.Ts[index]
bool lift_simd_int_element(Lift *l, const Args_simd_int_element *a) {
    typedef struct {
        SimdFn *fn;
        unsigned op;
    } Op;
    static const Op ops[32] = {
        [0x10] = {simd_mla, IR_add},   [0x14] = {simd_mla, IR_sub}, [0x08] = {simd_mul, 0},
        [0x0c] = {simd_sqdmulh, 0},    [0x0d] = {simd_sqdmulh, 1},  [0x1d] = {simd_rdm, 0},
        [0x1f] = {simd_rdm, SIMD_SUB},
    };
    const Op *op = &ops[bits_get(l->insn, 29, 1) << 4 | bits_get(l->insn, 12, 4)];
    Shape s = a->scalar ? shape_scalar(int_elem(a->size)) : shape_vec(int_elem(a->size), a->q);
    IrRef m = element(l, s, a->h, a->l, a->m, a->rm);
    v_put(l, a->rd, op->fn(l, s, v_get(l, a->rd), v_get(l, a->rn), m, op->op), s);
    return true;
}

// FMLA, FMLS, FMUL, FMULX Vd.T, Vn.T, Vm.Ts[index]; half: the FP16 forms
bool lift_simd_fp_element(Lift *l, const Args_simd_fp_element *a) {
    IrElem e = a->half ? IR_F16 : fp_elem(2 + a->sz);
    Shape s = a->scalar ? shape_scalar(e) : shape_vec(e, a->q);
    IrRef m = v_keep(l, element(l, s, a->h, a->l, a->m, a->rm), s);
    IrRef n = fv_get(l, a->rn, s), v;
    switch (bits_get(l->insn, 29, 1) << 4 | bits_get(l->insn, 12, 4)) {
    case 0x01: v = simd_fma(l, s, fv_get(l, a->rd, s), n, m, 0); break;
    case 0x05: v = simd_fma(l, s, fv_get(l, a->rd, s), n, m, 1); break;
    case 0x09: v = simd_fmul(l, s, 0, n, m, 0); break;
    default: v = simd_fmulx(l, s, 0, n, m, 0); break;
    }
    v_put(l, a->rd, v, s);
    return true;
}
