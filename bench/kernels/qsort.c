// qsort.c - the C library's qsort with a callback: indirect calls and unpredictable branches.
#include "kernel.h"

enum { N = 100000 };
typedef struct Item {
    uint32_t key, tag;
} Item;

static Item items[N];

static int by_key(const void *a, const void *b) {
    const Item *x = a, *y = b;
    if (x->key != y->key) return x->key < y->key ? -1 : 1;
    return x->tag < y->tag ? -1 : x->tag > y->tag;
}

int main(int argc, char **argv) {
    long repeats = kernel_repeats(argc, argv, 108);
    uint64_t seed = 7, sum = 0;
    for (long r = 0; r < repeats; r++) {
        for (uint32_t i = 0; i < N; i++)
            items[i] = (Item){(uint32_t)(kernel_random(&seed) >> 40), i};
        qsort(items, N, sizeof *items, by_key);
        for (uint32_t i = 0; i < N; i += 97) sum = kernel_mix(sum, items[i].key ^ items[i].tag);
    }
    printf("qsort %016llx\n", (unsigned long long)sum);
    return 0;
}
