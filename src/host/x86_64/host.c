// host.c - the x86-64 host behind the seam of host.h: set-up, the forward pass over a region, cold
// code, links, faults. Start reading at compile().
#include "host/x86_64/cpu.h"
#include "host/x86_64/disasm.h"
#include "host/x86_64/emit.h"
#include "host/x86_64/stubs.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <ucontext.h>

enum { CODE_ALIGN = 16, POOL_ENTRIES = X86_POOL_ENTRIES };

// Homes, best first: those that C helpers preserve go to the hottest registers.
static const uint8_t int_home_order[] = {RBX, R12, R13, R14, R15, RSI, RDI, R8, R9, R10};
enum { N_PRESERVED = 5 };

// 128-bit constants shared by all blocks, in the code cache so that every block reaches them.
struct ConstPool {
    V128 *at;
    uint32_t n;
    uint16_t chains[1024];       // by hash: entry + 1 of the newest
    uint16_t next[POOL_ENTRIES]; // in the chain; few programs have as many as this has room for
};
#define POOL_BYTES ALIGN_UP(sizeof(struct ConstPool), 4096)

// Integers without a home that are mostly saved and restored lodge in vector registers: to and from
// memory that is one instruction, not two. As an operand they cost a move, so others stay in
// memory. Returns the lowest vector register that is taken.
static unsigned assign_lodgings(HostCtx *h, const IrHotFields *hot) {
    unsigned lowest = 32;
    for (unsigned i = 0; i < hot->n_saved; i++) {
        if (h->home_of_field[hot->saved[i]] >= 0) continue;
        h->lodging_of_field[hot->saved[i]] = (int8_t)--lowest;
        h->field_of_vec[lowest] = (int16_t)hot->saved[i];
        h->lodgings |= 1u << lowest;
    }
    return lowest;
}

// The count has the last of the registers that would be homes. Where C is called all the time, only
// those that it preserves are.
static void assign_homes(HostCtx *h, unsigned needs, const IrHotFields *hot) {
    memset(h->home_of_field, -1, sizeof h->home_of_field);
    h->int_homes = h->vec_homes = h->lodgings = 0;
    memset(h->lodging_of_field, -1, sizeof h->lodging_of_field);
    h->int_temps = 1u << RAX | 1u << RCX | 1u << RDX | 1u << R11;
    unsigned n_homes = needs & HOST_CALLS ? N_PRESERVED : ARRAY_LEN(int_home_order);
    h->count_reg = needs & HOST_COUNTS ? int_home_order[--n_homes] : -1;
    uint32_t low = (uint32_t)h->count_reg & 7, high = (uint32_t)h->count_reg >> 3 & 1;
    h->count_down = (0x48 | high * 5) | 0x8D << 8 | (0x40 | low * 9) << 16;
    for (unsigned i = 0; i < n_homes && i < hot->n_ints; i++) {
        unsigned r = int_home_order[i];
        h->home_of_field[hot->ints[i]] = (int8_t)r;
        h->field_of_int[r] = (int16_t)hot->ints[i];
        h->int_homes |= 1u << r;
    }
    h->vec_temps = 0x3f;
    if (needs & HOST_CALLS) return;
    unsigned last = h->level == VEC_AVX512 ? assign_lodgings(h, hot) : 16;
    for (unsigned i = 0, r = 6; i < hot->n_vecs && r < last; i++, r++) {
        h->home_of_field[hot->vecs[i]] = (int8_t)r;
        h->field_of_vec[r] = (int16_t)hot->vecs[i];
        h->vec_homes |= 1u << r;
    }
    h->masks = h->level == VEC_AVX512 && h->vec_homes;
}

static void note_kinds(HostCtx *h) {
    for (unsigned i = 0; i < h->n_fields; i++) {
        h->field_kind[i] = (x86_in_vec(h->fields[i].type) ? FIELD_VEC : 0) |
                           (h->fields[i].type == IR_FLAGS ? FIELD_FLAGS : 0);
        if (!(h->field_kind[i] & FIELD_VEC)) h->int_fields[h->n_int_fields++] = (uint8_t)i;
    }
}

static void destroy(HostCtx *h) {
    pages_free(h->pool, POOL_BYTES);
    free(h);
}

