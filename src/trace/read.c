// read.c - the reader of traces (include/dragoman/trace.h). Chunk headers are read first, once, and
// say where everything is; a piece is unpacked when it is come to, and its streams are followed as
// records are asked for. All that a file says is checked where it is read.
#include "dragoman/trace.h"

#include "trace/format.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct Access {
    uint8_t bytes, kind;
    // of the piece that is being read
    uint32_t piece;
    uint64_t last, before, value, high;
} Access;

typedef struct Insn {
    uint64_t address, reads, writes, target;
    const uint8_t *bytes;
    uint32_t classes, first_access;
    uint8_t size, n_accesses;
} Insn;

typedef struct Block {
    uint64_t address;
    uint32_t first_insn, n_insns, follower, follower_piece;
} Block;

typedef struct Chunk {
    ChunkHeader h;
    size_t at; // of the stored bytes
} Chunk;

typedef struct Stream {
    const uint8_t *at, *end;
} Stream;

struct dgm_trace {
    const uint8_t *file;
    size_t bytes;
    FileHeader header;
    const char *guest, *program;
    TraceZstd zstd;
    Chunk *chunks;
    size_t n_chunks, cap_chunks;
    bool truncated;
    uint8_t **code; // unpacked code chunks
    size_t n_code;
    Block *blocks;
    Insn *insns;
    Access *accesses;
    size_t n_blocks, cap_blocks, n_insns, cap_insns, n_accesses, cap_accesses;
    // the piece that is being read
    size_t next_chunk;
    uint8_t *piece;
    uint32_t piece_number, thread;
    bool in_run;
    Stream which, addresses, values, escapes, calls;
    uint64_t insn, left;                // of the thread; instructions of this piece still to come
    uint32_t block, in_block, executed; // executed: of this block
    bool have_block;
    uint32_t ahead; // the block behind that, once known
    uint32_t ahead_executed;
    bool have_ahead;
    unsigned access; // of the last instruction, still to come
    const Insn *current;
    char error[256];
};

static int fail(dgm_trace *t, int code, const char *format, ...) {
    va_list ap;
    va_start(ap, format);
    vsnprintf(t->error, sizeof t->error, format, ap);
    va_end(ap);
    return code;
}

uint64_t trace_check(const ChunkHeader *h, const void *stored) {
    uint64_t x = 0x9e3779b97f4a7c15ull;
    const uint8_t *at = (const uint8_t *)h, *parts[2] = {at, stored};
    size_t sizes[2] = {offsetof(ChunkHeader, check), h->stored};
    for (unsigned k = 0; k < 2; k++)
        for (size_t i = 0; i < sizes[k]; i += 8) {
            uint64_t word = 0;
            memcpy(&word, parts[k] + i, sizes[k] - i < 8 ? sizes[k] - i : 8);
            x = (x ^ word) * 0xff51afd7ed558ccdull;
            x ^= x >> 32;
        }
    return x;
}

