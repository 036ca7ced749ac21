// hot.c - the second effort: which blocks are worth it, and what they may count on.
//
// A thread of the machine's own looks every few milliseconds where vCPUs are: it closes their poll
// pages, and the block that reads there next has been seen once. A block that is seen twice is made
// anew as a hot one, which all links to it lead to from then on. The thread starts after some
// thousand dispatches. Until then jumps backwards are not linked (Machine.loops_wait), so a loop
// that runs for long has that many, while short programs end without the thread. Exits of hot
// blocks are counted, and what they often lead to is made anew too: hot code spreads along the ways
// that are taken.
//
// Hot blocks do not store condition flags for each other. Whoever leads to one says what its flags
// were made of (a *context*: a comparison of registers and constants), the block is lifted with
// that comparison in front, and the host leaves it out where the flags are made anew before anybody
// looks. There is a block for each context that occurs, so the loop `subs x1, x1, #1; b.ne` becomes
// one that stores no flags at all. Context 0 is that of all others: state has the flags.
//
// Links of hot blocks that are not hot themselves make the flags in cold code.
#include "engine/engine.h"
#include "engine/persist.h"

#include <semaphore.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>

enum { MAX_CONTEXTS = 8192, HOT_STACK_BYTES = 256 << 10 };

// Mapped when the machine is made: later on holes between mappings are the guest's to count on.
struct Hot {
    uint8_t stack[HOT_STACK_BYTES]; // of the thread
    pthread_t thread;
    sem_t stop;
    int64_t first_ns; // after which it looks first
    // under Machine.lock: contexts, by number less 1
    uint32_t n;
    IrFlagsMade of[MAX_CONTEXTS];
    uint16_t index[2 * MAX_CONTEXTS]; // open addressing; numbers
};

// ---- contexts ----

static uint64_t hash_operand(const IrFlagsOperand *o, uint64_t h) {
    h = (h ^ (uint16_t)o->field ^ (uint64_t)o->plus_b << 16) * 0x9e3779b97f4a7c15u;
    return ((h ^ h >> 32) ^ o->value) * 0x9e3779b97f4a7c15u;
}

static bool same_operand(const IrFlagsOperand *a, const IrFlagsOperand *b) {
    return a->field == b->field && a->plus_b == b->plus_b && a->value == b->value;
}

static bool same_compare(const IrFlagsCompare *a, const IrFlagsCompare *b) {
    return a->op == b->op && a->width == b->width && a->has_b == b->has_b &&
           same_operand(&a->a, &b->a) && (!a->has_b || same_operand(&a->b, &b->b));
}

static bool same(const IrFlagsMade *a, const IrFlagsMade *b) {
    if (a->flags != b->flags || a->conditional != b->conditional || !same_compare(&a->of, &b->of))
        return false;
    return !a->conditional ||
           (a->cc == b->cc && a->otherwise == b->otherwise && same_compare(&a->when, &b->when));
}

// Its number, from 1; 0: there are too many, or memory is out.
static uint32_t number_of(Machine *m, const IrFlagsMade *made) {
    struct Hot *c = m->hot;
    uint64_t h = hash_operand(&made->of.a, made->of.op + 2u * made->of.width);
    if (made->of.has_b) h = hash_operand(&made->of.b, h);
    if (made->conditional) h = hash_operand(&made->when.a, h);
    uint32_t at = (uint32_t)(h >> 40) % ARRAY_LEN(c->index);
    for (; c->index[at]; at = (at + 1) % ARRAY_LEN(c->index))
        if (same(&c->of[c->index[at] - 1], made)) return c->index[at];
    if (c->n == MAX_CONTEXTS) return 0;
    c->of[c->n++] = *made;
    return c->index[at] = (uint16_t)c->n;
}

const IrFlagsMade *hot_context(const Machine *m, uint32_t context) {
    return &m->hot->of[context - 1];
}

void hot_note_contexts(Machine *m, Block *b, const IrFlagsMade *made) {
    for (unsigned i = 0; i < b->n_links; i++) {
        HostCount *c = &block_more(m, b)->counts[i];
        if (c->context) c->context = number_of(m, &made[c->context - 1]);
    }
}

