// direct.c - basic blocks that are said directly (ir/direct.h): instructions, then the block loop.
//
// direct_<row> says what lift_<row> lifts: what dp_imm.c, dp_reg.c, ldst.c and branch.c do. It
// returns false, and has said nothing, for the rare form that is better lifted. All are in one
// file, with the switch over rows that is generated for it: an instruction's fields get to its
// function in registers then.
//
// What a block is lift.c decides for all; the same here, for what is neither hot nor watched: it
// ends at a branch or trap, at the limit of instructions and at the end of a page, and goes on past
// conditional branches forward until it comes to where one of them goes.
#include "ir/direct.h"
#include "engine/vcpu.h"
#include "guest/aarch64/lift.h"

typedef struct DirectLift {
    const DirectOps *say;
    Direct *d;
    Lift l;    // of what is lifted in between; pc, ended, extend, join and turns count for both
    bool open; // a region is under way
    uint32_t n_ir_insts;
} DirectLift;

static bool direct_has(const DirectLift *l, uint64_t features) {
    return lift_has(&l->l, features);
}
// Xn, XZR; Xn, SP.
static DirectReg direct_x(unsigned n) {
    return n == 31 ? DIRECT_ZERO : (DirectReg)(A64_X0 + n);
}
static DirectReg direct_xsp(unsigned n) {
    return (DirectReg)(A64_X0 + n);
}

// ---- data processing, immediate ----

static bool direct_adr(DirectLift *l, const Args_adr *a) {
    uint64_t offset = (uint64_t)((int64_t)a->immhi * 4 + a->immlo), pc = l->l.pc;
    l->say->set(l->d, direct_x(a->rd), a->page ? (pc & ~0xfffull) + (offset << 12) : pc + offset);
    return true;
}

static int32_t imm12(const Args_add_imm *a) {
    return a->imm12 << (a->sh ? 12 : 0);
}

static bool direct_add_imm(DirectLift *l, const Args_add_imm *a) {
    l->say->add(l->d, direct_xsp(a->rd), direct_xsp(a->rn), a->sf, imm12(a));
    return true;
}

static bool direct_sub_imm(DirectLift *l, const Args_sub_imm *a) {
    l->say->add(l->d, direct_xsp(a->rd), direct_xsp(a->rn), a->sf, -imm12(a));
    return true;
}

static bool set_flags_imm(DirectLift *l, DirectOp op, const Args_adds_imm *a) {
    DirectAlu how = {.op = op, .wide = a->sf, .flags = true};
    l->say->alu_imm(l->d, &how, direct_x(a->rd), direct_xsp(a->rn), (uint64_t)imm12(a));
    return true;
}

static bool direct_adds_imm(DirectLift *l, const Args_adds_imm *a) {
    return set_flags_imm(l, DIRECT_ADD, a);
}

static bool direct_subs_imm(DirectLift *l, const Args_subs_imm *a) {
    return set_flags_imm(l, DIRECT_SUB, a);
}

static bool logical_imm(DirectLift *l, DirectOp op, bool flags, const Args_and_imm *a) {
    uint64_t mask;
    if (!a64_bitmask(a->sf, a->n, a->imms, a->immr, &mask, NULL)) return false;
    DirectAlu how = {.op = op, .wide = a->sf, .flags = flags};
    DirectReg d = flags ? direct_x(a->rd) : direct_xsp(a->rd);
    l->say->alu_imm(l->d, &how, d, direct_x(a->rn), mask);
    return true;
}

static bool direct_and_imm(DirectLift *l, const Args_and_imm *a) {
    return logical_imm(l, DIRECT_AND, false, a);
}

static bool direct_orr_imm(DirectLift *l, const Args_orr_imm *a) {
    return logical_imm(l, DIRECT_OR, false, a);
}

static bool direct_eor_imm(DirectLift *l, const Args_eor_imm *a) {
    return logical_imm(l, DIRECT_XOR, false, a);
}

static bool direct_ands_imm(DirectLift *l, const Args_ands_imm *a) {
    return logical_imm(l, DIRECT_AND, true, a);
}

static bool direct_movz(DirectLift *l, const Args_movz *a) {
    l->say->set(l->d, direct_x(a->rd), (uint64_t)a->imm16 << (a->hw * 16));
    return true;
}

