// dynamic.c - the command, linked dynamically: it loads what it is asked for itself.
#include "libraries.h"

int need_libraries(void) {
    return 0;
}
