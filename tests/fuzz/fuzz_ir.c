// fuzz_ir.c - the parser of IR text on any bytes, the verifier on what it makes of them, and the
// printer: what is verified must come back the same from its printed form.
#include "fuzz.h"

#include "ir/ir.h"

static const IrField fields[] = {{"x0", 0, IR_I64, -1, -1},   {"x1", 8, IR_I64, -1, -1},
                                 {"x2", 16, IR_I64, -1, -1},  {"v0", 32, IR_V128, -1, -1},
                                 {"v1", 48, IR_V128, -1, -1}, {"pc", 64, IR_I64, -1, -1},
                                 {"w", 72, IR_I32, -1, -1},   {"flags", 76, IR_FLAGS, -1, -1}};
enum { PC_FIELD = 5 };

static bool parse(IrRegion *r, Arena *arena, const char *text) {
    DgmErr err = {""};
    ir_region_init(r, arena, fields, ARRAY_LEN(fields), PC_FIELD);
    if (ir_parse(r, text, &err)) return true;
    require(err.text[0] && !strchr(err.text, '\n'));
    return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    Arena arenas[2] = {{0}};
    IrRegion *r = calloc(2, sizeof *r);
    char *text = calloc(1, n + 1);
    Buf first = {0}, second = {0};
    DgmErr err = {""};
    if (r && text) {
        memcpy(text, data, n);
        if (parse(&r[0], &arenas[0], text) && ir_verify(&r[0], &err)) {
            ir_print(&r[0], &first);
            require(parse(&r[1], &arenas[1], first.data));
            ir_print(&r[1], &second);
            require(!strcmp(first.data, second.data));
        }
    }
    buf_free(&first);
    buf_free(&second);
    arena_free(&arenas[0]);
    arena_free(&arenas[1]);
    free(text);
    free(r);
    return 0;
}
