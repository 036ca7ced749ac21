// space.h - a guest address space in user mode: which guest pages exist, with what protection.
//
// Guest address a is host address base + a (base is 0 for programs: their addresses are ours), and
// the host's MMU does the checking. What the host does not know is kept here: which mappings are
// the guest's (so that the guest can never map over, protect or unmap Dragoman's own memory), which
// pages it may execute (host pages are never executable for the guest), and where its brk is.
//
// Guest pages are 4 KiB. Functions return a guest address or 0, or -errno as Linux would.
//
// Thread-safety: all functions may be called from any thread of the machine; a lock inside. The
// list is changed together with the host's mappings under that lock, so both always agree.
#ifndef DGM_MEMORY_SPACE_H
#define DGM_MEMORY_SPACE_H

#include "base/base.h"

typedef struct AddressSpace AddressSpace;

enum { SPACE_PAGE = 4096 };
#define SPACE_END (1ull << 47) // user addresses end here on every host that we run on

typedef struct SpaceRange {
    uint64_t lo, hi; // [lo, hi)
    uint8_t prot;    // guest PROT_* bits
    bool shared;
    bool stack;          // grows down; [stack] in /proc/self/maps
    uint64_t file_off;   // of lo
    uint64_t dev, inode; // of the mapped file; inode 0: anonymous
} SpaceRange;

AddressSpace *space_new(void);
// Unmaps everything that is the guest's.
void space_free(AddressSpace *s);
static inline uint64_t space_base(const AddressSpace *s) {
    return (void)s, 0;
}

// mmap(2) with the guest's own flags (Linux's generic values are the same on every supported
// guest).
int64_t space_mmap(AddressSpace *s, uint64_t addr, uint64_t len, int prot, int flags, int fd,
                   uint64_t off);
int64_t space_munmap(AddressSpace *s, uint64_t addr, uint64_t len);
int64_t space_mprotect(AddressSpace *s, uint64_t addr, uint64_t len, int prot);
int64_t space_mremap(AddressSpace *s, uint64_t old, uint64_t old_len, uint64_t new_len, int flags,
                     uint64_t new_addr);
// No more than this many bytes may be mapped from now on (RLIMIT_AS); UINT64_MAX: no limit.
void space_set_limit(AddressSpace *s, uint64_t bytes);
// An access at addr, below a mapping that grows down, failed: grows it, within max_bytes (of the
// whole mapping) and away from what lies below. False: it is a fault.
bool space_grow_stack(AddressSpace *s, uint64_t addr, uint64_t max_bytes);
// Where the mapping around addr begins if it grows down, else 0.
uint64_t space_stack_start(AddressSpace *s, uint64_t addr);
// The next piece of the guest's in [*lo, *hi): false when there is none.
bool space_next(AddressSpace *s, uint64_t *lo, uint64_t *hi);
// madvise, msync, mincore, mlock...: 0 when all of [addr, addr + len) is the guest's, else -ENOMEM.
int64_t space_check_owned(AddressSpace *s, uint64_t addr, uint64_t len);
// The brk area starts at addr (page aligned up); nothing is mapped yet.
void space_set_brk(AddressSpace *s, uint64_t addr);
// brk(2): the new break, or the old one when it cannot be moved there.
uint64_t space_brk(AddressSpace *s, uint64_t addr);
// Takes a mapping that the host has already made for the guest (shmat) into the list.
int64_t space_adopt(AddressSpace *s, uint64_t addr, uint64_t len, int prot);

// Bytes of the mapping that starts exactly at addr, 0 when none does.
uint64_t space_mapping_bytes(AddressSpace *s, uint64_t addr);

// For the translator: `bytes` readable bytes of code at pc, or NULL when not all of them are mapped
// executable.
const uint8_t *space_fetch(AddressSpace *s, uint64_t pc, unsigned bytes);
// The same for who asks again and again near the same place, without the lock as a rule. *w, the
// executable mapping where it last was, is the caller's, zero at first.
typedef struct SpaceWindow {
    uint64_t lo, hi, changes;
} SpaceWindow;
const uint8_t *space_fetch_near(AddressSpace *s, SpaceWindow *w, uint64_t pc, unsigned bytes);
// SEGV_MAPERR or SEGV_ACCERR for a failed access at addr.
int space_si_code(AddressSpace *s, uint64_t addr);
// True when all of [addr, addr + len) is mapped with these PROT_* bits.
bool space_allows(AddressSpace *s, uint64_t addr, uint64_t len, int prot);
// Copies the list out (malloc'ed, *n entries, sorted); NULL when out of memory.
SpaceRange *space_list(AddressSpace *s, size_t *n);
// Around a host fork(): nobody changes the list meanwhile.
void space_fork_prepare(AddressSpace *s);
void space_fork_parent(AddressSpace *s);
void space_fork_child(AddressSpace *s);

#endif
