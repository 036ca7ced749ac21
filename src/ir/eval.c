// eval.c - the executable meaning of ops.def: every PURE and FLAGFP op at every type, slow, simple,
// total and without the host's floating point. It is the oracle that hosts are tested against, what
// the builder folds constants with, and what host/interp runs.
//
// Start at ir_eval(). Everything works on elements zero-extended to 64 bits; results are masked to
// their width in one place, so the functions here may leave anything above it.
// Thread-safety: pure but for *env.
#include "ir/eval.h"

typedef unsigned __int128 Wide;

// ---- integers: scalars and lanes ----

static unsigned count_leading(uint64_t a, unsigned bits) {
    return a ? (unsigned)__builtin_clzll(a) - (64 - bits) : bits;
}

static uint64_t reverse_bits(uint64_t a, unsigned bits) {
    uint64_t r = 0;
    for (unsigned i = 0; i < bits; i++) r |= (a >> i & 1) << (bits - 1 - i);
    return r;
}

// Shift amounts: scalars take b modulo the width, lanes shift everything out from the width on.
static uint64_t shift(IrOp op, unsigned bits, bool vec, uint64_t a, uint64_t b) {
    if (!vec) b %= bits;
    bool out = b >= bits;
    switch (op) {
    case IR_shl: return out ? 0 : a << b;
    case IR_shr: return out ? 0 : a >> b;
    default: return (uint64_t)(bits_sext(a, bits) >> (out ? bits - 1 : b));
    }
}

static bool compare(IrCc cc, unsigned bits, uint64_t a, uint64_t b) {
    int64_t sa = bits_sext(a, bits), sb = bits_sext(b, bits);
    switch (cc) {
    case IR_EQ: return a == b;
    case IR_NE: return a != b;
    case IR_ULT: return a < b;
    case IR_UGE: return a >= b;
    case IR_ULE: return a <= b;
    case IR_UGT: return a > b;
    case IR_SLT: return sa < sb;
    case IR_SGE: return sa >= sb;
    case IR_SLE: return sa <= sb;
    case IR_SGT: return sa > sb;
    }
    return false;
}

static uint64_t high_half(bool is_signed, unsigned bits, uint64_t a, uint64_t b) {
    if (is_signed)
        return (uint64_t)((Wide)((__int128)bits_sext(a, bits) * bits_sext(b, bits)) >> bits);
    return (uint64_t)((Wide)a * b >> bits);
}

static uint64_t saturate(__int128 x, __int128 lo, __int128 hi) {
    return (uint64_t)(x < lo ? lo : x > hi ? hi : x);
}

// Saturating and halving: in 128 bits nothing overflows.
static uint64_t saturating(IrOp op, unsigned bits, uint64_t a, uint64_t b) {
    __int128 ua = a, ub = b, sa = bits_sext(a, bits), sb = bits_sext(b, bits);
    __int128 umax = bits_mask(bits), smax = bits_mask(bits - 1), smin = -smax - 1;
    switch (op) {
    case IR_sqadd: return saturate(sa + sb, smin, smax);
    case IR_uqadd: return saturate(ua + ub, 0, umax);
    case IR_sqsub: return saturate(sa - sb, smin, smax);
    case IR_uqsub: return saturate(ua - ub, 0, umax);
    case IR_shadd: return (uint64_t)((sa + sb) >> 1);
    case IR_uhadd: return (uint64_t)((ua + ub) >> 1);
    case IR_srhadd: return (uint64_t)((sa + sb + 1) >> 1);
    default: return (uint64_t)((ua + ub + 1) >> 1); // urhadd
    }
}

