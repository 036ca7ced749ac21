// relocate.c - translations that outlive the process: a group of blocks into a form without
// addresses of this process, and back into code somewhere else.
//
// While a block is compiled every place whose bytes depend on where things lie is noted (moves() in
// emit.h). Freezing looks at what is in each of them: a distance to a stub, to a constant of the
// pool, between hot and cold code; or the address of a link, of the block's own code, of a function
// of Dragoman. The blocks of a group are packed one behind the other, hot and cold code apart, and
// jump to each other already. What is left to do is sorted by kind, and the frozen form holds what
// is right when everything lies at address 0: thawing is two copies and, for nearly every place,
// the addition of a number that is the same for all of its kind.
//
// A frozen group: FrozenHead, blocks, links, constants, relocations, hot code, cold code. The
// reader has checked a checksum; bounds are checked all the same. Pure but for the constant pool,
// which both use under the engine's lock.
#include "host/x86_64/x86.h"

#include <stdlib.h>

enum { PHASE = 16 }; // code moves by multiples of this: loops, patches and constants are aligned
enum { MAX_CONSTS = 1024 };

typedef enum RelocKind {
    R_STUB,     // rel32 to the start of the code cache + value
    R_CONST,    // rel32 to constant value >> 1, one less when bit 0 is set (a byte follows)
    R_TO_HOT,   // rel32 to the hot code + value
    R_TO_COLD,  // rel32 to the cold code + value
    R_LINK,     // address of link value & 0xffff of block value >> 16
    R_HOT,      // address of the hot code + value
    R_DRAGOMAN, // address of something in Dragoman itself
} RelocKind;

typedef struct FrozenHead {
    uint32_t hot_bytes, cold_bytes;
    uint32_t n_blocks, n_links, n_relocs, n_consts;
} FrozenHead;

typedef struct FrozenBlock {
    uint32_t hot, cold; // from the start of all hot and of all cold code
    uint32_t hot_bytes, cold_bytes;
} FrozenBlock;

typedef struct FrozenLink {
    uint64_t target_pc;
    uint32_t unlinked; // from the block's cold code
    uint16_t patch;    // from the block's hot code; LINK_COLD: from its cold code
    uint16_t flags;    // and, from LINK_TO_SHIFT on: the block that a cold link leads to, plus 1
} FrozenLink;
enum { LINK_FALLS_THROUGH = 1, LINK_COLD = 2, LINK_TO_SHIFT = 2 };

enum { RELOC_KIND_SHIFT = 28, RELOC_COLD = 1 << 27, RELOC_OFFSET = RELOC_COLD - 1 };

// ---- freezing ----

typedef struct Freezer {
    HostCtx *h;
    const HostCompiled *c; // the block at hand
    uint32_t number;       // of it
    FrozenBlock at;        // and its place
    uint8_t *hot, *cold;   // all of the group
    Buf relocs, consts;
    uint32_t n_consts;
    bool failed;
} Freezer;

static bool within(const void *p, const uint8_t *start, uint32_t bytes) {
    return (const uint8_t *)p >= start && (const uint8_t *)p <= start + bytes;
}

static uint32_t add_const(Freezer *f, const V128 *k) {
    const V128 *all = (const V128 *)(const void *)f->consts.data;
    for (uint32_t i = 0; i < f->n_consts; i++)
        if (!memcmp(&all[i], k, sizeof *k)) return i;
    buf_add(&f->consts, k, sizeof *k);
    if (f->n_consts == MAX_CONSTS - 1) f->failed = true;
    return f->n_consts++;
}

// What a distance at `at`, which lies at `off` of all hot or cold code, leads to; *value becomes
// what the frozen form holds. Cold code comes first: it may begin where hot code ends.
static int classify_rel32(Freezer *f, const uint8_t *at, uint32_t off, bool in_cold,
                          uint32_t *value) {
    const HostCompiled *c = f->c;
    const uint8_t *target = at + 4 + (int32_t)*value;
    uint32_t from = off + 4;
    const V128 *k;
    if (c->cold_bytes && within(target, c->cold, c->cold_bytes)) {
        if (in_cold) return -1;
        return *value = f->at.cold + (uint32_t)(target - c->cold) - from, R_TO_COLD;
    }
    if (within(target, c->entry, c->code_bytes)) {
        if (!in_cold) return -1;
        return *value = f->at.hot + (uint32_t)(target - c->entry) - from, R_TO_HOT;
    }
    for (uint32_t tail = 0; tail < 2; tail++)
        if ((k = x86_pool_at(f->h, target + tail)) && !((uintptr_t)k & 15))
            return *value = add_const(f, k) << 1 | tail, R_CONST;
    if (target >= f->h->code_base && target < f->h->stubs_end)
        return *value = (uint32_t)(target - f->h->code_base) - from, R_STUB;
    f->failed = true;
    return -1;
}

