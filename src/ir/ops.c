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

const uint8_t ir_op_effect[IR_OP_COUNT] = {
    [IR_NOP] = IR_PURE,
#define IR_OP(name, result, args, effects, meaning) [IR_##name] = IR_##effects,
#include "ir/ops.def"
#undef IR_OP
};
