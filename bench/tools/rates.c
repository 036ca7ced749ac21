// rates.c - a tool for bench/tools.py: does one thing as often as asked, and says how often it was.
#include "dragoman/tool.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct Rates {
    const char *what;
    dgm_counter counter;
    dgm_buffer *buffer;
    _Atomic uint64_t n, sum;
    int fd;
} Rates;

static void called(dgm_vcpu *v, void *data) {
    ++*dgm_counter_pointer(v, (dgm_counter)(uintptr_t)data);
}

// Looks at every field of every record.
static void records(dgm_watch *w, uint32_t thread, const uint64_t *r, size_t n, void *data) {
    Rates *x = data;
    uint64_t sum = 0;
    for (size_t i = 0; i < n; i++, r += 3) sum += r[0] ^ r[1] ^ r[2];
    atomic_fetch_add_explicit(&x->sum, sum, memory_order_relaxed);
    atomic_fetch_add_explicit(&x->n, n, memory_order_relaxed);
    (void)w, (void)thread;
}

static int start(dgm_watch *w) {
    static const dgm_field fields[] = {DGM_F_DATA, DGM_F_ADDRESS, DGM_F_VALUE};
    Rates *x = calloc(1, sizeof *x);
    if (!x) return -1;
    dgm_set_context(w, x);
    x->fd = dup(2);
    x->what = dgm_option(w, "what");
    if (!x->what) return dgm_fail(w, -22, "what=nothing|blocks|call-blocks|call-insns|records");
    x->counter = dgm_counter_new(w);
    if (!strncmp(x->what, "call", 4)) dgm_want(w, DGM_CALLS | DGM_NO_FLOATS);
    if (!strcmp(x->what, "records")) x->buffer = dgm_buffer_new(w, fields, 3, 1024, records, 0, x);
    return 0;
}

static void block(dgm_watch *w, dgm_block *b) {
    Rates *x = dgm_context(w);
    unsigned n = dgm_block_insns(b);
    void *counter = (void *)(uintptr_t)x->counter;
    if (!strcmp(x->what, "blocks")) dgm_at_count(b, 0, dgm_counter_new(w), 1); // one for each block
    if (!strcmp(x->what, "call-blocks")) dgm_at_call(b, 0, called, DGM_NO_REGS, counter);
    for (unsigned i = 0; i < n; i++) {
        const dgm_insn *in = dgm_block_insn(b, i);
        if (!strcmp(x->what, "call-insns")) dgm_at_call(b, i, called, DGM_NO_REGS, counter);
        // the pc with the size above it
        uint64_t data = in->address | (uint64_t)in->access_bytes << 56;
        if (x->buffer && in->n_accesses)
            dgm_at_access_record(b, i, DGM_READ | DGM_WRITE, x->buffer, data);
    }
}

static void finish(dgm_watch *w, bool last) {
    Rates *x = dgm_context(w);
    dprintf(x->fd, "times %" PRIu64 "\n", x->buffer ? x->n : dgm_counter_read(w, x->counter));
    (void)last;
}

const dgm_tool dgm_tool_main __attribute__((visibility("default"))) = {
    .version = DGM_TOOL_VERSION,
    .name = "rates",
    .summary = "how often can it be done",
    .start = start,
    .block = block,
    .finish = finish,
};
