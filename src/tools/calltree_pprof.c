// calltree_pprof.c - a call tree as a pprof profile: profile.proto, gzipped.
//
// The message is small and its wire format simple, so it is written by hand: a field is a varint
// key (number << 3 | wire type) and then a varint (type 0) or a length and bytes (type 2). Parts
// are made in one growing buffer each and end in the message; nothing is patched in place.
//
// A sample is a node of the tree: its stack, innermost first, with its own instructions and how
// often it was called. A location is a function and an address in it: of the call for callers, of
// its entry for the innermost, as the tree counts addresses by function and not by stack (the
// callgrind format has those). Stacks are of bounded depth (calltree_fold.c).
//
// Field numbers are those of github.com/google/pprof/proto/profile.proto.
#include "calltree_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

enum { PPROF_DEPTH = 200 };

enum { // Profile
    PROFILE_SAMPLE_TYPE = 1,
    PROFILE_SAMPLE = 2,
    PROFILE_MAPPING = 3,
    PROFILE_LOCATION = 4,
    PROFILE_FUNCTION = 5,
    PROFILE_STRING = 6,
    PROFILE_PERIOD_TYPE = 11,
    PROFILE_PERIOD = 12,
    PROFILE_COMMENT = 13,
    PROFILE_DEFAULT_SAMPLE_TYPE = 14
};
enum { VALUE_TYPE = 1, VALUE_UNIT = 2 };
enum { SAMPLE_LOCATIONS = 1, SAMPLE_VALUES = 2 };
enum {
    MAPPING_ID = 1,
    MAPPING_START = 2,
    MAPPING_LIMIT = 3,
    MAPPING_FILE = 5,
    MAPPING_HAS_FUNCTIONS = 7,
    MAPPING_HAS_FILES = 8,
    MAPPING_HAS_LINES = 9
};
enum { LOCATION_ID = 1, LOCATION_MAPPING = 2, LOCATION_ADDRESS = 3, LOCATION_LINE = 4 };
enum { LINE_FUNCTION = 1, LINE_LINE = 2 };
enum {
    FUNCTION_ID = 1,
    FUNCTION_NAME = 2,
    FUNCTION_SYSTEM_NAME = 3,
    FUNCTION_FILE = 4,
    FUNCTION_LINE = 5
};

typedef struct Bytes {
    unsigned char *data;
    size_t length, room;
    bool failed;
} Bytes;

typedef struct Location {
    uint32_t function; // of the tree; n_functions is the root
    uint64_t address;
} Location;

// From the lowest to behind the highest address seen in a module.
typedef struct Extent {
    uint64_t start, limit;
} Extent;

typedef struct Writer {
    const CallTree *tree;       // folded
    Bytes profile, part, inner; // the message, a field of it, a field of that
    Location *locations;        // sorted, without doubles; the number is the index + 1
    uint32_t n_locations;
    uint64_t *callers; // by node: number of the location that it was called from
    CallNames strings, modules;
    Extent *extents;                   // by module
    char (*rooms)[CALLTREE_NAME_ROOM]; // by function: its name when it has none
} Writer;

// The wire format.

static void put_bytes(Bytes *b, const void *data, size_t n) {
    if (b->failed) return;
    if (b->room - b->length < n) {
        size_t room = 2 * b->room + n + 256;
        unsigned char *grown = realloc(b->data, room);
        if (!grown) {
            b->failed = true;
            return;
        }
        b->data = grown;
        b->room = room;
    }
    if (n) memcpy(b->data + b->length, data, n);
    b->length += n;
}

static void put_varint(Bytes *b, uint64_t value) {
    unsigned char bytes[10];
    size_t n = 0;
    for (; value >= 0x80; value >>= 7) bytes[n++] = (unsigned char)(value | 0x80);
    bytes[n++] = (unsigned char)value;
    put_bytes(b, bytes, n);
}

static void put_number(Bytes *b, unsigned field, uint64_t value) {
    if (!value) return; // the default
    put_varint(b, field << 3);
    put_varint(b, value);
}

static void put_block(Bytes *b, unsigned field, const void *data, size_t n) {
    put_varint(b, field << 3 | 2);
    put_varint(b, n);
    put_bytes(b, data, n);
}

