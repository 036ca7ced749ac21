// cache_set.h - the tags of one cache or TLB and the policy that replaces them; cache_model.c only.
//
// The tags of a set lie side by side. In the outer levels, which are large, their order is their
// age where a policy needs no more: LRU keeps them from the latest used to the oldest, FIFO
// (everywhere) from the latest filled, and a victim is the last. Elsewhere a line stays in its way
// and the state of the policy is beside the tags: a time (LRU), a tree of bits (PLRU), two bits a
// way (SRRIP), nothing (random). First levels have `latest` as well, a copy of the tag that each
// set saw last, for the inline path of cache_model.h: it only holds a tag whose next use would
// change no state.
#ifndef DGM_TOOLS_CACHE_SET_H
#define DGM_TOOLS_CACHE_SET_H

#include "cache_model.h"

#include <stdlib.h>

#define CACHE_SRRIP_MAX 3u // two bits; a fill is given one less, a hit 0
#define CACHE_STREAMS   16u
#define CACHE_MAX_PLRU  64u // the nodes of a tree are bits of a word

// What the stride prefetcher knows of one 4 KiB region.
typedef struct {
    uint64_t region; // UINT64_MAX: nothing yet
    uint64_t last_line;
    int64_t stride; // in lines
    bool repeated;  // seen twice in a row
} CacheStream;

typedef struct {
    // Fixed after cache_set_init().
    uint64_t set_mask;
    uint32_t ways, line_shift;
    CacheUnitConfig config;
    // The contents.
    uint64_t *tags;   // sets * ways, and one behind them that stays empty
    uint64_t *latest; // one a set, first levels only
    uint64_t *used;   // sets * ways, LRU in first levels only; 0: empty
    uint64_t clock;   // of used; TLBs go by another (cache_tlb.h)
    uint8_t *rrpv;    // sets * ways, SRRIP only
    uint64_t
        *tree; // one a set, PLRU only: bit n set: the victim is under the right child of node n
    uint64_t plru_path[CACHE_MAX_PLRU], plru_away[CACHE_MAX_PLRU]; // of each way, fixed
    uint64_t random;
    CacheStream stream[CACHE_STREAMS];
    // What the prefetcher has to look at when the access is done.
    bool event;
    uint64_t event_line;
    CacheStats stats;
} CacheSet;

#define CACHE_FLAGS (CACHE_DIRTY | CACHE_PREFETCHED)

static inline uint64_t cache_tag_line(uint64_t tag) {
    return tag >> CACHE_TAG_SHIFT;
}

// Whether a set's tags are in the order of their age.
static inline bool cache_set_ordered(const CacheSet *c) {
    return c->config.policy == CACHE_FIFO || (c->config.policy == CACHE_LRU && !c->used);
}

static inline bool cache_set_on(const CacheSet *c) {
    return c->tags != NULL;
}

static inline uint64_t *cache_set_tags(CacheSet *c, uint64_t line) {
    return c->tags + (line & c->set_mask) * c->ways;
}

// Which of n neighbours is the line: a bit each.
static inline unsigned cache_tags_match(const uint64_t *tags, unsigned n, uint64_t line) {
    unsigned match = 0;
    for (unsigned i = 0; i < n; i++)
        match |= (unsigned)((tags[i] ^ line << CACHE_TAG_SHIFT) <= CACHE_FLAGS) << i;
    return match;
}

// The line's way, or c->ways. Eight at a time: a branch for each would be a guess for each.
static inline unsigned cache_set_find(const CacheSet *c, uint64_t line) {
    const uint64_t *tags = c->tags + (line & c->set_mask) * c->ways;
    unsigned way = 0, match;
    for (; way + 8 <= c->ways; way += 8)
        if ((match = cache_tags_match(tags + way, 8, line)))
            return way + (unsigned)__builtin_ctz(match);
    for (; way + 4 <= c->ways; way += 4)
        if ((match = cache_tags_match(tags + way, 4, line)))
            return way + (unsigned)__builtin_ctz(match);
    while (way < c->ways && (tags[way] ^ line << CACHE_TAG_SHIFT) > CACHE_FLAGS) way++;
    return way;
}

