// softfp_test.c - softfp against the host's own FPU: every operation of F32 and F64 in every
// rounding mode over corner values and random bits; results bit for bit unless NaN, and the flags
// but for underflow, which hosts detect after rounding and Arm before. NaNs, flushing, F16 and
// conversions to odd are checked against values worked out from the Arm ARM by hand.
#include "ir/softfp.h"

#include <fenv.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static uint64_t random_next(uint64_t *s) {
    *s ^= *s << 13;
    *s ^= *s >> 7;
    return *s ^= *s << 17;
}

// Values with a tendency to corners: few bits, extreme exponents, neighbours of powers of two.
static uint64_t random_float(uint64_t *s, unsigned bits) {
    unsigned frac = bits == 64 ? 52 : bits == 32 ? 23 : 10;
    uint64_t r = random_next(s), x = random_next(s);
    switch (r % 8) {
    case 0: x = 0; break;
    case 1: x &= 7; break;
    case 2: x |= bits_mask(frac); break;
    case 3: x &= ~bits_mask(frac); break;
    case 4: x = (x & ~bits_mask(frac)) + (r >> 8 & 7) - 4; break;
    case 5: // near 1
        x = (x & (bits_mask(frac) | 1ull << (bits - 1))) |
            (bits_mask(bits - frac - 2) - 2 + (r >> 8 & 3)) << frac;
        break;
    default: break;
    }
    return (x ^ (r >> 63) << (bits - 1)) & bits_mask(bits);
}

static const int host_modes[] = {FE_TONEAREST, FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO};

static uint32_t host_flags(void) {
    int f = fetestexcept(FE_ALL_EXCEPT);
    return (f & FE_INVALID ? IR_FPF_INVALID : 0) | (f & FE_DIVBYZERO ? IR_FPF_DIVZERO : 0) |
           (f & FE_OVERFLOW ? IR_FPF_OVERFLOW : 0) | (f & FE_INEXACT ? IR_FPF_INEXACT : 0);
}

static double to_f64(uint64_t x) {
    double d;
    memcpy(&d, &x, 8);
    return d;
}
static float to_f32(uint64_t x) {
    float f;
    uint32_t w = (uint32_t)x;
    memcpy(&f, &w, 4);
    return f;
}
static uint64_t of_f64(double d) {
    uint64_t x;
    memcpy(&x, &d, 8);
    return x;
}
static uint64_t of_f32(float f) {
    uint32_t x;
    memcpy(&x, &f, 4);
    return x;
}

enum Op { ADD, SUB, MUL, DIV, SQRT, FMA, CVT, RINT, TO_S64, TO_S32, FROM_S64, FROM_U64, OPS };

static uint64_t host_op(enum Op op, unsigned bits, uint64_t a, uint64_t b, uint64_t c) {
#define BOTH(e64, e32)                                                                             \
    if (bits == 64) {                                                                              \
        volatile double x = to_f64(a), y = to_f64(b), z = to_f64(c), r = e64;                      \
        (void)x, (void)y, (void)z;                                                                 \
        return of_f64(r);                                                                          \
    } else {                                                                                       \
        volatile float x = to_f32(a), y = to_f32(b), z = to_f32(c), r = e32;                       \
        (void)x, (void)y, (void)z;                                                                 \
        return of_f32(r);                                                                          \
    }
    switch (op) {
    case ADD: BOTH(x + y, x + y)
    case SUB: BOTH(x - y, x - y)
    case MUL: BOTH(x * y, x * y)
    case DIV: BOTH(x / y, x / y)
    case SQRT: BOTH(sqrt(x), sqrtf(x))
    case FMA: BOTH(fma(x, y, z), fmaf(x, y, z))
    case RINT: BOTH(rint(x), rintf(x))
    case FROM_S64: BOTH((double)(int64_t)a, (float)(int64_t)a)
    case FROM_U64: BOTH((double)a, (float)a)
    case CVT:
        if (bits == 64) {
            volatile double x = to_f64(a);
            volatile float r = (float)x;
            return of_f32(r);
        } else {
            volatile float x = to_f32(a);
            volatile double r = x;
            return of_f64(r);
        }
    default: {
        volatile double x = bits == 64 ? to_f64(a) : to_f32(a);
        if (op == TO_S64) return (uint64_t)llrint(x);
        return (uint32_t)lrint(x); // only in range, see below
    }
    }
#undef BOTH
}

