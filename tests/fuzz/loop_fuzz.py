#!/usr/bin/env python3
"""loop_fuzz.py - random loops whose flags are asked for anywhere, in tests/programs/loops.c.

    loop_fuzz.py [--loops N] [--seed S] [--dragoman FILE | --run COMMAND...] [--milliseconds N] [--keep FOLDER]

Each loop counts down over memory and does up to 40 random things with a few registers: comparisons and
other makers of flags (in some of floats, too), readers of them (also of the last round's), constants added to operands, operands
overwritten, accesses, branches over a few instructions, calls. loops.c takes pages away from it, sends
signals into it, and compares all registers and flags then; what it prints has to be what it prints under
qemu-aarch64. A difference names the loop; --keep leaves the source and the program for a closer look.
"""
import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
CONDITIONS = 'eq ne cs cc mi pl vs vc hi ls ge lt gt le'.split()
WORK = (1, 2, 3, 4, 9, 10, 11, 29)  # loaded in each round; in homes, guest state and a lodging of the host
OUT = (5, 13, 14)                   # hold what was made of the last round's flags
FLOATS = (0, 1, 2, 7, 20, 30)       # loaded in each round, too
MOST_WORDS = 60


class Body:
    def __init__(self, rnd):
        self.rnd = rnd
        self.label = 2
        self.floats = rnd.random() < 0.4

    def r(self, *more):
        return self.rnd.choice(WORK + more)

    def float_maker(self):
        rnd, t = self.rnd, self.rnd.choice('dds')
        a, b = rnd.choice(FLOATS), rnd.choice(FLOATS)
        return rnd.choice((f'fcmp {t}{a}, {t}{b}', f'fcmp {t}{a}, {t}{b}', f'fcmpe {t}{a}, {t}{b}', f'fcmp {t}{a}, #0.0',
                           f'fccmp {t}{a}, {t}{b}, #{rnd.randrange(16)}, {rnd.choice(CONDITIONS)}'))

    def float_plain(self):
        rnd, t = self.rnd, self.rnd.choice('dds')
        a, b, d = rnd.choice(FLOATS), rnd.choice(FLOATS), rnd.choice(FLOATS)
        return rnd.choice((f'fmov {t}{d}, {t}{a}', f'ldr {t}{d}, [x20, #{8 * rnd.randrange(64)}]', f'ldr {t}{d}, [x15, #16]',
                           f'{rnd.choice(("fadd", "fsub", "fmul", "fdiv"))} {t}{d}, {t}{a}, {t}{b}', f'fmul {t}{d}, {t}{a}, {t}{a}',
                           f'{rnd.choice(("fmadd", "fmsub", "fnmadd"))} {t}{d}, {t}{a}, {t}{b}, {t}{d}',
                           f'str {t}{a}, [x23, x19, lsl #{3 if t == "d" else 2}]', f'fmov x{self.r()}, d{a}', f'fmov d{d}, x{self.r()}',
                           f'fmov {t}{d}, {"xzr" if t == "d" else "wzr"}', f'fcsel {t}{d}, {t}{a}, {t}{b}, {rnd.choice(CONDITIONS)}',
                           f'scvtf {t}{d}, w{self.r()}'))

    def maker(self):
        """Something that sets flags."""
        if self.floats and self.rnd.random() < 0.6:
            return self.float_maker()
        rnd, w = self.rnd, self.rnd.choice('wx')
        a, b, d = self.r(), self.r(), self.rnd.choice(WORK + ('zr',) * 6)
        imm, cc = rnd.choice((0, 1, 2, 5, 77, 4095, '3, lsl #12')), rnd.choice(CONDITIONS)
        shift = rnd.choice(('', '', f', lsl #{rnd.randrange(32)}', f', asr #{rnd.randrange(32)}', ', lsr #3'))
        mask = rnd.choice(('0xff', '0xff00', '0x1', '0x80000000', '0x7ffffffe'))
        return rnd.choice((
            f'cmp {w}{a}, {w}{b}', f'cmp {w}{a}, {w}{b}', f'cmp {w}{a}, {w}{b}{shift}', f'cmp {w}{a}, #{imm}',
            f'cmp {w}{a}, {w}28', f'cmp {w}{a}, w{b}, {rnd.choice(("uxtb", "sxth", "uxtw", "sxtw"))}', f'cmp {w}19, #{imm}',
            f'cmn {w}{a}, {w}{b}', f'cmn {w}{a}, #{imm}', f'subs {w}{d}, {w}{a}, {w}{b}', f'subs {w}{a}, {w}{a}, {w}{b}',
            f'subs {w}{a}, {w}{a}, #{imm}', f'adds {w}{d}, {w}{a}, {w}{b}', f'adds {w}{a}, {w}{a}, #{imm}',
            f'tst {w}{a}, {w}{b}', f'tst {w}{a}, #{mask}', f'tst {w}{a}, {w}{a}', f'ands {w}{d}, {w}{a}, {w}{b}',
            f'ands {w}{a}, {w}{a}, #{mask}', f'bics {w}{d}, {w}{a}, {w}{b}', f'negs {w}{d}, {w}{a}',
            f'ccmp {w}{a}, {w}{b}, #{rnd.randrange(16)}, {cc}', f'ccmp {w}{a}, #{rnd.randrange(32)}, #{rnd.randrange(16)}, {cc}',
            f'ccmn {w}{a}, {w}{b}, #{rnd.randrange(16)}, {cc}', f'adcs {w}{d}, {w}{a}, {w}{b}', f'sbcs {w}{d}, {w}{a}, {w}{b}'))

    def reader(self, to):
        rnd, w, cc = self.rnd, self.rnd.choice('wx'), self.rnd.choice(CONDITIONS)
        return rnd.choice((f'cset {w}{to}, {cc}', f'csel {w}{to}, {w}{self.r()}, {w}{self.r()}, {cc}', f'mrs x{to}, nzcv',
                           f'csinc {w}{to}, {w}{self.r()}, {w}{self.r()}, {cc}', f'adc {w}{to}, {w}{self.r()}, {w}{self.r()}',
                           f'sbc {w}{to}, {w}{self.r()}, {w}{self.r()}', f'cset {w}{to}, {cc}'))

    def plain(self):
        """Something that leaves flags as they are."""
        if self.floats and self.rnd.random() < 0.5:
            return self.float_plain()
        rnd, w = self.rnd, self.rnd.choice('wx')
        a, b, d = self.r(), self.r(), self.r()
        word = 8 * rnd.randrange(64)
        step = f'{rnd.choice(("add", "sub"))} {w}{a}, {w}{a}, #{rnd.choice((1, 2, 8, 4095, "1, lsl #12"))}'
        other = b if b != a else a % 4 + 9 if a < 9 else 1
        access = rnd.choice((f'ldr x{a}, [x20, x19, lsl #3]', f'ldr {w}{a}, [x20, #{word}]', f'ldr {w}{a}, [x15, #{word}]',
                             f'ldr x{a}, [x15], #8', f'ldp x{a}, x{other}, [x15]', f'str {w}{a}, [x23, x19, lsl #{2 if w == "w" else 3}]',
                             f'str {w}{a}, [x23, #{word}]', f'str x{a}, [x23, x19, lsl #3]'))
        return rnd.choice((step, step, access, access, access, f'mov {w}{d}, {w}{a}', f'mov {w}{d}, #{rnd.randrange(100)}',
                           f'{rnd.choice(("add", "sub", "eor", "and", "mul"))} {w}{d}, {w}{a}, {w}{b}',
                           f'lsl {w}{d}, {w}{a}, #{rnd.randrange(8)}', f'sxtw x{d}, w{a}', f'mov w{a}, w{a}'))

    def skip(self):
        rnd, label, r = self.rnd, self.label, self.r()
        self.label += 1
        cc = f'b.{rnd.choice(CONDITIONS)} {label}f'
        jump = rnd.choice((cc, cc, cc, f'cbz x{r}, {label}f', f'cbnz w{r}, {label}f', f'tbz x{r}, #{rnd.randrange(64)}, {label}f',
                           f'tbnz w{r}, #{rnd.randrange(32)}, {label}f', f'b {label}f'))
        return [jump] + self.some(rnd.randrange(1, 5), False) + [f'{label}:']

    def some(self, n, skips=True):
        out = []
        while n > 0:
            n -= 1
            kind = self.rnd.random()
            if kind < 0.3:
                out.append(self.maker())
            elif kind < 0.45:
                out.append(self.reader(self.rnd.choice(WORK + OUT if skips else WORK)))
            elif kind < 0.55 and skips:
                out += self.skip()
            else:
                out.append(self.plain())
        return out

    def closer(self):
        """Counts down to 0, and goes back."""
        rnd = self.rnd
        few = [self.plain() for _ in range(rnd.randrange(4))]
        if rnd.random() < 0.4:
            return ['sub x19, x19, #1'] + self.some(rnd.randrange(6)) + [rnd.choice(('cbnz x19, 1b', 'cbnz w19, 1b', 'tbz x19, #63, 1b'))]
        made = rnd.choice((['subs x19, x19, #1'], ['subs w19, w19, #1'], ['sub x19, x19, #1', 'cmp x19, #0'],
                           ['sub x19, x19, #1', 'tst x19, x19'], ['sub x19, x19, #1', 'cmp w19, w26'],
                           ['cmp x19, #5', 'sub x19, x19, #1'], ['subs x14, x19, #1', 'mov x19, x14'],
                           ['sub x19, x19, #1', 'cmp x28, x9, lsl #63', 'ccmp x19, #0, #4, ne']))
        return made + few + [rnd.choice(('b.ne 1b', 'b.gt 1b'))]

    def lines(self):
        rnd = self.rnd
        out = [self.reader(rnd.choice(OUT)) for _ in range(rnd.randrange(3))]
        if self.floats:
            out += ['add x15, x20, x19, lsl #3', 'ldp d0, d1, [x15]', 'ldp d2, d7, [x15, #16]', 'ldp d20, d30, [x15, #32]']
        out += ['add x15, x20, x19, lsl #3', 'ldp x1, x2, [x15]', 'ldp x3, x4, [x15, #16]']
        if rnd.random() < 0.3:
            out.append(self.reader(rnd.choice(OUT)))
        out += ['ldp x9, x10, [x15, #32]', 'ldp x11, x29, [x15, #48]']
        # What the last round's flags make is not worked with, and then flags are made that need none: what a
        # round begins with is forgotten two rounds later.
        out += [self.reader(rnd.choice(OUT)) if rnd.random() < 0.3 else self.plain() for _ in range(rnd.randrange(6))]
        out.append(f'{rnd.choice(("cmp", "cmp", "cmn", "tst"))} {rnd.choice(("x%d, x%d", "w%d, w%d")) % (self.r(), self.r())}')
        call = rnd.random() < 0.2
        if call:
            out += self.some(rnd.randrange(6)) + ['bl 20f']
        out += self.some(rnd.randrange(1, 20)) + self.closer()
        if call:
            out += ['b 9f', '20:'] + self.some(rnd.randrange(6)) + ['ret']
        return out


