// sunk_flags.c - condition flags that the same block makes anew are not stored.
//
// Between a comparison and the next one somebody may still ask for its flags: who takes a side
// exit, and a fault. When guest registers that do not change until then hold what was compared,
// nothing is stored; the way out of a side exit, and code that a fault is sent through, make the
// flags from those registers first. analyse.c finds the candidates (x->sunk, last first); here is
// the forward pass.
//
// In a hot region exits do not store them either: the block that is linked behind is told what they
// are made of. And there a register may change by a constant in between (a loop's counter): from
// then on the flags are made of it less that constant, which is one more form of the same flags.
//
// Comparisons of floats are left out in the same way. What they raise is raised where they stand,
// by themselves or by the branch behind them, and not again when their flags are made.
#include "host/x86_64/emit.h"

#include <assert.h>

static int width_of(const X86 *x, IrRef v) {
    return ir_elem_bits(ir_type(x->r, v)) == 64 ? 64 : 32;
}

static bool changes(const SunkFlags *s, unsigned field) {
    return s->changed[field >> 6] >> (field & 63) & 1;
}

static IrRef held(const X86 *x, unsigned field) {
    int home = x->h->home_of_field[field];
    if (home < 0) return x->mem_val[field];
    return x86_in_vec(x->r->fields[field].type) ? x->vec_val[home] : x->int_val[home];
}

// v without the constants that were added to it, which go to *sum.
static IrRef base_of(const X86 *x, IrRef v, int width, uint64_t *sum) {
    *sum = 0;
    for (;;) {
        v = x86_root(x, v);
        const IrInst *in = &x->r->insts[v];
        uint64_t c;
        bool adds = in->op == IR_add && (in->type == IR_I64 || (in->type == IR_I32 && width == 32));
        if (!adds || !ir_const_value(x->r, in->b, &c)) return v;
        *sum += c;
        v = in->a;
    }
}

// As a displacement, if it can be one.
static bool small_sum(uint64_t sum, int width, uint64_t *out) {
    *out = width == 32 ? (uint64_t)(int64_t)(int32_t)sum : sum;
    return (int64_t)*out == (int32_t)*out;
}

// The guest register that v's own place is, or -1.
static int field_of(const X86 *x, IrRef v) {
    const Val *val = &x->val[v];
    if (val->reg >= 0 && x->h->int_homes >> val->reg & 1 && x->int_val[val->reg] == v)
        return x->h->field_of_int[val->reg];
    return val->mem_field >= 0 && x->mem_val[val->mem_field] == v ? val->mem_field : -1;
}

// May an operand be said by field f? Where an operand is kept, only if no other is to be kept now.
static bool usable(const X86 *x, const SunkFlags *s, unsigned f) {
    bool kept = (int)f == x->r->kept[0] || (int)f == x->r->kept[1];
    return !x86_in_vec(x->r->fields[f].type) && !changes(s, f) && (!kept || s->made.conditional);
}

// The operand as something that the guest's registers will still say.
static bool locate(const X86 *x, const SunkFlags *s, IrRef v, int width, IrFlagsOperand *out) {
    uint64_t c, sum, other, less;
    if (ir_const_value(x->r, v, &c)) {
        *out = (IrFlagsOperand){.field = -1, .value = c};
        return true;
    }
    v = x86_root(x, v);
    int known = field_of(x, v); // as a rule; else it may be another that holds a copy
    if (known >= 0 && usable(x, s, (unsigned)known)) {
        *out = (IrFlagsOperand){.field = (int16_t)known};
        return true;
    }
    for (uint32_t homes = x->h->int_homes; homes; homes &= homes - 1) {
        unsigned reg = (unsigned)__builtin_ctz(homes), f = (unsigned)x->h->field_of_int[reg];
        if (x->int_val[reg] != v || !usable(x, s, f)) continue;
        *out = (IrFlagsOperand){.field = (int16_t)f};
        return true;
    }
    known = x->val[v].mem_field;
    if (known >= 0 && x->mem_val[known] == v && usable(x, s, (unsigned)known)) {
        *out = (IrFlagsOperand){.field = (int16_t)known};
        return true;
    }
    IrRef base = x->r->hot ? base_of(x, v, width, &sum) : 0;
    for (unsigned f = 0; base && f < x->r->n_fields; f++) {
        IrRef h = usable(x, s, f) ? held(x, f) : 0;
        if (!h || base_of(x, h, width, &other) != base || !small_sum(sum - other, width, &less))
            continue;
        *out = (IrFlagsOperand){.field = (int16_t)f, .value = less};
        return true;
    }
    return false;
}

