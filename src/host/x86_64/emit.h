// emit.h - the encoder of host integer instructions: one small function a form. Each writes at
// x->at. `w` is the operand size in bits: 32 or 64 (8 and 16 where a function says so). Vector
// instructions: emit_vec.h.
#ifndef DGM_HOST_X86_64_EMIT_H
#define DGM_HOST_X86_64_EMIT_H

#include "host/x86_64/x86.h"

static inline void e8(X86 *x, unsigned b) {
    *x->at++ = (uint8_t)b;
}
static inline void e32(X86 *x, uint32_t v) {
    memcpy(x->at, &v, 4);
    x->at += 4;
}
static inline void e64(X86 *x, uint64_t v) {
    memcpy(x->at, &v, 8);
    x->at += 8;
}

static inline Mem mem_at(int base, int32_t disp) {
    return (Mem){.base = (int8_t)base, .index = -1, .disp = disp};
}
static inline Mem mem_state(int32_t disp) {
    return mem_at(RBP, disp);
}

// Which bytes an instruction has depends on its registers and numbers, which no branch predictor
// foresees: those that may be absent are written and then stepped over or not. put_* return where
// the next byte goes.

// REX; force: an 8-bit operand in these registers needs it to mean sil, dil...
static inline uint8_t *put_rex(uint8_t *p, int w, unsigned reg, unsigned index, unsigned base,
                               bool force) {
    unsigned b = (w == 64 ? 8 : 0) | (reg >> 3 & 1) << 2 | (index >> 3 & 1) << 1 | (base >> 3 & 1);
    *p = (uint8_t)(0x40 | b);
    return p + ((b != 0) | force);
}
static inline void rex(X86 *x, int w, unsigned reg, unsigned index, unsigned base, bool force) {
    x->at = put_rex(x->at, w, reg, index, base, force);
}
static inline void modrm_reg(X86 *x, unsigned reg, unsigned rm) {
    e8(x, 0xC0 | (reg & 7) << 3 | (rm & 7));
}
static inline uint8_t *put_modrm_mem(uint8_t *p, unsigned reg, Mem m) {
    reg = (reg & 7) << 3;
    unsigned index = m.index < 0 ? 4u : (unsigned)m.index & 7;
    if (UNLIKELY(m.base < 0)) { // [index << scale + disp32] or [disp32]
        p[0] = (uint8_t)(reg | 4);
        p[1] = (uint8_t)((unsigned)m.scale << 6 | index << 3 | 5);
        memcpy(p + 2, &m.disp, 4);
        return p + 6;
    }
    unsigned base = (unsigned)m.base & 7;
    unsigned any = (m.disp != 0) | (base == 5), small = m.disp == (int8_t)m.disp;
    unsigned mod = 2 - 2 * small + (small & any);
    unsigned sib = (m.index >= 0) | (base == 4);
    p[0] = (uint8_t)(mod << 6 | reg | (sib ? 4 : base));
    p[1] = (uint8_t)((unsigned)m.scale << 6 | index << 3 | base);
    p += 1 + sib;
    memcpy(p, &m.disp, 4);
    return p + mod + (mod & 2); // 0, 1 or 4
}
// Opcodes: one byte, or 0x0F.. as 0x0Fxx, 0x0F38xx as 0x38xx + prefix in `pre` (0, 0x66, 0xF2,
// 0xF3).
static inline uint8_t *put_opcode(uint8_t *p, unsigned op) {
    *p = (uint8_t)(op >> 16);
    p += op > 0xFFFF;
    *p = (uint8_t)(op >> 8);
    p += op > 0xFF;
    *p = (uint8_t)op;
    return p + 1;
}
static inline uint8_t *put_prefixes(uint8_t *p, unsigned pre, int w) {
    *p = 0x66;
    p += w == 16;
    *p = (uint8_t)pre;
    return p + (pre != 0);
}
static inline void op_rr(X86 *x, unsigned pre, int w, unsigned op, unsigned reg, unsigned rm,
                         bool bytes) {
    uint8_t *p = put_prefixes(x->at, pre, w);
    p = put_rex(p, w, reg, 0, rm, bytes & ((reg >= 4) | (rm >= 4)));
    p = put_opcode(p, op);
    *p++ = (uint8_t)(0xC0 | (reg & 7) << 3 | (rm & 7));
    x->at = p;
}
static inline void op_rm(X86 *x, unsigned pre, int w, unsigned op, unsigned reg, Mem m,
                         bool bytes) {
    uint8_t *p = put_prefixes(x->at, pre, w);
    p = put_rex(p, w, reg, m.index < 0 ? 0 : (unsigned)m.index, m.base < 0 ? 0 : (unsigned)m.base,
                bytes & (reg >= 4));
    x->at = put_modrm_mem(put_opcode(p, op), reg, m);
}
// An immediate of one byte, or of four.
static inline void imm8_or_32(X86 *x, int32_t imm, bool small) {
    memcpy(x->at, &imm, 4);
    x->at += small ? 1 : 4;
}

