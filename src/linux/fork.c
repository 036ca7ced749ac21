// fork.c - new processes: fork, vfork, clone and clone3 in all their flags.
//
// Three ways. fork(): a fork of ours; the child is left with the calling thread only, goes on in
// the same linux_run() (or thread) and leaves by _exit, never through the embedding program.
// CLONE_VM | CLONE_VFORK (vfork, posix_spawn): the kernel's own, so parent and child share memory
// and the parent's thread sleeps until the child execs or ends; the child runs on a host stack, a
// vCPU, a LinuxThread and a LinuxProcess of its own (signal actions are not shared), on the
// thread-local memory of the thread that sleeps. What it allocates, the parent frees. Other flags
// (namespaces, CLONE_FILES, CLONE_PARENT, another signal than SIGCHLD, chosen numbers): the
// kernel's clone without CLONE_VM, which leaves the C library's locks as other threads hold them
// and is therefore only for a process with a single thread.
//
// Not to be had: CLONE_VM alone (a second process that runs at the same time in our memory), and
// threads without CLONE_FS or CLONE_FILES. Both are EINVAL.
#include "linux/fake_root.h"
#include "linux/syscall.h"

#include "engine/host_signals.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifdef __has_feature
#if __has_feature(address_sanitizer)
#define DGM_ASAN
#endif
#endif
#ifdef __SANITIZE_ADDRESS__
#define DGM_ASAN
#endif
#ifdef DGM_ASAN
#include <sanitizer/asan_interface.h>
#endif

enum { CLONE_ARGS_MIN_BYTES = 64 };
#define CLONE_CLEAR_SIGHAND_ 0x100000000ull
#define CLONE_INTO_CGROUP_   0x200000000ull

// What all three have in common in the child.
static void child_thread(LinuxThread *t, const CloneArgs *c) {
    t->tid = gettid();
    t->host = pthread_self();
    t->is_main = true;
    t->has_caught = 0; // pending signals are the parent's
    t->soft_pending = 0;
    t->restart = 0;
    t->clear_child_tid = c->flags & CLONE_CHILD_CLEARTID ? c->child_tid : 0;
    t->robust_list = 0;
    uint32_t tid = (uint32_t)t->tid;
    if (c->flags & CLONE_CHILD_SETTID) guest_write(t->v, c->child_tid, &tid, 4);
    thread_child_regs(t->v, c);
    if (c->flags & CLONE_CLEAR_SIGHAND_) signals_clear_handlers(t->p);
}

static void child_process(LinuxProcess *p, LinuxThread *t) {
    pthread_mutex_init(&p->thread_lock, NULL);
    pthread_mutex_init(&p->signal_lock, NULL);
    pthread_cond_init(&p->thread_gone, NULL);
    p->threads = t;
    t->next = NULL;
    p->n_threads = 1;
    p->forked = true;
    p->exit_decided = false;
    p->exiting = false;
    p->exit_status = p->exit_signal = 0;
}

// ---- fork, and the kernel's clone without shared memory ----

static void fork_child(LinuxThread *t, const CloneArgs *c) {
    LinuxProcess *p = t->p;
    machine_fork_child(p->m, t->v);
    space_fork_child(p->m->as);
    host_signals_fork_child(t->v);
    child_process(p, t);
    p->vforked = false; // its memory is its own
    child_thread(t, c);
    if (p->m->watches) observe_forked(p->m->watches, t->v->state, (uint32_t)t->tid);
}

// The kernel's clone with the flags that fork() has no word for. Like fork() it keeps the C
// library's idea of the thread's number right.
static long raw_clone(const CloneArgs *c, int *pidfd) {
    CloneArgs k = {.flags = c->flags & ~(uint64_t)(CLONE_SETTLS | CLONE_PARENT_SETTID |
                                                   CLONE_CLEAR_SIGHAND_ | CLONE_VM),
                   .exit_signal = c->exit_signal,
                   .pidfd = (uint64_t)(uintptr_t)pidfd,
                   .set_tid = c->set_tid,
                   .set_tid_n = c->set_tid_n,
                   .cgroup = c->cgroup};
    uint64_t libc_tid = 0;
    k.flags &= ~(uint64_t)(CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID);
    if (!prctl(PR_GET_TID_ADDRESS, &libc_tid) && libc_tid) {
        k.flags |= CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID;
        k.child_tid = libc_tid;
    }
    if (!k.set_tid_n && !(k.flags >> 32) && !(k.flags & CSIGNAL))
        return syscall(SYS_clone, k.flags | k.exit_signal, 0, pidfd, k.child_tid, 0);
    return syscall(SYS_clone3, &k, sizeof k);
}

