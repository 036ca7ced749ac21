// thread.c - the guest's threads: their start and end, exit_group; and prctl. Processes are in
// fork.c.
//
// A guest thread is a host thread with a vCPU.
//
// Locks, in this order: signal_lock, thread_lock, the address space's, Machine.lock.
#include "linux/syscall.h"

#include "engine/host_signals.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/futex.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { KICK_AGAIN_NS = 5000000 };

// ---- the list ----

LinuxThread *thread_new(LinuxProcess *p, Vcpu *v, bool is_main) {
    LinuxThread *t = calloc(1, sizeof *t);
    if (!t) return NULL;
    t->v = v;
    t->p = p;
    t->is_main = is_main;
    v->os = t;
    pthread_mutex_lock(&p->thread_lock);
    t->next = p->threads;
    p->threads = t;
    p->n_threads++;
    pthread_mutex_unlock(&p->thread_lock);
    return t;
}

void thread_free(LinuxThread *t) {
    LinuxProcess *p = t->p;
    pthread_mutex_lock(&p->thread_lock);
    for (LinuxThread **at = &p->threads; *at; at = &(*at)->next)
        if (*at == t) {
            *at = t->next;
            p->n_threads--;
            break;
        }
    pthread_mutex_unlock(&p->thread_lock);
    free(t);
}

// ---- the end ----

static void futex_wake(Vcpu *v, uint64_t addr, int n) {
    syscall(SYS_futex, (uint32_t *)(uintptr_t)(space_base(v->m->as) + addr), FUTEX_WAKE, n, NULL,
            NULL, 0);
}

// Marks a robust futex that the dying thread holds.
static void robust_died(LinuxThread *t, uint64_t addr) {
    uint32_t *word = guest_ptr(t->v, addr, 4, PROT_READ | PROT_WRITE);
    uint32_t old;
    if (addr % 4 || !word || !guest_read(t->v, addr, &old, 4)) return;
    while ((old & FUTEX_TID_MASK) == (uint32_t)t->tid) {
        uint32_t now = (old & FUTEX_WAITERS) | FUTEX_OWNER_DIED;
        if (!__atomic_compare_exchange_n(word, &old, now, false, __ATOMIC_SEQ_CST,
                                         __ATOMIC_SEQ_CST))
            continue;
        if (old & FUTEX_WAITERS) futex_wake(t->v, addr, 1);
        break;
    }
}

static void robust_list_died(LinuxThread *t) {
    struct {
        uint64_t next;
        int64_t offset;
        uint64_t pending;
    } head;
    if (!t->robust_list || !guest_read(t->v, t->robust_list, &head, sizeof head)) return;
    uint64_t at = head.next;
    for (unsigned i = 0; i < ROBUST_LIST_LIMIT && (at & ~1ull) != t->robust_list; i++) {
        uint64_t next;
        bool more = guest_read(t->v, at & ~1ull, &next, sizeof next);
        if ((at & ~1ull) != (head.pending & ~1ull))
            robust_died(t, (at & ~1ull) + (uint64_t)head.offset);
        if (!more) break;
        at = next;
    }
    if (head.pending & ~1ull) robust_died(t, (head.pending & ~1ull) + (uint64_t)head.offset);
}

void process_end_thread(LinuxThread *t) {
    if (t->robust_list) syscall(SYS_set_robust_list, NULL, 24);
    robust_list_died(t);
    if (t->clear_child_tid) {
        uint32_t zero = 0;
        if (guest_write(t->v, t->clear_child_tid, &zero, sizeof zero))
            futex_wake(t->v, t->clear_child_tid, 1);
        t->clear_child_tid = 0;
    }
}

void process_leave_forked(LinuxProcess *p) {
    if (p->m->watches && !p->vforked) observe_finish(p->m->watches, NULL, true);
    if (p->exit_signal) {
        struct rlimit no_core = {0, 0};
        setrlimit(RLIMIT_CORE, &no_core);
        signal(p->exit_signal, SIG_DFL);
        uint64_t open = 0;
        syscall(SYS_rt_sigprocmask, SIG_SETMASK, &open, NULL, sizeof open);
        syscall(SYS_kill, getpid(), p->exit_signal);
        syscall(SYS_tgkill, getpid(), gettid(), p->exit_signal);
    }
    _exit(p->exit_signal ? 128 + p->exit_signal : p->exit_status);
}

