// sel_ctl.c - leaving blocks, helpers, and the FP environment.
//
// Exits are jumps with a rel32 that link() patches; unlinked they lead to a stub behind the block
// which says which link it was. Blocks that jump backwards or indirectly check for an interrupt
// when they are entered (host.c), where guest state is exact and nothing has happened yet.
#include "host/x86_64/emit.h"
#include "host/x86_64/stubs.h"

// Pads so that the next `bytes` bytes, from `skip` on, lie in one aligned word: one store patches
// them.
void x86_align_patch(X86 *x, unsigned skip, unsigned bytes) {
    unsigned word = x->h->patch_word, at = (unsigned)(uintptr_t)(x->at + skip) & (word - 1);
    nops(x, (word - at) & -(unsigned)(at > word - bytes));
}

enum { STUB_TO_COME = INT32_MIN }; // HostLink.unlinked

static void to_stub_here(X86 *x, HostLink *l) {
    uint8_t *patch = x86_patch(x->h, l);
    l->unlinked = (int32_t)(x->at - (patch + 4));
    rel32_to(patch, x->at); // freezing sets it anew: it does not count as what moves
}

void x86_leave_by(X86 *x, const HostLink *l) {
    mov_address(x, RAX, l);
    jmp_to(x, x->h->link_out);
}

void x86_jump_here(X86 *x, HostLink *l) {
    x86_align_patch(x, 1, 4);
    e8(x, 0xE9);
    x86_set_patch(x->h, l, x->at);
    x->at += 4;
    rel32_to(x->at - 4, x->at);
}

// mov cl, place; jmp to what follows the last of them: the address of all links, of which cl says
// the one. Freezing knows this form.
static void short_link_stub(X86 *x, const HostLink *l, unsigned n_behind) {
    enum { BYTES = 4, JMP = 0xEB };
    unsigned place = l->index * (unsigned)(sizeof *l / X86_LINK_UNIT);
    e32(x, X86_SHORT_STUB | place << 8 | JMP << 16 | n_behind * BYTES << 24);
}

// Until it is linked a link leads to a stub, which is made when all code is there: most of a
// block's cold code is such stubs, and much of what translating costs is memory that is new.
void x86_link_stubs(X86 *x) {
    enum { MOST_SHORT = 32 };
    unsigned n = x->n_stubs;
    bool is_short = n > 1 && x->out->n_links <= MOST_SHORT;
    for (uint32_t i = 0; i < x->out->n_links && x->at < x->limit; i++) {
        HostLink *l = &x->out->links[i];
        if (l->unlinked != STUB_TO_COME) continue;
        to_stub_here(x, l);
        if (is_short)
            short_link_stub(x, l, --n);
        else
            x86_leave_by(x, l);
    }
    if (!is_short || x->at >= x->limit) return;
    mov_address(x, RAX, x->out->links);
    jmp_to(x, x->h->link_of_all_out);
}

void x86_emit_counted(X86 *x, HostLink *l) {
    HostCount *c = &x->out->counts[l - x->out->links];
    mov_address(x, RAX, c);
    alu_mi(x, 32, ALU_SUB, mem_at(RAX, offsetof(HostCount, count)), 1);
    uint8_t *hot = jcc_short(x, CC_S);
    jmp_mem(x, mem_at(RAX, offsetof(HostCount, entry)));
    short_here(x, hot);
    c->entry = c->stub = x->at;
    x86_leave_by(x, l);
}

static void emit_counted_stub(X86 *x, const Cold *c) {
    HostLink *l = (HostLink *)(uintptr_t)c->imm;
    x86_exit_pays(x, c, l);
    l->unlinked = (int32_t)(x->at - (x86_patch(x->h, l) + 4));
    x86_emit_counted(x, l);
}

// The jump whose rel32 was just emitted leaves by this link.
static void leaves_by(X86 *x, HostLink *l) {
    uint8_t *rel32 = x->at - 4;
    x86_set_patch(x->h, l, rel32);
    if (l->counts) x->out->counts[l - x->out->links] = (HostCount){0};
    if (l->sunk) {
        x86_sunk_exit(x, rel32, l);
        return;
    }
    if (!l->counts) {
        l->unlinked = STUB_TO_COME;
        x->n_stubs++;
        return;
    }
    Cold *c = x86_cold_at(x, rel32, emit_counted_stub);
    if (!c) return;
    c->imm = (int64_t)(uintptr_t)l;
    c->owed_at = x86_exit_owes(x, l);
}

