// test_modules.c - where module_address() says that a file of code should be mapped.
#include "engine/engine.h"
#include "linux/process.h"

#include <elf.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

enum { BYTES = 0x1f0000 };

static int setup(void **state) {
    LinuxProcess *p = calloc(1, sizeof *p);
    assert_true(p && (p->m = calloc(1, sizeof *p->m)) && (p->m->as = space_new()));
    *state = p;
    return 0;
}

static int teardown(void **state) {
    LinuxProcess *p = *state;
    space_free(p->m->as);
    free(p->m);
    free(p);
    return 0;
}

static int file_of(const void *start, size_t n) {
    int fd = memfd_create("module", 0);
    assert_true(fd >= 0 && write(fd, start, n) == (ssize_t)n);
    return fd;
}

static int64_t map_at(AddressSpace *as, uint64_t at) {
    return space_mmap(as, at, BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
}

static void one_place_after_the_other(void **state) {
    LinuxProcess *p = *state;
    AddressSpace *as = p->m->as;
    Elf64_Ehdr h = {.e_ident = ELFMAG};
    h.e_ident[EI_CLASS] = ELFCLASS64;
    int fd = file_of(&h, sizeof h);
    uint64_t first = module_address(p, fd, BYTES), at = first;
    assert_int_equal(module_address(p, fd, BYTES), first); // the same each time
    unsigned n = 0;
    for (; at; at = module_address(p, fd, BYTES), n++) {
        assert_true(n < 8 && !(at % 0x10000) && at >= ELF_LIBRARIES && at + BYTES <= ELF_PIE_HINT);
        assert_int_equal(map_at(as, at), (int64_t)at); // so nothing was there
    }
    assert_true(n > 1);
    space_munmap(as, first, BYTES);
    assert_int_equal(module_address(p, fd, BYTES), first);
    assert_int_equal(map_at(as, first + BYTES - 0x1000), (int64_t)(first + BYTES - 0x1000));
    assert_int_not_equal(module_address(p, fd, BYTES), first); // its last page is taken
    assert_int_equal(module_address(p, fd, 1ull << 40), 0);
    assert_int_equal(module_address(p, fd, UINT64_MAX), 0);
    close(fd);
}

static void code_only(void **state) {
    LinuxProcess *p = *state;
    static const char text[128] = "#!/bin/sh\n";
    int script = file_of(text, sizeof text), short_one = file_of(ELFMAG, SELFMAG);
    assert_int_equal(module_address(p, script, BYTES), 0);
    assert_int_equal(module_address(p, short_one, BYTES), 0);
    assert_int_equal(module_address(p, -1, BYTES), 0);
    close(script);
    close(short_one);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(one_place_after_the_other, setup, teardown),
        cmocka_unit_test_setup_teardown(code_only, setup, teardown)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
