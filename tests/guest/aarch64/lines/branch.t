# Branches: what is skipped shows in x0. `.+8` skips one instruction.
mov x0, #1; b .+8; mov x0, #2 | | x0=1
mov x0, #1; cbz x1, .+8; mov x0, #2 | x1=0 | x0=1
mov x0, #1; cbz x1, .+8; mov x0, #2 | x1=0x100000000 | x0=2
mov x0, #1; cbz w1, .+8; mov x0, #2 | x1=0x100000000 | x0=1
mov x0, #1; cbnz w1, .+8; mov x0, #2 | x1=0x80000000 | x0=1
mov x0, #1; tbz x1, #63, .+8; mov x0, #2 | x1=0x8000000000000000 | x0=2
mov x0, #1; tbnz x1, #63, .+8; mov x0, #2 | x1=0x8000000000000000 | x0=1
mov x0, #1; tbz w1, #31, .+8; mov x0, #2 | x1=0x80000000 | x0=2
mov x0, #1; tbnz w1, #31, .+8; mov x0, #2 | x1=0x7fffffff | x0=2
mov x0, #1; tbnz x1, #40, .+8; mov x0, #2 | x1=0x10000000000 | x0=1
mov x0, #1; tbnz x1, #0, .+8; mov x0, #2 | x1=2 | x0=2
mov x0, #1; b.eq .+8; mov x0, #2 | nzcv=0x40000000 | x0=1
mov x0, #1; b.ne .+8; mov x0, #2 | nzcv=0x40000000 | x0=2
mov x0, #1; b.cs .+8; mov x0, #2 | nzcv=0x20000000 | x0=1
mov x0, #1; b.cc .+8; mov x0, #2 | nzcv=0x20000000 | x0=2
mov x0, #1; b.mi .+8; mov x0, #2 | nzcv=0x80000000 | x0=1
mov x0, #1; b.pl .+8; mov x0, #2 | nzcv=0x80000000 | x0=2
mov x0, #1; b.vs .+8; mov x0, #2 | nzcv=0x10000000 | x0=1
mov x0, #1; b.hi .+8; mov x0, #2 | nzcv=0x60000000 | x0=2
mov x0, #1; b.ls .+8; mov x0, #2 | nzcv=0x60000000 | x0=1
mov x0, #1; b.ge .+8; mov x0, #2 | nzcv=0x90000000 | x0=1
mov x0, #1; b.lt .+8; mov x0, #2 | nzcv=0x80000000 | x0=1
mov x0, #1; b.gt .+8; mov x0, #2 | nzcv=0xd0000000 | x0=2
mov x0, #1; b.le .+8; mov x0, #2 | nzcv=0xd0000000 | x0=1
mov x0, #1; b.al .+8; mov x0, #2 | | x0=1
cmp x1, x2; mov x0, #1; b.hi .+8; mov x0, #2 | x1=-1 x2=1 | x0=1 nzcv
cmp w1, w2; mov x0, #1; b.gt .+8; mov x0, #2 | x1=0xffffffff x2=1 | x0=2 nzcv
cmn x1, #1; mov x0, #1; b.eq .+8; mov x0, #2 | x1=-1 | x0=1 nzcv
adds w1, w1, w2; mov x0, #1; b.vs .+8; mov x0, #2 | x1=0x7fffffff x2=1 | x0=1 x1 nzcv
tst x1, #0xf0; mov x0, #1; b.ne .+8; mov x0, #2 | x1=0x10 | x0=1 nzcv
subs x3, x3, #1; b.ne .-4; mov x0, x3 | x3=1000 | x0=0 nzcv
adr x1, .+12; br x1; mov x0, #2; nop | x0=7 | x0=7
mov x9, x30; bl .+12; mov x0, #3; b .+8; ret; mov x30, x9 | | x0=3
mov x9, x30; adr x1, .+20; blr x1; add x0, x0, #1; mov x30, x9; b .+12; mov x0, #40; ret | | x0=41
mov x9, x30; adr x30, .+16; blr x30; mov x30, x9; b .+12; mov x0, #5; ret | | x0=5
mov x9, x30; adr x30, .+16; paciasp; retaa; mov x0, #2; mov x30, x9; mov x9, #0 | x0=7 | x0=7
mov x9, x30; adr x30, .+16; pacibsp; retab; mov x0, #2; mov x30, x9; mov x9, #0 | x0=7 | x0=7
adr x1, .+16; pacia x1, x2; braa x1, x2; mov x0, #2; mov x1, #0 | x0=7 x2=5 | x0=7
adr x1, .+16; pacizb x1; brabz x1; mov x0, #2; mov x1, #0 | x0=7 | x0=7
mov x9, x30; adr x1, .+16; pacib x1, x2; blrab x1, x2; mov x0, #2; mov x30, x9; mov x1, #0; mov x9, #0 | x0=7 x2=5 | x0=7
mov x9, x30; adr x1, .+16; paciza x1; blraaz x1; mov x0, #2; mov x30, x9; mov x1, #0; mov x9, #0 | x0=7 | x0=7
