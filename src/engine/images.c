// images.c - see images.h. Where to start: image_load.
#include "engine/images.h"
#include "engine/host_signals.h"
#include "memory/space.h"

#include <stdlib.h>
#include <sys/mman.h>

// ---- what a body says ----

static const void *part(const CacheBody *b, uint32_t place) {
    return (const char *)b + place;
}
static CacheBlock *blocks_of(const CacheBody *b) {
    return (CacheBlock *)(uintptr_t)(b + 1);
}

static bool part_fits(uint64_t place, uint64_t n, uint64_t each, uint64_t bytes) {
    return !(place & 3) && place >= sizeof(CacheBody) && place + n * each <= bytes;
}

static bool parts_fit(const CacheBody *b, uint64_t bytes) {
    return bytes >= sizeof *b && sizeof *b + b->n_blocks * (uint64_t)sizeof(CacheBlock) <= bytes &&
           b->chunk_shift < 32 && part_fits(b->chunks, b->n_chunks + 1ull, 4, bytes) &&
           part_fits(b->by_code, b->n_blocks, 4, bytes) &&
           part_fits(b->ranges, b->n_ranges, sizeof(CacheRange), bytes) &&
           part_fits(b->faults, b->n_faults, sizeof(HostFault), bytes) &&
           part_fits(b->traps, b->n_traps, sizeof(HostTrap), bytes) &&
           part_fits(b->counts, b->n_counts ? 2ull * b->n_blocks + b->n_counts : 0, 2, bytes) &&
           part_fits(b->image, 1, sizeof(HostImage), bytes) && !(b->image & 63);
}

// In bounds, that is: tables that are in another order than they should be lead to nowhere.
static bool tables_are_sound(const CacheBody *b) {
    const uint32_t *chunk = part(b, b->chunks), *by_code = part(b, b->by_code),
                   *counts = b->n_counts ? part(b, b->counts) : NULL;
    for (uint32_t i = 0; i < b->n_chunks; i++)
        if (chunk[i] > chunk[i + 1]) return false;
    if (chunk[b->n_chunks] > b->n_blocks) return false;
    for (uint32_t i = 0; i < b->n_blocks; i++)
        if (by_code[i] >= b->n_blocks || (counts && counts[i] >= b->n_counts)) return false;
    return !counts || ((const uint16_t *)(counts + b->n_blocks))[b->n_counts - 1] == UINT16_MAX;
}

static bool block_fits(const CacheBody *b, const HostImage *h, const CacheBlock *c) {
    return c->guest_bytes && c->code_bytes && c->hot >= h->hot &&
           (uint64_t)c->hot + c->code_bytes <= h->hot_end &&
           (uint64_t)c->link + c->n_links <= h->n_links &&
           (uint64_t)c->fault + c->n_faults <= b->n_faults;
}

bool image_is_sound(const CacheBody *b, uint64_t bytes, uint64_t guest_bytes) {
    if (!parts_fit(b, bytes) || !tables_are_sound(b)) return false;
    const HostImage *h = part(b, b->image);
    const CacheBlock *c = blocks_of(b), *end = c + b->n_blocks;
    const CacheRange *r = part(b, b->ranges);
    uint64_t last = 0, guest = 0, image_bytes = bytes - b->image;
    if (h->hot_end > image_bytes || h->stubs > image_bytes) return false;
    for (uint32_t i = 0; i < b->n_ranges; i++, r++) {
        if (r->pc < last) return false;
        last = (uint64_t)r->pc + r->bytes;
        guest += r->bytes;
        for (; c < end && c->pc < last; c++)
            if (c->pc < r->pc || (uint64_t)c->pc + c->guest_bytes > last || !block_fits(b, h, c) ||
                (c > blocks_of(b) &&
                 (c[-1].pc > c->pc || (c[-1].pc == c->pc && c[-1].mode >= c->mode))))
                return false;
    }
    return c == end && guest == guest_bytes;
}

