// profile.c - the `profile` tool: which function called which, and what that cost in instructions.
//
// The library follows calls in translated code (dgm_follow_calls) and keeps the tree; here it
// becomes a report.
//
// What each instruction cost comes from counters of blocks, loops from the backward branches among
// them.
#include "tools/calltree.h"
#include "tools/tools.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct Function {
    uint64_t low, high;   // high is low + 1 while nobody knows
    uint32_t index;       // in the finished tree
    uint64_t self, lined; // instructions there: by frames, by lines
    struct Function *next;
} Function;

typedef struct Block {
    uint64_t address, target; // target: of a backward branch
    uint32_t insns;
    uint16_t *offset; // of each instruction
    dgm_counter entered, taken;
    uint64_t n;
    struct Block *next;
} Block;

typedef struct Profile {
    int stderr_fd;
    bool lines, json;
    const char *out[5]; // by format
    dgm_call_tree *contexts;
    Map by_address;
    Function *functions;
    uint32_t n_functions;
    Map by_block;
    Block *blocks;
    size_t n_blocks;
    Report report;
} Profile;

static const struct {
    const char *key;
    bool (*write)(const CallTree *, FILE *);
} formats[] = {{"callgrind", calltree_write_callgrind},
               {"pprof", calltree_write_pprof},
               {"folded", calltree_write_folded},
               {"html", calltree_write_html}};
enum { N_FORMATS = sizeof formats / sizeof *formats };

static int start(dgm_watch *w) {
    Profile *p = calloc(1, sizeof *p);
    if (!p) return dgm_fail(w, -ENOMEM, "out of memory");
    dgm_set_context(w, p);
    for (unsigned i = 0; i < N_FORMATS; i++) {
        p->out[i] = dgm_option_path(w, formats[i].key);
        if (p->out[i] && !*p->out[i])
            return dgm_fail(w, -EINVAL, "%s=: no file is named", formats[i].key);
    }
    p->lines = !dgm_option(w, "nolines");
    p->contexts = dgm_call_tree_new(w);
    if (!p->contexts) return dgm_fail(w, -ENOMEM, "out of memory");
    return report_start(&p->report, w);
}

// ---- asking ----

static Block *block_at(dgm_watch *w, Profile *p, const dgm_block *b) {
    unsigned n = dgm_block_insns(b);
    Block **at = (Block **)map_at(&p->by_block, dgm_block_address(b) | (uint64_t)n << 52);
    if (!at || *at) return at ? *at : NULL;
    Block *x = *at = calloc(1, sizeof *x + n * sizeof *x->offset);
    if (!x) return NULL;
    const dgm_insn *last = dgm_block_insn(b, n - 1);
    *x = (Block){.address = dgm_block_address(b),
                 .insns = n,
                 .offset = (uint16_t *)(void *)(x + 1),
                 .entered = dgm_counter_new(w),
                 .next = p->blocks};
    for (unsigned i = 0; i < n; i++)
        x->offset[i] = (uint16_t)(dgm_block_insn(b, i)->address - x->address);
    bool jumps =
        last->classes & (DGM_CLASS_BRANCH | DGM_CLASS_JUMP) && !(last->classes & DGM_CLASS_CALL);
    if (jumps && last->target && last->target <= last->address) {
        x->target = last->target;
        x->taken = dgm_counter_new(w);
    }
    p->n_blocks++;
    return p->blocks = x;
}

static void block(dgm_watch *w, dgm_block *b) {
    Profile *p = dgm_context(w);
    unsigned n = dgm_block_insns(b);
    Block *x = p->lines ? block_at(w, p, b) : NULL;
    dgm_follow_calls(b, p->contexts);
    if (!x) return;
    dgm_at_count(b, 0, x->entered, 1);
    if (x->target) dgm_at_branch_count(b, n - 1, x->taken);
}

// ---- the finished tree ----

typedef struct Tree {
    CallTree t;
    CallFunction *functions;
    CallNode *nodes;
    CallLine *lines;
    CallLoop *loops;
    size_t cap_nodes, cap_lines;
    Function **sorted; // by address
    uint32_t n_sorted;
} Tree;

