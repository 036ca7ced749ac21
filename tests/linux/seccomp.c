// seccomp.c - filters of the guest judge the guest's calls: each action, several filters, threads,
// fork and exec; strict mode; programs that are not valid.
#define _GNU_SOURCE
#include "check.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/sem.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))

static long install(struct sock_filter *insns, unsigned n, unsigned flags) {
    struct sock_fprog prog = {.len = n, .filter = insns};
    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &prog);
}

// This call gets this verdict, others are allowed.
static long forbid(int nr, uint32_t verdict, unsigned flags) {
    struct sock_filter f[] = {LOAD(arch),
                              BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_AARCH64, 1, 0),
                              BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
                              LOAD(nr),
                              BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 1),
                              BPF_STMT(BPF_RET | BPF_K, verdict),
                              BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
    return install(f, sizeof f / sizeof *f, flags);
}

static int in_child(int (*f)(void)) {
    pid_t pid = fork();
    if (!pid) {
        check_failures = 0;
        int r = f();
        _exit(check_failures ? 99 : r);
    }
    int s;
    waitpid(pid, &s, 0);
    return s;
}

static int errnos(void) {
    CHECK(!forbid(SYS_getppid, SECCOMP_RET_ERRNO | 77, 0));
    FAILS(77, syscall(SYS_getppid));
    CHECK(prctl(PR_GET_SECCOMP) == 2);
    CHECK(getuid() >= 0);
    // of two filters the more severe verdict counts
    CHECK(!forbid(SYS_getppid, SECCOMP_RET_ALLOW, 0));
    FAILS(77, syscall(SYS_getppid));
    CHECK(!forbid(SYS_getsid, SECCOMP_RET_TRACE, 0));
    FAILS(ENOSYS, syscall(SYS_getsid, 0));
    CHECK(!forbid(SYS_getpgid, SECCOMP_RET_LOG, 0));
    CHECK(getpgid(0) > 0);
    // over fork, threads and exec
    pid_t pid = fork();
    if (!pid) _exit(syscall(SYS_getppid) != -1 || errno != 77);
    int s;
    waitpid(pid, &s, 0);
    CHECK(s == 0);
    execl("/proc/self/exe", "seccomp", "after", NULL);
    return 98;
}

static volatile int trapped, trap_nr, trap_data;
static void on_sys(int s, siginfo_t *si, void *context) {
    trapped++;
    trap_nr = si->si_syscall;
    trap_data = si->si_errno;
    if (si->si_code != 1 || si->si_arch != AUDIT_ARCH_AARCH64) trapped = -100;
    ((ucontext_t *)context)->uc_mcontext.regs[0] = 4321; // the handler's word is the result
}

static int traps(void) {
    struct sigaction sa = {.sa_sigaction = on_sys, .sa_flags = SA_SIGINFO};
    sigaction(SIGSYS, &sa, NULL);
    CHECK(!forbid(SYS_getppid, SECCOMP_RET_TRAP | 55, 0));
    CHECK(syscall(SYS_getppid) == 4321 && trapped == 1 && trap_nr == SYS_getppid &&
          trap_data == 55);
    return 3;
}

static int blocked_trap(void) {
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    CHECK(!forbid(SYS_getppid, SECCOMP_RET_TRAP, 0));
    syscall(SYS_getppid);
    return 4;
}

static int kills(void) {
    CHECK(!forbid(SYS_getppid, SECCOMP_RET_KILL_PROCESS, 0));
    syscall(SYS_getppid);
    return 5;
}

static int strict(void) {
    int p[2];
    pipe(p);
    CHECK(!prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT));
    char c = 1;
    if (write(p[1], &c, 1) != 1 || read(p[0], &c, 1) != 1) syscall(SYS_exit, 77);
    syscall(SYS_getpid);
    return 6;
}

static volatile int go;
static void *waiting_thread(void *arg) {
    while (!go) usleep(1000);
    return (void *)(long)(syscall(SYS_getppid) == -1 ? errno : 0);
}
static void *dying_thread(void *arg) {
    forbid(SYS_getppid, SECCOMP_RET_KILL_THREAD, 0);
    syscall(SYS_getppid);
    go = 2;
    return NULL;
}

