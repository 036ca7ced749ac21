// test_core.c - the integer encoder (emit.h) against capstone, and the seam of host.h as the engine
// uses it: chaining and unchaining, the jump cache, interrupts and budgets.
//
// Encoder: every form is emitted with each register as each operand (r12, r13, rsp, rbp and the
// 8-bit sil, dil are where encodings differ) and with displacements of every size; capstone must
// read back exactly what was meant, in one instruction of exactly that length.
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/mman.h>

#include <capstone/capstone.h>
#include <cmocka.h>

#include "../bare_vcpu.h"
#include "host/x86_64/emit.h"

// ---- the encoder ----

static const char *const r64[] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                  "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};
static const char *const r32[] = {"eax", "ecx", "edx",  "ebx",  "esp",  "ebp",  "esi",  "edi",
                                  "r8d", "r9d", "r10d", "r11d", "r12d", "r13d", "r14d", "r15d"};
static const char *const r16[] = {"ax",  "cx",  "dx",   "bx",   "sp",   "bp",   "si",   "di",
                                  "r8w", "r9w", "r10w", "r11w", "r12w", "r13w", "r14w", "r15w"};
static const char *const r8[] = {"al",  "cl",  "dl",   "bl",   "spl",  "bpl",  "sil",  "dil",
                                 "r8b", "r9b", "r10b", "r11b", "r12b", "r13b", "r14b", "r15b"};
static const char *reg(int w, unsigned r) {
    return (w == 8 ? r8 : w == 16 ? r16 : w == 32 ? r32 : r64)[r];
}
static const char *const cc_names[] = {"o", "no", "b", "ae", "e", "ne", "be", "a",
                                       "s", "ns", "p", "np", "l", "ge", "le", "g"};

typedef struct Enc {
    X86 *x;
    csh capstone;
    uint8_t code[64];
} Enc;

// The bytes since `code` must read as this.
static void __attribute__((format(printf, 2, 3))) reads(Enc *e, const char *format, ...) {
    char want[128], got[224] = "nothing";
    va_list args;
    va_start(args, format);
    vsnprintf(want, sizeof want, format, args);
    va_end(args);
    size_t n = (size_t)(e->x->at - e->code);
    cs_insn *in = NULL;
    size_t count = cs_disasm(e->capstone, e->code, n, 0x1000, 0, &in);
    if (count) snprintf(got, sizeof got, "%s %s", in[0].mnemonic, in[0].op_str);
    for (size_t k = strlen(got); k && got[k - 1] == ' '; k--) got[k - 1] = 0;
    bool whole = count == 1 && in[0].size == n;
    if (count) cs_free(in, count);
    if (!whole || strcmp(got, want))
        fail_msg("want '%s', got '%s' (%zu instructions)", want, got, count);
    e->x->at = e->code;
}

static const char *mem_text(char *out, const char *size, Mem m) {
    char index[24] = "", disp[24] = "";
    if (m.index >= 0 && m.scale)
        snprintf(index, sizeof index, " + %s*%d", r64[m.index], 1 << m.scale);
    else if (m.index >= 0)
        snprintf(index, sizeof index, " + %s", r64[m.index]);
    long d = m.disp;
    if (d)
        snprintf(disp, sizeof disp, labs(d) > 9 ? " %c 0x%lx" : " %c %ld", d < 0 ? '-' : '+',
                 labs(d));
    sprintf(out, "%s ptr [%s%s%s]", size, r64[m.base], index, disp);
    return out;
}
static const char *size_name(int w) {
    return w == 8 ? "byte" : w == 16 ? "word" : w == 32 ? "dword" : "qword";
}

