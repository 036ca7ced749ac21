// weave.c - writes a region anew with what the tools asked for in it.
//
// One walk over the lifted region; each instruction is copied, its operands renamed. Requests are
// turned into IR at three places: behind an instruction's mark, behind each of its accesses, and
// before it leaves. Counts are the exception: all of a segment's are added where it begins, and a
// table says which to take back should a fault leave the segment half-way.
#include "observe/observe.h"

struct WatchHelper { // one for each function that tools have called, as long as the Watches
    IrHelper helper;
    struct WatchHelper *next;
};

typedef struct Weave {
    Watches *ws;
    const IrRegion *from;
    IrRegion *to;
    IrRef *renamed;
    bool counting;
    unsigned n_records; // since room was made for them
    bool in_place;      // counts are not put together
    bool early;         // ... those of a loop's rounds are
    const dgm_block *blocks;
    const dgm_block *b; // the segment that we are in, and where in it
    int insn;
    bool failed;
} Weave;

// Not ir_const(), which would find one like it far above, and have it kept in between.
static IrRef konst(Weave *w, uint64_t value) {
    return ir_append(w->to, (IrInst){.op = IR_const, .type = IR_I64, .imm = (int64_t)value});
}

static IrRef get_reg(Weave *w, unsigned field) {
    return ir_append(w->to, (IrInst){.op = IR_get, .type = IR_I64, .imm = field});
}
static IrRef slot_get(Weave *w, uint32_t slot) {
    return ir_append(w->to, (IrInst){.op = IR_slot_get, .type = IR_I64, .imm = slot});
}
static void slot_put(Weave *w, uint32_t slot, IrRef v) {
    ir_append(w->to, (IrInst){.op = IR_slot_put, .a = v, .imm = slot});
}
static void slot_add(Weave *w, uint32_t slot, uint64_t n, unsigned aux) {
    IrRef v = konst(w, n);
    ir_append(w->to, (IrInst){.op = IR_slot_add, .aux = (uint8_t)aux, .a = v, .imm = slot});
}

// ---- calls ----

static const IrHelper *helper_for(Weave *w, void (*fn)(void), dgm_regs regs) {
    for (struct WatchHelper *h = w->ws->helpers; h; h = h->next)
        if (h->helper.fn == fn && h->helper.reads_state == (regs != DGM_NO_REGS) &&
            h->helper.writes_state == (regs == DGM_WRITE_REGS))
            return &h->helper;
    struct WatchHelper *h = arena_alloc(&w->ws->keep, sizeof *h);
    if (!h) {
        w->failed = true;
        return NULL;
    }
    h->helper = (IrHelper){.name = "tool",
                           .fn = fn,
                           .reads_state = regs != DGM_NO_REGS,
                           .writes_state = regs == DGM_WRITE_REGS,
                           .wants_pc = regs != DGM_NO_REGS,
                           .wants_count = w->counting,
                           .foreign = w->ws->floats};
    h->next = w->ws->helpers;
    w->ws->helpers = h;
    return &h->helper;
}

// What IR_count has announced of this segment and is not done before the instruction.
static uint64_t ahead(const Weave *w) {
    return w->b->n_insns - (unsigned)w->insn;
}

static void tell_count(Weave *w) {
    if (w->counting) slot_put(w, SLOT_AHEAD, konst(w, ahead(w)));
}

static void call(Weave *w, const Request *q, unsigned n_args, const IrRef *args) {
    const IrHelper *h = helper_for(w, q->fn, (dgm_regs)q->regs);
    if (!h) return;
    tell_count(w);
    ir_call(w->to, IR_VOID, h, n_args, args, 0);
}

static void call_when(Weave *w, IrRef cond, const IrHelper *h, uint64_t arg) {
    if (!h) return;
    IrRef args[] = {konst(w, arg)};
    IrRef made = ir_call(w->to, IR_VOID, h, 1, args, 0);
    IrInst *in = &w->to->insts[made]; // the same entry of the region's calls, under a condition
    *in = (IrInst){.op = IR_call_if, .a = cond, .imm = in->imm};
    w->to->n_mem--;
}

