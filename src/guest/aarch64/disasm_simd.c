// disasm_simd.c - printers of the disassembler for FP and AdvSIMD rows: {@name} in fp.dec, simd.dec,
// crypto.dec.
#include "guest/aarch64/lift.h"

void a64_print_simd_operand(const DecodeRow *row, uint32_t insn, const char *name, size_t len, Buf *out) {
    buf_printf(out, "<%.*s>", (int)len, name);
}
