// build.c - building regions. All instructions come through ir_emit(), which folds as it appends:
// constants, identities, extensions of extensions, conditions of a known comparison, and a `get` of
// a register whose value this block has already seen. What is folded here costs no pass later, so
// cold code is tidy after lifting alone.
//
// To add a rule: put it into the fold function of its op family below. A rule may look at operands'
// definitions and may emit other instructions, must never depend on what comes later, and must give
// a value of the same type that is equal for every input (edges as in ops.def).
#include "ir/ir.h"

// ---- storage ----

static __attribute__((noinline)) void *grow_now(IrRegion *r, void *old, uint32_t n, uint32_t *cap,
                                                uint32_t want_first, size_t item) {
    uint32_t cap_new = *cap ? *cap * 2 : want_first;
    void *p = arena_alloc(r->arena, cap_new * item);
    if (!p) {
        r->failed = true;
        return NULL;
    }
    if (n) memcpy(p, old, n * item);
    *cap = cap_new;
    return p;
}

static inline void *grow(IrRegion *r, void *old, uint32_t n, uint32_t *cap, uint32_t want_first,
                         size_t item) {
    return LIKELY(n < *cap) ? old : grow_now(r, old, n, cap, want_first, item);
}

void ir_region_init(IrRegion *r, Arena *arena, const IrField *fields, uint32_t n_fields,
                    uint32_t pc_field) {
    *r = (IrRegion){.arena = arena, .fields = fields, .n_fields = n_fields, .pc_field = pc_field};
}

void ir_region_reset(IrRegion *r, uint64_t pc) {
    r->pc = pc;
    r->n_insts = 0;
    r->n_blocks = r->n_vconsts = r->n_calls = r->n_counts = 0;
    r->size_bytes = r->n_insns = r->n_exits = r->n_mem = r->n_fp = 0;
    r->fp_exact = r->fp_traps = r->hot = r->failed = false;
    r->entry_flags = 0;
    r->kept[0] = r->kept[1] = -1;
    r->insn_bytes = 0;
    // insts[0] is the IR_NOP that "no value" names
    IrInst *insts = grow(r, r->insts, 0, &r->cap_insts, 1024, sizeof *insts);
    if (!insts) return;
    r->insts = insts;
    r->insts[0] = (IrInst){.op = IR_NOP};
    r->n_insts = 1;
}

void ir_block_begin(IrRegion *r, uint64_t pc) {
    IrBlock *blocks = grow(r, r->blocks, r->n_blocks, &r->cap_blocks, 16, sizeof *blocks);
    if (!blocks) return;
    r->blocks = blocks;
    r->blocks[r->n_blocks++] = (IrBlock){.start = r->n_insts, .pc = pc};
    enum { FIRST = offsetof(IrRegion, recent_consts), LAST = offsetof(IrRegion, current) };
    memset((char *)r + FIRST, 0, LAST - FIRST + r->n_fields * sizeof *r->current);
}

void ir_block_end(IrRegion *r) {
    if (r->n_blocks) r->blocks[r->n_blocks - 1].end = r->n_insts;
}

// When the host is out of memory the region is marked failed and every instruction overwrites the
// last one, so that lifters need no checks.
static __attribute__((noinline)) void make_room(IrRegion *r) {
    IrInst *insts = grow(r, r->insts, r->n_insts, &r->cap_insts, 1024, sizeof *insts);
    if (insts)
        r->insts = insts;
    else
        r->n_insts--;
}

static inline IrRef write_inst(IrRegion *r, IrHead head, IrRef a, IrRef b, IrRef c, int64_t imm) {
    IrInst *in = &r->insts[r->n_insts];
    memcpy(in, &head, sizeof head); // as one word, not byte by byte
    in->a = a;
    in->b = b;
    in->c = c;
    in->imm = imm;
    return r->n_insts++;
}

static __attribute__((noinline)) IrRef append_with_room(IrRegion *r, IrHead head, IrRef a, IrRef b,
                                                        IrRef c, int64_t imm) {
    make_room(r);
    return write_inst(r, head, a, b, c, imm);
}

// v, or when there is none an instruction without operands. Nobody foresees which, so there is no
// branch: it is written in any case, and stays or not.
static inline IrRef known_or(IrRegion *r, IrRef v, IrHead head, int64_t imm) {
    if (UNLIKELY(r->n_insts == r->cap_insts)) make_room(r);
    IrRef n = r->n_insts, none = v ? 0 : n;
    write_inst(r, head, 0, 0, 0, imm);
    r->n_insts = n + !v;
    return v | none;
}

