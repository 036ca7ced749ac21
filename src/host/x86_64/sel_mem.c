// sel_mem.c - host code for guest memory: loads, stores, atomics, fences.
//
// x86's own order is stronger than any guest's plain loads and stores need; a store-release is an
// xchg, so that a later load-acquire does not overtake it (Arm's RCsc), and full fences are real.
#include "host/x86_64/emit.h"

static int bits_of(IrType t) {
    return (int)ir_bytes(t) * 8;
}

// Of an add that is made for this access alone.
static __attribute__((noinline)) Mem fused_address(X86 *x, const IrInst *add, int64_t *disp) {
    Mem m = {.base = (int8_t)x86_use_int(x, add->a), .index = -1};
    uint64_t c;
    if (ir_const_value(x->r, add->b, &c)) {
        *disp += (int64_t)c;
        return m;
    }
    const IrInst *shl = &x->r->insts[add->b];
    if (shl->op == IR_shl && ir_const_value(x->r, shl->b, &c) && c <= 3) {
        m.index = (int8_t)x86_use_int(x, shl->a);
        m.scale = (uint8_t)c;
    } else {
        m.index = (int8_t)x86_use_int(x, add->b);
    }
    return m;
}

static __attribute__((noinline)) Mem far_address(X86 *x, Mem m, int64_t disp) {
    unsigned t = x86_tmp_int(x);
    mov_imm(x, t, (uint64_t)disp);
    alu_rr(x, 64, ALU_ADD, t, (unsigned)m.base);
    x86_flags_lost(x);
    m.base = (int8_t)t;
    return m;
}

static inline Mem address(X86 *x, IrRef v, const IrInst *in, int64_t disp) {
    Mem m = {.index = -1};
    if (x->val[v].flags & VAL_FUSED_ADDR)
        m = fused_address(x, &x->r->insts[in->a], &disp);
    else
        m.base = (int8_t)x86_use_int(x, in->a);
    if (UNLIKELY(disp != (int32_t)disp)) return far_address(x, m, disp);
    m.disp = (int32_t)disp;
    return m;
}

Mem x86_address(X86 *x, IrRef v) {
    const IrInst *in = &x->r->insts[v];
    bool has_disp = in->op == IR_load || in->op == IR_store || in->op == IR_prefetch;
    return address(x, v, in, has_disp ? in->imm : 0);
}

// op_rm of an address that a register holds, as nearly all are: less for the compiler to ask.
static inline void op_guest(X86 *x, int w, unsigned op, unsigned reg, Mem m, bool bytes) {
    if (m.base < 0) __builtin_unreachable();
    if (LIKELY(m.index < 0))
        op_rm(x, 0, w, op, reg, mem_at(m.base, m.disp), bytes);
    else
        op_rm(x, 0, w, op, reg, m, bytes);
}

static void load_vec(X86 *x, IrRef v, const IrInst *in) {
    Mem m = x86_address(x, v);
    unsigned bytes = ir_bytes(in->aux);
    if (bytes <= 2) {
        unsigned t = x86_tmp_int(x), d = x86_def_vec(x, v);
        x86_record_fault(x);
        movzx_load(x, (int)bytes * 8, t, m);
        vec_op(x, V_movd_xr, d, 0, vrm_reg(t), 0);
        return;
    }
    unsigned d = x86_def_vec(x, v);
    x86_record_fault(x);
    vec_op(x, bytes == 16 ? V_movups : bytes == 8 ? V_movq : V_movd_xr, d, 0, vrm_of(m), 0);
}

