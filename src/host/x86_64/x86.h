// x86.h - inside the x86-64 host: what its files share while one region is compiled.
//
// Two passes. analyse.c walks the region backwards: drops dead code, finds every value's last use,
// decides what is fused (addresses, comparisons) and in which home a value would best be made. Then
// host.c walks forwards, and for each instruction a selection function (sel_*.c) asks alloc.c for
// registers and emits code, in one go. What may run once only comes without IR, and is written as
// it is said (direct.c): the same conventions, neither pass.
//
// Registers. rbp: guest state + STATE_BIAS. rsp: the return prediction stack (sel_ctl.c), a
// multiple of 16 at block boundaries; calls of C switch to C's own. rax rcx rdx r11: temporaries.
// The other ten: homes of the guest's ten hottest integer registers. xmm0..5: temporaries, the rest
// (10, or with AVX-512VL most of 26) homes of vector registers. With AVX-512VL the last few are
// lodgings: an integer register that is mostly saved and restored is in its low half (above it is
// anything), for that is one instruction each way, and a move where it is computed with. To alloc.c
// a lodging is what the field's place in guest state is to others.
//
// Invariant: at every guest instruction boundary and at every op that can fault, each home and
// lodging holds its guest register and guest state holds all others. So faults and exits need no
// bookkeeping, but for condition flags that the block makes anew (sunk_flags.c).
//
// Thread-safety: an X86 lives on the stack of one compile; a HostCtx never changes after create.
#ifndef DGM_HOST_X86_64_X86_H
#define DGM_HOST_X86_64_X86_H

#include "base/self.h"
#include "engine/vcpu.h"
#include "host/host.h"
#include "host/x86_64/emit_vec.h"

enum { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15 };
typedef struct Mem {    // [base + index << scale + disp]
    int8_t base, index; // -1: none
    uint8_t scale;
    int32_t disp;
} Mem;

enum { // condition codes
    CC_O,
    CC_NO,
    CC_B,
    CC_AE,
    CC_E,
    CC_NE,
    CC_BE,
    CC_A,
    CC_S,
    CC_NS,
    CC_P,
    CC_NP,
    CC_L,
    CC_GE,
    CC_LE,
    CC_G
};
// So that a displacement of 8 bits reaches from the last word of the page that is polled to x30.
enum { STATE_BIAS = 124, MAX_BLOCK_CODE = 96 * 1024 };
enum {                // hot.scratch, in V128 units
    SCRATCH_ARGS = 0, // operands of the evaluator and of vector helpers
    SCRATCH_RESULT = 3,
    SCRATCH_SAVE = 4,   // xmm0..31 around the evaluator
    SCRATCH_SPILL = 36, // vector spills
    N_VEC_SPILLS = 28,
    N_INT_SPILLS = 40, // hot.spill; the evaluator's integer save area is above
};

typedef struct X86Cpu {
    bool sse3, ssse3, sse41, sse42, popcnt, lzcnt, bmi1, bmi2, avx, avx2, fma, f16c, aes, pclmul,
        gfni, cx16;
    bool avx512; // F, VL, BW and DQ
    bool avx512_fp16, avx512_bitalg, avx512_vpopcntdq, avx512_vnni, avx512_vbmi;
    bool fp_traps, direct; // no features, but may be switched off like these
} X86Cpu;

typedef enum ValFlag {
    VAL_FUSED_ADDR = 1, // a memory op computes its address from the operands of an add
    VAL_FUSED_COND = 2, // an exit_if or select makes the comparison itself
    VAL_LOW_BITS = 4,   // its high bits may be anything
    VAL_ABSORBED = 8,   // an fcmp that its users make themselves
    VAL_NEG_A = 16,     // an fma negates its operand a itself: what fneg was given is meant
    VAL_NEG_C = 32,     // the same of c
    VAL_WEAK_HINT = 64, // a put of the value itself knows better
} ValFlag;

