// cache_model.c - the cache model by hand: small caches whose every state fits in one's head,
// options and their errors, presets. Whole traces are compared by cache_sim.py.
#include "tools/cache_model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define R(m, a) cache_model_data(m, a, 4, false)
#define W(m, a) cache_model_data(m, a, 4, true)
#define F(m, a) cache_model_fetch(m, a, 4)

// Options separated by spaces, on top of two-way data caches of two sets and four, and no more.
static CacheConfig config_of(const char *options) {
    char text[512];
    snprintf(text, sizeof text,
             "l1i=off l3=off itlb=off dtlb=off stlb=off replacement=lru inclusive=no "
             "l1d=256:2 l2=512:2 %s",
             options);
    CacheConfig c;
    cache_config_init(&c);
    char *save = NULL;
    for (char *key = strtok_r(text, " ", &save); key; key = strtok_r(NULL, " ", &save)) {
        char *value = strchr(key, '=');
        *value++ = 0;
        const char *error = cache_config_parse(&c, key, value);
        if (error) fail_msg("%s", error);
    }
    return c;
}

static CacheModel *model_of(const char *options) {
    CacheConfig c = config_of(options);
    const char *error = cache_config_check(&c);
    if (error) fail_msg("%s", error);
    CacheModel *m = cache_model_new(&c);
    assert_non_null(m);
    return m;
}

// Lines of set 0 of L1D; every second one is of set 0 of L2.
static uint64_t line(unsigned i) {
    return 0x10000 + i * 128;
}

static void hits_and_misses(void **state) {
    CacheModel *m = model_of("");
    assert_int_equal(R(m, line(0)), CACHE_MISS_L1 | CACHE_MISS_L2);
    assert_int_equal(R(m, line(0) + 60), 0);
    assert_int_equal(cache_model_data(m, line(0) + 62, 2, false), 0);
    // Two bytes here, two in the next line.
    assert_int_equal(cache_model_data(m, line(0) + 62, 4, true), CACHE_MISS_L1 | CACHE_MISS_L2);
    CacheStats s = cache_model_stats(m, CACHE_L1D);
    assert_int_equal(s.reads, 3);
    assert_int_equal(s.read_misses, 1);
    assert_int_equal(s.writes, 2);
    assert_int_equal(s.write_misses, 1);
    s = cache_model_stats(m, CACHE_L2);
    assert_int_equal(s.reads, 2); // both misses ask for their line
    assert_int_equal(s.read_misses, 2);
    assert_int_equal(s.writes, 0);
    assert_int_equal(F(m, 0x5000), 0); // no L1I, so nothing to miss
    assert_int_equal(cache_model_stats(m, CACHE_L1I).reads, 0);
    cache_model_free(m);
}

// What is left of lines 0 and 1 after: fill 0, fill 1, use 0, fill 2.
static void replacement(void **state) {
    static const struct {
        const char *policy;
        unsigned zero, one;
    } want[] = {{"lru", 0, 1}, {"plru", 0, 1}, {"fifo", 1, 0}, {"srrip", 0, 1}};
    for (unsigned i = 0; i < 4; i++)
        for (unsigned asked = 0; asked < 2; asked++) {
            char options[64];
            snprintf(options, sizeof options, "l1d.replacement=%s", want[i].policy);
            CacheModel *m = model_of(options);
            R(m, line(0));
            R(m, line(1));
            R(m, line(0));
            R(m, line(2));
            assert_int_equal(R(m, line(asked)) & CACHE_MISS_L1, asked ? want[i].one : want[i].zero);
            cache_model_free(m);
        }
}

// A line that was used only once leaves before one that was used twice, even if that was long ago.
static void srrip_resists_a_scan(void **state) {
    for (unsigned srrip = 0; srrip < 2; srrip++) {
        CacheModel *m = model_of(srrip ? "replacement=srrip" : "");
        R(m, line(0));
        R(m, line(0));
        for (unsigned i = 1; i < 4; i++) R(m, line(i));
        assert_int_equal(R(m, line(0)) & CACHE_MISS_L1, srrip ? 0 : CACHE_MISS_L1);
        cache_model_free(m);
    }
}

static void random_goes_by_its_seed(void **state) {
    CacheStats s[3];
    static const char *const options[] = {"seed=1 l1d=1K:8 l1d.replacement=random",
                                          "seed=1 l1d=1K:8 l1d.replacement=random",
                                          "seed=2 l1d=1K:8 l1d.replacement=random"};
    for (unsigned i = 0; i < 3; i++) {
        CacheModel *m = model_of(options[i]);
        for (unsigned k = 0; k < 20000; k++) R(m, line(k % 11));
        s[i] = cache_model_stats(m, CACHE_L1D);
        cache_model_free(m);
    }
    assert_memory_equal(&s[0], &s[1], sizeof s[0]);
    assert_true(s[0].read_misses != s[2].read_misses);
    assert_in_range(s[0].read_misses, 1000, 19000);
}

