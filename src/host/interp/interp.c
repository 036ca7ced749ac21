// interp.c - the portable host: "code" is a copy of the region in the code cache, and running it is
// ir_eval() for what computes and a few lines here for what touches guest state and memory or
// leaves. It is the oracle for the other hosts and the fallback where there is none; so it is
// simple first, and no instruction is ever specialised.
//
// Start at run(), one trip through a region. Guest registers have no homes: they are always in
// guest state, and before whatever can fault the guest pc is put there too and hot->in_helper set,
// so to the engine every fault is one in a helper. leave_at_fault() then points the interrupted
// context at landing(), which long-jumps to the frame of enter() whose buffer hot->scratch[0]
// names.
//
// Ownership: everything of a block is in the room that the engine gave. A link's slot is the only
// part that changes afterwards, atomically.
#include "host/host.h"
#include "host/interp/memory.h"

#include <setjmp.h>
#include <stdlib.h>
#include <ucontext.h>

struct HostCtx {
    const IrField *fields;
    uint16_t pc_offset;
    uint8_t *code_base;
};

// A way out: the engine's link and the block it goes to now, NULL while it is unlinked.
typedef struct Slot {
    HostLink *link;
    const void *target;
} Slot;

// A region in the code cache, its arrays behind it. In the copy `c` of exit and exit_if is the
// number of their slot.
typedef struct Code {
    uint64_t pc;
    uint32_t n_insts, n_blocks, n_slots;
    IrInst *insts;
    IrBlock *blocks;
    V128 *vconsts;
    IrCall *calls;
    const IrField *fields;
    Slot *slots;
} __attribute__((aligned(16))) Code;

// ---- making ----

static HostCtx *interp_create(const IrField *fields, uint32_t n_fields, uint32_t pc_field,
                              uint32_t state_bytes, const IrHotFields *hot, const char *isa_limit,
                              unsigned needs, HostCode *stubs, DgmErr *err) {
    HostCtx *ctx = malloc(sizeof *ctx);
    if (!ctx) {
        err_set(err, -12, "interpreter: out of memory");
        return NULL;
    }
    *ctx =
        (HostCtx){.fields = fields, .pc_offset = fields[pc_field].offset, .code_base = stubs->at};
    return ctx;
}

static void interp_destroy(HostCtx *ctx) {
    free(ctx);
}

static bool is_linked_exit(const IrInst *in) {
    return in->op == IR_exit || in->op == IR_exit_if;
}

// Room for n items, or NULL; *at is 16-byte aligned before and after.
static void *take(uint8_t **at, const uint8_t *end, size_t n, size_t item) {
    size_t bytes = ALIGN_UP(n * item, 16);
    if ((size_t)(end - *at) < bytes) return NULL;
    void *p = *at;
    *at += bytes;
    return p;
}

static HostError interp_compile(HostCtx *ctx, const IrRegion *r, HostCode *room, HostOutput *out,
                                DgmErr *err) {
    uint8_t *at = (uint8_t *)ALIGN_UP((uintptr_t)room->at, 16);
    if (at > room->end) return HOST_NO_ROOM;
    uint32_t n_slots = 0;
    for (IrRef i = 0; i < r->n_insts; i++) n_slots += is_linked_exit(&r->insts[i]);
    Code *c = take(&at, room->end, 1, sizeof *c);
    IrInst *insts = take(&at, room->end, r->n_insts, sizeof *insts);
    IrBlock *blocks = take(&at, room->end, r->n_blocks, sizeof *blocks);
    V128 *vconsts = take(&at, room->end, r->n_vconsts, sizeof *vconsts);
    IrCall *calls = take(&at, room->end, r->n_calls, sizeof *calls);
    Slot *slots = take(&at, room->end, n_slots, sizeof *slots);
    if (!c || !insts || !blocks || !vconsts || !calls || !slots) return HOST_NO_ROOM;
    memcpy(insts, r->insts, r->n_insts * sizeof *insts);
    memcpy(blocks, r->blocks, r->n_blocks * sizeof *blocks);
    if (r->n_vconsts) memcpy(vconsts, r->vconsts, r->n_vconsts * sizeof *vconsts);
    if (r->n_calls) memcpy(calls, r->calls, r->n_calls * sizeof *calls);
    *c = (Code){.pc = r->pc,
                .n_insts = r->n_insts,
                .n_blocks = r->n_blocks,
                .n_slots = n_slots,
                .insts = insts,
                .blocks = blocks,
                .vconsts = vconsts,
                .calls = calls,
                .fields = r->fields,
                .slots = slots};
    uint32_t n = 0;
    for (IrRef i = 0; i < r->n_insts; i++) {
        if (!is_linked_exit(&insts[i])) continue;
        insts[i].c = n;
        slots[n] = (Slot){.link = &out->links[n]};
        out->links[n] = (HostLink){.target_pc = (uint64_t)insts[i].imm,
                                   .patch = (uint32_t)((uint8_t *)&slots[n] - ctx->code_base)};
        n++;
    }
    out->entry = c;
    out->code_bytes = (uint32_t)(at - (uint8_t *)c);
    out->n_links = n_slots;
    out->faults = NULL;
    out->n_faults = 0;
    room->at = at;
    return HOST_OK;
}

