// run_ir.c - runs the IR files of this folder on every host through the seam of host.h.
//
// A file is a region as print.c writes it, over a guest with registers x0..x7 (i64), v0..v3 (128
// bits), flags and pc, and memory of 256 bytes at guest address 0. Its comments say what must come
// out:
//     ; run: f(1, 2) == 3
//     ; run: f(0x0:0x5, flags=0x40000000, fpmode=4) == 0x0:0x6, x1=7, pc=0x2000
// Values fill x0, x1...; hi:lo pairs fill v0, v1...; name=value names a register, `fpmode`,
// `fpflags` or a 64-bit word of memory (m0, m8...). To the right are the expected values, in the
// same way. flags are written as N Z C V in bits 31..28. After each run the printed region must
// parse back to the same text. Usage: run_ir FILE...
#include "../host/bare_vcpu.h"
#include "host/host.h"

#include <inttypes.h>
#include <stdlib.h>
#include <sys/mman.h>

typedef struct State {
    uint64_t x[8];
    V128 v[4];
    uint64_t pc;
    uint32_t flags;
} __attribute__((aligned(64))) State;

#define X(n)                                                                                       \
    { "x" #n, offsetof(State, x[n]), IR_I64, -1, -1 }
#define V(n)                                                                                       \
    { "v" #n, offsetof(State, v[n]), IR_V128, -1, -1 }
static const IrField fields[] = {
    X(0),
    X(1),
    X(2),
    X(3),
    X(4),
    X(5),
    X(6),
    X(7),
    V(0),
    V(1),
    V(2),
    V(3),
    {"pc", offsetof(State, pc), IR_I64, -1, -1},
    {"flags", offsetof(State, flags), IR_FLAGS, -1, -1},
};
enum { PC_FIELD = 12, FLAGS_FIELD = 13, MEMORY_BYTES = 256, CODE_BYTES = 4 << 20 };

static const Host *const hosts[] = {&host_interp, &host_x86_64};

// One vCPU as the engine would lay it out.
typedef struct Box {
    VcpuHot hot;
    State state;
    uint8_t memory[MEMORY_BYTES];
} __attribute__((aligned(64))) Box;

// One side of a `run:` line.
typedef struct Side {
    Box *box;
    unsigned n_scalars, n_vectors, bad;
    bool check;
    Buf *why;
} Side;

static void set_or_check(Side *s, const char *name, void *at, size_t bytes, const V128 *want) {
    if (!s->check) {
        memcpy(at, want, bytes);
    } else if (memcmp(at, want, bytes)) {
        V128 got = {0};
        memcpy(&got, at, bytes);
        s->bad++;
        buf_printf(s->why, " %s is 0x%" PRIx64 ":0x%" PRIx64 ", not 0x%" PRIx64 ":0x%" PRIx64, name,
                   got.d[1], got.d[0], want->d[1], want->d[0]);
    }
}

static bool named_value(Side *s, const char *name, V128 v) {
    Box *b = s->box;
    if (!strcmp(name, "fpmode")) {
        b->hot.fp.mode = (uint32_t)v.d[0];
    } else if (!strcmp(name, "fpflags")) {
        set_or_check(s, name, &b->hot.fp.flags, 4, &v);
    } else if (!strcmp(name, "flags")) {
        if (s->check) {
            v.d[0] = ir_flags_from_nzcv((uint32_t)v.d[0]);
            b->state.flags &= IR_FLAG_N | IR_FLAG_Z | IR_FLAG_NOT_C | IR_FLAG_V;
        } else {
            v.d[0] = ir_flags_from_nzcv((uint32_t)v.d[0]);
        }
        set_or_check(s, name, &b->state.flags, 4, &v);
    } else if (name[0] == 'm') {
        unsigned at = (unsigned)atoi(name + 1);
        if (at > MEMORY_BYTES - 8) return false;
        set_or_check(s, name, b->memory + at, 8, &v);
    } else {
        unsigned i = 0;
        while (i < ARRAY_LEN(fields) && strcmp(fields[i].name, name)) i++;
        if (i == ARRAY_LEN(fields)) return false;
        set_or_check(s, name, (char *)&b->state + fields[i].offset, ir_bytes(fields[i].type), &v);
    }
    return true;
}

// Comma-separated items up to `end`; returns behind it, NULL when malformed.
static const char *side(Side *s, const char *at, char end) {
    for (;;) {
        while (*at == ' ' || *at == ',') at++;
        if (*at == end || !*at || *at == '\n') return at;
        char name[16] = "";
        unsigned n = 0;
        if (*at >= 'a' && *at <= 'z') {
            while (*at && *at != '=' && n + 1 < sizeof name) name[n++] = *at++;
            if (*at++ != '=') return NULL;
        }
        char *after;
        V128 v = {.d = {strtoull(at, &after, 0), 0}};
        if (*at == '-') v.d[0] = (uint64_t)strtoll(at, &after, 0);
        if (after == at) return NULL;
        at = after;
        bool pair = *at == ':';
        if (pair) {
            v.d[1] = v.d[0];
            v.d[0] = strtoull(at + 1, &after, 0);
            at = after;
        }
        if (!n)
            snprintf(name, sizeof name, "%c%u", pair ? 'v' : 'x',
                     pair ? s->n_vectors++ : s->n_scalars++);
        if (!named_value(s, name, v)) return NULL;
    }
}

typedef struct Code {
    const Host *host;
    HostCtx *ctx;
    const void *entry;
    HostLink links[16];
    HostFault faults[64];
    HostFix fixes[64];
} Code;

static bool run_line(const char *line, const Code *code, Box *box, Buf *why) {
    IrFpRules rules = box->hot.fp.rules;
    memset(box, 0, sizeof *box);
    box->hot.fp.rules = rules;
    for (unsigned i = 0; i < JUMP_CACHE_ENTRIES; i++) box->hot.jump_cache[i].pc = ~0ull;
    box->hot.mem_base = (uintptr_t)box->memory;
    box->hot.budget = 1000000;
    Side in = {.box = box, .why = why}, out = {.box = box, .why = why, .check = true};
    const char *at = strstr(line, "f(");
    if (!at || !(at = side(&in, at + 2, ')')) || *at != ')' || !(at = strstr(at, "=="))) {
        buf_printf(why, " malformed run line");
        return false;
    }
    bare_vcpu_init(code->host, code->ctx, &box->state);
    uint64_t exit = code->host->enter(code->ctx, &box->state, code->entry);
    code->host->fp_sync(code->ctx, &box->state);
    if (exit != HOST_EXIT_LINK && exit < HOST_EXIT_TRAP) {
        buf_printf(why, " left with %" PRIu64, exit);
        return false;
    }
    if (!side(&out, at + 2, '\n')) buf_printf(why, " malformed expectation");
    return why->len == 0;
}

static bool compile(Code *code, const IrRegion *r, uint8_t *room, DgmErr *err) {
    static const uint16_t ints[] = {0, 1, 2, 3}, vecs[] = {8, 9}, saved[] = {4, 5};
    static const IrHotFields hot = {
        ints, vecs, saved, ARRAY_LEN(ints), ARRAY_LEN(vecs), ARRAY_LEN(saved)};
    HostCode at = {room, room + CODE_BYTES};
    code->ctx = code->host->create(fields, ARRAY_LEN(fields), PC_FIELD, sizeof(State), &hot, NULL,
                                   HOST_COUNTS, &at, err);
    if (!code->ctx) return false;
    HostOutput out = {.links = code->links, .faults = code->faults, .fixes = code->fixes};
    HostError e = code->host->compile(code->ctx, r, &at, &out, err);
    code->entry = out.entry;
    return e == HOST_OK;
}

// Printed, parsed and printed again it is the same text.
static bool round_trips(const IrRegion *r, Buf *why) {
    Arena arena = {0};
    IrRegion again;
    DgmErr err = {0};
    Buf one = {0}, two = {0};
    ir_print(r, &one);
    ir_region_init(&again, &arena, fields, ARRAY_LEN(fields), PC_FIELD);
    bool ok = ir_parse(&again, one.data, &err);
    if (ok) {
        ir_print(&again, &two);
        ok = !strcmp(one.data, two.data);
    }
    if (!ok)
        buf_printf(why, " does not round-trip: %s\n%s---\n%s", err.text, one.data,
                   two.data ? two.data : "");
    buf_free(&one);
    buf_free(&two);
    arena_free(&arena);
    return ok;
}

static char *slurp(const char *name) {
    FILE *f = fopen(name, "r");
    if (!f) return NULL;
    Buf b = {0};
    char part[4096];
    for (size_t n; (n = fread(part, 1, sizeof part, f)) > 0;) buf_add(&b, part, n);
    fclose(f);
    buf_add(&b, "", 1);
    return b.data;
}

// Number of failures.
static unsigned run_file(const char *name, Box *box, uint8_t *room, unsigned *n_runs) {
    char *text = slurp(name);
    if (!text) {
        printf("run_ir: %s: cannot be read\n", name);
        return 1;
    }
    Arena arena = {0};
    IrRegion r;
    DgmErr err = {0};
    Buf why = {0};
    unsigned bad = 0;
    ir_region_init(&r, &arena, fields, ARRAY_LEN(fields), PC_FIELD);
    if (!ir_parse(&r, text, &err) || !ir_verify(&r, &err)) {
        printf("run_ir: %s: %s\n", name, err.text);
        bad++;
    } else if (!round_trips(&r, &why)) {
        printf("run_ir: %s:%s\n", name, why.data);
        bad++;
    }
    // "; hosts: NAME" names the only host that a file is for
    const char *only = strstr(text, "; hosts: ");
    for (unsigned h = 0; h < ARRAY_LEN(hosts) && !bad; h++) {
        if (only && strncmp(only + 9, hosts[h]->name, strlen(hosts[h]->name))) continue;
        Code code = {.host = hosts[h]};
        if (!compile(&code, &r, room, &err)) {
            printf("run_ir: %s: %s: %s\n", name, hosts[h]->name, err.text);
            bad++;
            continue;
        }
        unsigned line = 1;
        for (const char *at = text; *at; line++) {
            const char *end = strchr(at, '\n');
            if (!strncmp(at, "; run:", 6)) {
                Buf wrong = {0};
                box->hot.fp.rules = r.fp_rules;
                if (!run_line(at, &code, box, &wrong)) {
                    printf("run_ir: %s:%u: %s:%s\n", name, line, hosts[h]->name, wrong.data);
                    bad++;
                }
                ++*n_runs;
                buf_free(&wrong);
            }
            at = end ? end + 1 : at + strlen(at);
        }
        hosts[h]->destroy(code.ctx);
    }
    buf_free(&why);
    arena_free(&arena);
    free(text);
    return bad;
}

int main(int argc, char **argv) {
    Box *box = aligned_alloc(_Alignof(Box), sizeof(Box));
    uint8_t *room = mmap(NULL, CODE_BYTES, PROT_READ | PROT_WRITE | PROT_EXEC,
                         MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (!box || room == MAP_FAILED) return 1;
    unsigned bad = 0, runs = 0;
    for (int i = 1; i < argc; i++) bad += run_file(argv[i], box, room, &runs);
    printf("run_ir: %d files, %u runs, %u failures\n", argc - 1, runs, bad);
    free(box);
    return bad || argc < 2;
}
