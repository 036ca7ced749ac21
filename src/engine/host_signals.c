// host_signals.c - the one file with process-wide state: what the host OS itself makes
// process-wide.
//
// Fault signals are always ours while any thread runs a vCPU. A fault in translated code or in a
// helper becomes the guest's (engine_handle_fault); one in host_copy() makes that return false; any
// other is a bug of ours or the embedding program's, so what was installed before gets it. Signals
// that somebody *sent* go to the HostSignalFn of the thread's vCPU.
//
// `shared` is changed under its lock only; handlers read `previous` of signals whose handler is
// installed. `current` is per thread.
#include "engine/host_signals.h"

#include <cpuid.h>
#include <dlfcn.h>
#include <errno.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

enum { N_SIGNALS = 65, ALT_STACK_BYTES = 64 << 10 };
static const int fault_signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP};

typedef struct KernelAction { // the host kernel's own struct; libc refuses signals 32 and 33
    void (*handler)(int, siginfo_t *, void *);
    unsigned long flags;
    void (*restorer)(void);
    uint64_t mask;
} KernelAction;

static struct {
    pthread_mutex_t lock;
    unsigned users; // threads inside enter/leave
    bool changed[N_SIGNALS];
    KernelAction previous[N_SIGNALS];
} shared = {.lock = PTHREAD_MUTEX_INITIALIZER};

static _Thread_local struct {
    Vcpu *v;
    HostSignalFn fn;
    void *alt_stack;
    stack_t previous_stack;
    sigjmp_buf *copying;
} current __attribute__((tls_model("initial-exec")));

// ---- the race-free system call ----

#ifndef __x86_64__
#error "host_syscall() needs this host's own lines"
#endif
extern const char host_syscall_check[] __attribute__((visibility("hidden")));
extern const char host_syscall_insn[] __attribute__((visibility("hidden")));
extern const char host_syscall_stopped[] __attribute__((visibility("hidden")));
extern const char host_syscall_not_begun[] __attribute__((visibility("hidden")));
__asm__(".text\n"
        ".globl host_syscall, host_syscall_check, host_syscall_insn, host_syscall_stopped\n"
        ".hidden host_syscall, host_syscall_check, host_syscall_insn, host_syscall_stopped\n"
        ".globl host_syscall_not_begun\n"
        ".hidden host_syscall_not_begun\n"
        ".type host_syscall, @function\n"
        "host_syscall:\n"
        "  .cfi_startproc\n"
        "  mov %rdi, %r11\n"
        "  mov %rsi, %rax\n"
        "  mov %rdx, %r9\n"
        "  mov (%r9), %rdi\n"
        "  mov 8(%r9), %rsi\n"
        "  mov 16(%r9), %rdx\n"
        "  mov 24(%r9), %r10\n"
        "  mov 32(%r9), %r8\n"
        "  mov 40(%r9), %r9\n"
        "  xor %ecx, %ecx\n" // the system call puts its return address there
        "host_syscall_check:\n"
        "  cmpb $0, (%r11)\n"
        "  jne host_syscall_not_begun\n"
        "host_syscall_insn:\n"
        "  syscall\n"
        "  ret\n"
        "host_syscall_stopped:\n"
        "  mov $-512, %rax\n"
        "  ret\n"
        "host_syscall_not_begun:\n"
        "  mov $-513, %rax\n"
        "  ret\n"
        "  .cfi_endproc\n"
        ".size host_syscall, . - host_syscall\n");

// With FRED the system call leaves rcx alone.
static bool cpu_has_fred(void) {
    unsigned a = 0, b, c, d;
    return __get_cpuid_count(7, 1, &a, &b, &c, &d) && a >> 17 & 1;
}

