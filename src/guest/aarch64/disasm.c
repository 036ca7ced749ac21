// disasm.c - one instruction as text, from its row's template (see decode_gen.py for the language).
//
// Operand kinds, {field:kind}: R register by sf, Rsp the same with SP; W X Wsp Xsp; M register by
// sz (X for 8 bytes), P register of a pair by sz, WX register by the field before; B H S D Q V
// vector registers; u unsigned and s signed immediate, x hexadecimal; n bare number; b branch
// target in words; c condition. {@name} is one of the printers below. Speed is no concern here.
#include "guest/aarch64/guest.h"
#include "guest/aarch64/lift.h"

typedef struct Dis {
    const DecodeRow *row;
    uint32_t insn;
    uint64_t pc;
    Buf *out;
} Dis;

static int64_t value_of(const Dis *d, const char *name, size_t len) {
    for (unsigned i = 0; i < d->row->n_fields; i++) {
        const DecodeField *f = &a64_row_fields[d->row->first_field + i];
        if (strlen(f->name) == len && !memcmp(f->name, name, len)) return decode_field(f, d->insn);
    }
    return 0;
}
static int64_t val(const Dis *d, const char *name) {
    return value_of(d, name, strlen(name));
}
static unsigned width_of(const Dis *d, const char *name, size_t len) {
    unsigned w = 0;
    for (unsigned i = 0; i < d->row->n_fields; i++) {
        const DecodeField *f = &a64_row_fields[d->row->first_field + i];
        if (strlen(f->name) == len && !memcmp(f->name, name, len))
            for (unsigned p = 0; p < f->n_parts; p++) w += f->part[p].width;
    }
    return w;
}

static const char cond_names[16][3] = {"eq", "ne", "cs", "cc", "mi", "pl", "vs", "vc",
                                       "hi", "ls", "ge", "lt", "gt", "le", "al", "nv"};

static void reg(Dis *d, char bank, unsigned n, const char *r31) {
    if (n == 31 && r31)
        buf_printf(d->out, "%s", r31);
    else
        buf_printf(d->out, "%c%u", bank, n);
}

static void gpr(Dis *d, bool wide, unsigned n, bool sp) {
    reg(d, wide ? 'x' : 'w', n, sp ? (wide ? "sp" : "wsp") : (wide ? "xzr" : "wzr"));
}

static bool is(const char *kind, size_t len, const char *name) {
    return strlen(name) == len && !memcmp(kind, name, len);
}

static void operand(Dis *d, const char *kind, size_t n, int64_t before, int64_t v) {
    bool sf = val(d, "sf");
    if (is(kind, n, "R"))
        gpr(d, sf, (unsigned)v, false);
    else if (is(kind, n, "Rsp"))
        gpr(d, sf, (unsigned)v, true);
    else if (is(kind, n, "X"))
        gpr(d, true, (unsigned)v, false);
    else if (is(kind, n, "W"))
        gpr(d, false, (unsigned)v, false);
    else if (is(kind, n, "Xsp"))
        gpr(d, true, (unsigned)v, true);
    else if (is(kind, n, "Wsp"))
        gpr(d, false, (unsigned)v, true);
    else if (is(kind, n, "M"))
        gpr(d, val(d, "sz") == 3, (unsigned)v, false);
    else if (is(kind, n, "P"))
        gpr(d, val(d, "sz") == 1, (unsigned)v, false);
    else if (is(kind, n, "WX"))
        gpr(d, before, (unsigned)v, false);
    else if (n == 1 && strchr("BHSDQV", *kind))
        buf_printf(d->out, "%c%u", *kind | 0x20, (unsigned)v);
    else if (is(kind, n, "u"))
        buf_printf(d->out, "#%lu", (unsigned long)v);
    else if (is(kind, n, "s"))
        buf_printf(d->out, "#%ld", (long)v);
    else if (is(kind, n, "x"))
        buf_printf(d->out, "#0x%lx", (unsigned long)v);
    else if (is(kind, n, "n"))
        buf_printf(d->out, "%lu", (unsigned long)v);
    else if (is(kind, n, "b"))
        buf_printf(d->out, "0x%lx", d->pc + (uint64_t)(v * 4));
    else if (is(kind, n, "c"))
        buf_printf(d->out, "%s", cond_names[v & 15]);
    else
        buf_printf(d->out, "?%.*s", (int)n, kind);
}

// ---- printers: what takes more than one field ----

static void print_offset(Dis *d, int64_t offset) {
    if (offset) buf_printf(d->out, ", #%ld", (long)offset);
}

static void print_indexed(Dis *d, unsigned kind, int64_t offset) { // 1 post, 2 offset, 3 pre
    buf_printf(d->out, "[");
    gpr(d, true, (unsigned)val(d, "rn"), true);
    if (kind == 1) {
        buf_printf(d->out, "], #%ld", (long)offset);
        return;
    }
    if (kind == 3)
        buf_printf(d->out, ", #%ld]!", (long)offset);
    else {
        print_offset(d, offset);
        buf_printf(d->out, "]");
    }
}

static const char shift_names[4][4] = {"lsl", "lsr", "asr", "ror"};
static const char extend_names[8][5] = {"uxtb", "uxth", "uxtw", "uxtx",
                                        "sxtb", "sxth", "sxtw", "sxtx"};

static unsigned access_log2(const Dis *d) { // of the rows with sz and perhaps q
    return val(d, "q") ? 4 : (unsigned)val(d, "sz");
}

