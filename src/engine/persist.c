// persist.c - what a machine keeps of its translations: modules, loading, saving.
//
// The personality names pieces of guest code that come from a file (persist_map). When the
// dispatcher wants a block there that is not in the table, the module's file is asked; what it has
// is copied, checked (its checksum, and the guest code that it was made from against guest memory:
// a block whose code is another by now is none) and thawed by the host. New blocks there note their
// relocations (Block.kept), and persist_save appends them to the files.
//
// All under Machine.lock. No file stays open: the guest would see its descriptor.
#include "engine/persist.h"
#include "base/self.h"
#include "engine/host_signals.h"
#include "memory/space.h"

#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

enum { WORTH_SAVING = 64, MAX_MODULES = 512, GROUP_BLOCKS = 64 };

typedef struct Module {
    uint64_t lo, hi;
    CacheFile file;
    bool opened;
    char name[CACHE_NAME_BYTES];
    Buf fresh; // while saving
    uint32_t n_new;
    bool at_once; // worth keeping the first time
} Module;

struct Persist {
    Machine *m;
    char *dir;
    uint64_t max_bytes;
    CacheKey key; // what all files have in common
    Module *modules;
    unsigned n_modules, last;
    bool at_once;         // Module.at_once
    uint32_t first_block; // older ones are not ours to save
};

static uint64_t guest_identity(const Machine *m) {
    struct {
        uint64_t name, features;
        uint32_t max_insns, fields, state_bytes;
        uint8_t count, budgeted, pad[2];
    } id = {.name = hash_bytes(m->guest->name, strlen(m->guest->name), 0),
            .features = m->features,
            .max_insns = m->max_block_insns,
            .fields = m->guest->n_fields,
            .state_bytes = m->guest->state_bytes,
            .count = m->count,
            .budgeted = m->budgeted};
    return hash_bytes(&id, sizeof id, 0);
}

Persist *persist_new(Machine *m, const char *dir, uint64_t max_bytes) {
    SelfImage self;
    DgmErr why = {0};
    if (!m->host->freeze) return NULL;
    if (!self_image(&self) || !self.build_id_bytes) {
        if (log_on(&m->log, LOG_CACHE, 0))
            log_printf(&m->log, "cache: this build has no build-id\n");
        return NULL;
    }
    int fd = cache_dir_open(dir, &why);
    Persist *p = calloc(1, sizeof *p);
    if (p) {
        p->modules = calloc(MAX_MODULES, sizeof *p->modules);
        p->dir = strdup(dir);
    }
    bool ok = p && p->modules && p->dir;
    if ((fd < 0 || !ok) && log_on(&m->log, LOG_CACHE, 0))
        log_printf(&m->log, "cache: off: %s\n", fd < 0 ? why.text : "out of memory");
    if (fd >= 0) close(fd);
    if (fd < 0 || !ok) {
        persist_free(p);
        return NULL;
    }
    p->m = m;
    p->max_bytes = max_bytes;
    memcpy(p->key.dragoman, self.build_id, sizeof p->key.dragoman);
    p->key.host = m->host->identity(m->host_ctx);
    p->key.guest = guest_identity(m);
    return p;
}

static void module_drop(Persist *p, unsigned i) {
    cache_file_close(&p->modules[i].file);
    memmove(&p->modules[i], &p->modules[i + 1], (--p->n_modules - i) * sizeof *p->modules);
}

void persist_free(Persist *p) {
    if (!p) return;
    while (p->n_modules) module_drop(p, p->n_modules - 1);
    free(p->dir);
    free(p->modules);
    free(p);
}

void persist_map(Machine *m, uint64_t lo, uint64_t hi, const uint8_t id[32], const char *name) {
    Persist *p = m->persist;
    if (!p || hi <= lo || hi - lo > UINT32_MAX) return;
    pthread_mutex_lock(&m->lock);
    for (unsigned i = p->n_modules; i-- > 0;)
        if (p->modules[i].lo < hi && p->modules[i].hi > lo) module_drop(p, i);
    if (p->n_modules < MAX_MODULES) {
        Module *mod = &p->modules[p->n_modules++];
        *mod = (Module){.lo = lo, .hi = hi, .file.key = p->key};
        mod->file.key.lo = lo;
        memcpy(mod->file.key.file, id, sizeof mod->file.key.file);
        mod->at_once = p->at_once;
        snprintf(mod->name, sizeof mod->name, "%s", name);
    }
    pthread_mutex_unlock(&m->lock);
}

