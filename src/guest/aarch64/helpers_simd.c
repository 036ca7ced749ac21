// helpers_simd.c - AdvSIMD operations that no few IR ops can say: shifts by signed amounts with
// rounding and saturation, polynomial products, reciprocal estimates and the like. Plain loops over
// lanes, correct first; each follows the pseudocode of the Arm ARM (DDI 0487).
//
// Called from translated code by pointer (see IrHelper); all are pure but for sticky FP flags,
// which go to the vCPU. Floating-point steps are the IR's own ops through ir_eval(), so that
// rounding mode, NaNs and flags mean the same here as there. Reentrant, no memory.
#include "guest/aarch64/helpers_simd.h"

#include "engine/vcpu.h"

typedef __int128 Wide;

static uint64_t lane_get(const V128 *v, unsigned size, unsigned i) {
    switch (size) {
    case 0: return v->b[i];
    case 1: return v->h[i];
    case 2: return v->w[i];
    default: return v->d[i];
    }
}

static void lane_set(V128 *v, unsigned size, unsigned i, uint64_t x) {
    switch (size) {
    case 0: v->b[i] = (uint8_t)x; break;
    case 1: v->h[i] = (uint16_t)x; break;
    case 2: v->w[i] = (uint32_t)x; break;
    default: v->d[i] = x; break;
    }
}

static Wide lane_int(const V128 *v, unsigned size, unsigned i, bool is_signed) {
    uint64_t x = lane_get(v, size, i);
    return is_signed ? (Wide)bits_sext(x, 8u << size) : (Wide)x;
}

static Wide saturate(Wide x, unsigned bits, bool is_signed, bool *saturated) {
    Wide hi = is_signed ? ((Wide)1 << (bits - 1)) - 1 : ((Wide)1 << bits) - 1;
    Wide lo = is_signed ? -((Wide)1 << (bits - 1)) : 0;
    *saturated = x > hi || x < lo;
    return x > hi ? hi : x < lo ? lo : x;
}

// ---- integer ----

static Wide shift_floor(Wide x, int right, bool round) {
    if (right >= 66) return round ? 0 : x < 0 ? -1 : 0;
    if (round) x += (Wide)1 << (right - 1);
    return x >> right;
}

static void do_shift_reg(void *state, V128 *out, const V128 *a, const V128 *b, const V128 *c,
                         uint64_t imm) {
    unsigned size = imm & SIMD_SIZE, bits = 8u << size;
    bool is_signed = imm & SIMD_SIGNED;
    for (unsigned i = 0; i < 16u >> size; i++) {
        Wide x = lane_int(a, size, i, is_signed);
        int shift = (int8_t)lane_get(b, size, i);
        bool saturated = false;
        if (shift < 0) {
            x = shift_floor(x, -shift, imm & SIMD_ROUND);
        } else if (shift >= (int)bits) { // all bits leave; what saturates goes as far as it can
            if (imm & SIMD_SATURATE && x != 0)
                x = x < 0 ? -((Wide)1 << 100) : (Wide)1 << 100;
            else
                x = 0;
        } else {
            x = (Wide)((unsigned __int128)x << shift);
        }
        if (imm & SIMD_SATURATE) x = saturate(x, bits, is_signed, &saturated);
        lane_set(out, size, i, imm & SIMD_QC ? 0 - (uint64_t)saturated : (uint64_t)x);
    }
}

static void do_mixed_qadd(void *state, V128 *out, const V128 *a, const V128 *b, const V128 *c,
                          uint64_t imm) {
    unsigned size = imm & SIMD_SIZE;
    bool is_signed = imm & SIMD_SIGNED; // of the accumulator; b is of the other kind
    for (unsigned i = 0; i < 16u >> size; i++) {
        bool saturated;
        Wide x = lane_int(a, size, i, is_signed) + lane_int(b, size, i, !is_signed);
        x = saturate(x, 8u << size, is_signed, &saturated);
        lane_set(out, size, i, imm & SIMD_QC ? 0 - (uint64_t)saturated : (uint64_t)x);
    }
}

