// verify.c - is this a region that a host may trust? Checked are: blocks and their one terminator,
// types by the argument letters of ops.def and what single ops ask beyond them, ranges of
// everything that is an index, dominance of uses by definitions, and the order of effects that
// exactness rests on: between two `insn` marks nothing that can fault follows a change of guest
// state.
//
// Start at ir_verify(). Pure; scratch memory is its own.
#include "ir/text.h"

#include <errno.h>
#include <stdlib.h>

typedef struct Check {
    const IrRegion *r;
    DgmErr *err;
    uint64_t *dom;      // n_blocks rows of `words`: bit d of row b says that d dominates b
    uint32_t *block_of; // per instruction; only with several blocks
    uint32_t words;
} Check;

static bool fail(const Check *c, IrRef i, const char *fmt, ...) PRINTF_LIKE(3, 4);
static bool fail(const Check *c, IrRef i, const char *fmt, ...) {
    char why[200];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(why, sizeof why, fmt, ap);
    va_end(ap);
    Buf line = {0};
    ir_print_inst(c->r, i, &line);
    err_set(c->err, -EINVAL, "instruction %u `%s`: %s", i, line.data ? line.data : "", why);
    buf_free(&line);
    return false;
}

static bool is_terminator(unsigned op) {
    return op == IR_exit || op == IR_exit_ind || op == IR_trap || op == IR_jump || op == IR_br;
}

static bool type_ok(IrType t) {
    if (ir_elem(t) >= IR_ELEM_COUNT) return false;
    return !ir_is_vec(t) || (ir_elem(t) >= IR_I8 && ir_elem(t) <= IR_F64 && ir_elem_bits(t) <= 64 &&
                             ir_bytes(t) == 16);
}

static bool same_type(IrType a, IrType b) {
    return a == b || (ir_is_vec(a) && ir_is_vec(b));
}

// ---- operands ----

static bool letter_ok(const Check *c, const IrInst *in, char letter, IrType t) {
    IrType a = c->r->insts[in->a].type;
    switch (letter) {
    case 't': return same_type(in->type, t);
    case 'n': return t == a && !ir_is_vec(t) && (ir_is_int(t) || ir_is_float(t));
    case 'i': return ir_is_int(t) && !ir_is_vec(t);
    case 'p': return t == IR_I64;
    case 'b': return t == IR_I1;
    case 'g': return t == IR_FLAGS;
    case 'v': return ir_is_vec(t);
    case 's': return t == (IrType)ir_elem(in->type);
    case 'h': return ir_is_vec(t) || ir_is_int(t);
    default: return t != IR_VOID;
    }
}

static bool check_ref(const Check *c, IrRef i, IrRef v) {
    if (v == 0) return fail(c, i, "an operand is missing");
    if (v >= i) return fail(c, i, "%%%u is used before it is defined", v);
    if (c->r->insts[v].type == IR_VOID) return fail(c, i, "%%%u has no value", v);
    if (c->block_of) {
        uint32_t use = c->block_of[i], def = c->block_of[v];
        if (!(c->dom[(size_t)use * c->words + def / 64] >> (def % 64) & 1))
            return fail(c, i, "%%%u is defined in b%u, which does not dominate b%u", v, def, use);
    }
    return true;
}

static bool check_operands(const Check *c, IrRef i) {
    const IrInst *in = &c->r->insts[i];
    const IrOpInfo *info = &ir_op_info[in->op];
    const IrRef refs[3] = {in->a, in->b, in->c};
    for (unsigned k = 0; k < info->n_args; k++)
        if (!check_ref(c, i, refs[k])) return false;
    for (unsigned k = 0; k < info->n_args; k++) {
        char type[16];
        IrType t = c->r->insts[refs[k]].type;
        if (!letter_ok(c, in, info->args[k], t))
            return fail(c, i, "operand %%%u is %s, which is not what letter '%c' asks", refs[k],
                        ir_text_type(t, type), info->args[k]);
    }
    return true;
}

// ---- what single ops ask beyond their letters; NULL when content ----

