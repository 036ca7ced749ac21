// relocate.c - translations that outlive the process: a block's code into a form without addresses
// of this process, and back into code somewhere else.
//
// While a block is compiled every place whose bytes depend on where things lie is noted (moves() in
// emit.h). Freezing looks at what is in each of them: a distance to a stub, to a constant of the
// pool, between hot and cold code; or the address of a link, of the block's own code, of a function
// of Dragoman. The frozen form has in that place what the address stands for (an offset, an
// index), so thawing is one copy and one addition a place.
//
// A frozen block: FrozenHead, links, relocations, constants, hot code, cold code. The reader has
// checked a checksum; bounds are checked all the same. Pure but for the constant pool, which both
// use under the engine's lock.
#include "host/x86_64/x86.h"

#include <stdlib.h>

enum { PHASE = 16 }; // code moves by multiples of this: loops, patches and constants are aligned

typedef enum RelocKind {
    R_STUB,     // rel32 to code_base + value
    R_CONST,    // rel32 to constant value >> 1, one less when bit 0 is set (a byte follows)
    R_TO_HOT,   // rel32 to the hot code + value
    R_TO_COLD,  // rel32 to the cold code + value
    R_LINK,     // address of link number value
    R_HOT,      // address of the hot code + value
    R_DRAGOMAN, // address of something in Dragoman itself
} RelocKind;

typedef struct FrozenHead {
    uint32_t hot_bytes, cold_bytes;
    uint16_t n_links, n_relocs, n_consts;
    uint8_t hot_phase, cold_phase;
} FrozenHead;

typedef struct FrozenLink {
    uint64_t target_pc;
    uint32_t patch;    // from the hot code's start; in_cold: from the cold code's
    uint32_t unlinked; // from the cold code's start
    uint32_t falls_through, in_cold;
} FrozenLink;

enum { RELOC_KIND_SHIFT = 28, RELOC_COLD = 1 << 27, RELOC_OFFSET = RELOC_COLD - 1 };

// ---- freezing ----

typedef struct Freezer {
    HostCtx *h;
    const HostCompiled *c;
    uint8_t *hot, *cold; // copies
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
    return f->n_consts++;
}

// What a distance at `at` leads to. Cold code comes first: it may begin where hot code ends.
static int classify_rel32(Freezer *f, const uint8_t *at, bool in_cold, int32_t *value) {
    const HostCompiled *c = f->c;
    const uint8_t *target = at + 4 + *value;
    const V128 *k;
    if (c->cold_bytes && within(target, c->cold, c->cold_bytes)) {
        if (in_cold) return -1;
        return *value = (int32_t)(target - c->cold), R_TO_COLD;
    }
    if (within(target, c->entry, c->code_bytes)) {
        if (!in_cold) return -1;
        return *value = (int32_t)(target - c->entry), R_TO_HOT;
    }
    for (int tail = 0; tail < 2; tail++)
        if ((k = x86_pool_at(f->h, target + tail)) && !((uintptr_t)k & 15))
            return *value = (int32_t)(add_const(f, k) << 1) | tail, R_CONST;
    if (target >= f->h->code_base && target < f->h->stubs_end)
        return *value = (int32_t)(target - f->h->code_base), R_STUB;
    f->failed = true;
    return -1;
}

static int classify_address(Freezer *f, uint64_t *value) {
    const HostCompiled *c = f->c;
    const uint8_t *p = (const uint8_t *)(uintptr_t)*value;
    uint64_t link = *value - (uintptr_t)c->links;
    if (link < c->n_links * sizeof *c->links && link % sizeof *c->links == 0)
        return *value = link / sizeof *c->links, R_LINK;
    if (within(p, c->entry, c->code_bytes)) return *value = (uint64_t)(p - c->entry), R_HOT;
    if (*value >= f->h->self.lo && *value < f->h->self.hi)
        return *value -= f->h->self.base, R_DRAGOMAN;
    f->failed = true;
    return -1;
}

