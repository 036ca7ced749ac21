// sel_fp.c - floating point on the host's units, exactly as the guest would have it: fp_guard.c
// says how.
//
// A host operation whose result is then thrown away has raised what Arm raises too (invalid), never
// more: see sel_f2i for the care that takes with inexact. Sticky flags gather in MXCSR; ir_eval
// gathers its own in the vCPU's IrFpEnv.
//
// Scalars sit in lane 0; what lies above is unspecified (sel_vzext clears it).
#include "host/x86_64/sel_vec.h"

// Row of a shape table for this instruction's type; -1 for F16 and its lanes.
static int shape(IrType t) {
    switch (t) {
    case IR_F32X4: return PS;
    case IR_F64X2: return PD;
    case IR_F32: return SS;
    case IR_F64: return SD;
    default: return -1;
    }
}

// Whether the register of scalar v is known to hold zeros above it. VEX scalar instructions take
// what is above from their first source; legacy ones that do not go through a copy of it leave it
// unknown.
static bool zero_above_value(const X86 *x, IrRef v, unsigned depth) {
    const IrInst *in = ir_at(x_region(x), v);
    if (!depth || ir_is_vec(in->type)) return false;
    switch ((IrOp)in->op) {
    case IR_const:
    case IR_load:
    case IR_fabs: return true;
    case IR_bitcast: return !is_xmm_scalar(x, in->a) && ir_elem_bits(in->type) >= 32;
    default: break;
    }
    if (shape(in->type) < 0 || (ir_op_info[in->op].effect == IR_FLAGFP && x_region(x)->fp_exact))
        return false;
    switch ((IrOp)in->op) {
    case IR_s2f:
    case IR_u2f: return true;
    case IR_fneg: return zero_above_value(x, in->a, depth - 1);
    case IR_fsub:
    case IR_fdiv:
    case IR_fadd:
    case IR_fmul: return x->h->masks || zero_above_value(x, in->a, depth - 1);
    case IR_fmin:
    case IR_fmax:
    case IR_fminnum:
    case IR_fmaxnum:
        return zero_above_value(x, in->a, depth - 1) && zero_above_value(x, in->b, depth - 1);
    case IR_fma: // a copy of c to which is added
        if (x->h->masks) return has_fma(x);
        if (ir_at(x_region(x), in->c)->op == IR_fneg)
            return has_fma(x) && zero_above_value(x, ir_at(x_region(x), in->c)->a, depth - 1);
        return has_fma(x) && zero_above_value(x, in->c, depth - 1);
    case IR_fsqrt:
    case IR_fround:
        if (in->op == IR_fsqrt && x->h->masks) return true;
        return has_avx(x) && zero_above_value(x, in->a, depth - 1);
    case IR_fcvt:
        return has_avx(x) && in->type == IR_F64 && ir_type(x_region(x), in->a) == IR_F32 &&
               zero_above_value(x, in->a, depth - 1);
    default: return false;
    }
}
bool upper_zero(const X86 *x, IrRef v) {
    return zero_above_value(x, v, 5);
}

// Scalars with zeros above them, whatever was above the operands.
static bool clears(const X86 *x, int s, IrRef first) {
    return s >= SS && x->h->masks && !upper_zero(x, first);
}

bool sel_farith(X86 *x, const IrInst *in) {
    static const Vop op[4][4] = {{V_addps, V_addpd, V_addss, V_addsd},
                                 {V_subps, V_subpd, V_subss, V_subsd},
                                 {V_mulps, V_mulpd, V_mulss, V_mulsd},
                                 {V_divps, V_divpd, V_divss, V_divsd}};
    int s = shape(in->type);
    if (s < 0) return false;
    unsigned which = in->op == IR_fadd ? 0 : in->op == IR_fsub ? 1 : in->op == IR_fmul ? 2 : 3;
    unsigned a = vuse(x, in->a), b = vuse(x, in->b);
    bool square = x86_root(x, in->a) == x86_root(x, in->b);
    FpGuard g = fp_guard(x, in, which == 2 && !square ? FP_NAN_OR_LEAST : FP_NAN);
    unsigned d = fp_guard_def(x, in, &g);
    if (clears(x, s, in->a))
        x->at = vec_encode_masked(x->at, VEC_LANE0, op[which][s - SS], d, a, b, 0);
    else
        op3(x, op[which][s], d, a, b);
    fp_guard_end(x, in, g, s, d);
    return true;
}

