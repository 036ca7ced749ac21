// helpers_crypto.c - the hash and SM4 instructions as helpers, after the Arm ARM's pseudo-code.
// Pure functions of their operands; reentrant. Compiled without the host's vector instructions, so
// that a call need not save the guest's vectors. Declared in helpers_simd.h; the lifters that call
// them are in crypto.c.
#include "guest/aarch64/helpers_simd.h"

static uint32_t rol32(uint32_t x, unsigned n) {
    return x << n | x >> (32 - n);
}
static uint32_t ror32(uint32_t x, unsigned n) {
    return x >> n | x << (32 - n);
}

static uint32_t choose(uint32_t x, uint32_t y, uint32_t z) {
    return ((y ^ z) & x) ^ z;
}
static uint32_t majority(uint32_t x, uint32_t y, uint32_t z) {
    return (x & y) | ((x | y) & z);
}
static uint32_t parity(uint32_t x, uint32_t y, uint32_t z) {
    return x ^ y ^ z;
}

// ---- SHA1 ----

static void do_sha1(void *state, V128 *out, const V128 *a, const V128 *b, const V128 *c,
                    uint64_t imm) {
    V128 x = *a;
    uint32_t y = b->w[0];
    for (unsigned e = 0; e < 4; e++) {
        uint32_t t = imm == 0   ? choose(x.w[1], x.w[2], x.w[3])
                     : imm == 1 ? parity(x.w[1], x.w[2], x.w[3])
                                : majority(x.w[1], x.w[2], x.w[3]);
        y += rol32(x.w[0], 5) + t + c->w[e];
        x.w[1] = rol32(x.w[1], 30);
        uint32_t top = x.w[3];
        x.w[3] = x.w[2];
        x.w[2] = x.w[1];
        x.w[1] = x.w[0];
        x.w[0] = y;
        y = top;
    }
    *out = x;
}

static void do_sha1su1(void *state, V128 *out, const V128 *a, const V128 *b, const V128 *c,
                       uint64_t imm) {
    V128 t;
    for (unsigned i = 0; i < 4; i++) t.w[i] = a->w[i] ^ (i < 3 ? b->w[i + 1] : 0);
    V128 x;
    for (unsigned i = 0; i < 4; i++) x.w[i] = rol32(t.w[i], 1);
    x.w[3] ^= rol32(t.w[0], 2);
    *out = x;
}

// ---- SHA256 ----

static void do_sha256h(void *state, V128 *out, const V128 *a, const V128 *b, const V128 *c,
                       uint64_t imm) {
    V128 x = *a, y = *b;
    for (unsigned e = 0; e < 4; e++) {
        uint32_t sigma1 = ror32(y.w[0], 6) ^ ror32(y.w[0], 11) ^ ror32(y.w[0], 25);
        uint32_t sigma0 = ror32(x.w[0], 2) ^ ror32(x.w[0], 13) ^ ror32(x.w[0], 22);
        uint32_t t = y.w[3] + sigma1 + choose(y.w[0], y.w[1], y.w[2]) + c->w[e];
        uint32_t to_y = t + x.w[3];
        uint32_t to_x = t + sigma0 + majority(x.w[0], x.w[1], x.w[2]);
        x = (V128){.w = {to_x, x.w[0], x.w[1], x.w[2]}};
        y = (V128){.w = {to_y, y.w[0], y.w[1], y.w[2]}};
    }
    *out = imm & SIMD_SUB ? y : x;
}

// ---- SM3 ----

static void do_sm3ss1(void *state, V128 *out, const V128 *a, const V128 *b, const V128 *c,
                      uint64_t imm) {
    *out = (V128){.w = {0, 0, 0, rol32(rol32(a->w[3], 12) + b->w[3] + c->w[3], 7)}};
}

