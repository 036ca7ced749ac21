// trace_notes.c - see trace_notes.h. Everything is said once: a function when the first block of it
// is translated (again when another takes its place), a system call's name when it is first made.
#include "tools/trace_notes.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_NUMBERS = 10 };

static void put(Notes *n, unsigned kind, const uint64_t *numbers, unsigned n_numbers,
                const char *text) {
    uint8_t body[MAX_NUMBERS * MAX_NUMBER_BYTES], *at = body;
    for (unsigned i = 0; i < n_numbers; i++) at = put_number(at, numbers[i]);
    size_t head = (size_t)(at - body), length = text ? strlen(text) : 0;
    size_t want = n->bytes + head + length + 2 * MAX_NUMBER_BYTES;
    if (want > n->cap) {
        uint8_t *more = realloc(n->data, want * 2);
        n->failed |= !more;
        if (!more) return;
        n->data = more;
        n->cap = want * 2;
    }
    at = put_number(n->data + n->bytes, kind);
    at = put_number(at, head + length);
    memcpy(at, body, head);
    if (length) memcpy(at + head, text, length);
    n->bytes = (size_t)(at + head + length - n->data);
    n->count++;
}

static void put_module(Notes *n, const dgm_module *m) {
    put(n, NOTE_MODULE, (uint64_t[]){m->low, m->high, m->bias}, 3, m->path);
}

void notes_begin(Notes *n) {
    put(n, NOTE_CLOCK, (uint64_t[]){clock_ns(CLOCK_MONOTONIC), clock_ns(CLOCK_REALTIME)}, 2, NULL);
    for (size_t i = 0; i < n->n_modules; i++) put_module(n, n->modules[i]);
}

void notes_forget(Notes *n) {
    map_free(&n->symbols);
    map_free(&n->calls);
    n->bytes = 0;
    n->count = 0;
}

void notes_free(Notes *n) {
    notes_forget(n);
    free(n->modules);
    free(n->data);
}

const uint8_t *notes_take(Notes *n, size_t *bytes, uint64_t *count) {
    *bytes = n->bytes;
    *count = n->count;
    n->bytes = 0;
    n->count = 0;
    return n->data;
}

void notes_module(Notes *n, const dgm_module *m) {
    if (n->n_modules == n->cap_modules) {
        size_t cap = n->cap_modules * 2 + 16;
        const dgm_module **more = realloc(n->modules, cap * sizeof *more);
        n->failed |= !more;
        if (!more) return;
        n->modules = more;
        n->cap_modules = cap;
    }
    n->modules[n->n_modules++] = m;
    put_module(n, m);
}

void notes_symbols(Notes *n, dgm_watch *w, const dgm_block *b) {
    const dgm_insn *last = dgm_block_insn(b, dgm_block_insns(b) - 1);
    uint64_t at = dgm_block_address(b), end = last->address + last->size;
    dgm_symbol s;
    while (at < end && dgm_symbol_at(w, at, &s)) {
        void **said = map_at(&n->symbols, s.address);
        n->failed |= !said;
        if (said && *said != s.name) {
            *said = (void *)(uintptr_t)s.name;
            put(n, NOTE_SYMBOL, (uint64_t[]){s.address, s.bytes}, 2, s.name);
        }
        if (!s.bytes || s.address + s.bytes <= at) break;
        at = s.address + s.bytes;
    }
}

void notes_call_name(Notes *n, const dgm_syscall *s) {
    void **said = s->name ? map_at(&n->calls, s->number + 1) : NULL;
    if (!said || *said) return;
    *said = n;
    put(n, NOTE_CALL_NAME, &s->number, 1, s->name);
}

void notes_event_at(Notes *n, unsigned kind, uint32_t thread, uint64_t insn, uint64_t ns,
                    const uint64_t *numbers, unsigned n_numbers, const char *text) {
    uint64_t all[MAX_NUMBERS] = {thread, insn, ns};
    if (n_numbers) memcpy(all + 3, numbers, n_numbers * sizeof *numbers);
    put(n, kind, all, 3 + n_numbers, text);
}

void notes_event(Notes *n, unsigned kind, uint32_t thread, uint64_t insn, const uint64_t *numbers,
                 unsigned n_numbers, const char *text) {
    notes_event_at(n, kind, thread, insn, clock_ns(CLOCK_MONOTONIC), numbers, n_numbers, text);
}
