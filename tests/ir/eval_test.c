// eval_test.c - ir_eval on known vectors (edges of ops.def, FIPS 197, flags), the verifier on
// regions it must refuse, and what the printer's round trip in run_ir.c does not reach: helpers.
#include "ir/ir.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

// ---- eval ----

static V128 eval(IrOp op, IrType t, IrType a_type, unsigned aux, int64_t imm, V128 a, V128 b,
                 V128 c) {
    IrInst in = {.op = op, .type = t, .aux = aux, .imm = imm};
    V128 args[3] = {a, b, c}, out;
    IrFpEnv env = {0};
    ir_eval(&in, a_type, args, NULL, &env, &out);
    return out;
}
static uint64_t scalar(IrOp op, IrType t, uint64_t a, uint64_t b) {
    V128 v = eval(op, t, t, 0, 0, (V128){.d = {a}}, (V128){.d = {b}}, (V128){0});
    assert_int_equal(v.d[1], 0);
    return v.d[0];
}
static void expect_vec(V128 got, uint64_t hi, uint64_t lo) {
    assert_int_equal(got.d[1], hi);
    assert_int_equal(got.d[0], lo);
}
static V128 vec(uint64_t hi, uint64_t lo) {
    return (V128){.d = {lo, hi}};
}

static void scalars(void **state) {
    assert_int_equal(scalar(IR_add, IR_I32, 0xffffffff, 2), 1);
    assert_int_equal(scalar(IR_sub, IR_I8, 0, 1), 0xff);
    assert_int_equal(scalar(IR_udiv, IR_I32, 7, 0), 0);
    assert_int_equal(scalar(IR_sdiv, IR_I32, 0x80000000, 0xffffffff), 0x80000000);
    assert_int_equal(scalar(IR_sdiv, IR_I32, 0xfffffff9, 2), 0xfffffffd);
    assert_int_equal(scalar(IR_sdiv, IR_I64, 1ull << 63, ~0ull), 1ull << 63);
    assert_int_equal(scalar(IR_umulh, IR_I64, ~0ull, ~0ull), ~1ull);
    assert_int_equal(scalar(IR_smulh, IR_I64, ~0ull, 5), ~0ull);
    assert_int_equal(scalar(IR_shl, IR_I32, 1, 33), 2);
    assert_int_equal(scalar(IR_sar, IR_I32, 0x80000000, 31), 0xffffffff);
    assert_int_equal(scalar(IR_ror, IR_I32, 1, 1), 0x80000000);
    assert_int_equal(scalar(IR_clz, IR_I32, 0, 0), 32);
    assert_int_equal(scalar(IR_clz, IR_I64, 1, 0), 63);
    assert_int_equal(scalar(IR_ctz, IR_I16, 0, 0), 16);
    assert_int_equal(scalar(IR_rbit, IR_I32, 1, 0), 0x80000000);
    assert_int_equal(scalar(IR_bswap, IR_I16, 0x1234, 0), 0x3412);
    assert_int_equal(scalar(IR_bswap, IR_I64, 0x0102030405060708, 0), 0x0807060504030201);
    assert_int_equal(scalar(IR_abs, IR_I32, 0x80000000, 0), 0x80000000);
    assert_int_equal(scalar(IR_not, IR_I1, 1, 0), 0);
    assert_int_equal(scalar(IR_fneg, IR_F32, 0x7fc00000, 0), 0xffc00000);
    V128 one = vec(0, 1);
    assert_int_equal(eval(IR_sext, IR_I64, IR_I1, 0, 0, one, one, one).d[0], ~0ull);
    assert_int_equal(eval(IR_sext, IR_I32, IR_I8, 0, 0, vec(0, 0x80), one, one).d[0], 0xffffff80);
}

static uint64_t nzcv(IrOp op, IrType t, uint64_t a, uint64_t b, uint64_t c) {
    V128 f = eval(op, IR_FLAGS, t, 0, 0, vec(0, a), vec(0, b), vec(0, c));
    return ir_flags_to_nzcv((uint32_t)f.d[0]) >> 28;
}

