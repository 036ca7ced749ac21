// insn_host.c - runs cases (insn_case.h) from stdin through the AArch64 lifter and a host of this
// build, without engine or personality, and writes what became of them to stdout.
//
//   insn_host [interp|x86_64] [--isa LIMIT] [--hot|--direct] [--print]
//
// --print: the IR of every case, on stderr. --direct: said directly (ir/direct.h), as the engine
// does cold code; else it is lifted. --hot: as the engine's second effort does it, in two
// regions, of which the second is entered with the flags that the first one's exit says.
#include "../host/bare_vcpu.h"
#include "insn_case.h"

#include "guest/aarch64/guest.h"
#include "guest/aarch64/lift.h"
#include "guest/aarch64/state.h"
#include "host/host.h"

#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

extern const Guest guest_aarch64;
extern const Host host_x86_64 __attribute__((weak));

typedef struct Half {
    HostLink links[64];    // a case has few exits,
    HostFault faults[512]; // and eight instructions
    HostFix fixes[512];
    HostTrap traps[512];
    HostCount counts[64];
    IrFlagsMade made[64];
    HostOutput out;
} Half;

typedef struct Machine {
    const Host *host;
    HostCtx *ctx;
    Arena arena;
    IrRegion region;
    HostCode code;
    uint8_t *code_start;
    Half half[2]; // of the case that runs; as a rule the first is all of it
    A64State *state;
    bool print, hot, direct;
} Machine;

static sigjmp_buf caught;

static Machine *running;

static void on_signal(int sig, siginfo_t *info, void *ucontext) {
    const Machine *m = running;
    if (sig == SIGFPE && info->si_code > 0 && m->host->take_fp_trap &&
        (bare_fp_trap(m->host, m->ctx, &m->half[0].out, ucontext) ||
         bare_fp_trap(m->host, m->ctx, &m->half[1].out, ucontext)))
        return;
    siglongjmp(caught, sig);
}

static const uint8_t *fetch(void *ctx, uint64_t pc, unsigned bytes) {
    const Case *c = ctx;
    return (const uint8_t *)c->insns + (pc & (CASE_SLOT_BYTES - 1)) - CASE_INSN_OFFSET;
}

static void load_state(Machine *m, const Case *c, uint64_t pc) {
    A64State *s = m->state;
    a64_reset(s, guest_aarch64.cpus[0].features);
    memcpy(s->x, c->x, sizeof s->x);
    s->sp = c->sp;
    s->pc = pc;
    memcpy(s->v, c->v, sizeof s->v);
    s->nzcv = ir_flags_from_nzcv(c->nzcv);
    s->fpcr = c->fpcr;
    VcpuHot *hot = vcpu_hot(s);
    a64_set_fpsr(s, c->fpsr);
    hot->fp.mode = guest_aarch64.fp_mode(s);
    hot->fp.rules = IR_FP_ARM;
    hot->mode = guest_aarch64.mode(s) | (m->host->take_fp_trap ? MODE_FP_TRAPS : 0);
    hot->budget = 1000;
}

static void save_state(Machine *m, Case *c) {
    const A64State *s = m->state;
    memcpy(c->x, s->x, sizeof s->x);
    c->sp = s->sp;
    memcpy(c->v, s->v, sizeof s->v);
    c->nzcv = ir_flags_to_nzcv(s->nzcv);
    c->fpcr = s->fpcr;
    c->fpsr = a64_get_fpsr(s);
}

enum { STATUS_BAD_IR = 100, STATUS_NOT_COMPILED, STATUS_UNSUPPORTED };

typedef struct Saying {
    Machine *m;
    const GuestLift *how;
} Saying;

static void say(void *saying, Direct *d) {
    const Saying *s = saying;
    GuestDirect made;
    guest_aarch64.direct(s->how, &s->m->region, d, &made);
}

