// exec.c - execve and execveat: the program is looked at in the guest's view first, so that errors
// come before the point of no return; then we exec ourselves anew with it (self_argv), or, where
// no rootfs is set, a program of the host's own.
#include "linux/fake_root.h"
#include "linux/syscall.h"

#include "engine/persist.h"

#include "dragoman/machine.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { EXEC_FD_FROM = 880, MAX_WORDS = 1 << 20, MAX_WORD_BYTES = 128 << 10 };

// A NULL-terminated array of guest strings; NULL as an array is empty. 0 or -errno.
static int64_t read_words(Vcpu *v, uint64_t addr, Arena *arena, char ***out) {
    size_t n = 0, cap = 64;
    char **words = malloc(cap * sizeof *words), *room = malloc(MAX_WORD_BYTES);
    int64_t e = words && room ? 0 : -ENOMEM;
    while (!e) {
        uint64_t at = 0;
        if (addr && !guest_read(v, addr + n * 8, &at, 8)) e = -EFAULT;
        if (e || !at) break;
        int64_t len = guest_string(v, at, room, MAX_WORD_BYTES);
        if (len < 0 || n == MAX_WORDS) {
            e = len == -EFAULT ? -EFAULT : -E2BIG;
            break;
        }
        if (n + 1 == cap) {
            char **more = realloc(words, (cap *= 2) * sizeof *words);
            if (!more) {
                e = -ENOMEM;
                break;
            }
            words = more;
        }
        words[n] = arena_alloc(arena, (size_t)len + 1);
        if (!words[n]) {
            e = -ENOMEM;
            break;
        }
        memcpy(words[n++], room, (size_t)len + 1);
    }
    free(room);
    if (e) {
        free(words);
        return e;
    }
    words[n] = NULL;
    *out = words;
    return 0;
}

// The host mask during a host execve is the guest's whole mask; handlers vanish there by
// themselves.
static int64_t host_exec(LinuxThread *t, const char *path, char *const *argv, char *const *envp) {
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &t->sigmask, NULL, sizeof t->sigmask);
    int64_t r = LINUX_RESTART_ALWAYS;
    if (!t->p->vforked) persist_save(t->p->m);
    if (t->p->m->watches && !t->p->vforked) observe_finish(t->p->m->watches, t->v->state, false);
    if (!signals_pending(t) && execve(path, argv, envp)) r = -errno;
    thread_set_sigmask(t, t->sigmask);
    return r;
}

// What the host's loader and C library would take for theirs (LD_PRELOAD with a guest's library)
// reaches the guest's next program under another name, which the command undoes (cli/run.c).
static bool hide_env(char **envp, Arena *a) {
    static const char *const prefixes[] = {"LD_",      "GLIBC_TUNABLES=", "MALLOC_",
                                           "LOCPATH=", "GCONV_PATH=",     DGM_HIDDEN_ENV};
    for (char **e = envp; *e; e++)
        for (unsigned i = 0; i < ARRAY_LEN(prefixes); i++)
            if (!strncmp(*e, prefixes[i], strlen(prefixes[i]))) {
                *e = arena_printf(a, "%s%s", DGM_HIDDEN_ENV, *e);
                if (!*e) return false;
                break;
            }
    return true;
}

// All that an execve works with. Hangs off the thread, for a vfork child that succeeds leaves it to
// its parent, in whose memory it lies.
typedef struct Exec {
    Arena words;
    char **argv, **envp, **host_argv;
    Program program;
} Exec;

void exec_free(LinuxThread *t) {
    Exec *x = t->exec;
    t->exec = NULL;
    if (!x) return;
    free(x->argv);
    free(x->envp);
    free(x->host_argv);
    arena_free(&x->program.words);
    free(x->program.argv);
    arena_free(&x->words);
    free(x);
}

static bool words_until(char *const *words, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (!words[i]) return false;
    return true;
}

