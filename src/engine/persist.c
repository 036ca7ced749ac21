// persist.c - what a machine keeps of its translations: modules, loading, saving.
//
// The personality names pieces of guest code that come from a file (persist_map). When the
// dispatcher wants a block there that is not in the table, the module's file is asked; the group of
// blocks that has it is checked (its checksum, and the guest code that each block was made from
// against guest memory: a block whose code is another by now is none), thawed by the host as a
// whole, and entered. New blocks there note their relocations (Block.kept), and persist_save
// appends them to the files.
//
// All under Machine.lock. No file stays open: the guest would see its descriptor.
#include "engine/persist.h"
#include "base/self.h"
#include "engine/host_signals.h"
#include "memory/space.h"

#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

enum { WORTH_SAVING = 64, MAX_MODULES = 512, GROUP_BLOCKS = 128 };

typedef struct Module {
    uint64_t lo, hi;
    CacheFile file;
    bool opened;
    char name[CACHE_NAME_BYTES];
    bool at_once;   // worth keeping the first time
    uint32_t n_new; // while saving
} Module;

struct Persist {
    Machine *m;
    char *dir;
    uint64_t max_bytes;
    CacheKey key; // what all files have in common
    Module *modules;
    unsigned n_modules, last;
    bool at_once;              // Module.at_once
    BlockKept *first, *newest; // of the blocks to save, in the order in which they were made
    uint16_t *link_to;         // the group's that is being loaded
    uint32_t cap_links;
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
    free(p->link_to);
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

// What a record of the file says of each link, beside which block of its own it leads to.
enum { LINK_ELSEWHERE = HOST_OUTSIDE, LINK_UNUSED }; // in the run that kept it

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

typedef struct Group {
    Machine *m;
    const CacheRecord *r; // in the file's mapping
    uint64_t bytes, pc;
    uint32_t mode;
    bool taken;
    unsigned n, asked;          // asked: which of them is the one at pc
    bool wanted[GROUP_BLOCKS];  // not in the table, and made of the code that is there
    Block *block[GROUP_BLOCKS]; // all of them, when taken
} Group;

// Do the parts of a record that has its checksum fit?
static bool is_sound(const CacheRecord *r) {
    const CacheBlock *c = cache_record_blocks(r);
    uint64_t links = 0, faults = 0, counts = 0, traps = 0;
    if (r->n_blocks > GROUP_BLOCKS) return false;
    for (uint32_t i = 0; i < r->n_blocks; i++) {
        if (!c[i].guest_bytes || (uint64_t)c[i].guest + c[i].guest_bytes > r->guest_bytes)
            return false;
        links += c[i].n_links;
        faults += c[i].n_faults;
        counts += c[i].n_counts;
        traps += c[i].n_traps;
    }
    return links == r->n_links && faults == r->n_faults && counts == r->n_counts &&
           traps == r->n_traps;
}

// The guest's code from the first to the last of these blocks, when all of it is there.
static const uint8_t *fetch_all(const Machine *m, const CacheBlock *c, unsigned n, uint64_t *lo) {
    uint64_t hi = *lo = c->pc;
    for (unsigned i = 0; i < n; i++) {
        *lo = MIN(*lo, c[i].pc);
        hi = MAX(hi, c[i].pc + c[i].guest_bytes);
    }
    return hi - *lo > UINT32_MAX ? NULL : space_fetch(m->as, *lo, (unsigned)(hi - *lo));
}

// False: the one that was asked for is not to be had. Nor is it when most of the others are here:
// it was thrown away, and may be again; then a block of its own is cheaper than a group.
static bool find_wanted(Group *g) {
    const Machine *m = g->m;
    const CacheBlock *c = cache_record_blocks(g->r);
    const uint8_t *guest = cache_record_guest(g->r);
    uint64_t lo;
    unsigned known = 0;
    g->asked = g->n = g->r->n_blocks;
    for (unsigned i = 0; i < g->n; i++) block_table_prefetch(m->blocks, c[i].pc);
    const uint8_t *all = fetch_all(m, c, g->n, &lo);
    for (unsigned i = 0; all && i < g->n; i++) __builtin_prefetch(all + (c[i].pc - lo));
    for (unsigned i = 0; i < g->n; i++) {
        bool there = block_table_find(m->blocks, c[i].pc, g->mode);
        const uint8_t *now =
            all ? all + (c[i].pc - lo) : space_fetch(m->as, c[i].pc, c[i].guest_bytes);
        known += there;
        g->wanted[i] = !there && now && !memcmp(now, guest + c[i].guest, c[i].guest_bytes);
        if (g->wanted[i] && c[i].pc == g->pc) g->asked = i;
    }
    return g->asked < g->n && known <= g->n / 2;
}

// Memory for the blocks and their links, which lie behind each.
static bool make_blocks(Group *g) {
    const CacheBlock *c = cache_record_blocks(g->r);
    size_t bytes = g->n * sizeof(Block) + g->r->n_links * sizeof(HostLink);
    char *at = arena_alloc(&g->m->meta, bytes);
    for (unsigned i = 0; at && i < g->n; i++) {
        g->block[i] = (Block *)(void *)at;
        at += sizeof(Block) + c[i].n_links * sizeof(HostLink);
    }
    return at;
}

// What refers to a block's cold code refers to where it is now.
static bool settle(Machine *m, const CacheBlock *c, const HostThawed *t, HostFault *faults,
                   const uint8_t *traps, Block *b) {
    int32_t cold = (int32_t)(t->cold - t->entry);
    for (uint32_t i = 0; i < c->n_faults; i++) {
        if (!faults[i].fix) continue;
        if ((uint32_t)faults[i].fix >= t->cold_bytes) return false;
        faults[i].fix += cold;
    }
    BlockTraps *all = c->n_traps ? block_traps(m, t->cold, traps, c->n_traps) : NULL;
    for (uint32_t i = 0; all && i < all->n; i++)
        if (all->trap[i].to >= t->cold_bytes) return false;
    b->traps = all;
    return all || !c->n_traps;
}

static bool thaw(Group *g) {
    const CacheRecord *r = g->r;
    const CacheBlock *c = cache_record_blocks(r);
    Machine *m = g->m;
    HostThawed out[GROUP_BLOCKS];
    HostFault *faults = arena_alloc(&m->meta, r->n_faults * sizeof *faults);
    uint32_t *counts = r->n_counts ? arena_alloc(&m->meta, r->n_counts * sizeof *counts) : NULL;
    if (!faults || (r->n_counts && !counts) || !make_blocks(g)) return false;
    const uint8_t *at = (const uint8_t *)(c + r->n_blocks);
    memcpy(faults, at, r->n_faults * sizeof *faults);
    at += r->n_faults * sizeof *faults;
    if (counts) memcpy(counts, at, r->n_counts * sizeof *counts);
    at += r->n_counts * sizeof *counts;
    const uint8_t *traps = at;
    at += r->n_traps * sizeof(HostTrap);
    for (unsigned i = 0; i < g->n; i++)
        out[i] = (HostThawed){.links = block_links(g->block[i]), .n_links = c[i].n_links};
    HostCode code = translate_room(m, r->frozen_bytes);
    if (m->host->thaw(m->host_ctx, at, r->frozen_bytes, &code, out, g->n)) return false;
    memcpy(m->persist->link_to, at + r->frozen_bytes, r->n_links * sizeof *m->persist->link_to);
    for (unsigned i = 0; i < g->n; i++) {
        *g->block[i] = (Block){.pc = c[i].pc,
                               .entry = out[i].entry,
                               .faults = faults,
                               .count_ends = c[i].n_counts ? counts : NULL,
                               .mode = g->mode,
                               .code_bytes = out[i].code_bytes,
                               .size_bytes = c[i].guest_bytes,
                               .n_insns = c[i].n_insns,
                               .n_links = c[i].n_links,
                               .n_faults = c[i].n_faults,
                               .loaded = true};
        if (!settle(m, &c[i], &out[i], faults, traps, g->block[i])) return false;
        faults += c[i].n_faults;
        traps += c[i].n_traps * sizeof(HostTrap);
        if (counts) counts += c[i].n_counts;
    }
    m->cache_at = code.at;
    m->cold_at = code.cold;
    return true;
}

static bool link_room(Persist *p, uint32_t n) {
    if (n < p->cap_links) return true;
    uint16_t *more = realloc(p->link_to, (n + 1) * sizeof *more);
    if (!more) return false;
    p->link_to = more;
    p->cap_links = n + 1;
    return true;
}

// Another process may cut the file short: then a fault ends this, which is why nothing of a group
// is known to others before all of it is read.
static void take_group(void *ctx) {
    Group *g = ctx;
    const CacheRecord *r = g->r;
    g->taken = cache_record_ok(r, g->bytes) && r->mode == g->mode && is_sound(r) &&
               link_room(g->m->persist, r->n_links) && find_wanted(g) && thaw(g);
}

// A link within the group, which the host has made already, is to be known, or to be undone.
static void note_link(Group *g, HostLink *l, unsigned from, unsigned to) {
    if (to < g->n && g->wanted[from] && g->wanted[to]) {
        l->target = g->block[to];
        l->next_incoming = g->block[to]->incoming;
        g->block[to]->incoming = l;
    } else {
        g->m->host->link(g->m->host_ctx, l, NULL);
    }
}

// Links that were used lead to what is in the table now; the others wait until they are.
static void link_group(Group *g) {
    Machine *m = g->m;
    const uint16_t *to = m->persist->link_to;
    for (int pass = 0; pass < 2; pass++)
        for (unsigned i = 0, at = 0; i < g->n; i++)
            for (unsigned k = 0; k < g->block[i]->n_links; k++, at++)
                if (to[at] == LINK_ELSEWHERE)
                    (pass ? block_table_prefetch_block
                          : block_table_prefetch)(m->blocks, block_links(g->block[i])[k].target_pc);
    for (unsigned i = 0; i < g->n; i++)
        for (unsigned k = 0; k < g->block[i]->n_links; k++, to++) {
            HostLink *l = &block_links(g->block[i])[k];
            if (*to < HOST_OUTSIDE) note_link(g, l, i, *to);
            if (*to != LINK_ELSEWHERE || !g->wanted[i]) continue;
            Block *target = block_table_find(m->blocks, l->target_pc, g->mode);
            if (target) block_link(m, l, target);
        }
}

static void enter_group(Group *g) {
    Machine *m = g->m;
    for (unsigned i = 0; i < g->n; i++) {
        g->wanted[i] = g->wanted[i] && block_table_add(m->blocks, g->block[i]);
        m->stats.loaded += g->wanted[i];
    }
    link_group(g);
    m->falls_into_next = g->wanted[g->n - 1] ? g->block[g->n - 1] : NULL;
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
        Group g = {.m = m, .r = at, .bytes = bytes, .pc = pc, .mode = mode};
        if (!host_try(take_group, &g) || !g.taken) continue;
        enter_group(&g);
        if (g.wanted[g.asked]) return g.block[g.asked];
    }
    return NULL;
}