static void interp_link(HostCtx *ctx, HostLink *l, const void *entry) {
    Slot *slot = (void *)(ctx->code_base + l->patch);
    __atomic_store_n(&slot->target, entry, __ATOMIC_RELEASE);
}

// ---- running ----

// One vCPU in one enter().
typedef struct Run {
    const HostCtx *ctx;
    char *state;
    VcpuHot *hot;
    uint64_t exit;    // HOST_EXIT_* when a run ends
    uint64_t insn_pc; // of the last `insn`, or of the last access that said it
} Run;

static void set_pc(const Run *run, uint64_t pc) {
    memcpy(run->state + run->ctx->pc_offset, &pc, sizeof pc);
}

static uint64_t mask_scalar(IrType t, uint64_t x) {
    return x & bits_mask(ir_elem_bits(t));
}

// From here to unguard() a fault is the guest's, at the instruction of the last mark.
static void guard(Run *run) {
    set_pc(run, run->insn_pc);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    run->hot->in_helper = 1;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
}
static void unguard(Run *run) {
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    run->hot->in_helper = 0;
}

// Loads, stores and atomics; false when the address is misaligned and must not be.
static bool access_memory(Run *run, const IrInst *in, const V128 *values, V128 *out) {
    unsigned bytes = ir_bytes(in->aux);
    uint64_t addr = values[in->a].d[0] + (in->op == IR_rmw ? 0 : (uint64_t)in->imm);
    bool wide_cas = in->op == IR_cas && bytes == 16;
    bool misaligned = (in->aux2 & IR_ALIGNED || wide_cas) && addr & (bytes - 1);
    if (misaligned || (in->aux2 & IR_WITHIN16 && (addr & 15) + bytes > 16)) {
        run->hot->trap_addr = addr;
        return false;
    }
    void *p = vcpu_mem(run->state, addr);
    guard(run);
    switch ((IrOp)in->op) {
    case IR_load:
        *out = interp_load(p, bytes, in->aux2);
        if (in->aux2 & IR_SEXT)
            out->d[0] = mask_scalar(in->type, (uint64_t)bits_sext(out->d[0], bytes * 8));
        break;
    case IR_store: interp_store(p, bytes, in->aux2, &values[in->b]); break;
    case IR_cas: *out = interp_cas(p, bytes, &values[in->b], &values[in->c]); break;
    default: *out = (V128){.d = {interp_rmw(p, bytes, (IrRmw)in->imm, values[in->b].d[0])}}; break;
    }
    unguard(run);
    return true;
}

static void call_helper(Run *run, const Code *c, const IrInst *in, const V128 *values, V128 *out) {
    const IrCall *call = &c->calls[in->imm];
    const IrHelper *h = call->helper;
    *out = (V128){0};
    // as every host: the guest pc is in state whenever a helper might look or fault
    if (h->can_fault)
        guard(run);
    else if (h->reads_state || h->wants_pc)
        set_pc(run, run->insn_pc);
    if (h->vec) {
        void (*fn)(void *, V128 *, const V128 *, const V128 *, const V128 *, uint64_t) =
            (void *)h->fn;
        const V128 *v[4] = {0};
        for (unsigned i = 0; i < call->n_args; i++) v[i] = &values[call->args[i]];
        fn(run->state, out, v[0], v[1], v[2], v[3] ? v[3]->d[0] : call->imm);
    } else {
        uint64_t (*fn)(void *, uint64_t, uint64_t, uint64_t, uint64_t) = (void *)h->fn;
        uint64_t v[4] = {0};
        for (unsigned i = 0; i < call->n_args; i++) v[i] = values[call->args[i]].d[0];
        out->d[0] = fn(run->state, v[0], v[1], v[2], v[3]);
        if (in->type != IR_VOID) out->d[0] = mask_scalar(in->type, out->d[0]);
    }
    if (h->can_fault) unguard(run);
}