static void do_sqrdmlah(void *state, V128 *out, const V128 *a, const V128 *b, const V128 *c,
                        uint64_t imm) {
    unsigned size = imm & SIMD_SIZE, bits = 8u << size;
    for (unsigned i = 0; i < 16u >> size; i++) {
        bool saturated;
        Wide product = 2 * lane_int(a, size, i, true) * lane_int(b, size, i, true);
        Wide x = lane_int(c, size, i, true) * ((Wide)1 << bits);
        x += (imm & SIMD_SUB ? -product : product) + ((Wide)1 << (bits - 1));
        x = saturate(x >> bits, bits, true, &saturated);
        lane_set(out, size, i, imm & SIMD_QC ? 0 - (uint64_t)saturated : (uint64_t)x);
    }
}

static unsigned poly_product8(unsigned a, unsigned b) {
    unsigned x = 0;
    for (unsigned k = 0; k < 8; k++) x ^= (b >> k & 1) ? a << k : 0;
    return x;
}

static void do_pmul8(void *state, V128 *out, const V128 *a, const V128 *b, const V128 *c,
                     uint64_t imm) {
    for (unsigned i = 0; i < 16; i++) out->b[i] = (uint8_t)poly_product8(a->b[i], b->b[i]);
}

static void do_pmull8(void *state, V128 *out, const V128 *a, const V128 *b, const V128 *c,
                      uint64_t imm) {
    V128 x;
    for (unsigned i = 0; i < 8; i++) x.h[i] = (uint16_t)poly_product8(a->b[i], b->b[i]);
    *out = x;
}

static void do_mmla(void *state, V128 *out, const V128 *a, const V128 *b, const V128 *c,
                    uint64_t imm) {
    V128 x;
    for (unsigned i = 0; i < 4; i++) {
        uint32_t sum = c->w[i];
        for (unsigned k = 0; k < 8; k++) {
            int p = imm & SIMD_SIGNED ? a->sb[i / 2 * 8 + k] : a->b[i / 2 * 8 + k];
            int q = imm & (SIMD_SIGNED | SIMD_ROUND) ? b->sb[i % 2 * 8 + k] : b->b[i % 2 * 8 + k];
            sum += (uint32_t)(p * q);
        }
        x.w[i] = sum;
    }
    *out = x;
}

// ---- reciprocal estimates: the architecture gives them exactly ----

static unsigned recip_estimate(unsigned a) { // 256..511 for [0.5, 1.0)
    return ((1u << 19) / (a * 2 + 1) + 1) / 2;
}

static unsigned recip_sqrt_estimate(unsigned a) { // 128..511 for [0.25, 1.0)
    a = a < 256 ? a * 2 + 1 : ((a >> 1 << 1) + 1) * 2;
    unsigned b = 512;
    while (a * (b + 1) * (b + 1) < 1u << 28) b++;
    return (b + 1) / 2;
}

static void do_urecpe(void *state, V128 *out, const V128 *a, const V128 *b, const V128 *c,
                      uint64_t imm) {
    for (unsigned i = 0; i < 4; i++)
        out->w[i] = a->w[i] >> 31 ? recip_estimate(a->w[i] >> 23) << 23 : ~0u;
}

static void do_ursqrte(void *state, V128 *out, const V128 *a, const V128 *b, const V128 *c,
                       uint64_t imm) {
    for (unsigned i = 0; i < 4; i++)
        out->w[i] = a->w[i] >> 30 ? recip_sqrt_estimate(a->w[i] >> 23) << 23 : ~0u;
}

// The parts of a floating-point lane, and what the FP mode makes of it.
typedef struct FpLane {
    unsigned size, bits, frac_bits, exp_max;
    uint64_t raw, frac; // frac is left-aligned to 52 bits
    int exp;
    uint64_t sign; // in place
    bool nan, inf, zero;
} FpLane;

