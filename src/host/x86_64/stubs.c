// stubs.c - code generated once per machine: entering and leaving translated code, moving homes to
// and from guest state, and calling the evaluator. Blocks jump to (or call) these by rel32.
#include "host/x86_64/stubs.h"
#include "host/x86_64/emit.h"

enum {
    EVAL_SAVE_SLOT = 48,
    EVAL_FLAGS_SLOT = 61,
    EVAL_RAX_SLOT = 62
}; // of hot.spill, above the spills

static const uint8_t callee_saved[] = {RBX, RBP, R12, R13, R14, R15};
enum {
    CALLER_SAVED = 1 << RAX | 1 << RCX | 1 << RDX | 1 << RSI | 1 << RDI | 1 << R8 | 1 << R9 |
                   1 << R10 | 1 << R11
};

static int32_t slot(unsigned i) {
    return HOT_DISP(spill) + 8 * (int32_t)i;
}
int32_t x86_eval_rax_disp(void) {
    return slot(EVAL_RAX_SLOT);
}

static int32_t disp_of(const HostCtx *h, int field) {
    return (int32_t)h->fields[field].offset - STATE_BIAS;
}

// A tool's function computes as C does: masked exceptions, flags of its own.
void x86_fp_of_c(X86 *x) {
    stmxcsr(x, mem_state(HOT_DISP(guest_fp_control)));
    ldmxcsr(x, mem_state(HOT_DISP(host_fp_saved)));
}
void x86_fp_of_guest(X86 *x) {
    ldmxcsr(x, mem_state(HOT_DISP(guest_fp_control)));
}

// Integer registers in vector registers.
static void move_lodgings(X86 *x, bool load) {
    for (uint32_t set = x->h->lodgings; set; set &= set - 1) {
        unsigned r = (unsigned)__builtin_ctz(set);
        vec_op(x, load ? V_movq : V_movq_st, r, 0,
               vrm_of(mem_state(disp_of(x->h, x->h->field_of_vec[r]))), 0);
    }
}

static const uint8_t *ints_stub(X86 *x, uint32_t set, bool load) {
    const uint8_t *at = x->at;
    if (set == x->h->int_homes) move_lodgings(x, load);
    int count = x->h->count_reg;
    if (count >= 0 && (set == x->h->int_homes || (CALLER_SAVED >> count & 1))) {
        if (load)
            mov_load(x, 64, (unsigned)count, mem_state(HOT_DISP(budget)));
        else
            mov_store(x, 64, mem_state(HOT_DISP(budget)), (unsigned)count);
    }
    for (; set; set &= set - 1) {
        unsigned r = (unsigned)__builtin_ctz(set);
        Mem m = mem_state(disp_of(x->h, x->h->field_of_int[r]));
        if (load)
            mov_load(x, 64, r, m);
        else
            mov_store(x, 64, m, r);
    }
    ret(x);
    return at;
}

// C may use all mask registers.
static void load_masks(X86 *x) {
    static const struct {
        uint8_t k, lanes;
    } masks[] = {
        {VEC_LANE0, 1}, {VEC_HIGH_HALF0, 2}, {VEC_HIGH_HALVES, 0x0A}, {VEC_HIGH_WORDS, 0xAA}};
    for (unsigned i = 0; i < ARRAY_LEN(masks) && x->h->masks; i++) {
        e8(x, 0xC5), e8(x, 0xF8), e8(x, 0x90),
            e8(x, 5u | masks[i].k << 3u); // kmovw k, [rip + disp32]
        x->at += 4;
        rel32_to(x->at - 4, (const uint8_t *)x86_pool_get(x->h, masks[i].lanes, 0));
    }
}

static const uint8_t *vecs_stub(X86 *x, bool load, const uint8_t **homes) {
    const uint8_t *at = x->at;
    move_lodgings(x, load);
    *homes = x->at;
    for (uint32_t set = x->h->vec_homes; set; set &= set - 1) {
        unsigned r = (unsigned)__builtin_ctz(set);
        vec_op(x, load ? V_movaps : V_movaps_st, r, 0,
               vrm_of(mem_state(disp_of(x->h, x->h->field_of_vec[r]))), 0);
    }
    if (load) load_masks(x);
    ret(x);
    return at;
}

static void enter_stub(X86 *x) {
    HostCtx *h = x->h;
    h->enter = x->at;
    for (unsigned i = 0; i < ARRAY_LEN(callee_saved); i++) push_r(x, callee_saved[i]);
    alu_ri(x, 64, ALU_SUB, RSP, 8);
    lea(x, 64, RBP, mem_at(RDI, STATE_BIAS));
    mov_rr(x, 64, RAX, RSI);
    mov_store(x, 64, mem_state(HOT_DISP(host_sp)), RSP);
    stmxcsr(x, mem_state(HOT_DISP(host_fp_saved)));
    ldmxcsr(x, mem_state(HOT_DISP(guest_fp_control)));
    call_to(x, h->load_vec_homes);
    call_to(x, h->load_all_ints);
    to_return_stack(x);
    jmp_reg(x, RAX);
}