static IrRef compares(Weave *w, const Request *q, IrRef value) {
    static const uint8_t cc[] = {[DGM_EQ] = IR_EQ,  [DGM_NE] = IR_NE,  [DGM_LT] = IR_ULT,
                                 [DGM_GE] = IR_UGE, [DGM_LE] = IR_ULE, [DGM_GT] = IR_UGT};
    return ir_icmp(w->to, (IrCc)cc[q->compare], value, konst(w, q->n));
}

static void call_if(Weave *w, const Request *q) {
    tell_count(w);
    IrRef cond = compares(w, q, slot_get(w, q->counter));
    call_when(w, cond, helper_for(w, q->fn, (dgm_regs)q->regs), (uintptr_t)q->data);
}

// ---- records ----

// What an access or a branch is about, in terms of the new region.
typedef struct About {
    IrRef address, low, high, taken, target;
    uint32_t info;
} About;

static IrRef field_value(Weave *w, const Request *q, unsigned field, const About *a) {
    switch (field) {
    case DGM_F_DATA: return konst(w, q->n);
    case DGM_F_INSNS: {
        if (!w->counting) return konst(w, 0);
        IrRef n = ir_append(w->to, (IrInst){.op = IR_executed, .type = IR_I64});
        return ir_sub(w->to, n, konst(w, ahead(w)));
    }
    case DGM_F_ADDRESS: return a->address;
    case DGM_F_VALUE: return a->low;
    case DGM_F_VALUE_HIGH: return a->high;
    case DGM_F_INFO: return konst(w, a->info);
    case DGM_F_TAKEN: return a->taken;
    case DGM_F_TARGET: return a->target;
    case DGM_F_RETURN: return get_reg(w, w->ws->guest->linux_abi->link);
    case DGM_F_STACK: return get_reg(w, w->ws->guest->linux_abi->sp);
    default: return 0;
    }
}

// Once a segment, for all that it may record: the limit leaves room for that.
static void make_room(Weave *w, const dgm_buffer *b) {
    IrRef at = slot_get(w, b->slot + BUFFER_AT), limit = slot_get(w, b->slot + BUFFER_LIMIT);
    call_when(w, ir_icmp(w->to, IR_UGT, at, limit),
              helper_for(w, (void (*)(void))buffer_full, DGM_NO_REGS), (uintptr_t)b);
}

// ---- filters ----

// An access crossed lines: what was last is not known any more.
static uint64_t filter_forget(void *state, uint64_t filter) {
    const dgm_filter *f = (const dgm_filter *)(uintptr_t)filter;
    memset(vcpu_slot(vcpu_hot(state), f->first), 0, f->sets * sizeof(uint64_t));
    return 0;
}

// Whether it is not in the page that was last; I1, or 0 when nobody asks. It is the last now.
static IrRef another_page(Weave *w, const dgm_filter *f, IrRef address) {
    if (!f->page_shift) return 0;
    IrRef page = ir_shr(w->to, address, konst(w, f->page_shift));
    IrRef differs = ir_icmp(w->to, IR_NE, page, slot_get(w, f->page));
    slot_put(w, f->page, page);
    return differs;
}

static IrRef either(Weave *w, IrRef a, IrRef b) {
    return !a ? b : !b ? a : ir_op2(w->to, IR_or, IR_I1, a, b);
}

// A table's word is the line's number times two, plus one when it has been written.
static IrRef is_new_access(Weave *w, const dgm_filter *f, const About *a) {
    IrRegion *r = w->to;
    bool writes = a->info >> 8 & 1, atomic = a->info >> 10 & 1;
    unsigned bytes = a->info & 255;
    IrRef shift = konst(w, f->line_shift), line = ir_shr(r, a->address, shift);
    if (bytes > 1) {
        IrRef end = ir_shr(r, ir_add(r, a->address, konst(w, bytes - 1)), shift);
        call_when(w, ir_icmp(r, IR_NE, line, end),
                  helper_for(w, (void (*)(void))filter_forget, DGM_NO_REGS), (uintptr_t)f);
    }
    IrRef set = ir_and(r, line, konst(w, f->sets - 1));
    IrRef table = ir_append(r, (IrInst){.op = IR_slot_at, .type = IR_I64, .imm = f->first});
    IrRef at = ir_add(r, table, ir_shl(r, set, konst(w, 3)));
    IrRef old = ir_append(r, (IrInst){.op = IR_peek, .type = IR_I64, .a = at});
    IrRef tag = ir_shl(r, line, konst(w, 1)), differs;
    if (writes) {
        tag = ir_or(r, tag, konst(w, 1));
        differs = ir_icmp(r, IR_NE, old, tag);
    } else {
        IrRef one = konst(w, 1);
        differs = ir_icmp(r, IR_NE, ir_or(r, old, one), ir_or(r, tag, one));
        tag = ir_select(r, differs, tag, old);
    }
    ir_append(r, (IrInst){.op = IR_poke, .a = at, .b = tag});
    differs = either(w, differs, another_page(w, f, a->address));
    return atomic ? 0 : differs;
}