static void kick(LinuxThread *t) { // thread_lock held
    siginfo_t si = {.si_signo = LINUX_KICK, .si_code = SI_QUEUE};
    si.si_value.sival_ptr = t->p;
    vcpu_interrupt(t->v);
    if (t->tid) syscall(SYS_rt_tgsigqueueinfo, getpid(), t->tid, LINUX_KICK, &si);
}

static void kick_others(LinuxProcess *p, const LinuxThread *self) { // thread_lock held
    for (LinuxThread *t = p->threads; t; t = t->next)
        if (t != self) kick(t);
}

void process_exit(Vcpu *v, int status, int signal) {
    LinuxProcess *p = process_of(v);
    v->stop = true;
    if (atomic_exchange(&p->exit_decided, true)) return;
    p->exit_status = status & 0xff;
    p->exit_signal = signal;
    atomic_store(&p->exiting, true);
    pthread_mutex_lock(&p->thread_lock);
    kick_others(p, thread_of(v));
    pthread_mutex_unlock(&p->thread_lock);
}

// The main thread has left its vCPU: for exit() alone it waits for the others to end by themselves.
void threads_stop_others(Vcpu *self) {
    LinuxProcess *p = process_of(self);
    LinuxThread *t = thread_of(self);
    signals_close_host_mask();
    process_end_thread(t);
    pthread_mutex_lock(&p->thread_lock);
    while (p->n_threads > 1) {
        if (atomic_load(&p->exiting)) kick_others(p, t);
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += KICK_AGAIN_NS;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        pthread_cond_timedwait(&p->thread_gone, &p->thread_lock, &until);
    }
    pthread_mutex_unlock(&p->thread_lock);
}

// The last thing a thread does with the process: afterwards linux_end() may free it. So the list
// entry, the vCPU and the signal stack go first and the count last, under the lock.
static void thread_end(LinuxThread *t) {
    LinuxProcess *p = t->p;
    Vcpu *v = t->v;
    pthread_mutex_lock(&p->thread_lock);
    t->ending = true; // before the guest can learn of it
    pthread_mutex_unlock(&p->thread_lock);
    process_end_thread(t);
    if (p->forked && p->threads == t && !t->next) process_leave_forked(p);
    // no kick from here on; one that was sent before arrives at the end of a system call at latest,
    // while it is still known for one
    pthread_mutex_lock(&p->thread_lock);
    t->tid = 0;
    pthread_mutex_unlock(&p->thread_lock);
    syscall(SYS_getppid);
    host_signals_leave(v);
    pthread_mutex_lock(&p->thread_lock);
    for (LinuxThread **at = &p->threads; *at; at = &(*at)->next)
        if (*at == t) {
            *at = t->next;
            break;
        }
    vcpu_free(v);
    free(t);
    p->n_threads--;
    pthread_cond_broadcast(&p->thread_gone);
    pthread_mutex_unlock(&p->thread_lock);
}

int64_t sys_exit(Vcpu *v, const uint64_t a[6]) {
    LinuxProcess *p = process_of(v);
    LinuxThread *t = thread_of(v);
    // the status of the process is the main thread's, unless somebody calls exit_group
    if (t->is_main && !atomic_load(&p->exit_decided)) p->exit_status = (int)a[0] & 0xff;
    v->stop = true;
    return LINUX_NO_RESULT;
}

int64_t sys_exit_group(Vcpu *v, const uint64_t a[6]) {
    process_exit(v, (int)a[0], 0);
    return LINUX_NO_RESULT;
}

// ---- new ones ----