// ---- saving ----

typedef struct Saving {
    Persist *p;
    Module *mod;
    CacheAdding to;
    Buf records;
    const Block *block[GROUP_BLOCKS]; // of the next record
    unsigned n;
    const CacheRecord *known; // what was looked at last in the file
    bool known_ok;
} Saving;

// Where each link of the group leads.
static void links_to(const Saving *s, uint16_t *to) {
    for (unsigned i = 0; i < s->n; i++)
        for (unsigned k = 0; k < s->block[i]->n_links; k++, to++) {
            const HostLink *l = &block_links(s->block[i])[k];
            *to = l->target ? LINK_ELSEWHERE : LINK_UNUSED;
            for (unsigned j = 0; j < s->n; j++)
                if (s->block[j]->pc == l->target_pc) *to = (uint16_t)j;
        }
}

static uint32_t n_counts(const Block *b) {
    uint32_t n = 0;
    if (b->count_ends)
        while (b->count_ends[n++] != UINT32_MAX) continue;
    return n;
}

static bool freeze(Machine *m, const Saving *s, const uint16_t *to, Buf *out) {
    HostCompiled c[GROUP_BLOCKS];
    for (unsigned i = 0; i < s->n; i++) {
        const Block *b = s->block[i];
        c[i] = (HostCompiled){.entry = b->entry,
                              .cold = b->kept->cold,
                              .code_bytes = b->code_bytes,
                              .cold_bytes = b->kept->cold_bytes,
                              .links = block_links(b),
                              .to = to,
                              .relocs = b->kept->relocs,
                              .n_links = b->n_links,
                              .n_relocs = b->kept->n_relocs};
        to += b->n_links;
    }
    return m->host->freeze(m->host_ctx, c, s->n, out);
}