// dragoman run OPTIONS [--fake-root-state STATE] -0 ARGV0 -- PROGRAM ARGS
static int64_t exec_guest(LinuxThread *t, Exec *x) {
    LinuxProcess *p = t->p;
    const Program *g = &x->program;
    size_t n_self = 0, argc = 0, n = 0;
    while (p->self_argv[n_self]) n_self++;
    while (g->argv[argc]) argc++;
    char **argv = x->host_argv = calloc(n_self + argc + 15, sizeof *argv);
    if (!argv || !hide_env(x->envp, &x->words)) return -ENOMEM;
    for (size_t i = 0; i < n_self; i++) argv[n++] = p->self_argv[i];
    if (p->fake) {
        argv[n++] = (char *)"--fake-root-state";
        if (!(argv[n++] = fake_root_state(p->fake, &x->words))) return -ENOMEM;
    }
    // a program without a name (memfd_create) is handed on as a descriptor
    bool nameless = !strncmp(g->host_path, "/proc/self/fd/", strlen("/proc/self/fd/"));
    int fd = nameless ? fd_out_of_the_way(g->fd, EXEC_FD_FROM) : -1;
    if (nameless) {
        if (fd < 0) return -EMFILE;
        argv[n++] = (char *)"--program-fd";
        if (!(argv[n++] = arena_printf(&x->words, "%d", fd))) return -ENOMEM;
    }
    if (p->chroot) {
        argv[n++] = (char *)"--chroot";
        argv[n++] = p->chroot;
    }
    const struct GuestLimit *as = &p->limits[LIMIT_AS];
    if (as->soft != UINT64_MAX || as->hard != UINT64_MAX) {
        argv[n++] = (char *)"--limit-as";
        argv[n++] = arena_printf(&x->words, "%lu,%lu", as->soft, as->hard);
    }
    int filters = t->seccomp ? seccomp_hand_on(t) : -1;
    if (t->seccomp) {
        argv[n++] = (char *)"--seccomp-fd";
        argv[n++] = arena_printf(&x->words, "%d", filters);
    }
    argv[n++] = (char *)"-0";
    argv[n++] = g->argv[0];
    argv[n++] = (char *)"--";
    argv[n++] = fd >= 0 ? arena_printf(&x->words, "/proc/self/fd/%d", fd)
                        : (char *)(p->n_binds ? g->guest_path : g->host_path);
    for (size_t i = 1; i < argc; i++) argv[n++] = g->argv[i];
    // a NULL among them is a word for which there was no memory
    bool ok = words_until(argv, n) && !(t->seccomp && filters < 0);
    int64_t r = ok ? host_exec(t, p->self_argv[0], argv, x->envp) : -ENOMEM;
    if (fd >= 0) close(fd);
    if (filters >= 0) close(filters);
    return r;
}

static int64_t exec(LinuxThread *t, const char *path, Exec *x) {
    LinuxProcess *p = t->p;
    Program *g = &x->program;
    DgmErr err;
    int64_t r = program_open(p, path, false, x->argv, g, &err);
    if (p->m->watches && (!r || r == -ENOEXEC))
        observe_exec(p->m->watches, t->v->state, path, x->argv);
    if (!r) {
        r = p->self_argv ? exec_guest(t, x) : -ENOEXEC;
        close(g->fd);
    } else if (r == -ENOEXEC && !(p->rootfs && p->rootfs[0])) {
        // perhaps the host's own program, or a script for one
        r = path_host(p, AT_FDCWD, path, 0, g->host_path);
        if (!r) r = host_exec(t, g->host_path, x->argv, x->envp);
    }
    return r;
}

static int64_t exec_words(Vcpu *v, const char *path, uint64_t argv_at, uint64_t envp_at) {
    LinuxThread *t = thread_of(v);
    Exec *x = t->exec = calloc(1, sizeof *x);
    if (!x) return -ENOMEM;
    int64_t r = read_words(v, argv_at, &x->words, &x->argv);
    if (!r) r = read_words(v, envp_at, &x->words, &x->envp);
    const char *self = proc_link(v, path); // /proc/self/exe is the guest's program, not us
    if (!r) r = exec(t, self ? self : path, x);
    exec_free(t);
    return r;
}

int64_t sys_execve(Vcpu *v, const uint64_t a[6]) {
    char path[PATH_MAX];
    int64_t n = guest_string(v, a[0], path, sizeof path);
    if (n < 0) return n;
    return n ? exec_words(v, path, a[1], a[2]) : -ENOENT;
}

int64_t sys_execveat(Vcpu *v, const uint64_t a[6]) {
    char name[PATH_MAX], dir[PATH_MAX], guest[PATH_MAX], link[64];
    int64_t n = guest_string(v, a[1], name, sizeof name);
    int flags = (int)a[4];
    if (n < 0) return n;
    if (flags & ~(AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW)) return -EINVAL;
    if (!n && !(flags & AT_EMPTY_PATH)) return -ENOENT;
    char host[PATH_MAX];
    if (flags & AT_SYMLINK_NOFOLLOW && n) {
        int e = path_host(process_of(v), (int)a[0], name, PATH_NOFOLLOW, host);
        if (e) return e;
        if (readlinkat(name[0] == '/' ? AT_FDCWD : (int)a[0], host, dir, sizeof dir) >= 0)
            return -ELOOP;
    }
    if (name[0] == '/' || ((int)a[0] == AT_FDCWD && n)) return exec_words(v, name, a[2], a[3]);
    if ((int)a[0] == AT_FDCWD) return -EACCES; // the current directory itself
    snprintf(link, sizeof link, "/proc/self/fd/%d", (int)a[0]);
    struct stat named, meant;
    if (fstat((int)a[0], &meant)) return -EBADF;
    // without a name, or with one that is another file's by now
    if (!n && (!realpath(link, dir) || stat(dir, &named) || named.st_ino != meant.st_ino ||
               named.st_dev != meant.st_dev))
        return exec_words(v, link, a[2], a[3]);
    if (!path_of_fd((int)a[0], dir)) return -EBADF;
    int e = path_guest(process_of(v), dir, guest);
    if (e) return e;
    bool root = !strcmp(guest, "/");
    if (n &&
        snprintf(host, sizeof host, "%.*s/%s", PATH_MAX - 2, root ? "" : guest, name) >= PATH_MAX)
        return -ENAMETOOLONG;
    return exec_words(v, n ? host : guest, a[2], a[3]);
}
