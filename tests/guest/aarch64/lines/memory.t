# memory.t - loads, stores, addressing modes, exclusives
ldr x0, [x1, #8] | x1=buf | x0=0x0f0e0d0c0b0a0908
ldr w0, [x1, #4] | x1=buf | x0=0x07060504
ldrsw x0, [x1] | x1=buf m0=0x80000000 | x0=0xffffffff80000000
ldrsb w0, [x1] | x1=buf m0=0x80 | x0=0xffffff80
ldrsb x0, [x1] | x1=buf m0=0x80 | x0=0xffffffffffffff80
ldrsh w0, [x1, #2] | x1=buf m0=0x80000000 | x0=0xffff8000
ldrb w0, [x1, x2] | x1=buf x2=200 | x0=200
ldr x0, [x1, w2, sxtw #3] | x1=buf x2=3 | x0
ldrh w0, [x1, w2, uxtw #1] | x1=buf x2=5 | x0=0x0b0a
ldr x0, [x1], #16 ; sub x1, x1, #16 ; ldr x2, [x1, #8]! ; ldr x3, [x1] | x1=buf | x0 x2 x3
ldp x0, x2, [x1, #16] | x1=buf | x0 x2
ldp w0, w2, [x1], #8 ; ldr w3, [x1] | x1=buf | x0 x2 x3
ldpsw x0, x2, [x1] | x1=buf m0=0x80000000 | x0 x2
ldur x0, [x1, #1] | x1=buf | x0=0x0807060504030201
str x2, [x1, #8] | x1=buf x2=0x1122334455667788 | m8=0x1122334455667788 m0 m16
strb w2, [x1, #9] | x1=buf x2=0xaa | m8=0x0f0e0d0c0b0aaa08
strh w2, [x1, #2]! ; strh w2, [x1] | x1=buf x2=0xabcd | m0
stp x2, x3, [x1, #16]! ; ldr x0, [x1] | x1=buf x2=1 x3=2 | m16=1 m24=2 x0=1
ldxr x0, [x1] ; stxr w2, x3, [x1] | x1=buf x3=77 | x0 x2=0 m0=77
ldxr x0, [x1] ; clrex ; stxr w2, x3, [x1] | x1=buf x3=77 | x0 x2=1 m0=0x0706050403020100
ldaxrb w0, [x1] ; stlxrb w2, w3, [x1] | x1=buf x3=0x1ff | x0=0 x2=0 m0=0x07060504030201ff
ldxp x0, x4, [x1] ; stxp w2, x3, x5, [x1] | x1=buf x3=1 x5=2 | x0 x4 x2=0 m0=1 m8=2
ldar x0, [x1] ; stlr w2, [x1] | x1=buf x2=5 | x0 m0
ldadd x2, x0, [x1] | x1=buf x2=1 | x0=0x0706050403020100 m0=0x0706050403020101
ldclral w2, w0, [x1] | x1=buf x2=0xff | x0 m0
ldsmaxb w2, w0, [x1] | x1=buf x2=0x80 m0=0x7f | x0 m0
lduminh w2, w0, [x1] | x1=buf x2=0x8000 m0=0xffff | x0 m0
swpa x2, x0, [x1] | x1=buf x2=9 | x0 m0=9
cas x0, x2, [x1] | x1=buf x0=0x0706050403020100 x2=3 | x0 m0=3
casp x4, x5, x6, x7, [x1] | x1=buf x4=1 x5=2 x6=3 x7=4 m0=1 m8=2 | x4 x5 m0=3 m8=4
dc zva, x1 | x1=buf | m0  # how much further is DCZID_EL0.BS, 512 bytes under qemu
prfm pldl1keep, [x1] | x1=buf | x1=buf
prfm pstl1keep, [x1, #8]; prfm pldl2keep, [x1, x2, lsl #3]; prfm pldl3strm, [x1, w2, sxtw]; prfm plil1keep, [x1]; prfm #7, [x1]; prfm #31, [x1]; cset x0, eq | x1=buf x2=-9 | x0=0
prfm pldl1keep, [x1]; prfm pstl1strm, [x1, x1]; mov x0, #1 | x1=0xfff0000000000 | x0=1
crc32cx w0, w2, x3 | x2=0xffffffff x3=0x123456789abcdef | x0
crc32b w0, w2, w3 | x2=0xffffffff x3=0x41 | x0
mrs x0, nzcv | nzcv=0xa0000000 | x0=0xa0000000
msr nzcv, x1 ; cset x0, vs | x1=0x10000000 | x0=1 nzcv=0x10000000
ldrsw x0, .+8; b .+8; .word 0x80000001 | | x0=0xffffffff80000001
ldr s0, .+8; b .+8; .word 0x3f800001 | | v0=0x3f800001
ldr d0, .+8; b .+12; .word 1; .word 0x40000000 | | v0=0x4000000000000001
ldr q0, .+8; b .+20; .word 1; .word 2; .word 3; .word 4 | | v0=0x00000004000000030000000200000001
prfm pldl1keep, [x1, x2]; prfum pldl1keep, [x1, #-3]; prfm pldl1strm, .+8; mov x0, #3 | x1=buf x2=8 | x0=3
pacdza x1; ldraa x0, [x1, #8]; mov x1, #0 | x1=buf m8=77 | x0=77
pacdzb x1; ldrab x0, [x1, #16]!; xpacd x1; sub x2, x1, #16 | x1=buf x2=buf m16=78 | x0=78
adrp x0, .; adr x1, .; lsr x0, x0, #12; lsr x1, x1, #12; sub x0, x0, x1; mov x1, #0 | | x0=0