// ---- moves ----
static inline void mov_rr(X86 *x, int w, unsigned d, unsigned s) {
    if (d != s || w == 32) op_rr(x, 0, w, 0x8B, d, s, false);
}
static inline void mov_load(X86 *x, int w, unsigned d, Mem m) {
    op_rm(x, 0, w, 0x8B, d, m, false);
}
static inline void mov_store(X86 *x, int w, Mem m, unsigned s) { // 8, 16, 32, 64
    op_rm(x, 0, w, w == 8 ? 0x88 : 0x89, s, m, w == 8);
}
static inline void mov_imm(X86 *x, unsigned d, uint64_t v) {
    if (v <= UINT32_MAX) {
        rex(x, 32, 0, 0, d, false);
        e8(x, 0xB8 | (d & 7));
        e32(x, (uint32_t)v);
    } else if ((int64_t)v == (int32_t)v) {
        rex(x, 64, 0, 0, d, false);
        e8(x, 0xC7);
        modrm_reg(x, 0, d);
        e32(x, (uint32_t)v);
    } else {
        rex(x, 64, 0, 0, d, false);
        e8(x, 0xB8 | (d & 7));
        e64(x, v);
    }
}
// imm is sign-extended from 32 bits for w == 64.
static inline void mov_store_imm(X86 *x, int w, Mem m, int32_t imm) { // 8, 16, 32, 64
    op_rm(x, 0, w, w == 8 ? 0xC6 : 0xC7, 0, m, false);
    if (w == 8)
        e8(x, (unsigned)imm & 0xFF);
    else if (w == 16)
        e8(x, (unsigned)imm & 0xFF), e8(x, (unsigned)imm >> 8 & 0xFF);
    else
        e32(x, (uint32_t)imm);
}
static inline void movzx_rr(X86 *x, int from, unsigned d, unsigned s) { // from 8, 16
    op_rr(x, 0, 32, from == 8 ? 0x0FB6 : 0x0FB7, d, s, from == 8);
}
static inline void movzx_load(X86 *x, int from, unsigned d, Mem m) {
    op_rm(x, 0, 32, from == 8 ? 0x0FB6 : 0x0FB7, d, m, false);
}
static inline void movsx_rr(X86 *x, int w, int from, unsigned d, unsigned s) { // from 8, 16, 32
    op_rr(x, 0, w, from == 8 ? 0x0FBE : from == 16 ? 0x0FBF : 0x63, d, s, from == 8);
}
static inline void movsx_load(X86 *x, int w, int from, unsigned d, Mem m) {
    op_rm(x, 0, w, from == 8 ? 0x0FBE : from == 16 ? 0x0FBF : 0x63, d, m, false);
}
static inline void lea(X86 *x, int w, unsigned d, Mem m) {
    op_rm(x, 0, w, 0x8D, d, m, false);
}

