// trace_text.c - a trace as text for people, and as comma-separated values for programs.
#include "trace.h"

#include <inttypes.h>

// <function+0x12>, if asked for and known.
static void write_place(const TraceJob *j, uint64_t address) {
    dgm_trace_symbol s;
    if (!j->symbols || !dgm_trace_symbol_at(j->t, address, &s)) return;
    fprintf(j->out, " <%s", s.name);
    if (address != s.address) fprintf(j->out, "+0x%" PRIx64, address - s.address);
    fputc('>', j->out);
}

static void write_value(FILE *f, const dgm_trace_record *r) {
    if (!r->has_value) return;
    if (r->size == 16)
        fprintf(f, " 0x%016" PRIx64 "%016" PRIx64, r->high, r->value);
    else
        fprintf(f, " 0x%0*" PRIx64, (int)r->size * 2, r->value);
}

static bool text_record(void *job, const dgm_trace_record *r) {
    const TraceJob *j = job;
    FILE *f = j->out;
    const char *name;
    switch (r->kind) {
    case DGM_TRACE_INSN:
        fprintf(f, "%u %" PRIu64 " I 0x%" PRIx64 " ", r->thread, r->insn, r->address);
        for (uint32_t i = r->size; i-- > 0;) fprintf(f, "%02x", r->bytes[i]);
        write_place(j, r->address);
        for (unsigned i = 0; dgm_class_name(i); i++)
            if (r->classes >> i & 1) fprintf(f, " %s", dgm_class_name(i));
        if (r->taken) fprintf(f, " -> 0x%" PRIx64, r->next);
        if (r->taken) write_place(j, r->next);
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
        name = j->symbols ? dgm_trace_syscall_name(j->t, r->number) : NULL;
        fprintf(f, "%u %" PRIu64 " S ", r->thread, r->insn);
        if (name)
            fputs(name, f);
        else
            fprintf(f, "%" PRIu64, r->number);
        for (unsigned i = 0; i < 6; i++) fprintf(f, " 0x%" PRIx64, r->args[i]);
        fprintf(f, " = %" PRId64 " %" PRIu64 " ns\n", (int64_t)r->value, r->end_ns - r->start_ns);
        break;
    }
    return true;
}

static bool csv_record(void *job, const dgm_trace_record *r) {
    const TraceJob *j = job;
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
    return true;
}

int trace_write_text(TraceJob *j) {
    return trace_walk(j, text_record, j);
}

int trace_write_csv(TraceJob *j) {
    fprintf(j->out, "kind,thread,insn,address,size,value,high,classes,taken\n");
    return trace_walk(j, csv_record, j);
}
