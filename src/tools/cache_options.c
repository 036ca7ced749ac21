// cache_options.c - the presets, and options in words, for cache_model.h.
//
// A preset is a whole configuration; options then change single fields. What can be judged by one
// field is refused by cache_config_parse(); what needs several (the number of sets, the order of
// line sizes) by cache_config_check(), after the last option, so that options may come in any
// order.
#include "cache_model.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define KIB (UINT64_C(1) << 10)
#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)

#define MIN_LINE    16u
#define MAX_LINE    1024u
#define MAX_SIZE    GIB
#define MIN_PAGE    (4 * KIB)
#define MAX_PAGE    GIB
#define MAX_ENTRIES UINT64_C(32768) // cache_tlb.h has 16 bits for an index
#define MAX_DEGREE  8u
#define MAX_WAYS    256u // a way is looked for one after the other
#define MAX_PLRU    64u  // the nodes of the tree are bits of a word

// ---- Presets ----
//
// Geometry as the makers publish it; where a maker gives a choice, the choice of one well-known
// product. Replacement as published: "pseudo-random" is random, "pseudo-LRU" PLRU, "dynamic biased"
// SRRIP; where nothing is, LRU. None has a prefetcher, because none is published in enough detail.
// docs/tools/cache-model.md lists what else differs from the real thing.

typedef struct {
    const char *name;
    CacheUnitConfig unit[CACHE_UNITS];
} Preset;

#define CACHE(size, ways, policy)                                                                  \
    { size, ways, 64, policy, CACHE_NO_PREFETCH, 1, true, true }
#define CACHE_INCL(size, ways, policy, inclusion)                                                  \
    { size, ways, 64, policy, CACHE_NO_PREFETCH, 1, true, true, inclusion }
#define TLB(entries, ways)                                                                         \
    { (entries) * 4 * KIB, ways, 4 * KIB, CACHE_LRU, CACHE_NO_PREFETCH, 1, true, true }
#define OFF                                                                                        \
    { 0, 16, 64, CACHE_LRU, CACHE_NO_PREFETCH, 1, true, true }