static IrRef is_new_place(Weave *w, const dgm_filter *f, uint64_t address) {
    uint64_t line = address >> f->line_shift;
    uint32_t slot = f->first - (uint32_t)(line & (f->sets - 1));
    IrRef tag = konst(w, line << 1);
    IrRef differs = ir_icmp(w->to, IR_NE, slot_get(w, slot), tag);
    slot_put(w, slot, tag);
    return either(w, differs, another_page(w, f, konst(w, address)));
}

static void record(Weave *w, const Request *q, const About *a) {
    const dgm_buffer *b = q->buffer;
    if (!b) return;
    if (++w->n_records == SEGMENT_RECORDS) {
        make_room(w, b);
        w->n_records = 0;
    }
    IrRef values[DGM_MAX_FIELDS];
    for (unsigned i = 0; i < b->n_fields; i++) {
        values[i] = field_value(w, q, b->fields[i], a);
        if (!values[i]) values[i] = konst(w, 0); // there is no such thing here
    }
    IrRef some = 0; // whether it counts; else the next one is written over it
    if (q->filter)
        some = q->when == AFTER_ACCESS ? is_new_access(w, q->filter, a)
                                       : is_new_place(w, q->filter, q->address);
    IrRef at = slot_get(w, b->slot + BUFFER_AT);
    for (unsigned i = 0; i < b->n_fields; i++)
        ir_append(w->to, (IrInst){.op = IR_poke, .a = at, .b = values[i], .imm = 8 * i});
    IrRef bytes = konst(w, 8ull * b->n_fields);
    if (some) bytes = ir_mul(w->to, ir_op1(w->to, IR_zext, IR_I64, some), bytes);
    ir_append(w->to, (IrInst){.op = IR_slot_add, .a = bytes, .imm = b->slot + BUFFER_AT});
}

// ---- calling contexts: the usual case of context.c ----

static IrRef peek(Weave *w, IrRef at, size_t offset) {
    return ir_append(w->to,
                     (IrInst){.op = IR_peek, .type = IR_I64, .a = at, .imm = (int64_t)offset});
}
static void poke(Weave *w, IrRef at, size_t offset, IrRef v) {
    ir_append(w->to, (IrInst){.op = IR_poke, .a = at, .b = v, .imm = (int64_t)offset});
}
static IrRef not_same(Weave *w, IrRef a, IrRef b) { // not 0
    return ir_op2(w->to, IR_xor, IR_I64, a, b);
}

// To the node on top, with `more` of what IR_count has announced and is not done.
static void charge(Weave *w, const dgm_call_tree *c, IrRef node, uint64_t ahead) {
    IrRegion *r = w->to;
    IrRef now = ir_append(r, (IrInst){.op = IR_executed, .type = IR_I64});
    if (ahead) now = ir_sub(r, now, konst(w, ahead));
    IrRef spent = ir_sub(r, now, slot_get(w, c->slot + CONTEXT_LAST));
    IrRef self = ir_add(r, peek(w, node, offsetof(dgm_call_node, self)), spent);
    poke(w, node, offsetof(dgm_call_node, self), self);
    slot_put(w, c->slot + CONTEXT_LAST, now);
}

static void context_call_if(Weave *w, IrRef cond, void (*fn)(void *, uint64_t), CallSite *site) {
    call_when(w, cond, helper_for(w, (void (*)(void))fn, DGM_READ_REGS), (uintptr_t)site);
}

