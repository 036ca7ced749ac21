// test_cache.c - the block table against plain arrays: look-up by guest pc and mode, by host pc,
// removal by ranges of guest code, growth to a million blocks, and clearing.
//
// The blocks here have no code behind them: the table only compares addresses.
#include "engine/engine.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

enum { MILLION = 1000000, MODES = 3 };
#define HOST_BASE 0x7f0000000000ull

static uint64_t next_random(uint64_t *x) {
    *x ^= *x << 13, *x ^= *x >> 7, *x ^= *x << 17;
    return *x;
}

// Block i of an array has host code at [host_of(i), +40), with a gap of 24 bytes behind it.
static uint64_t host_of(unsigned i) {
    return HOST_BASE + (uint64_t)i * 64;
}
static Block block(unsigned i, uint64_t pc, uint32_t mode, uint32_t size_bytes) {
    return (Block){.pc = pc,
                   .mode = mode,
                   .size_bytes = size_bytes,
                   .entry = (uint32_t)(host_of(i) - HOST_BASE),
                   .code_bytes = 40};
}

// A table of blocks that lie there. The first is not at 0.
static BlockTable *table_of(Meta *meta, Block *blocks) {
    *meta = (Meta){.base = (uint8_t *)((uintptr_t)blocks - 8)};
    return block_table_new(meta, (const uint8_t *)HOST_BASE);
}

static void finds_by_pc_and_mode(void **state) {
    Block b[] = {block(0, 0x4000, 0, 16), block(1, 0x4000, 1, 16), block(2, 0x4010, 0, 4)};
    Meta meta;
    BlockTable *t = table_of(&meta, b);
    assert_null(block_table_find(t, 0x4000, 0));
    for (unsigned i = 0; i < 3; i++) assert_true(block_table_add(t, &b[i]));
    assert_ptr_equal(block_table_find(t, 0x4000, 0), &b[0]);
    assert_ptr_equal(block_table_find(t, 0x4000, 1), &b[1]);
    assert_ptr_equal(block_table_find(t, 0x4010, 0), &b[2]);
    assert_null(block_table_find(t, 0x4000, 2));
    assert_null(block_table_find(t, 0x4004, 0)); // within a, but not its start
    assert_null(block_table_find(t, 0, 0));      // what a free entry holds
    block_table_free(t);
}

static void finds_by_host_pc(void **state) {
    Block b[3];
    Meta meta;
    BlockTable *t = table_of(&meta, b);
    assert_null(block_table_find_host(t, host_of(0)));
    for (unsigned i = 0; i < 3; i++) {
        b[i] = block(i, 0x9000 - i * 0x100, 0, 4); // not in the order of guest addresses
        assert_true(block_table_add(t, &b[i]));
    }
    for (unsigned i = 0; i < 3; i++) {
        assert_ptr_equal(block_table_find_host(t, host_of(i)), &b[i]);
        assert_ptr_equal(block_table_find_host(t, host_of(i) + 39), &b[i]);
        assert_null(block_table_find_host(t, host_of(i) + 40));
    }
    assert_null(block_table_find_host(t, host_of(0) - 1));
    assert_null(block_table_find_host(t, ~0ull));
    block_table_free(t);
}

// ---- removal ----

typedef struct Model {
    Block *blocks;
    bool *in_table;
    unsigned n;
    uint64_t lo, hi; // of the removal going on
    unsigned removed;
} Model;

static bool overlaps(const Block *b, uint64_t lo, uint64_t hi) {
    uint64_t end = b->pc + (b->size_bytes ? b->size_bytes : 1);
    return b->pc < hi && lo < end;
}

static void note_removed(void *ctx, Block *b) {
    Model *m = ctx;
    size_t i = (size_t)(b - m->blocks);
    assert_true(i < m->n && m->in_table[i]); // ours, and not removed twice
    assert_true(overlaps(b, m->lo, m->hi));
    m->in_table[i] = false;
    m->removed++;
}

