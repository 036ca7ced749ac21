// calltree_test.c - makes call trees of every awkward kind and writes them in one format.
//
//   calltree_test TREE FORMAT    to standard output; the exit status is 1 when the writer said
//   false calltree_test list           names of the trees, one a line
//
// The format `facts` is the tree itself, as plain as can be (names in hex), and calltree_totals of
// it: calltree.py works out from the former what every other format must say.
#include "tools/calltree.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { MANY = 400000 };

typedef struct Maker {
    CallTree tree;
    CallFunction *functions;
    CallNode *nodes;
    CallLine *lines;
    CallLoop *loops;
    uint64_t seed;
} Maker;

static uint32_t function(Maker *m, const char *name, const char *module, const char *file,
                         uint32_t line) {
    uint32_t i = m->tree.n_functions++;
    m->functions[i] = (CallFunction){name, module, file, line, 0x400000 + 0x1000 * (uint64_t)i};
    return i;
}

static uint32_t node(Maker *m, uint32_t parent, uint32_t f, uint64_t calls, uint64_t self,
                     uint64_t offset) {
    uint32_t i = m->tree.n_nodes++, caller = m->nodes[parent].function;
    uint64_t site =
        i && caller != CALLTREE_ROOT && offset ? m->functions[caller].address + offset : 0;
    m->nodes[i] = (CallNode){f, parent, calls, self, site};
    return i;
}

static void root(Maker *m) {
    node(m, 0, CALLTREE_ROOT, 0, 0, 0);
}

static void line(Maker *m, uint32_t f, uint64_t offset, const char *file, uint32_t number,
                 uint64_t insns) {
    m->lines[m->tree.n_lines++] =
        (CallLine){f, m->functions[f].address + offset, file, number, insns};
}

static uint32_t chance(Maker *m, uint32_t below) {
    m->seed = m->seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(m->seed >> 33) % below;
}

// Names that stay until the process ends.
static const char *numbered(const char *prefix, uint32_t number) {
    char *name;
    return asprintf(&name, "%s%" PRIu32, prefix, number) < 0 ? NULL : name;
}

static void make_plain(Maker *m) {
    uint32_t start = function(m, "_start", "/bin/prog", NULL, 0);
    uint32_t main_ = function(m, "main", "/bin/prog", "/src/main.c", 10);
    uint32_t work = function(m, "work", "/bin/prog", "/src/work.c", 20);
    uint32_t copy = function(m, "memcpy", "/lib/libc.so.6", NULL, 0);
    function(m, "never", "/bin/prog", "/src/work.c", 90);
    root(m);
    uint32_t s = node(m, 0, start, 0, 7, 0);
    uint32_t a = node(m, s, main_, 1, 100, 0x10);
    uint32_t b = node(m, a, work, 5, 5000, 0x24);
    uint32_t c = node(m, a, work, 3, 3000, 0x30); // from another place
    node(m, b, copy, 50, 800, 0x44);
    node(m, c, copy, 30, 480, 0x44);
    node(m, a, copy, 1, 16, 0x38);
    line(m, main_, 0x00, "/src/main.c", 10, 20);
    line(m, main_, 0x24, "/src/main.c", 12, 30);
    line(m, main_, 0x30, "/src/main.c", 13, 50);
    line(m, work, 0x00, NULL, 20, 1000);
    line(m, work, 0x20, "/src/inline.h", 5, 4000); // inlined
    line(m, work, 0x44, "/src/inline.h", 6, 2000);
    line(m, work, 0x48, "/src/work.c", 23, 900); // 100 are left for the entry
    m->loops[m->tree.n_loops++] =
        (CallLoop){work, 0x402020, 0x402044, "/src/inline.h", 5, 1000, 8, 6000};
    m->loops[m->tree.n_loops++] = (CallLoop){main_, 0x401004, 0x401030, NULL, 0, 8, 0, 80};
}

static void make_recursion(Maker *m) {
    uint32_t main_ = function(m, "main", "prog", "r.c", 1),
             fact = function(m, "fact", "prog", "r.c", 5);
    uint32_t multiply = function(m, "multiply", "prog", "r.c", 9);
    root(m);
    uint32_t at = node(m, 0, main_, 1, 11, 0);
    for (uint32_t i = 0; i < 10; i++) {
        at = node(m, at, fact, 1, 100 + i, i ? 0x20 : 0x8);
        node(m, at, multiply, 2, 1000, 0x24);
    }
}