static uint64_t soft_op(enum Op op, unsigned bits, uint64_t a, uint64_t b, uint64_t c,
                        IrFpEnv *env) {
    SoftFormat f = softfp_format(bits);
    switch (op) {
    case ADD: return softfp_add(f, a, b, env);
    case SUB: return softfp_sub(f, a, b, env);
    case MUL: return softfp_mul(f, a, b, env);
    case DIV: return softfp_div(f, a, b, env);
    case SQRT: return softfp_sqrt(f, a, env);
    case FMA: return softfp_fma(f, a, b, c, env);
    case RINT: return softfp_round(f, a, IR_RM_MODE, true, env);
    case CVT: return softfp_convert(f, softfp_format(96 - bits), a, false, env);
    case FROM_S64: return softfp_from_int(f, a, 0, true, 64, env);
    case FROM_U64: return softfp_from_int(f, a, 0, false, 64, env);
    case TO_S64: return softfp_to_int(f, a, 0, true, 64, IR_RM_MODE, env);
    default: return softfp_to_int(f, a, 0, true, 32, IR_RM_MODE, env);
    }
}

static bool is_nan_bits(uint64_t x, unsigned bits) {
    return bits == 64 ? isnan(to_f64(x)) : isnan(to_f32(x));
}

static void against_host(void **state) {
    const char *more = getenv("DRAGOMAN_TEST_ROUNDS");
    unsigned rounds = more ? (unsigned)atoi(more) : 60000;
    uint64_t seed = 0x9e3779b97f4a7c15;
    unsigned bad = 0;
    for (unsigned bits = 32; bits <= 64; bits += 32)
        for (enum Op op = 0; op < OPS; op++)
            for (unsigned rm = 0; rm < 4; rm++)
                for (unsigned i = 0; i < rounds / 4 && bad < 10; i++) {
                    uint64_t a = random_float(&seed, bits), b = random_float(&seed, bits),
                             c = random_float(&seed, bits);
                    if (op == FROM_S64 || op == FROM_U64)
                        a = random_next(&seed) >> (random_next(&seed) & 63);
                    unsigned out = op == CVT      ? 96 - bits
                                   : op == TO_S64 ? 64
                                   : op == TO_S32 ? 32
                                                  : bits;
                    bool to_int = op == TO_S64 || op == TO_S32;
                    double value = bits == 64 ? to_f64(a) : to_f32(a);
                    if (to_int && !(fabs(value) < (op == TO_S64 ? 0x1p62 : 0x1p30))) continue;
                    fesetround(host_modes[rm]);
                    feclearexcept(FE_ALL_EXCEPT);
                    uint64_t want = host_op(op, bits, a, b, c) & bits_mask(out);
                    uint32_t flags = host_flags();
                    fesetround(FE_TONEAREST);
                    IrFpEnv env = {.mode = rm};
                    uint64_t got = soft_op(op, bits, a, b, c, &env);
                    bool nan = !to_int && is_nan_bits(want, out) && is_nan_bits(got, out);
                    // inf * 0 + quiet NaN: invalid is a matter of taste, and Arm's is checked below
                    bool same_flags = (env.flags & ~IR_FPF_UNDERFLOW) == flags ||
                                      (op == FMA && nan && is_nan_bits(c, bits));
                    if ((want == got || nan) && same_flags) continue;
                    bad++;
                    print_message("op %u f%u rm %u: %#lx %#lx %#lx: host %#lx flags %#x, soft %#lx "
                                  "flags %#x\n",
                                  op, bits, rm, a, b, c, want, flags, got, env.flags);
                }
    assert_int_equal(bad, 0);
}

