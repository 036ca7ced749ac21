// Handlers, masks, sigaltstack, siginfo, EINTR, and death by signal in a child.
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile sig_atomic_t got, depth;
static char alternate[64 << 10];

static void count(int sig) {
    got += sig;
}

static void info(int sig, siginfo_t *si, void *context) {
    (void)context;
    printf("info sig=%d code=%d self=%d value=%d\n", sig, si->si_code, si->si_pid == getpid(),
           si->si_code == SI_QUEUE ? si->si_value.sival_int : 0);
}

static void on_alternate(int sig) {
    char here;
    printf("alternate %d %d\n", sig, &here >= alternate && &here < alternate + sizeof alternate);
}

static void nested(int sig) {
    if (++depth < 3) raise(sig);
    got++;
}

int main(void) {
    setvbuf(stdout, NULL, _IONBF, 0);
    signal(SIGUSR1, count);
    raise(SIGUSR1);
    kill(getpid(), SIGUSR1);
    printf("count %d\n", got);

    sigset_t set, old, pending;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, &old);
    got = 0;
    raise(SIGUSR1);
    sigpending(&pending);
    printf("blocked %d pending %d\n", got, sigismember(&pending, SIGUSR1));
    sigprocmask(SIG_SETMASK, &old, NULL);
    printf("unblocked %d\n", got);

    struct sigaction sa = {.sa_sigaction = info, .sa_flags = SA_SIGINFO};
    sigaction(SIGUSR2, &sa, NULL);
    kill(getpid(), SIGUSR2);
    sigqueue(getpid(), SIGUSR2, (union sigval){.sival_int = 1234});

    stack_t ss = {.ss_sp = alternate, .ss_size = sizeof alternate};
    sigaltstack(&ss, NULL);
    struct sigaction alt = {.sa_handler = on_alternate, .sa_flags = SA_ONSTACK};
    sigaction(SIGHUP, &alt, NULL);
    raise(SIGHUP);

    got = 0;
    struct sigaction again = {.sa_handler = nested, .sa_flags = SA_NODEFER};
    sigaction(SIGTERM, &again, NULL);
    raise(SIGTERM);
    printf("nested %d %d\n", depth, got);

    struct sigaction once = {.sa_handler = count, .sa_flags = SA_RESETHAND};
    sigaction(SIGINT, &once, NULL);
    raise(SIGINT);
    sigaction(SIGINT, NULL, &once);
    printf("reset %d\n", once.sa_handler == SIG_DFL);

    // A read that a signal breaks off, and one that is restarted.
    int p[2];
    if (pipe(p)) return 1;
    struct sigaction plain = {.sa_handler = count};
    sigaction(SIGALRM, &plain, NULL);
    alarm(1);
    char c;
    ssize_t n = read(p[0], &c, 1);
    printf("eintr %zd %s\n", n, strerror(errno));

    for (int sig = 0; sig < 3; sig++) {
        static const int which[] = {SIGKILL, SIGABRT, SIGTERM};
        pid_t child = fork();
        if (child == 0) {
            signal(SIGTERM, SIG_DFL);
            if (which[sig] == SIGABRT) abort();
            kill(getpid(), which[sig]);
            pause();
        }
        int status;
        waitpid(child, &status, 0);
        printf("child %d %d\n", WIFSIGNALED(status), WTERMSIG(status));
    }
    return 0;
}
