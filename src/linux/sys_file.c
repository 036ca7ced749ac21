// sys_file.c - file calls whose flags or structures differ between guest and host, and those that
// must not see or touch Dragoman's own files.
#include "linux/fake_root.h"
#include "linux/syscall.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/openat2.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

// ---- open flags: four bits have other places in generic Linux (arm64) than on x86-64 ----

typedef struct OpenFlag {
    uint32_t guest, host;
} OpenFlag;
static const OpenFlag open_flags[] = {{040000, O_DIRECTORY},
                                      {0100000, O_NOFOLLOW},
                                      {0200000, O_DIRECT},
                                      {0400000, 0100000 /* O_LARGEFILE */}};
enum { MOVED_GUEST_FLAGS = 0740000, G_O_NOFOLLOW = 0100000 };

static uint64_t flags_to_host(uint64_t guest) {
    uint64_t host = guest & ~(uint64_t)MOVED_GUEST_FLAGS;
    for (unsigned i = 0; i < ARRAY_LEN(open_flags); i++)
        if (guest & open_flags[i].guest) host |= open_flags[i].host;
    return host;
}

static uint64_t flags_to_guest(uint64_t host) {
    uint64_t guest = host;
    for (unsigned i = 0; i < ARRAY_LEN(open_flags); i++) guest &= ~(uint64_t)open_flags[i].host;
    for (unsigned i = 0; i < ARRAY_LEN(open_flags); i++)
        if (host & open_flags[i].host) guest |= open_flags[i].guest;
    return guest;
}

bool fd_is_ours(Vcpu *v, int fd) {
    const LinuxProcess *p = process_of(v);
    return fd > 2 && (fd == v->m->log.fd || (p->fake && fd == p->fake->fd));
}

// Where the path of an open is on the host, in `host`; *name is what to pass on.
static int64_t open_name(Vcpu *v, int dirfd, uint64_t path, uint64_t flags, char *host,
                         uint64_t *name) {
    LinuxProcess *p = process_of(v);
    char guest[PATH_MAX];
    int64_t e = guest_string(v, path, guest, sizeof guest);
    if (e < 0) return e;
    unsigned how = (flags & G_O_NOFOLLOW ? PATH_NOFOLLOW : 0) | (flags & O_CREAT ? PATH_CREATE : 0);
    if ((flags & (O_CREAT | O_EXCL)) == (O_CREAT | O_EXCL)) how |= PATH_NOFOLLOW;
    // under -L an existing file is opened there
    if (p->sysroot && !p->n_binds) how &= ~(unsigned)PATH_CREATE;
    *name = path;
    if ((e = path_host(p, dirfd, guest, how, host))) return e;
    if (paths_translated(p)) *name = (uint64_t)(uintptr_t)host;
    return 0;
}

int64_t sys_openat(Vcpu *v, const uint64_t a[6]) {
    char host[PATH_MAX];
    uint64_t name, flags = flags_to_host(a[2]);
    int64_t e = open_name(v, (int)a[0], a[1], a[2], host, &name);
    if (e) return e;
    if (path_below(host, "/proc") && (e = proc_open(v, host, (int)flags)) != -ENOENT) return e;
    int64_t fd = safe_syscall(v, SYS_openat, a[0], name, flags, a[3], 0, 0);
    process_of(v)->opened = (int)fd;
    return fd;
}

