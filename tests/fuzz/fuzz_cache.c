// fuzz_cache.c - files of kept translations, on any bytes. The first byte says what the rest is: a
// whole file (as it lies in the directory, or behind a sound head), or the body of a segment.
#include "fuzz.h"

#include "engine/images.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static const CacheKey key = {.lo = 0x10000, .host = 1, .guest = 2};

static void write_file(int dir, const char *name, const uint8_t *data, size_t n) {
    int fd = openat(dir, name, O_WRONLY | O_TRUNC);
    require(fd >= 0 && write(fd, data, n) == (ssize_t)n);
    close(fd);
}

// A body, in memory as the engine has it: nothing that is said to be sound leads out of it.
static void try_body(const uint8_t *data, size_t n, uint64_t guest_bytes) {
    static Machine *m; // made once, for all inputs
    DgmErr err;
    if (!m) m = machine_new(&(MachineConfig){.guest = guest_all[0], .host = &host_x86_64}, &err);
    require(m != NULL);
    CacheBody *body = aligned_alloc(64, ALIGN_UP(n + 1, (size_t)64));
    require(body != NULL);
    memcpy(body, data, n);
    if (image_is_sound(body, n, guest_bytes)) {
        for (uint64_t pc = 0; pc < 4096; pc += 4) {
            const CacheBlock *c = image_find(body, pc, 0);
            require(!c || (const uint8_t *)(c + 1) <= (const uint8_t *)body + n);
        }
        if (host_x86_64.attach)
            host_x86_64.attach(m->host_ctx, (uint8_t *)body + body->image, n - body->image);
    }
    memcpy(body, data, n);
    if (host_x86_64.attach) host_x86_64.attach(m->host_ctx, (uint8_t *)body, n);
    free(body);
}

static void look_up(int dir) {
    CacheFile f;
    int fd = cache_file_open(dir, &key, &f);
    for (unsigned i = 0; fd >= 0 && i < f.n_segs; i++) {
        size_t bytes = ALIGN_UP((size_t)(f.seg[i].body_bytes + f.seg[i].guest_bytes), 4096);
        uint8_t *both = pages_alloc(bytes);
        require(both != NULL);
        if (cache_read(fd, &f.seg[i], both))
            try_body(both, f.seg[i].body_bytes, f.seg[i].guest_bytes);
        pages_free(both, bytes);
    }
    if (fd >= 0) close(fd);
}

static bool only_one(void *ctx, const char *file, const CacheHead *head, uint32_t n_records,
                     uint64_t bytes, int64_t used) {
    (void)head, (void)n_records, (void)bytes, (void)used;
    snprintf(ctx, 64, "%s", file);
    return true;
}

static void as_file(const uint8_t *data, size_t n) {
    char path[] = "/tmp/fuzz-cache-XXXXXX", name[64] = "";
    require(mkdtemp(path) != NULL);
    DgmErr why;
    int dir = cache_dir_open(path, &why);
    require(dir >= 0 && cache_file_mark(dir, &key, "fuzz"));
    cache_dir_each(dir, only_one, name);
    struct stat st;
    require(!fstatat(dir, name, &st, 0));
    uint8_t *all = malloc((size_t)st.st_size + n);
    int fd = openat(dir, name, O_RDONLY);
    require(all && fd >= 0 && read(fd, all, (size_t)st.st_size) == st.st_size);
    close(fd);
    memcpy(all + st.st_size, data, n);
    write_file(dir, name, all, (size_t)st.st_size + n); // a sound head, any segments
    look_up(dir);
    static const char zeros[4096];
    CacheBody one = {.n_blocks = 0};
    Buf body = {0}, guest = {0};
    CacheAdding adding;
    buf_add(&body, &one, sizeof one);
    buf_add(&body, data, MIN(n, sizeof zeros - sizeof one));
    buf_add(&body, zeros, sizeof zeros - body.len);
    require(cache_add_begin(dir, &key, &adding));
    if (adding.file.n_segs == CACHE_MAX_SEGMENTS) body.len = 0;
    require(cache_add_end(&adding, "fuzz", &body, &guest) == (body.len != 0));
    look_up(dir);
    write_file(dir, name, data, n);
    look_up(dir);
    buf_free(&body);
    free(all);
    unlinkat(dir, name, 0);
    close(dir);
    rmdir(path);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    if (!n) return 0;
    if (data[0] & 1)
        try_body(data + 1, n - 1, n > 1 ? data[1] : 0);
    else
        as_file(data + 1, n - 1);
    return 0;
}