static bool direct_movn(DirectLift *l, const Args_movn *a) {
    uint64_t v = ~((uint64_t)a->imm16 << (a->hw * 16));
    l->say->set(l->d, direct_x(a->rd), a->sf ? v : (uint32_t)v);
    return true;
}

static bool direct_movk(DirectLift *l, const Args_movk *a) {
    if (a->rd == 31) return false;
    l->say->set16(l->d, direct_x(a->rd), a->sf, a->hw * 16u, a->imm16);
    return true;
}

// Bits immr..imms move down to 0, or bits 0..imms move up: to the top first, then down.
static bool bitfield(DirectLift *l, const Args_ubfm *a, bool sign) {
    unsigned bits = a->sf ? 64 : 32, up = bits - 1 - a->imms;
    unsigned down = a->imms >= a->immr ? up + a->immr : (unsigned)(a->immr - a->imms - 1);
    l->say->field(l->d, direct_x(a->rd), direct_x(a->rn), a->sf, sign, up, down);
    return true;
}

static bool direct_ubfm(DirectLift *l, const Args_ubfm *a) {
    return bitfield(l, a, false);
}

static bool direct_sbfm(DirectLift *l, const Args_sbfm *a) {
    return bitfield(l, a, true);
}

// ---- data processing, register ----

static const uint8_t shift_of[] = {DIRECT_SHL, DIRECT_SHR, DIRECT_SAR, DIRECT_ROR}; // A64Shift

static bool direct_shift_reg(DirectLift *l, const Args_shift_reg *a) {
    l->say->shift(l->d, (DirectShift)shift_of[a->kind], a->sf, direct_x(a->rd), direct_x(a->rn),
                  direct_x(a->rm));
    return true;
}

static bool direct_logic_shift(DirectLift *l, const Args_logic_shift *a) {
    static const uint8_t op[] = {DIRECT_AND, DIRECT_OR, DIRECT_XOR, DIRECT_AND};
    DirectAlu how = {.op = op[a->op],
                     .wide = a->sf,
                     .flags = a->op == 3,
                     .invert = a->inv,
                     .shift = shift_of[a->sh],
                     .amount = a->imm6};
    l->say->alu(l->d, &how, direct_x(a->rd), direct_x(a->rn), direct_x(a->rm));
    return true;
}

static bool direct_addsub_shift(DirectLift *l, const Args_addsub_shift *a) {
    DirectAlu how = {.op = a->sub ? DIRECT_SUB : DIRECT_ADD,
                     .wide = a->sf,
                     .flags = a->set,
                     .shift = shift_of[a->sh],
                     .amount = a->imm6};
    l->say->alu(l->d, &how, direct_x(a->rd), direct_x(a->rn), direct_x(a->rm));
    return true;
}

static bool direct_addsub_ext(DirectLift *l, const Args_addsub_ext *a) {
    unsigned bits = 8u << (a->option & 3);
    DirectAlu how = {.op = a->sub ? DIRECT_SUB : DIRECT_ADD,
                     .wide = a->sf,
                     .flags = a->set,
                     .shift = DIRECT_SHL,
                     .amount = a->imm3,
                     .narrow = (uint8_t)(bits < (a->sf ? 64 : 32) ? bits : 0),
                     .sign = a->option & 4};
    DirectReg d = a->set ? direct_x(a->rd) : direct_xsp(a->rd);
    l->say->alu(l->d, &how, d, direct_xsp(a->rn), direct_x(a->rm));
    return true;
}

static bool direct_ccmp_reg(DirectLift *l, const Args_ccmp_reg *a) {
    if (a->cond >= IR_C_AL) return false;
    DirectCompareIf how = {a->cond, a->sf, !a->sub, a->nzcv};
    l->say->compare_if(l->d, &how, direct_x(a->rn), direct_x(a->rm));
    return true;
}

static bool direct_ccmp_imm(DirectLift *l, const Args_ccmp_imm *a) {
    if (a->cond >= IR_C_AL) return false;
    DirectCompareIf how = {a->cond, a->sf, !a->sub, a->nzcv};
    l->say->compare_imm_if(l->d, &how, direct_x(a->rn), a->imm5);
    return true;
}

