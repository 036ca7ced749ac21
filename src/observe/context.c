// context.c - who called whom: each thread's stack of calls, which is a path in its tree of calling
// contexts.
//
// Translated code (weave.c) does what is usual: a function that begins deeper in the stack than the
// one on top and by an edge that was used lately is pushed; a return to where the frame on top
// returns to pops it; each charges the instructions since the last to the node on top. Where
// something is otherwise it calls a function below, which makes it usual and lets the code go on.
//
// The stack stays right because nothing is believed: a function that begins with the return address
// and stack pointer of the frame on top was jumped to by that frame (a tail call); one whose stack
// pointer is above where frames began was called after they were left (longjmp); a return goes to
// the nearest frame that it fits. Below a signal's handler lies a frame that nothing fits.
//
// A function is known by its symbol, and says itself that it begins. One without is known by being
// called: if its code has been shown already it is pushed at its calls.
#include "observe/observe.h"

#include <stdlib.h>

enum {
    MAX_FRAMES = 1 << 20,
    SPARE_FRAMES = 2,    // behind the limit: what is pushed there is lost
    MANY_NODES = 200000, // from there on all recursion goes back
};
#define NO_BACK     1ull              // no code is there
#define ABOVE_STACK (UINT64_MAX >> 2) // a stack pointer that none reaches

typedef struct ContextThread {
    uint32_t thread, call_bytes; // call_bytes: of a call at least
    ContextFrame *frames;
    ContextEdge *edges;
    uint64_t *targets;
    size_t n_nodes;
    Arena arena;
    dgm_call_node root;
    ContextFrame *signal; // the newest of those, if it is still there
    struct ContextThread *next;
} ContextThread;

static const size_t frames_bytes = (MAX_FRAMES + SPARE_FRAMES) * sizeof(ContextFrame);

static uint64_t *slot_of(const dgm_call_tree *c, VcpuHot *hot, unsigned which) {
    return vcpu_slot(hot, c->slot + which);
}
static ContextThread *thread_of(const dgm_call_tree *c, VcpuHot *hot) {
    return (ContextThread *)(uintptr_t)*slot_of(c, hot, CONTEXT_THREAD);
}
static ContextFrame *top_of(const dgm_call_tree *c, VcpuHot *hot) {
    return (ContextFrame *)(uintptr_t)*slot_of(c, hot, CONTEXT_TOP);
}
static void set_top(const dgm_call_tree *c, VcpuHot *hot, ContextFrame *f) {
    *slot_of(c, hot, CONTEXT_TOP) = (uintptr_t)f;
}

// ---- functions without symbols ----

typedef enum CalleeKind { CALLEE_SEEN = 1, CALLEE_SAYS, CALLEE_PUSHED } CalleeKind;

struct ContextCallees { // by address; open addressing
    struct {
        uint64_t address;
        CalleeKind kind;
    } * at;
    size_t n, cap;
};

static CalleeKind *callee_at(struct ContextCallees *s, uint64_t address) {
    if (s->n * 2 >= s->cap) {
        struct ContextCallees more = {.cap = s->cap ? s->cap * 2 : 1024};
        more.at = calloc(more.cap, sizeof *more.at);
        if (!more.at) return NULL;
        for (size_t i = 0; i < s->cap; i++)
            if (s->at[i].kind) *callee_at(&more, s->at[i].address) = s->at[i].kind;
        more.n = s->n;
        free(s->at);
        *s = more;
    }
    size_t i = (address * 0x9e3779b97f4a7c15u) >> 20;
    for (;; i++) {
        i &= s->cap - 1;
        if (s->at[i].kind && s->at[i].address != address) continue;
        s->n += !s->at[i].kind;
        s->at[i].address = address;
        return &s->at[i].kind;
    }
}

// The symbol that begins here.
static bool begins(dgm_watch *w, uint64_t address, uint64_t *high) {
    dgm_symbol s;
    if (!dgm_symbol_at(w, address, &s) || s.address != address) return false;
    *high = address + (s.bytes ? s.bytes : 1);
    return true;
}