bool sel_fsqrt(X86 *x, const IrInst *in) {
    static const Vop op[4] = {V_sqrtps, V_sqrtpd, V_sqrtss, V_sqrtsd};
    int s = shape(in->type);
    if (s < 0) return false;
    unsigned a = vuse(x, in->a);
    FpGuard g = fp_guard(x, in, FP_NAN);
    unsigned d = fp_guard_def(x, in, &g);
    if (clears(x, s, in->a))
        x->at = vec_encode_masked(x->at, VEC_LANE0, op[s - SS], d, 0, a, 0);
    else if (s >= SS)
        op3lo(x, op[s], d, a, a);
    else
        op2(x, op[s], d, a);
    fp_guard_end(x, in, g, s, d);
    return true;
}

IrRef x86_operand(const X86 *x, IrRef v, unsigned i, bool *negate) {
    const IrInst *in = &x->r->insts[v];
    const IrRef refs[3] = {in->a, in->b, in->c};
    *negate = x->val[v].flags & (i == 0 ? VAL_NEG_A : i == 2 ? VAL_NEG_C : 0);
    return *negate ? x->r->insts[refs[i]].a : refs[i];
}

bool sel_fma(X86 *x, const IrInst *in) {
    int s = shape(in->type);
    if (s < 0 || !has_fma(x)) return false;
    FpFma f = {.clear = s >= SS && x->h->masks};
    IrRef a = x86_operand(x, ref_of(x, in), 0, &f.neg_a);
    IrRef c = x86_operand(x, ref_of(x, in), 2, &f.neg_c);
    f.a = vuse(x, a);
    f.b = vuse(x, in->b);
    f.c = vuse(x, c);
    fp_fma(x, in, s, &f);
    return true;
}

bool sel_fsign(X86 *x, const IrInst *in) {
    unsigned bits = ir_elem_bits(in->type);
    if (!ir_is_vec(in->type) && !type_in_xmm(x, in->type)) return false;
    uint64_t sign = bits == 64   ? 0x8000000000000000
                    : bits == 32 ? 0x8000000080000000
                                 : 0x8000800080008000;
    unsigned a = vuse(x, in->a), d = vdef(x, in);
    // A scalar's constants leave zeros above it as they are (see upper_zero).
    bool vec = ir_is_vec(in->type);
    uint64_t low = vec ? ~0ull : bits_mask(bits);
    if (in->op == IR_fneg)
        op3k(x, V_pxor, d, a, sign & low, vec ? sign : 0);
    else
        op3k(x, V_pand, d, a, ~sign & low, vec ? ~sign : 0);
    return true;
}

// Emits the branch for a unordered with b (in any lane); the cold code is bound later.
static ColdSite unordered_branch(X86 *x, const IrInst *in, int s, unsigned a, unsigned b) {
    if (s >= SS) {
        op2(x, s == SS ? V_ucomiss : V_ucomisd, a, b);
        return cold_branch(x, in, CC_P);
    }
    if (has_avx512(x)) {
        op3i(x, s == PS ? V_vcmpps_k : V_vcmppd_k, 1, a, b, 3);
        kortest(x, 1);
    } else {
        unsigned m = vtmp(x);
        op3i(x, s == PS ? V_cmpps : V_cmppd, m, a, b, 3);
        test_any(x, m);
        vfree(x, m);
    }
    return cold_branch(x, in, CC_NE);
}

// The host's min(a, b) is b when they are equal or unordered, and raises invalid for quiet NaNs
// too. So NaNs leave first; of the two orders' results equal zeros of different sign give -0 by or
// (min) and +0 by and (max), all else is the same in both.
bool sel_fminmax(X86 *x, const IrInst *in) {
    static const Vop op[2][4] = {{V_minps, V_minpd, V_minss, V_minsd},
                                 {V_maxps, V_maxpd, V_maxss, V_maxsd}};
    int s = shape(in->type);
    if (s < 0) return false;
    bool max = in->op == IR_fmax || in->op == IR_fmaxnum;
    bool traps = fp_traps(x); // for quiet NaNs, too
    unsigned a = vuse(x, in->a), b = vuse(x, in->b);
    ColdSite site = {0};
    if (traps) site = fp_trap_site(x, in);
    unsigned d = vdef_fresh(x, in), u = vtmp(x);
    if (!traps) site = unordered_branch(x, in, s, a, b);
    op3(x, op[max][s], d, a, b);
    op3(x, op[max][s], u, b, a);
    op3(x, max ? V_pand : V_por, d, d, u);
    cold_eval_at(x, site, d);
    return true;
}

