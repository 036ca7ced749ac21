// persist_file.h - one file of kept translations, and the directory that they lie in.
//
// A file: CacheHead, then segments, each a SegHead, an index (an open hash of guest pc to record)
// and records. A record is a group of blocks that were made one after the other. A save appends a
// segment; the file is written anew, with one segment, when there are too many. Heads and indexes
// are read into memory and checked, records through a mapping, each with a checksum of its own.
// What does not check ends the file: a crash while writing, a full disk and two writers leave at
// worst an end that is overwritten next time.
//
// Thread-safety: a CacheFile belongs to one thread at a time; processes are kept apart by flock().
#ifndef DGM_ENGINE_PERSIST_FILE_H
#define DGM_ENGINE_PERSIST_FILE_H

#include "base/base.h"
#include "host/host.h"

// What the translations in a file depend on. A file's name is this, hashed.
typedef struct CacheKey {
    uint8_t dragoman[32]; // build-id of this build
    uint8_t file[32];     // identity of the guest's file
    uint64_t lo;          // where it is mapped
    uint64_t host;        // Host.identity
    uint64_t guest;       // guest CPU, its features, how blocks are made
} CacheKey;

enum { CACHE_NAME_BYTES = 256 };
typedef struct CacheHead {
    char magic[8];
    CacheKey key;
    char name[CACHE_NAME_BYTES]; // the guest file, for people
    uint64_t sum;                // of all before
} CacheHead;

typedef struct CacheRecord {
    uint64_t sum;   // of all behind this field
    uint32_t bytes; // a multiple of 8, with this head
    uint32_t mode, n_blocks, n_links, n_faults, n_counts, guest_bytes, frozen_bytes;
    uint32_t n_traps, pad;
    // The blocks' own, one behind the other: CacheBlock[n_blocks], HostFault[n_faults] (fixes from
    // the cold code's start), uint32_t counts[n_counts], HostTrap[n_traps], frozen code, uint16_t
    // link_to[n_links], guest code.
} CacheRecord;

typedef struct CacheBlock {
    uint64_t pc;
    uint16_t guest_bytes, n_insns, n_links, n_faults;
    uint32_t n_counts, n_traps;
    uint32_t pad;
    uint32_t guest; // its code, from the start of the record's
} CacheBlock;

typedef struct CacheIndex {
    uint32_t pc;     // from CacheKey.lo
    uint32_t record; // offset in the segment / 8; 0: free
} CacheIndex;

enum { CACHE_MAX_SEGMENTS = 8 };
typedef struct CacheSegment {
    uint64_t off; // in the file
    CacheIndex *index;
    uint32_t n_index; // a power of two
    uint64_t bytes;
} CacheSegment;

typedef struct CacheFile {
    CacheKey key;
    const uint8_t *map; // the file up to its valid end; NULL: there is none
    uint64_t bytes;
    CacheSegment seg[CACHE_MAX_SEGMENTS];
    unsigned n_segs;
} CacheFile;

// The directory, made when it is not there: -1 with a reason when it is not the user's alone.
int cache_dir_open(const char *dir, DgmErr *why);
// Opens the file with this key; an empty one (map NULL) when there is none that is sound.
void cache_file_open(int dir, const CacheKey *key, CacheFile *out);
void cache_file_close(CacheFile *f);
// The place of a record for guest pc in the mapping, *bytes up to its segment's end: may fault,
// must be checked. start: 0, then what *next was; NULL: no more.
const void *cache_file_find(const CacheFile *f, uint64_t pc, unsigned start, unsigned *next,
                            uint64_t *bytes);
static inline const CacheBlock *cache_record_blocks(const CacheRecord *r) {
    return (const CacheBlock *)(r + 1);
}
const uint8_t *cache_record_guest(const CacheRecord *r);
// Is a record whole?
bool cache_record_ok(const CacheRecord *r, uint64_t bytes);
void cache_record_seal(CacheRecord *r);

// Adding to a file, under its lock: begin reads what is there now (a.file; perhaps more than when
// it was opened to read), end adds these records (each sealed, one behind the other) and closes;
// with records that are empty, it only closes. False: nothing is kept (disk full, somebody else is
// writing).
typedef struct CacheAdding {
    CacheFile file;
    int dir, fd; // fd -1: there is none yet
} CacheAdding;
bool cache_add_begin(int dir, const CacheKey *key, CacheAdding *a);
bool cache_add_end(CacheAdding *a, const char *name, const Buf *records);
// Makes the file without a record: its code was run once.
bool cache_file_mark(int dir, const CacheKey *key, const char *name);
// Removes the files used least recently until the directory has no more than max_bytes.
void cache_dir_trim(int dir, uint64_t max_bytes);
// Calls fn for every file: its sound head (of another build's file perhaps only likely) or NULL,
// bytes and time of last use. False from fn: remove the file.
typedef bool CacheEachFn(void *ctx, const char *file, const CacheHead *head, uint32_t n_blocks,
                         uint64_t bytes, int64_t used);
int cache_dir_each(int dir, CacheEachFn *fn, void *ctx);

#endif
