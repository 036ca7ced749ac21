// ops.c - the ops table as data: one IrOpInfo per row of ops.def. Nothing else in the house lists
// the ops; what needs to know an op's shape reads it here.
#include "ir/ir.h"

const IrOpInfo ir_op_info[IR_OP_COUNT] = {
    [IR_NOP] = {"nop", "", "nothing; value 0 is no value", '-', 0, IR_PURE},
#define IR_OP(name, result, args, effects, meaning)                                                \
    [IR_##name] = {#name, args, meaning, (#result)[0], sizeof(args) - 1, IR_##effects},
#include "ir/ops.def"
#undef IR_OP
};

unsigned ir_elem_bits(IrType t) {
    static const uint8_t bits[16] = {
        [IR_I1] = 1,     [IR_I8] = 8,   [IR_I16] = 16, [IR_I32] = 32, [IR_I64] = 64,
        [IR_I128] = 128, [IR_F16] = 16, [IR_F32] = 32, [IR_F64] = 64, [IR_FLAGS] = 32,
    };
    return bits[ir_elem(t)];
}
