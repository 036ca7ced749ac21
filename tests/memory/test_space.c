// test_space.c - the guest's address space against a page array: random mmap, munmap and mprotect
// in one area, with every answer and every page's protection compared after each; and that
// Dragoman's own memory is out of reach.
#include "memory/space.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/mman.h>

#include <cmocka.h>

enum { PAGES = 64, STEPS = 4000, NOT_MAPPED = -1 };

typedef struct Model {
    uint64_t base;
    int prot[PAGES]; // NOT_MAPPED or PROT_* bits
} Model;

static uint32_t next_random(uint32_t *x) {
    *x ^= *x << 13, *x ^= *x >> 17, *x ^= *x << 5;
    return *x;
}

static bool all_mapped(const Model *m, unsigned first, unsigned n) {
    for (unsigned i = first; i < first + n; i++)
        if (m->prot[i] == NOT_MAPPED) return false;
    return true;
}

static void compare(AddressSpace *s, const Model *m) {
    for (unsigned i = 0; i < PAGES; i++) {
        uint64_t at = m->base + i * (uint64_t)SPACE_PAGE;
        assert_int_equal(space_check_owned(s, at, SPACE_PAGE),
                         m->prot[i] == NOT_MAPPED ? -ENOMEM : 0);
        assert_int_equal(space_allows(s, at, SPACE_PAGE, PROT_WRITE),
                         m->prot[i] >= 0 && (m->prot[i] & PROT_WRITE));
        assert_int_equal(space_fetch(s, at, 4) != NULL,
                         m->prot[i] >= 0 && (m->prot[i] & PROT_EXEC));
        assert_int_equal(space_si_code(s, at),
                         m->prot[i] == NOT_MAPPED ? SEGV_MAPERR : SEGV_ACCERR);
    }
}

// Ranges are sorted, disjoint and not empty.
static void check_list(AddressSpace *s) {
    size_t n;
    SpaceRange *r = space_list(s, &n);
    assert_non_null(r);
    for (size_t i = 0; i < n; i++) {
        assert_true(r[i].lo < r[i].hi);
        if (i) assert_true(r[i - 1].hi <= r[i].lo);
    }
    free(r);
}

static void step(AddressSpace *s, Model *m, uint32_t *x) {
    unsigned first = next_random(x) % PAGES, n = 1 + next_random(x) % (PAGES - first);
    uint64_t at = m->base + first * (uint64_t)SPACE_PAGE, bytes = n * (uint64_t)SPACE_PAGE;
    int prot = (int)(next_random(x) % 8), flags = MAP_PRIVATE | MAP_ANONYMOUS;
    bool done = true;
    int becomes = prot;
    switch (next_random(x) % 4) {
    case 0: assert_int_equal(space_mmap(s, at, bytes, prot, flags | MAP_FIXED, -1, 0), at); break;
    case 1:
        assert_int_equal(space_munmap(s, at, bytes), 0);
        becomes = NOT_MAPPED;
        break;
    case 2:
        done = all_mapped(m, first, n);
        assert_int_equal(space_mprotect(s, at, bytes, prot), done ? 0 : -ENOMEM);
        break;
    default:
        for (unsigned i = first; i < first + n; i++) done &= m->prot[i] == NOT_MAPPED;
        assert_int_equal(space_mmap(s, at, bytes, prot, flags | MAP_FIXED_NOREPLACE, -1, 0),
                         done ? (int64_t)at : -EEXIST);
        break;
    }
    for (unsigned i = first; done && i < first + n; i++) m->prot[i] = becomes;
}

static void random_steps(void **state) {
    AddressSpace *s = space_new();
    Model m;
    uint32_t x = 12345;
    m.base = (uint64_t)space_mmap(s, 0, PAGES * SPACE_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS,
                                  -1, 0);
    for (unsigned i = 0; i < PAGES; i++) m.prot[i] = PROT_NONE;
    for (unsigned i = 0; i < STEPS; i++) {
        step(s, &m, &x);
        compare(s, &m);
        check_list(s);
    }
    space_free(s);
}

static void our_memory_is_safe(void **state) {
    AddressSpace *s = space_new();
    char *ours =
        mmap(NULL, 3 * SPACE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint64_t at = (uint64_t)(uintptr_t)ours;
    ours[SPACE_PAGE] = 42;
    assert_int_equal(space_mmap(s, at, SPACE_PAGE * 3, PROT_READ,
                                MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
                     -ENOMEM);
    assert_int_equal(space_munmap(s, at, SPACE_PAGE * 3),
                     0); // Linux unmaps what is there: for the guest, nothing
    assert_int_equal(space_mprotect(s, at, SPACE_PAGE, PROT_NONE), -ENOMEM);
    assert_int_equal(space_mremap(s, at, SPACE_PAGE, 2 * SPACE_PAGE, MREMAP_MAYMOVE, 0), -EFAULT);
    assert_int_equal(ours[SPACE_PAGE], 42);
    munmap(ours, 3 * SPACE_PAGE);
    space_free(s);
}

static void brk_moves(void **state) {
    AddressSpace *s = space_new();
    uint64_t area =
        (uint64_t)space_mmap(s, 0, 16 * SPACE_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_int_equal(space_munmap(s, area, 16 * SPACE_PAGE), 0);
    space_set_brk(s, area);
    assert_int_equal(space_brk(s, 0), area);
    assert_int_equal(space_brk(s, area + 5000), area + 5000);
    memset((void *)(uintptr_t)area, 1, 5000);
    assert_int_equal(space_brk(s, area + 100), area + 100);
    assert_false(space_allows(s, area + SPACE_PAGE, 1, 0));
    assert_int_equal(space_brk(s, area - 1), area + 100);
    space_free(s);
}

static void bad_arguments(void **state) {
    AddressSpace *s = space_new();
    int flags = MAP_PRIVATE | MAP_ANONYMOUS;
    assert_int_equal(space_mmap(s, 0, 0, PROT_READ, flags, -1, 0), -EINVAL);
    assert_int_equal(space_mmap(s, 1, SPACE_PAGE, PROT_READ, flags | MAP_FIXED, -1, 0), -EINVAL);
    assert_int_equal(space_mmap(s, 0, UINT64_MAX, PROT_READ, flags, -1, 0), -ENOMEM);
    assert_int_equal(space_mmap(s, SPACE_END, SPACE_PAGE, PROT_READ, flags | MAP_FIXED, -1, 0),
                     -ENOMEM);
    assert_int_equal(space_munmap(s, 1, SPACE_PAGE), -EINVAL);
    assert_int_equal(space_munmap(s, 0, 0), -EINVAL);
    assert_null(space_fetch(s, UINT64_MAX - 2, 4));
    space_free(s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_steps), cmocka_unit_test(our_memory_is_safe),
        cmocka_unit_test(brk_moves), cmocka_unit_test(bad_arguments)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