CacheBlock *image_find(const CacheBody *b, uint64_t pc, uint32_t mode) {
    const uint32_t *chunk = part(b, b->chunks);
    uint64_t n = pc >> b->chunk_shift;
    if (n >= b->n_chunks) return NULL;
    CacheBlock *c = blocks_of(b) + chunk[n], *end = blocks_of(b) + chunk[n + 1];
    for (; c < end && c->pc <= pc; c++)
        if (c->pc == pc && c->mode == mode) return c;
    return NULL;
}

// ---- loading ----

// Files are mapped there; now it is for code again, or for the next.
static void code_pages(uint8_t *lo, uint8_t *hi) {
    enum { HOW = PROT_READ | PROT_WRITE | PROT_EXEC };
    if (lo < hi)
        mmap(lo, (size_t)(hi - lo), HOW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED,
             -1, 0);
}

// Behind the room for new code, which keeps half of what it has.
static uint8_t *take_room(Machine *m, uint64_t bytes) {
    if (bytes > (uint64_t)(m->hot_end - m->cache_at) / 2) return NULL;
    return (uint8_t *)ALIGN_DOWN((uintptr_t)(m->hot_end - bytes), 4096);
}

// Bars the blocks whose guest code is not what it was.
static void compare_guest(const Machine *m, const Image *i, const uint8_t *guest) {
    const CacheBody *b = i->body;
    const CacheRange *r = part(b, b->ranges);
    CacheBlock *c = i->blocks, *end = c + b->n_blocks;
    for (uint32_t k = 0; k < b->n_ranges; guest += r->bytes, k++, r++) {
        const uint8_t *now = space_fetch(m->as, i->lo + r->pc, r->bytes);
        if (now && !memcmp(now, guest, r->bytes)) continue;
        while (c < end && c->pc < r->pc) c++;
        for (; c < end && c->pc < r->pc + r->bytes; c++) {
            now = space_fetch(m->as, i->lo + c->pc, c->guest_bytes);
            if (now && !memcmp(now, guest + (c->pc - r->pc), c->guest_bytes)) continue;
            c->dead = true;
            m->host->bar(m->host_ctx, i->code + c->hot);
        }
    }
}

typedef struct Loading {
    Machine *m;
    int fd;
    const CacheSegment *s;
    uint8_t *at;
    Image image;
    bool ok;
} Loading;

// Another process may cut the file short: then a fault ends this, which is why nothing of it is
// known to others before all of it was looked at.
static void load(void *ctx) {
    Loading *l = ctx;
    CacheBody *b = (CacheBody *)(void *)l->at;
    uint64_t bytes = l->s->body_bytes;
    if (!cache_read(l->fd, l->s, b) || !image_is_sound(b, bytes, l->s->guest_bytes) ||
        !l->m->host->attach(l->m->host_ctx, l->at + b->image, bytes - b->image))
        return;
    uint8_t *code = l->at + b->image;
    const HostImage *h = (const HostImage *)(void *)code;
    l->image.code = code;
    l->image.hot = code + h->hot;
    l->image.hot_end = code + h->hot_end;
    l->image.blocks = blocks_of(b);
    l->image.body = b;
    l->image.links = (const HostFrozenLink *)(void *)(code + h->links);
    compare_guest(l->m, &l->image, l->at + bytes);
    l->ok = true;
}

ImageLoaded image_load(Machine *m, int fd, const CacheSegment *s, uint64_t lo) {
    uint32_t n = atomic_load(&m->images->n);
    Loading l = {.m = m, .fd = fd, .s = s, .image.lo = lo};
    l.at = n < MAX_IMAGES ? take_room(m, s->body_bytes + s->guest_bytes) : NULL;
    if (!l.at) return IMAGE_NO_ROOM;
    l.ok = host_try(load, &l) && l.ok;
    code_pages(l.ok ? l.at + s->body_bytes : l.at, m->hot_end); // guest code is needed no more
    if (!l.ok) return IMAGE_DAMAGED;
    m->images->at[n] = l.image;
    m->hot_end = l.at;
    hot_start_early(m);
    atomic_store_explicit(&m->images->n, n + 1, memory_order_release);
    return IMAGE_LOADED;
}

