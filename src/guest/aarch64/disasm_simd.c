// disasm_simd.c - printers of the disassembler for FP and AdvSIMD rows: {@name} in fp.dec, simd.dec
// and crypto.dec.
#include "guest/aarch64/lift.h"

typedef struct Row {
    const DecodeRow *row;
    uint32_t insn;
    Buf *out;
} Row;

static int64_t val(const Row *d, const char *name) {
    for (unsigned i = 0; i < d->row->n_fields; i++)
        if (!strcmp(d->row->fields[i].name, name)) return decode_field(&d->row->fields[i], d->insn);
    return -1;
}

static const char lanes[] = "bhsdq";

// Arrangement of lanes of 1 << size bytes in a 64- (q 0) or 128-bit register.
static void arrangement(Row *d, unsigned size, bool q) {
    buf_printf(d->out, "%u%c", (q ? 16u : 8u) >> size, lanes[size]);
}

// ---- copies: the lowest one bit of imm5 is the lane size ----

static bool print_copy(Row *d, const char *name) {
    unsigned imm5 = (unsigned)val(d, "imm5"), size = imm5 ? (unsigned)__builtin_ctz(imm5) : 0;
    if (!strcmp(name, "copy_lane"))
        buf_printf(d->out, "%c[%u]", lanes[size], imm5 >> (size + 1));
    else if (!strcmp(name, "copy_lane2"))
        buf_printf(d->out, "%c[%u]", lanes[size], (unsigned)val(d, "imm4") >> size);
    else if (!strcmp(name, "copy_t"))
        arrangement(d, size, val(d, "q") == 1);
    else if (!strcmp(name, "copy_s"))
        buf_printf(d->out, "%c", lanes[size]);
    else if (!strcmp(name, "copy_r"))
        buf_printf(d->out, "%c", size == 3 ? 'x' : 'w');
    else
        return false;
    return true;
}

// ---- shifts: the highest one bit of immhb is the lane size ----

static bool is_left(const char *row) {
    static const char *const left[] = {"shl", "sli", "sqshl", "uqshl", "sshl", "ushl"};
    for (unsigned i = 0; i < ARRAY_LEN(left); i++)
        if (!strncmp(row, left[i], strlen(left[i]))) return true;
    return false;
}

static bool print_shift(Row *d, const char *name) {
    unsigned immhb = (unsigned)val(d, "immhb"), bits = 8;
    while (bits < 64 && immhb >= bits * 2) bits *= 2;
    unsigned size = (unsigned)__builtin_ctz(bits) - 3;
    if (!strcmp(name, "shift"))
        buf_printf(d->out, "#%u", is_left(d->row->name) ? immhb - bits : 2 * bits - immhb);
    else if (!strcmp(name, "shift_t"))
        arrangement(d, size, val(d, "q") != 0);
    else if (!strcmp(name, "shift_s"))
        buf_printf(d->out, "%c", lanes[size]);
    else if (!strcmp(name, "shift_w"))
        arrangement(d, size + 1, true);
    else if (!strcmp(name, "shift_ws"))
        buf_printf(d->out, "%c", lanes[size + 1]);
    else
        return false;
    return true;
}

// ---- immediates ----

static double fp_immediate(unsigned imm8) { // VFPExpandImm
    double v = 16 + (imm8 & 15);
    int e = (int)((imm8 >> 4 & 7) ^ 4) - 3 - 4;
    v = e < 0 ? v / (1 << -e) : v * (1 << e);
    return imm8 & 0x80 ? -v : v;
}

