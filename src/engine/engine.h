// engine.h - machines and vCPUs as the floors above the engine see them: block translation, the
// code cache, chaining, dispatch, faults, interruption.
//
// Where to start reading: vcpu_run() in run.c is the dispatcher; block_make() in translate.c turns
// a guest pc into a Block; cache.c holds blocks and finds them again by guest pc, by page and by
// host pc.
//
// Locks: Machine.lock guards the block table, the code cache and all links. A vCPU that is about to
// enter translated code takes it to look its block up and sets in_code before releasing it; or,
// when the block is in its jump cache, sets in_code without the lock and goes back when `flushing`
// is set. So who holds the lock, has set `flushing` and sees every other in_code clear is alone
// with the code cache (machine_flush).
#ifndef DGM_ENGINE_H
#define DGM_ENGINE_H

#include "engine/vcpu.h"
#include "guest/guest.h"
#include "host/host.h"
#include "ir/ir.h"

#include <pthread.h>
#include <stdatomic.h>

typedef struct Machine Machine;
typedef struct Vcpu Vcpu;
typedef struct AddressSpace AddressSpace;

// The seam for what answers system calls and faults: Linux, a board, a bare client of the library.
typedef struct Personality {
    // A system call instruction with this immediate; guest pc is already behind it. Floating-point
    // state (VcpuHot.fp) is valid only between two vcpu_fp_sync(), unlike for the others.
    void (*syscall)(Vcpu *, unsigned imm);
    // A synchronous exception at guest pc, in terms of POSIX signals (SIGSEGV/SEGV_MAPERR...).
    void (*fault)(Vcpu *, int signo, int si_code, uint64_t addr);
    // The vCPU was interrupted: deliver what is pending.
    void (*poll)(Vcpu *);
} Personality;

// Of a block that may be kept on disk (persist.h): what freezing it takes.
typedef struct BlockKept {
    struct BlockKept *next; // that was made behind this one, and is not saved yet
    struct Block *block;
    const uint8_t *cold;
    uint32_t cold_bytes, n_relocs;
    uint32_t relocs[];
} BlockKept;

// Of a block with floating point.
typedef struct BlockTraps {
    const uint8_t *cold;
    uint32_t n;
    HostTrap trap[]; // sorted by `at`
} BlockTraps;

// A translated block, its links behind it. Owned by the machine; freed by machine_flush only. What
// finding and linking it look at comes first, for it is all that loading touches of other blocks.
typedef struct Block {
    uint64_t pc;
    const uint8_t *entry;
    HostLink *incoming; // links of other blocks that jump here
    struct Block *next_in_page;
    uint32_t mode, code_bytes;
    uint16_t size_bytes, n_insns, n_links, n_faults;
    bool dead;   // invalidated; must not be linked to
    bool loaded; // from disk
    uint32_t n_undo;
    const HostFault *faults;      // sorted by host_off
    const BlockTraps *traps;      // NULL: none
    BlockKept *kept;              // NULL: not to be kept, or from there
    const struct WatchUndo *undo; // n_undo: what tools have counted too much when a fault leaves it
    uint32_t *count_ends; // of a machine that counts: instructions up to the end of each segment
} Block;

static inline HostLink *block_links(const Block *b) {
    return (HostLink *)(uintptr_t)(b + 1);
}
static inline Block *block_of_link(const HostLink *l) {
    return (Block *)(uintptr_t)(l - l->index) - 1;
}

typedef struct MachineStats {
    uint64_t blocks, guest_insns, guest_bytes, host_bytes, ir_insts;
    uint64_t translate_ns, flushes, invalidations, lookup_misses;
    uint64_t loaded; // blocks that came from the cache on disk
} MachineStats;

typedef struct MachineConfig {
    const Guest *guest;
    const Host *host;
    const char *isa_limit;    // host features not to use, see host.h
    uint64_t features;        // of the guest CPU
    size_t code_cache_bytes;  // 0: default
    uint32_t max_block_insns; // 0: default
    bool count;               // count guest instructions
    bool budgeted;            // exact budgets for vcpu_run (counts, too)
    struct Watches *watches;  // attached tools (observe.h), which outlive the machine; NULL: none
    bool verify;              // ir_verify every region, also in release builds
    bool perf_map;            // write /tmp/perf-PID.map
    const char *persist_dir;  // translations are kept there; NULL: nowhere
    uint64_t persist_bytes;   // of that directory; 0: default
    Log log;
} MachineConfig;

