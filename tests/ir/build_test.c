// build_test.c - the builder folds, and what it folds means the same.
//
// Two halves. `rules` names the folds one by one: an expression and the shape it must get.
// `random_*` build random expressions of every op and type that can fold, from registers, loads and
// corner constants, and compare two evaluations on random and corner inputs: that of the expression
// as it was asked for (a list of Nodes, each by ir_eval on its operands), and that of the region
// that the builder made of it. A wrong rule shows as a difference, printed with its region.
//
// To test a new rule: a line in `rules`; and if its op is not drawn in random_node(), a case there.
#include "ir/text.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

enum { X0, X1, W0, B0, H0, V0, V1, FLAGS, PC, N_FIELDS };
static const IrField fields[N_FIELDS] = {
    {"x0", 0, IR_I64, -1, -1},   {"x1", 8, IR_I64, -1, -1},    {"w0", 16, IR_I32, -1, -1},
    {"b0", 20, IR_I8, -1, -1},   {"h0", 22, IR_I16, -1, -1},   {"v0", 32, IR_V128, -1, -1},
    {"v1", 48, IR_V128, -1, -1}, {"fl", 64, IR_FLAGS, -1, -1}, {"pc", 72, IR_I64, -1, -1},
};

typedef struct Fixture {
    Arena arena;
    IrRegion r;
} Fixture;

static int set_up(void **state) {
    Fixture *f = calloc(1, sizeof *f);
    ir_region_init(&f->r, &f->arena, fields, N_FIELDS, PC);
    *state = f;
    return f ? 0 : -1;
}
static int tear_down(void **state) {
    Fixture *f = *state;
    arena_free(&f->arena);
    free(f);
    return 0;
}

static IrRegion *begin(void **state) {
    IrRegion *r = &((Fixture *)*state)->r;
    ir_region_reset(r, 0x1000);
    ir_block_begin(r, 0x1000);
    ir_insn(r, 0x1000, 4);
    return r;
}

static void finish(IrRegion *r) {
    DgmErr err;
    ir_exit(r, 0x1004);
    ir_block_end(r);
    assert_false(r->failed);
    if (!ir_verify(r, &err)) fail_msg("%s", err.text);
}

// ---- the rules, one by one ----

static void shape_of(const IrRegion *r, IrRef v, Buf *out) {
    const IrInst *in = ir_at(r, v);
    const IrRef args[3] = {in->a, in->b, in->c};
    uint64_t k;
    if (ir_const_value(r, v, &k)) {
        buf_printf(out, "0x%" PRIx64, k);
        return;
    }
    if (in->op == IR_get) {
        buf_printf(out, "%s", fields[in->imm].name);
        return;
    }
    buf_printf(out, "%s", ir_op_info[in->op].name);
    const char *word = ir_text_enum(ir_text_of((IrOp)in->op).aux, in->aux);
    if (word) buf_printf(out, ".%s", word);
    buf_printf(out, "(");
    for (unsigned i = 0; i < ir_op_info[in->op].n_args; i++) {
        if (i) buf_printf(out, " ");
        shape_of(r, args[i], out);
    }
    buf_printf(out, ")");
}

static void check_shape(const IrRegion *r, IrRef v, const char *want, int line) {
    Buf got = {0};
    shape_of(r, v, &got);
    bool same = !strcmp(got.data, want);
    if (!same) print_error("line %d: %s, expected %s\n", line, got.data, want);
    buf_free(&got);
    assert_true(same);
}
#define IS(expression, want) check_shape(r, expression, want, __LINE__)

