// qemu_plugin_look.c - what QEMU's plugins ask: code, accesses, memory, registers, their words for
// each thread, and what the program is.
#include "tools/qemu_plugin.h"

#include <capstone/capstone.h>
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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

static struct {
    void *library;
    csh disassembler;
    __typeof__(cs_disasm) *disasm;
    __typeof__(cs_free) *free_insns;
} capstone;

// As QEMU writes it, by capstone; without that, as we do.
static bool open_capstone(void) {
    if (capstone.library) return capstone.disasm;
    char name[32];
    snprintf(name, sizeof name, "libcapstone.so.%d", CS_API_MAJOR);
    capstone.library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (!capstone.library) {
        capstone.library = &capstone; // do not ask again
        return false;
    }
    __typeof__(cs_open) *open;
    *(void **)&open = dlsym(capstone.library, "cs_open");
    *(void **)&capstone.free_insns = dlsym(capstone.library, "cs_free");
    void *disasm = dlsym(capstone.library, "cs_disasm");
    bool ok = open && capstone.free_insns && disasm &&
              !strcmp(dgm_watch_guest(plugin_host.w), "aarch64") &&
              open(CS_ARCH_ARM64, CS_MODE_LITTLE_ENDIAN, &capstone.disassembler) == CS_ERR_OK;
    if (ok) *(void **)&capstone.disasm = disasm;
    return ok;
}

char *qemu_plugin_insn_disas(const struct qemu_plugin_insn *i) {
    const dgm_insn *in = insn_of(i);
    cs_insn *text;
    char *out = NULL;
    if (open_capstone() &&
        capstone.disasm(capstone.disassembler, in->bytes, in->size, in->address, 1, &text)) {
        if (asprintf(&out, "%s %s", text->mnemonic, text->op_str) < 0) out = NULL;
        capstone.free_insns(text, 1);
        return out;
    }
    out = calloc(1, 128);
    if (out) dgm_disassemble(plugin_host.w, in->bytes, in->size, in->address, out, 128);
    return out;
}

const char *qemu_plugin_insn_symbol(const struct qemu_plugin_insn *i) {
    dgm_symbol s;
    return dgm_symbol_at(plugin_host.w, insn_of(i)->address, &s) ? s.name : NULL;
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
    if (plugin_vcpu) dgm_access_value(plugin_vcpu, &low, &high);
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
    if (!plugin_vcpu || !n || n > UINT32_MAX || !set_size(data, (unsigned)n)) return false;
    return !dgm_memory_read(plugin_vcpu, addr, data->data, n);
}
bool qemu_plugin_write_memory_vaddr(uint64_t addr, ByteArray *data) {
    return plugin_vcpu && data->len && !dgm_memory_write(plugin_vcpu, addr, data->data, data->len);
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
    for (unsigned i = 0; (r = dgm_register_at(plugin_host.w, i)); i++) {
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
    const dgm_register *r = dgm_register_at(plugin_host.w, i);
    if (!r || !plugin_vcpu || !set_size(out, had + r->bytes)) return -1;
    return dgm_register_read(plugin_vcpu, i, out->data + had) ? -1 : (int)r->bytes;
}
int qemu_plugin_write_register(void *handle, ByteArray *in) {
    unsigned i = (unsigned)(uintptr_t)handle - 1;
    const dgm_register *r = dgm_register_at(plugin_host.w, i);
    if (!r || !plugin_vcpu || in->len < r->bytes) return -1;
    return dgm_register_write(plugin_vcpu, i, in->data) ? -1 : (int)r->bytes;
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
    s->first = dgm_counters_new(plugin_host.w, s->words);
    pthread_mutex_lock(&plugin_host.lock);
    s->next = plugin_host.scores;
    plugin_host.scores = s;
    pthread_mutex_unlock(&plugin_host.lock);
    return s;
}
// Translated code may still add to it: its words stay.
void qemu_plugin_scoreboard_free(struct qemu_plugin_scoreboard *s) {
    (void)s;
}
void *qemu_plugin_scoreboard_find(struct qemu_plugin_scoreboard *s, unsigned vcpu) {
    if (vcpu >= MAX_THREADS || s->first == UINT32_MAX) return NULL;
    pthread_mutex_lock(&plugin_host.lock);
    dgm_vcpu *v = plugin_host.vcpus[vcpu];
    void *at;
    if (v) {
        at = dgm_counter_pointer(v, s->first);
    } else {
        if (!s->elsewhere[vcpu]) s->elsewhere[vcpu] = calloc(s->words, 8);
        at = s->elsewhere[vcpu];
    }
    pthread_mutex_unlock(&plugin_host.lock);
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
    for (unsigned i = 0; i < plugin_host.n_vcpus; i++) sum += qemu_plugin_u64_get(e, i);
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
    for (unsigned i = 0; i < plugin_host.n_vcpus; i++)
        if (plugin_host.vcpus[i]) cb(id, i);
}
int qemu_plugin_n_vcpus(void) {
    return -1; // so says QEMU's user mode
}
int qemu_plugin_n_max_vcpus(void) {
    return -1;
}
int qemu_plugin_num_vcpus(void) {
    return (int)plugin_host.n_vcpus;
}
void qemu_plugin_outs(const char *text) {
    size_t left = strlen(text);
    for (ssize_t n; !plugin_host.quiet && left && (n = write(plugin_host.out_fd, text, left)) > 0;
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
    return strdup(plugin_host.program);
}
uint64_t qemu_plugin_start_code(void) {
    return plugin_host.start_code;
}
uint64_t qemu_plugin_end_code(void) {
    return plugin_host.end_code;
}
uint64_t qemu_plugin_entry_code(void) {
    return plugin_host.entry_code;
}
// Time is the host's.
const void *qemu_plugin_request_time_control(void) {
    return NULL;
}
void qemu_plugin_update_ns(const void *handle, int64_t ns) {
    (void)handle, (void)ns;
}
