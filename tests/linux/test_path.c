// test_path.c - guest paths to host paths, in a root made for the test:
//
//     ROOT/etc/passwd  ROOT/usr/lib/deep/  and links that are relative, absolute, dangling, in
//     loops, and that try to climb out of ROOT; beside ROOT lies `secret`, which must never be
//     reached.
#include "linux/syscall.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

typedef struct World {
    char dir[64], root[80], start[PATH_MAX]; // dir holds root and what is outside of it
    LinuxProcess p;
} World;

static void in_root(const World *w, const char *name, char out[PATH_MAX]) {
    snprintf(out, PATH_MAX, "%s/%s", w->root, name);
}
static void make_dir(const World *w, const char *name) {
    char path[PATH_MAX];
    in_root(w, name, path);
    assert_int_equal(mkdir(path, 0755), 0);
}
static void make_file(const World *w, const char *name) {
    char path[PATH_MAX];
    in_root(w, name, path);
    int fd = open(path, O_CREAT | O_WRONLY, 0644);
    assert_true(fd >= 0);
    close(fd);
}
static void make_link(const World *w, const char *name, const char *target) {
    char path[PATH_MAX];
    in_root(w, name, path);
    assert_int_equal(symlink(target, path), 0);
}

static int build(void **state) {
    static const char *const dirs[] = {"",    "etc", "usr",          "usr/lib", "usr/lib/deep",
                                       "tmp", "dev", "usr/lib/proc", "develop"};
    static const char *const links[][2] = {
        {"lib", "usr/lib"},                  // relative
        {"usr/abs", "/etc"},                 // absolute: from the guest's root
        {"usr/abs-file", "/etc/passwd"},     //
        {"usr/lib/deep/up", "../../../etc"}, // relative with ".."
        {"climb", "../../../../../secret"},  // stops at the root
        {"usr/out", "../../../.."},          //
        {"usr/lib/chain", "../abs"},         // a link to a link
        {"dangling", "/tmp/not-yet"},        //
        {"loop", "loop"},                    //
        {"ping", "pong"},
        {"pong", "ping"},             //
        {"slashes", "//usr///lib//"}, //
        {"dot", "."},
        {"tmp/root", "/"}, //
        {"through-proc", "/proc/self/root/etc"},
    };
    World *w = calloc(1, sizeof *w);
    strcpy(w->dir, "/tmp/dgm-path-XXXXXX");
    if (!mkdtemp(w->dir) || !getcwd(w->start, sizeof w->start)) return -1;
    snprintf(w->root, sizeof w->root, "%s/root", w->dir);
    for (unsigned i = 0; i < ARRAY_LEN(dirs); i++) make_dir(w, dirs[i]);
    make_file(w, "etc/passwd");
    make_file(w, "../secret");
    make_file(w, "../rootkit"); // begins with the root's name
    for (unsigned i = 0; i < ARRAY_LEN(links); i++) make_link(w, links[i][0], links[i][1]);
    DgmErr err;
    LinuxConfig config = {.rootfs = w->root};
    if (binds_init(&w->p, &config, &err)) return -1;
    w->p.exe_guest = (char *)"/usr/program";
    *state = w;
    return 0;
}

static int tear_down(void **state) {
    World *w = *state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", w->dir);
    int e = chdir(w->start) || system(command);
    binds_free(&w->p, NULL);
    free(w->p.rootfs);
    free(w);
    return e;
}

// What path must be on the host: `want` in the root, or as it is when `outside`.
static void expect(World *w, int dirfd, const char *path, unsigned how, const char *want,
                   bool outside) {
    char out[PATH_MAX], whole[PATH_MAX];
    int e = path_host(&w->p, dirfd, path, how, out);
    if (e) fail_msg("%s: %s", path, strerror(-e));
    snprintf(whole, sizeof whole, "%s%s", outside ? "" : w->root, want);
    if (strcmp(out, whole)) fail_msg("%s is %s, not %s", path, out, whole);
}
static void leads(World *w, const char *path, const char *want) {
    expect(w, AT_FDCWD, path, 0, want, false);
}
static void refused(World *w, const char *path, int error) {
    char out[PATH_MAX];
    int e = path_host(&w->p, AT_FDCWD, path, 0, out);
    if (e != -error) fail_msg("%.40s: %s, expected %s", path, strerror(-e), strerror(error));
}

static void plain_names(void **state) {
    World *w = *state;
    leads(w, "/", "/");
    leads(w, "//", "/");
    leads(w, "/etc/passwd", "/etc/passwd");
    leads(w, "///etc//passwd", "/etc/passwd");
    leads(w, "/./etc/./passwd", "/etc/passwd");
    leads(w, "/etc/none", "/etc/none");
    leads(w, "/none/at/all", "/none/at/all");
    refused(w, "", ENOENT);
}