static bool direct_csel(DirectLift *l, const Args_csel *a) {
    if (a->cond >= IR_C_AL) return false;
    DirectSelect how = {a->cond, a->sf, a->inv, a->inc};
    l->say->select(l->d, &how, direct_x(a->rd), direct_x(a->rn), direct_x(a->rm));
    return true;
}

static bool direct_madd(DirectLift *l, const Args_madd *a) {
    DirectMul how = {.wide = a->sf, .subtract = a->sub};
    l->say->mul(l->d, &how, direct_x(a->rd), direct_x(a->rn), direct_x(a->rm), direct_x(a->ra));
    return true;
}

static bool direct_maddl(DirectLift *l, const Args_maddl *a) {
    DirectMul how = {.wide = true, .subtract = a->sub, .narrow = 32, .sign = a->sign};
    l->say->mul(l->d, &how, direct_x(a->rd), direct_x(a->rn), direct_x(a->rm), direct_x(a->ra));
    return true;
}

// ---- loads and stores ----

static DirectAddr address(unsigned rn, A64Index index, int32_t offset) {
    return (DirectAddr){.base = direct_xsp(rn),
                        .index = DIRECT_ZERO,
                        .disp = index == INDEX_POST ? 0 : offset,
                        .writeback = index != INDEX_OFFSET,
                        .step = offset};
}

static DirectAddr address_imm9(unsigned rn, unsigned idx, int32_t imm9) {
    static const uint8_t index[] = {INDEX_OFFSET, INDEX_POST, INDEX_OFFSET, INDEX_PRE};
    return address(rn, (A64Index)index[idx], imm9);
}

static DirectAddr address_pair(unsigned rn, unsigned index, int32_t imm7, unsigned log2_bytes) {
    static const uint8_t kind[] = {INDEX_OFFSET, INDEX_POST, INDEX_OFFSET, INDEX_PRE};
    return address(rn, (A64Index)kind[index], imm7 * (1 << log2_bytes));
}

static DirectAddr address_reg(unsigned rn, unsigned rm, unsigned option, unsigned shift) {
    return (DirectAddr){.base = direct_xsp(rn),
                        .index = direct_x(rm),
                        .narrow = option & 1 ? 0 : 32,
                        .sign = option & 4,
                        .scale = (uint8_t)shift};
}

static DirectAccess access(unsigned log2_bytes, unsigned sx) {
    return (DirectAccess)(log2_bytes | (sx == 1 ? DIRECT_SIGN_64 : sx == 2 ? DIRECT_SIGN_32 : 0));
}

static bool load(DirectLift *l, unsigned rt, unsigned log2_bytes, unsigned sx, DirectAddr at) {
    if (at.writeback && direct_x(rt) == at.base) return false;
    l->say->load_by(l->d, access(log2_bytes, sx), direct_x(rt), &at);
    return true;
}

static bool store(DirectLift *l, unsigned rt, unsigned log2_bytes, DirectAddr at) {
    l->say->store_by(l->d, access(log2_bytes, 0), direct_x(rt), &at);
    return true;
}

static bool direct_str_imm9(DirectLift *l, const Args_str_imm9 *a) {
    return store(l, a->rt, a->sz, address_imm9(a->rn, a->idx, a->imm9));
}

static bool direct_ldr_imm9(DirectLift *l, const Args_ldr_imm9 *a) {
    return load(l, a->rt, a->sz, a->sx, address_imm9(a->rn, a->idx, a->imm9));
}

static bool direct_str_uimm(DirectLift *l, const Args_str_uimm *a) {
    l->say->store(l->d, access(a->sz, 0), direct_x(a->rt), direct_xsp(a->rn), a->imm12 << a->sz);
    return true;
}

static bool direct_ldr_uimm(DirectLift *l, const Args_ldr_uimm *a) {
    l->say->load(l->d, access(a->sz, a->sx), direct_x(a->rt), direct_xsp(a->rn), a->imm12 << a->sz);
    return true;
}

static bool direct_str_reg(DirectLift *l, const Args_str_reg *a) {
    return store(l, a->rt, a->sz, address_reg(a->rn, a->rm, a->option, a->s ? a->sz : 0));
}

