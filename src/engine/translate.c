// translate.c - from a guest pc to a block of host code: lift, verify, compile, or say directly
// what may run once only; enter into the table. Everything here runs with Machine.lock held, on the
// machine's one workbench region.
#include "engine/engine.h"
#include "engine/persist.h"
#include "memory/space.h"
#include "observe/observe.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum { AHEAD_BYTES = 2 << 10 };
enum { MAX_RELOCS = 4096 }; // a block with more is not kept

static const uint8_t *fetch(void *ctx, uint64_t pc, unsigned bytes) {
    Machine *m = ctx;
    return space_fetch_near(m->as, &m->fetched, pc, bytes);
}

// One write a line: log_printf's lines are bounded, a region is not.
static void log_text(const Machine *m, Buf *text) {
    for (char *at = text->data, *end; at && *at; at = end) {
        end = strchr(at, '\n');
        end = end ? end + 1 : at + strlen(at);
        log_printf(&m->log, "%.*s", (int)(end - at), at);
    }
    buf_free(text);
}

static void log_guest_code(const Machine *m, uint64_t pc, uint32_t n_insns, uint32_t size_bytes) {
    Buf text = {0};
    buf_printf(&text, "guest block %#lx, %u instructions, %u bytes\n", pc, n_insns, size_bytes);
    for (uint64_t end = pc + size_bytes; pc < end;) {
        unsigned n = (unsigned)MIN(end - pc, (uint64_t)m->guest->max_insn_bytes);
        const uint8_t *bytes = space_fetch(m->as, pc, n);
        buf_printf(&text, "  %#lx:  ", pc);
        unsigned took = bytes ? m->guest->disassemble(bytes, n, pc, &text) : 0;
        if (!took) buf_printf(&text, "(undefined)");
        buf_printf(&text, "\n");
        pc += took ? took : m->guest->min_insn_bytes;
    }
    log_text(m, &text);
}

static void log_ir(const Machine *m, const IrRegion *r) {
    Buf text = {0};
    ir_print(r, &text);
    log_text(m, &text);
}

static void log_host_code(const Machine *m, const Block *b, const HostOutput *out) {
    Buf text = {0};
    if (!m->host->disassemble) return;
    m->host->disassemble(block_entry(m, b), b->code_bytes, &text);
    log_printf(&m->log, "host code of %#lx, %u bytes\n", b->pc, b->code_bytes);
    log_text(m, &text);
    if (!out->cold_bytes) return;
    m->host->disassemble(out->cold, out->cold_bytes, &text);
    log_printf(&m->log, "cold code of %#lx, %u bytes\n", b->pc, out->cold_bytes);
    log_text(m, &text);
}

bool machine_host_text(Machine *m, uint64_t pc, Buf *text) {
    bool found = false;
    pthread_mutex_lock(&m->lock);
    for (uint32_t i = block_table_made(m->blocks); i-- && !found && m->host->disassemble;) {
        const Block *b = block_table_nth(m->blocks, i);
        if (b->pc != pc || b->dead || b->mode >> BLOCK_CUT_SHIFT) continue;
        m->host->disassemble(block_entry(m, b), b->code_bytes, text);
        found = true;
    }
    pthread_mutex_unlock(&m->lock);
    return found;
}

// One line for Linux perf: where the block lies and which guest code it is. The file is opened for
// each line: it belongs to the process that runs, also behind a fork.
static void name_to_perf(const Machine *m, const Block *b) {
    char name[40];
    snprintf(name, sizeof name, "/tmp/perf-%d.map", (int)getpid());
    FILE *f = fopen(name, "ae");
    if (!f) return;
    fprintf(f, "%lx %x guest_%lx%s\n", (unsigned long)(uintptr_t)block_entry(m, b), b->code_bytes,
            b->pc, b->mode >> BLOCK_HOT_SHIFT ? ".hot" : "");
    fclose(f);
}