static void against_host_compare(void **state) {
    uint64_t seed = 12345;
    for (unsigned i = 0; i < 200000; i++) {
        unsigned bits = i & 1 ? 64 : 32;
        uint64_t a = random_float(&seed, bits), b = i % 7 ? random_float(&seed, bits) : a;
        double x = bits == 64 ? to_f64(a) : to_f32(a), y = bits == 64 ? to_f64(b) : to_f32(b);
        IrFpEnv env = {0};
        SoftRelation r = softfp_compare(softfp_format(bits), a, b, false, &env);
        assert_int_equal(softfp_holds(IR_OEQ, r), x == y);
        assert_int_equal(softfp_holds(IR_UNE, r), x != y);
        assert_int_equal(softfp_holds(IR_OLT, r), x < y);
        assert_int_equal(softfp_holds(IR_OLE, r), x <= y);
        assert_int_equal(softfp_holds(IR_OGT, r), x > y);
        assert_int_equal(softfp_holds(IR_OGE, r), x >= y);
        assert_int_equal(softfp_holds(IR_UGE_F, r), !(x < y));
        assert_int_equal(softfp_holds(IR_ULE_F, r), !(x > y));
        assert_int_equal(softfp_holds(IR_UNO, r), isnan(x) || isnan(y));
    }
}

#if defined(__FLT16_MANT_DIG__) && !defined(__clang__)
// F16 against the compiler's _Float16, which computes in float: innocuous for these operations.
static void against_host_half(void **state) {
    uint64_t seed = 77;
    for (unsigned i = 0; i < 400000; i++) {
        uint16_t a = (uint16_t)random_float(&seed, 16), b = (uint16_t)random_float(&seed, 16), want;
        _Float16 x, y, r;
        memcpy(&x, &a, 2);
        memcpy(&y, &b, 2);
        IrFpEnv env = {0};
        uint64_t got;
        switch (i % 6) {
        case 0: r = x + y, got = softfp_add(SOFT_F16, a, b, &env); break;
        case 1: r = x - y, got = softfp_sub(SOFT_F16, a, b, &env); break;
        case 2: r = x * y, got = softfp_mul(SOFT_F16, a, b, &env); break;
        case 3: r = x / y, got = softfp_div(SOFT_F16, a, b, &env); break;
        case 4: r = (_Float16)sqrtf((float)x), got = softfp_sqrt(SOFT_F16, a, &env); break;
        default: {
            uint32_t w = (uint32_t)random_float(&seed, 32);
            r = (_Float16)to_f32(w), got = softfp_convert(SOFT_F32, SOFT_F16, w, false, &env);
        }
        }
        memcpy(&want, &r, 2);
        bool nan = (want & 0x7fff) > 0x7c00 && (got & 0x7fff) > 0x7c00;
        if (got != want && !nan)
            fail_msg("op %u %#x %#x: host %#x, soft %#lx", i % 6, a, b, want, (long)got);
    }
}
#define HALF_TEST cmocka_unit_test(against_host_half),
#else
#define HALF_TEST
#endif

#define EXPECT(expr, value, flags_)                                                                \
    do {                                                                                           \
        env.flags = 0;                                                                             \
        uint64_t got_ = (expr);                                                                    \
        assert_int_equal(got_, (value));                                                           \
        assert_int_equal(env.flags, (flags_));                                                     \
    } while (0)

enum {
    I = IR_FPF_INVALID,
    X = IR_FPF_INEXACT,
    U = IR_FPF_UNDERFLOW,
    O = IR_FPF_OVERFLOW,
    D = IR_FPF_DENORMAL_IN
};

