// simpoint_bb.c - reads basic-block vectors, the .bb files of SimPoint, Valgrind, QEMU, gem5 and
// Pin.
//
// One line is one interval: a T, then `:block:count` for each block that ran in it, with or without
// spaces between. Blocks are numbers of any size in any order. Empty lines and comments (#) are
// passed over, and so are the records that PinPlay mixes in (`M: SYS_init 1`), a letter and a
// colon. Anything else is not such a file, and is said so by its line's number; to skip what one
// cannot read would shift every interval behind it.
//
// The text is not trusted: lines may have any length, numbers any size, bytes any value. Memory
// grows with the file's length and with nothing that it says.
//
// A last line without its newline comes from a run that was killed or from a full disk. It is read
// as far as it goes: what is whole counts, a pair that breaks off does not, and cut_line tells the
// caller.
#include "simpoint.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

typedef enum Pair { PAIR_WHOLE, PAIR_NONE, PAIR_CUT, PAIR_BAD } Pair;

typedef struct Cursor {
    const char *begin, *at, *end; // one line, without its newline
    const char *why;              // PAIR_BAD, PAIR_CUT: what is wrong at `at`
} Cursor;

__attribute__((format(printf, 3, 4))) static bool fail(SimpointError *error, uint64_t line,
                                                       const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(error->text, sizeof error->text, fmt, ap);
    va_end(ap);
    error->line = line;
    return false;
}

// An array of `size`-byte elements with room for one more behind `used`, or NULL.
static void *with_room(void *array, size_t used, size_t *room, size_t size) {
    if (used < *room) return array;
    size_t more = *room ? *room * 2 : 256;
    void *bigger = more <= SIZE_MAX / 2 / size ? realloc(array, more * size) : NULL;
    if (bigger) *room = more;
    return bigger;
}

static bool add_count(SimpointVectors *v, SimpointCount c) {
    SimpointCount *bigger = with_room(v->count, v->n_counts, &v->room_counts, sizeof *v->count);
    if (!bigger) return false;
    v->count = bigger;
    v->count[v->n_counts++] = c;
    return true;
}

static bool end_interval(SimpointVectors *v) {
    size_t *bigger = with_room(v->end, v->n, &v->room, sizeof *v->end);
    if (!bigger) return false;
    v->end = bigger;
    v->end[v->n++] = v->n_counts;
    return true;
}

static bool is_space(char c) {
    return c == ' ' || c == '\t' || c == '\r';
}

// Digits at the cursor, as a number.
static Pair number(Cursor *c, const char *missing, uint64_t *out) {
    const char *first = c->at;
    uint64_t n = 0;
    for (; c->at < c->end && *c->at >= '0' && *c->at <= '9'; c->at++) {
        unsigned digit = (unsigned)(*c->at - '0');
        if (n > (UINT64_MAX - digit) / 10) {
            c->at = first;
            c->why = "this number does not fit in 64 bits";
            return PAIR_BAD;
        }
        n = n * 10 + digit;
    }
    if (c->at == first) {
        c->why = missing;
        return c->at == c->end ? PAIR_CUT : PAIR_BAD;
    }
    *out = n;
    return PAIR_WHOLE;
}

// The next `:block:count`, and the spaces before it.
static Pair next_pair(Cursor *c, SimpointCount *out) {
    while (c->at < c->end && is_space(*c->at)) c->at++;
    if (c->at == c->end) return PAIR_NONE;
    c->why = "expected ':', a block's number, ':' and its count";
    if (*c->at++ != ':') {
        c->at--;
        return PAIR_BAD;
    }
    Pair p = number(c, "expected a block's number", &out->block);
    if (p != PAIR_WHOLE) return p;
    if (c->at == c->end || *c->at != ':') {
        c->why = "expected ':' and a count behind the block's number";
        return c->at == c->end ? PAIR_CUT : PAIR_BAD;
    }
    c->at++;
    return number(c, "expected a count", &out->count);
}

// A line that begins with T. `last` is one without newline.
static bool read_interval(SimpointVectors *v, Cursor c, uint64_t line, bool last,
                          SimpointError *error) {
    size_t before = v->n_counts;
    bool any = false;
    SimpointCount pair;
    Pair p;
    c.at++; // the T
    while ((p = next_pair(&c, &pair)) == PAIR_WHOLE) {
        any |= pair.count != 0;
        if (!add_count(v, pair)) return fail(error, line, "out of memory");
    }
    if (p == PAIR_BAD || (p == PAIR_CUT && !last))
        return fail(error, line, "%s, at column %zu", c.why, (size_t)(c.at - c.begin) + 1);
    if (!any && last) { // the cut came before the first count
        v->n_counts = before;
        return true;
    }
    if (!any) return fail(error, line, "no block ran in this interval");
    return end_interval(v) || fail(error, line, "out of memory");
}

static bool is_letter(char c) {
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

// What stands between the intervals in files of some makers.
static bool is_other(Cursor c, bool last) {
    while (c.at < c.end && is_space(*c.at)) c.at++;
    if (c.at == c.end || *c.at == '#') return true;
    if (c.at != c.begin || !is_letter(*c.at)) return false;
    return c.end - c.at > 1 ? c.at[1] == ':' : last;
}

static bool read_line(SimpointVectors *v, const char *text, size_t n, uint64_t line,
                      SimpointError *error) {
    bool last = text[n - 1] != '\n';
    Cursor c = {.begin = text, .at = text, .end = text + n - !last};
    if (last) v->cut_line = line;
    if (c.at < c.end && *c.at == 'T') return read_interval(v, c, line, last, error);
    if (is_other(c, last)) return true;
    if (line == 1 && n >= 2 && text[0] == '\x1f' && text[1] == '\x8b')
        return fail(error, 0,
                    "compressed by gzip; give it as: gzip -dc FILE | dragoman simpoint -");
    return fail(error, line,
                "expected an interval (T:block:count ...), a comment (# ...) or nothing");
}

bool simpoint_read(FILE *from, SimpointVectors *v, SimpointError *error) {
    *v = (SimpointVectors){0};
    *error = (SimpointError){0};
    char *text = NULL;
    size_t room = 0;
    bool good = true;
    for (uint64_t line = 1; good; line++) {
        errno = 0;
        ssize_t n = getline(&text, &room, from);
        if (n <= 0) {
            if (!feof(from)) good = fail(error, line, "%s", strerror(errno));
            break;
        }
        good = read_line(v, text, (size_t)n, line, error);
    }
    free(text);
    if (good && !v->n) good = fail(error, 0, "no interval: no line begins with T:");
    return good;
}

void simpoint_vectors_free(SimpointVectors *v) {
    free(v->count);
    free(v->end);
    *v = (SimpointVectors){0};
}