// openat2 under a root. What bounds the path by its directory (BENEATH, IN_ROOT) the kernel does
// itself, exactly; it then sees the files below that directory as they are in the host, without
// what is bound there.
static int64_t open2_bound(Vcpu *v, const uint64_t a[6], struct open_how *how, uint64_t flags) {
    LinuxProcess *p = process_of(v);
    char guest[PATH_MAX], host[PATH_MAX], start[PATH_MAX];
    int64_t e = guest_string(v, a[1], guest, sizeof guest);
    if (e < 0) return e;
    if (how->resolve & (RESOLVE_BENEATH | RESOLVE_IN_ROOT)) {
        if (guest[0] == '/' && how->resolve & RESOLVE_BENEATH) return -EXDEV;
        if ((e = path_of_dir(p, (int)a[0], start))) return e;
        return safe_syscall(v, SYS_openat2, a[0], a[1], (uint64_t)(uintptr_t)how, sizeof *how, 0,
                            0);
    }
    if (how->resolve & RESOLVE_CACHED) return -EAGAIN; // as the kernel may always say
    unsigned way = (flags & G_O_NOFOLLOW ? PATH_NOFOLLOW : 0) | (flags & O_CREAT ? PATH_CREATE : 0);
    if (how->resolve & RESOLVE_NO_SYMLINKS) way |= PATH_NO_LINKS;
    if (how->resolve & RESOLVE_NO_MAGICLINKS) way |= PATH_NO_MAGIC;
    if ((e = path_resolved(p, (int)a[0], guest, way, start))) return e;
    if ((e = binds_host(p, start, host))) return e;
    uint64_t name = (uint64_t)(uintptr_t)host;
    if (how->resolve & RESOLVE_NO_XDEV) {
        struct stat from, to;
        char parent[PATH_MAX];
        memcpy(parent, host, sizeof parent);
        char *slash = strrchr(parent, '/');
        if (slash > parent) *slash = 0;
        bool absolute = guest[0] == '/';
        if (absolute ? stat(p->rootfs, &from) : fstatat((int)a[0], "", &from, AT_EMPTY_PATH))
            return -errno;
        if (stat(host, &to) && stat(parent, &to)) return -errno;
        if (from.st_dev != to.st_dev) return -EXDEV;
    }
    how->resolve = 0; // done
    return safe_syscall(v, SYS_openat2, a[0], name, (uint64_t)(uintptr_t)how, sizeof *how, 0, 0);
}

int64_t sys_openat2(Vcpu *v, const uint64_t a[6]) {
    enum {
        RESOLVE_ALL = RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS |
                      RESOLVE_BENEATH | RESOLVE_IN_ROOT | RESOLVE_CACHED
    };
    struct open_how how;
    char rest[256];
    if (a[3] < sizeof how) return -EINVAL;
    if (a[3] > SPACE_PAGE) return -E2BIG;
    if (!guest_read(v, a[2], &how, sizeof how)) return -EFAULT;
    for (uint64_t at = sizeof how; at < a[3];) { // a later kernel's fields must be zero
        size_t n = MIN(a[3] - at, sizeof rest);
        if (!guest_read(v, a[2] + at, rest, n)) return -EFAULT;
        for (size_t i = 0; i < n; i++)
            if (rest[i]) return -E2BIG;
        at += n;
    }
    uint64_t flags = how.flags;
    if (how.resolve & ~(uint64_t)RESOLVE_ALL) return -EINVAL;
    how.flags = flags_to_host(flags);
    if (process_of(v)->n_binds) return open2_bound(v, a, &how, flags);
    char host[PATH_MAX];
    uint64_t name = a[1];
    if (!how.resolve && paths_translated(process_of(v))) {
        int64_t e =
            path_arg(v, (int)a[0], a[1], flags & G_O_NOFOLLOW ? PATH_NOFOLLOW : 0, host, &name);
        if (e) return e;
    }
    return safe_syscall(v, SYS_openat2, a[0], name, (uint64_t)(uintptr_t)&how, sizeof how, 0, 0);
}

int fd_out_of_the_way(int fd, int from) {
    int high = fcntl(fd, F_DUPFD, from);
    return high < 0 && errno == EINVAL ? fcntl(fd, F_DUPFD, 3) : high; // a low RLIMIT_NOFILE
}

int64_t sys_close(Vcpu *v, const uint64_t a[6]) {
    if (fd_is_ours(v, (int)a[0])) return -EBADF;
    return safe_syscall(v, SYS_close, a[0], 0, 0, 0, 0, 0);
}

int64_t sys_close_range(Vcpu *v, const uint64_t a[6]) {
    const LinuxProcess *p = process_of(v);
    uint32_t first = (uint32_t)a[0], last = (uint32_t)a[1];
    int ours[] = {v->m->log.fd, p->fake ? p->fake->fd : -1};
    if (first > last) return -EINVAL;
    if (a[2] & CLOSE_RANGE_UNSHARE) hot_stop(v->m); // or it would go on with the old descriptors
    for (;;) {                                      // the next of ours splits the range
        uint32_t stop = UINT32_MAX;
        for (unsigned i = 0; i < ARRAY_LEN(ours); i++)
            if (fd_is_ours(v, ours[i]) && (uint32_t)ours[i] >= first)
                stop = MIN(stop, (uint32_t)ours[i]);
        if (stop > last) return safe_syscall(v, SYS_close_range, first, last, a[2], 0, 0, 0);
        if (stop > first) {
            int64_t r = safe_syscall(v, SYS_close_range, first, stop - 1, a[2], 0, 0, 0);
            if (r < 0) return r;
        }
        if (stop == last) return 0;
        first = stop + 1;
    }
}

