// fuzz.h - what every fuzz target shares. A target defines LLVMFuzzerTestOneInput() and aborts, by
// require(), on what must never be.
//
// Built with clang and -Dfuzz=true it is a libFuzzer program (`make fuzz`, scripts/run-fuzz); else
// main() below runs each file it is given, and the unit tests do so with seeds/NAME.
#ifndef DGM_TESTS_FUZZ_H
#define DGM_TESTS_FUZZ_H

#include "base/base.h"

#include <dirent.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define require(holds)                                                                             \
    do {                                                                                           \
        if (!(holds)) {                                                                            \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #holds);                    \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

#ifndef DGM_LIBFUZZER
static void run_file(const char *path) {
    FILE *f = fopen(path, "rb");
    require(f);
    Buf b = {0};
    char chunk[4096];
    for (size_t got; (got = fread(chunk, 1, sizeof chunk, f)) > 0;) buf_add(&b, chunk, got);
    fclose(f);
    uint8_t *exact = malloc(b.len + !b.len); // so that sanitizers see a read past the end
    require(exact);
    if (b.len) memcpy(exact, b.data, b.len);
    LLVMFuzzerTestOneInput(exact, b.len);
    free(exact);
    buf_free(&b);
}

// Arguments are files, or folders of files.
int main(int argc, char **argv) {
    unsigned n = 0;
    for (int i = 1; i < argc; i++) {
        DIR *d = opendir(argv[i]);
        if (!d) run_file(argv[i]), n++;
        for (struct dirent *e; d && (e = readdir(d));) {
            char path[4096];
            if (e->d_name[0] == '.') continue;
            snprintf(path, sizeof path, "%s/%s", argv[i], e->d_name);
            run_file(path), n++;
        }
        if (d) closedir(d);
    }
    printf("%u inputs\n", n);
    return n ? 0 : 1;
}
#endif
#endif
