// base.h - the small, boring things every floor shares: integer helpers, arenas, growing
// arrays, error values and the log. Nothing here knows about guests, hosts or Linux.
//
// Thread-safety: an Arena or Buf belongs to one thread at a time; everything else is pure.
#ifndef DGM_BASE_H
#define DGM_BASE_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define ARRAY_LEN(a)      (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b)         ((a) < (b) ? (a) : (b))
#define MAX(a, b)         ((a) > (b) ? (a) : (b))
#define ALIGN_UP(x, n)    (((x) + (n)-1) & ~((__typeof__(x))(n)-1))
#define ALIGN_DOWN(x, n)  ((x) & ~((__typeof__(x))(n)-1))
#define LIKELY(x)         __builtin_expect(!!(x), 1)
#define UNLIKELY(x)       __builtin_expect(!!(x), 0)
#define PRINTF_LIKE(f, a) __attribute__((format(printf, f, a)))

// Of n items in order, how many of the first fulfil `before`, a condition about item number i that
// no item fulfils behind one that does not (a binary search).
#define COUNT_BEFORE(n, i, before)                                                                 \
    __extension__({                                                                                \
        size_t lo_ = 0, hi_ = (n);                                                                 \
        while (lo_ < hi_) {                                                                        \
            size_t i = lo_ + (hi_ - lo_) / 2;                                                      \
            if (before)                                                                            \
                lo_ = i + 1;                                                                       \
            else                                                                                   \
                hi_ = i;                                                                           \
        }                                                                                          \
        lo_;                                                                                       \
    })

// A 128-bit value as it lies in guest state: little-endian lanes. Aligned, so that host vector
// moves may touch it directly.
typedef union V128 {
    uint8_t b[16];
    uint16_t h[8];
    uint32_t w[4];
    uint64_t d[2];
    int8_t sb[16];
    int16_t sh[8];
    int32_t sw[4];
    int64_t sd[2];
    float f[4];
    double g[2];
} __attribute__((aligned(16))) V128;

static inline uint64_t bits_get(uint64_t x, unsigned lo, unsigned n) {
    return (x >> lo) & (n >= 64 ? ~0ull : (1ull << n) - 1);
}
// Sign-extends the low n (1..64) bits of x.
static inline int64_t bits_sext(uint64_t x, unsigned n) {
    return (int64_t)(x << (64 - n)) >> (64 - n);
}
static inline uint64_t bits_mask(unsigned n) {
    return n >= 64 ? ~0ull : (1ull << n) - 1;
}
static inline uint64_t bits_ror(uint64_t x, unsigned r, unsigned width) {
    x &= bits_mask(width);
    r %= width;
    return r ? ((x >> r) | (x << (width - r))) & bits_mask(width) : x;
}

// ---- errors: an error value is 0 or a negative errno; the message sits in a DgmErr ----
typedef struct DgmErr {
    char text[512]; // "what: why", without a newline; empty when there is none
    int code;       // what err_set was given with it
} DgmErr;
// Writes the message and returns code, so that `return err_set(e, -ENOENT, ...)` reads well.
int err_set(DgmErr *e, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);

// A fast 64-bit hash, not against malice.
uint64_t hash_bytes(const void *data, size_t bytes, uint64_t seed);

// ---- arena: allocate forward, free all at once ----
typedef struct ArenaChunk ArenaChunk;
typedef struct Arena {
    ArenaChunk *head;
    char *at, *end;
    size_t bytes; // of all chunks: large ones are made of huge pages
} Arena;
// Memory is zeroed and 16-byte aligned. NULL when the host has no more.
void *arena_alloc(Arena *a, size_t bytes);
char *arena_printf(Arena *a, const char *fmt, ...) PRINTF_LIKE(2, 3);
// Forgets the contents but keeps the first chunk for the next round.
void arena_reset(Arena *a);
void arena_free(Arena *a);

// ---- pages: large zeroed memory from the host, as huge pages from HUGE_PAGE_BYTES on ----
enum { HUGE_PAGE_BYTES = 2 << 20 };
// bytes is a multiple of 4096. NULL when the host has no more.
void *pages_alloc(size_t bytes);
// The same, but each page is there only when it is touched: room of which little may be used.
void *pages_reserve(size_t bytes);
void pages_free(void *p, size_t bytes);

// ---- buf: a growing byte buffer that is also a string builder ----
typedef struct Buf {
    char *data; // NUL-terminated when built with buf_printf
    size_t len, cap;
    bool failed; // an allocation failed; the contents are short
} Buf;
void buf_add(Buf *b, const void *data, size_t bytes);
void buf_printf(Buf *b, const char *fmt, ...) PRINTF_LIKE(2, 3);
void buf_free(Buf *b);

// ---- log: what --log asked for; one per machine, written whole lines at a time ----
typedef enum LogTopic {
    LOG_GUEST = 1 << 0, // guest code as it is translated
    LOG_IR = 1 << 1,    // IR after lifting
    LOG_OPT = 1 << 2,   // IR after the passes
    LOG_HOST = 1 << 3,  // host code
    LOG_EXEC = 1 << 4,  // every block entered by the dispatcher
    LOG_UNIMP = 1 << 5, // instructions and system calls that are not there
    LOG_PAGE = 1 << 6,  // guest mappings
    LOG_SIGNAL = 1 << 7,
    LOG_CACHE = 1 << 8, // translations kept on disk
} LogTopic;
typedef struct Log {
    uint32_t topics; // LogTopic bits
    uint64_t lo, hi; // only guest addresses in [lo, hi); hi == 0 means all
    int fd;          // where it goes; 2 unless told
} Log;
static inline bool log_on(const Log *l, uint32_t topics, uint64_t pc) {
    return UNLIKELY(l->topics & topics) && (!l->hi || (pc >= l->lo && pc < l->hi));
}
void log_printf(const Log *l, const char *fmt, ...) PRINTF_LIKE(2, 3);

#endif