// Code and cold code side by side, as in the engine's cache.
static HostError make_directly(Machine *m, const GuestLift *how, HostOutput *out, DgmErr *err) {
    uint8_t *middle = m->code.at + (m->code.end - m->code.at) / 2;
    HostCode room = {.at = m->code.at, .end = middle, .cold = middle, .cold_end = m->code.end};
    return m->host->direct(m->ctx, &m->region, &room, out, say, &(Saying){m, how}, err);
}

static bool lift(Machine *m, const GuestLift *how, DgmErr *err) {
    guest_aarch64.lift(&m->region, how);
    if (m->print) {
        Buf text = {0};
        ir_print(&m->region, &text);
        fprintf(stderr, "%s\n", text.data);
        buf_free(&text);
    }
    if (ir_verify(&m->region, err)) return true;
    fprintf(stderr, "insn_host: %#lx: %s\n", how->pc, err->text);
    return false;
}

// What is at pc, n instructions, entered with these flags (NULL: they are in state).
static uint32_t compile(Machine *m, Case *c, uint64_t pc, uint32_t n, const IrFlagsMade *flags,
                        bool hot, Half *h) {
    HostOutput *out = &h->out;
    *out = (HostOutput){.links = h->links,
                        .faults = h->faults,
                        .fixes = h->fixes,
                        .traps = h->traps,
                        .counts = h->counts,
                        .made = h->made};
    DgmErr err = {.text = ""};
    arena_reset(&m->arena);
    ir_region_init(&m->region, &m->arena, guest_aarch64.fields, guest_aarch64.n_fields,
                   guest_aarch64.pc_field);
    ir_region_reset(&m->region, pc);
    m->region.fp_traps = vcpu_hot(m->state)->mode & MODE_FP_TRAPS;
    m->region.hot = hot;
    GuestLift how = {.pc = pc,
                     .mode = vcpu_hot(m->state)->mode,
                     .features = m->state->features,
                     .max_insns = n,
                     .hot = hot,
                     .flags = flags,
                     .fetch = fetch,
                     .fetch_ctx = c};
    HostError e = HOST_OK;
    if (m->direct)
        e = make_directly(m, &how, out, &err);
    else if (!lift(m, &how, &err))
        return STATUS_BAD_IR;
    else
        e = m->host->compile(m->ctx, &m->region, &m->code, out, &err);
    if (e == HOST_UNSUPPORTED && hot) return STATUS_UNSUPPORTED;
    if (e == HOST_OK) return 0;
    fprintf(stderr, "insn_host: %08x: not compiled (%d): %s\n", c->insns[0], e, err.text);
    return STATUS_NOT_COMPILED;
}

// The engine's way with what is not to be had as a hot region.
static uint32_t compile_any(Machine *m, Case *c, uint64_t pc, uint32_t n, Half *h) {
    uint32_t status = m->hot ? compile(m, c, pc, n, NULL, true, h) : STATUS_UNSUPPORTED;
    return status == STATUS_UNSUPPORTED ? compile(m, c, pc, n, NULL, false, h) : status;
}

// The other half of a hot case, behind the first one's exit.
static uint32_t compile_second(Machine *m, Case *c, uint64_t pc, uint32_t n) {
    Half *first = &m->half[0], *second = &m->half[1];
    for (uint32_t i = 0; i < first->out.n_links; i++) {
        HostLink *l = &first->links[i];
        if (l->target_pc != pc) continue;
        uint32_t context = l->counts && l->sunk ? first->counts[i].context : 0;
        uint32_t status = STATUS_UNSUPPORTED;
        if (context) status = compile(m, c, pc, n, &first->made[context - 1], true, second);
        bool for_good = !status || !l->counts || !l->sunk;
        if (status == STATUS_UNSUPPORTED) status = compile_any(m, c, pc, n, second);
        if (status) return status;
        if (l->counts) {
            first->counts[i].count = 1;
            first->counts[i].entry = second->out.entry;
        }
        if (for_good) m->host->link(m->ctx, l, second->out.entry);
    }
    return 0;
}

