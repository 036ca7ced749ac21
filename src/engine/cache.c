// cache.c - the block table: blocks by guest (pc, mode), by guest page and by host pc.
//
// By guest pc: an open hash at most half full whose entries hold the hash, so that a look-up of
// what is not there is one cache miss, in eight bytes: much of what a new block costs is memory
// that is new. Blocks that lie near each other in the guest lie near each other in the table too. A
// removal closes the gap it makes: a guest that rewrites one page again and again would else leave
// ever longer runs of marks to search through. By page: a chained hash of 4 KiB guest pages (a
// block never crosses one). By host pc: code is handed out upwards, so the array of blocks in order
// of creation is sorted by address; a signal handler reads it without the lock, which is why it is
// one reserved mapping that never moves and its length is atomic.
#include "engine/engine.h"

#include <stdlib.h>
#include <sys/mman.h>

enum { FIRST_ENTRIES = 1 << 12, PAGE_BUCKETS = 1 << 12, PAGE_SHIFT = 12, MAX_BLOCKS = 1 << 24 };

typedef struct Entry {
    uint32_t slot;  // slot_of() the block's pc
    uint32_t block; // its place in by_code, or behind LOADED in loaded, plus 1; 0: free
} Entry;
#define LOADED 0x80000000u

struct BlockTable {
    Entry *entries;
    uint32_t n_entries; // a power of two
    uint32_t n_used;    // entries that are not free
    Block *pages[PAGE_BUCKETS];
    Block **by_code;  // MAX_BLOCKS reserved
    uint32_t n_there; // pages for so many are there
    _Atomic uint32_t n_by_code;
    Block **loaded; // those of images: MAX_BLOCKS reserved when there is one, else NULL
    uint32_t n_loaded;
};
#define TABLE_BYTES ALIGN_UP(sizeof(BlockTable), 4096)

// A window of entries for each KiB of guest code, about four for each block there.
static uint32_t slot_of(uint64_t pc) {
    return (uint32_t)((pc >> 10) * 0x9e3779b97f4a7c15ull >> 26) + (pc >> 3 & 127);
}
// Pages that lie side by side in the guest do so here, in as many pages of ours as there is code.
static uint32_t page_bucket(uint64_t pc) {
    return (uint32_t)(((pc >> 24) * 0x9e3779b97f4a7c15ull >> 40) + (pc >> PAGE_SHIFT)) %
           PAGE_BUCKETS;
}

BlockTable *block_table_new(void) {
    BlockTable *t = pages_reserve(TABLE_BYTES);
    if (!t) return NULL;
    t->n_entries = FIRST_ENTRIES;
    t->n_there = 4096 / sizeof *t->by_code;
    t->entries = pages_alloc(t->n_entries * sizeof *t->entries);
    t->by_code = pages_reserve(MAX_BLOCKS * sizeof *t->by_code);
    if (!t->entries || !t->by_code) {
        block_table_free(t);
        return NULL;
    }
    return t;
}

void block_table_free(BlockTable *t) {
    if (!t) return;
    pages_free(t->by_code, MAX_BLOCKS * sizeof *t->by_code);
    pages_free(t->loaded, MAX_BLOCKS * sizeof *t->loaded);
    pages_free(t->entries, t->n_entries * sizeof *t->entries);
    pages_free(t, TABLE_BYTES);
}

void block_table_clear(BlockTable *t) {
    memset(t->entries, 0, t->n_entries * sizeof *t->entries);
    memset(t->pages, 0, sizeof t->pages);
    t->n_used = t->n_loaded = 0;
    atomic_store(&t->n_by_code, 0);
}

static Block *block_of(const BlockTable *t, const Entry *e) {
    uint32_t i = e->block - 1;
    return i & LOADED ? t->loaded[i & ~LOADED] : t->by_code[i];
}

static void put(Entry *entries, uint32_t n, Entry e) {
    uint32_t i = e.slot & (n - 1);
    while (entries[i].block) i = (i + 1) & (n - 1);
    entries[i] = e;
}

static bool grow(BlockTable *t) {
    uint32_t n = t->n_entries * 4; // who has many blocks will have more
    Entry *entries = pages_alloc(n * sizeof *entries);
    if (!entries) return false;
    for (uint32_t i = 0; i < t->n_entries; i++)
        if (t->entries[i].block) put(entries, n, t->entries[i]);
    pages_free(t->entries, t->n_entries * sizeof *t->entries);
    t->entries = entries;
    t->n_entries = n;
    return true;
}

// Pages of by_code are asked for some at a time, as those of code.
static void populate(BlockTable *t) {
    enum { STEP_BYTES = 64 << 10 };
    uint8_t *at = (uint8_t *)(t->by_code + t->n_there);
    madvise(at, STEP_BYTES, MADV_POPULATE_WRITE); // before Linux 5.14 faults do it
    t->n_there += STEP_BYTES / sizeof *t->by_code;
}