static void make_stubs(HostCtx *h, HostCode *stubs) {
    x86_direct_make_moves(h);
    h->pool->at = (V128 *)ALIGN_UP((uintptr_t)stubs->at, 64);
    stubs->at = (uint8_t *)(h->pool->at + POOL_ENTRIES);
    x86_make_stubs(h, stubs);
    h->stubs_end = stubs->at;
}

static void rehome(HostCtx *h, const uint16_t *hot_ints, uint32_t n_hot_ints, HostCode *stubs) {
    h->hot.ints = hot_ints;
    h->hot.n_ints = n_hot_ints;
    assign_homes(h, h->needs, &h->hot);
    make_stubs(h, stubs);
}

static uint32_t n_int_homes(const HostCtx *h) {
    return (uint32_t)__builtin_popcount(h->int_homes);
}

static HostCtx *create(const IrField *fields, uint32_t n_fields, uint32_t pc_field,
                       uint32_t state_bytes, const IrHotFields *hot, const char *isa_limit,
                       unsigned needs, HostCode *stubs, DgmErr *err) {
    HostCtx *h = calloc(1, sizeof *h);
    if (h) h->pool = pages_reserve(POOL_BYTES);
    if (!h || !h->pool) {
        free(h);
        return err_set(err, -ENOMEM, "x86-64 host: out of memory"), NULL;
    }
    if (x86_detect(&h->cpu, isa_limit, err)) {
        destroy(h);
        return NULL;
    }
    h->patch_word = h->cpu.avx ? 16 : 8; // Intel SDM 3A 9.1.1, AMD APM 2 7.3.2
    h->level = h->cpu.avx512 ? VEC_AVX512 : h->cpu.avx ? VEC_AVX : VEC_SSE;
    h->fields = fields;
    h->n_fields = n_fields;
    h->pc_field = pc_field;
    h->state_bytes = state_bytes;
    h->needs = needs;
    h->hot = *hot;
    note_kinds(h);
    assign_homes(h, needs, &h->hot);
    h->code_base = stubs->at;
    for (unsigned i = 0; i < SMALL_REGION; i++)
        h->fresh[i] = (Val){.root = i, .hint = -1, .mem_field = -1, .reg = -1, .spill = -1};
    self_image(&h->self);
    make_stubs(h, stubs);
    return h;
}

const V128 *x86_pool(const HostCtx *h) {
    return h->pool->at;
}

const V128 *x86_pool_at(const HostCtx *h, const void *address) {
    const V128 *c = address;
    return c >= h->pool->at && c < h->pool->at + h->pool->n ? c : NULL;
}

const V128 *x86_pool_get(HostCtx *h, uint64_t lo, uint64_t hi) {
    struct ConstPool *p = h->pool;
    uint16_t *chain =
        &p->chains[(uint32_t)((lo * 0x9e3779b97f4a7c15ull ^ hi * 0xc2b2ae3d27d4eb4full) >> 40) %
                   ARRAY_LEN(p->chains)];
    for (uint32_t i = *chain; i; i = p->next[i - 1])
        if (p->at[i - 1].d[0] == lo && p->at[i - 1].d[1] == hi) return &p->at[i - 1];
    if (p->n == POOL_ENTRIES) return NULL;
    p->at[p->n] = (V128){.d = {lo, hi}};
    p->next[p->n] = *chain;
    *chain = (uint16_t)++p->n;
    return &p->at[p->n - 1];
}

const V128 *x86_const128(X86 *x, uint64_t lo, uint64_t hi) {
    const V128 *pooled = x86_pool_get(x->h, lo, hi);
    if (pooled) return pooled;
    uint8_t *over = jmp_short(x); // the pool is full: in the code itself
    x->at = (uint8_t *)ALIGN_UP((uintptr_t)x->at, 16);
    V128 *c = (V128 *)x->at;
    *c = (V128){.d = {lo, hi}};
    x->at += sizeof *c;
    short_here(x, over);
    return c;
}

void x86_fail(X86 *x, const char *why) {
    if (!x->overflow)
        err_set(x->err, -EINVAL, "x86-64 host: %s at op '%s' (%%%u) of %#lx", why,
                ir_op_info[x->r->insts[x->now].op].name, x->now, x86_guest_pc(x));
    x->overflow = true;
}

// ---- links, faults, cold code ----

uint64_t x86_guest_pc(const X86 *x) {
    const IrInst *first = x->r->insts, *in = first + x->now;
    uint64_t pc;
    if (ir_insn_pc(in, x->r->pc, &pc)) return pc;
    while (in->op != IR_insn && in > first) in--;
    return in->op == IR_insn ? (uint64_t)in->imm : x->r->pc;
}

