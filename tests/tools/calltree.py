#!/usr/bin/env python3
"""Checks every format a call tree is written in: calltree.py CALLTREE_TEST [TREE...]

calltree_test makes trees and states them plainly (`facts`). What each format has to say is worked out
here from these facts, by other means than the writers', and compared: callgrind with a strict reader of
its own and with callgrind_annotate where that is installed, pprof with a small decoder, the page by
parsing it and, where there is a headless chromium, by running it.
"""
import gzip
import html.parser
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict

RANDOM = 12  # random trees
DEEP = {"deep", "deep-different"}  # deeper than stacks are written
FOLD = 200  # calltree.c and calltree_pprof.c: stacks get no deeper than twice this
FORMATS = ["callgrind", "pprof", "folded", "text", "json", "html"]
BROWSERS = ["chromium-headless-shell", "chromium", "chromium-browser", "google-chrome"]
UNPRINTABLE = [(0, 0x1f), (0x7f, 0x9f), (0x200e, 0x200f), (0x2028, 0x202e), (0x2066, 0x2069),
               (0xfeff, 0xfeff)]


class Wrong(Exception):
    pass


def same(what, got, want):
    if got == want:
        return
    if isinstance(got, dict) and isinstance(want, dict):
        for key in list(want) + list(got):
            if got.get(key) != want.get(key):
                raise Wrong(f"{what}: {key!r}: {got.get(key)!r}, not {want.get(key)!r}"[:600])
    raise Wrong(f"{what}: {str(got)[:300]!r}, not {str(want)[:300]!r}")


def true(what, value):
    if not value:
        raise Wrong(what)


def characters(data):
    """Bytes of each UTF-8 character, and the character or None for a byte that is part of none."""
    at = 0
    while at < len(data):
        for n in range(1, 5):
            try:
                yield data[at:at + n], data[at:at + n].decode("utf-8")
                at += n
                break
            except UnicodeDecodeError:
                pass
        else:
            yield data[at:at + 1], None
            at += 1


def unprintable(c):
    return any(low <= ord(c) <= high for low, high in UNPRINTABLE)


def plain(data, avoid=""):
    return "".join(c if c and not unprintable(c) and c not in avoid else
                   "".join(f"\\x{b:02x}" for b in raw) for raw, c in characters(data))


def replaced(data):
    return None if data is None else "".join("\ufffd" if c is None else c for _, c in characters(data))


class Tree:
    """The facts, and what follows from them."""

    def __init__(self, text):
        self.functions, self.nodes, self.lines, self.loops, self.said = [], [], [], [], []
        for row in text.splitlines():
            kind, *f = row.split(" ")
            f = [None if x == "-" else bytes.fromhex(x[1:]) if x.startswith("x") else int(x) for x in f]
            {"C": self.set_command, "F": self.functions.append, "N": self.nodes.append,
             "L": self.lines.append, "P": self.loops.append, "T": self.said.append}[kind](f)
        self.root = len(self.functions)
        for n in self.nodes:
            if n[0] < 0:
                n[0] = self.root
        self.inclusive = [n[3] for n in self.nodes]
        for i in range(len(self.nodes) - 1, 0, -1):
            self.inclusive[self.nodes[i][1]] += self.inclusive[i]
        self.insns = self.inclusive[0] if self.nodes else 0
        self.find_outermost()
        self.totals = [[0, 0, 0] for _ in range(self.root + 1)]
        for i, (function, _, calls, insns, _) in enumerate(self.nodes):
            t = self.totals[function]
            t[0] += insns
            t[1] += self.inclusive[i] if self.outermost[i] else 0
            t[2] += calls
        self.self_of = [t[0] for t in self.totals]

    def set_command(self, f):
        self.command, self.pid = f

    def find_outermost(self):
        """By node: no caller has its function. From one walk with the stack's functions counted."""
        children = defaultdict(list)
        for i, n in enumerate(self.nodes[1:], 1):
            children[n[1]].append(i)
        self.outermost, stack = [False] * len(self.nodes), Counter()
        pending = [(0, True)] if self.nodes else []
        while pending:
            i, entering = pending.pop()
            function = self.nodes[i][0]
            if not entering:
                stack[function] -= 1
                continue
            self.outermost[i] = stack[function] == 0
            stack[function] += 1
            pending.append((i, False))
            pending += [(c, True) for c in children[i]]

    def name(self, f):
        if f == self.root:
            return b"(root)"
        name = self.functions[f][0]
        return name if name and name.strip(b" ") else b"0x%x" % self.functions[f][4]

    def stack(self, i):
        """Nodes from i outwards, the root not included."""
        while i:
            yield i
            i = self.nodes[i][1]


