// translate.c - make bench-translate: what it costs to make host code of a program's guest code,
// apart from all else: translate FILE [TURNS]. The largest code section of FILE (AArch64 ELF) is
// swept block by block, each beginning where the one before it ends, once said directly and once by
// the IR, TURNS times each. The unit is a third of a multiplication that waits for the one before
// it, which is a cycle on most hosts: it is the same whatever the clock does meanwhile.
#include "engine/engine.h"
#include "guest/guest.h"
#include "host/host.h"

#include <elf.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { ROOM_BYTES = 64 << 20, MOST_CODE = 4 << 20, MOST_LINKS = 1024, MOST_FAULTS = 4096 };

typedef struct Code {
    const uint8_t *at;
    uint64_t pc;
    size_t bytes;
} Code;

typedef struct Bench {
    const Guest *g;
    HostCtx *ctx;
    IrRegion *r;
    HostCode room;
    HostLink links[MOST_LINKS];
    HostFault faults[MOST_FAULTS];
    HostFix fixes[MOST_FAULTS];
    HostTrap traps[MOST_FAULTS];
    Code code;
    GuestLift how;
    GuestDirect made;
} Bench;

static void die(const char *what) {
    fprintf(stderr, "bench-translate: %s\n", what);
    exit(1);
}

static const uint8_t *fetch(void *bench, uint64_t pc, unsigned bytes) {
    const Code *c = &((const Bench *)bench)->code;
    return pc - c->pc <= c->bytes && bytes <= c->bytes - (pc - c->pc) ? c->at + (pc - c->pc) : NULL;
}

// The largest section with instructions, or the first MOST_CODE bytes of it.
static Code code_of(const char *path) {
    struct stat st;
    int fd = open(path, O_RDONLY);
    if (fd < 0 || fstat(fd, &st) || st.st_size < (off_t)sizeof(Elf64_Ehdr)) die("no such ELF file");
    size_t size = (size_t)st.st_size;
    const uint8_t *file = mmap(NULL, size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
    close(fd);
    if (file == MAP_FAILED) die("out of memory");
    const Elf64_Ehdr *e = (const void *)file;
    if (memcmp(e->e_ident, ELFMAG, SELFMAG) || e->e_machine != EM_AARCH64 || e->e_shoff & 7 ||
        e->e_shoff > size || e->e_shnum * sizeof(Elf64_Shdr) > size - e->e_shoff)
        die("this is no AArch64 ELF file with sections");
    Code best = {0};
    const Elf64_Shdr *s = (const void *)(file + e->e_shoff);
    for (unsigned i = 0; i < e->e_shnum; i++) {
        bool code = s[i].sh_type == SHT_PROGBITS && s[i].sh_flags & SHF_EXECINSTR &&
                    s[i].sh_offset <= size && s[i].sh_size <= size - s[i].sh_offset;
        if (code && s[i].sh_size > best.bytes)
            best = (Code){file + s[i].sh_offset, s[i].sh_addr, s[i].sh_size};
    }
    if (!best.bytes) die("it has no code");
    best.bytes = MIN(best.bytes, (size_t)MOST_CODE) & ~(size_t)3;
    return best;
}

static void say(void *bench, Direct *d) {
    Bench *b = bench;
    b->g->direct(&b->how, b->r, d, &b->made);
}

// Bytes of guest code. What the host has no room for is stepped over.
static uint32_t make_block(Bench *b, HostCode *code, bool directly, uint64_t *insns) {
    DgmErr err;
    HostOutput out = {.links = b->links, .faults = b->faults, .fixes = b->fixes, .traps = b->traps};
    b->made = (GuestDirect){0};
    ir_region_reset(b->r, b->how.pc);
    b->r->fp_rules = b->g->fp_rules;
    if (directly) {
        host_x86_64.direct(b->ctx, b->r, code, &out, say, b, &err);
        *insns += b->made.n_insns;
        return MAX(b->made.size_bytes, 4u);
    }
    b->g->lift(b->r, &b->how);
    if (b->r->n_exits < MOST_LINKS && 2 * b->r->n_mem + 1 < MOST_FAULTS)
        host_x86_64.compile(b->ctx, b->r, code, &out, &err);
    *insns += b->r->n_insns;
    return MAX(b->r->size_bytes, 4u);
}

static double unit_ns(void) {
    enum { TIMES = 1000000 };
    uint64_t start = engine_now_ns();
    unsigned long x = 3;
    for (int i = 0; i < TIMES; i++) {
        x *= 5;
        __asm__ volatile("" : "+r"(x));
    }
    return (double)(engine_now_ns() - start) / (3.0 * TIMES);
}

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

// The least quarter of the turns, leaving out those in which the clock changed.
static void measure(Bench *b, bool directly, unsigned turns) {
    double *units = malloc(turns * sizeof *units);
    if (!units) die("out of memory");
    uint64_t insns = 0, blocks = 0, host_bytes = 0;
    unsigned n = 0;
    for (unsigned i = 0; i < turns * 4 && n < turns; i++) {
        HostCode code = b->room;
        double before = unit_ns();
        uint64_t start = engine_now_ns();
        insns = blocks = 0;
        for (uint64_t pc = b->code.pc; pc < b->code.pc + b->code.bytes; blocks++) {
            b->how.pc = pc;
            pc += make_block(b, &code, directly, &insns);
        }
        double took = (double)(engine_now_ns() - start), after = unit_ns();
        host_bytes = (uint64_t)(code.at - b->room.at) + (uint64_t)(code.cold - b->room.cold);
        if (i && before / after > 0.97 && before / after < 1.03)
            units[n++] = took / ((before + after) / 2) / (double)insns;
    }
    if (!n) die("the clock never stood still");
    qsort(units, n, sizeof *units, by_size);
    printf("%-9s %6.1f cycles a guest instruction, %.1f instructions a block, %.1f host bytes "
           "each\n",
           directly ? "directly" : "by the IR", units[n / 4], (double)insns / (double)blocks,
           (double)host_bytes / (double)insns);
    free(units);
}

int main(int argc, char **argv) {
    if (argc < 2) die("which file?");
    unsigned turns = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 10) : 20;
    Bench *b = calloc(1, sizeof *b);
    Arena arena = {0};
    uint8_t *room = mmap(NULL, ROOM_BYTES, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (!b || !(b->r = calloc(1, sizeof *b->r)) || room == MAP_FAILED || !turns)
        die("out of memory");
    b->g = guest_by_name("aarch64");
    b->code = code_of(argv[1]);
    b->how = (GuestLift){.features = b->g->cpus[0].features,
                         .max_insns = 64,
                         .extend = true,
                         .fetch = fetch,
                         .fetch_ctx = b};
    b->room = (HostCode){.at = room, .end = room + ROOM_BYTES / 2};
    DgmErr err;
    b->ctx = host_x86_64.create(b->g->fields, b->g->n_fields, b->g->pc_field, b->g->state_bytes,
                                &b->g->hot, NULL, 0, &b->room, &err);
    if (!b->ctx) die(err.text);
    b->room.cold = room + ROOM_BYTES / 2;
    b->room.cold_end = room + ROOM_BYTES;
    ir_region_init(b->r, &arena, b->g->fields, b->g->n_fields, b->g->pc_field);
    measure(b, true, turns);
    measure(b, false, turns);
    host_x86_64.destroy(b->ctx);
    arena_free(&arena);
    return 0;
}