// ---- comparisons ----
// Compares and says which host condition holds when the predicate does; *parity tells what else the
// unordered case needs: 0 nothing, 1 and-not-parity, 2 or-parity.
static unsigned fcmp_flags(X86 *x, const IrInst *in, unsigned *parity) {
    IrFcc cc = (IrFcc)in->aux;
    bool is64 = ir_type(x_region(x), in->a) == IR_F64;
    unsigned a = vuse(x, in->a), b = vuse(x, in->b);
    if (cc == IR_OLT || cc == IR_UGE_F || cc == IR_OLE || cc == IR_UGT_F) {
        unsigned s = a;
        a = b, b = s;
    }
    fp_compare(x, in->aux2 ? (is64 ? V_comisd : V_comiss) : (is64 ? V_ucomisd : V_ucomiss), a, b);
    *parity = cc == IR_OEQ ? 1 : cc == IR_UNE ? 2 : 0;
    switch (cc) {
    case IR_OEQ: return CC_E;
    case IR_UNE: return CC_NE;
    case IR_OLT:
    case IR_OGT: return CC_A;
    case IR_UGE_F:
    case IR_ULE_F: return CC_BE;
    case IR_OLE:
    case IR_OGE: return CC_AE;
    case IR_UGT_F:
    case IR_ULT_F: return CC_B;
    case IR_ORD: return CC_NP;
    default: return CC_P;
    }
}

bool sel_fcmp(X86 *x, const IrInst *in) {
    IrType t = ir_type(x_region(x), in->a);
    if (t != IR_F32 && t != IR_F64) return false;
    unsigned parity, cc = fcmp_flags(x, in, &parity);
    unsigned d = gdef(x, in);
    gset(x, cc, d);
    if (parity) {
        unsigned g = gtmp(x);
        gset(x, parity == 1 ? CC_NP : CC_P, g);
        if (parity == 1)
            gand32(x, d, g);
        else
            gor32(x, d, g);
    }
    gzext8(x, d);
    return true;
}

bool x86_fcmp_flags(X86 *x, IrRef v, unsigned *cc, bool *unless_parity) {
    const IrInst *in = ir_at(x->r, v);
    IrType t = ir_type(x->r, in->a);
    if (in->op != IR_fcmp || (t != IR_F32 && t != IR_F64) || x->r->fp_exact) return false;
    unsigned parity;
    *cc = fcmp_flags(x, in, &parity);
    *unless_parity = parity;
    return true;
}

// EFLAGS of a comparison as fl_fcmp has it.
static void flags_of_floats(X86 *x, unsigned d) {
    gconst(x, d, 0); // greater
    gcmov_const(x, CC_E, d, IR_FLAG_Z);
    gcmov_const(x, CC_B, d, IR_FLAG_N | IR_FLAG_NOT_C);
    gcmov_const(x, CC_P, d, IR_FLAG_V);
}

bool sel_fl_fcmp(X86 *x, const IrInst *in) {
    IrType t = ir_type(x_region(x), in->a);
    if (t != IR_F32 && t != IR_F64) return false;
    unsigned a = vuse(x, in->a), b = vuse(x, in->b);
    bool is64 = t == IR_F64, used = x->val[ref_of(x, in)].last_use;
    unsigned d = used ? gdef(x, in) : 0;
    fp_compare(x, in->aux ? (is64 ? V_comisd : V_comiss) : (is64 ? V_ucomisd : V_ucomiss), a, b);
    if (used) flags_of_floats(x, d); // else only what it raises is wanted
    return true;
}

void x86_compare_floats(X86 *x, bool is64, unsigned a, unsigned b) {
    fp_compare_silently(x, is64 ? V_ucomisd : V_ucomiss, a, b);
    flags_of_floats(x, RAX);
}

