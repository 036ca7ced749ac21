// lift.c - the block loop: from guest bytes to one basic block of IR.
//
// A block ends at a branch or trap, at the limit of instructions, and at the end of a 4 KiB page,
// so that a block never depends on two pages. r->n_insns counts the instructions that a run through
// the whole block executes; one that raises an exception instead (undefined, BRK) is not among
// them, but its bytes are in r->size_bytes.
#include "guest/aarch64/lift.h"

enum { CODE_PAGE_BYTES = 4096 };

// The instruction that starts at l->pc.
static void lift_one(Lift *l) {
    unsigned row = a64_decode(l->insn);
    // What this build lacks is said to be lacking, also where the CPU would not have it either.
    if (row != A64_ROW_none && !a64_rows[row].implemented) {
        lift_trap(l, IR_TRAP_UNIMPLEMENTED, 0, l->pc);
        return;
    }
    if (row != A64_ROW_none && lift_has(l, a64_row_features[row]) && a64_lift_row(l, row, l->insn))
        return;
    lift_trap(l, IR_TRAP_UNDEFINED, 0, l->pc);
}

// A pointer to the code from pc on, at most to the end of the page; *bytes is how much.
static const uint8_t *fetch_run(const GuestLift *how, uint64_t pc, uint32_t *bytes) {
    uint64_t to_page_end = CODE_PAGE_BYTES - pc % CODE_PAGE_BYTES;
    *bytes = (uint32_t)MIN((uint64_t)how->max_insns * 4, to_page_end);
    const uint8_t *p = how->fetch(how->fetch_ctx, pc, *bytes);
    if (p) return p;
    *bytes = 4;
    return how->fetch(how->fetch_ctx, pc, 4);
}

void a64_lift_block(IrRegion *r, const GuestLift *how) {
    Lift l = {.r = r, .pc = how->pc, .mode = how->mode, .features = how->features};
    r->fp_exact = how->mode & 1;
    r->fp_rules = IR_FP_ARM;
    ir_block_begin(r, how->pc);
    IrRef counted =
        how->count ? ir_emit(r, IR_count, IR_VOID, 0, 0, 0, 0, 0, 0) : 0; // imm is filled in below
    uint32_t bytes = 0, n = 0;
    const uint8_t *code = how->pc & 3 ? NULL : fetch_run(how, how->pc, &bytes);
    if (!code) {
        ir_insn(r, l.pc, 4);
        lift_trap(&l, how->pc & 3 ? IR_TRAP_ALIGN : IR_TRAP_FETCH, 0, l.pc);
        bytes = 4;
    }
    uint32_t at = 0;
    for (; !l.ended && at < bytes && n < how->max_insns; at += 4) {
        memcpy(&l.insn, code + at, 4); // A64 instructions are little-endian, as every host so far
        ir_insn(r, l.pc, 4);
        lift_one(&l);
        n += !l.not_executed;
        l.pc += 4;
    }
    if (!l.ended) ir_exit(r, l.pc);
    ir_block_end(r);
    r->n_insns = n;
    r->size_bytes = at ? at : bytes;
    if (counted) r->insts[counted].imm = n;
}
