// system.c - hints, barriers, system registers and cache maintenance: rows of system.dec.
//
// System registers are named by one number, op0 op1 crn crm op2 packed as in SYSREG(). What user
// mode may not touch is undefined, as under Linux; ID registers read as Linux's trap emulation
// gives them.
#include "guest/aarch64/guest.h"
#include "guest/aarch64/lift.h"
#include "guest/aarch64/pauth.h"

#include <time.h>

#define SYSREG(op0, op1, crn, crm, op2)                                                            \
    ((op0) << 14 | (op1) << 11 | (crn) << 7 | (crm) << 3 | (op2))
enum {
    REG_NZCV = SYSREG(3, 3, 4, 2, 0),
    REG_DIT = SYSREG(3, 3, 4, 2, 5),
    REG_SSBS = SYSREG(3, 3, 4, 2, 6),
    REG_FPCR = SYSREG(3, 3, 4, 4, 0),
    REG_FPSR = SYSREG(3, 3, 4, 4, 1),
    REG_TPIDR_EL0 = SYSREG(3, 3, 13, 0, 2),
    REG_TPIDRRO_EL0 = SYSREG(3, 3, 13, 0, 3),
    REG_CNTFRQ_EL0 = SYSREG(3, 3, 14, 0, 0),
    REG_CNTVCT_EL0 = SYSREG(3, 3, 14, 0, 2),
    REG_CTR_EL0 = SYSREG(3, 3, 0, 0, 1),
    REG_DCZID_EL0 = SYSREG(3, 3, 0, 0, 7),
    SYS_DC_ZVA = SYSREG(1, 3, 7, 4, 1),
    SYS_IC_IVAU = SYSREG(1, 3, 7, 5, 1),
    SYS_DC_CVAC = SYSREG(1, 3, 7, 10, 1),
    SYS_DC_CVAU = SYSREG(1, 3, 7, 11, 1),
    SYS_DC_CVAP = SYSREG(1, 3, 7, 12, 1),
    SYS_DC_CVADP = SYSREG(1, 3, 7, 13, 1),
    SYS_DC_CIVAC = SYSREG(1, 3, 7, 14, 1),
};

enum { LINE_BYTES = 64, COUNTER_HZ = 1000000000 };
// 64-byte lines; instruction caches need IC IVAU (DIC 0), data caches need no cleaning (IDC 1).
static const uint64_t ctr_el0 = 0x9444c004, dczid_el0 = 4;

// ---- hints ----

typedef enum HintNumber {
    HINT_YIELD = 1,
    HINT_WFE = 2,
    HINT_WFI = 3,
    HINT_XPACLRI = 7,
    HINT_PACIA1716 = 8,
    HINT_PACIB1716 = 10,
    HINT_AUTIA1716 = 12,
    HINT_AUTIB1716 = 14,
    HINT_PACIAZ = 24,
    HINT_PACIASP = 25,
    HINT_PACIBZ = 26,
    HINT_PACIBSP = 27,
    HINT_AUTIAZ = 28,
    HINT_AUTIASP = 29,
    HINT_AUTIBZ = 30,
    HINT_AUTIBSP = 31,
    HINT_MARK_BEGIN = 112, // nobody else's: see a64_mark
    HINT_MARK_END = 113,
} HintNumber;

// The pointer authentication hints: X17 with X16, or X30 with zero or SP.
static void pauth_hint(Lift *l, HintNumber h) {
    unsigned reg = h < HINT_PACIAZ ? 17 : 30;
    A64KeyId key = h & 2 ? A64_KEY_IB : A64_KEY_IA;
    bool authenticate = h & 4;
    IrRef modifier = h < HINT_PACIAZ ? lift_x(l, 16) : h & 1 ? lift_xsp(l, 31) : lift_i64(l, 0);
    IrRef p = lift_x(l, reg);
    lift_put_reg(l, reg,
                 authenticate ? lift_auth(l, p, modifier, key) : lift_sign(l, p, modifier, key));
}

