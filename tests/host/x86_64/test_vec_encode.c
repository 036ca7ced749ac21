// test_vec_encode.c - every row of vec_ops.def, in every form, against binutils' objdump (Debian
// 12's capstone does not know half of EVEX): the mnemonic, the registers in their order, the
// displacement and the length must be what was asked for.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "host/x86_64/emit_vec.h"

enum { NP, P66, PF3, PF2 };
enum { R3, R2, RS, SH = 8 };
enum { S2, S3, S4, AES, CLM, GF, AV, A5 };
enum { I = 1, C = 2, W = 4, V = 8, X = 16 };
typedef struct Row {
    uint8_t kind, isa, flags, mem_bytes;
} Row;
static const Row rows[V_COUNT] = {
#define VOP(name, pp, map, opc, kind, isa, flags, n) [V_##name] = {kind, isa, flags, n},
#include "host/x86_64/vec_ops.def"
#undef VOP
};

// The row's name without what only we add to it, and without the v of AVX mnemonics.
static void plain(const char *name, char *out) {
    static const char *const tails[] = {"_ld", "_st", "_rr", "_xr", "_rx", "_k", "_r", "_m"};
    strcpy(out, name + (name[0] == 'v'));
    for (unsigned i = 0; i < ARRAY_LEN(tails); i++) {
        size_t n = strlen(out), m = strlen(tails[i]);
        if (n > m && !strcmp(out + n - m, tails[i])) out[n - m] = 0;
    }
    size_t n = strlen(out);
    if (out[0] == 'p' && out[1] == 's' && out[n - 1] == 'i') // psrlwi
        out[n - 1] = 0;
    if (!strncmp(out, "cvt", 3) && out[n - 1] == 'q' && strcmp(out, "cvttpd2qq") &&
        strcmp(out, "cvttpd2uqq") && strcmp(out, "cvttps2dq") && strcmp(out, "cvttps2udq"))
        out[n - 1] = 0; // cvtsi2sdq: the width shows in the operand
}

static bool mnemonic_fits(const char *want, const char *got, unsigned imm) {
    if (got[0] == 'v') got++;
    if (!strncmp(want, got, strlen(want))) return true; // pand: pandd, movdqu: movdqu32
    if (!strncmp(want, "round", 5)) return !strncmp(got, "rndscale", 8);
    if (!strncmp(want, "cmp", 3) || !strncmp(want, "pcmp", 4)) // cmpltps has the immediate inside
        return !strncmp(got, want, want[0] == 'p' ? 4 : 3);
    if (!strncmp(want, "pclmul", 6)) return !strncmp(got, "pclmul", 6);
    return false;
}

static bool is_general(Vop op, unsigned operand) { // 0 dst, 2 rm: is it a GPR?
    const char *n = vec_name(op);
    if (operand == 0)
        return op == V_pextrw || op == V_pmovmskb || op == V_movmskps || op == V_movmskpd ||
               strstr(n, "2si") || strstr(n, "2usi");
    return strstr(n, "si2s") || strstr(n, "usi2s") || !strncmp(n, "pinsr", 5) ||
           (!strncmp(n, "pextr", 5) && op != V_pextrw) || op == V_movd_xr || op == V_movq_xr ||
           op == V_movd_rx || op == V_movq_rx || strstr(n, "_r\0") == n + strlen(n) - 2;
}
static bool is_mask(Vop op, unsigned operand) {
    const char *n = vec_name(op);
    return operand == 0 ? n[strlen(n) - 1] == 'k' && n[strlen(n) - 2] == '_'
                        : !strncmp(n, "vpmovm2", 7);
}