static int64_t fork_process(Vcpu *v, const CloneArgs *c, bool raw) {
    LinuxThread *t = thread_of(v);
    LinuxProcess *p = t->p;
    int pidfd = -1;
    uint64_t mask = signals_close_host_mask();
    pthread_mutex_lock(&p->signal_lock);
    pthread_mutex_lock(&p->thread_lock);
    space_fork_prepare(p->m->as);
    machine_fork_prepare(p->m);
    long pid = raw ? raw_clone(c, &pidfd) : fork();
    if (!pid) {
        fork_child(t, c);
        thread_set_sigmask(t, t->sigmask);
        return 0;
    }
    int e = errno;
    machine_fork_parent(p->m);
    space_fork_parent(p->m->as);
    pthread_mutex_unlock(&p->thread_lock);
    pthread_mutex_unlock(&p->signal_lock);
    if (pid > 0) {
        uint32_t tid = (uint32_t)pid;
        if (c->flags & CLONE_PARENT_SETTID) guest_write(v, c->parent_tid, &tid, 4);
        if (c->flags & CLONE_PIDFD) {
            if (!raw) pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
            guest_write(v, c->pidfd, &pidfd, sizeof pidfd);
        }
    }
    signals_restore_host_mask(mask);
    return pid > 0 ? pid : -e;
}

// ---- vfork ----

typedef struct Vfork { // on the sleeping parent's stack
    LinuxThread *t;
    const CloneArgs *c;
} Vfork;

static int vfork_main(void *arg) {
    const Vfork *f = arg;
    LinuxThread *t = f->t;
    Vcpu *v = t->v;
    host_signals_take_over(v);
    child_thread(t, f->c);
    uint32_t tid = (uint32_t)t->tid;
    if (f->c->flags & CLONE_PARENT_SETTID) guest_write(v, f->c->parent_tid, &tid, 4);
    thread_set_sigmask(t, t->sigmask);
    if (v->m->watches) observe_thread_start(v->m->watches, v->state, tid); // one more of our parent
    vcpu_run(v, -1);
    if (v->stop_code < 0) {
        log_printf(&v->m->log, "dragoman: %s\n", v->m->err.text);
        process_exit(v, 127, SIGABRT);
    }
    signals_close_host_mask();
    process_end_thread(t);
    process_leave_forked(t->p);
}

// The child's LinuxProcess, LinuxThread and vCPU; NULL: out of memory.
static LinuxThread *vfork_new(LinuxThread *parent) {
    LinuxProcess *p = malloc(sizeof *p);
    Vcpu *v = vcpu_new(parent->p->m, parent->v->state);
    LinuxThread *t = calloc(1, sizeof *t);
    FakeRoot *fake = parent->p->fake ? malloc(sizeof *fake) : NULL;
    if (!p || !v || !t || (parent->p->fake && !fake)) {
        free(p);
        free(t);
        free(fake);
        vcpu_free(v);
        return NULL;
    }
    pthread_mutex_lock(&parent->p->signal_lock);
    *p = *parent->p;
    pthread_mutex_unlock(&parent->p->signal_lock);
    if (fake) *fake = *p->fake; // ids are the child's own
    p->fake = fake;
    p->vforked = true;
    v->os = t;
    *t = (LinuxThread){.v = v,
                       .p = p,
                       .sigmask = parent->sigmask,
                       .altstack = parent->altstack,
                       .seccomp = parent->seccomp,
                       .seccomp_mode = parent->seccomp_mode};
    child_process(p, t);
    return t;
}

static void vfork_free(LinuxThread *t, LinuxProcess *parent) {
    LinuxProcess *p = t->p;
    seccomp_free(p, parent->seccomp_made);
    binds_free(p, parent);
    exec_free(t);
    if (p->m->watches) observe_thread_end(p->m->watches, t->v->state);
    vcpu_free(t->v);
    free(t);
    pthread_mutex_destroy(&p->thread_lock);
    pthread_mutex_destroy(&p->signal_lock);
    pthread_cond_destroy(&p->thread_gone);
    free(p->fake);
    free(p);
}

// AddressSanitizer's marks of frames that a child's _exit or exec left behind.
static void forget_frames(void *stack) {
#ifdef DGM_ASAN
    __asan_unpoison_memory_region(stack, THREAD_HOST_STACK_BYTES);
#else
    (void)stack;
#endif
}

