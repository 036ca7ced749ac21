// tools.h - the built-in tools, and what they share: where results go, and text for people or
// programs. A tool is one file here and one line of the table in tools.c; it uses only the public
// headers, so each is an example of what a shared object can do.
#ifndef DGM_TOOLS_H
#define DGM_TOOLS_H

#include "dragoman/tool.h"

#include <stdio.h>
#include <time.h>

extern const dgm_tool *const builtin_tools[]; // ends with NULL
extern const dgm_tool tool_bbv, tool_cache, tool_count, tool_hot, tool_profile, tool_syscalls,
    tool_trace;

// The tool that runs QEMU's plugins, and giving it one, as the option --plugin says it: NULL, or
// what is wrong. quiet: what they print by qemu_plugin_outs is not shown (QEMU without -d plugin).
extern const dgm_tool tool_qemu_plugin;
const char *qemu_plugin_add(const char *text);
void qemu_plugin_quiet(void);

// Where a tool's results go; a member of its context. `out=FILE` (%p: the process id), else stderr
// as it was at the start, for programs close theirs before they end. `json`: for programs.
typedef struct Report {
    const char *path, *html;
    char *command, run[64]; // for pages: the command line, and what names this run
    uint64_t id;
    int stderr_fd;
    bool json; // asked for; while a page is written it is on
    bool page; // a page is written: rows enough for tables, and what only pictures need
} Report;
#define REPORT_OPTIONS                                                                             \
    "out=FILE    results go to FILE (%p in it: the process id), not to stderr",                    \
        "json        results as JSON",                                                             \
        "html=FILE   results as a page with pictures; tools that name one file share it"
int report_start(Report *r, dgm_watch *w); // in start; 0 or -errno
// The same for who uses out= for something else: results go to `path`, or to stderr.
int report_start_to(Report *r, dgm_watch *w, const char *path);
// Writes results in all the forms that were asked for: `write` is called for each, and looks at
// json and page. name: of the tool. script: that draws its page (page.h).
void report_write(Report *r, dgm_watch *w, const char *name, const char *script,
                  void (*write)(dgm_watch *w, FILE *f));
// Rows of a table of which `top` are asked for.
uint64_t report_rows(const Report *r, uint64_t top);
FILE *report_begin(Report *r, dgm_watch *w);
// Complains on stderr when not all could be written.
void report_end(Report *r, dgm_watch *w, FILE *f);
void report_free(Report *r);
// A path with %p replaced, malloc'ed.
char *report_path(const char *path);
// A string in JSON, with its quotes; also safe inside of a page.
void report_string(FILE *f, const char *text);
// "function+0x12 (module)" or the bare address; in JSON fields of an object.
void report_place(FILE *f, dgm_watch *w, uint64_t address, bool json);
// What a clock says (CLOCK_MONOTONIC is what dgm_syscall.start_ns was read from).
uint64_t clock_ns(clockid_t which);
// 1234567 as 1,234,567; in a static-sized buffer of the caller.
const char *report_number(uint64_t n, char out[32]);

// ---- a map from 64-bit keys to pointers: open addressing, grows, keys are never removed ----
typedef struct Map {
    struct MapEntry {
        uint64_t key;
        void *value;
    } * at;
    size_t n, cap;
} Map;
// The place for the key's value, NULL in it when it is new; NULL: out of memory.
void **map_at(Map *m, uint64_t key);
void *map_find(const Map *m, uint64_t key);
void map_free(Map *m);

#endif
