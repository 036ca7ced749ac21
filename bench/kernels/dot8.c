// dot8.c - integer SIMD: int8 dot products with 32-bit sums, and a saturating add over bytes (-O3).
#include "kernel.h"

enum { N = 8192 };
static int8_t x[N], y[N];
static uint8_t p[N], q[N];

__attribute__((noinline)) static int32_t dot(const int8_t *restrict u, const int8_t *restrict v) {
    int32_t sum = 0;
    for (int i = 0; i < N; i++) sum += u[i] * v[i];
    return sum;
}

__attribute__((noinline)) static void blend(uint8_t *restrict u, const uint8_t *restrict v) {
    for (int i = 0; i < N; i++) {
        unsigned t = u[i] + v[i];
        u[i] = (uint8_t)(t > 255 ? 255 - (t & 63) : t);
    }
}

int main(int argc, char **argv) {
    long repeats = kernel_repeats(argc, argv, 600000);
    uint64_t seed = 5, sum = 0;
    for (int i = 0; i < N; i++) {
        uint64_t r = kernel_random(&seed);
        x[i] = (int8_t)r, y[i] = (int8_t)(r >> 8), p[i] = (uint8_t)(r >> 16),
        q[i] = (uint8_t)(r >> 24);
    }
    for (long r = 0; r < repeats; r++) {
        x[r % N]++;
        sum = kernel_mix(sum, (uint32_t)dot(x, y));
        if (r % 4 == 0) blend(p, q);
    }
    for (int i = 0; i < N; i++) sum = kernel_mix(sum, p[i]);
    printf("dot8 %016llx\n", (unsigned long long)sum);
    return 0;
}