// Somebody calls this address: whether the function there says itself that it begins.
static bool says_itself(dgm_call_tree *c, uint64_t address) {
    uint64_t high;
    if (begins(c->ws->first, address, &high)) return true;
    pthread_mutex_lock(&c->lock);
    CalleeKind *k = callee_at(c->callees, address);
    if (k && *k != CALLEE_SAYS) *k = *k ? CALLEE_PUSHED : CALLEE_SAYS;
    bool says = k && *k == CALLEE_SAYS;
    pthread_mutex_unlock(&c->lock);
    return says;
}

// This code is about to be translated: whether it says that a function begins.
static bool shown(dgm_call_tree *c, uint64_t address, uint64_t *high) {
    if (begins(c->ws->first, address, high)) return true;
    *high = address + 1;
    pthread_mutex_lock(&c->lock);
    CalleeKind *k = callee_at(c->callees, address);
    if (k && !*k) *k = CALLEE_SEEN;
    bool says = k && *k == CALLEE_SAYS;
    pthread_mutex_unlock(&c->lock);
    return says;
}

// ---- asking ----

static void ask(dgm_block *b, unsigned insn, RequestKind kind, CallSite what) {
    CallSite *site = arena_alloc(&b->ws->keep, sizeof *site);
    if (!site) {
        b->failed = true;
        return;
    }
    *site = what;
    bool before = kind == ASK_ENTER;
    plan_ask(b, insn,
             (Request){.kind = (uint8_t)kind,
                       .when = before ? BEFORE_INSN : AT_BRANCH,
                       .contexts = what.contexts,
                       .data = site});
}

// A block that has no name, is called, and only goes on to where a pointer says is a linker's stub:
// what it goes to is what was called.
static bool is_stub(dgm_call_tree *c, const dgm_block *b) {
    uint32_t classes = b->insns[b->n_insns - 1].classes;
    uint64_t high;
    return classes & DGM_CLASS_INDIRECT && !(classes & (DGM_CLASS_CALL | DGM_CLASS_RETURN)) &&
           !begins(c->ws->first, b->address, &high);
}

// A jump to where a function begins, from another one or from its own end: the frame of the one
// that jumps is gone when it begins.
static void follow_jump(dgm_block *b, dgm_call_tree *c, unsigned last) {
    const dgm_insn *n = &b->insns[last];
    CallSite site = {.contexts = c, .low = n->target};
    dgm_symbol own;
    if (!begins(c->ws->first, n->target, &site.high) ||
        !dgm_symbol_at(c->ws->first, n->address, &own))
        return;
    site.back = own.address;
    ask(b, last, ASK_JUMP, site);
}

void dgm_follow_calls(dgm_block *b, dgm_call_tree *c) {
    unsigned last = b->n_insns - 1;
    const dgm_insn *n = &b->insns[last];
    CallSite site = {.contexts = c, .low = b->address, .back = n->address + n->size};
    if (shown(c, b->address, &site.high) && !is_stub(c, b)) ask(b, 0, ASK_ENTER, site);
    if (n->classes & DGM_CLASS_RETURN) ask(b, last, ASK_LEAVE, site);
    if (!(n->classes & DGM_CLASS_CALL)) {
        if (n->target) follow_jump(b, c, last);
        return;
    }
    site.low = n->target;
    site.high = n->target + 1;
    if (!n->target)
        ask(b, last, ASK_INDIRECT, site);
    else if (!says_itself(c, n->target))
        ask(b, last, ASK_PUSH, site);
}

// ---- the tree ----

static dgm_call_node *node_new(ContextThread *t, dgm_call_node what) {
    dgm_call_node *n = arena_alloc(&t->arena, ALIGN_UP(sizeof *n, 64) + 64);
    if (!n) return NULL;
    n = (dgm_call_node *)ALIGN_UP((uintptr_t)n, 64); // context_hash() counts in lines
    *n = what;
    n->sibling = n->parent->child;
    n->parent->child = n;
    t->n_nodes++;
    return n;
}

// Where recursion goes back to: the call is on the path already; in large trees, the function.
static dgm_call_node *on_path(const ContextThread *t, dgm_call_node *from, uint64_t low,
                              uint64_t back) {
    bool any = t->n_nodes > MANY_NODES;
    for (dgm_call_node *n = from; n->parent; n = n->parent)
        if (n->low == low && (any || n->back == back)) return n;
    return NULL;
}