HostLink *x86_new_link(X86 *x, uint64_t target_pc) {
    uint32_t n = x->out->n_links++;
    HostLink *l = &x->out->links[n];
    *l = (HostLink){.target_pc = target_pc, .index = (uint16_t)n};
    return l;
}

void x86_record_fault(X86 *x) {
    x86_flags_asked(x);
    HostFix fix = x86_fault_fix(x);
    x->out->faults[x->out->n_faults++] =
        (HostFault){.host_off = (uint16_t)(x->at - x->start),
                    .guest_off = (uint16_t)(x86_guest_pc(x) - x->r->pc) & 0x7fff,
                    .fixed = fix != 0};
    if (fix) x->out->fixes[x->out->n_fixes++] = fix; // until x86_emit_fault_fixes()
}

Cold *x86_cold_at(X86 *x, uint8_t *rel32, void (*emit)(X86 *, const Cold *)) {
    if (x->n_cold == MAX_COLD) {
        x86_fail(x, "too much cold code");
        return NULL;
    }
    Cold *c = &x->cold[x->n_cold++];
    *c = (Cold){.from = rel32, .back = rel32 + 4, .emit = emit};
    return c;
}

Cold *x86_cold_trap(X86 *x, void (*emit)(X86 *, const Cold *)) {
    Cold *c = x86_cold_at(x, x->at - 4, emit);
    if (!c) return NULL;
    c->from = NULL;
    c->trap = (uint32_t)(x->at - x->start);
    return c;
}

Cold *x86_cold(X86 *x, unsigned cc, void (*emit)(X86 *, const Cold *)) {
    return x86_cold_at(x, jcc_forward(x, cc), emit);
}

void x86_cold_back(X86 *x, const Cold *c) {
    jmp_to(x, c->back);
}

// ---- the evaluator ----

static uint8_t *call_evaluator(X86 *x) {
    Mem rax = mem_state(x86_eval_rax_disp());
    mov_store(x, 64, rax, RAX);
    lea(x, 64, RAX, (Mem){.base = RBP, .index = -1, .disp = INT32_MAX}); // becomes rip-relative:
    x->at[-5] = 0x05;
    x->at[-7] = 0x48;
    uint8_t *rel32 = x->at - 4;
    call_to(x, x->h->call_eval);
    mov_load(x, 64, RAX, rax);
    return rel32;
}

static void emit_desc(X86 *x, uint8_t *rel32, IrRef v, unsigned negate) {
    const IrInst *in = &x->r->insts[v];
    EvalDesc d = {.in = *in, .negate = negate};
    const IrRef refs[3] = {in->a, in->b, in->c};
    for (unsigned i = 0; i < ir_op_info[in->op].n_args; i++) d.types[i] = ir_type(x->r, refs[i]);
    x->at = (uint8_t *)ALIGN_UP((uintptr_t)x->at, 16);
    rel32_to(rel32, x->at);
    moves(x, rel32, 0);
    memcpy(x->at, &d, sizeof d);
    x->at += sizeof d;
}

static void emit_desc_only(X86 *x, const Cold *c) {
    emit_desc(x, c->from, c->v, 0);
}

void x86_fallback(X86 *x, IrRef v) {
    const IrInst *in = &x->r->insts[v];
    const IrRef refs[3] = {in->a, in->b, in->c};
    for (unsigned i = 0; i < ir_op_info[in->op].n_args; i++)
        x86_store_operand(x, SCRATCH_ARGS + i, refs[i]);
    uint8_t *rel32 = call_evaluator(x);
    Cold *c = x86_cold_at(x, rel32, emit_desc_only);
    if (c) c->v = v;
    x86_flags_lost(x);
    x86_load_result(x, v);
}

static void emit_cold_eval(X86 *x, const Cold *c) {
    const IrInst *in = &x->r->insts[c->v];
    const IrRef refs[3] = {in->a, in->b, in->c};
    for (unsigned i = 0; i < ir_op_info[in->op].n_args; i++) {
        Mem m = mem_state(x86_scratch_disp(SCRATCH_ARGS + i));
        if (x86_in_vec(ir_type(x->r, refs[i])))
            vec_op(x, V_movaps_st, c->args[i], 0, vrm_of(m), 0);
        else
            mov_store(x, 64, m, c->args[i]);
    }
    uint8_t *rel32 = call_evaluator(x);
    Mem m = mem_state(x86_scratch_disp(SCRATCH_RESULT));
    if (x86_in_vec(in->type))
        vec_op(x, V_movaps, c->result, 0, vrm_of(m), 0);
    else
        mov_load(x, 64, c->result, m);
    x86_cold_back(x, c);
    emit_desc(x, rel32, c->v, c->negate);
}

