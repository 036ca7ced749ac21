// insn_guest.c - an AArch64 Linux program that reads cases (insn_case.h) from stdin, runs each on
// the CPU and writes what became of it to stdout. It is the oracle under qemu-aarch64, and the
// patient under dragoman.
//
// Each case gets a slot of code: load all registers, the instructions, save all registers. The slot
// is a copy of `stub`, which finds its case at the fixed address CASE_WORK.
#include "insn_case.h"

#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

extern const char stub[], stub_end[];

#define STR2(x) #x
#define STR(x)  STR2(x)
__asm__(".pushsection .rodata\n"
        ".balign 16\n"
        ".globl stub, stub_end\n" // a local symbol with an addend has no place in the GOT
        "stub:\n"
        "  stp x29, x30, [sp, #-160]!\n"
        "  stp x19, x20, [sp, #16]\n"
        "  stp x21, x22, [sp, #32]\n"
        "  stp x23, x24, [sp, #48]\n"
        "  stp x25, x26, [sp, #64]\n"
        "  stp x27, x28, [sp, #80]\n"
        "  stp d8, d9, [sp, #96]\n"
        "  stp d10, d11, [sp, #112]\n"
        "  stp d12, d13, [sp, #128]\n"
        "  stp d14, d15, [sp, #144]\n"
        "  movz x0, #0x5800, lsl #16\n"
        "  mov x1, sp\n"
        "  mrs x2, tpidr_el0\n"
        "  stp x1, x2, [x0, #-16]\n"
        "  ldr w1, [x0, #768]\n  msr nzcv, x1\n"
        "  ldr w1, [x0, #772]\n  msr fpcr, x1\n"
        "  ldr w1, [x0, #776]\n  msr fpsr, x1\n"
        "  add x1, x0, #256\n"
        "  ldp q0, q1, [x1], #32\n  ldp q2, q3, [x1], #32\n  ldp q4, q5, [x1], #32\n"
        "  ldp q6, q7, [x1], #32\n  ldp q8, q9, [x1], #32\n  ldp q10, q11, [x1], #32\n"
        "  ldp q12, q13, [x1], #32\n  ldp q14, q15, [x1], #32\n  ldp q16, q17, [x1], #32\n"
        "  ldp q18, q19, [x1], #32\n  ldp q20, q21, [x1], #32\n  ldp q22, q23, [x1], #32\n"
        "  ldp q24, q25, [x1], #32\n  ldp q26, q27, [x1], #32\n  ldp q28, q29, [x1], #32\n"
        "  ldp q30, q31, [x1], #32\n"
        "  ldr x1, [x0, #248]\n  mov sp, x1\n"
        "  ldp x2, x3, [x0, #16]\n  ldp x4, x5, [x0, #32]\n  ldp x6, x7, [x0, #48]\n"
        "  ldp x8, x9, [x0, #64]\n  ldp x10, x11, [x0, #80]\n  ldp x12, x13, [x0, #96]\n"
        "  ldp x14, x15, [x0, #112]\n  ldp x16, x17, [x0, #128]\n  ldp x18, x19, [x0, #144]\n"
        "  ldp x20, x21, [x0, #160]\n  ldp x22, x23, [x0, #176]\n  ldp x24, x25, [x0, #192]\n"
        "  ldp x26, x27, [x0, #208]\n  ldp x28, x29, [x0, #224]\n  ldr x30, [x0, #240]\n"
        "  ldp x0, x1, [x0]\n"
        "  b stub + 512\n"
        ".org stub + 512\n"
        "  nop\n  nop\n  nop\n  nop\n  nop\n  nop\n  nop\n  nop\n"
        "  msr tpidr_el0, x0\n"
        "  movz x0, #0x5800, lsl #16\n"
        "  str x1, [x0, #8]\n"
        "  mrs x1, tpidr_el0\n  str x1, [x0]\n"
        "  stp x2, x3, [x0, #16]\n  stp x4, x5, [x0, #32]\n  stp x6, x7, [x0, #48]\n"
        "  stp x8, x9, [x0, #64]\n  stp x10, x11, [x0, #80]\n  stp x12, x13, [x0, #96]\n"
        "  stp x14, x15, [x0, #112]\n  stp x16, x17, [x0, #128]\n  stp x18, x19, [x0, #144]\n"
        "  stp x20, x21, [x0, #160]\n  stp x22, x23, [x0, #176]\n  stp x24, x25, [x0, #192]\n"
        "  stp x26, x27, [x0, #208]\n  stp x28, x29, [x0, #224]\n"
        "  mov x1, sp\n  stp x30, x1, [x0, #240]\n"
        "  mrs x1, nzcv\n  str w1, [x0, #768]\n"
        "  mrs x1, fpcr\n  str w1, [x0, #772]\n"
        "  mrs x1, fpsr\n  str w1, [x0, #776]\n"
        "  add x1, x0, #256\n"
        "  stp q0, q1, [x1], #32\n  stp q2, q3, [x1], #32\n  stp q4, q5, [x1], #32\n"
        "  stp q6, q7, [x1], #32\n  stp q8, q9, [x1], #32\n  stp q10, q11, [x1], #32\n"
        "  stp q12, q13, [x1], #32\n  stp q14, q15, [x1], #32\n  stp q16, q17, [x1], #32\n"
        "  stp q18, q19, [x1], #32\n  stp q20, q21, [x1], #32\n  stp q22, q23, [x1], #32\n"
        "  stp q24, q25, [x1], #32\n  stp q26, q27, [x1], #32\n  stp q28, q29, [x1], #32\n"
        "  stp q30, q31, [x1], #32\n"
        "  msr fpcr, xzr\n"
        "  ldp x1, x2, [x0, #-16]\n  mov sp, x1\n  msr tpidr_el0, x2\n"
        "  ldp x19, x20, [sp, #16]\n"
        "  ldp x21, x22, [sp, #32]\n"
        "  ldp x23, x24, [sp, #48]\n"
        "  ldp x25, x26, [sp, #64]\n"
        "  ldp x27, x28, [sp, #80]\n"
        "  ldp d8, d9, [sp, #96]\n"
        "  ldp d10, d11, [sp, #112]\n"
        "  ldp d12, d13, [sp, #128]\n"
        "  ldp d14, d15, [sp, #144]\n"
        "  ldp x29, x30, [sp], #160\n"
        "  ret\n"
        "stub_end:\n"
        ".popsection\n");