typedef struct Val {
    IrRef root;        // the value whose register it shares; itself as a rule
    uint32_t last_use; // index of the last instruction that needs it, 0: none
    int8_t hint;       // field whose home (of a load: or lodging) it should be made in, -1
    int8_t mem_field;  // guest state field (in memory or a lodging) that holds it now, -1
    int8_t reg;        // host register, -1: none
    int8_t spill;      // spill slot, -1: none
    uint8_t flags;
} Val;
_Static_assert(IR_MAX_FIELDS <= 128, "Val names fields in seven bits");

enum FieldKind { FIELD_VEC = 1, FIELD_FLAGS = 2 }; // in xmm registers; condition flags
enum { SMALL_REGION = 512 }; // instructions; larger ones take memory from the heap

// A register of the guest's to a register of ours, or back: the code, and which register has it.
typedef struct X86Move {
    uint8_t code[8];
    uint8_t bytes, reg;
} X86Move;
typedef struct X86Moves {
    X86Move fetch[3], put[16]; // to rax, rcx, rdx, if it has no home; from any
} X86Moves;

struct HostCtx {
    X86Cpu cpu;
    VecLevel level;
    unsigned patch_word; // bytes that one store writes at once, also for who runs them
    const IrField *fields;
    uint32_t n_fields, pc_field, state_bytes;
    unsigned needs; // and what deserves homes, as create() got them
    IrHotFields hot;
    int8_t home_of_field[IR_MAX_FIELDS];    // register number (integer or xmm by the field's type),
                                            // -1: in memory
    int8_t lodging_of_field[IR_MAX_FIELDS]; // of an integer register without a home that lives in a
                                            // vector register, not in memory: which; else -1
    uint8_t field_kind[IR_MAX_FIELDS];      // FieldKind bits
    uint8_t n_int_fields, int_fields[IR_MAX_FIELDS]; // those that are not FIELD_VEC
    int16_t field_of_int[16], field_of_vec[32];
    uint32_t int_homes, int_temps, vec_homes, vec_temps, lodgings; // register sets
    int count_reg;                        // holds hot.budget; -1: nobody counts
    uint32_t count_down;                  // lea count_reg, [count_reg - 0], a byte each
    bool masks;                           // translated code has those of VecMask
    struct ConstPool *pool;               // host.c
    const uint8_t *code_base, *stubs_end; // pool and stubs; blocks lie behind
    SelfImage self;
    X86Moves moves[IR_MAX_FIELDS]; // direct.c
    Val fresh[SMALL_REGION];       // what values are before anything is known
    // generated once: see stubs.c
    const uint8_t *enter, *leave, *link_out, *link_of_all_out, *interrupt_out, *lookup_out,
        *budget_out, *fault_out, *helper_fault_out, *vectors_fault_out, *return_miss, *return_empty;
    const uint8_t
        *call_eval; // saves everything, evaluates the EvalDesc at rax, restores everything
    const uint8_t *save_vecs, *load_vecs, *save_ints,
        *load_ints; // to and from state: all vector registers, caller-saved homes of integers
    const uint8_t *save_all_ints, *load_all_ints;   // lodgings too
    const uint8_t *save_vec_homes, *load_vec_homes; // but no lodgings
    const uint8_t
        *call_if; // saves everything, calls the function that IfDesc at rax says, restores
};

typedef struct X86 X86;

typedef struct Bank { // integers or vectors: the same rules
    IrRef *val;
    uint32_t *locked;
    uint32_t temps, homes;
    uint64_t *spills;
    IrRef *spilled; // by slot
    unsigned n_spills;
    bool vec;
} Bank;

typedef struct Cold {
    uint8_t *from; // the jump's rel32 that leads here, or NULL: a trap does
    uint8_t *back; // where the cold code returns to
    uint32_t trap; // offset of the code from which it does
    IrRef owed_at; // of an exit: counts that it pays back are those owed here; 0: none
    void (*emit)(X86 *, const struct Cold *);
    IrRef v;
    uint8_t args[3], result; // registers: of operands and of the result (see x86_cold_eval)
    uint8_t negate;          // bit i: the operand's sign is still to be changed
    int64_t imm;
} Cold;

