// base.c - see base.h.
#include "base/base.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum { ARENA_FIRST_BYTES = 64 << 10, ARENA_CHUNK_BYTES = 512 << 10, ARENA_SMALL_BYTES = 2 << 20 };

struct ArenaChunk {
    ArenaChunk *next; // older chunk
    size_t bytes;     // usable, behind this header
} __attribute__((aligned(16)));

void *pages_alloc(size_t bytes) {
    size_t slack = bytes >= HUGE_PAGE_BYTES ? HUGE_PAGE_BYTES : 0; // huge pages are aligned
    // Small ones are there at once: a system call for all costs less than a fault for each page.
    char *p = mmap(NULL, bytes + slack, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | (slack ? 0 : MAP_POPULATE), -1, 0);
    if (p == MAP_FAILED) return NULL;
    if (!slack) return p;
    char *at = (char *)ALIGN_UP((uintptr_t)p, HUGE_PAGE_BYTES);
    if (at > p) munmap(p, (size_t)(at - p));
    if (p + slack > at) munmap(at + bytes, (size_t)(p + slack - at));
    madvise(at, bytes, MADV_HUGEPAGE);
    return at;
}

void *pages_reserve(size_t bytes) {
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

void pages_free(void *p, size_t bytes) {
    if (p) munmap(p, bytes);
}

// A message of `length` bytes that is too long, usually by a path: its beginning and its end, where
// the reason stands.
static void shorten(DgmErr *e, size_t length, const char *fmt, va_list ap) {
    enum { HEAD = sizeof e->text / 2 - 4, TAIL = sizeof e->text / 2 };
    char *whole = malloc(length + 1);
    if (!whole) return;
    vsnprintf(whole, length + 1, fmt, ap);
    snprintf(e->text, sizeof e->text, "%.*s...%s", HEAD, whole, whole + length - TAIL);
    free(whole);
}

int err_set(DgmErr *e, int code, const char *fmt, ...) {
    if (!e) return code;
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(e->text, sizeof e->text, fmt, ap);
    if (n >= (int)sizeof e->text) shorten(e, (size_t)n, fmt, again);
    va_end(again);
    va_end(ap);
    e->code = code;
    return code;
}

void *arena_alloc(Arena *a, size_t bytes) {
    bytes = ALIGN_UP(MAX(bytes, 1), 16);
    if ((size_t)(a->end - a->at) < bytes) {
        // As much again as there is, for pages are there at once whether they will be used or not.
        size_t whole = MIN(MAX(a->bytes, (size_t)ARENA_FIRST_BYTES), (size_t)ARENA_CHUNK_BYTES);
        if (a->bytes > ARENA_SMALL_BYTES) whole = HUGE_PAGE_BYTES;
        whole = MAX(whole, ALIGN_UP(bytes + sizeof(ArenaChunk), 4096));
        ArenaChunk *c = pages_alloc(whole);
        if (!c) return NULL;
        size_t want = whole - sizeof *c;
        *c = (ArenaChunk){.next = a->head, .bytes = want};
        a->head = c;
        a->bytes += whole;
        a->at = (char *)(c + 1);
        a->end = a->at + want;
    }
    void *p = a->at;
    a->at += bytes;
    return p; // zeroed: by the host, or when it was forgotten
}

char *arena_printf(Arena *a, const char *fmt, ...) {
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    char *s = n < 0 ? NULL : arena_alloc(a, (size_t)n + 1);
    if (s) vsnprintf(s, (size_t)n + 1, fmt, again);
    va_end(again);
    return s;
}

void arena_reset(Arena *a) {
    while (a->head && a->head->next) {
        ArenaChunk *c = a->head;
        a->head = c->next;
        a->bytes -= sizeof *c + c->bytes;
        pages_free(c, sizeof *c + c->bytes);
    }
    if (a->head) {
        char *start = (char *)(a->head + 1), *end = start + a->head->bytes;
        memset(start, 0, (size_t)((a->end == end ? a->at : end) - start));
        a->at = start;
        a->end = end;
    }
}

void arena_free(Arena *a) {
    while (a->head) {
        ArenaChunk *c = a->head;
        a->head = c->next;
        pages_free(c, sizeof *c + c->bytes);
    }
    *a = (Arena){0};
}

static bool buf_reserve(Buf *b, size_t more) {
    if (b->failed) return false;
    if (b->len + more + 1 > b->cap) {
        size_t cap = MAX(b->len + more + 1, b->cap * 2 + 64);
        char *p = realloc(b->data, cap);
        if (!p) {
            b->failed = true;
            return false;
        }
        b->data = p;
        b->cap = cap;
    }
    return true;
}

void buf_add(Buf *b, const void *data, size_t bytes) {
    if (!bytes) return; // data may be NULL then
    if (!buf_reserve(b, bytes)) return;
    memcpy(b->data + b->len, data, bytes);
    b->len += bytes;
    b->data[b->len] = 0;
}

void buf_printf(Buf *b, const char *fmt, ...) {
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n >= 0 && buf_reserve(b, (size_t)n)) {
        vsnprintf(b->data + b->len, (size_t)n + 1, fmt, again);
        b->len += (size_t)n;
    }
    va_end(again);
}

