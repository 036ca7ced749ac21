// test_integers.c - random regions of what the x86-64 core compiles: integers, flags, memory,
// atomics, helpers and every way out, against host/interp. After each run guest registers, guest
// memory, why and where the region was left, budget and instruction count must be equal; also when
// an access in the middle faults, where registers must be those before the guest instruction.
//
// Regions are harder than lifted code: more values live at once than there are temporaries, puts
// overwrite registers whose old values are still needed, operands die where they are used. Each
// round runs with another number of homes (down to none, so that everything is in memory or
// spilled) and another set of host features. A failure prints the region and its seed;
// INT_SEED=that INT_ROUNDS=1 repeats it, and INT_HOST=1 adds the host code.
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "../bare_vcpu.h"
#include "host/host.h"

enum {
    N_X = 14, // the last is the address of guest memory
    BASE = N_X - 1,
    FLAGS_FIELD = N_X,
    PC_FIELD,
    N_FIELDS,
    CODE_BYTES = 4 << 20,
    PAGE = 4096,
    MAX_VALUES = 200,
    MAX_SIDE = 512,
    START_PC = 0x10000,
};
typedef struct State {
    uint64_t x[N_X];
    uint32_t flags, pad;
    uint64_t pc;
} __attribute__((aligned(64))) State;
typedef struct Box {
    VcpuHot hot;
    State state;
} __attribute__((aligned(64))) Box;
typedef struct Code {
    HostOutput out;
    HostLink links[MAX_SIDE];
    HostFault faults[MAX_SIDE];
    HostFix fixes[MAX_SIDE];
} Code;
typedef struct Run { // what is compared
    State state;
    uint64_t exit, target, budget, count, memory_hash;
} Run;

static IrField fields[N_FIELDS];
static uint64_t seed;
static uint64_t rnd(void) {
    seed ^= seed >> 12, seed ^= seed << 25, seed ^= seed >> 27;
    return seed * 0x2545F4914F6CDD1D;
}
static bool one_in(unsigned n) {
    return (rnd() >> 32) % n == 0;
}
static unsigned below(unsigned n) {
    return (unsigned)((rnd() >> 32) % n);
}

// ---- helpers of the regions ----

static uint64_t mix(void *state, uint64_t a, uint64_t b, uint64_t c, uint64_t d) {
    return a + 3 * b + 5 * c + 7 * d;
}
static uint64_t read_all(void *state, uint64_t a) {
    const State *s = state;
    for (unsigned i = 0; i < BASE; i++) a = a * 31 + s->x[i];
    return a;
}
static uint64_t write_some(void *state, uint64_t a, uint64_t b) {
    State *s = state;
    s->x[1] += a;
    s->x[5] ^= b;
    s->x[11] = a - b;
    return s->x[2] + a;
}
static uint64_t touch(void *state, uint64_t addr) {
    return *(volatile uint8_t *)vcpu_mem(state, addr) + ((const State *)state)->x[3];
}
#define FN(f) ((void (*)(void))(f))
static const IrHelper helpers[] = {
    {.name = "mix", .fn = FN(mix)},
    {.name = "read_all", .fn = FN(read_all), .reads_state = true},
    {.name = "write_some", .fn = FN(write_some), .reads_state = true, .writes_state = true},
    {.name = "touch", .fn = FN(touch), .reads_state = true, .can_fault = true},
};
static const uint8_t helper_args[] = {4, 1, 2, 1};

// ---- making regions ----

enum { K_I1, K_I8, K_I16, K_I32, K_I64, K_FLAGS, N_KINDS };
static const IrType kind_type[] = {IR_I1, IR_I8, IR_I16, IR_I32, IR_I64, IR_FLAGS};
typedef struct Values {
    IrRef v[N_KINDS][MAX_VALUES];
    unsigned n[N_KINDS];
} Values;

