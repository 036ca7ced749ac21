// persist.h - translations that outlive the process: a directory with one file for each piece of
// guest code (a mapped ELF file at an address) and each way to translate it. See persist.c for how
// a machine uses it, docs/cache.md for what users see.
//
// Nothing here can fail a program: what cannot be read is translated, what cannot be written is not
// kept.
#ifndef DGM_ENGINE_PERSIST_H
#define DGM_ENGINE_PERSIST_H

#include "engine/engine.h"
#include "engine/persist_file.h"

typedef struct Persist Persist;

// Machine.persist, or NULL when the directory is not one to trust or this host's code cannot be
// kept (log topic "cache" says which). max_bytes: of the directory.
Persist *persist_new(Machine *m, const char *dir, uint64_t max_bytes);
void persist_free(Persist *p);

// What is mapped executable at [lo, hi) comes from the file `name` (for people) with this identity.
// Takes the machine's lock.
void persist_map(Machine *m, uint64_t lo, uint64_t hi, const uint8_t id[32], const char *name);
// The kept block for this guest pc, now in the table (others with it); NULL: none. Lock held.
Block *persist_load(Machine *m, uint64_t pc, uint32_t mode);
// Is a new block at pc one to keep? Lock held.
bool persist_wants(const Machine *m, uint64_t pc, uint32_t mode);
// Writes what was translated and is not yet kept. Takes the lock.
void persist_save(Machine *m);
// From now on what is mapped is kept also when it was never run before.
void persist_at_once(Machine *m);
// From now on nothing is loaded or kept. Lock held.
void persist_close(Machine *m);
// A new block is to be kept. Lock held.
void persist_note(Machine *m, BlockKept *k);
// What is in the table now is another process's to save (a fork's child), or is gone (a flush).
void persist_start_anew(Machine *m);

#endif