// Appends without folding. Inlined, so that an instruction is written field by field where it
// stays: a copy of freshly written small fields waits for them to leave the host's store buffer.
// Best the last thing that a function does: then it need not save registers for the rare call.
static inline __attribute__((always_inline)) IrRef append(IrRegion *r, IrHead head, IrRef a,
                                                          IrRef b, IrRef c, int64_t imm) {
    if (UNLIKELY(r->n_insts == r->cap_insts)) return append_with_room(r, head, a, b, c, imm);
    return write_inst(r, head, a, b, c, imm);
}

static inline void mark(IrRegion *r) {
    if (!r->insn_bytes) return;
    append(r, ir_head(IR_insn, IR_VOID, r->insn_bytes, 0), 0, 0, 0, (int64_t)r->insn_pc);
    r->insn_bytes = 0;
}

void ir_mark(IrRegion *r) {
    mark(r);
}

// Memory and what comes behind it in ops.def: hosts must have room for it, and ask at which guest
// instruction it is, but for exits.
static inline void announce_mem(IrRegion *r) {
    r->n_mem++;
    mark(r);
}

// Who takes back what a block left half-way has counted wants to find them without a walk.
static void announce_count(IrRegion *r) {
    IrRef *counts = grow(r, r->counts, r->n_counts, &r->cap_counts, 16, sizeof *counts);
    if (!counts) return;
    r->counts = counts;
    r->counts[r->n_counts++] = r->n_insts;
}

static void announce(IrRegion *r, IrOp op) {
    if (op < IR_load)
        r->n_fp += ir_op_effect[op] == IR_FLAGFP;
    else if (op == IR_exit || op == IR_exit_if || op == IR_call_hint)
        r->n_exits++;
    else if (ir_op_effect[op] == IR_MEM)
        announce_mem(r);
    else if (op == IR_count)
        announce_count(r);
    else if (op == IR_budget)
        mark(r), announce_count(r);
    else
        mark(r);
}

IrRef ir_count(IrRegion *r, uint32_t n) {
    announce_count(r);
    return append(r, IR_count, 0, 0, 0, n);
}

IrRef ir_append(IrRegion *r, IrInst in) {
    announce(r, (IrOp)in.op);
    return append(r, ir_head((IrOp)in.op, in.type, in.aux, in.aux2), in.a, in.b, in.c, in.imm);
}

// ---- constants ----

static bool is_const(const IrRegion *r, IrRef v, uint64_t value) {
    uint64_t c;
    return ir_const_value(r, v, &c) && c == (value & bits_mask(ir_elem_bits(ir_type(r, v))));
}

IrRef ir_const(IrRegion *r, IrType t, uint64_t value) {
    value &= bits_mask(ir_elem_bits(t));
    IrRef *slot = &r->recent_consts[(value ^ value >> 7 ^ t) % ARRAY_LEN(r->recent_consts)];
    const IrInst *in = &r->insts[*slot]; // insts[0] has no type
    bool same = (in->type == t) & ((uint64_t)in->imm == value);
    return *slot = known_or(r, same ? *slot : 0, ir_head(IR_const, t, 0, 0), (int64_t)value);
}

IrRef ir_vconst(IrRegion *r, IrType t, uint64_t lo, uint64_t hi) {
    uint32_t i = 0;
    while (i < r->n_vconsts && (r->vconsts[i].d[0] != lo || r->vconsts[i].d[1] != hi)) i++;
    if (i == r->n_vconsts) {
        V128 *pool = grow(r, r->vconsts, r->n_vconsts, &r->cap_vconsts, 16, sizeof *pool);
        if (!pool) return 0;
        r->vconsts = pool;
        r->vconsts[r->n_vconsts++] = (V128){.d = {lo, hi}};
    }
    return append(r, ir_head(IR_const, t, 0, 0), 0, 0, 0, i);
}

static bool fold_constants(IrRegion *r, const IrInst *in, IrRef *out) {
    const IrOpInfo *info = &ir_op_info[in->op];
    if (info->effect != IR_PURE || info->n_args == 0 || ir_is_vec(in->type) || in->type == IR_FLAGS)
        return false;
    const IrRef refs[3] = {in->a, in->b, in->c};
    V128 args[3] = {0};
    for (unsigned i = 0; i < info->n_args; i++)
        if (!ir_const_value(r, refs[i], &args[i].d[0])) return false;
    V128 value;
    IrFpEnv env = {.rules = r->fp_rules};
    ir_eval(in, ir_type(r, in->a), args, NULL, &env, &value);
    *out = ir_const(r, in->type, value.d[0]);
    return true;
}

// ---- rules ----

