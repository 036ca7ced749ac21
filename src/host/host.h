// host.h - the seam for a host CPU: compiling regions to host code and running it.
//
// Convention between blocks: each guest register either has a *home* (a host register that holds it
// whenever control is between two guest instructions while translated code runs) or lives in guest
// state. Homes are chosen from Guest.hot, and again when others prove to deserve them (rehome).
// Block entries and chained edges therefore need no loads and stores of guest state. At every op
// that can fault, homes and guest state together are exactly the guest's registers before the
// instruction; the fault table of a block maps the host pc to the guest pc.
//
// host/interp implements the same seam with the IR evaluator: "code" is then a copy of the region.
#ifndef DGM_HOST_H
#define DGM_HOST_H

#include "engine/vcpu.h"
#include "ir/direct.h"
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
    uint32_t patch;         // host-private: the place of the jump, from the start of the code cache
    uint32_t next_incoming; // the engine's: list of links into the same target (MetaRef)
    int32_t unlinked;       // host-private: where it goes while unlinked
    uint16_t index;         // of the links of its block
    bool linked : 1;        // the engine's: to the block at target_pc, whose list it is in
    bool falls_through : 1; // host-private: the last thing in its block
    bool calls : 1;         // it is a call, or where one returns to
    bool counts : 1;        // of a hot block: it has a HostCount
    bool sunk : 1;          // counts: flags are made on the way, but when it is linked for good
} HostLink;

// Beside each link of a hot block, in the same order: such a link is counted until the engine links
// it for good.
typedef struct HostCount {
    const void *entry; // where it goes while it counts; what `stub` says while unlinked
    const void *stub;  // host-private
    void *target;      // the engine's: the block it is linked to
    int32_t count;     // how often until HOST_EXIT_LINK says that it is hot
    uint32_t context;  // sunk: which HostOutput.made, plus 1; then the engine's, see hot.c
} HostCount;

typedef struct HostFault {
    uint16_t host_off; // from the block's entry: *end* of the instruction range for calls, start of
                       // it for accesses
    uint16_t guest_off : 15; // guest pc - region pc: regions are shorter than a page
    uint16_t fixed : 1;      // it has a HostFix: few do
} HostFault;

// From the block's entry: code that a fault is to leave through (it makes what is not in state
// yet). Of the faults that are fixed, in their order.
typedef int32_t HostFix;

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
    // Of a hot region, from the caller, room for every exit: the links' counts, where they stay;
    // and what flags are made of where a link leaves.
    HostCount *counts;
    IrFlagsMade *made;
    uint32_t n_made;
    HostFault *faults; // sorted by host_off; room for two for every MEM op and one, from the caller
    uint32_t n_faults;
    HostFix *fixes; // n_fixes; as much room, from the caller
    uint32_t n_fixes;
    HostTrap *traps; // sorted; room for two for every FLAGFP op, from the caller, when r->fp_traps
    uint32_t n_traps;
    // The places in the code that depend on where it lies, from the start of the code cache: what
    // freeze wants. Room for cap_relocs from the caller; NULL when nobody will freeze this block.
    uint32_t *relocs;
    uint32_t n_relocs, cap_relocs;
    bool unfreezable; // there were more
} HostOutput;

// One of the blocks that are to be frozen: as compile left it, but for its links.
enum { HOST_OUTSIDE = ~0u }; // none of them
typedef struct HostCompiled {
    const uint8_t *entry, *cold;
    uint32_t code_bytes, cold_bytes;
    const HostLink *links;
    const uint32_t *to; // for each link: which of the blocks it leads to
    const uint32_t *relocs;
    uint32_t n_links, n_relocs;
} HostCompiled;

// What they become: an image that is run where it lies, with this at its start. Places are counted
// from there.
typedef struct HostImage {
    uint32_t n_links, links; // HostFrozenLink[n_links]: those of the first block, of the second...
    uint32_t hot, hot_end;   // code of blocks, one behind the other
    uint32_t n_stubs, stubs, n_functions, functions, consts; // host-private
    uint32_t pad[7];
} HostImage;
typedef struct HostPlace {
    uint32_t hot, cold; // of a block's code
} HostPlace;

// While its jump is not linked, the address of this is what exit_link gets.
typedef struct HostFrozenLink {
    uint64_t target_pc; // where HostLink has it
    uint32_t patch;
    uint32_t stub; // and HOST_FALLS_THROUGH, HOST_CALL
} HostFrozenLink;
#define HOST_FALLS_THROUGH (1u << 31)
#define HOST_CALL          (1u << 30)

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

// Room of a block that is made directly.
enum { HOST_DIRECT_LINKS = 16, HOST_DIRECT_FAULTS = 256, HOST_DIRECT_TRAPS = 256 };