# callgrind

def known(text):
    return text if text and text.strip(b" ") else b"???"


def identities(tree):
    """Each function's (module, file, name) as the file should have it."""
    places = [(known(f[1]), known(f[2])) for f in tree.functions] + [(b"???", b"???")]
    shared = Counter((places[f][1], tree.name(f)) for f in range(tree.root + 1))
    out = []
    for f, (module, file) in enumerate(places):
        address = tree.functions[f][4] if f < tree.root else 0
        mark = f"@0x{address:x}#{f}" if shared[file, tree.name(f)] > 1 else ""
        out.append((plain(module), plain(file), plain(tree.name(f)) + mark))
    true("identities differ", len(set(out)) == len(out))
    return out


def read_callgrind(text):
    """A strict reader: (header, {function: {(address, file, line): insns}}, {(caller, callee, address,
    file, line): [calls, insns, target]})."""
    names, header, costs, calls = {}, {}, {}, {}
    lines = iter(text.split("\n"))
    for row in lines:
        if not row or row.startswith("#"):
            continue
        key, value = re.fullmatch(r"([a-z]+): ?(.*)", row).groups()
        header[key] = value
        if key == "summary":
            break

    def name(kind, value):
        m = re.fullmatch(r"\((\d+)\)(?: (.+))?", value)
        key = (kind, int(m[1]))
        if m[2] is not None:
            true(f"{key} is defined twice", key not in names)
            names[key] = m[2]
        return names[key]

    at, callee, call = {}, {}, None
    for row in lines:
        m = re.fullmatch(r"(ob|fl|fn|fi|fe|cob|cfi|cfn)=(.*)", row)
        if m and call is None:
            key, value = m[1], m[2]
            if key[0] == "c":
                callee[key[1:]] = name({"cob": "ob", "cfi": "fl", "cfn": "fn"}[key], value)
                continue
            at["file" if key in ("fi", "fe") else key] = name("fl" if key[0] == "f" and key != "fn" else key, value)
            if key == "fe":
                same("fe goes back", at["file"], at["fl"])
            if key == "fn":
                me = (at["ob"], at["fl"], at["fn"])
                true(f"{me} comes twice", me not in costs)
                costs[me], at["file"] = {}, at["fl"]
            continue
        m = re.fullmatch(r"calls=(\d+) 0x([0-9a-f]+) (\d+)", row)
        if m:
            call = (int(m[1]), int(m[2], 16), int(m[3]))
            continue
        m = re.fullmatch(r"0x([0-9a-f]+) (\d+) (\d+)", row)
        if m:
            place, insns = (int(m[1], 16), at["file"], int(m[2])), int(m[3])
            if call is None:
                costs[me][place] = costs[me].get(place, 0) + insns
            else:
                key = (me, (callee["ob"], callee["fi"], callee["fn"]), *place)
                true(f"{key} comes twice", key not in calls)
                calls[key], call = [call[0], insns, call[1:]], None
            continue
        m = re.fullmatch(r"totals: (\d+)", row)
        if m:
            header["totals"] = m[1]
        elif row:
            raise Wrong(f"callgrind: bad line {row!r}")
    return header, costs, calls