static void arithmetic_rules(void **state) {
    IrRegion *r = begin(state);
    IrRef x = ir_get(r, X0, IR_I64), y = ir_get(r, X1, IR_I64), w = ir_get(r, W0, IR_I32);
#define K(value) ir_const(r, IR_I64, value)
    IS(ir_add(r, x, K(0)), "x0");
    IS(ir_add(r, K(0), x), "x0");
    IS(ir_add(r, K(7), x), "add(x0 0x7)");
    IS(ir_add(r, ir_add(r, x, K(5)), K(~0ull)), "add(x0 0x4)");
    IS(ir_add(r, ir_add(r, x, K(5)), K(-5ull)), "x0");
    IS(ir_add(r, ir_sub(r, w, ir_const(r, IR_I32, 1)), ir_const(r, IR_I32, 1)), "w0");
    IS(ir_sub(r, x, x), "0x0");
    IS(ir_sub(r, x, K(0)), "x0");
    IS(ir_sub(r, w, ir_const(r, IR_I32, 1)), "add(w0 0xffffffff)");
    IS(ir_sub(r, K(0), x), "neg(x0)");
    IS(ir_mul(r, x, K(1)), "x0");
    IS(ir_mul(r, x, K(0)), "0x0");
    IS(ir_mul(r, K(8), x), "shl(x0 0x3)");
    IS(ir_mul(r, x, K(1ull << 63)), "shl(x0 0x3f)");
    IS(ir_mul(r, x, K(6)), "mul(x0 0x6)");
    IS(ir_mul(r, K(6), K(7)), "0x2a");
    IS(ir_udiv(r, K(6), K(0)), "0x0");
    IS(ir_udiv(r, x, y), "udiv(x0 x1)");
    finish(r);
}

static void bit_rules(void **state) {
    IrRegion *r = begin(state);
    IrRef x = ir_get(r, X0, IR_I64), w = ir_get(r, W0, IR_I32);
    IS(ir_and(r, x, x), "x0");
    IS(ir_and(r, x, K(~0ull)), "x0");
    IS(ir_and(r, K(0), x), "0x0");
    IS(ir_and(r, w, ir_const(r, IR_I32, ~0ull)), "w0");
    IS(ir_or(r, x, x), "x0");
    IS(ir_or(r, x, K(0)), "x0");
    IS(ir_or(r, x, K(~0ull)), "0xffffffffffffffff");
    IS(ir_xor(r, x, x), "0x0");
    IS(ir_xor(r, x, K(0)), "x0");
    IS(ir_xor(r, x, K(~0ull)), "not(x0)");
    IS(ir_andn(r, x, x), "0x0");
    IS(ir_andn(r, x, K(0xff)), "and(x0 0xffffffffffffff00)");
    IS(ir_not(r, ir_not(r, x)), "x0");
    IS(ir_shl(r, x, K(64)), "x0"); // modulo the width
    IS(ir_shr(r, w, ir_const(r, IR_I32, 32)), "w0");
    IS(ir_sar(r, x, K(0)), "x0");
    IS(ir_ror(r, x, K(128)), "x0");
    IS(ir_clz(r, ir_rbit(r, x)), "ctz(x0)");
    finish(r);
}

static void conversion_rules(void **state) {
    IrRegion *r = begin(state);
    IrRef x = ir_get(r, X0, IR_I64), b = ir_get(r, B0, IR_I8), w = ir_get(r, W0, IR_I32);
#define TO(op, t, v) ir_op1(r, IR_##op, IR_##t, v)
    IS(TO(zext, I64, TO(zext, I32, b)), "zext(b0)");
    IS(TO(sext, I64, TO(sext, I32, b)), "sext(b0)");
    IS(TO(sext, I64, TO(zext, I32, b)), "zext(b0)");
    IS(TO(zext, I64, TO(sext, I32, b)), "zext(sext(b0))");
    IS(TO(trunc, I8, TO(trunc, I32, x)), "trunc(x0)");
    IS(TO(trunc, I8, TO(sext, I64, b)), "b0");
    IS(TO(trunc, I16, TO(sext, I64, b)), "sext(b0)");
    IS(TO(trunc, I8, TO(zext, I64, w)), "trunc(w0)");
    IS(TO(zext, I64, TO(trunc, I32, x)), "zext(trunc(x0))");
    IS(TO(zext, I64, TO(trunc, I32, TO(zext, I64, b))), "zext(b0)");
    IrRef masked = ir_and(r, x, K(0xffff)), shifted = ir_shr(r, x, K(32));
    IS(TO(zext, I64, TO(trunc, I32, masked)), "and(x0 0xffff)");
    IS(TO(zext, I64, TO(trunc, I8, masked)), "zext(trunc(and(x0 0xffff)))");
    IS(TO(zext, I64, TO(trunc, I32, shifted)), "shr(x0 0x20)");
    IS(TO(zext, I64, TO(trunc, I16, shifted)), "zext(trunc(shr(x0 0x20)))");
    IS(TO(bitcast, I64, TO(bitcast, F64, x)), "x0");
    IS(TO(sext, I64, ir_const(r, IR_I8, 0x80)), "0xffffffffffffff80");
    IrRef v = ir_get(r, V0, IR_V128);
    IS(TO(vget, I64, TO(vzext, I64X2, x)), "x0");
    IS(TO(vget, F64, TO(splat, I64X2, x)), "bitcast(x0)");
    IS(TO(vget, I32, TO(vzext, I64X2, x)), "vget(vzext(x0))");
    IS(TO(vget, I32, TO(vlow, I64X2, v)), "vget(v0)");
    IS(ir_emit(r, IR_vget, IR_I32, TO(vlow, I64X2, v), 0, 0, 0, 0, 2), "vget(vlow(v0))");
    IS(TO(vlow, I64X2, TO(vlow, I64X2, v)), "vlow(v0)");
    IS(TO(vlow, I64X2, TO(vzext, I64X2, x)), "vzext(x0)");
    finish(r);
}

