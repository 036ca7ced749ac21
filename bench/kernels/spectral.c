// spectral.c - double precision, divisions: largest singular value of A(i,j) =
// 1/((i+j)(i+j+1)/2+i+1).
#include "kernel.h"
#include <math.h>

enum { N = 600 };
static double element(int i, int j) {
    return 1.0 / ((i + j) * (i + j + 1) / 2 + i + 1);
}

static void times(const double *v, double *out, int transposed) {
    for (int i = 0; i < N; i++) {
        double sum = 0;
        for (int j = 0; j < N; j++) sum += (transposed ? element(j, i) : element(i, j)) * v[j];
        out[i] = sum;
    }
}

int main(int argc, char **argv) {
    long repeats = kernel_repeats(argc, argv, 540);
    static double u[N], v[N], t[N];
    for (int i = 0; i < N; i++) u[i] = 1;
    for (long r = 0; r < repeats; r++) {
        times(u, t, 0), times(t, v, 1);
        times(v, t, 0), times(t, u, 1);
        double first = u[0]; // keeps the numbers small
        for (int i = 0; i < N; i++) u[i] /= first, v[i] /= first;
    }
    double vbv = 0, vv = 0;
    for (int i = 0; i < N; i++) vbv += u[i] * v[i], vv += v[i] * v[i];
    printf("spectral %.6f\n", sqrt(vbv / vv));
    return 0;
}
