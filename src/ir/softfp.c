// softfp.c - see softfp.h. Every operation unpacks its operands to a sign, an exponent and a 64-bit
// significand whose top bit is set, computes exactly or with a sticky lowest bit, and packs with
// one rounding in pack(). 64 bits hold the 53 of F64 with eleven to spare, so one sticky bit is
// enough everywhere; sums and products of fma use 128.
//
// Start at unpack() and pack(); the operations are short variations.
#include "ir/softfp.h"

typedef unsigned __int128 Wide;
typedef enum Class { ZERO, FINITE, INF, QNAN, SNAN } Class;

// sig * 2^(exp - 63) when FINITE, with the top bit of sig set.
typedef struct Num {
    Class class;
    bool sign;
    int exp;
    uint64_t sig;
    uint64_t bits; // as it came, for NaNs
} Num;

// ---- formats ----

typedef struct Format {
    uint8_t exp_bits, frac_bits;
} Format;

static Format format(SoftFormat f) {
    static const Format formats[] = {[SOFT_F16] = {5, 10},
                                     [SOFT_F32] = {8, 23},
                                     [SOFT_F64] = {11, 52},
                                     [SOFT_AHP] = {5, 10},
                                     [SOFT_BF16] = {8, 7}};
    return formats[f];
}
static int bias(Format f) {
    return (1 << (f.exp_bits - 1)) - 1;
}
static uint64_t sign_bit(Format f, bool sign) {
    return (uint64_t)sign << (f.exp_bits + f.frac_bits);
}
static uint64_t exp_field(Format f) {
    return bits_mask(f.exp_bits) << f.frac_bits;
}
static uint64_t quiet_bit(Format f) {
    return 1ull << (f.frac_bits - 1);
}

static uint64_t zero_of(SoftFormat f, bool sign) {
    return sign_bit(format(f), sign);
}
static uint64_t inf_of(SoftFormat f, bool sign) {
    return sign_bit(format(f), sign) | exp_field(format(f));
}
static uint64_t default_nan(SoftFormat f) {
    return exp_field(format(f)) | quiet_bit(format(f));
}

static uint64_t invalid(SoftFormat f, IrFpEnv *env) {
    env->flags |= IR_FPF_INVALID;
    return default_nan(f);
}

static IrRm mode_rm(const IrFpEnv *env) {
    return env->mode & IR_FPM_ODD ? IR_RM_ODD : (IrRm)(env->mode & IR_FPM_RM);
}

static bool flushes(SoftFormat f, const IrFpEnv *env) {
    return env->mode & (f == SOFT_F16 ? IR_FPM_FZ16 : IR_FPM_FZ) && f != SOFT_AHP;
}

// ---- unpack ----

static Num unpack_raw(SoftFormat sf, uint64_t a, bool flush, IrFpEnv *env) {
    Format f = format(sf);
    a &= bits_mask(1 + f.exp_bits + f.frac_bits);
    uint64_t frac = a & bits_mask(f.frac_bits);
    unsigned biased = (a & exp_field(f)) >> f.frac_bits;
    Num n = {.sign = a >> (f.exp_bits + f.frac_bits) & 1, .bits = a};
    if (biased == bits_mask(f.exp_bits) && sf != SOFT_AHP) {
        n.class = !frac ? INF : frac & quiet_bit(f) ? QNAN : SNAN;
        return n;
    }
    if (biased == 0) {
        if (frac && flush) {
            if (sf != SOFT_F16) env->flags |= IR_FPF_DENORMAL_IN;
            frac = 0;
        }
        if (!frac) return n; // ZERO
        int shift = __builtin_clzll(frac);
        n.class = FINITE;
        n.sig = frac << shift;
        n.exp = 1 - bias(f) + 63 - shift - f.frac_bits;
        return n;
    }
    n.class = FINITE;
    n.sig = (frac | 1ull << f.frac_bits) << (63 - f.frac_bits);
    n.exp = (int)biased - bias(f);
    return n;
}

