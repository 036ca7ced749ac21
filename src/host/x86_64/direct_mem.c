// direct_mem.c - accesses to guest memory of code that is written directly.
//
// Addresses take rcx and rdx, values rax. Flags that state does not have yet are stored before,
// for a fault shows it. Misaligned and ordered accesses are no affair of these (see sel_mem.c).
#include "host/x86_64/direct.h"

static Mem address(X86 *x, const DirectAddr *at) {
    Mem m = {.base = (int8_t)direct_use(x, at->base, RCX), .index = -1, .disp = at->disp};
    if (at->index == DIRECT_ZERO) return m;
    unsigned index = direct_use(x, at->index, RDX);
    if (at->narrow) direct_extend(x, 64, at->narrow, at->sign, RDX, index);
    m.index = (int8_t)(at->narrow ? RDX : index);
    m.scale = at->scale;
    return m;
}

static void write_back(X86 *x, const DirectAddr *at, Mem m) {
    if (!at->writeback) return;
    lea(x, 64, (unsigned)m.base, mem_at(m.base, at->step));
    if (m.base == RCX) direct_put(x, at->base, RCX);
}

static Mem behind(Mem m, unsigned bytes) {
    m.disp += (int32_t)bytes;
    return m;
}

// ---- general registers ----

static void load_to(X86Direct *d, DirectAccess how, unsigned reg, Mem m) {
    static const uint16_t plain[] = {0x0FB6, 0x0FB7, 0x8B, 0x8B}, sign[] = {0x0FBE, 0x0FBF, 0x63};
    unsigned log2 = (unsigned)__builtin_ctz(how.bytes);
    int w = how.sign == 64 || how.bytes == 8 ? 64 : 32;
    x86_direct_record_fault(d);
    op_rm(&d->x, 0, w, how.sign ? sign[log2] : plain[log2], reg, m, false);
}

static void load_vec_to(X86Direct *d, unsigned bytes, unsigned reg, Mem m) {
    x86_direct_record_fault(d);
    vec_op(&d->x, bytes == 16 ? V_movups : bytes == 8 ? V_movq : V_movd_xr, reg, 0, vrm_of(m), 0);
}

static void store_vec_from(X86Direct *d, unsigned bytes, unsigned reg, Mem m) {
    x86_direct_record_fault(d);
    vec_op(&d->x,
           bytes == 16  ? V_movups_st
           : bytes == 8 ? V_movq_st
                        : V_movss_st,
           reg, 0, vrm_of(m), 0);
}

// The lodging that a load can go to as it is.
static int loads_into(const X86 *x, DirectAccess how, DirectReg t) {
    return how.bytes >= 4 && !how.sign ? direct_lodging(x, t) : -1;
}

static void load_one(X86Direct *d, DirectAccess how, DirectReg t, Mem m) {
    X86 *x = &d->x;
    int lodging = loads_into(x, how, t);
    if (lodging >= 0) {
        load_vec_to(d, how.bytes, (unsigned)lodging, m);
        return;
    }
    unsigned reg = direct_def(x, t, RAX);
    load_to(d, how, reg, m);
    if (reg == RAX) direct_put(x, t, reg);
}

static void store_one(X86Direct *d, DirectAccess how, DirectReg t, Mem m) {
    X86 *x = &d->x;
    int lodging = how.bytes >= 4 ? direct_lodging(x, t) : -1;
    if (lodging >= 0) {
        store_vec_from(d, how.bytes, (unsigned)lodging, m);
        return;
    }
    if (t == DIRECT_ZERO) {
        x86_direct_record_fault(d);
        mov_store_imm(x, how.bytes * 8, m, 0);
        return;
    }
    unsigned reg = direct_use(x, t, RAX);
    x86_direct_record_fault(d);
    mov_store(x, how.bytes * 8, m, reg);
}

// ---- vector registers ----

static void put_vec(X86 *x, DirectReg t, unsigned reg) {
    int home = direct_home(x, t);
    if (home < 0)
        vec_op(x, V_movaps_st, reg, 0, vrm_of(direct_field(x, t)), 0);
    else if (home != (int)reg)
        vec_op(x, V_movaps, (unsigned)home, 0, vrm_reg(reg), 0);
}

static void load_vec(X86Direct *d, DirectAccess how, DirectReg t, Mem m) {
    unsigned reg = direct_def(&d->x, t, 0);
    load_vec_to(d, how.bytes, reg, m);
    put_vec(&d->x, t, reg);
}

static void store_vec(X86Direct *d, DirectAccess how, DirectReg t, Mem m) {
    X86 *x = &d->x;
    int home = direct_home(x, t);
    if (home < 0) vec_op(x, V_movaps, 0, 0, vrm_of(direct_field(x, t)), 0);
    store_vec_from(d, how.bytes, home < 0 ? 0 : (unsigned)home, m);
}

// ---- the operations ----

typedef void Access(X86Direct *d, DirectAccess how, DirectReg t, Mem m);

static void access_at(X86Direct *d, Access *access, DirectAccess how, DirectReg t,
                      const DirectAddr *at) {
    direct_flags_asked(d);
    Mem m = address(&d->x, at);
    access(d, how, t, m);
    write_back(&d->x, at, m);
}

void x86_direct_load(Direct *base, DirectAccess how, DirectReg t, const DirectAddr *at) {
    access_at(x86_direct(base), how.vector ? load_vec : load_one, how, t, at);
}

void x86_direct_store(Direct *base, DirectAccess how, DirectReg t, const DirectAddr *at) {
    access_at(x86_direct(base), how.vector ? store_vec : store_one, how, t, at);
}

// The first value waits until the second is there too.
void x86_direct_load_pair(Direct *base, DirectAccess how, DirectReg t, DirectReg u,
                          const DirectAddr *at) {
    X86Direct *d = x86_direct(base);
    X86 *x = &d->x;
    direct_flags_asked(d);
    Mem m = address(x, at);
    int lodging = how.vector ? -1 : loads_into(x, how, t);
    if (how.vector) {
        load_vec_to(d, how.bytes, 1, m);
        load_vec(d, how, u, behind(m, how.bytes));
        put_vec(x, t, 1);
    } else if (lodging >= 0) {
        load_vec_to(d, how.bytes, 1, m);
        load_one(d, how, u, behind(m, how.bytes));
        vec_op(x, V_movaps, (unsigned)lodging, 0, vrm_reg(1), 0);
    } else {
        load_to(d, how, RDX, m);
        load_one(d, how, u, behind(m, how.bytes));
        direct_put(x, t, RDX);
    }
    write_back(x, at, m);
}

void x86_direct_store_pair(Direct *base, DirectAccess how, DirectReg t, DirectReg u,
                           const DirectAddr *at) {
    X86Direct *d = x86_direct(base);
    direct_flags_asked(d);
    Mem m = address(&d->x, at), second = behind(m, how.bytes);
    Access *store = how.vector ? store_vec : store_one;
    store(d, how, t, m);
    store(d, how, u, second);
    write_back(&d->x, at, m);
}
