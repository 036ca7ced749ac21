// Instructions that no packaged emulator has; this program checks itself. Memory copy and set
// (FEAT_MOPS) against memmove and memset: all directions, overlaps and sizes, registers afterwards,
// a fault in the middle that is repaired and taken up again. BC.cond (FEAT_HBC), WFET and WFIT
// (FEAT_WFxT); SYSL, which user mode may not use; misaligned atomics (FEAT_LSE2).
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

typedef struct Regs {
    uint64_t d, s, n;
} Regs;

// Three instructions on x0 (destination), x1 (source or value), x2 (count).
#define STEPS(name, p, m, e)                                                                       \
    static Regs name(void *d, uint64_t s, size_t n) {                                              \
        register uint64_t x0 __asm__("x0") = (uintptr_t)d, x1 __asm__("x1") = s,                   \
                             x2 __asm__("x2") = n;                                                 \
        __asm__ volatile(".inst " #p "\n .inst " #m "\n .inst " #e                                 \
                         : "+r"(x0), "+r"(x1), "+r"(x2)                                            \
                         :                                                                         \
                         : "memory", "cc");                                                        \
        return (Regs){x0, x1, x2};                                                                 \
    }
STEPS(cpyf, 0x19010440, 0x19410440, 0x19810440)
STEPS(cpyfrtwn, 0x19016440, 0x19416440, 0x19816440)
STEPS(cpy, 0x1d010440, 0x1d410440, 0x1d810440)
STEPS(set, 0x19c10440, 0x19c14440, 0x19c18440)

enum { ROOM = 1 << 15 };
static uint8_t a[ROOM] __attribute__((aligned(64))), b[ROOM];
static int bad;

static void check(int ok, const char *what, size_t i) {
    if (!ok && bad++ < 20) printf("%s %zu differs\n", what, i);
}

static void fill(void) {
    for (size_t i = 0; i < ROOM; i++) a[i] = b[i] = (uint8_t)(i * 7 + (i >> 8));
}

static const size_t sizes[] = {0, 1, 2, 3, 7, 8, 15, 16, 17, 63, 64, 100, 4095, 4096, 4097, 9999};

static void copies(void) {
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        size_t n = sizes[i];
        fill();
        Regs r = i & 1 ? cpyf(a + 20001, (uintptr_t)(a + 7), n)
                       : cpyfrtwn(a + 20001, (uintptr_t)(a + 7), n);
        memcpy(b + 20001, b + 7, n);
        check(!memcmp(a, b, ROOM), "cpyf", n);
        check(r.n == 0 && r.d == (uintptr_t)a + 20001 + n && r.s == (uintptr_t)a + 7 + n,
              "cpyf regs", n);
        for (int delta = -300; delta <= 300; delta += n > 64 ? 149 : 30) {
            fill();
            r = cpy(a + 12000 + delta, (uintptr_t)(a + 12000), n);
            memmove(b + 12000 + delta, b + 12000, n);
            check(!memcmp(a, b, ROOM), "cpy", n);
            check(r.n == 0, "cpy count", n);
        }
    }
}

static void sets(void) {
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        size_t n = sizes[i];
        fill();
        Regs r = set(a + 4090, 0x12345600 + n, n);
        memset(b + 4090, (int)(0x12345600 + n), n);
        check(!memcmp(a, b, ROOM), "set", n);
        check(r.n == 0 && r.d == (uintptr_t)a + 4090 + n, "set regs", n);
    }
}

static uint8_t *trap_page;
static volatile int faults;
static uintptr_t fault_at;
static volatile uint64_t v9_then;

static void on_fault(int signo, siginfo_t *si, void *context) {
    (void)signo;
    faults++;
    fault_at = (uintptr_t)si->si_addr;
    const struct fpsimd_context *fp = (void *)((ucontext_t *)context)->uc_mcontext.__reserved;
    v9_then = (uint64_t)fp->vregs[9];
    if (mprotect(trap_page, 4096, PROT_READ | PROT_WRITE)) _Exit(9);
}

// A fault of a short one, behind an instruction that changes a vector register.
static void vectors_then(void) {
    mprotect(trap_page, 4096, PROT_NONE);
    for (unsigned n = 8; n < 64; n += 9) {
        register uint64_t x0 __asm__("x0") = (uintptr_t)trap_page - 5, x1 __asm__("x1") = n,
                             x2 __asm__("x2") = n, want = n * 0x0101010101010101u;
        v9_then = 0;
        __asm__ volatile("dup v9.16b, %w1\n .inst 0x19c10440\n .inst 0x19c14440\n .inst 0x19c18440"
                         : "+r"(x0), "+r"(x1), "+r"(x2)
                         :
                         : "memory", "cc", "v9");
        check(v9_then == want, "v9 at the fault of a set", n);
        mprotect(trap_page, 4096, PROT_NONE);
    }
}