static void keep(const IrRegion *r, Values *k, IrRef v) {
    for (unsigned i = 0; i < N_KINDS; i++)
        if (kind_type[i] == ir_type(r, v) && k->n[i] < MAX_VALUES) k->v[i][k->n[i]++] = v;
}
static uint64_t constant(void) {
    static const uint64_t c[] = {0,          1,    2,          31,         32,
                                 63,         64,   0x7f,       0x80,       0xff,
                                 0x7fffffff, 4095, 0x80000000, 0xffffffff, 0x8000000000000000,
                                 ~0ull};
    return one_in(4) ? rnd() >> below(64) : c[below(ARRAY_LEN(c))];
}
// A value of this kind: mostly a recent one, so that operands die where they are used.
static IrRef pick(IrRegion *r, Values *k, unsigned kind) {
    unsigned n = k->n[kind];
    if (kind <= K_I64 && (!n || one_in(6)))
        return ir_const(r, kind_type[kind], constant() & bits_mask(ir_elem_bits(kind_type[kind])));
    if (!n) return ir_get(r, FLAGS_FIELD, IR_FLAGS);
    return one_in(2) ? k->v[kind][below(n)] : k->v[kind][n - 1 - below(MIN(n, 3))];
}

static IrRef some_int(IrRegion *r, Values *k) {
    static const IrOp two[] = {IR_add,   IR_sub,  IR_mul,  IR_and,  IR_or,   IR_xor,  IR_andn,
                               IR_shl,   IR_shr,  IR_sar,  IR_ror,  IR_add,  IR_sub,  IR_umulh,
                               IR_smulh, IR_udiv, IR_sdiv, IR_smin, IR_smax, IR_umin, IR_umax};
    static const IrOp one[] = {IR_neg,  IR_not,    IR_clz,   IR_ctz,
                               IR_rbit, IR_popcnt, IR_bswap, IR_abs};
    unsigned kind = one_in(8) ? K_I8 + below(2) : K_I32 + below(2);
    IrType t = kind_type[kind];
    if (one_in(4)) {
        IrOp op = one[below(ARRAY_LEN(one))];
        if (kind < K_I32 && (op == IR_rbit || op == IR_popcnt)) op = IR_neg;
        return ir_op1(r, op, t, pick(r, k, kind));
    }
    IrOp op = two[below(ARRAY_LEN(two))];
    if (kind < K_I32 && (op == IR_umulh || op == IR_smulh)) op = IR_mul;
    IrRef a = pick(r, k, kind), b = pick(r, k, kind);
    return ir_op2(r, op, t, a, b);
}

static IrRef some_convert(IrRegion *r, Values *k) {
    unsigned from = below(K_FLAGS), to = below(K_FLAGS);
    if (from == to) return pick(r, k, to);
    IrOp op = to < from ? IR_trunc : one_in(2) ? IR_zext : IR_sext;
    return ir_op1(r, op, kind_type[to], pick(r, k, from));
}

static IrRef some_condition(IrRegion *r, Values *k) {
    unsigned kind = one_in(8) ? K_I1 + below(3) : K_I32 + below(2);
    switch (below(4)) {
    case 0: return ir_cond(r, (IrCond)below(14), pick(r, k, K_FLAGS)); // may fold
    case 1: return ir_emit(r, IR_cond, IR_I1, pick(r, k, K_FLAGS), 0, 0, below(16), 0, 0);
    default: {
        IrRef a = pick(r, k, kind),
              b = one_in(3) ? ir_const(r, kind_type[kind], 0) : pick(r, k, kind);
        return ir_icmp(r, (IrCc)below(10), a, b);
    }
    }
}

