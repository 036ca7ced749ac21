// test_elf.c - what elf_parse() takes, and what it says about the rest.
#include "linux/process.h"

#include <elf.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/mman.h>

#include <cmocka.h>

typedef struct File {
    Elf64_Ehdr h;
    Elf64_Phdr p[4];
    char interp[32];
    uint8_t rest[4096];
} File;

static int64_t read_file(void *ctx, void *out, size_t n, uint64_t off) {
    if (off >= sizeof(File)) return 0;
    n = MIN(n, sizeof(File) - off);
    memcpy(out, (char *)ctx + off, n);
    return (int64_t)n;
}

static File good(void) {
    File f = {.h = {.e_type = ET_DYN,
                    .e_machine = EM_AARCH64,
                    .e_version = 1,
                    .e_entry = 0x100,
                    .e_phoff = offsetof(File, p),
                    .e_phentsize = sizeof(Elf64_Phdr),
                    .e_phnum = 3}};
    memcpy(f.h.e_ident, ELFMAG "\2\1\1", 7);
    f.p[0] = (Elf64_Phdr){.p_type = PT_INTERP, .p_offset = offsetof(File, interp), .p_filesz = 7};
    f.p[1] = (Elf64_Phdr){.p_type = PT_LOAD,
                          .p_flags = PF_R | PF_X,
                          .p_filesz = 0x800,
                          .p_memsz = 0x800,
                          .p_align = 0x10000};
    f.p[2] = (Elf64_Phdr){.p_type = PT_LOAD,
                          .p_flags = PF_R | PF_W,
                          .p_offset = 0x800,
                          .p_vaddr = 0x10800,
                          .p_filesz = 0x100,
                          .p_memsz = 0x5000,
                          .p_align = 0x10000};
    memcpy(f.interp, "/ld.so", 7);
    return f;
}

static int parse(File *f, uint64_t bytes, ElfImage *e, DgmErr *err) {
    return elf_parse(read_file, f, bytes, "./x", e, err);
}

static void takes_a_good_one(void **state) {
    File f = good();
    ElfImage e;
    DgmErr err;
    assert_int_equal(parse(&f, sizeof f, &e, &err), 0);
    assert_string_equal(e.interp, "/ld.so");
    assert_int_equal(e.n, 2);
    assert_int_equal(e.lo, 0);
    assert_int_equal(e.hi, 0x16000);
    assert_int_equal(e.align, 0x10000);
    assert_int_equal(e.phdr_vaddr, offsetof(File, p));
    assert_int_equal(e.seg[1].prot, PROT_READ | PROT_WRITE);
    f.p[2].p_filesz = 0; // nothing is read, so it may be said to lie behind the file's end
    f.p[2].p_offset = 1 << 20;
    assert_int_equal(parse(&f, sizeof f, &e, &err), 0);
}

static void refuse(File f, uint64_t bytes, const char *why) {
    ElfImage e;
    DgmErr err;
    assert_int_equal(parse(&f, bytes, &e, &err), -ENOEXEC);
    if (!strstr(err.text, why)) fail_msg("'%s' does not say '%s'", err.text, why);
}

static void refuses_the_rest(void **state) {
    File f = good();
#define WITH(change, why)                                                                          \
    do {                                                                                           \
        File g = f;                                                                                \
        g.change;                                                                                  \
        refuse(g, sizeof g, why);                                                                  \
    } while (0)
    WITH(h.e_ident[0] = 0, "./x: not an ELF program");
    WITH(h.e_machine = EM_X86_64, "./x: built for x86-64 (EM 62, 64-bit); this build runs aarch64");
    WITH(h.e_ident[EI_CLASS] = ELFCLASS32, "32-bit");
    WITH(h.e_ident[EI_CLASS] = 9, "class 9");
    WITH(h.e_ident[EI_DATA] = ELFDATA2MSB, "big-endian");
    WITH(h.e_type = ET_REL, "not a program");
    WITH(h.e_phnum = 0, "0 program headers");
    WITH(h.e_phnum = 0xffff, "65535 program headers");
    WITH(h.e_phentsize = 1, "program headers of 1 bytes");
    WITH(h.e_phoff = ~0ull, "truncated");
    WITH(p[1].p_filesz = 1 << 20, "truncated");
    WITH(p[1].p_filesz = 0x900, "truncated"); // more than p_memsz
    WITH(p[2].p_memsz = ~0ull, "bad ELF header");
    WITH(p[2].p_vaddr = SPACE_END - 0x800, "bad ELF header");
    WITH(p[2].p_vaddr = 0x10900, "not page-aligned");
    WITH(p[2].p_vaddr = 0x800 - 0x400, "page-aligned");
    WITH(p[1].p_memsz = 0x20000, "overlap");
    WITH(p[1].p_align = 3, "alignment");
    WITH(p[1].p_align = 1ull << 40, "alignment");
    WITH(p[0].p_filesz = 1 << 16, "interpreter's name");
    WITH(p[0].p_filesz = 6, "does not end");
    WITH(h.e_phnum = 1, "nothing to load");
#undef WITH
    for (unsigned n = 4; n < offsetof(File, interp); n += 7) {
        File g = f;
        memset((char *)&g + n, 0, sizeof g - n);
        ElfImage e;
        DgmErr err;
        assert_true(parse(&g, sizeof g, &e, &err) <= 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(takes_a_good_one),
                                       cmocka_unit_test(refuses_the_rest)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
