#!/usr/bin/env python3
"""make bench-scaling: threads under dragoman beside native ones: two threads of independent work against
one, contended atomics and mutexes, threads that start and end. Wall time, medians of runs in turns; give it
two idle cores.
"""
import argparse
import os
import statistics
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(HERE)


def compiled(folder):
    os.makedirs(folder, exist_ok=True)
    source = os.path.join(HERE, "kernels", "scaling.c")
    out = {}
    for arch, command in (("amd64", ["gcc"]), ("arm64", ["aarch64-linux-gnu-gcc", "-march=armv8-a+lse"])):
        out[arch] = os.path.join(folder, "scaling." + arch)
        subprocess.run([*command, "-O2", "-std=gnu17", "-pthread", "-static", source, "-o", out[arch]], check=True)
    return out


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--dragoman", default=os.path.join(TOP, "build", "dragoman"))
    p.add_argument("--build", default=os.path.join(TOP, "build"))
    p.add_argument("--runs", type=int, default=9)
    args = p.parse_args()
    programs = compiled(os.path.join(os.path.abspath(args.build), "bench", "kernels"))
    sides = {"native": [programs["amd64"]], "dragoman": [os.path.abspath(args.dragoman), "run", programs["arm64"]]}
    env = {"PATH": "/usr/bin:/bin", "DRAGOMAN_CACHE": "off"}

    def seconds(side, mode, threads, repeats):
        command = [*sides[side], mode, str(threads), str(repeats)]
        r = subprocess.run(command, capture_output=True, text=True, env=env)
        if r.returncode:
            sys.exit(f"bench-scaling: {side} {mode}: exit {r.returncode}: {r.stderr.strip()[-200:]}")
        return float(r.stdout)

    missed = False
    # A turn's two runs follow each other: what the machine's other guests take then, both are without.
    turns = [{s: 2 * seconds(s, "work", 1, 200_000_000) / seconds(s, "work", 2, 200_000_000) for s in sides}
             for _ in range(args.runs)]
    for side in sides:
        times = statistics.median(t[side] for t in turns)
        asked = 1.9 if side == "dragoman" else None
        print(f"{side:9} two threads do {times:.2f} times the work of one" + (f"   asked {asked}" if asked else ""))
        missed |= bool(asked and times < asked)
    for mode, threads, repeats, asked in (("atomic", 2, 5_000_000, 1.5), ("mutex", 2, 2_000_000, 1.5),
                                          ("start", 8, 125, None)):
        turns = [{s: seconds(s, mode, threads, repeats) for s in sides} for _ in range(args.runs)]
        t = {s: statistics.median(turn[s] for turn in turns) for s in sides}
        ratio = t["dragoman"] / t["native"]
        print(f"{mode:9} native {t['native']:.3f} s, dragoman {t['dragoman']:.3f} s, {ratio:.2f} times"
              + (f"   asked {asked}" if asked else f"   ({threads * repeats} threads)"))
        missed |= bool(asked and ratio > asked)
    sys.exit(missed)


if __name__ == "__main__":
    main()
