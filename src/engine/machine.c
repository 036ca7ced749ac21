// machine.c - making and ending machines and vCPUs.
#include "engine/engine.h"
#include "engine/persist.h"
#include "memory/space.h"
#include "observe/observe.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#define DEFAULT_PERSIST_BYTES (1ull << 30)
#define MAX_CACHE_BYTES       (2ull << 30) // what jumps reach
enum { DEFAULT_CACHE_BYTES = 256 << 20, MIN_CACHE_BYTES = 1 << 20 };
// While loops are not linked each round is a dispatch: programs that end soon stay below.
enum { HOT_FROM_DISPATCHES = 4000, HOT_FROM_DISPATCHES_LINKED = 100 };

static bool map_code_cache(Machine *m, size_t bytes, DgmErr *err) {
    bytes = ALIGN_UP(MAX(MIN(bytes, MAX_CACHE_BYTES), (size_t)MIN_CACHE_BYTES), 4096);
    m->cache = mmap(NULL, bytes, PROT_READ | PROT_WRITE | PROT_EXEC,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (m->cache == MAP_FAILED) {
        int code = -errno;
        m->cache = NULL;
        return err_set(err, code, "code cache of %zu bytes: %s", bytes, strerror(-code)), false;
    }
    m->cache_end = m->cache + bytes;
    return true;
}

// Much code means fewer faults and TLB misses with huge pages, but the host clears each as a whole:
// only what lies behind the first few MB gets them.
static void prefer_huge_pages(uint8_t *lo, uint8_t *hi) {
    enum { SMALL_BYTES = 4 << 20 };
    uint8_t *from = (uint8_t *)ALIGN_UP((uintptr_t)lo + SMALL_BYTES, HUGE_PAGE_BYTES);
    if (from < hi) madvise(from, (size_t)(hi - from), MADV_HUGEPAGE); // no matter if it fails
}

// What is noted of blocks takes about as much as their code.
static bool map_meta(Machine *m, DgmErr *err) {
    size_t bytes = 2 * (size_t)(m->cache_end - m->cache);
    if (meta_new(&m->meta, MIN(bytes, (size_t)ALIGN_DOWN(UINT32_MAX, 4096u))))
        m->blocks = block_table_new(&m->meta, m->cache);
    if (!m->blocks) return err_set(err, -ENOMEM, "machine: out of memory"), false;
    prefer_huge_pages(m->meta.base, m->meta.end);
    return true;
}

Machine *machine_new(const MachineConfig *c, DgmErr *err) {
    Machine *m = calloc(1, sizeof *m);
    if (!m) return err_set(err, -ENOMEM, "machine: out of memory"), NULL;
    m->guest = c->guest;
    m->host = c->host;
    m->features = c->features;
    m->max_block_insns = c->max_block_insns ? c->max_block_insns : DEFAULT_BLOCK_INSNS;
    m->budgeted = c->budgeted;
    m->watches = c->watches;
    unsigned wanted = m->watches ? m->watches->needs : 0;
    m->budgeted |= (wanted & DGM_STOPS) != 0;
    m->count = c->count || m->budgeted || wanted & DGM_COUNTS;
    m->verify = c->verify;
    m->hot_from = HOT_FROM_DISPATCHES;
    m->tier = m->host->counts ? c->tier : TIER_COLD;
    m->loops_wait = tier_makes_both(m->tier);
    m->perf_map = c->perf_map;
    m->log = c->log;
    pthread_mutex_init(&m->lock, NULL);
    m->shared = pages_alloc(ALIGN_UP((size_t)m->guest->shared_bytes + 1, 4096));
    if (!m->shared || !hot_new(m) || !again_new(m)) {
        err_set(err, -ENOMEM, "machine: out of memory");
        machine_free(m);
        return NULL;
    }
    if (!map_code_cache(m, c->code_cache_bytes ? c->code_cache_bytes : DEFAULT_CACHE_BYTES, err) ||
        !map_meta(m, err)) {
        machine_free(m);
        return NULL;
    }
    HostCode stubs = {.at = m->cache, .end = m->cache_end};
    const Guest *g = m->guest;
    m->host_ctx = m->host->create(
        g->fields, g->n_fields, g->pc_field, g->state_bytes, &g->hot, c->isa_limit,
        (m->count ? HOST_COUNTS : 0u) | (wanted & DGM_CALLS ? HOST_CALLS : 0u), &stubs, err);
    if (!m->host_ctx) {
        machine_free(m);
        return NULL;
    }
    m->cache_first = m->cache_at = (uint8_t *)ALIGN_UP((uintptr_t)stubs.at, 64);
    // Cold code starts on a huge page of its own where there is room for that.
    size_t rest = (size_t)(m->cache_end - m->cache_first);
    size_t align = rest >= 8 * HUGE_PAGE_BYTES ? HUGE_PAGE_BYTES : 64;
    m->cache_cold = m->cold_at = (uint8_t *)ALIGN_UP((uintptr_t)m->cache_first + rest / 2, align);
    m->hot_end = (uint8_t *)ALIGN_DOWN((uintptr_t)m->cache_cold, 4096);
    m->cache_there = (uint8_t *)ALIGN_UP((uintptr_t)m->cache_first, 4096);
    m->cold_there = (uint8_t *)ALIGN_UP((uintptr_t)m->cache_cold, 4096);
    prefer_huge_pages(m->cache, m->cache_cold);
    prefer_huge_pages(m->cache_cold, m->cache_end);
    // What is kept is without tools, and of the first effort.
    if (c->persist_dir && !watches_code(m->watches) && m->tier != TIER_HOT)
        m->persist = persist_new(m, c->persist_dir,
                                 c->persist_bytes ? c->persist_bytes : DEFAULT_PERSIST_BYTES);
    ir_region_init(&m->region, &m->region_arena, g->fields, g->n_fields, g->pc_field);
    return m;
}

void machine_free(Machine *m) {
    if (!m) return;
    while (m->vcpus) vcpu_free(m->vcpus);
    persist_free(m->persist);
    free(m->images);
    if (m->host_ctx) m->host->destroy(m->host_ctx);
    if (m->cache) munmap(m->cache, (size_t)(m->cache_end - m->cache));
    block_table_free(m->blocks);
    if (m->shared) pages_free(m->shared, ALIGN_UP((size_t)m->guest->shared_bytes + 1, 4096));
    meta_free(&m->meta);
    arena_free(&m->region_arena);
    free(m->traps);
    free(m->made);
    hot_free(m);
    free(m->homes);
    again_free(m);
    free(m->relocs);
    pthread_mutex_destroy(&m->lock);
    free(m);
}

void machine_fork_prepare(Machine *m) {
    pthread_mutex_lock(&m->lock);
}
void machine_fork_parent(Machine *m) {
    pthread_mutex_unlock(&m->lock);
}
void machine_fork_child(Machine *m, Vcpu *self) {
    // The other vCPUs' threads do not exist here; their memory is left to the process's end.
    bool alone = m->vcpus == self && !self->next;
    for (Vcpu *v = m->vcpus; v; v = v->next) {
        if (v == self) continue;
        m->insns_of_gone += vcpu_insns(v->hot);
        m->dispatches_of_gone += v->dispatches;
    }
    if (!alone) memset(m->shared, 0, m->guest->shared_bytes); // what they held nobody gives back
    m->vcpus = self;
    self->next = NULL;
    persist_start_anew(m);
    m->hot_held = 0;
    m->hot_started = m->hot_runs = false; // its thread is not here; it may start again
    if (!m->loops_wait) m->hot_from = self->dispatches + HOT_FROM_DISPATCHES_LINKED;
    pthread_mutex_init(&m->lock, NULL);
}

uint64_t machine_insns_executed(Machine *m) {
    pthread_mutex_lock(&m->lock);
    uint64_t n = m->insns_of_gone;
    for (Vcpu *v = m->vcpus; v; v = v->next) n += vcpu_insns(v->hot);
    pthread_mutex_unlock(&m->lock);
    return n;
}

uint64_t machine_dispatches(Machine *m) {
    pthread_mutex_lock(&m->lock);
    uint64_t n = m->dispatches_of_gone;
    for (Vcpu *v = m->vcpus; v; v = v->next) n += v->dispatches;
    pthread_mutex_unlock(&m->lock);
    return n;
}

uint64_t machine_progress(Machine *m, unsigned *vcpus) {
    pthread_mutex_lock(&m->lock);
    uint64_t n = m->insns_of_gone;
    *vcpus = 0;
    for (Vcpu *v = m->vcpus; v; v = v->next, ++*vcpus) {
        n += vcpu_insns(v->hot);
        if (atomic_load(&v->in_code)) vcpu_interrupt(v); // elsewhere it may stand for a signal
    }
    pthread_mutex_unlock(&m->lock);
    return n;
}

// A vCPU's memory: guard page, return prediction stack, the tools' slots, hot fields (at a page),
// guest state.
enum { GUARD_BYTES = 4096, RET_STACK_BYTES = 64 << 10 };
static size_t slot_bytes(const Machine *m) {
    return m->watches ? ALIGN_UP((size_t)WATCH_SLOT_BYTES, 4096) : 0;
}
static size_t vcpu_bytes(const Machine *m) {
    return GUARD_BYTES + RET_STACK_BYTES + slot_bytes(m) +
           ALIGN_UP(sizeof(VcpuHot) + m->guest->state_bytes, 4096);
}

Vcpu *vcpu_new(Machine *m, const void *state) {
    Vcpu *v = calloc(1, sizeof *v);
    void *mem = pages_reserve(vcpu_bytes(m));
    if (!v || !mem || mprotect(mem, GUARD_BYTES, PROT_NONE)) {
        pages_free(mem, vcpu_bytes(m));
        free(v);
        return NULL;
    }
    v->m = m;
    v->alloc = mem;
    v->hot = (VcpuHot *)((char *)mem + GUARD_BYTES + RET_STACK_BYTES + slot_bytes(m));
    v->hot->ret_guard = (uintptr_t)mem;
    v->hot->ret_top = (uintptr_t)mem + GUARD_BYTES + RET_STACK_BYTES;
    v->hot->watches = m->watches;
    v->state = v->hot + 1;
    if (state)
        memcpy(v->state, state, m->guest->state_bytes);
    else
        m->guest->reset(v->state, m->features);
    v->hot->vcpu = v;
    v->hot->fp.rules = m->guest->fp_rules;
    v->hot->fp.mode = m->guest->fp_mode(v->state);
    v->fp_traps = m->host->take_fp_trap != NULL;
    v->hot->mode = vcpu_mode(v);
    v->hot->mem_base = space_base(m->as);
    if (m->guest->share) m->guest->share(v->state, (uintptr_t)m->shared - v->hot->mem_base);
    v->hot->jump_cache[0].pc = jump_cache_no_pc(0); // fresh pages make the others empty
    m->host->vcpu_init(m->host_ctx, v->state);
    m->host->fp_sync(m->host_ctx, v->state);
    pthread_mutex_lock(&m->lock);
    if (m->vcpus) hot_start_early(m); // dispatches of many wait for each other
    v->next = m->vcpus;
    m->vcpus = v;
    pthread_mutex_unlock(&m->lock);
    return v;
}

void vcpu_free(Vcpu *v) {
    if (!v) return;
    Machine *m = v->m;
    pthread_mutex_lock(&m->lock);
    for (Vcpu **at = &m->vcpus; *at; at = &(*at)->next)
        if (*at == v) {
            *at = v->next;
            break;
        }
    m->insns_of_gone += vcpu_insns(v->hot);
    m->dispatches_of_gone += v->dispatches;
    pthread_mutex_unlock(&m->lock);
    pages_free(v->alloc, vcpu_bytes(m));
    free(v);
}