static uint32_t run(Machine *m, Case *c, uint64_t pc) {
    load_state(m, c, pc);
    m->half[1].out = (HostOutput){0};
    m->code.at = m->code_start;
    uint32_t n = m->hot && c->n_insns > 1 ? c->n_insns / 2 : c->n_insns;
    uint32_t status = compile_any(m, c, pc, n, &m->half[0]);
    if (!status && n < c->n_insns) status = compile_second(m, c, pc + 4ull * n, c->n_insns - n);
    if (status) return status;
    int sig = sigsetjmp(caught, 1);
    if (sig) return (uint32_t)sig;
    bare_vcpu_init(m->host, m->ctx, m->state);
    uint64_t exit = m->host->enter(m->ctx, m->state, m->half[0].out.entry);
    m->host->fp_sync(m->ctx, m->state);
    if (exit < HOST_EXIT_TRAP) return 0;
    switch ((exit - HOST_EXIT_TRAP) & 255) {
    case IR_TRAP_UNDEFINED:
    case IR_TRAP_UNIMPLEMENTED: return SIGILL;
    case IR_TRAP_BREAKPOINT: return SIGTRAP;
    case IR_TRAP_ALIGN: return SIGBUS;
    default: return 0;
    }
}

static bool transfer(bool in, void *p, size_t n) {
    for (size_t done = 0; done < n;) {
        ssize_t k = in ? read(0, (char *)p + done, n - done) : write(1, (char *)p + done, n - done);
        if (k <= 0) return false;
        done += (size_t)k;
    }
    return true;
}

int main(int argc, char **argv) {
    static Machine m; // large
    m.host = &host_interp;
    const char *isa = NULL;
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "x86_64"))
            m.host = &host_x86_64;
        else if (!strcmp(argv[i], "--print"))
            m.print = true;
        else if (!strcmp(argv[i], "--hot"))
            m.hot = true;
        else if (!strcmp(argv[i], "--direct"))
            m.direct = true;
        else if (!strcmp(argv[i], "--isa") && i + 1 < argc)
            isa = argv[++i];
    }
    size_t code_bytes = 64u << 20;
    uint8_t *code = mmap(NULL, code_bytes, PROT_READ | PROT_WRITE | PROT_EXEC,
                         MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint8_t *mem = mmap((void *)CASE_MEM, 4096, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    size_t state_bytes = ALIGN_UP(sizeof(VcpuHot) + sizeof(A64State), _Alignof(VcpuHot));
    VcpuHot *hot = aligned_alloc(_Alignof(VcpuHot), state_bytes);
    m.hot = m.hot && m.host && m.host->counts;
    m.direct = m.direct && m.host && m.host->direct;
    if (!m.host || code == MAP_FAILED || mem == MAP_FAILED || !hot) {
        fprintf(stderr, "insn_host: no such host, or no memory\n");
        return 1;
    }
    memset(hot, 0, state_bytes);
    for (unsigned i = 0; i < JUMP_CACHE_ENTRIES; i++) hot->jump_cache[i].pc = ~0ull;
    m.state = (A64State *)(hot + 1);
    m.code = (HostCode){.at = code, .end = code + code_bytes};
    const Guest *g = &guest_aarch64;
    DgmErr err = {.text = ""};
    m.ctx = m.host->create(g->fields, g->n_fields, g->pc_field, g->state_bytes, &g->hot, isa, 0,
                           &m.code, &err);
    if (!m.ctx) {
        fprintf(stderr, "insn_host: %s\n", err.text);
        return 1;
    }
    m.code_start = m.code.at;
    static const int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP};
    struct sigaction on = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO};
    running = &m;
    for (unsigned i = 0; i < ARRAY_LEN(signals); i++) sigaction(signals[i], &on, NULL);
    Case c;
    for (unsigned i = 0; transfer(true, &c, sizeof c); i++) {
        memcpy(mem, c.mem, sizeof c.mem);
        c.status = run(&m, &c,
                       CASE_CODE + (uint64_t)(i % CASE_SLOTS) * CASE_SLOT_BYTES + CASE_INSN_OFFSET);
        save_state(&m, &c);
        memcpy(c.mem, mem, sizeof c.mem);
        if (!transfer(false, &c, sizeof c)) return 1;
    }
    return 0;
}