// The register number of a name such as xmm17, k3, r9d, eax; -1 when it is none.
static int reg_number(const char *s) {
    static const char *const gpr[16][3] = {
        {"rax", "eax", "al"},    {"rcx", "ecx", "cl"},    {"rdx", "edx", "dl"},
        {"rbx", "ebx", "bl"},    {"rsp", "esp", "spl"},   {"rbp", "ebp", "bpl"},
        {"rsi", "esi", "sil"},   {"rdi", "edi", "dil"},   {"r8", "r8d", "r8b"},
        {"r9", "r9d", "r9b"},    {"r10", "r10d", "r10b"}, {"r11", "r11d", "r11b"},
        {"r12", "r12d", "r12b"}, {"r13", "r13d", "r13b"}, {"r14", "r14d", "r14b"},
        {"r15", "r15d", "r15b"}};
    if (!strncmp(s, "xmm", 3)) return atoi(s + 3);
    if (s[0] == 'k') return atoi(s + 1);
    for (int i = 0; i < 16; i++)
        for (int j = 0; j < 3; j++)
            if (!strcmp(s, gpr[i][j])) return i;
    return -1;
}

typedef struct Case {
    uint32_t at, len;
    Vop op;
    VecLevel level;
    uint8_t dst, s1;
    VecRm rm;
} Case;
static void add(Buf *code, Buf *cases, VecLevel level, Vop op, unsigned dst, unsigned s1,
                VecRm rm) {
    uint8_t bytes[32];
    uint8_t *end = vec_encode(bytes, rm, level, op, dst, s1, 0x1);
    assert_true(end - bytes <= VEC_MAX_BYTES);
    Case c = {
        (uint32_t)code->len, (uint32_t)(end - bytes), op, level, (uint8_t)dst, (uint8_t)s1, rm};
    buf_add(code, bytes, c.len);
    buf_add(cases, &c, sizeof c);
}

// One line of objdump: mnemonic, then operands separated by commas.
static void check(const Case *c, uint32_t next, char *text) {
    char copy[200], want[40];
    snprintf(copy, sizeof copy, "%s", text);
    plain(vec_name(c->op), want);
    char *save, *mnemonic = strtok_r(text, " \t\n", &save);
    while (!strcmp(mnemonic, "rex.W") || !strcmp(mnemonic, "{vex}"))
        mnemonic = strtok_r(NULL, " \t\n", &save);
    bool bad = next != c->at + c->len || !mnemonic_fits(want, mnemonic, 1), has_mem = false;
    unsigned n = 0, regs[8] = {0};
    for (char *o; (o = strtok_r(NULL, ",\n", &save));) {
        o += strspn(o, " ");
        if (!strchr(o, '[')) o[strcspn(o, " ")] = 0;
        char *bracket = strchr(o, '[');
        if (bracket) {
            has_mem = true;
            char want_mem[80];
            static const char *const gpr[16] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp",
                                                "rsi", "rdi", "r8",  "r9",  "r10", "r11",
                                                "r12", "r13", "r14", "r15"};
            int k = snprintf(want_mem, sizeof want_mem, "[%s", gpr[c->rm.base & 15]);
            if (c->rm.index >= 0)
                k += snprintf(want_mem + k, sizeof want_mem - k, "+%s*%d", gpr[c->rm.index],
                              1 << c->rm.scale);
            long long d = c->rm.disp;
            if (d || (c->rm.base & 7) == 5)
                k += snprintf(want_mem + k, sizeof want_mem - k, "%c0x%llx", d < 0 ? '-' : '+',
                              d < 0 ? -d : d);
            snprintf(want_mem + k, sizeof want_mem - k, "]");
            if (strcmp(bracket, want_mem)) bad = true;
        } else if (n < 8) {
            int r = reg_number(o);
            if (r >= 0) regs[n++] = (unsigned)r;
        }
    }
    bad |= has_mem != c->rm.mem;
    // The order in Intel syntax: dst, s1, rm; the store forms: rm, dst.
    unsigned expect[3], k = 0, kind = rows[c->op].kind;
    bool legacy = c->level == VEC_SSE;
    if (kind == RS && !c->rm.mem) expect[k++] = c->rm.reg;
    expect[k++] = c->dst;
    if ((kind == R3 || kind >= SH) && !legacy) expect[k++] = c->s1;
    if (kind < RS && !c->rm.mem) expect[k++] = c->rm.reg;
    bool swapped =
        rows[c->op].flags & C && !c->rm.mem && k == 3 && regs[1] == c->rm.reg && regs[2] == c->s1;
    bad |= n != k;
    for (unsigned i = 0; i < k && !swapped; i++) bad |= regs[i] != expect[i];
    if (bad)
        fail_msg("%s level %d dst %u s1 %u rm %d/%u: got %s", vec_name(c->op), c->level, c->dst,
                 c->s1, c->rm.mem, c->rm.reg, copy);
}

