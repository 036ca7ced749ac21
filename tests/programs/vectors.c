// AdvSIMD through the compiler's vector types and loops it vectorises: lanes of all widths,
// conversions, shuffles, reductions, saturation, string functions of the C library.
#include <arm_neon.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

static void show(const char *what, uint8x16_t v) {
    uint8_t b[16];
    vst1q_u8(b, v);
    printf("%-8s", what);
    for (int i = 15; i >= 0; i--) printf("%02x", b[i]);
    printf("\n");
}

int main(void) {
    uint8_t raw[48];
    for (int i = 0; i < 48; i++) raw[i] = (uint8_t)(i * 37 + 11 + (i >> 2) * 91);
    uint8x16_t a = vld1q_u8(raw), b = vld1q_u8(raw + 16), c = vld1q_u8(raw + 32);
    int16x8_t sa = vreinterpretq_s16_u8(a), sb = vreinterpretq_s16_u8(b);
    int32x4_t wa = vreinterpretq_s32_u8(a), wb = vreinterpretq_s32_u8(b);
    int64x2_t da = vreinterpretq_s64_u8(a), db = vreinterpretq_s64_u8(b);
#define S16(v) vreinterpretq_u8_s16(v)
#define S32(v) vreinterpretq_u8_s32(v)
#define S64(v) vreinterpretq_u8_s64(v)
#define F32(v) vreinterpretq_u8_f32(v)
#define F64(v) vreinterpretq_u8_f64(v)
    show("add", vaddq_u8(a, b)), show("sub", S16(vsubq_s16(sa, sb))),
        show("mul", S32(vmulq_s32(wa, wb)));
    show("qadd", vqaddq_u8(a, b)), show("qsub", S16(vqsubq_s16(sa, sb))),
        show("hadd", vhaddq_u8(a, b));
    show("rhadd", vrhaddq_u8(a, b)), show("max", S16(vmaxq_s16(sa, sb))),
        show("min", S32(vminq_s32(wa, wb)));
    show("abd", vabdq_u8(a, b)), show("abs", S16(vabsq_s16(sa))), show("neg", S64(vnegq_s64(da)));
    show("cmgt", vreinterpretq_u8_u64(vcgtq_s64(da, db))), show("cmeq", vceqq_u8(a, vrev64q_u8(a)));
    show("bsl", vbslq_u8(c, a, b)), show("bic", vbicq_u8(a, b)), show("orn", vornq_u8(a, b));
    show("shl", S16(vshlq_n_s16(sa, 3))), show("sshr", S32(vshrq_n_s32(wa, 7))),
        show("rshr", S64(vrshrq_n_s64(da, 13)));
    show("sshl", S16(vshlq_s16(sa, vsubq_s16(vandq_s16(sb, vdupq_n_s16(15)), vdupq_n_s16(8)))));
    show("qshl", S32(vqshlq_n_s32(wa, 4))), show("sli", S16(vsliq_n_s16(sa, sb, 5))),
        show("sri", S32(vsriq_n_s32(wa, wb, 9)));
    show("tbl", vqtbl1q_u8(a, vandq_u8(b, vdupq_n_u8(31)))), show("ext", vextq_u8(a, b, 5));
    show("zip1", vzip1q_u8(a, b)), show("uzp2", vuzp2q_u8(a, b)),
        show("trn1", S32(vtrn1q_s32(wa, wb)));
    show("rev32", vrev32q_u8(a)), show("rbit", vrbitq_u8(a)), show("cnt", vcntq_u8(a)),
        show("clz", S32(vclzq_s32(vshrq_n_s32(wa, 5))));
    show("smull", S32(vmull_s16(vget_low_s16(sa), vget_high_s16(sb)))),
        show("umlal", S64(vmlal_s32(da, vget_low_s32(wa), vget_low_s32(wb))));
    show("addw", S32(vaddw_s16(wa, vget_low_s16(sb)))),
        show("xtn", vcombine_u8(vmovn_u16(vreinterpretq_u16_u8(a)), vqmovun_s16(sb)));
    show("qdmulh", S16(vqdmulhq_s16(sa, sb))), show("qrdmulh", S32(vqrdmulhq_s32(wa, wb)));
    show("addp", S16(vpaddq_s16(sa, sb))), show("paddl", S32(vpaddlq_s16(sa))),
        show("shrn", vcombine_u8(vshrn_n_u16(vreinterpretq_u16_u8(a), 4), vget_low_u8(b)));
    show("pmul", vreinterpretq_u8_p8(vmulq_p8(vreinterpretq_p8_u8(a), vreinterpretq_p8_u8(b))));
    printf("across %u %u %d %d %u\n", vaddvq_u8(a), vmaxvq_u8(a), vminvq_s16(sa), vaddvq_s32(wa),
           vaddlvq_u8(b));
    float32x4_t f = vcvtq_f32_s32(vshrq_n_s32(wa, 10)),
                g = vaddq_f32(vcvtq_f32_u32(vreinterpretq_u32_s32(vshrq_n_s32(wb, 20))),
                              vdupq_n_f32(0.37f));
    show("fadd", F32(vaddq_f32(f, g))), show("fmul", F32(vmulq_f32(f, g))),
        show("fdiv", F32(vdivq_f32(f, g))), show("fsqrt", F32(vsqrtq_f32(vabsq_f32(f))));
    show("fmla", F32(vfmaq_f32(f, g, g))), show("fmls", F32(vfmsq_laneq_f32(f, g, f, 2))),
        show("fmax", F32(vmaxq_f32(f, g))), show("fmaxnm", F32(vmaxnmq_f32(f, g)));
    show("fcmgt", vreinterpretq_u8_u32(vcgtq_f32(f, g))),
        show("fcvtzs", S32(vcvtq_s32_f32(vmulq_n_f32(g, 1e4f)))),
        show("frintm", F32(vrndmq_f32(f)));
    show("frecpe", F32(vrecpeq_f32(g))), show("frsqrte", F32(vrsqrteq_f32(vabsq_f32(g)))),
        show("frecps", F32(vrecpsq_f32(f, g)));
    show("fcvtl", F64(vcvt_f64_f32(vget_low_f32(f)))),
        show("fcvtn", F32(vcvt_high_f32_f64(vcvt_f32_f64(vcvt_f64_f32(vget_low_f32(g))),
                                            vcvt_high_f64_f32(f))));
    show("faddp", F32(vpaddq_f32(f, g))), show("fabd", F32(vabdq_f32(f, g))),
        show("scvtfd", F64(vcvtq_f64_s64(da))),
        show("fcvtas", S64(vcvtaq_s64_f64(vcvtq_f64_s64(vshrq_n_s64(db, 40)))));

    uint8x16x3_t t3 = vld3q_u8(raw);
    show("ld3", t3.val[1]);
    uint8x16x2_t t2 = {{a, b}};
    uint8_t out[64] = {0};
    vst2q_u8(out, t2);
    show("st2", vld1q_u8(out + 16));
    uint16x4x4_t t4 = vld4_u16((uint16_t *)raw);
    show("ld4", vcombine_u8(vreinterpret_u8_u16(t4.val[0]), vreinterpret_u8_u16(t4.val[3])));
    uint32_t lane[4];
    vst1q_lane_u32(lane, vreinterpretq_u32_u8(a), 2);
    show("lane", vreinterpretq_u8_u32(vld1q_lane_u32(lane, vreinterpretq_u32_u8(b), 1)));
    show("ld1r", vreinterpretq_u8_u16(vld1q_dup_u16((uint16_t *)raw)));
    show("tbx4", vqtbx4q_u8(c, (uint8x16x4_t){{a, b, c, a}}, vandq_u8(b, vdupq_n_u8(127))));

    // The C library's string functions are written with SIMD and odd alignments.
    char text[300], copy[300];
    memset(text, 'x', sizeof text);
    unsigned sum = 0;
    for (int at = 0; at < 40; at++)
        for (int n = 0; n < 70; n += 3) {
            text[at + n] = 0;
            sum = sum * 33 + (unsigned)strlen(text + at) + (strchr(text + at, 'x') != NULL);
            memcpy(copy + (at * 7 & 31), text + at, (size_t)n + 1);
            sum += (unsigned)(strcmp(copy + (at * 7 & 31), text + at) == 0) +
                   (memchr(text, 0, sizeof text) == text + at + n);
            memmove(copy + 3, copy, 90);
            sum += (unsigned char)copy[at] + (memcmp(copy + 3, text, (size_t)n) > 0);
            text[at + n] = 'x';
        }
    printf("strings %u\n", sum);
    return 0;
}