static void writes(void **state) {
    CacheModel *m = model_of("");
    W(m, line(0));
    R(m, line(1));
    R(m, line(2)); // line 0 goes to L2, dirty
    assert_int_equal(cache_model_stats(m, CACHE_L1D).writebacks, 1);
    assert_int_equal(cache_model_stats(m, CACHE_L2).writes, 0);
    R(m, line(4)); // lines 0, 2 and 4 do not fit in a set of L2: 0 goes to memory
    assert_int_equal(cache_model_stats(m, CACHE_L2).writebacks, 1);
    cache_model_free(m);

    m = model_of("l1d.write=through");
    assert_int_equal(W(m, line(0)), CACHE_MISS_L1 | CACHE_MISS_L2);
    assert_int_equal(W(m, line(0)), 0);
    CacheStats s = cache_model_stats(m, CACHE_L2);
    assert_int_equal(s.reads, 1);
    assert_int_equal(s.writes, 2);
    assert_int_equal(s.write_misses, 0);
    R(m, line(1));
    R(m, line(2));
    assert_int_equal(cache_model_stats(m, CACHE_L1D).writebacks, 0);
    cache_model_free(m);

    m = model_of("l1d.allocate=no");
    assert_int_equal(W(m, line(0)), CACHE_MISS_L1 | CACHE_MISS_L2);
    assert_int_equal(R(m, line(0)), CACHE_MISS_L1); // L2 took it
    assert_int_equal(cache_model_stats(m, CACHE_L2).write_misses, 1);
    cache_model_free(m);
}

// L1I and L1D throw line 0 out of L2 while both have it.
static void inclusion(void **state) {
    static const struct {
        const char *options;
        unsigned fetch, read, lost;
    } want[] = {{"l1i=256:2", 0, 0, 0},
                {"l1i=256:2 l2.inclusive=data", 0, CACHE_MISS_L1, 0},
                {"l1i=256:2 l2.inclusive=yes", CACHE_MISS_L1, CACHE_MISS_L1, 1}};
    for (unsigned i = 0; i < 3; i++) {
        CacheModel *m = model_of(want[i].options);
        F(m, line(0));
        W(m, line(0));
        F(m, line(2)); // the L2 set is full of 0 and 2
        R(m, line(4));
        assert_int_equal(cache_model_stats(m, CACHE_L1I).back_invalidations, want[i].lost);
        assert_int_equal(cache_model_stats(m, CACHE_L2).writebacks, i > 0);
        assert_int_equal(F(m, line(0)) & CACHE_MISS_L1, want[i].fetch);
        assert_int_equal(R(m, line(0)) & CACHE_MISS_L1, want[i].read);
        cache_model_free(m);
    }
}

static void prefetchers(void **state) {
    CacheModel *m = model_of("l1d=4K:4 l2=64K:4 l1d.prefetch=nextline");
    assert_int_equal(R(m, 0x10000), CACHE_MISS_L1 | CACHE_MISS_L2);
    for (unsigned i = 1; i < 64; i++) assert_int_equal(R(m, 0x10000 + i * 64), 0);
    assert_int_equal(R(m, 0x11000), CACHE_MISS_L1 | CACHE_MISS_L2); // not into the next page
    CacheStats s = cache_model_stats(m, CACHE_L1D);
    assert_int_equal(s.prefetches, 64);
    assert_int_equal(s.useful_prefetches, 63);
    s = cache_model_stats(m, CACHE_L2);
    assert_int_equal(s.reads, 2); // what prefetchers ask for is not counted
    cache_model_free(m);

    m = model_of("l1d=4K:4 l2=64K:4 l1d.prefetch=stride");
    for (unsigned i = 0; i < 20; i++)
        assert_int_equal(R(m, 0x10fc0 - i * 192), i < 3 ? CACHE_MISS_L1 | CACHE_MISS_L2 : 0);
    s = cache_model_stats(m, CACHE_L1D);
    assert_int_equal(s.useful_prefetches, 17);
    R(m, 0x20000);
    R(m, 0x20040);
    R(m, 0x20100); // no distance twice
    assert_int_equal(cache_model_stats(m, CACHE_L1D).prefetches, s.prefetches);
    cache_model_free(m);
}

