// Floating point where nothing is usual: NaNs of all kinds, infinities, denormals, products that
// round up to the least normal number, conversions out of range; many thousand times over, between
// usual numbers, with signals, faults, threads and a fork in the middle. Prints sums of all bits
// and the flags.
#include <fenv.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

typedef double Two __attribute__((vector_size(16)));
typedef float Four __attribute__((vector_size(16)));

static uint64_t bits(double d) {
    uint64_t u;
    memcpy(&u, &d, 8);
    return u;
}
static double from(uint64_t u) {
    double d;
    memcpy(&d, &u, 8);
    return d;
}
static unsigned fpsr(void) {
    uint64_t r;
    __asm__ volatile("mrs %0, fpsr" : "=r"(r)::"memory");
    return (unsigned)r;
}
static void set_fpsr(uint64_t r) {
    __asm__ volatile("msr fpsr, %0" ::"r"(r) : "memory");
}

// ---- many operations on numbers of one kind ----

enum { N = 32, KINDS = 7 };
static const char *const kinds[KINDS] = {"usual",     "quiet NaNs", "signalling", "infinities",
                                         "denormals", "least",      "mixed"};
static double number(unsigned kind, unsigned i) {
    static const uint64_t nans[] = {0x7ff8000000000001, 0xfff8000000000002, 0x7ffc00000000000f,
                                    0xffffffffffffffff};
    switch (kind) {
    case 0: return (i + 1) * 0.375;
    case 1: return i % 3 ? from(nans[i % 4]) : i - 7.5;
    case 2: return i % 2 ? from(0x7ff0000000000001 + i) : i - 7.5;
    case 3: return i % 3 ? (i % 2 ? INFINITY : -INFINITY) : i * 0.0;
    case 4: return from(0x000fffffffffffff >> i % 20) * (i % 2 ? 1 : -1);
    case 5:
        return from(0x2000000000000000 +
                    (i % 2 ? -(2ull << i % 26) : 1ull << i % 26)); // about 2^-511
    default: return number((unsigned)(i * 2654435761u >> 13) % (KINDS - 1), i * 5);
    }
}

static uint64_t mix(uint64_t sum, uint64_t value) {
    sum = (sum ^ value) * 0x100000001b3ull;
    return sum ^ sum >> 29;
}

// One of everything; the compiler may not think about it.
static uint64_t everything(uint64_t sum, double a, double b, double c) {
    double d, e;
    float f, g;
    int64_t n;
    Two v = {a, b}, w = {b, c}, u = {c, a};
    Four p, q;
#define OP(text, ...)                                                                              \
    __asm__ volatile(text : "=w"(d) : "w"(a), "w"(b), "w"(c));                                     \
    sum = mix(sum, bits(d))
    OP("fadd %d0, %d1, %d2");
    OP("fsub %d0, %d1, %d2");
    OP("fmul %d0, %d1, %d2");
    OP("fdiv %d0, %d1, %d2");
    OP("fsqrt %d0, %d1");
    OP("fmadd %d0, %d1, %d2, %d3");
    OP("fmsub %d0, %d1, %d2, %d3");
    OP("fnmadd %d0, %d1, %d2, %d3");
    OP("fnmsub %d0, %d1, %d2, %d3");
    OP("fmin %d0, %d1, %d2");
    OP("fmaxnm %d0, %d1, %d2");
    OP("frinta %d0, %d1");
#undef OP
    e = c;
    __asm__ volatile("fmadd %d0, %d1, %d2, %d0" : "+w"(e) : "w"(a), "w"(b));
    __asm__ volatile("fmul %d0, %d0, %d1" : "+w"(e) : "w"(b));
    __asm__ volatile("fcvt %s0, %d1" : "=w"(f) : "w"(a));
    __asm__ volatile("fmul %s0, %s1, %s1" : "=w"(g) : "w"(f));
    __asm__ volatile("fcvt %d0, %s1" : "=w"(d) : "w"(g));
    sum = mix(mix(sum, bits(d)), bits(e));
    __asm__ volatile("fcvtzs %0, %d1" : "=r"(n) : "w"(a));
    sum = mix(sum, (uint64_t)n);
    __asm__ volatile("fcvtas %w0, %d1" : "=r"(n) : "w"(b));
    sum = mix(sum, (uint64_t)n);
    __asm__ volatile("fcmp %d1, %d2\n cset %w0, mi\n cinc %w0, %w0, vs"
                     : "=r"(n)
                     : "w"(a), "w"(b)
                     : "cc");
    sum = mix(sum, (uint64_t)n);
    __asm__ volatile("fmla %0.2d, %1.2d, %2.2d\n fmls %0.2d, %2.2d, %1.2d"
                     : "+w"(u)
                     : "w"(v), "w"(w));
    __asm__ volatile("fcvtn %0.2s, %1.2d\n fcvtn2 %0.4s, %2.2d" : "=&w"(p) : "w"(u), "w"(v));
    __asm__ volatile("fmul %0.4s, %1.4s, %1.4s\n fcmge %0.4s, %0.4s, %1.4s" : "=&w"(q) : "w"(p));
    uint64_t out[6];
    memcpy(out, &u, 16), memcpy(out + 2, &p, 16), memcpy(out + 4, &q, 16);
    for (unsigned i = 0; i < 6; i++) sum = mix(sum, out[i]);
    return sum;
}

static uint64_t work(unsigned kind, unsigned rounds, unsigned *flags) {
    uint64_t sum = kind + 1;
    set_fpsr(0);
    for (unsigned r = 0; r < rounds; r++)
        for (unsigned i = 0; i < N; i++)
            sum = everything(sum, number(kind, i), number(kind, (i + r) % N),
                             number(kind, (i * 7 + r) % N));
    if (flags) *flags = fpsr();
    return sum;
}

