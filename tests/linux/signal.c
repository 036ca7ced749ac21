// signal.c - interrupted calls as Linux has them, no signal lost or too many, masks that hold for
// the time of a call, queues, signalfd, alternate stacks, the frame's records.
#define _GNU_SOURCE
#include "check.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

static volatile int count, last;
static volatile uint64_t esr, fault_at, at_pc;
static sigjmp_buf back;

static void on_signal(int s) {
    count++;
    last = s;
}

static void handle(int s, void (*f)(int), int flags) {
    struct sigaction sa = {.sa_handler = f, .sa_flags = flags};
    sigaction(s, &sa, NULL);
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

// SIGALRM after ms.
static void alarm_in(int ms) {
    struct itimerval it = {.it_value = {ms / 1000, ms % 1000 * 1000}};
    setitimer(ITIMER_REAL, &it, NULL);
}

static void *write_later(void *fd) {
    usleep(120000);
    write((int)(long)fd, "x", 1);
    return NULL;
}

static void block_alarm(int how) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGALRM);
    pthread_sigmask(how, &set, NULL);
}

static void restarts(void) {
    int p[2];
    char c;
    pthread_t t;
    pipe(p);
    handle(SIGALRM, on_signal, 0);
    alarm_in(30);
    FAILS(EINTR, read(p[0], &c, 1));
    handle(SIGALRM, on_signal, SA_RESTART);
    count = 0;
    block_alarm(SIG_BLOCK);
    pthread_create(&t, NULL, write_later, (void *)(long)p[1]);
    block_alarm(SIG_UNBLOCK);
    alarm_in(30);
    CHECK(read(p[0], &c, 1) == 1 && count == 1);
    pthread_join(t, NULL);
    // never restarted, whatever SA_RESTART says
    struct timespec second = {1, 0}, rest = {9, 9};
    alarm_in(30);
    FAILS(EINTR, nanosleep(&second, &rest));
    CHECK(rest.tv_sec == 0 && rest.tv_nsec > 800000000);
    alarm_in(30);
    CHECK(clock_nanosleep(CLOCK_MONOTONIC, 0, &second, &rest) == EINTR && rest.tv_sec == 0);
    struct pollfd pf = {.fd = p[0], .events = POLLIN};
    alarm_in(30);
    FAILS(EINTR, poll(&pf, 1, 1000));
    alarm_in(30);
    FAILS(EINTR, select(0, NULL, NULL, NULL, NULL));
    int ep = epoll_create1(0);
    struct epoll_event ev;
    alarm_in(30);
    FAILS(EINTR, epoll_wait(ep, &ev, 1, 1000));
    alarm_in(30);
    FAILS(EINTR, pause());
    sigset_t none;
    sigemptyset(&none);
    alarm_in(30);
    FAILS(EINTR, sigtimedwait(&none, NULL, &second));
    // a socket with a time limit is not restarted, one without is
    int s[2];
    socketpair(AF_UNIX, SOCK_STREAM, 0, s);
    struct timeval limit = {1, 0};
    setsockopt(s[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    alarm_in(30);
    FAILS(EINTR, recv(s[0], &c, 1, 0));
    limit.tv_sec = 0;
    setsockopt(s[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    block_alarm(SIG_BLOCK);
    pthread_create(&t, NULL, write_later, (void *)(long)s[1]);
    block_alarm(SIG_UNBLOCK);
    alarm_in(30);
    CHECK(recv(s[0], &c, 1, 0) == 1);
    pthread_join(t, NULL);
    alarm_in(30);
    pid_t pid = fork();
    if (!pid) {
        usleep(100000);
        _exit(5);
    }
    int status;
    CHECK(waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 5);
    int futex = 0;
    alarm_in(30);
    FAILS(EINTR, syscall(SYS_futex, &futex, 0, 0, &second, NULL, 0));
    // ignored signals disturb nothing
    signal(SIGALRM, SIG_IGN);
    alarm_in(20);
    double begin = now();
    struct timespec tenth = {0, 100000000};
    CHECK(!nanosleep(&tenth, NULL) && now() - begin >= 0.1);
}

// Calls that do not wait never fail with EINTR, however many signals come.
static volatile int stop;
static void *pelt(void *main_thread) {
    while (!stop) pthread_kill(*(pthread_t *)main_thread, SIGUSR1);
    return NULL;
}

static void storm(void) {
    handle(SIGUSR1, on_signal, 0);
    pthread_t self = pthread_self(), t;
    stop = count = 0;
    pthread_create(&t, NULL, pelt, &self);
    int bad = 0;
    for (int i = 0; (i < 3000 || (count < 300 && i < 300000)) && !bad; i++) {
        int fd = open("/dev/null", O_RDWR), p[2];
        struct stat st;
        char c = 'c';
        if (fd < 0 || fstat(fd, &st) || write(fd, "abc", 3) != 3) bad = 1;
        if (pipe(p) || write(p[1], &c, 1) != 1 || read(p[0], &c, 1) != 1) bad = 2;
        if (stat("/", &st) || close(fd) || close(p[0]) || close(p[1])) bad = 3;
        if (mprotect(NULL, 0, PROT_READ) || getppid() < 0) bad = 4;
        void *m = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (m == MAP_FAILED || munmap(m, 4096)) bad = 5;
    }
    stop = 1;
    pthread_join(t, NULL);
    if (bad) printf("storm: step %d, errno %d\n", bad, errno);
    CHECK(!bad && count > 100);
}

// Two processes wake each other. A signal that comes between the change of the mask and the wait,
// or that is counted twice, makes them hang or run on.
static void ping_pong(int way) {
    sigset_t blocked, open;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGUSR1);
    sigprocmask(SIG_BLOCK, &blocked, &open);
    sigdelset(&open, SIGUSR1);
    handle(SIGUSR1, on_signal, SA_RESTART);
    count = 0;
    pid_t parent = getpid(), child = fork();
    enum { TURNS = 1500 };
    int ep = epoll_create1(0);
    for (int i = 0; i < TURNS; i++) {
        if (child) kill(child, SIGUSR1);
        while (count <= i) {
            struct timespec long_time = {20, 0};
            struct epoll_event ev;
            int r = way == 0   ? sigsuspend(&open)
                    : way == 1 ? ppoll(NULL, 0, &long_time, &open)
                    : way == 2 ? pselect(0, NULL, NULL, NULL, &long_time, &open)
                               : epoll_pwait(ep, &ev, 1, 20000, &open);
            if (r != -1 || errno != EINTR) {
                printf("ping_pong %d: %d, errno %d in turn %d\n", way, r, errno, i);
                _exit(1);
            }
        }
        if (!child) kill(parent, SIGUSR1);
    }
    if (!child) _exit(count != TURNS);
    int status;
    waitpid(child, &status, 0);
    CHECK(count == TURNS && status == 0);
    close(ep);
    sigprocmask(SIG_UNBLOCK, &blocked, NULL);
}

static void on_info(int s, siginfo_t *si, void *context) {
    if (count < 8) ((volatile int *)at_pc)[count] = si->si_value.sival_int;
    count++;
    last = s;
}

static void queues(int signo) {
    volatile int got[8] = {0};
    struct sigaction sa = {.sa_sigaction = on_info, .sa_flags = SA_SIGINFO};
    sigset_t set, pending;
    at_pc = (uint64_t)got;
    sigaction(signo, &sa, NULL);
    sigemptyset(&set);
    sigaddset(&set, signo);
    sigprocmask(SIG_BLOCK, &set, NULL);
    count = 0;
    for (int i = 0; i < 5; i++)
        CHECK(!sigqueue(getpid(), signo, (union sigval){.sival_int = 100 + i}));
    CHECK(!sigpending(&pending) && sigismember(&pending, signo) && count == 0);
    siginfo_t si;
    struct timespec none = {0, 0};
    CHECK(sigtimedwait(&set, &si, &none) == signo && si.si_value.sival_int == 100 &&
          si.si_code == SI_QUEUE && si.si_pid == getpid());
    int fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    struct signalfd_siginfo fi;
    CHECK(read(fd, &fi, sizeof fi) == sizeof fi && fi.ssi_signo == signo && fi.ssi_int == 101);
    close(fd);
    sigprocmask(SIG_UNBLOCK, &set, NULL);
    CHECK(count == 3 && got[0] == 102 && got[1] == 103 && got[2] == 104 && last == signo);
    sigprocmask(SIG_BLOCK, &set, NULL);
    FAILS(EAGAIN, sigtimedwait(&set, &si, &none));
    sigprocmask(SIG_UNBLOCK, &set, NULL);
    FAILS(EPERM, ({
              siginfo_t x = {.si_code = SI_USER};
              syscall(SYS_rt_sigqueueinfo, getppid(), SIGUSR1, &x);
          }));
    // a timer with it
    struct sigevent ev = {
        .sigev_notify = SIGEV_SIGNAL, .sigev_signo = signo, .sigev_value.sival_int = 7};
    timer_t timer;
    count = 0;
    CHECK(!timer_create(CLOCK_MONOTONIC, &ev, &timer));
    struct itimerspec it = {.it_value = {0, 20000000}};
    CHECK(!timer_settime(timer, 0, &it, NULL));
    while (!count) usleep(1000);
    CHECK(got[0] == 7);
    timer_delete(timer);
    signal(signo, SIG_DFL);
}

static void on_fault(int s, siginfo_t *si, void *context) {
    ucontext_t *u = context;
    uint8_t *at = (void *)u->uc_mcontext.__reserved;
    esr = 0;
    fault_at = u->uc_mcontext.fault_address;
    at_pc = u->uc_mcontext.pc;
    for (struct { uint32_t magic, size; } *r = (void *)at; r->magic; r = (void *)(at += r->size))
        if (r->magic == 0x45535201) memcpy((void *)&esr, at + 8, 8);
    last = si->si_code;
    siglongjmp(back, 1);
}

static void faults(void) {
    struct sigaction sa = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    static char stack[65536];
    stack_t ss = {.ss_sp = stack, .ss_size = sizeof stack}, old;
    CHECK(!sigaltstack(&ss, NULL));
    sigaction(SIGSEGV, &sa, NULL);
    sigaction(SIGBUS, &sa, NULL);
    char *ro = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (int i = 0; i < 3; i++) {
        if (!sigsetjmp(back, 1)) {
            ro[12] = 1;
            CHECK(!"stored");
        }
        CHECK(last == SEGV_ACCERR && fault_at == (uint64_t)ro + 12);
        CHECK(esr == (0x24ull << 26 | 1 << 25 | 1 << 6 | 0x0f));
    }
    if (!sigsetjmp(back, 1)) {
        *(volatile char *)0x1234;
        CHECK(!"loaded");
    }
    CHECK(last == SEGV_MAPERR && fault_at == 0x1234 && esr == (0x24ull << 26 | 1 << 25 | 0x07));
    if (!sigsetjmp(back, 1)) ((void (*)(void))0x5000)();
    CHECK(last == SEGV_MAPERR && fault_at == 0x5000 && at_pc == 0x5000 && esr >> 26 == 0x20);
    int fd = memfd_create("short", 0);
    ftruncate(fd, 4096);
    char *m = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (!sigsetjmp(back, 1)) m[5000] = 1;
    CHECK(last == BUS_ADRERR && fault_at == (uint64_t)m + 5000);
    CHECK(!sigaltstack(NULL, &old) && old.ss_flags == 0 && old.ss_sp == stack);
    // the system calls' own accesses are EFAULT
    FAILS(EFAULT, read(fd, ro, 4096));
    CHECK(write(fd, ro, 10) == 10);
    FAILS(EFAULT, write(fd, (void *)0x1234, 10));
    signal(SIGSEGV, SIG_DFL);
    signal(SIGBUS, SIG_DFL);
    pid_t pid = fork(); // blocked or ignored, a fault kills
    if (!pid) {
        signal(SIGSEGV, SIG_IGN);
        *(volatile char *)0x10 = 1;
        _exit(0);
    }
    int status;
    waitpid(pid, &status, 0);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
}

static void sent_faults(void) { // by kill, they are signals like others
    handle(SIGSEGV, on_signal, 0);
    handle(SIGBUS, on_signal, 0);
    count = 0;
    kill(getpid(), SIGSEGV);
    CHECK(count == 1 && last == SIGSEGV);
    raise(SIGBUS);
    CHECK(count == 2 && last == SIGBUS);
    sigset_t set, pending;
    sigemptyset(&set);
    sigaddset(&set, SIGSEGV);
    sigprocmask(SIG_BLOCK, &set, NULL);
    raise(SIGSEGV);
    CHECK(count == 2 && !sigpending(&pending) && sigismember(&pending, SIGSEGV));
    sigprocmask(SIG_UNBLOCK, &set, NULL);
    CHECK(count == 3);
    signal(SIGSEGV, SIG_DFL);
    signal(SIGBUS, SIG_DFL);
}

static void *prod(void *main_thread) {
    while (!stop) {
        pthread_kill(*(pthread_t *)main_thread, SIGSEGV);
        usleep(10000);
    }
    return NULL;
}

// Blocked signals do not prolong a sleep, though the host sees some of them.
static void sleeps(void) {
    sigset_t set;
    pthread_t self = pthread_self(), t;
    struct timespec wait = {0, 200000000}, rest;
    handle(SIGSEGV, on_signal, 0);
    sigemptyset(&set);
    sigaddset(&set, SIGSEGV);
    sigprocmask(SIG_BLOCK, &set, NULL);
    stop = count = 0;
    pthread_create(&t, NULL, prod, &self);
    double begin = now();
    CHECK(!nanosleep(&wait, &rest));
    double took = now() - begin;
    if (took < 0.2 || took > 0.5) printf("slept %f\n", took);
    CHECK(took >= 0.2 && took < 0.5 && count == 0);
    stop = 1;
    pthread_join(t, NULL);
    sigprocmask(SIG_UNBLOCK, &set, NULL);
    CHECK(count == 1);
    signal(SIGSEGV, SIG_DFL);
}

static volatile int depth, deepest;
static void nest(int s) {
    depth++;
    if (depth > deepest) deepest = depth;
    if (depth < 5) raise(s);
    depth--;
}

static void nesting(void) {
    handle(SIGUSR2, nest, SA_NODEFER);
    raise(SIGUSR2);
    CHECK(deepest == 5 && depth == 0);
    deepest = 0;
    handle(SIGUSR2, on_signal, SA_RESETHAND);
    raise(SIGUSR2);
    struct sigaction sa;
    CHECK(!sigaction(SIGUSR2, NULL, &sa) && sa.sa_handler == SIG_DFL);
    FAILS(EINVAL, sigaction(SIGKILL, &sa, NULL));
    FAILS(EINVAL, sigaction(65, &sa, NULL));
    FAILS(EINVAL, syscall(SYS_rt_sigprocmask, 7, &sa, NULL, 8));
    FAILS(EINVAL, syscall(SYS_rt_sigprocmask, 0, &sa, NULL, 4));
}

// A timer that fires up to the moment it is stopped, and then no handler: what fired before is the
// handler's, whichever thread it came to.
static void *idle(void *arg) {
    while (!stop) getppid();
    return arg;
}
static void handler_goes(void) {
    static const struct itimerval fast = {{0, 50}, {0, 50}}, off;
    pthread_t t[2];
    stop = 0;
    for (int i = 0; i < 2; i++) pthread_create(&t[i], NULL, idle, NULL);
    for (int round = 0; round < 3000; round++) {
        handle(SIGALRM, on_signal, SA_RESTART);
        setitimer(ITIMER_REAL, &fast, NULL);
        for (volatile int i = 0; i < round % 97 * 30; i++) continue;
        setitimer(ITIMER_REAL, &off, NULL);
        signal(SIGALRM, round & 1 ? SIG_DFL : SIG_IGN);
    }
    stop = 1;
    for (int i = 0; i < 2; i++) pthread_join(t[i], NULL);
    CHECK(count > 0);
}

// What a program ignores, the one it execs ignores too, which sees that also when it first asks in
// a child or has a handler made.
static int ignores(int s) {
    struct sigaction was;
    return !sigaction(s, NULL, &was) && was.sa_handler == SIG_IGN;
}
static int inherited(void) {
    kill(getpid(), SIGHUP);
    if (ignores(SIGTERM) || !ignores(SIGHUP)) return 1;
    pid_t child = fork();
    if (!child) _exit(ignores(SIGUSR1) && ignores(SIGHUP) && !ignores(SIGINT) ? 0 : 1);
    int status = -1;
    waitpid(child, &status, 0);
    if (status || signal(SIGUSR2, on_signal) != SIG_IGN || ignores(SIGUSR2)) return 2;
    raise(SIGUSR2);
    return count == 1 ? 0 : 3;
}
static void execs(void) {
    pid_t child = fork();
    if (!child) {
        signal(SIGHUP, SIG_IGN);
        signal(SIGUSR1, SIG_IGN);
        signal(SIGUSR2, SIG_IGN);
        signal(SIGTERM, on_signal);
        execl("/proc/self/exe", "signal", "inherited", NULL);
        _exit(127);
    }
    int status = -1;
    waitpid(child, &status, 0);
    CHECK(status == 0);
}

int main(int argc, char **argv) {
    (void)argv;
    if (argc > 1) return inherited();
    setvbuf(stdout, NULL, _IONBF, 0);
    alarm(0);
    execs();
    restarts();
    storm();
    for (int way = 0; way < 4; way++) ping_pong(way);
    queues(SIGRTMIN);
    queues(SIGRTMAX);
    faults();
    sent_faults();
    sleeps();
    nesting();
    handler_goes();
    return check_done();
}
