// notes.c - what a trace knows besides instructions and accesses: modules, functions, names of
// system calls, and what happened to threads. Notes are read when the file is opened, for they are
// few; the system calls, which may be many, when somebody first asks what happened.
#include "trace/read.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

// The rest of the note as a string of its own, for it may have no end, or more than one.
static const char *rest(Notes *n, Stream *s) {
    size_t bytes = (size_t)(s->end - s->at);
    char *text = malloc(bytes + 1);
    if (!text || !trace_grow((void **)&n->texts, &n->cap_texts, n->n_texts + 1, sizeof *n->texts)) {
        free(text);
        return NULL;
    }
    memcpy(text, s->at, bytes);
    text[bytes] = 0;
    s->at = s->end;
    return n->texts[n->n_texts++] = text;
}

static bool numbers(Stream *s, uint64_t *out, unsigned n) {
    for (unsigned i = 0; i < n; i++)
        if (!trace_number(s, &out[i])) return false;
    return true;
}

static bool read_module(Notes *n, Stream *s) {
    uint64_t v[3];
    if (!numbers(s, v, 3) ||
        !trace_grow((void **)&n->modules, &n->cap_modules, n->n_modules + 1, sizeof *n->modules))
        return false;
    dgm_trace_module *m = &n->modules[n->n_modules];
    *m = (dgm_trace_module){.low = v[0], .high = v[1], .bias = v[2], .path = rest(n, s)};
    n->n_modules += m->path != NULL;
    return m->path;
}

static bool read_symbol(Notes *n, Stream *s) {
    uint64_t v[2];
    if (!numbers(s, v, 2) ||
        !trace_grow((void **)&n->symbols, &n->cap_symbols, n->n_symbols + 1, sizeof *n->symbols))
        return false;
    dgm_trace_symbol *x = &n->symbols[n->n_symbols];
    *x = (dgm_trace_symbol){.address = v[0], .bytes = v[1], .name = rest(n, s)};
    n->n_symbols += x->name != NULL;
    return x->name;
}

static bool read_name(Notes *n, Stream *s) {
    uint64_t number;
    if (!trace_number(s, &number) ||
        !trace_grow((void **)&n->names, &n->cap_names, n->n_names + 1, sizeof *n->names))
        return false;
    CallName *x = &n->names[n->n_names];
    *x = (CallName){number, rest(n, s)};
    n->n_names += x->name != NULL;
    return x->name;
}

static bool add_event(Notes *n, const dgm_trace_event *e) {
    if (!trace_grow((void **)&n->events, &n->cap_events, n->n_events + 1, sizeof *n->events))
        return false;
    n->events[n->n_events++] = *e;
    return true;
}

// keep: it is wanted, not only looked at.
static bool read_event(Notes *n, uint64_t kind, Stream *s, bool keep) {
    uint64_t v[3];
    if (!numbers(s, v, 3) || v[0] >= TRACE_MAX_THREADS) return false;
    dgm_trace_event e = {.thread = (uint32_t)v[0], .insn = v[1], .start_ns = v[2], .end_ns = v[2]};
    bool ok = true;
    switch (kind) {
    case NOTE_BEGIN:
        e.kind = DGM_TRACE_BEGIN;
        ok = trace_number(s, &e.number);
        break;
    case NOTE_END:
        e.kind = DGM_TRACE_END;
        ok = !keep || (e.text = rest(n, s)) != NULL;
        break;
    case NOTE_SIGNAL:
        e.kind = DGM_TRACE_SIGNAL;
        ok = trace_number(s, &e.number) && trace_number(s, &e.address);
        break;
    case NOTE_LEFT:
        e.kind = DGM_TRACE_LEFT;
        ok = trace_number(s, &e.number) && numbers(s, e.args, 6);
        break;
    default: e.kind = DGM_TRACE_TIME;
    }
    if (e.thread >= n->threads) n->threads = e.thread + 1;
    return ok && (!keep || add_event(n, &e));
}

