// sel_vec_move.c - moving lanes: constants, splat, insert and extract, zips, tables, widening and
// narrowing. Same discipline as in sel_vec_arith.c.
#include "host/x86_64/sel_vec.h"

// ---- scalars in and out ----
bool sel_splat(X86 *x, const IrInst *in) {
    unsigned L = lane_log2(in->type);
    if (is_xmm_scalar(x, in->a)) {
        unsigned a = vuse(x, in->a), d = vdef(x, in);
        if (L == 3)
            op3(x, V_punpcklqdq, d, a, a);
        else if (L == 2)
            has_avx2(x) ? op2(x, V_vbroadcastss, d, a) : op2i(x, V_pshufd, d, a, 0);
        else
            splat_low(x, L, d, a);
        return true;
    }
    unsigned a = guse(x, in->a), d = vdef(x, in);
    static const Vop from_gpr[4] = {V_vpbroadcastb_r, V_vpbroadcastw_r, V_vpbroadcastd_r,
                                    V_vpbroadcastq_r};
    if (has_avx512(x)) {
        op2(x, from_gpr[L], d, a);
        return true;
    }
    op2(x, L == 3 ? V_movq_xr : V_movd_xr, d, a);
    splat_low(x, L, d, d);
    return true;
}

// d = lane 0 of a everywhere.
void splat_low(X86 *x, unsigned L, unsigned d, unsigned a) {
    static const Vop bcast[4] = {V_vpbroadcastb, V_vpbroadcastw, V_vpbroadcastd, V_vpbroadcastq};
    if (has_avx2(x)) {
        op2(x, bcast[L], d, a);
        return;
    }
    if (L == 0) {
        op3(x, V_punpcklbw, d, a, a);
        a = d;
    }
    if (L <= 1) {
        op2i(x, V_pshuflw, d, a, 0);
        a = d;
    }
    if (L == 2)
        op2i(x, V_pshufd, d, a, 0);
    else
        op2i(x, V_pshufd, d, a, 0x44);
}

bool sel_vzext(X86 *x, const IrInst *in) {
    IrType st = ir_type(x_region(x), in->a);
    if (ir_is_vec(st)) {
        unsigned a = vuse(x, in->a), d = vdef(x, in);
        vmov(x, d, a);
        return true;
    }
    unsigned bits = ir_elem_bits(st);
    if (is_xmm_scalar(x, in->a)) {
        bool known = upper_zero(x, in->a);
        unsigned a = vuse(x, in->a), d = vdef(x, in);
        if (known)
            vmov(x, d, a);
        else
            zero_above(x, bits / 8, d, a);
        return true;
    }
    if (bits == 128) return false;
    unsigned a = guse_zext(x, in->a), d = vdef(x, in);
    op2(x, bits == 64 ? V_movq_xr : V_movd_xr, d, a);
    return true;
}

// d = the low bytes of a, zeros above.
void zero_above(X86 *x, unsigned bytes, unsigned d, unsigned a) {
    if (bytes == 8) {
        op2(x, V_movq, d, a);
    } else if (bytes == 4 && has_sse41(x)) {
        op3i(x, V_insertps, d, a, a, 0x0E);
    } else {
        unsigned t = vtmp(x);
        shift_imm(x, V_pslldq, t, a, 16 - bytes);
        shift_imm(x, V_psrldq, d, t, 16 - bytes);
    }
}