void thread_child_regs(Vcpu *v, const CloneArgs *c) {
    const GuestLinuxAbi *abi = abi_of(v);
    if (c->stack) vcpu_set_reg(v, abi->sp, c->stack + c->stack_bytes);
    if (c->flags & CLONE_SETTLS) vcpu_set_reg(v, abi->tls, c->tls);
    vcpu_set_reg(v, abi->syscall_ret, 0);
}

typedef struct Birth { // on the parent's stack until the child has said hello
    LinuxThread *t;
    const CloneArgs *c;
    pthread_mutex_t lock;
    pthread_cond_t said;
    int answer; // 0: not yet; its tid, or -errno
} Birth;

static void *thread_main(void *arg) {
    Birth *b = arg;
    LinuxThread *t = b->t;
    Vcpu *v = t->v;
    DgmErr err;
    int e = host_signals_enter(v, linux_host_signal, &err);
    t->tid = gettid();
    t->host = pthread_self();
    if (!e) {
        uint32_t tid = (uint32_t)t->tid;
        if (b->c->flags & CLONE_PARENT_SETTID) guest_write(v, b->c->parent_tid, &tid, 4);
        if (b->c->flags & CLONE_CHILD_SETTID) guest_write(v, b->c->child_tid, &tid, 4);
    }
    pthread_mutex_lock(&b->lock);
    b->answer = e ? e : t->tid;
    pthread_cond_signal(&b->said);
    pthread_mutex_unlock(&b->lock); // b is gone from here on
    if (e) return NULL;             // the parent frees
    thread_set_sigmask(t, t->sigmask);
    if (atomic_load(&t->p->exiting)) v->stop = true;
    Watches *watches = v->m->watches;
    bool seen = watches && observe_thread_start(watches, v->state, (uint32_t)t->tid);
    if (watches && !seen) {
        v->stop_code = err_set(&v->m->err, -ENOMEM, "tools: out of memory");
        v->stop = true;
    }
    vcpu_run(v, -1);
    if (seen) observe_thread_end(watches, v->state);
    if (v->stop_code < 0) { // not the thread that linux_run reports of
        log_printf(&v->m->log, "dragoman: %s\n", v->m->err.text);
        process_exit(v, 127, SIGABRT);
    }
    signals_close_host_mask();
    thread_end(t);
    return NULL;
}

int64_t thread_start(Vcpu *v, const CloneArgs *c) {
    LinuxProcess *p = process_of(v);
    Vcpu *child = vcpu_new(v->m, v->state);
    LinuxThread *t = child ? thread_new(p, child, false) : NULL;
    if (!t) {
        vcpu_free(child);
        return -ENOMEM;
    }
    t->sigmask = thread_of(v)->sigmask;
    t->seccomp = thread_of(v)->seccomp;
    t->seccomp_mode = thread_of(v)->seccomp_mode;
    if (c->flags & CLONE_CHILD_CLEARTID) t->clear_child_tid = c->child_tid;
    thread_child_regs(child, c);
    Birth b = {.t = t, .c = c};
    pthread_mutex_init(&b.lock, NULL);
    pthread_cond_init(&b.said, NULL);
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, THREAD_HOST_STACK_BYTES);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    uint64_t mask = signals_close_host_mask();
    pthread_t host;
    int e = pthread_create(&host, &attr, thread_main, &b);
    pthread_attr_destroy(&attr);
    pthread_mutex_lock(&b.lock);
    while (!e && !b.answer) pthread_cond_wait(&b.said, &b.lock);
    pthread_mutex_unlock(&b.lock);
    signals_restore_host_mask(mask);
    pthread_cond_destroy(&b.said);
    pthread_mutex_destroy(&b.lock);
    if (e || b.answer < 0) {
        thread_free(t);
        vcpu_free(child);
        return -EAGAIN;
    }
    return b.answer;
}

// ---- small things ----

int64_t sys_set_tid_address(Vcpu *v, const uint64_t a[6]) {
    thread_of(v)->clear_child_tid = a[0];
    return thread_of(v)->tid;
}

