// qemu_plugin.c - runs plugins that were compiled for QEMU's user mode: its plugin interface, API
// versions 1 to 7, on top of dragoman/tool.h. The functions that plugins call are declared here in
// our own words from their documentation; what system mode alone has answers that there is none.
//
// The interface has no handle for the emulator in most of its calls, so this one file has state of
// the process: the plugins, and for each thread the vCPU whose callback runs. It belongs to the
// command.
//
// Blocks, instructions and accesses are dgm's; a "tb" is a basic block. Inline additions to a
// plugin's own word are counters of each thread, summed into the word before the plugin's next
// callback that is not about executing code.
#include "tools/tools.h"

#include <capstone/capstone.h>
#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define API __attribute__((visibility("default")))
enum { MIN_VERSION = 1, MAX_VERSION = 7, MAX_PLUGINS = 16, MAX_CALLBACKS = 16, MAX_THREADS = 4096 };

// ---- the interface's types ----

typedef uint64_t PluginId;
typedef void (*SimpleFn)(PluginId);
typedef void (*DataFn)(PluginId, void *);
typedef void (*VcpuFn)(PluginId, unsigned);
typedef void (*ExecFn)(unsigned, void *);
typedef void (*MemFn)(unsigned, uint32_t, uint64_t, void *);
typedef void (*SyscallFn)(PluginId, unsigned, int64_t, uint64_t, uint64_t, uint64_t, uint64_t,
                          uint64_t, uint64_t, uint64_t, uint64_t);
typedef void (*SyscallRetFn)(PluginId, unsigned, int64_t, int64_t);
typedef bool (*SyscallFilterFn)(PluginId, unsigned, int64_t, uint64_t, uint64_t, uint64_t, uint64_t,
                                uint64_t, uint64_t, uint64_t, uint64_t, uint64_t *);
struct qemu_plugin_tb;
typedef void (*TransFn)(PluginId, struct qemu_plugin_tb *);

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

struct qemu_plugin_scoreboard {
    size_t bytes;
    unsigned words;
    dgm_counter first;
    uint64_t *elsewhere[MAX_THREADS]; // of threads that have not begun, or have ended
    struct qemu_plugin_scoreboard *next;
};
typedef struct PluginWord {
    struct qemu_plugin_scoreboard *score;
    size_t offset;
} PluginWord;
typedef struct PluginValue {
    int type; // log2 of the bytes
    union {
        uint8_t u8;
        uint16_t u16;
        uint32_t u32;
        uint64_t u64;
        struct {
            uint64_t low, high;
        } u128;
    } data;
} PluginValue;
typedef struct PluginRegister {
    void *handle;
    const char *name, *feature;
} PluginRegister;
typedef struct ByteArray { // GLib's GByteArray and GArray begin so
    uint8_t *data;
    unsigned len;
} ByteArray;

// ---- state ----

typedef struct Plugin {
    char *path;
    int version;
    bool gone;
    unsigned generation; // of its callbacks: older ones are not called any more
    VcpuFn vcpu_init, vcpu_exit;
    TransFn trans;
    SyscallFn syscall;
    SyscallRetFn syscall_ret;
    SyscallFilterFn filter;
    DataFn at_exit[MAX_CALLBACKS];
    void *at_exit_data[MAX_CALLBACKS];
    unsigned n_at_exit;
    char *argv[64];
    int argc;
} Plugin;

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

struct qemu_plugin_insn {
    struct qemu_plugin_tb *tb;
    unsigned index;
};
struct qemu_plugin_tb {
    dgm_block *b;
    const Plugin *plugin;
    unsigned n;
    struct qemu_plugin_insn *insns;
};