// Turns every node on the way to a leaf away from it.
static inline void cache_set_plru_touch(CacheSet *c, uint64_t set, unsigned way) {
    c->tree[set] = (c->tree[set] & ~c->plru_path[way]) | c->plru_away[way];
}

static inline void cache_set_plru_init(CacheSet *c) {
    for (unsigned way = 0; way < c->ways; way++) {
        unsigned node = 1;
        for (unsigned half = c->ways / 2; half; half /= 2) {
            bool right = way & half;
            c->plru_path[way] |= UINT64_C(1) << node;
            c->plru_away[way] |= (uint64_t)!right << node;
            node = node * 2 + right;
        }
    }
}

static inline unsigned cache_set_plru_victim(const CacheSet *c, uint64_t set) {
    unsigned node = 1;
    while (node < c->ways) node = node * 2 + (c->tree[set] >> node & 1);
    return node - c->ways;
}

// Moves the tag at way to the front; the ones before it become one older.
static inline void cache_set_to_front(uint64_t *tags, unsigned way, uint64_t tag) {
    uint64_t carry = tags[0];
    tags[0] = tag;
    for (unsigned i = 1; i <= way; i++) {
        uint64_t next = tags[i];
        tags[i] = carry;
        carry = next;
    }
}

// A use of the line at way, whose tag becomes `tag` (flags may change).
static inline void cache_set_touch(CacheSet *c, uint64_t line, unsigned way, uint64_t tag) {
    uint64_t *tags = cache_set_tags(c, line), set = line & c->set_mask;
    if (c->config.policy == CACHE_LRU && !c->used) {
        cache_set_to_front(tags, way, tag);
        return;
    }
    tags[way] = tag;
    if (c->latest) c->latest[set] = tag;
    if (c->config.policy == CACHE_LRU) c->used[set * c->ways + way] = ++c->clock;
    if (c->config.policy == CACHE_PLRU) cache_set_plru_touch(c, set, way);
    if (c->config.policy == CACHE_SRRIP) c->rrpv[set * c->ways + way] = 0;
}

static inline unsigned cache_set_random(CacheSet *c) {
    uint64_t x = c->random;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    c->random = x;
    return (unsigned)((x >> 32) * c->ways >> 32);
}

static inline unsigned cache_set_srrip_victim(CacheSet *c, uint64_t set) {
    uint8_t *rrpv = c->rrpv + set * c->ways;
    for (;;) {
        for (unsigned way = 0; way < c->ways; way++)
            if (rrpv[way] == CACHE_SRRIP_MAX) return way;
        for (unsigned way = 0; way < c->ways; way++) rrpv[way]++;
    }
}

// LRU by time: empty ways are the oldest. Four minima at once, as each waits for the one before.
static inline unsigned cache_set_oldest(const CacheSet *c, uint64_t set) {
    const uint64_t *used = c->used + set * c->ways;
    uint64_t least[4] = {UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX};
    unsigned way = 0;
    for (; way + 4 <= c->ways; way += 4)
        for (unsigned i = 0; i < 4; i++) {
            uint64_t key = used[way + i] << 8 | (way + i);
            least[i] = key < least[i] ? key : least[i];
        }
    for (; way < c->ways; way++) {
        uint64_t key = used[way] << 8 | way;
        least[0] = key < least[0] ? key : least[0];
    }
    uint64_t a = least[0] < least[1] ? least[0] : least[1];
    uint64_t b = least[2] < least[3] ? least[2] : least[3];
    return (a < b ? a : b) & 0xff;
}