// A put of condition flags that is left out (sunk_flags.c).
typedef struct SunkFlags {
    IrRef put;
    uint64_t changed[2]; // fields written between it and the last place that may ask for it
    IrFlagsMade made;
    IrRef held[4]; // of a hot region: what the fields of its operands hold (of.a, of.b, when.a,
                   // when.b)
    bool located;  // made is known
    bool lost;     // registers do not say it any more, nobody is to ask
} SunkFlags;

enum { // MXCSR: sticky flags; their masks are 7 bits higher
    MXCSR_INVALID = 1,
    MXCSR_DENORMAL = 2,
    MXCSR_UNDERFLOW = 16,
    MXCSR_STICKY = 0x3f,
    MXCSR_MASKS = 0x1f80
};

// Who selects code, in few kinds: one jump an instruction, not a tree of comparisons of ops. The
// kind is noted beside the instruction in X86.live, so that the jump does not wait for loads.
typedef enum Selects {
    SEL_BY_EFFECT,
    SEL_NOP,
    SEL_GET,
    SEL_PUT,
    SEL_LOAD,
    SEL_STORE,
    SEL_ATOMIC,
    SEL_ADD,
    SEL_INTEGER,
    SEL_EXIT_IF,
    SEL_EXIT,
    SEL_COUNT,
    SEL_LEAVE,
    SEL_SLOT_AT
} Selects;
enum { LIVE_KIND_SHIFT = 24, LIVE_REF = (1 << LIVE_KIND_SHIFT) - 1 };

// A short stub of a link begins with this (mov cl, imm8) and the link's place among the block's, in
// units.
enum { X86_SHORT_STUB = 0xB1, X86_LINK_UNIT = 8 };
_Static_assert(!(sizeof(HostLink) % X86_LINK_UNIT) && !(sizeof(HostFrozenLink) % X86_LINK_UNIT),
               "stubs count links by these");
static inline uint8_t *x86_patch(const HostCtx *h, const HostLink *l) {
    return (uint8_t *)(uintptr_t)h->code_base + l->patch;
}
static inline void x86_set_patch(const HostCtx *h, HostLink *l, const uint8_t *at) {
    l->patch = (uint32_t)(at - h->code_base);
}

// HostOutput.relocs: offset from code_base, and this bit where 8 bytes are an address.
#define X86_RELOC_ADDRESS 0x80000000u
enum { MAX_COLD = 512, MAX_SUNK = 16, MAX_SUNK_FORMS = 64 };
struct X86 {
    // of the block
    HostCtx *h;
    HostOutput *out;
    DgmErr *err;
    uint8_t *at, *start, *limit;   // code; limit leaves room for the largest single instruction
    uint32_t *relocs, *relocs_end; // where the next goes; equal: nobody asked, or there is no room
    uint32_t n_stubs;              // of links, to come
    uint32_t n_fixed;              // of the fixes, those that are made
    bool overflow, too_many_relocs;
    // of the region: as a rule the block is one
    const IrRegion *r;
    int8_t n_sunk, next_sunk, n_forms,
        active; // active: of sunk, what the flags are now; -1: they are stored
    uint32_t n_cold;
    uint32_t n_early;     // counts to come that were added before (early_counts.c)
    IrRef owed_at;        // the last that was compiled, 0: none
    bool may_loop;        // jumps backwards or indirectly; returns check on their own
    uint64_t call_return; // a frame was pushed: the exit is a call that returns to this guest pc
    const V128 *vconsts;  // copy of the region's constants, near the code
    Val *val;
    uint32_t *live; // n_live to compile, last first: IrRef | Selects << LIVE_KIND_SHIFT
    uint32_t n_live;
    IrRef now;                      // instruction being compiled
    IrRef int_val[16], vec_val[32]; // roots that registers hold; 0: nothing known
    uint32_t int_until[5];          // last use of what integer temporaries hold (alloc.c: int_slot)
    uint32_t int_locked, vec_locked;
    uint64_t int_spills, vec_spills; // used slots
    Bank bank[2];                    // of integers, of vectors: alloc.c's view of all these
    // What EFLAGS describe. FLAGS_CMP: cmp flags_a, flags_b; FLAGS_RESULT: ZF and SF of
    // flags_result; FLAGS_LOGIC with that: OF and CF are 0.
    uint8_t flags_known, flags_bits;
    IrRef flags_a, flags_b, flags_result;
    IrRef mem_val[IR_MAX_FIELDS]; // root that a memory-homed field holds; from here on see
                                  // x86_region()
    IrRef int_spilled[N_INT_SPILLS], vec_spilled[N_VEC_SPILLS]; // whose the slots are
    SunkFlags sunk[MAX_SUNK_FORMS]; // last first; then what becomes of them as registers change
    Cold cold[MAX_COLD];
    Val small_val[SMALL_REGION]; // what val and live point at, as a rule
    uint32_t small_live[SMALL_REGION];
};

