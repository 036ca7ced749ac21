// calltree_callgrind.c - a call tree in the format of valgrind's callgrind, version 1, for
// callgrind_annotate, kcachegrind and whatever else reads it.
//
// The format has functions, not stacks: under each function come its own instructions by address
// and line, then its calls, one entry for each place of a call and function called, with the number
// of calls and what they cost inclusively. Two things need care:
//   - Readers take the sum of a function's incoming calls as its inclusive count. So a call of a
//     function that is already on the stack has cost 0 here: its instructions are in the outermost
//     call, and each is counted once however deep the recursion.
//   - That holds only when every call is there, so the root is a function too, "(root)", that calls
//     where each thread began.
// Readers know a function by file and name. Those that share both get their address in the name, as
// they would be summed up otherwise.
//
// Every name is written once, as "(7) name", and as "(7)" from then on.
#include "calltree_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

typedef struct Edge {
    uint32_t caller, callee;
    uint64_t site, calls, insns;
} Edge;

// Names of one kind, and which of them the file has defined yet.
typedef struct Names {
    CallNames names;
    bool *said;
} Names;

typedef struct Writer {
    const CallTree *tree;
    const CallWalk *walk;
    FILE *to;
    Edge *edges; // sorted by caller, site, callee
    uint32_t n_edges;
    Names files, modules;
    bool *said;      // by function, the root included
    bool *ambiguous; // by function: another one has its file and name
    uint32_t *order; // room to sort functions in
} Writer;

static const char *known(const char *text) {
    return calltree_named(text) ? text : "???";
}

static const char *file_of(const CallTree *tree, uint32_t function) {
    return known(function < tree->n_functions ? tree->functions[function].file : NULL);
}

static const char *module_of(const CallTree *tree, uint32_t function) {
    return known(function < tree->n_functions ? tree->functions[function].module : NULL);
}

static uint64_t address_of(const CallTree *tree, uint32_t function) {
    return function < tree->n_functions ? tree->functions[function].address : 0;
}

// Numbers for names.

static bool names_number(Names *n) {
    calltree_names_sort(&n->names);
    n->said = calloc((size_t)n->names.n + 1, sizeof *n->said);
    return n->said != NULL;
}

static bool number_all(Writer *w) {
    const CallTree *tree = w->tree;
    CallNames *files = &w->files.names, *modules = &w->modules.names;
    files->all = calloc((size_t)tree->n_functions + tree->n_lines + 1, sizeof *files->all);
    modules->all = calloc((size_t)tree->n_functions + 1, sizeof *modules->all);
    if (!files->all || !modules->all) return false;
    for (uint32_t i = 0; i <= tree->n_functions; i++) {
        files->all[files->n++] = file_of(tree, i);
        modules->all[modules->n++] = module_of(tree, i);
    }
    for (uint32_t i = 0; i < tree->n_lines; i++) { // neighbours mostly share theirs
        const char *file = tree->lines[i].file;
        if (calltree_named(file) && (!i || file != tree->lines[i - 1].file))
            files->all[files->n++] = file;
    }
    return names_number(&w->files) && names_number(&w->modules);
}

static void put_name(Writer *w, const char *key, Names *names, const char *text) {
    uint32_t number = calltree_names_find(&names->names, text);
    fprintf(w->to, "%s=(%" PRIu32 ")", key, number + 1);
    if (!names->said[number]) {
        putc(' ', w->to);
        calltree_put_plain(w->to, text, "");
        names->said[number] = true;
    }
    putc('\n', w->to);
}

static void put_function(Writer *w, const char *key, uint32_t function) {
    fprintf(w->to, "%s=(%" PRIu32 ")", key, function + 1);
    if (!w->said[function]) {
        char room[CALLTREE_NAME_ROOM];
        putc(' ', w->to);
        calltree_put_plain(w->to, calltree_name(w->tree, function, room), "");
        if (w->ambiguous[function])
            fprintf(w->to, "@0x%" PRIx64 "#%" PRIu32, address_of(w->tree, function), function);
        w->said[function] = true;
    }
    putc('\n', w->to);
}