static void add_faults(const Block *b, Buf *out) {
    for (uint32_t i = 0; i < b->n_faults; i++) {
        HostFault f = b->faults[i];
        if (f.fix) f.fix -= (int32_t)(b->kept->cold - b->entry);
        buf_add(out, &f, sizeof f);
    }
}

// The parts of a record that stand before its frozen code; their sizes go to *r.
static void add_blocks(const Saving *s, CacheRecord *r, Buf *out) {
    for (unsigned i = 0; i < s->n; i++) {
        const Block *b = s->block[i];
        CacheBlock c = {.pc = b->pc,
                        .guest_bytes = b->size_bytes,
                        .n_insns = b->n_insns,
                        .n_links = b->n_links,
                        .n_faults = b->n_faults,
                        .n_counts = n_counts(b),
                        .n_traps = b->traps ? b->traps->n : 0,
                        .guest = r->guest_bytes};
        r->n_links += c.n_links;
        r->n_faults += c.n_faults;
        r->n_counts += c.n_counts;
        r->n_traps += c.n_traps;
        r->guest_bytes += c.guest_bytes;
        buf_add(out, &c, sizeof c);
    }
    for (unsigned i = 0; i < s->n; i++) add_faults(s->block[i], out);
    for (unsigned i = 0; i < s->n; i++)
        buf_add(out, s->block[i]->count_ends, n_counts(s->block[i]) * sizeof(uint32_t));
    for (unsigned i = 0; i < s->n; i++)
        if (s->block[i]->traps)
            buf_add(out, s->block[i]->traps->trap, s->block[i]->traps->n * sizeof(HostTrap));
}