// A float: a constant, or the low lane of a vector.
static bool locate_float(const X86 *x, const SunkFlags *s, IrRef v, IrFlagsOperand *out) {
    *out = (IrFlagsOperand){.field = -1};
    if (ir_const_value(x->r, v, &out->value)) return true;
    v = x86_root(x, v);
    for (unsigned f = 0; f < x->r->n_fields; f++)
        if (x86_in_vec(x->r->fields[f].type) && held(x, f) == v && !changes(s, f)) {
            out->field = (int16_t)f;
            return true;
        }
    return false;
}

// a, when a register holds a - b: then it is that and b.
static bool locate_sum(const X86 *x, const SunkFlags *s, const IrInst *sub, IrFlagsOperand *out) {
    for (unsigned i = 0; i < x->h->n_int_fields; i++) {
        unsigned f = x->h->int_fields[i];
        const IrInst *in = &x->r->insts[held(x, f)]; // value 0 is no sub
        if (in->op != IR_sub || in->a != sub->a || in->b != sub->b || !usable(x, s, f)) continue;
        *out = (IrFlagsOperand){.field = (int16_t)f, .plus_b = true};
        return true;
    }
    return false;
}

// What no register will say goes where it is kept for it.
static bool keep(X86 *x, unsigned i, IrRef v, IrFlagsOperand *out) {
    if (!x->r->hot || x->r->kept[i] < 0) return false;
    if (x86_in_vec(ir_type(x->r, v)))
        x86_put_low(x, (unsigned)x->r->kept[i], v);
    else
        x86_put(x, (unsigned)x->r->kept[i], v);
    x->int_locked = x->vec_locked = 0;
    *out = (IrFlagsOperand){.field = x->r->kept[i]};
    return true;
}

// A comparison (fl_sub, or icmp of the same operands) or the flags of a value. may_keep: operands
// that cannot be located are stored.
static bool locate_compare(X86 *x, const SunkFlags *s, const IrInst *in, bool may_keep,
                           IrFlagsCompare *c) {
    int w = width_of(x, in->a);
    bool sub = in->op != IR_fl_logic && in->op != IR_fl_fcmp;
    *c = (IrFlagsCompare){.op = sub ? IR_fl_sub : in->op, .width = (uint8_t)w, .has_b = true};
    if (in->op == IR_fl_fcmp)
        return (locate_float(x, s, in->b, &c->b) || (may_keep && keep(x, 1, in->b, &c->b))) &&
               (locate_float(x, s, in->a, &c->a) || (may_keep && keep(x, 0, in->a, &c->a)));
    if (c->op == IR_fl_sub)
        return (locate(x, s, in->b, w, &c->b) || (may_keep && keep(x, 1, in->b, &c->b))) &&
               (locate(x, s, in->a, w, &c->a) || locate_sum(x, s, in, &c->a) ||
                (may_keep && keep(x, 0, in->a, &c->a)));
    const IrInst *both = &x->r->insts[in->a];
    c->has_b = false;
    if (locate(x, s, in->a, w, &c->a)) return true;
    c->has_b = both->op == IR_and;
    if (c->has_b && locate(x, s, both->a, w, &c->a) && locate(x, s, both->b, w, &c->b)) return true;
    if (!may_keep) return false;
    c->has_b = x86_test_fuses(x->r, in->a) && x->val[in->a].last_use < s->put; // it was not made
    if (!c->has_b) return keep(x, 0, in->a, &c->a);
    return (locate(x, s, both->a, w, &c->a) || keep(x, 0, both->a, &c->a)) &&
           (locate(x, s, both->b, w, &c->b) || keep(x, 1, both->b, &c->b));
}

