// ldst.c - loads and stores (C4.1.93) but for exclusives and atomics: rows of ldst.dec.
//
// Every one is: form the address, access, then put what was loaded and the base register, in that
// order; with writeback to the register that is loaded (CONSTRAINED UNPREDICTABLE) the base wins.
// Deviation: SP alignment is not checked.
#include "guest/aarch64/lift.h"
#include "guest/aarch64/pauth.h"

// ---- general registers ----

// The value as it goes to Xt: zero-extended, or with its sign to 64 (sx 1) or 32 (sx 2) bits.
static IrRef load(Lift *l, unsigned log2_bytes, unsigned sx, unsigned flags, A64Addr at) {
    IrType mem = lift_mem_type(log2_bytes);
    if (!sx) return ir_load(l->r, IR_I64, mem, flags, at.base, at.disp);
    return ir_load(l->r, sx == 1 ? IR_I64 : IR_I32, mem, flags | IR_SEXT, at.base, at.disp);
}

static bool load_reg(Lift *l, unsigned rt, unsigned log2_bytes, unsigned sx, A64Addr at) {
    IrRef v = load(l, log2_bytes, sx, 0, at);
    lift_put_reg(l, rt, v);
    lift_writeback(l, at);
    return true;
}

static bool store_reg(Lift *l, unsigned rt, unsigned log2_bytes, A64Addr at) {
    IrType mem = lift_mem_type(log2_bytes);
    ir_store(l->r, mem, 0, at.base, at.disp, lift_reg(l, log2_bytes == 3 ? IR_I64 : IR_I32, rt));
    lift_writeback(l, at);
    return true;
}

// The two low bits of the imm9 forms: unscaled, post, unprivileged (as unscaled at EL0), pre.
static A64Addr addr_imm9(Lift *l, unsigned rn, unsigned idx, int32_t imm9) {
    static const A64Index index[] = {INDEX_OFFSET, INDEX_POST, INDEX_OFFSET, INDEX_PRE};
    return lift_addr(l, rn, index[idx], imm9);
}

// STR{B|H}, STUR, STTR <Xt>, [<Xn|SP>{, #<simm>}]; post- and pre-indexed
bool lift_str_imm9(Lift *l, const Args_str_imm9 *a) {
    return store_reg(l, a->rt, a->sz, addr_imm9(l, a->rn, a->idx, a->imm9));
}

// LDR{S}{B|H|W}, LDUR, LDTR <Xt>, [<Xn|SP>{, #<simm>}]; post- and pre-indexed
bool lift_ldr_imm9(Lift *l, const Args_ldr_imm9 *a) {
    return load_reg(l, a->rt, a->sz, a->sx, addr_imm9(l, a->rn, a->idx, a->imm9));
}

// STR{B|H} <Xt>, [<Xn|SP>{, #<pimm>}]
bool lift_str_uimm(Lift *l, const Args_str_uimm *a) {
    return store_reg(l, a->rt, a->sz,
                     lift_addr(l, a->rn, INDEX_OFFSET, (int64_t)a->imm12 << a->sz));
}

// LDR{S}{B|H|W} <Xt>, [<Xn|SP>{, #<pimm>}]
bool lift_ldr_uimm(Lift *l, const Args_ldr_uimm *a) {
    return load_reg(l, a->rt, a->sz, a->sx,
                    lift_addr(l, a->rn, INDEX_OFFSET, (int64_t)a->imm12 << a->sz));
}

// STR{B|H} <Xt>, [<Xn|SP>, <R><m>{, <extend> {#<amount>}}]
bool lift_str_reg(Lift *l, const Args_str_reg *a) {
    return store_reg(l, a->rt, a->sz, lift_addr_reg(l, a->rn, a->rm, a->option, a->s ? a->sz : 0));
}

