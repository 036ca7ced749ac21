// sel_vec_arith.c - integer lanes: arithmetic, bits, shifts, comparisons, saturation, products.
//
// One function per op or close family; x86_sel_vec() in sel_vec.c calls them. Discipline of all of
// them: operands are only read, intermediate values go to temporaries, and the last instruction
// writes the result, which may share its register with a dying operand. Returning false, before
// anything was emitted, means that this host has no good sequence and the evaluator shall do it.
//
// L is log2 of the lane's bytes: 0 (I8) to 3 (I64).
#include "host/x86_64/sel_vec.h"

static const Vop add_op[4] = {V_paddb, V_paddw, V_paddd, V_paddq};
static const Vop sub_op[4] = {V_psubb, V_psubw, V_psubd, V_psubq};

bool sel_vadd(X86 *x, const IrInst *in) {
    unsigned L = lane_log2(in->type);
    VEC_AB;
    op3(x, add_op[L], d, a, b);
    return true;
}

bool sel_vsub(X86 *x, const IrInst *in) {
    unsigned L = lane_log2(in->type);
    VEC_AB;
    op3(x, sub_op[L], d, a, b);
    return true;
}

// d = low halves of the products.
bool sel_vmul(X86 *x, const IrInst *in) {
    unsigned L = lane_log2(in->type);
    if (L == 3 && !has_sse41(x)) return false;
    VEC_AB;
    unsigned t, u;
    switch (L) {
    case 0: // even bytes, then odd ones, each in words
        t = vtmp(x), u = vtmp(x);
        op3(x, V_pmullw, t, a, b);
        op3k(x, V_pand, t, t, 0x00FF00FF00FF00FF, 0x00FF00FF00FF00FF);
        op3k(x, V_pand, u, b, 0xFF00FF00FF00FF00, 0xFF00FF00FF00FF00);
        {
            unsigned w = vtmp(x);
            shift_imm(x, V_psrlwi, w, a, 8);
            op3(x, V_pmullw, w, w, u);
            op3(x, V_por, d, t, w);
        }
        return true;
    case 1: op3(x, V_pmullw, d, a, b); return true;
    case 2:
        if (has_sse41(x)) {
            op3(x, V_pmulld, d, a, b);
            return true;
        }
        t = vtmp(x), u = vtmp(x);
        op2i(x, V_pshufd, t, a, 0xF5);
        op2i(x, V_pshufd, u, b, 0xF5);
        op3(x, V_pmuludq, t, t, u);
        op3(x, V_pmuludq, u, a, b);
        op2i(x, V_pshufd, t, t, 0x08);
        op2i(x, V_pshufd, u, u, 0x08);
        op3(x, V_punpckldq, d, u, t);
        return true;
    default:
        if (has_avx512(x)) {
            op3(x, V_vpmullq, d, a, b);
            return true;
        }
        t = vtmp(x), u = vtmp(x); // alo * blo + ((ahi * blo + alo * bhi) << 32)
        op2i(x, V_pshufd, t, b, 0xB1);
        op3(x, V_pmulld, t, t, a);
        shift_imm(x, V_psllqi, u, t, 32);
        op3(x, V_paddd, t, t, u); // the sum is in the high dword of each lane
        op3k(x, V_pand, t, t, 0xFFFFFFFF00000000, 0xFFFFFFFF00000000);
        op3(x, V_pmuludq, u, a, b);
        op3(x, V_paddq, d, t, u);
        return true;
    }
}

bool sel_vmulh(X86 *x, const IrInst *in) {
    unsigned L = lane_log2(in->type);
    if (L != 1) return false;
    VEC_AB;
    op3(x, in->op == IR_umulh ? V_pmulhuw : V_pmulhw, d, a, b);
    return true;
}

bool sel_vneg(X86 *x, const IrInst *in) {
    unsigned L = lane_log2(in->type);
    VEC_A;
    unsigned t = vzero(x);
    op3(x, sub_op[L], d, t, a);
    return true;
}

