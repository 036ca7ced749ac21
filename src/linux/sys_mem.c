// sys_mem.c - the guest's memory calls, on its address space; translations of code that goes are
// forgotten.
#include "linux/syscall.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/syscall.h>

enum { ARM64_PROT_BTI = 0x10, ARM64_PROT_MTE = 0x20 };

static void code_gone(Vcpu *v, uint64_t addr, uint64_t len) {
    machine_invalidate(v->m, addr, addr + len);
}

static int prot_of(uint64_t prot) {
    return (int)(prot & ~(uint64_t)(ARM64_PROT_BTI | ARM64_PROT_MTE));
}

int64_t sys_mmap(Vcpu *v, const uint64_t a[6]) {
    int flags = (int)a[3];
    int64_t r = space_mmap(v->m->as, a[0], a[1], prot_of(a[2]), flags, (int)a[4], a[5]);
    // also where nothing was: that a fetch there fails may have been translated
    if (r >= 0 && ((flags & MAP_FIXED) || (a[2] & PROT_EXEC))) code_gone(v, (uint64_t)r, a[1]);
    return r;
}

int64_t sys_munmap(Vcpu *v, const uint64_t a[6]) {
    int64_t r = space_munmap(v->m->as, a[0], a[1]);
    if (r >= 0) code_gone(v, a[0], a[1]);
    return r;
}

int64_t sys_mprotect(Vcpu *v, const uint64_t a[6]) {
    enum { GROWS = PROT_GROWSDOWN | PROT_GROWSUP };
    if ((a[2] & GROWS) == GROWS || prot_of(a[2]) & ~(7 | GROWS)) return -EINVAL;
    int64_t r = space_mprotect(v->m->as, a[0], a[1], prot_of(a[2]) & 7);
    if (r >= 0) code_gone(v, a[0], a[1]);
    return r;
}

int64_t sys_mremap(Vcpu *v, const uint64_t a[6]) {
    int64_t r = space_mremap(v->m->as, a[0], a[1], a[2], (int)a[3], a[4]);
    if (r >= 0) {
        code_gone(v, a[0], a[1]);
        code_gone(v, (uint64_t)r, a[2]);
    }
    return r;
}

int64_t sys_brk(Vcpu *v, const uint64_t a[6]) {
    return (int64_t)space_brk(v->m->as, a[0]);
}

// Calls about a range that must be the guest's own.
static int64_t on_guest_range(Vcpu *v, long nr, const uint64_t a[6]) {
    int64_t e = space_check_owned(v->m->as, a[0], a[1]);
    return e ? e : safe_syscall(v, nr, a[0], a[1], a[2], a[3], 0, 0);
}

int64_t sys_madvise(Vcpu *v, const uint64_t a[6]) {
    // Without mappings in part of the range Linux still advises the rest; only what changes
    // contents matters here.
    if (a[2] == MADV_DONTNEED || a[2] == MADV_FREE || a[2] == MADV_REMOVE) {
        int64_t r = on_guest_range(v, SYS_madvise, a);
        if (r >= 0) code_gone(v, a[0], a[1]);
        return r;
    }
    if (a[2] == MADV_DONTFORK || a[2] == MADV_WIPEONFORK) return on_guest_range(v, SYS_madvise, a);
    return safe_syscall(v, SYS_madvise, a[0], a[1], a[2], 0, 0, 0);
}

int64_t sys_msync(Vcpu *v, const uint64_t a[6]) {
    return on_guest_range(v, SYS_msync, a);
}
int64_t sys_mincore(Vcpu *v, const uint64_t a[6]) {
    return on_guest_range(v, SYS_mincore, a);
}
int64_t sys_mlock(Vcpu *v, const uint64_t a[6]) {
    return safe_syscall(v, SYS_mlock, a[0], a[1], 0, 0, 0, 0);
}
int64_t sys_munlock(Vcpu *v, const uint64_t a[6]) {
    return safe_syscall(v, SYS_munlock, a[0], a[1], 0, 0, 0, 0);
}
int64_t sys_mlock2(Vcpu *v, const uint64_t a[6]) {
    return safe_syscall(v, SYS_mlock2, a[0], a[1], a[2], 0, 0, 0);
}

// ---- System V shared memory: an attachment is a mapping of the guest's ----

int64_t sys_shmat(Vcpu *v, const uint64_t a[6]) {
    struct shmid_ds ds;
    if (shmctl((int)a[0], IPC_STAT, &ds) < 0) return -errno;
    if (a[2] & SHM_REMAP) return -EINVAL;
    int64_t at = safe_syscall(v, SYS_shmat, a[0], a[1], a[2], 0, 0, 0);
    if (at < 0) return at;
    int prot = PROT_READ | (a[2] & SHM_RDONLY ? 0 : PROT_WRITE) | (a[2] & SHM_EXEC ? PROT_EXEC : 0);
    int64_t e = space_adopt(v->m->as, (uint64_t)at, ds.shm_segsz, prot);
    if (e) shmdt((void *)at);
    return e ? e : at;
}

int64_t sys_shmdt(Vcpu *v, const uint64_t a[6]) {
    uint64_t bytes = space_mapping_bytes(v->m->as, a[0]);
    if (!bytes) return -EINVAL;
    int64_t r = safe_syscall(v, SYS_shmdt, a[0], 0, 0, 0, 0, 0);
    if (r >= 0) {
        space_munmap(v->m->as, a[0], bytes);
        code_gone(v, a[0], bytes);
    }
    return r;
}
