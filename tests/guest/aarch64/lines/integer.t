# integer.t - one line a test; see ../lines.py
add x0, x1, x2 | x1=5 x2=7 | x0=12
add w0, w1, w2 | x1=0xffffffffffffffff x2=2 | x0=1
adds x0, x1, x2 | x1=0x7fffffffffffffff x2=1 | x0=0x8000000000000000 nzcv=0x90000000
adds w0, w1, w2 | x1=0xffffffff x2=1 | x0=0 nzcv=0x60000000
subs x0, x1, x2 | x1=1 x2=2 | x0=0xffffffffffffffff nzcv=0x80000000
subs x0, x1, x2 | x1=2 x2=2 | x0=0 nzcv=0x60000000
subs w0, w1, #1 | x1=0x80000000 | x0=0x7fffffff nzcv=0x30000000
adc x0, x1, x2 | x1=1 x2=2 nzcv=0x20000000 | x0=4
adcs x0, x1, x2 | x1=0xffffffffffffffff x2=0 nzcv=0x20000000 | x0=0 nzcv=0x60000000
sbc x0, x1, x2 | x1=5 x2=2 nzcv=0 | x0=2
sbcs w0, w1, w2 | x1=0 x2=0 nzcv=0 | x0=0xffffffff nzcv=0x80000000
ngcs x0, x1 | x1=1 nzcv=0x20000000 | x0 nzcv
add x0, x1, w2, sxtb #2 | x1=100 x2=0x80 | x0
add x0, x1, w2, uxth #4 | x1=100 x2=0xfffff | x0
sub x0, x1, x2, asr #63 | x1=1 x2=0x8000000000000000 | x0=2
and x0, x1, #0xff00ff00ff00ff00 | x1=0xffffffffffffffff | x0=0xff00ff00ff00ff00
ands w0, w1, w2, lsl #31 | x1=0x80000000 x2=1 | x0=0x80000000 nzcv=0x80000000
bics x0, x1, x2 | x1=0xf x2=0xf nzcv=0xf0000000 | x0=0 nzcv=0x40000000
orn x0, x1, x2, ror #4 | x1=0 x2=0xf | x0
eon w0, w1, w2 | x1=5 x2=9 | x0
movz x0, #0x1234, lsl #48 | x0=1 | x0=0x1234000000000000
movn w0, #0 | x0=1 | x0=0xffffffff
movk x0, #0xbeef, lsl #16 | x0=0x1111222233334444 | x0=0x11112222beef4444
sbfm x0, x1, #4, #11 | x1=0xabc | x0
ubfx x0, x1, #60, #4 | x1=0xf000000000000000 | x0=15
bfi x0, x1, #8, #8 | x0=0xffffffffffffffff x1=0x12 | x0=0xffffffffffff12ff
bfxil w0, w1, #16, #8 | x0=0xffffffffffffffff x1=0x120000 | x0=0xffffff12
sbfiz w0, w1, #28, #4 | x1=8 | x0=0x80000000
extr x0, x1, x2, #16 | x1=0xaaaa x2=0xbbbb0000cccc1111 | x0=0xaaaabbbb0000cccc
ror w0, w1, w2 | x1=1 x2=33 | x0=0x80000000
lslv x0, x1, x2 | x1=1 x2=65 | x0=2
asrv w0, w1, w2 | x1=0x80000000 x2=31 | x0=0xffffffff
lsrv w0, w1, w2 | x1=0x80000000 x2=32 | x0=0x80000000
udiv x0, x1, x2 | x1=7 x2=0 | x0=0
sdiv w0, w1, w2 | x1=0x80000000 x2=0xffffffff | x0=0x80000000
sdiv x0, x1, x2 | x1=0xfffffffffffffff9 x2=2 | x0=0xfffffffffffffffd
madd x0, x1, x2, x3 | x1=3 x2=4 x3=5 | x0=17
msub w0, w1, w2, w3 | x1=3 x2=4 x3=5 | x0=0xfffffff9
smulh x0, x1, x2 | x1=0x8000000000000000 x2=2 | x0=0xffffffffffffffff
umulh x0, x1, x2 | x1=0x8000000000000000 x2=2 | x0=1
smaddl x0, w1, w2, x3 | x1=0xffffffff x2=2 x3=10 | x0=8
umsubl x0, w1, w2, x3 | x1=0xffffffff x2=2 x3=10 | x0
clz w0, w1 | x1=0 | x0=32
cls x0, x1 | x1=0xffffffff00000000 | x0=31
rbit w0, w1 | x1=1 | x0=0x80000000
rev x0, x1 | x1=0x0102030405060708 | x0=0x0807060504030201
rev16 w0, w1 | x1=0x01020304 | x0=0x02010403
rev32 x0, x1 | x1=0x0102030405060708 | x0=0x0403020108070605
csel x0, x1, x2, hi | x1=1 x2=2 nzcv=0x20000000 | x0=1
csinc w0, w1, w2, lt | x1=1 x2=0xffffffff nzcv=0x10000000 | x0=1
csinv x0, x1, x2, eq | x1=1 x2=2 nzcv=0 | x0=0xfffffffffffffffd
csneg x0, x1, x2, le | x1=1 x2=2 nzcv=0 | x0=0xfffffffffffffffe
ccmp x1, x2, #5, ge ; cset x0, vs | x1=1 x2=1 nzcv=0x80000000 | x0=1 nzcv=0x50000000
ccmp w1, #3, #0, eq | x1=4 nzcv=0x40000000 | nzcv=0x20000000
ccmn x1, x2, #15, ne | x1=0xffffffffffffffff x2=1 nzcv=0 | nzcv=0x60000000
cmp x1, x2 ; cset x0, hi ; cset x3, ls ; cset x4, ge ; cset x5, lt ; cset x6, gt ; cset x7, le ; cset x8, mi ; cset x9, vs | x1=0x8000000000000000 x2=1 | x0 x3 x4 x5 x6 x7 x8 x9 nzcv
cmn w1, w2 ; cset x0, cs ; cset x3, cc ; cset x4, ge ; cset x5, mi ; cset x6, eq | x1=0xffffffff x2=0x80000000 | x0 x3 x4 x5 x6 nzcv
tst x1, x2 ; cset x0, gt ; cset x3, le ; cset x4, hi ; cset x5, ls | x1=8 x2=12 | x0 x3 x4 x5 nzcv
subs x1, x1, #1 ; csel x0, x2, x3, hs ; sbcs x4, x5, x6 | x1=0 x5=9 x6=3 | x0 x1 x4 nzcv
