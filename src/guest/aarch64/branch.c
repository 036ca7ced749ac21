// branch.c - branches and exception generation (C4.1.94): rows of branch.dec.
#include "guest/aarch64/lift.h"
#include "guest/aarch64/pauth.h"

static uint64_t target(const Lift *l, int32_t words) {
    return l->pc + (uint64_t)((int64_t)words * 4);
}

static IrRef negated(Lift *l, const IrInst *icmp) {
    return ir_icmp(l->r, ir_cc_not((IrCc)icmp->aux), icmp->a, icmp->b);
}

// Behind CCMP, a condition is two comparisons: each may leave. False: it is one condition.
static bool exit_if_either(Lift *l, IrRef cond, uint64_t pc, bool last) {
    IrInst both = *ir_at(l->r, cond);
    if (l->watch || (both.op != IR_or && !(both.op == IR_and && last))) return false;
    if (ir_at(l->r, both.a)->op != IR_icmp || ir_at(l->r, both.b)->op != IR_icmp) return false;
    if (both.op == IR_or)
        ir_exit_if(l->r, both.a, pc);
    else
        ir_exit_if(l->r, negated(l, ir_at(l->r, both.a)), l->pc + 4);
    ir_exit_if(l->r, both.b, pc);
    return true;
}

// A loop's branch back, in a block that goes on with the next round. False: it cannot.
static bool repeat_if(Lift *l, IrRef cond, uint64_t pc) {
    const IrInst *c = ir_at(l->r, cond);
    if (!l->may_repeat || pc != l->r->pc || c->op != IR_icmp) return false;
    ir_exit_if(l->r, negated(l, c), l->pc + 4);
    return l->repeats = l->turns = true;
}

// The conditional ways: taken to pc, else on. What follows a loop is not often next.
static bool branch_if(Lift *l, IrRef cond, uint64_t pc) {
    if (repeat_if(l, cond, pc)) return true;
    bool goes_on = lift_goes_on(l, pc);
    if (!exit_if_either(l, cond, pc, !goes_on)) ir_exit_if(l->r, cond, pc);
    if (goes_on) return true;
    ir_exit(l->r, l->pc + 4);
    l->ended = true;
    return true;
}

static bool branch_to(Lift *l, uint64_t pc) {
    ir_exit(l->r, pc);
    l->ended = true;
    return true;
}

static bool branch_ind(Lift *l, IrJumpKind kind, IrRef pc) {
    ir_exit_ind(l->r, kind, pc);
    l->ended = true;
    return true;
}

// What a call leaves behind: the link register and a hint for the return's prediction.
static void link_register(Lift *l) {
    IrRef back = lift_i64(l, l->pc + 4);
    lift_put_reg(l, 30, back);
    ir_call_hint(l->r, back);
}

// B <label>
bool lift_b(Lift *l, const Args_b *a) {
    if (l->may_repeat && target(l, a->imm26) == l->r->pc) return l->repeats = l->turns = true;
    return branch_to(l, target(l, a->imm26));
}

// BL <label>
bool lift_bl(Lift *l, const Args_bl *a) {
    link_register(l);
    return branch_to(l, target(l, a->imm26));
}

// B.<cond> <label>; BC.<cond>
bool lift_b_cond(Lift *l, const Args_b_cond *a) {
    if (a->cond >= IR_C_AL) return branch_to(l, target(l, a->imm19));
    return branch_if(l, lift_cond(l, a->cond), target(l, a->imm19));
}

// CBZ, CBNZ <Xt>, <label>
bool lift_cbz(Lift *l, const Args_cbz *a) {
    IrType t = lift_type(a->sf);
    IrRef cond = ir_icmp(l->r, a->nz ? IR_NE : IR_EQ, lift_reg(l, t, a->rt), ir_const(l->r, t, 0));
    return branch_if(l, cond, target(l, a->imm19));
}

// TBZ, TBNZ <Xt>, #<bit>, <label>
bool lift_tbz(Lift *l, const Args_tbz *a) {
    IrType t = lift_type(a->bit >= 32);
    IrRef v = lift_reg(l, t, a->rt), zero = ir_const(l->r, t, 0), cond;
    if ((a->bit & 31) == 31) {
        cond = ir_icmp(l->r, a->nz ? IR_SLT : IR_SGE, v, zero);
    } else {
        v = ir_and(l->r, v, ir_const(l->r, t, 1ull << a->bit));
        cond = ir_icmp(l->r, a->nz ? IR_NE : IR_EQ, v, zero);
    }
    return branch_if(l, cond, target(l, a->imm14));
}

// BR <Xn>
bool lift_br(Lift *l, const Args_br *a) {
    return branch_ind(l, IR_JUMP, lift_x(l, a->rn));
}

// BLR <Xn>
bool lift_blr(Lift *l, const Args_blr *a) {
    IrRef pc = lift_x(l, a->rn); // may be X30
    link_register(l);
    return branch_ind(l, IR_JUMP_CALL, pc);
}

// RET {<Xn>}
bool lift_ret(Lift *l, const Args_ret *a) {
    return branch_ind(l, IR_JUMP_RET, lift_x(l, a->rn));
}

// BRAA, BRAAZ, BRAB, BRABZ, BLRAA... <Xn>{, <Xm|SP>}
bool lift_bra(Lift *l, const Args_bra *a) {
    IrRef modifier = a->z ? lift_i64(l, 0) : lift_xsp(l, a->rm);
    IrRef pc = lift_auth(l, lift_x(l, a->rn), modifier, a->key ? A64_KEY_IB : A64_KEY_IA);
    if (a->link) link_register(l);
    return branch_ind(l, a->link ? IR_JUMP_CALL : IR_JUMP, pc);
}

// RETAA, RETAB
bool lift_reta(Lift *l, const Args_reta *a) {
    IrRef pc = lift_auth(l, lift_x(l, 30), lift_xsp(l, 31), a->key ? A64_KEY_IB : A64_KEY_IA);
    return branch_ind(l, IR_JUMP_RET, pc);
}

// SVC #<imm>
bool lift_svc(Lift *l, const Args_svc *a) {
    lift_trap(l, IR_TRAP_SYSCALL, a->imm16 & 0xff, l->pc + 4);
    return true;
}

// BRK #<imm>
bool lift_brk(Lift *l, const Args_brk *a) {
    lift_trap(l, IR_TRAP_BREAKPOINT, a->imm16 & 0xff, l->pc);
    return true;
}

// HVC, SMC, HLT, DCPSn, ERET, DRPS, UDF: allocated, but undefined in user mode
bool lift_undefined_at_el0(Lift *l, const Args_undefined_at_el0 *a) {
    return false;
}
