// simd.h - what the FP and AdvSIMD lifters share: shapes of registers, reading and writing them,
// and the FPSR.QC bit.
//
// The IR's vectors are always 128 bits. A shape says how an instruction sees a register: its lanes,
// and how many of its low bits count (128, 64, or one element for scalars). Integer lifters compute
// on whole registers and v_put() clears what does not count; floating-point lifters read through
// fv_get(), which clears it first, so that leftovers in the upper lanes raise no exception flags.
#ifndef DGM_GUEST_AARCH64_SIMD_H
#define DGM_GUEST_AARCH64_SIMD_H

#include "guest/aarch64/helpers_simd.h"
#include "guest/aarch64/lift.h"
#include "ir/ir.h"

typedef struct Shape {
    IrType t;     // lanes
    uint8_t bits; // 128, 64; for scalars the element's
} Shape;

// Element types by the manual's size field.
static inline IrElem int_elem(unsigned size) {
    return (IrElem)(IR_I8 + size);
}
static inline IrElem fp_elem(unsigned size) {
    return (IrElem)(IR_F16 + size - 1);
} // 1 half..3 double

static inline Shape shape_vec(IrElem e, unsigned q) {
    return (Shape){ir_vec_of(e), q ? 128 : 64};
}
static inline Shape shape_scalar(IrElem e) {
    return (Shape){ir_vec_of(e), (uint8_t)ir_elem_bits(e)};
}
// Lane width in bits and its log2 in bytes; the number of lanes that count.
static inline unsigned shape_esize(Shape s) {
    return ir_elem_bits(s.t);
}
static inline unsigned shape_size(Shape s) {
    return (unsigned)__builtin_ctz(shape_esize(s) / 8);
}
static inline unsigned shape_lanes(Shape s) {
    return s.bits / shape_esize(s);
}
static inline bool shape_is_scalar(Shape s) {
    return shape_lanes(s) == 1;
}
// The same bits seen as other lanes.
static inline Shape shape_as(Shape s, IrElem e) {
    return (Shape){ir_vec_of(e), s.bits};
}
// Lanes of twice or half the width; the shape of what is beside a wide register.
static inline IrType type_wider(IrType t) {
    return ir_vec_of((IrElem)(ir_elem(t) + 1));
}
static inline IrType type_narrower(IrType t) {
    return ir_vec_of((IrElem)(ir_elem(t) - 1));
}

static inline IrRef v_get(Lift *l, unsigned n) {
    return lift_v(l, n);
}

// v with all that does not count in the shape cleared.
static inline IrRef v_keep(Lift *l, IrRef v, Shape s) {
    if (s.bits == 128) return v;
    if (s.bits == 64) return ir_op1(l->r, IR_vlow, IR_V128, v);
    IrRef lane = ir_emit(l->r, IR_vget, ir_elem(s.t), v, 0, 0, 0, 0, 0);
    return ir_op1(l->r, IR_vzext, IR_V128, lane);
}
static inline void v_put(Lift *l, unsigned n, IrRef v, Shape s) {
    lift_put_v(l, n, v_keep(l, v, s));
}
static inline IrRef fv_get(Lift *l, unsigned n, Shape s) {
    return v_keep(l, v_get(l, n), s);
}

// Scalars: the low bits of a register as a type; writing clears the rest.
static inline IrRef s_get(Lift *l, unsigned n, IrType t) {
    return lift_f(l, t, n);
}
static inline void s_put(Lift *l, unsigned n, IrRef v) {
    lift_put_f(l, n, v);
}