static int threads(void) {
    pthread_t t;
    void *r;
    pthread_create(&t, NULL, waiting_thread, NULL);
    CHECK(!forbid(SYS_getppid, SECCOMP_RET_ERRNO | 5, SECCOMP_FILTER_FLAG_TSYNC));
    go = 1;
    pthread_join(t, &r);
    CHECK((long)r == 5);
    pthread_create(&t, NULL, dying_thread, NULL);
    usleep(100000);
    CHECK(go == 1);
    return 7;
}

static int argument(void) { // lseek of descriptor 1000 only; arithmetic and memory on the way
    struct sock_filter f[] = {LOAD(nr),
                              BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_lseek, 0, 8),
                              LOAD(args[0]),
                              BPF_STMT(BPF_ALU | BPF_ADD | BPF_K, 24),
                              BPF_STMT(BPF_ST, 3),
                              BPF_STMT(BPF_LDX | BPF_MEM, 3),
                              BPF_STMT(BPF_LD | BPF_IMM, 1024),
                              BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_X, 0, 0, 2),
                              BPF_STMT(BPF_LD | BPF_IMM, SECCOMP_RET_ERRNO | 99),
                              BPF_STMT(BPF_RET | BPF_A, 0),
                              BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
    CHECK(!install(f, sizeof f / sizeof *f, 0));
    FAILS(99, lseek(1000, 0, 0));
    FAILS(EBADF, lseek(1001, 0, 0));
    return 8;
}

static int invalid(void) {
    struct sock_filter no_return[] = {LOAD(nr)};
    struct sock_filter far[] = {BPF_JUMP(BPF_JMP | BPF_JA, 5, 0, 0), BPF_STMT(BPF_RET | BPF_K, 0)};
    struct sock_filter outside[] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 64),
                                    BPF_STMT(BPF_RET | BPF_K, 0)};
    struct sock_filter odd[] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 2),
                                BPF_STMT(BPF_RET | BPF_K, 0)};
    struct sock_filter half[] = {BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 0),
                                 BPF_STMT(BPF_RET | BPF_K, 0)};
    struct sock_filter zero[] = {BPF_STMT(BPF_ALU | BPF_DIV | BPF_K, 0),
                                 BPF_STMT(BPF_RET | BPF_K, 0)};
    FAILS(EINVAL, install(no_return, 1, 0));
    FAILS(EINVAL, install(far, 2, 0));
    FAILS(EINVAL, install(outside, 2, 0));
    FAILS(EINVAL, install(odd, 2, 0));
    FAILS(EINVAL, install(half, 2, 0));
    FAILS(EINVAL, install(zero, 2, 0));
    FAILS(EINVAL, install(zero, 0, 0));
    FAILS(EINVAL, install(zero, 2, 1 << 20));
    FAILS(EFAULT, syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, 8));
    FAILS(EINVAL, syscall(SYS_seccomp, 99, 0, 0));
    uint32_t action = SECCOMP_RET_TRAP;
    CHECK(!syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action));
    CHECK(prctl(PR_GET_SECCOMP) == 0);
    return 9;
}

int main(int argc, char **argv) {
    setvbuf(stdout, NULL, _IONBF, 0);
    if (argc > 1) {
        FAILS(77, syscall(SYS_getppid));
        FAILS(ENOSYS, syscall(SYS_getsid, 0));
        CHECK(prctl(PR_GET_SECCOMP) == 2);
        return check_failures ? 97 : 2;
    }
    CHECK(!prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    int s;
    CHECK((s = in_child(errnos), WIFEXITED(s) && WEXITSTATUS(s) == 2));
    CHECK((s = in_child(traps), WIFEXITED(s) && WEXITSTATUS(s) == 3));
    CHECK((s = in_child(blocked_trap), WIFSIGNALED(s) && WTERMSIG(s) == SIGSYS));
    CHECK((s = in_child(kills), WIFSIGNALED(s) && WTERMSIG(s) == SIGSYS));
    CHECK((s = in_child(strict), WIFSIGNALED(s) && WTERMSIG(s) == SIGKILL));
    CHECK((s = in_child(threads), WIFEXITED(s) && WEXITSTATUS(s) == 7));
    CHECK((s = in_child(argument), WIFEXITED(s) && WEXITSTATUS(s) == 8));
    CHECK((s = in_child(invalid), WIFEXITED(s) && WEXITSTATUS(s) == 9));
    return check_done();
}
