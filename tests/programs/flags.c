// flags.c - condition flags where nobody but a fault or a way out of the middle asks for them: each
// piece compares, perhaps leaves, accesses memory that is not there, changes registers, compares
// anew. What the handler of the fault and what comes out at the end see is printed, as sums and a
// few in full.
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <ucontext.h>

static uint64_t seen[8];
static unsigned n_seen;

static void handler(int signo, siginfo_t *si, void *context) {
    ucontext_t *u = context;
    if (n_seen < 8) seen[n_seen++] = u->uc_mcontext.pstate >> 28;
    u->uc_mcontext.pc += 4;
}

// In: x1, x2 the operands, x3 an address where nothing is. Out: x0 the flags at the end.
#define PIECE(name, code)                                                                          \
    static uint64_t name(uint64_t a, uint64_t b) {                                                 \
        register uint64_t x0 __asm__("x0") = 0, x1 __asm__("x1") = a, x2 __asm__("x2") = b,        \
                             x3 __asm__("x3") = 16;                                                \
        __asm__ volatile("mov x21, x1\nmov x22, x2\nmov x23, #77\n" code "\n9: mrs x0, nzcv\n"     \
                         : "+r"(x0), "+r"(x1), "+r"(x2)                                            \
                         : "r"(x3)                                                                 \
                         : "x4", "x5", "x6", "x7", "x21", "x22", "x23", "x24", "cc", "memory");    \
        return x0 >> 28;                                                                           \
    }

PIECE(compare, "cmp x1, x2\nb.eq 9f\nldr x4, [x3]\ncmp x1, #5")
PIECE(compare_w, "cmp w1, w2\nb.hi 9f\nldr x4, [x3]\ntst w1, w2")
PIECE(subtract, "subs x4, x1, x2\nb.mi 9f\nstr x4, [x3]\nadds x5, x1, x2")
PIECE(count_down, "subs w1, w1, #7\nb.eq 9f\nldr w4, [x3]\nsubs w1, w1, #1\nb.lt 9f\nldr w4, [x3]\n"
                  "cmp w1, #0")
PIECE(subtract_own,
      "subs x1, x1, x2\nb.vs 9f\nldr x4, [x3]\nsubs x2, x2, x1\nb.cc 9f\nldr x4, [x3]\ncmp x2, x1")
PIECE(test, "tst x1, x2\nb.ne 9f\nldr x4, [x3]\ncmp x1, x2\nb.gt 9f\ntst x1, #0xff00ff00ff00ff00\n"
            "b.mi 9f\nldr x4, [x3]\ncmp x2, #1")
PIECE(and_own, "ands x1, x1, #0xff\nb.eq 9f\nldr x4, [x3]\nands w2, w2, w1\nb.eq 9f\nldr x4, [x3]\n"
               "cmp x1, x2")
PIECE(changed, "cmp x1, x2\nb.ls 9f\nmov x1, #3\nldr x4, [x3]\ncmp x1, x2")
PIECE(changed_later, "cmp x1, x2\nb.ls 9f\nldr x4, [x3]\nmov x1, #3\nmov x2, #4\ncmp x1, x2")
PIECE(changed_back,
      "cmp x1, x2\nmov x4, x1\nmov x1, #3\nb.ls 9f\nmov x1, x4\nldr x4, [x3]\ncmp x1, #0")
PIECE(in_memory, "cmp x21, x22\nb.ge 9f\nldr x24, [x3]\ncmp x22, x23\nb.lo 9f\nstr x24, [x3]\n"
                 "subs x21, x21, #1\nb.eq 9f\nldr x24, [x3]\ncmp w21, w22")
PIECE(swapped, "cmp x1, x2\nmov x4, x1\nmov x1, x2\nmov x2, x4\nb.hi 9f\nldr x5, [x3]\ncmp x1, x2")
PIECE(large, "ldr x4, =0x123456789a\ncmp x1, x4\nb.eq 9f\nldr x5, [x3]\ncmp x1, #0xfff, lsl #12\n"
             "b.hi 9f\nldr x5, [x3]\ncmp x1, w2, sxtw\nb.lt 9f\nldr x5, [x3]\ncmp x1, x2, lsl #3\n"
             "b.eq 9f\nldr x5, [x3]\ncmp x1, #1")