bool sel_vget(X86 *x, const IrInst *in) {
    unsigned bits = ir_elem_bits(in->type), lane = (unsigned)in->imm;
    if (bits > 64) return false;
    unsigned a = vuse(x, in->a);
    if (ir_is_float(in->type) && type_in_xmm(x, in->type)) {
        unsigned d = vdef(x, in);
        if (lane == 0)
            vmov(x, d, a);
        else if (bits == 64)
            op3(x, V_punpckhqdq, d, a, a);
        else if (bits == 32 && lane == 1 && has_avx(x))
            op2(x, V_movshdup, d, a);
        else if (bits == 32)
            op2i(x, V_pshufd, d, a, lane);
        else
            shift_imm(x, V_psrldq, d, a, lane * bits / 8);
        return true;
    }
    unsigned d = gdef(x, in);
    if (lane == 0 && bits >= 32) {
        op2st(x, bits == 64 ? V_movq_rx : V_movd_rx, d, a);
    } else if (bits == 16) {
        op2i(x, V_pextrw, d, a, lane);
    } else if (has_sse41(x)) {
        op2sti(x, bits == 64 ? V_pextrq : bits == 32 ? V_pextrd : V_pextrb, d, a, lane);
    } else if (bits == 8) {
        op2i(x, V_pextrw, d, a, lane / 2);
        if (lane & 1)
            gshr32(x, d, 8);
        else
            gzext8(x, d);
    } else {
        unsigned t = vtmp(x);
        op2i(x, V_pshufd, t, a, bits == 64 ? 0xEE : lane);
        op2st(x, bits == 64 ? V_movq_rx : V_movd_rx, d, t);
    }
    return true;
}

bool sel_vset(X86 *x, const IrInst *in) {
    unsigned L = lane_log2(in->type), lane = (unsigned)in->imm;
    unsigned a = vuse(x, in->a);
    if (is_xmm_scalar(x, in->b)) {
        unsigned b = vuse(x, in->b), d = vdef(x, in);
        if (L == 3) {
            if (lane)
                op3(x, V_movlhps, d, a, b);
            else
                op3(x, V_movsd_rr, d, a, b);
        } else if (L == 2 && lane == 0) {
            op3(x, V_movss_rr, d, a, b);
        } else if (L == 2 && has_sse41(x)) {
            op3i(x, V_insertps, d, a, b, lane << 4);
        } else { // through the general registers, 16 bits at a time
            unsigned g = gtmp(x), t = vtmp(x);
            op2i(x, V_pextrw, g, b, 0);
            op3i(x, V_pinsrw, t, a, g, L == 2 ? lane * 2 : lane);
            if (L == 2) {
                op2i(x, V_pextrw, g, b, 1);
                op3i(x, V_pinsrw, t, t, g, lane * 2 + 1);
            }
            vmov(x, d, t);
        }
        return true;
    }
    unsigned g = guse(x, in->b);
    unsigned d = vdef(x, in);
    if (L == 1) {
        op3i(x, V_pinsrw, d, a, g, lane);
    } else if (has_sse41(x)) {
        op3i(x, L == 3 ? V_pinsrq : L == 2 ? V_pinsrd : V_pinsrb, d, a, g, lane);
    } else if (L == 3) {
        unsigned t = vtmp(x);
        op2(x, V_movq_xr, t, g);
        op3(x, lane ? V_movlhps : V_movsd_rr, d, a, t);
    } else if (L == 2) {
        unsigned t = vtmp(x), h = gtmp(x);
        op3i(x, V_pinsrw, t, a, g, lane * 2);
        gmov32(x, h, g);
        gshr32(x, h, 16);
        op3i(x, V_pinsrw, d, t, h, lane * 2 + 1);
    } else { // a byte of a word
        unsigned h = gtmp(x), w = gtmp(x);
        op2i(x, V_pextrw, w, a, lane / 2);
        gmov32(x, h, g);
        gzext8(x, h);
        if (lane & 1) {
            gzext8(x, w);
            gshl32(x, h, 8);
        } else {
            gshr32(x, w, 8);
            gshl32(x, w, 8);
        }
        gor32(x, h, w);
        op3i(x, V_pinsrw, d, a, h, lane / 2);
    }
    return true;
}

bool sel_vlow(X86 *x, const IrInst *in) {
    unsigned a = vuse(x, in->a), d = vdef(x, in);
    op2(x, V_movq, d, a);
    return true;
}

// ---- two vectors into one ----
bool sel_vzip(X86 *x, const IrInst *in) {
    static const Vop lo[4] = {V_punpcklbw, V_punpcklwd, V_punpckldq, V_punpcklqdq};
    static const Vop hi[4] = {V_punpckhbw, V_punpckhwd, V_punpckhdq, V_punpckhqdq};
    unsigned L = lane_log2(in->type);
    VEC_AB;
    if (in->op == IR_vpair) L = 3;
    op3(x, in->op == IR_ziphi ? hi[L] : lo[L], d, a, b);
    return true;
}

