// sel_vec.c - the switch over vector and floating-point ops, and the emission helpers of their
// selectors: legacy SSE instructions overwrite their first operand, and the moves this needs are
// made here and nowhere else. Where to start: x86_sel_vec at the end.
#include "host/x86_64/sel_vec.h"

static VecLevel level(const X86 *x) {
    return x->h->level;
}
static void put(X86 *x, Vop op, unsigned d, unsigned a, VecRm m, unsigned imm) {
    if (op == V_ucomiss || op == V_ucomisd || op == V_comiss || op == V_comisd || op == V_ptest)
        x86_flags_lost(x);
    x->at = vec_encode(x->at, m, x->h->level, op, d, a, imm);
    moves_rip(x, op, m);
}
static bool rm_is_gpr(Vop op) {
    switch (op) {
    case V_pinsrb:
    case V_pinsrw:
    case V_pinsrd:
    case V_pinsrq:
    case V_cvtsi2ss:
    case V_cvtsi2ssq:
    case V_cvtsi2sd:
    case V_cvtsi2sdq: return true;
    default: return false;
    }
}

void op3i(X86 *x, Vop op, unsigned d, unsigned a, unsigned b, unsigned imm) {
    if (level(x) != VEC_SSE || d == a) {
        put(x, op, d, a, vrm_reg(b), imm);
    } else if (d != b || rm_is_gpr(op)) {
        vmov(x, d, a);
        put(x, op, d, d, vrm_reg(b), imm);
    } else if (vec_is_commutative(op)) {
        put(x, op, d, d, vrm_reg(a), imm);
    } else {
        unsigned t = vtmp(x);
        vmov(x, t, a);
        put(x, op, t, t, vrm_reg(b), imm);
        vmov(x, d, t);
        vfree(x, t);
    }
}
void op3mi(X86 *x, Vop op, unsigned d, unsigned a, VecRm m, unsigned imm) {
    if (level(x) == VEC_SSE && d != a) {
        vmov(x, d, a);
        a = d;
    }
    put(x, op, d, a, m, imm);
}
void op3loi(X86 *x, Vop op, unsigned d, unsigned a, unsigned b, unsigned imm) {
    put(x, op, d, a, vrm_reg(b), imm);
}
void op2i(X86 *x, Vop op, unsigned d, unsigned a, unsigned imm) {
    put(x, op, d, 0, vrm_reg(a), imm);
}
void op2mi(X86 *x, Vop op, unsigned d, VecRm m, unsigned imm) {
    put(x, op, d, 0, m, imm);
}
void op2sti(X86 *x, Vop op, unsigned d, unsigned a, unsigned imm) {
    put(x, op, a, 0, vrm_reg(d), imm);
}
void shift_imm(X86 *x, Vop op, unsigned d, unsigned a, unsigned n) {
    if (level(x) == VEC_SSE && d != a) {
        vmov(x, d, a);
        a = d;
    }
    put(x, op, d, a, vrm_reg(0), n);
}

void vmov(X86 *x, unsigned d, unsigned a) {
    if (d != a) op2(x, V_movaps, d, a);
}
void vzero_reg(X86 *x, unsigned d) {
    put(x, V_pxor, d, d, vrm_reg(d), 0);
}
void vones_reg(X86 *x, unsigned d) {
    if (d >= 16)
        put(x, V_vpternlogd, d, d, vrm_reg(d), 0xFF);
    else
        put(x, V_pcmpeqd, d, d, vrm_reg(d), 0);
}
void vconst_to(X86 *x, unsigned d, uint64_t lo, uint64_t hi) {
    if (!(lo | hi))
        vzero_reg(x, d);
    else if (!~(lo & hi))
        vones_reg(x, d);
    else
        put(x, V_movaps, d, 0, vliteral(x, lo, hi), 0);
}
unsigned vconst_reg(X86 *x, uint64_t lo, uint64_t hi) {
    unsigned t = vtmp(x);
    vconst_to(x, t, lo, hi);
    return t;
}
unsigned vzero(X86 *x) {
    return vconst_reg(x, 0, 0);
}
unsigned vones(X86 *x) {
    return vconst_reg(x, ~0ull, ~0ull);
}