static void tlbs(void **state) {
    CacheModel *m = model_of("l1d=off l2=off dtlb=2:full stlb=4:full");
    enum { BOTH = CACHE_MISS_TLB | CACHE_MISS_STLB };
    assert_int_equal(R(m, 0x1000), BOTH);
    assert_int_equal(W(m, 0x1ffc), 0);
    assert_int_equal(cache_model_data(m, 0x1ffe, 4, false), BOTH); // the page after as well
    assert_int_equal(R(m, 0x1000), 0);
    assert_int_equal(R(m, 0x3000), BOTH);
    assert_int_equal(R(m, 0x2000), CACHE_MISS_TLB);
    CacheStats s = cache_model_stats(m, CACHE_DTLB);
    assert_int_equal(s.reads, 6);
    assert_int_equal(s.read_misses, 4);
    assert_int_equal(s.writes, 1);
    assert_int_equal(cache_model_stats(m, CACHE_STLB).reads, 4);
    assert_int_equal(cache_model_stats(m, CACHE_STLB).read_misses, 3);
    assert_int_equal(cache_model_stats(m, CACHE_ITLB).reads, 0);
    cache_model_free(m);
}

// Pages whose slots in the table of the inline path are the same one; ages must survive that.
static void tlb_slots_collide(void **state) {
    CacheModel *m = model_of("l1d=4K:4 dtlb=3:full");
    uint64_t apart = UINT64_C(1) << 32;
    for (unsigned i = 0; i < 3; i++) R(m, 0x1000 + i * apart);
    for (unsigned i = 0; i < 3; i++) assert_int_equal(R(m, 0x1000 + i * apart) & CACHE_MISS_TLB, 0);
    R(m, 0x1000); // oldest is now the one of i == 1
    R(m, 0x1000 + 3 * apart);
    assert_int_equal(R(m, 0x1000) & CACHE_MISS_TLB, 0);
    assert_int_equal(R(m, 0x1000 + 2 * apart) & CACHE_MISS_TLB, 0);
    assert_int_equal(R(m, 0x1000 + 1 * apart) & CACHE_MISS_TLB, CACHE_MISS_TLB);
    cache_model_free(m);
}

static void sums(void **state) {
    const char *options = "l1i=256:2 itlb=4:full dtlb=4:full";
    CacheModel *a = model_of(options), *b = model_of(options);
    for (unsigned i = 0; i < 300; i++) {
        R(a, line(i % 3));
        W(a, line(i % 7));
        F(b, line(i % 5));
        W(b, line(i % 2));
    }
    CacheStats before[CACHE_UNITS], add[CACHE_UNITS];
    for (CacheUnitId u = 0; u < CACHE_UNITS; u++) {
        before[u] = cache_model_stats(a, u);
        add[u] = cache_model_stats(b, u);
    }
    cache_model_add(a, b);
    for (CacheUnitId u = 0; u < CACHE_UNITS; u++) {
        CacheStats sum = cache_model_stats(a, u);
        for (unsigned i = 0; i < sizeof sum / sizeof(uint64_t); i++)
            assert_int_equal(((uint64_t *)&sum)[i],
                             ((uint64_t *)&before[u])[i] + ((uint64_t *)&add[u])[i]);
    }
    assert_int_equal(cache_model_stats(a, CACHE_DTLB).reads, 300);
    assert_int_equal(cache_model_stats(a, CACHE_L1D).writes, 600);
    assert_int_equal(cache_model_stats(a, CACHE_L1I).reads, 300);
    assert_int_equal(R(a, line(5)), 0); // the contents are a's
    cache_model_free(a);
    cache_model_free(b);
    cache_model_free(NULL);
}

static void every_preset_works(void **state) {
    unsigned n = 0;
    for (const char *name; (name = cache_preset_name(n)); n++) {
        CacheConfig c;
        cache_config_init(&c);
        assert_null(cache_config_parse(&c, "preset", name));
        assert_null(cache_config_check(&c));
        CacheModel *m = cache_model_new(&c);
        assert_non_null(m);
        assert_true(F(m, 0x400000) && R(m, 0x500000) && W(m, 0x600000));
        assert_int_equal(F(m, 0x400000) | R(m, 0x500000) | W(m, 0x600000), 0);
        cache_model_free(m);
    }
    assert_int_equal(n, 6);
    CacheConfig c;
    cache_config_init(&c);
    assert_null(cache_config_parse(&c, "preset", "cortex-a72"));
    assert_int_equal(c.unit[CACHE_L1I].size_bytes, 48 << 10);
    assert_int_equal(c.unit[CACHE_L1I].ways, 3);
    assert_int_equal(c.unit[CACHE_L2].size_bytes, 1 << 20);
    assert_int_equal(c.unit[CACHE_L3].size_bytes, 0);
    assert_int_equal(c.unit[CACHE_DTLB].size_bytes, 32 * 4096);
}