static bool direct_ldr_reg(DirectLift *l, const Args_ldr_reg *a) {
    return load(l, a->rt, a->sz, a->sx, address_reg(a->rn, a->rm, a->option, a->s ? a->sz : 0));
}

static bool direct_stp(DirectLift *l, const Args_stp *a) {
    unsigned log2_bytes = a->opc ? 3 : 2;
    DirectAddr at = address_pair(a->rn, a->index, a->imm7, log2_bytes);
    l->say->store_pair(l->d, access(log2_bytes, 0), direct_x(a->rt), direct_x(a->rt2), &at);
    return true;
}

static bool load_pair(DirectLift *l, unsigned rt, unsigned rt2, DirectAccess how, DirectAddr at) {
    DirectReg t = direct_x(rt), u = direct_x(rt2);
    if (t == u || (at.writeback && (t == at.base || u == at.base))) return false;
    l->say->load_pair(l->d, how, t, u, &at);
    return true;
}

static bool direct_ldp(DirectLift *l, const Args_ldp *a) {
    unsigned log2_bytes = a->opc ? 3 : 2;
    return load_pair(l, a->rt, a->rt2, access(log2_bytes, 0),
                     address_pair(a->rn, a->index, a->imm7, log2_bytes));
}

static bool direct_ldpsw(DirectLift *l, const Args_ldpsw *a) {
    if (a->index == 0) return false;
    return load_pair(l, a->rt, a->rt2, access(2, 1), address_pair(a->rn, a->index, a->imm7, 2));
}

// ---- of SIMD and FP registers: of 32, 64 and 128 bits ----

static DirectReg vector(unsigned n) {
    return (DirectReg)(A64_V0 + n);
}

static DirectAccess vector_access(unsigned log2_bytes) {
    return (DirectAccess)(log2_bytes | DIRECT_VECTOR);
}

static unsigned vector_size(unsigned q, unsigned sz) {
    return q ? 4 : sz;
}

static bool load_v(DirectLift *l, unsigned rt, unsigned log2_bytes, DirectAddr at) {
    if (log2_bytes < 2 || at.scale > 3) return false;
    l->say->load_by(l->d, vector_access(log2_bytes), vector(rt), &at);
    return true;
}

static bool store_v(DirectLift *l, unsigned rt, unsigned log2_bytes, DirectAddr at) {
    if (log2_bytes < 2 || at.scale > 3) return false;
    l->say->store_by(l->d, vector_access(log2_bytes), vector(rt), &at);
    return true;
}

static bool direct_str_imm9_v(DirectLift *l, const Args_str_imm9_v *a) {
    return store_v(l, a->rt, vector_size(a->q, a->sz), address_imm9(a->rn, a->idx, a->imm9));
}

static bool direct_ldr_imm9_v(DirectLift *l, const Args_ldr_imm9_v *a) {
    return load_v(l, a->rt, vector_size(a->q, a->sz), address_imm9(a->rn, a->idx, a->imm9));
}

static bool direct_str_uimm_v(DirectLift *l, const Args_str_uimm_v *a) {
    unsigned size = vector_size(a->q, a->sz);
    return store_v(l, a->rt, size, address(a->rn, INDEX_OFFSET, a->imm12 << size));
}

static bool direct_ldr_uimm_v(DirectLift *l, const Args_ldr_uimm_v *a) {
    unsigned size = vector_size(a->q, a->sz);
    return load_v(l, a->rt, size, address(a->rn, INDEX_OFFSET, a->imm12 << size));
}

static bool direct_str_reg_v(DirectLift *l, const Args_str_reg_v *a) {
    unsigned size = vector_size(a->q, a->sz);
    return store_v(l, a->rt, size, address_reg(a->rn, a->rm, a->option, a->s ? size : 0));
}

static bool direct_ldr_reg_v(DirectLift *l, const Args_ldr_reg_v *a) {
    unsigned size = vector_size(a->q, a->sz);
    return load_v(l, a->rt, size, address_reg(a->rn, a->rm, a->option, a->s ? size : 0));
}

static bool direct_stp_v(DirectLift *l, const Args_stp_v *a) {
    unsigned size = 2u + a->opc;
    DirectAddr at = address_pair(a->rn, a->index, a->imm7, size);
    l->say->store_pair(l->d, vector_access(size), vector(a->rt), vector(a->rt2), &at);
    return true;
}

