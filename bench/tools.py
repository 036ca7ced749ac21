#!/usr/bin/env python3
"""make bench-tools: what watching costs, against the same program without a tool, side by side.

Every row is one thing that tools do, every column a program; wall time, medians. The last table has
what was asked beside what was measured (geometric means over the programs).
"""
import argparse
import json
import math
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(TOP, "bench"))
import bench  # noqa: E402: its kernels
PROGRAMS = ["crc", "bytecode", "mix", "qsort", "sieve"]  # bench/kernels; calls: fib, in a row of its own
CACHE = "cache:out=/dev/null"
WORK, HEAVY_WORK = 500_000_000, 80_000_000  # rounds of a thread; where each instruction or access is looked at

# name, tool, what is asked, of what
ROWS = [
    ("a tool that asks for nothing", "{so}:what=nothing", 1.00, "x"),
    ("count (instructions)", "count:out=/dev/null", 1.03, "x"),
    ("block counts", "{so}:what=blocks", 1.10, "x"),
    ("bbv, 10 M instructions", "bbv:out=/dev/null", 1.12, "x"),
    ("profile, call graph", "profile:nolines,out=/dev/null", 1.5, "x"),
    ("profile with lines and loops", "profile:out=/dev/null", None, "x"),
    ("cache L1I+L1D+L2", CACHE, 8, "x"),
    ("every access to a consumer", "{so}:what=records", 300, "M/s"),
    ("a call on every block", "{so}:what=call-blocks", 120, "M/s"),
    ("a call on every instruction", "{so}:what=call-insns", 400, "M/s"),
    ("trace to disk", "trace:out={scratch}/t.dgt", 30, "M/s"),
]


def run(dragoman, program, tool=None):
    command = [dragoman, "run", "--cache", "off"] + (["--tool", tool] if tool else []) + [program]
    start = time.perf_counter()
    r = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=600)
    seconds = time.perf_counter() - start
    if r.returncode:
        sys.exit(f"bench-tools: {command}: exit {r.returncode}: {r.stderr[:300]!r}")
    m = re.search(rb"times (\d+)", r.stderr)
    return seconds, int(m[1]) if m else 0


def geomean(xs):
    return math.exp(statistics.fmean(math.log(x) for x in xs))


def trace_records(dragoman, path):
    r = subprocess.run([dragoman, "trace", "stat", "--brief", "--json", path], stdout=subprocess.PIPE, check=True)
    s = json.loads(r.stdout)
    return s["instructions"] + s["accesses"], s["bytes_per_record"]


def threads(args, so, scratch):
    """Two guest threads that each do the work against one that does it twice."""
    source = os.path.join(TOP, "bench/kernels/scaling.c")
    program = os.path.join(scratch, "scaling")
    subprocess.run(["aarch64-linux-gnu-gcc", "-O2", "-static", "-pthread", "-w", source, "-o", program], check=True)
    print("\ntwo threads against one with the same work (asked 1.8)")
    for name, tool, _, unit in [("no tool", None, 0, "x")] + ROWS:
        work = HEAVY_WORK if unit == "M/s" or tool == CACHE else WORK
        tool = tool and tool.format(so=so, scratch=scratch)
        t = []
        for n, repeats in ((1, 2 * work), (2, work)):
            command = [args.dragoman, "run", "--cache", "off"] + (["--tool", tool] if tool else [])
            command += [program, "work", str(n), str(repeats)]
            best = []
            for _ in range(args.runs):
                start = time.perf_counter()
                r = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=900)
                best.append(time.perf_counter() - start)
                if r.returncode:
                    sys.exit(f"bench-tools: {command}: exit {r.returncode}")
            t.append(min(best))
        print(f"{name:32} {t[0]:8.2f} s {t[1]:8.2f} s {t[0] / t[1]:8.2f} x", flush=True)


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--dragoman", default=os.path.join(TOP, "build/dragoman"))
    p.add_argument("--kernels", default=os.path.join(TOP, "build/bench/kernels"))
    p.add_argument("--runs", type=int, default=3)
    p.add_argument("--no-threads", action="store_true")
    args = p.parse_args()
    args.dragoman = os.path.abspath(args.dragoman)
    with tempfile.TemporaryDirectory() as scratch:
        so = os.path.join(scratch, "rates.so")
        subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-I" + TOP + "/include",
                        os.path.join(TOP, "bench/tools/rates.c"), "-o", so], check=True)
        bench.compile_kernels(args.kernels)
        programs = [os.path.join(args.kernels, k + ".arm64") for k in PROGRAMS]
        print(f"{'':32}" + "".join(f"{k:>10}" for k in PROGRAMS) + f"{'geomean':>10}")
        ratios = {row[0]: [] for row in ROWS}
        note = ""
        cells = {row[0]: [] for row in ROWS}
        base = []
        for program in programs:
            print(f"bench-tools: {os.path.basename(program)}", file=sys.stderr, flush=True)
            # interleaved, so that a slow minute hits all
            t = {None: []}
            n = {}
            for _ in range(args.runs):
                t[None].append(run(args.dragoman, program)[0])
                for name, tool, _, unit in ROWS:
                    seconds, n[name] = run(args.dragoman, program, tool.format(so=so, scratch=scratch))
                    t.setdefault(name, []).append(seconds)
            plain = statistics.median(t[None])
            base.append(plain)
            for name, tool, _, unit in ROWS:
                seconds = statistics.median(t[name])
                if tool.startswith("trace"):
                    n[name], each = trace_records(args.dragoman, os.path.join(scratch, "t.dgt"))
                    note = f"{note} {each:.3f}"
                cells[name].append(seconds / plain if unit == "x" else n[name] / seconds / 1e6)
        print(f"{'without a tool, seconds':32}" + "".join(f"{b:10.2f}" for b in base))
        for name, _, asked, unit in ROWS:
            print(f"{name + ', ' + unit:32}" + "".join(f"{c:10.2f}" for c in cells[name]) + f"{geomean(cells[name]):10.2f}")
        print(f"{'trace, bytes a record':32}" + "".join(f"{float(x):10.3f}" for x in note.split()))
        print(f"\n{'':32}{'asked':>10}{'measured':>10}")
        for name, _, asked, unit in ROWS:
            if asked is None:
                continue
            got = geomean(cells[name])
            met = got <= asked * 1.005 if unit == "x" else got >= asked
            print(f"{name + ', ' + unit:32}{asked:10.2f}{got:10.2f}  {'met' if met else 'missed'}")
        if not args.no_threads:
            threads(args, so, scratch)


if __name__ == "__main__":
    main()
