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
#include "memory/space.h"

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

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

// Of a block with floating point.
typedef struct BlockTraps {
    const uint8_t *cold;
    uint32_t n;
    HostTrap trap[]; // sorted by `at`
} BlockTraps;

// What few blocks have; zeros when it is not there.
typedef struct BlockMore {
    const BlockTraps *traps;      // NULL: none
    const struct WatchUndo *undo; // n_undo: what tools have counted too much when a fault leaves it
    uint32_t n_undo;
    struct Block *hot; // the hot one in its place; NULL: none
    HostCount *counts; // of a hot one: beside its links
} BlockMore;

// What the engine notes of blocks lies in one region, for much of what a new block costs is memory
// that is new, and so 32 bits refer to it: bytes from its start; 0: nothing.
typedef uint32_t MetaRef;
typedef struct Meta {
    uint8_t *base, *at, *there, *end; // up to `there` the pages are there
} Meta;
static inline void *meta_at(const Meta *t, MetaRef ref) {
    return ref ? t->base + ref : NULL;
}
static inline MetaRef meta_ref(const Meta *t, const void *p) {
    return p ? (MetaRef)((const uint8_t *)p - t->base) : 0;
}

// A translated block; behind it its links, faults, their fixes, and in a machine that counts the
// instructions up to the end of each segment (block_count_ends). Owned by the machine; freed by
// machine_flush only. There are many: 40 bytes.
typedef struct Block {
    uint64_t pc;
    uint32_t entry;       // from the start of the code cache
    MetaRef incoming;     // links of other blocks that jump here
    MetaRef next_in_line; // a Block (cache.c)
    MetaRef more;         // a BlockMore
    uint32_t mode;
    uint32_t code_bytes : 29;
    bool direct : 1; // said directly
    bool dead : 1;   // invalidated; must not be linked to
    bool loaded : 1; // of an image, which has its tables: those here are empty
    uint16_t size_bytes, n_insns, n_links, n_faults;
} Block;

static inline HostLink *block_links(const Block *b) {
    return (HostLink *)(uintptr_t)(b + 1);
}
static inline const HostFault *block_faults(const Block *b) { // sorted by host_off
    return (const HostFault *)(block_links(b) + b->n_links);
}
static inline const HostFix *block_fixes(const Block *b) {
    return (const HostFix *)(block_faults(b) + b->n_faults);
}
// How many of n are fixed.
static inline uint32_t faults_fixed(const HostFault *f, size_t n) {
    uint32_t fixed = 0;
    for (size_t i = 0; i < n; i++) fixed += f[i].fixed;
    return fixed;
}
static inline const HostFix *block_fixes_end(const Block *b) {
    return block_fixes(b) + faults_fixed(block_faults(b), b->n_faults);
}
static inline Block *block_of_link(const HostLink *l) {
    return (Block *)(uintptr_t)(l - l->index) - 1;
}

// Of a block that may be kept on disk (persist.h): what freezing it takes.
typedef struct BlockKept {
    MetaRef next; // that was made behind this one, and is not saved yet
    MetaRef block;
    uint32_t cold; // from the start of the code cache
    uint16_t cold_bytes, n_relocs;
    uint32_t relocs[];
} BlockKept;

typedef struct MachineStats {
    uint64_t blocks, guest_insns, guest_bytes, host_bytes, ir_insts;
    uint64_t translate_ns, flushes, invalidations, lookup_misses;
    uint64_t loaded;  // blocks that came from the cache on disk
    uint64_t hot;     // blocks of the second effort (hot.c)
    uint64_t rehomed; // times that other registers got homes (homes.c)
    uint64_t again;   // times that all code was made again (again.c)
} MachineStats;

// Which of the two efforts a machine makes: both, or for tests only one, or both while other
// registers get homes whenever they can.
typedef enum MachineTier { TIER_BOTH, TIER_COLD, TIER_HOT, TIER_RESTLESS } MachineTier;

