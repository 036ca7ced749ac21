// signal.c - the guest's signals: actions, masks, delivery, frames. process.h's head tells the
// plan; start at linux_host_signal() (a signal arrives), linux_poll() (it is delivered),
// linux_fault().
//
// Host dispositions follow the guest's, so a signal the guest ignores or leaves to its default
// never comes here: the host kernel itself stops, continues or kills. Only the faults (LINUX_KICK
// is one) are always ours; when sent to a guest that would die of them, we end it.
#include "linux/syscall.h"

#include "engine/host_signals.h"
#include "observe/observe.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

// Generic Linux (arm64, riscv): no SA_RESTORER.
#define G_SA_NOCLDSTOP 1ull
#define G_SA_NOCLDWAIT 2ull
#define G_SA_ONSTACK   0x08000000ull
#define G_SA_RESTART   0x10000000ull
#define G_SA_NODEFER   0x40000000ull
#define G_SA_RESETHAND 0x80000000ull
enum { G_SIG_DFL = 0, G_SIG_IGN = 1, G_MINSIGSTKSZ = 5120 };
#define G_SS_AUTODISARM 0x80000000u

static uint64_t bit(int signo) {
    return 1ull << (signo - 1);
}
#define UNBLOCKABLE (bit(SIGKILL) | bit(SIGSTOP))

// Never blocked in the host.
static uint64_t host_open(void) {
    return bit(SIGSEGV) | bit(SIGBUS) | bit(SIGILL) | bit(SIGFPE) | bit(SIGTRAP);
}

static void set_host_mask(uint64_t mask) {
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &mask, NULL, sizeof mask);
}

uint64_t signals_close_host_mask(void) {
    uint64_t old = 0, all = ~(1ull << (SIGSEGV - 1) | 1ull << (SIGBUS - 1));
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, &old, sizeof all);
    return old;
}
void signals_restore_host_mask(uint64_t mask) {
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &mask, NULL, sizeof mask);
}

static uint64_t soft_ready(const LinuxThread *t) {
    return t->soft_pending & ~t->sigmask;
}

bool signals_pending(LinuxThread *t) {
    return t->has_caught || soft_ready(t);
}

void thread_set_sigmask(LinuxThread *t, uint64_t mask) {
    t->sigmask = mask & ~UNBLOCKABLE;
    if (soft_ready(t)) vcpu_interrupt(t->v);
    if (!t->has_caught) set_host_mask(t->sigmask & ~host_open());
    // else the host's mask stays closed until linux_poll() has looked at what was caught
}

// ---- a signal arrives (in the host's handler) ----

void linux_host_signal(Vcpu *v, int signo, const siginfo_t *si, void *ucontext) {
    LinuxThread *t = thread_of(v);
    bool kick = signo == LINUX_KICK && si->si_code == SI_QUEUE && si->si_value.sival_ptr == t->p;
    if (kick) {
        // only shakes the thread awake
    } else if (bit(signo) & host_open()) {
        if (!(t->soft_pending & bit(signo))) {
            t->soft_info[signo] = *si;
            t->soft_pending |= bit(signo);
        }
        if (t->sigmask & bit(signo)) return;
    } else {
        uint64_t closed = ~host_open();
        t->caught = *si;
        t->has_caught = 1;
        memcpy(&((ucontext_t *)ucontext)->uc_sigmask, &closed, sizeof closed);
    }
    vcpu_interrupt(v);
}

// ---- actions ----

// What the process was started with is the host's, which is asked when somebody wants to know: 64
// system calls less in each start. Lock held.
static GuestSigaction *action_at(LinuxProcess *p, int signo) {
    if (!(p->actions_known & bit(signo)) && host_signals_was_ignored(signo))
        p->actions[signo].handler = G_SIG_IGN;
    p->actions_known |= bit(signo);
    return &p->actions[signo];
}

static GuestSigaction action_of(LinuxProcess *p, int signo) {
    pthread_mutex_lock(&p->signal_lock);
    GuestSigaction a = *action_at(p, signo);
    pthread_mutex_unlock(&p->signal_lock);
    return a;
}

