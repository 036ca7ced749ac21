// analyse.c - the backward pass: what is dead, where values are used last, what is fused, and which
// home a value would best be made in. One walk; the forward pass relies on every decision made here
// and must make the same uses (a use that is not announced here may find its value gone).
#include "host/x86_64/x86.h"

enum { NO_POS = 0x7fffffff, FUSE_LOOK_BACK = 8 };

typedef struct Walk {
    X86 *x;
    const IrRegion *r;
    Val *val;            // x's
    const IrInst *insts; // r's
    uint32_t epoch;      // changes at every point where guest state must be exact
    uint32_t barrier;    // position of the nearest such point behind
    // Of condition flags, up to where they are made anew: whether a side exit or a fault may ask
    // for them, and which fields are written before the last that may.
    bool made_anew, asked;
    uint64_t changed[2];
    struct {
        uint32_t dead_epoch; // the field is written again in this epoch before it is read
        uint32_t get_pos;    // nearest get behind, 0: none
        uint32_t put_pos;    // the put that a hint is about
    } field[IR_MAX_FIELDS];
} Walk;

bool x86_zero_upper(const IrRegion *r, IrRef v) {
    const IrInst *in = &r->insts[v];
    if (in->type == IR_I1) return true;
    if (in->type != IR_I32) return false;
    switch (in->op) {
    case IR_trunc:
    case IR_call:
    case IR_get:
    case IR_bitcast: return false;
    default: return true;
    }
}

// Value 0, which is none, is used too: nobody asks whether.
static inline void use_at(Val *val, uint32_t at) {
    val->last_use = MAX(val->last_use, at);
}
static void use(Walk *w, IrRef v, uint32_t at) {
    use_at(&w->val[v], at);
}
static bool used(const Walk *w, IrRef v) {
    return w->val[v].last_use;
}

static bool is_scalar_const(const IrRegion *r, IrRef v, int64_t *out) {
    uint64_t c;
    if (!ir_const_value(r, v, &c)) return false;
    *out = bits_sext(c, ir_elem_bits(ir_type(r, v)));
    return true;
}

// An address that is an add made for this access alone: its operands go into the addressing mode.
static __attribute__((noinline)) bool fuse_sum(Walk *w, uint32_t i, const IrInst *in,
                                               const IrInst *add) {
    if (add->type != IR_I64 || used(w, in->a)) return false;
    if (i - in->a > FUSE_LOOK_BACK) return false;
    for (uint32_t k = in->a + 1; k < i; k++)
        if (w->insts[k].op == IR_put) return false;
    int64_t c;
    bool displacement = is_scalar_const(w->r, add->b, &c);
    if (displacement && c + in->imm != (int32_t)(c + in->imm)) return false;
    w->val[i].flags |= VAL_FUSED_ADDR;
    use(w, add->a, i);
    if (displacement) return true;
    const IrInst *shl = &w->insts[add->b];
    int64_t n;
    if (shl->op == IR_shl && is_scalar_const(w->r, shl->b, &n) && n >= 0 && n <= 3)
        use(w, shl->a, i);
    else
        use(w, add->b, i);
    return true;
}

static inline bool fuse_address(Walk *w, uint32_t i, const IrInst *in) {
    const IrInst *add = &w->insts[in->a];
    return add->op == IR_add && fuse_sum(w, i, in, add);
}

bool x86_compares(const IrRegion *r, const IrInst *icmp) {
    IrType t = ir_type(r, icmp->a); // upper bits of I8 and I16 may hold anything, those of I1 are 0
    return t == IR_I32 || t == IR_I64 || (t == IR_I1 && icmp->aux < IR_SLT);
}

bool x86_test_fuses(const IrRegion *r, IrRef v) {
    const IrInst *in = &r->insts[v];
    return in->op == IR_and && (in->type == IR_I32 || in->type == IR_I64);
}

// The operands of an `and` of which only the flags are wanted; else the value.
static void use_flags(Walk *w, uint32_t i, IrRef v) {
    const IrInst *in = &w->insts[v];
    if (!x86_test_fuses(w->r, v) || used(w, v)) {
        use(w, v, i);
        return;
    }
    use(w, in->a, i);
    use(w, in->b, i);
}

// A comparison that only this exit_if or select needs (or that is cheap to make again).
static void use_condition(Walk *w, uint32_t i, IrRef v) {
    const IrInst *c = &w->insts[v];
    bool can = c->op == IR_icmp ? x86_compares(w->r, c) : c->op == IR_fcmp || c->op == IR_cond;
    if (can && !used(w, v)) {
        w->val[i].flags |= VAL_FUSED_COND;
        w->val[v].flags |= VAL_ABSORBED;
        int64_t zero;
        if (c->op == IR_icmp && is_scalar_const(w->r, c->b, &zero) && !zero)
            use_flags(w, i, c->a);
        else
            use(w, c->a, i);
        if (c->op != IR_cond) use(w, c->b, i);
        return;
    }
    use(w, v, i);
}

