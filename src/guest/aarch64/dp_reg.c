// dp_reg.c - data processing, register (C4.1.95): rows of dpreg.dec.
#include "guest/aarch64/crc.h"
#include "guest/aarch64/lift.h"

// ---- two sources ----

// UDIV <Xd>, <Xn>, <Xm>: the IR's edges are Arm's (x / 0 = 0)
bool lift_udiv(Lift *l, const Args_udiv *a) {
    IrType t = lift_type(a->sf);
    lift_put_reg(l, a->rd, ir_udiv(l->r, lift_reg(l, t, a->rn), lift_reg(l, t, a->rm)));
    return true;
}

// SDIV <Xd>, <Xn>, <Xm>
bool lift_sdiv(Lift *l, const Args_sdiv *a) {
    IrType t = lift_type(a->sf);
    lift_put_reg(l, a->rd, ir_sdiv(l->r, lift_reg(l, t, a->rn), lift_reg(l, t, a->rm)));
    return true;
}

// LSLV, LSRV, ASRV, RORV <Xd>, <Xn>, <Xm>: the amount is taken modulo the width, as in the IR
bool lift_shift_reg(Lift *l, const Args_shift_reg *a) {
    static const IrOp op[] = {IR_shl, IR_shr, IR_sar, IR_ror};
    IrType t = lift_type(a->sf);
    lift_put_reg(l, a->rd,
                 ir_op2(l->r, op[a->kind], t, lift_reg(l, t, a->rn), lift_reg(l, t, a->rm)));
    return true;
}

// CRC32B|H|W|X, CRC32CB|H|W|X <Wd>, <Wn>, <Wm|Xm>
bool lift_crc32(Lift *l, const Args_crc32 *a) {
    IrRef args[] = {lift_w(l, a->rn), lift_x(l, a->rm), lift_i32(l, 1u << a->sz)};
    lift_put_reg(l, a->rd,
                 lift_call(l, IR_I32, a->poly ? &a64_helper_crc32c : &a64_helper_crc32, 3, args));
    return true;
}

// ---- one source ----

// RBIT <Xd>, <Xn>
bool lift_rbit(Lift *l, const Args_rbit *a) {
    lift_put_reg(l, a->rd, ir_rbit(l->r, lift_reg(l, lift_type(a->sf), a->rn)));
    return true;
}

// REV16 <Xd>, <Xn>
bool lift_rev16(Lift *l, const Args_rev16 *a) {
    IrType t = lift_type(a->sf);
    IrRef n = lift_reg(l, t, a->rn), odd = ir_const(l->r, t, 0x00ff00ff00ff00ffull);
    IrRef up = lift_shift_imm(l, ir_and(l->r, n, odd), SHIFT_LSL, 8);
    IrRef down = ir_and(l->r, lift_shift_imm(l, n, SHIFT_LSR, 8), odd);
    lift_put_reg(l, a->rd, ir_or(l->r, up, down));
    return true;
}

// REV32 <Xd>, <Xn>
bool lift_rev32(Lift *l, const Args_rev32 *a) {
    lift_put_reg(l, a->rd, lift_shift_imm(l, ir_bswap(l->r, lift_x(l, a->rn)), SHIFT_ROR, 32));
    return true;
}

// REV <Wd>, <Wn>
bool lift_rev_w(Lift *l, const Args_rev_w *a) {
    lift_put_reg(l, a->rd, ir_bswap(l->r, lift_w(l, a->rn)));
    return true;
}

// REV <Xd>, <Xn>
bool lift_rev_x(Lift *l, const Args_rev_x *a) {
    lift_put_reg(l, a->rd, ir_bswap(l->r, lift_x(l, a->rn)));
    return true;
}

// CLZ <Xd>, <Xn>
bool lift_clz(Lift *l, const Args_clz *a) {
    lift_put_reg(l, a->rd, ir_clz(l->r, lift_reg(l, lift_type(a->sf), a->rn)));
    return true;
}

// CTZ, CNT, ABS <Xd>, <Xn> (FEAT_CSSC)
bool lift_ctz(Lift *l, const Args_ctz *a) {
    IrType t = lift_type(a->sf);
    lift_put_reg(l, a->rd, ir_ctz(l->r, lift_reg(l, t, a->rn)));
    return true;
}
bool lift_cnt(Lift *l, const Args_cnt *a) {
    IrType t = lift_type(a->sf);
    lift_put_reg(l, a->rd, ir_op1(l->r, IR_popcnt, t, lift_reg(l, t, a->rn)));
    return true;
}
bool lift_abs(Lift *l, const Args_abs *a) {
    IrType t = lift_type(a->sf);
    IrRef n = lift_reg(l, t, a->rn), negative = ir_icmp(l->r, IR_SLT, n, ir_const(l->r, t, 0));
    lift_put_reg(l, a->rd, ir_select(l->r, negative, ir_neg(l->r, n), n));
    return true;
}

