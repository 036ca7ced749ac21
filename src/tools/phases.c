// phases.c - intervals for a picture; see phases.h.
#include "tools/phases.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static uint32_t max_u32(uint32_t a, uint32_t b) {
    return a > b ? a : b;
}

void phases_add(Phases *p, uint32_t place, const float direction[PHASE_DIMENSIONS],
                uint64_t insns) {
    if (place >= p->n_places) {
        uint32_t n = max_u32(place + 1, 2 * p->n_places);
        uint64_t *more = realloc(p->by_place, n * sizeof *more);
        if (!more) return;
        memset(more + p->n_places, 0, (n - p->n_places) * sizeof *more);
        p->by_place = more;
        p->n_places = n;
    }
    p->by_place[place] += insns;
    p->now.insns += insns;
    for (unsigned d = 0; d < PHASE_DIMENSIONS; d++)
        p->now.vector[d] += (double)direction[d] * (double)insns;
}

// Keeps the place if it is among the largest; equal ones are kept by number, so that runs repeat.
static void keep_place(PhaseColumn *c, uint32_t place, uint64_t insns) {
    unsigned at = PHASE_PLACES;
    while (at && (c->top[at - 1].insns < insns ||
                  (c->top[at - 1].insns == insns && c->top[at - 1].place > place)))
        at--;
    if (at == PHASE_PLACES) return;
    memmove(&c->top[at + 1], &c->top[at], (PHASE_PLACES - 1 - at) * sizeof *c->top);
    c->top[at] = (struct PhasePlace){place, insns};
}

static PhaseColumn column_under_way(const Phases *p) {
    PhaseColumn c = p->now;
    for (uint32_t i = 0; i < p->n_places; i++)
        if (p->by_place[i]) keep_place(&c, i, p->by_place[i]);
    return c;
}

static PhaseColumn together(const PhaseColumn *a, const PhaseColumn *b) {
    PhaseColumn c = {.intervals = a->intervals + b->intervals, .insns = a->insns + b->insns};
    for (unsigned d = 0; d < PHASE_DIMENSIONS; d++) c.vector[d] = a->vector[d] + b->vector[d];
    bool in_a[PHASE_PLACES] = {false}; // places of b
    for (unsigned i = 0; i < PHASE_PLACES; i++) {
        uint64_t insns = a->top[i].insns;
        for (unsigned k = 0; insns && k < PHASE_PLACES; k++)
            if (b->top[k].insns && b->top[k].place == a->top[i].place) {
                insns += b->top[k].insns;
                in_a[k] = true;
            }
        if (insns) keep_place(&c, a->top[i].place, insns);
    }
    for (unsigned k = 0; k < PHASE_PLACES; k++)
        if (b->top[k].insns && !in_a[k]) keep_place(&c, b->top[k].place, b->top[k].insns);
    return c;
}

static bool make_room(Phases *p) {
    if (p->n < p->cap) return true;
    if (p->n < PHASE_COLUMNS) {
        size_t cap = p->cap ? 2 * p->cap : 64;
        PhaseColumn *more = realloc(p->column, cap * sizeof *more);
        if (!more) return false;
        p->column = more;
        p->cap = cap;
        return true;
    }
    for (size_t i = 0; i < PHASE_COLUMNS / 2; i++)
        p->column[i] = together(&p->column[2 * i], &p->column[2 * i + 1]);
    p->n = PHASE_COLUMNS / 2;
    p->each *= 2;
    return true;
}

void phases_interval(Phases *p) {
    if (!p->each) p->each = 1;
    if (++p->now.intervals < p->each) return;
    if (!make_room(p)) return;              // the column grows
    if (p->now.intervals < p->each) return; // columns have just become longer
    p->column[p->n++] = column_under_way(p);
    p->now = (PhaseColumn){0};
    memset(p->by_place, 0, p->n_places * sizeof *p->by_place);
}

static void write_column(const PhaseColumn *c, FILE *f) {
    fprintf(f, "{\"intervals\": %" PRIu64 ", \"instructions\": %" PRIu64 ", \"places\": [",
            c->intervals, c->insns);
    for (unsigned i = 0; i < PHASE_PLACES && c->top[i].insns; i++)
        fprintf(f, "%s%" PRIu32 ", %" PRIu64, i ? ", " : "", c->top[i].place, c->top[i].insns);
    fprintf(f, "], \"vector\": [");
    for (unsigned d = 0; d < PHASE_DIMENSIONS; d++)
        fprintf(f, "%s%.4f", d ? ", " : "", c->insns ? c->vector[d] / (double)c->insns : 0);
    fprintf(f, "]}");
}

void phases_write(const Phases *p, FILE *f) {
    fputc('[', f);
    for (size_t i = 0; i < p->n; i++) {
        if (i) fputs(",\n    ", f);
        write_column(&p->column[i], f);
    }
    if (p->now.intervals) {
        PhaseColumn c = column_under_way(p);
        if (p->n) fputs(",\n    ", f);
        write_column(&c, f);
    }
    fputc(']', f);
}

void phases_free(Phases *p) {
    free(p->column);
    free(p->by_place);
    *p = (Phases){0};
}
