#!/usr/bin/env python3
"""The tool interface and the built-in tools on real programs: counts against each other and against a
trace, the trace against a shadow memory, cache misses against a simulator that shares nothing with
the model, profiles through callgrind_annotate, and what goes wrong.
"""
import argparse
import collections
import fcntl
import html.parser
import json
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
import threading

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUSYBOX = os.path.join(TOP, "build/guest/arm64/busybox/bin/busybox")
HERE = os.path.join(TOP, "tests/tools")
sys.path.insert(0, HERE)


def steady(address):
    """Of a static program, the same in each run: the vDSO moves."""
    at = int(address, 16)
    return at if at < 1 << 32 else at % 4096


class Test:
    def __init__(self, args, scratch):
        self.args, self.scratch = args, scratch

    def path(self, name):
        return os.path.join(self.scratch, name)

    def run(self, options, argv, check=0, timeout=120):
        r = subprocess.run([self.args.dragoman, "run"] + options + argv, env={**os.environ, "DRAGOMAN_CACHE": "off", "PATH": "/bin"},
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=timeout)
        if check is not None and r.returncode != check:
            raise AssertionError(f"{options} {argv}: exit {r.returncode}: {r.stderr[:400]!r}")
        return r

    def busybox(self, options, *argv, **kw):
        return self.run(options, [BUSYBOX] + list(argv), **kw)

    def tool(self, name, options, argv, extra=()):
        out = self.path(name + ".json")
        self.run([*extra, "--tool", f"{name}:json,out={out}" + ("," + options if options else "")], argv)
        with open(out) as f:
            return json.load(f)

    def so(self, source):
        out = self.path(os.path.basename(source) + ".so")
        subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-I" + TOP + "/include", source, "-o", out], check=True)
        return out

    def program(self, name):
        for directory in (self.args.programs, os.path.join(TOP, "build/test-programs")):
            p = os.path.join(directory, name + "-static")
            if os.path.exists(p):
                return p
        out = self.path(name)
        source = os.path.join(TOP, "tests/programs", name + ".c")
        subprocess.run(["aarch64-linux-gnu-gcc", "-O2", "-static", "-pthread", "-w", source, "-o", out, "-lm"], check=True)
        return out

    def trace(self, argv):
        path = self.path("t.dgt")
        self.run(["--tool", "trace:out=" + path], argv)
        r = subprocess.run([self.args.dragoman, "trace", "cat", path], stdout=subprocess.PIPE, check=True, text=True)
        return path, [line.split() for line in r.stdout.splitlines()]

    # ---- counts ----

    def test_counts_agree(self):
        """Instructions, loads and stores are the same by every way of running."""
        argv = [BUSYBOX, "sort", "-n", os.path.join(TOP, "README.md")]
        want = None
        for extra in ([], ["--one-insn"], ["--verify"], ["--host", "interp"], ["--host-limit", "avx512"],
                      ["--host-limit", "sse4"], ["--code-cache", "1M"]):
            got = self.tool("count", "all", argv, extra)
            key = {k: got[k] for k in ("instructions", "loads", "stores", "classes")}
            key["classes"] = {k: v for k, v in key["classes"].items() if k not in ("int",)}
            key["instructions"] = got["instructions"]
            want = want or key
            assert key == want, (extra, key, want)

    def test_counts_at_faults(self):
        """A program that faults in the middle of blocks all the time: nothing is counted that was not done."""
        argv = [self.program("faults")]
        a = self.tool("count", "memory", argv)
        b = self.tool("count", "memory", argv, ["--one-insn"])
        c = self.tool("count", "memory", argv, ["--host", "interp"])
        for k in ("instructions", "loads", "stores"):
            assert a[k] == b[k] == c[k], (k, a[k], b[k], c[k])

    def vectors(self, extra, argv, interval):
        """bbv's intervals: for each the instructions by block."""
        bb, blocks = self.path("r.bb"), self.path("r.blocks")
        self.run([*extra, "--tool", f"bbv:interval={interval},out={bb},blocks={blocks}"], argv)
        with open(blocks) as f:
            which = {int(r[0]): (steady(r[1]), r[2]) for r in map(str.split, f)}
        with open(bb) as f:
            entries = [[e.split(":") for e in line[2:].split(" :")] for line in f]
        return [{which[int(e[0])]: int(e[1]) for e in line} for line in entries]

    def test_counts_of_unrolled_loops(self):
        """Loops that are left in every round, also by faults: the counts of their rounds are made at once, and exact."""
        argv = [self.path("rounds")]
        subprocess.run(["aarch64-linux-gnu-gcc", "-O2", "-static", "-w", os.path.join(HERE, "rounds.c"), "-o", argv[0]], check=True)
        branches = self.so(os.path.join(HERE, "branches.c"))
        want = None
        for extra in (["--host", "interp"], ["--single-tier", "cold"], ["--single-tier", "hot", "--verify"],
                      ["--single-tier", "hot", "--host-limit", "sse4"], ["--single-tier", "restless"], []):
            got = [self.tool("count", options, argv, extra) for options in ("", "blocks", "memory", "functions", "all")]
            got = [{k: g.get(k) for k in ("instructions", "blocks", "loads", "stores", "classes")} for g in got]
            got += [self.vectors(extra, argv, n) for n in (1000, 30011, 10000000)]
            taken = collections.Counter()
            for line in self.run([*extra, "--tool", branches], argv).stderr.decode().splitlines():
                address, executed, jumped = line.split()
                taken[steady(address)] += int(executed) << 32 | int(jumped)
            got.append(+taken)
            want = want or got
            for g, w in zip(got, want):
                assert g == w, (extra, str(g)[:300], str(w)[:300])

    def test_counts_of_loops_under_signals(self):
        """Signals at any time: what is counted in registers, in memory and by function stays the same number."""
        for extra in (["--single-tier", "hot"], ["--single-tier", "restless"], []):
            got = self.tool("count", "functions,memory,top=100000", [self.program("loops"), "1"], extra)
            assert sum(f["instructions"] for f in got["functions"]) == got["instructions"], (extra, got["instructions"])

    def test_functions_and_threads_add_up(self):
        a = self.tool("count", "all,top=100000", [self.program("threads")])
        assert sum(t["instructions"] for t in a["threads"]) == a["instructions"] and len(a["threads"]) > 2
        assert sum(f["instructions"] for f in a["functions"]) == a["instructions"]

    def test_forked_children_count_for_themselves(self):
        r = self.busybox(["--tool", "count"], "sh", "-c", "(i=0; while [ $i -lt 50 ]; do i=$((i+1)); done) & wait")
        n = [int(x.replace(",", "")) for x in re.findall(r"instructions +([\d,]+)", r.stderr.decode())]
        assert len(n) == 2 and min(n) > 1000, n

    def test_tools_together_and_hot(self):
        out = self.path("h.json")
        r = self.busybox(["--tool", f"hot:json,out={out}", "--tool", "count", "--tool", "syscalls"], "seq", "1", "400")
        hot = json.load(open(out))
        n = int(re.search(r"instructions +([\d,]+)", r.stderr.decode())[1].replace(",", ""))
        assert hot["instructions"] == n and b"write" in r.stderr and hot["blocks"][0]["code"], (hot["instructions"], n)

        # what one tool asks for does not change what another counts
        blocks = [re.search(r"blocks +([\d,]+)", self.busybox(["--tool", "count:blocks", *more], "seq", "1", "2000").stderr.decode())[1]
                  for more in ([], ["--tool", "cache:out=/dev/null"], ["--tool", f"trace:out={self.path('t')}"])]
        assert len(set(blocks)) == 1, blocks
        # a result goes where it was asked for, wherever the program has gone
        r = subprocess.run([self.args.dragoman, "run", "--tool", "count:out=here", BUSYBOX, "sh", "-c", "cd /"], cwd=self.scratch)
        assert r.returncode == 0 and os.path.exists(self.path("here"))

    # ---- the interface ----

    def test_callbacks(self):
        so = self.so(os.path.join(HERE, "watch.c"))
        for extra in ([], ["--host", "interp"], ["--verify", "--one-insn"], ["--host-limit", "avx512"]):
            for options in ("", ":calls"):
                r = self.run(extra + ["--tool", so + options], [BUSYBOX, "sh", "-c", "seq 1 200 | tail -1; echo x >&99"],
                             check=None)
                lines = [x for x in r.stderr.decode().splitlines() if x.startswith("watch")]
                assert lines and all(x == "watch: 0 wrong, 1 1 1 1 1 1" for x in lines[-1:]), (extra, r.stderr)
                assert r.stdout == b"200\n", r.stdout

    def test_events(self):
        """Modules come and go, signals, forks, exec, in the order in which the program makes them happen."""
        so, source, prog, lib = self.so(os.path.join(HERE, "events.c")), self.path("ev.c"), self.path("ev"), self.path("libev.so")
        with open(source, "w") as f:
            f.write(EVENTS)
        gcc = ["aarch64-linux-gnu-gcc", "-O1", source]
        subprocess.run(gcc + ["-DLIB", "-shared", "-fPIC", "-o", lib], check=True)
        subprocess.run(gcc + ["-o", prog], check=True)
        root = os.path.join(TOP, "build/guest/arm64/root")
        r = self.run(["--tool", so, "-L", root], [prog, lib, BUSYBOX])
        lines = [x for x in r.stderr.decode().splitlines()
                 if re.match("(module|gone|exec|forked|signal|thread) ", x) and not re.search(r"ld-linux|libc\.so", x)]
        assert lines == ["module ev", "thread 0", "module libev.so", "gone libev.so", "signal 11 0x10", "forked 0",
                         "exec busybox true", "module busybox", "thread 0"], lines

    def test_bbv_intervals_are_exact(self):
        path, blocks = self.path("a.bb"), self.path("a.blocks")
        r = self.busybox(["--tool", f"bbv:interval=10007,out={path},blocks={blocks}", "--tool", "count"], "seq", "1", "3000")
        n = int(re.search(r"instructions +([\d,]+)", r.stderr.decode())[1].replace(",", ""))
        sums = [sum(int(e.split(":")[-1]) for e in line[1:].split()) for line in open(path)]
        assert set(sums[:-1]) == {10007} and sum(sums) == n, (sums[-3:], sum(sums), n)
        assert len(open(blocks).readlines()) > 100
        subprocess.run([self.args.dragoman, "simpoint", "-o", self.path("sp"), path], check=True, stdout=subprocess.DEVNULL)

    # ---- traces ----

    def test_trace_equals_counts(self):
        argv = [BUSYBOX, "awk", "BEGIN { for (i = 0; i < 300; i++) s += i * 1.5; print s }"]
        path, rows = self.trace(argv)
        got = collections.Counter(r[2] for r in rows)
        want = self.tool("count", "memory", argv)
        # what the kernel gives (auxiliary vector, random bytes) may cost a few instructions
        assert abs(got["I"] - want["instructions"]) < 200, (got, want)
        r = subprocess.run([self.args.dragoman, "trace", "stat", "--json", path], stdout=subprocess.PIPE, check=True)
        stat = json.loads(r.stdout)
        assert stat["instructions"] == got["I"] and stat["reads"] == got["R"], (stat, got)
        some = [r for r in rows if r[2] == "I"][5000]
        r = subprocess.run([self.args.dragoman, "trace", "cat", "--from", "5000", "--count", "1", path],
                           stdout=subprocess.PIPE, check=True, text=True)
        assert r.stdout.split("\n")[0].split() == some, (r.stdout, some)

    def test_values_against_a_shadow_memory(self):
        """What is loaded is what was stored there last; only system calls write behind the trace's back."""
        for argv in ([BUSYBOX, "sha256sum", BUSYBOX + ".none"], [BUSYBOX, "awk", "BEGIN { for (i = 0; i < 99; i++) print i * 1.25 }"],
                     [self.program("vectors")], [self.program("integers")]):
            path = self.path("t.dgt")
            self.run(["--tool", "trace:out=" + path], argv, check=None)
            r = subprocess.run([self.args.dragoman, "trace", "cat", path], stdout=subprocess.PIPE, check=True, text=True)
            shadow, checked, calls = {}, 0, set()
            rows = r.stdout.splitlines()
            for row in rows:
                if row.split(" ", 3)[2] == "S":
                    calls.add(int(row.split()[1]))
            for row in rows:
                w = row.split()
                if w[2] == "I":
                    if int(w[1]) in calls or "syscall" in w:
                        shadow.clear()
                    continue
                if w[2] not in "RWA":
                    continue
                at, n, value = int(w[3], 16), int(w[4]), int(w[5], 16).to_bytes(int(w[4]), "little")
                for i in range(n):
                    if w[2] == "R" and at + i in shadow:
                        assert shadow[at + i] == value[i], row
                        checked += 1
                    if w[2] == "W":
                        shadow[at + i] = value[i]
                    elif w[2] == "A":
                        shadow.pop(at + i, None)  # a trace has what was there before
            assert checked > 3000, checked

    def test_truncated_and_damaged_traces(self):
        path, _ = self.trace([BUSYBOX, "seq", "1", "100"])
        whole = open(path, "rb").read()
        cut = self.path("cut.dgt")
        for n in (0, 5, 30, 80, len(whole) // 2, len(whole) - 1):
            open(cut, "wb").write(whole[:n])
            r = subprocess.run([self.args.dragoman, "trace", "stat", cut], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            assert r.returncode in (0, 1) and (b"truncated" in r.stdout or r.stderr.count(b"\n") == 1), (n, r)
            assert n < 300 or r.returncode == 0, (n, r)  # readable up to the cut
            for to in ("perfetto", "drmemtrace"):
                r = subprocess.run([self.args.dragoman, "trace", "convert", "--to", to, "-o", self.path("out." + to), cut], stderr=subprocess.PIPE)
                assert r.returncode == 0 or r.stderr.count(b"\n") == 1, (n, to, r)
                assert n < 300 or r.returncode == 0 or b"no instructions" in r.stderr, (n, to, r)
        for i in range(40, len(whole), len(whole) // 60):
            broken = bytearray(whole)
            broken[i] ^= 0x55
            open(cut, "wb").write(broken)
            for how in (["cat", "--symbols"], ["convert", "--to", "perfetto"]):
                r = subprocess.run([self.args.dragoman, "trace", *how, cut], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
                assert r.returncode in (0, 1) and r.stderr.count(b"\n") == r.returncode, (i, how, r.returncode, r.stderr)

    def test_conversions(self):
        path, rows = self.trace([BUSYBOX, "seq", "1", "50"])
        n = sum(r[2] == "I" for r in rows)
        out = self.path("out")
        for to in ("text", "csv", "champsim", "perfetto"):
            subprocess.run([self.args.dragoman, "trace", "convert", "--to", to, "-o", out, path], check=True)
            data = open(out, "rb").read()
            if to == "champsim":
                assert len(data) == 64 * n
                ip = [int.from_bytes(data[i * 64:i * 64 + 8], "little") for i in range(n)]
                assert ip == [int(r[3], 16) for r in rows if r[2] == "I"]
            elif to == "perfetto":
                calls = [e for e in json.loads(data)["traceEvents"] if e["ph"] == "B" and e["cat"] == "syscall"]
                assert len(calls) == sum(r[2] == "S" for r in rows)
            else:
                assert data.count(b"\n") >= len(rows)

    def test_cut_traces_convert(self):
        """A long trace that was cut: pieces before the cut are all there, with what is known about threads."""
        path = self.path("t.dgt")
        self.run(["--tool", "trace:out=" + path], [self.program("threads")])
        with open(path, "rb") as f:
            data = f.read()
        with open(path, "wb") as f:
            f.write(data[:-1])
        slices, names = perfetto(self.convert("perfetto", path, "--min-insns", "1000"))
        assert len(names) > 2 and "futex" in {s[2] for s in slices}
        with open(path, "wb") as f:
            f.write(data[:len(data) * 3 // 4])
        thread = next(t for t in range(9) if subprocess.run([self.args.dragoman, "trace", "convert", "--to", "drmemtrace", "--thread",
                      str(t), "-o", self.path("dr"), path], stderr=subprocess.DEVNULL).returncode == 0)
        assert len(drmemtrace(self.path("dr"))) > 1000, thread

    def test_chunks_of_other_kinds_are_skipped(self):
        path, rows = self.trace([BUSYBOX, "seq", "1", "5"])
        data = bytearray(open(path, "rb").read())
        strings = int.from_bytes(data[16:20], "little")
        stored = b"some bytes"
        head = struct.pack("<IIQQIIQ", 99, 0, 0, 0, 0, len(stored), 0)
        x = 0x9e3779b97f4a7c15
        for text in (head, stored):
            for i in range(0, len(text), 8):
                x = mix(x, text[i:i + 8])
        at = 24 + strings
        for check, code in ((x, 0), (x ^ 1, 1)):
            with open(self.path("more.dgt"), "wb") as f:
                f.write(data[:at] + head + check.to_bytes(8, "little") + stored + data[at:])
            r = subprocess.run([self.args.dragoman, "trace", "cat", self.path("more.dgt")], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            assert r.returncode == code and (code or r.stdout.count(b"\n") == len(rows)), (code, r.stderr)

    def graph(self, text=None):
        source, prog = self.path("graph.c"), self.path("graph")
        with open(source, "w") as f:
            f.write(text or GRAPH)
        subprocess.run(["aarch64-linux-gnu-gcc", "-O2", "-fno-inline", "-fno-ipa-icf", "-static", "-w", source, "-o", prog], check=True)
        return prog

    def test_trace_of_a_part(self):
        """A trace of one function only: what was executed in between is counted, and not there."""
        path, prog = self.path("part.dgt"), self.graph()
        self.run(["--tool", "trace:out=" + path + ",symbol=loop"], [prog])
        cat = [self.args.dragoman, "trace", "cat", "--symbols"]
        rows = [r.split() for r in subprocess.run(cat + [path], stdout=subprocess.PIPE, check=True, text=True).stdout.splitlines()]
        insns = [r for r in rows if r[2] == "I"]
        assert insns and all(r[5].startswith("<loop") for r in insns), insns[:3]
        calls = [i for i, r in enumerate(insns) if "call" in r]
        gaps = {int(insns[i + 1][1]) - int(insns[i][1]) for i in calls}
        assert len(calls) == 11 and len(gaps) == 1 and gaps.pop() > 2, (calls, gaps)
        n = insns[calls[4] + 1][1]
        for ask in (int(n) - 1, int(n)):  # in the gap; behind it
            r = subprocess.run(cat + ["--from", str(ask), "--count", "3", path], stdout=subprocess.PIPE, check=True, text=True)
            assert r.stdout.splitlines()[0].split()[1] == n, (ask, n, r.stdout)
        out = self.path("part.memtrace")
        subprocess.run([self.args.dragoman, "trace", "convert", "--to", "drmemtrace", "-o", out, path], check=True)
        assert sum(m == (DR["MARKER"], 14) for m in ((t, s) for t, s, _ in drmemtrace(out))) == 11

    def convert(self, to, path, *options):
        out = self.path("converted")
        subprocess.run([self.args.dragoman, "trace", "convert", "--to", to, "-o", out, *options, path], check=True)
        return out

    def test_drmemtrace(self):
        """DynamoRIO's format, read by a parser that shares nothing with the writer, against `trace cat`."""
        for argv in ([BUSYBOX, "awk", "BEGIN { for (i = 0; i < 50; i++) print i * 1.5 }"], GRAPH, RESTART,
                     [self.program("vectors")], [self.program("threads")]):
            path = self.path("t.dgt")
            if isinstance(argv, str):
                argv = [self.graph(argv)]
            self.run(["--tool", "trace:out=" + path], argv)
            threads = json.loads(subprocess.run([self.args.dragoman, "trace", "stat", "--brief", "--json", path],
                                                stdout=subprocess.PIPE, check=True).stdout)["threads"]
            if threads > 1:
                out = self.path("dr")
                subprocess.run([self.args.dragoman, "trace", "convert", "--to", "drmemtrace", "-o", out, path], check=True)
                files = sorted(os.listdir(out + "/trace"), key=lambda name: int(name.split(".")[-2]))
                assert len(files) == threads
                r = subprocess.run([self.args.dragoman, "trace", "convert", "--to", "drmemtrace", path], stderr=subprocess.PIPE)
                assert r.returncode == 1 and b"-o DIR" in r.stderr
                checked = (0, threads - 1)
                files = [os.path.join(out, "trace", files[i]) for i in checked]
            else:
                checked, files = (0,), [self.convert("drmemtrace", path)]
            for thread, file in zip(checked, files):
                count = ["--count", "200000"] if os.path.getsize(file) > 6e6 else []
                rows = subprocess.run([self.args.dragoman, "trace", "cat", "--thread", str(thread), *count, path],
                                      stdout=subprocess.PIPE, check=True, text=True).stdout.splitlines()
                check_drmemtrace(drmemtrace(file), [r.split() for r in rows], bool(count))

    def test_perfetto(self):
        """Slices nest and have the functions, system calls and threads that the program had."""
        prog, path = self.graph(), self.path("g.dgt")
        self.run(["--tool", "trace:out=" + path], [prog])
        slices, names = perfetto(self.convert("perfetto", path))
        assert len(names) == 1 and "graph" in list(names.values())[0], names
        where = collections.Counter((up, name) for _, up, name, _, cat in slices if cat == "function")
        for edge, n in {("main", "leaf"): 7, ("main", "tail"): 5, ("main", "end_of_tail"): 5, ("main", "deep"): 3,
                        ("deep", "deep"): 27, ("main", "after_jump"): 3, ("main", "loop"): 1, ("loop", "callback"): 11,
                        ("signal 10", "handler"): 2}.items():
            assert where[edge] == n, (edge, n, where[edge])
        calls = [name for _, _, name, _, cat in slices if cat == "syscall"]
        assert calls.count("tgkill") == 2 and "rt_sigaction" in calls, calls
        with open(self.path("converted")) as f:
            assert any(e["ph"] == "i" and e["name"] == "exit_group" for e in json.load(f)["traceEvents"])

        few, _ = perfetto(self.convert("perfetto", path, "--min-insns", "100"))
        functions = [s for s in few if s[4] == "function"]
        assert functions and all(s[3] >= 100 for s in functions) and [s[2] for s in few if s[4] == "syscall"] == calls
        want = sorted(s[2] for s in slices if s[4] == "function" and s[3] >= 100)
        assert sorted(s[2] for s in functions) == want
        flat, _ = perfetto(self.convert("perfetto", path, "--depth", "2"))
        assert max(s[0] for s in flat if s[4] == "function") == 2
        part, _ = perfetto(self.convert("perfetto", path, "--from", "5000", "--count", "9000"))
        assert part

        self.run(["--tool", "trace:out=" + path], [self.graph(RESTART)])
        slices, _ = perfetto(self.convert("perfetto", path))
        assert sum(s[2] == "read" and s[4] == "syscall" for s in slices) == 2  # up to the signal, and anew
        assert any(s[1:3] == ("signal 14", "tick") for s in slices)

        self.run(["--tool", "trace:out=" + path], [self.program("threads")])
        slices, names = perfetto(self.convert("perfetto", path, "--min-insns", "1000"))
        assert len(names) > 2 and len(set(names.values())) == len(names), names
        assert {s[4] for s in slices} == {"thread", "function", "syscall"}
        assert {"futex", "clone"} & {s[2] for s in slices}

    # ---- caches ----

    def test_cache_equals_the_simulator(self):
        """The tool's counts, filters and all, against the simple simulator fed with the program's own trace."""
        import cache_sim
        argv = [BUSYBOX, "sort", "-n", os.path.join(TOP, "LICENSE")]
        lru = [u + ".replacement=lru" for u in ("l1i", "l1d", "l2")]
        for options in (["l1i=4K:2", "l1d=4K:2", "l2=32K:8", "l3=off"],
                        ["l1i=1K:1", "l1d=2K:4", "l2=8K:4", "l1d.replacement=plru", "dtlb=4:full", "itlb=4:full", "stlb=16:4"],
                        ["l1i=2K:2", "l1d=2K:2", "l2=16K:4", "l2.inclusive=yes", "l1d.replacement=srrip"],
                        ["l1i=2K:2", "l1d=2K:2", "l2=16K:4", "l1d.write=through", "l1d.prefetch=nextline"]):
            options = lru + options  # the later wins
            cache, trace = self.path("c.json"), self.path("c.dgt")
            self.run(["--tool", f"cache:json,out={cache}," + ",".join(options), "--tool", "trace:out=" + trace], argv)
            got = json.load(open(cache))["units"]
            r = subprocess.run([self.args.dragoman, "trace", "cat", trace], stdout=subprocess.PIPE, check=True, text=True)
            known = ["l3=off", "itlb=off", "dtlb=off", "stlb=off"]
            known = [k for k in known if not any(o.startswith(k.split("=")[0] + "=") for o in options)]
            sim = cache_sim.Hierarchy(cache_sim.config(options + known))
            feed(sim, r.stdout)
            for unit, store in sim.units.items():
                want = {k: store.count[k] for k in ("read_misses", "write_misses", "writebacks", "prefetches")}
                if unit not in ("l1i", "itlb", "l1d", "dtlb"):
                    want.update({k: store.count[k] for k in ("reads", "writes")})
                have = {k: got[unit][k] for k in want}
                assert have == want, (options, unit, have, want)

    # ---- pages ----

    def page(self, path):
        """The reports in a page, after checking that it is a page: whole, alone, and names in it harmless."""
        with open(path, encoding="utf-8") as f:
            text = f.read()
        page = Page(text)
        assert not page.open, ("not closed", page.open)
        assert not [a for a in page.attributes if a[0] in ("src", "href", "action", "data") or a[0].startswith("on")], page.attributes
        for script in page.reports:
            assert not re.search("[<>&]", script), "a report could leave its element"
        rest = text
        for script in page.reports:
            rest = rest.replace(script, "")
        assert not re.search(r"https?:|url\(|@import|fetch\(|innerHTML|import\(", rest), "something from elsewhere"
        return [json.loads(script) for script in page.reports]

    def drawn(self, path):
        """What a browser makes of it; None where there is none."""
        browser = next((b for b in ("chromium-headless-shell", "chromium", "google-chrome") if shutil.which(b)), None)
        if not browser:
            return None
        r = subprocess.run([browser, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=3000", "--dump-dom",
                            "file://" + path], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=100)
        return re.sub(r"<script.*?</script>", "", r.stdout.decode("utf-8", "replace"), flags=re.S)

    def test_pages_say_what_json_says(self):
        argv = [BUSYBOX, "sort", "-n", os.path.join(TOP, "README.md")]
        for name, options in (("count", "all,top=100000"), ("hot", "top=100000"), ("cache", "top=100000"), ("syscalls", "detail")):
            page, out = self.path("p.html"), self.path("p.json")
            r = self.run(["--tool", f"{name}:html={page},json,out={out},{options}"], argv)
            assert r.stderr == b"", r.stderr
            with open(out) as f:
                want = json.load(f)
            [got] = self.page(page)
            assert name in got["command"] and got["command"].endswith("README.md") and got["program"] == BUSYBOX, got["command"]
            got = {k: v for k, v in got["report"].items() if k in want}
            if name == "hot":
                host = [b.pop("host") for b in got["blocks"] if "host" in b]
                assert host and all(len(code) > 1 for code in host), "no host code"
            assert got == want, (name, str(got)[:300], str(want)[:300])
            text = self.drawn(page)
            if text:
                if name == "count":
                    assert f">{want['instructions']:,}<" in text, text[:2000]
                assert text.count("<tr") > 1 and "<svg" in text, (name, text[-1500:])
            os.remove(page)
            r = self.run(["--tool", f"{name}:html={page}"], argv)
            assert r.stderr == b"" and self.page(page), "only a page was asked for"

    def test_page_of_phases(self):
        page, path = self.path("b.html"), self.path("b.bb")
        r = self.busybox(["--tool", f"bbv:interval=1009,html={page},out={path},json"], "seq", "1", "20000")
        said = json.loads(r.stderr)
        [got] = self.page(page)
        b = got["report"]
        [thread] = b["threads"]
        sums = [sum(int(e.split(":")[-1]) for e in line[1:].split()) for line in open(path)]
        assert thread["intervals"] == len(sums) == said["threads"][0]["intervals"] == sum(c["intervals"] for c in thread["columns"])
        assert thread["instructions"] == sum(sums) == sum(c["instructions"] for c in thread["columns"])
        assert 300 < len(thread["columns"]) <= 1024 and len(sums) > 1024, (len(thread["columns"]), len(sums))
        for c in thread["columns"]:
            assert sum(c["places"][1::2]) <= c["instructions"] and max(c["places"][::2]) < len(b["places"]), c
        text = self.drawn(page)
        assert text is None or ("Which intervals are alike" in text and text.count("<path") > 3)
        os.remove(path)
        self.busybox(["--tool", f"bbv:interval=1M,html={page}"], "true")
        assert not os.path.exists(path)
        points = self.path("s.html")
        self.busybox(["--tool", f"bbv:interval=10000,out={path}"], "seq", "1", "3000")
        r = subprocess.run([self.args.dragoman, "simpoint", "--html", points, "--json", path], stdout=subprocess.PIPE, check=True)
        [got] = self.page(points)
        assert got["report"] == json.loads(r.stdout)
        text = self.drawn(points)
        assert text is None or "Simulation points" in text and text.count("<circle") == len(got["report"]["scores"])

    def test_tools_share_a_page(self):
        """Two configurations of a cache and another tool; once more with results on the way; a second run replaces all."""
        page = self.path("s.html")
        tools = ["--tool", f"cache:l1d=8K,html={page}", "--tool", f"cache:l1d=64K,html={page}", "--tool", f"count:html={page}"]
        for _ in range(2):
            self.busybox(tools, "env", BUSYBOX, "seq", "1", "500")  # env execs: what was before it stays
            reports = self.page(page)
            assert [r["report"]["tool"] for r in reports] == ["cache", "cache", "count"] * 2, [r["report"]["tool"] for r in reports]
        a, b = (r["report"] for r in reports[3:5])
        assert a["configuration"] == "l1d=8K" and a["units"]["l1d"]["read_misses"] > b["units"]["l1d"]["read_misses"]
        text = self.drawn(page)
        assert text is None or "l1d=64K" in text

    def test_hostile_names_in_pages(self):
        """A file and a function whose names would leave their element, or run."""
        source, prog = self.path("n.s"), self.path('x"<img src=x onerror=alert(1)>.bin')
        name = r'\"</script><script>document.body.id=1</script><!--'
        with open(source, "w") as f:
            f.write(f'.text\n.global _start\n_start: mov x1, 1000\n"{name}": subs x1, x1, 1\n b.ne "{name}"\n'
                    f'.size "{name}", 8\n.type "{name}", %function\n mov x8, 93\n mov x0, 0\n svc 0\n')
        subprocess.run(["aarch64-linux-gnu-gcc", "-nostdlib", "-static", source, "-o", prog], check=True)
        page = self.path("h.html")
        options = [x for t in ("count", "hot", "cache", "syscalls", "bbv:interval=100") for x in ("--tool", t + (":" if ":" not in t else ",") + "html=" + page)]
        self.run(options, [prog])
        reports = self.page(page)
        assert len(reports) == 5
        assert any("</script>" in f.get("function", "") for f in reports[0]["report"]["functions"]), reports[0]
        text = self.drawn(page)
        assert text is None or ('<body id="1"' not in text and "<img" not in text and "&lt;/script&gt;" in text)

    def test_pages_that_cannot_be_written(self):
        for tool in ("count", "hot", "cache", "syscalls", "bbv", "profile"):
            for path, why in (("/no/such/x.html", "No such file"), ("/dev/full", "No space left")):
                r = self.busybox(["--tool", f"{tool}:html={path}"], "true")
                assert r.stderr.count(b"\n") == 1 and path in r.stderr.decode() and why in r.stderr.decode(), (tool, r.stderr)
        r = self.busybox(["--tool", "count:html="], "true", check=2)
        assert b"no file is named" in r.stderr
        path = self.path("b.bb")
        self.busybox(["--tool", f"bbv:interval=1000,out={path}"], "true")
        r = subprocess.run([self.args.dragoman, "simpoint", "--html", "/dev/full", path], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert r.returncode == 1 and r.stderr.count(b"\n") == 1 and b"No space left" in r.stderr, r.stderr

    # ---- progress ----

    def on_terminal(self, options, argv, stdout_too=False, width=80):
        """What came on a terminal that is stderr."""
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))

        def own():
            os.setsid()
            fcntl.ioctl(2, termios.TIOCSCTTY, 0)
        p = subprocess.Popen([self.args.dragoman] + options + argv, stdin=subprocess.DEVNULL, stderr=slave,
                             stdout=slave if stdout_too else subprocess.DEVNULL, preexec_fn=own,
                             env={"DRAGOMAN_CACHE": "off", "PATH": "/bin", "TERM": "xterm"})
        os.close(slave)
        out = b""
        while True:
            try:
                data = os.read(master, 65536)
            except OSError:
                break
            if not data:
                break
            out += data
        os.close(master)
        assert p.wait(timeout=60) == 0, out
        return out.decode()

    def test_progress(self):
        busy = [BUSYBOX, "sleep", "4"]
        line = r"\r[\d.]+ ?[kMG]? instructions, [\d.]+ ?[kMG]?/s, \d+ s\x1b\[K"
        out = self.on_terminal(["run", "--tool", "count"], busy)
        assert len(re.findall(line, out)) >= 2, repr(out)
        before, after = out.rsplit("\r\x1b[K", 1)
        assert re.fullmatch(r"instructions +[\d,]+\r\n", after), ("the line is not erased", repr(out))
        for options, argv, both in ((["run", "--tool", "count"], busy, True), (["run", "--no-progress", "--tool", "count"], busy, False),
                                    (["run"], busy, False)):
            out = self.on_terminal(options, argv, both)
            assert "\x1b" not in out and "/s" not in out, (options, repr(out))
        out = self.on_terminal(["run", "--progress", "--tool", "count"], busy, True)
        assert re.search(line, out), repr(out)
        out = self.on_terminal(["run", "--tool", "count"], busy, width=20)
        assert all(len(x) <= 20 for x in re.findall(r"\r([^\r\x1b]*)\x1b", out)) and "instr" in out, repr(out)
        assert b"/s" not in self.run(["--tool", "count"], busy).stderr
        # the program's own output: the line goes before it, and nothing comes while its line has no end
        out = self.on_terminal(["run", "--progress", "--tool", "count"],
                               [BUSYBOX, "ash", "-c", "read -t 3 x <&1; echo one >&2; read -t 4 x <&1; printf 'two? ' >&2; read -t 4 x <&1; true"], True)
        assert re.search(r"\x1b\[K\r\x1b\[Kone\r\n", out) and re.search("two\\? instructions", out), repr(out)

    def test_progress_counts_all_threads(self):
        """It does not change what is counted, and what it says last is not more than that."""
        argv = [BUSYBOX, "awk", "BEGIN { for (i = 0; i < 3000000; i++) s += i; print s }"]
        out = self.on_terminal(["run", "--no-progress", "--tool", "count:blocks"], argv)
        want = re.findall(r"(instructions|blocks) +([\d,]+)\r", out)
        out = self.on_terminal(["run", "--tool", "count:blocks"], argv)
        assert re.findall(r"(instructions|blocks) +([\d,]+)\r", out) == want, (out, want)
        unit = {"": 1, " k": 1e3, " M": 1e6, " G": 1e9, " T": 1e12}
        said = [float(n) * unit[u] for n, u in re.findall(r"\r([\d.]+)( ?[kMGT]?) instructions", out)]
        assert said == sorted(said) and (not said or 0 < said[-1] <= int(want[0][1].replace(",", "")) * 1.06), (said, want)

    # ---- profiles ----

    def test_profile_through_callgrind_annotate(self):
        for name, argv in (("integers", [self.program("integers")]), ("jumps", [self.program("jumps")]),
                           ("signals", [self.program("signals")]), ("busybox", [BUSYBOX, "seq", "1", "500"])):
            out, folded = self.path("cg.out"), self.path("folded")
            r = self.run(["--tool", f"profile:callgrind={out},folded={folded}", "--tool", "count"], argv)
            n = int(re.findall(r"instructions +([\d,]+)", r.stderr.decode())[-1].replace(",", ""))
            total = sum(int(line.rsplit(" ", 1)[1]) for line in open(folded))
            assert total == n, (name, total, n)
            if shutil.which("callgrind_annotate"):
                for extra in ([], ["--inclusive=yes", "--tree=both"]):
                    r = subprocess.run(["callgrind_annotate", *extra, out], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
                    m = re.search(r"([\d,]+) \(100.0%\) +PROGRAM TOTALS", r.stdout)
                    assert r.returncode == 0 and m and int(m[1].replace(",", "")) == n, (name, r.stdout[:300], r.stderr[:300], n)

    def test_call_graph(self):
        """A program whose graph is known: recursion, a tail call, a callback, longjmp, a signal handler."""
        prog = self.graph()
        out = self.path("p.json")
        self.run(["--tool", f"profile:json,out={out}"], [prog])
        tree = json.load(open(out))
        names = [f["name"] for f in tree["functions"]]
        calls = collections.Counter()
        for node in tree["nodes"][1:]:
            parent = tree["nodes"][node["parent"]]
            up = names[parent["function"]] if node["parent"] else "-"
            calls[up, names[node["function"]]] += node["calls"]
        for edge, n in {("main", "leaf"): 7, ("main", "tail"): 5, ("main", "end_of_tail"): 5, ("main", "deep"): 3,
                        ("main", "after_jump"): 3, ("main", "loop"): 1, ("loop", "callback"): 11}.items():
            got = calls[edge]
            if edge == ("main", "tail"):
                continue  # its frame became end_of_tail's
            assert got == n, (edge, got, n, [(k, v) for k, v in calls.items() if edge[1] in k])
        assert calls["deep", "deep"] == 3 * 9, calls["deep", "deep"]
        assert sum(v for (a, b), v in calls.items() if b == "handler") == 2
        assert calls["main", "spin"] == 4 and calls["main", "fork_like"] + calls["fork_like", "fork_like"] == 465, calls
        self.run(["--host", "interp", "--tool", f"profile:json,out={out}2"], [prog])
        by_interp = json.load(open(out + "2"))
        shapes = [sorted((t["functions"][n["function"]]["name"], n["calls"], n["self"]) for n in t["nodes"][1:]) for t in (tree, by_interp)]
        assert shapes[0] == shapes[1], [(a, b) for a, b in zip(*shapes) if a != b][:10]
        # without symbols functions are known by being called
        subprocess.run(["aarch64-linux-gnu-strip", prog], check=True)
        r = self.run(["--tool", f"profile:json,out={out}", "--tool", "count"], [prog])
        stripped = json.load(open(out))
        assert sum(n["self"] for n in stripped["nodes"]) == int(re.findall(r"instructions +([\d,]+)", r.stderr.decode())[-1].replace(",", ""))
        calls = collections.Counter()
        for n in stripped["nodes"][1:]:
            calls[n["function"]] += n["calls"]
        assert max(calls.values()) == 465 and 4 in calls.values() and 7 in calls.values(), calls

    def test_filters(self):
        prog = self.graph()

        def functions(options):
            got = self.tool("count", "functions,top=100000" + options, [prog])
            return {f["function"]: f["instructions"] for f in got["functions"] if "function" in f and f["instructions"]}
        whole = functions("")
        assert functions(",symbol=loop") == {"loop": whole["loop"]}
        assert functions(",module=graph")["deep"] == whole["deep"] and not functions(",module=none")
        late = functions(",from=loop,to=exit")
        assert "leaf" not in late and late["callback"] == whole["callback"] and "_IO_cleanup" not in late, late
        late = functions(",after=2000")
        assert "main" not in whole or sum(late.values()) < sum(whole.values()), late
        # between the program's own marks, to the instruction; by thread
        source, prog = self.path("marked.c"), self.path("marked")
        with open(source, "w") as f:
            f.write(MARKED)
        subprocess.run(["aarch64-linux-gnu-gcc", "-O2", "-static", "-pthread", f"-I{TOP}/include", source, "-o", prog], check=True)
        assert self.tool("count", "marks", [prog])["instructions"] == 2 * (10 + 1), self.tool("count", "marks", [prog])
        whole = self.tool("count", "functions,top=100000", [prog])
        one, two = (self.tool("count", f"functions,top=100000,only-thread={n}", [prog]) for n in (1, 2))
        work = [next((f["instructions"] for f in t["functions"] if f.get("function") == "work"), 0) for t in (whole, one, two)]
        assert work[0] == work[1] + work[2] and work[2] - work[1] == 20000, work
        r = self.busybox(["--strace", "--tool", "syscalls:json"], "ls", "/")
        lines = collections.Counter(re.findall(r"^([a-z_0-9]+)\(", r.stderr.decode(), re.M))
        for c in json.loads(r.stderr.decode()[r.stderr.decode().index('{"tool"'):])["calls"]:
            assert lines[c["name"]] == c["calls"], (c, lines)
        r = self.busybox(["--tool", "count:range=5-3"], "true", check=None)
        assert r.returncode == 2 and b"range=5-3" in r.stderr

    def test_the_tool_of_the_docs(self):
        with open(os.path.join(TOP, "docs/writing-a-tool.md")) as f:
            code = re.search(r"```c\n(.*?)```", f.read(), re.S)[1]
        with open(os.path.join(HERE, "branches.c")) as f:
            assert f.read().split("\n", 1)[1] == code
        r = self.busybox(["--tool", self.so(os.path.join(HERE, "branches.c")), "--tool", "count:classes"], "seq", "1", "100")
        rows = [[int(x, 16 if i == 0 else 10) for i, x in enumerate(line.split())]
                for line in r.stderr.decode().splitlines() if re.fullmatch(r"[0-9a-f]+ \d+ \d+", line)]
        n = int(re.search(r"branch +([\d,]+)", r.stderr.decode())[1].replace(",", ""))
        assert sum(row[1] for row in rows) == n and all(row[2] <= row[1] for row in rows), (n, len(rows))

    # ---- what goes wrong ----

    def test_bad_input(self):
        for options, say, code in (
                (["--tool", "cuont"], "did you mean 'count'", 2), (["--tool", "count:functoins"], "no option 'functoins'", 2),
                (["--tool", "bbv:interval=0"], "interval=0: expected a number", 2), (["--tool", "bbv:interval=x"], "expected a number", 2),
                (["--tool", "cache:l1d=3"], "l1d", 2), (["--tool", "cache:preset=nope"], "preset", 2),
                (["--tool", "./none.so"], "cannot open", 2), (["--tool", "/bin/true"], "", 2),
                (["--tool", "trace:out=/no/such/dir/x"], "cannot be written", 126)):
            r = self.busybox(options, "true", check=None)
            text = r.stderr.decode()
            assert r.returncode in (code, 126) and say in text, (options, r.returncode, text)
        r = self.busybox(["--tool", "trace:out=/dev/full"], "true", check=None)
        assert b"No space left" in r.stderr, r.stderr
        r = self.busybox(["--tool", "count:out=/dev/full"], "true")
        assert b"No space left" in r.stderr, r.stderr
        r = self.busybox(["--tool", self.so(os.path.join(HERE, "crash.c"))], "true", check=None)
        assert (r.returncode in (-11, -6) or b"AddressSanitizer" in r.stderr) and b"a tool crashed" in r.stderr and b"crash.c.so" in r.stderr, r
        r = subprocess.run([self.args.dragoman, "trace", "stat", BUSYBOX], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert r.returncode == 1 and b"not a trace" in r.stderr

    def test_results_on_sigint(self):
        p = subprocess.Popen([self.args.dragoman, "run", "--tool", "count", BUSYBOX, "sleep", "30"], env={**os.environ, "DRAGOMAN_CACHE": "off"},
                             stderr=subprocess.PIPE)
        timer = threading.Timer(1, lambda: p.send_signal(2))
        timer.start()
        _, err = p.communicate(timeout=20)
        assert p.returncode == -2 and b"instructions" in err, (p.returncode, err)


class Page(html.parser.HTMLParser):
    """The elements of a page: those left open, all attributes, the texts of its reports."""
    ALONE = {"meta", "br", "hr", "img", "input", "link"}

    def __init__(self, text):
        super().__init__()
        self.open, self.attributes, self.reports = [], [], []
        self.in_report = False
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        if tag not in self.ALONE:
            self.open.append(tag)
        self.attributes += attributes
        self.in_report = ("class", "report") in attributes
        if self.in_report:
            self.reports.append("")

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> where it does not belong"
        self.in_report = False

    def handle_data(self, data):
        if self.in_report:
            self.reports[-1] += data


def feed(sim, text):
    """A trace to the simulator as the tool feeds the model: a block's lines, then its accesses."""
    block, accesses, last = [], [], None

    def flush():
        if not block:
            return
        line = 64
        at, end = block[0], block[-1] + 4
        while at < end:
            to = min(at // line * line + line, end)
            sim.access("f", at, to - at)
            at = to
        for kind, a, n in accesses:
            if kind == "A":
                sim.access("r", a, n)
                sim.access("w", a, n)
            else:
                sim.access("r" if kind == "R" else "w", a, n)
        block.clear()
        accesses.clear()

    ends = {"branch", "jump", "indirect", "call", "return", "syscall", "system"}
    ended = False
    for row in text.splitlines():
        w = row.split()
        if w[2] == "I":
            at = int(w[3], 16)
            if ended or (block and (at != block[-1] + 4 or at % 4096 == 0)):
                flush()
            block.append(at)
            ended = bool(ends & set(w[5:]))
        elif w[2] in "RWA":
            accesses.append((w[2], int(w[3], 16), int(w[4])))
    flush()


EVENTS = r"""
#include <dlfcn.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>
#ifdef LIB
int answer(void) { return 42; }
#else
static sigjmp_buf env;
static void handler(int s) { siglongjmp(env, 1); }
int main(int argc, char **argv) {
    void *lib = dlopen(argv[1], RTLD_NOW);
    int (*answer)(void) = (int (*)(void))dlsym(lib, "answer");
    if (!answer || answer() != 42) return 1;
    dlclose(lib);
    signal(SIGSEGV, handler);
    if (!sigsetjmp(env, 1)) *(volatile int *)16 = 1;
    if (!fork()) execl(argv[2], "busybox", "true", (char *)0);
    int status;
    wait(&status);
    return status;
}
#endif
"""

MARKED = r"""
#include <dragoman/mark.h>
#include <pthread.h>
#define NOPS __asm__ volatile(".rept 10\nnop\n.endr")
__attribute__((noinline)) void work(long n) { while (n--) __asm__ volatile(""); }
void *thread(void *n) { work((long)n); return 0; }
int main(void) {
    pthread_t t[2];
    for (long i = 0; i < 2; i++) {
        DGM_MARK_BEGIN();
        NOPS;
        DGM_MARK_END();
        NOPS;
    }
    for (long i = 0; i < 2; i++) {
        pthread_create(&t[i], 0, thread, (void *)(10000 * (i + 1)));
        pthread_join(t[i], 0);
    }
    return 0;
}
"""


def mix(x, word):
    """One step of the chunks' checksum."""
    x = (x ^ int.from_bytes(word, "little")) * 0xff51afd7ed558ccd % (1 << 64)
    return x ^ x >> 32


DR = {"READ": 0, "WRITE": 1, "INSTR": 10, "DIRECT_JUMP": 11, "INDIRECT_JUMP": 12, "DIRECT_CALL": 14, "INDIRECT_CALL": 15,
      "RETURN": 16, "THREAD": 22, "THREAD_EXIT": 23, "PID": 24, "HEADER": 25, "FOOTER": 26, "MARKER": 28, "ENCODING": 47,
      "TAKEN_JUMP": 48, "UNTAKEN_JUMP": 49}


def drmemtrace(path):
    with open(path, "rb") as f:
        data = f.read()
    assert len(data) % 12 == 0
    return list(struct.iter_unpack("<HHQ", data))


def dr_kind(words, taken):
    if "call" in words:
        return "INDIRECT_CALL" if "indirect" in words else "DIRECT_CALL"
    if "return" in words:
        return "RETURN"
    if "indirect" in words:
        return "INDIRECT_JUMP"
    if "jump" in words:
        return "DIRECT_JUMP"
    if "branch" in words:
        return "TAKEN_JUMP" if taken else "UNTAKEN_JUMP"
    return "INSTR"


def check_drmemtrace(entries, rows, partly):
    """The entries of one thread against its lines of `trace cat`."""
    names = {v: k for k, v in DR.items()}
    head = [(names[t], s) for t, s, _ in entries[:9]]
    assert head == [("HEADER", 0), ("MARKER", 12), ("MARKER", 9), ("THREAD", 4), ("PID", 4), ("MARKER", 10), ("MARKER", 18),
                    ("MARKER", 2), ("MARKER", 3)], head
    assert entries[1][2] == 5 and entries[2][2] == 0x60a and names[entries[-1][0]] == "FOOTER"
    assert names[entries[-2][0]] == "THREAD_EXIT" and entries[-2][2] == entries[3][2]
    calls = {int(r[1]): int(r[3]) for r in rows if r[2] == "S"}
    insns = []
    for r in rows:
        if r[2] == "I":
            insns.append((r, []))
        elif r[2] in "RWA":
            at, n, of = int(r[3], 16), int(r[4]), insns[-1][1]
            kinds = {"R": "R", "W": "W", "A": "RW"}[r[2]]
            for kind in kinds:
                if of and r[2] != "A" and of[-1][0] == kind and of[-1][1] + of[-1][2] == at:
                    of[-1] = (kind, of[-1][1], of[-1][2] + n)
                else:
                    of.append((kind, at, n))
    known, fresh, target, i, stamp, seen_calls = {}, None, None, -1, 0, 0
    accesses, interrupted, resumed = [], [], None
    for t, s, a in entries[9:-2]:
        kind = names[t]
        if kind in ("READ", "WRITE"):
            accesses.append((kind[0], a, s))
            continue
        if kind == "ENCODING":
            fresh = a.to_bytes(8, "little")[:s]
        elif kind == "MARKER" and s == 29:
            target = a
        elif kind == "MARKER" and s == 2:
            assert a >= stamp
            stamp = a
        elif kind == "MARKER" and s == 25:
            n = int(insns[i][0][1]) + 1
            assert "syscall" in insns[i][0] and calls.get(n, a) == a, (n, a)
            seen_calls += n in calls
        elif kind == "MARKER":
            assert s in (0, 1, 3), s
            if s == 0:  # a signal: where the program was, not its handler, is what the branch before it went to
                assert a in expected_next(insns[i][0]), (hex(a), insns[i][0])
                interrupted.append(a)
            elif s == 1:
                resumed = interrupted.pop()
        else:
            if i >= 0:
                assert accesses == insns[i][1], (insns[i], accesses)
            accesses = []
            i += 1
            if i == len(insns):
                assert partly
                return
            row = insns[i][0]
            at, word = int(row[3], 16), bytes.fromhex(row[4])[::-1]
            assert a == at and s == len(word), (hex(a), row)
            assert resumed in (None, at), (hex(resumed), row)
            resumed = None
            if fresh:
                assert known.get(at) != fresh
                known[at] = fresh
            assert known[at] == word, row
            assert kind == dr_kind(row[5:], "->" in row), (kind, row)
            if kind in ("INDIRECT_CALL", "INDIRECT_JUMP", "RETURN"):
                assert target == int(row[row.index("->") + 1], 16) if "->" in row else target == at + s, (row, target)
            else:
                assert target is None
            fresh = target = None
    assert i == len(insns) - 1 and accesses == insns[i][1] and seen_calls == len(calls), (i, len(insns), seen_calls, len(calls))


def expected_next(row):
    """Where the program can be after an instruction: behind it, at it (to be done again), at its target."""
    at = int(row[3], 16)
    return [at + 4, at] + [int(w, 16) for w in row if w.startswith("0x")]


def perfetto(path):
    """Slices (depth, the one outside, name, instructions, category) and names of threads; all must nest."""
    with open(path) as f:
        events = json.load(f)["traceEvents"]
    stacks, last, slices, names = collections.defaultdict(list), {}, [], {}
    for e in events:
        tid = e["tid"]
        if e["ph"] == "M":
            if e["name"] == "thread_name":
                names[tid] = e["args"]["name"]
            continue
        assert e["ts"] >= last.get(tid, 0), e
        last[tid] = e["ts"]
        if e["ph"] == "B":
            stacks[tid].append(e)
        elif e["ph"] == "E":
            b = stacks[tid].pop()
            up = stacks[tid][-1]["name"] if stacks[tid] else None
            slices.append((len(stacks[tid]), up, b["name"], e.get("args", {}).get("instructions", 0), b["cat"]))
        else:
            assert e["ph"] == "i" and stacks[tid]
    assert not any(stacks.values()) and set(stacks) == set(names)
    return slices, names


GRAPH = r"""
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
volatile int sink;
jmp_buf env;
void leaf(void) { sink++; }
void end_of_tail(void) { sink += 2; }
void tail(void) { sink++; end_of_tail(); }
void deep(int n) { sink += n; if (!n) longjmp(env, 1); deep(n - 1); sink++; }
void after_jump(void) { sink += 3; }
void callback(int i) { sink += i; }
void loop(void (*f)(int)) { for (int i = 0; i < 11; i++) f(i); sink++; }
void handler(int s) { sink += s; }
int spin(int n);
__asm__(".globl spin\n.type spin, %function\nspin: subs w0, w0, #1\n b.ne spin\n ret\n.size spin, . - spin\n");
__attribute__((optimize("O1"))) int fork_like(int n) { return n < 2 ? n : fork_like(n - 1) + fork_like(n - 2); }
int main(void) {
    for (int i = 0; i < 4; i++) spin(100);
    sink += fork_like(12);
    for (int i = 0; i < 7; i++) leaf();
    for (int i = 0; i < 5; i++) tail();
    for (volatile int i = 0; i < 3; i++) {
        if (!setjmp(env)) deep(9);
        after_jump();
    }
    signal(SIGUSR1, handler);
    raise(SIGUSR1);
    raise(SIGUSR1);
    loop(callback);
    return 0;
}
"""

# A call that a signal cuts short and that is made again.
RESTART = r"""
#include <signal.h>
#include <sys/time.h>
#include <unistd.h>
int ends[2];
void tick(int s) { write(ends[1], "x", 1); }
int main(void) {
    char c;
    struct sigaction a = {.sa_handler = tick, .sa_flags = SA_RESTART};
    struct itimerval t = {.it_value = {0, 30000}};
    pipe(ends);
    sigaction(SIGALRM, &a, 0);
    setitimer(ITIMER_REAL, &t, 0);
    return read(ends[0], &c, 1) != 1;
}
"""


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--dragoman", default=os.path.join(TOP, "build/dragoman"))
    p.add_argument("--programs", default=os.path.join(TOP, "build/test-programs"))
    p.add_argument("--only", help="tests whose name matches")
    args = p.parse_args()
    args.dragoman = os.path.abspath(args.dragoman)
    failed = 0
    for name in sorted(n for n in dir(Test) if n.startswith("test_")):
        if args.only and not re.search(args.only, name):
            continue
        with tempfile.TemporaryDirectory() as scratch:
            try:
                getattr(Test(args, scratch), name)()
                print(f"ok   tools-{name[5:]}", flush=True)
            except (AssertionError, subprocess.SubprocessError, OSError, KeyError, ValueError, TypeError) as e:
                failed += 1
                print(f"FAIL tools-{name[5:]}: {type(e).__name__}: {str(e)[:1500]}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
