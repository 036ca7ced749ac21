// What a program asks its system: auxiliary vector, clocks, stat, directories, environment, limits,
// uname.
#define _GNU_SOURCE
#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

static int by_name(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

int main(int argc, char **argv) {
    struct utsname u;
    uname(&u);
    printf("uname %s %s\n", u.sysname, u.machine);
    printf("auxv page %lu fp %lu asimd %lu uid %d platform %s secure %lu entry %d random %d execfn "
           "%d\n",
           getauxval(AT_PAGESZ), getauxval(AT_HWCAP) & 1, getauxval(AT_HWCAP) >> 1 & 1,
           getauxval(AT_UID) == getuid(), (char *)getauxval(AT_PLATFORM), getauxval(AT_SECURE),
           getauxval(AT_ENTRY) != 0, getauxval(AT_RANDOM) != 0, getauxval(AT_EXECFN) != 0);
    const Elf64_Phdr *ph = (void *)getauxval(AT_PHDR);
    printf("phdr %lu %d\n", getauxval(AT_PHENT), ph && getauxval(AT_PHNUM) > 3);

    struct timespec a, b, res;
    clock_gettime(CLOCK_MONOTONIC, &a);
    nanosleep(&(struct timespec){0, 20000000}, NULL);
    clock_gettime(CLOCK_MONOTONIC, &b);
    int64_t ns = (b.tv_sec - a.tv_sec) * 1000000000ll + b.tv_nsec - a.tv_nsec;
    printf("slept %d\n", ns >= 20000000 && ns < 5000000000ll);
    clock_gettime(CLOCK_REALTIME, &a);
    struct timeval tv;
    gettimeofday(&tv, NULL);
    printf("now %d %d\n", llabs((long long)tv.tv_sec - a.tv_sec) <= 1, time(NULL) > 1700000000);
    clock_getres(CLOCK_MONOTONIC, &res);
    printf("res %d\n", res.tv_sec == 0 && res.tv_nsec > 0);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a);
    printf("cpu %d\n", a.tv_sec >= 0);
    printf("argc %d arg0 %d\n", argc, argv[0] && *argv[0]);

    char dir[] = "/tmp/dgm-test-XXXXXX", name[4096];
    if (!mkdtemp(dir) || chdir(dir)) return 1;
    for (int i = 0; i < 40; i++) {
        snprintf(name, sizeof name, "file%02d-%.*s", i, i * 5,
                 "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabc"
                 "defghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdef"
                 "ghijklmnopqrstuvwxyzabcdefghijklmnop");
        int fd = open(name, O_CREAT | O_WRONLY | O_EXCL, 0640);
        struct iovec v[2] = {{name, 4}, {name, (size_t)i}};
        if (fd < 0 || writev(fd, v, 2) != 4 + i) return 1;
        close(fd);
    }
    mkdir("sub", 0755);
    printf("link %d %d %zd\n", symlink("file00-", "link"), link("file00-", "hard"),
           readlink("link", name, 99));
    struct stat st;
    stat("link", &st);
    printf("stat %o %ld links %lu blksize %d\n", st.st_mode, (long)st.st_size,
           (unsigned long)st.st_nlink, st.st_blksize > 0);
    lstat("link", &st);
    printf("lstat %d %ld\n", S_ISLNK(st.st_mode), (long)st.st_size);
    stat("sub", &st);
    printf("dir %d %o\n", S_ISDIR(st.st_mode), st.st_mode & 0777);
    chmod("hard", 0600);
    struct timespec times[2] = {{1000000000, 0}, {1111111111, 222000000}};
    utimensat(AT_FDCWD, "hard", times, 0);
    fstatat(AT_FDCWD, "hard", &st, 0);
    printf("times %ld %ld %ld %o\n", (long)st.st_atime, (long)st.st_mtime, st.st_mtim.tv_nsec,
           st.st_mode & 0777);
    struct statx sx;
    printf("statx %d %u\n", statx(AT_FDCWD, "hard", 0, STATX_SIZE | STATX_NLINK, &sx),
           sx.stx_nlink);

    DIR *d = opendir(".");
    char *names[64];
    int n = 0;
    for (struct dirent *e; (e = readdir(d)) && n < 64;) {
        names[n++] = strdup(e->d_name);
        if (!strcmp(e->d_name, "sub"))
            printf("type %d\n", e->d_type == DT_DIR || e->d_type == DT_UNKNOWN);
    }
    closedir(d);
    qsort(names, (size_t)n, sizeof *names, by_name);
    printf("entries %d %s %s %s\n", n, names[2], names[n / 2], names[n - 1]);
    for (int i = 0; i < n; i++)
        if (strcmp(names[i], ".") && strcmp(names[i], "..") && strcmp(names[i], "sub"))
            unlink(names[i]);
    errno = 0;
    printf("open %d %s\n", open("gone", O_RDONLY), strerror(errno));
    rename("sub", "moved");
    printf("access %d %d\n", access("moved", F_OK), access("sub", F_OK));
    rmdir("moved");
    if (chdir("/")) return 1;
    printf("rmdir %d\n", rmdir(dir));
    printf("cwd %s\n", getcwd(name, sizeof name));

    setenv("DGM_A", "1", 1);
    putenv("DGM_B=two");
    unsetenv("DGM_A");
    printf("env %s %s %s\n", getenv("DGM_A") ? "set" : "unset", getenv("DGM_B"),
           getenv("DGM_TEST") ? getenv("DGM_TEST") : "none");
    struct rlimit rl;
    getrlimit(RLIMIT_NOFILE, &rl);
    rl.rlim_cur = 64;
    setrlimit(RLIMIT_NOFILE, &rl);
    getrlimit(RLIMIT_NOFILE, &rl);
    printf("rlimit %ld\n", (long)rl.rlim_cur);
    int fds = 0;
    while (dup(1) >= 0) fds++;
    printf("fds %s\n", strerror(errno));
    time_t when = 1234567890;
    struct tm tm;
    gmtime_r(&when, &tm);
    strftime(name, sizeof name, "%Y-%m-%d %H:%M:%S %A", &tm);
    printf("%s\n", name);
    return 23;
}
