// progress.h - a status line on stderr while something takes long.
//
// A thread of its own writes it, about once a second after the first two; it is erased before
// anything else is written, and at the end. Only one at a time.
#ifndef DGM_CLI_PROGRESS_H
#define DGM_CLI_PROGRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct Progress Progress;
// What is there to say after so many seconds; nothing: "". On the line's own thread.
typedef void (*progress_fn)(void *ctx, double seconds, char *out, size_t cap);

// Whether stderr is a terminal that can rewrite a line.
bool progress_possible(void);
// Where that is not so, whole lines are written, one in ten seconds. NULL: no thread or no memory,
// which the functions below put up with.
Progress *progress_start(progress_fn text, void *ctx);
// Erases the line, which stays away for so many seconds; < 0: for good.
void progress_hide(Progress *p, double seconds);
void progress_end(Progress *p);

// ---- of a program that runs (progress_run.c) ----

struct dgm_machine;
struct dgm_tool;
typedef enum ProgressWish { PROGRESS_AUTO, PROGRESS_OFF, PROGRESS_ON } ProgressWish;
// Whether `dragoman run` shows one: always when asked to. By itself only where it disturbs nobody:
// stderr is a terminal, and the program's own output goes elsewhere.
bool progress_of_run_wanted(ProgressWish wish);
// To be attached before all other tools: it takes the line away when the program uses the
// terminal.
extern const struct dgm_tool tool_progress;
void progress_of_run_start(struct dgm_machine *m, bool asked_for);
void progress_of_run_end(void);

#endif
