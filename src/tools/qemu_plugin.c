// qemu_plugin.c - runs plugins that were compiled for QEMU's user mode: its plugin interface, API
// versions 1 to 7, on top of dragoman/tool.h. The functions that plugins call are declared here and
// in qemu_plugin_look.c in our own words from their documentation; what system mode alone has
// answers that there is none.
//
// Blocks, instructions and accesses are dgm's; a "tb" is a basic block. Inline additions to a
// plugin's own word are counters of each thread, summed into the word before the plugin's next
// callback that is not about executing code.
#include "tools/qemu_plugin.h"

#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MIN_VERSION = 1, MAX_VERSION = 7 };

typedef struct PluginInfo {
    const char *target_name;
    struct {
        int min, cur;
    } version;
    bool system_emulation;
    struct {
        int smp_vcpus, max_vcpus;
    } system;
} PluginInfo;
typedef int (*InstallFn)(PluginId, const PluginInfo *, int, char **);

typedef void (*ExecFn)(unsigned, void *);
typedef void (*MemFn)(unsigned, uint32_t, uint64_t, void *);

typedef struct InlineWord { // a word of the plugin's that translated code adds to
    uint64_t *word;
    dgm_counter counter;
    uint64_t seen;
    struct InlineWord *next;
} InlineWord;

typedef struct Callback {
    void *fn, *data;
    const Plugin *plugin;
    unsigned generation;
} Callback;

PluginHost plugin_host = {.lock = PTHREAD_MUTEX_INITIALIZER, .out_fd = -1};
__thread dgm_vcpu *plugin_vcpu;

static Plugin *plugin_of(PluginId id) {
    return id < plugin_host.n_plugins ? &plugin_host.plugin[id] : NULL;
}

static void *keep(size_t bytes) { // as long as the process: translated code refers to it
    void *p = calloc(1, bytes);
    if (!p) dgm_fail(plugin_host.w, -ENOMEM, "out of memory");
    return p;
}

// ---- words ----

static dgm_counter word_counter(void *word) {
    pthread_mutex_lock(&plugin_host.lock);
    InlineWord *i = plugin_host.words;
    while (i && i->word != word) i = i->next;
    if (!i && (i = keep(sizeof *i))) {
        *i = (InlineWord){
            .word = word, .counter = dgm_counter_new(plugin_host.w), .next = plugin_host.words};
        plugin_host.words = i;
    }
    pthread_mutex_unlock(&plugin_host.lock);
    return i ? i->counter : UINT32_MAX;
}

static void sync_words(void) {
    pthread_mutex_lock(&plugin_host.lock);
    for (InlineWord *i = plugin_host.words; i; i = i->next) {
        uint64_t sum = dgm_counter_read(plugin_host.w, i->counter);
        *i->word += sum - i->seen;
        i->seen = sum;
    }
    pthread_mutex_unlock(&plugin_host.lock);
}

// ---- events ----

static void vcpu_begins(dgm_watch *w, dgm_vcpu *v) {
    unsigned index = dgm_vcpu_thread(v);
    plugin_vcpu = v;
    if (index >= MAX_THREADS) {
        fprintf(stderr, "dragoman: plugin: more than %d threads\n", MAX_THREADS);
        return;
    }
    pthread_mutex_lock(&plugin_host.lock);
    plugin_host.vcpus[index] = v;
    if (index >= plugin_host.n_vcpus) plugin_host.n_vcpus = index + 1;
    for (struct qemu_plugin_scoreboard *s = plugin_host.scores; s; s = s->next) {
        if (!s->elsewhere[index]) continue;
        memcpy(dgm_counter_pointer(v, s->first), s->elsewhere[index], s->words * 8ul);
        free(s->elsewhere[index]);
        s->elsewhere[index] = NULL;
    }
    pthread_mutex_unlock(&plugin_host.lock);
    for (unsigned i = 0; i < plugin_host.n_plugins; i++)
        if (plugin_host.plugin[i].vcpu_init && !plugin_host.plugin[i].gone)
            plugin_host.plugin[i].vcpu_init(i, index);
    (void)w;
}