static int classify_address(Freezer *f, uint64_t *value) {
    const HostCompiled *c = f->c;
    const uint8_t *p = (const uint8_t *)(uintptr_t)*value;
    uint64_t link = *value - (uintptr_t)c->links;
    if (link < c->n_links * sizeof *c->links && link % sizeof *c->links == 0)
        return *value = (uint64_t)f->number << 16 | link / sizeof *c->links, R_LINK;
    if (within(p, c->entry, c->code_bytes))
        return *value = f->at.hot + (uint64_t)(p - c->entry), R_HOT;
    if (*value >= f->h->self.lo && *value < f->h->self.hi)
        return *value -= f->h->self.base, R_DRAGOMAN;
    f->failed = true;
    return -1;
}

// Is this place of the block's hot code the jump of a link that stays within the group?
static bool is_linked(const HostCompiled *c, uint32_t off) {
    for (uint32_t i = 0; i < c->n_links; i++)
        if (c->to[i] < HOST_OUTSIDE && (uint32_t)(c->links[i].patch - c->entry) == off) return true;
    return false;
}

static void freeze_place(Freezer *f, uint32_t reloc) {
    const HostCompiled *c = f->c;
    const uint8_t *at = f->h->code_base + (reloc & ~X86_RELOC_ADDRESS);
    bool in_cold = c->cold_bytes && within(at, c->cold, c->cold_bytes - 1);
    uint32_t own = (uint32_t)(at - (in_cold ? c->cold : c->entry));
    uint32_t off = own + (in_cold ? f->at.cold : f->at.hot);
    uint8_t *copy = (in_cold ? f->cold : f->hot) + off;
    int kind;
    if (reloc & X86_RELOC_ADDRESS) {
        uint64_t value;
        memcpy(&value, copy, sizeof value);
        kind = classify_address(f, &value);
        memcpy(copy, &value, sizeof value);
    } else {
        uint32_t value;
        if (!in_cold && is_linked(c, own)) return;
        memcpy(&value, copy, sizeof value);
        kind = classify_rel32(f, at, off, in_cold, &value);
        if (kind >= 0) memcpy(copy, &value, sizeof value);
    }
    if (kind < 0) return;
    uint32_t r = (uint32_t)kind << RELOC_KIND_SHIFT | (in_cold ? RELOC_COLD : 0) | off;
    buf_add(&f->relocs, &r, sizeof r);
}

// The copy of the hot code goes where it went before it was linked; within the group, on to `to`.
static void freeze_link(Freezer *f, const HostLink *l, const FrozenBlock *to, FrozenLink *out) {
    const HostCompiled *c = f->c;
    uint32_t patch = (uint32_t)(l->patch - c->entry), at = f->at.hot + patch;
    uint32_t rel = to ? to->hot - (at + 4) : (uint32_t)l->unlinked;
    memcpy(f->hot + at, &rel, 4);
    if (l->falls_through) f->hot[at - 1] = 0xE9;
    if (l->falls_through && !rel) memcpy(f->hot + at - 1, x86_nop5, 5);
    *out = (FrozenLink){.target_pc = l->target_pc,
                        .unlinked = (uint32_t)(l->patch + 4 + l->unlinked - c->cold),
                        .patch = (uint16_t)patch,
                        .flags = l->falls_through ? LINK_FALLS_THROUGH : 0};
}

// A link in cold code is not frozen linked: how far hot code is from there is not known yet.
static void freeze_cold_link(Freezer *f, const HostLink *l, uint16_t to, FrozenLink *out) {
    const HostCompiled *c = f->c;
    uint32_t patch = (uint32_t)(l->patch - c->cold);
    memcpy(f->cold + f->at.cold + patch, &l->unlinked, 4);
    unsigned block = to < HOST_OUTSIDE ? to + 1u : 0;
    f->failed |= patch > UINT16_MAX;
    *out = (FrozenLink){.target_pc = l->target_pc,
                        .unlinked = (uint32_t)(l->patch + 4 + l->unlinked - c->cold),
                        .patch = (uint16_t)patch,
                        .flags = (uint16_t)(LINK_COLD | block << LINK_TO_SHIFT)};
}