static const Code *stop(Run *run, uint64_t why, uint64_t pc) {
    set_pc(run, pc);
    run->exit = why;
    return NULL;
}

// The next block when it is known and nobody wants the vCPU; else NULL with run->exit set.
static const Code *leave_through(Run *run, const Code *c, const IrInst *in) {
    uint64_t pc = (uint64_t)in->imm;
    const Slot *slot = &c->slots[in->c];
    const Code *next = __atomic_load_n(&slot->target, __ATOMIC_ACQUIRE);
    if (!next) {
        run->hot->exit_link = slot->link;
        return stop(run, HOST_EXIT_LINK, pc);
    }
    return run->hot->interrupt ? stop(run, HOST_EXIT_INTERRUPT, pc) : next;
}

static const Code *leave_indirect(Run *run, uint64_t pc) {
    if (run->hot->interrupt) return stop(run, HOST_EXIT_INTERRUPT, pc);
    const JumpCacheEntry *e = &run->hot->jump_cache[(pc >> 2) % JUMP_CACHE_ENTRIES];
    return e->pc == pc ? e->code : stop(run, HOST_EXIT_LOOKUP, pc);
}

// Once through a region. The next one to run, or NULL with run->exit set.
static const Code *run_region(Run *run, const Code *c) {
    VcpuHot *hot = run->hot;
    V128 values[c->n_insts];
    values[0] = (V128){0}; // what absent operands read
    run->insn_pc = c->pc;
    hot->trap_code = c;
    for (IrRef i = c->blocks[0].start;; i++) {
        const IrInst *in = &c->insts[i];
        V128 *out = &values[i];
        switch ((IrOp)in->op) {
        case IR_NOP: break;
        case IR_get:
            *out = (V128){0};
            memcpy(out, run->state + c->fields[in->imm].offset, ir_bytes(in->type));
            out->d[0] = ir_is_vec(in->type) ? out->d[0] : mask_scalar(in->type, out->d[0]);
            break;
        case IR_put: {
            const IrField *f = &c->fields[in->imm];
            memcpy(run->state + f->offset, &values[in->a], ir_bytes(f->type));
            break;
        }
        case IR_insn: run->insn_pc = (uint64_t)in->imm; break;
        case IR_fp_flags: *out = (V128){.d = {hot->fp.flags}}; break;
        case IR_fp_setflags: hot->fp.flags = values[in->a].w[0]; break;
        case IR_fp_setmode: hot->fp.mode = values[in->a].w[0]; break;
        case IR_load:
        case IR_store: ir_insn_pc(in, c->pc, &run->insn_pc); __attribute__((fallthrough));
        case IR_cas:
        case IR_rmw:
            if (!access_memory(run, in, values, out)) {
                return stop(run, HOST_EXIT_TRAP + (IR_TRAP_ALIGN | 1u << 8), run->insn_pc);
            }
            break;
        case IR_fence: __atomic_thread_fence(__ATOMIC_SEQ_CST); break;
        case IR_prefetch:
            __builtin_prefetch((void *)(values[in->a].d[0] + (uint64_t)in->imm));
            break;
        case IR_call: call_helper(run, c, in, values, out); break;
        case IR_budget:
            if (hot->budget < in->imm) return stop(run, HOST_EXIT_BUDGET, run->insn_pc);
            hot->budget -= in->imm;
            break;
        case IR_count: hot->budget -= in->imm; break;
        case IR_slot_get: *out = (V128){.d = {*vcpu_slot(hot, (uint32_t)in->imm)}}; break;
        case IR_slot_add: *vcpu_slot(hot, (uint32_t)in->imm) += values[in->a].d[0]; break;
        case IR_slot_put: *vcpu_slot(hot, (uint32_t)in->imm) = values[in->a].d[0]; break;
        case IR_poke:
            *(uint64_t *)(values[in->a].d[0] + (uint64_t)in->imm) = values[in->b].d[0];
            break;
        case IR_slot_at: *out = (V128){.d = {(uintptr_t)vcpu_slot(hot, (uint32_t)in->imm)}}; break;
        case IR_peek:
            *out = (V128){.d = {*(uint64_t *)(values[in->a].d[0] + (uint64_t)in->imm)}};
            break;
        case IR_executed: *out = (V128){.d = {vcpu_insns(hot)}}; break;
        case IR_call_if: {
            V128 none;
            if (values[in->a].d[0] & 1) call_helper(run, c, in, values, &none);
            break;
        }
        case IR_call_hint: break; // nothing is predicted here
        case IR_exit_if:
            if (values[in->a].d[0] & 1) return leave_through(run, c, in);
            break;
        case IR_exit: return leave_through(run, c, in);
        case IR_exit_ind: return leave_indirect(run, values[in->a].d[0]);
        case IR_trap:
            return stop(run, HOST_EXIT_TRAP + (in->aux | (uint64_t)in->aux2 << 8),
                        (uint64_t)in->imm);
        case IR_jump:
        case IR_br: {
            uint64_t to = in->op == IR_jump || values[in->a].d[0] & 1 ? (uint32_t)in->imm
                                                                      : (uint64_t)in->imm >> 32;
            const IrBlock *b = &c->blocks[to];
            if (hot->interrupt && b->start <= i) return stop(run, HOST_EXIT_INTERRUPT, b->pc);
            i = b->start - 1;
            break;
        }
        default: {
            const V128 args[3] = {values[in->a], values[in->b], values[in->c]};
            ir_eval(in, c->insts[in->a].type, args, c->vconsts, &hot->fp, out);
            break;
        }
        }
    }
}

