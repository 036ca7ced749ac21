// escape.c - tries to name a file outside the root, by every path it can build. The runner puts a
// file `secret` beside the root directory and one in a host directory that is not bound; its
// absolute host path is argv[1]. Also: that what is inside can be named.
#define _GNU_SOURCE
#include "check.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static char secret[4096], name[64];

// Fails when the path shows the secret's contents.
static void try(const char *path) {
    int fd = open(path, O_RDONLY | O_NONBLOCK);
    char text[64] = {0};
    struct stat st;
    // only files: other processes' pipes keep what is in them
    if (fd >= 0 && !fstat(fd, &st) && S_ISREG(st.st_mode) && read(fd, text, sizeof text - 1) > 0 &&
        !strncmp(text, "SECRET", 6)) {
        printf("escaped by open(%s)\n", path);
        check_failures++;
    }
    if (fd >= 0) close(fd);
    if (!stat(path, &st) && st.st_size == 4242) {
        printf("escaped by stat(%s)\n", path);
        check_failures++;
    }
}

static void try_at(int dir, const char *path) {
    struct stat st;
    if (!fstatat(dir, path, &st, 0) && st.st_size == 4242) {
        printf("escaped by fstatat(%d, %s)\n", dir, path);
        check_failures++;
    }
    int fd = openat(dir, path, O_RDONLY | O_NONBLOCK);
    if (fd >= 0 && !fstat(fd, &st) && st.st_size == 4242) {
        printf("escaped by openat(%d, %s)\n", dir, path);
        check_failures++;
    }
    if (fd >= 0) close(fd);
}

static void dots(void) {
    char path[8192] = "";
    for (int i = 0; i < 40; i++) {
        strcat(path, "../");
        char with[9000];
        snprintf(with, sizeof with, "%s%s", path, name);
        try(with);
        snprintf(with, sizeof with, "/%s%s", path, name);
        try(with);
        snprintf(with, sizeof with, "/a/%s%s", path, secret + 1);
        try(with);
        snprintf(with, sizeof with, "%s%s", path, secret + 1);
        try(with);
    }
    try(secret);
}

static void links(void) {
    char target[8192];
    mkdir("/a", 0755);
    mkdir("/a/b", 0755);
    const char *formats[] = {"%s",         "../../../../../../../../..%s", "/..%s",
                             "/a/../..%s", "/a/b/../../../..%s",           "./../../..%s",
                             "//..//..%s"};
    for (unsigned i = 0; i < sizeof formats / sizeof *formats; i++) {
        snprintf(target, sizeof target, formats[i], secret);
        unlink("/a/b/l");
        CHECK(!symlink(target, "/a/b/l"));
        try("/a/b/l");
        try("a/b/l");
        try("/a/b/./l");
        // through a link to the directory it lies in
        snprintf(target, sizeof target, formats[i], "/");
        unlink("/a/b/d");
        CHECK(!symlink(target, "/a/b/d"));
        char path[9000];
        snprintf(path, sizeof path, "/a/b/d%s", secret);
        try(path);
        snprintf(path, sizeof path, "/a/b/d/../%s", name);
        try(path);
        int dir = open("/a/b/d", O_RDONLY | O_DIRECTORY);
        CHECK(dir >= 0);
        try_at(dir, name);
        snprintf(path, sizeof path, "../%s", name);
        try_at(dir, path);
        try_at(dir, secret + 1);
        close(dir);
        CHECK(!chdir("/a/b/d"));
        try(name);
        snprintf(path, sizeof path, "../%s", name);
        try(path);
        try(secret + 1);
        CHECK(!chdir("/"));
    }
    unlink("/a/b/l");
    unlink("/a/b/d");
    CHECK(!symlink("loop2", "/a/loop1"));
    CHECK(!symlink("loop1", "/a/loop2"));
    FAILS(ELOOP, open("/a/loop1", O_RDONLY));
    unlink("/a/loop1");
    unlink("/a/loop2");
}

