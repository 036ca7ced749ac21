// ir.h - the intermediate representation: what a guest lifts to and a host compiles from.
//
// A region is one or more blocks of instructions in SSA form: instruction i defines value i, once,
// and a use must be dominated by it. A block is *extended*: exit_if may leave it in the middle,
// only its last instruction (exit, exit_ind, trap, jump, br) ends it. Guest state is touched by
// `get` and `put` of the registers in the guest's table and by declared helpers, by nothing else.
// There are no phis: what lives across blocks of a region lives in guest registers, which hosts
// keep in host registers (see host.h), so a put is no store.
//
// Life of a block: the guest's lifter calls the builder functions below (which fold as they go, so
// a `get` after a `put` costs nothing and a condition of a comparison becomes that comparison),
// opt/ tidies, ir_verify() checks (debug builds), and a host compiles it or host/interp evaluates
// it.
//
// Exactness: between two `insn` marks all MEM ops come before all puts (ir_verify checks; loads and
// stores may say their instruction themselves), so at every op that can fault guest state is
// exactly that before the instruction.
//
// Ownership: a region's memory belongs to its arena; ir_region_reset() keeps it for the next one.
// Thread-safety: one region, one thread.
#ifndef DGM_IR_H
#define DGM_IR_H

#include "base/base.h"

// ---- types: an element and log2 of the number of lanes ----
typedef enum IrElem {
    IR_VOID,
    IR_I1,
    IR_I8,
    IR_I16,
    IR_I32,
    IR_I64,
    IR_I128,
    IR_F16,
    IR_F32,
    IR_F64,
    IR_FLAGS,
    IR_ELEM_COUNT
} IrElem;
typedef uint8_t IrType; // element | log2 lanes << 4
#define IR_LANES(elem, log2lanes) ((IrType)((elem) | (log2lanes) << 4))
enum {
    IR_I8X16 = IR_LANES(IR_I8, 4),
    IR_I16X8 = IR_LANES(IR_I16, 3),
    IR_I32X4 = IR_LANES(IR_I32, 2),
    IR_I64X2 = IR_LANES(IR_I64, 1),
    IR_F16X8 = IR_LANES(IR_F16, 3),
    IR_F32X4 = IR_LANES(IR_F32, 2),
    IR_F64X2 = IR_LANES(IR_F64, 1),
    IR_V128 = IR_I64X2, // when the lanes do not matter: get, put, load, store, and, or, xor...
};
static inline IrElem ir_elem(IrType t) {
    return (IrElem)(t & 15);
}
static inline unsigned ir_lanes(IrType t) {
    return 1u << (t >> 4);
}
static inline bool ir_is_vec(IrType t) {
    return t >> 4;
}
static inline bool ir_is_float(IrType t) {
    return ir_elem(t) >= IR_F16 && ir_elem(t) <= IR_F64;
}
static inline bool ir_is_int(IrType t) {
    return ir_elem(t) >= IR_I1 && ir_elem(t) <= IR_I128;
}
static inline unsigned ir_elem_bits(IrType t) { // 1 for I1, 32 for FLAGS
    static const uint8_t bits[16] = {
        [IR_I1] = 1,     [IR_I8] = 8,   [IR_I16] = 16, [IR_I32] = 32, [IR_I64] = 64,
        [IR_I128] = 128, [IR_F16] = 16, [IR_F32] = 32, [IR_F64] = 64, [IR_FLAGS] = 32,
    };
    return bits[ir_elem(t)];
}
static inline unsigned ir_bytes(IrType t) { // in memory and guest state; I1 takes 1, FLAGS 4
    static const uint8_t bytes[16] = {
        [IR_I1] = 1,    [IR_I8] = 1,  [IR_I16] = 2, [IR_I32] = 4, [IR_I64] = 8,
        [IR_I128] = 16, [IR_F16] = 2, [IR_F32] = 4, [IR_F64] = 8, [IR_FLAGS] = 4,
    };
    return (unsigned)bytes[t & 15] << (t >> 4);
}
static inline IrType ir_int_of_bits(unsigned bits) { // 8, 16, 32, 64, 128
    return bits == 8    ? IR_I8
           : bits == 16 ? IR_I16
           : bits == 32 ? IR_I32
           : bits == 64 ? IR_I64
                        : IR_I128;
}
// The 128-bit vector type with this element.
static inline IrType ir_vec_of(IrElem e) {
    return IR_LANES(e, e == IR_I8                   ? 4
                       : e == IR_I16 || e == IR_F16 ? 3
                       : e == IR_I32 || e == IR_F32 ? 2
                                                    : 1);
}

