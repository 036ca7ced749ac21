// pauth.c - pointer authentication: signing, authenticating and stripping pointers.
//
// The code lies in bits 54..48 of a pointer (48-bit addresses; the top byte is ignored in the lower
// half, as Linux sets user mode up, and part of the code in the upper half, where bit 55 is 1). It
// is a hash of pointer, modifier and the process's key; which hash is implementation defined, so it
// is a mixer of our own rather than QARMA. A failed authentication does not fault at once (no
// FEAT_FPAC): it leaves a pointer that faults when used.
#include "guest/aarch64/pauth.h"

enum { PAC_LO = 48, PAC_BITS = 7, SIGN_BIT = 55 };
static const uint64_t low_field = 0x7full << PAC_LO, high_field = 0xff7full << PAC_LO;

static uint64_t field_of(uint64_t p) {
    return p >> SIGN_BIT & 1 ? high_field : low_field;
}

static uint64_t mix(uint64_t x) {
    x ^= x >> 31;
    x *= 0x9e3779b97f4a7c15ull;
    x ^= x >> 29;
    x *= 0xd6e8feb86659fd93ull;
    return x ^ x >> 32;
}

static uint64_t pac_hash(const A64State *s, uint64_t pointer, uint64_t modifier, unsigned key) {
    uint64_t h = mix(pointer ^ s->pac_key[key][0]);
    return mix(h + mix(modifier ^ s->pac_key[key][1]));
}

static uint64_t strip(uint64_t p) {
    return p >> SIGN_BIT & 1 ? p | high_field : p & ~low_field;
}

static uint64_t sign_fn(void *state, uint64_t p, uint64_t modifier, uint64_t key) {
    uint64_t code = pac_hash(state, strip(p), modifier, (unsigned)key) & field_of(p);
    if (strip(p) != p) code ^= 1ull << (PAC_LO + PAC_BITS - 1); // it was no plain pointer: spoil it
    return (p & ~field_of(p)) | code;
}

static uint64_t auth_fn(void *state, uint64_t p, uint64_t modifier, uint64_t key) {
    uint64_t plain = strip(p);
    uint64_t code = pac_hash(state, plain, modifier, (unsigned)key) & field_of(p);
    if ((p & field_of(p)) == code) return plain;
    uint64_t error = key == A64_KEY_IB || key == A64_KEY_DB ? 2 : 1; // into bits 54..53
    return (plain & ~(3ull << 53)) | error << 53;
}

static uint64_t generic_fn(void *state, uint64_t value, uint64_t modifier, uint64_t key) {
    return pac_hash(state, value, modifier, A64_KEY_GA) & ~0xffffffffull;
}

static const IrHelper sign_helper = {.name = "a64_pac_sign", .fn = (void (*)(void))sign_fn};
static const IrHelper auth_helper = {.name = "a64_pac_auth", .fn = (void (*)(void))auth_fn};
static const IrHelper generic_helper = {.name = "a64_pacga", .fn = (void (*)(void))generic_fn};

IrRef lift_sign(Lift *l, IrRef pointer, IrRef modifier, A64KeyId key) {
    return lift_call(l, IR_I64, &sign_helper, 3, (IrRef[]){pointer, modifier, lift_i32(l, key)});
}

IrRef lift_auth(Lift *l, IrRef pointer, IrRef modifier, A64KeyId key) {
    return lift_call(l, IR_I64, &auth_helper, 3, (IrRef[]){pointer, modifier, lift_i32(l, key)});
}

IrRef lift_strip(Lift *l, IrRef pointer) {
    IrRef high = ir_and(l->r, pointer, lift_i64(l, 1ull << SIGN_BIT));
    IrRef is_high = ir_icmp(l->r, IR_NE, high, lift_i64(l, 0));
    return ir_select(l->r, is_high, ir_or(l->r, pointer, lift_i64(l, high_field)),
                     ir_and(l->r, pointer, lift_i64(l, ~low_field)));
}

// PACIA, PACIB, PACDA, PACDB <Xd>, <Xn|SP>; PACIZA...
bool lift_pac(Lift *l, const Args_pac *a) {
    IrRef modifier = a->z ? lift_i64(l, 0) : lift_xsp(l, a->rn);
    lift_put_reg(l, a->rd, lift_sign(l, lift_x(l, a->rd), modifier, (A64KeyId)a->key));
    return true;
}

// AUTIA, AUTIB, AUTDA, AUTDB <Xd>, <Xn|SP>; AUTIZA...
bool lift_aut(Lift *l, const Args_aut *a) {
    IrRef modifier = a->z ? lift_i64(l, 0) : lift_xsp(l, a->rn);
    lift_put_reg(l, a->rd, lift_auth(l, lift_x(l, a->rd), modifier, (A64KeyId)a->key));
    return true;
}

// XPACI, XPACD <Xd>
bool lift_xpac(Lift *l, const Args_xpac *a) {
    lift_put_reg(l, a->rd, lift_strip(l, lift_x(l, a->rd)));
    return true;
}

// PACGA <Xd>, <Xn>, <Xm|SP>
bool lift_pacga(Lift *l, const Args_pacga *a) {
    IrRef args[] = {lift_x(l, a->rn), lift_xsp(l, a->rm), lift_i32(l, A64_KEY_GA)};
    lift_put_reg(l, a->rd, lift_call(l, IR_I64, &generic_helper, 3, args));
    return true;
}