static bool is_scalar_int(IrType t) {
    return ir_is_int(t) && !ir_is_vec(t);
}
static bool is_lanes(IrType t, IrElem lo, IrElem hi) {
    return ir_is_vec(t) && ir_elem(t) >= lo && ir_elem(t) <= hi;
}

static const char *check_mem(const IrInst *in) {
    IrType t = in->op == IR_store ? IR_VOID : in->type;
    if (!type_ok(in->aux) || in->aux == IR_VOID || in->aux == IR_I1) return "bad type in memory";
    if (t != IR_VOID && ir_bytes(in->aux) > ir_bytes(t)) return "memory is wider than the result";
    if ((in->aux2 & IR_SEXT) && !(is_scalar_int(t) && is_scalar_int(in->aux)))
        return "sign extension of what is no integer";
    if ((in->aux2 & IR_SEXT) && in->op != IR_load) return "only loads extend with the sign";
    if (in->op == IR_rmw) {
        if ((uint64_t)in->imm > IR_RMW_ANDN) return "unknown read-modify-write";
        if (!is_scalar_int(t) || t > IR_I64 || !is_scalar_int(in->aux)) return "not an integer";
    }
    if (in->op == IR_cas && in->imm) return "cas has no displacement";
    return NULL;
}

static const char *check_convert(const IrInst *in, IrType a) {
    unsigned to = ir_elem_bits(in->type), from = ir_elem_bits(a);
    switch (in->op) {
    case IR_zext:
    case IR_sext: return is_scalar_int(in->type) && to > from ? NULL : "must widen an integer";
    case IR_trunc: return is_scalar_int(in->type) && to < from ? NULL : "must narrow an integer";
    case IR_bitcast:
        if (in->type == IR_FLAGS || a == IR_FLAGS) return "flags are not for bitcast";
        return ir_bytes(in->type) == ir_bytes(a) && (in->type == IR_I1) == (a == IR_I1)
                   ? NULL
                   : "widths differ";
    case IR_fcvt:
        if (!ir_is_float(in->type)) return "not a float";
        if (!ir_is_vec(in->type))
            return ir_is_float(a) && !ir_is_vec(a) && a != in->type ? NULL
                                                                    : "needs another scalar float";
        if (!ir_is_vec(a)) return "needs lanes";
        if (in->imm && in->imm * 2 != to && in->imm != to * 2) return "imm is no width of lanes";
        return in->imm == 8 || in->imm == 128 ? "imm is no width of lanes" : NULL;
    case IR_f2s:
    case IR_f2u:
        if (!ir_is_int(in->type) || to < 16 || to > 64) return "not an integer of 16 to 64 bits";
        if (in->aux > IR_RM_MODE || in->aux == IR_RM_ODD) return "bad rounding";
        if (in->imm < 0 || in->imm > 64) return "scale out of range";
        if (ir_is_vec(in->type)) return ir_is_vec(a) ? NULL : "needs lanes";
        return ir_is_float(a) && !ir_is_vec(a) ? NULL : "needs a scalar float";
    default: // s2f, u2f
        if (!ir_is_float(in->type)) return "not a float";
        if (in->imm < 0 || in->imm > 64) return "scale out of range";
        if (ir_is_vec(in->type) != ir_is_vec(a)) return "lanes from a scalar or the reverse";
        return ir_is_vec(a) || (from >= 8 && from <= 64) ? NULL : "bad integer";
    }
}

