// sieve.c - bytes, strides and simple loops: the sieve of Eratosthenes.
#include "kernel.h"

enum { N = 2000000 };
static uint8_t composite[N];

int main(int argc, char **argv) {
    long repeats = kernel_repeats(argc, argv, 200);
    uint64_t sum = 0;
    for (long r = 0; r < repeats; r++) {
        unsigned limit = N - (unsigned)(r % 64), count = 0;
        memset(composite, 0, sizeof composite);
        for (unsigned i = 2; i < limit; i++) {
            if (composite[i]) continue;
            count++;
            for (uint64_t j = (uint64_t)i * i; j < limit; j += i) composite[j] = 1;
        }
        sum = kernel_mix(sum, count);
    }
    printf("sieve %016llx\n", (unsigned long long)sum);
    return 0;
}
