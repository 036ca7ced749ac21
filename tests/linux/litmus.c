// litmus.c - what the memory model forbids must not be seen, over many rounds of two to four
// threads: message passing, store buffering, load buffering, IRIW, 2+2W, each with the barriers or
// ordered accesses that forbid the outcome.
#include "check.h"

#include <pthread.h>
#include <sched.h>
#include <time.h>

enum { ROUNDS = 40000, MAX_THREADS = 4, SECONDS = 5, END = -1 };
static volatile struct {
    uint64_t v;
    uint64_t pad[15];
} x[ROUNDS / 100], y[ROUNDS / 100];
static volatile uint64_t r[MAX_THREADS][2];
static _Atomic int at_start, at_end, round_no;

#define DMB    __asm__ volatile("dmb ish" ::: "memory")
#define DMB_LD __asm__ volatile("dmb ishld" ::: "memory")
#define DMB_ST __asm__ volatile("dmb ishst" ::: "memory")
#define X      x[i % (ROUNDS / 100)].v
#define Y      y[i % (ROUNDS / 100)].v
static uint64_t ldar(volatile uint64_t *p) {
    uint64_t v;
    __asm__ volatile("ldar %0, [%1]" : "=r"(v) : "r"(p) : "memory");
    return v;
}
static void stlr(volatile uint64_t *p, uint64_t v) {
    __asm__ volatile("stlr %0, [%1]" ::"r"(v), "r"(p) : "memory");
}

typedef struct Litmus {
    const char *name;
    int threads;
    void (*part)(int thread, int i);
    int (*forbidden)(int i);
} Litmus;
static const Litmus *now;

static void mp_dmb(int t, int i) {
    if (!t) {
        X = 1;
        DMB_ST;
        Y = 1;
    } else {
        r[1][0] = Y;
        DMB_LD;
        r[1][1] = X;
    }
}
static void mp_order(int t, int i) {
    if (!t) {
        X = 1;
        stlr(&Y, 1);
    } else {
        r[1][0] = ldar(&Y);
        r[1][1] = X;
    }
}
static int mp_no(int i) {
    return r[1][0] == 1 && r[1][1] == 0;
}
static void sb_dmb(int t, int i) {
    if (!t) {
        X = 1;
        DMB;
        r[0][0] = Y;
    } else {
        Y = 1;
        DMB;
        r[1][0] = X;
    }
}
static void sb_order(int t, int i) { // stlr and ldar are ordered among themselves
    if (!t) {
        stlr(&X, 1);
        r[0][0] = ldar(&Y);
    } else {
        stlr(&Y, 1);
        r[1][0] = ldar(&X);
    }
}
static int sb_no(int i) {
    return !r[0][0] && !r[1][0];
}
static void lb(int t, int i) {
    if (!t) {
        r[0][0] = X;
        DMB;
        Y = 1;
    } else {
        r[1][0] = Y;
        DMB;
        X = 1;
    }
}
static int lb_no(int i) {
    return r[0][0] && r[1][0];
}
static void iriw(int t, int i) {
    if (t == 0) X = 1;
    if (t == 1) Y = 1;
    if (t == 2) {
        r[2][0] = ldar(&X);
        r[2][1] = ldar(&Y);
    }
    if (t == 3) {
        r[3][0] = ldar(&Y);
        r[3][1] = ldar(&X);
    }
}
static int iriw_no(int i) {
    return r[2][0] && !r[2][1] && r[3][0] && !r[3][1];
}
static void w2(int t, int i) {
    if (!t) {
        X = 1;
        DMB;
        Y = 2;
    } else {
        Y = 1;
        DMB;
        X = 2;
    }
}
static int w2_no(int i) {
    return X == 1 && Y == 1;
}

// All begin a round together; thread 0 looks at it when all are done. Where others use the CPUs as
// well a round may take milliseconds: then thread 0 ends early.
static void *play(void *arg) {
    int me = (int)(intptr_t)arg;
    time_t end = time(NULL) + SECONDS;
    for (int i = 0; i < ROUNDS; i++) {
        if (!me) {
            if (!(i % 64) && time(NULL) > end) break;
            X = Y = 0;
            for (int k = 0; k < MAX_THREADS; k++) r[k][0] = r[k][1] = 0;
            at_end = 0;
            round_no = i + 1;
        } else {
            for (int n = 0; round_no != i + 1; n++) {
                if (round_no == END) return NULL;
                if (n > 200) sched_yield();
            }
        }
        now->part(me, i);
        at_end++;
        if (me) continue;
        for (int n = 0; at_end != now->threads; n++)
            if (n > 200) sched_yield();
        if (now->forbidden(i)) {
            printf("%s: a forbidden outcome in round %d\n", now->name, i);
            check_failures++;
            return NULL;
        }
    }
    if (!me) round_no = END;
    return NULL;
}

int main(void) {
    static const Litmus all[] = {{"MP dmb", 2, mp_dmb, mp_no}, {"MP ldar stlr", 2, mp_order, mp_no},
                                 {"SB dmb", 2, sb_dmb, sb_no}, {"SB ldar stlr", 2, sb_order, sb_no},
                                 {"LB dmb", 2, lb, lb_no},     {"IRIW ldar", 4, iriw, iriw_no},
                                 {"2+2W dmb", 2, w2, w2_no}};
    for (unsigned k = 0; k < sizeof all / sizeof *all && !check_failures; k++) {
        now = &all[k];
        round_no = 0;
        pthread_t t[MAX_THREADS];
        for (int i = 1; i < now->threads; i++)
            pthread_create(&t[i], NULL, play, (void *)(intptr_t)i);
        play(NULL);
        if (check_failures) return check_done();
        for (int i = 1; i < now->threads; i++) pthread_join(t[i], NULL);
    }
    return check_done();
}