static void vcpu_ends(dgm_watch *w, dgm_vcpu *v) {
    unsigned index = dgm_vcpu_thread(v);
    if (index >= MAX_THREADS) return;
    sync_words();
    for (unsigned i = 0; index && i < plugin_host.n_plugins; i++)
        if (plugin_host.plugin[i].vcpu_exit && !plugin_host.plugin[i].gone)
            plugin_host.plugin[i].vcpu_exit(i, index);
    pthread_mutex_lock(&plugin_host.lock);
    for (struct qemu_plugin_scoreboard *s = plugin_host.scores; s; s = s->next) {
        s->elsewhere[index] = malloc(s->words * 8ul);
        if (s->elsewhere[index])
            memcpy(s->elsewhere[index], dgm_counter_pointer(v, s->first), s->words * 8ul);
    }
    plugin_host.vcpus[index] = NULL;
    pthread_mutex_unlock(&plugin_host.lock);
    (void)w;
}

static void translated(dgm_watch *w, dgm_block *b) {
    unsigned n = dgm_block_insns(b);
    struct qemu_plugin_tb tb = {.b = b, .n = n, .insns = calloc(n, sizeof *tb.insns)};
    if (!tb.insns) return;
    for (unsigned k = 0; k < n; k++) tb.insns[k] = (struct qemu_plugin_insn){&tb, k};
    if (plugin_host.words) sync_words();
    for (unsigned i = 0; i < plugin_host.n_plugins; i++) {
        tb.plugin = &plugin_host.plugin[i];
        if (tb.plugin->trans && !tb.plugin->gone) tb.plugin->trans(i, &tb);
    }
    free(tb.insns);
    (void)w;
}

static bool before_syscall(dgm_watch *w, dgm_vcpu *v, dgm_syscall *s) {
    bool answered = false;
    const uint64_t *a = s->args;
    plugin_vcpu = v;
    sync_words();
    for (unsigned i = 0; i < plugin_host.n_plugins; i++) {
        const Plugin *p = &plugin_host.plugin[i];
        unsigned index = dgm_vcpu_thread(v);
        if (p->gone) continue;
        if (p->syscall)
            p->syscall(i, index, (int64_t)s->number, a[0], a[1], a[2], a[3], a[4], a[5], 0, 0);
        uint64_t result;
        if (p->filter && p->filter(i, index, (int64_t)s->number, a[0], a[1], a[2], a[3], a[4], a[5],
                                   0, 0, &result)) {
            s->result = (int64_t)result;
            answered = true;
        }
    }
    (void)w;
    return answered;
}

static void after_syscall(dgm_watch *w, dgm_vcpu *v, dgm_syscall *s) {
    if (s->again) return;
    plugin_vcpu = v;
    for (unsigned i = 0; i < plugin_host.n_plugins; i++)
        if (plugin_host.plugin[i].syscall_ret && !plugin_host.plugin[i].gone)
            plugin_host.plugin[i].syscall_ret(i, dgm_vcpu_thread(v), (int64_t)s->number, s->result);
    (void)w;
}

// The first code that is mapped is the program's.
static void module(dgm_watch *w, const dgm_module *m) {
    (void)w;
    if (plugin_host.end_code) return;
    FILE *f = fopen(m->host_path, "re");
    Elf64_Ehdr h;
    Elf64_Phdr p;
    plugin_host.start_code = m->low;
    plugin_host.end_code = m->high;
    if (!f) return;
    if (fread(&h, sizeof h, 1, f) == 1) {
        plugin_host.entry_code = h.e_entry + m->bias;
        for (unsigned i = 0; i < h.e_phnum; i++)
            if (!fseek(f, (long)(h.e_phoff + i * sizeof p), SEEK_SET) &&
                fread(&p, sizeof p, 1, f) == 1 && p.p_type == PT_LOAD && p.p_flags & PF_X) {
                plugin_host.start_code = p.p_vaddr + m->bias;
                plugin_host.end_code = plugin_host.start_code + p.p_filesz;
                break;
            }
    }
    fclose(f);
}

