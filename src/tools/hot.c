// hot.c - where the instructions go: the hottest blocks and loops with their guest code.
//
// A loop is a backward branch (from the last instruction of a block to an address at or before it,
// in the same function); its body is taken to be the code between, its iterations the times that
// the branch's target was entered.
#include "tools/tools.h"

#include "tools/page.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

typedef struct HotBlock {
    uint64_t address, end, target; // target of a backward branch, or 0
    uint32_t insns;
    dgm_counter entered;
    uint64_t n;
    uint8_t *bytes;
    struct HotBlock *next;
} HotBlock;

typedef struct Hot {
    Report report;
    uint64_t top;
    bool code;
    Map blocks;
    HotBlock *all;
    size_t n_blocks;
} Hot;

static int start(dgm_watch *w) {
    Hot *h = calloc(1, sizeof *h);
    if (!h) return dgm_fail(w, -ENOMEM, "out of memory");
    dgm_set_context(w, h);
    h->top = dgm_option_number(w, "top", 10, 1, 100000);
    h->code = !dgm_option(w, "nocode");
    return report_start(&h->report, w);
}

static HotBlock *hot_block(dgm_watch *w, Hot *h, const dgm_block *b) {
    unsigned n = dgm_block_insns(b);
    uint64_t address = dgm_block_address(b);
    HotBlock **at = (HotBlock **)map_at(&h->blocks, address | (uint64_t)n << 52);
    if (!at || *at) return at ? *at : NULL;
    const dgm_insn *last = dgm_block_insn(b, n - 1);
    HotBlock *x = calloc(1, sizeof *x);
    size_t bytes = last->address + last->size - address;
    if (x) x->bytes = malloc(bytes);
    if (!x || !x->bytes) {
        free(x);
        return NULL;
    }
    for (unsigned i = 0; i < n; i++) {
        const dgm_insn *k = dgm_block_insn(b, i);
        memcpy(x->bytes + (k->address - address), k->bytes, k->size);
    }
    x->address = address;
    x->end = last->address + last->size;
    x->insns = n;
    bool jumps = last->classes & (DGM_CLASS_BRANCH | DGM_CLASS_JUMP);
    enum { MAX_LOOP_BYTES = 1 << 14 }; // a jump further back is one to another function
    if (jumps && !(last->classes & DGM_CLASS_CALL) && last->target &&
        last->target <= last->address && last->address - last->target < MAX_LOOP_BYTES)
        x->target = last->target;
    x->entered = dgm_counter_new(w);
    x->next = h->all;
    h->n_blocks++;
    return h->all = *at = x;
}

static void block(dgm_watch *w, dgm_block *b) {
    HotBlock *x = hot_block(w, dgm_context(w), b);
    if (x) dgm_at_count(b, 0, x->entered, 1);
}

// ---- results ----

static int by_share(const void *a, const void *b) {
    const HotBlock *x = *(HotBlock *const *)a, *y = *(HotBlock *const *)b;
    uint64_t i = x->n * x->insns, k = y->n * y->insns;
    if (i != k) return i < k ? 1 : -1;
    return x->address < y->address ? -1 : x->address > y->address;
}

// Each instruction of the block; text, index among them and address to `each`.
static void each_insn(dgm_watch *w, const HotBlock *x, FILE *f,
                      void (*each)(dgm_watch *w, FILE *f, unsigned i, uint64_t at,
                                   const char *text)) {
    unsigned i = 0;
    for (uint64_t at = x->address; at < x->end; i++) {
        char text[96];
        unsigned size =
            dgm_disassemble(w, x->bytes + (at - x->address), x->end - at, at, text, sizeof text);
        each(w, f, i, at, size ? text : "(undefined)");
        at += size ? size : 4;
    }
}

// Whether another source line begins at `at` than at the instruction before it in the block.
static bool new_line(dgm_watch *w, unsigned i, uint64_t at, const char **file, unsigned *line) {
    const char *last;
    unsigned last_line;
    if (!dgm_line_at(w, at, file, line)) return false;
    return !i || !dgm_line_at(w, at - 4, &last, &last_line) || *line != last_line ||
           strcmp(*file, last);
}

