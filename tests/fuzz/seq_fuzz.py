#!/usr/bin/env python3
"""seq_fuzz.py - random functions of 5 to 200 instructions with branches, loops and memory.

    seq_fuzz.py [--functions N] [--seed S] [--dragoman FILE | --run COMMAND...] [--keep FILE] [--only K]

Each function starts from random registers, runs blocks of random instructions (every decode row that
the outside oracle can run, insn_fuzz.py's encodings) joined by forward branches of all kinds and by
counted loops, and at the end of each block appends X0-X26, V0-V31, NZCV and FPSR to a log; its memory
follows at the end. The same static program runs under qemu-aarch64 and each --run command (default:
build/dragoman run with each host feature level, --host interp, --one-insn and all code hot); the logs must be equal.
A difference names the function, block and register, and --only K --keep FILE leaves that function's
assembly for a closer look.
"""
import argparse
import os
import random
import re
import struct
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import insn_fuzz as single  # noqa: E402

USABLE = range(27)  # x27 memory base, x28 scratch and loop counter, x29 log, sp memory
RECORD = 27 * 8 + 8 + 8 + 512  # one block's end in the log
MEM_BYTES = 1024


def wanted_rows():
    rows = single.rows_to_fuzz('.', '$^')
    no = re.compile(r'^(casp|.*drps|sysl|undefined.*)')
    return [r for r in rows if not single.QEMU_WRONG.match(r.name) and r.name not in single.MODELS
            and not no.match(r.name)]


def random_insn(rows, rnd):
    i = single.Insn(rnd.choice(rows), rnd)
    f = dict(i.fields)
    for name in single.REGS:
        if name in f and sum(w for _, w in i.row.fields[name][1]) == 5 and f[name] not in USABLE:
            f[name] = rnd.choice(USABLE)
    if i.memory:
        f['rn'] = 27
        others = [n for n in ('rt', 'rt2', 'rs', 'rm') if n in f]
        for name, reg in zip(others, rnd.sample(list(USABLE), len(others))):
            f[name] = reg
    return i.encode(f)


def valid_insns(rows, rnd, count):
    """Instructions that qemu executes without a signal, and that objdump knows."""
    guest = single.build_guest()
    pool = [single.random_vector(rnd) for _ in range(500)]
    found = []
    while len(found) < count:
        batch = [random_insn(rows, rnd) for _ in range(min(4000, 2 * (count - len(found)) + 100))]
        out = single.run_cases(['qemu-aarch64', '-cpu', 'max', guest],
                               [single.make_case([i], rnd, pool) for i in batch])
        # qemu 7.2 lets a few reserved encodings pass
        text = single.disassemble([i.word for i in batch])
        found += [i for i, o, t in zip(batch, out, text)
                  if not single.CASE.unpack(o)[36] and 'undefined' not in t and not t.startswith('.inst')]
    return found[:count]


# ---- one function as assembly ----

def body(insns, rnd):
    lines = []
    for i in insns:
        if i.memory:
            lines.append(f'add x27, sp, #{448 + 16 * rnd.randrange(4)}')
            if 'rm' in i.fields and 'rm' in i.row.fields:
                lines.append(f'and x{i.fields["rm"]}, x{i.fields["rm"]}, #15')
        lines.append(f'.inst {i.word:#010x} // {i.row.name}')
    return lines


def branch(rnd, label):
    r, bit = rnd.choice(USABLE), rnd.randrange(64)
    cond = rnd.choice('eq ne cs cc mi pl vs vc hi ls ge lt gt le'.split())
    return rnd.choice((f'b.{cond} {label}', f'cbz x{r}, {label}', f'cbnz w{r}, {label}',
                       f'tbz x{r}, #{bit}, {label}', f'tbnz x{r}, #{bit}, {label}', f'b {label}'))


