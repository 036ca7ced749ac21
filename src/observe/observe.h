// observe.h - what the attached tools asked for, and how it becomes IR.
//
// The engine lifts a region; observe_region() shows its segments to the tools as basic blocks
// (plan.c), and where they ask for something writes a new region with that woven in (weave.c).
// Records go through buffers (buffer.c). The public functions of dragoman/tool.h that need no more
// than this are here; the others are in src/watch.c.
//
// Ownership: a Watches belongs to a dgm_machine and outlives its Machine; it is made before,
// because tools say what they need before code is translated. Plans live on `work` until the next
// region; helpers and buffers on `keep` as long as the Watches.
//
// Threads: observe_region() runs with the machine's lock held. Slots and a thread's place in a
// buffer are touched by its own thread only.
#ifndef DGM_OBSERVE_H
#define DGM_OBSERVE_H

#include "base/base.h"
#include "dragoman/tool.h"
#include "engine/vcpu.h"
#include "guest/guest.h"

#include <pthread.h>
#include <stdatomic.h>

// A dgm_vcpu is the `state` pointer of a vCPU.
static inline VcpuHot *hot_of(dgm_vcpu *v) {
    return vcpu_hot(v);
}

// Slots that are always there, see vcpu_slot().
enum {
    SLOT_THREAD, // dgm_vcpu_thread
    SLOT_TID,
    SLOT_AHEAD, // IR_count has announced so many more than are done, where a tool is called
    SLOT_VALUE, // dgm_access_value, low
    SLOT_VALUE_HIGH,
    SLOT_ADDRESS, // of the access that a conditional call is about
    FIRST_FREE_SLOT,
    WATCH_SLOTS = 1 << 22, // of a vCPU; memory is only taken by those in use
};
#define WATCH_SLOT_BYTES ((size_t)WATCH_SLOTS * 8)

typedef struct Watches Watches;

struct dgm_watch {
    const dgm_tool *tool;
    Watches *ws;
    dgm_watch *next;
    void *context;
    char *options; // "key\0value\0..."; n_options pairs
    const char *keys[32], *values[32];
    bool asked[32];
    unsigned n_options;
    // Which code it is shown: the options that every tool has (filter.c).
    uint64_t low, high; // addresses; high 0: all
    const char *module, *symbol, *from,
        *to;             // NULL: any; functions where it begins and ends to look
    bool marks;          // between a program's own marks
    int64_t thread;      // of this thread only; -1: of all
    uint32_t thread_bit; // ... in VcpuHot.unwatched; 0: of all
    uint64_t after;      // instructions of a thread before it does
    uint32_t after_slot; // ... as stop_slot
    _Atomic bool off;
    bool no_floats;     // DGM_NO_FLOATS
    uint32_t stop_slot; // instruction count at which `reached` is called; 0: never
};

struct Watches {
    const Guest *guest;
    void *machine; // the engine's, when it is there
    DgmErr err;
    dgm_watch *first, **last;
    unsigned needs; // dgm_needs, of all tools
    unsigned n_thread_bits;
    bool floats; // not all that put calls into code have promised DGM_NO_FLOATS
    _Atomic uint32_t n_slots;
    _Atomic uint32_t n_threads; // that ever started
    const char *program;
    Arena keep, work;
    IrRegion woven, alone;
    Arena woven_arena, alone_arena;
    struct WatchClass { // what instructions compute, by a hash of their bytes
        uint32_t word, size, classes;
    } classes[1 << 12];
    struct WatchHelper *helpers;
    dgm_buffer *buffers;
    dgm_call_tree *contexts;
    // under `lock`
    pthread_mutex_t lock;
    struct WatchThread *threads; // that run
    uint64_t *gone;              // sums of those that ended, by slot
    struct WatchModule *modules;
    dgm_register *registers; // of the guest, ends with a NULL name
    void (*syscall_text)(dgm_vcpu *v, const dgm_syscall *call, char *out,
                         size_t cap); // the personality's
    _Atomic bool stale;               // dgm_retranslate: the engine has still to forget
    bool wants_blocks, wants_syscalls, started, finished;
};

// Whether they ask for anything in translated code.
static inline bool watches_code(const Watches *ws) {
    return ws && (ws->wants_blocks || ws->needs);
}

// ---- events.c: what the floors above tell the tools ----

Watches *watches_new(void);
void watches_free(Watches *ws);
// Attaches and starts a tool; 0 or -errno with ws->err.
int watches_attach(Watches *ws, const dgm_tool *tool, const char *options);
// The guest is known. Calls every tool's start. 0 or -errno with ws->err.
int watches_start(Watches *ws, const Guest *guest, const char *program);