void buf_free(Buf *b) {
    free(b->data);
    *b = (Buf){0};
}

void log_printf(const Log *l, const char *fmt, ...) {
    char line[2048];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    if (n < 0) return;
    size_t len = MIN((size_t)n, sizeof line - 1);
    for (size_t at = 0; at < len;) {
        ssize_t w = write(l->fd, line + at, len - at);
        if (w <= 0) return;
        at += (size_t)w;
    }
}

// Both halves of the product of 64 bits by 64.
static inline uint64_t fold(uint64_t a, uint64_t b) {
    unsigned __int128 p = (unsigned __int128)a * b;
    return (uint64_t)p ^ (uint64_t)(p >> 64);
}

static inline uint64_t word_at(const uint8_t *p) {
    uint64_t w;
    memcpy(&w, p, sizeof w);
    return w;
}

uint64_t hash_bytes(const void *data, size_t bytes, uint64_t seed) {
    const uint64_t k1 = 0x9e3779b97f4a7c15ull, k2 = 0xd6e8feb86659fd93ull;
    const uint8_t *p = data;
    uint64_t a = seed ^ bytes * k2, b = ~seed * k1;
    if (bytes >= 256) { // four chains of one product each: as fast as memory
        uint64_t c[4] = {a, b, a ^ k2, b ^ k1};
        for (; bytes >= 64; p += 64, bytes -= 64) {
            __builtin_prefetch(p + 1024); // across the end of the page, where the CPU's own stops
            for (int i = 0; i < 4; i++) {
                uint64_t w0 = word_at(p + 16 * i), w1 = word_at(p + 16 * i + 8);
                c[i] = fold(c[i] ^ w0, w1 ^ k1) + w0;
            }
        }
        a = fold(c[0] ^ k2, c[1]) ^ c[3];
        b = fold(c[2] ^ k1, c[3]) ^ c[1];
    }
    for (; bytes >= 16; p += 16, bytes -= 16) { // two chains, so that products overlap
        uint64_t w[2];
        memcpy(w, p, sizeof w);
        a = (a ^ w[0]) * k1;
        b = (b ^ w[1]) * k2;
        a ^= a >> 29;
        b ^= b >> 31;
    }
    uint64_t w[2] = {0};
    if (bytes) memcpy(w, p, bytes); // data may be NULL
    a = (a ^ w[0]) * k1;
    b = (b ^ w[1]) * k2;
    a ^= (b ^ b >> 32) * k1;
    a = (a ^ a >> 29) * k2;
    return a ^ a >> 32;
}
