// loops.c - loops that run long enough to be made anew as hot code (src/engine/hot.c), where
// condition flags are not stored but made when somebody asks. All are first run until they are hot.
// Then pages that a loop reads and writes are taken away, and the handler of each fault adds all
// registers, flags and the pc to the sum that is printed. Signals of a timer land anywhere in it,
// and the handler compares all registers and flags with those of a copy of the loop that is stopped
// at the same place. Then threads run all of them at once, and children made meanwhile do. At last
// loops are rewritten while they run.
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

enum { PAGE = 4096, WORDS = 16384, AREA = WORDS * 8, SLACK = 16 * PAGE };
#define AREA_AT 0x52000000ul // what is read; never written behind the start
#define SINK_AT 0x53000000ul // what is written

typedef struct Regs {
    uint64_t x[31], nzcv;
} Regs;

// Runs from pc on with these registers, until run_tail is come to. x17 is the harness's own.
void run_at(Regs *r, const void *pc);
extern const char run_tail[];

#define EACH_PAIR(op)                                                                              \
    op " x2, x3, [x30, #16]\n" op " x4, x5, [x30, #32]\n" op " x6, x7, [x30, #48]\n" op            \
       " x8, x9, [x30, #64]\n" op " x10, x11, [x30, #80]\n" op " x12, x13, [x30, #96]\n" op        \
       " x14, x15, [x30, #112]\n" op " x19, x20, [x30, #152]\n" op " x21, x22, [x30, #168]\n" op   \
       " x23, x24, [x30, #184]\n" op " x25, x26, [x30, #200]\n" op " x27, x28, [x30, #216]\n"
#define OWN(op)                                                                                    \
    op " x19, x20, [sp, #16]\n" op " x21, x22, [sp, #32]\n" op " x23, x24, [sp, #48]\n" op         \
       " x25, x26, [sp, #64]\n" op " x27, x28, [sp, #80]\n"
__asm__(".text\n.balign 64\n.globl run_at\nrun_at:\n"
        "stp x29, x30, [sp, #-112]!\n" OWN(
            "stp") "str x0, [sp, #96]\nmov x30, x0\nmov x17, x1\n"
                   "fmov d0, xzr\nfmov d1, xzr\nldr x1, [x30, #248]\nmsr nzcv, x1\n" EACH_PAIR(
                       "ldp") "ldr x16, [x30, #128]\nldr x18, [x30, #144]\nldr x29, [x30, "
                              "#232]\nldp x0, x1, [x30]\n"
                              "ldr x30, [x30, #240]\nbr x17\n"
                              ".globl run_tail\nrun_tail:\nstr x30, [sp, #104]\nldr x30, [sp, "
                              "#96]\nstp x0, x1, [x30]\n" EACH_PAIR(
                                  "stp") "str x16, [x30, #128]\nstr x18, [x30, #144]\nstr x29, "
                                         "[x30, #232]\n"
                                         "ldr x0, [sp, #104]\nstr x0, [x30, #240]\nmrs x0, "
                                         "nzcv\nstr x0, [x30, #248]\n" OWN(
                                             "ldp") "ldp x29, x30, [sp], #112\nret\n");