static struct {
    dgm_watch *w;
    Plugin plugin[MAX_PLUGINS];
    unsigned n_plugins;
    InlineWord *words;
    struct qemu_plugin_scoreboard *scores;
    dgm_vcpu *vcpus[MAX_THREADS];
    unsigned n_vcpus;
    pthread_mutex_t lock; // vcpus, words, scores
    int out_fd;
    bool quiet;
    const char *program;
    uint64_t start_code, end_code, entry_code;
    void *capstone;
    csh disassembler;
    __typeof__(cs_disasm) *disasm;
    __typeof__(cs_free) *free_insns;
} host = {.lock = PTHREAD_MUTEX_INITIALIZER, .out_fd = -1};
static __thread dgm_vcpu *current;

static Plugin *plugin_of(PluginId id) {
    return id < host.n_plugins ? &host.plugin[id] : NULL;
}

static void *keep(size_t bytes) { // as long as the process: translated code refers to it
    void *p = calloc(1, bytes);
    if (!p) dgm_fail(host.w, -ENOMEM, "out of memory");
    return p;
}

// ---- words ----

static dgm_counter word_counter(void *word) {
    pthread_mutex_lock(&host.lock);
    InlineWord *i = host.words;
    while (i && i->word != word) i = i->next;
    if (!i && (i = keep(sizeof *i))) {
        *i = (InlineWord){.word = word, .counter = dgm_counter_new(host.w), .next = host.words};
        host.words = i;
    }
    pthread_mutex_unlock(&host.lock);
    return i ? i->counter : UINT32_MAX;
}

static void sync_words(void) {
    pthread_mutex_lock(&host.lock);
    for (InlineWord *i = host.words; i; i = i->next) {
        uint64_t sum = dgm_counter_read(host.w, i->counter);
        *i->word += sum - i->seen;
        i->seen = sum;
    }
    pthread_mutex_unlock(&host.lock);
}

// ---- events ----

static void vcpu_begins(dgm_watch *w, dgm_vcpu *v) {
    unsigned index = dgm_vcpu_thread(v);
    current = v;
    if (index >= MAX_THREADS) {
        fprintf(stderr, "dragoman: plugin: more than %d threads\n", MAX_THREADS);
        return;
    }
    pthread_mutex_lock(&host.lock);
    host.vcpus[index] = v;
    if (index >= host.n_vcpus) host.n_vcpus = index + 1;
    for (struct qemu_plugin_scoreboard *s = host.scores; s; s = s->next) {
        if (!s->elsewhere[index]) continue;
        memcpy(dgm_counter_pointer(v, s->first), s->elsewhere[index], s->words * 8ul);
        free(s->elsewhere[index]);
        s->elsewhere[index] = NULL;
    }
    pthread_mutex_unlock(&host.lock);
    for (unsigned i = 0; i < host.n_plugins; i++)
        if (host.plugin[i].vcpu_init && !host.plugin[i].gone) host.plugin[i].vcpu_init(i, index);
    (void)w;
}

static void vcpu_ends(dgm_watch *w, dgm_vcpu *v) {
    unsigned index = dgm_vcpu_thread(v);
    if (index >= MAX_THREADS) return;
    sync_words();
    for (unsigned i = 0; index && i < host.n_plugins; i++)
        if (host.plugin[i].vcpu_exit && !host.plugin[i].gone) host.plugin[i].vcpu_exit(i, index);
    pthread_mutex_lock(&host.lock);
    for (struct qemu_plugin_scoreboard *s = host.scores; s; s = s->next) {
        s->elsewhere[index] = malloc(s->words * 8ul);
        if (s->elsewhere[index])
            memcpy(s->elsewhere[index], dgm_counter_pointer(v, s->first), s->words * 8ul);
    }
    host.vcpus[index] = NULL;
    pthread_mutex_unlock(&host.lock);
    (void)w;
}