static bool compares(const Walk *w, const IrInst *fl) {
    IrType t = ir_type(w->r, fl->a);
    if (fl->op == IR_fl_fcmp) return (t == IR_F32 || t == IR_F64) && !w->r->fp_exact;
    return (fl->op == IR_fl_sub || fl->op == IR_fl_logic) && (t == IR_I32 || t == IR_I64);
}

// CCMP: a comparison's flags under a condition that is a comparison too, else constant ones.
static bool compares_when(const Walk *w, const IrInst *select) {
    const IrInst *when = &w->insts[select->a], *fl = &w->insts[select->b],
                 *other = &w->insts[select->c];
    uint64_t c;
    IrType t = when->op == IR_icmp ? ir_type(w->r, when->a) : IR_VOID;
    return (t == IR_I32 || t == IR_I64) && fl->op == IR_fl_sub && compares(w, fl) &&
           !used(w, select->b) && other->op == IR_fl_pack && ir_const_value(w->r, other->a, &c);
}

static void use_compared(Walk *w, uint32_t i, const IrInst *fl) {
    if (fl->op == IR_fl_logic) {
        use_flags(w, i, fl->a);
    } else {
        use(w, fl->a, i);
        use(w, fl->b, i);
    }
}

static bool changes(const Walk *w, const IrFlagsOperand *o) {
    return o->field >= 0 && w->changed[o->field >> 6] >> (o->field & 63) & 1;
}

// Those that the block is entered with: it is known which registers say them.
static bool may_sink_entry(Walk *w, uint32_t i) {
    const IrFlagsMade *m = &w->r->entry_made;
    if (changes(w, &m->of.a) || (m->of.has_b && changes(w, &m->of.b))) return false;
    if (m->conditional && (changes(w, &m->when.a) || changes(w, &m->when.b))) return false;
    w->x->sunk[w->x->n_sunk++] = (SunkFlags){.put = i, .made = *m, .located = true};
    return true;
}

// A put of flags that sunk_flags.c may leave out. It makes them itself if it cannot.
static bool may_sink(Walk *w, uint32_t i, const IrInst *fl) {
    X86 *x = w->x;
    if (!w->made_anew || !w->asked || x->n_sunk == MAX_SUNK || used(w, w->insts[i].a)) return false;
    if (i == w->r->entry_flags && may_sink_entry(w, i)) return true;
    bool conditional = fl->op == IR_select && compares_when(w, fl);
    if (!conditional && !compares(w, fl)) return false;
    x->sunk[x->n_sunk++] = (SunkFlags){.put = i, .changed = {w->changed[0], w->changed[1]}};
    if (conditional) {
        w->val[w->insts[i].a].flags |= VAL_FUSED_COND;
        use_compared(w, i, &w->insts[fl->a]);
        fl = &w->insts[fl->b];
    }
    use_compared(w, i, fl);
    return true;
}

// A side exit or an access: it asks for flags, but so that they can be made then.
static void asks(Walk *w) {
    w->asked = w->made_anew;
}

// Somebody reads flags where none can be made: those made before stay.
static void flags_wanted(Walk *w) {
    w->made_anew = w->asked = false;
}

static void barrier(Walk *w, uint32_t i) {
    w->epoch++;
    w->barrier = i;
}

static bool visit_put_flags(Walk *w, uint32_t i, const IrInst *in) {
    unsigned f = (unsigned)in->imm;
    if (i == w->r->entry_flags) { // what a comparison of floats raises was raised where it was made
        w->val[in->a].flags |= VAL_ABSORBED;
        if (w->x->may_loop) { // interrupted here
            barrier(w, i);
            asks(w);
        }
    }
    if (w->field[f].dead_epoch == w->epoch) return false;
    w->field[f].dead_epoch = w->epoch;
    if (!may_sink(w, i, &w->insts[in->a])) use(w, in->a, i);
    w->made_anew = true;
    w->asked = false;
    w->changed[0] = w->changed[1] = 0;
    return true;
}

