// run.c - the dispatcher: finds or makes the block at the guest pc, enters it, and answers what
// comes back. Translated code comes back rarely: chained exits and jump-cache hits stay inside.
#include "engine/engine.h"
#include "engine/persist.h"
#include "memory/space.h"
#include "observe/observe.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <time.h>

// Forgets where indirect jumps and returns go; v is not in translated code.
static void jumps_forget(Vcpu *v) {
    memset(v->hot->jump_cache, 0, sizeof v->hot->jump_cache);
    v->hot->jump_cache[0].pc = jump_cache_no_pc(0);
    v->hot->ret_sp = v->hot->ret_top;
}

static JumpCacheEntry *jump_cache_slot(Vcpu *v, uint64_t pc) {
    return &v->hot->jump_cache[pc >> 2 & (JUMP_CACHE_ENTRIES - 1)];
}

void link_lead(Machine *m, HostLink *l, Block *to, bool by_jump) {
    l->linked = true;
    l->next_incoming = to->incoming;
    to->incoming = meta_ref(&m->meta, l);
    if (l->counts) {
        HostCount *c = link_count(m, l);
        c->target = to;
        __atomic_store_n(&c->entry, block_entry(m, to), __ATOMIC_RELEASE);
    }
    if (by_jump) m->host->link(m->host_ctx, l, block_entry(m, to));
}

void link_leave(const Machine *m, HostLink *l, Block *from) {
    MetaRef *at = &from->incoming, own = meta_ref(&m->meta, l);
    while (*at && *at != own) at = &((HostLink *)meta_at(&m->meta, *at))->next_incoming;
    if (*at) *at = l->next_incoming;
}

void block_link(Machine *m, HostLink *l, Block *to) {
    enum { HOT_AFTER = 2000 };
    to = block_hot(m, to);
    Block *from = block_of_link(l);
    if (l->linked || to->dead || from->dead) return;
    if (m->loops_wait && to->pc <= from->pc) return;
    if (l->counts) link_count(m, l)->count = m->tier == TIER_HOT ? 0 : HOT_AFTER;
    link_lead(m, l, to, !l->counts);
}

static void link_undo(Machine *m, HostLink *l) {
    l->linked = false;
    m->host->link(m->host_ctx, l, NULL);
    if (!l->counts) return;
    HostCount *c = link_count(m, l);
    __atomic_store_n(&c->entry, c->stub, __ATOMIC_RELEASE);
    c->target = NULL;
}

// In whose list of incoming links it is; NULL: that block is gone, and the link with it.
static Block *link_target(Machine *m, const HostLink *l, uint32_t mode) {
    if (l->counts) return link_count(m, l)->target;
    Block *to = block_table_find(m->blocks, l->target_pc, mode);
    return to ? block_hot(m, to) : NULL;
}

// Blocks link to each other both ways; a block that goes leaves no trace in those that stay. What
// one links to is in the table: else it would have gone so, and the link with it.
static void block_unlink(void *ctx, Block *b) {
    Machine *m = ctx;
    b->dead = true;
    hot_forget(m, b);
    m->stats.invalidations++;
    for (HostLink *l = meta_at(&m->meta, b->incoming), *next; l; l = next) {
        next = meta_at(&m->meta, l->next_incoming);
        link_undo(m, l);
        l->next_incoming = 0;
    }
    b->incoming = 0;
    for (unsigned i = 0; i < b->n_links; i++) {
        HostLink *own = &block_links(b)[i];
        Block *to = own->linked ? link_target(m, own, block_plain_mode(b)) : NULL;
        link_undo(m, own); // also when it is not linked: returns may still come here
        if (to) link_leave(m, own, to);
    }
    for (Vcpu *v = m->vcpus; v; v = v->next) {
        JumpCacheEntry *e = jump_cache_slot(v, b->pc);
        uint64_t none = jump_cache_no_pc((unsigned)(e - v->hot->jump_cache));
        if (e->pc == b->pc) __atomic_store_n(&e->pc, none, __ATOMIC_RELAXED);
    }
}

void blocks_drop(Machine *m, uint64_t lo, uint64_t hi) {
    block_table_remove(m->blocks, lo, hi, block_unlink, m);
    images_invalidate(m, lo, hi);
}

