// cpu.c - what this host CPU can do, less what the user asked not to use.
#include "host/x86_64/cpu.h"

#include <cpuid.h>
#include <errno.h>
#if __has_include(<sys/platform/x86.h>)
#include <sys/platform/x86.h>
#define LIBC_HAS_LEAVES
#endif

static uint64_t xgetbv0(void) {
    uint32_t lo, hi;
    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return (uint64_t)hi << 32 | lo;
}

// Leaf 1, 7 or 0x80000001, zeros when there is none. Under a hypervisor each cpuid is an exit to
// it, some 10 us: glibc has asked already (since 2.33).
static void leaf(unsigned number, unsigned *b, unsigned *c, unsigned *d) {
#ifdef LIBC_HAS_LEAVES
    unsigned index = number == 1   ? CPUID_INDEX_1
                     : number == 7 ? CPUID_INDEX_7
                                   : CPUID_INDEX_80000001;
    const struct cpuid_feature *known = __x86_get_cpuid_feature_leaf(index);
    *b = known->cpuid_array[1];
    *c = known->cpuid_array[2];
    *d = known->cpuid_array[3];
#else
    unsigned a;
    if (!__get_cpuid_count(number, 0, &a, b, c, d)) *b = *c = *d = 0;
#endif
}

static X86Cpu detect(void) {
    X86Cpu c = {0};
    unsigned b, cx, d;
    leaf(1, &b, &cx, &d);
    c.sse3 = cx & bit_SSE3;
    c.ssse3 = cx & bit_SSSE3;
    c.sse41 = cx & bit_SSE4_1;
    c.sse42 = cx & bit_SSE4_2;
    c.popcnt = cx & bit_POPCNT;
    c.aes = cx & bit_AES;
    c.pclmul = cx & bit_PCLMUL;
    c.cx16 = cx & bit_CMPXCHG16B;
    uint64_t os = cx & bit_OSXSAVE ? xgetbv0() : 0;
    c.avx = (cx & bit_AVX) && (os & 6) == 6;
    c.fma = c.avx && (cx & bit_FMA);
    c.f16c = c.avx && (cx & bit_F16C);
    enum { AVX512_FP16 = 1 << 23 }; // of edx
    leaf(7, &b, &cx, &d);
    c.bmi1 = c.avx && (b & bit_BMI);
    c.bmi2 = c.avx && (b & bit_BMI2);
    c.avx2 = c.avx && (b & bit_AVX2);
    c.gfni = cx & bit_GFNI;
    c.avx512 = c.avx2 && (os & 0xe6) == 0xe6 && (b & bit_AVX512F) && (b & bit_AVX512VL) &&
               (b & bit_AVX512BW) && (b & bit_AVX512DQ);
    c.avx512_fp16 = c.avx512 && (d & AVX512_FP16);
    c.avx512_bitalg = c.avx512 && (cx & bit_AVX512BITALG);
    c.avx512_vpopcntdq = c.avx512 && (cx & bit_AVX512VPOPCNTDQ);
    c.avx512_vnni = c.avx512 && (cx & bit_AVX512VNNI);
    c.avx512_vbmi = c.avx512 && (cx & bit_AVX512VBMI);
    leaf(0x80000001, &b, &cx, &d);
    c.lzcnt = cx & bit_LZCNT;
    c.fp_traps = c.direct = true;
    return c;
}

static void without_avx512(X86Cpu *c) {
    c->avx512_fp16 = false;
    c->avx512 = c->avx512_bitalg = c->avx512_vpopcntdq = c->avx512_vnni = c->avx512_vbmi = false;
}
static void without_fp16(X86Cpu *c) {
    c->avx512_fp16 = false;
}
static void without_avx2(X86Cpu *c) {
    without_avx512(c);
    c->avx2 = false;
}
static void without_fma(X86Cpu *c) {
    c->fma = false;
}
static void without_bmi(X86Cpu *c) {
    c->bmi1 = c->bmi2 = c->lzcnt = false;
}
static void without_avx(X86Cpu *c) { // VEX-coded integer instructions go with it
    without_avx2(c);
    without_fma(c);
    without_bmi(c);
    c->avx = c->f16c = c->gfni = false;
}
static void without_fp_traps(X86Cpu *c) {
    c->fp_traps = false;
}
static void without_direct(X86Cpu *c) {
    c->direct = false;
}
static void without_sse4(X86Cpu *c) { // plain x86-64-v1
    without_avx(c);
    c->sse3 = c->ssse3 = c->sse41 = c->sse42 = c->popcnt = c->aes = c->pclmul = false;
}

int x86_detect(X86Cpu *cpu, const char *limit, DgmErr *err) {
    static const struct {
        const char *name;
        void (*drop)(X86Cpu *);
    } limits[] = {
        {"avx512", without_avx512},    {"avx2", without_avx2}, {"avx", without_avx},
        {"fma", without_fma},          {"bmi", without_bmi},   {"sse4", without_sse4},
        {"fptraps", without_fp_traps}, {"fp16", without_fp16}, {"direct", without_direct},
    };
    *cpu = detect();
    while (limit && *limit) {
        size_t n = strcspn(limit, ",");
        unsigned i = 0;
        while (i < ARRAY_LEN(limits) &&
               (strlen(limits[i].name) != n || strncmp(limits[i].name, limit, n)))
            i++;
        if (i == ARRAY_LEN(limits))
            return err_set(err, -EINVAL,
                           "--host-limit %.*s: expected avx512, avx2, avx, fma, bmi, sse4, fp16, "
                           "fptraps or direct",
                           (int)n, limit);
        limits[i].drop(cpu);
        limit += n + (limit[n] == ',');
    }
    return 0;
}