// A register that changes by a constant still says what it was (x86_flags_follow).
static bool adds_constant(const Walk *w, unsigned field, IrRef v) {
    const IrInst *in = &w->insts[v];
    if (in->op == IR_zext) in = &w->insts[in->a];
    uint64_t c;
    bool is32 = in->type == IR_I32, sum = false;
    for (; in->op == IR_add && ir_const_value(w->r, in->b, &c); sum = true) in = &w->insts[in->a];
    if (in->op == IR_trunc && is32) in = &w->insts[in->a];
    return sum && in->op == IR_get && in->imm == (int64_t)field;
}

// A load that a vector register can take as it is, for a lodging that alone wants it.
static bool loaded_whole(const Walk *w, IrRef v) {
    const IrInst *in = &w->insts[v];
    if (in->op == IR_zext) in = &w->insts[in->a];
    return in->op == IR_load && in->aux == in->type && (in->type == IR_I64 || in->type == IR_I32);
}

// False when the value is written again before anybody looks.
static inline bool visit_put(Walk *w, Val *val, uint32_t i, const IrInst *in) {
    unsigned f = (unsigned)in->imm, kind = w->x->h->field_kind[f];
    if (kind & FIELD_FLAGS) return visit_put_flags(w, i, in);
    if (w->asked && !(w->r->hot && adds_constant(w, f, in->a)))
        w->changed[f >> 6] |= 1ull << (f & 63);
    if (w->field[f].dead_epoch == w->epoch) return false;
    w->field[f].dead_epoch = w->epoch;
    Val *v = &val[in->a];
    use_at(v, i);
    if (w->x->h->home_of_field[f] >= 0 && kind == x86_in_vec(w->insts[in->a].type)) {
        v->hint = (int8_t)f;
        v->flags &= (uint8_t)~VAL_WEAK_HINT;
        w->field[f].put_pos = i;
    } else if (w->x->h->lodging_of_field[f] >= 0 && v->last_use == i && loaded_whole(w, in->a)) {
        v->hint = (int8_t)f;
        w->field[f].put_pos = i;
    }
    return true;
}

// A hint is good when nothing between the value and its put looks at the register.
static inline void settle_hint(Walk *w, Val *val, uint32_t i) {
    Val *v = &val[i];
    if (v->hint < 0) return;
    uint32_t put = w->field[v->hint].put_pos;
    bool seen = (w->barrier > i && w->barrier < put) ||
                (w->field[v->hint].get_pos > i && w->field[v->hint].get_pos < put);
    if (seen) v->hint = -1;
}

// Values that live in their operand's register: the operand lives as long, and wants the same home.
bool x86_shares_register(const X86 *x, const IrInst *in) {
    const IrRegion *r = x->r;
    switch (in->op) {
    case IR_trunc: return in->type != IR_I1;
    case IR_zext: return x86_zero_upper(r, in->a);
    case IR_bitcast: return x86_in_vec(in->type) == x86_in_vec(ir_type(r, in->a));
    case IR_vzext: return ir_is_float(ir_type(r, in->a)) && upper_zero(x, in->a);
    default: return false;
    }
}

// The operand is best made where the result goes.
static inline void hint_operand(const Val *result, Val *operand) {
    if (result->hint < 0 || operand->hint >= 0) return;
    operand->hint = result->hint;
    operand->flags |= VAL_WEAK_HINT;
}

// fma of fneg: hosts have an instruction for each combination of signs.
static void use_fma(Walk *w, uint32_t i, const IrInst *in) {
    X86 *x = w->x;
    const IrInst *a = &w->insts[in->a], *c = &w->insts[in->c];
    bool can = x->h->cpu.fma && !w->r->fp_exact && ir_elem(in->type) != IR_F16;
    bool neg_a = can && a->op == IR_fneg, neg_c = can && c->op == IR_fneg;
    x->val[i].flags |= (neg_a ? VAL_NEG_A : 0) | (neg_c ? VAL_NEG_C : 0);
    use(w, neg_a ? a->a : in->a, i);
    use(w, in->b, i);
    IrRef addend = neg_c ? c->a : in->c;
    use(w, addend, i);
    hint_operand(&x->val[i], &x->val[addend]);
}

// Right before a shift down this takes low bits of it, so that a rotation does as well.
static bool takes_low_bits(const Walk *w, uint32_t i, const IrInst *in) {
    const IrInst *shr = &w->insts[in->a];
    uint64_t n;
    return in->op == IR_trunc && shr->op == IR_shr && i - in->a == 1 && !used(w, in->a) &&
           ir_const_value(w->r, shr->b, &n) &&
           n + ir_elem_bits(in->type) <= ir_elem_bits(shr->type);
}