static void arm_nans(void **state) {
    IrFpEnv env = {0};
    uint64_t q1 = 0x7fc00001, q2 = 0xffc00002, s1 = 0x7f800003, s2 = 0xff800004, one = 0x3f800000,
             inf = 0x7f800000, dn = 0x7fc00000;
    SoftFormat f = SOFT_F32;
    EXPECT(softfp_add(f, q1, q2, &env), q1, 0);
    EXPECT(softfp_add(f, q2, q1, &env), q2, 0);
    EXPECT(softfp_sub(f, one, q2, &env), q2, 0); // the sign of a NaN operand stays
    EXPECT(softfp_mul(f, q1, s2, &env), 0xffc00004, I);
    EXPECT(softfp_div(f, s1, s2, &env), 0x7fc00003, I);
    EXPECT(softfp_add(f, inf, inf | 1u << 31, &env), dn, I);
    EXPECT(softfp_mul(f, inf, 0, &env), dn, I);
    EXPECT(softfp_sqrt(f, 0xbf800000, &env), dn, I);
    EXPECT(softfp_sqrt(f, 0x80000000, &env), 0x80000000, 0);
    EXPECT(softfp_fma(f, q1, one, q2, &env), q2, 0); // the addend first
    EXPECT(softfp_fma(f, q1, s1, q2, &env), 0x7fc00003, I);
    EXPECT(softfp_fma(f, inf, 0, q1, &env), dn, I);
    EXPECT(softfp_fma(f, inf, 0, s1, &env), 0x7fc00003, I);
    EXPECT(softfp_minmax(f, IR_fmin, one, q1, &env), q1, 0);
    EXPECT(softfp_minmax(f, IR_fmin, 0, 0x80000000, &env), 0x80000000, 0);
    EXPECT(softfp_minmax(f, IR_fmax, 0x80000000, 0, &env), 0, 0);
    EXPECT(softfp_minmax(f, IR_fminnum, one, q1, &env), one, 0);
    EXPECT(softfp_minmax(f, IR_fmaxnum, q1, one, &env), one, 0);
    EXPECT(softfp_minmax(f, IR_fmaxnum, one, s1, &env), 0x7fc00003, I);
    EXPECT(softfp_minmax(f, IR_fmaxnum, q2, q1, &env), q2, 0);
    EXPECT(softfp_compare(f, one, q1, false, &env), SOFT_UNORDERED, 0);
    EXPECT(softfp_compare(f, one, q1, true, &env), SOFT_UNORDERED, I);
    EXPECT(softfp_compare(f, s1, one, false, &env), SOFT_UNORDERED, I);
    EXPECT(softfp_convert(SOFT_F32, SOFT_F64, s2, false, &env), 0xfff8000080000000, I);
    EXPECT(softfp_convert(SOFT_F64, SOFT_F32, 0x7ff0000000000001, false, &env), dn, I);
    EXPECT(softfp_convert(SOFT_F32, SOFT_F16, 0x7fa00000, false, &env), 0x7f00, I);
    env.mode = IR_FPM_DN;
    EXPECT(softfp_add(f, q2, q1, &env), dn, 0);
    EXPECT(softfp_add(f, s1, q1, &env), dn, I);
    env = (IrFpEnv){.rules = IR_FP_RISCV};
    EXPECT(softfp_add(f, q2, q1, &env), dn, 0);
    EXPECT(softfp_minmax(f, IR_fmaxnum, one, s1, &env), one, I);
    EXPECT(softfp_to_int(f, q2, 0, true, 32, IR_RM_ZERO, &env), 0x7fffffff, I);
}

static void flushing(void **state) {
    IrFpEnv env = {.mode = IR_FPM_FZ};
    SoftFormat f = SOFT_F32;
    EXPECT(softfp_add(f, 1, 0x3f800000, &env), 0x3f800000, D);
    EXPECT(softfp_mul(f, 0x00800000, 0x3f000000, &env), 0, U);          // exact, but tiny
    EXPECT(softfp_mul(f, 0x80ffffff, 0x3f000000, &env), 0x80000000, U); // would round to normal
    EXPECT(softfp_minmax(f, IR_fmax, 1, 0x80000001, &env), 0, D);
    EXPECT(softfp_compare(f, 1, 0, false, &env), SOFT_EQUAL, D);
    EXPECT(softfp_round(f, 0x80000001, IR_RM_DOWN, true, &env), 0x80000000, D);
    EXPECT(softfp_to_int(f, 1, 0, true, 32, IR_RM_UP, &env), 0, D);
    EXPECT(softfp_add(SOFT_F16, 1, 1, &env), 2, 0); // FZ is not for F16
    EXPECT(softfp_convert(SOFT_F16, SOFT_F32, 1, false, &env), 0x33800000, 0);
    EXPECT(softfp_convert(SOFT_F32, SOFT_F16, 0x33800000, false, &env), 1, 0);
    EXPECT(softfp_convert(SOFT_F32, SOFT_F64, 1, false, &env), 0, D);
    env.mode = IR_FPM_FZ16;
    EXPECT(softfp_add(SOFT_F16, 1, 0x3c00, &env), 0x3c00, 0); // no DENORMAL_IN for F16
    EXPECT(softfp_mul(SOFT_F16, 0x0400, 0x3800, &env), 0, U);
    EXPECT(softfp_mul(f, 1, 0x40000000, &env), 2, 0);
    EXPECT(softfp_convert(SOFT_F32, SOFT_F16, 0x33800000, false, &env), 1, 0);
    env.mode = 0; // tiny before rounding, yet rounds to the least normal
    EXPECT(softfp_mul(f, 0x00ffffff, 0x3f000000, &env), 0x00800000, U | X);
    env.rules = IR_FP_RISCV; // 24 bits: tiny after rounding too
    EXPECT(softfp_mul(f, 0x00ffffff, 0x3f000000, &env), 0x00800000, U | X);
    // 0x1.ffffffp-127 rounds to 2^-126 at full range: not tiny for RISC-V, tiny for Arm
    EXPECT(softfp_convert(SOFT_F64, f, 0x380ffffff0000000, false, &env), 0x00800000, X);
    env.rules = IR_FP_ARM;
    EXPECT(softfp_convert(SOFT_F64, f, 0x380ffffff0000000, false, &env), 0x00800000, U | X);
}

