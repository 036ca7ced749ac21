// kept.c - the public API of translations on disk: dragoman/cache.h.
#include "dragoman/cache.h"

#include "base/self.h"
#include "engine/persist_file.h"
#include "linux/personality.h"
#include "memory/space.h"
#include "options.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct Each {
    bool (*fn)(void *ctx, const dgm_cache_entry *e);
    void *ctx;
    SelfImage self;
} Each;

static bool show(void *ctx, const char *file, const CacheHead *head, uint32_t n_blocks,
                 uint64_t bytes, int64_t used) {
    const Each *each = ctx;
    dgm_cache_entry e = {.file = file, .blocks = n_blocks, .bytes = bytes, .used = used};
    if (head) {
        e.guest_file = head->name;
        e.current = !memcmp(head->key.dragoman, each->self.build_id, sizeof head->key.dragoman);
    }
    return each->fn(each->ctx, &e);
}

static int say(const DgmErr *err, char *error, size_t error_bytes) {
    if (error_bytes) snprintf(error, error_bytes, "%s", err->text);
    return err->code;
}

int dgm_cache_each(const char *dir, bool (*fn)(void *ctx, const dgm_cache_entry *e), void *ctx,
                   char *error, size_t error_bytes) {
    DgmErr err = {0};
    struct stat st;
    if (stat(dir, &st)) { // opening would make it
        err_set(&err, -errno, "%s: %s", dir, strerror(errno));
        return say(&err, error, error_bytes);
    }
    int fd = cache_dir_open(dir, &err);
    if (fd < 0) return say(&err, error, error_bytes);
    Each each = {.fn = fn, .ctx = ctx};
    self_image(&each.self);
    int e = cache_dir_each(fd, show, &each);
    close(fd);
    if (!e) return 0;
    err_set(&err, e, "%s: %s", dir, strerror(-e));
    return say(&err, error, error_bytes);
}

int dgm_cache_warm(const dgm_options *options, const char *path,
                   void (*progress)(void *ctx, uint64_t done, uint64_t all), void *ctx,
                   dgm_cache_warmed *out, char *error, size_t error_bytes) {
    DgmErr err = {0};
    MachineConfig mc;
    *out = (dgm_cache_warmed){0};
    int e = options_config(options, &mc, &err);
    if (!e && !mc.persist_dir) e = err_set(&err, -EINVAL, "%s: no cache to warm", path);
    if (!e) e = linux_guest_of_file(path, &mc.guest, &err);
    if (!e) e = options_cpu(options, &mc, &err);
    Machine *m = e ? NULL : machine_new(&mc, &err);
    if (!m) return say(&err, error, error_bytes);
    if (!m->persist) {
        machine_free(m);
        err_set(&err, -EPERM, "%s: not a directory to keep translations in", mc.persist_dir);
        return say(&err, error, error_bytes);
    }
    LinuxWarm how = {
        .path = path, .progress = progress, .ctx = ctx, .entry_points = &out->entry_points};
    e = linux_warm(m, &how, &err);
    out->blocks = m->stats.blocks;
    out->loaded = m->stats.loaded;
    out->instructions = m->stats.guest_insns;
    machine_free(m);
    return e ? say(&err, error, error_bytes) : 0;
}
