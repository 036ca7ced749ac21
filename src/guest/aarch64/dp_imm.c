// dp_imm.c - data processing, immediate (C4.1.92): rows of dpimm.dec.
#include "guest/aarch64/lift.h"

// ADR <Xd>, <label>; ADRP <Xd>, <label>
bool lift_adr(Lift *l, const Args_adr *a) {
    int64_t offset = (int64_t)a->immhi * 4 + a->immlo;
    uint64_t v =
        a->page ? (l->pc & ~0xfffull) + ((uint64_t)offset << 12) : l->pc + (uint64_t)offset;
    lift_put_reg(l, a->rd, lift_i64(l, v));
    return true;
}

// ---- add and subtract; the four share their fields ----

static uint64_t imm12(const Args_add_imm *a) {
    return (uint64_t)a->imm12 << (a->sh ? 12 : 0);
}

// ADD <Xd|SP>, <Xn|SP>, #<imm>{, LSL #12}
bool lift_add_imm(Lift *l, const Args_add_imm *a) {
    IrRef n = lift_reg_sp(l, lift_type(a->sf), a->rn);
    lift_put_reg_sp(l, a->rd, ir_add_const(l->r, n, imm12(a)));
    return true;
}

// SUB <Xd|SP>, <Xn|SP>, #<imm>{, LSL #12}
bool lift_sub_imm(Lift *l, const Args_sub_imm *a) {
    IrRef n = lift_reg_sp(l, lift_type(a->sf), a->rn);
    lift_put_reg_sp(l, a->rd, ir_add_const(l->r, n, 0 - imm12(a)));
    return true;
}

// ADDS <Xd>, <Xn|SP>, #<imm>{, LSL #12}; CMN
bool lift_adds_imm(Lift *l, const Args_adds_imm *a) {
    IrType t = lift_type(a->sf);
    IrRef n = lift_reg_sp(l, t, a->rn), m = ir_const(l->r, t, imm12(a));
    IrRef flags = ir_op2(l->r, IR_fl_add, IR_FLAGS, n, m);
    if (a->rd != 31) lift_put_reg(l, a->rd, ir_add_const(l->r, n, imm12(a)));
    lift_put_flags(l, flags);
    return true;
}

// SUBS <Xd>, <Xn|SP>, #<imm>{, LSL #12}; CMP
bool lift_subs_imm(Lift *l, const Args_subs_imm *a) {
    IrType t = lift_type(a->sf);
    IrRef n = lift_reg_sp(l, t, a->rn), m = ir_const(l->r, t, imm12(a));
    IrRef flags = ir_op2(l->r, IR_fl_sub, IR_FLAGS, n, m);
    if (a->rd != 31) lift_put_reg(l, a->rd, ir_add_const(l->r, n, 0 - imm12(a)));
    lift_put_flags(l, flags);
    return true;
}

// ---- logical ----

static bool logical(Lift *l, const Args_and_imm *a, IrOp op, IrRef *out) {
    uint64_t mask;
    if (!a64_bitmask(a->sf, a->n, a->imms, a->immr, &mask, NULL)) return false;
    IrType t = lift_type(a->sf);
    *out = ir_op2(l->r, op, t, lift_reg(l, t, a->rn), ir_const(l->r, t, mask));
    return true;
}

// AND <Xd|SP>, <Xn>, #<imm>
bool lift_and_imm(Lift *l, const Args_and_imm *a) {
    IrRef v;
    if (!logical(l, a, IR_and, &v)) return false;
    lift_put_reg_sp(l, a->rd, v);
    return true;
}

// ORR <Xd|SP>, <Xn>, #<imm>; MOV (bitmask immediate)
bool lift_orr_imm(Lift *l, const Args_orr_imm *a) {
    IrRef v;
    if (!logical(l, a, IR_or, &v)) return false;
    lift_put_reg_sp(l, a->rd, v);
    return true;
}

// EOR <Xd|SP>, <Xn>, #<imm>
bool lift_eor_imm(Lift *l, const Args_eor_imm *a) {
    IrRef v;
    if (!logical(l, a, IR_xor, &v)) return false;
    lift_put_reg_sp(l, a->rd, v);
    return true;
}

// ANDS <Xd>, <Xn>, #<imm>; TST
bool lift_ands_imm(Lift *l, const Args_ands_imm *a) {
    IrRef v;
    if (!logical(l, a, IR_and, &v)) return false;
    IrRef flags = ir_op1(l->r, IR_fl_logic, IR_FLAGS, v);
    lift_put_reg(l, a->rd, v);
    lift_put_flags(l, flags);
    return true;
}

// ---- moves ----

// MOVZ <Xd>, #<imm>{, LSL #<shift>}
bool lift_movz(Lift *l, const Args_movz *a) {
    lift_put_reg(l, a->rd, lift_i64(l, (uint64_t)a->imm16 << (a->hw * 16)));
    return true;
}