// LDR{S}{B|H|W} <Xt>, [<Xn|SP>, <R><m>{, <extend> {#<amount>}}]
bool lift_ldr_reg(Lift *l, const Args_ldr_reg *a) {
    return load_reg(l, a->rt, a->sz, a->sx,
                    lift_addr_reg(l, a->rn, a->rm, a->option, a->s ? a->sz : 0));
}

static A64Addr addr_literal(Lift *l, int32_t words) {
    return (A64Addr){.base = lift_i64(l, l->pc + (uint64_t)((int64_t)words * 4))};
}

// LDR <Xt>, <label>
bool lift_ldr_lit(Lift *l, const Args_ldr_lit *a) {
    return load_reg(l, a->rt, a->w ? 3 : 2, 0, addr_literal(l, a->imm19));
}

// LDRSW <Xt>, <label>
bool lift_ldrsw_lit(Lift *l, const Args_ldrsw_lit *a) {
    return load_reg(l, a->rt, 2, 1, addr_literal(l, a->imm19));
}

// LDRAA, LDRAB <Xt>, [<Xn|SP>{, #<simm>}]{!}
bool lift_ldra(Lift *l, const Args_ldra *a) {
    int64_t offset = bits_sext((uint64_t)a->s << 9 | a->imm9, 10) * 8;
    IrRef base = lift_auth(l, lift_xsp(l, a->rn), lift_i64(l, 0), a->key ? A64_KEY_DB : A64_KEY_DA);
    A64Addr at = {.base = base, .disp = offset, .n = a->rn};
    at.writeback = a->w;
    at.step = offset;
    return load_reg(l, a->rt, 3, 0, at);
}

// PRFM, PRFUM <prfop>, <address>: prfop is PLD, PLI or PST, L1 to L3, KEEP or STRM. To fetch code
// ahead means nothing here, to a fourth level or for a fourth purpose nothing anywhere.
static bool prefetch(Lift *l, unsigned prfop, A64Addr at) {
    enum { FOR_LOAD, FOR_CODE, FOR_STORE };
    unsigned purpose = prfop >> 3, level = prfop >> 1 & 3;
    if (purpose == FOR_CODE || purpose > FOR_STORE || level > 2) return true;
    unsigned how = purpose == FOR_STORE ? IR_PREFETCH_WRITE
                   : prfop & 1          ? IR_PREFETCH_ONCE
                                        : IR_PREFETCH_L1 + level;
    ir_emit(l->r, IR_prefetch, IR_VOID, at.base, 0, 0, how, 0, at.disp);
    return true;
}

bool lift_prfm_lit(Lift *l, const Args_prfm_lit *a) {
    return prefetch(l, a->rt, addr_literal(l, a->imm19));
}

bool lift_prfm_reg(Lift *l, const Args_prfm_reg *a) {
    return prefetch(l, a->rt, lift_addr_reg(l, a->rn, a->rm, a->option, a->s ? 3 : 0));
}

bool lift_prfm_uimm(Lift *l, const Args_prfm_uimm *a) {
    return prefetch(l, a->rt, lift_addr(l, a->rn, INDEX_OFFSET, (int64_t)a->imm12 << 3));
}

bool lift_prfum(Lift *l, const Args_prfum *a) {
    return prefetch(l, a->rt, addr_imm9(l, a->rn, 0, a->imm9));
}

// ---- pairs: index 0 is the non-temporal form, 1 post, 2 offset, 3 pre ----

static A64Addr addr_pair(Lift *l, unsigned rn, unsigned index, int32_t imm7, unsigned log2_bytes) {
    static const A64Index kind[] = {INDEX_OFFSET, INDEX_POST, INDEX_OFFSET, INDEX_PRE};
    return lift_addr(l, rn, kind[index], (int64_t)imm7 * (1 << log2_bytes));
}

