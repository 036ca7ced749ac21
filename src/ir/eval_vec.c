// eval_vec.c - the evaluator's ops on whole vectors: moving lanes, widening, narrowing, products
// and the AES steps. See eval.h; `out` comes zeroed.
#include "ir/eval.h"

typedef unsigned __int128 Wide;

// ---- moving ----

static void permute(const IrInst *in, const V128 *a, const V128 *b, V128 *out) {
    unsigned bits = ir_elem_bits(in->type), n = ir_lanes(in->type);
    for (unsigned i = 0; i < n; i++) {
        const V128 *from = i % 2 ? b : a; // of the interleaving ones
        unsigned at;
        switch ((IrOp)in->op) {
        case IR_ziplo: at = i / 2; break;
        case IR_ziphi: at = n / 2 + i / 2; break;
        case IR_trne: at = i & ~1u; break;
        case IR_trno: at = i | 1; break;
        default: // uzpe, uzpo
            from = i < n / 2 ? a : b;
            at = i % (n / 2) * 2 + (in->op == IR_uzpo);
        }
        lane_set(out, bits, i, lane_get(from, bits, at));
    }
}

static void extract_bytes(const V128 *a, const V128 *b, unsigned at, V128 *out) {
    for (unsigned i = 0; i < 16; i++)
        out->b[i] = at + i < 16 ? a->b[at + i] : at + i < 32 ? b->b[at + i - 16] : 0;
}

static void reverse_groups(const IrInst *in, const V128 *a, V128 *out) {
    unsigned bits = ir_elem_bits(in->type), n = ir_lanes(in->type);
    unsigned group = (unsigned)in->imm * 8 / bits; // lanes; a power of two
    if (group == 0) group = 1;
    for (unsigned i = 0; i < n; i++) lane_set(out, bits, i, lane_get(a, bits, i ^ (group - 1)));
}

// ---- widths ----

static void widen(const V128 *a, unsigned bits, bool is_signed, bool high, V128 *out) {
    unsigned half = bits / 2, n = 128 / bits;
    for (unsigned i = 0; i < n; i++) {
        unsigned at = i + (high ? n : 0);
        uint64_t x = is_signed ? (uint64_t)lane_gets(a, half, at) : lane_get(a, half, at);
        lane_set(out, bits, i, x);
    }
}

static uint64_t narrow_one(IrOp op, unsigned bits, uint64_t x) {
    int64_t s = bits_sext(x, bits * 2);
    int64_t smax = (int64_t)bits_mask(bits - 1), umax = (int64_t)bits_mask(bits);
    switch (op) {
    case IR_vsqxtn: return (uint64_t)MIN(MAX(s, -smax - 1), smax);
    case IR_vsqxtun: return (uint64_t)MIN(MAX(s, 0), umax);
    case IR_vuqxtn: return MIN(x, (uint64_t)umax);
    default: return x;
    }
}

static void narrow(IrOp op, unsigned bits, const V128 *a, const V128 *b, V128 *out) {
    unsigned n = 64 / bits; // lanes of each operand
    for (unsigned i = 0; i < 2 * n; i++)
        lane_set(out, bits, i, narrow_one(op, bits, lane_get(i < n ? a : b, bits * 2, i % n)));
}

// ---- products ----

static void multiply_long(const V128 *a, const V128 *b, unsigned bits, bool is_signed, bool high,
                          V128 *out) {
    V128 x = {0}, y = {0};
    widen(a, bits, is_signed, high, &x);
    widen(b, bits, is_signed, high, &y);
    for (unsigned i = 0; i < 128 / bits; i++)
        lane_set(out, bits, i, lane_get(&x, bits, i) * lane_get(&y, bits, i));
}

static void dot(const IrInst *in, const V128 args[3], V128 *out) {
    for (unsigned i = 0; i < 4; i++) {
        int64_t sum = args[2].w[i];
        for (unsigned k = 4 * i; k < 4 * i + 4; k++) {
            int64_t a = in->aux == 1 ? args[0].sb[k] : args[0].b[k];
            int64_t b = in->aux ? args[1].sb[k] : args[1].b[k];
            sum += a * b;
        }
        out->w[i] = (uint32_t)sum;
    }
}

static void carryless(uint64_t a, uint64_t b, V128 *out) {
    Wide sum = 0;
    for (unsigned i = 0; i < 64; i++)
        if (b >> i & 1) sum ^= (Wide)a << i;
    out->d[0] = (uint64_t)sum;
    out->d[1] = (uint64_t)(sum >> 64);
}

// ---- AES (FIPS 197), computed rather than tabled ----

