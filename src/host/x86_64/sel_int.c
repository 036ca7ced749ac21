// sel_int.c - host code for integer ops: one function an op or close family.
//
// The order inside each: use operands (which locks them), then define the result, then emit. Moves
// never change EFLAGS, so what x->flags_known describes survives allocation.
#include "host/x86_64/emit.h"

static int width(IrType t) {
    return t == IR_I64 ? 64 : 32;
}

// Constants as the host's sign-extended 32-bit immediates.
static bool imm32(const X86 *x, IrRef v, int w, int32_t *out) {
    uint64_t c;
    if (!ir_const_value(x->r, v, &c)) return false;
    int64_t s = w == 32 ? (int32_t)c : (int64_t)c;
    *out = (int32_t)s;
    return s == (int32_t)s;
}

static void flags_are_result(X86 *x, IrRef v, int w) {
    x->flags_known = FLAGS_RESULT;
    x->flags_result = v;
    x->flags_bits = (uint8_t)w;
}

// ---- add, sub, logic ----

bool x86_sel_add(X86 *x, IrRef v, const IrInst *in) {
    int w = width(in->type);
    int32_t k;
    unsigned a = x86_use_int(x, in->a);
    if (imm32(x, in->b, w, &k)) {
        unsigned d = x86_def_int(x, v);
        if (d != a) {
            lea(x, w, d, mem_at((int)a, k));
        } else {
            alu_ri(x, w, ALU_ADD, d, k);
            flags_are_result(x, v, w);
        }
        return true;
    }
    int32_t disp;
    if (x86_in_memory(x, in->b, &disp) && ir_bytes(in->type) >= 4) {
        unsigned d = x86_def_int_over(x, v, in->a);
        alu_rm(x, w, ALU_ADD, d, mem_state(disp));
        flags_are_result(x, v, w);
        return true;
    }
    unsigned b = x86_use_int(x, in->b), d = x86_def_int(x, v);
    if (d == a || d == b) {
        alu_rr(x, w, ALU_ADD, d, d == a ? b : a);
        flags_are_result(x, v, w);
    } else {
        lea(x, w, d, (Mem){.base = (int8_t)a, .index = (int8_t)b});
    }
    return true;
}

static bool sel_two_operand(X86 *x, IrRef v, const IrInst *in, Alu op) {
    int w = width(in->type);
    int32_t k, disp;
    if (imm32(x, in->b, w, &k)) {
        unsigned d = x86_def_int_over(x, v, in->a);
        alu_ri(x, w, op, d, k);
    } else if (x86_in_memory(x, in->b, &disp)) {
        unsigned d = x86_def_int_over(x, v, in->a);
        alu_rm(x, w, op, d, mem_state(disp));
    } else {
        IrRef first = in->a, second = in->b;
        unsigned b = x86_use_int(x, second);
        // commutative: the operand that sits where the result goes comes first
        if (op != ALU_SUB && x->val[v].hint >= 0 && x->h->home_of_field[x->val[v].hint] == (int)b &&
            x86_dies(x, in->b)) {
            first = in->b;
            second = in->a;
        }
        b = x86_use_int(x, second);
        unsigned d = x86_def_int_over(x, v, first);
        alu_rr(x, w, op, d, b);
    }
    flags_are_result(x, v, w);
    return true;
}

// The low 8 or 16 bits, copied.
static bool sel_low_bits(X86 *x, IrRef v, const IrInst *in) {
    int32_t mask;
    if (!imm32(x, in->b, width(in->type), &mask) || (mask != 0xff && mask != 0xffff)) return false;
    unsigned a = x86_use_int(x, in->a);
    int home = x86_home_free(x, v);
    if (home < 0 ? x86_dies(x, in->a) : home == (int)a) return false; // where it is
    movzx_rr(x, mask == 0xff ? 8 : 16, x86_def_int(x, v), a);
    x86_flags_lost(x);
    return true;
}

static bool sel_logic(X86 *x, IrRef v, const IrInst *in, Alu op) {
    sel_two_operand(x, v, in, op);
    x->flags_known |= FLAGS_LOGIC;
    return true;
}