BlockMore *block_make_more(Machine *m, Block *b) {
    BlockMore *more = block_more(m, b);
    if (more) return more;
    if (!(more = meta_alloc(&m->meta, sizeof *more))) return NULL;
    *more = (BlockMore){0};
    b->more = meta_ref(&m->meta, more);
    return more;
}

// Moves the tables to where they belong (block_faults, block_fixes). Returns what lies behind.
static uint16_t *keep_tables(const HostOutput *out, Block *b) {
    HostFault *faults = (HostFault *)(uintptr_t)block_faults(b);
    HostFix *fixes = (HostFix *)(uintptr_t)block_fixes(b);
    if (out->n_faults && faults != out->faults)
        memmove(faults, out->faults, out->n_faults * sizeof *faults);
    if (out->n_fixes) memmove(fixes, out->fixes, out->n_fixes * sizeof *fixes);
    return (uint16_t *)(fixes + out->n_fixes);
}

// Where the segments of a block end that counts its instructions: for the one that a fault leaves.
static uint16_t *segment_ends(const IrRegion *r, uint16_t *ends) {
    uint32_t end = 0;
    for (uint32_t i = 0; i < r->n_counts; i++)
        *ends++ = (uint16_t)(end += (uint32_t)r->insts[r->counts[i]].imm);
    *ends++ = UINT16_MAX;
    return ends;
}

static uint16_t *direct_segment_ends(const GuestDirect *made, uint16_t *ends) {
    uint32_t end = 0;
    for (uint32_t i = 0; i < made->n_segments; i++)
        *ends++ = (uint16_t)(end += made->segment_insns[i]);
    *ends++ = UINT16_MAX;
    return ends;
}

static bool keep_traps(Machine *m, const HostOutput *out, Block *b) {
    if (!out->n_traps) return true;
    BlockTraps *t = meta_alloc(&m->meta, sizeof *t + out->n_traps * sizeof *t->trap);
    BlockMore *more = block_make_more(m, b);
    if (!t || !more) return false;
    t->cold = out->cold;
    t->n = out->n_traps;
    memcpy(t->trap, out->traps, t->n * sizeof *t->trap);
    more->traps = t;
    return true;
}

// A table of the workbench, with room for n items; NULL: out of memory, and it stays as it was.
static void *with_room(void *table, uint32_t *cap, uint32_t n, size_t item) {
    if (n <= *cap) return table;
    void *bigger = realloc(table, n * item);
    if (bigger) *cap = n;
    return bigger;
}

static bool trap_room(Machine *m, uint32_t n) {
    HostTrap *traps = with_room(m->traps, &m->cap_traps, n, sizeof *traps);
    if (traps) m->traps = traps;
    return traps || !n;
}

// For the traps of a region (an op may become a loop with two), and what its exits leave in flags.
static bool workbench_room(Machine *m, const IrRegion *r) {
    uint32_t n_made = r->hot ? r->n_exits : 0;
    IrFlagsMade *made = with_room(m->made, &m->cap_made, n_made, sizeof *made);
    if (made) m->made = made;
    return trap_room(m, r->fp_traps ? 2 * r->n_fp : 0) && (made || !n_made);
}

static bool reloc_room(Machine *m) {
    if (!m->persist || m->relocs) return true;
    return (m->relocs = malloc(MAX_RELOCS * sizeof *m->relocs));
}

// When there is no room, or it is too large, the block is not kept.
static void note_kept(Machine *m, const HostOutput *out, const Block *b) {
    if (out->unfreezable || !b->size_bytes || out->cold_bytes > UINT16_MAX) return;
    BlockKept *k = meta_alloc(&m->meta, sizeof *k + out->n_relocs * sizeof *k->relocs);
    if (!k) return;
    *k = (BlockKept){.block = meta_ref(&m->meta, b),
                     .cold = (uint32_t)((const uint8_t *)out->cold - m->cache),
                     .cold_bytes = (uint16_t)out->cold_bytes,
                     .n_relocs = (uint16_t)out->n_relocs};
    memcpy(k->relocs, out->relocs, out->n_relocs * sizeof *k->relocs);
    persist_note(m, k);
}