// d = every bit the sign of its I64 lane.
static void sign64(X86 *x, unsigned d, unsigned a) {
    if (has_avx512(x)) {
        shift_imm(x, V_vpsraqi, d, a, 63);
        return;
    }
    shift_imm(x, V_psradi, d, a, 31);
    op2i(x, V_pshufd, d, d, 0xF5);
}

bool sel_vabs(X86 *x, const IrInst *in) {
    static const Vop native[4] = {V_pabsb, V_pabsw, V_pabsd, V_vpabsq};
    unsigned L = lane_log2(in->type);
    VEC_A;
    if (L == 3 ? has_avx512(x) : has_ssse3(x)) {
        op2(x, native[L], d, a);
        return true;
    }
    unsigned t;
    if (L < 2) {
        t = vzero(x);
        op3(x, sub_op[L], t, t, a);
        op3(x, L ? V_pmaxsw : V_pminub, d, t, a);
        return true;
    }
    t = vtmp(x); // (a ^ sign) - sign
    unsigned u = vtmp(x);
    if (L == 2)
        shift_imm(x, V_psradi, t, a, 31);
    else
        sign64(x, t, a);
    op3(x, V_pxor, u, a, t);
    op3(x, sub_op[L], d, u, t);
    return true;
}

// AVX-512: into a mask and back. imm: 0 eq, 1 lt, 2 le, 4 ne, 5 ge, 6 gt.
void cmp_mask(X86 *x, unsigned L, bool is_unsigned, unsigned d, unsigned a, unsigned b,
              unsigned imm) {
    static const Vop s[4] = {V_vpcmpb_k, V_vpcmpw_k, V_vpcmpd_k, V_vpcmpq_k};
    static const Vop u[4] = {V_vpcmpub_k, V_vpcmpuw_k, V_vpcmpud_k, V_vpcmpuq_k};
    static const Vop back[4] = {V_vpmovm2b, V_vpmovm2w, V_vpmovm2d, V_vpmovm2q};
    op3i(x, is_unsigned ? u[L] : s[L], 1, a, b, imm);
    op2(x, back[L], d, 1);
}

// ---- comparisons: d = a == b, or a > b signed; I64 lanes need SSE4.2 for the latter ----
static void cmp_eq(X86 *x, unsigned L, unsigned d, unsigned a, unsigned b) {
    static const Vop op[4] = {V_pcmpeqb, V_pcmpeqw, V_pcmpeqd, V_pcmpeqq};
    if (L == 3 && !has_sse41(x)) {
        unsigned t = vtmp(x);
        op3(x, V_pcmpeqd, t, a, b);
        op2i(x, V_pshufd, d, t, 0xB1);
        op3(x, V_pand, d, d, t);
        vfree(x, t);
    } else if (d >= 16 || a >= 16 || b >= 16) {
        cmp_mask(x, L, false, d, a, b, 0);
    } else {
        op3(x, op[L], d, a, b);
    }
}
static void cmp_gt(X86 *x, unsigned L, unsigned d, unsigned a, unsigned b) {
    static const Vop op[4] = {V_pcmpgtb, V_pcmpgtw, V_pcmpgtd, V_pcmpgtq};
    if (d >= 16 || a >= 16 || b >= 16)
        cmp_mask(x, L, false, d, a, b, 6);
    else
        op3(x, op[L], d, a, b);
}
static bool has_cmp_gt(const X86 *x, unsigned L) {
    return L < 3 || has_sse42(x);
}

static const uint64_t sign_bits[4] = {0x8080808080808080, 0x8000800080008000, 0x8000000080000000,
                                      0x8000000000000000};

// Lanes a > b by signedness; d may be a or b.
static void cmp_gt_any(X86 *x, unsigned L, bool is_unsigned, unsigned d, unsigned a, unsigned b) {
    if (!is_unsigned) {
        cmp_gt(x, L, d, a, b);
    } else if (has_avx512(x)) {
        cmp_mask(x, L, true, d, a, b, 6);
    } else {
        unsigned k = vconst_reg(x, sign_bits[L], sign_bits[L]), t = vtmp(x);
        op3(x, V_pxor, t, k, a);
        op3(x, V_pxor, k, k, b);
        cmp_gt(x, L, d, t, k);
        vfree(x, t);
        vfree(x, k);
    }
}

