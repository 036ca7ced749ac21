// test_vec.c - every vector and floating-point op that the x86-64 selectors take, at several
// feature levels, against ir_eval: same result, same sticky flags, operands intact where cold code
// needs them.
//
// The test is its own little core (see the contract in sel_vec.h): it gives operands, temporaries
// and results registers at random, poisons what is unspecified, and makes one function per trial,
// called as f(args, out). Cold code stores the operands for inspection and loads what ir_eval said.
// A failure prints the op, the types, the level and the values.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "host/x86_64/sel_vec.h"

enum { COLD_SITES = 8 };
typedef struct Area { // what the generated function works on (rdi)
    V128 arg[3], answer, out, seen[3];
    uint64_t cold;
} Area;

// The test's own state beside the X86 that the selectors see.
typedef struct Trial {
    X86 x; // first: the services below find the rest by it
    HostCtx ctx;
    IrRegion region;
    uint8_t *code;
    V128 *pool;
    unsigned n_pool;
    uint8_t reg[3]; // of the operands
    bool in_xmm[3];
    int dst;
    bool lost;
    uint64_t seed;
} Trial;
static Trial *trial_of(X86 *x) {
    return (Trial *)(void *)x;
}

static uint64_t rnd(Trial *t) { // xorshift64*
    t->seed ^= t->seed >> 12, t->seed ^= t->seed << 25, t->seed ^= t->seed >> 27;
    return t->seed * 0x2545F4914F6CDD1D;
}

// ---- the core's side of the contract ----
static const uint32_t int_temps = 1u << RAX | 1u << RCX | 1u << RDX | 1u << R11, vec_temps = 0x3F;
// One of a set, not locked; then locked.
static unsigned take(Trial *t, uint32_t *locked, uint32_t set) {
    if (!(set & ~*locked))
        fail_msg("out of temporaries at %s", ir_op_info[t->region.insts[4].op].name);
    unsigned r;
    do r = (unsigned)(rnd(t) % 32);
    while (!((set & ~*locked) >> r & 1));
    *locked |= 1u << r;
    return r;
}
bool x86_zero_upper(const IrRegion *r, IrRef v) {
    return false;
}
unsigned x86_fetch(X86 *x, IrRef v, bool vec) { // all operands are in registers
    fail_msg("%u asked for as %s", v, vec ? "a vector" : "an integer");
    return trial_of(x)->reg[0];
}
unsigned x86_tmp_vec(X86 *x) {
    return take(trial_of(x), &x->vec_locked, vec_temps);
}
unsigned x86_tmp_int(X86 *x) {
    return take(trial_of(x), &x->int_locked, int_temps);
}
unsigned x86_def_vec(X86 *x, IrRef v) { // a temporary, a home, or the home of an operand
    Trial *t = trial_of(x);
    unsigned k = (unsigned)(rnd(t) % 8);
    if (k < 3 && t->in_xmm[k] && t->reg[k] >= 6) {
        t->lost = true; // cold code cannot be asked for any more: the operand has no place
        return (unsigned)(t->dst = t->reg[k]);
    }
    return x86_def_vec_fresh(x, v);
}
unsigned x86_def_vec_fresh(X86 *x, IrRef v) {
    Trial *t = trial_of(x);
    unsigned k = (unsigned)(rnd(t) % 8);
    uint32_t homes = (x->h->level == VEC_AVX512 ? ~0u : 0xFFFFu) & ~vec_temps;
    return (unsigned)(t->dst = (int)take(t, &x->vec_locked, k < 6 ? vec_temps : homes));
}
unsigned x86_def_int(X86 *x, IrRef v) {
    Trial *t = trial_of(x);
    uint32_t homes = 1u << R8 | 1u << R9 | 1u << R10 | 1u << RSI;
    return (unsigned)(t->dst = (int)take(t, &x->int_locked, rnd(t) & 1 ? int_temps : homes));
}
static void raw(X86 *x, const void *bytes, unsigned n) {
    memcpy(x->at, bytes, n);
    x->at += n;
}
static void gpr_mem(X86 *x, bool store, unsigned reg, int32_t disp) { // mov r64, [rdi + disp]
    uint8_t b[] = {(uint8_t)(0x48 | (reg >> 3) << 2), store ? 0x89 : 0x8B,
                   (uint8_t)(0x87 | (reg & 7) << 3)};
    raw(x, b, 3);
    raw(x, &disp, 4);
}
static void xmm_mem(X86 *x, bool store, unsigned reg, int32_t disp) {
    x->at = vec_encode(x->at, vrm_mem(RDI, disp), x->h->level, store ? V_movups_st : V_movups, reg,
                       0, 0);
}
const V128 *x86_const128(X86 *x, uint64_t lo, uint64_t hi) {
    Trial *t = trial_of(x);
    V128 *v = &t->pool[t->n_pool++];
    v->d[0] = lo, v->d[1] = hi;
    return v;
}
unsigned x86_condition(X86 *x, IrRef user, IrRef v) { // test r32, r32
    unsigned r = x86_use_int(x, v), b = r >> 3;
    uint8_t code[] = {(uint8_t)(0x40 | b << 2 | b), 0x85, (uint8_t)(0xC0 | (r & 7) << 3 | (r & 7))};
    raw(x, code, 3);
    return CC_NE;
}
// Regions here have no fp_traps.
Cold *x86_cold_trap(X86 *x, void (*emit)(X86 *, const Cold *)) {
    (void)x, (void)emit;
    return NULL;
}
Cold *x86_cold_trap_eval(X86 *x, IrRef v) {
    (void)x, (void)v;
    return NULL;
}
void x86_fp_masked(X86 *x, bool masked) {
    (void)x, (void)masked;
}
void x86_cold_back(X86 *x, const Cold *c) {
    (void)x, (void)c;
}
int x86_home_free(X86 *x, IrRef v) {
    (void)x, (void)v;
    return -1;
}
void x86_cold_eval(X86 *x, IrRef v, unsigned cc, unsigned result) {
    uint8_t b[6] = {0x0F, (uint8_t)(0x80 | cc)};
    assert_true(x->n_cold < COLD_SITES);
    assert_false(trial_of(x)->lost);
    raw(x, b, 6);
    x->cold[x->n_cold++] =
        (Cold){.from = x->at - 4, .back = x->at, .v = v, .result = (uint8_t)result};
}

