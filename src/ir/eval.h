// eval.h - between the files of the evaluator: lanes, and who evaluates what.
//
// eval.c has ir_eval() with scalars and what is the same for scalars and lanes; eval_vec.c moves,
// widens, narrows and multiplies lanes; eval_fp.c calls softfp for each element.
#ifndef DGM_IR_EVAL_H
#define DGM_IR_EVAL_H

#include "ir/ir.h"

// Element i of the value, `bits` (1, 8, 16, 32, 64) wide, zero-extended.
static inline uint64_t lane_get(const V128 *v, unsigned bits, unsigned i) {
    unsigned at = bits * i;
    return bits_get(v->d[at / 64], at % 64, bits);
}
static inline int64_t lane_gets(const V128 *v, unsigned bits, unsigned i) {
    return bits_sext(lane_get(v, bits, i), bits);
}
static inline void lane_set(V128 *v, unsigned bits, unsigned i, uint64_t x) {
    unsigned at = bits * i;
    uint64_t mask = bits_mask(bits) << at % 64;
    v->d[at / 64] = (v->d[at / 64] & ~mask) | (x << at % 64 & mask);
}

// Each returns false when the op is not one of its own. *out is zeroed before.
bool ir_eval_vec(const IrInst *in, const V128 args[3], V128 *out);
bool ir_eval_fp(const IrInst *in, IrType a_type, const V128 args[3], IrFpEnv *env, V128 *out);

#endif