static int by_low(const void *a, const void *b) {
    const Function *x = *(Function *const *)a, *y = *(Function *const *)b;
    return x->low < y->low ? -1 : x->low > y->low;
}

static const char *keep_name(uint64_t address) {
    char *name = NULL;
    return asprintf(&name, "0x%" PRIx64, address) < 0 ? NULL : name;
}

static bool within(const Function *f, uint64_t address) {
    return address - f->low < f->high - f->low;
}

// The node that follows in an order in which parents come first; NULL behind the last.
static const dgm_call_node *next_node(const dgm_call_node *n) {
    if (n->child) return n->child;
    while (n && !n->sibling) n = n->parent;
    return n ? n->sibling : NULL;
}

// The functions that nodes are of.
static bool find_functions(Profile *p) {
    const dgm_call_node *root;
    for (uint32_t i = 0; (root = dgm_call_tree_root(p->contexts, i)); i++)
        for (const dgm_call_node *n = root->child; n; n = next_node(n)) {
            Function **at = (Function **)map_at(&p->by_address, n->low);
            if (!at) return false;
            if (*at) continue;
            Function *f = *at = calloc(1, sizeof *f);
            if (!f) return false;
            *f = (Function){.low = n->low, .high = n->high, .next = p->functions};
            p->functions = f;
            p->n_functions++;
        }
    return true;
}

// The last function is for what ran in none.
static bool tree_functions(dgm_watch *w, Profile *p, Tree *t) {
    t->functions = calloc(p->n_functions + 1u, sizeof *t->functions);
    t->sorted = calloc(p->n_functions + 1u, sizeof *t->sorted);
    if (!t->functions || !t->sorted) return false;
    for (Function *f = p->functions; f; f = f->next) t->sorted[t->n_sorted++] = f;
    if (t->n_sorted) qsort(t->sorted, t->n_sorted, sizeof *t->sorted, by_low);
    for (uint32_t i = 0; i < t->n_sorted; i++) {
        Function *f = t->sorted[i];
        f->index = i;
        f->self = f->lined = 0;
        dgm_symbol s;
        const dgm_module *m = dgm_module_at(w, f->low);
        CallFunction *c = &t->functions[i];
        *c = (CallFunction){.module = m ? m->path : NULL, .address = f->low};
        c->name = dgm_symbol_at(w, f->low, &s) ? s.name : keep_name(f->low);
        unsigned line;
        if (dgm_line_at(w, f->low, &c->file, &line)) c->line = line;
    }
    t->functions[t->n_sorted] = (CallFunction){.name = "(no function)"};
    t->t.functions = t->functions;
    t->t.n_functions = t->n_sorted + 1;
    return true;
}

static CallNode *add_node(Tree *t) {
    if (t->t.n_nodes == t->cap_nodes) {
        size_t cap = t->cap_nodes ? t->cap_nodes * 2 : 1024;
        CallNode *more = realloc(t->nodes, cap * sizeof *more);
        if (!more) return NULL;
        t->nodes = more;
        t->cap_nodes = cap;
    }
    t->t.nodes = t->nodes;
    return &t->nodes[t->t.n_nodes++];
}

// One thread's; *ids: which node of the finished tree each is.
static bool thread_nodes(Profile *p, Tree *t, const dgm_call_node *root, Map *ids) {
    CallNode *c;
    for (const dgm_call_node *n = root->child; n; n = next_node(n)) {
        Function *f = map_find(&p->by_address, n->low);
        void **id = map_at(ids, (uintptr_t)n);
        if (!id) return false;
        *id = (void *)(uintptr_t)t->t.n_nodes;
        uint32_t parent = (uint32_t)(uintptr_t)map_find(ids, (uintptr_t)n->parent); // the root: 0
        if (!(c = add_node(t))) return false;
        *c = (CallNode){f->index, parent, n->calls, n->self, n->site};
        f->self += n->self;
    }
    if (!root->self) return true;
    if (!(c = add_node(t))) return false;
    *c = (CallNode){t->n_sorted, 0, 1, root->self, 0};
    return true;
}

