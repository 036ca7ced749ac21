// calltree.c - the plain formats of a call tree: folded stacks, a table for people, and JSON.
//
// JSON is the one that holds everything: nodes as they are, by index, so that depth is no matter.
// The others say what they leave out.
#include "calltree_internal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

// How many stacks of one depth are written in full (calltree_fold.c).
enum { FOLDED_DEPTH = 200 };
// Rows of the tables for people.
enum { TOP_FUNCTIONS = 50, TOP_LOOPS = 20 };

// Folded stacks: one line a stack, the outermost function first, for any flame graph program.

static void put_stack(const CallTree *tree, uint32_t node, FILE *to) {
    uint32_t stack[2 * FOLDED_DEPTH + 1], n = 0;
    do {
        stack[n++] = node;
        node = tree->nodes[node].parent;
    } while (node != 0);
    while (n) {
        char room[CALLTREE_NAME_ROOM];
        calltree_put_plain(to, calltree_name(tree, tree->nodes[stack[--n]].function, room), ";");
        if (n) putc(';', to);
    }
}

bool calltree_write_folded(const CallTree *tree, FILE *to) {
    CallWalk walk;
    if (!calltree_walk(tree, &walk)) return false; // only checks the tree
    calltree_walk_free(&walk);
    CallTree folded;
    bool deep;
    if (!calltree_fold(tree, FOLDED_DEPTH, false, &folded, &deep)) return false;
    for (uint32_t i = 0; i < folded.n_nodes; i++) {
        const CallNode *n = &folded.nodes[i];
        if (!n->self_insns) continue;
        if (i)
            put_stack(&folded, i, to);
        else
            fputs("(root)", to);
        fprintf(to, " %" PRIu64 "\n", n->self_insns);
    }
    free((void *)folded.nodes);
    return calltree_written(to);
}

// The table.

typedef struct Ranked {
    uint64_t by;
    uint32_t index;
} Ranked;

static int by_rank(const void *a, const void *b) {
    const Ranked *x = a, *y = b;
    if (x->by != y->by) return x->by < y->by ? 1 : -1;
    return x->index < y->index ? -1 : x->index > y->index;
}

// 1234567 as 1,234,567.
static const char *grouped(uint64_t value, char room[32]) {
    char digits[24];
    int n = snprintf(digits, sizeof digits, "%" PRIu64, value), at = 0;
    for (int i = 0; i < n; i++) {
        if (i && (n - i) % 3 == 0) room[at++] = ',';
        room[at++] = digits[i];
    }
    room[at] = 0;
    return room;
}

static double percent(uint64_t part, uint64_t whole) {
    return whole ? 100.0 * (double)part / (double)whole : 0;
}

static void put_place(const char *module, const char *file, uint32_t line, FILE *to) {
    const char *slash = module ? strrchr(module, '/') : NULL;
    if (module && *module) {
        fputs(" [", to);
        calltree_put_plain(to, slash && slash[1] ? slash + 1 : module, "");
        putc(']', to);
    }
    if (file && *file) {
        fputs("  ", to);
        calltree_put_plain(to, file, "");
        if (line) fprintf(to, ":%" PRIu32, line);
    }
    putc('\n', to);
}

static void put_functions(const CallTree *tree, const CallWalk *walk, Ranked *ranked, FILE *to) {
    uint64_t total = walk->functions[tree->n_functions].inclusive;
    uint32_t n = 0, active = 0;
    for (uint32_t i = 0; i <= tree->n_functions; i++) {
        const CallTotals *t = &walk->functions[i];
        if (i < tree->n_functions) active += t->inclusive || t->calls;
        if (t->self) ranked[n++] = (Ranked){t->self, i};
    }
    qsort(ranked, n, sizeof *ranked, by_rank);
    char a[32], b[32], c[32];
    fprintf(to, "%s instructions in %s functions\n", grouped(total, a), grouped(active, b));
    fprintf(to, "\n%7s %19s %7s %19s %15s  %s\n", "self", "instructions", "total", "instructions",
            "calls", "function");
    uint32_t shown = n < TOP_FUNCTIONS ? n : TOP_FUNCTIONS;
    uint64_t rest = total;
    for (uint32_t i = 0; i < shown; i++) {
        uint32_t index = ranked[i].index;
        const CallTotals *t = &walk->functions[index];
        char room[CALLTREE_NAME_ROOM];
        rest -= t->self;
        fprintf(to, "%6.2f%% %19s %6.2f%% %19s %15s  ", percent(t->self, total),
                grouped(t->self, a), percent(t->inclusive, total), grouped(t->inclusive, b),
                grouped(t->calls, c));
        calltree_put_plain(to, calltree_name(tree, index, room), "");
        const CallFunction *f = index < tree->n_functions ? &tree->functions[index] : NULL;
        put_place(f ? f->module : NULL, f ? f->file : NULL, f ? f->line : 0, to);
    }
    if (n > shown)
        fprintf(to, "%6.2f%% %19s %63s %s more\n", percent(rest, total), grouped(rest, a), "",
                grouped(n - shown, b));
}

