// cache_model.c - what happens on an access that the inline path of cache_model.h does not end.
//
// Levels are looked up from the first outwards, recursively: demand() is a read or write that the
// program asked for and is the only one that counts accesses and misses; silent_read() serves a
// prefetch of the level above; receive() takes a dirty line that the level above threw out. Lines
// come in through fill() alone, which also throws a victim out and, at an inclusive level, takes it
// from all levels above.
//
// Two rules keep an inclusive level inclusive: a line enters the outer level before the inner one,
// and prefetchers run when the access is done at all levels, so that none of them can throw out a
// line that is on its way inwards.
#include "cache_model.h"

#include "cache_set.h"
#include "cache_tlb.h"

#include <string.h>

#define REGION_SHIFT 12 // prefetchers stay within a page of 4 KiB, as hardware's do

typedef struct {
    CacheModel head;  // first: a CacheModel is a Model
    bool prefetching; // at any level
    uint64_t no_tag;  // what a first level that is off shows the inline path
    CacheSet unit[CACHE_LEVELS];
    CacheTlb itlb, dtlb;
    CacheSet stlb;
} Model;

static Model *model_of(CacheModel *m) {
    return (Model *)m;
}

static unsigned miss_bit(unsigned level) {
    static const uint8_t bits[CACHE_LEVELS] = {
        [CACHE_L1I] = CACHE_MISS_L1,
        [CACHE_L1D] = CACHE_MISS_L1,
        [CACHE_L2] = CACHE_MISS_L2,
        [CACHE_L3] = CACHE_MISS_L3,
    };
    return bits[level];
}

// The level after this one; CACHE_LEVELS: memory. L2 before L3 is checked by cache_config_check().
static unsigned level_after(const Model *m, unsigned level) {
    unsigned next = level <= CACHE_L1D ? CACHE_L2 : level + 1;
    return next < CACHE_LEVELS && cache_set_on(&m->unit[next]) ? next : CACHE_LEVELS;
}

static void receive(Model *m, unsigned level, uint64_t addr);

// Takes from the levels before `level` what lies in one of its lines; true if any of that was
// dirty.
static bool invalidate_before(Model *m, unsigned level, uint64_t addr) {
    bool dirty = false, all = m->unit[level].config.inclusion == CACHE_INCLUSIVE;
    // What L2 loses by this, it must be able to take from L1I.
    if (level == CACHE_L3) all |= m->unit[CACHE_L2].config.inclusion == CACHE_INCLUSIVE;
    for (unsigned i = all ? CACHE_L1I : CACHE_L1D; i < level; i++) {
        CacheSet *c = &m->unit[i];
        if (!cache_set_on(c)) continue;
        uint64_t first = addr >> c->line_shift;
        uint64_t lines = UINT64_C(1) << (m->unit[level].line_shift - c->line_shift);
        for (uint64_t line = first; line < first + lines; line++) {
            unsigned way = cache_set_find(c, line);
            if (way == c->ways) continue;
            c->stats.back_invalidations++;
            if (cache_set_tags(c, line)[way] & CACHE_DIRTY) {
                c->stats.writebacks++;
                dirty = true;
            }
            cache_set_remove(c, line, way);
        }
    }
    return dirty;
}

static void fill(Model *m, unsigned level, uint64_t line, uint64_t flags) {
    CacheSet *c = &m->unit[level];
    unsigned way = cache_set_victim(c, line);
    uint64_t victim = cache_set_tags(c, line)[way];
    if (victim != CACHE_NO_TAG) {
        uint64_t addr = cache_tag_line(victim) << c->line_shift;
        bool dirty = victim & CACHE_DIRTY;
        if (c->config.inclusion) dirty |= invalidate_before(m, level, addr);
        if (dirty) {
            c->stats.writebacks++;
            receive(m, level_after(m, level), addr);
        }
    }
    cache_set_fill(c, line, way, flags);
}

// A dirty line from the level above. It is no use of the line: its age stays, nothing is counted.
static void receive(Model *m, unsigned level, uint64_t addr) {
    if (level == CACHE_LEVELS) return;
    CacheSet *c = &m->unit[level];
    uint64_t line = addr >> c->line_shift;
    unsigned way = cache_set_find(c, line);
    bool keep = c->config.write_back && (way < c->ways || c->config.write_allocate);
    if (way == c->ways && c->config.write_allocate)
        fill(m, level, line, keep ? CACHE_DIRTY : 0);
    else if (keep)
        cache_set_tags(c, line)[way] |= CACHE_DIRTY;
    if (!keep) receive(m, level_after(m, level), addr);
}