static void printer(Dis *d, const char *name, size_t n) {
    uint64_t mask;
    if (!strcmp(d->row->file, "simd.dec")) {
        a64_print_simd_operand(d->row, d->insn, name, n, d->out);
    } else if (is(name, n, "adr")) {
        int64_t offset = val(d, "immhi") * 4 + val(d, "immlo");
        uint64_t to = d->row->value >> 31 ? (d->pc & ~0xfffull) + ((uint64_t)offset << 12)
                                          : d->pc + (uint64_t)offset;
        buf_printf(d->out, "0x%lx", to);
    } else if (is(name, n, "bitmask")) {
        if (a64_bitmask((unsigned)val(d, "sf"), (unsigned)val(d, "n"), (unsigned)val(d, "imms"),
                        (unsigned)val(d, "immr"), &mask, NULL))
            buf_printf(d->out, "#0x%lx", mask);
        else
            buf_printf(d->out, "#reserved");
    } else if (is(name, n, "shift")) {
        if (val(d, "imm6") || val(d, "sh"))
            buf_printf(d->out, ", %s #%ld", shift_names[val(d, "sh")], (long)val(d, "imm6"));
    } else if (is(name, n, "extend")) {
        unsigned option = (unsigned)val(d, "option");
        gpr(d, val(d, "sf") && (option & 3) == 3, (unsigned)val(d, "rm"), false);
        buf_printf(d->out, ", %s #%ld", extend_names[option], (long)val(d, "imm3"));
    } else if (is(name, n, "regoff")) {
        unsigned option = (unsigned)val(d, "option"), shift = val(d, "s") ? access_log2(d) : 0;
        gpr(d, option & 1, (unsigned)val(d, "rm"), false);
        if (option != 3)
            buf_printf(d->out, ", %s #%u", extend_names[option], shift);
        else if (shift)
            buf_printf(d->out, ", lsl #%u", shift);
    } else if (is(name, n, "off9")) {
        print_offset(d, val(d, "imm9"));
    } else if (is(name, n, "uimm")) {
        print_offset(d, val(d, "imm12") << access_log2(d));
    } else if (is(name, n, "imm9")) {
        unsigned idx = (unsigned)val(d, "idx");
        print_indexed(d, idx & 1 ? idx : 2, val(d, "imm9"));
    } else if (is(name, n, "pair")) {
        unsigned index = (unsigned)val(d, "index");
        bool vec = d->row->value >> 26 & 1, sw = !strcmp(d->row->name, "ldpsw");
        unsigned size = sw ? 2 : vec ? 2 + (unsigned)val(d, "opc") : val(d, "opc") ? 3 : 2;
        print_indexed(d, index & 1 ? index : 2, val(d, "imm7") * (1 << size));
    } else if (is(name, n, "ldra")) {
        int64_t offset = bits_sext((uint64_t)val(d, "s") << 9 | (uint64_t)val(d, "imm9"), 10) * 8;
        buf_printf(d->out, "#%ld]%s", (long)offset, val(d, "w") ? "!" : "");
    } else if (is(name, n, "hint")) {
        unsigned h = (unsigned)(val(d, "crm") << 3 | val(d, "op2"));
        static const char *const names[] = {"nop", "yield", "wfe", "wfi", "sev", "sevl"};
        if (h < ARRAY_LEN(names))
            buf_printf(d->out, "%s", names[h]);
        else
            buf_printf(d->out, "hint #%u", h);
    } else if (is(name, n, "pstatefield")) {
        buf_printf(d->out, "op1=%ld,op2=%ld", (long)val(d, "op1"), (long)val(d, "op2"));
    } else if (is(name, n, "sysreg")) {
        buf_printf(d->out, "s%ld_%ld_c%ld_c%ld_%ld", (long)val(d, "o0") + 2, (long)val(d, "op1"),
                   (long)val(d, "crn"), (long)val(d, "crm"), (long)val(d, "op2"));
    } else {
        a64_print_simd_operand(d->row, d->insn, name, n, d->out);
    }
}

// ---- the template ----

static void choice(Dis *d, const char *at, const char *end, uint64_t v) { // at: behind the first |
    for (; v && at < end; at++)
        if (*at == '|') v--;
    size_t n = strcspn(at, "|}");
    if (at + n > end) n = (size_t)(end - at);
    if (!v) buf_add(d->out, at, n);
}

static void piece(Dis *d, const char *at, const char *end) { // between the braces
    if (*at == '@') {
        printer(d, at + 1, (size_t)(end - at - 1));
        return;
    }
    uint64_t joined = 0;
    int64_t v = 0, before = 0;
    for (;; at++) {
        size_t n = strcspn(at, ",:|}");
        before = v;
        v = value_of(d, at, n);
        unsigned w = width_of(d, at, n);
        joined = w ? joined << w | ((uint64_t)v & bits_mask(w)) : (uint64_t)v;
        at += n;
        if (*at != ',') break;
    }
    if (*at == '|')
        choice(d, at + 1, end, joined);
    else if (*at == ':')
        operand(d, at + 1, (size_t)(end - at - 1), before, v);
    else
        buf_printf(d->out, "%ld", (long)v);
}

unsigned a64_disassemble(const uint8_t *bytes, size_t n, uint64_t pc, Buf *out) {
    if (n < 4) return 0;
    Dis d = {.pc = pc, .out = out};
    memcpy(&d.insn, bytes, 4);
    unsigned row = a64_decode(d.insn);
    if (row == A64_ROW_none) return 0;
    d.row = &a64_rows[row];
    for (const char *t = a64_row_texts + d.row->text; *t;) {
        if (*t == '{') {
            const char *end = strchr(t, '}');
            piece(&d, t + 1, end);
            t = end + 1;
        } else {
            size_t run = strcspn(t, "{");
            buf_add(out, t, run);
            t += run;
        }
    }
    return 4;
}
