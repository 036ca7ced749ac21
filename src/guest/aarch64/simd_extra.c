// simd_extra.c - "Advanced SIMD three same extra" and what came with it after ARMv8.0: dot and
// matrix products, complex numbers, products of halves added to singles. By-element forms are here
// too.
#include "guest/aarch64/simd.h"

// ---- products of bytes ----

static IrRef dot(Lift *l, unsigned q, unsigned rd, IrRef n, IrRef m, unsigned kind) {
    return ir_emit(l->r, IR_vdot, IR_I32X4, n, m, v_get(l, rd), kind, 0, 0);
}

// SDOT, UDOT Vd.Ts, Vn.Tb, Vm.Tb (FEAT_DotProd)
bool lift_simd_dot(Lift *l, const Args_simd_dot *a) {
    unsigned kind = bits_get(l->insn, 29, 1) ? 0 : 1;
    v_put(l, a->rd, dot(l, a->q, a->rd, v_get(l, a->rn), v_get(l, a->rm), kind),
          shape_vec(IR_I32, a->q));
    return true;
}

// USDOT Vd.Ts, Vn.Tb, Vm.Tb (FEAT_I8MM)
bool lift_simd_usdot(Lift *l, const Args_simd_usdot *a) {
    v_put(l, a->rd, dot(l, a->q, a->rd, v_get(l, a->rn), v_get(l, a->rm), 2),
          shape_vec(IR_I32, a->q));
    return true;
}

static bool dot_element(Lift *l, unsigned q, unsigned rd, unsigned rn, unsigned rm, unsigned index,
                        unsigned kind, bool swap) {
    IrRef m = v_everywhere(l, 2, v_get(l, rm), index);
    IrRef n = v_get(l, rn);
    v_put(l, rd, swap ? dot(l, q, rd, m, n, kind) : dot(l, q, rd, n, m, kind),
          shape_vec(IR_I32, q));
    return true;
}

// SDOT, UDOT Vd.Ts, Vn.Tb, Vm.4B[index]
bool lift_simd_dot_element(Lift *l, const Args_simd_dot_element *a) {
    return dot_element(l, a->q, a->rd, a->rn, a->rm, a->h << 1 | a->l,
                       bits_get(l->insn, 29, 1) ? 0 : 1, false);
}

// USDOT, SUDOT Vd.Ts, Vn.Tb, Vm.4B[index]: the unsigned factor goes first
bool lift_simd_usdot_element(Lift *l, const Args_simd_usdot_element *a) {
    return dot_element(l, a->q, a->rd, a->rn, a->rm, a->h << 1 | a->l, 2,
                       !bits_get(l->insn, 23, 1));
}

// SMMLA, UMMLA, USMMLA Vd.4S, Vn.16B, Vm.16B (FEAT_I8MM)
bool lift_simd_mmla(Lift *l, const Args_simd_mmla *a) {
    uint64_t imm = bits_get(l->insn, 11, 1)   ? SIMD_ROUND
                   : bits_get(l->insn, 29, 1) ? 0
                                              : SIMD_SIGNED;
    v_put(l, a->rd, v_call(l, &simd_mmla, v_get(l, a->rn), v_get(l, a->rm), v_get(l, a->rd), imm),
          shape_vec(IR_I32, 1));
    return true;
}

// ---- complex numbers ----

// Sign bits of the even (0) or odd (1) lanes, or of none.
static IrRef sign_of_lanes(Lift *l, Shape s, bool even, bool odd) {
    unsigned e = shape_esize(s);
    uint64_t sign = 1ull << (e - 1);
    if (e == 64) return ir_vconst(l->r, s.t, even ? sign : 0, odd ? sign : 0);
    uint64_t x = (even ? sign : 0) | (odd ? sign << e : 0);
    for (e *= 2; e < 64; e *= 2) x |= x << e;
    return ir_vconst(l->r, s.t, x, x);
}

