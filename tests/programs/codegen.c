// A program that writes code: made, run, changed and run again, with the cache maintenance AArch64
// asks for.
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

typedef int (*Fn)(int);

static void put(uint32_t *at, const uint32_t *code, int n) {
    memcpy(at, code, (size_t)n * 4);
    __builtin___clear_cache((char *)at, (char *)(at + n));
}

int main(void) {
    uint32_t *page =
        mmap(NULL, 16384, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) return 1;
    long sum = 0;
    for (unsigned i = 0; i < 300; i++) {
        // add w0, w0, #i ; ret
        uint32_t code[] = {0x11000000 | i << 10, 0xd65f03c0};
        put(page, code, 2);
        sum += ((Fn)page)(1000);
    }
    printf("rewritten %ld\n", sum);
    // Several functions in one page; only one is changed while the others go on.
    for (unsigned f = 0; f < 16; f++) {
        uint32_t code[] = {0x11000000 | f << 10, 0xd65f03c0};
        put(page + f * 4, code, 2);
    }
    sum = 0;
    for (int r = 0; r < 200; r++) {
        unsigned f = (unsigned)r % 16;
        uint32_t code[] = {0x52800000 | (unsigned)r << 5, 0xd65f03c0}; // mov w0, #r ; ret
        put(page + f * 4, code, 2);
        for (unsigned g = 0; g < 16; g++)
            sum = sum * 3 + ((Fn)(page + g * 4))(r), sum &= 0xffffffff;
    }
    printf("mixed %ld\n", sum);
    // A loop that changes the instruction just after itself.
    // mov w1,#0x11000400.. is written by the caller; here: str w1,[x2]; dc cvau; dsb; ic ivau; dsb;
    // isb; patched; ret
    uint32_t self[] = {0xb9000041, 0xd50b7b22, 0xd5033b9f, 0xd50b7522,
                       0xd5033b9f, 0xd5033fdf, 0x11000400, 0xd65f03c0};
    put(page + 64, self, 8);
    long total = 0;
    for (unsigned i = 0; i < 50; i++)
        total += ((int (*)(int, uint32_t, uint32_t *))(page + 64))(5, 0x11000000 | i << 10,
                                                                   page + 64 + 6);
    printf("self %ld\n", total);
    // Gone and mapped anew at the same place.
    munmap(page, 16384);
    uint32_t *again =
        mmap(page, 16384, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    uint32_t code[] = {0x4b0003e0, 0xd65f03c0}; // neg w0, w0 ; ret
    put(again, code, 2);
    mprotect(again, 16384, PROT_READ | PROT_EXEC);
    printf("again %d %d\n", again == page, ((Fn)again)(12));
    return 0;
}