bool sel_vfcmp(X86 *x, const IrInst *in) {
    // Quiet and signalling predicates of VEX, after the swap below has left EQ, LT and LE.
    static const uint8_t quiet[] = {
        [IR_OEQ] = 0x00, [IR_UNE] = 0x04,   [IR_OLT] = 0x11, [IR_UGE_F] = 0x15,
        [IR_OLE] = 0x12, [IR_UGT_F] = 0x16, [IR_ORD] = 0x07, [IR_UNO] = 0x03};
    static const uint8_t loud[] = {
        [IR_OEQ] = 0x10, [IR_UNE] = 0x14,   [IR_OLT] = 0x01, [IR_UGE_F] = 0x05,
        [IR_OLE] = 0x02, [IR_UGT_F] = 0x06, [IR_ORD] = 0x17, [IR_UNO] = 0x13};
    static const uint8_t swapped[] = {
        [IR_OGT] = IR_OLT, [IR_ULE_F] = IR_UGE_F, [IR_OGE] = IR_OLE, [IR_ULT_F] = IR_UGT_F};
    int s = shape(in->type);
    if (s != PS && s != PD) return false;
    IrFcc cc = (IrFcc)in->aux;
    bool swap = cc >= IR_OGT && cc <= IR_ULT_F;
    if (swap) cc = (IrFcc)swapped[cc];
    unsigned imm = in->aux2 ? loud[cc] : quiet[cc];
    if (imm > 7 && !has_avx(x)) return false;
    unsigned a = vuse(x, in->a), b = vuse(x, in->b);
    FpGuard g = fp_guard(x, in, FP_TRAPS_ONLY);
    unsigned d = vdef(x, in);
    if (swap) {
        unsigned t = a;
        a = b, b = t;
    }
    if (a >= 16 || b >= 16 || d >= 16) {
        op3i(x, s == PS ? V_vcmpps_k : V_vcmppd_k, 1, a, b, imm);
        op2(x, s == PS ? V_vpmovm2d : V_vpmovm2q, d, 1);
    } else {
        op3i(x, s == PS ? V_cmpps : V_cmppd, d, a, b, imm);
    }
    fp_guard_end(x, in, g, s, d);
    return true;
}

// ---- conversions between floats: the host keeps a NaN's sign and top bits and quiets it, as Arm
// ----
// Narrowing to halves may have been tiny before rounding.
static void cold_if_least_half(X86 *x, const IrInst *in, unsigned d, unsigned m) {
    const uint64_t magnitude = 0x7fff7fff7fff7fff, least = 0x0400040004000400;
    op3k(x, V_pand, m, d, magnitude, magnitude);
    op3k(x, V_pcmpeqw, m, m, least, least);
    test_any(x, m);
    cold_eval(x, in, CC_NE, d);
}

static bool fcvt_lanes(X86 *x, const IrInst *in) {
    // imm says how wide the operand's lanes are: its own type may be any 128-bit type.
    IrElem te = ir_elem(in->type), usual = te == IR_F32 ? IR_F64 : IR_F32;
    IrElem fe = in->imm == 16 ? IR_F16 : in->imm == 32 ? IR_F32 : in->imm == 64 ? IR_F64 : usual;
    if (te == IR_F16 || fe == IR_F16) {
        if (!has_f16c(x) || te == IR_F64 || fe == IR_F64) return false;
    } else if (te == fe || fe < IR_F16 || fe > IR_F64) {
        return false;
    }
    unsigned a = vuse(x, in->a);
    FpGuard g = fp_guard(x, in, te == IR_F32 && fe == IR_F64 ? FP_NAN_OR_LEAST : FP_TRAPS_ONLY);
    unsigned d = te == IR_F16 ? vdef_fresh(x, in) : fp_guard_def(x, in, &g);
    if (te == IR_F32 && fe == IR_F64) {
        op2(x, V_cvtpd2ps, d, a);
    } else if (te == IR_F16) {
        unsigned m = vtmp(x);
        op2sti(x, V_vcvtps2ph, d, a, 4);
        cold_if_least_half(x, in, d, m);
    } else {
        if (in->aux) {
            unsigned t = vtmp(x);
            op2i(x, V_pshufd, t, a, 0xEE);
            a = t;
        }
        op2(x, te == IR_F64 ? V_cvtps2pd : V_vcvtph2ps, d, a);
    }
    fp_guard_end(x, in, g, PS, d);
    return true;
}