static void add_record(Saving *s) {
    Machine *m = s->p->m;
    Buf *out = &s->records;
    size_t start = out->len;
    CacheRecord r = {.mode = s->block[0]->mode, .n_blocks = s->n};
    buf_add(out, &r, sizeof r);
    add_blocks(s, &r, out);
    uint16_t *to = malloc(r.n_links * sizeof *to + 1);
    size_t frozen = out->len;
    bool ok = to && (links_to(s, to), freeze(m, s, to, out));
    r.frozen_bytes = (uint32_t)(out->len - frozen);
    if (ok) buf_add(out, to, r.n_links * sizeof *to);
    for (unsigned i = 0; i < s->n && ok; i++) {
        const uint8_t *code = space_fetch(m->as, s->block[i]->pc, s->block[i]->size_bytes);
        ok = code;
        if (ok) buf_add(out, code, s->block[i]->size_bytes);
    }
    static const char pad[8];
    buf_add(out, pad, -(out->len - start) & 7);
    r.bytes = (uint32_t)(out->len - start);
    free(to);
    if (out->failed) return;
    if (!ok) {
        out->len = start;
        return;
    }
    memcpy(out->data + start, &r, sizeof r);
    cache_record_seal((CacheRecord *)(void *)(out->data + start));
}

// One block that cannot be frozen does not take the others with it.
static void add_group(Saving *s) {
    size_t before = s->records.len;
    if (s->n) add_record(s);
    if (s->n > 1 && s->records.len == before) {
        Saving one = *s;
        one.n = 1;
        for (unsigned i = 0; i < s->n; i++) {
            one.block[0] = s->block[i];
            add_record(&one);
        }
        s->records = one.records;
    }
    s->n = 0;
}

// Has the file got this block, perhaps from another process since we looked?
static bool is_kept(Saving *s, const Block *b) {
    const CacheRecord *r;
    const uint8_t *code = space_fetch(s->p->m->as, b->pc, b->size_bytes);
    uint64_t bytes;
    for (unsigned next = 0;
         code && (r = cache_file_find(&s->to.file, b->pc, next, &next, &bytes));) {
        if (r != s->known) s->known_ok = cache_record_ok(r, bytes) && is_sound(r);
        s->known = r;
        const CacheBlock *c = cache_record_blocks(r);
        for (uint32_t i = 0; s->known_ok && r->mode == b->mode && i < r->n_blocks; i++)
            if (c[i].pc == b->pc && c[i].guest_bytes == b->size_bytes &&
                !memcmp(cache_record_guest(r) + c[i].guest, code, b->size_bytes))
                return true;
    }
    return !code; // what is no longer there is not worth a place
}

// Code that is run a first time leaves only its name, for most of what is run once (what a build
// tries, what a test compiles) never is again, and writing is not for nothing; a few blocks more
// than are there already are not worth it either.
static bool worth_saving(const Module *mod) {
    if (mod->at_once) return mod->n_new;
    return mod->file.map && (mod->n_new >= WORTH_SAVING || !mod->file.n_segs);
}

