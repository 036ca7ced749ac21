#!/usr/bin/env python3
"""Compares the AArch64 decoder with objdump: what is allocated, and loosely the mnemonic.

    decode_check.py TOOL --elf FILE...      every instruction word of an AArch64 program
    decode_check.py TOOL --random N [--seed S] [--mask MASK --value VALUE]

TOOL is decode_tool. A word that objdump knows must have a row, with a mnemonic that starts alike
(aliases are known here); a random word that objdump does not know must have none. Instructions of
extensions that this guest does not list (SVE, SME, MTE, LS64, TME) are left out.
"""
import argparse
import collections
import os
import random
import re
import shutil
import struct
import subprocess
import sys
import tempfile

OBJDUMP = 'aarch64-linux-gnu-objdump'
# mnemonics of extensions that are no part of this guest
FOREIGN = re.compile(r'^(irg|addg|subg|gmi|subp|subps|ldg|stg|st2g|stzg|stz2g|stgp|ldgm|stgm|stzgm|'
                     r'ld64b|st64b.*|tstart|tcommit|tcancel|ttest|sys[lp]|.*\.inst|undefined|tlbi|at|'
                     r'cfp|dvp|cpp|rprfm|mrrs|msrr|rcw.*|ldiapp|stilp|st2g|gcs.*|ld[pt]?tp|'
                     r'setg.*|smstart|smstop|ldap1|stl1|luti.*|.*fp8|f[14]cvtl.*)$')
# objdump's preferred alias -> the start of our row's text
ALIAS = {
    'mov': 'orr|movz|movn|add|dup|umov|ins', 'cmp': 'subs', 'cmn': 'adds', 'tst': 'ands', 'neg': 'sub',
    'negs': 'subs', 'mvn': 'orn|not', 'lsl': 'ubfm|lsl', 'lsr': 'ubfm|lsr', 'asr': 'sbfm|asr',
    'uxtb': 'ubfm', 'uxth': 'ubfm', 'sxtb': 'sbfm', 'sxth': 'sbfm', 'sxtw': 'sbfm', 'ubfx': 'ubfm',
    'sbfx': 'sbfm', 'bfi': 'bfm', 'bfxil': 'bfm', 'bfc': 'bfm', 'ubfiz': 'ubfm', 'sbfiz': 'sbfm',
    'ror': 'extr|ror', 'cset': 'csinc', 'csetm': 'csinv', 'cinc': 'csinc', 'cinv': 'csinv',
    'cneg': 'csneg', 'mul': 'madd|mul', 'mneg': 'msub', 'smull': 'smaddl|smull', 'umull': 'umaddl|umull',
    'smnegl': 'smsubl', 'umnegl': 'umsubl', 'ngc': 'sbc', 'ngcs': 'sbcs', 'dc': 'sys', 'ic': 'sys',
    'sxtl': 'sshll', 'sxtl2': 'sshll', 'uxtl': 'ushll', 'uxtl2': 'ushll', 'ssbb': 'dsb',
    'pssbb': 'dsb', 'dfb': 'dsb', 'ldnp': 'ldp', 'stnp': 'stp',
}
SYSTEM = ('tlbi', 'at', 'cfp', 'dvp', 'cpp', 'sysl')  # SYS with a name, undefined for other reasons
# objdump says undefined where the architecture says constrained unpredictable (docs/limits.md), or
# where should-be-one bits are zero, or where the lifter refuses what the row lets through
CONSTRAINED = re.compile(r'^(ldp|stp|ldpsw|ldr|str|ldar|stlr|ld.?x|st.?x|cas|cpy|set)')
HINTS = re.compile(r'^(nop|yield|wfe|wfi|sev|sevl|dgh|xpaclri|pac.*|aut.*|esb|psb|tsb|csdb|bti|clearbhb|'
                   r'clrbhb|chkfeat|hint)$')


def disassemble_elf(path):
    raw = subprocess.run([OBJDUMP, '-d', path], capture_output=True, text=True).stdout
    words = {}
    for m in re.finditer(r'^\s*[0-9a-f]+:\t([0-9a-f]{8}) \t(\S+)(.*)$', raw, re.M):
        words.setdefault(int(m[1], 16), (m[2], m[3].strip()))
    return words