// ---- values ----
static uint64_t some_int(Trial *x, unsigned bits) {
    static const uint64_t corner[] = {0,  1,  2,  7,    8,    15,   16,    31,
                                      32, 63, 64, 0x7F, 0x80, 0xFF, ~0ull, ~1ull};
    uint64_t r = rnd(x);
    switch (r & 7) {
    case 0:
    case 1: return corner[r >> 8 & 15] & bits_mask(bits);
    case 2: return 1ull << (bits - 1);
    case 3: return (1ull << (bits - 1)) - 1;
    case 4: return (r >> 20) % (bits + 2) & bits_mask(bits);
    default: return rnd(x) & bits_mask(bits);
    }
}
static uint64_t some_float(Trial *x, unsigned bits) {
    unsigned frac = bits == 64 ? 52 : bits == 32 ? 23 : 10, expbits = bits - 1 - frac;
    uint64_t r = rnd(x), emax = bits_mask(expbits), bias = emax / 2, e,
             f = rnd(x) & bits_mask(frac);
    switch (r % 12) {
    case 0: e = 0, f = 0; break;
    case 1: e = emax, f = 0; break;
    case 2: e = emax, f |= 1ull << (frac - 1); break;
    case 3: e = emax, f = (f & bits_mask(frac - 1)) | 1; break; // signalling
    case 4: e = 0; break;
    case 5: e = bias, f = 0; break;
    case 6: e = bias + (r >> 8) % (frac + 2), f &= ~bits_mask(frac - (r >> 16) % frac); break;
    case 7: e = bias + 28 + (r >> 8) % 8; break; // about 2^31, 2^32
    case 8: e = bias + 60 + (r >> 8) % 6; break; // about 2^63, 2^64
    case 9: e = bias - 2 + (r >> 8) % 4, f &= ~bits_mask(frac - 2); break;
    default: e = rnd(x) % emax; break;
    }
    if (e > emax) e = emax - 1;
    return (r >> 63) << (bits - 1) | e << frac | f;
}
static V128 some_value(Trial *x, IrType t) {
    V128 v = {.d = {0, 0}};
    unsigned bits = ir_elem_bits(t), n = ir_lanes(t);
    uint64_t same = ir_is_float(t) ? some_float(x, bits) : some_int(x, bits);
    bool all_same = rnd(x) % 8 == 0;
    for (unsigned i = 0; i < n; i++) {
        uint64_t k = all_same ? same : ir_is_float(t) ? some_float(x, bits) : some_int(x, bits);
        if (bits == 1)
            v.d[0] = k & 1;
        else
            memcpy(v.b + i * (bits / 8), &k, bits / 8);
    }
    return v;
}

