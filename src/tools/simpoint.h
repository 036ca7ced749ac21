// simpoint.h - a few intervals of a run that stand for the whole of it.
//
// A profile of basic-block vectors says for each interval of a run how often each block ran.
// Intervals with like vectors behave alike, so clusters of them are the program's phases, and one
// interval of each phase, weighted by the phase's share, is enough to simulate. The method is that
// of Sherwood, Perelman, Hamerly and Calder (ASPLOS 2002) with the scores and file formats of
// SimPoint 3.2:
//
//     simpoint_read()     the .bb file, text that nobody vouches for       simpoint_bb.c
//     simpoint_project()  each vector divided by its sum, in few dimensions simpoint_kmeans.c
//     simpoint_search()   k-means for each k, BIC, the smallest good k      simpoint_kmeans.c
//
// Nothing here is global or prints. Results depend on the vectors and on SimpointOptions but for
// `threads`: each run of k-means is one thread's, and draws random numbers by their place, not by
// their turn. Whoever passes a struct in owns it and frees it with the function beside it, also
// after an error.
#ifndef DGM_TOOLS_SIMPOINT_H
#define DGM_TOOLS_SIMPOINT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

// ---- the vectors ----

typedef struct SimpointCount {
    uint64_t block, count;
} SimpointCount;

typedef struct SimpointVectors {
    SimpointCount *count; // of all intervals, one behind the other
    size_t *end;          // where interval i ends in count[]; it begins where i - 1 ends
    size_t n, n_counts;   // intervals; counts
    size_t room, room_counts;
    uint64_t cut_line; // the last line if it lacks its newline and was read up to there, or 0
} SimpointVectors;

typedef struct SimpointError {
    uint64_t line; // 0: not about one line
    char text[160];
} SimpointError;

// Reads `T:block:count :block:count ...` lines to the end of the file. False: *error says why, and
// *v holds nothing that is to be used.
bool simpoint_read(FILE *from, SimpointVectors *v, SimpointError *error);
void simpoint_vectors_free(SimpointVectors *v);

// ---- the points ----

enum {
    SIMPOINT_MAX_K = 1000,
    SIMPOINT_MAX_DIM = 1000,
    SIMPOINT_MAX_THREADS = 1024,
};

typedef struct SimpointOptions {
    unsigned k, max_k; // k: exactly so many clusters; 0: look for the best from 1 to max_k
    unsigned dim;      // dimensions after projection
    unsigned restarts, max_iterations;
    unsigned threads;
    double bic_threshold; // of the range of scores, 0 to 1
    uint64_t seed;
    // Called on any thread when one more run of k-means is done. NULL: nobody asks.
    void (*progress)(void *ctx, size_t done, size_t all);
    void *progress_ctx;
} SimpointOptions;

// What SimPoint 3.2 takes when nothing is said, but every k up to 30 is tried.
SimpointOptions simpoint_options_default(void);

typedef struct SimpointPoints {
    double *at; // n rows of dim
    size_t n, distinct;
    unsigned dim;
} SimpointPoints;

// False: no memory.
bool simpoint_project(const SimpointVectors *v, const SimpointOptions *o, SimpointPoints *p);
void simpoint_points_free(SimpointPoints *p);
// The projection: the number from -1 to 1 by which a block's frequency enters a dimension.
double simpoint_direction(uint64_t seed, uint64_t block, unsigned dim);

// ---- the clusters ----

typedef struct SimpointScore {
    unsigned k;
    unsigned iterations; // of the best restart
    double bic, distortion;
} SimpointScore;

typedef struct SimpointCluster {
    size_t size;
    size_t interval; // the nearest to the centroid, the first of several
    double weight;   // its share of all intervals
} SimpointCluster;

typedef struct SimpointResult {
    SimpointScore *score; // by k, ascending: of all that were tried
    unsigned n_scores;
    unsigned chosen;          // index of score[]
    SimpointCluster *cluster; // in the order of their first intervals; none is empty
    unsigned k;
    unsigned *label;  // an interval's cluster
    double *distance; // and how far from its centroid
    size_t n;
} SimpointResult;

// p has at least one point. False: no memory.
bool simpoint_search(const SimpointPoints *p, const SimpointOptions *o, SimpointResult *r);
void simpoint_result_free(SimpointResult *r);

#endif