static void compare(const BlockTable *t, const Model *m) {
    for (unsigned i = 0; i < m->n; i++) {
        const Block *b = &m->blocks[i];
        assert_ptr_equal(block_table_find(t, b->pc, b->mode), m->in_table[i] ? b : NULL);
    }
}

static void remove_range(BlockTable *t, Model *m, uint64_t lo, uint64_t hi) {
    unsigned expected = 0;
    for (unsigned i = 0; i < m->n; i++)
        expected += m->in_table[i] && lo < hi && overlaps(&m->blocks[i], lo, hi);
    m->lo = lo, m->hi = hi, m->removed = 0;
    block_table_remove(t, lo, hi, note_removed, m);
    assert_int_equal(m->removed, expected);
    compare(t, m);
}

// 600 blocks over 40 pages, some of no bytes, several at one pc in different modes; random ranges,
// then what was removed is added again.
static void removes_ranges(void **state) {
    enum { N = 600, PAGES = 40, STEPS = 300 };
    static Block blocks[N];
    bool in_table[N] = {false};
    Model m = {blocks, in_table, N, 0, 0, 0};
    Meta meta;
    BlockTable *t = table_of(&meta, blocks);
    uint64_t x = 88172645463325252ull, base = 0x5555550000ull;
    for (unsigned i = 0; i < N; i++) {
        uint64_t slot = i / MODES * (PAGES * 4096ull / (N / MODES)) & ~3ull;
        uint64_t room = 4096 - slot % 4096; // a block never crosses a page
        uint32_t size = (uint32_t)(next_random(&x) % 30 * 4);
        blocks[i] = block(i, base + slot, i % MODES, (uint32_t)MIN(size, room));
    }
    for (unsigned step = 0; step < STEPS; step++) {
        for (unsigned i = 0; i < N; i++)
            if (!in_table[i] && next_random(&x) % 4) {
                assert_true(block_table_add(t, &blocks[i]));
                in_table[i] = true;
            }
        uint64_t lo = base + next_random(&x) % (PAGES * 4096);
        uint64_t bytes = 1 + next_random(&x) % (step % 3 ? 64 : 16384);
        remove_range(t, &m, lo, lo + bytes);
    }
    remove_range(t, &m, base + 8, base + 8); // nothing
    remove_range(t, &m, base + 8, base);     // nothing either
    remove_range(t, &m, 0, base);            // all that lies below
    remove_range(t, &m, 0, UINT64_MAX);
    for (unsigned i = 0; i < N; i++) assert_false(in_table[i]);
    block_table_free(t);
}

// One byte at either end decides.
static void removes_at_the_edges(void **state) {
    Block b[] = {block(0, 0x10000, 0, 8), block(1, 0x10008, 0, 0), block(2, 0x1000c, 0, 4)};
    bool in_table[] = {true, true, true};
    Model m = {b, in_table, 3, 0, 0, 0};
    Meta meta;
    BlockTable *t = table_of(&meta, b);
    for (unsigned i = 0; i < 3; i++) assert_true(block_table_add(t, &b[i]));
    remove_range(t, &m, 0xfff0, 0x10000);
    assert_int_equal(m.removed, 0);
    remove_range(t, &m, 0x10009, 0x1000c);
    assert_int_equal(m.removed, 0);
    remove_range(t, &m, 0x10008, 0x10009); // the block of no bytes
    assert_int_equal(m.removed, 1);
    remove_range(t, &m, 0x10007, 0x10008);
    assert_int_equal(m.removed, 1);
    remove_range(t, &m, 0x1000f, 0x20000);
    assert_int_equal(m.removed, 1);
    block_table_free(t);
}