bool trace_zstd(TraceZstd *z) {
    z->library = dlopen("libzstd.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!z->library) return false;
    *(void **)&z->bound = dlsym(z->library, "ZSTD_compressBound");
    *(void **)&z->compress = dlsym(z->library, "ZSTD_compress");
    *(void **)&z->decompress = dlsym(z->library, "ZSTD_decompress");
    *(void **)&z->is_error = dlsym(z->library, "ZSTD_isError");
    return z->bound && z->compress && z->decompress && z->is_error;
}
void trace_zstd_close(TraceZstd *z) {
    if (z->library) dlclose(z->library);
    z->library = NULL;
}

static bool grow(void **array, size_t *cap, size_t n, size_t item) {
    if (n <= *cap) return true;
    size_t want = *cap ? *cap * 2 : 256;
    while (want < n) want *= 2;
    void *more = realloc(*array, want * item);
    if (!more) return false;
    *array = more;
    *cap = want;
    return true;
}

// ---- chunks ----

static uint8_t *unpack(dgm_trace *t, const Chunk *c) {
    if (trace_check(&c->h, t->file + c->at) != c->h.check) {
        fail(t, -EBADMSG, "damaged at byte %zu", c->at);
        return NULL;
    }
    uint8_t *out = malloc(c->h.bytes + 1ul);
    if (!out) {
        fail(t, -ENOMEM, "out of memory");
        return NULL;
    }
    size_t n = t->zstd.decompress(out, c->h.bytes, t->file + c->at, c->h.stored);
    if (t->zstd.is_error(n) || n != c->h.bytes) {
        fail(t, -EBADMSG, "damaged at byte %zu", c->at);
        free(out);
        return NULL;
    }
    return out;
}

static bool number(Stream *s, uint64_t *out) {
    const uint8_t *at = get_number(s->at, s->end, out);
    if (!at) return false;
    s->at = at;
    return true;
}

static bool read_insn(dgm_trace *t, Stream *s, uint64_t address, Insn *in) {
    uint64_t size, classes, n, what;
    if (!number(s, &size) || !size || size > 255 || (size_t)(s->end - s->at) < size) return false;
    *in = (Insn){.address = address, .size = (uint8_t)size, .bytes = s->at};
    s->at += size;
    if (!number(s, &classes) || !number(s, &in->reads) || !number(s, &in->writes) ||
        !number(s, &in->target) || !number(s, &n) || n > MAX_INSN_ACCESSES)
        return false;
    in->classes = (uint32_t)classes;
    in->n_accesses = (uint8_t)n;
    in->first_access = (uint32_t)t->n_accesses;
    if (!grow((void **)&t->accesses, &t->cap_accesses, t->n_accesses + n, sizeof *t->accesses))
        return false;
    for (uint64_t i = 0; i < n; i++) {
        if (!number(s, &what) || (what & 255) > 16 || what >> 8 > ACCESS_BOTH) return false;
        t->accesses[t->n_accesses++] =
            (Access){.bytes = (uint8_t)(what & 255), .kind = (uint8_t)(what >> 8)};
    }
    return true;
}

static bool read_code(dgm_trace *t, const Chunk *c, Stream s) {
    for (uint64_t i = 0; i < c->h.count; i++) {
        uint64_t address, n;
        if (!number(&s, &address) || !number(&s, &n) || !n || n > MAX_BLOCK_INSNS) return false;
        if (!grow((void **)&t->blocks, &t->cap_blocks, t->n_blocks + 1, sizeof *t->blocks) ||
            !grow((void **)&t->insns, &t->cap_insns, t->n_insns + n, sizeof *t->insns))
            return false;
        t->blocks[t->n_blocks++] = (Block){address, (uint32_t)t->n_insns, (uint32_t)n, 0, 0};
        for (uint64_t k = 0; k < n; k++) {
            if (!read_insn(t, &s, address, &t->insns[t->n_insns])) return false;
            address += t->insns[t->n_insns++].size;
        }
    }
    return true;
}

static int add_code(dgm_trace *t, const Chunk *c) {
    uint8_t *text = unpack(t, c);
    uint8_t **more = text ? realloc(t->code, (t->n_code + 1) * sizeof *more) : NULL;
    if (!more) {
        free(text);
        return text ? fail(t, -ENOMEM, "out of memory") : -EBADMSG;
    }
    t->code = more;
    t->code[t->n_code++] = text;
    if (c->h.first != t->n_blocks || !read_code(t, c, (Stream){text, text + c->h.bytes}))
        return fail(t, -EBADMSG, "damaged code at byte %zu", c->at);
    return 0;
}

// All headers; code is unpacked at once, for every piece may need it.
static int read_chunks(dgm_trace *t, size_t at) {
    while (at < t->bytes) {
        Chunk c;
        if (t->bytes - at < sizeof c.h) break;
        memcpy(&c.h, t->file + at, sizeof c.h);
        c.at = at + sizeof c.h;
        if (c.h.kind < CHUNK_CODE || c.h.kind > CHUNK_CALLS || c.h.bytes > MAX_CHUNK_BYTES)
            return fail(t, -EBADMSG, "damaged at byte %zu", at);
        if (c.h.stored > t->bytes - c.at) break;
        if (!grow((void **)&t->chunks, &t->cap_chunks, t->n_chunks + 1, sizeof c))
            return fail(t, -ENOMEM, "out of memory");
        t->chunks[t->n_chunks++] = c;
        int e = c.h.kind == CHUNK_CODE ? add_code(t, &c) : 0;
        if (e) return e;
        at = c.at + c.h.stored;
    }
    t->truncated = at != t->bytes;
    return 0;
}

dgm_trace *dgm_trace_open(const char *path, char *error, size_t cap) {
    dgm_trace *t = calloc(1, sizeof *t);
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC), e = fd < 0 ? -errno : 0;
    if (t && !e && (fstat(fd, &st) || !S_ISREG(st.st_mode))) e = -EINVAL;
    if (t && !e && st.st_size >= (off_t)sizeof t->header) {
        void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (p == MAP_FAILED)
            e = -errno;
        else
            t->file = p, t->bytes = (size_t)st.st_size;
    }
    if (fd >= 0) close(fd);
    if (!t || e) {
        snprintf(error, cap, "%s: %s", path, strerror(t ? -e : ENOMEM));
        free(t);
        return NULL;
    }
    if (t->file) memcpy(&t->header, t->file, sizeof t->header);
    size_t at = sizeof t->header + t->header.strings_bytes;
    if (!t->file || memcmp(t->header.magic, TRACE_MAGIC, 8) || at > t->bytes ||
        t->header.strings_bytes < 2 || t->file[at - 1] ||
        !memchr(t->file + sizeof t->header, 0, t->header.strings_bytes - 1)) {
        snprintf(error, cap, "%s: not a trace", path);
    } else if (t->header.version != TRACE_VERSION) {
        snprintf(error, cap, "%s: version %u of the format; this reads %d", path, t->header.version,
                 TRACE_VERSION);
    } else if (!trace_zstd(&t->zstd)) {
        snprintf(error, cap, "%s: no libzstd.so.1 to unpack it with", path);
    } else {
        t->guest = (const char *)t->file + sizeof t->header;
        t->program = t->guest + strlen(t->guest) + 1;
        if (!read_chunks(t, at)) return t;
        snprintf(error, cap, "%s: %s", path, t->error);
    }
    dgm_trace_close(t);
    return NULL;
}

