// eval_fp.c - the evaluator's float ops: softfp applied to each element. See eval.h; `out` comes
// zeroed. The element's width gives the format; only scalar conversions look at the operand's type,
// for 128-bit vector types are interchangeable and say nothing of their lanes.
#include "ir/eval.h"
#include "ir/softfp.h"

static uint64_t one(const IrInst *in, SoftFormat f, uint64_t a, uint64_t b, uint64_t c,
                    IrFpEnv *env) {
    switch ((IrOp)in->op) {
    case IR_fadd: return softfp_add(f, a, b, env);
    case IR_fsub: return softfp_sub(f, a, b, env);
    case IR_fmul: return softfp_mul(f, a, b, env);
    case IR_fdiv: return softfp_div(f, a, b, env);
    case IR_fsqrt: return softfp_sqrt(f, a, env);
    case IR_fma: return softfp_fma(f, a, b, c, env);
    case IR_fmin:
    case IR_fmax:
    case IR_fminnum:
    case IR_fmaxnum: return softfp_minmax(f, in->op, a, b, env);
    case IR_fround: return softfp_round(f, a, in->aux, in->aux2 & 1, env);
    default: // vfcmp
        return softfp_holds(in->aux, softfp_compare(f, a, b, in->aux2 & 1, env)) ? ~0ull : 0;
    }
}

static void elementwise(const IrInst *in, const V128 args[3], IrFpEnv *env, V128 *out) {
    unsigned bits = ir_elem_bits(in->type);
    for (unsigned i = 0; i < ir_lanes(in->type); i++)
        lane_set(out, bits, i,
                 one(in, softfp_format(bits), lane_get(&args[0], bits, i),
                     lane_get(&args[1], bits, i), lane_get(&args[2], bits, i), env));
}

static void float_to_float(const IrInst *in, IrType a_type, const V128 *a, IrFpEnv *env,
                           V128 *out) {
    unsigned to = ir_elem_bits(in->type), from = ir_elem_bits(a_type), n = 1, first = 0;
    if (ir_is_vec(in->type)) {
        from = in->imm ? (unsigned)in->imm : to == 32 ? 64 : 32;
        n = 128 / MAX(from, to);
        if (from < to && in->aux) first = n;
    }
    for (unsigned i = 0; i < n; i++)
        lane_set(out, to, i,
                 softfp_convert(softfp_format(from), softfp_format(to),
                                lane_get(a, from, first + i), in->aux2 & 1, env));
}

static void with_integers(const IrInst *in, IrType a_type, const V128 *a, IrFpEnv *env, V128 *out) {
    unsigned to = ir_elem_bits(in->type), from = ir_is_vec(in->type) ? to : ir_elem_bits(a_type);
    unsigned scale = (unsigned)in->imm;
    for (unsigned i = 0; i < ir_lanes(in->type); i++) {
        uint64_t x = lane_get(a, from, i);
        if (in->op == IR_f2s || in->op == IR_f2u)
            x = softfp_to_int(softfp_format(from), x, scale, in->op == IR_f2s, to, in->aux, env);
        else
            x = softfp_from_int(softfp_format(to), x, scale, in->op == IR_s2f, from, env);
        lane_set(out, to, i, x);
    }
}

// N less, Z equal, C greater, equal or unordered, V unordered.
static uint64_t relation_flags(SoftRelation r) {
    switch (r) {
    case SOFT_LESS: return IR_FLAG_N | IR_FLAG_NOT_C;
    case SOFT_EQUAL: return IR_FLAG_Z;
    case SOFT_GREATER: return 0;
    default: return IR_FLAG_V;
    }
}

bool ir_eval_fp(const IrInst *in, IrType a_type, const V128 args[3], IrFpEnv *env, V128 *out) {
    SoftFormat f = softfp_format(ir_elem_bits(a_type)); // of scalar comparisons
    switch ((IrOp)in->op) {
    case IR_fadd:
    case IR_fsub:
    case IR_fmul:
    case IR_fdiv:
    case IR_fsqrt:
    case IR_fma:
    case IR_fmin:
    case IR_fmax:
    case IR_fminnum:
    case IR_fmaxnum:
    case IR_fround:
    case IR_vfcmp: elementwise(in, args, env, out); return true;
    case IR_fcmp:
        out->d[0] =
            softfp_holds(in->aux, softfp_compare(f, args[0].d[0], args[1].d[0], in->aux2 & 1, env));
        return true;
    case IR_fl_fcmp:
        out->d[0] = relation_flags(softfp_compare(f, args[0].d[0], args[1].d[0], in->aux & 1, env));
        return true;
    case IR_fcvt: float_to_float(in, a_type, &args[0], env, out); return true;
    case IR_f2s:
    case IR_f2u:
    case IR_s2f:
    case IR_u2f: with_integers(in, a_type, &args[0], env, out); return true;
    default: return false;
    }
}
