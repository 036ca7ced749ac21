// trace.c - the `trace` tool: every instruction, access and system call to a file (trace/format.h,
// docs/tools/trace.md). Translated code records which block was entered and each of its accesses;
// each thread packs its own records into streams and compresses them, so threads do not wait for
// each other but to write a whole chunk. Nothing is ever dropped: a thread that writes waits.
#include "tools/trace_notes.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

enum {
    MAX_THREADS = TRACE_MAX_THREADS,
    BUFFER_RECORDS = 4096,
    PIECE_INSNS = 4 << 20,
    STREAM_BYTES = 8 << 20,
    MAX_BLOCK_ACCESSES = 16384,
    LEVEL = 1
};

typedef struct Block {
    uint32_t n_insns, n_accesses, first_access;
    const uint8_t *bytes;        // of each access
    const uint16_t *accesses_to; // up to and with each instruction
} Block;

typedef struct Site { // of an access, in one thread
    uint32_t piece;
    uint64_t last, before, value, high;
} Site;

typedef struct Stream {
    uint8_t *data, *at;
} Stream;

typedef struct Thread {
    uint32_t index, piece;
    Stream which, addresses, values, escapes;
    Site *sites;
    uint32_t n_sites;
    struct Follower { // of a block, in this piece
        uint32_t piece, block;
    } * followers;
    uint32_t n_followers;
    const Block *block; // whose accesses come
    uint32_t id, before, n_pending;
    bool have_before;
    uint64_t begun;           // instructions done when the block began
    uint64_t first, accesses; // of the piece
    bool in_call;             // a system call that has not returned
    dgm_syscall call;
    uint64_t call_insn;
    uint64_t pending[MAX_BLOCK_ACCESSES][3];
} Thread;

typedef struct Trace {
    dgm_watch *watch;
    const char *path;
    bool values;
    dgm_buffer *buffer;
    TraceZstd zstd;
    unsigned words;       // of a record
    pthread_mutex_t lock; // the file and all below
    int fd;
    _Atomic bool failed;
    Stream code; // definitions that are not in the file yet
    size_t code_cap;
    uint32_t code_first, code_count;
    Block **blocks; // by id
    _Atomic uint32_t n_blocks;
    Map by_block;
    uint32_t n_accesses;
    Stream calls;
    uint64_t n_calls;
    Notes notes;
    Thread *threads[MAX_THREADS];
} Trace;
enum { MAX_BLOCKS = 1 << 22 };

static void feed(dgm_watch *w, uint32_t thread, const uint64_t *r, size_t n, void *data);

// ---- the file ----

static void give_up(Trace *t, const char *why) {
    if (!atomic_exchange(&t->failed, true))
        dprintf(2, "dragoman: tool 'trace': %s: %s; the trace ends here\n", t->path, why);
}

static bool write_all(int fd, const void *data, size_t n) {
    for (const char *at = data; n;) {
        ssize_t k = write(fd, at, n);
        if (k < 0 && errno == EINTR) continue;
        if (k <= 0) return false;
        at += k;
        n -= (size_t)k;
    }
    return true;
}

// Compressed by the caller: h->stored bytes. Lock held.
static void write_chunk(Trace *t, ChunkHeader *h, const void *stored) {
    if (t->failed || t->fd < 0) return;
    h->check = trace_check(h, stored);
    if (!write_all(t->fd, h, sizeof *h) || !write_all(t->fd, stored, h->stored))
        give_up(t, strerror(errno));
}

// NULL when there is no memory.
static void *compress(Trace *t, const void *data, size_t n, ChunkHeader *h) {
    size_t cap = t->zstd.bound(n);
    void *out = malloc(cap);
    size_t stored = out ? t->zstd.compress(out, cap, data, n, LEVEL) : 0;
    if (!out || t->zstd.is_error(stored)) {
        give_up(t, "out of memory");
        free(out);
        return NULL;
    }
    h->bytes = (uint32_t)n;
    h->stored = (uint32_t)stored;
    return out;
}

static void flush_stream(Trace *t, Stream *s, ChunkHeader h) {
    void *stored = compress(t, s->data, (size_t)(s->at - s->data), &h);
    if (stored) write_chunk(t, &h, stored);
    free(stored);
    s->at = s->data;
}

