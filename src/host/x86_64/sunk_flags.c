// sunk_flags.c - condition flags that the same block makes anew are not stored.
//
// Between a comparison and the next one somebody may still ask for its flags: who takes a side
// exit, and a fault. When guest registers that do not change until then hold what was compared,
// nothing is stored; the way out of a side exit, and code that a fault is sent through, make the
// flags from those registers first. analyse.c finds the candidates (x->sunk, last first); here is
// the forward pass.
#include "host/x86_64/emit.h"

#include <assert.h>

static int width_of(const X86 *x, IrRef v) {
    return ir_type(x->r, v) == IR_I64 ? 64 : 32;
}

static bool changes(const SunkFlags *s, unsigned field) {
    return s->changed[field >> 6] >> (field & 63) & 1;
}

static IrRef held(const X86 *x, unsigned field) {
    int home = x->h->home_of_field[field];
    return home >= 0 ? x->int_val[home] : x->mem_val[field];
}

// The guest register that v's own place is, or -1.
static int field_of(const X86 *x, IrRef v) {
    const Val *val = &x->val[v];
    if (val->reg >= 0 && x->h->int_homes >> val->reg & 1 && x->int_val[val->reg] == v)
        return x->h->field_of_int[val->reg];
    return val->mem_field >= 0 && x->mem_val[val->mem_field] == v ? val->mem_field : -1;
}

// The operand as something that the guest's registers will still say.
static bool locate(const X86 *x, const SunkFlags *s, IrRef v, FlagsOperand *out) {
    uint64_t c;
    if (ir_const_value(x->r, v, &c)) {
        *out = (FlagsOperand){.field = -1, .value = c};
        return true;
    }
    v = x86_root(x, v);
    int known = field_of(x, v); // as a rule; else it may be another that holds a copy
    if (known >= 0 && !changes(s, (unsigned)known)) {
        *out = (FlagsOperand){.field = (int16_t)known};
        return true;
    }
    for (unsigned f = 0; f < x->r->n_fields; f++)
        if (!x86_in_vec(x->r->fields[f].type) && held(x, f) == v && !changes(s, f)) {
            *out = (FlagsOperand){.field = (int16_t)f};
            return true;
        }
    return false;
}

// a, when a register holds a - b: then it is that and b.
static bool locate_sum(const X86 *x, const SunkFlags *s, const IrInst *sub, FlagsOperand *out) {
    for (unsigned f = 0; f < x->r->n_fields; f++) {
        IrRef v = x86_in_vec(x->r->fields[f].type) ? 0 : held(x, f);
        const IrInst *in = &x->r->insts[v];
        if (!v || changes(s, f) || in->op != IR_sub || in->a != sub->a || in->b != sub->b) continue;
        *out = (FlagsOperand){.field = (int16_t)f, .plus_b = true};
        return true;
    }
    return false;
}

// A comparison (fl_sub, or icmp of the same operands) or the flags of a value.
static bool locate_compare(X86 *x, const SunkFlags *s, const IrInst *in, SunkCompare *c) {
    c->op = in->op == IR_fl_logic ? IR_fl_logic : IR_fl_sub;
    c->width = (uint8_t)width_of(x, in->a);
    c->has_b = true;
    if (c->op == IR_fl_sub)
        return locate(x, s, in->b, &c->b) &&
               (locate(x, s, in->a, &c->a) || locate_sum(x, s, in, &c->a));
    const IrInst *both = &x->r->insts[in->a];
    c->has_b = false;
    if (locate(x, s, in->a, &c->a)) return true;
    c->has_b = true;
    return both->op == IR_and && locate(x, s, both->a, &c->a) && locate(x, s, both->b, &c->b);
}

static bool can_sink(X86 *x, SunkFlags *s) {
    const IrInst *all = x->r->insts, *fl = &all[all[s->put].a];
    s->conditional = fl->op == IR_select;
    if (!s->conditional) return locate_compare(x, s, fl, &s->made);
    uint64_t nzcv = 0;
    ir_const_value(x->r, all[fl->c].a, &nzcv);
    s->otherwise = ir_flags_from_nzcv((uint32_t)nzcv);
    s->cc = (uint8_t)x86_cc_of((IrCc)all[fl->a].aux);
    return locate_compare(x, s, &all[fl->b], &s->made) &&
           locate_compare(x, s, &all[fl->a], &s->when);
}

