// A tool that checks the interface from inside, for tests/tools/tools.py: registers and memory as a
// callback sees them, values of accesses, conditional calls, stops, changed registers and system
// calls. What it finds wrong it counts; what it did it says at the end.
#include "dragoman/tool.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static struct { // one process, one program
    int fd;
    uint64_t near, small, near_expected, small_expected; // conditional calls of accesses
    uint64_t calls, wrong, accesses, stops, conditional, writes, last_insns, calls_seen, sum;
    unsigned sp, x1;
    dgm_counter seen;
    dgm_watch *w;
} s;

static int start(dgm_watch *w) {
    const dgm_register *r;
    s.fd = dup(2);
    s.w = w;
    s.sp = s.x1 = ~0u;
    for (unsigned i = 0; (r = dgm_register_at(w, i)); i++) {
        if (!strcmp(r->name, "sp")) s.sp = i;
        if (!strcmp(r->name, "x1")) s.x1 = i;
    }
    s.seen = dgm_counter_new(w);
    dgm_want(w, DGM_STOPS | (dgm_option(w, "calls") ? DGM_CALLS : 0));
    return s.sp == ~0u || s.x1 == ~0u ? dgm_fail(w, -22, "no registers") : 0;
}

// Floating point is C's here, whatever the guest's is: nothing traps.
static void compute(void) {
    volatile double zero = 0, least = 0x1p-1022, nan, tiny;
    nan = zero / zero;
    tiny = least * 0.25;
    if (nan == nan || tiny * 4 != least) s.wrong++;
}

static void called(dgm_vcpu *v, void *data) {
    uint64_t sp = 0, word;
    s.calls++;
    compute();
    if (dgm_vcpu_pc(v) != (uint64_t)(uintptr_t)data) s.wrong++;
    if (dgm_register_read(v, s.sp, &sp) || sp & 15) s.wrong++;
    if (dgm_memory_read(v, sp, &word, sizeof word)) s.wrong++;
    if (!dgm_memory_read(v, 8, &word, sizeof word)) s.wrong++; // nothing is there
    uint64_t now = dgm_vcpu_insns(v);
    if (now < s.last_insns) s.wrong++;
    s.last_insns = now;
}

enum { WINDOW = 0x5d1008 }; // in the data of Debian's busybox

static void near(dgm_vcpu *v, uint64_t address, uint32_t info, void *data) {
    (void)v, (void)data;
    s.near++;
    if (address >= WINDOW + 4096 || address + dgm_access_bytes(info) <= WINDOW) s.wrong++;
}
static void small(dgm_vcpu *v, uint64_t address, uint32_t info, void *data) {
    uint64_t low, sp;
    (void)address, (void)info, (void)data;
    s.small++;
    dgm_access_value(v, &low, NULL);
    if (low >= 16 || dgm_register_read(v, s.sp, &sp) || sp & 15) s.wrong++;
}

static void accessed(dgm_vcpu *v, uint64_t address, uint32_t info, void *data) {
    uint64_t low, high, there[2] = {0};
    unsigned n = dgm_access_bytes(info);
    (void)data;
    s.accesses++;
    compute();
    dgm_access_value(v, &low, &high);
    s.near_expected += address < WINDOW + 4096 && address + n > WINDOW;
    s.small_expected += (!dgm_access_writes(info) || dgm_access_atomic(info)) && low < 16;
    if (dgm_access_atomic(info)) return; // what was there before
    if (dgm_memory_read(v, address, there, n)) s.wrong++;
    if (there[0] != low || (n == 16 && there[1] != high)) s.wrong++;
}

static void hundredth(dgm_vcpu *v, void *data) {
    (void)data;
    s.conditional++;
    compute();
    if (dgm_counter_of(v, s.seen) != 100) s.wrong++;
    dgm_counter_set(v, s.seen, 0);
}

// x1 is written with what it holds: nothing changes, but all must live through it.
static void rewrite(dgm_vcpu *v, void *data) {
    uint64_t x1;
    (void)data;
    s.writes++;
    compute();
    if (dgm_register_read(v, s.x1, &x1) || dgm_register_write(v, s.x1, &x1)) s.wrong++;
}

static void block(dgm_watch *w, dgm_block *b) {
    unsigned n = dgm_block_insns(b);
    const dgm_insn *middle = dgm_block_insn(b, n / 2);
    (void)w;
    dgm_at_count(b, 0, s.seen, 1);
    dgm_at_call_if(b, 0, s.seen, DGM_EQ, 100, hundredth, NULL);
    dgm_at_call(b, n / 2, called, DGM_READ_REGS, (void *)(uintptr_t)middle->address);
    if (dgm_block_address(b) % 64 == 0) dgm_at_call(b, n - 1, rewrite, DGM_WRITE_REGS, NULL);
    for (unsigned i = 0; i < n; i++) {
        dgm_at_access_in(b, i, DGM_READ | DGM_WRITE, WINDOW, WINDOW + 4096, near, DGM_NO_REGS,
                         NULL);
        dgm_at_access_if(b, i, DGM_READ, DGM_LT, 16, small, DGM_READ_REGS, NULL);
    }
    for (unsigned i = 0; i < n; i++)
        if (dgm_block_insn(b, i)->n_accesses)
            dgm_at_access(b, i, DGM_READ | DGM_WRITE | DGM_VALUE, accessed, DGM_NO_REGS, NULL);
}

static void thread_start(dgm_watch *w, dgm_vcpu *v) {
    dgm_stop_after(w, v, 1000);
}
static void reached(dgm_watch *w, dgm_vcpu *v) {
    s.stops++;
    if (dgm_vcpu_insns(v) != s.stops * 1000) s.wrong++;
    dgm_stop_after(w, v, 1000);
}
// write() to descriptor 99 is answered here.
static bool syscall_before(dgm_watch *w, dgm_vcpu *v, dgm_syscall *call) {
    (void)w, (void)v;
    s.calls_seen++;
    if (!call->name || strcmp(call->name, "write") || call->args[0] != 99) return false;
    call->result = (int64_t)call->args[2];
    return true;
}
static void finish(dgm_watch *w, bool last) {
    (void)w, (void)last;
    if (s.near != s.near_expected || s.small != s.small_expected || !s.near || !s.small) s.wrong++;
    dprintf(s.fd, "watch: %" PRIu64 " wrong, %d %d %d %d %d %d\n", s.wrong, s.calls > 1000,
            s.accesses > 1000, s.stops > 10, s.conditional > 10, s.writes > 10, s.calls_seen > 5);
}

const dgm_tool dgm_tool_main = {.version = DGM_TOOL_VERSION,
                                .name = "watch",
                                .summary = "checks what callbacks see",
                                .start = start,
                                .block = block,
                                .thread_start = thread_start,
                                .reached = reached,
                                .syscall = syscall_before,
                                .finish = finish};