static const char *check_lane_op(const IrInst *in, IrType a) {
    IrType t = in->type;
    switch (in->op) {
    case IR_splat: return ir_is_vec(t) ? NULL : "not a vector";
    case IR_vzext:
        return ir_is_vec(t) && !ir_is_vec(a) && a != IR_I1 && a != IR_FLAGS ? NULL
                                                                            : "wants a scalar";
    case IR_vget:
        if (ir_is_vec(t) || ir_elem_bits(t) < 8 || t > IR_F64) return "lane of no scalar type";
        return in->imm >= 0 && (uint64_t)in->imm < 128 / ir_elem_bits(t) ? NULL : "no such lane";
    case IR_vset:
        if (!ir_is_vec(t)) return "not a vector";
        return in->imm >= 0 && (uint64_t)in->imm < ir_lanes(t) ? NULL : "no such lane";
    case IR_shli:
    case IR_shri:
    case IR_sari:
        return ir_is_vec(t) && ir_is_int(t) && in->imm >= 0 ? NULL : "wants lanes and an amount";
    case IR_vext: return ir_is_vec(t) && in->imm >= 0 && in->imm <= 16 ? NULL : "bad byte index";
    case IR_vrev:
        return ir_is_vec(t) && (in->imm == 2 || in->imm == 4 || in->imm == 8 || in->imm == 16) &&
                       ir_elem_bits(t) <= in->imm * 8
                   ? NULL
                   : "bad group";
    case IR_clmul: return ir_is_vec(t) && (in->imm & ~3) == 0 ? NULL : "bad lanes";
    case IR_vdot: return t == IR_I32X4 && in->aux <= 2 ? NULL : "wants I32 lanes and aux 0 to 2";
    case IR_vlow:
    case IR_vpair: return ir_is_vec(t) ? NULL : "not a vector";
    case IR_ziplo:
    case IR_ziphi:
    case IR_uzpe:
    case IR_uzpo:
    case IR_trne:
    case IR_trno: return ir_is_vec(t) ? NULL : "not a vector";
    case IR_tbl:
    case IR_aes_enc:
    case IR_aes_dec:
    case IR_aes_mix:
    case IR_aes_imix: return ir_is_vec(t) ? NULL : "not a vector";
    case IR_vzextl:
    case IR_vsextl:
    case IR_vzexth:
    case IR_vsexth:
    case IR_vsmull:
    case IR_vumull:
    case IR_vsmull2:
    case IR_vumull2: return is_lanes(t, IR_I16, IR_I64) ? NULL : "wants lanes of I16 to I64";
    case IR_vtrunc:
    case IR_vsqxtn:
    case IR_vsqxtun:
    case IR_vuqxtn: return is_lanes(t, IR_I8, IR_I32) ? NULL : "wants lanes of I8 to I32";
    default: // saturating and halving
        return is_lanes(t, IR_I8, IR_I64) ? NULL : "wants integer lanes";
    }
}

static const char *check_arith(const IrInst *in, IrType a) {
    IrType t = in->type;
    unsigned bits = ir_elem_bits(t);
    switch (in->op) {
    case IR_and:
    case IR_or:
    case IR_xor:
    case IR_andn:
    case IR_not: return ir_is_int(t) || ir_is_vec(t) ? NULL : "wants an integer";
    case IR_bsl: return ir_is_int(t) || ir_is_vec(t) ? NULL : "wants an integer";
    case IR_umulh:
    case IR_smulh:
        return ir_is_int(t) && (ir_is_vec(t) ? bits == 16 : bits == 32 || bits == 64)
                   ? NULL
                   : "wants I16 lanes, I32 or I64";
    case IR_udiv:
    case IR_sdiv:
    case IR_ror: return is_scalar_int(t) && bits >= 8 && bits <= 64 ? NULL : "wants a scalar";
    case IR_popcnt:
    case IR_rbit:
        return ir_is_int(t) && (ir_is_vec(t) ? bits == 8 : bits == 32 || bits == 64)
                   ? NULL
                   : "wants I8 lanes, I32 or I64";
    case IR_icmp:
        if (in->aux > IR_SGT) return "unknown condition";
        return is_scalar_int(a) && ir_elem_bits(a) <= 64 ? NULL : "wants scalar integers";
    case IR_vcmp:
        if (in->aux > IR_SGT) return "unknown condition";
        return is_lanes(t, IR_I8, IR_I64) ? NULL : "wants integer lanes";
    case IR_fl_add:
    case IR_fl_sub:
    case IR_fl_adc:
    case IR_fl_logic: return a == IR_I32 || a == IR_I64 ? NULL : "wants I32 or I64";
    case IR_fl_fcmp: return ir_is_float(a) && !ir_is_vec(a) ? NULL : "wants scalar floats";
    case IR_fl_pack: return a == IR_I32 ? NULL : "wants I32";
    case IR_fl_unpack: return t == IR_I32 ? NULL : "gives I32";
    case IR_cond: return in->aux <= IR_C_NV ? NULL : "unknown condition";
    default:
        if (bits > 64 || t == IR_I1) return "wants an integer of 8 to 64 bits";
        return ir_is_int(t) ? NULL : "wants an integer";
    }
}