static bool read_note(Notes *n, uint64_t kind, Stream s, bool events) {
    uint64_t v[2];
    if (kind >= NOTE_BEGIN && kind <= NOTE_TIME) return read_event(n, kind, &s, events);
    if (events) return true; // the others have been read
    switch (kind) {
    case NOTE_CLOCK:
        if (!numbers(&s, v, 2)) return false;
        n->realtime_ns = (int64_t)(v[1] - v[0]);
        return true;
    case NOTE_MODULE: return read_module(n, &s);
    case NOTE_SYMBOL: return read_symbol(n, &s);
    case NOTE_CALL_NAME: return read_name(n, &s);
    default: return true;
    }
}

int trace_notes_read(dgm_trace *t, const Chunk *c, bool events) {
    uint8_t *bytes = trace_unpack(t, c);
    if (!bytes) return -EBADMSG;
    Stream s = {bytes, bytes + c->h.bytes};
    bool ok = true;
    for (uint64_t i = 0; ok && i < c->h.count; i++) {
        uint64_t kind, n;
        ok = trace_number(&s, &kind) && trace_number(&s, &n) && n <= (size_t)(s.end - s.at) &&
             read_note(&t->notes, kind, (Stream){s.at, s.at + n}, events);
        if (ok) s.at += n;
    }
    free(bytes);
    return ok ? 0 : trace_fail(t, -EBADMSG, "damaged notes at byte %zu", c->at);
}

void trace_notes_free(Notes *n) {
    for (size_t i = 0; i < n->n_texts; i++) free(n->texts[i]);
    free(n->texts);
    free(n->modules);
    free(n->symbols);
    free(n->names);
    free(n->events);
}

// ---- modules, functions, names ----

const dgm_trace_module *dgm_trace_module_nth(const dgm_trace *t, size_t i) {
    return i < t->notes.n_modules ? &t->notes.modules[i] : NULL;
}

const dgm_trace_module *dgm_trace_module_at(const dgm_trace *t, uint64_t address) {
    for (size_t i = t->notes.n_modules; i-- > 0;) {
        const dgm_trace_module *m = &t->notes.modules[i];
        if (address >= m->low && address < m->high) return m;
    }
    return NULL;
}

// A sort that keeps the order of equals, for the order in the file says which came later.
static bool merge_sort(void *array, size_t n, size_t item,
                       int (*order)(const void *, const void *)) {
    if (n < 2) return true;
    char *from = array, *to = malloc(n * item), *scratch = to;
    if (!to) return false;
    for (size_t width = 1; width < n; width *= 2) {
        for (size_t lo = 0; lo < n; lo += 2 * width) {
            size_t mid = lo + width < n ? lo + width : n, hi = mid + width < n ? mid + width : n;
            size_t a = lo, b = mid;
            for (size_t k = lo; k < hi; k++) {
                bool left = b == hi || (a < mid && order(from + a * item, from + b * item) <= 0);
                memcpy(to + k * item, from + (left ? a++ : b++) * item, item);
            }
        }
        char *swap = from;
        from = to;
        to = swap;
    }
    if (from != array) memcpy(array, from, n * item);
    free(scratch);
    return true;
}

static int by_address(const void *a, const void *b) {
    const dgm_trace_symbol *x = a, *y = b;
    return x->address < y->address ? -1 : x->address > y->address;
}

// Of several functions at one address the last stays.
int trace_notes_settle(dgm_trace *t) {
    Notes *n = &t->notes;
    if (!merge_sort(n->symbols, n->n_symbols, sizeof *n->symbols, by_address))
        return trace_fail(t, -ENOMEM, "out of memory");
    size_t kept = 0;
    for (size_t i = 0; i < n->n_symbols; i++)
        if (i + 1 == n->n_symbols || n->symbols[i + 1].address != n->symbols[i].address)
            n->symbols[kept++] = n->symbols[i];
    n->n_symbols = kept;
    return 0;
}

