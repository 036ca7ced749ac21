#!/usr/bin/env python3
"""coverage.py - which test compares each decode row with an outside oracle; fails when none does.

    coverage.py DECODE_TOOL [--count N] [--no-fuzz]

Three sources: the random instructions of tests/fuzz/insn_fuzz.py (--count cases a row on each host:
the table says how many were compared), the line tests (lines/*.t, all run by qemu-aarch64 too: the
words of that program are decoded), and programs that check themselves (PROGRAMS below).
"""
import argparse
import collections
import pathlib
import re
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
HERE = pathlib.Path(__file__).resolve().parent
TOP = HERE.parents[2]
sys.path.insert(0, str(HERE))
import lines  # noqa: E402

# Rows that no oracle of this machine has, or whose effect is outside the registers, and the program
# under tests/programs that checks them.
PROGRAMS = {r'cpy.*|set|bc_cond|wf[ei]t|sysl': 'newer', r'brk|hlt|hvc|smc|udf|dcps.|eret.*|drps': 'faults', r'svc': 'system'}


def rows_of(tool):
    out = subprocess.run([tool, '--rows'], capture_output=True, text=True, check=True).stdout
    return [(f[0], f[4] == '1', f[5]) for f in (r.split() for r in out.splitlines())]


def decode(tool, words):
    text = ''.join(f'{w:08x}\n' for w in words)
    out = subprocess.run([tool], input=text, capture_output=True, text=True, check=True).stdout
    return [r.split()[1] for r in out.splitlines()]


def rows_of_lines(tool):
    """Rows that the program of all line tests executes."""
    tests = lines.read_lines(sorted((HERE / 'lines').glob('*.t')))
    with tempfile.TemporaryDirectory() as tmp:
        source, exe, raw = (pathlib.Path(tmp, n) for n in ('l.s', 'l', 'l.bin'))
        source.write_text(lines.program(tests))
        subprocess.run(['aarch64-linux-gnu-gcc', '-nostdlib', '-static', '-o', exe, source], check=True)
        subprocess.run(['aarch64-linux-gnu-objcopy', '-O', 'binary', '-j', '.text', exe, raw], check=True)
        code = raw.read_bytes()
    words = {int.from_bytes(code[i:i + 4], 'little') for i in range(0, len(code) - 3, 4)}
    return collections.Counter(decode(tool, sorted(words)))


def fuzz(host, count):
    """{row: cases compared}, and whether there was no difference."""
    r = subprocess.run([sys.executable, TOP / 'tests/fuzz/insn_fuzz.py', '--host', host, '--count', str(count),
                        '--table'], capture_output=True, text=True)
    table = dict(re.findall(r'^compared (\S+) (\d+)$', r.stdout, re.M))
    print('\n'.join(x for x in r.stdout.splitlines() if not x.startswith('compared ')))
    return {k: int(v) for k, v in table.items()}, r.returncode == 0


def main():
    p = argparse.ArgumentParser()
    p.add_argument('tool')
    p.add_argument('--count', type=int, default=60)
    a = p.parse_args()
    by_line = rows_of_lines(a.tool)
    by_host = {h: fuzz(h, a.count) for h in ('x86_64', 'interp')}
    never = []
    print(f'{"row":24} {"x86_64":>7} {"interp":>7} {"lines":>6}  program')
    for name, implemented, where in rows_of(a.tool):
        counts = [by_host[h][0].get(name, 0) for h in by_host]
        program = next((p for k, p in PROGRAMS.items() if re.fullmatch(k, name)), '')
        print(f'{name:24} {counts[0]:7} {counts[1]:7} {by_line[name]:6}  {program or ("" if implemented else "not implemented")}')
        if implemented and not all(counts) and not by_line[name] and not program:
            never.append(f'{name} ({where})')
    if never:
        print('never compared: ' + ', '.join(never))
    return 0 if not never and all(ok for _, ok in by_host.values()) else 1


if __name__ == '__main__':
    sys.exit(main())
