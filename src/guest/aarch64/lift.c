// lift.c - the block loop: from guest bytes to one basic block of IR.
//
// A block ends at a branch or trap, at the limit of instructions, and at the end of a 4 KiB page,
// so that a block never depends on two pages. A hot one that is a loop goes on with further rounds
// of it. An extended one goes on past forward conditional branches, until it comes to where one of
// them goes. r->n_insns counts the instructions that a run through the whole block executes; one
// that raises an exception instead (undefined, BRK) is not among them, but its bytes are in
// r->size_bytes.
#include "guest/aarch64/lift.h"

// For who watches, only branches end segments, and a whole one of this size is one block.
enum { CODE_PAGE_BYTES = 4096, MAX_WATCHED_INSNS = 512 };

void lift_row(Lift *l, unsigned row) {
    if (a64_lift_row(l, row, l->insn)) return;
    // What this build lacks is said to be lacking, also where the CPU would not have it either.
    bool lacking = row != A64_ROW_none && !a64_rows[row].implemented;
    lift_trap(l, lacking ? IR_TRAP_UNIMPLEMENTED : IR_TRAP_UNDEFINED, 0, l->pc);
}

void lift_unreadable(Lift *l) {
    ir_insn(l->r, l->pc, 4);
    lift_trap(l, l->pc & 3 ? IR_TRAP_ALIGN : IR_TRAP_FETCH, 0, l->pc);
}

const uint8_t *lift_fetch(const GuestLift *how, uint32_t *bytes) {
    uint64_t pc = how->pc, to_page_end = CODE_PAGE_BYTES - pc % CODE_PAGE_BYTES;
    uint32_t most = how->watch && how->extend ? MAX_WATCHED_INSNS : how->max_insns;
    if (pc & 3) return NULL;
    *bytes = (uint32_t)MIN((uint64_t)most * 4, to_page_end);
    const uint8_t *p = how->fetch(how->fetch_ctx, pc, *bytes);
    if (p) return p;
    *bytes = 4;
    return how->fetch(how->fetch_ctx, pc, 4);
}

void lift_region_begin(IrRegion *r, const GuestLift *how) {
    r->fp_exact = how->mode & 1;
    r->fp_rules = IR_FP_ARM;
    ir_block_begin(r, how->pc);
}

void lift_begin(Lift *l, IrRegion *r, const GuestLift *how) {
    *l = (Lift){.r = r,
                .pc = how->pc,
                .mode = how->mode,
                .features = how->features,
                .extend = how->extend,
                .watch = how->watch,
                .join = 1}; // no instruction is there
}

// Counts the instructions of one segment: its IR_count stands at the segment's start, and is given
// the number when the segment has ended.
typedef struct Segment {
    IrRef counted; // 0: nobody counts
    uint32_t first;
} Segment;

static void segment_begin(Segment *s, Lift *l, const GuestLift *how, uint32_t n) {
    ir_insn(l->r, l->pc, 4);
    if (how->budget) ir_mark(l->r);
    s->counted = how->count ? ir_count(l->r, 0) : 0;
    s->first = n;
}
static void segment_end(const Segment *s, Lift *l, uint32_t n) {
    if (s->counted) l->r->insts[s->counted].imm = n - s->first;
}

// Nobody looks at a loop's count between its rounds.
static void counts_are_early(IrRegion *r) {
    for (uint32_t i = 1; i < r->n_counts; i++) r->insts[r->counts[i]].aux = IR_EARLY;
}

// For who watches: a segment is not left in its middle.
static bool goes_on_watched(const GuestLift *how, const Segment *s, uint32_t n) {
    return n < how->max_insns || (n > s->first && n < MAX_WATCHED_INSNS && how->extend);
}

void a64_lift_block(IrRegion *r, const GuestLift *how) {
    Lift l;
    lift_begin(&l, r, how);
    lift_region_begin(r, how);
    r->kept[0] = A64_KEPT_A;
    r->kept[1] = A64_KEPT_B;
    if (how->flags) ir_make_flags(r, how->flags);
    Segment segment;
    segment_begin(&segment, &l, how, 0);
    uint32_t bytes = 0, n = 0;
    bool unrolled = false;
    const uint8_t *code = lift_fetch(how, &bytes);
    if (!code) {
        lift_unreadable(&l);
        bytes = 4;
    }
    uint32_t at = 0, end = 0;
    const bool watch = how->watch, joins = !watch && !how->hot;
    const bool unrolls = how->hot && !how->once;
    for (; at < bytes && !l.ended; at += 4) {
        // A block ends where one of its branches goes: a block of its own will do for both ways.
        if (l.pc == l.join && joins) break;
        if (watch && !goes_on_watched(how, &segment, n)) break;
        memcpy(&l.insn, code + at, 4); // A64 instructions are little-endian, as every host so far
        if (n > segment.first) ir_insn(r, l.pc, 4);
        if (unrolls) l.may_repeat = n + 1 + at / 4 < how->max_insns;
        lift_row(&l, a64_decode(l.insn));
        n++;
        l.pc += 4;
        if (!l.turns) continue;
        bool again = l.repeats;
        l.turns = l.repeats = false;
        if (again) {
            unrolled = true;
            end = MAX(end, at + 4);
            if (!watch) bytes = MIN(bytes, (how->max_insns - n) * 4); // of all rounds together
            l.pc = how->pc;
            at = 0u - 4;
        }
        segment_end(&segment, &l, n);
        segment_begin(&segment, &l, how, n);
        if (again) ir_mark(r); // the same instruction may have been the last that said where it is
    }
    if (n) n -= l.not_executed; // 0: its bytes could not be read, it is not counted yet
    end = MAX(end, at);
    if (!l.ended) ir_exit(r, l.pc);
    ir_block_end(r);
    segment_end(&segment, &l, n);
    if (unrolled) counts_are_early(r);
    r->n_insns = n;
    r->size_bytes = end ? end : bytes;
}
