// emit_vec.c - encodes the rows of vec_ops.def (see emit_vec.h for the choice of form).
//
// Where to start: vec_encode. The three prefixes carry the same facts: mandatory prefix (pp),
// opcode map, W, and the upper bits of the registers (R for dst, X and B for rm, V for s1). EVEX
// stores an 8-bit displacement divided by the size of the memory operand.
#include "host/x86_64/emit_vec.h"

enum { NP, P66, PF3, PF2 };                  // pp
enum { R3, R2, RS, SH = 8 };                 // kind; SH + opcode extension
enum { S2, S3, S4, AES, CLM, GF, AV, A5 };   // isa of the first form
enum { I = 1, C = 2, W = 4, V = 8, X = 16 }; // flags

typedef struct VecRow {
    uint8_t pp, map, opcode, kind, isa, flags, mem_bytes;
} VecRow;

static const VecRow rows[V_COUNT] = {
#define VOP(name, pp, map, opc, kind, isa, flags, n)                                               \
    [V_##name] = {pp, map, opc, kind, isa, flags, n},
#include "host/x86_64/vec_ops.def"
#undef VOP
};
static const char *const names[V_COUNT] = {
#define VOP(name, pp, map, opc, kind, isa, flags, n) [V_##name] = #name,
#include "host/x86_64/vec_ops.def"
#undef VOP
};

bool vec_is_three_operand(Vop op) {
    return rows[op].kind == R3 || rows[op].kind >= SH;
}
bool vec_is_commutative(Vop op) {
    return rows[op].flags & C;
}
bool vec_has_evex(Vop op) {
    return !(rows[op].flags & X);
}
bool vec_has_imm(Vop op) {
    return rows[op].flags & I;
}
const char *vec_name(Vop op) {
    return names[op];
}

// ModRM, SIB and displacement. disp8_log2: EVEX's scale. tail: bytes of immediate that follow.
static inline uint8_t *encode_rm(uint8_t *p, unsigned reg, VecRm rm, unsigned disp8_log2,
                                 unsigned tail) {
    reg = (reg & 7) << 3;
    if (!rm.mem) {
        *p++ = (uint8_t)(0xC0 | reg | (rm.reg & 7));
        return p;
    }
    int32_t disp32;
    if (rm.base == VRM_RIP) {
        *p++ = (uint8_t)(reg | 5);
        disp32 = (int32_t)(rm.disp - (int64_t)(uintptr_t)(p + 4 + tail));
        memcpy(p, &disp32, 4);
        return p + 4;
    }
    disp32 = (int32_t)rm.disp;
    if (rm.base == VRM_NONE) { // [index * scale + disp32] or [disp32]
        *p++ = (uint8_t)(reg | 4);
        *p++ = (uint8_t)(rm.scale << 6 | (rm.index < 0 ? 4 : rm.index & 7) << 3 | 5);
        memcpy(p, &disp32, 4);
        return p + 4;
    }
    int32_t small = disp32 >> disp8_log2;
    bool fits = (int32_t)((uint32_t)small << disp8_log2) == disp32 && small >= -128 && small <= 127;
    unsigned mod = disp32 == 0 && (rm.base & 7) != 5 ? 0 : fits ? 0x40 : 0x80;
    bool sib = rm.index >= 0 || (rm.base & 7) == 4;
    *p++ = (uint8_t)(mod | reg | (sib ? 4 : (rm.base & 7)));
    if (sib)
        *p++ = (uint8_t)(rm.scale << 6 | (rm.index < 0 ? 4 : rm.index & 7) << 3 | (rm.base & 7));
    if (mod == 0x40) {
        *p++ = (uint8_t)small;
    } else if (mod == 0x80) {
        memcpy(p, &disp32, 4);
        p += 4;
    }
    return p;
}

static inline __attribute__((always_inline)) uint8_t *encode(uint8_t *p, VecRm rm, VecLevel level,
                                                             Vop op, unsigned dst, unsigned s1,
                                                             unsigned imm, unsigned mask) {
    const VecRow *row = &rows[op];
    unsigned tail = row->flags & I ? 1 : 0;
    unsigned reg = dst, vvvv = row->kind == R3 ? s1 : 0;
    if (row->kind >= SH) { // the destination is in vvvv, the source in rm, reg is the extension
        vvvv = dst;
        rm = vrm_reg(s1);
        reg = row->kind - SH;
    } else if (row->flags & C && level != VEC_SSE && !rm.mem && rm.reg >= 8 && vvvv < 8) {
        unsigned swap = vvvv; // so that the two-byte VEX prefix does
        vvvv = rm.reg;
        rm.reg = (uint8_t)swap;
    }
    unsigned rbit = reg >> 3 & 1;
    unsigned bbit = rm.mem ? (rm.base >= 0 ? rm.base >> 3 & 1 : 0) : rm.reg >> 3 & 1u;
    unsigned xbit = rm.mem ? (rm.index >= 0 ? rm.index >> 3 & 1 : 0) : 0;
    bool high = reg >= 16 || vvvv >= 16 || (!rm.mem && rm.reg >= 16);
    unsigned disp8_log2 = 0;
    if (level == VEC_AVX512 && (row->isa == A5 || high || mask)) {
        if (!rm.mem) xbit = rm.reg >> 4 & 1;
        *p++ = 0x62;
        *p++ = (uint8_t)((rbit ^ 1) << 7 | (xbit ^ 1) << 6 | (bbit ^ 1) << 5 |
                         ((reg >> 4 & 1) ^ 1) << 4 | row->map);
        *p++ = (uint8_t)((row->flags & (W | V) ? 0x80 : 0) | (~vvvv & 15) << 3 | 4 | row->pp);
        *p++ = (uint8_t)(((vvvv >> 4 & 1) ^ 1) << 3 | mask); // 128 bits
        disp8_log2 = (unsigned)__builtin_ctz(row->mem_bytes);
    } else if (level >= VEC_AVX) {
        unsigned w = row->flags & V ? 1 : 0;
        if (!xbit && !bbit && !w && row->map == 1) {
            *p++ = 0xC5;
            *p++ = (uint8_t)((rbit ^ 1) << 7 | (~vvvv & 15) << 3 | row->pp);
        } else {
            *p++ = 0xC4;
            *p++ = (uint8_t)((rbit ^ 1) << 7 | (xbit ^ 1) << 6 | (bbit ^ 1) << 5 | row->map);
            *p++ = (uint8_t)(w << 7 | (~vvvv & 15) << 3 | row->pp);
        }
    } else {
        static const uint8_t prefix[4] = {0, 0x66, 0xF3, 0xF2};
        if (row->kind >= SH) // destructive: dst == s1, so rm already names it
            vvvv = 0;
        if (row->pp) *p++ = prefix[row->pp];
        unsigned w = row->flags & V && row->isa != GF ? 8 : 0;
        if (w | rbit | xbit | bbit) *p++ = (uint8_t)(0x40 | w | rbit << 2 | xbit << 1 | bbit);
        *p++ = 0x0F;
        if (row->map > 1) *p++ = row->map == 2 ? 0x38 : 0x3A;
    }
    *p++ = row->opcode;
    p = encode_rm(p, reg, rm, disp8_log2, tail);
    if (tail) *p++ = (uint8_t)imm;
    return p;
}

uint8_t *vec_encode(uint8_t *p, VecRm rm, VecLevel level, Vop op, unsigned dst, unsigned s1,
                    unsigned imm) {
    return encode(p, rm, level, op, dst, s1, imm, 0);
}

uint8_t *vec_encode_masked(uint8_t *p, VecMask mask, Vop op, unsigned dst, unsigned s1, unsigned rm,
                           unsigned imm) {
    unsigned zeroing = op == V_vcmpps_k || op == V_vcmpph_k ? 0 : 0x80; // a comparison always is
    return encode(p, vrm_reg(rm), VEC_AVX512, op, dst, s1, imm, zeroing | mask);
}

uint8_t *vec_encode_silent(uint8_t *p, Vop op, unsigned dst, unsigned rm) {
    enum { SAE = 0x10 }; // EVEX.b, beside the mask
    return encode(p, vrm_reg(rm), VEC_AVX512, op, dst, 0, 0, SAE);
}