bool observe_thread_start(Watches *ws, dgm_vcpu *v, uint32_t tid); // false: out of memory
void observe_thread_end(Watches *ws, dgm_vcpu *v);
bool observe_syscall(Watches *ws, dgm_vcpu *v, dgm_syscall *s); // true: it has its result
void observe_syscall_done(Watches *ws, dgm_vcpu *v, dgm_syscall *s);
void observe_signal(Watches *ws, dgm_vcpu *v, const dgm_signal *s);
void observe_exec(Watches *ws, dgm_vcpu *v, const char *path, char *const *argv);
void observe_forked(Watches *ws, dgm_vcpu *v, uint32_t tid);
// The results are wanted. v: the thread that asks, or NULL when all have ended.
void observe_finish(Watches *ws, dgm_vcpu *v, bool last);
// The vCPU's budget until the next dgm_stop_after comes true; calls those that have.
void observe_arm(Watches *ws, dgm_vcpu *v);
void observe_reached(Watches *ws, dgm_vcpu *v);

// ---- filter.c ----

// Reads the options that every tool has. 0 or -errno with ws->err.
int filter_start(dgm_watch *w);
// Shows the block to the tool if it is to see it.
void filter_show(dgm_watch *w, dgm_block *b);
void filter_reached(dgm_watch *w, dgm_vcpu *v); // `after` has come
void filter_thread(Watches *ws, VcpuHot *hot);  // a thread begins
// Whether the tool is told what happens to this thread.
static inline bool filter_tells(const dgm_watch *w, dgm_vcpu *v) {
    return !(w->thread_bit & hot_of(v)->unwatched);
}

// ---- symbols.c ----

// [low, high) is mapped from `offset` on of the file at host_path. Paths are copied.
void observe_module(Watches *ws, const char *path, const char *host_path, uint64_t low,
                    uint64_t high, uint64_t offset);
// Nothing of what was mapped there is there any more.
void observe_unmapped(Watches *ws, uint64_t low, uint64_t high);
void modules_free(Watches *ws);
// Takes back what was counted for instructions from `off` on that were not executed.
struct WatchUndo;
void observe_undo(VcpuHot *hot, const struct WatchUndo *undo, uint32_t n, uint32_t off);

// ---- plan.c ----

typedef enum RequestKind {
    ASK_COUNT,
    ASK_SET,
    ASK_CALL,
    ASK_CALL_IF,
    ASK_ACCESS_IN, // a call where the access touches [address, n)
    ASK_ACCESS_IF, // ... where its value compares so with n
    ASK_RECORD,
    ASK_TAKEN,
    ASK_ENTER,    // a function begins: data is its Callee
    ASK_LEAVE,    // it returns
    ASK_PUSH,     // it is called, and will not say so itself
    ASK_INDIRECT, // somebody is called
    ASK_JUMP,     // from one function to where another begins
} RequestKind;
typedef enum RequestWhen { BEFORE_INSN, AFTER_ACCESS, AT_BRANCH } RequestWhen;
typedef struct Request {
    uint16_t insn;
    uint8_t kind, when, access, regs, compare;
    uint32_t counter;
    uint64_t n; // how much, value to compare with, data of the record
    void (*fn)(void);
    void *data;
    dgm_buffer *buffer;
    dgm_filter *filter; // of a record; NULL: all
    dgm_call_tree *contexts;
    uint64_t address; // ... that is about no access
    struct Request *next;
} Request;

struct dgm_filter {
    unsigned line_shift, sets, page_shift;
    uint32_t first, page; // slots: of the table (its first word), of the page
};

struct dgm_block { // one segment of a region
    Watches *ws;
    uint64_t address;
    dgm_insn *insns;
    unsigned n_insns;
    uint32_t start, end; // of its IR
    Request *first, **last;
    const dgm_block *of; // in a further round of a loop: that of the first, which tools are shown
    bool failed;
    dgm_block *next;
};

// What dgm_access_fn says of an access.
uint32_t access_info(const IrInst *in);
// The region's segments, each with what it is made of. NULL: out of memory.
dgm_block *plan_blocks(Watches *ws, const IrRegion *r, const GuestLift *how);

void plan_ask(dgm_block *b, unsigned insn, Request what);

// ---- context.c ----