static bool sel_andn(X86 *x, IrRef v, const IrInst *in) {
    int w = width(in->type);
    unsigned a = x86_use_int(x, in->a), b = x86_use_int(x, in->b);
    if (x->h->cpu.bmi1) {
        andn_rrr(x, w, x86_def_int(x, v), b, a);
        x86_flags_lost(x);
        return true;
    }
    unsigned d = x86_def_int_fresh(x, v);
    mov_rr(x, 64, d, b);
    unary(x, w, 2, d);
    alu_rr(x, w, ALU_AND, d, a);
    x86_flags_lost(x);
    return true;
}

static bool sel_unary(X86 *x, IrRef v, const IrInst *in) {
    int w = width(in->type);
    unsigned d = x86_def_int_over(x, v, in->a);
    if (in->type == IR_I1)
        alu_ri(x, 32, ALU_XOR, d, 1);
    else
        unary(x, w, in->op == IR_neg ? 3 : 2, d);
    if (in->op == IR_neg || in->type == IR_I1) x86_flags_lost(x);
    return true;
}

static bool sel_abs(X86 *x, IrRef v, const IrInst *in) {
    int w = width(in->type);
    unsigned a = x86_use_int(x, in->a), d = x86_def_int_fresh(x, v);
    mov_rr(x, 64, d, a);
    unary(x, w, 3, d);
    cmovcc(x, w, CC_S, d, a);
    x86_flags_lost(x);
    return true;
}

static bool sel_minmax(X86 *x, IrRef v, const IrInst *in) {
    int w = width(in->type);
    unsigned cc = in->op == IR_smin   ? CC_L
                  : in->op == IR_smax ? CC_G
                  : in->op == IR_umin ? CC_B
                                      : CC_A;
    unsigned a = x86_use_int(x, in->a), b = x86_use_int(x, in->b), d = x86_def_int_fresh(x, v);
    mov_rr(x, 64, d, b);
    alu_rr(x, w, ALU_CMP, a, b);
    cmovcc(x, w, cc, d, a);
    x86_flags_lost(x);
    return true;
}

// ---- multiplication and division ----

static bool sel_mul(X86 *x, IrRef v, const IrInst *in) {
    int w = width(in->type);
    int32_t k;
    if (imm32(x, in->b, w, &k)) {
        unsigned a = x86_use_int(x, in->a);
        imul_rri(x, w, x86_def_int(x, v), a, k);
    } else {
        unsigned b = x86_use_int(x, in->b);
        unsigned d = x86_def_int_over(x, v, in->a);
        imul_rr(x, w, d, b);
    }
    x86_flags_lost(x);
    return true;
}

static bool sel_mulh(X86 *x, IrRef v, const IrInst *in) {
    if (in->type != IR_I64) return false;
    unsigned a = x86_use_int(x, in->a), b = x86_use_int(x, in->b);
    // both operands may sit in rax or rdx: the multiplier goes where neither is
    if (b == RAX || b == RDX) {
        unsigned t = x86_tmp_int(x);
        if (t == RAX || t == RDX) { // a sits in the way too
            unsigned u = x86_tmp_int(x);
            t = u;
        }
        mov_rr(x, 64, t, b);
        b = t;
    }
    x86_take_int(x, RAX);
    if (a != RAX) mov_rr(x, 64, RAX, a == RDX ? RDX : a);
    x86_take_int(x, RDX);
    unary(x, 64, in->op == IR_umulh ? 4 : 5, b);
    x86_def_int_at(x, v, RDX);
    x86_flags_lost(x);
    return true;
}

