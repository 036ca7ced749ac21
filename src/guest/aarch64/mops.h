// mops.h - between mops.c and mops_small.c: register numbers as packed into a helper's argument.
#ifndef DGM_GUEST_AARCH64_MOPS_H
#define DGM_GUEST_AARCH64_MOPS_H

#include "guest/aarch64/state.h"

typedef struct MopsRegs {
    uint8_t d, s, n;
} MopsRegs;

static inline uint64_t mops_pack(unsigned d, unsigned s, unsigned n) {
    return d | s << 8 | n << 16;
}
static inline MopsRegs mops_unpack(uint64_t packed) {
    return (MopsRegs){(uint8_t)packed, (uint8_t)(packed >> 8), (uint8_t)(packed >> 16)};
}

// The whole of a copy or set that is small; a larger one is left as it is.
extern const IrHelper mops_copy_small, mops_set_small;

#endif
