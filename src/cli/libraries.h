// libraries.h - the command is linked twice from the same objects. `dragoman` is static where the
// host's toolchain can (static.c): it starts in five sixths of the time, and runs where there is no
// host's library, as in a chroot. Tools, plugins, libdw, zstd and capstone are loaded when they are
// asked for, which needs `dragoman-dynamic` (dynamic.c), beside it.
#ifndef DGM_CLI_LIBRARIES_H
#define DGM_CLI_LIBRARIES_H

extern char **command_argv; // as main was given it

// Called as soon as it is known that this command may load libraries. In a static command
// dragoman-dynamic takes the process over and begins anew; it returns only where that fails: an
// exit status, after complaining. Else 0.
int need_libraries(void);

#endif
