// persist_file.h - one file of kept translations, and the directory that they lie in.
//
// A file: CacheHead, then segments, one for each save: a SegHead, a body (tables and code, ready to
// run) and the guest code that it was made of. All have checksums. What does not check ends the
// file: a crash while writing, a full disk and two writers leave at worst an end that is
// overwritten next time. Bodies are mapped, so nothing that was ever sound is written to again: a
// file that was damaged is begun anew, under the same name.
//
// Processes are kept apart by flock().
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

// A segment's body, which is mapped to where it will run. Places are counted from its start; its
// parts are CacheBlock[n_blocks], sorted by pc and mode, behind this head, and what the head says.
typedef struct CacheBody {
    uint32_t n_blocks, n_chunks, n_ranges, n_faults, n_traps, n_counts;
    uint32_t chunks;      // uint32_t[n_chunks + 1]: the first block at or behind each so many bytes
    uint32_t chunk_shift; // of guest code
    uint32_t by_code; // uint32_t[n_blocks]: blocks in the order of their code, and of their links
    uint32_t ranges;  // CacheRange[n_ranges]: the guest code that all this was made of, sorted
    uint32_t faults;  // of each block its HostFault, behind them its HostFix: n_faults of both
    uint32_t traps;   // HostTrap[n_traps] of all, from the image's start, sorted
    uint32_t counts;  // of a machine that counts: uint32_t[n_blocks], where each begins in
                      // uint16_t[n_counts] behind it, and which ends with UINT16_MAX
    uint32_t image;   // the host's: see HostImage; aligned to 64
    uint32_t pad[2];
} CacheBody;

_Static_assert(sizeof(HostFault) == 4 && sizeof(HostFix) == 4, "faults counts words");

typedef struct CacheRange {
    uint32_t pc, bytes;
} CacheRange;

typedef struct CacheBlock {
    uint32_t pc;          // from CacheKey.lo
    uint32_t hot;         // its code, from the image's start
    uint32_t link, fault; // its first
    uint16_t code_bytes, guest_bytes, n_insns, n_links, n_faults;
    uint8_t mode;
    uint8_t dead; // in memory: its guest code is another
} CacheBlock;

enum { CACHE_MAX_SEGMENTS = 32 };
typedef struct CacheSegment {
    uint64_t off; // of its head in the file
    uint64_t body_bytes, guest_bytes;
    uint64_t body_sum, guest_sum;
    uint32_t n_blocks;
} CacheSegment;

typedef struct CacheFile {
    bool exists; // with a head that is sound
    CacheSegment seg[CACHE_MAX_SEGMENTS];
    unsigned n_segs;
    uint64_t end; // of the last of them
} CacheFile;

// The directory, made when it is not there: -1 with a reason when it is not the user's alone.
int cache_dir_open(const char *dir, DgmErr *why);
// The file with this key, a descriptor to read its segments with; -1: there is none that is sound.
int cache_file_open(int dir, const CacheKey *key, CacheFile *out);
// A segment's body, which is whole pages, and behind it the guest code of its ranges, to memory for
// both. False: not what was written. May fault, when another process cuts the file short.
bool cache_read(int fd, const CacheSegment *s, void *out);

// Adding a segment to a file, under its lock: begin reads what is there now; end writes behind it
// and closes; without a body it only closes. False: nothing is kept (disk full, somebody else is
// writing).
typedef struct CacheAdding {
    CacheKey key;
    CacheFile file;
    int dir, fd; // fd -1: there is none yet
} CacheAdding;
bool cache_add_begin(int dir, const CacheKey *key, CacheAdding *a);
bool cache_add_end(CacheAdding *a, const char *name, const Buf *body, const Buf *guest);
// Makes the file without a segment, in place of what is there: its code was run once.
bool cache_file_mark(int dir, const CacheKey *key, const char *name);
// Removes the files used least recently until the directory has no more than max_bytes.
void cache_dir_trim(int dir, uint64_t max_bytes);
// Calls fn for every file: its sound head (of another build's file perhaps only likely) or NULL,
// bytes and time of last use. False from fn: remove the file.
typedef bool CacheEachFn(void *ctx, const char *file, const CacheHead *head, uint32_t n_blocks,
                         uint64_t bytes, int64_t used);
int cache_dir_each(int dir, CacheEachFn *fn, void *ctx);

#endif