// Ends a message that was built in `part` as a field of `b`, and empties it.
static void put_part(Bytes *b, unsigned field, Bytes *part) {
    put_block(b, field, part->data, part->length);
    if (part->failed) b->failed = true;
    part->length = 0;
}

// Locations.

static int by_place(const void *a, const void *b) {
    const Location *x = a, *y = b;
    if (x->function != y->function) return x->function < y->function ? -1 : 1;
    return x->address < y->address ? -1 : x->address > y->address;
}

static Location location_of_entry(const CallTree *tree, uint32_t function) {
    return (Location){function,
                      function < tree->n_functions ? tree->functions[function].address : 0};
}

// Where node's caller was when it called.
static Location location_of_call(const CallTree *tree, uint32_t node) {
    const CallNode *n = &tree->nodes[node];
    uint32_t caller = calltree_function(tree, n->parent);
    return n->call_site ? (Location){caller, n->call_site} : location_of_entry(tree, caller);
}

static bool find_locations(Writer *w) {
    const CallTree *tree = w->tree;
    w->locations = calloc(2 * (size_t)tree->n_nodes + 1, sizeof *w->locations);
    if (!w->locations) return false;
    uint32_t n = 0, kept = 0;
    for (uint32_t i = 0; i < tree->n_nodes; i++) {
        w->locations[n++] = location_of_entry(tree, calltree_function(tree, i));
        if (i && tree->nodes[i].parent) w->locations[n++] = location_of_call(tree, i);
    }
    qsort(w->locations, n, sizeof *w->locations, by_place);
    for (uint32_t i = 0; i < n; i++)
        if (!kept || by_place(&w->locations[kept - 1], &w->locations[i]))
            w->locations[kept++] = w->locations[i];
    w->n_locations = kept;
    return true;
}

static uint64_t location_number(const Writer *w, Location place) {
    const Location *at =
        bsearch(&place, w->locations, w->n_locations, sizeof *w->locations, by_place);
    return (uint64_t)(at - w->locations) + 1;
}

// The line of a place, as far as it is in the function's own file: pprof has one file a function.
static uint32_t line_of(const CallTree *tree, Location place) {
    if (place.function >= tree->n_functions) return 0;
    const CallFunction *f = &tree->functions[place.function];
    const CallLine *l = calltree_line(tree, place.function, place.address);
    bool own = l && l->line && (!l->file || (f->file && !strcmp(l->file, f->file)));
    return own ? l->line : f->line;
}

// The parts of the profile.

static void put_string_number(const Writer *w, Bytes *b, unsigned field, const char *text) {
    put_number(b, field, calltree_names_find(&w->strings, text ? text : ""));
}

static void put_value_type(Writer *w, unsigned field, const char *type) {
    put_string_number(w, &w->part, VALUE_TYPE, type);
    put_string_number(w, &w->part, VALUE_UNIT, "count");
    put_part(&w->profile, field, &w->part);
}

static void put_samples(Writer *w) {
    const CallTree *tree = w->tree;
    for (uint32_t i = 0; i < tree->n_nodes; i++) {
        const CallNode *n = &tree->nodes[i];
        if (!n->self_insns && (!n->calls || !i)) continue;
        Location self = location_of_entry(tree, calltree_function(tree, i));
        put_varint(&w->inner, location_number(w, self));
        for (uint32_t at = i; at && tree->nodes[at].parent; at = tree->nodes[at].parent)
            put_varint(&w->inner, w->callers[at]);
        put_part(&w->part, SAMPLE_LOCATIONS, &w->inner);
        put_varint(&w->inner, n->self_insns);
        put_varint(&w->inner, n->calls);
        put_part(&w->part, SAMPLE_VALUES, &w->inner);
        put_part(&w->profile, PROFILE_SAMPLE, &w->part);
    }
}

// pprof takes the first mapping for the program.
static bool is_program(const CallTree *tree, const char *module) {
    const char *slash = strrchr(module, '/'), *base = slash ? slash + 1 : module;
    const char *command = tree->command ? tree->command : "", *start = command;
    size_t length = strcspn(command, " ");
    for (size_t i = 0; i < length; i++)
        if (command[i] == '/') start = command + i + 1;
    length -= (size_t)(start - command);
    return strlen(base) == length && !memcmp(base, start, length);
}