static dgm_call_node *child_of(ContextThread *t, dgm_call_node *from, uint64_t low, uint64_t high,
                               uint64_t back) {
    for (dgm_call_node *n = from->child; n; n = n->sibling)
        if (n->low == low && n->back == back) return n;
    dgm_call_node *n = on_path(t, from, low, back);
    if (!n)
        n = node_new(t, (dgm_call_node){.parent = from,
                                        .low = low,
                                        .high = high,
                                        .back = back,
                                        .site = back - t->call_bytes});
    return n ? n : from; // out of memory: it is the caller's
}

static dgm_call_node *edge(ContextThread *t, dgm_call_node *from, uint64_t low, uint64_t high,
                           uint64_t back) {
    ContextEdge *e = (ContextEdge *)((char *)t->edges + context_hash((uintptr_t)from, back, low));
    if (e->from != from || e->back != back || e->low != low)
        *e = (ContextEdge){from, back, low, child_of(t, from, low, high, back)};
    return e->to;
}

static bool within(const dgm_call_node *n, uint64_t address) {
    return address - n->low < n->high - n->low;
}
static bool is_signal(const ContextFrame *f) {
    return f->sp == ABOVE_STACK;
}

// ---- what is unusual ----

// Frames that a longjmp or a switch of stacks has left: the stack pointer is above where they
// began, or there again and the call comes from elsewhere. Not beyond a signal's: its handler may
// have another stack.
static ContextFrame *drop_left(ContextFrame *top, uint64_t back, uint64_t sp) {
    for (; top->sp <= sp; top--) {
        const dgm_call_node *n = top->node;
        if (top->sp == sp && (top->back == back || within(n, back - 1) || n->high == n->low + 1))
            break;
    }
    return top;
}

// When a handler was left by longjmp: the newest frame below it that the call can have come from.
static ContextFrame *leave_handler(const ContextThread *t, ContextFrame *top, uint64_t back,
                                   uint64_t sp) {
    ContextFrame *f = t->signal;
    if (!f || f > top || !is_signal(f) || within(top->node, back - 1)) return top;
    for (; f > t->frames; f--)
        if (!is_signal(f) && f->sp > sp && within(f->node, back - 1)) return f;
    return top;
}

// Makes the stack such that this call can be pushed.
static ContextFrame *settle_call(dgm_call_tree *c, VcpuHot *hot, uint64_t back, uint64_t sp) {
    ContextThread *t = thread_of(c, hot);
    ContextFrame *top = drop_left(top_of(c, hot), back, sp);
    top = leave_handler(t, top, back, sp);
    if (top - t->frames >= MAX_FRAMES) top--; // too deep: the frame on top stands for all above
    set_top(c, hot, top);
    return top;
}

static bool same_call(const ContextFrame *f, uint64_t back, uint64_t sp) {
    return f->back == back && f->sp == sp;
}

static uint64_t get_field(VcpuHot *hot, const Watches *ws, unsigned field) {
    uint64_t v;
    memcpy(&v, (char *)(hot + 1) + ws->guest->fields[field].offset, sizeof v);
    return v;
}

// What weave.c has looked at is put where it looks again: it pushes *e->to for the edge e.
void context_enter(void *state, uint64_t arg) {
    VcpuHot *hot = vcpu_hot(state);
    const CallSite *site = (const CallSite *)(uintptr_t)arg;
    dgm_call_tree *c = site->contexts;
    ContextThread *t = thread_of(c, hot);
    uint64_t back = get_field(hot, c->ws, c->ws->guest->linux_abi->link),
             sp = get_field(hot, c->ws, c->ws->guest->linux_abi->sp);
    ContextEdge *looked =
        (ContextEdge *)((char *)t->edges +
                        context_hash((uintptr_t)top_of(c, hot)->node, back, site->low));
    ContextFrame *top = settle_call(c, hot, back, sp);
    dgm_call_node *to, *from = top->node;
    if (same_call(top, back, sp) && top > t->frames) {
        // its call has been seen, or the frame has jumped: to the very beginning, or elsewhere
        set_top(c, hot, top - 1);
        bool again = from->low == site->low;
        from = again || !from->parent ? from : from->parent;
        to = again ? from : edge(t, from, site->low, site->high, back);
        to->calls -= again;
    } else {
        to = edge(t, from, site->low, site->high, back);
    }
    if (looked->to != to) *looked = (ContextEdge){.from = NULL, .to = to}; // for this time
}

