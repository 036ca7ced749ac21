// alloc.c - the forward pass's registers: who is where, and moving out of each other's way.
//
// A value's place is one of: a register (val.reg), a field of guest state (val.mem_field, while the
// field still holds it), a spill slot, or nowhere because it is a constant. int_val/vec_val say for
// each register which value it holds; for a home that is the guest register's current value, when
// this block has seen it. Values whose last use lies behind us are ignored, not freed.
#include "host/x86_64/emit.h"

#include <emmintrin.h>

static const Bank *bank_of(const X86 *x, bool vec) {
    return &x->bank[vec];
}

void x86_alloc_begin(X86 *x) {
    x->bank[0] = (Bank){x->int_val,     &x->int_locked, x->h->int_temps, x->h->int_homes,
                        &x->int_spills, x->int_spilled, N_INT_SPILLS,    false};
    x->bank[1] = (Bank){x->vec_val,     &x->vec_locked, x->h->vec_temps, x->h->vec_homes,
                        &x->vec_spills, x->vec_spilled, N_VEC_SPILLS,    true};
}

int32_t x86_field_disp(const X86 *x, unsigned field) {
    return (int32_t)x->r->fields[field].offset - STATE_BIAS;
}

static int32_t spill_disp(const Bank *b, int slot) {
    return b->vec ? x86_scratch_disp(SCRATCH_SPILL + (unsigned)slot) : HOT_DISP(spill) + 8 * slot;
}

static void move_reg(X86 *x, const Bank *b, unsigned d, unsigned s) {
    if (d == s) return;
    if (b->vec)
        vec_op(x, V_movaps, d, 0, vrm_reg(s), 0);
    else
        mov_rr(x, 64, d, s);
}

static bool is_const(const X86 *x, IrRef v) {
    return x->r->insts[v].op == IR_const;
}
static bool lives(const X86 *x, IrRef v) {
    return v && x->val[v].last_use > x->now;
}
// Also by the instruction being compiled, which may not have asked for it yet.
static bool needed(const X86 *x, IrRef v) {
    return v && x->val[v].last_use >= x->now;
}

// The home of field f, or -1.
static int home_of(const X86 *x, unsigned f) {
    return x->h->home_of_field[f];
}

// Where field f, an integer without a home, lives instead of memory, or -1.
static int lodging_of(const X86 *x, unsigned f) {
    return x->h->lodging_of_field[f];
}

// Slots of values that nobody needs any more, which is looked up when all are taken.
static uint64_t free_dead(X86 *x, const Bank *b) {
    for (unsigned i = 0; i < b->n_spills; i++)
        if (x->val[b->spilled[i]].last_use < x->now) *b->spills &= ~(1ull << i);
    return ~*b->spills & bits_mask(b->n_spills);
}

static void store_spill(X86 *x, const Bank *b, IrRef v, unsigned reg) {
    Val *val = &x->val[v];
    if (val->spill >= 0 || val->mem_field >= 0 || is_const(x, v)) return; // has a copy already
    uint64_t free_slots = ~*b->spills & bits_mask(b->n_spills);
    if (!free_slots) free_slots = free_dead(x, b);
    if (!free_slots) {
        x86_fail(x, "out of spill slots");
        return;
    }
    val->spill = (int8_t)__builtin_ctzll(free_slots);
    *b->spills |= 1ull << val->spill;
    b->spilled[val->spill] = v;
    if (b->vec)
        vec_op(x, V_movaps_st, reg, 0, vrm_of(mem_state(spill_disp(b, val->spill))), 0);
    else
        mov_store(x, 64, mem_state(spill_disp(b, val->spill)), reg);
}

// Where int_until has an integer register: RAX, RCX, RDX and R11 first, all homes in one behind.
static const uint8_t int_slot[16] = {
    [RAX] = 0, [RCX] = 1, [RDX] = 2, [RBX] = 4, [RSP] = 4, [RBP] = 4, [RSI] = 4, [RDI] = 4,
    [R8] = 4,  [R9] = 4,  [R10] = 4, [R11] = 3, [R12] = 4, [R13] = 4, [R14] = 4, [R15] = 4};