void machine_invalidate(Machine *m, uint64_t lo, uint64_t hi) {
    pthread_mutex_lock(&m->lock);
    blocks_drop(m, lo, hi);
    pthread_mutex_unlock(&m->lock);
}

void machine_invalidate_all(Machine *m) {
    machine_invalidate(m, 0, UINT64_MAX);
}

void machine_flush(Machine *m, Vcpu *self) {
    atomic_store(&m->flushing, true);
    for (Vcpu *v = m->vcpus; v; v = v->next) {
        while (v != self && atomic_load(&v->in_code)) {
            vcpu_interrupt(v);
            sched_yield();
        }
        jumps_forget(v);
    }
    block_table_clear(m->blocks);
    persist_start_anew(m);
    images_forget(m);
    meta_reset(&m->meta);
    m->cache_at = m->cache_first;
    m->cold_at = m->cache_cold;
    m->falls_into_next = NULL;
    m->stats.flushes++;
    atomic_fetch_add(&m->flush_generation, 1);
    atomic_store(&m->flushing, false);
}

// ---- what translated code came back for ----

// --log unimp: which instruction is not there. `what` tells rows of the decode table that have no
// lifter from encodings that have no row, or not on this CPU.
static void log_unimplemented(Vcpu *v, const char *what, uint64_t pc) {
    Machine *m = v->m;
    if (!log_on(&m->log, LOG_UNIMP, pc)) return;
    unsigned n = m->guest->min_insn_bytes;
    const uint8_t *bytes = space_fetch(m->as, pc, n);
    if (!bytes) return;
    Buf text = {0};
    for (unsigned i = n; i-- > 0;) buf_printf(&text, "%02x", bytes[i]);
    buf_printf(&text, " ");
    if (!m->guest->disassemble(bytes, n, pc, &text)) buf_printf(&text, "(no text for it)");
    if (text.data)
        log_printf(&m->log, "dragoman: %s instruction at %#lx: %s\n", what, pc, text.data);
    buf_free(&text);
}

static bool code_at(const Machine *m, uint64_t host_pc, CodeAt *out) {
    if (image_code_at(m, host_pc, out)) return true;
    const Block *b = block_table_find_host(m->blocks, host_pc);
    if (!b) return false;
    const BlockMore *more = block_more(m, b);
    *out = (CodeAt){.pc = b->pc,
                    .entry = block_entry(m, b),
                    .faults = block_faults(b),
                    .fixes = block_fixes(b),
                    .fixes_end = block_fixes_end(b),
                    .n_faults = b->n_faults,
                    .count_ends = block_count_ends(m, b)};
    if (!more) return true;
    out->undo = more->undo;
    out->n_undo = more->n_undo;
    if (!more->traps) return true;
    out->traps_from = out->entry;
    out->cold = more->traps->cold;
    out->traps = more->traps->trap;
    out->n_traps = more->traps->n;
    return true;
}

// A segment counts all its instructions when it begins; those from the fault on did not happen.
static void uncount(Vcpu *v, const CodeAt *b, uint64_t pc) {
    if (b->n_undo) observe_undo(v->hot, b->undo, b->n_undo, (uint32_t)(pc - b->pc));
    if (!v->m->count) return;
    uint64_t done = (pc - b->pc) / v->m->guest->min_insn_bytes;
    const uint16_t *end = b->count_ends;
    while (*end <= done) end++;
    uint64_t not_done = *end - done;
    v->hot->budget += (int64_t)not_done;
}

// By a misaligned access, or a fault.
static void left_half_way(Vcpu *v, uint64_t pc) {
    pthread_mutex_lock(&v->m->lock);
    CodeAt b;
    if (code_at(v->m, (uintptr_t)v->hot->trap_code, &b)) uncount(v, &b, pc);
    pthread_mutex_unlock(&v->m->lock);
}