static void leave_stubs(X86 *x) {
    HostCtx *h = x->h;
    Mem pc = mem_state(disp_of(h, (int)h->pc_field));
    h->fault_out = x->at;
    mov_imm(x, RAX, HOST_EXIT_FAULT);
    h->leave = x->at;
    to_c_stack(x);
    call_to(x, h->save_all_ints);
    call_to(x, h->save_vec_homes);
    const uint8_t *leave_only = x->at;
    stmxcsr(x, mem_state(HOT_DISP(guest_fp_control)));
    ldmxcsr(x, mem_state(HOT_DISP(host_fp_saved)));
    alu_ri(x, 64, ALU_ADD, RSP, 8);
    for (unsigned i = ARRAY_LEN(callee_saved); i-- > 0;) pop_r(x, callee_saved[i]);
    pop_r(x, RCX); // the CPU expects the guest's calls to return, but knows this jump
    jmp_reg(x, RCX);
    h->vectors_fault_out = x->at; // rbp was put right by leave_at_fault
    mov_load(x, 64, RSP, mem_state(HOT_DISP(host_sp)));
    call_to(x, h->save_vec_homes);
    h->helper_fault_out = x->at;
    mov_load(x, 64, RSP, mem_state(HOT_DISP(host_sp)));
    mov_imm(x, RAX, HOST_EXIT_FAULT);
    jmp_to(x, leave_only);
    h->link_of_all_out = x->at; // rax: the block's links; cl: which
    movzx_rr(x, 8, RCX, RCX);
    shift_i(x, 32, SH_SHL, RCX, (unsigned)__builtin_ctz(X86_LINK_UNIT));
    alu_rr(x, 64, ALU_ADD, RAX, RCX);
    h->link_out = x->at; // rax: the HostLink
    mov_store(x, 64, mem_state(HOT_DISP(exit_link)), RAX);
    mov_load(x, 64, RCX, mem_at(RAX, offsetof(HostLink, target_pc)));
    mov_store(x, 64, pc, RCX);
    mov_imm(x, RAX, HOST_EXIT_LINK);
    jmp_to(x, h->leave);
    static const HostExit why[] = {HOST_EXIT_INTERRUPT, HOST_EXIT_LOOKUP, HOST_EXIT_BUDGET};
    const uint8_t **const out[] = {&h->interrupt_out, &h->lookup_out, &h->budget_out};
    for (unsigned i = 0; i < ARRAY_LEN(why); i++) { // rax: guest pc
        *out[i] = x->at;
        mov_store(x, 64, pc, RAX);
        mov_imm(x, RAX, why[i]);
        jmp_to(x, h->leave);
    }
}

static void change_signs(V128 *v, IrType t) {
    uint64_t sign = 1ull << (ir_elem_bits(t) - 1);
    for (unsigned bits = ir_elem_bits(t); bits < 64; bits *= 2)
        sign |= ir_is_vec(t) ? sign << bits : 0;
    v->d[0] ^= sign;
    if (ir_is_vec(t)) v->d[1] ^= sign;
}

// What the evaluator stub calls: operands and result in hot.scratch.
static void evaluate(void *state, const EvalDesc *d) {
    VcpuHot *hot = vcpu_hot(state);
    V128 args[3];
    for (unsigned i = 0; i < 3; i++) {
        args[i] = hot->scratch[SCRATCH_ARGS + i];
        if (d->types[i] == IR_VOID || ir_is_vec(d->types[i])) continue;
        args[i].d[0] &= bits_mask(ir_elem_bits(d->types[i]));
        args[i].d[1] = 0;
    }
    for (unsigned i = 0; i < 3; i++)
        if (d->negate >> i & 1) change_signs(&args[i], d->types[i]);
    IrFpEnv env = {.mode = hot->fp.mode, .rules = hot->fp.rules};
    ir_eval(&d->in, d->types[0], args, NULL, &env, &hot->scratch[SCRATCH_RESULT]);
    hot->fp.flags |= env.flags;
}