static Num unpack(SoftFormat f, uint64_t a, IrFpEnv *env) {
    return unpack_raw(f, a, flushes(f, env), env);
}

// ---- rounding ----

// x >> n with what falls off kept in the lowest bit.
static uint64_t shift_jam(uint64_t x, unsigned n) {
    if (n == 0) return x;
    if (n > 63) return x != 0;
    return x >> n | ((x & bits_mask(n)) != 0);
}
static Wide shift_jam_wide(Wide x, unsigned n) {
    if (n == 0) return x;
    if (n > 127) return x != 0;
    return x >> n | ((x & (((Wide)1 << n) - 1)) != 0);
}

// Does dropping the low n (1..63) bits of sig round its magnitude up?
static bool rounds_up(IrRm rm, bool sign, uint64_t sig, unsigned n) {
    uint64_t rest = sig & bits_mask(n), half = 1ull << (n - 1);
    switch (rm) {
    case IR_RM_NEAREST: return rest > half || (rest == half && (sig >> n & 1));
    case IR_RM_AWAY: return rest >= half;
    case IR_RM_UP: return rest && !sign;
    case IR_RM_DOWN: return rest && sign;
    default: return false; // ZERO; ODD is pack()'s
    }
}

static uint64_t overflowed(SoftFormat sf, IrRm rm, bool sign, IrFpEnv *env) {
    Format f = format(sf);
    if (sf == SOFT_AHP) { // has no infinity: the largest number, and invalid
        env->flags |= IR_FPF_INVALID;
        return sign_bit(f, sign) | bits_mask(15);
    }
    env->flags |= IR_FPF_OVERFLOW | IR_FPF_INEXACT;
    bool to_inf = env->mode & IR_FPM_ODD || rm == IR_RM_NEAREST || rm == IR_RM_AWAY ||
                  rm == (sign ? IR_RM_DOWN : IR_RM_UP);
    return inf_of(sf, sign) - (to_inf ? 0 : 1);
}

// The number sig * 2^(exp - 63) in format sf; sig is normalised and its lowest bit sticky.
static uint64_t pack(SoftFormat sf, bool sign, int exp, uint64_t sig, IrRm rm, bool flush,
                     IrFpEnv *env) {
    Format f = format(sf);
    int emin = 1 - bias(f), max_biased = (int)bits_mask(f.exp_bits) - (sf != SOFT_AHP);
    unsigned drop = 63 - f.frac_bits;
    bool tiny = exp < emin;
    if (tiny && flush) {
        env->flags |= IR_FPF_UNDERFLOW;
        return zero_of(sf, sign);
    }
    int biased = exp - emin + 1;
    if (tiny) {
        // RISC-V: not tiny when rounding to unbounded range would have reached the least normal
        if (env->rules == IR_FP_RISCV && exp == emin - 1 && rounds_up(rm, sign, sig, drop) &&
            sig >> drop == bits_mask(f.frac_bits + 1))
            tiny = false;
        sig = shift_jam(sig, (unsigned)(emin - exp));
        biased = 0;
    }
    bool inexact = sig & bits_mask(drop);
    uint64_t mant = sig >> drop;
    if (rounds_up(rm, sign, sig, drop)) mant++;
    if (rm == IR_RM_ODD && inexact) mant |= 1;
    if (mant >> (f.frac_bits + 1)) { // carried into the next binade
        mant >>= 1;
        biased++;
    }
    if (biased == 0 && mant >> f.frac_bits) biased = 1; // a denormal became the least normal
    if (biased > max_biased) return overflowed(sf, rm, sign, env);
    if (inexact) env->flags |= IR_FPF_INEXACT | (tiny ? IR_FPF_UNDERFLOW : 0);
    return sign_bit(f, sign) | (uint64_t)biased << f.frac_bits | (mant & bits_mask(f.frac_bits));
}

static uint64_t round_pack(SoftFormat f, bool sign, int exp, uint64_t sig, IrFpEnv *env) {
    return pack(f, sign, exp, sig, mode_rm(env), flushes(f, env), env);
}