static void translated(dgm_watch *w, dgm_block *b) {
    unsigned n = dgm_block_insns(b);
    struct qemu_plugin_tb tb = {.b = b, .n = n, .insns = calloc(n, sizeof *tb.insns)};
    if (!tb.insns) return;
    for (unsigned k = 0; k < n; k++) tb.insns[k] = (struct qemu_plugin_insn){&tb, k};
    if (host.words) sync_words();
    for (unsigned i = 0; i < host.n_plugins; i++) {
        tb.plugin = &host.plugin[i];
        if (tb.plugin->trans && !tb.plugin->gone) tb.plugin->trans(i, &tb);
    }
    free(tb.insns);
    (void)w;
}

static bool before_syscall(dgm_watch *w, dgm_vcpu *v, dgm_syscall *s) {
    bool answered = false;
    const uint64_t *a = s->args;
    current = v;
    sync_words();
    for (unsigned i = 0; i < host.n_plugins; i++) {
        const Plugin *p = &host.plugin[i];
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
    current = v;
    for (unsigned i = 0; i < host.n_plugins; i++)
        if (host.plugin[i].syscall_ret && !host.plugin[i].gone)
            host.plugin[i].syscall_ret(i, dgm_vcpu_thread(v), (int64_t)s->number, s->result);
    (void)w;
}

// The first code that is mapped is the program's.
static void module(dgm_watch *w, const dgm_module *m) {
    (void)w;
    if (host.end_code) return;
    FILE *f = fopen(m->host_path, "re");
    Elf64_Ehdr h;
    Elf64_Phdr p;
    host.start_code = m->low;
    host.end_code = m->high;
    if (!f) return;
    if (fread(&h, sizeof h, 1, f) == 1) {
        host.entry_code = h.e_entry + m->bias;
        for (unsigned i = 0; i < h.e_phnum; i++)
            if (!fseek(f, (long)(h.e_phoff + i * sizeof p), SEEK_SET) &&
                fread(&p, sizeof p, 1, f) == 1 && p.p_type == PT_LOAD && p.p_flags & PF_X) {
                host.start_code = p.p_vaddr + m->bias;
                host.end_code = host.start_code + p.p_filesz;
                break;
            }
    }
    fclose(f);
}

static void at_exit(dgm_watch *w, bool last) {
    if (!last) return; // exec: QEMU does not ask either
    sync_words();
    for (unsigned i = 0; i < host.n_plugins; i++)
        for (unsigned k = 0; k < host.plugin[i].n_at_exit; k++)
            if (!host.plugin[i].gone) host.plugin[i].at_exit[k](i, host.plugin[i].at_exit_data[k]);
    (void)w;
}

static void forked(dgm_watch *w, dgm_vcpu *v) {
    (void)w;
    pthread_mutex_init(&host.lock, NULL);
    for (InlineWord *i = host.words; i; i = i->next) i->seen = 0;
    memset(host.vcpus, 0, sizeof host.vcpus);
    host.vcpus[0] = v;
    host.n_vcpus = 1;
    current = v;
}

// ---- starting ----

static int start(dgm_watch *w) {
    host.w = w;
    host.program = dgm_watch_program(w);
    host.out_fd = fcntl(2, F_DUPFD_CLOEXEC, 700);
    if (host.out_fd < 0) host.out_fd = fcntl(2, F_DUPFD_CLOEXEC, 3);
    dgm_want(w, DGM_CALLS);
    PluginInfo info = {.target_name = dgm_watch_guest(w), .version = {MIN_VERSION, MAX_VERSION}};
    for (unsigned i = 0; i < host.n_plugins; i++) {
        Plugin *p = &host.plugin[i];
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
    host.quiet = true;
}

// "[file=]FILE[,NAME[=VALUE]...]", as QEMU takes it: a name alone is on, "arg=X" is X.
const char *qemu_plugin_add(const char *text) {
    if (host.n_plugins == MAX_PLUGINS) return "too many plugins";
    Plugin *p = &host.plugin[host.n_plugins];
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
    host.n_plugins++;
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
    dgm_retranslate(host.w);
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
    dgm_retranslate(host.w);
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
    current = v;
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
    current = v;
    if (c->c.generation != c->c.plugin->generation) return;
    if (info & ATOMIC) run_mem_once(v, address, info & ~(uint32_t)(WRITES | ATOMIC), c);
    run_mem_once(v, address, info & ~(uint32_t)ATOMIC, c);
}

// DC ZVA writes, but QEMU does not say so.
static bool is_zva(const dgm_insn *in) {
    uint32_t word = 0;
    memcpy(&word, in->bytes, in->size < 4 ? in->size : 4);
    return (word & ~31u) == 0xd50b7420 && !strcmp(dgm_watch_guest(host.w), "aarch64");
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

// ---- looking at code ----

API size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
API uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *tb);
API struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t i);
API uintptr_t qemu_plugin_insn_data(const struct qemu_plugin_insn *i, void *dest, size_t n);
API size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *i);
API uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *i);
API void *qemu_plugin_insn_haddr(const struct qemu_plugin_insn *i);
API char *qemu_plugin_insn_disas(const struct qemu_plugin_insn *i);
API const char *qemu_plugin_insn_symbol(const struct qemu_plugin_insn *i);