static void trap(Vcpu *v, IrTrap kind, unsigned value) {
    const Personality *p = v->m->personality;
    if (kind == IR_TRAP_SYSCALL) { // they come often, and know themselves which want more
        p->syscall(v, value);
        return;
    }
    vcpu_fp_sync(v);
    uint64_t pc = vcpu_reg(v, v->m->guest->pc_field);
    switch (kind) {
    case IR_TRAP_SYSCALL: break;
    case IR_TRAP_UNIMPLEMENTED:
    case IR_TRAP_UNDEFINED:
        log_unimplemented(v, kind == IR_TRAP_UNDEFINED ? "undefined" : "unimplemented", pc);
        p->fault(v, SIGILL, ILL_ILLOPC, pc);
        break;
    case IR_TRAP_BREAKPOINT: p->fault(v, SIGTRAP, TRAP_BRKPT, pc); break;
    case IR_TRAP_FLUSH_CODE: machine_invalidate(v->m, v->hot->flush_lo, v->hot->flush_hi); break;
    case IR_TRAP_MODE: v->hot->fp.mode = v->m->guest->fp_mode(v->state); break;
    case IR_TRAP_YIELD: sched_yield(); break;
    case IR_TRAP_FETCH: p->fault(v, SIGSEGV, space_si_code(v->m->as, pc), pc); break;
    case IR_TRAP_ALIGN:
        if (value) left_half_way(v, pc);
        p->fault(v, SIGBUS, BUS_ADRALN, value ? v->hot->trap_addr : pc);
        break;
    }
    vcpu_fp_sync(v);
}

typedef struct Run {
    const void *link;    // the exit that was just taken (VcpuHot.exit_link), to be chained, or NULL
    uint32_t generation; // flush_generation when it was taken
} Run;

// What follows a new block in the guest is translated now, so that it lies right behind it: some of
// it never runs, but loops whose blocks lie in order do much better. A program's first blocks are
// its C library's, which run once.
static void translate_ahead(Vcpu *v, Block *b, uint32_t mode, uint32_t max_insns) {
    enum { BLOCKS_AHEAD = 8, FIRST_BLOCKS = 320 };
    Machine *m = v->m;
    if (m->stats.blocks < FIRST_BLOCKS) return;
    uint32_t generation = atomic_load(&m->flush_generation);
    for (unsigned n = 0; n < BLOCKS_AHEAD; n++) {
        HostLink *next = NULL;
        for (unsigned i = 0; i < b->n_links; i++)
            if (block_links(b)[i].target_pc == b->pc + b->size_bytes) next = &block_links(b)[i];
        if (!next || next->linked) return;
        // A block that was translated has looked for it already.
        Block *known = b->loaded ? block_table_find(m->blocks, next->target_pc, mode) : NULL;
        Block *to = known ? known : block_make(v, next->target_pc, mode, max_insns);
        if (!to || generation != atomic_load(&m->flush_generation)) return;
        block_link(m, next, to);
        if (known || to->loaded) return;
        b = to;
    }
}

// Who interrupts may be between its steps, so we look for an interrupt behind this. What it closes
// then is opened when it is found (engine_handle_fault).
static void open_poll(Vcpu *v) {
    v->hot->poll_closed = 0;
    mprotect(v->hot->poll, POLL_BYTES, PROT_READ | PROT_WRITE);
}

// The block at pc; when it is new, what follows it too. Lock held. NULL: out of memory.
static Block *find_or_translate(Vcpu *v, uint64_t pc, uint32_t mode, uint32_t max_insns) {
    Machine *m = v->m;
    uint32_t key = block_key(m, mode, max_insns);
    Block *b = block_table_find(m->blocks, pc, key);
    if (b) return b;
    uint64_t start_ns = m->count ? engine_now_ns() : 0;
    b = block_make(v, pc, mode, max_insns);
    uint32_t generation = atomic_load(&m->flush_generation);
    if (b && !b->loaded && key == mode) translate_ahead(v, b, mode, max_insns);
    // That may have been too much for the code cache, and this block is gone with all others.
    if (generation != atomic_load(&m->flush_generation)) b = block_make(v, pc, mode, max_insns);
    if (m->count) m->stats.translate_ns += engine_now_ns() - start_ns;
    return b;
}

// After a time without, that doubles: what trapped may be over.
static void fp_traps_again(Vcpu *v) {
    if (!v->fp_pause_ns || engine_now_ns() < v->fp_again_ns) return;
    v->n_fp_traps = 0;
    v->fp_traps = true;
}