bool sel_vcmp(X86 *x, const IrInst *in) {
    static const uint8_t mask_imm[] = {
        [IR_EQ] = 0,  [IR_NE] = 4,  [IR_ULT] = 1, [IR_UGE] = 5, [IR_ULE] = 2,
        [IR_UGT] = 6, [IR_SLT] = 1, [IR_SGE] = 5, [IR_SLE] = 2, [IR_SGT] = 6};
    unsigned L = lane_log2(in->type);
    IrCc cc = (IrCc)in->aux;
    if (cc > IR_NE && !has_cmp_gt(x, L)) return false;
    VEC_AB;
    bool uns = cc >= IR_ULT && cc <= IR_UGT;
    if (has_avx512(x) &&
        (a >= 16 || b >= 16 || d >= 16 || uns || cc == IR_NE || cc == IR_SLE || cc == IR_SGE)) {
        cmp_mask(x, L, uns, d, a, b, mask_imm[cc]);
        return true;
    }
    if (cc == IR_SLT || cc == IR_SGE || cc == IR_ULT || cc == IR_UGE) {
        unsigned s = a; // SLT is GT with the operands swapped, SGE is LE with them swapped
        a = b, b = s;
    }
    if (cc == IR_EQ) {
        cmp_eq(x, L, d, a, b);
        return true;
    }
    if (cc == IR_SGT || cc == IR_SLT || cc == IR_UGT || cc == IR_ULT) {
        cmp_gt_any(x, L, uns, d, a, b);
        return true;
    }
    unsigned t = vtmp(x);
    if (uns && (L == 0 || (L < 3 && has_sse41(x)))) { // a <= b: min(a, b) == a
        static const Vop min[3] = {V_pminub, V_pminuw, V_pminud};
        op3(x, min[L], t, a, b);
        cmp_eq(x, L, d, t, a);
        return true;
    }
    if (cc == IR_NE)
        cmp_eq(x, L, t, a, b);
    else
        cmp_gt_any(x, L, uns, t, a, b);
    unsigned ones = vones(x);
    op3(x, V_pxor, d, t, ones);
    return true;
}

// d = m ? a : b by bits; m is a mask. d may be any of them.
void blend_bits(X86 *x, unsigned d, unsigned m, unsigned a, unsigned b) {
    if (has_avx512(x)) {
        // vpternlogd reads its destination: the truth table depends on which operand that is.
        if (d == m) {
            op3i(x, V_vpternlogd, d, a, b, 0xCA);
        } else if (d == a) {
            op3i(x, V_vpternlogd, d, m, b, 0xE2); // A = a, B = m, C = b: B ? A : C
        } else if (d == b) {
            op3i(x, V_vpternlogd, d, m, a, 0xB8); // A = b, B = m, C = a: B ? C : A
        } else {
            vmov(x, d, m);
            op3i(x, V_vpternlogd, d, a, b, 0xCA);
        }
        return;
    }
    unsigned t = vtmp(x);
    op3(x, V_pxor, t, a, b);
    op3(x, V_pand, t, t, m);
    op3(x, V_pxor, d, t, b);
    vfree(x, t);
}

bool sel_vminmax(X86 *x, const IrInst *in) {
    static const Vop op[4][4] = {{V_pminsb, V_pminsw, V_pminsd, V_vpminsq},
                                 {V_pmaxsb, V_pmaxsw, V_pmaxsd, V_vpmaxsq},
                                 {V_pminub, V_pminuw, V_pminud, V_vpminuq},
                                 {V_pmaxub, V_pmaxuw, V_pmaxud, V_vpmaxuq}};
    unsigned which = in->op == IR_smin ? 0 : in->op == IR_smax ? 1 : in->op == IR_umin ? 2 : 3;
    unsigned L = lane_log2(in->type);
    bool base = which < 2 ? L == 1 : L == 0; // what SSE2 has
    bool native = base || (L == 3 ? has_avx512(x) : has_sse41(x));
    if (!native && !has_cmp_gt(x, L)) return false;
    VEC_AB;
    if (native) {
        op3(x, op[which][L], d, a, b);
        return true;
    }
    unsigned m = vtmp(x);
    cmp_gt_any(x, L, which >= 2, m, a, b);
    if (which & 1)
        blend_bits(x, d, m, a, b);
    else
        blend_bits(x, d, m, b, a);
    return true;
}

