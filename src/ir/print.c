// print.c - a region as text, one line an instruction, in a form that parse.c reads back to the
// same region. Values are numbered by their instruction, so lines without a result take a number
// too; `%12` in a message of the verifier or a log is the twelfth instruction of the region.
//
// Start at ir_print_inst(). The table of forms, ir_text_of(), says how each op's fields are laid
// out; an op that is not named there prints its operands and whatever of aux, aux2, imm is not 0.
#include "ir/text.h"

#include <inttypes.h>

static const char *const cc_names[] = {"eq",  "ne",  "ult", "uge", "ule",
                                       "ugt", "slt", "sge", "sle", "sgt"};
static const char *const cond_names[] = {"eq", "ne", "cs", "cc", "mi", "pl", "vs", "vc",
                                         "hi", "ls", "ge", "lt", "gt", "le", "al", "nv"};
static const char *const fcc_names[] = {"oeq", "une", "olt", "uge", "ole", "ugt",
                                        "ogt", "ule", "oge", "ult", "ord", "uno"};
static const char *const rm_names[] = {"nearest", "up", "down", "zero", "away", "odd", "mode"};
static const char *const rmw_names[] = {"add",  "and",  "or",   "xor",  "xchg",
                                        "smin", "smax", "umin", "umax", "andn"};
static const char *const fence_names[] = {"load", "store", "full"};
static const char *const prefetch_names[] = {"l1", "l2", "l3", "once", "write"};
static const char *const jump_names[] = {"jump", "call", "ret"};
static const char *const trap_names[] = {"syscall",    "undefined",  "unimplemented",
                                         "breakpoint", "flush_code", "mode",
                                         "yield",      "fetch",      "align"};
static const char *const mem_names[] = {"sext",        "acquire", "release",  "atomic",
                                        "nontemporal", "aligned", "within16", "hidden"};

static const struct {
    const char *const *names;
    unsigned n;
} enums[TEXT_ENUM_COUNT] = {
    [TEXT_CC] = {cc_names, ARRAY_LEN(cc_names)},
    [TEXT_COND] = {cond_names, ARRAY_LEN(cond_names)},
    [TEXT_FCC] = {fcc_names, ARRAY_LEN(fcc_names)},
    [TEXT_RM] = {rm_names, ARRAY_LEN(rm_names)},
    [TEXT_RMW] = {rmw_names, ARRAY_LEN(rmw_names)},
    [TEXT_FENCE] = {fence_names, ARRAY_LEN(fence_names)},
    [TEXT_PREFETCH] = {prefetch_names, ARRAY_LEN(prefetch_names)},
    [TEXT_JUMP] = {jump_names, ARRAY_LEN(jump_names)},
    [TEXT_TRAP] = {trap_names, ARRAY_LEN(trap_names)},
};

const char *ir_text_enum(IrTextEnum e, unsigned value) {
    return value < enums[e].n ? enums[e].names[value] : NULL;
}

const char *ir_text_mem(unsigned bit) {
    return bit < ARRAY_LEN(mem_names) ? mem_names[bit] : NULL;
}

const char *ir_text_type(IrType t, char *buf) {
    static const char *const elems[16] = {"void", "i1",  "i8",  "i16", "i32",  "i64",
                                          "i128", "f16", "f32", "f64", "flags"};
    const char *e = elems[ir_elem(t)] ? elems[ir_elem(t)] : "bad";
    if (ir_is_vec(t))
        snprintf(buf, 16, "%sx%u", e, ir_lanes(t));
    else
        snprintf(buf, 16, "%s", e);
    return buf;
}