// ---- ops ----
typedef enum IrOp {
    IR_NOP = 0,
#define IR_OP(name, result, args, effects, meaning) IR_##name,
#include "ir/ops.def"
#undef IR_OP
    IR_OP_COUNT
} IrOp;
typedef enum IrEffect { IR_PURE, IR_READ, IR_WRITE, IR_FLAGFP, IR_MEM, IR_CTL } IrEffect;
typedef struct IrOpInfo {
    const char *name, *args, *meaning;
    char result; // 'T', 'B', 'G' or '-'
    uint8_t n_args;
    uint8_t effect; // IrEffect
} IrOpInfo;
extern const IrOpInfo ir_op_info[IR_OP_COUNT];
extern const uint8_t
    ir_op_effect[IR_OP_COUNT]; // the same effects, close together for those who walk regions

typedef enum IrCc {
    IR_EQ,
    IR_NE,
    IR_ULT,
    IR_UGE,
    IR_ULE,
    IR_UGT,
    IR_SLT,
    IR_SGE,
    IR_SLE,
    IR_SGT
} IrCc;
static inline IrCc ir_cc_not(IrCc cc) {
    return (IrCc)(cc ^ 1);
}
// Conditions on FLAGS; the encoding is AArch64's and also a complete set for other guests.
typedef enum IrCond {
    IR_C_EQ,
    IR_C_NE,
    IR_C_CS,
    IR_C_CC,
    IR_C_MI,
    IR_C_PL,
    IR_C_VS,
    IR_C_VC,
    IR_C_HI,
    IR_C_LS,
    IR_C_GE,
    IR_C_LT,
    IR_C_GT,
    IR_C_LE,
    IR_C_AL,
    IR_C_NV
} IrCond; // AL and NV are always true
// Float predicates: O false, U true when unordered. Negation is ^ 1.
typedef enum IrFcc {
    IR_OEQ,
    IR_UNE,
    IR_OLT,
    IR_UGE_F,
    IR_OLE,
    IR_UGT_F,
    IR_OGT,
    IR_ULE_F,
    IR_OGE,
    IR_ULT_F,
    IR_ORD,
    IR_UNO
} IrFcc;
typedef enum IrRm {
    IR_RM_NEAREST,
    IR_RM_UP,
    IR_RM_DOWN,
    IR_RM_ZERO,
    IR_RM_AWAY,
    IR_RM_ODD,
    IR_RM_MODE
} IrRm;
// IR_RM_AWAY: nearest, ties away from zero. IR_RM_MODE: as the FP mode says.

// FP mode bits (vCPU-wide, set by fp_setmode) and sticky flags.
enum IrFpMode {
    IR_FPM_RM = 3, // IrRm NEAREST..ZERO
    IR_FPM_DN = 4, // any NaN result is the default NaN
    IR_FPM_FZ = 8, // F32/F64: denormal inputs and results become zero
    IR_FPM_FZ16 = 16,
    IR_FPM_AH = 32,   // Arm FEAT_AFP alternate handling
    IR_FPM_FIZ = 64,  // Arm FEAT_AFP flush inputs only
    IR_FPM_AHP = 128, // Arm alternative half precision
    IR_FPM_ODD = 256, // softfp.h only: all is rounded to odd, and overflows to infinity
};
enum IrFpFlag {
    IR_FPF_INVALID = 1,
    IR_FPF_DIVZERO = 2,
    IR_FPF_OVERFLOW = 4,
    IR_FPF_UNDERFLOW = 8,
    IR_FPF_INEXACT = 16,
    IR_FPF_DENORMAL_IN = 128 // a denormal input was flushed
};
// How a guest's floating point differs from its neighbours'.
typedef enum IrFpRules {
    IR_FP_ARM, // first signalling, then first quiet operand (quieted); default NaN positive; NaN to
               // int 0
    IR_FP_RISCV, // always the canonical NaN; NaN to int is the maximum
} IrFpRules;