// ---- bits ----
bool sel_vlogic(X86 *x, const IrInst *in) {
    VEC_AB;
    switch (in->op) {
    case IR_and: op3(x, V_pand, d, a, b); break;
    case IR_or: op3(x, V_por, d, a, b); break;
    case IR_xor: op3(x, V_pxor, d, a, b); break;
    default: op3(x, V_pandn, d, b, a); break; // andn: a & ~b
    }
    return true;
}

bool sel_vnot(X86 *x, const IrInst *in) {
    VEC_A;
    if (has_avx512(x)) {
        op3i(x, V_vpternlogd, d, a, a, 0x55);
        return true;
    }
    unsigned t = vones(x);
    op3(x, V_pxor, d, t, a);
    return true;
}

// A mask that is known is read from memory by the instruction that needs it.
static void blend_known(X86 *x, unsigned d, const V128 *m, unsigned a, unsigned b) {
    VecRm mask = vliteral(x, m->d[0], m->d[1]);
    if (d == a) {
        op3mi(x, V_vpternlogd, d, b, mask, 0xE4); // A = a, B = b, C = m: C ? A : B
    } else {
        vmov(x, d, b);
        op3mi(x, V_vpternlogd, d, a, mask, 0xD8); // A = b, B = a, C = m: C ? B : A
    }
}

bool sel_bsl(X86 *x, const IrInst *in) {
    const IrInst *mask = ir_at(x_region(x), in->a);
    if (mask->op == IR_const && has_avx512(x)) {
        unsigned a = vuse(x, in->b), b = vuse(x, in->c), d = vdef(x, in);
        blend_known(x, d, &x_region(x)->vconsts[mask->imm], a, b);
        return true;
    }
    unsigned m = vuse(x, in->a), a = vuse(x, in->b), b = vuse(x, in->c), d = vdef(x, in);
    blend_bits(x, d, m, a, b);
    return true;
}

// ---- shifts by an immediate ----
static uint64_t bytes8(unsigned v) {
    return 0x0101010101010101ull * (v & 0xFF);
}

void shift_lanes(X86 *x, IrOp op, unsigned L, unsigned d, unsigned a, uint64_t n) {
    static const Vop left[4] = {0, V_psllwi, V_pslldi, V_psllqi};
    static const Vop right[4] = {0, V_psrlwi, V_psrldi, V_psrlqi};
    static const Vop arith[4] = {0, V_psrawi, V_psradi, V_vpsraqi};
    unsigned width = 8u << L;
    if (n >= width) {
        if (op != IR_sari) {
            op3(x, V_pxor, d, d, d);
            return;
        }
        n = width - 1;
    }
    if (n == 0) {
        vmov(x, d, a);
        return;
    }
    if (L == 0) {
        if (has_gfni(x)) { // row i of the matrix makes bit i; byte 7 - i of the constant is row i
            uint64_t m = 0;
            for (unsigned i = 0; i < 8; i++) {
                unsigned from = op == IR_shli ? i - (unsigned)n : i + (unsigned)n;
                if (from > 7) from = op == IR_sari ? 7 : 8;
                if (from < 8) m |= 1ull << ((7 - i) * 8 + from);
            }
            if (!has_avx(x)) {
                vmov(x, d, a);
                a = d;
            }
            op3mi(x, V_gf2p8affineqb, d, a, vliteral(x, m, m), 0);
            return;
        }
        unsigned t = vtmp(x);
        shift_imm(x, op == IR_shli ? V_psllwi : V_psrlwi, t, a, (unsigned)n);
        uint64_t mask = bytes8(op == IR_shli ? 0xFFu << n : 0xFFu >> n);
        if (op != IR_sari) {
            op3k(x, V_pand, d, t, mask, mask);
            vfree(x, t);
            return;
        }
        op3k(x, V_pand, t, t, mask, mask);
        unsigned s = vconst_reg(x, bytes8(0x80u >> n), bytes8(0x80u >> n));
        op3(x, V_pxor, t, t, s);
        op3(x, V_psubb, d, t, s);
        vfree(x, t);
        vfree(x, s);
        return;
    }
    if (op == IR_sari && L == 3 && !has_avx512(x)) {
        unsigned s = vtmp(x);
        sign64(x, s, a);
        unsigned t = vtmp(x);
        op3(x, V_pxor, t, a, s);
        shift_imm(x, V_psrlqi, t, t, (unsigned)n);
        op3(x, V_pxor, d, t, s);
        vfree(x, t);
        vfree(x, s);
        return;
    }
    shift_imm(x, op == IR_shli ? left[L] : op == IR_shri ? right[L] : arith[L], d, a, (unsigned)n);
}

