// simd_same.c - "Advanced SIMD three same", its scalar forms, scalar pairwise, and the FP16 and
// extra variants. A table by the manual's U:opcode says what each does; the functions above the
// tables are the operations that are more than one IR op.
//
// Every operation works on whole 128-bit registers; the Shape says which lanes count (simd.h).
#include "guest/aarch64/simd.h"

// ---- shared by other chapters ----

IrRef v_splat_const(Lift *l, IrType t, uint64_t value) {
    unsigned bits = ir_elem_bits(t);
    uint64_t x = value & bits_mask(bits);
    for (; bits < 64; bits *= 2) x |= x << bits;
    return ir_vconst(l->r, t, x, x);
}

void qc_or(Lift *l, IrRef lanes, Shape s) {
    IrRef old = ir_get(l->r, A64_QC, IR_V128);
    ir_put(l->r, A64_QC, ir_op2(l->r, IR_or, IR_V128, old, v_keep(l, lanes, s)));
}

IrRef v_saturated(Lift *l, Shape s, IrRef value, IrRef wrapped) {
    qc_or(l, ir_op2(l->r, IR_xor, IR_V128, value, wrapped), s);
    return value;
}

IrRef v_narrow_saturated(Lift *l, IrOp op, Shape s, IrRef n) {
    Shape wide = {type_wider(s.t), (uint8_t)(s.bits * 2)};
    IrRef v = v2(l, op, s, n, n);
    IrRef again = v1(l, op == IR_vsqxtn ? IR_vsextl : IR_vzextl, wide, v);
    qc_or(l, v2(l, IR_xor, wide, again, n), wide);
    return v;
}

IrRef v_call(Lift *l, const IrHelper *h, IrRef a, IrRef b, IrRef c, uint64_t imm) {
    IrRef args[] = {a, b, c};
    return ir_call(l->r, IR_V128, h, c ? 3 : b ? 2 : 1, args, imm);
}

IrRef v_call_qc(Lift *l, const IrHelper *h, Shape s, IrRef a, IrRef b, IrRef c, uint64_t imm) {
    IrRef value = v_call(l, h, a, b, c, imm), lanes = v_call(l, h, a, b, c, imm | SIMD_QC);
    qc_or(l, lanes, s);
    return value;
}

IrRef v_shift_round(Lift *l, IrOp shift_op, IrType t, IrRef v, unsigned shift) {
    IrRef last = v_imm(l, shift_op, t, v, shift - 1); // its lowest bit is the one that rounds
    IrRef carry = ir_op2(l->r, IR_and, t, last, v_splat_const(l, t, 1));
    return ir_op2(l->r, IR_add, t, v_imm(l, shift_op, t, v, shift), carry);
}

// ---- integer operations ----

static IrRef plain(Lift *l, Shape s, IrRef d, IrRef n, IrRef m, unsigned op) {
    return v2(l, (IrOp)op, s, n, m);
}

static IrRef compare(Lift *l, Shape s, IrRef d, IrRef n, IrRef m, unsigned cc) {
    return v_cmp(l, s, (IrCc)cc, n, m);
}

static IrRef test_bits(Lift *l, Shape s, IrRef d, IrRef n, IrRef m, unsigned op) {
    return v_cmp(l, s, IR_NE, v2(l, IR_and, s, n, m), v_zero(l, s.t));
}

// op is the saturating op; what wraps is add or sub.
static IrRef saturating(Lift *l, Shape s, IrRef d, IrRef n, IrRef m, unsigned op) {
    IrOp wrap = op == IR_sqadd || op == IR_uqadd ? IR_add : IR_sub;
    return v_saturated(l, s, v2(l, (IrOp)op, s, n, m), v2(l, wrap, s, n, m));
}

