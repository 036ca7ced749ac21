// persist.c - what a machine keeps of its translations: modules, loading, saving.
//
// The personality names pieces of guest code that come from a file (persist_map). When the
// dispatcher first wants a block there that is not in the table, all that was kept of the module is
// loaded (images.c), and asked. New blocks note their relocations (BlockKept), and
// persist_save appends them to the file as one more segment.
//
// All under Machine.lock. No file stays open: the guest would see its descriptor.
#include "engine/persist.h"
#include "base/self.h"
#include "engine/host_signals.h"
#include "engine/images.h"
#include "memory/space.h"

#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

enum { WORTH_SAVING = 64, MAX_MODULES = 512 };

typedef struct Module {
    uint64_t lo, hi;
    CacheKey key;
    char name[CACHE_NAME_BYTES];
    bool at_once; // worth keeping the first time
    bool opened;  // and from then on:
    bool damaged; // segment n_sound of the file is
    CacheFile file;
    unsigned n_sound, first_image, n_images; // of the machine's
    uint64_t flushes;                        // when they were loaded
    uint32_t n_kept;                         // blocks of them
    uint32_t n_new;                          // while saving
} Module;

struct Persist {
    Machine *m;
    char *dir;
    uint64_t max_bytes;
    CacheKey key; // what all files have in common
    Module *modules;
    unsigned n_modules, last;
    bool at_once;          // Module.at_once
    bool closed;           // no modules any more
    MetaRef first, newest; // BlockKept of the blocks to save, in the order in which they were made
};

static uint64_t guest_identity(const Machine *m) {
    struct {
        uint64_t name, features;
        uint32_t max_insns, fields, state_bytes;
        uint8_t count, budgeted, tier, pad;
    } id = {.name = hash_bytes(m->guest->name, strlen(m->guest->name), 0),
            .features = m->features,
            .max_insns = m->max_block_insns,
            .fields = m->guest->n_fields,
            .state_bytes = m->guest->state_bytes,
            .count = m->count,
            .budgeted = m->budgeted,
            .tier = m->tier};
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
        m->images = calloc(1, sizeof *m->images);
    }
    bool ok = p && p->modules && p->dir && m->images;
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
    memmove(&p->modules[i], &p->modules[i + 1], (--p->n_modules - i) * sizeof *p->modules);
}

