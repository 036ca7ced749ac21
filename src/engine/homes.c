// homes.c - which guest registers have homes in host registers: those that this program uses most.
//
// A machine begins with the guest's own order (Guest.hot), which is right for most programs'
// calls and wrong for many a loop. Where vCPUs are seen running (hot_seen) is noted; now and then
// the dispatcher looks which registers the loops around these places use, and when others deserve
// the homes by enough, all code is dropped and made anew with these. Nothing else changes: homes
// are a convention of all blocks, and while no vCPU is in code guest state has everything.
#include "engine/engine.h"
#include "engine/persist.h"

#include <stdlib.h>

enum { FIRST_SAMPLES = 32, MOST_ROOTS = 12, MOST_NEAR = 32, MOST_CHANGES = 4 };

struct Homes {
    uint16_t ints[IR_MAX_FIELDS]; // best first
    uint32_t n_changes;
    double use[IR_MAX_FIELDS]; // by field: how often it would be loaded or stored without a home
};

// Blocks around one that was seen, which is the first. Links to nodes i are bit i of `next`.
typedef struct Near {
    uint32_t n;
    Block *block[MOST_NEAR];
    uint32_t next[MOST_NEAR];
    uint8_t from[MOST_NEAR], to[MOST_NEAR]; // links on the shortest way from and to the first
    int8_t returns_to[MOST_NEAR];           // of what was called: the node behind the call, -1
} Near;

enum { FAR = 255 };

static int node_of(Near *g, Block *b, unsigned from, int returns_to) {
    for (uint32_t i = 0; i < g->n; i++)
        if (g->block[i] == b) return (int)i;
    if (g->n == MOST_NEAR) return -1;
    g->block[g->n] = b;
    g->next[g->n] = 0;
    g->from[g->n] = (uint8_t)from;
    g->to[g->n] = FAR;
    g->returns_to[g->n] = (int8_t)returns_to;
    return (int)g->n++;
}

// What is linked was taken; an image does not say what was.
static void add_links(Machine *m, Near *g, uint32_t at, const Block *b) {
    uint32_t mode = block_plain_mode(b);
    int behind = g->returns_to[at]; // who returns is followed by what is behind the call
    uint64_t after = b->pc + b->size_bytes;
    unsigned from = g->from[at] + 1u;
    for (unsigned i = 0; i < b->n_links; i++) {
        const HostLink *l = &block_links(b)[i];
        if (!l->calls || l->target_pc != after) continue;
        Block *to = block_known(m, after, mode);
        if (to) behind = node_of(g, to, from, g->returns_to[at]);
        if (to && behind >= 0) g->next[at] |= 1u << behind;
    }
    for (unsigned i = 0; i < b->n_links; i++) {
        const HostLink *l = &block_links(b)[i];
        if ((!l->linked && !b->loaded) || (l->calls && l->target_pc == after)) continue;
        Block *to = block_known(m, l->target_pc, mode);
        int node = to ? node_of(g, to, from, l->calls ? behind : g->returns_to[at]) : -1;
        if (node >= 0) g->next[at] |= 1u << node;
    }
    if (g->returns_to[at] >= 0) g->next[at] |= 1u << g->returns_to[at];
}

// A loop through the first block is what leads away from it and back.
static void find_near(Machine *m, Near *g, Block *root) {
    g->n = 0;
    node_of(g, root, 0, -1);
    for (uint32_t at = 0; at < g->n; at++) {
        add_links(m, g, at, g->block[at]);
        const Block *hot = block_hot(m, g->block[at]);
        if (hot != g->block[at]) add_links(m, g, at, hot);
    }
    uint32_t reach = 1;
    for (unsigned steps = 1; steps < FAR; steps++) {
        uint32_t more = reach;
        for (uint32_t i = 0; i < g->n; i++)
            if (g->next[i] & reach && g->to[i] == FAR) g->to[i] = (uint8_t)steps, more |= 1u << i;
        if (more == reach && steps > 1) break;
        reach = more;
    }
}

// How often the block at node i runs, for each time that the first does: half as often for each
// link that the shortest loop through both is longer than the shortest one.
static double frequency(const Near *g, uint32_t i, unsigned shortest) {
    if (g->to[i] == FAR) return i ? 0 : 1;
    unsigned longer = (i ? g->from[i] + g->to[i] : g->to[i]) - shortest;
    return longer < 16 ? 1.0 / (1u << longer) : 0;
}

// A register without a home is loaded where it is read first, and stored where it is written.
static void add_block(Machine *m, const Block *b, double weight, double *use) {
    const IrRegion *r = translate_lift(m, b->pc, block_plain_mode(b));
    uint64_t read[IR_MAX_FIELDS / 64] = {0}, written[IR_MAX_FIELDS / 64] = {0};
    for (uint32_t i = 0; r && i < r->n_insts; i++) {
        const IrInst *in = &r->insts[i];
        if (in->op != IR_get && in->op != IR_put) continue;
        uint64_t bit = 1ull << (in->imm & 63);
        uint64_t *seen = &(in->op == IR_put ? written : read)[in->imm >> 6];
        bool again = *seen & bit || (in->op == IR_get && written[in->imm >> 6] & bit);
        if (!again) use[in->imm] += weight;
        *seen |= bit;
    }
}

// What was seen at one place: all of the time there goes to the loop around it.
static void add_root(Machine *m, Block *root, double samples, double *use) {
    Near near, *g = &near;
    find_near(m, g, root);
    unsigned shortest = g->to[0];
    double insns = 0;
    for (uint32_t i = 0; i < g->n; i++) insns += frequency(g, i, shortest) * g->block[i]->n_insns;
    for (uint32_t i = 0; i < g->n; i++) {
        double f = frequency(g, i, shortest);
        if (f > 0) add_block(m, g->block[i], samples * f / insns, use);
    }
}