static void enter_function(Weave *w, CallSite *site) {
    IrRegion *r = w->to;
    const dgm_call_tree *c = site->contexts;
    const GuestLinuxAbi *abi = w->ws->guest->linux_abi;
    IrRef top = slot_get(w, c->slot + CONTEXT_TOP);
    IrRef node = peek(w, top, offsetof(ContextFrame, node));
    charge(w, c, node, site->ahead);
    IrRef back = get_reg(w, abi->link), sp = get_reg(w, abi->sp);
    IrRef hash = not_same(w, ir_shr(r, node, konst(w, 1)), ir_shl(r, back, konst(w, 3)));
    hash = ir_and(r, not_same(w, hash, konst(w, context_hash(0, 0, site->low))),
                  konst(w, (CONTEXT_EDGES - 1) * sizeof(ContextEdge)));
    IrRef edge = ir_add(r, slot_get(w, c->slot + CONTEXT_EDGE_TABLE), hash);
    IrRef other = not_same(w, peek(w, edge, offsetof(ContextEdge, from)), node);
    other = ir_or(r, other, not_same(w, peek(w, edge, offsetof(ContextEdge, back)), back));
    other = ir_or(r, other,
                  not_same(w, peek(w, edge, offsetof(ContextEdge, low)), konst(w, site->low)));
    // not deeper in the stack, or too deep: the difference is negative
    IrRef deeper = ir_sub(r, ir_sub(r, peek(w, top, offsetof(ContextFrame, sp)), sp), konst(w, 1));
    IrRef room = ir_sub(r, slot_get(w, c->slot + CONTEXT_LIMIT), top);
    other = ir_or(r, other, ir_shr(r, ir_or(r, deeper, room), konst(w, 63)));
    context_call_if(w, ir_icmp(r, IR_NE, other, konst(w, 0)), context_enter, site);
    top = slot_get(w, c->slot + CONTEXT_TOP);
    node = peek(w, edge, offsetof(ContextEdge, to));
    IrRef calls = ir_add(r, peek(w, node, offsetof(dgm_call_node, calls)), konst(w, 1));
    poke(w, node, offsetof(dgm_call_node, calls), calls);
    const size_t next = sizeof(ContextFrame);
    poke(w, top, next + offsetof(ContextFrame, back), back);
    poke(w, top, next + offsetof(ContextFrame, sp), sp);
    poke(w, top, next + offsetof(ContextFrame, node), node);
    slot_add(w, c->slot + CONTEXT_TOP, next, 0);
}

static void leave_function(Weave *w, CallSite *site, IrRef to) {
    const dgm_call_tree *c = site->contexts;
    IrRef top = slot_get(w, c->slot + CONTEXT_TOP);
    charge(w, c, peek(w, top, offsetof(ContextFrame, node)), site->ahead - 1);
    slot_put(w, c->slot + CONTEXT_WHERE_TO, to);
    IrRef fits = peek(w, top, offsetof(ContextFrame, back));
    context_call_if(w, ir_icmp(w->to, IR_NE, fits, to), context_leave, site);
    slot_add(w, c->slot + CONTEXT_TOP, -sizeof(ContextFrame), 0);
}

static void call_indirect(Weave *w, CallSite *site, IrRef to) {
    IrRegion *r = w->to;
    const dgm_call_tree *c = site->contexts;
    slot_put(w, c->slot + CONTEXT_WHERE_TO, to);
    IrRef hash =
        ir_and(r, ir_shl(r, to, konst(w, 1)), konst(w, (CONTEXT_TARGETS - 1) * sizeof(uint64_t)));
    IrRef known = peek(w, ir_add(r, slot_get(w, c->slot + CONTEXT_TARGET_TABLE), hash), 0);
    context_call_if(w, ir_icmp(r, IR_NE, known, to), context_indirect, site);
}

// When it is taken, and the frame on top is that of the function that jumps.
static void jump_to_function(Weave *w, CallSite *site, IrRef taken) {
    IrRegion *r = w->to;
    const dgm_call_tree *c = site->contexts;
    IrRef top = slot_get(w, c->slot + CONTEXT_TOP);
    IrRef node = peek(w, top, offsetof(ContextFrame, node));
    IrRef sp = get_reg(w, w->ws->guest->linux_abi->sp);
    IrRef other =
        ir_or(r, not_same(w, peek(w, top, offsetof(ContextFrame, sp)), sp),
              not_same(w, peek(w, node, offsetof(dgm_call_node, low)), konst(w, site->back)));
    IrRef own = ir_op1(r, IR_zext, IR_I64, ir_icmp(r, IR_EQ, other, konst(w, 0)));
    IrRef gone = ir_and(r, own, taken);
    charge(w, c, node, site->ahead - 1);
    if (site->low == site->back) { // it is called once however often it begins
        IrRef calls = ir_sub(r, peek(w, node, offsetof(dgm_call_node, calls)), gone);
        poke(w, node, offsetof(dgm_call_node, calls), calls);
    }
    IrRef less = ir_mul(r, gone, konst(w, -sizeof(ContextFrame)));
    ir_append(r, (IrInst){.op = IR_slot_add, .a = less, .imm = c->slot + CONTEXT_TOP});
}

