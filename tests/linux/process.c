// process.c - vfork with its shared memory, posix_spawn's errors, clone and clone3 with many flags,
// execveat, and what wait says.
#define _GNU_SOURCE
#include "check.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;
static volatile int shared, caught;

static void on_signal(int s) {
    caught = s;
}

static int status_of(pid_t pid) {
    int s = -1;
    return waitpid(pid, &s, 0) == pid ? s : -1;
}

static void vforks(void) {
    signal(SIGUSR1, on_signal);
    // the parent sleeps until the child's end, and sees what it wrote
    pid_t pid = vfork();
    if (!pid) {
        usleep(50000);
        shared = 77;
        _exit(3);
    }
    CHECK(shared == 77 && pid > 0);
    CHECK(WEXITSTATUS(status_of(pid)) == 3);
    // signal actions are the child's own
    pid = vfork();
    if (!pid) {
        signal(SIGUSR1, SIG_DFL);
        kill(getpid(), SIGUSR1);
        _exit(4);
    }
    int s = status_of(pid);
    CHECK(WIFSIGNALED(s) && WTERMSIG(s) == SIGUSR1);
    raise(SIGUSR1);
    CHECK(caught == SIGUSR1);
    // until exec
    pid = vfork();
    if (!pid) {
        shared = 5;
        execl("/proc/self/exe", "process", "exit", "9", NULL);
        shared = 6;
        _exit(1);
    }
    CHECK(shared == 5 && WEXITSTATUS(status_of(pid)) == 9);
    // in a child, and in a child's child
    pid = fork();
    if (!pid) {
        pid = vfork();
        if (!pid) {
            pid_t inner = vfork();
            if (!inner) _exit(21);
            int t;
            waitpid(inner, &t, 0);
            _exit(WEXITSTATUS(t) + 1);
        }
        _exit(WEXITSTATUS(status_of(pid)) + 1);
    }
    CHECK(WEXITSTATUS(status_of(pid)) == 23);
    for (int i = 0; i < 200; i++) {
        pid = vfork();
        if (!pid) {
            shared = i;
            _exit(i & 7);
        }
        if (WEXITSTATUS(status_of(pid)) != (i & 7) || shared != i) {
            CHECK(!"vfork in a loop");
            break;
        }
    }
}

static void spawns(void) {
    pid_t pid = -1;
    char *argv[] = {"process", "exit", "12", NULL};
    CHECK(posix_spawn(&pid, "/no/such/program", NULL, NULL, argv, environ) == ENOENT);
    CHECK(posix_spawn(&pid, "/etc", NULL, NULL, argv, environ) == EACCES);
    CHECK(posix_spawn(&pid, "/proc/self/exe", NULL, NULL, argv, environ) == 0);
    CHECK(WEXITSTATUS(status_of(pid)) == 12);
    posix_spawnattr_t attr;
    sigset_t set;
    posix_spawnattr_init(&attr);
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    posix_spawnattr_setsigdefault(&attr, &set);
    posix_spawnattr_setsigmask(&attr, &set);
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK |
                                        POSIX_SPAWN_SETPGROUP);
    char *masked[] = {"process", "mask", NULL};
    CHECK(posix_spawn(&pid, "/proc/self/exe", NULL, &attr, masked, environ) == 0);
    CHECK(WEXITSTATUS(status_of(pid)) == 0);
    caught = 0;
    raise(SIGUSR1);
    CHECK(caught == SIGUSR1); // the handler is still ours
}

static void *spawner(void *arg) {
    char *argv[] = {"process", "exit", "1", NULL};
    for (int i = 0; i < 15; i++) {
        pid_t pid;
        if (posix_spawn(&pid, "/proc/self/exe", NULL, NULL, argv, environ) ||
            WEXITSTATUS(status_of(pid)) != 1)
            return "spawn in threads";
    }
    return NULL;
}

static void threads(void) {
    pthread_t t[4];
    for (int i = 0; i < 4; i++) pthread_create(&t[i], NULL, spawner, NULL);
    for (int i = 0; i < 4; i++) {
        void *said;
        pthread_join(t[i], &said);
        CHECK(said == NULL);
    }
}

static pid_t clone3(struct clone_args *a, size_t n) {
    return syscall(SYS_clone3, a, n);
}

static int clone_child(void *arg) {
    shared = 31;
    close(*(int *)arg);
    return 32;
}