static void flags(void **state) { // N 8, Z 4, C 2, V 1
    assert_int_equal(nzcv(IR_fl_add, IR_I32, 0x7fffffff, 1, 0), 9);
    assert_int_equal(nzcv(IR_fl_add, IR_I32, 0xffffffff, 1, 0), 6);
    assert_int_equal(nzcv(IR_fl_sub, IR_I64, 1, 1, 0), 6);
    assert_int_equal(nzcv(IR_fl_sub, IR_I64, 0, 1, 0), 8);
    assert_int_equal(nzcv(IR_fl_sub, IR_I32, 0x80000000, 1, 0), 3);
    assert_int_equal(nzcv(IR_fl_adc, IR_I64, ~0ull, ~0ull, 1), 10);
    assert_int_equal(nzcv(IR_fl_adc, IR_I32, 0xffffffff, 0, 1), 6);
    assert_int_equal(nzcv(IR_fl_logic, IR_I32, 0x80000000, 0, 0), 8);
    assert_int_equal(nzcv(IR_fl_fcmp, IR_F32, 0x3f800000, 0x40000000, 0), 8);
    assert_int_equal(nzcv(IR_fl_fcmp, IR_F32, 0x3f800000, 0x3f800000, 0), 6);
    assert_int_equal(nzcv(IR_fl_fcmp, IR_F32, 0x40000000, 0x3f800000, 0), 2);
    assert_int_equal(nzcv(IR_fl_fcmp, IR_F32, 0x7fc00000, 0x3f800000, 0), 3);
}

static void vectors(void **state) {
    V128 a = vec(0x0f0e0d0c0b0a0908, 0x0706050403020100),
         b = vec(0x1f1e1d1c1b1a1918, 0x1716151413121110), z = {0};
    expect_vec(eval(IR_ziplo, IR_I8X16, IR_V128, 0, 0, a, b, z), 0x1707160615051404,
               0x1303120211011000);
    expect_vec(eval(IR_ziphi, IR_I32X4, IR_V128, 0, 0, a, b, z), 0x1f1e1d1c0f0e0d0c,
               0x1b1a19180b0a0908);
    expect_vec(eval(IR_uzpe, IR_I16X8, IR_V128, 0, 0, a, b, z), 0x1d1c191815141110,
               0x0d0c090805040100);
    expect_vec(eval(IR_uzpo, IR_I64X2, IR_V128, 0, 0, a, b, z), b.d[1], a.d[1]);
    expect_vec(eval(IR_trno, IR_I32X4, IR_V128, 0, 0, a, b, z), 0x1f1e1d1c0f0e0d0c,
               0x1716151407060504);
    expect_vec(eval(IR_vext, IR_I8X16, IR_V128, 0, 3, a, b, z), 0x1211100f0e0d0c0b,
               0x0a09080706050403);
    expect_vec(eval(IR_vrev, IR_I8X16, IR_V128, 0, 4, a, z, z), 0x0c0d0e0f08090a0b,
               0x0405060700010203);
    expect_vec(eval(IR_tbl, IR_I8X16, IR_V128, 0, 0, b, vec(0x100f0e0d, 0xff01), z),
               0x1010101000000000 | 0x1f1e1d, 0x1010101010100011);
    expect_vec(eval(IR_shl, IR_I16X8, IR_V128, 0, 0, vec(0, 0x0001000100010001),
                    vec(0, 0x00100001000f0000), z),
               0, 0x0000000280000001);
    expect_vec(eval(IR_sari, IR_I32X4, IR_V128, 0, 40, vec(0, 0x80000000), z, z), 0, 0xffffffff);
    expect_vec(eval(IR_vsqxtn, IR_I8X16, IR_V128, 0, 0, vec(0x8000, 0x7fff0080ff7fffff), z, z), 0,
               0x000000807f7f80ff);
    expect_vec(eval(IR_vsqxtun, IR_I16X8, IR_V128, 0, 0, vec(0, 0xffffffff00012345), z, z), 0,
               0x0000ffff);
    expect_vec(eval(IR_vuqxtn, IR_I32X4, IR_V128, 0, 0, vec(5, 1ull << 40), z, z), 0,
               0x00000005ffffffff);
    expect_vec(eval(IR_vsmull2, IR_I64X2, IR_V128, 0, 0, vec(0xffffffff00000003, 0),
                    vec(0x0000000500000007, 0), z),
               (uint64_t)-5, 21);
    expect_vec(eval(IR_vdot, IR_I32X4, IR_V128, 2, 0, vec(0, 0xff), vec(0, 0xff), vec(0, 1)), 0,
               (uint32_t)(1 - 255));
    expect_vec(eval(IR_clmul, IR_I64X2, IR_V128, 0, 0, vec(0, ~0ull), vec(0, 3), z), 1, 1);
    expect_vec(eval(IR_srhadd, IR_I8X16, IR_V128, 0, 0, vec(0, 0x807f), vec(0, 0x807e), z), 0,
               0x807f);
    expect_vec(eval(IR_uqsub, IR_I64X2, IR_V128, 0, 0, vec(1, 2), vec(2, 1), z), 0, 1);
    expect_vec(
        eval(IR_sqadd, IR_I64X2, IR_V128, 0, 0, vec(1ull << 63, 1), vec(~0ull, INT64_MAX), z),
        1ull << 63, INT64_MAX);
    expect_vec(eval(IR_vset, IR_I16X8, IR_V128, 0, 7, a, vec(0, 0xabcd), z), 0xabcd0d0c0b0a0908,
               a.d[0]);
    expect_vec(eval(IR_fcvt, IR_F64X2, IR_V128, 1, 0, vec(0x400000003f800000, 0), z, z),
               0x4000000000000000, 0x3ff0000000000000);
    expect_vec(eval(IR_fcvt, IR_F32X4, IR_V128, 0, 16, vec(0, 0x3c00400042004400), z, z),
               0x3f80000040000000, 0x4040000040800000);
    expect_vec(
        eval(IR_fcvt, IR_F32X4, IR_V128, 0, 0, vec(0x4000000000000000, 0x3ff0000000000000), z, z),
        0, 0x400000003f800000);
}