def check_callgrind(tree, text):
    who = identities(tree)
    header, costs, calls = read_callgrind(text)
    same("events", (header["positions"], header["events"]), ("instr line", "Ir"))
    same("pid", header["pid"], str(tree.pid))
    same("summary", (int(header["summary"]), int(header["totals"])), (tree.insns, tree.insns))
    same("self", {k: sum(v.values()) for k, v in costs.items() if sum(v.values())},
         {who[f]: n for f, n in enumerate(tree.self_of) if n})
    # instructions by address; what lines leave over is at the entry
    want, left, place = defaultdict(Counter), list(tree.self_of), {}
    for function, address, file, line, insns in tree.lines:
        file = plain(file) if known(file) == file else who[function][1]
        place[function, address] = (file, line)
        want[who[function]][address, file, line] += insns
        left[function] -= insns
    for f, n in enumerate(left):
        if n:
            entry = (tree.functions[f][4], who[f][1], tree.functions[f][3]) if f < tree.root else (0, "???", 0)
            want[who[f]][entry] += n
    same("lines", {k: v for k, v in costs.items() if v}, {k: dict(v) for k, v in want.items()})
    edges = defaultdict(lambda: [0, 0, None])
    for i, (callee, parent, n, _, site) in enumerate(tree.nodes[1:], 1):
        caller = tree.nodes[parent][0]
        address, line = (tree.functions[caller][4], tree.functions[caller][3]) if caller < tree.root else (0, 0)
        file, line = place.get((caller, site), (who[caller][1], line)) if site else (who[caller][1], line)
        e = edges[who[caller], who[callee], site or address, file, line]
        e[0] += n
        e[1] += tree.inclusive[i] if tree.outermost[i] else 0
        e[2] = (tree.functions[callee][4], tree.functions[callee][3])
    same("calls", calls, {k: [max(e[0], 1), e[1], e[2]] for k, e in edges.items() if e[0] or e[1]})
    # what readers do with it: incoming calls are the inclusive count
    incoming = Counter()
    for (_, callee, *_), (_, insns, _) in calls.items():
        incoming[callee] += insns
    same("inclusive", {k: v for k, v in incoming.items() if v},
         {who[f]: t[1] for f, t in enumerate(tree.totals) if f < tree.root and t[1]})


def annotate(path, *options):
    p = subprocess.run(["callgrind_annotate", "--auto=no", "--threshold=100", "--show-percs=no", *options, path],
                       capture_output=True, text=True, timeout=100)
    same("callgrind_annotate", (p.returncode, p.stderr), (0, ""))
    total = re.search(r"^([\d,]+) +PROGRAM TOTALS", p.stdout, re.M)
    rows = p.stdout[p.stdout.index("file:function"):].split("\n")[2:]
    return int(total[1].replace(",", "")), rows


def check_annotate(tree, path):
    who = identities(tree)

    def label(f, file=None):  # as annotate has it: blanks dropped, the module aside
        return f"{(file or who[f][1]).lstrip(' ')}:{who[f][2].lstrip(' ')}"

    modules = {f" [{module.lstrip(' ')}]" for module, _, _ in who}

    def counts(rows, mark=""):
        found = {}
        for row in rows:
            m = re.fullmatch(r" *([\d,]+) +" + mark + r"(.*)", row)
            if m:
                what = next((m[2].removesuffix(x) for x in modules if m[2].endswith(x)), m[2])
                true(f"callgrind_annotate: {what} comes twice", what not in found)
                found[what] = int(m[1].replace(",", ""))
        return found

    self_of = Counter({label(f): n for f, n in enumerate(tree.self_of)})
    for function, _, file, _, insns in tree.lines:
        if file and known(file) == file:  # annotate has rows of their own for inlined instructions
            self_of[label(function)] -= insns
            self_of[label(function, plain(file))] += insns
    inclusive = {label(f): t[1] for f, t in enumerate(tree.totals) if t[1] and f < tree.root}
    labels = set(inclusive)
    total, rows = annotate(path)
    same("callgrind_annotate", total, tree.insns)
    found = counts(rows)
    same("callgrind_annotate, self", {k: v for k, v in found.items() if v}, +self_of)
    total, rows = annotate(path, "--inclusive=yes")
    found = counts(rows)
    same("callgrind_annotate --inclusive", {k: v for k, v in found.items() if k in labels and v}, inclusive)
    total, rows = annotate(path, "--inclusive=yes", "--tree=both")
    found = counts(rows, r"\*  ")
    same("callgrind_annotate --tree", {k: v for k, v in found.items() if k in labels and v}, inclusive)
    same("callgrind_annotate --tree has callers", any(" < " in row for row in rows), len(tree.nodes) > 1)


