// calltree_internal.h - what the writers of a call tree share.
#ifndef TOOLS_CALLTREE_INTERNAL_H
#define TOOLS_CALLTREE_INTERNAL_H

#include "calltree.h"

#include <stddef.h>

// What one pass over a tree finds out; owns its arrays.
typedef struct CallWalk {
    uint64_t *inclusive;   // by node
    bool *outermost;       // by node: no caller of it is the same function
    CallTotals *functions; // by function, the root behind them
} CallWalk;

// Checks the contract of calltree.h and fills the walk; false with errno, and then nothing to free.
bool calltree_walk(const CallTree *tree, CallWalk *walk);
void calltree_walk_free(CallWalk *walk);

// A copy of the tree with new nodes in which every stack appears once and none is deeper than twice
// `depth`; with `sites`, calls from different places stay apart. `deep`: some were deeper than
// `depth`. Only folded->nodes is to be freed, and nothing when it fails.
bool calltree_fold(const CallTree *tree, uint32_t depth, bool sites, CallTree *folded, bool *deep);

static inline uint32_t calltree_function(const CallTree *tree, uint32_t node) {
    uint32_t f = tree->nodes[node].function;
    return f == CALLTREE_ROOT ? tree->n_functions : f;
}

// Whether a name says something: readers of some formats drop blanks at its beginning.
bool calltree_named(const char *name);
// A function's name, made up in `room` when it has none. Also for the root.
enum { CALLTREE_NAME_ROOM = 32 };
const char *calltree_name(const CallTree *tree, uint32_t function, char room[CALLTREE_NAME_ROOM]);

// The line counted at an address, or NULL. The lines of a function are next to each other from
// calltree_lines on.
const CallLine *calltree_line(const CallTree *tree, uint32_t function, uint64_t address);
const CallLine *calltree_lines(const CallTree *tree, uint32_t function);

// The different texts of one kind. Fill `all`, sort once (which drops doubles); then a text's
// number is where it stands, and only texts that were put in may be looked for.
typedef struct CallNames {
    const char **all;
    uint32_t n;
} CallNames;
void calltree_names_sort(CallNames *names);
uint32_t calltree_names_find(const CallNames *names, const char *text);

// Text nobody can break a line-oriented format or a terminal with: bytes that are not printable
// UTF-8 and those in `avoid` come out as \xNN.
void calltree_put_plain(FILE *to, const char *text, const char *avoid);
// A JSON string, also safe inside a <script> element; NULL becomes null.
void calltree_put_json(FILE *to, const char *text);
void calltree_put_json_address(FILE *to, uint64_t address);
// Flushes; whether all that was written arrived.
bool calltree_written(FILE *to);

#endif