enum GuestMark a64_mark(const uint8_t *bytes, unsigned size) {
    uint32_t word;
    if (size != 4) return GUEST_NO_MARK;
    memcpy(&word, bytes, 4);
    const uint32_t hint = 0xd503201f;
    return word == (hint | HINT_MARK_BEGIN << 5) ? GUEST_MARK_BEGIN
           : word == (hint | HINT_MARK_END << 5) ? GUEST_MARK_END
                                                 : GUEST_NO_MARK;
}

bool a64_hint_is_nop(const Args_hint *a) {
    const uint64_t others = 1u << HINT_YIELD | 1u << HINT_WFE | 1u << HINT_WFI |
                            1u << HINT_XPACLRI | 1u << HINT_PACIA1716 | 1u << HINT_PACIB1716 |
                            1u << HINT_AUTIA1716 | 1u << HINT_AUTIB1716 | 0xffu << HINT_PACIAZ;
    unsigned h = (unsigned)a->crm << 3 | a->op2;
    return h >= 64 || !(others >> h & 1);
}

// HINT #<imm>; NOP, YIELD, WFE, WFI, SEV, BTI, PACIASP, XPACLRI...
bool lift_hint(Lift *l, const Args_hint *a) {
    HintNumber h = (HintNumber)(a->crm << 3 | a->op2);
    bool mark = h == HINT_MARK_BEGIN || h == HINT_MARK_END;
    if (mark && l->watch) lift_trap(l, IR_TRAP_YIELD, 0, l->pc + 4);
    if (a64_hint_is_nop(a)) return true; // allocated or not
    if (h <= HINT_WFI)
        lift_trap(l, IR_TRAP_YIELD, 0, l->pc + 4);
    else if (!lift_has(l, A64_FEAT(pauth)))
        return true;
    else if (h == HINT_XPACLRI)
        lift_put_reg(l, 30, lift_strip(l, lift_x(l, 30)));
    else
        pauth_hint(l, h);
    return true;
}

// WFET, WFIT <Xt>: waking up early is allowed
bool lift_wfxt(Lift *l, const Args_wfxt *a) {
    lift_trap(l, IR_TRAP_YIELD, 0, l->pc + 4);
    return true;
}

// ---- barriers ----

// DMB, DSB <option>; SB
bool lift_barrier(Lift *l, const Args_barrier *a) {
    static const IrFence fence[] = {IR_FENCE_FULL, IR_FENCE_LOAD, IR_FENCE_STORE, IR_FENCE_FULL};
    ir_emit(l->r, IR_fence, IR_VOID, 0, 0, 0, fence[a->crm & 3], 0, 0);
    return true;
}

// ISB: code that was written is seen behind it, since IC IVAU has thrown the old translation away
bool lift_isb(Lift *l, const Args_isb *a) {
    ir_exit(l->r, l->pc + 4);
    l->ended = true;
    return true;
}

// ---- system registers ----

static uint64_t read_counter(void *state) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * COUNTER_HZ + (uint64_t)t.tv_nsec;
}
static const IrHelper counter_helper = {.name = "a64_counter", .fn = (void (*)(void))read_counter};

static IrRef read_fpsr(Lift *l) {
    IrRef flags = ir_emit(l->r, IR_fp_flags, IR_I32, 0, 0, 0, 0, 0, 0);
    flags = ir_and(l->r, flags, lift_i32(l, FPSR_EXCEPTIONS));
    IrRef qc = ir_get(l->r, A64_QC, IR_V128);
    IrRef any = ir_or(l->r, ir_emit(l->r, IR_vget, IR_I64, qc, 0, 0, 0, 0, 0),
                      ir_emit(l->r, IR_vget, IR_I64, qc, 0, 0, 0, 0, 1));
    IrRef set = ir_icmp(l->r, IR_NE, any, lift_i64(l, 0));
    return ir_or(l->r, flags, ir_select(l->r, set, lift_i32(l, FPSR_QC), lift_i32(l, 0)));
}

static IrRef read_pstate(Lift *l, uint32_t bit) {
    return ir_and(l->r, ir_get(l->r, A64_PSTATE, IR_I32), lift_i32(l, bit));
}

