// proc.c - what /proc shows of this process and of another guest, in a root; where a program begins
// (--workdir); the environment of a program that is exec'ed; inotify and directories.
#define _GNU_SOURCE
#include "check.h"

#include <dirent.h>
#include <elf.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;
static char text[1 << 16];

static ssize_t slurp(const char *path) {
    int fd = open(path, O_RDONLY);
    ssize_t n = 0, k = 0;
    while (fd >= 0 && (k = read(fd, text + n, sizeof text - 1 - n)) > 0) n += k;
    text[n] = 0;
    if (fd >= 0) close(fd);
    return fd < 0 ? -1 : n;
}

static const char *link_of(const char *path) {
    static char to[4096];
    ssize_t n = readlink(path, to, sizeof to - 1);
    to[n < 0 ? 0 : n] = 0;
    return to;
}

static void itself(void) {
    char path[100];
    struct stat a, b;
    CHECK(!strcmp(link_of("/proc/self/exe"), "/program"));
    CHECK(!stat("/proc/self/exe", &a) && !stat("/program", &b) && a.st_ino == b.st_ino);
    snprintf(path, sizeof path, "/proc/%d/exe", getpid());
    CHECK(!strcmp(link_of(path), "/program"));
    CHECK(!strcmp(link_of("/proc/thread-self/exe"), "/program"));
    snprintf(path, sizeof path, "/proc/self/task/%d/exe", (int)syscall(SYS_gettid));
    CHECK(!strcmp(link_of(path), "/program"));
    CHECK(!strcmp(link_of("/proc/self/cwd"), "/bound") && !strcmp(link_of("/proc/self/root"), "/"));
    int dir = open("/proc/self", O_RDONLY | O_DIRECTORY), exe = openat(dir, "exe", O_RDONLY);
    CHECK(exe >= 0 && !fstat(exe, &a) && a.st_ino == b.st_ino);
    close(exe);
    // as an argument of exec, also from elsewhere
    CHECK(slurp("/proc/self/comm") > 0 && !strcmp(text, "program\n"));
    CHECK(slurp("/proc/self/cmdline") == 15 && !memcmp(text, "/program\0first", 15));
    CHECK(slurp("/proc/self/maps") > 0 && strstr(text, "/program\n") && strstr(text, "[stack]") &&
          strstr(text, "[heap]"));
    CHECK(!strstr(text, "dragoman"));
    int maps = openat(dir, "maps", O_RDONLY);
    CHECK(maps >= 0 && read(maps, text, 20) == 20);
    close(maps);
    close(dir);
    CHECK(slurp("/proc/cpuinfo") > 0 && strstr(text, "CPU implementer") && strstr(text, "asimd"));
    CHECK(slurp("/proc/self/auxv") > 0);
    for (Elf64_auxv_t *v = (void *)text; v->a_type; v++)
        if (v->a_un.a_val != getauxval(v->a_type)) CHECK(!"an entry of auxv");
    uint64_t brk_at = 0, stack = 0;
    slurp("/proc/self/stat");
    char *at = strrchr(text, ')');
    CHECK(at && strstr(text, "(program)"));
    CHECK(slurp("/proc/self/environ") > 0 && strstr(text, "="));
}

static int child(void *arg) {
    pause();
    return 0;
}