static void load(X86 *x, IrRef v, const IrInst *in) {
    if (x86_in_vec(in->type)) {
        load_vec(x, v, in);
        return;
    }
    static const uint16_t op[2][4] = {{0x0FB6, 0x0FB7, 0x8B, 0x8B}, {0x0FBE, 0x0FBF, 0x63, 0x8B}};
    Mem m = address(x, v, in, in->imm);
    int bits = bits_of(in->aux), w = in->type == IR_I64 ? 64 : 32;
    bool sext = (in->aux2 & IR_SEXT) && bits < w;
    int lodging = x->val[v].hint >= 0 ? x->h->lodging_of_field[x->val[v].hint] : -1;
    if (lodging >= 0) {
        x86_def_field(x, (unsigned)x->val[v].hint, v);
        x86_record_fault(x);
        vec_op(x, bits == 64 ? V_movq : V_movd_xr, (unsigned)lodging, 0, vrm_of(m), 0);
        return;
    }
    unsigned d = x86_def_int(x, v);
    x86_record_fault(x);
    op_guest(x, sext || bits == 64 ? w : 32, op[sext][__builtin_ctz((unsigned)bits) - 3], d, m,
             false);
}

static void store_vec(X86 *x, IrRef v, const IrInst *in) {
    Mem m = x86_address(x, v);
    unsigned bytes = ir_bytes(in->aux), s = x86_use_vec(x, in->b);
    if (bytes <= 2) {
        unsigned t = x86_tmp_int(x);
        vec_op(x, V_movd_rx, s, 0, vrm_reg(t), 0);
        x86_record_fault(x);
        mov_store(x, (int)bytes * 8, m, t);
        return;
    }
    x86_record_fault(x);
    vec_op(x, bytes == 16 ? V_movups_st : bytes == 8 ? V_movq_st : V_movss_st, s, 0, vrm_of(m), 0);
}

static void store(X86 *x, IrRef v, const IrInst *in) {
    if (x86_in_vec(ir_type(x->r, in->b))) {
        store_vec(x, v, in);
        if (in->aux2 & IR_RELEASE) mfence(x);
        return;
    }
    int bits = bits_of(in->aux);
    uint64_t c;
    Mem m = address(x, v, in, in->imm);
    if (in->aux2 & IR_RELEASE) {
        unsigned t = x86_tmp_int(x);
        mov_rr(x, 64, t, x86_use_int(x, in->b));
        x86_record_fault(x);
        op_rm(x, 0, bits, bits == 8 ? 0x86 : 0x87, t, m, bits == 8); // xchg
        return;
    }
    if (ir_const_value(x->r, in->b, &c) && x->val[in->b].reg < 0 &&
        (bits < 64 || (int64_t)c == (int32_t)c)) {
        x86_record_fault(x);
        mov_store_imm(x, bits, m, (int32_t)c);
        return;
    }
    int lodging = bits >= 32 ? x86_lodged(x, in->b) : -1;
    if (lodging >= 0) {
        x86_record_fault(x);
        vec_op(x, bits == 64 ? V_movq_st : V_movss_st, (unsigned)lodging, 0, vrm_of(m), 0);
        return;
    }
    unsigned s = x86_use_int(x, in->b);
    x86_record_fault(x);
    op_guest(x, bits, bits == 8 ? 0x88 : 0x89, s, m, bits == 8);
}

// lock cmpxchg of `bits`; the old value, in rax, becomes v.
static void cmpxchg(X86 *x, int bits, Mem m, unsigned desired) {
    x86_record_fault(x);
    lock_prefix(x);
    op_rm(x, 0, bits, bits == 8 ? 0x0FB0 : 0x0FB1, desired, m, bits == 8);
}

static void zero_extend_rax(X86 *x, int bits) {
    if (bits < 32) movzx_rr(x, bits, RAX, RAX);
}

static void cas(X86 *x, IrRef v, const IrInst *in) {
    int bits = bits_of(in->aux);
    unsigned expected = x86_use_int(x, in->b), desired = x86_use_int(x, in->c);
    Mem m = x86_address(x, v);
    if (desired == RAX || m.base == RAX) { // whatever else sits in rax has to leave it
        unsigned t = x86_tmp_int(x);
        mov_rr(x, 64, t, RAX);
        if (desired == RAX) desired = t;
        if (m.base == RAX) m.base = (int8_t)t;
    }
    if (expected != RAX) {
        x86_take_int(x, RAX);
        mov_rr(x, bits == 64 ? 64 : 32, RAX, expected);
    } else {
        x86_take_int(x, RAX);
        if (bits == 32) mov_rr(x, 32, RAX, RAX);
    }
    cmpxchg(x, bits, m, desired);
    zero_extend_rax(x, bits);
    x86_def_int_at(x, v, RAX);
    x86_flags_lost(x);
}