static const Preset presets[] = {
    // Arm DDI 0500, "Cortex-A53 MPCore Processor Technical Reference Manual", 2.1 (caches, pseudo-
    // random in L1), 5.2 (TLBs: two of 10 entries, a unified one of 512 in 4 ways), 7.1 (L2, 16
    // ways).
    // Sizes of Broadcom's BCM2837 (Raspberry Pi 3).
    {"cortex-a53",
     {[CACHE_L1I] = CACHE(32 * KIB, 2, CACHE_RANDOM),
      [CACHE_L1D] = CACHE(32 * KIB, 4, CACHE_RANDOM),
      [CACHE_L2] = CACHE(512 * KIB, 16, CACHE_LRU),
      [CACHE_L3] = OFF,
      [CACHE_ITLB] = TLB(10, CACHE_FULL),
      [CACHE_DTLB] = TLB(10, CACHE_FULL),
      [CACHE_STLB] = TLB(512, 4)}},
    // Arm 100095, "Cortex-A72 MPCore Processor Technical Reference Manual", 5.2 (TLBs), 6.1 (L1:
    // LRU),
    // 7.1 (L2: 16 ways, inclusive of the L1 data caches). L2 of Broadcom's BCM2711 (Raspberry Pi
    // 4).
    {"cortex-a72",
     {[CACHE_L1I] = CACHE(48 * KIB, 3, CACHE_LRU),
      [CACHE_L1D] = CACHE(32 * KIB, 2, CACHE_LRU),
      [CACHE_L2] = CACHE_INCL(1 * MIB, 16, CACHE_LRU, CACHE_INCLUSIVE_OF_DATA),
      [CACHE_L3] = OFF,
      [CACHE_ITLB] = TLB(48, CACHE_FULL),
      [CACHE_DTLB] = TLB(32, CACHE_FULL),
      [CACHE_STLB] = TLB(1024, 4)}},
    // Arm 100798, "Cortex-A76 Core Technical Reference Manual", A5.2 (TLBs), A6.1 (L1: 64 KB, 4
    // ways,
    // pseudo-LRU), A7.1 (L2: 8 ways, inclusive of L1D); Arm 100453, "DynamIQ Shared Unit Technical
    // Reference Manual" (L3, 16 ways). Sizes of Broadcom's BCM2712 (Raspberry Pi 5).
    {"cortex-a76",
     {[CACHE_L1I] = CACHE(64 * KIB, 4, CACHE_PLRU),
      [CACHE_L1D] = CACHE(64 * KIB, 4, CACHE_PLRU),
      [CACHE_L2] = CACHE_INCL(512 * KIB, 8, CACHE_SRRIP, CACHE_INCLUSIVE_OF_DATA),
      [CACHE_L3] = CACHE(2 * MIB, 16, CACHE_LRU),
      [CACHE_ITLB] = TLB(48, CACHE_FULL),
      [CACHE_DTLB] = TLB(48, CACHE_FULL),
      [CACHE_STLB] = TLB(1280, 5)}},
    // Arm 100616, "Neoverse N1 Core Technical Reference Manual", A5.2 (TLBs), A6.1 (L1), A7.1 (L2:
    // up
    // to 1 MB, 8 ways, inclusive of L1D). L2 and L3 of AWS Graviton2, whose 32 MB all cores share.
    {"neoverse-n1",
     {[CACHE_L1I] = CACHE(64 * KIB, 4, CACHE_PLRU),
      [CACHE_L1D] = CACHE(64 * KIB, 4, CACHE_PLRU),
      [CACHE_L2] = CACHE_INCL(1 * MIB, 8, CACHE_SRRIP, CACHE_INCLUSIVE_OF_DATA),
      [CACHE_L3] = CACHE(32 * MIB, 16, CACHE_LRU),
      [CACHE_ITLB] = TLB(48, CACHE_FULL),
      [CACHE_DTLB] = TLB(48, CACHE_FULL),
      [CACHE_STLB] = TLB(1280, 5)}},
    // Intel 248966, "64 and IA-32 Architectures Optimization Reference Manual", "Skylake Client
    // Microarchitecture", "Cache and Memory Subsystem": tables of caches and TLBs. L3 of four cores
    // (Core i7-6700), inclusive. Replacement as measured by Abel and Reineke, "nanoBench" (ISPASS
    // 2020): PLRU in L1; in L2 and L3 variants of what SRRIP is here.
    {"skylake",
     {[CACHE_L1I] = CACHE(32 * KIB, 8, CACHE_PLRU),
      [CACHE_L1D] = CACHE(32 * KIB, 8, CACHE_PLRU),
      [CACHE_L2] = CACHE(256 * KIB, 4, CACHE_SRRIP),
      [CACHE_L3] = CACHE_INCL(8 * MIB, 16, CACHE_SRRIP, CACHE_INCLUSIVE),
      [CACHE_ITLB] = TLB(128, 8),
      [CACHE_DTLB] = TLB(64, 4),
      [CACHE_STLB] = TLB(1536, 12)}},
    // AMD 56305, "Software Optimization Guide for AMD Family 17h Models 30h and Greater
    // Processors":
    // caches (L2 inclusive of L1, L3 of a core complex of 16 MB) and TLBs.
    {"zen2",
     {[CACHE_L1I] = CACHE(32 * KIB, 8, CACHE_LRU),
      [CACHE_L1D] = CACHE(32 * KIB, 8, CACHE_LRU),
      [CACHE_L2] = CACHE_INCL(512 * KIB, 8, CACHE_LRU, CACHE_INCLUSIVE),
      [CACHE_L3] = CACHE(16 * MIB, 16, CACHE_LRU),
      [CACHE_ITLB] = TLB(64, CACHE_FULL),
      [CACHE_DTLB] = TLB(64, CACHE_FULL),
      [CACHE_STLB] = TLB(2048, 16)}},
};

#define PRESETS (sizeof presets / sizeof presets[0])

static const char default_preset[] = "neoverse-n1";

const char *cache_preset_name(unsigned i) {
    return i < PRESETS ? presets[i].name : NULL;
}

const char *cache_unit_name(CacheUnitId unit) {
    static const char names[CACHE_UNITS][5] = {"l1i", "l1d", "l2", "l3", "itlb", "dtlb", "stlb"};
    return names[unit];
}

static bool set_preset(CacheConfig *c, const char *name) {
    for (unsigned i = 0; i < PRESETS; i++) {
        if (strcmp(presets[i].name, name)) continue;
        *c = (CacheConfig){0};
        memcpy(c->unit, presets[i].unit, sizeof c->unit);
        return true;
    }
    return false;
}

void cache_config_init(CacheConfig *c) {
    set_preset(c, default_preset);
}

// ---- Values ----

__attribute__((format(printf, 2, 3))) static const char *fail(CacheConfig *c, const char *format,
                                                              ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(c->error, sizeof c->error, format, args);
    va_end(args);
    return c->error;
}