// reg holds v from here on.
static inline void hold(X86 *x, const Bank *b, unsigned reg, IrRef v) {
    b->val[reg] = v;
    x->val[v].reg = (int8_t)reg;
    if (!b->vec) x->int_until[int_slot[reg]] = x->val[v].last_use;
}

static inline void let_go(X86 *x, const Bank *b, unsigned reg) {
    b->val[reg] = 0;
    if (!b->vec) x->int_until[int_slot[reg]] = 0;
}

// One of these registers that holds v as well (mov x1, x0), or -1.
static int also_in(const Bank *b, IrRef v, uint32_t set) {
    for (; set; set &= set - 1)
        if (b->val[__builtin_ctz(set)] == v) return __builtin_ctz(set);
    return -1;
}

// Register reg is about to hold something else: its value, when it is still needed, finds another
// place.
static void evacuate(X86 *x, const Bank *b, unsigned reg) {
    IrRef v = b->val[reg];
    let_go(x, b, reg);
    if (!v || x->val[v].reg != (int)reg) return;
    x->val[v].reg = -1;
    // needed by this very instruction or later?
    if (x->val[v].last_use < x->now || (x->val[v].last_use == x->now && !(*b->locked >> reg & 1)))
        return;
    x->val[v].reg = (int8_t)also_in(b, v, (b->homes | b->temps) & ~(1u << reg));
    if (x->val[v].reg >= 0) return;
    if (x->val[v].spill >= 0 || x->val[v].mem_field >= 0 || is_const(x, v)) return;
    for (uint32_t free = b->temps & ~*b->locked; free; free &= free - 1) {
        unsigned t = (unsigned)__builtin_ctz(free);
        if (t != reg && !(needed(x, b->val[t]) && x->val[b->val[t]].reg == (int)t)) {
            if (b->val[t] && x->val[b->val[t]].reg == (int)t) x->val[b->val[t]].reg = -1;
            move_reg(x, b, t, reg);
            hold(x, b, t, v);
            return;
        }
    }
    store_spill(x, b, v, reg);
}

static const uint8_t int_order[] = {RDX, R11, RCX, RAX};

// Of the integer temporaries, which are asked for all the time, one that is free is found without a
// branch, and without a look at the values in them. -1: none is.
static int free_int_temp(X86 *x) {
    // By a set of their places in int_slot: the first of int_order that is in it.
    static const uint8_t first[16] = {0,   RAX, RCX, RCX, RDX, RDX, RDX, RDX,
                                      R11, R11, R11, R11, RDX, RDX, RDX, RDX};
    __m128i until = _mm_loadu_si128((const __m128i *)x->int_until);
    __m128i over = _mm_cmpgt_epi32(_mm_set1_epi32((int)x->now), until);
    unsigned locked = (x->int_locked & 7) | (x->int_locked >> (R11 - 3) & 8);
    unsigned free = (unsigned)_mm_movemask_ps(_mm_castsi128_ps(over)) & ~locked;
    if (UNLIKELY(!free)) return -1;
    unsigned t = first[free];
    Val *old = &x->val[x->int_val[t]]; // value 0 is nobody's
    old->reg = old->reg == (int8_t)t ? -1 : old->reg;
    x->int_val[t] = 0;
    x->int_locked |= 1u << t;
    return (int)t;
}

// An unlocked temporary, emptied.
static unsigned take_temp(X86 *x, const Bank *b) {
    int found = b->vec ? -1 : free_int_temp(x);
    if (found >= 0) return (unsigned)found;
    int best = -1;
    uint32_t best_use = 0;
    for (unsigned i = 0; i < 32; i++) {
        int t = b->vec ? (int)i : i < ARRAY_LEN(int_order) ? int_order[i] : -1;
        if (t < 0 || !(b->temps >> t & 1) || (*b->locked >> t & 1)) continue;
        IrRef v = b->val[t];
        if (!needed(x, v) || x->val[v].reg != t) {
            best = t;
            break;
        }
        uint32_t until = x->val[v].last_use;
        bool cheap = x->val[v].mem_field >= 0 || is_const(x, v) || x->val[v].spill >= 0;
        if (cheap) until += 1u << 24;
        if (until > best_use) {
            best_use = until;
            best = t;
        }
    }
    if (best < 0) {
        x86_fail(x, "out of temporary registers");
        return b->vec ? 0 : RAX;
    }
    IrRef v = b->val[best];
    if (v && x->val[v].reg == best) {
        if (needed(x, v)) store_spill(x, b, v, (unsigned)best);
        x->val[v].reg = -1;
    }
    let_go(x, b, (unsigned)best);
    *b->locked |= 1u << best;
    return (unsigned)best;
}

