// fakeroot.c - under --fake-root: what root sets it sees again, from any process, also after exec.
#define _GNU_SOURCE
#include "check.h"

#include <fcntl.h>
#include <grp.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

static int status_of(pid_t pid) {
    int s = -1;
    waitpid(pid, &s, 0);
    return WIFEXITED(s) ? WEXITSTATUS(s) : -1;
}

// After exec, as user 33 of group 34, with groups 5 and 6.
static int second(void) {
    struct stat st;
    uid_t r, e, s;
    gid_t groups[8];
    CHECK(!getresuid(&r, &e, &s) && r == 33 && e == 33 && s == 33);
    CHECK(getgid() == 34 && getegid() == 34);
    CHECK(getgroups(8, groups) == 2 && groups[0] == 5 && groups[1] == 6);
    CHECK(!stat("/tmp/f", &st) && st.st_uid == 7 && st.st_gid == 8 &&
          (st.st_mode & 07777) == 04711);
    CHECK(!stat("/tmp/dev", &st) && S_ISCHR(st.st_mode) && st.st_rdev == makedev(5, 1));
    FAILS(EPERM, chown("/tmp/f", 1, 1));
    FAILS(EPERM, setuid(0));
    return check_done();
}

// After chroot and exec: /jail is "/".
static int jailed(void) {
    char cwd[4096];
    struct stat st;
    CHECK(getcwd(cwd, sizeof cwd) && !strcmp(cwd, "/in"));
    CHECK(!stat("/program", &st) && !stat("../program", &st) && !stat("../../../program", &st));
    FAILS(ENOENT, stat("/tmp/f", &st));
    FAILS(ENOENT, stat("../../tmp/f", &st));
    FAILS(ENOENT, stat("/link/f", &st)); // to /tmp
    FAILS(ENOENT, stat("/proc/self", &st));
    CHECK(!chdir("/..") && getcwd(cwd, sizeof cwd) && !strcmp(cwd, "/"));
    CHECK(!chroot("in") && !chdir("/"));
    FAILS(ENOENT, stat("/program", &st));
    return check_failures ? check_failures : 7;
}

static void jail(void) {
    char *argv[] = {"program", "jailed", NULL}, buffer[65536];
    CHECK(!mkdir("/jail", 0755) && !mkdir("/jail/in", 0755) && !symlink("/tmp", "/jail/link"));
    int from = open("/program", O_RDONLY), to = open("/jail/program", O_CREAT | O_RDWR, 0755);
    for (ssize_t n; (n = read(from, buffer, sizeof buffer)) > 0;) write(to, buffer, n);
    close(from);
    close(to);
    FAILS(ENOENT, chroot("/none"));
    FAILS(ENOTDIR, chroot("/program"));
    pid_t pid = fork();
    if (!pid) {
        CHECK(!chdir("/jail/in") && !chroot(".."));
        execv("/program", argv);
        _exit(50);
    }
    CHECK(status_of(pid) == 7);
    for (int i = 0; i < 3; i++) { // the root is each process's own, also of those that share memory
        pid = vfork();
        if (!pid) {
            if (chroot("/jail") || (i && chroot("/in")) || chdir("/") ||
                access("/program", F_OK) != -(i > 0))
                _exit(51);
            if (!i && !chdir("in")) execv("/program", argv);
            _exit(8);
        }
        int got = status_of(pid);
        CHECK(!access("/jail/in", F_OK) && !access("/tmp/f", F_OK));
        CHECK(got == (i ? 8 : 7));
    }
    pid = fork();
    if (!pid) _exit(setuid(5) || chroot("/jail") != -1 || errno != EPERM);
    CHECK(status_of(pid) == 0);
    CHECK(!stat("/jail/program", &(struct stat){0}));
}

