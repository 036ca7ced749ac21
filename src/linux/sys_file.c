// sys_file.c - file calls whose flags or structures differ between guest and host, and those that
// must not see or touch Dragoman's own files.
#include "linux/syscall.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

// ---- open flags: four bits have other places in generic Linux (arm64) than on x86-64 ----

typedef struct OpenFlag {
    uint32_t guest, host;
} OpenFlag;
static const OpenFlag open_flags[] = {{040000, O_DIRECTORY},
                                      {0100000, O_NOFOLLOW},
                                      {0200000, O_DIRECT},
                                      {0400000, 0100000 /* O_LARGEFILE */}};
enum { MOVED_GUEST_FLAGS = 0740000 };

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

// True for descriptors that are Dragoman's, which the guest must not see.
static bool our_fd(const Vcpu *v, int fd) {
    return fd > 2 && fd == v->m->log.fd;
}

static int64_t open_path(Vcpu *v, int dirfd, uint64_t path, uint64_t flags, uint64_t mode) {
    char guest[PATH_MAX], host[PATH_MAX];
    int64_t e = guest_string(v, path, guest, sizeof guest);
    if (e < 0) return e;
    if (!strncmp(guest, "/proc/", 6)) {
        e = proc_open(v, guest, (int)flags_to_host(flags));
        if (e != -ENOENT) return e;
    }
    LinuxProcess *p = process_of(v);
    uint64_t name = path;
    if (paths_translated(p)) {
        unsigned how = (flags & 0100000 ? PATH_NOFOLLOW : 0) | (flags & O_CREAT ? PATH_CREATE : 0);
        if ((flags & (O_CREAT | O_EXCL)) == (O_CREAT | O_EXCL)) how |= PATH_NOFOLLOW;
        if (flags & O_CREAT && p->sysroot &&
            !p->rootfs) { // an existing file of the sysroot is opened there
            e = path_host(p, dirfd, guest, 0, host);
        } else {
            e = path_host(p, dirfd, guest, how, host);
        }
        if (e) return e;
        name = (uint64_t)(uintptr_t)host;
    }
    return safe_syscall(v, SYS_openat, (uint64_t)dirfd, name, flags_to_host(flags), mode, 0, 0);
}

int64_t sys_openat(Vcpu *v, const uint64_t a[6]) {
    return open_path(v, (int)a[0], a[1], a[2], a[3]);
}

int64_t sys_openat2(Vcpu *v, const uint64_t a[6]) {
    struct open_how how;
    if (a[3] < sizeof how) return -EINVAL;
    if (!guest_read(v, a[2], &how, sizeof how)) return -EFAULT;
    how.flags = flags_to_host(how.flags);
    char host[PATH_MAX];
    uint64_t name = a[1];
    if (paths_translated(process_of(v))) {
        int64_t e =
            path_arg(v, (int)a[0], a[1], how.flags & O_NOFOLLOW ? PATH_NOFOLLOW : 0, host, &name);
        if (e) return e;
    }
    return safe_syscall(v, SYS_openat2, a[0], name, (uint64_t)(uintptr_t)&how, sizeof how, 0, 0);
}

int64_t sys_close(Vcpu *v, const uint64_t a[6]) {
    if (our_fd(v, (int)a[0])) return -EBADF;
    return safe_syscall(v, SYS_close, a[0], 0, 0, 0, 0, 0);
}

int64_t sys_close_range(Vcpu *v, const uint64_t a[6]) {
    unsigned first = (unsigned)a[0], last = (unsigned)a[1];
    int ours = v->m->log.fd;
    if (ours <= 2 || (unsigned)ours < first || (unsigned)ours > last)
        return safe_syscall(v, SYS_close_range, first, last, a[2], 0, 0, 0);
    int64_t r = 0;
    if ((unsigned)ours > first)
        r = safe_syscall(v, SYS_close_range, first, (uint64_t)ours - 1, a[2], 0, 0, 0);
    if (r >= 0 && (unsigned)ours < last)
        r = safe_syscall(v, SYS_close_range, (uint64_t)ours + 1, last, a[2], 0, 0, 0);
    return r;
}

int64_t sys_dup3(Vcpu *v, const uint64_t a[6]) {
    if (our_fd(v, (int)a[1])) return -EBUSY;
    return safe_syscall(v, SYS_dup3, a[0], a[1], a[2], 0, 0, 0);
}

int64_t sys_fcntl(Vcpu *v, const uint64_t a[6]) {
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

int64_t sys_readlinkat(Vcpu *v, const uint64_t a[6]) {
    char guest[PATH_MAX], host[PATH_MAX];
    int64_t e = guest_string(v, a[1], guest, sizeof guest);
    if (e < 0) return e;
    const char *target = proc_link(v, guest);
    if (target) {
        if ((int64_t)a[3] <= 0) return -EINVAL;
        size_t n = MIN(strlen(target), (size_t)a[3]);
        return guest_write(v, a[2], target, n) ? (int64_t)n : -EFAULT;
    }
    LinuxProcess *p = process_of(v);
    uint64_t name = a[1];
    if (paths_translated(p)) {
        if ((e = path_host(p, (int)a[0], guest, PATH_NOFOLLOW | PATH_EMPTY, host))) return e;
        name = (uint64_t)(uintptr_t)host;
    }
    int64_t r = safe_syscall(v, SYS_readlinkat, a[0], name, a[2], a[3], 0, 0);
    // what /proc says of open files and directories is the host's path
    if (r > 0 && p->rootfs && !strncmp(guest, "/proc/", 6) &&
        (uint64_t)r < MIN(a[3], sizeof host)) {
        char shown[PATH_MAX];
        if (!guest_read(v, a[2], host, (size_t)r)) return -EFAULT;
        host[r] = 0;
        path_guest(p, host, shown);
        r = (int64_t)MIN(strlen(shown), (size_t)a[3]);
        if (!guest_write(v, a[2], shown, (size_t)r)) return -EFAULT;
    }
    return r;
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

int64_t sys_fstat(Vcpu *v, const uint64_t a[6]) {
    struct stat s;
    int64_t r = safe_syscall(v, SYS_fstat, a[0], (uint64_t)(uintptr_t)&s, 0, 0, 0, 0);
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
    int64_t r = safe_syscall(v, SYS_newfstatat, a[0], name, (uint64_t)(uintptr_t)&s, a[3], 0, 0);
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
    int64_t r =
        masked_syscall(v, nr, (uint64_t[6]){a[0], (uint64_t)(uintptr_t)events, (uint64_t)n, a[3]},
                       a[4], a[5]);
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
