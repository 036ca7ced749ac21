// mops_small.c - the steps of mops.c for small sizes. This file is compiled without vector
// instructions where the compiler can be told so (meson.build), which lets a host call it without
// saving its vector registers. So: no calls of the C library here.
//
// Eight bytes at a time, the count written back after each, so that a fault leaves the registers at
// what is done.
#include "guest/aarch64/mops.h"

#include "engine/vcpu.h"

enum { MOPS_SMALL_BYTES = 256 };

static inline uint64_t load64(const void *p) {
    uint64_t v;
    __builtin_memcpy(&v, p, 8);
    return v;
}
static inline void store64(void *p, uint64_t v) {
    __builtin_memcpy(p, &v, 8);
}

static void copy_forward(A64State *st, MopsRegs r, uint64_t left) {
    uint64_t to = st->x[r.d] - left, from = st->x[r.s] - left;
    for (; left >= 8; left -= 8, to += 8, from += 8, st->x[r.n] = 0 - left)
        store64(vcpu_mem(st, to), load64(vcpu_mem(st, from)));
    for (; left; left--, to++, from++, st->x[r.n] = 0 - left)
        *(volatile uint8_t *)vcpu_mem(st, to) = *(volatile uint8_t *)vcpu_mem(st, from);
}

static void copy_backward(A64State *st, MopsRegs r, uint64_t left) {
    uint64_t to = st->x[r.d], from = st->x[r.s];
    for (; left >= 8; left -= 8, st->x[r.n] = left)
        store64(vcpu_mem(st, to + left - 8), load64(vcpu_mem(st, from + left - 8)));
    for (; left; left--, st->x[r.n] = left)
        *(volatile uint8_t *)vcpu_mem(st, to + left - 1) =
            *(volatile uint8_t *)vcpu_mem(st, from + left - 1);
}

static void do_copy_small(void *state, uint64_t packed) {
    A64State *st = state;
    MopsRegs r = mops_unpack(packed);
    int64_t n = (int64_t)st->x[r.n];
    if (n < 0 && n >= -MOPS_SMALL_BYTES)
        copy_forward(st, r, (uint64_t)-n);
    else if (n > 0 && n <= MOPS_SMALL_BYTES)
        copy_backward(st, r, (uint64_t)n);
}

static void do_set_small(void *state, uint64_t packed) {
    A64State *st = state;
    MopsRegs r = mops_unpack(packed);
    uint64_t left = 0 - st->x[r.n], to = st->x[r.d] - left;
    if (left > MOPS_SMALL_BYTES) return;
    uint64_t value = (r.s == 31 ? 0 : st->x[r.s] & 0xff) * 0x0101010101010101;
    for (; left >= 8; left -= 8, to += 8, st->x[r.n] = 0 - left) store64(vcpu_mem(st, to), value);
    for (; left; left--, to++, st->x[r.n] = 0 - left)
        *(volatile uint8_t *)vcpu_mem(st, to) = (uint8_t)value;
}

#ifdef DGM_NO_VECTORS
enum { KEEPS_VECTORS = true };
#else
enum { KEEPS_VECTORS = false };
#endif
#define MOPS_SMALL_HELPER(ident, function)                                                         \
    const IrHelper ident = {.name = #ident,                                                        \
                            .fn = (void (*)(void))function,                                        \
                            .reads_state = true,                                                   \
                            .writes_state = true,                                                  \
                            .can_fault = true,                                                     \
                            .keeps_vectors = KEEPS_VECTORS}
MOPS_SMALL_HELPER(mops_copy_small, do_copy_small);
MOPS_SMALL_HELPER(mops_set_small, do_set_small);