static uint32_t in_phase(uint32_t at, const uint8_t *was) {
    return at + (((uint32_t)(uintptr_t)was - at) & (PHASE - 1));
}

// Where the blocks go. False: one of them cannot be frozen.
static bool lay_out(const HostCompiled *c, uint32_t n, FrozenHead *head, FrozenBlock *at) {
    *head = (FrozenHead){.n_blocks = n};
    for (uint32_t i = 0; i < n; i++, c++) {
        if (!c->cold || c->code_bytes > UINT16_MAX || c->n_links >= UINT16_MAX) return false;
        at[i] = (FrozenBlock){.hot = in_phase(head->hot_bytes, c->entry),
                              .cold = in_phase(head->cold_bytes, c->cold),
                              .hot_bytes = c->code_bytes,
                              .cold_bytes = c->cold_bytes};
        head->hot_bytes = at[i].hot + c->code_bytes;
        head->cold_bytes = at[i].cold + c->cold_bytes;
        head->n_links += c->n_links;
    }
    return head->hot_bytes < RELOC_COLD && head->cold_bytes < RELOC_COLD;
}

static int by_kind(const void *a, const void *b) {
    uint32_t x, y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return (x > y) - (x < y);
}

static void freeze_all(Freezer *f, const HostCompiled *blocks, uint32_t n, const FrozenBlock *at,
                       FrozenLink *links) {
    for (uint32_t i = 0; i < n; i++) {
        const HostCompiled *c = f->c = &blocks[i];
        f->number = i;
        f->at = at[i];
        memcpy(f->hot + at[i].hot, c->entry, c->code_bytes);
        memcpy(f->cold + at[i].cold, c->cold, c->cold_bytes);
        for (uint32_t k = 0; k < c->n_links; k++, links++)
            if (within(c->links[k].patch, c->cold, c->cold_bytes))
                freeze_cold_link(f, &c->links[k], c->to[k], links);
            else
                freeze_link(f, &c->links[k], c->to[k] < HOST_OUTSIDE ? &at[c->to[k]] : NULL, links);
        for (uint32_t k = 0; k < c->n_relocs; k++) freeze_place(f, c->relocs[k]);
    }
    if (f->relocs.len) qsort(f->relocs.data, f->relocs.len / 4, 4, by_kind);
}

bool x86_freeze(HostCtx *h, const HostCompiled *blocks, uint32_t n, Buf *out) {
    FrozenHead head;
    FrozenBlock *at = malloc(n * sizeof *at);
    if (!at || !lay_out(blocks, n, &head, at)) {
        free(at);
        return false;
    }
    Freezer f = {.h = h};
    size_t link_bytes = head.n_links * sizeof(FrozenLink);
    uint8_t *work = malloc(link_bytes + head.hot_bytes + head.cold_bytes + 1);
    if (work) {
        f.hot = work + link_bytes;
        f.cold = f.hot + head.hot_bytes;
        memset(f.hot, 0xCC, head.hot_bytes + head.cold_bytes); // int3: nobody comes here
        freeze_all(&f, blocks, n, at, (FrozenLink *)(void *)work);
        head.n_relocs = (uint32_t)(f.relocs.len / 4);
        head.n_consts = f.n_consts;
        buf_add(out, &head, sizeof head);
        buf_add(out, at, n * sizeof *at);
        buf_add(out, work, link_bytes);
        buf_add(out, f.consts.data, f.consts.len);
        buf_add(out, f.relocs.data, f.relocs.len);
        buf_add(out, f.hot, head.hot_bytes + head.cold_bytes);
    }
    bool ok = work && !f.failed && !f.relocs.failed && !f.consts.failed && !out->failed;
    buf_free(&f.relocs);
    buf_free(&f.consts);
    free(work);
    free(at);
    return ok;
}

// ---- thawing ----

typedef struct Thaw {
    HostCtx *h;
    FrozenHead head;
    const uint8_t *blocks, *links, *consts, *relocs, *code; // of the frozen form
    uint8_t *hot, *cold;
    HostThawed *out;
    const uint8_t *const_at[MAX_CONSTS];
} Thaw;