void x86_jump_to_link(X86 *x, int cc, uint64_t target_pc) {
    HostLink *l = x86_new_link(x, target_pc);
    l->calls = x->call_return;
    l->counts = x->r->hot;
    l->sunk = x->active >= 0 && (cc >= 0 || x->r->hot);
    if (cc < 0) { // ends the block: may become a nop as a whole
        if (x86_owed_at(x)) x86_pay_back(x, x->owed_at);
        l->falls_through = true;
        x86_align_patch(x, 0, 5);
        e8(x, 0xE9);
        x->at += 4;
    } else {
        if (!l->sunk || l->counts) x86_align_patch(x, 2, 4);
        jcc_forward(x, (unsigned)cc);
    }
    leaves_by(x, l);
}

// ---- calls and returns ----
//
// A call pushes a frame on the return stack, [rsp] where the host code returns to and [rsp + 8] the
// guest pc that is there, so a return whose pc is the top frame's is the host's own `ret`, which
// the CPU predicts. Any other return looks a few frames up (longjmp), else forgets the stack.
// Frames are predictions, never needed: the engine may drop them at any time by resetting rsp.

static void return_point(X86 *x) {
    x->active = -1; // state has flags, as it has behind every indirect jump
    pop_r(x, RAX);  // the shortest way to drop it
    x86_jump_to_link(x, -1, x->call_return);
}

// Both ways on: the call itself, and behind it the block that it returns to.
void x86_call_link(X86 *x, uint64_t target_pc) {
    HostLink *l = x86_new_link(x, target_pc);
    l->calls = true;
    l->counts = x->r->hot;
    l->sunk = x->active >= 0;
    x86_align_patch(x, 1, 4);
    e8(x, 0xE8);
    x->at += 4;
    leaves_by(x, l);
    return_point(x);
}

static void push_frame(X86 *x, const IrInst *hint) {
    ir_const_value(x->r, hint->a, &x->call_return);
    push_r(x, x86_use_int(x, hint->a));
}

static void emit_lookup_stub(X86 *x, const Cold *c) {
    if (c->imm) { // a call: rax is free unless it holds the pc, which goes there
        mov_rr(x, 64, RAX, c->args[0]);
        mov_address(x, RCX, (const void *)(uintptr_t)c->imm);
        push_r(x, RCX);
    } else {
        mov_rr(x, 64, RAX, c->args[0]);
    }
    jmp_to(x, x->h->lookup_out);
}

static void emit_return_miss(X86 *x, const Cold *c) {
    mov_rr(x, 64, RAX, c->args[0]);
    jmp_to(x, x->h->return_miss);
}

static void exit_return(X86 *x, unsigned pc) {
    alu_rm(x, 64, ALU_CMP, pc, mem_at(RSP, 8));
    Cold *c = x86_cold(x, CC_NE, emit_return_miss);
    if (c) c->args[0] = (uint8_t)pc;
    ret(x);
}

// The entry for the guest pc in a register, with t as its index: 16 bytes each, a pc is a multiple
// of 4, so times 4.
static Mem jump_cache_entry(X86 *x, unsigned pc, unsigned t) {
    mov_rr(x, 32, t, pc);
    alu_ri(x, 32, ALU_AND, t, (JUMP_CACHE_ENTRIES - 1) << 2);
    return (Mem){.base = RBP, .index = (int8_t)t, .scale = 2, .disp = HOT_DISP(jump_cache)};
}

void x86_exit_indirect(X86 *x, IrJumpKind kind, unsigned pc, unsigned t) {
    if (kind == IR_JUMP_RET) {
        exit_return(x, pc);
        return;
    }
    Mem entry = jump_cache_entry(x, pc, t);
    alu_rm(x, 64, ALU_CMP, pc, entry);
    Cold *c = x86_cold(x, CC_NE, emit_lookup_stub);
    if (c) c->args[0] = (uint8_t)pc;
    entry.disp += (int32_t)offsetof(JumpCacheEntry, code);
    if (!x->call_return) {
        jmp_mem(x, entry);
        return;
    }
    call_mem(x, entry);
    if (c) c->imm = (int64_t)(uintptr_t)x->at;
    return_point(x);
}

