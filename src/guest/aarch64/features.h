// features.h - bits of GuestCpu.features for AArch64, from features.def.
#ifndef DGM_A64_FEATURES_H
#define DGM_A64_FEATURES_H

#include <stdint.h>

typedef enum A64FeatureBit {
#define FEATURE(name, word, bit, text) A64_FEATBIT_##name,
#include "guest/aarch64/features.def"
#undef FEATURE
    A64_FEATURE_COUNT
} A64FeatureBit;
_Static_assert(A64_FEATURE_COUNT <= 64, "features are one 64-bit word");

#define A64_FEAT(name) (1ull << A64_FEATBIT_##name)

#endif
