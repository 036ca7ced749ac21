// sys_ids.c - the calls that --fake-root answers itself: user and group ids, capabilities, owners
// and modes of files, device nodes. Without --fake-root the table passes all of them to the host.
//
// The guest is root as far as these calls go: what it sets it sees again, also in programs that it
// execs. Access to files is still decided by the host for the host's user, who therefore keeps read
// and write permission to what the guest makes unreadable.
#include "linux/fake_root.h"
#include "linux/syscall.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static FakeRoot *fake_of(Vcpu *v) {
    return process_of(v)->fake;
}

// ---- ids ----

static bool has_id(const uint32_t *id, uint32_t x) {
    return x == id[ID_REAL] || x == id[ID_EFFECTIVE] || x == id[ID_SAVED];
}

static bool privileged(const FakeRoot *f) {
    return !f->id[ID_USER][ID_EFFECTIVE];
}

// setresuid and setresgid; UINT32_MAX leaves one as it is.
static int64_t set_ids(Vcpu *v, unsigned kind, uint64_t r, uint64_t e, uint64_t s) {
    FakeRoot *f = fake_of(v);
    uint32_t *id = f->id[kind], want[] = {(uint32_t)r, (uint32_t)e, (uint32_t)s};
    for (unsigned i = 0; i < 3; i++)
        if (want[i] != UINT32_MAX && !privileged(f) && !has_id(id, want[i])) return -EPERM;
    for (unsigned i = 0; i < 3; i++)
        if (want[i] != UINT32_MAX) id[i] = want[i];
    id[ID_FS] = id[ID_EFFECTIVE];
    return 0;
}

// setreuid: the saved id follows when the real one is set, or the effective one to another.
static int64_t set_re(Vcpu *v, unsigned kind, uint64_t r, uint64_t e) {
    const uint32_t *id = fake_of(v)->id[kind];
    bool saved =
        (uint32_t)r != UINT32_MAX || ((uint32_t)e != UINT32_MAX && (uint32_t)e != id[ID_REAL]);
    uint32_t now = (uint32_t)e != UINT32_MAX ? (uint32_t)e : id[ID_EFFECTIVE];
    return set_ids(v, kind, r, e, saved ? now : UINT32_MAX);
}

static int64_t set_one(Vcpu *v, unsigned kind, uint64_t x) {
    if ((uint32_t)x == UINT32_MAX) return -EINVAL;
    return privileged(fake_of(v)) ? set_ids(v, kind, x, x, x)
                                  : set_ids(v, kind, UINT32_MAX, x, UINT32_MAX);
}

static int64_t set_fs(Vcpu *v, unsigned kind, uint64_t x) {
    FakeRoot *f = fake_of(v);
    uint32_t *id = f->id[kind], old = id[ID_FS];
    if ((uint32_t)x != UINT32_MAX && (privileged(f) || has_id(id, (uint32_t)x) || old == x))
        id[ID_FS] = (uint32_t)x;
    return old;
}

static int64_t get_ids(Vcpu *v, unsigned kind, const uint64_t a[6]) {
    const uint32_t *id = fake_of(v)->id[kind];
    for (unsigned i = 0; i < 3; i++)
        if (!guest_write(v, a[i], &id[i], sizeof id[i])) return -EFAULT;
    return 0;
}

int64_t sys_getuid(Vcpu *v, const uint64_t a[6]) {
    return fake_of(v)->id[ID_USER][ID_REAL];
}
int64_t sys_geteuid(Vcpu *v, const uint64_t a[6]) {
    return fake_of(v)->id[ID_USER][ID_EFFECTIVE];
}
int64_t sys_getgid(Vcpu *v, const uint64_t a[6]) {
    return fake_of(v)->id[ID_GROUP][ID_REAL];
}
int64_t sys_getegid(Vcpu *v, const uint64_t a[6]) {
    return fake_of(v)->id[ID_GROUP][ID_EFFECTIVE];
}
int64_t sys_getresuid(Vcpu *v, const uint64_t a[6]) {
    return get_ids(v, ID_USER, a);
}
int64_t sys_getresgid(Vcpu *v, const uint64_t a[6]) {
    return get_ids(v, ID_GROUP, a);
}
int64_t sys_setuid(Vcpu *v, const uint64_t a[6]) {
    return set_one(v, ID_USER, a[0]);
}
int64_t sys_setgid(Vcpu *v, const uint64_t a[6]) {
    return set_one(v, ID_GROUP, a[0]);
}
int64_t sys_setreuid(Vcpu *v, const uint64_t a[6]) {
    return set_re(v, ID_USER, a[0], a[1]);
}
int64_t sys_setregid(Vcpu *v, const uint64_t a[6]) {
    return set_re(v, ID_GROUP, a[0], a[1]);
}
int64_t sys_setresuid(Vcpu *v, const uint64_t a[6]) {
    return set_ids(v, ID_USER, a[0], a[1], a[2]);
}
int64_t sys_setresgid(Vcpu *v, const uint64_t a[6]) {
    return set_ids(v, ID_GROUP, a[0], a[1], a[2]);
}
int64_t sys_setfsuid(Vcpu *v, const uint64_t a[6]) {
    return set_fs(v, ID_USER, a[0]);
}
int64_t sys_setfsgid(Vcpu *v, const uint64_t a[6]) {
    return set_fs(v, ID_GROUP, a[0]);
}

