// crc.h - helpers of the CRC32 instructions: (state, crc, value, bytes) -> crc.
#ifndef DGM_A64_CRC_H
#define DGM_A64_CRC_H
#include "ir/ir.h"
extern const IrHelper a64_helper_crc32, a64_helper_crc32c;
#endif