// d = even (or odd) lanes of a, then of b.
static void unzip(X86 *x, unsigned L, bool odd, unsigned d, unsigned a, unsigned b) {
    const uint64_t even = 0x00FF00FF00FF00FF, even16 = 0x0000FFFF0000FFFF;
    if (L == 3) {
        op3(x, odd ? V_punpckhqdq : V_punpcklqdq, d, a, b);
        return;
    }
    if (L == 2) {
        op3i(x, V_shufps, d, a, b, odd ? 0xDD : 0x88);
        return;
    }
    unsigned t;
    if (!(odd && L == 0) && (L == 0 ? has_vbmi(x) : has_avx512(x))) { // its index register is dst
        uint64_t lo = L == 0 ? 0x0E0C0A0806040200 : 0x0006000400020000;
        uint64_t hi = L == 0 ? 0x1E1C1A1816141210 : 0x000E000C000A0008;
        uint64_t one = odd ? 0x0001000100010001 : 0; // of halves: odd bytes are shifted and packed
        t = d == a || d == b ? vtmp(x) : d;
        vconst_to(x, t, lo + one, hi + one);
        op3(x, L == 0 ? V_vpermi2b : V_vpermi2w, t, a, b);
        vmov(x, d, t);
        return;
    }
    unsigned u = vtmp(x);
    t = vtmp(x);
    if (L == 0 || has_sse41(x)) {
        if (odd) {
            shift_imm(x, L ? V_psrldi : V_psrlwi, t, a, L ? 16 : 8);
            shift_imm(x, L ? V_psrldi : V_psrlwi, u, b, L ? 16 : 8);
        } else {
            uint64_t mask = L ? even16 : even;
            unsigned k = vconst_reg(x, mask, mask);
            op3(x, V_pand, t, a, k);
            op3(x, V_pand, u, b, k);
        }
        op3(x, L ? V_packusdw : V_packuswb, d, t, u);
        return;
    }
    if (!odd) { // sign-extend the words that stay, so that packssdw keeps them
        shift_imm(x, V_pslldi, t, a, 16);
        shift_imm(x, V_pslldi, u, b, 16);
        shift_imm(x, V_psradi, t, t, 16);
        shift_imm(x, V_psradi, u, u, 16);
    } else {
        shift_imm(x, V_psradi, t, a, 16);
        shift_imm(x, V_psradi, u, b, 16);
    }
    op3(x, V_packssdw, d, t, u);
}

bool sel_vuzp(X86 *x, const IrInst *in) {
    unsigned L = lane_log2(in->type);
    VEC_AB;
    unzip(x, L, in->op == IR_uzpo, d, a, b);
    return true;
}

bool sel_vtrn(X86 *x, const IrInst *in) {
    static const Vop left[3] = {V_psllwi, V_pslldi, V_psllqi};
    static const Vop right[3] = {V_psrlwi, V_psrldi, V_psrlqi};
    static const uint64_t even[3] = {0x00FF00FF00FF00FF, 0x0000FFFF0000FFFF, 0x00000000FFFFFFFF};
    bool odd = in->op == IR_trno;
    unsigned L = lane_log2(in->type);
    VEC_AB;
    if (L == 3) {
        op3(x, odd ? V_punpckhqdq : V_punpcklqdq, d, a, b);
        return true;
    }
    unsigned t = vtmp(x), u = vtmp(x);
    shift_imm(x, odd ? right[L] : left[L], t, odd ? a : b, 8u << L);
    if (L > 0 && has_sse41(x) && t < 16 && d < 16 && a < 16 && b < 16) {
        unsigned imm = L == 1 ? 0xAA : 0xCC; // lanes of the second operand
        op3i(x, V_pblendw, d, odd ? t : a, odd ? b : t, imm);
        return true;
    }
    if (odd)
        op3k(x, V_pand, u, b, ~even[L], ~even[L]);
    else
        op3k(x, V_pand, u, a, even[L], even[L]);
    op3(x, V_por, d, t, u);
    return true;
}