// Which functions share file and name.

static int by_identity(const void *a, const void *b, void *context) {
    const CallTree *tree = context;
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    char room_x[CALLTREE_NAME_ROOM], room_y[CALLTREE_NAME_ROOM];
    int order = strcmp(file_of(tree, x), file_of(tree, y));
    return order ? order : strcmp(calltree_name(tree, x, room_x), calltree_name(tree, y, room_y));
}

static void find_ambiguous(Writer *w) {
    CallTree *tree = (CallTree *)w->tree; // qsort_r's context is not const; by_identity only reads
    for (uint32_t i = 0; i <= tree->n_functions; i++) w->order[i] = i;
    qsort_r(w->order, (size_t)tree->n_functions + 1, sizeof *w->order, by_identity, tree);
    for (uint32_t i = 0; i < tree->n_functions; i++)
        if (!by_identity(&w->order[i], &w->order[i + 1], tree))
            w->ambiguous[w->order[i]] = w->ambiguous[w->order[i + 1]] = true;
}

// Calls.

static int by_place(const void *a, const void *b) {
    const Edge *x = a, *y = b;
    if (x->caller != y->caller) return x->caller < y->caller ? -1 : 1;
    if (x->site != y->site) return x->site < y->site ? -1 : 1;
    return x->callee < y->callee ? -1 : x->callee > y->callee;
}

static void find_edges(Writer *w) {
    const CallTree *tree = w->tree;
    for (uint32_t i = 1; i < tree->n_nodes; i++) {
        const CallNode *n = &tree->nodes[i];
        uint64_t insns = w->walk->outermost[i] ? w->walk->inclusive[i] : 0;
        if (n->calls || insns)
            w->edges[w->n_edges++] = (Edge){calltree_function(tree, n->parent), n->function,
                                            n->call_site, n->calls, insns};
    }
    if (!w->n_edges) return;
    qsort(w->edges, w->n_edges, sizeof *w->edges, by_place);
    uint32_t last = 0;
    for (uint32_t i = 1; i < w->n_edges; i++) {
        if (by_place(&w->edges[last], &w->edges[i])) {
            w->edges[++last] = w->edges[i];
        } else {
            w->edges[last].calls += w->edges[i].calls;
            w->edges[last].insns += w->edges[i].insns;
        }
    }
    w->n_edges = last + 1;
}

// What stands under a function. `file` is the one that lines are in at the moment.
static void put_file(Writer *w, uint32_t function, const char *wanted, const char **file) {
    if (!calltree_named(wanted)) wanted = file_of(w->tree, function);
    if (!strcmp(wanted, *file)) return;
    put_name(w, strcmp(wanted, file_of(w->tree, function)) ? "fi" : "fe", &w->files, wanted);
    *file = wanted;
}

// Its own instructions; returns how many that were.
static uint64_t put_lines(Writer *w, uint32_t function, const char **file) {
    const CallTree *tree = w->tree;
    uint64_t self = w->walk->functions[function].self, counted = 0;
    const CallLine *l = calltree_lines(tree, function), *end = tree->lines + tree->n_lines;
    for (; l < end && l->function == function; l++) {
        if (!l->insns) continue;
        put_file(w, function, l->file, file);
        fprintf(w->to, "0x%" PRIx64 " %" PRIu32 " %" PRIu64 "\n", l->address, l->line, l->insns);
        counted += l->insns;
    }
    if (counted >= self) return counted;
    put_file(w, function, NULL, file);
    fprintf(w->to, "0x%" PRIx64 " %" PRIu32 " %" PRIu64 "\n", address_of(tree, function),
            function < tree->n_functions ? tree->functions[function].line : 0, self - counted);
    return self;
}