// Its place among those that were made, or loaded. False: out of room.
static inline bool number(BlockTable *t, Block *b, uint32_t *place) {
    uint32_t n = b->loaded ? t->n_loaded : atomic_load(&t->n_by_code);
    if (n == MAX_BLOCKS) return false;
    if (!b->loaded) {
        if (n == t->n_there && n) populate(t);
        t->by_code[n] = b;
        *place = n;
        return true;
    }
    if (!t->loaded) t->loaded = pages_reserve(MAX_BLOCKS * sizeof *t->loaded);
    if (!t->loaded) return false;
    t->loaded[n] = b;
    *place = n | LOADED;
    return true;
}

bool block_table_add(BlockTable *t, Block *b) {
    // a table that cannot grow still works until it is all but full
    if (t->n_used >= t->n_entries / 2 && !grow(t) && t->n_used >= t->n_entries - 1) return false;
    uint32_t place;
    if (!number(t, b, &place)) return false;
    put(t->entries, t->n_entries, (Entry){slot_of(b->pc), place + 1});
    t->n_used++;
    Block **slot = &t->pages[page_bucket(b->pc)];
    b->next_in_page = *slot;
    *slot = b;
    if (b->loaded) { // its image knows where its code is
        t->n_loaded++;
        return true;
    }
    // A full barrier here would wait for all that has just been written to other blocks.
    atomic_store_explicit(&t->n_by_code, place + 1, memory_order_release);
    return true;
}

static Entry *find(const BlockTable *t, uint64_t pc, uint32_t mode) {
    uint32_t slot = slot_of(pc);
    for (uint32_t i = slot;; i++) {
        Entry *e = &t->entries[i & (t->n_entries - 1)];
        if (!e->block) return NULL;
        if (e->slot != slot) continue;
        const Block *b = block_of(t, e);
        if (b->pc == pc && b->mode == mode) return e;
    }
}

void block_table_prefetch(const BlockTable *t, uint64_t pc) {
    __builtin_prefetch(&t->entries[slot_of(pc) & (t->n_entries - 1)]);
}

Block *block_table_find(const BlockTable *t, uint64_t pc, uint32_t mode) {
    Entry *e = find(t, pc, mode);
    return e ? block_of(t, e) : NULL;
}

uint32_t block_table_made(const BlockTable *t) {
    return atomic_load(&((BlockTable *)(uintptr_t)t)->n_by_code);
}
const Block *block_table_nth(const BlockTable *t, uint32_t i) {
    return t->by_code[i];
}

Block *block_table_find_host(const BlockTable *t, uint64_t host_pc) {
    uint32_t made = atomic_load(&((BlockTable *)t)->n_by_code);
    size_t n = COUNT_BEFORE(made, i, (uintptr_t)t->by_code[i]->entry <= host_pc);
    if (!n) return NULL;
    Block *b = t->by_code[n - 1];
    return host_pc < (uintptr_t)b->entry + b->code_bytes ? b : NULL;
}

// Frees an entry and moves those behind it up, so that each is still reached from its slot.
static void take_out(BlockTable *t, Entry *e) {
    uint32_t mask = t->n_entries - 1, free_at = (uint32_t)(e - t->entries);
    for (uint32_t i = (free_at + 1) & mask; t->entries[i].block; i = (i + 1) & mask) {
        uint32_t distance = (i - t->entries[i].slot) & mask; // from its slot
        if (distance < ((i - free_at) & mask)) continue;     // the gap lies before its slot
        t->entries[free_at] = t->entries[i];
        free_at = i;
    }
    t->entries[free_at] = (Entry){0};
    t->n_used--;
}

static void remove_in_bucket(BlockTable *t, uint32_t bucket, uint64_t lo, uint64_t hi,
                             void (*fn)(void *ctx, Block *b), void *ctx) {
    for (Block **at = &t->pages[bucket]; *at;) {
        Block *b = *at;
        // A block of no bytes stands for a pc whose code could not be fetched.
        if (b->pc < hi && b->pc + MAX(b->size_bytes, 1u) > lo) {
            *at = b->next_in_page;
            take_out(t, find(t, b->pc, b->mode));
            fn(ctx, b);
        } else {
            at = &b->next_in_page;
        }
    }
}

void block_table_remove(BlockTable *t, uint64_t lo, uint64_t hi, void (*fn)(void *ctx, Block *b),
                        void *ctx) {
    if (lo >= hi) return;
    uint64_t first = lo >> PAGE_SHIFT, last = (hi - 1) >> PAGE_SHIFT;
    if (last - first >= PAGE_BUCKETS) {
        for (uint32_t i = 0; i < PAGE_BUCKETS; i++) remove_in_bucket(t, i, lo, hi, fn, ctx);
        return;
    }
    for (uint64_t page = first; page <= last; page++)
        remove_in_bucket(t, page_bucket(page << PAGE_SHIFT), lo, hi, fn, ctx);
}