static bool visit_shared(Walk *w, uint32_t i, const IrInst *in) {
    if (!x86_shares_register(w->x, in)) return false;
    Val *from = &w->val[in->a], *v = &w->val[i];
    if (takes_low_bits(w, i, in)) from->flags |= VAL_LOW_BITS;
    use(w, in->a, MAX(v->last_use, i));
    if (from->hint < 0 || (from->flags & VAL_WEAK_HINT && v->hint >= 0)) from->hint = v->hint;
    return true;
}

static void visit_operands(Walk *w, uint32_t i, const IrInst *in) {
    switch (in->op) {
    case IR_exit_if:
    case IR_call_if:
    case IR_br: use_condition(w, i, in->a); return;
    case IR_select:
        use_condition(w, i, in->a);
        use(w, in->b, i);
        use(w, in->c, i);
        return;
    case IR_call: {
        const IrCall *c = &w->r->calls[in->imm];
        for (unsigned k = 0; k < c->n_args; k++) use(w, c->args[k], i);
        return;
    }
    case IR_fma: use_fma(w, i, in); return;
    case IR_fl_logic: use_flags(w, i, in->a); return;
    default: break;
    }
    if (visit_shared(w, i, in)) return;
    use(w, in->a, i);
    use(w, in->b, i);
    use(w, in->c, i);
}

static inline void visit_get(Walk *w, Val *val, uint32_t i, const IrInst *in) {
    settle_hint(w, val, i);
    if (in->type == IR_FLAGS) flags_wanted(w);
    w->field[in->imm].get_pos = i;
    w->field[in->imm].dead_epoch = 0;
}

static inline void visit_access(Walk *w, Val *val, uint32_t i, const IrInst *in) {
    settle_hint(w, val, i);
    barrier(w, i);
    asks(w);
    if (in->aux2 & (IR_ALIGNED | IR_WITHIN16)) flags_wanted(w); // may trap
    if (!fuse_address(w, i, in)) use_at(&val[in->a], i);
    use_at(&val[in->b], i);
}

static void visit_exit(Walk *w, uint32_t i, const IrInst *in) {
    X86 *x = w->x;
    // Round a loop of blocks at least one leads to itself or to one that begins before it.
    if ((uint64_t)in->imm <= x->r->pc) x->may_loop = true;
    bool last = in->op == IR_exit;
    barrier(w, i);
    if (last && x->r->hot) { // whoever comes next makes flags anew, or asks
        w->made_anew = true;
        w->changed[0] = w->changed[1] = 0;
    }
    asks(w);
    if (!last)
        use_condition(w, i, in->a);
    else if (!x->r->hot)
        flags_wanted(w);
}

// Right behind the comparison of floats at i an exit or a select makes the same one.
static bool compared_again(const Walk *w, uint32_t i, const IrInst *fl) {
    IrRef same = 0;
    for (uint32_t k = i + 1; k < w->r->n_insts; k++) {
        const IrInst *in = &w->insts[k];
        bool put_of_it = in->op == IR_put && in->a == i;
        if (in->op == IR_fcmp && in->a == fl->a && in->b == fl->b && in->aux2 == fl->aux)
            same = k;
        else if (in->op != IR_insn && in->op != IR_const && !put_of_it)
            return same && in->a == same && w->val[k].flags & VAL_FUSED_COND;
    }
    return false;
}

static bool visit_other(Walk *w, uint32_t i, const IrInst *in) {
    X86 *x = w->x;
    Val *v = &x->val[i];
    settle_hint(w, x->val, i);
    switch (ir_op_effect[in->op]) {
    case IR_PURE:
    case IR_READ:
        if (!used(w, i)) return false;
        break;
    case IR_FLAGFP:
        if (used(w, i)) break;
        if (v->flags & VAL_ABSORBED) return false;
        if (in->op == IR_fl_fcmp && compared_again(w, i, in)) return false;
        break;
    case IR_CTL:
        if (in->op == IR_budget) {
            if (in->aux == IR_EARLY && x->n_early) break; // no code: nobody leaves here
            barrier(w, i);
            asks(w);
            break;
        }
        if (in->op == IR_exit_ind && in->aux != IR_JUMP_RET) x->may_loop = true;
        barrier(w, i);
        flags_wanted(w);
        break;
    case IR_MEM:
        barrier(w, i);
        flags_wanted(w);
        break;
    case IR_WRITE:
        if (in->op == IR_prefetch && fuse_address(w, i, in)) return true;
        if (in->op == IR_call_if && x->r->calls[in->imm].helper->reads_state) {
            barrier(w, i);
            flags_wanted(w);
        }
        break;
    default: break;
    }
    visit_operands(w, i, in);
    return true;
}