static const dgm_insn *insn_of(const struct qemu_plugin_insn *i) {
    return dgm_block_insn(i->tb->b, i->index);
}

size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb) {
    return tb->n;
}
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *tb) {
    return dgm_block_address(tb->b);
}
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t i) {
    return i < tb->n ? &tb->insns[i] : NULL;
}
// Up to version 2 the bytes' address, without the other arguments; then how many were copied.
uintptr_t qemu_plugin_insn_data(const struct qemu_plugin_insn *i, void *dest, size_t n) {
    const dgm_insn *in = insn_of(i);
    if (i->tb->plugin->version < 3) return (uintptr_t)in->bytes;
    if (n > in->size) n = in->size;
    memcpy(dest, in->bytes, n);
    return n;
}
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *i) {
    return insn_of(i)->size;
}
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *i) {
    return insn_of(i)->address;
}
void *qemu_plugin_insn_haddr(const struct qemu_plugin_insn *i) {
    return (void *)(uintptr_t)insn_of(i)->bytes;
}

// As QEMU writes it, by capstone; without that, as we do.
static bool open_capstone(void) {
    if (host.capstone) return host.disasm;
    char name[32];
    snprintf(name, sizeof name, "libcapstone.so.%d", CS_API_MAJOR);
    host.capstone = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (!host.capstone) {
        host.capstone = &host; // do not ask again
        return false;
    }
    __typeof__(cs_open) *open;
    *(void **)&open = dlsym(host.capstone, "cs_open");
    *(void **)&host.free_insns = dlsym(host.capstone, "cs_free");
    void *disasm = dlsym(host.capstone, "cs_disasm");
    bool ok = open && host.free_insns && disasm && !strcmp(dgm_watch_guest(host.w), "aarch64") &&
              open(CS_ARCH_ARM64, CS_MODE_LITTLE_ENDIAN, &host.disassembler) == CS_ERR_OK;
    if (ok) *(void **)&host.disasm = disasm;
    return ok;
}

char *qemu_plugin_insn_disas(const struct qemu_plugin_insn *i) {
    const dgm_insn *in = insn_of(i);
    cs_insn *text;
    char *out = NULL;
    if (open_capstone() &&
        host.disasm(host.disassembler, in->bytes, in->size, in->address, 1, &text)) {
        if (asprintf(&out, "%s %s", text->mnemonic, text->op_str) < 0) out = NULL;
        host.free_insns(text, 1);
        return out;
    }
    out = calloc(1, 128);
    if (out) dgm_disassemble(host.w, in->bytes, in->size, in->address, out, 128);
    return out;
}

const char *qemu_plugin_insn_symbol(const struct qemu_plugin_insn *i) {
    dgm_symbol s;
    return dgm_symbol_at(host.w, insn_of(i)->address, &s) ? s.name : NULL;
}

// ---- looking at accesses ----

