// trace.c - `dragoman trace`: looks at traces, and writes them in other formats.
#include "cli.h"

#include "dragoman/tool.h"
#include "dragoman/trace.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct Job {
    dgm_trace *t;
    const char *path, *format;
    FILE *out;
    uint64_t from, count; // of instructions; count 0: to the end
    uint32_t thread;
    bool one_thread;
} Job;

static void help(void) {
    printf("Usage: dragoman trace COMMAND [OPTION...] FILE\n\n"
           "Reads what `dragoman run --tool trace:out=FILE` has written.\n\n"
           "  stat              how many records, blocks of what kind, bytes a record\n"
           "  cat               every record as text\n"
           "  convert           in another format\n\n"
           "  --thread N        of this thread only\n"
           "  --from N          from the thread's N-th instruction on (needs --thread; else 0)\n"
           "  --count N         so many instructions\n"
           "  --to FORMAT       convert: text, csv, champsim, perfetto (system calls and threads)\n"
           "  -o FILE           not to standard output\n"
           "  --brief           stat: only what needs no unpacking\n"
           "  --json            stat: for programs\n\n"
           "Try:\n"
           "  dragoman run --tool trace:out=ls.dgt -L ROOT ROOT/bin/ls\n"
           "  dragoman trace stat ls.dgt\n"
           "  dragoman trace cat --from 1000 --count 20 ls.dgt\n"
           "  dragoman trace convert --to champsim -o ls.champsim --thread 0 ls.dgt\n");
}

// ---- text ----

static void write_value(FILE *f, const dgm_trace_record *r) {
    if (!r->has_value) return;
    if (r->size == 16)
        fprintf(f, " 0x%016" PRIx64 "%016" PRIx64, r->high, r->value);
    else
        fprintf(f, " 0x%0*" PRIx64, (int)r->size * 2, r->value);
}

static void text_record(Job *j, const dgm_trace_record *r) {
    FILE *f = j->out;
    switch (r->kind) {
    case DGM_TRACE_INSN:
        fprintf(f, "%u %" PRIu64 " I 0x%" PRIx64 " ", r->thread, r->insn, r->address);
        for (uint32_t i = r->size; i-- > 0;) fprintf(f, "%02x", r->bytes[i]);
        for (unsigned i = 0; dgm_class_name(i); i++)
            if (r->classes >> i & 1) fprintf(f, " %s", dgm_class_name(i));
        if (r->taken) fprintf(f, " -> 0x%" PRIx64, r->next);
        fprintf(f, "\n");
        break;
    case DGM_TRACE_READ:
    case DGM_TRACE_WRITE:
        fprintf(f, "%u %" PRIu64 " %s 0x%" PRIx64 " %u", r->thread, r->insn,
                r->atomic                    ? "A"
                : r->kind == DGM_TRACE_WRITE ? "W"
                                             : "R",
                r->address, r->size);
        write_value(f, r);
        fprintf(f, "\n");
        break;
    case DGM_TRACE_SYSCALL:
        fprintf(f, "%u %" PRIu64 " S %" PRIu64, r->thread, r->insn, r->number);
        for (unsigned i = 0; i < 6; i++) fprintf(f, " 0x%" PRIx64, r->args[i]);
        fprintf(f, " = %" PRId64 " %" PRIu64 " ns\n", (int64_t)r->value, r->end_ns - r->start_ns);
        break;
    }
}

static void csv_record(Job *j, const dgm_trace_record *r) {
    static const char *const kind[] = {"insn", "read", "write", "syscall"};
    fprintf(j->out, "%s,%u,%" PRIu64 ",0x%" PRIx64 ",%u,", kind[r->kind], r->thread, r->insn,
            r->kind == DGM_TRACE_SYSCALL ? r->number : r->address, r->size);
    if (r->kind == DGM_TRACE_INSN)
        fprintf(j->out, ",,0x%x,%d", r->classes, r->taken);
    else if (r->kind == DGM_TRACE_SYSCALL)
        fprintf(j->out, "%" PRId64 ",,,", (int64_t)r->value);
    else if (r->has_value)
        fprintf(j->out, "0x%" PRIx64 ",0x%" PRIx64 ",,", r->value, r->high);
    else
        fprintf(j->out, ",,,");
    fprintf(j->out, "\n");
}

// ---- ChampSim ----

// One instruction as ChampSim's input_instr: 64 bytes, little-endian.
typedef struct ChampSim {
    uint64_t ip;
    uint8_t is_branch, taken, writes[2], reads[4];
    uint64_t stores[2], loads[4];
} ChampSim;
_Static_assert(sizeof(ChampSim) == 64, "ChampSim's record");
// ChampSim tells kinds of branches by which of these they read and write.
enum { CHAMP_SP = 6, CHAMP_FLAGS = 25, CHAMP_IP = 26, CHAMP_OTHER = 1, CHAMP_FIRST = 32 };