static bool can_sink(X86 *x, SunkFlags *s) {
    if (s->located) return true;
    const IrInst *all = x->r->insts, *fl = &all[all[s->put].a];
    s->made = (IrFlagsMade){.conditional = fl->op == IR_select, .flags = (uint16_t)all[s->put].imm};
    if (!s->made.conditional) return locate_compare(x, s, fl, true, &s->made.of);
    uint64_t nzcv = 0;
    ir_const_value(x->r, all[fl->c].a, &nzcv);
    s->made.otherwise = (uint32_t)nzcv;
    s->made.cc = all[fl->a].aux;
    return locate_compare(x, s, &all[fl->b], false, &s->made.of) &&
           locate_compare(x, s, &all[fl->a], false, &s->made.when);
}

// The operands, as many as there are.
static unsigned operands_of(SunkFlags *s, IrFlagsCompare *compare[2]) {
    compare[0] = &s->made.of;
    compare[1] = &s->made.when;
    return s->made.conditional ? 2 : 1;
}

// Later a home may hold what is put there before it is put: then nobody asks in between.
static void note_held(const X86 *x, SunkFlags *s) {
    IrFlagsCompare *c[2];
    for (unsigned i = 0, n = operands_of(s, c); i < n; i++) {
        s->held[2 * i] = c[i]->a.field >= 0 ? held(x, (unsigned)c[i]->a.field) : 0;
        s->held[2 * i + 1] =
            c[i]->has_b && c[i]->b.field >= 0 ? held(x, (unsigned)c[i]->b.field) : 0;
    }
}

// What flags are made of as v goes into field f, which held *old. False: nobody will be able to
// say.
static bool follow(const X86 *x, IrFlagsOperand *o, IrRef *old, int width, unsigned f, IrRef v) {
    if (o->field != (int)f) return true;
    uint64_t was, is;
    if (!*old || base_of(x, *old, width, &was) != base_of(x, v, width, &is)) return false;
    *old = v;
    return small_sum(o->value + was - is, width, &o->value);
}

static bool names(const IrFlagsCompare *c, unsigned f) {
    return c->a.field == (int)f || (c->has_b && c->b.field == (int)f);
}

void x86_flags_follow(X86 *x, unsigned field, IrRef v) {
    SunkFlags s = x->sunk[x->active];
    IrFlagsCompare *c[2];
    unsigned n = operands_of(&s, c);
    if (s.lost || !(names(c[0], field) || (n > 1 && names(c[1], field)))) return;
    for (unsigned i = 0; i < n && !s.lost; i++)
        s.lost = !follow(x, &c[i]->a, &s.held[2 * i], c[i]->width, field, v) ||
                 (c[i]->has_b && !follow(x, &c[i]->b, &s.held[2 * i + 1], c[i]->width, field, v));
    if (x->n_forms == MAX_SUNK_FORMS) {
        x86_fail(x, "too many forms of flags");
        return;
    }
    x->sunk[x->n_forms] = s;
    x->active = x->n_forms++;
}

// As a value after all, and only here.
static void make_value(X86 *x, IrRef put, IrRef v) {
    if (x->r->insts[v].op == IR_const) return;
    x->val[v].last_use = put;
    bool floats = x->r->insts[v].op == IR_fl_fcmp;
    bool made = floats ? x86_sel_fp(x, v) : x86_sel_int(x, v);
    assert(made);
    (void)made;
    x->int_locked = x->vec_locked = 0;
}