static void dot_dot_stays_inside(void **state) {
    World *w = *state;
    leads(w, "/..", "/");
    leads(w, "/../../..", "/");
    leads(w, "/../secret", "/secret");
    leads(w, "/etc/../../../secret", "/secret");
    leads(w, "/usr/lib/../../etc/passwd", "/etc/passwd");
    leads(w, "/usr/lib/..", "/usr");
    leads(w, "/..../x", "/..../x"); // only a name
}

static void links(void **state) {
    World *w = *state;
    leads(w, "/lib/deep", "/usr/lib/deep");
    leads(w, "/lib/../etc", "/usr/etc"); // physical, not the shell's logical ".."
    leads(w, "/usr/abs/passwd", "/etc/passwd");
    leads(w, "/usr/abs-file", "/etc/passwd");
    leads(w, "/lib/deep/up/passwd", "/etc/passwd");
    leads(w, "/lib/chain/passwd", "/etc/passwd");
    leads(w, "/climb", "/secret");
    leads(w, "/usr/out/secret", "/secret");
    leads(w, "/usr/out/../..", "/");
    leads(w, "/dangling", "/tmp/not-yet");
    leads(w, "/slashes/deep", "/usr/lib/deep");
    leads(w, "/dot/dot/dot/etc", "/etc");
    leads(w, "/tmp/root/tmp/root/etc", "/etc");
    leads(w, "/through-proc/passwd", "/etc/passwd");
    refused(w, "/loop", ELOOP);
    refused(w, "/loop/x", ELOOP);
    refused(w, "/ping/x", ELOOP);
}

static void last_link_not_followed(void **state) {
    World *w = *state;
    expect(w, AT_FDCWD, "/lib", PATH_NOFOLLOW, "/lib", false);
    expect(w, AT_FDCWD, "/loop", PATH_NOFOLLOW, "/loop", false);
    expect(w, AT_FDCWD, "/lib/chain", PATH_NOFOLLOW, "/usr/lib/chain", false);
    expect(w, AT_FDCWD, "/lib/", PATH_NOFOLLOW, "/usr/lib/", false);
    expect(w, AT_FDCWD, "/lib/.", PATH_NOFOLLOW, "/usr/lib/.", false);
    expect(w, AT_FDCWD, "/usr/../climb", PATH_NOFOLLOW | PATH_CREATE, "/climb", false);
}

// What needs a directory must go on needing one on the host, or open("file/") would work.
static void trailing_slashes(void **state) {
    World *w = *state;
    leads(w, "/etc/", "/etc/");
    leads(w, "/etc///", "/etc/");
    leads(w, "/etc/passwd/", "/etc/passwd/");
    leads(w, "/lib/", "/usr/lib/");
    leads(w, "/etc/passwd/.", "/etc/passwd/.");
    leads(w, "/none/.", "/none/.");
    leads(w, "/slashes", "/usr/lib/"); // the link's own
    leads(w, "/usr/lib/../", "/usr/");
    leads(w, "/usr/lib/./", "/usr/lib/.");
}

static void dot_dot_needs_a_directory(void **state) {
    World *w = *state;
    refused(w, "/none/../etc/passwd", ENOENT);
    refused(w, "/etc/passwd/../passwd", ENOTDIR);
    refused(w, "/dangling/..", ENOENT);
    refused(w, "/usr/abs-file/..", ENOTDIR);
}

static void trees_of_the_host(void **state) {
    World *w = *state;
    char pid[64];
    expect(w, AT_FDCWD, "/dev/null", 0, "/dev/null", true);
    expect(w, AT_FDCWD, "/proc/cpuinfo", 0, "/proc/cpuinfo", true);
    expect(w, AT_FDCWD, "/sys/", 0, "/sys/", true);
    leads(w, "/develop", "/develop");
    leads(w, "/usr/lib/proc", "/usr/lib/proc");
    leads(w, "/dev/../etc", "/etc");
    leads(w, "/proc/../secret", "/secret");
    snprintf(pid, sizeof pid, "/proc/%d/status", (int)getpid());
    expect(w, AT_FDCWD, "/proc/self/status", 0, pid, true);
    // the links of /proc that would lead out
    leads(w, "/proc/self/root/etc", "/etc");
    leads(w, "/proc/self/root/../secret", "/secret");
    leads(w, "/proc/1/root/etc", "/etc");
    leads(w, "/proc/thread-self/root/etc", "/etc");
    snprintf(pid, sizeof pid, "/proc/%d/task/%d/root/etc", (int)getpid(), (int)getpid());
    leads(w, pid, "/etc");
    expect(w, AT_FDCWD, "/proc/self/exe", 0, "/usr/program", false);
}

