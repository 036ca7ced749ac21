// simd_copy_perm.c - "Advanced SIMD copy", "permute", "extract", "table lookup" and "modified
// immediate": everything that only moves lanes or makes constants.
#include "guest/aarch64/simd.h"

// imm5 of the copy group: the lowest set bit is the element size, what is above the index.
static unsigned copy_size(unsigned imm5) {
    return (unsigned)__builtin_ctz(imm5);
}
static unsigned copy_index(unsigned imm5) {
    return imm5 >> (copy_size(imm5) + 1);
}

// DUP Vd.T, Vn.Ts[index]
bool lift_dup_element(Lift *l, const Args_dup_element *a) {
    unsigned size = copy_size(a->imm5);
    IrRef v = v_everywhere(l, size, v_get(l, a->rn), copy_index(a->imm5));
    v_put(l, a->rd, v, shape_vec(int_elem(size), a->q));
    return true;
}

// DUP Vd, Vn.T[index] (MOV)
bool lift_dup_scalar(Lift *l, const Args_dup_scalar *a) {
    IrElem e = int_elem(copy_size(a->imm5));
    s_put(l, a->rd, v_lane(l, e, v_get(l, a->rn), copy_index(a->imm5)));
    return true;
}

// DUP Vd.T, Rn
bool lift_dup_general(Lift *l, const Args_dup_general *a) {
    IrElem e = int_elem(copy_size(a->imm5));
    IrRef v = ir_op1(l->r, IR_splat, ir_vec_of(e), lift_reg(l, e, a->rn));
    v_put(l, a->rd, v, shape_vec(e, a->q));
    return true;
}

// INS Vd.Ts[index], Rn (MOV)
bool lift_ins_general(Lift *l, const Args_ins_general *a) {
    IrElem e = int_elem(copy_size(a->imm5));
    IrRef v =
        v_set_lane(l, ir_vec_of(e), v_get(l, a->rd), copy_index(a->imm5), lift_reg(l, e, a->rn));
    lift_put_v(l, a->rd, v);
    return true;
}

// INS Vd.Ts[index1], Vn.Ts[index2] (MOV)
bool lift_ins_element(Lift *l, const Args_ins_element *a) {
    unsigned size = copy_size(a->imm5);
    IrElem e = int_elem(size);
    IrRef lane = v_lane(l, e, v_get(l, a->rn), a->imm4 >> size);
    lift_put_v(l, a->rd, v_set_lane(l, ir_vec_of(e), v_get(l, a->rd), copy_index(a->imm5), lane));
    return true;
}

// UMOV, SMOV Rd, Vn.Ts[index] (MOV)
bool lift_umov(Lift *l, const Args_umov *a) {
    IrElem e = int_elem(copy_size(a->imm5));
    lift_put_reg(l, a->rd, v_lane(l, e, v_get(l, a->rn), copy_index(a->imm5)));
    return true;
}
bool lift_smov(Lift *l, const Args_smov *a) {
    IrElem e = int_elem(copy_size(a->imm5));
    IrRef lane = v_lane(l, e, v_get(l, a->rn), copy_index(a->imm5));
    lift_put_reg(l, a->rd, ir_op1(l->r, IR_sext, lift_type(a->q), lane));
    return true;
}

// ZIP1, ZIP2, UZP1, UZP2, TRN1, TRN2 Vd.T, Vn.T, Vm.T
bool lift_simd_permute(Lift *l, const Args_simd_permute *a) {
    static const IrOp ops[] = {IR_NOP, IR_uzpe, IR_trne, IR_ziplo,
                               IR_NOP, IR_uzpo, IR_trno, IR_ziphi};
    unsigned opcode = bits_get(l->insn, 12, 3);
    Shape s = shape_vec(int_elem(a->size), a->q);
    IrRef n = v_get(l, a->rn), m = v_get(l, a->rm), v;
    if (a->q || opcode == 2 || opcode == 6) { // transposing stays within the halves
        v = v2(l, ops[opcode], s, n, m);
    } else if (opcode == 3 || opcode == 7) { // ZIP2 of halves is the high half of ZIP1
        v = v2(l, IR_ziplo, s, n, m);
        if (opcode == 7) v = v_lane(l, IR_I64, v, 1), v = ir_op1(l->r, IR_vzext, IR_V128, v);
    } else {
        IrRef both = v_pair(l, n, m);
        v = v2(l, ops[opcode], s, both, both);
    }
    v_put(l, a->rd, v, s);
    return true;
}

