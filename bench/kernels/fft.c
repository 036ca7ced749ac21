// fft.c - double precision, memory and butterflies: radix-2 FFT forth and back.
#include "kernel.h"
#include <math.h>

enum { BITS = 15, N = 1 << BITS };
static double re[N], im[N], cosines[N / 2], sines[N / 2];

static void transform(double sign) {
    for (unsigned i = 0, j = 0; i < N; i++) {
        if (i < j) {
            double t = re[i];
            re[i] = re[j], re[j] = t;
            t = im[i], im[i] = im[j], im[j] = t;
        }
        unsigned bit = N >> 1;
        for (; j & bit; bit >>= 1) j ^= bit;
        j |= bit;
    }
    for (unsigned half = 1; half < N; half *= 2) {
        unsigned stride = N / 2 / half;
        for (unsigned base = 0; base < N; base += 2 * half)
            for (unsigned k = 0; k < half; k++) {
                double c = cosines[k * stride], s = sign * sines[k * stride];
                unsigned a = base + k, b = a + half;
                double x = re[b] * c - im[b] * s, y = re[b] * s + im[b] * c;
                re[b] = re[a] - x, im[b] = im[a] - y;
                re[a] += x, im[a] += y;
            }
    }
}

int main(int argc, char **argv) {
    long repeats = kernel_repeats(argc, argv, 720);
    uint64_t seed = 3;
    for (int i = 0; i < N / 2; i++) {
        cosines[i] = cos(2 * M_PI * i / N);
        sines[i] = sin(2 * M_PI * i / N);
    }
    for (int i = 0; i < N; i++) re[i] = (double)(kernel_random(&seed) >> 40) / (1 << 24);
    for (long r = 0; r < repeats; r++) {
        transform(1);
        transform(-1);
        for (int i = 0; i < N; i++) re[i] /= N, im[i] /= N;
    }
    double sum = 0, worst = 0;
    for (int i = 0; i < N; i++) sum += re[i], worst = fmax(worst, fabs(im[i]));
    printf("fft %.6f %d\n", sum, worst < 1e-9);
    return 0;
}