API unsigned qemu_plugin_mem_size_shift(uint32_t info);
API bool qemu_plugin_mem_is_sign_extended(uint32_t info);
API bool qemu_plugin_mem_is_big_endian(uint32_t info);
API bool qemu_plugin_mem_is_store(uint32_t info);
API PluginValue qemu_plugin_mem_get_value(uint32_t info);
API void *qemu_plugin_get_hwaddr(uint32_t info, uint64_t vaddr);
API bool qemu_plugin_hwaddr_is_io(const void *h);
API uint64_t qemu_plugin_hwaddr_phys_addr(const void *h);
API const char *qemu_plugin_hwaddr_device_name(const void *h);
API bool qemu_plugin_read_memory_vaddr(uint64_t addr, ByteArray *data, size_t n);
API bool qemu_plugin_write_memory_vaddr(uint64_t addr, ByteArray *data);
API bool qemu_plugin_translate_vaddr(uint64_t vaddr, uint64_t *hwaddr);
API int qemu_plugin_read_memory_hwaddr(uint64_t addr, ByteArray *data, size_t n);
API int qemu_plugin_write_memory_hwaddr(uint64_t addr, ByteArray *data);

unsigned qemu_plugin_mem_size_shift(uint32_t info) {
    return (unsigned)__builtin_ctz(dgm_access_bytes(info) | 256);
}
bool qemu_plugin_mem_is_sign_extended(uint32_t info) {
    return dgm_access_signed(info);
}
bool qemu_plugin_mem_is_big_endian(uint32_t info) {
    return (void)info, false;
}
bool qemu_plugin_mem_is_store(uint32_t info) {
    return dgm_access_writes(info);
}
PluginValue qemu_plugin_mem_get_value(uint32_t info) {
    PluginValue v = {.type = (int)qemu_plugin_mem_size_shift(info)};
    uint64_t low = 0, high = 0;
    if (current) dgm_access_value(current, &low, &high);
    v.data.u128.low = low;
    if (v.type == 4) v.data.u128.high = high;
    return v;
}
// User mode has no physical addresses.
void *qemu_plugin_get_hwaddr(uint32_t info, uint64_t vaddr) {
    return (void)info, (void)vaddr, NULL;
}
bool qemu_plugin_hwaddr_is_io(const void *h) {
    return (void)h, false;
}
uint64_t qemu_plugin_hwaddr_phys_addr(const void *h) {
    return (void)h, 0;
}
const char *qemu_plugin_hwaddr_device_name(const void *h) {
    return (void)h, "RAM"; // what QEMU says of memory that is no device
}
bool qemu_plugin_translate_vaddr(uint64_t vaddr, uint64_t *hwaddr) {
    return (void)vaddr, (void)hwaddr, false;
}
int qemu_plugin_read_memory_hwaddr(uint64_t addr, ByteArray *data, size_t n) {
    return (void)addr, (void)data, (void)n, 1; // an error
}
int qemu_plugin_write_memory_hwaddr(uint64_t addr, ByteArray *data) {
    return (void)addr, (void)data, 1;
}

// GLib's functions are there when a plugin uses GLib; only then are they asked for.
static bool set_size(ByteArray *a, unsigned n) {
    ByteArray *(*set)(ByteArray *, unsigned);
    *(void **)&set = dlsym(RTLD_DEFAULT, "g_byte_array_set_size");
    if (!set) {
        void *glib = dlopen("libglib-2.0.so.0", RTLD_NOW | RTLD_GLOBAL);
        if (glib) *(void **)&set = dlsym(glib, "g_byte_array_set_size");
    }
    if (set) set(a, n);
    return set;
}
bool qemu_plugin_read_memory_vaddr(uint64_t addr, ByteArray *data, size_t n) {
    if (!current || !n || n > UINT32_MAX || !set_size(data, (unsigned)n)) return false;
    return !dgm_memory_read(current, addr, data->data, n);
}
bool qemu_plugin_write_memory_vaddr(uint64_t addr, ByteArray *data) {
    return current && data->len && !dgm_memory_write(current, addr, data->data, data->len);
}