typedef struct ChampState {
    ChampSim now;
    bool have;
    unsigned n_loads, n_stores;
} ChampState;

static void champ_flush(Job *j, ChampState *s) {
    if (s->have) fwrite(&s->now, sizeof s->now, 1, j->out);
    *s = (ChampState){0};
}

static void champ_registers(ChampSim *c, const dgm_trace_record *r) {
    unsigned n = 0;
    for (unsigned i = 0; i < 64 && n < 4; i++)
        if (r->reads >> i & 1) c->reads[n++] = (uint8_t)(CHAMP_FIRST + i);
    n = 0;
    for (unsigned i = 0; i < 64 && n < 2; i++)
        if (r->writes >> i & 1) c->writes[n++] = (uint8_t)(CHAMP_FIRST + i);
}

static void champ_branch(ChampSim *c, const dgm_trace_record *r) {
    bool call = r->classes & DGM_CLASS_CALL, back = r->classes & DGM_CLASS_RETURN;
    bool indirect = r->classes & DGM_CLASS_INDIRECT;
    unsigned n = 0;
    memset(c->reads, 0, sizeof c->reads);
    c->is_branch = 1;
    c->taken = r->taken || !(r->classes & DGM_CLASS_BRANCH);
    c->writes[0] = CHAMP_IP;
    c->writes[1] = call || back ? CHAMP_SP : 0;
    if (call || back) c->reads[n++] = CHAMP_SP;
    if (call || r->classes & DGM_CLASS_BRANCH) c->reads[n++] = CHAMP_IP;
    if (r->classes & DGM_CLASS_BRANCH) c->reads[n++] = CHAMP_FLAGS;
    if (indirect) c->reads[n++] = CHAMP_OTHER;
}

static void champ_record(Job *j, ChampState *s, const dgm_trace_record *r) {
    const uint32_t branches =
        DGM_CLASS_JUMP | DGM_CLASS_BRANCH | DGM_CLASS_INDIRECT | DGM_CLASS_CALL | DGM_CLASS_RETURN;
    if (r->kind == DGM_TRACE_INSN) {
        champ_flush(j, s);
        s->have = true;
        s->now.ip = r->address;
        if (r->classes & branches)
            champ_branch(&s->now, r);
        else
            champ_registers(&s->now, r);
    } else if (r->kind != DGM_TRACE_SYSCALL) {
        if ((r->kind == DGM_TRACE_READ || r->atomic) && s->n_loads < 4)
            s->now.loads[s->n_loads++] = r->address;
        if (r->kind == DGM_TRACE_WRITE && s->n_stores < 2)
            s->now.stores[s->n_stores++] = r->address;
    }
}

// ---- Perfetto ----

static void perfetto_record(Job *j, const dgm_trace_record *r, bool *first) {
    if (r->kind != DGM_TRACE_SYSCALL) return;
    fprintf(j->out,
            "%s\n{\"name\": \"syscall %" PRIu64
            "\", \"ph\": \"X\", \"pid\": 1, \"tid\": %u, \"ts\": %.3f, "
            "\"dur\": %.3f, \"args\": {\"result\": %" PRId64 ", \"instruction\": %" PRIu64 "}}",
            *first ? "" : ",", r->number, r->thread, (double)r->start_ns / 1e3,
            (double)(r->end_ns - r->start_ns) / 1e3, (int64_t)r->value, r->insn);
    *first = false;
}

// ---- the walk ----