// EXT Vd.T, Vn.T, Vm.T, #index
bool lift_ext(Lift *l, const Args_ext *a) {
    IrRef n = v_get(l, a->rn), m = v_get(l, a->rm);
    if (!a->q) {
        n = v_pair(l, n, m);
        m = n;
    }
    v_put(l, a->rd, ir_emit(l->r, IR_vext, IR_I8X16, n, m, 0, 0, 0, a->imm4),
          shape_vec(IR_I8, a->q));
    return true;
}

// TBL, TBX Vd.T, {Vn.16B ... }, Vm.T: an index out of range gives 0, or leaves the byte (TBX)
bool lift_simd_table(Lift *l, const Args_simd_table *a) {
    Shape s = shape_vec(IR_I8, a->q);
    IrRef index = v_get(l, a->rm);
    IrRef v = v2(l, IR_tbl, s, v_get(l, a->rn), index);
    for (unsigned i = 1; i <= a->len; i++) {
        IrRef here = v2(l, IR_sub, s, index, v_splat_const(l, s.t, 16 * i));
        v = v2(l, IR_or, s, v, v2(l, IR_tbl, s, v_get(l, (a->rn + i) % 32), here));
    }
    if (a->keep) {
        IrRef limit = v_splat_const(l, s.t, 16 * (a->len + 1u));
        v = v_bsl(l, v_cmp(l, s, IR_ULT, index, limit), v, v_get(l, a->rd));
    }
    v_put(l, a->rd, v, s);
    return true;
}

// AdvSIMDExpandImm: the 64-bit pattern of op:cmode:abcdefgh.
static uint64_t expand_imm(unsigned op, unsigned cmode, uint64_t imm8) {
    uint64_t x;
    switch (cmode >> 1) {
    case 0:
    case 1:
    case 2:
    case 3: x = (imm8 << (cmode >> 1) * 8) * 0x0000000100000001ull; break;
    case 4: x = imm8 * 0x0001000100010001ull; break;
    case 5: x = (imm8 << 8) * 0x0001000100010001ull; break;
    case 6: x = (cmode & 1 ? imm8 << 16 | 0xffff : imm8 << 8 | 0xff) * 0x0000000100000001ull; break;
    default:
        if (!(cmode & 1) && !op) return imm8 * 0x0101010101010101ull;
        if (!(cmode & 1)) { // each bit a byte
            for (x = 0; imm8; imm8 &= imm8 - 1) x |= 0xffull << 8 * __builtin_ctzll(imm8);
            return x;
        }
        x = op ? fp_expand_imm(3, (unsigned)imm8)
               : fp_expand_imm(2, (unsigned)imm8) * 0x0000000100000001ull;
    }
    return x;
}

// MOVI, MVNI, ORR, BIC (vector, immediate), FMOV (vector, immediate)
bool lift_simd_mod_imm(Lift *l, const Args_simd_mod_imm *a) {
    uint64_t x = expand_imm(a->op, a->cmode, a->imm8);
    bool accumulate = (a->cmode & 1) && a->cmode < 12;
    bool invert = a->op && a->cmode < 14;
    uint64_t bits = invert ? ~x : x;
    IrRef v = ir_vconst(l->r, IR_V128, bits, a->q || accumulate ? bits : 0);
    if (accumulate) // BIC clears, ORR sets
        v = ir_op2(l->r, invert ? IR_and : IR_or, IR_V128, v_get(l, a->rd), v);
    if (accumulate)
        v_put(l, a->rd, v, shape_vec(IR_I64, a->q));
    else
        lift_put_v(l, a->rd, v);
    return true;
}

// FMOV Vd.4H or 8H, #imm (FEAT_FP16)
bool lift_fmov_v_imm_half(Lift *l, const Args_fmov_v_imm_half *a) {
    uint64_t x = fp_expand_imm(1, a->imm8) * 0x0001000100010001ull;
    lift_put_v(l, a->rd, ir_vconst(l->r, IR_V128, x, a->q ? x : 0));
    return true;
}