static void load_const(X86 *x, const Bank *b, IrRef v, unsigned reg) {
    const IrInst *in = &x->r->insts[v];
    if (!b->vec) {
        mov_imm(x, reg, (uint64_t)in->imm);
        return;
    }
    V128 c = {.d = {(uint64_t)in->imm, 0}};
    if (ir_is_vec(in->type)) c = x->r->vconsts[in->imm];
    if (!c.d[0] && !c.d[1])
        vec_op(x, V_pxor, reg, reg, vrm_reg(reg), 0);
    else
        vec_op(x, V_movaps, reg, 0, vrm_rip(x86_const128(x, c.d[0], c.d[1])), 0);
}

static void load_field(X86 *x, const Bank *b, unsigned reg, unsigned field) {
    Mem m = mem_state(x86_field_disp(x, field));
    IrType t = x->r->fields[field].type;
    int lodging = lodging_of(x, field);
    if (lodging >= 0) {
        vec_op(x, V_movq_rx, (unsigned)lodging, 0, vrm_reg(reg), 0);
        return;
    }
    if (b->vec)
        vec_op(x, ir_is_vec(t) ? V_movaps : V_movq, reg, 0, vrm_of(m), 0);
    else
        mov_load(x, ir_bytes(t) == 8 ? 64 : 32, reg, m);
}

// v, which is in no register.
static void load_value(X86 *x, const Bank *b, unsigned reg, IrRef v) {
    const Val *val = &x->val[v];
    if (is_const(x, v))
        load_const(x, b, v, reg);
    else if (val->mem_field >= 0)
        load_field(x, b, reg, (unsigned)val->mem_field);
    else if (val->spill >= 0 && b->vec)
        vec_op(x, V_movaps, reg, 0, vrm_of(mem_state(spill_disp(b, val->spill))), 0);
    else if (val->spill >= 0)
        mov_load(x, 64, reg, mem_state(spill_disp(b, val->spill)));
    else
        x86_fail(x, "a use that was not announced");
}

unsigned x86_fetch(X86 *x, IrRef v, bool vec) {
    const Bank *b = bank_of(x, vec);
    unsigned t = take_temp(x, b);
    load_value(x, b, t, v);
    hold(x, b, t, v);
    return t;
}

// ---- results ----

static void occupy(X86 *x, const Bank *b, IrRef v, unsigned reg) {
    hold(x, b, reg, v);
    *b->locked |= 1u << reg;
}

// The home that v is meant for, if its old value is not needed any more (but perhaps by this
// instruction), or can be had elsewhere.
static int free_home(X86 *x, const Bank *b, IrRef v) {
    if (x->val[v].hint < 0) return -1;
    int h = home_of(x, (unsigned)x->val[v].hint);
    IrRef old = b->val[h];
    if (!old || x->val[old].reg != h || !lives(x, old)) return h;
    int other = also_in(b, old, b->homes & ~(1u << h));
    if (other < 0) return -1;
    x->val[old].reg = (int8_t)other;
    return h;
}

int x86_home_free(X86 *x, IrRef v) {
    return free_home(x, bank_of(x, x86_in_vec(ir_type(x->r, v))), v);
}

static void leave_home(X86 *x, const Bank *b, unsigned h) {
    IrRef old = b->val[h];
    if (old && x->val[old].reg == (int)h) x->val[old].reg = -1;
    b->val[h] = 0;
}