// sig * 2^(exp - 127), not normalised.
static uint64_t round_pack_wide(SoftFormat f, bool sign, int exp, Wide sig, IrFpEnv *env) {
    unsigned shift = sig >> 64 ? (unsigned)__builtin_clzll((uint64_t)(sig >> 64))
                               : 64 + (unsigned)__builtin_clzll((uint64_t)sig);
    sig <<= shift;
    uint64_t top = (uint64_t)(sig >> 64) | ((uint64_t)sig != 0);
    return round_pack(f, sign, exp - (int)shift, top, env);
}

// ---- NaNs ----

static bool is_nan(Num n) {
    return n.class >= QNAN;
}

static uint64_t process_nan(SoftFormat f, Num n, IrFpEnv *env) {
    if (n.class == SNAN) env->flags |= IR_FPF_INVALID;
    if (env->mode & IR_FPM_DN || env->rules == IR_FP_RISCV) return default_nan(f);
    return n.bits | quiet_bit(format(f));
}

// The first signalling, else the first quiet operand; false when none is a NaN.
static bool process_nans(SoftFormat f, const Num *n, unsigned count, IrFpEnv *env, uint64_t *out) {
    for (Class class = SNAN; class >= QNAN; class --)
        for (unsigned i = 0; i < count; i++)
            if (n[i].class == class) {
                *out = process_nan(f, n[i], env);
                return true;
            }
    return false;
}

// ---- arithmetic ----

// a + b of finite numbers that are not both zero, exactly but for the sticky bit; a's and b's
// significands have at least 20 zero bits at the bottom of 128.
static uint64_t sum(SoftFormat f, bool sign_a, int exp_a, Wide a, bool sign_b, int exp_b, Wide b,
                    IrFpEnv *env) {
    if (!a || (b && exp_b > exp_a)) {
        bool s = sign_a;
        int e = exp_a;
        Wide w = a;
        sign_a = sign_b, exp_a = exp_b, a = b;
        sign_b = s, exp_b = e, b = w;
    }
    a >>= 1; // room for the carry
    b = b ? shift_jam_wide(b >> 1, (unsigned)MIN(exp_a - exp_b, 200)) : 0;
    exp_a++;
    if (sign_a == sign_b) return round_pack_wide(f, sign_a, exp_a, a + b, env);
    if (a == b) return zero_of(f, mode_rm(env) == IR_RM_DOWN);
    return a > b ? round_pack_wide(f, sign_a, exp_a, a - b, env)
                 : round_pack_wide(f, sign_b, exp_a, b - a, env);
}

static uint64_t add_numbers(SoftFormat f, Num a, Num b, IrFpEnv *env) {
    if (a.class == INF || b.class == INF) {
        if (a.class == b.class && a.sign != b.sign) return invalid(f, env);
        return inf_of(f, a.class == INF ? a.sign : b.sign);
    }
    if (a.class == ZERO && b.class == ZERO)
        return zero_of(f, a.sign == b.sign ? a.sign : mode_rm(env) == IR_RM_DOWN);
    return sum(f, a.sign, a.exp, (Wide)a.sig << 64, b.sign, b.exp, (Wide)b.sig << 64, env);
}

uint64_t softfp_add(SoftFormat f, uint64_t a, uint64_t b, IrFpEnv *env) {
    Num n[2] = {unpack(f, a, env), unpack(f, b, env)};
    uint64_t nan;
    return process_nans(f, n, 2, env, &nan) ? nan : add_numbers(f, n[0], n[1], env);
}

uint64_t softfp_sub(SoftFormat f, uint64_t a, uint64_t b, IrFpEnv *env) {
    Num n[2] = {unpack(f, a, env), unpack(f, b, env)};
    uint64_t nan;
    if (process_nans(f, n, 2, env, &nan)) return nan;
    n[1].sign = !n[1].sign;
    return add_numbers(f, n[0], n[1], env);
}

