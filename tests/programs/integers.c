// Integers: 128-bit arithmetic, division edges, shifts, bit counting, carries, overflow, bit
// fields, CRC.
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

typedef unsigned __int128 u128;
static void show(const char *what, u128 v) {
    printf("%s %016llx%016llx\n", what, (unsigned long long)(v >> 64), (unsigned long long)v);
}

static uint64_t state = 88172645463325252ull;
static uint64_t rnd(void) {
    return state ^= state << 13, state ^= state >> 7, state ^= state << 17;
}

// By hand, as C has no defined meaning for these.
static int64_t sdiv(int64_t a, int64_t b) {
    __asm__("sdiv %0, %0, %1" : "+r"(a) : "r"(b));
    return a;
}
static uint64_t udiv(uint64_t a, uint64_t b) {
    __asm__("udiv %0, %0, %1" : "+r"(a) : "r"(b));
    return a;
}
static int32_t sdiv32(int32_t a, int32_t b) {
    __asm__("sdiv %w0, %w0, %w1" : "+r"(a) : "r"(b));
    return a;
}
static uint64_t lslv(uint64_t a, uint64_t b) {
    __asm__("lsl %0, %0, %1" : "+r"(a) : "r"(b));
    return a;
}
static uint32_t asrv(uint32_t a, uint32_t b) {
    __asm__("asr %w0, %w0, %w1" : "+r"(a) : "r"(b));
    return a;
}
static unsigned nzcv_of_subs(uint64_t a, uint64_t b) {
    uint64_t f;
    __asm__("subs xzr, %1, %2\n mrs %0, nzcv" : "=r"(f) : "r"(a), "r"(b) : "cc");
    return (unsigned)(f >> 28);
}
static unsigned nzcv_of_adcs32(uint32_t a, uint32_t b) {
    uint64_t f;
    __asm__("subs xzr, xzr, xzr\n adcs wzr, %w1, %w2\n mrs %0, nzcv"
            : "=r"(f)
            : "r"(a), "r"(b)
            : "cc");
    return (unsigned)(f >> 28);
}

struct Fields {
    unsigned a : 3, b : 11;
    int c : 7;
    uint64_t d : 43;
};

int main(void) {
    u128 x = ((u128)0x0123456789abcdefull << 64) | 0xfedcba9876543210ull,
         y = (u128)0xdeadbeefcafef00dull * 77777;
    show("add", x + y), show("sub", y - x), show("mul", x * y), show("div", x / y),
        show("mod", x % (y >> 3));
    show("shl", x << 67), show("shr", x >> 13), show("sar", (u128)((__int128)(x << 4) >> 90));
    printf("div0 %lld %llu %d min %lld %d\n", (long long)sdiv(5, 0), (unsigned long long)udiv(7, 0),
           sdiv32(-9, 0), (long long)sdiv(INT64_MIN, -1), sdiv32(INT_MIN, -1));
    printf("shift %llx %x %x\n", (unsigned long long)lslv(3, 65), asrv(0x80000000u, 33),
           asrv(0x80000000u, 31));
    static const uint64_t v[] = {0,          1,          ~0ull, 1ull << 63, (1ull << 63) - 1,
                                 0x80000000, 0x7fffffff, 12345};
    for (int i = 0; i < 8; i++) {
        for (int j = 0; j < 8; j++)
            printf("%x%x ", nzcv_of_subs(v[i], v[j]),
                   nzcv_of_adcs32((uint32_t)v[i], (uint32_t)v[j]));
        printf("\n");
    }
    uint64_t h = 0;
    for (int i = 0; i < 3000; i++) {
        uint64_t a = rnd(), b = rnd() >> (i & 63);
        int64_t s = 0;
        h = h * 31 + (uint64_t)__builtin_popcountll(a) + (uint64_t)__builtin_clzll(b | 1) * 3 +
            (uint64_t)__builtin_ctzll(b | 2);
        h ^= __builtin_bswap64(a) + __builtin_bswap32((uint32_t)b) +
             (a >> (b & 63) | a << (-b & 63));
        h += (uint64_t)((u128)a * b >> 64) + (uint64_t)(((__int128)(int64_t)a * (int64_t)b) >> 64);
        h += (uint64_t)__builtin_add_overflow((int64_t)a, (int64_t)b, &s) + (uint64_t)s;
        h += (uint64_t)__builtin_mul_overflow((int64_t)(a >> 20), (int64_t)(b >> 9), &s) * 7 +
             (uint64_t)s;
        if (b)
            h ^= a / b + a % b + (uint64_t)((int64_t)a / (int64_t)(b | 1)) +
                 (uint64_t)((int32_t)a % (int32_t)(b | 1));
        h += (uint64_t)(int8_t)a + (uint16_t)b - (uint64_t)(int16_t)(a >> 5) * (uint32_t)b;
        struct Fields f = {.a = (unsigned)a, .b = (unsigned)b, .c = (int)(a >> 9), .d = b};
        f.b += f.a, f.d -= (uint64_t)(int64_t)f.c;
        h = (h ^ f.b) + f.d + (uint64_t)(int64_t)f.c;
        h += (a > b) + 2 * ((int64_t)a > (int64_t)b) + 4 * ((uint32_t)a <= (uint32_t)b) +
             8 * ((a & b) == 0);
    }
    printf("hash %016llx\n", (unsigned long long)h);
    char text[128];
    unsigned char unaligned[40];
    for (int i = 0; i < 40; i++) unaligned[i] = (unsigned char)(i * 7);
    uint64_t u = 0;
    for (int i = 0; i < 30; i++) {
        uint64_t t;
        memcpy(&t, unaligned + i, 8);
        u = u * 5 + t;
    }
    snprintf(text, sizeof text, "%d %u %ld %#lx %o %5d|%-5d|%05d %hhd %c", INT_MIN, UINT_MAX,
             LONG_MIN, ULONG_MAX, 0755, 42, 42, -42, 300, 'x');
    printf("unaligned %016llx\n%s\n", (unsigned long long)u, text);
    return 0;
}