// The 4 bytes at `at` (a distance to somewhere else than the same piece of code) or the 8 there (an
// address; absolute) change when the code moves.
static inline void moves(X86 *x, const uint8_t *at, uint32_t absolute) {
    if (x->relocs < x->relocs_end)
        *x->relocs++ = (uint32_t)(at - x->h->code_base) | absolute;
    else
        x->too_many_relocs = true;
}
// As vec_encode() left an operand relative to rip.
static inline void moves_rip(X86 *x, Vop op, VecRm rm) {
    if (rm.mem && rm.base == VRM_RIP) moves(x, x->at - 4 - vec_has_imm(op), 0);
}

// A call that is seldom made; lies behind the block's code.
typedef struct IfDesc {
    uint64_t fn, args[3], pc;
} IfDesc;

// What the evaluator is asked; lies behind the block's code.
typedef struct EvalDesc {
    IrInst in;
    IrType types[3]; // of the operands
    uint32_t negate; // bit i: the operand's sign is still to be changed
} EvalDesc;

// ---- analyse.c ----
void x86_analyse(X86 *x);
// Folds that both passes must see alike.
bool x86_shares_register(const X86 *x,
                         const IrInst *in);      // no code: the result is its operand's register
bool x86_test_fuses(const IrRegion *r, IrRef v); // an `and` whose flags can be had without it
bool x86_compares(const IrRegion *r, const IrInst *icmp); // by one cmp; else the evaluator does it
bool upper_zero(const X86 *x, IrRef v); // sel_fp.c: an xmm scalar with zeros above it
IrRef x86_operand(const X86 *x, IrRef v, unsigned i, bool *negate); // of v, where it is fused
bool x86_zero_upper(const IrRegion *r,
                    IrRef v); // the register of this I32 (or smaller) value has zeros above

// Guest pc of the instruction being compiled.
uint64_t x86_guest_pc(const X86 *x); // host.c

// ---- direct_ctl.c: Host.direct ----
HostError x86_direct_block(HostCtx *h, const IrRegion *r, HostCode *room, HostOutput *out,
                           void (*say)(void *ctx, Direct *d), void *ctx, DgmErr *err);