static bool sel_div(X86 *x, IrRef v, const IrInst *in) {
    int w = width(in->type);
    bool is_signed = in->op == IR_sdiv;
    unsigned a = x86_use_int(x, in->a), b = x86_use_int(x, in->b);
    unsigned divisor = b;
    if (b == RAX || b == RDX) {
        x86_take_int(x, R11);
        divisor = R11;
        if (a == R11) { // swap through what is being cleared anyway
            x86_take_int(x, RCX);
            divisor = RCX;
        }
        mov_rr(x, 64, divisor, b);
    }
    x86_take_int(x, RAX);
    mov_rr(x, w, RAX, a);
    x86_take_int(x, RDX);
    test_rr(x, w, divisor, divisor);
    uint8_t *zero = jcc_short(x, CC_E), *minus_one = NULL, *done_small = NULL;
    if (is_signed) {
        alu_ri(x, w, ALU_CMP, divisor, -1);
        minus_one = jcc_short(x, CC_E);
        if (w == 64) e8(x, 0x48);
        e8(x, 0x99);      // cdq, cqo
    } else if (w == 64) { // 32-bit division is several times faster on many hosts
        mov_rr(x, 64, RDX, RAX);
        alu_rr(x, 64, ALU_OR, RDX, divisor);
        shift_i(x, 64, SH_SHR, RDX, 32);
        uint8_t *large = jcc_short(x, CC_NE);
        unary(x, 32, 6, divisor); // edx is 0
        done_small = jmp_short(x);
        short_here(x, large);
    }
    if (!is_signed) alu_rr(x, 32, ALU_XOR, RDX, RDX);
    unary(x, w, is_signed ? 7 : 6, divisor);
    uint8_t *done = jmp_short(x);
    if (minus_one) {
        short_here(x, minus_one);
        unary(x, w, 3, RAX);
        uint8_t *done_neg = jmp_short(x);
        short_here(x, zero);
        alu_rr(x, 32, ALU_XOR, RAX, RAX);
        short_here(x, done_neg);
    } else {
        short_here(x, zero);
        alu_rr(x, 32, ALU_XOR, RAX, RAX);
    }
    short_here(x, done);
    if (done_small) short_here(x, done_small);
    x86_def_int_at(x, v, RAX);
    x86_flags_lost(x);
    return true;
}

// ---- shifts and bit counts ----

static bool sel_shift(X86 *x, IrRef v, const IrInst *in) {
    int w = width(in->type);
    static const uint8_t ops[] = {SH_SHL, SH_SHR, SH_SAR, SH_ROR};
    unsigned which = (unsigned)in->op - IR_shl;
    uint64_t n;
    if (ir_const_value(x->r, in->b, &n)) {
        n &= (unsigned)w - 1;
        unsigned a = x86_use_int(x, in->a);
        bool low_bits = x->val[v].flags & VAL_LOW_BITS;
        if ((in->op == IR_ror || low_bits) && x->h->cpu.bmi2) {
            rorx(x, w, x86_def_int(x, v), a, (unsigned)n);
            return true;
        }
        shift_i(x, w, ops[which], x86_def_int_over(x, v, in->a), (unsigned)n);
        x86_flags_lost(x);
        return true;
    }
    if (x->h->cpu.bmi2 && in->op != IR_ror) {
        unsigned a = x86_use_int(x, in->a), b = x86_use_int(x, in->b), d = x86_def_int(x, v);
        if (in->op == IR_shl)
            shlx(x, w, d, a, b);
        else if (in->op == IR_shr)
            shrx(x, w, d, a, b);
        else
            sarx(x, w, d, a, b);
        return true;
    }
    x86_use_int(x, in->a);
    unsigned b = x86_use_int(x, in->b);
    if (b != RCX) {
        x86_take_int(x, RCX); // moves the value out of rcx if it sits there
        mov_rr(x, 32, RCX, b);
    }
    shift_cl(x, w, ops[which], x86_def_int_over(x, v, in->a));
    x86_flags_lost(x);
    return true;
}

static bool sel_count(X86 *x, IrRef v, const IrInst *in) {
    const X86Cpu *cpu = &x->h->cpu;
    if (in->op == IR_clz ? !cpu->lzcnt : in->op == IR_ctz ? !cpu->bmi1 : !cpu->popcnt) return false;
    unsigned a = x86_use_int(x, in->a), d = x86_def_int(x, v);
    op_rr(x, 0xF3, width(in->type),
          in->op == IR_clz   ? 0x0FBD
          : in->op == IR_ctz ? 0x0FBC
                             : 0x0FB8,
          d, a, false);
    x86_flags_lost(x);
    return true;
}

