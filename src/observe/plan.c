// plan.c - a region's segments as the basic blocks that tools see, and the requests they make.
//
// A segment begins at an IR_count and goes to the next one. What an instruction is, is read off the
// IR it was lifted to, so this file knows no guest.
#include "observe/observe.h"

#include <errno.h>

static const char *const class_names[] = {
    "int",   "mul",  "div",    "fp",       "simd", "crypto", "load",    "store", "atomic",
    "fence", "jump", "branch", "indirect", "call", "return", "syscall", "system"};
_Static_assert(ARRAY_LEN(class_names) == DGM_CLASS_COUNT, "one name for each class");

const char *dgm_class_name(unsigned i) {
    return i < DGM_CLASS_COUNT ? class_names[i] : NULL;
}

// ---- reading the IR ----

uint32_t access_info(const IrInst *in) {
    bool atomic = in->op == IR_cas || in->op == IR_rmw;
    return ir_bytes(in->aux) | (uint32_t)(in->op != IR_load) << 8 |
           (uint32_t) !!(in->aux2 & IR_SEXT) << 9 | (uint32_t)atomic << 10;
}

// info: room for all of the region's.
static void note_access(dgm_insn *n, const IrInst *in, uint32_t **info) {
    if (in->aux2 & IR_HIDDEN) return;
    bool atomic = in->op == IR_cas || in->op == IR_rmw;
    if (!n->n_accesses) n->accesses = *info;
    *(*info)++ = access_info(in);
    n->n_accesses++;
    unsigned bytes = ir_bytes(in->aux);
    bool wide = bytes == 16;
    n->access_bytes = (uint16_t)MAX(n->access_bytes, bytes);
    if (in->op != IR_store) n->loads++, n->wide_loads += wide, n->classes |= DGM_CLASS_LOAD;
    if (in->op != IR_load) n->stores++, n->wide_stores += wide, n->classes |= DGM_CLASS_STORE;
    if (atomic) n->classes |= DGM_CLASS_ATOMIC;
}

static void note_leaving(dgm_insn *n, const IrInst *in) {
    uint32_t *c = &n->classes;
    switch (in->op) {
    case IR_call_hint: *c |= DGM_CLASS_CALL; break;
    case IR_exit_if:
        *c |= DGM_CLASS_BRANCH;
        n->target = (uint64_t)in->imm;
        break;
    case IR_exit:
        if (*c & DGM_CLASS_BRANCH || (uint64_t)in->imm == n->address + n->size) break;
        if (!(*c & DGM_CLASS_CALL)) *c |= DGM_CLASS_JUMP;
        n->target = (uint64_t)in->imm;
        break;
    case IR_exit_ind:
        *c |= in->aux == IR_JUMP_RET    ? DGM_CLASS_RETURN
              : in->aux == IR_JUMP_CALL ? DGM_CLASS_CALL | DGM_CLASS_INDIRECT
                                        : DGM_CLASS_INDIRECT;
        break;
    case IR_trap: *c |= in->aux == IR_TRAP_SYSCALL ? DGM_CLASS_SYSCALL : DGM_CLASS_SYSTEM; break;
    default: break;
    }
}

static void note_arithmetic(dgm_insn *n, const IrRegion *r, const IrInst *in) {
    uint32_t *c = &n->classes;
    switch (in->op) {
    case IR_mul:
    case IR_umulh:
    case IR_smulh: *c |= DGM_CLASS_MUL; break;
    case IR_udiv:
    case IR_sdiv:
    case IR_fdiv:
    case IR_fsqrt: *c |= DGM_CLASS_DIV; break;
    case IR_aes_enc:
    case IR_aes_dec:
    case IR_aes_mix:
    case IR_aes_imix:
    case IR_clmul: *c |= DGM_CLASS_CRYPTO; break;
    case IR_call: {
        const char *name = r->calls[in->imm].helper->name;
        if (!strncmp(name, "sha", 3) || !strncmp(name, "sm", 2)) *c |= DGM_CLASS_CRYPTO;
        break;
    }
    default: break;
    }
    if (in->op == IR_get || in->op == IR_put || in->op == IR_load || in->op == IR_const) return;
    IrType a = in->a ? r->insts[in->a].type : IR_VOID;
    bool fp = ir_op_effect[in->op] == IR_FLAGFP || in->op == IR_fneg || in->op == IR_fabs;
    if (ir_is_vec(in->type) && in->op != IR_vzext && (!fp || ir_lanes(in->type) > 1))
        *c |= DGM_CLASS_SIMD;
    else if (fp || ir_is_float(in->type) || (in->op != IR_store && ir_is_float(a)))
        *c |= DGM_CLASS_FP;
}