// Decimal, with K, M or G behind it where units are allowed; all of [s, s + length).
static bool parse_number(const char *s, size_t length, bool units, uint64_t *value) {
    uint64_t n = 0;
    size_t i = 0;
    for (; i < length && s[i] >= '0' && s[i] <= '9'; i++)
        if (__builtin_mul_overflow(n, 10, &n) || __builtin_add_overflow(n, s[i] - '0', &n))
            return false;
    if (i == 0) return false;
    if (units && i < length) {
        char u = s[i] & ~0x20;
        unsigned shift = u == 'K' ? 10 : u == 'M' ? 20 : u == 'G' ? 30 : 0;
        if (!shift || n > UINT64_MAX >> shift) return false;
        n <<= shift;
        i++;
    }
    *value = n;
    return i == length;
}

static bool power_of_two(uint64_t n) {
    return n && !(n & (n - 1));
}

// The index of value in words, which ends with NULL; -1 with an error that lists them.
static int parse_word(CacheConfig *c, const char *key, const char *value,
                      const char *const *words) {
    for (int i = 0; words[i]; i++)
        if (!strcmp(words[i], value)) return i;
    char list[96] = "";
    for (int i = 0; words[i]; i++) {
        size_t n = strlen(list);
        snprintf(list + n, sizeof list - n, "%s%s", i ? ", " : "", words[i]);
    }
    fail(c, "%s: not one of %s: %.30s", key, list, value);
    return -1;
}

// ---- Fields ----

typedef enum { OF_CACHES = 1, OF_TLBS = 2, OF_OUTER = 4, NEEDS_UNIT = 8 } Scope;

typedef struct {
    const char *name;
    unsigned scope;
    const char *(*set)(CacheConfig *c, CacheUnitId unit, const char *value, size_t length);
} Field;

static const char *set_size(CacheConfig *c, CacheUnitId unit, const char *value, size_t length) {
    CacheUnitConfig *u = &c->unit[unit];
    uint64_t n;
    if (length == 3 && !memcmp(value, "off", 3)) {
        u->size_bytes = 0;
        return NULL;
    }
    if (!parse_number(value, length, true, &n) || n == 0 || n > MAX_SIZE)
        return fail(c, "%s: not off or a size up to 1G, such as 32K: %.30s", cache_unit_name(unit),
                    value);
    u->size_bytes = n;
    return NULL;
}

static const char *set_entries(CacheConfig *c, CacheUnitId unit, const char *value, size_t length) {
    CacheUnitConfig *u = &c->unit[unit];
    uint64_t n = 0;
    bool off = length == 3 && !memcmp(value, "off", 3);
    if (!off && (!parse_number(value, length, true, &n) || n == 0 || n > MAX_ENTRIES))
        return fail(c, "%s: not off or a number of entries up to 32K: %.30s", cache_unit_name(unit),
                    value);
    u->size_bytes = n * u->line_bytes;
    return NULL;
}

static const char *set_ways(CacheConfig *c, CacheUnitId unit, const char *value, size_t length) {
    uint64_t n = CACHE_FULL;
    bool full = length == 4 && !memcmp(value, "full", 4);
    if (!full && (!parse_number(value, length, false, &n) || n == 0 || n > MAX_WAYS))
        return fail(c, "%s: not full or a number of ways up to %u: %.30s", cache_unit_name(unit),
                    MAX_WAYS, value);
    c->unit[unit].ways = (uint32_t)n;
    return NULL;
}

static const char *set_line(CacheConfig *c, CacheUnitId unit, const char *value, size_t length) {
    uint64_t n;
    if (!parse_number(value, length, true, &n) || !power_of_two(n) || n < MIN_LINE || n > MAX_LINE)
        return fail(c, "%s: a line is a power of two from %u to %u bytes: %.30s",
                    cache_unit_name(unit), MIN_LINE, MAX_LINE, value);
    c->unit[unit].line_bytes = (uint32_t)n;
    return NULL;
}

// The number of entries stays.
static const char *set_page(CacheConfig *c, CacheUnitId unit, const char *value, size_t length) {
    CacheUnitConfig *u = &c->unit[unit];
    uint64_t n;
    if (!parse_number(value, length, true, &n) || !power_of_two(n) || n < MIN_PAGE || n > MAX_PAGE)
        return fail(c, "%s: a page is a power of two from 4K to 1G: %.30s", cache_unit_name(unit),
                    value);
    u->size_bytes = u->size_bytes / u->line_bytes * n;
    u->line_bytes = (uint32_t)n;
    return NULL;
}

