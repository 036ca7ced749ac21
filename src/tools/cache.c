// cache.c - the `cache` tool: what the caches and TLBs of a CPU would have missed, by function,
// line and instruction.
//
// Translated code writes a record for each block entered and each access made, in their order; the
// thread that made them feeds them to its model (cache_model.h) when the buffer is full. Each
// thread has caches of its own. A record's constant is the number of its site, which knows the
// rest.
#include "tools/tools.h"

#include "tools/cache_model.h"
#include "tools/page.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { MAX_SITES = 1 << 25, MAX_THREADS = 4096, LEVELS = 5, BUFFER_RECORDS = 2048 };

typedef struct Site {
    uint64_t address;
    bool fetch;
    _Atomic uint32_t missed[LEVELS]; // by bit of CACHE_MISS_*
} Site;
// A record's constant: the site's number, how many bytes, and what is done to them.
enum { SITE_FETCH, SITE_READ, SITE_WRITE, SITE_BOTH, KIND_BITS = 2, BYTES_BITS = 14 };

// Misses as the run went on, for a page: neighbours are put together when there is no more room.
enum { MAX_SAMPLES = 512, FIRST_STEP = 1 << 14 };
typedef struct Sample { // all so far
    uint64_t accesses, missed[CACHE_LEVELS];
} Sample;

typedef struct Cache {
    Report report;
    char configuration[400];
    _Atomic uint64_t missed[CACHE_LEVELS]; // only counted for a page
    uint64_t step;                         // accesses between samples; 0: there are none
    Sample *samples;                       // under `lock`
    unsigned n_samples;
    // Where using again what was used last changes nothing, those uses are only counted.
    dgm_filter *code_filter, *data_filter;
    dgm_counter fetches, reads, writes;
    _Atomic uint64_t fed_fetches, fed_reads, fed_writes;
    CacheConfig config;
    dgm_buffer *buffer;
    Site *sites;
    uint32_t n_sites;
    uint64_t top;
    CacheModel *models[MAX_THREADS];
    CacheModel *total;
    pthread_mutex_t lock; // total
} Cache;

static void feed(dgm_watch *w, uint32_t thread, const uint64_t *r, size_t n, void *data);

static int read_options(dgm_watch *w, Cache *c) {
    const char *key, *value, *why;
    cache_config_init(&c->config);
    cache_config_parse(&c->config, "preset", "cortex-a53");
    bool whole = dgm_option(w, "preset");
    for (unsigned u = CACHE_ITLB; u < CACHE_UNITS && !whole; u++)
        cache_config_parse(&c->config, cache_unit_name((CacheUnitId)u), "off");
    for (unsigned i = 0; (key = dgm_option_at(w, i, &value)); i++) {
        if (!strcmp(key, "out") || !strcmp(key, "json") || !strcmp(key, "top") ||
            !strcmp(key, "html"))
            continue;
        why = cache_config_parse(&c->config, key, value);
        if (why) return dgm_fail(w, -EINVAL, "%s", why);
        size_t n = strlen(c->configuration);
        snprintf(c->configuration + n, sizeof c->configuration - n, "%s%s=%s", n ? " " : "", key,
                 value);
    }
    if (!*c->configuration) strcpy(c->configuration, "caches of cortex-a53");
    why = cache_config_check(&c->config);
    return why ? dgm_fail(w, -EINVAL, "%s", why) : 0;
}

static unsigned log2_of(uint64_t n) {
    return (unsigned)__builtin_ctzll(n);
}