// A signal between the check and the system call, or at the system call instruction: there it has
// not begun, or the kernel has gone back for it to be restarted (our handlers are SA_RESTART), and
// rcx says which.
static void leave_syscall(void *ucontext) {
    greg_t *regs = ((ucontext_t *)ucontext)->uc_mcontext.gregs;
    const greg_t at = (greg_t)host_syscall_insn, behind = at + 2;
    if (regs[REG_RIP] < (greg_t)host_syscall_check || regs[REG_RIP] > at) return;
    bool begun = regs[REG_RIP] == at && (regs[REG_RCX] == behind || cpu_has_fred());
    regs[REG_RIP] = (greg_t)(begun ? host_syscall_stopped : host_syscall_not_begun);
}

// ---- handlers ----

static int kernel_action(int signo, const KernelAction *act, KernelAction *old) {
    return syscall(SYS_rt_sigaction, signo, act, old, sizeof(uint64_t)) ? -errno : 0;
}

static void on_sent(int signo, siginfo_t *si, void *ucontext) {
    int saved = errno;
    if (current.v) {
        current.fn(current.v, signo, si, ucontext);
        leave_syscall(ucontext);
    }
    errno = saved;
}

// A fault of ours, with tools attached, is most likely one of theirs: say where it was.
static void name_crash(int signo, const void *ucontext) {
    Dl_info at;
    char line[256];
    void *pc = (void *)(uintptr_t)((const ucontext_t *)ucontext)->uc_mcontext.gregs[REG_RIP];
    bool known = dladdr(pc, &at) && at.dli_fname;
    int n =
        snprintf(line, sizeof line, "dragoman: a tool crashed: %s in %s%s%s\n", sigdescr_np(signo),
                 known ? at.dli_fname : "unknown code", known && at.dli_sname ? ", function " : "",
                 known && at.dli_sname ? at.dli_sname : "");
    if (n > 0) (void)!write(2, line, MIN((size_t)n, sizeof line - 1));
}

static void on_fault(int signo, siginfo_t *si, void *ucontext) {
    int saved = errno;
    bool sent = si->si_code <= 0;
    if (!sent && current.v)
        current.v->fault.write = // bit 1 of a page fault's error code
            ((ucontext_t *)ucontext)->uc_mcontext.gregs[REG_ERR] >> 1 & 1;
    if (sent && current.v) {
        on_sent(signo, si, ucontext);
    } else if (!sent && engine_handle_fault(current.v, signo, si, ucontext)) {
    } else if (!sent && current.copying) {
        siglongjmp(*current.copying, 1);
    } else {
        if (!sent && current.v && current.v->m->watches) name_crash(signo, ucontext);
        // Not ours. A fault happens again when we return; a sent signal is sent again.
        kernel_action(signo, &shared.previous[signo], NULL);
        if (sent) raise(signo);
    }
    errno = saved;
}

bool host_try(void (*fn)(void *ctx), void *ctx) {
    sigjmp_buf back;
    if (sigsetjmp(back, 0)) {
        current.copying = NULL;
        return false;
    }
    current.copying = &back;
    __asm__ volatile("" ::: "memory");
    fn(ctx);
    __asm__ volatile("" ::: "memory");
    current.copying = NULL;
    return true;
}

bool host_copy(void *to, const void *from, size_t n) {
    sigjmp_buf back;
    if (sigsetjmp(back, 0)) {
        current.copying = NULL;
        return false;
    }
    current.copying = &back;
    __asm__ volatile("" ::: "memory");
    memcpy(to, from, n);
    __asm__ volatile("" ::: "memory");
    current.copying = NULL;
    return true;
}

static int catch_signal(int signo, bool fault, unsigned flags) {
    // libc knows the restorer that the kernel wants; signal 34 and up and the classic ones go
    // through it, and its action is copied for the two that it keeps for itself.
    struct sigaction sa = {.sa_sigaction = fault ? on_fault : on_sent,
                           .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART | (int)flags};
    if (fault)
        sa.sa_flags |= SA_NODEFER; // host_copy leaves the handler by longjmp
    else
        sigfillset(&sa.sa_mask);
    for (unsigned i = 0; i < ARRAY_LEN(fault_signals) && !fault; i++)
        sigdelset(&sa.sa_mask, fault_signals[i]);
    if (signo != 32 && signo != 33) return sigaction(signo, &sa, NULL) ? -errno : 0;
    KernelAction k;
    int e = kernel_action(SIGSEGV, NULL, &k); // ours since enter
    k.handler = on_sent;
    k.flags &= ~(unsigned long)SA_NODEFER;
    for (unsigned i = 1; i < N_SIGNALS; i++) k.mask |= 1ull << (i - 1);
    for (unsigned i = 0; i < ARRAY_LEN(fault_signals); i++)
        k.mask &= ~(1ull << (fault_signals[i] - 1));
    return e ? e : kernel_action(signo, &k, NULL);
}

