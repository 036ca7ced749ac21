// cache.c - the block table: blocks by guest (pc, mode), by guest page and by host pc.
//
// By guest pc: each 4 KiB page of guest code (a block never crosses one) has a CodePage, which an
// open hash finds, at most a quarter full. There each 64 bytes have a list of their blocks, and
// bits that say where some begin: most of what is looked up is not there, and most of that lies in
// the page of the block that asks, so it takes a line of memory that is near, and no look at any
// Block. By host pc: code is handed out upwards, so the array of blocks in order of creation is
// sorted by address; a signal handler reads it without the lock, which is why it is one reserved
// mapping that never moves and its length is atomic.
#include "engine/engine.h"

#include <stdlib.h>
#include <sys/mman.h>

enum { PAGE_SHIFT = 12, LINE_SHIFT = 6, PAGE_LINES = 1 << (PAGE_SHIFT - LINE_SHIFT) };
enum { FIRST_ENTRIES = 1 << 10, MAX_PAGES = 1 << 22, MAX_BLOCKS = 1 << 24 };

typedef struct CodeLine {
    MetaRef blocks;  // the last that was added, then by Block.next_in_line
    uint32_t starts; // start_bit() of each, and of some that are gone
} CodeLine;

typedef struct CodePage {
    CodeLine line[PAGE_LINES];
} CodePage;

typedef struct Entry {
    uint64_t number; // pc >> PAGE_SHIFT
    CodePage *page;  // NULL: free
} Entry;

struct BlockTable {
    const Meta *meta;
    const uint8_t *code;
    Entry *entries;
    uint32_t n_entries;   // a power of two
    uint32_t n_pages;     // entries that are not free
    CodePage *pages;      // MAX_PAGES reserved
    uint8_t *pages_there; // up to here they are there
    MetaRef *by_code;     // MAX_BLOCKS reserved; images know themselves where the code of theirs is
    uint8_t *by_code_there; // the same
    _Atomic uint32_t n_by_code;
};

static uint32_t slot_of(uint64_t number) {
    return (uint32_t)(number * 0x9e3779b97f4a7c15ull >> 32);
}
static uint32_t start_bit(uint64_t pc) {
    return 1u << (pc >> 1 & 31);
}
static CodeLine *line_of(CodePage *page, uint64_t pc) {
    return &page->line[pc >> LINE_SHIFT & (PAGE_LINES - 1)];
}

BlockTable *block_table_new(const Meta *meta, const uint8_t *code) {
    BlockTable *t = calloc(1, sizeof *t);
    if (!t) return NULL;
    t->meta = meta;
    t->code = code;
    t->n_entries = FIRST_ENTRIES;
    t->entries = pages_alloc(t->n_entries * sizeof *t->entries);
    t->pages = pages_reserve(MAX_PAGES * sizeof *t->pages);
    t->by_code = pages_reserve(MAX_BLOCKS * sizeof *t->by_code);
    if (!t->entries || !t->pages || !t->by_code) {
        block_table_free(t);
        return NULL;
    }
    t->pages_there = (uint8_t *)t->pages;
    t->by_code_there = (uint8_t *)t->by_code + 4096;
    return t;
}

void block_table_free(BlockTable *t) {
    if (!t) return;
    pages_free(t->by_code, MAX_BLOCKS * sizeof *t->by_code);
    pages_free(t->pages, MAX_PAGES * sizeof *t->pages);
    pages_free(t->entries, t->n_entries * sizeof *t->entries);
    free(t);
}

void block_table_clear(BlockTable *t) {
    memset(t->entries, 0, t->n_entries * sizeof *t->entries);
    t->n_pages = 0;
    atomic_store(&t->n_by_code, 0);
}

// ---- pages ----

// The entry of that page, or the free one where it belongs.
static Entry *entry_of(Entry *entries, uint32_t n, uint64_t number) {
    uint32_t i = slot_of(number) & (n - 1);
    while (entries[i].page && entries[i].number != number) i = (i + 1) & (n - 1);
    return &entries[i];
}

static CodePage *page_of(const BlockTable *t, uint64_t pc) { // NULL: no blocks
    return entry_of(t->entries, t->n_entries, pc >> PAGE_SHIFT)->page;
}