static IrRef some_flags(IrRegion *r, Values *k) {
    unsigned kind = K_I32 + below(2);
    IrRef a = pick(r, k, kind), b = pick(r, k, kind);
    switch (below(8)) {
    case 0: return ir_op2(r, IR_fl_add, IR_FLAGS, a, b);
    case 1: return ir_op3(r, IR_fl_adc, IR_FLAGS, a, b, pick(r, k, K_I1));
    case 2: return ir_op1(r, IR_fl_logic, IR_FLAGS, a);
    case 3: return ir_op1(r, IR_fl_pack, IR_FLAGS, pick(r, k, K_I32));
    case 4: return ir_op1(r, IR_fl_unpack, IR_I32, pick(r, k, K_FLAGS));
    case 5: { // as a subs: the flags and the result
        keep(r, k, ir_sub(r, a, b));
        return ir_op2(r, IR_fl_sub, IR_FLAGS, a, b);
    }
    case 6: {
        IrRef p = pick(r, k, K_I1);
        return ir_op3(r, IR_select, IR_FLAGS, p, pick(r, k, K_FLAGS), pick(r, k, K_FLAGS));
    }
    default: return ir_op2(r, IR_fl_sub, IR_FLAGS, a, b);
    }
}

// An address inside guest memory (if BASE points there), in the shapes that hosts fold.
static IrRef some_address(IrRegion *r, Values *k) {
    IrRef base = ir_get(r, BASE, IR_I64);
    IrRef index = ir_and(r, pick(r, k, K_I64), ir_const(r, IR_I64, one_in(2) ? 0x78 : 0x7f));
    switch (below(4)) {
    case 0: return base;
    case 1: return ir_add(r, base, ir_const(r, IR_I64, below(256)));
    case 2: return ir_add(r, base, index);
    default: {
        IrRef n = ir_const(r, IR_I64, below(5));
        return ir_add(r, base, ir_shl(r, index, n));
    }
    }
}

static void some_access(IrRegion *r, Values *k) {
    unsigned mem = K_I8 + below(4);
    unsigned order = one_in(4) ? IR_ACQUIRE | IR_RELEASE : one_in(4) ? IR_RELEASE : 0;
    IrRef addr = some_address(r, k);
    unsigned wide = K_I32 + below(2);
    if (mem > wide) wide = mem;
    switch (below(6)) {
    case 0:
    case 1: {
        bool sext = one_in(2) && mem < wide;
        keep(r, k,
             ir_load(r, kind_type[wide], kind_type[mem], sext ? IR_SEXT : order & IR_ACQUIRE, addr,
                     below(64)));
        break;
    }
    case 2:
    case 3: ir_store(r, kind_type[mem], order, addr, below(64), pick(r, k, wide)); break;
    case 4: {
        IrRef old = pick(r, k, wide);
        if (one_in(2)) { // sometimes it must match
            old = ir_load(r, kind_type[wide], kind_type[mem], 0, addr, 0);
        }
        keep(r, k,
             ir_cas(r, kind_type[wide], kind_type[mem], IR_ACQUIRE | IR_RELEASE, addr, old,
                    pick(r, k, wide)));
        break;
    }
    default:
        keep(r, k,
             ir_rmw(r, kind_type[wide], kind_type[mem], IR_ACQUIRE | IR_RELEASE,
                    (IrRmw)below(IR_RMW_ANDN + 1), addr, pick(r, k, wide)));
        break;
    }
}

static bool some_call(IrRegion *r, Values *k, bool may_fault) {
    unsigned h = below(ARRAY_LEN(helpers) - !may_fault);
    IrRef args[4];
    for (unsigned i = 0; i < helper_args[h]; i++)
        args[i] = pick(r, k, one_in(3) ? K_I8 + below(4) : K_I64);
    if (helpers[h].can_fault) args[0] = some_address(r, k);
    keep(r, k, ir_call(r, one_in(4) ? IR_I32 : IR_I64, &helpers[h], helper_args[h], args, 0));
    return helpers[h].writes_state;
}

static void some_put(IrRegion *r, Values *k) {
    unsigned f = below(BASE);
    if (one_in(6))
        ir_put(r, FLAGS_FIELD, pick(r, k, K_FLAGS));
    else if (one_in(3))
        ir_put(r, f, ir_op1(r, IR_zext, IR_I64, pick(r, k, K_I32)));
    else
        ir_put(r, f, pick(r, k, K_I64));
}