void context_leave(void *state, uint64_t arg) {
    VcpuHot *hot = vcpu_hot(state);
    dgm_call_tree *c = ((const CallSite *)(uintptr_t)arg)->contexts;
    ContextThread *t = thread_of(c, hot);
    uint64_t to = *slot_of(c, hot, CONTEXT_WHERE_TO);
    ContextFrame *top = top_of(c, hot), *f = top;
    while (f > t->frames && f->back != to) f--;
    if (f == t->frames) { // it fits none: one for it to leave
        f = top + 1;
        *f = (ContextFrame){.back = to, .node = top->node};
    }
    set_top(c, hot, f);
}

// To the node on top, what was executed before the count got to `now`.
static void charge(dgm_call_tree *c, VcpuHot *hot, uint64_t now) {
    uint64_t *last = slot_of(c, hot, CONTEXT_LAST);
    top_of(c, hot)->node->self += now - *last;
    *last = now;
}

// The call itself is the caller's.
static void push(const CallSite *site, VcpuHot *hot, uint64_t low) {
    dgm_call_tree *c = site->contexts;
    uint64_t back = site->back;
    charge(c, hot, vcpu_insns(hot) - site->ahead + 1);
    uint64_t sp = get_field(hot, c->ws, c->ws->guest->linux_abi->sp);
    ContextFrame *top = settle_call(c, hot, back, sp);
    dgm_call_node *n = edge(thread_of(c, hot), top->node, low, low + 1, back);
    n->calls++;
    top[1] = (ContextFrame){.back = back, .sp = sp, .node = n};
    set_top(c, hot, top + 1);
}

void context_push(void *state, uint64_t arg) {
    const CallSite *site = (const CallSite *)(uintptr_t)arg;
    push(site, vcpu_hot(state), site->low);
}

void context_indirect(void *state, uint64_t arg) {
    VcpuHot *hot = vcpu_hot(state);
    const CallSite *site = (const CallSite *)(uintptr_t)arg;
    uint64_t to = *slot_of(site->contexts, hot, CONTEXT_WHERE_TO);
    uint64_t *known =
        (uint64_t *)((char *)thread_of(site->contexts, hot)->targets + context_target_hash(to));
    if (says_itself(site->contexts, to))
        *known = to;
    else
        push(site, hot, to);
}

// ---- threads ----

static void thread_close(ContextThread *t) {
    pages_free(t->frames, frames_bytes);
    pages_free(t->edges, CONTEXT_EDGES * sizeof *t->edges);
    pages_free(t->targets, CONTEXT_TARGETS * sizeof *t->targets);
    t->frames = NULL;
    t->edges = NULL;
    t->targets = NULL;
}

static bool thread_open(dgm_call_tree *c, VcpuHot *hot) {
    ContextThread *t = aligned_alloc(64, ALIGN_UP(sizeof *t, 64));
    if (!t) return false;
    *t = (ContextThread){.thread = (uint32_t)*vcpu_slot(hot, SLOT_THREAD),
                         .call_bytes = c->ws->guest->min_insn_bytes};
    t->frames = pages_reserve(frames_bytes);
    t->edges = pages_reserve(CONTEXT_EDGES * sizeof *t->edges);
    t->targets = pages_reserve(CONTEXT_TARGETS * sizeof *t->targets);
    if (!t->frames || !t->edges || !t->targets) {
        thread_close(t);
        free(t);
        return false;
    }
    t->frames[0] = (ContextFrame){.back = NO_BACK, .sp = ABOVE_STACK, .node = &t->root};
    *slot_of(c, hot, CONTEXT_THREAD) = (uintptr_t)t;
    *slot_of(c, hot, CONTEXT_LIMIT) = (uintptr_t)(t->frames + MAX_FRAMES - 1);
    *slot_of(c, hot, CONTEXT_EDGE_TABLE) = (uintptr_t)t->edges;
    *slot_of(c, hot, CONTEXT_TARGET_TABLE) = (uintptr_t)t->targets;
    set_top(c, hot, t->frames);
    pthread_mutex_lock(&c->lock);
    t->next = c->threads;
    c->threads = t;
    pthread_mutex_unlock(&c->lock);
    return true;
}