// Registers that are looked at by values that came from them: holds[v] is a field + 1.
static void note_registers(dgm_insn *n, const IrInst *in, uint8_t *holds, uint32_t i) {
    if (in->op == IR_get && in->imm < 64) holds[i] = (uint8_t)(in->imm + 1);
    if (in->op == IR_get && in->imm < 64) n->reads |= 1ull << in->imm;
    const IrRef refs[3] = {in->a, in->b, in->c};
    for (unsigned k = 0; k < ir_op_info[in->op].n_args; k++)
        if (holds[refs[k]]) n->reads |= 1ull << (holds[refs[k]] - 1);
    if (in->op != IR_put || in->imm >= 64) return;
    n->writes |= 1ull << in->imm;
    holds[in->a] = (uint8_t)(in->imm + 1);
}

static void note(const IrRegion *r, dgm_insn *n, uint32_t i, uint8_t *holds, uint32_t **info) {
    const IrInst *in = &r->insts[i];
    switch (in->op) {
    case IR_load:
    case IR_store:
    case IR_cas:
    case IR_rmw: note_access(n, in, info); break;
    case IR_fence: n->classes |= DGM_CLASS_FENCE; break;
    default: break;
    }
    note_registers(n, in, holds, i);
}

// What an instruction is, is read off what it lifts to alone: among others, some of it may be known
// already, also where it goes. By its bytes, for there are few that differ; but for its target.
static void classify(Watches *ws, const GuestLift *how, dgm_insn *n) {
    uint32_t word = 0;
    memcpy(&word, n->bytes, MIN(n->size, 4u));
    struct WatchClass *known = &ws->classes[(word * 0x9e3779b1u) >> 20];
    if (n->size == 4 && known->word == word && known->size == 4) {
        n->classes |= known->classes;
        return;
    }
    GuestLift one = *how;
    one.pc = n->address;
    one.max_insns = 1;
    one.extend = one.count = false;
    IrRegion *r = &ws->alone;
    ir_region_reset(r, n->address);
    r->fp_rules = ws->guest->fp_rules;
    ws->guest->lift(r, &one);
    dgm_insn all = {.address = n->address, .size = n->size};
    for (uint32_t i = 1; i < r->n_insts && !r->failed; i++) {
        if (r->insts[i].op >= IR_call_hint)
            note_leaving(&all, &r->insts[i]);
        else
            note_arithmetic(&all, r, &r->insts[i]);
    }
    n->classes |= all.classes;
    n->target = all.target;
    if (!all.target) *known = (struct WatchClass){word, n->size, all.classes};
}

// ---- segments ----

static dgm_block *segment_new(Watches *ws, const IrRegion *r, uint32_t start) {
    dgm_block *b = arena_alloc(&ws->work, sizeof *b);
    if (!b) return NULL;
    uint32_t end = start + 2, marks = 0; // behind its own count
    uint64_t pc = ~0ull;
    while (end < r->n_insts && r->insts[end].op != IR_count) end++;
    if (end < r->n_insts) end--; // the mark before the count is the next one's
    for (uint32_t i = start; i < end; i++)
        if (r->insts[i].op == IR_insn && (uint64_t)r->insts[i].imm != pc) {
            pc = (uint64_t)r->insts[i].imm;
            marks++;
        }
    *b = (dgm_block){.ws = ws, .start = start, .end = end, .last = &b->first};
    b->insns = arena_alloc(&ws->work, (marks + 1) * sizeof *b->insns);
    return b->insns ? b : NULL;
}

