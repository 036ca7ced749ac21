// test_regions.c - random regions of vector and float ops, compiled by the x86-64 host at several
// feature levels, against host/interp: same guest registers, same sticky flags. More values live at
// once than there are temporaries, half of the registers have no home, and puts overwrite registers
// whose old values are still needed. A failure prints the region.
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

enum { N_V = 8, N_X = 4, PC_FIELD = N_V + N_X, CODE_BYTES = 4 << 20, MAX_OPS = 14 };
typedef struct State {
    V128 v[N_V];
    uint64_t x[N_X], pc;
} __attribute__((aligned(64))) State;
typedef struct Box {
    VcpuHot hot;
    State state;
} __attribute__((aligned(64))) Box;

static IrField fields[PC_FIELD + 1];
static uint64_t seed;
static uint64_t rnd(void) {
    seed ^= seed >> 12, seed ^= seed << 25, seed ^= seed >> 27;
    return seed * 0x2545F4914F6CDD1D;
}

// Values so far, by kind.
typedef struct Values {
    IrRef vec[40], f32[40], f64[40], i64[40];
    unsigned n_vec, n_f32, n_f64, n_i64;
} Values;
static IrRef pick(const IrRef *from, unsigned n) {
    return from[rnd() % n];
}

static const IrOp vec_ops[] = {
    IR_add,    IR_sub,    IR_mul,    IR_smin,  IR_umax,   IR_and,    IR_andn,    IR_xor,
    IR_shl,    IR_sar,    IR_vcmp,   IR_bsl,   IR_ziplo,  IR_uzpe,   IR_trno,    IR_vext,
    IR_tbl,    IR_sqadd,  IR_uqsub,  IR_shadd, IR_urhadd, IR_vdot,   IR_shli,    IR_sari,
    IR_vtrunc, IR_vumull, IR_vsextl, IR_not,   IR_popcnt, IR_vuqxtn, IR_aes_mix, IR_neg};
static const IrOp float_ops[] = {IR_fadd, IR_fsub, IR_fmul,    IR_fdiv, IR_fma,
                                 IR_fmin, IR_fmax, IR_fmaxnum, IR_fneg, IR_fsqrt};

static void some_vec_op(IrRegion *r, Values *k) {
    static const IrType lanes[] = {IR_I8X16, IR_I16X8, IR_I32X4, IR_I64X2};
    IrOp op = vec_ops[rnd() % ARRAY_LEN(vec_ops)];
    IrType t = lanes[rnd() % 4];
    unsigned aux = 0, imm = 0;
    if (op == IR_vcmp) aux = (unsigned)(rnd() % 10);
    if (op == IR_vext || op == IR_tbl || op == IR_bsl || op == IR_popcnt || op == IR_aes_mix)
        t = IR_I8X16;
    if (op == IR_vext) imm = (unsigned)(rnd() % 17);
    if (op == IR_shli || op == IR_sari) imm = (unsigned)(rnd() % 8);
    if (op == IR_vdot) t = IR_I32X4, aux = (unsigned)(rnd() % 3);
    if (op == IR_vumull || op == IR_vsextl) t = lanes[1 + rnd() % 3];
    if (op == IR_vtrunc || op == IR_vuqxtn) t = lanes[rnd() % 3];
    if ((op == IR_shadd || op == IR_urhadd) && t == IR_I64X2) t = IR_I32X4;
    unsigned n = ir_op_info[op].n_args;
    IrRef a = pick(k->vec, k->n_vec), b = n > 1 ? pick(k->vec, k->n_vec) : 0;
    IrRef c = n > 2 ? pick(k->vec, k->n_vec) : 0;
    k->vec[k->n_vec++] = ir_emit(r, op, t, a, b, c, aux, 0, imm);
}

static void some_float_op(IrRegion *r, Values *k) {
    IrOp op = float_ops[rnd() % ARRAY_LEN(float_ops)];
    unsigned n = ir_op_info[op].n_args, kind = (unsigned)(rnd() % 4);
    const IrRef *from = kind == 0 ? k->f32 : kind == 1 ? k->f64 : k->vec;
    unsigned have = kind == 0 ? k->n_f32 : kind == 1 ? k->n_f64 : k->n_vec;
    IrType t = kind == 0 ? IR_F32 : kind == 1 ? IR_F64 : kind == 2 ? IR_F32X4 : IR_F64X2;
    IrRef a = pick(from, have), b = n > 1 ? pick(from, have) : 0, c = n > 2 ? pick(from, have) : 0;
    IrRef v = ir_emit(r, op, t, a, b, c, 0, 0, 0);
    if (kind == 0)
        k->f32[k->n_f32++] = v;
    else if (kind == 1)
        k->f64[k->n_f64++] = v;
    else
        k->vec[k->n_vec++] = v;
}