// What runs and calls refer to comes before them. Lock held.
static void flush_notes(Trace *t) {
    if (t->notes.failed) give_up(t, "out of memory");
    if (t->notes.count) {
        size_t bytes;
        ChunkHeader h = {.kind = CHUNK_NOTES};
        const uint8_t *at = notes_take(&t->notes, &bytes, &h.count);
        void *stored = compress(t, at, bytes, &h);
        if (stored) write_chunk(t, &h, stored);
        free(stored);
    }
}
static void flush_code(Trace *t) {
    flush_notes(t);
    if (t->code_count)
        flush_stream(
            t, &t->code,
            (ChunkHeader){.kind = CHUNK_CODE, .first = t->code_first, .count = t->code_count});
    t->code_first += t->code_count;
    t->code_count = 0;
}
static void flush_calls(Trace *t, uint32_t thread) {
    flush_notes(t);
    if (t->n_calls)
        flush_stream(t, &t->calls,
                     (ChunkHeader){.kind = CHUNK_CALLS, .thread = thread, .count = t->n_calls});
    t->n_calls = 0;
}

static void open_file(dgm_watch *w, Trace *t) {
    FileHeader h = {
        .magic = TRACE_MAGIC, .version = TRACE_VERSION, .flags = t->values ? TRACE_VALUES : 0};
    const char *guest = dgm_watch_guest(w), *program = dgm_watch_program(w);
    char *path = report_path(t->path);
    h.strings_bytes = (uint32_t)(strlen(guest) + strlen(program) + 2);
    h.pid = (uint32_t)getpid();
    t->fd = path ? open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666) : -1;
    free(path);
    if (t->fd < 0) {
        give_up(t, strerror(errno));
        return;
    }
    enum { HIGH_FD = 701 };
    int high = fcntl(t->fd, F_DUPFD_CLOEXEC, HIGH_FD); // out of the guest's way
    if (high >= 0) {
        close(t->fd);
        t->fd = high;
    }
    if (!write_all(t->fd, &h, sizeof h) || !write_all(t->fd, guest, strlen(guest) + 1) ||
        !write_all(t->fd, program, strlen(program) + 1))
        give_up(t, strerror(errno));
    notes_begin(&t->notes);
}

// ---- starting ----

static int start(dgm_watch *w) {
    static const dgm_field fields[] = {DGM_F_DATA, DGM_F_ADDRESS, DGM_F_VALUE, DGM_F_VALUE_HIGH};
    Trace *t = calloc(1, sizeof *t);
    if (!t) return dgm_fail(w, -ENOMEM, "out of memory");
    dgm_set_context(w, t);
    t->watch = w;
    pthread_mutex_init(&t->lock, NULL);
    t->fd = -1;
    t->path = dgm_option_path(w, "out");
    if (!t->path) t->path = "trace.%p.dgt";
    t->values = !dgm_option(w, "novalues");
    t->words = t->values ? 4 : 3;
    t->buffer = dgm_buffer_new(w, fields, t->words, BUFFER_RECORDS, feed, 0, t);
    t->blocks = calloc(MAX_BLOCKS, sizeof(Block *));
    t->calls.data = t->calls.at = malloc(STREAM_BYTES);
    if (!t->buffer || !t->blocks || !t->calls.data) return dgm_fail(w, -ENOMEM, "out of memory");
    if (!trace_zstd(&t->zstd)) return dgm_fail(w, -ENOENT, "no libzstd.so.1 to compress with");
    dgm_want(w, DGM_COUNTS);
    open_file(w, t);
    return t->failed ? dgm_fail(w, -EIO, "%s: cannot be written", t->path) : 0;
}

// ---- code ----

static void define(Trace *t, const dgm_block *b, uint8_t *bytes, uint16_t *to) {
    uint8_t *at = put_number(t->code.at, dgm_block_address(b));
    unsigned n = dgm_block_insns(b), total = 0;
    at = put_number(at, n);
    for (unsigned i = 0; i < n; i++) {
        const dgm_insn *in = dgm_block_insn(b, i);
        at = put_number(at, in->size);
        memcpy(at, in->bytes, in->size);
        at = put_number(at + in->size, in->classes);
        at = put_number(at, in->reads);
        at = put_number(at, in->writes);
        at = put_number(at, in->target);
        at = put_number(at, in->n_accesses);
        for (unsigned k = 0; k < in->n_accesses; k++) {
            unsigned info = in->accesses[k];
            unsigned kind = info >> 10 & 1  ? ACCESS_BOTH
                            : info >> 8 & 1 ? ACCESS_WRITE
                                            : ACCESS_READ;
            bytes[total++] = (uint8_t)info;
            at = put_number(at, (info & 255) | kind << 8);
        }
        to[i] = (uint16_t)total;
    }
    t->code.at = at;
}