static inline bool tier_makes_both(MachineTier tier) {
    return tier == TIER_BOTH || tier == TIER_RESTLESS;
}

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
    MachineTier tier;
    bool verify;             // ir_verify every region, also in release builds
    bool perf_map;           // write /tmp/perf-PID.map
    const char *persist_dir; // translations are kept there; NULL: nowhere
    uint64_t persist_bytes;  // of that directory; 0: default
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
    MachineTier tier;
    struct Watches *watches; // NULL: nobody watches
    Log log;
    const Personality *personality;
    AddressSpace *as;      // the memory floor's
    void *os;              // the personality's
    _Atomic bool flushing; // under lock
    // Code cache: stubs, from cache_first on blocks (up to hot_end; behind it images of kept ones),
    // from cache_cold on what they seldom run.
    uint8_t *cache, *cache_first, *cache_cold, *cache_end;
    // under lock
    pthread_mutex_t lock;
    uint8_t *cache_at, *cold_at, *hot_end;
    uint8_t *cache_there, *cold_there; // up to here the pages are there
    const Block *falls_into_next;      // the block that ends at cache_at, when it falls through
    BlockTable *blocks;
    Meta meta;               // Blocks, links and fault tables since the last flush
    struct Persist *persist; // persist.h; NULL: nothing is kept
    struct Images *images;   // images.h; there when persist is
    uint32_t *relocs;        // the translator's workbench, when something is
    HostTrap *traps;         // the translator's workbench
    IrFlagsMade *made;
    uint32_t cap_traps, cap_made;
    struct Hot *hot;            // hot.c's
    struct Homes *homes;        // homes.c's; NULL: it was not asked yet
    struct Again *again;        // again.c's
    bool hot_started, hot_runs; // its thread
    int hot_held;               // reasons for which it may not begin
    uint64_t hot_from;          // dispatches of a vCPU before which one is not worth it
    bool loops_wait;            // no jump backwards is linked before: so dispatches count rounds
    void *shared;               // Guest.shared_bytes
    IrRegion region;            // the translator's workbench
    SpaceWindow fetched;        // where it has read guest code last
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
    volatile bool barred;              // code was left at the entry of a barred block (images.h)
    volatile bool fp_traps;            // code may count on traps of the host's FPU (MODE_FP_TRAPS)
    uint32_t n_fp_traps;               // taken
    uint64_t fp_traps_since_ns;        // when the last so many began
    uint64_t fp_pause_ns, fp_again_ns; // without traps: for how long, until when
    uint64_t dispatches;               // times that code was entered
    uint64_t seen_pc[8];               // where it was seen running lately (hot.c)
    uint32_t n_seen;                   // ... so often
    uint64_t hot_pc;                   // of the block that is to be made anew, when
    volatile bool wants_hot;           // ... one is (set in a signal handler)
    uint64_t sample_pc[64];            // homes.c: where it was seen running, in turns
    uint32_t n_samples, homes_at;      // ... so often; when to look next
    volatile bool wants_homes;         // ... it is time
    void *alloc;                       // what to free
};

