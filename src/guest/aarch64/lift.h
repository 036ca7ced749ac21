// lift.h - what AArch64 lifters share: the Lift context and short words for reading and writing
// guest registers as the manual's pseudo-code does.
//
// A lifter is `bool lift_<row>(Lift *l, const Args_<row> *a)`: it appends one instruction's meaning
// to l->r and returns true, or appends nothing and returns false when the encoding is undefined
// after all. One that changes the flow of control ends the block and says so with l->ended.
// House rule: within an instruction every load, store, atomic or faulting helper comes before the
// first put (ir_verify checks); flags and registers are read before they are written.
//
// Register 31 is the zero register or the stack pointer: the function names say which.
// Start reading in lift.c (the block loop), then dp_imm.c.
#ifndef DGM_A64_LIFT_H
#define DGM_A64_LIFT_H

#include "decode_a64.h"
#include "guest/aarch64/features.h"
#include "guest/aarch64/state.h"
#include "ir/ir.h"

enum { LIFT_MAX_SEGMENTS = 6 };

struct Lift {
    IrRegion *r;
    uint64_t pc;       // of this instruction
    uint32_t insn;     // its bits
    uint32_t mode;     // Guest.mode
    uint64_t features; // A64_FEAT bits
    bool ended;        // this instruction ended the block
    bool not_executed; // ... by an exception of its own
    bool extend;       // a conditional branch need not end the block
    bool watch;        // GuestLift.watch
    uint64_t join;     // where the nearest of its branches so far goes to
    unsigned n_joins;  // how many these are
    bool may_repeat;   // a jump to the block's start may go on there: a loop is unrolled
    bool repeats;      // ... and does
    bool turns;        // behind this instruction a segment ends: it may leave the block, or repeats
};

// ---- the block loop's parts (lift.c) ----
void lift_begin(Lift *l, IrRegion *r, const GuestLift *how);
// A region is empty: its rules and its one block.
void lift_region_begin(IrRegion *r, const GuestLift *how);
// The code from how->pc on, at most to the end of its page; NULL when none can be read.
const uint8_t *lift_fetch(const GuestLift *how, uint32_t *bytes);
// The instruction that starts at l->pc, of this row.
void lift_row(Lift *l, unsigned row);
// In place of instructions that cannot be read.
void lift_unreadable(Lift *l);
// Behind a conditional branch to pc: does the block go on? Then a segment ends there.
static inline bool lift_goes_on(Lift *l, uint64_t pc) {
    if (!l->extend || pc <= l->pc || l->n_joins == LIFT_MAX_SEGMENTS) return false;
    l->join = l->n_joins++ ? MIN(l->join, pc) : pc;
    return l->turns = true;
}

// ---- hints (system.c) ----
bool a64_hint_is_nop(const Args_hint *a); // for who does not watch

static inline bool lift_has(const Lift *l, uint64_t features) {
    return (l->features & features) == features;
}
static inline IrType lift_type(unsigned sf) {
    return sf ? IR_I64 : IR_I32;
}

// ---- general registers ----
static inline IrRef lift_x(Lift *l, unsigned n) { // Xn, XZR
    return n == 31 ? ir_const(l->r, IR_I64, 0) : ir_get(l->r, A64_X0 + n, IR_I64);
}
static inline IrRef lift_xsp(Lift *l, unsigned n) { // Xn, SP
    return ir_get(l->r, A64_X0 + n, IR_I64);        // A64_SP is A64_X0 + 31
}
static inline IrRef lift_reg(Lift *l, IrType t, unsigned n) { // the low bits of Xn, as t (I8..I64)
    return n == 31 ? ir_const(l->r, t, 0) : ir_get(l->r, A64_X0 + n, t);
}
static inline IrRef lift_reg_sp(Lift *l, IrType t, unsigned n) {
    return ir_get(l->r, A64_X0 + n, t);
}
static inline IrRef lift_w(Lift *l, unsigned n) {
    return lift_reg(l, IR_I32, n);
}
static inline IrRef lift_zext64(Lift *l, IrRef v) {
    return ir_type(l->r, v) == IR_I64 ? v : ir_op1(l->r, IR_zext, IR_I64, v);
}
// Writes an I8..I64 value zero-extended to 64 bits.
static inline void lift_put_reg_sp(Lift *l, unsigned n, IrRef v) {
    ir_put(l->r, A64_X0 + n, lift_zext64(l, v));
}
static inline void lift_put_reg(Lift *l, unsigned n, IrRef v) {
    if (n != 31) lift_put_reg_sp(l, n, v);
}

// ---- constants ----
static inline IrRef lift_i32(Lift *l, uint32_t v) {
    return ir_const(l->r, IR_I32, v);
}
static inline IrRef lift_i64(Lift *l, uint64_t v) {
    return ir_const(l->r, IR_I64, v);
}