enum IrMem { // aux2 of load, store, cas, rmw
    IR_SEXT = 1,
    IR_ACQUIRE = 2,
    IR_RELEASE = 4, // both: sequentially consistent among themselves
    IR_ATOMIC = 8,  // single-copy atomic even at 16 bytes
    IR_NONTEMPORAL = 16,
    IR_ALIGNED = 32,  // misaligned addresses fault (IR_TRAP_ALIGN, value 1)
    IR_WITHIN16 = 64, // accesses across a 16-byte boundary do
    IR_HIDDEN = 128,  // the guest makes no access here: nobody is told of it
};
enum { IR_EARLY = 1 }; // aux of count, budget, slot_add
typedef enum IrRmw {
    IR_RMW_ADD,
    IR_RMW_AND,
    IR_RMW_OR,
    IR_RMW_XOR,
    IR_RMW_XCHG,
    IR_RMW_SMIN,
    IR_RMW_SMAX,
    IR_RMW_UMIN,
    IR_RMW_UMAX,
    IR_RMW_ANDN
} IrRmw;
typedef enum IrFence { IR_FENCE_LOAD, IR_FENCE_STORE, IR_FENCE_FULL } IrFence;
// Read into which level of the cache, read once, write.
typedef enum IrPrefetch {
    IR_PREFETCH_L1,
    IR_PREFETCH_L2,
    IR_PREFETCH_L3,
    IR_PREFETCH_ONCE,
    IR_PREFETCH_WRITE,
} IrPrefetch;
typedef enum IrJumpKind { IR_JUMP, IR_JUMP_CALL, IR_JUMP_RET } IrJumpKind;
typedef enum IrTrap {
    IR_TRAP_SYSCALL, // imm: pc of the next instruction; aux2: the immediate of the instruction, low
                     // 8 bits
    IR_TRAP_UNDEFINED, // imm: pc of the undefined instruction (never there, or not for this CPU)
    IR_TRAP_UNIMPLEMENTED, // the same to the guest; --log unimp names both, and says which
    IR_TRAP_BREAKPOINT,    // imm: pc of the breakpoint instruction
    IR_TRAP_FLUSH_CODE,    // imm: next pc; the guest said that it wrote code (address range in the
                           // vCPU)
    IR_TRAP_MODE,          // imm: next pc; the translation mode may have changed
    IR_TRAP_YIELD,         // imm: next pc; the guest spins or waits
    IR_TRAP_FETCH,         // imm: pc whose bytes could not be read
    IR_TRAP_ALIGN,         // imm: pc; a misaligned pc, or (value 1) access: its address is
                           // VcpuHot.trap_addr
} IrTrap;

typedef uint32_t IrRef; // index of the defining instruction; 0 is no value
typedef struct IrInst {
    uint8_t op;  // IrOp
    IrType type; // of the result
    uint8_t aux, aux2;
    IrRef a, b, c; // c of a load or store: see ir_insn_pc
    int64_t imm;
} IrInst;

// A helper. Scalars (I1..I64, F16..F64 as bits) go and come as uint64_t; vectors by pointer.
// fn for scalars: uint64_t fn(void *state, uint64_t a, uint64_t b, ...) with n_args (0..4) values.
// fn for vectors (vec): void fn(void *state, V128 *result, const V128 *a, const V128 *b, const V128
// *c,
//                              uint64_t imm): always this shape, absent operands are NULL, imm is
//                              the last scalar.
typedef struct IrHelper {
    const char *name;
    void (*fn)(void);
    bool vec;                       // shape, see above
    bool reads_state, writes_state; // touches guest registers other than through its arguments
    bool can_fault;                 // touches guest memory
    bool raises_fp; // may raise sticky FP flags (through vcpu_fp_raise, see engine/vcpu.h)
    bool wants_pc, wants_count; // looks at the guest pc in state; at vcpu_insns()
    bool keeps_vectors; // its code has no host vector instructions: theirs need not be saved around
                        // it
    bool foreign;       // not Dragoman's own: may use floating point, as C has it
} IrHelper;
typedef struct IrCall {
    const IrHelper *helper;
    IrRef args[4];
    uint8_t n_args;
    uint64_t imm; // vector helpers only
} IrCall;

// One guest register (field of guest state): one row of the guest's state.def.
typedef struct IrField {
    const char *name;
    uint16_t offset; // bytes into guest state
    IrType type;
    int16_t gdb, dwarf; // register numbers, -1 when there is none
} IrField;

