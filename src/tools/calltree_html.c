// calltree_html.c - a call tree as one HTML page: flame graph, functions, loops.
//
// The page itself is pages/profile.js, which says what it expects; this file writes the data beside
// it as JSON, in which no character ends the <script> element around it (calltree_put_json).
//
// A page must open in a second, so it does not get everything: stacks are of bounded depth
// (calltree_fold.c), of the nodes only the largest are kept, and a node's callers are always larger
// than it is, so what is left is a tree. Counts of functions are of the whole tree.
#include "calltree_internal.h"
#include "page.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { PAGE_DEPTH = 120, PAGE_NODES = 100000, PAGE_LINES = 20000, PAGE_LOOPS = 1000 };

// Instructions of one source line of a function.
typedef struct SourceLine {
    uint32_t function, file, line; // file: a number of Page.texts
    uint64_t insns;
} SourceLine;

typedef struct Page {
    const CallTree *tree; // as given
    const CallWalk *walk; // of it
    CallTree folded;      // what the graph shows
    CallWalk folded_walk; // of that
    uint32_t *numbers; // by node of the folded tree: its number in the page; UINT32_MAX: left out
    uint32_t dropped;
    bool deep; // some stacks were folded
    CallNames texts;
    SourceLine *lines;
    uint32_t n_lines;
    FILE *to;
} Page;

static int by_size(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? 1 : x > y ? -1 : 0;
}

// Numbers the nodes that are shown. Of nodes as large as the last one that would fit, all go or
// stay.
static bool number_nodes(Page *p) {
    uint32_t n = p->folded.n_nodes;
    p->numbers = calloc((size_t)n + 1, sizeof *p->numbers);
    if (!p->numbers) return false;
    uint64_t least = 0;
    if (n > PAGE_NODES) {
        uint64_t *sizes = malloc(n * sizeof *sizes);
        if (!sizes) return false;
        memcpy(sizes, p->folded_walk.inclusive, n * sizeof *sizes);
        qsort(sizes, n, sizeof *sizes, by_size);
        least = sizes[PAGE_NODES] + 1;
        free(sizes);
    }
    uint32_t kept = 0;
    for (uint32_t i = 0; i < n; i++)
        p->numbers[i] = i == 0 || p->folded_walk.inclusive[i] >= least ? kept++ : UINT32_MAX;
    p->dropped = n - kept;
    return true;
}

static bool number_texts(Page *p) {
    const CallTree *tree = p->tree;
    size_t room = 2 * (size_t)tree->n_functions + tree->n_lines + tree->n_loops + 1;
    CallNames *t = &p->texts;
    t->all = calloc(room, sizeof *t->all);
    if (!t->all) return false;
    for (uint32_t i = 0; i < tree->n_functions; i++) {
        if (tree->functions[i].module) t->all[t->n++] = tree->functions[i].module;
        if (tree->functions[i].file) t->all[t->n++] = tree->functions[i].file;
    }
    for (uint32_t i = 0; i < tree->n_lines; i++) // neighbours mostly share theirs
        if (tree->lines[i].file && (!i || tree->lines[i].file != tree->lines[i - 1].file))
            t->all[t->n++] = tree->lines[i].file;
    for (uint32_t i = 0; i < tree->n_loops; i++)
        if (tree->loops[i].file) t->all[t->n++] = tree->loops[i].file;
    if (t->n) calltree_names_sort(t);
    return true;
}

static int by_line(const void *a, const void *b) {
    const SourceLine *x = a, *y = b;
    if (x->function != y->function) return x->function < y->function ? -1 : 1;
    if (x->file != y->file) return x->file < y->file ? -1 : 1;
    return x->line < y->line ? -1 : x->line > y->line;
}

static int by_insns(const void *a, const void *b) {
    const SourceLine *x = a, *y = b;
    if (x->insns != y->insns) return x->insns < y->insns ? 1 : -1;
    return by_line(a, b);
}

// Adds addresses up to source lines, the most expensive first.
static bool find_lines(Page *p) {
    const CallTree *tree = p->tree;
    p->lines = calloc((size_t)tree->n_lines + 1, sizeof *p->lines);
    if (!p->lines) return false;
    uint32_t n = 0, kept = 0;
    for (uint32_t i = 0; i < tree->n_lines; i++) {
        const CallLine *l = &tree->lines[i];
        const char *file = l->file ? l->file : tree->functions[l->function].file;
        if (!l->line || !file || !l->insns) continue;
        p->lines[n++] =
            (SourceLine){l->function, calltree_names_find(&p->texts, file), l->line, l->insns};
    }
    qsort(p->lines, n, sizeof *p->lines, by_line);
    for (uint32_t i = 0; i < n; i++) {
        if (kept && !by_line(&p->lines[kept - 1], &p->lines[i]))
            p->lines[kept - 1].insns += p->lines[i].insns;
        else
            p->lines[kept++] = p->lines[i];
    }
    qsort(p->lines, kept, sizeof *p->lines, by_insns);
    p->n_lines = kept < PAGE_LINES ? kept : PAGE_LINES;
    return true;
}

static void put_text_number(const Page *p, const char *text) {
    if (text)
        fprintf(p->to, ",%" PRIu32, calltree_names_find(&p->texts, text));
    else
        fputs(",-1", p->to);
}