static bool default_ignores(int signo) {
    return signo == SIGCHLD || signo == SIGURG || signo == SIGWINCH || signo == SIGCONT;
}
static bool default_stops(int signo) {
    return signo == SIGTSTP || signo == SIGTTIN || signo == SIGTTOU || signo == SIGSTOP;
}

// With tools, who is to die of a signal does so in our hands, so that there are results.
static void dispose(LinuxProcess *p, int signo, const GuestSigaction *a) {
    bool dies = p->m->watches && !default_ignores(signo) && !default_stops(signo);
    host_signals_dispose(signo,
                         a->handler == G_SIG_DFL   ? (dies ? HOST_SIG_CATCH : HOST_SIG_DEFAULT)
                         : a->handler == G_SIG_IGN ? HOST_SIG_IGNORE
                                                   : HOST_SIG_CATCH,
                         a->flags & G_SA_NOCLDSTOP, a->flags & G_SA_NOCLDWAIT);
}

void signals_clear_handlers(LinuxProcess *p) {
    pthread_mutex_lock(&p->signal_lock);
    for (int s = 1; s <= LINUX_NSIG; s++)
        if (p->actions[s].handler > G_SIG_IGN) {
            p->actions[s] = p->last_handled[s] = (GuestSigaction){0};
            dispose(p, s, &p->actions[s]);
        }
    pthread_mutex_unlock(&p->signal_lock);
}

uint64_t signals_start(LinuxProcess *p, LinuxThread *t) {
    for (int s = 1; s <= LINUX_NSIG && p->m->watches; s++)
        if (action_at(p, s)->handler != G_SIG_IGN && s != SIGKILL && s != SIGSTOP)
            dispose(p, s, &p->actions[s]);
    uint64_t mask = 0;
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, NULL, &mask, sizeof mask);
    thread_set_sigmask(t, mask);
    return mask;
}

void signals_end(LinuxProcess *p, LinuxThread *t, uint64_t host_mask) {
    t->has_caught = 0; // nobody is left to take it
    set_host_mask(host_mask);
}

// ---- frames ----

// struct rt_sigframe: siginfo, then ucontext, whose machine context is aligned to 16.
enum { UC = 128, UC_STACK = UC + 16, UC_SIGMASK = UC + 40, UC_MCONTEXT = UC + 176 };
enum { MAX_FRAME_BYTES = 8192, FRAME_RECORD_BYTES = 16 };

static bool on_altstack(const LinuxThread *t, uint64_t sp) {
    return t->altstack.size && sp > t->altstack.sp && sp - t->altstack.sp <= t->altstack.size;
}

static bool push_frame(LinuxThread *t, int signo, const siginfo_t *si, const GuestSigaction *a,
                       uint64_t mask) {
    Vcpu *v = t->v;
    const GuestLinuxAbi *abi = abi_of(v);
    size_t bytes = ALIGN_UP(UC_MCONTEXT + abi->mcontext_bytes, 16);
    uint8_t frame[MAX_FRAME_BYTES] __attribute__((aligned(16))) = {0};
    if (bytes > sizeof frame) return false;
    uint64_t sp = vcpu_reg(v, abi->sp);
    GuestSigaltstack old = t->altstack;
    old.flags = !old.size ? SS_DISABLE : on_altstack(t, sp) ? SS_ONSTACK : 0;
    memcpy(frame, si, MIN(sizeof *si, (size_t)UC));
    memcpy(frame + UC_STACK, &old, sizeof old);
    memcpy(frame + UC_SIGMASK, &mask, sizeof mask);
    bool fault = si->si_code > 0 && (signo == SIGSEGV || signo == SIGBUS);
    uint64_t addr = fault ? (uint64_t)(uintptr_t)si->si_addr : 0;
    uint64_t esr = fault && abi->fault_esr
                       ? abi->fault_esr(signo, si->si_code,
                                        vcpu_reg(v, v->m->guest->pc_field) == addr, v->fault.write)
                       : 0;
    abi->mcontext_save(v->state, addr, esr, frame + UC_MCONTEXT);
    if ((a->flags & G_SA_ONSTACK) && t->altstack.size && !on_altstack(t, sp))
        sp = t->altstack.sp + t->altstack.size;
    // the frame record of fp and lr, for unwinders; fp itself is the guest's (no field in the ABI)
    uint64_t record[2] = {0, vcpu_reg(v, abi->link)};
    uint64_t at_record = ALIGN_DOWN(sp - FRAME_RECORD_BYTES, 16), at = at_record - bytes;
    if (!guest_write(v, at_record, record, sizeof record) || !guest_write(v, at, frame, bytes))
        return false;
    if (t->altstack.flags & (int32_t)G_SS_AUTODISARM) t->altstack = (GuestSigaltstack){0};
    vcpu_set_reg(v, abi->sp, at);
    vcpu_set_reg(v, abi->link, t->p->sigreturn);
    vcpu_set_reg(v, abi->fn_args[0], (uint64_t)signo);
    vcpu_set_reg(v, abi->fn_args[1], at);
    vcpu_set_reg(v, abi->fn_args[2], at + UC);
    vcpu_set_reg(v, v->m->guest->pc_field, a->handler);
    return true;
}