// What the filter leaves out must change nothing in the model: not ages (SRRIP), not what a
// prefetcher has seen, not the next level (write through), and nothing may take a line out of the
// first level but the accesses that the filter sees (a level that includes it).
static dgm_filter *filter_for(dgm_watch *w, const CacheConfig *c, CacheUnitId cache,
                              CacheUnitId tlb) {
    const CacheUnitConfig *u = &c->unit[cache], *t = &c->unit[tlb];
    CacheInclusion harmless = cache == CACHE_L1I ? CACHE_INCLUSIVE_OF_DATA : CACHE_NON_INCLUSIVE;
    if (!u->size_bytes || u->policy == CACHE_SRRIP || u->prefetch != CACHE_NO_PREFETCH) return NULL;
    if (t->size_bytes && t->policy == CACHE_SRRIP) return NULL;
    if (cache == CACHE_L1D && (!u->write_back || !u->write_allocate)) return NULL;
    for (unsigned i = CACHE_L2; i <= CACHE_L3; i++)
        if (c->unit[i].size_bytes && c->unit[i].inclusion > harmless) return NULL;
    uint64_t ways = u->ways == CACHE_FULL ? u->size_bytes / u->line_bytes : u->ways;
    uint64_t sets = u->size_bytes / u->line_bytes / ways;
    if (sets & (sets - 1) || sets > 1 << 16) return NULL;
    return dgm_filter_new(w, log2_of(u->line_bytes), (unsigned)sets,
                          t->size_bytes ? log2_of(t->line_bytes) : 0);
}

