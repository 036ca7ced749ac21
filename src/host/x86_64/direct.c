// direct.c - code that is written as the guest's instructions are said: registers and arithmetic.
//
// Hot code is what analyse.c and alloc.c are for; what runs a few times is better written soon than
// well. So registers without a home are loaded where they are read and stored where they are
// written, and flags are stored when somebody might look before they are set anew.
#include "host/x86_64/direct.h"

#include <assert.h>

// ---- registers ----

// Registers are fetched and put all the time, and which have homes nobody foresees: so the code for
// it is made once.

static unsigned fetch(X86 *x, DirectReg r, unsigned t) {
    int home = direct_home(x, r), lodging = direct_lodging(x, r);
    if (home >= 0) return (unsigned)home;
    if (r == DIRECT_ZERO)
        mov_imm(x, t, 0);
    else if (lodging >= 0)
        vec_op(x, V_movq_rx, (unsigned)lodging, 0, vrm_reg(t), 0);
    else
        mov_load(x, 64, t, direct_field(x, r));
    return t;
}

static void put(X86 *x, DirectReg r, unsigned from) {
    int home = direct_home(x, r), lodging = direct_lodging(x, r);
    if (home >= 0)
        mov_rr(x, 64, (unsigned)home, from);
    else if (lodging >= 0)
        vec_op(x, V_movq_xr, (unsigned)lodging, 0, vrm_reg(from), 0);
    else if (r != DIRECT_ZERO)
        mov_store(x, 64, direct_field(x, r), from);
}

static X86Move made(X86 *x, const uint8_t *start, unsigned reg) {
    X86Move m = {.bytes = (uint8_t)(x->at - start), .reg = (uint8_t)reg};
    assert(m.bytes <= sizeof m.code);
    memcpy(m.code, start, m.bytes);
    x->at = (uint8_t *)(uintptr_t)start;
    return m;
}

static void make_moves(X86 *x, DirectReg r) {
    X86Moves *m = &x->h->moves[r];
    uint8_t *start = x->at;
    for (unsigned t = 0; t < ARRAY_LEN(m->fetch); t++) m->fetch[t] = made(x, start, fetch(x, r, t));
    for (unsigned from = 0; from < ARRAY_LEN(m->put); from++) {
        put(x, r, from);
        m->put[from] = made(x, start, from);
    }
}

void x86_direct_make_moves(HostCtx *h) {
    uint8_t code[64];
    X86 x; // what its encoders look at
    x.h = h;
    x.at = code;
    for (unsigned i = 0; i < h->n_int_fields; i++)
        if (h->fields[h->int_fields[i]].type == IR_I64) make_moves(&x, h->int_fields[i]);
    make_moves(&x, DIRECT_ZERO);
}

// ---- constants and moves ----

// The last thing written is a `set` of the register, which nobody needs: it is taken back.
static bool take_back_set(X86Direct *d, DirectReg r, uint64_t *value) {
    if (d->set_end != d->x.at || d->set_reg != r) return false;
    d->x.at = d->set_start;
    *value = d->set_value;
    return true;
}

void x86_direct_set(Direct *base, DirectReg r, uint64_t v) {
    X86Direct *d = x86_direct(base);
    X86 *x = &d->x;
    if (r == DIRECT_ZERO) return;
    d->set_start = x->at;
    int lodging = direct_lodging(x, r);
    unsigned reg = direct_def(x, r, RAX);
    if (reg == RAX && lodging < 0 && (int64_t)v == (int32_t)v) {
        mov_store_imm(x, 64, direct_field(x, r), (int32_t)v);
    } else if (lodging >= 0 && !v) {
        vec_op(x, V_pxor, (unsigned)lodging, (unsigned)lodging, vrm_reg((unsigned)lodging), 0);
    } else {
        mov_imm(x, reg, v);
        direct_put(x, r, reg);
    }
    d->set_reg = r;
    d->set_value = v;
    d->set_end = x->at;
}

void x86_direct_set16(Direct *base, DirectReg r, bool wide, unsigned at, uint16_t v) {
    X86Direct *d = x86_direct(base);
    X86 *x = &d->x;
    uint64_t keep = ~((uint64_t)0xffff << at), known;
    if (!wide) keep &= UINT32_MAX;
    if (take_back_set(d, r, &known)) {
        x86_direct_set(base, r, (known & keep) | (uint64_t)v << at);
        return;
    }
    direct_flags_go(d);
    mov_rr(x, 64, RAX, direct_use(x, r, RAX));
    mov_imm(x, RCX, keep);
    alu_rr(x, 64, ALU_AND, RAX, RCX);
    mov_imm(x, RCX, (uint64_t)v << at);
    alu_rr(x, 64, ALU_OR, RAX, RCX);
    direct_put(x, r, RAX);
}

// All of it, or (!wide) its low half with zeros above.
static void move(X86 *x, DirectReg r, DirectReg n, bool wide) {
    unsigned from = direct_use(x, n, RAX);
    if (!wide) {
        unsigned to = direct_def(x, r, RAX);
        mov_rr(x, 32, to, from);
        from = to;
    }
    direct_put(x, r, from);
}