// Brings a line in for a prefetch of the level above.
static void silent_read(Model *m, unsigned level, uint64_t addr) {
    if (level == CACHE_LEVELS) return;
    CacheSet *c = &m->unit[level];
    uint64_t line = addr >> c->line_shift;
    unsigned way = cache_set_find(c, line);
    if (way < c->ways) {
        cache_set_touch(c, line, way, cache_set_tags(c, line)[way]);
        return;
    }
    silent_read(m, level_after(m, level), addr);
    fill(m, level, line, 0);
}

// A read or write that the program asked for, at one level and, as far as it must, at those after
// it.
static unsigned demand(Model *m, unsigned level, uint64_t addr, bool write) {
    if (level == CACHE_LEVELS) return 0;
    CacheSet *c = &m->unit[level];
    uint64_t line = addr >> c->line_shift;
    uint64_t dirty = write && c->config.write_back ? CACHE_DIRTY : 0;
    unsigned next = level_after(m, level), missed = 0, way = cache_set_find(c, line);
    bool keep = way < c->ways || !write || c->config.write_allocate;
    *(write ? &c->stats.writes : &c->stats.reads) += 1;
    if (way < c->ways) {
        uint64_t tag = cache_set_tags(c, line)[way];
        if (tag & CACHE_PREFETCHED) {
            c->stats.useful_prefetches++;
            c->event = true;
            c->event_line = line;
        }
        cache_set_touch(c, line, way, (tag & ~CACHE_PREFETCHED) | dirty);
    } else {
        *(write ? &c->stats.write_misses : &c->stats.read_misses) += 1;
        c->event = true;
        c->event_line = line;
        missed = miss_bit(level);
        if (keep) {
            missed |= demand(m, next, addr, false);
            fill(m, level, line, dirty);
        }
    }
    if (write && !(keep && c->config.write_back)) missed |= demand(m, next, addr, true);
    return missed;
}

// ---- Prefetchers ----

static void prefetch(Model *m, unsigned level, uint64_t line) {
    CacheSet *c = &m->unit[level];
    if (cache_set_find(c, line) < c->ways) return;
    c->stats.prefetches++;
    silent_read(m, level_after(m, level), line << c->line_shift);
    fill(m, level, line, CACHE_PREFETCHED);
}

// The distance to prefetch at, in lines, or 0: the same one twice in a row within a region.
static int64_t learn_stride(CacheSet *c, uint64_t line) {
    uint64_t region = line >> (REGION_SHIFT - c->line_shift);
    CacheStream *s = &c->stream[region % CACHE_STREAMS];
    if (s->region != region) {
        *s = (CacheStream){.region = region, .last_line = line};
        return 0;
    }
    int64_t stride = (int64_t)(line - s->last_line);
    if (!stride) return 0;
    s->repeated = stride == s->stride;
    s->stride = stride;
    s->last_line = line;
    return s->repeated ? stride : 0;
}

// Runs the prefetchers of the levels that saw a miss or the first use of a prefetched line.
static void run_prefetchers(Model *m, unsigned level) {
    for (; level < CACHE_LEVELS; level = level_after(m, level)) {
        CacheSet *c = &m->unit[level];
        if (!c->event || c->config.prefetch == CACHE_NO_PREFETCH) continue;
        c->event = false;
        int64_t stride = c->config.prefetch == CACHE_STRIDE ? learn_stride(c, c->event_line) : 1;
        if (!stride) continue;
        uint64_t line = c->event_line;
        unsigned shift = REGION_SHIFT - c->line_shift;
        for (uint32_t i = 0; i < c->config.prefetch_degree; i++) {
            line += (uint64_t)stride;
            if (line >> shift != c->event_line >> shift) break;
            prefetch(m, level, line);
        }
    }
}

// ---- Accesses ----