// (n - m) >> 1 without overflow; op is the shift.
static IrRef halving_sub(Lift *l, Shape s, IrRef d, IrRef n, IrRef m, unsigned op) {
    IrRef borrow = v2(l, IR_and, s, v2(l, IR_andn, s, m, n), v_splat_const(l, s.t, 1));
    IrRef diff = v2(l, IR_sub, s, v_imm(l, (IrOp)op, s.t, n, 1), v_imm(l, (IrOp)op, s.t, m, 1));
    return v2(l, IR_sub, s, diff, borrow);
}

// SSHL, USHL: by the signed low byte of each lane. A negative amount seen as unsigned is huge, and
// shifts everything out; op is the right shift.
static IrRef shift_by_reg(Lift *l, Shape s, IrRef d, IrRef n, IrRef m, unsigned op) {
    unsigned up = shape_esize(s) - 8;
    IrRef by = up ? v_imm(l, IR_sari, s.t, v_imm(l, IR_shli, s.t, m, up), up) : m;
    IrRef left = v2(l, IR_shl, s, n, by), right = v2(l, (IrOp)op, s, n, v1(l, IR_neg, s, by));
    if (op == IR_shr) return v2(l, IR_or, s, left, right);
    return v_bsl(l, v_cmp(l, s, IR_SLT, by, v_zero(l, s.t)), right, left);
}

// The rounding and saturating ones; op is SimdHelperImm bits.
static IrRef shift_helper(Lift *l, Shape s, IrRef d, IrRef n, IrRef m, unsigned op) {
    uint64_t imm = op | shape_size(s);
    if (op & SIMD_SATURATE) return v_call_qc(l, &simd_shift_reg, s, n, m, 0, imm);
    return v_call(l, &simd_shift_reg, n, m, 0, imm);
}

// op: IR_smax or IR_umax.
static IrRef abs_diff(Lift *l, Shape s, IrRef d, IrRef n, IrRef m, unsigned op) {
    IrOp min = op == IR_smax ? IR_smin : IR_umin;
    return v2(l, IR_sub, s, v2(l, (IrOp)op, s, n, m), v2(l, min, s, n, m));
}

static IrRef abs_diff_acc(Lift *l, Shape s, IrRef d, IrRef n, IrRef m, unsigned op) {
    return v2(l, IR_add, s, d, abs_diff(l, s, d, n, m, op));
}

IrRef simd_mul(Lift *l, Shape s, IrRef d, IrRef n, IrRef m, unsigned op) {
    return v2(l, IR_mul, s, n, m);
}

// op: IR_add or IR_sub.
IrRef simd_mla(Lift *l, Shape s, IrRef d, IrRef n, IrRef m, unsigned op) {
    return v2(l, (IrOp)op, s, d, v2(l, IR_mul, s, n, m));
}

static IrRef poly_mul(Lift *l, Shape s, IrRef d, IrRef n, IrRef m, unsigned op) {
    return v_call(l, &simd_pmul8, n, m, 0, 0);
}

// op works on adjacent pairs of n, then of m.
static IrRef pairwise(Lift *l, Shape s, IrRef d, IrRef n, IrRef m, unsigned op) {
    if (s.bits == 64) n = m = v_pair(l, n, m);
    return v2(l, (IrOp)op, s, v2(l, IR_uzpe, s, n, m), v2(l, IR_uzpo, s, n, m));
}

IrRef simd_sqdmull(Lift *l, Shape wide, IrRef n, IrRef m, unsigned high) {
    IrRef product = v2(l, high ? IR_vsmull2 : IR_vsmull, wide, n, m);
    return v_saturated(l, wide, v2(l, IR_sqadd, wide, product, product),
                       v2(l, IR_add, wide, product, product));
}

// SQDMULH, SQRDMULH (op 1): the high halves of doubled products. Doubling saturates for MIN * MIN
// only, and rounding what did not saturate cannot overflow.
IrRef simd_sqdmulh(Lift *l, Shape s, IrRef d, IrRef n, IrRef m, unsigned round) {
    Shape wide = {type_wider(s.t), 128};
    n = v_keep(l, n, s);
    m = v_keep(l, m, s);
    IrRef half[2];
    for (unsigned high = 0; high < (s.bits == 128 ? 2 : 1); high++) {
        half[high] = simd_sqdmull(l, wide, n, m, high);
        if (round)
            half[high] = v2(l, IR_sqadd, wide, half[high],
                            v_splat_const(l, wide.t, 1ull << (shape_esize(s) - 1)));
    }
    return v2(l, IR_uzpo, s, half[0], s.bits == 128 ? half[1] : half[0]);
}