uint64_t softfp_mul(SoftFormat f, uint64_t a, uint64_t b, IrFpEnv *env) {
    Num n[2] = {unpack(f, a, env), unpack(f, b, env)};
    uint64_t nan;
    if (process_nans(f, n, 2, env, &nan)) return nan;
    bool sign = n[0].sign ^ n[1].sign;
    bool zero = n[0].class == ZERO || n[1].class == ZERO;
    if (n[0].class == INF || n[1].class == INF) return zero ? invalid(f, env) : inf_of(f, sign);
    if (zero) return zero_of(f, sign);
    return round_pack_wide(f, sign, n[0].exp + n[1].exp + 1, (Wide)n[0].sig * n[1].sig, env);
}

uint64_t softfp_div(SoftFormat f, uint64_t a, uint64_t b, IrFpEnv *env) {
    Num n[2] = {unpack(f, a, env), unpack(f, b, env)};
    uint64_t nan;
    if (process_nans(f, n, 2, env, &nan)) return nan;
    bool sign = n[0].sign ^ n[1].sign;
    if (n[0].class == n[1].class && n[0].class != FINITE) return invalid(f, env); // 0/0, inf/inf
    if (n[0].class == INF) return inf_of(f, sign);
    if (n[1].class == ZERO) {
        env->flags |= IR_FPF_DIVZERO;
        return inf_of(f, sign);
    }
    if (n[0].class == ZERO || n[1].class == INF) return zero_of(f, sign);
    Wide dividend = (Wide)n[0].sig << 63;
    uint64_t q = (uint64_t)(dividend / n[1].sig); // in (2^62, 2^64)
    bool rest = dividend % n[1].sig != 0;
    int exp = n[0].exp - n[1].exp;
    if (!(q >> 63)) {
        q <<= 1;
        exp--;
    }
    return round_pack(f, sign, exp, q | rest, env);
}

uint64_t softfp_sqrt(SoftFormat f, uint64_t a, IrFpEnv *env) {
    Num n = unpack(f, a, env);
    if (is_nan(n)) return process_nan(f, n, env);
    if (n.class == ZERO) return zero_of(f, n.sign);
    if (n.sign) return invalid(f, env);
    if (n.class == INF) return inf_of(f, false);
    bool odd = n.exp & 1;
    Wide rest = (Wide)n.sig << (odd ? 64 : 63); // root of this is the significand
    uint64_t root = 0;
    for (int bit = 63; bit >= 0; bit--) {
        uint64_t with = root | 1ull << bit;
        if ((Wide)with * with <= rest) root = with;
    }
    return round_pack(f, false, (n.exp - odd) / 2, root | ((Wide)root * root != rest), env);
}

uint64_t softfp_fma(SoftFormat f, uint64_t a, uint64_t b, uint64_t addend, IrFpEnv *env) {
    Num n[3] = {unpack(f, addend, env), unpack(f, a, env), unpack(f, b, env)}; // Arm's NaN order
    Num c = n[0], x = n[1], y = n[2];
    bool inf_zero = (x.class == INF && y.class == ZERO) || (x.class == ZERO && y.class == INF);
    uint64_t nan;
    if (process_nans(f, n, 3, env, &nan))
        return inf_zero && c.class == QNAN ? invalid(f, env) : nan;
    bool sign = x.sign ^ y.sign;
    bool inf = x.class == INF || y.class == INF;
    if (inf_zero || (inf && c.class == INF && sign != c.sign)) return invalid(f, env);
    if (inf || c.class == INF) return inf_of(f, inf ? sign : c.sign);
    if (x.class == ZERO || y.class == ZERO)
        return add_numbers(f, (Num){.class = ZERO, .sign = sign}, c, env);
    return sum(f, sign, x.exp + y.exp + 1, (Wide)x.sig * y.sig, c.sign, c.exp, (Wide)c.sig << 64,
               env);
}

// ---- comparison ----

