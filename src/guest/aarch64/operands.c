// operands.c - operands and addresses as the manual's shared pseudo-code forms them.
#include "guest/aarch64/lift.h"

IrRef lift_shift_imm(Lift *l, IrRef v, A64Shift kind, unsigned amount) {
    if (!amount) return v;
    static const IrOp op[] = {IR_shl, IR_shr, IR_sar, IR_ror};
    IrType t = ir_type(l->r, v);
    return ir_op2(l->r, op[kind], t, v, ir_const(l->r, t, amount));
}

IrRef lift_extend(Lift *l, IrType t, unsigned n, unsigned option, unsigned shift) {
    static const IrType from[] = {IR_I8, IR_I16, IR_I32, IR_I64};
    IrType narrow = from[option & 3];
    IrRef v;
    if (ir_bytes(narrow) >= ir_bytes(t))
        v = lift_reg(l, t, n);
    else
        v = ir_op1(l->r, option & 4 ? IR_sext : IR_zext, t, lift_reg(l, narrow, n));
    return lift_shift_imm(l, v, SHIFT_LSL, shift);
}

// J1.3.3 DecodeBitMasks.
bool a64_bitmask(unsigned sf, unsigned n, unsigned imms, unsigned immr, uint64_t *wmask,
                 uint64_t *tmask) {
    unsigned field = n << 6 | (~imms & 0x3f);
    if (field < 2) return false; // no element size
    unsigned len = 31 - (unsigned)__builtin_clz(field), size = 1u << len;
    if (size > (sf ? 64 : 32)) return false;
    unsigned s = imms & (size - 1), rot = immr & (size - 1);
    if (tmask == NULL && s == size - 1) return false; // all ones: reserved for logical immediates
    uint64_t element = bits_ror(bits_mask(s + 1), rot, size);
    uint64_t t = bits_mask(((s - rot) & (size - 1)) + 1);
    for (unsigned w = size; w < 64; w *= 2) {
        element |= element << w;
        t |= t << w;
    }
    *wmask = sf ? element : (uint32_t)element;
    if (tmask) *tmask = sf ? t : (uint32_t)t;
    return true;
}

A64Addr lift_addr_reg(Lift *l, unsigned n, unsigned m, unsigned option, unsigned shift) {
    IrRef offset = lift_extend(l, IR_I64, m, option, shift);
    return (A64Addr){.base = ir_add(l->r, lift_xsp(l, n), offset), .n = n};
}

IrRef lift_call(Lift *l, IrType t, const IrHelper *h, unsigned n_args, const IrRef *args) {
    return ir_call(l->r, t, h, n_args, args, 0);
}