// ---- registers ----

API void *qemu_plugin_get_registers(void);
API int qemu_plugin_read_register(void *handle, ByteArray *out);
API int qemu_plugin_write_register(void *handle, ByteArray *in);

static bool for_plugins(const dgm_register *r) {
    return r->gdb >= 0;
}

void *qemu_plugin_get_registers(void) {
    void *(*array_new)(int, int, unsigned);
    void *(*append)(void *, const void *, unsigned);
    void *glib = dlopen("libglib-2.0.so.0", RTLD_NOW | RTLD_GLOBAL);
    if (!glib) return NULL;
    *(void **)&array_new = dlsym(glib, "g_array_new");
    *(void **)&append = dlsym(glib, "g_array_append_vals");
    if (!array_new || !append) return NULL;
    void *array = array_new(0, 1, sizeof(PluginRegister));
    const dgm_register *r;
    for (unsigned i = 0; (r = dgm_register_at(host.w, i)); i++) {
        if (!for_plugins(r)) continue;
        const char *feature =
            r->bytes == 16 ? "org.gnu.gdb.aarch64.fpu" : "org.gnu.gdb.aarch64.core";
        PluginRegister d = {(void *)(uintptr_t)(i + 1), r->name, feature};
        append(array, &d, 1);
    }
    return array;
}

// Appended, as QEMU does; the number of bytes, or -1.
int qemu_plugin_read_register(void *handle, ByteArray *out) {
    unsigned i = (unsigned)(uintptr_t)handle - 1, had = out->len;
    const dgm_register *r = dgm_register_at(host.w, i);
    if (!r || !current || !set_size(out, had + r->bytes)) return -1;
    return dgm_register_read(current, i, out->data + had) ? -1 : (int)r->bytes;
}
int qemu_plugin_write_register(void *handle, ByteArray *in) {
    unsigned i = (unsigned)(uintptr_t)handle - 1;
    const dgm_register *r = dgm_register_at(host.w, i);
    if (!r || !current || in->len < r->bytes) return -1;
    return dgm_register_write(current, i, in->data) ? -1 : (int)r->bytes;
}

// ---- scoreboards ----

API struct qemu_plugin_scoreboard *qemu_plugin_scoreboard_new(size_t bytes);
API void qemu_plugin_scoreboard_free(struct qemu_plugin_scoreboard *s);
API void *qemu_plugin_scoreboard_find(struct qemu_plugin_scoreboard *s, unsigned vcpu);
API void qemu_plugin_u64_add(PluginWord e, unsigned vcpu, uint64_t n);
API uint64_t qemu_plugin_u64_get(PluginWord e, unsigned vcpu);
API void qemu_plugin_u64_set(PluginWord e, unsigned vcpu, uint64_t n);
API uint64_t qemu_plugin_u64_sum(PluginWord e);