static SoftRelation relation(Num a, Num b) { // no NaNs
    if (a.class == ZERO && b.class == ZERO) return SOFT_EQUAL;
    if (a.class == ZERO) return b.sign ? SOFT_GREATER : SOFT_LESS;
    if (b.class == ZERO || a.sign != b.sign) return a.sign ? SOFT_LESS : SOFT_GREATER;
    bool bigger, equal = false; // in magnitude
    if (a.class != b.class)
        bigger = a.class == INF;
    else if (a.class == INF)
        bigger = false, equal = true;
    else if (a.exp != b.exp)
        bigger = a.exp > b.exp;
    else
        bigger = a.sig > b.sig, equal = a.sig == b.sig;
    if (equal) return SOFT_EQUAL;
    return bigger != a.sign ? SOFT_GREATER : SOFT_LESS;
}

SoftRelation softfp_compare(SoftFormat f, uint64_t a, uint64_t b, bool signalling, IrFpEnv *env) {
    Num x = unpack(f, a, env), y = unpack(f, b, env);
    if (is_nan(x) || is_nan(y)) {
        if (signalling || x.class == SNAN || y.class == SNAN) env->flags |= IR_FPF_INVALID;
        return SOFT_UNORDERED;
    }
    return relation(x, y);
}

bool softfp_holds(IrFcc cc, SoftRelation r) {
    bool yes;
    switch (cc & ~1) {
    case IR_OEQ: yes = r == SOFT_EQUAL; break;
    case IR_OLT: yes = r == SOFT_LESS; break;
    case IR_OLE: yes = r == SOFT_LESS || r == SOFT_EQUAL; break;
    case IR_OGT: yes = r == SOFT_GREATER; break;
    case IR_OGE: yes = r == SOFT_GREATER || r == SOFT_EQUAL; break;
    default: yes = r != SOFT_UNORDERED; break;
    }
    return yes != (cc & 1);
}

static uint64_t repack(SoftFormat f, Num n) { // a number that came from this format
    return n.class == ZERO ? zero_of(f, n.sign) : n.bits;
}

uint64_t softfp_minmax(SoftFormat f, IrOp op, uint64_t a, uint64_t b, IrFpEnv *env) {
    Num n[2] = {unpack(f, a, env), unpack(f, b, env)};
    bool want_max = op == IR_fmax || op == IR_fmaxnum;
    bool numbers_win = op == IR_fminnum || op == IR_fmaxnum;
    if (numbers_win && is_nan(n[0]) != is_nan(n[1])) {
        Num nan = is_nan(n[0]) ? n[0] : n[1], number = is_nan(n[0]) ? n[1] : n[0];
        if (nan.class == QNAN) return repack(f, number);
        if (env->rules == IR_FP_RISCV) {
            env->flags |= IR_FPF_INVALID;
            return repack(f, number);
        }
    }
    uint64_t nan;
    if (process_nans(f, n, 2, env, &nan)) return nan;
    if (n[0].class == ZERO && n[1].class == ZERO)
        return zero_of(f, want_max ? n[0].sign & n[1].sign : n[0].sign | n[1].sign);
    return repack(f, (relation(n[0], n[1]) == SOFT_GREATER) == want_max ? n[0] : n[1]);
}

// ---- integers ----

// |n| rounded to an integer, as a number below 2^64 (exp <= 63 is the caller's to see to).
static uint64_t round_to_int(Num n, IrRm rm, bool *inexact) {
    // two's worth of fraction bits are enough: shift so that the integer ends at bit 2, jammed
    Wide sig = shift_jam_wide((Wide)n.sig << 64, (unsigned)MIN(125 - n.exp, 200));
    uint64_t fraction = (uint64_t)sig & 3, whole = (uint64_t)(sig >> 2);
    *inexact = fraction != 0;
    // rounds_up() looks at the lowest kept bit and the dropped ones only
    if (rounds_up(rm, n.sign, (whole & 1) << 2 | fraction, 2)) whole++;
    return whole;
}