static void repaired(void) {
    struct sigaction sa = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
    sigaction(SIGSEGV, &sa, NULL);
    uint8_t *p = mmap(NULL, 3 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) exit(9);
    fill();
    trap_page = p + 4096;
    mprotect(trap_page, 4096, PROT_NONE);
    Regs r = set(p + 100, 0x5a, 8000); // faults at the second page, goes on, ends
    check(faults == 1 && fault_at == (uintptr_t)trap_page, "fault of set", (size_t)faults);
    check(r.n == 0 && p[99] == 0 && p[100] == 0x5a && p[8099] == 0x5a && p[8100] == 0,
          "repaired set", 0);
    mprotect(trap_page, 4096, PROT_NONE);
    r = cpy(p + 50, (uintptr_t)a, 9000);
    check(faults == 2 && fault_at == (uintptr_t)trap_page, "fault of cpy", (size_t)faults);
    check(r.n == 0 && !memcmp(p + 50, a, 9000), "repaired cpy", 0);
    mprotect(trap_page, 4096, PROT_NONE); // backwards: the second page is met from behind
    memset(p, 0, 4096), memset(p + 8192, 0, 4096);
    uint8_t *src = p + 8192;
    memcpy(src, b, 2000);
    memcpy(a, b, 2000);
    r = cpy(p + 4096 + 3000, (uintptr_t)(p + 4096 + 2500), 1500); // wholly in and behind it
    check(faults == 3, "fault of a backward cpy", (size_t)faults);
    check(r.n == 0, "repaired backward cpy", 0);
    vectors_then();
}

// BC.cond in all conditions with the given flags: a bit for each that is taken.
static unsigned conditions(uint64_t nzcv) {
    unsigned taken = 0;
#define BC(c)                                                                                      \
    {                                                                                              \
        uint64_t yes = 1;                                                                          \
        __asm__ volatile("msr nzcv, %1\n .inst 0x54000050 + " #c "\n mov %0, #0\n"                 \
                         : "+r"(yes)                                                               \
                         : "r"(nzcv)                                                               \
                         : "cc");                                                                  \
        taken |= (unsigned)yes << c;                                                               \
    }
    BC(0)
    BC(1) BC(2) BC(3) BC(4) BC(5) BC(6) BC(7) BC(8) BC(9) BC(10) BC(11) BC(12) BC(13) return taken;
}

static unsigned expected_conditions(uint64_t nzcv) {
    unsigned n = nzcv >> 31 & 1, z = nzcv >> 30 & 1, c = nzcv >> 29 & 1, v = nzcv >> 28 & 1,
             all = 0;
    unsigned pairs[] = {z, c, n, v, c & !z, n == v, (n == v) & !z};
    for (unsigned i = 0; i < 7; i++) all |= (pairs[i] ? 1u : 2u) << (2 * i);
    return all;
}

static void branches(void) {
    for (uint64_t f = 0; f < 16; f++)
        check(conditions(f << 28) == expected_conditions(f << 28), "bc.cond", f);
    // a deadline that has passed
    __asm__ volatile("mov x0, #0\n .inst 0xd5031000\n .inst 0xd5031020" ::: "x0");
}

// Atomic and ordered accesses (FEAT_LSE2): anywhere within 16 aligned bytes; across, SIGBUS.
static volatile int bus;
static uintptr_t bus_at;
static void on_bus(int signo, siginfo_t *si, void *context) {
    (void)signo;
    bus++;
    bus_at = (uintptr_t)si->si_addr;
    if (si->si_code != BUS_ADRALN) bus += 100;
    ((ucontext_t *)context)->uc_mcontext.pc += 4;
}

#define ACCESS(text, size)                                                                         \
    for (uintptr_t i = 0; i < 32; i++) {                                                           \
        uint64_t value = 0, status = 0;                                                            \
        uintptr_t at = (uintptr_t)a + 64 + i;                                                      \
        bus = 0;                                                                                   \
        __asm__ volatile(".arch armv8.1-a\n" text                                                  \
                         : "+r"(value), "+r"(status)                                               \
                         : "r"(at)                                                                 \
                         : "memory");                                                              \
        check(bus == ((i & 15) + size > 16) && (!bus || bus_at == at), text, i);                   \
    }

static void alignment(void) {
    struct sigaction sa = {.sa_sigaction = on_bus, .sa_flags = SA_SIGINFO};
    sigaction(SIGBUS, &sa, NULL);
    ACCESS("ldar %0, [%2]", 8)
    ACCESS("ldar %w0, [%2]", 4)
    ACCESS("ldarh %w0, [%2]", 2)
    ACCESS("ldarb %w0, [%2]", 1)
    ACCESS("stlr %w0, [%2]", 4)
    ACCESS("ldaxr %0, [%2]", 8)
    ACCESS("ldadd %0, %1, [%2]", 8)
    ACCESS("ldsmax %w0, %w1, [%2]", 4)
    ACCESS("swph %w0, %w1, [%2]", 2)
    ACCESS("cas %0, %1, [%2]", 8)
    ACCESS("ldxp %0, %1, [%2]", 16)
}

static volatile int undefined;
static void on_undefined(int signo, siginfo_t *si, void *context) {
    (void)signo, (void)si;
    undefined++;
    ((ucontext_t *)context)->uc_mcontext.pc += 4;
}

static void privileged(void) {
    struct sigaction sa = {.sa_sigaction = on_undefined, .sa_flags = SA_SIGINFO};
    sigaction(SIGILL, &sa, NULL);
    __asm__ volatile(".inst 0xd52c6b75" ::: "x21"); // sysl x21, #4, c6, c11, #3
    check(undefined == 1, "sysl", 0);
}

int main(void) {
    branches();
    privileged();
    alignment();
    copies();
    sets();
    repaired();
    printf("newer: %d differ, %d faults\n", bad, faults);
    return bad != 0;
}