// A place in translated code where calls are followed; on `keep`.
typedef struct CallSite {
    dgm_call_tree *contexts;
    uint64_t low, high; // ASK_ENTER, ASK_PUSH: the function
    uint64_t back;      // ASK_PUSH, ASK_INDIRECT: where it will return to; ASK_JUMP: whose it is
    uint64_t ahead;     // see SLOT_AHEAD
} CallSite;
typedef struct ContextFrame {
    uint64_t back, sp; // where it returns to; the stack pointer when it began
    dgm_call_node *node;
    uint64_t unused;
} ContextFrame;
// An edge of the tree that was used lately, by a hash of what it is; see context_hash().
typedef struct ContextEdge {
    dgm_call_node *from;
    uint64_t back, low;
    dgm_call_node *to;
} ContextEdge;
enum {
    CONTEXT_EDGES = 1 << 13,
    CONTEXT_TARGETS = 1 << 12,
};
// Slots of a dgm_call_tree.
enum {
    CONTEXT_THREAD,
    CONTEXT_TOP,   // frame
    CONTEXT_LIMIT, // the last that it may be
    CONTEXT_EDGE_TABLE,
    CONTEXT_TARGET_TABLE, // functions that say themselves that they begin, by a hash
    CONTEXT_LAST,         // instructions charged so far
    CONTEXT_WHERE_TO,     // where a return or call goes
    CONTEXT_SLOTS
};
struct dgm_call_tree {
    Watches *ws;
    dgm_call_tree *next;
    uint32_t slot;
    struct ContextThread *threads; // all that ever started; under `lock`
    pthread_mutex_t lock;
    struct ContextCallees *callees; // that have no symbol
};
// Offset in the tables, in bytes; weave.c emits the same.
static inline uint64_t context_hash(uint64_t node, uint64_t back, uint64_t low) {
    return ((node >> 1) ^ (back << 3) ^ (low << 3)) & (CONTEXT_EDGES - 1) * sizeof(ContextEdge);
}
static inline uint64_t context_target_hash(uint64_t target) {
    return target << 1 & (CONTEXT_TARGETS - 1) * sizeof(uint64_t);
}
bool contexts_open(Watches *ws, VcpuHot *hot);
void contexts_close(Watches *ws, VcpuHot *hot);
void contexts_signal(Watches *ws, VcpuHot *hot); // a handler is about to run
void contexts_settle(Watches *ws, VcpuHot *hot); // trees are up to date
void contexts_forked(Watches *ws, VcpuHot *hot);
bool contexts_own(const Watches *ws, uint32_t slot); // it is no counter
void contexts_free(Watches *ws);
// Called by translated code where what it expected is not so: each makes it so. They find CallSite.
void context_enter(void *state, uint64_t site);
void context_leave(void *state, uint64_t site);
void context_push(void *state, uint64_t site);
void context_indirect(void *state, uint64_t site);

// ---- weave.c ----

// What a block's counters get back when it is left half-way: n of `counter` for an instruction at
// `insn` or behind it, in the segment that begins at `segment` (offsets in bytes of guest code).
typedef struct WatchUndo {
    uint16_t insn, segment;
    uint32_t counter, n;
} WatchUndo;

typedef struct Observed {
    const IrRegion *region; // what to compile
    WatchUndo *undo;        // on `work`
    uint32_t n_undo;
    unsigned
        cut;    // not 0: lift again, so many instructions at most: a tool may write registers there
    bool asked; // somebody wants something here
    bool once;  // lift again, and not unrolled: that pays for counts only, and nobody may look at
                // these in between
} Observed;
// Shows the region to the tools. False when out of memory.
bool observe_region(Watches *ws, IrRegion *r, const GuestLift *how, bool counting, Observed *out);

// ---- buffer.c ----

struct dgm_buffer {
    dgm_watch *w;
    dgm_buffer *next;
    uint8_t fields[DGM_MAX_FIELDS];
    unsigned n_fields, flags;
    uint32_t slot; // of the write position; the next is the limit, then the start
    size_t bytes, chunk_bytes;
    dgm_records_fn fn;
    void *data;
    struct BufferThread *own; // DGM_OWN_THREAD
};
enum { SEGMENT_RECORDS = 2048 }; // for so many there is room behind the limit
enum { BUFFER_AT, BUFFER_LIMIT, BUFFER_START, BUFFER_SLOTS };

// A thread begins, ends. False: out of memory.
bool buffers_open(Watches *ws, VcpuHot *hot);
void buffers_drain(Watches *ws, VcpuHot *hot);
void buffers_close(Watches *ws, VcpuHot *hot);
// Waits until the tools have seen all that was handed over.
void buffers_settle(Watches *ws);
// In the child of a fork: what was collected is the parent's.
void buffers_forked(Watches *ws, VcpuHot *hot);
void buffers_free(Watches *ws);
void buffer_full(void *state, uint64_t buffer); // called by translated code

#endif
