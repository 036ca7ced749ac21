// strace.c - system calls as strace prints them, from the argument letters of syscalls.def.
#include "linux/syscall.h"

#include "observe/observe.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>

enum { MAX_STRING = 32 };

// Bytes in C syntax, cut after MAX_STRING as strace does.
static void put_bytes(Vcpu *v, Buf *b, uint64_t addr, uint64_t n) {
    char bytes[MAX_STRING];
    uint64_t shown = MIN(n, (uint64_t)MAX_STRING);
    if (!guest_read(v, addr, bytes, shown)) {
        buf_printf(b, "%#lx", addr);
        return;
    }
    buf_printf(b, "\"");
    for (uint64_t i = 0; i < shown; i++) {
        unsigned char c = (unsigned char)bytes[i];
        static const char plain[] = "\n\t\r\"\\", letter[] = "ntr\"\\";
        const char *at = c ? strchr(plain, c) : NULL;
        if (at)
            buf_printf(b, "\\%c", letter[at - plain]);
        else if (isprint(c))
            buf_printf(b, "%c", c);
        else
            buf_printf(b, i + 1 < shown && isdigit((unsigned char)bytes[i + 1]) ? "\\%03o" : "\\%o",
                       c);
    }
    buf_printf(b, n > shown ? "\"..." : "\"");
}

static void put_string(Vcpu *v, Buf *b, uint64_t addr) {
    char s[PATH_MAX];
    int64_t n = addr ? guest_string(v, addr, s, sizeof s) : -EFAULT;
    if (!addr)
        buf_printf(b, "NULL");
    else if (n < 0)
        buf_printf(b, "%#lx", addr);
    else
        buf_printf(b, "\"%s\"", s);
}

typedef struct Bit {
    uint32_t bit;
    const char *name;
} Bit;

static void put_bits(Buf *b, uint64_t value, const Bit *bits, unsigned n) {
    const char *bar = b->len && b->data[b->len - 1] != ' ' && b->data[b->len - 1] != '(' ? "|" : "";
    for (unsigned i = 0; i < n; i++)
        if ((value & bits[i].bit) == bits[i].bit) {
            buf_printf(b, "%s%s", bar, bits[i].name);
            value &= ~(uint64_t)bits[i].bit;
            bar = "|";
        }
    if (value) buf_printf(b, "%s%#lx", bar, value);
}

// The guest's bits (arm64 and generic Linux).
static const Bit open_bits[] = {
    {O_CREAT, "O_CREAT"},     {O_EXCL, "O_EXCL"},       {O_NOCTTY, "O_NOCTTY"},
    {O_TRUNC, "O_TRUNC"},     {O_APPEND, "O_APPEND"},   {O_NONBLOCK, "O_NONBLOCK"},
    {04010000, "O_SYNC"},     {O_DSYNC, "O_DSYNC"},     {020040000, "O_TMPFILE"},
    {040000, "O_DIRECTORY"},  {0100000, "O_NOFOLLOW"},  {0200000, "O_DIRECT"},
    {0400000, "O_LARGEFILE"}, {O_NOATIME, "O_NOATIME"}, {O_CLOEXEC, "O_CLOEXEC"},
    {O_PATH, "O_PATH"}};
static const Bit at_bits[] = {{AT_SYMLINK_NOFOLLOW, "AT_SYMLINK_NOFOLLOW"},
                              {AT_SYMLINK_FOLLOW, "AT_SYMLINK_FOLLOW"},
                              {AT_NO_AUTOMOUNT, "AT_NO_AUTOMOUNT"},
                              {AT_EMPTY_PATH, "AT_EMPTY_PATH"}};

static void put_open_flags(Buf *b, uint64_t flags) {
    static const char *const access[] = {"O_RDONLY", "O_WRONLY", "O_RDWR", "O_ACCMODE"};
    buf_printf(b, "%s", access[flags & O_ACCMODE]);
    if (flags & ~(uint64_t)O_ACCMODE)
        put_bits(b, flags & ~(uint64_t)O_ACCMODE, open_bits, ARRAY_LEN(open_bits));
}