// ---- arithmetic ----
typedef enum Alu { ALU_ADD, ALU_OR, ALU_ADC, ALU_SBB, ALU_AND, ALU_SUB, ALU_XOR, ALU_CMP } Alu;
static inline void alu_rr(X86 *x, int w, Alu op, unsigned d, unsigned s) {
    op_rr(x, 0, w, 3 + 8 * (unsigned)op, d, s, false);
}
static inline void alu_rm(X86 *x, int w, Alu op, unsigned d, Mem m) {
    op_rm(x, 0, w, 3 + 8 * (unsigned)op, d, m, false);
}
static inline void alu_ri(X86 *x, int w, Alu op, unsigned d, int32_t imm) {
    bool small = imm == (int8_t)imm;
    op_rr(x, 0, w, 0x81u | (unsigned)small << 1, (unsigned)op, d, false);
    imm8_or_32(x, imm, small);
}
static inline void alu_mi(X86 *x, int w, Alu op, Mem m, int32_t imm) { // w 8, 32, 64
    bool small = imm == (int8_t)imm;
    op_rm(x, 0, w, w == 8 ? 0x80 : 0x81u | (unsigned)small << 1, (unsigned)op, m, false);
    imm8_or_32(x, imm, small | (w == 8));
}
static inline void test_rr(X86 *x, int w, unsigned a, unsigned b) {
    op_rr(x, 0, w, w == 8 ? 0x84 : 0x85, b, a, w == 8);
}
static inline void test_ri(X86 *x, int w, unsigned a, int32_t imm) {
    if (imm >= 0 && imm < 128 && a < 4) { // byte form: al, cl, dl, bl
        op_rr(x, 0, 32, 0xF6, 0, a, false);
        e8(x, (unsigned)imm);
        return;
    }
    op_rr(x, 0, w, 0xF7, 0, a, false);
    e32(x, (uint32_t)imm);
}
static inline void unary(X86 *x, int w, unsigned ext, unsigned d) {
    op_rr(x, 0, w, 0xF7, ext, d, false);
} // 2 not 3 neg 4 mul 5 imul 6 div 7 idiv
static inline void imul_rr(X86 *x, int w, unsigned d, unsigned s) {
    op_rr(x, 0, w, 0x0FAF, d, s, false);
}
static inline void imul_rri(X86 *x, int w, unsigned d, unsigned s, int32_t imm) {
    bool small = imm == (int8_t)imm;
    op_rr(x, 0, w, small ? 0x6B : 0x69, d, s, false);
    imm8_or_32(x, imm, small);
}
typedef enum Shift { SH_ROL, SH_ROR, SH_RCL, SH_RCR, SH_SHL, SH_SHR, SH_SAL, SH_SAR } Shift;
static inline void shift_i(X86 *x, int w, Shift op, unsigned d, unsigned n) {
    op_rr(x, 0, w, 0xC1, (unsigned)op, d, false);
    e8(x, n);
}
static inline void shift_cl(X86 *x, int w, Shift op, unsigned d) {
    op_rr(x, 0, w, 0xD3, (unsigned)op, d, false);
}
static inline void setcc(X86 *x, unsigned cc, unsigned d) {
    op_rr(x, 0, 32, 0x0F90 | cc, 0, d, true);
}
static inline void cmovcc(X86 *x, int w, unsigned cc, unsigned d, unsigned s) {
    op_rr(x, 0, w, 0x0F40 | cc, d, s, false);
}
static inline void bswap_r(X86 *x, int w, unsigned d) {
    rex(x, w, 0, 0, d, false);
    e8(x, 0x0F);
    e8(x, 0xC8 | (d & 7));
}
// VEX-encoded BMI: opcode in map 0F38 (or 0F3A for rorx); pp 0 none 1 66 2 F3 3 F2.
static inline void vex_rrr(X86 *x, int w, unsigned map, unsigned pp, unsigned op, unsigned reg,
                           unsigned v, unsigned rm) {
    e8(x, 0xC4);
    e8(x, (~reg >> 3 & 1) << 7 | 1 << 6 | (~rm >> 3 & 1) << 5 | map);
    e8(x, (w == 64 ? 0x80u : 0) | (~v & 15) << 3 | pp);
    e8(x, op);
    modrm_reg(x, reg, rm);
}
static inline void shlx(X86 *x, int w, unsigned d, unsigned s, unsigned n) {
    vex_rrr(x, w, 2, 1, 0xF7, d, n, s);
}
static inline void sarx(X86 *x, int w, unsigned d, unsigned s, unsigned n) {
    vex_rrr(x, w, 2, 2, 0xF7, d, n, s);
}
static inline void shrx(X86 *x, int w, unsigned d, unsigned s, unsigned n) {
    vex_rrr(x, w, 2, 3, 0xF7, d, n, s);
}
static inline void rorx(X86 *x, int w, unsigned d, unsigned s, unsigned n) {
    vex_rrr(x, w, 3, 3, 0xF0, d, 0, s);
    e8(x, n);
}
static inline void andn_rrr(X86 *x, int w, unsigned d, unsigned not_a, unsigned b) {
    vex_rrr(x, w, 2, 0, 0xF2, d, not_a, b);
}