// op: 0 or SIMD_SUB.
IrRef simd_rdm(Lift *l, Shape s, IrRef d, IrRef n, IrRef m, unsigned op) {
    return v_call_qc(l, &simd_sqrdmlah, s, n, m, d, op | shape_size(s));
}

typedef struct SameOp {
    SimdFn *fn;
    uint8_t op;
} SameOp;
// Which sizes there are, as vector and as scalar, the rows of simd.dec say.
enum { U = 32 };

static const SameOp same_ops[64] = {
    [0x00] = {plain, IR_shadd},
    [U | 0x00] = {plain, IR_uhadd},
    [0x01] = {saturating, IR_sqadd},
    [U | 0x01] = {saturating, IR_uqadd},
    [0x02] = {plain, IR_srhadd},
    [U | 0x02] = {plain, IR_urhadd},
    [0x04] = {halving_sub, IR_sari},
    [U | 0x04] = {halving_sub, IR_shri},
    [0x05] = {saturating, IR_sqsub},
    [U | 0x05] = {saturating, IR_uqsub},
    [0x06] = {compare, IR_SGT},
    [U | 0x06] = {compare, IR_UGT},
    [0x07] = {compare, IR_SGE},
    [U | 0x07] = {compare, IR_UGE},
    [0x08] = {shift_by_reg, IR_sar},
    [U | 0x08] = {shift_by_reg, IR_shr},
    [0x09] = {shift_helper, SIMD_SATURATE | SIMD_SIGNED},
    [U | 0x09] = {shift_helper, SIMD_SATURATE},
    [0x0a] = {shift_helper, SIMD_ROUND | SIMD_SIGNED},
    [U | 0x0a] = {shift_helper, SIMD_ROUND},
    [0x0b] = {shift_helper, SIMD_ROUND | SIMD_SATURATE | SIMD_SIGNED},
    [U | 0x0b] = {shift_helper, SIMD_ROUND | SIMD_SATURATE},
    [0x0c] = {plain, IR_smax},
    [U | 0x0c] = {plain, IR_umax},
    [0x0d] = {plain, IR_smin},
    [U | 0x0d] = {plain, IR_umin},
    [0x0e] = {abs_diff, IR_smax},
    [U | 0x0e] = {abs_diff, IR_umax},
    [0x0f] = {abs_diff_acc, IR_smax},
    [U | 0x0f] = {abs_diff_acc, IR_umax},
    [0x10] = {plain, IR_add},
    [U | 0x10] = {plain, IR_sub},
    [0x11] = {test_bits, 0},
    [U | 0x11] = {compare, IR_EQ},
    [0x12] = {simd_mla, IR_add},
    [U | 0x12] = {simd_mla, IR_sub},
    [0x13] = {simd_mul, 0},
    [U | 0x13] = {poly_mul, 0},
    [0x14] = {pairwise, IR_smax},
    [U | 0x14] = {pairwise, IR_umax},
    [0x15] = {pairwise, IR_smin},
    [U | 0x15] = {pairwise, IR_umin},
    [0x16] = {simd_sqdmulh, 0},
    [U | 0x16] = {simd_sqdmulh, 1},
    [0x17] = {pairwise, IR_add},
};

static const SameOp *same_op(Lift *l, unsigned opcode_lo) {
    return &same_ops[bits_get(l->insn, 29, 1) << 5 | bits_get(l->insn, opcode_lo, 5)];
}

static bool same(Lift *l, const SameOp *op, Shape s, unsigned rd, unsigned rn, unsigned rm) {
    v_put(l, rd, op->fn(l, s, v_get(l, rd), v_get(l, rn), v_get(l, rm), op->op), s);
    return true;
}

