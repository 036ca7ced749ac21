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
    uint32_t slot; // slot_of() the block's pc
    MetaRef block; // 0: free
} Entry;

struct BlockTable {
    const Meta *meta;
    const uint8_t *code;
    Entry *entries;
    uint32_t n_entries; // a power of two
    uint32_t n_used;    // entries that are not free
    MetaRef pages[PAGE_BUCKETS];
    MetaRef *by_code; // MAX_BLOCKS reserved; images know themselves where the code of theirs is
    uint8_t *there;   // up to here its pages are there
    _Atomic uint32_t n_by_code;
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

BlockTable *block_table_new(const Meta *meta, const uint8_t *code) {
    BlockTable *t = pages_reserve(TABLE_BYTES);
    if (!t) return NULL;
    t->meta = meta;
    t->code = code;
    t->n_entries = FIRST_ENTRIES;
    t->entries = pages_alloc(t->n_entries * sizeof *t->entries);
    t->by_code = pages_reserve(MAX_BLOCKS * sizeof *t->by_code);
    if (!t->entries || !t->by_code) {
        block_table_free(t);
        return NULL;
    }
    t->there = (uint8_t *)t->by_code + 4096;
    return t;
}

void block_table_free(BlockTable *t) {
    if (!t) return;
    pages_free(t->by_code, MAX_BLOCKS * sizeof *t->by_code);
    pages_free(t->entries, t->n_entries * sizeof *t->entries);
    pages_free(t, TABLE_BYTES);
}

void block_table_clear(BlockTable *t) {
    memset(t->entries, 0, t->n_entries * sizeof *t->entries);
    memset(t->pages, 0, sizeof t->pages);
    t->n_used = 0;
    atomic_store(&t->n_by_code, 0);
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

static bool add_by_code(BlockTable *t, MetaRef block) {
    uint32_t n = atomic_load(&t->n_by_code);
    if (n == MAX_BLOCKS) return false;
    pages_ahead((uint8_t *)(t->by_code + n), sizeof block, &t->there, (uint8_t *)t->by_code,
                (uint8_t *)(t->by_code + MAX_BLOCKS));
    t->by_code[n] = block;
    // A full barrier here would wait for all that has just been written to other blocks.
    atomic_store_explicit(&t->n_by_code, n + 1, memory_order_release);
    return true;
}

bool block_table_add(BlockTable *t, Block *b) {
    // a table that cannot grow still works until it is all but full
    if (t->n_used >= t->n_entries / 2 && !grow(t) && t->n_used >= t->n_entries - 1) return false;
    MetaRef ref = meta_ref(t->meta, b), *page = &t->pages[page_bucket(b->pc)];
    b->next_in_page = *page;
    if (!b->loaded && !add_by_code(t, ref)) return false;
    put(t->entries, t->n_entries, (Entry){slot_of(b->pc), ref});
    t->n_used++;
    *page = ref;
    return true;
}

static Entry *find(const BlockTable *t, uint64_t pc, uint32_t mode) {
    uint32_t slot = slot_of(pc);
    for (uint32_t i = slot;; i++) {
        Entry *e = &t->entries[i & (t->n_entries - 1)];
        if (!e->block) return NULL;
        if (e->slot != slot) continue;
        const Block *b = meta_at(t->meta, e->block);
        if (b->pc == pc && b->mode == mode) return e;
    }
}

void block_table_prefetch(const BlockTable *t, uint64_t pc) {
    __builtin_prefetch(&t->entries[slot_of(pc) & (t->n_entries - 1)]);
}

Block *block_table_find(const BlockTable *t, uint64_t pc, uint32_t mode) {
    Entry *e = find(t, pc, mode);
    return e ? meta_at(t->meta, e->block) : NULL;
}

uint32_t block_table_made(const BlockTable *t) {
    return atomic_load(&((BlockTable *)(uintptr_t)t)->n_by_code);
}
const Block *block_table_nth(const BlockTable *t, uint32_t i) {
    return meta_at(t->meta, t->by_code[i]);
}

Block *block_table_find_host(const BlockTable *t, uint64_t host_pc) {
    uint32_t made = block_table_made(t);
    uint64_t at = host_pc - (uintptr_t)t->code;
    size_t n = COUNT_BEFORE(made, i, block_table_nth(t, (uint32_t)i)->entry <= at);
    if (!n) return NULL;
    Block *b = meta_at(t->meta, t->by_code[n - 1]);
    return at - b->entry < b->code_bytes ? b : NULL;
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
    for (MetaRef *at = &t->pages[bucket]; *at;) {
        Block *b = meta_at(t->meta, *at);
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
