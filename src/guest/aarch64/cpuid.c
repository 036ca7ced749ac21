// cpuid.c - ID registers from the feature bits, restricted to the fields that Linux shows user mode
// (Documentation/arch/arm64/cpu-feature-registers).
#include "guest/aarch64/guest.h"

static uint64_t field(uint64_t features, A64FeatureBit bit, unsigned lo, uint64_t value) {
    return features >> bit & 1 ? value << lo : 0;
}
#define HAS(name, lo, value) field(f, A64_FEATBIT_##name, lo, value)

static uint64_t pfr0(uint64_t f) {
    uint64_t fp = f & A64_FEAT(fp16) ? 1 : f & A64_FEAT(fp) ? 0 : 15;
    return 0x11 | fp << 16 | fp << 20 | HAS(dit, 48, 1); // EL0 and EL1: AArch64 only
}

static uint64_t isar0(uint64_t f) {
    uint64_t aes = f & A64_FEAT(pmull) ? 2 : f & A64_FEAT(aes) ? 1 : 0;
    uint64_t sha2 = f & A64_FEAT(sha512) ? 2 : f & A64_FEAT(sha256) ? 1 : 0;
    uint64_t ts = f & A64_FEAT(flagm2) ? 2 : f & A64_FEAT(flagm) ? 1 : 0;
    return aes << 4 | HAS(sha1, 8, 1) | sha2 << 12 | HAS(crc, 16, 1) | HAS(lse, 20, 2) |
           HAS(rdm, 28, 1) | HAS(sha3, 32, 1) | HAS(sm3, 36, 1) | HAS(sm4, 40, 1) |
           HAS(dotprod, 44, 1) | HAS(fhm, 48, 1) | ts << 52 | HAS(rng, 60, 1);
}

static uint64_t isar1(uint64_t f) {
    uint64_t dpb = f & A64_FEAT(dcpodp) ? 2 : f & A64_FEAT(dcpop) ? 1 : 0;
    uint64_t rcpc = f & A64_FEAT(lrcpc2) ? 2 : f & A64_FEAT(lrcpc) ? 1 : 0;
    // the hash of pointer authentication is implementation defined: API and GPI, not APA and GPA
    return dpb | HAS(pauth, 8, 1) | HAS(jscvt, 12, 1) | HAS(fcma, 16, 1) | rcpc << 20 |
           HAS(pauth, 28, 1) | HAS(frintts, 32, 1) | HAS(sb, 36, 1) | HAS(bf16, 44, 1) |
           HAS(dgh, 48, 1) | HAS(i8mm, 52, 1);
}

static uint64_t isar2(uint64_t f) {
    return HAS(wfxt, 0, 2) | HAS(rpres, 4, 1) | HAS(mops, 16, 1) | HAS(hbc, 20, 1) |
           HAS(cssc, 52, 1);
}

uint64_t a64_id_register(uint64_t f, unsigned crm, unsigned op2) {
    switch (crm << 3 | op2) {
    case 000: return 0x000f0510; // MIDR_EL1: no vendor's; architecture from the ID registers
    case 005: return 0x80000000; // MPIDR_EL1
    case 006: return 0;          // REVIDR_EL1
    case 040: return pfr0(f);    // ID_AA64PFR0_EL1
    case 041: return HAS(bti, 0, 1) | HAS(ssbs, 4, 2); // ID_AA64PFR1_EL1
    case 050: return 6;                                // ID_AA64DFR0_EL1
    case 060: return isar0(f);                         // ID_AA64ISAR0_EL1
    case 061: return isar1(f);                         // ID_AA64ISAR1_EL1
    case 062: return isar2(f);                         // ID_AA64ISAR2_EL1
    case 070: return 0xff000000;                       // ID_AA64MMFR0_EL1: granules not shown
    case 071: return HAS(afp, 44, 1);                  // ID_AA64MMFR1_EL1
    case 072: return HAS(lse2, 32, 1);                 // ID_AA64MMFR2_EL1
    default: return 0;
    }
}