void persist_free(Persist *p) {
    if (!p) return;
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
    if (p->n_modules < MAX_MODULES && !p->closed) {
        Module *mod = &p->modules[p->n_modules++];
        *mod = (Module){.lo = lo, .hi = hi, .key = p->key};
        mod->key.lo = lo;
        memcpy(mod->key.file, id, sizeof mod->key.file);
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
    return m->persist && is_plain(mode) && !again_knows(m, pc) && module_of(m->persist, pc);
}

// ---- loading ----

static void load_images(Persist *p, Module *mod, int fd) {
    Machine *m = p->m;
    static const char *const said[] = {"", ", no room", ", damaged"};
    mod->first_image = atomic_load(&m->images->n);
    mod->n_kept = 0;
    for (mod->n_sound = 0; mod->n_sound < mod->file.n_segs; mod->n_sound++) {
        ImageLoaded how = image_load(m, fd, &mod->file.seg[mod->n_sound], mod->lo);
        if (how != IMAGE_LOADED && log_on(&m->log, LOG_CACHE, mod->lo))
            log_printf(&m->log, "cache: %s at %#lx: segment %u%s\n", mod->name, mod->lo,
                       mod->n_sound, said[how]);
        mod->damaged = how == IMAGE_DAMAGED;
        if (how != IMAGE_LOADED) break;
        mod->n_kept += mod->file.seg[mod->n_sound].n_blocks;
    }
    mod->n_images = atomic_load(&m->images->n) - mod->first_image;
}

static void open_module(Persist *p, Module *mod) {
    DgmErr why;
    int dir = cache_dir_open(p->dir, &why);
    int fd = dir < 0 ? -1 : cache_file_open(dir, &mod->key, &mod->file);
    if (fd >= 0) {
        load_images(p, mod, fd);
        close(fd);
    }
    if (dir >= 0) close(dir);
    mod->opened = true;
    mod->flushes = p->m->stats.flushes;
    if (log_on(&p->m->log, LOG_CACHE, mod->lo))
        log_printf(&p->m->log, "cache: %s at %#lx: %u segments, %lu bytes\n", mod->name, mod->lo,
                   mod->file.n_segs, mod->file.end);
}

Block *persist_load(Machine *m, uint64_t pc, uint32_t mode) {
    Persist *p = m->persist;
    Module *mod = p && is_plain(mode) ? module_of(p, pc) : NULL;
    if (!mod) return NULL;
    if (!mod->opened) open_module(p, mod);
    if (mod->flushes != m->stats.flushes) return NULL; // its images went with the code cache
    Block *b = NULL;
    for (unsigned i = 0; i < mod->n_images && !b; i++)
        b = image_block(m, &m->images->at[mod->first_image + i], pc, mode);
    return b;
}

// ---- saving ----

// The blocks of a segment that is about to be written.
typedef struct Saving {
    Machine *m;
    Module *mod;
    const BlockKept **kept; // in the order in which they were made
    uint32_t n, n_links;
    uint32_t *order; // numbers of blocks, sorted by pc and mode
    uint32_t *to;    // for each link of each block, which block it leads to
    HostCompiled *compiled;
    HostPlace *place;
    Buf body, guest, image;
} Saving;

static const Block *saved_block(const Saving *s, uint32_t i) {
    return meta_at(&s->m->meta, s->kept[i]->block);
}

static int by_pc_and_mode(uint64_t pc, uint32_t mode, const Block *b) {
    if (pc != b->pc) return pc < b->pc ? -1 : 1;
    return (mode > b->mode) - (mode < b->mode);
}

static int by_pc(const void *a, const void *b, void *ctx) {
    const Saving *s = ctx;
    const Block *x = saved_block(s, *(const uint32_t *)a);
    return by_pc_and_mode(x->pc, x->mode, saved_block(s, *(const uint32_t *)b));
}

static uint32_t find_saved(const Saving *s, uint64_t pc, uint32_t mode) {
    size_t k = COUNT_BEFORE(s->n, i, by_pc_and_mode(pc, mode, saved_block(s, s->order[i])) > 0);
    bool there = k < s->n && !by_pc_and_mode(pc, mode, saved_block(s, s->order[k]));
    return there ? s->order[k] : (uint32_t)HOST_OUTSIDE;
}

static bool sort_and_link(Saving *s) {
    for (uint32_t i = 0; i < s->n; i++) s->n_links += saved_block(s, i)->n_links;
    s->order = malloc(s->n * sizeof *s->order);
    s->to = malloc((s->n_links + 1) * sizeof *s->to);
    s->compiled = malloc(s->n * sizeof *s->compiled);
    s->place = malloc(s->n * sizeof *s->place);
    if (!s->order || !s->to || !s->compiled || !s->place) return false;
    for (uint32_t i = 0; i < s->n; i++) s->order[i] = i;
    qsort_r(s->order, s->n, sizeof *s->order, by_pc, s);
    uint32_t *to = s->to;
    for (uint32_t i = 0; i < s->n; i++) {
        const Block *b = saved_block(s, i);
        const BlockKept *k = s->kept[i];
        s->compiled[i] = (HostCompiled){.entry = block_entry(s->m, b),
                                        .cold = s->m->cache + k->cold,
                                        .code_bytes = b->code_bytes,
                                        .cold_bytes = k->cold_bytes,
                                        .links = block_links(b),
                                        .to = to,
                                        .relocs = k->relocs,
                                        .n_links = b->n_links,
                                        .n_relocs = k->n_relocs};
        for (uint32_t n = 0; n < b->n_links; n++)
            *to++ = find_saved(s, block_links(b)[n].target_pc, b->mode);
    }
    return true;
}

static uint32_t n_counts(const Machine *m, const Block *b) {
    const uint16_t *ends = block_count_ends(m, b);
    uint32_t n = 0;
    if (ends)
        while (ends[n++] != UINT16_MAX) continue;
    return n;
}

static void add_blocks(Saving *s, CacheBody *h) {
    uint32_t *first_link = calloc(s->n, sizeof *first_link);
    s->body.failed |= !first_link;
    for (uint32_t i = 0, at = 0; i < s->n && first_link; at += saved_block(s, i++)->n_links)
        first_link[i] = at;
    for (uint32_t k = 0; k < s->n && first_link; k++) {
        uint32_t i = s->order[k];
        const Block *b = saved_block(s, i);
        CacheBlock c = {.pc = (uint32_t)(b->pc - s->mod->lo),
                        .hot = s->place[i].hot,
                        .link = first_link[i],
                        .fault = h->n_faults,
                        .code_bytes = (uint16_t)b->code_bytes,
                        .guest_bytes = b->size_bytes,
                        .n_insns = b->n_insns,
                        .n_links = b->n_links,
                        .n_faults = b->n_faults,
                        .mode = (uint8_t)b->mode};
        h->n_faults += c.n_faults + (uint32_t)(block_fixes_end(b) - block_fixes(b));
        buf_add(&s->body, &c, sizeof c);
    }
    free(first_link);
}

// Chunks of so many bytes that there are no more of them than blocks, about.
static void add_chunks(Saving *s, CacheBody *h) {
    uint32_t span = (uint32_t)(saved_block(s, s->order[s->n - 1])->pc - s->mod->lo) + 1, k = 0;
    h->chunk_shift = 4;
    while (span >> h->chunk_shift > s->n + 16) h->chunk_shift++;
    h->n_chunks = (span >> h->chunk_shift) + 1;
    h->chunks = (uint32_t)s->body.len;
    for (uint64_t n = 0; n <= h->n_chunks; n++) {
        while (k < s->n && (saved_block(s, s->order[k])->pc - s->mod->lo) >> h->chunk_shift < n)
            k++;
        buf_add(&s->body, &k, sizeof k);
    }
}

static void add_by_code(Saving *s, CacheBody *h) {
    uint32_t *rank = malloc(s->n * sizeof *rank);
    for (uint32_t k = 0; rank && k < s->n; k++) rank[s->order[k]] = k;
    h->by_code = (uint32_t)s->body.len;
    if (rank) buf_add(&s->body, rank, s->n * sizeof *rank);
    s->body.failed |= !rank;
    free(rank);
}

// The guest code of all blocks, each byte once.
static void add_ranges(Saving *s, CacheBody *h) {
    h->ranges = (uint32_t)s->body.len;
    for (uint32_t k = 0; k < s->n;) {
        uint64_t lo = saved_block(s, s->order[k])->pc, hi = lo;
        for (const Block *b; k < s->n && (b = saved_block(s, s->order[k]))->pc <= hi; k++)
            hi = MAX(hi, b->pc + b->size_bytes);
        CacheRange r = {(uint32_t)(lo - s->mod->lo), (uint32_t)(hi - lo)};
        const uint8_t *code = space_fetch(s->m->as, lo, r.bytes);
        s->guest.failed |= !code;
        if (code) buf_add(&s->guest, code, r.bytes);
        buf_add(&s->body, &r, sizeof r);
        h->n_ranges++;
    }
}

static void add_counts(Saving *s, CacheBody *h) {
    for (uint32_t k = 0; k < s->n; k++) {
        buf_add(&s->body, &h->n_counts, sizeof h->n_counts);
        h->n_counts += n_counts(s->m, saved_block(s, s->order[k]));
    }
    for (uint32_t k = 0; k < s->n; k++) {
        const Block *b = saved_block(s, s->order[k]);
        uint32_t bytes = n_counts(s->m, b) * (uint32_t)sizeof(uint16_t);
        if (bytes) buf_add(&s->body, block_count_ends(s->m, b), bytes);
    }
}

static void add_tables(Saving *s, CacheBody *h) {
    h->faults = (uint32_t)s->body.len;
    for (uint32_t k = 0; k < s->n; k++) {
        uint32_t i = s->order[k];
        const Block *b = saved_block(s, i);
        int32_t moved = (int32_t)(s->place[i].cold - s->place[i].hot) -
                        (int32_t)(s->compiled[i].cold - s->compiled[i].entry);
        buf_add(&s->body, block_faults(b), b->n_faults * sizeof(HostFault));
        for (const HostFix *f = block_fixes(b), *end = block_fixes_end(b); f < end; f++) {
            HostFix fix = *f + moved;
            buf_add(&s->body, &fix, sizeof fix);
        }
    }
    h->traps = (uint32_t)s->body.len;
    for (uint32_t i = 0; i < s->n; i++) {
        const BlockMore *more = block_more(s->m, saved_block(s, i));
        const BlockTraps *t = more ? more->traps : NULL;
        for (uint32_t j = 0; t && j < t->n; j++, h->n_traps++)
            buf_add(&s->body,
                    &(HostTrap){s->place[i].hot + t->trap[j].at, s->place[i].cold + t->trap[j].to},
                    sizeof(HostTrap));
    }
    h->counts = (uint32_t)s->body.len;
    if (s->m->count) add_counts(s, h);
}

static bool make_segment(Saving *s) {
    static const char zeros[4096];
    CacheBody h = {.n_blocks = s->n};
    if (!s->n || !sort_and_link(s) ||
        !s->m->host->freeze(s->m->host_ctx, s->compiled, s->n, s->place, &s->image))
        return false;
    buf_add(&s->body, &h, sizeof h);
    add_blocks(s, &h);
    add_chunks(s, &h);
    add_by_code(s, &h);
    add_ranges(s, &h);
    add_tables(s, &h);
    buf_add(&s->body, zeros, -s->body.len & 63);
    h.image = (uint32_t)s->body.len;
    buf_add(&s->body, s->image.data, s->image.len);
    buf_add(&s->body, zeros, -s->body.len & (sizeof zeros - 1));
    if (s->body.failed || s->guest.failed || s->body.len > UINT32_MAX) return false;
    memcpy(s->body.data, &h, sizeof h);
    return true;
}

typedef struct LeaveOut {
    Saving *s;
    int fd;
    const CacheSegment *seg;
} LeaveOut;

// Leaves out what a segment has that another process added since we looked.
static void leave_out(void *ctx) {
    const LeaveOut *l = ctx;
    Saving *s = l->s;
    const CacheSegment *seg = l->seg;
    size_t bytes = ALIGN_UP((size_t)(seg->body_bytes + seg->guest_bytes), 4096);
    CacheBody *b = pages_alloc(bytes);
    if (b && cache_read(l->fd, seg, b) && image_is_sound(b, seg->body_bytes, seg->guest_bytes)) {
        uint32_t n = 0;
        for (uint32_t i = 0; i < s->n; i++)
            if (!image_find(b, saved_block(s, i)->pc - s->mod->lo, saved_block(s, i)->mode))
                s->kept[n++] = s->kept[i];
        s->n = n;
    }
    pages_free(b, bytes);
}

// Code that is run a first time leaves only its name, for most of what is run once (what a build
// tries, what a test compiles) never is again, and writing is not for nothing; a few blocks more
// than are there already are not worth it either.
static bool worth_saving(const Persist *p, const Module *mod) {
    enum { MANY_SEGMENTS = 8 };
    if (mod->at_once || !mod->file.exists) return mod->at_once && mod->n_new;
    bool not_all_loaded = mod->flushes != p->m->stats.flushes || mod->n_sound < mod->file.n_segs;
    if (mod->file.n_segs && not_all_loaded && !mod->damaged) return false; // they would be new
    if (mod->n_new < WORTH_SAVING && mod->file.n_segs) return false;
    return mod->file.n_segs < MANY_SEGMENTS || mod->n_new >= mod->n_kept / 16;
}

// Opens the file under its lock and goes to where the next segment is written.
static bool begin_saving(Saving *s, int dir, CacheAdding *to) {
    const CacheFile *was = &s->mod->file;
    if (!cache_add_begin(dir, &s->mod->key, to)) return false;
    CacheFile *now = &to->file;
    if (s->mod->damaged || now->n_segs == CACHE_MAX_SEGMENTS) {
        cache_file_mark(dir, &s->mod->key, s->mod->name); // begun anew by the next run
        s->n = 0;
    }
    unsigned known = now->end > was->end ? was->n_segs : now->end == was->end ? now->n_segs : 0;
    for (unsigned i = known; i < now->n_segs && s->n; i++)
        host_try(leave_out, &(LeaveOut){s, to->fd, &now->seg[i]});
    return true;
}

static bool save_blocks(Persist *p, int dir, Module *mod, const BlockKept **kept) {
    Saving s = {.m = p->m, .mod = mod, .kept = kept};
    CacheAdding to;
    for (uint32_t i = 0; i < mod->n_new; i++) {
        const Block *b = saved_block(&s, i);
        if (b->pc + b->size_bytes <= mod->hi && space_fetch(p->m->as, b->pc, b->size_bytes))
            s.kept[s.n++] = kept[i];
    }
    if (!begin_saving(&s, dir, &to)) return false;
    if (!make_segment(&s)) s.body.len = 0;
    bool saved = cache_add_end(&to, mod->name, &s.body, &s.guest);
    if (saved && log_on(&p->m->log, LOG_CACHE, mod->lo))
        log_printf(&p->m->log, "cache: %s at %#lx: %zu bytes kept\n", mod->name, mod->lo,
                   s.body.len + s.guest.len);
    buf_free(&s.body);
    buf_free(&s.guest);
    buf_free(&s.image);
    free(s.order);
    free(s.to);
    free(s.compiled);
    free(s.place);
    return saved;
}

static bool save_module(Persist *p, int dir, Module *mod, const BlockKept **kept) {
    bool worth = worth_saving(p, mod);
    bool saved = worth && save_blocks(p, dir, mod, kept);
    bool marked =
        !worth && mod->n_new && !mod->file.exists && cache_file_mark(dir, &mod->key, mod->name);
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

static BlockKept *kept_at(const Persist *p, MetaRef ref) {
    return meta_at(&p->m->meta, ref);
}

// Where a block is kept that is still there, or NULL.
static Module *module_of_kept(Persist *p, const BlockKept *k) {
    const Block *b = meta_at(&p->m->meta, k->block);
    return b->dead ? NULL : module_of(p, b->pc);
}

// Module.n_new of all.
static uint32_t count_new(Persist *p) {
    uint32_t n = 0;
    for (const BlockKept *k = kept_at(p, p->first); k; k = kept_at(p, k->next)) {
        Module *mod = module_of_kept(p, k);
        if (mod) mod->n_new++, n++;
    }
    return n;
}

// The new blocks of each module one behind the other, in the order in which they were made.
static const BlockKept **sort_new(Persist *p, uint32_t n) {
    const BlockKept **all = malloc(n * sizeof *all);
    uint32_t at[MAX_MODULES], sum = 0;
    for (unsigned i = 0; i < p->n_modules; i++) {
        at[i] = sum;
        sum += p->modules[i].n_new;
    }
    for (const BlockKept *k = all ? kept_at(p, p->first) : NULL; k; k = kept_at(p, k->next)) {
        Module *mod = module_of_kept(p, k);
        if (mod) all[at[mod - p->modules]++] = k;
    }
    return all;
}

void persist_save(Machine *m) {
    Persist *p = m->persist;
    if (!p || !p->n_modules || !may_write()) return;
    pthread_mutex_lock(&m->lock);
    uint32_t n = count_new(p), done = 0;
    const BlockKept **all = n ? sort_new(p, n) : NULL;
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

void persist_note(Machine *m, BlockKept *k) {
    Persist *p = m->persist;
    MetaRef ref = meta_ref(&m->meta, k);
    if (p->newest)
        kept_at(p, p->newest)->next = ref;
    else
        p->first = ref;
    p->newest = ref;
}

void persist_at_once(Machine *m) {
    if (m->persist) m->persist->at_once = true;
}

void persist_start_anew(Machine *m) {
    if (m->persist) m->persist->first = m->persist->newest = 0;
}

void persist_close(Machine *m) {
    if (!m->persist) return;
    m->persist->closed = true;
    m->persist->n_modules = 0;
    persist_start_anew(m);
}