static void clones(void) {
    int pidfd = -1;
    struct clone_args a = {
        .flags = CLONE_PIDFD, .pidfd = (uintptr_t)&pidfd, .exit_signal = SIGCHLD};
    pid_t pid = clone3(&a, sizeof a);
    if (!pid) _exit(8);
    struct pollfd pf = {.fd = pidfd, .events = POLLIN};
    CHECK(pid > 0 && poll(&pf, 1, 5000) == 1);
    siginfo_t si;
    CHECK(!waitid(P_PIDFD, pidfd, &si, WEXITED) && si.si_status == 8 && si.si_pid == pid &&
          si.si_code == CLD_EXITED);
    close(pidfd);
    a.exit_signal = 99;
    FAILS(EINVAL, clone3(&a, sizeof a));
    FAILS(EINVAL, clone3(&a, 8));
    a = (struct clone_args){.flags = 1ull << 40, .exit_signal = SIGCHLD};
    FAILS(EINVAL, clone3(&a, sizeof a));
    a = (struct clone_args){.flags = CLONE_SIGHAND, .exit_signal = SIGCHLD};
    FAILS(EINVAL, clone3(&a, sizeof a));
    // another signal at the end; and none
    caught = 0;
    a = (struct clone_args){.exit_signal = SIGUSR1};
    pid = clone3(&a, sizeof a);
    if (!pid) _exit(7);
    int s;
    while (waitpid(pid, &s, __WALL) < 0 && errno == EINTR) continue;
    CHECK(WEXITSTATUS(s) == 7);
    CHECK(caught == SIGUSR1);
    // descriptors shared, memory shared, the parent asleep
    int p[2];
    CHECK(!pipe(p));
    char *stack = malloc(65536);
    shared = 0;
    pid = clone(clone_child, stack + 65536, CLONE_VM | CLONE_VFORK | CLONE_FILES | SIGCHLD, &p[1]);
    CHECK(shared == 31 && WEXITSTATUS(status_of(pid)) == 32);
    FAILS(EBADF, write(p[1], "x", 1));
    close(p[0]);
    // descriptors shared only
    CHECK(!pipe(p));
    shared = 0;
    pid = clone(clone_child, stack + 65536, CLONE_FILES | SIGCHLD, &p[1]);
    CHECK(pid > 0 && WEXITSTATUS(status_of(pid)) == 32 && shared == 0);
    FAILS(EBADF, write(p[1], "x", 1));
    close(p[0]);
    // the working directory shared
    pid = syscall(SYS_clone, CLONE_FS | SIGCHLD, 0, 0, 0, 0);
    if (!pid) _exit(chdir("/tmp"));
    char cwd[100];
    CHECK(WEXITSTATUS(status_of(pid)) == 0 && getcwd(cwd, sizeof cwd) && !strcmp(cwd, "/tmp"));
    CHECK(!chdir("/"));
    // handlers cleared
    a = (struct clone_args){.flags = CLONE_CLEAR_SIGHAND, .exit_signal = SIGCHLD};
    pid = clone3(&a, sizeof a);
    if (!pid) {
        struct sigaction sa;
        _exit(sigaction(SIGUSR1, NULL, &sa) || sa.sa_handler != SIG_DFL);
    }
    CHECK(status_of(pid) == 0);
    // numbers where they are wanted
    int parent_tid = 0;
    int *child_tid = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    a = (struct clone_args){.flags = CLONE_PARENT_SETTID | CLONE_CHILD_SETTID,
                            .exit_signal = SIGCHLD,
                            .parent_tid = (uintptr_t)&parent_tid,
                            .child_tid = (uintptr_t)child_tid};
    pid = clone3(&a, sizeof a);
    if (!pid) _exit(*child_tid != getpid());
    CHECK(status_of(pid) == 0 && parent_tid == pid && *child_tid == pid);
    // a namespace, when the kernel gives us one
    pid = syscall(SYS_clone, CLONE_NEWUSER | CLONE_NEWPID | SIGCHLD, 0, 0, 0, 0);
    if (!pid) _exit(getpid() != 1);
    if (pid > 0) CHECK(status_of(pid) == 0);
    free(stack);
}