struct Host {
    const char *name; // "x86_64", "interp"
    bool counts;      // links, and compiles hot regions (IrRegion.hot)
    // isa_limit: NULL or a comma list of features not to use
    // ("avx512,avx2,bmi,fma,avx,sse4,fp16,fptraps,direct"), for tests. NULL when this machine
    // cannot run it.
    HostCtx *(*create)(const IrField *fields, uint32_t n_fields, uint32_t pc_field,
                       uint32_t state_bytes, const IrHotFields *hot, const char *isa_limit,
                       unsigned needs, HostCode *stubs, DgmErr *err);
    void (*destroy)(HostCtx *);
    // Other integer registers get the homes, best first, and the stubs are made anew where they
    // were (in no more room than `stubs`, which gets their new end). Only while there is no code
    // and no vCPU in any; vcpu_rehome() has to follow. NULL: this host has no homes.
    void (*rehome)(HostCtx *, const uint16_t *hot_ints, uint32_t n_hot_ints, HostCode *stubs);
    uint32_t (*n_int_homes)(const HostCtx *);
    // Compiles a verified region. On HOST_NO_ROOM nothing was used up. Thread-safe for different
    // regions.
    HostError (*compile)(HostCtx *, const IrRegion *r, HostCode *room, HostOutput *out,
                         DgmErr *err);
    // Makes the code of a block while `say` tells of its instructions (ir/direct.h): the block
    // begins at the pc of r, which is empty; what is said as regions is lifted into r. The output
    // has room for what is below, and the code has a part for what is seldom run. HOST_UNSUPPORTED:
    // the block is to be lifted as a whole. NULL: this host has no such way.
    HostError (*direct)(HostCtx *, const IrRegion *r, HostCode *room, HostOutput *out,
                        void (*say)(void *ctx, Direct *d), void *ctx, DgmErr *err);
    // Points a link's jump at a block's entry, or back (entry NULL). Atomic towards running code,
    // not towards other calls that change code (Machine.lock). A link that counts goes there for
    // good then, one that is sunk without making flags: the block is to know what they hold
    // (GuestLift.flags). While it counts, HostCount.entry says where to.
    void (*link)(HostCtx *, HostLink *l, const void *entry);
    // Runs from entry until code is left; homes are loaded from and stored to state around it.
    // Returns HOST_EXIT_*, for traps with the trap's number and value.
    uint64_t (*enter)(HostCtx *, void *state, const void *entry);
    // In a signal handler that the engine found to concern this vCPU: changes the context so that
    // `enter` returns HOST_EXIT_FAULT when the handler returns. in_code: the host pc is inside a
    // block, so homes are first written to guest state (the guest pc is the engine's to set, from
    // the block's fault table). Otherwise the fault was in a can_fault helper: such calls are made
    // with all homes and the guest pc already in state, and hot->in_helper set around them.
    // fix: where the HostFix of the access points, or NULL.
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
    void (*vcpu_rehome)(HostCtx *, void *state); // behind rehome(), for each vCPU there is
    uint64_t (*fault_pc)(const void *ucontext);  // host pc of the interrupted context
    // Sticky FP flags: the host's own merged into fp.flags and cleared; new mode taken over from
    // fp.mode and hot->mode (MODE_FP_TRAPS). (Called by the engine while no translated code runs on
    // this thread.)
    void (*fp_sync)(HostCtx *, void *state);
    void (*disassemble)(const uint8_t *code, size_t bytes, Buf *out); // may be NULL
    // Code that outlives the process; all NULL when this host has no such thing. `freeze` appends
    // an image of n blocks that does not depend on addresses of this process (but on guest
    // addresses, on this build of Dragoman and on `identity`), in which they are linked to each
    // other, and says where each block went; false when there is none. `attach` makes such an image
    // ready to run where it lies, within reach of the code cache and aligned to 64; any bytes at
    // all are answered, if not run. `bar` makes a block of an image one that is never entered
    // again: the jump there traps (SIGTRAP, one byte behind the entry), also while others run, and
    // the handler has the code left there (HOST_EXIT_LOOKUP) by `leave_at_entry`.
    bool (*freeze)(HostCtx *, const HostCompiled *blocks, uint32_t n, HostPlace *at, Buf *out);
    bool (*attach)(HostCtx *, uint8_t *image, uint64_t bytes);
    void (*bar)(HostCtx *, uint8_t *entry);
    void (*leave_at_entry)(HostCtx *, void *ucontext, uint64_t pc);
    // What else frozen code depends on: features in use, homes, layout of guest state.
    uint64_t (*identity)(const HostCtx *);
};

extern const Host host_x86_64, host_interp;

#endif
