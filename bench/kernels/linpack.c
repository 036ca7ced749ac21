// linpack.c - double precision: LU decomposition with partial pivoting, then a solve.
#include "kernel.h"
#include <math.h>

enum { N = 300 };
static double a[N][N], b[N];

static void solve(void) {
    for (int k = 0; k < N; k++) {
        int pivot = k;
        for (int i = k + 1; i < N; i++)
            if (fabs(a[i][k]) > fabs(a[pivot][k])) pivot = i;
        for (int j = 0; pivot != k && j < N; j++) {
            double t = a[k][j];
            a[k][j] = a[pivot][j], a[pivot][j] = t;
        }
        double t = b[k];
        b[k] = b[pivot], b[pivot] = t;
        for (int i = k + 1; i < N; i++) {
            double f = a[i][k] / a[k][k];
            for (int j = k + 1; j < N; j++) a[i][j] -= f * a[k][j];
            b[i] -= f * b[k];
        }
    }
    for (int i = N - 1; i >= 0; i--) {
        for (int j = i + 1; j < N; j++) b[i] -= a[i][j] * b[j];
        b[i] /= a[i][i];
    }
}

int main(int argc, char **argv) {
    long repeats = kernel_repeats(argc, argv, 200);
    double sum = 0;
    uint64_t seed = 11;
    for (long r = 0; r < repeats; r++) {
        for (int i = 0; i < N; i++) {
            b[i] = 0;
            for (int j = 0; j < N; j++) {
                a[i][j] = (double)(int64_t)(kernel_random(&seed) >> 33) / (1 << 30) - 0.5;
                b[i] += a[i][j];
            }
            a[i][i] += 10, b[i] += 10; // well conditioned; the solution is all ones
        }
        solve();
        for (int i = 0; i < N; i++) sum += b[i];
    }
    printf("linpack %.6f\n", sum / repeats / N);
    return 0;
}
