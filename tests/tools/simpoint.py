#!/usr/bin/env python3
"""`dragoman simpoint`: known phases are found, and what is printed is checked by a second computation.

The second computation (class Model) shares nothing with the C: it reads the .bb file with a regular
expression, projects it, and verifies from the labels alone the centres, nearest-centre labels,
representatives, weights, scores and the choice of k.
"""
import argparse
import json
import math
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time

M64 = (1 << 64) - 1


class Failure(Exception):
    pass


def require(holds, *what):
    if not holds:
        raise Failure(" ".join(str(w)[:300] for w in what))


# ---- the second computation ----

def mix(x):
    x = ((x ^ (x >> 30)) * 0xbf58476d1ce4e5b9) & M64
    x = ((x ^ (x >> 27)) * 0x94d049bb133111eb) & M64
    return x ^ (x >> 31)


def random_at(stream, place):
    return mix((stream + (place + 1) * 0x9e3779b97f4a7c15) & M64)


class Model:
    def __init__(self, text, dim=15, seed=1):
        self.dim, self.points, rows = dim, [], {}
        for line in text.splitlines():
            if not line.startswith("T"):
                continue
            pairs = [(int(b), int(c)) for b, c in re.findall(r":(\d+):(\d+)", line)]
            total = sum(c for _, c in pairs)
            point = [0.0] * dim
            for block, count in pairs:
                if block not in rows:
                    stream = random_at(mix(seed), block)
                    rows[block] = [(random_at(stream, d) >> 11) / 2.0 ** 52 - 1 for d in range(dim)]
                for d, direction in enumerate(rows[block]):
                    point[d] += count / total * direction
            self.points.append(point)

    def check(self, said, threshold=0.9, converged=True):
        labels, n = said["labels"], len(self.points)
        require(said["intervals"] == n == len(labels), "intervals", said["intervals"], n)
        k = max(labels) + 1
        members = [[i for i in range(n) if labels[i] == c] for c in range(k)]
        require(k == said["k"] == len(said["simpoints"]) and all(members), "clusters", k, said["k"])
        require([m[0] for m in members] == sorted(m[0] for m in members), "clusters by time")
        centres = [[math.fsum(self.points[i][d] for i in m) / len(m) for d in range(self.dim)] for m in members]
        distance = [[math.dist(p, c) for c in centres] for p in self.points]
        for c, point in enumerate(said["simpoints"]):
            require(point["cluster"] == c and point["intervals"] == len(members[c]), "cluster", c, point)
            require(abs(point["weight"] - len(members[c]) / n) < 1e-12, "weight", c, point)
            if converged:
                near = min(distance[i][c] for i in members[c])
                require(labels[point["interval"]] == c, "representative of another cluster", point)
                require(distance[point["interval"]][c] <= near + 1e-9, "representative", c, point)
        if converged:
            for i in range(n):
                require(distance[i][labels[i]] <= min(distance[i]) + 1e-9, f"interval {i}: label", labels[i])
        self.check_scores(said, members, distance, threshold, converged)

    def check_scores(self, said, members, distance, threshold, converged):
        scores, n, k = said["scores"], len(self.points), len(members)
        low, high = min(s["bic"] for s in scores), max(s["bic"] for s in scores)
        chosen = next(s for s in scores if s["bic"] >= low + (high - low) * threshold)
        require(chosen["k"] == k, "chosen k", k, "by scores", chosen)
        require([s["k"] for s in scores] == list(range(scores[0]["k"], scores[0]["k"] + len(scores))), "k in order")
        if converged:
            distortion = sum(distance[i][c] ** 2 for c, m in enumerate(members) for i in m)
            require(math.isclose(distortion, chosen["distortion"], rel_tol=1e-6, abs_tol=1e-12), "distortion", chosen)
            variance = max(distortion / (self.dim * n), 1e-12)
            bic = (-n * self.dim / 2 * (math.log(2 * math.pi * variance) + 1)
                   + sum(len(m) * math.log(len(m) / n) for m in members)
                   - ((k - 1) + k * self.dim + 1) / 2 * math.log(n))
            require(math.isclose(bic, chosen["bic"], rel_tol=1e-6, abs_tol=1e-3), "BIC", bic, chosen)


# ---- vectors with known phases ----

def phases_text(rng, phases, order, noise=0, blocks=150):
    """One line for each phase number of `order`; noise: the most that is added to each block."""
    lines = []
    for phase in order:
        vector = dict(phases[phase])
        for block in range(1, blocks + 1) if noise else ():
            vector[block] = vector.get(block, 0) + rng.randrange(noise)
        lines.append("T" + " ".join(f":{b}:{c}" for b, c in vector.items()) + " \n")
    return "".join(lines)