static void eval_operands(X86 *x, IrRef v, Cold *c) {
    const IrInst *in = &x->r->insts[v];
    c->v = v;
    c->negate = 0;
    for (unsigned i = 0; i < ir_op_info[in->op].n_args; i++) {
        bool neg;
        IrRef a = x86_operand(x, v, i, &neg);
        c->args[i] =
            (uint8_t)(x86_in_vec(ir_type(x->r, a)) ? x86_use_vec(x, a) : x86_use_int(x, a));
        c->negate |= (uint8_t)(neg << i);
    }
}

void x86_cold_eval(X86 *x, IrRef v, unsigned cc, unsigned result) {
    Cold with = {0};
    eval_operands(x, v, &with);
    Cold *c = x86_cold(x, cc, emit_cold_eval);
    if (!c) return;
    c->v = v;
    c->result = (uint8_t)result;
    c->negate = with.negate;
    memcpy(c->args, with.args, sizeof c->args);
    x86_flags_lost(x);
}

Cold *x86_cold_trap_eval(X86 *x, IrRef v) {
    Cold *c = x86_cold_trap(x, emit_cold_eval);
    if (c) eval_operands(x, v, c);
    return c;
}

// ---- the forward pass ----

// Every loop passes a block that jumps backwards or indirectly; a read there faults when somebody
// interrupts, for less than a comparison and a branch (which cost 5 % of lua, 9 % of cc1).
static void check_interrupt(X86 *x, unsigned reg) {
    x86_record_fault(x);
    mov_load(x, 32, reg, mem_state(POLL_DISP));
}

static void share_register(X86 *x, IrRef v, const IrInst *in) {
    if (x->val[x86_root(x, in->a)].reg < 0 && x86_lodged(x, in->a) < 0) {
        if (x86_in_vec(in->type))
            x86_use_vec(x, in->a);
        else
            x86_use_int(x, in->a);
    }
    x86_alias(x, v, in->a);
}

static void select_pure(X86 *x, IrRef v, const IrInst *in) {
    if (x86_shares_register(x, in)) {
        share_register(x, v, in);
        return;
    }
    bool fp = ir_op_effect[in->op] == IR_FLAGFP || in->op == IR_fneg || in->op == IR_fabs;
    bool vec = x86_in_vec(in->type) ||
               (in->a && ir_op_info[in->op].n_args && x86_in_vec(ir_type(x->r, in->a)));
    bool done = fp ? x86_sel_fp(x, v) : vec ? x86_sel_vec(x, v) : x86_sel_int(x, v);
    if (!done) x86_fallback(x, v);
}

// Flags that the next segment may want stay.
static inline void count(X86 *x, const IrInst *in) {
    int reg = x->h->count_reg;
    int64_t n = in->imm;
    if (UNLIKELY(x->n_early)) n = (int64_t)x86_early_sum(x, in, (uint64_t)n);
    if (UNLIKELY(reg < 0))
        x86_fail(x, "a count that was not announced");
    else if (UNLIKELY(n > 128))
        lea(x, 64, (unsigned)reg, mem_at(reg, (int32_t)-n));
    else if (n)
        e32(x, x->h->count_down | (uint32_t)-n << 24);
}