// A return that the top frame did not foresee; rax: guest pc.
void x86_return_stubs(X86 *x) {
    enum { FRAMES = X86_SENTINELS };
    HostCtx *h = x->h;
    h->return_miss = x->at;
    alu_rm(x, 64, ALU_CMP, RSP, mem_state(HOT_DISP(interrupt)));
    rel32_to(jcc_forward(x, CC_B), h->interrupt_out);
    uint8_t *hit[FRAMES];
    for (int i = 1; i < FRAMES; i++) {
        alu_rm(x, 64, ALU_CMP, RAX, mem_at(RSP, 16 * i + 8));
        hit[i] = jcc_forward(x, CC_E);
    }
    mov_load(x, 64, RSP, mem_state(HOT_DISP(ret_top)));
    Mem entry = jump_cache_entry(x, RAX, RCX);
    alu_rm(x, 64, ALU_CMP, RAX, entry);
    rel32_to(jcc_forward(x, CC_NE), h->lookup_out);
    entry.disp += (int32_t)offsetof(JumpCacheEntry, code);
    jmp_mem(x, entry);
    for (int i = 1; i < FRAMES; i++) {
        rel32_to(hit[i], x->at);
        alu_ri(x, 64, ALU_ADD, RSP, 16 * i);
        ret(x);
    }
    h->return_empty = x->at; // the guest did return to a sentinel's pc
    mov_load(x, 64, RSP, mem_state(HOT_DISP(ret_top)));
    mov_imm(x, RAX, X86_SENTINEL_PC);
    jmp_to(x, h->lookup_out);
}

static void store_pc(X86 *x, uint64_t pc) {
    Mem m = mem_state(x86_field_disp(x, x->r->pc_field));
    if ((int64_t)pc == (int32_t)pc) {
        mov_store_imm(x, 64, m, (int32_t)pc);
    } else {
        x86_take_int(x, RAX);
        mov_imm(x, RAX, pc);
        mov_store(x, 64, m, RAX);
    }
}

static void trap(X86 *x, const IrInst *in) {
    store_pc(x, (uint64_t)in->imm);
    mov_imm(x, RAX, HOST_EXIT_TRAP + (in->aux | (uint64_t)in->aux2 << 8));
    jmp_to(x, x->h->leave);
}

// ---- counting and watching ----

static void emit_budget_stub(X86 *x, const Cold *c) {
    alu_ri(x, 64, ALU_ADD, (unsigned)x->h->count_reg, (int32_t)(c->imm >> 32));
    x86_make_flags_of(x, (int)c->v - 1);
    mov_imm(x, RAX, x->r->pc + (uint32_t)c->imm);
    jmp_to(x, x->h->budget_out);
}

static void budget(X86 *x, const IrInst *in) {
    if (x->h->count_reg < 0) {
        x86_fail(x, "a budget that was not announced");
        return;
    }
    int64_t n = (int64_t)x86_early_sum(x, in, (uint64_t)in->imm);
    if (in->aux == IR_EARLY && !n) return;
    alu_ri(x, 64, ALU_SUB, (unsigned)x->h->count_reg, (int32_t)n);
    x86_flags_asked(x);
    Cold *c = x86_cold(x, CC_L, emit_budget_stub);
    if (c) {
        c->imm = n << 32 | (int64_t)(uint32_t)(x86_guest_pc(x) - x->r->pc);
        c->v = (IrRef)(x->active + 1);
    }
    x86_flags_lost(x);
}

Mem x86_slot_mem(uint32_t slot) {
    return mem_state(-(int32_t)sizeof(VcpuHot) - STATE_BIAS - 8 * (int32_t)(slot + 1));
}