static void register_forms(Enc *e, unsigned d, unsigned s) {
    static const char *const alu[] = {"add", "or", "adc", "sbb", "and", "sub", "xor", "cmp"};
    X86 *x = e->x;
    for (int w = 32; w <= 64; w += 32) {
        const char *D = reg(w, d), *S = reg(w, s);
        if (d != s || w == 32) mov_rr(x, w, d, s), reads(e, "mov %s, %s", D, S);
        for (unsigned op = 0; op < 8; op++) {
            alu_rr(x, w, (Alu)op, d, s), reads(e, "%s %s, %s", alu[op], D, S);
        }
        test_rr(x, w, s, d), reads(e, "test %s, %s", S, D);
        imul_rr(x, w, d, s), reads(e, "imul %s, %s", D, S);
        imul_rri(x, w, d, s, 7), reads(e, "imul %s, %s, 7", D, S);
        imul_rri(x, w, d, s, 0x1234567), reads(e, "imul %s, %s, 0x1234567", D, S);
        for (unsigned cc = 0; cc < 16; cc++) {
            cmovcc(x, w, cc, d, s), reads(e, "cmov%s %s, %s", cc_names[cc], D, S);
        }
        movsx_rr(x, w, 8, d, s), reads(e, "movsx %s, %s", D, r8[s]);
        movsx_rr(x, w, 16, d, s), reads(e, "movsx %s, %s", D, r16[s]);
        unsigned n = (d + s) & 15; // a third register
        shlx(x, w, d, s, n), reads(e, "shlx %s, %s, %s", D, S, reg(w, n));
        shrx(x, w, d, s, n), reads(e, "shrx %s, %s, %s", D, S, reg(w, n));
        sarx(x, w, d, s, n), reads(e, "sarx %s, %s, %s", D, S, reg(w, n));
        rorx(x, w, d, s, 9), reads(e, "rorx %s, %s, 9", D, S);
        andn_rrr(x, w, d, s, n), reads(e, "andn %s, %s, %s", D, S, reg(w, n));
        op_rr(x, 0xF3, w, 0x0FBD, d, s, false), reads(e, "lzcnt %s, %s", D, S);
        op_rr(x, 0xF3, w, 0x0FBC, d, s, false), reads(e, "tzcnt %s, %s", D, S);
        op_rr(x, 0xF3, w, 0x0FB8, d, s, false), reads(e, "popcnt %s, %s", D, S);
    }
    movsx_rr(x, 64, 32, d, s), reads(e, "movsxd %s, %s", r64[d], r32[s]);
    movzx_rr(x, 8, d, s), reads(e, "movzx %s, %s", r32[d], r8[s]);
    movzx_rr(x, 16, d, s), reads(e, "movzx %s, %s", r32[d], r16[s]);
}

static void one_register_forms(Enc *e, unsigned d) {
    static const char *const un[] = {"", "", "not", "neg", "mul", "imul", "div", "idiv"};
    static const char *const sh[] = {"rol", "ror", "", "", "shl", "shr", "", "sar"};
    X86 *x = e->x;
    for (int w = 32; w <= 64; w += 32) {
        const char *D = reg(w, d);
        for (unsigned op = 2; op < 8; op++) unary(x, w, op, d), reads(e, "%s %s", un[op], D);
        for (unsigned op = 0; op < 8; op++) {
            if (!*sh[op]) continue;
            shift_i(x, w, (Shift)op, d, 11), reads(e, "%s %s, 0xb", sh[op], D);
            shift_cl(x, w, (Shift)op, d), reads(e, "%s %s, cl", sh[op], D);
        }
        bswap_r(x, w, d), reads(e, "bswap %s", D);
        alu_ri(x, w, ALU_ADD, d, 100), reads(e, "add %s, 0x64", D);
        alu_ri(x, w, ALU_SUB, d, 0x12345), reads(e, "sub %s, 0x12345", D);
        alu_ri(x, w, ALU_CMP, d, -1), reads(e, w == 64 ? "cmp %s, -1" : "cmp %s, -1", D);
    }
    test_ri(x, 32, d, 0x4000), reads(e, "test %s, 0x4000", r32[d]);
    test_ri(x, 32, d, 1), reads(e, "test %s, 1", d < 4 ? r8[d] : r32[d]);
    for (unsigned cc = 0; cc < 16; cc++) setcc(x, cc, d), reads(e, "set%s %s", cc_names[cc], r8[d]);
    mov_imm(x, d, 0), reads(e, "mov %s, 0", r32[d]);
    mov_imm(x, d, 0xfedcba98), reads(e, "mov %s, 0xfedcba98", r32[d]);
    mov_imm(x, d, (uint64_t)-5), reads(e, "mov %s, -5", r64[d]);
    mov_imm(x, d, 0x123456789ab), reads(e, "movabs %s, 0x123456789ab", r64[d]);
    push_r(x, d), reads(e, "push %s", r64[d]);
    pop_r(x, d), reads(e, "pop %s", r64[d]);
    jmp_reg(x, d), reads(e, "jmp %s", r64[d]);
    call_reg(x, d), reads(e, "call %s", r64[d]);
}

