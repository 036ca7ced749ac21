// disasm_simd.c - printers of the disassembler for FP and AdvSIMD rows: {@name} in fp.dec, simd.dec
// and crypto.dec. Each prints one operand (or the part of it that takes more than one field), in
// the words of the manual; preferred aliases are not chosen. Called by disasm.c; speed is no
// concern.
#include "guest/aarch64/simd.h"

typedef struct Dis {
    const DecodeRow *row;
    uint32_t insn;
    Buf *out;
} Dis;

static unsigned val(const Dis *d, const char *name) {
    for (unsigned i = 0; i < d->row->n_fields; i++)
        if (!strcmp(a64_row_fields[d->row->first_field + i].name, name))
            return (unsigned)decode_field(&a64_row_fields[d->row->first_field + i], d->insn);
    return 0;
}

static const char lane_letters[] = "bhsdq";

static void arrangement(const Dis *d, unsigned size, unsigned q) {
    buf_printf(d->out, "%u%c", (q ? 16u : 8u) >> size, lane_letters[size]);
}

// ---- floating-point constants ----

static double fp_constant(unsigned imm8) {
    uint64_t bits = fp_expand_imm(3, imm8);
    double x;
    memcpy(&x, &bits, sizeof x);
    return x;
}
static void print_fp_imm(const Dis *d) {
    buf_printf(d->out, "#%.18e", fp_constant(val(d, "imm8")));
}
static void print_fbits(const Dis *d) {
    buf_printf(d->out, "#%u", 64 - val(d, "scale"));
}

// ---- copy: imm5 ----

static unsigned copy_size(const Dis *d) {
    return (unsigned)__builtin_ctz(val(d, "imm5") | 16);
}
static void print_copy_t(const Dis *d) {
    arrangement(d, copy_size(d), val(d, "q"));
}
static void print_copy_s(const Dis *d) {
    buf_printf(d->out, "%c", lane_letters[copy_size(d)]);
}
static void print_copy_r(const Dis *d) { // a general register; 31 is the zero register
    char bank = copy_size(d) == 3 ? 'x' : 'w';
    if (val(d, "rn") == 31)
        buf_printf(d->out, "%czr", bank);
    else
        buf_printf(d->out, "%c%u", bank, val(d, "rn"));
}
static void print_copy_lane(const Dis *d) {
    unsigned size = copy_size(d);
    buf_printf(d->out, "%c[%u]", lane_letters[size], val(d, "imm5") >> (size + 1));
}
static void print_copy_lane2(const Dis *d) {
    unsigned size = copy_size(d);
    buf_printf(d->out, "%c[%u]", lane_letters[size], val(d, "imm4") >> size);
}

// ---- lists of registers ----

static void print_list(const Dis *d, unsigned first, unsigned n, const char *lanes) {
    buf_printf(d->out, "{");
    for (unsigned i = 0; i < n; i++)
        buf_printf(d->out, "%sv%u.%s", i ? ", " : "", (first + i) % 32, lanes);
    buf_printf(d->out, "}");
}
static void print_table(const Dis *d) {
    print_list(d, val(d, "rn"), val(d, "len") + 1, "16b");
}
static void print_struct(const Dis *d) {
    unsigned regs = val(d, "regs"), size = val(d, "size");
    char lanes[8];
    snprintf(lanes, sizeof lanes, "%u%c", (val(d, "q") ? 16u : 8u) >> size, lane_letters[size]);
    print_list(d, val(d, "rt"), regs ? regs : val(d, "n"), lanes);
}
static void print_struct_lane(const Dis *d) {
    unsigned lane = val(d, "lane");
    print_list(d, val(d, "rt"), val(d, "n"), (char[]){lane_letters[lane], 0});
    buf_printf(d->out, "[%u]", (val(d, "q") << 3 | val(d, "s") << 2 | val(d, "size")) >> lane);
}
static void print_struct_post(const Dis *d) { // rm 31: the number of bytes moved
    unsigned regs = val(d, "regs");
    bool replicate = !regs && bits_get(d->insn, 14, 2) == 3;
    unsigned bytes = regs        ? regs * (val(d, "q") ? 16 : 8)
                     : replicate ? val(d, "n") << val(d, "size")
                                 : val(d, "n") << val(d, "lane");
    if (val(d, "rm") == 31)
        buf_printf(d->out, "#%u", bytes);
    else
        buf_printf(d->out, "x%u", val(d, "rm"));
}

// ---- immediates ----

