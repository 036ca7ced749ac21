// buffer.c - records on their way from translated code to a tool.
//
// A thread has a chunk of memory for each buffer; three of its slots say where the next record
// goes, from where on the chunk counts as full, and where it starts. Translated code asks for room
// once a segment, so behind the limit there is room for the longest one.
//
// With DGM_OWN_THREAD full chunks go through a queue to the buffer's own host thread and the guest
// takes an empty one; there are CHUNKS_AHEAD more chunks than threads, then the guest waits.
#include "observe/observe.h"

#include <signal.h>
#include <stdlib.h>

enum {
    CHUNKS_AHEAD = 3,
};

typedef struct Chunk {
    struct Chunk *next;
    uint32_t thread;
    size_t n; // records
    uint64_t records[];
} Chunk;

struct BufferThread {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t filled, emptied;
    Chunk *full, **full_last, *empty;
    unsigned n_out; // chunks that were made; handed over and not yet seen: n_waiting
    unsigned n_threads, n_waiting;
    bool running, stop;
};

static size_t record_bytes(const dgm_buffer *b) {
    return 8 * (size_t)b->n_fields;
}

static size_t chunk_bytes(const dgm_buffer *b) {
    return ALIGN_UP(sizeof(Chunk) + b->bytes + SEGMENT_RECORDS * record_bytes(b), 4096);
}

static Chunk *chunk_of(const dgm_buffer *b, VcpuHot *hot) {
    uint64_t start = *vcpu_slot(hot, b->slot + BUFFER_START);
    return start ? (Chunk *)(uintptr_t)(start - offsetof(Chunk, records)) : NULL;
}

static void use_chunk(const dgm_buffer *b, VcpuHot *hot, Chunk *c) {
    uintptr_t start = c ? (uintptr_t)c->records : 0;
    *vcpu_slot(hot, b->slot + BUFFER_START) = start;
    *vcpu_slot(hot, b->slot + BUFFER_AT) = start;
    *vcpu_slot(hot, b->slot + BUFFER_LIMIT) = start + b->bytes;
}

// ---- the buffer's own thread ----

static void *run(void *arg) {
    dgm_buffer *b = arg;
    struct BufferThread *t = b->own;
    pthread_mutex_lock(&t->lock);
    for (;;) {
        while (!t->full && !t->stop) pthread_cond_wait(&t->filled, &t->lock);
        Chunk *c = t->full;
        if (!c) break;
        t->full = c->next;
        if (!t->full) t->full_last = &t->full;
        pthread_mutex_unlock(&t->lock);
        b->fn(b->w, c->thread, c->records, c->n, b->data);
        pthread_mutex_lock(&t->lock);
        c->next = t->empty;
        t->empty = c;
        t->n_waiting--;
        pthread_cond_broadcast(&t->emptied);
    }
    pthread_mutex_unlock(&t->lock);
    return NULL;
}

// The guest's signals are for the guest's threads. Lock held.
static bool thread_there(dgm_buffer *b) {
    struct BufferThread *t = b->own;
    if (t->running) return true;
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    t->running = !pthread_create(&t->thread, NULL, run, b);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return t->running;
}

// A chunk for a chunk. Where the host gives no thread or memory, the guest's thread does the work.
static Chunk *hand_over(dgm_buffer *b, Chunk *c) {
    struct BufferThread *t = b->own;
    pthread_mutex_lock(&t->lock);
    if (!thread_there(b)) {
        pthread_mutex_unlock(&t->lock);
        b->fn(b->w, c->thread, c->records, c->n, b->data);
        return c;
    }
    c->next = NULL;
    *t->full_last = c;
    t->full_last = &c->next;
    t->n_waiting++;
    pthread_cond_signal(&t->filled);
    Chunk *fresh = NULL;
    if (!t->empty && t->n_out < t->n_threads + CHUNKS_AHEAD &&
        (fresh = pages_reserve(chunk_bytes(b))))
        t->n_out++;
    while (!fresh) {
        while (!t->empty) pthread_cond_wait(&t->emptied, &t->lock);
        fresh = t->empty;
        t->empty = fresh->next;
    }
    fresh->thread = c->thread;
    pthread_mutex_unlock(&t->lock);
    return fresh;
}

static void own_thread_end(dgm_buffer *b) {
    struct BufferThread *t = b->own;
    if (!t) return;
    pthread_mutex_lock(&t->lock);
    t->stop = true;
    pthread_cond_signal(&t->filled);
    pthread_mutex_unlock(&t->lock);
    if (t->running) pthread_join(t->thread, NULL);
    for (Chunk *c = t->empty, *next; c; c = next) {
        next = c->next;
        pages_free(c, chunk_bytes(b));
    }
    pthread_mutex_destroy(&t->lock);
    free(t);
    b->own = NULL;
}