// Block.mode: guest mode, three bits of which tools do not watch the thread, MODE_FP_TRAPS, the
// instruction limit of a cut block; of a block of the second effort its context plus 1.
enum { WATCH_MODE_SHIFT = 4, BLOCK_CUT_SHIFT = 8, BLOCK_HOT_SHIFT = 16 };
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
static inline uint64_t engine_now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}
static inline double engine_cpu_seconds(void) { // of the process
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}
static inline const uint8_t *block_entry(const Machine *m, const Block *b) {
    return m->cache + b->entry;
}
static inline BlockMore *block_more(const Machine *m, const Block *b) { // NULL: nothing
    return meta_at(&m->meta, b->more);
}
// What runs in its place: the hot one, or itself.
static inline Block *block_hot(const Machine *m, Block *b) {
    const BlockMore *more = block_more(m, b);
    return more && more->hot ? more->hot : b;
}
// Of a link that counts.
static inline HostCount *link_count(const Machine *m, const HostLink *l) {
    return &block_more(m, block_of_link(l))->counts[l->index];
}
// What the blocks are translated for that run next.
static inline uint32_t vcpu_mode(const Vcpu *v) {
    return v->m->guest->mode(v->state) | v->hot->unwatched << WATCH_MODE_SHIFT |
           (v->fp_traps ? MODE_FP_TRAPS : 0);
}
// The mode that a whole block of the first effort has at the same place.
static inline uint32_t block_plain_mode(const Block *b) {
    return b->mode & ((1u << BLOCK_CUT_SHIFT) - 1);
}
// Blocks cut short to end on an exact instruction are kept under a mode of their own.
static inline uint32_t block_key(const Machine *m, uint32_t mode, uint32_t max_insns) {
    return max_insns < m->max_block_insns ? mode | max_insns << BLOCK_CUT_SHIFT : mode;
}
// The block at pc that is in the table or kept on disk; NULL: it would have to be made.
// translate.c; lock held.
Block *block_known(Machine *m, uint64_t pc, uint32_t mode);
// block_more(), made when it is not there; NULL: no room before the next flush.
BlockMore *block_make_more(Machine *m, Block *b);
// ---- meta.c ----
bool meta_new(Meta *t, size_t bytes); // false: out of memory
void meta_free(Meta *t);
void meta_reset(Meta *t); // forgets all
// Aligned to 8, with whatever is there. NULL: no room before the next flush.
void *meta_alloc(Meta *t, size_t bytes);
// What was allocated last ends here already.
static inline void meta_trim(Meta *t, const void *end) {
    t->at = (uint8_t *)ALIGN_UP((uintptr_t)end, 8);
}
// Pages up to at + bytes are there, if the host can do that: some at a time, which is less than a
// fault for each, and not as many as a huge page clears.
void pages_ahead(uint8_t *at, size_t bytes, uint8_t **there, const uint8_t *first,
                 const uint8_t *end);
// A block that is not in the table: from the disk, else translated. translate.c; lock held; NULL:
// v->m->err.
Block *block_make(Vcpu *v, uint64_t pc, uint32_t mode, uint32_t max_insns);
// A block of the second effort that is entered with flags of this context (0: state has them).
// translate.c; lock held; NULL: there is none.
Block *block_get_hot(Vcpu *v, uint64_t pc, uint32_t mode, uint32_t context);
// ---- hot.c; lock held, unless said otherwise ----
bool hot_new(Machine *m);   // of a new machine; false: out of memory
void hot_start(Machine *m); // its thread begins to look
// Code that was kept runs: its loops are linked already.
void hot_start_early(Machine *m);
// It ends, for some thousand dispatches: the caller's process is to have no thread of ours. Lock
// not held.
void hot_stop(Machine *m);
// None begins meanwhile: another process runs in our memory. Lock not held.
void hot_hold(Machine *m, bool held);
void hot_free(Machine *m);
// In a signal handler: the block at pc runs. True: v is to leave it and come to hot_replace().
bool hot_seen(Vcpu *v, uint64_t pc);
// Makes *b anew, and all links lead there (block_hot); *b may become another block of that pc, or
// NULL (out of memory). This and hot_exit may flush the code cache.
void hot_replace(Vcpu *v, Block **b);
// An exit was taken that leads to b: it is linked, or counted, or, when it has proved to be hot,
// gets a block of its own to lead to.
void hot_exit(Vcpu *v, HostLink *l, Block *b);
// b has left the table.
void hot_forget(Machine *m, const Block *b);
// Numbers what HostOutput.made says of the links of a block.
void hot_note_contexts(Machine *m, Block *b, const IrFlagsMade *made);
const IrFlagsMade *hot_context(const Machine *m, uint32_t context);