// ---- alloc.c ----
void x86_alloc_begin(X86 *x);
static inline IrRef x86_root(const X86 *x, IrRef v) {
    return x->val[v].root;
}
// This type's values are in xmm registers.
static inline bool x86_in_vec(IrType t) {
    enum { FLOATS = 1 << IR_F16 | 1 << IR_F32 | 1 << IR_F64 };
    return t >> 4 || FLOATS >> (t & 15) & 1;
}
unsigned x86_fetch(X86 *x, IrRef root, bool vec); // that is in no register: to one, which is locked
// A register that holds v, locked until the end of the instruction.
static inline unsigned x86_use(X86 *x, IrRef v, bool vec) {
    v = x86_root(x, v);
    int reg = x->val[v].reg;
    if (UNLIKELY(reg < 0)) return x86_fetch(x, v, vec);
    *(vec ? &x->vec_locked : &x->int_locked) |= 1u << reg;
    return (unsigned)reg;
}
static inline unsigned x86_use_int(X86 *x, IrRef v) {
    return x86_use(x, v, false);
}
static inline unsigned x86_use_vec(X86 *x, IrRef v) {
    return x86_use(x, v, true);
}
// The register to make v in: the home it is meant for when that is free to take, else a temporary.
// It may be an operand's register only when that operand dies here; `x86_def_*_fresh` never is.
unsigned x86_def_int(X86 *x, IrRef v);
unsigned x86_def_vec(X86 *x, IrRef v);
unsigned x86_def_int_fresh(X86 *x, IrRef v);
unsigned x86_def_vec_fresh(X86 *x, IrRef v);
int x86_home_free(X86 *x, IrRef v); // the home that x86_def_vec(x, v) would take, or -1
// A register for v that already holds a copy of operand src (two-operand instructions), never that
// of another locked operand.
unsigned x86_def_int_over(X86 *x, IrRef v, IrRef src);
unsigned x86_def_vec_over(X86 *x, IrRef v, IrRef src);
// v is in this (locked) temporary now, e.g. after rdx:rax of a multiplication.
void x86_def_int_at(X86 *x, IrRef v, unsigned reg);
// A scratch register for this instruction.
unsigned x86_tmp_int(X86 *x);
unsigned x86_tmp_vec(X86 *x);
// This very temporary, its value moved out of the way.
void x86_take_int(X86 *x, unsigned reg);
// v shares src's register: no code.
void x86_alias(X86 *x, IrRef v, IrRef src);
// Where v lies in memory, when it is not in a register (memory-homed or spilled): [rbp + *disp].
bool x86_in_memory(X86 *x, IrRef v, int32_t *disp);
static inline bool x86_dies(const X86 *x, IrRef v) {
    return x->val[x86_root(x, v)].last_use <= x->now;
}
// The vector register that v lodges in, when it is in no integer register; else -1.
int x86_lodged(const X86 *x, IrRef v);
// The caller writes v to field f, which has no home: to its lodging or to guest state.
void x86_def_field(X86 *x, unsigned f, IrRef v);
void x86_get(X86 *x, IrRef v);
void x86_put(X86 *x, unsigned field, IrRef v);
void x86_put_low(X86 *x, unsigned field, IrRef v); // a float, to an integer field in memory
// Before a call: temporaries (and, when all, homes) are emptied of live values.
void x86_spill_temps(X86 *x);
void x86_forget_homes(X86 *x); // a helper changed guest state
int32_t x86_field_disp(const X86 *x, unsigned field);
#define HOT_DISP(member)                                                                           \
    ((int32_t)offsetof(VcpuHot, member) - (int32_t)sizeof(VcpuHot) - STATE_BIAS)
#define POLL_DISP (-4 - STATE_BIAS)
static inline int32_t x86_scratch_disp(unsigned i) {
    return HOT_DISP(scratch) + 16 * (int32_t)i;
}

// ---- host.c ----
// A block is begun, made of regions or of what direct.c writes, and ended; HOST_NO_ROOM and
// HOST_UNSUPPORTED as Host.compile has them. x86_region emits what a region is often run for, and
// x86_region_cold the rest; false: out of memory.
enum { X86_SLACK = 8192, X86_BYTES_PER_INST = 192 };
void x86_begin(X86 *x, HostCtx *h, const HostCode *room, HostOutput *out, DgmErr *err);
typedef enum X86Extent { X86_WHOLE, X86_PART } X86Extent; // of the block
bool x86_region(X86 *x, const IrRegion *r, X86Extent extent);
void x86_region_cold(X86 *x, const uint8_t *cold);
HostError x86_end(X86 *x, HostCode *room, uint8_t *hot_end);
// The region cannot be compiled; says why and where. Emission goes on but is thrown away.
void x86_fail(X86 *x, const char *why);
uint32_t x86_mxcsr_masks(const HostCtx *h, bool traps);
// Branches on cc to cold code that evaluates instruction v with ir_eval from its operands'
// registers (still intact there) into xmm or integer register `result`, keeps every other register,
// and comes back behind the branch.
void x86_cold_eval(X86 *x, IrRef v, unsigned cc, unsigned result);
// The general form: emit(x, cold) runs when the block's code is complete.
Cold *x86_cold(X86 *x, unsigned cc, void (*emit)(X86 *, const Cold *));
Cold *x86_cold_at(X86 *x, uint8_t *rel32,
                  void (*emit)(X86 *, const Cold *)); // for a jump already there
