// tools.c - which tools there are: `dragoman tools`, and how --tool finds one.
#include "cli.h"

#include "tools/tools.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

static const dgm_tool *builtin(const char *name, size_t n) {
    for (unsigned i = 0; builtin_tools[i]; i++)
        if (strlen(builtin_tools[i]->name) == n && !strncmp(builtin_tools[i]->name, name, n))
            return builtin_tools[i];
    return NULL;
}

static const dgm_tool *from_file(const char *path) {
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL); // stays until the process ends
    if (!library) {
        complain("--tool %s: %s", path, dlerror());
        return NULL;
    }
    const dgm_tool *tool = dlsym(library, "dgm_tool_main");
    if (!tool) {
        bool qemu = dlsym(library, "qemu_plugin_install");
        complain("--tool %s: no dgm_tool_main in it%s", path,
                 qemu ? "; this is a plugin of QEMU's, for --plugin" : "");
        return NULL;
    }
    if (tool->version != DGM_TOOL_VERSION) {
        complain("--tool %s: made for version %u of the interface; this is %u", path, tool->version,
                 DGM_TOOL_VERSION);
        return NULL;
    }
    return tool;
}

const dgm_tool *tool_find(const char *word, const char **options) {
    size_t n = strcspn(word, ":");
    *options = word[n] ? word + n + 1 : NULL;
    char *name = strndup(word, n);
    if (!name) return NULL;
    const dgm_tool *tool = strchr(name, '/') ? from_file(name) : builtin(name, n);
    if (!tool && !strchr(name, '/')) {
        const char *names[64] = {NULL};
        for (unsigned i = 0; builtin_tools[i] && i < 63; i++) names[i] = builtin_tools[i]->name;
        const char *near = nearest(name, names);
        complain("--tool %s: no such tool%s%s%s", name,
                 near ? "; did you mean '" : "; see 'dragoman tools'", near ? near : "",
                 near ? "'?" : "");
    }
    free(name);
    return tool;
}

static void show(const dgm_tool *t) {
    printf("%s: %s\n", t->name, t->summary);
    for (unsigned i = 0; t->options && t->options[i]; i++) printf("  %s\n", t->options[i]);
}

int cmd_tools(int argc, char **argv) {
    if (argc > 1 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))) {
        printf("Usage: dragoman tools [NAME]\n\n"
               "Lists the tools that can watch a program, or one tool's options:\n"
               "  dragoman run --tool count ./program\n"
               "  dragoman run --tool count:functions,top=5 --tool bbv:interval=1M,out=a.bb "
               "./program\n"
               "  dragoman run --tool ./my.so:key=value ./program\n");
        return 0;
    }
    if (argc > 1) {
        const dgm_tool *t = builtin(argv[1], strlen(argv[1]));
        if (!t) {
            const char *options;
            tool_find(argv[1], &options);
            return EXIT_USAGE;
        }
        show(t);
        printf("  range=LO-HI, module=NAME, symbol=FUNCTION   only this code\n"
               "  from=FUNCTION, to=FUNCTION, after=N, marks  on and off at run time\n"
               "  only-thread=N                               only this thread, from 0\n");
        return 0;
    }
    for (unsigned i = 0; builtin_tools[i]; i++)
        printf("%-10s %s\n", builtin_tools[i]->name, builtin_tools[i]->summary);
    return 0;
}