static void follow_calls(Weave *w, const Request *q, IrRef to, IrRef taken) {
    CallSite *site = q->data;
    site->ahead = ahead(w);
    switch ((RequestKind)q->kind) {
    case ASK_ENTER: enter_function(w, site); break;
    case ASK_LEAVE: leave_function(w, site, to); break;
    case ASK_PUSH: {
        const IrHelper *h = helper_for(w, (void (*)(void))context_push, DGM_READ_REGS);
        IrRef args[] = {konst(w, (uintptr_t)site)};
        if (h) ir_call(w->to, IR_VOID, h, 1, args, 0);
        break;
    }
    case ASK_INDIRECT: call_indirect(w, site, to); break;
    default: jump_to_function(w, site, taken); break;
    }
}

// ---- what an access is about ----

// The 64-bit integer of the low `bits` of a scalar or of a vector's lane.
static IrRef as_integer(Weave *w, IrRef v, unsigned lane) {
    IrRegion *r = w->to;
    IrType t = ir_type(r, v);
    if (ir_is_vec(t)) return ir_emit(r, IR_vget, IR_I64, v, 0, 0, 0, 0, lane);
    if (lane) return konst(w, 0);
    if (ir_is_float(t)) {
        t = ir_int_of_bits(ir_elem_bits(t));
        v = ir_op1(r, IR_bitcast, t, v);
    }
    return t == IR_I64 ? v : ir_op1(r, IR_zext, IR_I64, v);
}

static void about_value(Weave *w, About *a, IrRef v, unsigned bytes) {
    a->low = as_integer(w, v, 0);
    if (bytes < 8) a->low = ir_and(w->to, a->low, konst(w, bits_mask(bytes * 8)));
    a->high = bytes == 16 ? as_integer(w, v, 1) : konst(w, 0);
}

static About about_access(Weave *w, const IrInst *in, IrRef made, bool value) {
    IrRegion *r = w->to;
    About a = {.address = in->a};
    const IrInst *addr = &r->insts[in->a];
    if (addr->op == IR_select && addr->aux) a.address = addr->b;
    if ((in->op == IR_load || in->op == IR_store) && in->imm)
        a.address = ir_add(r, a.address, konst(w, (uint64_t)in->imm));
    a.info = access_info(in);
    if (!value) {
        a.low = a.high = konst(w, 0);
        return a;
    }
    about_value(w, &a, in->op == IR_store ? in->b : made, ir_bytes(in->aux));
    return a;
}

static bool wants_value(const Request *q) {
    if (q->kind != ASK_RECORD) return q->access & DGM_VALUE;
    for (unsigned i = 0; q->buffer && i < q->buffer->n_fields; i++)
        if (q->buffer->fields[i] == DGM_F_VALUE || q->buffer->fields[i] == DGM_F_VALUE_HIGH)
            return true;
    return false;
}

// What a conditional call is about; on `keep`.
typedef struct AccessSite {
    dgm_access_fn fn;
    void *data;
    uint32_t info;
} AccessSite;

static uint64_t site_called(void *state, uint64_t site) {
    const AccessSite *s = (const AccessSite *)(uintptr_t)site;
    s->fn(state, *vcpu_slot(vcpu_hot(state), SLOT_ADDRESS), s->info, s->data);
    return 0;
}