// <op> Vd.T, Vn.T, Vm.T
bool lift_simd_same(Lift *l, const Args_simd_same *a) {
    const SameOp *op = same_op(l, 11);
    return same(l, op, shape_vec(int_elem(a->size), a->q), a->rd, a->rn, a->rm);
}

// <op> Vd, Vn, Vm
bool lift_simd_same_scalar(Lift *l, const Args_simd_same_scalar *a) {
    const SameOp *op = same_op(l, 11);
    return same(l, op, shape_scalar(int_elem(a->size)), a->rd, a->rn, a->rm);
}

// SQRDMLAH, SQRDMLSH (FEAT_RDM)
bool lift_simd_rdm(Lift *l, const Args_simd_rdm *a) {
    SameOp op = {simd_rdm, bits_get(l->insn, 11, 1) ? SIMD_SUB : 0};
    return same(l, &op, shape_vec(int_elem(a->size), a->q), a->rd, a->rn, a->rm);
}

bool lift_simd_rdm_scalar(Lift *l, const Args_simd_rdm_scalar *a) {
    SameOp op = {simd_rdm, bits_get(l->insn, 11, 1) ? SIMD_SUB : 0};
    return same(l, &op, shape_scalar(int_elem(a->size)), a->rd, a->rn, a->rm);
}

// AND, BIC, ORR, ORN, EOR, BSL, BIT, BIF Vd.T, Vn.T, Vm.T
bool lift_simd_logic(Lift *l, const Args_simd_logic *a) {
    IrRef n = v_get(l, a->rn), m = v_get(l, a->rm), v;
    switch (bits_get(l->insn, 29, 1) << 2 | bits_get(l->insn, 22, 2)) {
    case 0: v = ir_op2(l->r, IR_and, IR_V128, n, m); break;
    case 1: v = ir_op2(l->r, IR_andn, IR_V128, n, m); break;
    case 2: v = n == m ? n : ir_op2(l->r, IR_or, IR_V128, n, m); break; // MOV is ORR of one
    case 3: v = ir_op2(l->r, IR_or, IR_V128, n, ir_op1(l->r, IR_not, IR_V128, m)); break;
    case 4: v = n == m ? v_zero(l, IR_V128) : ir_op2(l->r, IR_xor, IR_V128, n, m); break;
    case 5: v = v_bsl(l, v_get(l, a->rd), n, m); break;
    case 6: v = v_bsl(l, m, n, v_get(l, a->rd)); break;
    default: v = v_bsl(l, m, v_get(l, a->rd), n); break;
    }
    v_put(l, a->rd, v, shape_vec(IR_I8, a->q));
    return true;
}

// ---- floating point ----

static IrRef fp_divide(Lift *l, Shape s, IrRef d, IrRef n, IrRef m, unsigned op) {
    return v2(l, IR_fdiv, s, v_doubled(l, n, s),
              v_doubled(l, m, s)); // 0 / 0 above would be invalid
}

// FMLA, FMLS (op 1)
IrRef simd_fma(Lift *l, Shape s, IrRef d, IrRef n, IrRef m, unsigned negate) {
    return ir_op3(l->r, IR_fma, s.t, negate ? v1(l, IR_fneg, s, n) : n, m, d);
}

IrRef simd_fmul(Lift *l, Shape s, IrRef d, IrRef n, IrRef m, unsigned op) {
    return v2(l, IR_fmul, s, n, m);
}

static IrRef fp_cmp(Lift *l, Shape s, IrFcc cc, IrRef a, IrRef b) {
    return ir_emit(l->r, IR_vfcmp, s.t, a, b, 0, cc, cc != IR_OEQ, 0);
}

static IrRef fp_compare(Lift *l, Shape s, IrRef d, IrRef n, IrRef m, unsigned cc) {
    return fp_cmp(l, s, (IrFcc)cc, n, m);
}

