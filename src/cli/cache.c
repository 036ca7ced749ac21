// cache.c - `dragoman cache`: list, warm and clear the translations that are kept on disk.
#include "cli.h"

#include "dragoman/cache.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

bool cache_default_dir(char *out, size_t bytes) {
    const char *said = getenv("DRAGOMAN_CACHE"), *xdg = getenv("XDG_CACHE_HOME"),
               *home = getenv("HOME");
    int n = -1;
    if (said && said[0])
        n = strcmp(said, "off") ? snprintf(out, bytes, "%s", said) : -1;
    else if (xdg && xdg[0] == '/')
        n = snprintf(out, bytes, "%s/dragoman", xdg);
    else if (home && home[0] == '/')
        n = snprintf(out, bytes, "%s/.cache/dragoman", home);
    return n > 0 && (size_t)n < bytes;
}

static void help(FILE *to) {
    fprintf(
        to,
        "Usage: dragoman cache [OPTION...] list|dir\n"
        "       dragoman cache [OPTION...] warm FILE...\n"
        "       dragoman cache [OPTION...] clear [WORD...]\n\n"
        "Translations are kept on disk, so that a program's next run need not make them again.\n\n"
        "  list           what is kept, least recently used first\n"
        "  dir            where\n"
        "  warm FILE...   translate programs and libraries ahead of their first run\n"
        "  clear          remove all; with WORDs, what was kept of files with one in their "
        "names\n\n"
        "  --cache DIR    another directory (DRAGOMAN_CACHE, else XDG_CACHE_HOME/dragoman)\n"
        "  --cpu NAME     warm: for this guest CPU model\n"
        "  -j N           warm: N files at a time (as many as there are CPUs)\n\n"
        "Try:\n"
        "  dragoman cache warm ROOT/usr/bin/python3 ROOT/lib/aarch64-linux-gnu/libc.so.6\n"
        "  dragoman cache list\n");
}

// ---- list and clear ----

typedef struct Listing {
    uint64_t files, blocks, bytes;
    char **words; // clear: NULL-terminated; none: all
    bool clear;
} Listing;

static void print_size(uint64_t bytes) {
    if (bytes < 10 << 20)
        printf("%8.0f kB", (double)bytes / 1024);
    else
        printf("%8.1f MB", (double)bytes / (1 << 20));
}

static bool list_one(void *ctx, const dgm_cache_entry *e) {
    Listing *l = ctx;
    char used[32] = "?";
    time_t t = (time_t)e->used;
    struct tm tm;
    if (localtime_r(&t, &tm)) strftime(used, sizeof used, "%Y-%m-%d %H:%M", &tm);
    l->files++;
    l->blocks += e->blocks;
    l->bytes += e->bytes;
    printf("%s ", used);
    print_size(e->bytes);
    printf(" %8llu  %s%s\n", (unsigned long long)e->blocks,
           e->guest_file ? e->guest_file : "(damaged)",
           e->guest_file && !e->current ? " (by another build)" : "");
    return true;
}

static bool clear_one(void *ctx, const dgm_cache_entry *e) {
    Listing *l = ctx;
    bool chosen = !l->words[0];
    for (char **w = l->words; *w; w++) chosen |= e->guest_file && strstr(e->guest_file, *w);
    if (!chosen) return true;
    l->files++;
    l->bytes += e->bytes;
    return false;
}

static int list_or_clear(const char *dir, Listing *l) {
    char why[512] = "";
    if (!l->clear) printf("last use                size   blocks  file\n");
    int e = dgm_cache_each(dir, l->clear ? clear_one : list_one, l, why, sizeof why);
    if (e && e != -ENOENT) {
        complain("%s", why);
        return 1;
    }
    printf("%s%llu file%s, ", l->clear ? "removed " : "", (unsigned long long)l->files,
           l->files == 1 ? "" : "s");
    if (!l->clear) printf("%llu blocks, ", (unsigned long long)l->blocks);
    printf("%.1f MB%s%s\n", (double)l->bytes / (1 << 20), l->clear ? "" : " in ",
           l->clear ? "" : dir);
    return 0;
}

// ---- warm ----

typedef struct Progress {
    const char *name;
    bool show;
    int last;
} Progress;

