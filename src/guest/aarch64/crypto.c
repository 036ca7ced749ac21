// crypto.c - AES, SHA1, SHA256, SHA512, SHA3, SM3, SM4. AES rounds are IR ops, for which hosts have
// instructions, SHA512, SHA3 and the schedules of the others plain arithmetic; the other hashes'
// rounds are helpers (helpers_crypto.c).
#include "guest/aarch64/simd.h"

static IrRef xor128(Lift *l, IrRef a, IrRef b) {
    return ir_op2(l->r, IR_xor, IR_V128, a, b);
}

// Lanes of 32 or 64 bits, each rotated left; 0 <= n < their size.
static IrRef rotate_left(Lift *l, IrType t, IrRef v, unsigned n) {
    if (!n) return v;
    return ir_op2(l->r, IR_or, t, v_imm(l, IR_shli, t, v, n),
                  v_imm(l, IR_shri, t, v, ir_elem_bits(t) - n));
}
// In each lane two rotations right and a shift right, mixed together.
static IrRef small_sigma(Lift *l, IrType t, IrRef v, unsigned r1, unsigned r2, unsigned shift) {
    unsigned bits = ir_elem_bits(t);
    IrRef x = xor128(l, rotate_left(l, t, v, bits - r1), rotate_left(l, t, v, bits - r2));
    return xor128(l, x, v_imm(l, IR_shri, t, v, shift));
}
// Bytes n .. n + 15 of a and b behind it.
static IrRef extract(Lift *l, IrRef a, IrRef b, unsigned n) {
    return ir_emit(l->r, IR_vext, IR_I8X16, a, b, 0, 0, 0, n);
}

// ---- AES: AESE Vd.16B, Vn.16B and kin ----
bool lift_aese(Lift *l, const Args_aese *a) {
    IrRef v = xor128(l, v_get(l, a->rd), v_get(l, a->rn));
    lift_put_v(l, a->rd, ir_op1(l->r, IR_aes_enc, IR_I8X16, v));
    return true;
}
bool lift_aesd(Lift *l, const Args_aesd *a) {
    IrRef v = xor128(l, v_get(l, a->rd), v_get(l, a->rn));
    lift_put_v(l, a->rd, ir_op1(l->r, IR_aes_dec, IR_I8X16, v));
    return true;
}
bool lift_aesmc(Lift *l, const Args_aesmc *a) {
    lift_put_v(l, a->rd, ir_op1(l->r, IR_aes_mix, IR_I8X16, v_get(l, a->rn)));
    return true;
}
bool lift_aesimc(Lift *l, const Args_aesimc *a) {
    lift_put_v(l, a->rd, ir_op1(l->r, IR_aes_imix, IR_I8X16, v_get(l, a->rn)));
    return true;
}

// Vd = helper(Vd, Vn, Vm)
static bool hash(Lift *l, const IrHelper *h, unsigned rd, unsigned rn, unsigned rm, uint64_t imm) {
    lift_put_v(l, rd, v_call(l, h, v_get(l, rd), v_get(l, rn), v_get(l, rm), imm));
    return true;
}
static bool hash2(Lift *l, const IrHelper *h, unsigned rd, unsigned rn) {
    lift_put_v(l, rd, v_call(l, h, v_get(l, rd), v_get(l, rn), 0, 0));
    return true;
}

// ---- SHA1: SHA1C, SHA1P, SHA1M Qd, Sn, Vm.4S ----
bool lift_sha1_hash(Lift *l, const Args_sha1_hash *a) {
    return hash(l, &crypto_sha1, a->rd, a->rn, a->rm, a->kind);
}
// SHA1H Sd, Sn: rotated left by 30
bool lift_sha1h(Lift *l, const Args_sha1h *a) {
    s_put(l, a->rd, ir_ror(l->r, s_get(l, a->rn, IR_I32), lift_i32(l, 2)));
    return true;
}
// SHA1SU0: the middle of Vd:Vn, with Vd and Vm mixed in
bool lift_sha1su0(Lift *l, const Args_sha1su0 *a) {
    IrRef d = v_get(l, a->rd);
    IrRef middle = extract(l, d, v_get(l, a->rn), 8);
    lift_put_v(l, a->rd, xor128(l, xor128(l, middle, d), v_get(l, a->rm)));
    return true;
}
bool lift_sha1su1(Lift *l, const Args_sha1su1 *a) {
    return hash2(l, &crypto_sha1su1, a->rd, a->rn);
}