static inline void select_one(X86 *x, uint32_t live, const IrInst *insts) {
    IrRef v = live & LIVE_REF;
    const IrInst *in = &insts[v];
    x->now = v;
    x->int_locked = x->vec_locked = 0;
    switch ((Selects)(live >> LIVE_KIND_SHIFT)) {
    case SEL_NOP: return;
    case SEL_GET: x86_get(x, v); return;
    case SEL_PUT:
        if (x->active >= 0 && x->r->hot) x86_flags_follow(x, (unsigned)in->imm, in->a);
        if (!(x->h->field_kind[in->imm] & FIELD_FLAGS)) {
            x86_put(x, (unsigned)in->imm, in->a);
            return;
        }
        if (!x86_put_flags(x, v)) x86_put(x, (unsigned)in->imm, in->a);
        if (v == x->r->entry_flags && x->may_loop) check_interrupt(x, x86_tmp_int(x));
        return;
    case SEL_LOAD: x86_sel_load(x, v, in); return;
    case SEL_STORE: x86_sel_store(x, v, in); return;
    case SEL_ATOMIC: x86_sel_atomic(x, v, in); return;
    case SEL_ADD:
        if (x86_in_vec(in->type)) break;
        x86_sel_add(x, v, in);
        return;
    case SEL_INTEGER: // or the same of lanes
        if (x86_in_vec(in->type) || !x86_sel_int(x, v)) break;
        return;
    case SEL_EXIT_IF: x86_exit_if(x, v, in); return;
    case SEL_EXIT: x86_exit(x, in); return;
    case SEL_COUNT: count(x, in); return;
    case SEL_LEAVE: x86_sel_ctl(x, v); return;
    case SEL_SLOT_AT: lea(x, 64, x86_def_int(x, v), x86_slot_mem((uint32_t)in->imm)); return;
    case SEL_BY_EFFECT: break;
    default: __builtin_unreachable();
    }
    if (ir_op_effect[in->op] == IR_PURE || ir_op_effect[in->op] == IR_FLAGFP)
        select_pure(x, v, in);
    else
        x86_sel_ctl(x, v);
}

// The usual region's values by a copy whose length the host's compiler knows.
static void make_fresh(X86 *x) {
    enum { USUAL = 64 };
    uint32_t n = x->r->n_insts;
    if (n <= USUAL) {
        memcpy(x->val, x->h->fresh, USUAL * sizeof *x->val);
        return;
    }
    memcpy(x->val, x->h->fresh, MIN(n, (uint32_t)SMALL_REGION) * sizeof *x->val);
    for (uint32_t i = SMALL_REGION; i < n; i++) {
        x->val[i] = x->h->fresh[0];
        x->val[i].root = i;
    }
}

void x86_begin(X86 *x, HostCtx *h, const HostCode *room, HostOutput *out, DgmErr *err) {
    memset(x, 0, offsetof(X86, r));
    x->h = h;
    x->out = out;
    x->err = err;
    x->relocs = out->relocs;
    x->relocs_end = out->relocs ? out->relocs + out->cap_relocs : NULL;
    x->at = x->start =
        room->follows ? room->at : (uint8_t *)ALIGN_UP((uintptr_t)room->at, CODE_ALIGN);
    x->limit = room->end - X86_SLACK / 2;
}

bool x86_region(X86 *x, const IrRegion *r, X86Extent extent) {
    enum { REGION = offsetof(X86, r), LAST = offsetof(X86, mem_val) };
    memset((char *)x + REGION, 0, LAST - REGION + r->n_fields * sizeof *x->mem_val);
    x->r = r;
    x->active = -1;
    x->vconsts = r->vconsts;
    bool small = r->n_insts <= SMALL_REGION;
    x->val = small ? x->small_val : malloc(r->n_insts * sizeof *x->val);
    x->live = small ? x->small_live : malloc(r->n_insts * sizeof *x->live);
    if (!x->val || !x->live) {
        if (!small) free(x->val), free(x->live);
        err_set(x->err, -ENOMEM, "compiling %#lx: out of memory", r->pc);
        return false;
    }
    make_fresh(x);
    x86_alloc_begin(x);
    if (r->hot) x86_early_begin(x);
    x86_analyse(x);
    x->next_sunk = (int8_t)(x->n_sunk - 1);
    x->n_forms = x->n_sunk;
    bool checks = x->may_loop && extent == X86_WHOLE;
    if (!r->entry_flags && checks) check_interrupt(x, RAX); // nobody has any yet
    const IrInst *const insts = r->insts;
    for (const uint32_t *i = x->live + x->n_live; i-- > x->live && x->at < x->limit;)
        select_one(x, *i, insts);
    return true;
}

void x86_region_cold(X86 *x, const uint8_t *cold) {
    for (uint32_t i = 0; i < x->n_cold && x->at < x->limit; i++) {
        const Cold *c = &x->cold[i];
        if (!c->from) {
            x->out->traps[x->out->n_traps++] = (HostTrap){c->trap, (uint32_t)(x->at - cold)};
        } else if (c->emit != emit_desc_only) {
            rel32_to(c->from, x->at);
            moves(x, c->from, 0);
        }
        c->emit(x, c);
    }
    x86_emit_fault_fixes(x);
    if (x->val != x->small_val) free(x->val), free(x->live);
}

