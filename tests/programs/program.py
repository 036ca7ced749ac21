"""A program of some length for the guest's Python: a small language with lexer, parser and evaluator,
containers, text, numbers, generators, exceptions, decorators, json and re. Prints what it finds."""
import collections
import functools
import heapq
import itertools
import json
import math
import re
import struct
import sys
import textwrap
import zlib
from decimal import Decimal, getcontext
from fractions import Fraction

# --- a little language ---------------------------------------------------------------------------

TOKEN = re.compile(r"\s*(?:(?P<num>\d+(?:\.\d+)?)|(?P<name>[A-Za-z_]\w*)|(?P<op>==|<=|>=|[-+*/%^()<>=,;{}]))")


class Error(Exception):
    pass


def lex(text):
    at = 0
    text = text.rstrip()
    while at < len(text):
        m = TOKEN.match(text, at)
        if not m:
            raise Error(f"bad character {text[at]!r} at {at}")
        at = m.end()
        yield m.lastgroup, m[m.lastgroup]
    yield "end", ""


class Parser:
    LEVELS = [("==",), ("<", ">", "<=", ">="), ("+", "-"), ("*", "/", "%"), ("^",)]

    def __init__(self, text):
        self.tokens = list(lex(text))
        self.at = 0

    def peek(self):
        return self.tokens[self.at]

    def take(self, value=None):
        kind, text = self.tokens[self.at]
        if value is not None and text != value:
            raise Error(f"wanted {value!r}, found {text!r}")
        self.at += 1
        return kind, text

    def program(self):
        body = []
        while self.peek()[0] != "end":
            body.append(self.statement())
        return body

    def statement(self):
        kind, text = self.peek()
        if text in ("while", "if"):
            self.take()
            condition = self.expression(0)
            self.take("{")
            body = []
            while self.peek()[1] != "}":
                body.append(self.statement())
            self.take("}")
            return text, condition, body
        if kind == "name" and self.tokens[self.at + 1][1] == "=":
            self.take()
            self.take("=")
            value = self.expression(0)
            self.take(";")
            return "set", text, value
        value = self.expression(0)
        self.take(";")
        return "print", value

    def expression(self, level):
        if level == len(self.LEVELS):
            return self.atom()
        left = self.expression(level + 1)
        while self.peek()[1] in self.LEVELS[level]:
            _, op = self.take()
            left = ("op", op, left, self.expression(level + 1))
        return left

    def atom(self):
        kind, text = self.take()
        if kind == "num":
            return "const", Fraction(text)
        if kind == "name":
            return "get", text
        if text == "(":
            inner = self.expression(0)
            self.take(")")
            return inner
        if text == "-":
            return "op", "-", ("const", Fraction(0)), self.atom()
        raise Error(f"unexpected {text!r}")


OPS = {"+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b, "/": lambda a, b: a / b,
       "%": lambda a, b: a % b, "^": lambda a, b: a ** int(b), "<": lambda a, b: a < b,
       ">": lambda a, b: a > b, "<=": lambda a, b: a <= b, ">=": lambda a, b: a >= b,
       "==": lambda a, b: a == b}


def evaluate(node, names):
    if node[0] == "const":
        return node[1]
    if node[0] == "get":
        if node[1] not in names:
            raise Error(f"no such name: {node[1]}")
        return names[node[1]]
    return OPS[node[1]](evaluate(node[2], names), evaluate(node[3], names))


def execute(body, names, out):
    for node in body:
        if node[0] == "set":
            names[node[1]] = evaluate(node[2], names)
        elif node[0] == "print":
            out.append(str(evaluate(node[1], names)))
        elif node[0] == "while":
            while evaluate(node[1], names):
                execute(node[2], names, out)
        elif evaluate(node[1], names):
            execute(node[2], names, out)
    return out


def language():
    programs = ["1 + 2 * 3 ^ 2; (1 + 2) * 3 / 7;",
                "n = 1; f = 1; while n <= 25 { f = f * n; n = n + 1; } f; f % 1000007;",
                "a = 0; b = 1; i = 0; while i < 60 { t = a + b; a = b; b = t; i = i + 1; if i % 20 == 0 { a; } }",
                "x = 1; k = 0; while k < 6 { x = (x + 2 / x) / 2; k = k + 1; } x * x - 2 < 1 / 10 ^ 30;",
                "1 + ;", "y + 1;", "3 $ 4;"]
    for text in programs:
        try:
            print("  ", " ".join(execute(Parser(text).program(), {}, [])))
        except Error as e:
            print("   error:", e)


# --- everything else -----------------------------------------------------------------------------

@functools.lru_cache(maxsize=None)
def edit_distance(a, b):
    if not a or not b:
        return len(a) + len(b)
    if a[0] == b[0]:
        return edit_distance(a[1:], b[1:])
    return 1 + min(edit_distance(a[1:], b), edit_distance(a, b[1:]), edit_distance(a[1:], b[1:]))


def primes():
    found = {}
    for n in itertools.count(2):
        step = found.pop(n, None)
        if step is None:
            yield n
            found[n * n] = n
        else:
            at = n + step
            while at in found:
                at += step
            found[at] = step


def shortest(size):
    best, heap = {}, [(0, (0, 0))]
    while heap:
        cost, (x, y) = heapq.heappop(heap)
        if (x, y) in best:
            continue
        best[x, y] = cost
        for nx, ny in ((x + 1, y), (x, y + 1), (x - 1, y), (x, y - 1)):
            if 0 <= nx < size and 0 <= ny < size and (nx, ny) not in best:
                heapq.heappush(heap, (cost + (nx * 7 + ny * 13) % 10 + 1, (nx, ny)))
    return best[size - 1, size - 1]


def main():
    print("language")
    language()
    print("distance", edit_distance("interpreter", "dragoman"), edit_distance.cache_info().misses)
    print("primes", list(itertools.islice(primes(), 1000))[-3:])
    print("shortest", shortest(40))
    counted = collections.Counter(re.findall(r"\w+", __doc__.lower()))
    print("words", counted.most_common(3), sorted(counted)[:4])
    data = {"list": [1, 2.5, None, True, "ü\n\u2603"], "nested": {"a": {"b": [[]]}}, "big": 2 ** 70}
    text = json.dumps(data, sort_keys=True)
    print("json", text, json.loads(text) == data)
    print("struct", struct.pack("<hIdq", -2, 7, 1.5, -9).hex(), struct.unpack(">f", b"\x40\x49\x0f\xdb"))
    packed = zlib.compress(text.encode() * 50, 9)
    print("zlib", zlib.crc32(text.encode()), zlib.decompress(packed) == text.encode() * 50)
    getcontext().prec = 40
    print("decimal", Decimal(2).sqrt(), Decimal("1.10") + Decimal("2.205"))
    print("float", 0.1 + 0.2, 1e308 * 10, math.sin(1), round(2.675, 2), float("1e-320"), (0.1).hex())
    print("math", math.factorial(30), math.comb(50, 25), pow(3, 2 ** 100, 10 ** 9 + 7), math.isqrt(10 ** 41))
    print("format", f"{3.14159:10.3f}|{42:#010b}|{-7:+d}|{1234567.891:,.2f}|{'mid':^9}|{255:x}")
    print(textwrap.fill(" ".join(__doc__.split()), 40))
    try:
        [1, 2][5]
    except IndexError as e:
        print("caught", e, "from line", e.__traceback__.tb_lineno > 0)
    print("sorted", sorted("banana Apple cherry".split(), key=str.lower), sys.byteorder, sys.maxsize)
    print("done", sum(i * i for i in range(100000)) % 99991)


main()