static bool fcvt_half(X86 *x, const IrInst *in, IrType from, IrType to) {
    bool halves = (from == IR_F16 && to == IR_F32) || (from == IR_F32 && to == IR_F16);
    if (!halves || !has_f16c(x) || !type_in_xmm(x, IR_F16)) return false;
    unsigned a = vuse(x, in->a);
    FpGuard g = fp_guard(x, in, FP_TRAPS_ONLY);
    unsigned d = vdef_fresh(x, in), t = vtmp(x); // the lanes above might hold signalling NaNs
    if (to == IR_F32) {
        zero_above(x, 2, t, a);
        op2(x, V_vcvtph2ps, d, t);
    } else {
        unsigned m = vtmp(x);
        zero_above(x, 4, t, a);
        op2sti(x, V_vcvtps2ph, d, t, 4);
        cold_if_least_half(x, in, d, m);
    }
    fp_guard_end(x, in, g, SS, d);
    return true;
}

bool sel_fcvt(X86 *x, const IrInst *in) {
    IrType from = ir_type(x_region(x), in->a), to = in->type;
    if (in->aux2) return false;
    if (ir_is_vec(to)) return fcvt_lanes(x, in);
    if (from == to || from == IR_F16 || to == IR_F16) return fcvt_half(x, in, from, to);
    unsigned a = vuse(x, in->a);
    FpGuard g = fp_guard(x, in, to == IR_F32 ? FP_NAN_OR_LEAST : FP_TRAPS_ONLY);
    unsigned d = fp_guard_def(x, in, &g);
    op3lo(x, to == IR_F64 ? V_cvtss2sd : V_cvtsd2ss, d, a, a);
    fp_guard_end(x, in, g, SS, d);
    return true;
}

// roundps' immediate: IrRm is nearest, up, down, zero; AWAY is made below. Bit 3 keeps inexact from
// being raised.
enum { ROUND_AWAY = 16 };
static int round_imm(unsigned rm) {
    switch (rm) {
    case IR_RM_NEAREST: return 0;
    case IR_RM_MODE: return 4; // as MXCSR says
    case IR_RM_DOWN: return 1;
    case IR_RM_UP: return 2;
    case IR_RM_ZERO: return 3;
    case IR_RM_AWAY: return ROUND_AWAY;
    default: return -1;
    }
}
static void round_to(X86 *x, int s, unsigned d, unsigned a, unsigned imm) {
    static const Vop op[4] = {V_roundps, V_roundpd, V_roundss, V_roundsd};
    if (s >= SS)
        op3loi(x, op[s], d, a, a, imm);
    else
        op2i(x, op[s], d, a, imm);
}

// Nearest, ties away from zero, silently: r + trunc(2 (a - r)) with r = trunc(a), with a's sign for
// zeros. All steps are exact below 2^52 (2^23); larger ones, infinities and NaNs take the returned
// branch to cold code.
static ColdSite round_away(X86 *x, const IrInst *in, int s, unsigned d, unsigned a) {
    static const Vop sub[4] = {V_subps, V_subpd, V_subss, V_subsd};
    static const Vop add[4] = {V_addps, V_addpd, V_addss, V_addsd};
    bool is64 = s == PD || s == SD;
    uint64_t sign = is64 ? 0x8000000000000000 : 0x8000000080000000;
    uint64_t big = is64 ? 0x4330000000000000 : 0x4B0000004B000000;
    unsigned t = vtmp(x), k = vconst_reg(x, big, big);
    ColdSite site;
    op3k(x, V_pand, t, a, ~sign, ~sign);
    if (s >= SS) {
        op2(x, is64 ? V_ucomisd : V_ucomiss, k, t);
        site = cold_branch(x, in, CC_BE);
    } else if (has_avx512(x)) {
        op3i(x, is64 ? V_vcmppd_k : V_vcmpps_k, 1, t, k, 0x15); // not less, quiet
        kortest(x, 1);
        site = cold_branch(x, in, CC_NE);
    } else { // the legacy form has a signalling "not less" only: below 2^52 as integers instead
        unsigned m = vtmp(x);
        op3(x, V_psubd, m, k, t);
        if (is64) op2i(x, V_pshufd, m, m, 0xF5);
        op3k(x, V_pand, m, m, 0x8000000080000000, 0x8000000080000000);
        test_any(x, m);
        vfree(x, m);
        site = cold_branch(x, in, CC_NE);
    }
    round_to(x, s, t, a, 3 | 8);
    op3(x, sub[s], k, a, t);
    op3(x, add[s], k, k, k);
    round_to(x, s, k, k, 3 | 8);
    op3(x, add[s], t, t, k);
    op3k(x, V_pand, t, t, ~sign, ~sign); // rounding down, 0 - 0 is -0
    op3k(x, V_pand, k, a, sign, sign);
    op3(x, V_por, d, t, k);
    vfree(x, t);
    vfree(x, k);
    return site;
}