static void condition_rules(void **state) {
    IrRegion *r = begin(state);
    IrRef x = ir_get(r, X0, IR_I64), y = ir_get(r, X1, IR_I64), fl = ir_get(r, FLAGS, IR_FLAGS);
    IrRef p = ir_icmp(r, IR_ULT, x, y), q = ir_icmp(r, IR_EQ, x, y);
    IrRef yes = ir_const(r, IR_I1, 1), no = ir_const(r, IR_I1, 0);
    IS(ir_icmp(r, IR_ULT, K(5), x), "icmp.ugt(x0 0x5)");
    IS(ir_icmp(r, IR_SGE, K(5), x), "icmp.sle(x0 0x5)");
    IS(ir_icmp(r, IR_ULE, x, x), "0x1");
    IS(ir_icmp(r, IR_SLT, x, x), "0x0");
    IS(ir_icmp(r, IR_SLT, K(~0ull), K(0)), "0x1");
    IS(ir_not(r, p), "icmp.uge(x0 x1)");
    IS(ir_select(r, yes, x, y), "x0");
    IS(ir_select(r, no, x, y), "x1");
    IS(ir_select(r, p, x, x), "x0");
    IS(ir_select(r, p, q, no), "and(icmp.ult(x0 x1) icmp.eq(x0 x1))");
    IS(ir_select(r, p, yes, q), "or(icmp.ult(x0 x1) icmp.eq(x0 x1))");
    IS(ir_select(r, p, no, q), "and(icmp.uge(x0 x1) icmp.eq(x0 x1))");
    IS(ir_select(r, p, q, yes), "or(icmp.uge(x0 x1) icmp.eq(x0 x1))");
    IS(ir_cond(r, IR_C_HI, fl), "cond.hi(fl)");
    IS(ir_not(r, ir_cond(r, IR_C_HI, fl)), "cond.ls(fl)");
    IS(ir_cond(r, IR_C_NV, fl), "0x1");
    IrRef sub = ir_emit(r, IR_fl_sub, IR_FLAGS, x, y, 0, 0, 0, 0);
    IS(ir_cond(r, IR_C_GT, sub), "icmp.sgt(x0 x1)");
    IS(ir_cond(r, IR_C_MI, sub), "icmp.slt(sub(x0 x1) 0x0)");
    IrRef logic = ir_emit(r, IR_fl_logic, IR_FLAGS, x, 0, 0, 0, 0, 0);
    IS(ir_cond(r, IR_C_LE, logic), "icmp.sle(x0 0x0)");
    IS(ir_cond(r, IR_C_CS, logic), "0x0");
    IrRef pack = ir_op1(r, IR_fl_pack, IR_FLAGS, ir_const(r, IR_I32, 0x40000000));
    IS(ir_cond(r, IR_C_EQ, pack), "0x1");
    IS(ir_cond(r, IR_C_CS, pack), "0x0");
    assert_int_equal(ir_exit_if(r, no, 0x2000), 0);
    finish(r);
}

