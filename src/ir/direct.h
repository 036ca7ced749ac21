// direct.h - the short way from guest instructions to host code, for code that may run once only.
//
// The commonest instructions of a guest do one of few things with whole registers: add, move,
// load, compare and branch. A guest says these one after the other by calling a DirectOps, and a
// host writes the code at each call: there is no IR, no value lives longer than its instruction,
// and nothing is looked at twice. What is not among them goes as a region of IR, in its turn
// (`region`). Hot code and code that is watched is always lifted as a whole (Guest.lift), so each
// of the guest's instructions that is said here is said there too, and tests compare the two.
//
// Exactness: each call is one guest instruction, or the part of one that changes registers, at
// Direct.pc. Accesses that may fault come before what they change.
//
// Ownership: a Direct is the host's, for as long as Host.direct runs. Thread-safety: one, one
// thread.
#ifndef DGM_DIRECT_H
#define DGM_DIRECT_H

#include "ir/ir.h"

// A guest register: its field, or one that reads as zero and is not written.
typedef uint8_t DirectReg;
enum { DIRECT_ZERO = IR_MAX_FIELDS - 1 };

typedef enum DirectOp { DIRECT_ADD, DIRECT_SUB, DIRECT_AND, DIRECT_OR, DIRECT_XOR } DirectOp;
typedef enum DirectShift { DIRECT_SHL, DIRECT_SHR, DIRECT_SAR, DIRECT_ROR } DirectShift;

// d = n op m. Of m: its low bits only, extended; then shifted; then inverted.
typedef struct DirectAlu {
    uint8_t op;            // DirectOp
    bool wide;             // 64 bits; else 32, zeros above them
    bool flags;            // condition flags are set, as the IR's fl_add, fl_sub and fl_logic do
    bool invert;           // ands, ors, xors
    uint8_t shift, amount; // DirectShift, below the width
    uint8_t narrow;        // 8, 16, 32: so many low bits; 0: all
    bool sign;             // they are extended with their sign
} DirectAlu;

// d = cond ? n : m; or m's bits inverted, then 1 added.
typedef struct DirectSelect {
    uint8_t cond; // IrCond, not AL
    bool wide, invert, plus_one;
} DirectSelect;

// The flags of n - m (or n + m), if cond; else nzcv, in bits 3..0.
typedef struct DirectCompareIf {
    uint8_t cond; // IrCond, not AL
    bool wide, add;
    uint8_t nzcv;
} DirectCompareIf;

// d = a + n * m, or a - n * m.
typedef struct DirectMul {
    bool wide, subtract;
    uint8_t narrow; // 32: of n and m, extended to 64; else 0
    bool sign;
} DirectMul;

// Log2 of the bytes: 0..3, of vectors 2..4. What a load leaves above them is zeros, but for the
// value's sign in 64 bits or in 32.
typedef uint8_t DirectAccess;
enum { DIRECT_LOG2 = 7, DIRECT_SIGN_64 = 8, DIRECT_SIGN_32 = 16, DIRECT_VECTOR = 32 };

typedef struct DirectAddr { // base + (index << scale) + disp
    DirectReg base, index;  // index: DIRECT_ZERO when there is none
    uint8_t narrow;         // 32: of index, extended; else 0
    bool sign;
    uint8_t scale; // 0..3
    bool writeback;
    int32_t disp;
    int32_t step; // writeback: the base becomes base + step behind all accesses
} DirectAddr;

typedef struct Direct Direct;
typedef struct DirectOps {
    // First of all, if the block may lead back to itself: who interrupts is heard here.
    void (*poll)(Direct *);
    // Instructions counted from here on, and how many they were (..128).
    uint8_t *(*count)(Direct *);
    void (*counted)(Direct *, uint8_t *count, unsigned n);

    void (*set)(Direct *, DirectReg d, uint64_t v);
    // 16 bits at bit `at` become v.
    void (*set16)(Direct *, DirectReg d, bool wide, unsigned at, uint16_t v);
    void (*add)(Direct *, DirectReg d, DirectReg n, bool wide, int32_t k); // no flags
    void (*alu)(Direct *, const DirectAlu *how, DirectReg d, DirectReg n, DirectReg m);
    void (*alu_imm)(Direct *, const DirectAlu *how, DirectReg d, DirectReg n, uint64_t k);
    // n << up, then >> down, logical or (sign) arithmetic: both below the width.
    void (*field)(Direct *, DirectReg d, DirectReg n, bool wide, bool sign, unsigned up,
                  unsigned down);
    // By m modulo the width.
    void (*shift)(Direct *, DirectShift kind, bool wide, DirectReg d, DirectReg n, DirectReg m);
    void (*mul)(Direct *, const DirectMul *how, DirectReg d, DirectReg n, DirectReg m, DirectReg a);
    void (*select)(Direct *, const DirectSelect *how, DirectReg d, DirectReg n, DirectReg m);
    void (*compare_if)(Direct *, const DirectCompareIf *how, DirectReg n, DirectReg m);
    void (*compare_imm_if)(Direct *, const DirectCompareIf *how, DirectReg n, unsigned m);

    // At base + disp, which most are; by an address of any kind.
    void (*load)(Direct *, DirectAccess how, DirectReg t, DirectReg base, int32_t disp);
    void (*store)(Direct *, DirectAccess how, DirectReg t, DirectReg base, int32_t disp);
    void (*load_by)(Direct *, DirectAccess how, DirectReg t, const DirectAddr *at);
    void (*store_by)(Direct *, DirectAccess how, DirectReg t, const DirectAddr *at);
    // Of t at the address and u right behind it. Both loads come before either register changes.
    void (*load_pair)(Direct *, DirectAccess how, DirectReg t, DirectReg u, const DirectAddr *at);
    void (*store_pair)(Direct *, DirectAccess how, DirectReg t, DirectReg u, const DirectAddr *at);

    // Side exits: what follows is where they are not taken.
    void (*exit_if)(Direct *, IrCond cond, uint64_t pc); // not AL
    void (*exit_if_zero)(Direct *, DirectReg n, bool wide, bool not_zero, uint64_t pc);
    void (*exit_if_bit)(Direct *, DirectReg n, unsigned bit, bool is_set, uint64_t pc);
    // The block's end.
    void (*exit)(Direct *, uint64_t pc);
    void (*exit_ind)(Direct *, IrJumpKind kind, DirectReg n);               // no call
    void (*call)(Direct *, DirectReg link, uint64_t back, uint64_t pc);     // link = back
    void (*call_ind)(Direct *, DirectReg link, uint64_t back, DirectReg n); // n as it was before

    // A region of the block's pc: instructions that belong here. It may end the block, or not end
    // at all.
    void (*region)(Direct *, const IrRegion *r);
} DirectOps;

struct Direct { // how a host's own begins
    const DirectOps *ops;
    uint64_t pc;     // the guest's to set: of the instruction that is said
    DirectReg flags; // the guest's to set: the field of condition flags
};

#endif