static bool commutes(IrOp op) {
    switch (op) {
    case IR_add:
    case IR_mul:
    case IR_and:
    case IR_or:
    case IR_xor:
    case IR_umulh:
    case IR_smulh: return true;
    default: return false;
    }
}

// A register that held x was given v, a sum of x and constants: to use x again it would have to be
// kept.
static bool has_moved_on(const IrRegion *r, IrRef v) {
    const IrInst *in = &r->insts[v];
    uint64_t c;
    while (in->op == IR_add && ir_const_value(r, in->b, &c)) in = &r->insts[in->a];
    if (in->op == IR_trunc) in = &r->insts[in->a];
    if (in->op != IR_get) return false;
    IrRef now = r->current[in->imm];
    return now == v || (r->insts[now].op == IR_zext && r->insts[now].a == v);
}

// x op constant, and x op x.
static IrRef fold_arith(IrRegion *r, const IrInst *in) {
    uint64_t ones = bits_mask(ir_elem_bits(in->type)), c;
    bool known = ir_const_value(r, in->b, &c);
    switch (in->op) {
    case IR_add: return known ? ir_add_const(r, in->a, c) : 0;
    case IR_sub:
        if (in->a == in->b) return ir_const(r, in->type, 0);
        if (known && c == 0) return in->a;
        if (known) return ir_add_const(r, in->a, 0 - c);
        if (is_const(r, in->a, 0)) return ir_emit(r, IR_neg, in->type, in->b, 0, 0, 0, 0, 0);
        return 0;
    case IR_and:
        if (in->a == in->b || (known && c == ones)) return in->a;
        if (known && c == 0) return in->b;
        return 0;
    case IR_or:
        if (in->a == in->b || (known && c == 0)) return in->a;
        if (known && c == ones) return in->b;
        return 0;
    case IR_xor:
        if (in->a == in->b) return ir_const(r, in->type, 0);
        if (known && c == 0) return in->a;
        if (known && c == ones) return ir_emit(r, IR_not, in->type, in->a, 0, 0, 0, 0, 0);
        return 0;
    case IR_andn:
        if (in->a == in->b) return ir_const(r, in->type, 0);
        if (known)
            return ir_emit(r, IR_and, in->type, in->a, ir_const(r, in->type, ~c), 0, 0, 0, 0);
        return 0;
    case IR_mul:
        if (known && c == 1) return in->a;
        if (known && c == 0) return in->b;
        if (known && (c & (c - 1)) == 0)
            return ir_emit(r, IR_shl, in->type, in->a, ir_const(r, in->type, __builtin_ctzll(c)), 0,
                           0, 0, 0);
        return 0;
    case IR_shl:
    case IR_shr:
    case IR_sar:
    case IR_ror: return known && c % ir_elem_bits(in->type) == 0 ? in->a : 0;
    default: return 0;
    }
}

// True when the bits of v from `bits` up are known to be zero.
static bool zero_above(const IrRegion *r, IrRef v, unsigned bits) {
    const IrInst *in = &r->insts[v];
    uint64_t c;
    switch (in->op) {
    case IR_zext: return ir_elem_bits(ir_type(r, in->a)) <= bits;
    case IR_load: return !(in->aux2 & IR_SEXT) && ir_bytes(in->aux) * 8 <= bits;
    case IR_and: return ir_const_value(r, in->b, &c) && (c & ~bits_mask(bits)) == 0;
    case IR_shr:
        return ir_const_value(r, in->b, &c) &&
               ir_elem_bits(in->type) - c % ir_elem_bits(in->type) <= bits;
    case IR_const: return ((uint64_t)in->imm & ~bits_mask(bits)) == 0;
    default: return false;
    }
}

static IrRef fold_convert(IrRegion *r, const IrInst *in) {
    const IrInst *d = &r->insts[in->a];
    if (d->type == in->type) return in->a;
    unsigned bits = ir_elem_bits(in->type);
    switch (in->op) {
    case IR_zext:
        if (d->op == IR_zext) return ir_emit(r, IR_zext, in->type, d->a, 0, 0, 0, 0, 0);
        // zext(trunc(x)) where x had no higher bits anyway
        if (d->op == IR_trunc && ir_type(r, d->a) == in->type &&
            zero_above(r, d->a, ir_elem_bits(d->type)))
            return d->a;
        return 0;
    case IR_sext:
        if (d->op == IR_zext) return ir_emit(r, IR_zext, in->type, d->a, 0, 0, 0, 0, 0);
        if (d->op == IR_sext) return ir_emit(r, IR_sext, in->type, d->a, 0, 0, 0, 0, 0);
        return 0;
    case IR_trunc:
        if (d->op == IR_trunc) return ir_emit(r, IR_trunc, in->type, d->a, 0, 0, 0, 0, 0);
        if (d->op == IR_zext || d->op == IR_sext) {
            unsigned from = ir_elem_bits(ir_type(r, d->a));
            if (from == bits) return d->a;
            IrOp op = from > bits ? IR_trunc : (IrOp)d->op;
            return ir_emit(r, op, in->type, d->a, 0, 0, 0, 0, 0);
        }
        return 0;
    default: // bitcast
        return d->op == IR_bitcast && ir_type(r, d->a) == in->type ? d->a : 0;
    }
}

