// profile.c - the `profile` tool: which function called which, and what that cost in instructions.
//
// Translated code writes a record where a known function begins (with where it will return to) and
// where one returns; each thread follows its own with a stack of frames, and charges the
// instructions between two records to the frame on top. A function is known by its symbol; code
// without symbols is by being called: a record at the call says so.
//
// The stack stays right because nothing is believed: a function that begins with the return address
// of the frame on top was jumped to by that frame (a tail call); one that will return into a
// function further down was called after a longjmp (the frames between are gone); a return goes to
// the nearest frame that it fits. A signal handler returns to the kernel's trampoline like any
// call.
//
// What each instruction cost comes from counters of blocks, loops from the backward branches among
// them.
#include "tools/calltree.h"
#include "tools/tools.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_THREADS = 4096, BUFFER_RECORDS = 4096, MAX_DEPTH = 1 << 20 };
typedef enum Event { EVENT_ENTER, EVENT_CALL, EVENT_RETURN, EVENT_BITS = 2 } Event;

typedef struct Function {
    uint64_t low, high;   // high is low + 1 while nobody knows
    uint32_t index;       // in the finished tree
    uint64_t self, lined; // instructions there: by frames, by lines
    struct Function *next;
} Function;

typedef struct Node { // of one thread's tree
    Function *function;
    struct Node *parent, *child, *sibling;
    uint64_t site, calls, insns;
    uint32_t index;
} Node;

typedef struct Frame {
    uint64_t back, sp; // where it returns to; the stack pointer when it began
    Node *node;
    bool fresh; // pushed by a call; the function's own record may follow
} Frame;

typedef struct Thread {
    Node root;
    Frame *frames;
    uint32_t depth, cap;
    uint64_t last;  // instructions charged so far
    uint32_t floor; // frames below are those that a signal interrupted
} Thread;

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
    dgm_buffer *buffer;
    pthread_mutex_t lock; // functions (also of other threads' records)
    Map by_address;
    Function *functions;
    uint32_t n_functions;
    Map by_block;
    Block *blocks;
    size_t n_blocks;
    Thread *threads[MAX_THREADS];
    Report report;
} Profile;

static void follow(dgm_watch *w, uint32_t thread, const uint64_t *r, size_t n, void *data);

static const struct {
    const char *key;
    bool (*write)(const CallTree *, FILE *);
} formats[] = {{"callgrind", calltree_write_callgrind},
               {"pprof", calltree_write_pprof},
               {"folded", calltree_write_folded},
               {"html", calltree_write_html}};
enum { N_FORMATS = sizeof formats / sizeof *formats };

static int start(dgm_watch *w) {
    static const dgm_field fields[] = {DGM_F_DATA, DGM_F_INSNS, DGM_F_TARGET, DGM_F_RETURN,
                                       DGM_F_STACK};
    Profile *p = calloc(1, sizeof *p);
    if (!p) return dgm_fail(w, -ENOMEM, "out of memory");
    dgm_set_context(w, p);
    pthread_mutex_init(&p->lock, NULL);
    for (unsigned i = 0; i < N_FORMATS; i++) {
        p->out[i] = dgm_option(w, formats[i].key);
        if (p->out[i] && !*p->out[i])
            return dgm_fail(w, -EINVAL, "%s=: no file is named", formats[i].key);
    }
    p->lines = !dgm_option(w, "nolines");
    p->buffer = dgm_buffer_new(w, fields, 5, BUFFER_RECORDS, follow, 0, p);
    if (!p->buffer) return dgm_fail(w, -ENOMEM, "out of memory");
    dgm_want(w, DGM_COUNTS);
    return report_start(&p->report, w);
}

// ---- functions ----

