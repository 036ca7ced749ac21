// emit_vec.h - the encoder of host vector instructions: one function, one table row each.
//
// Each row of vec_ops.def has up to three encodings (legacy SSE, VEX, EVEX) which do the same to
// 128-bit registers. vec_encode() takes the shortest that the level allows and the registers need:
// EVEX as soon as a register is 16 or higher or the row has no other form, else VEX when there is
// AVX, else legacy. Legacy forms are destructive: there the caller must see to dst == s1
// (sel_vec.h does).
//
// The functions write into a buffer and return the new end; they know nothing of allocation. At
// most VEC_MAX_BYTES are written. Pure, reentrant.
#ifndef DGM_HOST_X86_64_EMIT_VEC_H
#define DGM_HOST_X86_64_EMIT_VEC_H

#include "base/base.h"

typedef enum Vop {
#define VOP(name, pp, map, opc, kind, isa, flags, n) V_##name,
#include "host/x86_64/vec_ops.def"
#undef VOP
    V_COUNT
} Vop;

enum { VEC_MAX_BYTES = 16 };

typedef enum VecLevel { VEC_SSE, VEC_AVX, VEC_AVX512 } VecLevel;

// The rm operand: a register or memory.
enum { VRM_NONE = -1, VRM_RIP = -2 };
typedef struct VecRm {
    bool mem;
    uint8_t reg;        // !mem: xmm, k or GPR number
    int8_t base, index; // GPR numbers; base may be VRM_RIP (disp is then the address itself)
    uint8_t scale;      // log2
    int64_t disp;
} VecRm;

static inline VecRm vrm_reg(unsigned reg) {
    return (VecRm){.reg = (uint8_t)reg, .base = VRM_NONE, .index = VRM_NONE};
}
static inline VecRm vrm_mem(unsigned base, int32_t disp) {
    return (VecRm){.mem = true, .base = (int8_t)base, .index = VRM_NONE, .disp = disp};
}
static inline VecRm vrm_sib(unsigned base, unsigned index, unsigned scale_log2, int32_t disp) {
    return (VecRm){.mem = true,
                   .base = (int8_t)base,
                   .index = (int8_t)index,
                   .scale = (uint8_t)scale_log2,
                   .disp = disp};
}
static inline VecRm vrm_rip(const void *address) {
    return (VecRm){
        .mem = true, .base = VRM_RIP, .index = VRM_NONE, .disp = (int64_t)(uintptr_t)address};
}

// dst = s1 op rm [, imm]. Two-operand rows ignore s1; store rows take the stored register as dst
// and the destination as rm. imm is ignored by rows without one. (rm comes early: so it goes in
// registers, and nobody waits for its parts to leave the store buffer.)
uint8_t *vec_encode(uint8_t *p, VecRm rm, VecLevel level, Vop op, unsigned dst, unsigned s1,
                    unsigned imm);

// dst = s1 op rm [, imm] of registers, only in the lanes of a mask register; no exceptions are
// raised for the others, where the result is zero (of a comparison into a mask register: false).
// AVX-512. Translated code keeps these masks (stubs.c):
typedef enum VecMask {
    VEC_LANE0 = 2,
    VEC_HIGH_HALF0 = 3,
    VEC_HIGH_HALVES = 4,
    VEC_HIGH_WORDS = 5
} VecMask;
uint8_t *vec_encode_masked(uint8_t *p, VecMask mask, Vop op, unsigned dst, unsigned s1, unsigned rm,
                           unsigned imm);

// A two-operand row on scalars, dst and rm, which raises no exceptions. AVX-512.
uint8_t *vec_encode_silent(uint8_t *p, Vop op, unsigned dst, unsigned rm);

// What the selectors ask about a row.
bool vec_is_three_operand(Vop op);
bool vec_is_commutative(Vop op);
bool vec_has_evex(Vop op);
bool vec_has_imm(Vop op); // a byte behind the operands
const char *vec_name(Vop op);

#endif