static void at_exit(dgm_watch *w, bool last) {
    if (!last) return; // exec: QEMU does not ask either
    sync_words();
    for (unsigned i = 0; i < plugin_host.n_plugins; i++)
        for (unsigned k = 0; k < plugin_host.plugin[i].n_at_exit; k++)
            if (!plugin_host.plugin[i].gone)
                plugin_host.plugin[i].at_exit[k](i, plugin_host.plugin[i].at_exit_data[k]);
    (void)w;
}

static void forked(dgm_watch *w, dgm_vcpu *v) {
    (void)w;
    pthread_mutex_init(&plugin_host.lock, NULL);
    for (InlineWord *i = plugin_host.words; i; i = i->next) i->seen = 0;
    memset(plugin_host.vcpus, 0, sizeof plugin_host.vcpus);
    plugin_host.vcpus[0] = v;
    plugin_host.n_vcpus = 1;
    plugin_vcpu = v;
}

// ---- starting ----

static int start(dgm_watch *w) {
    plugin_host.w = w;
    plugin_host.program = dgm_watch_program(w);
    plugin_host.out_fd = fcntl(2, F_DUPFD_CLOEXEC, 700);
    if (plugin_host.out_fd < 0) plugin_host.out_fd = fcntl(2, F_DUPFD_CLOEXEC, 3);
    dgm_want(w, DGM_CALLS);
    PluginInfo info = {.target_name = dgm_watch_guest(w), .version = {MIN_VERSION, MAX_VERSION}};
    for (unsigned i = 0; i < plugin_host.n_plugins; i++) {
        Plugin *p = &plugin_host.plugin[i];
        void *library = dlopen(p->path, RTLD_NOW | RTLD_LOCAL);
        if (!library) return dgm_fail(w, -EINVAL, "%s", dlerror());
        const int *version = dlsym(library, "qemu_plugin_version");
        InstallFn install = (InstallFn)dlsym(library, "qemu_plugin_install");
        if (!version || !install)
            return dgm_fail(w, -EINVAL, "%s: no plugin of QEMU's (no %s in it)", p->path,
                            version ? "qemu_plugin_install" : "qemu_plugin_version");
        if (*version < MIN_VERSION || *version > MAX_VERSION)
            return dgm_fail(w, -EINVAL,
                            "%s: made for version %d of the interface; here are %d to %d", p->path,
                            *version, MIN_VERSION, MAX_VERSION);
        p->version = *version;
        int e = install(i, &info, p->argc, p->argv);
        if (e) return dgm_fail(w, -EINVAL, "%s: it refused to start (%d)", p->path, e);
    }
    return 0;
}

const dgm_tool tool_qemu_plugin = {
    .version = DGM_TOOL_VERSION,
    .name = "plugin",
    .summary = "runs QEMU's plugins",
    .start = start,
    .block = translated,
    .thread_start = vcpu_begins,
    .thread_end = vcpu_ends,
    .module = module,
    .syscall = before_syscall,
    .syscall_done = after_syscall,
    .forked = forked,
    .finish = at_exit,
};

void qemu_plugin_quiet(void) {
    plugin_host.quiet = true;
}

// "[file=]FILE[,NAME[=VALUE]...]", as QEMU takes it: a name alone is on, "arg=X" is X.
const char *qemu_plugin_add(const char *text) {
    if (plugin_host.n_plugins == MAX_PLUGINS) return "too many plugins";
    Plugin *p = &plugin_host.plugin[plugin_host.n_plugins];
    char *words = strdup(text), *rest = words;
    for (char *word; words && (word = strsep(&rest, ","));) {
        if (!strncmp(word, "file=", 5)) word += 5;
        if (!p->path) {
            p->path = word;
            continue;
        }
        if (!strncmp(word, "arg=", 4)) word += 4;
        if (p->argc == 63) return "too many arguments";
        if (strchr(word, '='))
            p->argv[p->argc++] = strdup(word);
        else if (asprintf(&p->argv[p->argc++], "%s=on", word) < 0)
            return "out of memory";
    }
    if (!p->path || !*p->path) return "no file is named";
    if (!strchr(p->path, '/')) { // a file, not a library that the loader knows
        char *here;
        if (asprintf(&here, "./%s", p->path) < 0) return "out of memory";
        p->path = here;
    }
    plugin_host.n_plugins++;
    return NULL;
}