// One element of an integer op; false when op is none.
static bool int_op(const IrInst *in, unsigned bits, bool vec, uint64_t a, uint64_t b,
                   uint64_t *out) {
    int64_t sa = bits_sext(a, bits), sb = bits_sext(b, bits);
    uint64_t amount = in->imm < 0 || in->imm > 64 ? 64 : (uint64_t)in->imm; // of shli and co
    switch ((IrOp)in->op) {
    case IR_add: *out = a + b; return true;
    case IR_sub: *out = a - b; return true;
    case IR_mul: *out = a * b; return true;
    case IR_umulh: *out = high_half(false, bits, a, b); return true;
    case IR_smulh: *out = high_half(true, bits, a, b); return true;
    case IR_udiv: *out = b ? a / b : 0; return true;
    case IR_sdiv:
        *out = !b ? 0 : sb == -1 ? 0 - a : (uint64_t)(sa / sb); // MIN / -1 stays MIN
        return true;
    case IR_neg: *out = 0 - a; return true;
    case IR_abs: *out = sa < 0 ? 0 - a : a; return true;
    case IR_smin: *out = sa < sb ? a : b; return true;
    case IR_smax: *out = sa > sb ? a : b; return true;
    case IR_umin: *out = a < b ? a : b; return true;
    case IR_umax: *out = a > b ? a : b; return true;
    case IR_shl:
    case IR_shr:
    case IR_sar: *out = shift(in->op, bits, vec, a, b); return true;
    case IR_ror: *out = bits_ror(a, (unsigned)(b % bits), bits); return true;
    case IR_shli: *out = shift(IR_shl, bits, true, a, amount); return true;
    case IR_shri: *out = shift(IR_shr, bits, true, a, amount); return true;
    case IR_sari: *out = shift(IR_sar, bits, true, a, amount); return true;
    case IR_clz: *out = count_leading(a, bits); return true;
    case IR_ctz: *out = a ? (uint64_t)__builtin_ctzll(a) : bits; return true;
    case IR_popcnt: *out = (uint64_t)__builtin_popcountll(a); return true;
    case IR_rbit: *out = reverse_bits(a, bits); return true;
    case IR_bswap: *out = bits < 16 ? a : __builtin_bswap64(a) >> (64 - bits); return true;
    case IR_vcmp: *out = compare(in->aux, bits, a, b) ? ~0ull : 0; return true;
    case IR_sqadd:
    case IR_uqadd:
    case IR_sqsub:
    case IR_uqsub:
    case IR_shadd:
    case IR_uhadd:
    case IR_srhadd:
    case IR_urhadd: *out = saturating(in->op, bits, a, b); return true;
    case IR_fneg: *out = a ^ 1ull << (bits - 1); return true;
    case IR_fabs: *out = a & ~(1ull << (bits - 1)); return true;
    default: return false;
    }
}

// ---- bitwise: whatever the type ----

static bool bitwise(const IrInst *in, const V128 args[3], V128 *out) {
    const uint64_t *a = args[0].d, *b = args[1].d, *c = args[2].d;
    for (unsigned i = 0; i < 2; i++) switch ((IrOp)in->op) {
        case IR_and: out->d[i] = a[i] & b[i]; break;
        case IR_or: out->d[i] = a[i] | b[i]; break;
        case IR_xor: out->d[i] = a[i] ^ b[i]; break;
        case IR_andn: out->d[i] = a[i] & ~b[i]; break;
        case IR_not: out->d[i] = ~a[i]; break;
        case IR_bsl: out->d[i] = (a[i] & b[i]) | (~a[i] & c[i]); break;
        case IR_select: out->d[i] = a[0] & 1 ? b[i] : c[i]; break;
        case IR_bitcast: out->d[i] = a[i]; break;
        default: return false;
        }
    return true;
}

// ---- widths ----

static void convert(const IrInst *in, IrType from_type, const V128 *a, V128 *out) {
    unsigned from = ir_elem_bits(from_type);
    *out = *a;
    if (in->op == IR_trunc || from >= 128) return; // the caller masks
    uint64_t low = a->d[0] & bits_mask(from);
    bool sign = in->op == IR_sext && low >> (from - 1) & 1;
    out->d[0] = sign ? (uint64_t)bits_sext(low, from) : low;
    out->d[1] = sign ? ~0ull : 0;
}

// ---- flags ----

static uint64_t pack_flags(bool n, bool z, bool c, bool v) {
    return (n ? IR_FLAG_N : 0) | (z ? IR_FLAG_Z : 0) | (c ? 0 : IR_FLAG_NOT_C) |
           (v ? IR_FLAG_V : 0);
}