static FpLane fp_unpack(IrFpEnv *env, unsigned size, uint64_t raw) {
    static const uint8_t frac_bits[] = {0, 10, 23, 52};
    FpLane x = {.size = size, .bits = 8u << size, .frac_bits = frac_bits[size], .raw = raw};
    unsigned exp_bits = x.bits - 1 - x.frac_bits;
    x.exp_max = (1u << exp_bits) - 1;
    x.sign = raw & 1ull << (x.bits - 1);
    x.exp = (int)bits_get(raw, x.frac_bits, exp_bits);
    x.frac = bits_get(raw, 0, x.frac_bits) << (52 - x.frac_bits);
    x.nan = x.exp == (int)x.exp_max && x.frac;
    x.inf = x.exp == (int)x.exp_max && !x.frac;
    if (x.exp == 0 && x.frac && env->mode & (size == 1 ? IR_FPM_FZ16 : IR_FPM_FZ)) {
        x.frac = 0;
        if (size != 1) env->flags |= IR_FPF_DENORMAL_IN;
    }
    x.zero = x.exp == 0 && x.frac == 0;
    return x;
}

static IrType fp_type(unsigned size) {
    return size == 1 ? IR_F16 : size == 2 ? IR_F32 : IR_F64;
}

static uint64_t fp_eval(IrFpEnv *env, IrOp op, unsigned size, unsigned aux, uint64_t a, uint64_t b,
                        uint64_t c) {
    IrInst in = {.op = op, .type = fp_type(size), .aux = aux, .a = 1, .b = 2, .c = 3};
    V128 args[3] = {{.d = {a, 0}}, {.d = {b, 0}}, {.d = {c, 0}}}, out = {0};
    ir_eval(&in, in.type, args, NULL, env, &out);
    return out.d[0];
}

// The NaN as an operation returns it: a signalling one quieted and flagged, or the default NaN.
static uint64_t fp_nan(IrFpEnv *env, const FpLane *x) {
    return fp_eval(env, IR_fadd, x->size, 0, x->raw, x->raw, 0);
}

static uint64_t fp_infinity(const FpLane *x) {
    return (uint64_t)x->exp_max << x->frac_bits;
}

static uint64_t fp_default_nan(const FpLane *x) {
    return fp_infinity(x) | 1ull << (x->frac_bits - 1);
}

static uint64_t frecpe(IrFpEnv *env, unsigned size, uint64_t raw) {
    FpLane x = fp_unpack(env, size, raw);
    int bias = (int)x.exp_max >> 1;
    if (x.nan) return fp_nan(env, &x);
    if (x.inf) return x.sign;
    if (x.zero) {
        env->flags |= IR_FPF_DIVZERO;
        return x.sign | fp_infinity(&x);
    }
    if (x.exp == 0 && x.frac >> 50 == 0) { // below 2^-(bias + 1): the reciprocal overflows
        env->flags |= IR_FPF_OVERFLOW | IR_FPF_INEXACT;
        IrRm rm = env->mode & IR_FPM_RM;
        bool to_inf =
            rm == IR_RM_NEAREST || (rm == IR_RM_UP && !x.sign) || (rm == IR_RM_DOWN && x.sign);
        return x.sign | (fp_infinity(&x) - !to_inf);
    }
    if (env->mode & (size == 1 ? IR_FPM_FZ16 : IR_FPM_FZ) && x.exp >= 2 * bias - 1) {
        env->flags |= IR_FPF_UNDERFLOW;
        return x.sign;
    }
    int exp = x.exp;
    uint64_t frac = x.frac;
    if (exp == 0) {
        if (frac >> 51 == 0) {
            exp = -1;
            frac = frac << 2;
        } else {
            frac = frac << 1;
        }
        frac &= bits_mask(52);
    }
    int result_exp = 2 * bias - 1 - exp;
    uint64_t estimate = recip_estimate((unsigned)(256 | frac >> 44));
    frac = (estimate & 255) << 44;
    if (result_exp == 0) {
        frac = 1ull << 51 | frac >> 1;
    } else if (result_exp == -1) {
        frac = 1ull << 50 | frac >> 2;
        result_exp = 0;
    }
    return x.sign | (uint64_t)result_exp << x.frac_bits | frac >> (52 - x.frac_bits);
}