static IrRef fp_compare_abs(Lift *l, Shape s, IrRef d, IrRef n, IrRef m, unsigned cc) {
    return fp_cmp(l, s, (IrFcc)cc, v1(l, IR_fabs, s, n), v1(l, IR_fabs, s, m));
}

static IrRef fp_abs_diff(Lift *l, Shape s, IrRef d, IrRef n, IrRef m, unsigned op) {
    return v1(l, IR_fabs, s, v2(l, IR_fsub, s, n, m));
}

static const uint64_t fp_infinity_bits[] = {0, 0x7c00, 0x7f800000, 0x7ff0000000000000};
static const uint64_t fp_two_bits[] = {0, 0x4000, 0x40000000, 0x4000000000000000};
static const uint64_t fp_one_bits[] = {0, 0x3c00, 0x3f800000, 0x3ff0000000000000};

// Lanes where one factor is 0 and the other infinite.
static IrRef zero_times_infinity(Lift *l, Shape s, IrRef n, IrRef m) {
    IrRef inf = v_splat_const(l, s.t, fp_infinity_bits[shape_size(s)]), zero = v_zero(l, s.t);
    IrRef an = v1(l, IR_fabs, s, n), am = v1(l, IR_fabs, s, m);
    IrRef one = v2(l, IR_and, s, fp_cmp(l, s, IR_OEQ, an, zero), fp_cmp(l, s, IR_OEQ, am, inf));
    IrRef other = v2(l, IR_and, s, fp_cmp(l, s, IR_OEQ, an, inf), fp_cmp(l, s, IR_OEQ, am, zero));
    return v2(l, IR_or, s, one, other);
}

// As FMUL, but 0 times infinity is 2 with the product's sign: those lanes multiply 2 by 1.
IrRef simd_fmulx(Lift *l, Shape s, IrRef d, IrRef n, IrRef m, unsigned op) {
    IrRef odd = zero_times_infinity(l, s, n, m);
    IrRef sign = v_splat_const(l, s.t, 1ull << (shape_esize(s) - 1));
    IrRef magnitude = v2(l, IR_andn, s, odd, sign); // of odd lanes, the bits to replace
    IrRef two = v_splat_const(l, s.t, fp_two_bits[shape_size(s)]);
    IrRef one = v_splat_const(l, s.t, fp_one_bits[shape_size(s)]);
    return v2(l, IR_fmul, s, v_bsl(l, magnitude, two, n), v_bsl(l, magnitude, one, m));
}

// 2 - n * m, rounded once; 0 times infinity counts as 0.
static IrRef fp_recip_step(Lift *l, Shape s, IrRef d, IrRef n, IrRef m, unsigned op) {
    IrRef odd = zero_times_infinity(l, s, n, m);
    IrRef minus_n = v2(l, IR_andn, s, v1(l, IR_fneg, s, n), odd);
    IrRef two = v_splat_const(l, s.t, fp_two_bits[shape_size(s)]);
    return ir_op3(l->r, IR_fma, s.t, minus_n, v2(l, IR_andn, s, m, odd), two);
}

static uint64_t lanes_imm(Shape s) {
    return shape_size(s) | shape_lanes(s) << SIMD_LANES_SHIFT;
}

static IrRef fp_rsqrt_step(Lift *l, Shape s, IrRef d, IrRef n, IrRef m, unsigned op) {
    return v_call(l, &simd_frsqrts, n, m, 0, lanes_imm(s));
}