static uint64_t flags_of_sum(unsigned bits, uint64_t a, uint64_t b, bool carry) {
    uint64_t sum = (a + b + carry) & bits_mask(bits);
    Wide wide = (Wide)a + b + carry;
    bool overflow = ((a ^ sum) & (b ^ sum)) >> (bits - 1) & 1;
    return pack_flags(sum >> (bits - 1) & 1, sum == 0, wide >> bits != 0, overflow);
}

static bool cond_holds(IrCond cond, uint64_t flags) {
    bool n = flags & IR_FLAG_N, z = flags & IR_FLAG_Z, c = !(flags & IR_FLAG_NOT_C),
         v = flags & IR_FLAG_V;
    bool yes;
    switch (cond & ~1) {
    case IR_C_EQ: yes = z; break;
    case IR_C_CS: yes = c; break;
    case IR_C_MI: yes = n; break;
    case IR_C_VS: yes = v; break;
    case IR_C_HI: yes = c && !z; break;
    case IR_C_GE: yes = n == v; break;
    case IR_C_GT: yes = n == v && !z; break;
    default: return true;
    }
    return yes != (cond & 1);
}

static bool flag_op(const IrInst *in, IrType a_type, const V128 args[3], uint64_t *out) {
    unsigned bits = ir_elem_bits(a_type);
    uint64_t a = args[0].d[0] & bits_mask(bits), b = args[1].d[0] & bits_mask(bits);
    switch ((IrOp)in->op) {
    case IR_icmp: *out = compare(in->aux, bits, a, b); return true;
    case IR_fl_add: *out = flags_of_sum(bits, a, b, 0); return true;
    case IR_fl_sub: *out = flags_of_sum(bits, a, ~b & bits_mask(bits), 1); return true;
    case IR_fl_adc: *out = flags_of_sum(bits, a, b, args[2].d[0] & 1); return true;
    case IR_fl_logic: *out = pack_flags(a >> (bits - 1) & 1, a == 0, 0, 0); return true;
    case IR_fl_pack: *out = ir_flags_from_nzcv((uint32_t)a); return true;
    case IR_fl_unpack: *out = ir_flags_to_nzcv((uint32_t)args[0].d[0]); return true;
    case IR_cond: *out = cond_holds(in->aux, args[0].d[0]); return true;
    default: return false;
    }
}

// ---- all of it ----

// What lies above a scalar's width is zero.
static void mask_to_type(IrType t, V128 *v) {
    unsigned bits = ir_elem_bits(t);
    if (ir_is_vec(t) || bits == 128) return;
    v->d[0] &= bits_mask(bits);
    v->d[1] = 0;
}

// vconst: the region's table of vector constants; may be NULL when the instruction is no vector
// constant.
void ir_eval(const IrInst *in, IrType a_type, const V128 args[3], const V128 *vconst, IrFpEnv *env,
             V128 *out) {
    V128 v = {0}; // out may be one of args
    unsigned bits = ir_elem_bits(in->type), n = ir_lanes(in->type);
    uint64_t x;
    if (in->op == IR_const) {
        if (ir_is_vec(in->type))
            v = vconst[in->imm];
        else
            v.d[0] = (uint64_t)in->imm;
    } else if (in->op == IR_zext || in->op == IR_sext || in->op == IR_trunc) {
        convert(in, a_type, &args[0], &v);
    } else if (bitwise(in, args, &v)) {
        // done
    } else if (flag_op(in, a_type, args, &x)) {
        v.d[0] = x;
    } else if (bits >= 1 && bits <= 64 &&
               int_op(in, bits, ir_is_vec(in->type), lane_get(&args[0], bits, 0),
                      lane_get(&args[1], bits, 0), &x)) {
        lane_set(&v, bits, 0, x);
        for (unsigned i = 1; i < n; i++) {
            int_op(in, bits, true, lane_get(&args[0], bits, i), lane_get(&args[1], bits, i), &x);
            lane_set(&v, bits, i, x);
        }
    } else if (!ir_eval_vec(in, args, &v)) {
        ir_eval_fp(in, a_type, args, env, &v);
    }
    mask_to_type(in->type, &v);
    *out = v;
}