// STP, STNP <Xt1>, <Xt2>, [<Xn|SP>{, #<imm>}]; post- and pre-indexed
bool lift_stp(Lift *l, const Args_stp *a) {
    unsigned log2_bytes = a->opc ? 3 : 2;
    IrType t = lift_mem_type(log2_bytes);
    A64Addr at = addr_pair(l, a->rn, a->index, a->imm7, log2_bytes);
    ir_store(l->r, t, 0, at.base, at.disp, lift_reg(l, t, a->rt));
    ir_store(l->r, t, 0, at.base, at.disp + (1 << log2_bytes), lift_reg(l, t, a->rt2));
    lift_writeback(l, at);
    return true;
}

static bool load_pair(Lift *l, unsigned rt, unsigned rt2, unsigned log2_bytes, unsigned sx,
                      A64Addr at) {
    A64Addr at2 = at;
    at2.disp += 1 << log2_bytes;
    IrRef v = load(l, log2_bytes, sx, 0, at), v2 = load(l, log2_bytes, sx, 0, at2);
    lift_put_reg(l, rt, v);
    lift_put_reg(l, rt2, v2);
    lift_writeback(l, at);
    return true;
}

// LDP, LDNP <Xt1>, <Xt2>, [<Xn|SP>{, #<imm>}]; post- and pre-indexed
bool lift_ldp(Lift *l, const Args_ldp *a) {
    unsigned log2_bytes = a->opc ? 3 : 2;
    return load_pair(l, a->rt, a->rt2, log2_bytes, 0,
                     addr_pair(l, a->rn, a->index, a->imm7, log2_bytes));
}

// LDPSW <Xt1>, <Xt2>, [<Xn|SP>{, #<imm>}]; post- and pre-indexed
bool lift_ldpsw(Lift *l, const Args_ldpsw *a) {
    if (a->index == 0) return false;
    return load_pair(l, a->rt, a->rt2, 2, 1, addr_pair(l, a->rn, a->index, a->imm7, 2));
}

// ---- ordered accesses with an offset (LRCPC2) ----

// STLUR{B|H} <Xt>, [<Xn|SP>{, #<simm>}]
bool lift_stlur(Lift *l, const Args_stlur *a) {
    A64Addr at = lift_addr(l, a->rn, INDEX_OFFSET, a->imm9);
    IrRef v = lift_reg(l, a->sz == 3 ? IR_I64 : IR_I32, a->rt);
    ir_store(l->r, lift_mem_type(a->sz), IR_ACQUIRE | IR_RELEASE, at.base, at.disp, v);
    return true;
}

// LDAPUR{S}{B|H|W} <Xt>, [<Xn|SP>{, #<simm>}]
bool lift_ldapur(Lift *l, const Args_ldapur *a) {
    A64Addr at = lift_addr(l, a->rn, INDEX_OFFSET, a->imm9);
    lift_put_reg(l, a->rt, load(l, a->sz, a->sx, IR_ACQUIRE, at));
    return true;
}

// ---- SIMD and FP registers ----

// As a scalar of the FP kind, so that the value lives where it will be used.
static IrType v_type(unsigned log2_bytes) {
    static const IrType t[] = {IR_I8, IR_F16, IR_F32, IR_F64, IR_V128};
    return t[log2_bytes];
}

static IrRef load_v(Lift *l, unsigned log2_bytes, IrRef base, int64_t disp) {
    IrType t = v_type(log2_bytes);
    return ir_load(l->r, t, t, 0, base, disp);
}

static void put_v(Lift *l, unsigned rt, IrRef v) {
    if (ir_is_vec(ir_type(l->r, v)))
        lift_put_v(l, rt, v);
    else
        lift_put_f(l, rt, v);
}

static bool load_reg_v(Lift *l, unsigned rt, unsigned log2_bytes, A64Addr at) {
    put_v(l, rt, load_v(l, log2_bytes, at.base, at.disp));
    lift_writeback(l, at);
    return true;
}

static bool store_reg_v(Lift *l, unsigned rt, unsigned log2_bytes, A64Addr at) {
    IrType t = v_type(log2_bytes);
    ir_store(l->r, t, 0, at.base, at.disp, lift_f(l, t, rt));
    lift_writeback(l, at);
    return true;
}