bool sel_vext(X86 *x, const IrInst *in) {
    unsigned n = (unsigned)in->imm;
    VEC_AB;
    if (n == 0 || n == 16) {
        vmov(x, d, n ? b : a);
    } else if (has_ssse3(x)) {
        op3i(x, V_palignr, d, b, a, n);
    } else if (n == 8) {
        op3i(x, V_shufpd, d, a, b, 1);
    } else {
        unsigned t = vtmp(x), u = vtmp(x);
        shift_imm(x, V_psrldq, t, a, n);
        shift_imm(x, V_pslldq, u, b, 16 - n);
        op3(x, V_por, d, t, u);
    }
    return true;
}

// pshufb looks at bit 7 and the low four bits of an index only: adding 0x70 with saturation brings
// every index above 15 to 128 or more and leaves the low bits of the others.
bool sel_tbl(X86 *x, const IrInst *in) {
    if (!has_ssse3(x)) return false;
    unsigned a = vuse(x, in->a), d0;
    const IrInst *index = ir_at(x_region(x), in->b);
    if (index->op == IR_const) { // a known index needs no fix-up at run time
        V128 k = x_region(x)->vconsts[index->imm];
        for (unsigned i = 0; i < 16; i++) k.b[i] = k.b[i] > 15 ? 0x80 : k.b[i];
        d0 = vdef(x, in);
        op3m(x, V_pshufb, d0, a, vliteral(x, k.d[0], k.d[1]));
        return true;
    }
    unsigned b = vuse(x, in->b), d = vdef(x, in), t = vtmp(x);
    op3k(x, V_paddusb, t, b, 0x7070707070707070, 0x7070707070707070);
    op3(x, V_pshufb, d, a, t);
    return true;
}

static void reverse(X86 *x, unsigned L, unsigned group, unsigned d, unsigned a) {
    if (L == 3) {
        op2i(x, V_pshufd, d, a, group == 16 ? 0x4E : 0xE4);
    } else if (L == 2) {
        op2i(x, V_pshufd, d, a, group == 16 ? 0x1B : group == 8 ? 0xB1 : 0xE4);
    } else if (has_ssse3(x)) {
        V128 k;
        unsigned size = 1u << L;
        for (unsigned i = 0; i < 16; i++) {
            unsigned lane = i / size, per = group / size;
            k.b[i] = (uint8_t)((lane ^ (per - 1)) * size + i % size);
        }
        op3m(x, V_pshufb, d, a, vliteral(x, k.d[0], k.d[1]));
    } else if (L == 1) {
        unsigned t = vtmp(x);
        if (group == 16) {
            op2i(x, V_pshufd, t, a, 0x4E);
            a = t;
        }
        op2i(x, V_pshuflw, t, a, group == 4 ? 0xB1 : group == 2 ? 0xE4 : 0x1B);
        op2i(x, V_pshufhw, d, t, group == 4 ? 0xB1 : group == 2 ? 0xE4 : 0x1B);
    } else {
        unsigned t = vtmp(x), u = vtmp(x);
        shift_imm(x, V_psrlwi, t, a, 8);
        shift_imm(x, V_psllwi, u, a, 8);
        op3(x, V_por, t, t, u);
        if (group == 2)
            vmov(x, d, t);
        else
            reverse(x, 1, group, d, t);
    }
}

bool sel_vrev(X86 *x, const IrInst *in) {
    unsigned L = lane_log2(in->type);
    VEC_A;
    unsigned group = in->op == IR_bswap ? 1u << L : (unsigned)in->imm;
    if (in->op == IR_bswap) L = 0;
    if (group <= 1u << L)
        vmov(x, d, a);
    else
        reverse(x, L, group, d, a);
    return true;
}