static IrRef fold_select(IrRegion *r, const IrInst *in) {
    uint64_t p;
    if (ir_const_value(r, in->a, &p)) return p ? in->b : in->c;
    if (in->b == in->c) return in->b;
    const IrInst *d = &r->insts[in->a];
    if (d->op == IR_not) return ir_emit(r, IR_select, in->type, d->a, in->c, in->b, 0, 0, 0);
    if (in->type != IR_I1) return 0;
    if (is_const(r, in->c, 0)) return ir_and(r, in->a, in->b);
    if (is_const(r, in->b, 1)) return ir_or(r, in->a, in->c);
    if (is_const(r, in->b, 0)) return ir_and(r, ir_not(r, in->a), in->c);
    if (is_const(r, in->c, 1)) return ir_or(r, ir_not(r, in->a), in->b);
    return 0;
}

static IrRef fold_not(IrRegion *r, const IrInst *in) {
    const IrInst *d = &r->insts[in->a];
    if (d->op == IR_not) return d->a;
    if (in->type != IR_I1) return 0;
    if (d->op == IR_icmp) return ir_emit(r, IR_icmp, IR_I1, d->a, d->b, 0, d->aux ^ 1, 0, 0);
    if (d->op == IR_fcmp) return ir_emit(r, IR_fcmp, IR_I1, d->a, d->b, 0, d->aux ^ 1, d->aux2, 0);
    if (d->op == IR_cond && d->aux < IR_C_AL)
        return ir_emit(r, IR_cond, IR_I1, d->a, 0, 0, d->aux ^ 1, 0, 0);
    return 0;
}

// Lane 0 of a vector that was just made of a scalar.
static IrRef fold_lane(IrRegion *r, const IrInst *in) {
    const IrInst *d = &r->insts[in->a];
    if (in->op == IR_vget) {
        if (d->op == IR_vlow && in->imm * ir_elem_bits(in->type) < 64)
            return ir_emit(r, IR_vget, in->type, d->a, 0, 0, 0, 0, in->imm);
        if (in->imm != 0 || (d->op != IR_vzext && d->op != IR_splat)) return 0;
        IrType from = ir_type(r, d->a);
        if (from == in->type) return d->a;
        if (ir_elem_bits(from) != ir_elem_bits(in->type)) return 0;
        return ir_emit(r, IR_bitcast, in->type, d->a, 0, 0, 0, 0, 0);
    }
    // vlow of what has no high half
    if (d->op == IR_vlow || (d->op == IR_vzext && ir_elem_bits(ir_type(r, d->a)) <= 64))
        return in->a;
    return 0;
}

static IrRef fold_icmp(IrRegion *r, const IrInst *in) {
    if (ir_const_value(r, in->a, &(uint64_t){0}) && !ir_const_value(r, in->b, &(uint64_t){0})) {
        static const uint8_t swapped[] = {IR_EQ,  IR_NE,  IR_UGT, IR_ULE, IR_UGE,
                                          IR_ULT, IR_SGT, IR_SLE, IR_SGE, IR_SLT};
        return ir_emit(r, IR_icmp, IR_I1, in->b, in->a, 0, swapped[in->aux], 0, 0);
    }
    if (in->a == in->b) {
        bool or_equal = in->aux == IR_EQ || in->aux == IR_UGE || in->aux == IR_ULE ||
                        in->aux == IR_SGE || in->aux == IR_SLE;
        return ir_const(r, IR_I1, or_equal);
    }
    return 0;
}

// Those that fold() knows.
static const bool has_rules[IR_OP_COUNT] = {
    [IR_add] = true,    [IR_sub] = true,  [IR_and] = true,  [IR_or] = true,    [IR_xor] = true,
    [IR_andn] = true,   [IR_mul] = true,  [IR_shl] = true,  [IR_shr] = true,   [IR_sar] = true,
    [IR_ror] = true,    [IR_zext] = true, [IR_sext] = true, [IR_trunc] = true, [IR_bitcast] = true,
    [IR_select] = true, [IR_not] = true,  [IR_vget] = true, [IR_vlow] = true,  [IR_icmp] = true,
    [IR_clz] = true,
};

