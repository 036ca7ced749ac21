// syscall.h - the table of system calls and what its users share.
#ifndef DGM_LINUX_SYSCALL_H
#define DGM_LINUX_SYSCALL_H

#include "linux/process.h"

typedef struct Syscall {
    const char *name;
    const char *args; // letters of syscalls.def
    int host_nr;      // -1: not passed
    int error;        // what a refused one gives
    SyscallFn fn;     // NULL: passed or refused; beside a host_nr: with --fake-root only
    void (*after)(Vcpu *v, const uint64_t a[6], int64_t result); // of a passed one; NULL: nothing
} Syscall;

// By the guest's number; NULL when there is no such call.
const Syscall *syscall_find(uint64_t nr);

// Handlers, by how the table calls them.
#define PASS(name)
#define REFUSE(name)
#define DENY(name)
#define UNSUPPORTED(name)
#define EMUL(name)                   int64_t sys_##name(Vcpu *v, const uint64_t a[6]);
#define FAKE(name)                   EMUL(name)
#define LOOK(name)                   void after_##name(Vcpu *v, const uint64_t a[6], int64_t result);
#define SYSCALL(nr, name, args, how) how(name)
#include "linux/syscalls.def"
#undef SYSCALL
#undef PASS
#undef REFUSE
#undef DENY
#undef UNSUPPORTED
#undef EMUL
#undef FAKE
#undef LOOK

// True for descriptors that are Dragoman's, which the guest must not see or close.
bool fd_is_ours(Vcpu *v, int fd);
// A copy of fd that exec keeps, at a number from `from` on, if there are any: out of those that the
// guest expects to get. -1: errno.
int fd_out_of_the_way(int fd, int from);
// sys_ids.c: statx under --fake-root, as the guest shall see the file; `name` is the host's.
struct statx;
int64_t file_facts(Vcpu *v, int dirfd, uint64_t name, int flags, uint32_t mask, struct statx *out);

// path.c
// True when guest paths are not simply host paths.
static inline bool paths_translated(const LinuxProcess *p) {
    return p->sysroot || p->n_binds;
}
// The guest's path string at addr as the host's, in room (PATH_MAX bytes): *out is the address to
// pass on. 0 or -errno.
int64_t path_arg(Vcpu *v, int dirfd, uint64_t addr, unsigned how, char *room, uint64_t *out);

// proc_files.c: files of /proc that must show the guest and not us.
// A descriptor of the emulated file, -ENOENT when this path is none of them, or another -errno.
int64_t proc_open(Vcpu *v, const char *guest_path, int flags);
// The target of an emulated link (/proc/self/exe), or NULL.
const char *proc_link(Vcpu *v, const char *guest_path);
// What follows /proc/self/, /proc/thread-self/ or /proc/PID/[task/TID/] of this process; else NULL.
const char *proc_own(const char *path);
// The program of another guest process, as a host path: false when pid is none of ours.
bool proc_guest_exe(const char *pid, char out[PATH_MAX]);

#endif
