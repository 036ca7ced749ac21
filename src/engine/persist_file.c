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
#define HEAD_MAGIC    "DGMTRAN2"
#define SEGMENT_MAGIC 0x544745534d4744ull
enum { FILE_NAME_BYTES = 40, LONGEST_USE = 3600 };
#define MAX_SEGMENT_BYTES (1ull << 34) // records are found by 32 bits, in units of 8

typedef struct SegHead {
    uint64_t magic, bytes; // bytes: of the segment, with this head
    uint32_t n_index, n_blocks;
    uint64_t index_sum, sum; // sum: of all before
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
           h->sum == hash_bytes(h, offsetof(SegHead, sum), 0) && h->bytes <= end - off &&
           h->bytes <= MAX_SEGMENT_BYTES && h->n_index && !(h->n_index & (h->n_index - 1)) &&
           h->n_blocks < h->n_index &&
           sizeof *h + (uint64_t)h->n_index * sizeof(CacheIndex) <= h->bytes;
}

static void *map_memory(size_t bytes) {
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE,
                   -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

static bool read_segment(int fd, uint64_t off, const SegHead *h, CacheSegment *out) {
    size_t index_bytes = h->n_index * sizeof(CacheIndex);
    *out = (CacheSegment){
        .off = off, .n_index = h->n_index, .bytes = h->bytes, .index = map_memory(index_bytes)};
    if (!out->index) return false;
    if (read_at(fd, out->index, index_bytes, off + sizeof *h) &&
        hash_bytes(out->index, index_bytes, 0) == h->index_sum)
        return true;
    munmap(out->index, index_bytes);
    return false;
}

// Everything up to the first thing that does not check.
static void read_file(int fd, const CacheKey *key, CacheFile *f) {
    struct stat st;
    CacheHead head;
    *f = (CacheFile){.key = *key};
    if (!is_ours(fd, S_IFREG) || fstat(fd, &st) || !read_head(fd, &head) ||
        memcmp(&head.key, key, sizeof *key))
        return;
    uint64_t end = (uint64_t)st.st_size, off = sizeof head;
    SegHead h;
    while (f->n_segs < CACHE_MAX_SEGMENTS && read_seg_head(fd, off, end, &h) &&
           read_segment(fd, off, &h, &f->seg[f->n_segs])) {
        off += h.bytes;
        f->n_segs++;
    }
    void *map = mmap(NULL, off, PROT_READ, MAP_PRIVATE, fd, 0);
    if (map == MAP_FAILED) {
        cache_file_close(f);
        return;
    }
    f->map = map;
    f->bytes = off;
    if (time(NULL) - st.st_mtime > LONGEST_USE) futimens(fd, NULL); // what is in use stays
}

void cache_file_open(int dir, const CacheKey *key, CacheFile *out) {
    char name[FILE_NAME_BYTES];
    name_of(key, name);
    *out = (CacheFile){.key = *key};
    int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0) return;
    read_file(fd, key, out);
    close(fd);
}

void cache_file_close(CacheFile *f) {
    for (unsigned i = 0; i < f->n_segs; i++)
        munmap(f->seg[i].index, f->seg[i].n_index * sizeof(CacheIndex));
    if (f->map) munmap((void *)(uintptr_t)f->map, f->bytes);
    *f = (CacheFile){.key = f->key};
}

static uint32_t slot_of(uint32_t pc) {
    return (uint32_t)((uint64_t)pc * 0x9e3779b97f4a7c15ull >> 32);
}

const void *cache_file_find(const CacheFile *f, uint64_t pc, unsigned start, unsigned *next,
                            uint64_t *bytes) {
    uint32_t off = (uint32_t)(pc - f->key.lo);
    for (unsigned s = start; s < f->n_segs; s++) {
        const CacheSegment *seg = &f->seg[s];
        uint32_t mask = seg->n_index - 1;
        for (uint32_t i = slot_of(off) & mask, n = 0; n <= mask && seg->index[i].record;
             i = (i + 1) & mask, n++) {
            uint64_t at = (uint64_t)seg->index[i].record * 8;
            if (seg->index[i].pc != off || at + sizeof(CacheRecord) > seg->bytes) continue;
            *next = s + 1;
            *bytes = seg->bytes - at;
            return f->map + seg->off + at;
        }
    }
    return NULL;
}

// Bytes of a record up to its guest code.
static uint64_t before_guest(const CacheRecord *r) {
    return sizeof *r + (uint64_t)r->n_blocks * sizeof(CacheBlock) +
           r->n_faults * sizeof(HostFault) + r->n_counts * 4ull + r->n_traps * sizeof(HostTrap) +
           r->frozen_bytes + r->n_links * 2ull;
}

const uint8_t *cache_record_guest(const CacheRecord *r) {
    return (const uint8_t *)r + before_guest(r);
}

bool cache_record_ok(const CacheRecord *r, uint64_t bytes) {
    if (bytes < sizeof *r || r->bytes < sizeof *r || r->bytes > bytes || r->bytes % 8) return false;
    return r->n_blocks && before_guest(r) + r->guest_bytes <= r->bytes &&
           r->sum == hash_bytes(&r->bytes, r->bytes - sizeof r->sum, 0);
}