// ---- what plugins call: registering ----

API void qemu_plugin_uninstall(PluginId id, SimpleFn cb);
API void qemu_plugin_reset(PluginId id, SimpleFn cb);
void qemu_plugin_uninstall(PluginId id, SimpleFn cb) {
    Plugin *p = plugin_of(id);
    if (!p) return;
    p->gone = true;
    p->generation++;
    dgm_retranslate(plugin_host.w);
    if (cb) cb(id);
}
void qemu_plugin_reset(PluginId id, SimpleFn cb) {
    Plugin *p = plugin_of(id);
    if (!p) return;
    p->vcpu_init = p->vcpu_exit = NULL;
    p->trans = NULL;
    p->syscall = NULL;
    p->syscall_ret = NULL;
    p->filter = NULL;
    p->n_at_exit = 0;
    p->generation++;
    dgm_retranslate(plugin_host.w);
    if (cb) cb(id);
}

#define REGISTER(name, type, member)                                                               \
    API void qemu_plugin_register_##name(PluginId id, type cb);                                    \
    void qemu_plugin_register_##name(PluginId id, type cb) {                                       \
        Plugin *p = plugin_of(id);                                                                 \
        if (p) p->member = cb;                                                                     \
    }
REGISTER(vcpu_init_cb, VcpuFn, vcpu_init)
REGISTER(vcpu_exit_cb, VcpuFn, vcpu_exit)
REGISTER(vcpu_tb_trans_cb, TransFn, trans)
REGISTER(vcpu_syscall_cb, SyscallFn, syscall)
REGISTER(vcpu_syscall_ret_cb, SyscallRetFn, syscall_ret)
REGISTER(vcpu_syscall_filter_cb, SyscallFilterFn, filter)

// A user-mode vCPU is never idle, and translations are not thrown away as a whole.
API void qemu_plugin_register_vcpu_idle_cb(PluginId id, VcpuFn cb);
API void qemu_plugin_register_vcpu_resume_cb(PluginId id, VcpuFn cb);
API void qemu_plugin_register_flush_cb(PluginId id, SimpleFn cb);
void qemu_plugin_register_vcpu_idle_cb(PluginId id, VcpuFn cb) {
    (void)id, (void)cb;
}
void qemu_plugin_register_vcpu_resume_cb(PluginId id, VcpuFn cb) {
    (void)id, (void)cb;
}
void qemu_plugin_register_flush_cb(PluginId id, SimpleFn cb) {
    (void)id, (void)cb;
}

API void qemu_plugin_register_atexit_cb(PluginId id, DataFn cb, void *data);
void qemu_plugin_register_atexit_cb(PluginId id, DataFn cb, void *data) {
    Plugin *p = plugin_of(id);
    if (!p || p->n_at_exit == MAX_CALLBACKS) return;
    p->at_exit[p->n_at_exit] = cb;
    p->at_exit_data[p->n_at_exit++] = data;
}

// ---- executing ----

static void run_exec(dgm_vcpu *v, void *data) {
    const Callback *c = data;
    plugin_vcpu = v;
    if (c->generation == c->plugin->generation) ((ExecFn)c->fn)(dgm_vcpu_thread(v), c->data);
}
// QEMU makes a load and a store of an atomic access, and (those that plugins of version 1 are for)
// two accesses of 8 bytes of one of 16.
enum { WRITES = 1 << 8, ATOMIC = 1 << 10 }; // in what dgm_access_fn gets as info
typedef struct MemCallback {
    Callback c;
    unsigned rw;
    bool halves;
} MemCallback;

static void run_mem_once(dgm_vcpu *v, uint64_t address, uint32_t info, const MemCallback *c) {
    unsigned index = dgm_vcpu_thread(v);
    if (!(c->rw & (dgm_access_writes(info) ? DGM_WRITE : DGM_READ))) return;
    if (!c->halves || dgm_access_bytes(info) != 16) {
        ((MemFn)c->c.fn)(index, info, address, c->c.data);
        return;
    }
    info = (info & ~255u) | 8;
    ((MemFn)c->c.fn)(index, info, address, c->c.data);
    ((MemFn)c->c.fn)(index, info, address + 8, c->c.data);
}