static uint8_t gf_mul(uint8_t a, uint8_t b) { // modulo x^8 + x^4 + x^3 + x + 1
    uint8_t r = 0;
    for (; b; b >>= 1) {
        if (b & 1) r ^= a;
        a = (uint8_t)(a << 1) ^ (a & 0x80 ? 0x1b : 0);
    }
    return r;
}

static uint8_t gf_inverse(uint8_t a) { // a^254; 0 for 0
    uint8_t r = 1;
    for (unsigned e = 254; e; e >>= 1) {
        if (e & 1) r = gf_mul(r, a);
        a = gf_mul(a, a);
    }
    return r;
}

static uint8_t rotl8(uint8_t a, unsigned n) {
    return (uint8_t)(a << n | a >> (8 - n));
}

static uint8_t sub_byte(uint8_t a) {
    a = gf_inverse(a);
    return a ^ rotl8(a, 1) ^ rotl8(a, 2) ^ rotl8(a, 3) ^ rotl8(a, 4) ^ 0x63;
}

static uint8_t inverse_sub_byte(uint8_t a) {
    return gf_inverse(rotl8(a, 1) ^ rotl8(a, 3) ^ rotl8(a, 6) ^ 0x05);
}

// The state is column-major: byte i is row i % 4 of column i / 4; row r moves r columns.
static void aes_rows(const V128 *a, bool inverse, V128 *out) {
    for (unsigned i = 0; i < 16; i++) {
        unsigned row = i % 4, column = i / 4 + (inverse ? 4 - row : row);
        uint8_t x = a->b[column % 4 * 4 + row];
        out->b[i] = inverse ? inverse_sub_byte(x) : sub_byte(x);
    }
}

static void aes_columns(const V128 *a, bool inverse, V128 *out) {
    static const uint8_t forward[4] = {2, 3, 1, 1}, backward[4] = {14, 11, 13, 9};
    const uint8_t *k = inverse ? backward : forward;
    for (unsigned i = 0; i < 16; i++)
        for (unsigned j = 0; j < 4; j++) out->b[i] ^= gf_mul(a->b[i / 4 * 4 + (i + j) % 4], k[j]);
}

// ---- all of it ----

bool ir_eval_vec(const IrInst *in, const V128 args[3], V128 *out) {
    const V128 *a = &args[0], *b = &args[1];
    unsigned bits = ir_elem_bits(in->type), n = ir_lanes(in->type);
    switch ((IrOp)in->op) {
    case IR_splat:
        for (unsigned i = 0; i < n; i++) lane_set(out, bits, i, a->d[0]);
        return true;
    case IR_vzext: *out = *a; return true;
    case IR_vget:
        if (bits < 64)
            out->d[0] = lane_get(a, bits, (unsigned)in->imm % (128 / bits));
        else
            out->d[0] = a->d[in->imm & 1];
        return true;
    case IR_vset:
        *out = *a;
        lane_set(out, bits, (unsigned)in->imm % n, b->d[0]);
        return true;
    case IR_vlow: out->d[0] = a->d[0]; return true;
    case IR_vpair:
        out->d[0] = a->d[0];
        out->d[1] = b->d[0];
        return true;
    case IR_ziplo:
    case IR_ziphi:
    case IR_uzpe:
    case IR_uzpo:
    case IR_trne:
    case IR_trno: permute(in, a, b, out); return true;
    case IR_vext: extract_bytes(a, b, (unsigned)in->imm, out); return true;
    case IR_tbl:
        for (unsigned i = 0; i < 16; i++) out->b[i] = b->b[i] > 15 ? 0 : a->b[b->b[i]];
        return true;
    case IR_vrev: reverse_groups(in, a, out); return true;
    case IR_vzextl:
    case IR_vsextl:
    case IR_vzexth:
    case IR_vsexth:
        widen(a, bits, in->op == IR_vsextl || in->op == IR_vsexth,
              in->op == IR_vzexth || in->op == IR_vsexth, out);
        return true;
    case IR_vtrunc:
    case IR_vsqxtn:
    case IR_vsqxtun:
    case IR_vuqxtn: narrow(in->op, bits, a, b, out); return true;
    case IR_vsmull:
    case IR_vumull:
    case IR_vsmull2:
    case IR_vumull2:
        multiply_long(a, b, bits, in->op == IR_vsmull || in->op == IR_vsmull2,
                      in->op == IR_vsmull2 || in->op == IR_vumull2, out);
        return true;
    case IR_vdot: dot(in, args, out); return true;
    case IR_clmul: carryless(a->d[in->imm & 1], b->d[in->imm >> 1 & 1], out); return true;
    case IR_aes_enc: aes_rows(a, false, out); return true;
    case IR_aes_dec: aes_rows(a, true, out); return true;
    case IR_aes_mix: aes_columns(a, false, out); return true;
    case IR_aes_imix: aes_columns(a, true, out); return true;
    default: return false;
    }
}
