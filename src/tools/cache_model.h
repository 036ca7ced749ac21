// cache_model.h - a model of caches and TLBs that is fed one access at a time.
//
// It says which accesses miss and where; it knows no time. Two first-level caches (instructions,
// data) stand before a common L2 and L3, two first-level TLBs before a common second level; each
// may be off. docs/tools/cache-model.md says exactly what each access does; the simulator in
// tests/tools/cache_sim.py was written from that text and must agree in every count.
//
// Speed: most accesses are to the line that its set saw last, in a page seen not long ago. Using
// such a line again changes no state of any replacement policy, and using the page only its age, so
// the inline functions below compare both, note the time and are done; all else goes out of line.
// The tag that they compare carries two flags, so that a first write to a clean line and a first
// use of a prefetched line go out of line as well.
//
// A model belongs to one thread at a time; there are no globals. The same configuration and
// accesses give the same counts on every machine, random replacement too. Start reading at
// cache_model_data().
#ifndef DGM_TOOLS_CACHE_MODEL_H
#define DGM_TOOLS_CACHE_MODEL_H

#include <stdbool.h>
#include <stdint.h>

// The units of a model, also the order of CacheConfig's tables.
typedef enum {
    CACHE_L1I,
    CACHE_L1D,
    CACHE_L2,
    CACHE_L3,
    CACHE_ITLB,
    CACHE_DTLB,
    CACHE_STLB,
    CACHE_UNITS,
    CACHE_LEVELS = CACHE_ITLB, // the caches come first
} CacheUnitId;

typedef enum { CACHE_LRU, CACHE_PLRU, CACHE_FIFO, CACHE_RANDOM, CACHE_SRRIP } CachePolicy;
typedef enum { CACHE_NO_PREFETCH, CACHE_NEXT_LINE, CACHE_STRIDE } CachePrefetch;
// What a level holds of what the levels before it hold: anything, all data, all.
typedef enum { CACHE_NON_INCLUSIVE, CACHE_INCLUSIVE_OF_DATA, CACHE_INCLUSIVE } CacheInclusion;

// One cache, or one TLB: there, a line is a page, and only the first four fields count.
typedef struct {
    uint64_t size_bytes; // 0: the unit is off
    uint32_t ways;       // CACHE_FULL: as many as there are lines
    uint32_t line_bytes;
    CachePolicy policy;
    CachePrefetch prefetch;
    uint32_t prefetch_degree; // lines per prefetch
    bool write_back;          // else written through
    bool write_allocate;      // a write that misses brings its line in
    CacheInclusion inclusion; // L2, L3
} CacheUnitConfig;

#define CACHE_FULL 0u

typedef struct {
    CacheUnitConfig unit[CACHE_UNITS];
    uint64_t seed;   // of random replacement
    char error[160]; // what the functions below returned last
} CacheConfig;

// What an access missed: a union of these.
enum {
    CACHE_MISS_L1 = 1,
    CACHE_MISS_L2 = 2,
    CACHE_MISS_L3 = 4,
    CACHE_MISS_TLB = 8,
    CACHE_MISS_STLB = 16, // the page table is walked
};

typedef struct {
    uint64_t reads, read_misses;
    uint64_t writes, write_misses;
    uint64_t writebacks;         // dirty lines sent to the next level
    uint64_t prefetches;         // lines that this level's prefetcher brought in
    uint64_t useful_prefetches;  // of these, asked for before they were evicted
    uint64_t back_invalidations; // lines lost because an inclusive level below evicted them
} CacheStats;

// ---- Configuration (cache_options.c) ----

// The default: the preset neoverse-n1.
void cache_config_init(CacheConfig *c);

// One option, as docs/tools/cache-model.md lists them; the error in words, which lives in c, or
// NULL. Later options overwrite earlier ones, and preset all of them.
const char *cache_config_parse(CacheConfig *c, const char *key, const char *value);

// Whether all options together make sense: the error in words, which lives in c, or NULL.
const char *cache_config_check(CacheConfig *c);

// The i-th preset's name or NULL, and "l1i" ... "stlb".
const char *cache_preset_name(unsigned i);
const char *cache_unit_name(CacheUnitId unit);