// For an FP exception of an instruction from here on, up to the next such place. EFLAGS are kept.
Cold *x86_cold_trap(X86 *x, void (*emit)(X86 *, const Cold *));
// Masks the exceptions that trap; then unmasks them and raises invalid for who raised it, EFLAGS
// kept.
void x86_fp_masked(X86 *x, bool masked);
Cold *x86_cold_trap_eval(X86 *x, IrRef v); // which evaluates v from its operands' registers here
void x86_cold_back(X86 *x, const Cold *c);
void x86_link_stubs(X86 *x);   // sel_ctl.c: when all other code is there
void x86_return_stubs(X86 *x); // sel_ctl.c: once a machine
// VcpuHot.in_helper: vectors are still in their homes there.
enum { HELPER_KEEPS_VECTORS = 2 };
enum { X86_SENTINELS = 8, X86_SENTINEL_PC = 1 };        // frames above the return stack's top
void x86_store_operand(X86 *x, unsigned slot, IrRef v); // sel_ctl.c: to hot.scratch
void x86_load_result(X86 *x, IrRef v);                  // sel_ctl.c: from hot.scratch
void x86_cas16(X86 *x, IrRef v);                        // sel_ctl.c
Mem x86_slot_mem(uint32_t slot);                        // sel_ctl.c: of the slot that it names
// Compiles v by calling the evaluator, in line.
void x86_fallback(X86 *x, IrRef v);
// A 128-bit constant near the code (for rip-relative operands).
const V128 *x86_const128(X86 *x, uint64_t lo, uint64_t hi);
// The pool of these: the constant at this address, or NULL; the address of one like it, or NULL
// when the pool is full.
enum { X86_POOL_ENTRIES = 8192 };
const V128 *x86_pool(const HostCtx *h);
const V128 *x86_pool_at(const HostCtx *h, const void *address);
const V128 *x86_pool_get(HostCtx *h, uint64_t lo, uint64_t hi);
void x86_direct_make_moves(HostCtx *h); // direct.c: homes have changed
void x86_record_fault(X86 *x);          // the access that is emitted next can fault
HostLink *x86_new_link(X86 *x, uint64_t target_pc);
// sel_ctl.c. A jump to the guest's target_pc that a link patches, on cc (-1: always; nothing
// follows it); the same by a call, which returns to x->call_return; and to the guest pc in a
// register, t being free.
void x86_jump_to_link(X86 *x, int cc, uint64_t target_pc);
void x86_call_link(X86 *x, uint64_t target_pc);
void x86_exit_indirect(X86 *x, IrJumpKind kind, unsigned pc, unsigned t);
// The dispatcher is told of the link; a jump in cold code that the link patches, to what follows
// until then.
void x86_leave_by(X86 *x, const HostLink *l);
void x86_jump_here(X86 *x, HostLink *l);
void x86_emit_counted(X86 *x, HostLink *l); // sel_ctl.c: to where it leads while it is counted

// ---- sunk_flags.c ----
static inline void x86_flags_asked(X86 *x) { // whoever comes may ask for them
    if (x->active >= 0 && x->sunk[x->active].lost) x86_fail(x, "flags are lost");
}
// At a put of flags: true when nothing is to be stored.
bool x86_put_flags(X86 *x, IrRef put);
void x86_make_flags_of(X86 *x, int active);              // -1: they are stored
void x86_make_flags(X86 *x);                             // the block is left: they are stored
void x86_flags_follow(X86 *x, unsigned field, IrRef v);  // v is about to be put into the field
void x86_sunk_exit(X86 *x, uint8_t *rel32, HostLink *l); // where a jump that leaves goes first
void x86_emit_fault_fixes(X86 *x);
unsigned x86_cc_of(IrCc cc);                                 // sel_int.c
void x86_flags_as_value(X86 *x);                             // sel_int.c: EFLAGS to rax
void x86_align_patch(X86 *x, unsigned skip, unsigned bytes); // sel_ctl.c

