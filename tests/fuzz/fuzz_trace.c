// fuzz_trace.c - any bytes as what is in the chunks of a trace: they are packed and given right
// checksums, so that what reads them is reached. Whatever a file holds, the reader ends, and what
// it says keeps the header's promises.
//
// Input: a chunk is its kind, thread, and `first` and `count` of 16 bits, 16 bits of how many bytes
// follow, and those; fewer at the end.
#include "fuzz.h"

#include "dragoman/trace.h"
#include "trace/format.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

enum { MOST_RECORDS = 2000 };

static unsigned two_bytes(const uint8_t *at) {
    return at[0] | (unsigned)at[1] << 8;
}

// A zstd frame of one block that is not compressed (RFC 8878, 3.1.1), for packing would take most
// of the time.
static void add_frame(Buf *to, const uint8_t *data, size_t n) {
    enum { SINGLE_SEGMENT_SIZE_4 = 0xa0, LAST_RAW_BLOCK = 1 };
    uint32_t block = (uint32_t)n << 3 | LAST_RAW_BLOCK, bytes = (uint32_t)n;
    buf_add(to, (uint8_t[]){0x28, 0xb5, 0x2f, 0xfd, SINGLE_SEGMENT_SIZE_4}, 5);
    buf_add(to, &bytes, 4);
    buf_add(to, &block, 3);
    buf_add(to, data, n);
}

static void add_chunk(Buf *file, const uint8_t *at, const uint8_t *data, size_t n) {
    Buf stored = {0};
    add_frame(&stored, data, n);
    ChunkHeader h = {.kind = at[0],
                     .thread = at[1],
                     .first = two_bytes(at + 2),
                     .count = two_bytes(at + 4),
                     .bytes = (uint32_t)n,
                     .stored = (uint32_t)stored.len};
    h.check = trace_check(&h, stored.data);
    buf_add(file, &h, sizeof h);
    buf_add(file, stored.data, stored.len);
    buf_free(&stored);
}

static void build(Buf *file, const uint8_t *data, size_t n) {
    const char strings[] = "aarch64\0/bin/x";
    FileHeader h = {.magic = TRACE_MAGIC,
                    .version = TRACE_VERSION,
                    .flags = n & 1 ? TRACE_VALUES : 0,
                    .strings_bytes = sizeof strings};
    buf_add(file, &h, sizeof h);
    buf_add(file, strings, sizeof strings);
    enum { HEAD = 8 };
    while (n >= HEAD) {
        size_t most = n - HEAD, bytes = two_bytes(data + 6);
        if (bytes > most) bytes = most;
        add_chunk(file, data, data + HEAD, bytes);
        data += HEAD + bytes;
        n -= HEAD + bytes;
    }
}

static void ask(dgm_trace *t, uint64_t address) {
    dgm_trace_symbol s;
    if (dgm_trace_symbol_at(t, address, &s))
        require(s.address <= address && (!s.bytes || address - s.address < s.bytes) && s.name);
    const dgm_trace_module *m = dgm_trace_module_at(t, address);
    if (m) require(m->low <= address && address < m->high && m->path);
}

static void read_records(dgm_trace *t) {
    dgm_trace_record r;
    for (unsigned i = 0; i < MOST_RECORDS; i++) {
        int e = dgm_trace_next(t, &r);
        require(e == 0 || e == 1 || e == -EBADMSG);
        if (e < 0) require(dgm_trace_error(t)[0]);
        if (e != 1) return;
        require(r.thread < TRACE_MAX_THREADS);
        if (r.kind == DGM_TRACE_INSN) require(r.bytes && r.size);
        ask(t, r.address);
    }
}

static void read_events(dgm_trace *t, uint32_t threads) {
    for (uint32_t i = 0; i < threads; i++) {
        const dgm_trace_event *e;
        size_t n;
        if (dgm_trace_events(t, i, &e, &n)) return;
        for (size_t k = 0; k < n; k++) {
            require(e[k].thread == i && (!k || e[k - 1].insn <= e[k].insn));
            require(e[k].kind != DGM_TRACE_END || e[k].text);
            dgm_trace_syscall_name(t, e[k].number);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    char path[64], error[256] = "";
    Buf file = {0};
    build(&file, data, n);
    int fd = memfd_create("trace", MFD_CLOEXEC);
    require(fd >= 0 && write(fd, file.data, file.len) == (ssize_t)file.len);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    dgm_trace *t = dgm_trace_open(path, error, sizeof error);
    require(t || (error[0] && !strchr(error, '\n')));
    if (t) {
        dgm_trace_info info;
        dgm_trace_get_info(t, &info);
        require(info.threads <= TRACE_MAX_THREADS);
        read_records(t);
        read_events(t, info.threads);
        dgm_trace_seek(t, 0, n);
        read_records(t);
        dgm_trace_choose(t, 0);
        read_records(t);
        dgm_trace_close(t);
    }
    close(fd);
    buf_free(&file);
    return 0;
}
