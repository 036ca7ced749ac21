// syscall.c - the guest's system calls: one table (syscalls.def), one way in.
//
// A call is looked up by number, its paths are translated when there is a sysroot or rootfs, and it
// is passed to the host, handled by sys_<name>, or refused. The result goes back as Linux gives it:
// a value or -errno.
#include "linux/syscall.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/inotify.h>
#include <sys/syscall.h>

#define PASS(name)        .host_nr = SYS_##name
#define LOOK(name)        .host_nr = SYS_##name, .after = after_##name
#define EMUL(name)        .host_nr = -1, .fn = sys_##name
#define FAKE(name)        .host_nr = SYS_##name, .fn = sys_##name
#define REFUSE(name)      .host_nr = -1, .error = -ENOSYS
#define DENY(name)        .host_nr = -1, .error = -EPERM
#define UNSUPPORTED(name) .host_nr = -1, .error = -EOPNOTSUPP

static const Syscall table[] = {
#define SYSCALL(nr, name_, args_, how) [nr] = {.name = #name_, .args = args_, how(name_)},
#include "linux/syscalls.def"
#undef SYSCALL
};

const Syscall *syscall_find(uint64_t nr) {
    return nr < ARRAY_LEN(table) && table[nr].name ? &table[nr] : NULL;
}

#define PATH_KINDS "sncNwWli"

// Room for the paths of one call; two at most (renameat).
typedef struct Paths {
    char host[2][PATH_MAX];
    unsigned n;
} Paths;

static unsigned at_flags(const Syscall *s, const uint64_t a[6]) {
    const char *f = strchr(s->args, 'F');
    return f ? (unsigned)a[f - s->args] : 0;
}

// Replaces the guest's paths in a[] by the host's. 0 or -errno.
static int64_t translate_paths(Vcpu *v, const Syscall *s, uint64_t a[6], Paths *paths) {
    unsigned flags = at_flags(s, a);
    int dirfd = AT_FDCWD;
    for (unsigned i = 0; s->args[i]; i++) {
        char kind = s->args[i];
        if (kind == 'a') dirfd = (int)a[i];
        if (!strchr(PATH_KINDS, kind)) continue;
        unsigned how =
            kind == 'n' || ((kind == 'N' || kind == 'W') && (flags & AT_SYMLINK_NOFOLLOW))
                ? PATH_NOFOLLOW
                : 0;
        if (kind == 'l' && !(flags & AT_SYMLINK_FOLLOW)) how = PATH_NOFOLLOW;
        if (kind == 'i' && (a[i + 1] & IN_DONT_FOLLOW)) how = PATH_NOFOLLOW;
        if (kind == 'c') how = PATH_NOFOLLOW | PATH_CREATE;
        if (kind == 'w' || kind == 'W' || kind == 'l') how |= PATH_CREATE; // not from the sysroot
        if (flags & AT_EMPTY_PATH) how |= PATH_EMPTY;
        int64_t e = path_arg(v, dirfd, a[i], how, paths->host[paths->n], &a[i]);
        if (e < 0) return e;
        if (paths->n < 1) paths->n++;
        dirfd = AT_FDCWD;
    }
    return 0;
}

static int64_t pass_with_paths(Vcpu *v, const Syscall *s, const uint64_t a[6]) {
    uint64_t b[6];
    memcpy(b, a, sizeof b);
    Paths paths;
    paths.n = 0;
    int64_t e = translate_paths(v, s, b, &paths);
    return e < 0 ? e : safe_syscall_args(v, s->host_nr, b);
}

static int64_t pass(Vcpu *v, const Syscall *s, const uint64_t a[6]) {
    if (paths_translated(process_of(v)) && strpbrk(s->args, PATH_KINDS))
        return pass_with_paths(v, s, a);
    int64_t r = safe_syscall_args(v, s->host_nr, a);
    if (s->after) s->after(v, a, r);
    return r;
}

static int64_t refuse(Vcpu *v, const Syscall *s, uint64_t nr) {
    const Log *log = &v->m->log;
    if (log->topics & LOG_UNIMP)
        log_printf(log, "dragoman: unimplemented system call %s (%lu)\n",
                   s ? s->name : "of unknown name", nr);
    return s ? s->error : -ENOSYS;
}

static bool is_handled(Vcpu *v, const Syscall *s) {
    return s->fn && (s->host_nr < 0 || process_of(v)->fake);
}

static int64_t call(Vcpu *v, const Syscall *s, uint64_t nr, const uint64_t a[6]) {
    if (!s) return refuse(v, s, nr);
    if (is_handled(v, s)) return s->fn(v, a);
    return s->host_nr >= 0 ? pass(v, s, a) : refuse(v, s, nr);
}

static int64_t allowed_call(Vcpu *v, const Syscall *s, uint64_t nr, const uint64_t a[6]) {
    int64_t r;
    if (thread_of(v)->seccomp_mode && !seccomp_allows(v, nr, a, &r)) return r;
    return call(v, s, nr, a);
}

// The same with tools that look on, and may change arguments and result, or answer themselves.
static int64_t watched_call(Vcpu *v, const Syscall *s, uint64_t nr, uint64_t a[6]) {
    Watches *ws = v->m->watches;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    dgm_syscall call_seen = {.name = s ? s->name : NULL,
                             .number = nr,
                             .start_ns =
                                 (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec};
    memcpy(call_seen.args, a, sizeof call_seen.args);
    bool answered = observe_syscall(ws, v->state, &call_seen);
    memcpy(a, call_seen.args, sizeof call_seen.args);
    int64_t r = answered ? call_seen.result : allowed_call(v, s, nr, a);
    if (r == LINUX_NO_RESULT) return r; // it did not return
    call_seen.again = is_restart(r);
    call_seen.result = call_seen.again ? -EINTR : r;
    observe_syscall_done(ws, v->state, &call_seen);
    return call_seen.again ? r : call_seen.result;
}

// Neither looks at floating-point state nor lets others look.
static bool is_plain(Vcpu *v, const Syscall *s) {
    if (!s || is_handled(v, s) || s->host_nr < 0 || thread_of(v)->seccomp_mode) return false;
    return !v->m->watches || !v->m->watches->wants_syscalls;
}

static int64_t any_call(Vcpu *v, const Syscall *s, uint64_t nr, uint64_t a[6]) {
    vcpu_fp_sync(v);
    bool watched = v->m->watches && v->m->watches->wants_syscalls;
    int64_t r = watched ? watched_call(v, s, nr, a) : allowed_call(v, s, nr, a);
    vcpu_fp_sync(v);
    return r;
}

void linux_syscall(Vcpu *v, unsigned imm) {
    const GuestLinuxAbi *abi = abi_of(v);
    if (signals_pending(thread_of(v))) { // it came before the call, which may change what it does
        thread_restart(v, LINUX_RESTART_ALWAYS);
        return;
    }
    uint64_t nr = vcpu_reg(v, abi->syscall_nr), a[6];
    for (unsigned i = 0; i < 6; i++) a[i] = vcpu_reg(v, abi->syscall_args[i]);
    const Syscall *s = syscall_find(nr);
    int64_t r = is_plain(v, s) ? pass(v, s, a) : any_call(v, s, nr, a);
    if (r == LINUX_NO_RESULT) return;
    if (is_restart(r))
        thread_restart(v, (int)r);
    else
        vcpu_set_reg(v, abi->syscall_ret, (uint64_t)r);
}