static bool direct_ldp_v(DirectLift *l, const Args_ldp_v *a) {
    unsigned size = 2u + a->opc;
    DirectAddr at = address_pair(a->rn, a->index, a->imm7, size);
    if (a->rt == a->rt2) return false;
    l->say->load_pair(l->d, vector_access(size), vector(a->rt), vector(a->rt2), &at);
    return true;
}

// ---- branches ----

static uint64_t target(const DirectLift *l, int32_t words) {
    return l->l.pc + (uint64_t)((int64_t)words * 4);
}

// Behind a conditional exit to pc.
static bool branched(DirectLift *l, uint64_t pc) {
    if (lift_goes_on(&l->l, pc)) return true;
    l->say->exit(l->d, l->l.pc + 4);
    return l->l.ended = true;
}

static bool direct_b(DirectLift *l, const Args_b *a) {
    l->say->exit(l->d, target(l, a->imm26));
    return l->l.ended = true;
}

static bool direct_bl(DirectLift *l, const Args_bl *a) {
    l->say->call(l->d, A64_X0 + 30, l->l.pc + 4, target(l, a->imm26));
    return l->l.ended = true;
}

static bool direct_b_cond(DirectLift *l, const Args_b_cond *a) {
    if (a->cond >= IR_C_AL) return false;
    l->say->exit_if(l->d, (IrCond)a->cond, target(l, a->imm19));
    return branched(l, target(l, a->imm19));
}

static bool direct_cbz(DirectLift *l, const Args_cbz *a) {
    l->say->exit_if_zero(l->d, direct_x(a->rt), a->sf, a->nz, target(l, a->imm19));
    return branched(l, target(l, a->imm19));
}

static bool direct_tbz(DirectLift *l, const Args_tbz *a) {
    l->say->exit_if_bit(l->d, direct_x(a->rt), a->bit, a->nz, target(l, a->imm14));
    return branched(l, target(l, a->imm14));
}

static bool direct_br(DirectLift *l, const Args_br *a) {
    l->say->exit_ind(l->d, IR_JUMP, direct_x(a->rn));
    return l->l.ended = true;
}

static bool direct_blr(DirectLift *l, const Args_blr *a) {
    l->say->call_ind(l->d, A64_X0 + 30, l->l.pc + 4, direct_x(a->rn));
    return l->l.ended = true;
}

static bool direct_ret(DirectLift *l, const Args_ret *a) {
    l->say->exit_ind(l->d, IR_JUMP_RET, direct_x(a->rn));
    return l->l.ended = true;
}

// NOPs; others are lifted.
static bool direct_hint(DirectLift *l, const Args_hint *a) {
    return a64_hint_is_nop(a);
}

// ---- which is which ----

#include "decode_a64_direct.h"

// ---- what is lifted in between ----

static void region_begin(DirectLift *l, const GuestLift *how) {
    IrRegion *r = l->l.r;
    ir_region_reset(r, how->pc);
    r->fp_traps = how->mode & MODE_FP_TRAPS;
    lift_region_begin(r, how);
    l->open = true;
}

static void region_end(DirectLift *l) {
    ir_block_end(l->l.r);
    l->n_ir_insts += l->l.r->n_insts;
    l->say->region(l->d, l->l.r);
    l->open = false;
}

// ---- the block loop ----

// Which of these words are branches, or system instructions: a bit each.
static uint32_t branches(const uint8_t *code, unsigned n) {
    uint32_t set = 0;
    for (unsigned i = 0; i < n; i++) {
        uint32_t w;
        memcpy(&w, code + 4 * i, 4);
        set |= (uint32_t)((w & 0x1c000000) == 0x14000000) << i;
    }
    return set;
}

// Where a branch leads, in words from itself: signed, at the top of the word when it is shifted up,
// then down. Of others nothing is known.
typedef struct BranchForm {
    uint8_t up, down;
    bool last; // the block goes no further
} BranchForm;