static bool tree_nodes(Profile *p, Tree *t) {
    CallNode *c = add_node(t);
    if (!c) return false;
    *c = (CallNode){.function = CALLTREE_ROOT};
    Map ids = {0};
    const dgm_call_node *root;
    bool ok = true;
    for (uint32_t i = 0; ok && (root = dgm_call_tree_root(p->contexts, i)); i++)
        ok = thread_nodes(p, t, root, &ids);
    map_free(&ids);
    return ok;
}

static Function *function_of(Tree *t, uint64_t address) {
    uint32_t lo = 0, hi = t->n_sorted;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (t->sorted[mid]->low <= address)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo && within(t->sorted[lo - 1], address) ? t->sorted[lo - 1] : NULL;
}

static int by_line(const void *a, const void *b) {
    const CallLine *x = a, *y = b;
    if (x->function != y->function) return x->function < y->function ? -1 : 1;
    return x->address < y->address ? -1 : x->address > y->address;
}

static bool block_lines(dgm_watch *w, Tree *t, const Block *b) {
    for (uint32_t i = 0; i < b->insns; i++) {
        uint64_t address = b->address + b->offset[i];
        Function *f = function_of(t, address);
        if (!f || !b->n || f->lined + b->n > f->self)
            continue; // what is over ran in no frame of it
        if (t->t.n_lines == t->cap_lines) {
            size_t cap = t->cap_lines ? t->cap_lines * 2 : 4096;
            CallLine *more = realloc(t->lines, cap * sizeof *more);
            if (!more) return false;
            t->lines = more;
            t->cap_lines = cap;
        }
        CallLine *l = &t->lines[t->t.n_lines++];
        *l = (CallLine){.function = f->index, .address = address, .insns = b->n};
        unsigned line;
        if (dgm_line_at(w, address, &l->file, &line)) l->line = line;
        f->lined += b->n;
    }
    return true;
}

// One line an address: blocks overlap where they are entered in the middle.
static bool tree_lines(dgm_watch *w, Profile *p, Tree *t) {
    for (Block *b = p->blocks; b; b = b->next)
        if (!block_lines(w, t, b)) return false;
    if (t->t.n_lines) qsort(t->lines, t->t.n_lines, sizeof *t->lines, by_line);
    uint32_t n = 0;
    for (uint32_t i = 0; i < t->t.n_lines; i++)
        if (n && !by_line(&t->lines[n - 1], &t->lines[i]))
            t->lines[n - 1].insns += t->lines[i].insns;
        else
            t->lines[n++] = t->lines[i];
    t->t.n_lines = n;
    t->t.lines = t->lines;
    return true;
}

// A loop is what lies between a backward branch and its target in one function; branches to one
// target are one loop.
static bool tree_loops(dgm_watch *w, Profile *p, Tree *t) {
    size_t cap = 0;
    for (Block *b = p->blocks; b; b = b->next) cap += b->target != 0;
    t->loops = calloc(cap + 1, sizeof *t->loops);
    Map heads = {0};
    if (!t->loops) return false;
    for (Block *b = p->blocks; b; b = b->next) {
        uint64_t tail = b->address + b->offset[b->insns - 1],
                 taken = b->target ? dgm_counter_read(w, b->taken) : 0;
        Function *f = taken ? function_of(t, b->target) : NULL;
        if (!f || !within(f, tail)) continue;
        CallLoop **at = (CallLoop **)map_at(&heads, b->target);
        if (!at) break;
        if (!*at) {
            *at = &t->loops[t->t.n_loops++];
            **at = (CallLoop){.function = f->index, .head = b->target};
            unsigned line;
            if (dgm_line_at(w, b->target, &(*at)->file, &line)) (*at)->line = line;
        }
        (*at)->iterations += taken; // and once for each time that it is entered from outside, below
        if (tail > (*at)->tail) (*at)->tail = tail;
    }
    for (Block *b = p->blocks; b; b = b->next) {
        CallLoop *l = map_find(&heads, b->address);
        if (l && b->n) l->entries += b->n;
    }
    map_free(&heads);
    for (uint32_t i = 0; i < t->t.n_loops; i++) {
        CallLoop *l = &t->loops[i];
        uint64_t entered = l->entries, back = l->iterations;
        l->iterations = entered > back ? entered : back;
        l->entries = entered > back ? entered - back : 0;
        for (Block *b = p->blocks; b; b = b->next)
            if (b->address >= l->head && b->address <= l->tail) l->insns += b->n * b->insns;
    }
    t->t.loops = t->loops;
    return true;
}

