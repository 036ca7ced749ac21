// thread.c - futexes in all their ways (robust, priority inheriting, requeue, bitset), a thousand
// threads, LL/SC and LSE under contention, litmus tests of the memory model.
#define _GNU_SOURCE
#include "check.h"

#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long futex(void *a, int op, long v, void *t, void *b, long v3) {
    return syscall(SYS_futex, a, op, v, t, b, v3);
}

// ---- robust and PI mutexes ----

static pthread_mutex_t mutex;

static void *die_holding(void *arg) {
    pthread_mutex_lock(&mutex);
    return NULL;
}

static void mutexes(int protocol) {
    pthread_mutexattr_t attr;
    pthread_t t;
    pthread_mutexattr_init(&attr);
    pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
    CHECK(!pthread_mutexattr_setprotocol(&attr, protocol));
    pthread_mutex_t *m = &mutex;
    CHECK(!pthread_mutex_init(m, &attr));
    pthread_create(&t, NULL, die_holding, NULL);
    CHECK(!pthread_join(t, NULL));
    CHECK(pthread_mutex_lock(m) == EOWNERDEAD);
    pthread_mutex_consistent(m);
    CHECK(!pthread_mutex_unlock(m));
    CHECK(!pthread_mutex_lock(m) && !pthread_mutex_unlock(m));
    pthread_mutex_destroy(m);
}

// A child that dies holding, while the parent already waits.
static void robust_waiter(int protocol, int how) {
    pthread_mutexattr_t attr;
    pthread_mutexattr_init(&attr);
    pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
    pthread_mutexattr_setprotocol(&attr, protocol);
    pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
    struct shared {
        pthread_mutex_t m;
        sem_t held;
    } *s = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pthread_mutex_init(&s->m, &attr);
    sem_init(&s->held, 1, 0);
    pid_t pid = fork();
    if (!pid) {
        pthread_mutex_lock(&s->m);
        sem_post(&s->held);
        usleep(50000);
        if (how == 0) _exit(0);
        if (how == 1) execl("/proc/self/exe", "thread", "exit", NULL);
        abort();
    }
    sem_wait(&s->held);
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 5;
    CHECK(pthread_mutex_timedlock(&s->m, &until) == EOWNERDEAD);
    pthread_mutex_consistent(&s->m);
    pthread_mutex_unlock(&s->m);
    waitpid(pid, NULL, 0);
}

static volatile long counter;
static void *count_locked(void *m) {
    for (int i = 0; i < 20000; i++) {
        pthread_mutex_lock(m);
        counter++;
        pthread_mutex_unlock(m);
    }
    return NULL;
}

static void contended(int protocol) {
    pthread_mutexattr_t attr;
    pthread_mutex_t m;
    pthread_t t[4];
    pthread_mutexattr_init(&attr);
    pthread_mutexattr_setprotocol(&attr, protocol);
    pthread_mutex_init(&m, &attr);
    counter = 0;
    for (int i = 0; i < 4; i++) pthread_create(&t[i], NULL, count_locked, &m);
    for (int i = 0; i < 4; i++) pthread_join(t[i], NULL);
    CHECK(counter == 80000);
}

// ---- late ones ----

// The least time, of some tries, that so many late waits take, behind one that sleeps or not.
static double late_us(int waits, int sleeps) {
    struct timespec t = {0, 1000}, from, to;
    double least = 1e9;
    for (int i = 0; i < 50; i++) {
        for (int k = 0; k < sleeps; k++)
            FAILS(ETIMEDOUT, futex((void *)&counter, FUTEX_WAIT, counter, &t, NULL, 0));
        clock_gettime(CLOCK_MONOTONIC, &from);
        for (int k = 0; k < waits; k++)
            FAILS(EAGAIN, futex((void *)&counter, k % 2 ? FUTEX_WAIT : FUTEX_WAIT_BITSET_PRIVATE,
                                counter + 1, NULL, NULL, -1));
        clock_gettime(CLOCK_MONOTONIC, &to);
        double us =
            (double)(to.tv_sec - from.tv_sec) * 1e6 + (double)(to.tv_nsec - from.tv_nsec) / 1e3;
        if (us < least) least = us;
    }
    return least;
}