static const char *set_policy(CacheConfig *c, CacheUnitId unit, const char *value, size_t length) {
    static const char *const words[] = {"lru", "plru", "fifo", "random", "srrip", NULL};
    int i = parse_word(c, "replacement", value, words);
    if (i < 0) return c->error;
    c->unit[unit].policy = (CachePolicy)i;
    return NULL;
}

static const char *set_prefetch(CacheConfig *c, CacheUnitId unit, const char *value,
                                size_t length) {
    static const char *const words[] = {"none", "nextline", "stride", NULL};
    int i = parse_word(c, "prefetch", value, words);
    if (i < 0) return c->error;
    c->unit[unit].prefetch = (CachePrefetch)i;
    return NULL;
}

static const char *set_degree(CacheConfig *c, CacheUnitId unit, const char *value, size_t length) {
    uint64_t n;
    if (!parse_number(value, length, false, &n) || n == 0 || n > MAX_DEGREE)
        return fail(c, "degree: not a number of lines from 1 to %u: %.30s", MAX_DEGREE, value);
    c->unit[unit].prefetch_degree = (uint32_t)n;
    return NULL;
}

static const char *set_write(CacheConfig *c, CacheUnitId unit, const char *value, size_t length) {
    static const char *const words[] = {"through", "back", NULL};
    int i = parse_word(c, "write", value, words);
    if (i < 0) return c->error;
    c->unit[unit].write_back = i;
    return NULL;
}

static const char *set_allocate(CacheConfig *c, CacheUnitId unit, const char *value,
                                size_t length) {
    static const char *const words[] = {"no", "yes", NULL};
    int i = parse_word(c, "allocate", value, words);
    if (i < 0) return c->error;
    c->unit[unit].write_allocate = i;
    return NULL;
}

static const char *set_inclusive(CacheConfig *c, CacheUnitId unit, const char *value,
                                 size_t length) {
    static const char *const words[] = {"no", "data", "yes", NULL};
    int i = parse_word(c, "inclusive", value, words);
    if (i < 0) return c->error;
    c->unit[unit].inclusion = (CacheInclusion)i;
    return NULL;
}

static const Field fields[] = {
    {"size", OF_CACHES | NEEDS_UNIT, set_size},
    {"entries", OF_TLBS | NEEDS_UNIT, set_entries},
    {"ways", OF_CACHES | OF_TLBS | NEEDS_UNIT, set_ways},
    {"line", OF_CACHES, set_line},
    {"page", OF_TLBS, set_page},
    {"replacement", OF_CACHES | OF_TLBS, set_policy},
    {"prefetch", OF_CACHES, set_prefetch},
    {"degree", OF_CACHES, set_degree},
    {"write", OF_CACHES, set_write},
    {"allocate", OF_CACHES, set_allocate},
    {"inclusive", OF_OUTER, set_inclusive},
};

static bool field_is_of(const Field *f, CacheUnitId unit) {
    if (unit >= CACHE_LEVELS) return f->scope & OF_TLBS;
    return f->scope & OF_CACHES || (f->scope & OF_OUTER && unit >= CACHE_L2);
}

static const Field *find_field(const char *name) {
    for (unsigned i = 0; i < sizeof fields / sizeof fields[0]; i++)
        if (!strcmp(fields[i].name, name)) return &fields[i];
    return NULL;
}

// ---- Options ----

// UNIT=SIZE[:WAYS[:LINE]], for a TLB UNIT=ENTRIES[:WAYS[:PAGE]].
static const char *parse_geometry(CacheConfig *c, CacheUnitId unit, const char *value) {
    bool tlb = unit >= CACHE_LEVELS;
    const char *(*const set[])(CacheConfig *, CacheUnitId, const char *, size_t) = {
        tlb ? set_entries : set_size, set_ways, tlb ? set_page : set_line};
    for (unsigned i = 0; i < 3; i++) {
        size_t length = strcspn(value, ":");
        const char *error = set[i](c, unit, value, length);
        if (error) return error;
        if (!value[length]) return NULL;
        value += length + 1;
    }
    return fail(c, "%s: more than SIZE:WAYS:LINE", cache_unit_name(unit));
}

static const char *parse_field(CacheConfig *c, const char *key, CacheUnitId unit, const char *name,
                               const char *value) {
    const Field *f = find_field(name);
    if (!f || (unit < CACHE_UNITS && !field_is_of(f, unit)))
        return fail(c, "no such option: %.40s", key);
    if (unit < CACHE_UNITS) return f->set(c, unit, value, strlen(value));
    if (f->scope & NEEDS_UNIT)
        return fail(c, "%s of which cache? Say, for example, %s.%s", name,
                    f->scope & OF_CACHES ? "l1d" : "dtlb", name);
    for (unit = 0; unit < CACHE_UNITS; unit++)
        if (field_is_of(f, unit)) {
            const char *error = f->set(c, unit, value, strlen(value));
            if (error) return error;
        }
    return NULL;
}

