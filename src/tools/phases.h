// phases.h - a run's intervals for a picture: which places (functions) each spent its instructions
// in, and its basic-block vector projected to a few numbers, so that like intervals have near ones.
//
// Memory is bounded however long the run: a column is one interval until there are too many, then
// neighbours are put together and a column is two, four, eight. Of a column the largest places are
// kept, exact but for what was put together.
#ifndef DGM_TOOLS_PHASES_H
#define DGM_TOOLS_PHASES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum { PHASE_DIMENSIONS = 15, PHASE_PLACES = 16, PHASE_COLUMNS = 1024 };

typedef struct PhaseColumn {
    uint64_t intervals, insns;
    struct PhasePlace {
        uint32_t place;
        uint64_t insns;
    } top[PHASE_PLACES];             // 0 instructions: not used
    double vector[PHASE_DIMENSIONS]; // times insns
} PhaseColumn;

typedef struct Phases { // one thread's; all zeros is an empty one
    PhaseColumn *column;
    size_t n, cap;
    uint64_t each;   // intervals of a column; 0: one
    PhaseColumn now; // the one under way, whose places are in by_place
    uint64_t *by_place;
    uint32_t n_places;
} Phases;

// So many instructions of this place in the interval under way; `direction` is the block's.
void phases_add(Phases *p, uint32_t place, const float direction[PHASE_DIMENSIONS], uint64_t insns);
void phases_interval(Phases *p); // ends it
// The columns as JSON, the one under way included.
void phases_write(const Phases *p, FILE *f);
void phases_free(Phases *p);

#endif