bool x86_put_flags(X86 *x, IrRef put) {
    bool candidate = x->next_sunk >= 0 && x->sunk[x->next_sunk].put == put;
    x->active = -1;
    if (!candidate) return false;
    int i = x->next_sunk--;
    if (can_sink(x, &x->sunk[i])) {
        note_held(x, &x->sunk[i]);
        x->active = (int8_t)i;
        return true;
    }
    IrRef v = x->r->insts[put].a;
    if (x->r->insts[v].op == IR_select) {
        make_value(x, put, x->r->insts[v].b);
        make_value(x, put, x->r->insts[v].c);
    }
    make_value(x, put, v);
    return false;
}

// ---- making them ----

static Mem field_mem(const X86 *x, const IrFlagsOperand *o) {
    return mem_state(x86_field_disp(x, (unsigned)o->field));
}

static void load_operand(X86 *x, const IrFlagsOperand *o, int width, unsigned reg) {
    int home = o->field >= 0 ? x->h->home_of_field[o->field] : -1;
    if (o->field < 0)
        mov_imm(x, reg, o->value);
    else if (home >= 0)
        mov_rr(x, 64, reg, (unsigned)home);
    else if (x->h->lodging_of_field[o->field] >= 0)
        vec_op(x, V_movq_rx, (unsigned)x->h->lodging_of_field[o->field], 0, vrm_reg(reg), 0);
    else
        mov_load(x, width, reg, field_mem(x, o));
    if (o->field >= 0 && o->value) alu_ri(x, width, ALU_ADD, reg, (int32_t)o->value);
}

// EFLAGS. Temporaries hold nothing any more.
static void compare_again(X86 *x, const IrFlagsCompare *c) {
    load_operand(x, &c->a, c->width, RAX);
    if (c->has_b) load_operand(x, &c->b, c->width, RCX);
    if (c->a.plus_b) alu_rr(x, c->width, ALU_ADD, RAX, RCX);
    if (c->op == IR_fl_sub) {
        alu_rr(x, c->width, ALU_CMP, RAX, RCX);
    } else {
        test_rr(x, c->width, RAX, c->has_b ? RCX : RAX);
        e8(x, 0xF9); // stc: C is 0
    }
}

// In a home, or loaded into t.
static unsigned float_operand(X86 *x, const IrFlagsOperand *o, int width, unsigned t) {
    int home = o->field >= 0 ? x->h->home_of_field[o->field] : -1;
    if (o->field < 0)
        vec_op(x, V_movaps, t, 0, vrm_rip(x86_const128(x, o->value, 0)), 0);
    else if (home < 0)
        vec_op(x, width == 64 ? V_movq : V_movd_xr, t, 0, vrm_of(field_mem(x, o)), 0);
    else if (x86_in_vec(x->r->fields[o->field].type))
        return (unsigned)home;
    else
        vec_op(x, width == 64 ? V_movq_xr : V_movd_xr, t, 0, vrm_reg((unsigned)home), 0);
    return t;
}

// As state has flags, in rax. Temporaries hold nothing any more.
static void compare_floats_again(X86 *x, const IrFlagsCompare *c) {
    uint32_t temps = x->h->vec_temps;
    unsigned a = float_operand(x, &c->a, c->width, (unsigned)__builtin_ctz(temps));
    unsigned b = float_operand(x, &c->b, c->width, (unsigned)__builtin_ctz(temps & (temps - 1)));
    x86_compare_floats(x, c->width == 64, a, b);
}

static Mem flags_mem(const X86 *x, const SunkFlags *s) {
    return mem_state(x86_field_disp(x, s->made.flags));
}

static void store_eflags(X86 *x, const SunkFlags *s) {
    x86_flags_as_value(x);
    mov_store(x, 32, flags_mem(x, s), RAX);
}

