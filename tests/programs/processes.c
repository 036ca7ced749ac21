// fork, exec of this program itself, pipes, wait, dup2, environment and exit codes.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv, char **envp) {
    (void)envp;
    setvbuf(stdout, NULL, _IONBF, 0);
    if (argc > 1 && !strcmp(argv[1], "child")) {
        printf("child argc=%d last=%s env=%s\n", argc, argv[argc - 1], getenv("GIVEN"));
        return 7;
    }
    int p[2], status;
    if (pipe(p)) return 1;
    pid_t child = fork();
    if (child == 0) {
        close(p[0]);
        dup2(p[1], 1);
        for (int i = 0; i < 1000; i++) printf("line %d\n", i);
        _exit(3);
    }
    close(p[1]);
    char buffer[512];
    long total = 0, lines = 0;
    for (ssize_t n; (n = read(p[0], buffer, sizeof buffer)) > 0; total += n)
        for (ssize_t i = 0; i < n; i++) lines += buffer[i] == '\n';
    waitpid(child, &status, 0);
    printf("pipe %ld bytes %ld lines, exit %d\n", total, lines, WEXITSTATUS(status));

    // Memory is copied, not shared.
    static int value = 1;
    child = vfork();
    if (child == 0) _exit(11);
    waitpid(child, &status, 0);
    printf("vfork %d\n", WEXITSTATUS(status));
    child = fork();
    if (child == 0) {
        value = 2;
        _exit(value);
    }
    waitpid(child, &status, 0);
    printf("copied %d %d\n", value, WEXITSTATUS(status));

    // Several children, all reaped.
    int sum = 0;
    for (int i = 0; i < 5; i++)
        if (fork() == 0) _exit(i);
    while (wait(&status) > 0) sum += WEXITSTATUS(status);
    printf("reaped %d %d\n", sum, errno == ECHILD);

    errno = 0;
    execl("/no/such/program", "x", NULL);
    printf("exec %s\n", strerror(errno));
    printf("pid %d ppid %d\n", getpid() > 0, getppid() > 0);
    if (argc > 1 && !strcmp(argv[1], "exec")) {
        child = fork();
        if (child == 0) {
            char *args[] = {argv[0], "child", "two words", "", "l\xc3\xa4st", NULL};
            char *env[] = {"GIVEN=yes", NULL};
            execve("/proc/self/exe", args, env);
            _exit(99);
        }
        waitpid(child, &status, 0);
        printf("exec exit %d\n", WEXITSTATUS(status));
    }
    return 0;
}
