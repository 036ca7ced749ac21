// trace_notes.h - what the `trace` tool writes besides instructions and accesses, for its users'
// sake: modules, functions, names of system calls, and what happened to threads. Notes are gathered
// here until a chunk is written; whoever calls holds the tool's lock.
#ifndef DGM_TOOLS_TRACE_NOTES_H
#define DGM_TOOLS_TRACE_NOTES_H

#include "tools/tools.h"

#include "trace/format.h"

typedef struct Notes {
    uint8_t *data;
    size_t bytes, cap;
    uint64_t count;
    bool failed; // out of memory
    // what has been said
    Map symbols; // address: the name's pointer
    Map calls;   // number + 1: anything
    const dgm_module **modules;
    size_t n_modules, cap_modules;
} Notes;

// A new file: what is known of before, and what time it is.
void notes_begin(Notes *n);
// In a forked child: all that was not written is the parent's.
void notes_forget(Notes *n);
void notes_free(Notes *n);
// What is to be written now; valid until the next note.
const uint8_t *notes_take(Notes *n, size_t *bytes, uint64_t *count);

void notes_module(Notes *n, const dgm_module *m);
// The functions that the block is of.
void notes_symbols(Notes *n, dgm_watch *w, const dgm_block *b);
void notes_call_name(Notes *n, const dgm_syscall *s);
// About a thread, now or at another time.
void notes_event(Notes *n, unsigned kind, uint32_t thread, uint64_t insn, const uint64_t *numbers,
                 unsigned n_numbers, const char *text);
void notes_event_at(Notes *n, unsigned kind, uint32_t thread, uint64_t insn, uint64_t ns,
                    const uint64_t *numbers, unsigned n_numbers, const char *text);

#endif