static uint64_t frsqrte(IrFpEnv *env, unsigned size, uint64_t raw) {
    FpLane x = fp_unpack(env, size, raw);
    int bias = (int)x.exp_max >> 1;
    if (x.nan) return fp_nan(env, &x);
    if (x.zero) {
        env->flags |= IR_FPF_DIVZERO;
        return x.sign | fp_infinity(&x);
    }
    if (x.sign) {
        env->flags |= IR_FPF_INVALID;
        return fp_default_nan(&x);
    }
    if (x.inf) return 0;
    int exp = x.exp;
    uint64_t frac = x.frac;
    if (exp == 0) {
        for (; frac >> 51 == 0; exp--) frac <<= 1;
        frac = frac << 1 & bits_mask(52);
    }
    unsigned scaled = (unsigned)(exp & 1 ? 128 | frac >> 45 : 256 | frac >> 44);
    // (44, 380 or 3068 - exp) / 2; never negative
    uint64_t result_exp = (uint64_t)((3 * bias - 1 - exp) / 2);
    uint64_t estimate = recip_sqrt_estimate(scaled) & 255;
    return result_exp << x.frac_bits | estimate << (x.frac_bits - 8);
}

static uint64_t frecpx(IrFpEnv *env, unsigned size, uint64_t raw) {
    FpLane x = fp_unpack(env, size, raw);
    if (x.nan) return fp_nan(env, &x);
    uint64_t exp = x.exp == 0 ? x.exp_max - 1 : (uint64_t)(x.exp_max - (unsigned)x.exp);
    return x.sign | exp << x.frac_bits;
}

// (3 - ab) / 2 with one rounding. The halving is exact unless the fused sum overflows, so a factor
// of at least 1 is halved first where there is one; without one the sum is between 2 and 4.
static uint64_t frsqrts(IrFpEnv *env, unsigned size, uint64_t a, uint64_t b) {
    static const uint64_t one[] = {0, 0x3c00, 0x3f800000, 0x3ff0000000000000},
                          three[] = {0, 0x4200, 0x40400000, 0x4008000000000000},
                          half[] = {0, 0x3800, 0x3f000000, 0x3fe0000000000000},
                          three_halves[] = {0, 0x3e00, 0x3fc00000, 0x3ff8000000000000};
    uint64_t sign = 1ull << ((8u << size) - 1), abs_a = a & ~sign, abs_b = b & ~sign;
    a ^= sign;
    FpLane x = fp_unpack(env, size, a), y = fp_unpack(env, size, b);
    if (x.nan || y.nan) return fp_eval(env, IR_fmul, size, 0, a, b, 0);
    if ((x.inf && y.zero) || (x.zero && y.inf)) return three_halves[size];
    if (abs_a < one[size] && abs_b < one[size]) {
        uint64_t sum = fp_eval(env, IR_fma, size, 0, a, b, three[size]);
        return fp_eval(env, IR_fmul, size, 0, sum, half[size], 0);
    }
    uint64_t *scaled = abs_a >= one[size] ? &a : &b;
    *scaled = fp_eval(env, IR_fmul, size, 0, *scaled, half[size], 0);
    return fp_eval(env, IR_fma, size, 0, a, b, three_halves[size]);
}

// FRINT32X and its kin: to an integral value of 32 or 64 bits; the most negative one when it does
// not fit or is no number.
static uint64_t frint_n(IrFpEnv *env, unsigned size, uint64_t raw, bool by_mode, bool to64) {
    FpLane x = fp_unpack(env, size, raw);
    int bias = (int)x.exp_max >> 1, n = to64 ? 64 : 32;
    uint64_t most_negative = 1ull << (x.bits - 1) | (uint64_t)(bias + n - 1) << x.frac_bits;
    if (!x.nan && !x.inf) {
        IrFpEnv trial = *env;
        IrInst in = {.op = IR_fround,
                     .type = fp_type(size),
                     .a = 1,
                     .aux2 = 1,
                     .aux = by_mode ? IR_RM_MODE : IR_RM_ZERO};
        V128 args[3] = {{.d = {raw, 0}}}, out = {0};
        ir_eval(&in, in.type, args, NULL, &trial, &out);
        uint64_t magnitude = out.d[0] & ~(1ull << (x.bits - 1));
        if (magnitude < (most_negative & ~(1ull << (x.bits - 1))) || out.d[0] == most_negative) {
            *env = trial;
            return out.d[0];
        }
    }
    env->flags |= IR_FPF_INVALID;
    return most_negative;
}

