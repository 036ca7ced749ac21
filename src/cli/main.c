// main.c - the command's front door: finds the subcommand, or plays qemu when called by its name.
#include "cli.h"
#include "libraries.h"

#include "dragoman/machine.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const Subcommand subcommands[] = {
    {"run", "run a Linux program built for another CPU", cmd_run},
    {"cpus", "list guest architectures and CPU models", cmd_cpus},
    {"cache", "list, warm or clear the translations that are kept", cmd_cache},
    {"trace", "look at a trace, or convert it", cmd_trace},
    {"tools", "list the tools that can watch a program", cmd_tools},
    {"simpoint", "choose the intervals of a run that stand for the whole", cmd_simpoint},
    {"run-as", NULL, cmd_qemu_style}, // how a qemu-style parent starts the guest programs it execs
};
enum { N_SUBCOMMANDS = sizeof subcommands / sizeof *subcommands };

char **command_argv;

void complain(const char *fmt, ...) {
    char line[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    fprintf(stderr, "dragoman: %s\n", line);
}

static int edit_distance(const char *a, const char *b) {
    int row[64], n = (int)strlen(b);
    if (n >= 63) return 99;
    for (int j = 0; j <= n; j++) row[j] = j;
    for (int i = 1; *a; a++, i++) {
        int diagonal = row[0];
        row[0] = i;
        for (int j = 1; j <= n; j++) {
            int best = diagonal + (*a != b[j - 1]);
            diagonal = row[j];
            if (row[j] + 1 < best) best = row[j] + 1;
            if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
            row[j] = best;
        }
    }
    return row[n];
}

const char *nearest(const char *word, const char *const *names) {
    const char *best = NULL;
    int best_distance = 3;
    for (; *names; names++) {
        int d = edit_distance(word, *names);
        if (d < best_distance) {
            best_distance = d;
            best = *names;
        }
    }
    return best;
}

static void help(FILE *to) {
    fprintf(to, "Usage: dragoman COMMAND [OPTION...] [ARG...]\n\n"
                "Runs Linux programs built for another CPU.\n\nCommands:\n");
    for (int i = 0; i < N_SUBCOMMANDS; i++)
        if (subcommands[i].summary)
            fprintf(to, "  %-9s %s\n", subcommands[i].name, subcommands[i].summary);
    fprintf(to,
            "\n"
            "Examples:\n"
            "  dragoman run ./hello-arm64                     a static program\n"
            "  dragoman run -L build/guest/arm64/root /bin/ls a dynamic one and its libraries\n"
            "  dragoman run --rootfs build/guest/arm64/root /bin/bash\n"
            "                                                 a shell in another root file system\n"
            "  dragoman run --strace ./hello-arm64            what it asks of the kernel\n\n"
            "`dragoman COMMAND --help` says more. Called as dragoman-aarch64, it takes\n"
            "qemu-aarch64's command line.\n");
}

int main(int argc, char **argv) {
    command_argv = argv;
    const char *name = strrchr(argv[0] ? argv[0] : "dragoman", '/');
    name = name ? name + 1 : argv[0] ? argv[0] : "dragoman";
    for (unsigned i = 0; dgm_guest_name(i); i++)
        if (!strncmp(name, "dragoman-", 9) && !strcmp(name + 9, dgm_guest_name(i)))
            return cmd_qemu_style(argc, argv);
    if (argc < 2) {
        help(stderr);
        return EXIT_USAGE;
    }
    const char *word = argv[1];
    if (!strcmp(word, "--help") || !strcmp(word, "-h") || !strcmp(word, "help")) {
        help(stdout);
        return 0;
    }
    if (!strcmp(word, "--version") || !strcmp(word, "version")) {
        printf("dragoman %s\n", dgm_version());
        return 0;
    }
    const char *names[N_SUBCOMMANDS + 1] = {NULL};
    for (int i = 0; i < N_SUBCOMMANDS; i++) {
        names[i] = subcommands[i].name;
        if (!strcmp(word, names[i])) return subcommands[i].main(argc - 1, argv + 1);
    }
    const char *near = nearest(word, names);
    if (near)
        complain("%s: no such command; did you mean '%s'?", word, near);
    else
        complain("%s: no such command; see 'dragoman --help'", word);
    return EXIT_USAGE;
}
