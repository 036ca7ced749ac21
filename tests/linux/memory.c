// memory.c - mmap and its relatives by Linux's rules, and a guest that maps, unmaps, protects and
// advises all over the address space: Dragoman's own memory must not suffer.
#define _GNU_SOURCE
#include "check.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/resource.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PAGE = 4096, RW = PROT_READ | PROT_WRITE, ANON = MAP_PRIVATE | MAP_ANONYMOUS };
#define TOP (1ull << 47)

static char *map(size_t n) {
    return mmap(NULL, n, RW, ANON, -1, 0);
}
#define MAP_FAILS(error, call) FAILS(error, (call) == MAP_FAILED ? -1 : 0)

static void rules(void) {
    char *m = map(8 * PAGE);
    MAP_FAILS(EINVAL, mmap(NULL, 0, RW, ANON, -1, 0));
    MAP_FAILS(EINVAL, mmap(m + 1, PAGE, RW, ANON | MAP_FIXED, -1, 0));
    MAP_FAILS(EINVAL, mmap(NULL, PAGE, RW, MAP_ANONYMOUS, -1, 0));
    MAP_FAILS(EBADF, mmap(NULL, PAGE, RW, MAP_PRIVATE, 999, 0));
    MAP_FAILS(EEXIST, mmap(m, PAGE, RW, ANON | MAP_FIXED_NOREPLACE, -1, 0));
    MAP_FAILS(ENOMEM, mmap(NULL, 1ull << 60, RW, ANON, -1, 0));
    MAP_FAILS(ENOMEM, mmap((void *)(1ull << 52), PAGE, RW, ANON | MAP_FIXED, -1, 0));
    // hints: free ones are taken, others are not, impossible ones do no harm
    munmap(m + 4 * PAGE, PAGE);
    CHECK(mmap(m + 4 * PAGE, PAGE, RW, ANON, -1, 0) == m + 4 * PAGE);
    CHECK(mmap(m + 4 * PAGE, PAGE, RW, ANON, -1, 0) != m + 4 * PAGE);
    CHECK(mmap((void *)(1ull << 50), PAGE, RW, ANON, -1, 0) != MAP_FAILED);
    CHECK(mmap((void *)((1ull << 48) - PAGE), PAGE, RW, ANON, -1, 0) != MAP_FAILED);
    // 0x40 is no flag on arm64: not below 4 GiB, as MAP_32BIT would
    CHECK(mmap((void *)0x123400000000, PAGE, RW, ANON | 0x40, -1, 0) == (void *)0x123400000000);
    FAILS(EINVAL, munmap(m + 1, PAGE));
    FAILS(EINVAL, munmap(m, 0));
    CHECK(!munmap(m + 6 * PAGE, PAGE) && !munmap(m + 6 * PAGE, PAGE)); // nothing there is fine
    FAILS(ENOMEM, mprotect(m, 8 * PAGE, PROT_READ));
    FAILS(EINVAL, mprotect(m + 1, PAGE, PROT_READ));
    FAILS(EINVAL, mprotect(m, PAGE, 0x100));
    FAILS(ENOMEM, msync(m, 8 * PAGE, MS_SYNC));
    unsigned char vec[8];
    FAILS(ENOMEM, mincore(m, 8 * PAGE, vec));
    CHECK(!mincore(m, PAGE, vec));
    // advice goes to what is mapped, also with holes
    memset(m, 1, 6 * PAGE);
    m[7 * PAGE] = 1;
    FAILS(ENOMEM, madvise(m, 8 * PAGE, MADV_DONTNEED));
    CHECK(m[0] == 0 && m[7 * PAGE] == 0);
    FAILS(EINVAL, madvise(m, PAGE, 9999));
    FAILS(EINVAL, madvise(m + 1, PAGE, MADV_DONTNEED));
}

