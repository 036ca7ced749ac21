// atomics.c - exclusives, ordered accesses and LSE atomics (rows of ldst.dec).
//
// The exclusive monitor: a load-exclusive remembers address and value (excl_addr, excl_lo, excl_hi)
// and the version of the place, a 32-bit counter in a table that the machine's vCPUs share, found
// by the address. A store-exclusive locks the version by a compare-and-swap that makes it odd,
// which fails when somebody stored there exclusively in between; then it is a compare-and-swap with
// the remembered value, which notices all other stores but one that brings the same bits back; then
// it unlocks, the version two higher if it stored. To stay one straight block, what must not happen
// happens to a scratch word behind the table. A load before the lock sees to it that only a missing
// write permission can still fault; a64_faulted() takes the lock away then. Deviation: values that
// plain stores or LSE atomics change and change back in between go unnoticed.
#include "guest/aarch64/lift.h"

// Values of up to 32 bits are handled as I32, zero-extended.
static IrType value_type(unsigned log2_bytes) {
    return log2_bytes == 3 ? IR_I64 : IR_I32;
}

// The low bytes of a value, zero-extended to value_type.
static IrRef narrow(Lift *l, IrRef v, unsigned log2_bytes) {
    IrType t = value_type(log2_bytes), mem = lift_mem_type(log2_bytes);
    if (ir_type(l->r, v) != mem) v = ir_op1(l->r, IR_trunc, mem, v);
    return mem == t ? v : ir_op1(l->r, IR_zext, t, v);
}

static unsigned alignment(const Lift *l) {
    return lift_has(l, A64_FEAT(lse2)) ? IR_WITHIN16 : IR_ALIGNED;
}

static unsigned order(unsigned acquire, unsigned release) {
    return (acquire ? IR_ACQUIRE : 0) | (release ? IR_RELEASE : 0);
}

static IrRef pair_of(Lift *l, IrRef lo, IrRef hi) {
    IrRef v = ir_op1(l->r, IR_vzext, IR_V128, lo);
    return ir_emit(l->r, IR_vset, IR_V128, v, hi, 0, 0, 0, 1);
}

static IrRef half_of(Lift *l, IrRef pair, unsigned which) {
    return ir_emit(l->r, IR_vget, IR_I64, pair, 0, 0, 0, 0, which);
}

// Two 32-bit values as one of 64 bits.
static IrRef words_of(Lift *l, IrRef lo, IrRef hi) {
    hi = lift_shift_imm(l, lift_zext64(l, hi), SHIFT_LSL, 32);
    return ir_or(l->r, lift_zext64(l, lo), hi);
}

// ---- exclusives ----

// The version of the 16 bytes around addr.
static IrRef version_at(Lift *l, IrRef addr) {
    IrRef off = ir_and(l->r, lift_shift_imm(l, addr, SHIFT_LSR, 2),
                       lift_i64(l, (A64_EXCL_VERSIONS - 1) * 4));
    return ir_add(l->r, ir_get(l->r, A64_EXCL_TABLE, IR_I64), off);
}
static IrRef version_of(Lift *l, IrRef addr) {
    return ir_load(l->r, IR_I64, IR_I32, IR_HIDDEN, version_at(l, addr), 0);
}

static void monitor_set(Lift *l, IrRef addr, IrRef version, IrRef lo, IrRef hi) {
    ir_put(l->r, A64_EXCL_ADDR, addr);
    ir_put(l->r, A64_EXCL_VERSION, version);
    ir_put(l->r, A64_EXCL_LO, lo);
    if (hi) ir_put(l->r, A64_EXCL_HI, hi);
}

// LDXR, LDAXR{B|H} <Xt>, [<Xn|SP>]
bool lift_ldxr(Lift *l, const Args_ldxr *a) {
    IrRef addr = lift_xsp(l, a->rn);
    unsigned flags = order(a->o0, a->o0) | alignment(l);
    IrRef version = version_of(l, addr);
    IrRef v = ir_load(l->r, IR_I64, lift_mem_type(a->sz), flags, addr, 0);
    monitor_set(l, addr, version, v, 0);
    lift_put_reg(l, a->rt, v);
    return true;
}

// LDXP, LDAXP <Xt1>, <Xt2>, [<Xn|SP>]
bool lift_ldxp(Lift *l, const Args_ldxp *a) {
    IrRef addr = lift_xsp(l, a->rn);
    unsigned flags = order(a->o0, a->o0) | alignment(l);
    IrRef version = version_of(l, addr);
    if (a->sz) {
        IrRef v = ir_load(l->r, IR_V128, IR_V128, flags | IR_ATOMIC, addr, 0);
        IrRef lo = half_of(l, v, 0), hi = half_of(l, v, 1);
        monitor_set(l, addr, version, lo, hi);
        lift_put_reg(l, a->rt, lo);
        lift_put_reg(l, a->rt2, hi);
    } else {
        IrRef v = ir_load(l->r, IR_I64, IR_I64, flags, addr, 0);
        monitor_set(l, addr, version, v, 0);
        lift_put_reg(l, a->rt, ir_op1(l->r, IR_trunc, IR_I32, v));
        lift_put_reg(l, a->rt2, lift_shift_imm(l, v, SHIFT_LSR, 32));
    }
    return true;
}

