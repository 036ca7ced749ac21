// seccomp.c - the guest's seccomp: its filters are evaluated here, on the guest's own system calls;
// none of them reaches the host's kernel, whose calls Dragoman needs itself.
//
// Filters are immutable and form chains from the newest to the oldest, as in the kernel; a thread
// points at the newest. A process frees them at its end (a vfork parent those of its child). An
// exec hands the chain on in a memory file (--seccomp-fd). Not here: user notification (the flag
// gives EINVAL) and tracers; their actions give ENOSYS, as in a kernel when nobody listens.
#include "linux/syscall.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

enum { SECCOMP_FD_FROM = 870, MAX_CHAIN_INSNS = 1 << 15, FILTER_OVERHEAD_INSNS = 4 };

struct SeccompFilter {
    const struct SeccompFilter *older;
    struct SeccompFilter *made_before; // in the process, whatever thread
    uint32_t n;
    struct sock_filter insns[];
};
typedef struct SeccompFilter Filter;

// ---- programs ----

static bool valid_insn(const struct sock_filter *i, unsigned pc, unsigned n) {
    switch (i->code) {
    case BPF_LD | BPF_W | BPF_ABS: return i->k < sizeof(struct seccomp_data) && i->k % 4 == 0;
    case BPF_ALU | BPF_DIV | BPF_K: return i->k != 0;
    case BPF_ALU | BPF_LSH | BPF_K:
    case BPF_ALU | BPF_RSH | BPF_K: return i->k < 32;
    case BPF_LD | BPF_MEM:
    case BPF_LDX | BPF_MEM:
    case BPF_ST:
    case BPF_STX: return i->k < BPF_MEMWORDS;
    case BPF_JMP | BPF_JA: return i->k < n - pc - 1;
    case BPF_JMP | BPF_JEQ | BPF_K:
    case BPF_JMP | BPF_JEQ | BPF_X:
    case BPF_JMP | BPF_JGT | BPF_K:
    case BPF_JMP | BPF_JGT | BPF_X:
    case BPF_JMP | BPF_JGE | BPF_K:
    case BPF_JMP | BPF_JGE | BPF_X:
    case BPF_JMP | BPF_JSET | BPF_K:
    case BPF_JMP | BPF_JSET | BPF_X: return pc + i->jt + 1u < n && pc + i->jf + 1u < n;
    case BPF_LD | BPF_W | BPF_LEN:
    case BPF_LDX | BPF_W | BPF_LEN:
    case BPF_LD | BPF_IMM:
    case BPF_LDX | BPF_IMM:
    case BPF_RET | BPF_K:
    case BPF_RET | BPF_A:
    case BPF_MISC | BPF_TAX:
    case BPF_MISC | BPF_TXA:
    case BPF_ALU | BPF_NEG: return true;
    default: break;
    }
    unsigned op = BPF_OP(i->code);
    bool arithmetic = op == BPF_ADD || op == BPF_SUB || op == BPF_MUL || op == BPF_DIV ||
                      op == BPF_AND || op == BPF_OR || op == BPF_XOR || op == BPF_LSH ||
                      op == BPF_RSH;
    return BPF_CLASS(i->code) == BPF_ALU && arithmetic &&
           i->code == (BPF_ALU | op | BPF_SRC(i->code));
}

static bool valid(const Filter *f) {
    for (uint32_t pc = 0; pc < f->n; pc++)
        if (!valid_insn(&f->insns[pc], pc, f->n)) return false;
    return BPF_CLASS(f->insns[f->n - 1].code) == BPF_RET;
}

static uint32_t alu(unsigned op, uint32_t a, uint32_t b) {
    switch (op) {
    case BPF_ADD: return a + b;
    case BPF_SUB: return a - b;
    case BPF_MUL: return a * b;
    case BPF_DIV: return a / b; // b is not 0: see run()
    case BPF_AND: return a & b;
    case BPF_OR: return a | b;
    case BPF_XOR: return a ^ b;
    case BPF_LSH: return b < 32 ? a << b : 0;
    case BPF_RSH: return b < 32 ? a >> b : 0;
    default: return -a; // BPF_NEG
    }
}

