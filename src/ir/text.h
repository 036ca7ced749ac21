// text.h - what print.c and parse.c share: how each op's aux, aux2 and imm are written.
//
// One line an instruction: [%N =] op[.type][.enum] operands [#imm] [words]. The enum suffix is the
// one named field of an op (a comparison's condition, a rounding mode...); words are IrMem bits,
// mem=TYPE, value=N, aux=N and aux2=N.
#ifndef DGM_IR_TEXT_H
#define DGM_IR_TEXT_H

#include "ir/ir.h"

typedef enum IrTextEnum {
    TEXT_NO_ENUM,
    TEXT_CC,
    TEXT_COND,
    TEXT_FCC,
    TEXT_RM,
    TEXT_RMW,
    TEXT_FENCE,
    TEXT_PREFETCH,
    TEXT_JUMP,
    TEXT_TRAP,
    TEXT_ENUM_COUNT
} IrTextEnum;

// How the operands and imm look.
typedef enum IrTextForm {
    TEXT_PLAIN, // %1, %2
    TEXT_NUM,   // %1, %2, #imm
    TEXT_SCALE, // the same, #imm only when it is not 0
    TEXT_CONST, // 0x10, or 0xhi:0xlo for vectors
    TEXT_FIELD, // x0, %1
    TEXT_INSN,  // 0x4000, 4
    TEXT_PC,    // %1, 0x4000
    TEXT_COUNT, // 12
    TEXT_MEM,   // [%1 + 16], %2, %3 mem=i32 words
    TEXT_CALL,  // name(%1, %2) #imm
    TEXT_BLOCK, // b2
    TEXT_BR,    // %1, b1, b2
} IrTextForm;

typedef struct IrText {
    uint8_t form, aux; // IrTextForm, IrTextEnum (of imm for rmw)
} IrText;

IrText ir_text_of(IrOp op);
// Name of an enum's value, NULL past the end.
const char *ir_text_enum(IrTextEnum e, unsigned value);
// "i64", "f32x4"...; buf holds at least 16 bytes.
const char *ir_text_type(IrType t, char *buf);
// Names of IrMem bits, lowest first; NULL past the end.
const char *ir_text_mem(unsigned bit);

#endif