// The value of a system register, 0 when user mode may not read it.
static IrRef read_sysreg(Lift *l, unsigned reg) {
    switch (reg) {
    case REG_NZCV: return ir_op1(l->r, IR_fl_unpack, IR_I32, lift_flags(l));
    case REG_FPCR: return ir_get(l->r, A64_FPCR, IR_I32);
    case REG_FPSR: return read_fpsr(l);
    case REG_TPIDR_EL0: return ir_get(l->r, A64_TPIDR, IR_I64);
    case REG_TPIDRRO_EL0: return ir_get(l->r, A64_TPIDRRO, IR_I64);
    case REG_CNTFRQ_EL0: return lift_i64(l, COUNTER_HZ);
    case REG_CNTVCT_EL0: return lift_call(l, IR_I64, &counter_helper, 0, NULL);
    case REG_CTR_EL0: return lift_i64(l, ctr_el0);
    case REG_DCZID_EL0: return lift_i64(l, dczid_el0);
    case REG_DIT: return lift_has(l, A64_FEAT(dit)) ? read_pstate(l, PSTATE_DIT) : 0;
    case REG_SSBS: return lift_has(l, A64_FEAT(ssbs)) ? read_pstate(l, PSTATE_SSBS) : 0;
    default: break;
    }
    // 3, 0, c0, c<m>, <op2>: what Linux emulates are MIDR, MPIDR, REVIDR and c2..c7
    unsigned crm = reg >> 3 & 15, op2 = reg & 7;
    if (reg >> 7 != SYSREG(3, 0, 0, 0, 0) >> 7 || crm > 7 || !lift_has(l, A64_FEAT(cpuid)))
        return 0;
    if (crm == 1 || (crm == 0 && op2 != 0 && op2 != 5 && op2 != 6)) return 0;
    return lift_i64(l, a64_id_register(l->features, crm, op2));
}

// MRS <Xt>, <sysreg>
bool lift_mrs(Lift *l, const Args_mrs *a) {
    IrRef v = read_sysreg(l, SYSREG(2u + a->o0, a->op1, a->crn, a->crm, a->op2));
    if (!v) return false;
    lift_put_reg(l, a->rt, v);
    return true;
}

// FPCR changes how code is lifted and run: leave, unless it stays as it is.
static void write_fpcr(Lift *l, IrRef v) {
    uint32_t known = 3u << FPCR_RMODE_SHIFT | FPCR_FZ | FPCR_DN | FPCR_AHP;
    if (lift_has(l, A64_FEAT(fp16))) known |= FPCR_FZ16;
    if (lift_has(l, A64_FEAT(afp))) known |= FPCR_AH | FPCR_FIZ | FPCR_NEP;
    v = ir_and(l->r, v, lift_i32(l, known));
    IrRef same = ir_icmp(l->r, IR_EQ, v, ir_get(l->r, A64_FPCR, IR_I32));
    ir_put(l->r, A64_FPCR, v);
    ir_exit_if(l->r, same, l->pc + 4);
    lift_trap(l, IR_TRAP_MODE, 0, l->pc + 4);
}

static void write_fpsr(Lift *l, IrRef v) {
    ir_emit(l->r, IR_fp_setflags, IR_VOID, ir_and(l->r, v, lift_i32(l, FPSR_EXCEPTIONS)), 0, 0, 0,
            0, 0);
    IrRef qc = lift_zext64(l, ir_and(l->r, v, lift_i32(l, FPSR_QC)));
    ir_put(l->r, A64_QC, ir_op1(l->r, IR_vzext, IR_V128, qc));
}

static void write_pstate(Lift *l, uint32_t bit, IrRef v) {
    IrRef kept = ir_and(l->r, ir_get(l->r, A64_PSTATE, IR_I32), lift_i32(l, ~bit));
    ir_put(l->r, A64_PSTATE, ir_or(l->r, kept, ir_and(l->r, v, lift_i32(l, bit))));
}