// /proc shows processes of the host, whose directories and files are outside: pid is one that holds
// the secret open, and its directory.
static void proc(const char *pid) {
    char path[8192];
    DIR *d = opendir("/proc");
    CHECK(d);
    struct dirent *e;
    while (d && (e = readdir(d))) {
        if (strcmp(e->d_name, pid) && strcmp(e->d_name, "self")) continue;
        const char *ways[] = {"root", "cwd", "root/..", "cwd/..", "task/../cwd", "exe/.."};
        for (unsigned i = 0; i < sizeof ways / sizeof *ways; i++) {
            snprintf(path, sizeof path, "/proc/%s/%s%s", e->d_name, ways[i], secret);
            try(path);
            snprintf(path, sizeof path, "/proc/%s/%s/%s", e->d_name, ways[i], name);
            try(path);
        }
        for (int fd = 0; fd < 20; fd++) {
            snprintf(path, sizeof path, "/proc/%s/fd/%d", e->d_name, fd);
            try(path);
            snprintf(path, sizeof path, "/proc/%s/fd/%d/%s", e->d_name, fd, name);
            try(path);
            snprintf(path, sizeof path, "/proc/%s/fd/%d/..%s", e->d_name, fd, secret);
            try(path);
            snprintf(path, sizeof path, "/proc/%s/fd", e->d_name);
            int dir = open(path, O_RDONLY | O_DIRECTORY);
            char number[16];
            snprintf(number, sizeof number, "%d", fd);
            if (dir >= 0) {
                try_at(dir, number);
                snprintf(path, sizeof path, "%d/%s", fd, name);
                try_at(dir, path);
                close(dir);
            }
        }
        snprintf(path, sizeof path, "/proc/%s", e->d_name);
        int dir = open(path, O_RDONLY | O_DIRECTORY);
        if (dir >= 0) {
            int in = openat(dir, "cwd", O_RDONLY | O_DIRECTORY);
            try_at(in, name);
            close(in);
            in = openat(dir, "root", O_RDONLY | O_DIRECTORY);
            try_at(in, secret + 1);
            close(in);
            close(dir);
        }
    }
    if (d) closedir(d);
    snprintf(path, sizeof path, "/proc/self/root%s", secret);
    try(path);
    snprintf(path, sizeof path, "/proc/thread-self/cwd/..%s", secret);
    try(path);
    snprintf(path, sizeof path, "/proc/../..%s", secret);
    try(path);
    snprintf(path, sizeof path, "/dev/../..%s", secret);
    try(path);
    snprintf(path, sizeof path, "/dev/fd/../../../..%s", secret);
    try(path);
}

static void open2(void) {
    int root = open("/", O_RDONLY | O_DIRECTORY), a = open("/a", O_RDONLY | O_DIRECTORY);
    const uint64_t resolve[] = {0,
                                RESOLVE_IN_ROOT,
                                RESOLVE_BENEATH,
                                RESOLVE_NO_SYMLINKS,
                                RESOLVE_NO_MAGICLINKS,
                                RESOLVE_NO_XDEV};
    char path[8192];
    for (unsigned i = 0; i < sizeof resolve / sizeof *resolve; i++)
        for (int up = 0; up < 12; up++) {
            path[0] = 0;
            for (int k = 0; k < up; k++) strcat(path, "../");
            strcat(path, up % 2 ? name : secret);
            struct open_how how = {.flags = O_RDONLY, .resolve = resolve[i]};
            int fds[2] = {syscall(SYS_openat2, root, path, &how, sizeof how),
                          syscall(SYS_openat2, a, path, &how, sizeof how)};
            for (int k = 0; k < 2; k++) {
                struct stat st;
                if (fds[k] >= 0 && !fstat(fds[k], &st) && st.st_size == 4242) {
                    printf("escaped by openat2(%s, %#lx)\n", path, (long)resolve[i]);
                    check_failures++;
                }
                if (fds[k] >= 0) close(fds[k]);
            }
        }
    struct open_how how = {.flags = O_RDONLY, .resolve = RESOLVE_BENEATH};
    FAILS(EXDEV, syscall(SYS_openat2, a, "../etc", &how, sizeof how));
    FAILS(EXDEV, syscall(SYS_openat2, a, "/etc", &how, sizeof how));
    how.resolve = RESOLVE_NO_SYMLINKS;
    CHECK(!symlink("b", "/a/s"));
    FAILS(ELOOP, syscall(SYS_openat2, root, "a/s", &how, sizeof how));
    how.resolve = RESOLVE_NO_MAGICLINKS;
    FAILS(ELOOP, syscall(SYS_openat2, root, "/proc/self/fd/0", &how, sizeof how));
    how.resolve = 1 << 20;
    FAILS(EINVAL, syscall(SYS_openat2, root, "a", &how, sizeof how));
    unlink("/a/s");
    close(root);
    close(a);
}

// Changing what is outside: every call that takes a path.
static void others(void) {
    char path[8192], up[8192];
    snprintf(up, sizeof up, "/../../../../../../../..%s", secret);
    const char *ways[] = {secret, up};
    for (int i = 0; i < 2; i++) {
        const char *p = ways[i];
        struct stat st;
        CHECK(truncate(p, 0) == -1);
        CHECK(unlink(p) == -1);
        CHECK(rename(p, "/a/x") == -1);
        CHECK(link(p, "/a/x") == -1);
        CHECK(chmod(p, 0777) == -1);
        CHECK(access(p, F_OK) == -1);
        CHECK(lstat(p, &st) == -1);
        CHECK(readlink(p, path, sizeof path) == -1);
        char *argv[] = {"x", NULL};
        CHECK(execv(p, argv) == -1);
        CHECK(inotify_add_watch(inotify_init1(0), p, IN_OPEN) == -1);
        struct sockaddr_un un = {.sun_family = AF_UNIX};
        int s = socket(AF_UNIX, SOCK_STREAM, 0);
        snprintf(un.sun_path, sizeof un.sun_path, "%.*s.sock", 100, p);
        CHECK(connect(s, (void *)&un, sizeof un) == -1); // the runner listens there
        close(s);
        snprintf(path, sizeof path, "%.*s", (int)(strlen(p) - strlen(name)), p);
        CHECK(chdir(path) == -1);
        CHECK(open(path, O_RDONLY | O_DIRECTORY) == -1);
    }
    CHECK(chroot("..") == -1 || open(name, O_RDONLY) == -1);
}