static void call_access_if(Weave *w, const Request *q, const About *a) {
    IrRegion *r = w->to;
    AccessSite *site = arena_alloc(&w->ws->keep, sizeof *site);
    if (!site) {
        w->failed = true;
        return;
    }
    *site = (AccessSite){(dgm_access_fn)q->fn, q->data, a->info};
    IrRef cond;
    if (q->kind == ASK_ACCESS_IF) {
        cond = compares(w, q, a->low);
        slot_put(w, SLOT_VALUE, a->low);
        slot_put(w, SLOT_VALUE_HIGH, a->high);
    } else { // its last byte is behind `low`, its first before `high`
        uint64_t bytes = (a->info & 255) - 1;
        IrRef from = ir_sub(r, a->address, konst(w, q->address - bytes));
        cond = ir_icmp(r, IR_ULT, from, konst(w, q->n - q->address + bytes));
    }
    slot_put(w, SLOT_ADDRESS, a->address);
    tell_count(w);
    call_when(w, cond, helper_for(w, (void (*)(void))site_called, (dgm_regs)q->regs),
              (uintptr_t)site);
}

static void call_access(Weave *w, const Request *q, const About *a) {
    if (q->access & DGM_VALUE) {
        slot_put(w, SLOT_VALUE, a->low);
        slot_put(w, SLOT_VALUE_HIGH, a->high);
    }
    IrRef args[] = {a->address, konst(w, a->info), konst(w, (uintptr_t)q->data)};
    call(w, q, 3, args);
}

static void after_access(Weave *w, const IrInst *in, IrRef made) {
    unsigned kinds = in->op == IR_load ? DGM_READ : in->op == IR_store ? DGM_WRITE : 3;
    for (const Request *q = w->b->first; q; q = q->next) {
        if (q->when != AFTER_ACCESS || q->insn != w->insn || !(q->access & kinds)) continue;
        About a = about_access(w, in, made, wants_value(q));
        if (q->kind == ASK_CALL)
            call_access(w, q, &a);
        else if (q->kind == ASK_ACCESS_IN || q->kind == ASK_ACCESS_IF)
            call_access_if(w, q, &a);
        else
            record(w, q, &a);
    }
}

static void at_branch(Weave *w, const IrInst *in) {
    About a = {.taken = konst(w, 1), .address = konst(w, w->b->insns[w->insn].address)};
    if (in->op == IR_exit_ind)
        a.target = in->a;
    else
        a.target = konst(w, (uint64_t)in->imm);
    if (in->op == IR_exit_if) a.taken = ir_op1(w->to, IR_zext, IR_I64, in->a);
    for (const Request *q = w->b->first; q; q = q->next) {
        if (q->when != AT_BRANCH || q->insn != w->insn) continue;
        if (q->kind == ASK_RECORD)
            record(w, q, &a);
        else if (q->kind == ASK_TAKEN)
            ir_append(w->to, (IrInst){.op = IR_slot_add, .a = a.taken, .imm = q->counter});
        else
            follow_calls(w, q, a.target, a.taken);
    }
}

// ---- the walk ----

static void before_insn(Weave *w) {
    for (const Request *q = w->b->first; q; q = q->next) {
        if (q->when != BEFORE_INSN || q->insn != w->insn) continue;
        IrRef args[] = {konst(w, (uintptr_t)q->data)};
        About insn = {0};
        switch ((RequestKind)q->kind) {
        case ASK_COUNT:
            if (w->in_place) slot_add(w, q->counter, q->n, 0);
            break;
        case ASK_SET: slot_put(w, q->counter, konst(w, q->n)); break;
        case ASK_CALL:
            call(w, q, 1, args);
            // what faults now does so after registers changed, but before its instruction
            if (q->regs == DGM_WRITE_REGS) {
                const dgm_insn *n = &w->b->insns[w->insn];
                ir_append(
                    w->to,
                    (IrInst){.op = IR_insn, .aux = (uint8_t)n->size, .imm = (int64_t)n->address});
            }
            break;
        case ASK_CALL_IF: call_if(w, q); break;
        case ASK_RECORD:
            insn.address = konst(w, q->address ? q->address : w->b->insns[w->insn].address);
            insn.low = wants_value(q) ? field_value(w, q, DGM_F_INSNS, &insn) : 0;
            record(w, q, &insn);
            break;
        case ASK_ENTER: follow_calls(w, q, 0, 0); break;
        default: break; // not before
        }
    }
}

static bool writes_registers(const Request *q) {
    return q->kind == ASK_CALL && q->regs == DGM_WRITE_REGS;
}