bool sel_vshift_imm(X86 *x, const IrInst *in) {
    unsigned L = lane_log2(in->type);
    VEC_A;
    shift_lanes(x, (IrOp)in->op, L, d, a, (uint64_t)in->imm);
    return true;
}

// ---- shifts by lanes (amounts are whole unsigned lanes) ----
// I16 lanes with the I32 shifts of AVX2: even and odd lanes apart.
static void shift_words_avx2(X86 *x, IrOp op, unsigned d, unsigned a, unsigned b) {
    const uint64_t even = 0x0000FFFF0000FFFF;
    Vop v = op == IR_shl ? V_vpsllvd : op == IR_shr ? V_vpsrlvd : V_vpsravd;
    unsigned n = vtmp(x), lo = vtmp(x), hi = vtmp(x);
    op3k(x, V_pand, n, b, even, even);
    if (op == IR_shl) {
        op3(x, v, lo, a, n);
        op3k(x, V_pand, hi, a, ~even, ~even);
    } else if (op == IR_shr) {
        op3k(x, V_pand, lo, a, even, even);
        op3(x, v, lo, lo, n);
        vmov(x, hi, a);
    } else {
        shift_imm(x, V_pslldi, lo, a, 16);
        op3(x, v, lo, lo, n);
        shift_imm(x, V_psrldi, lo, lo, 16);
        vmov(x, hi, a);
    }
    shift_imm(x, V_psrldi, n, b, 16);
    op3(x, v, hi, hi, n);
    op3k(x, V_pand, lo, lo, even, even);
    op3k(x, V_pand, hi, hi, ~even, ~even);
    op3(x, V_por, d, lo, hi);
}

// I8 lanes with the I16 shifts of AVX-512BW.
static void shift_bytes_avx512(X86 *x, IrOp op, unsigned d, unsigned a, unsigned b) {
    const uint64_t even = 0x00FF00FF00FF00FF;
    Vop v = op == IR_shl ? V_vpsllvw : op == IR_shr ? V_vpsrlvw : V_vpsravw;
    unsigned n = vtmp(x), lo = vtmp(x), hi = vtmp(x);
    op3k(x, V_pand, n, b, even, even);
    if (op == IR_shl) {
        op3(x, v, lo, a, n);
        op3k(x, V_pand, hi, a, ~even, ~even);
    } else if (op == IR_shr) {
        op3k(x, V_pand, lo, a, even, even);
        op3(x, v, lo, lo, n);
        vmov(x, hi, a);
    } else {
        shift_imm(x, V_psllwi, lo, a, 8);
        op3(x, v, lo, lo, n);
        shift_imm(x, V_psrlwi, lo, lo, 8);
        vmov(x, hi, a);
    }
    shift_imm(x, V_psrlwi, n, b, 8);
    op3(x, v, hi, hi, n);
    op3k(x, V_pand, lo, lo, even, even);
    op3k(x, V_pand, hi, hi, ~even, ~even);
    op3(x, V_por, d, lo, hi);
}