static void freeze_place(Freezer *f, uint32_t reloc) {
    const HostCompiled *c = f->c;
    const uint8_t *at = f->h->code_base + (reloc & ~X86_RELOC_ADDRESS);
    bool in_cold = c->cold_bytes && within(at, c->cold, c->cold_bytes - 1);
    uint32_t off = (uint32_t)(at - (in_cold ? c->cold : c->entry));
    uint8_t *copy = (in_cold ? f->cold : f->hot) + off;
    int kind;
    if (reloc & X86_RELOC_ADDRESS) {
        uint64_t value;
        memcpy(&value, copy, sizeof value);
        kind = classify_address(f, &value);
        memcpy(copy, &value, sizeof value);
    } else {
        int32_t value;
        memcpy(&value, copy, sizeof value);
        kind = classify_rel32(f, at, in_cold, &value);
        if (kind >= 0) memcpy(copy, &value, sizeof value);
    }
    if (kind < 0) return;
    uint32_t r = (uint32_t)kind << RELOC_KIND_SHIFT | (in_cold ? RELOC_COLD : 0) | off;
    buf_add(&f->relocs, &r, sizeof r);
}

// The copy of the hot code goes where it went before it was linked.
static void freeze_link(Freezer *f, const HostLink *l, FrozenLink *out) {
    const HostCompiled *c = f->c;
    bool in_cold = within(l->patch, c->cold, c->cold_bytes);
    uint32_t patch = (uint32_t)(l->patch - (in_cold ? c->cold : c->entry));
    memcpy((in_cold ? f->cold : f->hot) + patch, &l->unlinked, 4);
    if (l->falls_through) f->hot[patch - 1] = 0xE9;
    *out = (FrozenLink){.target_pc = l->target_pc,
                        .patch = patch,
                        .unlinked = (uint32_t)(l->patch + 4 + l->unlinked - c->cold),
                        .falls_through = l->falls_through,
                        .in_cold = in_cold};
}

bool x86_freeze(HostCtx *h, const HostCompiled *c, Buf *out) {
    Freezer f = {.h = h, .c = c};
    if (!c->cold || c->n_links > UINT16_MAX || c->n_relocs > UINT16_MAX) return false;
    size_t link_bytes = c->n_links * sizeof(FrozenLink);
    uint8_t *work = malloc(c->code_bytes + c->cold_bytes + 1 + link_bytes);
    if (!work) return false;
    FrozenLink *links = (FrozenLink *)(void *)work;
    f.hot = work + link_bytes;
    f.cold = f.hot + c->code_bytes;
    memcpy(f.hot, c->entry, c->code_bytes);
    memcpy(f.cold, c->cold, c->cold_bytes);
    for (uint32_t i = 0; i < c->n_links; i++) freeze_link(&f, &c->links[i], &links[i]);
    for (uint32_t i = 0; i < c->n_relocs; i++) freeze_place(&f, c->relocs[i]);
    FrozenHead head = {.hot_bytes = c->code_bytes,
                       .cold_bytes = c->cold_bytes,
                       .n_links = (uint16_t)c->n_links,
                       .n_relocs = (uint16_t)(f.relocs.len / 4),
                       .n_consts = (uint16_t)f.n_consts,
                       .hot_phase = (uintptr_t)c->entry % PHASE,
                       .cold_phase = (uintptr_t)c->cold % PHASE};
    buf_add(out, &head, sizeof head);
    buf_add(out, links, link_bytes);
    buf_add(out, f.consts.data, f.consts.len);
    buf_add(out, f.relocs.data, f.relocs.len);
    buf_add(out, f.hot, c->code_bytes + c->cold_bytes);
    bool ok = !f.failed && !f.relocs.failed && !f.consts.failed && !out->failed;
    buf_free(&f.relocs);
    buf_free(&f.consts);
    free(work);
    return ok;
}

// ---- thawing ----

typedef struct Thaw {
    HostCtx *h;
    uint8_t *hot, *cold;
    HostLink *links;
    const V128 *consts;
    uint32_t hot_bytes, cold_bytes, n_links, n_consts;
} Thaw;