static void slot_write(X86 *x, const IrInst *in) {
    Mem m = x86_slot_mem((uint32_t)in->imm);
    uint64_t c;
    bool constant = ir_const_value(x->r, in->a, &c);
    if (in->op == IR_slot_add && constant) {
        c = x86_early_sum(x, in, c);
        if (in->aux == IR_EARLY && !c) return;
    }
    bool small = constant && (int64_t)c == (int32_t)c;
    if (in->op == IR_slot_put && small) {
        mov_store_imm(x, 64, m, (int32_t)c);
    } else if (in->op == IR_slot_put) {
        mov_store(x, 64, m, x86_use_int(x, in->a));
    } else {
        if (small)
            alu_mi(x, 64, ALU_ADD, m, (int32_t)c);
        else
            op_rm(x, 0, 64, 0x01, x86_use_int(x, in->a), m, false); // add [m], r
        x86_flags_lost(x);
    }
}

static void poke(X86 *x, const IrInst *in) {
    Mem m = mem_at((int)x86_use_int(x, in->a), (int32_t)in->imm);
    uint64_t c;
    if (ir_const_value(x->r, in->b, &c) && x->val[in->b].reg < 0 && (int64_t)c == (int32_t)c)
        mov_store_imm(x, 64, m, (int32_t)c);
    else
        mov_store(x, 64, m, x86_use_int(x, in->b));
}

static void executed(X86 *x, IrRef v) {
    unsigned d = x86_def_int(x, v);
    mov_load(x, 64, d, mem_state(HOT_DISP(count_base)));
    alu_rr(x, 64, ALU_SUB, d, (unsigned)x->h->count_reg);
    x86_flags_lost(x);
}

static void emit_if_desc(X86 *x, const Cold *c) {
    const IrCall *call = &x->r->calls[x->r->insts[c->v].imm];
    IfDesc d = {.fn = (uint64_t)(uintptr_t)call->helper->fn, .pc = x->r->pc + (uint64_t)c->imm};
    for (unsigned i = 0; i < call->n_args && i < ARRAY_LEN(d.args); i++)
        ir_const_value(x->r, call->args[i], &d.args[i]);
    Mem rax = mem_state(x86_eval_rax_disp());
    mov_store(x, 64, rax, RAX);
    lea(x, 64, RAX, (Mem){.base = RBP, .index = -1, .disp = INT32_MAX}); // becomes rip-relative:
    x->at[-5] = 0x05;
    x->at[-7] = 0x48;
    uint8_t *rel32 = x->at - 4;
    call_to(x, x->h->call_if);
    mov_load(x, 64, RAX, rax);
    x86_cold_back(x, c);
    x->at = (uint8_t *)ALIGN_UP((uintptr_t)x->at, 8);
    rel32_to(rel32, x->at);
    memcpy(x->at, &d, sizeof d);
    x->at += sizeof d;
}

static void call_if(X86 *x, IrRef v, const IrInst *in) {
    Cold *c = x86_cold(x, x86_condition(x, v, in->a), emit_if_desc);
    if (c) {
        c->v = v;
        c->imm = (int64_t)(x86_guest_pc(x) - x->r->pc);
    }
    x86_flags_lost(x);
}

// ---- helpers ----

// Operands go to scratch memory, one V128 each.
void x86_store_operand(X86 *x, unsigned slot, IrRef v) {
    Mem m = mem_state(x86_scratch_disp(slot));
    uint64_t c;
    if (x86_in_vec(ir_type(x->r, v)))
        vec_op(x, V_movaps_st, x86_use_vec(x, v), 0, vrm_of(m), 0);
    else if (ir_const_value(x->r, v, &c) && (int64_t)c == (int32_t)c)
        mov_store_imm(x, 64, m, (int32_t)c);
    else
        mov_store(x, 64, m, x86_use_int(x, v));
    x->int_locked = x->vec_locked = 0; // one after the other: any number of operands fits
}

// Masks a scalar argument to its type: upper bits of registers may hold anything.
static void load_scalar_arg(X86 *x, unsigned reg, unsigned slot, IrType t) {
    Mem m = mem_state(x86_scratch_disp(slot));
    unsigned bytes = ir_bytes(t);
    if (bytes >= 4)
        mov_load(x, bytes == 8 ? 64 : 32, reg, m);
    else
        movzx_load(x, (int)bytes * 8, reg, m);
}

