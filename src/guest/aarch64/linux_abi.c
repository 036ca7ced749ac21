// linux_abi.c - AArch64 Linux facts: registers of the system call, hwcaps, /proc/cpuinfo and the
// machine context of a signal frame (struct sigcontext with its extension records).
#include "guest/aarch64/guest.h"

#include <signal.h>

static void hwcaps(uint64_t features, uint64_t *hwcap, uint64_t *hwcap2) {
    uint64_t words[3] = {0};
#define FEATURE(name, word, bit, text)                                                             \
    if (features & A64_FEAT(name)) words[word] |= 1ull << (bit);
#include "guest/aarch64/features.def"
#undef FEATURE
    *hwcap = words[1];
    *hwcap2 = words[2];
}

static void cpuinfo(uint64_t features, unsigned n_cpus, Buf *out) {
    uint64_t midr = a64_id_register(features, 0, 0);
    for (unsigned i = 0; i < n_cpus; i++) {
        buf_printf(out, "processor\t: %u\nBogoMIPS\t: 100.00\nFeatures\t:", i);
#define FEATURE(name, word, bit, text)                                                             \
    if (word && (features & A64_FEAT(name))) buf_printf(out, " %s", text);
#include "guest/aarch64/features.def"
#undef FEATURE
        buf_printf(out, "\nCPU implementer\t: 0x%02x\nCPU architecture: 8\nCPU variant\t: 0x%x\n",
                   (unsigned)(midr >> 24 & 0xff), (unsigned)(midr >> 20 & 15));
        buf_printf(out, "CPU part\t: 0x%03x\nCPU revision\t: %u\n\n", (unsigned)(midr >> 4 & 0xfff),
                   (unsigned)(midr & 15));
    }
}

// ---- struct sigcontext, arch/arm64 uapi ----

typedef struct Record {
    uint32_t magic, bytes;
} Record;
enum { FPSIMD_MAGIC = 0x46508001, ESR_MAGIC = 0x45535201, RESERVED_BYTES = 4096 };
typedef struct FpsimdContext {
    Record head;
    uint32_t fpsr, fpcr;
    V128 v[32];
} FpsimdContext;
typedef struct EsrContext {
    Record head;
    uint64_t esr;
} EsrContext;
typedef struct SigContext {
    uint64_t fault_address;
    uint64_t regs[31];
    uint64_t sp, pc, pstate;
    uint8_t reserved[RESERVED_BYTES] __attribute__((aligned(16)));
} SigContext;
_Static_assert(sizeof(FpsimdContext) == 528, "as in the kernel");
_Static_assert(offsetof(SigContext, reserved) == 288, "as in the kernel");

static void mcontext_save(const void *state, uint64_t fault_addr, uint64_t esr, void *mem) {
    const A64State *s = state;
    SigContext *c = mem;
    memset(c, 0, sizeof *c);
    c->fault_address = fault_addr;
    memcpy(c->regs, s->x, sizeof c->regs);
    c->sp = s->sp;
    c->pc = s->pc;
    c->pstate = a64_get_cpsr(s);
    uint8_t *at = c->reserved;
    FpsimdContext fp = {.head = {FPSIMD_MAGIC, sizeof fp}};
    fp.fpsr = a64_get_fpsr(s);
    fp.fpcr = s->fpcr;
    memcpy(fp.v, s->v, sizeof fp.v);
    memcpy(at, &fp, sizeof fp);
    at += sizeof fp;
    if (esr) {
        EsrContext e = {.head = {ESR_MAGIC, sizeof e}, .esr = esr};
        memcpy(at, &e, sizeof e);
    }
    // the terminator is a record of zeros: already there
}

// The syndrome of a data or instruction abort from EL0 (Arm ARM, ESR_ELx): translation or
// permission fault at level 3, or alignment.
static uint64_t fault_esr(int signo, int si_code, bool fetch, bool write) {
    enum {
        EC_INSN = 0x20,
        EC_DATA = 0x24,
        TRANSLATION = 0x07,
        PERMISSION = 0x0f,
        ALIGNMENT = 0x21
    };
    uint64_t fsc = signo == SIGSEGV && si_code == SEGV_ACCERR ? PERMISSION
                   : signo == SIGBUS && si_code == BUS_ADRALN ? ALIGNMENT
                                                              : TRANSLATION;
    uint64_t ec = fetch ? EC_INSN : EC_DATA;
    return ec << 26 | 1u << 25 | (uint64_t)(write && !fetch) << 6 | fsc;
}

static bool load_fpsimd(A64State *s, const uint8_t *at, uint32_t bytes) {
    FpsimdContext fp;
    if (bytes != sizeof fp) return false;
    memcpy(&fp, at, sizeof fp);
    memcpy(s->v, fp.v, sizeof s->v);
    s->fpcr = fp.fpcr;
    a64_set_fpsr(s, fp.fpsr);
    vcpu_hot(s)->fp.mode = a64_fp_mode_of(s->fpcr);
    return true;
}

static bool mcontext_load(void *state, const void *mem) {
    A64State *s = state;
    const SigContext *c = mem;
    bool has_fp = false;
    for (uint32_t at = 0; at + sizeof(Record) <= RESERVED_BYTES;) {
        Record rec;
        memcpy(&rec, c->reserved + at, sizeof rec);
        if (!rec.magic) break;
        if (rec.bytes < sizeof rec || rec.bytes > RESERVED_BYTES - at || rec.bytes % 16)
            return false;
        if (rec.magic == FPSIMD_MAGIC) {
            if (has_fp || !load_fpsimd(s, c->reserved + at, rec.bytes)) return false;
            has_fp = true;
        }
        at += rec.bytes;
    }
    if (!has_fp) return false;
    memcpy(s->x, c->regs, sizeof c->regs);
    s->sp = c->sp;
    s->pc = c->pc;
    a64_set_cpsr(s, (uint32_t)c->pstate);
    s->excl_addr = (uint64_t)A64_EXCL_OPEN; // as an exception return does
    return true;
}

const GuestLinuxAbi a64_linux_abi = {
    .syscall_nr = A64_X8,
    .syscall_args = {A64_X0, A64_X1, A64_X2, A64_X3, A64_X4, A64_X5},
    .syscall_ret = A64_X0,
    .sp = A64_SP,
    .tls = A64_TPIDR,
    .fn_args = {A64_X0, A64_X1, A64_X2},
    .link = A64_X30,
    .platform = "aarch64",
    .machine = "aarch64",
    .page_bytes = 4096,
    .hwcaps = hwcaps,
    .cpuinfo = cpuinfo,
    .mcontext_bytes = sizeof(SigContext),
    .fault_esr = fault_esr,
    .mcontext_save = mcontext_save,
    .mcontext_load = mcontext_load,
};