// What there is to do, in few kinds: one jump a visit, not a tree of comparisons of ops. And what
// there will be, going forwards: Kind | Selects << 8.
enum Kind { OTHER, NOTHING, ALWAYS, PUT, GET, ACCESS, EXIT, PLAIN, TIED, MAY_SHARE };
static const uint16_t kinds_of[IR_OP_COUNT] = {
    [IR_NOP] = OTHER | SEL_NOP << 8,
    [IR_insn] = NOTHING | SEL_NOP << 8,
    [IR_const] = NOTHING | SEL_NOP << 8,
    [IR_put] = PUT | SEL_PUT << 8,
    [IR_get] = GET | SEL_GET << 8,
    [IR_load] = ACCESS | SEL_LOAD << 8,
    [IR_store] = ACCESS | SEL_STORE << 8,
    [IR_cas] = OTHER | SEL_ATOMIC << 8,
    [IR_rmw] = OTHER | SEL_ATOMIC << 8,
    [IR_fence] = OTHER | SEL_ATOMIC << 8,
    [IR_add] = TIED | SEL_ADD << 8,
    [IR_icmp] = PLAIN | SEL_INTEGER << 8,
    [IR_fl_sub] = PLAIN | SEL_INTEGER << 8,
    [IR_sub] = TIED | SEL_INTEGER << 8,
    [IR_and] = TIED | SEL_INTEGER << 8,
    [IR_or] = TIED | SEL_INTEGER << 8,
    [IR_xor] = TIED | SEL_INTEGER << 8,
    [IR_shl] = TIED | SEL_INTEGER << 8,
    [IR_shr] = TIED | SEL_INTEGER << 8,
    [IR_sar] = TIED | SEL_INTEGER << 8,
    [IR_mul] = TIED | SEL_INTEGER << 8,
    [IR_fl_add] = PLAIN | SEL_BY_EFFECT << 8,
    [IR_trunc] = MAY_SHARE | SEL_BY_EFFECT << 8,
    [IR_zext] = MAY_SHARE | SEL_BY_EFFECT << 8,
    [IR_exit] = EXIT | SEL_EXIT << 8,
    [IR_exit_if] = EXIT | SEL_EXIT_IF << 8,
    [IR_count] = ALWAYS | SEL_COUNT << 8,
    [IR_call_hint] = OTHER | SEL_LEAVE << 8,
    [IR_exit_ind] = OTHER | SEL_LEAVE << 8,
    [IR_slot_at] = OTHER | SEL_SLOT_AT << 8,
};

// True: there is something to compile.
static inline bool visit(Walk *w, Val *val, uint32_t i, const IrInst *in, enum Kind kind) {
    switch (kind) {
    case NOTHING: return false;
    case ALWAYS: return true;
    case PUT: return visit_put(w, val, i, in);
    case GET:
        if (!val[i].last_use) return false;
        visit_get(w, val, i, in);
        return true;
    case ACCESS: visit_access(w, val, i, in); return true;
    case EXIT: visit_exit(w, i, in); return true;
    case PLAIN:
        if (!val[i].last_use) return false;
        settle_hint(w, val, i);
        use_at(&val[in->a], i);
        use_at(&val[in->b], i);
        return true;
    case TIED:
        if (!val[i].last_use) return false;
        settle_hint(w, val, i);
        use_at(&val[in->a], i);
        use_at(&val[in->b], i);
        if (val[in->a].last_use == i) hint_operand(&val[i], &val[in->a]);
        return true;
    case MAY_SHARE:
        if (!val[i].last_use) return false;
        settle_hint(w, val, i);
        if (!visit_shared(w, i, in)) use_at(&val[in->a], i);
        return true;
    case OTHER: return visit_other(w, i, in);
    }
    __builtin_unreachable();
}

void x86_analyse(X86 *x) {
    Walk walk, *w = &walk;
    w->x = x;
    w->r = x->r;
    w->val = x->val;
    w->insts = x->r->insts;
    w->epoch = 1;
    w->barrier = NO_POS;
    flags_wanted(w);
    w->changed[0] = w->changed[1] = 0;
    memset(w->field, 0, x->r->n_fields * sizeof *w->field);
    Val *const val = x->val;
    uint32_t *live = x->live;
    // The kind of the next is looked up before, for the jump not to wait for it.
    const IrInst *in = &x->r->insts[x->r->n_insts - 1];
    uint32_t next = kinds_of[in->op];
    for (uint32_t i = x->r->n_insts; --i > 0; in--) {
        uint32_t now = next;
        next = kinds_of[in[-1].op];
        if (visit(w, val, i, in, (enum Kind)(now & 255))) *live++ = i | now >> 8 << LIVE_KIND_SHIFT;
    }
    x->n_live = (uint32_t)(live - x->live);
}