def function(k, insns, rnd):
    """insns cut into blocks; some blocks are loops, some are jumped over."""
    out, at, block = [f'f{k}:', 'str x30, [sp, #-16]', 'bl load'], 0, 0
    ends = []
    while at < len(insns):
        n = min(rnd.randrange(1, 13), len(insns) - at)
        lines = body(insns[at:at + n], rnd)
        at += n
        if rnd.random() < 0.25:
            label = f'f{k}_loop{block}'
            lines = [f'mov x28, #{rnd.randrange(1, 4)}', 'str x28, [sp, #-32]', f'{label}:'] + lines
            lines += ['bl dump', 'ldr x28, [sp, #-32]', 'sub x28, x28, #1', 'str x28, [sp, #-32]',
                      f'cbnz x28, {label}']
        for label in [e for e in ends if rnd.random() < 0.6]:
            ends.remove(label)
            out.append(f'{label}:')
        out += lines
        if rnd.random() < 0.5:
            label = f'f{k}_skip{block}'
            ends.append(label)
            out.append(branch(rnd, label))
        out.append('bl dump')
        block += 1
    return out + [f'{e}:' for e in ends] + ['bl dump', 'bl finish', 'ldr x30, [sp, #-16]', 'ret']


def program(functions, rnd, pool):
    regs = USABLE
    text = ['.arch armv8.6-a', '.text', '.global _start', '_start:', 'ldr x0, =memory', 'mov sp, x0']
    for k, lines in functions:
        text += [f'ldr x0, =in{k}', 'ldr x1, =input', 'str x0, [x1]', f'bl f{k}']
    text += ['mov x0, #0', 'mov x8, #93', 'svc #0', '.ltorg']
    # load: registers from *input, the log is empty again
    text += ['load:', 'ldr x29, =input', 'ldr x29, [x29]', 'ldr x28, [x29], #8', 'msr fpcr, x28',
             'ldr x28, [x29], #8', 'msr fpsr, x28', 'ldr x28, [x29], #8', 'msr nzcv, x28']
    text += [f'ldp q{i}, q{i + 1}, [x29], #32' for i in range(0, 32, 2)]
    text += [f'ldr x{i}, [x29], #8' for i in regs]
    for i in range(0, MEM_BYTES, 16):
        text += ['ldr x28, [x29], #8', f'str x28, [sp, #{i}]', 'ldr x28, [x29], #8', f'str x28, [sp, #{i + 8}]']
    text += ['ldr x29, =log', 'mov x28, #0', 'ret', '.ltorg']
    text += ['dump:'] + [f'str x{i}, [x29], #8' for i in regs]
    text += ['mrs x28, nzcv', 'str x28, [x29], #8', 'mrs x28, fpsr', 'str x28, [x29], #8']
    text += [f'stp q{i}, q{i + 1}, [x29], #32' for i in range(0, 32, 2)] + ['ret']
    # finish: the log, its length before it, and the memory
    text += ['finish:', 'str x30, [sp, #-48]', 'msr fpcr, xzr', 'ldr x1, =log', 'sub x2, x29, x1', 'sub x1, x1, #8',
             'str x2, [x1]', 'add x2, x2, #8', 'mov x0, #1', 'mov x8, #64', 'svc #0', 'mov x1, sp',
             f'mov x2, #{MEM_BYTES}', 'mov x0, #1', 'mov x8, #64', 'svc #0', 'ldr x30, [sp, #-48]', 'ret', '.ltorg']
    data = ['.data', '.balign 16']
    for k, lines in functions:
        text += lines
        quads = [single.random_fpcr(rnd), 0, rnd.getrandbits(4) << 28]
        vectors = b''.join(rnd.choice(pool) for _ in range(32))
        quads += struct.unpack('<64Q', vectors)
        quads += [single.random_lane(rnd, rnd.choice((32, 64))) for _ in regs]
        quads += struct.unpack(f'<{MEM_BYTES // 8}Q', b''.join(rnd.choice(pool) for _ in range(MEM_BYTES // 16)))
        data += [f'in{k}:', '.quad ' + ', '.join(map(hex, quads))]
    data += ['input: .quad 0', '.bss', '.balign 4096', '.space 4096', f'memory: .space {MEM_BYTES + 4096}',
             '.balign 16', '.space 16', 'log: .space 4000000']
    return '\n'.join(text + data) + '\n'


# ---- running and comparing ----

def logs(command, exe):
    """[(records of a function, its memory)], and how the program ended."""
    p = subprocess.run(command + [exe], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=600)
    out, at = [], 0
    while at + 8 <= len(p.stdout):
        n = struct.unpack_from('<Q', p.stdout, at)[0]
        records = [p.stdout[at + 8 + i:at + 8 + i + RECORD] for i in range(0, n, RECORD)]
        at += 8 + n + MEM_BYTES
        out.append((records, p.stdout[at - MEM_BYTES:at]))
    return out, p.returncode, p.stderr.decode(errors='replace').strip()


def where(a, b):
    """The first register that differs."""
    at = next(i for i in range(RECORD) if a[i] != b[i])
    if at < 27 * 8:
        name, lo, n = f'x{at // 8}', at // 8 * 8, 8
    elif at < 29 * 8:
        name, lo, n = ('nzcv', 'fpsr')[at // 8 - 27], at // 8 * 8, 8
    else:
        name, lo, n = f'v{(at - 232) // 16}', 232 + (at - 232) // 16 * 16, 16
    return f'{name} {a[lo:lo + n][::-1].hex()} expected, got {b[lo:lo + n][::-1].hex()}'


def compare(expected, got, name):
    for k, ((er, em), (gr, gm)) in enumerate(zip(expected, got)):
        for block, (a, b) in enumerate(zip(er, gr)):
            if a != b:
                return f'{name}: function {k}, block end {block}: {where(a, b)}'
        if len(er) != len(gr):
            return f'{name}: function {k}: {len(er)} block ends expected, got {len(gr)}'
        if em != gm:
            return f'{name}: function {k}: memory differs'
    return None if len(expected) == len(got) else f'{name}: function {len(got)} does not end'


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument('--functions', type=int, default=40)
    ap.add_argument('--seed', type=int, default=1)
    ap.add_argument('--run', action='append')
    ap.add_argument('--dragoman', default=os.path.join(single.ROOT, 'build/dragoman'))
    ap.add_argument('--keep')
    ap.add_argument('--only', type=int)
    a = ap.parse_args()
    commands = a.run or [f'{a.dragoman} run' + how for how in
                         ('', ' --host-limit avx512', ' --host-limit avx,fma', ' --host-limit sse4', ' --one-insn',
                          ' --host interp', ' --single-tier=cold --host-limit direct', ' --single-tier=hot', ' --single-tier=hot --one-insn',
                          ' --single-tier=hot --host-limit sse4')]
    rnd = random.Random(a.seed)
    rows = wanted_rows()
    sizes = [rnd.randrange(5, 201) for _ in range(a.functions)]
    insns = valid_insns(rows, rnd, sum(sizes))
    pool = [single.random_vector(rnd) for _ in range(3000)]
    functions, at = [], 0
    for k, n in enumerate(sizes):
        functions.append((k, function(k, insns[at:at + n], rnd)))
        at += n
    if a.only is not None:
        functions = [functions[a.only]]
    with tempfile.TemporaryDirectory() as tmp:
        source, exe = os.path.join(tmp, 'seq.s'), os.path.join(tmp, 'seq')
        text = program(functions, rnd, pool)
        for path in [source] + ([a.keep] if a.keep else []):
            with open(path, 'w') as f:
                f.write(text)
        single.run_tool(['aarch64-linux-gnu-gcc', '-nostdlib', '-static', '-o', exe, source])
        expected, status, _ = logs(['qemu-aarch64', '-cpu', 'max'], exe)
        if status:
            sys.exit(f'qemu-aarch64 ended with {status}')
        failed = False
        for c in commands:
            got, status, err = logs(c.split(), exe)
            diff = compare(expected, got, c)
            if status:
                diff = f'{diff or c}; ended with {status}: {err}'
            failed |= bool(diff)
            if diff:
                print(diff)
    ends = sum(len(r) for r, _ in expected)
    print(f'{len(functions)} functions, {sum(sizes)} instructions, {ends} block ends, {len(commands)} ways: '
          f'{"differ" if failed else "all equal"} (seed {a.seed})')
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