// Where code was left by a system call it was often left before: then it goes on without the lock,
// for which all threads would wait. The code at pc, with in_code set, or NULL.
static const void *known_code(Vcpu *v, uint64_t pc) {
    const JumpCacheEntry *e = jump_cache_slot(v, pc);
    if (__atomic_load_n(&e->pc, __ATOMIC_RELAXED) != pc) return NULL;
    atomic_store(&v->in_code, true); // a full barrier: we see `flushing`, or who flushes sees us
    if (!atomic_load(&v->m->flushing) && __atomic_load_n(&e->pc, __ATOMIC_RELAXED) == pc)
        return e->code;
    atomic_store(&v->in_code, false);
    return NULL;
}

// b is where we go on: the exit that was taken is linked to it, or one of them has proved to be
// hot. Returns b, or, when the code cache was emptied meanwhile, its successor; NULL: out of
// memory.
static Block *link_or_heat(Vcpu *v, Block *b, uint32_t mode, const Run *run, uint32_t max_insns) {
    Machine *m = v->m;
    uint64_t pc = b->pc;
    uint32_t generation = atomic_load(&m->flush_generation);
    if (!m->hot_started && v->dispatches >= m->hot_from) hot_start(m);
    HostLink *l = run->link && run->generation == generation ? link_taken(m, run->link) : NULL;
    if (l) hot_exit(v, l, b);
    bool there = generation == atomic_load(&m->flush_generation);
    if (there && v->barred) images_relink(m, b);
    v->barred = false;
    if (there && v->wants_hot) hot_replace(v, &b);
    if (v->wants_homes) homes_consider(v);
    if (generation == atomic_load(&m->flush_generation)) return b;
    return find_or_translate(v, pc, mode, max_insns);
}

// The code at pc, looked up or made, with in_code set. NULL: out of memory.
static const void *find_code(Vcpu *v, uint64_t pc, uint32_t mode, const Run *run,
                             uint32_t max_insns) {
    Machine *m = v->m;
    pthread_mutex_lock(&m->lock);
    uint64_t made = m->stats.blocks;
    Block *b = find_or_translate(v, pc, mode, max_insns);
    bool again = made == m->stats.blocks;
    if (b && b->mode == mode) b = link_or_heat(v, b, mode, run, max_insns);
    if (!b) {
        pthread_mutex_unlock(&m->lock);
        return NULL;
    }
    const void *code = block_entry(m, block_hot(m, b));
    // Where a link leads no other jump may ever go, and much of what is new is never gone to again:
    // less of the cache becomes memory.
    if (b->mode == mode && !run->link && again)
        *jump_cache_slot(v, pc) = (JumpCacheEntry){.pc = pc, .code = code};
    // Who looks at it has the lock, or waits for it to be false: no full barriers.
    atomic_store_explicit(&v->in_code, true, memory_order_release);
    pthread_mutex_unlock(&m->lock); // a full barrier, by its exchange
    return code;
}

// Runs from the guest's pc on. Returns Host.enter's answer, or -1 when out of memory.
static int64_t run_code(Vcpu *v, Run *run, uint32_t max_insns) {
    Machine *m = v->m;
    uint64_t pc = vcpu_reg(v, m->guest->pc_field);
    if (!v->fp_traps) fp_traps_again(v);
    uint32_t mode = vcpu_mode(v);
    if (mode != v->hot->mode) {
        jumps_forget(v);
        v->hot->mode = mode;
        vcpu_fp_sync(v);
        run->link = NULL;
    }
    bool asked = v->barred || v->wants_hot || v->wants_homes;
    bool known = !run->link && !asked && max_insns == m->max_block_insns;
    const void *code = known ? known_code(v, pc) : NULL;
    if (!code && !(code = find_code(v, pc, mode, run, max_insns))) return -1;
    run->generation = atomic_load(&m->flush_generation);
    if (v->hot->interrupt) { // behind a full barrier: see vcpu_interrupt()
        atomic_store_explicit(&v->in_code, false, memory_order_release);
        run->link = NULL;
        return HOST_EXIT_INTERRUPT;
    }
    v->dispatches++;
    if (log_on(&m->log, LOG_EXEC, pc)) log_printf(&m->log, "exec %#lx\n", pc);
    uint64_t why = m->host->enter(m->host_ctx, v->state, code);
    run->link = why == HOST_EXIT_LINK ? v->hot->exit_link : NULL;
    __builtin_prefetch(run->link); // nobody has looked at it since it was made
    atomic_store_explicit(&v->in_code, false, memory_order_release);
    if (m->watches) *vcpu_slot(v->hot, SLOT_AHEAD) = 0;
    return (int64_t)why;
}

