// disasm.c - host code as text for --log host, by capstone.
#include "host/x86_64/disasm.h"

#include <capstone/capstone.h>

void x86_disassemble(const uint8_t *code, size_t bytes, Buf *out) {
    csh handle;
    if (cs_open(CS_ARCH_X86, CS_MODE_64, &handle) != CS_ERR_OK) return;
    cs_option(handle, CS_OPT_SKIPDATA, CS_OPT_ON); // constants between instructions
    cs_insn *insns;
    size_t n = cs_disasm(handle, code, bytes, (uintptr_t)code, 0, &insns);
    for (size_t i = 0; i < n; i++)
        buf_printf(out, "  %#lx:  %s %s\n", (unsigned long)insns[i].address, insns[i].mnemonic,
                   insns[i].op_str);
    if (n) cs_free(insns, n);
    cs_close(&handle);
}