static void do_sm3tt(void *state, V128 *out, const V128 *a, const V128 *b, const V128 *c,
                     uint64_t imm) {
    uint32_t w = c->w[imm & 3], d1 = a->w[1], d2 = a->w[2], d3 = a->w[3], t;
    bool second = imm & 4, b_form = imm & 8;
    if (!b_form)
        t = d1 ^ d2 ^ d3;
    else if (second)
        t = (d3 & d2) | (~d3 & d1);
    else
        t = majority(d1, d2, d3);
    t += a->w[0] + w + (second ? b->w[3] : b->w[3] ^ rol32(d3, 12));
    if (second) t ^= rol32(t, 9) ^ rol32(t, 17);
    *out = (V128){.w = {d1, rol32(d2, second ? 19 : 9), d3, t}};
}

static void do_sm3partw1(void *state, V128 *out, const V128 *a, const V128 *b, const V128 *c,
                         uint64_t imm) {
    V128 x;
    for (unsigned i = 0; i < 4; i++) {
        uint32_t next = i < 3 ? c->w[i + 1] : x.w[0];
        x.w[i] = a->w[i] ^ b->w[i] ^ rol32(next, 15);
        x.w[i] ^= rol32(x.w[i], 15) ^ rol32(x.w[i], 23);
    }
    *out = x;
}

static void do_sm3partw2(void *state, V128 *out, const V128 *a, const V128 *b, const V128 *c,
                         uint64_t imm) {
    V128 x;
    uint32_t t = 0;
    for (unsigned i = 0; i < 4; i++) {
        uint32_t e = b->w[i] ^ rol32(c->w[i], 7);
        if (i == 0) t = rol32(e, 15);
        x.w[i] = a->w[i] ^ e;
    }
    x.w[3] ^= t ^ rol32(t, 15) ^ rol32(t, 23);
    *out = x;
}

// ---- SM4 ----

static const uint8_t sm4_sbox[256] = {
    0xd6, 0x90, 0xe9, 0xfe, 0xcc, 0xe1, 0x3d, 0xb7, 0x16, 0xb6, 0x14, 0xc2, 0x28, 0xfb, 0x2c, 0x05,
    0x2b, 0x67, 0x9a, 0x76, 0x2a, 0xbe, 0x04, 0xc3, 0xaa, 0x44, 0x13, 0x26, 0x49, 0x86, 0x06, 0x99,
    0x9c, 0x42, 0x50, 0xf4, 0x91, 0xef, 0x98, 0x7a, 0x33, 0x54, 0x0b, 0x43, 0xed, 0xcf, 0xac, 0x62,
    0xe4, 0xb3, 0x1c, 0xa9, 0xc9, 0x08, 0xe8, 0x95, 0x80, 0xdf, 0x94, 0xfa, 0x75, 0x8f, 0x3f, 0xa6,
    0x47, 0x07, 0xa7, 0xfc, 0xf3, 0x73, 0x17, 0xba, 0x83, 0x59, 0x3c, 0x19, 0xe6, 0x85, 0x4f, 0xa8,
    0x68, 0x6b, 0x81, 0xb2, 0x71, 0x64, 0xda, 0x8b, 0xf8, 0xeb, 0x0f, 0x4b, 0x70, 0x56, 0x9d, 0x35,
    0x1e, 0x24, 0x0e, 0x5e, 0x63, 0x58, 0xd1, 0xa2, 0x25, 0x22, 0x7c, 0x3b, 0x01, 0x21, 0x78, 0x87,
    0xd4, 0x00, 0x46, 0x57, 0x9f, 0xd3, 0x27, 0x52, 0x4c, 0x36, 0x02, 0xe7, 0xa0, 0xc4, 0xc8, 0x9e,
    0xea, 0xbf, 0x8a, 0xd2, 0x40, 0xc7, 0x38, 0xb5, 0xa3, 0xf7, 0xf2, 0xce, 0xf9, 0x61, 0x15, 0xa1,
    0xe0, 0xae, 0x5d, 0xa4, 0x9b, 0x34, 0x1a, 0x55, 0xad, 0x93, 0x32, 0x30, 0xf5, 0x8c, 0xb1, 0xe3,
    0x1d, 0xf6, 0xe2, 0x2e, 0x82, 0x66, 0xca, 0x60, 0xc0, 0x29, 0x23, 0xab, 0x0d, 0x53, 0x4e, 0x6f,
    0xd5, 0xdb, 0x37, 0x45, 0xde, 0xfd, 0x8e, 0x2f, 0x03, 0xff, 0x6a, 0x72, 0x6d, 0x6c, 0x5b, 0x51,
    0x8d, 0x1b, 0xaf, 0x92, 0xbb, 0xdd, 0xbc, 0x7f, 0x11, 0xd9, 0x5c, 0x41, 0x1f, 0x10, 0x5a, 0xd8,
    0x0a, 0xc1, 0x31, 0x88, 0xa5, 0xcd, 0x7b, 0xbd, 0x2d, 0x74, 0xd0, 0x12, 0xb8, 0xe5, 0xb4, 0xb0,
    0x89, 0x69, 0x97, 0x4a, 0x0c, 0x96, 0x77, 0x7e, 0x65, 0xb9, 0xf1, 0x09, 0xc5, 0x6e, 0xc6, 0x84,
    0x18, 0xf0, 0x7d, 0xec, 0x3a, 0xdc, 0x4d, 0x20, 0x79, 0xee, 0x5f, 0x3e, 0xd7, 0xcb, 0x39, 0x48,
};