// ---- blocks of them ----

static uint32_t stub_of(const HostFrozenLink *l) {
    return l->stub & ~(HOST_FALLS_THROUGH | HOST_CALL);
}

static HostLink link_of(const Machine *m, const Image *i, const HostFrozenLink *l, uint32_t index) {
    return (HostLink){.target_pc = l->target_pc,
                      .patch = (uint32_t)(i->code - m->cache) + l->patch,
                      .unlinked = (int32_t)(stub_of(l) - (l->patch + 4)),
                      .index = (uint16_t)index,
                      .falls_through = (l->stub & HOST_FALLS_THROUGH) != 0,
                      .calls = (l->stub & HOST_CALL) != 0};
}

static bool links_fit(const Image *i, const CacheBlock *c) {
    const HostImage *h = (const HostImage *)(void *)i->code;
    for (const HostFrozenLink *l = i->links + c->link, *end = l + c->n_links; l < end; l++)
        if (l->patch <= h->hot || l->patch + 4ull > h->stubs || stub_of(l) < h->hot ||
            stub_of(l) > h->stubs)
            return false;
    return true;
}

static Block *make_block(Machine *m, const Image *i, const CacheBlock *c) {
    Block *b =
        links_fit(i, c) ? meta_alloc(&m->meta, sizeof *b + c->n_links * sizeof(HostLink)) : NULL;
    if (!b) return NULL;
    *b = (Block){.pc = i->lo + c->pc,
                 .entry = (uint32_t)(i->code - m->cache) + c->hot,
                 .mode = c->mode,
                 .code_bytes = c->code_bytes,
                 .size_bytes = c->guest_bytes,
                 .n_insns = c->n_insns,
                 .n_links = c->n_links,
                 .loaded = true};
    for (uint32_t k = 0; k < c->n_links; k++)
        block_links(b)[k] = link_of(m, i, &i->links[c->link + k], k);
    if (!block_table_add(m->blocks, b)) return NULL;
    m->stats.loaded++;
    return b;
}

Block *image_block(Machine *m, const Image *i, uint64_t pc, uint32_t mode) {
    const CacheBlock *c = image_find(i->body, pc - i->lo, mode);
    return c && !c->dead ? make_block(m, i, c) : NULL;
}

// Once a block: from then on the links are the engine's, like all others.
void images_relink(Machine *m, Block *to) {
    uint32_t n = atomic_load(&m->images->n);
    for (uint32_t k = 0; k < n; k++) {
        const Image *i = &m->images->at[k];
        uint32_t n_links = ((const HostImage *)(void *)i->code)->n_links;
        const CacheBlock *c = image_find(i->body, to->pc - i->lo, to->mode);
        if (!c || !c->dead) continue;
        for (const HostFrozenLink *l = i->links, *end = l + n_links; l < end; l++) {
            HostLink *link = l->target_pc == to->pc ? link_taken(m, l) : NULL;
            if (link && block_of_link(link)->mode == to->mode) block_link(m, link, to);
        }
    }
}

enum { CODE_PLACE, LINK_NUMBER };
// The last block whose code begins at this place or before, or whose first link does.
static const CacheBlock *block_with(const Image *i, uint32_t at, int what) {
    const uint32_t *by_code = part(i->body, i->body->by_code);
    size_t n = COUNT_BEFORE(
        i->body->n_blocks, k,
        (what == CODE_PLACE ? i->blocks[by_code[k]].hot : i->blocks[by_code[k]].link) <= at);
    return n ? &i->blocks[by_code[n - 1]] : NULL;
}