static void print_mod_imm(const Dis *d) { // the whole instruction
    unsigned op = val(d, "op"), cmode = val(d, "cmode"), q = val(d, "q"), rd = val(d, "rd");
    unsigned imm8 = val(d, "imm8");
    bool accumulate = (cmode & 1) && cmode < 12;
    const char *name = cmode == 15        ? "fmov"
                       : accumulate       ? (op ? "bic" : "orr")
                       : op && cmode < 14 ? "mvni"
                                          : "movi";
    if (cmode == 14 && op) {
        uint64_t x = 0;
        for (unsigned i = 0; i < 8; i++) x |= imm8 >> i & 1 ? 0xffull << i * 8 : 0;
        if (q)
            buf_printf(d->out, "movi v%u.2d, #0x%lx", rd, x);
        else
            buf_printf(d->out, "movi d%u, #0x%lx", rd, x);
        return;
    }
    unsigned size = cmode == 15 ? (op ? 3 : 2) : cmode == 14 ? 0 : cmode < 8 || cmode >= 12 ? 2 : 1;
    buf_printf(d->out, "%s v%u.", name, rd);
    arrangement(d, size, q);
    if (cmode == 15) {
        buf_printf(d->out, ", #%.18e", fp_constant(imm8));
        return;
    }
    buf_printf(d->out, ", #0x%x", imm8);
    if (cmode == 12 || cmode == 13)
        buf_printf(d->out, ", msl #%u", cmode == 12 ? 8 : 16);
    else if (cmode < 12 && (cmode >> 1 & (cmode < 8 ? 3 : 1)))
        buf_printf(d->out, ", lsl #%u", 8 * (cmode >> 1 & (cmode < 8 ? 3 : 1)));
}

// immh:immb: the size of the narrow lanes, and the amount
static unsigned shift_size(const Dis *d) {
    return 31 - (unsigned)__builtin_clz(val(d, "immhb") >> 3 | 1);
}
static void print_shift_t(const Dis *d) {
    arrangement(d, shift_size(d), val(d, "q"));
}
static void print_shift_w(const Dis *d) {
    arrangement(d, shift_size(d) + 1, 1);
}
static void print_shift_s(const Dis *d) {
    buf_printf(d->out, "%c", lane_letters[shift_size(d)]);
}
static void print_shift_ws(const Dis *d) {
    buf_printf(d->out, "%c", lane_letters[shift_size(d) + 1]);
}
static void print_imm_shift(const Dis *d) {
    unsigned immhb = val(d, "immhb"), bits = 8u << shift_size(d), opcode = bits_get(d->insn, 11, 5);
    // SHL, SLI, SQSHLU, SQSHL, SSHLL go left, all others right (or count fraction bits)
    bool left = opcode == 10 || opcode == 12 || opcode == 14 || opcode == 20;
    buf_printf(d->out, "#%u", left ? immhb - bits : 2 * bits - immhb);
}

// Vm.Ts[index] of by-element forms
static void print_element(const Dis *d) {
    bool dot = d->row->features & A64_FEAT(dotprod) || d->row->features & A64_FEAT(i8mm);
    unsigned h = val(d, "h"), l = val(d, "l"), m = val(d, "m"), rm = val(d, "rm");
    if (dot) {
        buf_printf(d->out, "v%u.4b[%u]", rm, h << 1 | l);
        return;
    }
    if (d->row->features & A64_FEAT(bf16)) { // BFDOT takes pairs
        if (bits_get(d->insn, 23, 1))
            buf_printf(d->out, "v%u.h[%u]", rm, h << 2 | l << 1 | m);
        else
            buf_printf(d->out, "v%u.2h[%u]", m << 4 | rm, h << 1 | l);
        return;
    }
    bool fp_row = bits_get(d->insn, 23, 1) && val(d, "size") == 0; // sz rows, with size<1> fixed
    unsigned size = val(d, "half") || d->row->features & A64_FEAT(fhm) ? 1
                    : fp_row                                           ? 2 + val(d, "sz")
                                                                       : val(d, "size");
    if (d->row->features & A64_FEAT(fcma)) // pairs of lanes
        buf_printf(d->out, "v%u.%c[%u]", m << 4 | rm, lane_letters[size],
                   size == 1 ? h << 1 | l : h);
    else if (size == 1)
        buf_printf(d->out, "v%u.h[%u]", rm, h << 2 | l << 1 | m);
    else
        buf_printf(d->out, "v%u.%c[%u]", m << 4 | rm, lane_letters[size],
                   size == 2 ? h << 1 | l : h);
}

void a64_print_simd_operand(const DecodeRow *row, uint32_t insn, const char *name, size_t len,
                            Buf *out) {
    static const struct {
        const char *name;
        void (*print)(const Dis *d);
    } printers[] = {
        {"fp_imm", print_fp_imm},           {"fbits", print_fbits},
        {"copy_t", print_copy_t},           {"copy_s", print_copy_s},
        {"copy_r", print_copy_r},           {"copy_lane", print_copy_lane},
        {"copy_lane2", print_copy_lane2},   {"table", print_table},
        {"struct", print_struct},           {"struct_lane", print_struct_lane},
        {"struct_post", print_struct_post}, {"mod_imm", print_mod_imm},
        {"shift_t", print_shift_t},         {"shift_w", print_shift_w},
        {"shift_s", print_shift_s},         {"shift_ws", print_shift_ws},
        {"imm_shift", print_imm_shift},     {"element", print_element},
    };
    const Dis d = {row, insn, out};
    for (unsigned i = 0; i < ARRAY_LEN(printers); i++)
        if (strlen(printers[i].name) == len && !memcmp(printers[i].name, name, len)) {
            printers[i].print(&d);
            return;
        }
    buf_printf(out, "?%.*s", (int)len, name);
}