// ---- seeing ----

static void look(Machine *m, bool *any) {
    *any = false;
    for (Vcpu *v = m->vcpus; v; v = v->next) {
        if (!atomic_load(&v->in_code) || v->hot->poll_closed) continue;
        vcpu_hot_poll(v->hot);
        *any = true;
    }
}

// A look costs some 10 us, so there are fewer when they bring nothing new.
static int64_t next_wait_ns(int64_t wait_ns, bool any, bool news) {
    const int64_t least_ns = 2000000, busy_ns = 64000000, idle_ns = 256000000;
    if (any && news) return least_ns;
    return any ? MIN(MIN(wait_ns, busy_ns) * 17 / 16, busy_ns) : MIN(2 * wait_ns, idle_ns);
}

// Waits without the machine's lock: who starts this thread holds it.
static bool stops_within(Machine *m, int64_t wait_ns) {
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    int64_t ns = until.tv_nsec + wait_ns;
    until.tv_sec += ns / 1000000000;
    until.tv_nsec = ns % 1000000000;
    return !sem_clockwait(&m->hot->stop, CLOCK_MONOTONIC, &until);
}

static void *watch(void *machine) {
    Machine *m = machine;
    int64_t wait_ns = m->hot->first_ns;
    uint64_t made = 0;
    while (!stops_within(m, wait_ns)) {
        bool any;
        pthread_mutex_lock(&m->lock);
        look(m, &any);
        wait_ns = next_wait_ns(wait_ns, any, m->stats.hot + m->stats.flushes != made);
        made = m->stats.hot + m->stats.flushes;
        pthread_mutex_unlock(&m->lock);
    }
    return NULL;
}

bool hot_new(Machine *m) {
    return (m->hot = pages_reserve(ALIGN_UP(sizeof *m->hot, 4096)));
}

void hot_start_early(Machine *m) {
    enum { DISPATCHES = 16 };
    if (m->loops_wait) m->hot_from = MIN(m->hot_from, (uint64_t)DISPATCHES);
}

void hot_start(Machine *m) {
    m->loops_wait = false;
    if (!tier_makes_both(m->tier) || m->hot_held) return;
    m->hot_started = true; // also when it fails: it is not asked for again
    const int64_t first_ns = 2000000, kept_first_ns = 16000000; // kept code is run once, mostly
    sem_init(&m->hot->stop, 0, 0);
    m->hot->first_ns = m->stats.loaded ? kept_first_ns : first_ns;
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setstack(&attr, m->hot->stack, HOT_STACK_BYTES);
    sigset_t all, before; // signals are for the guest's threads
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    m->hot_runs = !pthread_create(&m->hot->thread, &attr, watch, m);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attr);
}

void hot_stop(Machine *m) {
    enum { QUIET_DISPATCHES = 2000 };
    pthread_mutex_lock(&m->lock);
    bool runs = m->hot_runs;
    for (Vcpu *v = m->vcpus; v; v = v->next)
        m->hot_from = MAX(m->hot_from, v->dispatches + QUIET_DISPATCHES);
    m->hot_runs = m->loops_wait = false;
    pthread_mutex_unlock(&m->lock);
    if (!runs) return;
    sem_post(&m->hot->stop);
    pthread_join(m->hot->thread, NULL);
    pthread_mutex_lock(&m->lock);
    sem_destroy(&m->hot->stop);
    m->hot_started = false;
    pthread_mutex_unlock(&m->lock);
}

void hot_hold(Machine *m, bool held) {
    pthread_mutex_lock(&m->lock);
    m->hot_held += held ? 1 : -1;
    pthread_mutex_unlock(&m->lock);
}

bool hot_seen(Vcpu *v, uint64_t pc) {
    if (!tier_makes_both(v->m->tier)) return false;
    bool leave = homes_seen(v, pc);
    for (unsigned i = 0; i < ARRAY_LEN(v->seen_pc); i++)
        if (v->seen_pc[i] == pc) {
            v->seen_pc[i] = 0;
            v->hot_pc = pc;
            return v->wants_hot = true;
        }
    v->seen_pc[v->n_seen++ % ARRAY_LEN(v->seen_pc)] = pc;
    return leave;
}