static bool register_only(Vop op) {
    return op == V_movhlps || op == V_movlhps || op == V_movss_rr || op == V_movsd_rr ||
           op == V_pextrw || op == V_pmovmskb || op == V_movmskps || op == V_movmskpd ||
           is_mask(op, 2) || strstr(vec_name(op), "_r") == vec_name(op) + strlen(vec_name(op)) - 2;
}
static bool memory_only(Vop op) {
    return op == V_movss_ld || op == V_movsd_ld || op == V_movss_st || op == V_movsd_st ||
           op == V_movhps_ld || op == V_movlps_ld || op == V_movhps_st || op == V_movntdq;
}

static void every_row(void **state) {
    Buf code = {0}, cases = {0};
    static const uint8_t pick[] = {0, 3, 8, 13, 16, 21, 25, 30};
    for (Vop op = 0; op < V_COUNT; op++) {
        for (VecLevel level = VEC_SSE; level <= VEC_AVX512; level++) {
            if ((level == VEC_SSE && rows[op].isa >= AV) ||
                (level == VEC_AVX && rows[op].isa >= A5))
                continue;
            unsigned top = level == VEC_AVX512 && vec_has_evex(op) ? 8 : 4;
            for (unsigned j = 0; j < 64; j++) {
                unsigned i = top == 4 ? j : j * 37 % 512;
                unsigned dst = pick[i % top], s1 = pick[i / top % top], rm = pick[i / top / top];
                if (is_general(op, 0)) dst &= 15;
                if (is_mask(op, 0)) dst = 1 + (dst & 3);
                if (is_mask(op, 2)) rm = 1 + (rm & 3);
                if (is_general(op, 2)) rm &= 15;
                if (rows[op].kind >= SH && level == VEC_SSE) s1 = dst;
                if (!memory_only(op)) add(&code, &cases, level, op, dst, s1, vrm_reg(rm));
                if (register_only(op) || rows[op].kind >= SH) continue;
                static const int32_t disps[] = {0, 8, 16, -128, 2048, 127, -32768, 4, 1 << 20};
                int32_t disp = disps[j % ARRAY_LEN(disps)];
                add(&code, &cases, level, op, dst, s1, vrm_mem(j % 16, disp));
                unsigned index = (j / 3) % 16;
                add(&code, &cases, level, op, dst, s1,
                    vrm_sib(j % 16, index == 4 ? 5 : index, j % 4, disp));
            }
        }
    }
    char file[] = "/tmp/vecXXXXXX", command[100], line[300];
    int fd = mkstemp(file);
    assert_true(fd >= 0 && write(fd, code.data, code.len) == (ssize_t)code.len);
    close(fd);
    snprintf(command, sizeof command, "objdump -D -w -b binary -m i386:x86-64 -M intel %s", file);
    FILE *f = popen(command, "r");
    assert_non_null(f);
    unsigned n = (unsigned)(cases.len / sizeof(Case)), at = 0;
    const Case *all = (const Case *)(void *)cases.data;
    char held[300] = "";
    while (fgets(line, sizeof line, f)) {
        unsigned long addr;
        char *tab = strchr(line, '\t'), *tab2 = tab ? strchr(tab + 1, '\t') : NULL;
        if (!tab2 || sscanf(line, "%lx:", &addr) != 1) continue;
        if (held[0]) check(&all[at++], (uint32_t)addr, held);
        snprintf(held, sizeof held, "%s", tab2 + 1);
    }
    check(&all[at++], (uint32_t)code.len, held);
    pclose(f);
    unlink(file);
    assert_int_equal(at, n);
    print_message("%u encodings\n", n);
    buf_free(&code);
    buf_free(&cases);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_row)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