// The way that a fill of line will use: the first empty one, else the policy's victim.
static inline unsigned cache_set_victim(CacheSet *c, uint64_t line) {
    const uint64_t *tags = cache_set_tags(c, line);
    uint64_t set = line & c->set_mask;
    if (cache_set_ordered(c)) return c->ways - 1;
    if (c->used) return cache_set_oldest(c, set);
    for (unsigned way = 0; way < c->ways; way++)
        if (tags[way] == CACHE_NO_TAG) return way;
    if (c->config.policy == CACHE_PLRU) return cache_set_plru_victim(c, set);
    if (c->config.policy == CACHE_SRRIP) return cache_set_srrip_victim(c, set);
    return cache_set_random(c);
}

// Puts line at the way that cache_set_victim() chose.
static inline void cache_set_fill(CacheSet *c, uint64_t line, unsigned way, uint64_t flags) {
    uint64_t *tags = cache_set_tags(c, line), set = line & c->set_mask;
    uint64_t tag = line << CACHE_TAG_SHIFT | flags;
    if (cache_set_ordered(c))
        cache_set_to_front(tags, way, tag);
    else
        tags[way] = tag;
    if (c->used) c->used[set * c->ways + way] = ++c->clock;
    if (c->config.policy == CACHE_PLRU) cache_set_plru_touch(c, set, way);
    if (c->config.policy == CACHE_SRRIP) c->rrpv[set * c->ways + way] = CACHE_SRRIP_MAX - 1;
    // The next use of a new SRRIP line changes its state, so that one is not for the inline path.
    if (c->latest) c->latest[set] = c->config.policy == CACHE_SRRIP ? CACHE_NO_TAG : tag;
}

// Takes the line at way out; ordered policies close the gap.
static inline void cache_set_remove(CacheSet *c, uint64_t line, unsigned way) {
    uint64_t *tags = cache_set_tags(c, line);
    if (cache_set_ordered(c))
        for (; way + 1 < c->ways; way++) tags[way] = tags[way + 1];
    tags[way] = CACHE_NO_TAG;
    if (c->used) c->used[(line & c->set_mask) * c->ways + way] = 0;
    if (c->latest) c->latest[line & c->set_mask] = CACHE_NO_TAG;
}

// False without memory; what was made is for cache_set_free(). A unit that is off has no tags.
static inline bool cache_set_init(CacheSet *c, const CacheUnitConfig *config, uint64_t seed,
                                  bool first_level) {
    c->config = *config;
    if (!config->size_bytes) return true;
    uint64_t lines = config->size_bytes / config->line_bytes;
    c->ways = config->ways ? config->ways : (uint32_t)lines;
    uint64_t sets = lines / c->ways;
    c->set_mask = sets - 1;
    c->line_shift = (uint32_t)__builtin_ctz(config->line_bytes);
    c->random = seed;
    for (unsigned i = 0; i < CACHE_STREAMS; i++) c->stream[i].region = UINT64_MAX;
    // Sets that start on a line of the host's cache touch fewer of them.
    size_t bytes = ((lines + 1) * sizeof *c->tags + 63) / 64 * 64;
    c->tags = aligned_alloc(64, bytes);
    if (!c->tags) return false;
    for (uint64_t i = 0; i <= lines; i++) c->tags[i] = CACHE_NO_TAG;
    if (first_level) {
        c->latest = malloc(sets * sizeof *c->latest);
        if (!c->latest) return false;
        for (uint64_t i = 0; i < sets; i++) c->latest[i] = CACHE_NO_TAG;
        if (config->policy == CACHE_LRU && !(c->used = calloc(lines, sizeof *c->used)))
            return false;
    }
    if (config->policy == CACHE_SRRIP && !(c->rrpv = calloc(lines, 1))) return false;
    if (config->policy == CACHE_PLRU && !(c->tree = calloc(sets, sizeof *c->tree))) return false;
    if (config->policy == CACHE_PLRU) cache_set_plru_init(c);
    return true;
}

static inline void cache_set_free(CacheSet *c) {
    free(c->tags);
    free(c->latest);
    free(c->used);
    free(c->rrpv);
    free(c->tree);
}

#endif
