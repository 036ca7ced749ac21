// fake_root.c - what --fake-root remembers: the owners, modes and device numbers that the guest
// gave to files and that the host's user could not give.
//
// Everything lies in one memory file, a hash table shared by every guest process that descends from
// the first: a fork inherits the mapping, an exec hands the descriptor on (its number and the
// process's ids are in --fake-root-state). The host's kernel frees it with the last process. The
// descriptor is hidden from the guest (fd_is_ours). A row is of a file: device, inode and time of
// birth, so that an inode that was given to another file later is not mistaken for it.
//
// Locks: the table's own, shared between processes; nothing is called under it.
#include "linux/fake_root.h"
#include "linux/syscall.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

enum { FAKE_ROWS = 1 << 20, FAKE_FD_FROM = 890 };

typedef struct FakeRow { // ino 0: free
    uint64_t dev, ino, birth, rdev;
    uint32_t mode, uid, gid, has;
} FakeRow;

struct FakeTable {
    uint32_t lock; // a PI futex: its owner's number, 0: free
    uint32_t n;    // rows used
    FakeRow rows[FAKE_ROWS];
};

static FakeTable *map_table(int fd) {
    void *at = mmap(NULL, sizeof(FakeTable), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    return at == MAP_FAILED ? NULL : at;
}

static int new_table(FakeRoot *f) {
    int low = memfd_create("fake-root", 0);
    if (low < 0) return -errno;
    f->fd = fd_out_of_the_way(low, FAKE_FD_FROM);
    if (f->fd < 0)
        f->fd = low;
    else
        close(low);
    if (ftruncate(f->fd, sizeof(FakeTable))) return -errno;
    if (!(f->table = map_table(f->fd))) return -ENOMEM;
    return 0;
}

// "FD,ruid,euid,suid,fsuid,rgid,egid,sgid,fsgid[,group...]"
static int old_table(FakeRoot *f, const char *state) {
    char *end;
    f->fd = (int)strtol(state, &end, 10);
    for (unsigned i = 0; i < 2 * N_IDS; i++) {
        if (*end != ',') return -EINVAL;
        f->id[i / N_IDS][i % N_IDS] = (uint32_t)strtoul(end + 1, &end, 10);
    }
    while (*end == ',' && f->n_groups < FAKE_MAX_GROUPS)
        f->groups[f->n_groups++] = (uint32_t)strtoul(end + 1, &end, 10);
    f->table = *end ? NULL : map_table(f->fd);
    return f->table ? 0 : -EINVAL;
}

int fake_root_init(LinuxProcess *p, const LinuxConfig *c, DgmErr *err) {
    if (!c->fake_root && !c->fake_root_state) return 0;
    FakeRoot *f = calloc(1, sizeof *f);
    if (!f) return err_set(err, -ENOMEM, "--fake-root: out of memory");
    f->fd = -1;
    f->host_uid = getuid();
    f->host_gid = getgid();
    p->fake = f;
    int e = c->fake_root_state ? old_table(f, c->fake_root_state) : new_table(f);
    return e ? err_set(err, e, "--fake-root: %s", strerror(-e)) : 0;
}

void fake_root_free(LinuxProcess *p) {
    if (!p->fake) return;
    if (p->fake->table) munmap(p->fake->table, sizeof(FakeTable));
    if (p->fake->fd >= 0) close(p->fake->fd);
    free(p->fake);
    p->fake = NULL;
}

char *fake_root_state(const FakeRoot *f, Arena *a) {
    Buf b = {0};
    buf_printf(&b, "%d", f->fd);
    for (unsigned i = 0; i < 2 * N_IDS; i++) buf_printf(&b, ",%u", f->id[i / N_IDS][i % N_IDS]);
    for (unsigned i = 0; i < f->n_groups; i++) buf_printf(&b, ",%u", f->groups[i]);
    char *out = b.failed ? NULL : arena_printf(a, "%s", (char *)b.data);
    buf_free(&b);
    return out;
}

// ---- rows ----

// A PI futex: the kernel knows the owner by its number, so one that was killed inside is noticed;
// it left at worst a half-written row. (A robust mutex would need the thread's robust list, which
// is the guest's.)
static void lock(FakeTable *t) {
    for (;;) {
        uint32_t none = 0;
        if (__atomic_compare_exchange_n(&t->lock, &none, (uint32_t)gettid(), false,
                                        __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
            return;
        if (!syscall(SYS_futex, &t->lock, FUTEX_LOCK_PI, 0, NULL, NULL, 0)) return;
        if (errno == ESRCH) // nobody of that number lives
            __atomic_compare_exchange_n(&t->lock, &none, 0, false, __ATOMIC_RELAXED,
                                        __ATOMIC_RELAXED);
    }
}

static void unlock(FakeTable *t) {
    uint32_t own = (uint32_t)gettid();
    if (!__atomic_compare_exchange_n(&t->lock, &own, 0, false, __ATOMIC_RELEASE, __ATOMIC_RELAXED))
        syscall(SYS_futex, &t->lock, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0);
}

static uint64_t birth_of(const struct statx *s) {
    return s->stx_mask & STATX_BTIME
               ? (uint64_t)s->stx_btime.tv_sec * 1000000000u + s->stx_btime.tv_nsec
               : 0;
}

static uint64_t dev_of(const struct statx *s) {
    return makedev(s->stx_dev_major, s->stx_dev_minor);
}

// The file's row, or the free one where it would be; NULL when the table is full. Lock held.
static FakeRow *row_of(FakeTable *t, const struct statx *s) {
    uint64_t dev = dev_of(s), at = (s->stx_ino ^ dev << 17) * 0x9e3779b97f4a7c15u >> 40;
    for (unsigned i = 0; i < FAKE_ROWS; i++) {
        FakeRow *r = &t->rows[(at + i) % FAKE_ROWS];
        if (!r->ino || (r->ino == s->stx_ino && r->dev == dev)) return r;
    }
    return NULL;
}

static uint32_t seen_uid(const FakeRoot *f, uint32_t uid) {
    return uid == f->host_uid ? 0 : uid;
}
static uint32_t seen_gid(const FakeRoot *f, uint32_t gid) {
    return gid == f->host_gid ? 0 : gid;
}

void fake_root_show(const FakeRoot *f, struct statx *s) {
    FakeRow row = {0};
    lock(f->table);
    FakeRow *r = row_of(f->table, s);
    if (r && r->ino && r->birth == birth_of(s)) row = *r;
    unlock(f->table);
    s->stx_uid = row.has & FAKE_UID ? row.uid : seen_uid(f, s->stx_uid);
    s->stx_gid = row.has & FAKE_GID ? row.gid : seen_gid(f, s->stx_gid);
    if (row.has & FAKE_MODE) s->stx_mode = (uint16_t)((s->stx_mode & S_IFMT) | (row.mode & 07777));
    if (!(row.has & FAKE_DEVICE)) return;
    s->stx_mode = (uint16_t)row.mode;
    s->stx_rdev_major = major(row.rdev);
    s->stx_rdev_minor = minor(row.rdev);
    s->stx_size = 0;
    s->stx_blocks = 0;
}

int fake_root_note(FakeRoot *f, const struct statx *s, const FakeNote *note) {
    int e = 0;
    lock(f->table);
    FakeRow *r = row_of(f->table, s);
    if (r && !r->ino && f->table->n >= FAKE_ROWS / 8 * 7) r = NULL;
    if (r) {
        if (!r->ino) f->table->n++;
        if (!r->ino || r->birth != birth_of(s))
            *r = (FakeRow){.dev = dev_of(s), .ino = s->stx_ino, .birth = birth_of(s)};
        if (note->has & FAKE_UID) r->uid = note->uid;
        if (note->has & FAKE_GID) r->gid = note->gid;
        if (note->has & FAKE_MODE)
            r->mode = r->has & FAKE_DEVICE && !(note->has & FAKE_DEVICE)
                          ? (r->mode & S_IFMT) | (note->mode & 07777)
                          : note->mode;
        if (note->has & FAKE_DEVICE) r->rdev = note->rdev;
        r->has |= note->has;
    } else {
        e = -ENOSPC;
    }
    unlock(f->table);
    return e;
}
