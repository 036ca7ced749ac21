// cache_tlb.h - a first-level TLB: a CacheSet of pages behind a table for the inline path.
//
// First-level TLBs are often fully associative, so neither looking a page up nor keeping all
// entries in the order of their use is cheap. A direct-mapped table of the pages seen last, much
// larger than the TLB, ends nearly all look-ups. An entry in the table is always one in the TLB;
// what may be there depends on what using it again would change:
//   LRU            only its time, which the table has and hands back before a victim is chosen;
//   FIFO, random   nothing: any entry may be there;
//   PLRU, SRRIP    nothing, if it is its set's latest: only that one is there.
// Nothing but speed depends on the table. cache_model.c only.
#ifndef DGM_TOOLS_CACHE_TLB_H
#define DGM_TOOLS_CACHE_TLB_H

#include "cache_set.h"

// Two of ten pages in use share a slot in one program of fifty.
#define CACHE_TLB_SLOTS 2048u

typedef struct {
    CacheSet set;
    CacheTlbFront *front;
    uint64_t *slot_tag;   // front->tags
    uint32_t *slot_entry; // the index of each in set.used
    uint64_t slow_uses;   // ticks of front->clock that were no inline access
} CacheTlb;

static inline uint64_t cache_tlb_slot(uint64_t page) {
    return page & (CACHE_TLB_SLOTS - 1);
}

// Takes tag out of the table, if it is there.
static inline void cache_tlb_forget(CacheTlb *t, uint64_t tag) {
    uint64_t slot = cache_tlb_slot(cache_tag_line(tag));
    if (tag == CACHE_NO_TAG || t->slot_tag[slot] != tag) return;
    if (t->set.used) t->set.used[t->slot_entry[slot]] = t->front->used[slot];
    t->slot_tag[slot] = CACHE_NO_TAG;
}

static inline void cache_tlb_remember(CacheTlb *t, uint64_t page, unsigned way) {
    uint64_t slot = cache_tlb_slot(page);
    cache_tlb_forget(t, t->slot_tag[slot]);
    t->slot_tag[slot] = page << CACHE_TAG_SHIFT;
    t->slot_entry[slot] = (uint32_t)((page & t->set.set_mask) * t->set.ways + way);
}

// Hands back the times of a set's entries.
static inline void cache_tlb_collect(CacheTlb *t, uint64_t page) {
    uint64_t first = (page & t->set.set_mask) * t->set.ways;
    for (uint64_t i = first; i < first + t->set.ways; i++) {
        uint64_t slot = cache_tlb_slot(cache_tag_line(t->set.tags[i]));
        if (t->slot_tag[slot] == t->set.tags[i]) t->set.used[i] = t->front->used[slot];
    }
}

// Uses a page; false if it was not there. It is afterwards.
static inline bool cache_tlb_use(CacheTlb *t, uint64_t page) {
    CacheSet *c = &t->set;
    uint64_t slot = cache_tlb_slot(page), now = t->front->clock++, set = page & c->set_mask;
    t->slow_uses++;
    if (t->slot_tag[slot] == page << CACHE_TAG_SHIFT) {
        t->front->used[slot] = now;
        return true;
    }
    bool only_latest = c->config.policy == CACHE_PLRU || c->config.policy == CACHE_SRRIP;
    if (only_latest) cache_tlb_forget(t, c->latest[set]);
    unsigned way = cache_set_find(c, page);
    bool hit = way < c->ways;
    if (!hit) {
        if (c->used) cache_tlb_collect(t, page);
        way = cache_set_victim(c, page);
        cache_tlb_forget(t, cache_set_tags(c, page)[way]);
        cache_set_fill(c, page, way, 0);
    } else if (!c->used) {
        cache_set_touch(c, page, way, page << CACHE_TAG_SHIFT);
    }
    if (only_latest && c->latest[set] == CACHE_NO_TAG) return hit;
    cache_tlb_remember(t, page, way);
    t->front->used[slot] = now;
    return hit;
}

// False without memory. A TLB that is off never keeps an access from the inline path: its table has
// the one page that all of the lower half of the address space is.
static inline bool cache_tlb_init(CacheTlb *t, CacheTlbFront *front, const CacheUnitConfig *config,
                                  uint64_t seed) {
    t->front = front;
    if (!cache_set_init(&t->set, config, seed, true)) return false;
    uint64_t slots = cache_set_on(&t->set) ? CACHE_TLB_SLOTS : 1;
    t->slot_tag = malloc(slots * sizeof *t->slot_tag);
    t->slot_entry = malloc(slots * sizeof *t->slot_entry);
    front->used = calloc(slots, sizeof *front->used);
    if (!t->slot_tag || !t->slot_entry || !front->used) return false;
    front->tags = t->slot_tag;
    front->slot_mask = slots - 1;
    front->page_shift = cache_set_on(&t->set) ? t->set.line_shift : 63;
    for (uint64_t i = 0; i < slots; i++) t->slot_tag[i] = slots == 1 ? 0 : CACHE_NO_TAG;
    return true;
}

static inline void cache_tlb_free(CacheTlb *t) {
    cache_set_free(&t->set);
    free(t->slot_tag);
    free(t->slot_entry);
    free(t->front ? t->front->used : NULL);
}

#endif
