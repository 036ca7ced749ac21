// persist_file.c - see persist_file.h. Where to start: cache_file_open and cache_add_begin.
#include "engine/persist_file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

// The last character is the format's; what a head holds, and where, is the same in all of them.
#define HEAD_MAGIC    "DGMTRAN3"
#define SEGMENT_MAGIC 0x33544745534d4744ull
enum { FILE_NAME_BYTES = 40, LONGEST_USE = 3600 };
#define MAX_SEGMENT_BYTES (1ull << 30)

typedef struct SegHead {
    uint64_t magic;
    uint64_t body_bytes, guest_bytes; // which follow
    uint64_t body_sum, guest_sum;
    uint32_t n_blocks, pad;
    uint64_t sum; // of all before
} SegHead;

static void name_of(const CacheKey *key, char out[FILE_NAME_BYTES]) {
    snprintf(out, FILE_NAME_BYTES, "%016lx%016lx", hash_bytes(key, sizeof *key, 1),
             hash_bytes(key, sizeof *key, 2));
}

static bool is_cache_name(const char *name) {
    return strlen(name) == 32 && strspn(name, "0123456789abcdef") == 32;
}

// Only what this user alone can write is trusted.
static bool is_ours(int fd, mode_t type) {
    struct stat st;
    return !fstat(fd, &st) && (st.st_mode & S_IFMT) == type && st.st_uid == geteuid() &&
           !(st.st_mode & 022);
}

// mkdir -p, the new ones for this user only.
static void make_dirs(const char *dir) {
    char path[4096];
    if (snprintf(path, sizeof path, "%s", dir) >= (int)sizeof path) return;
    for (char *slash = path + 1; (slash = strchr(slash, '/')); *slash++ = '/') {
        *slash = 0;
        mkdir(path, 0700);
    }
    mkdir(path, 0700);
}

int cache_dir_open(const char *dir, DgmErr *why) {
    enum { HOW = O_RDONLY | O_DIRECTORY | O_CLOEXEC };
    int fd = open(dir, HOW);
    if (fd < 0 && errno == ENOENT) {
        make_dirs(dir);
        fd = open(dir, HOW);
    }
    if (fd < 0) return err_set(why, -errno, "%s: %s", dir, strerror(errno)), -1;
    if (is_ours(fd, S_IFDIR)) return fd;
    close(fd);
    err_set(why, -EPERM, "%s: not a directory that only its owner, this user, can write", dir);
    return -1;
}

// ---- reading ----

static bool read_at(int fd, void *out, size_t bytes, uint64_t off) {
    for (size_t done = 0; done < bytes;) {
        ssize_t r = pread(fd, (char *)out + done, bytes - done, (off_t)(off + done));
        if (r < 0 && errno == EINTR) continue;
        if (r <= 0) return false;
        done += (size_t)r;
    }
    return true;
}

static bool read_head(int fd, CacheHead *head) {
    return read_at(fd, head, sizeof *head, 0) && !memcmp(head->magic, HEAD_MAGIC, 8) &&
           head->sum == hash_bytes(head, offsetof(CacheHead, sum), 0) &&
           memchr(head->name, 0, sizeof head->name);
}

// Of a file in a format of another build: there is no telling how its checksums are made, so this
// is for people only.
static bool read_foreign_head(int fd, CacheHead *head) {
    if (!read_at(fd, head, sizeof *head, 0) || memcmp(head->magic, HEAD_MAGIC, 7) ||
        !memcmp(head->magic, HEAD_MAGIC, 8) || !memchr(head->name, 0, sizeof head->name))
        return false;
    for (const char *c = head->name; *c; c++)
        if ((unsigned char)*c < ' ') return false;
    memset(&head->key, 0, sizeof head->key); // of whichever build: not ours
    return head->name[0];
}

static bool read_seg_head(int fd, uint64_t off, uint64_t end, SegHead *h) {
    return off + sizeof *h <= end && read_at(fd, h, sizeof *h, off) && h->magic == SEGMENT_MAGIC &&
           h->sum == hash_bytes(h, offsetof(SegHead, sum), 0) && h->body_bytes &&
           !(h->body_bytes & 4095) && h->body_bytes <= MAX_SEGMENT_BYTES &&
           h->guest_bytes <= MAX_SEGMENT_BYTES &&
           h->body_bytes + h->guest_bytes <= end - off - sizeof *h;
}