static void memory_forms(Enc *e, unsigned d, Mem m) {
    X86 *x = e->x;
    char t[96];
    for (int w = 8; w <= 64; w *= 2) {
        const char *D = reg(w, d);
        mov_store(x, w, m, d), reads(e, "mov %s, %s", mem_text(t, size_name(w), m), D);
        mov_store_imm(x, w, m, 7), reads(e, "mov %s, 7", mem_text(t, size_name(w), m));
        op_rm(x, 0, w, w == 8 ? 0x86 : 0x87, d, m, w == 8);
        reads(e, "xchg %s, %s", mem_text(t, size_name(w), m), D);
        lock_prefix(x), op_rm(x, 0, w, w == 8 ? 0x0FB0 : 0x0FB1, d, m, w == 8);
        reads(e, "lock cmpxchg %s, %s", mem_text(t, size_name(w), m), D);
        lock_prefix(x), op_rm(x, 0, w, w == 8 ? 0x0FC0 : 0x0FC1, d, m, w == 8);
        reads(e, "lock xadd %s, %s", mem_text(t, size_name(w), m), D);
        if (w != 16)
            alu_mi(x, w, ALU_CMP, m, 9), reads(e, "cmp %s, 9", mem_text(t, size_name(w), m));
        if (w < 32) {
            movzx_load(x, w, d, m), reads(e, "movzx %s, %s", r32[d], mem_text(t, size_name(w), m));
            movsx_load(x, 64, w, d, m),
                reads(e, "movsx %s, %s", r64[d], mem_text(t, size_name(w), m));
            continue;
        }
        mov_load(x, w, d, m), reads(e, "mov %s, %s", D, mem_text(t, size_name(w), m));
        alu_rm(x, w, ALU_XOR, d, m), reads(e, "xor %s, %s", D, mem_text(t, size_name(w), m));
        alu_mi(x, w, ALU_SUB, m, 0x1234), reads(e, "sub %s, 0x1234", mem_text(t, size_name(w), m));
    }
    movsx_load(x, 64, 32, d, m), reads(e, "movsxd %s, %s", r64[d], mem_text(t, "dword", m));
    lea(x, 64, d, m), reads(e, "lea %s, %s", r64[d], strchr(mem_text(t, "", m), '['));
    jmp_mem(x, m), reads(e, "jmp %s", mem_text(t, "qword", m));
    ldmxcsr(x, m), reads(e, "ldmxcsr %s", mem_text(t, "dword", m));
    stmxcsr(x, m), reads(e, "stmxcsr %s", mem_text(t, "dword", m));
}