static IrRef fold(IrRegion *r, const IrInst *in) {
    switch (in->op) {
    case IR_add:
    case IR_sub:
    case IR_and:
    case IR_or:
    case IR_xor:
    case IR_andn:
    case IR_mul:
    case IR_shl:
    case IR_shr:
    case IR_sar:
    case IR_ror: return ir_is_vec(in->type) ? 0 : fold_arith(r, in);
    case IR_zext:
    case IR_sext:
    case IR_trunc:
    case IR_bitcast: return fold_convert(r, in);
    case IR_select: return fold_select(r, in);
    case IR_not: return fold_not(r, in);
    case IR_vget:
    case IR_vlow: return fold_lane(r, in);
    case IR_icmp: return fold_icmp(r, in);
    case IR_clz: { // of the bits reversed: trailing zeros
        const IrInst *d = &r->insts[in->a];
        return d->op == IR_rbit && !ir_is_vec(in->type) ? ir_op1(r, IR_ctz, in->type, d->a) : 0;
    }
    default: return 0;
    }
}

static inline IrInst inst_of(IrHead head, IrRef a, IrRef b, IrRef c, int64_t imm) {
    IrInst in = {.a = a, .b = b, .c = c, .imm = imm};
    memcpy(&in, &head, sizeof head);
    return in;
}

// Of an op that has rules, or of a constant.
static __attribute__((noinline)) IrRef emit_folded(IrRegion *r, IrHead head, IrRef a, IrRef b,
                                                   IrRef c, int64_t imm) {
    uint64_t k;
    bool constant = r->insts[a].op == IR_const;
    if (constant && commutes((IrOp)(head & 255)) && ir_const_value(r, a, &k) &&
        !ir_const_value(r, b, &k)) {
        IrRef first = a;
        a = b;
        b = first;
        constant = false;
    }
    IrInst in = inst_of(head, a, b, c, imm);
    IrRef v;
    if (constant && fold_constants(r, &in, &v)) return v;
    if ((v = fold(r, &in))) return v;
    return append(r, head, a, b, c, imm);
}

// What has effects, or raises FP flags.
static __attribute__((noinline)) IrRef emit_announced(IrRegion *r, IrHead head, IrRef a, IrRef b,
                                                      IrRef c, int64_t imm) {
    announce(r, (IrOp)(head & 255));
    return append(r, head, a, b, c, imm);
}

IrRef ir_emit_head(IrRegion *r, IrHead head, IrRef a, IrRef b, IrRef c, int64_t imm) {
    IrOp op = (IrOp)(head & 255);
    if (ir_op_effect[op] != IR_PURE) return emit_announced(r, head, a, b, c, imm);
    if (has_rules[op] || r->insts[a].op == IR_const) return emit_folded(r, head, a, b, c, imm);
    if (op > IR_load) return emit_announced(r, head, a, b, c, imm);
    return append(r, head, a, b, c, imm);
}

IrRef ir_icmp(IrRegion *r, IrCc cc, IrRef a, IrRef b) {
    IrHead head = ir_head(IR_icmp, IR_I1, cc, 0);
    bool rules = r->insts[a].op == IR_const || a == b;
    return rules ? emit_folded(r, head, a, b, 0, 0) : append(r, head, a, b, 0, 0);
}

IrRef ir_add_const(IrRegion *r, IrRef v, uint64_t k) {
    const IrInst *in = &r->insts[v];
    IrType t = in->type;
    if (in->op == IR_const) return ir_const(r, t, (uint64_t)in->imm + k);
    if (!(k & bits_mask(ir_elem_bits(t)))) return v;
    IrRef a = v, c = 0;
    if (in->op == IR_add && r->insts[in->b].op == IR_const && !has_moved_on(r, v)) { // (x + c) + k
        a = in->a;
        c = ir_const(r, t, (uint64_t)r->insts[in->b].imm + k);
        if (!r->insts[c].imm) return a;
    } else {
        c = ir_const(r, t, k);
    }
    return append(r, ir_head(IR_add, t, 0, 0), a, c, 0, 0);
}

// ---- guest state ----

// The register's value as another type of the same size; v is what is known of it, or 0.
static IrRef get_whole(IrRegion *r, unsigned field, IrType full, IrType t, IrRef v) {
    if (!v) v = r->current[field] = append(r, ir_head(IR_get, full, 0, 0), 0, 0, 0, field);
    return ir_type(r, v) == t || ir_is_vec(t) || t == IR_FLAGS ? v : ir_op1(r, IR_bitcast, t, v);
}