void vec_load(X86 *x, IrType mem, unsigned d, VecRm m) {
    unsigned bytes = ir_bytes(mem);
    if (bytes == 16)
        put(x, V_movups, d, 0, m, 0);
    else if (bytes == 8)
        put(x, V_movsd_ld, d, 0, m, 0);
    else if (bytes == 4)
        put(x, V_movss_ld, d, 0, m, 0);
    else {
        vzero_reg(x, d);
        put(x, V_pinsrw, d, d, m, 0);
    }
}
bool vec_store(X86 *x, IrType mem, unsigned a, VecRm m) {
    unsigned bytes = ir_bytes(mem);
    if (bytes == 2 && !has_sse41(x)) // pextrw has no memory form before SSE4.1
        return false;
    put(x,
        bytes == 16  ? V_movups_st
        : bytes == 8 ? V_movsd_st
        : bytes == 4 ? V_movss_st
                     : V_pextrw_m,
        a, 0, m, 0);
    return true;
}

// ---- general registers ----
static void bytes(X86 *x, const uint8_t *b, unsigned n) {
    memcpy(x->at, b, n);
    x->at += n;
}
// rex opcode modrm, register forms; force: a REX prefix for the low bytes of rsp..rdi.
static void g_rr(X86 *x, bool w, bool force, unsigned opcode, unsigned reg, unsigned rm) {
    uint8_t b[5];
    unsigned n = 0, rex = (w ? 8u : 0u) | (reg >> 3 & 1) << 2 | (rm >> 3 & 1);
    if (rex || force) b[n++] = (uint8_t)(0x40 | rex);
    if (opcode > 0xFF) b[n++] = 0x0F;
    b[n++] = (uint8_t)opcode;
    b[n++] = (uint8_t)(0xC0 | (reg & 7) << 3 | (rm & 7));
    bytes(x, b, n);
}
static void imm8(X86 *x, unsigned v) {
    uint8_t b = (uint8_t)v;
    bytes(x, &b, 1);
}
void gmov32(X86 *x, unsigned d, unsigned a) {
    g_rr(x, false, false, 0x8B, d, a);
}
void gshr32(X86 *x, unsigned d, unsigned n) {
    x86_flags_lost(x);
    g_rr(x, false, false, 0xC1, 5, d);
    imm8(x, n);
}
void gshl32(X86 *x, unsigned d, unsigned n) {
    x86_flags_lost(x);
    g_rr(x, false, false, 0xC1, 4, d);
    imm8(x, n);
}
void gor32(X86 *x, unsigned d, unsigned a) {
    x86_flags_lost(x);
    g_rr(x, false, false, 0x0B, d, a);
}
void gand32(X86 *x, unsigned d, unsigned a) {
    x86_flags_lost(x);
    g_rr(x, false, false, 0x23, d, a);
}
void gzext8(X86 *x, unsigned d) {
    g_rr(x, false, true, 0x1B6, d, d);
}
void gconst(X86 *x, unsigned d, uint32_t value) {
    uint8_t b[6];
    unsigned n = 0;
    if (d >= 8) b[n++] = 0x41;
    b[n++] = (uint8_t)(0xB8 | (d & 7));
    memcpy(b + n, &value, 4);
    bytes(x, b, n + 4);
}
void gset(X86 *x, unsigned cc, unsigned d) {
    g_rr(x, false, true, 0x190 | cc, 0, d);
}
void gcmov_const(X86 *x, unsigned cc, unsigned d, uint32_t value) {
    const V128 *k = x86_const128(x, value, 0);
    uint8_t b[4];
    unsigned n = 0;
    if (d >= 8) b[n++] = 0x44;
    b[n++] = 0x0F;
    b[n++] = (uint8_t)(0x40 | cc);
    b[n++] = (uint8_t)((d & 7) << 3 | 5); // [rip + disp32]
    bytes(x, b, n);
    int32_t rel = (int32_t)((const uint8_t *)k - (x->at + 4));
    memcpy(x->at, &rel, 4);
    x->at += 4;
    moves(x, x->at - 4, 0);
}
void gcmp_imm(X86 *x, bool is64, unsigned a, int v) {
    x86_flags_lost(x);
    g_rr(x, is64, false, 0x83, 7, a);
    imm8(x, (unsigned)v);
}
void gtest64(X86 *x, unsigned a) {
    x86_flags_lost(x);
    g_rr(x, true, false, 0x85, a, a);
}