bool contexts_open(Watches *ws, VcpuHot *hot) {
    for (dgm_call_tree *c = ws->contexts; c; c = c->next)
        if (!thread_open(c, hot)) return false;
    return true;
}

void contexts_close(Watches *ws, VcpuHot *hot) {
    for (dgm_call_tree *c = ws->contexts; c; c = c->next) {
        ContextThread *t = thread_of(c, hot);
        if (!t) continue;
        charge(c, hot, vcpu_insns(hot));
        thread_close(t);
        *slot_of(c, hot, CONTEXT_THREAD) = 0;
    }
}

// What has been interrupted stays on top of the path: what the handler calls are its children.
void contexts_signal(Watches *ws, VcpuHot *hot) {
    for (dgm_call_tree *c = ws->contexts; c; c = c->next) {
        ContextThread *t = thread_of(c, hot);
        if (!t) continue;
        charge(c, hot, vcpu_insns(hot));
        ContextFrame *top = top_of(c, hot);
        if (is_signal(top) || top - t->frames >= MAX_FRAMES) continue;
        top[1] = (ContextFrame){.back = NO_BACK, .sp = ABOVE_STACK, .node = top->node};
        set_top(c, hot, top + 1);
        t->signal = top + 1;
    }
}

void contexts_settle(Watches *ws, VcpuHot *hot) {
    for (dgm_call_tree *c = ws->contexts; c; c = c->next)
        if (thread_of(c, hot)) charge(c, hot, vcpu_insns(hot));
}

// The child goes on in the middle of the parent's calls, but what they cost was the parent's.
void contexts_forked(Watches *ws, VcpuHot *hot) {
    for (dgm_call_tree *c = ws->contexts; c; c = c->next) {
        pthread_mutex_init(&c->lock, NULL);
        ContextThread *mine = thread_of(c, hot);
        c->threads = mine; // the others' are lost with the threads
        if (!mine) continue;
        mine->next = NULL;
        mine->thread = 0;
        for (dgm_call_node *n = &mine->root; n;) {
            n->calls = n->self = 0;
            if (n->child) {
                n = n->child;
                continue;
            }
            while (n && !n->sibling) n = n->parent;
            if (n) n = n->sibling;
        }
        *slot_of(c, hot, CONTEXT_LAST) = 0;
    }
}

bool contexts_own(const Watches *ws, uint32_t slot) {
    for (const dgm_call_tree *c = ws->contexts; c; c = c->next)
        if (slot - c->slot < CONTEXT_SLOTS) return true;
    return false;
}

void contexts_free(Watches *ws) {
    for (dgm_call_tree *c = ws->contexts; c; c = c->next) {
        for (ContextThread *t = c->threads, *next; t; t = next) {
            next = t->next;
            thread_close(t);
            arena_free(&t->arena);
            free(t);
        }
        free(c->callees->at);
        pthread_mutex_destroy(&c->lock);
    }
    ws->contexts = NULL;
}

// ---- what tools ask ----

dgm_call_tree *dgm_call_tree_new(dgm_watch *w) {
    Watches *ws = w->ws;
    dgm_call_tree *c = arena_alloc(&ws->keep, sizeof *c);
    struct ContextCallees *callees = arena_alloc(&ws->keep, sizeof *callees);
    uint32_t slot = atomic_fetch_add(&ws->n_slots, CONTEXT_SLOTS);
    if (!c || !callees || slot + CONTEXT_SLOTS > WATCH_SLOTS) return NULL;
    *callees = (struct ContextCallees){0};
    *c = (dgm_call_tree){.ws = ws, .next = ws->contexts, .slot = slot, .callees = callees};
    pthread_mutex_init(&c->lock, NULL);
    dgm_want(w, DGM_COUNTS);
    return ws->contexts = c;
}

const dgm_call_node *dgm_call_tree_root(dgm_call_tree *c, uint32_t thread) {
    pthread_mutex_lock(&c->lock);
    ContextThread *t = c->threads;
    while (t && t->thread != thread) t = t->next;
    pthread_mutex_unlock(&c->lock);
    return t ? &t->root : NULL;
}

const dgm_call_node *dgm_call_now(dgm_vcpu *v, dgm_call_tree *c) {
    if (!thread_of(c, hot_of(v))) return NULL;
    charge(c, hot_of(v), dgm_vcpu_insns(v));
    return top_of(c, hot_of(v))->node;
}