// Tininess found before rounding (Arm) or after it (the host) is the same for squares, wherever
// they come near the least normal number, but not for all products: fp_guard.c looks at those only.
static void squares(void **state) {
    enum { NEAR = 3000 };
    static const struct {
        SoftFormat f;
        uint64_t root; // of the least normal number
        unsigned bits;
    } sizes[] = {{SOFT_F32, 0x20000000, 32}, {SOFT_F64, 0x2000000000000000, 64}};
    unsigned differ = 0;
    uint64_t seed = 88172645463325252u;
    for (unsigned i = 0; i < 2; i++)
        for (unsigned mode = 0; mode < 4; mode++)
            for (unsigned k = 0; k < 4 * NEAR; k++) {
                bool near = k < 2 * NEAR;
                uint64_t root = sizes[i].root, minus = 1ull << (sizes[i].bits - 1);
                uint64_t a = near ? root + k - NEAR : random_float(&seed, sizes[i].bits);
                uint64_t b = near ? root - 2 * (a - root) : a; // (1 + e) (1 - e)
                IrFpEnv arm = {.mode = mode, .rules = IR_FP_ARM}, host = arm;
                host.rules = IR_FP_RISCV;
                softfp_mul(sizes[i].f, a, a, &arm);
                softfp_mul(sizes[i].f, a, a, &host);
                if ((arm.flags ^ host.flags) & U) fail_msg("%lx in mode %u", a, mode);
                arm.flags = host.flags = 0;
                softfp_mul(sizes[i].f, a ^ minus, b, &arm);
                softfp_mul(sizes[i].f, a ^ minus, b, &host);
                differ += ((arm.flags ^ host.flags) & U) != 0;
            }
    assert_true(differ > 0);
}

static void half_precision(void **state) {
    IrFpEnv env = {0};
    EXPECT(softfp_add(SOFT_F16, 0x3c00, 0x3c00, &env), 0x4000, 0);
    EXPECT(softfp_add(SOFT_F16, 0x7bff, 0x7bff, &env), 0x7c00, O | X);
    EXPECT(softfp_mul(SOFT_F16, 0x7bff, 0x3c00, &env), 0x7bff, 0);
    EXPECT(softfp_div(SOFT_F16, 0x3c00, 0x4200, &env), 0x3555, X);
    EXPECT(softfp_sqrt(SOFT_F16, 0x4000, &env), 0x3da8, X);
    EXPECT(softfp_convert(SOFT_F32, SOFT_F16, 0x477fefff, false, &env), 0x7bff, X);
    EXPECT(softfp_convert(SOFT_F32, SOFT_F16, 0x477ff000, false, &env), 0x7c00, O | X);
    EXPECT(softfp_convert(SOFT_F64, SOFT_F16, 0x3e60000000000000, false, &env), 0, U | X);
    env.mode = IR_FPM_AHP;
    EXPECT(softfp_convert(SOFT_F16, SOFT_F32, 0x7c00, false, &env), 0x47800000, 0);
    EXPECT(softfp_convert(SOFT_F32, SOFT_F16, 0x47800000, false, &env), 0x7c00, 0);
    EXPECT(softfp_convert(SOFT_F32, SOFT_F16, 0x7f800000, false, &env), 0x7fff, I);
    EXPECT(softfp_convert(SOFT_F32, SOFT_F16, 0xffc00001, false, &env), 0x8000, I);
    EXPECT(softfp_convert(SOFT_F32, SOFT_F16, 0x48000000, false, &env), 0x7fff, I);
}

