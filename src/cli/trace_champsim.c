// trace_champsim.c - a trace as the simulator ChampSim reads it: a record of 64 bytes for each
// instruction. Threads are not told apart.
#include "trace.h"

#include <string.h>

// One instruction as ChampSim's input_instr: 64 bytes, little-endian.
typedef struct ChampSim {
    uint64_t ip;
    uint8_t is_branch, taken, writes[2], reads[4];
    uint64_t stores[2], loads[4];
} ChampSim;
_Static_assert(sizeof(ChampSim) == 64, "ChampSim's record");
// ChampSim tells kinds of branches by which of these they read and write.
enum { CHAMP_SP = 6, CHAMP_FLAGS = 25, CHAMP_IP = 26, CHAMP_OTHER = 1, CHAMP_FIRST = 32 };

typedef struct ChampState {
    FILE *out;
    ChampSim now;
    bool have;
    unsigned n_loads, n_stores;
} ChampState;

static void champ_flush(ChampState *s) {
    if (s->have) fwrite(&s->now, sizeof s->now, 1, s->out);
    *s = (ChampState){.out = s->out};
}

static void champ_registers(ChampSim *c, const dgm_trace_record *r) {
    unsigned n = 0;
    for (unsigned i = 0; i < 64 && n < 4; i++)
        if (r->reads >> i & 1) c->reads[n++] = (uint8_t)(CHAMP_FIRST + i);
    n = 0;
    for (unsigned i = 0; i < 64 && n < 2; i++)
        if (r->writes >> i & 1) c->writes[n++] = (uint8_t)(CHAMP_FIRST + i);
}

static void champ_branch(ChampSim *c, const dgm_trace_record *r) {
    bool call = r->classes & DGM_CLASS_CALL, back = r->classes & DGM_CLASS_RETURN;
    bool indirect = r->classes & DGM_CLASS_INDIRECT;
    unsigned n = 0;
    memset(c->reads, 0, sizeof c->reads);
    c->is_branch = 1;
    c->taken = r->taken || !(r->classes & DGM_CLASS_BRANCH);
    c->writes[0] = CHAMP_IP;
    c->writes[1] = call || back ? CHAMP_SP : 0;
    if (call || back) c->reads[n++] = CHAMP_SP;
    if (call || r->classes & DGM_CLASS_BRANCH) c->reads[n++] = CHAMP_IP;
    if (r->classes & DGM_CLASS_BRANCH) c->reads[n++] = CHAMP_FLAGS;
    if (indirect) c->reads[n++] = CHAMP_OTHER;
}

static bool champ_record(void *state, const dgm_trace_record *r) {
    ChampState *s = state;
    if (r->kind == DGM_TRACE_INSN) {
        champ_flush(s);
        s->have = true;
        s->now.ip = r->address;
        if (r->classes & TRACE_BRANCHES)
            champ_branch(&s->now, r);
        else
            champ_registers(&s->now, r);
    } else if (r->kind != DGM_TRACE_SYSCALL) {
        if ((r->kind == DGM_TRACE_READ || r->atomic) && s->n_loads < 4)
            s->now.loads[s->n_loads++] = r->address;
        if (r->kind == DGM_TRACE_WRITE && s->n_stores < 2)
            s->now.stores[s->n_stores++] = r->address;
    }
    return true;
}

int trace_write_champsim(TraceJob *j) {
    ChampState s = {.out = j->out};
    int e = trace_walk(j, champ_record, &s);
    champ_flush(&s);
    return e;
}