// Registers: what a block knows of them costs no second `get`, and no `put` of what is there.
static void register_rules(void **state) {
    IrRegion *r = begin(state);
    IrRef x = ir_get(r, X0, IR_I64);
    assert_int_equal(ir_get(r, X0, IR_I64), x);
    uint32_t n = r->n_insts;
    ir_put(r, X0, x);
    assert_int_equal(r->n_insts, n);
    IrRef y = ir_get(r, X1, IR_I64);
    ir_put(r, X0, y);
    assert_int_equal(ir_get(r, X0, IR_I64), y);
    IS(ir_get(r, X0, IR_I32), "trunc(x1)");
    IS(ir_get(r, X0, IR_F64), "bitcast(x1)");
    ir_put(r, V0, ir_op1(r, IR_vzext, IR_I64X2, y));
    IS(ir_get(r, V0, IR_I64), "x1");
    ir_exit(r, 0x2000);
    ir_block_end(r);
    ir_block_begin(r, 0x2000); // another block knows nothing
    IrRef again = ir_get(r, X0, IR_I64);
    assert_int_not_equal(again, y);
    finish(r);
}

// ---- random expressions ----

enum { MAX_NODES = 48, REGIONS = 30000, INPUTS = 12 };

typedef enum NodeKind {
    NODE_REGISTER,
    NODE_CONST,
    NODE_VCONST,
    NODE_LOAD,
    NODE_OP,
    NODE_COND
} NodeKind;
typedef struct Node { // what was asked of the builder
    NodeKind kind;
    IrInst in;  // operands are indices of nodes
    V128 value; // constants; else of the last evaluation
    IrRef ref;  // what the builder gave
} Node;

typedef struct Gen {
    uint64_t x;
    IrRegion *r;
    Node nodes[MAX_NODES];
    unsigned n;
    V128 regs[N_FIELDS], loaded; // the inputs
    V128 *values;                // of the region's instructions
} Gen;

static uint64_t next_random(Gen *g) {
    g->x ^= g->x << 13, g->x ^= g->x >> 7, g->x ^= g->x << 17;
    return g->x;
}
static unsigned below(Gen *g, unsigned n) {
    return (unsigned)(next_random(g) >> 20) % n;
}

static uint64_t corner(Gen *g) {
    uint64_t x = next_random(g);
    switch (below(g, 12)) {
    case 0: return 0;
    case 1: return 1;
    case 2: return ~0ull;
    case 3: return 1ull << below(g, 64);
    case 4: return bits_mask(1 + below(g, 64));
    case 5: return ~bits_mask(1 + below(g, 63));
    case 6: return below(g, 130); // amounts of shifts
    case 7: return 0x8000000080008080ull;
    case 8: return 0x7fffffff7fff7f7full;
    case 9: return 0x7ff000007f800000ull; // infinities; a signalling NaN with more
    case 10: return x >> below(g, 64);
    default: return x;
    }
}

static Node *add_node(Gen *g, NodeKind kind, IrInst in, IrRef ref) {
    Node *node = &g->nodes[g->n++];
    *node = (Node){.kind = kind, .in = in, .ref = ref};
    return node;
}

// A node of this type, made anew when there is none (n must leave room).
static unsigned operand(Gen *g, IrType t);

static unsigned add_op(Gen *g, IrOp op, IrType t, const unsigned args[3], unsigned aux,
                       unsigned aux2, int64_t imm) {
    IrRef refs[3] = {0};
    for (unsigned i = 0; i < ir_op_info[op].n_args; i++) refs[i] = g->nodes[args[i]].ref;
    IrInst in = {.op = op,
                 .type = t,
                 .aux = aux,
                 .aux2 = aux2,
                 .a = args[0],
                 .b = args[1],
                 .c = args[2],
                 .imm = imm};
    IrRef v = ir_emit(g->r, op, t, refs[0], refs[1], refs[2], aux, aux2, imm);
    add_node(g, NODE_OP, in, v);
    return g->n - 1;
}

