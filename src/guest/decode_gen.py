#!/usr/bin/env python3
"""decode_gen.py - from decode rows (*.dec) to a decoder, argument structs and row tables in C.

One row is one encoding, on one line (a line that ends in a backslash goes on in the next):

    name  bits...  feature  "assembly template"  section  [options]

  bits      32 bits (or 16: see --width), most significant first: literal runs of 0 and 1, don't-care runs of x or -,
            and fields name:width (name:sWIDTH is sign-extended). A field named twice is the
            concatenation of its parts, the first part on top. Spaces mean nothing.
  feature   base, or what the CPU must have: fp16, aes+sha1 ... (an instruction whose feature is
            missing is undefined). Names are the guest's, as PREFIX_FEAT(name).
  template  assembly text; {field:kind} is an operand, {field|a|b|c} picks by value, {f,g|...} picks
            by the concatenation of two fields, {@name} calls the guest's own printer.
  section   of the manual
  options   =lifter    the function lift_<lifter> serves this row (default: the row's own name)
            key=value  a constant, given to the lifter like a field
            !          allocated, but not implemented: decodes, and traps with IR_TRAP_UNIMPLEMENTED
            +          the function direct_<lifter> says it directly as well (ir/direct.h)
            : expr     (last) constraint over the row's fields: C operators, `a -> b` (if a then b),
                       and `;` between several. Where it is false the row does not match and less
                       specific rows are tried.

Where rows overlap the one with more fixed bits wins. Two rows that overlap without one's fixed bits
containing the other's are an error, unless one of them has a constraint.

Output: PREFIX = a64 gives enum A64Row (A64_ROW_none = 0), structs of arguments (one per set of
fields; Args_<lifter> names the lifter's), prototypes of lifters, a64_decode(), a64_lift_row() and
a64_rows[] (see guest/decode.h), and with --direct a64_direct_numbers[] and a64_direct_row(), to be
included behind the functions that it calls. All rows of one lifter share one struct; what a row
lacks is 0.

Where to start reading: parse_row(), then patterns(), then Trie, then write_c().
"""
import argparse
import re
import sys

IDENT = r'[A-Za-z_]\w*'


class Row:
    pass


def fail(where, why):
    sys.exit(f'{where}: {why}')


# ---- reading ----

def parse_bits(row, tokens, width):
    """Fills mask, value and fields: name -> (signed, [(lo, width), ...])."""
    at = width
    row.mask = row.value = 0
    row.fields = {}
    for t in tokens:
        if ':' in t:
            name, w = t.split(':')
            signed = w.startswith('s')
            w = int(w.lstrip('s'))
            at -= w
            old = row.fields.get(name, (signed, []))
            row.fields[name] = (signed or old[0], old[1] + [(at, w)])
            continue
        for c in t:
            at -= 1
            if c in '01' and at >= 0:
                row.mask |= 1 << at
                row.value |= int(c) << at
    if at != 0:
        fail(row.where, f'{row.name}: {width - at} bits instead of {width}')


def parse_row(text, where, width):
    row = Row()
    row.where = where
    m = re.match(r'\s*(\w+)\s+([^"]*?)\s+(\S+)\s+"([^"]*)"\s+(\S+)(.*)$', text)
    if not m:
        fail(where, 'not a row: name bits feature "template" section')
    row.name, bits, row.feature, row.template, row.section, rest = m.groups()
    tokens = bits.split()
    for t in tokens:
        if not re.fullmatch(rf'[01x-]+|{IDENT}:s?\d+', t):
            fail(where, f'{row.name}: "{t}" is neither bits nor a field')
    parse_bits(row, tokens, width)
    head, colon, expr = rest.partition(' : ')
    row.constraint = expr.strip() if colon else None
    row.lifter, row.implemented, row.direct, row.consts = row.name, True, False, {}
    for opt in head.split():
        if opt == '!':
            row.implemented = False
        elif opt == '+':
            row.direct = True
        elif opt.startswith('='):
            row.lifter = opt[1:].removeprefix('lift_')
        elif re.fullmatch(rf'{IDENT}=-?(0x)?[0-9a-fA-F]+', opt):
            k, v = opt.split('=')
            row.consts[k] = int(v, 0)
        else:
            fail(where, f'{row.name}: unknown option "{opt}"')
    for k in row.consts:
        if k in row.fields:
            fail(where, f'{row.name}: {k} is both a field and a constant')
    check_template(row)
    return row