static unsigned v_size(unsigned q, unsigned sz) {
    return q ? 4 : sz;
}

// STR, STUR <B|H|S|D|Q>t, [<Xn|SP>{, #<simm>}]; post- and pre-indexed
bool lift_str_imm9_v(Lift *l, const Args_str_imm9_v *a) {
    return store_reg_v(l, a->rt, v_size(a->q, a->sz), addr_imm9(l, a->rn, a->idx, a->imm9));
}

// LDR, LDUR <B|H|S|D|Q>t, [<Xn|SP>{, #<simm>}]; post- and pre-indexed
bool lift_ldr_imm9_v(Lift *l, const Args_ldr_imm9_v *a) {
    return load_reg_v(l, a->rt, v_size(a->q, a->sz), addr_imm9(l, a->rn, a->idx, a->imm9));
}

// STR <B|H|S|D|Q>t, [<Xn|SP>{, #<pimm>}]
bool lift_str_uimm_v(Lift *l, const Args_str_uimm_v *a) {
    unsigned size = v_size(a->q, a->sz);
    return store_reg_v(l, a->rt, size,
                       lift_addr(l, a->rn, INDEX_OFFSET, (int64_t)a->imm12 << size));
}

// LDR <B|H|S|D|Q>t, [<Xn|SP>{, #<pimm>}]
bool lift_ldr_uimm_v(Lift *l, const Args_ldr_uimm_v *a) {
    unsigned size = v_size(a->q, a->sz);
    return load_reg_v(l, a->rt, size, lift_addr(l, a->rn, INDEX_OFFSET, (int64_t)a->imm12 << size));
}

// STR <B|H|S|D|Q>t, [<Xn|SP>, <R><m>{, <extend> {#<amount>}}]
bool lift_str_reg_v(Lift *l, const Args_str_reg_v *a) {
    unsigned size = v_size(a->q, a->sz);
    return store_reg_v(l, a->rt, size, lift_addr_reg(l, a->rn, a->rm, a->option, a->s ? size : 0));
}

// LDR <B|H|S|D|Q>t, [<Xn|SP>, <R><m>{, <extend> {#<amount>}}]
bool lift_ldr_reg_v(Lift *l, const Args_ldr_reg_v *a) {
    unsigned size = v_size(a->q, a->sz);
    return load_reg_v(l, a->rt, size, lift_addr_reg(l, a->rn, a->rm, a->option, a->s ? size : 0));
}

// LDR <S|D|Q>t, <label>
bool lift_ldr_lit_v(Lift *l, const Args_ldr_lit_v *a) {
    return load_reg_v(l, a->rt, 2u + a->opc, addr_literal(l, a->imm19));
}

// STP, STNP <S|D|Q>t1, <S|D|Q>t2, [<Xn|SP>{, #<imm>}]; post- and pre-indexed
bool lift_stp_v(Lift *l, const Args_stp_v *a) {
    unsigned size = 2u + a->opc;
    IrType t = v_type(size);
    A64Addr at = addr_pair(l, a->rn, a->index, a->imm7, size);
    ir_store(l->r, t, 0, at.base, at.disp, lift_f(l, t, a->rt));
    ir_store(l->r, t, 0, at.base, at.disp + (1 << size), lift_f(l, t, a->rt2));
    lift_writeback(l, at);
    return true;
}

// LDP, LDNP <S|D|Q>t1, <S|D|Q>t2, [<Xn|SP>{, #<imm>}]; post- and pre-indexed
bool lift_ldp_v(Lift *l, const Args_ldp_v *a) {
    unsigned size = 2u + a->opc;
    A64Addr at = addr_pair(l, a->rn, a->index, a->imm7, size);
    IrRef v = load_v(l, size, at.base, at.disp),
          v2 = load_v(l, size, at.base, at.disp + (1 << size));
    put_v(l, a->rt, v);
    put_v(l, a->rt2, v2);
    lift_writeback(l, at);
    return true;
}
