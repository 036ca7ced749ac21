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

enum { RDI = 7, RSI = 6, COLD_SITES = 8 };
typedef struct Area { // what the generated function works on (rdi)
    V128 arg[3], answer, out, seen[3];
    uint64_t cold;
} Area;

struct X86 {
    IrRegion region;
    uint32_t features;
    uint8_t *at, *code;
    V128 *pool;
    unsigned n_pool, n_sites;
    uint32_t used_x, used_g; // bit per register
    uint8_t reg[3];          // of the operands
    bool in_xmm[3];
    int dst;
    struct {
        uint8_t *end, *resume;
        unsigned result;
    } sites[COLD_SITES];
    uint64_t seed;
};

static uint64_t rnd(X86 *x) { // xorshift64*
    x->seed ^= x->seed >> 12, x->seed ^= x->seed << 25, x->seed ^= x->seed >> 27;
    return x->seed * 0x2545F4914F6CDD1D;
}

// ---- the core's side of the contract ----
const IrRegion *x_region(const X86 *x) {
    return &x->region;
}
uint32_t x_features(const X86 *x) {
    return x->features;
}
uint8_t **x_cursor(X86 *x) {
    return &x->at;
}
bool type_in_xmm(const X86 *x, IrType t) {
    return !ir_is_vec(t) && ir_is_float(t);
}
static unsigned take_xmm(X86 *x) {
    unsigned n = x->features & VF_AVX512 ? 32 : 16, r;
    do r = (unsigned)(rnd(x) % n);
    while (x->used_x >> r & 1);
    x->used_x |= 1u << r;
    return r;
}
static unsigned take_gpr(X86 *x) {
    static const uint8_t free_regs[] = {0, 1, 8, 9, 10, 11};
    unsigned r;
    do r = free_regs[rnd(x) % ARRAY_LEN(free_regs)];
    while (x->used_g >> r & 1);
    x->used_g |= 1u << r;
    return r;
}
unsigned vuse(X86 *x, IrRef v) {
    return x->reg[v - 1];
}
unsigned guse(X86 *x, IrRef v) {
    return x->reg[v - 1];
}
unsigned vtmp(X86 *x) {
    return take_xmm(x);
}
unsigned gtmp(X86 *x) {
    return take_gpr(x);
}
unsigned vdef(X86 *x, const IrInst *in) { // new, or shared with an operand
    unsigned k = (unsigned)(rnd(x) % 6);
    if (k < 3 && x->in_xmm[k]) return (unsigned)(x->dst = x->reg[k]);
    return (unsigned)(x->dst = (int)take_xmm(x));
}
unsigned gdef(X86 *x, const IrInst *in) {
    return (unsigned)(x->dst = (int)take_gpr(x));
}
static void raw(X86 *x, const char *hex_bytes, unsigned n) {
    memcpy(x->at, hex_bytes, n);
    x->at += n;
}
static void gpr_mem(X86 *x, bool store, unsigned reg, int32_t disp) { // mov r64, [rdi + disp]
    uint8_t b[] = {(uint8_t)(0x48 | (reg >> 3) << 2), store ? 0x89 : 0x8B,
                   (uint8_t)(0x87 | (reg & 7) << 3)};
    raw(x, (char *)b, 3);
    raw(x, (char *)&disp, 4);
}
static void xmm_mem(X86 *x, bool store, unsigned reg, int32_t disp) {
    VecLevel lv = x->features & VF_AVX512 ? VEC_AVX512 : x->features & VF_AVX ? VEC_AVX : VEC_SSE;
    x->at = vec_encode(x->at, lv, store ? V_movups_st : V_movups, reg, 0, vrm_mem(RDI, disp), 0);
}
unsigned guse_zext(X86 *x, IrRef v) {
    unsigned bits = ir_elem_bits(x->region.insts[v].type), s = x->reg[v - 1], d;
    if (bits == 64) return s;
    d = take_gpr(x);
    uint8_t b[] = {(uint8_t)(0x40 | (d >> 3) << 2 | s >> 3), 0x0F, bits == 16 ? 0xB7 : 0xB6,
                   (uint8_t)(0xC0 | (d & 7) << 3 | (s & 7))};
    if (bits == 32)
        gmov32(x, d, s);
    else
        raw(x, (char *)b, 4);
    return d;
}
VecRm vliteral(X86 *x, uint64_t lo, uint64_t hi) {
    V128 *v = &x->pool[x->n_pool++];
    v->d[0] = lo, v->d[1] = hi;
    return vrm_rip(v);
}
ColdSite cold_branch(X86 *x, unsigned cc) {
    uint8_t b[6] = {0x0F, (uint8_t)(0x80 | cc)};
    raw(x, (char *)b, 6);
    return (ColdSite){x->at};
}
void cold_eval_at(X86 *x, const IrInst *in, ColdSite site, unsigned result) {
    assert_true(x->n_sites < COLD_SITES);
    x->sites[x->n_sites].end = site.end;
    x->sites[x->n_sites].resume = x->at;
    x->sites[x->n_sites++].result = result;
}