// Ws = 0 when it was stored, else 1; the monitor is open afterwards.
static void store_status(Lift *l, unsigned rs, IrRef stored) {
    IrRef status = ir_op1(l->r, IR_zext, IR_I64, ir_not(l->r, stored));
    ir_put(l->r, A64_EXCL_ADDR, lift_i64(l, (uint64_t)A64_EXCL_OPEN));
    lift_put_reg(l, rs, status);
}

// Stores v (type t) at addr if it is reserved and still holds `expected`.
static IrRef store_exclusive(Lift *l, IrType t, IrType mem, unsigned flags, IrRef addr,
                             IrRef expected, IrRef v) {
    IrRegion *r = l->r;
    ir_load(r, ir_is_vec(t) ? t : IR_I64, mem, alignment(l) | IR_HIDDEN, addr,
            0); // faults before the lock
    IrRef place = version_at(l, addr);
    IrRef scratch = ir_add(r, ir_get(r, A64_EXCL_TABLE, IR_I64), lift_i64(l, A64_EXCL_SCRATCH));
    IrRef version = ir_op1(r, IR_trunc, IR_I32, ir_get(r, A64_EXCL_VERSION, IR_I64));
    IrRef mine = ir_icmp(r, IR_EQ, addr, ir_get(r, A64_EXCL_ADDR, IR_I64));
    IrRef one = lift_i32(l, 1);
    IrRef idle = ir_icmp(r, IR_EQ, ir_and(r, version, one), lift_i32(l, 0));
    IrRef may = ir_and(r, mine, idle);
    IrRef odd = ir_select(r, may, ir_or(r, version, one), version);
    IrRef found = ir_cas(r, IR_I32, IR_I32, IR_HIDDEN, place, version, odd);
    IrRef locked = ir_and(r, may, ir_icmp(r, IR_EQ, found, version));
    IrRef where = ir_select(r, locked, addr, scratch);
    if (ir_at(r, where)->op == IR_select)
        r->insts[where].aux = 1; // who watches sees addr in any case
    IrRef old = ir_cas(r, t, mem, flags, where, expected, v);
    IrRef same;
    if (ir_is_vec(t)) {
        IrRef differ = ir_op2(l->r, IR_xor, t, old, expected);
        differ = ir_or(l->r, half_of(l, differ, 0), half_of(l, differ, 1));
        same = ir_icmp(l->r, IR_EQ, differ, lift_i64(l, 0));
    } else {
        same = ir_icmp(l->r, IR_EQ, old, expected);
    }
    IrRef stored = ir_and(r, locked, same);
    IrRef next = ir_select(r, stored, ir_add(r, version, lift_i32(l, 2)), version);
    ir_store(r, IR_I32, IR_RELEASE | IR_HIDDEN, ir_select(r, locked, place, scratch), 0, next);
    return stored;
}

// STXR, STLXR{B|H} <Ws>, <Xt>, [<Xn|SP>]
bool lift_stxr(Lift *l, const Args_stxr *a) {
    IrRef expected = narrow(l, ir_get(l->r, A64_EXCL_LO, IR_I64), a->sz);
    IrRef v = narrow(l, lift_x(l, a->rt), a->sz);
    unsigned flags = order(a->o0, a->o0) | alignment(l);
    IrRef stored = store_exclusive(l, value_type(a->sz), lift_mem_type(a->sz), flags,
                                   lift_xsp(l, a->rn), expected, v);
    store_status(l, a->rs, stored);
    return true;
}

// STXP, STLXP <Ws>, <Xt1>, <Xt2>, [<Xn|SP>]
bool lift_stxp(Lift *l, const Args_stxp *a) {
    IrRef lo = ir_get(l->r, A64_EXCL_LO, IR_I64), expected = lo, v;
    IrType t = a->sz ? IR_V128 : IR_I64;
    if (a->sz) {
        expected = pair_of(l, lo, ir_get(l->r, A64_EXCL_HI, IR_I64));
        v = pair_of(l, lift_x(l, a->rt), lift_x(l, a->rt2));
    } else {
        v = words_of(l, lift_w(l, a->rt), lift_w(l, a->rt2));
    }
    unsigned flags = order(a->o0, a->o0) | alignment(l) | (a->sz ? IR_ATOMIC : 0);
    store_status(l, a->rs, store_exclusive(l, t, t, flags, lift_xsp(l, a->rn), expected, v));
    return true;
}