IrText ir_text_of(IrOp op) {
    switch (op) {
    case IR_const: return (IrText){TEXT_CONST, TEXT_NO_ENUM};
    case IR_get:
    case IR_put: return (IrText){TEXT_FIELD, TEXT_NO_ENUM};
    case IR_insn: return (IrText){TEXT_INSN, TEXT_NO_ENUM};
    case IR_icmp:
    case IR_vcmp: return (IrText){TEXT_PLAIN, TEXT_CC};
    case IR_fcmp:
    case IR_vfcmp: return (IrText){TEXT_PLAIN, TEXT_FCC};
    case IR_cond: return (IrText){TEXT_PLAIN, TEXT_COND};
    case IR_fround: return (IrText){TEXT_PLAIN, TEXT_RM};
    case IR_f2s:
    case IR_f2u: return (IrText){TEXT_SCALE, TEXT_RM};
    case IR_s2f:
    case IR_u2f:
    case IR_fcvt: return (IrText){TEXT_SCALE, TEXT_NO_ENUM};
    case IR_shli:
    case IR_shri:
    case IR_sari:
    case IR_vget:
    case IR_vset:
    case IR_vext:
    case IR_vrev:
    case IR_slot_get:
    case IR_slot_add:
    case IR_slot_put:
    case IR_slot_at:
    case IR_peek:
    case IR_poke:
    case IR_clmul: return (IrText){TEXT_NUM, TEXT_NO_ENUM};
    case IR_load:
    case IR_store:
    case IR_cas: return (IrText){TEXT_MEM, TEXT_NO_ENUM};
    case IR_rmw: return (IrText){TEXT_MEM, TEXT_RMW};
    case IR_fence: return (IrText){TEXT_PLAIN, TEXT_FENCE};
    case IR_prefetch: return (IrText){TEXT_SCALE, TEXT_PREFETCH};
    case IR_call_if:
    case IR_call: return (IrText){TEXT_CALL, TEXT_NO_ENUM};
    case IR_budget:
    case IR_count: return (IrText){TEXT_COUNT, TEXT_NO_ENUM};
    case IR_call_hint:
    case IR_exit_if:
    case IR_exit: return (IrText){TEXT_PC, TEXT_NO_ENUM};
    case IR_exit_ind: return (IrText){TEXT_PLAIN, TEXT_JUMP};
    case IR_trap: return (IrText){TEXT_PC, TEXT_TRAP};
    case IR_jump: return (IrText){TEXT_BLOCK, TEXT_NO_ENUM};
    case IR_br: return (IrText){TEXT_BR, TEXT_NO_ENUM};
    default: return (IrText){TEXT_PLAIN, TEXT_NO_ENUM};
    }
}

// ", " between operands; nothing before the first.
static void operand(Buf *out, unsigned *n, const char *fmt, ...) PRINTF_LIKE(3, 4);
static void operand(Buf *out, unsigned *n, const char *fmt, ...) {
    char text[64];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    buf_printf(out, "%s%s", (*n)++ ? ", " : " ", text);
}

static void print_address(const IrInst *in, Buf *out, unsigned *n) {
    int64_t disp = in->op == IR_rmw ? 0 : in->imm;
    if (disp)
        operand(out, n, "[%%%u %c %" PRIu64 "]", in->a, disp < 0 ? '-' : '+',
                disp < 0 ? 0 - (uint64_t)disp : (uint64_t)disp);
    else
        operand(out, n, "[%%%u]", in->a);
}

static void print_mem_words(const IrInst *in, Buf *out) {
    char type[16];
    buf_printf(out, " mem=%s", ir_text_type(in->aux, type));
    for (unsigned bit = 0; bit < 8; bit++) {
        if (!(in->aux2 >> bit & 1)) continue;
        const char *name = ir_text_mem(bit);
        if (name)
            buf_printf(out, " %s", name);
        else
            buf_printf(out, " bit%u", bit);
    }
    uint64_t behind;
    if (ir_insn_pc(in, 0, &behind)) buf_printf(out, " insn=%" PRIu64, behind);
}

static void print_call(const IrRegion *r, const IrInst *in, Buf *out) {
    if ((uint64_t)in->imm >= r->n_calls) {
        buf_printf(out, " call#%" PRId64, in->imm);
        return;
    }
    const IrCall *c = &r->calls[in->imm];
    buf_printf(out, " %s(", c->helper->name);
    for (unsigned i = 0; i < c->n_args; i++) buf_printf(out, "%s%%%u", i ? ", " : "", c->args[i]);
    buf_printf(out, ")");
    if (c->imm) buf_printf(out, " #%" PRIu64, c->imm);
}