// a calls b, b calls a, and each is called from elsewhere too; root calls one of them itself.
static void make_mutual(Maker *m) {
    uint32_t f[4] = {function(m, "main", "prog", "m.c", 1), function(m, "even", "prog", "m.c", 10),
                     function(m, "odd", "prog", "m.c", 20), function(m, "leaf", "prog", "m.c", 30)};
    root(m);
    uint32_t top = node(m, 0, f[0], 1, 3, 0);
    for (uint32_t way = 0; way < 2; way++) {
        uint32_t at = top;
        for (uint32_t i = 0; i < 9; i++) {
            at = node(m, at, f[1 + (way + i) % 2], 1 + i, 10 * (i + 1), 0x40 + 4 * i);
            if (i % 3 == 0) node(m, at, f[3], 1, 1, 0x4);
        }
        node(m, at, f[0], 1, 5, 0x4); // and main again
    }
    uint32_t thread = node(m, 0, f[2], 1, 1000000, 0);
    node(m, thread, f[1], 7, 77, 0x8);
}

static void make_no_symbols(Maker *m) {
    root(m);
    m->nodes[0].self_insns = 40; // before any function was known
    uint32_t at = 0;
    for (uint32_t i = 0; i < 6; i++)
        at = node(m, at, function(m, i % 2 ? NULL : "", NULL, NULL, 0), i, 1ull << (10 * i), 0);
    line(m, 2, 0x10, NULL, 0, 1000);
}

static void make_deep(Maker *m) {
    uint32_t f[3] = {function(m, "walk", "prog", "d.c", 1), function(m, "visit", "prog", "d.c", 2),
                     function(m, "next", "prog", "d.c", 3)};
    root(m);
    uint32_t at = 0;
    for (uint32_t i = 0; i < 100000; i++) at = node(m, at, f[i % 3], 1, 1 + i % 7, 0x10);
}

static void make_deep_different(Maker *m) {
    root(m);
    uint32_t at = 0;
    for (uint32_t i = 0; i < 5000; i++)
        at = node(m, at, function(m, numbered("f", i), "prog", "d.c", i), 1, 1 + i % 7, 0x10);
}

// What a guest's symbol table could hold to break a format, a terminal or a page.
static void make_hostile(Maker *m) {
    static const char *const names[] = {"</script><script>document.body.id='owned'</script>",
                                        "<!--",
                                        "]]>",
                                        "a;b;c 12",
                                        "new\nline 5",
                                        "fn=(1) x",
                                        "(1)",
                                        "(2) y",
                                        "\"quoted\\\"",
                                        "tab\tbell\a\033[31mred\033[0m",
                                        "\xff\xfe\xc0\xaf\xed\xa0\x80",
                                        "\xf4\x90\x80\x80",
                                        "caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x90\xab",
                                        "\xe2\x80\xa8sep\xe2\x80\xa9",
                                        "\xe2\x80\xaeoverride",
                                        "operator new[](unsigned long)",
                                        "std::map<int, std::string>::operator[]",
                                        "&lt;img src=x onerror=alert(1)&gt;",
                                        "<img src=x onerror=\"document.body.id='owned'\">",
                                        " ",
                                        "   lead",
                                        "calls=5 0 0",
                                        "* 5",
                                        "# comment",
                                        "\r",
                                        "@PROFILE@",
                                        "%s%n%s%n",
                                        "\\u003c",
                                        "\x7f\xc2\x9b",
                                        "'; --",
                                        "${7*7}",
                                        "__proto__",
                                        "cut\xe2\x82"};
    enum { N = sizeof names / sizeof *names };
    root(m);
    uint32_t at = 0;
    for (uint32_t i = 0; i < N; i++) {
        uint32_t f = function(m, names[i], names[(i + 3) % N], names[(i + 5) % N], i);
        at = node(m, i % 4 ? at : 0, f, i + 1, 10 + i, 0x10);
        line(m, f, 0, names[(i + 5) % N], i, 5);
        line(m, f, 4, names[(i + 7) % N], i, 3);
        m->loops[m->tree.n_loops++] = (CallLoop){
            f, m->functions[f].address, m->functions[f].address + 8, names[(i + 1) % N], i, 5, 2,
            9};
    }
    m->tree.command = names[0];
}