static bool code_room(Trace *t, size_t bytes) {
    size_t have = (size_t)(t->code.at - t->code.data);
    if (t->code_cap - have >= bytes) return true;
    size_t cap = t->code_cap * 2 + bytes;
    uint8_t *more = realloc(t->code.data, cap);
    if (!more) return false;
    t->code = (Stream){more, more + have};
    t->code_cap = cap;
    return true;
}

// The id of this block; UINT32_MAX: out of memory. Lock held.
static uint32_t block_id(Trace *t, const dgm_block *b) {
    unsigned n = dgm_block_insns(b), accesses = 0;
    uint64_t key = dgm_block_address(b) | (uint64_t)n << 52;
    for (unsigned i = 0; i < n; i++) { // code that changed is another block
        const dgm_insn *in = dgm_block_insn(b, i);
        uint32_t word = 0;
        memcpy(&word, in->bytes, in->size < 4 ? in->size : 4);
        key = (key ^ word) * 0xff51afd7ed558ccdull;
        key ^= key >> 29;
        accesses += in->n_accesses;
    }
    void **at = map_at(&t->by_block, key);
    if (!at) return UINT32_MAX;
    if (*at) return (uint32_t)(uintptr_t)*at - 1;
    enum { INSN_BYTES = 64, ACCESS_BYTES = 4 };
    uint32_t id = t->n_blocks;
    Block *x = calloc(1, sizeof *x + n * sizeof(uint16_t) + accesses);
    if (!x || id == MAX_BLOCKS || accesses > MAX_BLOCK_ACCESSES ||
        !code_room(t, 32 + n * (size_t)INSN_BYTES + accesses * (size_t)ACCESS_BYTES)) {
        free(x);
        return UINT32_MAX;
    }
    uint16_t *to = (uint16_t *)(void *)(x + 1);
    uint8_t *bytes = (uint8_t *)(to + n);
    define(t, b, bytes, to);
    *x = (Block){n, accesses, t->n_accesses, bytes, to};
    t->n_accesses += accesses;
    notes_symbols(&t->notes, t->watch, b);
    t->blocks[id] = x;
    t->n_blocks = id + 1;
    t->code_count++;
    *at = (void *)(uintptr_t)(id + 1);
    return id;
}

static void block(dgm_watch *w, dgm_block *b) {
    Trace *t = dgm_context(w);
    if (t->failed) return;
    pthread_mutex_lock(&t->lock);
    uint32_t id = block_id(t, b);
    pthread_mutex_unlock(&t->lock);
    if (id == UINT32_MAX) {
        give_up(t, "out of memory");
        return;
    }
    dgm_at_record(b, 0, t->buffer, (uint64_t)id << 1 | 1);
    for (unsigned i = 0; i < dgm_block_insns(b); i++)
        if (dgm_block_insn(b, i)->n_accesses)
            dgm_at_access_record(b, i, DGM_READ | DGM_WRITE, t->buffer, 0);
}

// ---- packing ----

static void *grown(void *old, uint32_t *n, uint32_t want, size_t item) {
    uint32_t cap = *n ? *n : 4096;
    while (cap <= want) cap *= 2;
    char *p = realloc(old, cap * item);
    if (!p) return NULL;
    memset(p + *n * item, 0, (cap - *n) * item);
    *n = cap;
    return p;
}

static void pack_access(Trace *t, Thread *x, Site *s, const uint64_t *p, unsigned bytes) {
    if (s->piece != x->piece) *s = (Site){.piece = x->piece};
    x->addresses.at =
        put_number(x->addresses.at, zigzag((int64_t)(p[0] - (s->last + (s->last - s->before)))));
    s->before = s->last;
    s->last = p[0];
    if (!t->values) return;
    x->values.at = put_number(x->values.at, p[1] ^ s->value);
    s->value = p[1];
    if (bytes != 16) return;
    x->values.at = put_number(x->values.at, p[2] ^ s->high);
    s->high = p[2];
}

// How many instructions of a block are done when so many accesses were made: all that can be.
static uint64_t insns_done(const Block *b, uint32_t n_accesses) {
    uint32_t n = 0;
    while (n < b->n_insns && b->accesses_to[n] <= n_accesses) n++;
    return n;
}

