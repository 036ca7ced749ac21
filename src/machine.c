// machine.c - the public API: a guest, a host, the engine and the Linux personality put together.
//
// A dgm_machine is made empty; loading reads the ELF header, which decides the guest, and only then
// makes the engine's Machine. Errors become a negative errno and one line in `err`.
#include "dragoman/machine.h"

#include "engine/engine.h"
#include "linux/personality.h"
#include "memory/space.h"
#include "observe/observe.h"
#include "options.h"

#include <errno.h>
#include <stdlib.h>

#define DGM_VERSION "0.1.0"

struct dgm_machine {
    dgm_options opt;
    Machine *m;
    Watches *watches; // NULL: no tools
    DgmErr err;
};

static const Host *const hosts[] = {
#ifdef __x86_64__
    &host_x86_64,
#endif
    &host_interp,
};

const char *dgm_version(void) {
    return DGM_VERSION;
}

static const Guest *guest_at(unsigned i) {
    for (unsigned k = 0; guest_all[k]; k++)
        if (k == i) return guest_all[k];
    return NULL;
}

const char *dgm_guest_name(unsigned i) {
    const Guest *g = guest_at(i);
    return g ? g->name : NULL;
}

const char *dgm_cpu_name(unsigned i, unsigned j, const char **summary) {
    const Guest *g = guest_at(i);
    for (unsigned k = 0; g && g->cpus[k].name; k++)
        if (k == j) {
            *summary = g->cpus[k].summary;
            return g->cpus[k].name;
        }
    return NULL;
}

dgm_options dgm_options_default(void) {
    return (dgm_options){.log_fd = 2};
}

dgm_machine *dgm_machine_new(const dgm_options *options) {
    dgm_machine *m = calloc(1, sizeof *m);
    if (m) m->opt = *options;
    return m;
}

const char *dgm_machine_error(const dgm_machine *m) {
    return m->err.text;
}

// ---- options to a configuration ----

static int parse_log(const char *text, Log *log, DgmErr *err) {
    static const struct {
        const char *name;
        uint32_t topics;
    } names[] = {
        {"guest", LOG_GUEST}, {"in_asm", LOG_GUEST}, {"ir", LOG_IR},     {"op", LOG_IR},
        {"opt", LOG_OPT},     {"op_opt", LOG_OPT},   {"host", LOG_HOST}, {"out_asm", LOG_HOST},
        {"exec", LOG_EXEC},   {"unimp", LOG_UNIMP},  {"page", LOG_PAGE}, {"signal", LOG_SIGNAL},
        {"cache", LOG_CACHE}, {"plugin", 0},
    };
    const char *colon = strchr(text, ':');
    const char *end = colon ? colon : text + strlen(text);
    for (const char *at = text; at < end;) {
        size_t n = strcspn(at, ",:");
        unsigned i = 0;
        while (i < ARRAY_LEN(names) &&
               (strlen(names[i].name) != n || strncmp(names[i].name, at, n)))
            i++;
        if (i == ARRAY_LEN(names))
            return err_set(err, -EINVAL, "--log %.*s: no such topic", (int)n, at);
        log->topics |= names[i].topics;
        at += n + (at[n] == ',');
    }
    if (!colon) return 0;
    char *rest;
    log->lo = strtoull(colon + 1, &rest, 16);
    log->hi = log->lo + 1;
    if (*rest == '-' || (rest[0] == '.' && rest[1] == '.'))
        log->hi = strtoull(rest + (*rest == '-' ? 1 : 2), &rest, 16);
    if (*rest || rest == colon + 1 || log->hi <= log->lo)
        return err_set(err, -EINVAL, "--log %s: expected WHAT:LO-HI in hexadecimal", text);
    return 0;
}

static const Host *find_host(const char *name, DgmErr *err) {
    if (!name) return hosts[0];
    for (unsigned i = 0; i < ARRAY_LEN(hosts); i++)
        if (!strcmp(hosts[i]->name, name)) return hosts[i];
    err_set(err, -EINVAL, "--host %s: no such code generator; there are x86_64 and interp", name);
    return NULL;
}

static int find_cpu(const Guest *g, const char *name, uint64_t *features, DgmErr *err) {
    for (const GuestCpu *c = g->cpus; c->name; c++)
        if (!name || !strcmp(c->name, name)) {
            *features = c->features;
            return 0;
        }
    return err_set(err, -EINVAL, "--cpu %s: no such %s CPU; 'dragoman cpus' lists them", name,
                   g->name);
}

static int find_tier(const char *name, MachineTier *tier, DgmErr *err) {
    static const char *const names[] = {
        [TIER_COLD] = "cold", [TIER_HOT] = "hot", [TIER_RESTLESS] = "restless"};
    *tier = TIER_BOTH;
    if (!name) return 0;
    for (unsigned i = TIER_COLD; i < ARRAY_LEN(names); i++)
        if (!strcmp(name, names[i])) return *tier = (MachineTier)i, 0;
    return err_set(err, -EINVAL, "--single-tier %s: expected cold, hot or restless", name);
}

