// again.c - recursion and calls through a table, for long enough that all code is made again while
// two threads run it and signals come.
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/time.h>

enum { ROUNDS = 1000, DEPTH = 22, FIB = 17711 };

static volatile sig_atomic_t signals;

static void on_alarm(int sig) {
    signals++;
}

static uint64_t fib(unsigned n);
static uint64_t sum(unsigned n) {
    return fib(n - 1) + fib(n - 2);
}
static uint64_t small(unsigned n) {
    return n;
}
static uint64_t (*const step[])(unsigned) = {small, small, sum, sum};

static __attribute__((noinline)) uint64_t fib(unsigned n) {
    return step[n < 3 ? n : 3](n);
}

static void *work(void *which) {
    int ok = 1;
    for (unsigned i = 0; i < ROUNDS; i++) ok &= fib(DEPTH) == FIB;
    return (void *)(uintptr_t)ok;
}

int main(void) {
    struct sigaction on = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
    struct itimerval every = {{0, 3000}, {0, 3000}}, never = {{0}};
    sigaction(SIGALRM, &on, NULL);
    setitimer(ITIMER_REAL, &every, NULL);
    pthread_t t[2];
    for (int i = 0; i < 2; i++) pthread_create(&t[i], NULL, work, NULL);
    for (int i = 0; i < 2; i++) {
        void *ok;
        pthread_join(t[i], &ok);
        printf("thread %d: %s\n", i, ok ? "agrees" : "differs");
    }
    setitimer(ITIMER_REAL, &never, NULL);
    printf("signals %s\n", signals ? "came" : "did not come");
    return 0;
}
