// decode.h - what decode_gen.py's tables look like to C: rows (one per encoding) and their fields.
// The decoder and lifters do not use them; disassembler, fuzzer and coverage report do.
#ifndef DGM_GUEST_DECODE_H
#define DGM_GUEST_DECODE_H

#include "base/base.h"

enum { DECODE_MAX_PARTS = 4 };
// No pointers in these tables: those would be relocated, and their pages copied, at each start.
typedef struct DecodeField {
    char name[12];
    uint8_t n_parts; // 0: the constant `value` of the row
    uint8_t is_signed;
    int32_t value;
    struct {
        uint8_t lo, width;
    } part[DECODE_MAX_PARTS]; // the first part is the most significant
} DecodeField;

typedef struct DecodeRow {
    char name[24], lifter[32];
    char section[12];     // of the architecture manual
    char file[12];        // .dec file
    uint16_t line;        // in it
    uint16_t first_field; // n_fields of the guest's table
    uint32_t text;        // assembly template: where it begins among the guest's
    uint32_t mask, value; // fixed bits
    uint64_t features;    // all needed, 0: base
    uint8_t n_fields;
    uint8_t implemented; // 0: a marked row without a lifter
    uint8_t constrained; // not every value of the fields is allocated: ask the decoder
} DecodeRow;

static inline int64_t decode_field(const DecodeField *f, uint32_t insn) {
    if (!f->n_parts) return f->value;
    uint64_t v = 0;
    unsigned total = 0;
    for (unsigned i = 0; i < f->n_parts; i++) {
        v = v << f->part[i].width | bits_get(insn, f->part[i].lo, f->part[i].width);
        total += f->part[i].width;
    }
    return f->is_signed ? bits_sext(v, total) : (int64_t)v;
}

#endif