static bool alike(const Request *p, const Request *q) {
    if (p->kind != q->kind) return false;
    return q->kind == ASK_COUNT ? p->counter == q->counter : p->buffer == q->buffer;
}

static bool first_alike(const dgm_block *b, const Request *q) {
    for (const Request *p = b->first; p != q; p = p->next)
        if (alike(p, q)) return false;
    return true;
}

// Somebody may look at the counters in the middle of the segment: each goes up where it should.
static bool looked_at(const dgm_block *b) {
    for (const Request *q = b->first; q; q = q->next)
        if (q->kind != ASK_COUNT && q->kind != ASK_RECORD && q->kind != ASK_TAKEN &&
            q->kind < ASK_ENTER)
            return true;
    return false;
}

static bool counted_before(const Weave *w, uint32_t counter) {
    for (const dgm_block *b = w->blocks; b != w->b; b = b->next)
        for (const Request *q = b->first; q; q = q->next)
            if (q->counter == counter) return true;
    return false;
}

// Everything of a segment that happens once: its counts, room for its records.
static void begin_segment(Weave *w, Observed *out) {
    const dgm_block *b = w->b;
    w->n_records = 0;
    w->in_place = looked_at(b);
    for (const Request *q = b->first; q; q = q->next) {
        if (q->kind == ASK_RECORD && q->buffer && first_alike(b, q)) make_room(w, q->buffer);
        if (q->kind != ASK_COUNT) continue;
        uint16_t insn = (uint16_t)(b->insns[q->insn].address - w->from->pc);
        uint16_t segment = w->in_place ? insn : (uint16_t)(b->address - w->from->pc);
        if (!b->of)
            out->undo[out->n_undo++] = (WatchUndo){
                .insn = insn, .segment = segment, .counter = q->counter, .n = (uint32_t)q->n};
        if (w->in_place || !first_alike(b, q)) continue;
        uint64_t sum = 0;
        for (const Request *p = q; p; p = p->next)
            if (alike(p, q)) sum += p->n;
        slot_add(w, q->counter, sum, w->early && counted_before(w, q->counter) ? IR_EARLY : 0);
    }
}

static void copy(Weave *w, uint32_t i) {
    IrInst in = w->from->insts[i];
    unsigned n_args = ir_op_info[in.op].n_args;
    if (n_args > 0) in.a = w->renamed[in.a];
    if (n_args > 1) in.b = w->renamed[in.b];
    if (n_args > 2) in.c = w->renamed[in.c];
    bool access = in.op == IR_load || in.op == IR_store || in.op == IR_cas || in.op == IR_rmw;
    bool leaves =
        in.op == IR_call_hint || in.op == IR_exit_if || in.op == IR_exit || in.op == IR_exit_ind;
    if (w->b && leaves && w->insn >= 0) {
        const dgm_insn *n = &w->b->insns[w->insn];
        const IrInst *at = &in;
        IrInst exit; // a call's hint comes first: what follows says where it goes
        if (in.op == IR_call_hint) {
            uint32_t k = i + 1;
            while (k < w->from->n_insts && w->from->insts[k].op != IR_exit &&
                   w->from->insts[k].op != IR_exit_ind)
                k++;
            exit = w->from->insts[k];
            if (exit.op == IR_exit_ind) exit.a = w->renamed[exit.a];
            at = &exit;
        }
        bool branches = n->classes & (DGM_CLASS_JUMP | DGM_CLASS_BRANCH | DGM_CLASS_INDIRECT |
                                      DGM_CLASS_CALL | DGM_CLASS_RETURN);
        if (branches) at_branch(w, at);
        w->insn = -1; // what else this instruction leaves by is the same branch
    }
    if (in.op == IR_call) {
        const IrCall *c = &w->from->calls[in.imm];
        IrRef args[4];
        for (unsigned k = 0; k < c->n_args; k++) args[k] = w->renamed[c->args[k]];
        w->renamed[i] = ir_call(w->to, in.type, c->helper, c->n_args, args, c->imm);
        return;
    }
    if (in.op == IR_const && ir_is_vec(in.type)) {
        V128 c = w->from->vconsts[in.imm];
        w->renamed[i] = ir_vconst(w->to, in.type, c.d[0], c.d[1]);
        return;
    }
    IrRef made = w->renamed[i] = ir_append(w->to, in);
    if (access && w->b && w->insn >= 0 && !(in.aux2 & IR_HIDDEN)) after_access(w, &in, made);
}

