// cache_tlb.h - a first-level TLB: a CacheSet of pages behind a table for the inline path.
//
// First-level TLBs are often fully associative, so neither looking a page up nor keeping all
// entries in the order of their use is cheap. A table, much larger than the TLB, guesses the entry
// from the page's low bits; it is right for nearly all look-ups. The inline path may then end an
// access as it likes if using the entry again changes nothing but its time (LRU) or nothing (FIFO,
// random), and if the entry is its set's latest (PLRU, SRRIP: the table has only those). Nothing
// but speed depends on the table. cache_model.c only.
#ifndef DGM_TOOLS_CACHE_TLB_H
#define DGM_TOOLS_CACHE_TLB_H

#include "cache_set.h"

// Two of ten pages in use share a slot in one program of fifty.
#define CACHE_TLB_SLOTS 2048u

typedef struct {
    CacheSet set;
    CacheTlbFront *front;
    uint16_t *entry;     // front->entry: an index of set.tags
    uint64_t slow_uses;  // ticks of front->clock that were no inline access
    uint64_t *no_used;   // front->used, if the policy keeps no time
    uint64_t lower_half; // front->tags of a TLB that is off: page 0
} CacheTlb;

static inline uint64_t cache_tlb_slot(uint64_t page) {
    return page & (CACHE_TLB_SLOTS - 1);
}

// Sends guesses at the page of tag to the entry that is always empty.
static inline void cache_tlb_forget(CacheTlb *t, uint64_t tag) {
    uint16_t *entry = &t->entry[cache_tlb_slot(cache_tag_line(tag))];
    if (t->set.tags[*entry] == tag) *entry = (uint16_t)((t->set.set_mask + 1) * t->set.ways);
}

// Uses a page; false if it was not there. It is afterwards.
static inline bool cache_tlb_use(CacheTlb *t, uint64_t page) {
    CacheSet *c = &t->set;
    uint64_t now = t->front->clock++, set = page & c->set_mask;
    uint16_t *guess = &t->entry[cache_tlb_slot(page)];
    t->slow_uses++;
    if (c->tags[*guess] == page << CACHE_TAG_SHIFT) {
        t->front->used[*guess] = now;
        return true;
    }
    bool only_latest = c->config.policy == CACHE_PLRU || c->config.policy == CACHE_SRRIP;
    if (only_latest) cache_tlb_forget(t, c->latest[set]);
    unsigned way = cache_set_find(c, page);
    bool hit = way < c->ways;
    if (!hit) {
        way = cache_set_victim(c, page);
        cache_set_fill(c, page, way, 0);
        if (c->config.policy == CACHE_FIFO) way = 0; // the latest filled comes first
    } else {
        cache_set_touch(c, page, way, page << CACHE_TAG_SHIFT);
    }
    if (only_latest && c->latest[set] == CACHE_NO_TAG) return hit;
    *guess = (uint16_t)(set * c->ways + way);
    t->front->used[*guess] = now;
    return hit;
}

// False without memory. A TLB that is off never keeps an access from the inline path: it seems to
// have the one page that all of the lower half of the address space is.
static inline bool cache_tlb_init(CacheTlb *t, CacheTlbFront *front, const CacheUnitConfig *config,
                                  uint64_t seed) {
    t->front = front;
    if (!cache_set_init(&t->set, config, seed, true)) return false;
    bool on = cache_set_on(&t->set);
    uint64_t slots = on ? CACHE_TLB_SLOTS : 1,
             entries = on ? (t->set.set_mask + 1) * t->set.ways : 0;
    t->entry = malloc(slots * sizeof *t->entry);
    if (!t->entry) return false;
    for (uint64_t i = 0; i < slots; i++) t->entry[i] = (uint16_t)entries;
    // The inline path notes the time even where the policy keeps none.
    if (!t->set.used && !(t->no_used = calloc(entries + 1, sizeof *t->no_used))) return false;
    *front = (CacheTlbFront){.entry = t->entry,
                             .tags = on ? t->set.tags : &t->lower_half,
                             .used = t->set.used ? t->set.used : t->no_used,
                             .slot_mask = slots - 1,
                             .clock = 1, // 0 is an empty entry's
                             .page_shift = on ? t->set.line_shift : 63};
    t->slow_uses = 1;
    return true;
}

static inline void cache_tlb_free(CacheTlb *t) {
    cache_set_free(&t->set);
    free(t->entry);
    free(t->no_used);
}

#endif
