// Floating point: printing, conversions, rounding modes, exceptions, NaN, denormals, FMA, libm.
#include <fenv.h>
#include <float.h>
#include <limits.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

static uint64_t bits(double d) {
    uint64_t u;
    memcpy(&u, &d, 8);
    return u;
}
static uint32_t bitsf(float f) {
    uint32_t u;
    memcpy(&u, &f, 4);
    return u;
}
static double from(uint64_t u) {
    double d;
    memcpy(&d, &u, 8);
    return d;
}

static void flags(const char *what) {
    int f = fetestexcept(FE_ALL_EXCEPT);
    printf("%-10s%s%s%s%s%s\n", what, f & FE_INVALID ? " invalid" : "",
           f & FE_DIVBYZERO ? " zero" : "", f & FE_OVERFLOW ? " overflow" : "",
           f & FE_UNDERFLOW ? " underflow" : "", f & FE_INEXACT ? " inexact" : "");
    feclearexcept(FE_ALL_EXCEPT);
}

int main(void) {
    volatile double nan_ = NAN, one = 1, three = 3, zero = 0, big = DBL_MAX, tiny = DBL_MIN,
                    half = 0.5;
    volatile float onef = 1, threef = 3;
    printf("%a %.17g %e %g %.3f %10.2f|%-12.4e|%+g % g %#g\n", one / three, one / three, 123456.789,
           1e-5, 2.0005, 3.14159, 2.71828, 1.5, 2.5, 3.0);
    printf("%.20g %.0f %.0f %.0f %La\n", 0.1, 0.5, 1.5, 2.5, (long double)one / 3);
    printf("%g %g %g %g\n", INFINITY, -INFINITY, fabs(NAN), -zero);
    static const int modes[] = {FE_TONEAREST, FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO};
    for (int i = 0; i < 4; i++) {
        fesetround(modes[i]);
        printf("mode %d: %016llx %016llx %08x %.0f %.0f %ld %ld %d\n", i,
               (unsigned long long)bits(one / three), (unsigned long long)bits(-one / three),
               bitsf(onef / threef), rint(2.5 * one), rint(-2.5 * one), lrint(half * 5),
               lrint(-half * 3), fegetround() == modes[i]);
        printf("        %016llx %08x %016llx\n", (unsigned long long)bits(sqrt(three)),
               bitsf((float)(one / three)),
               (unsigned long long)bits(fma(one / three, three, -one)));
    }
    fesetround(FE_TONEAREST);
    feclearexcept(FE_ALL_EXCEPT);
    volatile double r = one + one;
    flags("exact");
    r = one / three, flags("inexact");
    r = one / zero, flags("divide");
    r = zero / zero, flags("0/0");
    r = big * big, flags("overflow");
    r = tiny * tiny, flags("underflow");
    r = sqrt(-one), flags("sqrt");
    volatile long li = (long)(big * one);
    flags("convert");
    volatile int cmp = nan_ < one;
    flags("less nan");
    cmp = isless(nan_, one);
    flags("quiet");
    cmp = nan_ == one;
    flags("equal nan");
    (void)r, (void)cmp;

    volatile double out[] = {1e300,        -1e300, NAN, 2147483648.0, -2147483649.0,
                             4294967296.5, -1.5,   1.9, 1e19};
    for (int i = 0; i < 9; i++)
        printf("%g -> %d %u %ld %lu\n",
               fabs(out[i]) == out[i] || out[i] != out[i] ? fabs(out[i]) : out[i], (int)out[i],
               (unsigned)out[i], (long)out[i], (unsigned long)out[i]);
    printf("int to fp %g %g %a %a %ld\n", (double)INT_MIN, (double)UINT_MAX, (double)ULONG_MAX,
           (float)(LONG_MAX - 1), li);

    // NaN propagation is the guest architecture's own.
    volatile double qnan = from(0x7ff8000000001234), snan = from(0x7ff0000000005678),
                    neg = from(0xfff8000000009abc);
    printf("nan %016llx %016llx %016llx %016llx %016llx\n", (unsigned long long)bits(qnan + one),
           (unsigned long long)bits(one + snan), (unsigned long long)bits(qnan + snan),
           (unsigned long long)bits(neg * qnan), (unsigned long long)bits(zero / zero));
    printf("nan %016llx %016llx %08x %016llx\n", (unsigned long long)bits(fma(one, qnan, snan)),
           (unsigned long long)bits(sqrt(-one)), bitsf((float)qnan),
           (unsigned long long)bits(fmin(one, snan)));
    printf("minmax %g %g %g %g\n", fmin(-zero, zero), fmax(qnan, one), fmin(one, qnan),
           fmax(-one, -three));
    printf("denormal %a %a %d\n", tiny / 3, (double)(FLT_MIN / threef),
           fpclassify(tiny / 2) == FP_SUBNORMAL);
    printf("round %g %g %g %g %g %ld\n", floor(-2.5 * one), ceil(-2.5 * one), trunc(-2.7 * one),
           round(2.5 * one), nearbyint(3.5 * one), lround(-2.5 * one));
    printf("libm %.14g %.14g %.14g %.14g %.14g %.14g\n", sin(one), exp(three), log(three),
           pow(three, half), atan2(one, three), cbrt(three));
    printf("libm %.7g %.7g %.12g %.12g %.12g\n", (double)sinf(onef), (double)powf(threef, 0.3f),
           tgamma(5.5 * one), erf(half), hypot(three, 4));
    int e;
    printf("parts %g %d %g %g\n", frexp(48.0 * one, &e), e, ldexp(three, 5), fmod(10 * one, three));
    long double q = 1;
    for (int i = 1; i < 25; i++) q = q / 3 * (i + 0.25L) - 1 / (q + 2);
    printf("quad %.28Lg %d\n", q, (int)(q * 1000));
    _Complex double z = (one + 2.0i) * (three - 1.0i) / (half + 0.25i);
    printf("complex %.12g %.12g\n", __real__ z, __imag__ z);
    float v[8], w = 0;
    for (int i = 0; i < 8; i++) v[i] = (float)i / 3;
    for (int i = 0; i < 8; i++) w += v[i] * v[7 - i];
    printf("float %.9g\n", (double)w);
    return 0;
}
