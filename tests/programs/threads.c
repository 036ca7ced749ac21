// Threads: create and join, mutex, condition, atomics of every size, thread-local data, exit
// values.
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>

enum { THREADS = 4, ROUNDS = 20000 };
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t turn_changed = PTHREAD_COND_INITIALIZER;
static long guarded;
static int turn;
static atomic_long a64;
static atomic_int a32;
static atomic_short a16;
static _Atomic uint8_t a8;
static atomic_long highest;
static _Thread_local int mine = 5;

static void *work(void *arg) {
    long id = (long)arg;
    for (int i = 0; i < ROUNDS; i++) {
        pthread_mutex_lock(&lock);
        guarded++;
        pthread_mutex_unlock(&lock);
        atomic_fetch_add(&a64, 3);
        atomic_fetch_sub(&a32, 1);
        atomic_fetch_add(&a16, 1);
        atomic_fetch_xor(&a8, (uint8_t)(1 << id));
        long now = atomic_load(&highest), next = (i ^ id * 77) & 0x7fff;
        while (now < next && !atomic_compare_exchange_weak(&highest, &now, next)) {
        }
        mine++;
    }
    for (int r = 0; r < 3; r++) { // in turns
        pthread_mutex_lock(&lock);
        while (turn % THREADS != id) pthread_cond_wait(&turn_changed, &lock);
        printf("turn %d thread %ld\n", turn++, id);
        pthread_cond_broadcast(&turn_changed);
        pthread_mutex_unlock(&lock);
    }
    return (void *)(intptr_t)(mine + id);
}

static pthread_once_t once = PTHREAD_ONCE_INIT;
static void first(void) {
    puts("once");
}

int main(void) {
    pthread_t t[THREADS];
    for (long i = 0; i < THREADS; i++) pthread_create(&t[i], NULL, work, (void *)i);
    void *values[THREADS];
    for (int i = 0; i < THREADS; i++) pthread_join(t[i], &values[i]);
    for (int i = 0; i < THREADS; i++) printf("joined %ld\n", (long)(intptr_t)values[i]);
    pthread_once(&once, first), pthread_once(&once, first);
    printf("guarded %ld a64 %ld a32 %d a16 %d a8 %d highest %ld mine %d\n", guarded, (long)a64,
           (int)a32, (int)a16, (int)a8, (long)highest, mine);
    return 0;
}
