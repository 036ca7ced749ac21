// publish.c - what others see of a guest process in the host's /proc: where the process is ours
// alone (the command, not a program that embeds the library), its name, command line, environment,
// auxiliary vector and code range are made the guest's own, as a kernel that ran it would show.
// ps, top, pkill and other guests then need no help; /proc/PID/exe of another guest is found
// through the code range.
#include "linux/syscall.h"

#include <fcntl.h>
#include <linux/prctl.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

// Fields of /proc/PID/stat, counted from the one behind the name (which is 3).
enum { STAT_START_CODE = 26 - 3, STAT_END_CODE = 27 - 3, STAT_START_DATA = 45 - 3 };
enum { STAT_END_DATA = STAT_START_DATA + 1, STAT_START_BRK, STAT_FIELDS };

// path: /proc/PID/stat. A negative field is 0.
static bool read_stat(const char *path, uint64_t out[STAT_FIELDS]) {
    char text[2048];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (fd >= 0) close(fd);
    if (n <= 0) return false;
    text[n] = 0;
    char *at = strrchr(text, ')'); // the name may hold anything
    if (!at) return false;
    at += 4; // ") S "
    for (unsigned i = 1; i < STAT_FIELDS; i++) {
        out[i] = 0; // by hand, for strtoull is two pages of libc to start
        while (*at >= '0' && *at <= '9') out[i] = out[i] * 10 + (uint64_t)(*at++ - '0');
        at = strchr(at, ' ');
        if (!at++) return false;
    }
    return true;
}

static void publish_name(const char *path) {
    const char *slash = strrchr(path, '/');
    prctl(PR_SET_NAME, slash ? slash + 1 : path);
}

void process_publish(LinuxProcess *p, const char *path) {
    uint64_t stat[STAT_FIELDS];
    publish_name(path);
    if (!read_stat("/proc/self/stat", stat) || !p->code_hi) return;
    struct prctl_mm_map map = {.start_code = p->code_lo,
                               .end_code = p->code_hi,
                               .start_data = stat[STAT_START_DATA],
                               .end_data = stat[STAT_END_DATA],
                               .start_brk = stat[STAT_START_BRK],
                               .brk = (uint64_t)(uintptr_t)sbrk(0),
                               .start_stack = p->stack_start,
                               .arg_start = p->arg_lo,
                               .arg_end = p->arg_hi,
                               .env_start = p->env_lo,
                               .env_end = p->env_hi,
                               .auxv = (void *)p->auxv,
                               .auxv_size = (uint32_t)p->auxv_bytes,
                               .exe_fd = (uint32_t)-1};
    // a kernel without it leaves /proc/self/* to proc_files.c
    p->published = !prctl(PR_SET_MM, PR_SET_MM_MAP, &map, sizeof map, 0);
}

// The command is two executables, dragoman and dragoman-dynamic (meson.build): what is the same.
static size_t command_bytes(const char *exe, size_t n) {
    static const char kind[] = "-dynamic";
    const size_t bytes = sizeof kind - 1;
    return n > bytes && !memcmp(exe + n - bytes, kind, bytes) ? n - bytes : n;
}

static bool same_command(const char *exe, size_t n, const char *other, size_t m) {
    n = command_bytes(exe, n);
    return n == command_bytes(other, m) && !memcmp(exe, other, n);
}

bool proc_guest_exe(const char *pid, char out[PATH_MAX]) {
    char path[64], theirs[PATH_MAX], ours[PATH_MAX], line[PATH_MAX + 128];
    snprintf(path, sizeof path, "/proc/%s/exe", pid);
    ssize_t n = readlink(path, theirs, sizeof theirs - 1);
    ssize_t m = readlink("/proc/self/exe", ours, sizeof ours - 1);
    if (n < 0 || m < 0 || !same_command(theirs, (size_t)n, ours, (size_t)m)) return false;
    theirs[n] = 0;
    uint64_t stat[STAT_FIELDS];
    snprintf(path, sizeof path, "/proc/%s/stat", pid);
    if (!read_stat(path, stat)) return false;
    snprintf(path, sizeof path, "/proc/%s/maps", pid);
    FILE *maps = fopen(path, "re");
    bool found = false;
    while (maps && !found && fgets(line, sizeof line, maps)) {
        uint64_t lo, hi;
        int at = 0;
        if (sscanf(line, "%lx-%lx %*s %*s %*s %*s %n", &lo, &hi, &at) < 2 || !at) continue;
        line[strcspn(line, "\n")] = 0;
        if (stat[STAT_START_CODE] < lo || stat[STAT_START_CODE] >= hi || line[at] != '/') continue;
        found = strlen(line + at) < PATH_MAX;
        if (found) memcpy(out, line + at, strlen(line + at) + 1);
    }
    if (maps) fclose(maps);
    return found && strcmp(out, theirs); // its own code: a Dragoman that has not begun yet
}