typedef struct BlockTable BlockTable; // cache.c
struct Machine {
    // fixed after machine_new
    const Guest *guest;
    const Host *host;
    HostCtx *host_ctx;
    uint64_t features;
    uint32_t max_block_insns;
    bool count;    // blocks count the guest instructions they execute
    bool budgeted; // ... and stop when the vCPU's budget is used up (implies count)
    bool verify;
    bool perf_map;
    struct Watches *watches; // NULL: nobody watches
    Log log;
    const Personality *personality;
    AddressSpace *as;      // the memory floor's
    void *os;              // the personality's
    _Atomic bool flushing; // under lock
    // Code cache: stubs, from cache_first on blocks, from cache_cold on what they seldom run.
    uint8_t *cache, *cache_first, *cache_cold, *cache_end;
    // under lock
    pthread_mutex_t lock;
    uint8_t *cache_at, *cold_at;
    uint8_t *cache_there, *cold_there; // up to here the pages are there
    const Block *falls_into_next;      // the block that ends at cache_at, when it falls through
    BlockTable *blocks;
    Arena meta;              // Blocks, links and fault tables since the last flush
    struct Persist *persist; // persist.h; NULL: nothing is kept
    uint32_t *relocs;        // the translator's workbench, when something is
    HostTrap *traps;         // the translator's workbench
    uint32_t cap_traps;
    void *shared;    // Guest.shared_bytes
    IrRegion region; // the translator's workbench
    Arena region_arena;
    Vcpu *vcpus;
    MachineStats stats;
    uint64_t insns_of_gone, dispatches_of_gone; // of vCPUs that no longer exist
    _Atomic uint32_t flush_generation;
    _Atomic uint64_t fp_traps; // taken
    DgmErr err;                // what went wrong last
};

struct Vcpu {
    void *state; // guest state; VcpuHot lies below it
    VcpuHot *hot;
    Machine *m;
    void *os; // the personality's, for this thread
    Vcpu *next;
    _Atomic bool in_code; // between lookup and return of Host.enter
    bool stop;            // set by the personality: vcpu_run returns
    int stop_code;
    struct {
        int signo, si_code;
        bool write; // it was a store, for SEGV and BUS
        bool poll;  // none of the guest's: translated code was interrupted
        uint64_t addr;
    } fault;                           // of HOST_EXIT_FAULT
    volatile bool fp_traps;            // code may count on traps of the host's FPU (MODE_FP_TRAPS)
    uint32_t n_fp_traps;               // taken
    uint64_t fp_traps_since_ns;        // when the last so many began
    uint64_t fp_pause_ns, fp_again_ns; // without traps: for how long, until when
    uint64_t dispatches;               // times that code was entered
    void *alloc;                       // what to free
};

// Block.mode: guest mode, three bits of which tools do not watch the thread, MODE_FP_TRAPS, the
// instruction limit of a cut block.
enum { WATCH_MODE_SHIFT = 4, BLOCK_CUT_SHIFT = 8 };
enum { DEFAULT_BLOCK_INSNS = 64 };

enum { ENGINE_STOPPED = 0, ENGINE_BUDGET = 1 };

Machine *machine_new(const MachineConfig *config, DgmErr *err);
void machine_free(Machine *m);
// Blocks with guest code in [lo, hi) are forgotten; running vCPUs leave them at their next jump.
void machine_invalidate(Machine *m, uint64_t lo, uint64_t hi);
void machine_invalidate_all(Machine *m);
// Around a host fork(): the child is left with the calling vCPU only.
void machine_fork_prepare(Machine *m);
void machine_fork_parent(Machine *m);
void machine_fork_child(Machine *m, Vcpu *self);
uint64_t machine_insns_executed(Machine *m);
uint64_t machine_dispatches(Machine *m);
// As it was when each vCPU was last out of translated code, which they are asked to leave for a
// moment; and how many vCPUs there are. From any thread.
uint64_t machine_progress(Machine *m, unsigned *vcpus);

// Host code of the block that begins at this guest pc, as text; false: there is none, or nobody can
// tell. From any thread.
bool machine_host_text(Machine *m, uint64_t pc, Buf *text);