PIECE(negated, "cmn x1, x2\nb.cs 9f\nldr x4, [x3]\nnegs x5, x1\nb.eq 9f\nldr x4, [x3]\ncmp x5, #0")
PIECE(conditional, "cmp x1, x2\nccmp x1, #9, #4, ne\nb.eq 9f\nldr x4, [x3]\ncmp x2, #3\n"
                   "ccmp w1, w2, #10, hi\nb.lt 9f\nldr x4, [x3]\ncmp x1, x2")
PIECE(many, "cmp x1, #1\nb.eq 9f\ncmp x1, #2\nb.eq 9f\ncmp x1, #3\nb.eq 9f\ncmp x2, #4\nb.eq 9f\n"
            "cmp x2, #5\nb.eq 9f\ncmp w2, #6\nb.eq 9f\nldr x4, [x3]\ncmp w1, w2\nb.ne 9f\n"
            "ldr x4, [x3]\nadc x1, x1, x2\ncmp x1, #0")
PIECE(carried,
      "cmp x1, x2\nb.eq 9f\nldr x4, [x3]\nadcs x1, x1, x2\nb.vs 9f\nldr x4, [x3]\nsbcs x4, x1, x2\n"
      "b.cc 9f\nldr x4, [x3]\ncmp x1, x4")
PIECE(pair,
      "cmp x1, x2\nb.eq 9f\nldp x1, x2, [x3]\ncmp x1, x2\nb.eq 9f\nldr x1, [x3], #0\ncmp x1, x2")
PIECE(zero, "cmp x1, #0\nb.lt 9f\nldr x4, [x3]\ncmp x1, xzr\nb.le 9f\nldr x4, [x3]\ncmp wzr, w2\n"
            "b.ge 9f\nldr x4, [x3]\ntst x2, x2\nb.mi 9f\nldr x4, [x3]\ncmp x1, x2")

static const struct {
    const char *name;
    uint64_t (*run)(uint64_t, uint64_t);
} pieces[] = {{"compare", compare},
              {"compare_w", compare_w},
              {"subtract", subtract},
              {"count_down", count_down},
              {"subtract_own", subtract_own},
              {"test", test},
              {"and_own", and_own},
              {"changed", changed},
              {"changed_later", changed_later},
              {"changed_back", changed_back},
              {"in_memory", in_memory},
              {"swapped", swapped},
              {"large", large},
              {"negated", negated},
              {"conditional", conditional},
              {"many", many},
              {"carried", carried},
              {"pair", pair},
              {"zero", zero}};

int main(void) {
    static const uint64_t values[] = {0,
                                      1,
                                      2,
                                      3,
                                      7,
                                      8,
                                      9,
                                      0x7fffffff,
                                      0x80000000,
                                      0xffffffff,
                                      0x100000000,
                                      0x7fffffffffffffff,
                                      0x8000000000000000,
                                      0xffffffffffffffff,
                                      0xfffffffffffffff9,
                                      0x123456789a,
                                      0xdeadbeefcafe1234,
                                      0xff00};
    enum { N = sizeof values / sizeof *values };
    struct sigaction sa = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
    sigaction(SIGSEGV, &sa, NULL);
    for (unsigned p = 0; p < sizeof pieces / sizeof *pieces; p++) {
        uint64_t sum = 0;
        printf("%-13s", pieces[p].name);
        for (unsigned i = 0; i < N; i++)
            for (unsigned k = 0; k < N; k++) {
                n_seen = 0;
                memset(seen, 0, sizeof seen);
                uint64_t end = pieces[p].run(values[i], values[k]);
                sum = sum * 31 + end;
                for (unsigned s = 0; s < n_seen; s++) sum = sum * 37 + seen[s] + 1;
                if ((i * N + k) % 53) continue;
                printf(" %x", (unsigned)end);
                for (unsigned s = 0; s < n_seen; s++) printf(",%x", (unsigned)seen[s]);
            }
        printf(" %016llx\n", (unsigned long long)sum);
    }
    return 0;
}