static bool thaw_place(const Thaw *t, uint32_t reloc) {
    uint32_t off = reloc & RELOC_OFFSET, bytes = reloc & RELOC_COLD ? t->cold_bytes : t->hot_bytes;
    RelocKind kind = reloc >> RELOC_KIND_SHIFT;
    if (off + (kind >= R_LINK ? 8 : 4) > bytes) return false;
    uint8_t *at = (reloc & RELOC_COLD ? t->cold : t->hot) + off;
    if (kind >= R_LINK) {
        uint64_t value;
        memcpy(&value, at, sizeof value);
        switch (kind) {
        case R_LINK:
            if (value >= t->n_links) return false;
            value = (uintptr_t)&t->links[value];
            break;
        case R_HOT: value += (uintptr_t)t->hot; break;
        case R_DRAGOMAN: value += t->h->self.base; break;
        default: return false;
        }
        memcpy(at, &value, sizeof value);
        return true;
    }
    int32_t value;
    memcpy(&value, at, sizeof value);
    const uint8_t *target;
    switch (kind) {
    case R_STUB: target = t->h->code_base + value; break;
    case R_TO_HOT: target = t->hot + value; break;
    case R_TO_COLD: target = t->cold + value; break;
    default: {
        if ((uint32_t)value >> 1 >= t->n_consts) return false;
        V128 c;
        memcpy(&c, &t->consts[value >> 1], sizeof c);
        const V128 *k = x86_pool_get(t->h, c.d[0], c.d[1]);
        if (!k) return false;
        target = (const uint8_t *)k - (value & 1);
    }
    }
    value = (int32_t)(target - (at + 4));
    memcpy(at, &value, sizeof value);
    return true;
}

static uint8_t *in_phase(uint8_t *at, unsigned phase) {
    return at + ((phase - (uintptr_t)at) & (PHASE - 1));
}

HostError x86_thaw(HostCtx *h, const uint8_t *frozen, size_t bytes, HostCode *room,
                   HostOutput *out) {
    FrozenHead head;
    if (bytes < sizeof head) return HOST_UNSUPPORTED;
    memcpy(&head, frozen, sizeof head);
    const uint8_t *links = frozen + sizeof head,
                  *consts = links + head.n_links * sizeof(FrozenLink),
                  *relocs = consts + head.n_consts * sizeof(V128),
                  *code = relocs + head.n_relocs * 4u;
    if ((size_t)(code - frozen) + head.hot_bytes + head.cold_bytes != bytes ||
        head.n_links != out->n_links || head.hot_bytes < 4 || head.hot_bytes > UINT16_MAX)
        return HOST_UNSUPPORTED;
    Thaw t = {.h = h,
              .hot = in_phase(room->at, head.hot_phase),
              .cold = in_phase(room->cold, head.cold_phase),
              .links = out->links,
              .consts = (const V128 *)(const void *)consts,
              .hot_bytes = head.hot_bytes,
              .cold_bytes = head.cold_bytes,
              .n_links = head.n_links,
              .n_consts = head.n_consts};
    if (t.hot + head.hot_bytes > room->end || t.cold + head.cold_bytes > room->cold_end)
        return HOST_NO_ROOM;
    memset(room->at, 0xCC, (size_t)(t.hot - room->at)); // int3: nobody comes here
    memcpy(t.hot, code, head.hot_bytes);
    memcpy(t.cold, code + head.hot_bytes, head.cold_bytes);
    for (uint32_t i = 0; i < head.n_links; i++) {
        FrozenLink l;
        memcpy(&l, links + i * sizeof l, sizeof l);
        uint32_t room_bytes = l.in_cold ? head.cold_bytes : head.hot_bytes;
        uint8_t *patch = (l.in_cold ? t.cold : t.hot) + l.patch;
        if (!l.patch || room_bytes < 4 || l.patch > room_bytes - 4 || l.unlinked >= head.cold_bytes)
            return HOST_UNSUPPORTED;
        out->links[i] = (HostLink){.target_pc = l.target_pc,
                                   .patch = patch,
                                   .unlinked = (int32_t)(t.cold + l.unlinked - (patch + 4)),
                                   .falls_through = l.falls_through};
    }
    for (uint32_t i = 0; i < head.n_relocs; i++) {
        uint32_t r;
        memcpy(&r, relocs + i * sizeof r, sizeof r);
        if (!thaw_place(&t, r)) return HOST_UNSUPPORTED;
    }
    out->entry = t.hot;
    out->code_bytes = head.hot_bytes;
    out->cold = t.cold;
    out->cold_bytes = head.cold_bytes;
    room->at = t.hot + head.hot_bytes;
    room->cold = t.cold + head.cold_bytes;
    return HOST_OK;
}

// ---- identity ----

uint64_t x86_identity(const HostCtx *h) {
    uint64_t id = hash_bytes(&h->cpu, sizeof h->cpu, h->level);
    id = hash_bytes(h->home_of_field, sizeof h->home_of_field, id);
    return hash_bytes(&h->state_bytes, sizeof h->state_bytes, id);
}