void dgm_trace_close(dgm_trace *t) {
    if (!t) return;
    if (t->file) munmap((void *)(uintptr_t)t->file, t->bytes);
    for (size_t i = 0; i < t->n_code; i++) free(t->code[i]);
    free(t->code);
    free(t->chunks);
    free(t->blocks);
    free(t->insns);
    free(t->accesses);
    free(t->piece);
    trace_zstd_close(&t->zstd);
    free(t);
}

const char *dgm_trace_error(const dgm_trace *t) {
    return t->error;
}

int dgm_trace_get_info(dgm_trace *t, dgm_trace_info *out) {
    *out = (dgm_trace_info){.guest = t->guest,
                            .program = t->program,
                            .file_bytes = t->bytes,
                            .truncated = t->truncated,
                            .values = t->header.flags & TRACE_VALUES};
    for (size_t i = 0; i < t->n_chunks; i++) {
        const ChunkHeader *h = &t->chunks[i].h;
        if (h->kind == CHUNK_RUN) {
            out->insns += h->count;
            out->accesses += h->accesses;
            if (h->thread >= out->threads) out->threads = h->thread + 1;
        } else if (h->kind == CHUNK_CALLS) {
            out->syscalls += h->count;
        }
    }
    return 0;
}

// ---- a piece ----

