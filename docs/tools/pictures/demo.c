// demo.c - what the pictures of docs/tools are taken from: a program that does one thing after
// another, four times, and touches memory in different ways. The argument says how much.
#include <stdio.h>
#include <stdlib.h>

enum { ENTRIES = 1 << 18 };
static int table[ENTRIES];

__attribute__((noinline)) static unsigned scan(int n) {
    unsigned sum = 0;
    for (int i = 0; i < n; i++) sum += (unsigned)table[i];
    return sum;
}

__attribute__((noinline)) static unsigned hop(int n) {
    unsigned at = 1, sum = 0;
    for (int i = 0; i < n; i++) {
        at = at * 1103515245u + 12345u;
        sum += (unsigned)table[at >> 14];
    }
    return sum;
}

__attribute__((noinline)) static unsigned crunch(int n) {
    double x = 1;
    for (int i = 0; i < n; i++) x = x * 1.0000001 + 1 / x;
    return (unsigned)x;
}

static int by_value(const void *a, const void *b) {
    int x = *(const int *)a, y = *(const int *)b;
    return (x > y) - (x < y);
}

__attribute__((noinline)) static void order(int n) {
    for (int i = 0; i < n; i++) table[i] = rand();
    qsort(table, (size_t)n, sizeof *table, by_value);
}

int main(int argc, char **argv) {
    int n = argc > 1 ? atoi(argv[1]) : 100;
    unsigned sum = 0;
    for (int round = 0; round < 4; round++) {
        order(200 * n);
        sum += scan(2600 * n < ENTRIES ? 2600 * n : ENTRIES);
        sum += hop(2000 * n);
        sum += crunch(3000 * n);
    }
    printf("%u\n", sum);
    return 0;
}