static void widen(Extent *e, uint64_t address) {
    if (!e->limit || address < e->start) e->start = address;
    if (address >= e->limit) e->limit = address + 1;
}

static void put_mapping(Writer *w, uint32_t module) {
    Extent e = w->extents[module];
    put_number(&w->part, MAPPING_ID, module + 1);
    put_number(&w->part, MAPPING_START, e.start);
    put_number(&w->part, MAPPING_LIMIT, e.limit);
    put_string_number(w, &w->part, MAPPING_FILE, w->modules.all[module]);
    put_number(&w->part, MAPPING_HAS_FUNCTIONS, 1); // or pprof would go looking
    put_number(&w->part, MAPPING_HAS_FILES, 1);
    put_number(&w->part, MAPPING_HAS_LINES, 1);
    put_part(&w->profile, PROFILE_MAPPING, &w->part);
}

static void put_mappings(Writer *w) {
    const CallTree *tree = w->tree;
    for (uint32_t i = 0; i < w->n_locations; i++) {
        uint32_t f = w->locations[i].function;
        if (f < tree->n_functions && tree->functions[f].module)
            widen(&w->extents[calltree_names_find(&w->modules, tree->functions[f].module)],
                  w->locations[i].address);
    }
    for (uint32_t pass = 0; pass < 2; pass++)
        for (uint32_t i = 0; i < w->modules.n; i++)
            if (w->extents[i].limit && is_program(tree, w->modules.all[i]) == (pass == 0))
                put_mapping(w, i);
}

static void put_locations(Writer *w) {
    const CallTree *tree = w->tree;
    for (uint32_t i = 0; i < w->n_locations; i++) {
        Location place = w->locations[i];
        const char *module =
            place.function < tree->n_functions ? tree->functions[place.function].module : NULL;
        put_number(&w->part, LOCATION_ID, i + 1);
        if (module)
            put_number(&w->part, LOCATION_MAPPING, calltree_names_find(&w->modules, module) + 1);
        put_number(&w->part, LOCATION_ADDRESS, place.address);
        put_number(&w->inner, LINE_FUNCTION, place.function + 1);
        put_number(&w->inner, LINE_LINE, line_of(tree, place));
        put_part(&w->part, LOCATION_LINE, &w->inner);
        put_part(&w->profile, PROFILE_LOCATION, &w->part);
    }
}

static void put_functions(Writer *w) {
    const CallTree *tree = w->tree;
    for (uint32_t i = 0; i <= tree->n_functions; i++) {
        const CallFunction *f = i < tree->n_functions ? &tree->functions[i] : NULL;
        const char *name = calltree_name(tree, i, w->rooms[i]);
        put_number(&w->part, FUNCTION_ID, i + 1);
        put_string_number(w, &w->part, FUNCTION_NAME, name);
        put_string_number(w, &w->part, FUNCTION_SYSTEM_NAME, name);
        put_string_number(w, &w->part, FUNCTION_FILE, f ? f->file : NULL);
        put_number(&w->part, FUNCTION_LINE, f ? f->line : 0);
        put_part(&w->profile, PROFILE_FUNCTION, &w->part);
    }
}

// The string table: proto strings are UTF-8, so names go through calltree_put_plain.
static bool put_strings(Writer *w) {
    for (uint32_t i = 0; i < w->strings.n; i++) {
        char *text = NULL;
        size_t length = 0;
        FILE *plain = open_memstream(&text, &length);
        if (!plain) return false;
        calltree_put_plain(plain, w->strings.all[i], "");
        bool ok = fclose(plain) == 0;
        if (ok) put_block(&w->profile, PROFILE_STRING, text, length);
        free(text);
        if (!ok) return false;
    }
    return true;
}

