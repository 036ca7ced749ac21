// modules.c - files of guest code: who they are, and where they go, so that translations of them
// can be kept from one run to the next (engine/persist.h).
//
// Translated code has guest addresses in it, so a file should lie at the same place in every run,
// and low, so that they are short. Where the guest leaves the place to the kernel (a shared
// library, the ELF interpreter) an ELF file gets the first free one of some addresses that its
// build-id says; when all are taken, the kernel's choice stands and nothing is kept of it in this
// run.
#include "linux/process.h"

#include "base/self.h"
#include "engine/persist.h"

#include <elf.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define AREA_BYTES (ELF_PIE_HINT - ELF_LIBRARIES)
#define SLOT_BYTES 0x10000ull // the largest page of arm64
enum { PLACES = 8 };          // where nothing is in the way in one of them, nearly always

// The build-id among the notes of an ELF file whose first bytes these are.
static unsigned find_build_id(int fd, const uint8_t *start, size_t n, uint8_t id[32]) {
    const Elf64_Ehdr *h = (const Elf64_Ehdr *)(const void *)start;
    uint8_t far[1024];
    for (unsigned i = 0; i < h->e_phnum; i++) {
        Elf64_Phdr p;
        uint64_t at = h->e_phoff + (uint64_t)i * sizeof p;
        if (at < h->e_phoff || at + sizeof p > n) return 0;
        memcpy(&p, start + at, sizeof p);
        if (p.p_type != PT_NOTE || p.p_filesz > sizeof far) continue;
        const uint8_t *notes = start + p.p_offset;
        if (p.p_offset > n || p.p_filesz > n - p.p_offset) {
            if (pread(fd, far, p.p_filesz, (off_t)p.p_offset) != (ssize_t)p.p_filesz) continue;
            notes = far;
        }
        unsigned bytes = build_id_of_notes(notes, p.p_filesz, id);
        if (bytes) return bytes;
    }
    return 0;
}

// What an ELF file is known by: its build-id; without one, which file it is and when it was
// written.
static bool identity(int fd, uint8_t id[32]) {
    uint8_t start[4096];
    ssize_t n = pread(fd, start, sizeof start, 0);
    if (n < (ssize_t)sizeof(Elf64_Ehdr) || memcmp(start, ELFMAG, SELFMAG) ||
        start[EI_CLASS] != ELFCLASS64)
        return false;
    if (find_build_id(fd, start, (size_t)n, id)) return true;
    struct stat st;
    if (fstat(fd, &st)) return false;
    uint64_t parts[4] = {st.st_dev, st.st_ino, (uint64_t)st.st_size,
                         (uint64_t)st.st_mtim.tv_sec * 1000000000u + (uint64_t)st.st_mtim.tv_nsec};
    memcpy(id, parts, sizeof parts);
    return true;
}

uint64_t module_address(const LinuxProcess *p, int fd, uint64_t bytes) {
    uint8_t id[32];
    if (bytes > AREA_BYTES || !identity(fd, id)) return 0;
    for (unsigned i = 0; i < PLACES; i++) {
        uint64_t slot = hash_bytes(id, sizeof id, i) % (AREA_BYTES / SLOT_BYTES);
        uint64_t at = ELF_LIBRARIES + slot * SLOT_BYTES, lo = at, hi = at + bytes;
        if (hi <= ELF_PIE_HINT && !space_next(p->m->as, &lo, &hi)) return at;
    }
    return 0;
}

// ld.so maps a library at its alignment by room for it, inaccessible, into which it maps the file
// that it opened just before.
uint64_t module_mmap_address(const LinuxProcess *p, uint64_t bytes, int prot, int flags, int fd,
                             uint64_t off) {
    if (flags & MAP_FIXED || (flags & MAP_TYPE) != MAP_PRIVATE) return 0;
    if (!(flags & MAP_ANONYMOUS)) return off ? 0 : module_address(p, fd, bytes);
    return prot == PROT_NONE ? module_address(p, p->opened, bytes) : 0;
}

// The tools hear of it under the guest's name for the file.
static void tell_tools(LinuxProcess *p, int fd, uint64_t lo, uint64_t len, uint64_t off) {
    char host[PATH_MAX], guest[PATH_MAX];
    if (!path_of_fd(fd, host)) return;
    path_guest(p, host, guest);
    observe_module(p->m->watches, guest, host, lo, lo + ALIGN_UP(len, (uint64_t)SPACE_PAGE), off);
}

void module_mapped(LinuxProcess *p, int fd, uint64_t lo, uint64_t len, uint64_t off,
                   bool same_each_time) {
    uint8_t id[32];
    if (p->m->watches) tell_tools(p, fd, lo, len, off);
    bool at_its_place = same_each_time || (lo >= ELF_LIBRARIES && lo < ELF_PIE_HINT);
    if (!p->m->persist || !at_its_place || !identity(fd, id)) return;
    char name[PATH_MAX];
    path_of_fd(fd, name);
    persist_map(p->m, lo, lo + ALIGN_UP(len, (uint64_t)SPACE_PAGE), id, name);
}
