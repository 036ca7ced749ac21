// cache.c - the block table: blocks by guest (pc, mode), by guest page and by host pc.
//
// By guest pc: a chained hash that doubles, so that a million blocks cost one probe or two. By
// page: a second chained hash of 4 KiB guest pages (a block never crosses one). By host pc: code is
// handed out upwards, so the array of blocks in order of creation is sorted by address; a signal
// handler reads it without the lock, which is why it is one reserved mapping that never moves and
// its length is atomic.
#include "engine/engine.h"

#include <stdlib.h>
#include <sys/mman.h>

enum { FIRST_BUCKETS = 1 << 12, PAGE_BUCKETS = 1 << 12, PAGE_SHIFT = 12, MAX_BLOCKS = 1 << 24 };

struct BlockTable {
    Block **buckets;
    uint32_t n_buckets;
    uint32_t n_blocks;
    Block *pages[PAGE_BUCKETS];
    Block **by_code; // MAX_BLOCKS reserved
    _Atomic uint32_t n_by_code;
};

static uint32_t hash_pc(uint64_t pc, uint32_t mode) {
    uint64_t h = (pc ^ (uint64_t)mode << 48) * 0x9e3779b97f4a7c15ull;
    return h >> 32;
}
static uint32_t page_bucket(uint64_t pc) {
    return hash_pc(pc >> PAGE_SHIFT, 0) % PAGE_BUCKETS;
}

BlockTable *block_table_new(void) {
    BlockTable *t = calloc(1, sizeof *t);
    if (!t) return NULL;
    t->n_buckets = FIRST_BUCKETS;
    t->buckets = calloc(t->n_buckets, sizeof *t->buckets);
    t->by_code = mmap(NULL, MAX_BLOCKS * sizeof *t->by_code, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (t->by_code == MAP_FAILED) t->by_code = NULL;
    if (!t->buckets || !t->by_code) {
        block_table_free(t);
        return NULL;
    }
    return t;
}

void block_table_free(BlockTable *t) {
    if (!t) return;
    if (t->by_code) munmap(t->by_code, MAX_BLOCKS * sizeof *t->by_code);
    free(t->buckets);
    free(t);
}

void block_table_clear(BlockTable *t) {
    memset(t->buckets, 0, t->n_buckets * sizeof *t->buckets);
    memset(t->pages, 0, sizeof t->pages);
    t->n_blocks = 0;
    atomic_store(&t->n_by_code, 0);
}

static void double_buckets(BlockTable *t) {
    uint32_t n = t->n_buckets * 2;
    Block **buckets = calloc(n, sizeof *buckets);
    if (!buckets) return; // longer chains still work
    for (uint32_t i = 0; i < t->n_buckets; i++)
        for (Block *b = t->buckets[i], *next; b; b = next) {
            next = b->next_in_bucket;
            Block **slot = &buckets[hash_pc(b->pc, b->mode) % n];
            b->next_in_bucket = *slot;
            *slot = b;
        }
    free(t->buckets);
    t->buckets = buckets;
    t->n_buckets = n;
}

bool block_table_add(BlockTable *t, Block *b) {
    uint32_t n = atomic_load(&t->n_by_code);
    if (n == MAX_BLOCKS) return false;
    if (t->n_blocks >= t->n_buckets) double_buckets(t);
    Block **slot = &t->buckets[hash_pc(b->pc, b->mode) % t->n_buckets];
    b->next_in_bucket = *slot;
    *slot = b;
    slot = &t->pages[page_bucket(b->pc)];
    b->next_in_page = *slot;
    *slot = b;
    t->by_code[n] = b;
    atomic_store(&t->n_by_code, n + 1);
    t->n_blocks++;
    return true;
}

Block *block_table_find(const BlockTable *t, uint64_t pc, uint32_t mode) {
    Block *b = t->buckets[hash_pc(pc, mode) % t->n_buckets];
    while (b && (b->pc != pc || b->mode != mode)) b = b->next_in_bucket;
    return b;
}

Block *block_table_find_host(const BlockTable *t, uint64_t host_pc) {
    uint32_t lo = 0, hi = atomic_load(&((BlockTable *)t)->n_by_code);
    while (lo < hi) { // first block whose entry is above host_pc
        uint32_t mid = lo + (hi - lo) / 2;
        if ((uintptr_t)t->by_code[mid]->entry <= host_pc)
            lo = mid + 1;
        else
            hi = mid;
    }
    if (!lo) return NULL;
    Block *b = t->by_code[lo - 1];
    return host_pc < (uintptr_t)b->entry + b->code_bytes ? b : NULL;
}

static void unhash(BlockTable *t, Block *b) {
    Block **at = &t->buckets[hash_pc(b->pc, b->mode) % t->n_buckets];
    while (*at != b) at = &(*at)->next_in_bucket;
    *at = b->next_in_bucket;
    t->n_blocks--;
}

static void remove_in_bucket(BlockTable *t, uint32_t bucket, uint64_t lo, uint64_t hi,
                             void (*fn)(void *ctx, Block *b), void *ctx) {
    for (Block **at = &t->pages[bucket]; *at;) {
        Block *b = *at;
        // A block of no bytes stands for a pc whose code could not be fetched.
        if (b->pc < hi && b->pc + MAX(b->size_bytes, 1u) > lo) {
            *at = b->next_in_page;
            unhash(t, b);
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