// ---- SHA256 ----
bool lift_sha256h(Lift *l, const Args_sha256h *a) {
    return hash(l, &crypto_sha256h, a->rd, a->rn, a->rm, 0);
}
bool lift_sha256h2(Lift *l, const Args_sha256h2 *a) {
    lift_put_v(
        l, a->rd,
        v_call(l, &crypto_sha256h, v_get(l, a->rn), v_get(l, a->rd), v_get(l, a->rm), SIMD_SUB));
    return true;
}
// SHA256SU0 Vd.4S, Vn.4S
bool lift_sha256su0(Lift *l, const Args_sha256su0 *a) {
    IrRef d = v_get(l, a->rd), next = extract(l, d, v_get(l, a->rn), 4);
    lift_put_v(l, a->rd,
               ir_op2(l->r, IR_add, IR_I32X4, d, small_sigma(l, IR_I32X4, next, 7, 18, 3)));
    return true;
}
// SHA256SU1 Vd.4S, Vn.4S, Vm.4S: the upper two words need the lower two
bool lift_sha256su1(Lift *l, const Args_sha256su1 *a) {
    IrRef m = v_get(l, a->rm);
    IrRef sum = ir_op2(l->r, IR_add, IR_I32X4, v_get(l, a->rd), extract(l, v_get(l, a->rn), m, 4));
    IrRef of_m = small_sigma(l, IR_I32X4, m, 17, 19, 10);
    IrRef low = ir_op2(l->r, IR_add, IR_I32X4, sum, extract(l, of_m, of_m, 8));
    IrRef of_low = small_sigma(l, IR_I32X4, low, 17, 19, 10);
    lift_put_v(l, a->rd, ir_op2(l->r, IR_add, IR_I32X4, sum, extract(l, of_m, of_low, 8)));
    return true;
}

// ---- SHA512, SHA3 ----

// Three rotations right, mixed together.
static IrRef sigma(Lift *l, IrRef x, unsigned r1, unsigned r2, unsigned r3) {
    IrRef v = ir_xor(l->r, ir_ror(l->r, x, lift_i64(l, r1)), ir_ror(l->r, x, lift_i64(l, r2)));
    return ir_xor(l->r, v, ir_ror(l->r, x, lift_i64(l, r3)));
}
static IrRef lane64(Lift *l, IrRef v, unsigned lane) {
    return ir_emit(l->r, IR_vget, IR_I64, v, 0, 0, 0, 0, lane);
}
static void put_pair64(Lift *l, unsigned rd, IrRef lo, IrRef hi) {
    IrRef v = ir_op1(l->r, IR_vzext, IR_V128, lo);
    lift_put_v(l, rd, ir_emit(l->r, IR_vset, IR_V128, v, hi, 0, 0, 0, 1));
}
// x ? y : z, bit by bit
static IrRef choose64(Lift *l, IrRef x, IrRef y, IrRef z) {
    return ir_xor(l->r, ir_and(l->r, ir_xor(l->r, y, z), x), z);
}
static IrRef majority64(Lift *l, IrRef x, IrRef y, IrRef z) {
    return ir_or(l->r, ir_and(l->r, x, y), ir_and(l->r, ir_or(l->r, x, y), z));
}

