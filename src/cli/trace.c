// trace.c - `dragoman trace`: looks at traces, and writes them in other formats, which are a table
// here and a file each.
#include "trace.h"
#include "cli.h"
#include "libraries.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

typedef struct Format {
    const char *name, *summary;
    int (*write)(TraceJob *j);
    bool opens; // its files itself
} Format;
static const Format formats[] = {
    {"text", "a line a record, as `trace cat`", trace_write_text, false},
    {"csv", "the same for programs", trace_write_csv, false},
    {"champsim", "ChampSim's records of 64 bytes", trace_write_champsim, false},
    {"drmemtrace", "DynamoRIO's memory trace; a file a thread: -o DIR, or --thread",
     trace_write_drmemtrace, true},
    {"perfetto", "functions, system calls and threads on a time line (JSON)", trace_write_perfetto,
     false},
};
enum { N_FORMATS = sizeof formats / sizeof *formats };

static void help(void) {
    printf("Usage: dragoman trace COMMAND [OPTION...] FILE\n\n"
           "Reads what `dragoman run --tool trace:out=FILE` has written.\n\n"
           "  stat              how many records, blocks of what kind, bytes a record\n"
           "  cat               every record as text\n"
           "  convert           in another format\n\n"
           "  --thread N        of this thread only\n"
           "  --from N          from the thread's N-th instruction on (needs --thread; else 0)\n"
           "  --count N         so many instructions\n"
           "  --symbols         cat: functions and names of system calls\n"
           "  --to FORMAT       convert: one of those below\n"
           "  --depth N         perfetto: functions called no deeper than that\n"
           "  --min-insns N     perfetto: functions that executed as many instructions\n"
           "  -o FILE           not to standard output\n"
           "  --brief           stat: only what needs no unpacking\n"
           "  --json            stat: for programs\n\n"
           "Formats:\n");
    for (unsigned i = 0; i < N_FORMATS; i++)
        printf("  %-16s  %s\n", formats[i].name, formats[i].summary);
    printf("\nTry:\n"
           "  dragoman run --tool trace:out=ls.dgt -L ROOT ROOT/bin/ls\n"
           "  dragoman trace stat ls.dgt\n"
           "  dragoman trace cat --symbols --from 1000 --count 20 ls.dgt\n"
           "  dragoman trace convert --to champsim -o ls.champsim --thread 0 ls.dgt\n"
           "  dragoman trace convert --to perfetto --min-insns 1000 -o ls.json ls.dgt\n");
}

// ---- the walk ----

static int walk(TraceJob *j, bool one_thread, uint32_t thread, trace_record_fn fn, void *state) {
    dgm_trace_record r;
    dgm_trace_info info;
    uint64_t end = j->count && j->count < UINT64_MAX - j->from ? j->from + j->count : UINT64_MAX;
    dgm_trace_get_info(j->t, &info);
    if (thread && thread >= info.threads) {
        complain("%s: no thread %u; there are %u", j->path, thread, info.threads);
        return 1;
    }
    if (one_thread) dgm_trace_choose(j->t, thread);
    int e = j->from ? dgm_trace_seek(j->t, thread, j->from) : 0;
    if (e == -ENOENT)
        complain("%s: thread %u has no instruction %" PRIu64, j->path, thread, j->from);
    if (e == -ENOENT) return 1;
    while (!e && (e = dgm_trace_next(j->t, &r)) > 0) {
        e = 0;
        if (r.insn >= end && one_thread && r.kind == DGM_TRACE_INSN) break;
        if (r.insn < end && !fn(state, &r)) break;
    }
    if (e < 0) complain("%s: %s", j->path, dgm_trace_error(j->t));
    return e < 0;
}

int trace_walk(TraceJob *j, trace_record_fn fn, void *state) {
    return walk(j, j->one_thread, j->thread, fn, state);
}
int trace_walk_thread(TraceJob *j, uint32_t thread, trace_record_fn fn, void *state) {
    return walk(j, true, thread, fn, state);
}

// ---- stat ----

static void stat_tail(FILE *f, bool json, double each, bool truncated) {
    if (json)
        fprintf(f, " \"bytes_per_record\": %.4f,\n \"truncated\": %s\n}\n", each,
                truncated ? "true" : "false");
    else
        fprintf(f, "%-14s %20.4f\n%s", "bytes/record", each,
                truncated ? "truncated: read up to the cut\n" : "");
}

// brief: what the pieces' headers say, without unpacking them.
static int stat_trace(TraceJob *j, bool json, bool brief) {
    dgm_trace_info info;
    dgm_trace_record r;
    uint64_t classes[DGM_CLASS_COUNT] = {0}, taken = 0, reads = 0, writes = 0, insns = 0;
    int e = 0;
    dgm_trace_get_info(j->t, &info);
    while (!brief && (e = dgm_trace_next(j->t, &r)) > 0) {
        reads += r.kind == DGM_TRACE_READ;
        writes += r.kind == DGM_TRACE_WRITE;
        if (r.kind != DGM_TRACE_INSN) continue;
        insns++;
        taken += r.taken;
        for (unsigned i = 0; i < DGM_CLASS_COUNT; i++) classes[i] += r.classes >> i & 1;
    }
    if (!brief && e >= 0) info.insns = insns; // headers count those that were not shown, too
    uint64_t records = info.insns + info.accesses + info.syscalls;
    const char *line = json ? " \"%s\": %" PRIu64 ",\n" : "%-14s %20" PRIu64 "\n";
    if (json) fprintf(j->out, "{\n");
    fprintf(j->out, line, "threads", (uint64_t)info.threads);
    fprintf(j->out, line, "instructions", info.insns);
    fprintf(j->out, line, "accesses", info.accesses);
    fprintf(j->out, line, "syscalls", info.syscalls);
    if (!brief) {
        fprintf(j->out, line, "reads", reads);
        fprintf(j->out, line, "writes", writes);
        fprintf(j->out, line, "taken", taken);
    }
    for (unsigned i = 0; i < DGM_CLASS_COUNT; i++)
        if (classes[i]) fprintf(j->out, line, dgm_class_name(i), classes[i]);
    fprintf(j->out, line, "bytes", info.file_bytes);
    double each = records ? (double)info.file_bytes / (double)records : 0;
    stat_tail(j->out, json, each, info.truncated);
    if (e < 0) complain("%s: %s", j->path, dgm_trace_error(j->t));
    return e < 0;
}