static void some_move(IrRegion *r, Values *k) {
    switch (rnd() % 8) {
    case 0: k->vec[k->n_vec++] = ir_op1(r, IR_vzext, IR_V128, pick(k->f64, k->n_f64)); break;
    case 1: k->vec[k->n_vec++] = ir_op1(r, IR_splat, IR_F32X4, pick(k->f32, k->n_f32)); break;
    case 2: k->f64[k->n_f64++] = ir_op1(r, IR_s2f, IR_F64, pick(k->i64, k->n_i64)); break;
    case 3: k->i64[k->n_i64++] = ir_op1(r, IR_bitcast, IR_I64, pick(k->f64, k->n_f64)); break;
    case 4: k->f64[k->n_f64++] = ir_op1(r, IR_fcvt, IR_F64, pick(k->f32, k->n_f32)); break;
    case 5: {
        IrRef p = ir_emit(r, IR_fcmp, IR_I1, pick(k->f64, k->n_f64), pick(k->f64, k->n_f64), 0,
                          (unsigned)(rnd() % 12), 0, 0);
        IrRef a = pick(k->vec, k->n_vec), b = pick(k->vec, k->n_vec);
        k->vec[k->n_vec++] = ir_emit(r, IR_select, IR_V128, p, a, b, 0, 0, 0);
        break;
    }
    case 6:
        k->i64[k->n_i64++] =
            ir_emit(r, IR_f2s, IR_I64, pick(k->f64, k->n_f64), 0, 0, (unsigned)(rnd() % 5), 0, 0);
        break;
    default:
        k->f32[k->n_f32++] =
            ir_emit(r, IR_vget, IR_F32, pick(k->vec, k->n_vec), 0, 0, 0, 0, (int64_t)(rnd() % 4));
        break;
    }
}

static void make_region(IrRegion *r) {
    Values k = {.n_vec = 0};
    ir_region_reset(r, 0x1000);
    ir_block_begin(r, 0x1000);
    ir_insn(r, 0x1000, 4);
    for (unsigned i = 0; i < 3; i++) {
        k.vec[k.n_vec++] = ir_get(r, (unsigned)(rnd() % N_V), IR_V128);
        k.f32[k.n_f32++] = ir_get(r, (unsigned)(rnd() % N_V), IR_F32);
        k.f64[k.n_f64++] = ir_get(r, (unsigned)(rnd() % N_V), IR_F64);
        k.i64[k.n_i64++] = ir_get(r, N_V + (unsigned)(rnd() % N_X), IR_I64);
    }
    unsigned n = 1 + (unsigned)(rnd() % MAX_OPS);
    for (unsigned i = 0; i < n; i++) {
        switch (rnd() % 4) {
        case 0: some_vec_op(r, &k); break;
        case 1: some_float_op(r, &k); break;
        case 2: some_move(r, &k); break;
        default: ir_put(r, (unsigned)(rnd() % N_V), pick(k.vec, k.n_vec)); break;
        }
    }
    ir_put(r, (unsigned)(rnd() % N_V), k.vec[k.n_vec - 1]);
    ir_put(r, (unsigned)(rnd() % N_V), ir_op1(r, IR_vzext, IR_V128, k.f64[k.n_f64 - 1]));
    ir_put(r, (unsigned)(rnd() % N_V), ir_op1(r, IR_vzext, IR_V128, k.f32[k.n_f32 - 1]));
    ir_put(r, N_V + (unsigned)(rnd() % N_X), k.i64[k.n_i64 - 1]);
    ir_exit(r, 0x2000);
    ir_block_end(r);
}

static void random_state(State *s) {
    static const uint64_t special[] = {0,
                                       ~0ull,
                                       0x7FF8000000000001,
                                       0x7FF0000000000001,
                                       0x3FF0000000000000,
                                       0x8000000000000000,
                                       0x7F8000017FC00001,
                                       0x3F80000040000000};
    memset(s, 0, sizeof *s);
    for (unsigned i = 0; i < N_V * 2; i++)
        s->v[i / 2].d[i & 1] = rnd() & 1 ? special[rnd() % ARRAY_LEN(special)] : rnd();
    for (unsigned i = 0; i < N_X; i++) s->x[i] = rnd() >> rnd() % 64;
}

static struct {
    const Host *host;
    HostCtx *ctx;
    const HostOutput *out;
} running;

static void on_fpe(int sig, siginfo_t *info, void *ucontext) {
    if (info->si_code <= 0 || !bare_fp_trap(running.host, running.ctx, running.out, ucontext)) {
        signal(sig, SIG_DFL);
        raise(sig);
    }
}

static uint64_t run(const Host *host, HostCtx *ctx, const HostOutput *out, Box *box,
                    const State *start) {
    running.host = host, running.ctx = ctx, running.out = out;
    memset(&box->hot, 0, sizeof box->hot);
    for (unsigned i = 0; i < JUMP_CACHE_ENTRIES; i++) box->hot.jump_cache[i].pc = ~0ull;
    box->hot.budget = 1000000;
    box->state = *start;
    box->hot.mode = out->traps ? MODE_FP_TRAPS : 0;
    bare_vcpu_init(host, ctx, &box->state);
    uint64_t exit = host->enter(ctx, &box->state, out->entry);
    host->fp_sync(ctx, &box->state);
    return exit;
}