static void progress(void *ctx, uint64_t done, uint64_t all) {
    enum { WIDTH = 30 };
    Progress *p = ctx;
    int percent = all ? (int)(done * 100 / all) : 100;
    if (!p->show || percent == p->last) return;
    p->last = percent;
    static const char bar[WIDTH + 1] = "##############################";
    fprintf(stderr, "\r[%-*.*s] %3d%% %.40s\033[K", WIDTH, percent * WIDTH / 100, bar, percent,
            p->name);
    if (percent == 100) fprintf(stderr, "\r\033[K");
}

// In a process of its own: its exit status.
static int warm_one(const dgm_options *opt, const char *path, bool show) {
    const char *slash = strrchr(path, '/');
    Progress p = {.name = slash ? slash + 1 : path, .show = show, .last = -1};
    dgm_cache_warmed w;
    char why[512];
    int e = dgm_cache_warm(opt, path, progress, &p, &w, why, sizeof why);
    if (e) {
        complain("%s", why);
        return e == -ENOENT ? EXIT_NOT_FOUND : EXIT_NOT_EXECUTABLE;
    }
    printf("%s: %llu entry points, %llu blocks translated (%llu instructions), %llu were kept\n",
           path, (unsigned long long)w.entry_points, (unsigned long long)w.blocks,
           (unsigned long long)w.instructions, (unsigned long long)w.loaded);
    fflush(stdout);
    return 0;
}

static int reap(int *running) {
    int status;
    if (wait(&status) < 0) return 1;
    --*running;
    return WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_SIGNALLED + WTERMSIG(status);
}

static int warm(const dgm_options *opt, char **files, int n, long jobs) {
    bool tty = isatty(STDERR_FILENO);
    int running = 0, result = 0, status;
    for (int i = 0; i < n; i++) {
        if (running == jobs && (status = reap(&running))) result = status;
        fflush(stdout);
        pid_t pid = fork();
        if (!pid) _exit(warm_one(opt, files[i], tty));
        if (pid < 0) {
            complain("%s: %s", files[i], strerror(errno));
            return EXIT_NOT_EXECUTABLE;
        }
        running++;
    }
    while (running)
        if ((status = reap(&running))) result = status;
    return result;
}

// ---- the command ----

int cmd_cache(int argc, char **argv) {
    char dir[PATH_MAX];
    dgm_options opt = dgm_options_default();
    if (cache_default_dir(dir, sizeof dir)) opt.cache = dir;
    long jobs = sysconf(_SC_NPROCESSORS_ONLN);
    int i = 1;
    for (; i < argc && argv[i][0] == '-'; i++) {
        const char *arg = i + 1 < argc ? argv[i + 1] : NULL;
        if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
            help(stdout);
            return 0;
        }
        if (strcmp(argv[i], "--cache") && strcmp(argv[i], "--cpu") && strcmp(argv[i], "-j")) {
            complain("cache %s: no such option; see 'dragoman cache --help'", argv[i]);
            return EXIT_USAGE;
        }
        if (!arg) {
            complain("cache %s: needs an argument", argv[i]);
            return EXIT_USAGE;
        }
        if (!strcmp(argv[i], "--cache")) opt.cache = arg;
        if (!strcmp(argv[i], "--cpu")) opt.cpu = arg;
        if (!strcmp(argv[i++], "-j") && ((jobs = atol(arg)) < 1 || jobs > 1024)) {
            complain("cache -j %s: expected a number of processes", arg);
            return EXIT_USAGE;
        }
    }
    const char *what = i < argc ? argv[i++] : NULL;
    if (!what) {
        help(stderr);
        return EXIT_USAGE;
    }
    if (!opt.cache) {
        complain(
            "cache: nothing is kept: neither XDG_CACHE_HOME nor HOME says where; give --cache");
        return EXIT_USAGE;
    }
    if (!strcmp(what, "dir")) return puts(opt.cache), 0;
    Listing l = {.words = argv + i, .clear = !strcmp(what, "clear")};
    if (l.clear || !strcmp(what, "list")) return list_or_clear(opt.cache, &l);
    if (!strcmp(what, "warm") && i < argc) return warm(&opt, argv + i, argc - i, jobs);
    if (!strcmp(what, "warm")) {
        complain("cache warm: no file given");
        return EXIT_USAGE;
    }
    static const char *const words[] = {"list", "dir", "warm", "clear", NULL};
    const char *near = nearest(what, words);
    complain("cache %s: no such thing to do%s%s%s", what, near ? "; did you mean '" : "",
             near ? near : "", near ? "'?" : "; see 'dragoman cache --help'");
    return EXIT_USAGE;
}