static void run_mem(dgm_vcpu *v, uint64_t address, uint32_t info, void *data) {
    const MemCallback *c = data;
    plugin_vcpu = v;
    if (c->c.generation != c->c.plugin->generation) return;
    if (info & ATOMIC) run_mem_once(v, address, info & ~(uint32_t)(WRITES | ATOMIC), c);
    run_mem_once(v, address, info & ~(uint32_t)ATOMIC, c);
}

// DC ZVA writes, but QEMU does not say so.
static bool is_zva(const dgm_insn *in) {
    uint32_t word = 0;
    memcpy(&word, in->bytes, in->size < 4 ? in->size : 4);
    return (word & ~31u) == 0xd50b7420 && !strcmp(dgm_watch_guest(plugin_host.w), "aarch64");
}

static void count_accesses(struct qemu_plugin_insn *i, int rw, dgm_counter c, uint64_t n) {
    const dgm_insn *in = dgm_block_insn(i->tb->b, i->index);
    unsigned halves = i->tb->plugin->version == 1, accesses = 0;
    if (rw & 1) accesses += in->loads + halves * in->wide_loads;
    if (rw & 2) accesses += in->stores + halves * in->wide_stores;
    if (accesses && !is_zva(in)) dgm_at_count(i->tb->b, i->index, c, (uint32_t)n * accesses);
}

static Callback *callback(const struct qemu_plugin_tb *tb, void *fn, void *data) {
    Callback *c = keep(sizeof *c);
    if (c) *c = (Callback){fn, data, tb->plugin, tb->plugin->generation};
    return c;
}

static dgm_regs regs_of(int flags) {
    return flags == 0 ? DGM_NO_REGS : flags == 1 ? DGM_READ_REGS : DGM_WRITE_REGS;
}

static void exec_cb(struct qemu_plugin_tb *tb, unsigned insn, ExecFn fn, int flags, void *data) {
    Callback *c = callback(tb, (void *)fn, data);
    if (c) dgm_at_call(tb->b, insn, run_exec, regs_of(flags), c);
}
static void exec_inline(struct qemu_plugin_tb *tb, unsigned insn, int op, void *word, uint64_t n) {
    if (!op) dgm_at_count(tb->b, insn, word_counter(word), (uint32_t)n);
}
static dgm_counter word_slot(PluginWord e) {
    return dgm_counter_nth(e.score->first, (unsigned)(e.offset / 8));
}
static void exec_per_vcpu(struct qemu_plugin_tb *tb, unsigned insn, int op, PluginWord e,
                          uint64_t n) {
    if (op)
        dgm_at_set(tb->b, insn, word_slot(e), n);
    else
        dgm_at_count(tb->b, insn, word_slot(e), (uint32_t)n);
}
static void exec_cond(struct qemu_plugin_tb *tb, unsigned insn, ExecFn fn, int flags, int cond,
                      PluginWord e, uint64_t n, void *data) {
    static const dgm_compare how[] = {DGM_ALWAYS, DGM_ALWAYS, DGM_EQ, DGM_NE,
                                      DGM_LT,     DGM_LE,     DGM_GT, DGM_GE};
    if (cond <= 0 || cond > 7) return; // 0: never
    if (cond == 1) {
        exec_cb(tb, insn, fn, flags, data);
        return;
    }
    Callback *c = callback(tb, (void *)fn, data);
    if (c) dgm_at_call_if(tb->b, insn, word_slot(e), how[cond], n, run_exec, c);
}

API void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *tb, ExecFn fn, int flags,
                                              void *data);
API void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *i, ExecFn fn, int flags,
                                                void *data);
API void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *tb, int op, void *word,
                                                  uint64_t n);
API void qemu_plugin_register_vcpu_insn_exec_inline(struct qemu_plugin_insn *i, int op, void *word,
                                                    uint64_t n);
API void qemu_plugin_register_vcpu_tb_exec_inline_per_vcpu(struct qemu_plugin_tb *tb, int op,
                                                           PluginWord e, uint64_t n);
API void qemu_plugin_register_vcpu_insn_exec_inline_per_vcpu(struct qemu_plugin_insn *i, int op,
                                                             PluginWord e, uint64_t n);