static unsigned add_register(Gen *g, unsigned field) {
    IrInst in = {.op = IR_get, .type = fields[field].type, .imm = field};
    add_node(g, NODE_REGISTER, in, ir_get(g->r, field, in.type));
    return g->n - 1;
}

static unsigned add_const(Gen *g, IrType t) {
    IrInst in = {.op = IR_const, .type = t};
    uint64_t lo = corner(g), hi = corner(g);
    if (ir_is_vec(t)) {
        add_node(g, NODE_VCONST, in, ir_vconst(g->r, t, lo, hi))->value = (V128){.d = {lo, hi}};
    } else {
        lo &= bits_mask(ir_elem_bits(t));
        add_node(g, NODE_CONST, in, ir_const(g->r, t, lo))->value = (V128){.d = {lo, 0}};
    }
    return g->n - 1;
}

static unsigned fresh(Gen *g, IrType t) {
    static const IrType bits_type[] = {[2] = IR_I16, [4] = IR_I32, [8] = IR_I64};
    if (t == IR_FLAGS) return add_register(g, FLAGS);
    if (t == IR_I1) {
        unsigned args[3] = {add_register(g, B0), 0, 0};
        return add_op(g, IR_trunc, IR_I1, args, 0, 0, 0);
    }
    if (below(g, 2)) return add_const(g, t);
    if (ir_is_vec(t)) return add_register(g, V0 + below(g, 2));
    if (ir_is_float(t)) {
        unsigned args[3] = {fresh(g, bits_type[ir_bytes(t)]), 0, 0};
        return add_op(g, IR_bitcast, t, args, 0, 0, 0);
    }
    return add_register(g, t == IR_I8    ? B0
                           : t == IR_I16 ? H0
                           : t == IR_I32 ? W0
                                         : X0 + below(g, 2));
}

static unsigned operand(Gen *g, IrType t) {
    if (below(g, 4)) {
        for (unsigned tries = 0; tries < 12; tries++) { // the younger the likelier
            unsigned i = g->n - 1 - below(g, 1 + below(g, g->n));
            IrType is = g->nodes[i].in.type;
            if (is == t || (ir_is_vec(is) && ir_is_vec(t))) return i;
        }
    }
    return fresh(g, t);
}

static IrType pick(Gen *g, const IrType *types, unsigned n) {
    return types[below(g, n)];
}
static const IrType ints[] = {IR_I8, IR_I16, IR_I32, IR_I64, IR_I32, IR_I64},
                    words[] = {IR_I32, IR_I64}, floats[] = {IR_F32, IR_F64, IR_F16},
                    vectors[] = {IR_I8X16, IR_I16X8, IR_I32X4, IR_I64X2};

static void random_arith(Gen *g) {
    static const IrOp binary[] = {IR_add,  IR_sub, IR_mul, IR_and, IR_or,  IR_xor,
                                  IR_andn, IR_shl, IR_shr, IR_sar, IR_ror, IR_add},
                      wide[] = {IR_umulh, IR_smulh, IR_udiv, IR_sdiv},
                      unary[] = {IR_neg, IR_not, IR_clz, IR_ctz, IR_rbit, IR_bswap, IR_abs},
                      logic[] = {IR_and, IR_or, IR_xor, IR_andn, IR_not};
    IrType t = pick(g, ints, ARRAY_LEN(ints));
    IrOp op = binary[below(g, ARRAY_LEN(binary))];
    switch (below(g, 8)) {
    case 0:
        op = wide[below(g, ARRAY_LEN(wide))];
        t = pick(g, words, 2);
        break;
    case 1:
        op = unary[below(g, ARRAY_LEN(unary))];
        t = pick(g, words, 2);
        break;
    case 2:
        op = logic[below(g, ARRAY_LEN(logic))];
        t = IR_I1;
        break;
    case 3:
        op = binary[below(g, 7)];
        t = pick(g, vectors, ARRAY_LEN(vectors));
        if (op == IR_mul && t == IR_I8X16) t = IR_I16X8;
        break;
    default: break;
    }
    unsigned args[3] = {operand(g, t), operand(g, t), 0};
    if (!below(g, 12)) args[1] = args[0];
    add_op(g, op, t, args, 0, 0, 0);
}

