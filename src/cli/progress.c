// progress.c - a status line on stderr; see progress.h.
//
// The thread blocks every signal: those that come are for the program. (A blocked SIGTTOU also
// means that the line never stops a job; in the background it is not written at all.)
#include "progress.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

enum { FIRST_SECONDS = 2, LOG_SECONDS = 10, HIGH_FD = 700 };

struct Progress {
    progress_fn text;
    void *ctx;
    int fd; // stderr as it was: programs close theirs
    bool terminal;
    pthread_t thread;
    double began; // seconds of the monotonic clock
    // under `lock`
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool shown, ended;
    double not_before; // the next line; < 0: never
};

static double seconds_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

bool progress_possible(void) {
    const char *term = getenv("TERM");
    return isatty(STDERR_FILENO) && term && strcmp(term, "dumb");
}

static void put(const Progress *p, const char *text, size_t n) {
    ssize_t done = write(p->fd, text, n); // what cannot be shown is not
    (void)done;
}

// Lock held.
static void erase(Progress *p) {
    static const char gone[] = "\r\033[K";
    if (p->shown) put(p, gone, sizeof gone - 1);
    p->shown = false;
}

// The line must not wrap: what wraps cannot be erased. Lock held.
static void show(Progress *p, char *text) {
    struct winsize size = {0};
    size_t n = strlen(text);
    char line[256];
    if (!n) return;
    if (!p->terminal) {
        put(p, line, (size_t)snprintf(line, sizeof line, "dragoman: %.200s\n", text));
        return;
    }
    if (tcgetpgrp(p->fd) != getpgrp()) return;
    if (!ioctl(p->fd, TIOCGWINSZ, &size) && size.ws_col > 1 && n >= size.ws_col)
        text[size.ws_col - 1] = 0;
    put(p, line, (size_t)snprintf(line, sizeof line, "\r%.200s\033[K", text));
    p->shown = true;
}

static void *run(void *arg) {
    Progress *p = arg;
    double next = p->began + (p->terminal ? FIRST_SECONDS : LOG_SECONDS);
    pthread_mutex_lock(&p->lock);
    while (!p->ended) {
        struct timespec until = {(time_t)next, (long)((next - (double)(time_t)next) * 1e9)};
        int e = pthread_cond_timedwait(&p->wake, &p->lock, &until);
        if (e != ETIMEDOUT || p->ended) continue;
        pthread_mutex_unlock(&p->lock); // text() may take as long as it likes
        char text[200] = "";
        p->text(p->ctx, seconds_now() - p->began, text, sizeof text);
        pthread_mutex_lock(&p->lock);
        double now = seconds_now();
        if (!p->ended && p->not_before >= 0 && now >= p->not_before) show(p, text);
        next = now + (p->terminal ? 1 : LOG_SECONDS);
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

Progress *progress_start(progress_fn text, void *ctx) {
    Progress *p = calloc(1, sizeof *p);
    if (!p) return NULL;
    p->text = text;
    p->ctx = ctx;
    p->began = seconds_now();
    p->terminal = progress_possible();
    p->fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, HIGH_FD);
    if (p->fd < 0) p->fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
    pthread_condattr_t clock;
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->wake, &clock);
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    bool started = p->fd >= 0 && !pthread_create(&p->thread, NULL, run, p);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (started) return p;
    if (p->fd >= 0) close(p->fd);
    free(p);
    return NULL;
}

void progress_hide(Progress *p, double seconds) {
    if (!p) return;
    pthread_mutex_lock(&p->lock);
    erase(p);
    if (p->not_before >= 0) p->not_before = seconds < 0 ? -1 : seconds_now() + seconds;
    pthread_mutex_unlock(&p->lock);
}

void progress_end(Progress *p) {
    if (!p) return;
    pthread_mutex_lock(&p->lock);
    erase(p);
    p->ended = true;
    pthread_cond_signal(&p->wake);
    pthread_mutex_unlock(&p->lock);
    pthread_join(p->thread, NULL);
    close(p->fd);
    free(p);
}