static void some_insn(IrRegion *r, Values *k) {
    for (unsigned n = below(3); n-- > 0;) some_access(r, k);
    for (unsigned n = 1 + below(5); n-- > 0;) {
        switch (below(8)) {
        case 0: keep(r, k, some_convert(r, k)); break;
        case 1: keep(r, k, some_condition(r, k)); break;
        case 2: keep(r, k, some_flags(r, k)); break;
        case 3: {
            unsigned kind = one_in(6) ? K_I1 + below(3) : K_I32 + below(2);
            IrRef p = one_in(2) ? some_condition(r, k) : pick(r, k, K_I1);
            IrRef a = pick(r, k, kind), b = pick(r, k, kind);
            keep(r, k, ir_select(r, p, a, b));
            break;
        }
        case 4: keep(r, k, ir_get(r, below(N_X), one_in(3) ? IR_I32 : IR_I64)); break;
        default: keep(r, k, some_int(r, k)); break;
        }
    }
    if (one_in(3)) some_access(r, k);
    bool wrote = one_in(8) && some_call(r, k, true);
    for (unsigned n = below(3); n-- > 0 && !wrote;) some_put(r, k);
    if (one_in(10)) ir_emit(r, IR_count, IR_VOID, 0, 0, 0, 0, 0, below(5));
}

static void make_region(IrRegion *r) {
    Values k = {.n = {0}};
    uint64_t pc = START_PC;
    ir_region_reset(r, pc);
    ir_block_begin(r, pc);
    if (one_in(2)) ir_emit(r, IR_budget, IR_VOID, 0, 0, 0, 0, 0, 1 + below(20));
    for (unsigned n = 1 + below(8); n-- > 0; pc += 4) {
        ir_insn(r, pc, 4);
        some_insn(r, &k);
        if (one_in(5))
            ir_exit_if(r, one_in(2) ? some_condition(r, &k) : pick(r, &k, K_I1),
                       one_in(3) ? START_PC : 0x20000 + pc);
    }
    r->size_bytes = (uint32_t)(pc - START_PC);
    ir_insn(r, pc, 4);
    switch (below(4)) {
    case 0: ir_exit_ind(r, IR_JUMP, pick(r, &k, K_I64)); break;
    case 1: ir_trap(r, IR_TRAP_SYSCALL, below(256), one_in(2) ? pc + 4 : 0x123456789abc); break;
    default: ir_exit(r, one_in(4) ? START_PC : 0x30000); break;
    }
    ir_block_end(r);
}

// ---- running them ----

// For the signal handler: what runs now.
static struct {
    const Host *host;
    HostCtx *ctx;
    Box *box;
    const Code *code;
} now;

static void on_fault(int signo, siginfo_t *info, void *context) {
    uint64_t pc = now.host->fault_pc(context), entry = (uintptr_t)now.code->out.entry;
    if (now.box->hot.in_helper) {
        now.box->hot.in_helper = 0;
        now.host->leave_at_fault(now.ctx, &now.box->state, context, false, NULL);
        return;
    }
    if (pc < entry || pc >= entry + now.code->out.code_bytes) { // not the guest's
        signal(signo, SIG_DFL);
        return;
    }
    uint32_t guest_off = 0;
    for (unsigned i = 0; i < now.code->out.n_faults; i++)
        if (now.code->faults[i].host_off <= pc - entry) guest_off = now.code->faults[i].guest_off;
    now.host->leave_at_fault(now.ctx, &now.box->state, context, true, NULL);
    now.box->state.pc = START_PC + guest_off;
}

