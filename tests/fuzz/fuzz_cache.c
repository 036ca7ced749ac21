// fuzz_cache.c - files of kept translations, on any bytes. The first byte says what the rest is: a
// whole file (as it lies in the directory, or with its checksums made right), or frozen blocks.
#include "fuzz.h"

#include "engine/engine.h"
#include "engine/persist_file.h"

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

// Every record that the file shows must be whole, wherever it is looked for.
static void look_up(int dir) {
    CacheFile f;
    cache_file_open(dir, &key, &f);
    for (uint64_t pc = key.lo; f.map && pc < key.lo + 4096; pc += 4) {
        unsigned next = 0;
        uint64_t bytes;
        const CacheRecord *r;
        while ((r = cache_file_find(&f, pc, next, &next, &bytes)))
            if (cache_record_ok(r, bytes))
                require((const uint8_t *)r + r->bytes <= f.map + f.bytes);
    }
    cache_file_close(&f);
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
    struct {
        CacheRecord r;
        CacheBlock b;
    } one = {.r = {.bytes = sizeof one, .n_blocks = 1}, .b = {.pc = key.lo}};
    cache_record_seal(&one.r);
    Buf records = {0};
    CacheAdding adding;
    buf_add(&records, &one, sizeof one);
    require(cache_add_begin(dir, &key, &adding) && cache_add_end(&adding, "fuzz", &records));
    look_up(dir);
    write_file(dir, name, data, n);
    look_up(dir);
    buf_free(&records);
    free(all);
    unlinkat(dir, name, 0);
    close(dir);
    rmdir(path);
}

static void as_frozen(const uint8_t *data, size_t n) {
    enum { ROOM = 1 << 20, BLOCKS = 3, LINKS = 3 };
    static Machine *m; // made once, for all inputs
    DgmErr err;
    if (!host_x86_64.thaw) return;
    if (!m) m = machine_new(&(MachineConfig){.guest = guest_all[0], .host = &host_x86_64}, &err);
    require(m != NULL);
    uint8_t *room = malloc(ROOM), *cold = malloc(ROOM), *aligned = malloc(n + 1);
    HostLink links[BLOCKS][LINKS];
    require(room && cold && aligned);
    memcpy(aligned, data, n);
    for (unsigned n_blocks = 0; n_blocks <= BLOCKS; n_blocks++)
        for (unsigned n_links = 0; n_links <= LINKS; n_links++) {
            HostThawed out[BLOCKS];
            for (unsigned i = 0; i < BLOCKS; i++)
                out[i] = (HostThawed){.links = links[i], .n_links = n_links};
            HostCode code = {.at = room, .end = room + ROOM, .cold = cold, .cold_end = cold + ROOM};
            if (host_x86_64.thaw(m->host_ctx, aligned, n, &code, out, n_blocks)) continue;
            require(code.at <= room + ROOM && code.cold <= cold + ROOM);
        }
    free(room);
    free(cold);
    free(aligned);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    if (!n) return 0;
    if (data[0] & 1)
        as_frozen(data + 1, n - 1);
    else
        as_file(data + 1, n - 1);
    return 0;
}