# pprof

def fields(data):
    """The fields of one protobuf message: (number, integer or bytes)."""
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7f) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(data):
        key = varint()
        if key & 7 == 0:
            yield key >> 3, varint()
        elif key & 7 == 2:
            n = varint()
            true("a field ends in the message", at + n <= len(data))
            yield key >> 3, data[at:at + n]
            at += n
        else:
            raise Wrong(f"wire type {key & 7}")


def message(data):
    out = defaultdict(list)
    for number, value in fields(data):
        out[number].append(value)
    return out


def one(m, number):
    true(f"field {number} comes once", len(m[number]) <= 1)
    return m[number][0] if m[number] else 0


def packed(data):
    out, value, shift = [], 0, 0
    for byte in data:
        value |= (byte & 0x7f) << shift
        shift += 7
        if byte < 0x80:
            out.append(value)
            value = shift = 0
    return out


def check_pprof(tree, data, deep):
    profile = message(gzip.decompress(data))
    texts = [t.decode("utf-8") for t in profile[6]]
    same("the first string", texts[0], "")
    same("strings differ", len(set(texts)), len(texts))

    def value_type(m):
        m = message(m)
        return texts[one(m, 1)], texts[one(m, 2)]

    same("sample types", [value_type(t) for t in profile[1]], [("instructions", "count"), ("calls", "count")])
    same("default", texts[one(profile, 14)], "instructions")
    same("period", (value_type(one(profile, 11)), one(profile, 12)), (("instructions", "count"), 1))
    same("comment", texts[one(profile, 13)], plain(tree.command or b""))
    functions, mappings, locations = {}, {}, {}
    for m in map(message, profile[5]):
        functions[one(m, 1)] = (texts[one(m, 2)], texts[one(m, 4)], one(m, 5))
    for m in map(message, profile[3]):
        mappings[one(m, 1)] = (one(m, 2), one(m, 3), texts[one(m, 5)])
        same("functions are known", one(m, 7), 1)
    for m in map(message, profile[4]):
        line, mapping, address = message(one(m, 4)), one(m, 2), one(m, 3)
        module = None
        if mapping:
            start, limit, module = mappings[mapping]
            true("addresses are inside their mapping", start <= address < limit)
        true("numbers of locations differ", one(m, 1) and one(m, 1) not in locations)
        locations[one(m, 1)] = (module, *functions[one(line, 1)], address, one(line, 2))
    same("functions", len(functions), tree.root + 1)
    samples = defaultdict(lambda: [0, 0])
    leaf, longest = Counter(), 0
    for m in map(message, profile[2]):
        stack, values = packed(one(m, 1)), packed(one(m, 2))
        true("two values", len(values) == 2 and stack)
        longest = max(longest, len(stack))
        s = samples[tuple(locations[l] for l in stack)] if not deep else [0, 0]
        s[0] += values[0]
        s[1] += values[1]
        leaf[locations[stack[0]][:4]] += values[0]
    true("stacks are bounded", longest <= 2 * FOLD)

    def place(f, address=None):
        if f == tree.root:
            return (None, "(root)", "", 0, 0, 0)
        _, module, file, line, entry = tree.functions[f]
        file = plain(file or b"")
        at = lines.get((f, entry if address is None else address))
        return (None if module is None else plain(module), plain(tree.name(f)), file, line,
                entry if address is None else address,
                at[1] if at and at[1] and (at[0] is None or plain(at[0]) == file) else line)

    lines = {(l[0], l[1]): (l[2], l[3]) for l in tree.lines}
    want = Counter()
    for f, n in enumerate(tree.self_of):
        want[place(f)[:4]] += n
    same("pprof, self", +leaf, +want)
    if deep:
        return
    wanted = defaultdict(lambda: [0, 0])
    for i, n in enumerate(tree.nodes):
        if not n[3] and (not n[2] or not i):
            continue
        path, stack = list(tree.stack(i)), [place(n[0])]
        stack += [place(tree.nodes[b][0], tree.nodes[a][4] or None) for a, b in zip(path, path[1:])]
        w = wanted[tuple(stack)]
        w[0] += n[3]
        w[1] += n[2]
    same("samples", dict(samples), dict(wanted))


