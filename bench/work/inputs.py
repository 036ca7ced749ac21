"""The inputs of the bench's workloads: made here, the same on every machine."""
import os


class Rng:
    def __init__(self, seed):
        self.state = seed

    def below(self, n):
        self.state = (self.state * 6364136223846793005 + 1442695040888963407) & (2**64 - 1)
        return (self.state >> 33) % n


def text(size):
    """Prose-like lines: words with a skewed frequency, numbers, some repeated phrases."""
    rng = Rng(1)
    syllables = "ba ce di fo gu ha je ki lo mu na pe qui ro su ta ve wi xo zu sta tri plo".split()
    words = ["".join(syllables[rng.below(len(syllables))] for _ in range(1 + rng.below(4)))
             for _ in range(4000)]
    out, length, phrases = [], 0, []
    while length < size:
        if phrases and rng.below(4) == 0:
            line = phrases[rng.below(len(phrases))]
        else:
            line = " ".join(words[min(rng.below(4000), rng.below(4000), rng.below(4000))]
                            for _ in range(6 + rng.below(10)))
            if rng.below(3) == 0:
                line += f" {rng.below(10**6)}"
            if len(phrases) < 3000:
                phrases.append(line)
        out.append(line)
        length += len(line) + 1
    return ("\n".join(out) + "\n").encode()[:size - 1] + b"\n"


def sql(rows):
    """A script for sqlite3: inserts, an index, joins, aggregates, updates, deletes, a window."""
    return f"""
PRAGMA journal_mode=off;
CREATE TABLE t(id INTEGER PRIMARY KEY, a INT, b REAL, c TEXT);
BEGIN;
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < {rows})
INSERT INTO t SELECT i, (i*7919)%10007, i*0.25, printf('name-%05d', (i*104729)%99991) FROM n;
COMMIT;
CREATE INDEX ta ON t(a);
CREATE INDEX tc ON t(c);
SELECT count(*), sum(a), round(avg(b),4), min(c), max(c) FROM t;
SELECT count(*) FROM t x JOIN t y ON x.a = y.a AND x.id < y.id WHERE x.id % 7 = 0;
SELECT a % 16 AS k, count(*), sum(length(c)) FROM t GROUP BY k ORDER BY k;
UPDATE t SET b = b * 1.5 WHERE a BETWEEN 1000 AND 3000;
DELETE FROM t WHERE id % 11 = 3;
SELECT count(*), round(sum(b),2) FROM t WHERE c LIKE 'name-0%';
SELECT sum(r) FROM (SELECT row_number() OVER (PARTITION BY a%100 ORDER BY c) AS r FROM t);
SELECT group_concat(c) FROM (SELECT DISTINCT c FROM t ORDER BY c LIMIT 12);
"""


def c_source(functions):
    """Preprocessed C of many shapes: loops, switches, floats, structs, pointers, recursion."""
    rng, out = Rng(9), []
    out.append("typedef unsigned long u64; typedef struct S { int a, b; double d; struct S *n; } S;")
    out.append("extern int puts(const char *); extern void *memcpy(void *, const void *, u64);")
    ops = ["+", "-", "*", "^", "|", "&"]
    for f in range(functions):
        k = [1 + rng.below(60) for _ in range(8)]
        o = [ops[rng.below(len(ops))] for _ in range(6)]
        shape = rng.below(5)
        if shape == 0:
            out.append(f"int f{f}(const int *p, int n) {{ int s = {k[0]}; for (int i = 0; i < n; i++) "
                       f"{{ if (p[i] {o[0]} {k[1]}) s {o[1]}= p[i] {o[2]} i; else s += (s >> {k[2] % 31}) "
                       f"{o[3]} {k[3]}; if (s == {k[4]}) break; }} return s; }}")
        elif shape == 1:
            cases = " ".join(f"case {c * k[1] + c}: x {ops[rng.below(6)]}= {rng.below(99)}; "
                             + ("break;" if rng.below(3) else "") for c in range(8))
            out.append(f"long f{f}(long x, int y) {{ while (y-- > {k[2]}) switch (x % {k[3] + 60}) {{ "
                       f"{cases} default: x = x * 3 {o[4]} y; }} return x; }}")
        elif shape == 2:
            out.append(f"double f{f}(const double *v, int n, double z) {{ double m = z; for (int i = 1; "
                       f"i < n; i++) {{ m += v[i] * v[i - 1] - {k[0]}.5 / (v[i] + {k[1]}); if (m > "
                       f"{k[2]}e3) m *= 0.{k[3]}; }} return m; }}")
        elif shape == 3:
            out.append(f"S *f{f}(S *s, int key) {{ S *best = 0; for (; s; s = s->n) {{ if (s->a {o[0]} key "
                       f"> s->b) best = s; s->d += s->a * {k[1]}.25; s->b {o[5]}= {k[2]}; }} "
                       f"if (!best) puts(\"none {f}\"); return best; }}")
        else:
            out.append(f"u64 f{f}(u64 a, u64 b) {{ unsigned char t[{k[0] + 8}]; memcpy(t, &a, 8); "
                       f"if (b <= {k[1]}) return a {o[0]} t[b & 7]; return f{f}(a * {k[2]}ul {o[1]} "
                       f"(b >> 3), b / 2) {o[2]} f{f}(a ^ b, b - {k[1]} - 1 > b ? 0 : b / 3); }}")
    return ("\n".join(out) + "\n").encode()


def json_text(items):
    rng = Rng(4)
    rows = (f'{{"id":{i},"v":{rng.below(10**6) / 1000},"s":"k{rng.below(500)}",'
            f'"l":[{rng.below(9)},{rng.below(9)}]}}' for i in range(items))
    return ("[" + ",\n".join(rows) + "]\n").encode()


def pi_bc(scale):
    """Long multiplication, division and roots, for bc."""
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "pi.bc")) as f:
        return f"scale = {scale}\n{f.read()}".encode()


def make(folder, quick):
    """Writes what is missing; returns the folder of this size."""
    folder = os.path.join(folder, "quick" if quick else "full")
    os.makedirs(folder, exist_ok=True)
    mb = 1 << 20
    wanted = {
        "text-small": lambda: text(mb // 2 if quick else 2 * mb),
        "text-medium": lambda: text(3 * mb // 2 if quick else 7 * mb),
        "text": lambda: text(3 * mb if quick else 14 * mb),
        "text-large": lambda: text(12 * mb if quick else 48 * mb),
        "text-huge": lambda: text(25 * mb if quick else 112 * mb),
        "work.sql": lambda: sql(50000 if quick else 400000).encode(),
        "work.i": lambda: c_source(40 if quick else 280),
        "small.i": lambda: c_source(2),
        "work.bc": lambda: pi_bc(260 if quick else 600),
        "work.json": lambda: json_text(16000 if quick else 120000),
    }
    for name, content in wanted.items():
        path = os.path.join(folder, name)
        if not os.path.exists(path):
            data = content()
            with open(path + ".new", "wb") as f:
                f.write(data if isinstance(data, bytes) else data.encode())
            os.rename(path + ".new", path)
    return folder