void test_any(X86 *x, unsigned m) {
    if (has_sse41(x)) {
        op2(x, V_ptest, m, m);
        return;
    }
    unsigned g = gtmp(x);
    op2(x, V_pmovmskb, g, m);
    x86_flags_lost(x);
    g_rr(x, false, false, 0x85, g, g);
}
void kortest(X86 *x, unsigned k) {
    uint8_t b[] = {0xC5, 0xF8, 0x98, (uint8_t)(0xC0 | k << 3 | k)};
    x86_flags_lost(x);
    bytes(x, b, sizeof b);
}

unsigned guse_zext(X86 *x, IrRef v) {
    unsigned bits = ir_elem_bits(x->r->insts[v].type), s = guse(x, v);
    if (bits == 64 || x86_zero_upper(x->r, v)) return s;
    unsigned d = gtmp(x);
    if (bits == 32)
        gmov32(x, d, s);
    else
        g_rr(x, false, true, bits == 16 ? 0x1B7 : 0x1B6, d, s);
    return d;
}

// ---- cold code ----
ColdSite cold_branch(X86 *x, const IrInst *in, unsigned cc) {
    uint32_t n = x->n_cold;
    x86_cold_eval(x, ref_of(x, in), cc, 0);
    return (ColdSite){x->n_cold > n ? x->n_cold - 1 : MAX_COLD};
}
void cold_eval_at(X86 *x, ColdSite site, unsigned result) {
    if (site.index >= MAX_COLD) return;
    if (x->cold[site.index].from) x86_flags_lost(x);
    x->cold[site.index].result = (uint8_t)result;
    x->cold[site.index].back = x->at;
}

// ---- ops with no better home ----
static bool sel_vconst(X86 *x, const IrInst *in) {
    const V128 *k = &x_region(x)->vconsts[in->imm];
    vconst_to(x, vdef(x, in), k->d[0], k->d[1]);
    return true;
}

// A float constant: its bits are in imm.
static bool sel_fconst(X86 *x, const IrInst *in) {
    if (!type_in_xmm(x, in->type)) return false;
    vconst_to(x, vdef(x, in), (uint64_t)in->imm & bits_mask(ir_elem_bits(in->type)), 0);
    return true;
}

// By a branch: moves keep EFLAGS.
static bool sel_vselect(X86 *x, const IrInst *in) {
    if (!x86_in_vec(in->type)) return false;
    unsigned a = vuse(x, in->b), b = vuse(x, in->c);
    unsigned cc = x86_condition(x, ref_of(x, in), in->a), d = vdef(x, in);
    if (a == b) {
        vmov(x, d, a);
        return true;
    }
    if (d == b) { // keep it when the condition is false
        cc ^= 1;
        b = a;
    } else {
        vmov(x, d, a);
    }
    uint8_t jcc[] = {(uint8_t)(0x70 | cc), 0};
    bytes(x, jcc, 2);
    uint8_t *from = x->at;
    vmov(x, d, b);
    from[-1] = (uint8_t)(x->at - from);
    return true;
}

bool x86_sel_fp(X86 *x, IrRef v) {
    return x86_sel_vec(x, v);
}