// FCADD Vd.T, Vn.T, Vm.T, #90 or #270 (FEAT_FCMA)
bool lift_fcadd(Lift *l, const Args_fcadd *a) {
    if (a->size == 1 && !lift_has(l, A64_FEAT(fp16))) return false;
    Shape s = shape_vec(fp_elem(a->size), a->q);
    IrRef n = fv_get(l, a->rn, s), m = fv_get(l, a->rm, s);
    IrRef swapped = v_imm(l, IR_vrev, s.t, m, shape_esize(s) / 4);
    IrRef turned = v2(l, IR_xor, s, swapped, sign_of_lanes(l, s, !a->rot, a->rot));
    v_put(l, a->rd, v2(l, IR_fadd, s, n, turned), s);
    return true;
}

// FCMLA: adds a complex product's half, turned by rot * 90 degrees.
static bool fcmla(Lift *l, Shape s, unsigned rd, unsigned rn, IrRef m, unsigned rot) {
    IrRef n = fv_get(l, rn, s), d = fv_get(l, rd, s);
    IrRef part = v2(l, rot & 1 ? IR_trno : IR_trne, s, n, n);
    IrRef other = rot & 1 ? v_imm(l, IR_vrev, s.t, m, shape_esize(s) / 4) : m;
    other = v2(l, IR_xor, s, other, sign_of_lanes(l, s, rot == 1 || rot == 2, rot >= 2));
    v_put(l, rd, ir_op3(l->r, IR_fma, s.t, part, other, d), s);
    return true;
}

// FCMLA Vd.T, Vn.T, Vm.T, #rotate
bool lift_fcmla(Lift *l, const Args_fcmla *a) {
    if (a->size == 1 && !lift_has(l, A64_FEAT(fp16))) return false;
    Shape s = shape_vec(fp_elem(a->size), a->q);
    return fcmla(l, s, a->rd, a->rn, fv_get(l, a->rm, s), a->rot);
}

// FCMLA Vd.T, Vn.T, Vm.T[index], #rotate
bool lift_fcmla_element(Lift *l, const Args_fcmla_element *a) {
    if (a->size == 1 && !lift_has(l, A64_FEAT(fp16))) return false;
    Shape s = shape_vec(fp_elem(a->size), a->q);
    unsigned index = a->size == 1 ? a->h << 1 | a->l : a->h;
    IrRef m = v_everywhere(l, a->size + 1, v_get(l, a->m << 4 | a->rm), index);
    return fcmla(l, s, a->rd, a->rn, v_keep(l, m, s), a->rot);
}

// ---- products of halves ----

// The factors are the low or high half of Vn as its arrangement (2H, 4H) counts.
static IrRef half_of(Lift *l, IrRef v, unsigned q, unsigned high) {
    unsigned bytes = high ? (q ? 8 : 4) : 0;
    return ir_emit(l->r, IR_vext, IR_I8X16, v, v, 0, 0, 0, bytes);
}

static bool fmlal(Lift *l, unsigned q, unsigned rd, IrRef n, IrRef m, unsigned sub) {
    Shape s = shape_vec(IR_F32, q);
    uint64_t imm = 2 | shape_lanes(s) << SIMD_LANES_SHIFT | (sub ? SIMD_SUB : 0);
    v_put(l, rd, v_call(l, &simd_fmlal, n, m, v_get(l, rd), imm), s);
    return true;
}

// FMLAL, FMLSL, FMLAL2, FMLSL2 Vd.T, Vn.Th, Vm.Th (FEAT_FHM)
bool lift_simd_fmlal(Lift *l, const Args_simd_fmlal *a) {
    return fmlal(l, a->q, a->rd, half_of(l, v_get(l, a->rn), a->q, a->high),
                 half_of(l, v_get(l, a->rm), a->q, a->high), a->sub);
}

// FMLAL, FMLSL, FMLAL2, FMLSL2 Vd.T, Vn.Th, Vm.H[index]
bool lift_simd_fmlal_element(Lift *l, const Args_simd_fmlal_element *a) {
    unsigned index = a->h << 2 | a->l << 1 | a->m;
    IrRef m = v_everywhere(l, 1, v_get(l, a->rm), index);
    return fmlal(l, a->q, a->rd, half_of(l, v_get(l, a->rn), a->q, a->high), m, a->sub);
}