def check_template(row):
    known = set(row.fields) | set(row.consts)
    for piece in re.findall(r'\{([^}]*)\}', row.template):
        if piece.startswith('@'):
            continue
        for f in re.split(r'[:|]', piece)[0].split(','):
            if f not in known:
                fail(row.where, f'{row.name}: the template names "{f}", which the row does not have')


def read(paths, width):
    rows = []
    for path in paths:
        with open(path) as f:
            pending, start = '', 0
            for n, line in enumerate(f, 1):
                line = re.sub(r'(^|\s)#( .*|$)', '', line.rstrip('\n')).rstrip()
                start = start if pending else n
                if line.endswith('\\'):
                    pending += line[:-1] + ' '
                    continue
                line, pending = pending + line, ''
                if not line.strip():
                    continue
                row = parse_row(line, f'{path}:{start}', width)
                row.file, row.line = path.split('/')[-1], start
                rows.append(row)
    return rows


# ---- checks ----

def order(rows):
    """Most specific first; names unique; overlaps sane."""
    seen = {}
    for r in rows:
        if r.name in seen:
            fail(r.where, f'{r.name}: also at {seen[r.name]}')
        seen[r.name] = r.where
    rows = sorted(rows, key=lambda r: (-bin(r.mask).count('1'), r.constraint is None))
    errors = []
    for i, a in enumerate(rows):
        for b in rows[i + 1:]:
            common = a.mask & b.mask
            if (a.value ^ b.value) & common or a.constraint or b.constraint:
                continue
            if common != b.mask:
                errors.append(f'{a.where}: {a.name} and {b.name} ({b.where}) overlap')
            elif a.mask == b.mask:
                errors.append(f'{a.where}: {a.name} and {b.name} ({b.where}) are the same encoding')
    if errors:
        sys.exit('\n'.join(errors))
    return rows


# ---- constraints become patterns ----

class Pattern:
    """Part of a row, or all of it: words with these fixed bits. constrained: ask the row's constraint."""

    def __init__(self, row, index, mask, value, constrained):
        self.row, self.index, self.mask, self.value, self.constrained = row, index, mask, value, constrained


MOST_BITS, MOST_CUBES = 14, 12


def holds(row):
    """The constraint as a function of an instruction word."""
    expr, names = c_constraint(row)
    expr = expr.replace('&&', ' and ').replace('||', ' or ')
    code = compile(re.sub(r'!(?!=)', ' not ', expr), row.where, 'eval')

    def field(word, parts):
        v = 0
        for lo, w in parts:
            v = v << w | word >> lo & ((1 << w) - 1)
        return v

    return lambda word: bool(eval(code, {'popcount': lambda x: bin(x).count('1')},
                                  {n: field(word, row.fields[n][1]) for n in names}))


def cubes(bits, good):
    """Disjoint (mask, value) that cover just the words of `good`, all of whose free bits are `bits`."""
    if not good:
        return []
    if len(good) == 1 << len(bits):
        return [(0, 0)]
    best = None
    for b in bits:
        rest = [k for k in bits if k != b]
        ones, zeros = [w for w in good if w & b], [w for w in good if not w & b]
        if len(bits) > 6 and min(len(ones), len(zeros)) not in (0, 1 << len(rest)) and b != bits[0]:
            continue  # many bits: do not try all orders
        found = [(m | b, v | b) for m, v in cubes(rest, [w & ~b for w in ones])] + \
                [(m | b, v) for m, v in cubes(rest, zeros)]
        if best is None or len(found) < len(best):
            best = found
    return best


def patterns(rows):
    """What the decoder compares words with, most specific row first. A constraint on few bits is as
    many patterns, most of which the tree tells apart: no code is run for it."""
    out = []
    for i, r in enumerate(rows):
        parts = [(r.mask, r.value)]
        if r.constraint:
            names = c_constraint(r)[1]
            bits = sorted({1 << lo + k for n in names for lo, w in r.fields[n][1] for k in range(w)}, reverse=True)
            parts = None
            if len(bits) <= MOST_BITS:
                test = holds(r)
                words = [0]
                for b in bits:
                    words += [w | b for w in words]
                parts = cubes(bits, [w for w in words if test(w)])
                parts = [(r.mask | m, r.value | v) for m, v in parts] if len(parts) <= MOST_CUBES else None
        constrained = parts is None
        out += [Pattern(r, i + 1, m, v, constrained) for m, v in parts or [(r.mask, r.value)]]
    return out


# ---- the search tree ----