// Bits reversed: bytes, then nibbles, pairs and single bits swapped within.
static bool sel_rbit(X86 *x, IrRef v, const IrInst *in) {
    static const uint64_t masks[] = {0x0f0f0f0f0f0f0f0f, 0x3333333333333333, 0x5555555555555555};
    int w = width(in->type);
    unsigned d = x86_def_int_over(x, v, in->a), t = x86_tmp_int(x), m = x86_tmp_int(x);
    bswap_r(x, w, d);
    for (unsigned i = 0; i < 3; i++) {
        mov_imm(x, m, w == 64 ? masks[i] : (uint32_t)masks[i]);
        mov_rr(x, w, t, d);
        shift_i(x, w, SH_SHR, t, 4u >> i);
        alu_rr(x, w, ALU_AND, t, m);
        alu_rr(x, w, ALU_AND, d, m);
        shift_i(x, w, SH_SHL, d, 4u >> i);
        alu_rr(x, w, ALU_OR, d, t);
    }
    x86_flags_lost(x);
    return true;
}

static bool sel_bswap(X86 *x, IrRef v, const IrInst *in) {
    if (in->type != IR_I32 && in->type != IR_I64) return false;
    bswap_r(x, width(in->type), x86_def_int_over(x, v, in->a));
    return true;
}

// ---- widths ----

static bool sel_convert(X86 *x, IrRef v, const IrInst *in) {
    IrType from = ir_type(x->r, in->a);
    int32_t disp;
    int w = width(in->type);
    if (in->op == IR_trunc) { // to I1
        unsigned d = x86_def_int_over(x, v, in->a);
        alu_ri(x, 32, ALU_AND, d, 1);
        x86_flags_lost(x);
        return true;
    }
    if (in->op == IR_zext && from == IR_I32 && x86_in_memory(x, in->a, &disp)) {
        mov_load(x, 32, x86_def_int(x, v), mem_state(disp));
        return true;
    }
    int lodging = in->op == IR_zext && from == IR_I32 ? x86_lodged(x, in->a) : -1;
    if (lodging >= 0) {
        vec_op(x, V_movd_rx, (unsigned)lodging, 0, vrm_reg(x86_def_int(x, v)), 0);
        return true;
    }
    unsigned a = x86_use_int(x, in->a), d = x86_def_int(x, v);
    int bits = (int)ir_elem_bits(from);
    if (in->op == IR_sext && from == IR_I1) {
        mov_rr(x, 32, d, a);
        unary(x, w, 3, d);
        x86_flags_lost(x);
    } else if (in->op == IR_sext) {
        movsx_rr(x, w, bits, d, a);
    } else if (bits == 32) {
        mov_rr(x, 32, d, a);
    } else {
        movzx_rr(x, bits, d, a);
    }
    return true;
}

// ---- comparisons ----

unsigned x86_cc_of(IrCc cc) {
    static const uint8_t table[] = {CC_E, CC_NE, CC_B,  CC_AE, CC_BE,
                                    CC_A, CC_L,  CC_GE, CC_LE, CC_G};
    return table[cc];
}

static bool is_zero(const X86 *x, IrRef v) {
    uint64_t c;
    return ir_const_value(x->r, v, &c) && c == 0;
}

// Flags of a, as `test` leaves them; of an `and` that nobody else wants, of its operands.
static void test_value(X86 *x, IrRef a, int w) {
    bool known = (x->flags_known & FLAGS_LOGIC) && x->flags_bits == w &&
                 x86_root(x, x->flags_result) == x86_root(x, a) &&
                 ir_type(x->r, x->flags_result) == ir_type(x->r, a);
    if (known) return;
    const IrInst *in = &x->r->insts[a];
    int32_t k;
    if (x86_test_fuses(x->r, a) && x->val[a].last_use < x->now) {
        if (imm32(x, in->b, w, &k))
            test_ri(x, k < 0 ? w : 32, x86_use_int(x, in->a), k);
        else {
            unsigned ra = x86_use_int(x, in->a);
            test_rr(x, w, ra, x86_use_int(x, in->b));
        }
    } else {
        unsigned ra = x86_use_int(x, a);
        test_rr(x, w, ra, ra);
    }
    flags_are_result(x, a, w);
    x->flags_known |= FLAGS_LOGIC;
}