static void aes(void **state) { // FIPS 197, appendix B, round 1
    V128 start;
    static const uint8_t in[16] = {0x19, 0x3d, 0xe3, 0xbe, 0xa0, 0xf4, 0xe2, 0x2b,
                                   0x9a, 0xc6, 0x8d, 0x2a, 0xe9, 0xf8, 0x48, 0x08};
    static const uint8_t rows[16] = {0xd4, 0xbf, 0x5d, 0x30, 0xe0, 0xb4, 0x52, 0xae,
                                     0xb8, 0x41, 0x11, 0xf1, 0x1e, 0x27, 0x98, 0xe5};
    static const uint8_t mixed[16] = {0x04, 0x66, 0x81, 0xe5, 0xe0, 0xcb, 0x19, 0x9a,
                                      0x48, 0xf8, 0xd3, 0x7a, 0x28, 0x06, 0x26, 0x4c};
    memcpy(&start, in, 16);
    V128 z = {0}, v = eval(IR_aes_enc, IR_I8X16, IR_V128, 0, 0, start, z, z);
    assert_memory_equal(&v, rows, 16);
    V128 back = eval(IR_aes_dec, IR_I8X16, IR_V128, 0, 0, v, z, z);
    assert_memory_equal(&back, in, 16);
    v = eval(IR_aes_mix, IR_I8X16, IR_V128, 0, 0, v, z, z);
    assert_memory_equal(&v, mixed, 16);
    v = eval(IR_aes_imix, IR_I8X16, IR_V128, 0, 0, v, z, z);
    assert_memory_equal(&v, rows, 16);
}

// ---- verify ----

static const IrField fields[] = {
    {"x0", 0, IR_I64, -1, -1}, {"v0", 16, IR_V128, -1, -1}, {"pc", 32, IR_I64, -1, -1}};

static void refuse(const char *body, const char *want) {
    Arena arena = {0};
    IrRegion r;
    DgmErr err = {0};
    ir_region_init(&r, &arena, fields, ARRAY_LEN(fields), 2);
    char text[1024];
    snprintf(text, sizeof text, "b0: 0x1000\n%%1 = get.i64 x0\n%%2 = get.i64x2 v0\n%s", body);
    if (!ir_parse(&r, text, &err)) fail_msg("%s", err.text);
    bool ok = ir_verify(&r, &err);
    if (ok != !want || (want && !strstr(err.text, want)))
        fail_msg("%s: says `%s`, not `%s`", body, err.text, want ? want : "all is well");
    arena_free(&arena);
}