HostError x86_end(X86 *x, HostCode *room, uint8_t *hot_end) {
    HostOutput *out = x->out;
    x86_link_stubs(x);
    if (x->at >= x->limit) return HOST_NO_ROOM;
    if (x->overflow) return HOST_UNSUPPORTED;
    if (hot_end - x->start > UINT16_MAX) // fault tables count in 16 bits
        return err_set(x->err, -EINVAL, "x86-64 host: too much code for %#lx", x->r->pc),
               HOST_UNSUPPORTED;
    out->entry = x->start;
    out->cold = hot_end;
    if (room->cold) {
        out->cold = room->cold;
        out->cold_bytes = (uint32_t)(x->at - room->cold);
        room->cold = x->at;
    } else {
        hot_end = x->at;
    }
    out->code_bytes = (uint32_t)(hot_end - x->start);
    out->n_relocs = (uint32_t)(x->relocs - out->relocs);
    out->unfreezable = x->too_many_relocs;
    room->at = hot_end;
    return HOST_OK;
}

static HostError compile(HostCtx *h, const IrRegion *r, HostCode *room, HostOutput *out,
                         DgmErr *err) {
    if (r->n_blocks != 1)
        return err_set(err, -EINVAL, "regions of several blocks are not compiled yet"),
               HOST_UNSUPPORTED;
    size_t most = (size_t)r->n_insts * X86_BYTES_PER_INST + X86_SLACK;
    if ((size_t)(room->end - room->at) < most) return HOST_NO_ROOM;
    if (room->cold && (size_t)(room->cold_end - room->cold) < most) return HOST_NO_ROOM;
    X86 state, *x = &state;
    x86_begin(x, h, room, out, err);
    if (!x86_region(x, r, X86_WHOLE)) return HOST_UNSUPPORTED;
    uint8_t *hot_end = x->at;
    bool full = x->at >= x->limit;
    if (room->cold && !full) {
        x->at = room->cold;
        x->limit = room->cold_end - X86_SLACK / 2;
    }
    x86_region_cold(x, room->cold ? room->cold : hot_end);
    return x86_end(x, room, hot_end);
}

// ---- the rest of the seam ----

// A jump to what lies right behind it becomes a nop of the same five bytes, which lie in one
// aligned word (align_patch), so running code sees the one or the other.
const uint8_t x86_nop5[5] = {0x0F, 0x1F, 0x44, 0x00, 0x00};

// Some bytes within one such word: it is read, changed and stored as a whole.
static void patch_code(const HostCtx *h, uint8_t *at, const uint8_t *code, unsigned bytes) {
    typedef uint64_t Whole __attribute__((vector_size(16)));
    union {
        uint64_t half;
        Whole whole;
        uint8_t byte[16];
    } new;
    uint8_t *word = (uint8_t *)((uintptr_t)at & -(uintptr_t)h->patch_word);
    bool whole = h->patch_word == sizeof new;
    memcpy(&new, word, whole ? sizeof new : sizeof new.half);
    memcpy(&new.byte[at - word], code, bytes);
    atomic_thread_fence(memory_order_release);
    if (whole)
        *(volatile Whole *)(void *)word = new.whole;
    else
        *(volatile uint64_t *)(void *)word = new.half;
}

static void link(HostCtx *h, HostLink *l, const void *entry) {
    uint8_t *patch = x86_patch(h, l), jmp[5] = {0xE9};
    int32_t rel = entry ? (int32_t)((const uint8_t *)entry - (patch + 4)) : l->unlinked;
    memcpy(jmp + 1, &rel, sizeof rel);
    if (l->falls_through)
        patch_code(h, patch - 1, rel ? jmp : x86_nop5, sizeof jmp);
    else
        patch_code(h, patch, jmp + 1, sizeof rel);
}

static uint64_t enter(HostCtx *h, void *state, const void *entry) {
    uint64_t (*fn)(void *, const void *) = (uint64_t(*)(void *, const void *))(uintptr_t)h->enter;
    return fn(state, entry);
}

static void leave_at_fault(HostCtx *h, void *state, void *ucontext, bool in_code, const void *fix) {
    greg_t *regs = ((ucontext_t *)ucontext)->uc_mcontext.gregs;
    bool vectors = vcpu_hot(state)->in_helper == HELPER_KEEPS_VECTORS;
    const void *out = fix       ? fix
                      : in_code ? h->fault_out
                      : vectors ? h->vectors_fault_out
                                : h->helper_fault_out;
    regs[REG_RIP] = (greg_t)(uintptr_t)out;
    regs[REG_RBP] = (greg_t)(uintptr_t)state + STATE_BIAS;
}