int64_t sys_getgroups(Vcpu *v, const uint64_t a[6]) {
    FakeRoot *f = fake_of(v);
    int n = (int)a[0];
    if (n < 0) return -EINVAL;
    if (!n) return f->n_groups;
    if ((unsigned)n < f->n_groups) return -EINVAL;
    if (!guest_write(v, a[1], f->groups, f->n_groups * sizeof *f->groups)) return -EFAULT;
    return f->n_groups;
}

int64_t sys_setgroups(Vcpu *v, const uint64_t a[6]) {
    FakeRoot *f = fake_of(v);
    if (!privileged(f)) return -EPERM;
    if (a[0] > FAKE_MAX_GROUPS) return -EINVAL;
    if (!guest_read(v, a[1], f->groups, a[0] * sizeof *f->groups)) return -EFAULT;
    f->n_groups = (unsigned)a[0];
    return 0;
}

// ---- capabilities: all, as long as the guest is root ----

static int64_t cap_header(Vcpu *v, uint64_t at, unsigned *n) {
    struct __user_cap_header_struct h;
    if (!guest_read(v, at, &h, sizeof h)) return -EFAULT;
    *n = h.version == _LINUX_CAPABILITY_VERSION_1 ? 1 : 2;
    if (h.version == _LINUX_CAPABILITY_VERSION_1 || h.version == _LINUX_CAPABILITY_VERSION_2 ||
        h.version == _LINUX_CAPABILITY_VERSION_3)
        return h.pid < 0 ? -EINVAL : 0;
    h.version = _LINUX_CAPABILITY_VERSION_3;
    return guest_write(v, at, &h, sizeof h) ? -EINVAL : -EFAULT;
}

int64_t sys_capget(Vcpu *v, const uint64_t a[6]) {
    unsigned n;
    int64_t e = cap_header(v, a[0], &n);
    if (!a[1] && e == -EINVAL) return 0; // asks for the version only
    if (e || !a[1]) return e;
    uint64_t all = privileged(fake_of(v)) ? (1ull << (CAP_LAST_CAP + 1)) - 1 : 0;
    struct __user_cap_data_struct data[2] = {0};
    for (unsigned i = 0; i < 2; i++)
        data[i].effective = data[i].permitted = (uint32_t)(all >> (32 * i));
    return guest_write(v, a[1], data, n * sizeof *data) ? 0 : -EFAULT;
}

int64_t sys_capset(Vcpu *v, const uint64_t a[6]) {
    unsigned n;
    int64_t e = cap_header(v, a[0], &n);
    if (e) return e;
    return privileged(fake_of(v)) ? 0 : -EPERM;
}

// ---- the other end of a unix socket ----

int64_t sys_getsockopt(Vcpu *v, const uint64_t a[6]) {
    const FakeRoot *f = fake_of(v);
    struct ucred cred;
    int64_t r = safe_syscall(v, SYS_getsockopt, a[0], a[1], a[2], a[3], a[4], 0);
    if (r || (int)a[1] != SOL_SOCKET || (int)a[2] != SO_PEERCRED) return r;
    uint32_t len = 0;
    if (!guest_read(v, a[4], &len, sizeof len) || len < sizeof cred) return 0; // cut short
    if (!guest_read(v, a[3], &cred, sizeof cred)) return -EFAULT;
    if (cred.uid == f->host_uid) cred.uid = 0;
    if (cred.gid == f->host_gid) cred.gid = 0;
    return guest_write(v, a[3], &cred, sizeof cred) ? 0 : -EFAULT;
}

// ---- files ----

int64_t file_facts(Vcpu *v, int dirfd, uint64_t name, int flags, uint32_t mask, struct statx *out) {
    int64_t r = safe_syscall(v, SYS_statx, (uint64_t)dirfd, name, (uint64_t)flags,
                             mask | STATX_BASIC_STATS | STATX_BTIME, (uint64_t)(uintptr_t)out, 0);
    if (r < 0) return r;
    fake_root_show(fake_of(v), out);
    return 0;
}

// The file of a call on the host, with `name` empty for dirfd itself.
typedef struct FakeFile {
    char host[PATH_MAX];
    int dirfd, flags;
    struct statx facts; // the host's
} FakeFile;

