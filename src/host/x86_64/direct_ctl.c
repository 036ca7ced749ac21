// direct_ctl.c - how a block that is written directly begins, is left and ends.
#include "host/x86_64/direct.h"
#include "host/x86_64/stubs.h"

// ---- condition flags ----

static Mem flags_mem(const X86Direct *d) {
    return direct_field(&d->x, d->base.flags);
}

void x86_direct_store_flags(X86Direct *d) {
    x86_flags_as_value(&d->x);
    mov_store(&d->x, 32, flags_mem(d), RAX);
    d->to_store = false;
}

unsigned x86_direct_condition(X86Direct *d, IrCond cond) {
    static const uint8_t of_cmp[] = {
        [IR_C_EQ] = CC_E, [IR_C_NE] = CC_NE, [IR_C_CS] = CC_AE, [IR_C_CC] = CC_B,
        [IR_C_MI] = CC_S, [IR_C_PL] = CC_NS, [IR_C_VS] = CC_O,  [IR_C_VC] = CC_NO,
        [IR_C_HI] = CC_A, [IR_C_LS] = CC_BE, [IR_C_GE] = CC_GE, [IR_C_LT] = CC_L,
        [IR_C_GT] = CC_G, [IR_C_LE] = CC_LE};
    if (d->in_eflags) return of_cmp[cond];
    mov_load(&d->x, 32, RAX, flags_mem(d));
    return x86_test_flags(&d->x, cond, RAX, RCX);
}

// With m, or with imm when that is DIRECT_ZERO.
static void compare_if(X86Direct *d, const DirectCompareIf *how, DirectReg n, DirectReg m,
                       unsigned imm) {
    X86 *x = &d->x;
    int w = how->wide ? 64 : 32;
    unsigned cc = x86_direct_condition(d, (IrCond)how->cond);
    uint32_t otherwise = ir_flags_from_nzcv((uint32_t)how->nzcv << 28);
    mov_store_imm(x, 32, flags_mem(d), (int32_t)otherwise);
    uint8_t *over = jcc_short(x, cc ^ 1);
    unsigned a = direct_use(x, n, RAX), b = RCX;
    if (m == DIRECT_ZERO)
        mov_imm(x, RCX, imm);
    else
        b = direct_use(x, m, RCX);
    if (how->add) {
        mov_rr(x, 64, RDX, a);
        alu_rr(x, w, ALU_ADD, RDX, b);
        e8(x, 0xF5); // cmc
    } else {
        alu_rr(x, w, ALU_CMP, a, b);
    }
    x86_flags_as_value(x);
    mov_store(x, 32, flags_mem(d), RAX);
    short_here(x, over);
    d->in_eflags = d->to_store = false;
}

static void direct_compare_if(Direct *base, const DirectCompareIf *how, DirectReg n, DirectReg m) {
    compare_if(x86_direct(base), how, n, m, 0);
}

static void direct_compare_imm_if(Direct *base, const DirectCompareIf *how, DirectReg n,
                                  unsigned m) {
    compare_if(x86_direct(base), how, n, DIRECT_ZERO, m);
}

// ---- leaving ----

// Two at most behind this.
static bool has_links(X86Direct *d) {
    if (d->x.out->n_links + 2 <= HOST_DIRECT_LINKS) return true;
    d->x.overflow = true;
    return false;
}

static void direct_exit_if(Direct *base, IrCond cond, uint64_t pc) {
    X86Direct *d = x86_direct(base);
    direct_flags_asked(d);
    unsigned cc = x86_direct_condition(d, cond);
    if (has_links(d)) x86_jump_to_link(&d->x, (int)cc, pc);
}

static void direct_exit_if_zero(Direct *base, DirectReg n, bool wide, bool not_zero, uint64_t pc) {
    X86Direct *d = x86_direct(base);
    X86 *x = &d->x;
    direct_flags_go(d);
    x86_direct_compare_imm(x, wide ? 64 : 32, n, 0);
    if (has_links(d)) x86_jump_to_link(x, not_zero ? CC_NE : CC_E, pc);
}

static void direct_exit_if_bit(Direct *base, DirectReg n, unsigned bit, bool is_set, uint64_t pc) {
    X86Direct *d = x86_direct(base);
    X86 *x = &d->x;
    direct_flags_go(d);
    unsigned reg = direct_use(x, n, RAX), cc;
    if (bit < 32) {
        test_ri(x, 32, reg, (int32_t)(1u << bit));
        cc = is_set ? CC_NE : CC_E;
    } else {
        op_rr(x, 0, 64, 0x0FBA, 4, reg, false); // bt reg, bit
        e8(x, bit);
        cc = is_set ? CC_B : CC_AE;
    }
    if (has_links(d)) x86_jump_to_link(x, (int)cc, pc);
}

static void direct_exit(Direct *base, uint64_t pc) {
    X86Direct *d = x86_direct(base);
    direct_flags_asked(d);
    if (has_links(d)) x86_jump_to_link(&d->x, -1, pc);
}

static void direct_exit_ind(Direct *base, IrJumpKind kind, DirectReg n) {
    X86Direct *d = x86_direct(base);
    direct_flags_asked(d);
    x86_exit_indirect(&d->x, kind, direct_use(&d->x, n, RAX), RDX);
}