int options_config(const dgm_options *o, MachineConfig *c, DgmErr *err) {
    *c = (MachineConfig){.isa_limit = o->host_limit,
                         .code_cache_bytes = o->code_cache_bytes,
                         .max_block_insns = o->one_insn ? 1 : 0,
                         .count = o->count,
                         .verify = o->verify,
                         .perf_map = o->perf_map,
                         .persist_dir = o->cache,
                         .persist_bytes = o->cache_size,
                         .log = {.fd = o->log_fd}};
    if (o->log && parse_log(o->log, &c->log, err)) return -EINVAL;
    // who wants to see translation wants it to happen
    if (c->log.topics & (LOG_GUEST | LOG_IR | LOG_OPT | LOG_HOST)) c->persist_dir = NULL;
    if (find_tier(o->single_tier, &c->tier, err)) return -EINVAL;
    return (c->host = find_host(o->host, err)) ? 0 : -EINVAL;
}

int options_cpu(const dgm_options *o, MachineConfig *c, DgmErr *err) {
    return find_cpu(c->guest, o->cpu, &c->features, err);
}

// ---- loading and running ----

int dgm_machine_attach(dgm_machine *m, const dgm_tool *tool, const char *options) {
    if (m->m) return err_set(&m->err, -EINVAL, "tool '%s': the program runs already", tool->name);
    if (!m->watches && !(m->watches = watches_new()))
        return err_set(&m->err, -ENOMEM, "tool '%s': out of memory", tool->name);
    int e = watches_attach(m->watches, tool, options);
    if (e) m->err = m->watches->err;
    return e;
}

// The tools say what they need before there is code.
static int start_tools(dgm_machine *m, MachineConfig *mc, const char *path) {
    if (m->opt.strace) {
        int e = dgm_machine_attach(m, &strace_tool, NULL);
        if (e) return e;
    }
    if (!m->watches) return 0;
    mc->watches = m->watches;
    int e = watches_start(m->watches, mc->guest, path);
    if (e) m->err = m->watches->err;
    return e;
}

int dgm_machine_load(dgm_machine *m, const char *path, char *const argv[], char *const envp[]) {
    if (m->m) return err_set(&m->err, -EINVAL, "%s: this machine has a program already", path);
    MachineConfig mc;
    int e = options_config(&m->opt, &mc, &m->err);
    if (e) return e;
    LinuxConfig lc = {.path = path,
                      .argv = (char **)argv,
                      .envp = (char **)envp,
                      .sysroot = m->opt.sysroot,
                      .rootfs = m->opt.rootfs,
                      .binds = m->opt.binds,
                      .workdir = m->opt.workdir,
                      .chroot = m->opt.chroot,
                      .program_fd = m->opt.program_fd,
                      .limit_as = m->opt.limit_as,
                      .seccomp_fd = m->opt.seccomp_fd,
                      .fake_root = m->opt.fake_root,
                      .fake_root_state = m->opt.fake_root_state,
                      .argv0 = m->opt.argv0,
                      .stack_bytes = m->opt.stack_bytes,
                      .self_argv = m->opt.self_argv};
    e = linux_find_guest(&lc, &mc.guest, &m->err);
    if (!e) e = options_cpu(&m->opt, &mc, &m->err);
    if (!e) e = start_tools(m, &mc, path);
    if (e) return e;
    Machine *machine = machine_new(&mc, &m->err);
    if (!machine) return m->err.code;
    e = linux_start(machine, &lc, &m->err);
    if (e) {
        machine_free(machine);
        return e;
    }
    m->m = machine;
    if (m->watches) m->watches->machine = machine;
    return 0;
}

int dgm_machine_run(dgm_machine *m, dgm_exit *how) {
    if (!m->m) return err_set(&m->err, -EINVAL, "no program is loaded");
    return linux_run(m->m, &how->status, &how->signal, &m->err);
}

void dgm_machine_stats(const dgm_machine *m, dgm_stats *out) {
    *out = (dgm_stats){0};
    if (!m->m) return;
    const MachineStats *s = &m->m->stats;
    *out = (dgm_stats){.guest_instructions = machine_insns_executed(m->m),
                       .blocks = s->blocks,
                       .translated_insns = s->guest_insns,
                       .translated_bytes = s->guest_bytes,
                       .host_bytes = s->host_bytes,
                       .ir_instructions = s->ir_insts,
                       .translate_ns = s->translate_ns,
                       .dispatches = machine_dispatches(m->m),
                       .loaded = s->loaded,
                       .hot = s->hot,
                       .homes_changed = s->rehomed,
                       .made_again = s->again,
                       .invalidations = s->invalidations,
                       .flushes = s->flushes,
                       .fp_traps = m->m->fp_traps};
}

char *dgm_host_text(dgm_watch *w, uint64_t address) {
    Buf text = {0};
    Machine *machine = w->ws->machine;
    if (machine && machine_host_text(machine, address, &text) && text.data) return text.data;
    buf_free(&text);
    return NULL;
}

void dgm_machine_progress(dgm_machine *m, dgm_progress *out) {
    *out = (dgm_progress){0};
    if (m->m) out->instructions = machine_progress(m->m, &out->threads);
}

void dgm_machine_free(dgm_machine *m) {
    if (!m) return;
    if (m->m) {
        linux_end(m->m);
        machine_free(m->m);
    }
    watches_free(m->watches);
    free(m);
}