// Translation failed for good; m->err says why.
static void give_up(Vcpu *v) {
    v->stop = true;
    v->stop_code = -ENOMEM;
}

// A fault in a helper leaves its C frames without their ends; AddressSanitizer wants to be told.
static void frames_abandoned(void) {
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define BUILT_WITH_ASAN
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(BUILT_WITH_ASAN)
    void __asan_handle_no_return(void);
    __asan_handle_no_return();
#endif
}

static void answer(Vcpu *v, uint64_t why) {
    Machine *m = v->m;
    if (why < HOST_EXIT_FAULT) return; // the loop goes on at the pc in state
    if (why != HOST_EXIT_FAULT) {
        trap(v, (IrTrap)((why - HOST_EXIT_TRAP) & 0xff), (unsigned)((why - HOST_EXIT_TRAP) >> 8));
        return;
    }
    if (v->fault.poll) return;
    vcpu_fp_sync(v);
    frames_abandoned();
    left_half_way(v, vcpu_reg(v, m->guest->pc_field));
    m->personality->fault(v, v->fault.signo, v->fault.si_code, v->fault.addr);
    vcpu_fp_sync(v);
}

int vcpu_run(Vcpu *v, int64_t budget) {
    Machine *m = v->m;
    Run run = {0};
    uint32_t max_insns = m->max_block_insns;
    v->hot->fp.mode = m->guest->fp_mode(v->state);
    vcpu_fp_sync(v);
    uint64_t before = vcpu_insns(v->hot);
    v->hot->budget = budget < 0 ? INT64_MAX - (int64_t)before : budget;
    v->hot->count_base = before + (uint64_t)v->hot->budget;
    if (m->watches) observe_arm(m->watches, v->state);
    int result = ENGINE_STOPPED;
    while (!v->stop) {
        if (v->hot->poll_closed) open_poll(v);
        if (v->hot->interrupt) {
            v->hot->interrupt = 0;
            vcpu_fp_sync(v);
            m->personality->poll(v);
            vcpu_fp_sync(v);
            run.link = NULL;
            continue;
        }
        if (m->watches && atomic_exchange(&m->watches->stale, false)) {
            machine_invalidate_all(m);
            run.link = NULL;
        }
        if (v->hot->budget <= 0 && m->watches) {
            observe_reached(m->watches, v->state);
            max_insns = m->max_block_insns;
            continue;
        }
        if (v->hot->budget <= 0) {
            result = ENGINE_BUDGET;
            break;
        }
        int64_t why = run_code(v, &run, max_insns);
        max_insns = m->max_block_insns;
        if (why < 0) {
            give_up(v);
        } else if (why == HOST_EXIT_BUDGET) {
            // the block was longer than what is left: run the rest exactly
            max_insns = (uint32_t)MAX(MIN(v->hot->budget, (int64_t)max_insns - 1), 1);
        } else {
            answer(v, (uint64_t)why);
        }
    }
    v->hot->count_base = vcpu_insns(v->hot);
    v->hot->budget = 0;
    return result;
}

// ---- faults ----

// The guest pc of the access that is at host_pc, and the code to leave it through, or NULL.
static uint64_t fault_at(const CodeAt *b, uint64_t host_pc, const uint8_t **fix) {
    uint32_t off = (uint32_t)(host_pc - (uintptr_t)b->entry);
    size_t n = COUNT_BEFORE(b->n_faults, i, b->faults[i].host_off <= off);
    *fix = NULL;
    if (!n) return b->pc;
    const HostFault *f = &b->faults[n - 1];
    const HostFix *own = b->fixes + faults_fixed(b->faults, n - 1);
    if (f->fixed && own < b->fixes_end) *fix = b->entry + *own;
    return b->pc + f->guest_off;
}

static void guest_faulted(Vcpu *v, uint64_t pc) {
    const Guest *g = v->m->guest;
    if (g->faulted) g->faulted(v->state, vcpu_mem(v->state, pc), v->fault.write);
}