API void qemu_plugin_register_vcpu_tb_exec_cond_cb(struct qemu_plugin_tb *tb, ExecFn fn, int flags,
                                                   int cond, PluginWord e, uint64_t n, void *data);
API void qemu_plugin_register_vcpu_insn_exec_cond_cb(struct qemu_plugin_insn *i, ExecFn fn,
                                                     int flags, int cond, PluginWord e, uint64_t n,
                                                     void *data);
API void qemu_plugin_register_vcpu_mem_cb(struct qemu_plugin_insn *i, MemFn fn, int flags, int rw,
                                          void *data);
API void qemu_plugin_register_vcpu_mem_inline(struct qemu_plugin_insn *i, int rw, int op,
                                              void *word, uint64_t n);
API void qemu_plugin_register_vcpu_mem_inline_per_vcpu(struct qemu_plugin_insn *i, int rw, int op,
                                                       PluginWord e, uint64_t n);

void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *tb, ExecFn fn, int flags,
                                          void *data) {
    exec_cb(tb, 0, fn, flags, data);
}
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *i, ExecFn fn, int flags,
                                            void *data) {
    exec_cb(i->tb, i->index, fn, flags, data);
}
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *tb, int op, void *word,
                                              uint64_t n) {
    exec_inline(tb, 0, op, word, n);
}
void qemu_plugin_register_vcpu_insn_exec_inline(struct qemu_plugin_insn *i, int op, void *word,
                                                uint64_t n) {
    exec_inline(i->tb, i->index, op, word, n);
}
void qemu_plugin_register_vcpu_tb_exec_inline_per_vcpu(struct qemu_plugin_tb *tb, int op,
                                                       PluginWord e, uint64_t n) {
    exec_per_vcpu(tb, 0, op, e, n);
}
void qemu_plugin_register_vcpu_insn_exec_inline_per_vcpu(struct qemu_plugin_insn *i, int op,
                                                         PluginWord e, uint64_t n) {
    exec_per_vcpu(i->tb, i->index, op, e, n);
}
void qemu_plugin_register_vcpu_tb_exec_cond_cb(struct qemu_plugin_tb *tb, ExecFn fn, int flags,
                                               int cond, PluginWord e, uint64_t n, void *data) {
    exec_cond(tb, 0, fn, flags, cond, e, n, data);
}
void qemu_plugin_register_vcpu_insn_exec_cond_cb(struct qemu_plugin_insn *i, ExecFn fn, int flags,
                                                 int cond, PluginWord e, uint64_t n, void *data) {
    exec_cond(i->tb, i->index, fn, flags, cond, e, n, data);
}
void qemu_plugin_register_vcpu_mem_cb(struct qemu_plugin_insn *i, MemFn fn, int flags, int rw,
                                      void *data) {
    const dgm_insn *in = dgm_block_insn(i->tb->b, i->index);
    if (!(in->loads + in->stores) || is_zva(in)) return;
    MemCallback *c = keep(sizeof *c);
    if (!c) return;
    const Plugin *p = i->tb->plugin;
    *c = (MemCallback){{(void *)fn, data, p, p->generation}, (unsigned)rw & 3, p->version == 1};
    unsigned value = i->tb->plugin->version >= 4 ? DGM_VALUE : 0;
    dgm_at_access(i->tb->b, i->index, ((unsigned)rw & 3) | value, run_mem, regs_of(flags), c);
}
void qemu_plugin_register_vcpu_mem_inline(struct qemu_plugin_insn *i, int rw, int op, void *word,
                                          uint64_t n) {
    if (!op) count_accesses(i, rw, word_counter(word), n);
}
void qemu_plugin_register_vcpu_mem_inline_per_vcpu(struct qemu_plugin_insn *i, int rw, int op,
                                                   PluginWord e, uint64_t n) {
    const dgm_insn *in = dgm_block_insn(i->tb->b, i->index);
    if (!op)
        count_accesses(i, rw, word_slot(e), n);
    else if ((rw & 1 && in->loads) || (rw & 2 && in->stores))
        dgm_at_set(i->tb->b, i->index, word_slot(e), n);
}
