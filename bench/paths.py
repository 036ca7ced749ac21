#!/usr/bin/env python3
"""make bench-paths: what a guest's root costs: find and a configure-like script with --rootfs, against
the same with the root's files named where they lie (-L). Fails above 1.3 times.
"""
import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
ASKED = 1.3
CONFIGURE = """i=0; while [ $i -lt 100 ]; do
[ -f {root}/usr/include/stdio.h ] && [ -x {root}/usr/bin/gcc ]
for d in {root}/usr/bin {root}/bin {root}/usr/lib {root}/usr/include {root}/none; do test -d $d; test -r $d/x$i; done
echo "int x$i;" > c.h; cat c.h | sed s/x/y/ > /dev/null; rm -f c.h; i=$((i+1)); done"""


def cpu_s(command, env, cwd, runs):
    times = []
    for _ in range(runs):
        a = resource.getrusage(resource.RUSAGE_CHILDREN)
        r = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=env, cwd=cwd)
        b = resource.getrusage(resource.RUSAGE_CHILDREN)
        if r.returncode:
            sys.exit(f"bench-paths: {command}: exit {r.returncode}: {r.stderr[-200:]!r}")
        times.append(b.ru_utime + b.ru_stime - a.ru_utime - a.ru_stime)
    return statistics.median(times)


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--dragoman", default=os.path.join(TOP, "build", "dragoman"))
    p.add_argument("--root", default=os.path.join(TOP, "build", "guest", "arm64", "root"))
    p.add_argument("--runs", type=int, default=7)
    args = p.parse_args()
    root, dragoman = os.path.abspath(args.root), os.path.abspath(args.dragoman)
    worst = 0
    with tempfile.TemporaryDirectory() as cwd:
        env = {"PATH": "/usr/bin:/bin", "HOME": "/", "LC_ALL": "C", "DRAGOMAN_CACHE": os.path.join(cwd, ".cache")}
        inside = [dragoman, "run", "--rootfs", root, "--bind", cwd, "--workdir", cwd]
        outside = [dragoman, "run", "-L", root]
        rows = [("find / | wc -l", ["/usr/bin/find", "{root}/usr", "{root}/etc"]),
                ("find / -ls", ["/usr/bin/find", "{root}/usr", "-ls"]),
                ("configure-like", ["/bin/dash", "-c", CONFIGURE])]
        print(f"{'':18}{'--rootfs s':>12}{'without s':>12}{'ratio':>8}  asked {ASKED}")
        for name, words in rows:
            a = cpu_s(inside + [w.replace("{root}", "") for w in words], env, cwd, args.runs)
            b = cpu_s(outside + [root + words[0]] + [w.replace("{root}", root) for w in words[1:]], env, cwd, args.runs)
            worst = max(worst, a / b)
            print(f"{name:18}{a:12.3f}{b:12.3f}{a / b:8.2f}  {'met' if a / b <= ASKED else 'missed'}")
    sys.exit(worst > ASKED)


if __name__ == "__main__":
    main()