static int begin_piece(dgm_trace *t, const Chunk *c) {
    free(t->piece);
    t->piece = unpack(t, c);
    if (!t->piece) return -EBADMSG;
    t->piece_number++;
    t->thread = c->h.thread;
    t->insn = c->h.first;
    t->in_run = c->h.kind == CHUNK_RUN;
    t->have_block = t->have_ahead = false;
    t->current = NULL;
    Stream s = {t->piece, t->piece + c->h.bytes};
    if (!t->in_run) {
        t->calls = s;
        t->left = c->h.count;
        return 0;
    }
    t->left = c->h.count;
    Stream *streams[] = {&t->which, &t->addresses, &t->values, &t->escapes};
    uint64_t n[4], sum = 0;
    for (unsigned i = 0; i < 4; i++) {
        if (!number(&s, &n[i]) || n[i] > MAX_CHUNK_BYTES)
            return fail(t, -EBADMSG, "damaged at byte %zu", c->at);
        sum += n[i];
    }
    if (sum != (size_t)(s.end - s.at)) return fail(t, -EBADMSG, "damaged at byte %zu", c->at);
    for (unsigned i = 0; i < 4; i++) {
        *streams[i] = (Stream){s.at, s.at + n[i]};
        s.at += n[i];
    }
    return 0;
}

// The next block of the piece and how much of it was executed. 1, 0 at the end, or -EBADMSG.
static int next_block(dgm_trace *t, uint32_t before, bool have_before, uint32_t *block,
                      uint32_t *executed) {
    uint64_t code, part = 0;
    bool partial = false;
    if (t->which.at == t->which.end) return 0;
    if (!number(&t->which, &code)) return -EBADMSG;
    if (code == 1) {
        partial = true;
        if (!number(&t->escapes, &part) || !number(&t->which, &code)) return -EBADMSG;
    }
    if (code == 0) {
        if (!have_before || t->blocks[before].follower_piece != t->piece_number) return -EBADMSG;
        *block = t->blocks[before].follower;
    } else {
        if (code < 2 || code - 2 >= t->n_blocks) return -EBADMSG;
        *block = (uint32_t)(code - 2);
    }
    if (have_before) {
        t->blocks[before].follower = *block;
        t->blocks[before].follower_piece = t->piece_number;
    }
    *executed = partial ? (uint32_t)part : t->blocks[*block].n_insns;
    return *executed <= t->blocks[*block].n_insns ? 1 : -EBADMSG;
}

static int read_access(dgm_trace *t, dgm_trace_record *out) {
    Access *a = &t->accesses[t->current->first_access + t->access++];
    uint64_t n, low = 0, high = 0;
    if (a->piece != t->piece_number) {
        a->piece = t->piece_number;
        a->last = a->before = a->value = a->high = 0;
    }
    if (!number(&t->addresses, &n)) return -EBADMSG;
    uint64_t address = a->last + (a->last - a->before) + (uint64_t)unzigzag(n);
    a->before = a->last;
    a->last = address;
    bool values = t->header.flags & TRACE_VALUES;
    if (values && (!number(&t->values, &low) || (a->bytes == 16 && !number(&t->values, &high))))
        return -EBADMSG;
    a->value ^= low;
    a->high ^= high;
    *out = (dgm_trace_record){.kind = a->kind == ACCESS_READ ? DGM_TRACE_READ : DGM_TRACE_WRITE,
                              .thread = t->thread,
                              .insn = t->insn - 1,
                              .address = address,
                              .size = a->bytes,
                              .value = a->value,
                              .high = a->high,
                              .has_value = values,
                              .atomic = a->kind == ACCESS_BOTH};
    return 1;
}