static void execs(void) {
    // a program that has no name any more
    int from = open("/proc/self/exe", O_RDONLY), to = memfd_create("program", 0);
    char buffer[65536];
    for (ssize_t n; (n = read(from, buffer, sizeof buffer)) > 0;) write(to, buffer, n);
    fchmod(to, 0755);
    char *argv[] = {"program", "exit", "14", NULL};
    pid_t pid = fork();
    if (!pid) {
        syscall(SYS_execveat, to, "", argv, environ, AT_EMPTY_PATH);
        _exit(errno);
    }
    CHECK(WEXITSTATUS(status_of(pid)) == 14);
    // by descriptor of its directory
    int root = open("/", O_RDONLY | O_DIRECTORY);
    pid = fork();
    if (!pid) {
        syscall(SYS_execveat, root, "proc/self/exe", argv, environ, 0);
        _exit(errno);
    }
    CHECK(WEXITSTATUS(status_of(pid)) == 14);
    FAILS(EINVAL, syscall(SYS_execveat, root, "x", argv, environ, 1));
    FAILS(ENOENT, syscall(SYS_execveat, root, "", argv, environ, 0));
    FAILS(EFAULT, syscall(SYS_execve, 8, argv, environ));
    FAILS(EFAULT, syscall(SYS_execve, "/proc/self/exe", 8, environ));
    FAILS(ENOEXEC,
          execv("/proc/self/maps", argv) == -1 && errno == EACCES ? (errno = ENOEXEC, -1) : -1);
    // close-on-exec is
    int keep = dup(root), shut = fcntl(root, F_DUPFD_CLOEXEC, 0);
    char k[16], c[16];
    snprintf(k, sizeof k, "%d", keep);
    snprintf(c, sizeof c, "%d", shut);
    pid = fork();
    if (!pid) {
        execl("/proc/self/exe", "process", "fds", k, c, NULL);
        _exit(99);
    }
    CHECK(WEXITSTATUS(status_of(pid)) == 0);
    // a script, whose interpreter is this program
    char self[4096] = "", path[] = "/tmp/scriptXXXXXX";
    readlink("/proc/self/exe", self, sizeof self - 1);
    int script = mkstemp(path);
    dprintf(script, "#! %s exit  \n", self);
    fchmod(script, 0755);
    close(script);
    pid = fork();
    if (!pid) {
        execl(path, "x", "33", NULL);
        _exit(99);
    }
    // argv: self "exit" path 33; the path's number is 0
    CHECK(WEXITSTATUS(status_of(pid)) == 0);
    unlink(path);
}

static void waits(void) {
    int s;
    FAILS(ECHILD, wait(&s));
    int hold[2];
    char c;
    pipe(hold);
    pid_t pid = fork();
    if (!pid) {
        raise(SIGSTOP);
        read(hold[0], &c, 1);
        _exit(2);
    }
    CHECK(waitpid(pid, &s, WUNTRACED) == pid && WIFSTOPPED(s) && WSTOPSIG(s) == SIGSTOP);
    CHECK(waitpid(pid, &s, WNOHANG) == 0);
    kill(pid, SIGCONT);
    CHECK(waitpid(pid, &s, WCONTINUED) == pid && WIFCONTINUED(s));
    write(hold[1], "x", 1);
    siginfo_t si = {0};
    struct rusage ru;
    CHECK(!syscall(SYS_waitid, P_PID, pid, &si, WEXITED | WNOWAIT, &ru) && si.si_status == 2);
    CHECK(wait4(pid, &s, 0, &ru) == pid && WEXITSTATUS(s) == 2);
    pid = fork();
    if (!pid) {
        struct rlimit none = {0, 0};
        setrlimit(RLIMIT_CORE, &none);
        abort();
    }
    s = status_of(pid);
    CHECK(WIFSIGNALED(s) && WTERMSIG(s) == SIGABRT);
    // orphans come to a subreaper
    CHECK(!prctl(PR_SET_CHILD_SUBREAPER, 1));
    pid = fork();
    if (!pid) {
        if (!fork()) {
            usleep(20000);
            _exit(6);
        }
        _exit(5);
    }
    CHECK(WEXITSTATUS(status_of(pid)) == 5);
    CHECK(wait(&s) > 0 && WEXITSTATUS(s) == 6);
    CHECK(!prctl(PR_SET_CHILD_SUBREAPER, 0));
}

// Long enough for whatever watches the program to have begun: it has one thread, and may do what
// only such a process may.
static void has_one_thread(void) {
    struct timeval from, now;
    char text[4096], path[] = "/proc/self/status";
    gettimeofday(&from, NULL);
    do gettimeofday(&now, NULL);
    while ((now.tv_sec - from.tv_sec) * 1000000 + now.tv_usec - from.tv_usec < 60000);
    int fd = open(path, O_RDONLY);
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    text[n > 0 ? n : 0] = 0;
    CHECK(strstr(text, "\nThreads:\t1\n"));
    fd = open("/proc/self/task", O_RDONLY | O_DIRECTORY);
    struct stat s;
    CHECK(!fstat(fd, &s) && s.st_nlink == 3);
    close(fd);
    CHECK(!unshare(CLONE_VM | CLONE_SIGHAND | CLONE_THREAD)); // EINVAL with another thread
}

int main(int argc, char **argv) {
    setvbuf(stdout, NULL, _IONBF, 0);
    if (argc > 2 && !strcmp(argv[1], "exit")) return atoi(argv[2]);
    if (argc > 3 && !strcmp(argv[1], "fds"))
        return fcntl(atoi(argv[2]), F_GETFD) < 0 || fcntl(atoi(argv[3]), F_GETFD) >= 0;
    if (argc > 1 && !strcmp(argv[1], "mask")) {
        sigset_t set;
        sigprocmask(0, NULL, &set);
        struct sigaction sa;
        sigaction(SIGUSR1, NULL, &sa);
        return !sigismember(&set, SIGUSR1) || sa.sa_handler != SIG_DFL || getpgrp() != getpid();
    }
    vforks();
    spawns();
    threads();
    clones();
    execs();
    waits();
    has_one_thread();
    return check_done();
}
