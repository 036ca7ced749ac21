// syscall.h - the table of system calls and what its users share.
#ifndef DGM_LINUX_SYSCALL_H
#define DGM_LINUX_SYSCALL_H

#include "linux/process.h"

typedef struct Syscall {
    const char *name;
    const char *args; // letters of syscalls.def
    int host_nr;      // -1: not passed
    SyscallFn fn;     // NULL: passed or refused
} Syscall;

// By the guest's number; NULL when there is no such call.
const Syscall *syscall_find(uint64_t nr);

// Handlers, by how the table calls them.
#define PASS(name)
#define REFUSE(name)
#define EMUL(name)                   int64_t sys_##name(Vcpu *v, const uint64_t a[6]);
#define SYSCALL(nr, name, args, how) how(name)
#include "linux/syscalls.def"
#undef SYSCALL
#undef PASS
#undef REFUSE
#undef EMUL

// strace.c: one line a call, written when it returns (exits before).
void strace_enter(Vcpu *v, const Syscall *s, uint64_t nr, const uint64_t a[6]);
void strace_leave(Vcpu *v, const Syscall *s, const uint64_t a[6], int64_t result);

// path.c
// True when guest paths are not simply host paths.
static inline bool paths_translated(const LinuxProcess *p) {
    return p->sysroot || p->rootfs;
}
// The guest's path string at addr as the host's, in room (PATH_MAX bytes): *out is the address to
// pass on. 0 or -errno.
int64_t path_arg(Vcpu *v, int dirfd, uint64_t addr, unsigned how, char *room, uint64_t *out);

// proc_files.c: files of /proc that must show the guest and not us.
// A descriptor of the emulated file, -ENOENT when this path is none of them, or another -errno.
int64_t proc_open(Vcpu *v, const char *guest_path, int flags);
// The target of an emulated link (/proc/self/exe), or NULL.
const char *proc_link(Vcpu *v, const char *guest_path);

#endif