static bool write_format(Profile *p, unsigned format, const CallTree *t) {
    char *path = report_path(p->out[format]);
    FILE *f = path ? fopen(path, "we") : NULL;
    bool ok = f && formats[format].write(t, f);
    int e = errno;
    ok &= f && !fclose(f);
    if (!ok) dprintf(2, "dragoman: tool 'profile': %s: %s\n", p->out[format], strerror(e));
    free(path);
    return ok;
}

static void write_all(dgm_watch *w, Profile *p, const CallTree *t) {
    bool any = false;
    for (unsigned i = 0; i < N_FORMATS; i++)
        if (p->out[i]) any = true, write_format(p, i, t);
    if (any && !p->report.path && !p->report.json) return;
    FILE *f = report_begin(&p->report, w);
    if (!f) return;
    if (!(p->report.json ? calltree_write_json : calltree_write_text)(t, f))
        dprintf(2, "dragoman: tool 'profile': %s\n", strerror(errno));
    report_end(&p->report, w, f);
}

static void finish(dgm_watch *w, bool last) {
    Profile *p = dgm_context(w);
    Tree t = {.t = {.command = dgm_watch_program(w), .pid = (uint32_t)getpid()}};
    for (Block *b = p->blocks; b; b = b->next) b->n = dgm_counter_read(w, b->entered);
    bool ok = find_functions(p) && tree_functions(w, p, &t) && tree_nodes(p, &t) &&
              tree_lines(w, p, &t) && tree_loops(w, p, &t);
    if (ok)
        write_all(w, p, &t.t);
    else
        dprintf(2, "dragoman: tool 'profile': out of memory\n");
    for (uint32_t i = 0; t.functions && i < t.n_sorted; i++) {
        dgm_symbol s;
        if (!dgm_symbol_at(w, t.sorted[i]->low, &s)) free((char *)(uintptr_t)t.functions[i].name);
    }
    free(t.functions);
    free(t.sorted);
    free(t.nodes);
    free(t.lines);
    free(t.loops);
    (void)last;
}

static void release(dgm_watch *w) {
    Profile *p = dgm_context(w);
    if (!p) return;
    for (Function *f = p->functions, *next; f; f = next) {
        next = f->next;
        free(f);
    }
    for (Block *b = p->blocks, *next; b; b = next) {
        next = b->next;
        free(b);
    }
    map_free(&p->by_address);
    map_free(&p->by_block);
    report_free(&p->report);
    free(p);
}

static const char *const options[] = {
    "callgrind=FILE  for callgrind_annotate, KCachegrind, QCachegrind",
    "pprof=FILE      for pprof",
    "folded=FILE     stacks, a line each, for flamegraph.pl and speedscope",
    "html=FILE       a page with a flame graph that needs nothing else",
    "nolines         not which instruction cost what, and no loops: faster",
    "out=FILE        the table goes to FILE (%p in names: the process id), not to stderr",
    "json            the table as JSON",
    NULL,
};

const dgm_tool tool_profile = {
    .version = DGM_TOOL_VERSION,
    .name = "profile",
    .summary = "exact call graph with instruction counts, loops; callgrind, pprof, flame graph",
    .options = options,
    .start = start,
    .block = block,
    .finish = finish,
    .free = release,
};
