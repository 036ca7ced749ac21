// bbv.c - basic block vectors for SimPoint: how many instructions each block contributed to each
// interval of the execution. Format: SimPoint 3.0's frequency vectors, a line an interval,
// "T:id:count :id:count ...", ids from 1.
//
// Each thread has vectors of its own, as each has its own instructions: thread 0's in FILE, thread
// n's in FILE.n. Intervals end on the exact instruction, in the middle of a block if need be.
#include "tools/tools.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

typedef struct BlockId {
    uint64_t address;
    uint32_t insns;
    dgm_counter executed; // instructions
} BlockId;

typedef struct Stream { // one thread's file
    FILE *f;
    char *path;
    uint32_t thread;
    uint64_t intervals;
    char *line;
    size_t cap;
    struct Stream *next;
} Stream;

typedef struct Bbv {
    uint64_t interval;
    const char *path, *blocks_path;
    bool tail;
    int stderr_fd;
    Map ids;              // by address and size
    pthread_mutex_t lock; // all below, and growth of `blocks`
    BlockId **blocks;     // by id - 1
    size_t n_blocks, cap_blocks;
    Stream *streams;
} Bbv;

static int start(dgm_watch *w) {
    Bbv *b = calloc(1, sizeof *b);
    if (!b) return dgm_fail(w, -ENOMEM, "out of memory");
    dgm_set_context(w, b);
    pthread_mutex_init(&b->lock, NULL);
    b->interval = dgm_option_number(w, "interval", 10000000, 1, 1ull << 40);
    b->path = dgm_option(w, "out");
    if (!b->path) b->path = "bbv.out.%p";
    b->blocks_path = dgm_option(w, "blocks");
    b->tail = !dgm_option(w, "notail");
    dgm_want(w, DGM_STOPS);
    return 0;
}

static BlockId *block_id(dgm_watch *w, Bbv *b, const dgm_block *block) {
    uint64_t address = dgm_block_address(block);
    unsigned insns = dgm_block_insns(block);
    BlockId **id = (BlockId **)map_at(&b->ids, address | (uint64_t)insns << 52);
    if (!id || *id) return id ? *id : NULL;
    BlockId *made = calloc(1, sizeof *made);
    pthread_mutex_lock(&b->lock);
    if (made && b->n_blocks == b->cap_blocks) {
        size_t cap = b->cap_blocks ? b->cap_blocks * 2 : 1024;
        BlockId **more = realloc(b->blocks, cap * sizeof *more);
        if (more) {
            b->blocks = more;
            b->cap_blocks = cap;
        }
    }
    if (made && b->n_blocks < b->cap_blocks) {
        *made = (BlockId){address, insns, dgm_counter_new(w)};
        b->blocks[b->n_blocks++] = *id = made;
    } else {
        free(made);
        made = NULL;
    }
    pthread_mutex_unlock(&b->lock);
    return made;
}

static void block(dgm_watch *w, dgm_block *block) {
    BlockId *id = block_id(w, dgm_context(w), block);
    if (!id) return;
    for (unsigned i = 0; i < dgm_block_insns(block); i++) dgm_at_count(block, i, id->executed, 1);
}

// ---- writing ----

static Stream *stream_of(Bbv *b, uint32_t thread) {
    for (Stream *s = b->streams; s; s = s->next)
        if (s->thread == thread) return s;
    Stream *s = calloc(1, sizeof *s);
    if (!s) return NULL;
    char *base = report_path(b->path);
    s->path = malloc((base ? strlen(base) : 0) + 16);
    if (!base || !s->path) {
        free(base);
        free(s->path);
        free(s);
        return NULL;
    }
    if (thread)
        sprintf(s->path, "%s.%u", base, thread);
    else
        strcpy(s->path, base);
    free(base);
    s->thread = thread;
    s->f = fopen(s->path, "we");
    if (!s->f) dprintf(2, "dragoman: tool 'bbv': %s: %s\n", s->path, strerror(errno));
    s->next = b->streams;
    b->streams = s;
    return s;
}

static char *put_number(char *at, uint64_t n) {
    char digits[24];
    int k = 0;
    do digits[k++] = (char)('0' + n % 10);
    while (n /= 10);
    while (k) *at++ = digits[--k];
    return at;
}