static void encoder(void **unused) {
    static const int32_t disps[] = {0, 1, -128, 127, 128, -0x12345};
    static HostCtx ctx;
    static X86 x;
    Enc e = {.x = &x};
    x.h = &ctx, x.at = e.code;
    assert_int_equal(cs_open(CS_ARCH_X86, CS_MODE_64, &e.capstone), CS_ERR_OK);
    for (unsigned d = 0; d < 16; d++) {
        one_register_forms(&e, d);
        for (unsigned s = 0; s < 16; s++) register_forms(&e, d, s);
        for (int base = 0; base < 16; base++)
            for (int index = -1; index < 16; index += 3) { // -1, 2, 5 (rbp), 8, 11, 14
                int k = base + (int)d;
                if (index == RSP) continue;
                memory_forms(&e, d,
                             (Mem){.base = (int8_t)base,
                                   .index = (int8_t)index,
                                   .scale = index < 0 ? 0 : (uint8_t)(k & 3),
                                   .disp = disps[(unsigned)k % ARRAY_LEN(disps)]});
            }
    }
    for (unsigned n = 1; n < 8; n++) { // one instruction each
        cs_insn *in;
        nops(&x, n);
        assert_int_equal(cs_disasm(e.capstone, e.code, n, 0, 0, &in), 1);
        assert_string_equal(in[0].mnemonic, "nop");
        cs_free(in, 1);
        x.at = e.code;
    }
    mfence(&x), reads(&e, "mfence");
    ret(&x), reads(&e, "ret");
    cs_close(&e.capstone);
}

// ---- the seam ----

enum { ROOM = 1 << 20, PC_FIELD = 2 };
typedef struct State {
    uint64_t x[2], pc;
} State;
static const IrField fields[] = {
    {"x0", 0, IR_I64, -1, -1}, {"x1", 8, IR_I64, -1, -1}, {"pc", 16, IR_I64, -1, -1}};
typedef struct Box {
    VcpuHot hot;
    State state;
    HostCode at;
    HostCtx *ctx;
    Arena arena;
    void *room;
} __attribute__((aligned(4096))) Box;
typedef struct Block {
    HostOutput out;
    HostLink links[8];
    HostFault faults[8];
    HostFix fixes[8];
} Block;