static const BranchForm branch_forms[128] = {
    [0x0a] = {6, 6, true},    [0x0b] = {6, 6, true},   [0x4a] = {6, 6, true}, // B, BL
    [0x4b] = {6, 6, true},    [0x2a] = {8, 13, false},                        // B.cond
    [0x1a] = {8, 13, false},  [0x5a] = {8, 13, false},                        // CBZ, CBNZ
    [0x1b] = {13, 18, false}, [0x5b] = {13, 18, false}};                      // TBZ, TBNZ

// May the block that begins with these words go back to its own start, or to what it begins with,
// or anywhere? (Round a loop of blocks at least one does.)
static bool may_loop(const uint8_t *code, uint32_t bytes) {
    enum { AT_ONCE = 16, INDIRECT = 0x6b };
    int32_t n = (int32_t)bytes / 4, end = n; // or where a branch goes
    for (int32_t first = 0; first < end; first += AT_ONCE) {
        uint32_t set = branches(code + 4 * first, (unsigned)MIN(AT_ONCE, n - first));
        for (; set; set &= set - 1) {
            int32_t at = first + __builtin_ctz(set);
            if (at >= end) return false;
            uint32_t w;
            memcpy(&w, code + 4 * at, 4);
            if (w >> 25 == INDIRECT)
                return (w & 0xfffff000) != 0xd65f0000; // RET is foreseen, or goes by who asks
            BranchForm form = branch_forms[w >> 25];
            if (!form.up) continue;
            int32_t words = (int32_t)(w << form.up) >> form.down;
            if (form.last || words <= 0) return at + words <= 0;
            end = MIN(end, at + words);
        }
    }
    return false;
}

static void instruction(DirectLift *l, const GuestLift *how) {
    unsigned row = a64_decode(l->l.insn), number = a64_direct_numbers[row];
    if (number) {
        if (l->open) region_end(l);
        l->d->pc = l->l.pc;
        if (a64_direct_row(l, number, l->l.insn)) return;
    }
    if (!l->open) region_begin(l, how);
    ir_insn(l->l.r, l->l.pc, 4);
    lift_row(&l->l, row);
}

_Static_assert((int)LIFT_MAX_SEGMENTS < (int)GUEST_MOST_SEGMENTS, "the last ends with the block");

// A segment's count stands at its start, and is given the number when it has ended.
typedef struct Segment {
    uint8_t *counted; // NULL: nobody counts
    uint32_t first;
} Segment;

static void segment_begin(Segment *s, DirectLift *l, const GuestLift *how, uint32_t n) {
    s->counted = how->count ? l->say->count(l->d) : NULL;
    s->first = n;
}

static void segment_end(const Segment *s, DirectLift *l, GuestDirect *made, uint32_t n) {
    if (l->open) region_end(l);
    if (s->counted) l->say->counted(l->d, s->counted, n - s->first);
    made->segment_insns[made->n_segments++] = (uint16_t)(n - s->first);
}

void a64_direct_block(const GuestLift *how, IrRegion *r, Direct *d, GuestDirect *made) {
    DirectLift lift = {.say = d->ops, .d = d}, *l = &lift;
    lift_begin(&l->l, r, how);
    d->flags = A64_NZCV;
    d->pc = how->pc;
    *made = (GuestDirect){0};
    uint32_t bytes = 0, n = 0;
    const uint8_t *code = lift_fetch(how, &bytes);
    if (code && may_loop(code, bytes)) d->ops->poll(d);
    Segment segment;
    segment_begin(&segment, l, how, 0);
    if (!code) {
        region_begin(l, how);
        lift_unreadable(&l->l);
    }
    uint32_t at = 0;
    for (; at < bytes && !l->l.ended; at += 4) {
        if (l->l.pc == l->l.join) break;
        memcpy(&l->l.insn, code + at, 4);
        instruction(l, how);
        n++;
        l->l.pc += 4;
        if (!l->l.turns) continue;
        l->l.turns = false;
        segment_end(&segment, l, made, n);
        segment_begin(&segment, l, how, n);
    }
    if (n) n -= l->l.not_executed;
    segment_end(&segment, l, made, n);
    if (!l->l.ended) d->ops->exit(d, l->l.pc);
    made->n_insns = n;
    made->n_ir_insts = l->n_ir_insts;
    made->size_bytes = code ? at : 4;
}