static void call_c(X86 *x, const IrHelper *h) {
    bool sync = h->reads_state || h->writes_state || h->can_fault;
    if (h->writes_state) x86_forget_homes(x); // first: it fetches old values into temporaries
    x86_spill_temps(x);
    if (sync || x->h->save_ints) call_to(x, sync ? x->h->save_all_ints : x->h->save_ints);
    if (!h->keeps_vectors && (x->h->vec_homes | x->h->lodgings)) call_to(x, x->h->save_vecs);
    if (h->wants_count && !sync && x->h->count_reg >= 0)
        mov_store(x, 64, mem_state(HOT_DISP(budget)), (unsigned)x->h->count_reg);
    to_c_stack(x);
    if (h->foreign) x86_fp_of_c(x);
    if (h->can_fault || h->wants_pc) store_pc(x, x86_guest_pc(x));
    if (!h->can_fault) return;
    mov_address(x, RAX, x->start);
    mov_store(x, 64, mem_state(HOT_DISP(trap_code)), RAX);
    mov_store_imm(x, 8, mem_state(HOT_DISP(in_helper)),
                  h->keeps_vectors ? HELPER_KEEPS_VECTORS : 1);
}

static void return_from_c(X86 *x, const IrHelper *h) {
    if (h->can_fault) mov_store_imm(x, 8, mem_state(HOT_DISP(in_helper)), 0);
    if (h->foreign) x86_fp_of_guest(x);
    to_return_stack(x);
    if (h->writes_state || x->h->load_ints)
        call_to(x, h->writes_state ? x->h->load_all_ints : x->h->load_ints); // keep rax
    if (!h->keeps_vectors && (x->h->vec_homes | x->h->lodgings)) call_to(x, x->h->load_vecs);
    x86_flags_lost(x);
}

static void call_pointer(X86 *x, void (*fn)(void)) {
    int64_t rel = (int64_t)(uintptr_t)fn - (int64_t)(uintptr_t)(x->at + 5);
    if (!x->relocs && rel == (int32_t)rel) { // frozen code finds it by its address
        call_to(x, (const uint8_t *)(uintptr_t)fn);
        return;
    }
    mov_address(x, RAX, (const void *)(uintptr_t)fn);
    call_reg(x, RAX);
}

// void fn(state, result, a, b, c, imm)
static void call_vector(X86 *x, IrRef v, const IrHelper *h, const IrRef *args, unsigned n_args,
                        uint64_t imm) {
    static const uint8_t regs[] = {RDX, RCX, R8};
    for (unsigned i = 0; i < n_args; i++) x86_store_operand(x, SCRATCH_ARGS + i, args[i]);
    call_c(x, h);
    lea(x, 64, RDI, mem_state(-STATE_BIAS));
    lea(x, 64, RSI, mem_state(x86_scratch_disp(SCRATCH_RESULT)));
    for (unsigned i = 0; i < 3; i++) {
        if (i < n_args)
            lea(x, 64, regs[i], mem_state(x86_scratch_disp(SCRATCH_ARGS + i)));
        else
            mov_imm(x, regs[i], 0);
    }
    mov_imm(x, R9, imm);
    call_pointer(x, h->fn);
    return_from_c(x, h);
    if (x->r->insts[v].type != IR_VOID) x86_load_result(x, v);
}

void x86_load_result(X86 *x, IrRef v) {
    Mem m = mem_state(x86_scratch_disp(SCRATCH_RESULT));
    if (!x->val[v].last_use) return;
    if (x86_in_vec(x->r->insts[v].type))
        vec_op(x, V_movaps, x86_def_vec(x, v), 0, vrm_of(m), 0);
    else
        mov_load(x, 64, x86_def_int(x, v), m);
}