static void put_texts(const Page *p) {
    fputs("\"texts\":[", p->to);
    for (uint32_t i = 0; i < p->texts.n; i++) {
        if (i) fputs(",\n", p->to);
        calltree_put_json(p->to, p->texts.all[i]);
    }
    fputs("],\n", p->to);
}

static void put_functions(const Page *p) {
    fputs("\"functions\":[", p->to);
    for (uint32_t i = 0; i < p->tree->n_functions; i++) {
        const CallFunction *f = &p->tree->functions[i];
        const CallTotals *t = &p->walk->functions[i];
        char room[CALLTREE_NAME_ROOM];
        fputs(i ? ",\n[" : "[", p->to);
        calltree_put_json(p->to, calltree_name(p->tree, i, room));
        put_text_number(p, f->module);
        put_text_number(p, f->file);
        fprintf(p->to, ",%" PRIu32 ",", f->line);
        calltree_put_json_address(p->to, f->address);
        fprintf(p->to, ",%" PRIu64 ",%" PRIu64 ",%" PRIu64 "]", t->self, t->inclusive, t->calls);
    }
    fputs("],\n", p->to);
}

static void put_nodes(const Page *p) {
    fputs("\"nodes\":[", p->to);
    for (uint32_t i = 0; i < p->folded.n_nodes; i++) {
        const CallNode *n = &p->folded.nodes[i];
        if (p->numbers[i] == UINT32_MAX) continue;
        if (i)
            fprintf(p->to, ",\n%" PRIu32 ",%" PRIu32, n->function, p->numbers[n->parent]);
        else
            fputs("-1,-1", p->to);
        fprintf(p->to, ",%" PRIu64 ",%" PRIu64 ",%" PRIu64, n->calls, n->self_insns,
                p->folded_walk.inclusive[i]);
    }
    fputs("],\n", p->to);
}

static void put_lines(const Page *p) {
    fputs("\"lines\":[", p->to);
    for (uint32_t i = 0; i < p->n_lines; i++) {
        const SourceLine *l = &p->lines[i];
        fprintf(p->to, "%s%" PRIu32 ",%" PRIu32 ",%" PRIu32 ",%" PRIu64, i ? ",\n" : "",
                l->function, l->file, l->line, l->insns);
    }
    fputs("],\n", p->to);
}

static int by_loop_insns(const void *a, const void *b) {
    const CallLoop *x = a, *y = b;
    if (x->insns != y->insns) return x->insns < y->insns ? 1 : -1;
    return x->head < y->head ? -1 : x->head > y->head;
}

static bool put_loops(const Page *p) {
    uint32_t n = p->tree->n_loops;
    CallLoop *loops = calloc((size_t)n + 1, sizeof *loops);
    if (!loops) return false;
    if (n) memcpy(loops, p->tree->loops, n * sizeof *loops);
    qsort(loops, n, sizeof *loops, by_loop_insns);
    fputs("\"loops\":[", p->to);
    for (uint32_t i = 0; i < n && i < PAGE_LOOPS; i++) {
        const CallLoop *l = &loops[i];
        fprintf(p->to, "%s[%" PRIu32 ",", i ? ",\n" : "", l->function);
        calltree_put_json_address(p->to, l->head);
        putc(',', p->to);
        calltree_put_json_address(p->to, l->tail);
        put_text_number(p, l->file);
        fprintf(p->to, ",%" PRIu32 ",%" PRIu64 ",%" PRIu64 ",%" PRIu64 "]", l->line, l->iterations,
                l->entries, l->insns);
    }
    fputs("]", p->to);
    free(loops);
    return true;
}

static bool put_page(const Page *p) {
    const char *command = p->tree->command ? p->tree->command : "";
    PageHead head = {.tool = "profile",
                     .script = page_profile,
                     .program = command,
                     .command = command,
                     .pid = p->tree->pid};
    page_begin(p->to, &head);
    fputs("{\"tool\":\"profile\",\"command\":", p->to);
    calltree_put_json(p->to, p->tree->command);
    fprintf(p->to,
            ",\"pid\":%" PRIu32 ",\"insns\":%" PRIu64 ",\"folded\":%s,\"dropped\":%" PRIu32 ",\n",
            p->tree->pid, p->walk->functions[p->tree->n_functions].inclusive,
            p->deep ? "true" : "false", p->dropped);
    put_texts(p);
    put_functions(p);
    put_nodes(p);
    put_lines(p);
    bool ok = put_loops(p);
    fputs("}", p->to);
    page_end(p->to, &head);
    return ok;
}

bool calltree_write_html(const CallTree *tree, FILE *to) {
    CallWalk walk;
    if (!calltree_walk(tree, &walk)) return false;
    Page p = {.tree = tree, .walk = &walk, .to = to};
    bool ok = calltree_fold(tree, PAGE_DEPTH, false, &p.folded, &p.deep);
    if (!ok) p.folded.nodes = NULL;
    ok = ok && calltree_walk(&p.folded, &p.folded_walk) && number_nodes(&p) && number_texts(&p) &&
         find_lines(&p) && put_page(&p);
    free(p.numbers);
    free(p.texts.all);
    free(p.lines);
    free((void *)p.folded.nodes);
    calltree_walk_free(&p.folded_walk);
    calltree_walk_free(&walk);
    if (!ok) errno = ENOMEM;
    return ok && calltree_written(to);
}