static uint64_t interp_enter(HostCtx *ctx, void *state, const void *entry) {
    VcpuHot *hot = vcpu_hot(state);
    jmp_buf landing_place;
    hot->scratch[0].d[0] = (uintptr_t)&landing_place;
    if (_setjmp(landing_place)) {
        hot->in_helper = 0;
        return HOST_EXIT_FAULT;
    }
    Run run = {.ctx = ctx, .state = state, .hot = hot};
    if (hot->interrupt) return HOST_EXIT_INTERRUPT; // the guest pc is there already
    for (const Code *c = entry; c;) c = run_region(&run, c);
    return run.exit;
}

// ---- faults ----

// Runs in place of what faulted, after the signal handler returned: with the thread's own signal
// mask and on its own stack.
static _Noreturn void landing(void *place) {
    _longjmp(place, 1);
}

// A frame as of a call, below what the interrupted function may use beyond its stack pointer.
static uint64_t fresh_stack(uint64_t sp) {
    return ((sp - 512) & ~15ull) - sizeof(uint64_t);
}

static void interp_leave_at_fault(HostCtx *ctx, void *state, void *context, bool in_code,
                                  const void *fix) {
    mcontext_t *m = &((ucontext_t *)context)->uc_mcontext;
    uint64_t place = vcpu_hot(state)->scratch[0].d[0];
#if defined(__x86_64__)
    m->gregs[REG_RIP] = (greg_t)(uintptr_t)landing;
    m->gregs[REG_RDI] = (greg_t)place;
    m->gregs[REG_RSP] = (greg_t)fresh_stack((uint64_t)m->gregs[REG_RSP]);
#elif defined(__aarch64__)
    m->pc = (uintptr_t)landing;
    m->regs[0] = place;
    m->sp = fresh_stack(m->sp) + sizeof(uint64_t);
#else
#error "how does a context continue at another function on this host?"
#endif
}

static uint64_t interp_fault_pc(const void *context) {
    const mcontext_t *m = &((const ucontext_t *)context)->uc_mcontext;
#if defined(__x86_64__)
    return (uint64_t)m->gregs[REG_RIP];
#elif defined(__aarch64__)
    return m->pc;
#endif
}

static bool interp_own_fault(HostCtx *ctx, void *state, void *ucontext, uint64_t addr) {
    return false;
}
static void interp_vcpu_init(HostCtx *ctx, void *state) {}
static void interp_fp_sync(HostCtx *ctx, void *state) {} // hot->fp is all there is

const Host host_interp = {
    .name = "interp",
    .create = interp_create,
    .destroy = interp_destroy,
    .compile = interp_compile,
    .link = interp_link,
    .enter = interp_enter,
    .leave_at_fault = interp_leave_at_fault,
    .fault_pc = interp_fault_pc,
    .fp_sync = interp_fp_sync,
    .own_fault = interp_own_fault,
    .vcpu_init = interp_vcpu_init,
};