static void run(const Host *host, HostCtx *ctx, const Code *code, Box *box, const State *start,
                uint64_t budget, const uint8_t *image, uint8_t *memory, Run *out) {
    memset(&box->hot, 0, sizeof box->hot);
    memset(box->hot.spill, 0xa5, sizeof box->hot.spill); // nobody may count on zeros
    for (unsigned i = 0; i < JUMP_CACHE_ENTRIES; i++)
        box->hot.jump_cache[i].pc = jump_cache_no_pc(i);
    box->hot.budget = (int64_t)budget;
    box->state = *start;
    memcpy(memory, image, PAGE);
    bare_vcpu_init(host, ctx, &box->state);
    now.host = host, now.ctx = ctx, now.box = box, now.code = code;
    *out = (Run){.exit = host->enter(ctx, &box->state, code->out.entry)};
    host->fp_sync(ctx, &box->state);
    const HostLink *l = box->hot.exit_link;
    if (out->exit == HOST_EXIT_LINK) out->target = l->target_pc;
    out->state = box->state;
    out->state.flags = ir_flags_to_nzcv(out->state.flags);
    out->budget = (uint64_t)box->hot.budget;
    out->count = vcpu_insns(&box->hot);
    for (unsigned i = 0; i < PAGE; i++)
        out->memory_hash = out->memory_hash * 0x100000001b3 ^ memory[i];
}

static void random_state(State *s, uint64_t memory) {
    memset(s, 0, sizeof *s);
    for (unsigned i = 0; i < N_X; i++) s->x[i] = constant();
    s->flags = (uint32_t)rnd();
    // now and then some or all accesses are behind the page
    s->x[BASE] = memory + (one_in(6) ? PAGE - 8 : one_in(12) ? PAGE + 64 : 256);
}

static void report(const IrRegion *r, const State *start, const Run end[2], const Host *host,
                   const Code *code) {
    for (unsigned i = 0; i < N_X; i++)
        print_message("x%-2u %016lx want %016lx got %016lx%s\n", i, start->x[i], end[0].state.x[i],
                      end[1].state.x[i], end[0].state.x[i] != end[1].state.x[i] ? " <-" : "");
#define SHOW(what, member)                                                                         \
    print_message("%-6s want %lx got %lx%s\n", what, (uint64_t)end[0].member,                      \
                  (uint64_t)end[1].member, end[0].member != end[1].member ? " <-" : "")
    SHOW("flags", state.flags);
    SHOW("pc", state.pc);
    SHOW("pad", state.pad);
    SHOW("exit", exit);
    SHOW("target", target);
    SHOW("budget", budget);
    SHOW("count", count);
    SHOW("memory", memory_hash);
#undef SHOW
    Buf text = {0};
    ir_print(r, &text);
    if (getenv("INT_HOST")) host->disassemble(code->out.entry, code->out.code_bytes, &text);
    fputs(text.data, stderr); // cmocka's buffer is too short for it
    buf_free(&text);
}

typedef struct Bench {
    Box *box;
    uint8_t *room, *memory, image[PAGE];
    Code code[2];
} Bench;

