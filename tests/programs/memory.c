// mmap, mprotect, munmap, mremap, madvise and brk, with their edge cases and errors.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static sigjmp_buf back;
static void *volatile fault_at;
static volatile int fault_code, fault_signal;

static void on_fault(int sig, siginfo_t *si, void *context) {
    (void)context;
    fault_signal = sig;
    fault_code = si->si_code;
    fault_at = si->si_addr;
    siglongjmp(back, 1);
}

static const char *touch(volatile char *p, int write) {
    if (sigsetjmp(back, 1) == 0) {
        if (write)
            *p = 1;
        else
            (void)*p;
        return "fine";
    }
    if (fault_at != p) return "fault elsewhere";
    if (fault_signal == SIGBUS) return "bus";
    return fault_code == SEGV_MAPERR ? "unmapped" : fault_code == SEGV_ACCERR ? "denied" : "?";
}

int main(void) {
    long page = sysconf(_SC_PAGESIZE);
    struct sigaction sa = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
    sigaction(SIGSEGV, &sa, NULL);
    sigaction(SIGBUS, &sa, NULL);
    printf("page %d\n", page == 4096 || page == 65536 || page == 16384);

    char *m = mmap(NULL, 8 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    printf("zero %d %s %s\n", m[0] | m[8 * page - 1], touch(m, 1), touch(m + 7 * page, 0));
    mprotect(m + page, page, PROT_READ);
    printf("read only: %s %s %s\n", touch(m + page, 0), touch(m + page, 1), touch(m + 2 * page, 1));
    mprotect(m + 2 * page, page, PROT_NONE);
    printf("none: %s %s\n", touch(m + 2 * page, 0), touch(m + 2 * page + 5, 1));
    munmap(m + 3 * page, page);
    printf("hole: %s %s %s\n", touch(m + 3 * page, 0), touch(m + 4 * page, 1),
           touch(m + 3 * page - 1, 0));
    mprotect(m + page, 2 * page, PROT_READ | PROT_WRITE);
    printf("again: %s %s\n", touch(m + page, 1), touch(m + 2 * page, 1));

    // A load over the edge of a mapping faults at the edge's far side.
    char *edge = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(edge + page, page);
    if (sigsetjmp(back, 1) == 0) {
        volatile uint64_t *p = (uint64_t *)(edge + page - 4);
        printf("no fault %d\n", (int)*p);
    } else {
        printf("across: %d\n", ((char *)fault_at - (edge + page - 4)) >= 0);
    }

    // Fixed mappings over others; MAP_FIXED_NOREPLACE does not.
    memset(m, 7, page);
    char *f = mmap(m, page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    printf("fixed %d %d\n", f == m, f[0]);
    errno = 0;
    f = mmap(m, page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    printf("noreplace %d %s\n", f == MAP_FAILED, strerror(errno));

    // Files: private, shared, past the end.
    char name[] = "/tmp/dgm-test-XXXXXX";
    int fd = mkstemp(name);
    if (fd < 0) return 1;
    unlink(name);
    if (write(fd, "hello, file", 11) != 11 || ftruncate(fd, page + 10)) return 1;
    char *shared = mmap(NULL, 3 * page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    char *own = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    shared[0] = 'H';
    own[1] = 'E';
    char text[12] = {0};
    if (pread(fd, text, 11, 0) != 11) return 1;
    printf("file '%s' '%.5s' past end: %s %s\n", text, own, touch(shared + page + 50, 0),
           touch(shared + 2 * page, 0));
    msync(shared, page, MS_SYNC);
    close(fd);
    printf("after close %.5s\n", shared);

    char *big = mremap(own, page, 16 * page, MREMAP_MAYMOVE);
    printf("mremap %d %.5s %s\n", big != MAP_FAILED, big, touch(big + 15 * page, 0));
    m = mmap(NULL, 4 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(m, 9, 4 * page);
    madvise(m, 2 * page, MADV_DONTNEED);
    printf("dontneed %d %d\n", m[0], m[2 * page]);
    char *small = mremap(m, 4 * page, page, 0);
    printf("shrunk %d %s\n", small == m, touch(m + page, 0));

    errno = 0;
    printf("errors %d", mmap(NULL, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED);
    printf(" %s;", strerror(errno));
    errno = 0;
    printf(" %d", munmap((void *)(intptr_t)1, page));
    printf(" %s;", strerror(errno));
    errno = 0;
    printf(" %d", mprotect((void *)(16 * page), page, PROT_READ));
    printf(" %s\n", strerror(errno));

    char *brk = sbrk(0);
    sbrk(5 * page);
    brk[0] = 1, brk[5 * page - 1] = 2;
    printf("brk %ld", (long)((char *)sbrk(0) - brk) / page);
    sbrk(-5 * page);
    printf(" %d\n", sbrk(0) == brk);
    printf("null %s\n", touch(NULL, 0));
    return 0;
}
