// sys_mem.c - the guest's memory calls, on its address space; translations of code that goes are
// forgotten.
#include "linux/syscall.h"

#include "observe/observe.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { ARM64_PROT_BTI = 0x10, ARM64_PROT_MTE = 0x20 };

static void code_gone(Vcpu *v, uint64_t addr, uint64_t len) {
    machine_invalidate(v->m, addr, addr + len);
}

static int prot_of(uint64_t prot) {
    return (int)(prot & ~(uint64_t)(ARM64_PROT_BTI | ARM64_PROT_MTE));
}

int64_t sys_mmap(Vcpu *v, const uint64_t a[6]) {
    int flags = (int)a[3];
    uint64_t at = a[0];
    if (!at) at = module_mmap_address(process_of(v), a[1], prot_of(a[2]), flags, (int)a[4], a[5]);
    int64_t r = space_mmap(v->m->as, at, a[1], prot_of(a[2]), flags, (int)a[4], a[5]);
    bool file = !(flags & MAP_ANONYMOUS) && (flags & MAP_TYPE) == MAP_PRIVATE;
    if (r >= 0 && file && a[2] & PROT_EXEC)
        module_mapped(process_of(v), (int)a[4], (uint64_t)r, a[1], a[5], false);
    // also where nothing was: that a fetch there fails may have been translated
    if (r >= 0 && ((flags & MAP_FIXED) || (a[2] & PROT_EXEC))) code_gone(v, (uint64_t)r, a[1]);
    return r;
}

int64_t sys_munmap(Vcpu *v, const uint64_t a[6]) {
    int64_t r = space_munmap(v->m->as, a[0], a[1]);
    if (r >= 0) code_gone(v, a[0], a[1]);
    if (r >= 0 && v->m->watches)
        observe_unmapped(v->m->watches, a[0], a[0] + ALIGN_UP(a[1], (uint64_t)SPACE_PAGE));
    return r;
}

int64_t sys_mprotect(Vcpu *v, const uint64_t a[6]) {
    enum { GROWS = PROT_GROWSDOWN | PROT_GROWSUP };
    if ((a[2] & GROWS) == GROWS || prot_of(a[2]) & ~(7 | GROWS)) return -EINVAL;
    uint64_t lo = a[0], hi = a[0] + ALIGN_UP(a[1], (uint64_t)SPACE_PAGE);
    if (a[2] & PROT_GROWSUP && hi > lo) return -EINVAL; // no mapping does on arm64
    if (a[2] & PROT_GROWSDOWN && hi > lo && !(lo & (SPACE_PAGE - 1))) {
        if (!(lo = space_stack_start(v->m->as, lo))) return -EINVAL;
    }
    uint64_t bytes = lo == a[0] ? a[1] : hi - lo;
    int64_t r = space_mprotect(v->m->as, lo, bytes, prot_of(a[2]) & 7);
    if (r >= 0) code_gone(v, lo, bytes);
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

// Advice that does no harm to memory that is not the guest's.
static bool only_a_hint(uint64_t advice) {
    switch (advice) {
    case MADV_NORMAL:
    case MADV_RANDOM:
    case MADV_SEQUENTIAL:
    case MADV_WILLNEED:
    case MADV_MERGEABLE:
    case MADV_UNMERGEABLE:
    case MADV_HUGEPAGE:
    case MADV_NOHUGEPAGE:
    case MADV_DONTDUMP:
    case MADV_DODUMP:
    case MADV_COLD:
    case MADV_PAGEOUT:
    case MADV_POPULATE_READ:
    case MADV_POPULATE_WRITE: return true;
    default: return false;
    }
}

// As Linux does, what is mapped in the range is advised also when there are holes, which give
// ENOMEM in the end.
int64_t sys_madvise(Vcpu *v, const uint64_t a[6]) {
    if (only_a_hint(a[2])) return safe_syscall(v, SYS_madvise, a[0], a[1], a[2], 0, 0, 0);
    uint64_t bytes = ALIGN_UP(a[1], (uint64_t)SPACE_PAGE), end = a[0] + bytes;
    if (a[0] & (SPACE_PAGE - 1) || bytes < a[1] || end < a[0]) return -EINVAL;
    bool holes = space_check_owned(v->m->as, a[0], a[1]);
    for (uint64_t lo = a[0], hi = end; lo < end && space_next(v->m->as, &lo, &hi);
         lo = hi, hi = end) {
        int64_t r = safe_syscall(v, SYS_madvise, lo, hi - lo, a[2], 0, 0, 0);
        if (r < 0) return r;
    }
    if (!bytes) return safe_syscall(v, SYS_madvise, a[0], 0, a[2], 0, 0, 0);
    code_gone(v, a[0], bytes);
    return holes ? -ENOMEM : 0;
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

// ---- limits: Dragoman's own memory is not the guest's affair ----

// RLIMIT_AS is kept here and handed over exec; RLIMIT_DATA is kept and not enforced. False: the
// host's.
static struct GuestLimit *kept_limit(LinuxProcess *p, uint64_t which) {
    return which == RLIMIT_AS     ? &p->limits[LIMIT_AS]
           : which == RLIMIT_DATA ? &p->limits[LIMIT_DATA]
                                  : NULL;
}

static int64_t set_limit(Vcpu *v, uint64_t which, uint64_t at) {
    LinuxProcess *p = process_of(v);
    struct GuestLimit *l = kept_limit(p, which), now;
    if (!guest_read(v, at, &now, sizeof now)) return -EFAULT;
    if (now.soft > now.hard) return -EINVAL;
    if (now.hard > l->hard && geteuid() && !p->fake) return -EPERM;
    *l = now;
    if (which == RLIMIT_AS) space_set_limit(p->m->as, now.soft);
    return 0;
}

int64_t sys_getrlimit(Vcpu *v, const uint64_t a[6]) {
    const struct GuestLimit *l = kept_limit(process_of(v), (uint32_t)a[0]);
    if (!l) return safe_syscall(v, SYS_getrlimit, a[0], a[1], 0, 0, 0, 0);
    return guest_write(v, a[1], l, sizeof *l) ? 0 : -EFAULT;
}

int64_t sys_setrlimit(Vcpu *v, const uint64_t a[6]) {
    if (!kept_limit(process_of(v), (uint32_t)a[0]))
        return safe_syscall(v, SYS_setrlimit, a[0], a[1], 0, 0, 0, 0);
    return set_limit(v, (uint32_t)a[0], a[1]);
}

int64_t sys_prlimit64(Vcpu *v, const uint64_t a[6]) {
    const struct GuestLimit *l = kept_limit(process_of(v), (uint32_t)a[1]);
    if (!l || ((int)a[0] && (int)a[0] != getpid()))
        return safe_syscall(v, SYS_prlimit64, a[0], a[1], a[2], a[3], 0, 0);
    struct GuestLimit old = *l;
    int64_t e = a[2] ? set_limit(v, (uint32_t)a[1], a[2]) : 0;
    if (e) return e;
    return a[3] && !guest_write(v, a[3], &old, sizeof old) ? -EFAULT : 0;
}