// ---- what to test ----
enum {
    T8 = 1,
    T16 = 2,
    T32 = 4,
    T64 = 8,
    F16B = 16,
    F32B = 32,
    F64B = 64,
    SF32 = 128,
    SF64 = 256,
    SF16 = 512,
    INTS = 15,
    FLOATS = F32B | F64B | SF32 | SF64
};
typedef struct Plan {
    IrOp op;
    unsigned types;
    unsigned n_aux, aux2_max;
    int imm_kind; // 0 none, 1 shift amount, 2 byte of vext, 3 lane, 4 group, 5 clmul, 6 fixed point
} Plan;
static const Plan plans[] = {
    {IR_add, INTS},
    {IR_sub, INTS},
    {IR_mul, INTS},
    {IR_umulh, T16},
    {IR_smulh, T16},
    {IR_neg, INTS},
    {IR_abs, INTS},
    {IR_smin, INTS},
    {IR_smax, INTS},
    {IR_umin, INTS},
    {IR_umax, INTS},
    {IR_and, T64},
    {IR_or, T8},
    {IR_xor, T32},
    {IR_andn, T64},
    {IR_not, T16},
    {IR_shl, INTS},
    {IR_shr, INTS},
    {IR_sar, INTS},
    {IR_shli, INTS, 0, 0, 1},
    {IR_shri, INTS, 0, 0, 1},
    {IR_sari, INTS, 0, 0, 1},
    {IR_clz, INTS},
    {IR_popcnt, T8},
    {IR_rbit, T8},
    {IR_bswap, T16 | T32 | T64},
    {IR_vcmp, INTS, 10},
    {IR_bsl, T8},
    {IR_select, T64 | SF32 | SF64},
    {IR_splat, INTS | F32B | F64B | F16B},
    {IR_vzext, INTS | F32B | F64B | F16B},
    {IR_vget, INTS | F32B | F64B | F16B, 0, 0, 3},
    {IR_vset, INTS | F32B | F64B | F16B, 0, 0, 3},
    {IR_vlow, T64},
    {IR_vpair, T64},
    {IR_ziplo, INTS},
    {IR_ziphi, INTS},
    {IR_uzpe, INTS},
    {IR_uzpo, INTS},
    {IR_trne, INTS},
    {IR_trno, INTS},
    {IR_vext, T8, 0, 0, 2},
    {IR_tbl, T8},
    {IR_vrev, T8 | T16 | T32 | T64, 0, 0, 4},
    {IR_vzextl, T16 | T32 | T64},
    {IR_vsextl, T16 | T32 | T64},
    {IR_vzexth, T16 | T32 | T64},
    {IR_vsexth, T16 | T32 | T64},
    {IR_vtrunc, T8 | T16 | T32},
    {IR_vsqxtn, T8 | T16 | T32},
    {IR_vsqxtun, T8 | T16 | T32},
    {IR_vuqxtn, T8 | T16 | T32},
    {IR_vsmull, T16 | T32 | T64},
    {IR_vumull, T16 | T32 | T64},
    {IR_vsmull2, T16 | T32 | T64},
    {IR_vumull2, T16 | T32 | T64},
    {IR_sqadd, INTS},
    {IR_uqadd, INTS},
    {IR_sqsub, INTS},
    {IR_uqsub, INTS},
    {IR_shadd, T8 | T16 | T32},
    {IR_uhadd, T8 | T16 | T32},
    {IR_srhadd, T8 | T16 | T32},
    {IR_urhadd, T8 | T16 | T32},
    {IR_vdot, T32, 3},
    {IR_clmul, T64, 0, 0, 5},
    {IR_aes_enc, T8},
    {IR_aes_dec, T8},
    {IR_aes_mix, T8},
    {IR_aes_imix, T8},
    {IR_fadd, FLOATS},
    {IR_fsub, FLOATS},
    {IR_fmul, FLOATS},
    {IR_fdiv, FLOATS},
    {IR_fsqrt, FLOATS},
    {IR_fma, FLOATS},
    {IR_fneg, FLOATS | F16B | SF16},
    {IR_fabs, FLOATS | F16B | SF16},
    {IR_fmin, FLOATS},
    {IR_fmax, FLOATS},
    {IR_fminnum, FLOATS},
    {IR_fmaxnum, FLOATS},
    {IR_fcmp, SF32 | SF64, 12, 1},
    {IR_fl_fcmp, SF32 | SF64, 2},
    {IR_vfcmp, F32B | F64B, 12, 1},
    {IR_fcvt, F16B | F32B | F64B | SF16 | SF32 | SF64, 2},
    {IR_fround, FLOATS, 7, 1},
    {IR_f2s, FLOATS, 7, 0, 6},
    {IR_f2u, FLOATS, 7, 0, 6},
    {IR_s2f, FLOATS, 0, 0, 6},
    {IR_u2f, FLOATS, 0, 0, 6},
    {IR_bitcast, SF16 | SF32 | SF64},
};
static const IrType bit_types[] = {IR_I8X16, IR_I16X8, IR_I32X4, IR_I64X2, IR_F16X8,
                                   IR_F32X4, IR_F64X2, IR_F32,   IR_F64,   IR_F16};

