#!/usr/bin/env python3
"""make bench: the same work done natively, by dragoman and by qemu-aarch64, side by side.

Programs are Debian's, unpacked by scripts/guest-root as amd64 and arm64 packages of one version, and
the kernels of bench/kernels, compiled here for both. What is measured is user + system CPU time of
the whole process tree; the figure is the median of some runs, taken in turns (native, dragoman, qemu,
native, ...) so that a slow minute of the machine hits all three. Outputs are compared: a difference
is an error. "cached" is dragoman with the translations that an earlier run kept (--cache); all else
runs without. Results go to tables, the last of which has the targets beside the values, and to
build/bench.json.
"""
import argparse
import datetime
import hashlib
import json
import math
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(HERE)
sys.path.insert(0, os.path.join(HERE, "work"))
sys.path.insert(0, HERE)
import inputs  # noqa: E402
import memory  # noqa: E402

TIMEOUT_S = 900
TRIPLET = {"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}
WORK = os.path.join(HERE, "work")

# Name, program in the root, arguments for the full and for the quick set ({data} is the folder of
# inputs, {root} the guest's or the native root), file for standard input.
PROGRAMS = [
    ("zstd -12", "usr/bin/zstd", "-12 -q -c --single-thread {data}/text", None, None),
    ("zstd -d", "usr/bin/zstd", "-d -q -c" + 16 * " {data}/text-large.zst", None, None),
    ("xz -6", "usr/bin/xz", "-6 -c -T1 {data}/text-small", None, None),
    ("bzip2", "usr/bin/bzip2", "-c {data}/text", None, None),
    ("gzip -9", "usr/bin/gzip", "-9 -n -c {data}/text-medium", None, None),
    ("lua5.4", "usr/bin/lua5.4", "{work}/work.lua 80", "{work}/work.lua 12", None),
    ("python3", "usr/bin/python3", "-S {work}/work.py 150", "-S {work}/work.py 11", None),
    ("perl", "usr/bin/perl", "{work}/work.pl 165", "{work}/work.pl 20", None),
    ("sqlite3", "usr/bin/sqlite3", ":memory:", None, "{data}/work.sql"),
    ("openssl sha512", "usr/bin/openssl", "dgst -sha512" + 16 * " {data}/text-large", None,
     None),
    ("openssl aria", "usr/bin/openssl", "enc -aria-256-ctr -K 00 -iv 00 -in {data}/text-huge", None,
     None),
    ("cc1 -O2", "{cc1}", "-quiet -fpreprocessed -O2 -fno-ident -w {data}/work.i -o -", None, None),
    ("mawk", "usr/bin/mawk", "-v SIZE=3400 -f {work}/work.awk {data}/text",
     "-v SIZE=120 -f {work}/work.awk {data}/text", None),
    ("gawk", "usr/bin/gawk", "-v SIZE=1500 -f {work}/work.awk {data}/text-medium",
     "-v SIZE=60 -f {work}/work.awk {data}/text-medium", None),
    ("sort", "usr/bin/sort", "--parallel=1 -S 400M -k 2 {data}/text-huge", None, None),
    ("bc", "usr/bin/bc", "-q {data}/work.bc", None, None),
    ("jq", "usr/bin/jq", "-S -c group_by(.s)|map({k:.[0].s,n:length,v:(map(.v)|add)}) {data}/work.json",
     None, None),
]

# Kernel, repeats of the quick set (the full set uses the kernel's own default).
KERNELS = [("crc", 400), ("bytecode", 25), ("fib", 70), ("qsort", 12), ("sieve", 30), ("sha512", 900),
           ("mix", 7000), ("nbody", 20), ("fft", 70), ("spectral", 90), ("linpack", 35),
           ("dot8", 80000), ("matmulf", 40)]
VECTOR_KERNELS = {"dot8", "matmulf"}  # compiled with -O3, so that the compiler vectorises

# Large programs that run most of their code once: mostly translation. The words are as above.
ONCE = [("cc1 -O2, 1 file", "{cc1}", "-quiet -fpreprocessed -O2 -fno-ident -w {data}/small.i -o -"),
        ("python3 library", "usr/bin/python3", "-S {work}/imports.py"),
        ("perl -MO=Deparse", "usr/bin/perl", "-MO=Deparse {work}/work.pl")]

# What issue 'near-native speed' asks: label, kind of rows, names (None: all), figure, bound. A
# figure is a ratio's name with "geomean", "worst" or "least" of the rows, "over" for milliseconds,
# "wall" for the geomean of what wall time's ratio to native is more than that of CPU time.
TARGETS = [
    ("programs, geomean x native", "program", None, "geomean dragoman/native", 1.5),
    ("worst program x native", "program", None, "worst dragoman/native", 2.3),
    ("FP kernels, worst x native", "kernel", ("nbody", "fft", "spectral", "linpack"),
     "worst dragoman/native", 1.3),
    ("SIMD kernels, worst x native", "kernel", ("dot8", "matmulf"), "worst dragoman/native", 1.5),
    ("calls and indirect branches, worst x native", None,
     ("lua5.4", "python3", "bytecode", "qsort", "fib"), "worst dragoman/native", 2.0),
    ("least speed against qemu", None, None, "least qemu/dragoman", 2.5),
    ("speed against qemu, geomean", None, None, "geomean qemu/dragoman", 4.0),
    ("wall time's ratio / CPU time's, programs", "program", None, "wall dragoman", 1.0),
    ("static true, ms over native", "startup", ("static true",), "over dragoman", 1.5),
    ("python3 -S -E -c 1, first run x native", "startup", ("python3 -S -E -c 1",),
     "worst dragoman/native", 8.0),
    ("the same, cached", "startup", ("python3 -S -E -c 1",), "worst cached/native", 2.5),
    ("all code once, worst x native", "once", None, "worst dragoman/native", 4.0),
    ("the same, cached", "once", None, "worst cached/native", 2.0),
    ("memory over native, of what is allowed", None, None, "memory dragoman", 1.0),
    ("the same, cached", None, None, "memory cached", 1.0),
]

STARTUP = [("static true", None, ""), ("dynamic true", "usr/bin/true", ""),
           ("bash -c :", "usr/bin/bash", "-c :"), ("python3 -S -E -c 1", "usr/bin/python3", "-S -E -c 1")]


def die(what, why):
    sys.exit(f"bench: {what}: {why}")


def progress(text):
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\033[K{text}")
        sys.stderr.flush()


# --- how each side starts a program ------------------------------------------------------------

class Side:
    def __init__(self, name, prefix, root, arch, cache="off"):
        self.name, self.prefix, self.root, self.arch = name, prefix, root, arch
        self.cache = cache

    def program(self, path):
        """The command for a dynamic program of the root."""
        full = os.path.join(self.root, path)
        if self.name == "native":
            lib = os.path.join(self.root, "usr/lib", TRIPLET["amd64"])
            return [os.path.join(lib, "ld-linux-x86-64.so.2"), "--library-path", lib, full]
        return self.prefix + [full]

    def kernel(self, path):
        """The command for a static program of ours."""
        return [path] if self.name == "native" else self.prefix + [path]

    def environment(self):
        """The same for all, but for where Python and Perl find their libraries."""
        lib = TRIPLET[self.arch]
        perl = [f"usr/lib/{lib}/perl-base", f"usr/lib/{lib}/perl/5.36", "usr/share/perl/5.36"]
        return {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "HOME": "/", "TZ": "UTC",
                "PYTHONHOME": os.path.join(self.root, "usr"), "PYTHONHASHSEED": "0",
                "PYTHONDONTWRITEBYTECODE": "1", "DRAGOMAN_CACHE": self.cache,
                "PERL5LIB": ":".join(os.path.join(self.root, p) for p in perl)}


def fill(side, text, data):
    cross = "gcc-cross" if side.arch == "amd64" else "gcc"
    return (text.replace("{data}", data).replace("{work}", WORK).replace("{root}", side.root)
            .replace("{cc1}", f"usr/lib/{cross}/aarch64-linux-gnu/12/cc1"))


# --- measuring ----------------------------------------------------------------------------------

class Result:
    def __init__(self, cpu_s, wall_s, status, digest, tail):
        self.cpu_s, self.wall_s, self.status = cpu_s, wall_s, status
        self.digest, self.tail = digest, tail


def run(command, env, stdin=None):
    """Runs to the end; CPU time is that of the process and all children it waited for."""
    with open(stdin or os.devnull, "rb") as source, tempfile.TemporaryFile() as errors:
        begin = time.perf_counter()
        try:
            child = subprocess.Popen(command, stdin=source, stdout=subprocess.PIPE,
                                     stderr=errors, env=env)
        except OSError as e:
            return Result(0, 0, 127, "", str(e))
        digest, tail = hashlib.sha256(), b""
        watchdog = threading.Timer(TIMEOUT_S, child.kill)
        watchdog.start()
        while chunk := child.stdout.read1(1 << 20):
            digest.update(chunk)
            tail = (tail + chunk)[-200:]
        _, status, usage = os.wait4(child.pid, 0)
        wall = time.perf_counter() - begin
        watchdog.cancel()
        child.returncode = os.waitstatus_to_exitcode(status)
        child.stdout.close()
        if child.returncode:
            errors.seek(0)
            tail = errors.read()[-300:]
    return Result(usage.ru_utime + usage.ru_stime, wall, child.returncode, digest.hexdigest(),
                  tail.decode(errors="replace").strip())


def measure(row, sides, commands, runs, stdin_of):
    """Fills row["sides"] from runs taken in turns."""
    times = {s.name: [] for s in sides}
    for side in sides:
        for _ in range(3 if side.name == "cached" else 0):  # what an earlier run would have kept
            run(commands[side.name], side.environment(), stdin_of(side))
    for turn in range(max(runs.values())):
        for side in sides:
            if turn >= runs[side.name] or side.name in row["failed"]:
                continue
            progress(f"{row['name']}: {side.name} {turn + 1}/{runs[side.name]}")
            r = run(commands[side.name], side.environment(), stdin_of(side))
            if r.status:
                row["failed"][side.name] = f"exit {r.status}: {r.tail.splitlines()[-1] if r.tail else ''}"
                continue
            if row["digest"].setdefault(side.name, r.digest) != r.digest:
                row["failed"][side.name] = "output differs from run to run"
                continue
            times[side.name].append(r)
    for name, results in times.items():
        if results and name not in row["failed"]:
            cpu_s = [r.cpu_s for r in results]
            row["sides"][name] = {"median_s": statistics.median(cpu_s), "runs_s": cpu_s,
                                  "wall_s": statistics.median(r.wall_s for r in results)}
    digests = row["digest"]
    if "native" in digests or "qemu" in digests:
        want = digests.get("native", digests.get("qemu"))
        for name, digest in digests.items():
            if digest != want:
                row["failed"][name] = "output differs from native"
    progress("")


def ratio(row, over, under):
    a, b = row["sides"].get(over), row["sides"].get(under)
    bad = over in row["failed"] or under in row["failed"]
    return a["median_s"] / b["median_s"] if a and b and b["median_s"] > 0 and not bad else None


def geomean(values):
    values = [v for v in values if v]
    return math.exp(sum(map(math.log, values)) / len(values)) if values else None


# --- preparing ----------------------------------------------------------------------------------

def compile_kernels(folder):
    """Both builds of every kernel, when older than its source. Returns the folder."""
    os.makedirs(folder, exist_ok=True)
    source_dir = os.path.join(HERE, "kernels")
    header = os.path.getmtime(os.path.join(source_dir, "kernel.h"))
    for name in ["nothing"] + [k for k, _ in KERNELS]:
        source = os.path.join(source_dir, name + ".c")
        newest = max(header, os.path.getmtime(source))
        for arch, compiler in (("amd64", "gcc"), ("arm64", "aarch64-linux-gnu-gcc")):
            out = os.path.join(folder, f"{name}.{arch}")
            if os.path.exists(out) and os.path.getmtime(out) > newest:
                continue
            level = "-O3" if name in VECTOR_KERNELS else "-O2"
            r = subprocess.run([compiler, level, "-std=gnu17", "-static", source, "-o", out, "-lm"],
                               capture_output=True, text=True)
            if r.returncode:
                die(source, r.stderr.strip())
    return folder


def prepare_data(args, native_root):
    data = inputs.make(os.path.join(args.build, "bench"), args.quick)
    packed = os.path.join(data, "text-large.zst")
    if not os.path.exists(packed):
        side = Side("native", [], native_root, "amd64")
        command = side.program("usr/bin/zstd") + ["-q", "-f", "-3", "--single-thread",
                                                  os.path.join(data, "text-large"), "-o", packed]
        if subprocess.run(command, env=side.environment()).returncode:
            die("zstd", "cannot prepare its input")
    return data


def check_versions(args):
    """Programs must be of one version on both sides, or ratios mean nothing."""
    def read(arch):
        path = os.path.join(args.guest, arch, "root.packages")
        try:
            with open(path) as f:
                return dict(line.split("_")[:2] for line in f)
        except OSError:
            die(path, f"missing; run scripts/guest-root {arch}")
    a, b = read("amd64"), read("arm64")
    for name in sorted(a.keys() & b.keys()):
        # A binary rebuild (+b1) has the same source.
        if re.sub(r"\+b\d+$", "", a[name]) != re.sub(r"\+b\d+$", "", b[name]):
            die(name, f"amd64 has {a[name]}, arm64 has {b[name]}: scripts/guest-root ARCH --refresh")


def version_line(command):
    try:
        out = subprocess.run([command, "--version"], capture_output=True, text=True).stdout
        return out.splitlines()[0] if out else "?"
    except OSError:
        return None


# --- the table ----------------------------------------------------------------------------------

def cell(value, form):
    return form.format(value) if value is not None else "-"


def print_rows(title, rows, names, unit="s"):
    """A line each: the sides' times, then their ratios."""
    if not rows:
        return
    scale, form = (1000, "{:.1f}") if unit == "ms" else (1, "{:.3f}")
    ratios = [f"{n}/native" for n in names if n != "native"]
    ratios += ["qemu/dragoman"] if "qemu" in names else []
    print(f"{title:22}" + "".join(f"{n + ' ' + unit:>13}" for n in names)
          + "".join(f"{r.replace('dragoman', 'dgm'):>14}" for r in ratios))
    for row in rows:
        line = f"{row['name']:22}"
        for name in names:
            side = row["sides"].get(name)
            text = cell(side["median_s"] * scale if side else None, form)
            line += f"{'FAIL' if name in row['failed'] else text:>13}"
        print(line + "".join(f"{cell(row[r], '{:.2f}'):>14}" for r in ratios))
        for name, why in row["failed"].items():
            print(f"  ! {name}: {why}")


def print_geomean(label, rows, names):
    ratios = [f"{n}/native" for n in names if n != "native"]
    ratios += ["qemu/dragoman"] if "qemu" in names else []
    means = {r: geomean([row[r] for row in rows]) for r in ratios}
    print(f"{label:{22 + 13 * len(names)}}" + "".join(f"{cell(means[r], '{:.2f}'):>14}" for r in ratios))
    return means


def target_value(rows, kind, names, figure):
    """The measured figure of a row of TARGETS, or None."""
    if figure.startswith("memory "):
        return max((memory.shares(r)[figure[7:]] for r in rows if figure[7:] in memory.shares(r)), default=None)
    rows = [r for r in rows if (kind is None and r["kind"] in ("program", "kernel") or r["kind"] == kind)
            and (names is None or r["name"] in names)]
    how, what = figure.split()
    both = [(r["sides"][what], r["sides"]["native"]) for r in rows if {what, "native"} <= r["sides"].keys()]
    if how == "over":  # milliseconds more than native
        return max((1000 * (a["median_s"] - b["median_s"]) for a, b in both), default=None)
    if how == "wall":
        return geomean([a["wall_s"] / b["wall_s"] / (a["median_s"] / b["median_s"]) for a, b in both])
    values = [r[what] for r in rows if r.get(what)]
    if not values:
        return None
    return {"worst": max, "least": min, "geomean": geomean}[how](values)


def print_targets(rows):
    out = []
    print(f"{'targets':46}{'asked':>8}{'measured':>10}")
    for label, kind, names, figure, bound in TARGETS:
        value = target_value(rows, kind, names, figure)
        if value is None:
            continue
        met = value >= bound if "qemu/" in figure else value <= bound
        print(f"{label:46}{bound:>8.2f}{value:>10.2f}  {'met' if met else 'missed'}")
        out.append({"target": label, "asked": bound, "measured": value, "met": met})
    return out


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--only", metavar="REGEX", default="", help="rows whose name matches")
    p.add_argument("--runs", type=int, metavar="N", help="runs of each side (default 3)")
    p.add_argument("--quick", action="store_true", help="smaller inputs, one run of qemu: < 5 minutes")
    p.add_argument("--json", metavar="FILE", help="default: build/bench.json")
    p.add_argument("--no-qemu", action="store_true")
    p.add_argument("--check", action="store_true",
                   help="fail when a row is slower than qemu or the geomean is below 1.5 times qemu")
    p.add_argument("--list", action="store_true", help="only the names of the rows")
    p.add_argument("--dragoman", default=os.path.join(TOP, "build", "dragoman"))
    p.add_argument("--qemu", default="qemu-aarch64")
    p.add_argument("--guest", default=os.path.join(TOP, "build", "guest"))
    p.add_argument("--build", default=os.path.join(TOP, "build"))
    args = p.parse_args()
    wanted = re.compile(args.only)
    if args.list:
        for name in [x[0] for x in PROGRAMS + KERNELS + STARTUP]:
            print(name)
        return
    args.guest, args.build = os.path.abspath(args.guest), os.path.abspath(args.build)
    dragoman = shutil.which(args.dragoman)
    if not dragoman:
        die(args.dragoman, "not found; run make first")
    qemu = None if args.no_qemu else shutil.which(args.qemu)
    if not qemu and not args.no_qemu:
        print(f"bench: {args.qemu} is not installed: no comparison with it", file=sys.stderr)
    check_versions(args)
    roots = {a: os.path.join(args.guest, a, "root") for a in ("amd64", "arm64")}
    # Both the real binary and, for trying this script, a qemu in its place.
    start = [dragoman] if "qemu" in os.path.basename(dragoman) else [os.path.abspath(dragoman), "run"]
    sides = [Side("native", [], roots["amd64"], "amd64"),
             Side("dragoman", start + ["-L", roots["arm64"]], roots["arm64"], "arm64")]
    kept = os.path.join(args.build, "bench", "cache")
    shutil.rmtree(kept, ignore_errors=True)
    cached = Side("cached", start + ["-L", roots["arm64"]], roots["arm64"], "arm64", kept)
    if qemu:
        sides.append(Side("qemu", [qemu, "-L", roots["arm64"]], roots["arm64"], "arm64"))
    usual = args.runs or 3
    runs = {"native": usual, "dragoman": usual, "qemu": args.runs or (1 if args.quick else 3)}
    begin = time.time()
    progress("preparing inputs and kernels")
    data = prepare_data(args, roots["amd64"])
    kernels = compile_kernels(os.path.join(args.build, "bench", "kernels"))
    peak = memory.build_helper(os.path.join(args.build, "bench"))

    def new_row(name, kind):
        return {"name": name, "kind": kind, "sides": {}, "failed": {}, "digest": {}}

    rows = []
    for name, path, full, quick, stdin in PROGRAMS:
        if not wanted.search(name):
            continue
        row = new_row(name, "program")
        words = (quick if args.quick and quick else full).split()
        commands = {s.name: s.program(fill(s, path, data)) + [fill(s, w, data) for w in words]
                    for s in sides}
        measure(row, sides, commands, runs, lambda s: fill(s, stdin, data) if stdin else None)
        rows.append(row)
    for name, quick in KERNELS:
        if not wanted.search(name):
            continue
        row = new_row(name, "kernel")
        commands = {s.name: s.kernel(os.path.join(kernels, f"{name}.{s.arch}"))
                    + ([str(quick)] if args.quick else []) for s in sides}
        measure(row, sides, commands, runs, lambda s: None)
        rows.append(row)
    for name, path, words in STARTUP:
        if not wanted.search(name):
            continue
        row = new_row(name, "startup")
        commands = {s.name: (s.program(path) if path else
                             s.kernel(os.path.join(kernels, f"nothing.{s.arch}"))) + words.split()
                    for s in sides + [cached]}
        many = {s.name: 5 if args.quick and s.name == "qemu" else 15 for s in sides + [cached]}
        measure(row, sides + [cached], commands, many, lambda s: None)
        row["memory"] = memory.measure(peak, sides[:2] + [cached], commands)
        rows.append(row)
    for name, path, words in ONCE:
        if not wanted.search(name):
            continue
        row = new_row(name, "once")
        commands = {s.name: s.program(fill(s, path, data)) + [fill(s, w, data) for w in words.split()]
                    for s in sides + [cached]}
        some = {s.name: 1 if args.quick and s.name == "qemu" else 5 for s in sides + [cached]}
        measure(row, sides + [cached], commands, some, lambda s: None)
        row["memory"] = memory.measure(peak, sides[:2] + [cached], commands)
        rows.append(row)
    if not rows:
        die(args.only, "no row has such a name; --list shows them")

    for row in rows:
        for over, under in (("dragoman", "native"), ("cached", "native"), ("qemu", "native"),
                            ("qemu", "dragoman")):
            row[f"{over}/{under}"] = ratio(row, over, under)
    names = [s.name for s in sides]
    with_cached = ["native", "dragoman", "cached"] + (["qemu"] if qemu else [])
    of = {k: [r for r in rows if r["kind"] == k] for k in ("program", "kernel", "startup", "once")}
    means = {}
    print_rows("program", of["program"], names)
    if of["program"]:
        means["programs"] = print_geomean("geomean, programs", of["program"], names)
        print()
    print_rows("kernel", of["kernel"], names)
    if of["kernel"]:
        means["kernels"] = print_geomean("geomean, kernels", of["kernel"], names)
    if of["program"] and of["kernel"]:
        means["all"] = print_geomean("geomean, all", of["program"] + of["kernel"], names)
    print()
    print_rows("start-up", of["startup"], with_cached, unit="ms")
    print()
    print_rows("all code once", of["once"], with_cached, unit="ms")
    print()
    memory.print_rows(rows)
    targets = print_targets(rows)
    took = time.time() - begin
    print(f"\nbench: {len(rows)} rows in {took:.0f} s, CPU time, medians of {runs['native']} runs"
          + (f" ({runs['qemu']} of qemu)" if qemu else "")
          + "; less is better, qemu/dgm excepted; outputs compared")

    out = args.json or os.path.join(args.build, "bench.json")
    with open(out, "w") as f:
        json.dump({"date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
                   "machine": platform.processor() or platform.machine(), "cpus": os.cpu_count(),
                   "dragoman": version_line(dragoman), "qemu": version_line(qemu) if qemu else None,
                   "quick": args.quick, "runs": runs, "seconds": round(took, 1),
                   "geomean": means, "targets": targets, "rows": rows}, f, indent=1)
        f.write("\n")
    failed = [r["name"] for r in rows if r["failed"]]
    if failed:
        print(f"bench: failed or different: {', '.join(failed)}", file=sys.stderr)
    slow = [r["name"] for r in of["program"] + of["kernel"] if (r["qemu/dragoman"] or 9) < 1]
    overall = geomean([r["qemu/dragoman"] for r in of["program"] + of["kernel"]])
    if args.check and (slow or (overall or 9) < 1.5):
        print(f"bench: slower than qemu: {', '.join(slow) or 'none'}; geomean {cell(overall, '{:.2f}')} "
              "times qemu's speed, wanted 1.5", file=sys.stderr)
        sys.exit(1)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