static bool grow(BlockTable *t) {
    uint32_t n = t->n_entries * 4; // who has many pages will have more
    Entry *entries = pages_alloc(n * sizeof *entries);
    if (!entries) return false;
    for (uint32_t i = 0; i < t->n_entries; i++)
        if (t->entries[i].page) *entry_of(entries, n, t->entries[i].number) = t->entries[i];
    pages_free(t->entries, t->n_entries * sizeof *t->entries);
    t->entries = entries;
    t->n_entries = n;
    return true;
}

static CodePage *new_page(BlockTable *t, uint64_t pc) {
    // a table that cannot grow still works until it is all but full
    bool full = t->n_pages >= t->n_entries / 4 && !grow(t) && t->n_pages >= t->n_entries - 1;
    if (full || t->n_pages == MAX_PAGES) return NULL;
    CodePage *page = &t->pages[t->n_pages++];
    pages_ahead((uint8_t *)page, sizeof *page, &t->pages_there, (uint8_t *)t->pages,
                (uint8_t *)(t->pages + MAX_PAGES));
    *page = (CodePage){0}; // before the last clear it may have been another
    uint64_t number = pc >> PAGE_SHIFT;
    *entry_of(t->entries, t->n_entries, number) = (Entry){number, page};
    return page;
}

// ---- blocks ----

static bool add_by_code(BlockTable *t, MetaRef block) {
    uint32_t n = atomic_load(&t->n_by_code);
    if (n == MAX_BLOCKS) return false;
    pages_ahead((uint8_t *)(t->by_code + n), sizeof block, &t->by_code_there, (uint8_t *)t->by_code,
                (uint8_t *)(t->by_code + MAX_BLOCKS));
    t->by_code[n] = block;
    // A full barrier here would wait for all that has just been written to other blocks.
    atomic_store_explicit(&t->n_by_code, n + 1, memory_order_release);
    return true;
}

bool block_table_add(BlockTable *t, Block *b) {
    CodePage *page = page_of(t, b->pc);
    if (!page && !(page = new_page(t, b->pc))) return false;
    MetaRef ref = meta_ref(t->meta, b);
    if (!b->loaded && !add_by_code(t, ref)) return false;
    CodeLine *line = line_of(page, b->pc);
    b->next_in_line = line->blocks;
    line->blocks = ref;
    line->starts |= start_bit(b->pc);
    return true;
}

Block *block_table_find(const BlockTable *t, uint64_t pc, uint32_t mode) {
    CodePage *page = page_of(t, pc);
    if (!page) return NULL;
    const CodeLine *line = line_of(page, pc);
    if (!(line->starts & start_bit(pc))) return NULL;
    for (MetaRef at = line->blocks; at;) {
        Block *b = meta_at(t->meta, at);
        if (b->pc == pc && b->mode == mode) return b;
        at = b->next_in_line;
    }
    return NULL;
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

// Those that begin in one line.
static void remove_in_line(BlockTable *t, CodeLine *line, uint64_t lo, uint64_t hi,
                           void (*fn)(void *ctx, Block *b), void *ctx) {
    for (MetaRef *at = &line->blocks; *at;) {
        Block *b = meta_at(t->meta, *at);
        // A block of no bytes stands for a pc whose code could not be fetched.
        if (b->pc < hi && b->pc + MAX(b->size_bytes, 1u) > lo) {
            *at = b->next_in_line;
            fn(ctx, b);
        } else {
            at = &b->next_in_line;
        }
    }
    if (!line->blocks) line->starts = 0;
}

static void remove_in_page(BlockTable *t, CodePage *page, uint64_t lo, uint64_t hi,
                           void (*fn)(void *ctx, Block *b), void *ctx) {
    for (unsigned i = 0; i < PAGE_LINES; i++)
        if (page->line[i].blocks) remove_in_line(t, &page->line[i], lo, hi, fn, ctx);
}

void block_table_remove(BlockTable *t, uint64_t lo, uint64_t hi, void (*fn)(void *ctx, Block *b),
                        void *ctx) {
    if (lo >= hi) return;
    uint64_t first = lo >> PAGE_SHIFT, last = (hi - 1) >> PAGE_SHIFT;
    if (last - first >= t->n_entries) {
        for (const Entry *e = t->entries, *end = e + t->n_entries; e < end; e++)
            if (e->page && e->number - first <= last - first)
                remove_in_page(t, e->page, lo, hi, fn, ctx);
        return;
    }
    for (uint64_t number = first; number <= last; number++) {
        CodePage *page = page_of(t, number << PAGE_SHIFT);
        if (page) remove_in_page(t, page, lo, hi, fn, ctx);
    }
}