int64_t sys_dup3(Vcpu *v, const uint64_t a[6]) {
    if (fd_is_ours(v, (int)a[1])) return -EBUSY;
    return safe_syscall(v, SYS_dup3, a[0], a[1], a[2], 0, 0, 0);
}

int64_t sys_fcntl(Vcpu *v, const uint64_t a[6]) {
    if (fd_is_ours(v, (int)a[0])) return -EBADF;
    uint64_t arg = a[1] == F_SETFL ? flags_to_host(a[2]) : a[2];
    int64_t r = safe_syscall(v, SYS_fcntl, a[0], a[1], arg, 0, 0, 0);
    return a[1] == F_GETFL && r >= 0 ? (int64_t)flags_to_guest((uint64_t)r) : r;
}

// ---- names ----

int64_t sys_getcwd(Vcpu *v, const uint64_t a[6]) {
    char host[PATH_MAX], guest[PATH_MAX];
    int64_t n = safe_syscall(v, SYS_getcwd, (uint64_t)(uintptr_t)host, sizeof host, 0, 0, 0, 0);
    if (n < 0) return n;
    path_guest(process_of(v), host, guest);
    n = (int64_t)strlen(guest) + 1;
    if ((uint64_t)n > a[1]) return -ERANGE;
    return guest_write(v, a[0], guest, (size_t)n) ? n : -EFAULT;
}

// What /proc says of open files, directories and programs is the host's path; in `target` (of n
// bytes, or -errno) it becomes the guest's.
static int64_t proc_readlink(Vcpu *v, const char *host, char target[PATH_MAX], int64_t n) {
    LinuxProcess *p = process_of(v);
    char shown[PATH_MAX], pid[32];
    int used = 0;
    const char *own = proc_link(v, host);
    if (own) {
        path_copy(own, target);
        return (int64_t)strlen(target);
    }
    if (n < 0) return n;
    target[n] = 0;
    if (sscanf(host, "/proc/%31[0-9]%n", pid, &used) == 1) {
        if (!strcmp(host + used, "/exe") && proc_guest_exe(pid, shown)) strcpy(target, shown);
        if (!strcmp(host + used, "/root") && p->n_binds) strcpy(target, "/");
    }
    if (target[0] == '/') {
        path_guest(p, target, shown);
        strcpy(target, shown);
    }
    return (int64_t)strlen(target);
}

int64_t sys_readlinkat(Vcpu *v, const uint64_t a[6]) {
    char guest[PATH_MAX], host[PATH_MAX], target[PATH_MAX];
    LinuxProcess *p = process_of(v);
    int64_t e = guest_string(v, a[1], guest, sizeof guest);
    if (e < 0) return e;
    if ((int64_t)a[3] <= 0) return -EINVAL;
    if ((e = path_host(p, (int)a[0], guest, PATH_NOFOLLOW | PATH_EMPTY, host))) return e;
    int64_t n = safe_syscall(v, SYS_readlinkat, a[0], (uint64_t)(uintptr_t)host,
                             (uint64_t)(uintptr_t)target, sizeof target - 1, 0, 0);
    if (path_below(host, "/proc")) n = proc_readlink(v, host, target, n);
    if (n < 0) return n;
    n = MIN(n, (int64_t)a[3]);
    return guest_write(v, a[2], target, (size_t)n) ? n : -EFAULT;
}