int64_t sys_set_robust_list(Vcpu *v, const uint64_t a[6]) {
    if (a[1] != 24) return -EINVAL;
    // the host's kernel walks it when we are killed or exec; an orderly end is process_end_thread()
    if (syscall(SYS_set_robust_list, space_base(v->m->as) + a[0], a[1])) return -errno;
    thread_of(v)->robust_list = a[0];
    thread_of(v)->robust_bytes = a[1];
    return 0;
}

int64_t sys_get_robust_list(Vcpu *v, const uint64_t a[6]) {
    LinuxProcess *p = process_of(v);
    uint64_t list = 0, bytes = 24;
    bool found = false;
    pthread_mutex_lock(&p->thread_lock);
    for (LinuxThread *t = p->threads; t; t = t->next)
        if (a[0] ? t->tid == (pid_t)a[0] : t->v == v) {
            list = t->robust_list;
            found = true;
        }
    pthread_mutex_unlock(&p->thread_lock);
    if (!found) return -ESRCH;
    return guest_write(v, a[2], &bytes, 8) && guest_write(v, a[1], &list, 8) ? 0 : -EFAULT;
}

static int64_t host_prctl(const uint64_t a[6]) {
    int r = prctl((int)a[0], a[1], a[2], a[3], a[4]);
    return r < 0 ? -errno : r;
}

// Those whose meaning is the same for us as for the guest go to the host.
int64_t sys_prctl(Vcpu *v, const uint64_t a[6]) {
    char name[16] = {0};
    int value;
    bool fake = process_of(v)->fake;
    switch ((int)a[0]) {
    case PR_CAPBSET_READ:
        if (fake) return a[1] <= CAP_LAST_CAP ? 1 : -EINVAL;
        return host_prctl(a);
    case PR_CAPBSET_DROP:
    case PR_SET_SECUREBITS: return fake ? 0 : host_prctl(a);
    case PR_GET_SECCOMP:
    case PR_SET_SECCOMP: return seccomp_prctl(v, a);
    case PR_SET_VMA: return space_check_owned(v->m->as, a[2], a[3]) ? -ENOMEM : host_prctl(a);
    case PR_SET_NAME:
        if (guest_string(v, a[1], name, sizeof name) == -EFAULT) return -EFAULT;
        name[sizeof name - 1] = 0;
        return prctl(PR_SET_NAME, name) ? -errno : 0;
    case PR_GET_NAME:
        if (prctl(PR_GET_NAME, name)) return -errno;
        return guest_write(v, a[1], name, sizeof name) ? 0 : -EFAULT;
    case PR_GET_PDEATHSIG:
    case PR_GET_CHILD_SUBREAPER:
        if (prctl((int)a[0], &value)) return -errno;
        return guest_write(v, a[1], &value, sizeof value) ? 0 : -EFAULT;
    case PR_GET_TID_ADDRESS:
        return guest_write(v, a[1], &thread_of(v)->clear_child_tid, 8) ? 0 : -EFAULT;
    case PR_SET_PDEATHSIG:
    case PR_GET_DUMPABLE:
    case PR_SET_DUMPABLE:
    case PR_GET_KEEPCAPS:
    case PR_SET_KEEPCAPS:
    case PR_GET_SECUREBITS:
    case PR_CAP_AMBIENT:
    case PR_GET_TIMERSLACK:
    case PR_SET_TIMERSLACK:
    case PR_SET_CHILD_SUBREAPER:
    case PR_SET_NO_NEW_PRIVS:
    case PR_GET_NO_NEW_PRIVS:
    case PR_GET_THP_DISABLE:
    case PR_SET_THP_DISABLE:
    case PR_GET_TIMING:
    case PR_SET_TIMING:
    case PR_MCE_KILL:
    case PR_MCE_KILL_GET:
    case PR_TASK_PERF_EVENTS_DISABLE:
    case PR_TASK_PERF_EVENTS_ENABLE:
    case PR_GET_SPECULATION_CTRL:
    case PR_SET_SPECULATION_CTRL:
    case PR_GET_IO_FLUSHER:
    case PR_SET_IO_FLUSHER:
    case PR_SET_PTRACER: return host_prctl(a);
    default: return -EINVAL; // also what kernels without the feature say
    }
}