static void leave_at_entry(HostCtx *h, void *ucontext, uint64_t pc) {
    greg_t *regs = ((ucontext_t *)ucontext)->uc_mcontext.gregs;
    regs[REG_RIP] = (greg_t)(uintptr_t)h->lookup_out;
    regs[REG_RAX] = (greg_t)pc;
}

static bool own_fault(HostCtx *h, void *state, void *ucontext, uint64_t addr) {
    (void)h;
    const VcpuHot *hot = vcpu_hot(state);
    if (addr - hot->ret_guard >= 4096) return false;
    ((ucontext_t *)ucontext)->uc_mcontext.gregs[REG_RSP] = (greg_t)hot->ret_top;
    return true;
}

// Above the top of the return stack lie frames that match no guest pc (none is odd; a jump to one
// that is comes to return_empty).
static void vcpu_rehome(HostCtx *h, void *state) {
    uint64_t(*frame)[2] = (void *)vcpu_hot(state)->ret_top;
    for (unsigned i = 0; i < X86_SENTINELS; i++) {
        frame[i][0] = (uintptr_t)h->return_empty;
        frame[i][1] = X86_SENTINEL_PC;
    }
}

static void vcpu_init(HostCtx *h, void *state) {
    VcpuHot *hot = vcpu_hot(state);
    hot->ret_sp = hot->ret_top -= X86_SENTINELS * 2 * sizeof(uint64_t);
    vcpu_rehome(h, state);
}

// The op is evaluated anew: what the FPU says of it (tininess of an exact result is no underflow)
// is forgotten. Invalid and underflow have come from traps only, and those the evaluator tells.
static void take_fp_trap(HostCtx *h, void *ucontext, const void *to) {
    (void)h;
    mcontext_t *context = &((ucontext_t *)ucontext)->uc_mcontext;
    context->gregs[REG_RIP] = (greg_t)(uintptr_t)to;
    context->fpregs->mxcsr &= ~(uint32_t)(MXCSR_INVALID | MXCSR_DENORMAL | MXCSR_UNDERFLOW);
}

static uint64_t fault_pc(const void *ucontext) {
    return (uint64_t)((const ucontext_t *)ucontext)->uc_mcontext.gregs[REG_RIP];
}

uint32_t x86_mxcsr_masks(const HostCtx *h, bool traps) {
    unsigned unmasked = traps && h->cpu.fp_traps ? MXCSR_INVALID | MXCSR_UNDERFLOW : 0;
    if (unmasked && h->masks) unmasked |= MXCSR_DENORMAL;
    return MXCSR_MASKS & ~(unmasked << 7);
}

static void fp_sync(HostCtx *h, void *state) {
    VcpuHot *hot = vcpu_hot(state);
    uint32_t mx = hot->guest_fp_control;
    hot->fp.flags |= (mx & 1) | (mx >> 1 & 0x1e);
    static const uint8_t rounding[] = {
        [IR_RM_NEAREST] = 0, [IR_RM_DOWN] = 1, [IR_RM_UP] = 2, [IR_RM_ZERO] = 3};
    hot->guest_fp_control = x86_mxcsr_masks(h, hot->mode & MODE_FP_TRAPS) |
                            (uint32_t)rounding[hot->fp.mode & IR_FPM_RM] << 13;
}

const Host host_x86_64 = {
    .name = "x86_64",
    .counts = true,
    .create = create,
    .destroy = destroy,
    .rehome = rehome,
    .n_int_homes = n_int_homes,
    .compile = compile,
    .direct = x86_direct_block,
    .link = link,
    .enter = enter,
    .leave_at_fault = leave_at_fault,
    .own_fault = own_fault,
    .take_fp_trap = take_fp_trap,
    .vcpu_init = vcpu_init,
    .vcpu_rehome = vcpu_rehome,
    .fault_pc = fault_pc,
    .fp_sync = fp_sync,
    .disassemble = x86_disassemble,
    .leave_at_entry = leave_at_entry,
    .freeze = x86_freeze,
    .attach = x86_attach,
    .bar = x86_bar,
    .identity = x86_identity,
};
