// host.h - the seam for a host CPU: compiling regions to host code and running it.
//
// Convention between blocks: each guest register either has a *home* (a host register that holds it
// whenever control is between two guest instructions while translated code runs) or lives in guest
// state. Homes are chosen once per machine from Guest.hot_ints / hot_vecs. Block entries and
// chained edges therefore need no loads and stores of guest state. At every op that can fault,
// homes and guest state together are exactly the guest's registers before the instruction; the
// fault table of a block maps the host pc to the guest pc.
//
// host/interp implements the same seam with the IR evaluator: "code" is then a copy of the region.
#ifndef DGM_HOST_H
#define DGM_HOST_H

#include "engine/vcpu.h"
#include "ir/ir.h"

typedef struct Host Host;
typedef struct HostCtx HostCtx; // per machine: homes, detected features, generated entry code

// Where code goes: the engine hands out room in its code cache.
typedef struct HostCode {
    uint8_t *at, *end; // in: room; out: at is behind what was written. Executable in place.
    // Room for what is seldom run, so that blocks lie close together; NULL: it goes behind each
    // block.
    uint8_t *cold, *cold_end;
    bool follows; // the block just before `at` falls through to this one
} HostCode;

// One way out of a block to a known guest pc, to be chained. Lives as long as the block.
typedef struct HostLink {
    uint64_t target_pc;
    uint8_t *patch;                 // host-private: the place of the jump
    struct HostLink *next_incoming; // the engine's: list of links into the same target
    void *target;                   // the engine's: block that it is linked to
    int32_t unlinked;               // host-private: where it goes while unlinked
    uint16_t index;                 // of the links of its block
    bool falls_through;             // host-private: the last thing in its block
} HostLink;

typedef struct HostFault {
    uint16_t host_off; // from the block's entry: *end* of the instruction range for calls, start of
                       // it for accesses
    uint16_t guest_off; // guest pc - region pc
    int32_t fix;        // from the block's entry: code that a fault is to leave through (it makes
                        // what is not in state yet); 0: none is needed
} HostFault;

// An FP instruction whose rare cases (NaNs, tiny results) are not looked for: the host's FPU raises
// an exception, and the code here does the op again, exactly, and goes on behind it.
typedef struct HostTrap {
    uint32_t at; // from the block's entry: from here on, up to the next
    uint32_t to; // from HostOutput.cold
} HostTrap;

typedef struct HostOutput {
    const void *entry; // where to enter with homes loaded
    uint32_t code_bytes;
    const void *cold; // what went to HostCode.cold, or is seldom run behind the block
    uint32_t cold_bytes;
    HostLink *links; // n_links, in memory that the caller gave: room for every exit
    uint32_t n_links;
    HostFault *faults; // sorted by host_off; room for two for every MEM op and one, from the caller
    uint32_t n_faults;
    HostTrap *traps; // sorted; room for two for every FLAGFP op, from the caller, when r->fp_traps
    uint32_t n_traps;
    // The places in the code that depend on where it lies, from the start of the code cache: what
    // freeze wants. Room for cap_relocs from the caller; NULL when nobody will freeze this block.
    uint32_t *relocs;
    uint32_t n_relocs, cap_relocs;
    bool unfreezable; // there were more
} HostOutput;

// One of a group of blocks that is to be frozen: as compile left it, but for its links.
enum { HOST_OUTSIDE = 0xfff0 }; // and above: not in the group
typedef struct HostCompiled {
    const uint8_t *entry, *cold;
    uint32_t code_bytes, cold_bytes;
    const HostLink *links;
    const uint16_t
        *to; // for each link: which block of the group it leads to, if below HOST_OUTSIDE
    const uint32_t *relocs;
    uint32_t n_links, n_relocs;
} HostCompiled;

// One of a group that is thawed.
typedef struct HostThawed {
    HostLink *links; // in: memory for n_links
    uint32_t n_links;
    uint32_t code_bytes, cold_bytes; // out, as in HostOutput
    const uint8_t *entry, *cold;
} HostThawed;

// Why translated code was left.
typedef enum HostExit {
    HOST_EXIT_LINK,      // through an unlinked link: exit_link is set, guest pc is in state
    HOST_EXIT_LOOKUP,    // indirect jump not in the jump cache: guest pc is in state
    HOST_EXIT_INTERRUPT, // vcpu interrupt was set: guest pc is in state. Translated code that reads
                         // hot->poll instead leaves by that fault, as HOST_EXIT_FAULT
    HOST_EXIT_BUDGET,    // budget would go negative: guest pc is in state
    HOST_EXIT_FAULT,     // left by host_leave_at_fault: guest pc and registers are in state
    HOST_EXIT_TRAP,      // HOST_EXIT_TRAP + (IrTrap | value << 8): guest pc (imm) is in state
} HostExit;