uint64_t softfp_round(SoftFormat f, uint64_t a, IrRm rm, bool raise_inexact, IrFpEnv *env) {
    Num n = unpack(f, a, env);
    if (rm == IR_RM_MODE) rm = mode_rm(env);
    if (is_nan(n)) return process_nan(f, n, env);
    if (n.class != FINITE || n.exp >= 63) return repack(f, n);
    bool inexact;
    uint64_t whole = round_to_int(n, rm, &inexact);
    if (inexact && raise_inexact) env->flags |= IR_FPF_INEXACT;
    if (!whole) return zero_of(f, n.sign);
    int shift = __builtin_clzll(whole);
    IrFpEnv quiet = *env; // exact: fits the format
    return pack(f, n.sign, 63 - shift, whole << shift, IR_RM_ZERO, false, &quiet);
}

uint64_t softfp_to_int(SoftFormat f, uint64_t a, unsigned scale, bool is_signed, unsigned bits,
                       IrRm rm, IrFpEnv *env) {
    Num n = unpack(f, a, env);
    if (rm == IR_RM_MODE) rm = mode_rm(env);
    uint64_t max = bits_mask(is_signed ? bits - 1 : bits);
    uint64_t min_magnitude = is_signed ? max + 1 : 0; // of the least value
    if (is_nan(n)) {
        env->flags |= IR_FPF_INVALID;
        return env->rules == IR_FP_RISCV ? max : 0;
    }
    if (n.class == ZERO) return 0;
    uint64_t limit = n.sign ? min_magnitude : max, whole = 0;
    n.exp += (int)scale;
    bool inexact = false, big = n.class == INF || n.exp > 63;
    if (!big) {
        // 2^64 - 1/2 and up would round out of 64 bits, but no format has that many bits
        whole = round_to_int(n, rm, &inexact);
        big = whole > limit;
    }
    if (big) {
        env->flags |= IR_FPF_INVALID;
        whole = limit;
    } else if (inexact) {
        env->flags |= IR_FPF_INEXACT;
    }
    return (n.sign ? 0 - whole : whole) & bits_mask(bits);
}

uint64_t softfp_from_int(SoftFormat f, uint64_t value, unsigned scale, bool is_signed,
                         unsigned bits, IrFpEnv *env) {
    value &= bits_mask(bits);
    bool sign = is_signed && value >> (bits - 1) & 1;
    if (sign) value = (0 - value) & bits_mask(bits);
    if (!value) return zero_of(f, false);
    int shift = __builtin_clzll(value);
    return round_pack(f, sign, 63 - shift - (int)scale, value << shift, env);
}

// ---- between formats ----

uint64_t softfp_convert(SoftFormat from, SoftFormat to, uint64_t a, bool to_odd, IrFpEnv *env) {
    bool ahp = env->mode & IR_FPM_AHP;
    if (ahp && from == SOFT_F16) from = SOFT_AHP;
    if (ahp && to == SOFT_F16) to = SOFT_AHP;
    Format ff = format(from), tf = format(to);
    // F16 is never flushed here, whichever side it is on (FPUnpackCV, FPRoundCV)
    Num n = unpack_raw(from, a, from != SOFT_F16 && flushes(from, env), env);
    switch (n.class) {
    case ZERO: return zero_of(to, n.sign);
    case INF:
        if (to == SOFT_AHP) return overflowed(to, IR_RM_NEAREST, n.sign, env);
        return inf_of(to, n.sign);
    case QNAN:
    case SNAN: {
        if (n.class == SNAN || to == SOFT_AHP) env->flags |= IR_FPF_INVALID;
        if (to == SOFT_AHP) return zero_of(to, n.sign);
        if (env->mode & IR_FPM_DN || env->rules == IR_FP_RISCV) return default_nan(to);
        uint64_t payload = n.bits & bits_mask(ff.frac_bits);
        payload = tf.frac_bits >= ff.frac_bits ? payload << (tf.frac_bits - ff.frac_bits)
                                               : payload >> (ff.frac_bits - tf.frac_bits);
        return inf_of(to, n.sign) | quiet_bit(tf) | payload;
    }
    case FINITE: break;
    }
    return pack(to, n.sign, n.exp, n.sig, to_odd ? IR_RM_ODD : mode_rm(env),
                to != SOFT_F16 && flushes(to, env), env);
}
