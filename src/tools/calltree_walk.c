// calltree_walk.c - what every writer needs to know about a call tree: is it sound, and what does
// each function cost with and without what it calls.
//
// Trees can be a hundred thousand calls deep and millions of nodes wide, so nothing here recurses
// on the C stack and every pass is linear.
#include "calltree_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static bool sound(const CallTree *tree) {
    for (uint32_t i = 0; i < tree->n_nodes; i++) {
        const CallNode *n = &tree->nodes[i];
        if (i == 0 ? n->function != CALLTREE_ROOT
                   : n->parent >= i || n->function >= tree->n_functions)
            return false;
    }
    for (uint32_t i = 0; i < tree->n_lines; i++) {
        const CallLine *l = &tree->lines[i];
        if (l->function >= tree->n_functions) return false;
        if (i && (l[-1].function > l->function ||
                  (l[-1].function == l->function && l[-1].address >= l->address)))
            return false;
    }
    for (uint32_t i = 0; i < tree->n_loops; i++)
        if (tree->loops[i].function >= tree->n_functions) return false;
    return true;
}

// Goes through the tree from the left, keeping count of which functions are on the stack. `links`
// has room for two entries a node, `active` for one a function and the root.
static void find_outermost(const CallTree *tree, uint32_t *links, uint32_t *active,
                           bool *outermost) {
    uint32_t *child = links, *sibling = links + tree->n_nodes; // 0: none, as the root is neither
    for (uint32_t i = tree->n_nodes; i-- > 1;) {
        uint32_t parent = tree->nodes[i].parent;
        sibling[i] = child[parent];
        child[parent] = i;
    }
    uint32_t i = 0;
    for (;;) {
        outermost[i] = active[calltree_function(tree, i)]++ == 0;
        if (child[i]) {
            i = child[i];
            continue;
        }
        for (;;) { // leave
            active[calltree_function(tree, i)]--;
            if (i == 0) return;
            if (sibling[i]) break;
            i = tree->nodes[i].parent;
        }
        i = sibling[i];
    }
}

static void add_up(const CallTree *tree, CallWalk *walk) {
    for (uint32_t i = tree->n_nodes; i-- > 0;) {
        const CallNode *n = &tree->nodes[i];
        walk->inclusive[i] += n->self_insns;
        if (i) walk->inclusive[n->parent] += walk->inclusive[i];
        CallTotals *f = &walk->functions[calltree_function(tree, i)];
        f->self += n->self_insns;
        f->calls += n->calls;
        if (walk->outermost[i]) f->inclusive += walk->inclusive[i];
    }
}

bool calltree_walk(const CallTree *tree, CallWalk *walk) {
    *walk = (CallWalk){0};
    if (!sound(tree)) {
        errno = EINVAL;
        return false;
    }
    size_t nodes = (size_t)tree->n_nodes + 1, functions = (size_t)tree->n_functions + 1;
    walk->inclusive = calloc(nodes, sizeof *walk->inclusive);
    walk->outermost = calloc(nodes, sizeof *walk->outermost);
    walk->functions = calloc(functions, sizeof *walk->functions);
    uint32_t *links = calloc(nodes, 2 * sizeof *links);
    uint32_t *active = calloc(functions, sizeof *active);
    bool ok = walk->inclusive && walk->outermost && walk->functions && links && active;
    if (ok && tree->n_nodes) {
        find_outermost(tree, links, active, walk->outermost);
        add_up(tree, walk);
    }
    free(links);
    free(active);
    if (!ok) {
        calltree_walk_free(walk);
        errno = ENOMEM;
    }
    return ok;
}

void calltree_walk_free(CallWalk *walk) {
    free(walk->inclusive);
    free(walk->outermost);
    free(walk->functions);
    *walk = (CallWalk){0};
}

CallTotals *calltree_totals(const CallTree *tree) {
    CallWalk walk;
    if (!calltree_walk(tree, &walk)) return NULL;
    CallTotals *totals = walk.functions;
    walk.functions = NULL;
    calltree_walk_free(&walk);
    return totals;
}

const CallLine *calltree_line(const CallTree *tree, uint32_t function, uint64_t address) {
    uint32_t low = 0, high = tree->n_lines;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        const CallLine *l = &tree->lines[middle];
        if (l->function < function || (l->function == function && l->address < address))
            low = middle + 1;
        else
            high = middle;
    }
    if (low == tree->n_lines) return NULL;
    const CallLine *l = &tree->lines[low];
    return l->function == function && l->address == address ? l : NULL;
}

const CallLine *calltree_lines(const CallTree *tree, uint32_t function) {
    uint32_t low = 0, high = tree->n_lines;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (tree->lines[middle].function < function)
            low = middle + 1;
        else
            high = middle;
    }
    return tree->lines + low;
}