static void read_segment(const IrRegion *r, dgm_block *b, const GuestLift *how, uint8_t *holds,
                         uint32_t **info) {
    dgm_insn *n = NULL;
    for (uint32_t i = b->start; i < b->end; i++) {
        const IrInst *in = &r->insts[i];
        if (in->op == IR_insn && (!n || n->address != (uint64_t)in->imm)) {
            n = &b->insns[b->n_insns++];
            n->address = (uint64_t)in->imm;
            n->size = in->aux;
            n->bytes = how->fetch(how->fetch_ctx, n->address, n->size);
        } else if (n && in->op != IR_insn) {
            note(r, n, i, holds, info);
        }
    }
    for (unsigned i = 0; i < b->n_insns; i++) {
        n = &b->insns[i];
        if (n->bytes) classify(b->ws, how, n);
        if (!n->classes) n->classes = DGM_CLASS_INT;
    }
    b->address = b->insns[0].address;
}

// A segment at its address came before: these are the same instructions, in the loop's next round.
static void round_of(dgm_block *b, const dgm_block *first) {
    b->of = first;
    b->address = first->address;
    b->insns = first->insns;
    b->n_insns = first->n_insns;
}

static const dgm_block *segment_at(const dgm_block *b, uint64_t address) {
    while (b && b->address != address) b = b->next;
    return b;
}

// The count stands behind the mark of the first instruction.
dgm_block *plan_blocks(Watches *ws, const IrRegion *r, const GuestLift *how) {
    arena_reset(&ws->work);
    uint8_t *holds = arena_alloc(&ws->work, r->n_insts);
    uint32_t *info = arena_alloc(&ws->work, (r->n_mem + 1) * sizeof *info);
    dgm_block *first = NULL, **last = &first;
    if (!holds || !info) return NULL;
    for (uint32_t i = 1; i < r->n_insts; i++) {
        if (r->insts[i].op != IR_count || r->insts[i - 1].op != IR_insn) continue;
        if (!r->insts[i].imm)
            continue; // nothing is executed: a fetch that fails, an undefined instruction
        dgm_block *b = segment_new(ws, r, i - 1);
        if (!b) return NULL;
        const dgm_block *known = segment_at(first, (uint64_t)r->insts[b->start].imm);
        if (known)
            round_of(b, known);
        else
            read_segment(r, b, how, holds, &info);
        *last = b;
        last = &b->next;
    }
    return first;
}

// ---- what tools read and ask ----

uint64_t dgm_block_address(const dgm_block *b) {
    return b->address;
}
unsigned dgm_block_insns(const dgm_block *b) {
    return b->n_insns;
}
const dgm_insn *dgm_block_insn(const dgm_block *b, unsigned i) {
    return i < b->n_insns ? &b->insns[i] : NULL;
}

void plan_ask(dgm_block *b, unsigned insn, Request what) {
    if (insn >= b->n_insns) return;
    Request *r = arena_alloc(&b->ws->work, sizeof *r);
    if (!r) {
        b->failed = true;
        return;
    }
    *r = what;
    r->insn = (uint16_t)insn;
    *b->last = r;
    b->last = &r->next;
}

void dgm_at_count(dgm_block *b, unsigned insn, dgm_counter c, uint32_t n) {
    if (c < WATCH_SLOTS && n) plan_ask(b, insn, (Request){.kind = ASK_COUNT, .counter = c, .n = n});
}

void dgm_at_branch_count(dgm_block *b, unsigned insn, dgm_counter c) {
    if (c < WATCH_SLOTS)
        plan_ask(b, insn, (Request){.kind = ASK_TAKEN, .when = AT_BRANCH, .counter = c});
}

void dgm_at_set(dgm_block *b, unsigned insn, dgm_counter c, uint64_t n) {
    if (c < WATCH_SLOTS) plan_ask(b, insn, (Request){.kind = ASK_SET, .counter = c, .n = n});
}

void dgm_at_call(dgm_block *b, unsigned insn, dgm_call_fn fn, dgm_regs regs, void *data) {
    plan_ask(
        b, insn,
        (Request){.kind = ASK_CALL, .regs = (uint8_t)regs, .fn = (void (*)(void))fn, .data = data});
}

void dgm_at_call_if(dgm_block *b, unsigned insn, dgm_counter c, dgm_compare how, uint64_t value,
                    dgm_call_fn fn, void *data) {
    if (c >= WATCH_SLOTS) return;
    plan_ask(b, insn,
             (Request){.kind = how == DGM_ALWAYS ? ASK_CALL : ASK_CALL_IF,
                       .compare = (uint8_t)how,
                       .regs = DGM_READ_REGS,
                       .counter = c,
                       .n = value,
                       .fn = (void (*)(void))fn,
                       .data = data});
}