// By U:a:opcode<2:0>; a is size<1>, opcode<4:3> is 3 for all.
enum { FU = 16, FA = 8 };
static const SameOp fp_same_ops[32] = {
    [0] = {plain, IR_fmaxnum},
    [FA | 0] = {plain, IR_fminnum},
    [1] = {simd_fma, 0},
    [FA | 1] = {simd_fma, 1},
    [2] = {plain, IR_fadd},
    [FA | 2] = {plain, IR_fsub},
    [3] = {simd_fmulx, 0},
    [4] = {fp_compare, IR_OEQ},
    [6] = {plain, IR_fmax},
    [FA | 6] = {plain, IR_fmin},
    [7] = {fp_recip_step, 0},
    [FA | 7] = {fp_rsqrt_step, 0},
    [FU | 0] = {pairwise, IR_fmaxnum},
    [FU | FA | 0] = {pairwise, IR_fminnum},
    [FU | 2] = {pairwise, IR_fadd},
    [FU | FA | 2] = {fp_abs_diff, 0},
    [FU | 3] = {plain, IR_fmul},
    [FU | 4] = {fp_compare, IR_OGE},
    [FU | FA | 4] = {fp_compare, IR_OGT},
    [FU | 5] = {fp_compare_abs, IR_OGE},
    [FU | FA | 5] = {fp_compare_abs, IR_OGT},
    [FU | 6] = {pairwise, IR_fmax},
    [FU | FA | 6] = {pairwise, IR_fmin},
    [FU | 7] = {fp_divide, 0},
};

static bool fp_same(Lift *l, Shape s, unsigned rd, unsigned rn, unsigned rm) {
    const SameOp *op = &fp_same_ops[bits_get(l->insn, 29, 1) << 4 | bits_get(l->insn, 23, 1) << 3 |
                                    bits_get(l->insn, 11, 3)];
    IrRef d = fv_get(l, rd, s), n = fv_get(l, rn, s), m = fv_get(l, rm, s);
    v_put(l, rd, op->fn(l, s, d, n, m, op->op), s);
    return true;
}

// FADD Vd.T, Vn.T, Vm.T and all its neighbours; singles and doubles
bool lift_simd_fp_same(Lift *l, const Args_simd_fp_same *a) {
    return fp_same(l, shape_vec(fp_elem(2 + a->sz), a->q), a->rd, a->rn, a->rm);
}

// the same with halves (FEAT_FP16)
bool lift_simd_fp_same_half(Lift *l, const Args_simd_fp_same_half *a) {
    return fp_same(l, shape_vec(IR_F16, a->q), a->rd, a->rn, a->rm);
}

bool lift_simd_fp_same_scalar(Lift *l, const Args_simd_fp_same_scalar *a) {
    return fp_same(l, shape_scalar(fp_elem(2 + a->sz)), a->rd, a->rn, a->rm);
}

bool lift_simd_fp_same_scalar_half(Lift *l, const Args_simd_fp_same_scalar_half *a) {
    return fp_same(l, shape_scalar(IR_F16), a->rd, a->rn, a->rm);
}

// ---- scalar pairwise ----

// ADDP Dd, Vn.2D
bool lift_addp_scalar(Lift *l, const Args_addp_scalar *a) {
    IrRef n = v_get(l, a->rn);
    s_put(l, a->rd, ir_add(l->r, v_lane(l, IR_I64, n, 0), v_lane(l, IR_I64, n, 1)));
    return true;
}

// FADDP, FMAXP, FMINP, FMAXNMP, FMINNMP Vd, Vn.2T
static bool fp_pair(Lift *l, IrElem e, unsigned rd, unsigned rn) {
    static const IrOp ops[] = {
        [4] = IR_fmaxnum, [FA | 4] = IR_fminnum, [5] = IR_fadd, [7] = IR_fmax, [FA | 7] = IR_fmin};
    IrOp op = ops[bits_get(l->insn, 23, 1) << 3 | bits_get(l->insn, 12, 3)];
    IrRef n = v_get(l, rn);
    s_put(l, rd, ir_op2(l->r, op, e, v_lane(l, e, n, 0), v_lane(l, e, n, 1)));
    return true;
}

bool lift_simd_fp_pair(Lift *l, const Args_simd_fp_pair *a) {
    return fp_pair(l, fp_elem(2 + a->sz), a->rd, a->rn);
}

bool lift_simd_fp_pair_half(Lift *l, const Args_simd_fp_pair_half *a) {
    return fp_pair(l, IR_F16, a->rd, a->rn);
}
