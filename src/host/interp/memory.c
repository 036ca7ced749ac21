// memory.c - see memory.h. Guest addresses may be misaligned and lie outside of what a sanitizer
// knows, so the accesses are marked as none of its business. Atomics of up to 8 bytes use the
// compiler's builtins at whatever alignment (x86 keeps them atomic; guests that care ask for
// IR_ALIGNED).
#include "host/interp/memory.h"

#define GUEST_ACCESS                                                                               \
    __attribute__((no_sanitize("address"), no_sanitize("undefined"), no_sanitize("thread")))

// One access of the host's vector unit: single-copy atomic when aligned on every x86-64 with AVX
// and every AArch64 with FEAT_LSE2, which the language does not promise and hardware makers do.
typedef uint64_t Vec16 __attribute__((vector_size(16)));
typedef unsigned __int128 Wide;

GUEST_ACCESS V128 interp_load(const void *p, unsigned bytes, unsigned flags) {
    V128 v = {0};
    if (bytes == 16) {
        if (((uintptr_t)p & 15) == 0) {
            Vec16 x = *(const volatile Vec16 *)p;
            v.d[0] = x[0];
            v.d[1] = x[1];
        } else {
            __builtin_memcpy(&v, p, 16);
        }
        if (flags & IR_ACQUIRE) __atomic_thread_fence(__ATOMIC_ACQUIRE);
        return v;
    }
    int order = flags & IR_ACQUIRE ? __ATOMIC_SEQ_CST : __ATOMIC_RELAXED;
    switch (bytes) {
    case 1: v.d[0] = __atomic_load_n((const uint8_t *)p, order); break;
    case 2: v.d[0] = __atomic_load_n((const uint16_t *)p, order); break;
    case 4: v.d[0] = __atomic_load_n((const uint32_t *)p, order); break;
    default: v.d[0] = __atomic_load_n((const uint64_t *)p, order); break;
    }
    return v;
}

GUEST_ACCESS void interp_store(void *p, unsigned bytes, unsigned flags, const V128 *v) {
    if (bytes == 16) {
        if (flags & IR_RELEASE) __atomic_thread_fence(__ATOMIC_RELEASE);
        if (((uintptr_t)p & 15) == 0)
            *(volatile Vec16 *)p = (Vec16){v->d[0], v->d[1]};
        else
            __builtin_memcpy(p, v, 16);
        if (flags & IR_RELEASE) __atomic_thread_fence(__ATOMIC_SEQ_CST);
        return;
    }
    int order = flags & IR_RELEASE ? __ATOMIC_SEQ_CST : __ATOMIC_RELAXED;
    switch (bytes) {
    case 1: __atomic_store_n((uint8_t *)p, v->b[0], order); break;
    case 2: __atomic_store_n((uint16_t *)p, v->h[0], order); break;
    case 4: __atomic_store_n((uint32_t *)p, v->w[0], order); break;
    default: __atomic_store_n((uint64_t *)p, v->d[0], order); break;
    }
}

GUEST_ACCESS V128 interp_cas(void *p, unsigned bytes, const V128 *expected, const V128 *desired) {
    V128 old = {0};
    switch (bytes) {
    case 1:
        old.d[0] = __sync_val_compare_and_swap((uint8_t *)p, expected->b[0], desired->b[0]);
        break;
    case 2:
        old.d[0] = __sync_val_compare_and_swap((uint16_t *)p, expected->h[0], desired->h[0]);
        break;
    case 4:
        old.d[0] = __sync_val_compare_and_swap((uint32_t *)p, expected->w[0], desired->w[0]);
        break;
    case 8:
        old.d[0] = __sync_val_compare_and_swap((uint64_t *)p, expected->d[0], desired->d[0]);
        break;
    default: {
        Wide want = (Wide)expected->d[1] << 64 | expected->d[0];
        Wide value = (Wide)desired->d[1] << 64 | desired->d[0];
        Wide x = __sync_val_compare_and_swap((Wide *)p, want, value);
        old.d[0] = (uint64_t)x;
        old.d[1] = (uint64_t)(x >> 64);
    }
    }
    return old;
}

static uint64_t apply(IrRmw op, unsigned bits, uint64_t a, uint64_t b) {
    int64_t sa = bits_sext(a, bits), sb = bits_sext(b, bits);
    switch (op) {
    case IR_RMW_ADD: return a + b;
    case IR_RMW_AND: return a & b;
    case IR_RMW_OR: return a | b;
    case IR_RMW_XOR: return a ^ b;
    case IR_RMW_XCHG: return b;
    case IR_RMW_SMIN: return sa < sb ? a : b;
    case IR_RMW_SMAX: return sa > sb ? a : b;
    case IR_RMW_UMIN: return a < b ? a : b;
    case IR_RMW_UMAX: return a > b ? a : b;
    case IR_RMW_ANDN: return a & ~b;
    }
    return a;
}

uint64_t interp_rmw(void *p, unsigned bytes, IrRmw op, uint64_t v) {
    unsigned bits = bytes * 8;
    v &= bits_mask(bits);
    for (V128 old = interp_load(p, bytes, 0);;) {
        V128 want = {.d = {apply(op, bits, old.d[0], v) & bits_mask(bits), 0}};
        V128 seen = interp_cas(p, bytes, &old, &want);
        if (seen.d[0] == old.d[0]) return old.d[0];
        old = seen;
    }
}
