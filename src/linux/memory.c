// memory.c - guest memory as system calls touch it: checked against the guest's own map first (so
// that a guest pointer never reaches Dragoman's memory), then copied so that a concurrent munmap
// gives EFAULT and not a crash. Also the interruptible host system call.
#include "linux/process.h"

#include "engine/host_signals.h"

#include <errno.h>
#include <sys/mman.h>

static void *host_at(Vcpu *v, uint64_t addr) {
    return (void *)(uintptr_t)(space_base(v->m->as) + addr);
}

bool guest_read(Vcpu *v, uint64_t addr, void *out, size_t n) {
    if (!n) return true;
    return space_allows(v->m->as, addr, n, PROT_READ) && host_copy(out, host_at(v, addr), n);
}

bool guest_write(Vcpu *v, uint64_t addr, const void *in, size_t n) {
    if (!n) return true;
    return space_allows(v->m->as, addr, n, PROT_WRITE) && host_copy(host_at(v, addr), in, n);
}

int64_t guest_string(Vcpu *v, uint64_t addr, char *out, size_t cap) {
    for (size_t done = 0; done < cap;) {
        size_t n = MIN(cap - done, SPACE_PAGE - (addr + done) % SPACE_PAGE);
        if (!guest_read(v, addr + done, out + done, n)) return -EFAULT;
        const char *end = memchr(out + done, 0, n);
        if (end) return end - out;
        done += n;
    }
    return -ENAMETOOLONG;
}

void *guest_ptr(Vcpu *v, uint64_t addr, size_t len, int prot) {
    if (len && !space_allows(v->m->as, addr, len, prot)) return NULL;
    return host_at(v, addr);
}

int64_t safe_syscall_args(Vcpu *v, long nr, const uint64_t a[6]) {
    LinuxThread *t = thread_of(v);
    for (;;) {
        int64_t r = host_syscall((const volatile uint8_t *)&v->hot->interrupt, nr, a);
        if (r == -EINTR) return LINUX_RESTART_NEVER;
        if (r != HOST_SYSCALL_STOPPED && r != HOST_SYSCALL_NOT_BEGUN) return r;
        if (signals_pending(t) || atomic_load(&t->p->exiting))
            return r == HOST_SYSCALL_STOPPED ? LINUX_RESTART : LINUX_RESTART_ALWAYS;
        // Interrupted for the engine's sake only. A signal between these two lines is seen again.
        v->hot->interrupt = 0;
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
        if (signals_pending(t) || atomic_load(&t->p->exiting)) vcpu_interrupt(v);
    }
}
