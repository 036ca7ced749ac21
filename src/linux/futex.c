// futex.c - threads that come too late for a futex again and again wait a moment.
//
// A FUTEX_WAIT is too late when its word has changed between the guest's look at it and the
// kernel's. Where threads contend for a mutex nearly all are: who was refused the mutex marks it,
// so that its owner calls the kernel to wake nobody, and by then it is free, or has another owner.
// Translated code is longer between its lock and its unlock than native code, and on its way to
// the kernel, so it collides more often. A microsecond, a fraction of what it takes to sleep and to
// be woken, lets the others work meanwhile.
//
// A thread's score says whether that is so: where waits do sleep, as behind conditions and
// barriers, and with most semaphores and readers' locks, there is no such moment.
#include "linux/syscall.h"

#include <errno.h>
#include <linux/futex.h>
#include <sched.h>

void after_futex(Vcpu *v, const uint64_t a[6], int64_t result) {
    enum { LATE = 1, SLEPT = -8, OFTEN = 16, MOST = 32 };
    const uint64_t moment_ns = 1000;
    LinuxThread *t = thread_of(v);
    int op = (int)a[1] & FUTEX_CMD_MASK;
    if (op != FUTEX_WAIT && op != FUTEX_WAIT_BITSET) return;
    int score = t->late_waits + (result == -EAGAIN ? LATE : SLEPT);
    t->late_waits = MAX(MIN(score, MOST), 0);
    if (result != -EAGAIN || t->late_waits < OFTEN) return;
    uint64_t from_ns = engine_now_ns();
    do sched_yield();
    while (engine_now_ns() - from_ns < moment_ns);
}
