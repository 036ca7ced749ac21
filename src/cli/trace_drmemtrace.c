// trace_drmemtrace.c - a trace in the format of DynamoRIO's memory traces (version 5), which its
// simulators and analysers read: entries of 12 bytes, type, size and address, one file a thread.
//
// What that format wants to know of an instruction depends on the next one (was a branch taken,
// where did it go), so one instruction is held back with its accesses.
#include "trace.h"
#include "cli.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

// The types of entries.
enum {
    DR_READ = 0,
    DR_WRITE = 1,
    DR_INSTR = 10,
    DR_DIRECT_JUMP = 11,
    DR_INDIRECT_JUMP = 12,
    DR_DIRECT_CALL = 14,
    DR_INDIRECT_CALL = 15,
    DR_RETURN = 16,
    DR_THREAD = 22,
    DR_THREAD_EXIT = 23,
    DR_PID = 24,
    DR_HEADER = 25,
    DR_FOOTER = 26,
    DR_MARKER = 28, // size: which
    DR_ENCODING = 47,
    DR_TAKEN_JUMP = 48,
    DR_UNTAKEN_JUMP = 49
};
// Markers.
enum {
    DR_KERNEL_EVENT = 0, // a signal's handler begins; where the program was
    DR_KERNEL_XFER = 1,  // rt_sigreturn
    DR_TIMESTAMP = 2,    // microseconds since 1601
    DR_CPU_ID = 3,
    DR_FILETYPE = 9,
    DR_CACHE_LINE = 10,
    DR_VERSION = 12,
    DR_WINDOW = 14, // what came before it is missing
    DR_PAGE_SIZE = 18,
    DR_SYSCALL = 25,
    DR_BRANCH_TARGET = 29 // of the indirect branch that comes next
};
enum {
    VERSION = 5, // branches say whether they are taken and where they go
    FILE_NO_OPTIMIZATIONS = 0x2,
    FILE_AARCH64 = 0x8,
    FILE_ENCODINGS = 0x200,
    FILE_SYSCALL_NUMBERS = 0x400,
    CACHE_LINE = 64,
    PAGE_SIZE = 4096
};
#define FROM_1601_US 11644473600000000ull // to 1970
#define NO_CPU       UINT64_MAX

// Which instruction is at which address, as far as the file has said. Open addressing.
typedef struct Seen {
    struct {
        uint64_t address; // 0: free
        uint32_t bytes;
    } * at;
    size_t n, cap;
} Seen;

enum { MAX_HELD = 128 };
typedef struct DrMemtrace {
    TraceJob *j;
    dgm_trace_info info;
    FILE *out;
    char path[4096]; // of out
    bool directory;
    // of one thread
    uint32_t thread;
    TraceTime time;
    size_t event; // the next of time.events
    Seen seen;
    dgm_trace_record held;
    bool have_held, failed;
    struct {
        uint64_t address;
        uint32_t size;
        bool write;
    } accesses[MAX_HELD];
    unsigned n_accesses;
    uint64_t window;
} DrMemtrace;

// ---- entries ----

static void entry(DrMemtrace *d, unsigned type, unsigned size, uint64_t address) {
    uint8_t e[12] = {(uint8_t)type, (uint8_t)(type >> 8), (uint8_t)size, (uint8_t)(size >> 8)};
    for (unsigned i = 0; i < 8; i++) e[4 + i] = (uint8_t)(address >> 8 * i);
    fwrite(e, sizeof e, 1, d->out);
}

static void marker(DrMemtrace *d, unsigned which, uint64_t value) {
    entry(d, DR_MARKER, which, value);
}

static void timestamp(DrMemtrace *d, uint64_t ns) {
    marker(d, DR_TIMESTAMP, (ns + (uint64_t)d->info.realtime_ns) / 1000 + FROM_1601_US);
    marker(d, DR_CPU_ID, NO_CPU); // threads go from one to another unseen
}

// True when the file has not said yet that these bytes are here.
static bool is_new(DrMemtrace *d, uint64_t address, uint32_t bytes) {
    Seen *s = &d->seen;
    if (s->n * 2 >= s->cap) {
        Seen more = {.n = s->n, .cap = s->cap ? s->cap * 2 : 4096};
        more.at = calloc(more.cap, sizeof *more.at);
        d->failed |= !more.at;
        if (!more.at) return true;
        for (size_t i = 0; i < s->cap; i++) {
            if (!s->at[i].address) continue;
            size_t k = (s->at[i].address >> 2) * 0x9e3779b97f4a7c15ull & (more.cap - 1);
            while (more.at[k].address) k = (k + 1) & (more.cap - 1);
            more.at[k] = s->at[i];
        }
        free(s->at);
        *s = more;
    }
    size_t k = (address >> 2) * 0x9e3779b97f4a7c15ull & (s->cap - 1);
    while (s->at[k].address && s->at[k].address != address) k = (k + 1) & (s->cap - 1);
    bool known = s->at[k].address == address && s->at[k].bytes == bytes;
    s->n += !s->at[k].address;
    s->at[k].address = address;
    s->at[k].bytes = bytes;
    return !known;
}

