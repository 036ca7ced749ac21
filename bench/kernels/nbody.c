// nbody.c - double precision, latency bound: five bodies under gravity, leapfrog steps.
#include "kernel.h"
#include <math.h>

enum { BODIES = 5 };
typedef struct Body {
    double p[3], v[3], mass;
} Body;

static void step(Body *b, double dt) {
    for (int i = 0; i < BODIES; i++)
        for (int j = i + 1; j < BODIES; j++) {
            double d[3], r2 = 0;
            for (int k = 0; k < 3; k++) d[k] = b[i].p[k] - b[j].p[k], r2 += d[k] * d[k];
            double f = dt / (r2 * sqrt(r2));
            for (int k = 0; k < 3; k++) {
                b[i].v[k] -= d[k] * b[j].mass * f;
                b[j].v[k] += d[k] * b[i].mass * f;
            }
        }
    for (int i = 0; i < BODIES; i++)
        for (int k = 0; k < 3; k++) b[i].p[k] += dt * b[i].v[k];
}

static double energy(const Body *b) {
    double e = 0;
    for (int i = 0; i < BODIES; i++) {
        double v2 = 0;
        for (int k = 0; k < 3; k++) v2 += b[i].v[k] * b[i].v[k];
        e += 0.5 * b[i].mass * v2;
        for (int j = i + 1; j < BODIES; j++) {
            double r2 = 0;
            for (int k = 0; k < 3; k++) r2 += (b[i].p[k] - b[j].p[k]) * (b[i].p[k] - b[j].p[k]);
            e -= b[i].mass * b[j].mass / sqrt(r2);
        }
    }
    return e;
}

int main(int argc, char **argv) {
    long repeats = kernel_repeats(argc, argv, 200);
    // A heavy sun and four light planets on near-circular orbits.
    Body b[BODIES] = {{{0, 0, 0}, {0, 0, 0}, 40}};
    for (int i = 1; i < BODIES; i++) {
        double r = 2.0 * i + 1, speed = sqrt(40 / r);
        b[i] = (Body){{r, 0, 0.1 * i}, {0, speed, 0.02 * i}, 0.01 / i};
    }
    for (long r = 0; r < repeats; r++)
        for (int i = 0; i < 100000; i++) step(b, 1e-4);
    printf("nbody %.6f\n", energy(b));
    return 0;
}
