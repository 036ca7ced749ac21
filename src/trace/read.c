// read.c - the reader of traces (include/dragoman/trace.h). Chunk headers are read first, once, and
// say where everything is; a piece is unpacked when it is come to, and its streams are followed as
// records are asked for. All that a file says is checked where it is read.
#include "trace/read.h"

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

int trace_fail(dgm_trace *t, int code, const char *format, ...) {
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

bool trace_grow(void **array, size_t *cap, size_t n, size_t item) {
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

uint8_t *trace_unpack(dgm_trace *t, const Chunk *c) {
    if (trace_check(&c->h, t->file + c->at) != c->h.check) {
        trace_fail(t, -EBADMSG, "damaged at byte %zu", c->at);
        return NULL;
    }
    uint8_t *out = malloc(c->h.bytes + 1ul);
    if (!out) {
        trace_fail(t, -ENOMEM, "out of memory");
        return NULL;
    }
    size_t n = t->zstd.decompress(out, c->h.bytes, t->file + c->at, c->h.stored);
    if (t->zstd.is_error(n) || n != c->h.bytes) {
        trace_fail(t, -EBADMSG, "damaged at byte %zu", c->at);
        free(out);
        return NULL;
    }
    return out;
}

bool trace_number(Stream *s, uint64_t *out) {
    const uint8_t *at = get_number(s->at, s->end, out);
    if (!at) return false;
    s->at = at;
    return true;
}

static bool read_insn(dgm_trace *t, Stream *s, uint64_t address, Insn *in) {
    uint64_t size, classes, n, what;
    if (!trace_number(s, &size) || !size || size > 255 || (size_t)(s->end - s->at) < size)
        return false;
    *in = (Insn){.address = address, .size = (uint8_t)size, .bytes = s->at};
    s->at += size;
    if (!trace_number(s, &classes) || !trace_number(s, &in->reads) ||
        !trace_number(s, &in->writes) || !trace_number(s, &in->target) || !trace_number(s, &n) ||
        n > MAX_INSN_ACCESSES)
        return false;
    in->classes = (uint32_t)classes;
    in->n_accesses = (uint8_t)n;
    in->first_access = (uint32_t)t->n_accesses;
    if (!trace_grow((void **)&t->accesses, &t->cap_accesses, t->n_accesses + n,
                    sizeof *t->accesses))
        return false;
    for (uint64_t i = 0; i < n; i++) {
        if (!trace_number(s, &what) || (what & 255) > 16 || what >> 8 > ACCESS_BOTH) return false;
        t->accesses[t->n_accesses++] =
            (Access){.bytes = (uint8_t)(what & 255), .kind = (uint8_t)(what >> 8)};
    }
    return true;
}

static bool read_code(dgm_trace *t, const Chunk *c, Stream s) {
    for (uint64_t i = 0; i < c->h.count; i++) {
        uint64_t address, n;
        if (!trace_number(&s, &address) || !trace_number(&s, &n) || !n || n > MAX_BLOCK_INSNS)
            return false;
        if (!trace_grow((void **)&t->blocks, &t->cap_blocks, t->n_blocks + 1, sizeof *t->blocks) ||
            !trace_grow((void **)&t->insns, &t->cap_insns, t->n_insns + n, sizeof *t->insns))
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
    uint8_t *text = trace_unpack(t, c);
    uint8_t **more = text ? realloc(t->code, (t->n_code + 1) * sizeof *more) : NULL;
    if (!more) {
        free(text);
        return text ? trace_fail(t, -ENOMEM, "out of memory") : -EBADMSG;
    }
    t->code = more;
    t->code[t->n_code++] = text;
    if (c->h.first != t->n_blocks || !read_code(t, c, (Stream){text, text + c->h.bytes}))
        return trace_fail(t, -EBADMSG, "damaged code at byte %zu", c->at);
    return 0;
}

// All that is not skipped comes from a writer that knew what it wrote.
static int check_chunk(dgm_trace *t, const Chunk *c, size_t at) {
    if (!c->h.kind || c->h.bytes > MAX_CHUNK_BYTES ||
        (c->h.kind > CHUNK_NOTES && trace_check(&c->h, t->file + c->at) != c->h.check) ||
        (c->h.kind <= CHUNK_CALLS && c->h.thread >= TRACE_MAX_THREADS))
        return trace_fail(t, -EBADMSG, "damaged at byte %zu", at);
    return 0;
}

// All headers; code is unpacked at once, for every piece may need it, and so are notes.
static int read_chunks(dgm_trace *t, size_t at) {
    while (at < t->bytes) {
        Chunk c;
        if (t->bytes - at < sizeof c.h) break;
        memcpy(&c.h, t->file + at, sizeof c.h);
        c.at = at + sizeof c.h;
        if (c.h.stored > t->bytes - c.at) break;
        int e = check_chunk(t, &c, at);
        if (e) return e;
        if (!trace_grow((void **)&t->chunks, &t->cap_chunks, t->n_chunks + 1, sizeof c))
            return trace_fail(t, -ENOMEM, "out of memory");
        t->chunks[t->n_chunks++] = c;
        if (c.h.kind == CHUNK_CODE) e = add_code(t, &c);
        if (c.h.kind == CHUNK_NOTES) e = trace_notes_read(t, &c, false);
        if (e) return e;
        at = c.at + c.h.stored;
    }
    t->truncated = at != t->bytes;
    return trace_notes_settle(t);
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
    trace_notes_free(&t->notes);
    trace_zstd_close(&t->zstd);
    free(t);
}

const char *dgm_trace_error(const dgm_trace *t) {
    return t->error;
}

int dgm_trace_get_info(dgm_trace *t, dgm_trace_info *out) {
    *out = (dgm_trace_info){.guest = t->guest,
                            .program = t->program,
                            .threads = t->notes.threads,
                            .pid = t->header.pid,
                            .realtime_ns = t->notes.realtime_ns,
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

static void drop_piece(dgm_trace *t) {
    free(t->piece);
    t->piece = NULL;
    t->have_block = t->have_ahead = false;
    t->now.unseen = 0;
    t->current = NULL;
}

static int split_piece(dgm_trace *t, const Chunk *c) {
    Stream s = {t->piece, t->piece + c->h.bytes};
    Stream *streams[] = {&t->which, &t->addresses, &t->values, &t->escapes};
    uint64_t n[4], sum = 0;
    for (unsigned i = 0; i < 4; i++) {
        if (!trace_number(&s, &n[i]) || n[i] > MAX_CHUNK_BYTES) return -EBADMSG;
        sum += n[i];
    }
    if (sum != (size_t)(s.end - s.at)) return -EBADMSG;
    for (unsigned i = 0; i < 4; i++) {
        *streams[i] = (Stream){s.at, s.at + n[i]};
        s.at += n[i];
    }
    return 0;
}

static int begin_piece(dgm_trace *t, const Chunk *c) {
    drop_piece(t);
    t->piece = trace_unpack(t, c);
    if (!t->piece) return -EBADMSG;
    t->piece_number++;
    t->thread = c->h.thread;
    t->insn = c->h.first;
    t->in_run = c->h.kind == CHUNK_RUN;
    t->left = c->h.count;
    t->calls = (Stream){t->piece, t->piece + c->h.bytes};
    if (!t->in_run || !split_piece(t, c)) return 0;
    drop_piece(t);
    return trace_fail(t, -EBADMSG, "damaged at byte %zu", c->at);
}

// Which part of the block: all of it, or what the escapes say.
static int read_part(dgm_trace *t, Part *out, bool escaped) {
    uint64_t whole = t->blocks[out->block].n_insns, n = whole;
    out->unseen = 0;
    if (escaped && !trace_number(&t->escapes, &n)) return -EBADMSG;
    if (escaped && n == whole &&
        (!trace_number(&t->escapes, &n) || !trace_number(&t->escapes, &out->unseen)))
        return -EBADMSG;
    out->executed = (uint32_t)n;
    return n <= whole ? 1 : -EBADMSG;
}

// The next block of the piece. 1, 0 at the end, or -EBADMSG.
static int next_block(dgm_trace *t, uint32_t before, bool have_before, Part *out) {
    uint64_t code;
    if (t->which.at == t->which.end) return 0;
    if (!trace_number(&t->which, &code)) return -EBADMSG;
    bool escaped = code == 1;
    if (escaped && !trace_number(&t->which, &code)) return -EBADMSG;
    if (code == 0) {
        if (!have_before || t->blocks[before].follower_piece != t->piece_number) return -EBADMSG;
        out->block = t->blocks[before].follower;
    } else {
        if (code < 2 || code - 2 >= t->n_blocks) return -EBADMSG;
        out->block = (uint32_t)(code - 2);
    }
    if (have_before) {
        t->blocks[before].follower = out->block;
        t->blocks[before].follower_piece = t->piece_number;
    }
    return read_part(t, out, escaped);
}

static int read_access(dgm_trace *t, dgm_trace_record *out) {
    Access *a = &t->accesses[t->current->first_access + t->access++];
    uint64_t n, low = 0, high = 0;
    if (a->piece != t->piece_number) {
        a->piece = t->piece_number;
        a->last = a->before = a->value = a->high = 0;
    }
    if (!trace_number(&t->addresses, &n)) return -EBADMSG;
    uint64_t address = a->last + (a->last - a->before) + (uint64_t)unzigzag(n);
    a->before = a->last;
    a->last = address;
    bool values = t->header.flags & TRACE_VALUES;
    if (values &&
        (!trace_number(&t->values, &low) || (a->bytes == 16 && !trace_number(&t->values, &high))))
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
    dgm_trace_event e;
    if (!trace_read_call(&t->calls, &e)) return -EBADMSG;
    *out = (dgm_trace_record){.kind = DGM_TRACE_SYSCALL,
                              .thread = t->thread,
                              .insn = e.insn,
                              .number = e.number,
                              .value = (uint64_t)e.result,
                              .start_ns = e.start_ns,
                              .end_ns = e.end_ns};
    memcpy(out->args, e.args, sizeof out->args);
    t->left--;
    return 1;
}

// One instruction. An instruction that was begun and not executed (a fault) has its accesses, too,
// but they end with the block.
static int read_insn_record(dgm_trace *t, dgm_trace_record *out) {
    const Block *b = &t->blocks[t->now.block];
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
    if (t->in_block < t->now.executed) {
        out->next = in->address + in->size;
        return 1;
    }
    int r = next_block(t, t->now.block, true, &t->ahead);
    if (r < 0) return r;
    t->have_ahead = r;
    t->have_block = false;
    if (!r || t->now.unseen) return 1;
    out->next = t->blocks[t->ahead.block].address;
    out->taken = out->next != in->address + in->size;
    return 1;
}

// When a block is done with, what came after it and is not in the trace is passed over.
static bool pass_unseen(dgm_trace *t) {
    uint64_t n = t->now.unseen;
    if (t->have_block || n > t->left) return t->have_block;
    t->insn += n;
    t->left -= n;
    t->now.unseen = 0;
    return true;
}

static int next_in_piece(dgm_trace *t, dgm_trace_record *out) {
    if (!t->in_run) return t->left ? read_call(t, out) : 0;
    for (;;) {
        if (t->current && t->access < t->current->n_accesses) return read_access(t, out);
        t->current = NULL;
        if (t->have_block) return t->left ? read_insn_record(t, out) : -EBADMSG;
        if (!pass_unseen(t)) return -EBADMSG;
        int r = t->have_ahead;
        uint32_t before = t->now.block;
        if (r) {
            t->now = t->ahead;
            t->have_ahead = false;
        } else {
            r = next_block(t, before, false, &t->now);
        }
        if (r <= 0) return r;
        t->in_block = 0;
        t->have_block = t->now.executed > 0;
    }
}

static bool is_wanted(const dgm_trace *t, const ChunkHeader *h) {
    return (h->kind == CHUNK_RUN || h->kind == CHUNK_CALLS) && (!t->chosen || h->thread == t->only);
}

void dgm_trace_choose(dgm_trace *t, uint32_t thread) {
    t->chosen = true;
    t->only = thread;
    t->next_chunk = 0;
    drop_piece(t);
}

// A record of the piece; 0 at its end, which is checked. A damaged piece is over.
static int next_of_piece(dgm_trace *t, dgm_trace_record *out) {
    int r = next_in_piece(t, out);
    if (r < 0)
        trace_fail(t, r, "damaged in the piece before chunk %zu", t->next_chunk);
    else if (!r && t->left && t->in_run)
        r = trace_fail(t, -EBADMSG, "a piece has fewer instructions than it says");
    if (r <= 0) drop_piece(t);
    return r;
}

int dgm_trace_next(dgm_trace *t, dgm_trace_record *out) {
    for (;;) {
        int r = t->piece ? next_of_piece(t, out) : 0;
        if (r) return r;
        while (t->next_chunk < t->n_chunks && !is_wanted(t, &t->chunks[t->next_chunk].h))
            t->next_chunk++;
        if (t->next_chunk == t->n_chunks) return 0;
        int e = begin_piece(t, &t->chunks[t->next_chunk++]);
        if (e) return e;
    }
}

// Up to instruction n, and the accesses of the one before. -ENOENT: the piece says that it is
// there.
static int skip_to(dgm_trace *t, uint64_t n) {
    dgm_trace_record r;
    while (t->insn < n) {
        bool between = !t->current || t->access == t->current->n_accesses;
        if (between && !t->have_block && t->now.unseen) {
            if (!pass_unseen(t)) return -EBADMSG;
            continue;
        }
        int k = next_in_piece(t, &r);
        if (k <= 0) return k ? k : -ENOENT;
    }
    while (t->current && t->access < t->current->n_accesses)
        if (read_access(t, &r) < 0) return -EBADMSG;
    return 0;
}

int dgm_trace_seek(dgm_trace *t, uint32_t thread, uint64_t n) {
    for (size_t i = 0; i < t->n_chunks; i++) {
        const ChunkHeader *h = &t->chunks[i].h;
        if (h->kind != CHUNK_RUN || h->thread != thread || n < h->first || n - h->first >= h->count)
            continue;
        t->next_chunk = i + 1;
        int e = begin_piece(t, &t->chunks[i]);
        if (e) return e;
        e = skip_to(t, n);
        if (e) drop_piece(t);
        return e == -EBADMSG ? trace_fail(t, e, "damaged before chunk %zu", i + 1) : e;
    }
    return -ENOENT;
}
