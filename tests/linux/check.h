// check.h - how the guest programs of this folder say what is wrong: a line for each failed check,
// and the number of them as exit status (0: all well).
#ifndef CHECK_H
#define CHECK_H

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

static int check_failures;

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        errno = 0;                                                                                 \
        if (!(condition)) {                                                                        \
            printf("%s:%d: not so: %s (errno %d, %s)\n", __FILE_NAME__, __LINE__, #condition,      \
                   errno, strerror(errno));                                                        \
            check_failures++;                                                                      \
        }                                                                                          \
    } while (0)

// The call gives -1 and this errno.
#define FAILS(error, call)                                                                         \
    do {                                                                                           \
        errno = 0;                                                                                 \
        long long got_ = (long long)(call);                                                        \
        if (got_ != -1 || errno != (error)) {                                                      \
            printf("%s:%d: %s gave %lld, errno %d (%s); expected %s\n", __FILE_NAME__, __LINE__,   \
                   #call, got_, errno, strerror(errno), #error);                                   \
            check_failures++;                                                                      \
        }                                                                                          \
    } while (0)

static inline int check_done(void) {
    if (!check_failures) puts("ok");
    fflush(stdout);
    return check_failures > 99 ? 99 : check_failures;
}

#endif
