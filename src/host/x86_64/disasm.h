// disasm.h - see disasm.c.
#ifndef DGM_HOST_X86_64_DISASM_H
#define DGM_HOST_X86_64_DISASM_H

#include "base/base.h"

// One line an instruction, with host addresses. Any thread.
void x86_disassemble(const uint8_t *code, size_t bytes, Buf *out);

#endif