static void put_call(Writer *w, const Edge *e, const char **file) {
    const CallTree *tree = w->tree;
    const CallFunction *callee = &tree->functions[e->callee];
    const CallLine *l = e->site ? calltree_line(tree, e->caller, e->site) : NULL;
    uint32_t line = l                               ? l->line
                    : e->caller < tree->n_functions ? tree->functions[e->caller].line
                                                    : 0;
    put_file(w, e->caller, l ? l->file : NULL, file);
    put_name(w, "cob", &w->modules, module_of(tree, e->callee));
    put_name(w, "cfi", &w->files, file_of(tree, e->callee));
    put_function(w, "cfn", e->callee);
    // A function that was running when counting began was not called; readers take calls=0 for
    // none.
    fprintf(w->to, "calls=%" PRIu64 " 0x%" PRIx64 " %" PRIu32 "\n", e->calls ? e->calls : 1,
            callee->address, callee->line);
    fprintf(w->to, "0x%" PRIx64 " %" PRIu32 " %" PRIu64 "\n",
            e->site ? e->site : address_of(tree, e->caller), line, e->insns);
}

static uint64_t put_body(Writer *w) {
    const CallTree *tree = w->tree;
    uint64_t total = 0;
    const Edge *e = w->edges, *end = w->edges + w->n_edges;
    for (uint32_t f = 0; f <= tree->n_functions; f++) {
        const CallLine *l = calltree_lines(tree, f);
        bool lines = l < tree->lines + tree->n_lines && l->function == f;
        if (!lines && !w->walk->functions[f].self && !(e < end && e->caller == f)) continue;
        const char *file = file_of(tree, f);
        putc('\n', w->to);
        put_name(w, "ob", &w->modules, module_of(tree, f));
        put_name(w, "fl", &w->files, file);
        put_function(w, "fn", f);
        total += put_lines(w, f, &file);
        for (; e < end && e->caller == f; e++) put_call(w, e, &file);
    }
    return total;
}

// What put_body will come to: `summary` stands before it. Lines that say more than the function's
// own count are believed, so that the sum is that of the file.
static uint64_t summary(const Writer *w) {
    const CallTree *tree = w->tree;
    uint64_t total = 0;
    uint32_t l = 0;
    for (uint32_t f = 0; f <= tree->n_functions; f++) {
        uint64_t counted = 0;
        for (; l < tree->n_lines && tree->lines[l].function == f; l++)
            counted += tree->lines[l].insns;
        total += counted > w->walk->functions[f].self ? counted : w->walk->functions[f].self;
    }
    return total;
}

static void put_all(Writer *w) {
    fprintf(w->to, "# callgrind format\nversion: 1\ncreator: dragoman\npid: %" PRIu32 "\ncmd: ",
            w->tree->pid);
    calltree_put_plain(w->to, w->tree->command ? w->tree->command : "?", "");
    fprintf(w->to,
            "\npart: 1\n\ndesc: Trigger: Program termination\n"
            "\npositions: instr line\nevents: Ir\nsummary: %" PRIu64 "\n",
            summary(w));
    fprintf(w->to, "\ntotals: %" PRIu64 "\n", put_body(w));
}

bool calltree_write_callgrind(const CallTree *tree, FILE *to) {
    CallWalk walk;
    if (!calltree_walk(tree, &walk)) return false;
    Writer w = {.tree = tree, .walk = &walk, .to = to};
    size_t functions = (size_t)tree->n_functions + 1;
    w.edges = calloc((size_t)tree->n_nodes + 1, sizeof *w.edges);
    w.said = calloc(functions, sizeof *w.said);
    w.ambiguous = calloc(functions, sizeof *w.ambiguous);
    w.order = calloc(functions, sizeof *w.order);
    bool ok = number_all(&w) && w.edges && w.said && w.ambiguous && w.order;
    if (ok) {
        find_ambiguous(&w);
        find_edges(&w);
        put_all(&w);
    }
    free(w.edges);
    free(w.said);
    free(w.ambiguous);
    free(w.order);
    free(w.files.names.all);
    free(w.files.said);
    free(w.modules.names.all);
    free(w.modules.said);
    calltree_walk_free(&walk);
    if (!ok) errno = ENOMEM;
    return ok && calltree_written(to);
}