static int64_t find_file(Vcpu *v, int dirfd, uint64_t path, uint64_t flags, FakeFile *out) {
    char guest[PATH_MAX];
    out->dirfd = dirfd;
    out->flags = (int)flags & (AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH);
    int64_t n = path ? guest_string(v, path, guest, sizeof guest) : -EFAULT;
    if (n < 0) return n;
    unsigned how = PATH_CREATE | (flags & AT_SYMLINK_NOFOLLOW ? PATH_NOFOLLOW : 0) |
                   (flags & AT_EMPTY_PATH ? PATH_EMPTY : 0);
    int e = path_host(process_of(v), dirfd, guest, how, out->host);
    if (e) return e;
    return syscall(SYS_statx, dirfd, out->host, out->flags, STATX_BASIC_STATS | STATX_BTIME,
                   &out->facts)
               ? -errno
               : 0;
}

static int64_t find_fd(int fd, FakeFile *out) {
    *out = (FakeFile){.dirfd = fd, .flags = AT_EMPTY_PATH};
    return syscall(SYS_statx, fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_BTIME, &out->facts)
               ? -errno
               : 0;
}

static int64_t change_owner(Vcpu *v, const FakeFile *file, uint64_t uid, uint64_t gid) {
    FakeRoot *f = fake_of(v);
    FakeNote note = {.uid = (uint32_t)uid, .gid = (uint32_t)gid};
    if (!privileged(f)) return -EPERM;
    if (note.uid != UINT32_MAX) note.has |= FAKE_UID;
    if (note.gid != UINT32_MAX) note.has |= FAKE_GID;
    struct statx now = file->facts;
    fake_root_show(f, &now);
    uint32_t mode = now.stx_mode;
    if (S_ISREG(mode) && mode & (S_ISUID | S_ISGID)) { // as chown does
        note.has |= FAKE_MODE;
        note.mode = mode & 07777u & ~(uint32_t)(S_ISUID | (mode & S_IXGRP ? S_ISGID : 0));
    }
    return note.has ? fake_root_note(f, &file->facts, &note) : 0;
}

int64_t sys_fchownat(Vcpu *v, const uint64_t a[6]) {
    FakeFile file;
    if (a[4] & ~(uint64_t)(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)) return -EINVAL;
    int64_t e = find_file(v, (int)a[0], a[1], a[4], &file);
    return e ? e : change_owner(v, &file, a[2], a[3]);
}

int64_t sys_fchown(Vcpu *v, const uint64_t a[6]) {
    FakeFile file;
    int64_t e = find_fd((int)a[0], &file);
    return e ? e : change_owner(v, &file, a[1], a[2]);
}

static int64_t change_mode(Vcpu *v, const FakeFile *file, uint64_t mode) {
    FakeRoot *f = fake_of(v);
    struct statx now = file->facts;
    fake_root_show(f, &now);
    if (!privileged(f) && now.stx_uid != f->id[ID_USER][ID_FS]) return -EPERM;
    mode &= 07777;
    // we keep the access that root has
    uint64_t host_mode = mode | (S_ISDIR(file->facts.stx_mode) ? 0700 : 0600);
    int r = file->host[0] ? fchmodat(file->dirfd, file->host, (mode_t)host_mode, 0)
                          : fchmod(file->dirfd, (mode_t)host_mode);
    if (r && errno != EPERM) return -errno;
    FakeNote note = {.has = FAKE_MODE, .mode = (uint32_t)mode};
    return fake_root_note(f, &file->facts, &note);
}

int64_t sys_fchmodat(Vcpu *v, const uint64_t a[6]) {
    FakeFile file;
    int64_t e = find_file(v, (int)a[0], a[1], 0, &file);
    return e ? e : change_mode(v, &file, a[2]);
}

int64_t sys_fchmod(Vcpu *v, const uint64_t a[6]) {
    FakeFile file;
    int64_t e = find_fd((int)a[0], &file);
    return e ? e : change_mode(v, &file, a[1]);
}

int64_t sys_mknodat(Vcpu *v, const uint64_t a[6]) {
    FakeRoot *f = fake_of(v);
    char guest[PATH_MAX], host[PATH_MAX];
    int64_t e = guest_string(v, a[1], guest, sizeof guest);
    if (e < 0) return e;
    if ((e = path_host(process_of(v), (int)a[0], guest, PATH_NOFOLLOW | PATH_CREATE, host)))
        return e;
    uint32_t mode = (uint32_t)a[2];
    bool device = S_ISCHR(mode) || S_ISBLK(mode);
    if (device && !privileged(f)) return -EPERM;
    // a device is an empty file of the host's
    mode_t host_mode = device ? S_IFREG | 0600 | (mode & 0777) : mode;
    if (mknodat((int)a[0], host, host_mode, 0)) return -errno;
    if (!device) return 0;
    struct statx s;
    if (syscall(SYS_statx, (int)a[0], host, AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS | STATX_BTIME,
                &s))
        return -errno;
    FakeNote note = {.has = FAKE_MODE | FAKE_DEVICE,
                     .mode = (mode & S_IFMT) | (mode & 07000) | (mode & s.stx_mode & 0777),
                     .rdev = a[3]};
    return fake_root_note(f, &s, &note);
}