void ir_print_inst(const IrRegion *r, IrRef i, Buf *out) {
    if (i >= r->n_insts) {
        buf_printf(out, "%%%u is out of range", i);
        return;
    }
    const IrInst *in = &r->insts[i];
    if (in->op >= IR_OP_COUNT) {
        buf_printf(out, "op%u", in->op);
        return;
    }
    const IrOpInfo *info = &ir_op_info[in->op];
    IrText text = ir_text_of(in->op);
    char type[16];
    if (in->type != IR_VOID) buf_printf(out, "%%%u = ", i);
    buf_printf(out, "%s", info->name);
    if (info->result == 'T') buf_printf(out, ".%s", ir_text_type(in->type, type));
    if (text.aux) {
        unsigned v = in->op == IR_rmw ? (unsigned)in->imm : in->aux;
        const char *name = ir_text_enum(text.aux, v);
        if (name)
            buf_printf(out, ".%s", name);
        else
            buf_printf(out, ".%u", v);
    }

    const IrRef refs[3] = {in->a, in->b, in->c};
    unsigned n = 0, first = 0;
    bool aux_done = text.aux && in->op != IR_rmw, aux2_done = false;
    if (text.form == TEXT_FIELD) {
        if ((uint64_t)in->imm < r->n_fields)
            operand(out, &n, "%s", r->fields[in->imm].name);
        else
            operand(out, &n, "field%" PRId64, in->imm);
    } else if (text.form == TEXT_MEM) {
        print_address(in, out, &n);
        first = 1;
    }
    for (unsigned k = first; k < info->n_args; k++) operand(out, &n, "%%%u", refs[k]);

    switch ((IrTextForm)text.form) {
    case TEXT_PLAIN:
        if (in->imm) operand(out, &n, "#%" PRId64, in->imm);
        break;
    case TEXT_NUM: operand(out, &n, "#%" PRId64, in->imm); break;
    case TEXT_SCALE:
        if (in->imm) operand(out, &n, "#%" PRId64, in->imm);
        break;
    case TEXT_CONST:
        if (!ir_is_vec(in->type))
            operand(out, &n, (uint64_t)in->imm < 10 ? "%" PRIu64 : "0x%" PRIx64, (uint64_t)in->imm);
        else if ((uint64_t)in->imm < r->n_vconsts)
            operand(out, &n, "0x%" PRIx64 ":0x%" PRIx64, r->vconsts[in->imm].d[1],
                    r->vconsts[in->imm].d[0]);
        else
            operand(out, &n, "vconst#%" PRId64, in->imm);
        break;
    case TEXT_INSN:
        operand(out, &n, "0x%" PRIx64, (uint64_t)in->imm);
        operand(out, &n, "%u", in->aux);
        aux_done = true;
        break;
    case TEXT_PC: operand(out, &n, "0x%" PRIx64, (uint64_t)in->imm); break;
    case TEXT_COUNT: operand(out, &n, "%" PRId64, in->imm); break;
    case TEXT_BLOCK: operand(out, &n, "b%" PRId64, in->imm); break;
    case TEXT_BR:
        operand(out, &n, "b%u", (uint32_t)in->imm);
        operand(out, &n, "b%u", (uint32_t)((uint64_t)in->imm >> 32));
        break;
    case TEXT_MEM:
        print_mem_words(in, out);
        aux_done = aux2_done = true;
        break;
    case TEXT_CALL: print_call(r, in, out); break;
    case TEXT_FIELD: break;
    }
    if (in->aux && !aux_done) buf_printf(out, " aux=%u", in->aux);
    if (in->aux2 && !aux2_done) buf_printf(out, " aux2=%u", in->aux2);
}

void ir_print(const IrRegion *r, Buf *out) {
    buf_printf(out, "region 0x%" PRIx64 " bytes=%u insns=%u%s%s\n", r->pc, r->size_bytes,
               r->n_insns, r->fp_rules == IR_FP_RISCV ? " riscv" : "", r->fp_exact ? " exact" : "");
    for (uint32_t b = 0; b < r->n_blocks; b++) {
        const IrBlock *bl = &r->blocks[b];
        buf_printf(out, "b%u: 0x%" PRIx64 "\n", b, bl->pc);
        uint32_t end = bl->end ? MIN(bl->end, r->n_insts) : r->n_insts; // an unfinished block too
        for (IrRef i = bl->start; i < end; i++) {
            buf_printf(out, "  ");
            ir_print_inst(r, i, out);
            buf_printf(out, "\n");
        }
    }
}
