// state.c - AArch64 guest state as tables and as the outside sees it: fields, reset, cpsr, fpsr,
// what FPCR means to the IR.
#include "guest/aarch64/guest.h"

const IrField a64_fields[A64_FIELD_COUNT] = {
#define REG(id, name, member, type, gdb, dwarf)                                                    \
    {#name, offsetof(A64State, member), type, gdb, dwarf},
#include "guest/aarch64/state.def"
#undef REG
};

// Rounding, default NaN and half-precision format have host instructions or are rare operations of
// their own; what flushes denormals or changes NaNs' and signs' rules makes every FP operation odd.
uint32_t a64_lift_mode_of(uint32_t fpcr) {
    return (fpcr & (FPCR_FZ | FPCR_FZ16 | FPCR_FIZ | FPCR_AH | FPCR_AHP | FPCR_NEP | FPCR_DN)) ? 1
                                                                                               : 0;
}

uint32_t a64_fp_mode_of(uint32_t fpcr) {
    static const uint8_t rm[] = {IR_RM_NEAREST, IR_RM_UP, IR_RM_DOWN, IR_RM_ZERO};
    uint32_t mode = rm[fpcr >> FPCR_RMODE_SHIFT & 3];
    if (fpcr & FPCR_DN) mode |= IR_FPM_DN;
    if (fpcr & FPCR_FZ) mode |= IR_FPM_FZ;
    if (fpcr & FPCR_FZ16) mode |= IR_FPM_FZ16;
    if (fpcr & FPCR_AH) mode |= IR_FPM_AH;
    if (fpcr & FPCR_FIZ) mode |= IR_FPM_FIZ;
    if (fpcr & FPCR_AHP) mode |= IR_FPM_AHP;
    return mode;
}

uint32_t a64_get_cpsr(const A64State *s) {
    return ir_flags_to_nzcv(s->nzcv) | s->pstate;
}

void a64_set_cpsr(A64State *s, uint32_t cpsr) {
    s->nzcv = ir_flags_from_nzcv(cpsr);
    s->pstate = cpsr & (PSTATE_DIT | PSTATE_SSBS);
}

uint32_t a64_get_fpsr(const A64State *s) {
    uint32_t qc = s->qc.d[0] | s->qc.d[1] ? FPSR_QC : 0;
    return (vcpu_hot(s)->fp.flags & FPSR_EXCEPTIONS) | qc;
}

void a64_set_fpsr(A64State *s, uint32_t fpsr) {
    vcpu_hot(s)->fp.flags = fpsr & FPSR_EXCEPTIONS;
    s->qc = (V128){.d = {fpsr & FPSR_QC, 0}};
}

void a64_reset(void *state, uint64_t features) {
    A64State *s = state;
    *s = (A64State){
        .features = features, .excl_addr = (uint64_t)A64_EXCL_OPEN, .nzcv = ir_flags_from_nzcv(0)};
    // Keys are random on hardware; here every run is the same. They guard no secret of the host.
    uint64_t seed = 0x6472616f676f6d61ull;
    for (unsigned i = 0; i < A64_KEY_COUNT; i++)
        for (unsigned j = 0; j < 2; j++)
            s->pac_key[i][j] = seed = seed * 6364136223846793005ull + 1442695040888963407ull;
}

void a64_share(void *state, uint64_t shared) {
    ((A64State *)state)->excl_table = shared;
}

// STXR, STLXR, STXP, STLXP; not CASP, whose bits 31 and 21 tell.
static bool is_store_exclusive(uint32_t insn) {
    return (insn & 0x3fc00000) == 0x08000000 && (!(insn & 1u << 21) || insn & 1u << 31);
}

void a64_faulted(void *state, const void *insn_at, bool write) {
    A64State *s = state;
    uint32_t insn;
    memcpy(&insn, insn_at, sizeof insn);
    if (!write || !is_store_exclusive(insn) || s->excl_addr == (uint64_t)A64_EXCL_OPEN) return;
    uint32_t *version =
        vcpu_mem(s, s->excl_table + (s->excl_addr >> 2 & (A64_EXCL_VERSIONS - 1) * 4));
    uint32_t odd = (uint32_t)s->excl_version | 1;
    __atomic_compare_exchange_n(version, &odd, (uint32_t)s->excl_version, false, __ATOMIC_SEQ_CST,
                                __ATOMIC_SEQ_CST);
}

uint32_t a64_mode(const void *state) {
    return a64_lift_mode_of(((const A64State *)state)->fpcr);
}

uint32_t a64_fp_mode(const void *state) {
    return a64_fp_mode_of(((const A64State *)state)->fpcr);
}