// Which fields deserve a host register most, best first: integers and 128-bit vectors that are used
// in arithmetic; and, of the integers, those that are mostly stored, loaded, copied and written,
// for which a register that cannot compute is as good.
typedef struct IrHotFields {
    const uint16_t *ints, *vecs, *saved;
    uint32_t n_ints, n_vecs, n_saved;
} IrHotFields;

typedef struct IrBlock {
    uint32_t start, end; // instructions [start, end)
    uint64_t pc;         // guest pc of its first instruction
} IrBlock;

// What condition flags were made of, as guest registers say it: the flags of a - b (fl_sub), or of
// a, or of a & b (fl_logic), or of the floats a and b (fl_fcmp; in the low lanes of vectors, or as
// the bits of an integer register). An operand is a constant, or the register `field` (-1: none)
// plus a constant; plus_b: plus b as well. conditional: of that only where `when` (a - b) compares
// by cc, else they are `otherwise`.
typedef struct IrFlagsOperand {
    int16_t field;
    bool plus_b;
    uint64_t value; // of a 32-bit comparison the low half counts
} IrFlagsOperand;
typedef struct IrFlagsCompare {
    uint8_t op, width; // IrOp; 32 or 64
    bool has_b;
    IrFlagsOperand a, b;
} IrFlagsCompare;
typedef struct IrFlagsMade {
    IrFlagsCompare of, when;
    bool conditional;
    uint8_t cc;         // IrCc
    uint16_t flags;     // the field they are in
    uint32_t otherwise; // NZCV in bits 31..28
} IrFlagsMade;

enum { IR_MAX_FIELDS = 128 };
typedef struct IrRegion {
    Arena *arena;
    IrInst *insts;
    uint32_t n_insts, cap_insts; // insts[0] is IR_NOP
    IrBlock *blocks;
    uint32_t n_blocks, cap_blocks;
    V128 *vconsts;
    uint32_t n_vconsts, cap_vconsts;
    IrCall *calls;
    uint32_t n_calls, cap_calls;
    IrRef *counts;
    uint32_t n_counts, cap_counts; // where IR_count and IR_budget were appended
    const IrField *fields;
    uint32_t n_fields;
    uint32_t pc_field;
    uint64_t pc;         // guest pc of the first instruction
    uint32_t size_bytes; // of guest code, when it is one block
    uint32_t n_insns;    // guest instructions
    // So far: ways out to known pcs (exit, exit_if, call_hint), MEM ops, FLAGFP ops.
    uint32_t n_exits, n_mem, n_fp;
    IrFpRules fp_rules;
    bool fp_exact; // the FP mode is not the usual one: hosts evaluate FP ops out of line, exactly
    bool fp_traps; // hosts may find what is rare in FP by exceptions of their FPU (host.h)
    bool mark_all; // every instruction has its mark, for who wants to see it
    bool hot; // made with care (engine/hot.c): flags are not stored at exits, which are all counted
    IrRef entry_flags; // the put of what flags hold at entry (ir_make_flags), 0: they are in state
    IrFlagsMade entry_made; // what that is
    int16_t
        kept[2]; // fields that are no register of the guest's: for operands of comparisons (hot)
    bool failed; // out of memory while building
    // builder state
    uint64_t insn_pc;   // the guest instruction that began last
    uint8_t insn_bytes; // its size while it has no mark; 0 when it has
    IrRef recent_consts[16];
    IrRef current[IR_MAX_FIELDS]; // value a register has here, 0 when only memory knows
} IrRegion;

// ---- building (ir/build.c) ----
// Starts an empty region; keeps the memory of an earlier one on the same arena.
void ir_region_init(IrRegion *r, Arena *arena, const IrField *fields, uint32_t n_fields,
                    uint32_t pc_field);