static bool taken(unsigned op, uint32_t a, uint32_t b) {
    return op == BPF_JEQ ? a == b : op == BPF_JGT ? a > b : op == BPF_JGE ? a >= b : (a & b) != 0;
}

// What a valid program returns for this call.
static uint32_t run(const Filter *f, const struct seccomp_data *data) {
    uint32_t a = 0, x = 0, mem[BPF_MEMWORDS] = {0};
    for (const struct sock_filter *i = f->insns;; i++) {
        uint32_t b = BPF_SRC(i->code) == BPF_X ? x : i->k;
        switch (BPF_CLASS(i->code)) {
        case BPF_LD:
            if (BPF_MODE(i->code) == BPF_ABS)
                memcpy(&a, (const char *)data + i->k, sizeof a);
            else
                a = BPF_MODE(i->code) == BPF_MEM   ? mem[i->k]
                    : BPF_MODE(i->code) == BPF_LEN ? (uint32_t)sizeof *data
                                                   : i->k;
            break;
        case BPF_LDX:
            x = BPF_MODE(i->code) == BPF_MEM   ? mem[i->k]
                : BPF_MODE(i->code) == BPF_LEN ? (uint32_t)sizeof *data
                                               : i->k;
            break;
        case BPF_ST: mem[i->k] = a; break;
        case BPF_STX: mem[i->k] = x; break;
        case BPF_ALU:
            if (BPF_OP(i->code) == BPF_DIV && !b) return 0; // as BPF does
            a = alu(BPF_OP(i->code), a, b);
            break;
        case BPF_JMP:
            i += BPF_OP(i->code) == BPF_JA ? i->k : taken(BPF_OP(i->code), a, b) ? i->jt : i->jf;
            break;
        case BPF_RET: return BPF_RVAL(i->code) == BPF_A ? a : i->k;
        default: // BPF_MISC
            if (BPF_MISCOP(i->code) == BPF_TAX)
                x = a;
            else
                a = x;
        }
    }
}

// ---- judging a call ----

static uint32_t arch_of(const Vcpu *v) {
    return v->m->guest->elf_machine | __AUDIT_ARCH_64BIT | __AUDIT_ARCH_LE;
}

static void trap(Vcpu *v, uint64_t nr, uint32_t data) {
    siginfo_t si = {.si_signo = SIGSYS, .si_code = 1 /* SYS_SECCOMP */, .si_errno = (int)data};
    si.si_call_addr = (void *)(uintptr_t)vcpu_reg(v, v->m->guest->pc_field);
    si.si_syscall = (int)nr;
    si.si_arch = arch_of(v);
    signals_force(v, &si);
}

static void kill_thread(Vcpu *v) {
    LinuxProcess *p = process_of(v);
    pthread_mutex_lock(&p->thread_lock);
    bool last = p->n_threads == 1;
    pthread_mutex_unlock(&p->thread_lock);
    if (last)
        process_exit(v, 0, SIGSYS);
    else
        v->stop = true;
}

bool seccomp_allows(Vcpu *v, uint64_t nr, const uint64_t a[6], int64_t *result) {
    enum { G_READ = 63, G_WRITE = 64, G_EXIT = 93, G_RT_SIGRETURN = 139 };
    LinuxThread *t = thread_of(v);
    *result = LINUX_NO_RESULT;
    if (t->seccomp_mode == SECCOMP_MODE_STRICT) {
        if (nr == G_READ || nr == G_WRITE || nr == G_EXIT || nr == G_RT_SIGRETURN) return true;
        process_exit(v, 0, SIGKILL);
        return false;
    }
    struct seccomp_data data = {.nr = (int)nr,
                                .arch = arch_of(v),
                                .instruction_pointer = vcpu_reg(v, v->m->guest->pc_field)};
    memcpy(data.args, a, sizeof data.args);
    uint32_t verdict = SECCOMP_RET_ALLOW;
    for (const Filter *f = __atomic_load_n(&t->seccomp, __ATOMIC_ACQUIRE); f; f = f->older) {
        uint32_t r = run(f, &data);
        // the most severe wins, the newest among equals
        if ((int32_t)(r & SECCOMP_RET_ACTION_FULL) < (int32_t)(verdict & SECCOMP_RET_ACTION_FULL))
            verdict = r;
    }
    uint32_t value = verdict & SECCOMP_RET_DATA;
    switch (verdict & SECCOMP_RET_ACTION_FULL) {
    case SECCOMP_RET_ALLOW:
    case SECCOMP_RET_LOG: return true;
    case SECCOMP_RET_ERRNO: *result = -(int64_t)MIN(value, 4095u); return false;
    case SECCOMP_RET_TRAP: trap(v, nr, value); return false;
    case SECCOMP_RET_TRACE:
    case SECCOMP_RET_USER_NOTIF: *result = -ENOSYS; return false;
    case SECCOMP_RET_KILL_THREAD: kill_thread(v); return false;
    default: process_exit(v, 0, SIGSYS); return false;
    }
}