// ---- delivery ----

void thread_restart(Vcpu *v, int how) {
    LinuxThread *t = thread_of(v);
    t->restart = how;
    t->restart_pc = vcpu_reg(v, v->m->guest->pc_field) - v->m->guest->min_insn_bytes;
    vcpu_interrupt(v);
}

// Before a handler's frame is built, or when there is none: what the interrupted call gives.
static void settle_restart(LinuxThread *t, const GuestSigaction *a) {
    int how = t->restart;
    if (!how) return;
    t->restart = 0;
    Vcpu *v = t->v;
    if (a) t->sleep_again = false;
    if (a && (how == LINUX_RESTART_NEVER || (how == LINUX_RESTART && !(a->flags & G_SA_RESTART))))
        vcpu_set_reg(v, abi_of(v)->syscall_ret, (uint64_t)-EINTR);
    else
        vcpu_set_reg(v, v->m->guest->pc_field, t->restart_pc);
}

static void die(LinuxThread *t, int signo) {
    process_exit(t->v, 0, signo);
}

static void tell_tools(Vcpu *v, const siginfo_t *si) {
    if (!v->m->watches) return;
    bool fault = si->si_code > 0 &&
                 (si->si_signo == SIGSEGV || si->si_signo == SIGBUS || si->si_signo == SIGILL ||
                  si->si_signo == SIGFPE || si->si_signo == SIGTRAP);
    bool sent = si->si_code <= 0 && si->si_code != SI_TIMER;
    dgm_signal s = {.number = si->si_signo,
                    .code = si->si_code,
                    .address = fault ? (uintptr_t)si->si_addr : 0,
                    .pid = sent ? (uint32_t)si->si_pid : 0};
    observe_signal(v->m->watches, v->state, &s);
}

// True when a handler was entered. caught: the host's handler took it, so there was a guest's
// handler then; when that has gone meanwhile it is still the one to run, as the kernel looks at
// action and queue at once.
static bool deliver(LinuxThread *t, int signo, const siginfo_t *si, bool caught) {
    LinuxProcess *p = t->p;
    pthread_mutex_lock(&p->signal_lock);
    GuestSigaction a = *action_at(p, signo);
    bool by_default = a.handler == G_SIG_DFL && p->m->watches; // caught for the tools' sake
    if (caught && !by_default && a.handler <= G_SIG_IGN &&
        p->last_handled[signo].handler > G_SIG_IGN)
        a = p->last_handled[signo];
    bool handled = a.handler > G_SIG_IGN;
    if (handled && (a.flags & G_SA_RESETHAND)) {
        p->actions[signo].handler = G_SIG_DFL;
        p->last_handled[signo].handler = G_SIG_DFL;
        dispose(p, signo, &p->actions[signo]);
    }
    pthread_mutex_unlock(&p->signal_lock);
    if (handled) settle_restart(t, &a); // so that tools see where the program goes on
    tell_tools(t->v, si);
    if (!handled) {
        if (a.handler == G_SIG_IGN || default_ignores(signo)) return false;
        if (default_stops(signo))
            kill(getpid(), SIGSTOP);
        else
            die(t, signo);
        return false;
    }
    uint64_t mask = t->has_saved_sigmask ? t->saved_sigmask : t->sigmask;
    t->has_saved_sigmask = false;
    if (!push_frame(t, signo, si, &a, mask)) {
        die(t, SIGSEGV);
        return false;
    }
    t->sigmask = (t->sigmask | a.mask | (a.flags & G_SA_NODEFER ? 0 : bit(signo))) & ~UNBLOCKABLE;
    return true;
}