// The thread's counters since the last interval become a line, and start anew. Lock held.
static void write_interval(Bbv *b, Stream *s, dgm_vcpu *v) {
    enum { ENTRY_BYTES = 48 };
    if (s->cap < b->n_blocks * ENTRY_BYTES + 16) {
        size_t cap = b->n_blocks * ENTRY_BYTES * 2 + 4096;
        char *line = realloc(s->line, cap);
        if (!line) return;
        s->line = line;
        s->cap = cap;
    }
    char *at = s->line;
    *at++ = 'T';
    for (size_t i = 0; i < b->n_blocks; i++) {
        uint64_t n = dgm_counter_of(v, b->blocks[i]->executed);
        if (!n) continue;
        dgm_counter_set(v, b->blocks[i]->executed, 0);
        *at++ = ':';
        at = put_number(at, i + 1);
        *at++ = ':';
        at = put_number(at, n);
        *at++ = ' ';
    }
    if (at == s->line + 1) return;
    *at++ = '\n';
    s->intervals++;
    if (s->f && fwrite(s->line, 1, (size_t)(at - s->line), s->f) != (size_t)(at - s->line)) {
        dprintf(2, "dragoman: tool 'bbv': %s: %s; no more is written\n", s->path, strerror(errno));
        fclose(s->f);
        s->f = NULL;
    }
}

static void reached(dgm_watch *w, dgm_vcpu *v) {
    Bbv *b = dgm_context(w);
    pthread_mutex_lock(&b->lock);
    Stream *s = stream_of(b, dgm_vcpu_thread(v));
    if (s) write_interval(b, s, v);
    pthread_mutex_unlock(&b->lock);
    dgm_stop_after(w, v, b->interval);
}

static void thread_start(dgm_watch *w, dgm_vcpu *v) {
    Bbv *b = dgm_context(w);
    dgm_stop_after(w, v, b->interval);
}

static void thread_end(dgm_watch *w, dgm_vcpu *v) {
    Bbv *b = dgm_context(w);
    pthread_mutex_lock(&b->lock);
    Stream *s = stream_of(b, dgm_vcpu_thread(v));
    if (s && b->tail) write_interval(b, s, v);
    pthread_mutex_unlock(&b->lock);
}

static void drop_streams(Bbv *b) {
    for (Stream *s = b->streams, *next; s; s = next) {
        next = s->next;
        free(s->path);
        free(s->line);
        free(s);
    }
    b->streams = NULL;
}

// The parent's files are the parent's: what it had not written yet is not for us to write.
static void forked(dgm_watch *w, dgm_vcpu *v) {
    Bbv *b = dgm_context(w);
    pthread_mutex_init(&b->lock, NULL);
    drop_streams(b);
    dgm_stop_after(w, v, b->interval);
}

static void write_blocks(dgm_watch *w, Bbv *b) {
    char *path = report_path(b->blocks_path);
    FILE *f = path ? fopen(path, "we") : NULL;
    for (size_t i = 0; f && i < b->n_blocks; i++) {
        fprintf(f, "%zu 0x%" PRIx64 " %u ", i + 1, b->blocks[i]->address, b->blocks[i]->insns);
        report_place(f, w, b->blocks[i]->address, false);
        fputc('\n', f);
    }
    bool failed = !f || ferror(f);
    failed |= f && fclose(f);
    if (failed) dprintf(2, "dragoman: tool 'bbv': %s: %s\n", b->blocks_path, strerror(errno));
    free(path);
}

static void finish(dgm_watch *w, bool last) {
    Bbv *b = dgm_context(w);
    pthread_mutex_lock(&b->lock);
    for (Stream *s = b->streams; s; s = s->next) {
        bool failed = s->f && (last ? fclose(s->f) : fflush(s->f));
        if (failed) dprintf(2, "dragoman: tool 'bbv': %s: %s\n", s->path, strerror(errno));
        if (last) s->f = NULL;
    }
    if (b->blocks_path) write_blocks(w, b);
    pthread_mutex_unlock(&b->lock);
}

static void release(dgm_watch *w) {
    Bbv *b = dgm_context(w);
    if (!b) return;
    drop_streams(b);
    for (size_t i = 0; i < b->n_blocks; i++) free(b->blocks[i]);
    free(b->blocks);
    map_free(&b->ids);
    free(b);
}

static const char *const options[] = {
    "interval=N  instructions in an interval (10M)",
    "out=FILE    thread 0's vectors (bbv.out.%p; %p: the process id); thread n's go to FILE.n",
    "blocks=FILE which block each id is: id, address, instructions, function",
    "notail      leave out the last interval, which is shorter",
    NULL,
};

const dgm_tool tool_bbv = {
    .version = DGM_TOOL_VERSION,
    .name = "bbv",
    .summary = "basic block vectors for SimPoint, intervals exact to the instruction",
    .options = options,
    .start = start,
    .block = block,
    .thread_start = thread_start,
    .thread_end = thread_end,
    .reached = reached,
    .forked = forked,
    .finish = finish,
    .free = release,
};
