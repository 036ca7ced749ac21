// proc_files.c - files of /proc that must show the guest's process and not Dragoman's: made when
// they are opened, as memory files.
#include "linux/fake_root.h"
#include "linux/syscall.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/sysmacros.h>
#include <unistd.h>

const char *proc_own(const char *path) {
    if (strncmp(path, "/proc/", 6)) return NULL;
    path += 6;
    char *end;
    if (!strncmp(path, "thread-self/", 12)) return path + 12;
    if (!strncmp(path, "self/", 5)) {
        path += 5;
    } else {
        long pid = strtol(path, &end, 10);
        if (end == path || *end != '/' || pid != getpid()) return NULL;
        path = end + 1;
    }
    if (strncmp(path, "task/", 5)) return path;
    strtol(path + 5, &end, 10);
    return end != path + 5 && *end == '/' ? end + 1 : path;
}

const char *proc_link(Vcpu *v, const char *path) {
    const char *what = proc_own(path);
    if (!what) return NULL;
    if (!strcmp(what, "exe")) return process_of(v)->exe_guest;
    return !strcmp(what, "root") && process_of(v)->n_binds ? "/" : NULL;
}

static void read_whole(const char *path, Buf *out) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    char piece[4096];
    for (ssize_t n; fd >= 0 && (n = read(fd, piece, sizeof piece)) > 0;)
        buf_add(out, piece, (size_t)n);
    if (fd >= 0) close(fd);
}

// The name behind a mapping of the host at lo, from the host's own maps; "" when there is none.
static void name_of(LinuxProcess *p, const Buf *maps, uint64_t lo, char out[PATH_MAX]) {
    out[0] = 0;
    for (const char *line = maps->data; line && *line;
         line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
        uint64_t a, b;
        int at = 0;
        if (sscanf(line, "%lx-%lx %*s %*s %*s %*s %n", &a, &b, &at) < 2 || lo < a || lo >= b)
            continue;
        size_t n = strcspn(line + at, "\n");
        char host[PATH_MAX];
        if (line[at] != '/' || n >= sizeof host) return;
        memcpy(host, line + at, n);
        host[n] = 0;
        path_guest(p, host, out);
        return;
    }
}

static void write_maps(Vcpu *v, Buf *out) {
    LinuxProcess *p = process_of(v);
    size_t n;
    SpaceRange *ranges = space_list(v->m->as, &n);
    uint64_t brk = space_brk(v->m->as, 0); // asks only
    Buf maps = {0};
    read_whole("/proc/self/maps", &maps);
    buf_add(&maps, "", 1);
    for (size_t i = 0; ranges && i < n; i++) {
        const SpaceRange *r = &ranges[i];
        char name[PATH_MAX];
        name_of(p, &maps, r->lo, name);
        if (r->hi > p->stack_lo && r->lo < p->stack_hi) snprintf(name, sizeof name, "[stack]");
        if (r->hi > p->brk_start && r->lo < brk && !r->inode) snprintf(name, sizeof name, "[heap]");
        size_t before = out->len;
        buf_printf(out, "%08lx-%08lx %c%c%c%c %08lx %02x:%02x %lu ", r->lo, r->hi,
                   r->prot & PROT_READ ? 'r' : '-', r->prot & PROT_WRITE ? 'w' : '-',
                   r->prot & PROT_EXEC ? 'x' : '-', r->shared ? 's' : 'p',
                   r->inode ? r->file_off : 0, major(r->dev), minor(r->dev), r->inode);
        if (name[0]) {
            while (out->len - before < 73) buf_printf(out, " ");
            buf_printf(out, "%s", name);
        }
        buf_printf(out, "\n");
    }
    buf_free(&maps);
    free(ranges);
}

// /proc/self/status with the ids that --fake-root shows.
static void write_status(LinuxProcess *p, const char *path, Buf *out) {
    static const char *const heads[] = {"Uid:", "Gid:"};
    Buf host = {0};
    read_whole(path, &host);
    buf_add(&host, "", 1);
    for (const char *line = host.failed ? "" : (const char *)host.data; *line;) {
        size_t n = strcspn(line, "\n");
        unsigned kind = 0;
        while (kind < 2 && strncmp(line, heads[kind], 4)) kind++;
        if (kind < 2) {
            const uint32_t *id = p->fake->id[kind];
            buf_printf(out, "%s\t%u\t%u\t%u\t%u\n", heads[kind], id[ID_REAL], id[ID_EFFECTIVE],
                       id[ID_SAVED], id[ID_FS]);
        } else {
            buf_add(out, line, n);
            buf_add(out, "\n", 1);
        }
        line += n + (line[n] == '\n');
    }
    buf_free(&host);
}

static int64_t memory_file(const char *name, const Buf *content, int flags) {
    if (content->failed) return -ENOMEM;
    int fd = memfd_create(name, flags & O_CLOEXEC ? MFD_CLOEXEC : 0);
    if (fd < 0) return -errno;
    for (size_t at = 0; at < content->len;) {
        ssize_t n = write(fd, content->data + at, content->len - at);
        if (n <= 0) {
            int e = errno;
            close(fd);
            return -e;
        }
        at += (size_t)n;
    }
    lseek(fd, 0, SEEK_SET);
    return fd;
}

int64_t proc_open(Vcpu *v, const char *path, int flags) {
    LinuxProcess *p = process_of(v);
    const char *what = proc_own(path);
    Buf content = {0};
    if ((flags & O_ACCMODE) != O_RDONLY) return -ENOENT;
    if (what && (!strncmp(what, "task", 4) || !strcmp(what, "status") || !strcmp(what, "stat")))
        hot_stop(v->m); // so that they show the guest's threads
    if (!strcmp(path, "/proc/cpuinfo"))
        abi_of(v)->cpuinfo(v->m->features, (unsigned)sysconf(_SC_NPROCESSORS_ONLN), &content);
    else if (!what)
        return -ENOENT;
    else if (!strcmp(what, "exe")) {
        int fd = open(p->exe_host, flags);
        return fd < 0 ? -errno : fd;
    } else if (!strcmp(what, "status") && p->fake)
        write_status(p, path, &content);
    else if (!strcmp(what, "maps"))
        write_maps(v, &content);
    else if (p->published)
        return -ENOENT;
    else if (!strcmp(what, "auxv"))
        buf_add(&content, p->auxv, p->auxv_bytes);
    else if (!strcmp(what, "cmdline"))
        buf_add(&content, p->cmdline, p->cmdline_bytes);
    else if (!strcmp(what, "environ"))
        buf_add(&content, p->environ, p->environ_bytes);
    else
        return -ENOENT;
    int64_t fd = memory_file(what ? what : "cpuinfo", &content, flags);
    buf_free(&content);
    return fd;
}
