// bf16.c - BFloat16 (FEAT_BF16): conversions round as FPCR says; BFMLAL is a fused multiply-add of
// widened halves; dot products and BFMMLA have an arithmetic of their own: rounding to odd, tiny
// operands and results are zero, overflow is infinity, NaNs are the default NaN, no flag is raised
// (Arm ARM, BFDotAdd and BFRound; FEAT_EBF16 is not there).
#include "guest/aarch64/simd.h"

#include "engine/vcpu.h"
#include "ir/softfp.h"

// ---- helpers ----

static uint64_t single_to_bf16(IrFpEnv *env, uint64_t a) {
    return softfp_convert(SOFT_F32, SOFT_BF16, a, false, env);
}

static uint64_t do_bfcvt(void *state, uint64_t a) {
    IrFpEnv env = vcpu_hot(state)->fp;
    env.flags = 0;
    uint64_t v = single_to_bf16(&env, a & UINT32_MAX);
    vcpu_fp_raise(state, env.flags);
    return v;
}

// Four singles of a to the low four lanes.
static void do_bfcvtn(void *state, V128 *out, const V128 *a, const V128 *b, const V128 *c,
                      uint64_t imm) {
    IrFpEnv env = vcpu_hot(state)->fp;
    env.flags = 0;
    V128 x = {0};
    for (unsigned i = 0; i < 4; i++) x.h[i] = (uint16_t)single_to_bf16(&env, a->w[i]);
    vcpu_fp_raise(state, env.flags);
    *out = x;
}

// c + a0 b0 + a1 b1, each step rounded to odd.
static uint32_t dot_add(uint32_t c, const uint16_t *a, const uint16_t *b) {
    IrFpEnv env = {.mode = IR_FPM_DN | IR_FPM_FZ | IR_FPM_ODD, .rules = IR_FP_ARM};
    uint64_t p0 = softfp_mul(SOFT_F32, (uint32_t)a[0] << 16, (uint32_t)b[0] << 16, &env);
    uint64_t p1 = softfp_mul(SOFT_F32, (uint32_t)a[1] << 16, (uint32_t)b[1] << 16, &env);
    return (uint32_t)softfp_add(SOFT_F32, c, softfp_add(SOFT_F32, p0, p1, &env), &env);
}

static void do_bfdot(void *state, V128 *out, const V128 *a, const V128 *b, const V128 *c,
                     uint64_t imm) {
    V128 x;
    for (unsigned i = 0; i < 4; i++) x.w[i] = dot_add(c->w[i], &a->h[2 * i], &b->h[2 * i]);
    *out = x;
}

// Rows of a (2 x 4) by rows of b (2 x 4): a 2 x 2 result.
static void do_bfmmla(void *state, V128 *out, const V128 *a, const V128 *b, const V128 *c,
                      uint64_t imm) {
    V128 x;
    for (unsigned i = 0; i < 2; i++)
        for (unsigned j = 0; j < 2; j++) {
            uint32_t sum = c->w[2 * i + j];
            for (unsigned k = 0; k < 4; k += 2)
                sum = dot_add(sum, &a->h[4 * i + k], &b->h[4 * j + k]);
            x.w[2 * i + j] = sum;
        }
    *out = x;
}

static const IrHelper bf16_cvt = {
    .name = "bf16_cvt", .fn = (void (*)(void))do_bfcvt, .raises_fp = true};
static const IrHelper bf16_cvtn = {
    .name = "bf16_cvtn", .fn = (void (*)(void))do_bfcvtn, .vec = true, .raises_fp = true};
static const IrHelper bf16_dot = {.name = "bf16_dot", .fn = (void (*)(void))do_bfdot, .vec = true};
static const IrHelper bf16_mmla = {
    .name = "bf16_mmla", .fn = (void (*)(void))do_bfmmla, .vec = true};

// ---- lifters ----

// BFCVT Hd, Sn
bool lift_bfcvt(Lift *l, const Args_bfcvt *a) {
    IrRef single = ir_op1(l->r, IR_bitcast, IR_I32, s_get(l, a->rn, IR_F32));
    const IrRef args[] = {lift_zext64(l, single)};
    IrRef v = ir_call(l->r, IR_I64, &bf16_cvt, 1, args, 0);
    lift_put_v(l, a->rd, ir_op1(l->r, IR_vzext, IR_V128, v));
    return true;
}

// BFCVTN, BFCVTN2 Vd.4H|8H, Vn.4S
bool lift_bfcvtn(Lift *l, const Args_bfcvtn *a) {
    IrRef v = v_call(l, &bf16_cvtn, v_get(l, a->rn), 0, 0, 0);
    if (a->q) v = ir_op2(l->r, IR_vpair, IR_V128, v_get(l, a->rd), v);
    lift_put_v(l, a->rd, v);
    return true;
}

static bool bfdot(Lift *l, unsigned q, unsigned rd, IrRef n, IrRef m) {
    v_put(l, rd, v_call(l, &bf16_dot, n, m, v_get(l, rd), 0), shape_vec(IR_I32, q));
    return true;
}

// BFDOT Vd.Ts, Vn.Th, Vm.Th
bool lift_bfdot(Lift *l, const Args_bfdot *a) {
    return bfdot(l, a->q, a->rd, v_get(l, a->rn), v_get(l, a->rm));
}

// BFDOT Vd.Ts, Vn.Th, Vm.2H[index]
bool lift_bfdot_elem(Lift *l, const Args_bfdot_elem *a) {
    IrRef m = v_everywhere(l, 2, v_get(l, a->m << 4 | a->rm), a->h << 1 | a->l);
    return bfdot(l, a->q, a->rd, v_get(l, a->rn), m);
}

// BFMMLA Vd.4S, Vn.8H, Vm.8H
bool lift_bfmmla(Lift *l, const Args_bfmmla *a) {
    lift_put_v(l, a->rd,
               v_call(l, &bf16_mmla, v_get(l, a->rn), v_get(l, a->rm), v_get(l, a->rd), 0));
    return true;
}

// The even (or, top, odd) halves as singles.
static IrRef widened(Lift *l, IrRef v, bool top) {
    if (!top) return v_imm(l, IR_shli, IR_I32X4, v, 16);
    return ir_op2(l->r, IR_and, IR_V128, v,
                  ir_vconst(l->r, IR_V128, 0xffff0000ffff0000, 0xffff0000ffff0000));
}

static bool bfmlal(Lift *l, bool top, unsigned rd, IrRef n, IrRef m) {
    lift_put_v(l, rd, ir_op3(l->r, IR_fma, IR_F32X4, widened(l, n, top), m, v_get(l, rd)));
    return true;
}

// BFMLALB, BFMLALT Vd.4S, Vn.8H, Vm.8H: q says which halves
bool lift_bfmlal(Lift *l, const Args_bfmlal *a) {
    return bfmlal(l, a->q, a->rd, v_get(l, a->rn), widened(l, v_get(l, a->rm), a->q));
}

// BFMLALB, BFMLALT Vd.4S, Vn.8H, Vm.H[index]
bool lift_bfmlal_elem(Lift *l, const Args_bfmlal_elem *a) {
    IrRef m = v_everywhere(l, 1, v_get(l, a->rm), a->h << 2 | a->l << 1 | a->m);
    return bfmlal(l, a->q, a->rd, v_get(l, a->rn), widened(l, m, true));
}