// The host's root stays where it is, for Dragoman needs it: a chroot is a change of what the guest
// can name, and so needs a root that is translated. As in the kernel, the working directory stays.
int64_t sys_chroot(Vcpu *v, const uint64_t a[6]) {
    LinuxProcess *p = process_of(v);
    char guest[PATH_MAX], resolved[PATH_MAX], host[PATH_MAX];
    struct stat st;
    int64_t e = guest_string(v, a[0], guest, sizeof guest);
    if (e < 0) return e;
    if (!guest[0]) return -ENOENT;
    if (!p->n_binds) return -EPERM;
    if ((e = path_resolved(p, AT_FDCWD, guest, 0, resolved))) return e;
    if ((e = binds_host(p, resolved, host))) return e;
    if (stat(host, &st)) return -errno;
    if (!S_ISDIR(st.st_mode)) return -ENOTDIR;
    if (p->fake ? p->fake->id[ID_USER][ID_EFFECTIVE] : geteuid()) return -EPERM;
    pthread_mutex_lock(&p->signal_lock); // one at a time
    e = binds_chroot(p, resolved);
    pthread_mutex_unlock(&p->signal_lock);
    return e;
}

// ---- stat ----

typedef struct GuestStat { // generic Linux, 64 bits
    uint64_t dev, ino;
    uint32_t mode, nlink, uid, gid;
    uint64_t rdev, pad1;
    int64_t size;
    int32_t blksize, pad2;
    int64_t blocks, atime;
    uint64_t atime_nsec;
    int64_t mtime;
    uint64_t mtime_nsec;
    int64_t ctime;
    uint64_t ctime_nsec;
    uint32_t unused[2];
} GuestStat;

static int64_t give_stat(Vcpu *v, uint64_t addr, const struct stat *s) {
    GuestStat g = {.dev = s->st_dev,
                   .ino = s->st_ino,
                   .mode = s->st_mode,
                   .nlink = (uint32_t)s->st_nlink,
                   .uid = s->st_uid,
                   .gid = s->st_gid,
                   .rdev = s->st_rdev,
                   .size = s->st_size,
                   .blksize = (int32_t)s->st_blksize,
                   .blocks = s->st_blocks,
                   .atime = s->st_atim.tv_sec,
                   .atime_nsec = (uint64_t)s->st_atim.tv_nsec,
                   .mtime = s->st_mtim.tv_sec,
                   .mtime_nsec = (uint64_t)s->st_mtim.tv_nsec,
                   .ctime = s->st_ctim.tv_sec,
                   .ctime_nsec = (uint64_t)s->st_ctim.tv_nsec};
    return guest_write(v, addr, &g, sizeof g) ? 0 : -EFAULT;
}

static struct stat stat_of_facts(const struct statx *x) {
    struct stat s = {.st_dev = makedev(x->stx_dev_major, x->stx_dev_minor),
                     .st_ino = x->stx_ino,
                     .st_mode = x->stx_mode,
                     .st_nlink = x->stx_nlink,
                     .st_uid = x->stx_uid,
                     .st_gid = x->stx_gid,
                     .st_rdev = makedev(x->stx_rdev_major, x->stx_rdev_minor),
                     .st_size = (off_t)x->stx_size,
                     .st_blksize = (blksize_t)x->stx_blksize,
                     .st_blocks = (blkcnt_t)x->stx_blocks,
                     .st_atim = {x->stx_atime.tv_sec, x->stx_atime.tv_nsec},
                     .st_mtim = {x->stx_mtime.tv_sec, x->stx_mtime.tv_nsec},
                     .st_ctim = {x->stx_ctime.tv_sec, x->stx_ctime.tv_nsec}};
    return s;
}

static int64_t host_stat(Vcpu *v, uint64_t dirfd, uint64_t name, uint64_t flags, struct stat *s) {
    if (!process_of(v)->fake)
        return safe_syscall(v, SYS_newfstatat, dirfd, name, (uint64_t)(uintptr_t)s, flags, 0, 0);
    struct statx x;
    int64_t r = file_facts(v, (int)dirfd, name, (int)flags, 0, &x);
    if (!r) *s = stat_of_facts(&x);
    return r;
}

