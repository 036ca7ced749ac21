// vcpu.h - the part of a vCPU that translated code and helpers touch, and where guest state lies.
//
// Layout: [ watch slots | VcpuHot | guest state ], both at pages. The `state` pointer that hosts
// keep in a register and helpers get points at the guest state, so hot fields are at negative,
// guest registers at positive offsets. One thread runs a vCPU; only `interrupt` and what belongs to
// it are written by others (and signal handlers).
#ifndef DGM_ENGINE_VCPU_H
#define DGM_ENGINE_VCPU_H

#include "ir/ir.h"

#include <sys/mman.h>

enum { JUMP_CACHE_ENTRIES = 32768 }; // direct mapped by (pc >> 2)

// Of the translation mode, above the guest's bits: code that counts on traps of the host's FPU.
enum { MODE_FP_TRAPS = 0x80 };

typedef struct JumpCacheEntry {
    uint64_t pc;      // guest pc; jump_cache_no_pc() when empty
    const void *code; // host entry of the block there, in the vCPU's current mode
} JumpCacheEntry;

// What an empty entry i holds: a pc that belongs to another entry, so that no jump finds it, not
// even one to ~0.
static inline uint64_t jump_cache_no_pc(unsigned i) {
    return i ? 0 : ~0ull;
}

enum { POLL_BYTES = 4096 };

typedef struct VcpuHot {
    JumpCacheEntry jump_cache[JUMP_CACHE_ENTRIES];
    V128 scratch[64];   // host backends: vector spills, helper operands, saved host state
    uint64_t spill[64]; // host backends: integer spills
    uint64_t ret_sp, ret_top, ret_guard; // host backends: return prediction, a stack that grows
                                         // down from ret_top to the guard page at ret_guard
    int64_t budget; // guest instructions left (IR_count, IR_budget; hosts keep it in a register)
    uint64_t count_base;    // what `budget` counts down from: executed are count_base - budget
    IrFpEnv fp;             // mode and rules; flags here plus those the host FPU holds
    uint32_t host_fp_saved; // the host's own FP control while translated code runs
    uint32_t
        guest_fp_control; // host backends: FP control with the guest's rounding, and sticky flags
    uint64_t host_sp;     // host backends: C's stack pointer inside `enter`
    uint32_t mode;        // translation mode of jump_cache and of the running code
    uint32_t unwatched;   // tools that do not watch this thread: dgm_watch.thread_bit (a few bits)
    uint64_t mem_base;    // host address of guest address 0
    uint64_t exclusive_addr, exclusive_value[2]; // free for guests' load-exclusive
    uint64_t flush_lo, flush_hi;                 // range of IR_TRAP_FLUSH_CODE
    void *vcpu;                                  // the engine's Vcpu
    void *watches;                               // src/observe's, when there are tools
    uint64_t trap_addr;                          // of IR_TRAP_ALIGN, value 1
    const void *trap_code;                       // ... and the host code of the block it (or a
                                                 // helper that can fault) was in
    const void *exit_link;        // host backends: the link by which code was left (see host.h)
    uint8_t in_helper;            // a can_fault helper runs; guest state is in memory, exact
    volatile uint8_t poll_closed; // or about to be
    volatile uint64_t interrupt; // ~0: leave translated code soon (on backward and indirect jumps),
                                 // else 0: hosts may compare it with a pointer
    // Translated code that may loop reads from this page where guest state is exact: to interrupt
    // it, the page is closed. Right before guest state: its end is in reach of short displacements.
    uint8_t poll[POLL_BYTES] __attribute__((aligned(POLL_BYTES)));
} VcpuHot;

static inline VcpuHot *vcpu_hot(const void *state) {
    return (VcpuHot *)((char *)state - sizeof(VcpuHot));
}
static inline void *vcpu_mem(const void *state, uint64_t addr) {
    return (void *)(uintptr_t)(vcpu_hot(state)->mem_base + addr);
}
// From any thread or signal handler: translated code comes to the engine's handler soon; and is
// left there.
static inline void vcpu_hot_poll(VcpuHot *hot) {
    hot->poll_closed = 1;
    mprotect(hot->poll, POLL_BYTES, PROT_NONE);
}
static inline void vcpu_hot_interrupt(VcpuHot *hot) {
    hot->interrupt = ~0ull;
    vcpu_hot_poll(hot);
}
// 64-bit words for tools (src/observe), as many as the machine's tools have asked for; slot 0 is
// the highest.
static inline uint64_t *vcpu_slot(VcpuHot *hot, uint32_t slot) {
    return (uint64_t *)(void *)hot - 1 - slot;
}
// Guest instructions executed so far; only while the vCPU is not in translated code, or where a
// helper was called that may know (IrHelper.wants_count).
static inline uint64_t vcpu_insns(const VcpuHot *hot) {
    return hot->count_base - (uint64_t)hot->budget;
}
// Helpers that raise sticky FP flags do it here.
static inline void vcpu_fp_raise(void *state, uint32_t fp_flags) {
    vcpu_hot(state)->fp.flags |= fp_flags;
}

#endif