static unsigned def_in(X86 *x, IrRef v, bool vec, bool fresh) {
    const Bank *b = bank_of(x, vec);
    int h = free_home(x, b, v);
    if (h >= 0 && fresh && (*b->locked >> h & 1)) h = -1;
    unsigned reg;
    if (h >= 0) {
        leave_home(x, b, (unsigned)h);
        reg = (unsigned)h;
    } else {
        reg = take_temp(x, b);
    }
    occupy(x, b, v, reg);
    return reg;
}

unsigned x86_def_int(X86 *x, IrRef v) {
    return def_in(x, v, false, false);
}
unsigned x86_def_vec(X86 *x, IrRef v) {
    return def_in(x, v, true, false);
}
unsigned x86_def_int_fresh(X86 *x, IrRef v) {
    return def_in(x, v, false, true);
}
unsigned x86_def_vec_fresh(X86 *x, IrRef v) {
    return def_in(x, v, true, true);
}

static unsigned def_over(X86 *x, IrRef v, IrRef src, bool vec) {
    const Bank *b = bank_of(x, vec);
    IrRef root = x86_root(x, src);
    int h = free_home(x, b, v);
    if (h >= 0 && x->val[root].reg < 0 && !lives(x, root) && !(*b->locked >> h & 1)) {
        leave_home(x, b, (unsigned)h);
        load_value(x, b, (unsigned)h, root);
        occupy(x, b, v, (unsigned)h);
        return (unsigned)h;
    }
    unsigned s = x86_use(x, src, vec);
    if (h == (int)s) { // in place: add x0, x0, ...
        leave_home(x, b, s);
        occupy(x, b, v, s);
        return s;
    }
    if (h >= 0 && !(*b->locked >> h & 1)) {
        leave_home(x, b, (unsigned)h);
        move_reg(x, b, (unsigned)h, s);
        occupy(x, b, v, (unsigned)h);
        return (unsigned)h;
    }
    if ((b->temps >> s & 1) && !lives(x, root)) { // the operand ends here, in a temporary
        x->val[root].reg = -1;
        occupy(x, b, v, s);
        return s;
    }
    unsigned t = take_temp(x, b);
    move_reg(x, b, t, s);
    occupy(x, b, v, t);
    return t;
}

unsigned x86_def_int_over(X86 *x, IrRef v, IrRef src) {
    return def_over(x, v, src, false);
}
unsigned x86_def_vec_over(X86 *x, IrRef v, IrRef src) {
    return def_over(x, v, src, true);
}

void x86_def_int_at(X86 *x, IrRef v, unsigned reg) {
    const Bank *b = bank_of(x, false);
    occupy(x, b, v, reg);
}

unsigned x86_tmp_int(X86 *x) {
    const Bank *b = bank_of(x, false);
    return take_temp(x, b);
}
unsigned x86_tmp_vec(X86 *x) {
    const Bank *b = bank_of(x, true);
    return take_temp(x, b);
}

void x86_take_int(X86 *x, unsigned reg) {
    const Bank *b = bank_of(x, false);
    *b->locked |= 1u << reg; // so that its value does not move to itself
    if (b->val[reg]) evacuate(x, b, reg);
}

void x86_alias(X86 *x, IrRef v, IrRef src) {
    IrRef root = x86_root(x, src);
    x->val[v].root = root;
    Val *val = &x->val[root];
    if (val->last_use >= x->val[v].last_use) return;
    val->last_use = x->val[v].last_use;
    if (val->reg >= 0 && val->reg < 16 && x->int_val[val->reg] == root)
        x->int_until[int_slot[val->reg]] = val->last_use;
}

int x86_lodged(const X86 *x, IrRef v) {
    const Val *val = &x->val[x86_root(x, v)];
    return val->reg < 0 && val->mem_field >= 0 ? lodging_of(x, (unsigned)val->mem_field) : -1;
}

