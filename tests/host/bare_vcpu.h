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

#endif
