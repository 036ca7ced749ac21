// decode_tool.c - for decode_check.py: reads instruction words in hexadecimal, one a line, and
// writes for each "word row implemented text"; row is "-" when there is no encoding. With --rows it
// writes the row table instead: "name mask value features implemented file:line field=lo+width
// ...".
#include "decode_a64.h"
#include "guest/aarch64/guest.h"

#include <stdlib.h>

static void print_rows(void) {
    for (unsigned i = 1; i < A64_ROW_COUNT; i++) {
        const DecodeRow *r = &a64_rows[i];
        printf("%s %08x %08x %lx %d %s:%u", r->name, r->mask, r->value, r->features, r->implemented,
               r->file, r->line);
        for (unsigned f = 0; f < r->n_fields; f++)
            for (unsigned p = 0; p < a64_row_fields[r->first_field + f].n_parts; p++)
                printf(" %s=%u+%u", a64_row_fields[r->first_field + f].name,
                       a64_row_fields[r->first_field + f].part[p].lo,
                       a64_row_fields[r->first_field + f].part[p].width);
        printf("\n");
    }
}

int main(int argc, char **argv) {
    if (argc > 1 && !strcmp(argv[1], "--rows")) {
        print_rows();
        return 0;
    }
    char line[64];
    while (fgets(line, sizeof line, stdin)) {
        uint32_t insn = (uint32_t)strtoul(line, NULL, 16);
        unsigned row = a64_decode(insn);
        Buf text = {0};
        if (row) a64_disassemble((const uint8_t *)&insn, 4, 0, &text);
        printf("%08x %s %d %.*s\n", insn, row ? a64_rows[row].name : "-", a64_rows[row].implemented,
               (int)text.len, text.data ? text.data : "");
        buf_free(&text);
    }
    return 0;
}