// What is known as another type, or not known and wanted as another than it has.
static __attribute__((noinline)) IrRef get_as(IrRegion *r, unsigned field, IrType t) {
    IrRef v = r->current[field];
    IrType full = r->fields[field].type;
    if (ir_bytes(t) == ir_bytes(full)) return get_whole(r, field, full, t, v);
    if (ir_is_vec(full)) {
        if (v) return ir_emit(r, IR_vget, t, v, 0, 0, 0, 0, 0);
        return append(r, ir_head(IR_get, t, 0, 0), 0, 0, 0, field);
    }
    const IrInst *in = &r->insts[v = get_whole(r, field, full, full, v)];
    if (in->op == IR_get) return append(r, ir_head(IR_trunc, t, 0, 0), v, 0, 0, 0);
    if (in->op == IR_zext && ir_type(r, in->a) == t) return in->a;
    return ir_op1(r, IR_trunc, t, v);
}

IrRef ir_get(IrRegion *r, unsigned field, IrType t) {
    IrRef v = r->current[field];
    uint8_t of_known = ir_type(r, v), full = r->fields[field].type;
    if ((v ? of_known : full) != t) return get_as(r, field, t);
    return r->current[field] = known_or(r, v, ir_head(IR_get, t, 0, 0), field);
}

void ir_put(IrRegion *r, unsigned field, IrRef v) {
    if (r->current[field] == v) return; // it has that value already
    r->current[field] = v;
    append(r, IR_put, v, 0, 0, field);
}

// ---- memory and helpers ----

static __attribute__((noinline)) IrRef access_marked(IrRegion *r, IrHead head, IrRef addr, IrRef v,
                                                     int64_t disp) {
    announce_mem(r);
    return append(r, head, addr, v, 0, disp);
}

// These are so many that a mark for each would be a tenth of all: it stays to be made.
IrRef ir_access(IrRegion *r, IrHead head, IrRef addr, IrRef v, int64_t disp) {
    uint64_t behind = r->insn_pc - r->pc;
    if (UNLIKELY(behind >= IR_MAX_BEHIND)) return access_marked(r, head, addr, v, disp);
    r->n_mem++;
    return append(r, head, addr, v, r->insn_bytes ? (IrRef)behind + 1 : 0, disp);
}

IrRef ir_cas(IrRegion *r, IrType t, IrType mem, unsigned mem_flags, IrRef addr, IrRef expected,
             IrRef desired) {
    announce_mem(r);
    return append(r, ir_head(IR_cas, t, mem, mem_flags), addr, expected, desired, 0);
}

IrRef ir_rmw(IrRegion *r, IrType t, IrType mem, unsigned mem_flags, IrRmw op, IrRef addr, IrRef v) {
    announce_mem(r);
    return append(r, ir_head(IR_rmw, t, mem, mem_flags), addr, v, 0, op);
}

IrRef ir_call(IrRegion *r, IrType t, const IrHelper *h, unsigned n_args, const IrRef *args,
              uint64_t imm) {
    IrCall *calls = grow(r, r->calls, r->n_calls, &r->cap_calls, 8, sizeof *calls);
    if (!calls) return 0;
    r->calls = calls;
    IrCall *c = &r->calls[r->n_calls];
    *c = (IrCall){.helper = h, .n_args = n_args, .imm = imm};
    for (unsigned i = 0; i < n_args; i++) c->args[i] = args[i];
    announce_mem(r);
    IrRef v = append(r, ir_head(IR_call, t, 0, 0), 0, 0, 0, r->n_calls++);
    if (h->writes_state) memset(r->current, 0, sizeof r->current);
    return v;
}

// ---- conditions ----

// The result value of the operation whose flags these are, if the lifter emitted it nearby; else 0.
static IrRef known_result(IrRegion *r, IrOp op, IrRef flags) {
    enum { NEARBY = 8 };
    const IrInst f = r->insts[flags];
    uint64_t c;
    bool negated = op == IR_sub && ir_const_value(r, f.b, &c); // fold_arith makes it an add
    uint64_t minus_c = negated ? (0 - c) & bits_mask(ir_elem_bits(ir_type(r, f.a))) : 0;
    for (IrRef i = MIN(flags + NEARBY, r->n_insts - 1); i > 0 && i + NEARBY > flags; i--) {
        const IrInst *in = &r->insts[i];
        uint64_t k;
        if (in->op != (negated ? IR_add : op) || in->a != f.a) continue;
        if (negated ? ir_const_value(r, in->b, &k) && k == minus_c : in->b == f.b) return i;
    }
    return 0;
}