// The block that was begun is over: so many instructions were executed since.
static bool pack_block(Trace *t, Thread *x, uint64_t executed) {
    const Block *b = x->block;
    if (!b) return true;
    x->block = NULL;
    if (x->id >= x->n_followers || x->before >= x->n_followers) {
        uint32_t most = x->id > x->before ? x->id : x->before;
        void *more = grown(x->followers, &x->n_followers, most, sizeof *x->followers);
        if (!more) return false;
        x->followers = more;
    }
    if (b->first_access + b->n_accesses >= x->n_sites) {
        void *more =
            grown(x->sites, &x->n_sites, b->first_access + b->n_accesses, sizeof *x->sites);
        if (!more) return false;
        x->sites = more;
    }
    uint64_t unseen = 0;
    if (executed > b->n_insns) { // other code, which we are not shown, came after it
        uint64_t done = insns_done(b, x->n_pending);
        unseen = executed - done;
        executed = done;
    }
    if (executed < b->n_insns || unseen) {
        *x->which.at++ = 1;
        if (unseen) x->escapes.at = put_number(x->escapes.at, b->n_insns);
        x->escapes.at = put_number(x->escapes.at, executed);
        if (unseen) x->escapes.at = put_number(x->escapes.at, unseen);
    }
    struct Follower *f = &x->followers[x->before];
    if (x->have_before && f->piece == x->piece && f->block == x->id)
        *x->which.at++ = 0;
    else
        x->which.at = put_number(x->which.at, x->id + 2ull);
    if (x->have_before) *f = (struct Follower){x->piece, x->id};
    x->before = x->id;
    x->have_before = true;
    uint32_t n = executed >= b->n_insns ? b->n_accesses
                 : executed             ? b->accesses_to[executed - 1]
                                        : 0;
    for (uint32_t i = 0; i < n && i < x->n_pending; i++)
        pack_access(t, x, &x->sites[b->first_access + i], x->pending[i], b->bytes[i]);
    x->accesses += n;
    return true;
}

static void piece_end(Trace *t, Thread *x, uint64_t now) {
    uint8_t head[64], *at = head;
    Stream *s[] = {&x->which, &x->addresses, &x->values, &x->escapes};
    size_t n = 0;
    for (unsigned i = 0; i < 4; i++) {
        at = put_number(at, (uint64_t)(s[i]->at - s[i]->data));
        n += (size_t)(s[i]->at - s[i]->data);
    }
    size_t head_bytes = (size_t)(at - head);
    uint8_t *all = n ? malloc(n + head_bytes) : NULL;
    ChunkHeader h = {.kind = CHUNK_RUN,
                     .thread = x->index,
                     .first = x->first,
                     .count = now - x->first,
                     .accesses = x->accesses};
    if (all) {
        memcpy(all, head, head_bytes);
        uint8_t *to = all + head_bytes;
        for (unsigned i = 0; i < 4; i++) {
            size_t k = (size_t)(s[i]->at - s[i]->data);
            memcpy(to, s[i]->data, k);
            to += k;
        }
        void *stored = compress(t, all, n + head_bytes, &h);
        pthread_mutex_lock(&t->lock);
        notes_event(&t->notes, NOTE_TIME, x->index, now, NULL, 0, NULL);
        flush_code(t);
        if (stored) write_chunk(t, &h, stored);
        pthread_mutex_unlock(&t->lock);
        free(stored);
        free(all);
    } else if (n) {
        give_up(t, "out of memory");
    }
    for (unsigned i = 0; i < 4; i++) s[i]->at = s[i]->data;
    x->first = now;
    x->accesses = 0;
    x->piece++;
    x->have_before = false;
}

static bool streams_full(const Thread *x) {
    enum { MARGIN = MAX_BLOCK_ACCESSES * 2 * MAX_NUMBER_BYTES + 64 };
    return x->addresses.at - x->addresses.data > STREAM_BYTES - MARGIN ||
           x->values.at - x->values.data > 2 * STREAM_BYTES - MARGIN ||
           x->which.at - x->which.data > STREAM_BYTES - MARGIN ||
           x->escapes.at - x->escapes.data > STREAM_BYTES - MARGIN;
}