typedef uint64_t FpLaneFn(IrFpEnv *env, unsigned size, uint64_t a, uint64_t b, uint64_t imm);

static void fp_lanes(void *state, V128 *out, const V128 *a, const V128 *b, uint64_t imm,
                     FpLaneFn *fn) {
    IrFpEnv env = vcpu_hot(state)->fp;
    env.flags = 0;
    V128 x = {0};
    unsigned size = imm & SIMD_SIZE;
    for (unsigned i = 0; i < imm >> SIMD_LANES_SHIFT; i++)
        lane_set(&x, size, i,
                 fn(&env, size, lane_get(a, size, i), b ? lane_get(b, size, i) : 0, imm));
    vcpu_fp_raise(state, env.flags);
    *out = x;
}

static uint64_t frecpe_lane(IrFpEnv *env, unsigned size, uint64_t a, uint64_t b, uint64_t imm) {
    return frecpe(env, size, a);
}
static uint64_t frsqrte_lane(IrFpEnv *env, unsigned size, uint64_t a, uint64_t b, uint64_t imm) {
    return frsqrte(env, size, a);
}
static uint64_t frecpx_lane(IrFpEnv *env, unsigned size, uint64_t a, uint64_t b, uint64_t imm) {
    return frecpx(env, size, a);
}
static uint64_t frsqrts_lane(IrFpEnv *env, unsigned size, uint64_t a, uint64_t b, uint64_t imm) {
    return frsqrts(env, size, a, b);
}
static uint64_t frint_n_lane(IrFpEnv *env, unsigned size, uint64_t a, uint64_t b, uint64_t imm) {
    return frint_n(env, size, a, imm & SIMD_ROUND, imm & SIMD_SIGNED);
}

static void do_frecpe(void *state, V128 *out, const V128 *a, const V128 *b, const V128 *c,
                      uint64_t imm) {
    fp_lanes(state, out, a, b, imm, frecpe_lane);
}
static void do_frsqrte(void *state, V128 *out, const V128 *a, const V128 *b, const V128 *c,
                       uint64_t imm) {
    fp_lanes(state, out, a, b, imm, frsqrte_lane);
}
static void do_frecpx(void *state, V128 *out, const V128 *a, const V128 *b, const V128 *c,
                      uint64_t imm) {
    fp_lanes(state, out, a, b, imm, frecpx_lane);
}
static void do_frsqrts(void *state, V128 *out, const V128 *a, const V128 *b, const V128 *c,
                       uint64_t imm) {
    fp_lanes(state, out, a, b, imm, frsqrts_lane);
}
static void do_frint_n(void *state, V128 *out, const V128 *a, const V128 *b, const V128 *c,
                       uint64_t imm) {
    fp_lanes(state, out, a, b, imm, frint_n_lane);
}

// ---- FJCVTZS: JavaScript's double to int32, modulo 2^32 ----

static uint64_t do_jcvtzs(void *state, uint64_t raw) {
    IrFpEnv env = vcpu_hot(state)->fp;
    env.flags = 0;
    FpLane x = fp_unpack(&env, 3, raw);
    uint64_t magnitude = 0, significand = x.frac | 1ull << 52;
    int shift = x.exp - 1075; // of the significand, to give the magnitude
    bool inexact = false, invalid = x.nan || x.inf;
    if (!x.nan && !x.inf && !x.zero) {
        if (x.exp == 0 || shift <= -53) {
            inexact = true;
        } else if (shift < 0) {
            magnitude = significand >> -shift;
            inexact = (significand & bits_mask((unsigned)-shift)) != 0;
        } else {
            magnitude = shift < 64 ? significand << shift : 0;
        }
        invalid = shift > 0 || magnitude > 0x7fffffffull + (x.sign != 0);
    }
    env.flags |= invalid ? IR_FPF_INVALID : inexact ? IR_FPF_INEXACT : 0;
    vcpu_fp_raise(state, env.flags);
    bool exact = !invalid && !inexact && !(x.zero && x.sign);
    uint32_t result = (uint32_t)(x.sign ? 0 - magnitude : magnitude);
    return result | (uint64_t)exact << 32;
}

