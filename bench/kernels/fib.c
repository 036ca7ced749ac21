// fib.c - recursion: calls and returns, and little else.
#include "kernel.h"

__attribute__((noinline)) static uint64_t fib(unsigned n) {
    if (n < 2) return n;
    uint64_t a = fib(n - 1);
    __asm__ volatile("" : "+r"(a)); // keeps the compiler from unrolling the recursion
    return a + fib(n - 2);
}

__attribute__((noinline)) static unsigned ackermann(unsigned m, unsigned n) {
    if (m == 0) return n + 1;
    if (n == 0) return ackermann(m - 1, 1);
    return ackermann(m - 1, ackermann(m, n - 1));
}

int main(int argc, char **argv) {
    long repeats = kernel_repeats(argc, argv, 450);
    uint64_t sum = 0;
    for (long r = 0; r < repeats; r++) sum += fib(29 + (r & 1)) + ackermann(2, 300);
    printf("fib %llu\n", (unsigned long long)sum);
    return 0;
}