const char *cache_config_parse(CacheConfig *c, const char *key, const char *value) {
    if (!strcmp(key, "preset")) {
        if (set_preset(c, value)) return NULL;
        char list[96] = "";
        for (unsigned i = 0; i < PRESETS; i++) {
            size_t n = strlen(list);
            snprintf(list + n, sizeof list - n, "%s%s", i ? ", " : "", presets[i].name);
        }
        return fail(c, "preset: not one of %s: %.30s", list, value);
    }
    if (!strcmp(key, "seed")) {
        if (parse_number(value, strlen(value), false, &c->seed)) return NULL;
        return fail(c, "seed: not a number: %.30s", value);
    }
    for (CacheUnitId unit = 0; unit < CACHE_UNITS; unit++) {
        const char *name = cache_unit_name(unit);
        size_t n = strlen(name);
        if (strncmp(key, name, n)) continue;
        if (!key[n]) return parse_geometry(c, unit, value);
        if (key[n] == '.') return parse_field(c, key, unit, key + n + 1, value);
    }
    return parse_field(c, key, CACHE_UNITS, key, value);
}

// ---- The whole ----

static const char *check_unit(CacheConfig *c, CacheUnitId unit) {
    const CacheUnitConfig *u = &c->unit[unit];
    const char *name = cache_unit_name(unit);
    bool tlb = unit >= CACHE_LEVELS;
    uint64_t least = tlb ? MIN_PAGE : MIN_LINE, most = tlb ? MAX_PAGE : MAX_LINE;
    if (!power_of_two(u->line_bytes) || u->line_bytes < least || u->line_bytes > most)
        return fail(c, "%s: %s of %u bytes", name, tlb ? "pages" : "lines", u->line_bytes);
    uint64_t lines = u->size_bytes / u->line_bytes, ways = u->ways ? u->ways : lines;
    if (u->size_bytes % u->line_bytes || lines > (tlb ? MAX_ENTRIES : MAX_SIZE / MIN_LINE))
        return fail(c, "%s: %llu bytes in lines of %u", name, (unsigned long long)u->size_bytes,
                    u->line_bytes);
    if (ways > MAX_WAYS)
        return fail(c, "%s: fully associative with %llu entries; at most %u", name,
                    (unsigned long long)ways, MAX_WAYS);
    if (lines % ways || !power_of_two(lines / ways))
        return fail(c, "%s: %llu lines in %llu ways do not make a power of two of sets", name,
                    (unsigned long long)lines, (unsigned long long)ways);
    if (u->policy == CACHE_PLRU && (!power_of_two(ways) || ways > MAX_PLRU))
        return fail(c, "%s: plru needs a power of two of ways up to %u, not %llu", name, MAX_PLRU,
                    (unsigned long long)ways);
    if (!tlb && u->prefetch && (u->prefetch_degree == 0 || u->prefetch_degree > MAX_DEGREE))
        return fail(c, "%s: prefetch degree %u", name, u->prefetch_degree);
    return NULL;
}

const char *cache_config_check(CacheConfig *c) {
    for (CacheUnitId unit = 0; unit < CACHE_UNITS; unit++) {
        const char *error = c->unit[unit].size_bytes ? check_unit(c, unit) : NULL;
        if (error) return error;
    }
    if (c->unit[CACHE_L3].size_bytes && !c->unit[CACHE_L2].size_bytes)
        return fail(c, "l3 without l2");
    // Before and after, in the order of look-up: what the inner one asks for lies in one outer
    // line.
    static const uint8_t order[][2] = {{CACHE_L1I, CACHE_L2},
                                       {CACHE_L1D, CACHE_L2},
                                       {CACHE_L2, CACHE_L3},
                                       {CACHE_ITLB, CACHE_STLB},
                                       {CACHE_DTLB, CACHE_STLB}};
    for (unsigned i = 0; i < sizeof order / sizeof order[0]; i++) {
        const CacheUnitConfig *inner = &c->unit[order[i][0]], *outer = &c->unit[order[i][1]];
        if (inner->size_bytes && outer->size_bytes && inner->line_bytes > outer->line_bytes)
            return fail(c, "%s has %s of %u bytes, more than %s's %u", cache_unit_name(order[i][0]),
                        i < 3 ? "lines" : "pages", inner->line_bytes, cache_unit_name(order[i][1]),
                        outer->line_bytes);
    }
    return NULL;
}
