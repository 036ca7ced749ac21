// direct_rows.c - data processing, loads and stores as they are said directly: what dp_imm.c,
// dp_reg.c and ldst.c lift.
#include "guest/aarch64/direct.h"

// ---- data processing, immediate ----

bool direct_adr(DirectLift *l, const Args_adr *a) {
    uint64_t offset = (uint64_t)((int64_t)a->immhi * 4 + a->immlo), pc = l->l.pc;
    l->say->set(l->d, direct_x(a->rd), a->page ? (pc & ~0xfffull) + (offset << 12) : pc + offset);
    return true;
}

static int32_t imm12(const Args_add_imm *a) {
    return a->imm12 << (a->sh ? 12 : 0);
}

bool direct_add_imm(DirectLift *l, const Args_add_imm *a) {
    l->say->add(l->d, direct_xsp(a->rd), direct_xsp(a->rn), a->sf, imm12(a));
    return true;
}

bool direct_sub_imm(DirectLift *l, const Args_sub_imm *a) {
    l->say->add(l->d, direct_xsp(a->rd), direct_xsp(a->rn), a->sf, -imm12(a));
    return true;
}

static bool set_flags_imm(DirectLift *l, DirectOp op, const Args_adds_imm *a) {
    DirectAlu how = {.op = op, .wide = a->sf, .flags = true};
    l->say->alu_imm(l->d, how, direct_x(a->rd), direct_xsp(a->rn), (uint64_t)imm12(a));
    return true;
}

bool direct_adds_imm(DirectLift *l, const Args_adds_imm *a) {
    return set_flags_imm(l, DIRECT_ADD, a);
}

bool direct_subs_imm(DirectLift *l, const Args_subs_imm *a) {
    return set_flags_imm(l, DIRECT_SUB, a);
}

static bool logical_imm(DirectLift *l, DirectOp op, bool flags, const Args_and_imm *a) {
    uint64_t mask;
    if (!a64_bitmask(a->sf, a->n, a->imms, a->immr, &mask, NULL)) return false;
    DirectAlu how = {.op = op, .wide = a->sf, .flags = flags};
    DirectReg d = flags ? direct_x(a->rd) : direct_xsp(a->rd);
    l->say->alu_imm(l->d, how, d, direct_x(a->rn), mask);
    return true;
}

bool direct_and_imm(DirectLift *l, const Args_and_imm *a) {
    return logical_imm(l, DIRECT_AND, false, a);
}

bool direct_orr_imm(DirectLift *l, const Args_orr_imm *a) {
    return logical_imm(l, DIRECT_OR, false, a);
}

bool direct_eor_imm(DirectLift *l, const Args_eor_imm *a) {
    return logical_imm(l, DIRECT_XOR, false, a);
}

bool direct_ands_imm(DirectLift *l, const Args_ands_imm *a) {
    return logical_imm(l, DIRECT_AND, true, a);
}

bool direct_movz(DirectLift *l, const Args_movz *a) {
    l->say->set(l->d, direct_x(a->rd), (uint64_t)a->imm16 << (a->hw * 16));
    return true;
}

bool direct_movn(DirectLift *l, const Args_movn *a) {
    uint64_t v = ~((uint64_t)a->imm16 << (a->hw * 16));
    l->say->set(l->d, direct_x(a->rd), a->sf ? v : (uint32_t)v);
    return true;
}