// ---- deciding ----

typedef struct Seen {
    uint64_t pc;
    uint32_t times;
} Seen;

static int more_often(const void *a, const void *b) {
    const Seen *x = a, *y = b;
    return (x->times < y->times) - (x->times > y->times);
}

static uint32_t collect(const Vcpu *v, Seen *seen) {
    uint32_t n = 0, have = MIN(v->n_samples, (uint32_t)ARRAY_LEN(v->sample_pc));
    for (uint32_t i = 0; i < have; i++) {
        uint32_t k = 0;
        while (k < n && seen[k].pc != v->sample_pc[i]) k++;
        if (k == n) seen[n++] = (Seen){.pc = v->sample_pc[i]};
        seen[k].times++;
    }
    qsort(seen, n, sizeof *seen, more_often);
    return MIN(n, (uint32_t)MOST_ROOTS);
}

// The guest's own order counts a little too: not all that is used was seen.
static void order_by_use(const Guest *g, const double *use, uint16_t *ints) {
    double all = 0, weight[IR_MAX_FIELDS];
    for (uint32_t i = 0; i < g->hot.n_ints; i++) all += use[g->hot.ints[i]];
    for (uint32_t i = 0; i < g->hot.n_ints; i++)
        weight[g->hot.ints[i]] = use[g->hot.ints[i]] + all * 0.1 / (i + 4);
    for (uint32_t n = 0; n < g->hot.n_ints; n++) {
        uint32_t at = n;
        for (; at && weight[ints[at - 1]] < weight[g->hot.ints[n]]; at--) ints[at] = ints[at - 1];
        ints[at] = g->hot.ints[n];
    }
}

// The part of all uses that meets a home.
static double covered(const Machine *m, const double *use, const uint16_t *ints) {
    uint32_t n = m->host->n_int_homes(m->host_ctx);
    double all = 0, met = 0;
    for (uint32_t i = 0; i < m->guest->hot.n_ints; i++) {
        all += use[ints[i]];
        if (i < n) met += use[ints[i]];
    }
    return all > 0 ? met / all : 1;
}

// All code would have to be made again: that must come back in as much time as has passed so far.
// Of the part of uses that meets a home one half is won (measured, docs/performance.md).
static bool pays(const Machine *m, double more) {
    const double seconds_each_insn = 300e-9;
    double least = m->homes->n_changes ? 0.1 : 0.05;
    double so_far = engine_cpu_seconds();
    double insns = (double)m->stats.guest_insns + 4.0 * (double)m->stats.loaded;
    return more >= least && so_far * more / 2 > 2 * insns * seconds_each_insn;
}

static void change(Vcpu *v, const uint16_t *ints) {
    Machine *m = v->m;
    struct Homes *h = m->homes;
    h->n_changes++; // so nobody else does while the lock is free
    memcpy(h->ints, ints, sizeof h->ints);
    again_from_nothing(v);
    persist_close(m);
    HostCode stubs = {.at = m->cache, .end = m->cache_end};
    m->host->rehome(m->host_ctx, h->ints, m->guest->hot.n_ints, &stubs);
    for (Vcpu *each = m->vcpus; each; each = each->next)
        m->host->vcpu_rehome(m->host_ctx, each->state);
    m->cache_first = m->cache_at = (uint8_t *)ALIGN_UP((uintptr_t)stubs.at, 64);
    m->stats.rehomed++;
}

// For tests: the registers take turns.
static void change_anyhow(Vcpu *v) {
    uint16_t ints[IR_MAX_FIELDS];
    uint32_t n = v->m->guest->hot.n_ints;
    for (uint32_t i = 0; i < n; i++) ints[i] = v->m->homes->ints[(i + 7) % n];
    change(v, ints);
}

void homes_consider(Vcpu *v) {
    Machine *m = v->m;
    v->wants_homes = false;
    v->homes_at = m->tier == TIER_RESTLESS ? v->n_samples + 1 : v->homes_at + v->homes_at / 2;
    struct Homes *h = m->homes;
    if (!h) {
        if (!(h = m->homes = calloc(1, sizeof *h))) return;
        memcpy(h->ints, m->guest->hot.ints, m->guest->hot.n_ints * sizeof *h->ints);
    }
    if (m->tier == TIER_RESTLESS) {
        change_anyhow(v);
        return;
    }
    if (h->n_changes == MOST_CHANGES) return;
    Seen seen[ARRAY_LEN(v->sample_pc)];
    uint32_t n = collect(v, seen), mode = v->hot->mode;
    for (uint32_t i = 0; i < IR_MAX_FIELDS; i++) h->use[i] /= 2; // what was before counts less
    for (uint32_t i = 0; i < n; i++) {
        Block *b = block_known(m, seen[i].pc, mode);
        if (b) add_root(m, b, seen[i].times, h->use);
    }
    uint16_t ints[IR_MAX_FIELDS];
    order_by_use(m->guest, h->use, ints);
    double more = covered(m, h->use, ints) - covered(m, h->use, h->ints);
    if (!pays(m, more)) return;
    for (uint32_t i = 0; i < MIN(n, (uint32_t)ARRAY_LEN(v->seen_pc)); i++)
        v->seen_pc[i] = seen[i].pc; // to be hot again it need be seen but once
    change(v, ints);
}

// In a signal handler.
bool homes_seen(Vcpu *v, uint64_t pc) {
    if (!v->m->host->rehome) return false;
    if (!v->homes_at) v->homes_at = v->m->tier == TIER_RESTLESS ? 1 : FIRST_SAMPLES;
    v->sample_pc[v->n_samples++ % ARRAY_LEN(v->sample_pc)] = pc;
    return v->wants_homes |= v->n_samples == v->homes_at;
}