HostCode translate_room(Machine *m, size_t bytes) {
    pages_ahead(m->cache_at, bytes, &m->cache_there, m->cache_first, m->hot_end);
    pages_ahead(m->cold_at, bytes, &m->cold_there, m->cache_cold, m->cache_end);
    return (HostCode){
        .at = m->cache_at, .end = m->hot_end, .cold = m->cold_at, .cold_end = m->cache_end};
}

// What tools take back when the block is left half-way.
static bool keep_undo(Machine *m, const Observed *seen, Block *b) {
    if (!seen->n_undo) return true;
    WatchUndo *undo = meta_alloc(&m->meta, seen->n_undo * sizeof *undo);
    BlockMore *more = block_make_more(m, b);
    if (!undo || !more) return false;
    memcpy(undo, seen->undo, seen->n_undo * sizeof *undo);
    more->undo = undo;
    more->n_undo = seen->n_undo;
    return true;
}

static bool keep_link_counts(Machine *m, HostCount *counts, Block *b) {
    if (!counts) return true;
    BlockMore *more = block_make_more(m, b);
    if (more) more->counts = counts;
    return more;
}

// What a block may need at most, beside its code.
typedef struct BlockRoom {
    uint32_t links, faults, segments;
} BlockRoom;

// Room for a new block, and where its code goes. Code refers to its links by address, so they are
// made where they stay, and behind them the fault table; then what it counts. NULL: there is none.
static Block *block_begin(Machine *m, uint64_t pc, bool keep, BlockRoom most, HostOutput *out,
                          HostCode *code) {
    Block *b = meta_alloc(&m->meta, sizeof *b + most.links * sizeof(HostLink) +
                                        most.faults * (sizeof(HostFault) + sizeof(HostFix)) +
                                        (most.segments + 1) * sizeof(uint16_t));
    if (!b) return NULL;
    HostFault *faults = (HostFault *)(block_links(b) + most.links);
    *out = (HostOutput){.links = block_links(b),
                        .faults = faults,
                        .fixes = (HostFix *)(faults + most.faults),
                        .traps = m->traps,
                        .made = m->made,
                        .relocs = m->relocs,
                        .cap_relocs = keep ? MAX_RELOCS : 0};
    const Block *before = m->falls_into_next;
    *code = translate_room(m, AHEAD_BYTES);
    code->follows = before && before->pc + before->size_bytes == pc;
    return b;
}

static void block_describe(const Machine *m, Block *b, uint64_t pc, uint32_t size_bytes,
                           uint32_t n_insns, const HostOutput *out, bool direct) {
    *b = (Block){.pc = pc,
                 .entry = (uint32_t)((const uint8_t *)out->entry - m->cache),
                 .code_bytes = out->code_bytes,
                 .direct = direct,
                 .size_bytes = (uint16_t)size_bytes,
                 .n_insns = (uint16_t)n_insns,
                 .n_links = (uint16_t)out->n_links,
                 .n_faults = (uint16_t)out->n_faults};
}

static void block_end(Machine *m, Block *b, bool keep, const HostOutput *out,
                      const HostCode *code) {
    m->cache_at = code->at;
    m->cold_at = code->cold;
    if (keep) note_kept(m, out, b);
}

static HostError no_memory(Machine *m, uint64_t pc) {
    err_set(&m->err, -ENOMEM, "translating %#lx: out of memory", pc);
    return HOST_UNSUPPORTED;
}