int64_t sys_statx(Vcpu *v, const uint64_t a[6]) { // with --fake-root only
    struct statx x;
    char host[PATH_MAX];
    uint64_t name;
    unsigned how =
        (a[2] & AT_SYMLINK_NOFOLLOW ? PATH_NOFOLLOW : 0) | (a[2] & AT_EMPTY_PATH ? PATH_EMPTY : 0);
    if (a[3] & STATX__RESERVED) return -EINVAL;
    int64_t e = path_arg(v, (int)a[0], a[1], how, host, &name);
    if (!e) e = file_facts(v, (int)a[0], name, (int)a[2], (uint32_t)a[3], &x);
    if (e) return e;
    return guest_write(v, a[4], &x, sizeof x) ? 0 : -EFAULT;
}

int64_t sys_fstat(Vcpu *v, const uint64_t a[6]) {
    struct stat s;
    int64_t r = process_of(v)->fake
                    ? host_stat(v, a[0], (uint64_t)(uintptr_t) "", AT_EMPTY_PATH, &s)
                    : safe_syscall(v, SYS_fstat, a[0], (uint64_t)(uintptr_t)&s, 0, 0, 0, 0);
    return r < 0 ? r : give_stat(v, a[1], &s);
}

int64_t sys_newfstatat(Vcpu *v, const uint64_t a[6]) {
    struct stat s;
    char host[PATH_MAX];
    uint64_t name = a[1];
    if (paths_translated(process_of(v))) {
        unsigned how = (a[3] & AT_SYMLINK_NOFOLLOW ? PATH_NOFOLLOW : 0) |
                       (a[3] & AT_EMPTY_PATH ? PATH_EMPTY : 0);
        int64_t e = path_arg(v, (int)a[0], a[1], how, host, &name);
        if (e) return e;
    }
    int64_t r = host_stat(v, a[0], name, a[3], &s);
    return r < 0 ? r : give_stat(v, a[2], &s);
}

// ---- epoll: the event has padding everywhere but on x86-64 ----

typedef struct GuestEpollEvent {
    uint32_t events, pad;
    uint64_t data;
} GuestEpollEvent;

int64_t sys_epoll_ctl(Vcpu *v, const uint64_t a[6]) {
    GuestEpollEvent g;
    struct epoll_event e = {0};
    bool has_event = a[1] != EPOLL_CTL_DEL;
    if (has_event) {
        if (!guest_read(v, a[3], &g, sizeof g)) return -EFAULT;
        e.events = g.events;
        e.data.u64 = g.data;
    }
    return safe_syscall(v, SYS_epoll_ctl, a[0], a[1], a[2], has_event ? (uint64_t)(uintptr_t)&e : 0,
                        0, 0);
}

static int64_t epoll_wait_into(Vcpu *v, long nr, const uint64_t a[6]) {
    enum { MAX_EVENTS = 1 << 16 };
    int n = (int)a[2];
    if (n <= 0) return -EINVAL;
    n = MIN(n, (int)MAX_EVENTS);
    struct epoll_event *events = malloc((size_t)n * sizeof *events);
    if (!events) return -ENOMEM;
    int64_t r = masked_syscall(
        v, nr, (uint64_t[6]){a[0], (uint64_t)(uintptr_t)events, (uint64_t)n, a[3]}, a[4], a[5]);
    for (int64_t i = 0; i < r; i++) {
        GuestEpollEvent g = {.events = events[i].events, .data = events[i].data.u64};
        if (!guest_write(v, a[1] + (uint64_t)i * sizeof g, &g, sizeof g)) {
            r = -EFAULT;
            break;
        }
    }
    free(events);
    return r;
}

int64_t sys_epoll_pwait(Vcpu *v, const uint64_t a[6]) {
    return epoll_wait_into(v, SYS_epoll_pwait, a);
}
int64_t sys_epoll_pwait2(Vcpu *v, const uint64_t a[6]) {
    return epoll_wait_into(v, SYS_epoll_pwait2, a);
}
int64_t sys_ppoll(Vcpu *v, const uint64_t a[6]) {
    return masked_syscall(v, SYS_ppoll, (uint64_t[6]){a[0], a[1], a[2]}, a[3], a[4]);
}
int64_t sys_pselect6(Vcpu *v, const uint64_t a[6]) {
    uint64_t mask[2] = {0}; // pointer, size
    if (a[5] && !guest_read(v, a[5], mask, sizeof mask)) return -EFAULT;
    return masked_syscall(v, SYS_pselect6, (uint64_t[6]){a[0], a[1], a[2], a[3], a[4]}, mask[0],
                          mask[1]);
}