bool sel_vshift(X86 *x, const IrInst *in) {
    static const Vop left[4] = {0, V_vpsllvw, V_vpsllvd, V_vpsllvq};
    static const Vop right[4] = {0, V_vpsrlvw, V_vpsrlvd, V_vpsrlvq};
    static const Vop arith[4] = {0, V_vpsravw, V_vpsravd, V_vpsravq};
    unsigned L = lane_log2(in->type);
    if (!has_avx2(x) || (L == 0 && !has_avx512(x))) return false;
    VEC_AB;
    if (L == 0) {
        shift_bytes_avx512(x, (IrOp)in->op, d, a, b);
    } else if (L == 1 && !has_avx512(x)) {
        shift_words_avx2(x, (IrOp)in->op, d, a, b);
    } else if (L == 3 && in->op == IR_sar && !has_avx512(x)) {
        unsigned s = vtmp(x), t = vtmp(x); // ((a ^ sign) >> b) ^ sign
        sign64(x, s, a);
        op3(x, V_pxor, t, a, s);
        op3(x, V_vpsrlvq, t, t, b);
        op3(x, V_pxor, d, t, s);
    } else {
        op3(x, in->op == IR_shl ? left[L] : in->op == IR_shr ? right[L] : arith[L], d, a, b);
    }
    return true;
}

// ---- counting and reversing bits ----
// d = table_lo[low nibble] op table_hi[high nibble] of each byte.
static void nibbles(X86 *x, Vop op, unsigned d, unsigned a, const uint64_t lo[2],
                    const uint64_t hi[2]) {
    const uint64_t low4 = 0x0F0F0F0F0F0F0F0F;
    unsigned t = vtmp(x), u = vtmp(x), k = vconst_reg(x, lo[0], lo[1]);
    op3k(x, V_pand, t, a, low4, low4);
    op3(x, V_pshufb, k, k, t);
    shift_imm(x, V_psrlwi, u, a, 4);
    op3k(x, V_pand, u, u, low4, low4);
    unsigned k2 = vconst_reg(x, hi[0], hi[1]);
    op3(x, V_pshufb, k2, k2, u);
    op3(x, op, d, k, k2);
}

bool sel_vpopcnt(X86 *x, const IrInst *in) {
    static const uint64_t counts[2] = {0x0302020102010100, 0x0403030203020201};
    unsigned L = lane_log2(in->type);
    if (L == 0 ? !has_ssse3(x) : !has_bitalg(x)) return false;
    VEC_A;
    static const Vop op[4] = {V_vpopcntb, V_vpopcntw, V_vpopcntd, V_vpopcntq};
    if (has_bitalg(x))
        op2(x, op[L], d, a);
    else
        nibbles(x, V_paddb, d, a, counts, counts);
    return true;
}

bool sel_vclz(X86 *x, const IrInst *in) {
    unsigned L = lane_log2(in->type);
    if (L >= 2 && has_avx512(x)) {
        unsigned a = vuse(x, in->a), d = vdef(x, in);
        op2(x, L == 2 ? V_vplzcntd : V_vplzcntq, d, a);
        return true;
    }
    if (L != 0 || !has_ssse3(x)) return false;
    // Bytes: clz of the high nibble, or 4 more of the low one when the high nibble is 0; the table
    // of the high nibble says 15 for 0 and the unsigned minimum decides (low is at most 8).
    static const uint64_t low[2] = {0x0505050506060708, 0x0404040404040404};
    static const uint64_t high[2] = {0x010101010202030F, 0x0000000000000000};
    unsigned a = vuse(x, in->a), d = vdef(x, in);
    nibbles(x, V_pminub, d, a, low, high);
    return true;
}

bool sel_vrbit(X86 *x, const IrInst *in) {
    static const uint64_t low[2] = {0xE060A020C0408000, 0xF070B030D0509010};
    static const uint64_t high[2] = {0x0E060A020C040800, 0x0F070B030D050901};
    if (lane_log2(in->type) != 0 || !has_ssse3(x)) return false;
    unsigned a = vuse(x, in->a), d = vdef(x, in);
    if (has_gfni(x) && has_avx(x))
        op3mi(x, V_gf2p8affineqb, d, a, vliteral(x, 0x8040201008040201, 0x8040201008040201), 0);
    else
        nibbles(x, V_por, d, a, low, high);
    return true;
}

