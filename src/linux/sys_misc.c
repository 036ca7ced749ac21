// sys_misc.c - what is left: the system's name, sleeping, semaphores' status.
#include "linux/syscall.h"

#include <errno.h>
#include <sys/sem.h>
#include <sys/syscall.h>
#include <sys/utsname.h>

int64_t sys_uname(Vcpu *v, const uint64_t a[6]) {
    struct utsname u;
    if (uname(&u)) return -errno;
    snprintf(u.machine, sizeof u.machine, "%s", abi_of(v)->machine);
    return guest_write(v, a[0], &u, sizeof u) ? 0 : -EFAULT;
}

// A relative sleep that a signal interrupts, for which no handler then runs, is restarted with the
// time that was left, not with the time that was asked for.
static int64_t sleep_for(Vcpu *v, long nr, uint64_t clock, uint64_t ask_at, uint64_t left_at) {
    LinuxThread *t = thread_of(v);
    struct timespec ask, left = {0};
    if (!guest_read(v, ask_at, &ask, sizeof ask)) return -EFAULT;
    if (t->sleep_again) ask = t->sleep_left;
    t->sleep_again = false;
    uint64_t in = (uint64_t)(uintptr_t)&ask, out = (uint64_t)(uintptr_t)&left;
    int64_t r = nr == SYS_nanosleep ? safe_syscall(v, nr, in, out, 0, 0, 0, 0)
                                    : safe_syscall(v, nr, clock, 0, in, out, 0, 0);
    if (r != LINUX_RESTART_NEVER) return r;
    if (left_at && !guest_write(v, left_at, &left, sizeof left)) return -EFAULT;
    t->sleep_again = true;
    t->sleep_left = left;
    return r;
}

int64_t sys_nanosleep(Vcpu *v, const uint64_t a[6]) {
    return sleep_for(v, SYS_nanosleep, 0, a[0], a[1]);
}

int64_t sys_clock_nanosleep(Vcpu *v, const uint64_t a[6]) {
    if (a[1] & TIMER_ABSTIME)
        return safe_syscall(v, SYS_clock_nanosleep, a[0], a[1], a[2], a[3], 0, 0);
    return sleep_for(v, SYS_clock_nanosleep, a[0], a[2], a[3]);
}

// Only the kernel's own restart code calls it; a guest that does gets what the kernel gives then.
int64_t sys_restart_syscall(Vcpu *v, const uint64_t a[6]) {
    return -EINTR;
}

// ---- System V semaphores: the status has holes on x86-64 only ----

typedef struct GuestSemStatus { // struct semid64_ds of generic Linux, 64 bits
    struct ipc_perm perm;
    uint64_t otime, ctime, nsems, unused[2];
} GuestSemStatus;

int64_t sys_semctl(Vcpu *v, const uint64_t a[6]) {
    struct semid_ds host = {0};
    GuestSemStatus guest = {0};
    int cmd = (int)a[2];
    if (cmd != IPC_STAT && cmd != SEM_STAT && cmd != SEM_STAT_ANY && cmd != IPC_SET)
        return safe_syscall(v, SYS_semctl, a[0], a[1], a[2], a[3], 0, 0);
    if (cmd == IPC_SET) {
        if (!guest_read(v, a[3], &guest, sizeof guest)) return -EFAULT;
        host.sem_perm = guest.perm;
    }
    int64_t r = safe_syscall(v, SYS_semctl, a[0], a[1], a[2], (uint64_t)(uintptr_t)&host, 0, 0);
    if (r < 0 || cmd == IPC_SET) return r;
    guest = (GuestSemStatus){.perm = host.sem_perm,
                             .otime = (uint64_t)host.sem_otime,
                             .ctime = (uint64_t)host.sem_ctime,
                             .nsems = host.sem_nsems};
    return guest_write(v, a[3], &guest, sizeof guest) ? r : -EFAULT;
}