// Fills in the instruction and the operands' types; false when this combination makes no sense.
static bool make(Trial *x, const Plan *p, IrType t, IrInst *in, IrType at[3]) {
    IrElem e = ir_elem(t);
    unsigned bits = ir_elem_bits(t), lanes = ir_lanes(t);
    *in = (IrInst){.op = (uint8_t)p->op, .type = t, .a = 1, .b = 2, .c = 3};
    in->aux = p->n_aux ? (uint8_t)(rnd(x) % p->n_aux) : 0;
    in->aux2 = p->aux2_max ? (uint8_t)(rnd(x) & 1) : 0;
    at[0] = at[1] = at[2] = t;
    IrType half = ir_vec_of((IrElem)(IR_I8 + (e - IR_I8) - 1)), twice = ir_vec_of((IrElem)(e + 1));
    switch (p->op) {
    case IR_select: at[0] = IR_I1; break;
    case IR_splat:
    case IR_vzext: at[0] = (IrType)e; break;
    case IR_vget:
        in->type = (IrType)e;
        at[0] = t;
        break;
    case IR_vset: at[1] = (IrType)e; break;
    case IR_vzextl:
    case IR_vsextl:
    case IR_vzexth:
    case IR_vsexth:
    case IR_vsmull:
    case IR_vumull:
    case IR_vsmull2:
    case IR_vumull2: at[0] = at[1] = half; break;
    case IR_vtrunc:
    case IR_vsqxtn:
    case IR_vsqxtun:
    case IR_vuqxtn: at[0] = at[1] = twice; break;
    case IR_vdot: at[0] = at[1] = IR_I8X16; break;
    case IR_fcmp: in->type = IR_I1; break;
    case IR_fl_fcmp: in->type = IR_FLAGS; break;
    case IR_fcvt: {
        IrElem other = (IrElem)(IR_F16 + rnd(x) % 3);
        if (other == e || (ir_is_vec(t) && (other - e > 1 || e - other > 1))) return false;
        at[0] = ir_is_vec(t) ? ir_vec_of(other) : (IrType)other;
        if (!ir_is_vec(t) || other > e) in->aux = 0;
        break;
    }
    case IR_f2s:
    case IR_f2u:
        in->type = ir_is_vec(t) ? ir_vec_of(bits == 32 ? IR_I32 : IR_I64)
                   : rnd(x) & 1 ? IR_I32
                                : IR_I64;
        break;
    case IR_s2f:
    case IR_u2f:
        at[0] = ir_is_vec(t) ? ir_vec_of(bits == 32 ? IR_I32 : IR_I64)
                : rnd(x) & 1 ? IR_I32
                             : IR_I64;
        break;
    case IR_bitcast:
        at[0] = bits == 16 ? IR_I16 : bits == 32 ? IR_I32 : IR_I64;
        if (rnd(x) & 1) in->type = at[0], at[0] = t;
        break;
    default: break;
    }
    switch (p->imm_kind) {
    case 1: in->imm = (int64_t)(rnd(x) % (bits + 2)); break;
    case 2: in->imm = (int64_t)(rnd(x) % 17); break;
    case 3: in->imm = (int64_t)(rnd(x) % lanes); break;
    case 4:
        in->imm = 2 << rnd(x) % 4;
        if (in->imm < bits / 8) return false;
        break;
    case 5: in->imm = (int64_t)(rnd(x) % 4); break;
    case 6: in->imm = rnd(x) % 4 ? 0 : (int64_t)(rnd(x) % 33); break;
    default: break;
    }
    return true;
}

