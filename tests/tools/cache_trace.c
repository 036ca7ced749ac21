// cache_trace.c - drives the cache model from the command line, for tests/tools/cache_sim.py.
//
//   cache_trace OPTION=VALUE... <TRACE     one access a line: f, r or w, address and bytes in hex
//   cache_trace --bench OPTION=VALUE...    what an access costs, in patterns of its own
//
// Prints the mask of every access, two hex digits each on one line, then a line of counts per unit.
#include "tools/cache_model.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static CacheModel *model_from(int argc, char **argv) {
    CacheConfig config;
    cache_config_init(&config);
    const char *error = NULL;
    for (int i = 0; i < argc && !error; i++) {
        char *value = strchr(argv[i], '=');
        if (value) *value++ = 0;
        error = value ? cache_config_parse(&config, argv[i], value) : "not OPTION=VALUE";
    }
    if (!error) error = cache_config_check(&config);
    if (error) {
        fprintf(stderr, "cache_trace: %s\n", error);
        exit(2);
    }
    CacheModel *m = cache_model_new(&config);
    if (!m) {
        fprintf(stderr, "cache_trace: no memory\n");
        exit(3);
    }
    return m;
}

static int replay(CacheModel *m) {
    char line[64], kind;
    uint64_t addr;
    unsigned bytes;
    while (fgets(line, sizeof line, stdin)) {
        if (sscanf(line, "%c %" SCNx64 " %x", &kind, &addr, &bytes) != 3) {
            fprintf(stderr, "cache_trace: not an access: %s", line);
            return 2;
        }
        printf("%02x", kind == 'f' ? cache_model_fetch(m, addr, bytes)
                                   : cache_model_data(m, addr, bytes, kind == 'w'));
    }
    putchar('\n');
    for (CacheUnitId unit = 0; unit < CACHE_UNITS; unit++) {
        CacheStats s = cache_model_stats(m, unit);
        printf("%s %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64
               " %" PRIu64 "\n",
               cache_unit_name(unit), s.reads, s.read_misses, s.writes, s.write_misses,
               s.writebacks, s.prefetches, s.useful_prefetches, s.back_invalidations);
    }
    return 0;
}

// ---- Benchmark ----

typedef struct {
    uint64_t addr;
    uint8_t kind, bytes;
} Access;

#define ACCESSES (1u << 18)
#define ROUNDS   40

static uint64_t xorshift(uint64_t *x) {
    *x ^= *x << 13;
    *x ^= *x >> 7;
    return *x ^= *x << 17;
}

// Blocks of six instructions in 8 KiB of code; three of eight accesses go to the stack, the rest
// over 24 KiB of heap and, one in sixty-four, somewhere in 4 MiB.
static Access like_a_program(uint64_t *x, unsigned i) {
    uint64_t r = xorshift(x);
    if (i % 3 == 0) return (Access){0x400000 + (r % 340) * 24, 'f', 24};
    if (r % 8 < 3) return (Access){0x7ffffff000 + (r >> 8) % 64 * 8, i % 3 == 1 ? 'w' : 'r', 8};
    if (r % 64 == 63) return (Access){0x20000000 + (r >> 8) % (4 << 20) / 8 * 8, 'r', 8};
    return (Access){0x10000000 + (r >> 8) % (24 << 10) / 8 * 8, i % 9 == 1 ? 'w' : 'r', 8};
}

static Access make_access(unsigned pattern, uint64_t *x, unsigned i) {
    switch (pattern) {
    case 0: return (Access){0x10000000, 'r', 8};
    case 1: return (Access){0x10000000, 'w', 8};
    case 2: return (Access){0x400000 + i % 512 * 24, 'f', 24};
    case 3: return (Access){0x10000000 + i % 2048 * 8, 'r', 8};
    case 4: return (Access){0x10000000 + (xorshift(x) % 2048) * 8, 'r', 8};
    case 5: return (Access){0x10000000 + (xorshift(x) % (8 << 10)) * 32, 'r', 8};
    case 6: return (Access){0x10000000 + (xorshift(x) % (1 << 20)) * 64, 'r', 8};
    default: return like_a_program(x, i);
    }
}

static int bench(CacheModel *m) {
    static const char *const names[] = {"one line, reads",  "one line, writes", "12 KiB of code",
                                        "16 KiB in order",  "16 KiB at random", "256 KiB at random",
                                        "64 MiB at random", "like a program"};
    Access *list = malloc(ACCESSES * sizeof *list);
    if (!list) return 3;
    for (unsigned pattern = 0; pattern < sizeof names / sizeof names[0]; pattern++) {
        uint64_t x = 88172645463325252, missed = 0;
        for (unsigned i = 0; i < ACCESSES; i++) list[i] = make_access(pattern, &x, i);
        struct timespec a, b;
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a);
        for (unsigned round = 0; round < ROUNDS; round++)
            for (unsigned i = 0; i < ACCESSES; i++) {
                const Access *p = &list[i];
                // Three call sites, as a tool has them.
                unsigned mask = p->kind == 'f'   ? cache_model_fetch(m, p->addr, p->bytes)
                                : p->kind == 'w' ? cache_model_data(m, p->addr, p->bytes, true)
                                                 : cache_model_data(m, p->addr, p->bytes, false);
                missed += mask & CACHE_MISS_L1;
            }
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &b);
        double ns = (b.tv_sec - a.tv_sec) * 1e9 + (b.tv_nsec - a.tv_nsec);
        double n = (double)ROUNDS * ACCESSES;
        printf("%-20s %6.2f ns an access, %5.2f%% miss L1\n", names[pattern], ns / n,
               100.0 * (double)missed / n);
    }
    free(list);
    return 0;
}

int main(int argc, char **argv) {
    bool benchmark = argc > 1 && !strcmp(argv[1], "--bench");
    int first = benchmark ? 2 : 1;
    CacheModel *m = model_from(argc - first, argv + first);
    int status = benchmark ? bench(m) : replay(m);
    cache_model_free(m);
    return status;
}