// A thread may still be inside code that was removed: a fault there must find its block.
static void removed_blocks_keep_their_host_code(void **state) {
    Block b = block(0, 0x10000, 0, 8);
    bool in_table[] = {true};
    Model m = {&b, in_table, 1, 0, 0, 0};
    Meta meta;
    BlockTable *t = table_of(&meta, &b);
    assert_true(block_table_add(t, &b));
    remove_range(t, &m, 0x10000, 0x10004);
    assert_ptr_equal(block_table_find_host(t, host_of(0) + 3), &b);
    block_table_free(t);
}

// The same page removed and made again, as a guest's own translator does: the table stays exact and
// its searches stay short (a slow one would not end).
static void churns(void **state) {
    enum { N = 64, ROUNDS = 8000 };
    static Block blocks[N];
    bool in_table[N];
    Model m = {blocks, in_table, N, 0x40000, 0x41000, 0};
    Meta meta;
    BlockTable *t = table_of(&meta, blocks);
    for (unsigned i = 0; i < N; i++) blocks[i] = block(i, 0x40000 + i * 64, 0, 64);
    for (unsigned round = 0; round < ROUNDS; round++) {
        for (unsigned i = 0; i < N; i++) {
            in_table[i] = true;
            assert_true(block_table_add(t, &blocks[i]));
        }
        m.removed = 0;
        block_table_remove(t, 0x40000, 0x41000, note_removed, &m);
        assert_int_equal(m.removed, N);
        assert_null(block_table_find(t, 0x40000, 0));
    }
    block_table_free(t);
}

// ---- size ----

static uint64_t pc_of(unsigned i) { // three neighbourhoods, as a program and its libraries
    static const uint64_t bases[] = {0x400000, 0x7ffff0000000, 0x5500000000};
    return bases[i % 3] + (uint64_t)(i / 3) * 20;
}

static void count_removed(void *ctx, Block *b) {
    ++*(unsigned *)ctx;
}

// One neighbourhood of three goes, all over the table and around its end; the others stay.
static void check_removal(BlockTable *t, const Block *blocks, uint32_t mode) {
    unsigned removed = 0;
    block_table_remove(t, 0x400000, 0x10000000, count_removed, &removed);
    assert_int_equal(removed, (MILLION + 2) / 3);
    for (unsigned i = 0; i < MILLION; i++)
        if (block_table_find(t, pc_of(i), mode) != (i % 3 ? &blocks[i] : NULL))
            fail_msg("block %u after the removal", i);
}

static void holds_a_million(void **state) {
    Block *blocks = malloc(MILLION * sizeof *blocks);
    assert_non_null(blocks);
    Meta meta;
    BlockTable *t = table_of(&meta, blocks);
    for (unsigned round = 0; round < 2; round++) { // the second time after a clear
        for (unsigned i = 0; i < MILLION; i++) {
            blocks[i] = block(i, pc_of(i), round, 20);
            if (!block_table_add(t, &blocks[i])) fail_msg("block %u was refused", i);
        }
        for (unsigned i = 0; i < MILLION; i++) {
            if (block_table_find(t, pc_of(i), round) != &blocks[i]) fail_msg("block %u is lost", i);
            if (block_table_find(t, pc_of(i), !round)) fail_msg("block %u in another mode", i);
            if (block_table_find(t, pc_of(i) + 4, round)) fail_msg("nothing begins at %u + 4", i);
        }
        for (unsigned i = 0; i < MILLION; i += 997)
            assert_ptr_equal(block_table_find_host(t, host_of(i) + 7), &blocks[i]);
        check_removal(t, blocks, round);
        block_table_clear(t);
        assert_null(block_table_find(t, pc_of(1), round));
        assert_null(block_table_find_host(t, host_of(1)));
    }
    free(blocks);
    block_table_free(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_by_pc_and_mode),
        cmocka_unit_test(finds_by_host_pc),
        cmocka_unit_test(removes_ranges),
        cmocka_unit_test(removes_at_the_edges),
        cmocka_unit_test(churns),
        cmocka_unit_test(removed_blocks_keep_their_host_code),
        cmocka_unit_test(holds_a_million),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