// ---- relocate.c: Host.freeze, attach, bar and identity ----
bool x86_freeze(HostCtx *h, const HostCompiled *blocks, uint32_t n, HostPlace *at, Buf *out);
bool x86_attach(HostCtx *h, uint8_t *image, uint64_t bytes);
void x86_bar(HostCtx *h, uint8_t *entry);
extern const uint8_t x86_nop5[5]; // in place of a jump to what follows
uint64_t x86_identity(const HostCtx *h);

// ---- selection: false when this host has no code for it (the evaluator then does it) ----
bool x86_sel_add(X86 *x, IrRef v, const IrInst *in);  // of integers
bool x86_sel_int(X86 *x, IrRef v);                    // sel_int.c
void x86_sel_load(X86 *x, IrRef v, const IrInst *in); // sel_mem.c
void x86_sel_store(X86 *x, IrRef v, const IrInst *in);
void x86_sel_atomic(X86 *x, IrRef v, const IrInst *in); // and fences
void x86_sel_prefetch(X86 *x, IrRef v, const IrInst *in);
void x86_exit_if(X86 *x, IrRef v, const IrInst *in); // sel_ctl.c
void x86_exit(X86 *x, const IrInst *in);
void x86_sel_ctl(X86 *x, IrRef v); // sel_ctl.c: exits, traps, calls
bool x86_sel_vec(X86 *x, IrRef v); // sel_vec*.c: vector-typed results and operands
bool x86_sel_fp(X86 *x, IrRef v);  // sel_fp.c: FLAGFP and float-typed ops
// Makes EFLAGS for I1 value v (comparison, fcmp, or a 0/1 register) and returns the condition code
// under which v is true. For fcmp, sel_fp.c's x86_fcmp_flags does it. user: the exit_if or select
// that asks.
unsigned x86_condition(X86 *x, IrRef user, IrRef v);
// The same for flags that register f has as state has them (GE, LT, GT and LE take t).
unsigned x86_test_flags(X86 *x, IrCond cond, unsigned f, unsigned t);
// EFLAGS for fcmp v such that one condition code says it, unless_parity: but of unordered operands,
// which are not equal; false when that cannot be (then x86_sel_fp(v) gives 0/1).
bool x86_fcmp_flags(X86 *x, IrRef v, unsigned *cc, bool *unless_parity);
// What fl_fcmp makes of these registers goes to rax; nothing is raised.
void x86_compare_floats(X86 *x, bool is64, unsigned a, unsigned b);
enum { FLAGS_CMP = 1, FLAGS_RESULT = 2, FLAGS_LOGIC = 4 };
static inline void x86_flags_lost(X86 *x) {
    x->flags_known = 0;
}

// Guest addresses of memory ops, ready for encoding: [base + index << scale + disp].
Mem x86_address(X86 *x, IrRef v); // of load/store/cas/rmw v; registers locked

// ---- early_counts.c ----
void x86_early_begin(X86 *x); // before the backward pass
uint64_t x86_early_sum(X86 *x, const IrInst *in, uint64_t n);
void x86_pay_back(X86 *x, IrRef at);
void x86_exit_pays(X86 *x, const Cold *c, HostLink *l);
static inline IrRef x86_owed_at(const X86 *x) { // where anything is owed now, or 0
    return x->n_early ? x->owed_at : 0;
}
// The fix of a fault here, until its code is made: which flags, and which counts are owed.
enum { FIX_FLAGS_BITS = 7 };
static inline HostFix x86_fault_fix(const X86 *x) {
    return (x->active + 1) | (int32_t)(x86_owed_at(x) << FIX_FLAGS_BITS);
}
// An exit that always leaves has paid.
static inline IrRef x86_exit_owes(const X86 *x, const HostLink *l) {
    return l->falls_through ? 0 : x86_owed_at(x);
}

#endif