static void verifier(void **state) {
    refuse("exit 0x2000\n", NULL);
    refuse("%3 = add.i32 %1, %1\nexit 0\n",
           "instruction 3 `%3 = add.i32 %1, %1`: operand %1 is i64");
    refuse("%3 = add.i64 %1, %2\nexit 0\n", "letter 't'");
    refuse("%3 = load.i64 [%2] mem=i64\nexit 0\n", "letter 'p'");
    refuse("%3 = load.i32 [%1] mem=i64\nexit 0\n", "wider than the result");
    refuse("%3 = trunc.i8 %1\nstore [%1], %3 mem=i16\nexit 0\n", "wider than the value");
    refuse("%3 = vget.i32 %2, #4\nexit 0\n", "no such lane");
    refuse("%3 = zext.i64 %1\nexit 0\n", "must widen");
    refuse("put x0, %2\nexit 0\n", "not the register's width");
    refuse("%3 = fadd.i64 %1, %1\nexit 0\n", "wants a float");
    refuse("%3 = popcnt.i16 %1\nexit 0\n", "letter 't'");
    refuse("jump b7\n", "no such block");
    refuse("put x0, %1\n", "does not end with a terminator");
    refuse("exit 0\nexit 0\n", "before its last instruction");
    refuse("put x0, %1\n%4 = load.i64 [%1] mem=i64\nexit 0\n",
           "after instruction 3 changed guest state");
    refuse("put x0, %1\ninsn 0x1004, 4\n%4 = load.i64 [%1] mem=i64\nexit 0\n", NULL);
    refuse("put x0, %1\n%4 = load.i64 [%1] mem=i64 insn=4\nexit 0\n", NULL);
    refuse("%3 = load.i64 [%1] mem=i64 insn=4\nput x0, %3\nstore [%1], %3 mem=i64 insn=4\nexit 0\n",
           "after instruction 4 changed guest state");
    refuse("put x0, %1\nfence.full\nexit 0\n", NULL);
    refuse("put x0, %1\nprefetch.once %1, #16\nexit 0\n", NULL);
    // dominance: neither arm dominates the join, the entry dominates all
    refuse("%3 = icmp.eq %1, %1\nbr %3, b1, b2\nb1: 4\n%5 = neg.i64 %1\njump b3\nb2: 8\njump b3\n"
           "b3: 12\nput x0, %5\nexit 0\n",
           "does not dominate b3");
    refuse("%3 = icmp.eq %1, %1\nbr %3, b1, b2\nb1: 4\n%5 = neg.i64 %1\njump b3\nb2: 8\njump b3\n"
           "b3: 12\nput x0, %1\nexit 0\n",
           NULL);
    refuse("jump b1\nb1: 4\n%3 = neg.i64 %1\n%4 = icmp.eq %3, %1\nbr %4, b1, b2\nb2: 8\nput x0, "
           "%3\nexit 0\n",
           NULL);
}

static void parser_refuses(void **state) {
    static const char *const bad[] = {
        "",
        "x",
        "%1 = get.i64 x0\n",
        "b0: 1\n%1 = get.i64 x9\n",
        "b0: 1\n%1 = bogus.i64 %1\n",
        "b0: 1\n%1 = neg.i64 %1\n",
        "b0: 1\nb2: 4\n",
        "b0: 1\nexit\n",
        "b0: 1\n%1 = exit 4\n",
        "b0: 1\n%1 = const.i65 1\n",
        "b0: 1\n%1 = call.i64 nobody()\n",
        "b0: 1\nexit 4 what\n",
        "b0: 1\n%99999999999 = const.i64 1\n",
        "b0: 1\n%1 = const.i64 99999999999999999999999\n",
    };
    for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
        Arena arena = {0};
        IrRegion r;
        DgmErr err = {0};
        ir_region_init(&r, &arena, fields, ARRAY_LEN(fields), 2);
        if (ir_parse(&r, bad[i], &err)) fail_msg("accepted `%s`", bad[i]);
        assert_non_null(strstr(err.text, "IR text, line "));
        arena_free(&arena);
    }
}

// ---- helpers and the builder ----

static void nobody(void) {}
static const IrHelper helper = {
    .name = "odd_thing", .fn = nobody, .writes_state = true, .can_fault = true};

static void helpers_round_trip(void **state) {
    Arena arena = {0};
    IrRegion r;
    DgmErr err = {0};
    Buf one = {0}, two = {0};
    ir_region_init(&r, &arena, fields, ARRAY_LEN(fields), 2);
    ir_region_reset(&r, 0x1000);
    ir_block_begin(&r, 0x1000);
    ir_insn(&r, 0x1000, 4);
    IrRef x = ir_get(&r, 0, IR_I64), args[2] = {x, x};
    IrRef v = ir_vconst(&r, IR_I8X16, 0x1122, 0x3344);
    IrRef y = ir_call(&r, IR_I64, &helper, 2, args, 7);
    ir_put(&r, 0, y);
    ir_put(&r, 1, v);
    ir_exit_ind(&r, IR_JUMP_RET, y);
    ir_block_end(&r);
    assert_true(ir_verify(&r, &err));
    ir_print(&r, &one);
    if (!ir_parse(&r, one.data, &err)) fail_msg("%s", err.text);
    ir_print(&r, &two);
    assert_string_equal(one.data, two.data);
    assert_non_null(strstr(one.data, "%4 = call.i64 odd_thing(%1, %1) #7\n"));
    assert_non_null(strstr(one.data, "%2 = const.i8x16 0x3344:0x1122\n"));
    buf_free(&one);
    buf_free(&two);
    arena_free(&arena);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scalars),
        cmocka_unit_test(flags),
        cmocka_unit_test(vectors),
        cmocka_unit_test(aes),
        cmocka_unit_test(verifier),
        cmocka_unit_test(parser_refuses),
        cmocka_unit_test(helpers_round_trip),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