// ---- control ----
static inline void push_r(X86 *x, unsigned r) {
    rex(x, 32, 0, 0, r, false);
    e8(x, 0x50 | (r & 7));
}
static inline void pop_r(X86 *x, unsigned r) {
    rex(x, 32, 0, 0, r, false);
    e8(x, 0x58 | (r & 7));
}
static inline void rel32_to(uint8_t *at, const uint8_t *target) {
    int32_t rel = (int32_t)(target - (at + 4));
    memcpy(at, &rel, 4);
}
static inline void jmp_to(X86 *x, const uint8_t *target) {
    e8(x, 0xE9);
    x->at += 4;
    rel32_to(x->at - 4, target);
    moves(x, x->at - 4, 0);
}
static inline void call_to(X86 *x, const uint8_t *target) {
    e8(x, 0xE8);
    x->at += 4;
    rel32_to(x->at - 4, target);
    moves(x, x->at - 4, 0);
}
// An address of code, links or functions of Dragoman, always in the long form.
static inline void mov_address(X86 *x, unsigned d, const void *address) {
    rex(x, 64, 0, 0, d, false);
    e8(x, 0xB8 | (d & 7));
    e64(x, (uintptr_t)address);
    moves(x, x->at - 8, X86_RELOC_ADDRESS);
}
// A forward jcc; returns the place of its rel32, for rel32_to.
static inline uint8_t *jcc_forward(X86 *x, unsigned cc) {
    e8(x, 0x0F);
    e8(x, 0x80 | cc);
    x->at += 4;
    return x->at - 4;
}
// Short forward jumps within one selection: patch with short_here.
static inline uint8_t *jcc_short(X86 *x, unsigned cc) {
    e8(x, 0x70 | cc);
    e8(x, 0);
    return x->at - 1;
}
static inline uint8_t *jmp_short(X86 *x) {
    e8(x, 0xEB);
    e8(x, 0);
    return x->at - 1;
}
static inline void short_here(X86 *x, uint8_t *rel8) {
    *rel8 = (uint8_t)(x->at - (rel8 + 1));
}
static inline void jmp_mem(X86 *x, Mem m) {
    op_rm(x, 0, 32, 0xFF, 4, m, false);
}
static inline void jmp_reg(X86 *x, unsigned r) {
    op_rr(x, 0, 32, 0xFF, 4, r, false);
}
static inline void call_reg(X86 *x, unsigned r) {
    op_rr(x, 0, 32, 0xFF, 2, r, false);
}
static inline void ret(X86 *x) {
    e8(x, 0xC3);
}
static inline void call_mem(X86 *x, Mem m) {
    op_rm(x, 0, 32, 0xFF, 2, m, false);
}
static inline void nops(X86 *x, unsigned n) {
    static const uint8_t nop[8][8] = {{0},
                                      {0x90},
                                      {0x66, 0x90},
                                      {0x0F, 0x1F, 0},
                                      {0x0F, 0x1F, 0x40, 0},
                                      {0x0F, 0x1F, 0x44, 0, 0},
                                      {0x66, 0x0F, 0x1F, 0x44, 0, 0},
                                      {0x0F, 0x1F, 0x80, 0, 0, 0, 0}};
    memcpy(x->at, nop[n], 8);
    x->at += n;
}
// Translated code keeps the return stack in rsp, C its own.
static inline void to_c_stack(X86 *x) {
    mov_store(x, 64, mem_state(HOT_DISP(ret_sp)), RSP);
    mov_load(x, 64, RSP, mem_state(HOT_DISP(host_sp)));
}
static inline void to_return_stack(X86 *x) {
    mov_load(x, 64, RSP, mem_state(HOT_DISP(ret_sp)));
}
static inline void ldmxcsr(X86 *x, Mem m) {
    op_rm(x, 0, 32, 0x0FAE, 2, m, false);
}
static inline void stmxcsr(X86 *x, Mem m) {
    op_rm(x, 0, 32, 0x0FAE, 3, m, false);
}
static inline void lock_prefix(X86 *x) {
    e8(x, 0xF0);
}
static inline void mfence(X86 *x) {
    e8(x, 0x0F), e8(x, 0xAE), e8(x, 0xF0);
}

// ---- vectors: thin wrappers of vec_encode ----
static inline VecRm vrm_of(Mem m) {
    return (VecRm){.mem = true, .base = m.base, .index = m.index, .scale = m.scale, .disp = m.disp};
}
static inline void vec_op(X86 *x, Vop op, unsigned d, unsigned s1, VecRm rm, unsigned imm) {
    x->at = vec_encode(x->at, rm, x->h->level, op, d, s1, imm);
    moves_rip(x, op, rm);
}
#endif