void cache_record_seal(CacheRecord *r) {
    r->sum = hash_bytes(&r->bytes, r->bytes - sizeof r->sum, 0);
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

static const CacheRecord *record_at(const Buf *records, size_t at) {
    return (const void *)(records->data + at);
}

// A segment of these records: its head and index, to be written before them.
static bool build_index(const CacheKey *key, const Buf *records, Buf *out) {
    uint32_t n = 0, n_index = 64;
    for (size_t at = 0; at < records->len; at += record_at(records, at)->bytes)
        n += record_at(records, at)->n_blocks;
    while (n_index < 2 * n) n_index *= 2;
    size_t index_bytes = n_index * sizeof(CacheIndex), lead = sizeof(SegHead) + index_bytes;
    CacheIndex *index = calloc(n_index, sizeof *index);
    if (!index || lead + records->len > MAX_SEGMENT_BYTES) {
        free(index);
        return false;
    }
    for (size_t at = 0; at < records->len; at += record_at(records, at)->bytes) {
        const CacheRecord *r = record_at(records, at);
        for (uint32_t k = 0; k < r->n_blocks; k++) {
            uint32_t pc = (uint32_t)(cache_record_blocks(r)[k].pc - key->lo);
            uint32_t i = slot_of(pc) & (n_index - 1);
            while (index[i].record) i = (i + 1) & (n_index - 1);
            index[i] = (CacheIndex){pc, (uint32_t)((lead + at) / 8)};
        }
    }
    SegHead h = {.magic = SEGMENT_MAGIC,
                 .bytes = lead + records->len,
                 .n_index = n_index,
                 .n_blocks = n,
                 .index_sum = hash_bytes(index, index_bytes, 0)};
    h.sum = hash_bytes(&h, offsetof(SegHead, sum), 0);
    buf_add(out, &h, sizeof h);
    buf_add(out, index, index_bytes);
    free(index);
    return !out->failed;
}

static bool write_segment(int fd, const CacheKey *key, const Buf *records, uint64_t off) {
    Buf lead = {0};
    bool ok = build_index(key, records, &lead) && write_at(fd, lead.data, lead.len, off) &&
              write_at(fd, records->data, records->len, off + lead.len);
    buf_free(&lead);
    return ok;
}

// A whole new file, in place of what has the name now; records NULL: with none yet.
static bool write_new(int dir, const CacheKey *key, const char *name, const Buf *records) {
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
              (!records || write_segment(fd, key, records, sizeof head)) &&
              !renameat(dir, temporary, dir, file);
    if (!ok) unlinkat(dir, temporary, 0);
    close(fd);
    return ok;
}

bool cache_file_mark(int dir, const CacheKey *key, const char *name) {
    return write_new(dir, key, name, NULL);
}

// All sound records of the file, then the new ones.
static void gather(const CacheFile *f, const Buf *more, Buf *out) {
    for (unsigned s = 0; s < f->n_segs; s++) {
        const CacheSegment *seg = &f->seg[s];
        uint64_t at = sizeof(SegHead) + seg->n_index * sizeof(CacheIndex);
        while (at + sizeof(CacheRecord) <= seg->bytes) {
            const CacheRecord *r = (const void *)(f->map + seg->off + at);
            if (!cache_record_ok(r, seg->bytes - at)) break;
            buf_add(out, r, r->bytes);
            at += r->bytes;
        }
    }
    buf_add(out, more->data, more->len);
}

bool cache_add_begin(int dir, const CacheKey *key, CacheAdding *a) {
    char file[FILE_NAME_BYTES];
    name_of(key, file);
    *a = (CacheAdding){.file.key = *key, .dir = dir};
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

bool cache_add_end(CacheAdding *a, const char *name, const Buf *records) {
    CacheFile *f = &a->file;
    bool ok = !records->failed && records->len;
    if (ok && f->map && f->n_segs < CACHE_MAX_SEGMENTS) {
        ok = write_segment(a->fd, &f->key, records, f->bytes);
        // what is behind the end is not read anyway
        if (!ok && ftruncate(a->fd, (off_t)f->bytes)) ok = false;
    } else if (ok && f->map) {
        Buf all = {0};
        gather(f, records, &all);
        ok = !all.failed && write_new(a->dir, &f->key, name, &all);
        buf_free(&all);
    } else if (ok) {
        ok = write_new(a->dir, &f->key, name, records);
    }
    cache_file_close(f);
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
        for (uint64_t off = sizeof head; sound && read_seg_head(fd, off, all[i].bytes, &h);
             off += h.bytes)
            blocks += h.n_blocks;
        bool foreign = fd >= 0 && !sound && read_foreign_head(fd, &head);
        if (fd >= 0) close(fd);
        if (!fn(ctx, all[i].name, sound || foreign ? &head : NULL, blocks, all[i].bytes, all[i].used) &&
            unlinkat(dir, all[i].name, 0))
            failed = -errno;
    }
    free(all);
    return failed;
}