static void random_conversion(Gen *g) {
    static const IrType order[] = {IR_I1, IR_I8, IR_I16, IR_I32, IR_I64};
    static const IrType same_width[][2] = {{IR_I16, IR_F16}, {IR_I32, IR_F32}, {IR_I64, IR_F64}};
    unsigned narrow = below(g, 4), wider = narrow + 1 + below(g, 4 - narrow), k = below(g, 3);
    IrType from = order[narrow], to = order[wider];
    IrOp op = below(g, 2) ? IR_zext : IR_sext;
    unsigned flip = below(g, 2);
    switch (below(g, 5)) {
    case 0:
    case 1:
        op = IR_trunc;
        from = order[wider];
        to = order[narrow];
        break;
    case 2:
        op = IR_bitcast;
        from = same_width[k][flip];
        to = same_width[k][!flip];
        break;
    case 3:
        op = below(g, 2) ? IR_fneg : IR_fabs;
        from = to = floats[k];
        break;
    default: break;
    }
    unsigned args[3] = {operand(g, from), 0, 0};
    add_op(g, op, to, args, 0, 0, 0);
}

static void random_lanes(Gen *g) {
    static const IrType scalars[] = {IR_I8, IR_I16, IR_I32, IR_I64, IR_F32, IR_F64};
    IrType s = pick(g, scalars, ARRAY_LEN(scalars)), v = ir_vec_of(ir_elem(s));
    unsigned lane = below(g, 2) ? 0 : below(g, ir_lanes(v));
    unsigned args[3] = {0};
    switch (below(g, 6)) {
    case 0:
    case 1:
        args[0] = operand(g, v);
        add_op(g, IR_vget, s, args, 0, 0, lane);
        break;
    case 2:
        args[0] = operand(g, s);
        add_op(g, IR_vzext, v, args, 0, 0, 0);
        break;
    case 3:
        args[0] = operand(g, s);
        add_op(g, IR_splat, v, args, 0, 0, 0);
        break;
    case 4:
        args[0] = operand(g, v);
        args[1] = operand(g, s);
        add_op(g, IR_vset, v, args, 0, 0, lane);
        break;
    default:
        args[0] = operand(g, v);
        add_op(g, IR_vlow, v, args, 0, 0, 0);
        break;
    }
}

static void random_flags(Gen *g) {
    static const IrOp makers[] = {IR_fl_add, IR_fl_sub, IR_fl_sub, IR_fl_adc, IR_fl_logic};
    IrType t = pick(g, words, 2);
    unsigned args[3] = {operand(g, t), operand(g, t), 0};
    switch (below(g, 5)) {
    case 0:
        args[0] = operand(g, IR_I32);
        add_op(g, IR_fl_pack, IR_FLAGS, args, 0, 0, 0);
        break;
    case 1:
        t = floats[below(g, 2)];
        args[0] = operand(g, t);
        args[1] = operand(g, t);
        add_op(g, IR_fl_fcmp, IR_FLAGS, args, below(g, 2), 0, 0);
        break;
    case 2:
        args[0] = operand(g, IR_FLAGS);
        add_op(g, IR_fl_unpack, IR_I32, args, 0, 0, 0);
        break;
    default: {
        IrOp op = makers[below(g, ARRAY_LEN(makers))];
        if (op == IR_fl_adc) args[2] = operand(g, IR_I1);
        add_op(g, op, IR_FLAGS, args, 0, 0, 0);
        // the result beside the flags, as lifters have it
        if (op != IR_fl_logic && below(g, 2))
            add_op(g, op == IR_fl_sub ? IR_sub : IR_add, t, args, 0, 0, 0);
        break;
    }
    }
}