// Makes a new Block of the region, the code with it. An access may become a loop with two faults,
// and the entry has one. What is left of the room is given back.
static HostError compile(Machine *m, const IrRegion *r, uint32_t key, const Observed *seen,
                         Block **made, HostOutput *out) {
    if (!workbench_room(m, r) || !reloc_room(m)) return no_memory(m, r->pc);
    bool keep = persist_wants(m, r->pc, key);
    HostCount *counts = r->hot ? meta_alloc(&m->meta, r->n_exits * sizeof *counts + 1) : NULL;
    BlockRoom most = {.links = r->n_exits, .faults = 2 * r->n_mem + 1, .segments = r->n_counts};
    HostCode code;
    Block *b = block_begin(m, r->pc, keep, most, out, &code);
    if (!b || (r->hot && !counts)) return HOST_NO_ROOM;
    out->counts = counts;
    HostError e = m->host->compile(m->host_ctx, r, &code, out, &m->err);
    if (e != HOST_OK) return e;
    block_describe(m, b, r->pc, r->size_bytes, r->n_insns, out, false);
    uint16_t *behind = keep_tables(out, b);
    meta_trim(&m->meta, m->count ? segment_ends(r, behind) : behind);
    if (!keep_traps(m, out, b) || !keep_undo(m, seen, b) || !keep_link_counts(m, counts, b))
        return HOST_NO_ROOM;
    block_end(m, b, keep, out, &code);
    *made = b;
    return HOST_OK;
}

// ---- blocks that are said directly ----

typedef struct Saying {
    Machine *m;
    const GuestLift *how;
    GuestDirect made;
} Saying;

static void say(void *saying, Direct *d) {
    Saying *s = saying;
    s->m->guest->direct(s->how, &s->m->region, d, &s->made);
}

// Cold code that nobody watches and that may run once only. (Who wants to see the IR sees it.)
static bool goes_directly(Machine *m, const GuestLift *how) {
    return m->guest->direct && m->host->direct && !how->hot && !how->watch && !how->budget &&
           how->max_insns <= DEFAULT_BLOCK_INSNS && !m->verify &&
           !log_on(&m->log, LOG_IR, how->pc) && again_soon_is_better(m, how->pc);
}

// As compile(). HOST_UNSUPPORTED: there is no room for it in the tables of direct blocks.
static HostError make_directly(Machine *m, const GuestLift *how, uint32_t key, Block **made,
                               HostOutput *out) {
    if (!trap_room(m, HOST_DIRECT_TRAPS) || !reloc_room(m)) return no_memory(m, how->pc);
    bool keep = persist_wants(m, how->pc, key);
    BlockRoom most = {HOST_DIRECT_LINKS, HOST_DIRECT_FAULTS, GUEST_MOST_SEGMENTS};
    Saying saying = {.m = m, .how = how};
    HostCode code;
    Block *b = block_begin(m, how->pc, keep, most, out, &code);
    if (!b) return HOST_NO_ROOM;
    ir_region_reset(&m->region, how->pc);
    m->region.mark_all = false;
    HostError e = m->host->direct(m->host_ctx, &m->region, &code, out, say, &saying, &m->err);
    if (e != HOST_OK) return meta_trim(&m->meta, b), e;
    block_describe(m, b, how->pc, saying.made.size_bytes, saying.made.n_insns, out, true);
    uint16_t *behind = keep_tables(out, b);
    meta_trim(&m->meta, m->count ? direct_segment_ends(&saying.made, behind) : behind);
    if (!keep_traps(m, out, b)) return HOST_NO_ROOM;
    block_end(m, b, keep, out, &code);
    m->stats.ir_insts += saying.made.n_ir_insts;
    if (log_on(&m->log, LOG_GUEST, how->pc)) log_guest_code(m, b->pc, b->n_insns, b->size_bytes);
    *made = b;
    return HOST_OK;
}

// Exact budgets count instructions by the same op that stops them.
static void count_becomes_budget(IrRegion *r) {
    for (uint32_t i = 0; i < r->n_counts; i++) r->insts[r->counts[i]].op = IR_budget;
}

static void lift_onto_workbench(Machine *m, const GuestLift *how) {
    IrRegion *r = &m->region;
    ir_region_reset(r, how->pc);
    r->fp_rules = m->guest->fp_rules;
    r->fp_traps = how->mode & MODE_FP_TRAPS;
    r->mark_all = how->watch;
    r->hot = how->hot;
    m->guest->lift(r, how);
}