// A signal for the whole process may be another thread's.
static void give_back(LinuxThread *t, siginfo_t *si) {
    if (si->si_code == SI_TKILL)
        syscall(SYS_rt_tgsigqueueinfo, getpid(), t->tid, si->si_signo, si);
    else
        syscall(SYS_rt_sigqueueinfo, getpid(), si->si_signo, si);
}

void linux_poll(Vcpu *v) {
    LinuxThread *t = thread_of(v);
    if (atomic_load(&t->p->exiting)) {
        v->stop = true;
        return;
    }
    uint64_t ready = soft_ready(t);
    if (ready) {
        int signo = __builtin_ctzll(ready) + 1;
        siginfo_t si = t->soft_info[signo];
        __atomic_fetch_and(&t->soft_pending, ~bit(signo), __ATOMIC_SEQ_CST);
        deliver(t, signo, &si, false);
        if (soft_ready(t) || t->has_caught) vcpu_interrupt(v);
    } else if (t->has_caught) {
        siginfo_t si = t->caught;
        int signo = si.si_signo;
        t->has_caught = 0;           // the host's mask is closed: nothing comes in between
        if (t->sigmask & bit(signo)) // blocked meanwhile: back to the kernel
            give_back(t, &si);
        else
            deliver(t, signo, &si, true);
    }
    if (atomic_load(&t->p->exiting)) {
        v->stop = true;
        return;
    }
    settle_restart(t, NULL);
    if (t->has_saved_sigmask) {
        t->has_saved_sigmask = false;
        t->sigmask = t->saved_sigmask;
    }
    thread_set_sigmask(t, t->sigmask);
}

void signals_force(Vcpu *v, const siginfo_t *si) {
    LinuxThread *t = thread_of(v);
    int signo = si->si_signo;
    GuestSigaction a = action_of(t->p, signo);
    if (a.handler <= G_SIG_IGN || (t->sigmask & bit(signo))) {
        tell_tools(v, si);
        die(t, signo);
        return;
    }
    if (deliver(t, signo, si, false)) thread_set_sigmask(t, t->sigmask);
}

void linux_fault(Vcpu *v, int signo, int si_code, uint64_t addr) {
    siginfo_t si = {.si_signo = signo, .si_code = si_code};
    struct rlimit stack;
    if (signo == SIGSEGV && !getrlimit(RLIMIT_STACK, &stack) &&
        space_grow_stack(v->m->as, addr, stack.rlim_cur))
        return; // the instruction is done again
    si.si_addr = (void *)(uintptr_t)addr;
    // the host says MAPERR or KERNEL for what is not the guest's; the guest's own map decides
    if (signo == SIGSEGV) si.si_code = space_si_code(v->m->as, addr);
    if (log_on(&v->m->log, LOG_SIGNAL, addr))
        log_printf(&v->m->log, "dragoman: signal %d code %d at pc %#lx, address %#lx\n", signo,
                   si.si_code, vcpu_reg(v, v->m->guest->pc_field), addr);
    signals_force(v, &si);
}

// ---- temporary masks: ppoll, pselect6, epoll_pwait, rt_sigsuspend ----

int64_t masked_syscall(Vcpu *v, long nr, const uint64_t a[6], uint64_t mask_at,
                       uint64_t mask_bytes) {
    LinuxThread *t = thread_of(v);
    uint64_t mask;
    if (!mask_at) return safe_syscall(v, nr, a[0], a[1], a[2], a[3], a[4], a[5]);
    if (mask_bytes != sizeof mask) return -EINVAL;
    if (!guest_read(v, mask_at, &mask, sizeof mask)) return -EFAULT;
    t->saved_sigmask = t->sigmask;
    thread_set_sigmask(t, mask);
    int64_t r = safe_syscall(v, nr, a[0], a[1], a[2], a[3], a[4], a[5]);
    if (is_restart(r) && signals_pending(t)) {
        t->has_saved_sigmask = true; // the frame takes it, or linux_poll() restores it
        // also when the signal came between the mask and the call: that must not be slept through
        return LINUX_RESTART_NEVER;
    }
    thread_set_sigmask(t, t->saved_sigmask);
    return r;
}