// Setting up: every text and module gets its number, every call the number of its place.
static bool number_texts(Writer *w) {
    const CallTree *tree = w->tree;
    size_t functions = (size_t)tree->n_functions + 1;
    w->strings.all = calloc(3 * functions + 8, sizeof *w->strings.all);
    w->modules.all = calloc(functions, sizeof *w->modules.all);
    w->rooms = calloc(functions, sizeof *w->rooms);
    if (!w->strings.all || !w->modules.all || !w->rooms) return false;
    // The first string has to be the empty one; so it is, as the table is sorted.
    const char *fixed[] = {"", "instructions", "calls", "count",
                           tree->command ? tree->command : ""};
    CallNames *s = &w->strings;
    for (unsigned i = 0; i < sizeof fixed / sizeof *fixed; i++) s->all[s->n++] = fixed[i];
    for (uint32_t i = 0; i <= tree->n_functions; i++) {
        s->all[s->n++] = calltree_name(tree, i, w->rooms[i]);
        if (i == tree->n_functions) break;
        const CallFunction *f = &tree->functions[i];
        if (f->file) s->all[s->n++] = f->file;
        if (f->module) s->all[s->n++] = w->modules.all[w->modules.n++] = f->module;
    }
    calltree_names_sort(&w->strings);
    calltree_names_sort(&w->modules);
    w->extents = calloc((size_t)w->modules.n + 1, sizeof *w->extents);
    return w->extents != NULL;
}

static bool number_places(Writer *w) {
    const CallTree *tree = w->tree;
    w->callers = calloc((size_t)tree->n_nodes + 1, sizeof *w->callers);
    if (!w->callers || !find_locations(w)) return false;
    for (uint32_t i = 1; i < tree->n_nodes; i++)
        if (tree->nodes[i].parent) w->callers[i] = location_number(w, location_of_call(tree, i));
    return true;
}

static bool put_profile(Writer *w) {
    put_value_type(w, PROFILE_SAMPLE_TYPE, "instructions");
    put_value_type(w, PROFILE_SAMPLE_TYPE, "calls");
    put_samples(w);
    put_mappings(w);
    put_locations(w);
    put_functions(w);
    if (!put_strings(w)) return false;
    put_value_type(w, PROFILE_PERIOD_TYPE, "instructions");
    put_number(&w->profile, PROFILE_PERIOD, 1);
    put_string_number(w, &w->profile, PROFILE_COMMENT, w->tree->command);
    put_string_number(w, &w->profile, PROFILE_DEFAULT_SAMPLE_TYPE, "instructions");
    return !w->profile.failed;
}

static bool put_gzip(const Bytes *b, FILE *to) {
    z_stream z = {0};
    unsigned char out[16384];
    int status =
        deflateInit2(&z, Z_DEFAULT_COMPRESSION, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
    if (status != Z_OK) return false;
    size_t at = 0;
    do { // avail_in is 32 bits wide
        size_t piece = b->length - at < 1u << 30 ? b->length - at : 1u << 30;
        z.next_in = b->data + at;
        z.avail_in = (uInt)piece;
        at += piece;
        do {
            z.next_out = out;
            z.avail_out = sizeof out;
            status = deflate(&z, at == b->length ? Z_FINISH : Z_NO_FLUSH);
            fwrite(out, 1, sizeof out - z.avail_out, to);
        } while (z.avail_out == 0);
    } while (at < b->length);
    deflateEnd(&z);
    return status == Z_STREAM_END;
}

bool calltree_write_pprof(const CallTree *tree, FILE *to) {
    CallWalk walk;
    if (!calltree_walk(tree, &walk)) return false; // only checks the tree
    calltree_walk_free(&walk);
    CallTree folded;
    bool deep;
    if (!calltree_fold(tree, PPROF_DEPTH, true, &folded, &deep)) return false;
    Writer w = {.tree = &folded};
    bool ok = number_texts(&w) && number_places(&w) && put_profile(&w) && put_gzip(&w.profile, to);
    free(w.profile.data);
    free(w.part.data);
    free(w.inner.data);
    free(w.locations);
    free(w.callers);
    free(w.strings.all);
    free(w.modules.all);
    free(w.extents);
    free(w.rooms);
    free((void *)folded.nodes);
    if (!ok) errno = ENOMEM;
    return ok && calltree_written(to);
}
