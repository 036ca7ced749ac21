// bare_vcpu.h - what the engine does for a vCPU before the host sees it, for tests that have only a
// host. The end of the jump cache, which they do not use, serves as the return prediction stack.
#ifndef TESTS_HOST_BARE_VCPU_H
#define TESTS_HOST_BARE_VCPU_H

#include "host/host.h"

static inline void bare_vcpu_init(const Host *host, HostCtx *ctx, void *state) {
    VcpuHot *hot = vcpu_hot(state);
    hot->ret_guard = 0;
    hot->ret_top = (uintptr_t)(hot->jump_cache + JUMP_CACHE_ENTRIES);
    host->vcpu_init(ctx, state);
    host->fp_sync(ctx, state);
}

// In a handler of SIGFPE: false when the code at the interrupted pc is not of this block, or has no
// trap.
static inline bool bare_fp_trap(const Host *host, HostCtx *ctx, const HostOutput *out,
                                void *ucontext) {
    uint64_t off = host->fault_pc(ucontext) - (uintptr_t)out->entry;
    const HostTrap *found = NULL;
    for (uint32_t i = 0; i < out->n_traps && off < out->code_bytes; i++)
        if (out->traps[i].at <= off) found = &out->traps[i];
    if (!found) return false;
    host->take_fp_trap(ctx, ucontext, (const char *)out->cold + found->to);
    return true;
}

#endif