static void options(void **state) {
    CacheConfig c = config_of("l1d=48K:12:64 l2.size=1M l2.ways=16 l2.line=128 dtlb=64:4:16K "
                              "stlb.entries=1K stlb.page=64K stlb.ways=full prefetch=none "
                              "l2.prefetch=stride degree=3 write=through l2.write=back "
                              "l2.inclusive=data seed=99");
    const CacheUnitConfig *u = c.unit;
    assert_int_equal(u[CACHE_L1D].size_bytes, 48 << 10);
    assert_int_equal(u[CACHE_L1D].ways, 12);
    assert_int_equal(u[CACHE_L1D].prefetch, CACHE_NO_PREFETCH);
    assert_int_equal(u[CACHE_L1D].prefetch_degree, 3);
    assert_false(u[CACHE_L1D].write_back);
    assert_int_equal(u[CACHE_L2].size_bytes, 1 << 20);
    assert_int_equal(u[CACHE_L2].line_bytes, 128);
    assert_int_equal(u[CACHE_L2].prefetch, CACHE_STRIDE);
    assert_int_equal(u[CACHE_L2].inclusion, CACHE_INCLUSIVE_OF_DATA);
    assert_true(u[CACHE_L2].write_back);
    assert_int_equal(u[CACHE_DTLB].size_bytes, 64 * 16384);
    assert_int_equal(u[CACHE_STLB].size_bytes, 1024 * 65536);
    assert_int_equal(u[CACHE_STLB].ways, CACHE_FULL);
    assert_int_equal(c.seed, 99);
}

// One option at a time: the error is in words, and names what is wrong.
static void options_refused(void **state) {
    static const char *const bad[][3] = {
        {"l1d", "0", "size"},
        {"l1d", "2G", "size"},
        {"l1d", "32KB", "size"},
        {"l1d", "-1", "size"},
        {"l1d", "", "size"},
        {"l1d", "99999999999999999999", "size"},
        {"l1d", "99999999999999999G", "size"},
        {"l1d", "32K:0", "ways"},
        {"l1d", "32K:257", "ways"},
        {"l1d", "32K:8:48", "line"},
        {"l1d", "32K:8:2K", "line"},
        {"l1d", "32K:8:64:1", "more than"},
        {"l1d.line", "8", "line"},
        {"l1d.entries", "8", "no such option"},
        {"l1d.inclusive", "yes", "no such option"},
        {"l1d.", "yes", "no such option"},
        {"l1dx", "32K", "no such option"},
        {"l4", "32K", "no such option"},
        {"", "", "no such option"},
        {"dtlb", "32769", "entries"},
        {"dtlb.page", "1K", "page"},
        {"dtlb.write", "back", "no such option"},
        {"size", "32K", "of which cache"},
        {"replacement", "mru", "lru, plru, fifo, random, srrip"},
        {"l2.prefetch", "yes", "none, nextline, stride"},
        {"l2.degree", "9", "degree"},
        {"write", "", "through, back"},
        {"allocate", "maybe", "no, yes"},
        {"l2.inclusive", "true", "no, data, yes"},
        {"preset", "z80", "cortex-a53"},
        {"seed", "x", "number"},
    };
    for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        CacheConfig c;
        cache_config_init(&c);
        const char *error = cache_config_parse(&c, bad[i][0], bad[i][1]);
        if (!error) fail_msg("%s=%s is taken", bad[i][0], bad[i][1]);
        if (!strstr(error, bad[i][2])) fail_msg("%s=%s: %s", bad[i][0], bad[i][1], error);
    }
}

// Together.
static void configurations_refused(void **state) {
    static const char *const bad[][2] = {
        {"l1d=48K:8", "power of two of sets"},
        {"l1d=1000:2", "1000 bytes"},
        {"l1d=256:16", "power of two of sets"},
        {"l1d=96K:3 l1d.replacement=plru", "plru"},
        {"l1d=64K:128 l1d.replacement=plru", "plru"},
        {"l1d=64K:full", "fully associative"},
        {"l2=off l3=1M:16", "l3 without l2"},
        {"l1d=1K:2:128 l2=4K:2:64", "more than l2's 64"},
        {"dtlb=4:full:16K stlb=16:4:4K", "more than stlb's 4096"},
    };
    for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        CacheConfig c = config_of(bad[i][0]);
        const char *error = cache_config_check(&c);
        if (!error) fail_msg("%s is taken", bad[i][0]);
        if (!strstr(error, bad[i][1])) fail_msg("%s: %s", bad[i][0], error);
        assert_null(cache_model_new(&c));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hits_and_misses),
        cmocka_unit_test(replacement),
        cmocka_unit_test(srrip_resists_a_scan),
        cmocka_unit_test(random_goes_by_its_seed),
        cmocka_unit_test(writes),
        cmocka_unit_test(inclusion),
        cmocka_unit_test(prefetchers),
        cmocka_unit_test(tlbs),
        cmocka_unit_test(tlb_slots_collide),
        cmocka_unit_test(sums),
        cmocka_unit_test(every_preset_works),
        cmocka_unit_test(options),
        cmocka_unit_test(options_refused),
        cmocka_unit_test(configurations_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
