// matmulf.c - float SIMD: matrix multiply whose inner loop the compiler vectorises (-O3).
#include "kernel.h"

enum { N = 256 };
static float a[N][N], b[N][N], c[N][N];

int main(int argc, char **argv) {
    long repeats = kernel_repeats(argc, argv, 300);
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++)
            a[i][j] = (float)((i * 7 + j) % 13) / 8, b[i][j] = (float)((i + j * 5) % 11) / 4;
    double sum = 0;
    for (long r = 0; r < repeats; r++) {
        memset(c, 0, sizeof c);
        for (int i = 0; i < N; i++)
            for (int k = 0; k < N; k++) {
                float f = a[i][k];
                for (int j = 0; j < N; j++) c[i][j] += f * b[k][j];
            }
        a[r % N][(r * 7) % N] += 0.25f;
        sum += c[r % N][(r * 3) % N];
    }
    printf("matmulf %.6f\n", sum);
    return 0;
}