static void feed(dgm_watch *w, uint32_t thread, const uint64_t *r, size_t n, void *data) {
    Trace *t = data;
    Thread *x = thread < MAX_THREADS ? t->threads[thread] : NULL;
    if (!x || t->failed) return;
    for (const uint64_t *end = r + t->words * n; r < end; r += t->words) {
        if (r[0] & 1) {
            if (!pack_block(t, x, r[2] - x->begun)) {
                give_up(t, "out of memory");
                return;
            }
            if (r[2] - x->first >= PIECE_INSNS || streams_full(x)) piece_end(t, x, r[2]);
            if (x->which.at == x->which.data) x->first = r[2]; // what came before was not shown
            x->id = (uint32_t)(r[0] >> 1);
            x->block = t->blocks[x->id];
            x->begun = r[2];
            x->n_pending = 0;
        } else if (x->n_pending < MAX_BLOCK_ACCESSES) {
            uint64_t *p = x->pending[x->n_pending++];
            p[0] = r[1];
            p[1] = r[2];
            p[2] = t->words > 3 ? r[3] : 0;
        }
    }
    (void)w;
}

// ---- threads ----

static void thread_free(Thread *x) {
    if (!x) return;
    free(x->which.data);
    free(x->addresses.data);
    free(x->values.data);
    free(x->escapes.data);
    free(x->sites);
    free(x->followers);
    free(x);
}

static Thread *thread_new(uint32_t index) {
    Thread *x = calloc(1, sizeof *x);
    if (!x) return NULL;
    x->index = index;
    x->piece = 1;
    x->which.data = x->which.at = malloc(STREAM_BYTES);
    x->addresses.data = x->addresses.at = malloc(STREAM_BYTES);
    x->values.data = x->values.at = malloc(2 * STREAM_BYTES);
    x->escapes.data = x->escapes.at = malloc(STREAM_BYTES);
    if (x->which.data && x->addresses.data && x->values.data && x->escapes.data) return x;
    thread_free(x);
    return NULL;
}

static Thread *thread_of(Trace *t, dgm_vcpu *v) {
    uint32_t i = dgm_vcpu_thread(v);
    return i < MAX_THREADS ? t->threads[i] : NULL;
}

static void thread_start(dgm_watch *w, dgm_vcpu *v) {
    Trace *t = dgm_context(w);
    uint32_t i = dgm_vcpu_thread(v);
    uint64_t tid = dgm_vcpu_tid(v);
    if (i < MAX_THREADS) t->threads[i] = thread_new(i);
    if (i >= MAX_THREADS || !t->threads[i]) give_up(t, "out of memory");
    pthread_mutex_lock(&t->lock);
    notes_event(&t->notes, NOTE_BEGIN, i, 0, &tid, 1, NULL);
    pthread_mutex_unlock(&t->lock);
}

// A call that has not returned will not do so now. Lock held.
static void note_left(Trace *t, Thread *x) {
    uint64_t numbers[7] = {x->call.number};
    if (!x->in_call) return;
    memcpy(numbers + 1, x->call.args, sizeof x->call.args);
    notes_call_name(&t->notes, &x->call);
    notes_event_at(&t->notes, NOTE_LEFT, x->index, x->call_insn, x->call.start_ns, numbers, 7,
                   NULL);
    x->in_call = false;
}

// Its last piece, and what is left to say of it.
static void thread_close(Trace *t, Thread *x, uint64_t now, const char *name) {
    pthread_mutex_lock(&t->lock);
    note_left(t, x);
    notes_event(&t->notes, NOTE_END, x->index, now, NULL, 0, name);
    pthread_mutex_unlock(&t->lock);
    if (pack_block(t, x, now - x->begun)) piece_end(t, x, now);
    t->threads[x->index] = NULL;
    thread_free(x);
}

static void thread_end(dgm_watch *w, dgm_vcpu *v) {
    Trace *t = dgm_context(w);
    Thread *x = thread_of(t, v);
    char name[17] = "";
    prctl(PR_GET_NAME, name);
    if (x) thread_close(t, x, dgm_vcpu_insns(v), name);
}

// The child's trace is a file of its own, if its name is.
static void forked(dgm_watch *w, dgm_vcpu *v) {
    Trace *t = dgm_context(w);
    pthread_mutex_init(&t->lock, NULL);
    for (unsigned i = 0; i < MAX_THREADS; i++) {
        thread_free(t->threads[i]);
        t->threads[i] = NULL;
    }
    close(t->fd);
    t->fd = -1;
    t->failed = true; // until the code is known anew
    t->n_calls = 0;
    t->calls.at = t->calls.data;
    notes_forget(&t->notes);
    if (!strstr(t->path, "%p")) return;
    map_free(&t->by_block);
    t->failed = false;
    t->n_blocks = t->n_accesses = 0;
    t->code_first = t->code_count = 0;
    t->code.at = t->code.data;
    open_file(w, t);
    thread_start(w, v);
    dgm_retranslate(w);
}