static void eval_stub(X86 *x) {
    unsigned n_vecs = x->h->level == VEC_AVX512 ? 32 : 16;
    x->h->call_eval = x->at; // rax: the EvalDesc
    unsigned n = 0;
    mov_store(x, 64, mem_state(slot(EVAL_FLAGS_SLOT - 1)), RAX);
    e8(x, 0x9F); // lahf
    setcc(x, CC_O, RAX);
    mov_store(x, 32, mem_state(slot(EVAL_FLAGS_SLOT)), RAX);
    mov_load(x, 64, RAX, mem_state(slot(EVAL_FLAGS_SLOT - 1)));
    for (uint32_t set = CALLER_SAVED & ~(1u << RAX); set; set &= set - 1)
        mov_store(x, 64, mem_state(slot(EVAL_SAVE_SLOT + n++)), (unsigned)__builtin_ctz(set));
    for (unsigned i = 0; i < n_vecs; i++)
        vec_op(x, V_movaps_st, i, 0, vrm_of(mem_state(x86_scratch_disp(SCRATCH_SAVE + i))), 0);
    mov_rr(x, 64, RSI, RAX);
    lea(x, 64, RDI, mem_state(-STATE_BIAS));
    mov_imm(x, RAX, (uint64_t)(uintptr_t)evaluate);
    to_c_stack(x);
    call_reg(x, RAX);
    to_return_stack(x);
    n = 0;
    for (uint32_t set = CALLER_SAVED & ~(1u << RAX); set; set &= set - 1)
        mov_load(x, 64, (unsigned)__builtin_ctz(set), mem_state(slot(EVAL_SAVE_SLOT + n++)));
    for (unsigned i = 0; i < n_vecs; i++)
        vec_op(x, V_movaps, i, 0, vrm_of(mem_state(x86_scratch_disp(SCRATCH_SAVE + i))), 0);
    load_masks(x);
    mov_load(x, 32, RAX, mem_state(slot(EVAL_FLAGS_SLOT)));
    e8(x, 0x04), e8(x, 127); // add al, 127: overflows when al is 1
    e8(x, 0x9E);             // sahf
    ret(x);
}

// The common half of call_if: everything saved, registers in guest state for who wants to look.
static void call_if_stub(X86 *x) {
    HostCtx *h = x->h;
    unsigned n_vecs = h->level == VEC_AVX512 ? 32 : 16, n = 0;
    static const uint8_t args[] = {RSI, RDX, RCX};
    h->call_if = x->at; // rax: the IfDesc
    for (uint32_t set = CALLER_SAVED & ~(1u << RAX); set; set &= set - 1)
        mov_store(x, 64, mem_state(slot(EVAL_SAVE_SLOT + n++)), (unsigned)__builtin_ctz(set));
    call_to(x, h->save_all_ints);
    call_to(x, h->save_vec_homes);
    for (unsigned i = 0; i < n_vecs; i++)
        vec_op(x, V_movaps_st, i, 0, vrm_of(mem_state(x86_scratch_disp(SCRATCH_SAVE + i))), 0);
    mov_load(x, 64, RCX, mem_at(RAX, offsetof(IfDesc, pc)));
    mov_store(x, 64, mem_state(disp_of(h, (int)h->pc_field)), RCX);
    lea(x, 64, RDI, mem_state(-STATE_BIAS));
    for (unsigned i = 0; i < ARRAY_LEN(args); i++)
        mov_load(x, 64, args[i], mem_at(RAX, (int32_t)(offsetof(IfDesc, args) + 8 * i)));
    to_c_stack(x);
    x86_fp_of_c(x);
    call_mem(x, mem_at(RAX, offsetof(IfDesc, fn)));
    x86_fp_of_guest(x);
    to_return_stack(x);
    n = 0;
    for (uint32_t set = CALLER_SAVED & ~(1u << RAX); set; set &= set - 1)
        mov_load(x, 64, (unsigned)__builtin_ctz(set), mem_state(slot(EVAL_SAVE_SLOT + n++)));
    if (h->count_reg >= 0) // the function may have given more
        mov_load(x, 64, (unsigned)h->count_reg, mem_state(HOT_DISP(budget)));
    for (unsigned i = 0; i < n_vecs; i++)
        vec_op(x, V_movaps, i, 0, vrm_of(mem_state(x86_scratch_disp(SCRATCH_SAVE + i))), 0);
    load_masks(x);
    ret(x);
}

void x86_make_stubs(HostCtx *h, HostCode *room) {
    X86 state; // most of it is for blocks
    X86 *x = &state;
    memset(x, 0, offsetof(X86, mem_val));
    x->h = h;
    x->at = room->at;
    h->save_all_ints = ints_stub(x, h->int_homes, false);
    h->load_all_ints = ints_stub(x, h->int_homes, true);
    uint32_t count = h->count_reg >= 0 ? 1u << h->count_reg : 0;
    if ((h->int_homes | count) & CALLER_SAVED) {
        h->save_ints = ints_stub(x, h->int_homes & CALLER_SAVED, false);
        h->load_ints = ints_stub(x, h->int_homes & CALLER_SAVED, true);
    }
    h->save_vecs = vecs_stub(x, false, &h->save_vec_homes);
    h->load_vecs = vecs_stub(x, true, &h->load_vec_homes);
    enter_stub(x);
    leave_stubs(x);
    x86_return_stubs(x);
    eval_stub(x);
    call_if_stub(x);
    room->at = x->at;
}
