// dragoman/trace.h - reading traces that `--tool trace` has written: every instruction, every
// memory access with its value, every system call.
//
//     char err[256];
//     dgm_trace *t = dgm_trace_open("ls.dgt", err, sizeof err);
//     dgm_trace_record r;
//     while (t && dgm_trace_next(t, &r) > 0)
//         if (r.kind == DGM_TRACE_INSN) printf("%llx\n", (unsigned long long)r.address);
//     dgm_trace_close(t);
//
// The format is described in docs/tools/trace.md. A trace has the records of each thread in order,
// thread by thread in pieces: between pieces the reader goes from one thread to another. A file
// that ends too early (a full disk, a killed program) is read up to the cut. Files are not trusted:
// whatever they hold, the reader returns records or an error.
//
// Threads: one reader, one thread. Memory stays the reader's.
#ifndef DRAGOMAN_TRACE_H
#define DRAGOMAN_TRACE_H

#include "dragoman/machine.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct dgm_trace dgm_trace;

typedef enum dgm_trace_kind {
    DGM_TRACE_INSN, // executed; its accesses follow
    DGM_TRACE_READ, // by the instruction before
    DGM_TRACE_WRITE,
    DGM_TRACE_SYSCALL, // made: `value` is its result
} dgm_trace_kind;

typedef struct dgm_trace_record {
    dgm_trace_kind kind;
    uint32_t thread;      // 0, 1...
    uint64_t insn;        // which of the thread's instructions, from 0
    uint64_t address;     // of the instruction; of the access
    uint32_t size;        // bytes
    uint64_t value, high; // READ, WRITE: as loaded or stored, zero-extended (if has_value)
    bool has_value;
    bool atomic; // the access reads and writes: one record, a WRITE
    // INSN only
    const uint8_t *bytes;   // of the instruction
    uint32_t classes;       // dgm_class bits
    uint64_t reads, writes; // registers, see dgm_insn
    uint64_t target;        // of a direct branch
    bool taken;             // a branch: execution went elsewhere than behind it
    uint64_t next; // address of the thread's next instruction; 0: not known (end of a piece, or
                   // what came next was not traced)
    // SYSCALL only
    uint64_t number, args[6], start_ns, end_ns;
} dgm_trace_record;

typedef struct dgm_trace_info {
    const char *guest, *program; // "aarch64"; the program's path
    uint32_t threads;            // those that are known have smaller numbers
    uint32_t pid;
    int64_t realtime_ns; // CLOCK_REALTIME is CLOCK_MONOTONIC and this; 0: not known
    uint64_t insns, accesses, syscalls, file_bytes;
    bool truncated; // the file ends too early
    bool values;
} dgm_trace_info;

// NULL with a message.
DGM_API dgm_trace *dgm_trace_open(const char *path, char *error, size_t cap);
// 1: *out is the next record; 0: there is none; -EBADMSG: the file is damaged here; the next call
// goes on behind that.
DGM_API int dgm_trace_next(dgm_trace *t, dgm_trace_record *out);
// Goes on with this thread's piece that holds its n-th instruction, at that instruction. 0, or
// -ENOENT.
DGM_API int dgm_trace_seek(dgm_trace *t, uint32_t thread, uint64_t n);
// Reads the whole file's headers.
DGM_API int dgm_trace_get_info(dgm_trace *t, dgm_trace_info *out);
// From the beginning, but only this thread's records; nothing else is unpacked.
DGM_API void dgm_trace_choose(dgm_trace *t, uint32_t thread);
DGM_API const char *dgm_trace_error(const dgm_trace *t);
DGM_API void dgm_trace_close(dgm_trace *t);

// ---- what a trace knows besides; traces of older versions know less ----

typedef struct dgm_trace_module {
    const char *path;   // as the guest names it
    uint64_t low, high; // the addresses it was loaded at
    uint64_t bias;      // address = bias + the file's virtual address
} dgm_trace_module;
// The i-th, in the order in which they were loaded; NULL behind the last.
DGM_API const dgm_trace_module *dgm_trace_module_nth(const dgm_trace *t, size_t i);
// The one at this address, the one loaded last if there were several; NULL: none.
DGM_API const dgm_trace_module *dgm_trace_module_at(const dgm_trace *t, uint64_t address);

typedef struct dgm_trace_symbol {
    const char *name;
    uint64_t address, bytes; // bytes 0: the file does not say how long it is
} dgm_trace_symbol;
// The function at this address. Only those are in the trace of which code was executed. Where code
// was replaced by other code, the later. False: none is known.
DGM_API bool dgm_trace_symbol_at(const dgm_trace *t, uint64_t address, dgm_trace_symbol *out);

// "openat". NULL: it was not called, or has no name.
DGM_API const char *dgm_trace_syscall_name(const dgm_trace *t, uint64_t number);

typedef enum dgm_trace_event_kind {
    DGM_TRACE_BEGIN,  // the thread begins; number: its id, as Linux names it
    DGM_TRACE_END,    // it has ended; text: its name
    DGM_TRACE_SIGNAL, // number; a handler begins with the next instruction, if that is not at
                      // `address`, where the program was
    DGM_TRACE_CALL,   // a system call
    DGM_TRACE_LEFT,   // one that did not return: the thread ended, or went on elsewhere
                      // (rt_sigreturn), or the call was begun anew after a signal
    DGM_TRACE_TIME,   // it is start_ns now
} dgm_trace_event_kind;
typedef struct dgm_trace_event {
    dgm_trace_event_kind kind;
    uint32_t thread;
    uint64_t insn;             // instructions that the thread had executed before
    uint64_t start_ns, end_ns; // CLOCK_MONOTONIC; they differ for CALL only
    uint64_t number, args[6];  // of the system call, as far as kind says
    int64_t result;            // of CALL
    uint64_t address;
    const char *text;
} dgm_trace_event;
// All that happened to a thread, in order: the system calls of dgm_trace_next, and more. They stay
// until the trace is closed. 0; -EBADMSG, -ENOMEM.
DGM_API int dgm_trace_events(dgm_trace *t, uint32_t thread, const dgm_trace_event **out, size_t *n);

#ifdef __cplusplus
}
#endif

#endif
