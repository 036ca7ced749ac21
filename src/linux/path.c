// path.c - guest paths to host paths.
//
// Three worlds. Neither -L nor --rootfs nor --bind: a path is a path. -L DIR (qemu's habit): an
// absolute path that exists under DIR is taken from there. With binds (binds.c; --rootfs is one):
// every path is resolved here, component by component, so that "..", absolute and relative symbolic
// links can never leave the guest's root. What goes to the kernel then has no link left in it,
// except a last component that is not to be followed, and the links of /proc that are no paths
// (/proc/self/fd/3: a pipe), which are left to the kernel only where they cannot lead outside.
//
// A name relative to a directory is passed as it is when it is one component that is no link and
// means nothing special, which spares most of the cost (find, tar, rm -r).
#include "linux/syscall.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_LINKS = 40 };

bool path_of_fd(int fd, char out[PATH_MAX]) {
    char link[64];
    if (fd == AT_FDCWD)
        snprintf(link, sizeof link, "/proc/self/cwd");
    else
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, out, PATH_MAX - 1);
    out[MAX(n, 0)] = 0;
    return n > 0;
}

int path_of_dir(LinuxProcess *p, int dirfd, char out[PATH_MAX]) {
    char host[PATH_MAX];
    if (!path_of_fd(dirfd, host)) return dirfd == AT_FDCWD ? -ENOENT : -EBADF;
    if (host[0] != '/') return -ENOTDIR;
    return path_guest(p, host, out);
}

// ---- links of /proc ----

typedef enum LinkKind {
    LINK_NONE,   // not a link, or not to be looked at
    LINK_TARGET, // a path of the guest's
    LINK_MAGIC   // no path: the kernel follows it, when it is the last component
} LinkKind;

// /proc/PID/fd/N of a process: a path only when something comes behind it, or when it is another
// process's, whose files may be outside the root.
static int fd_link(LinuxProcess *p, const char *host, bool own, bool last, char out[PATH_MAX],
                   LinkKind *kind) {
    char target[PATH_MAX];
    ssize_t n = readlink(host, target, sizeof target - 1);
    *kind = LINK_NONE;
    if (n < 0) return 0; // the kernel says why
    target[n] = 0;
    *kind = LINK_MAGIC;
    if (target[0] != '/' || path_below(target, "/memfd:") || !strncmp(target, "/memfd:", 7))
        return 0;
    if (own && last) return 0; // it has it already
    *kind = LINK_TARGET;
    return path_guest(p, target, out);
}

// What the link at `host`, below the host's /proc, is to the guest. 0 or -errno.
static int proc_target(LinuxProcess *p, const char *host, bool last, char out[PATH_MAX],
                       LinkKind *kind) {
    int used = 0;
    char pid[32], what[16];
    *kind = LINK_NONE;
    const char *rest = host + strlen("/proc");
    if (sscanf(rest, "/%31[a-z0-9-]%n", pid, &used) != 1) return 0;
    rest += used;
    bool own = !strcmp(pid, "self") || !strcmp(pid, "thread-self") || atoi(pid) == getpid();
    used = 0;
    if (!strncmp(rest, "/task/", 6) && (sscanf(rest, "/task/%*[0-9]%n", &used), used)) rest += used;
    used = 0;
    if (!own && !isdigit((unsigned char)pid[0])) return 0;
    if (sscanf(rest, "/%15[a-z_]%n", what, &used) != 1) return 0;
    rest += used;
    if (*rest == '/' && (!strcmp(what, "fd") || !strcmp(what, "map_files")))
        return strchr(rest + 1, '/') ? 0 : fd_link(p, host, own, last, out, kind);
    if (*rest) return 0;
    if (strcmp(what, "root") && strcmp(what, "exe") && strcmp(what, "cwd")) return 0;
    *kind = LINK_TARGET;
    if (!strcmp(what, "root")) return snprintf(out, PATH_MAX, "/"), 0;
    if (!strcmp(what, "exe") && own) return path_copy(p->exe_guest, out), 0;
    char target[PATH_MAX];
    if (!strcmp(what, "exe") && proc_guest_exe(pid, target)) return path_guest(p, target, out);
    ssize_t n = readlink(host, target, sizeof target - 1);
    if (n < 0) return -errno;
    target[n] = 0;
    return path_guest(p, target, out);
}

