#!/usr/bin/env python3
"""insn_fuzz.py - random instructions with random operands: dragoman against qemu-aarch64.

    insn_fuzz.py [--rows REGEX] [--not REGEX] [--count N] [--seed S] [--host interp|x86_64]
                 [--isa LIMIT] [--hot|--direct] [--length N] [--dragoman COMMAND] [--list] [--show ROW]

Encodings come from the decode rows (src/guest/aarch64/*.dec): for each chosen row, --count cases with
random fields, random registers full of corner values, and FPCR at its default or at random. Each case
runs under qemu-aarch64 (insn_guest.c) and through the lifter and a host of this build (insn_host.c,
which needs no engine), or, with --dragoman, as the same AArch64 program under that command. All of X,
SP, V, NZCV, FPSR, memory and the signal are compared. --length 2..8 puts several instructions into
one case; a mismatch is then cut down to the shortest that still differs.
--hot compiles a case as the engine does hot code, in two regions that flags cross in the first one's
registers (--host x86_64 only). --direct says it as the engine does cold code (src/ir/direct.h).

Prints one line a failing row with one example, minimised, and ends with 1 when there is any.
Tools are built into build/fuzz on the first run and when a source is newer.
"""
import argparse
import glob
import os
import random
import re
import struct
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, 'src/guest'))
sys.dont_write_bytecode = True
import decode_gen  # noqa: E402
from models import MODELS  # noqa: E402

OUT = os.path.join(ROOT, 'build/fuzz')
HERE = os.path.join(ROOT, 'tests/fuzz')
A64 = os.path.join(ROOT, 'src/guest/aarch64')

CASE = struct.Struct('<32Q512s4I9I3I1024s')
MEM, MEM_BASE = 0x60000000, 448
FPSR_MASK = 0x0800009f
# never run: leaves the case, needs an address that is not there, or differs between runs
SKIP_ROWS = re.compile(r'^(b|bl|b_cond|bc_cond|cbz|cbnz|tbz|tbnz|br|blr|ret|eret.*|.*_lit.*|adr.*|svc|hvc|smc|brk|'
                       r'hlt|dcps.*|udf|msr.*|mrs.*|sys.*|.*xr|.*xp|hint|wf.*|isb|bra.*|blra.*|reta.*|'
                       r'pac.*|aut.*|xpac.*|ldra.*|cpy.*|set|prf.*)$')

# Where qemu 7.2 is wrong: a scalar half to fixed point is written with its sign in bits 31..16.
QEMU_WRONG = re.compile(r'^fcvtz[su]_fixed_s$')


# ---- building the tools ----

def newer(target, sources):
    return not os.path.exists(target) or any(os.path.getmtime(s) > os.path.getmtime(target)
                                             for s in sources)


def run_tool(argv):
    r = subprocess.run(argv, capture_output=True, text=True)
    if r.returncode:
        sys.exit(f'{" ".join(argv)}\n{r.stderr}')


def build_guest():
    """The oracle's side: an AArch64 program."""
    os.makedirs(OUT, exist_ok=True)
    guest = f'{OUT}/insn_guest'
    if newer(guest, [f'{HERE}/insn_guest.c', f'{HERE}/insn_case.h']):
        run_tool(['aarch64-linux-gnu-gcc', '-O1', '-static', '-o', guest, f'{HERE}/insn_guest.c'])
    return guest


def rows_to_fuzz(want, skip):
    rows = decode_gen.read(sorted(glob.glob(f'{A64}/*.dec')), 32)
    return [r for r in rows if re.search(want, r.name) and not re.search(skip, r.name)
            and r.implemented and not SKIP_ROWS.match(r.name)]