static void module(dgm_watch *w, const dgm_module *m) {
    Trace *t = dgm_context(w);
    pthread_mutex_lock(&t->lock);
    notes_module(&t->notes, m);
    pthread_mutex_unlock(&t->lock);
}

static bool syscall_begins(dgm_watch *w, dgm_vcpu *v, dgm_syscall *s) {
    Trace *t = dgm_context(w);
    Thread *x = thread_of(t, v);
    if (!x) return false;
    if (x->in_call) {
        pthread_mutex_lock(&t->lock);
        note_left(t, x);
        pthread_mutex_unlock(&t->lock);
    }
    x->in_call = true;
    x->call = *s;
    x->call_insn = dgm_vcpu_insns(v);
    return false;
}

static void syscall_done(dgm_watch *w, dgm_vcpu *v, dgm_syscall *s) {
    Trace *t = dgm_context(w);
    if (s->again) return;
    Thread *x = thread_of(t, v);
    if (x) x->in_call = false;
    pthread_mutex_lock(&t->lock);
    notes_call_name(&t->notes, s);
    uint8_t *at = put_number(t->calls.at, dgm_vcpu_insns(v));
    at = put_number(at, s->number);
    for (unsigned i = 0; i < 6; i++) at = put_number(at, s->args[i]);
    at = put_number(at, zigzag(s->result));
    at = put_number(at, s->start_ns);
    t->calls.at = put_number(at, clock_ns(CLOCK_MONOTONIC));
    t->n_calls++;
    flush_calls(t, dgm_vcpu_thread(v));
    pthread_mutex_unlock(&t->lock);
}

static void signal_comes(dgm_watch *w, dgm_vcpu *v, const dgm_signal *s) {
    Trace *t = dgm_context(w);
    Thread *x = thread_of(t, v);
    uint64_t numbers[] = {(uint64_t)s->number, dgm_vcpu_pc(v)};
    pthread_mutex_lock(&t->lock);
    if (x) note_left(t, x);
    notes_event(&t->notes, NOTE_SIGNAL, dgm_vcpu_thread(v), dgm_vcpu_insns(v), numbers, 2, NULL);
    pthread_mutex_unlock(&t->lock);
}

// Threads that have not ended stand still now, and will not go on.
static void finish(dgm_watch *w, bool last) {
    Trace *t = dgm_context(w);
    if (!last || t->fd < 0) return;
    for (unsigned i = 0; i < MAX_THREADS; i++) {
        Thread *x = t->threads[i];
        if (x) thread_close(t, x, x->begun + (x->block ? x->block->n_insns : 0), "");
    }
    pthread_mutex_lock(&t->lock);
    flush_code(t);
    if (close(t->fd)) give_up(t, strerror(errno));
    t->fd = -1;
    pthread_mutex_unlock(&t->lock);
}

static void release(dgm_watch *w) {
    Trace *t = dgm_context(w);
    if (!t) return;
    for (unsigned i = 0; i < MAX_THREADS; i++) thread_free(t->threads[i]);
    for (uint32_t i = 0; t->blocks && i < t->n_blocks; i++) free(t->blocks[i]);
    free(t->blocks);
    free(t->code.data);
    free(t->calls.data);
    map_free(&t->by_block);
    notes_free(&t->notes);
    if (t->fd >= 0) close(t->fd);
    trace_zstd_close(&t->zstd);
    free(t);
}

static const char *const options[] = {
    "out=FILE    the trace (trace.%p.dgt; %p: the process id; without it, forked children are not "
    "traced)",
    "novalues    without what was loaded and stored: smaller",
    NULL,
};

const dgm_tool tool_trace = {
    .version = DGM_TOOL_VERSION,
    .name = "trace",
    .summary = "every instruction, access (with its value) and system call to a compressed file",
    .options = options,
    .start = start,
    .block = block,
    .thread_start = thread_start,
    .thread_end = thread_end,
    .module = module,
    .syscall = syscall_begins,
    .signal = signal_comes,
    .syscall_done = syscall_done,
    .forked = forked,
    .finish = finish,
    .free = release,
};