bool direct_movk(DirectLift *l, const Args_movk *a) {
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

bool direct_ubfm(DirectLift *l, const Args_ubfm *a) {
    return bitfield(l, a, false);
}

bool direct_sbfm(DirectLift *l, const Args_sbfm *a) {
    return bitfield(l, a, true);
}

// ---- data processing, register ----

static const uint8_t shift_of[] = {DIRECT_SHL, DIRECT_SHR, DIRECT_SAR, DIRECT_ROR}; // A64Shift

bool direct_shift_reg(DirectLift *l, const Args_shift_reg *a) {
    l->say->shift(l->d, (DirectShift)shift_of[a->kind], a->sf, direct_x(a->rd), direct_x(a->rn),
                  direct_x(a->rm));
    return true;
}

bool direct_logic_shift(DirectLift *l, const Args_logic_shift *a) {
    static const uint8_t op[] = {DIRECT_AND, DIRECT_OR, DIRECT_XOR, DIRECT_AND};
    DirectAlu how = {.op = op[a->op],
                     .wide = a->sf,
                     .flags = a->op == 3,
                     .invert = a->inv,
                     .shift = shift_of[a->sh],
                     .amount = a->imm6};
    l->say->alu(l->d, how, direct_x(a->rd), direct_x(a->rn), direct_x(a->rm));
    return true;
}

bool direct_addsub_shift(DirectLift *l, const Args_addsub_shift *a) {
    DirectAlu how = {.op = a->sub ? DIRECT_SUB : DIRECT_ADD,
                     .wide = a->sf,
                     .flags = a->set,
                     .shift = shift_of[a->sh],
                     .amount = a->imm6};
    l->say->alu(l->d, how, direct_x(a->rd), direct_x(a->rn), direct_x(a->rm));
    return true;
}

bool direct_addsub_ext(DirectLift *l, const Args_addsub_ext *a) {
    unsigned bits = 8u << (a->option & 3);
    DirectAlu how = {.op = a->sub ? DIRECT_SUB : DIRECT_ADD,
                     .wide = a->sf,
                     .flags = a->set,
                     .shift = DIRECT_SHL,
                     .amount = a->imm3,
                     .narrow = (uint8_t)(bits < (a->sf ? 64 : 32) ? bits : 0),
                     .sign = a->option & 4};
    DirectReg d = a->set ? direct_x(a->rd) : direct_xsp(a->rd);
    l->say->alu(l->d, how, d, direct_xsp(a->rn), direct_x(a->rm));
    return true;
}

bool direct_ccmp_reg(DirectLift *l, const Args_ccmp_reg *a) {
    if (a->cond >= IR_C_AL) return false;
    DirectCompareIf how = {a->cond, a->sf, !a->sub, a->nzcv};
    l->say->compare_if(l->d, how, direct_x(a->rn), direct_x(a->rm));
    return true;
}

bool direct_ccmp_imm(DirectLift *l, const Args_ccmp_imm *a) {
    if (a->cond >= IR_C_AL) return false;
    DirectCompareIf how = {a->cond, a->sf, !a->sub, a->nzcv};
    l->say->compare_imm_if(l->d, how, direct_x(a->rn), a->imm5);
    return true;
}

bool direct_csel(DirectLift *l, const Args_csel *a) {
    if (a->cond >= IR_C_AL) return false;
    DirectSelect how = {a->cond, a->sf, a->inv, a->inc};
    l->say->select(l->d, how, direct_x(a->rd), direct_x(a->rn), direct_x(a->rm));
    return true;
}

bool direct_madd(DirectLift *l, const Args_madd *a) {
    DirectMul how = {.wide = a->sf, .subtract = a->sub};
    l->say->mul(l->d, how, direct_x(a->rd), direct_x(a->rn), direct_x(a->rm), direct_x(a->ra));
    return true;
}

bool direct_maddl(DirectLift *l, const Args_maddl *a) {
    DirectMul how = {.wide = true, .subtract = a->sub, .narrow = 32, .sign = a->sign};
    l->say->mul(l->d, how, direct_x(a->rd), direct_x(a->rn), direct_x(a->rm), direct_x(a->ra));
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
    return (DirectAccess){.bytes = (uint8_t)(1u << log2_bytes),
                          .sign = sx == 1   ? 64
                                  : sx == 2 ? 32
                                            : 0};
}

static bool load(DirectLift *l, unsigned rt, unsigned log2_bytes, unsigned sx, DirectAddr at) {
    if (at.writeback && direct_x(rt) == at.base) return false;
    l->say->load(l->d, access(log2_bytes, sx), direct_x(rt), &at);
    return true;
}

static bool store(DirectLift *l, unsigned rt, unsigned log2_bytes, DirectAddr at) {
    l->say->store(l->d, access(log2_bytes, 0), direct_x(rt), &at);
    return true;
}

bool direct_str_imm9(DirectLift *l, const Args_str_imm9 *a) {
    return store(l, a->rt, a->sz, address_imm9(a->rn, a->idx, a->imm9));
}

bool direct_ldr_imm9(DirectLift *l, const Args_ldr_imm9 *a) {
    return load(l, a->rt, a->sz, a->sx, address_imm9(a->rn, a->idx, a->imm9));
}

bool direct_str_uimm(DirectLift *l, const Args_str_uimm *a) {
    return store(l, a->rt, a->sz, address(a->rn, INDEX_OFFSET, a->imm12 << a->sz));
}

bool direct_ldr_uimm(DirectLift *l, const Args_ldr_uimm *a) {
    return load(l, a->rt, a->sz, a->sx, address(a->rn, INDEX_OFFSET, a->imm12 << a->sz));
}

bool direct_str_reg(DirectLift *l, const Args_str_reg *a) {
    return store(l, a->rt, a->sz, address_reg(a->rn, a->rm, a->option, a->s ? a->sz : 0));
}

bool direct_ldr_reg(DirectLift *l, const Args_ldr_reg *a) {
    return load(l, a->rt, a->sz, a->sx, address_reg(a->rn, a->rm, a->option, a->s ? a->sz : 0));
}

bool direct_stp(DirectLift *l, const Args_stp *a) {
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

bool direct_ldp(DirectLift *l, const Args_ldp *a) {
    unsigned log2_bytes = a->opc ? 3 : 2;
    return load_pair(l, a->rt, a->rt2, access(log2_bytes, 0),
                     address_pair(a->rn, a->index, a->imm7, log2_bytes));
}

bool direct_ldpsw(DirectLift *l, const Args_ldpsw *a) {
    if (a->index == 0) return false;
    return load_pair(l, a->rt, a->rt2, access(2, 1), address_pair(a->rn, a->index, a->imm7, 2));
}

// ---- of SIMD and FP registers: of 32, 64 and 128 bits ----

static DirectReg vector(unsigned n) {
    return (DirectReg)(A64_V0 + n);
}

static DirectAccess vector_access(unsigned log2_bytes) {
    return (DirectAccess){.bytes = (uint8_t)(1u << log2_bytes), .vector = true};
}

static unsigned vector_size(unsigned q, unsigned sz) {
    return q ? 4 : sz;
}

static bool load_v(DirectLift *l, unsigned rt, unsigned log2_bytes, DirectAddr at) {
    if (log2_bytes < 2 || at.scale > 3) return false;
    l->say->load(l->d, vector_access(log2_bytes), vector(rt), &at);
    return true;
}

static bool store_v(DirectLift *l, unsigned rt, unsigned log2_bytes, DirectAddr at) {
    if (log2_bytes < 2 || at.scale > 3) return false;
    l->say->store(l->d, vector_access(log2_bytes), vector(rt), &at);
    return true;
}

bool direct_str_imm9_v(DirectLift *l, const Args_str_imm9_v *a) {
    return store_v(l, a->rt, vector_size(a->q, a->sz), address_imm9(a->rn, a->idx, a->imm9));
}

bool direct_ldr_imm9_v(DirectLift *l, const Args_ldr_imm9_v *a) {
    return load_v(l, a->rt, vector_size(a->q, a->sz), address_imm9(a->rn, a->idx, a->imm9));
}

bool direct_str_uimm_v(DirectLift *l, const Args_str_uimm_v *a) {
    unsigned size = vector_size(a->q, a->sz);
    return store_v(l, a->rt, size, address(a->rn, INDEX_OFFSET, a->imm12 << size));
}

bool direct_ldr_uimm_v(DirectLift *l, const Args_ldr_uimm_v *a) {
    unsigned size = vector_size(a->q, a->sz);
    return load_v(l, a->rt, size, address(a->rn, INDEX_OFFSET, a->imm12 << size));
}

bool direct_str_reg_v(DirectLift *l, const Args_str_reg_v *a) {
    unsigned size = vector_size(a->q, a->sz);
    return store_v(l, a->rt, size, address_reg(a->rn, a->rm, a->option, a->s ? size : 0));
}

bool direct_ldr_reg_v(DirectLift *l, const Args_ldr_reg_v *a) {
    unsigned size = vector_size(a->q, a->sz);
    return load_v(l, a->rt, size, address_reg(a->rn, a->rm, a->option, a->s ? size : 0));
}

bool direct_stp_v(DirectLift *l, const Args_stp_v *a) {
    unsigned size = 2u + a->opc;
    DirectAddr at = address_pair(a->rn, a->index, a->imm7, size);
    l->say->store_pair(l->d, vector_access(size), vector(a->rt), vector(a->rt2), &at);
    return true;
}

bool direct_ldp_v(DirectLift *l, const Args_ldp_v *a) {
    unsigned size = 2u + a->opc;
    DirectAddr at = address_pair(a->rn, a->index, a->imm7, size);
    if (a->rt == a->rt2) return false;
    l->say->load_pair(l->d, vector_access(size), vector(a->rt), vector(a->rt2), &at);
    return true;
}