static const Image *image_at(const Machine *m, const void *p, bool whole) {
    uint32_t n = m->images ? atomic_load_explicit(&m->images->n, memory_order_acquire) : 0;
    for (uint32_t k = 0; k < n; k++) {
        const Image *i = &m->images->at[k];
        const uint8_t *from = whole ? i->code : i->hot, *at = p;
        if (at >= from && at < i->hot_end) return i;
    }
    return NULL;
}

HostLink *link_taken(Machine *m, const void *exit_link) {
    const Image *i = image_at(m, exit_link, true);
    if (!i) return (HostLink *)(uintptr_t)exit_link;
    uint32_t number = (uint32_t)((const HostFrozenLink *)exit_link - i->links);
    const CacheBlock *c = block_with(i, number, LINK_NUMBER);
    if (!c || c->dead || number - c->link >= c->n_links) return NULL;
    Block *b = block_table_find(m->blocks, i->lo + c->pc, c->mode);
    if (!b) b = make_block(m, i, c);
    return b && block_entry(m, b) == i->code + c->hot ? &block_links(b)[number - c->link] : NULL;
}

bool image_code_at(const Machine *m, uint64_t host_pc, CodeAt *out) {
    const Image *i = image_at(m, (const void *)(uintptr_t)host_pc, false);
    if (!i) return false;
    uint32_t off = (uint32_t)(host_pc - (uintptr_t)i->code);
    const CacheBlock *c = block_with(i, off, CODE_PLACE);
    if (!c || off - c->hot >= c->code_bytes) return false;
    const CacheBody *b = i->body;
    const uint32_t *counts = b->n_counts ? part(b, b->counts) : NULL;
    const HostFault *faults = part(b, b->faults);
    *out = (CodeAt){.pc = i->lo + c->pc,
                    .entry = i->code + c->hot,
                    .faults = faults + c->fault,
                    .fixes = (const HostFix *)(faults + c->fault + c->n_faults),
                    .fixes_end = (const HostFix *)(faults + b->n_faults),
                    .traps_from = i->code,
                    .cold = i->code,
                    .traps = part(b, b->traps),
                    .count_ends =
                        counts ? (const uint16_t *)(counts + b->n_blocks) + counts[c - i->blocks]
                               : NULL,
                    .n_faults = c->n_faults,
                    .n_traps = b->n_traps,
                    .barred = c->dead};
    return true;
}

void images_invalidate(Machine *m, uint64_t lo, uint64_t hi) {
    uint32_t n = m->images ? atomic_load(&m->images->n) : 0;
    for (uint32_t k = 0; k < n; k++) {
        const Image *i = &m->images->at[k];
        const CacheBlock *last = i->blocks + i->body->n_blocks - 1;
        if (!i->body->n_blocks || hi <= i->lo ||
            i->lo + last->pc + last->guest_bytes + UINT16_MAX <= lo)
            continue;
        for (CacheBlock *c = i->blocks; c <= last; c++) {
            if (c->dead || i->lo + c->pc >= hi || i->lo + c->pc + c->guest_bytes <= lo) continue;
            c->dead = true;
            m->host->bar(m->host_ctx, i->code + c->hot);
        }
    }
}

void images_pcs(const Machine *m, void (*fn)(void *ctx, uint64_t pc), void *ctx) {
    uint32_t n = m->images ? atomic_load(&m->images->n) : 0;
    for (uint32_t k = 0; k < n; k++) {
        const Image *i = &m->images->at[k];
        const CacheBlock *c = blocks_of(i->body), *end = c + i->body->n_blocks;
        for (; c < end; c++) fn(ctx, i->lo + c->pc);
    }
}

void images_forget(Machine *m) {
    uint8_t *end = (uint8_t *)ALIGN_DOWN((uintptr_t)m->cache_cold, 4096);
    if (m->images) atomic_store(&m->images->n, 0);
    code_pages(m->hot_end, end);
    m->hot_end = end;
}