// ---- installing ----

static Filter *filter_new(LinuxProcess *p, uint32_t n) {
    Filter *f = malloc(sizeof *f + n * sizeof *f->insns);
    if (f) *f = (Filter){.n = n};
    return f;
}

static void keep(LinuxProcess *p, Filter *f) { // thread_lock held
    f->made_before = p->seccomp_made;
    p->seccomp_made = f;
}

void seccomp_free(LinuxProcess *p, const struct SeccompFilter *until) {
    while (p->seccomp_made && p->seccomp_made != until) {
        Filter *before = p->seccomp_made->made_before;
        free(p->seccomp_made);
        p->seccomp_made = before;
    }
}

static bool has_ancestor(const Filter *f, const Filter *wanted) {
    if (!wanted) return true;
    while (f && f != wanted) f = f->older;
    return f;
}

// A thread that cannot be brought to `now`, whose older filters are ours; 0: none. Lock held.
static pid_t unsyncable(const LinuxThread *self) {
    for (const LinuxThread *t = self->p->threads; t; t = t->next)
        if (t != self &&
            (t->seccomp_mode == SECCOMP_MODE_STRICT || !has_ancestor(self->seccomp, t->seccomp)))
            return t->tid;
    return 0;
}

static void set_filter(LinuxThread *t, const Filter *f) {
    __atomic_store_n(&t->seccomp, f, __ATOMIC_RELEASE);
    t->seccomp_mode = SECCOMP_MODE_FILTER;
}

static int64_t install(LinuxThread *t, Filter *f, uint64_t flags) {
    LinuxProcess *p = t->p;
    uint32_t total = f->n;
    for (const Filter *o = t->seccomp; o; o = o->older) total += o->n + FILTER_OVERHEAD_INSNS;
    if (total > MAX_CHAIN_INSNS) return -ENOMEM;
    int64_t r = 0;
    pthread_mutex_lock(&p->thread_lock);
    if (flags & SECCOMP_FILTER_FLAG_TSYNC) {
        pid_t other = unsyncable(t);
        if (other) r = flags & SECCOMP_FILTER_FLAG_TSYNC_ESRCH ? -ESRCH : other;
    }
    if (!r) {
        f->older = t->seccomp;
        keep(p, f);
        for (LinuxThread *o = p->threads; o; o = o->next)
            if (o == t || flags & SECCOMP_FILTER_FLAG_TSYNC) set_filter(o, f);
    }
    pthread_mutex_unlock(&p->thread_lock);
    return r;
}

static int64_t set_mode_filter(Vcpu *v, uint64_t flags, uint64_t at) {
    const uint64_t known = SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_LOG |
                           SECCOMP_FILTER_FLAG_SPEC_ALLOW | SECCOMP_FILTER_FLAG_TSYNC_ESRCH;
    LinuxThread *t = thread_of(v);
    struct {
        uint16_t n;
        uint64_t insns;
    } prog;
    if (flags & ~known || t->seccomp_mode == SECCOMP_MODE_STRICT) return -EINVAL;
    if (!guest_read(v, at, &prog, sizeof prog)) return -EFAULT;
    if (!prog.n || prog.n > BPF_MAXINSNS) return -EINVAL;
    bool root = t->p->fake || !geteuid();
    if (!root && prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1) return -EACCES;
    Filter *f = filter_new(t->p, prog.n);
    if (!f) return -ENOMEM;
    int64_t r = !guest_read(v, prog.insns, f->insns, prog.n * sizeof *f->insns) ? -EFAULT
                : !valid(f)                                                     ? -EINVAL
                                                                                : 0;
    if (!r) r = install(t, f, flags);
    if (r) free(f);
    return r;
}