static unsigned type_of(const dgm_trace_record *r, uint64_t next) {
    bool indirect = r->classes & DGM_CLASS_INDIRECT;
    if (r->classes & DGM_CLASS_CALL) return indirect ? DR_INDIRECT_CALL : DR_DIRECT_CALL;
    if (r->classes & DGM_CLASS_RETURN) return DR_RETURN;
    if (indirect) return DR_INDIRECT_JUMP;
    if (r->classes & DGM_CLASS_JUMP) return DR_DIRECT_JUMP;
    if (r->classes & DGM_CLASS_BRANCH)
        return next != r->address + r->size ? DR_TAKEN_JUMP : DR_UNTAKEN_JUMP;
    return DR_INSTR;
}

// The instruction held back, now that it is known what came next; 0: it is not.
static void write_held(DrMemtrace *d, uint64_t next) {
    const dgm_trace_record *r = &d->held;
    if (!d->have_held) return;
    d->have_held = false;
    uint32_t word = 0;
    uint64_t encoding = 0;
    memcpy(&word, r->bytes, r->size < sizeof word ? r->size : sizeof word);
    memcpy(&encoding, r->bytes, r->size < sizeof encoding ? r->size : sizeof encoding);
    if (!next) next = r->address + r->size;
    unsigned type = type_of(r, next);
    if (is_new(d, r->address, word)) entry(d, DR_ENCODING, r->size, encoding);
    if (type == DR_INDIRECT_CALL || type == DR_INDIRECT_JUMP || type == DR_RETURN)
        marker(d, DR_BRANCH_TARGET, next);
    entry(d, type, r->size, r->address);
    for (unsigned i = 0; i < d->n_accesses; i++)
        entry(d, d->accesses[i].write ? DR_WRITE : DR_READ, d->accesses[i].size,
              d->accesses[i].address);
}

// ---- records ----

// DynamoRIO has one access for each operand, so what a pair or a structure loads is one.
static void hold_access(DrMemtrace *d, uint64_t address, uint32_t size, bool write, bool alone) {
    if (!d->have_held) return;
    unsigned n = d->n_accesses;
    if (n && !alone && d->accesses[n - 1].write == write &&
        d->accesses[n - 1].address + d->accesses[n - 1].size == address) {
        d->accesses[n - 1].size += size;
    } else if (n < MAX_HELD) {
        d->accesses[n].address = address;
        d->accesses[n].size = size;
        d->accesses[n].write = write;
        d->n_accesses++;
    }
}

static void write_event(DrMemtrace *d, const dgm_trace_event *e, uint64_t goes_on) {
    const char *name;
    switch (e->kind) {
    case DGM_TRACE_CALL:
    case DGM_TRACE_LEFT:
        timestamp(d, e->start_ns);
        marker(d, DR_SYSCALL, e->number);
        name = dgm_trace_syscall_name(d->j->t, e->number);
        if (e->kind == DGM_TRACE_CALL)
            timestamp(d, e->end_ns);
        else if (name && !strcmp(name, "rt_sigreturn"))
            marker(d, DR_KERNEL_XFER, d->held.address + d->held.size);
        break;
    case DGM_TRACE_SIGNAL:
        if (goes_on && goes_on != e->address) marker(d, DR_KERNEL_EVENT, e->address);
        break;
    default: break;
    }
}

static const dgm_trace_event *next_signal(const DrMemtrace *d, size_t from, uint64_t insn) {
    for (size_t i = from; i < d->time.n && d->time.events[i].insn <= insn; i++)
        if (d->time.events[i].kind == DGM_TRACE_SIGNAL) return &d->time.events[i];
    return NULL;
}

// What comes before instruction `insn`, which is at `to` (0: not known).
static void write_until(DrMemtrace *d, uint64_t insn, uint64_t to) {
    const dgm_trace_event *signal = next_signal(d, d->event, insn);
    write_held(d, signal ? signal->address : to);
    for (; d->event < d->time.n && d->time.events[d->event].insn <= insn; d->event++) {
        signal = next_signal(d, d->event + 1, insn);
        write_event(d, &d->time.events[d->event], signal ? signal->address : to);
    }
}

// What happened where the trace has no instructions.
static void skip_until(DrMemtrace *d, uint64_t insn) {
    while (d->event < d->time.n && d->time.events[d->event].insn <= insn) d->event++;
}