static void own_thread_reset(struct BufferThread *t) {
    pthread_mutex_init(&t->lock, NULL);
    pthread_cond_init(&t->filled, NULL);
    pthread_cond_init(&t->emptied, NULL);
    t->full_last = &t->full;
}

// ---- filling and draining ----

static void drain(dgm_buffer *b, VcpuHot *hot) {
    Chunk *c = chunk_of(b, hot);
    if (!c) return;
    size_t bytes = *vcpu_slot(hot, b->slot + BUFFER_AT) - (uintptr_t)c->records;
    c->n = bytes / record_bytes(b);
    if (!c->n) return;
    c->thread = (uint32_t)*vcpu_slot(hot, SLOT_THREAD);
    if (b->own)
        c = hand_over(b, c);
    else
        b->fn(b->w, c->thread, c->records, c->n, b->data);
    use_chunk(b, hot, c);
}

void buffer_full(void *state, uint64_t buffer) {
    drain((dgm_buffer *)(uintptr_t)buffer, vcpu_hot(state));
}

void dgm_buffer_flush(dgm_vcpu *v, dgm_buffer *buffer) {
    drain(buffer, hot_of(v));
}

bool buffers_open(Watches *ws, VcpuHot *hot) {
    for (dgm_buffer *b = ws->buffers; b; b = b->next) {
        Chunk *c = pages_reserve(chunk_bytes(b));
        if (!c) {
            buffers_close(ws, hot);
            return false;
        }
        use_chunk(b, hot, c);
        if (!b->own) continue;
        pthread_mutex_lock(&b->own->lock);
        b->own->n_threads++;
        b->own->n_out++;
        pthread_mutex_unlock(&b->own->lock);
    }
    return true;
}

void buffers_drain(Watches *ws, VcpuHot *hot) {
    for (dgm_buffer *b = ws->buffers; b; b = b->next) drain(b, hot);
}

void buffers_close(Watches *ws, VcpuHot *hot) {
    for (dgm_buffer *b = ws->buffers; b; b = b->next) {
        Chunk *c = chunk_of(b, hot);
        if (!c) continue;
        drain(b, hot);
        c = chunk_of(b, hot);
        use_chunk(b, hot, NULL);
        if (b->own) {
            pthread_mutex_lock(&b->own->lock);
            b->own->n_threads--;
            b->own->n_out--;
            pthread_mutex_unlock(&b->own->lock);
        }
        pages_free(c, chunk_bytes(b));
    }
}

void buffers_settle(Watches *ws) {
    for (dgm_buffer *b = ws->buffers; b; b = b->next) {
        if (!b->own) continue;
        pthread_mutex_lock(&b->own->lock);
        while (b->own->n_waiting) pthread_cond_wait(&b->own->emptied, &b->own->lock);
        pthread_mutex_unlock(&b->own->lock);
    }
}

void buffers_forked(Watches *ws, VcpuHot *hot) {
    for (dgm_buffer *b = ws->buffers; b; b = b->next) {
        use_chunk(b, hot, chunk_of(b, hot));
        if (!b->own) continue;
        *b->own = (struct BufferThread){.n_threads = 1, .n_out = 1};
        own_thread_reset(b->own);
    }
}

void buffers_free(Watches *ws) {
    for (dgm_buffer *b = ws->buffers; b; b = b->next) own_thread_end(b);
    ws->buffers = NULL;
}

dgm_buffer *dgm_buffer_new(dgm_watch *w, const dgm_field *fields, unsigned n_fields, size_t records,
                           dgm_records_fn fn, unsigned flags, void *data) {
    Watches *ws = w->ws;
    if (!n_fields || n_fields > DGM_MAX_FIELDS || !records || records > 1u << 28 || !fn)
        return NULL;
    dgm_buffer *b = arena_alloc(&ws->keep, sizeof *b);
    uint32_t slot = atomic_fetch_add(&ws->n_slots, BUFFER_SLOTS);
    if (!b || slot + BUFFER_SLOTS > WATCH_SLOTS) return NULL;
    *b = (dgm_buffer){.w = w, .n_fields = n_fields, .slot = slot, .fn = fn, .data = data};
    b->bytes = records * record_bytes(b);
    for (unsigned i = 0; i < n_fields; i++) b->fields[i] = (uint8_t)fields[i];
    if (flags & DGM_OWN_THREAD) {
        b->own = calloc(1, sizeof *b->own);
        if (!b->own) return NULL;
        own_thread_reset(b->own);
    }
    b->next = ws->buffers;
    ws->buffers = b;
    return b;
}
