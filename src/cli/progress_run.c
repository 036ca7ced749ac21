// progress_run.c - the status line of a program that runs.
//
// The terminal is the program's. So the line is there by itself only when the program's output goes
// elsewhere, and a tool watches its system calls: before it writes to the terminal the line goes,
// and comes back when the program has been quiet for two seconds and has ended its own line. When
// the program reads from the terminal, changes its mode, or starts another process (whose output we
// do not see), it is not a program for a status line: that ends for good, unless the user has asked
// for one.
#include "progress.h"

#include "dragoman/machine.h"
#include "dragoman/tool.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { QUIET_SECONDS = 2 };

// The command runs one program.
static struct {
    Progress *line; // NULL: none (any more)
    dgm_machine *m;
    bool asked_for, in_child;
    dev_t terminal;
    // the line's thread's
    uint64_t insns;
    double at;
} run;

// ---- what it says ----

static void with_unit(double n, char *out, size_t cap) {
    static const char *const units[] = {"", " k", " M", " G", " T"};
    unsigned i = 0;
    while (n >= 999.5 && i < 4) n /= 1000, i++;
    snprintf(out, cap, n < 9.95 && i ? "%.1f%s" : "%.0f%s", n, units[i]);
}

static void say(void *ctx, double seconds, char *out, size_t cap) {
    enum { SUDDEN = 100000 }; // millions a second: a count that was read while it changed
    (void)ctx;
    dgm_progress now;
    char total[32], rate[32], threads[32] = "";
    dgm_machine_progress(run.m, &now); // asks threads to bring their counts up to date,
    nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    dgm_machine_progress(run.m, &now); // which they have done by now
    double elapsed = seconds - run.at;
    if (now.instructions < run.insns ||
        (double)(now.instructions - run.insns) > elapsed * 1e6 * SUDDEN)
        now.instructions = run.insns;
    with_unit((double)now.instructions, total, sizeof total);
    with_unit((double)(now.instructions - run.insns) / elapsed, rate, sizeof rate);
    if (now.threads > 1) snprintf(threads, sizeof threads, ", %u threads", now.threads);
    snprintf(out, cap, "%s instructions, %s/s%s, %.0f s", total, rate, threads, seconds);
    run.insns = now.instructions;
    run.at = seconds;
}

// ---- what the program does ----

static bool is_terminal(uint64_t fd) {
    struct stat st;
    return fd < 1 << 20 && !fstat((int)fd, &st) && S_ISCHR(st.st_mode) &&
           st.st_rdev == run.terminal;
}

static bool one_of(const char *name, const char *const *names) {
    for (; *names; names++)
        if (!strcmp(name, *names)) return true;
    return false;
}

// Whether what is written ends a line; what we cannot see does not.
static bool ends_line(dgm_vcpu *v, const dgm_syscall *s) {
    uint64_t at = s->args[1], n = s->args[2], part[2];
    char last = 0;
    if (!strcmp(s->name, "writev")) {
        if (!n || n > 1024 || dgm_memory_read(v, at + (n - 1) * sizeof part, part, sizeof part))
            return false;
        at = part[0], n = part[1];
    }
    return n && !dgm_memory_read(v, at + n - 1, &last, 1) && last == '\n';
}

static bool starts_process(dgm_vcpu *v, const dgm_syscall *s) {
    enum { THREAD = 0x10000 }; // CLONE_THREAD
    uint64_t flags = s->args[0];
    if (!strcmp(s->name, "clone3") && dgm_memory_read(v, s->args[0], &flags, sizeof flags))
        return false;
    return !(flags & THREAD);
}

static bool syscall_begins(dgm_watch *w, dgm_vcpu *v, dgm_syscall *s) {
    static const char *const writes[] = {"write", "writev", "sendfile", "splice", NULL};
    static const char *const reads[] = {"read", "readv", NULL};
    static const char *const forks[] = {"clone", "clone3", "fork", "vfork", NULL};
    enum { TCSETS = 0x5402, TCSETSF = 0x5404 };
    (void)w;
    if (!s->name || !run.line || run.in_child) return false;
    double forever = run.asked_for ? QUIET_SECONDS : -1;
    if (one_of(s->name, writes)) {
        bool writev_or_write = s->name[0] == 'w';
        uint64_t fd = !strcmp(s->name, "splice") ? s->args[2] : s->args[0];
        if (is_terminal(fd))
            progress_hide(run.line, writev_or_write && ends_line(v, s) ? QUIET_SECONDS : 3600);
    } else if (one_of(s->name, reads)) {
        if (is_terminal(s->args[0])) progress_hide(run.line, forever);
    } else if (!strcmp(s->name, "ioctl")) {
        if (s->args[1] >= TCSETS && s->args[1] <= TCSETSF && is_terminal(s->args[0]))
            progress_hide(run.line, forever);
    } else if (one_of(s->name, forks)) {
        if (starts_process(v, s)) progress_hide(run.line, forever);
    }
    return false;
}

static int start(dgm_watch *w) {
    dgm_want(w, DGM_COUNTS);
    return 0;
}

// The line is the parent's, and so is its thread.
static void forked(dgm_watch *w, dgm_vcpu *v) {
    (void)w, (void)v;
    run.in_child = true;
}

// Others print now.
static void finish(dgm_watch *w, bool last) {
    (void)w;
    if (!run.in_child) progress_hide(run.line, last ? -1 : QUIET_SECONDS);
}

const dgm_tool tool_progress = {
    .version = DGM_TOOL_VERSION,
    .name = "progress",
    .summary = "takes the status line away when the program uses the terminal",
    .start = start,
    .syscall = syscall_begins,
    .forked = forked,
    .finish = finish,
};

// ---- the command's side ----

bool progress_of_run_wanted(ProgressWish wish) {
    if (wish != PROGRESS_AUTO) return wish == PROGRESS_ON;
    return progress_possible() && !isatty(STDOUT_FILENO);
}

void progress_of_run_start(dgm_machine *m, bool asked_for) {
    struct stat st;
    run.m = m;
    run.asked_for = asked_for;
    run.terminal = !fstat(STDERR_FILENO, &st) && S_ISCHR(st.st_mode) ? st.st_rdev : (dev_t)-1;
    run.line = progress_start(say, NULL);
}

void progress_of_run_end(void) {
    if (!run.in_child) progress_end(run.line);
    run.line = NULL;
}