static IrRef find_result(IrRegion *r, IrOp op, IrRef flags) {
    const IrInst f = r->insts[flags];
    IrRef v = known_result(r, op, flags);
    return v ? v : ir_emit(r, op, ir_type(r, f.a), f.a, f.b, 0, 0, 0, 0);
}

static IrRef cond_sub(IrRegion *r, IrCond cc, IrRef flags) {
    static const int8_t table[] = {
        [IR_C_EQ] = IR_EQ,  [IR_C_NE] = IR_NE,  [IR_C_CS] = IR_UGE, [IR_C_CC] = IR_ULT,
        [IR_C_MI] = -1,     [IR_C_PL] = -1,     [IR_C_VS] = -2,     [IR_C_VC] = -2,
        [IR_C_HI] = IR_UGT, [IR_C_LS] = IR_ULE, [IR_C_GE] = IR_SGE, [IR_C_LT] = IR_SLT,
        [IR_C_GT] = IR_SGT, [IR_C_LE] = IR_SLE};
    const IrInst f = r->insts[flags];
    IrRef result = cc <= IR_C_NE ? known_result(r, IR_sub, flags) : 0;
    if (result) // the operands need not live until here then
        return ir_icmp(r, (IrCc)table[cc], result, ir_const(r, ir_type(r, result), 0));
    if (table[cc] >= 0) return ir_icmp(r, (IrCc)table[cc], f.a, f.b);
    if (table[cc] == -2) return 0;
    IrRef v = find_result(r, IR_sub, flags);
    return ir_icmp(r, cc == IR_C_MI ? IR_SLT : IR_SGE, v, ir_const(r, ir_type(r, v), 0));
}

static IrRef cond_add(IrRegion *r, IrCond cc, IrRef flags) {
    if (cc > IR_C_PL) return 0;
    const IrInst f = r->insts[flags];
    IrRef v = find_result(r, IR_add, flags);
    IrRef zero = ir_const(r, ir_type(r, v), 0);
    switch (cc) {
    case IR_C_EQ: return ir_icmp(r, IR_EQ, v, zero);
    case IR_C_NE: return ir_icmp(r, IR_NE, v, zero);
    case IR_C_CS: return ir_icmp(r, IR_ULT, v, f.a);
    case IR_C_CC: return ir_icmp(r, IR_UGE, v, f.a);
    case IR_C_MI: return ir_icmp(r, IR_SLT, v, zero);
    default: return ir_icmp(r, IR_SGE, v, zero);
    }
}

static IrRef cond_logic(IrRegion *r, IrCond cc, IrRef flags) {
    IrRef v = r->insts[flags].a;
    IrRef zero = ir_const(r, ir_type(r, v), 0);
    switch (cc) {
    case IR_C_EQ: return ir_icmp(r, IR_EQ, v, zero);
    case IR_C_NE: return ir_icmp(r, IR_NE, v, zero);
    case IR_C_MI:
    case IR_C_LT: return ir_icmp(r, IR_SLT, v, zero);
    case IR_C_PL:
    case IR_C_GE: return ir_icmp(r, IR_SGE, v, zero);
    case IR_C_GT: return ir_icmp(r, IR_SGT, v, zero);
    case IR_C_LE: return ir_icmp(r, IR_SLE, v, zero);
    default: return ir_const(r, IR_I1, cc == IR_C_CC || cc == IR_C_VC || cc == IR_C_LS);
    }
}

static IrRef cond_fcmp(IrRegion *r, IrCond cc, IrRef flags) {
    static const uint8_t table[] = {
        [IR_C_EQ] = IR_OEQ,   [IR_C_NE] = IR_UNE,   [IR_C_CS] = IR_UGE_F, [IR_C_CC] = IR_OLT,
        [IR_C_MI] = IR_OLT,   [IR_C_PL] = IR_UGE_F, [IR_C_VS] = IR_UNO,   [IR_C_VC] = IR_ORD,
        [IR_C_HI] = IR_UGT_F, [IR_C_LS] = IR_OLE,   [IR_C_GE] = IR_OGE,   [IR_C_LT] = IR_ULT_F,
        [IR_C_GT] = IR_OGT,   [IR_C_LE] = IR_ULE_F};
    const IrInst f = r->insts[flags];
    return ir_emit(r, IR_fcmp, IR_I1, f.a, f.b, 0, table[cc], f.aux, 0);
}

static bool cond_of_nzcv(IrCond cc, unsigned nzcv) { // N Z C V in bits 3..0
    bool n = nzcv & 8, z = nzcv & 4, c = nzcv & 2, v = nzcv & 1, yes;
    switch (cc >> 1) {
    case 0: yes = z; break;
    case 1: yes = c; break;
    case 2: yes = n; break;
    case 3: yes = v; break;
    case 4: yes = c && !z; break;
    case 5: yes = n == v; break;
    case 6: yes = n == v && !z; break;
    default: return true;
    }
    return yes != (cc & 1);
}