static int start(dgm_watch *w) {
    static const dgm_field fields[] = {DGM_F_DATA, DGM_F_ADDRESS};
    Cache *c = calloc(1, sizeof *c);
    if (!c) return dgm_fail(w, -ENOMEM, "out of memory");
    dgm_set_context(w, c);
    pthread_mutex_init(&c->lock, NULL);
    if (read_options(w, c)) return -EINVAL;
    c->top = dgm_option_number(w, "top", 10, 1, 100000);
    c->sites = mmap(NULL, MAX_SITES * sizeof *c->sites, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    c->buffer = dgm_buffer_new(w, fields, 2, BUFFER_RECORDS, feed, 0, c);
    c->total = cache_model_new(&c->config);
    c->code_filter = filter_for(w, &c->config, CACHE_L1I, CACHE_ITLB);
    c->data_filter = filter_for(w, &c->config, CACHE_L1D, CACHE_DTLB);
    c->fetches = dgm_counter_new(w);
    c->reads = dgm_counter_new(w);
    c->writes = dgm_counter_new(w);
    if (c->sites == MAP_FAILED || !c->buffer || !c->total)
        return dgm_fail(w, -ENOMEM, "out of memory");
    int e = report_start(&c->report, w);
    c->samples = c->report.html ? calloc(MAX_SAMPLES, sizeof *c->samples) : NULL;
    c->step = c->samples ? FIRST_STEP : 0;
    return e;
}

// ---- collecting ----

static uint64_t site_new(Cache *c, uint64_t address, uint32_t bytes, unsigned kind) {
    uint64_t i = c->n_sites < MAX_SITES ? c->n_sites++ : MAX_SITES - 1; // more are put together
    c->sites[i].address = address;
    c->sites[i].fetch = kind == SITE_FETCH;
    return i << (BYTES_BITS + KIND_BITS) | bytes << KIND_BITS | kind;
}

// The block is fetched as a whole before it accesses anything: a record for each line of it.
static void fetch_block(Cache *c, dgm_block *b, uint64_t address, uint64_t end) {
    uint32_t line = c->config.unit[CACHE_L1I].line_bytes, lines = 0;
    while (address < end) {
        uint64_t next = (address / line + 1) * line;
        uint32_t bytes = (uint32_t)((next < end ? next : end) - address);
        uint64_t site = site_new(c, address, bytes, SITE_FETCH);
        dgm_at_new_record(b, 0, address, c->code_filter, c->buffer, site);
        address = next;
        lines++;
    }
    dgm_at_count(b, 0, c->fetches, lines);
}

static void block(dgm_watch *w, dgm_block *b) {
    Cache *c = dgm_context(w);
    unsigned n = dgm_block_insns(b);
    const dgm_insn *last = dgm_block_insn(b, n - 1);
    fetch_block(c, b, dgm_block_address(b), last->address + last->size);
    for (unsigned i = 0; i < n; i++) {
        const dgm_insn *in = dgm_block_insn(b, i);
        if (!in->loads && !in->stores) continue;
        // all of an instruction's accesses are of one size, but for pairs of odd kinds: the largest
        unsigned kinds = (in->loads ? DGM_READ : 0u) | (in->stores ? DGM_WRITE : 0u);
        unsigned kind = in->classes & DGM_CLASS_ATOMIC ? SITE_BOTH
                        : in->stores                   ? SITE_WRITE
                                                       : SITE_READ;
        uint64_t site = site_new(c, in->address, in->access_bytes, kind);
        if (c->data_filter)
            dgm_at_new_access_record(b, i, kinds, c->data_filter, c->buffer, site);
        else
            dgm_at_access_record(b, i, kinds, c->buffer, site);
        dgm_at_count(b, i, c->reads, in->loads);
        dgm_at_count(b, i, c->writes, in->stores);
    }
}

// A sample if it is time. Whoever finds the lock taken leaves it to the other.
static void sample(dgm_watch *w, Cache *c) {
    uint64_t accesses = dgm_counter_read(w, c->fetches) + dgm_counter_read(w, c->reads) +
                        dgm_counter_read(w, c->writes);
    if (pthread_mutex_trylock(&c->lock)) return;
    uint64_t last = c->n_samples ? c->samples[c->n_samples - 1].accesses : 0;
    if (accesses >= last + c->step) {
        if (c->n_samples == MAX_SAMPLES) {
            for (unsigned i = 0; i < MAX_SAMPLES / 2; i++) c->samples[i] = c->samples[2 * i + 1];
            c->n_samples = MAX_SAMPLES / 2;
            c->step *= 2;
        }
        Sample *s = &c->samples[c->n_samples++];
        s->accesses = accesses;
        for (unsigned u = 0; u < CACHE_LEVELS; u++) s->missed[u] = c->missed[u];
    }
    pthread_mutex_unlock(&c->lock);
}

static void count_missed(uint64_t missed[CACHE_LEVELS], unsigned mask, bool fetch) {
    missed[fetch ? CACHE_L1I : CACHE_L1D] += mask & CACHE_MISS_L1 ? 1 : 0;
    missed[CACHE_L2] += mask & CACHE_MISS_L2 ? 1 : 0;
    missed[CACHE_L3] += mask & CACHE_MISS_L3 ? 1 : 0;
}

static void charge(Site *s, unsigned mask) {
    for (; mask; mask &= mask - 1)
        atomic_fetch_add_explicit(&s->missed[__builtin_ctz(mask)], 1, memory_order_relaxed);
}

// What the inline functions of the model do, with all that does not change in registers. An access
// to the same page as the one before need not note its time: between the two, no other page was
// used.
typedef struct Side { // instructions, or data
    const CacheFront *front;
    const uint64_t *latest;
    uint64_t set_mask, page, skipped;
    uint32_t line_shift, page_shift;
    CacheTlbFront *tlb;
} Side;

static Side side_of(const CacheFront *f, CacheTlbFront *tlb) {
    return (Side){f, f->latest, f->set_mask, UINT64_MAX, 0, f->line_shift, tlb->page_shift, tlb};
}

// It is in the page and in the line that are the newest there.
static inline bool hits(const Side *s, uint64_t address, unsigned bytes, uint64_t flags,
                        uint64_t *differs) {
    uint64_t line = address >> s->line_shift;
    *differs = s->latest[line & s->set_mask] ^ line << CACHE_TAG_SHIFT;
    return line == (address + bytes - 1) >> s->line_shift && *differs <= flags &&
           address >> s->page_shift == s->page;
}

static inline void settle(Side *s, uint64_t address, unsigned bytes) {
    s->tlb->clock += s->skipped;
    s->skipped = 0;
    uint64_t page = address >> s->page_shift;
    s->page = page == (address + bytes - 1) >> s->page_shift ? page : UINT64_MAX;
}

static void feed(dgm_watch *w, uint32_t thread, const uint64_t *r, size_t n, void *data) {
    Cache *c = data;
    CacheModel *m = thread < MAX_THREADS ? c->models[thread] : NULL;
    if (!m) return;
    (void)w;
    Side code = side_of(&m->l1i, &m->itlb), memory = side_of(&m->l1d, &m->dtlb);
    uint64_t writes = 0, differs, fed[4] = {0}, missed[CACHE_LEVELS] = {0};
    for (const uint64_t *end = r + 2 * n; r < end; r += 2) {
        unsigned kind = r[0] & ((1 << KIND_BITS) - 1), mask;
        unsigned bytes = r[0] >> KIND_BITS & ((1 << BYTES_BITS) - 1);
        fed[kind]++;
        if (kind == SITE_FETCH) {
            if (hits(&code, r[1], bytes, 0, &differs)) {
                code.skipped++;
                continue;
            }
            settle(&code, r[1], bytes);
            mask = cache_model_fetch(m, r[1], bytes);
        } else {
            bool write = kind != SITE_READ;
            if (hits(&memory, r[1], bytes, CACHE_DIRTY, &differs) && kind != SITE_BOTH &&
                (!write || differs == CACHE_DIRTY)) {
                memory.skipped++;
                writes += write;
                continue;
            }
            settle(&memory, r[1], bytes);
            mask = kind == SITE_BOTH ? cache_model_data(m, r[1], bytes, false) : 0;
            mask |= cache_model_data(m, r[1], bytes, write);
        }
        if (!mask) continue;
        charge(&c->sites[r[0] >> (BYTES_BITS + KIND_BITS)], mask);
        if (c->samples) count_missed(missed, mask, kind == SITE_FETCH);
    }
    m->itlb.clock += code.skipped;
    m->dtlb.clock += memory.skipped;
    m->inline_writes += writes;
    atomic_fetch_add_explicit(&c->fed_fetches, fed[SITE_FETCH], memory_order_relaxed);
    atomic_fetch_add_explicit(&c->fed_reads, fed[SITE_READ] + fed[SITE_BOTH], memory_order_relaxed);
    atomic_fetch_add_explicit(&c->fed_writes, fed[SITE_WRITE] + fed[SITE_BOTH],
                              memory_order_relaxed);
    for (unsigned u = 0; c->samples && u < CACHE_LEVELS; u++)
        atomic_fetch_add_explicit(&c->missed[u], missed[u], memory_order_relaxed);
    if (c->samples) sample(w, c);
}

static void thread_start(dgm_watch *w, dgm_vcpu *v) {
    Cache *c = dgm_context(w);
    uint32_t t = dgm_vcpu_thread(v);
    if (t < MAX_THREADS) c->models[t] = cache_model_new(&c->config);
    if (t >= MAX_THREADS || !c->models[t])
        fprintf(stderr, "dragoman: tool 'cache': thread %u is not watched: out of memory\n", t);
}

static void thread_end(dgm_watch *w, dgm_vcpu *v) {
    Cache *c = dgm_context(w);
    uint32_t t = dgm_vcpu_thread(v);
    if (t >= MAX_THREADS || !c->models[t]) return;
    pthread_mutex_lock(&c->lock);
    cache_model_add(c->total, c->models[t]);
    pthread_mutex_unlock(&c->lock);
    cache_model_free(c->models[t]);
    c->models[t] = NULL;
}

static void forked(dgm_watch *w, dgm_vcpu *v) {
    Cache *c = dgm_context(w);
    pthread_mutex_init(&c->lock, NULL);
    for (unsigned t = 0; t < MAX_THREADS; t++) {
        cache_model_free(c->models[t]);
        c->models[t] = NULL;
    }
    cache_model_free(c->total);
    c->total = cache_model_new(&c->config);
    c->fed_fetches = c->fed_reads = c->fed_writes = 0;
    c->n_samples = 0;
    for (unsigned u = 0; u < CACHE_LEVELS; u++) c->missed[u] = 0;
    for (uint32_t i = 0; i < c->n_sites; i++)
        memset(c->sites[i].missed, 0, sizeof c->sites[i].missed);
    thread_start(w, v);
}

// ---- results ----

typedef struct Row { // misses of a place
    uint64_t address, missed[LEVELS], fetch_missed;
    const char *file;
    unsigned line;
} Row;

static uint64_t weight(const Row *r) { // the further out, the dearer
    return r->missed[0] + 4 * r->missed[1] + 16 * r->missed[2] + 2 * r->missed[3];
}
static int by_weight(const void *a, const void *b) {
    uint64_t x = weight(a), y = weight(b);
    if (x != y) return x < y ? 1 : -1;
    return ((const Row *)a)->address < ((const Row *)b)->address ? -1 : 1;
}

typedef enum By { BY_FUNCTION, BY_LINE, BY_INSTRUCTION } By;

// Puts sites of one place together; rows of those that missed anything.
static size_t collect(dgm_watch *w, Cache *c, By by, Row *rows) {
    Map places = {0};
    size_t n = 0;
    for (uint32_t i = 0; i < c->n_sites; i++) {
        const Site *s = &c->sites[i];
        uint64_t any = 0;
        for (unsigned k = 0; k < LEVELS; k++) any += s->missed[k];
        if (!any) continue;
        uint64_t key = s->address;
        dgm_symbol sym;
        const char *file = NULL;
        unsigned line = 0;
        if (by == BY_FUNCTION) {
            const dgm_module *m = dgm_module_at(w, key);
            key = dgm_symbol_at(w, key, &sym) ? sym.address : m ? m->low : 1;
        } else if (by == BY_LINE) {
            if (!dgm_line_at(w, key, &file, &line)) continue;
            key = (uint64_t)(uintptr_t)file * 100003 + line;
        }
        Row **at = (Row **)map_at(&places, key);
        if (!at) break;
        if (!*at) {
            *at = &rows[n++];
            **at =
                (Row){.address = by == BY_FUNCTION ? key : s->address, .file = file, .line = line};
        }
        for (unsigned k = 0; k < LEVELS; k++) (*at)->missed[k] += s->missed[k];
        if (s->fetch) (*at)->fetch_missed += s->missed[0];
    }
    map_free(&places);
    if (n) qsort(rows, n, sizeof *rows, by_weight);
    return n;
}

static const char *const level_keys[LEVELS] = {"l1", "l2", "l3", "tlb", "stlb"};

static void write_rows(dgm_watch *w, Cache *c, FILE *f, By by, Row *rows) {
    static const char *const name[] = {"functions", "lines", "instructions"};
    size_t n = collect(w, c, by, rows);
    if (c->report.json)
        fprintf(f, ",\n \"%s\": [", name[by]);
    else if (n)
        fprintf(f, "\n%14s %12s %12s %12s %12s  %s\n", "L1 misses", "L2", "L3", "TLB", "walks",
                name[by]);
    for (size_t i = 0; i < n && i < report_rows(&c->report, c->top); i++) {
        const Row *r = &rows[i];
        if (c->report.json) {
            fprintf(f, "%s\n  {", i ? "," : "");
            for (unsigned k = 0; k < LEVELS; k++)
                fprintf(f, "\"%s\": %" PRIu64 ", ", level_keys[k], r->missed[k]);
            if (by == BY_LINE) {
                fprintf(f, "\"file\": ");
                report_string(f, r->file);
                fprintf(f, ", \"line\": %u, ", r->line);
            }
            report_place(f, w, r->address, true);
            fprintf(f, "}");
            continue;
        }
        fprintf(f, "%14" PRIu64 " %12" PRIu64 " %12" PRIu64 " %12" PRIu64 " %12" PRIu64 "  ",
                r->missed[0], r->missed[1], r->missed[2], r->missed[3], r->missed[4]);
        if (by == BY_LINE)
            fprintf(f, "%s:%u", r->file, r->line);
        else
            report_place(f, w, r->address, false);
        fprintf(f, "\n");
    }
    if (c->report.json) fprintf(f, "]");
}

static void write_unit(dgm_watch *w, Cache *c, FILE *f, CacheUnitId u, bool first) {
    if (!c->config.unit[u].size_bytes) return;
    CacheStats s = cache_model_stats(c->total, u);
    uint64_t reads = dgm_counter_read(w, c->reads) - c->fed_reads;
    uint64_t writes = dgm_counter_read(w, c->writes) - c->fed_writes;
    if (u == CACHE_L1I || u == CACHE_ITLB)
        s.reads += dgm_counter_read(w, c->fetches) - c->fed_fetches;
    if (u == CACHE_L1D) s.reads += reads, s.writes += writes;
    if (u == CACHE_DTLB) s.reads += reads + writes;
    uint64_t all = s.reads + s.writes, missed = s.read_misses + s.write_misses;
    if (c->report.json) {
        fprintf(f,
                "%s\"%s\": {\"reads\": %" PRIu64 ", \"read_misses\": %" PRIu64
                ", \"writes\": %" PRIu64 ", \"write_misses\": %" PRIu64 ", \"writebacks\": %" PRIu64
                ", \"prefetches\": %" PRIu64 ", \"useful_prefetches\": %" PRIu64 "}",
                first ? "" : ",\n  ", cache_unit_name(u), s.reads, s.read_misses, s.writes,
                s.write_misses, s.writebacks, s.prefetches, s.useful_prefetches);
        return;
    }
    char a[32], b[32], d[32];
    fprintf(f, "%-5s %18s %16s %7.3f%% %16s", cache_unit_name(u), report_number(all, a),
            report_number(missed, b), all ? 100.0 * (double)missed / (double)all : 0,
            report_number(s.writebacks, d));
    if (s.prefetches) fprintf(f, " %14" PRIu64 " %12" PRIu64, s.prefetches, s.useful_prefetches);
    fprintf(f, "\n");
}

static void write_samples(Cache *c, FILE *f) {
    fprintf(f, ",\n \"over_time\": [[0, 0, 0, 0, 0]");
    for (unsigned i = 0; i < c->n_samples; i++) {
        const Sample *s = &c->samples[i];
        fprintf(f, ", [%" PRIu64, s->accesses);
        for (unsigned u = 0; u < CACHE_LEVELS; u++) fprintf(f, ", %" PRIu64, s->missed[u]);
        fputc(']', f);
    }
    fputc(']', f);
}

static void write_report(dgm_watch *w, FILE *f) {
    Cache *c = dgm_context(w);
    Row *rows = calloc(c->n_sites + 1u, sizeof *rows);
    if (!rows) return;
    if (c->report.json) {
        fprintf(f, "{\"tool\": \"cache\", \"configuration\": ");
        report_string(f, c->configuration);
        fprintf(f, ", \"units\": {\n  ");
    } else {
        fprintf(f, "%-5s %18s %16s %8s %16s %14s %12s\n", "", "accesses", "misses", "rate",
                "written back", "prefetched", "useful");
    }
    for (unsigned u = 0; u < CACHE_UNITS; u++) write_unit(w, c, f, (CacheUnitId)u, !u);
    if (c->report.json) fprintf(f, "}");
    if (c->report.page) write_samples(c, f);
    write_rows(w, c, f, BY_FUNCTION, rows);
    write_rows(w, c, f, BY_LINE, rows);
    write_rows(w, c, f, BY_INSTRUCTION, rows);
    if (c->report.json) fprintf(f, "}\n");
    free(rows);
}

static void finish(dgm_watch *w, bool last) {
    Cache *c = dgm_context(w);
    for (unsigned t = 0; !last && t < MAX_THREADS; t++) // those that still run: so far
        if (c->models[t]) {
            cache_model_add(c->total, c->models[t]);
            cache_model_free(c->models[t]);
            c->models[t] = cache_model_new(&c->config);
        }
    report_write(&c->report, w, "cache", page_cache, write_report);
}

static void release(dgm_watch *w) {
    Cache *c = dgm_context(w);
    if (!c) return;
    for (unsigned t = 0; t < MAX_THREADS; t++) cache_model_free(c->models[t]);
    cache_model_free(c->total);
    if (c->sites && c->sites != MAP_FAILED) munmap(c->sites, MAX_SITES * sizeof *c->sites);
    report_free(&c->report);
    free(c->samples);
    free(c);
}

static const char *const options[] = {
    "preset=CPU  with TLBs: cortex-a53, cortex-a72, cortex-a76, neoverse-n1, skylake, zen2;",
    "            without this option the caches of cortex-a53 and no TLBs",
    "l1i=SIZE,l1d=SIZE,l2=SIZE,l3=SIZE   and UNIT.ways, .line, .policy, .prefetch...; off",
    "itlb=N,dtlb=N,stlb=N                entries; docs/tools/cache-model.md has all",
    "top=N       so many functions, lines and instructions (10)",
    REPORT_OPTIONS,
    NULL,
};

const dgm_tool tool_cache = {
    .version = DGM_TOOL_VERSION,
    .name = "cache",
    .summary = "misses of a CPU's caches and TLBs, by function, line and instruction",
    .options = options,
    .start = start,
    .block = block,
    .thread_start = thread_start,
    .thread_end = thread_end,
    .forked = forked,
    .finish = finish,
    .free = release,
};