def words(lines):
    return 1 + sum(not line.endswith(':') for line in lines)


def make(rnd, n):
    text, rows = [], []
    while len(rows) < n:
        lines = Body(rnd).lines()
        if words(lines) > MOST_WORDS or '9:' in lines:
            continue
        name = f'fuzz{len(rows)}'
        text.append(f'LOOP({name}, "' + '\\n"\n    "'.join(lines) + '")')
        rows.append(f'DOWN({name})')
    return '\n'.join(text) + '\n#define ROWS ' + ' '.join(rows) + '\n'


def run(command, exe, milliseconds):
    try:
        p = subprocess.run(command + [exe, str(milliseconds)], capture_output=True, text=True, timeout=300)
        return p.stdout.splitlines(), p.returncode, p.stderr
    except subprocess.TimeoutExpired as e:
        return (e.stdout or b'').decode().splitlines(), 'hangs', ''


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument('--loops', type=int, default=60)
    ap.add_argument('--seed', type=int, default=1)
    ap.add_argument('--run', action='append')
    ap.add_argument('--dragoman', default=os.path.join(ROOT, 'build/dragoman'))
    ap.add_argument('--milliseconds', type=int, default=2)
    ap.add_argument('--keep')
    a = ap.parse_args()
    commands = a.run or [f'{a.dragoman} run --single-tier=hot' + how for how in ('', ' --one-insn')]
    folder = a.keep or tempfile.mkdtemp()
    os.makedirs(folder, exist_ok=True)
    source, exe = os.path.join(folder, 'loops.h'), os.path.join(folder, 'loops')
    with open(source, 'w') as f:
        f.write(make(random.Random(a.seed), a.loops))
    subprocess.run(['aarch64-linux-gnu-gcc', '-std=gnu17', '-w', '-O2', '-static', '-pthread', f'-DOTHER_LOOPS="{source}"',
                    os.path.join(ROOT, 'tests/programs/loops.c'), '-o', exe], check=True)
    want, status, err = run(['qemu-aarch64'], exe, a.milliseconds)
    if status:
        sys.exit(f'seed {a.seed}: qemu-aarch64 ends with {status}: {err[-600:]}')
    failed = False
    for c in commands:
        got, status, err = run(c.split(), exe, a.milliseconds)
        wrong = [y for x, y in zip(want, got) if x != y]
        if status or wrong or len(want) != len(got):
            failed = True
            print(f'seed {a.seed}: {c}: status {status}, {len(got)} lines of {len(want)}', *wrong[:5], err[-800:], sep='\n  ')
    if not a.keep:
        shutil.rmtree(folder)
    print(f'{a.loops} loops, {len(commands)} ways: {"differ" if failed else "all equal"} (seed {a.seed})')
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