// Static functions of one name, with nothing or all but the address different.
static void make_same_names(Maker *m) {
    uint32_t f[] = {function(m, "main", "prog", "s.c", 1),   function(m, "init", "prog", NULL, 0),
                    function(m, "init", "libx.so", NULL, 0), function(m, "init", "prog", "a.c", 3),
                    function(m, "init", "prog", "a.c", 9),   function(m, "init", "prog", "b.c", 3)};
    root(m);
    uint32_t top = node(m, 0, f[0], 1, 1, 0), at = top;
    for (uint32_t i = 1; i < 6; i++) at = node(m, at, f[i], i, 10 * i, 0x4 * i); // init calls init
    node(m, top, f[1], 3, 1000, 0x4);
    m->functions[f[4]].address = m->functions[f[3]].address; // and not even that
}

static void make_random(Maker *m, uint64_t seed) {
    m->seed = seed;
    uint32_t functions = 2 + chance(m, 40), nodes = 1 + chance(m, 3000);
    for (uint32_t i = 0; i < functions; i++)
        function(m, chance(m, 9) ? numbered("fn", chance(m, 60)) : NULL,
                 chance(m, 5) ? numbered("lib", i % 3) : NULL,
                 chance(m, 3) ? numbered("file", chance(m, 6)) : NULL, chance(m, 500));
    root(m);
    for (uint32_t i = 1; i < nodes; i++) {
        uint32_t parent = chance(m, 2) ? i - 1 : chance(m, i);
        node(m, parent, chance(m, functions), chance(m, 4), chance(m, 1000), 4 * chance(m, 8));
    }
    for (uint32_t f = 0; f < functions; f++) {
        uint64_t self = 0;
        for (uint32_t i = 1; i < nodes; i++)
            if (m->nodes[i].function == f) self += m->nodes[i].self_insns;
        for (uint32_t a = 0; a < 8 && self; a++) {
            uint64_t part = chance(m, 3) ? self / 2 : self;
            if (chance(m, 4))
                line(m, f, 4 * a, chance(m, 2) ? numbered("file", chance(m, 6)) : NULL,
                     chance(m, 500), part);
            self -= part;
        }
    }
}

// More nodes than the page shows.
static void make_wide(Maker *m) {
    for (uint32_t i = 0; i < 300; i++) function(m, numbered("wide", i), "prog", "w.c", i);
    root(m);
    uint32_t top = node(m, 0, 0, 1, 1, 0);
    for (uint32_t i = 0; i < 110000; i++) {
        uint32_t parent = i < 600 ? top : 2 + i % 600;
        if (i >= 40000) parent = 602 + i % 39000;
        node(m, parent, 1 + i % 299, 1, 1 + i % 50, 4 + 4 * (i % 50));
    }
}

static void make_root_only(Maker *m) {
    root(m);
    m->nodes[0].self_insns = 12;
}

static void make_empty(Maker *m) {
    m->tree.command = NULL;
}

static void make_bad_parent(Maker *m) {
    make_plain(m);
    m->nodes[3].parent = 3;
}

static void make_bad_function(Maker *m) {
    make_plain(m);
    m->nodes[3].function = m->tree.n_functions;
}

static void make_bad_root(Maker *m) {
    make_plain(m);
    m->nodes[0].function = 1;
}

static void make_bad_lines(Maker *m) {
    make_plain(m);
    m->lines[1].address = m->lines[0].address;
}

static void make_bad_loop(Maker *m) {
    make_plain(m);
    m->loops[1].function = 77;
}

static const struct {
    const char *name;
    void (*make)(Maker *m);
} trees[] = {
    {"plain", make_plain},
    {"recursion", make_recursion},
    {"mutual", make_mutual},
    {"no-symbols", make_no_symbols},
    {"deep", make_deep},
    {"deep-different", make_deep_different},
    {"hostile", make_hostile},
    {"same-names", make_same_names},
    {"wide", make_wide},
    {"root-only", make_root_only},
    {"empty", make_empty},
    {"bad-parent", make_bad_parent},
    {"bad-function", make_bad_function},
    {"bad-root", make_bad_root},
    {"bad-lines", make_bad_lines},
    {"bad-loop", make_bad_loop},
};