bool x86_in_memory(X86 *x, IrRef v, int32_t *disp) {
    v = x86_root(x, v);
    const Val *val = &x->val[v];
    if (val->reg >= 0 || is_const(x, v)) return false;
    if (val->mem_field >= 0 && lodging_of(x, (unsigned)val->mem_field) >= 0) return false;
    const Bank *b = bank_of(x, x86_in_vec(ir_type(x->r, v)));
    if (val->mem_field >= 0)
        *disp = x86_field_disp(x, (unsigned)val->mem_field);
    else if (val->spill >= 0)
        *disp = spill_disp(b, val->spill);
    else
        return false;
    return true;
}

// ---- guest registers ----

void x86_get(X86 *x, IrRef v) {
    const IrInst *in = &x->r->insts[v];
    unsigned f = (unsigned)in->imm;
    bool vec = x->h->field_kind[f] & FIELD_VEC;
    const Bank *b = bank_of(x, vec);
    int h = home_of(x, f);
    if (h >= 0 && vec && !x86_in_vec(in->type)) { // the low bytes of a vector, as an integer
        unsigned d = x86_def_int(x, v);
        vec_op(x, ir_bytes(in->type) == 8 ? V_movq_rx : V_movd_rx, (unsigned)h, 0, vrm_reg(d), 0);
        if (ir_bytes(in->type) < 4) movzx_rr(x, (int)ir_bytes(in->type) * 8, d, d);
        return;
    }
    if (h >= 0) {
        if (b->val[h] && x->val[b->val[h]].reg == h)
            x86_alias(x, v, b->val[h]); // another width of the same register
        else {
            b->val[h] = v;
            x->val[v].reg = (int8_t)h;
        }
        return;
    }
    bool whole = ir_bytes(in->type) == ir_bytes(x->r->fields[f].type) || lodging_of(x, f) >= 0;
    if (whole && !x->mem_val[f]) {
        x->mem_val[f] = v; // loaded when somebody asks
        x->val[v].mem_field = (int8_t)f;
        return;
    }
    if (whole) {
        x86_alias(x, v, x->mem_val[f]);
        return;
    }
    Mem m = mem_state(x86_field_disp(x, f)); // the low bytes
    unsigned bytes = ir_bytes(in->type);
    if (x86_in_vec(in->type)) {
        unsigned d = x86_def_vec(x, v);
        if (bytes >= 4) {
            vec_op(x, bytes == 8 ? V_movq : V_movd_xr, d, 0, vrm_of(m), 0);
        } else {
            unsigned t = x86_tmp_int(x);
            movzx_load(x, (int)bytes * 8, t, m);
            vec_op(x, V_movd_xr, d, 0, vrm_reg(t), 0);
        }
    } else {
        unsigned d = x86_def_int(x, v);
        if (bytes >= 4)
            mov_load(x, (int)bytes * 8, d, m);
        else
            movzx_load(x, (int)bytes * 8, d, m);
    }
}

// The old value of a field in memory, if it lives on and is nowhere else, is fetched before it
// goes.
static void rescue_field(X86 *x, const Bank *b, unsigned f) {
    IrRef old = x->mem_val[f];
    x->mem_val[f] = 0;
    if (!old || x->val[old].mem_field != (int)f) return;
    if (lives(x, old) && x->val[old].reg < 0 && x->val[old].spill < 0) {
        x86_use(x, old, b->vec);
    }
    x->val[old].mem_field = -1;
}

static __attribute__((noinline)) void put_home(X86 *x, const Bank *b, unsigned h, IrRef v) {
    Val *val = &x->val[v];
    *b->locked |= 1u << h;
    if (val->reg >= 0) *b->locked |= 1u << val->reg;
    evacuate(x, b, h);
    if (val->reg >= 0)
        move_reg(x, b, h, (unsigned)val->reg);
    else
        load_value(x, b, h, v);
    // the home outlives temporaries
    if (val->reg >= 0 && (b->temps >> val->reg & 1))
        let_go(x, b, (unsigned)val->reg), val->reg = -1;
    b->val[h] = v;
    if (val->reg < 0) val->reg = (int8_t)h;
}