// No tool wants anything of what was lifted: it becomes what it is without them. But they were not
// shown what lies behind it.
static bool lift_unwatched(Machine *m, GuestLift *how) {
    uint32_t shown_bytes = m->region.size_bytes;
    GuestLift plain = *how;
    plain.watch = false;
    plain.count = m->count;
    lift_onto_workbench(m, &plain);
    return m->region.size_bytes <= shown_bytes;
}

// What the tools see. They may want it to end sooner, or to be no unrolled loop.
static bool lift_and_show(Machine *m, GuestLift *how, Observed *seen) {
    *seen = (Observed){0};
    do {
        how->once |= seen->once;
        if (seen->cut) {
            how->max_insns = seen->cut;
            how->extend = false;
        }
        lift_onto_workbench(m, how);
        if (m->region.failed) return false;
        if (how->watch && !observe_region(m->watches, &m->region, how, m->count, seen))
            return false;
    } while (seen->cut || seen->once);
    return true;
}

// Builds with assertions check every region, as tools have woven it.
static bool checks_ir(const Machine *m) {
#ifdef NDEBUG
    return m->verify;
#else
    return true;
#endif
}

// The region at how->pc on the workbench, as the attached tools want it. NULL with a message.
static IrRegion *lift(Machine *m, GuestLift *how, Observed *seen) {
    IrRegion *r = &m->region;
    bool ok = lift_and_show(m, how, seen);
    if (ok && how->watch && !seen->asked && !lift_unwatched(m, how))
        ok = lift_and_show(m, how, seen);
    if (r->failed || !ok)
        return err_set(&m->err, -ENOMEM, "translating %#lx: out of memory", how->pc), NULL;
    if (seen->region) r = (IrRegion *)(uintptr_t)seen->region;
    if (m->budgeted) count_becomes_budget(r);
    if (log_on(&m->log, LOG_GUEST, how->pc)) log_guest_code(m, r->pc, r->n_insns, r->size_bytes);
    if (log_on(&m->log, LOG_IR, how->pc)) log_ir(m, r);
    DgmErr why;
    if (!checks_ir(m) || ir_verify(r, &why)) return r;
    return err_set(&m->err, -EINVAL, "translating %#lx: bad IR: %s", how->pc, why.text), NULL;
}

// There is nothing shorter to be tried.
static HostError give_up(GuestLift *how) {
    how->max_insns = 0;
    return HOST_UNSUPPORTED;
}

static HostError make_by_region(Machine *m, GuestLift *how, uint32_t key, Block **made,
                                HostOutput *out) {
    Observed seen;
    const IrRegion *r = lift(m, how, &seen);
    if (!r) return give_up(how);
    HostError e = compile(m, r, key, &seen, made, out);
    if (e == HOST_OK) m->stats.ir_insts += r->n_insts;
    if (e != HOST_UNSUPPORTED) return e;
    if (how->flags || (r->n_insns <= 1 && !how->hot)) return give_up(how);
    if (!how->hot) {
        how->max_insns = r->n_insns / 2;
        how->extend = false; // and not beyond
    }
    how->hot = false;
    return HOST_UNSUPPORTED;
}

// When the cache is full it is emptied; a block that is more than the host can hold in its
// registers and spill slots is made shorter.
static Block *make(Vcpu *v, GuestLift *how, uint32_t key, HostOutput *out) {
    Machine *m = v->m;
    Block *b;
    bool directly = goes_directly(m, how);
    for (bool flushed = false;;) {
        HostError e =
            directly ? make_directly(m, how, key, &b, out) : make_by_region(m, how, key, &b, out);
        if (e == HOST_OK) return b;
        if (!how->max_insns) return NULL;
        if (e == HOST_UNSUPPORTED) {
            directly = false;
            continue;
        }
        if (flushed)
            return err_set(&m->err, -ENOMEM, "translating %#lx: the code cache is too small",
                           how->pc),
                   NULL;
        machine_flush(m, v);
        flushed = true;
    }
}

