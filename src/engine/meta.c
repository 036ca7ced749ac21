// meta.c - the region that a machine notes its blocks in, and pages of what only grows.
//
// Under Machine.lock, but for what signal handlers look up in it.
#include "engine/engine.h"

#include <sys/mman.h>

enum { META_ALIGN = 8 };

bool meta_new(Meta *t, size_t bytes) {
    *t = (Meta){.base = pages_reserve(bytes)};
    if (!t->base) return false;
    t->there = t->base;
    t->end = t->base + bytes;
    meta_reset(t);
    return true;
}

void meta_free(Meta *t) {
    pages_free(t->base, (size_t)(t->end - t->base));
}

void meta_reset(Meta *t) {
    t->at = t->base + META_ALIGN; // nothing is at 0
}

void *meta_alloc(Meta *t, size_t bytes) {
    bytes = ALIGN_UP(bytes, META_ALIGN);
    if ((size_t)(t->end - t->at) < bytes) return NULL;
    pages_ahead(t->at, bytes, &t->there, t->base, t->end);
    void *p = t->at;
    t->at += bytes;
    return p;
}

void pages_ahead(uint8_t *at, size_t bytes, uint8_t **there, const uint8_t *first,
                 const uint8_t *end) {
    enum { FIRST_BYTES = 16 << 10, STEP_BYTES = 256 << 10 };
    if (at + bytes <= *there) return;
    ptrdiff_t step = *there - first < STEP_BYTES ? FIRST_BYTES : STEP_BYTES;
    if (end - *there < step) return;
    madvise(*there, (size_t)step, MADV_POPULATE_WRITE); // before Linux 5.14 faults do it
    *there += step;
}