bool dgm_trace_symbol_at(const dgm_trace *t, uint64_t address, dgm_trace_symbol *out) {
    const Notes *n = &t->notes;
    size_t lo = 0, hi = n->n_symbols;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (n->symbols[mid].address <= address)
            lo = mid + 1;
        else
            hi = mid;
    }
    if (!lo) return false;
    const dgm_trace_symbol *s = &n->symbols[lo - 1];
    if (s->bytes && address - s->address >= s->bytes) return false;
    if (!s->bytes) { // it reaches as far as its module
        const dgm_trace_module *m = dgm_trace_module_at(t, s->address);
        if (!m || address >= m->high) return false;
    }
    *out = *s;
    return true;
}

const char *dgm_trace_syscall_name(const dgm_trace *t, uint64_t number) {
    for (size_t i = 0; i < t->notes.n_names; i++)
        if (t->notes.names[i].number == number) return t->notes.names[i].name;
    return NULL;
}

// ---- what happened to threads ----

bool trace_read_call(Stream *s, dgm_trace_event *out) {
    uint64_t v[11];
    if (!numbers(s, v, 11)) return false;
    *out = (dgm_trace_event){.kind = DGM_TRACE_CALL,
                             .insn = v[0],
                             .number = v[1],
                             .result = (int64_t)unzigzag(v[8]),
                             .start_ns = v[9],
                             .end_ns = v[10]};
    memcpy(out->args, v + 2, sizeof out->args);
    return true;
}

static int read_calls(dgm_trace *t, const Chunk *c) {
    uint8_t *bytes = trace_unpack(t, c);
    if (!bytes) return -EBADMSG;
    Stream s = {bytes, bytes + c->h.bytes};
    int e = 0;
    for (uint64_t i = 0; !e && i < c->h.count; i++) {
        dgm_trace_event call;
        if (!trace_read_call(&s, &call)) e = trace_fail(t, -EBADMSG, "damaged at byte %zu", c->at);
        call.thread = c->h.thread;
        if (!e && !add_event(&t->notes, &call)) e = trace_fail(t, -ENOMEM, "out of memory");
    }
    free(bytes);
    return e;
}

static int by_thread(const void *a, const void *b) {
    const dgm_trace_event *x = a, *y = b;
    if (x->thread != y->thread) return x->thread < y->thread ? -1 : 1;
    return x->insn < y->insn ? -1 : x->insn > y->insn;
}

// A call and the signal that came after it are in different chunks: both kinds are read in the
// file's order, which is that of time for each thread.
static int sort_events(dgm_trace *t) {
    Notes *n = &t->notes;
    n->n_events = 0;
    for (size_t i = 0; i < t->n_chunks; i++) {
        const Chunk *c = &t->chunks[i];
        int e = c->h.kind == CHUNK_CALLS   ? read_calls(t, c)
                : c->h.kind == CHUNK_NOTES ? trace_notes_read(t, c, true)
                                           : 0;
        if (e) return e;
    }
    if (!merge_sort(n->events, n->n_events, sizeof *n->events, by_thread))
        return trace_fail(t, -ENOMEM, "out of memory");
    n->sorted = true;
    return 0;
}

static size_t first_of(const Notes *n, uint64_t thread) {
    size_t lo = 0, hi = n->n_events;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (n->events[mid].thread < thread)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

int dgm_trace_events(dgm_trace *t, uint32_t thread, const dgm_trace_event **out, size_t *n) {
    int e = t->notes.sorted ? 0 : sort_events(t);
    if (e) return e;
    size_t first = first_of(&t->notes, thread);
    *out = first < t->notes.n_events ? &t->notes.events[first] : NULL;
    *n = first_of(&t->notes, thread + 1ull) - first;
    return 0;
}
