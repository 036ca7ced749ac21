// bbv.c - basic block vectors for SimPoint: how many instructions each block contributed to each
// interval of the execution. Format: SimPoint 3.0's frequency vectors, a line an interval,
// "T:id:count :id:count ...", ids from 1.
//
// Each thread has vectors of its own, as each has its own instructions: thread 0's in FILE, thread
// n's in FILE.n. Intervals end on the exact instruction, in the middle of a block if need be.
//
// For a page, blocks also belong to places: functions, or pages of code that no symbol names.
#include "tools/tools.h"

#include "tools/page.h"
#include "tools/phases.h"
#include "tools/simpoint.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

typedef struct BlockId {
    uint64_t address;
    uint32_t insns;
    dgm_counter executed; // instructions
    uint32_t place;
    float direction[PHASE_DIMENSIONS]; // of the projection
} BlockId;

typedef struct Place {
    uint64_t address;
    bool page; // no function: all code of this page
} Place;

typedef struct Stream { // one thread's file
    FILE *f;
    char *path;
    uint32_t thread;
    uint64_t intervals, insns;
    Phases phases;
    char *line;
    size_t cap;
    struct Stream *next;
} Stream;

typedef struct Bbv {
    uint64_t interval;
    const char *path, *blocks_path; // path NULL: only a page is asked for
    bool tail;
    Report report;
    Map ids;              // by address and size
    pthread_mutex_t lock; // all below, and growth of `blocks`
    BlockId **blocks;     // by id - 1
    size_t n_blocks, cap_blocks;
    Map by_place;
    Place *places;
    uint32_t n_places, cap_places;
    Stream *streams;
} Bbv;

static int start(dgm_watch *w) {
    Bbv *b = calloc(1, sizeof *b);
    if (!b) return dgm_fail(w, -ENOMEM, "out of memory");
    dgm_set_context(w, b);
    pthread_mutex_init(&b->lock, NULL);
    b->interval = dgm_option_number(w, "interval", 10000000, 1, 1ull << 40);
    b->path = dgm_option_path(w, "out");
    int e = report_start_to(&b->report, w, NULL);
    if (!b->path && !b->report.html) b->path = "bbv.out.%p";
    b->blocks_path = dgm_option_path(w, "blocks");
    b->tail = !dgm_option(w, "notail");
    dgm_want(w, DGM_STOPS);
    return e;
}

// Lock held.
static uint32_t place_of(dgm_watch *w, Bbv *b, uint64_t address) {
    enum { PAGE_BYTES = 4096 };
    dgm_symbol s;
    bool known = dgm_symbol_at(w, address, &s);
    Place mine = {known ? s.address : address & -(uint64_t)PAGE_BYTES, !known};
    if (b->n_places == b->cap_places) {
        uint32_t cap = b->cap_places ? 2 * b->cap_places : 256;
        Place *more = realloc(b->places, cap * sizeof *more);
        if (!more) return 0;
        b->places = more;
        b->cap_places = cap;
    }
    void **at = map_at(&b->by_place, mine.address << 1 | mine.page);
    if (!at) return 0;
    if (!*at) {
        b->places[b->n_places++] = mine;
        *at = (void *)(uintptr_t)b->n_places; // its number plus one
    }
    return (uint32_t)(uintptr_t)*at - 1;
}

static void place_block(dgm_watch *w, Bbv *b, BlockId *id, size_t number) {
    enum { SEED = 1 };
    id->place = place_of(w, b, id->address);
    for (unsigned d = 0; d < PHASE_DIMENSIONS; d++)
        id->direction[d] = (float)simpoint_direction(SEED, number, d);
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
        *made = (BlockId){.address = address, .insns = insns, .executed = dgm_counter_new(w)};
        b->blocks[b->n_blocks++] = *id = made;
        if (b->report.html) place_block(w, b, made, b->n_blocks);
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
    char *base = report_path(b->path ? b->path : "");
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
    s->f = b->path ? fopen(s->path, "we") : NULL;
    if (b->path && !s->f) dprintf(2, "dragoman: tool 'bbv': %s: %s\n", s->path, strerror(errno));
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
        s->insns += n;
        if (b->report.html) phases_add(&s->phases, b->blocks[i]->place, b->blocks[i]->direction, n);
    }
    if (at == s->line + 1) return;
    *at++ = '\n';
    s->intervals++;
    if (b->report.html) phases_interval(&s->phases);
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
        phases_free(&s->phases);
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

static void write_places(dgm_watch *w, const Bbv *b, FILE *f) {
    fprintf(f, ",\n \"places\": [");
    for (uint32_t i = 0; i < b->n_places; i++) {
        fprintf(f, "%s{", i ? ",\n  " : "");
        report_place(f, w, b->places[i].address, true);
        fprintf(f, ", \"page\": %s}", b->places[i].page ? "true" : "false");
    }
    fputc(']', f);
}

static void write_report(dgm_watch *w, FILE *f) {
    Bbv *b = dgm_context(w);
    const char *comma = "";
    fprintf(f, "{\"tool\": \"bbv\", \"interval\": %" PRIu64 ", \"blocks\": %zu, \"threads\": [",
            b->interval, b->n_blocks);
    for (Stream *s = b->streams; s; s = s->next) {
        fprintf(f,
                "%s\n  {\"thread\": %" PRIu32 ", \"intervals\": %" PRIu64
                ", \"instructions\": %" PRIu64 ", \"file\": ",
                comma, s->thread, s->intervals, s->insns);
        report_string(f, s->path);
        if (b->report.page) fprintf(f, ",\n   \"columns\": "), phases_write(&s->phases, f);
        fputc('}', f);
        comma = ",";
    }
    fputc(']', f);
    if (b->report.page) write_places(w, b, f);
    fprintf(f, "}\n");
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
    if (b->report.html || b->report.json)
        report_write(&b->report, w, "bbv", page_bbv, write_report);
    pthread_mutex_unlock(&b->lock);
}

static void release(dgm_watch *w) {
    Bbv *b = dgm_context(w);
    if (!b) return;
    drop_streams(b);
    for (size_t i = 0; i < b->n_blocks; i++) free(b->blocks[i]);
    free(b->blocks);
    map_free(&b->ids);
    map_free(&b->by_place);
    free(b->places);
    report_free(&b->report);
    free(b);
}

static const char *const options[] = {
    "interval=N  instructions in an interval (10M)",
    "out=FILE    thread 0's vectors (bbv.out.%p; %p: the process id); thread n's go to FILE.n",
    "blocks=FILE which block each id is: id, address, instructions, function",
    "notail      leave out the last interval, which is shorter",
    "html=FILE   the run's phases as a page with pictures; without out= no vectors are written",
    "json        how many intervals went to which file, as JSON on stderr",
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