// ---- FMLAL, FMLSL: products of halves added to singles, rounded once ----

static uint64_t half_to_single(IrFpEnv *env, uint64_t raw) {
    IrInst in = {.op = IR_fcvt, .type = IR_F32, .a = 1};
    V128 args[3] = {{.d = {raw, 0}}}, out = {0};
    ir_eval(&in, IR_F16, args, NULL, env, &out);
    return out.d[0];
}

static uint64_t fmlal(IrFpEnv *env, uint64_t a, uint64_t b, uint64_t c) {
    FpLane x = fp_unpack(env, 1, a), y = fp_unpack(env, 1, b), z = fp_unpack(env, 2, c);
    bool z_signalling = z.nan && !(z.frac >> 51);
    // A signalling half becomes quiet on the way to single, yet wins over a quiet addend.
    bool x_signalling = x.nan && !(x.frac >> 51), y_signalling = y.nan && !(y.frac >> 51);
    IrFpEnv convert = {.mode = env->mode & ~(uint32_t)IR_FPM_AHP, .rules = env->rules};
    uint64_t wide_a = x.zero ? x.sign << 16 : half_to_single(&convert, a);
    uint64_t wide_b = y.zero ? y.sign << 16 : half_to_single(&convert, b);
    if (!z_signalling && (x_signalling || y_signalling)) {
        env->flags |= IR_FPF_INVALID;
        return x_signalling ? wide_a : wide_b;
    }
    return fp_eval(env, IR_fma, 2, 0, wide_a, wide_b, c);
}

static void do_fmlal(void *state, V128 *out, const V128 *a, const V128 *b, const V128 *c,
                     uint64_t imm) {
    IrFpEnv env = vcpu_hot(state)->fp;
    env.flags = 0;
    V128 x = {0};
    for (unsigned i = 0; i < imm >> SIMD_LANES_SHIFT; i++)
        x.w[i] = (uint32_t)fmlal(&env, a->h[i] ^ (imm & SIMD_SUB ? 0x8000 : 0), b->h[i], c->w[i]);
    vcpu_fp_raise(state, env.flags);
    *out = x;
}

#define VECTOR_HELPER(ident, function)                                                             \
    const IrHelper ident = {.name = #ident, .fn = (void (*)(void))function, .vec = true}
#define VECTOR_FP_HELPER(ident, function)                                                          \
    const IrHelper ident = {                                                                       \
        .name = #ident, .fn = (void (*)(void))function, .vec = true, .raises_fp = true}

VECTOR_HELPER(simd_shift_reg, do_shift_reg);
VECTOR_HELPER(simd_mixed_qadd, do_mixed_qadd);
VECTOR_HELPER(simd_sqrdmlah, do_sqrdmlah);
VECTOR_HELPER(simd_pmul8, do_pmul8);
VECTOR_HELPER(simd_pmull8, do_pmull8);
VECTOR_HELPER(simd_urecpe, do_urecpe);
VECTOR_HELPER(simd_ursqrte, do_ursqrte);
VECTOR_HELPER(simd_mmla, do_mmla);
VECTOR_FP_HELPER(simd_frecpe, do_frecpe);
VECTOR_FP_HELPER(simd_frsqrte, do_frsqrte);
VECTOR_FP_HELPER(simd_frecpx, do_frecpx);
VECTOR_FP_HELPER(simd_frsqrts, do_frsqrts);
VECTOR_FP_HELPER(simd_frint_n, do_frint_n);
VECTOR_FP_HELPER(simd_fmlal, do_fmlal);
const IrHelper fp_jcvtzs = {
    .name = "fp_jcvtzs", .fn = (void (*)(void))do_jcvtzs, .raises_fp = true};