static int64_t vfork_process(Vcpu *v, const CloneArgs *c) {
    const uint64_t ours = CLONE_SETTLS | CLONE_PARENT_SETTID | CLONE_CHILD_SETTID |
                          CLONE_CHILD_CLEARTID | CLONE_CLEAR_SIGHAND_;
    if (c->set_tid_n || (c->flags & ~ours) >> 32 || c->flags & CSIGNAL) return -EINVAL;
    uint64_t mask = signals_close_host_mask();
    Vfork f = {.t = vfork_new(thread_of(v)), .c = c};
    char *stack = mmap(NULL, THREAD_HOST_STACK_BYTES, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    int pidfd = -1, pid = -1, e = ENOMEM;
    if (f.t && stack != MAP_FAILED) {
        forget_frames(stack);
        hot_hold(v->m, true);
        pid = clone(vfork_main, stack + THREAD_HOST_STACK_BYTES,
                    (int)((c->flags & ~ours) | c->exit_signal), &f, &pidfd);
        e = errno;
        hot_hold(v->m, false);
        host_signals_take_over(v);
    }
    if (f.t) vfork_free(f.t, process_of(v));
    if (stack != MAP_FAILED) forget_frames(stack);
    if (stack != MAP_FAILED) munmap(stack, THREAD_HOST_STACK_BYTES);
    if (pid > 0 && c->flags & CLONE_PIDFD) guest_write(v, c->pidfd, &pidfd, sizeof pidfd);
    signals_restore_host_mask(mask);
    return pid > 0 ? pid : -e;
}

// ---- the calls ----

// No other thread in the process, neither of the guest nor of the host; one that has just ended is
// waited for.
static bool alone(LinuxProcess *p) {
    enum { TRIES = 300, TRY_US = 1000, LINKS_OF_ONE = 3 };
    unsigned live = 0;
    struct stat st;
    pthread_mutex_lock(&p->thread_lock);
    for (const LinuxThread *t = p->threads; t; t = t->next) live += !t->ending;
    pthread_mutex_unlock(&p->thread_lock);
    for (unsigned i = 0; live == 1 && i < TRIES; i++) {
        if (stat("/proc/self/task", &st)) return false;
        if (st.st_nlink == LINKS_OF_ONE) return true;
        usleep(TRY_US);
    }
    return false;
}

static int64_t do_clone(Vcpu *v, const CloneArgs *c) {
    const uint64_t shared = CLONE_VM | CLONE_SIGHAND | CLONE_THREAD,
                   simple = CLONE_SETTLS | CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID |
                            CLONE_CHILD_SETTID | CLONE_DETACHED | CLONE_IO | CLONE_UNTRACED |
                            CLONE_CLEAR_SIGHAND_;
    LinuxProcess *p = process_of(v);
    if ((c->flags & (CLONE_SIGHAND | CLONE_CLEAR_SIGHAND_)) ==
        (CLONE_SIGHAND | CLONE_CLEAR_SIGHAND_))
        return -EINVAL;
    if (c->flags & CLONE_THREAD) {
        if ((c->flags & shared) != shared || p->vforked || c->set_tid_n) return -EINVAL;
        // threads of one process share files and cwd in the host
        if ((c->flags & (CLONE_FS | CLONE_FILES)) != (CLONE_FS | CLONE_FILES) ||
            (c->flags & ~(shared | simple | CLONE_FS | CLONE_FILES | CLONE_SYSVSEM)))
            return -EINVAL;
        return thread_start(v, c);
    }
    if (c->flags & CLONE_SIGHAND) return -EINVAL;
    if (c->flags & CLONE_VM) return c->flags & CLONE_VFORK ? vfork_process(v, c) : -EINVAL;
    if (!(c->flags & ~(simple | CLONE_PIDFD)) && c->exit_signal == SIGCHLD && !c->set_tid_n)
        return fork_process(v, c, false);
    hot_stop(p->m);
    return alone(p) ? fork_process(v, c, true) : -EINVAL;
}

// arm64, riscv: flags, stack, parent_tid, tls, child_tid.
int64_t sys_clone(Vcpu *v, const uint64_t a[6]) {
    CloneArgs c = {.flags = a[0] & 0xffffffff & ~(uint64_t)CSIGNAL,
                   .exit_signal = a[0] & CSIGNAL,
                   .stack = a[1],
                   .parent_tid = a[2],
                   .pidfd = a[2],
                   .tls = a[3],
                   .child_tid = a[4]};
    if (c.exit_signal > LINUX_NSIG) return -EINVAL;
    return do_clone(v, &c);
}

int64_t sys_clone3(Vcpu *v, const uint64_t a[6]) {
    CloneArgs c = {0};
    uint8_t rest[256];
    if (a[1] < CLONE_ARGS_MIN_BYTES) return -EINVAL;
    if (a[1] > SPACE_PAGE) return -E2BIG;
    if (!guest_read(v, a[0], &c, MIN(a[1], sizeof c))) return -EFAULT;
    for (uint64_t at = sizeof c; at < a[1];) { // fields of later kernels must be zero
        size_t n = MIN(a[1] - at, sizeof rest);
        if (!guest_read(v, a[0] + at, rest, n)) return -EFAULT;
        for (size_t i = 0; i < n; i++)
            if (rest[i]) return -E2BIG;
        at += n;
    }
    if (!c.stack != !c.stack_bytes || c.exit_signal > LINUX_NSIG) return -EINVAL;
    if (c.flags & (CLONE_DETACHED | (CSIGNAL & ~CLONE_NEWTIME))) return -EINVAL;
    if (c.flags & ~(0xffffffffull | CLONE_CLEAR_SIGHAND_ | CLONE_INTO_CGROUP_)) return -EINVAL;
    if (c.flags & (CLONE_THREAD | CLONE_PARENT) && c.exit_signal) return -EINVAL;
    return do_clone(v, &c);
}

// The kernel wants a process with one thread for some of these, and others are for the calling
// thread only.
int64_t sys_unshare(Vcpu *v, const uint64_t a[6]) {
    hot_stop(v->m);
    return safe_syscall(v, SYS_unshare, a[0], 0, 0, 0, 0, 0);
}

int64_t sys_setns(Vcpu *v, const uint64_t a[6]) {
    hot_stop(v->m);
    return safe_syscall(v, SYS_setns, a[0], a[1], 0, 0, 0, 0);
}