int main(int argc, char **argv) {
    struct stat st;
    struct statx sx;
    if (argc > 1) return strcmp(argv[1], "jailed") ? second() : jailed();
    CHECK(getuid() == 0 && geteuid() == 0 && getgid() == 0);
    umask(022);
    int fd = open("/tmp/f", O_CREAT | O_RDWR, 0666);
    CHECK(fd >= 0);
    CHECK(!fstat(fd, &st) && st.st_uid == 0 && st.st_gid == 0);
    CHECK(!chown("/tmp/f", 1000, 2000) && !stat("/tmp/f", &st) && st.st_uid == 1000 &&
          st.st_gid == 2000);
    CHECK(!fchown(fd, 7, -1) && !fstat(fd, &st) && st.st_uid == 7 && st.st_gid == 2000);
    CHECK(!chown("/tmp/f", -1, 8) && !stat("/tmp/f", &st) && st.st_uid == 7 && st.st_gid == 8);
    CHECK(!chmod("/tmp/f", 04711) && !stat("/tmp/f", &st) && (st.st_mode & 07777) == 04711);
    CHECK(!statx(AT_FDCWD, "/tmp/f", 0, STATX_BASIC_STATS, &sx) && sx.stx_uid == 7 &&
          sx.stx_mode == (S_IFREG | 04711));
    CHECK(!chown("/tmp/f", 7, 8) && !stat("/tmp/f", &st) && (st.st_mode & 07777) == 0711);
    CHECK(!chmod("/tmp/f", 04711));
    // a link is not its target
    CHECK(!symlink("f", "/tmp/l") && !lchown("/tmp/l", 3, 4));
    CHECK(!lstat("/tmp/l", &st) && st.st_uid == 3 && !stat("/tmp/l", &st) && st.st_uid == 7);
    CHECK(!fchownat(fd, "", 7, 8, AT_EMPTY_PATH) && !chmod("/tmp/f", 04711));
    // devices
    CHECK(!mknod("/tmp/dev", S_IFCHR | 0620, makedev(5, 1)));
    CHECK(!stat("/tmp/dev", &st) && S_ISCHR(st.st_mode) && (st.st_mode & 07777) == 0600 &&
          st.st_rdev == makedev(5, 1));
    CHECK(!mkfifo("/tmp/fifo", 0600) && !stat("/tmp/fifo", &st) && S_ISFIFO(st.st_mode));
    FAILS(EEXIST, mknod("/tmp/dev", S_IFBLK | 0600, makedev(1, 1)));
    // an inode that is used again is another file
    for (int i = 0; i < 20; i++) {
        int x = open("/tmp/x", O_CREAT | O_RDWR | O_EXCL, 0600);
        CHECK(x >= 0 && !fstat(x, &st) && st.st_uid == 0);
        CHECK(!fchown(x, 99, 99));
        close(x);
        unlink("/tmp/x");
    }
    // a directory that nobody may enter can be entered
    CHECK(!mkdir("/tmp/d", 0700) && !chmod("/tmp/d", 0) && !stat("/tmp/d", &st) &&
          (st.st_mode & 0777) == 0);
    CHECK(open("/tmp/d/in", O_CREAT | O_RDWR, 0) >= 0 && !chmod("/tmp/d/in", 0) &&
          open("/tmp/d/in", O_RDWR) >= 0);
    // ids
    pid_t pid = fork();
    if (!pid) {
        gid_t groups[] = {5, 6};
        uid_t r, e, s;
        CHECK(!setgroups(2, groups) && !setresgid(34, 34, 34));
        CHECK(!seteuid(33) && !getresuid(&r, &e, &s) && r == 0 && e == 33 && s == 0);
        CHECK(!seteuid(0) && !setuid(33) && !getresuid(&r, &e, &s) && r == 33 && s == 33);
        FAILS(EPERM, setuid(0));
        FAILS(EPERM, setgroups(0, NULL));
        if (check_failures) _exit(50);
        execl("/proc/self/exe", "program", "second", NULL);
        _exit(51);
    }
    CHECK(status_of(pid) == 0);
    CHECK(getuid() == 0);
    jail();
    return check_failures ? check_done() : 0;
}