static int remember(int signo) { // lock held
    if (shared.changed[signo]) return 0;
    int e = kernel_action(signo, NULL, &shared.previous[signo]);
    shared.changed[signo] = !e;
    return e;
}

int host_signals_dispose(int signo, HostDisposition how, bool no_child_stop, bool no_child_wait) {
    unsigned flags = (no_child_stop ? SA_NOCLDSTOP : 0) | (no_child_wait ? SA_NOCLDWAIT : 0);
    for (unsigned i = 0; i < ARRAY_LEN(fault_signals); i++)
        if (signo == fault_signals[i]) return 0;
    pthread_mutex_lock(&shared.lock);
    int e = remember(signo);
    if (!e && how == HOST_SIG_CATCH) {
        e = catch_signal(signo, false, flags);
    } else if (!e) {
        KernelAction k = {.handler = how == HOST_SIG_IGNORE ? (void *)SIG_IGN : (void *)SIG_DFL,
                          .flags = flags};
        e = kernel_action(signo, &k, NULL);
    }
    pthread_mutex_unlock(&shared.lock);
    return e;
}

bool host_signals_was_ignored(int signo) {
    KernelAction k = {0};
    pthread_mutex_lock(&shared.lock);
    if (shared.changed[signo])
        k = shared.previous[signo];
    else
        kernel_action(signo, NULL, &k);
    pthread_mutex_unlock(&shared.lock);
    return (void *)k.handler == (void *)SIG_IGN;
}

// ---- threads ----

int host_signals_enter(Vcpu *v, HostSignalFn fn, DgmErr *err) {
    int e = 0;
    void *stack =
        mmap(NULL, ALT_STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (stack == MAP_FAILED) return err_set(err, -ENOMEM, "signal stack: out of memory");
    pthread_mutex_lock(&shared.lock);
    if (!shared.users)
        for (unsigned i = 0; i < ARRAY_LEN(fault_signals) && !e; i++) {
            e = remember(fault_signals[i]);
            if (!e) e = catch_signal(fault_signals[i], true, 0);
        }
    if (!e) shared.users++;
    pthread_mutex_unlock(&shared.lock);
    stack_t s = {.ss_sp = stack, .ss_size = ALT_STACK_BYTES};
    if (!e && sigaltstack(&s, &current.previous_stack)) e = -errno;
    if (e) {
        munmap(stack, ALT_STACK_BYTES);
        return err_set(err, e, "signal handlers: %s", strerror(-e));
    }
    current.alt_stack = stack;
    current.fn = fn;
    current.v = v;
    return 0;
}

void host_signals_leave(Vcpu *v) {
    current.v = NULL;
    sigaltstack(&current.previous_stack, NULL);
    if (current.alt_stack) munmap(current.alt_stack, ALT_STACK_BYTES);
    current.alt_stack = NULL;
    pthread_mutex_lock(&shared.lock);
    if (!--shared.users)
        for (int s = 1; s < N_SIGNALS; s++)
            if (shared.changed[s]) {
                kernel_action(s, &shared.previous[s], NULL);
                shared.changed[s] = false;
            }
    pthread_mutex_unlock(&shared.lock);
}

void host_signals_fork_child(Vcpu *v) {
    pthread_mutex_init(&shared.lock, NULL);
    shared.users = 1;
    current.v = v;
}

void host_signals_take_over(Vcpu *v) {
    current.v = v;
}

Vcpu *host_signals_current(void) {
    return current.v;
}