// ---- system calls ----

int64_t sys_rt_sigaction(Vcpu *v, const uint64_t a[6]) {
    LinuxProcess *p = process_of(v);
    int signo = (int)a[0];
    GuestSigaction act;
    if (a[3] != 8) return -EINVAL;
    if (a[1] && !guest_read(v, a[1], &act, sizeof act)) return -EFAULT;
    if (signo < 1 || signo > LINUX_NSIG) return -EINVAL;
    if (a[1] && (bit(signo) & UNBLOCKABLE)) return -EINVAL;
    LinuxThread *t = thread_of(v);
    bool handler_goes = a[1] && act.handler <= G_SIG_IGN;
    if (handler_goes) { // what came before is the handler's
        signals_close_host_mask();
        if (signals_pending(t)) return LINUX_RESTART_ALWAYS;
    }
    pthread_mutex_lock(&p->signal_lock);
    GuestSigaction old = *action_at(p, signo);
    if (a[1]) {
        act.mask &= ~UNBLOCKABLE;
        p->actions[signo] = act;
        if (!handler_goes) p->last_handled[signo] = act;
        dispose(p, signo, &act);
    }
    pthread_mutex_unlock(&p->signal_lock);
    if (handler_goes) thread_set_sigmask(t, t->sigmask);
    return a[2] && !guest_write(v, a[2], &old, sizeof old) ? -EFAULT : 0;
}

int64_t sys_rt_sigprocmask(Vcpu *v, const uint64_t a[6]) {
    LinuxThread *t = thread_of(v);
    uint64_t old = t->sigmask, set;
    if (a[3] != 8) return -EINVAL;
    if (a[1]) {
        if (!guest_read(v, a[1], &set, sizeof set)) return -EFAULT;
        if ((int)a[0] == SIG_BLOCK)
            set |= old;
        else if ((int)a[0] == SIG_UNBLOCK)
            set = old & ~set;
        else if ((int)a[0] != SIG_SETMASK)
            return -EINVAL;
        thread_set_sigmask(t, set);
    }
    return a[2] && !guest_write(v, a[2], &old, sizeof old) ? -EFAULT : 0;
}

int64_t sys_rt_sigpending(Vcpu *v, const uint64_t a[6]) {
    LinuxThread *t = thread_of(v);
    uint64_t set = 0;
    if (a[1] > 8) return -EINVAL;
    syscall(SYS_rt_sigpending, &set, sizeof set);
    set |= t->soft_pending;
    if (t->has_caught) set |= bit(t->caught.si_signo);
    set &= t->sigmask;
    return guest_write(v, a[0], &set, a[1]) ? 0 : -EFAULT;
}

int64_t sys_rt_sigsuspend(Vcpu *v, const uint64_t a[6]) {
    if (!a[0]) return -EFAULT;
    return masked_syscall(v, SYS_ppoll, (uint64_t[6]){0}, a[0], a[1]);
}

// A signal of ours that the caller waits for: soft ones are not pending in the kernel.
int64_t sys_rt_sigtimedwait(Vcpu *v, const uint64_t a[6]) {
    LinuxThread *t = thread_of(v);
    uint64_t set;
    if (a[3] != 8) return -EINVAL;
    if (!guest_read(v, a[0], &set, sizeof set)) return -EFAULT;
    uint64_t soft = t->soft_pending & set;
    if (soft) {
        int signo = __builtin_ctzll(soft) + 1;
        siginfo_t si = t->soft_info[signo];
        __atomic_fetch_and(&t->soft_pending, ~bit(signo), __ATOMIC_SEQ_CST);
        return a[1] && !guest_write(v, a[1], &si, sizeof si) ? -EFAULT : signo;
    }
    void *info = guest_ptr(v, a[1], a[1] ? sizeof(siginfo_t) : 0, PROT_WRITE);
    struct timespec *timeout = guest_ptr(v, a[2], a[2] ? sizeof(struct timespec) : 0, PROT_READ);
    if ((a[1] && !info) || (a[2] && !timeout)) return -EFAULT;
    return safe_syscall(v, SYS_rt_sigtimedwait, (uint64_t)(uintptr_t)&set,
                        a[1] ? (uint64_t)(uintptr_t)info : 0,
                        a[2] ? (uint64_t)(uintptr_t)timeout : 0, 8, 0, 0);
}

