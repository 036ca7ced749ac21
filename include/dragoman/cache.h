// dragoman/cache.h - translations that are kept on disk between runs (dgm_options.cache).
//
// Functions return 0 or a negative errno value; those with an `error` buffer leave one line of text
// there. Any thread; several processes may use one directory at once.
#ifndef DRAGOMAN_CACHE_H
#define DRAGOMAN_CACHE_H

#include "dragoman/machine.h"

#ifdef __cplusplus
extern "C" {
#endif

// One file of the cache: the translations of one guest file, at one address, made in one way.
typedef struct dgm_cache_entry {
    const char *file;       // its name in the directory
    const char *guest_file; // whose code it is, as it was called then; NULL: damaged, or foreign
    bool current;           // made by this build of Dragoman: what other builds made is never used
    uint64_t blocks, bytes;
    int64_t used; // about when, in seconds since 1970
} dgm_cache_entry;

// Calls fn for each file in the directory, least recently used first; those for which it returns
// false are removed. -ENOENT: no such directory, -EPERM: not one that only its owner can write.
DGM_API int dgm_cache_each(const char *dir, bool (*fn)(void *ctx, const dgm_cache_entry *e),
                           void *ctx, char *error, size_t error_bytes);

typedef struct dgm_cache_warmed {
    uint64_t entry_points; // symbols and functions found in the file
    uint64_t blocks;       // translated now
    uint64_t loaded;       // that had been kept already
    uint64_t instructions;
} dgm_cache_warmed;

// Translates an ELF program or shared library of a guest ahead of its first run, from its symbols
// and unwind tables on, into options->cache. progress (may be NULL) is called now and then with how
// many entry points of how many are done.
DGM_API int dgm_cache_warm(const dgm_options *options, const char *path,
                           void (*progress)(void *ctx, uint64_t done, uint64_t all), void *ctx,
                           dgm_cache_warmed *out, char *error, size_t error_bytes);

#ifdef __cplusplus
}
#endif
#endif