static void put_loops(const CallTree *tree, uint64_t total, Ranked *ranked, FILE *to) {
    for (uint32_t i = 0; i < tree->n_loops; i++) ranked[i] = (Ranked){tree->loops[i].insns, i};
    qsort(ranked, tree->n_loops, sizeof *ranked, by_rank);
    fprintf(to, "\n%7s %19s %15s %15s %11s  %s\n", "loop", "instructions", "iterations", "entries",
            "an entry", "from - to");
    uint32_t shown = tree->n_loops < TOP_LOOPS ? tree->n_loops : TOP_LOOPS;
    for (uint32_t i = 0; i < shown; i++) {
        const CallLoop *l = &tree->loops[ranked[i].index];
        char a[32], b[32], c[32], room[CALLTREE_NAME_ROOM];
        double each = l->entries ? (double)l->iterations / (double)l->entries : 0;
        fprintf(to, "%6.2f%% %19s %15s %15s %11.1f  0x%" PRIx64 " - 0x%" PRIx64 " ",
                percent(l->insns, total), grouped(l->insns, a), grouped(l->iterations, b),
                grouped(l->entries, c), each, l->head, l->tail);
        calltree_put_plain(to, calltree_name(tree, l->function, room), "");
        put_place(tree->functions[l->function].module, l->file, l->line, to);
    }
    if (tree->n_loops > shown) fprintf(to, "and %" PRIu32 " more\n", tree->n_loops - shown);
}

bool calltree_write_text(const CallTree *tree, FILE *to) {
    CallWalk walk;
    if (!calltree_walk(tree, &walk)) return false;
    size_t rows = (size_t)tree->n_functions + 1;
    if (rows < tree->n_loops) rows = tree->n_loops;
    Ranked *ranked = calloc(rows, sizeof *ranked);
    if (ranked) {
        fputs("profile of ", to);
        calltree_put_plain(to, tree->command ? tree->command : "?", "");
        fprintf(to, ", process %" PRIu32 "\n", tree->pid);
        put_functions(tree, &walk, ranked, to);
        if (tree->n_loops) put_loops(tree, walk.functions[tree->n_functions].inclusive, ranked, to);
    }
    bool ok = ranked != NULL; // errno is calloc's
    free(ranked);
    calltree_walk_free(&walk);
    return ok && calltree_written(to);
}

// JSON: everything, for programs. Fields are described in docs/profile.md.

static void put_json_place(const char *file, uint32_t line, FILE *to) {
    fputs(",\"file\":", to);
    calltree_put_json(to, file);
    fprintf(to, ",\"line\":%" PRIu32, line);
}

static void put_json_functions(const CallTree *tree, const CallWalk *walk, FILE *to) {
    fputs("\"functions\":[", to);
    for (uint32_t i = 0; i < tree->n_functions; i++) {
        const CallFunction *f = &tree->functions[i];
        const CallTotals *t = &walk->functions[i];
        fputs(i ? ",\n{\"name\":" : "\n{\"name\":", to);
        calltree_put_json(to, f->name);
        fputs(",\"module\":", to);
        calltree_put_json(to, f->module);
        put_json_place(f->file, f->line, to);
        fputs(",\"address\":", to);
        calltree_put_json_address(to, f->address);
        fprintf(to, ",\"self\":%" PRIu64 ",\"inclusive\":%" PRIu64 ",\"calls\":%" PRIu64 "}",
                t->self, t->inclusive, t->calls);
    }
    fputs("],\n", to);
}

static void put_json_nodes(const CallTree *tree, const CallWalk *walk, FILE *to) {
    fputs("\"nodes\":[", to);
    for (uint32_t i = 0; i < tree->n_nodes; i++) {
        const CallNode *n = &tree->nodes[i];
        fputs(i ? ",\n" : "\n", to);
        if (i)
            fprintf(to, "{\"function\":%" PRIu32 ",\"parent\":%" PRIu32, n->function, n->parent);
        else
            fputs("{\"function\":null,\"parent\":null", to);
        fprintf(to, ",\"calls\":%" PRIu64 ",\"self\":%" PRIu64 ",\"inclusive\":%" PRIu64, n->calls,
                n->self_insns, walk->inclusive[i]);
        fputs(",\"call_site\":", to);
        if (n->call_site)
            calltree_put_json_address(to, n->call_site);
        else
            fputs("null", to);
        putc('}', to);
    }
    fputs("],\n", to);
}

static void put_json_lines(const CallTree *tree, FILE *to) {
    fputs("\"lines\":[", to);
    for (uint32_t i = 0; i < tree->n_lines; i++) {
        const CallLine *l = &tree->lines[i];
        fprintf(to, "%s{\"function\":%" PRIu32 ",\"address\":", i ? ",\n" : "\n", l->function);
        calltree_put_json_address(to, l->address);
        put_json_place(l->file, l->line, to);
        fprintf(to, ",\"insns\":%" PRIu64 "}", l->insns);
    }
    fputs("],\n", to);
}

static void put_json_loops(const CallTree *tree, FILE *to) {
    fputs("\"loops\":[", to);
    for (uint32_t i = 0; i < tree->n_loops; i++) {
        const CallLoop *l = &tree->loops[i];
        fprintf(to, "%s{\"function\":%" PRIu32 ",\"head\":", i ? ",\n" : "\n", l->function);
        calltree_put_json_address(to, l->head);
        fputs(",\"tail\":", to);
        calltree_put_json_address(to, l->tail);
        put_json_place(l->file, l->line, to);
        fprintf(to, ",\"iterations\":%" PRIu64 ",\"entries\":%" PRIu64 ",\"insns\":%" PRIu64 "}",
                l->iterations, l->entries, l->insns);
    }
    fputs("]", to);
}

bool calltree_write_json(const CallTree *tree, FILE *to) {
    CallWalk walk;
    if (!calltree_walk(tree, &walk)) return false;
    fputs("{\"format\":\"dragoman-profile\",\"version\":1,\n\"command\":", to);
    calltree_put_json(to, tree->command);
    fprintf(to, ",\"pid\":%" PRIu32 ",\"insns\":%" PRIu64 ",\n", tree->pid,
            walk.functions[tree->n_functions].inclusive);
    put_json_functions(tree, &walk, to);
    put_json_nodes(tree, &walk, to);
    put_json_lines(tree, to);
    put_json_loops(tree, to);
    fputs("}\n", to);
    calltree_walk_free(&walk);
    return calltree_written(to);
}