def disassemble_words(words):
    with tempfile.NamedTemporaryFile() as f:
        f.write(b''.join(struct.pack('<I', w) for w in words))
        f.flush()
        raw = subprocess.run([OBJDUMP, '-D', '-b', 'binary', '-m', 'aarch64', f.name],
                             capture_output=True, text=True).stdout
    found = {}
    for m in re.finditer(r'^\s*[0-9a-f]+:\t([0-9a-f]{8}) \t(\S+)(.*)$', raw, re.M):
        found[int(m[1], 16)] = (m[2], m[3].strip())
    return found


def ours(tool, words):
    text = ''.join(f'{w:08x}\n' for w in words)
    out = subprocess.run([tool], input=text, capture_output=True, text=True, check=True).stdout
    rows = {}
    for line in out.splitlines():
        word, row, implemented, text = (line.split(' ', 3) + [''])[:4]
        rows[int(word, 16)] = (row, implemented == '1', text)
    return rows


def agrees(mnemonic, text):
    mine = text.split(' ')[0].split('.')[0]
    theirs = mnemonic.split('.')[0]
    if mine == theirs or HINTS.match(theirs) and (HINTS.match(mine) or mine == 'hint'):
        return True
    if theirs in ALIAS and re.match(rf'({ALIAS[theirs]})', mine):
        return True
    # st<op> is ld<op> to the zero register; <op>2 forms
    return theirs.replace('st', 'ld', 1).rstrip('2') == mine.rstrip('2') or theirs.rstrip('2') == mine


def compare(theirs, mine, show):
    wrong, unimplemented, counts = [], collections.Counter(), collections.Counter()
    for word, (mnemonic, operands) in theirs.items():
        row, implemented, text = mine[word]
        known = not (mnemonic in ('.inst', 'undefined') or 'undefined' in operands)
        if mnemonic == '.inst' and 'undefined' not in operands:
            known = False
        foreign = known and (word >> 25 & 15 in (0, 2) and word >> 16 or FOREIGN.match(mnemonic)
                             or re.search(r'\b[zp]\d+(\.|/|\b)|za\d|zt0', operands))
        if foreign:  # SVE, SME...: undefined here
            counts['foreign'] += 1
            if row != '-' and implemented and mnemonic not in SYSTEM:
                wrong.append((word, f'{mnemonic} {operands}', f'{row}: {text}'))
            continue
        counts['compared'] += 1
        if known and row == '-' and re.search(r'\bs[01]_', operands):
            continue  # MRS, MSR of op0 0 and 1 are no registers
        if known and row == '-':
            wrong.append((word, f'{mnemonic} {operands}', 'no row'))
        elif not known and row != '-' and 'reserved' not in text and not CONSTRAINED.match(row):
            wrong.append((word, 'undefined', f'{row}: {text}'))
        elif known and not agrees(mnemonic, text):
            wrong.append((word, f'{mnemonic} {operands}', f'{row}: {text}'))
        if known and row != '-' and not implemented:
            unimplemented[row] += 1
    kinds = collections.Counter()
    for word, a, b in wrong:
        kind = (a.split(' ')[0], b.split(':')[0])
        kinds[kind] += 1
        if kinds[kind] <= show:
            print(f'{word:08x}: objdump "{a}", here "{b}"')
    print(f'{counts["foreign"]} of extensions that are undefined here, {counts["compared"]} words compared, {len(wrong)} differ in {len(kinds)} ways; '
          f'not implemented: {sum(unimplemented.values())} {dict(unimplemented)}')
    return not wrong


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument('tool')
    ap.add_argument('--elf', nargs='*', default=[])
    ap.add_argument('--random', type=int, default=0)
    ap.add_argument('--seed', type=int, default=1)
    ap.add_argument('--mask', type=lambda s: int(s, 0), default=0)
    ap.add_argument('--value', type=lambda s: int(s, 0), default=0)
    ap.add_argument('--show', type=int, default=3)
    o = ap.parse_args()
    ok = True
    if o.elf and not (shutil.which(OBJDUMP) and all(map(os.path.exists, o.elf))):
        print(f'skipped: needs {OBJDUMP} and {" ".join(o.elf)}')
        sys.exit(77)
    for path in o.elf:
        print(f'{os.path.basename(path)}: ', end='')
        theirs = disassemble_elf(path)
        ok &= compare(theirs, ours(o.tool, theirs), o.show)
    if o.random:
        rng = random.Random(o.seed)
        words = {rng.getrandbits(32) & ~o.mask | o.value for _ in range(o.random)}
        theirs = disassemble_words(sorted(words))
        ok &= compare(theirs, ours(o.tool, theirs), o.show)
    sys.exit(0 if ok else 1)


if __name__ == '__main__':
    main()