_Static_assert(offsetof(Case, v) == 256 && offsetof(Case, nzcv) == 768, "as the stub has it");

static Case *const work = (Case *)CASE_WORK;
static char *slot;

static void on_signal(int sig, siginfo_t *info, void *context) {
    ucontext_t *uc = context;
    work->status = (uint32_t)sig;
    uc->uc_mcontext.pc = (uintptr_t)slot + CASE_INSN_OFFSET + 4 * CASE_MAX_INSNS;
}

static int transfer(ssize_t (*how)(int, void *, size_t), int fd, void *p, size_t n) {
    for (size_t done = 0; done < n;) {
        ssize_t k = how(fd, (char *)p + done, n - done);
        if (k <= 0) return 0;
        done += (size_t)k;
    }
    return 1;
}

static ssize_t put(int fd, void *p, size_t n) {
    return write(fd, p, n);
}

static char signal_stack[65536];

static void *map_at(uintptr_t at, size_t bytes, int prot) {
    return mmap((void *)at, bytes, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
}

int main(void) {
    char *code =
        map_at(CASE_CODE, (size_t)CASE_SLOTS * CASE_SLOT_BYTES, PROT_READ | PROT_WRITE | PROT_EXEC);
    char *below = map_at(CASE_WORK - 4096, 12288, PROT_READ | PROT_WRITE);
    char *mem = map_at(CASE_MEM, 4096, PROT_READ | PROT_WRITE);
    if (code == MAP_FAILED || below == MAP_FAILED || mem == MAP_FAILED) return 1;
    sigaltstack(&(stack_t){.ss_sp = signal_stack, .ss_size = sizeof signal_stack}, NULL);
    struct sigaction act = {.sa_sigaction = on_signal,
                            .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
    static const int signals[] = {SIGILL, SIGSEGV, SIGBUS, SIGTRAP};
    for (unsigned i = 0; i < 4; i++) sigaction(signals[i], &act, NULL);
    for (unsigned i = 0; transfer(read, 0, work, sizeof *work); i++) {
        slot = code + (size_t)(i % CASE_SLOTS) * CASE_SLOT_BYTES;
        memcpy(slot, stub, (size_t)(stub_end - stub));
        memcpy(slot + CASE_INSN_OFFSET, work->insns, 4ul * work->n_insns);
        __builtin___clear_cache(slot, slot + CASE_SLOT_BYTES);
        memcpy(mem, work->mem, sizeof work->mem);
        work->status = 0;
        ((void (*)(void))slot)();
        memcpy(work->mem, mem, sizeof work->mem);
        if (!transfer(put, 1, work, sizeof *work)) return 1;
    }
    return 0;
}
