// fuzz_lift.c - the AArch64 decoder, disassembler and lifter on any instructions. What is lifted
// must pass the verifier, and the x86-64 host must compile it or say that it has not room enough;
// the same block said directly must be of as many instructions, or be left to the lifter.
//
// The first two bytes of an input choose the CPU, the mode, and how many instructions make a block;
// the rest is code.
#include "fuzz.h"

#include "guest/guest.h"
#include "host/host.h"

#include <sys/mman.h>

enum { CODE_BYTES = 1 << 20, HEADER_BYTES = 2, BASE = 0x400000, MAX_INSNS = 64 };

typedef struct Code {
    const uint8_t *at;
    size_t n;
} Code;

static const uint8_t *fetch(void *ctx, uint64_t pc, unsigned bytes) {
    const Code *c = ctx;
    return pc >= BASE && pc - BASE <= c->n && bytes <= c->n - (pc - BASE) ? c->at + (pc - BASE)
                                                                          : NULL;
}

static void compile(HostCtx *ctx, const IrRegion *r, HostCode code) {
    DgmErr err = {""};
    // exactly the room that host.h promises is enough, so that a sanitizer sees what goes beyond
    HostOutput out = {.links = calloc(r->n_exits + !r->n_exits, sizeof *out.links),
                      .faults = calloc(2 * r->n_mem + 1, sizeof *out.faults),
                      .fixes = calloc(2 * r->n_mem + 1, sizeof *out.fixes)};
    require(out.links && out.faults && out.fixes);
    HostError e = host_x86_64.compile(ctx, r, &code, &out, &err);
    require(e == HOST_OK || (e == HOST_UNSUPPORTED && r->n_insns > 1));
    require(code.at <= code.end);
    free(out.links);
    free(out.faults);
    free(out.fixes);
}

typedef struct Saying {
    const Guest *g;
    const GuestLift *how;
    IrRegion *r;
    GuestDirect made;
} Saying;

static void say(void *saying, Direct *d) {
    Saying *s = saying;
    s->g->direct(s->how, s->r, d, &s->made);
}

static void say_directly(HostCtx *ctx, const Guest *g, const GuestLift *how, IrRegion *r,
                         HostCode code) {
    DgmErr err = {""};
    uint32_t n_insns = r->n_insns, size_bytes = r->size_bytes, in_segments = 0;
    HostOutput out = {.links = calloc(HOST_DIRECT_LINKS, sizeof *out.links),
                      .faults = calloc(HOST_DIRECT_FAULTS, sizeof *out.faults),
                      .fixes = calloc(HOST_DIRECT_FAULTS, sizeof *out.fixes),
                      .traps = calloc(HOST_DIRECT_TRAPS, sizeof *out.traps)};
    require(out.links && out.faults && out.fixes && out.traps);
    code.cold = code.at + (code.end - code.at) / 2;
    code.cold_end = code.end;
    code.end = code.cold;
    Saying s = {.g = g, .how = how, .r = r};
    ir_region_reset(r, how->pc);
    HostError e = host_x86_64.direct(ctx, r, &code, &out, say, &s, &err);
    require(e == HOST_OK || e == HOST_UNSUPPORTED);
    require(s.made.n_insns == n_insns && s.made.size_bytes == size_bytes);
    for (uint32_t i = 0; i < s.made.n_segments; i++) in_segments += s.made.segment_insns[i];
    require(in_segments == n_insns);
    free(out.links);
    free(out.faults);
    free(out.fixes);
    free(out.traps);
}

static void make_code(const Guest *g, const GuestLift *how, IrRegion *r, uint8_t *room) {
    DgmErr err = {""};
    HostCode code = {.at = room, .end = room + CODE_BYTES};
    HostCtx *ctx = host_x86_64.create(g->fields, g->n_fields, g->pc_field, g->state_bytes, &g->hot,
                                      NULL, how->count ? HOST_COUNTS : 0, &code, &err);
    require(ctx);
    compile(ctx, r, code);
    say_directly(ctx, g, how, r, code);
    host_x86_64.destroy(ctx);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    if (n < HEADER_BYTES) return 0;
    const Guest *g = guest_by_name("aarch64");
    Code code = {data + HEADER_BYTES, n - HEADER_BYTES};
    unsigned n_cpus = 0;
    while (g->cpus[n_cpus].name) n_cpus++;
    GuestLift how = {.pc = BASE,
                     .mode = data[0] >> 7,
                     .features = g->cpus[data[0] % n_cpus].features,
                     .max_insns = 1 + data[1] % MAX_INSNS,
                     .extend = data[0] >> 6 & 1,
                     .count = data[1] >> 7,
                     .fetch = fetch,
                     .fetch_ctx = &code};
    Arena arena = {0};
    IrRegion *r = calloc(1, sizeof *r);
    uint8_t *room =
        mmap(NULL, CODE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    require(r && room != MAP_FAILED);
    ir_region_init(r, &arena, g->fields, g->n_fields, g->pc_field);
    ir_region_reset(r, BASE);
    r->fp_rules = g->fp_rules;
    g->lift(r, &how);
    DgmErr err = {""};
    bool good = ir_verify(r, &err);
    if (!good) fprintf(stderr, "%s\n", err.text);
    require(good && r->n_insns <= how.max_insns);
    make_code(g, &how, r, room);
    for (size_t at = 0; at + 4 <= code.n; at += 4) {
        Buf text = {0};
        unsigned bytes = g->disassemble(code.at + at, code.n - at, BASE + at, &text);
        require(bytes == 0 || bytes == 4);
        buf_free(&text);
    }
    munmap(room, CODE_BYTES);
    arena_free(&arena);
    free(r);
    return 0;
}
