// dragoman/tool.h - watch a guest program: count, record, call, at every instruction if need be.
//
// A tool is a struct of functions (dgm_tool). When the translator has a new basic block at hand, it
// shows the block to each tool (dgm_tool.block), and the tool asks for what it wants to happen
// whenever the guest comes by: a counter to go up (dgm_at_count), a record to be written
// (dgm_at_record), a function to be called (dgm_at_call, dgm_at_call_if). That becomes part of the
// translated code. What nobody asks for costs nothing.
//
//     static void block(dgm_watch *w, dgm_block *b) {
//         dgm_at_count(b, 0, *(dgm_counter *)dgm_context(w), dgm_block_insns(b));
//     }
//
// The same struct, exported as `dgm_tool_main` from a shared object, is a tool for
// `dragoman run --tool ./my.so:key=value`; docs/writing-a-tool.md builds one.
//
// Threads: a guest thread is a host thread. Callbacks that are given a dgm_vcpu come on that
// thread, possibly several at once; dgm_tool.block and module come one at a time; so do start and
// finish. Counters and buffers are each thread's own, so they need no locks. A callback may use the
// functions below that take what it was given, and none of dragoman/machine.h.
#ifndef DRAGOMAN_TOOL_H
#define DRAGOMAN_TOOL_H

#include "dragoman/machine.h"