static int walk(Job *j) {
    dgm_trace_record r;
    ChampState champ = {0};
    bool first = true, perfetto = !strcmp(j->format, "perfetto"),
         champsim = !strcmp(j->format, "champsim");
    bool csv = !strcmp(j->format, "csv");
    if (csv) fprintf(j->out, "kind,thread,insn,address,size,value,high,classes,taken\n");
    if (perfetto) fprintf(j->out, "{\"traceEvents\": [");
    int e = j->from ? dgm_trace_seek(j->t, j->thread, j->from) : 0;
    if (e == -ENOENT)
        complain("%s: thread %u has no instruction %" PRIu64, j->path, j->thread, j->from);
    if (e == -ENOENT) return 1;
    uint64_t end = j->count ? j->from + j->count : UINT64_MAX;
    while (!e && (e = dgm_trace_next(j->t, &r)) > 0) {
        e = 0;
        if (j->one_thread && r.thread != j->thread) continue;
        if (r.insn >= end) {
            if (j->one_thread) break;
            continue;
        }
        if (perfetto)
            perfetto_record(j, &r, &first);
        else if (champsim)
            champ_record(j, &champ, &r);
        else if (csv)
            csv_record(j, &r);
        else
            text_record(j, &r);
    }
    champ_flush(j, &champ);
    if (perfetto) fprintf(j->out, "\n]}\n");
    if (e < 0) complain("%s: %s", j->path, dgm_trace_error(j->t));
    return e < 0;
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
static int stat_trace(Job *j, bool json, bool brief) {
    dgm_trace_info info;
    dgm_trace_record r;
    uint64_t classes[DGM_CLASS_COUNT] = {0}, taken = 0, reads = 0, writes = 0;
    int e = 0;
    dgm_trace_get_info(j->t, &info);
    while (!brief && (e = dgm_trace_next(j->t, &r)) > 0) {
        reads += r.kind == DGM_TRACE_READ;
        writes += r.kind == DGM_TRACE_WRITE;
        if (r.kind != DGM_TRACE_INSN) continue;
        taken += r.taken;
        for (unsigned i = 0; i < DGM_CLASS_COUNT; i++) classes[i] += r.classes >> i & 1;
    }
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

static bool number_arg(const char *option, const char *text, uint64_t *out) {
    char *end;
    errno = 0;
    *out = strtoull(text, &end, 0);
    if (!errno && end != text && !*end && *text != '-') return true;
    complain("%s %s: expected a number", option, text);
    return false;
}

static int unknown(const char *word) {
    static const char *const names[] = {"--thread", "--from",  "--count", "--to",
                                        "--json",   "--brief", NULL};
    const char *near = nearest(word, names);
    complain("%s: no such option%s%s%s", word, near ? "; did you mean '" : "; see --help",
             near ? near : "", near ? "'?" : "");
    return EXIT_USAGE;
}

static int parse(Job *j, int argc, char **argv, bool *json, bool *brief, const char **output) {
    uint64_t n;
    for (int i = 2; i < argc; i++) {
        const char *a = argv[i];
        bool takes = !strcmp(a, "--thread") || !strcmp(a, "--from") || !strcmp(a, "--count") ||
                     !strcmp(a, "--to") || !strcmp(a, "-o");
        if (takes && i + 1 == argc) {
            complain("%s: needs a value", a);
            return EXIT_USAGE;
        }
        if (!strcmp(a, "--json")) {
            *json = true;
        } else if (!strcmp(a, "--brief")) {
            *brief = true;
        } else if (!strcmp(a, "--to")) {
            j->format = argv[++i];
        } else if (!strcmp(a, "-o")) {
            *output = argv[++i];
        } else if (takes) {
            if (!number_arg(a, argv[++i], &n)) return EXIT_USAGE;
            if (!strcmp(a, "--thread"))
                j->thread = (uint32_t)n, j->one_thread = true;
            else if (!strcmp(a, "--from"))
                j->from = n, j->one_thread = true;
            else
                j->count = n;
        } else if (a[0] == '-') {
            return unknown(a);
        } else {
            j->path = a;
        }
    }
    static const char *const formats[] = {"text", "csv", "champsim", "perfetto"};
    for (unsigned i = 0; i < 4; i++)
        if (!strcmp(j->format, formats[i])) return 0;
    complain("--to %s: no such format; there are text, csv, champsim and perfetto", j->format);
    return EXIT_USAGE;
}

int cmd_trace(int argc, char **argv) {
    Job j = {.format = "text", .out = stdout};
    bool json = false, brief = false;
    const char *output = NULL;
    if (argc < 2 || !strcmp(argv[1], "--help") || !strcmp(argv[1], "-h")) {
        help();
        return argc < 2 ? EXIT_USAGE : 0;
    }
    bool stat = !strcmp(argv[1], "stat"), cat = !strcmp(argv[1], "cat"),
         convert = !strcmp(argv[1], "convert");
    if (!stat && !cat && !convert) {
        complain("trace %s: no such command; there are stat, cat and convert", argv[1]);
        return EXIT_USAGE;
    }
    int status = parse(&j, argc, argv, &json, &brief, &output);
    if (status) return status;
    if (!j.path) {
        complain("trace %s: no file given; see --help", argv[1]);
        return EXIT_USAGE;
    }
    char error[512];
    j.t = dgm_trace_open(j.path, error, sizeof error);
    if (!j.t) {
        complain("%s", error);
        return 1;
    }
    if (output && !(j.out = fopen(output, "we"))) {
        complain("%s: %s", output, strerror(errno));
        dgm_trace_close(j.t);
        return 1;
    }
    status = stat ? stat_trace(&j, json, brief) : walk(&j);
    bool failed = ferror(j.out);
    failed |= fclose(j.out) != 0;
    if (failed) complain("%s: %s", output ? output : "standard output", strerror(errno));
    dgm_trace_close(j.t);
    return failed ? 1 : status;
}