// ---- The model (cache_model.c) ----

// What the inline path reads of a first-level cache: where each set's latest tag is.
typedef struct {
    const uint64_t *latest;
    uint64_t set_mask;
    uint32_t line_shift;
} CacheFront;

// And of a first-level TLB: its entries, when each was used last, and which one to try for a page.
typedef struct {
    const uint16_t *entry; // by the page's low bits
    const uint64_t *tags;
    uint64_t *used;
    uint64_t slot_mask;
    uint64_t clock; // counts all inline accesses, and other uses of the TLB
    uint32_t page_shift;
} CacheTlbFront;

// The head of a model; cache_model.c has the rest.
typedef struct CacheModel {
    CacheFront l1d;
    CacheTlbFront dtlb;
    uint64_t inline_writes;
    CacheFront l1i;
    CacheTlbFront itlb;
} CacheModel;

// NULL if the configuration does not check or memory ran out.
CacheModel *cache_model_new(const CacheConfig *config);
void cache_model_free(CacheModel *m);

// Adds src's counts to dst's, of the same configuration; the contents of dst's caches stay.
void cache_model_add(CacheModel *dst, const CacheModel *src);

// The counts so far; all 0 for a unit that is off.
CacheStats cache_model_stats(const CacheModel *m, CacheUnitId unit);

unsigned cache_model_fetch_slow(CacheModel *m, uint64_t addr, unsigned bytes);
unsigned cache_model_data_slow(CacheModel *m, uint64_t addr, unsigned bytes, bool write);

// A tag is line << CACHE_TAG_SHIFT with these flags; no tag is CACHE_NO_TAG.
#define CACHE_TAG_SHIFT  2
#define CACHE_DIRTY      UINT64_C(1)
#define CACHE_PREFETCHED UINT64_C(2)
#define CACHE_NO_TAG     UINT64_MAX

// The latest tag of addr's set, less the address: only flags are left if it is the same line.
static inline uint64_t cache_front_differs(const CacheFront *f, uint64_t addr) {
    uint64_t line = addr >> f->line_shift;
    return f->latest[line & f->set_mask] ^ line << CACHE_TAG_SHIFT;
}

static inline unsigned cache_tlb_front_entry(const CacheTlbFront *f, uint64_t addr) {
    return f->entry[addr >> f->page_shift & f->slot_mask];
}

static inline bool cache_tlb_front_has(const CacheTlbFront *f, uint64_t addr) {
    return f->tags[cache_tlb_front_entry(f, addr)] == addr >> f->page_shift << CACHE_TAG_SHIFT;
}

static inline void cache_tlb_front_use(CacheTlbFront *f, uint64_t addr) {
    f->used[cache_tlb_front_entry(f, addr)] = f->clock++;
}

// An instruction fetch of bytes at addr: a single instruction, or a whole run of them.
static inline unsigned cache_model_fetch(CacheModel *m, uint64_t addr, unsigned bytes) {
    if (__builtin_expect((addr ^ (addr + bytes - 1)) >> m->l1i.line_shift == 0 &&
                             cache_front_differs(&m->l1i, addr) == 0 &&
                             cache_tlb_front_has(&m->itlb, addr),
                         1)) {
        cache_tlb_front_use(&m->itlb, addr);
        return 0;
    }
    return cache_model_fetch_slow(m, addr, bytes);
}

// A load or store of bytes at addr. Returns the levels that missed.
static inline unsigned cache_model_data(CacheModel *m, uint64_t addr, unsigned bytes, bool write) {
    uint64_t l1d = cache_front_differs(&m->l1d, addr);
    if (__builtin_expect((addr ^ (addr + bytes - 1)) >> m->l1d.line_shift == 0 &&
                             (write ? l1d == CACHE_DIRTY : l1d <= CACHE_DIRTY) &&
                             cache_tlb_front_has(&m->dtlb, addr),
                         1)) {
        cache_tlb_front_use(&m->dtlb, addr);
        m->inline_writes += write;
        return 0;
    }
    return cache_model_data_slow(m, addr, bytes, write);
}

#endif