// ---- saturation and halving ----
bool sel_vsat(X86 *x, const IrInst *in) {
    static const Vop native[4][2] = {
        {V_paddsb, V_paddsw}, {V_paddusb, V_paddusw}, {V_psubsb, V_psubsw}, {V_psubusb, V_psubusw}};
    unsigned which = in->op == IR_sqadd ? 0 : in->op == IR_uqadd ? 1 : in->op == IR_sqsub ? 2 : 3;
    unsigned L = lane_log2(in->type);
    if (L == 3 && (which & 1) && !has_cmp_gt(x, L)) return false;
    VEC_AB;
    if (L < 2) {
        op3(x, native[which][L], d, a, b);
        return true;
    }
    unsigned t = vtmp(x);
    bool has_umin = L == 2 ? has_sse41(x) : has_avx512(x);
    if (which == 1 && has_umin) { // a + min(b, ~a)
        unsigned ones = vones(x);
        op3(x, V_pxor, t, ones, a);
        op3(x, L == 2 ? V_pminud : V_vpminuq, t, t, b);
        op3(x, add_op[L], d, a, t);
    } else if (which == 3 && has_umin) { // max(a, b) - b
        op3(x, L == 2 ? V_pmaxud : V_vpmaxuq, t, a, b);
        op3(x, sub_op[L], d, t, b);
    } else if (which == 1) { // a + b, all ones where that is below a
        op3(x, add_op[L], t, a, b);
        cmp_gt_any(x, L, true, d, a, t);
        op3(x, V_por, d, d, t);
    } else if (which == 3) { // a - b where a > b
        cmp_gt_any(x, L, true, t, a, b);
        op3(x, sub_op[L], d, a, b);
        op3(x, V_pand, d, d, t);
    } else {
        // r = a +- b overflows when (a ^ r) & (b ^ r) (add) or (a ^ b) & (a ^ r) (sub) is negative;
        // then it is MAX for a >= 0, MIN for a < 0.
        unsigned r = vtmp(x), u = vtmp(x);
        op3(x, which == 0 ? add_op[L] : sub_op[L], r, a, b);
        op3(x, V_pxor, t, a, r);
        op3(x, V_pxor, u, which == 0 ? r : a, b);
        op3(x, V_pand, t, t, u);
        if (L == 2) {
            shift_imm(x, V_psradi, t, t, 31);
            shift_imm(x, V_psradi, u, a, 31);
        } else {
            sign64(x, t, t);
            sign64(x, u, a);
        }
        uint64_t max = L == 2 ? 0x7FFFFFFF7FFFFFFF : INT64_MAX;
        op3k(x, V_pxor, u, u, max, max);
        if (has_avx512(x)) {
            op3i(x, V_vpternlogd, t, u, r, 0xCA);
            vmov(x, d, t);
        } else {
            op3(x, V_pxor, u, u, r);
            op3(x, V_pand, u, u, t);
            op3(x, V_pxor, d, u, r);
        }
    }
    return true;
}

bool sel_vhalving(X86 *x, const IrInst *in) {
    unsigned L = lane_log2(in->type);
    VEC_AB;
    if (in->op == IR_urhadd && L < 2) {
        op3(x, L ? V_pavgw : V_pavgb, d, a, b);
        return true;
    }
    // Without carry: a + b = 2 (a & b) + (a ^ b) = 2 (a | b) - (a ^ b).
    bool is_signed = in->op == IR_shadd || in->op == IR_srhadd;
    bool round = in->op == IR_urhadd || in->op == IR_srhadd;
    unsigned u = vtmp(x);
    op3(x, V_pxor, u, a, b);
    op3(x, round ? V_por : V_pand, d, a, b); // the operands are not needed any more
    shift_lanes(x, is_signed ? IR_sari : IR_shri, L, u, u, 1);
    op3(x, round ? sub_op[L] : add_op[L], d, d, u);
    return true;
}