static void call_scalar(X86 *x, IrRef v, const IrHelper *h, const IrCall *c) {
    static const uint8_t regs[] = {RSI, RDX, RCX, R8};
    uint64_t known;
    for (unsigned i = 0; i < c->n_args; i++)
        if (!ir_const_value(x->r, c->args[i], &known))
            x86_store_operand(x, i < 3 ? SCRATCH_ARGS + i : SCRATCH_RESULT, c->args[i]);
    call_c(x, h);
    lea(x, 64, RDI, mem_state(-STATE_BIAS));
    for (unsigned i = 0; i < c->n_args; i++)
        if (ir_const_value(x->r, c->args[i], &known))
            mov_imm(x, regs[i], known);
        else
            load_scalar_arg(x, regs[i], i < 3 ? SCRATCH_ARGS + i : SCRATCH_RESULT,
                            ir_type(x->r, c->args[i]));
    call_pointer(x, h->fn);
    return_from_c(x, h);
    IrType t = x->r->insts[v].type;
    if (t == IR_VOID || !x->val[v].last_use) return;
    if (x86_in_vec(t))
        vec_op(x, V_movq_xr, x86_def_vec(x, v), 0, vrm_reg(RAX), 0);
    else {
        x86_take_int(x, RAX);
        x86_def_int_at(x, v, RAX);
    }
}

// 16-byte compare and swap, in C: rbx, which cmpxchg16b wants, is a home that a fault must find
// whole.
static void cas16(void *state, V128 *result, const V128 *addr, const V128 *expected,
                  const V128 *desired, uint64_t imm) {
    (void)imm;
    V128 *p = vcpu_mem(state, addr->d[0]);
    uint64_t lo = expected->d[0], hi = expected->d[1];
    __asm__ volatile("lock cmpxchg16b %0"
                     : "+m"(*p), "+a"(lo), "+d"(hi)
                     : "b"(desired->d[0]), "c"(desired->d[1])
                     : "cc", "memory");
    *result = (V128){.d = {lo, hi}};
}

void x86_cas16(X86 *x, IrRef v) {
    static const IrHelper helper = {
        .name = "cas16", .fn = (void (*)(void))cas16, .vec = true, .can_fault = true};
    const IrInst *in = &x->r->insts[v];
    const IrRef args[] = {in->a, in->b, in->c};
    call_vector(x, v, &helper, args, 3, 0);
}

static void call(X86 *x, IrRef v, const IrInst *in) {
    const IrCall *c = &x->r->calls[in->imm];
    if (c->helper->vec)
        call_vector(x, v, c->helper, c->args, c->n_args, c->imm);
    else
        call_scalar(x, v, c->helper, c);
}

// ---- the FP environment ----

#define FP_CONTROL mem_state(HOT_DISP(guest_fp_control))
#define FP_FLAGS   mem_state(HOT_DISP(fp) + (int32_t)offsetof(IrFpEnv, flags))
#define FP_MODE    mem_state(HOT_DISP(fp) + (int32_t)offsetof(IrFpEnv, mode))

static void fp_flags(X86 *x, IrRef v) {
    unsigned d = x86_def_int(x, v), t = x86_tmp_int(x);
    stmxcsr(x, FP_CONTROL);
    mov_load(x, 32, d, FP_CONTROL);
    mov_rr(x, 32, t, d); // invalid is bit 0 in both; the others sit one higher there
    alu_ri(x, 32, ALU_AND, d, 1);
    shift_i(x, 32, SH_SHR, t, 1);
    alu_ri(x, 32, ALU_AND, t, 0x1e);
    alu_rr(x, 32, ALU_OR, d, t);
    alu_rm(x, 32, ALU_OR, d, FP_FLAGS);
    x86_flags_lost(x);
}

static void fp_setflags(X86 *x, const IrInst *in) {
    unsigned a = x86_use_int(x, in->a);
    mov_store(x, 32, FP_FLAGS, a);
    stmxcsr(x, FP_CONTROL);
    alu_mi(x, 32, ALU_AND, FP_CONTROL, ~MXCSR_STICKY);
    ldmxcsr(x, FP_CONTROL);
    x86_flags_lost(x);
}

