#!/usr/bin/env python3
"""QEMU's own plugins under Dragoman and under QEMU: the same counts, to the unit.

A program's start depends on the kernel that it sees (one more entry in the auxiliary vector is five
instructions), so each program runs with little and with much to do, and what the second did more must
be equal. Needs `scripts/guest-root plugins` (QEMU's source package; the plugins are compiled there);
without it the tests are skipped, and say so.
"""
import argparse
import glob
import os
import re
import subprocess
import sys
import tempfile

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUSYBOX = os.path.join(TOP, "build/guest/arm64/busybox/bin/busybox")
PLUGINS = os.path.join(TOP, "build/guest/plugins")

# name, arguments with {n}, little, much
PROGRAMS = [
    ("seq", ["seq", "1", "{n}"], 30, 300),
    ("awk", ["awk", "BEGIN {{ for (i = 0; i < {n}; i++) s += i * i % 7; print s }}"], 5, 1000),
    ("sh", ["sh", "-c", "i=0; while [ $i -lt {n} ]; do i=$((i + 1)); done; echo $i"], 3, 100),
    ("md5", ["md5sum", "{file}"], 3, 30),
    ("sha256", ["sha256sum", "{file}"], 3, 30),
    ("gzip", ["gzip", "-c", "{file}"], 3, 20),
    ("sort", ["sort", "-n", "{file}"], 3, 20),
    ("sed", ["sed", "s/1/one/g", "{file}"], 3, 20),
    ("wc", ["wc", "{file}"], 3, 30),
    ("od", ["od", "-x", "{file}"], 3, 30),
]
MEASURES = [("libinsn.so,inline=on", r"insns: (\d+)"), ("libinsn.so", r"total insns: (\d+)"),
            ("libbb.so,inline=on", r"bb's: (\d+), insns: (\d+)"), ("libbb.so", r"bb's: (\d+), insns: (\d+)"),
            ("libmem.so,inline=true", r"inline mem accesses: (\d+)"),
            ("libmem.so,callback=true", r"callback mem accesses: (\d+)")]
CPU = "cortex-a72"  # what both have all of


def run(emulator, plugin, argv):
    command = [emulator, "-cpu", CPU, "-d", "plugin", "-plugin", plugin, BUSYBOX] + argv
    r = subprocess.run(command, env={**os.environ, "DRAGOMAN_CACHE": "off"}, stdout=subprocess.DEVNULL,
                       stderr=subprocess.PIPE, timeout=120)
    return r.stderr.decode(errors="replace")


def make_file(directory, lines):
    path = os.path.join(directory, "%05d" % lines)
    with open(path, "w") as f:
        for i in range(lines):
            f.write("line %d of a file that is the same each time, %x\n" % (i, i * 2654435761 % 2**32))
    return path


def counts(emulator, plugin, pattern, program, n, directory):
    _, argv, _, _ = program
    argv = [a.format(n=n, file=make_file(directory, n * 10)) for a in argv]
    text = run(emulator, os.path.join(PLUGINS, plugin), argv)
    m = re.search(pattern, text)
    if not m:
        raise RuntimeError(f"{emulator} {plugin} {argv[0]}: no counts in {text[:300]!r}")
    return [int(x) for x in m.groups()]


def same_counts(args, directory, release, oracle):
    failed = 0
    for program in PROGRAMS:
        name, _, little, much = program
        if little is None or (args.only and not re.search(args.only, name)):
            continue
        for plugin, pattern in MEASURES:
            if not os.path.exists(os.path.join(PLUGINS, release, plugin.split(",")[0])):
                continue
            more = []
            for emulator in (oracle, args.dragoman + "-aarch64"):
                a = counts(emulator, release + "/" + plugin, pattern, program, little, directory)
                b = counts(emulator, release + "/" + plugin, pattern, program, much, directory)
                more.append([y - x for x, y in zip(a, b)])
            ok = more[0] == more[1] and more[0][0] > 0
            failed += not ok
            if not ok or args.verbose:
                print(f"{'ok  ' if ok else 'FAIL'} {name} {plugin}: QEMU {more[0]}, Dragoman {more[1]}")
        print(f"ok   plugins-{name}", flush=True) if not failed else None
    return failed


def all_run(args, release):
    """Every plugin that compiles does under Dragoman what it does under QEMU: ends, or says why not."""
    refuse = {"libhwprofile.so": 2, "libstoptrigger.so": 2, "liblockstep.so": 2, "libips.so": -6}
    failed = 0
    for path in sorted(glob.glob(os.path.join(PLUGINS, release, "*.so"))):
        name = os.path.basename(path)
        plugin = path + (",outfile=" + os.devnull if name == "libbbv.so" else "")
        plugin += ",filename=" + os.devnull if name == "libdrcov.so" else ""
        r = subprocess.run([args.dragoman + "-aarch64", "-d", "plugin", "-plugin", plugin, BUSYBOX, "seq", "3"],
                           env={**os.environ, "DRAGOMAN_CACHE": "off"}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120)
        want = refuse.get(name, 0)
        ok = r.returncode == want and (want or r.stdout == b"1\n2\n3\n")
        failed += not ok
        print(f"{'ok  ' if ok else 'FAIL'} plugin-runs-{release}-{name[3:-3]}"
              + ("" if ok else f": exit {r.returncode}: {r.stderr[:200]!r}"))
    return failed


def bad_plugins(args, directory):
    failed = 0
    text = os.path.join(directory, "text.so")
    with open(text, "w") as f:
        f.write("no plugin\n")
    old = os.path.join(directory, "old.c")
    with open(old, "w") as f:
        f.write("int qemu_plugin_version = 99; int qemu_plugin_install() { return 0; }\n")
    subprocess.run(["gcc", "-shared", "-fPIC", old, "-o", old + ".so"], check=True)
    for name, plugin, say in (("missing", "/no/such.so", "No such file"), ("text", text, "invalid ELF|file too short"),
                              ("version", old + ".so", "version 99"), ("empty", "", "no file")):
        r = subprocess.run([args.dragoman, "run", "--plugin", plugin, BUSYBOX, "true"],
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
        err = r.stderr.decode()
        ok = r.returncode == 2 and re.search(say, err) and err.count("\n") == 1
        failed += not ok
        print(f"{'ok  ' if ok else 'FAIL'} plugin-bad-{name}" + ("" if ok else f": {r.returncode} {err!r}"))
    return failed


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--dragoman", default=os.path.join(TOP, "build/dragoman"))
    p.add_argument("--only", help="programs whose name matches")
    p.add_argument("--verbose", action="store_true", help="every count")
    args = p.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        failed = bad_plugins(args, directory)
        if not os.path.exists(os.path.join(PLUGINS, "stamp")):
            print("skip plugins: no build/guest/plugins; scripts/guest-root plugins makes it")
            return 1 if failed else 0
        for release in sorted(os.listdir(PLUGINS)):
            if glob.glob(os.path.join(PLUGINS, release, "*.so")):
                failed += all_run(args, release)
        failed += same_counts(args, directory, "bookworm", "qemu-aarch64")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