// Who is late again and again waits a microsecond each time; who sleeps in between does not.
static void late(void) {
    double seldom = late_us(10, 4), often = late_us(100, 0) / 10;
    CHECK(often >= 10 && seldom < often - 5);
}

// ---- plain futex calls ----

static _Atomic int word, word2, woken;
static void *wait_word(void *mask) {
    futex((void *)&word, FUTEX_WAIT_BITSET, 0, NULL, NULL, (long)mask);
    woken++;
    return NULL;
}

static void calls(void) {
    struct timespec t = {0, 20000000};
    FAILS(EAGAIN, futex((void *)&word, FUTEX_WAIT, 1, NULL, NULL, 0));
    FAILS(ETIMEDOUT, futex((void *)&word, FUTEX_WAIT, 0, &t, NULL, 0));
    FAILS(EFAULT, futex((void *)8, FUTEX_WAIT, 0, &t, NULL, 0));
    FAILS(EINVAL, futex((char *)&word + 1, FUTEX_WAIT, 0, &t, NULL, 0));
    FAILS(ENOSYS, futex((void *)&word, 99, 0, &t, NULL, 0));
    pthread_t p[6];
    for (long i = 0; i < 6; i++) pthread_create(&p[i], NULL, wait_word, (void *)(i < 3 ? 1l : 2l));
    usleep(60000);
    CHECK(futex((void *)&word, FUTEX_WAKE_BITSET, 99, NULL, NULL, 4) == 0);
    CHECK(futex((void *)&word, FUTEX_WAKE_BITSET, 99, NULL, NULL, 1) == 3);
    CHECK(futex((void *)&word, FUTEX_CMP_REQUEUE, 1, (void *)9, (void *)&word2, 0) == 3);
    usleep(30000);
    CHECK(woken == 4 && futex((void *)&word2, FUTEX_WAKE, 99, NULL, NULL, 0) == 2);
    for (int i = 0; i < 6; i++) pthread_join(p[i], NULL);
    FAILS(EAGAIN, futex((void *)&word, FUTEX_CMP_REQUEUE, 1, (void *)9, (void *)&word2, 5));
    word = 7;
    CHECK(futex((void *)&word2, FUTEX_WAKE_OP, 1, (void *)1, (void *)&word,
                FUTEX_OP(FUTEX_OP_ADD, 3, FUTEX_OP_CMP_EQ, 7)) == 0);
    CHECK(word == 10);
    void *list;
    size_t bytes = 0;
    CHECK(!syscall(SYS_get_robust_list, 0, &list, &bytes) && list && bytes == 24);
    FAILS(EINVAL, syscall(SYS_set_robust_list, list, 8));
}

// ---- many threads ----

static _Atomic int alive, most;
static sem_t gate;
static __thread int own = 5;
static void *stay(void *arg) {
    int now = ++alive;
    if (now > most) most = now;
    own += (int)(long)arg;
    sem_wait(&gate);
    alive--;
    return (void *)(long)(own - 5);
}

static void thousand(void) {
    enum { N = 1000 };
    static pthread_t t[N];
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, 65536);
    sem_init(&gate, 0, 0);
    int made = 0;
    for (; made < N && !pthread_create(&t[made], &attr, stay, (void *)(long)made); made++) continue;
    CHECK(made == N);
    while (alive < made) usleep(1000);
    for (int i = 0; i < made; i++) sem_post(&gate);
    for (int i = 0; i < made; i++) {
        void *r;
        if (pthread_join(t[i], &r) || (long)r != i) {
            CHECK(!"a thread's result");
            break;
        }
    }
    CHECK(alive == 0);
    // and one after the other
    sem_post(&gate);
    for (int i = 0; i < 1000; i++) {
        sem_post(&gate);
        if (pthread_create(&t[0], &attr, stay, NULL) || pthread_join(t[0], NULL)) {
            CHECK(!"threads in a row");
            break;
        }
    }
    // exit with a thousand of them waiting
    pid_t pid = fork();
    if (!pid) {
        sem_init(&gate, 0, 0);
        for (int i = 0; i < 300; i++) pthread_create(&t[i], &attr, stay, NULL);
        exit(17);
    }
    int status;
    waitpid(pid, &status, 0);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 17);
    // the main thread first, the status is the last one's
    pid = fork();
    if (!pid) {
        sem_init(&gate, 0, 0);
        pthread_create(&t[0], &attr, stay, NULL);
        sem_post(&gate);
        pthread_exit(NULL);
    }
    waitpid(pid, &status, 0);
    CHECK(status == 0);
}