def random_phases(rng, n):
    return [{b: rng.randrange(10000, 100000) for b in rng.sample(range(1, 151), rng.randrange(3, 20))}
            for _ in range(n)]


def same_partition(a, b):
    return len(set(zip(a, b))) == len(set(a)) == len(set(b))


class Tests:
    def __init__(self, args):
        self.dragoman = os.path.abspath(args.dragoman)
        self.scratch = tempfile.mkdtemp(prefix="dragoman-simpoint-")
        self.rng = random.Random(args.seed)
        self.rounds = args.rounds

    def path(self, name):
        return os.path.join(self.scratch, name)

    def run(self, *words, stdin=b""):
        if isinstance(stdin, str):
            stdin = stdin.encode()
        r = subprocess.run([self.dragoman, "simpoint", *words], input=stdin, timeout=120,
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=self.scratch)
        require(r.returncode in (0, 1, 2), words, "exit", r.returncode, r.stderr)
        return r.returncode, r.stdout.decode(), r.stderr.decode()

    def json(self, text, *words):
        status, out, err = self.run("--json", *words, "-", stdin=text)
        require(status == 0 and not err, words, "exit", status, err)
        return json.loads(out)

    # --- the tests ---

    def test_exact_phases(self):
        for n in range(1, 9):
            phases = random_phases(self.rng, n)
            order = list(range(n)) + [self.rng.randrange(n) for _ in range(200)]
            text = phases_text(self.rng, phases, order)
            said = self.json(text)
            require(said["k"] == n == said["distinct"] and same_partition(said["labels"], order), n, "phases", said["k"])
            require(said["labels"] == order, "numbered by first interval")
            for c, point in enumerate(said["simpoints"]):
                require(point["interval"] == c, "the first of equals", point)
                require(abs(point["weight"] - order.count(c) / len(order)) < 1e-12, "weight", point)
            Model(text).check(said)

    def test_noisy_phases(self):
        for n in (2, 3, 5, 7):
            order = list(range(n)) + [self.rng.randrange(n) for _ in range(250)]
            text = phases_text(self.rng, random_phases(self.rng, n), order, noise=20)
            for words in (["--max-k", "15"], ["--k", str(n)], ["--max-k", "12", "--seed", "99"]):
                said = self.json(text, *words)
                require(same_partition(said["labels"], order), n, "phases", words, "found", said["k"])
                Model(text, seed=99 if "99" in words else 1).check(said)

    def test_no_phases(self):
        """Uniform noise: whatever comes out must be a proper clustering by its own scores."""
        for dim, threshold, iterations in ((1, 0.5, 1000), (3, 0.9, 1000), (15, 1.0, 1000), (40, 0.0, 1000), (5, 0.7, 2)):
            text = phases_text(self.rng, [{}], [0] * 150, noise=1000, blocks=30)
            said = self.json(text, "--dim", str(dim), "--bic-threshold", str(threshold), "--iters", str(iterations))
            Model(text, dim).check(said, threshold, converged=iterations > 100)

    def test_restarts(self):
        """The best of many is never worse than the best of the first few, and on a hard case better."""
        text = phases_text(self.rng, [{}], [0] * 150, noise=1000, blocks=30)
        few, many = (self.json(text, "--restarts", n, "--max-k", "12")["scores"] for n in ("1", "12"))
        require(all(a["bic"] <= b["bic"] for a, b in zip(few, many)), few, many)
        require(sum(a["bic"] < b["bic"] for a, b in zip(few, many)) > 3, few, many)

    def test_threads(self):
        text = phases_text(self.rng, random_phases(self.rng, 6), [self.rng.randrange(6) for _ in range(400)], noise=3000)
        with open(self.path("t.bb"), "w") as f:
            f.write(text)
        seen = set()
        for threads in (1, 2, 3, 8, 64):
            for _ in range(2):
                status, out, err = self.run("--json", "--threads", str(threads), "-o", f"t{threads}", "t.bb")
                require(status == 0 and not err, err)
                files = tuple(open(self.path(f"t{threads}.{s}")).read() for s in ("simpoints", "weights"))
                seen.add((out, files))
        require(len(seen) == 1, len(seen), "results by different numbers of threads")
        require(self.json(text, "--seed", "2")["scores"] != json.loads(out)["scores"], "the seed does nothing")

    def test_order_and_scale(self):
        """Neither the order of blocks nor an interval's length matters."""
        order = [self.rng.randrange(4) for _ in range(100)]
        phases = random_phases(self.rng, 4)
        lines = []
        for phase in order:
            pairs = list(phases[phase].items())
            self.rng.shuffle(pairs)
            scale = self.rng.choice((1, 1, 10, 10 ** 12))
            lines.append("T" + self.rng.choice(("", "  ", "\t")).join(f":{b}:{c * scale}" for b, c in pairs) + "\n")
        said = self.json("".join(lines), "--max-k", "8")
        require(same_partition(said["labels"], order), "found", said["k"])

    def test_files(self):
        order = [0, 0, 1, 0, 2, 2, 0, 1]
        text = phases_text(self.rng, random_phases(self.rng, 3), order)
        with open(self.path("f.bb"), "w") as f:
            f.write(text)
        status, out, err = self.run("-o", "f", "--save-simpoints=s", "--save-weights", "w", "--save-labels", "l", "f.bb")
        require(status == 0 and not err, err)
        read = lambda name: open(self.path(name)).read()
        require(read("f.simpoints") == read("s") == "0 0\n2 1\n4 2\n", read("s"))
        require(read("f.weights") == read("w") == "0.5 0\n0.25 1\n0.25 2\n", read("w"))
        require([int(x.split()[0]) for x in read("l").splitlines()] == order, read("l"))
        require(all(re.fullmatch(r"\d+ [\d.e+-]+", x) for x in read("l").splitlines()), read("l"))
        table = [[float(w) for w in line.split()] for line in out.splitlines() if re.match(r"\s*\d+\s+\d+\s+0\.", line)]
        require(table == [[0, 0, .5, 4], [1, 2, .25, 2], [2, 4, .25, 2]], out)
        for words in (["-o", "/nonexistent/x"], ["--save-weights", "/nonexistent/x"], ["--save-labels", "/dev/full"]):
            status, out, err = self.run(*words, "f.bb")
            require(status == 1 and words[1].split("/x")[0] in err, words, status, err)

    def test_dialects(self):
        """Valgrind's, QEMU's, gem5's, PinPlay's, and one with the other system's line ends."""
        for text in ("T:1:50 :2:50 \nT:3:100 \n\n\n# Thread 1\n#   Total intervals: 2 (Interval Size 100)\n",
                     "T:1:50:2:50\nT:3:100\n", "T:1:50   :2:50 \nT:3:100 \n", "T :1:50\t:2:50\r\nT:3:100\r\n\r\n",
                     "M: SYS_init 1\n#\nI: 0\nC: sum:dummy\nT:1:50 :2:50 \nS: 5\nT:3:7 :3:7\n",
                     "T:1:50 :2:50 :9:0\nT:18446744073709551615:18446744073709551615\n"):
            require(self.json(text)["labels"] == [0, 1], text)
        require(self.json("T:1:1\n")["simpoints"] == [{"cluster": 0, "interval": 0, "weight": 1, "intervals": 1}])

    def test_bad_files(self):
        good = "T:1:5\n"
        for text, line in (("", 0), ("\n# nothing\n", 0), ("hello\n", 1), (good + "x\n", 2), (good * 3 + " T:1:5\n", 4),
                           (good + "T\n", 2), (good + "T:\n", 2), (good + "T:1\n" + good, 2), (good + "T:1:\n", 2),
                           (good + "T:1:2:\n", 2), (good + "T:1:2 :3\n", 2), (good + "T:1:-2\n", 2), (good + "T:1:2.5\n", 2),
                           (good + "T:1:2 3\n", 2), (good + "T:1: 2\n", 2), (good + "T:1:0 :2:0\n", 2), (good + "T1:2\n", 2),
                           (good + "T:1:18446744073709551616\n", 2), (good + "T:99999999999999999999:1\n", 2),
                           (good + "T:1:2 :\0:3\n", 2), ("\x1f\x8b\x08", 0), (good + "T:1:2 :x", 2), (good + "\0", 2),
                           ("T:1:2 :3", None), ("T", 0), ("T:1:", 0)):
            status, out, err = self.run("-", stdin=text.encode("latin1"))
            if line is None:
                require(status == 0 and "-:1: warning: the last line has no end" in err, repr(text), status, err)
                continue
            where = f"dragoman: simpoint: -:{line}: " if line else "dragoman: simpoint: -: "
            require(status == 1 and not out and err.startswith(where) and err.count("\n") == 1, repr(text), status, err)
        for name in ("nowhere.bb", "."):
            status, out, err = self.run(name)
            require(status == 1 and not out and f"simpoint: {name}" in err, name, status, err)

    def test_cut_files(self):
        """A file that ends anywhere: the whole lines count, and what is whole of the last."""
        text = "T:10:20 :30:40 \nT:5:6\n# end\nT:7:8 :9:10\n"
        for n in range(1, len(text) + 1):
            cut = text[:n]
            status, out, err = self.run("--json", "-", stdin=cut)
            whole = cut.count("\nT:5:6\n") + cut.startswith("T:10:20 :30:40 \n") + cut.endswith("T:7:8 :9:10\n")
            rest = cut[cut.rfind("\n") + 1:]
            want = whole + bool(re.match(r"T:\d+:\d", rest))
            require(status == (0 if want else 1), repr(cut), status, err)
            if want:
                require(json.loads(out)["intervals"] == want, repr(cut), out)
                require(bool(rest) == ("warning" in err), repr(cut), err)

    def test_damage(self):
        text = phases_text(self.rng, random_phases(self.rng, 3), [self.rng.randrange(3) for _ in range(30)]).encode()
        for _ in range(self.rounds):
            data = bytearray(text)
            for _ in range(self.rng.randrange(1, 6)):
                data[self.rng.randrange(len(data))] = self.rng.choice((self.rng.randrange(256), *b"T:\n 09"))
            status, out, err = self.run("--json", "--max-k", "4", "--restarts", "1", "-", stdin=bytes(data))
            require(status == 1 and err or status == 0 and json.loads(out)["k"] in (1, 2, 3, 4), data, status, err)

    def test_too_many(self):
        text = phases_text(self.rng, random_phases(self.rng, 3), [0, 1, 2, 1])
        status, out, err = self.run("--k", "10", "--json", "-", stdin=text)
        require(status == 0 and json.loads(out)["k"] == 3 and "3 clusters, not 10" in err, status, err)
        require(self.json(text, "--k", "2")["k"] == 2, "exactly two")
        require(self.json("T:1:1\n" * 50)["k"] == 1, "equal vectors")

    def test_options(self):
        with open(self.path("o.bb"), "w") as f:
            f.write("T:1:1\nT:2:1\n")
        for words, said in ((["--max-kk", "4", "o.bb"], "did you mean '--max-k'"), (["--thread", "4", "o.bb"], "'--threads'"),
                            (["-x", "o.bb"], "no such option"), (["--k"], "needs an argument"), (["--json=1", "o.bb"], "no argument"),
                            (["--k", "0", "o.bb"], "--k 0"), (["--k=-1", "o.bb"], "-1"), (["--k", "1001", "o.bb"], "1001"),
                            (["--dim", "x", "o.bb"], "--dim x"), (["--threads", "0", "o.bb"], "--threads 0"),
                            (["--bic-threshold", "1.1", "o.bb"], "1.1"), (["--bic-threshold", "nan", "o.bb"], "nan"),
                            (["--seed", "18446744073709551616", "o.bb"], "range"), (["o.bb", "p.bb"], "one file"), ([], "no file")):
            status, out, err = self.run(*words)
            require(status == 2 and not out and said in err, words, status, err)
        for words in (["--help"], ["-h"], ["--k", "2", "--help"]):
            status, out, err = self.run(*words)
            require(status == 0 and "Usage: dragoman simpoint" in out and not err, words, status, err)
            require(all(o in out for o in ("--max-k", "--save-labels", "Examples:")), out)
        require(self.run("--", "o.bb")[0] == 0, "-- before the file")

    def all(self, only):
        failed = 0
        for name in [n for n in dir(self) if n.startswith("test_") and re.search(only, n)]:
            begin = time.time()
            try:
                getattr(self, name)()
                print(f"ok   simpoint-{name[5:]} ({time.time() - begin:.1f} s)", flush=True)
            except (Failure, subprocess.TimeoutExpired, ValueError) as e:
                failed += 1
                print(f"FAIL simpoint-{name[5:]}: {e}", flush=True)
        shutil.rmtree(self.scratch, ignore_errors=True)
        return failed


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--dragoman", default="build/dragoman")
    p.add_argument("--only", default="")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--rounds", type=int, default=100, help="of damage")
    args = p.parse_args()
    sys.exit(1 if Tests(args).all(args.only) else 0)


if __name__ == "__main__":
    main()