// The second-level TLB, after a miss of a first one.
static unsigned translate_again(Model *m, uint64_t addr, bool write) {
    CacheSet *c = &m->stlb;
    if (!cache_set_on(c)) return CACHE_MISS_TLB;
    uint64_t page = addr >> c->line_shift;
    unsigned way = cache_set_find(c, page);
    *(write ? &c->stats.writes : &c->stats.reads) += 1;
    if (way < c->ways) {
        cache_set_touch(c, page, way, page << CACHE_TAG_SHIFT);
        return CACHE_MISS_TLB;
    }
    *(write ? &c->stats.write_misses : &c->stats.read_misses) += 1;
    cache_set_fill(c, page, cache_set_victim(c, page), 0);
    return CACHE_MISS_TLB | CACHE_MISS_STLB;
}

static unsigned translate(Model *m, CacheTlb *t, uint64_t addr, bool write) {
    CacheStats *s = &t->set.stats;
    *(write ? &s->writes : &s->reads) += 1;
    if (cache_tlb_use(t, addr >> t->set.line_shift)) return 0;
    *(write ? &s->write_misses : &s->read_misses) += 1;
    return translate_again(m, addr, write);
}

// Every page, then every line, that the access touches.
static unsigned access_slow(Model *m, unsigned cache, CacheTlb *tlb, uint64_t addr, unsigned bytes,
                            bool write) {
    uint64_t last = addr + (bytes ? bytes - 1 : 0);
    if (last < addr) last = UINT64_MAX; // nothing lies behind the end of the address space
    unsigned missed = 0;
    if (cache_set_on(&tlb->set)) {
        unsigned shift = tlb->set.line_shift;
        for (uint64_t page = addr >> shift; page <= last >> shift; page++)
            missed |= translate(m, tlb, page << shift, write);
    }
    if (cache_set_on(&m->unit[cache])) {
        const CacheFront *front = cache == CACHE_L1I ? &m->head.l1i : &m->head.l1d;
        unsigned shift = front->line_shift;
        for (uint64_t line = addr >> shift; line <= last >> shift; line++) {
            if (!write && cache_front_differs(front, line << shift) <= CACHE_DIRTY) {
                m->unit[cache].stats.reads++;
                continue;
            }
            missed |= demand(m, cache, line << shift, write);
            if (m->prefetching) run_prefetchers(m, cache);
        }
    }
    return missed;
}

// An access to a line that its set has but did not see last: common enough to have a path of its
// own. False if it is anything else, and then nothing has happened.
static inline bool access_hit(Model *m, unsigned cache, CacheTlb *tlb, uint64_t addr,
                              unsigned bytes, bool write, unsigned *missed) {
    CacheSet *c = &m->unit[cache];
    if (!cache_set_on(c) || (addr ^ (addr + bytes - 1)) >> c->line_shift) return false;
    uint64_t line = addr >> c->line_shift;
    unsigned way = cache_set_find(c, line);
    if (way == c->ways) return false;
    uint64_t tag = cache_set_tags(c, line)[way];
    if (tag & CACHE_PREFETCHED || (write && !c->config.write_back)) return false;
    cache_set_touch(c, line, way, tag | (write ? CACHE_DIRTY : 0));
    if (cache_tlb_front_has(tlb->front, addr)) { // counted as the inline path does
        cache_tlb_front_use(tlb->front, addr);
        m->head.inline_writes += write;
        *missed = 0;
    } else {
        *(write ? &c->stats.writes : &c->stats.reads) += 1;
        *missed = cache_set_on(&tlb->set) ? translate(m, tlb, addr, write) : 0;
    }
    return true;
}

unsigned cache_model_fetch_slow(CacheModel *head, uint64_t addr, unsigned bytes) {
    Model *m = model_of(head);
    unsigned missed;
    if (access_hit(m, CACHE_L1I, &m->itlb, addr, bytes, false, &missed)) return missed;
    return access_slow(m, CACHE_L1I, &m->itlb, addr, bytes, false);
}

unsigned cache_model_data_slow(CacheModel *head, uint64_t addr, unsigned bytes, bool write) {
    Model *m = model_of(head);
    unsigned missed;
    if (access_hit(m, CACHE_L1D, &m->dtlb, addr, bytes, write, &missed)) return missed;
    return access_slow(m, CACHE_L1D, &m->dtlb, addr, bytes, write);
}

// ---- Life and counts ----