// ---- add, subtract, logic ----

void x86_direct_add(Direct *base, DirectReg r, DirectReg n, bool wide, int32_t k) {
    X86Direct *d = x86_direct(base);
    X86 *x = &d->x;
    uint64_t known;
    if (n == r && wide && take_back_set(d, r, &known)) {
        x86_direct_set(base, r, known + (uint64_t)(int64_t)k);
        return;
    }
    if (!k) {
        move(x, r, n, wide);
        return;
    }
    unsigned from = direct_use(x, n, RAX), to = direct_def(x, r, RAX);
    lea(x, wide ? 64 : 32, to, mem_at((int)from, k));
    direct_put(x, r, to);
}

static const uint8_t shifts[] = {SH_SHL, SH_SHR, SH_SAR, SH_ROR}; // by DirectShift

// m as `how` wants it; t takes it when it is not what its register holds. shifted: by lea instead.
static unsigned operand(X86 *x, const DirectAlu *how, DirectReg m, unsigned t, bool shifted) {
    int w = how->wide ? 64 : 32;
    unsigned from = direct_use(x, m, t), amount = shifted ? 0 : how->amount;
    if (!(amount | how->narrow | how->invert)) return from;
    if (how->narrow)
        direct_extend(x, w, how->narrow, how->sign, t, from);
    else
        mov_rr(x, 64, t, from);
    if (amount) shift_i(x, w, shifts[how->shift], t, amount);
    if (how->invert) unary(x, w, 2, t); // not
    return t;
}

static Alu alu_of(const DirectAlu *how) {
    static const uint8_t alu[] = {ALU_ADD, ALU_SUB, ALU_AND, ALU_OR, ALU_XOR};
    return (Alu)alu[how->op];
}

// EFLAGS of an operation as `cmp` leaves them.
static void flags_are_of(X86Direct *d, const DirectAlu *how) {
    if (!how->flags) return;
    if (how->op == DIRECT_ADD) e8(&d->x, 0xF5); // cmc: C is no borrow
    if (how->op == DIRECT_AND) e8(&d->x, 0xF9); // stc: C is 0
    direct_flags_are(d);
}

// Neither flags nor n: the operand alone, or the sum by an address.
static bool without_alu(X86Direct *d, const DirectAlu *how, DirectReg r, DirectReg n, DirectReg m) {
    X86 *x = &d->x;
    if (how->flags || how->op == DIRECT_SUB || how->op == DIRECT_AND) return false;
    if (n == DIRECT_ZERO) {
        if (!(how->amount | how->narrow | how->invert)) {
            move(x, r, m, how->wide);
            return true;
        }
        if (how->amount) direct_flags_go(d);
        direct_put(x, r, operand(x, how, m, RCX, false));
        return true;
    }
    if (how->op != DIRECT_ADD || (how->amount && (how->shift != DIRECT_SHL || how->amount > 3)))
        return false;
    unsigned b = operand(x, how, m, RCX, true), a = direct_use(x, n, RAX);
    unsigned to = direct_def(x, r, RAX);
    lea(x, how->wide ? 64 : 32, to,
        (Mem){.base = (int8_t)a, .index = (int8_t)b, .scale = how->amount});
    direct_put(x, r, to);
    return true;
}

// to = a op b
static void three_operands(X86 *x, int w, Alu op, unsigned to, unsigned a, unsigned b) {
    if (to == b && to != a && op != ALU_SUB) {
        alu_rr(x, w, op, to, a);
    } else if (to == b && to != a) {
        mov_rr(x, 64, RDX, a);
        alu_rr(x, w, op, RDX, b);
        mov_rr(x, 64, to, RDX);
    } else {
        mov_rr(x, 64, to, a);
        alu_rr(x, w, op, to, b);
    }
}

void x86_direct_alu(Direct *base, const DirectAlu *how, DirectReg r, DirectReg n, DirectReg m) {
    X86Direct *d = x86_direct(base);
    X86 *x = &d->x;
    int w = how->wide ? 64 : 32;
    if (without_alu(d, how, r, n, m)) return;
    if (!how->flags) direct_flags_go(d);
    unsigned b = operand(x, how, m, RCX, false), a = direct_use(x, n, RAX);
    if (r == DIRECT_ZERO && how->op == DIRECT_SUB) {
        alu_rr(x, w, ALU_CMP, a, b);
    } else if (r == DIRECT_ZERO && how->op == DIRECT_AND) {
        test_rr(x, w, a, b);
    } else {
        unsigned to = direct_def(x, r, RDX);
        three_operands(x, w, alu_of(how), to, a, b);
        direct_put(x, r, to);
    }
    flags_are_of(d, how);
}

// The constant as an immediate of 32 bits, which the host extends with its sign.
static bool as_imm32(bool wide, uint64_t k, int32_t *imm) {
    *imm = (int32_t)k;
    return !wide || (int64_t)k == *imm;
}