struct qemu_plugin_scoreboard *qemu_plugin_scoreboard_new(size_t bytes) {
    struct qemu_plugin_scoreboard *s = calloc(1, sizeof *s);
    if (!s) return NULL;
    s->bytes = bytes;
    s->words = (unsigned)((bytes + 7) / 8);
    s->first = dgm_counters_new(host.w, s->words);
    pthread_mutex_lock(&host.lock);
    s->next = host.scores;
    host.scores = s;
    pthread_mutex_unlock(&host.lock);
    return s;
}
// Translated code may still add to it: its words stay.
void qemu_plugin_scoreboard_free(struct qemu_plugin_scoreboard *s) {
    (void)s;
}
void *qemu_plugin_scoreboard_find(struct qemu_plugin_scoreboard *s, unsigned vcpu) {
    if (vcpu >= MAX_THREADS || s->first == UINT32_MAX) return NULL;
    pthread_mutex_lock(&host.lock);
    dgm_vcpu *v = host.vcpus[vcpu];
    void *at;
    if (v) {
        at = dgm_counter_pointer(v, s->first);
    } else {
        if (!s->elsewhere[vcpu]) s->elsewhere[vcpu] = calloc(s->words, 8);
        at = s->elsewhere[vcpu];
    }
    pthread_mutex_unlock(&host.lock);
    return at;
}
static uint64_t *word_at(PluginWord e, unsigned vcpu) {
    char *at = qemu_plugin_scoreboard_find(e.score, vcpu);
    return at ? (uint64_t *)(void *)(at + e.offset) : NULL;
}
void qemu_plugin_u64_add(PluginWord e, unsigned vcpu, uint64_t n) {
    uint64_t *at = word_at(e, vcpu);
    if (at) *at += n;
}
uint64_t qemu_plugin_u64_get(PluginWord e, unsigned vcpu) {
    uint64_t *at = word_at(e, vcpu);
    return at ? *at : 0;
}
void qemu_plugin_u64_set(PluginWord e, unsigned vcpu, uint64_t n) {
    uint64_t *at = word_at(e, vcpu);
    if (at) *at = n;
}
uint64_t qemu_plugin_u64_sum(PluginWord e) {
    uint64_t sum = 0;
    for (unsigned i = 0; i < host.n_vcpus; i++) sum += qemu_plugin_u64_get(e, i);
    return sum;
}

// ---- the rest ----

API void qemu_plugin_vcpu_for_each(PluginId id, VcpuFn cb);
API int qemu_plugin_n_vcpus(void);
API int qemu_plugin_n_max_vcpus(void);
API int qemu_plugin_num_vcpus(void);
API void qemu_plugin_outs(const char *text);
API bool qemu_plugin_bool_parse(const char *name, const char *value, bool *out);
API char *qemu_plugin_path_to_binary(void);
API uint64_t qemu_plugin_start_code(void);
API uint64_t qemu_plugin_end_code(void);
API uint64_t qemu_plugin_entry_code(void);
API const void *qemu_plugin_request_time_control(void);
API void qemu_plugin_update_ns(const void *handle, int64_t ns);

void qemu_plugin_vcpu_for_each(PluginId id, VcpuFn cb) {
    for (unsigned i = 0; i < host.n_vcpus; i++)
        if (host.vcpus[i]) cb(id, i);
}
int qemu_plugin_n_vcpus(void) {
    return -1; // so says QEMU's user mode
}
int qemu_plugin_n_max_vcpus(void) {
    return -1;
}
int qemu_plugin_num_vcpus(void) {
    return (int)host.n_vcpus;
}
void qemu_plugin_outs(const char *text) {
    size_t left = strlen(text);
    for (ssize_t n; !host.quiet && left && (n = write(host.out_fd, text, left)) > 0;
         left -= (size_t)n)
        text += n;
}
bool qemu_plugin_bool_parse(const char *name, const char *value, bool *out) {
    static const char *const yes[] = {"on", "yes", "true", "y"}, *const no[] = {"off", "no",
                                                                                "false", "n"};
    (void)name;
    for (unsigned i = 0; i < 4; i++) {
        if (strcmp(value, yes[i]) && strcmp(value, no[i])) continue;
        *out = !strcmp(value, yes[i]);
        return true;
    }
    return false;
}
char *qemu_plugin_path_to_binary(void) {
    return strdup(host.program);
}
uint64_t qemu_plugin_start_code(void) {
    return host.start_code;
}
uint64_t qemu_plugin_end_code(void) {
    return host.end_code;
}
uint64_t qemu_plugin_entry_code(void) {
    return host.entry_code;
}
// Time is the host's.
const void *qemu_plugin_request_time_control(void) {
    return NULL;
}
void qemu_plugin_update_ns(const void *handle, int64_t ns) {
    (void)handle, (void)ns;
}
