// format.h - the trace file, for its writer (src/tools/trace.c) and its reader (read.c).
//
// A file is a FileHeader, two NUL-terminated strings (guest, program), then chunks to its end. A
// chunk is a ChunkHeader and `stored` bytes, a zstd frame of `bytes` bytes. Numbers are
// little-endian; what is called a number in a stream is a LEB128 varint, signed ones are zigzag.
//
// CHUNK_CODE: blocks, in the order of their ids from `first` on: address, number of instructions,
// then for each: size in bytes, its bytes, classes, reads, writes, target, number of accesses; for
// each access (see info below) its size and kind.
//
// CHUNK_RUN: a piece of one thread's execution, from its instruction `first` on, `count`
// instructions. Four streams, whose lengths are the first four numbers: which blocks, addresses,
// values, and escapes.
//   blocks: 0: the block that followed the last one (in this piece) the last time; 1: one that is
//   left
//           half-way, the escapes have the number of its instructions that were executed and the
//           block comes next; n + 2: block n.
//   addresses: for each access, what it differs by from what its last two (in this piece) foretell:
//           last + (last - the one before).
//   values: for each access the exclusive or with its last in this piece; 16-byte ones two numbers.
// So a piece can be read without those before it, but for code chunks.
//
// An escape that is the block's whole number of instructions has two more behind it: how many of
// the block's were executed, and how many of other code, which the tool was not shown, came after.
//
// CHUNK_CALLS: system calls of a thread: instruction, number, six arguments, signed result, start,
// end.
//
// CHUNK_NOTES: what is known besides: `count` notes, each its kind, how many bytes follow, and
// those: numbers, and for some a text that goes to the note's end. Thread, instruction and time
// (CLOCK_MONOTONIC, in nanoseconds) begin those that are about a thread.
//
// A reader skips kinds of chunks and notes that it does not know.
#ifndef DGM_TRACE_FORMAT_H
#define DGM_TRACE_FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TRACE_MAGIC "DGMTRACE"
enum { TRACE_VERSION = 1, TRACE_VALUES = 1 };

typedef struct FileHeader {
    char magic[8];
    uint32_t version, flags, strings_bytes, pid;
} FileHeader;

enum { CHUNK_CODE = 1, CHUNK_RUN, CHUNK_CALLS, CHUNK_NOTES };
typedef struct ChunkHeader {
    uint32_t kind, thread;
    uint64_t first, count;
    uint32_t bytes, stored;
    uint64_t accesses;
    uint64_t check; // of the header without this, and the stored bytes
} ChunkHeader;

enum {
    NOTE_CLOCK = 1, // CLOCK_MONOTONIC, CLOCK_REALTIME at the same moment
    NOTE_MODULE,    // low, high, bias, path
    NOTE_SYMBOL,    // address, bytes, name: a function of which code was translated
    NOTE_CALL_NAME, // number, name: of a system call
    // about a thread
    NOTE_BEGIN,  // thread id
    NOTE_END,    // name
    NOTE_SIGNAL, // number, where the program was
    NOTE_LEFT,   // number, six arguments: a system call that did not return
    NOTE_TIME,
};

enum { TRACE_MAX_THREADS = 4096 };
enum { MAX_CHUNK_BYTES = 64 << 20, MAX_BLOCK_INSNS = 4096, MAX_INSN_ACCESSES = 64 };

// An access: bytes | kind << 8, kind 0 read, 1 write, 2 both.
enum { ACCESS_READ, ACCESS_WRITE, ACCESS_BOTH };

uint64_t trace_check(const ChunkHeader *h, const void *stored);

static inline uint64_t zigzag(int64_t n) {
    return (uint64_t)n << 1 ^ (uint64_t)(n >> 63);
}
static inline int64_t unzigzag(uint64_t n) {
    return (int64_t)(n >> 1) ^ -(int64_t)(n & 1);
}
enum { MAX_NUMBER_BYTES = 10 };
static inline uint8_t *put_number(uint8_t *at, uint64_t n) {
    while (n > 127) {
        *at++ = (uint8_t)(n | 128);
        n >>= 7;
    }
    *at++ = (uint8_t)n;
    return at;
}
// NULL: the stream ends in it, or it has too many bits.
static inline const uint8_t *get_number(const uint8_t *at, const uint8_t *end, uint64_t *out) {
    uint64_t n = 0;
    for (unsigned shift = 0; at < end && shift < 64; shift += 7) {
        uint8_t b = *at++;
        n |= (uint64_t)(b & 127) << shift;
        if (!(b & 128)) {
            *out = n;
            return at;
        }
    }
    return NULL;
}

// zstd, loaded when it is first needed.
typedef struct TraceZstd {
    void *library;
    size_t (*bound)(size_t);
    size_t (*compress)(void *, size_t, const void *, size_t, int);
    size_t (*decompress)(void *, size_t, const void *, size_t);
    unsigned (*is_error)(size_t);
} TraceZstd;
bool trace_zstd(TraceZstd *z);
void trace_zstd_close(TraceZstd *z);

#endif