static void walk(Weave *w, const dgm_block *blocks, Observed *out) {
    const IrRegion *r = w->from;
    const dgm_block *next = blocks;
    for (uint32_t i = 1; i < r->n_insts; i++) {
        const IrInst *in = &r->insts[i];
        if (in->op == IR_count && !w->counting) {
            w->renamed[i] = 0;
        } else {
            copy(w, i);
        }
        if (i == r->entry_flags) w->to->entry_flags = w->renamed[i];
        if (next && i == next->start) { // its mark; the count is what comes next
            w->b = next;
            w->insn = 0;
            next = next->next;
        } else if (in->op == IR_count && w->b && i == w->b->start + 1) {
            begin_segment(w, out);
            before_insn(w);
        } else if (in->op == IR_insn && w->b && i < w->b->end) {
            const dgm_insn *n = w->b->insns;
            int k = 0;
            while (n[k].address != (uint64_t)in->imm) k++;
            if (k == w->insn) continue; // marked twice
            w->insn = k;
            before_insn(w);
        }
        if (w->b && i + 1 >= w->b->end) w->b = NULL;
    }
}

static void weave(Watches *ws, const IrRegion *r, const dgm_block *blocks, bool counting,
                  Observed *out) {
    IrRegion *to = &ws->woven;
    ir_region_reset(to, r->pc);
    to->fp_rules = r->fp_rules;
    to->fp_exact = r->fp_exact;
    to->fp_traps = r->fp_traps;
    to->hot = r->hot;
    to->entry_made = r->entry_made;
    memcpy(to->kept, r->kept, sizeof to->kept);
    Weave w = {.ws = ws, .from = r, .to = to, .counting = counting, .blocks = blocks};
    for (const dgm_block *b = blocks; b; b = b->next) w.early |= b->of != NULL;
    unsigned n = 0;
    for (const dgm_block *b = blocks; b; b = b->next)
        for (const Request *q = b->first; q; q = q->next) n++;
    out->undo = arena_alloc(&ws->work, (n + 1) * sizeof *out->undo);
    w.renamed = arena_alloc(&ws->work, r->n_insts * sizeof *w.renamed);
    if (!out->undo || !w.renamed) {
        to->failed = true;
        return;
    }
    ir_block_begin(to, r->pc);
    walk(&w, blocks, out);
    ir_block_end(to);
    to->size_bytes = r->size_bytes;
    to->n_insns = r->n_insns;
    to->failed |= w.failed;
    out->region = to;
}

// Nobody wants anything here: only what counts goes.
static void drop_counts(IrRegion *r) {
    for (uint32_t i = 0; i < r->n_counts; i++) r->insts[r->counts[i]] = (IrInst){.op = IR_NOP};
    r->n_counts = 0;
}

static bool only_counts(const dgm_block *b) {
    for (const Request *q = b->first; q; q = q->next)
        if (q->kind != ASK_COUNT) return false;
    return true;
}

static void show(Watches *ws, dgm_block *b, const GuestLift *how) {
    for (dgm_watch *t = ws->first; t; t = t->next)
        if (t->tool->block && !(how->unwatched & t->thread_bit)) filter_show(t, b);
}

bool observe_region(Watches *ws, IrRegion *r, const GuestLift *how, bool counting, Observed *out) {
    *out = (Observed){.region = r};
    dgm_block *blocks = ws->wants_blocks ? plan_blocks(ws, r, how) : NULL;
    unsigned before = 0;
    bool rounds = false, counts = true;
    for (dgm_block *b = blocks; b; before += b->n_insns, b = b->next) {
        if (b->of)
            b->first = b->of->first;
        else
            show(ws, b, how);
        if (b->failed) return false;
        rounds |= b->of != NULL;
        counts &= only_counts(b);
        out->asked |= b->first != NULL;
        for (const Request *q = b->first; q; q = q->next)
            if (writes_registers(q) && before + q->insn &&
                (!out->cut || before + q->insn < out->cut))
                out->cut = before + q->insn;
    }
    out->once = rounds && !counts;
    if (out->cut || out->once) return true;
    if (out->asked)
        weave(ws, r, blocks, counting, out);
    else if (!counting)
        drop_counts(r);
    return !out->region->failed;
}
