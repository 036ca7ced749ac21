#!/usr/bin/env python3
"""Random line tests from the decode rows: random encodings of every row of chosen .dec files.

    fuzz_rows.py TOOL [--files dpimm.dec,dpreg.dec] [--per-row N] [--seed S] [--skip ROW,...] > fuzz.t
    lines.py --run 'build/dragoman run' fuzz.t

TOOL is decode_tool. Destinations stay away from x29, x30 and the stack pointer, which the tests' frame
needs; loads and stores go to the 256-byte buffer. lines.py then compares every register with qemu.
"""
import argparse
import random
import re
import subprocess

INTERESTING = [0, 1, 2, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff,
               0x100000000, 1 << 62, (1 << 63) - 1, 1 << 63, (1 << 64) - 1, (1 << 64) - 2,
               0x0123456789abcdef, 0xfedcba9876543210]
FP32 = [0, 1 << 31, 0x3f800000, 0xbf800000, 0x7f800000, 0xff800000, 0x7fc00000, 0x7fa00000, 0x00000001,
        0x007fffff, 0x7f7fffff, 0x4b000001, 0x3f000000, 0xc2f6e979, 0x4f000000, 0xdf000000]
FP64 = [0, 1 << 63, 0x3ff0000000000000, 0xbff0000000000000, 0x7ff0000000000000, 0xfff0000000000000,
        0x7ff8000000000000, 0x7ff4000000000000, 1, 0x000fffffffffffff, 0x7fefffffffffffff,
        0x4330000000000001, 0x3fe0000000000000, 0xc05edd2f1a9fbe77, 0x41e0000000000000, 0x43e0000000000000]
IN_MEMORY = ('ldst.dec',)
ADDRESS = 1       # x1 = buf
OFFSET = 2        # x2: a small offset


class Row:
    def __init__(self, line):
        name, mask, value, features, implemented, at, *fields = line.split()
        self.name, self.mask, self.value = name, int(mask, 16), int(value, 16)
        self.implemented, self.file = implemented == '1', at.split(':')[0]
        self.fields = []
        for f in fields:
            n, _, where = f.partition('=')
            lo, _, width = where.partition('+')
            self.fields.append((n, int(lo), int(width)))


def set_field(word, lo, width, value):
    m = (1 << width) - 1
    return word & ~(m << lo) | (value & m) << lo


def encode(row, rng):
    word = rng.getrandbits(32) & ~row.mask | row.value
    memory = row.file in IN_MEMORY or row.name.startswith(('ld', 'st')) and row.file == 'simd.dec'
    for name, lo, width in sorted(row.fields, key=lambda f: f[1]):
        if width == 5 and name in ('rd', 'rt', 'rt2', 'rs', 'ra', 'rn', 'rm'):
            reg = rng.choice([0, 3, 4, 5, 6, 7, 8, 9, 10, 12, 17, 25, 28, 31])
            if name in ('rd', 'rn') and reg == 31 and re.search('_imm|_ext', row.name):
                reg = 7  # might be SP
            if name == 'rt2':
                reg = (word >> 0 & 31) ^ 1 if (word & 31) in (4, 5, 6, 7, 8, 9) else 11
            if memory and name == 'rn':
                reg = ADDRESS
            if memory and name == 'rm':
                reg = OFFSET
            word = set_field(word, lo, width, reg)
        elif memory and name == 'imm9':
            word = set_field(word, lo, width, rng.randrange(0, 8) * (8 if 'lur' in row.name or 'apur' in row.name else 7))
        elif memory and name == 'imm12':
            word = set_field(word, lo, width, rng.randrange(0, 8))
        elif memory and name == 'imm7':
            word = set_field(word, lo, width, rng.randrange(0, 6))
    return word


def value(rng):
    pick = rng.random()
    if pick < 0.5:
        return rng.choice(INTERESTING)
    return rng.getrandbits(64) if pick < 0.8 else rng.getrandbits(8)


def vector(rng):
    pick = rng.random()
    if pick < 0.3:
        return sum(rng.choice(FP32) << 32 * i for i in range(4))
    if pick < 0.6:
        return sum(rng.choice(FP64) << 64 * i for i in range(2))
    if pick < 0.7:
        return sum(rng.choice([0, 1, 0x7f, 0x80, 0xff]) << 8 * i for i in range(16))
    return rng.getrandbits(128)


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument('tool')
    ap.add_argument('--files', default='dpimm.dec,dpreg.dec,ldst.dec')
    ap.add_argument('--per-row', type=int, default=8)
    ap.add_argument('--seed', type=int, default=1)
    ap.add_argument('--skip', default='prfm_lit,ldr_lit,ldrsw_lit,ldr_lit_v,ldra,pac_reg,aut_reg,pacga,ldxp,'
                                      'stxp,stxr,adr,adrp')
    ap.add_argument('--rows', default='')
    o = ap.parse_args()
    rng = random.Random(o.seed)
    rows = [Row(r) for r in subprocess.run([o.tool, '--rows'], capture_output=True, text=True,
                                           check=True).stdout.splitlines()]
    tests = []
    for row in rows:
        if row.file not in o.files.split(',') or row.name in o.skip.split(',') or not row.implemented:
            continue
        if o.rows and row.name not in o.rows.split(','):
            continue
        tests += [(row, encode(row, rng)) for _ in range(o.per_row * 3)]
    decoded = subprocess.run([o.tool], input=''.join(f'{w:08x}\n' for _, w in tests), text=True,
                             capture_output=True, check=True).stdout.splitlines()
    done = {}
    for (row, word), line in zip(tests, decoded):
        parts = line.split(' ', 3)
        if parts[1] != row.name or done.get(row.name, 0) >= o.per_row or 'reserved' in line:
            continue
        done[row.name] = done.get(row.name, 0) + 1
        memory = row.file in IN_MEMORY or row.name.startswith(('ld', 'st')) and row.file == 'simd.dec'
        before = [f'nzcv={rng.getrandbits(4) << 28:#x}']
        used = {0, 3, 4, 5, 6, 7, 8, 9, 10, 12, 17, 25, 28}
        before += [f'x{r}={value(rng):#x}' for r in sorted(used)]
        if memory:
            before += [f'x{ADDRESS}=buf', f'x{OFFSET}={rng.randrange(0, 8):#x}']
        before += [f'v{r}={vector(rng):#x}' for r in sorted(used)]
        after = [f'x{r}' for r in sorted(used | {1, 2})] + ['nzcv', 'fpsr']
        after += [f'v{r}' for r in sorted(used | {11, 13, 31})]
        if memory:
            after += [f'm{i}' for i in range(0, 256, 8)]
        print(f'.inst {word:#010x} | {" ".join(before)} | {" ".join(after)}')


if __name__ == '__main__':
    main()