static void put_arg(Vcpu *v, Buf *b, const char *kind, const uint64_t *a, int64_t result) {
    switch (*kind) {
    case 'd':
    case 'f': buf_printf(b, "%d", (int)*a); break;
    case 'a':
        if ((int)*a == AT_FDCWD)
            buf_printf(b, "AT_FDCWD");
        else
            buf_printf(b, "%d", (int)*a);
        break;
    case 'u': buf_printf(b, "%lu", *a); break;
    case 'm': buf_printf(b, *a ? "0%lo" : "%lo", *a & 0xffffffff); break;
    case 'g': {
        const char *name = *a < 32 ? sigabbrev_np((int)*a) : NULL;
        if (name)
            buf_printf(b, "SIG%s", name);
        else
            buf_printf(b, "%d", (int)*a);
        break;
    }
    case 'o': put_open_flags(b, *a); break;
    case 'F':
        if (*a)
            put_bits(b, *a & 0xffffffff, at_bits, ARRAY_LEN(at_bits));
        else
            buf_printf(b, "0");
        break;
    case 's':
    case 'n':
    case 'c':
    case 'N':
    case 'w':
    case 'W':
    case 'l':
    case 'i':
    case 'L': put_string(v, b, *a); break;
    case 'B': put_bytes(v, b, *a, a[1]); break;
    case 'b':
        if (result > 0)
            put_bytes(v, b, *a, (uint64_t)result);
        else
            buf_printf(b, "%#lx", *a);
        break;
    case 'p':
        if (!*a) {
            buf_printf(b, "NULL");
            break;
        } // fall through
    default: buf_printf(b, *a ? "%#lx" : "%lu", *a); break;
    }
}

static void put_call(Vcpu *v, Buf *b, const Syscall *s, const uint64_t a[6], int64_t result) {
    buf_printf(b, "%s(", s->name);
    for (unsigned i = 0; s->args[i]; i++) {
        if (i) buf_printf(b, ", ");
        put_arg(v, b, &s->args[i], &a[i], result);
    }
    buf_printf(b, ")");
}

static void put_any_call(Buf *b, dgm_vcpu *v, const dgm_syscall *call) {
    const Syscall *s = syscall_find(call->number);
    const uint64_t *a = call->args;
    if (s)
        put_call(hot_of(v)->vcpu, b, s, a, call->result);
    else
        buf_printf(b, "syscall_%lu(%#lx, %#lx, %#lx, %#lx, %#lx, %#lx)", call->number, a[0], a[1],
                   a[2], a[3], a[4], a[5]);
}

// What tools get as dgm_syscall_text: the call as it looks when it begins, or with its result.
void strace_text(dgm_vcpu *v, const dgm_syscall *call, char *out, size_t cap) {
    Buf b = {0};
    put_any_call(&b, v, call);
    if (cap) snprintf(out, cap, "%s", b.data ? b.data : "");
    buf_free(&b);
}

// Calls that do not return are printed when they start.
static bool never_returns(const Syscall *s) {
    return !strcmp(s->name, "exit") || !strcmp(s->name, "exit_group") ||
           !strcmp(s->name, "rt_sigreturn") || !strcmp(s->name, "execve") ||
           !strcmp(s->name, "execveat");
}

static bool gives_address(const Syscall *s) {
    return !strcmp(s->name, "brk") || !strcmp(s->name, "mmap") || !strcmp(s->name, "mremap") ||
           !strcmp(s->name, "shmat");
}

// ---- --strace: one line a call, written when it returns (exits before) ----

static Vcpu *vcpu_of(dgm_vcpu *v) {
    return hot_of(v)->vcpu;
}

static bool before(dgm_watch *w, dgm_vcpu *v, dgm_syscall *call) {
    const Syscall *s = syscall_find(call->number);
    if (s && !never_returns(s)) return false;
    Buf b = {0};
    put_any_call(&b, v, call);
    if (b.data) log_printf(&vcpu_of(v)->m->log, s ? "%s = ?\n" : "%s\n", b.data);
    buf_free(&b);
    return (void)w, false;
}

static void after(dgm_watch *w, dgm_vcpu *v, dgm_syscall *call) {
    const Syscall *s = syscall_find(call->number);
    int64_t result = call->result;
    if (!s || (never_returns(s) && result >= 0)) return;
    Buf b = {0};
    put_any_call(&b, v, call);
    if (call->again)
        buf_printf(&b, " = ? ERESTARTSYS (To be restarted if SA_RESTART is set)");
    else if (result < 0 && result > -4096)
        buf_printf(&b, " = -1 %s (%s)", strerrorname_np((int)-result),
                   strerrordesc_np((int)-result));
    else if (gives_address(s))
        buf_printf(&b, " = %#lx", result);
    else
        buf_printf(&b, " = %ld", result);
    if (b.data) log_printf(&vcpu_of(v)->m->log, "%s\n", b.data);
    buf_free(&b);
    (void)w;
}

static void signal_comes(dgm_watch *w, dgm_vcpu *v, const dgm_signal *s) {
    const char *name = sigabbrev_np(s->number);
    log_printf(&vcpu_of(v)->m->log, "--- SIG%s {si_signo=SIG%s, si_code=%d, si_addr=%#lx} ---\n",
               name ? name : "RT", name ? name : "RT", s->code, s->address);
    (void)w;
}

const dgm_tool strace_tool = {
    .version = DGM_TOOL_VERSION,
    .name = "strace",
    .summary = "prints every system call, as strace does",
    .syscall = before,
    .syscall_done = after,
    .signal = signal_comes,
};
