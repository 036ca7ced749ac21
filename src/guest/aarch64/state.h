// state.h - AArch64 guest state and its field ids, from state.def.
//
// nzcv has the IR's layout (IR_FLAG_*), not PSTATE's; sticky FP flags are the IR's (VcpuHot.fp),
// only FPSR.QC is here. cpsr and fpsr as gdb and Linux see them are put together by a64_get_cpsr()
// and a64_get_fpsr() (state.c).
#ifndef DGM_A64_STATE_H
#define DGM_A64_STATE_H

#include "guest/guest.h"

typedef enum A64KeyId {
    A64_KEY_IA,
    A64_KEY_IB,
    A64_KEY_DA,
    A64_KEY_DB,
    A64_KEY_GA,
    A64_KEY_COUNT
} A64KeyId;

typedef struct A64State {
    uint32_t nzcv, fpcr; // these and x are in the host's reach (STATE_BIAS)
    uint64_t x[31];
    uint64_t sp, pc;
    uint64_t tpidr;
    uint64_t kept[2]; // IrRegion.kept
    V128 v[32];
    V128 qc;
    uint64_t tpidrro, tpidr2;
    uint64_t excl_addr, excl_lo, excl_hi, excl_version;
    uint64_t excl_table; // guest address of the machine's versions, see atomics.c
    uint32_t pstate;
    uint64_t features;                  // set by reset
    uint64_t pac_key[A64_KEY_COUNT][2]; // pointer authentication keys, set by reset
} A64State;

typedef enum A64Field {
#define REG(id, name, member, type, gdb, dwarf) A64_##id,
#include "guest/aarch64/state.def"
#undef REG
    A64_FIELD_COUNT
} A64Field;
_Static_assert((int)A64_FIELD_COUNT <= (int)IR_MAX_FIELDS, "the IR's tables are smaller");

enum { A64_EXCL_OPEN = -1 }; // excl_addr when nothing is reserved
enum {                       // excl_table: versions, then scratch space on a cache line of its own
    A64_EXCL_VERSIONS = 1024,
    A64_EXCL_SCRATCH = A64_EXCL_VERSIONS * 4,
    A64_SHARED_BYTES = A64_EXCL_SCRATCH + 64
};

// Bits of PSTATE that user mode may change, where SPSR has them.
enum { PSTATE_SSBS = 1 << 12, PSTATE_DIT = 1 << 24 };

// FPCR and FPSR bits.
enum {
    FPCR_FIZ = 1 << 0,
    FPCR_AH = 1 << 1,
    FPCR_NEP = 1 << 2,
    FPCR_FZ16 = 1 << 19,
    FPCR_RMODE_SHIFT = 22,
    FPCR_FZ = 1 << 24,
    FPCR_DN = 1 << 25,
    FPCR_AHP = 1 << 26,
    FPSR_QC = 1 << 27,
    FPSR_EXCEPTIONS = 0x9f, // IDC IXC UFC OFC DZC IOC: IrFpFlag has their bits
};
uint32_t a64_fp_mode_of(uint32_t fpcr);   // IrFpMode bits
uint32_t a64_lift_mode_of(uint32_t fpcr); // Guest.mode bits
uint32_t a64_get_cpsr(const A64State *s);
void a64_set_cpsr(A64State *s, uint32_t cpsr);
uint32_t a64_get_fpsr(const A64State *s); // of a vCPU's state: reads VcpuHot.fp
void a64_set_fpsr(A64State *s, uint32_t fpsr);

#endif