static void print_mod_imm(Row *d) {
    unsigned cmode = (unsigned)val(d, "cmode"), op = (unsigned)val(d, "op");
    unsigned imm8 = (unsigned)val(d, "imm8"), rd = (unsigned)val(d, "rd");
    bool q = val(d, "q") == 1;
    if (cmode == 15) {
        buf_printf(d->out, "fmov v%u.%s, #%.6f", rd,
                   op  ? "2d"
                   : q ? "4s"
                       : "2s",
                   fp_immediate(imm8));
        return;
    }
    if (cmode == 14) {
        if (!op) {
            buf_printf(d->out, "movi v%u.%s, #0x%x", rd, q ? "16b" : "8b", imm8);
            return;
        }
        uint64_t v = 0;
        for (unsigned i = 0; i < 8; i++) v |= imm8 >> i & 1 ? 0xffull << (i * 8) : 0;
        buf_printf(d->out, q ? "movi v%u.2d, #0x%lx" : "movi d%u, #0x%lx", rd, (unsigned long)v);
        return;
    }
    bool half = cmode >= 8 && cmode < 12, ones = cmode >= 12;
    const char *what = cmode < 12 && (cmode & 1) ? (op ? "bic" : "orr") : op ? "mvni" : "movi";
    unsigned shift = ones ? (cmode & 1 ? 16 : 8) : 8 * (cmode >> 1 & (half ? 1 : 3));
    buf_printf(d->out, "%s v%u.", what, rd);
    arrangement(d, half ? 1 : 2, q);
    buf_printf(d->out, ", #0x%x", imm8);
    if (shift) buf_printf(d->out, ", %s #%u", ones ? "msl" : "lsl", shift);
}

// ---- lanes of a register, lists of registers ----

static void print_element(Row *d) {
    int64_t sz = val(d, "sz"), field = val(d, "size");
    unsigned size = field >= 0 ? (unsigned)field : sz >= 0 ? 2u + (unsigned)sz : 1;
    unsigned l = val(d, "l") == 1, m = val(d, "m") == 1, h = val(d, "h") == 1;
    unsigned rm = (unsigned)val(d, "rm") & 15;
    unsigned index = size == 1 ? h << 2 | l << 1 | m : size == 2 ? h << 1 | l : h;
    if (size != 1) rm |= m << 4;
    buf_printf(d->out, "v%u.%c[%u]", rm, lanes[size & 3], index);
}

static void print_list(Row *d, unsigned first, unsigned n, const char *text) {
    buf_printf(d->out, "{");
    for (unsigned i = 0; i < n; i++)
        buf_printf(d->out, "%sv%u.%s", i ? ", " : "", (first + i) % 32, text);
    buf_printf(d->out, "}");
}

static bool print_struct(Row *d, const char *name) {
    unsigned rt = (unsigned)val(d, "rt"), q = val(d, "q") == 1, size = (unsigned)val(d, "size") & 3;
    char text[8];
    if (!strcmp(name, "struct")) {
        snprintf(text, sizeof text, "%u%c", (q ? 16u : 8u) >> size, lanes[size]);
        print_list(d, rt, (unsigned)MAX(val(d, "regs"), val(d, "n")), text);
    } else if (!strcmp(name, "struct_lane")) {
        unsigned s = val(d, "s") == 1, lane = (unsigned)val(d, "lane");
        unsigned log2 = lane == 2 ? 2 + (size & 1) : lane; // b, h, and s or d
        unsigned index = (q << 3 | s << 2 | size) >> log2;
        snprintf(text, sizeof text, "%c", lanes[log2 & 3]);
        print_list(d, rt, (unsigned)val(d, "n"), text);
        buf_printf(d->out, "[%u]", index);
    } else if (!strcmp(name, "struct_post")) {
        unsigned rm = (unsigned)val(d, "rm");
        if (rm == 31)
            buf_printf(d->out, "#bytes");
        else
            buf_printf(d->out, "x%u", rm);
    } else {
        return false;
    }
    return true;
}

void a64_print_simd_operand(const DecodeRow *row, uint32_t insn, const char *name, size_t len,
                            Buf *out) {
    Row d = {row, insn, out};
    char key[24];
    snprintf(key, sizeof key, "%.*s", (int)len, name);
    if (print_copy(&d, key)) return;
    if (val(&d, "immhb") >= 0 && print_shift(&d, key)) return;
    if (print_struct(&d, key)) return;
    if (!strcmp(key, "mod_imm"))
        print_mod_imm(&d);
    else if (!strcmp(key, "fp_imm"))
        buf_printf(out, "#%.6f", fp_immediate((unsigned)val(&d, "imm8")));
    else if (!strcmp(key, "fbits"))
        buf_printf(out, "#%ld", 64 - (long)val(&d, "scale"));
    else if (!strcmp(key, "element"))
        print_element(&d);
    else if (!strcmp(key, "table"))
        print_list(&d, (unsigned)val(&d, "rn"), (unsigned)val(&d, "len") + 1, "16b");
    else
        buf_printf(out, "<%s>", key);
}