static bool save_blocks(Persist *p, int dir, Module *mod, const Block *const *blocks) {
    Saving s = {.p = p, .mod = mod};
    if (!cache_add_begin(dir, &mod->file.key, &s.to)) return false;
    for (uint32_t i = 0; i < mod->n_new; i++) {
        const Block *b = blocks[i];
        if (b->pc + b->size_bytes > mod->hi || is_kept(&s, b)) continue;
        if (s.n == GROUP_BLOCKS || (s.n && s.block[0]->mode != b->mode)) add_group(&s);
        s.block[s.n++] = b;
    }
    add_group(&s);
    size_t bytes = s.records.len;
    bool saved = cache_add_end(&s.to, mod->name, &s.records);
    buf_free(&s.records);
    if (saved && log_on(&p->m->log, LOG_CACHE, mod->lo))
        log_printf(&p->m->log, "cache: %s at %#lx: %zu bytes kept\n", mod->name, mod->lo, bytes);
    return saved;
}

static bool save_module(Persist *p, int dir, Module *mod, const Block *const *blocks) {
    bool worth = worth_saving(mod);
    bool saved = worth && save_blocks(p, dir, mod, blocks);
    bool marked =
        !worth && mod->n_new && !mod->file.map && cache_file_mark(dir, &mod->file.key, mod->name);
    if (log_on(&p->m->log, LOG_CACHE, mod->lo) && mod->n_new)
        log_printf(&p->m->log, "cache: %s at %#lx: %u new blocks%s\n", mod->name, mod->lo,
                   mod->n_new,
                   saved    ? ""
                   : worth  ? ", not kept: no room, another writer, or there already"
                   : marked ? ", seen for the first time"
                            : ", too few");
    mod->n_new = 0;
    return saved;
}

// A limit of the guest's on the size of files is not to be met on its behalf.
static bool may_write(void) {
    struct rlimit l;
    return !getrlimit(RLIMIT_FSIZE, &l) && l.rlim_cur == RLIM_INFINITY;
}

// Module.n_new of all.
static uint32_t count_new(Persist *p) {
    uint32_t n = 0;
    for (const BlockKept *k = p->first; k; k = k->next) {
        Module *mod = k->block->dead ? NULL : module_of(p, k->block->pc);
        if (mod) mod->n_new++, n++;
    }
    return n;
}

// The new blocks of each module one behind the other, in the order in which they were made.
static const Block **sort_new(Persist *p, uint32_t n) {
    const Block **all = malloc(n * sizeof *all);
    uint32_t at[MAX_MODULES], sum = 0;
    for (unsigned i = 0; i < p->n_modules; i++) {
        at[i] = sum;
        sum += p->modules[i].n_new;
    }
    for (const BlockKept *k = all ? p->first : NULL; k; k = k->next) {
        Module *mod = k->block->dead ? NULL : module_of(p, k->block->pc);
        if (mod) all[at[mod - p->modules]++] = k->block;
    }
    return all;
}

void persist_save(Machine *m) {
    Persist *p = m->persist;
    if (!p || !p->n_modules || !may_write()) return;
    pthread_mutex_lock(&m->lock);
    uint32_t n = count_new(p), done = 0;
    const Block **all = n ? sort_new(p, n) : NULL;
    DgmErr why;
    int dir = all ? cache_dir_open(p->dir, &why) : -1;
    bool grown = false;
    for (unsigned i = 0; i < p->n_modules; i++) {
        uint32_t new_here = p->modules[i].n_new;
        if (dir >= 0) grown |= save_module(p, dir, &p->modules[i], all + done);
        p->modules[i].n_new = 0;
        done += new_here;
    }
    free(all);
    persist_start_anew(m);
    pthread_mutex_unlock(&m->lock);
    if (grown) cache_dir_trim(dir, p->max_bytes);
    if (dir >= 0) close(dir);
}

void persist_note(Machine *m, Block *b) {
    Persist *p = m->persist;
    BlockKept *k = b->kept;
    k->block = b;
    k->next = NULL;
    if (p->newest)
        p->newest->next = k;
    else
        p->first = k;
    p->newest = k;
}

void persist_at_once(Machine *m) {
    if (m->persist) m->persist->at_once = true;
}

void persist_start_anew(Machine *m) {
    if (m->persist) m->persist->first = m->persist->newest = NULL;
}