static const char *check_float(const IrInst *in, IrType a) {
    switch (in->op) {
    case IR_fcmp:
        if (in->aux > IR_UNO) return "unknown predicate";
        return ir_is_float(a) && !ir_is_vec(a) ? NULL : "wants scalar floats";
    case IR_vfcmp:
        if (in->aux > IR_UNO) return "unknown predicate";
        return ir_is_float(in->type) && ir_is_vec(in->type) ? NULL : "wants float lanes";
    case IR_fround:
        if (in->aux > IR_RM_MODE || in->aux == IR_RM_ODD) return "bad rounding";
        break;
    default: break;
    }
    return ir_is_float(in->type) ? NULL : "wants a float";
}

static const char *check_state(const IrRegion *r, const IrInst *in, IrType a) {
    if (in->op == IR_insn) return NULL;
    if ((uint64_t)in->imm >= r->n_fields) return "no such guest register";
    IrType full = r->fields[in->imm].type;
    if (in->op == IR_put)
        return ir_bytes(a) == ir_bytes(full) && ir_is_vec(a) == ir_is_vec(full)
                   ? NULL
                   : "not the register's width";
    return ir_bytes(in->type) <= ir_bytes(full) ? NULL : "wider than the register";
}

static const char *check_leave(const IrRegion *r, const IrInst *in) {
    switch (in->op) {
    case IR_exit_ind: return in->aux <= IR_JUMP_RET ? NULL : "unknown kind of jump";
    case IR_trap: return in->aux <= IR_TRAP_ALIGN ? NULL : "unknown trap";
    case IR_jump: return (uint64_t)in->imm < r->n_blocks ? NULL : "no such block";
    case IR_br:
        return (uint32_t)in->imm < r->n_blocks && (uint64_t)in->imm >> 32 < r->n_blocks
                   ? NULL
                   : "no such block";
    case IR_budget: return in->imm >= 0 ? NULL : "negative";
    default: return NULL;
    }
}

static const char *check_op(const IrRegion *r, const IrInst *in) {
    IrType a = r->insts[in->a].type;
    if (in->op >= IR_fadd && in->op <= IR_vfcmp) return check_float(in, a);
    if (in->op >= IR_splat && in->op <= IR_aes_imix) return check_lane_op(in, a);
    switch (in->op) {
    case IR_get:
    case IR_put:
    case IR_insn: return check_state(r, in, a);
    case IR_const:
        if (ir_is_vec(in->type))
            return (uint64_t)in->imm < r->n_vconsts ? NULL : "no such constant";
        return ((uint64_t)in->imm & ~bits_mask(ir_elem_bits(in->type))) == 0
                   ? NULL
                   : "bits above the width";
    case IR_select: return NULL;
    case IR_zext:
    case IR_sext:
    case IR_trunc:
    case IR_bitcast:
    case IR_fcvt:
    case IR_f2s:
    case IR_f2u:
    case IR_s2f:
    case IR_u2f: return check_convert(in, a);
    case IR_shli:
    case IR_shri:
    case IR_sari: return check_lane_op(in, a);
    case IR_fround: return check_float(in, a);
    case IR_fp_flags: return in->type == IR_I32 ? NULL : "gives I32";
    case IR_fp_setflags:
    case IR_fp_setmode: return a == IR_I32 ? NULL : "wants I32";
    case IR_store:
        if (ir_bytes(in->aux) > ir_bytes(r->insts[in->b].type))
            return "memory is wider than the value";
        return check_mem(in);
    case IR_load:
    case IR_cas:
    case IR_rmw: return check_mem(in);
    case IR_prefetch: return in->aux <= IR_PREFETCH_WRITE ? NULL : "unknown prefetch";
    case IR_fence: return in->aux <= IR_FENCE_FULL ? NULL : "unknown fence";
    case IR_call:
    case IR_call_if: return (uint64_t)in->imm < r->n_calls ? NULL : "no such call";
    case IR_slot_get:
    case IR_slot_at:
    case IR_peek:
    case IR_executed: return in->type == IR_I64 && in->imm >= 0 ? NULL : "gives I64";
    case IR_slot_add:
    case IR_slot_put: return a == IR_I64 && in->imm >= 0 ? NULL : "wants I64";
    case IR_poke: return r->insts[in->b].type == IR_I64 ? NULL : "wants I64";
    case IR_budget:
    case IR_count:
    case IR_call_hint:
    case IR_exit_if:
    case IR_exit:
    case IR_exit_ind:
    case IR_trap:
    case IR_jump:
    case IR_br: return check_leave(r, in);
    default: return check_arith(in, a);
    }
}