static void to_lodging(X86 *x, unsigned lodging, IrRef v) {
    int from = x86_lodged(x, v);
    if (from >= 0)
        vec_op(x, V_movaps, lodging, 0, vrm_reg((unsigned)from), 0);
    else if (is_const(x, v) && !x->r->insts[v].imm)
        vec_op(x, V_pxor, lodging, lodging, vrm_reg(lodging), 0);
    else
        vec_op(x, V_movq_xr, lodging, 0, vrm_reg(x86_use(x, v, false)), 0);
}

static __attribute__((noinline)) void put_memory(X86 *x, const Bank *b, unsigned f, IrRef v) {
    IrType t = x->r->fields[f].type;
    Mem m = mem_state(x86_field_disp(x, f));
    if (x->mem_val[f] == v && x->val[v].mem_field == (int)f) return;
    if (x->val[v].reg >= 0) *b->locked |= 1u << x->val[v].reg;
    rescue_field(x, b, f);
    unsigned bytes = ir_bytes(t);
    const IrInst *in = &x->r->insts[v];
    int lodging = lodging_of(x, f);
    if (lodging >= 0) {
        to_lodging(x, (unsigned)lodging, v);
    } else if (!b->vec && in->op == IR_const && x->val[v].reg < 0 && in->imm == (int32_t)in->imm) {
        mov_store_imm(x, (int)bytes * 8, m, (int32_t)in->imm);
    } else {
        unsigned reg = x86_use(x, v, b->vec);
        if (b->vec)
            vec_op(x, ir_is_vec(t) ? V_movaps_st : V_movq_st, reg, 0, vrm_of(m), 0);
        else
            mov_store(x, (int)bytes * 8, m, reg);
    }
    if (is_const(x, v)) return;
    if (x->val[v].mem_field < 0) {
        x->val[v].mem_field = (int8_t)f;
        x->mem_val[f] = v;
    }
}

void x86_put_low(X86 *x, unsigned field, IrRef v) {
    unsigned reg = x86_use_vec(x, v);
    rescue_field(x, bank_of(x, false), field);
    vec_op(x, V_movq_st, reg, 0, vrm_of(mem_state(x86_field_disp(x, field))), 0);
}

void x86_def_field(X86 *x, unsigned f, IrRef v) {
    rescue_field(x, bank_of(x, false), f);
    x->mem_val[f] = v;
    x->val[v].mem_field = (int8_t)f;
}

void x86_put(X86 *x, unsigned field, IrRef v) {
    const Bank *b = bank_of(x, x->h->field_kind[field] & FIELD_VEC);
    v = x86_root(x, v);
    int h = home_of(x, field);
    if (h < 0)
        put_memory(x, b, field, v);
    else if (b->val[h] != v) // else it holds it, or a copy of it, already
        put_home(x, b, (unsigned)h, v);
}

// ---- calls ----

void x86_spill_temps(X86 *x) {
    for (int vec = 0; vec < 2; vec++) {
        const Bank *b = bank_of(x, vec);
        for (uint32_t set = b->temps; set; set &= set - 1) {
            unsigned t = (unsigned)__builtin_ctz(set);
            IrRef v = b->val[t];
            let_go(x, b, t);
            if (!v || x->val[v].reg != (int)t) continue;
            if (lives(x, v)) store_spill(x, b, v, t);
            x->val[v].reg = -1;
        }
    }
}

void x86_forget_homes(X86 *x) {
    for (int vec = 0; vec < 2; vec++) {
        const Bank *b = bank_of(x, vec);
        for (uint32_t set = b->homes; set; set &= set - 1) {
            unsigned h = (unsigned)__builtin_ctz(set);
            IrRef v = b->val[h];
            b->val[h] = 0;
            if (!v || x->val[v].reg != (int)h) continue;
            if (lives(x, v)) store_spill(x, b, v, h);
            x->val[v].reg = -1;
        }
    }
    for (unsigned f = 0; f < x->r->n_fields; f++) {
        const Bank *b = bank_of(x, x86_in_vec(x->r->fields[f].type));
        if (x->mem_val[f]) rescue_field(x, b, f);
        *b->locked = 0; // any number of them: those before are spilled
    }
}