bool sel_fround(X86 *x, const IrInst *in) {
    int s = shape(in->type), imm = round_imm(in->aux);
    if (s < 0 || imm < 0 || !has_sse41(x) || (imm == ROUND_AWAY && in->aux2)) return false;
    unsigned a = vuse(x, in->a);
    FpGuard g = fp_guard(x, in, FP_TRAPS_ONLY);
    unsigned d = vdef_fresh(x, in);
    if (imm == ROUND_AWAY) {
        cold_eval_at(x, round_away(x, in, s, d, a), d);
    } else {
        round_to(x, s, d, a, (unsigned)imm | (in->aux2 ? 0 : 8));
    }
    fp_guard_end(x, in, g, s, d);
    return true;
}

// Float to integer. Out of range only invalid may be raised, not inexact, so a rounding other than
// towards zero is first done silently, and again aloud once the range is known to be good.
static bool f2i_scalar(X86 *x, const IrInst *in, int s) {
    bool is_signed = in->op == IR_f2s, to64 = in->type == IR_I64, from64 = s == SD;
    int imm = round_imm(in->aux);
    if (in->imm || imm < 0 || (imm != 3 && !has_sse41(x)) || (in->type != IR_I32 && !to64))
        return false;
    unsigned a = vuse(x, in->a), t = a;
    FpGuard g = fp_guard(x, in, FP_TRAPS_ONLY);
    unsigned d = gdef(x, in), z = is_signed || has_avx512(x) ? 0 : vtmp(x), n_sites = 0;
    ColdSite site[3];
    if (imm != 3) {
        t = vtmp(x);
        if (imm == ROUND_AWAY)
            site[n_sites++] = round_away(x, in, s, t, a);
        else
            round_to(x, s, t, a, (unsigned)imm | 8);
    }
    if (is_signed) {
        static const Vop cvt[2][2] = {{V_cvttss2si, V_cvttss2siq}, {V_cvttsd2si, V_cvttsd2siq}};
        op2(x, cvt[from64][to64], d, t);
        if (!g.traps) { // only the host's "indefinite", MIN, overflows
            gcmp_imm(x, to64, d, 1);
            site[n_sites++] = cold_branch(x, in, CC_O);
        }
    } else if (has_avx512(x)) {
        static const Vop cvt[2][2] = {{V_vcvttss2usi, V_vcvttss2usiq},
                                      {V_vcvttsd2usi, V_vcvttsd2usiq}};
        op2(x, cvt[from64][to64], d, t);
        if (!g.traps) {
            gcmp_imm(x, to64, d, -1);
            site[n_sites++] = cold_branch(x, in, CC_E);
        }
    } else {
        vzero_reg(x, z);
        Vop ucomi = from64 ? V_ucomisd : V_ucomiss;
        op2(x, ucomi, t, z);
        site[n_sites++] = cold_branch(x, in, CC_B); // negative or NaN
        uint64_t limit = from64 ? (to64 ? 0x43E0000000000000 : 0x41F0000000000000)
                                : (to64 ? 0x5F000000 : 0x4F800000); // 2^63 or 2^32
        op2m(x, ucomi, t, vliteral(x, limit, limit));
        site[n_sites++] = cold_branch(x, in, CC_AE);
        op2(x, from64 ? V_cvttsd2siq : V_cvttss2siq, d, t);
        if (!to64) gmov32(x, d, d);
    }
    if (imm != 3) // aloud: any rounding raises inexact for what is not integral
        round_to(x, s, t, a, 0);
    for (unsigned i = 0; i < n_sites; i++) cold_eval_at(x, site[i], d);
    fp_guard_end(x, in, g, s, d);
    return true;
}