static int64_t host_result(long r) {
    return r < 0 ? -errno : r;
}

int64_t sys_kill(Vcpu *v, const uint64_t a[6]) {
    return host_result(syscall(SYS_kill, (int)a[0], (int)a[1]));
}
int64_t sys_tkill(Vcpu *v, const uint64_t a[6]) {
    return host_result(syscall(SYS_tkill, (int)a[0], (int)a[1]));
}
int64_t sys_tgkill(Vcpu *v, const uint64_t a[6]) {
    return host_result(syscall(SYS_tgkill, (int)a[0], (int)a[1], (int)a[2]));
}
int64_t sys_rt_sigqueueinfo(Vcpu *v, const uint64_t a[6]) {
    siginfo_t si;
    if (!guest_read(v, a[2], &si, sizeof si)) return -EFAULT;
    return host_result(syscall(SYS_rt_sigqueueinfo, (int)a[0], (int)a[1], &si));
}
int64_t sys_rt_tgsigqueueinfo(Vcpu *v, const uint64_t a[6]) {
    siginfo_t si;
    if (!guest_read(v, a[3], &si, sizeof si)) return -EFAULT;
    return host_result(syscall(SYS_rt_tgsigqueueinfo, (int)a[0], (int)a[1], (int)a[2], &si));
}

int64_t sys_sigaltstack(Vcpu *v, const uint64_t a[6]) {
    LinuxThread *t = thread_of(v);
    bool on = on_altstack(t, vcpu_reg(v, abi_of(v)->sp));
    GuestSigaltstack now = t->altstack, set;
    now.flags = (now.size ? on ? SS_ONSTACK : 0 : SS_DISABLE) | (now.flags & (int)G_SS_AUTODISARM);
    if (a[0]) {
        if (!guest_read(v, a[0], &set, sizeof set)) return -EFAULT;
        if (on) return -EPERM;
        uint32_t mode = (uint32_t)set.flags & ~G_SS_AUTODISARM;
        if (mode != 0 && mode != SS_DISABLE && mode != SS_ONSTACK) return -EINVAL;
        if (mode == SS_DISABLE) {
            set = (GuestSigaltstack){0};
        } else if (set.size < G_MINSIGSTKSZ) {
            return -ENOMEM;
        }
        t->altstack = set;
    }
    return a[1] && !guest_write(v, a[1], &now, sizeof now) ? -EFAULT : 0;
}

int64_t sys_rt_sigreturn(Vcpu *v, const uint64_t a[6]) {
    LinuxThread *t = thread_of(v);
    const GuestLinuxAbi *abi = abi_of(v);
    size_t bytes = ALIGN_UP(UC_MCONTEXT + abi->mcontext_bytes, 16);
    uint8_t frame[MAX_FRAME_BYTES] __attribute__((aligned(16)));
    uint64_t mask;
    if (bytes > sizeof frame || !guest_read(v, vcpu_reg(v, abi->sp), frame, bytes) ||
        !abi->mcontext_load(v->state, frame + UC_MCONTEXT)) {
        die(t, SIGSEGV);
        return LINUX_NO_RESULT;
    }
    GuestSigaltstack stack;
    memcpy(&stack, frame + UC_STACK, sizeof stack);
    memcpy(&mask, frame + UC_SIGMASK, sizeof mask);
    if (!on_altstack(t, vcpu_reg(v, abi->sp)))
        t->altstack = stack.flags & SS_DISABLE ? (GuestSigaltstack){0} : stack;
    thread_set_sigmask(t, mask);
    return LINUX_NO_RESULT;
}