// ---- values ----
static uint64_t some_int(X86 *x, unsigned bits) {
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
static uint64_t some_float(X86 *x, unsigned bits) {
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
static V128 some_value(X86 *x, IrType t) {
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
static bool make(X86 *x, const Plan *p, IrType t, IrInst *in, IrType at[3]) {
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

// Runs one trial. 0: the selector left it to the evaluator; 1: inline, 2: cold code was taken.
static int trial(X86 *x, const IrInst *in, const IrType at[3], const char *level, unsigned n_args) {
    Area area;
    memset(&area, 0, sizeof area);
    x->used_x = x->used_g = 0;
    x->n_pool = x->n_sites = 0;
    x->at = x->code;
    V128 args[3];
    for (unsigned i = 0; i < 3; i++) {
        args[i] = some_value(x, at[i]);
        x->region.insts[i + 1] = (IrInst){.op = IR_get, .type = at[i]};
        x->in_xmm[i] = i < n_args && (ir_is_vec(at[i]) || ir_is_float(at[i]));
        bool xmm = x->in_xmm[i];
        if (i >= n_args) continue;
        x->reg[i] = (uint8_t)(xmm ? take_xmm(x) : take_gpr(x));
        V128 v = args[i]; // what is above a scalar is unspecified
        if (!ir_is_vec(at[i])) {
            unsigned n = (ir_elem_bits(at[i]) + 7) / 8;
            if (xmm && rnd(x) & 1) { // as loads leave it
                x->region.insts[i + 1].op = IR_load;
                memset(v.b + n, 0, 16 - n);
                area.arg[i] = v;
                xmm_mem(x, false, x->reg[i], (int)offsetof(Area, arg) + 16 * (int)i);
                continue;
            }
            for (unsigned k = n; k < (xmm ? 16u : 8u); k++) v.b[k] = (uint8_t)rnd(x);
        }
        area.arg[i] = v;
        if (xmm)
            xmm_mem(x, false, x->reg[i], (int)offsetof(Area, arg) + 16 * (int)i);
        else
            gpr_mem(x, false, x->reg[i], (int)offsetof(Area, arg) + 16 * (int)i);
    }
    x->region.insts[4] = *in;
    if (!x86_sel_vec(x, &x->region.insts[4])) return 0;
    bool out_xmm = ir_is_vec(in->type) || ir_is_float(in->type);
    int out = (int)offsetof(Area, out);
    out_xmm ? xmm_mem(x, true, (unsigned)x->dst, out) : gpr_mem(x, true, (unsigned)x->dst, out);
    *x->at++ = 0xC3;
    for (unsigned i = 0; i < x->n_sites; i++) { // cold code
        int32_t rel = (int32_t)(x->at - x->sites[i].end);
        memcpy(x->sites[i].end - 4, &rel, 4);
        for (unsigned k = 0; k < n_args; k++) {
            int seen = (int)offsetof(Area, seen) + 16 * (int)k;
            x->in_xmm[k] ? xmm_mem(x, true, x->reg[k], seen) : gpr_mem(x, true, x->reg[k], seen);
        }
        uint8_t one[] = {0xFF, 0x87}; // inc dword [rdi + cold]
        int32_t at_cold = (int)offsetof(Area, cold);
        raw(x, (char *)one, 2);
        raw(x, (char *)&at_cold, 4);
        int ans = (int)offsetof(Area, answer);
        out_xmm ? xmm_mem(x, false, x->sites[i].result, ans)
                : gpr_mem(x, false, x->sites[i].result, ans);
        *x->at++ = 0xE9;
        rel = (int32_t)(x->sites[i].resume - (x->at + 4));
        raw(x, (char *)&rel, 4);
    }
    IrFpEnv env = {.mode = 0, .flags = 0, .rules = IR_FP_ARM};
    V128 want = {.d = {0, 0}};
    ir_eval(in, at[0], args, x->region.vconsts, &env, &want);
    area.answer = want;
    uint32_t csr = 0x1F80, csr_before;
    __asm__ volatile("stmxcsr %0" : "=m"(csr_before));
    __asm__ volatile("ldmxcsr %0" ::"m"(csr));
    void (*fn)(Area *);
    memcpy(&fn, &x->code, sizeof fn);
    fn(&area);
    __asm__ volatile("stmxcsr %0" : "=m"(csr));
    __asm__ volatile("ldmxcsr %0" ::"m"(csr_before));
    uint32_t flags = (csr & 1 ? IR_FPF_INVALID : 0) | (csr & 4 ? IR_FPF_DIVZERO : 0) |
                     (csr & 8 ? IR_FPF_OVERFLOW : 0) | (csr & 16 ? IR_FPF_UNDERFLOW : 0) |
                     (csr & 32 ? IR_FPF_INEXACT : 0);
    if (area.cold) flags |= env.flags;
    V128 got = area.out;
    if (in->type == IR_FLAGS) {
        uint32_t m = IR_FLAG_N | IR_FLAG_Z | IR_FLAG_C | IR_FLAG_V;
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
        bad |= memcmp(&area.seen[k], &area.arg[k], x->in_xmm[k] ? 16 : 8) != 0;
    if (bad) {
        for (unsigned k = 0; k < n_args; k++)
            print_message(
                "  arg %u (reg %u): %016llx %016llx, cold saw %016llx %016llx\n", k, x->reg[k],
                (unsigned long long)area.arg[k].d[1], (unsigned long long)area.arg[k].d[0],
                (unsigned long long)area.seen[k].d[1], (unsigned long long)area.seen[k].d[0]);
        FILE *f = fopen("/tmp/vec_fail.bin", "wb");
        if (f) {
            fwrite(x->code, 1, (size_t)(x->at - x->code), f);
            fclose(f);
        }
        fail_msg("%s %s (a %s) aux %u aux2 %u imm %lld at %s: got %016llx %016llx flags %x%s (dst "
                 "%d), want "
                 "%016llx %016llx flags %x",
                 ir_op_info[in->op].name, type_name(in->type), type_name(at[0]), in->aux, in->aux2,
                 (long long)in->imm, level, (unsigned long long)got.d[1],
                 (unsigned long long)got.d[0], flags, area.cold ? " (cold)" : "", x->dst,
                 (unsigned long long)want.d[1], (unsigned long long)want.d[0], env.flags);
    }
    return area.cold ? 2 : 1;
}

static const struct {
    const char *name;
    uint32_t features;
} levels[] = {
#define SSE4_ALL (VF_SSSE3 | VF_SSE41 | VF_SSE42)
#define AVX2_ALL (SSE4_ALL | VF_AVX | VF_AVX2 | VF_FMA | VF_F16C | VF_AES | VF_PCLMUL)
    {"sse2", 0},
    {"ssse3", VF_SSSE3},
    {"sse4", SSE4_ALL | VF_AES | VF_PCLMUL},
    {"avx", SSE4_ALL | VF_AVX},
    {"avx2", AVX2_ALL},
    {"avx2+gfni", AVX2_ALL | VF_GFNI},
    {"avx512", AVX2_ALL | VF_AVX512},
    {"avx512+all", AVX2_ALL | VF_AVX512 | VF_BITALG | VF_VBMI | VF_VNNI | VF_GFNI},
};

static uint32_t host_features(void) {
    __builtin_cpu_init();
#define F(name, bit) (__builtin_cpu_supports(name) ? (uint32_t)(bit) : 0u)
    uint32_t f = F("ssse3", VF_SSSE3) | F("sse4.1", VF_SSE41) | F("sse4.2", VF_SSE42) |
                 F("avx", VF_AVX) | F("avx2", VF_AVX2) | F("fma", VF_FMA) | F("aes", VF_AES) |
                 F("pclmul", VF_PCLMUL) | F("avx512bitalg", VF_BITALG) | F("avx512vbmi", VF_VBMI) |
                 F("avx512vnni", VF_VNNI) | F("gfni", VF_GFNI) | F("avx2", VF_F16C);
    if (F("avx512f", 1) && F("avx512vl", 1) && F("avx512bw", 1) && F("avx512dq", 1) &&
        F("avx512cd", 1))
        f |= VF_AVX512;
    return f;
}

static void every_op(void **state) {
    static X86 x;
    static IrInst insts[8];
    static V128 pool[64], vconsts[1];
    Arena arena = {0};
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
    (void)pool;
    x.pool = (V128 *)(void *)map;
    x.code = map + 4096;
    uint32_t host = host_features();
    bool verbose = getenv("VEC_VERBOSE") != NULL;
    for (unsigned l = 0; l < ARRAY_LEN(levels); l++) {
        if (levels[l].features & ~host) {
            print_message("%s: not on this machine\n", levels[l].name);
            continue;
        }
        x.features = levels[l].features;
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
