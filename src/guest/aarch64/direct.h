// direct.h - what the files share that say AArch64's commonest instructions directly (ir/direct.h).
//
// direct_<row> says what lift_<row> lifts. It returns false, and has said nothing, for the rare
// form that is better lifted. Start reading in direct.c (the block loop).
#ifndef DGM_A64_DIRECT_H
#define DGM_A64_DIRECT_H

#include "guest/aarch64/lift.h"
#include "ir/direct.h"

struct DirectLift {
    const DirectOps *say;
    Direct *d;
    Lift l;    // of what is lifted in between; pc, ended, extend, join and turns count for both
    bool open; // a region is under way
    uint32_t n_ir_insts;
};

static inline bool direct_has(const DirectLift *l, uint64_t features) {
    return lift_has(&l->l, features);
}
// Xn, XZR; Xn, SP.
static inline DirectReg direct_x(unsigned n) {
    return n == 31 ? DIRECT_ZERO : (DirectReg)(A64_X0 + n);
}
static inline DirectReg direct_xsp(unsigned n) {
    return (DirectReg)(A64_X0 + n);
}

#endif