// IrRm counts nearest, up, down, zero; MXCSR nearest, down, up, zero: the two bits change places.
static void fp_setmode(X86 *x, const IrInst *in) {
    unsigned a = x86_use_int(x, in->a), t = x86_tmp_int(x), u = x86_tmp_int(x);
    mov_store(x, 32, FP_MODE, a);
    mov_rr(x, 32, t, a);
    mov_rr(x, 32, u, a);
    alu_ri(x, 32, ALU_AND, t, 1);
    shift_i(x, 32, SH_SHL, t, 14);
    alu_ri(x, 32, ALU_AND, u, 2);
    shift_i(x, 32, SH_SHL, u, 12);
    alu_rr(x, 32, ALU_OR, t, u);
    stmxcsr(x, FP_CONTROL);
    mov_load(x, 32, u, FP_CONTROL);
    alu_ri(x, 32, ALU_AND, u, MXCSR_STICKY);
    alu_rr(x, 32, ALU_OR, u, t);
    alu_ri(x, 32, ALU_OR, u, (int32_t)x86_mxcsr_masks(x->h, x->r->fp_traps));
    mov_store(x, 32, FP_CONTROL, u);
    ldmxcsr(x, FP_CONTROL);
    x86_flags_lost(x);
}

void x86_fp_masked(X86 *x, bool masked) {
    stmxcsr(x, FP_CONTROL);
    if (masked) {
        alu_mi(x, 32, ALU_OR, FP_CONTROL, MXCSR_MASKS);
        ldmxcsr(x, FP_CONTROL);
        return;
    }
    Mem rax = mem_state(x86_eval_rax_disp());
    mov_store(x, 64, rax, RAX);
    e8(x, 0x9F); // lahf; a comparison clears OF
    alu_mi(x, 32, ALU_AND, FP_CONTROL, ~(int32_t)(MXCSR_MASKS | MXCSR_DENORMAL));
    alu_mi(x, 32, ALU_OR, FP_CONTROL, (int32_t)x86_mxcsr_masks(x->h, true));
    op_rm(x, 0, 32, 0xF7, 0, FP_CONTROL, false); // test m32, imm32
    e32(x, MXCSR_INVALID);
    uint8_t *no = jcc_short(x, CC_E);
    alu_mi(x, 32, ALU_OR, FP_FLAGS, IR_FPF_INVALID);
    alu_mi(x, 32, ALU_AND, FP_CONTROL, ~MXCSR_INVALID);
    short_here(x, no);
    ldmxcsr(x, FP_CONTROL);
    e8(x, 0x9E); // sahf
    mov_load(x, 64, RAX, rax);
}

void x86_exit_if(X86 *x, IrRef v, const IrInst *in) {
    if (x->r->insts[in->a].op != IR_const) {
        x86_jump_to_link(x, (int)x86_condition(x, v, in->a), (uint64_t)in->imm);
        return;
    }
    if (!x->r->hot) x86_make_flags(x);
    x86_jump_to_link(x, -1, (uint64_t)in->imm);
}

void x86_exit(X86 *x, const IrInst *in) {
    if (x->call_return)
        x86_call_link(x, (uint64_t)in->imm);
    else
        x86_jump_to_link(x, -1, (uint64_t)in->imm);
}

void x86_sel_ctl(X86 *x, IrRef v) {
    const IrInst *in = &x->r->insts[v];
    switch (in->op) {
    case IR_exit_ind: {
        unsigned pc = x86_use_int(x, in->a), t = in->aux == IR_JUMP_RET ? 0 : x86_tmp_int(x);
        x86_exit_indirect(x, (IrJumpKind)in->aux, pc, t);
        break;
    }
    case IR_trap: trap(x, in); break;
    case IR_budget: budget(x, in); break;
    case IR_slot_get: mov_load(x, 64, x86_def_int(x, v), x86_slot_mem((uint32_t)in->imm)); break;
    case IR_slot_add:
    case IR_slot_put: slot_write(x, in); break;
    case IR_poke: poke(x, in); break;
    case IR_executed: executed(x, v); break;
    case IR_peek: {
        Mem m = mem_at((int)x86_use_int(x, in->a), (int32_t)in->imm);
        mov_load(x, 64, x86_def_int(x, v), m);
        break;
    }
    case IR_prefetch: x86_sel_prefetch(x, v, in); break;
    case IR_call_if: call_if(x, v, in); break;
    case IR_call: call(x, v, in); break;
    case IR_fp_flags: fp_flags(x, v); break;
    case IR_fp_setflags: fp_setflags(x, in); break;
    case IR_fp_setmode: fp_setmode(x, in); break;
    case IR_call_hint: push_frame(x, in); break;
    default: x86_fail(x, "no code for it"); break;
    }
}