// A loop begins at its `1` and is left at 9. x19 counts (or what the table says), by a step; x20 is
// the area, x25 its end, x23 what is written, x27 its end, x24 the number of words. All else that
// it computes follows from that within two rounds, which the timer's handler counts on.
#define LOOP(name, code)                                                                           \
    extern const uint32_t head_##name[], end_##name[];                                             \
    __asm__(".text\n.balign 64\nhead_" #name ":\n1: nop\n" code "\n9:\nend_" #name                 \
            ":\nb run_tail\n.global head_" #name ", end_" #name);

#define GET  "ldr x9, [x20, x19, lsl #3]\n"
#define GET2 "add x15, x20, x19, lsl #2\n ldr x10, [x15]\n"
#define SET  "str x9, [x23, x19, lsl #3]\n"

typedef struct Loop {
    const char *name;
    const uint32_t *head, *end;
    int64_t from, step; // of the counter, each round
    unsigned reg;       // the counter, if not x19
    bool inner;         // a loop in the loop: signals find more than the copy can tell
} Loop;
#define ROW(n, ...) {.name = #n, .head = head_##n, .end = end_##n, __VA_ARGS__},
#define DOWN(n)     ROW(n, .from = WORDS - 1, .step = -1)
#define IF_ROW(cc)  DOWN(if_##cc)
#ifdef OTHER_LOOPS
#include OTHER_LOOPS // others, by tests/fuzz/loop_fuzz.py
#else

// Counters: up and down, by any constant, by a register, in 32 bits.
LOOP(down, GET "subs x19, x19, #1\n b.ne 1b")
LOOP(down3, "subs x19, x19, #3\n" GET "b.hi 1b")
LOOP(down_w, GET "subs w19, w19, #5\n" SET "b.gt 1b")
LOOP(down_far, "subs x19, x19, #4095\n sub x19, x19, #1, lsl #12\n add x19, x19, #1, lsl #12\n add "
               "x19, x19, #4094\n" GET "b.pl 1b")
LOOP(down_by, "subs x19, x19, x26\n" GET SET "b.cs 1b")
LOOP(down_cmp, "sub x19, x19, #2\n" GET "cmp x19, #0\n" SET "b.gt 1b")
LOOP(up, "add x19, x19, #1\n" GET "cmp x19, x24\n" SET "b.ne 1b")
LOOP(up7, "cmp x19, x24\n" GET "add x19, x19, #7\n" SET "b.lo 1b")
LOOP(up_const, "add w19, w19, #1\n" GET "cmp w19, #4, lsl #12\n" SET "b.lt 1b")
LOOP(up_from_below,
     "adds x19, x19, #1\n ldr x9, [x25, x19, lsl #3]\n str x9, [x27, x19, lsl #3]\n b.ne 1b")
LOOP(up_carry, "adds w10, w19, #3\n ldr x9, [x25, w19, sxtw #3]\n add w19, w19, #3\n"
               "str x9, [x27, w19, sxtw #3]\n b.cc 1b")
LOOP(cmn, "ldr x9, [x25, x19, lsl #3]\n add x19, x19, #1\n cmn x19, #1\n ldr x10, [x25, x19, lsl "
          "#3]\n b.ne 1b")
LOOP(cmn_reg,
     "cmn x19, x24\n ldr x9, [x25, x19, lsl #3]\n add x19, x19, #1\n cset w10, mi\n cmn x19, x26\n"
     "ldr x11, [x25, x19, lsl #3]\n b.mi 1b")
LOOP(before, "cmp x19, #9\n sub x19, x19, #1\n" GET "sub x19, x19, #1\n" GET
             "add x19, x19, #1\n" GET "b.hi 1b")
LOOP(pointer, "ldr x9, [x22], #8\n cmp x22, x25\n ldr x10, [x22, #8]\n b.ne 1b")
LOOP(difference, "subs x10, x24, x19\n" GET "mov x11, x10\n add x19, x19, #1\n" SET "b.hi 1b")
LOOP(difference_own, "mov x10, x19\n subs x10, x10, x26\n" GET "sub x19, x19, #3\n" SET "b.hi 1b")
LOOP(extended, GET "sub x19, x19, #1\n cmp x19, w9, uxtb\n" SET
                   "cset w10, lo\n cmp x26, x19, lsl #2\n" SET "b.lt 1b")
LOOP(negative, GET "negs x10, x19\n" SET "sub x19, x19, #1\n" SET "b.ne 1b")

// Tests.
LOOP(tst, "sub x19, x19, #1\n" GET "tst x19, #0x1ffff\n" SET "b.ne 1b")
LOOP(tst_w, GET
     "tst w9, w19\n sub w19, w19, #1\n ldr x9, [x20, w19, sxtw #3]\n cset w10, eq\n tst w19, w19\n"
     "str x9, [x23, w19, sxtw #3]\n b.pl 1b")
LOOP(ands, GET "ands x9, x9, x19\n" SET
               "sub x19, x19, #1\n cset x10, mi\n ands x11, x19, #0xfffff\n" SET "b.ne 1b")
LOOP(ands_own, GET "ands x9, x9, #0xff00\n" SET "b.eq 2f\n eor x10, x19, #1\n2: sub x19, x19, #1\n"
                   "ands x12, x9, x10\n ldr x9, [x20]\n ldr x10, [x20, #8]\n ldr x12, [x20, #16]\n "
                   "csinc x13, x9, x10, eq\n"
                   "cbnz x19, 1b")
LOOP(bics, GET "bics x10, x9, x19\n" SET
               "sub x19, x19, #1\n cset x11, ne\n bics wzr, w19, w28\n" SET "b.ne 1b")

// Readers of the last round's flags.
LOOP(adc, "adc x10, x9, x19\n csel x11, x10, x9, lt\n" GET "subs x19, x19, #2\n" SET "b.hi 1b")
LOOP(cset, "cset w10, vs\n cset w11, hi\n" GET "sub x19, x19, #1\n cmp x9, x19, lsl #40\n" SET
           "cbnz x19, 1b")
LOOP(cset_logic, "cset w10, eq\n cset w11, cc\n cset w12, mi\n" GET
                 "sub x19, x19, #1\n tst x9, x19, lsl #3\n" SET "tbz x19, #63, 1b")
LOOP(ccmp_last, "ccmp x19, x26, #13, lo\n" GET
                "cset w10, eq\n cset w11, lt\n sub x19, x19, #1\n cmp x9, x28\n" SET "cbnz x19, 1b")
LOOP(fcsel_last,
     "scvtf d0, x19\n scvtf d1, x9\n fcsel d2, d0, d1, gt\n fmov x12, d2\n" GET "sub x19, x19, #1\n"
     "cmp w9, w28\n" SET "cbnz w19, 1b")
LOOP(adcs, GET "adcs x10, x9, x19\n" SET "sbcs x11, x10, x9\n sub x19, x19, #1\n" SET
               "cmp x19, #0\n b.ne 1b")
LOOP(mrs, "mrs x10, nzcv\n" GET "sub x19, x19, #1\n cmp w9, w19\n" SET "cbnz x19, 1b")
LOOP(msr, "and x9, x19, #0xf\n lsl x9, x9, #28\n msr nzcv, x9\n" GET
          "cset w10, ge\n cset w11, ls\n sub x19, x19, #1\n" SET "cbnz x19, 1b")
LOOP(system, GET "sub x19, x19, #1\n cmp w9, w19\n" SET
                 "tbnz x9, #1, 2f\n and x10, x19, #0xff\n cbnz x10, 2f\n"
                 "mov w8, #5000\n svc #0\n2: cset w11, hi\n mov x0, #0\n cbnz x19, 1b")

// Operands that are overwritten before the flags are asked for.
LOOP(gone,
     GET "cmp x9, #77\n ldr x9, [x20, #8]\n" SET "cset w11, lo\n sub x19, x19, #1\n cbnz x19, 1b")
LOOP(gone_both, GET GET2
     "cmp x9, x10\n ldr x9, [x20, #8]\n ldr x10, [x20, #16]\n" SET "b.gt 2f\n mov x11, x19\n2:"
     "sub x19, x19, #1\n tst w9, w10\n ldr x9, [x20, #24]\n ldr x10, [x20, #32]\n cbnz x19, 1b")
LOOP(gone_pair,
     "add x12, x20, x19, lsl #3\n ldp x9, x10, [x12]\n subs w11, w9, w10\n ldp w9, w11, [x12, #8]\n"
     "ldr x10, [x12]\n cset w13, ge\n sub x19, x19, #1\n cbnz x19, 1b")
LOOP(gone_later, GET "cmp x9, x28\n" SET
                     "b.eq 9f\n ldr x10, [x20]\n mov x9, #5\n b.lo 2f\n add x11, x19, #1\n2:"
                     "sub x19, x19, #1\n" SET "cbnz x19, 1b")
// What was kept of one comparison is the other operand of the next.
LOOP(kept_twice,
     GET GET2 "cmp x9, x28\n mov x5, x9\n ldr x9, [x20]\n ldr x7, [x20, #8]\n cset w11, lo\n"
              "cmp x10, x5\n ldr x5, [x20, #16]\n ldr x10, [x20, #24]\n" SET "cset w12, lt\n"
              "sub x19, x19, #1\n cbnz x19, 1b")
LOOP(kept_logic, GET GET2
     "cmp x9, x10\n mov x5, x10\n ldr x9, [x20]\n ldr x10, [x20, #8]\n" SET "cset w11, hi\n" GET
     "tst x5, x9\n ldr x5, [x20, #16]\n ldr x9, [x20, #24]\n" SET "cset w12, ne\n"
     "sub x19, x19, #1\n cbnz x19, 1b")

// The same in registers that hosts are likely to have a home for.
#define GET_HOME "ldr x1, [x20, x19, lsl #3]\n add x15, x20, x19, lsl #2\n ldr x2, [x15]\n"
#define SET_HOME "str x2, [x23, x19, lsl #3]\n"
LOOP(gone_home, GET_HOME "cmp x1, x2\n ldr x1, [x20, #8]\n" SET_HOME
                         "cset w11, lo\n ldr x2, [x20]\n tst x1, x2\n"
                         "ldr x2, [x20, #16]\n sub x19, x19, #1\n cbnz x19, 1b")
LOOP(kept_home,
     GET_HOME "cmp x1, x28\n mov x3, x1\n ldr x1, [x20]\n ldr x4, [x20, #8]\n cset w11, lo\n"
              "cmp x2, x3\n ldr x3, [x20, #16]\n ldr x2, [x20, #24]\n" SET_HOME "cset w12, lt\n"
              "sub x19, x19, #1\n cbnz x19, 1b")
LOOP(kept_home_b,
     GET_HOME "cmp x28, x1\n mov x3, x1\n ldr x1, [x20]\n ldr x4, [x20, #8]\n cset w11, lo\n"
              "tst x3, x2\n ldr x3, [x20, #16]\n ldr x2, [x20, #24]\n" SET_HOME "cset w12, eq\n"
              "sub x19, x19, #1\n cbnz x19, 1b")
LOOP(kept_sums, GET_HOME "subs x3, x1, x2\n ldr x1, [x20]\n" SET_HOME
                         "cset w11, ge\n subs w3, w3, w2\n add x2, x2, #9\n"
                         "add x3, x3, #5\n ldr x1, [x20]\n" SET_HOME
                         "cset w12, vs\n sub x19, x19, #1\n cbnz x19, 1b")
LOOP(stepping,
     GET_HOME "cmp x1, x2\n add x1, x1, #1\n" SET_HOME "sub x2, x2, #3\n" SET_HOME
              "add x2, x2, #1, lsl #12\n"
              "mov x3, x1\n add x1, x1, x1\n" SET_HOME
              "cset w11, hi\n cmp w3, w2\n add w3, w3, #1\n add x2, x2, #4\n" SET_HOME
              "sub w2, w2, #1\n" SET_HOME "cset w12, le\n sub x19, x19, #1\n cbnz x19, 1b")

// Conditional comparisons.
LOOP(ccmp, GET "sub x19, x19, #1\n cmp x9, x28\n ccmp x19, #0, #4, ne\n" SET "b.ne 1b")
LOOP(ccmp_hi, GET "sub x19, x19, #1\n cmp x9, x28\n ccmp x19, #3, #2, ne\n" SET "b.hi 1b")
LOOP(ccmp_le, GET "add x19, x19, #1\n cmp x9, x28\n ccmp x19, x24, #8, ne\n" SET "b.le 1b")
LOOP(ccmp_w,
     GET "cmp w9, w19\n ccmp w9, #9, #1, lo\n" SET "cset w10, vs\n sub w19, w19, #1\n cmp w9, w10\n"
         "ccmn w19, #0, #0, ne\n" SET "b.ne 1b")
LOOP(ccmp_gone,
     GET GET2 "cmp x9, x10\n ccmp x9, x19, #6, lt\n ldr x9, [x20]\n ldr x10, [x20, #8]\n b.ls 2f\n"
              "add x11, x19, #3\n2: sub x19, x19, #1\n" SET "cbnz x19, 1b")
LOOP(ccmp_twice,
     GET "cmp x9, x28\n ccmp x9, #3, #0, hi\n ccmp x19, #4, #0, ne\n" SET "cset w10, eq\n"
         "sub x19, x19, #1\n cbnz x19, 1b")

// Floating point.
LOOP(fcmp, "scvtf d0, x19\n" GET "sub x19, x19, #1\n fcmp d0, #0.0\n" SET "b.gt 1b")
LOOP(fcmp_lost, GET "fmov d0, x9\n fmov d1, x19\n fcmp d0, d1\n" SET "cset w10, vs\n cset w11, mi\n"
                    "fccmp d1, d0, #5, ne\n" SET "cset w12, hi\n sub x19, x19, #1\n cbnz x19, 1b")
LOOP(fcmp_kept, GET "fmov d0, x9\n fmov d20, x19\n fcmpe d0, d20\n fmov d0, x26\n" SET
                    "mov x11, #0\n movi d20, #0\n" SET "b.lt 2f\n add x11, x19, #1\n" SET
                    "2: cset w10, vs\n fcmp s0, s20\n sub x19, x19, #1\n" SET
                    "cset w12, pl\n tst x19, x19\n b.ne 1b")
LOOP(fcmp_equal, GET "fmov d30, x9\n mov x10, #0\n mov x11, #0\n fcmp d30, d30\n" SET
                     "b.ne 2f\n add x10, x19, #1\n2: orr x12, x9, #0x7ff0000000000000\n"
                     "fmov d30, x12\n fcmp d30, #0.0\n" SET "b.eq 3f\n add x11, x19, #2\n" SET
                     "3: fmov s0, w9\n fcmp s0, s30\n csel x13, x9, x19, eq\n" SET
                     "sub x19, x19, #1\n cbnz x19, 1b")

// Several blocks, calls, loops in loops.
LOOP(either, GET "tbz x9, #3, 2f\n eor x10, x9, x19\n subs x19, x19, #1\n" SET
                 "b.ne 1b\n b 9f\n2: orr x10, x9, #1\n"
                 "subs x19, x19, #1\n" SET "b.ne 1b")
LOOP(either_cmp,
     GET "cmp w9, w28\n b.hi 2f\n add x10, x19, #5\n b 3f\n2: cmp w9, #1\n sub x10, x19, #5\n3:" SET
         "cset w11, cs\n sub x19, x19, #1\n cbnz x19, 1b")
LOOP(blocks, "b 4f\n2: subs x19, x19, #1\n" SET
             "b.eq 9f\n b 1b\n3: cset w10, ge\n cset w11, hi\n b 2b\n4:" GET
             "cmp x9, x19, lsl #44\n b 5f\n5: tbz x9, #2, 3b\n mov x12, x9\n b 3b")
LOOP(passing,
     GET "cmp w9, w19\n b 2f\n4: cset w11, lt\n cbnz x19, 1b\n b 9f\n3: sub x19, x19, #1\n" SET
         "tbz x9, #5, 4b\n mov w9, #3\n b 4b\n2: add x12, x9, #3\n" SET "b 3b")
LOOP(calls, GET "bl 5f\n cset w10, gt\n sub x19, x19, #1\n" SET
                "cbnz x19, 1b\n b 9f\n5: cmp w9, w19\n ret")
LOOP(calls_across,
     GET "cmp w9, w19\n bl 5f\n" SET "cset w12, lt\n subs x19, x19, #1\n b.ne 1b\n b 9f\n"
         "5: cset w10, hi\n" SET "b.pl 6f\n mov x11, x30\n6: ret")
LOOP(calls_pointer, GET "adr x13, 5f\n cmp w9, w19\n blr x13\n" SET
                        "cset w12, cc\n subs x19, x19, #1\n b.ne 1b\n b 9f\n"
                        "5: cset w10, vc\n" SET "ret")
LOOP(nested,
     "mov w14, #5\n2:" GET "subs w14, w14, #1\n" SET "b.ne 2b\n subs x19, x19, #1\n" GET "b.ne 1b")
LOOP(nested_up, "mov x14, #0\n2: add x14, x14, #3\n" GET "cmp x14, #30\n" SET
                "b.lo 2b\n sub x19, x19, #10\n cmp x19, #9\n" GET "b.hi 1b")

// All conditions, of a comparison and of a test whose operands are overwritten.
#define CONDITION(cc)                                                                              \
    LOOP(if_##cc, GET_HOME                                                                         \
         "cmp w1, w28\n b." #cc " 2f\n add x11, x19, #1\n2: ldr x1, [x20, #24]\n" SET_HOME         \
         "cset w12, " #cc "\n tst w2, w2\n ldr x2, [x20]\n ldr x2, [x20, #8]\n b." #cc             \
         " 3f\n add x13, x19, #2\n3: subs x19, x19, #1\n" GET "b.ne 1b")
#define EACH_CC(m)                                                                                 \
    m(eq) m(ne) m(cs) m(cc) m(mi) m(pl) m(vs) m(vc) m(hi) m(ls) m(ge) m(lt) m(gt) m(le)
EACH_CC(CONDITION)

// clang-format off
#define ROWS \
    DOWN(down) ROW(down3, .from = 3 * (WORDS / 3), .step = -3) \
    ROW(down_w, .from = 5 * (WORDS / 5), .step = -5) \
    ROW(down_far, .from = WORDS - 1, .step = -1) \
    ROW(down_by, .from = 3 * (WORDS / 3), .step = -3) ROW(down_cmp, .from = WORDS, .step = -2) \
    ROW(up, .step = 1) ROW(up7, .step = 7) ROW(up_const, .step = 1) \
    ROW(up_from_below, .from = -WORDS, .step = 1) \
    ROW(up_carry, .from = 0x100000000 - WORDS, .step = 3) ROW(cmn, .from = -WORDS, .step = 1) \
    ROW(cmn_reg, .from = -WORDS, .step = 1) ROW(before, .from = WORDS, .step = -1) \
    ROW(pointer, .from = AREA_AT, .step = 8, .reg = 22) ROW(difference, .step = 1) \
    ROW(difference_own, .from = 3 * (WORDS / 3), .step = -3) DOWN(extended) DOWN(negative) \
    DOWN(tst) DOWN(tst_w) DOWN(ands) DOWN(ands_own) DOWN(bics) \
    ROW(adc, .from = WORDS, .step = -2) DOWN(cset) DOWN(cset_logic) DOWN(ccmp_last) \
    DOWN(fcsel_last) DOWN(adcs) DOWN(mrs) DOWN(msr) DOWN(system) DOWN(gone) DOWN(gone_both) \
    DOWN(gone_pair) DOWN(gone_later) DOWN(kept_twice) DOWN(kept_logic) DOWN(gone_home) \
    DOWN(kept_home) DOWN(kept_home_b) DOWN(kept_sums) DOWN(stepping) DOWN(ccmp) DOWN(ccmp_hi) \
    ROW(ccmp_le, .step = 1) DOWN(ccmp_w) DOWN(ccmp_gone) DOWN(ccmp_twice) DOWN(fcmp) \
    DOWN(fcmp_lost) DOWN(fcmp_kept) DOWN(fcmp_equal) DOWN(either) DOWN(either_cmp) \
    DOWN(blocks) DOWN(passing) DOWN(calls) DOWN(calls_across) DOWN(calls_pointer) \
    ROW(nested, .from = WORDS - 1, .step = -1, .inner = true) \
    ROW(nested_up, .from = WORDS - 1, .step = -10, .inner = true) EACH_CC(IF_ROW)
// clang-format on
#endif

static const Loop loops[] = {ROWS};
enum { LOOPS = sizeof loops / sizeof *loops, MOST_WORDS = 64 };

static Regs ends[LOOPS]; // what the first run of each came to
static atomic_uint wrong;

static uint64_t now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static unsigned counter_of(const Loop *l) {
    return l->reg ? l->reg : 19;
}

static Regs start_of(const Loop *l) {
    Regs r = {.nzcv = 0x60000000};
    for (unsigned i = 0; i < 31; i++) r.x[i] = 0x0123456789abcdef * (2 * i + 1);
    r.x[19] = 1;
    r.x[20] = AREA_AT;
    r.x[23] = SINK_AT;
    r.x[24] = WORDS;
    r.x[25] = AREA_AT + AREA;
    r.x[26] = 3;
    r.x[27] = SINK_AT + AREA;
    r.x[28] = 0x80000000c0000000;
    r.x[counter_of(l)] = (uint64_t)l->from;
    return r;
}

// The copies that a signal's handler runs: both are left where the loop begins, the second also
// where the signal came.
static uint32_t *copies[2];

// Without addresses in code, which differ from build to build.
static Regs plain(const Loop *l, Regs r) {
    const uint64_t n = (uint64_t)(l->end - l->head) * 4;
    const uint64_t at[] = {(uintptr_t)l->head, (uintptr_t)copies[0], (uintptr_t)copies[1]};
    for (unsigned i = 0; i < 31; i++)
        for (unsigned k = 0; k < 3; k++)
            if (r.x[i] - at[k] < n) r.x[i] -= at[k];
    r.x[17] = 0;
    return r;
}

static void differs(const char *what, const Loop *l, const Regs *got, const Regs *want) {
    if (wrong++ > 20) return;
    fprintf(stderr, "%s, %s:", l->name, what);
    for (unsigned i = 0; i < 31; i++)
        if (got->x[i] != want->x[i]) fprintf(stderr, " x%u %lx, not %lx", i, got->x[i], want->x[i]);
    fprintf(stderr, " nzcv %lx, not %lx\n", got->nzcv >> 28, want->nzcv >> 28);
}

static void run(const char *what, unsigned i) {
    Regs r = start_of(&loops[i]);
    run_at(&r, loops[i].head);
    r = plain(&loops[i], r);
    if (memcmp(&r, &ends[i], sizeof r)) differs(what, &loops[i], &r, &ends[i]);
}

static void run_for(const char *what, unsigned i, unsigned ms) {
    for (uint64_t until = now_ms() + ms; now_ms() < until;)
        for (unsigned times = 0; times < 20; times++) run(what, i); // few system calls
}

static uint64_t mix(uint64_t sum, uint64_t v) {
    return (sum ^ v) * 0x9e3779b97f4a7c15 + (sum >> 29);
}

static uint64_t mix_regs(uint64_t sum, const Regs *r) {
    for (unsigned i = 0; i < 31; i++) sum = mix(sum, r->x[i]);
    return mix(sum, r->nzcv);
}

static Regs regs_of(const ucontext_t *u) {
    Regs r = {.nzcv = u->uc_mcontext.pstate & 0xf0000000};
    memcpy(r.x, u->uc_mcontext.regs, sizeof r.x);
    return r;
}

// ---- faults ----

static const Loop *running;
static uint64_t fault_sum;
static unsigned n_faults, n_turns;
static uint64_t stack_at, open_area, open_sink;

static void protect(uint64_t at, uint64_t bytes, int how) {
    mprotect((void *)at, bytes, how);
}

// Mends the page. At some the other area's is closed again, for faults that come one after the
// other.
static void on_fault(int signo, siginfo_t *si, void *context) {
    enum { TURNS = 24 };
    const ucontext_t *u = context;
    uint64_t at = (uintptr_t)si->si_addr, page = at & ~(PAGE - 1ul);
    Regs r = plain(running, regs_of(u));
    if (at - AREA_AT >= AREA && at - SINK_AT >= AREA) {
        fprintf(stderr, "%s: a fault at %lx\n", running->name, at);
        _exit(1);
    }
    if (!stack_at) stack_at = u->uc_mcontext.sp;
    fault_sum = mix_regs(fault_sum, &r);
    fault_sum = mix(mix(fault_sum, at), u->uc_mcontext.sp - stack_at);
    fault_sum = mix(fault_sum, u->uc_mcontext.pc - (uintptr_t)running->head);
    n_faults++;
    bool sink = at - SINK_AT < AREA;
    uint64_t *own = sink ? &open_sink : &open_area, *other = sink ? &open_area : &open_sink;
    *own = page;
    protect(page, PAGE, PROT_READ | PROT_WRITE);
    if (*other && page / PAGE % 8 == 3 && n_turns < TURNS) {
        n_turns++;
        protect(*other, PAGE, PROT_NONE);
        *other = 0;
    } else if (page / PAGE % 8 == 4) {
        n_turns = 0;
    }
}

static void faults_in(unsigned i) {
    fault_sum = stack_at = n_faults = n_turns = open_area = open_sink = 0;
    for (unsigned times = 0; times < 3; times++) {
        protect(AREA_AT, AREA, PROT_NONE);
        protect(SINK_AT, AREA, PROT_NONE);
        run("faults", i);
        protect(AREA_AT, AREA, PROT_READ | PROT_WRITE);
        protect(SINK_AT, AREA, PROT_READ | PROT_WRITE);
        run("between faults", i);
    }
}

// ---- signals ----

static volatile unsigned n_signals, n_compared;

static void put_words(uint32_t *at, const uint32_t *words, size_t n) {
    memcpy(at, words, n * 4);
    __builtin___clear_cache((char *)at, (char *)(at + n));
}

static uint32_t jump(size_t from, size_t to) {
    return 0x14000000u | ((uint32_t)(to - from) & 0x3ffffff);
}

static void make_copy(const Loop *l, unsigned which, size_t stop) {
    uint32_t code[MOST_WORDS + 4];
    size_t n = (size_t)(l->end - l->head);
    uint64_t tail = (uintptr_t)run_tail;
    if (n > MOST_WORDS) abort();
    memcpy(code, l->head, n * 4);
    code[0] = jump(0, n);
    if (stop) code[stop] = jump(stop, n);
    code[n] = 0x58000051;     // ldr x17, the words behind
    code[n + 1] = 0xd61f0220; // br x17
    memcpy(code + n + 2, &tail, 8);
    put_words(copies[which], code, n + 4);
}

// Does the loop come to these registers here? From a few rounds before on; what the first two of
// them make of registers that are not theirs does not matter.
static bool comes_to(const Loop *l, const Regs *want, size_t stop) {
    Regs r = *want;
    r.x[counter_of(l)] -= (uint64_t)(4 * l->step);
    r.nzcv ^= 0xf0000000;
    make_copy(l, 1, stop);
    for (unsigned round = 0; round < 7; round++) {
        run_at(&r, copies[0] + 1);
        Regs there = r;
        if (stop) run_at(&there, copies[1] + 1);
        there = plain(l, there);
        if (!memcmp(&there, want, sizeof there)) return true;
    }
    return false;
}

static void on_signal(int signo, siginfo_t *si, void *context) {
    const ucontext_t *u = context;
    const Loop *l = running;
    uint64_t at = u->uc_mcontext.pc - (uintptr_t)l->head;
    n_signals++;
    if (l->inner || at >= (uint64_t)(l->end - l->head) * 4) return;
    Regs r = regs_of(u), p = plain(l, r);
    int64_t rounds = ((int64_t)r.x[counter_of(l)] - l->from) / l->step;
    if (rounds < 6) return;
    n_compared++;
    if (comes_to(l, &p, at / 4)) return;
    fprintf(stderr, "at %lu of %lu: ", at, (uint64_t)(l->end - l->head) * 4);
    differs("a signal", l, &p, &ends[l - loops]);
}

static void signals_in(unsigned i, unsigned ms) {
    const struct itimerval often = {{0, 1700}, {0, 1700}}, never = {0};
    make_copy(&loops[i], 0, 0);
    setitimer(ITIMER_REAL, &often, NULL);
    run_for("signals", i, ms);
    setitimer(ITIMER_REAL, &never, NULL);
}

// ---- threads and children ----

static void *run_all(void *what) {
    for (unsigned i = 0; i < LOOPS; i++)
        for (unsigned times = 0; times < 5; times++) run(what, i);
    return NULL;
}

static void together(void) {
    pthread_t thread[3];
    for (unsigned i = 0; i < 3; i++) pthread_create(&thread[i], NULL, run_all, "threads");
    for (unsigned i = 0; i < 4; i++) { // children of a process whose threads are in loops
        pid_t child = fork();
        if (!child) {
            run_all("a child");
            _exit(wrong != 0);
        }
        int status = -1;
        run_all("a parent");
        waitpid(child, &status, 0);
        if (status) wrong++;
    }
    for (unsigned i = 0; i < 3; i++) pthread_join(thread[i], NULL);
}

// ---- loops that change ----

// add x2, x2, #1; subs x3, x3, #1; cset x4, vs; b.ne back; ret
static const uint32_t counting[] = {0x91000442, 0xf1000463, 0x9a9f77e4, 0x54ffffa1, 0xd65f03c0};
enum { ADD_2 = 0x91000842, STOPS = 0xeb030063 }; // add x2, x2, #2; subs x3, x3, x3

typedef struct Counted {
    uint64_t sum, left, flags;
} Counted;

static Counted count(const void *code, uint64_t n) {
    register uint64_t x2 __asm__("x2") = 0, x3 __asm__("x3") = n,
                         x5 __asm__("x5") = (uintptr_t)code;
    __asm__ volatile("blr x5\n mrs x5, nzcv"
                     : "+r"(x2), "+r"(x3), "+r"(x5)
                     :
                     : "x4", "x30", "cc", "memory");
    return (Counted){x2, x3, x5 >> 28};
}

static Counted counted;

static void *count_for_ever(void *code) {
    counted = count(code, 1ull << 62);
    return NULL;
}

static void changes(unsigned ms) {
    uint32_t *code = copies[0];
    unsigned good = 0;
    for (unsigned times = 0; times < 6; times++) {
        put_words(code, counting, 5);
        pthread_t thread;
        pthread_create(&thread, NULL, count_for_ever, code);
        usleep(ms * 1000);
        put_words(code, (uint32_t[]){ADD_2}, 1);
        usleep(ms * 500);
        put_words(code + 1, (uint32_t[]){STOPS}, 1);
        pthread_join(thread, NULL);
        good += counted.left == 0 && counted.flags == 6;
    }
    printf("rewritten by another thread: %u\n", good);
    // By itself, each time behind a run that makes it hot.
    put_words(code, counting, 5);
    uint64_t sum = 0, want = 0;
    for (unsigned times = 0; times < 60; times++) {
        uint32_t add = 0x91000042 | (times + 1) << 10;
        uint64_t n = 200000 + times;
        put_words(code, &add, 1);
        Counted c = count(code, n);
        sum += c.sum + c.flags;
        want += n * (times + 1) + 6;
    }
    printf("rewritten by itself: %d\n", sum == want);
}

static void *at_address(uint64_t at, size_t bytes, int how) {
    int fixed = at ? MAP_FIXED_NOREPLACE : 0;
    void *p = mmap((void *)at, bytes, how, MAP_PRIVATE | MAP_ANONYMOUS | fixed, -1, 0);
    if (p == MAP_FAILED) abort();
    return p;
}

static void set_up(void) {
    at_address(AREA_AT - SLACK, AREA + 2 * SLACK, PROT_READ | PROT_WRITE);
    at_address(SINK_AT - SLACK, AREA + 2 * SLACK, PROT_READ | PROT_WRITE);
    copies[0] = at_address(0, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC);
    copies[1] = at_address(0, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC);
    uint64_t v = 1, *area = (uint64_t *)AREA_AT;
    for (int64_t i = -512; i < WORDS + 512; i++) {
        v = mix(v, (uint64_t)i);
        area[i] = i % 7 ? v : (v & ~0xfffffffful) | 0xc0000000;
    }
    struct sigaction fault = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
    sigaction(SIGSEGV, &fault, NULL);
    struct sigaction timer = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_RESTART};
    sigaction(SIGALRM, &timer, NULL);
}

// loops [MILLISECONDS [NAME]]: how long each is run to become hot, and then under signals.
int main(int argc, char **argv) {
    unsigned ms = argc > 1 ? (unsigned)atoi(argv[1]) : 20;
    const char *only = argc > 2 ? argv[2] : NULL;
    set_up();
    for (unsigned i = 0; i < LOOPS;
         i++) { // all first, for the engine looks less often when little is new
        const Loop *l = running = &loops[i];
        Regs r = start_of(l);
        run_at(&r, l->head);
        ends[i] = plain(l, r);
        if (!only || !strcmp(only, l->name)) run_for("hot", i, ms);
    }
    for (unsigned i = 0; i < LOOPS; i++) {
        const Loop *l = running = &loops[i];
        if (only && strcmp(only, l->name)) continue;
        faults_in(i);
        signals_in(i, ms);
        printf("%-16s end %x %016lx, faults %4u %016lx\n", l->name, (unsigned)(ends[i].nzcv >> 28),
               mix_regs(0, &ends[i]), n_faults, fault_sum);
    }
    together();
    printf("wrong: %u\n", wrong);
    fflush(stdout);
    changes(ms);
    fprintf(stderr, "%u signals, %u compared\n", n_signals, n_compared);
    return wrong != 0;
}