#ifdef __cplusplus
extern "C" {
#endif

#define DGM_TOOL_VERSION 1 // of this interface: dgm_tool.version

typedef struct dgm_watch dgm_watch;   // one attached tool
typedef struct dgm_vcpu dgm_vcpu;     // a guest thread's CPU; valid in callbacks on that thread
typedef struct dgm_block dgm_block;   // a basic block being translated; valid in dgm_tool.block
typedef struct dgm_buffer dgm_buffer; // where records go
typedef uint32_t dgm_counter;         // a 64-bit counter, one for every thread

// ---- what is in a block ----

// What an instruction does; an instruction may have several.
typedef enum dgm_class {
    DGM_CLASS_INT = 1 << 0, // computes with integers (or moves them); also what nothing else fits
    DGM_CLASS_MUL = 1 << 1,
    DGM_CLASS_DIV = 1 << 2,
    DGM_CLASS_FP = 1 << 3,   // scalar floating point
    DGM_CLASS_SIMD = 1 << 4, // vectors
    DGM_CLASS_CRYPTO = 1 << 5,
    DGM_CLASS_LOAD = 1 << 6,
    DGM_CLASS_STORE = 1 << 7,
    DGM_CLASS_ATOMIC = 1 << 8,
    DGM_CLASS_FENCE = 1 << 9,
    DGM_CLASS_JUMP = 1 << 10,     // direct, always taken
    DGM_CLASS_BRANCH = 1 << 11,   // conditional
    DGM_CLASS_INDIRECT = 1 << 12, // jump or call to a register's value
    DGM_CLASS_CALL = 1 << 13,
    DGM_CLASS_RETURN = 1 << 14,
    DGM_CLASS_SYSCALL = 1 << 15,
    DGM_CLASS_SYSTEM = 1 << 16, // traps, and what is answered by the system
    DGM_CLASS_COUNT = 17
} dgm_class;
// The name of class bit i ("load"), or NULL from DGM_CLASS_COUNT on. Any thread.
DGM_API const char *dgm_class_name(unsigned i);

typedef struct dgm_insn {
    uint64_t address;
    const uint8_t *bytes; // guest memory; may change or go later
    uint32_t size;
    uint32_t classes;       // of dgm_class
    uint16_t loads, stores; // memory accesses it makes (a pair makes two; an atomic one of each)
    uint16_t wide_loads, wide_stores; // those of 16 bytes
    uint16_t access_bytes;            // of the largest
    const uint32_t *accesses;         // each of them, in order: info as in dgm_access_fn
    unsigned n_accesses;
    uint64_t target;        // of a direct jump, branch or call; else 0
    uint64_t reads, writes; // integer registers (bit i: register i of dgm_register), as far as the
                            // translation looks at them
} dgm_insn;

// Guest address of the first instruction, how many there are (at least 1), and each of them.
DGM_API uint64_t dgm_block_address(const dgm_block *b);
DGM_API unsigned dgm_block_insns(const dgm_block *b);
DGM_API const dgm_insn *dgm_block_insn(const dgm_block *b, unsigned i);
// One instruction as text, cut to fit; returns its size in bytes, 0 when it has no text. Any
// thread.
DGM_API unsigned dgm_disassemble(dgm_watch *w, const uint8_t *bytes, size_t n, uint64_t address,
                                 char *out, size_t cap);

// What the block that begins at this address became: the host's instructions as text, with all that
// tools have asked for among them; to be freed. NULL: it is not translated (any more), or there is
// no disassembler here. In finish.
DGM_API char *dgm_host_text(dgm_watch *w, uint64_t address);

// ---- what a tool can ask for at instruction `insn` of the block ----
//
// "Before" means: all earlier instructions are done, this one has done nothing. An instruction that
// faults has been counted by nobody, its calls and records have been made.

// A counter that starts at 0 for every thread. UINT32_MAX: there is no more room. In start or
// block.
DGM_API dgm_counter dgm_counter_new(dgm_watch *w);
// n of them, which lie in memory one behind the other: dgm_counter_pointer(v, first) is n words.
DGM_API dgm_counter dgm_counters_new(dgm_watch *w, unsigned n);
DGM_API uint64_t *dgm_counter_pointer(dgm_vcpu *v, dgm_counter first);
// The k-th of those.
static inline dgm_counter dgm_counter_nth(dgm_counter first, unsigned k) {
    return first - k;
}
// The sum over all threads, those that ended included. While threads run it is a moment late.
DGM_API uint64_t dgm_counter_read(dgm_watch *w, dgm_counter c);
// One thread's.
DGM_API uint64_t dgm_counter_of(dgm_vcpu *v, dgm_counter c);
DGM_API void dgm_counter_set(dgm_vcpu *v, dgm_counter c, uint64_t value);

// The counter goes up by n when the instruction is executed. Several for one counter become one
// addition where the block begins.
DGM_API void dgm_at_count(dgm_block *b, unsigned insn, dgm_counter c, uint32_t n);
// The counter goes up by one when the instruction, a branch, is taken.
DGM_API void dgm_at_branch_count(dgm_block *b, unsigned insn, dgm_counter c);
// The counter becomes n before the instruction.
DGM_API void dgm_at_set(dgm_block *b, unsigned insn, dgm_counter c, uint64_t n);

// What a function that is called wants of the guest's registers.
typedef enum dgm_regs {
    DGM_NO_REGS,    // nothing: the cheapest
    DGM_READ_REGS,  // dgm_register_read
    DGM_WRITE_REGS, // and dgm_register_write
} dgm_regs;
typedef void (*dgm_call_fn)(dgm_vcpu *v, void *data);
// fn(v, data) before the instruction.
DGM_API void dgm_at_call(dgm_block *b, unsigned insn, dgm_call_fn fn, dgm_regs regs, void *data);
// The same where the thread's counter c compares so with `value` (DGM_LT ... are unsigned).
typedef enum dgm_compare { DGM_ALWAYS, DGM_EQ, DGM_NE, DGM_LT, DGM_GE, DGM_LE, DGM_GT } dgm_compare;
DGM_API void dgm_at_call_if(dgm_block *b, unsigned insn, dgm_counter c, dgm_compare how,
                            uint64_t value, dgm_call_fn fn, void *data);

// An atomic operation is one access that reads and writes.
typedef enum dgm_access {
    DGM_READ = 1,
    DGM_WRITE = 2,
    DGM_VALUE = 4, // with either: fn may ask dgm_access_value
} dgm_access;
// One access, just made.
typedef void (*dgm_access_fn)(dgm_vcpu *v, uint64_t address, uint32_t info, void *data);
static inline unsigned dgm_access_bytes(uint32_t info) {
    return info & 255;
}
static inline bool dgm_access_writes(uint32_t info) {
    return info >> 8 & 1;
}
static inline bool dgm_access_signed(uint32_t info) {
    return info >> 9 & 1;
}
static inline bool dgm_access_atomic(uint32_t info) {
    return info >> 10 & 1;
}
// fn after each access of the instruction of these kinds; dgm_access_value says what was loaded or
// stored: low and high 64 bits.
DGM_API void dgm_at_access(dgm_block *b, unsigned insn, unsigned kinds, dgm_access_fn fn,
                           dgm_regs regs, void *data);
// The same only for accesses that touch [low, high), or whose value's low 64 bits compare so with
// `value` (DGM_LT ... unsigned). The others cost a comparison.
DGM_API void dgm_at_access_in(dgm_block *b, unsigned insn, unsigned kinds, uint64_t low,
                              uint64_t high, dgm_access_fn fn, dgm_regs regs, void *data);
DGM_API void dgm_at_access_if(dgm_block *b, unsigned insn, unsigned kinds, dgm_compare how,
                              uint64_t value, dgm_access_fn fn, dgm_regs regs, void *data);
DGM_API void dgm_access_value(dgm_vcpu *v, uint64_t *low, uint64_t *high);
// The counter goes up by n for each such access.
DGM_API void dgm_at_access_count(dgm_block *b, unsigned insn, unsigned kinds, dgm_counter c,
                                 uint32_t n);

// ---- records ----

// What a record is made of, in the order that the tool chooses: 64 bits each.
typedef enum dgm_field {
    DGM_F_DATA,    // the constant given with the request
    DGM_F_INSNS,   // instructions that the thread has executed before this one (wants DGM_COUNTS)
    DGM_F_ADDRESS, // of the access; of the instruction, where the record is about no access
    DGM_F_VALUE,   // loaded or stored, zero-extended: its low 64 bits; as DGM_F_INSNS where the
                   // record is about no access
    DGM_F_VALUE_HIGH,
    DGM_F_INFO,   // of the access: as dgm_access_fn's
    DGM_F_TAKEN,  // of a branch: 0 or 1
    DGM_F_TARGET, // where the branch, jump, call or return goes
    DGM_F_RETURN, // where a function that begins here will return to
    DGM_F_STACK,  // the stack pointer
} dgm_field;
enum { DGM_MAX_FIELDS = 8 };
// n records in order, on the thread that made them, or, with DGM_OWN_THREAD, on one that the buffer
// has for this; the guest waits for it when it is behind. `records` may be used until it returns.
typedef void (*dgm_records_fn)(dgm_watch *w, uint32_t thread, const uint64_t *records, size_t n,
                               void *data);
enum { DGM_OWN_THREAD = 1 };
// NULL: no memory, or no more room. In start.
DGM_API dgm_buffer *dgm_buffer_new(dgm_watch *w, const dgm_field *fields, unsigned n_fields,
                                   size_t records, dgm_records_fn fn, unsigned flags, void *data);
// A record before the instruction; one for each of its accesses of these kinds, after it; one when
// it branches (anything with a class from JUMP to RETURN), before it does.
DGM_API void dgm_at_record(dgm_block *b, unsigned insn, dgm_buffer *buffer, uint64_t data);
DGM_API void dgm_at_access_record(dgm_block *b, unsigned insn, unsigned kinds, dgm_buffer *buffer,
                                  uint64_t data);
DGM_API void dgm_at_branch_record(dgm_block *b, unsigned insn, dgm_buffer *buffer, uint64_t data);
// Fewer records for who models something that does not change when what was used last is used
// again, as caches do: for each thread a table of which line (1 << line_shift bytes) was the last
// one used in each of so many sets (a power of two), whether it has been written, and, unless
// page_shift is 0, which page was last. NULL: no room. In start.
typedef struct dgm_filter dgm_filter;
DGM_API dgm_filter *dgm_filter_new(dgm_watch *w, unsigned line_shift, unsigned sets,
                                   unsigned page_shift);
// As dgm_at_access_record, but only for accesses that are not to the last line of its set, are the
// first write to it, or not to the last page; and for all that cross lines or are atomic.
DGM_API void dgm_at_new_access_record(dgm_block *b, unsigned insn, unsigned kinds, dgm_filter *f,
                                      dgm_buffer *buffer, uint64_t data);
// As dgm_at_record, with `address` as DGM_F_ADDRESS, when that is not in the last line or page.
DGM_API void dgm_at_new_record(dgm_block *b, unsigned insn, uint64_t address, dgm_filter *f,
                               dgm_buffer *buffer, uint64_t data);
// What this thread's buffer holds goes to the tool now.
DGM_API void dgm_buffer_flush(dgm_vcpu *v, dgm_buffer *buffer);

// ---- calling contexts ----
//
// Who called whom: for each thread a tree whose nodes are functions as called along one path (main,
// then f from here, then g from there), with what they cost. Translated code follows calls and
// returns; tail calls, longjmp, signal handlers and code without symbols find their place.

typedef struct dgm_call_node {
    struct dgm_call_node *parent, *child, *sibling; // NULL: none. The root has no parent
    uint64_t low, high; // the function: [low, high), high is low + 1 when no symbol says
    uint64_t calls;     // how often it was called
    uint64_t self;      // instructions executed in it, without what it called
    uint64_t back;      // where it returns to
    uint64_t site;      // an address in the instruction that called it; 0: the root
} dgm_call_node;
typedef struct dgm_call_tree dgm_call_tree;
// NULL: no memory, or no more room. In start.
DGM_API dgm_call_tree *dgm_call_tree_new(dgm_watch *w);
// The block's part in it: for every block that the tool is shown.
DGM_API void dgm_follow_calls(dgm_block *b, dgm_call_tree *c);
// The root of a thread's tree, which holds what was executed outside of known functions; NULL: no
// such thread. Recursion through the same call goes back to the node that it came from, so that
// trees stay small. While the thread runs, read it only in callbacks on that thread; the tree is
// valid until the machine is freed.
DGM_API const dgm_call_node *dgm_call_tree_root(dgm_call_tree *c, uint32_t thread);
// Where the thread is, and its tree is up to date. In callbacks that may read registers, and
// events.
DGM_API const dgm_call_node *dgm_call_now(dgm_vcpu *v, dgm_call_tree *c);

// ---- a thread's CPU, in callbacks ----

DGM_API uint32_t dgm_vcpu_thread(dgm_vcpu *v); // 0, 1, 2... in the order of their start
DGM_API uint32_t dgm_vcpu_tid(dgm_vcpu *v);    // as Linux names it
DGM_API uint64_t dgm_vcpu_insns(dgm_vcpu *v);  // executed so far (wants DGM_COUNTS)
DGM_API uint64_t dgm_vcpu_pc(dgm_vcpu *v);     // in calls with DGM_READ_REGS, and in events
// Calls dgm_tool.reached on this thread when n more instructions are done (n >= 1; 0: never). Wants
// DGM_STOPS; only in thread_start, reached, syscall, syscall_done and forked.
DGM_API void dgm_stop_after(dgm_watch *w, dgm_vcpu *v, uint64_t n);

typedef struct dgm_register {
    const char *name;
    unsigned bytes;
    int gdb; // register number for debuggers, -1: none
} dgm_register;
// Register i of the guest, or NULL behind the last.
DGM_API const dgm_register *dgm_register_at(dgm_watch *w, unsigned i);
DGM_API int dgm_register_read(dgm_vcpu *v, unsigned i, void *out);
DGM_API int dgm_register_write(dgm_vcpu *v, unsigned i, const void *in);
// Guest memory; -EFAULT when not all of it is there.
DGM_API int dgm_memory_read(dgm_vcpu *v, uint64_t address, void *out, size_t n);
DGM_API int dgm_memory_write(dgm_vcpu *v, uint64_t address, const void *in, size_t n);

// ---- modules and symbols ----

typedef struct dgm_module {
    const char *path; // as the guest names it
    const char *host_path;
    uint64_t low, high; // the addresses it was loaded at
    uint64_t bias;      // address = bias + the file's virtual address
} dgm_module;
typedef struct dgm_symbol {
    const char *name;   // valid until the machine is freed
    const char *module; // path
    uint64_t address, bytes;
} dgm_symbol;
// The module at this address; NULL: none. Valid until the machine is freed. Any thread.
DGM_API const dgm_module *dgm_module_at(dgm_watch *w, uint64_t address);
// The function at this address; false when its module has none there. Any thread.
DGM_API bool dgm_symbol_at(dgm_watch *w, uint64_t address, dgm_symbol *out);
// Where the module's debug information says that it comes from; the file's name lives as long as
// the machine. False when it does not say. Any thread.
DGM_API bool dgm_line_at(dgm_watch *w, uint64_t address, const char **file, unsigned *line);

// ---- system calls ----

typedef struct dgm_syscall {
    const char *name; // NULL: no such call
    uint64_t number;
    uint64_t args[6]; // before: may be changed
    int64_t result;   // after: may be changed; negative: -errno
    bool again;       // after: a signal came before it did anything, it will be made again (-EINTR)
    uint64_t start_ns; // CLOCK_MONOTONIC when it began
} dgm_syscall;
// The call as strace prints it, without its result; cut to fit.
DGM_API void dgm_syscall_text(dgm_vcpu *v, const dgm_syscall *call, char *out, size_t cap);

typedef struct dgm_signal {
    int number, code; // as in siginfo_t: si_signo, si_code
    uint64_t address; // of a fault; else 0
    uint32_t pid;     // who sent it; 0: nobody
} dgm_signal;

// All that is translated is forgotten, and dgm_tool.block is asked again: what tools want has
// changed. Code that runs goes on as it is until its next jump or so. In any callback; any thread.
DGM_API void dgm_retranslate(dgm_watch *w);

// Whether the tool is shown code from now on; the counts that it asked for stop where it is not. In
// any callback; any thread. Every tool also has the options range=LO-HI (hexadecimal), module=NAME,
// symbol=FUNCTION (only code there), from=FUNCTION, to=FUNCTION (on and off where these begin),
// marks (on and off at the program's own, see dragoman/mark.h), after=N (on when a thread has
// executed so many) and only-thread=N (that thread's code and events only).
DGM_API void dgm_enable(dgm_watch *w, bool on);
// Whether such an option was given: it sees only a part, and counts of all instructions are not
// its.
DGM_API bool dgm_filtered(const dgm_watch *w);

// ---- a tool ----

enum dgm_needs {
    DGM_COUNTS = 1,    // exact instruction counts: dgm_vcpu_insns, DGM_F_INSNS, dgm_stop_after
    DGM_STOPS = 2,     // ... and dgm_stop_after
    DGM_CALLS = 4,     // very many calls of functions: fewer guest registers stay in host registers
    DGM_NO_FLOATS = 8, // a promise: what dgm_at_call and dgm_at_access call does not compute with
                       // floating point. When all tools give it calls cost half
};

typedef struct dgm_tool {
    uint32_t version; // DGM_TOOL_VERSION
    const char *name, *summary;
    const char *const *options; // "KEY=VALUE what it means", NULL-terminated; NULL: none
    // Called once before the program is loaded, with the options read by dgm_option(). 0, or a
    // negative errno after dgm_fail().
    int (*start)(dgm_watch *w);
    // All below may be NULL. A new basic block: straight code with one entry; it ends at its first
    // branch (also one not taken), at what the system answers, or at the end of a page.
    void (*block)(dgm_watch *w, dgm_block *b);
    void (*thread_start)(dgm_watch *w, dgm_vcpu *v);
    void (*thread_end)(dgm_watch *w, dgm_vcpu *v);
    void (*module)(dgm_watch *w, const dgm_module *m);      // loaded
    void (*module_gone)(dgm_watch *w, const dgm_module *m); // something else is there, or nothing
    bool (*syscall)(dgm_watch *w, dgm_vcpu *v, dgm_syscall *s); // before; true: not to be made
    void (*syscall_done)(dgm_watch *w, dgm_vcpu *v, dgm_syscall *s);
    // Its handler is about to run, or it kills, or it would be ignored.
    void (*signal)(dgm_watch *w, dgm_vcpu *v, const dgm_signal *s);
    void (*reached)(dgm_watch *w, dgm_vcpu *v); // dgm_stop_after
    void (*forked)(dgm_watch *w, dgm_vcpu *v);  // in the child, whose counters are 0
    // execve of a program (path as the guest names it): this one is about to be gone, unless that
    // fails yet; finish comes next.
    void (*exec)(dgm_watch *w, dgm_vcpu *v, const char *path, char *const *argv);
    // The program has ended, replaces itself (exec), or the user wants to see what there is
    // (`last` is false: it goes on).
    void (*finish)(dgm_watch *w, bool last);
    void (*free)(dgm_watch *w); // release what dgm_context() points at
} dgm_tool;

// Attaches a tool before dgm_machine_load. options: "key=value,key=value" or NULL. The struct must
// live as long as the machine. 0 or -errno.
DGM_API int dgm_machine_attach(dgm_machine *m, const dgm_tool *tool, const char *options);

// The tool's own data.
DGM_API void dgm_set_context(dgm_watch *w, void *context);
DGM_API void *dgm_context(const dgm_watch *w);
// The value of an option; NULL: not given. "" when it was given without one. In start: options that
// start does not ask for are errors.
DGM_API const char *dgm_option(dgm_watch *w, const char *key);
// The same for the name of a file: absolute, for the program may go to another directory.
DGM_API const char *dgm_option_path(dgm_watch *w, const char *key);
// The i-th option that was given, or NULL behind the last.
DGM_API const char *dgm_option_at(dgm_watch *w, unsigned i, const char **value);
// An option's value as a number (K, M, G for 1000s); `otherwise` when it is not given. A value that
// is no number between lo and hi makes start fail.
DGM_API uint64_t dgm_option_number(dgm_watch *w, const char *key, uint64_t otherwise, uint64_t lo,
                                   uint64_t hi);
DGM_API void dgm_want(dgm_watch *w, unsigned needs); // of dgm_needs; in start
DGM_API int dgm_fail(dgm_watch *w, int error, const char *format, ...)
    __attribute__((format(printf, 3, 4))); // returns error
// The name of the guest CPU architecture ("aarch64"); its program's path and arguments.
DGM_API const char *dgm_watch_guest(const dgm_watch *w);
DGM_API const char *dgm_watch_program(const dgm_watch *w);

#ifdef __cplusplus
}
#endif

#endif