void ir_region_reset(IrRegion *r, uint64_t pc);
void ir_block_begin(IrRegion *r, uint64_t pc); // forgets what is known of registers
void ir_block_end(IrRegion *r);
// The general form: appends (or folds to an existing value) and returns the value. What is small
// goes in one register: nothing of a call is passed in memory.
typedef uint32_t IrHead; // op | type << 8 | aux << 16 | aux2 << 24: how IrInst begins
static inline IrHead ir_head(IrOp op, IrType t, unsigned aux, unsigned aux2) {
    return op | (IrHead)t << 8 | (aux & 255) << 16 | aux2 << 24;
}
IrRef ir_emit_head(IrRegion *r, IrHead head, IrRef a, IrRef b, IrRef c, int64_t imm);
static inline IrRef ir_emit(IrRegion *r, IrOp op, IrType t, IrRef a, IrRef b, IrRef c, unsigned aux,
                            unsigned aux2, int64_t imm) {
    return ir_emit_head(r, ir_head(op, t, aux, aux2), a, b, c, imm);
}
static inline const IrInst *ir_at(const IrRegion *r, IrRef v) {
    return &r->insts[v];
}
static inline IrType ir_type(const IrRegion *r, IrRef v) {
    return r->insts[v].type;
}
// True and *out set when v is a scalar constant (zero-extended to 64 bits).
static inline bool ir_const_value(const IrRegion *r, IrRef v, uint64_t *out) {
    const IrInst *in = &r->insts[v];
    if (in->op != IR_const || ir_is_vec(in->type)) return false;
    *out = (uint64_t)in->imm;
    return true;
}

// A load or store may say itself of which guest instruction it is, instead of a mark: c is by how
// many bytes that one lies behind the region's start, plus 1; 0: the mark before it says so.
enum { IR_MAX_BEHIND = 0xffff };
static inline bool ir_insn_pc(const IrInst *in, uint64_t region_pc, uint64_t *pc) {
    if ((in->op != IR_load && in->op != IR_store) || !in->c) return false;
    *pc = region_pc + in->c - 1;
    return true;
}

// v + k, of v's type (I8..I64): what ir_add(r, v, ir_const(...)) gives, in fewer steps.
IrRef ir_add_const(IrRegion *r, IrRef v, uint64_t k);

IrRef ir_count(IrRegion *r, uint32_t n); // n instructions; no mark: it never leaves
// As it is, for who rewrites a region.
IrRef ir_append(IrRegion *r, IrInst in);
IrRef ir_const(IrRegion *r, IrType t, uint64_t value);
IrRef ir_vconst(IrRegion *r, IrType t, uint64_t lo, uint64_t hi);
IrRef ir_get(IrRegion *r, unsigned field, IrType t);
void ir_put(IrRegion *r, unsigned field, IrRef v);
// At the start of a region: flags hold what these registers say, and state does not have them.
void ir_make_flags(IrRegion *r, const IrFlagsMade *made);
// Appends the mark of the guest instruction that began last, if it has none.
void ir_mark(IrRegion *r);
// A guest instruction begins; its mark is appended when something in it can fault, call or trap,
// but for loads and stores (ir_insn_pc).
static inline void ir_insn(IrRegion *r, uint64_t pc, unsigned size_bytes) {
    r->insn_pc = pc;
    r->insn_bytes = (uint8_t)size_bytes;
    if (r->mark_all) ir_mark(r);
}
// A load or store; what begins it is put together where it is known.
IrRef ir_access(IrRegion *r, IrHead head, IrRef addr, IrRef v, int64_t disp);
static inline IrRef ir_load(IrRegion *r, IrType t, IrType mem, unsigned mem_flags, IrRef addr,
                            int64_t disp) {
    return ir_access(r, ir_head(IR_load, t, mem, mem_flags), addr, 0, disp);
}
static inline void ir_store(IrRegion *r, IrType mem, unsigned mem_flags, IrRef addr, int64_t disp,
                            IrRef v) {
    ir_access(r, ir_head(IR_store, IR_VOID, mem, mem_flags), addr, v, disp);
}
IrRef ir_cas(IrRegion *r, IrType t, IrType mem, unsigned mem_flags, IrRef addr, IrRef expected,
             IrRef desired);
IrRef ir_rmw(IrRegion *r, IrType t, IrType mem, unsigned mem_flags, IrRmw op, IrRef addr, IrRef v);
IrRef ir_call(IrRegion *r, IrType t, const IrHelper *h, unsigned n_args, const IrRef *args,
              uint64_t imm);
IrRef ir_icmp(IrRegion *r, IrCc cc, IrRef a, IrRef b);
// Condition cc of flags: folds to icmp/fcmp of the operands when their operation is at hand.
IrRef ir_cond(IrRegion *r, IrCond cc, IrRef flags);
IrRef ir_exit_if(IrRegion *r, IrRef cond, uint64_t pc);
void ir_exit(IrRegion *r, uint64_t pc);
void ir_call_hint(IrRegion *r, IrRef back);
void ir_exit_ind(IrRegion *r, IrJumpKind kind, IrRef pc);
void ir_trap(IrRegion *r, IrTrap kind, unsigned value, uint64_t pc);