// As a value after all, and only here.
static void make_value(X86 *x, IrRef put, IrRef v) {
    if (x->r->insts[v].op == IR_const) return;
    x->val[v].last_use = put;
    bool made = x86_sel_int(x, v);
    assert(made);
    (void)made;
    x->int_locked = 0;
}

bool x86_put_flags(X86 *x, IrRef put) {
    bool candidate = x->next_sunk >= 0 && x->sunk[x->next_sunk].put == put;
    x->active = -1;
    if (!candidate) return false;
    int i = x->next_sunk--;
    if (can_sink(x, &x->sunk[i])) {
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

static Mem field_mem(const X86 *x, const FlagsOperand *o) {
    return mem_state(x86_field_disp(x, (unsigned)o->field));
}

static void load_operand(X86 *x, const FlagsOperand *o, int width, unsigned reg) {
    int home = o->field >= 0 ? x->h->home_of_field[o->field] : -1;
    if (o->field < 0)
        mov_imm(x, reg, o->value);
    else if (home >= 0)
        mov_rr(x, 64, reg, (unsigned)home);
    else
        mov_load(x, width, reg, field_mem(x, o));
}

// EFLAGS. Temporaries hold nothing any more.
static void compare_again(X86 *x, const SunkCompare *c) {
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

static Mem flags_mem(const X86 *x, const SunkFlags *s) {
    return mem_state(x86_field_disp(x, (unsigned)x->r->insts[s->put].imm));
}

static void store_eflags(X86 *x, const SunkFlags *s) {
    x86_flags_as_value(x);
    mov_store(x, 32, flags_mem(x, s), RAX);
}

static void make_flags(X86 *x, const SunkFlags *s) {
    uint8_t *over = NULL;
    if (s->conditional) {
        mov_store_imm(x, 32, flags_mem(x, s), (int32_t)s->otherwise);
        compare_again(x, &s->when);
        over = jcc_forward(x, s->cc ^ 1u);
    }
    compare_again(x, &s->made);
    store_eflags(x, s);
    if (over) rel32_to(over, x->at);
}

void x86_make_flags(X86 *x) {
    if (x->active >= 0) make_flags(x, &x->sunk[x->active]);
}

typedef enum InEflags { NOT_THERE, THERE, THERE_BUT_CARRY } InEflags;

// As a rule the exit's condition is of the very comparison.
static InEflags in_eflags(const X86 *x, const SunkFlags *s) {
    const IrInst *fl = &x->r->insts[x->r->insts[s->put].a];
    if (s->conditional || x->flags_bits != s->made.width) return NOT_THERE;
    if (fl->op == IR_fl_sub)
        return x->flags_known & FLAGS_CMP && x->flags_a == fl->a && x->flags_b == fl->b ? THERE
                                                                                        : NOT_THERE;
    return x->flags_known & FLAGS_LOGIC && x->flags_result == fl->a ? THERE_BUT_CARRY : NOT_THERE;
}

// The jump that is patched lies behind them.
static void emit_sunk_exit(X86 *x, const Cold *c) {
    HostLink *l = (HostLink *)(uintptr_t)c->imm;
    const SunkFlags *s = &x->sunk[c->v];
    if (c->args[0] == THERE_BUT_CARRY) e8(x, 0xF9); // stc: C is 0
    if (c->args[0])
        store_eflags(x, s);
    else
        make_flags(x, s);
    x86_align_patch(x, 1, 4);
    e8(x, 0xE9);
    l->patch = x->at;
    x->at += 4;
    rel32_to(l->patch, x->at);
    l->unlinked = 0;
    mov_address(x, RAX, l);
    jmp_to(x, x->h->link_out);
}

Cold *x86_sunk_exit(X86 *x, unsigned cc) {
    InEflags there = in_eflags(x, &x->sunk[x->active]);
    Cold *c = x86_cold(x, cc, emit_sunk_exit);
    if (!c) return NULL;
    c->v = (IrRef)x->active;
    c->args[0] = (uint8_t)there;
    return c;
}

void x86_emit_fault_fixes(X86 *x) {
    if (!x->n_sunk) return;
    int32_t at[MAX_SUNK] = {0};
    for (uint32_t i = 0; i < x->out->n_faults; i++) {
        HostFault *f = &x->out->faults[i];
        if (!f->fix) continue;
        int32_t *fix = &at[f->fix - 1];
        if (!*fix) {
            *fix = (int32_t)(x->at - x->start);
            make_flags(x, &x->sunk[f->fix - 1]);
            jmp_to(x, x->h->fault_out);
        }
        f->fix = *fix;
    }
}
