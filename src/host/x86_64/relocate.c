// relocate.c - translations that outlive the process: blocks into an image that runs wherever it is
// mapped or copied to, as it is.
//
// While a block is compiled every place whose bytes depend on where things lie is noted (moves() in
// emit.h). Freezing looks at what is in each of them: a distance to a stub, to a constant of the
// pool, between hot and cold code; or the address of a link, of the block's own code, of a function
// of Dragoman. The image holds hot code, cold code, the constants, and the links, so distances
// between these are made once and for all, and blocks jump to each other. What else there is goes
// through the image's own tables: a jump for each stub, an address for each function, which are all
// that attaching an image to a process has to fill in. Code that had an address in it (mov_address,
// 10 bytes) computes it from its own (lea) or loads it from the table, in as many bytes.
//
// An image: HostImage, links, hot code, cold code, stub jumps, functions, constants. The reader has
// checked a checksum; what attaching relies on is checked all the same. Pure but for the constant
// pool, which is used under the engine's lock.
#include "host/x86_64/x86.h"

#include <stdlib.h>

enum { PHASE = 16 }; // code moves by multiples of this: loops, patches and constants are aligned
enum { MAX_STUBS = 64, MAX_FUNCTIONS = 1024, MAX_CONSTS = 1 << 16 };

// Holds the stub's place, from the start of the code cache, until the image is attached.
typedef union StubJump {
    uint64_t place;
    uint8_t code[8]; // jmp rel32
} StubJump;

// ---- freezing ----

typedef struct Freezer {
    HostCtx *h;
    const HostCompiled *c; // the block at hand
    HostPlace at;          // and where it goes
    HostImage head;
    uint8_t *image;     // of head.consts bytes, and the constants in
    Buf consts;         //
    uint16_t *const_of; // of each in the pool, plus 1
    uint32_t n_consts;
    HostFrozenLink *links; // the block's
    bool failed;
} Freezer;

static bool within(const void *p, const uint8_t *start, uint32_t bytes) {
    return (const uint8_t *)p >= start && (const uint8_t *)p <= start + bytes;
}

// Where each of these lies in the image.
static uint32_t const_place(Freezer *f, const V128 *k) {
    uint16_t *number = &f->const_of[k - x86_pool(f->h)];
    if (!*number) {
        if (f->n_consts == MAX_CONSTS - 1) return f->failed = true, 0;
        buf_add(&f->consts, k, sizeof *k);
        *number = (uint16_t)++f->n_consts;
    }
    return f->head.consts + (*number - 1u) * (uint32_t)sizeof *k;
}

static uint32_t slot_place(Freezer *f, uint32_t table, uint32_t *n, uint32_t most, uint64_t value) {
    uint8_t *at = f->image + table;
    for (uint32_t i = 0; i < *n; i++)
        if (!memcmp(at + 8 * i, &value, 8)) return table + 8 * i;
    if (*n == most) return f->failed = true, 0;
    memcpy(at + 8 * *n, &value, 8);
    return table + 8 * (*n)++;
}

static uint32_t hot_place(const Freezer *f, const void *p) {
    return f->at.hot + (uint32_t)((const uint8_t *)p - f->c->entry);
}
static uint32_t cold_place(const Freezer *f, const void *p) {
    return f->at.cold + (uint32_t)((const uint8_t *)p - f->c->cold);
}

// A distance at `at`, which lies at `place` in the image. Cold code comes first: it may begin where
// hot code ends.
static void freeze_rel32(Freezer *f, const uint8_t *at, uint32_t place, bool in_cold) {
    const HostCompiled *c = f->c;
    int32_t rel;
    memcpy(&rel, f->image + place, sizeof rel);
    const uint8_t *target = at + 4 + rel;
    const V128 *k = NULL;
    uint32_t to = 0;
    if (c->cold_bytes && within(target, c->cold, c->cold_bytes)) {
        if (in_cold) return;
        to = cold_place(f, target);
    } else if (within(target, c->entry, c->code_bytes)) {
        if (!in_cold) return;
        to = hot_place(f, target);
    } else if (target >= f->h->code_base && target < f->h->stubs_end) {
        uint32_t tail = 0; // a byte follows the distance
        while (tail < 2 && (!(k = x86_pool_at(f->h, target + tail)) || (uintptr_t)k & 15)) tail++;
        if (tail < 2)
            to = const_place(f, k) - tail;
        else
            to = slot_place(f, f->head.stubs, &f->head.n_stubs, MAX_STUBS,
                            (uint64_t)(target - f->h->code_base));
    } else {
        f->failed = true;
    }
    to -= place + 4;
    memcpy(f->image + place, &to, sizeof to);
}

