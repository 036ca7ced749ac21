// calltree_names.c - names in a call tree: how untrusted text is written, and numbers for texts.
//
// Names come from the guest's files and may hold anything. Two ways out of a name exist and every
// writer uses one of them: calltree_put_plain for line-oriented text, where a control character
// could forge a line or talk to the terminal, and calltree_put_json, which is also what the page
// embeds.
#include "calltree_internal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

// Bytes of the UTF-8 character at `s` and its code point; 0 when it is none (RFC 3629: no overlong
// forms, no surrogates).
static unsigned utf8(const unsigned char *s, uint32_t *code) {
    static const uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
    unsigned n = s[0] < 0x80   ? 1
                 : s[0] < 0xc2 ? 0
                 : s[0] < 0xe0 ? 2
                 : s[0] < 0xf0 ? 3
                 : s[0] < 0xf5 ? 4
                               : 0;
    if (n == 0) return 0;
    *code = n == 1 ? s[0] : s[0] & (0x7fu >> n);
    for (unsigned i = 1; i < n; i++) {
        if ((s[i] & 0xc0) != 0x80) return 0;
        *code = *code << 6 | (s[i] & 0x3f);
    }
    if (*code < smallest[n] || (*code >= 0xd800 && *code < 0xe000) || *code > 0x10ffff) return 0;
    return n;
}

// Characters that change how a terminal or an editor shows what follows: controls, line separators
// and overrides of the writing direction.
static bool unprintable(uint32_t code) {
    return code < 0x20 || (code >= 0x7f && code < 0xa0) || (code >= 0x200e && code <= 0x200f) ||
           (code >= 0x2028 && code <= 0x202e) || (code >= 0x2066 && code <= 0x2069) ||
           code == 0xfeff;
}

void calltree_put_plain(FILE *to, const char *text, const char *avoid) {
    const unsigned char *s = (const unsigned char *)text;
    while (*s) {
        size_t plain = 0; // most names are nothing else
        while (s[plain] > ' ' && s[plain] < 0x7f && !strchr(avoid, s[plain])) plain++;
        if (plain) fwrite(s, 1, plain, to);
        s += plain;
        if (!*s) return;
        uint32_t code = 0;
        unsigned n = utf8(s, &code);
        bool escape = n == 0 || unprintable(code) || (n == 1 && strchr(avoid, s[0]));
        if (n == 0) n = 1;
        if (escape)
            for (unsigned i = 0; i < n; i++) fprintf(to, "\\x%02x", s[i]);
        else
            fwrite(s, 1, n, to);
        s += n;
    }
}

void calltree_put_json(FILE *to, const char *text) {
    if (!text) {
        fputs("null", to);
        return;
    }
    putc('"', to);
    for (const unsigned char *s = (const unsigned char *)text; *s;) {
        uint32_t code = 0;
        unsigned n = utf8(s, &code);
        if (n == 0) {
            fputs("\\ufffd", to);
            n = 1;
        } else if (code == '"' || code == '\\') {
            fprintf(to, "\\%c", (int)code);
        } else if (unprintable(code) || code == '<' || code == '>' || code == '&') {
            fprintf(to, "\\u%04x", code); // all of these are below 0x10000
        } else {
            fwrite(s, 1, n, to);
        }
        s += n;
    }
    putc('"', to);
}

void calltree_put_json_address(FILE *to, uint64_t address) {
    fprintf(to, "\"0x%" PRIx64 "\"", address); // a string: JavaScript's numbers end at 2^53
}

bool calltree_written(FILE *to) {
    return fflush(to) == 0 && !ferror(to);
}

bool calltree_named(const char *name) {
    return name && name[strspn(name, " ")];
}

const char *calltree_name(const CallTree *tree, uint32_t function, char room[CALLTREE_NAME_ROOM]) {
    if (function >= tree->n_functions) return "(root)";
    const CallFunction *f = &tree->functions[function];
    if (calltree_named(f->name)) return f->name;
    snprintf(room, CALLTREE_NAME_ROOM, "0x%" PRIx64, f->address);
    return room;
}

static int by_text(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

void calltree_names_sort(CallNames *names) {
    uint32_t kept = 0;
    qsort(names->all, names->n, sizeof *names->all, by_text);
    for (uint32_t i = 0; i < names->n; i++)
        if (!kept || strcmp(names->all[kept - 1], names->all[i]))
            names->all[kept++] = names->all[i];
    names->n = kept;
}

uint32_t calltree_names_find(const CallNames *names, const char *text) {
    const char **at = bsearch(&text, names->all, names->n, sizeof *names->all, by_text);
    return (uint32_t)(at - names->all);
}