static int setup(void **state) {
    static const uint16_t ints[] = {0, 1};
    static const IrHotFields hot = {.ints = ints, .n_ints = ARRAY_LEN(ints)};
    Box *b = aligned_alloc(_Alignof(Box), sizeof *b);
    memset(b, 0, sizeof *b);
    for (unsigned i = 0; i < JUMP_CACHE_ENTRIES; i++) b->hot.jump_cache[i].pc = jump_cache_no_pc(i);
    b->room =
        mmap(NULL, ROOM, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    b->at = (HostCode){b->room, (uint8_t *)b->room + ROOM};
    b->hot.budget = 1000;
    DgmErr err;
    b->ctx = host_x86_64.create(fields, ARRAY_LEN(fields), PC_FIELD, sizeof(State), &hot, NULL,
                                HOST_COUNTS, &b->at, &err);
    *state = b;
    if (b->ctx) bare_vcpu_init(&host_x86_64, b->ctx, &b->state);
    return b->ctx ? 0 : -1;
}
static int teardown(void **state) {
    Box *b = *state;
    host_x86_64.destroy(b->ctx);
    arena_free(&b->arena);
    munmap(b->room, ROOM);
    free(b);
    return 0;
}
static void make(Box *b, Block *c, uint64_t pc, const char *text) {
    IrRegion r;
    DgmErr err = {0};
    ir_region_init(&r, &b->arena, fields, ARRAY_LEN(fields), PC_FIELD);
    r.pc = pc;
    if (!ir_parse(&r, text, &err) || !ir_verify(&r, &err)) fail_msg("%s", err.text);
    r.pc = pc;
    r.size_bytes = 4; // as lifted: what jumps back is known by it
    c->out = (HostOutput){.links = c->links, .faults = c->faults, .fixes = c->fixes};
    if (host_x86_64.compile(b->ctx, &r, &b->at, &c->out, &err) != HOST_OK) fail_msg("%s", err.text);
}
static uint64_t enter(Box *b, const Block *c) {
    return host_x86_64.enter(b->ctx, &b->state, c->out.entry);
}

// What a region becomes up to its exit, by mnemonics.
static void becomes(Box *b, const char *want, const char *text) {
    Block c;
    make(b, &c, 0x1000, text);
    csh capstone;
    cs_insn *in;
    char got[128] = "";
    assert_int_equal(cs_open(CS_ARCH_X86, CS_MODE_64, &capstone), CS_ERR_OK);
    size_t n = cs_disasm(capstone, c.out.entry, c.out.code_bytes, 0, 0, &in);
    for (size_t i = 0; i < n && strcmp(in[i].mnemonic, "jmp"); i++) {
        if (!strcmp(in[i].mnemonic, "nop")) continue;
        size_t at = strlen(got);
        snprintf(got + at, sizeof got - at, "%s%s", at ? " " : "", in[i].mnemonic);
    }
    if (n) cs_free(in, n);
    cs_close(&capstone);
    assert_string_equal(got, want);
}

// No copies where there need be none.
static void results_in_place(void **state) {
    Box *b = *state;
    if (!b->ctx->cpu.bmi2) skip();
    becomes(b, "rorx movzx",
            "b0: 0x1000\n%1 = get.i64 x0\n%2 = const.i64 8\n%3 = shr.i64 %1, %2\n"
            "%4 = trunc.i8 %3\n%5 = zext.i64 %4\nput x1, %5\nexit 0x2000\n");
    becomes(b, "mov shr", // all of it is wanted
            "b0: 0x1000\n%1 = get.i64 x0\n%2 = const.i64 8\n%3 = shr.i64 %1, %2\n"
            "put x1, %3\nexit 0x2000\n");
    becomes(b, "movzx",
            "b0: 0x1000\n%1 = get.i64 x0\n%2 = const.i64 0xffff\n%3 = and.i64 %1, %2\n"
            "put x1, %3\nexit 0x2000\n");
    becomes(b, "imul xor", // the product is made where what is made of it goes
            "b0: 0x1000\n%1 = get.i64 x0\n%2 = get.i64 x1\n%3 = mul.i64 %1, %2\n"
            "%4 = xor.i64 %3, %2\nput x0, %4\nexit 0x2000\n");
    becomes(b, "mov mov add", // x1 has the old x0 as well
            "b0: 0x1000\n%1 = get.i64 x0\nput x1, %1\n%3 = load.i64 [%1 + 8] mem=i64 insn=4\n"
            "put x0, %3\n%5 = add.i64 %3, %1\nput x1, %5\nexit 0x2000\n");
}

static void links_and_jumps(void **state) {
    Box *b = *state;
    Block one, two;
    make(b, &one, 0x1000,
         "b0: 0x1000\n%1 = get.i64 x0\n%2 = const.i64 1\n%3 = add.i64 %1, %2\n"
         "put x0, %3\n%5 = icmp.eq %3, %2\nexit_if %5, 0x2000\nexit 0x3000\n");
    make(b, &two, 0x2000, "b0: 0x2000\nbudget 10\n%2 = get.i64 x1\nexit_ind.jump %2\n");
    for (unsigned i = 0; i < one.out.n_links; i++) // patched by one atomic store
        assert_true((one.links[i].patch & 7) <= 4);
    assert_int_equal(enter(b, &one), HOST_EXIT_LINK);
    assert_ptr_equal(b->hot.exit_link, &one.links[0]);
    assert_int_equal(b->state.pc, 0x2000);
    assert_int_equal(enter(b, &one), HOST_EXIT_LINK);
    assert_ptr_equal(b->hot.exit_link, &one.links[1]);
    assert_int_equal(b->state.pc, 0x3000);
    // linked: 1 -> 2 -> 1 by the jump cache, then out by the other exit
    host_x86_64.link(b->ctx, &one.links[0], two.out.entry);
    JumpCacheEntry *e = &b->hot.jump_cache[0x1000 >> 2];
    *e = (JumpCacheEntry){.pc = 0x1000, .code = one.out.entry};
    b->state.x[0] = 0, b->state.x[1] = 0x1000;
    assert_int_equal(enter(b, &one), HOST_EXIT_LINK);
    assert_ptr_equal(b->hot.exit_link, &one.links[1]);
    assert_int_equal(b->state.x[0], 2);
    assert_int_equal(b->hot.budget, 990);
    b->hot.budget = 9; // not enough for the second: nothing of it happens
    b->state.x[0] = 0;
    assert_int_equal(enter(b, &one), HOST_EXIT_BUDGET);
    assert_int_equal(b->state.pc, 0x2000);
    assert_int_equal(b->hot.budget, 9);
    b->hot.budget = 1000;
    // not there: another pc of the same entry, and pcs that empty entries must not match
    static const uint64_t elsewhere[] = {
        0x1000 + 4 * JUMP_CACHE_ENTRIES, 0x1002, 0, 4, ~0ull, ~3ull};
    for (unsigned i = 0; i < ARRAY_LEN(elsewhere); i++) {
        b->state.x[1] = elsewhere[i];
        assert_int_equal(enter(b, &two), HOST_EXIT_LOOKUP);
        assert_int_equal(b->state.pc, elsewhere[i]);
    }
    host_x86_64.link(b->ctx, &one.links[0], NULL);
    b->state.x[0] = 0;
    assert_int_equal(enter(b, &one), HOST_EXIT_LINK);
    assert_ptr_equal(b->hot.exit_link, &one.links[0]);
}

static struct {
    Box *box;
    const Block *block;
    volatile int polls;
} now;

static void on_fault(int signo, siginfo_t *si, void *ucontext) {
    uint64_t off = host_x86_64.fault_pc(ucontext) - (uintptr_t)now.block->out.entry;
    bool poll = (uintptr_t)si->si_addr - (uintptr_t)now.box->hot.poll < POLL_BYTES;
    const HostFault *f = now.block->out.faults;
    if (!poll || now.block->out.n_faults != 1 || f->host_off != off || f->guest_off || f->fixed) {
        signal(signo, SIG_DFL);
        return;
    }
    now.polls++;
    host_x86_64.leave_at_fault(now.box->ctx, &now.box->state, ucontext, true, NULL);
}

static void interrupts(void **state) {
    Box *b = *state;
    Block loop;
    make(b, &loop, 0x1000, // counts until the budget ends
         "b0: 0x1000\nbudget 1\n%2 = get.i64 x0\n%3 = const.i64 1\n%4 = add.i64 %2, %3\n"
         "put x0, %4\nexit 0x1000\n");
    host_x86_64.link(b->ctx, &loop.links[0], loop.out.entry);
    b->hot.budget = 12345;
    assert_int_equal(enter(b, &loop), HOST_EXIT_BUDGET);
    assert_int_equal(b->state.x[0], 12345);
    assert_int_equal(b->hot.budget, 0);
    b->hot.budget = 1000;
    vcpu_hot_interrupt(&b->hot); // seen before anything happens
    now.box = b, now.block = &loop, now.polls = 0;
    struct sigaction act = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO}, before;
    sigaction(SIGSEGV, &act, &before);
    assert_int_equal(enter(b, &loop), HOST_EXIT_FAULT);
    sigaction(SIGSEGV, &before, NULL);
    mprotect(b->hot.poll, POLL_BYTES, PROT_READ | PROT_WRITE);
    assert_int_equal(now.polls, 1);
    assert_int_equal(b->state.x[0], 12345);
    assert_int_equal(b->hot.budget, 1000);
    assert_int_equal(enter(b, &loop), HOST_EXIT_BUDGET);
    assert_int_equal(b->state.x[0], 13345);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(encoder),
        cmocka_unit_test_setup_teardown(results_in_place, setup, teardown),
        cmocka_unit_test_setup_teardown(links_and_jumps, setup, teardown),
        cmocka_unit_test_setup_teardown(interrupts, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