// ---- flags ----
static inline IrRef lift_flags(Lift *l) {
    return ir_get(l->r, A64_NZCV, IR_FLAGS);
}
static inline void lift_put_flags(Lift *l, IrRef flags) {
    ir_put(l->r, A64_NZCV, flags);
}
static inline IrRef lift_cond(Lift *l, unsigned cond) { // I1
    return cond >= IR_C_AL ? ir_const(l->r, IR_I1, 1) : ir_cond(l->r, (IrCond)cond, lift_flags(l));
}
static inline IrRef lift_nzcv(Lift *l, unsigned nzcv) { // FLAGS of a 4-bit immediate
    return ir_op1(l->r, IR_fl_pack, IR_FLAGS, lift_i32(l, nzcv << 28));
}

// ---- vector and scalar FP registers ----
static inline IrRef lift_v(Lift *l, unsigned n) { // the whole register
    return ir_get(l->r, A64_V0 + n, IR_V128);
}
static inline void lift_put_v(Lift *l, unsigned n, IrRef v) {
    ir_put(l->r, A64_V0 + n, v);
}
// The low bits of Vn as a scalar of type t (I8..I64, F16..F64).
static inline IrRef lift_f(Lift *l, IrType t, unsigned n) {
    return ir_get(l->r, A64_V0 + n, t);
}
// Writes a scalar, zeros above it.
static inline void lift_put_f(Lift *l, unsigned n, IrRef v) {
    ir_put(l->r, A64_V0 + n, ir_op1(l->r, IR_vzext, ir_vec_of(ir_elem(ir_type(l->r, v))), v));
}
// Writes a vector result of a 64-bit (q 0) or 128-bit (q 1) form.
static inline void lift_put_vq(Lift *l, unsigned n, unsigned q, IrRef v) {
    ir_put(l->r, A64_V0 + n, q ? v : ir_op1(l->r, IR_vlow, ir_type(l->r, v), v));
}
// FPSR.QC |= any bit of v (a vector).
static inline void lift_raise_qc(Lift *l, IrRef v) {
    ir_put(l->r, A64_QC, ir_op2(l->r, IR_or, IR_V128, ir_get(l->r, A64_QC, IR_V128), v));
}

// ---- operands (operands.c) ----
typedef enum A64Shift { SHIFT_LSL, SHIFT_LSR, SHIFT_ASR, SHIFT_ROR } A64Shift;
// v shifted by a constant amount below its width.
IrRef lift_shift_imm(Lift *l, IrRef v, A64Shift kind, unsigned amount);
// Register n extended as `option` (UXTB..SXTX) to t, then shifted left.
IrRef lift_extend(Lift *l, IrType t, unsigned n, unsigned option, unsigned shift);
// DecodeBitMasks: false when the immediate is reserved. tmask may be NULL.
bool a64_bitmask(unsigned sf, unsigned n, unsigned imms, unsigned immr, uint64_t *wmask,
                 uint64_t *tmask);
// The element type of 1 << size bytes: I8 I16 I32 I64, V128 for 4.
static inline IrType lift_mem_type(unsigned log2_bytes) {
    return log2_bytes == 4 ? IR_V128 : (IrType)(IR_I8 + log2_bytes);
}

// ---- addresses (operands.c) ----
// The five ways a load or store finds its address and what becomes of the base register.
typedef enum A64Index { INDEX_OFFSET, INDEX_POST, INDEX_PRE } A64Index;
typedef struct A64Addr {
    IrRef base; // I64: the access is at base + disp
    int64_t disp;
    bool writeback; // the base register becomes base + step
    int64_t step;
    unsigned n; // the base register
} A64Addr;
// Base register n (SP) with a constant offset.
static inline A64Addr lift_addr(Lift *l, unsigned n, A64Index index, int64_t offset) {
    return (A64Addr){.base = lift_xsp(l, n),
                     .disp = index == INDEX_POST ? 0 : offset,
                     .writeback = index != INDEX_OFFSET,
                     .step = offset,
                     .n = n};
}
// Base register n (SP) plus register m extended as `option` and shifted left.
A64Addr lift_addr_reg(Lift *l, unsigned n, unsigned m, unsigned option, unsigned shift);
// After all accesses: writes the base register back when the form says so.
static inline void lift_writeback(Lift *l, A64Addr at) {
    if (at.writeback) ir_put(l->r, A64_X0 + at.n, ir_add_const(l->r, at.base, (uint64_t)at.step));
}

// disasm_simd.c: {@name} in the templates of FP and AdvSIMD rows.
void a64_print_simd_operand(const DecodeRow *row, uint32_t insn, const char *name, size_t len,
                            Buf *out);

// Calls a scalar helper with values of type I64 or I32.
IrRef lift_call(Lift *l, IrType t, const IrHelper *h, unsigned n_args, const IrRef *args);

// Ends the block with a trap. One at l->pc itself is an instruction that was not executed.
static inline void lift_trap(Lift *l, IrTrap kind, unsigned value, uint64_t pc) {
    ir_trap(l->r, kind, value, pc);
    l->ended = true;
    l->not_executed = pc == l->pc;
}

#endif