void x86_direct_compare_imm(X86 *x, int w, DirectReg n, int32_t k) {
    if (n != DIRECT_ZERO && direct_home(x, n) < 0 && direct_lodging(x, n) < 0) {
        alu_mi(x, w, ALU_CMP, direct_field(x, n), k);
        return;
    }
    unsigned a = direct_use(x, n, RAX);
    if (k)
        alu_ri(x, w, ALU_CMP, a, k);
    else
        test_rr(x, w, a, a);
}

void x86_direct_alu_imm(Direct *base, const DirectAlu *how, DirectReg r, DirectReg n, uint64_t k) {
    X86Direct *d = x86_direct(base);
    X86 *x = &d->x;
    int w = how->wide ? 64 : 32;
    int32_t imm;
    if (n == DIRECT_ZERO && !how->flags && how->op >= DIRECT_OR) {
        x86_direct_set(base, r, how->wide ? k : (uint32_t)k);
        return;
    }
    if (!how->flags) direct_flags_go(d);
    bool small = as_imm32(how->wide, k, &imm);
    if (small && r == DIRECT_ZERO && how->op == DIRECT_SUB) {
        x86_direct_compare_imm(x, w, n, imm);
    } else if (small && r == DIRECT_ZERO && how->op == DIRECT_AND) {
        test_ri(x, w, direct_use(x, n, RAX), imm);
    } else {
        unsigned a = direct_use(x, n, RAX), to = direct_def(x, r, RDX);
        mov_rr(x, 64, to, a);
        if (small) {
            alu_ri(x, w, alu_of(how), to, imm);
        } else {
            mov_imm(x, RCX, k);
            alu_rr(x, w, alu_of(how), to, RCX);
        }
        direct_put(x, r, to);
    }
    flags_are_of(d, how);
}

// ---- shifts, fields, multiplication ----

void x86_direct_bits(Direct *base, DirectReg r, DirectReg n, bool wide, bool sign, unsigned up,
                     unsigned down) {
    X86Direct *d = x86_direct(base);
    X86 *x = &d->x;
    int w = wide ? 64 : 32, left = w - (int)up;
    if (!up && !down) {
        move(x, r, n, wide);
        return;
    }
    bool extends = up == down && (left == 8 || left == 16 || left == 32);
    if (!extends) direct_flags_go(d);
    unsigned from = direct_use(x, n, RAX), to = direct_def(x, r, RAX);
    if (extends) {
        direct_extend(x, w, left, sign, to, from);
    } else {
        mov_rr(x, 64, to, from);
        if (up) shift_i(x, w, SH_SHL, to, up);
        if (down) shift_i(x, w, sign ? SH_SAR : SH_SHR, to, down);
    }
    direct_put(x, r, to);
}

void x86_direct_shift(Direct *base, DirectShift kind, bool wide, DirectReg r, DirectReg n,
                      DirectReg m) {
    X86Direct *d = x86_direct(base);
    X86 *x = &d->x;
    direct_flags_go(d);
    mov_rr(x, 64, RAX, direct_use(x, n, RAX));
    mov_rr(x, 64, RCX, direct_use(x, m, RCX));
    shift_cl(x, wide ? 64 : 32, shifts[kind], RAX);
    if (!wide) mov_rr(x, 32, RAX, RAX); // a shift by 0 does not clear what is above
    direct_put(x, r, RAX);
}

static void narrowed(X86 *x, const DirectMul *how, DirectReg r, unsigned t) {
    unsigned from = direct_use(x, r, t);
    if (how->narrow)
        direct_extend(x, 64, how->narrow, how->sign, t, from);
    else
        mov_rr(x, 64, t, from);
}

void x86_direct_mul(Direct *base, const DirectMul *how, DirectReg r, DirectReg n, DirectReg m,
                    DirectReg a) {
    X86Direct *d = x86_direct(base);
    X86 *x = &d->x;
    int w = how->wide ? 64 : 32;
    direct_flags_go(d);
    narrowed(x, how, n, RAX);
    narrowed(x, how, m, RCX);
    imul_rr(x, w, RAX, RCX);
    if (how->subtract) unary(x, w, 3, RAX); // neg
    if (a != DIRECT_ZERO) alu_rr(x, w, ALU_ADD, RAX, direct_use(x, a, RCX));
    direct_put(x, r, RAX);
}

void x86_direct_select(Direct *base, const DirectSelect *how, DirectReg r, DirectReg n,
                       DirectReg m) {
    X86Direct *d = x86_direct(base);
    X86 *x = &d->x;
    int w = how->wide ? 64 : 32;
    unsigned cc = x86_direct_condition(d, (IrCond)how->cond);
    if (n == DIRECT_ZERO && m == DIRECT_ZERO && how->plus_one && !how->invert) {
        setcc(x, cc ^ 1, RAX);
        movzx_rr(x, 8, RAX, RAX);
        direct_put(x, r, RAX);
        return;
    }
    mov_rr(x, 64, RCX, direct_use(x, m, RCX));
    if (how->invert) unary(x, w, 2, RCX); // not: EFLAGS stay
    if (how->plus_one) lea(x, w, RCX, mem_at(RCX, 1));
    cmovcc(x, w, cc, RCX, direct_use(x, n, RAX));
    direct_put(x, r, RCX);
}
