// guest.h - the seam for a guest CPU: one struct of tables and functions per ISA.
//
// A guest is a folder src/guest/<isa>/ that defines one `const Guest guest_<isa>` and one row in
// guest/guest.c. It knows the IR and nothing of hosts, the engine or Linux (but for the facts of
// its Linux ABI, which are data here and used by src/linux/).
//
// Guest state is a plain struct, pointed to by `void *state`; its registers are rows of IrField.
// Everything here is immutable; all functions are reentrant.
#ifndef DGM_GUEST_H
#define DGM_GUEST_H

#include "base/base.h"
#include "ir/direct.h"
#include "ir/ir.h"

// What a guest CPU model has; bits are the guest's own (see guest/<isa>/features.h).
typedef struct GuestCpu {
    const char *name, *summary;
    uint64_t features;
} GuestCpu;

typedef struct GuestLift {
    uint64_t pc;        // in: where to start
    uint32_t mode;      // in: Guest.mode(state)
    uint64_t features;  // in: of the vCPU's GuestCpu
    uint32_t max_insns; // in: stop after so many (1..)
    bool count;         // in: emit IR_count for --stats and budgets, at the start of each segment
    bool budget;        // in: the program may stop there, so each has its mark
    uint32_t unwatched; // in: tools that are not to see it (VcpuHot.unwatched)
    bool watch;  // in: for who sees everything: every instruction has its mark, a segment ends at
                 // branches only, what the limit is may be passed to finish one
    bool extend; // in: go on past conditional branches: a segment ends at each exit_if
    bool hot;    // in: for IrRegion.hot, and a loop is unrolled
    bool once;   // in: it is not
    const IrFlagsMade *flags; // in: what flags hold at entry; NULL: they are in state
    // in: how code is read. Returns a pointer to `bytes` readable bytes of guest memory at pc, or
    // NULL when they cannot be fetched (the lifter then ends the block with IR_TRAP_FETCH at that
    // pc).
    const uint8_t *(*fetch)(void *ctx, uint64_t pc, unsigned bytes);
    void *fetch_ctx;
} GuestLift;

// The guest's registers as Linux uses them: field ids for the personality.
typedef struct GuestLinuxAbi {
    uint16_t syscall_nr, syscall_args[6], syscall_ret; // field ids
    uint16_t sp, tls;                                  // field ids
    uint16_t fn_args[3], link;                         // handler arguments and return address
    const char *platform, *machine;                    // AT_PLATFORM, uname -m
    uint32_t page_bytes;
    // hwcap words for the auxiliary vector, from the features
    void (*hwcaps)(uint64_t features, uint64_t *hwcap, uint64_t *hwcap2);
    // Text of /proc/cpuinfo for n cpus.
    void (*cpuinfo)(uint64_t features, unsigned n_cpus, Buf *out);
    // Writes a signal frame's machine context / reads it back. mem points at mcontext in guest
    // layout (struct sigcontext with its extension records), as the guest's kernel lays it out.
    size_t mcontext_bytes;
    // The syndrome that goes with a fault (SEGV, BUS); NULL: the guest's frames have none.
    uint64_t (*fault_esr)(int signo, int si_code, bool fetch, bool write);
    void (*mcontext_save)(const void *state, uint64_t fault_addr, uint64_t esr, void *mem);
    bool (*mcontext_load)(void *state, const void *mem);
} GuestLinuxAbi;

// A block that was said directly: what IrRegion says of one that was lifted.
enum { GUEST_MOST_SEGMENTS = 8 };
typedef struct GuestDirect {
    uint32_t n_insns, size_bytes, n_segments;
    uint32_t n_ir_insts; // of what was lifted in between
    uint16_t segment_insns[GUEST_MOST_SEGMENTS];
} GuestDirect;

typedef struct Guest {
    const char *name;     // "aarch64"
    uint16_t elf_machine; // EM_*
    uint8_t elf_class;    // ELFCLASS*
    uint8_t min_insn_bytes, max_insn_bytes;
    uint32_t state_bytes;
    const IrField *fields;
    uint32_t n_fields;
    uint16_t pc_field;
    IrFpRules fp_rules;
    IrHotFields hot;
    uint64_t unseen; // features whose instructions access memory where nobody who watches sees it:
                     // they work, but the guest is not told that they are there
    const GuestCpu *cpus; // the first is the default; ends with name == NULL
    void (*reset)(void *state, uint64_t features);
    // Memory that all vCPUs of a machine share, zeroed, for the guest's own use; share() is told of
    // it as a guest address, once for each vCPU.
    uint32_t shared_bytes;
    void (*share)(void *state, uint64_t shared);
    // The instruction at insn_at faulted, at a write or a read of memory; in a signal handler, with
    // state only in so far as it is kept in no host register. May be NULL.
    void (*faulted)(void *state, const void *insn_at, bool write);
    // Translation mode: bits of state that change how code is lifted (usually 0). A block is keyed
    // by (pc, mode). Bit 0 is always "FP mode is not the usual one".
    uint32_t (*mode)(const void *state);
    // FP mode bits (IrFpMode) and whether sticky flags live in state is the IR's business: the
    // guest reads and writes them by fp_flags / fp_setflags / fp_setmode.
    uint32_t (*fp_mode)(const void *state);
    // Lifts one basic block (how->extend: and those that it falls through to) into r (already
    // reset). Never fails: undecodable bytes end in a trap.
    void (*lift)(IrRegion *r, const GuestLift *how);
    // Says the block that lift() would lift (not hot, not watched, no budget, no flags known) to d,
    // and lifts in between into r what is rare (ir/direct.h). NULL: this guest does not.
    void (*direct)(const GuestLift *how, IrRegion *r, Direct *d, GuestDirect *made);
    // Where a program says that looking is to begin or end: an instruction that does nothing
    // (include/dragoman/mark.h) but leave translated code while somebody watches.
    enum GuestMark {
        GUEST_NO_MARK,
        GUEST_MARK_BEGIN,
        GUEST_MARK_END
    } (*mark)(const uint8_t *bytes, unsigned size);
    // One instruction as text; returns its size in bytes, 0 when the bytes are no instruction.
    unsigned (*disassemble)(const uint8_t *bytes, size_t n, uint64_t pc, Buf *out);
    const GuestLinuxAbi *linux_abi;
} Guest;

// All guests this build has, ends with NULL.
extern const Guest *const guest_all[];
const Guest *guest_by_name(const char *name);
const Guest *guest_by_elf(uint16_t machine, uint8_t elf_class);

#endif
