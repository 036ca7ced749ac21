// direct.h - inside the x86-64 host: code that is written as the guest's instructions are said
// (ir/direct.h). Each finds guest registers in their homes, lodgings and guest state, and leaves
// them there; rax, rcx, rdx, xmm0 and xmm1 are free in between. Start reading in direct.c.
#ifndef DGM_HOST_X86_64_DIRECT_H
#define DGM_HOST_X86_64_DIRECT_H

#include "host/x86_64/emit.h"
#include "ir/direct.h"

typedef struct X86Direct {
    Direct base;
    uint8_t *cold, *cold_limit; // where cold code goes that regions need
    const uint8_t *cold_start;
    // Condition flags: EFLAGS have them, as `cmp` leaves them (the carry is a borrow); state has
    // them, unless it is still to get them from EFLAGS.
    bool in_eflags, to_store;
    // The last thing that was written, if it was a `set`: another may take its place.
    DirectReg set_reg;
    const uint8_t *set_end;
    uint8_t *set_start;
    uint64_t set_value;
    X86 x;
} X86Direct;

static inline X86Direct *x86_direct(Direct *d) {
    return (X86Direct *)d;
}

// ---- registers ----
static inline int direct_home(const X86 *x, DirectReg r) {
    return x->h->home_of_field[r];
}
static inline int direct_lodging(const X86 *x, DirectReg r) {
    return x->h->lodging_of_field[r];
}
static inline Mem direct_field(const X86 *x, DirectReg r) {
    return mem_state((int32_t)x->h->fields[r].offset - STATE_BIAS);
}
static inline unsigned direct_move(X86 *x, const X86Move *m) {
    memcpy(x->at, m->code, sizeof m->code);
    x->at += m->bytes;
    return m->reg;
}
// The register that r is in: its home, else t, to which it is fetched. EFLAGS are kept.
static inline unsigned direct_use(X86 *x, DirectReg r, unsigned t) {
    return direct_move(x, &x->h->moves[r].fetch[t]);
}
// The register to make r in: its home, else t; then direct_put() brings it where it belongs.
static inline unsigned direct_def(const X86 *x, DirectReg r, unsigned t) {
    int home = direct_home(x, r);
    return home >= 0 ? (unsigned)home : t;
}
static inline void direct_put(X86 *x, DirectReg r, unsigned from) {
    direct_move(x, &x->h->moves[r].put[from]);
}

// d = the low 8, 16 or 32 bits of s, extended to w. EFLAGS are kept.
static inline void direct_extend(X86 *x, int w, int bits, bool sign, unsigned d, unsigned s) {
    if (sign)
        movsx_rr(x, w, bits, d, s);
    else if (bits == 32)
        mov_rr(x, 32, d, s);
    else
        movzx_rr(x, bits, d, s);
}

// ---- condition flags ----
void x86_direct_store_flags(X86Direct *d);
// State has them from here on: somebody may look.
static inline void direct_flags_asked(X86Direct *d) {
    if (d->to_store) x86_direct_store_flags(d);
}
// EFLAGS are about to be changed.
static inline void direct_flags_go(X86Direct *d) {
    direct_flags_asked(d);
    d->in_eflags = false;
}
// EFLAGS are new ones. What they were before nobody asked for.
static inline void direct_flags_are(X86Direct *d) {
    d->in_eflags = d->to_store = true;
}
// EFLAGS of cmp r, k.
void x86_direct_compare_imm(X86 *x, int w, DirectReg r, int32_t k);
// The host's condition code for a guest's; takes rax and rcx, and EFLAGS when they are not these.
unsigned x86_direct_condition(X86Direct *d, IrCond cond);

// Of the instruction that is written next.
static inline void direct_record_fault(X86Direct *d) {
    HostOutput *out = d->x.out;
    if (UNLIKELY(out->n_faults == HOST_DIRECT_FAULTS)) {
        d->x.overflow = true;
        return;
    }
    out->faults[out->n_faults++] =
        (HostFault){.host_off = (uint16_t)(d->x.at - d->x.start),
                    .guest_off = (uint16_t)(d->base.pc - d->x.r->pc) & 0x7fff};
}

// ---- the operations (direct.c, direct_mem.c; the rest is in direct_ctl.c) ----
void x86_direct_set(Direct *, DirectReg d, uint64_t v);
void x86_direct_set16(Direct *, DirectReg d, bool wide, unsigned at, uint16_t v);
void x86_direct_add(Direct *, DirectReg d, DirectReg n, bool wide, int32_t k);
void x86_direct_alu(Direct *, const DirectAlu *how, DirectReg d, DirectReg n, DirectReg m);
void x86_direct_alu_imm(Direct *, const DirectAlu *how, DirectReg d, DirectReg n, uint64_t k);
void x86_direct_bits(Direct *, DirectReg d, DirectReg n, bool wide, bool sign, unsigned up,
                     unsigned down);
void x86_direct_shift(Direct *, DirectShift kind, bool wide, DirectReg d, DirectReg n, DirectReg m);
void x86_direct_mul(Direct *, const DirectMul *how, DirectReg d, DirectReg n, DirectReg m,
                    DirectReg a);
void x86_direct_select(Direct *, const DirectSelect *how, DirectReg d, DirectReg n, DirectReg m);
void x86_direct_load(Direct *, DirectAccess how, DirectReg t, DirectReg base, int32_t disp);
void x86_direct_store(Direct *, DirectAccess how, DirectReg t, DirectReg base, int32_t disp);
void x86_direct_load_by(Direct *, DirectAccess how, DirectReg t, const DirectAddr *at);
void x86_direct_store_by(Direct *, DirectAccess how, DirectReg t, const DirectAddr *at);
void x86_direct_load_pair(Direct *, DirectAccess how, DirectReg t, DirectReg u,
                          const DirectAddr *at);
void x86_direct_store_pair(Direct *, DirectAccess how, DirectReg t, DirectReg u,
                           const DirectAddr *at);
extern const DirectOps x86_direct_ops;

#endif
