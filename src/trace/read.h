// read.h - the reader of traces between its files: read.c has the chunks and the pieces, notes.c
// what is known besides.
#ifndef DGM_TRACE_READ_H
#define DGM_TRACE_READ_H

#include "dragoman/trace.h"

#include "trace/format.h"

typedef struct Access {
    uint8_t bytes, kind;
    // of the piece that is being read
    uint32_t piece;
    uint64_t last, before, value, high;
} Access;

typedef struct Insn {
    uint64_t address, reads, writes, target;
    const uint8_t *bytes;
    uint32_t classes, first_access;
    uint8_t size, n_accesses;
} Insn;

typedef struct Block {
    uint64_t address;
    uint32_t first_insn, n_insns, follower, follower_piece;
} Block;

// How much of a block was executed, and how many instructions that are not in the trace came after.
typedef struct Part {
    uint32_t block, executed;
    uint64_t unseen;
} Part;

typedef struct Chunk {
    ChunkHeader h;
    size_t at; // of the stored bytes
} Chunk;

typedef struct Stream {
    const uint8_t *at, *end;
} Stream;

typedef struct CallName {
    uint64_t number;
    const char *name;
} CallName;

// What notes say. Texts are in `texts`.
typedef struct Notes {
    dgm_trace_module *modules;
    dgm_trace_symbol *symbols; // by address, once all are read; until then as they come
    CallName *names;
    dgm_trace_event *events; // of threads; by thread and time once `sorted`
    size_t n_modules, cap_modules, n_symbols, cap_symbols, n_names, cap_names, n_events, cap_events;
    char **texts;
    size_t n_texts, cap_texts;
    uint32_t threads;
    int64_t realtime_ns;
    bool sorted;
} Notes;

struct dgm_trace {
    const uint8_t *file;
    size_t bytes;
    FileHeader header;
    const char *guest, *program;
    TraceZstd zstd;
    Chunk *chunks;
    size_t n_chunks, cap_chunks;
    bool truncated;
    uint8_t **code; // unpacked code chunks
    size_t n_code;
    Block *blocks;
    Insn *insns;
    Access *accesses;
    size_t n_blocks, cap_blocks, n_insns, cap_insns, n_accesses, cap_accesses;
    Notes notes;
    bool chosen; // only this thread's pieces
    uint32_t only;
    // the piece that is being read
    size_t next_chunk;
    uint8_t *piece;
    uint32_t piece_number, thread;
    bool in_run;
    Stream which, addresses, values, escapes, calls;
    uint64_t insn, left; // of the thread; instructions of this piece still to come
    Part now;
    uint32_t in_block; // instructions of it that are done
    bool have_block;
    Part ahead; // the one behind that, once known
    bool have_ahead;
    unsigned access; // of the last instruction, still to come
    const Insn *current;
    char error[256];
};

int trace_fail(dgm_trace *t, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
bool trace_grow(void **array, size_t *cap, size_t n, size_t item);
// Its bytes, malloc'ed; NULL with an error.
uint8_t *trace_unpack(dgm_trace *t, const Chunk *c);
bool trace_number(Stream *s, uint64_t *out);
bool trace_read_call(Stream *s, dgm_trace_event *out);

// A chunk of notes: what happened to threads, or all else. 0, or an error.
int trace_notes_read(dgm_trace *t, const Chunk *c, bool events);
// When all are read.
int trace_notes_settle(dgm_trace *t);
void trace_notes_free(Notes *n);

#endif