static int64_t set_mode_strict(LinuxThread *t) {
    if (t->seccomp_mode == SECCOMP_MODE_FILTER) return -EINVAL;
    t->seccomp_mode = SECCOMP_MODE_STRICT;
    return 0;
}

int64_t seccomp_prctl(Vcpu *v, const uint64_t a[6]) {
    if ((int)a[0] == PR_GET_SECCOMP) return thread_of(v)->seccomp_mode;
    if (a[1] == SECCOMP_MODE_STRICT) return set_mode_strict(thread_of(v));
    return a[1] == SECCOMP_MODE_FILTER ? set_mode_filter(v, 0, a[2]) : -EINVAL;
}

int64_t sys_seccomp(Vcpu *v, const uint64_t a[6]) {
    struct seccomp_notif_sizes sizes = {sizeof(struct seccomp_notif),
                                        sizeof(struct seccomp_notif_resp),
                                        sizeof(struct seccomp_data)};
    uint32_t action;
    switch ((unsigned)a[0]) {
    case SECCOMP_SET_MODE_STRICT: return a[1] || a[2] ? -EINVAL : set_mode_strict(thread_of(v));
    case SECCOMP_SET_MODE_FILTER: return set_mode_filter(v, a[1], a[2]);
    case SECCOMP_GET_ACTION_AVAIL:
        if (a[1]) return -EINVAL;
        if (!guest_read(v, a[2], &action, sizeof action)) return -EFAULT;
        return action == SECCOMP_RET_ALLOW || action == SECCOMP_RET_LOG ||
                       action == SECCOMP_RET_ERRNO || action == SECCOMP_RET_TRAP ||
                       action == SECCOMP_RET_KILL_THREAD || action == SECCOMP_RET_KILL_PROCESS
                   ? 0
                   : -EOPNOTSUPP;
    case SECCOMP_GET_NOTIF_SIZES:
        if (a[1]) return -EINVAL;
        return guest_write(v, a[2], &sizes, sizeof sizes) ? 0 : -EFAULT;
    default: return -EINVAL;
    }
}

// ---- across exec ----

static bool write_chain(int fd, const Filter *f) { // the oldest first
    if (!f) return true;
    size_t bytes = f->n * sizeof *f->insns;
    return write_chain(fd, f->older) && write(fd, &f->n, sizeof f->n) == sizeof f->n &&
           write(fd, f->insns, bytes) == (ssize_t)bytes;
}

int seccomp_hand_on(const LinuxThread *t) {
    int low = memfd_create("seccomp", MFD_CLOEXEC);
    if (low < 0) return -errno;
    int fd = write_chain(low, t->seccomp) && !lseek(low, 0, SEEK_SET)
                 ? fd_out_of_the_way(low, SECCOMP_FD_FROM)
                 : -1;
    close(low);
    return fd < 0 ? -ENOMEM : fd;
}

int seccomp_take_over(LinuxThread *t, int fd) {
    uint32_t n;
    while (read(fd, &n, sizeof n) == sizeof n) {
        if (!n || n > BPF_MAXINSNS) return -EINVAL;
        Filter *f = filter_new(t->p, n);
        size_t bytes = n * sizeof *f->insns;
        if (!f) return -ENOMEM;
        if (read(fd, f->insns, bytes) != (ssize_t)bytes || !valid(f)) {
            free(f);
            return -EINVAL;
        }
        f->older = t->seccomp;
        keep(t->p, f);
        set_filter(t, f);
    }
    return close(fd) ? -errno : 0;
}
