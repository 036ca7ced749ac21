// Loops that are left in each of their rounds, for tests/tools/tools.py: at their ends, on the way,
// and by faults in the middle of a block, where a handler gives the page. What is executed is the
// same in each run.
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

enum { PAGES = 40, PAGE = 4096 };
static char *area;
static volatile unsigned long faults;

static void give(int signo, siginfo_t *si, void *context) {
    (void)signo, (void)context;
    faults++;
    mprotect((void *)((uintptr_t)si->si_addr & -(uintptr_t)PAGE), PAGE, PROT_READ | PROT_WRITE);
}

#define LOOP __attribute__((noinline)) static uint64_t

LOOP sum(const uint64_t *p, uint64_t n) {
    uint64_t s = 0;
    __asm__ volatile("1: ldr x9, [%1], #8\n add %0, %0, x9\n subs %2, %2, #1\n b.ne 1b"
                     : "+r"(s), "+r"(p), "+r"(n)::"x9", "cc", "memory");
    return s;
}
LOOP fill(char *p, uint64_t n, uint64_t step) { // a fault behind a change, one ahead of others
    __asm__ volatile("1: add x9, x9, %0\n str x9, [%0]\n add %0, %0, %2\n eor x10, x10, x9\n"
                     "sub %1, %1, #1\n ldr x11, [%0]\n cbnz %1, 1b"
                     : "+r"(p), "+r"(n)
                     : "r"(step)
                     : "x9", "x10", "x11", "cc", "memory");
    return n;
}
LOOP pairs(char *p, uint64_t n) { // a pair on two pages now and then
    __asm__ volatile("1: ldp x9, x10, [%0]\n add x9, x9, x10\n stp x9, x10, [%0, #8]\n"
                     "subs %1, %1, #1\n add %0, %0, #24\n b.gt 1b"
                     : "+r"(p), "+r"(n)::"x9", "x10", "cc", "memory");
    return n;
}
LOOP length(const char *p) {
    const char *at = p;
    __asm__ volatile("1: ldrb w9, [%0], #1\n cbnz w9, 1b" : "+r"(at)::"x9", "memory");
    return (uint64_t)(at - p);
}
LOOP find(const uint32_t *p, uint64_t n, uint32_t key) { // branches within, a way out
    uint64_t odd = 0, even = 0;
    for (uint64_t i = 0; i < n; i++) {
        uint32_t v = p[i];
        if (v == key) return odd * 3 + even;
        if (v & 1) __asm__ volatile("add %0, %0, #1" : "+r"(odd));
        if (v & 2) __asm__ volatile("add %0, %0, #5" : "+r"(even));
    }
    return even;
}
LOOP atomics(uint64_t *p, uint64_t n) {
    uint64_t s = 0;
    while (n--) s += __atomic_fetch_add(p, n, __ATOMIC_SEQ_CST);
    return s;
}

static void take_away(void) {
    mprotect(area, PAGES * PAGE, PROT_NONE);
}

int main(void) {
    static uint64_t words[64];
    static uint32_t keys[64];
    static char text[64];
    uint64_t made = 0;
    struct sigaction sa = {.sa_sigaction = give, .sa_flags = SA_SIGINFO};
    sigaction(SIGSEGV, &sa, NULL);
    area =
        mmap(NULL, (PAGES + 1) * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(text, 'a', sizeof text - 1);
    for (unsigned i = 0; i < 64; i++) words[i] = i * i, keys[i] = i * 2654435761u >> 20;
    for (unsigned round = 0; round < 60; round++) {
        for (unsigned n = 1; n < 40; n++) {
            made +=
                sum(words, n) + find(keys, n, keys[(n * 7 + round) & 63]) + atomics(words + 3, n);
            made += length(text + 63 - n);
        }
        take_away();
        fill(area, 60 + round, 8 * (round % 37 + 60));
        take_away();
        pairs(area + 8 * (round % 7), 200 + 3 * round);
        take_away();
        made += length(area + PAGES * PAGE - round * 31);
    }
    printf("%lx, %lu faults\n", (unsigned long)made, faults);
    return 0;
}