// SMAX, UMAX, SMIN, UMIN <Xd>, <Xn>, <Xm>|#imm (FEAT_CSSC)
static bool minmax(Lift *l, unsigned kind, IrType t, unsigned rd, unsigned rn, IrRef m) {
    static const IrCc takes_n[] = {IR_SGT, IR_UGT, IR_SLT, IR_ULT};
    IrRef n = lift_reg(l, t, rn);
    lift_put_reg(l, rd, ir_select(l->r, ir_icmp(l->r, takes_n[kind], n, m), n, m));
    return true;
}
bool lift_minmax_reg(Lift *l, const Args_minmax_reg *a) {
    IrType t = lift_type(a->sf);
    return minmax(l, a->kind, t, a->rd, a->rn, lift_reg(l, t, a->rm));
}
bool lift_minmax_imm(Lift *l, const Args_minmax_imm *a) {
    IrType t = lift_type(a->sf); // signed kinds have their immediate's sign in imm8 already
    return minmax(l, a->kind, t, a->rd, a->rn, ir_const(l->r, t, (uint64_t)(int64_t)a->imm8));
}

// CLS <Xd>, <Xn>: where a bit differs from the one above, the run of sign bits has ended
bool lift_cls(Lift *l, const Args_cls *a) {
    IrType t = lift_type(a->sf);
    IrRef n = lift_reg(l, t, a->rn);
    IrRef edges = ir_xor(l->r, n, lift_shift_imm(l, n, SHIFT_ASR, 1));
    lift_put_reg(l, a->rd, ir_sub(l->r, ir_clz(l->r, edges), ir_const(l->r, t, 1)));
    return true;
}

// ---- logical, shifted register ----

// AND, BIC, ORR, ORN, EOR, EON, ANDS, BICS <Xd>, <Xn>, <Xm>{, <shift> #<amount>}
bool lift_logic_shift(Lift *l, const Args_logic_shift *a) {
    static const IrOp op[] = {IR_and, IR_or, IR_xor, IR_and};
    IrType t = lift_type(a->sf);
    IrRef m = lift_shift_imm(l, lift_reg(l, t, a->rm), (A64Shift)a->sh, a->imm6), v;
    if (a->rn == 31 && op[a->op] == IR_or && !a->inv) { // MOV, what it is most often
        lift_put_reg(l, a->rd, m);
        return true;
    }
    IrRef n = lift_reg(l, t, a->rn);
    if (a->inv && op[a->op] == IR_and)
        v = ir_andn(l->r, n, m);
    else
        v = ir_op2(l->r, op[a->op], t, n, a->inv ? ir_not(l->r, m) : m);
    IrRef flags = a->op == 3 ? ir_op1(l->r, IR_fl_logic, IR_FLAGS, v) : 0;
    lift_put_reg(l, a->rd, v);
    if (flags) lift_put_flags(l, flags);
    return true;
}

// ---- add and subtract ----

typedef enum AddKind { ADD_PLAIN, ADD_SUB } AddKind;
typedef enum FlagKind { FLAGS_KEEP, FLAGS_SET } FlagKind;

// n + m or n - m for register rd, 0 when it has no use; *flags is 0 when they stay.
static IrRef add_sub(Lift *l, AddKind kind, FlagKind set, unsigned rd, IrRef n, IrRef m,
                     IrRef *flags) {
    IrOp fl = kind == ADD_SUB ? IR_fl_sub : IR_fl_add;
    *flags = set == FLAGS_SET ? ir_op2(l->r, fl, IR_FLAGS, n, m) : 0;
    if (set == FLAGS_SET && rd == 31) return 0; // CMP, CMN
    return kind == ADD_SUB ? ir_sub(l->r, n, m) : ir_add(l->r, n, m);
}

// ADD, ADDS, SUB, SUBS <Xd>, <Xn>, <Xm>{, <shift> #<amount>}; CMP, CMN, NEG
bool lift_addsub_shift(Lift *l, const Args_addsub_shift *a) {
    IrType t = lift_type(a->sf);
    IrRef n = lift_reg(l, t, a->rn), flags;
    IrRef m = lift_shift_imm(l, lift_reg(l, t, a->rm), (A64Shift)a->sh, a->imm6);
    IrRef v = add_sub(l, (AddKind)a->sub, (FlagKind)a->set, a->rd, n, m, &flags);
    lift_put_reg(l, a->rd, v);
    if (flags) lift_put_flags(l, flags);
    return true;
}