// Bodies are mapped, so they begin with a page.
static uint64_t segment_start(uint64_t off) {
    return ALIGN_UP(off + sizeof(SegHead), 4096ull) - sizeof(SegHead);
}
static uint64_t segment_end(uint64_t off, const SegHead *h) {
    return segment_start(off + sizeof *h + h->body_bytes + h->guest_bytes);
}

// Everything up to the first thing that does not check.
static void read_file(int fd, const CacheKey *key, CacheFile *f) {
    struct stat st;
    CacheHead head;
    *f = (CacheFile){0};
    if (!is_ours(fd, S_IFREG) || fstat(fd, &st) || !read_head(fd, &head) ||
        memcmp(&head.key, key, sizeof *key))
        return;
    SegHead h;
    f->exists = true;
    f->end = segment_start(sizeof head);
    while (f->n_segs < CACHE_MAX_SEGMENTS && read_seg_head(fd, f->end, (uint64_t)st.st_size, &h)) {
        f->seg[f->n_segs++] = (CacheSegment){.off = f->end,
                                             .body_bytes = h.body_bytes,
                                             .guest_bytes = h.guest_bytes,
                                             .body_sum = h.body_sum,
                                             .guest_sum = h.guest_sum,
                                             .n_blocks = h.n_blocks};
        f->end = segment_end(f->end, &h);
    }
    if (time(NULL) - st.st_mtime > LONGEST_USE) futimens(fd, NULL); // what is in use stays
}

int cache_file_open(int dir, const CacheKey *key, CacheFile *out) {
    char name[FILE_NAME_BYTES];
    name_of(key, name);
    *out = (CacheFile){0};
    int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0) return -1;
    read_file(fd, key, out);
    if (out->exists) return fd;
    close(fd);
    return -1;
}

// As the file is, without a copy; where it may not be (its file system has no programs), a copy.
static bool map_or_read(int fd, void *out, uint64_t bytes, uint64_t off) {
    enum { HOW = PROT_READ | PROT_WRITE | PROT_EXEC };
    return mmap(out, bytes, HOW, MAP_PRIVATE | MAP_FIXED, fd, (off_t)off) != MAP_FAILED ||
           read_at(fd, out, bytes, off);
}

bool cache_read(int fd, const CacheSegment *s, void *out) {
    const uint8_t *guest = (const uint8_t *)out + s->body_bytes;
    return map_or_read(fd, out, s->body_bytes + s->guest_bytes, s->off + sizeof(SegHead)) &&
           hash_bytes(out, s->body_bytes, 0) == s->body_sum &&
           hash_bytes(guest, s->guest_bytes, 0) == s->guest_sum;
}

// ---- writing ----

static bool write_at(int fd, const void *data, size_t bytes, uint64_t off) {
    for (size_t done = 0; done < bytes;) {
        ssize_t r = pwrite(fd, (const char *)data + done, bytes - done, (off_t)(off + done));
        if (r < 0 && errno == EINTR) continue;
        if (r <= 0) return false;
        done += (size_t)r;
    }
    return true;
}

static bool write_segment(int fd, const Buf *body, const Buf *guest, uint64_t off) {
    SegHead h = {.magic = SEGMENT_MAGIC,
                 .body_bytes = body->len,
                 .guest_bytes = guest->len,
                 .body_sum = hash_bytes(body->data, body->len, 0),
                 .guest_sum = hash_bytes(guest->data, guest->len, 0),
                 .n_blocks = ((const CacheBody *)(const void *)body->data)->n_blocks};
    h.sum = hash_bytes(&h, offsetof(SegHead, sum), 0);
    return body->len <= MAX_SEGMENT_BYTES && write_at(fd, &h, sizeof h, off) &&
           write_at(fd, body->data, body->len, off + sizeof h) &&
           write_at(fd, guest->data, guest->len, off + sizeof h + body->len);
}

// A whole new file, in place of what has the name now; body NULL: without a segment yet.
static bool write_new(int dir, const CacheKey *key, const char *name, const Buf *body,
                      const Buf *guest) {
    char file[FILE_NAME_BYTES], temporary[FILE_NAME_BYTES + 16];
    name_of(key, file);
    snprintf(temporary, sizeof temporary, ".%s.%d", file, (int)getpid());
    int fd = openat(dir, temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) return false;
    CacheHead head = {.key = *key};
    memcpy(head.magic, HEAD_MAGIC, sizeof head.magic);
    snprintf(head.name, sizeof head.name, "%s", name);
    head.sum = hash_bytes(&head, offsetof(CacheHead, sum), 0);
    bool ok = write_at(fd, &head, sizeof head, 0) &&
              (!body || write_segment(fd, body, guest, segment_start(sizeof head))) &&
              !renameat(dir, temporary, dir, file);
    if (!ok) unlinkat(dir, temporary, 0);
    close(fd);
    return ok;
}