// A vCPU with a copy of guest state, or the guest's reset state when that is NULL. NULL: out of
// memory.
Vcpu *vcpu_new(Machine *m, const void *state);
void vcpu_free(Vcpu *v);
// Runs on the calling thread until the personality sets v->stop, or `budget` instructions are done
// (< 0: no limit; it is exact, and needs a budgeted machine).
int vcpu_run(Vcpu *v, int64_t budget);
// From any thread or signal handler: v leaves translated code soon and calls Personality.poll.
static inline void vcpu_interrupt(Vcpu *v) {
    v->hot->interrupt = ~0ull;
    __atomic_thread_fence(__ATOMIC_SEQ_CST); // run_code() sets in_code, then looks
    if (atomic_load(&v->in_code)) vcpu_hot_interrupt(v->hot);
}
// Registers by field id, zero-extended; only while v is not in translated code.
static inline uint64_t vcpu_reg(const Vcpu *v, unsigned field) {
    const IrField *f = &v->m->guest->fields[field];
    const char *at = (const char *)v->state + f->offset;
    uint64_t value = 0;
    if (LIKELY(f->type == IR_I64)) // of a known size: system calls ask for eight of them
        memcpy(&value, at, 8);
    else
        memcpy(&value, at, MIN(ir_bytes(f->type), 8u));
    return value;
}
static inline void vcpu_set_reg(Vcpu *v, unsigned field, uint64_t value) {
    const IrField *f = &v->m->guest->fields[field];
    char *at = (char *)v->state + f->offset;
    if (LIKELY(f->type == IR_I64))
        memcpy(at, &value, 8);
    else
        memcpy(at, &value, MIN(ir_bytes(f->type), 8u));
}

// Behind it VcpuHot.fp says what the host's FPU has raised; before the guest runs on the FPU is to
// be told of changes. Only while v is not in translated code.
static inline void vcpu_fp_sync(Vcpu *v) {
    v->m->host->fp_sync(v->m->host_ctx, v->state);
}

// The signal handler's question (host_signals.c): was this fault the guest's? Then the context was
// changed so that the vCPU's enter() returns and the personality gets the fault. v is the thread's
// vCPU.
bool engine_handle_fault(Vcpu *v, int signo, const void *siginfo, void *ucontext);

// ---- within the engine ----
// What the blocks are translated for that run next.
static inline uint32_t vcpu_mode(const Vcpu *v) {
    return v->m->guest->mode(v->state) | v->hot->unwatched << WATCH_MODE_SHIFT |
           (v->fp_traps ? MODE_FP_TRAPS : 0);
}
// A copy of a block's traps, NULL when it has none or memory is out.
BlockTraps *block_traps(Machine *m, const void *cold, const void *traps, uint32_t n);
// Blocks cut short to end on an exact instruction are kept under a mode of their own.
static inline uint32_t block_key(const Machine *m, uint32_t mode, uint32_t max_insns) {
    return max_insns < m->max_block_insns ? mode | max_insns << BLOCK_CUT_SHIFT : mode;
}
// A block that is not in the table: from the disk, else translated. translate.c; lock held; NULL:
// v->m->err.
Block *block_make(Vcpu *v, uint64_t pc, uint32_t mode, uint32_t max_insns);
// Where the next code goes, pages for so many bytes there. Lock held.
HostCode translate_room(Machine *m, size_t bytes);
BlockTable *block_table_new(void); // cache.c
void block_table_free(BlockTable *t);
void block_table_clear(BlockTable *t);
bool block_table_add(BlockTable *t, Block *b);
// It will be looked for soon: its entry, and, when that is near, the block.
void block_table_prefetch(const BlockTable *t, uint64_t pc);
void block_table_prefetch_block(const BlockTable *t, uint64_t pc);
Block *block_table_find(const BlockTable *t, uint64_t pc, uint32_t mode);
// Blocks in order of their making since the last clear, also those that were removed.
uint32_t block_table_made(const BlockTable *t);
const Block *block_table_nth(const BlockTable *t, uint32_t i);
Block *block_table_find_host(const BlockTable *t, uint64_t host_pc); // async-signal-safe
// Takes every block with code in [lo, hi) out of the table and passes it to fn.
void block_table_remove(BlockTable *t, uint64_t lo, uint64_t hi, void (*fn)(void *ctx, Block *b),
                        void *ctx);
void block_link(Machine *m, HostLink *l, Block *to); // lock held
void machine_flush(Machine *m, Vcpu *self);          // lock held

#endif