static void remaps(void) {
    char *m = map(8 * PAGE), *n;
    for (int i = 0; i < 8; i++) m[i * PAGE] = i + 1;
    munmap(m + 4 * PAGE, 4 * PAGE);
    CHECK((n = mremap(m, 4 * PAGE, 2 * PAGE, 0)) == m);
    FAILS(EFAULT, mincore(m + 2 * PAGE, PAGE, (void *)8) == -1 && errno == ENOMEM
                      ? (errno = EFAULT, -1)
                      : 0);
    CHECK((n = mremap(m, 2 * PAGE, 100 * PAGE, MREMAP_MAYMOVE)) != MAP_FAILED && n[0] == 1 &&
          n[PAGE] == 2 && !n[99 * PAGE]);
    char *block = mmap(NULL, 6 * PAGE, RW, ANON, -1, 0);
    MAP_FAILS(ENOMEM, mremap(block, 2 * PAGE, 4096 * 1024 * 1024ull * 1024, 0));
    char *to = map(4 * PAGE);
    block[0] = 77;
    CHECK(mremap(block, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to && to[0] == 77);
    MAP_FAILS(EFAULT, mremap(block, PAGE, 2 * PAGE, MREMAP_MAYMOVE)); // it is gone
    MAP_FAILS(EINVAL, mremap(to, PAGE, PAGE, MREMAP_FIXED, to + 2 * PAGE));
    MAP_FAILS(EINVAL, mremap(to, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to + PAGE));
    MAP_FAILS(EINVAL, mremap(to, PAGE, 0, MREMAP_MAYMOVE));
    MAP_FAILS(EINVAL, mremap(to, PAGE, PAGE, 0x100));
    // the place wanted by a mremap that failed is still free
    char *free_place = map(PAGE);
    munmap(free_place, PAGE);
    MAP_FAILS(EFAULT,
              mremap((void *)0x10000, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, free_place));
    CHECK(mmap(free_place, PAGE, RW, ANON | MAP_FIXED_NOREPLACE, -1, 0) == free_place);
    // a second view of shared memory
    int fd = memfd_create("x", 0);
    ftruncate(fd, PAGE);
    char *s = mmap(NULL, PAGE, RW, MAP_SHARED, fd, 0), *t = mremap(s, 0, PAGE, MREMAP_MAYMOVE);
    CHECK(t != MAP_FAILED && t != s);
    s[5] = 9;
    CHECK(t[5] == 9);
    CHECK((t = mremap(to, PAGE, PAGE, MREMAP_MAYMOVE | 4 /* DONTUNMAP */, 0)) != MAP_FAILED &&
          t[0] == 77 && to[0] == 0);
}

static sig_atomic_t faults;
static void on_segv(int s) {
    faults++;
    _exit(44);
}

static void stacks(void) {
    char *area = map(2048 * PAGE);
    munmap(area, 2048 * PAGE);
    char *top = mmap(area + 2040 * PAGE, 8 * PAGE, RW, ANON | MAP_GROWSDOWN | MAP_FIXED, -1, 0);
    CHECK(top == area + 2040 * PAGE);
    for (int i = 1; i < 1000; i++) top[-i * PAGE] = i;
    for (int i = 1; i < 1000; i++)
        if (top[-i * PAGE] != (char)i) CHECK(!"what the stack holds");
    CHECK(!mprotect(top + PAGE, PAGE, RW | PROT_GROWSDOWN));
    FAILS(EINVAL, mprotect(map(PAGE), PAGE, RW | PROT_GROWSDOWN));
    // not into a neighbour
    char *below = mmap(area, PAGE, RW, ANON | MAP_FIXED, -1, 0);
    pid_t pid = fork();
    if (!pid) {
        static char alt[65536];
        stack_t ss = {.ss_sp = alt, .ss_size = sizeof alt};
        sigaltstack(&ss, NULL);
        struct sigaction sa = {.sa_handler = on_segv, .sa_flags = SA_ONSTACK};
        sigaction(SIGSEGV, &sa, NULL);
        for (char *at = top - 1000 * PAGE; at >= below; at -= PAGE) *at = 1;
        _exit(0);
    }
    int status;
    waitpid(pid, &status, 0);
    CHECK(WEXITSTATUS(status) == 44);
}

static void breaks(void) {
    char *old = sbrk(0), *now;
    CHECK((char *)sbrk(10 * PAGE) == old);
    memset(old, 3, 10 * PAGE);
    CHECK(sbrk(-9 * PAGE) != (void *)-1 && sbrk(9 * PAGE) != (void *)-1);
    now = (char *)(((uintptr_t)old + PAGE + PAGE - 1) & -PAGE);
    CHECK(now[PAGE] == 0); // new pages are zero
    FAILS(ENOMEM, brk((void *)(TOP - PAGE)));
}

// Everything, everywhere: what is Dragoman's stays.
static void rampage(void) {
    int fixed = 0, refused = 0;
    for (uint64_t at = 0x550000000000; at < TOP;
         at += at < TOP - (64ull << 30) ? 4ull << 30 : 4ull << 20) {
        char *p = mmap((void *)at, PAGE, PROT_NONE, ANON | MAP_FIXED_NOREPLACE, -1, 0);
        if (p == (void *)at) {
            munmap(p, PAGE);
            p = mmap((void *)at, PAGE, PROT_NONE, ANON | MAP_FIXED, -1, 0);
            if (p != (void *)at) CHECK(!"free and refused");
            munmap(p, PAGE);
            fixed++;
        } else {
            if (p != MAP_FAILED || errno != EEXIST) CHECK(!"taken is EEXIST");
            refused++;
        }
        if (mprotect((void *)at, PAGE, PROT_READ) != -1 && refused > 1000000) return;
        madvise((void *)at, PAGE, MADV_DONTNEED);
        madvise((void *)at, PAGE, MADV_REMOVE);
        mremap((void *)at, PAGE, PAGE, MREMAP_MAYMOVE);
    }
    CHECK(fixed > 1000);
    // large ranges over what is ours and Dragoman's: in a child, which loses its own stack with it
    pid_t pid = fork();
    if (!pid) {
        extern char __executable_start;
        uint64_t top = 0x7fffffffe000;
        FAILS(ENOMEM,
              mprotect((void *)0x560000000000, top - 0x560000000000, PROT_READ | PROT_WRITE));
        MAP_FAILS(ENOMEM, mmap((void *)0x7f0000000000, top - 0x7f0000000000, RW,
                               ANON | MAP_FIXED | MAP_NORESERVE, -1, 0));
        MAP_FAILS(EFAULT, mremap((void *)0x7ffff0000000, PAGE, 2 * PAGE, MREMAP_MAYMOVE));
        if (check_failures) _exit(1);
        // all mappings of the guest that do not hold this code go; then no more memory of ours
        register long x0 __asm__("x0") = (long)0x100000000;
        register long x1 __asm__("x1") = (long)(TOP - 0x100000000);
        register long x8 __asm__("x8") = SYS_munmap;
        __asm__ volatile("svc 0\n mov x0, 33\n mov x8, 94\n svc 0"
                         : "+r"(x0)
                         : "r"(x1), "r"(x8)
                         : "memory");
    }
    int status;
    waitpid(pid, &status, 0);
    if (status != 33 << 8) printf("status %#x\n", status);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 33);
}