static void integers(void **state) {
    IrFpEnv env = {0};
    SoftFormat f = SOFT_F64;
    uint64_t nan = 0xfff8000000000000, big = of_f64(1e300), minus = of_f64(-1.5);
    EXPECT(softfp_to_int(f, nan, 0, true, 32, IR_RM_ZERO, &env), 0, I);
    EXPECT(softfp_to_int(f, big, 0, true, 32, IR_RM_ZERO, &env), 0x7fffffff, I);
    EXPECT(softfp_to_int(f, big | 1ull << 63, 0, true, 64, IR_RM_ZERO, &env), 1ull << 63, I);
    EXPECT(softfp_to_int(f, big, 0, false, 64, IR_RM_ZERO, &env), ~0ull, I);
    EXPECT(softfp_to_int(f, minus, 0, false, 32, IR_RM_ZERO, &env), 0, I);
    EXPECT(softfp_to_int(f, of_f64(-0.5), 0, false, 32, IR_RM_ZERO, &env), 0, X);
    EXPECT(softfp_to_int(f, of_f64(-0.5), 0, false, 32, IR_RM_AWAY, &env), 0, I);
    EXPECT(softfp_to_int(f, minus, 0, true, 32, IR_RM_ZERO, &env), 0xffffffff, X);
    EXPECT(softfp_to_int(f, minus, 1, true, 32, IR_RM_ZERO, &env), 0xfffffffd, 0);
    EXPECT(softfp_to_int(f, of_f64(2.5), 0, true, 64, IR_RM_NEAREST, &env), 2, X);
    EXPECT(softfp_to_int(f, of_f64(2.5), 0, true, 64, IR_RM_AWAY, &env), 3, X);
    EXPECT(softfp_to_int(f, of_f64(0x1p63), 0, false, 64, IR_RM_ZERO, &env), 1ull << 63, 0);
    EXPECT(softfp_to_int(f, of_f64(-0x1p63), 0, true, 64, IR_RM_ZERO, &env), 1ull << 63, 0);
    EXPECT(softfp_to_int(f, of_f64(0x1p64), 0, false, 64, IR_RM_ZERO, &env), ~0ull, I);
    EXPECT(softfp_to_int(SOFT_F16, 0x7bff, 0, true, 16, IR_RM_ZERO, &env), 0x7fff, I);
    EXPECT(softfp_from_int(f, 3, 1, true, 32, &env), of_f64(1.5), 0);
    EXPECT(softfp_from_int(f, 0xffffffff, 0, true, 32, &env), of_f64(-1), 0);
    EXPECT(softfp_from_int(SOFT_F16, 65520, 0, false, 32, &env), 0x7c00, O | X);
    EXPECT(softfp_round(f, of_f64(-0.25), IR_RM_NEAREST, false, &env), 1ull << 63, 0);
    EXPECT(softfp_round(f, of_f64(-0.25), IR_RM_NEAREST, true, &env), 1ull << 63, X);
    EXPECT(softfp_round(f, of_f64(2.5), IR_RM_AWAY, false, &env), of_f64(3), 0);
    // to odd: any inexact result has its lowest bit set
    EXPECT(softfp_convert(f, SOFT_F32, of_f64(1 + 0x1p-40), true, &env), 0x3f800001, X);
    EXPECT(softfp_convert(f, SOFT_F32, big, true, &env), 0x7f7fffff, O | X);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(against_host), cmocka_unit_test(against_host_compare),
        cmocka_unit_test(arm_nans),     cmocka_unit_test(flushing),
        cmocka_unit_test(squares),      HALF_TEST cmocka_unit_test(half_precision),
        cmocka_unit_test(integers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
