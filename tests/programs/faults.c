// Exact faults: SIGSEGV with si_addr and registers seen by the handler, resumed by mending the
// cause or by moving the pc; SIGILL, SIGTRAP (BRK) and SIGBUS as AArch64 raises them.
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

static char *volatile area;
static long page;
static volatile int faults;
static volatile uint64_t seen_x9, seen_x10;

static void mend(int sig, siginfo_t *si, void *context) {
    ucontext_t *uc = context;
    (void)sig;
    faults++;
    seen_x9 = uc->uc_mcontext.regs[9];
    seen_x10 = uc->uc_mcontext.regs[10];
    char *at = (char *)((uintptr_t)si->si_addr & ~(uintptr_t)(page - 1));
    if (at < area || at >= area + 64 * page) _exit(99);
    mprotect(at, (size_t)page, PROT_READ | PROT_WRITE);
}

static void skip(int sig, siginfo_t *si, void *context) {
    ucontext_t *uc = context;
    printf("signal %d code %d at pc %d\n", sig, si->si_code,
           (uint64_t)si->si_addr == uc->uc_mcontext.pc);
    uc->uc_mcontext.regs[0] = 0x5a;
    uc->uc_mcontext.pc += 4;
}

static void handle(int sig, void (*fn)(int, siginfo_t *, void *)) {
    struct sigaction sa = {.sa_sigaction = fn, .sa_flags = SA_SIGINFO};
    sigaction(sig, &sa, NULL);
}

int main(void) {
    page = sysconf(_SC_PAGESIZE);
    area = mmap(NULL, 64 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    handle(SIGSEGV, mend);
    uint64_t sum = 0;
    for (int i = 0; i < 64; i++) { // a loop that faults in each round
        area[i * page + i] = (char)i;
        sum += (unsigned char)area[i * page + i];
    }
    printf("mended %d sum %lu\n", faults, sum);

    // The state at the fault is that between two instructions.
    mprotect(area, 4 * page, PROT_NONE);
    faults = 0;
    uint64_t result;
    __asm__ volatile("mov x9, #17\n add x9, x9, #4\n mov x10, #100\n sub x10, x10, x9\n"
                     "ldr x11, [%1]\n mov x9, #1\n add %0, x11, x10\n"
                     : "=r"(result)
                     : "r"(area + 8)
                     : "x9", "x10", "x11", "memory");
    printf("state %lu %lu result %lu faults %d\n", seen_x9, seen_x10, result, faults);

    // Pre- and post-indexed and pair accesses: no write-back before the access is done.
    mprotect(area, 4 * page, PROT_NONE);
    char *base = area + 16, *after;
    uint64_t one, two;
    __asm__ volatile("mov x9, %2\n ldp x10, x11, [x9], #32\n mov %0, x9\n mov %1, x10\n"
                     : "=&r"(after), "=&r"(one)
                     : "r"(base)
                     : "x9", "x10", "x11", "memory");
    printf("post %ld seen %d %lu\n", (long)(after - base), seen_x9 == (uint64_t)base, one);
    mprotect(area, 4 * page, PROT_NONE);
    __asm__ volatile("mov x9, %2\n mov x10, #7\n str x10, [x9, #64]!\n ldr %1, [x9]\n mov %0, x9\n"
                     : "=&r"(after), "=&r"(two)
                     : "r"(base)
                     : "x9", "x10", "memory");
    printf("pre %ld seen %d %lu\n", (long)(after - base), seen_x9 == (uint64_t)base, two);

    handle(SIGILL, skip);
    handle(SIGTRAP, skip);
    register uint64_t x0 __asm__("x0") = 1;
    __asm__ volatile(".inst 0x00000000" : "+r"(x0) : : "memory");
    printf("udf %lx\n", x0);
    x0 = 1;
    handle(SIGTRAP, skip);
    __asm__ volatile("brk #1" : "+r"(x0) : : "memory");
    printf("brk %lx\n", x0);
    return 0;
}
