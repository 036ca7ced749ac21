// interp_test.c - the interpreter through the seam of host.h: chaining, the jump cache, interrupts,
// budgets, alignment, helpers, and faults that leave guest state exact.
#include "host/host.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/mman.h>

#include <cmocka.h>

typedef struct State {
    uint64_t x[4], pc;
    V128 v0;
} State;

static const IrField fields[] = {
    {"x0", 0, IR_I64, -1, -1},  {"x1", 8, IR_I64, -1, -1},
    {"x2", 16, IR_I64, -1, -1}, {"x3", 24, IR_I64, -1, -1},
    {"pc", 32, IR_I64, -1, -1}, {"v0", offsetof(State, v0), IR_V128, -1, -1},
};

enum { ROOM_BYTES = 1 << 16 };
typedef struct Box { // a vCPU, its code cache and what the engine would keep
    VcpuHot hot;
    State state;
    uint8_t room[ROOM_BYTES];
    HostCode at;
    HostCtx *ctx;
    Arena arena;
} __attribute__((aligned(64))) Box;

typedef struct Code {
    HostOutput out;
    HostLink links[16];
} Code;

static const Host *const host = &host_interp;
static Box *current; // for the signal handler

static int setup(void **state) {
    Box *b = aligned_alloc(_Alignof(Box), sizeof *b);
    memset(b, 0, sizeof *b);
    for (unsigned i = 0; i < JUMP_CACHE_ENTRIES; i++) b->hot.jump_cache[i].pc = ~0ull;
    b->at = (HostCode){b->room, b->room + sizeof b->room};
    b->hot.budget = 1000;
    b->ctx = host->create(fields, ARRAY_LEN(fields), 4, sizeof(State), NULL, NULL, 0, &b->at, NULL);
    *state = current = b;
    return b->ctx ? 0 : -1;
}

static int teardown(void **state) {
    Box *b = *state;
    host->destroy(b->ctx);
    arena_free(&b->arena);
    free(b);
    return 0;
}

static void make(Box *b, Code *c, uint64_t pc, const char *text) {
    IrRegion r;
    DgmErr err = {0};
    ir_region_init(&r, &b->arena, fields, ARRAY_LEN(fields), 4);
    r.pc = pc;
    if (!ir_parse(&r, text, &err) || !ir_verify(&r, &err)) fail_msg("%s", err.text);
    r.pc = pc;
    c->out = (HostOutput){.links = c->links};
    assert_int_equal(host->compile(b->ctx, &r, &b->at, &c->out, &err), HOST_OK);
}

static uint64_t enter(Box *b, const Code *c) {
    return host->enter(b->ctx, &b->state, c->out.entry);
}

static void chaining(void **state) {
    Box *b = *state;
    Code one, two;
    make(b, &one, 0x1000,
         "b0: 0x1000\n%1 = get.i64 x0\n%2 = const.i64 1\n%3 = add.i64 %1, %2\n"
         "put x0, %3\n%5 = icmp.eq %3, %2\nexit_if %5, 0x2000\nexit 0x3000\n");
    make(b, &two, 0x2000, "b0: 0x2000\nbudget 10\n%2 = get.i64 x1\nexit_ind.jump %2\n");
    assert_int_equal(one.out.n_links, 2);
    assert_int_equal(one.links[0].target_pc, 0x2000);
    assert_int_equal(enter(b, &one), HOST_EXIT_LINK);
    assert_ptr_equal(b->hot.exit_link, &one.links[0]);
    assert_int_equal(b->state.pc, 0x2000);
    assert_int_equal(enter(b, &one), HOST_EXIT_LINK);
    assert_ptr_equal(b->hot.exit_link, &one.links[1]);
    // linked: 1 -> 2 -> 1 by the jump cache, then out by the other exit
    host->link(b->ctx, &one.links[0], two.out.entry);
    b->hot.jump_cache[0x1000 >> 2].pc = 0x1000;
    b->hot.jump_cache[0x1000 >> 2].code = one.out.entry;
    b->state.x[0] = 0;
    b->state.x[1] = 0x1000;
    assert_int_equal(enter(b, &one), HOST_EXIT_LINK);
    assert_ptr_equal(b->hot.exit_link, &one.links[1]);
    assert_int_equal(b->state.x[0], 2);
    assert_int_equal(b->hot.budget, 990);
    b->hot.budget = 9; // not enough for the second: nothing of it happens
    b->state.x[0] = 0;
    assert_int_equal(enter(b, &one), HOST_EXIT_BUDGET);
    assert_int_equal(b->state.pc, 0x2000);
    assert_int_equal(b->hot.budget, 9);
    b->hot.budget = 1000;
    b->state.x[1] = 0x5550;
    assert_int_equal(enter(b, &two), HOST_EXIT_LOOKUP);
    assert_int_equal(b->state.pc, 0x5550);
    host->link(b->ctx, &one.links[0], NULL);
    b->state.x[0] = 0;
    assert_int_equal(enter(b, &one), HOST_EXIT_LINK);
}

static void interrupted(void **state) {
    Box *b = *state;
    Code self;
    make(b, &self, 0x1000, "b0: 0x1000\nexit 0x1000\n");
    host->link(b->ctx, &self.links[0], self.out.entry);
    b->hot.interrupt = ~0ull;
    assert_int_equal(enter(b, &self), HOST_EXIT_INTERRUPT);
}

static uint64_t interrupting(void *state, uint64_t n, uint64_t b, uint64_t c, uint64_t d) {
    if (n == 5) vcpu_hot(state)->interrupt = ~0ull;
    return n + 1;
}
static void vector_helper(void *state, V128 *out, const V128 *a, const V128 *b, const V128 *c,
                          uint64_t imm) {
    assert_null(b);
    *out = (V128){.d = {a->d[1] + imm, a->d[0]}};
}
static const IrHelper scalar_helper = {.name = "interrupting", .fn = (void (*)(void))interrupting};
static const IrHelper vec_helper = {
    .name = "vector_helper", .fn = (void (*)(void))vector_helper, .vec = true};