// Registers cannot be written there: it is in the middle of an instruction.
static void ask_access(dgm_block *b, unsigned insn, unsigned kinds, dgm_regs regs, Request what) {
    what.when = AFTER_ACCESS;
    what.access = (uint8_t)kinds;
    what.regs = (uint8_t)(regs == DGM_WRITE_REGS ? DGM_READ_REGS : regs);
    plan_ask(b, insn, what);
}

void dgm_at_access(dgm_block *b, unsigned insn, unsigned kinds, dgm_access_fn fn, dgm_regs regs,
                   void *data) {
    ask_access(b, insn, kinds, regs,
               (Request){.kind = ASK_CALL, .fn = (void (*)(void))fn, .data = data});
}

void dgm_at_access_in(dgm_block *b, unsigned insn, unsigned kinds, uint64_t low, uint64_t high,
                      dgm_access_fn fn, dgm_regs regs, void *data) {
    if (low >= high) return;
    ask_access(b, insn, kinds, regs,
               (Request){.kind = ASK_ACCESS_IN,
                         .address = low,
                         .n = high,
                         .fn = (void (*)(void))fn,
                         .data = data});
}

void dgm_at_access_if(dgm_block *b, unsigned insn, unsigned kinds, dgm_compare how, uint64_t value,
                      dgm_access_fn fn, dgm_regs regs, void *data) {
    if (how == DGM_ALWAYS) {
        dgm_at_access(b, insn, kinds | DGM_VALUE, fn, regs, data);
        return;
    }
    ask_access(b, insn, kinds | DGM_VALUE, regs,
               (Request){.kind = ASK_ACCESS_IF,
                         .compare = (uint8_t)how,
                         .n = value,
                         .fn = (void (*)(void))fn,
                         .data = data});
}

void dgm_at_access_count(dgm_block *b, unsigned insn, unsigned kinds, dgm_counter c, uint32_t n) {
    const dgm_insn *i = dgm_block_insn(b, insn);
    if (!i) return;
    unsigned both = i->classes & DGM_CLASS_ATOMIC ? MIN(i->loads, i->stores) : 0;
    unsigned accesses = (kinds & DGM_READ ? i->loads : 0u) + (kinds & DGM_WRITE ? i->stores : 0u);
    if ((kinds & 3) == 3) accesses -= both;
    if (accesses) dgm_at_count(b, insn, c, n * accesses);
}

void dgm_at_record(dgm_block *b, unsigned insn, dgm_buffer *buffer, uint64_t data) {
    plan_ask(b, insn, (Request){.kind = ASK_RECORD, .buffer = buffer, .n = data});
}

void dgm_at_access_record(dgm_block *b, unsigned insn, unsigned kinds, dgm_buffer *buffer,
                          uint64_t data) {
    plan_ask(b, insn,
             (Request){.kind = ASK_RECORD,
                       .when = AFTER_ACCESS,
                       .access = (uint8_t)kinds,
                       .buffer = buffer,
                       .n = data});
}

void dgm_at_branch_record(dgm_block *b, unsigned insn, dgm_buffer *buffer, uint64_t data) {
    plan_ask(b, insn,
             (Request){.kind = ASK_RECORD, .when = AT_BRANCH, .buffer = buffer, .n = data});
}

void dgm_at_new_access_record(dgm_block *b, unsigned insn, unsigned kinds, dgm_filter *f,
                              dgm_buffer *buffer, uint64_t data) {
    plan_ask(b, insn,
             (Request){.kind = ASK_RECORD,
                       .when = AFTER_ACCESS,
                       .access = (uint8_t)kinds,
                       .buffer = buffer,
                       .filter = f,
                       .n = data});
}

void dgm_at_new_record(dgm_block *b, unsigned insn, uint64_t address, dgm_filter *f,
                       dgm_buffer *buffer, uint64_t data) {
    plan_ask(b, insn,
             (Request){
                 .kind = ASK_RECORD, .buffer = buffer, .filter = f, .address = address, .n = data});
}
