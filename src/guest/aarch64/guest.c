// guest.c (aarch64) - the AArch64 guest: its tables put together, and the CPU models. The row table
// of instructions is generated from the .dec files; registers are state.def; features features.def.
#include "guest/aarch64/guest.h"

// Best first. Integers in the order of how often bench/'s programs touch them, weighed by where
// their time goes. Vectors: v0..v7 carry arguments, loops keep one or two of v8..v15 over calls,
// v16..v31 are scratch.
static const uint16_t hot_ints[] = {A64_X0,  A64_X1,  A64_X2,  A64_X3,  A64_X4,  A64_X19, A64_SP,
                                    A64_X20, A64_X5,  A64_X21, A64_X6,  A64_X22, A64_X16, A64_X23,
                                    A64_X8,  A64_X7,  A64_X30, A64_X9,  A64_X27, A64_X29, A64_X17,
                                    A64_X24, A64_X28, A64_X10, A64_X26, A64_X12, A64_X25, A64_X14,
                                    A64_X11, A64_X13, A64_X18, A64_X15};
static const uint16_t hot_vecs[] = {A64_V0,  A64_V1,  A64_V2,  A64_V3,  A64_V4,  A64_V5,  A64_V6,
                                    A64_V7,  A64_V8,  A64_V9,  A64_V16, A64_V17, A64_V18, A64_V19,
                                    A64_V20, A64_V21, A64_V22, A64_V23, A64_V24, A64_V25, A64_V26,
                                    A64_V27, A64_V28, A64_V29, A64_V30, A64_V31, A64_V10, A64_V11,
                                    A64_V12, A64_V13, A64_V14, A64_V15};
// What prologues store and epilogues load, without what loops work with (x22).
static const uint16_t saved_ints[] = {A64_X30, A64_X29, A64_X23, A64_X24, A64_X25, A64_X26};

#define F(name) A64_FEAT(name)
#define ARMV8_0 (F(fp) | F(simd) | F(evtstrm) | F(cpuid))
#define CRYPTO  (F(aes) | F(pmull) | F(sha1) | F(sha256))
#define ARMV8_2                                                                                    \
    (ARMV8_0 | F(crc) | F(lse) | F(rdm) | F(fp16) | F(fp16v) | F(lrcpc) | F(dotprod) | F(dcpop) |  \
     F(ssbs))
static const GuestCpu cpus[] = {
    {"max", "everything that is implemented",
     ARMV8_2 | CRYPTO | F(jscvt) | F(fcma) | F(sha3) | F(sm3) | F(sm4) | F(sha512) | F(fhm) |
         F(dit) | F(lse2) | F(lrcpc2) | F(flagm) | F(flagm2) | F(sb) | F(pauth) | F(pauthg) |
         F(dcpodp) | F(frintts) | F(i8mm) | F(bf16) | F(bti) | F(wfxt) | F(hbc) | F(dgh) | F(mops) |
         F(cssc)},
    {"cortex-a53", "Armv8.0 with CRC and crypto", ARMV8_0 | CRYPTO | F(crc)},
    {"cortex-a72", "Armv8.0 with CRC and crypto", ARMV8_0 | CRYPTO | F(crc)},
    {"neoverse-n1", "Armv8.2 with LSE, FP16, dot product", ARMV8_2 | CRYPTO},
    {NULL, NULL, 0}};
#undef F

const Guest guest_aarch64 = {
    .name = "aarch64",
    .elf_machine = 183, // EM_AARCH64
    .elf_class = 2,     // ELFCLASS64
    .min_insn_bytes = 4,
    .max_insn_bytes = 4,
    .state_bytes = sizeof(A64State),
    .fields = a64_fields,
    .n_fields = A64_FIELD_COUNT,
    .pc_field = A64_PC,
    .fp_rules = IR_FP_ARM,
    .hot = {.ints = hot_ints,
            .vecs = hot_vecs,
            .saved = saved_ints,
            .n_ints = ARRAY_LEN(hot_ints),
            .n_vecs = ARRAY_LEN(hot_vecs),
            .n_saved = ARRAY_LEN(saved_ints)},
    .unseen = A64_FEAT(mops),
    .cpus = cpus,
    .reset = a64_reset,
    .shared_bytes = A64_SHARED_BYTES,
    .share = a64_share,
    .faulted = a64_faulted,
    .mode = a64_mode,
    .fp_mode = a64_fp_mode,
    .lift = a64_lift_block,
    .direct = a64_direct_block,
    .disassemble = a64_disassemble,
    .mark = a64_mark,
    .linux_abi = &a64_linux_abi,
};
