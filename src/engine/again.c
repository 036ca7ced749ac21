// again.c - code that runs again and again, and is no loop, is made again with care.
//
// Where much code is new it is said directly (ir/direct.h): made in half the time, but 5 to 25 %
// slower than what the host makes of a region. Loops become hot (hot.c). Interpreters and recursion
// do not: what leads back there are indirect jumps and returns. When such code is seen again, and
// the program has run for long enough, all code is dropped. What was there already is now lifted as
// a whole when it runs again, and so is what is new while little is: it is of steady work.
#include "engine/engine.h"
#include "engine/persist.h"

#include <time.h>

enum { SEEN_AGAIN = 2, MOST_TIMES = 4, KNOWN_BITS = 1 << 22 };

// Which pcs had blocks: a bit each, by hash. Others may share it, and are made with more care then.
struct Again {
    uint64_t known[KNOWN_BITS / 64];
    uint32_t n_seen, n_times;
    double last_s; // CPU time of the process
    // How much is made: since when is counted, how much it was then, and what the last count said.
    int64_t since_ns;
    uint64_t insns_then;
    bool calm;
};

static uint32_t bit_of(uint64_t pc) {
    return (uint32_t)(pc * 0x9e3779b97f4a7c15ull >> 32) % KNOWN_BITS;
}

bool again_new(Machine *m) {
    return (m->again = pages_reserve(ALIGN_UP(sizeof *m->again, 4096)));
}

void again_free(Machine *m) {
    if (m->again) pages_free(m->again, ALIGN_UP(sizeof *m->again, 4096));
}

bool again_knows(const Machine *m, uint64_t pc) {
    uint32_t bit = bit_of(pc);
    return m->again->n_times && m->again->known[bit / 64] >> (bit % 64) & 1;
}

// A twentieth of the time would go into lifting and compiling: then there is more to win by less of
// that. (Time is the wall's, in steps of the kernel's, for the CPU's takes a system call; who waits
// is calm.)
static bool much_is_new(Machine *m) {
    enum { INTERVAL_NS = 8000000, NS_EACH_INSN = 210, PART = 20 };
    struct Again *a = m->again;
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
    int64_t now_ns = t.tv_sec * 1000000000 + t.tv_nsec, passed_ns = now_ns - a->since_ns;
    if (!a->since_ns || passed_ns >= INTERVAL_NS) {
        uint64_t insns = m->stats.guest_insns - a->insns_then;
        a->calm = a->since_ns && insns * NS_EACH_INSN * PART < (uint64_t)passed_ns;
        a->since_ns = now_ns;
        a->insns_then = m->stats.guest_insns;
    }
    return !a->calm;
}

bool again_soon_is_better(Machine *m, uint64_t pc) {
    return much_is_new(m) && !again_knows(m, pc);
}

// A third of all code may have to be made again, and some tenth of the time is won: in as much time
// as has passed so far that must come back. (Of images only what was asked for is counted, a
// hundredth or so of what ran.)
static bool pays(const Machine *m, double now) {
    const double seconds_each_insn = 60e-9, won = 0.08, insns_each_loaded = 100;
    double insns = (double)m->stats.guest_insns + insns_each_loaded * (double)m->stats.loaded;
    return (now - m->again->last_s) * won > insns * seconds_each_insn * (m->again->n_times + 1);
}

static void know(void *again, uint64_t pc) {
    struct Again *a = again;
    uint32_t bit = bit_of(pc);
    a->known[bit / 64] |= 1ull << (bit % 64);
}

void again_from_nothing(Vcpu *v) {
    Machine *m = v->m;
    struct Again *a = m->again;
    pthread_mutex_unlock(&m->lock);
    persist_save(m); // what was made until now is of use to the next run
    pthread_mutex_lock(&m->lock);
    for (uint32_t i = block_table_made(m->blocks); i--;) know(a, block_table_nth(m->blocks, i)->pc);
    images_pcs(m, know, a);
    a->n_times++;
    a->n_seen = 0;
    a->last_s = engine_cpu_seconds();
    machine_flush(m, v);
}

void again_seen(Vcpu *v, const Block *b) {
    Machine *m = v->m;
    struct Again *a = m->again;
    if (!(b->direct || b->loaded) || a->n_times == MOST_TIMES) return;
    if (++a->n_seen < SEEN_AGAIN || !pays(m, engine_cpu_seconds())) return;
    a->n_seen = 0; // so nobody else does while the lock is free
    again_from_nothing(v);
    m->stats.again++;
}