// A cache that is off never ends an access in the inline path.
static CacheFront front_of(const Model *m, unsigned level) {
    const CacheSet *c = &m->unit[level];
    if (!cache_set_on(c)) return (CacheFront){.latest = &m->no_tag, .line_shift = 6};
    return (CacheFront){.latest = c->latest, .set_mask = c->set_mask, .line_shift = c->line_shift};
}

// Different for every unit, and never 0, which a xorshift would not leave.
static uint64_t seed_of(uint64_t seed, unsigned unit) {
    uint64_t x = seed + (unit + 1) * UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    x ^= x >> 31;
    return x ? x : 1;
}

static bool init_units(Model *m, const CacheConfig *config) {
    const CacheUnitConfig *unit = config->unit;
    for (unsigned i = 0; i < CACHE_LEVELS; i++)
        if (!cache_set_init(&m->unit[i], &unit[i], seed_of(config->seed, i), i <= CACHE_L1D))
            return false;
    return cache_tlb_init(&m->itlb, &m->head.itlb, &unit[CACHE_ITLB],
                          seed_of(config->seed, CACHE_ITLB)) &&
           cache_tlb_init(&m->dtlb, &m->head.dtlb, &unit[CACHE_DTLB],
                          seed_of(config->seed, CACHE_DTLB)) &&
           cache_set_init(&m->stlb, &unit[CACHE_STLB], seed_of(config->seed, CACHE_STLB), false);
}

CacheModel *cache_model_new(const CacheConfig *config) {
    CacheConfig checked = *config;
    if (cache_config_check(&checked)) return NULL;
    Model *m = calloc(1, sizeof *m);
    if (!m) return NULL;
    m->no_tag = CACHE_NO_TAG;
    for (unsigned i = 0; i < CACHE_LEVELS; i++) m->prefetching |= config->unit[i].prefetch != 0;
    if (!init_units(m, config)) {
        cache_model_free(&m->head);
        return NULL;
    }
    m->head.l1i = front_of(m, CACHE_L1I);
    m->head.l1d = front_of(m, CACHE_L1D);
    return &m->head;
}

void cache_model_free(CacheModel *head) {
    if (!head) return;
    Model *m = model_of(head);
    for (unsigned i = 0; i < CACHE_LEVELS; i++) cache_set_free(&m->unit[i]);
    cache_tlb_free(&m->itlb);
    cache_tlb_free(&m->dtlb);
    cache_set_free(&m->stlb);
    free(m);
}

static const CacheSet *set_of(const Model *m, CacheUnitId unit) {
    switch (unit) {
    case CACHE_ITLB: return &m->itlb.set;
    case CACHE_DTLB: return &m->dtlb.set;
    case CACHE_STLB: return &m->stlb;
    default: return &m->unit[unit];
    }
}

void cache_model_add(CacheModel *dst, const CacheModel *src) {
    Model *to = model_of(dst);
    const Model *from = (const Model *)src;
    for (CacheUnitId unit = 0; unit < CACHE_UNITS; unit++) {
        CacheStats *a = &((CacheSet *)set_of(to, unit))->stats;
        const CacheStats *b = &set_of(from, unit)->stats;
        a->reads += b->reads;
        a->read_misses += b->read_misses;
        a->writes += b->writes;
        a->write_misses += b->write_misses;
        a->writebacks += b->writebacks;
        a->prefetches += b->prefetches;
        a->useful_prefetches += b->useful_prefetches;
        a->back_invalidations += b->back_invalidations;
    }
    // A clock may jump forwards, but each tick must be an access or a slow use.
    dst->itlb.clock += src->itlb.clock;
    dst->dtlb.clock += src->dtlb.clock;
    to->itlb.slow_uses += from->itlb.slow_uses;
    to->dtlb.slow_uses += from->dtlb.slow_uses;
    dst->inline_writes += src->inline_writes;
}

CacheStats cache_model_stats(const CacheModel *head, CacheUnitId unit) {
    const Model *m = (const Model *)head;
    const CacheSet *c = set_of(m, unit);
    if (!cache_set_on(c)) return (CacheStats){0};
    CacheStats s = c->stats;
    if (unit == CACHE_L1I || unit == CACHE_ITLB) s.reads += head->itlb.clock - m->itlb.slow_uses;
    if (unit == CACHE_L1D || unit == CACHE_DTLB) {
        s.reads += head->dtlb.clock - m->dtlb.slow_uses - head->inline_writes;
        s.writes += head->inline_writes;
    }
    return s;
}
