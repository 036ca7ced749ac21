// static.c - the command, linked statically: it loads nothing.
#include "cli.h"
#include "libraries.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int need_libraries(void) {
    static const char name[] = "dragoman-dynamic";
    char path[PATH_MAX + sizeof name];
    ssize_t n = readlink("/proc/self/exe", path, PATH_MAX);
    while (n > 0 && path[n - 1] != '/') n--;
    strcpy(path + (n > 0 ? n : 0), name);
    execv(path, command_argv);
    complain("%s: tools, traces and --log host need it: %s", path, strerror(errno));
    return EXIT_NOT_EXECUTABLE;
}

// A static program that loads libraries has two C libraries, and breaks when they differ. So the
// linker puts these in the place of libc's (--wrap), and who asks for a library that he can do
// without is told that there is none.
void *__wrap_dlopen(const char *file, int mode);
void *__wrap_dlsym(void *library, const char *name);
int __wrap_dlclose(void *library);
char *__wrap_dlerror(void);

void *__wrap_dlopen(const char *file, int mode) {
    return (void)file, (void)mode, NULL;
}
void *__wrap_dlsym(void *library, const char *name) {
    return (void)library, (void)name, NULL;
}
int __wrap_dlclose(void *library) {
    return (void)library, 0;
}
char *__wrap_dlerror(void) {
    return "this is linked statically";
}