// ADD, SUB <Xd|SP>, <Xn|SP>, <Xm>{, <extend> {#<amount>}}; ADDS, SUBS with <Xd>
bool lift_addsub_ext(Lift *l, const Args_addsub_ext *a) {
    IrType t = lift_type(a->sf);
    IrRef n = lift_reg_sp(l, t, a->rn), flags;
    IrRef m = lift_extend(l, t, a->rm, a->option, a->imm3);
    IrRef v = add_sub(l, (AddKind)a->sub, (FlagKind)a->set, a->rd, n, m, &flags);
    if (flags)
        lift_put_reg(l, a->rd, v);
    else
        lift_put_reg_sp(l, a->rd, v);
    if (flags) lift_put_flags(l, flags);
    return true;
}

// ADC, ADCS, SBC, SBCS <Xd>, <Xn>, <Xm>
bool lift_adc(Lift *l, const Args_adc *a) {
    IrType t = lift_type(a->sf);
    IrRef n = lift_reg(l, t, a->rn), m = lift_reg(l, t, a->rm);
    if (a->sub) m = ir_not(l->r, m);
    IrRef carry = lift_cond(l, IR_C_CS);
    IrRef v = ir_add(l->r, ir_add(l->r, n, m), ir_op1(l->r, IR_zext, t, carry));
    IrRef flags = a->set ? ir_op3(l->r, IR_fl_adc, IR_FLAGS, n, m, carry) : 0;
    lift_put_reg(l, a->rd, v);
    if (flags) lift_put_flags(l, flags);
    return true;
}

// ---- flags as data ----

static IrRef flags_as_i32(Lift *l) {
    return ir_op1(l->r, IR_fl_unpack, IR_I32, lift_flags(l));
}

// RMIF <Xn>, #<shift>, #<mask>: bits 3..0 of the rotated register replace the masked flags
bool lift_rmif(Lift *l, const Args_rmif *a) {
    uint32_t mask = (uint32_t)a->mask << 28;
    IrRef v =
        ir_op1(l->r, IR_trunc, IR_I32, lift_shift_imm(l, lift_x(l, a->rn), SHIFT_ROR, a->imm6));
    v = ir_and(l->r, lift_shift_imm(l, v, SHIFT_LSL, 28), lift_i32(l, mask));
    v = ir_or(l->r, ir_and(l->r, flags_as_i32(l), lift_i32(l, ~mask)), v);
    lift_put_flags(l, ir_op1(l->r, IR_fl_pack, IR_FLAGS, v));
    return true;
}

// SETF8, SETF16 <Wn>: N and Z of the low bits, V where the next bit differs; C stays
bool lift_setf(Lift *l, const Args_setf *a) {
    IrRef n = lift_w(l, a->rn);
    IrRef top = lift_shift_imm(l, n, SHIFT_LSL, 32u - a->bits);
    IrRef nz = ir_op1(l->r, IR_fl_unpack, IR_I32, ir_op1(l->r, IR_fl_logic, IR_FLAGS, top));
    IrRef differ = ir_xor(l->r, lift_shift_imm(l, n, SHIFT_LSR, a->bits),
                          lift_shift_imm(l, n, SHIFT_LSR, a->bits - 1u));
    IrRef v = lift_shift_imm(l, ir_and(l->r, differ, lift_i32(l, 1)), SHIFT_LSL, 28);
    IrRef c = ir_and(l->r, flags_as_i32(l), lift_i32(l, 1u << 29));
    lift_put_flags(l, ir_op1(l->r, IR_fl_pack, IR_FLAGS, ir_or(l->r, ir_or(l->r, nz, v), c)));
    return true;
}

// CFINV
bool lift_cfinv(Lift *l, const Args_cfinv *a) {
    IrRef v = ir_xor(l->r, flags_as_i32(l), lift_i32(l, 1u << 29));
    lift_put_flags(l, ir_op1(l->r, IR_fl_pack, IR_FLAGS, v));
    return true;
}

static IrRef flag_bit(Lift *l, IrRef cond, unsigned bit) {
    return lift_shift_imm(l, ir_op1(l->r, IR_zext, IR_I32, cond), SHIFT_LSL, bit);
}

// XAFLAG: flags of the alternative format to Arm's
bool lift_xaflag(Lift *l, const Args_xaflag *a) {
    IrRef c = lift_cond(l, IR_C_CS), z = lift_cond(l, IR_C_EQ);
    IrRef not_c = ir_not(l->r, c), not_z = ir_not(l->r, z);
    IrRef v = flag_bit(l, ir_and(l->r, not_c, not_z), 31);
    v = ir_or(l->r, v, flag_bit(l, ir_and(l->r, z, c), 30));
    v = ir_or(l->r, v, flag_bit(l, ir_or(l->r, c, z), 29));
    v = ir_or(l->r, v, flag_bit(l, ir_and(l->r, not_c, z), 28));
    lift_put_flags(l, ir_op1(l->r, IR_fl_pack, IR_FLAGS, v));
    return true;
}

