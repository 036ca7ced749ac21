// helpers_simd.h - AdvSIMD operations that no few IR ops can say, as declared helpers. All take
// vectors by pointer (IrHelper.vec) and are pure but for sticky floating-point flags. The last
// scalar, imm, says which element size and flavour; its layout is given at each helper.
#ifndef DGM_GUEST_AARCH64_HELPERS_SIMD_H
#define DGM_GUEST_AARCH64_HELPERS_SIMD_H

#include "ir/ir.h"

// imm of most helpers: log2 of the element's bytes in the low bits, then these.
enum SimdHelperImm {
    SIMD_SIZE = 3, // 0 bytes, 1 halfwords, 2 words, 3 doublewords
    SIMD_SIGNED = 4,
    SIMD_ROUND = 8,
    SIMD_SATURATE = 16,
    SIMD_QC = 32,         // not the result but its saturated lanes: all ones where it saturated
    SIMD_SUB = 64,        // SQRDMLSH, SHA "part 2", the subtracting form
    SIMD_LANES_SHIFT = 8, // number of lanes to compute, for what raises FP flags; others are 0
};

extern const IrHelper simd_shift_reg;  // a shifted by the signed low byte of each lane of b
extern const IrHelper simd_mixed_qadd; // SUQADD (SIGNED), USQADD: accumulator a plus b
extern const IrHelper simd_sqrdmlah;   // c +- round(2ab) (RDM)
extern const IrHelper simd_pmul8, simd_pmull8;
extern const IrHelper simd_urecpe, simd_ursqrte;
extern const IrHelper simd_frecpe, simd_frsqrte, simd_frecpx, simd_frsqrts; // size, lanes
extern const IrHelper simd_frint_n; // FRINT32/64: size, lanes, ROUND: by mode, SIGNED: 64
extern const IrHelper simd_mmla;    // SMMLA (SIGNED), UMMLA, USMMLA (ROUND)
extern const IrHelper simd_fmlal;   // FMLAL/FMLSL (SUB): lanes of half-width a, b; c

extern const IrHelper crypto_sha1; // imm 0 C, 1 P, 2 M: a hash, b the e word, c schedule
extern const IrHelper crypto_sha1su1;
extern const IrHelper crypto_sha256h; // SUB: H2
extern const IrHelper crypto_sm3partw1, crypto_sm3partw2, crypto_sm3ss1;
extern const IrHelper crypto_sm3tt; // imm: word index of c, + 4 for TT2, + 8 for B
extern const IrHelper crypto_sm4e, crypto_sm4ekey;

// Scalar: FJCVTZS of a; bits 31..0 the result, bit 32 the Z flag.
extern const IrHelper fp_jcvtzs;

#endif