static void random_regions(void **unused) {
    static const char *const limits[] = {NULL, "avx512", "avx512,avx2,fma", "avx512,avx2,fma,avx",
                                         "avx512,avx2,fma,avx,sse4"};
    for (unsigned i = 0; i < N_V; i++)
        fields[i] = (IrField){"v", (uint16_t)(offsetof(State, v) + 16 * i), IR_V128, -1, -1};
    for (unsigned i = 0; i < N_X; i++)
        fields[N_V + i] = (IrField){"x", (uint16_t)(offsetof(State, x) + 8 * i), IR_I64, -1, -1};
    fields[PC_FIELD] = (IrField){"pc", offsetof(State, pc), IR_I64, -1, -1};
    static const uint16_t ints[] = {N_V, N_V + 1}, vecs[] = {0, 1, 2, 3}, saved[] = {N_V + 2};
    static const IrHotFields hot = {
        ints, vecs, saved, ARRAY_LEN(ints), ARRAY_LEN(vecs), ARRAY_LEN(saved)};
    uint8_t *room = mmap(NULL, 2 * CODE_BYTES, PROT_READ | PROT_WRITE | PROT_EXEC,
                         MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(room != MAP_FAILED);
    Box *box = aligned_alloc(_Alignof(Box), sizeof(Box));
    unsigned rounds = getenv("VEC_ROUNDS") ? (unsigned)atoi(getenv("VEC_ROUNDS")) : 500;
    seed = getenv("VEC_SEED") ? strtoull(getenv("VEC_SEED"), NULL, 0) | 1 : 424242;
    Arena arena = {0};
    IrRegion r;
    DgmErr err = {0};
    struct sigaction fpe = {.sa_sigaction = on_fpe, .sa_flags = SA_SIGINFO};
    sigaction(SIGFPE, &fpe, NULL);
    ir_region_init(&r, &arena, fields, ARRAY_LEN(fields), PC_FIELD);
    for (unsigned l = 0; l < ARRAY_LEN(limits); l++) {
        const Host *hosts[2] = {&host_interp, &host_x86_64};
        HostCtx *ctx[2];
        HostCode free_room[2];
        for (unsigned h = 0; h < 2; h++) {
            free_room[h] = (HostCode){room + h * CODE_BYTES, room + (h + 1) * CODE_BYTES};
            ctx[h] = hosts[h]->create(fields, ARRAY_LEN(fields), PC_FIELD, sizeof(State), &hot,
                                      h ? limits[l] : NULL, 0, &free_room[h], &err);
            if (!ctx[h]) fail_msg("%s: %s", hosts[h]->name, err.text);
        }
        for (unsigned i = 0; i < rounds; i++) {
            make_region(&r);
            r.fp_traps = i & 1;
            Buf text = {0};
            if (!ir_verify(&r, &err)) fail_msg("%s", err.text);
            HostOutput outs[2];
            static HostTrap traps[512];
            static HostLink links[2][512];
            static HostFault faults[2][512];
            static HostFix fixes[2][512];
            for (unsigned h = 0; h < 2; h++) {
                HostCode at = free_room[h];
                HostOutput *out = &outs[h];
                *out = (HostOutput){.links = links[h], .faults = faults[h], .fixes = fixes[h]};
                if (h && r.fp_traps) out->traps = traps;
                if (hosts[h]->compile(ctx[h], &r, &at, out, &err) != HOST_OK) {
                    ir_print(&r, &text);
                    fail_msg("%s: %s\n%s", hosts[h]->name, err.text, text.data);
                }
            }
            for (unsigned j = 0; j < 4; j++) {
                State start, end[2];
                uint32_t flags[2];
                random_state(&start);
                for (unsigned h = 0; h < 2; h++) {
                    run(hosts[h], ctx[h], &outs[h], box, &start);
                    end[h] = box->state;
                    flags[h] = box->hot.fp.flags;
                }
                if (!memcmp(&end[0], &end[1], sizeof(State)) && flags[0] == flags[1]) continue;
                ir_print(&r, &text);
                for (unsigned v = 0; v < N_V; v++)
                    print_message("v%u %016lx:%016lx want %016lx:%016lx got %016lx:%016lx%s\n", v,
                                  start.v[v].d[1], start.v[v].d[0], end[0].v[v].d[1],
                                  end[0].v[v].d[0], end[1].v[v].d[1], end[1].v[v].d[0],
                                  memcmp(&end[0].v[v], &end[1].v[v], 16) ? " <-" : "");
                fail_msg("without %s, round %u: flags want %x got %x\n%s",
                         limits[l] ? limits[l] : "nothing", i, flags[0], flags[1], text.data);
            }
            buf_free(&text);
        }
        for (unsigned h = 0; h < 2; h++) hosts[h]->destroy(ctx[h]);
        print_message("without %s: %u regions\n", limits[l] ? limits[l] : "nothing", rounds);
    }
    free(box);
    munmap(room, 2 * CODE_BYTES);
    arena_free(&arena);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(random_regions)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
