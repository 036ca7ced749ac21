// Ends as its argument says: an exit code, or a signal it does not catch.
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv) {
    printf("argv0 %s\n", argv[0]);
    fflush(stdout);
    if (argc < 3) return argc;
    int n = atoi(argv[2]);
    if (!strcmp(argv[1], "exit")) exit(n);
    if (!strcmp(argv[1], "_exit")) _exit(n);
    if (!strcmp(argv[1], "kill")) kill(getpid(), n);
    if (!strcmp(argv[1], "segv")) *(volatile int *)(uintptr_t)(unsigned)(n + 8) = 1;
    if (!strcmp(argv[1], "ill")) __asm__ volatile(".inst 0");
    if (!strcmp(argv[1], "env")) printf("%s\n", getenv(argv[2]) ? getenv(argv[2]) : "(unset)");
    if (!strcmp(argv[1], "argv"))
        for (int i = 0; i < argc; i++) printf("[%s]\n", argv[i]);
    if (!strcmp(argv[1], "stderr")) fputs("to stderr\n", stderr);
    return 0;
}