// CLREX
bool lift_clrex(Lift *l, const Args_clrex *a) {
    ir_put(l->r, A64_EXCL_ADDR, lift_i64(l, (uint64_t)A64_EXCL_OPEN));
    return true;
}

// ---- ordered accesses ----

// STLR, STLLR{B|H} <Xt>, [<Xn|SP>]
bool lift_stlr(Lift *l, const Args_stlr *a) {
    IrRef v = lift_reg(l, value_type(a->sz), a->rt);
    ir_store(l->r, lift_mem_type(a->sz), IR_ACQUIRE | IR_RELEASE | alignment(l), lift_xsp(l, a->rn),
             0, v);
    return true;
}

// LDAR, LDLAR{B|H} <Xt>, [<Xn|SP>]
bool lift_ldar(Lift *l, const Args_ldar *a) {
    unsigned flags = IR_ACQUIRE | IR_RELEASE | alignment(l);
    lift_put_reg(l, a->rt,
                 ir_load(l->r, IR_I64, lift_mem_type(a->sz), flags, lift_xsp(l, a->rn), 0));
    return true;
}

// LDAPR{B|H} <Xt>, [<Xn|SP>]
bool lift_ldapr(Lift *l, const Args_ldapr *a) {
    unsigned flags = IR_ACQUIRE | alignment(l);
    lift_put_reg(l, a->rt,
                 ir_load(l->r, IR_I64, lift_mem_type(a->sz), flags, lift_xsp(l, a->rn), 0));
    return true;
}

// ---- LSE ----

// CAS{A}{L}{B|H} <Xs>, <Xt>, [<Xn|SP>]
bool lift_cas(Lift *l, const Args_cas *a) {
    IrRef expected = narrow(l, lift_x(l, a->rs), a->sz), v = narrow(l, lift_x(l, a->rt), a->sz);
    unsigned flags = order(a->acq, a->rel) | alignment(l);
    IrRef old = ir_cas(l->r, value_type(a->sz), lift_mem_type(a->sz), flags, lift_xsp(l, a->rn),
                       expected, v);
    lift_put_reg(l, a->rs, old);
    return true;
}

// CASP{A}{L} <Xs>, <X(s+1)>, <Xt>, <X(t+1)>, [<Xn|SP>]
bool lift_casp(Lift *l, const Args_casp *a) {
    unsigned s2 = a->rs + 1u, t2 = a->rt + 1u; // X31 of X30, X31 is XZR
    IrRef addr = lift_xsp(l, a->rn);
    unsigned flags = order(a->acq, a->rel) | alignment(l);
    if (a->sz) {
        IrRef expected = pair_of(l, lift_x(l, a->rs), lift_x(l, s2));
        IrRef v = pair_of(l, lift_x(l, a->rt), lift_x(l, t2));
        IrRef old = ir_cas(l->r, IR_V128, IR_V128, flags | IR_ATOMIC, addr, expected, v);
        lift_put_reg(l, a->rs, half_of(l, old, 0));
        lift_put_reg(l, s2, half_of(l, old, 1));
    } else {
        IrRef expected = words_of(l, lift_w(l, a->rs), lift_w(l, s2));
        IrRef v = words_of(l, lift_w(l, a->rt), lift_w(l, t2));
        IrRef old = ir_cas(l->r, IR_I64, IR_I64, flags, addr, expected, v);
        lift_put_reg(l, a->rs, ir_op1(l->r, IR_trunc, IR_I32, old));
        lift_put_reg(l, s2, lift_shift_imm(l, old, SHIFT_LSR, 32));
    }
    return true;
}

// LDADD, LDCLR, LDEOR, LDSET, LDSMAX, LDSMIN, LDUMAX, LDUMIN, SWP{A}{L}{B|H} <Xs>, <Xt>, [<Xn|SP>]
bool lift_ldop(Lift *l, const Args_ldop *a) {
    static const IrRmw op[] = {IR_RMW_ADD,  IR_RMW_ANDN, IR_RMW_XOR,  IR_RMW_OR,  IR_RMW_SMAX,
                               IR_RMW_SMIN, IR_RMW_UMAX, IR_RMW_UMIN, IR_RMW_XCHG};
    IrRef v = narrow(l, lift_x(l, a->rs), a->sz);
    unsigned flags = order(a->acq, a->rel) | alignment(l);
    IrRef old = ir_rmw(l->r, value_type(a->sz), lift_mem_type(a->sz), flags, op[a->op],
                       lift_xsp(l, a->rn), v);
    lift_put_reg(l, a->rt, old);
    return true;
}