// cmp a, b
static void compare(X86 *x, IrRef a, IrRef b, int w) {
    int32_t k, disp;
    bool small = imm32(x, b, w, &k);
    if (small && k == 0 && !x86_test_fuses(x->r, a) && x86_dies(x, a) &&
        x86_in_memory(x, a, &disp)) {
        alu_mi(x, w, ALU_CMP, mem_state(disp), 0);
    } else if (small && k == 0 && x86_test_fuses(x->r, a)) {
        test_value(x, a, w);
        return;
    } else if (small && k == 0) {
        unsigned ra = x86_use_int(x, a);
        test_rr(x, w, ra, ra);
    } else if (small && x86_in_memory(x, a, &disp)) {
        alu_mi(x, w, ALU_CMP, mem_state(disp), k);
    } else if (small) {
        alu_ri(x, w, ALU_CMP, x86_use_int(x, a), k);
    } else {
        unsigned ra = x86_use_int(x, a);
        if (x86_in_memory(x, b, &disp))
            alu_rm(x, w, ALU_CMP, ra, mem_state(disp));
        else
            alu_rr(x, w, ALU_CMP, ra, x86_use_int(x, b));
    }
    x->flags_known = FLAGS_CMP;
    x->flags_a = a;
    x->flags_b = b;
    x->flags_bits = (uint8_t)w;
}

static unsigned icmp_flags(X86 *x, const IrInst *in) {
    int w = width(ir_type(x->r, in->a));
    if ((x->flags_known & FLAGS_CMP) && x->flags_a == in->a && x->flags_b == in->b &&
        x->flags_bits == w)
        return x86_cc_of((IrCc)in->aux);
    if ((x->flags_known & FLAGS_RESULT) && is_zero(x, in->b) && x->flags_bits == w &&
        x86_root(x, x->flags_result) == x86_root(x, in->a) &&
        ir_type(x->r, x->flags_result) == ir_type(x->r, in->a)) {
        if (in->aux == IR_EQ || in->aux == IR_NE) return x86_cc_of((IrCc)in->aux);
        if (in->aux == IR_SLT) return CC_S;
        if (in->aux == IR_SGE) return CC_NS;
    }
    compare(x, in->a, in->b, w);
    return x86_cc_of((IrCc)in->aux);
}

unsigned x86_test_flags(X86 *x, IrCond cond, unsigned f, unsigned t) {
    static const uint16_t bit[] = {IR_FLAG_Z, IR_FLAG_NOT_C, IR_FLAG_N, IR_FLAG_V};
    unsigned no = cond & 1;
    if (cond >= IR_C_AL) {
        alu_rr(x, 32, ALU_CMP, f, f);
        return CC_E;
    }
    if (cond < IR_C_HI) {
        test_ri(x, 32, f, bit[cond >> 1]);
        return (cond >> 1 == IR_C_CS >> 1 ? CC_E : CC_NE) ^ no;
    }
    if (cond <= IR_C_LS) { // C and not Z
        test_ri(x, 32, f, IR_FLAG_NOT_C | IR_FLAG_Z);
        return CC_E ^ no;
    }
    mov_rr(x, 32, t, f);
    movzx_rr(x, 16, t, t);
    shift_i(x, 32, SH_SHR, t, 15);
    alu_rr(x, 32, ALU_XOR, t, f); // bit 0: N != V; bit 14: Z
    test_ri(x, 32, t, cond <= IR_C_LT ? 1 : 1 | IR_FLAG_Z);
    return CC_E ^ no;
}