static void relative_names(void **state) {
    World *w = *state;
    char path[PATH_MAX];
    in_root(w, "usr/lib", path);
    assert_int_equal(chdir(path), 0);
    expect(w, AT_FDCWD, "deep", 0, "deep", true); // one name and no link: passed as it is
    leads(w, "deep/.", "/usr/lib/deep/.");
    leads(w, "chain", "/etc");
    expect(w, AT_FDCWD, "chain", PATH_NOFOLLOW, "chain", true);
    leads(w, ".", "/usr/lib/.");
    leads(w, "..", "/usr");
    leads(w, "../../../../secret", "/secret");
    leads(w, "./../abs/passwd", "/etc/passwd");
    leads(w, "/proc/self/cwd/deep", "/usr/lib/deep");
    in_root(w, "etc", path);
    int fd = open(path, O_RDONLY | O_DIRECTORY);
    expect(w, fd, "passwd", 0, "passwd", true);
    expect(w, fd, "./passwd", 0, "/etc/passwd", false);
    expect(w, fd, "../../secret", 0, "/secret", false);
    expect(w, fd, "/usr", 0, "/usr", false); // absolute: the descriptor does not matter
    close(fd);
    char out[PATH_MAX];
    assert_int_equal(path_host(&w->p, fd, "passwd", 0, out), -EBADF);
    assert_int_equal(path_host(&w->p, AT_FDCWD, "", PATH_EMPTY, out), 0);
    assert_string_equal(out, "");
}

static void too_long(void **state) {
    World *w = *state;
    char path[3 * PATH_MAX], out[PATH_MAX];
    memset(path, 'a', sizeof path);
    path[0] = '/';
    path[PATH_MAX] = 0;
    refused(w, path, ENAMETOOLONG);
    for (unsigned i = 0; i < sizeof path; i += 2) memcpy(path + i, "/b", 2);
    path[PATH_MAX - 2] = 0; // fits the guest, but not below the root
    refused(w, path, ENAMETOOLONG);
    path[1000] = 0;
    assert_int_equal(path_host(&w->p, AT_FDCWD, path, 0, out), 0);
    // forty links are followed, as Linux does; then it is a loop
    for (unsigned i = 0; i < 41; i++) memcpy(path + i * 9, "/tmp/root", 9);
    path[41 * 9] = 0;
    refused(w, path, ELOOP);
    path[40 * 9] = 0;
    leads(w, path, "/");
    // every length around the limit: an answer or ENAMETOOLONG, never a cut path
    for (size_t n = PATH_MAX - 120; n < PATH_MAX + 10; n++) {
        for (size_t i = 0; i < n; i++) path[i] = i % 100 ? 'c' : '/';
        path[n] = 0;
        int e = path_host(&w->p, AT_FDCWD, path, 0, out);
        if (e)
            assert_int_equal(e, -ENAMETOOLONG);
        else
            assert_int_equal(strlen(out), strlen(w->root) + n);
    }
}

static void guest_view(void **state) {
    World *w = *state;
    char host[PATH_MAX], out[PATH_MAX];
    in_root(w, "etc/passwd", host);
    assert_int_equal(path_guest(&w->p, host, out), 0);
    assert_string_equal(out, "/etc/passwd");
    assert_int_equal(path_guest(&w->p, w->root, out), 0);
    assert_string_equal(out, "/");
    snprintf(host, sizeof host, "%s/rootkit", w->dir);
    assert_int_equal(path_guest(&w->p, host, out), -EACCES);
    assert_string_equal(out, host); // not in the root at all
}

// -L: what exists there is taken from there, unless it is to be created.
static void sysroot(void **state) {
    World *w = *state;
    World v = *w;
    v.p = (LinuxProcess){.sysroot = v.root};
    leads(&v, "/etc/passwd", "/etc/passwd");
    expect(&v, AT_FDCWD, "/etc/none", 0, "/etc/none", true);
    expect(&v, AT_FDCWD, "/etc/passwd", PATH_CREATE, "/etc/passwd", true);
    expect(&v, AT_FDCWD, "etc/passwd", 0, "etc/passwd", true);
    expect(&v, AT_FDCWD, "/dev/null", 0, "/dev/null", true);
    leads(&v, "/dangling", "/dangling"); // it is there, so it counts
    v.p = (LinuxProcess){0};
    expect(&v, AT_FDCWD, "/etc/passwd", 0, "/etc/passwd", true);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_names),
        cmocka_unit_test(dot_dot_stays_inside),
        cmocka_unit_test(links),
        cmocka_unit_test(last_link_not_followed),
        cmocka_unit_test(trailing_slashes),
        cmocka_unit_test(dot_dot_needs_a_directory),
        cmocka_unit_test(trees_of_the_host),
        cmocka_unit_test(relative_names),
        cmocka_unit_test(too_long),
        cmocka_unit_test(guest_view),
        cmocka_unit_test(sysroot),
    };
    return cmocka_run_group_tests(tests, build, tear_down);
}