// The function at this address, which is its first when no symbol says otherwise. Lock held.
static Function *function_at(dgm_watch *w, Profile *p, uint64_t address) {
    dgm_symbol s;
    bool named = dgm_symbol_at(w, address, &s);
    uint64_t low = named ? s.address : address;
    Function **at = (Function **)map_at(&p->by_address, low);
    if (!at || *at) return at ? *at : NULL;
    Function *f = *at = calloc(1, sizeof *f);
    if (!f) return NULL;
    uint64_t bytes = named && s.bytes ? s.bytes : 1;
    *f = (Function){.low = low, .high = low + bytes, .next = p->functions};
    p->n_functions++;
    return p->functions = f;
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

static void ask_calls(dgm_watch *w, Profile *p, dgm_block *b) {
    unsigned n = dgm_block_insns(b);
    const dgm_insn *last = dgm_block_insn(b, n - 1);
    uint64_t address = dgm_block_address(b);
    dgm_symbol s;
    if (dgm_symbol_at(w, address, &s) && s.address == address) {
        Function *f = function_at(w, p, address);
        if (f) dgm_at_record(b, 0, p->buffer, (uintptr_t)f | EVENT_ENTER);
    }
    if (last->classes & DGM_CLASS_RETURN) dgm_at_branch_record(b, n - 1, p->buffer, EVENT_RETURN);
    if (!(last->classes & DGM_CLASS_CALL)) return;
    bool known = last->target && dgm_symbol_at(w, last->target, &s) && s.address == last->target;
    if (!known) // low 48 bits of the call's own address
        dgm_at_branch_record(b, n - 1, p->buffer, last->address << EVENT_BITS | EVENT_CALL);
}

static void block(dgm_watch *w, dgm_block *b) {
    Profile *p = dgm_context(w);
    unsigned n = dgm_block_insns(b);
    pthread_mutex_lock(&p->lock);
    Block *x = p->lines ? block_at(w, p, b) : NULL;
    ask_calls(w, p, b);
    pthread_mutex_unlock(&p->lock);
    if (!x) return;
    dgm_at_count(b, 0, x->entered, 1);
    if (x->target) dgm_at_branch_count(b, n - 1, x->taken);
}

// ---- following ----

static Node *child_of(Node *parent, Function *f, uint64_t site) {
    Node **at = &parent->child;
    for (; *at; at = &(*at)->sibling)
        if ((*at)->function == f && (*at)->site == site) break;
    Node *n = *at;
    if (!n) {
        n = calloc(1, sizeof *n);
        if (!n) return parent;
        *n = (Node){.function = f, .parent = parent, .site = site};
    } else {
        *at = n->sibling;
    }
    n->sibling = parent->child; // what was called last is called next, as a rule
    parent->child = n;
    return n;
}

static Node *top(Thread *t) {
    return t->depth ? t->frames[t->depth - 1].node : &t->root;
}

static void push(Thread *t, Function *f, Frame frame, uint64_t site) {
    if (t->depth == t->cap) {
        uint32_t cap = t->cap ? t->cap * 2 : 256;
        Frame *more = cap <= MAX_DEPTH ? realloc(t->frames, cap * sizeof *more) : NULL;
        if (!more) return;
        t->frames = more;
        t->cap = cap;
    }
    frame.node = child_of(top(t), f, site);
    frame.node->calls++;
    t->frames[t->depth++] = frame;
}

static bool within(const Function *f, uint64_t address) {
    return f && address - f->low < f->high - f->low;
}

// Frames that a longjmp or a switch of stacks has left: the stack pointer is above where they
// began, or there again and the call comes from elsewhere. Not beyond a signal's: its handler may
// have another stack.
static void drop_left(Thread *t, uint64_t back, uint64_t sp) {
    for (; t->depth > t->floor; t->depth--) {
        const Frame *last = &t->frames[t->depth - 1];
        const Function *f = last->node->function;
        if (last->sp > sp) return;
        if (last->sp == sp && (last->back == back || within(f, back - 1) || f->high == f->low + 1))
            return;
    }
}

// When a handler was left by longjmp: the newest frame below it that the call can have come from.
static void leave_handler(Thread *t, uint64_t back, uint64_t sp) {
    if (!t->floor || within(top(t)->function, back - 1)) return;
    for (uint32_t i = t->floor; i-- > 0;)
        if (t->frames[i].sp > sp && within(t->frames[i].node->function, back - 1)) {
            t->depth = i + 1;
            t->floor = 0;
            return;
        }
}

// A function begins that will return to `back`.
static void enter(Thread *t, Function *f, uint64_t back, uint64_t sp) {
    drop_left(t, back, sp);
    leave_handler(t, back, sp);
    Frame *last = t->depth ? &t->frames[t->depth - 1] : NULL;
    Frame frame = {.back = back, .sp = sp};
    if (last && last->back == back && last->sp == sp && t->depth > t->floor) {
        // its call has been seen, or the frame has jumped: to the very beginning, or elsewhere
        last->fresh = false;
        if (last->node->function == f) return;
        uint64_t site = last->node->site;
        t->depth--;
        push(t, f, frame, site);
        return;
    }
    push(t, f, frame, back - 4);
}

static void leave(Thread *t, uint64_t to) {
    for (uint32_t i = t->depth; i-- > 0;)
        if (t->frames[i].back == to) {
            t->depth = i;
            if (t->depth < t->floor) t->floor = 0;
            return;
        }
}

static void follow(dgm_watch *w, uint32_t thread, const uint64_t *r, size_t n, void *data) {
    Profile *p = data;
    Thread *t = thread < MAX_THREADS ? p->threads[thread] : NULL;
    if (!t) return;
    for (const uint64_t *end = r + 5 * n; r < end; r += 5) {
        top(t)->insns += r[1] - t->last;
        t->last = r[1];
        uint64_t what = r[0] >> EVENT_BITS;
        switch ((Event)(r[0] & ((1 << EVENT_BITS) - 1))) {
        case EVENT_ENTER: enter(t, (Function *)(uintptr_t)(what << EVENT_BITS), r[3], r[4]); break;
        case EVENT_CALL: {
            pthread_mutex_lock(&p->lock);
            Function *f = function_at(w, p, r[2]);
            pthread_mutex_unlock(&p->lock);
            drop_left(t, what + 4, r[4]);
            if (f) push(t, f, (Frame){.back = what + 4, .sp = r[4], .fresh = true}, what);
            break;
        }
        default: leave(t, r[2]); break;
        }
    }
}

// ---- threads ----

static void thread_start(dgm_watch *w, dgm_vcpu *v) {
    Profile *p = dgm_context(w);
    uint32_t i = dgm_vcpu_thread(v);
    if (i < MAX_THREADS) p->threads[i] = calloc(1, sizeof(Thread));
}

// The frames so far were interrupted.
static void signal_begins(dgm_watch *w, dgm_vcpu *v, int signo) {
    Profile *p = dgm_context(w);
    uint32_t i = dgm_vcpu_thread(v);
    dgm_buffer_flush(v, p->buffer);
    if (i < MAX_THREADS && p->threads[i]) p->threads[i]->floor = p->threads[i]->depth;
    (void)signo;
}

static void settle(Thread *t, dgm_vcpu *v) {
    uint64_t now = dgm_vcpu_insns(v);
    top(t)->insns += now - t->last;
    t->last = now;
}

static void thread_end(dgm_watch *w, dgm_vcpu *v) {
    Profile *p = dgm_context(w);
    uint32_t i = dgm_vcpu_thread(v);
    if (i < MAX_THREADS && p->threads[i]) settle(p->threads[i], v);
}

// The node that follows in an order in which parents come first; NULL behind the last.
static Node *next_node(Node *n) {
    if (n->child) return n->child;
    while (n && !n->sibling) n = n->parent;
    return n ? n->sibling : NULL;
}

// The child goes on in the middle of the parent's calls, but what they cost was the parent's.
static void forked(dgm_watch *w, dgm_vcpu *v) {
    Profile *p = dgm_context(w);
    pthread_mutex_init(&p->lock, NULL);
    Thread *mine = NULL;
    for (unsigned i = 0; i < MAX_THREADS; i++) {
        Thread *t = p->threads[i];
        if (t && t->depth && !mine) mine = t;
        p->threads[i] = NULL;
    }
    p->threads[0] = mine ? mine : calloc(1, sizeof(Thread));
    if (!p->threads[0]) return;
    for (Node *n = &p->threads[0]->root; n; n = next_node(n)) n->calls = n->insns = 0;
    p->threads[0]->last = 0;
    (void)v;
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

static bool tree_nodes(Profile *p, Tree *t) {
    CallNode *c = add_node(t);
    if (!c) return false;
    *c = (CallNode){.function = CALLTREE_ROOT};
    for (unsigned i = 0; i < MAX_THREADS; i++) {
        Thread *thread = p->threads[i];
        if (!thread) continue;
        thread->root.index = 0;
        for (Node *n = thread->root.child; n; n = next_node(n)) {
            n->index = t->t.n_nodes;
            if (!(c = add_node(t))) return false;
            *c = (CallNode){n->function->index, n->parent->index, n->calls, n->insns, n->site};
            n->function->self += n->insns;
        }
        if (!thread->root.insns) continue;
        if (!(c = add_node(t))) return false;
        *c = (CallNode){t->n_sorted, 0, 1, thread->root.insns, 0};
    }
    return true;
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
    bool ok = tree_functions(w, p, &t) && tree_nodes(p, &t) && tree_lines(w, p, &t) &&
              tree_loops(w, p, &t);
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

static void free_nodes(Thread *t) {
    Node *n = t->root.child;
    while (n) { // a node without children goes, then its sibling's turn comes, then its parent's
        while (n->child) n = n->child;
        Node *parent = n->parent, *next = n->sibling;
        parent->child = next;
        free(n);
        n = next ? next : parent == &t->root ? NULL : parent;
    }
    free(t->frames);
    free(t);
}

static void release(dgm_watch *w) {
    Profile *p = dgm_context(w);
    if (!p) return;
    for (unsigned i = 0; i < MAX_THREADS; i++)
        if (p->threads[i]) free_nodes(p->threads[i]);
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
    .thread_start = thread_start,
    .thread_end = thread_end,
    .signal = signal_begins,
    .forked = forked,
    .finish = finish,
    .free = release,
};
