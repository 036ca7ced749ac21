// direct.c - basic blocks that are said directly: the block loop, and branches.
//
// What a block is lift.c decides for all; the same here, for what is neither hot nor watched: it
// ends at a branch or trap, at the limit of instructions and at the end of a page, and goes on past
// conditional branches forward until it comes to where one of them goes.
#include "guest/aarch64/direct.h"

#include "engine/vcpu.h"

// ---- what is lifted in between ----

static void region_begin(DirectLift *l, const GuestLift *how) {
    IrRegion *r = l->l.r;
    ir_region_reset(r, how->pc);
    r->fp_traps = how->mode & MODE_FP_TRAPS;
    lift_region_begin(r, how);
    l->open = true;
}

static void region_end(DirectLift *l) {
    ir_block_end(l->l.r);
    l->n_ir_insts += l->l.r->n_insts;
    l->say->region(l->d, l->l.r);
    l->open = false;
}

// ---- branches ----

static uint64_t target(const DirectLift *l, int32_t words) {
    return l->l.pc + (uint64_t)((int64_t)words * 4);
}

// Behind a conditional exit to pc.
static bool branched(DirectLift *l, uint64_t pc) {
    if (lift_goes_on(&l->l, pc)) return true;
    l->say->exit(l->d, l->l.pc + 4);
    return l->l.ended = true;
}

bool direct_b(DirectLift *l, const Args_b *a) {
    l->say->exit(l->d, target(l, a->imm26));
    return l->l.ended = true;
}

bool direct_bl(DirectLift *l, const Args_bl *a) {
    l->say->call(l->d, A64_X0 + 30, l->l.pc + 4, target(l, a->imm26));
    return l->l.ended = true;
}

bool direct_b_cond(DirectLift *l, const Args_b_cond *a) {
    if (a->cond >= IR_C_AL) return false;
    l->say->exit_if(l->d, (IrCond)a->cond, target(l, a->imm19));
    return branched(l, target(l, a->imm19));
}

bool direct_cbz(DirectLift *l, const Args_cbz *a) {
    l->say->exit_if_zero(l->d, direct_x(a->rt), a->sf, a->nz, target(l, a->imm19));
    return branched(l, target(l, a->imm19));
}

bool direct_tbz(DirectLift *l, const Args_tbz *a) {
    l->say->exit_if_bit(l->d, direct_x(a->rt), a->bit, a->nz, target(l, a->imm14));
    return branched(l, target(l, a->imm14));
}

bool direct_br(DirectLift *l, const Args_br *a) {
    l->say->exit_ind(l->d, IR_JUMP, direct_x(a->rn));
    return l->l.ended = true;
}

bool direct_blr(DirectLift *l, const Args_blr *a) {
    l->say->call_ind(l->d, A64_X0 + 30, l->l.pc + 4, direct_x(a->rn));
    return l->l.ended = true;
}

bool direct_ret(DirectLift *l, const Args_ret *a) {
    l->say->exit_ind(l->d, IR_JUMP_RET, direct_x(a->rn));
    return l->l.ended = true;
}

// NOPs; others are lifted.
bool direct_hint(DirectLift *l, const Args_hint *a) {
    return a64_hint_is_nop(a);
}

// ---- the block loop ----

// May the block that begins with these words go back to its own start, or to what it begins with,
// or anywhere? (Round a loop of blocks at least one does.) Words that are no branches of the
// block's may be taken for some: it is asked for nothing then.
static bool may_loop(const uint8_t *code, uint32_t bytes) {
    for (uint32_t at = 0; at < bytes; at += 4) {
        uint32_t w;
        memcpy(&w, code + at, 4);
        if ((w & 0x1c000000) != 0x14000000) continue; // neither branch nor system instruction
        int64_t words;
        bool last = false;
        if ((w & 0x7c000000) == 0x14000000) { // B, BL
            words = (int32_t)(w << 6) >> 6;
            last = true;
        } else if ((w & 0xfe000000) == 0x54000000 || (w & 0x7e000000) == 0x34000000) {
            words = (int32_t)(w << 8) >> 13; // B.cond, CBZ
        } else if ((w & 0x7e000000) == 0x36000000) {
            words = (int32_t)(w << 13) >> 18; // TBZ
        } else if ((w & 0xfe000000) == 0xd6000000) {
            return (w & 0xfffff000) != 0xd65f0000; // RET is foreseen, or goes by who asks
        } else {
            continue;
        }
        if ((int64_t)at + words * 4 <= 0) return true;
        if (last) return false;
    }
    return false;
}

static void instruction(DirectLift *l, const GuestLift *how) {
    unsigned row = a64_decode(l->l.insn);
    if (a64_is_direct[row]) {
        if (l->open) region_end(l);
        l->d->pc = l->l.pc;
        if (a64_direct_row(l, row, l->l.insn)) return;
    }
    if (!l->open) region_begin(l, how);
    ir_insn(l->l.r, l->l.pc, 4);
    lift_row(&l->l, row);
}

_Static_assert((int)LIFT_MAX_SEGMENTS < (int)GUEST_MOST_SEGMENTS, "the last ends with the block");

// A segment's count stands at its start, and is given the number when it has ended.
typedef struct Segment {
    uint8_t *counted; // NULL: nobody counts
    uint32_t first;
} Segment;

static void segment_begin(Segment *s, DirectLift *l, const GuestLift *how, uint32_t n) {
    s->counted = how->count ? l->say->count(l->d) : NULL;
    s->first = n;
}

static void segment_end(const Segment *s, DirectLift *l, GuestDirect *made, uint32_t n) {
    if (l->open) region_end(l);
    if (s->counted) l->say->counted(l->d, s->counted, n - s->first);
    made->segment_insns[made->n_segments++] = (uint16_t)(n - s->first);
}

void a64_direct_block(const GuestLift *how, IrRegion *r, Direct *d, GuestDirect *made) {
    DirectLift lift = {.say = d->ops, .d = d}, *l = &lift;
    l->l = lift_begin(r, how);
    d->flags = A64_NZCV;
    d->pc = how->pc;
    *made = (GuestDirect){0};
    uint32_t bytes = 0, n = 0;
    const uint8_t *code = lift_fetch(how, &bytes);
    if (code && may_loop(code, bytes)) d->ops->poll(d);
    Segment segment;
    segment_begin(&segment, l, how, 0);
    if (!code) {
        region_begin(l, how);
        lift_unreadable(&l->l);
    }
    uint32_t at = 0;
    for (; at < bytes && !l->l.ended; at += 4) {
        if (l->l.pc == l->l.join) break;
        memcpy(&l->l.insn, code + at, 4);
        instruction(l, how);
        n++;
        l->l.pc += 4;
        if (!l->l.turns) continue;
        l->l.turns = false;
        segment_end(&segment, l, made, n);
        segment_begin(&segment, l, how, n);
    }
    if (n) n -= l->l.not_executed;
    segment_end(&segment, l, made, n);
    if (!l->l.ended) d->ops->exit(d, l->l.pc);
    made->n_insns = n;
    made->n_ir_insts = l->n_ir_insts;
    made->size_bytes = code ? at : 4;
}