static void insn_text(dgm_watch *w, FILE *f, unsigned i, uint64_t at, const char *text) {
    const char *file;
    unsigned line;
    if (new_line(w, i, at, &file, &line)) fprintf(f, "      %s:%u\n", file, line);
    fprintf(f, "      %8" PRIx64 ":  %s\n", at, text);
}

static void insn_json(dgm_watch *w, FILE *f, unsigned i, uint64_t at, const char *text) {
    (void)w, (void)at;
    if (i) fputs(", ", f);
    report_string(f, text);
}

// The lines that begin in the block, [which instruction, file, line] each.
static void write_source(dgm_watch *w, FILE *f, const HotBlock *x) {
    const char *file, *comma = "";
    unsigned line;
    fprintf(f, ", \"source\": [");
    for (unsigned i = 0; x->address + 4ull * i < x->end; i++) {
        if (!new_line(w, i, x->address + 4ull * i, &file, &line)) continue;
        fprintf(f, "%s[%u, ", comma, i);
        report_string(f, file);
        fprintf(f, ", %u]", line);
        comma = ", ";
    }
    fputc(']', f);
}

// What the block became, a line an instruction.
static void write_host(dgm_watch *w, FILE *f, const HotBlock *x) {
    char *text = dgm_host_text(w, x->address), *at = text;
    if (!text) return;
    fprintf(f, ", \"host\": [");
    for (char *line; (line = strsep(&at, "\n"));) {
        if (!*line) continue;
        if (line != text) fputs(", ", f);
        report_string(f, line);
    }
    fputc(']', f);
    free(text);
}

static void write_code(dgm_watch *w, FILE *f, const HotBlock *x, bool json) {
    if (json) fprintf(f, ", \"code\": [");
    each_insn(w, x, f, json ? insn_json : insn_text);
    if (!json) return;
    fputc(']', f);
    write_source(w, f, x);
}

typedef struct Loop {
    uint64_t head, end, insns, iterations;
} Loop;

static int by_loop_insns(const void *a, const void *b) {
    const Loop *x = a, *y = b;
    if (x->insns != y->insns) return x->insns < y->insns ? 1 : -1;
    return x->head < y->head ? -1 : x->head > y->head;
}

// rows: all blocks, any order.
static size_t find_loops(HotBlock *const *rows, size_t n, Loop *loops) {
    size_t n_loops = 0;
    for (size_t i = 0; i < n; i++) {
        if (!rows[i]->target || !rows[i]->n) continue;
        size_t k = 0;
        while (k < n_loops && loops[k].head != rows[i]->target) k++;
        if (k == n_loops) loops[n_loops++] = (Loop){.head = rows[i]->target};
        if (rows[i]->end > loops[k].end) loops[k].end = rows[i]->end;
    }
    for (size_t k = 0; k < n_loops; k++)
        for (size_t i = 0; i < n; i++) {
            if (rows[i]->address < loops[k].head || rows[i]->address >= loops[k].end) continue;
            loops[k].insns += rows[i]->n * rows[i]->insns;
            if (rows[i]->address == loops[k].head) loops[k].iterations += rows[i]->n;
        }
    qsort(loops, n_loops, sizeof *loops, by_loop_insns);
    return n_loops;
}

