// softfp.h - floating point by integers: what the float ops of ops.def mean, bit for bit, on any
// host. Values are the bits of an F16, F32 or F64, zero-extended; the environment holds mode, rules
// and sticky flags.
//
// The rules of IR_FP_ARM are those of the pseudocode of the Arm ARM (FPUnpack, FPRound,
// FPProcessNaNs...): tiny means tiny before rounding; with FZ (FZ16 for F16) a denormal operand
// counts as zero (IR_FPF_DENORMAL_IN, but for F16) and a tiny result becomes zero with
// IR_FPF_UNDERFLOW alone. IR_FP_RISCV differs by the canonical NaN, by tiny meaning tiny after
// rounding, by conversions of NaN to the maximum and by minnum and maxnum that ignore signalling
// NaNs too. IR_FPM_AH and IR_FPM_FIZ (Arm FEAT_AFP) are not modelled and have no effect: no guest
// offers that feature.
//
// Thread-safety: pure but for *env.
#ifndef DGM_IR_SOFTFP_H
#define DGM_IR_SOFTFP_H

#include "ir/ir.h"

typedef enum SoftFormat {
    SOFT_F16,
    SOFT_F32,
    SOFT_F64,
    SOFT_AHP,
    SOFT_BF16
} SoftFormat; // AHP, BF16: conversions only
static inline SoftFormat softfp_format(unsigned bits) {
    return bits == 16 ? SOFT_F16 : bits == 32 ? SOFT_F32 : SOFT_F64;
}

typedef enum SoftRelation { SOFT_LESS, SOFT_EQUAL, SOFT_GREATER, SOFT_UNORDERED } SoftRelation;

uint64_t softfp_add(SoftFormat f, uint64_t a, uint64_t b, IrFpEnv *env);
uint64_t softfp_sub(SoftFormat f, uint64_t a, uint64_t b, IrFpEnv *env);
uint64_t softfp_mul(SoftFormat f, uint64_t a, uint64_t b, IrFpEnv *env);
uint64_t softfp_div(SoftFormat f, uint64_t a, uint64_t b, IrFpEnv *env);
uint64_t softfp_sqrt(SoftFormat f, uint64_t a, IrFpEnv *env);
uint64_t softfp_fma(SoftFormat f, uint64_t a, uint64_t b, uint64_t addend, IrFpEnv *env);
// op is IR_fmin, IR_fmax, IR_fminnum or IR_fmaxnum.
uint64_t softfp_minmax(SoftFormat f, IrOp op, uint64_t a, uint64_t b, IrFpEnv *env);
// signalling: quiet NaNs are invalid too.
SoftRelation softfp_compare(SoftFormat f, uint64_t a, uint64_t b, bool signalling, IrFpEnv *env);
bool softfp_holds(IrFcc cc, SoftRelation r);
// raise_inexact: as FRINTX does.
uint64_t softfp_round(SoftFormat f, uint64_t a, IrRm rm, bool raise_inexact, IrFpEnv *env);
// a * 2^scale as an integer of `bits` bits (zero-extended), saturating.
uint64_t softfp_to_int(SoftFormat f, uint64_t a, unsigned scale, bool is_signed, unsigned bits,
                       IrRm rm, IrFpEnv *env);
// The integer value of `bits` bits / 2^scale.
uint64_t softfp_from_int(SoftFormat f, uint64_t value, unsigned scale, bool is_signed,
                         unsigned bits, IrFpEnv *env);
// Between formats; F16 is the alternative half precision when the mode says so.
uint64_t softfp_convert(SoftFormat from, SoftFormat to, uint64_t a, bool to_odd, IrFpEnv *env);

#endif
