// insn_case.h - one test case of the instruction fuzzer: registers, memory and up to eight
// instructions; in and out have the same layout. Shared by insn_guest.c (runs it as an AArch64
// program), insn_host.c (lifts and evaluates it) and insn_fuzz.py (makes and compares cases).
#ifndef DGM_TESTS_INSN_CASE_H
#define DGM_TESTS_INSN_CASE_H

#include <stdint.h>

enum {
    CASE_MAX_INSNS = 8,
    CASE_MEM_BYTES = 1024,
    CASE_SLOT_BYTES = 1024, // of code a case
    CASE_SLOTS = 8192,      // case i uses slot i % CASE_SLOTS
    CASE_INSN_OFFSET = 512, // the instructions, in the slot
};
#define CASE_CODE 0x50000000ul
#define CASE_MEM  0x60000000ul
#define CASE_WORK                                                                                  \
    0x58000000ul // the case being run, in the guest program (saved sp, tpidr in front)

typedef struct Case {
    uint64_t x[31], sp;
    uint8_t v[32][16];
    uint32_t nzcv, fpcr, fpsr; // nzcv in bits 31..28
    uint32_t status;           // out: 0, or the signal that an instruction raised
    uint32_t n_insns, insns[CASE_MAX_INSNS], pad[3];
    uint8_t mem[CASE_MEM_BYTES];
} Case;

#endif