# folded, text, JSON

def check_folded(tree, text, deep):
    true("only text", not any(unprintable(c) for c in text if c != "\n"))
    got, leaf = Counter(), Counter()
    for row in text.split("\n")[:-1]:
        stack, insns = row.rsplit(" ", 1)
        true("instructions", int(insns) > 0)
        true("stacks are bounded", stack.count(";") < 2 * FOLD)
        leaf[stack.rsplit(";", 1)[-1]] += int(insns)
        if not deep:
            got[stack] += int(insns)
    names = [plain(tree.name(f), ";") for f in range(tree.root + 1)]
    want = Counter()
    for f, n in enumerate(tree.self_of):
        want[names[f]] += n
    same("folded, self", leaf, +want)
    if deep:
        return
    want = Counter()
    for i, n in enumerate(tree.nodes):
        stack = ";".join(reversed([names[tree.nodes[p][0]] for p in tree.stack(i)])) if i else "(root)"
        want[stack] += n[3]
    same("folded", got, +want)


def check_text(tree, text):
    true("only text", not any(unprintable(c) for c in text if c != "\n"))
    rows = text.split("\n")
    same("total", rows[1].split(" ")[0], f"{tree.insns:,}")
    table = rows[rows.index("") + 2:]
    best = sorted((f for f in range(tree.root + 1) if tree.self_of[f]), key=lambda f: (-tree.self_of[f], f))
    for row, f in zip(table, best[:50]):
        m = re.match(r" *([\d.]+)% +([\d,]+) +([\d.]+)% +([\d,]+) +([\d,]+)  (.*)", row)
        true(f"a row of the table: {row!r}", m)
        same("row", [int(m[i].replace(",", "")) for i in (2, 4, 5)], tree.totals[f])
        same("per cent", m[1], f"{100 * tree.totals[f][0] / tree.insns:.2f}")
        true(f"{row!r} begins with its name", m[6].startswith(plain(tree.name(f))))
    rest = sum(tree.self_of[f] for f in best[50:])
    if rest:
        true("the rest", re.fullmatch(rf".*% +{rest:,} +{len(best) - 50:,} more", table[50]))
    loops = sorted(tree.loops, key=lambda l: -l[7])[:20]
    if loops:
        at = next(i for i, row in enumerate(rows) if row.lstrip().startswith("loop "))
        for row, l in zip(rows[at + 1:], loops):
            m = re.match(r" *[\d.]+% +([\d,]+) +([\d,]+) +([\d,]+) +([\d.]+)  0x([0-9a-f]+) - 0x([0-9a-f]+) ", row)
            true(f"a row of loops: {row!r}", m)
            same("loop", int(m[1].replace(",", "")), l[7])


def check_json(tree, data):
    d = json.loads(data.decode("utf-8"))
    same("format", (d["format"], d["version"]), ("dragoman-profile", 1))
    same("process", (d["command"], d["pid"], d["insns"]), (replaced(tree.command), tree.pid, tree.insns))
    same("functions", [list(f.values()) for f in d["functions"]],
         [[replaced(f[0]), replaced(f[1]), replaced(f[2]), f[3], hex(f[4]), *t]
          for f, t in zip(tree.functions, tree.totals)])
    same("nodes", [list(n.values()) for n in d["nodes"]],
         [[f if i else None, p if i else None, calls, insns, tree.inclusive[i], hex(site) if site else None]
          for i, (f, p, calls, insns, site) in enumerate(tree.nodes)])
    same("lines", [list(l.values()) for l in d["lines"]],
         [[l[0], hex(l[1]), replaced(l[2]), l[3], l[4]] for l in tree.lines])
    same("loops", [list(l.values()) for l in d["loops"]],
         [[l[0], hex(l[1]), hex(l[2]), replaced(l[3]), *l[4:]] for l in tree.loops])