// ---- again.c ----
bool again_new(Machine *m);
void again_free(Machine *m);
// b was seen again, and is on no loop. May flush the code cache. Lock held, but not throughout.
void again_seen(Vcpu *v, const Block *b);
// Keeps what was made, and flushes the code cache: what was there is made anew with care. Lock
// held, but not throughout.
void again_from_nothing(Vcpu *v);
bool again_knows(const Machine *m, uint64_t pc); // there was a block then
// Is a new block at pc better made soon than well?
bool again_soon_is_better(Machine *m, uint64_t pc);

// ---- homes.c ----
// In a signal handler: the block at pc runs. True: v is to leave it and come to homes_consider().
bool homes_seen(Vcpu *v, uint64_t pc);
// Gives homes to other registers when that pays, and flushes the code cache then. Lock held, but
// given back for a moment.
void homes_consider(Vcpu *v);
// The region of the block at pc, as it is without tools and counts, on the workbench: until the
// next is made. NULL: out of memory. translate.c; lock held.
const IrRegion *translate_lift(Machine *m, uint64_t pc, uint32_t mode);
// Where the next code goes, pages for so many bytes there. Lock held.
HostCode translate_room(Machine *m, size_t bytes);
// cache.c. Blocks lie in `meta`, their entries are counted from `code`. NULL: out of memory.
BlockTable *block_table_new(const Meta *meta, const uint8_t *code);
void block_table_free(BlockTable *t);
void block_table_clear(BlockTable *t);
bool block_table_add(BlockTable *t, Block *b);
Block *block_table_find(const BlockTable *t, uint64_t pc, uint32_t mode);
// Blocks in order of their making since the last clear, also those that were removed.
uint32_t block_table_made(const BlockTable *t);
const Block *block_table_nth(const BlockTable *t, uint32_t i);
Block *block_table_find_host(const BlockTable *t, uint64_t host_pc); // async-signal-safe; not those
                                                                     // of images
// Takes every block with code in [lo, hi) out of the table and passes it to fn.
void block_table_remove(BlockTable *t, uint64_t lo, uint64_t hi, void (*fn)(void *ctx, Block *b),
                        void *ctx);
void block_link(Machine *m, HostLink *l, Block *to); // lock held
// A link that leads nowhere leads to this block from now on: by its jump, or, while it counts, by
// HostCount.entry. And what leads to a block leads there no more. Lock held.
void link_lead(Machine *m, HostLink *l, Block *to, bool by_jump);
void link_leave(const Machine *m, HostLink *l, Block *from);
// Forgets the blocks with guest code in [lo, hi). Lock held.
void blocks_drop(Machine *m, uint64_t lo, uint64_t hi);
// NULL: the machine does not count. The last is UINT16_MAX.
static inline const uint16_t *block_count_ends(const Machine *m, const Block *b) {
    return m->count ? (const uint16_t *)block_fixes_end(b) : NULL;
}
// The block whose code is at host_pc, wherever it came from. Async-signal-safe.
typedef struct CodeAt {
    uint64_t pc;
    const uint8_t *entry;
    const HostFault *faults;
    const HostFix *fixes, *fixes_end;
    const uint8_t *traps_from, *cold; // what HostTrap.at and to are counted from
    const HostTrap *traps;
    const uint16_t *count_ends;
    const struct WatchUndo *undo;
    uint32_t n_faults, n_traps, n_undo;
    bool barred; // its entry traps
} CodeAt;
bool image_code_at(const Machine *m, uint64_t host_pc, CodeAt *out); // images.c
// The link that VcpuHot.exit_link stands for; NULL: of a block that is no more. Lock held.
HostLink *link_taken(Machine *m, const void *exit_link);
void images_invalidate(Machine *m, uint64_t lo, uint64_t hi);
// Jumps of images to their barred block there go to this one instead. Lock held.
void images_relink(Machine *m, Block *to);
void images_forget(Machine *m);
void images_pcs(const Machine *m, void (*fn)(void *ctx, uint64_t pc), void *ctx); // of all blocks
void machine_flush(Machine *m, Vcpu *self);                                       // lock held

#endif