static bool check_call(const Check *c, IrRef i) {
    const IrInst *in = &c->r->insts[i];
    const IrCall *call = &c->r->calls[in->imm];
    if (!call->helper || call->n_args > 4) return fail(c, i, "bad call");
    for (unsigned k = 0; k < call->n_args; k++) {
        if (!check_ref(c, i, call->args[k])) return false;
        IrType t = c->r->insts[call->args[k]].type;
        if (call->helper->vec ? k < 3 && !ir_is_vec(t) : ir_is_vec(t))
            return fail(c, i, "argument %%%u does not fit the helper's shape", call->args[k]);
    }
    for (unsigned k = 0; in->op == IR_call_if && k < call->n_args; k++)
        if (c->r->insts[call->args[k]].op != IR_const || call->helper->vec ||
            call->helper->can_fault)
            return fail(c, i, "not a call that may be left out");
    if (in->type != IR_VOID && ir_is_vec(in->type) != call->helper->vec)
        return fail(c, i, "the result does not fit the helper's shape");
    return true;
}

static bool check_inst(const Check *c, IrRef i) {
    const IrInst *in = &c->r->insts[i];
    if (in->op == IR_NOP) return true; // what a pass removed
    if (in->op >= IR_OP_COUNT) return fail(c, i, "no such op");
    if (!type_ok(in->type)) return fail(c, i, "no such type");
    char result = ir_op_info[in->op].result;
    if (result == 'B'   ? in->type != IR_I1
        : result == 'G' ? in->type != IR_FLAGS
        : result == '-' ? in->type != IR_VOID
                        : in->type == IR_VOID && in->op != IR_call)
        return fail(c, i, "the result has the wrong type");
    if (!check_operands(c, i)) return false;
    const char *why = check_op(c->r, in);
    if (why) return fail(c, i, "%s", why);
    return in->op == IR_call || in->op == IR_call_if ? check_call(c, i) : true;
}

// ---- effects ----

static bool can_fault(const IrRegion *r, const IrInst *in) {
    if (in->op == IR_call) return r->calls[in->imm].helper->can_fault;
    return ir_op_info[in->op].effect == IR_MEM && in->op != IR_fence;
}

static bool check_order(const Check *c, const IrBlock *b) {
    IrRef changed = 0; // what changed guest state since the last mark
    uint64_t insn = c->r->pc;
    for (IrRef i = b->start; i < b->end; i++) {
        const IrInst *in = &c->r->insts[i];
        uint64_t pc = insn;
        if (in->op == IR_insn)
            pc = (uint64_t)in->imm;
        else
            ir_insn_pc(in, c->r->pc, &pc);
        if (in->op == IR_insn || pc != insn) changed = 0;
        insn = pc;
        if (changed && can_fault(c->r, in))
            return fail(c, i, "can fault after instruction %u changed guest state", changed);
        if (in->op == IR_put || (in->op == IR_call && c->r->calls[in->imm].helper->writes_state))
            changed = i;
    }
    return true;
}

