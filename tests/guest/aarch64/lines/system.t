# Exclusives, system registers, hints, pointer authentication. Values that differ between
# implementations are reduced to what the architecture promises.
ldxr x0, [x1]; stxr w2, x3, [x1] | x1=buf x3=9 m0=5 | x0=5 x2=0 m0=9
ldaxr w0, [x1]; stlxr w2, w3, [x1] | x1=buf x3=-1 m0=5 | x0=5 x2=0 m0=0xffffffff
ldxrb w0, [x1]; stxrb w2, w3, [x1] | x1=buf x3=0x1ff m0=0x1234 | x0=0x34 x2=0 m0=0x12ff
ldxrh w0, [x1]; stxrh w2, w3, [x1] | x1=buf x3=0x1ffff m0=0x12345678 | x0=0x5678 x2=0 m0=0x1234ffff
ldxp x0, x4, [x1]; stxp w2, x3, x5, [x1] | x1=buf x3=9 x5=8 m0=5 m8=6 | x0=5 x4=6 x2=0 m0=9 m8=8
ldaxp w0, w4, [x1]; stlxp w2, w3, w5, [x1] | x1=buf x3=9 x5=8 m0=0x600000005 | x0=5 x4=6 x2=0 m0=0x800000009
stxr w2, x3, [x1] | x1=buf x3=9 m0=5 | x2=1 m0=5
ldxr x0, [x1]; clrex; stxr w2, x3, [x1] | x1=buf x3=9 m0=5 | x0=5 x2=1 m0=5
ldxr x0, [x1]; add x4, x1, #8; stxr w2, x3, [x4] | x1=buf x3=9 m0=5 m8=5 | x2=1 m0=5 m8=5
ldxr x0, [x1]; str x3, [x1]; stxr w2, x3, [x1] | x1=buf x3=9 m0=5 | x2=1 m0=9
ldxr x0, [x1]; stxr w2, x3, [x1]; stxr w4, x5, [x1] | x1=buf x3=9 x5=7 m0=5 | x2=0 x4=1 m0=9
ldar x0, [x1]; stlr x0, [x2] | x1=buf x2=buf m0=77 | x0=77 m0=77
mrs x0, nzcv | nzcv=0xa0000000 | x0=0xa0000000
msr nzcv, x0 | x0=0xffffffff50000fff | nzcv=0x50000000
mrs x0, fpcr | fpcr=0x00c00000 | x0=0x00c00000
msr fpcr, x0; mrs x1, fpcr | x0=0x03000000 | x1=0x03000000
msr fpsr, x0; mrs x1, fpsr | x0=0x0800009f | x1=0x0800009f
msr fpsr, x0; mrs x1, fpsr | x0=0x10 | x1=0x10
mrs x0, dczid_el0; and x0, x0, #0x10 | | x0=0
mrs x0, cntvct_el0; mrs x1, cntvct_el0; cmp x1, x0; cset x2, hs; mov x0, #0; mov x1, #0 | | x2=1
nop; yield; sev; hint #50; dmb ish; dsb sy; isb; mov x0, #3 | | x0=3
xpaci x0 | x0=0x12345678 | x0=0x12345678
xpacd x0 | x0=0x007f00007fffff08 | x0=0x00007fffff08
pacia x0, x1; autia x0, x1 | x0=0x7f0012345678 x1=5 | x0=0x7f0012345678
pacib x0, x1; xpaci x0 | x0=0x7f0012345678 x1=5 | x0=0x7f0012345678
pacda x0, x1; mov x2, x0; autda x0, x1; pacda x0, x1; cmp x0, x2; cset x3, eq; mov x0, #0; mov x2, #0 | x0=0x7f0012345678 x1=5 | x3=1
pacizb x0; autizb x0 | x0=0x7f0012345678 | x0=0x7f0012345678
mov x17, x0; mov x16, #3; pacia1716; autia1716; mov x0, x17 | x0=0x7f0012345678 | x0=0x7f0012345678
mov x9, x30; paciasp; autiasp; cmp x9, x30; cset x0, eq; mov x30, x9; mov x9, #0 | | x0=1
pacga x0, x1, x2; mov w0, w0 | x1=5 x2=6 | x0=0
cfinv | nzcv=0x20000000 | nzcv=0
axflag | nzcv=0x30000000 | nzcv
axflag | nzcv=0x60000000 | nzcv
xaflag | nzcv=0x20000000 | nzcv
xaflag | nzcv=0x60000000 | nzcv
xaflag | nzcv=0 | nzcv
msr dit, #1; mrs x0, dit; msr dit, #0; mrs x1, dit | | x0=0x1000000 x1=0