// MOVN <Xd>, #<imm>{, LSL #<shift>}
bool lift_movn(Lift *l, const Args_movn *a) {
    uint64_t v = ~((uint64_t)a->imm16 << (a->hw * 16));
    lift_put_reg(l, a->rd, lift_i64(l, a->sf ? v : (uint32_t)v));
    return true;
}

// MOVK <Xd>, #<imm>{, LSL #<shift>}
bool lift_movk(Lift *l, const Args_movk *a) {
    IrType t = lift_type(a->sf);
    unsigned at = a->hw * 16u;
    IrRef kept = ir_and(l->r, lift_reg(l, t, a->rd), ir_const(l->r, t, ~(0xffffull << at)));
    lift_put_reg(l, a->rd, ir_or(l->r, kept, ir_const(l->r, t, (uint64_t)a->imm16 << at)));
    return true;
}

// ---- bitfields: bits immr..imms move down to 0, or bits 0..imms move up ----

// UBFM <Xd>, <Xn>, #<immr>, #<imms>; LSL, LSR, UBFX, UBFIZ, UXTB, UXTH
bool lift_ubfm(Lift *l, const Args_ubfm *a) {
    IrType t = lift_type(a->sf);
    unsigned bits = a->sf ? 64 : 32;
    IrRef n = lift_reg(l, t, a->rn), v;
    if (a->imms >= a->immr) {
        unsigned width = a->imms - a->immr + 1u;
        v = lift_shift_imm(l, n, SHIFT_LSR, a->immr);
        if (a->imms != bits - 1 && (width == 8 || width == 16 || width == 32))
            v = ir_op1(l->r, IR_zext, t, ir_op1(l->r, IR_trunc, ir_int_of_bits(width), v));
        else if (a->imms != bits - 1)
            v = ir_and(l->r, v, ir_const(l->r, t, bits_mask(width)));
    } else {
        unsigned width = a->imms + 1u, at = bits - a->immr;
        v = width + at == bits ? n : ir_and(l->r, n, ir_const(l->r, t, bits_mask(width)));
        v = lift_shift_imm(l, v, SHIFT_LSL, at);
    }
    lift_put_reg(l, a->rd, v);
    return true;
}

// SBFM <Xd>, <Xn>, #<immr>, #<imms>; ASR, SBFX, SBFIZ, SXTB, SXTH, SXTW
bool lift_sbfm(Lift *l, const Args_sbfm *a) {
    IrType t = lift_type(a->sf);
    unsigned bits = a->sf ? 64 : 32, top = bits - 1;
    IrRef v;
    if (a->immr == 0 && (a->imms == 7 || a->imms == 15 || (a->imms == 31 && a->sf))) {
        v = ir_op1(l->r, IR_sext, t, lift_reg(l, ir_int_of_bits(a->imms + 1u), a->rn));
    } else {
        unsigned up = top - a->imms;
        unsigned down = a->imms >= a->immr ? up + a->immr : (unsigned)(a->immr - a->imms - 1);
        v = lift_shift_imm(l, lift_reg(l, t, a->rn), SHIFT_LSL, up);
        v = lift_shift_imm(l, v, SHIFT_ASR, down);
    }
    lift_put_reg(l, a->rd, v);
    return true;
}

// BFM <Xd>, <Xn>, #<immr>, #<imms>; BFI, BFXIL, BFC
bool lift_bfm(Lift *l, const Args_bfm *a) {
    IrType t = lift_type(a->sf);
    unsigned bits = a->sf ? 64 : 32, width, at = 0;
    IrRef v = lift_reg(l, t, a->rn);
    if (a->imms >= a->immr) {
        width = a->imms - a->immr + 1u;
        v = lift_shift_imm(l, v, SHIFT_LSR, a->immr);
    } else {
        width = a->imms + 1u;
        at = bits - a->immr;
    }
    uint64_t mask = bits_mask(width);
    v = lift_shift_imm(l, ir_and(l->r, v, ir_const(l->r, t, mask)), SHIFT_LSL, at);
    IrRef kept = ir_and(l->r, lift_reg(l, t, a->rd), ir_const(l->r, t, ~(mask << at)));
    lift_put_reg(l, a->rd, ir_or(l->r, kept, v));
    return true;
}

// EXTR <Xd>, <Xn>, <Xm>, #<lsb>; ROR (immediate)
bool lift_extr(Lift *l, const Args_extr *a) {
    IrType t = lift_type(a->sf);
    unsigned bits = a->sf ? 64 : 32;
    IrRef n = lift_reg(l, t, a->rn), m = lift_reg(l, t, a->rm), v = m;
    if (a->rn == a->rm)
        v = lift_shift_imm(l, m, SHIFT_ROR, a->imms);
    else if (a->imms)
        v = ir_or(l->r, lift_shift_imm(l, m, SHIFT_LSR, a->imms),
                  lift_shift_imm(l, n, SHIFT_LSL, bits - a->imms));
    lift_put_reg(l, a->rd, v);
    return true;
}