bool x86_sel_vec(X86 *x, IrRef v) {
    const IrInst *in = ir_at(x->r, v);
    const IrOpInfo *info = &ir_op_info[in->op];
    if (info->effect == IR_FLAGFP && x_region(x)->fp_exact) return false;
    switch ((IrOp)in->op) {
    case IR_const: return ir_is_vec(in->type) ? sel_vconst(x, in) : sel_fconst(x, in);
    case IR_bitcast: return sel_bitcast(x, in);
    case IR_select: return sel_vselect(x, in);
    case IR_add: return sel_vadd(x, in);
    case IR_sub: return sel_vsub(x, in);
    case IR_mul: return sel_vmul(x, in);
    case IR_umulh:
    case IR_smulh: return sel_vmulh(x, in);
    case IR_neg: return sel_vneg(x, in);
    case IR_abs: return sel_vabs(x, in);
    case IR_smin:
    case IR_smax:
    case IR_umin:
    case IR_umax: return sel_vminmax(x, in);
    case IR_and:
    case IR_or:
    case IR_xor:
    case IR_andn: return sel_vlogic(x, in);
    case IR_not: return sel_vnot(x, in);
    case IR_shl:
    case IR_shr:
    case IR_sar: return sel_vshift(x, in);
    case IR_shli:
    case IR_shri:
    case IR_sari: return sel_vshift_imm(x, in);
    case IR_clz: return sel_vclz(x, in);
    case IR_popcnt: return sel_vpopcnt(x, in);
    case IR_rbit: return sel_vrbit(x, in);
    case IR_bswap:
    case IR_vrev: return sel_vrev(x, in);
    case IR_vcmp: return sel_vcmp(x, in);
    case IR_bsl: return sel_bsl(x, in);
    case IR_splat: return sel_splat(x, in);
    case IR_vzext: return sel_vzext(x, in);
    case IR_vget: return sel_vget(x, in);
    case IR_vset: return sel_vset(x, in);
    case IR_vlow: return sel_vlow(x, in);
    case IR_vpair:
    case IR_ziplo:
    case IR_ziphi: return sel_vzip(x, in);
    case IR_uzpe:
    case IR_uzpo: return sel_vuzp(x, in);
    case IR_trne:
    case IR_trno: return sel_vtrn(x, in);
    case IR_vext: return sel_vext(x, in);
    case IR_tbl: return sel_tbl(x, in);
    case IR_vzextl:
    case IR_vsextl:
    case IR_vzexth:
    case IR_vsexth: return sel_vwiden(x, in);
    case IR_vtrunc: return sel_vtrunc(x, in);
    case IR_vsqxtn:
    case IR_vsqxtun:
    case IR_vuqxtn: return sel_vnarrow_sat(x, in);
    case IR_vsmull:
    case IR_vumull:
    case IR_vsmull2:
    case IR_vumull2: return sel_vmull(x, in);
    case IR_sqadd:
    case IR_uqadd:
    case IR_sqsub:
    case IR_uqsub: return sel_vsat(x, in);
    case IR_shadd:
    case IR_uhadd:
    case IR_srhadd:
    case IR_urhadd: return sel_vhalving(x, in);
    case IR_vdot: return sel_vdot(x, in);
    case IR_clmul: return sel_clmul(x, in);
    case IR_aes_enc:
    case IR_aes_dec:
    case IR_aes_mix:
    case IR_aes_imix: return sel_aes(x, in);
    case IR_fadd:
    case IR_fsub:
    case IR_fmul:
    case IR_fdiv: return sel_farith(x, in);
    case IR_fsqrt: return sel_fsqrt(x, in);
    case IR_fma: return sel_fma(x, in);
    case IR_fneg:
    case IR_fabs: return sel_fsign(x, in);
    case IR_fmin:
    case IR_fmax:
    case IR_fminnum:
    case IR_fmaxnum: return sel_fminmax(x, in);
    case IR_fcmp: return sel_fcmp(x, in);
    case IR_vfcmp: return sel_vfcmp(x, in);
    case IR_fl_fcmp: return sel_fl_fcmp(x, in);
    case IR_fcvt: return sel_fcvt(x, in);
    case IR_fround: return sel_fround(x, in);
    case IR_f2s:
    case IR_f2u: return sel_f2i(x, in);
    case IR_s2f:
    case IR_u2f: return sel_i2f(x, in);
    default: return false;
    }
}