static void limits(char *self) {
    pid_t pid = fork();
    if (!pid) {
        struct rlimit limit = {64 << 20, 128 << 20}, got;
        if (setrlimit(RLIMIT_AS, &limit) || getrlimit(RLIMIT_AS, &got) || got.rlim_cur != 64 << 20)
            _exit(1);
        long n = 0;
        while (map(1 << 20) != MAP_FAILED && n < 1000) n++;
        if (n > 64 || n < 20 || errno != ENOMEM) _exit(2);
        // Dragoman translates what is new
        for (int i = 0; i < 100; i++) free(malloc(10));
        if (strtol("123", NULL, 7) != 66) _exit(3);
        execl("/proc/self/exe", "memory", "limited", NULL);
        _exit(4);
    }
    int status;
    waitpid(pid, &status, 0);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    // no more than there is
    pid = fork();
    if (!pid) {
        int n = 0;
        while (mmap(NULL, 1ull << 44, PROT_NONE, ANON | MAP_NORESERVE, -1, 0) != MAP_FAILED) n++;
        while (mmap(NULL, 1ull << 32, PROT_NONE, ANON | MAP_NORESERVE, -1, 0) != MAP_FAILED) n++;
        _exit(errno == ENOMEM && n > 3 ? 0 : 1);
    }
    waitpid(pid, &status, 0);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void ipc(void) {
    int id = shmget(IPC_PRIVATE, 3 * PAGE, 0600);
    struct shmid_ds ds;
    CHECK(id >= 0 && !shmctl(id, IPC_STAT, &ds) && ds.shm_segsz == 3 * PAGE && ds.shm_nattch == 0);
    char *a = shmat(id, NULL, 0), *b = shmat(id, NULL, SHM_RDONLY);
    a[100] = 5;
    CHECK(b[100] == 5 && !shmctl(id, IPC_STAT, &ds) && ds.shm_nattch == 2 &&
          ds.shm_lpid == getpid());
    FAILS(EINVAL, shmdt(a + 1));
    CHECK(!shmdt(a) && !shmdt(b) && !shmctl(id, IPC_RMID, NULL));
    FAILS(EINVAL, shmat(id, NULL, 0) == (void *)-1 ? -1 : 0);
    union semun {
        int val;
        struct semid_ds *buf;
        unsigned short *array;
    } u;
    struct semid_ds sds;
    unsigned short values[3] = {4, 5, 6};
    id = semget(IPC_PRIVATE, 3, 0600);
    u.array = values;
    CHECK(id >= 0 && !semctl(id, 0, SETALL, u));
    u.buf = &sds;
    memset(&sds, 0xaa, sizeof sds);
    CHECK(!semctl(id, 0, IPC_STAT, u) && sds.sem_nsems == 3 && (sds.sem_perm.mode & 0777) == 0600 &&
          sds.sem_otime == 0 && sds.sem_ctime > 1000000000);
    struct sembuf op = {1, -5, IPC_NOWAIT};
    CHECK(!semop(id, &op, 1) && semctl(id, 1, GETVAL) == 0 && semctl(id, 2, GETVAL) == 6);
    FAILS(EAGAIN, semop(id, &op, 1));
    CHECK(!semctl(id, 0, IPC_STAT, u) && sds.sem_otime >= sds.sem_ctime - 1);
    sds.sem_perm.mode = 0640;
    CHECK(!semctl(id, 0, IPC_SET, u) && !semctl(id, 0, IPC_STAT, u) &&
          (sds.sem_perm.mode & 0777) == 0640);
    CHECK(!semctl(id, 0, IPC_RMID));
    struct msqid_ds mds;
    struct {
        long type;
        char text[10];
    } msg = {3, "message"};
    id = msgget(IPC_PRIVATE, 0600);
    CHECK(id >= 0 && !msgsnd(id, &msg, 8, 0) && !msgctl(id, IPC_STAT, &mds) && mds.msg_qnum == 1 &&
          mds.msg_lspid == getpid());
    memset(&msg, 0, sizeof msg);
    CHECK(msgrcv(id, &msg, 10, 3, 0) == 8 && !strcmp(msg.text, "message"));
    FAILS(ENOMSG, msgrcv(id, &msg, 10, 3, IPC_NOWAIT));
    CHECK(!msgctl(id, IPC_RMID, NULL));
}

int main(int argc, char **argv) {
    setvbuf(stdout, NULL, _IONBF, 0);
    if (argc > 1) {
        struct rlimit got;
        return getrlimit(RLIMIT_AS, &got) || got.rlim_cur != 64 << 20 ||
               got.rlim_max != 128 << 20 || map(70 << 20) != MAP_FAILED ||
               map(1 << 20) == MAP_FAILED;
    }
    rules();
    remaps();
    stacks();
    breaks();
    rampage();
    limits(argv[0]);
    ipc();
    return check_done();
}