static void rmw_exchange(X86 *x, IrRef v, const IrInst *in, Mem m) {
    int bits = bits_of(in->aux);
    unsigned s = x86_use_int(x, in->b), d = x86_tmp_int(x);
    mov_rr(x, 64, d, s);
    x86_record_fault(x);
    if (in->imm == IR_RMW_ADD) {
        lock_prefix(x);
        op_rm(x, 0, bits, bits == 8 ? 0x0FC0 : 0x0FC1, d, m, bits == 8);
    } else {
        op_rm(x, 0, bits, bits == 8 ? 0x86 : 0x87, d, m, bits == 8);
    }
    if (bits < 32) movzx_rr(x, bits, d, d);
    x86_def_int_at(x, v, d);
    x86_flags_lost(x);
}

// t = rax op s, for the loop below.
static void rmw_compute(X86 *x, IrRmw op, int bits, unsigned t, unsigned s) {
    int w = bits == 64 ? 64 : 32;
    switch (op) {
    case IR_RMW_AND:
    case IR_RMW_OR:
    case IR_RMW_XOR:
        mov_rr(x, 64, t, RAX);
        alu_rr(x, w, op == IR_RMW_AND ? ALU_AND : op == IR_RMW_OR ? ALU_OR : ALU_XOR, t, s);
        return;
    case IR_RMW_ANDN:
        mov_rr(x, 64, t, s);
        unary(x, w, 2, t);
        alu_rr(x, w, ALU_AND, t, RAX);
        return;
    default: break;
    }
    static const uint8_t keep_old[] = {
        [IR_RMW_SMIN] = CC_L, [IR_RMW_SMAX] = CC_G, [IR_RMW_UMIN] = CC_B, [IR_RMW_UMAX] = CC_A};
    if (bits < 32) { // compare in the top bits, where signs are
        mov_rr(x, 32, t, s);
        shift_i(x, 32, SH_SHL, t, 32u - (unsigned)bits);
        shift_i(x, 32, SH_SHL, RAX, 32u - (unsigned)bits);
        alu_rr(x, 32, ALU_CMP, RAX, t);
        cmovcc(x, 32, keep_old[op], t, RAX);
        shift_i(x, 32, SH_SHR, t, 32u - (unsigned)bits);
        shift_i(x, 32, SH_SHR, RAX, 32u - (unsigned)bits);
        return;
    }
    mov_rr(x, 64, t, s);
    alu_rr(x, w, ALU_CMP, RAX, s);
    cmovcc(x, w, keep_old[op], t, RAX);
}

static void rmw(X86 *x, IrRef v, const IrInst *in) {
    int bits = bits_of(in->aux);
    unsigned s = x86_use_int(x, in->b);
    Mem m = x86_address(x, v);
    if (in->imm == IR_RMW_ADD || in->imm == IR_RMW_XCHG) {
        rmw_exchange(x, v, in, m);
        return;
    }
    if (s == RAX || m.base == RAX) {
        unsigned u = x86_tmp_int(x);
        mov_rr(x, 64, u, RAX);
        if (s == RAX) s = u;
        if (m.base == RAX) m.base = (int8_t)u;
    }
    x86_take_int(x, RAX);
    unsigned t = x86_tmp_int(x);
    x86_record_fault(x);
    if (bits < 32)
        movzx_load(x, bits, RAX, m);
    else
        mov_load(x, bits, RAX, m);
    const uint8_t *again = x->at;
    rmw_compute(x, (IrRmw)in->imm, bits, t, s);
    cmpxchg(x, bits, m, t);
    uint8_t *back = jcc_forward(x, CC_NE);
    rel32_to(back, again);
    zero_extend_rax(x, bits);
    x86_def_int_at(x, v, RAX);
    x86_flags_lost(x);
}

static unsigned access_bytes(const IrInst *in) {
    return ir_bytes(in->aux);
}