// A trap costs more than a microsecond, looking for what traps two or three instructions.
static void fp_trap_count(Vcpu *v) {
    enum { TRAPS = 64, LEAST_NS_EACH = 100000, FIRST_PAUSE_NS = 100000000 };
    const uint64_t longest_pause_ns = 30000000000;
    v->m->fp_traps++;
    if (!v->fp_traps || v->n_fp_traps++ % TRAPS) return; // it may take a while until code is left
    uint64_t since = v->fp_traps_since_ns, now = v->fp_traps_since_ns = engine_now_ns();
    if (v->n_fp_traps == 1 || now - since >= (uint64_t)TRAPS * LEAST_NS_EACH) return;
    v->fp_pause_ns = MIN(MAX(2 * v->fp_pause_ns, (uint64_t)FIRST_PAUSE_NS), longest_pause_ns);
    v->fp_again_ns = now + v->fp_pause_ns;
    v->fp_traps = false;
    vcpu_interrupt(v);
}

// The host's FPU has found what translated code does not look for.
static bool fp_trapped(Vcpu *v, void *ucontext, uint64_t host_pc) {
    Machine *m = v->m;
    CodeAt b;
    if (!code_at(m, host_pc, &b)) return false;
    const HostTrap *t = b.traps;
    uint32_t off = (uint32_t)(host_pc - (uintptr_t)b.traps_from);
    size_t n = COUNT_BEFORE(b.n_traps, i, t[i].at <= off);
    if (!n || b.traps_from + t[n - 1].at < b.entry) return false;
    m->host->take_fp_trap(m->host_ctx, ucontext, b.cold + t[n - 1].to);
    fp_trap_count(v);
    return true;
}

// A block of an image whose guest code is no more what it was made of: the dispatcher goes on.
static bool is_barred(Vcpu *v, void *ucontext, uint64_t host_pc) {
    CodeAt b;
    if (!image_code_at(v->m, host_pc, &b) || !b.barred || (uintptr_t)b.entry != host_pc)
        return false;
    v->barred = true;
    v->m->host->leave_at_entry(v->m->host_ctx, ucontext, b.pc);
    return true;
}

bool engine_handle_fault(Vcpu *v, int signo, const void *info, void *ucontext) {
    const siginfo_t *si = info;
    if (!v || !atomic_load(&v->in_code)) return false;
    Machine *m = v->m;
    uint64_t host_pc = m->host->fault_pc(ucontext);
    bool in_code = host_pc >= (uintptr_t)m->cache_first && host_pc < (uintptr_t)m->cache_end;
    if (!in_code && !v->hot->in_helper) return false;
    if (in_code && signo == SIGTRAP) return is_barred(v, ucontext, host_pc - 1);
    if (in_code && signo == SIGFPE) return fp_trapped(v, ucontext, host_pc);
    if (in_code && m->host->own_fault(m->host_ctx, v->state, ucontext, (uintptr_t)si->si_addr))
        return true;
    v->fault.signo = signo;
    v->fault.si_code = si->si_code;
    v->fault.addr = (uintptr_t)si->si_addr - v->hot->mem_base;
    v->fault.poll = in_code && (uintptr_t)si->si_addr - (uintptr_t)v->hot->poll < POLL_BYTES;
    if (in_code) {
        CodeAt b;
        if (!code_at(m, host_pc, &b)) return false;
        const uint8_t *fix;
        uint64_t pc = fault_at(&b, host_pc, &fix);
        if (v->fault.poll && !v->hot->interrupt && !hot_seen(v, pc)) {
            open_poll(v);
            if (!v->hot->interrupt) return true; // else we may have opened what was closed for it
        }
        if (v->fault.poll)
            v->hot->poll_closed = 1;
        else
            guest_faulted(v, pc);
        m->host->leave_at_fault(m->host_ctx, v->state, ucontext, true, fix);
        vcpu_set_reg(v, m->guest->pc_field, pc);
        v->hot->trap_code = b.entry; // what it counted is put right when its registers are stored
    } else {
        guest_faulted(v, vcpu_reg(v, m->guest->pc_field));
        m->host->leave_at_fault(m->host_ctx, v->state, ucontext, false, NULL);
        v->hot->in_helper = 0;
    }
    return true;
}