// I64 lanes without AVX-512: one after the other through general registers g and h, and t. Returns
// how many sites.
static unsigned f64_lanes_to_i64(X86 *x, const IrInst *in, unsigned d, unsigned a, unsigned g,
                                 unsigned h, unsigned t, ColdSite *site) {
    unsigned n = 0;
    bool look = !fp_traps(x);
    op2(x, V_cvttsd2siq, g, a);
    if (look) {
        gcmp_imm(x, true, g, 1);
        site[n++] = cold_branch(x, in, CC_O);
    }
    op3(x, V_punpckhqdq, t, a, a);
    op2(x, V_cvttsd2siq, h, t);
    if (look) {
        gcmp_imm(x, true, h, 1);
        site[n++] = cold_branch(x, in, CC_O);
    }
    op2(x, V_movq_xr, t, h);
    op2(x, V_movq_xr, d, g);
    op3(x, V_punpcklqdq, d, d, t);
    return n;
}

// Branches when any lane is what the host makes of numbers out of range.
static ColdSite indefinite_branch(X86 *x, const IrInst *in, int s, unsigned t, bool is_signed) {
    uint64_t bad = !is_signed ? ~0ull : s == PS ? 0x8000000080000000 : 0x8000000000000000;
    if (has_avx512(x)) {
        op3mi(x, s == PS ? V_vpcmpd_k : V_vpcmpq_k, 1, t, vliteral(x, bad, bad), 0);
        kortest(x, 1);
    } else {
        unsigned m = vtmp(x);
        op3k(x, V_pcmpeqd, m, t, bad, bad);
        test_any(x, m);
        vfree(x, m);
    }
    return cold_branch(x, in, CC_NE);
}

static bool f2i_lanes(X86 *x, const IrInst *in, int s) {
    bool is_signed = in->op == IR_f2s;
    int imm = round_imm(in->aux);
    if (in->imm || imm < 0 || (imm != 3 && !has_sse41(x)) || (!has_avx512(x) && !is_signed))
        return false;
    unsigned a = vuse(x, in->a);
    FpGuard g = fp_guard(x, in, FP_TRAPS_ONLY);
    bool one_by_one = s == PD && !has_avx512(x);
    unsigned t = vdef_fresh(x, in), r = a, n_sites = 0, low = 0, high = 0, u = 0;
    if (one_by_one) low = gtmp(x), high = gtmp(x), u = vtmp(x);
    ColdSite site[3];
    if (imm != 3) {
        r = vtmp(x);
        if (one_by_one) vfree(x, u); // round_away has use for it
        if (imm == ROUND_AWAY)
            site[n_sites++] = round_away(x, in, s, r, a);
        else
            round_to(x, s, r, a, (unsigned)imm | 8);
    }
    if (one_by_one) {
        if (imm != 3) u = vtmp(x);
        n_sites += f64_lanes_to_i64(x, in, t, r, low, high, u, site + n_sites);
    } else {
        Vop cvt = s == PS ? (is_signed ? V_cvttps2dq : V_vcvttps2udq)
                          : (is_signed ? V_vcvttpd2qq : V_vcvttpd2uqq);
        op2(x, cvt, t, r);
        if (!g.traps) site[n_sites++] = indefinite_branch(x, in, s, t, is_signed);
    }
    if (imm != 3) round_to(x, s, r, a, 0);
    for (unsigned i = 0; i < n_sites; i++) cold_eval_at(x, site[i], t);
    fp_guard_end(x, in, g, s, t);
    return true;
}

bool sel_f2i(X86 *x, const IrInst *in) {
    IrType from = ir_type(x_region(x), in->a);
    if (ir_is_vec(in->type)) {
        unsigned L = lane_log2(in->type);
        return L >= 2 && f2i_lanes(x, in, L == 2 ? PS : PD);
    }
    int s = shape(from);
    return s >= SS && f2i_scalar(x, in, s);
}