class Trie:
    """words[]: LEAF | index into leaves[], LEAF | ROW | row when the bits looked at so far say it all,
    or base | shift << 20 | width << 25 of the next level."""
    LEAF, ROW = 1 << 31, 1 << 30
    ENOUGH = 3  # rows a leaf may test one after the other

    def __init__(self, rows, width, root_bits):
        self.words, self.leaves = [0] * (1 << root_bits), []
        self.leaf_memo, self.node_memo = {}, {}
        self.rows = rows
        self.width = width
        root = self.split(list(range(len(rows))), width - root_bits, root_bits)
        seen = ((1 << root_bits) - 1) << width - root_bits
        for v, members in enumerate(root):
            self.words[v] = self.node(tuple(members), seen)

    def split(self, members, shift, width):
        """For each value of the window, the rows that may match there."""
        out = [[] for _ in range(1 << width)]
        window = (1 << width) - 1
        for i in members:
            mask, value = self.rows[i].mask >> shift & window, self.rows[i].value >> shift & window
            free = window & ~mask
            sub = free
            while True:  # all subsets of the free bits
                out[value & mask | sub].append(i)
                if sub == 0:
                    break
                sub = (sub - 1) & free
        return out

    def node(self, members, seen):
        """seen: the bits that were looked at on the way here."""
        if (members, seen) in self.node_memo:
            return self.node_memo[members, seen]
        best = None
        if len(members) > self.ENOUGH:
            for width in range(1, 7):
                for shift in range(0, self.width - width + 1):
                    window = ((1 << width) - 1) << shift
                    if not any(self.rows[i].mask & window for i in members):
                        continue
                    parts = self.split(members, shift, width)
                    worst = max(len(p) for p in parts)
                    if worst >= len(members):
                        continue
                    score = sum(len(p) for p in parts) / len(parts) + worst / 4 + width / 4
                    if best is None or score < best[0]:
                        best = (score, shift, width, parts)
        if best is None:
            word = self.leaf(members, seen)
        else:
            _, shift, width, parts = best
            seen_there = seen | ((1 << width) - 1) << shift
            children = [self.node(tuple(p), seen_there) for p in parts]
            base = len(self.words)
            self.words += children
            word = base | shift << 20 | width << 25
        self.node_memo[members, seen] = word
        return word

    def leaf(self, members, seen):
        first = self.rows[members[0]] if members else None
        if not members:
            return self.LEAF | self.ROW
        if not first.constrained and not first.mask & ~seen:
            return self.LEAF | self.ROW | first.index
        if members not in self.leaf_memo:
            self.leaf_memo[members] = len(self.leaves)
            self.leaves += [self.rows[i] for i in members] + [None]
        return self.LEAF | self.leaf_memo[members]


# ---- writing ----

def extract(parts, signed=False):
    """C expression of a field."""
    total = sum(w for _, w in parts)
    terms, above = [], total
    for lo, w in parts:
        above -= w
        term = f'(insn >> {lo} & {(1 << w) - 1:#x}u)'
        terms.append(f'{term} << {above}' if above else term)
    expr = ' | '.join(terms)
    if signed:
        return f'(int32_t)(({expr}) << {32 - total}) >> {32 - total}'
    return expr


def ctype(signed, bits):
    if signed:
        return 'int32_t'
    return 'uint8_t' if bits <= 8 else 'uint16_t' if bits <= 16 else 'uint32_t'


def lifter_fields(rows):
    """lifter -> {field: C type}; the union over its rows."""
    out = {}
    for r in rows:
        if not r.implemented:
            continue
        f = out.setdefault(r.lifter, {})
        for name, (signed, parts) in r.fields.items():
            t = ctype(signed, sum(w for _, w in parts))
            old = f.get(name, t)
            widest = ['uint8_t', 'uint16_t', 'uint32_t', 'int32_t']
            f[name] = max(t, old, key=widest.index)
        for name, v in r.consts.items():
            t = ctype(v < 0, max(1, v.bit_length()))
            f[name] = max(t, f.get(name, t), key=['uint8_t', 'uint16_t', 'uint32_t', 'int32_t'].index)
    return out


def set_name(fields):
    short = {'uint8_t': '', 'uint16_t': 'h', 'uint32_t': 'w', 'int32_t': 's'}
    return 'ArgSet_' + '_'.join(k + (short[t] and '_' + short[t]) for k, t in sorted(fields.items()))


