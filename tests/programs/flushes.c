// Threads that come back from system calls all the time while another fills the code cache, so that
// it is flushed under them.
#include <linux/futex.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { THREADS = 3, FUNCTIONS = 20000 };

static volatile bool stop;

static void *calls(void *wrong) {
    int word = 0;
    while (!stop) {
        if (syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 1, 0, 0, 0)) *(int *)wrong = 1;
        if (syscall(SYS_getpid) != getpid()) *(int *)wrong = 2;
    }
    return NULL;
}

int main(int argc, char **argv) {
    int rounds = argc > 1 ? atoi(argv[1]) : 4, wrong[THREADS] = {0};
    uint32_t *code = mmap(NULL, FUNCTIONS * 8, PROT_READ | PROT_WRITE | PROT_EXEC,
                          MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) pthread_create(&threads[i], NULL, calls, &wrong[i]);
    uint64_t sum = 0, want = 0;
    for (int r = 0; r < rounds; r++) {
        for (int i = 0; i < FUNCTIONS; i++) {
            uint32_t k = (uint32_t)(i * 7 + r) & 0xffff;
            code[2 * i] = 0x52800000 | k << 5; // mov w0, #k
            code[2 * i + 1] = 0xd65f03c0;      // ret
            want += k;
        }
        __builtin___clear_cache((char *)code, (char *)(code + 2 * FUNCTIONS));
        for (int i = 0; i < FUNCTIONS; i++)
            sum += (uint64_t)((int (*)(void))(uintptr_t)(code + 2 * i))();
    }
    stop = true;
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        printf("thread %d: %d\n", i, wrong[i]);
    }
    puts(sum == want ? "sums agree" : "sums differ");
    return 0;
}
