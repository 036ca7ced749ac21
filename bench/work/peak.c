// peak.c - runs a program and writes its peak of resident memory, in KiB, to a file: peak FILE
// PROGRAM ARG... The kernel counts a process's peak from before its exec on, so the parent must be
// small: this one.
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv) {
    int status;
    struct rusage use;
    if (argc < 3) return 126;
    pid_t pid = fork();
    if (!pid) {
        execv(argv[2], argv + 2);
        _exit(127);
    }
    FILE *out = fopen(argv[1], "w");
    if (pid < 0 || !out || wait4(pid, &status, 0, &use) < 0) return 126;
    fprintf(out, "%ld\n", use.ru_maxrss);
    if (fclose(out)) return 126;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