// ---- the command ----

typedef struct Command {
    TraceJob job;
    const Format *format;
    bool json, brief;
} Command;

static bool number_arg(const char *option, const char *text, uint64_t *out) {
    char *end;
    errno = 0;
    *out = strtoull(text, &end, 0);
    if (!errno && end != text && !*end && *text != '-') return true;
    complain("%s %s: expected a number", option, text);
    return false;
}

static int unknown(const char *word) {
    static const char *const names[] = {"--thread", "--from",  "--count",     "--to",      "--json",
                                        "--brief",  "--depth", "--min-insns", "--symbols", NULL};
    const char *near = nearest(word, names);
    complain("%s: no such option%s%s%s", word, near ? "; did you mean '" : "; see --help",
             near ? near : "", near ? "'?" : "");
    return EXIT_USAGE;
}

static bool format_arg(const char *word, const Format **out) {
    char known[200] = "";
    for (unsigned i = 0; i < N_FORMATS; i++) {
        if (!strcmp(word, formats[i].name)) {
            *out = &formats[i];
            return true;
        }
        size_t n = strlen(known);
        snprintf(known + n, sizeof known - n, "%s%s",
                 !i                  ? ""
                 : i + 1 < N_FORMATS ? ", "
                                     : " and ",
                 formats[i].name);
    }
    complain("--to %s: no such format; there are %s", word, known);
    return false;
}

// Where an option's number goes; NULL: it takes none.
static uint64_t *number_of(TraceJob *j, const char *option) {
    return !strcmp(option, "--from")        ? &j->from
           : !strcmp(option, "--count")     ? &j->count
           : !strcmp(option, "--depth")     ? &j->depth
           : !strcmp(option, "--min-insns") ? &j->min_insns
                                            : NULL;
}

static int parse(Command *c, int argc, char **argv) {
    TraceJob *j = &c->job;
    for (int i = 2; i < argc; i++) {
        const char *a = argv[i];
        uint64_t n = 0, *number = number_of(j, a);
        bool thread = !strcmp(a, "--thread"), to = !strcmp(a, "--to"), output = !strcmp(a, "-o");
        if ((number || thread || to || output) && i + 1 == argc) {
            complain("%s: needs a value", a);
            return EXIT_USAGE;
        }
        if (to) {
            if (!format_arg(argv[++i], &c->format)) return EXIT_USAGE;
        } else if (output) {
            j->output = argv[++i];
        } else if (number || thread) {
            if (!number_arg(a, argv[++i], number ? number : &n)) return EXIT_USAGE;
            if (thread) j->thread = n > UINT32_MAX ? UINT32_MAX : (uint32_t)n;
            j->one_thread |= thread || !strcmp(a, "--from");
        } else if (!strcmp(a, "--json")) {
            c->json = true;
        } else if (!strcmp(a, "--brief")) {
            c->brief = true;
        } else if (!strcmp(a, "--symbols")) {
            j->symbols = true;
        } else if (a[0] == '-') {
            return unknown(a);
        } else {
            j->path = a;
        }
    }
    return 0;
}

static int execute(Command *c, bool stat) {
    TraceJob *j = &c->job;
    bool opens = !stat && c->format->opens;
    if (j->output && !opens && !(j->out = fopen(j->output, "we"))) {
        complain("%s: %s", j->output, strerror(errno));
        return 1;
    }
    int status = stat ? stat_trace(j, c->json, c->brief) : c->format->write(j);
    bool failed = ferror(j->out);
    failed |= fclose(j->out) != 0;
    if (failed) complain("%s: %s", j->output ? j->output : "standard output", strerror(errno));
    return failed ? 1 : status;
}

int cmd_trace(int argc, char **argv) {
    Command c = {.job = {.out = stdout}, .format = formats};
    if (argc < 2 || !strcmp(argv[1], "--help") || !strcmp(argv[1], "-h")) {
        help();
        return argc < 2 ? EXIT_USAGE : 0;
    }
    bool stat = !strcmp(argv[1], "stat");
    if (!stat && strcmp(argv[1], "cat") && strcmp(argv[1], "convert")) {
        complain("trace %s: no such command; there are stat, cat and convert", argv[1]);
        return EXIT_USAGE;
    }
    int status = parse(&c, argc, argv);
    if (status) return status;
    if (!c.job.path) {
        complain("trace %s: no file given; see --help", argv[1]);
        return EXIT_USAGE;
    }
    if ((status = need_libraries())) return status; // for what is packed by zstd
    char error[512];
    c.job.t = dgm_trace_open(c.job.path, error, sizeof error);
    if (!c.job.t) {
        complain("%s", error);
        return 1;
    }
    status = execute(&c, stat);
    dgm_trace_close(c.job.t);
    return status;
}