static void make_flags(X86 *x, const SunkFlags *s) {
    uint8_t *over = NULL;
    if (s->made.of.op == IR_fl_fcmp) {
        compare_floats_again(x, &s->made.of);
        mov_store(x, 32, flags_mem(x, s), RAX);
        return;
    }
    if (s->made.conditional) {
        mov_store_imm(x, 32, flags_mem(x, s), (int32_t)ir_flags_from_nzcv(s->made.otherwise));
        compare_again(x, &s->made.when);
        over = jcc_forward(x, x86_cc_of((IrCc)s->made.cc) ^ 1u);
    }
    compare_again(x, &s->made.of);
    store_eflags(x, s);
    if (over) rel32_to(over, x->at);
}

void x86_make_flags_of(X86 *x, int active) {
    if (active >= 0) make_flags(x, &x->sunk[active]);
}

void x86_make_flags(X86 *x) {
    x86_make_flags_of(x, x->active);
}

typedef enum InEflags { NOT_THERE, THERE, THERE_BUT_CARRY } InEflags;

// As a rule the exit's condition is of the very comparison.
static InEflags in_eflags(const X86 *x, const SunkFlags *s) {
    const IrInst *fl = &x->r->insts[x->r->insts[s->put].a];
    bool floats = s->made.of.op == IR_fl_fcmp;
    if (s->made.conditional || floats || x->flags_bits != s->made.of.width) return NOT_THERE;
    if (fl->op == IR_fl_sub)
        return x->flags_known & FLAGS_CMP && x->flags_a == fl->a && x->flags_b == fl->b ? THERE
                                                                                        : NOT_THERE;
    return x->flags_known & FLAGS_LOGIC && x->flags_result == fl->a ? THERE_BUT_CARRY : NOT_THERE;
}

// As a rule the jump that is patched lies behind them.
static void emit_sunk_exit(X86 *x, const Cold *c) {
    HostLink *l = (HostLink *)(uintptr_t)c->imm;
    const SunkFlags *s = &x->sunk[c->v];
    x86_exit_pays(x, c, l);
    if (l->counts) l->unlinked = (int32_t)(x->at - (x86_patch(x->h, l) + 4));
    if (c->args[0] == THERE_BUT_CARRY) e8(x, 0xF9); // stc: C is 0
    if (c->args[0])
        store_eflags(x, s);
    else
        make_flags(x, s);
    if (l->counts) {
        x86_emit_counted(x, l);
        return;
    }
    x86_jump_here(x, l);
    l->unlinked = 0;
    x86_leave_by(x, l);
}

void x86_sunk_exit(X86 *x, uint8_t *rel32, HostLink *l) {
    const SunkFlags *s = &x->sunk[x->active];
    x86_flags_asked(x);
    Cold *c = x86_cold_at(x, rel32, emit_sunk_exit);
    if (!c) return;
    c->owed_at = x86_exit_owes(x, l);
    c->imm = (int64_t)(uintptr_t)l;
    c->v = (IrRef)x->active;
    c->args[0] = (uint8_t)in_eflags(x, s);
    if (!x->r->hot) return;
    x->out->made[x->out->n_made++] = s->made;
    x->out->counts[l - x->out->links].context = x->out->n_made;
}

// Those alike follow each other.
void x86_emit_fault_fixes(X86 *x) {
    HostFix last = 0, at = 0;
    for (; x->n_fixed < x->out->n_fixes; x->n_fixed++) {
        HostFix *fix = &x->out->fixes[x->n_fixed];
        if (*fix != last) {
            last = *fix;
            at = (int32_t)(x->at - x->start);
            if (last >> FIX_FLAGS_BITS) x86_pay_back(x, (IrRef)(last >> FIX_FLAGS_BITS));
            x86_make_flags_of(x, (last & ((1 << FIX_FLAGS_BITS) - 1)) - 1);
            jmp_to(x, x->h->fault_out);
        }
        *fix = at;
    }
}