// What must work.
static void inside(void) {
    char path[4096];
    struct stat a, b;
    CHECK(!stat("/", &a) && !stat("/..", &b) && a.st_ino == b.st_ino);
    CHECK(!stat("/../../a/b/../../a", &b));
    CHECK(!chdir("/a/b") && getcwd(path, sizeof path) && !strcmp(path, "/a/b"));
    CHECK(!chdir("../../..") && getcwd(path, sizeof path) && !strcmp(path, "/"));
    CHECK(!symlink("/a/b", "/a/abs") && !symlink("b", "/a/rel"));
    CHECK(!stat("/a/b", &a) && !stat("/a/abs", &b) && a.st_ino == b.st_ino);
    CHECK(!stat("/a/rel/../abs/.", &b) && a.st_ino == b.st_ino);
    int fd = open("/a/abs/file", O_CREAT | O_RDWR | O_TRUNC, 0600);
    CHECK(fd >= 0 && write(fd, "x", 1) == 1);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    char to[4096] = "";
    CHECK(readlink(path, to, sizeof to) > 0 && !strcmp(to, "/a/b/file"));
    CHECK(!stat(path, &a) && a.st_size == 1);
    CHECK(!fstatat(fd, "", &b, AT_EMPTY_PATH) && a.st_ino == b.st_ino);
    FAILS(ENOTDIR, open("/a/b/file/", O_RDONLY));
    FAILS(ENOTDIR, open("/a/b/file/.", O_RDONLY));
    FAILS(ENOTDIR, open("/a/b/file/..", O_RDONLY));
    FAILS(ENOENT, open("/a/none/../b", O_RDONLY));
    FAILS(EINVAL, rmdir("/a/b/."));
    FAILS(ENOENT, open("", O_RDONLY));
    // links are made and read as they are
    CHECK(readlink("/a/abs", to, sizeof to) == 4 && !memcmp(to, "/a/b", 4));
    CHECK(!lstat("/a/abs", &a) && S_ISLNK(a.st_mode));
    CHECK(!linkat(AT_FDCWD, "/a/abs", AT_FDCWD, "/a/hard", 0));
    CHECK(!lstat("/a/hard", &b) && S_ISLNK(b.st_mode) && a.st_ino == b.st_ino);
    FAILS(EEXIST, open("/a/abs", O_CREAT | O_EXCL | O_RDWR, 0600));
    FAILS(ELOOP, open("/a/abs", O_RDONLY | O_NOFOLLOW));
    CHECK(!unlink("/a/hard") && !unlink("/a/abs") && !unlink("/a/rel"));
    // a socket's path is the guest's at both ends
    struct sockaddr_un un = {.sun_family = AF_UNIX, .sun_path = "/a/b/sock"}, got = {0};
    socklen_t len = sizeof got;
    int s = socket(AF_UNIX, SOCK_STREAM, 0), c = socket(AF_UNIX, SOCK_STREAM, 0);
    unlink(un.sun_path);
    CHECK(!bind(s, (void *)&un, sizeof un) && !listen(s, 1));
    CHECK(!stat("/a/b/sock", &a) && S_ISSOCK(a.st_mode));
    CHECK(!connect(c, (void *)&un, sizeof un));
    CHECK(!getpeername(c, (void *)&got, &len) && !strcmp(got.sun_path, "/a/b/sock"));
    close(s);
    close(c);
    // the bound directory
    CHECK(!stat("/bound/inner", &a) && !stat("/bound/../bound/inner", &b) && a.st_ino == b.st_ino);
    CHECK(!chdir("/bound") && getcwd(path, sizeof path) && !strcmp(path, "/bound"));
    CHECK(!stat("../a", &b) && !chdir("..") && getcwd(path, sizeof path) && !strcmp(path, "/"));
    try("/bound/../secret");
    unlink("/a/b/sock");
    unlink("/a/b/file");
    close(fd);
}

int main(int argc, char **argv) {
    snprintf(secret, sizeof secret, "%s", argv[1]);
    snprintf(name, sizeof name, "%s", strrchr(secret, '/') + 1);
    dots();
    links();
    dots();
    proc(argv[2]);
    open2();
    others();
    inside();
    return check_done();
}