def build(with_x86):
    os.makedirs(OUT, exist_ok=True)
    headers = [h for d in ('src', 'tests/fuzz') for h in
               glob.glob(f'{ROOT}/{d}/**/*.h', recursive=True) + glob.glob(f'{ROOT}/{d}/**/*.def', recursive=True)]
    guest = build_guest()
    decs = sorted(glob.glob(f'{A64}/*.dec'))
    gen = f'{ROOT}/src/guest/decode_gen.py'
    if newer(f'{OUT}/decode_a64.c', decs + [gen, __file__]):
        run_tool([sys.executable, gen, '--prefix', 'a64', '--header', f'{OUT}/decode_a64.h', '--source',
                  f'{OUT}/decode_a64.c', '--direct', f'{OUT}/decode_a64_direct.h',
                  '--include', 'guest/aarch64/lift.h'] + decs)
    folders = ['base', 'ir', 'guest', 'guest/aarch64', 'host/interp'] + (['host/x86_64'] if with_x86 else [])
    sources = [s for f in folders for s in glob.glob(f'{ROOT}/src/{f}/*.c')]
    sources += [f'{OUT}/decode_a64.c', f'{HERE}/insn_host.c']
    headers.append(f'{OUT}/decode_a64.h')
    objects, jobs = [], []
    for s in sources:
        o = f'{OUT}/{os.path.relpath(s, ROOT).replace("/", "_")}.o'
        objects.append(o)
        if newer(o, [s] + headers):
            jobs.append(['gcc', '-std=gnu17', '-mcx16', '-D_GNU_SOURCE', '-fno-strict-aliasing', '-O1', '-g',
                         f'-I{ROOT}/src', f'-I{ROOT}/include', f'-I{OUT}', '-c', s, '-o', o])
    running = []
    for j in jobs:
        running.append((j, subprocess.Popen(j, stderr=subprocess.PIPE, text=True)))
        if len(running) == 2:
            finish(running.pop(0))
    for r in running:
        finish(r)
    host = f'{OUT}/insn_host' + ('_x86' if with_x86 else '')
    if newer(host, objects):
        run_tool(['gcc', '-o', host] + objects + ['-lpthread', '-lm'] + (['-lcapstone'] if with_x86 else []))
    return guest, host


def finish(job):
    argv, p = job
    _, err = p.communicate()
    if p.returncode:
        sys.exit(f'{" ".join(argv)}\n{err}')


# ---- operands ----

def float_corners(bits):
    frac = {16: 10, 32: 23, 64: 52}[bits]
    top = (1 << (bits - 1 - frac)) - 1
    quiet = 1 << (frac - 1)
    bias = top >> 1
    base = [0, 1, 2, quiet, (1 << frac) - 1, 1 << frac, (1 << frac) + 1, bias << frac, (bias << frac) + 1,
            (bias << frac) - 1, (bias + 1) << frac, (bias - 1) << frac, (bias << frac) | quiet,
            top << frac, (top << frac) - 1, top << frac | quiet, top << frac | quiet | 0x15,
            top << frac | 1, top << frac | 0x2a, (top - 1) << frac, (bias + 7) << frac | 3 << (frac - 4),
            (bias + 15) << frac, (bias + min(31, bias)) << frac, (bias + min(63, bias)) << frac,
            (bias + min(30, bias - 1)) << frac | quiet, ((bias + frac) << frac) | 1, ((bias + 1) << frac) | quiet]
    return base + [b | 1 << (bits - 1) for b in base]