// What the component at the resolved guest path `at` is when it is to be followed.
static int link_target(LinuxProcess *p, const char *at, bool last, char out[PATH_MAX],
                       LinkKind *kind) {
    char host[PATH_MAX];
    int e = binds_host(p, at, host);
    *kind = LINK_NONE;
    if (e) return e;
    if (path_below(host, "/proc")) {
        e = proc_target(p, host, last, out, kind);
        if (e || *kind != LINK_NONE) return e;
        // /proc/PID/ns/net and the like are no names; these are
        if (strcmp(host, "/proc/self") && strcmp(host, "/proc/thread-self") &&
            strcmp(host, "/proc/mounts") && strcmp(host, "/proc/net"))
            return 0;
    }
    for (unsigned i = 0; i < p->n_binds; i++)
        if (!strcmp(p->binds[i].guest, at)) return 0; // what is bound is no link
    ssize_t n = readlink(host, out, PATH_MAX - 1);
    if (n < 0) return 0; // no link, or not there: the kernel says so later
    out[n] = 0;
    *kind = n ? LINK_TARGET : LINK_NONE;
    return 0;
}

// ---- the walk ----

typedef struct Walk {
    LinuxProcess *p;
    unsigned how, links;
    char *out; // PATH_MAX: the path so far, without links; "" is "/"
    size_t len;
    const char *tail; // what said at the end that a directory is meant, for the kernel to see
    char rest[2 * PATH_MAX]; // what is still to be walked
} Walk;

// "..": what is left behind must be a directory.
static int walk_up(Walk *w) {
    char host[PATH_MAX];
    struct stat st;
    int e = binds_host(w->p, w->len ? w->out : "/", host);
    if (e) return e;
    if (lstat(host, &st)) return -errno;
    if (!S_ISDIR(st.st_mode)) return -ENOTDIR;
    while (w->len && w->out[w->len - 1] != '/') w->len--;
    if (w->len) w->len--;
    w->out[w->len] = 0;
    return 0;
}

// One component of n bytes at `at`, with `rest` behind it. *rest moves when a link is followed.
static int walk_name(Walk *w, const char *at, size_t n, char **rest) {
    char target[PATH_MAX], joined[2 * PATH_MAX];
    bool slash = **rest == '/', last = !(*rest)[strspn(*rest, "/")];
    if (n > NAME_MAX || w->len + n + 2 > PATH_MAX) return -ENAMETOOLONG;
    size_t before = w->len;
    w->out[w->len++] = '/';
    memcpy(w->out + w->len, at, n);
    w->out[w->len += n] = 0;
    if (last && (w->how & PATH_NOFOLLOW) && !slash) return 0;
    LinkKind kind;
    int e = link_target(w->p, w->out, last && !slash, target, &kind);
    if (e || kind == LINK_NONE) return e;
    if (w->how & PATH_NO_LINKS || (kind == LINK_MAGIC && w->how & PATH_NO_MAGIC)) return -ELOOP;
    if (kind == LINK_MAGIC) return last ? 0 : -ENOTDIR;
    if (++w->links > MAX_LINKS) return -ELOOP;
    int m = snprintf(joined, sizeof joined, "%s%s", target, *rest);
    if (m >= (int)sizeof joined) return -ENAMETOOLONG;
    memcpy(w->rest, joined, (size_t)m + 1);
    *rest = w->rest;
    w->len = target[0] == '/' ? 0 : before;
    w->out[w->len] = 0;
    return 0;
}

// Resolves w->rest from w->out on.
static int walk(Walk *w) {
    for (char *at = w->rest;;) {
        at += strspn(at, "/");
        if (!*at) break;
        size_t n = strcspn(at, "/");
        char *name = at;
        at += n;
        int e = 0;
        bool dot = n == 1 && name[0] == '.';
        w->tail = dot ? "/." : *at == '/' ? "/" : "";
        if (n == 2 && name[0] == '.' && name[1] == '.')
            e = walk_up(w);
        else if (!dot)
            e = walk_name(w, name, n, &at);
        if (e) return e;
    }
    if (w->len) return 0;
    memcpy(w->out, "/", 2);
    w->tail = "";
    return 0;
}