static void all_kinds(unsigned rounds) {
    unsigned flags;
    for (unsigned k = 0; k < KINDS; k++) {
        uint64_t sum = work(k, rounds, &flags);
        printf("%-12s %016llx %02x\n", kinds[k], (unsigned long long)sum, flags);
    }
}

// ---- the least normal number, in all rounding modes ----

static void least_normal(void) {
    static const int modes[] = {FE_TONEAREST, FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO};
    static const uint64_t half[] = {0x1ff0000000000001, 0x2000000000000400, 0x1fffffffffffffff};
    for (unsigned m = 0; m < 4; m++) {
        fesetround(modes[m]);
        printf("mode %u:", m);
        for (unsigned i = 0; i < 3; i++)
            for (int e = 0; e < 2; e++) { // times a little less than 1 or 2
                double a = from(half[i]), b = from(0x1ffffffffffff800 + (uint64_t)e * 0x802), d;
                float f;
                set_fpsr(0);
                __asm__ volatile("fmul %d0, %d1, %d2" : "=w"(d) : "w"(a), "w"(b));
                printf(" %llx,%02x", (unsigned long long)bits(d), fpsr());
                set_fpsr(0);
                __asm__ volatile("fmadd %d0, %d1, %d2, %d3"
                                 : "=w"(d)
                                 : "w"(a), "w"(b), "w"(from(0x8000000000000001)));
                printf(",%llx,%02x", (unsigned long long)bits(d), fpsr());
                set_fpsr(0);
                double n = from(0x380fffffefffffff + (uint64_t)i * 0x8000000 + (uint64_t)e);
                __asm__ volatile("fcvt %s0, %d1" : "=w"(f) : "w"(n));
                printf(",%a,%02x", (double)f, fpsr());
            }
        printf("\n");
    }
    fesetround(FE_TONEAREST);
}

// ---- in the middle of it ----

static volatile sig_atomic_t alarms;
static void on_alarm(int sig) {
    (void)sig;
    work(6, 1, NULL); // also changes FPSR, which is the interrupted program's again afterwards
    alarms++;
}

static void with_signals(void) {
    struct itimerval often = {{0, 2000}, {0, 2000}}, off = {{0, 0}, {0, 0}};
    unsigned flags, want_flags;
    uint64_t want = work(6, 60, &want_flags), got;
    signal(SIGALRM, on_alarm);
    setitimer(ITIMER_REAL, &often, NULL);
    bool same = true;
    for (int i = 0; i < 400 && same && (alarms < 20 || i < 10); i++) {
        got = work(6, 60, &flags);
        same = got == want && flags == want_flags;
    }
    setitimer(ITIMER_REAL, &off, NULL);
    printf("with signals: %s\n", same ? "the same" : "different");
}

static uint8_t *no_page;
static void on_segv(int sig, siginfo_t *si, void *context) {
    mcontext_t *m = &((ucontext_t *)context)->uc_mcontext;
    struct fpsimd_context *f = (void *)m->__reserved;
    printf("signal %d at +%ld: v0 %016llx v1 %016llx fpsr %02x\n", sig,
           (long)((uint8_t *)si->si_addr - no_page), (unsigned long long)f->vregs[0],
           (unsigned long long)f->vregs[1], f->fpsr);
    m->pc += 4;
}

// What was computed before a fault is there, what comes behind is not.
static void with_faults(void) {
    struct sigaction sa = {.sa_sigaction = on_segv, .sa_flags = SA_SIGINFO};
    no_page = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    sigaction(SIGSEGV, &sa, NULL);
    for (unsigned k = 0; k < KINDS; k++) {
        double a = number(k, 4), b = number(k, 5);
        set_fpsr(0);
        __asm__ volatile("fmul d0, %d0, %d1\n fmadd d1, %d0, %d1, d0\n ldr x9, [%2, #8]\n"
                         "fmadd d0, %d1, d1, d0\n fdiv d1, d0, %d0\n str d1, [%2, #16]\n" ::"w"(a),
                         "w"(b), "r"(no_page)
                         : "v0", "v1", "x9", "memory");
    }
}

static void on_fpe(int sig) {
    printf("signal %d, sent\n", sig);
}

static void *in_thread(void *arg) {
    uint64_t *at = arg;
    *at = work((unsigned)*at, 200, NULL);
    return NULL;
}

static void with_threads(void) {
    pthread_t threads[KINDS];
    uint64_t sums[KINDS];
    for (unsigned k = 0; k < KINDS; k++) {
        sums[k] = k;
        pthread_create(&threads[k], NULL, in_thread, &sums[k]);
    }
    for (unsigned k = 0; k < KINDS; k++) {
        pthread_join(threads[k], NULL);
        printf("thread %-12s %016llx\n", kinds[k], (unsigned long long)sums[k]);
    }
}

int main(int argc, char **argv) {
    if (argc > 1) { // a number of rounds of one kind
        printf("%016llx\n",
               (unsigned long long)work((unsigned)atoi(argv[1]), (unsigned)atoi(argv[2]), NULL));
        return 0;
    }
    all_kinds(1);
    least_normal();
    with_faults();
    signal(SIGFPE, on_fpe);
    raise(SIGFPE);
    all_kinds(300);
    kill(getpid(), SIGFPE);
    with_signals();
    with_threads();
    fflush(stdout);
    if (!fork()) {
        all_kinds(20);
        fflush(stdout);
        _exit(0);
    }
    wait(NULL);
    with_faults();
    least_normal();
    all_kinds(2);
    return 0;
}
