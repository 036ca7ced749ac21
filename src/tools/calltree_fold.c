// calltree_fold.c - a call tree whose stacks are all different and of bounded depth.
//
// A program that recurses a hundred thousand deep has a hundred thousand stacks; written out in
// full they hold five thousand million frames. So the first `depth` calls of a stack stay as they
// are, and below them recursion folds: a call of a function that is already among the deeper
// callers goes back to where that stands. Who called whom stays readable, and every instruction
// keeps the function it belongs to. Should as many different functions again follow, the stack
// grows no more: what comes next hangs beside its caller.
#include "calltree_internal.h"

#include <errno.h>
#include <stdlib.h>

typedef struct Folder {
    const CallTree *tree;
    uint32_t depth;
    bool sites;
    CallNode *nodes; // of the new tree
    uint32_t n_nodes;
    uint32_t *level; // of each new node: how deep it is
    uint32_t *table; // node by hash of parent, function and call site; 0 is free
    uint32_t mask;
} Folder;

// Where a call of `function` from the new node `parent` hangs.
static uint32_t place(const Folder *f, uint32_t parent, uint32_t function, uint32_t *existing) {
    *existing = 0;
    for (uint32_t i = parent; f->level[i] > f->depth; i = f->nodes[i].parent)
        if (f->nodes[i].function == function) {
            *existing = i;
            return f->nodes[i].parent;
        }
    return f->level[parent] >= 2 * f->depth ? f->nodes[parent].parent : parent;
}

static uint32_t find(Folder *f, uint32_t parent, uint32_t function, uint64_t site) {
    uint64_t hash = ((uint64_t)parent << 32 | function) * 0x9e3779b97f4a7c15u;
    hash = (hash ^ hash >> 29 ^ site) * 0xbf58476d1ce4e5b9u;
    for (uint32_t i = (uint32_t)(hash >> 32);; i++) {
        uint32_t *entry = &f->table[i & f->mask];
        if (!*entry) {
            uint32_t node = f->n_nodes++;
            f->nodes[node] = (CallNode){.function = function, .parent = parent, .call_site = site};
            f->level[node] = f->level[parent] + 1;
            return *entry = node;
        }
        const CallNode *n = &f->nodes[*entry];
        if (n->parent == parent && n->function == function && n->call_site == site) return *entry;
    }
}

// `moved` has room for where each node of the old tree went.
static void fold(Folder *f, uint32_t *moved) {
    const CallTree *tree = f->tree;
    f->nodes[0] = tree->nodes[0];
    f->n_nodes = 1;
    for (uint32_t i = 1; i < tree->n_nodes; i++) {
        const CallNode *old = &tree->nodes[i];
        uint32_t node, parent = place(f, moved[old->parent], old->function, &node);
        if (!node) node = find(f, parent, old->function, f->sites ? old->call_site : 0);
        moved[i] = node;
        f->nodes[node].calls += old->calls;
        f->nodes[node].self_insns += old->self_insns;
    }
}

bool calltree_fold(const CallTree *tree, uint32_t depth, bool sites, CallTree *folded, bool *deep) {
    *folded = *tree;
    size_t n = (size_t)tree->n_nodes + 1;
    Folder f = {.tree = tree, .depth = depth, .sites = sites, .mask = 1023};
    while (f.mask < 2 * n && f.mask < UINT32_MAX) f.mask = 2 * f.mask + 1;
    f.nodes = calloc(n, sizeof *f.nodes);
    f.level = calloc(n, sizeof *f.level);
    f.table = calloc((size_t)f.mask + 1, sizeof *f.table);
    uint32_t *moved = calloc(n, sizeof *moved);
    bool ok = f.nodes && f.level && f.table && moved;
    if (ok && tree->n_nodes) fold(&f, moved);
    *deep = false;
    for (uint32_t i = 0; ok && i < f.n_nodes; i++) *deep |= f.level[i] > depth;
    free(moved);
    free(f.level);
    free(f.table);
    folded->nodes = f.nodes;
    folded->n_nodes = f.n_nodes;
    if (!ok) {
        free(f.nodes);
        errno = ENOMEM;
    }
    return ok;
}
