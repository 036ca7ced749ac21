// scaling.c - what threads cost: scaling MODE THREADS REPEATS. `work`: each thread does the same
// independent work; `atomic`: all add to one word; `mutex`: all take one mutex; `start`: threads
// that start and end. Prints seconds of wall time.
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

// Each on a cache line of its own: which of them share one decides what contention costs (a mutex
// takes 1.0 to 1.5 times as long), and two compilers lay them out differently.
static _Alignas(64) long repeats;
static _Alignas(64) uint64_t word;
static _Alignas(64) pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

// Each step waits for the one before. Where a machine's two CPUs are a core's two threads, work
// that fills a core would show how they share it, not whether we keep our threads apart.
static void *work(void *arg) {
    uint32_t table[256], x = 1;
    for (int i = 0; i < 256; i++) table[i] = (uint32_t)i * 2654435761u;
    for (long i = 0; i < repeats; i++) x = (x ^ x >> 15) * 1664525u + table[x >> 24];
    *(volatile uint32_t *)&word = x;
    return arg;
}
static void *atomic(void *arg) {
    for (long i = 0; i < repeats; i++) __atomic_fetch_add(&word, 1, __ATOMIC_SEQ_CST);
    return arg;
}
static void *lock(void *arg) {
    for (long i = 0; i < repeats; i++) {
        pthread_mutex_lock(&mutex);
        word++;
        pthread_mutex_unlock(&mutex);
    }
    return arg;
}
static void *nothing(void *arg) {
    return arg;
}

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

int main(int argc, char **argv) {
    if (argc != 4) return 2;
    int threads = atoi(argv[2]);
    repeats = atol(argv[3]);
    void *(*fn)(void *) = !strcmp(argv[1], "work")     ? work
                          : !strcmp(argv[1], "atomic") ? atomic
                          : !strcmp(argv[1], "mutex")  ? lock
                                                       : nothing;
    long rounds = fn == nothing ? repeats : 1;
    pthread_t t[64];
    double begin = seconds();
    for (long r = 0; r < rounds; r++) {
        for (int i = 0; i < threads; i++) pthread_create(&t[i], NULL, fn, NULL);
        for (int i = 0; i < threads; i++) pthread_join(t[i], NULL);
    }
    printf("%.6f\n", seconds() - begin);
    return 0;
}