def int_corners(bits):
    half = 1 << (bits - 1)
    return [0, 1, 2, 3, half - 1, half, half + 1, 2 * half - 1, 2 * half - 2, half >> 1, 0x55 * (half // 85 or 1),
            bits - 1, bits, bits + 1, (2 * half - bits) % (2 * half), (2 * half - bits + 1) % (2 * half), 7]


CORNERS = {b: int_corners(b) + (float_corners(b) * 2 if b > 8 else []) for b in (8, 16, 32, 64)}


def random_lane(rnd, bits):
    k = rnd.random()
    if k < 0.55:
        return rnd.choice(CORNERS[bits]) & ((1 << bits) - 1)
    if k < 0.75 and bits > 8:  # a float of moderate size
        frac = {16: 10, 32: 23, 64: 52}[bits]
        bias = ((1 << (bits - 1 - frac)) - 1) >> 1
        exp = bias + rnd.randint(-min(24, bias - 1), min(40, bias))
        return rnd.getrandbits(1) << (bits - 1) | exp << frac | rnd.getrandbits(frac)
    return rnd.getrandbits(bits)


def random_vector(rnd):
    bits = rnd.choice((8, 16, 32, 32, 64, 64))
    v = 0
    for i in range(0, 128, bits):
        v |= random_lane(rnd, bits) << i
    return v.to_bytes(16, 'little')


def random_fpcr(rnd):
    if rnd.random() < 0.5:
        return 0
    fpcr = rnd.getrandbits(2) << 22
    for bit in (19, 24, 25, 26):
        fpcr |= (rnd.random() < 0.3) << bit
    return fpcr


# ---- instructions ----

REGS = ('rd', 'rn', 'rm', 'ra', 'rt', 'rt2', 'rs')


class Insn:
    """One encoding of a row, with what it asks of registers."""

    def __init__(self, row, rnd):
        self.row = row
        f = {}
        for name, (signed, parts) in row.fields.items():
            width = sum(w for _, w in parts)
            f[name] = rnd.getrandbits(width)
            if name in REGS and width == 5 and rnd.random() < 0.3:
                f[name] = rnd.choice((0, 1, 2, 31))
        self.memory = row.file in ('ldst.dec',) or re.match(r'(ld|st)\d', row.name)
        if self.memory:
            self.place(row, f, rnd)
        self.encode(f)

    def encode(self, f):
        row, word = self.row, self.row.value
        for name, (signed, parts) in row.fields.items():
            at = sum(w for _, w in parts)
            for lo, w in parts:
                at -= w
                word |= (f[name] >> at & ((1 << w) - 1)) << lo
        self.word, self.fields = word, f
        if row.name == 'fcvt' and word & 0xfffffc00 == 0x1e634000:
            self.word ^= 1 << 22  # that is BFCVT
        return self

    @staticmethod
    def place(row, f, rnd):
        """Keeps the access inside the case's memory."""
        def limit(name, width, values):
            if name in f:
                f[name] = rnd.choice(values) & ((1 << width) - 1)
        limit('imm12', 12, range(0, 16))
        limit('imm7', 7, range(-8, 9))
        if re.match('stlur|ldapur', row.name):
            limit('imm9', 9, range(-256, 256, 16))
        if 'rm' in f:
            f['option'] = rnd.choice((2, 3, 6, 7))
        used = {f.get('rn')}
        for name in ('rt', 'rt2', 'rs', 'rm'):  # writeback into what is loaded is unpredictable
            while name in f and name in row.fields and f[name] in used and f[name] != 31:
                f[name] = rnd.randrange(31)
            if name in ('rt', 'rm', 'rs'):
                used.add(f.get(name))


def make_case(insns, rnd, pool):
    x = [random_lane(rnd, rnd.choice((32, 64, 64))) for _ in range(32)]
    x[31] = MEM + MEM_BASE
    for i in insns:
        if i.memory:
            rn = i.fields.get('rn')
            # atomics: aligned, as qemu 7.2 has no FEAT_LSE2
            loose = rn != 31 and not re.match(r'cas|swp|(ld|st)(a|lar|lu?r|llr|add|clr|eor|set|smax|smin|umax|umin)', i.row.name)
            x[rn] = MEM + MEM_BASE + (rnd.randrange(0, 64) if loose else 16 * rnd.randrange(4))
            if 'rm' in i.fields and i.fields['rm'] not in (31, rn):
                x[i.fields['rm']] = rnd.randrange(16)
    v = b''.join(rnd.choice(pool) for _ in range(32))
    mem = b''.join(rnd.choice(pool) for _ in range(64))
    words = [i.word for i in insns] + [0] * (8 - len(insns))
    fpsr = 0 if rnd.random() < 0.7 else rnd.choice((0x9f, 0x08000000, 0x10))
    return CASE.pack(*x, v, rnd.getrandbits(4) << 28, random_fpcr(rnd), fpsr, 0, len(insns), *words,
                     0, 0, 0, mem)


# ---- running and comparing ----

def run_cases(argv, cases):
    try:
        p = subprocess.run(argv, input=b''.join(cases), stdout=subprocess.PIPE, timeout=20 + len(cases) / 200)
        out, how = p.stdout, f'ended with {p.returncode}'
    except subprocess.TimeoutExpired as e:
        out, how = e.stdout or b'', 'hangs'
    n = len(out) // CASE.size
    if n != len(cases):
        print(f'{argv[0]}: {how} after {n} of {len(cases)} cases', file=sys.stderr)
    return [out[i * CASE.size:(i + 1) * CASE.size] for i in range(n)]


NOP = 0xd503201f


def oracle_case(row, case):
    """What qemu runs: a NOP in the place of an instruction that it lacks."""
    if row.name not in MODELS:
        return case
    c = list(CASE.unpack(case))
    c[38] = NOP
    return CASE.pack(*c)


def apply_model(row, insns, case, expected):
    if row.name not in MODELS:
        return expected
    e, fields = list(CASE.unpack(expected)), insns[0].fields
    if fields['rd'] != 31:
        e[fields['rd']] = MODELS[row.name](fields, CASE.unpack(case)[:32])
    return CASE.pack(*e)


def differences(expected, got):
    e, g = CASE.unpack(expected), CASE.unpack(got)
    if e[36] != g[36]:
        return [f'signal {e[36]} expected, got {g[36]}']
    if e[36]:
        return []
    out = []
    for i in range(32):
        if e[i] != g[i]:
            out.append(f'{"sp" if i == 31 else f"x{i}"} {e[i]:016x} expected, got {g[i]:016x}')
    for i in range(32):
        a, b = e[32][16 * i:16 * i + 16], g[32][16 * i:16 * i + 16]
        if a != b:
            out.append(f'v{i} {a[::-1].hex()} expected, got {b[::-1].hex()}')
    for k, name, mask in ((33, 'nzcv', 0xf0000000), (34, 'fpcr', 0x07ffff00), (35, 'fpsr', FPSR_MASK)):
        if (e[k] ^ g[k]) & mask:
            out.append(f'{name} {e[k] & mask:08x} expected, got {g[k] & mask:08x}')
    if e[-1] != g[-1]:
        at = next(i for i in range(1024) if e[-1][i] != g[-1][i])
        out.append(f'mem+{at} {e[-1][at:at + 16].hex()} expected, got {g[-1][at:at + 16].hex()}')
    return out


def disassemble(words):
    with tempfile.NamedTemporaryFile() as f:
        f.write(b''.join(struct.pack('<I', w) for w in words))
        f.flush()
        raw = subprocess.run(['aarch64-linux-gnu-objdump', '-D', '-b', 'binary', '-m', 'aarch64', f.name],
                             capture_output=True, text=True).stdout
    return [' '.join(m.split()) for m in re.findall(r'^\s*[0-9a-f]+:\t[0-9a-f]{8} \t(.*)$', raw, re.M)]


def unallocated(insns):
    return any('undefined' in text or text.startswith('.inst') for text in disassemble([i.word for i in insns]))


def describe(case, insns, diffs):
    c = CASE.unpack(case)
    lines = []
    for i, text in zip(insns, disassemble([i.word for i in insns])):
        lines.append(f'    {i.word:08x}  {text}   [{i.row.name}, {i.row.file}:{i.row.line}]')
    used = sorted({v for i in insns for k, v in i.fields.items() if k in REGS})
    for r in used:
        lines.append(f'      v{r} = {c[32][16 * r:16 * r + 16][::-1].hex()}   x{r} = {c[r]:016x}')
    lines.append(f'      nzcv {c[33]:08x} fpcr {c[34]:08x} fpsr {c[35]:08x}')
    return lines + [f'      {d}' for d in diffs[:6]]


def with_insns(case, insns):
    c = list(CASE.unpack(case))
    c[37] = len(insns)
    c[38:46] = [i.word for i in insns] + [0] * (8 - len(insns))
    return CASE.pack(*c)


def minimise(case, insns, oracle, subject):
    """Drops instructions while the outcome still differs."""
    i = 0
    while len(insns) > 1 and i < len(insns):
        fewer = insns[:i] + insns[i + 1:]
        c = with_insns(case, fewer)
        e, g = run_cases(oracle, [c]), run_cases(subject, [c])
        if e and g and differences(e[0], g[0]):
            case, insns = c, fewer
        else:
            i += 1
    e, g = run_cases(oracle, [case]), run_cases(subject, [case])
    return case, insns, differences(e[0], g[0])


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument('--rows', default='.')
    ap.add_argument('--not', dest='skip', default='$^')
    ap.add_argument('--count', type=int, default=20)
    ap.add_argument('--seed', type=int, default=1)
    ap.add_argument('--host', default='interp')
    ap.add_argument('--isa')
    ap.add_argument('--hot', action='store_true', help='as the second effort does it')
    ap.add_argument('--direct', action='store_true', help='as cold code is made')
    ap.add_argument('--length', type=int, default=1)
    ap.add_argument('--dragoman')
    ap.add_argument('--list', action='store_true')
    ap.add_argument('--examples', type=int, default=1)
    ap.add_argument('--table', action='store_true', help='how often each row was compared')
    args = ap.parse_args()
    rows = rows_to_fuzz(args.rows, args.skip)
    company = [r for r in rows if not QEMU_WRONG.match(r.name) and r.name not in MODELS] or rows  # for sequences
    if args.list:
        print('\n'.join(r.name for r in rows))
        return 0
    guest, host = build(args.host == 'x86_64')
    oracle = ['qemu-aarch64', '-cpu', 'max', guest]
    subject = [host, args.host] + (['--isa', args.isa] if args.isa else []) + ['--hot'] * args.hot + \
        ['--direct'] * args.direct
    if args.dragoman:
        subject = args.dragoman.split() + [guest]
    rnd = random.Random(args.seed)
    pool = [random_vector(rnd) for _ in range(6000)]
    plan = []
    for r in rows:
        for _ in range(args.count):
            first = Insn(r, rnd)
            others = []
            while len(others) < args.length - 1 and r.name not in MODELS:
                i = Insn(rnd.choice(company), rnd)
                if not i.memory and not first.memory:
                    others.append(i)
                else:
                    break
            insns = [first] + others
            rnd.shuffle(insns)
            plan.append((r, insns, make_case(insns, rnd, pool)))
    cases = [c for _, _, c in plan]
    expected = [apply_model(r, insns, case, e) for (r, insns, case), e in
                zip(plan, run_cases(oracle, [oracle_case(r, case) for r, _, case in plan]))]
    got = run_cases(subject, cases)
    tried, ran, failed, examples = {}, {}, {}, {}
    for (r, insns, case), e, g in zip(plan, expected, got):
        tried[r.name] = tried.get(r.name, 0) + 1
        diffs = differences(e, g)
        if not CASE.unpack(e)[36]:
            ran[r.name] = ran.get(r.name, 0) + 1
        if diffs and diffs[0] == 'signal 0 expected, got 4' and unallocated(insns):
            continue  # qemu 7.2 lets a few reserved encodings pass
        if diffs and QEMU_WRONG.match(r.name):
            continue
        if diffs:
            failed[r.name] = failed.get(r.name, 0) + 1
            examples.setdefault(r.name, []).append((case, insns, diffs))
    for name, found in examples.items():
        print(f'{name}: {failed[name]} of {tried[name]} differ')
        for case, insns, diffs in found[:args.examples]:
            if len(insns) > 1:
                case, insns, diffs = minimise(case, insns, oracle, subject)
            print('\n'.join(describe(case, insns, diffs)))
    idle = [r.name for r in rows if not ran.get(r.name)]
    if idle:
        print(f'never ran without a signal: {" ".join(idle)}')
    if args.table:
        print(''.join(f'compared {name} {n}\n' for name, n in tried.items()), end='')
    print(f'{len(rows)} rows, {len(cases)} cases, {sum(failed.values())} differ in {len(failed)} rows')
    return 1 if failed or len(got) != len(cases) else 0


if __name__ == '__main__':
    sys.exit(main())