// ps's view of another guest.
static void another(void) {
    int p[2];
    char c, path[100];
    pipe(p);
    pid_t pid = fork();
    if (!pid) {
        dup2(p[1], 1);
        char *argv[] = {"renamed", "wait", "last word", NULL}, *env[] = {"ONLY=this", NULL};
        execve("/program", argv, env);
        _exit(1);
    }
    CHECK(read(p[0], &c, 1) == 1);
    snprintf(path, sizeof path, "/proc/%d/cmdline", pid);
    CHECK(slurp(path) == 23 && !memcmp(text, "renamed\0wait\0last word", 23));
    snprintf(path, sizeof path, "/proc/%d/environ", pid);
    CHECK(slurp(path) > 9 && !strncmp(text, "ONLY=this", 9));
    snprintf(path, sizeof path, "/proc/%d/comm", pid);
    CHECK(slurp(path) > 0 && !strcmp(text, "program\n"));
    snprintf(path, sizeof path, "/proc/%d/exe", pid);
    CHECK(!strcmp(link_of(path), "/program"));
    struct stat a, b;
    CHECK(!stat(path, &a) && !stat("/program", &b) && a.st_ino == b.st_ino);
    snprintf(path, sizeof path, "/proc/%d/cwd", pid);
    CHECK(!strcmp(link_of(path), "/bound"));
    snprintf(path, sizeof path, "/proc/%d/cwd/inner", pid);
    CHECK(slurp(path) == 5);
    snprintf(path, sizeof path, "/proc/%d/root/program", pid);
    CHECK(!stat(path, &a) && a.st_ino == b.st_ino);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

// What the host's loader would obey must reach the guest and only the guest.
static void environments(void) {
    char *argv[] = {"program", "env", NULL};
    char *env[] = {
        "A=1", "LD_PRELOAD=/no/such.so", "LD_LIBRARY_PATH=/x", "DRAGOMAN_GUEST:B=2", "LD_DEBUG=all",
        NULL};
    pid_t pid = fork();
    if (!pid) {
        execve("/program", argv, env);
        _exit(99);
    }
    int status;
    waitpid(pid, &status, 0);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static int check_environment(void) {
    static const char *const want[] = {"A=1", "LD_PRELOAD=/no/such.so", "LD_LIBRARY_PATH=/x",
                                       "DRAGOMAN_GUEST:B=2", "LD_DEBUG=all"};
    int n = 0;
    for (; environ[n]; n++)
        if (n > 4 || strcmp(environ[n], want[n])) return 1;
    return n != 5;
}

static void put(const char *path, const char *what, int mode) {
    int fd = open(path, O_CREAT | O_RDWR | O_TRUNC, 0700);
    write(fd, what, strlen(what));
    close(fd);
    chmod(path, mode);
}

static int run(const char *path) {
    pid_t pid = fork();
    if (!pid) {
        execl(path, "zero", "a", "b c", NULL);
        _exit(errno);
    }
    int status;
    waitpid(pid, &status, 0);
    return WEXITSTATUS(status);
}

// #! names are the guest's.
static void scripts(void) {
    CHECK(!symlink("../program", "/tmp/pl"));
    put("/tmp/s", "#!/tmp/pl args\n", 0755);
    put("/tmp/t", "#! \t /tmp/s  two words \nrest", 0700);
    put("/tmp/lost", "#!/no/such/interpreter\n", 0755);
    put("/tmp/empty", "#!\n", 0755);
    put("/tmp/text", "just text\n", 0755);
    put("/tmp/locked", "#!/tmp/pl args\n", 0644);
    put("/tmp/loop", "#!/tmp/loop\n", 0755);
    CHECK(run("/tmp/s") == 100 + 5);
    CHECK(!chdir("/tmp") && run("s") == 100 + 5 && run("./s") == 100 + 5 && !chdir("/bound"));
    CHECK(run("/tmp/t") == 100 + 7);
    CHECK(run("/tmp/lost") == ENOENT);
    CHECK(run("/tmp/empty") == ENOEXEC);
    CHECK(run("/tmp/text") == ENOEXEC);
    CHECK(run("/tmp/locked") == EACCES);
    CHECK(run("/tmp/loop") == ELOOP);
    CHECK(run("/tmp") == EACCES);
    CHECK(run("/tmp/none") == ENOENT);
    CHECK(run("/tmp/s/") == ENOTDIR);
    CHECK(run("/dev/null") == EACCES);
    const char *made[] = {"pl", "s", "t", "lost", "empty", "text", "locked", "loop"};
    CHECK(!chdir("/tmp"));
    for (unsigned i = 0; i < sizeof made / sizeof *made; i++) unlink(made[i]);
    CHECK(!chdir("/bound"));
}

static void files(void) {
    char buffer[4096];
    int in = inotify_init1(IN_NONBLOCK), wd = inotify_add_watch(in, "/tmp", IN_CREATE | IN_DELETE);
    CHECK(wd >= 0);
    close(open("/tmp/made", O_CREAT | O_RDWR, 0600));
    struct inotify_event *e = (void *)buffer;
    CHECK(read(in, buffer, sizeof buffer) > 0 && e->wd == wd && e->mask == IN_CREATE &&
          !strcmp(e->name, "made"));
    CHECK(!symlink("/tmp", "/tmp/l"));
    CHECK(inotify_add_watch(in, "/tmp/l", IN_CREATE | IN_DELETE) == wd);
    CHECK(inotify_add_watch(in, "/tmp/l", IN_CREATE | IN_DONT_FOLLOW) != wd);
    DIR *d = opendir("/tmp/l");
    int seen = 0;
    for (struct dirent *x; d && (x = readdir(d));)
        seen += !strcmp(x->d_name, "made") || (!strcmp(x->d_name, "l") && x->d_type == DT_LNK);
    closedir(d);
    CHECK(seen == 2);
    // many entries, while they go away
    CHECK(!mkdir("/tmp/many", 0700) && !chdir("/tmp/many"));
    for (int i = 0; i < 500; i++) {
        snprintf(buffer, sizeof buffer, "file-with-some-length-%d", i);
        close(open(buffer, O_CREAT | O_RDWR, 0600));
    }
    d = opendir(".");
    int gone = 0;
    for (struct dirent *x; (x = readdir(d));)
        if (x->d_name[0] != '.' && !unlinkat(dirfd(d), x->d_name, 0)) gone++;
    closedir(d);
    CHECK(gone == 500 && !chdir("/") && !rmdir("/tmp/many"));
    unlink("/tmp/l");
    unlink("/tmp/made");
    // a directory that is gone
    CHECK(!mkdir("/tmp/gone", 0700) && !chdir("/tmp/gone") && !rmdir("/tmp/gone"));
    FAILS(ENOENT, getcwd(buffer, sizeof buffer) ? 0 : -1);
    FAILS(ENOENT, open("x", O_CREAT | O_RDWR, 0600));
    CHECK(!chdir("/"));
    FAILS(ERANGE, syscall(SYS_getcwd, buffer, 1));
}

int main(int argc, char **argv) {
    setvbuf(stdout, NULL, _IONBF, 0);
    if (argc > 1 && !strcmp(argv[1], "wait")) return puts("."), pause();
    if (argc > 1 && !strcmp(argv[1], "env")) return check_environment();
    if (argc > 2 && !strcmp(argv[1], "link")) return !puts(link_of(argv[2]));
    // how a script of scripts() gets here: 100 and the number of arguments
    if (argc > 1 && !strcmp(argv[1], "args"))
        return strcmp(argv[argc - 1], "b c") ? 99 : 100 + argc;
    char cwd[100];
    CHECK(getcwd(cwd, sizeof cwd) && !strcmp(cwd, "/bound"));
    malloc(1000); // a heap
    itself();
    another();
    environments();
    scripts();
    files();
    return check_done();
}
