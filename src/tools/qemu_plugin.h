// qemu_plugin.h - what the two halves of the host of QEMU's plugins share: qemu_plugin.c starts
// plugins and calls them, qemu_plugin_look.c answers what they ask.
//
// The interface has no handle for the emulator in most of its calls, so there is state of the
// process: the plugins, and for each thread the vCPU whose callback runs. It belongs to the
// command.
#ifndef DGM_TOOLS_QEMU_PLUGIN_H
#define DGM_TOOLS_QEMU_PLUGIN_H

#include "tools/tools.h"

#include <pthread.h>

#define API __attribute__((visibility("default")))
enum { MAX_PLUGINS = 16, MAX_CALLBACKS = 16, MAX_THREADS = 4096 };

typedef uint64_t PluginId;
typedef void (*SimpleFn)(PluginId);
typedef void (*DataFn)(PluginId, void *);
typedef void (*VcpuFn)(PluginId, unsigned);
typedef void (*SyscallFn)(PluginId, unsigned, int64_t, uint64_t, uint64_t, uint64_t, uint64_t,
                          uint64_t, uint64_t, uint64_t, uint64_t);
typedef void (*SyscallRetFn)(PluginId, unsigned, int64_t, int64_t);
typedef bool (*SyscallFilterFn)(PluginId, unsigned, int64_t, uint64_t, uint64_t, uint64_t, uint64_t,
                                uint64_t, uint64_t, uint64_t, uint64_t, uint64_t *);
struct qemu_plugin_tb;
typedef void (*TransFn)(PluginId, struct qemu_plugin_tb *);

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

typedef struct PluginHost {
    dgm_watch *w;
    Plugin plugin[MAX_PLUGINS];
    unsigned n_plugins;
    struct InlineWord *words; // of qemu_plugin.c
    struct qemu_plugin_scoreboard *scores;
    dgm_vcpu *vcpus[MAX_THREADS];
    unsigned n_vcpus;
    pthread_mutex_t lock; // vcpus, words, scores
    int out_fd;
    bool quiet;
    const char *program;
    uint64_t start_code, end_code, entry_code;
} PluginHost;

extern PluginHost plugin_host;
extern __thread dgm_vcpu *plugin_vcpu; // whose callback runs

#endif
