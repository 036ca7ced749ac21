// sys_misc.c - what is left: the system's name.
#include "linux/syscall.h"

#include <errno.h>
#include <sys/utsname.h>

int64_t sys_uname(Vcpu *v, const uint64_t a[6]) {
    struct utsname u;
    if (uname(&u)) return -errno;
    snprintf(u.machine, sizeof u.machine, "%s", abi_of(v)->machine);
    return guest_write(v, a[0], &u, sizeof u) ? 0 : -EFAULT;
}

// Only the kernel's own restart code calls it; a guest that does gets what the kernel gives then.
int64_t sys_restart_syscall(Vcpu *v, const uint64_t a[6]) {
    return -EINTR;
}