// MSR <sysreg>, <Xt>
bool lift_msr(Lift *l, const Args_msr *a) {
    unsigned reg = SYSREG(2u + a->o0, a->op1, a->crn, a->crm, a->op2);
    switch (reg) {
    case REG_NZCV:
        lift_put_flags(l, ir_op1(l->r, IR_fl_pack, IR_FLAGS, lift_w(l, a->rt)));
        return true;
    case REG_FPCR: write_fpcr(l, lift_w(l, a->rt)); return true;
    case REG_FPSR: write_fpsr(l, lift_w(l, a->rt)); return true;
    case REG_TPIDR_EL0: ir_put(l->r, A64_TPIDR, lift_x(l, a->rt)); return true;
    case REG_DIT:
        if (!lift_has(l, A64_FEAT(dit))) return false;
        write_pstate(l, PSTATE_DIT, lift_w(l, a->rt));
        return true;
    case REG_SSBS:
        if (!lift_has(l, A64_FEAT(ssbs))) return false;
        write_pstate(l, PSTATE_SSBS, lift_w(l, a->rt));
        return true;
    default: return false;
    }
}

// MSR <pstatefield>, #<imm>: user mode has DIT and SSBS
bool lift_msr_imm(Lift *l, const Args_msr_imm *a) {
    unsigned field = (unsigned)a->op1 << 3 | a->op2;
    if (field == 032 && lift_has(l, A64_FEAT(dit)))
        write_pstate(l, PSTATE_DIT, lift_i32(l, a->crm & 1 ? PSTATE_DIT : 0));
    else if (field == 031 && lift_has(l, A64_FEAT(ssbs)))
        write_pstate(l, PSTATE_SSBS, lift_i32(l, a->crm & 1 ? PSTATE_SSBS : 0));
    else
        return false;
    return true;
}

// ---- cache maintenance ----

static uint64_t set_flush_range(void *state, uint64_t addr) {
    VcpuHot *hot = vcpu_hot(state);
    hot->flush_lo = addr & ~(uint64_t)(LINE_BYTES - 1);
    hot->flush_hi = hot->flush_lo + LINE_BYTES;
    return 0;
}
static const IrHelper flush_helper = {.name = "a64_ic_ivau", .fn = (void (*)(void))set_flush_range};

// DC ZVA, <Xt>: zeros one line
static void zero_line(Lift *l, IrRef addr) {
    IrRef line = ir_and(l->r, addr, lift_i64(l, ~(uint64_t)(LINE_BYTES - 1)));
    IrRef zero = ir_vconst(l->r, IR_V128, 0, 0);
    for (unsigned at = 0; at < LINE_BYTES; at += 16) ir_store(l->r, IR_V128, 0, line, at, zero);
}

// SYS: DC and IC by address; nothing else is for user mode
bool lift_sys(Lift *l, const Args_sys *a) {
    unsigned op = SYSREG(1u, a->op1, a->crn, a->crm, a->op2);
    IrRef addr;
    switch (op) {
    case SYS_DC_ZVA: zero_line(l, lift_x(l, a->rt)); return true;
    case SYS_IC_IVAU:
        addr = lift_x(l, a->rt);
        lift_call(l, IR_I64, &flush_helper, 1, &addr);
        lift_trap(l, IR_TRAP_FLUSH_CODE, 0, l->pc + 4);
        return true;
    case SYS_DC_CVAP:
        if (!lift_has(l, A64_FEAT(dcpop))) return false;
        break;
    case SYS_DC_CVADP:
        if (!lift_has(l, A64_FEAT(dcpodp))) return false;
        break;
    case SYS_DC_CVAC:
    case SYS_DC_CVAU:
    case SYS_DC_CIVAC: break;
    default: return false;
    }
    // caches are coherent; what is left is the fault of an address that is not mapped
    ir_load(l->r, IR_I64, IR_I8, 0, lift_x(l, a->rt), 0);
    return true;
}

// SYSL: user mode has none
bool lift_undefined_sys(Lift *l, const Args_undefined_sys *a) {
    return false;
}
