# float.t - bugs that fuzzing found, one line each; see ../lines.py
# rounding down, 0 - 0 is -0: FRINTA must not see it
frinta v3.2s, v0.2s | v0=0x1 fpcr=0x800000 | v3=0
# a register whose value was made as a half is doubles to FCVTN2
frintx h30, h0 ; fcvtn2 v26.4s, v30.2d | v0=0x0303 v26=0x3fefffffffffffff fpcr=0x400000 | v26=0x00000000000000013fefffffffffffff fpsr
# tiny before rounding: the least normal number, inexact, underflows
fmul s0, s1, s2 | v1=0x3f7fffff v2=0x00800000 | v0 fpsr
fmul d0, d1, d2 | v1=0x3fefffffffffffff v2=0x0010000000000000 | v0 fpsr
fmul s0, s1, s2 | v1=0x3f800000 v2=0x00800000 | v0=0x00800000 fpsr
fcvt s0, d1 | v1=0x380fffffffffffff | v0=0x00800000 fpsr
fcvt h0, s1 | v1=0x387fffff | v0=0x0400 fpsr
fmla v0.4s, v1.4s, v2.4s | v0=0 v1=0x3f7fffff v2=0x00800000 | v0 fpsr