// Not aligned to its size: allowed when it does not cross 16 bytes (IR_WITHIN16), else a trap.
static void emit_misaligned(X86 *x, const Cold *c) {
    const IrInst *in = &x->r->insts[c->v];
    Mem m = {.base = (int8_t)c->args[0],
             .index = (int8_t)c->args[1],
             .scale = c->args[2],
             .disp = (int32_t)c->imm};
    if (c->args[1] == 0xff) m.index = -1;
    lea(x, 64, c->result, m);
    mov_store(x, 64, mem_state(HOT_DISP(trap_addr)), c->result);
    if (in->aux2 & IR_WITHIN16) {
        alu_ri(x, 32, ALU_AND, c->result, 15);
        alu_ri(x, 32, ALU_CMP, c->result, (int32_t)(16 - access_bytes(in)));
        uint8_t *rel32 = jcc_forward(x, CC_BE);
        rel32_to(rel32, c->back);
        moves(x, rel32, 0);
    }
    mov_address(x, RAX, x->start);
    mov_store(x, 64, mem_state(HOT_DISP(trap_code)), RAX);
    mov_imm(x, RAX, x->r->pc + (uint64_t)(c->imm >> 32));
    mov_store(x, 64, mem_state(x86_field_disp(x, x->r->pc_field)), RAX);
    mov_imm(x, RAX, HOST_EXIT_TRAP + (IR_TRAP_ALIGN | 1u << 8));
    jmp_to(x, x->h->leave);
}

static void check_alignment(X86 *x, IrRef v, const IrInst *in) {
    Mem m = x86_address(x, v);
    unsigned t = x86_tmp_int(x), bytes = access_bytes(in);
    if (m.index < 0 && m.disp % (int32_t)bytes == 0) {
        test_ri(x, 32, (unsigned)m.base, (int32_t)bytes - 1);
    } else {
        lea(x, 64, t, m);
        test_ri(x, 32, t, (int32_t)bytes - 1);
    }
    Cold *c = x86_cold(x, CC_NE, emit_misaligned);
    if (c) {
        c->v = v;
        c->result = (uint8_t)t;
        c->args[0] = (uint8_t)m.base;
        c->args[1] = (uint8_t)m.index;
        c->args[2] = m.scale;
        c->imm = (int64_t)(uint32_t)m.disp | (int64_t)(x86_guest_pc(x) - x->r->pc) << 32;
    }
    x86_flags_lost(x);
    x->int_locked = 0; // the access asks again
}

static bool asks_alignment(const IrInst *in) {
    return in->aux2 & (IR_ALIGNED | IR_WITHIN16) && access_bytes(in) > 1;
}

void x86_sel_load(X86 *x, IrRef v, const IrInst *in) {
    if (asks_alignment(in)) check_alignment(x, v, in);
    load(x, v, in);
}

void x86_sel_store(X86 *x, IrRef v, const IrInst *in) {
    if (asks_alignment(in)) check_alignment(x, v, in);
    store(x, v, in);
}

// prefetcht0, t1, t2, nta, prefetchw: no CPU lacks the first four, and to those without it the last
// is a nop.
void x86_sel_prefetch(X86 *x, IrRef v, const IrInst *in) {
    static const uint8_t field[] = {
        [IR_PREFETCH_L1] = 1, [IR_PREFETCH_L2] = 2, [IR_PREFETCH_L3] = 3, [IR_PREFETCH_ONCE] = 0};
    bool write = in->aux == IR_PREFETCH_WRITE;
    op_rm(x, 0, 32, write ? 0x0F0D : 0x0F18, write ? 1 : field[in->aux], x86_address(x, v), false);
}

void x86_sel_atomic(X86 *x, IrRef v, const IrInst *in) {
    if (in->op == IR_fence) {
        if (in->aux == IR_FENCE_FULL) mfence(x);
        return;
    }
    if (asks_alignment(in)) check_alignment(x, v, in);
    if (in->op == IR_rmw)
        rmw(x, v, in);
    else if (ir_bytes(in->aux) == 16)
        x86_cas16(x, v);
    else
        cas(x, v, in);
}