// AXFLAG: Arm's flags to the alternative format
bool lift_axflag(Lift *l, const Args_axflag *a) {
    IrRef c = lift_cond(l, IR_C_CS), z = lift_cond(l, IR_C_EQ), o = lift_cond(l, IR_C_VS);
    IrRef v = flag_bit(l, ir_or(l->r, z, o), 30);
    v = ir_or(l->r, v, flag_bit(l, ir_and(l->r, c, ir_not(l->r, o)), 29));
    lift_put_flags(l, ir_op1(l->r, IR_fl_pack, IR_FLAGS, v));
    return true;
}

// ---- conditional ----

static void cond_compare(Lift *l, unsigned sub, unsigned cond, unsigned nzcv, IrRef n, IrRef m) {
    IrRef yes = ir_op2(l->r, sub ? IR_fl_sub : IR_fl_add, IR_FLAGS, n, m);
    if (cond >= IR_C_AL) {
        lift_put_flags(l, yes);
        return;
    }
    lift_put_flags(l, ir_select(l->r, lift_cond(l, cond), yes, lift_nzcv(l, nzcv)));
}

// CCMN, CCMP <Xn>, <Xm>, #<nzcv>, <cond>
bool lift_ccmp_reg(Lift *l, const Args_ccmp_reg *a) {
    IrType t = lift_type(a->sf);
    cond_compare(l, a->sub, a->cond, a->nzcv, lift_reg(l, t, a->rn), lift_reg(l, t, a->rm));
    return true;
}

// CCMN, CCMP <Xn>, #<imm>, #<nzcv>, <cond>
bool lift_ccmp_imm(Lift *l, const Args_ccmp_imm *a) {
    IrType t = lift_type(a->sf);
    cond_compare(l, a->sub, a->cond, a->nzcv, lift_reg(l, t, a->rn), ir_const(l->r, t, a->imm5));
    return true;
}

// CSEL, CSINC, CSINV, CSNEG <Xd>, <Xn>, <Xm>, <cond>; CSET, CSETM, CINC, CINV, CNEG
bool lift_csel(Lift *l, const Args_csel *a) {
    IrType t = lift_type(a->sf);
    IrRef cond = lift_cond(l, a->cond);
    if (a->rn == 31 && a->rm == 31 && a->inv != a->inc) { // CSET, CSETM
        IrRef set = ir_not(l->r, cond);
        lift_put_reg(l, a->rd, ir_op1(l->r, a->inc ? IR_zext : IR_sext, t, set));
        return true;
    }
    IrRef n = lift_reg(l, t, a->rn), m = lift_reg(l, t, a->rm);
    if (a->inv)
        m = a->inc ? ir_neg(l->r, m) : ir_not(l->r, m);
    else if (a->inc)
        m = ir_add(l->r, m, ir_const(l->r, t, 1));
    lift_put_reg(l, a->rd, ir_select(l->r, cond, n, m));
    return true;
}

// ---- three sources ----

// MADD, MSUB <Xd>, <Xn>, <Xm>, <Xa>; MUL, MNEG
bool lift_madd(Lift *l, const Args_madd *a) {
    IrType t = lift_type(a->sf);
    IrRef product = ir_mul(l->r, lift_reg(l, t, a->rn), lift_reg(l, t, a->rm));
    IrRef acc = lift_reg(l, t, a->ra);
    lift_put_reg(l, a->rd, a->sub ? ir_sub(l->r, acc, product) : ir_add(l->r, acc, product));
    return true;
}

// SMADDL, SMSUBL, UMADDL, UMSUBL <Xd>, <Wn>, <Wm>, <Xa>; SMULL, UMULL...
bool lift_maddl(Lift *l, const Args_maddl *a) {
    IrOp ext = a->sign ? IR_sext : IR_zext;
    IrRef n = ir_op1(l->r, ext, IR_I64, lift_w(l, a->rn));
    IrRef m = ir_op1(l->r, ext, IR_I64, lift_w(l, a->rm));
    IrRef product = ir_mul(l->r, n, m), acc = lift_x(l, a->ra);
    lift_put_reg(l, a->rd, a->sub ? ir_sub(l->r, acc, product) : ir_add(l->r, acc, product));
    return true;
}

// SMULH <Xd>, <Xn>, <Xm>
bool lift_smulh(Lift *l, const Args_smulh *a) {
    lift_put_reg(l, a->rd, ir_smulh(l->r, lift_x(l, a->rn), lift_x(l, a->rm)));
    return true;
}

// UMULH <Xd>, <Xn>, <Xm>
bool lift_umulh(Lift *l, const Args_umulh *a) {
    lift_put_reg(l, a->rd, ir_umulh(l->r, lift_x(l, a->rn), lift_x(l, a->rm)));
    return true;
}