static bool thaw_rel32(uint8_t *code, uint32_t bytes, const uint32_t *reloc, uint32_t n,
                       uint32_t add) {
    for (uint32_t i = 0; i < n; i++) {
        uint32_t off = reloc[i] & RELOC_OFFSET, value;
        if (off + 4 > bytes) return false;
        memcpy(&value, code + off, sizeof value);
        value += add;
        memcpy(code + off, &value, sizeof value);
    }
    return true;
}

static bool thaw_consts(const Thaw *t, uint8_t *code, uint32_t bytes, const uint32_t *reloc,
                        uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        uint32_t off = reloc[i] & RELOC_OFFSET, value;
        if (off + 4 > bytes) return false;
        uint8_t *at = code + off;
        memcpy(&value, at, sizeof value);
        if (value >> 1 >= t->head.n_consts) return false;
        value = (uint32_t)(t->const_at[value >> 1] - (value & 1) - (at + 4));
        memcpy(at, &value, sizeof value);
    }
    return true;
}

static bool thaw_address(const Thaw *t, RelocKind kind, uint8_t *code, uint32_t bytes,
                         const uint32_t *reloc, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        uint32_t off = reloc[i] & RELOC_OFFSET;
        uint64_t value;
        if (off + 8 > bytes) return false;
        memcpy(&value, code + off, sizeof value);
        if (kind == R_LINK) {
            uint64_t block = value >> 16, link = value & 0xffff;
            if (block >= t->head.n_blocks || link >= t->out[block].n_links) return false;
            value = (uintptr_t)&t->out[block].links[link];
        } else {
            value += kind == R_HOT ? (uintptr_t)t->hot : t->h->self.base;
        }
        memcpy(code + off, &value, sizeof value);
    }
    return true;
}

// n relocations of one kind in one of the two pieces of code.
static bool thaw_run(const Thaw *t, const uint32_t *reloc, uint32_t n) {
    RelocKind kind = *reloc >> RELOC_KIND_SHIFT;
    bool in_cold = *reloc & RELOC_COLD;
    uint8_t *code = in_cold ? t->cold : t->hot;
    uint32_t bytes = in_cold ? t->head.cold_bytes : t->head.hot_bytes;
    switch (kind) {
    case R_STUB: return thaw_rel32(code, bytes, reloc, n, (uint32_t)(t->h->code_base - code));
    case R_TO_HOT: return thaw_rel32(code, bytes, reloc, n, (uint32_t)(t->hot - code));
    case R_TO_COLD: return thaw_rel32(code, bytes, reloc, n, (uint32_t)(t->cold - code));
    case R_CONST: return thaw_consts(t, code, bytes, reloc, n);
    case R_LINK:
    case R_HOT:
    case R_DRAGOMAN: return thaw_address(t, kind, code, bytes, reloc, n);
    }
    return false;
}

static bool thaw_relocs(Thaw *t) {
    for (uint32_t i = 0; i < t->head.n_consts; i++) {
        V128 c;
        memcpy(&c, t->consts + i * sizeof c, sizeof c);
        t->const_at[i] = (const uint8_t *)x86_pool_get(t->h, c.d[0], c.d[1]);
        if (!t->const_at[i]) return false;
    }
    const uint32_t *all = (const uint32_t *)(const void *)t->relocs;
    for (uint32_t i = 0, end; i < t->head.n_relocs; i = end) {
        for (end = i + 1; end < t->head.n_relocs; end++)
            if ((all[end] ^ all[i]) & ~(uint32_t)RELOC_OFFSET) break;
        if (!thaw_run(t, all + i, end - i)) return false;
    }
    return true;
}

static bool link_cold(const Thaw *t, uint8_t *patch, unsigned block) {
    FrozenBlock to;
    if (block > t->head.n_blocks) return false;
    memcpy(&to, t->blocks + (block - 1) * sizeof to, sizeof to);
    int32_t rel = (int32_t)(t->hot + to.hot - (patch + 4));
    memcpy(patch, &rel, sizeof rel);
    return to.hot < t->head.hot_bytes;
}