// ---- widening: from lanes of L to twice as wide ----
void widen(X86 *x, unsigned L, bool is_signed, bool high, unsigned d, unsigned a) {
    static const Vop zx[3] = {V_pmovzxbw, V_pmovzxwd, V_pmovzxdq};
    static const Vop sx[3] = {V_pmovsxbw, V_pmovsxwd, V_pmovsxdq};
    static const Vop lo[3] = {V_punpcklbw, V_punpcklwd, V_punpckldq};
    static const Vop hi[3] = {V_punpckhbw, V_punpckhwd, V_punpckhdq};
    if (has_sse41(x) && !high) {
        op2(x, is_signed ? sx[L] : zx[L], d, a);
        return;
    }
    if (!is_signed) {
        unsigned z = vzero(x);
        op3(x, high ? hi[L] : lo[L], d, a, z);
        vfree(x, z);
    } else if (L == 2 && has_sse41(x)) {
        unsigned t = vtmp(x);
        op2i(x, V_pshufd, t, a, 0xEE);
        op2(x, V_pmovsxdq, d, t);
        vfree(x, t);
    } else if (L == 2) {
        unsigned t = vtmp(x);
        shift_imm(x, V_psradi, t, a, 31);
        op3(x, high ? hi[L] : lo[L], d, a, t);
        vfree(x, t);
    } else {
        unsigned t = vtmp(x);
        op3(x, high ? hi[L] : lo[L], t, a, a);
        shift_imm(x, L ? V_psradi : V_psrawi, d, t, L ? 16 : 8);
        vfree(x, t);
    }
}

bool sel_vwiden(X86 *x, const IrInst *in) {
    unsigned L = lane_log2(in->type);
    VEC_A;
    widen(x, L - 1, in->op == IR_vsextl || in->op == IR_vsexth,
          in->op == IR_vzexth || in->op == IR_vsexth, d, a);
    return true;
}

// ---- narrowing ----
static bool is_zero_vec(X86 *x, IrRef v) {
    const IrInst *in = ir_at(x_region(x), v);
    if (in->op != IR_const || !ir_is_vec(in->type)) return false;
    const V128 *k = &x_region(x)->vconsts[in->imm];
    return !(k->d[0] | k->d[1]);
}

bool sel_vtrunc(X86 *x, const IrInst *in) {
    static const Vop one[3] = {V_vpmovwb, V_vpmovdw, V_vpmovqd};
    unsigned L = lane_log2(in->type);
    if (L < 3 && has_avx512(x) && is_zero_vec(x, in->b)) {
        unsigned a = vuse(x, in->a), d = vdef(x, in);
        op2st(x, one[L], d, a);
        return true;
    }
    unsigned a = vuse(x, in->a), b = vuse(x, in->b), d = vdef(x, in);
    unzip(x, L, false, d, a, b);
    return true;
}

bool sel_vnarrow_sat(X86 *x, const IrInst *in) {
    unsigned L = lane_log2(in->type); // of the result
    IrOp op = (IrOp)in->op;
    bool has = L == 0 ? true : L == 1 ? op == IR_vsqxtn || has_sse41(x) : has_avx512(x);
    if (!has) return false;
    unsigned a = vuse(x, in->a), b = vuse(x, in->b), d = vdef(x, in);
    unsigned t = vtmp(x), u = vtmp(x);
    if (L == 2) {
        if (op == IR_vsqxtun) {
            unsigned z = vzero(x);
            op3(x, V_vpmaxsq, t, a, z);
            op3(x, V_vpmaxsq, u, b, z);
            a = t, b = u;
        }
        Vop v = op == IR_vsqxtn ? V_vpmovsqd : V_vpmovusqd;
        op2st(x, v, t, a);
        op2st(x, v, u, b);
        op3(x, V_punpcklqdq, d, t, u);
        return true;
    }
    if (op == IR_vuqxtn) {
        unsigned k;
        if (L == 1) {
            k = vconst_reg(x, 0x0000FFFF0000FFFF, 0x0000FFFF0000FFFF);
            op3(x, V_pminud, t, a, k);
            op3(x, V_pminud, u, b, k);
        } else { // a - saturating(a - 255)
            k = vconst_reg(x, 0x00FF00FF00FF00FF, 0x00FF00FF00FF00FF);
            if (has_sse41(x)) {
                op3(x, V_pminuw, t, a, k);
                op3(x, V_pminuw, u, b, k);
            } else {
                op3(x, V_psubusw, u, a, k);
                op3(x, V_psubw, t, a, u);
                op3(x, V_psubusw, u, b, k);
                op3(x, V_psubw, k, b, u);
                u = k;
            }
        }
        a = t, b = u;
    }
    if (L == 1)
        op3(x, op == IR_vsqxtn ? V_packssdw : V_packusdw, d, a, b);
    else
        op3(x, op == IR_vsqxtn ? V_packsswb : V_packuswb, d, a, b);
    return true;
}