// mov r64, imm64 becomes lea r64, [rip + to], or mov r64, [rip + to], and a nop.
static void freeze_address(Freezer *f, uint32_t place) {
    enum { REX_W = 0x48, REX_R = 4, REX_B = 1, MOV_IMM = 0xB8, LEA = 0x8D, MOV = 0x8B };
    const HostCompiled *c = f->c;
    uint8_t *insn = f->image + place - 2;
    uint64_t value;
    memcpy(&value, f->image + place, sizeof value);
    uint64_t link = value - (uintptr_t)c->links;
    const void *p = (const void *)(uintptr_t)value;
    uint32_t to = 0;
    uint8_t op = LEA;
    if (link < c->n_links * sizeof *c->links && link % sizeof *c->links == 0) {
        to = (uint32_t)((uint8_t *)(f->links + link / sizeof *c->links) - f->image);
    } else if (within(p, c->entry, c->code_bytes)) {
        to = hot_place(f, p);
    } else if (value >= f->h->self.lo && value < f->h->self.hi) {
        op = MOV;
        to = slot_place(f, f->head.functions, &f->head.n_functions, MAX_FUNCTIONS,
                        value - f->h->self.base);
    } else {
        f->failed = true;
    }
    f->failed |= (insn[0] & ~REX_B) != REX_W || (insn[1] & ~7) != MOV_IMM;
    uint8_t reg = insn[1] & 7;
    insn[0] = REX_W | (insn[0] & REX_B ? REX_R : 0);
    insn[1] = op;
    insn[2] = (uint8_t)(5 | reg << 3);
    to -= place + 5;
    memcpy(insn + 3, &to, sizeof to);
    memcpy(insn + 7, (const uint8_t[]){0x0F, 0x1F, 0x00}, 3);
}

static void freeze_place(Freezer *f, uint32_t reloc) {
    const HostCompiled *c = f->c;
    const uint8_t *at = f->h->code_base + (reloc & ~X86_RELOC_ADDRESS);
    bool in_cold = c->cold_bytes && within(at, c->cold, c->cold_bytes - 1);
    uint32_t place = in_cold ? cold_place(f, at) : hot_place(f, at);
    if (reloc & X86_RELOC_ADDRESS)
        freeze_address(f, place);
    else
        freeze_rel32(f, at, place, in_cold);
}

// The copy goes to the block that the link leads to, when the image has it.
static void freeze_link(Freezer *f, const HostLink *l, const HostPlace *to, HostFrozenLink *out) {
    const HostCompiled *c = f->c;
    const uint8_t *patch = x86_patch(f->h, l), *unlinked = patch + 4 + l->unlinked;
    bool in_cold = c->cold_bytes && within(patch, c->cold, c->cold_bytes - 1);
    f->failed |= !within(unlinked, c->cold, c->cold_bytes);
    *out = (HostFrozenLink){.target_pc = l->target_pc,
                            .patch = in_cold ? cold_place(f, patch) : hot_place(f, patch),
                            .stub = cold_place(f, unlinked)};
    if (f->failed) return;
    uint8_t *stub = f->image + out->stub;
    enum { HERE = sizeof *l / X86_LINK_UNIT, FROZEN = sizeof *out / X86_LINK_UNIT };
    if (stub[0] == X86_SHORT_STUB) stub[1] = (uint8_t)(stub[1] / HERE * FROZEN);
    uint32_t rel = (to ? to->hot : out->stub) - (out->patch + 4);
    memcpy(f->image + out->patch, &rel, sizeof rel);
    if (l->falls_through) f->image[out->patch - 1] = 0xE9;
    if (l->falls_through && !rel) memcpy(f->image + out->patch - 1, x86_nop5, sizeof x86_nop5);
    if (l->falls_through) out->stub |= HOST_FALLS_THROUGH;
    if (l->calls) out->stub |= HOST_CALL;
}

static uint32_t in_phase(uint32_t at, const uint8_t *was) {
    return at + (((uint32_t)(uintptr_t)was - at) & (PHASE - 1));
}

// Where everything goes. False: one of the blocks cannot be frozen.
static bool lay_out(const HostCompiled *c, uint32_t n, HostImage *head, HostPlace *at) {
    uint64_t hot = 0, cold = 0, links = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (!c[i].cold || !c[i].code_bytes || c[i].code_bytes > UINT16_MAX) return false;
        links += c[i].n_links;
        hot += c[i].code_bytes + PHASE;
        cold += c[i].cold_bytes + PHASE;
    }
    if (hot + cold + links * sizeof(HostFrozenLink) > 1u << 30) return false;
    *head = (HostImage){.n_links = (uint32_t)links, .links = sizeof *head};
    uint32_t end = ALIGN_UP(head->links + (uint32_t)(links * sizeof(HostFrozenLink)), 64u);
    head->hot = end;
    for (uint32_t i = 0; i < n; i++) {
        at[i].hot = in_phase(end, c[i].entry);
        end = at[i].hot + c[i].code_bytes;
    }
    head->hot_end = end;
    for (uint32_t i = 0; i < n; i++) {
        at[i].cold = in_phase(end, c[i].cold);
        end = at[i].cold + c[i].cold_bytes;
    }
    head->stubs = ALIGN_UP(end, 64u);
    head->functions = head->stubs + MAX_STUBS * 8;
    head->consts = head->functions + MAX_FUNCTIONS * 8;
    return true;
}

