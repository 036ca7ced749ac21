// path.c - guest paths to host paths.
//
// Three worlds. Neither -L nor --rootfs: a path is a path. -L DIR (qemu's habit): an absolute path
// that exists under DIR is taken from there. --rootfs DIR: DIR is the guest's "/"; every path is
// resolved here, component by component, so that "..", absolute and relative symbolic links can
// never leave it; /proc, /sys and /dev are the host's, with /proc/PID/root, cwd and exe shown as
// the guest sees them.
#include "linux/syscall.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_LINKS = 40 };

static bool below(const char *path, const char *dir) {
    size_t n = strlen(dir);
    return !strncmp(path, dir, n) && (path[n] == 0 || path[n] == '/');
}

// The host's own trees that a rootfs shows through.
static bool shows_through(const char *guest) {
    return below(guest, "/proc") || below(guest, "/sys") || below(guest, "/dev");
}

static int host_of(const LinuxProcess *p, const char *guest, char *out) {
    int n = shows_through(guest) ? snprintf(out, PATH_MAX, "%s", guest)
                                 : snprintf(out, PATH_MAX, "%s%s", p->rootfs, guest);
    return n < PATH_MAX ? 0 : -ENAMETOOLONG;
}

int path_guest(LinuxProcess *p, const char *host, char out[PATH_MAX]) {
    const char *guest = host;
    if (p->rootfs && below(host, p->rootfs)) guest = host + strlen(p->rootfs);
    snprintf(out, PATH_MAX, "%s", *guest ? guest : "/");
    return 0;
}

// The guest directory that relative paths start from.
static int start_dir(LinuxProcess *p, int dirfd, char out[PATH_MAX]) {
    char link[64], host[PATH_MAX];
    if (dirfd == AT_FDCWD)
        snprintf(link, sizeof link, "/proc/self/cwd");
    else
        snprintf(link, sizeof link, "/proc/self/fd/%d", dirfd);
    ssize_t n = readlink(link, host, sizeof host - 1);
    if (n < 0) return dirfd == AT_FDCWD ? -ENOENT : -EBADF;
    host[n] = 0;
    if (host[0] != '/') return -ENOTDIR;
    return path_guest(p, host, out);
}

// Links of /proc/PID whose targets are the host's, as the guest sees them. "" when at is none.
static int proc_target(LinuxProcess *p, const char *at, char out[PATH_MAX]) {
    int used = 0;
    char pid[32], what[16];
    out[0] = 0;
    if (sscanf(at, "/proc/%31[a-z0-9-]/%15[a-z]%n", pid, what, &used) != 2 || at[used]) {
        used = 0;
        if (sscanf(at, "/proc/%31[a-z0-9-]/task/%*[0-9]/%15[a-z]%n", pid, what, &used) != 2 ||
            at[used])
            return 0;
    }
    if (!strcmp(what, "root")) return snprintf(out, PATH_MAX, "/"), 0;
    if (!strcmp(what, "exe") &&
        (!strcmp(pid, "self") || !strcmp(pid, "thread-self") || atoi(pid) == getpid()))
        return snprintf(out, PATH_MAX, "%s", p->exe_guest), 0;
    if (strcmp(what, "cwd")) return 0;
    char host[PATH_MAX];
    ssize_t n = readlink(at, host, sizeof host - 1);
    if (n < 0) return -errno;
    host[n] = 0;
    return path_guest(p, host, out);
}

// Where the component at `at` (no "..") leads if it is a link that is to be followed: target in
// `out`, else "".
static int link_target(LinuxProcess *p, const char *at, char out[PATH_MAX]) {
    char host[PATH_MAX];
    int e = 0;
    out[0] = 0;
    if (below(at, "/proc") && ((e = proc_target(p, at, out)) || out[0])) return e;
    if (below(at, "/proc")) {
        // /proc/PID/fd/N and the like are no names; /proc/self and /proc/mounts are
        if (strcmp(at, "/proc/self") && strcmp(at, "/proc/thread-self") &&
            strcmp(at, "/proc/mounts") && strcmp(at, "/proc/net"))
            return 0;
    }
    if ((e = host_of(p, at, host))) return e;
    ssize_t n = readlink(host, out, PATH_MAX - 1);
    out[n < 0 ? 0 : n] = 0;
    return 0;
}

