// cli.h - the command: one file a subcommand, each a row of the table in main.c.
#ifndef DGM_CLI_H
#define DGM_CLI_H

#include <stdbool.h>
#include <stddef.h>

enum { EXIT_USAGE = 2, EXIT_NOT_EXECUTABLE = 126, EXIT_NOT_FOUND = 127, EXIT_SIGNALLED = 128 };

typedef struct Subcommand {
    const char *name, *summary;
    int (*main)(int argc, char **argv); // argv[0] is the subcommand's name
} Subcommand;

int cmd_run(int argc, char **argv);
int cmd_cpus(int argc, char **argv);
// `dragoman-aarch64`: qemu-aarch64's command line.
int cmd_qemu_style(int argc, char **argv);

// `dragoman trace`.
int cmd_trace(int argc, char **argv);
// `dragoman tools`.
int cmd_tools(int argc, char **argv);
// What --tool NAME[:OPTIONS] means, a name or a path with a slash; NULL after complaining.
struct dgm_tool;
const struct dgm_tool *tool_find(const char *word, const char **options);

// `dragoman cache`: what is kept of translations.
int cmd_cache(int argc, char **argv);
// `dragoman simpoint`: phases of a run from its basic-block vectors.
int cmd_simpoint(int argc, char **argv);
// Where it is kept when nobody says: DRAGOMAN_CACHE, else XDG_CACHE_HOME/dragoman, else
// ~/.cache/dragoman. False: nowhere (DRAGOMAN_CACHE is "off", or there is no home).
bool cache_default_dir(char *out, size_t bytes);

// "dragoman: ..." and a newline on stderr.
__attribute__((format(printf, 1, 2))) void complain(const char *fmt, ...);
// The candidate nearest to a mistyped word, or NULL when none is near. names ends with NULL.
const char *nearest(const char *word, const char *const *names);

#endif