static const char *type_name(IrType t) {
    static char s[4][16];
    static unsigned k;
    static const char *const n[] = {"void", "i1",  "i8",  "i16", "i32",  "i64",
                                    "i128", "f16", "f32", "f64", "flags"};
    char *o = s[k++ & 3];
    snprintf(o, 16, "%sx%u", n[ir_elem(t)], ir_lanes(t));
    return o;
}

// Operands are in homes or in temporaries.
static unsigned take_operand(Trial *t, bool xmm) {
    bool temp = rnd(t) & 1;
    if (!xmm) return take(t, &t->x.int_locked, temp ? int_temps : 1u << R8 | 1u << R9 | 1u << R10);
    uint32_t homes = (t->ctx.level == VEC_AVX512 ? ~0u : 0xFFFFu) & ~vec_temps;
    return take(t, &t->x.vec_locked, temp ? vec_temps : homes);
}

// Runs one trial. 0: the selector left it to the evaluator; 1: inline, 2: cold code was taken.
static int trial(Trial *t, const IrInst *in, const IrType at[3], const char *level,
                 unsigned n_args) {
    Area area;
    memset(&area, 0, sizeof area);
    X86 *x = &t->x;
    x->vec_locked = x->int_locked = 0;
    x->n_cold = t->n_pool = 0;
    t->lost = false;
    x->at = t->code;
    V128 args[3];
    for (unsigned i = 0; i < 3; i++) {
        args[i] = some_value(t, at[i]);
        t->region.insts[i + 1] = (IrInst){.op = IR_get, .type = at[i]};
        t->in_xmm[i] = i < n_args && (ir_is_vec(at[i]) || ir_is_float(at[i]));
        bool xmm = t->in_xmm[i];
        if (i >= n_args) continue;
        t->reg[i] = (uint8_t)take_operand(t, xmm);
        x->val[i + 1].reg = (int8_t)t->reg[i];
        if (!xmm && at[i] == IR_I1) args[i].d[0] &= 1;
        V128 v = args[i]; // what is above a scalar is unspecified
        if (!ir_is_vec(at[i])) {
            unsigned n = at[i] == IR_I1 ? 8 : (ir_elem_bits(at[i]) + 7) / 8; // I1 is clean
            if (xmm && rnd(t) & 1) {                                         // as loads leave it
                t->region.insts[i + 1].op = IR_load;
                memset(v.b + n, 0, 16 - n);
                area.arg[i] = v;
                xmm_mem(x, false, t->reg[i], (int)offsetof(Area, arg) + 16 * (int)i);
                continue;
            }
            for (unsigned k = n; k < (xmm ? 16u : 8u); k++) v.b[k] = (uint8_t)rnd(t);
        }
        area.arg[i] = v;
        if (xmm)
            xmm_mem(x, false, t->reg[i], (int)offsetof(Area, arg) + 16 * (int)i);
        else
            gpr_mem(x, false, t->reg[i], (int)offsetof(Area, arg) + 16 * (int)i);
    }
    t->region.insts[4] = *in;
    if (!x86_sel_vec(x, 4)) return 0;
    bool out_xmm = ir_is_vec(in->type) || ir_is_float(in->type);
    int out = (int)offsetof(Area, out);
    out_xmm ? xmm_mem(x, true, (unsigned)t->dst, out) : gpr_mem(x, true, (unsigned)t->dst, out);
    *x->at++ = 0xC3;
    for (unsigned i = 0; i < x->n_cold; i++) { // cold code
        int32_t rel = (int32_t)(x->at - (x->cold[i].from + 4));
        memcpy(x->cold[i].from, &rel, 4);
        for (unsigned k = 0; k < n_args; k++) {
            int seen = (int)offsetof(Area, seen) + 16 * (int)k;
            t->in_xmm[k] ? xmm_mem(x, true, t->reg[k], seen) : gpr_mem(x, true, t->reg[k], seen);
        }
        uint8_t one[] = {0xFF, 0x87}; // inc dword [rdi + cold]
        int32_t at_cold = (int)offsetof(Area, cold);
        raw(x, one, 2);
        raw(x, &at_cold, 4);
        int ans = (int)offsetof(Area, answer);
        out_xmm ? xmm_mem(x, false, x->cold[i].result, ans)
                : gpr_mem(x, false, x->cold[i].result, ans);
        *x->at++ = 0xE9;
        rel = (int32_t)(x->cold[i].back - (x->at + 4));
        raw(x, &rel, 4);
    }
    IrFpEnv env = {.mode = 0, .flags = 0, .rules = IR_FP_ARM};
    V128 want = {.d = {0, 0}};
    ir_eval(in, at[0], args, t->region.vconsts, &env, &want);
    area.answer = want;
    uint32_t csr = 0x1F80, csr_before;
    __asm__ volatile("stmxcsr %0" : "=m"(csr_before));
    __asm__ volatile("ldmxcsr %0" ::"m"(csr));
    void (*fn)(Area *);
    memcpy(&fn, &t->code, sizeof fn);
    fn(&area);
    __asm__ volatile("stmxcsr %0" : "=m"(csr));
    __asm__ volatile("ldmxcsr %0" ::"m"(csr_before));
    uint32_t flags = (csr & 1 ? IR_FPF_INVALID : 0) | (csr & 4 ? IR_FPF_DIVZERO : 0) |
                     (csr & 8 ? IR_FPF_OVERFLOW : 0) | (csr & 16 ? IR_FPF_UNDERFLOW : 0) |
                     (csr & 32 ? IR_FPF_INEXACT : 0);
    if (area.cold) flags |= env.flags;
    V128 got = area.out;
    if (in->type == IR_FLAGS) {
        uint32_t m = IR_FLAG_N | IR_FLAG_Z | IR_FLAG_NOT_C | IR_FLAG_V;
        got.d[0] &= m, got.d[1] = 0, want.d[0] &= m;
    } else if (!ir_is_vec(in->type) && out_xmm) {
        unsigned n = ir_elem_bits(in->type) / 8;
        if (!upper_zero(x, 4)) memset(got.b + n, 0, 16 - n);
    } else if (!out_xmm) {
        got.d[1] = 0;
    }
    bool bad = memcmp(&got, &want, 16) != 0;
    if (ir_op_info[in->op].effect == IR_FLAGFP) // tininess: Arm's underflow may be missing
        bad |= flags != env.flags && (flags | IR_FPF_UNDERFLOW) != env.flags;
    for (unsigned k = 0; area.cold && k < n_args; k++)
        bad |= memcmp(&area.seen[k], &area.arg[k], t->in_xmm[k] ? 16 : 8) != 0;
    if (bad) {
        for (unsigned k = 0; k < n_args; k++)
            print_message(
                "  arg %u (reg %u): %016llx %016llx, cold saw %016llx %016llx\n", k, t->reg[k],
                (unsigned long long)area.arg[k].d[1], (unsigned long long)area.arg[k].d[0],
                (unsigned long long)area.seen[k].d[1], (unsigned long long)area.seen[k].d[0]);
        for (const uint8_t *c = t->code; c < x->at; c++) print_message("%02x", *c);
        print_message("\n");
        fail_msg("%s %s (a %s) aux %u aux2 %u imm %lld at %s: got %016llx %016llx flags %x%s (dst "
                 "%d), want "
                 "%016llx %016llx flags %x",
                 ir_op_info[in->op].name, type_name(in->type), type_name(at[0]), in->aux, in->aux2,
                 (long long)in->imm, level, (unsigned long long)got.d[1],
                 (unsigned long long)got.d[0], flags, area.cold ? " (cold)" : "", t->dst,
                 (unsigned long long)want.d[1], (unsigned long long)want.d[0], env.flags);
    }
    return area.cold ? 2 : 1;
}