static void random_condition(Gen *g) {
    unsigned args[3] = {0};
    IrType t = below(g, 6) ? pick(g, words, 2) : pick(g, ints, ARRAY_LEN(ints));
    switch (below(g, 6)) {
    case 0:
        t = floats[below(g, 2)];
        args[0] = operand(g, t);
        args[1] = operand(g, t);
        add_op(g, IR_fcmp, IR_I1, args, below(g, IR_UNO + 1), below(g, 2), 0);
        break;
    case 1:
    case 2: {
        unsigned flags = operand(g, IR_FLAGS);
        IrCond cc = (IrCond)below(g, 16);
        IrInst in = {.op = IR_cond, .type = IR_I1, .aux = cc, .a = flags};
        add_node(g, NODE_COND, in, ir_cond(g->r, cc, g->nodes[flags].ref));
        break;
    }
    default:
        args[0] = operand(g, t);
        args[1] = below(g, 10) ? operand(g, t) : args[0];
        add_op(g, IR_icmp, IR_I1, args, below(g, IR_SGT + 1), 0, 0);
        break;
    }
}

static void random_select(Gen *g) {
    static const IrType types[] = {IR_I1, IR_I32, IR_I64, IR_FLAGS, IR_F64, IR_I8X16};
    IrType t = pick(g, types, ARRAY_LEN(types));
    unsigned args[3] = {operand(g, IR_I1), operand(g, t), operand(g, t)};
    if (t == IR_I1 && below(g, 2)) args[1 + below(g, 2)] = add_const(g, IR_I1);
    if (!below(g, 10)) args[0] = add_const(g, IR_I1);
    add_op(g, IR_select, t, args, 0, 0, 0);
}

static void random_load(Gen *g) {
    static const IrType narrow[] = {IR_I8, IR_I16, IR_I32};
    IrType mem = pick(g, narrow, 3), t = mem == IR_I32 ? IR_I64 : pick(g, words, 2);
    unsigned addr = operand(g, IR_I64), how = below(g, 3) ? 0 : IR_SEXT;
    IrInst in = {.op = IR_load, .type = t, .aux = mem, .aux2 = how};
    add_node(g, NODE_LOAD, in, ir_load(g->r, t, mem, how, g->nodes[addr].ref, 0));
}

static void random_node(Gen *g) {
    switch (below(g, 12)) {
    case 0:
    case 1: random_conversion(g); break;
    case 2:
    case 3: random_lanes(g); break;
    case 4: random_flags(g); break;
    case 5:
    case 6: random_condition(g); break;
    case 7: random_select(g); break;
    case 8: random_load(g); break;
    default: random_arith(g); break;
    }
}

// ---- the two evaluations ----

static V128 loaded_value(const Gen *g, const IrInst *in) {
    unsigned bits = ir_elem_bits(in->aux);
    uint64_t raw = bits_get(g->loaded.d[0], 0, bits);
    if (in->aux2 & IR_SEXT) raw = (uint64_t)bits_sext(raw, bits);
    return (V128){.d = {raw & bits_mask(ir_elem_bits(in->type)), 0}};
}

static V128 eval_node(const Gen *g, const Node *node) {
    const IrInst *in = &node->in;
    if (node->kind == NODE_CONST || node->kind == NODE_VCONST) return node->value;
    if (node->kind == NODE_REGISTER) return g->regs[in->imm];
    if (node->kind == NODE_LOAD) return loaded_value(g, in);
    const uint32_t refs[3] = {in->a, in->b, in->c};
    V128 args[3] = {0}, out;
    for (unsigned i = 0; i < ir_op_info[in->op].n_args; i++) args[i] = g->nodes[refs[i]].value;
    IrFpEnv env = {0};
    ir_eval(in, g->nodes[in->a].in.type, args, NULL, &env, &out);
    return out;
}