static Module *module_of(Persist *p, uint64_t pc) {
    for (unsigned n = 0; n < p->n_modules; n++) {
        unsigned i = (p->last + n) % p->n_modules;
        if (pc < p->modules[i].lo || pc >= p->modules[i].hi) continue;
        p->last = i;
        return &p->modules[i];
    }
    return NULL;
}

// Cut blocks, which end where a budget does, are rare and many.
static bool is_plain(uint32_t mode) {
    return !(mode >> BLOCK_CUT_SHIFT);
}

bool persist_wants(const Machine *m, uint64_t pc, uint32_t mode) {
    return m->persist && is_plain(mode) && module_of(m->persist, pc);
}

// ---- loading ----

// Is the guest code that the record was made of still there?
static bool same_code(const Machine *m, const CacheRecord *r) {
    const uint8_t *now = r->guest_bytes ? space_fetch(m->as, r->pc, r->guest_bytes) : NULL;
    return now && !memcmp(now, r + 1, r->guest_bytes);
}

static Block *thaw(Machine *m, const CacheRecord *r) {
    Block *b = arena_alloc(&m->meta, sizeof *b + r->n_links * sizeof(HostLink));
    HostFault *faults = arena_alloc(&m->meta, r->n_faults * sizeof *faults);
    uint32_t *counts = r->n_counts ? arena_alloc(&m->meta, r->n_counts * sizeof *counts) : NULL;
    if (!b || !faults || (r->n_counts && !counts)) return NULL;
    const uint8_t *at = (const uint8_t *)(r + 1) + r->guest_bytes;
    HostOutput out = {.links = block_links(b), .n_links = r->n_links};
    HostCode code = translate_room(m);
    size_t table_bytes = r->n_faults * sizeof *faults, count_bytes = r->n_counts * sizeof *counts;
    const uint8_t *trap_at = at + table_bytes + count_bytes;
    if (m->host->thaw(m->host_ctx, trap_at + r->n_traps * sizeof(HostTrap), r->frozen_bytes, &code,
                      &out))
        return NULL;
    BlockTraps *traps = r->n_traps ? block_traps(m, out.cold, trap_at, r->n_traps) : NULL;
    if (r->n_traps && !traps) return NULL;
    for (uint32_t i = 0; i < r->n_traps; i++)
        if (traps->trap[i].to >= out.cold_bytes) return NULL;
    memcpy(faults, at, table_bytes);
    int32_t cold = (int32_t)((const uint8_t *)out.cold - (const uint8_t *)out.entry);
    for (uint32_t i = 0; i < r->n_faults; i++)
        if (faults[i].fix) faults[i].fix += cold;
    if (counts) memcpy(counts, at + table_bytes, count_bytes);
    m->cache_at = code.at;
    m->cold_at = code.cold;
    *b = (Block){.pc = r->pc,
                 .entry = out.entry,
                 .faults = faults,
                 .traps = traps,
                 .count_ends = counts,
                 .code_bytes = out.code_bytes,
                 .size_bytes = r->guest_bytes,
                 .n_insns = r->n_insns,
                 .n_links = r->n_links,
                 .n_faults = r->n_faults,
                 .loaded = true};
    for (uint32_t i = 0; i < out.n_links; i++) out.links[i].index = (uint16_t)i;
    return b;
}

static void open_module(Persist *p, Module *mod) {
    CacheKey key = mod->file.key;
    DgmErr why;
    int dir = cache_dir_open(p->dir, &why);
    if (dir >= 0) {
        cache_file_open(dir, &key, &mod->file);
        close(dir);
    }
    mod->opened = true;
    if (log_on(&p->m->log, LOG_CACHE, mod->lo))
        log_printf(&p->m->log, "cache: %s at %#lx: %u segments, %lu bytes\n", mod->name, mod->lo,
                   mod->file.n_segs, mod->file.bytes);
}