static uint32_t sm4_substitute(uint32_t x) {
    return sm4_sbox[x & 255] | (uint32_t)sm4_sbox[x >> 8 & 255] << 8 |
           (uint32_t)sm4_sbox[x >> 16 & 255] << 16 | (uint32_t)sm4_sbox[x >> 24] << 24;
}

static void sm4_rounds(V128 *out, const V128 *text, const V128 *key, bool schedule) {
    V128 x = *text;
    for (unsigned i = 0; i < 4; i++) {
        uint32_t t = sm4_substitute(x.w[3] ^ x.w[2] ^ x.w[1] ^ key->w[i]);
        t ^= schedule ? rol32(t, 13) ^ rol32(t, 23)
                      : rol32(t, 2) ^ rol32(t, 10) ^ rol32(t, 18) ^ rol32(t, 24);
        x = (V128){.w = {x.w[1], x.w[2], x.w[3], x.w[0] ^ t}};
    }
    *out = x;
}

static void do_sm4e(void *state, V128 *out, const V128 *a, const V128 *b, const V128 *c,
                    uint64_t imm) {
    sm4_rounds(out, a, b, false);
}

static void do_sm4ekey(void *state, V128 *out, const V128 *a, const V128 *b, const V128 *c,
                       uint64_t imm) {
    sm4_rounds(out, a, b, true);
}

#ifdef DGM_NO_VECTORS // the build made this file without the host's vector instructions
#define KEEPS_VECTORS true
#else
#define KEEPS_VECTORS false
#endif
#define VECTOR_HELPER(ident, function)                                                             \
    const IrHelper ident = {.name = #ident,                                                        \
                            .fn = (void (*)(void))function,                                        \
                            .vec = true,                                                           \
                            .keeps_vectors = KEEPS_VECTORS}

VECTOR_HELPER(crypto_sha1, do_sha1);
VECTOR_HELPER(crypto_sha1su1, do_sha1su1);
VECTOR_HELPER(crypto_sha256h, do_sha256h);
VECTOR_HELPER(crypto_sm3ss1, do_sm3ss1);
VECTOR_HELPER(crypto_sm3tt, do_sm3tt);
VECTOR_HELPER(crypto_sm3partw1, do_sm3partw1);
VECTOR_HELPER(crypto_sm3partw2, do_sm3partw2);
VECTOR_HELPER(crypto_sm4e, do_sm4e);
VECTOR_HELPER(crypto_sm4ekey, do_sm4ekey);