static void helpers(void **state) {
    Box *b = *state;
    Code c = {.out.links = c.links};
    IrRegion r;
    ir_region_init(&r, &b->arena, fields, ARRAY_LEN(fields), 4);
    ir_region_reset(&r, 0x1000);
    ir_block_begin(&r, 0x1000);
    IrRef x = ir_get(&r, 0, IR_I64), v = ir_get(&r, 5, IR_V128);
    ir_put(&r, 0, ir_call(&r, IR_I64, &scalar_helper, 1, &x, 0));
    ir_put(&r, 5, ir_call(&r, IR_V128, &vec_helper, 1, &v, 3));
    ir_exit(&r, 0x1000);
    ir_block_end(&r);
    assert_true(ir_verify(&r, NULL));
    assert_int_equal(host->compile(b->ctx, &r, &b->at, &c.out, NULL), HOST_OK);
    host->link(b->ctx, &c.links[0], c.out.entry);
    assert_int_equal(enter(b, &c), HOST_EXIT_INTERRUPT); // the sixth time round its own loop
    assert_int_equal(b->state.x[0], 6);
    assert_int_equal(b->state.v0.d[0], 9);
    assert_int_equal(b->state.v0.d[1], 9);
    assert_int_equal(b->state.pc, 0x1000);
}

static void on_fault(int signo, siginfo_t *info, void *context) {
    Box *b = current;
    if (!b->hot.in_helper) _exit(99);
    b->hot.in_helper = 0;
    host->leave_at_fault(b->ctx, &b->state, context, false, NULL);
    b->state.x[3] = (uintptr_t)info->si_addr; // the handler goes on after leave_at_fault
}

static void faults(void **state) {
    Box *b = *state;
    struct sigaction act = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO}, old;
    assert_int_equal(sigaction(SIGSEGV, &act, &old), 0);
    uint8_t *page = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    Code c;
    make(b, &c, 0x1000,
         "b0: 0x1000\ninsn 0x1000, 4\n%2 = const.i64 7\nput x0, %2\ninsn 0x1004, 4\n"
         "%5 = get.i64 x1\n%6 = load.i64 [%5 + 8] mem=i64\nput x0, %6\nexit 0x1008\n");
    b->state.x[1] = (uintptr_t)page;
    for (unsigned i = 0; i < 3; i++) { // again: the signal must not stay blocked
        b->state.x[0] = 0;
        assert_int_equal(enter(b, &c), HOST_EXIT_FAULT);
        assert_int_equal(b->state.pc, 0x1004);
        assert_int_equal(b->state.x[0], 7);
        assert_int_equal(b->state.x[3], (uintptr_t)page + 8);
        assert_int_equal(b->hot.in_helper, 0);
    }
    mprotect(page, 4096, PROT_READ);
    assert_int_equal(enter(b, &c), HOST_EXIT_LINK);
    assert_int_equal(b->state.x[0], 0);
    munmap(page, 4096);
    sigaction(SIGSEGV, &old, NULL);
}

static void alignment(void **state) {
    Box *b = *state;
    Code c;
    make(b, &c, 0x1000,
         "b0: 0x1000\ninsn 0x1004, 4\n%2 = get.i64 x1\n"
         "%3 = load.i64 [%2] mem=i32 aligned\nput x0, %3\nexit 0x1008\n");
    uint32_t word[2] = {5, 0};
    b->state.x[1] = (uintptr_t)word + 2;
    assert_int_equal(enter(b, &c), HOST_EXIT_TRAP + (IR_TRAP_ALIGN | 1 << 8));
    assert_int_equal(b->state.pc, 0x1004);
    b->state.x[1] = (uintptr_t)word;
    assert_int_equal(enter(b, &c), HOST_EXIT_LINK);
    assert_int_equal(b->state.x[0], 5);
    Code wide;
    make(b, &wide, 0x1000,
         "b0: 0x1000\ninsn 0x1000, 4\n%2 = get.i64 x1\n%3 = get.i64x2 v0\n"
         "%4 = const.i64x2 0x2:0x1\n%5 = cas.i64x2 [%2], %3, %4 mem=i64x2 acquire release\n"
         "put v0, %5\ntrap.syscall 0x1004 aux2=3\n");
    V128 place = {.d = {7, 8}};
    b->state.x[1] = (uintptr_t)&place;
    b->state.v0 = place;
    assert_int_equal(enter(b, &wide), HOST_EXIT_TRAP + (IR_TRAP_SYSCALL | 3 << 8));
    assert_int_equal(place.d[0], 1);
    assert_int_equal(place.d[1], 2);
    assert_int_equal(b->state.v0.d[1], 8);
}

static void no_room(void **state) {
    Box *b = *state;
    IrRegion r;
    HostLink links[16];
    HostOutput out = {.links = links};
    ir_region_init(&r, &b->arena, fields, ARRAY_LEN(fields), 4);
    assert_true(ir_parse(&r, "b0: 0\nexit 4\n", NULL));
    for (unsigned bytes = 0; bytes < 160; bytes += 8) {
        HostCode small = {b->room, b->room + bytes};
        assert_int_equal(host->compile(b->ctx, &r, &small, &out, NULL), HOST_NO_ROOM);
        assert_ptr_equal(small.at, b->room);
    }
}

int main(void) {
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {TEST(chaining), TEST(interrupted), TEST(helpers),
                                       TEST(faults),   TEST(alignment),   TEST(no_room)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
