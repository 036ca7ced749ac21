// test_base.c - arenas, buffers, integer helpers and errors.
#include "base/base.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void arenas(void **state) {
    Arena a = {0};
    unsigned char *all[400];
    for (unsigned i = 0; i < 400; i++) { // across small, huge and oversized chunks
        size_t bytes = i == 200 ? 3u << 20 : 1 + i * 37;
        all[i] = arena_alloc(&a, bytes);
        assert_non_null(all[i]);
        assert_int_equal((uintptr_t)all[i] % 16, 0);
        assert_int_equal(all[i][0] | all[i][bytes - 1], 0);
        memset(all[i], (int)i, bytes);
    }
    for (unsigned i = 0; i < 400; i++)
        assert_int_equal(all[i][i == 200 ? (3u << 20) - 1 : i * 37], i & 0xff);
    arena_reset(&a);
    unsigned char *again = arena_alloc(&a, 100);
    assert_int_equal(again[99], 0);
    assert_string_equal(arena_printf(&a, "%d-%s", 7, "x"), "7-x");
    arena_free(&a);
    assert_null(a.head);
}

static void buffers(void **state) {
    Buf b = {0};
    for (int i = 0; i < 1000; i++) buf_printf(&b, "%d,", i);
    assert_false(b.failed);
    assert_int_equal(b.len, strlen(b.data));
    assert_int_equal(b.len, 10 * 2 + 90 * 3 + 900 * 4);
    buf_add(&b, "\0z", 2);
    assert_int_equal(b.data[b.len - 1], 'z');
    buf_free(&b);
    assert_null(b.data);
}

static void bits(void **state) {
    assert_int_equal(bits_get(0xabcd, 4, 8), 0xbc);
    assert_int_equal(bits_get(~0ull, 0, 64), ~0ull);
    assert_int_equal(bits_sext(0x80, 8), -128);
    assert_int_equal(bits_sext(0x7f, 8), 127);
    assert_int_equal(bits_sext(~0ull, 64), -1);
    assert_int_equal(bits_mask(0), 0);
    assert_int_equal(bits_mask(64), ~0ull);
    assert_int_equal(bits_ror(1, 1, 32), 0x80000000);
    assert_int_equal(bits_ror(0x123, 0, 16), 0x123);
    assert_int_equal(bits_ror(0x123, 16, 16), 0x123);
    assert_int_equal(ALIGN_UP(4097u, 4096u), 8192);
    assert_int_equal(ALIGN_DOWN(4097u, 4096u), 4096);
}

static void errors(void **state) {
    DgmErr e = {0};
    assert_int_equal(err_set(&e, -2, "%s: %d", "what", 5), -2);
    assert_string_equal(e.text, "what: 5");
    assert_int_equal(e.code, -2);
    assert_int_equal(err_set(NULL, -3, "nobody listens"), -3);
    char path[5000]; // of a message that is too long the end stays, for there is the reason
    memset(path, 'p', sizeof path);
    path[sizeof path - 1] = 0;
    assert_int_equal(err_set(&e, -36, "/%s: too long", path), -36);
    assert_int_equal(strlen(e.text), sizeof e.text - 1);
    assert_memory_equal(e.text, "/ppp", 4);
    assert_non_null(strstr(e.text, "p...p"));
    assert_string_equal(e.text + strlen(e.text) - 11, "p: too long");
    char *page = pages_alloc(HUGE_PAGE_BYTES);
    assert_non_null(page);
    assert_int_equal((uintptr_t)page % HUGE_PAGE_BYTES, 0);
    assert_int_equal(page[HUGE_PAGE_BYTES - 1], 0);
    pages_free(page, HUGE_PAGE_BYTES);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(arenas), cmocka_unit_test(buffers),
                                       cmocka_unit_test(bits), cmocka_unit_test(errors)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