static bool open_file(DrMemtrace *d) {
    const char *slash = strrchr(d->info.program, '/');
    if (d->directory)
        snprintf(d->path, sizeof d->path, "%s/trace/%.100s.%u.%" PRIu64 ".memtrace", d->j->output,
                 slash ? slash + 1 : d->info.program, d->info.pid, d->time.tid);
    else
        snprintf(d->path, sizeof d->path, "%s", d->j->output ? d->j->output : "standard output");
    d->out = d->directory || d->j->output ? fopen(d->path, "we") : d->j->out;
    if (!d->out) complain("%s: %s", d->path, strerror(errno));
    return d->out;
}

static void write_header(DrMemtrace *d, uint64_t insn) {
    entry(d, DR_HEADER, 0, VERSION);
    marker(d, DR_VERSION, VERSION);
    marker(d, DR_FILETYPE,
           FILE_NO_OPTIMIZATIONS | FILE_AARCH64 | FILE_ENCODINGS | FILE_SYSCALL_NUMBERS);
    entry(d, DR_THREAD, 4, d->time.tid);
    entry(d, DR_PID, 4, d->info.pid ? d->info.pid : 1);
    marker(d, DR_CACHE_LINE, CACHE_LINE);
    marker(d, DR_PAGE_SIZE, PAGE_SIZE);
    timestamp(d, trace_time_ns(&d->time, insn));
}

static bool drmemtrace_record(void *state, const dgm_trace_record *r) {
    DrMemtrace *d = state;
    if (r->kind == DGM_TRACE_INSN) {
        bool first = !d->out;
        if (first) {
            d->failed = !open_file(d);
            if (d->failed) return false;
            write_header(d, r->insn);
            if (r->insn) skip_until(d, r->insn);
        } else if (d->held.insn + 1 != r->insn) {
            write_until(d, d->held.insn + 1, d->held.target);
            skip_until(d, r->insn);
            marker(d, DR_WINDOW, ++d->window);
        }
        write_until(d, r->insn, r->address);
        d->held = *r;
        d->have_held = true;
        d->n_accesses = 0;
    } else if (r->kind != DGM_TRACE_SYSCALL) {
        if (r->kind == DGM_TRACE_READ || r->atomic)
            hold_access(d, r->address, r->size, false, r->atomic);
        if (r->kind == DGM_TRACE_WRITE) hold_access(d, r->address, r->size, true, r->atomic);
    }
    return !d->failed;
}

static int write_thread(DrMemtrace *d, uint32_t thread) {
    d->out = NULL;
    d->event = 0;
    d->have_held = false;
    d->window = 0;
    d->seen.n = 0;
    if (d->seen.at) memset(d->seen.at, 0, d->seen.cap * sizeof *d->seen.at);
    if (trace_time_open(&d->time, d->j, thread, d->info.pid)) return 1;
    int e = trace_walk_thread(d->j, thread, drmemtrace_record, d);
    if (!d->out && !d->directory && !e && !d->failed) {
        complain("%s: no instructions of thread %u", d->j->path, thread);
        return 1;
    }
    if (!d->out) return e || d->failed;
    write_until(d, d->held.insn + 1, d->held.next);
    entry(d, DR_THREAD_EXIT, 4, d->time.tid);
    entry(d, DR_FOOTER, 0, 0);
    bool wrong = ferror(d->out);
    if (d->out != d->j->out) wrong |= fclose(d->out) != 0;
    if (wrong) complain("%s: %s", d->path, strerror(errno));
    return e || wrong || d->failed;
}

static bool make_directory(const char *path, const char *below) {
    char full[4096];
    snprintf(full, sizeof full, "%s%s", path, below);
    if (!mkdir(full, 0777) || errno == EEXIST) return true;
    complain("%s: %s", full, strerror(errno));
    return false;
}

int trace_write_drmemtrace(TraceJob *j) {
    DrMemtrace d = {.j = j};
    struct stat st;
    int e = 0;
    dgm_trace_get_info(j->t, &d.info);
    bool one = j->one_thread || d.info.threads <= 1;
    d.directory = !one || (j->output && !stat(j->output, &st) && S_ISDIR(st.st_mode));
    if (!one && !j->output) {
        complain("%s: has %u threads, a file each: -o DIR, or --thread N", j->path, d.info.threads);
        return 1;
    }
    if (d.directory && (!make_directory(j->output, "") || !make_directory(j->output, "/trace")))
        return 1;
    if (one)
        e = write_thread(&d, j->one_thread ? j->thread : 0);
    else
        for (uint32_t i = 0; !e && i < d.info.threads; i++) e = write_thread(&d, i);
    free(d.seen.at);
    return e;
}