// What the kernel asks before it goes to a parent: "none/.." is ENOENT, "file/.." ENOTDIR.
static int check_dir(const LinuxProcess *p, const char *guest) {
    char host[PATH_MAX];
    struct stat st;
    int e = host_of(p, *guest ? guest : "/", host);
    if (e) return e;
    if (stat(host, &st)) return -errno;
    return S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
}

// Resolves an absolute guest path to one without links, "." and "..". Components that do not exist
// stay. *tail is what said at the end that a directory is meant, for the kernel to see: "/", "/."
// or nothing.
static int resolve(LinuxProcess *p, const char *path, unsigned how, char out[PATH_MAX],
                   const char **tail) {
    char rest[2 * PATH_MAX], target[PATH_MAX];
    size_t len = 0; // of out
    unsigned links = 0;
    bool is_dir = true; // out is known to be one
    if (snprintf(rest, sizeof rest, "%s", path) >= PATH_MAX) return -ENAMETOOLONG;
    out[0] = 0;
    *tail = "";
    for (char *at = rest;;) {
        while (*at == '/') at++;
        if (!*at) break;
        size_t n = strcspn(at, "/");
        bool last = !at[n + strspn(at + n, "/")], slash = at[n] == '/';
        if (n == 1 && at[0] == '.') {
            *tail = "/.";
            at += n;
            continue;
        }
        *tail = slash ? "/" : "";
        if (n == 2 && at[0] == '.' && at[1] == '.') {
            int e = is_dir ? 0 : check_dir(p, out);
            if (e) return e;
            is_dir = true;
            while (len && out[len - 1] != '/') len--;
            out[len ? --len : 0] = 0;
            at += n;
            continue;
        }
        if (len + n + 2 > PATH_MAX) return -ENAMETOOLONG;
        size_t before = len;
        out[len++] = '/';
        memcpy(out + len, at, n);
        out[len += n] = 0;
        at += n;
        is_dir = false;
        if (last && (how & PATH_NOFOLLOW) && !slash) break;
        int e = link_target(p, out, target);
        if (e) return e;
        if (!target[0]) continue;
        if (++links > MAX_LINKS) return -ELOOP;
        char joined[2 * PATH_MAX];
        if (snprintf(joined, sizeof joined, "%s%s", target, at) >= PATH_MAX) return -ENAMETOOLONG;
        memcpy(rest, joined, strlen(joined) + 1);
        at = rest;
        len = target[0] == '/' ? 0 : before;
        out[len] = 0;
    }
    if (!len) {
        memcpy(out, "/", 2);
        *tail = "";
    }
    return 0;
}

static int rootfs_path(LinuxProcess *p, int dirfd, const char *path, unsigned how,
                       char out[PATH_MAX]) {
    char whole[2 * PATH_MAX], guest[PATH_MAX], start[PATH_MAX];
    const char *tail;
    int e;
    if (path[0] == '/') {
        snprintf(whole, sizeof whole, "%s", path);
    } else {
        if ((e = start_dir(p, dirfd, start))) return e;
        snprintf(whole, sizeof whole, "%s/%s", start, path);
    }
    if ((e = resolve(p, whole, how, guest, &tail))) return e;
    if ((e = host_of(p, guest, out))) return e;
    size_t n = strlen(out);
    if (n + strlen(tail) >= PATH_MAX) return -ENAMETOOLONG;
    strcpy(out + n, tail);
    return 0;
}

static int sysroot_path(LinuxProcess *p, const char *path, char out[PATH_MAX]) {
    if (path[0] == '/' && !shows_through(path) &&
        snprintf(out, PATH_MAX, "%s%s", p->sysroot, path) < PATH_MAX &&
        !faccessat(AT_FDCWD, out, F_OK, AT_SYMLINK_NOFOLLOW))
        return 0;
    return snprintf(out, PATH_MAX, "%s", path) < PATH_MAX ? 0 : -ENAMETOOLONG;
}

int path_host(LinuxProcess *p, int guest_dirfd, const char *path, unsigned flags,
              char out[PATH_MAX]) {
    if (!path[0]) {
        out[0] = 0;
        return flags & PATH_EMPTY ? 0 : -ENOENT;
    }
    if (p->rootfs) return rootfs_path(p, guest_dirfd, path, flags, out);
    if (p->sysroot && !(flags & PATH_CREATE)) return sysroot_path(p, path, out);
    return snprintf(out, PATH_MAX, "%s", path) < PATH_MAX ? 0 : -ENAMETOOLONG;
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