enum { // levels are sets of these
    F_SSSE3 = 1,
    F_SSE4 = 2,
    F_AVX = 4,
    F_AVX2 = 8,
    F_AES = 16,
    F_GFNI = 32,
    F_AVX512 = 64,
    F_MORE512 = 128
};
static const struct {
    const char *name;
    uint32_t features;
} levels[] = {
    {"sse2", 0},
    {"ssse3", F_SSSE3},
    {"sse4", F_SSSE3 | F_SSE4 | F_AES},
    {"avx", F_SSSE3 | F_SSE4 | F_AVX},
    {"avx2", F_SSSE3 | F_SSE4 | F_AVX | F_AVX2 | F_AES},
    {"avx2+gfni", F_SSSE3 | F_SSE4 | F_AVX | F_AVX2 | F_AES | F_GFNI},
    {"avx512", F_SSSE3 | F_SSE4 | F_AVX | F_AVX2 | F_AES | F_AVX512},
    {"avx512+all", 0xFF},
};
static uint32_t host_features(void) {
    __builtin_cpu_init();
#define F(name) !!__builtin_cpu_supports(name)
    bool avx512 = F("avx512f") && F("avx512vl") && F("avx512bw") && F("avx512dq") && F("avx512cd");
    bool more = F("avx512bitalg") && F("avx512vbmi") && F("avx512vnni") && F("avx512vpopcntdq");
    return F("ssse3") * F_SSSE3 | (F("sse4.1") && F("sse4.2")) * F_SSE4 | F("avx") * F_AVX |
           (F("avx2") && F("fma")) * F_AVX2 | (F("aes") && F("pclmul")) * F_AES |
           F("gfni") * F_GFNI | avx512 * F_AVX512 | more * F_MORE512;
}
static void set_level(Trial *t, uint32_t f) {
    X86Cpu *c = &t->ctx.cpu;
    memset(c, 0, sizeof *c);
    c->ssse3 = f & F_SSSE3;
    c->sse41 = c->sse42 = f & F_SSE4;
    c->avx = f & F_AVX;
    c->avx2 = c->fma = c->f16c = f & F_AVX2;
    c->aes = c->pclmul = f & F_AES;
    c->gfni = f & F_GFNI;
    c->avx512 = f & F_AVX512;
    c->avx512_bitalg = c->avx512_vpopcntdq = c->avx512_vnni = c->avx512_vbmi = f & F_MORE512;
    t->ctx.level = c->avx512 ? VEC_AVX512 : c->avx ? VEC_AVX : VEC_SSE;
}