// Shorthands with the shape's lanes.
static inline IrRef v2(Lift *l, IrOp op, Shape s, IrRef a, IrRef b) {
    return ir_op2(l->r, op, s.t, a, b);
}
static inline IrRef v1(Lift *l, IrOp op, Shape s, IrRef a) {
    return ir_op1(l->r, op, s.t, a);
}
static inline IrRef v_imm(Lift *l, IrOp op, IrType t, IrRef a, int64_t imm) { // shli, vrev, ...
    return ir_emit(l->r, op, t, a, 0, 0, 0, 0, imm);
}
static inline IrRef v_cmp(Lift *l, Shape s, IrCc cc, IrRef a, IrRef b) {
    return ir_emit(l->r, IR_vcmp, s.t, a, b, 0, cc, 0, 0);
}
static inline IrRef v_bsl(Lift *l, IrRef mask, IrRef a, IrRef b) {
    return ir_op3(l->r, IR_bsl, IR_V128, mask, a, b);
}
static inline IrRef v_zero(Lift *l, IrType t) {
    return ir_vconst(l->r, t, 0, 0);
}
static inline IrRef v_lane(Lift *l, IrType scalar, IrRef v, unsigned i) {
    return ir_emit(l->r, IR_vget, scalar, v, 0, 0, 0, 0, i);
}
// Lane i of v, of 1 << log2_bytes bytes, in every lane: the first is broadcast, others are
// shuffled.
static inline IrRef v_everywhere(Lift *l, unsigned log2_bytes, IrRef v, unsigned i) {
    if (i == 0 && log2_bytes) {
        IrElem e = fp_elem(log2_bytes);
        return ir_op1(l->r, IR_splat, ir_vec_of(e), v_lane(l, (IrType)e, v, 0));
    }
    uint64_t ones = UINT64_C(0x0101010101010101), index = 0;
    for (unsigned k = 0; k < 8; k++) index |= (uint64_t)(k & ((1u << log2_bytes) - 1)) << 8 * k;
    index += ones * (i << log2_bytes);
    return ir_op2(l->r, IR_tbl, IR_I8X16, v, ir_vconst(l->r, IR_I8X16, index, index));
}
static inline IrRef v_set_lane(Lift *l, IrType t, IrRef v, unsigned i, IrRef scalar) {
    return ir_emit(l->r, IR_vset, t, v, scalar, 0, 0, 0, i);
}
static inline IrRef v_pair(Lift *l, IrRef lo, IrRef hi) {
    return ir_op2(l->r, IR_vpair, IR_V128, lo, hi);
}
// The low `bits` of v in the low half again and again, so that lanewise work on the whole register
// sees no lanes but these.
static inline IrRef v_doubled(Lift *l, IrRef v, Shape s) {
    return s.bits == 128 ? v : v_pair(l, v, v);
}

// Narrowed lanes in the low half of v: to the low half of the register, or (q, the "2" forms) to
// its high half beside what the low half has.
static inline void v_put_narrow(Lift *l, unsigned n, IrRef v, unsigned q) {
    lift_put_v(l, n, q ? v_pair(l, v_get(l, n), v) : ir_op1(l->r, IR_vlow, IR_V128, v));
}

// value in every lane.
IrRef v_splat_const(Lift *l, IrType t, uint64_t value);
// Sets FPSR.QC when a lane that counts is not zero.
void qc_or(Lift *l, IrRef lanes, Shape s);
// A saturating result and the same without saturation: sets QC where they differ.
IrRef v_saturated(Lift *l, Shape s, IrRef value, IrRef wrapped);
// The lanes of n narrowed into the low half with saturation, by IR_vsqxtn, IR_vsqxtun or IR_vuqxtn;
// sets QC where the result does not widen to n again. s is the narrow shape, 64 bits or scalar.
IrRef v_narrow_saturated(Lift *l, IrOp op, Shape s, IrRef n);
// Vector helpers; absent operands are 0.
IrRef v_call(Lift *l, const IrHelper *h, IrRef a, IrRef b, IrRef c, uint64_t imm);
// The same for one that tells saturated lanes when asked with SIMD_QC.
IrRef v_call_qc(Lift *l, const IrHelper *h, Shape s, IrRef a, IrRef b, IrRef c, uint64_t imm);
// Rounded right shift by 1 ..: (v + half) >> shift without overflow.
IrRef v_shift_round(Lift *l, IrOp shift_op, IrType t, IrRef v, unsigned shift);

// VFPExpandImm: the constant of an 8-bit immediate, size 1 half to 3 double (fp_scalar.c).
uint64_t fp_expand_imm(unsigned size, unsigned imm8);

// Integer and FP operations that vector, scalar and by-element forms share (simd_same.c).
typedef IrRef SimdFn(Lift *l, Shape s, IrRef d, IrRef n, IrRef m, unsigned op);
SimdFn simd_mla, simd_mul, simd_sqdmulh, simd_rdm, simd_fma, simd_fmul, simd_fmulx;
// SQDMULL and kin: products of n and m (vectors of the narrow lanes, low half; high when high) in
// wide lanes; op is IR_vsmull or IR_vumull.
IrRef simd_sqdmull(Lift *l, Shape wide, IrRef n, IrRef m, unsigned high);

#endif