def c_constraint(row):
    def implies(e):
        a, arrow, b = e.partition('->')
        return f'(!({a.strip()}) || ({implies(b)}))' if arrow else f'({e.strip()})'
    e = ' && '.join(implies(p) for p in row.constraint.split(';') if p.strip())
    e = re.sub(r'(?<![=!<>])=(?!=)', '==', e)
    names = set(re.findall(IDENT, e))
    for n in names - set(row.fields) - {'popcount'}:
        fail(row.where, f'{row.name}: the constraint names "{n}", which the row does not have')
    return e, sorted(n for n in names if n in row.fields)


def feature_expr(feature, prefix):
    if feature == 'base':
        return '0'
    return ' | '.join(f'{prefix.upper()}_FEAT({f})' for f in feature.split('+'))


def write_h(out, rows, prefix):
    P = prefix.upper()
    out(f'// Generated by decode_gen.py from the guest\'s .dec files.\n#ifndef DECODE_{P}_H')
    out(f'#define DECODE_{P}_H\n\n#include "guest/decode.h"\n\ntypedef struct Lift Lift;\n')
    out(f'enum {P}Row {{\n    {P}_ROW_none,')
    for r in rows:
        out(f'    {P}_ROW_{r.name},')
    out(f'    {P}_ROW_COUNT\n}};\n')
    lifters, done = lifter_fields(rows), set()
    for name, fields in lifters.items():
        s = set_name(fields)
        if s not in done:
            done.add(s)
            body = ''.join(f'    {t} {k};\n' for k, t in sorted(fields.items())) or '    uint8_t none;\n'
            out(f'typedef struct {s} {{\n{body}}} {s};')
        out(f'typedef {s} Args_{name};')
        out(f'bool lift_{name}(Lift *l, const Args_{name} *a);')
    out(f'\n// The row of an instruction, {P}_ROW_none when there is none.')
    out(f'unsigned {prefix}_decode(uint32_t insn);')
    out('// Calls its lifter; false: undefined after all, or the CPU lacks what it needs.')
    out(f'bool {prefix}_lift_row(Lift *l, unsigned row, uint32_t insn);')
    out(f'extern const DecodeRow {prefix}_rows[{P}_ROW_COUNT];')
    out(f'extern const DecodeField {prefix}_row_fields[];')
    out(f'extern const char {prefix}_row_texts[];\n\n#endif')


def write_constraints(out, rows, prefix):
    P = prefix.upper()
    out('static inline int popcount(uint32_t x) {\n    return __builtin_popcount(x);\n}\n')
    out('static __attribute__((noinline)) bool constraint_holds(unsigned row, uint32_t insn) {\n    switch (row) {')
    for r in rows:
        if r.constraint:
            e, names = c_constraint(r)
            lets = ' '.join(f'uint32_t {n} = {extract(r.fields[n][1])};' for n in names)
            out(f'    case {P}_ROW_{r.name}: {{ {lets} return {e}; }}')
    out('    default: return popcount(row) != 0;\n    }\n}\n')


def write_numbers(out, head, numbers):
    out(head + ' = {')
    for i in range(0, len(numbers), 12):
        out('    ' + ' '.join(f'{n:#x},' for n in numbers[i:i + 12]))
    out('};\n')


def write_tables(out, rows, prefix):
    P = prefix.upper()
    out(f'const DecodeField {prefix}_row_fields[] = {{')
    n = 0
    for r in rows:
        r.first_field = n
        for name, (signed, parts) in r.fields.items():
            p = ', '.join(f'{{{lo}, {w}}}' for lo, w in parts)
            out(f'    {{"{name}", {len(parts)}, {int(signed)}, 0, {{{p}}}}},')
        for name, v in r.consts.items():
            out(f'    {{"{name}", 0, 0, {v}, {{{{0, 0}}}}}},')
        n += len(r.fields) + len(r.consts)
    out('    {.name = ""}\n};\n')
    out(f'const DecodeRow {prefix}_rows[{P}_ROW_COUNT] = {{')
    out('    {.name = "none"},')
    texts = ['']
    for r in rows:
        out(f'    {{"{r.name}", "{r.lifter}", "{r.section}", "{r.file}", {r.line}, {r.first_field}, '
            f'{sum(len(t) + 1 for t in texts)}, {r.mask:#x}, {r.value:#x}, {feature_expr(r.feature, prefix)}, '
            f'{len(r.fields) + len(r.consts)}, {int(r.implemented)}, {int(bool(r.constraint))}}},')
        texts.append(r.template)
    out('};\n')
    out(f'const char {prefix}_row_texts[] =')
    for t in texts:
        out(f'    "{t}\\0"')
    out('    "";\n')