bool cache_file_mark(int dir, const CacheKey *key, const char *name) {
    return write_new(dir, key, name, NULL, NULL);
}

bool cache_add_begin(int dir, const CacheKey *key, CacheAdding *a) {
    char file[FILE_NAME_BYTES];
    name_of(key, file);
    *a = (CacheAdding){.key = *key, .dir = dir};
    a->fd = openat(dir, file, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (a->fd < 0) return true;
    struct stat st;
    if (!flock(a->fd, LOCK_EX | LOCK_NB) && !fstat(a->fd, &st) && st.st_nlink) {
        read_file(a->fd, key, &a->file);
        return true;
    }
    close(a->fd);
    return false;
}

bool cache_add_end(CacheAdding *a, const char *name, const Buf *body, const Buf *guest) {
    bool ok = !body->failed && !guest->failed && body->len;
    if (ok && a->file.exists) {
        ok = write_segment(a->fd, body, guest, a->file.end);
        // what is behind the end is not read anyway
        if (!ok && ftruncate(a->fd, (off_t)a->file.end)) ok = false;
    } else if (ok) {
        ok = write_new(a->dir, &a->key, name, body, guest);
    }
    if (a->fd >= 0) close(a->fd);
    return ok;
}

// ---- the directory ----

typedef struct Found {
    char name[FILE_NAME_BYTES];
    uint64_t bytes;
    int64_t used;
} Found;

static int by_use(const void *a, const void *b) {
    int64_t x = ((const Found *)a)->used, y = ((const Found *)b)->used;
    return (x > y) - (x < y);
}

// All files, *n of them (malloc'ed). Left-over temporaries of an hour ago are removed.
static Found *scan(int dir, size_t *n) {
    int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    Found *all = NULL;
    size_t cap = 0;
    *n = 0;
    if (!d && fd >= 0) close(fd);
    for (struct dirent *e; d && (e = readdir(d));) {
        struct stat st;
        if (fstatat(dir, e->d_name, &st, AT_SYMLINK_NOFOLLOW) || !S_ISREG(st.st_mode)) continue;
        if (e->d_name[0] == '.' && time(NULL) - st.st_mtime > LONGEST_USE &&
            strlen(e->d_name) > 33 && e->d_name[33] == '.')
            unlinkat(dir, e->d_name, 0);
        if (!is_cache_name(e->d_name)) continue;
        if (*n == cap) {
            Found *more = realloc(all, (cap = cap * 2 + 64) * sizeof *all);
            if (!more) break;
            all = more;
        }
        Found *f = &all[(*n)++];
        snprintf(f->name, sizeof f->name, "%s", e->d_name);
        f->bytes = (uint64_t)st.st_size;
        f->used = st.st_mtime;
    }
    if (d) closedir(d);
    return all;
}

void cache_dir_trim(int dir, uint64_t max_bytes) {
    size_t n;
    Found *all = scan(dir, &n);
    uint64_t bytes = 0;
    for (size_t i = 0; i < n; i++) bytes += all[i].bytes;
    if (bytes > max_bytes) {
        qsort(all, n, sizeof *all, by_use);
        for (size_t i = 0; i < n && bytes > max_bytes - max_bytes / 8; i++)
            if (!unlinkat(dir, all[i].name, 0)) bytes -= all[i].bytes;
    }
    free(all);
}

int cache_dir_each(int dir, CacheEachFn *fn, void *ctx) {
    size_t n;
    Found *all = scan(dir, &n);
    int failed = 0;
    if (n) qsort(all, n, sizeof *all, by_use);
    for (size_t i = 0; i < n; i++) {
        CacheHead head;
        int fd = openat(dir, all[i].name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
        bool sound = fd >= 0 && read_head(fd, &head);
        uint32_t blocks = 0;
        SegHead h;
        for (uint64_t off = segment_start(sizeof head);
             sound && read_seg_head(fd, off, all[i].bytes, &h); off = segment_end(off, &h))
            blocks += h.n_blocks;
        bool foreign = fd >= 0 && !sound && read_foreign_head(fd, &head);
        if (fd >= 0) close(fd);
        if (!fn(ctx, all[i].name, sound || foreign ? &head : NULL, blocks, all[i].bytes,
                all[i].used) &&
            unlinkat(dir, all[i].name, 0))
            failed = -errno;
    }
    free(all);
    return failed;
}