// ---- products ----
// Even or odd bytes of a as words.
static void take_bytes(X86 *x, bool is_signed, bool odd, unsigned d, unsigned a) {
    if (odd) {
        shift_imm(x, is_signed ? V_psrawi : V_psrlwi, d, a, 8);
    } else if (is_signed) {
        shift_imm(x, V_psllwi, d, a, 8);
        shift_imm(x, V_psrawi, d, d, 8);
    } else {
        op3k(x, V_pand, d, a, 0x00FF00FF00FF00FF, 0x00FF00FF00FF00FF);
    }
}

bool sel_vdot(X86 *x, const IrInst *in) {
    unsigned a = vuse(x, in->a), b = vuse(x, in->b), c = vuse(x, in->c), d = vdef(x, in);
    unsigned s = fresh(x, d, a, b, c); // the sum
    if (in->aux == 2 && has_vnni(x)) {
        vmov(x, s, c);
        op3(x, V_vpdpbusd, s, a, b);
        vmov(x, d, s);
        return true;
    }
    unsigned t = vtmp(x), u = vtmp(x);
    take_bytes(x, in->aux == 1, false, s, a);
    take_bytes(x, in->aux != 0, false, t, b);
    op3(x, V_pmaddwd, s, s, t);
    take_bytes(x, in->aux == 1, true, t, a);
    take_bytes(x, in->aux != 0, true, u, b);
    op3(x, V_pmaddwd, t, t, u);
    op3(x, V_paddd, s, s, t);
    op3(x, V_paddd, d, s, c);
    return true;
}

bool sel_vmull(X86 *x, const IrInst *in) {
    bool is_signed = in->op == IR_vsmull || in->op == IR_vsmull2;
    bool high = in->op == IR_vsmull2 || in->op == IR_vumull2;
    unsigned L = lane_log2(in->type); // of the products
    if (L == 3 && is_signed && !has_sse41(x)) return false;
    VEC_AB;
    unsigned t = vtmp(x), u = vtmp(x);
    if (L == 1) {
        widen(x, 0, is_signed, high, t, a);
        widen(x, 0, is_signed, high, u, b);
        op3(x, V_pmullw, d, t, u);
    } else if (L == 2) {
        op3(x, V_pmullw, t, a, b);
        op3(x, is_signed ? V_pmulhw : V_pmulhuw, u, a, b);
        op3(x, high ? V_punpckhwd : V_punpcklwd, d, t, u);
    } else {
        op2i(x, V_pshufd, t, a, high ? 0xFA : 0x50);
        op2i(x, V_pshufd, u, b, high ? 0xFA : 0x50);
        op3(x, is_signed ? V_pmuldq : V_pmuludq, d, t, u);
    }
    return true;
}

// ---- crypto: with registers that VEX can name, for CPUs with AVX-512 but without VAES ----
static unsigned low16(X86 *x, unsigned a) {
    if (a < 16) return a;
    unsigned t = vtmp(x);
    vmov(x, t, a);
    return t;
}

bool sel_clmul(X86 *x, const IrInst *in) {
    if (!has_pclmul(x)) return false;
    VEC_AB;
    unsigned t = d < 16 ? d : vtmp(x);
    op3i(x, V_pclmulqdq, t, low16(x, a), low16(x, b),
         (unsigned)((in->imm & 1) | (in->imm >> 1 & 1) << 4));
    vmov(x, d, t);
    return true;
}

// The key of the host's round is zero; MixColumns is a last decryption round undone by an
// encryption round, of which only MixColumns is left.
bool sel_aes(X86 *x, const IrInst *in) {
    if (!has_aes(x)) return false;
    unsigned a = low16(x, vuse(x, in->a)), d = vdef(x, in), t = d < 16 ? d : vtmp(x);
    if (in->op == IR_aes_imix) {
        op2(x, V_aesimc, t, a);
    } else {
        unsigned z = vzero(x);
        if (in->op == IR_aes_mix) {
            op3(x, V_aesdeclast, t, a, z);
            op3(x, V_aesenc, t, t, z);
        } else {
            op3(x, in->op == IR_aes_enc ? V_aesenclast : V_aesdeclast, t, a, z);
        }
    }
    vmov(x, d, t);
    return true;
}