static int read_call(dgm_trace *t, dgm_trace_record *out) {
    uint64_t n[11];
    for (unsigned i = 0; i < 11; i++)
        if (!number(&t->calls, &n[i])) return -EBADMSG;
    *out = (dgm_trace_record){.kind = DGM_TRACE_SYSCALL,
                              .thread = t->thread,
                              .insn = n[0],
                              .number = n[1],
                              .value = (uint64_t)unzigzag(n[8]),
                              .start_ns = n[9],
                              .end_ns = n[10]};
    memcpy(out->args, n + 2, sizeof out->args);
    t->left--;
    return 1;
}

// One instruction. An instruction that was begun and not executed (a fault) has its accesses, too,
// but they end with the block.
static int read_insn_record(dgm_trace *t, dgm_trace_record *out) {
    const Block *b = &t->blocks[t->block];
    const Insn *in = &t->insns[b->first_insn + t->in_block];
    t->current = in;
    t->access = 0;
    *out = (dgm_trace_record){.kind = DGM_TRACE_INSN,
                              .thread = t->thread,
                              .insn = t->insn,
                              .address = in->address,
                              .size = in->size,
                              .bytes = in->bytes,
                              .classes = in->classes,
                              .reads = in->reads,
                              .writes = in->writes,
                              .target = in->target};
    t->in_block++;
    t->insn++;
    t->left--;
    if (t->in_block < t->executed) {
        out->next = in->address + in->size;
        return 1;
    }
    int r = next_block(t, t->block, true, &t->ahead, &t->ahead_executed);
    if (r < 0) return r;
    t->have_ahead = r;
    t->have_block = false;
    if (!r) return 1;
    out->next = t->blocks[t->ahead].address;
    out->taken = out->next != in->address + in->size;
    return 1;
}

static int next_in_piece(dgm_trace *t, dgm_trace_record *out) {
    if (!t->in_run) return t->left ? read_call(t, out) : 0;
    for (;;) {
        if (t->current && t->access < t->current->n_accesses) return read_access(t, out);
        t->current = NULL;
        if (t->have_block) return t->left ? read_insn_record(t, out) : -EBADMSG;
        uint32_t before = t->block;
        int r = t->have_ahead;
        if (r) {
            t->block = t->ahead;
            t->executed = t->ahead_executed;
            t->have_ahead = false;
        } else {
            r = next_block(t, before, false, &t->block, &t->executed);
        }
        if (r <= 0) return r;
        t->in_block = 0;
        t->have_block = t->executed > 0;
    }
}

int dgm_trace_next(dgm_trace *t, dgm_trace_record *out) {
    for (;;) {
        if (t->piece) {
            int r = next_in_piece(t, out);
            if (r < 0) fail(t, r, "damaged in the piece before chunk %zu", t->next_chunk);
            if (r) return r;
            if (t->left && t->in_run)
                return fail(t, -EBADMSG, "a piece has fewer instructions than it says");
            free(t->piece);
            t->piece = NULL;
        }
        while (t->next_chunk < t->n_chunks && t->chunks[t->next_chunk].h.kind == CHUNK_CODE)
            t->next_chunk++;
        if (t->next_chunk == t->n_chunks) return 0;
        int e = begin_piece(t, &t->chunks[t->next_chunk++]);
        if (e) return e;
    }
}

int dgm_trace_seek(dgm_trace *t, uint32_t thread, uint64_t n) {
    for (size_t i = 0; i < t->n_chunks; i++) {
        const ChunkHeader *h = &t->chunks[i].h;
        if (h->kind != CHUNK_RUN || h->thread != thread || n < h->first || n - h->first >= h->count)
            continue;
        t->next_chunk = i + 1;
        int e = begin_piece(t, &t->chunks[i]);
        dgm_trace_record r;
        while (!e && t->insn < n) {
            int k = next_in_piece(t, &r);
            if (k <= 0) return k ? k : -ENOENT;
        }
        while (!e && t->current && t->access < t->current->n_accesses) // of the instruction before
            if (read_access(t, &r) < 0) return -EBADMSG;
        return e;
    }
    return -ENOENT;
}