def write_rows(out, rows, prefix, what, label, has):
    """The cases that call what_<lifter>, one for each row."""
    for r in rows:
        init = [f'.{k} = {extract(p, s)}' for k, (s, p) in r.fields.items()]
        init += [f'.{k} = {v}' for k, v in r.consts.items()]
        body = ', '.join(init) or '0'
        out(f'    case {label(r)}:')
        if r.feature != 'base':
            out(f'        if (!{has}(l, {feature_expr(r.feature, prefix)})) return false;')
        out(f'        return {what}_{r.lifter}(l, &(Args_{r.lifter}){{{body}}});')
    out('    default: return false;\n    }\n}\n')


def write_lift(out, rows, prefix):
    P = prefix.upper()
    out(f'bool {prefix}_lift_row(Lift *l, unsigned row, uint32_t insn) {{\n    switch (row) {{')
    write_rows(out, [r for r in rows if r.implemented], prefix, 'lift', lambda r: f'{P}_ROW_{r.name}', 'lift_has')


def write_direct(out, rows, prefix):
    """For the one file that has the direct_ functions: they become part of the switch."""
    P = prefix.upper()
    direct = [r for r in rows if r.direct]
    out('// Generated by decode_gen.py from the guest\'s .dec files.\n')
    out('// Numbers of the rows that may be said directly, 0 for others.')
    out(f'static const uint8_t {prefix}_direct_numbers[{P}_ROW_COUNT] = {{')
    for n, r in enumerate(direct, 1):
        out(f'    [{P}_ROW_{r.name}] = {n},')
    out('};\n')
    out('// Says it directly; false, and nothing was said: it is to be lifted.')
    out(f'static bool {prefix}_direct_row(DirectLift *l, unsigned number, uint32_t insn) {{\n    switch (number) {{')
    numbers = {r.name: n for n, r in enumerate(direct, 1)}
    write_rows(out, direct, prefix, 'direct', lambda r: numbers[r.name], 'direct_has')


def write_c(out, rows, prefix, width, headers):
    P = prefix.upper()
    root_bits = min(11, width - 4)
    trie = Trie(patterns(rows), width, root_bits)
    out('// Generated by decode_gen.py from the guest\'s .dec files.')
    for h in headers:
        out(f'#include "{h}"')
    out('')
    write_constraints(out, [r for r in rows if any(p and p.row is r and p.constrained for p in trie.leaves)], prefix)
    write_numbers(out, 'static const uint32_t tree[]', trie.words)
    out('// Each leaf ends with a pattern that all words match.')
    out('static const struct { uint32_t mask, value; uint16_t row, constrained; } leaves[] = {')
    for p in trie.leaves:
        out(f'    {{{p.mask:#x}, {p.value:#x}, {p.index}, {int(p.constrained)}}},' if p else '    {0, 0, 0, 0},')
    out('};\n')
    out(f'''unsigned {prefix}_decode(uint32_t insn) {{
    uint32_t n = tree[insn >> {width - root_bits}];
    while (!(n & 0x80000000u))
        n = tree[(n & 0xfffff) + (insn >> (n >> 20 & 31) & ((1u << (n >> 25)) - 1))];
    if (n & 0x40000000) return n & 0xffff;
    n &= 0x7fffffff;
    while ((insn & leaves[n].mask) != leaves[n].value ||
           (leaves[n].constrained && !constraint_holds(leaves[n].row, insn)))
        n++;
    return leaves[n].row;
}}
''')
    write_lift(out, rows, prefix)
    write_tables(out, rows, prefix)


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument('--prefix', required=True)
    ap.add_argument('--width', type=int, default=32)
    ap.add_argument('--header', required=True)
    ap.add_argument('--source', required=True)
    ap.add_argument('--direct', help='where the rows with a + go')
    ap.add_argument('--include', action='append', default=[])
    ap.add_argument('files', nargs='+')
    o = ap.parse_args()
    rows = order(read(o.files, o.width))
    with open(o.header, 'w') as f:
        write_h(lambda s: print(s, file=f), rows, o.prefix)
    with open(o.source, 'w') as f:
        write_c(lambda s: print(s, file=f), rows, o.prefix, o.width,
                [o.header.split('/')[-1]] + o.include)
    if o.direct:
        with open(o.direct, 'w') as f:
            write_direct(lambda s: print(s, file=f), rows, o.prefix)


if __name__ == '__main__':
    main()