static void eval_region(Gen *g) {
    const IrRegion *r = g->r;
    for (IrRef v = 1; v < r->n_insts; v++) {
        const IrInst *in = ir_at(r, v);
        const IrRef refs[3] = {in->a, in->b, in->c};
        V128 args[3] = {0};
        IrFpEnv env = {0};
        if (in->type == IR_VOID) continue;
        if (in->op == IR_get) {
            g->values[v] = g->regs[in->imm];
        } else if (in->op == IR_load) {
            g->values[v] = loaded_value(g, in);
        } else if (in->op == IR_const) {
            g->values[v] =
                ir_is_vec(in->type) ? r->vconsts[in->imm] : (V128){.d = {(uint64_t)in->imm, 0}};
        } else {
            for (unsigned i = 0; i < ir_op_info[in->op].n_args; i++) args[i] = g->values[refs[i]];
            ir_eval(in, ir_type(r, in->a), args, r->vconsts, &env, &g->values[v]);
        }
    }
}

static bool same_value(IrType t, const V128 *a, const V128 *b) {
    if (t == IR_FLAGS)
        return ir_flags_to_nzcv((uint32_t)a->d[0]) == ir_flags_to_nzcv((uint32_t)b->d[0]);
    return a->d[0] == b->d[0] && a->d[1] == b->d[1];
}

static void new_inputs(Gen *g) {
    for (unsigned i = 0; i < N_FIELDS; i++) {
        uint64_t lo = corner(g) & bits_mask(ir_bytes(fields[i].type) * 8);
        if (fields[i].type == IR_FLAGS) lo = ir_flags_from_nzcv((uint32_t)(next_random(g) >> 32));
        g->regs[i] = (V128){.d = {lo, ir_is_vec(fields[i].type) ? corner(g) : 0}};
    }
    if (!below(g, 4)) g->regs[X1] = g->regs[X0]; // else two are never equal
    g->loaded.d[0] = corner(g);
}

static void compare(Gen *g, unsigned region) {
    eval_region(g);
    for (unsigned i = 0; i < g->n; i++) {
        Node *node = &g->nodes[i];
        node->value = eval_node(g, node);
        const V128 *got = &g->values[node->ref];
        if (same_value(node->in.type, &node->value, got)) continue;
        Buf text = {0};
        ir_print(g->r, &text);
        print_error("%s\n", text.data);
        fail_msg("region %u: %s became %%%u: %#" PRIx64 ":%#" PRIx64 ", expected %#" PRIx64
                 ":%#" PRIx64,
                 region, ir_op_info[node->in.op].name, node->ref, got->d[1], got->d[0],
                 node->value.d[1], node->value.d[0]);
    }
}

static void random_expressions(void **state) {
    static Gen g;
    unsigned folded = 0, asked = 0;
    g.x = 0x9e3779b97f4a7c15ull;
    for (unsigned region = 0; region < REGIONS; region++) {
        g.r = begin(state);
        g.n = 0;
        add_register(&g, X0);
        while (g.n < MAX_NODES - 8) random_node(&g);
        finish(g.r);
        for (unsigned i = 0; i < g.n; i++) { // a value folds to one of the same type
            IrType is = ir_type(g.r, g.nodes[i].ref), was = g.nodes[i].in.type;
            if (is != was && !(ir_is_vec(is) && ir_is_vec(was)))
                fail_msg("region %u: %s changed its type", region,
                         ir_op_info[g.nodes[i].in.op].name);
            const IrInst *in = ir_at(g.r, g.nodes[i].ref);
            asked += g.nodes[i].kind == NODE_OP;
            folded += g.nodes[i].kind == NODE_OP && in->op != g.nodes[i].in.op;
        }
        g.values = calloc(g.r->n_insts, sizeof *g.values);
        for (unsigned k = 0; k < INPUTS; k++) {
            new_inputs(&g);
            compare(&g, region);
        }
        free(g.values);
    }
    assert_true(folded > asked / 20); // else the expressions test nothing
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(arithmetic_rules, set_up, tear_down),
        cmocka_unit_test_setup_teardown(bit_rules, set_up, tear_down),
        cmocka_unit_test_setup_teardown(conversion_rules, set_up, tear_down),
        cmocka_unit_test_setup_teardown(condition_rules, set_up, tear_down),
        cmocka_unit_test_setup_teardown(register_rules, set_up, tear_down),
        cmocka_unit_test_setup_teardown(random_expressions, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