static void write_loops(dgm_watch *w, Hot *h, FILE *f, HotBlock *const *rows, size_t n,
                        uint64_t total) {
    enum { MOST = 4096 }; // blocks whose loops are looked for: the hottest
    size_t some = n < MOST ? n : MOST;
    Loop *loops = calloc(some + 1, sizeof *loops);
    size_t n_loops = loops ? find_loops(rows, some, loops) : 0;
    fprintf(f, h->report.json ? ",\n \"loops\": [" : "\n  share  iterations        loop\n");
    for (size_t i = 0; i < n_loops && i < report_rows(&h->report, h->top); i++) {
        char number[32];
        double share = total ? 100.0 * (double)loops[i].insns / (double)total : 0;
        if (h->report.json) {
            fprintf(f,
                    "%s\n  {\"end\": %" PRIu64 ", \"instructions\": %" PRIu64
                    ", \"iterations\": %" PRIu64 ", ",
                    i ? "," : "", loops[i].end, loops[i].insns, loops[i].iterations);
            report_place(f, w, loops[i].head, true);
            fprintf(f, "}");
            continue;
        }
        fprintf(f, "%6.2f%% %17s  ", share, report_number(loops[i].iterations, number));
        report_place(f, w, loops[i].head, false);
        fprintf(f, ", %" PRIx64 "-%" PRIx64 "\n", loops[i].head, loops[i].end);
    }
    if (h->report.json) fprintf(f, "]");
    free(loops);
}

static void write_blocks(dgm_watch *w, Hot *h, FILE *f, HotBlock *const *rows, size_t n,
                         uint64_t total) {
    enum { HOST_ROWS = 50 }; // of which a page has the host's code, too
    if (h->report.json)
        fprintf(f, "{\"tool\": \"hot\", \"instructions\": %" PRIu64 ", \"blocks\": [", total);
    else
        fprintf(f, "  share           entered  block\n");
    for (size_t i = 0; i < n && i < report_rows(&h->report, h->top) && rows[i]->n; i++) {
        const HotBlock *x = rows[i];
        char number[32];
        if (h->report.json) {
            fprintf(f, "%s\n  {\"entered\": %" PRIu64 ", \"size\": %u, ", i ? "," : "", x->n,
                    x->insns);
            report_place(f, w, x->address, true);
        } else {
            fprintf(f, "%6.2f%% %17s  ",
                    total ? 100.0 * (double)(x->n * x->insns) / (double)total : 0,
                    report_number(x->n, number));
            report_place(f, w, x->address, false);
            fprintf(f, ", %u instructions\n", x->insns);
        }
        if (h->code) write_code(w, f, x, h->report.json);
        if (h->code && h->report.page && i < HOST_ROWS) write_host(w, f, x);
        if (h->report.json) fprintf(f, "}");
    }
    if (h->report.json) fprintf(f, "]");
}

static void write_report(dgm_watch *w, FILE *f) {
    Hot *h = dgm_context(w);
    HotBlock **rows = calloc(h->n_blocks + 1, sizeof *rows);
    if (!rows) return;
    size_t n = 0;
    uint64_t total = 0;
    for (HotBlock *x = h->all; x; x = x->next) {
        x->n = dgm_counter_read(w, x->entered);
        total += x->n * x->insns;
        rows[n++] = x;
    }
    if (n) qsort(rows, n, sizeof *rows, by_share);
    write_blocks(w, h, f, rows, n, total);
    write_loops(w, h, f, rows, n, total);
    if (h->report.json) fprintf(f, "}\n");
    free(rows);
}

static void finish(dgm_watch *w, bool last) {
    Hot *h = dgm_context(w);
    report_write(&h->report, w, "hot", page_hot, write_report);
    (void)last;
}

static void release(dgm_watch *w) {
    Hot *h = dgm_context(w);
    if (!h) return;
    for (HotBlock *x = h->all, *next; x; x = next) {
        next = x->next;
        free(x->bytes);
        free(x);
    }
    map_free(&h->blocks);
    report_free(&h->report);
    free(h);
}

static const char *const options[] = {
    "top=N       so many blocks and loops (10)",
    "nocode      without the blocks' instructions",
    REPORT_OPTIONS,
    NULL,
};

const dgm_tool tool_hot = {
    .version = DGM_TOOL_VERSION,
    .name = "hot",
    .summary = "the hottest blocks and loops, with their code",
    .options = options,
    .start = start,
    .block = block,
    .finish = finish,
    .free = release,
};