static void every_op(void **state) {
    static Trial x;
    static IrInst insts[8];
    static Val val[8];
    for (unsigned i = 0; i < ARRAY_LEN(val); i++) // all are wanted
        val[i] = (Val){.root = i, .last_use = UINT32_MAX, .reg = -1};
    static V128 vconsts[1];
    Arena arena = {0};
    x.x.h = &x.ctx;
    x.x.r = &x.region;
    x.x.val = val;
    x.region.insts = insts;
    x.region.n_insts = 5;
    x.region.vconsts = vconsts;
    x.region.arena = &arena;
    x.seed = 88172645463325252ull;
    if (getenv("VEC_SEED")) x.seed = strtoull(getenv("VEC_SEED"), NULL, 0) | 1;
    unsigned rounds = getenv("VEC_ROUNDS") ? (unsigned)atoi(getenv("VEC_ROUNDS")) : 60;
    // Constants must be within reach of rip-relative operands.
    uint8_t *map =
        mmap(NULL, 65536, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(map != MAP_FAILED);
    x.pool = (V128 *)(void *)map;
    x.code = map + 4096;
    uint32_t host = host_features();
    bool verbose = getenv("VEC_VERBOSE") != NULL;
    for (unsigned l = 0; l < ARRAY_LEN(levels); l++) {
        if (levels[l].features & ~host) {
            print_message("%s: not on this machine\n", levels[l].name);
            continue;
        }
        set_level(&x, levels[l].features);
        unsigned total = 0, inline_ = 0, cold = 0;
        for (unsigned p = 0; p < ARRAY_LEN(plans); p++) {
            for (unsigned b = 0; b < ARRAY_LEN(bit_types); b++) {
                if (!(plans[p].types >> b & 1)) continue;
                unsigned left = 0, done = 0;
                for (unsigned i = 0; i < rounds * (plans[p].n_aux ? 4 : 1); i++) {
                    IrInst in;
                    IrType at[3];
                    if (!make(&x, &plans[p], bit_types[b], &in, at)) continue;
                    int how = trial(&x, &in, at, levels[l].name, ir_op_info[in.op].n_args);
                    total++, done += how != 0, left += how == 0, inline_ += how == 1,
                        cold += how == 2;
                }
                if (verbose && left)
                    print_message("%s: %s %s left to the evaluator%s\n", levels[l].name,
                                  ir_op_info[plans[p].op].name, type_name(bit_types[b]),
                                  done ? " sometimes" : "");
            }
        }
        print_message(
            "%-12s %u trials: %u inline, %u through cold code, %u left to the evaluator\n",
            levels[l].name, total, inline_, cold, total - inline_ - cold);
    }
    munmap(map, 65536);
    arena_free(&arena);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_op)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
