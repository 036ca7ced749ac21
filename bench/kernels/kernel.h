// kernel.h - what the kernels share: a repeat count from the command line, a random sequence that
// is the same everywhere, and a checksum. Every kernel does its work argv[1] times over (a default
// takes about a second natively) and prints one line; equal counts print equal lines on every CPU.
#ifndef KERNEL_H
#define KERNEL_H
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static inline long kernel_repeats(int argc, char **argv, long usual) {
    return argc > 1 ? strtol(argv[1], NULL, 10) : usual;
}

// xorshift64*, never zero.
static inline uint64_t kernel_random(uint64_t *state) {
    uint64_t x = *state;
    x ^= x >> 12, x ^= x << 25, x ^= x >> 27;
    *state = x;
    return x * 0x2545f4914f6cdd1dull;
}

static inline uint64_t kernel_mix(uint64_t sum, uint64_t value) {
    sum = (sum ^ value) * 0x100000001b3ull;
    return sum ^ (sum >> 29);
}
#endif