// Shorthands, typed by their first operand.
#define IR_UN(name)                                                                                \
    static inline IrRef ir_##name(IrRegion *r, IrRef a) {                                          \
        return ir_emit(r, IR_##name, ir_type(r, a), a, 0, 0, 0, 0, 0);                             \
    }
#define IR_BIN(name)                                                                               \
    static inline IrRef ir_##name(IrRegion *r, IrRef a, IrRef b) {                                 \
        return ir_emit(r, IR_##name, ir_type(r, a), a, b, 0, 0, 0, 0);                             \
    }
// clang-format off
IR_BIN(add) IR_BIN(sub) IR_BIN(mul) IR_BIN(umulh) IR_BIN(smulh) IR_BIN(udiv) IR_BIN(sdiv)
IR_BIN(and) IR_BIN(or) IR_BIN(xor) IR_BIN(andn) IR_BIN(shl) IR_BIN(shr) IR_BIN(sar) IR_BIN(ror)
IR_UN(neg) IR_UN(not) IR_UN(clz) IR_UN(ctz) IR_UN(rbit) IR_UN(bswap) IR_UN(fneg) IR_UN(fabs)
// clang-format on
#undef IR_UN
#undef IR_BIN
    // With an explicit type: vectors, floats and conversions.
    static inline IrRef ir_op1(IrRegion *r, IrOp op, IrType t, IrRef a) {
    return ir_emit(r, op, t, a, 0, 0, 0, 0, 0);
}
static inline IrRef ir_op2(IrRegion *r, IrOp op, IrType t, IrRef a, IrRef b) {
    return ir_emit(r, op, t, a, b, 0, 0, 0, 0);
}
static inline IrRef ir_op3(IrRegion *r, IrOp op, IrType t, IrRef a, IrRef b, IrRef c) {
    return ir_emit(r, op, t, a, b, c, 0, 0, 0);
}
static inline IrRef ir_select(IrRegion *r, IrRef p, IrRef a, IrRef b) {
    return ir_emit(r, IR_select, ir_type(r, a), p, a, b, 0, 0, 0);
}

// ---- the rest of the house's use of it ----
// Checks types, dominance, effects order and ranges; false with a message naming the instruction.
bool ir_verify(const IrRegion *r, DgmErr *err); // ir/verify.c
void ir_print(const IrRegion *r, Buf *out);     // ir/print.c
void ir_print_inst(const IrRegion *r, IrRef i, Buf *out);
bool ir_parse(IrRegion *r, const char *text, DgmErr *err); // ir/parse.c, round-trips with print

// ---- meaning (ir/eval.c): the oracle for every host and the fallback for what one lacks ----
typedef struct IrFpEnv {
    uint32_t mode;  // IrFpMode bits
    uint32_t flags; // IrFpFlag bits, sticky
    IrFpRules rules;
} IrFpEnv;
// Evaluates one PURE or FLAGFP instruction. Scalars sit zero-extended in d[0] (d[1] is 0; I1 is 0
// or 1; FLAGS as IR_FLAG_* below). args has the operands in order; unused ones are ignored.
void ir_eval(const IrInst *in, IrType a_type, const V128 args[3], const V128 *vconst, IrFpEnv *env,
             V128 *out);

// FLAGS in guest state and registers, chosen to be what x86's lahf and seto leave in ax after the
// commonest maker of flags, a comparison: C is there as its opposite, the borrow. Other bits may
// hold anything.
enum { IR_FLAG_V = 1 << 0, IR_FLAG_NOT_C = 1 << 8, IR_FLAG_Z = 1 << 14, IR_FLAG_N = 1 << 15 };
static inline uint32_t ir_flags_to_nzcv(uint32_t f) { // to bits 31..28
    return (f & IR_FLAG_N) << 16 | (f & IR_FLAG_Z) << 16 | (~f & IR_FLAG_NOT_C) << 21 |
           (f & IR_FLAG_V) << 28;
}
static inline uint32_t ir_flags_from_nzcv(uint32_t p) {
    return (p >> 31 & 1) << 15 | (p >> 30 & 1) << 14 | (~p >> 29 & 1) << 8 | (p >> 28 & 1);
}

#endif