// ---- making and linking ----

// Do jumps lead from b back to it? Without calls: behind those flags are in state anyway.
static bool on_loop(Machine *m, const Block *b) {
    enum { MOST = 32 };
    const Block *seen[MOST] = {b};
    uint32_t mode = block_plain_mode(b);
    for (unsigned n = 1, at = 0; at < n; at++)
        for (unsigned i = 0; i < seen[at]->n_links; i++) {
            const HostLink *l = &block_links(seen[at])[i];
            if (l->calls || (!l->linked && !seen[at]->loaded)) continue;
            if (l->target_pc == b->pc) return true;
            bool known = n == MOST;
            for (unsigned k = 0; k < n; k++) known |= seen[k]->pc == l->target_pc;
            const Block *to = known ? NULL : block_known(m, l->target_pc, mode);
            if (to) seen[n++] = to;
        }
    return false;
}

// A block of an image is jumped to from within, without a link: it has to be made here first.
static Block *own_block(Vcpu *v, Block *b) {
    Machine *m = v->m;
    uint64_t pc = b->pc;
    uint32_t mode = b->mode;
    if (!b->loaded) return b;
    blocks_drop(m, pc, pc + 1);
    b = block_make(v, pc, mode, m->max_block_insns);
    if (b) images_relink(m, b);
    return b;
}

void hot_replace(Vcpu *v, Block **at) {
    Machine *m = v->m;
    Block *b = *at;
    v->wants_hot = false;
    if (block_hot(m, b) != b || b->dead || b->pc != v->hot_pc) return;
    if (!on_loop(m, b)) {
        again_seen(v, b);
        return;
    }
    uint32_t generation = atomic_load(&m->flush_generation);
    b = *at = own_block(v, b);
    if (!b || generation != atomic_load(&m->flush_generation) || !block_make_more(m, b)) return;
    Block *to = block_get_hot(v, b->pc, b->mode, 0);
    if (!to || generation != atomic_load(&m->flush_generation)) return;
    block_more(m, b)->hot = to;
    for (HostLink *l = meta_at(&m->meta, b->incoming), *next; l; l = next) {
        next = meta_at(&m->meta, l->next_incoming); // one that was led to b for good is so led on
        link_lead(m, l, to, !l->counts || (!l->sunk && link_count(m, l)->count < 0));
    }
    b->incoming = 0;
}

// It was taken often. A link that makes flags which no context says goes on doing so.
static void lead_to_hot(Vcpu *v, HostLink *l, Block *b) {
    Machine *m = v->m;
    HostCount *c = link_count(m, l);
    uint32_t generation = atomic_load(&m->flush_generation), context = c->context;
    bool worth = m->tier == TIER_HOT || on_loop(m, b);
    Block *to = worth ? block_get_hot(v, b->pc, b->mode, context) : NULL;
    if (generation != atomic_load(&m->flush_generation)) return;
    bool makes_flags = l->sunk && !(context && to);
    if (makes_flags) c->count = INT32_MAX;
    link_leave(m, l, c->target);
    link_lead(m, l, to ? to : block_hot(m, b), !makes_flags);
}

void hot_exit(Vcpu *v, HostLink *l, Block *b) {
    if (!l->counts || !l->linked)
        block_link(v->m, l, b);
    else if (link_count(v->m, l)->count < 0 && !b->dead && !block_of_link(l)->dead)
        lead_to_hot(v, l, b);
}

// b is no longer to be run.
void hot_forget(Machine *m, const Block *b) {
    if (!(b->mode >> BLOCK_HOT_SHIFT)) return;
    Block *of = block_table_find(m->blocks, b->pc, block_plain_mode(b));
    if (of && block_hot(m, of) == b) block_more(m, of)->hot = NULL;
}

void hot_free(Machine *m) {
    if (!m->hot) return;
    hot_stop(m);
    pages_free(m->hot, ALIGN_UP(sizeof *m->hot, 4096));
}