// SHA512H Qd, Qn, Vm.2D: two rounds' new E
bool lift_sha512h(Lift *l, const Args_sha512h *a) {
    IrRef d = v_get(l, a->rd), n = v_get(l, a->rn), m = v_get(l, a->rm);
    IrRef y1 = lane64(l, m, 1), n0 = lane64(l, n, 0);
    IrRef hi = ir_add(l->r, choose64(l, y1, n0, lane64(l, n, 1)), sigma(l, y1, 14, 18, 41));
    hi = ir_add(l->r, hi, lane64(l, d, 1));
    IrRef t = ir_add(l->r, hi, lane64(l, m, 0));
    IrRef lo = ir_add(l->r, choose64(l, t, y1, n0), sigma(l, t, 14, 18, 41));
    put_pair64(l, a->rd, ir_add(l->r, lo, lane64(l, d, 0)), hi);
    return true;
}
// SHA512H2 Qd, Qn, Vm.2D: two rounds' new A
bool lift_sha512h2(Lift *l, const Args_sha512h2 *a) {
    IrRef d = v_get(l, a->rd), m = v_get(l, a->rm);
    IrRef y1 = lane64(l, m, 1), y0 = lane64(l, m, 0), n = lane64(l, v_get(l, a->rn), 0);
    IrRef hi = ir_add(l->r, majority64(l, n, y1, y0), sigma(l, y0, 28, 34, 39));
    hi = ir_add(l->r, hi, lane64(l, d, 1));
    IrRef lo = ir_add(l->r, majority64(l, hi, y0, y1), sigma(l, hi, 28, 34, 39));
    put_pair64(l, a->rd, ir_add(l->r, lo, lane64(l, d, 0)), hi);
    return true;
}
// SHA512SU0 Vd.2D, Vn.2D
bool lift_sha512su0(Lift *l, const Args_sha512su0 *a) {
    IrRef d = v_get(l, a->rd);
    IrRef next = extract(l, d, v_get(l, a->rn), 8);
    lift_put_v(l, a->rd,
               ir_op2(l->r, IR_add, IR_I64X2, d, small_sigma(l, IR_I64X2, next, 1, 8, 7)));
    return true;
}
// SHA512SU1 Vd.2D, Vn.2D, Vm.2D
bool lift_sha512su1(Lift *l, const Args_sha512su1 *a) {
    IrRef v = ir_op2(l->r, IR_add, IR_I64X2, v_get(l, a->rd),
                     small_sigma(l, IR_I64X2, v_get(l, a->rn), 19, 61, 6));
    lift_put_v(l, a->rd, ir_op2(l->r, IR_add, IR_I64X2, v, v_get(l, a->rm)));
    return true;
}
bool lift_rax1(Lift *l, const Args_rax1 *a) {
    lift_put_v(l, a->rd, xor128(l, v_get(l, a->rn), rotate_left(l, IR_I64X2, v_get(l, a->rm), 1)));
    return true;
}
bool lift_xar(Lift *l, const Args_xar *a) {
    IrRef v = xor128(l, v_get(l, a->rn), v_get(l, a->rm));
    lift_put_v(l, a->rd, rotate_left(l, IR_I64X2, v, (64 - a->imm6) % 64));
    return true;
}
bool lift_eor3(Lift *l, const Args_eor3 *a) {
    IrRef v = xor128(l, v_get(l, a->rn), v_get(l, a->rm));
    lift_put_v(l, a->rd, xor128(l, v, v_get(l, a->ra)));
    return true;
}
bool lift_bcax(Lift *l, const Args_bcax *a) {
    IrRef v = ir_op2(l->r, IR_andn, IR_V128, v_get(l, a->rm), v_get(l, a->ra));
    lift_put_v(l, a->rd, xor128(l, v_get(l, a->rn), v));
    return true;
}

// ---- SM3, SM4 ----
bool lift_sm3ss1(Lift *l, const Args_sm3ss1 *a) {
    lift_put_v(l, a->rd,
               v_call(l, &crypto_sm3ss1, v_get(l, a->rn), v_get(l, a->rm), v_get(l, a->ra), 0));
    return true;
}
bool lift_sm3tt(Lift *l, const Args_sm3tt *a) {
    return hash(l, &crypto_sm3tt, a->rd, a->rn, a->rm, a->index | a->kind);
}
bool lift_sm3partw1(Lift *l, const Args_sm3partw1 *a) {
    return hash(l, &crypto_sm3partw1, a->rd, a->rn, a->rm, 0);
}
bool lift_sm3partw2(Lift *l, const Args_sm3partw2 *a) {
    return hash(l, &crypto_sm3partw2, a->rd, a->rn, a->rm, 0);
}
bool lift_sm4e(Lift *l, const Args_sm4e *a) {
    return hash2(l, &crypto_sm4e, a->rd, a->rn);
}
bool lift_sm4ekey(Lift *l, const Args_sm4ekey *a) {
    lift_put_v(l, a->rd, v_call(l, &crypto_sm4ekey, v_get(l, a->rn), v_get(l, a->rm), 0, 0));
    return true;
}