// Conditions of flags that are only known as a value.
static unsigned cond_flags(X86 *x, const IrInst *in) {
    unsigned f = x86_use_int(x, in->a);
    unsigned t = in->aux >= IR_C_GE && in->aux <= IR_C_LE ? x86_tmp_int(x) : 0;
    x86_flags_lost(x);
    return x86_test_flags(x, (IrCond)in->aux, f, t);
}

// Unordered operands are not equal, but EFLAGS have both.
static void emit_unequal(X86 *x, const Cold *c) {
    test_rr(x, 64, RSP, RSP);
    x86_cold_back(x, c);
}

unsigned x86_condition(X86 *x, IrRef user, IrRef v) {
    const IrInst *in = &x->r->insts[v];
    if (x->val[user].flags & VAL_FUSED_COND) {
        unsigned cc;
        bool unless_parity;
        if (in->op == IR_icmp) return icmp_flags(x, in);
        if (in->op == IR_cond) return cond_flags(x, in);
        if (x86_fcmp_flags(x, v, &cc, &unless_parity)) {
            if (unless_parity) x86_cold(x, CC_P, emit_unequal);
            return cc;
        }
        x->val[v].last_use = x->now; // as a value after all, and only here
        if (!x86_sel_fp(x, v)) x86_fallback(x, v);
        x86_flags_lost(x);
    }
    unsigned r = x86_use_int(x, v);
    test_rr(x, 32, r, r);
    x86_flags_lost(x);
    return CC_NE;
}

static bool sel_compare(X86 *x, IrRef v, const IrInst *in) {
    unsigned cc = in->op == IR_icmp ? icmp_flags(x, in) : cond_flags(x, in);
    unsigned d = x86_def_int(x, v);
    setcc(x, cc, d);
    movzx_rr(x, 8, d, d);
    return true;
}

static bool sel_select(X86 *x, IrRef v, const IrInst *in) {
    unsigned cc = x86_condition(x, v, in->a);
    x->int_locked = 0; // EFLAGS have it, and moves and loads leave them alone
    unsigned b = x86_use_int(x, in->b);
    unsigned d = x86_def_int_over(x, v, in->c);
    cmovcc(x, width(in->type), cc, d, b);
    return true;
}

// ---- flags as values ----

// lahf; seto al: the layout of IR_FLAG_*. EFLAGS' carry is a borrow.
void x86_flags_as_value(X86 *x) {
    e8(x, 0x9F);
    setcc(x, CC_O, RAX);
}
static void flags_to_rax(X86 *x, IrRef v) {
    x86_flags_as_value(x);
    x86_def_int_at(x, v, RAX);
}

static bool sel_fl_sub(X86 *x, IrRef v, const IrInst *in) {
    int w = width(ir_type(x->r, in->a));
    x86_take_int(x, RAX);
    compare(x, in->a, in->b, w);
    flags_to_rax(x, v);
    return true;
}

static bool sel_fl_add(X86 *x, IrRef v, const IrInst *in) {
    int w = width(ir_type(x->r, in->a));
    int32_t k;
    x86_take_int(x, RAX);
    if (in->op == IR_fl_adc) {
        unsigned c = x86_use_int(x, in->c), b = x86_use_int(x, in->b), a = x86_use_int(x, in->a);
        unsigned t = RAX;
        mov_rr(x, 64, t, a);
        op_rr(x, 0, 32, 0x0FBA, 4, c, false); // bt c, 0
        e8(x, 0);
        alu_rr(x, w, ALU_ADC, t, b);
    } else {
        unsigned a = x86_use_int(x, in->a);
        mov_rr(x, 64, RAX, a);
        if (imm32(x, in->b, w, &k))
            alu_ri(x, w, ALU_ADD, RAX, k);
        else
            alu_rr(x, w, ALU_ADD, RAX, x86_use_int(x, in->b));
    }
    e8(x, 0xF5); // cmc
    flags_to_rax(x, v);
    x86_flags_lost(x);
    return true;
}

static bool sel_fl_logic(X86 *x, IrRef v, const IrInst *in) {
    x86_take_int(x, RAX);
    test_value(x, in->a, width(ir_type(x->r, in->a)));
    e8(x, 0xF9); // stc: C is 0
    flags_to_rax(x, v);
    x->flags_known &= ~FLAGS_LOGIC;
    return true;
}