static void random_regions(void **unused) {
    static const char *const limits[] = {NULL, "bmi", "avx512,avx2,avx", "sse4"};
    static const uint8_t homes[] = {10, 4, 0};
    static Bench bench;
    Bench *b = &bench;
    uint16_t hot[N_X];
    static const uint16_t saved[] = {1, 3, 5, 6, 11, 12, BASE};
    static const char *const names[N_X] = {"x0", "x1", "x2", "x3",  "x4",  "x5",  "x6",
                                           "x7", "x8", "x9", "x10", "x11", "x12", "base"};
    for (unsigned i = 0; i < N_X; i++) {
        fields[i] = (IrField){names[i], (uint16_t)(8 * i), IR_I64, -1, -1};
        hot[i] = (uint16_t)(i < 4 ? i : N_X + 3 - i); // BASE has a home in the first round
    }
    fields[FLAGS_FIELD] = (IrField){"nzcv", offsetof(State, flags), IR_FLAGS, -1, -1};
    fields[PC_FIELD] = (IrField){"pc", offsetof(State, pc), IR_I64, -1, -1};
    b->room = mmap(NULL, 2 * CODE_BYTES, PROT_READ | PROT_WRITE | PROT_EXEC,
                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    b->memory = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(b->room != MAP_FAILED && b->memory != MAP_FAILED);
    assert_int_equal(mprotect(b->memory + PAGE, PAGE, PROT_NONE), 0);
    b->box = aligned_alloc(_Alignof(Box), sizeof(Box));
    struct sigaction act = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER};
    sigaction(SIGSEGV, &act, NULL);
    unsigned rounds = getenv("INT_ROUNDS") ? (unsigned)atoi(getenv("INT_ROUNDS")) : 400;
    uint64_t first = getenv("INT_SEED") ? strtoull(getenv("INT_SEED"), NULL, 0) : 4242;
    bool go_on = getenv("INT_ALL"); // count failures by their first line instead of stopping
    unsigned failures = 0;
    Arena arena = {0};
    IrRegion r;
    DgmErr err = {0};
    ir_region_init(&r, &arena, fields, ARRAY_LEN(fields), PC_FIELD);
    for (unsigned c = 0; c < ARRAY_LEN(limits) * ARRAY_LEN(homes); c++) {
        const char *limit = limits[c % ARRAY_LEN(limits)];
        unsigned n_homes = homes[c / ARRAY_LEN(limits)];
        const IrHotFields fields_of_homes = {
            .ints = hot, .n_ints = n_homes, .saved = saved, .n_saved = ARRAY_LEN(saved)};
        const Host *hosts[2] = {&host_interp, &host_x86_64};
        HostCtx *ctx[2];
        HostCode room[2];
        for (unsigned h = 0; h < 2; h++) {
            room[h] = (HostCode){b->room + h * CODE_BYTES, b->room + (h + 1) * CODE_BYTES};
            ctx[h] =
                hosts[h]->create(fields, ARRAY_LEN(fields), PC_FIELD, sizeof(State),
                                 &fields_of_homes, h ? limit : NULL, HOST_COUNTS, &room[h], &err);
            if (!ctx[h]) fail_msg("%s: %s", hosts[h]->name, err.text);
        }
        for (unsigned i = 0; i < rounds; i++) {
            uint64_t this_seed = first + i;
            seed = (this_seed + 1) * 0x9e3779b97f4a7c15;
            make_region(&r);
            if (!ir_verify(&r, &err)) fail_msg("%s", err.text);
            bool compiled = true;
            for (unsigned h = 0; h < 2; h++) {
                HostCode at = room[h];
                Code *code = &b->code[h];
                err = (DgmErr){{0}};
                code->out = (HostOutput){
                    .links = code->links, .faults = code->faults, .fixes = code->fixes};
                if (hosts[h]->compile(ctx[h], &r, &at, &code->out, &err) == HOST_OK) continue;
                compiled = false;
                failures++;
                if (go_on) {
                    print_message("seed %lu, %u homes: %s\n", this_seed, n_homes, err.text);
                    continue;
                }
                Buf text = {0};
                ir_print(&r, &text);
                fail_msg("seed %lu, %u homes, without %s: %s\n%s", this_seed, n_homes,
                         limit ? limit : "nothing", err.text, text.data);
            }
            for (unsigned j = 0; j < 6 && compiled; j++) {
                State start;
                Run end[2];
                random_state(&start, (uintptr_t)b->memory);
                for (unsigned k = 0; k < PAGE; k++) b->image[k] = (uint8_t)rnd();
                uint64_t budget = one_in(4) ? below(20) : 1000;
                for (unsigned h = 0; h < 2; h++)
                    run(hosts[h], ctx[h], &b->code[h], b->box, &start, budget, b->image, b->memory,
                        &end[h]);
                if (!memcmp(&end[0], &end[1], sizeof(Run))) continue;
                failures++;
                if (go_on) {
                    print_message("seed %lu, %u homes, without %s: differs\n", this_seed, n_homes,
                                  limit ? limit : "nothing");
                    break;
                }
                report(&r, &start, end, hosts[1], &b->code[1]);
                fail_msg("seed %lu, %u homes, without %s", this_seed, n_homes,
                         limit ? limit : "nothing");
            }
        }
        for (unsigned h = 0; h < 2; h++) hosts[h]->destroy(ctx[h]);
    }
    assert_int_equal(failures, 0);
    free(b->box);
    munmap(b->room, 2 * CODE_BYTES);
    munmap(b->memory, 2 * PAGE);
    arena_free(&arena);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(random_regions)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