IrRef ir_cond(IrRegion *r, IrCond cc, IrRef flags) {
    if (cc >= IR_C_AL) return ir_const(r, IR_I1, 1);
    const IrInst f = r->insts[flags];
    IrRef v = 0;
    uint64_t k;
    switch (f.op) {
    case IR_fl_sub: v = cond_sub(r, cc, flags); break;
    case IR_fl_add: v = cond_add(r, cc, flags); break;
    case IR_fl_logic: v = cond_logic(r, cc, flags); break;
    case IR_fl_fcmp: v = cond_fcmp(r, cc, flags); break;
    case IR_fl_pack:
        if (ir_const_value(r, f.a, &k)) v = ir_const(r, IR_I1, cond_of_nzcv(cc, k >> 28 & 15));
        break;
    case IR_select: {
        IrRef yes = ir_cond(r, cc, f.b), no = ir_cond(r, cc, f.c);
        v = ir_select(r, f.a, yes, no);
        break;
    }
    default: break;
    }
    return v ? v : ir_emit(r, IR_cond, IR_I1, flags, 0, 0, cc, 0, 0);
}

// ---- leaving ----

IrRef ir_exit_if(IrRegion *r, IrRef cond, uint64_t pc) {
    uint64_t k;
    if (ir_const_value(r, cond, &k) && !k) return 0;
    r->n_exits++;
    return append(r, IR_exit_if, cond, 0, 0, (int64_t)pc);
}

void ir_exit(IrRegion *r, uint64_t pc) {
    r->n_exits++;
    append(r, IR_exit, 0, 0, 0, (int64_t)pc);
}

void ir_call_hint(IrRegion *r, IrRef back) {
    r->n_exits++;
    append(r, IR_call_hint, back, 0, 0, 0);
}

void ir_exit_ind(IrRegion *r, IrJumpKind kind, IrRef pc) {
    append(r, ir_head(IR_exit_ind, IR_VOID, kind, 0), pc, 0, 0, 0);
}

void ir_trap(IrRegion *r, IrTrap kind, unsigned value, uint64_t pc) {
    mark(r);
    append(r, ir_head(IR_trap, IR_VOID, kind, value), 0, 0, 0, (int64_t)pc);
}

// ---- what is known at entry ----

static IrRef flags_operand(IrRegion *r, const IrFlagsOperand *o, IrType t) {
    if (o->field < 0) return ir_const(r, t, o->value);
    IrType full = r->fields[o->field].type;
    if (ir_is_float(t) && ir_is_vec(full)) return ir_get(r, (unsigned)o->field, t);
    IrType whole = t == IR_F64 ? IR_I64 : t == IR_F32 ? IR_I32 : t;
    IrRef v = ir_get(r, (unsigned)o->field, full);
    if (full != whole) v = ir_op1(r, IR_trunc, whole, v);
    return t == whole ? ir_add(r, v, ir_const(r, t, o->value)) : ir_op1(r, IR_bitcast, t, v);
}

typedef struct Operands {
    IrRef a, b; // b: 0 when there is none
} Operands;

static Operands operands_of(IrRegion *r, const IrFlagsCompare *c) {
    IrType t = c->width == 64 ? IR_I64 : IR_I32;
    if (c->op == IR_fl_fcmp) t = c->width == 64 ? IR_F64 : IR_F32;
    Operands o = {.a = flags_operand(r, &c->a, t), .b = c->has_b ? flags_operand(r, &c->b, t) : 0};
    if (c->a.plus_b) o.a = ir_add(r, o.a, o.b);
    return o;
}

void ir_make_flags(IrRegion *r, const IrFlagsMade *made) {
    Operands of = operands_of(r, &made->of);
    if (made->of.op == IR_fl_logic && of.b) of = (Operands){.a = ir_and(r, of.a, of.b)};
    IrRef flags = ir_op2(r, (IrOp)made->of.op, IR_FLAGS, of.a, of.b);
    if (made->conditional) {
        Operands when = operands_of(r, &made->when);
        IrRef other = ir_op1(r, IR_fl_pack, IR_FLAGS, ir_const(r, IR_I32, made->otherwise));
        IrRef holds = ir_icmp(r, (IrCc)made->cc, when.a, when.b);
        flags = ir_select(r, holds, flags, other);
    }
    ir_put(r, made->flags, flags);
    r->entry_flags = r->n_insts - 1;
    r->entry_made = *made;
}
