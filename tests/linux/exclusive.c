// exclusive.c - load- and store-exclusive between threads: no update is lost, a value that went and
// came back is noticed (ABA), a fault in the store leaves nothing locked, and neither does a fork.
#include "check.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static uint64_t ldaxr(volatile void *p) {
    uint64_t v;
    __asm__ volatile("ldaxr %0, [%1]" : "=r"(v) : "r"(p) : "memory");
    return v;
}
static int stlxr(volatile void *p, uint64_t v) {
    int failed;
    __asm__ volatile("stlxr %w0, %1, [%2]" : "=&r"(failed) : "r"(v), "r"(p) : "memory");
    return failed;
}
static uint64_t add(volatile uint64_t *p, uint64_t n) {
    uint64_t v;
    do v = ldaxr(p);
    while (stlxr(p, v + n));
    return v;
}

// A stack whose nodes are used again at once: a pop that does not notice that the head went and
// came back puts a node on top that somebody has.
typedef struct Node {
    struct Node *volatile next;
    volatile uint64_t owner;
} Node;
static Node pool[8], *volatile head;
static volatile uint64_t wrong, sum;

static Node *pop(void) {
    for (;;) {
        Node *n = (Node *)ldaxr(&head);
        if (!n) return NULL;
        Node *next = n->next;
        if (!stlxr(&head, (uint64_t)next)) return n;
    }
}
static void push(Node *n) {
    uint64_t h;
    do {
        h = ldaxr(&head);
        n->next = (Node *)h;
    } while (stlxr(&head, (uint64_t)n));
}
static Node *take(void) {
    Node *n = pop();
    if (n && add(&n->owner, 1)) add(&wrong, 1);
    return n;
}
static void give(Node *n) {
    if (!n) return;
    if (add(&n->owner, -1ull) != 1) add(&wrong, 1);
    push(n);
}
static void *recycle(void *arg) {
    for (int i = 0; i < 150000 && !wrong; i++) {
        Node *a = take(), *b = i & 1 ? take() : NULL;
        give(a);
        give(b);
        add(&sum, 1);
    }
    return arg;
}

static void threads(void) {
    pthread_t t[3];
    for (int i = 0; i < 8; i++) push(&pool[i]);
    for (int i = 0; i < 3; i++) pthread_create(&t[i], NULL, recycle, NULL);
    for (int i = 0; i < 3; i++) pthread_join(t[i], NULL);
    CHECK(!wrong);
    CHECK(sum == 3 * 150000);
    int left = 0;
    while (!wrong && left < 100 && pop()) left++;
    CHECK(left == 8);
}

static void changed_by_store(void) {
    volatile uint64_t x = 1;
    ldaxr(&x);
    x = 2;
    CHECK(stlxr(&x, 3) == 1 && x == 2);
    ldaxr(&x);
    __asm__ volatile("clrex" ::: "memory");
    CHECK(stlxr(&x, 3) == 1 && x == 2);
    volatile uint64_t y[8] = {0};
    ldaxr(&x);
    CHECK(stlxr(&y[4], 5) == 1 && !y[4]);
}

static sigjmp_buf back;
static void on_fault(int signo) {
    siglongjmp(back, signo);
}

static void fault_in_store(void) {
    volatile uint64_t *page =
        mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    signal(SIGSEGV, on_fault);
    for (int i = 0; i < 3; i++) {
        mprotect((void *)page, 4096, PROT_READ);
        if (!sigsetjmp(back, 1)) {
            ldaxr(page);
            stlxr(page, 7);
            CHECK(!"a store to a read-only page");
        }
        mprotect((void *)page, 4096, PROT_READ | PROT_WRITE);
        int tries = 0;
        do ldaxr(page);
        while (stlxr(page, i) && ++tries < 1000);
        CHECK(tries < 1000 && *page == (uint64_t)i);
    }
    signal(SIGSEGV, SIG_DFL);
}

static volatile int stop;
static volatile uint64_t shared;
static void *spin(void *arg) {
    while (!stop) add(&shared, 1);
    return arg;
}
static void forks(void) {
    pthread_t t;
    pthread_create(&t, NULL, spin, NULL);
    for (int i = 0; i < 60; i++) {
        pid_t pid = fork();
        if (!pid) {
            alarm(10);
            for (int k = 0; k < 100; k++) add(&shared, 1);
            _exit(0);
        }
        int status;
        waitpid(pid, &status, 0);
        CHECK(status == 0);
    }
    stop = 1;
    pthread_join(t, NULL);
}

int main(void) {
    changed_by_store();
    fault_in_store();
    threads();
    forks();
    return check_done();
}