// ---- LL/SC and LSE ----

static volatile uint64_t cells[4] __attribute__((aligned(64)));
static void *bump(void *arg) {
    for (int i = 0; i < 30000; i++) {
        uint64_t old, new;
        uint32_t failed;
        do
            __asm__ volatile("ldaxr %0, %3\n add %1, %0, 1\n stlxr %w2, %1, %3"
                             : "=&r"(old), "=&r"(new), "=&r"(failed), "+Q"(cells[0])
                             :
                             : "memory");
        while (failed);
        __asm__ volatile(".arch_extension lse\n ldaddal %1, %0, %2"
                         : "=r"(old)
                         : "r"(1ul), "Q"(cells[1])
                         : "memory");
        uint64_t lo, hi;
        do
            __asm__ volatile(
                "ldxp %0, %1, %3\n add %0, %0, 1\n add %1, %1, 2\n stxp %w2, %0, %1, %3"
                : "=&r"(lo), "=&r"(hi), "=&r"(failed), "+Q"(cells[2])
                :
                : "memory");
        while (failed);
    }
    return NULL;
}

static void atomics(void) {
    pthread_t t[4];
    for (int i = 0; i < 4; i++) pthread_create(&t[i], NULL, bump, NULL);
    for (int i = 0; i < 4; i++) pthread_join(t[i], NULL);
    CHECK(cells[0] == 120000 && cells[1] == 120000 && cells[2] == 120000 && cells[3] == 240000);
}

// ---- litmus tests: outcomes that Arm forbids must not be seen ----

enum { ROUNDS = 20000 };
static volatile int x __attribute__((aligned(128))), y __attribute__((aligned(128)));
static volatile int seen[4] __attribute__((aligned(128)));
static pthread_barrier_t barrier;
#define DMB()      __asm__ volatile("dmb ish" ::: "memory")
#define STLR(p, v) __asm__ volatile("stlr %w0, %1" ::"r"(v), "Q"(p) : "memory")
#define LDAR(p)                                                                                    \
    ({                                                                                             \
        int v_;                                                                                    \
        __asm__ volatile("ldar %w0, %1" : "=r"(v_) : "Q"(p) : "memory");                           \
        v_;                                                                                        \
    })

static void message_passing(int id) {
    if (id == 0) {
        x = 1;
        STLR(y, 1);
    } else if (id == 1) {
        seen[0] = LDAR(y);
        seen[1] = x;
    }
}
static void store_buffering(int id) {
    if (id == 0) {
        x = 1;
        DMB();
        seen[0] = y;
    } else if (id == 1) {
        y = 1;
        DMB();
        seen[1] = x;
    }
}
static void store_buffering_acquire_release(int id) { // stlr then ldar are ordered (RCsc)
    if (id == 0) {
        STLR(x, 1);
        seen[0] = LDAR(y);
    } else if (id == 1) {
        STLR(y, 1);
        seen[1] = LDAR(x);
    }
}
static void load_buffering(int id) {
    if (id == 0) {
        seen[0] = x;
        DMB();
        y = 1;
    } else if (id == 1) {
        seen[1] = y;
        DMB();
        x = 1;
    }
}
static void independent_reads(int id) {
    if (id == 0) STLR(x, 1);
    if (id == 1) STLR(y, 1);
    if (id == 2) {
        seen[0] = LDAR(x);
        seen[1] = LDAR(y);
    }
    if (id == 3) {
        seen[2] = LDAR(y);
        seen[3] = LDAR(x);
    }
}

