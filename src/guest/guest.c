// guest.c - the table of guests; a new one is a folder and a line here.
#include "guest/guest.h"

extern const Guest guest_aarch64;

const Guest *const guest_all[] = {&guest_aarch64, NULL};

const Guest *guest_by_name(const char *name) {
    for (const Guest *const *g = guest_all; *g; g++)
        if (!strcmp((*g)->name, name)) return *g;
    return NULL;
}

const Guest *guest_by_elf(uint16_t machine, uint8_t elf_class) {
    for (const Guest *const *g = guest_all; *g; g++)
        if ((*g)->elf_machine == machine && (*g)->elf_class == elf_class) return *g;
    return NULL;
}