// Into the link register, and with it onto the return stack.
static void push_frame(X86 *x, DirectReg link, uint64_t back) {
    unsigned reg = direct_def(x, link, RAX);
    mov_imm(x, reg, back);
    direct_put(x, link, reg);
    x->call_return = back;
    push_r(x, reg);
}

static void direct_call(Direct *base, DirectReg link, uint64_t back, uint64_t pc) {
    X86Direct *d = x86_direct(base);
    direct_flags_asked(d);
    push_frame(&d->x, link, back);
    if (has_links(d)) x86_call_link(&d->x, pc);
}

static void direct_call_ind(Direct *base, DirectReg link, uint64_t back, DirectReg n) {
    X86Direct *d = x86_direct(base);
    X86 *x = &d->x;
    direct_flags_asked(d);
    unsigned pc = direct_use(x, n, RCX);
    if (n == link) {
        mov_rr(x, 64, RCX, pc);
        pc = RCX;
    }
    push_frame(x, link, back);
    if (has_links(d)) x86_exit_indirect(x, IR_JUMP_CALL, pc, RDX);
}

// ---- blocks ----

static void direct_poll(Direct *base) {
    X86Direct *d = x86_direct(base);
    direct_record_fault(d);
    mov_load(&d->x, 32, RAX, mem_state(POLL_DISP));
}

// lea count, [count - n]
static uint8_t *direct_count(Direct *base) {
    X86 *x = &x86_direct(base)->x;
    e32(x, x->h->count_down);
    return x->at - 1;
}

static void direct_counted(Direct *base, uint8_t *count, unsigned n) {
    (void)base;
    *count = (uint8_t)-n;
}

// What regions are compiled in is new for each.
static void no_region(X86 *x, const IrRegion *r) {
    memset((char *)x + offsetof(X86, r), 0, offsetof(X86, int_val) - offsetof(X86, r));
    x->r = r;
    x->active = -1;
    x->val = x->small_val;
}

static void direct_region(Direct *base, const IrRegion *r) {
    X86Direct *d = x86_direct(base);
    X86 *x = &d->x;
    HostOutput *out = x->out;
    direct_flags_go(d);
    ptrdiff_t most = (ptrdiff_t)r->n_insts * X86_BYTES_PER_INST;
    bool room = x->limit - x->at > most && d->cold_limit - d->cold > most &&
                out->n_faults + 2 * r->n_mem < HOST_DIRECT_FAULTS &&
                out->n_traps + 2 * r->n_fp <= HOST_DIRECT_TRAPS &&
                out->n_links + r->n_exits + 2 <= HOST_DIRECT_LINKS;
    if (r->failed || !room || !x86_region(x, r, X86_PART)) {
        x->overflow = true;
        no_region(x, r);
        return;
    }
    uint8_t *hot = x->at, *limit = x->limit;
    x->at = d->cold;
    x->limit = d->cold_limit;
    x86_region_cold(x, d->cold_start);
    d->cold = x->at;
    x->at = hot;
    x->limit = limit;
    no_region(x, r);
}

HostError x86_direct_block(HostCtx *h, const IrRegion *r, HostCode *room, HostOutput *out,
                           void (*say)(void *ctx, Direct *d), void *ctx, DgmErr *err) {
    enum { LEAST = 32 << 10 };
    if (!h->cpu.direct) return HOST_UNSUPPORTED;
    if (room->end - room->at < LEAST || room->cold_end - room->cold < LEAST) return HOST_NO_ROOM;
    X86Direct direct, *d = &direct;
    X86 *x = &d->x;
    d->base = (Direct){.ops = &x86_direct_ops};
    d->cold_start = d->cold = room->cold;
    d->cold_limit = room->cold_end - X86_SLACK / 2;
    d->in_eflags = d->to_store = false;
    d->set_end = NULL;
    x86_begin(x, h, room, out, err);
    no_region(x, r);
    say(ctx, &d->base);
    uint8_t *hot_end = x->at;
    if (x->at < x->limit) {
        x->at = d->cold;
        x->limit = d->cold_limit;
    }
    x86_region_cold(x, d->cold_start);
    return x86_end(x, room, hot_end);
}

const DirectOps x86_direct_ops = {
    .poll = direct_poll,
    .count = direct_count,
    .counted = direct_counted,
    .set = x86_direct_set,
    .set16 = x86_direct_set16,
    .add = x86_direct_add,
    .alu = x86_direct_alu,
    .alu_imm = x86_direct_alu_imm,
    .field = x86_direct_bits,
    .shift = x86_direct_shift,
    .mul = x86_direct_mul,
    .select = x86_direct_select,
    .compare_if = direct_compare_if,
    .compare_imm_if = direct_compare_imm_if,
    .load = x86_direct_load,
    .store = x86_direct_store,
    .load_by = x86_direct_load_by,
    .store_by = x86_direct_store_by,
    .load_pair = x86_direct_load_pair,
    .store_pair = x86_direct_store_pair,
    .exit_if = direct_exit_if,
    .exit_if_zero = direct_exit_if_zero,
    .exit_if_bit = direct_exit_if_bit,
    .exit = direct_exit,
    .exit_ind = direct_exit_ind,
    .call = direct_call,
    .call_ind = direct_call_ind,
    .region = direct_region,
};