// Blocks follow each other, for the engine finds them by their place.
static bool thaw_blocks(const Thaw *t) {
    const uint8_t *link = t->links;
    uint32_t hot_end = 0, n_links = 0;
    for (uint32_t i = 0; i < t->head.n_blocks; i++) {
        HostThawed *out = &t->out[i];
        FrozenBlock b;
        memcpy(&b, t->blocks + i * sizeof b, sizeof b);
        if (b.hot < hot_end || b.hot_bytes < 5 || b.hot_bytes > UINT16_MAX ||
            (uint64_t)b.hot + b.hot_bytes > t->head.hot_bytes ||
            (uint64_t)b.cold + b.cold_bytes > t->head.cold_bytes ||
            out->n_links > t->head.n_links - n_links)
            return false;
        hot_end = b.hot + b.hot_bytes;
        n_links += out->n_links;
        out->entry = t->hot + b.hot;
        out->code_bytes = b.hot_bytes;
        out->cold = t->cold + b.cold;
        out->cold_bytes = b.cold_bytes;
        for (uint32_t k = 0; k < out->n_links; k++, link += sizeof(FrozenLink)) {
            FrozenLink l;
            memcpy(&l, link, sizeof l);
            bool cold = l.flags & LINK_COLD;
            uint32_t room = cold ? b.cold_bytes : b.hot_bytes;
            if (!l.patch || room < 4 || l.patch > room - 4 || l.unlinked >= b.cold_bytes)
                return false;
            uint8_t *patch = (cold ? t->cold + b.cold : t->hot + b.hot) + l.patch;
            unsigned to = l.flags >> LINK_TO_SHIFT;
            if (cold && to && !link_cold(t, patch, to)) return false;
            out->links[k] =
                (HostLink){.target_pc = l.target_pc,
                           .patch = patch,
                           .unlinked = (int32_t)(t->cold + b.cold + l.unlinked - (patch + 4)),
                           .index = (uint16_t)k,
                           .falls_through = l.flags & LINK_FALLS_THROUGH};
        }
    }
    return n_links == t->head.n_links;
}

// Finds the parts of what is frozen. False: they are not of this size.
static bool take_apart(Thaw *t, const uint8_t *frozen, size_t bytes, uint32_t n) {
    FrozenHead *h = &t->head;
    if (bytes < sizeof *h) return false;
    memcpy(h, frozen, sizeof *h);
    if (h->n_blocks != n || h->n_consts > MAX_CONSTS || h->hot_bytes >= RELOC_COLD ||
        h->cold_bytes >= RELOC_COLD)
        return false;
    uint64_t links = sizeof *h + (uint64_t)n * sizeof(FrozenBlock),
             consts = links + (uint64_t)h->n_links * sizeof(FrozenLink),
             relocs = consts + (uint64_t)h->n_consts * sizeof(V128),
             code = relocs + (uint64_t)h->n_relocs * 4;
    if (code + h->hot_bytes + h->cold_bytes != bytes) return false;
    t->blocks = frozen + sizeof *h;
    t->links = frozen + links;
    t->consts = frozen + consts;
    t->relocs = frozen + relocs;
    t->code = frozen + code;
    return true;
}

HostError x86_thaw(HostCtx *h, const uint8_t *frozen, size_t bytes, HostCode *room, HostThawed *out,
                   uint32_t n) {
    Thaw t;
    t.h = h;
    t.out = out;
    if (!take_apart(&t, frozen, bytes, n)) return HOST_UNSUPPORTED;
    t.hot = (uint8_t *)ALIGN_UP((uintptr_t)room->at, PHASE);
    t.cold = (uint8_t *)ALIGN_UP((uintptr_t)room->cold, PHASE);
    if (t.hot + t.head.hot_bytes > room->end || t.cold + t.head.cold_bytes > room->cold_end)
        return HOST_NO_ROOM;
    memset(room->at, 0xCC, (size_t)(t.hot - room->at));
    memcpy(t.hot, t.code, t.head.hot_bytes);
    memcpy(t.cold, t.code + t.head.hot_bytes, t.head.cold_bytes);
    if (!thaw_blocks(&t) || !thaw_relocs(&t)) return HOST_UNSUPPORTED;
    room->at = t.hot + t.head.hot_bytes;
    room->cold = t.cold + t.head.cold_bytes;
    return HOST_OK;
}

// ---- identity ----

uint64_t x86_identity(const HostCtx *h) {
    uint64_t id = hash_bytes(&h->cpu, sizeof h->cpu, h->level);
    id = hash_bytes(h->home_of_field, sizeof h->home_of_field, id);
    return hash_bytes(&h->state_bytes, sizeof h->state_bytes, id);
}