static void put_hex(const char *text) {
    if (!text) {
        fputs(" -", stdout);
        return;
    }
    fputs(" x", stdout);
    for (; *text; text++) printf("%02x", (unsigned char)*text);
}

static bool write_facts(const CallTree *t, FILE *to) {
    CallTotals *totals = calltree_totals(t);
    if (!totals) return false;
    fputs("C", to);
    put_hex(t->command);
    fprintf(to, " %" PRIu32 "\n", t->pid);
    for (uint32_t i = 0; i < t->n_functions; i++) {
        const CallFunction *f = &t->functions[i];
        fputs("F", to);
        put_hex(f->name);
        put_hex(f->module);
        put_hex(f->file);
        fprintf(to, " %" PRIu32 " %" PRIu64 "\n", f->line, f->address);
    }
    for (uint32_t i = 0; i < t->n_nodes; i++) {
        const CallNode *n = &t->nodes[i];
        fprintf(to, "N %" PRId32 " %" PRIu32 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n",
                (int32_t)n->function, n->parent, n->calls, n->self_insns, n->call_site);
    }
    for (uint32_t i = 0; i < t->n_lines; i++) {
        const CallLine *l = &t->lines[i];
        fprintf(to, "L %" PRIu32 " %" PRIu64, l->function, l->address);
        put_hex(l->file);
        fprintf(to, " %" PRIu32 " %" PRIu64 "\n", l->line, l->insns);
    }
    for (uint32_t i = 0; i < t->n_loops; i++) {
        const CallLoop *l = &t->loops[i];
        fprintf(to, "P %" PRIu32 " %" PRIu64 " %" PRIu64, l->function, l->head, l->tail);
        put_hex(l->file);
        fprintf(to, " %" PRIu32 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", l->line, l->iterations,
                l->entries, l->insns);
    }
    for (uint32_t i = 0; i <= t->n_functions; i++)
        fprintf(to, "T %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", totals[i].self, totals[i].inclusive,
                totals[i].calls);
    free(totals);
    return true;
}

static const struct {
    const char *name;
    bool (*write)(const CallTree *tree, FILE *to);
} formats[] = {
    {"facts", write_facts},          {"callgrind", calltree_write_callgrind},
    {"pprof", calltree_write_pprof}, {"folded", calltree_write_folded},
    {"text", calltree_write_text},   {"json", calltree_write_json},
    {"html", calltree_write_html},
};

static bool make(Maker *m, const char *name) {
    m->tree = (CallTree){.command = "/bin/prog --with 'options'", .pid = 4242};
    m->tree.functions = m->functions = calloc(MANY, sizeof *m->functions);
    m->tree.nodes = m->nodes = calloc(MANY, sizeof *m->nodes);
    m->tree.lines = m->lines = calloc(MANY, sizeof *m->lines);
    m->tree.loops = m->loops = calloc(MANY, sizeof *m->loops);
    if (!m->functions || !m->nodes || !m->lines || !m->loops) return false;
    if (!strncmp(name, "random-", 7)) {
        make_random(m, strtoull(name + 7, NULL, 10));
        return true;
    }
    for (size_t i = 0; i < sizeof trees / sizeof *trees; i++)
        if (!strcmp(trees[i].name, name)) {
            trees[i].make(m);
            return true;
        }
    return false;
}

int main(int argc, char **argv) {
    if (argc == 2 && !strcmp(argv[1], "list")) {
        for (size_t i = 0; i < sizeof trees / sizeof *trees; i++) puts(trees[i].name);
        return 0;
    }
    Maker m = {0};
    if (argc != 3 || !make(&m, argv[1])) {
        fprintf(stderr, "usage: calltree_test TREE FORMAT\n");
        return 2;
    }
    int status = 2;
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        if (strcmp(formats[i].name, argv[2])) continue;
        errno = 0;
        status = formats[i].write(&m.tree, stdout) ? 0 : 1;
        if (status) fprintf(stderr, "%s\n", strerror(errno));
    }
    free(m.functions);
    free(m.nodes);
    free(m.lines);
    free(m.loops);
    return status;
}