typedef struct FlagMove {
    uint32_t mask;
    int8_t shift; // right is positive, after masking for unpack, before for pack
} FlagMove;

static bool sel_fl_pack(X86 *x, IrRef v, const IrInst *in) {
    static const FlagMove pack[] = {
        {IR_FLAG_N | IR_FLAG_Z, 16}, {IR_FLAG_NOT_C, 21}, {IR_FLAG_V, 28}};
    uint64_t c;
    if (in->op == IR_fl_pack && ir_const_value(x->r, in->a, &c)) {
        mov_imm(x, x86_def_int(x, v), ir_flags_from_nzcv((uint32_t)c));
        return true;
    }
    unsigned a = x86_use_int(x, in->a), d = x86_def_int_fresh(x, v), t = x86_tmp_int(x);
    for (unsigned i = 0; i < ARRAY_LEN(pack); i++) {
        unsigned to = i ? t : d;
        mov_rr(x, 32, to, a);
        if (in->op == IR_fl_pack) shift_i(x, 32, SH_SHR, to, (unsigned)pack[i].shift);
        alu_ri(x, 32, ALU_AND, to, (int32_t)pack[i].mask);
        if (in->op == IR_fl_unpack) shift_i(x, 32, SH_SHL, to, (unsigned)pack[i].shift);
        if (i) alu_rr(x, 32, ALU_OR, d, t);
    }
    alu_ri(x, 32, ALU_XOR, d, in->op == IR_fl_pack ? IR_FLAG_NOT_C : IR_FLAG_NOT_C << 21);
    x86_flags_lost(x);
    return true;
}

bool x86_sel_int(X86 *x, IrRef v) {
    const IrInst *in = &x->r->insts[v];
    bool narrow = in->type == IR_I8 || in->type == IR_I16;
    switch (in->op) {
    case IR_const: return true; // made where it is used
    case IR_add: return x86_sel_add(x, v, in);
    case IR_sub: return sel_two_operand(x, v, in, ALU_SUB);
    case IR_and: return sel_low_bits(x, v, in) || sel_logic(x, v, in, ALU_AND);
    case IR_or: return sel_logic(x, v, in, ALU_OR);
    case IR_xor: return sel_logic(x, v, in, ALU_XOR);
    case IR_andn: return sel_andn(x, v, in);
    case IR_neg:
    case IR_not: return sel_unary(x, v, in);
    case IR_mul: return sel_mul(x, v, in);
    case IR_zext:
    case IR_sext:
    case IR_trunc: return sel_convert(x, v, in);
    case IR_select: return sel_select(x, v, in);
    case IR_cond: return sel_compare(x, v, in);
    case IR_icmp: return x86_compares(x->r, in) && sel_compare(x, v, in);
    case IR_fl_sub: return sel_fl_sub(x, v, in);
    case IR_fl_add:
    case IR_fl_adc: return sel_fl_add(x, v, in);
    case IR_fl_logic: return sel_fl_logic(x, v, in);
    case IR_fl_pack:
    case IR_fl_unpack: return sel_fl_pack(x, v, in);
    default: break;
    }
    if (narrow) return false;
    switch (in->op) {
    case IR_abs: return sel_abs(x, v, in);
    case IR_smin:
    case IR_smax:
    case IR_umin:
    case IR_umax: return sel_minmax(x, v, in);
    case IR_umulh:
    case IR_smulh: return sel_mulh(x, v, in);
    case IR_udiv:
    case IR_sdiv: return sel_div(x, v, in);
    case IR_shl:
    case IR_shr:
    case IR_sar:
    case IR_ror: return sel_shift(x, v, in);
    case IR_clz:
    case IR_ctz:
    case IR_popcnt: return sel_count(x, v, in);
    case IR_rbit: return sel_rbit(x, v, in);
    case IR_bswap: return sel_bswap(x, v, in);
    default: return false;
    }
}
