// calltree.h - a finished call tree, and the formats it can be written in.
//
// `dragoman profile` counts while the guest runs; when that is over it has one CallTree in memory
// and hands it to the writers below. They only read it: all memory stays the caller's, nothing is
// kept between calls, and several threads may write one tree at once to files of their own.
//
// The contract, which every writer checks before its first byte:
//   - node 0 is the root and stands for no function; a node's parent has a smaller index than the
//   node;
//     there may be no nodes at all.
//   - lines are sorted by function, then address, each address once a function. They share out a
//     function's own instructions; what they leave over belongs to the function's entry.
//   - names are whatever a guest's files held: any bytes, any length, NULL or empty when unknown.
//
// A writer returns false when writing failed, memory ran out (ENOMEM) or the tree breaks the
// contract (EINVAL); errno says which. What it wrote by then is not a whole file. The stream is
// flushed, not closed.
//
// Recursion: a function's inclusive count has each instruction once, however often the function is
// on the stack. Folded stacks, pprof and the page cannot hold stacks of any depth: below a limit of
// calls they fold recursion onto itself (calltree_fold.c); counts stay exact.
#ifndef TOOLS_CALLTREE_H
#define TOOLS_CALLTREE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define CALLTREE_ROOT UINT32_MAX // the function of node 0

typedef struct CallFunction {
    const char *name;
    const char *module; // the file it was loaded from, or NULL
    const char *file;   // source, NULL when unknown
    uint32_t line;      // of its beginning, 0 when unknown
    uint64_t address;
} CallFunction;

typedef struct CallNode {
    uint32_t function; // index, CALLTREE_ROOT in node 0 only
    uint32_t parent;   // index of a node; not looked at in node 0
    uint64_t calls;
    uint64_t self_insns;
    uint64_t call_site; // address of the call in the parent's function, 0 when unknown
} CallNode;

// Instructions executed at one address.
typedef struct CallLine {
    uint32_t function;
    uint64_t address;
    const char *file; // of the line, which may be inlined from elsewhere; NULL: the function's
    uint32_t line;
    uint64_t insns;
} CallLine;

typedef struct CallLoop {
    uint32_t function;
    uint64_t head, tail; // address of the first instruction, and of the branch back to it
    const char *file;
    uint32_t line;
    uint64_t iterations, entries, insns;
} CallLoop;

typedef struct CallTree {
    const char *command;
    uint32_t pid;
    const CallFunction *functions;
    uint32_t n_functions;
    const CallNode *nodes;
    uint32_t n_nodes;
    const CallLine *lines;
    uint32_t n_lines;
    const CallLoop *loops;
    uint32_t n_loops;
} CallTree;

typedef struct CallTotals {
    uint64_t self, inclusive, calls;
} CallTotals;

// One entry a function, and one more for the root, whose inclusive count is the whole run's. To be
// freed; NULL as a writer's false.
CallTotals *calltree_totals(const CallTree *tree);

bool calltree_write_callgrind(const CallTree *tree, FILE *to); // callgrind_annotate, kcachegrind
bool calltree_write_pprof(const CallTree *tree, FILE *to);     // profile.proto, gzipped
bool calltree_write_folded(const CallTree *tree, FILE *to);    // a;b;c 123
bool calltree_write_text(const CallTree *tree, FILE *to);      // a table for people
bool calltree_write_json(const CallTree *tree, FILE *to);      // everything in the tree
bool calltree_write_html(const CallTree *tree, FILE *to);      // one page that needs nothing else

#endif