static GuestLift how_to_lift(Machine *m, uint64_t pc, uint32_t mode, uint32_t max_insns) {
    return (GuestLift){.pc = pc,
                       .mode = mode & (((1u << WATCH_MODE_SHIFT) - 1) | MODE_FP_TRAPS),
                       .unwatched = (mode & (MODE_FP_TRAPS - 1)) >> WATCH_MODE_SHIFT,
                       .features = m->features,
                       .max_insns = max_insns,
                       .extend = max_insns == m->max_block_insns && max_insns > 1,
                       .fetch = fetch,
                       .fetch_ctx = m};
}

const IrRegion *translate_lift(Machine *m, uint64_t pc, uint32_t mode) {
    GuestLift how = how_to_lift(m, pc, mode, m->max_block_insns);
    lift_onto_workbench(m, &how);
    return m->region.failed ? NULL : &m->region;
}

static Block *translate(Vcpu *v, uint64_t pc, uint32_t mode, uint32_t max_insns, uint32_t key) {
    Machine *m = v->m;
    uint32_t hot = key >> BLOCK_HOT_SHIFT;
    GuestLift how = how_to_lift(m, pc, mode, max_insns);
    how.watch = watches_code(m->watches);
    how.count = m->count || how.watch; // there, a count is where a segment begins
    how.hot = hot || m->tier == TIER_HOT;
    how.flags = hot > 1 ? hot_context(m, hot - 1) : NULL;
    how.budget = m->budgeted;
    HostOutput out;
    Block *b = make(v, &how, key, &out);
    if (!b) return NULL;
    m->stats.blocks++;
    m->stats.hot += how.hot;
    b->mode = key;
    if (how.hot) hot_note_contexts(m, b, out.made);
    m->stats.guest_insns += b->n_insns;
    m->stats.guest_bytes += b->size_bytes;
    m->stats.host_bytes += out.code_bytes + out.cold_bytes;
    if (log_on(&m->log, LOG_HOST, pc)) log_host_code(m, b, &out);
    return b;
}

// A look-up now is cheaper than to come back to the dispatcher when the exit is taken.
static void link_to_known(Machine *m, Block *b) {
    uint32_t mode = block_plain_mode(b);
    for (unsigned i = 0; i < b->n_links; i++) {
        HostLink *l = &block_links(b)[i];
        Block *to = block_table_find(m->blocks, l->target_pc, mode);
        if (to) block_link(m, l, to);
    }
}

Block *block_known(Machine *m, uint64_t pc, uint32_t mode) {
    Block *b = block_table_find(m->blocks, pc, mode);
    return b ? b : persist_load(m, pc, mode);
}

Block *block_make(Vcpu *v, uint64_t pc, uint32_t mode, uint32_t max_insns) {
    Machine *m = v->m;
    uint32_t key = block_key(m, mode, max_insns);
    Block *b = persist_load(m, pc, key);
    if (b) return b;
    b = translate(v, pc, mode, max_insns, key);
    if (!b) return NULL;
    if (!block_table_add(m->blocks, b))
        return err_set(&m->err, -ENOMEM, "translating %#lx: out of memory", pc), NULL;
    m->falls_into_next = b;
    if (key == mode) link_to_known(m, b);
    if (m->perf_map) name_to_perf(m, b);
    return b;
}

Block *block_get_hot(Vcpu *v, uint64_t pc, uint32_t mode, uint32_t context) {
    Machine *m = v->m;
    uint32_t key = mode | (context + 1) << BLOCK_HOT_SHIFT;
    Block *b = block_table_find(m->blocks, pc, key);
    if (b) return b;
    uint64_t start_ns = m->count ? engine_now_ns() : 0;
    b = translate(v, pc, mode, m->max_block_insns, key);
    if (m->count) m->stats.translate_ns += engine_now_ns() - start_ns;
    if (!b || !block_table_add(m->blocks, b)) return NULL;
    m->falls_into_next = b;
    link_to_known(m, b);
    if (m->perf_map) name_to_perf(m, b);
    return b;
}
