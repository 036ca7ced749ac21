// self.h - the object file (program or shared library) that this library is part of, in memory.
#ifndef DGM_BASE_SELF_H
#define DGM_BASE_SELF_H

#include "base/base.h"

typedef struct SelfImage {
    uintptr_t lo, hi;     // [lo, hi): what the loader mapped
    uintptr_t base;       // what it added to the file's addresses
    uint8_t build_id[32]; // of the file's build-id note, zeros behind it
    unsigned build_id_bytes;
} SelfImage;

// False (and zeros) when it cannot be found. Any thread.
bool self_image(SelfImage *out);

// The build-id in the bytes of an ELF file's notes; 0: none there. out: 32 bytes, zeros behind it.
unsigned build_id_of_notes(const uint8_t *notes, size_t bytes, uint8_t out[32]);

#endif