// Makes a block of a checked record and enters it into the table; NULL: no room, or other code.
static Block *take(Machine *m, const CacheRecord *r) {
    Block *b = same_code(m, r) ? thaw(m, r) : NULL;
    if (!b) return NULL;
    b->mode = r->mode;
    if (!block_table_add(m->blocks, b)) return NULL;
    m->falls_into_next = b;
    m->stats.loaded++;
    return b;
}

typedef struct Group {
    Machine *m;
    const uint8_t *at; // in the file's mapping
    uint64_t bytes, pc;
    uint32_t mode;
    Block *block[GROUP_BLOCKS];
    unsigned n;
} Group;

// The record for g->pc at g->at, and those behind it: they were made in the order in which they
// were needed, and likely will be again. Another process may cut the file short: then a fault ends
// this, which is why nothing of a block is known to others before all of it is read.
static void take_group(void *ctx) {
    Group *g = ctx;
    for (size_t at = 0; g->n < GROUP_BLOCKS && at + sizeof(CacheRecord) <= g->bytes;) {
        const CacheRecord *r = (const void *)(g->at + at);
        if (!cache_record_ok(r, g->bytes - at)) return;
        at += r->bytes;
        if (!g->n && (r->pc != g->pc || r->mode != g->mode)) return;
        if (g->n && (r->mode != g->mode || block_table_find(g->m->blocks, r->pc, r->mode)))
            continue;
        Block *b = take(g->m, r);
        if (!b) return;
        g->block[g->n++] = b;
    }
}

// Both ends of a link must be in the table.
static void link_group(const Group *g) {
    for (unsigned i = 0; i < g->n; i++)
        for (unsigned k = 0; k < g->block[i]->n_links; k++) {
            HostLink *l = &block_links(g->block[i])[k];
            Block *to = block_table_find(g->m->blocks, l->target_pc, g->mode);
            if (to) block_link(g->m, l, to);
        }
}

Block *persist_load(Machine *m, uint64_t pc, uint32_t mode) {
    Persist *p = m->persist;
    Module *mod = p && is_plain(mode) ? module_of(p, pc) : NULL;
    if (!mod) return NULL;
    if (!mod->opened) open_module(p, mod);
    const void *at;
    uint64_t bytes;
    unsigned next = 0;
    while ((at = cache_file_find(&mod->file, pc, next, &next, &bytes))) {
        Group g = {.m = m, .at = at, .bytes = bytes, .pc = pc, .mode = mode};
        host_try(take_group, &g);
        link_group(&g);
        if (g.n) return g.block[0];
    }
    return NULL;
}

// ---- saving ----

