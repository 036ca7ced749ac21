// disasm.c - host code as text for --log host, by capstone. The library is loaded when it is first
// asked: its 90,000 relocations would cost every start of every guest program most of a
// millisecond.
#include "host/x86_64/disasm.h"

#include <capstone/capstone.h>
#include <dlfcn.h>

typedef struct Capstone {
    void *library;
    __typeof__(cs_open) *open;
    __typeof__(cs_option) *option;
    __typeof__(cs_disasm) *disasm;
    __typeof__(cs_free) *free;
    __typeof__(cs_close) *close;
} Capstone;

static bool load(Capstone *c) {
    char name[32];
    snprintf(name, sizeof name, "libcapstone.so.%d", CS_API_MAJOR);
    c->library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (!c->library) return false;
    *(void **)&c->open = dlsym(c->library, "cs_open");
    *(void **)&c->option = dlsym(c->library, "cs_option");
    *(void **)&c->disasm = dlsym(c->library, "cs_disasm");
    *(void **)&c->free = dlsym(c->library, "cs_free");
    *(void **)&c->close = dlsym(c->library, "cs_close");
    return c->open && c->option && c->disasm && c->free && c->close;
}

static void disassemble(const Capstone *c, const uint8_t *code, size_t bytes, Buf *out) {
    csh handle;
    if (c->open(CS_ARCH_X86, CS_MODE_64, &handle) != CS_ERR_OK) return;
    c->option(handle, CS_OPT_SKIPDATA, CS_OPT_ON); // constants between instructions
    cs_insn *insns;
    size_t n = c->disasm(handle, code, bytes, (uintptr_t)code, 0, &insns);
    for (size_t i = 0; i < n; i++)
        buf_printf(out, "  %#lx:  %s %s\n", (unsigned long)insns[i].address, insns[i].mnemonic,
                   insns[i].op_str);
    if (n) c->free(insns, n);
    c->close(&handle);
}

void x86_disassemble(const uint8_t *code, size_t bytes, Buf *out) {
    Capstone c;
    if (load(&c))
        disassemble(&c, code, bytes, out);
    else
        buf_printf(out, "  (no libcapstone.so.%d: host code is not shown)\n", CS_API_MAJOR);
    if (c.library) dlclose(c.library);
}