static struct {
    const char *name;
    void (*run)(int);
    int threads, forbidden[4];
} litmus[] = {{"MP", message_passing, 2, {1, 0, 0, 0}},
              {"SB+dmb", store_buffering, 2, {0, 0, 0, 0}},
              {"SB+stlr", store_buffering_acquire_release, 2, {0, 0, 0, 0}},
              {"LB+dmb", load_buffering, 2, {1, 1, 0, 0}},
              {"IRIW", independent_reads, 4, {1, 0, 1, 0}}};
static int current, wrong;

static void *litmus_thread(void *arg) {
    int id = (int)(long)arg, rounds = litmus[current].threads == 4 ? ROUNDS / 10 : ROUNDS / 2;
    for (int i = 0; i < rounds; i++) {
        if (id == 0) x = y = seen[0] = seen[1] = seen[2] = seen[3] = 0;
        pthread_barrier_wait(&barrier);
        litmus[current].run(id);
        pthread_barrier_wait(&barrier);
        if (id == 0 && !memcmp((void *)seen, litmus[current].forbidden, sizeof seen)) wrong++;
    }
    return NULL;
}

static void memory_model(void) {
    for (current = 0; current < 5; current++) {
        pthread_t t[4];
        int n = litmus[current].threads;
        wrong = 0;
        pthread_barrier_init(&barrier, NULL, n);
        for (long i = 0; i < n; i++) pthread_create(&t[i], NULL, litmus_thread, (void *)i);
        for (int i = 0; i < n; i++) pthread_join(t[i], NULL);
        if (wrong) printf("%s: a forbidden outcome %d times\n", litmus[current].name, wrong);
        CHECK(!wrong);
    }
}

// ---- signals to threads, cancellation ----

static void *sleeper(void *arg) {
    for (;;) sleep(100);
}
static volatile int cleaned;
static void clean(void *arg) {
    cleaned++;
}
static void *cancelled(void *arg) {
    char c;
    pthread_cleanup_push(clean, NULL);
    read(*(int *)arg, &c, 1);
    pthread_cleanup_pop(0);
    return NULL;
}

static void cancellation(void) {
    int p[2];
    pipe(p);
    for (int i = 0; i < 200; i++) {
        pthread_t t;
        void *r;
        pthread_create(&t, NULL, cancelled, p);
        if (i % 2) usleep(i);
        pthread_cancel(t);
        if (pthread_join(t, &r) || r != PTHREAD_CANCELED || cleaned != i + 1) {
            // not yet inside its cleanup when it was told: fine, but told it was
            if (r != PTHREAD_CANCELED) CHECK(!"cancelled");
            cleaned = i + 1;
        }
    }
    pid_t pid = fork(); // a signal without handler kills all threads
    if (!pid) {
        pthread_t t;
        for (int i = 0; i < 5; i++) pthread_create(&t, NULL, sleeper, NULL);
        pthread_kill(t, SIGTERM);
        sleep(10);
        _exit(1);
    }
    int status;
    waitpid(pid, &status, 0);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
}

int main(int argc, char **argv) {
    setvbuf(stdout, NULL, _IONBF, 0);
    if (argc > 1) return 0;
    calls();
    mutexes(PTHREAD_PRIO_NONE);
    mutexes(PTHREAD_PRIO_INHERIT);
    for (int how = 0; how < 3; how++) {
        robust_waiter(PTHREAD_PRIO_NONE, how);
        robust_waiter(PTHREAD_PRIO_INHERIT, how);
    }
    contended(PTHREAD_PRIO_NONE);
    contended(PTHREAD_PRIO_INHERIT);
    late();
    thousand();
    atomics();
    memory_model();
    cancellation();
    return check_done();
}