static void freeze_all(Freezer *f, const HostCompiled *blocks, uint32_t n, const HostPlace *at) {
    HostFrozenLink *link = (HostFrozenLink *)(void *)(f->image + f->head.links);
    memset(f->image + f->head.hot, 0xCC, f->head.stubs - f->head.hot); // nobody comes between
    for (uint32_t i = 0; i < n; i++) {
        const HostCompiled *c = f->c = &blocks[i];
        f->at = at[i];
        f->links = link;
        memcpy(f->image + at[i].hot, c->entry, c->code_bytes);
        memcpy(f->image + at[i].cold, c->cold, c->cold_bytes);
        for (uint32_t k = 0; k < c->n_links; k++, link++)
            freeze_link(f, &c->links[k], c->to[k] < n ? &at[c->to[k]] : NULL, link);
        for (uint32_t k = 0; k < c->n_relocs; k++) freeze_place(f, c->relocs[k]);
    }
}

bool x86_freeze(HostCtx *h, const HostCompiled *blocks, uint32_t n, HostPlace *at, Buf *out) {
    Freezer f = {.h = h};
    if (!lay_out(blocks, n, &f.head, at)) return false;
    f.image = calloc(1, f.head.consts);
    f.const_of = calloc(X86_POOL_ENTRIES, sizeof *f.const_of);
    bool ok = f.image && f.const_of;
    if (ok) {
        freeze_all(&f, blocks, n, at);
        memcpy(f.image, &f.head, sizeof f.head);
        buf_add(out, f.image, f.head.consts);
        buf_add(out, f.consts.data, f.consts.len);
    }
    ok = ok && !f.failed && !f.consts.failed && !out->failed;
    buf_free(&f.consts);
    free(f.const_of);
    free(f.image);
    return ok;
}

// ---- attaching ----

static bool fits(const HostImage *i, uint64_t bytes) {
    return i->links >= sizeof *i && !(i->links & 7) &&
           i->n_links <= bytes / sizeof(HostFrozenLink) &&
           i->links + i->n_links * (uint64_t)sizeof(HostFrozenLink) <= i->hot &&
           i->hot <= i->hot_end && i->hot_end <= i->stubs && i->n_stubs <= MAX_STUBS &&
           !(i->stubs & 7) && i->stubs + MAX_STUBS * 8ull <= i->functions &&
           i->n_functions <= MAX_FUNCTIONS && !(i->functions & 7) &&
           i->functions + MAX_FUNCTIONS * 8ull <= i->consts && i->consts <= bytes;
}

bool x86_attach(HostCtx *h, uint8_t *image, uint64_t bytes) {
    HostImage *head = (HostImage *)(void *)image;
    if (bytes < sizeof *head || !fits(head, bytes)) return false;
    for (uint32_t i = 0; i < head->n_stubs; i++) {
        StubJump *jump = (StubJump *)(void *)(image + head->stubs + 8 * i);
        if (jump->place >= (uint64_t)(h->stubs_end - h->code_base)) return false;
        int32_t rel = (int32_t)(h->code_base + jump->place - (jump->code + 5));
        jump->code[0] = 0xE9;
        memcpy(jump->code + 1, &rel, sizeof rel);
    }
    uint64_t *function = (uint64_t *)(void *)(image + head->functions);
    for (uint32_t i = 0; i < head->n_functions; i++) {
        if (function[i] >= h->self.hi - h->self.base) return false;
        function[i] += h->self.base;
    }
    return true;
}

// One byte, so that a thread that is about to enter the block sees the one or the other.
void x86_bar(HostCtx *h, uint8_t *entry) {
    (void)h;
    __atomic_store_n(entry, 0xCC, __ATOMIC_RELEASE);
}

// ---- identity ----

uint64_t x86_identity(const HostCtx *h) {
    uint64_t id = hash_bytes(&h->cpu, sizeof h->cpu, h->level);
    id = hash_bytes(h->home_of_field, sizeof h->home_of_field, id);
    id = hash_bytes(h->lodging_of_field, sizeof h->lodging_of_field, id);
    return hash_bytes(&h->state_bytes, sizeof h->state_bytes, id);
}