static void add_record(Machine *m, Module *mod, const Block *b) {
    const uint8_t *code = space_fetch(m->as, b->pc, b->size_bytes);
    const BlockKept *k = b->kept;
    uint32_t n_counts = 0;
    if (b->count_ends)
        while (b->count_ends[n_counts++] != UINT32_MAX) continue;
    if (!code || b->pc + b->size_bytes > mod->hi) return;
    size_t start = mod->fresh.len;
    CacheRecord r = {.pc = b->pc,
                     .mode = b->mode,
                     .guest_bytes = b->size_bytes,
                     .n_insns = b->n_insns,
                     .n_links = b->n_links,
                     .n_faults = b->n_faults,
                     .n_counts = n_counts,
                     .n_traps = b->traps ? b->traps->n : 0};
    buf_add(&mod->fresh, &r, sizeof r);
    buf_add(&mod->fresh, code, b->size_bytes);
    for (uint32_t i = 0; i < b->n_faults; i++) {
        HostFault f = b->faults[i]; // from the cold code, until it is somewhere again
        if (f.fix) f.fix -= (int32_t)((const uint8_t *)k->cold - b->entry);
        buf_add(&mod->fresh, &f, sizeof f);
    }
    buf_add(&mod->fresh, b->count_ends, n_counts * sizeof *b->count_ends);
    if (b->traps) buf_add(&mod->fresh, b->traps->trap, b->traps->n * sizeof *b->traps->trap);
    size_t frozen = mod->fresh.len;
    HostCompiled c = {.entry = b->entry,
                      .cold = k->cold,
                      .code_bytes = b->code_bytes,
                      .cold_bytes = k->cold_bytes,
                      .links = block_links(b),
                      .relocs = k->relocs,
                      .n_links = b->n_links,
                      .n_relocs = k->n_relocs};
    bool ok = m->host->freeze(m->host_ctx, &c, &mod->fresh);
    if (!ok || mod->fresh.failed) {
        mod->fresh.len = start;
        return;
    }
    r.frozen_bytes = (uint32_t)(mod->fresh.len - frozen);
    static const char pad[8];
    buf_add(&mod->fresh, pad, -(mod->fresh.len - start) & 7);
    r.bytes = (uint32_t)(mod->fresh.len - start);
    if (mod->fresh.failed) return;
    memcpy(mod->fresh.data + start, &r, sizeof r);
    cache_record_seal((CacheRecord *)(void *)(mod->fresh.data + start));
}

// Code that is run a first time leaves only its name, for most of what is run once (what a build
// tries, what a test compiles) never is again, and writing is not for nothing; a few blocks more
// than are there already are not worth it either.
static bool worth_saving(const Module *mod) {
    if (mod->at_once) return mod->n_new;
    return mod->file.map && (mod->n_new >= WORTH_SAVING || !mod->file.n_segs);
}

static bool save_module(Persist *p, int dir, Module *mod) {
    bool worth = worth_saving(mod);
    bool saved =
        worth && !mod->fresh.failed && cache_file_add(dir, &mod->file.key, mod->name, &mod->fresh);
    bool marked =
        !worth && mod->n_new && !mod->file.map && cache_file_mark(dir, &mod->file.key, mod->name);
    if (log_on(&p->m->log, LOG_CACHE, mod->lo) && mod->n_new)
        log_printf(&p->m->log, "cache: %s at %#lx: %u new blocks, %lu bytes%s\n", mod->name,
                   mod->lo, mod->n_new, mod->fresh.len,
                   saved    ? ""
                   : worth  ? ", could not be kept"
                   : marked ? ", seen for the first time"
                            : ", too few");
    buf_free(&mod->fresh);
    mod->fresh = (Buf){0};
    mod->n_new = 0;
    return saved;
}

// A limit of the guest's on the size of files is not to be met on its behalf.
static bool may_write(void) {
    struct rlimit l;
    return !getrlimit(RLIMIT_FSIZE, &l) && l.rlim_cur == RLIM_INFINITY;
}

void persist_save(Machine *m) {
    Persist *p = m->persist;
    DgmErr why;
    int dir = p && p->n_modules && may_write() ? cache_dir_open(p->dir, &why) : -1;
    if (dir < 0) return;
    pthread_mutex_lock(&m->lock);
    uint32_t n = block_table_made(m->blocks);
    for (int pass = 0; pass < 2; pass++)
        for (uint32_t i = p->first_block; i < n; i++) {
            const Block *b = block_table_nth(m->blocks, i);
            if (b->dead || !b->kept) continue;
            Module *mod = module_of(p, b->pc);
            if (!mod) continue;
            if (!pass)
                mod->n_new++;
            else if (worth_saving(mod))
                add_record(m, mod, b);
        }
    p->first_block = n;
    bool grown = false;
    for (unsigned i = 0; i < p->n_modules; i++) grown |= save_module(p, dir, &p->modules[i]);
    pthread_mutex_unlock(&m->lock);
    if (grown) cache_dir_trim(dir, p->max_bytes);
    close(dir);
}

void persist_at_once(Machine *m) {
    if (m->persist) m->persist->at_once = true;
}

void persist_start_anew(Machine *m, uint32_t first_block) {
    if (m->persist) m->persist->first_block = first_block;
}
