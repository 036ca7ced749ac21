// self.c - see self.h.
#include "base/self.h"

#include <link.h>
#include <string.h>

unsigned build_id_of_notes(const uint8_t *notes, size_t bytes, uint8_t out[32]) {
    memset(out, 0, 32);
    for (size_t at = 0; at + sizeof(ElfW(Nhdr)) <= bytes;) {
        ElfW(Nhdr) n;
        memcpy(&n, notes + at, sizeof n);
        size_t name = at + sizeof n, desc = name + ALIGN_UP((size_t)n.n_namesz, (size_t)4);
        if (n.n_namesz > bytes || n.n_descsz > bytes || desc + n.n_descsz > bytes) return 0;
        if (n.n_type == NT_GNU_BUILD_ID && n.n_namesz == 4 && !memcmp(notes + name, "GNU", 4)) {
            unsigned id_bytes = MIN(n.n_descsz, 32u);
            memcpy(out, notes + desc, id_bytes);
            return id_bytes;
        }
        at = desc + ALIGN_UP((size_t)n.n_descsz, (size_t)4);
    }
    return 0;
}

static int find_self(struct dl_phdr_info *info, size_t size, void *ctx) {
    (void)size;
    SelfImage self = {.lo = UINTPTR_MAX, .base = info->dlpi_addr};
    uintptr_t me = (uintptr_t)find_self;
    for (unsigned i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[i];
        if (p->p_type != PT_LOAD) continue;
        self.lo = MIN(self.lo, info->dlpi_addr + p->p_vaddr);
        self.hi = MAX(self.hi, info->dlpi_addr + p->p_vaddr + p->p_memsz);
    }
    if (me < self.lo || me >= self.hi) return 0;
    for (unsigned i = 0; i < info->dlpi_phnum && !self.build_id_bytes; i++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[i];
        if (p->p_type != PT_NOTE) continue;
        const uint8_t *notes = (const uint8_t *)(info->dlpi_addr + p->p_vaddr);
        self.build_id_bytes = build_id_of_notes(notes, p->p_memsz, self.build_id);
    }
    *(SelfImage *)ctx = self;
    return 1;
}

bool self_image(SelfImage *out) {
    *out = (SelfImage){0};
    return dl_iterate_phdr(find_self, out);
}