# The page

class Page(html.parser.HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.scripts, self.attributes = [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += [(tag, *a) for a in attributes]
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data):
        if self.tags and self.tags[-1] == "script" and self.lasttag == "script":
            self.scripts[-1] += data


def check_html(tree, data, deep, reference):
    text = data.decode("utf-8")
    page = Page(text)
    same("elements", page.tags, reference)
    true("no event handlers or links", not [a for a in page.attributes if a[1].startswith("on") or
                                           a[1] in ("src", "href", "action", "data")])
    library, report, code, _ = page.scripts
    code = library + code
    shown = text.replace(report, "")
    true("nothing from elsewhere", not re.search(r"https?:|//[a-z]+\.|url\(|@import|fetch\(|innerHTML", shown))
    true("names cannot leave their element", not re.search("[<>&]", report))
    d = json.loads(report)["report"]
    text_of = lambda i: None if i < 0 else d["texts"][i]
    same("process", (d["command"], d["pid"], d["insns"]), (replaced(tree.command), tree.pid, tree.insns))
    same("functions", [[f[0], text_of(f[1]), text_of(f[2]), *f[3:]] for f in d["functions"]],
         [[replaced(tree.name(i)), replaced(f[1]), replaced(f[2]), f[3], hex(f[4]), *tree.totals[i]]
          for i, f in enumerate(tree.functions)])
    nodes = [d["nodes"][i:i + 5] for i in range(0, len(d["nodes"]), 5)]
    true("not too many nodes", len(nodes) <= 100000)
    true("parents come first", all(n[1] < i for i, n in enumerate(nodes)))
    same("folded", d["folded"], deep)
    inside = Counter()
    for _, parent, _, _, insns in nodes[1:]:
        inside[parent] += insns
    true("callers hold what they call", all(n[4] >= n[3] + inside[i] for i, n in enumerate(nodes)))
    if not d["dropped"]:
        true("nothing is missing", all(n[4] == n[3] + inside[i] for i, n in enumerate(nodes)))
        same("self", Counter({tree.root if n[0] < 0 else n[0]: 0 for n in nodes}) +
             sum((Counter({tree.root if n[0] < 0 else n[0]: n[3]}) for n in nodes), Counter())
             if len(nodes) < 2000 else tree.self_of,
             +Counter(dict(enumerate(tree.self_of))) if len(nodes) < 2000 else tree.self_of)
    lines = Counter()
    for function, _, file, line, insns in tree.lines:
        file = tree.functions[function][2] if file is None else file
        if line and file is not None:
            lines[function, replaced(file), line] += insns
    got = Counter()
    for i in range(0, len(d["lines"]), 4):
        function, file, line, insns = d["lines"][i:i + 4]
        got[function, d["texts"][file], line] += insns
    same("lines", got, +lines)
    same("loops", sorted(l[7] for l in d["loops"]), sorted(l[7] for l in tree.loops))
    return code


def browser():
    for name in BROWSERS:
        if shutil.which(name):
            return [name, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=5000", "--dump-dom"]
    return None


def run_page(command, path, fragment):
    p = subprocess.run([*command, f"file://{path}#{fragment}"], capture_output=True, text=True, timeout=100,
                       errors="replace")
    same("browser", p.returncode, 0)
    return p.stdout


def check_running(tree, name, path, command):
    """Opens the page: it has drawn its tables, and no name has become anything but text."""
    dom = run_page(command, path, "function=0")
    text = re.sub(r"<script.*?</script>", "", dom, flags=re.S)
    active = [f for f in range(tree.root) if tree.totals[f][1] or tree.totals[f][2]]
    table = text[text.index('id="functions"'):text.index('id="loops-title"')]
    same("rows", len(re.findall(r'<tr class="link', table)), min(100, len(active)))
    true("numbers", f"{tree.insns:,} instructions" in text)
    best = max(active, key=lambda f: tree.self_of[f])
    true("the most expensive function", f">{tree.self_of[best]:,}<" in table)
    true("no name runs", 'id="owned"' not in dom and "<img" not in text)
    true("the graph is as high as the tree", re.search(r'<canvas[^>]*height: ([3-9]\d|\d{3,})px', text))
    if name == "recursion":
        dom = run_page(command, path, "search=FACT&function=1")
        share = 100 * tree.totals[1][1] / tree.insns
        true("search", f">1 function, {share:.2f}%<" in dom)
        details = dom[dom.index('id="details"'):]
        true("a recursive call costs nothing more",
             re.search(r'>0\.00%</td><td>9</td><td class="text">fact<', details))
        dom = run_page(command, path, "search=/^(main|mult/")
        true("bad patterns", ">not a pattern<" in dom)


# Everything

def write(test, tree, form, **options):
    return subprocess.run([test, tree, form], stdout=options.get("to", subprocess.PIPE), stderr=subprocess.PIPE,
                          timeout=100)


def check_tree(test, name, reference, tools):
    p = write(test, name, "facts")
    tree, deep = Tree(p.stdout.decode("ascii")), name in DEEP
    same("calltree_totals", tree.said, tree.totals)
    out = {}
    for form in FORMATS:
        p = write(test, name, form)
        same(f"{form}: status", (p.returncode, p.stderr), (0, b""))
        out[form] = p.stdout
    check_callgrind(tree, out["callgrind"].decode("utf-8"))
    check_pprof(tree, out["pprof"], deep)
    check_folded(tree, out["folded"].decode("utf-8"), deep)
    check_text(tree, out["text"].decode("utf-8"))
    check_json(tree, out["json"])
    code = check_html(tree, out["html"], deep, reference)
    with tempfile.TemporaryDirectory() as folder:
        def keep(file, data):
            path = os.path.join(folder, file)
            with open(path, "wb") as f:
                f.write(data)
            return path

        if tools["annotate"] and tree.insns and len(tree.functions) < 1000:
            check_annotate(tree, keep("callgrind.out", out["callgrind"]))
        if tools["node"] and name == "plain":
            p = subprocess.run(["node", "--check", keep("page.js", code.encode())], capture_output=True, timeout=100)
            same("the page's script", (p.returncode, p.stderr[:300]), (0, b""))
        if tools["browser"] and name in ("plain", "recursion", "hostile", "deep", "wide", "no-symbols"):
            check_running(tree, name, keep("page.html", out["html"]), tools["browser"])


def check_refusals(test, name):
    for form in ["facts", *FORMATS]:
        p = write(test, name, form)
        same(f"{name} as {form}", (p.returncode, p.stdout, p.stderr), (1, b"", b"Invalid argument\n"))


def check_full(test):
    with open("/dev/full", "wb") as full:
        for form in FORMATS:
            p = write(test, "plain", form, to=full)
            same(f"{form} on a full disk", (p.returncode, p.stderr), (1, b"No space left on device\n"))


def main():
    test, chosen = os.path.abspath(sys.argv[1]), sys.argv[2:]
    trees = subprocess.run([test, "list"], capture_output=True, text=True, check=True).stdout.split()
    trees += [f"random-{i}" for i in range(RANDOM)]
    tools = {"annotate": shutil.which("callgrind_annotate"), "node": shutil.which("node"), "browser": browser()}
    for tool, found in tools.items():
        if not found:
            print(f"calltree: no {tool}: what needs it is not checked")
    reference = Page(write(test, "plain", "html").stdout.decode()).tags
    failed = 0
    for name in chosen or [*trees, "full disk"]:
        try:
            if name == "full disk":
                check_full(test)
            elif name.startswith("bad-"):
                check_refusals(test, name)
            else:
                check_tree(test, name, reference, tools)
        except Wrong as e:
            failed += 1
            print(f"calltree: {name}: {e}")
    print(f"calltree: {len(chosen or trees)} trees, {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