// Integer to float; then 2^-imm is an exact factor (the result cannot be denormal: imm <= 64).
bool sel_i2f(X86 *x, const IrInst *in) {
    static const Vop mul[4] = {V_mulps, V_mulpd, V_mulss, V_mulsd};
    IrType from = ir_type(x_region(x), in->a);
    int s = shape(in->type);
    bool is_signed = in->op == IR_s2f;
    if (s < 0 || in->imm < 0 || in->imm > 64) return false;
    unsigned d;
    if (s == PS || s == PD) {
        if (!has_avx512(x) && s == PD && !is_signed) return false;
        Vop op = s == PS ? (is_signed ? V_cvtdq2ps : V_vcvtudq2ps)
                         : (is_signed ? V_vcvtqq2pd : V_vcvtuqq2pd);
        unsigned a = vuse(x, in->a);
        d = vdef(x, in);
        if (has_avx512(x) || (s == PS && is_signed)) {
            op2(x, op, d, a);
        } else if (s == PS) { // halves: both exact, and the sum rounds once
            unsigned t = vtmp(x), u = vtmp(x);
            shift_imm(x, V_psrldi, t, a, 16);
            op3k(x, V_pand, u, a, 0x0000FFFF0000FFFF, 0x0000FFFF0000FFFF);
            op2(x, V_cvtdq2ps, t, t);
            op2(x, V_cvtdq2ps, u, u);
            op3k(x, V_mulps, t, t, 0x4780000047800000, 0x4780000047800000);
            op3(x, V_addps, d, t, u);
        } else {
            unsigned g = gtmp(x), t = vtmp(x), u = vtmp(x);
            op2st(x, V_movq_rx, g, a);
            op3(x, V_punpckhqdq, u, a, a);
            op3(x, V_pxor, t, t, t);
            op3(x, V_cvtsi2sdq, t, t, g);
            op2st(x, V_movq_rx, g, u);
            op3(x, V_pxor, u, u, u);
            op3(x, V_cvtsi2sdq, u, u, g);
            op3(x, V_punpcklqdq, d, t, u);
        }
    } else {
        bool from64 = from == IR_I64, to64 = s == SD;
        if (from != IR_I32 && from != IR_I64) return false;
        static const Vop scvt[2][2] = {{V_cvtsi2ss, V_cvtsi2ssq}, {V_cvtsi2sd, V_cvtsi2sdq}};
        static const Vop ucvt[2][2] = {{V_vcvtusi2ss, V_vcvtusi2ssq},
                                       {V_vcvtusi2sd, V_vcvtusi2sdq}};
        unsigned g = is_signed || has_avx512(x) ? guse(x, in->a) : guse_zext(x, in->a);
        d = vdef(x, in);
        bool split = !is_signed && from64 && !has_avx512(x);
        ColdSite site = {0};
        if (split) {
            gtest64(x, g);
            site = cold_branch(x, in, CC_S);
        }
        op3(x, V_pxor, d, d, d); // cuts the dependency on the old value, clears what is above
        if (is_signed)
            op3(x, scvt[to64][from64], d, d, g);
        else if (has_avx512(x))
            op3(x, ucvt[to64][from64], d, d, g);
        else
            op3(x, scvt[to64][1], d, d, g);
        if (in->imm) {
            uint64_t k = ir_elem_bits(in->type) == 64 ? (uint64_t)(1023 - in->imm) << 52
                                                      : (uint64_t)(127 - in->imm) << 23;
            op3m(x, mul[s], d, d, vliteral(x, k, 0));
        }
        if (split) cold_eval_at(x, site, d);
        return true;
    }
    if (in->imm) {
        uint64_t k = s == PD ? (uint64_t)(1023 - in->imm) << 52
                             : ((uint64_t)(127 - in->imm) << 23) * 0x100000001ull;
        op3m(x, mul[s], d, d, vliteral(x, k, k));
    }
    return true;
}

// ---- bits between the register files ----
bool sel_bitcast(X86 *x, const IrInst *in) {
    IrType from = ir_type(x_region(x), in->a), to = in->type;
    bool fx = type_in_xmm(x, from), tx = type_in_xmm(x, to);
    unsigned bits = ir_elem_bits(to);
    if (ir_is_vec(from) || ir_is_vec(to) || bits > 64) return false;
    if (fx && tx) {
        unsigned a = vuse(x, in->a), d = vdef(x, in);
        vmov(x, d, a);
    } else if (fx) {
        unsigned a = vuse(x, in->a), d = gdef(x, in);
        if (bits == 16)
            op2i(x, V_pextrw, d, a, 0);
        else
            op2st(x, bits == 64 ? V_movq_rx : V_movd_rx, d, a);
    } else if (tx) {
        unsigned a = guse(x, in->a), d = vdef(x, in);
        op2(x, bits == 64 ? V_movq_xr : V_movd_xr, d, a);
    } else {
        return false;
    }
    return true;
}