static int resolve(LinuxProcess *p, int dirfd, const char *path, unsigned how, char out[PATH_MAX],
                   const char **tail) {
    Walk w = {.p = p, .how = how, .out = out, .tail = ""};
    size_t n = strlen(path);
    if (n >= PATH_MAX) return -ENAMETOOLONG;
    out[0] = 0;
    if (path[0] != '/') {
        int e = path_of_dir(p, dirfd, out);
        if (e) return e;
        w.len = strcmp(out, "/") ? strlen(out) : 0;
        out[w.len] = 0;
    }
    memcpy(w.rest, path, n + 1);
    int e = walk(&w);
    *tail = w.tail;
    return e;
}

int path_resolved(LinuxProcess *p, int dirfd, const char *path, unsigned how, char out[PATH_MAX]) {
    const char *tail;
    return resolve(p, dirfd, path, how, out, &tail);
}

// ---- names that need no walk ----

// In /proc/PID these are the guest's and not the host's.
static bool special_in_proc(const char *name) {
    static const char *const names[] = {"exe",     "cwd",     "root",   "maps",
                                        "auxv",    "cmdline", "status", "environ",
                                        "cpuinfo", "smaps",   "self",   "thread-self"};
    for (unsigned i = 0; i < ARRAY_LEN(names); i++)
        if (!strcmp(names[i], name)) return true;
    // descriptors in fd, and lo-hi in map_files
    return !name[strspn(name, "0123456789abcdef-")] && strpbrk(name, "0123456789");
}

static bool plain_name(const LinuxProcess *p, int dirfd, const char *path, unsigned how) {
    if (strchr(path, '/') || !strcmp(path, ".") || !strcmp(path, "..") || special_in_proc(path) ||
        binds_has_name(p, path))
        return false;
    if (how & PATH_NOFOLLOW) return true;
    char none[1];
    return readlinkat(dirfd, path, none, 1) < 0 && (errno == EINVAL || errno == ENOENT);
}

static int bound_path(LinuxProcess *p, int dirfd, const char *path, unsigned how,
                      char out[PATH_MAX]) {
    char guest[PATH_MAX];
    if (plain_name(p, dirfd, path, how)) {
        memcpy(out, path, strlen(path) + 1);
        return 0;
    }
    const char *tail;
    int e = resolve(p, dirfd, path, how, guest, &tail);
    if (!e) e = binds_host(p, guest, out);
    if (e) return e;
    size_t n = strlen(out);
    if (n + strlen(tail) >= PATH_MAX) return -ENAMETOOLONG;
    memcpy(out + n, tail, strlen(tail) + 1);
    return 0;
}

// The host's own trees, which -L does not hide.
static bool shows_through(const char *guest) {
    return path_below(guest, "/proc") || path_below(guest, "/sys") || path_below(guest, "/dev");
}

static int sysroot_path(LinuxProcess *p, const char *path, char out[PATH_MAX]) {
    if (path[0] == '/' && !shows_through(path) &&
        snprintf(out, PATH_MAX, "%s%s", p->sysroot, path) < PATH_MAX &&
        !faccessat(AT_FDCWD, out, F_OK, AT_SYMLINK_NOFOLLOW))
        return 0;
    return path_copy(path, out);
}

int path_host(LinuxProcess *p, int guest_dirfd, const char *path, unsigned flags,
              char out[PATH_MAX]) {
    if (!path[0]) {
        out[0] = 0;
        return flags & PATH_EMPTY ? 0 : -ENOENT;
    }
    // -L beside --bind, without --rootfs: what is bound comes first
    bool in_sysroot = p->sysroot && !(p->rootfs && p->rootfs[0]) && !(flags & PATH_CREATE);
    if (p->n_binds && in_sysroot && path[0] == '/' && !binds_cover(p, path) &&
        !sysroot_path(p, path, out) && strcmp(path, out))
        return 0;
    if (p->n_binds) return bound_path(p, guest_dirfd, path, flags, out);
    if (p->sysroot && !(flags & PATH_CREATE)) return sysroot_path(p, path, out);
    return path_copy(path, out);
}

int64_t path_arg(Vcpu *v, int dirfd, uint64_t addr, unsigned how, char *room, uint64_t *out) {
    char guest[PATH_MAX];
    if (!addr) { // some calls take NULL (utimensat); the kernel judges
        *out = 0;
        return 0;
    }
    int64_t n = guest_string(v, addr, guest, sizeof guest);
    if (n < 0) return n;
    int e = path_host(process_of(v), dirfd, guest, how, room);
    *out = (uint64_t)(uintptr_t)room;
    return e;
}