typedef enum HostError {
    HOST_OK,
    HOST_NO_ROOM /* flush the cache and try again */,
    HOST_UNSUPPORTED
} HostError;

// What a machine's code will be like.
enum HostNeeds {
    HOST_COUNTS = 1, // with IR_count or IR_budget
    HOST_CALLS = 2,  // with calls of C everywhere: what they would save is kept in memory anyway
};

struct Host {
    const char *name; // "x86_64", "interp"
    // isa_limit: NULL or a comma list of features not to use
    // ("avx512,avx2,bmi,fma,avx,sse4,fp16,fptraps"), for tests. NULL when this machine cannot run
    // it.
    HostCtx *(*create)(const IrField *fields, uint32_t n_fields, uint32_t pc_field,
                       uint32_t state_bytes, const uint16_t *hot_ints, uint32_t n_hot_ints,
                       const uint16_t *hot_vecs, uint32_t n_hot_vecs, const char *isa_limit,
                       unsigned needs, HostCode *stubs, DgmErr *err);
    void (*destroy)(HostCtx *);
    // Compiles a verified region. On HOST_NO_ROOM nothing was used up. Thread-safe for different
    // regions.
    HostError (*compile)(HostCtx *, const IrRegion *r, HostCode *room, HostOutput *out,
                         DgmErr *err);
    // Points a link's jump at a block's entry, or back (entry NULL). Atomic towards running code.
    void (*link)(HostCtx *, HostLink *l, const void *entry);
    // Runs from entry until code is left; homes are loaded from and stored to state around it.
    // Returns HOST_EXIT_*, for traps with the trap's number and value.
    uint64_t (*enter)(HostCtx *, void *state, const void *entry);
    // In a signal handler that the engine found to concern this vCPU: changes the context so that
    // `enter` returns HOST_EXIT_FAULT when the handler returns. in_code: the host pc is inside a
    // block, so homes are first written to guest state (the guest pc is the engine's to set, from
    // the block's fault table). Otherwise the fault was in a can_fault helper: such calls are made
    // with all homes and the guest pc already in state, and hot->in_helper set around them.
    // fix: where HostFault.fix of the access points, or NULL.
    void (*leave_at_fault)(HostCtx *, void *state, void *ucontext, bool in_code, const void *fix);
    // A fault in translated code at host address addr that is the host's own affair (its return
    // stack is full): put right, the instruction is to be tried again.
    bool (*own_fault)(HostCtx *, void *state, void *ucontext, uint64_t addr);
    // An FP exception in translated code: the interrupted context goes on at `to`, which a HostTrap
    // of the block names. NULL: this host has none, and regions are not to have fp_traps.
    void (*take_fp_trap)(HostCtx *, void *ucontext, const void *to);
    // A new vCPU; the engine has set hot->ret_top and ret_guard. Later the engine sets ret_sp to
    // ret_top when predicted returns must not be used any more.
    void (*vcpu_init)(HostCtx *, void *state);
    uint64_t (*fault_pc)(const void *ucontext); // host pc of the interrupted context
    // Sticky FP flags: the host's own merged into fp.flags and cleared; new mode taken over from
    // fp.mode and hot->mode (MODE_FP_TRAPS). (Called by the engine while no translated code runs on
    // this thread.)
    void (*fp_sync)(HostCtx *, void *state);
    void (*disassemble)(const uint8_t *code, size_t bytes, Buf *out); // may be NULL
    // Code that outlives the process; both NULL when this host has no such thing. `freeze` appends
    // a form of some blocks that does not depend on addresses of this process (but on guest
    // addresses, on this build of Dragoman and on `identity`), in which they are linked to each
    // other; false when there is none. `thaw` makes n blocks of it, in ascending places, in any
    // bytes at all (aligned to 4) within the room; nothing is used up when it fails.
    bool (*freeze)(HostCtx *, const HostCompiled *blocks, uint32_t n, Buf *out);
    HostError (*thaw)(HostCtx *, const uint8_t *frozen, size_t bytes, HostCode *room,
                      HostThawed *out, uint32_t n);
    // What else frozen code depends on: features in use, homes, layout of guest state.
    uint64_t (*identity)(const HostCtx *);
};

extern const Host host_x86_64, host_interp;

#endif