// ---- blocks ----

static unsigned successors(const IrRegion *r, const IrBlock *b, uint32_t out[2]) {
    const IrInst *in = &r->insts[b->end - 1];
    if (in->op != IR_jump && in->op != IR_br) return 0;
    out[0] = (uint32_t)in->imm;
    out[1] = (uint32_t)((uint64_t)in->imm >> 32);
    return in->op == IR_br ? 2 : 1;
}

static bool check_blocks(const Check *c) {
    const IrRegion *r = c->r;
    if (r->n_blocks == 0 || r->n_insts == 0) {
        err_set(c->err, -EINVAL, "region has no block");
        return false;
    }
    uint32_t at = 1;
    for (uint32_t b = 0; b < r->n_blocks; b++) {
        const IrBlock *bl = &r->blocks[b];
        if (bl->start < at || bl->end <= bl->start || bl->end > r->n_insts) {
            err_set(c->err, -EINVAL, "b%u has bad bounds [%u, %u)", b, bl->start, bl->end);
            return false;
        }
        at = bl->end;
        for (IrRef i = bl->start; i < bl->end; i++) {
            if (i + 1 < bl->end && is_terminator(r->insts[i].op))
                return fail(c, i, "ends b%u before its last instruction", b);
            if (i + 1 == bl->end && !is_terminator(r->insts[i].op))
                return fail(c, i, "b%u does not end with a terminator", b);
        }
        const char *why = check_leave(r, &r->insts[bl->end - 1]);
        if (why) return fail(c, bl->end - 1, "%s", why);
    }
    return true;
}

// dom[b] = {b} and what dominates every predecessor; starts full, shrinks to the fixed point.
static bool find_dominators(Check *c) {
    const IrRegion *r = c->r;
    c->words = (r->n_blocks + 63) / 64;
    size_t row = c->words * sizeof(uint64_t);
    c->dom = malloc(r->n_blocks * row);
    c->block_of = calloc(r->n_insts, sizeof *c->block_of);
    if (!c->dom || !c->block_of) return false;
    memset(c->dom, 0xff, r->n_blocks * row);
    memset(c->dom, 0, row);
    c->dom[0] = 1;
    for (uint32_t b = 0; b < r->n_blocks; b++)
        for (IrRef i = r->blocks[b].start; i < r->blocks[b].end; i++) c->block_of[i] = b;
    for (bool changed = true; changed;) {
        changed = false;
        for (uint32_t b = 0; b < r->n_blocks; b++) {
            uint32_t next[2];
            for (unsigned n = successors(r, &r->blocks[b], next); n-- > 0;) {
                uint64_t *to = &c->dom[(size_t)next[n] * c->words];
                const uint64_t *from = &c->dom[(size_t)b * c->words];
                for (uint32_t w = 0; w < c->words; w++) {
                    uint64_t keep = from[w] | (next[n] / 64 == w ? 1ull << next[n] % 64 : 0);
                    if (to[w] & ~keep) changed = true;
                    to[w] &= keep;
                }
            }
        }
    }
    return true;
}

bool ir_verify(const IrRegion *r, DgmErr *err) {
    Check c = {.r = r, .err = err};
    if (r->failed) {
        err_set(err, -ENOMEM, "region: out of memory while it was built");
        return false;
    }
    if (!check_blocks(&c)) return false;
    bool ok = true;
    if (r->n_blocks > 1 && !find_dominators(&c)) {
        err_set(err, -ENOMEM, "verifier: out of memory");
        ok = false;
    }
    for (uint32_t b = 0; ok && b < r->n_blocks; b++) {
        for (IrRef i = r->blocks[b].start; ok && i < r->blocks[b].end; i++) ok = check_inst(&c, i);
        ok = ok && check_order(&c, &r->blocks[b]);
    }
    free(c.dom);
    free(c.block_of);
    return ok;
}
