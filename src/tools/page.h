// page.h - a tool's report as one HTML file that needs nothing else.
//
// A page is the skeleton (pages/page.html: style, and functions to draw with), reports as JSON, and
// for each tool among them a script that draws its reports (pages/TOOL.js). Several tools of one
// run that name the same file share it: what is there of the run stays, so that two configurations
// of a tool are seen side by side.
#ifndef DGM_TOOLS_PAGE_H
#define DGM_TOOLS_PAGE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

typedef struct PageHead {
    const char *tool;    // also the script's name
    const char *script;  // one of those below
    const char *program; // what was looked at
    const char *command; // the whole command line
    const char *run;     // what reports of one page have in common; NULL: a page for this one alone
    uint64_t id;         // of the report: a later one replaces it
    uint32_t pid;        // 0: none
    bool has_script;     // page_open found it there
} PageHead;

// The scripts, and the skeleton.
extern const char page_html[], page_bbv[], page_cache[], page_count[], page_hot[], page_profile[],
    page_simpoint[], page_syscalls[];

// Opens the file and writes up to where the report's JSON goes, which the caller then writes; it
// must have no '<' (report_string sees to names). NULL with errno.
FILE *page_open(const char *path, PageHead *h);
// The rest; false with errno when not all could be written.
bool page_close(FILE *to, const PageHead *h);

// The same to a stream that is there already.
void page_begin(FILE *to, const PageHead *h);
void page_end(FILE *to, const PageHead *h);

#endif
