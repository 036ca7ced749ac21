#!/usr/bin/env python3
"""Replays generated traces through the cache model and through the simulator below, and compares the
mask of every access and every counter.

The simulator was written from docs/tools/cache-model.md, not from the C code, and shares none of its
ideas: a set is a list of records that carry their times, replacement trees are walked by recursion,
there is no fast path. It is slow, and easy to believe.

    cache_sim.py CACHE_TRACE [NAME-PART]       all cases, or those whose name has NAME-PART
"""
import random
import subprocess
import sys

M64 = (1 << 64) - 1
UNITS = ("l1i", "l1d", "l2", "l3", "itlb", "dtlb", "stlb")
COUNTERS = ("reads", "read_misses", "writes", "write_misses", "writebacks", "prefetches", "useful",
            "back_invalidations")
L1, L2, L3, TLB, STLB = 1, 2, 4, 8, 16


# ---- The simulator ----

class Random:
    """The model's own generator: splitmix64 makes a seed for each unit, a xorshift goes on from it."""

    def __init__(self, seed, unit):
        x = (seed + (unit + 1) * 0x9e3779b97f4a7c15) & M64
        x = ((x ^ x >> 30) * 0xbf58476d1ce4e5b9) & M64
        x = ((x ^ x >> 27) * 0x94d049bb133111eb) & M64
        self.x = x ^ x >> 31 or 1

    def below(self, n):
        self.x ^= self.x << 13 & M64
        self.x ^= self.x >> 7
        self.x ^= self.x << 17 & M64
        return (self.x >> 32) * n >> 32


class Line:
    def __init__(self, number, now):
        self.number, self.born, self.used = number, now, now
        self.dirty = self.prefetched = False
        self.rrpv = 2


class Store:
    """The sets of one cache or TLB. Who asks for what is the hierarchy's business."""

    def __init__(self, cfg, seed, unit):
        self.cfg = cfg
        lines = cfg["size"] // cfg["line"]
        self.ways = cfg["ways"] or lines
        self.nsets = lines // self.ways
        self.sets = {}
        self.trees = {}
        self.random = Random(seed, unit)
        self.time = 0
        self.count = dict.fromkeys(COUNTERS, 0)
        self.streams = {}
        self.trigger = None

    def ways_of(self, number):
        index = number % self.nsets
        if index not in self.sets:
            self.sets[index] = [None] * self.ways
        return self.sets[index]

    def find(self, number):
        for line in self.sets.get(number % self.nsets, ()):
            if line and line.number == number:
                return line
        return None

    def point_away(self, tree, path, low, high, way):
        """path names a node by the turns that lead to it; True: the victim is on the right."""
        if high - low == 1:
            return
        middle = (low + high) // 2
        tree[path] = way < middle
        if way < middle:
            self.point_away(tree, path + "l", low, middle, way)
        else:
            self.point_away(tree, path + "r", middle, high, way)

    def follow(self, tree, path, low, high):
        if high - low == 1:
            return low
        middle = (low + high) // 2
        if tree.get(path, False):
            return self.follow(tree, path + "r", middle, high)
        return self.follow(tree, path + "l", low, middle)

    def tree(self, number):
        return self.trees.setdefault(number % self.nsets, {})

    def use(self, line):
        self.time += 1
        line.used, line.rrpv = self.time, 0
        way = self.ways_of(line.number).index(line)
        if self.cfg["replacement"] == "plru":
            self.point_away(self.tree(line.number), "", 0, self.ways, way)

    def victim_way(self, number):
        ways, policy = self.ways_of(number), self.cfg["replacement"]
        if None in ways:
            return ways.index(None)
        if policy == "lru":
            return min(range(self.ways), key=lambda w: ways[w].used)
        if policy == "fifo":
            return min(range(self.ways), key=lambda w: ways[w].born)
        if policy == "plru":
            return self.follow(self.tree(number), "", 0, self.ways)
        if policy == "random":
            return self.random.below(self.ways)
        while all(line.rrpv < 3 for line in ways):
            for line in ways:
                line.rrpv += 1
        return [line.rrpv for line in ways].index(3)

    def insert(self, number, way):
        self.time += 1
        line = Line(number, self.time)
        self.ways_of(number)[way] = line
        if self.cfg["replacement"] == "plru":
            self.point_away(self.tree(number), "", 0, self.ways, way)
        return line

    def drop(self, line):
        ways = self.ways_of(line.number)
        ways[ways.index(line)] = None


class Hierarchy:
    def __init__(self, cfg):
        self.units = {}
        for i, name in enumerate(UNITS):
            if cfg[name]["size"]:
                self.units[name] = Store(cfg[name], cfg["seed"], i)

    def next(self, name):
        return {"l1i": "l2", "l1d": "l2", "l2": "l3"}.get(name)

    def demand(self, name, addr, write):
        c = self.units.get(name)
        if c is None:
            return 0
        number, mask = addr // c.cfg["line"], 0
        line = c.find(number)
        c.count["writes" if write else "reads"] += 1
        if line:
            if line.prefetched:
                line.prefetched = False
                c.count["useful"] += 1
                c.trigger = number
            c.use(line)
        else:
            c.count["write_misses" if write else "read_misses"] += 1
            c.trigger = number
            mask = {"l1i": L1, "l1d": L1, "l2": L2, "l3": L3}[name]
            if write and c.cfg["allocate"] == "no":
                return mask | self.demand(self.next(name), addr, True)
            mask |= self.demand(self.next(name), addr, False)
            line = self.fill(name, number)
        if write and c.cfg["write"] == "back":
            line.dirty = True
        elif write:
            mask |= self.demand(self.next(name), addr, True)
        return mask

    def fill(self, name, number):
        c = self.units[name]
        way = c.victim_way(number)
        old = c.ways_of(number)[way]
        if old:
            dirty = old.dirty
            addr = old.number * c.cfg["line"]
            if c.cfg["inclusive"] != "no":
                dirty |= self.invalidate(name, addr, c.cfg["line"])
            if dirty:
                c.count["writebacks"] += 1
                self.write_back_to(self.next(name), addr)
        return c.insert(number, way)

    def invalidate(self, name, addr, size):
        dirty = False
        # L3 takes its line from L2 in any case, so a rule that L2 has for L1I applies as well.
        rules = [self.units[n].cfg["inclusive"] for n in ("l2", "l3")[:UNITS.index(name) - 1]]
        for above in UNITS[:UNITS.index(name)]:
            c = self.units.get(above)
            if c is None or (above == "l1i" and "yes" not in rules):
                continue
            for a in range(addr, addr + size, c.cfg["line"]):
                line = c.find(a // c.cfg["line"])
                if line:
                    c.count["back_invalidations"] += 1
                    c.count["writebacks"] += line.dirty
                    dirty |= line.dirty
                    c.drop(line)
        return dirty

    def write_back_to(self, name, addr):
        c = self.units.get(name)
        if c is None:
            return
        number = addr // c.cfg["line"]
        line = c.find(number)
        if line is None and c.cfg["allocate"] == "yes":
            line = self.fill(name, number)
        if line and c.cfg["write"] == "back":
            line.dirty = True
        else:
            self.write_back_to(self.next(name), addr)

    def quiet_read(self, name, addr):
        c = self.units.get(name)
        if c is None:
            return
        number = addr // c.cfg["line"]
        line = c.find(number)
        if line:
            c.use(line)
        else:
            self.quiet_read(self.next(name), addr)
            self.fill(name, number)

    def stride_of(self, c, number):
        region = number * c.cfg["line"] // 4096
        stream = c.streams.get(region % 16)
        if stream is None or stream["region"] != region:
            c.streams[region % 16] = {"region": region, "last": number, "stride": 0}
            return 0
        step = number - stream["last"]
        if step == 0:
            return 0
        again = step == stream["stride"]
        stream.update(stride=step, last=number)
        return step if again else 0

    def prefetch(self, name):
        while name in self.units:
            c = self.units[name]
            number, c.trigger = c.trigger, None
            if number is not None and c.cfg["prefetch"] != "none":
                step = 1 if c.cfg["prefetch"] == "nextline" else self.stride_of(c, number)
                for i in range(1, c.cfg["degree"] + 1):
                    n = number + i * step
                    if step == 0 or n * c.cfg["line"] // 4096 != number * c.cfg["line"] // 4096:
                        break
                    if c.find(n) is None:
                        c.count["prefetches"] += 1
                        self.quiet_read(self.next(name), n * c.cfg["line"])
                        self.fill(name, n).prefetched = True
            name = self.next(name)

    def translate(self, name, addr, write):
        c = self.units.get(name)
        if c is None:
            return 0
        page = addr // c.cfg["line"]
        c.count["writes" if write else "reads"] += 1
        line = c.find(page)
        if line:
            c.use(line)
            return 0
        c.count["write_misses" if write else "read_misses"] += 1
        mask = STLB
        if name != "stlb":
            mask = TLB | self.translate("stlb", addr, write)
        c.insert(page, c.victim_way(page))
        return mask

    def access(self, kind, addr, size):
        cache, tlb = ("l1i", "itlb") if kind == "f" else ("l1d", "dtlb")
        last = min(addr + max(size, 1) - 1, M64)
        mask = 0
        if tlb in self.units:
            page = self.units[tlb].cfg["line"]
            for n in range(addr // page, last // page + 1):
                mask |= self.translate(tlb, n * page, kind == "w")
        if cache in self.units:
            line = self.units[cache].cfg["line"]
            for n in range(addr // line, last // line + 1):
                mask |= self.demand(cache, n * line, kind == "w")
                self.prefetch(cache)
        return mask

    def check_inclusion(self):
        for name in ("l2", "l3"):
            c = self.units.get(name)
            if c is None or c.cfg["inclusive"] == "no":
                continue
            for above in UNITS[:UNITS.index(name)]:
                if above == "l1i" and c.cfg["inclusive"] == "data":
                    continue
                for ways in self.units[above].sets.values() if above in self.units else ():
                    for line in filter(None, ways):
                        addr = line.number * self.units[above].cfg["line"]
                        assert c.find(addr // c.cfg["line"]), f"{name} lost {addr:x} of {above}"


# ---- Configurations ----

def number(text):
    shift = {"K": 10, "M": 20, "G": 30}.get(text[-1])
    return int(text[:-1]) << shift if shift else int(text)


def config(options):
    """What the options of a case mean, of those that the cases use."""
    cfg = {"seed": 0}
    for name in UNITS:
        tlb = name.endswith("tlb")
        cfg[name] = {"size": 0, "ways": 8, "line": 4096 if tlb else 64, "replacement": "lru",
                     "write": "back", "allocate": "yes", "prefetch": "none", "degree": 1,
                     "inclusive": "no"}
    for option in options:
        key, value = option.split("=")
        if key == "seed":
            cfg["seed"] = int(value)
            continue
        unit, _, field = key.partition(".")
        u = cfg[unit]
        if field:
            u[field] = int(value) if field == "degree" else value
        elif value == "off":
            u["size"] = 0
        else:
            parts = value.split(":")
            if len(parts) > 2:
                u["line"] = number(parts[2])
            u["ways"] = 0 if parts[1] == "full" else int(parts[1])
            u["size"] = number(parts[0]) * (u["line"] if unit.endswith("tlb") else 1)
    return cfg


# Small, so that everything is thrown out all the time.
SMALL = ["l1i=1K:2:32", "l1d=1K:4:32", "l2=4K:4:64", "l3=16K:8:64",
         "itlb=4:full:4K", "dtlb=8:2:4K", "stlb=16:4:4K"]
PLAIN = [f"{u}.{f}={v}" for u in UNITS[:4] for f, v in
         (("replacement", "lru"), ("write", "back"), ("allocate", "yes"), ("prefetch", "none"),
          ("degree", 1))] + ["l2.inclusive=no", "l3.inclusive=no"]
PLAIN += [f"{u}.replacement=lru" for u in UNITS[4:]]


def each(units, field, value):
    return [f"{u}.{field}={value}" for u in units]


def cases():
    caches, tlbs = UNITS[:4], UNITS[4:]
    for policy in ("lru", "plru", "fifo", "random", "srrip"):
        own = each(caches + tlbs, "replacement", policy)
        yield policy, own + ["seed=7"]
        yield f"{policy}, inclusive", own + ["l2.inclusive=yes", "l3.inclusive=yes"]
        yield f"{policy}, inclusive of data", own + ["l2.inclusive=data", "l3.inclusive=yes"]
        yield f"{policy}, full TLBs", own + ["itlb=16:full", "dtlb=16:full", "stlb=64:8"]
        for prefetch in ("nextline", "stride"):
            yield (f"{policy}, {prefetch}, inclusive", own + each(caches, "prefetch", prefetch) +
                   ["l1d.degree=2", "l2.degree=4", "l2.inclusive=yes", "l3.inclusive=yes"])
    for write in ("back", "through"):
        for allocate in ("yes", "no"):
            for units in (("l1d",), ("l2",), ("l1d", "l2"), ("l1d", "l2", "l3")):
                for inclusive in ("no", "yes"):
                    yield (f"write {write}, allocate {allocate}: {units}, inclusive {inclusive}",
                           each(units, "write", write) + each(units, "allocate", allocate) +
                           each(("l2", "l3"), "inclusive", inclusive) +
                           each(caches, "prefetch", "nextline"))
    for prefetch in ("nextline", "stride"):
        for units in (("l1d",), ("l2",), ("l1i", "l3"), caches):
            for degree in (1, 8):
                yield (f"{prefetch} {degree}: {units}",
                       each(units, "prefetch", prefetch) + each(units, "degree", degree))
    yield "prefetchers mixed", ["l1d.prefetch=stride", "l2.prefetch=nextline", "l3.prefetch=stride",
                                "l2.inclusive=yes", "l1d.write=through", "l2.replacement=srrip"]
    for off in (("l3",), ("l3", "l2"), ("l1i",), ("l1d",), ("itlb", "stlb"), ("stlb",), ("dtlb",),
                tlbs, caches, ("l1d", "dtlb")):
        order = [f"{u}=off" for u in off]
        yield f"without {off}", order
    yield "one way, one set", ["l1i=32:1:32", "l1d=64:1:64", "l2=64:1", "l3=128:full", "dtlb=1:1"]
    yield "one way, plru", each(UNITS, "replacement", "plru") + ["l1d=1K:1", "itlb=1:full", "dtlb=2:1"]
    yield "odd ways", ["l1i=1536:3:64", "l1d=1280:5:64", "l2=6K:12", "l3=20K:20", "itlb=12:3",
                       "dtlb=10:full", "stlb=40:5"]
    yield "lines grow", ["l1i=512:2:16", "l1d=1K:2:32", "l2=8K:4:128", "l3=64K:8:1K",
                         "l2.inclusive=yes", "l3.inclusive=yes", "l2.prefetch=nextline",
                         "l3.prefetch=stride"]
    yield "big pages", ["itlb=2:full:4K", "dtlb=4:2:16K", "stlb=8:2:64K"]
    yield "many ways", ["l1d=8K:64:64", "l1d.replacement=plru", "l2=32K:128:64", "dtlb=64:64",
                        "dtlb.replacement=plru"]
    for i in range(40):
        yield f"anything {i}", anything(random.Random(i))


def anything(rng):
    options, line = [f"seed={rng.randrange(1 << 64)}"], 16
    for unit in UNITS:
        tlb = unit.endswith("tlb")
        if unit in ("itlb", "l2", "l3"):
            line = 4096 if tlb else line * rng.choice((1, 1, 2, 4))
        policy = rng.choice(("lru", "plru", "fifo", "random", "srrip"))
        ways = rng.choice((1, 2, 4, 8, 16) if policy == "plru" else (1, 2, 3, 4, 5, 7, 8, 9, 16))
        lines = ways << rng.randrange(4)
        options.append(f"{unit}={lines if tlb else lines * line}:{ways}:{line}")
        options.append(f"{unit}.replacement={policy}")
        if not tlb:
            options += [f"{unit}.write={rng.choice(('back', 'back', 'through'))}",
                        f"{unit}.allocate={rng.choice(('yes', 'yes', 'no'))}",
                        f"{unit}.prefetch={rng.choice(('none', 'nextline', 'stride'))}",
                        f"{unit}.degree={rng.randrange(1, 9)}"]
        if unit in ("l2", "l3"):
            options.append(f"{unit}.inclusive={rng.choice(('no', 'data', 'yes'))}")
    return options


# ---- Traces ----

def trace(kind, rng, n):
    code, data, top = 0x400000, 0x7f0000000000, M64
    for i in range(n):
        if kind == "random":
            yield rng.choice("frrw"), rng.choice((code, data)) + rng.randrange(1 << 16), \
                rng.choice((1, 2, 4, 8, 16))
        elif kind == "strided":
            s = (8, 64, 96, 256, 4096, -64, -136)[i // 64 % 7]
            yield "rrrwf"[i // 16 % 5], data + (1 << 20) + (i // 64 << 12) + i % 64 * s, 8
        elif kind == "looping":
            size = (512, 1536, 5 << 10, 20 << 10)[i * 4 // n]
            yield "frrrw"[i % 5], (code if i % 5 == 0 else data) + i * 24 % size, 8
        elif kind == "pages":
            yield rng.choice("frw"), data + rng.randrange(40) * 4096 - rng.randrange(24), \
                rng.choice((4, 16, 64, 150))
        elif kind == "zipf":
            yield rng.choice("frrw"), data + int(rng.paretovariate(0.7) * 40) % (1 << 18), 8
        else:  # the end of the address space, an empty access, one over many lines and pages
            yield rng.choice("frw"), rng.choice((top, top - 7, top - rng.randrange(5000), 1 << 63,
                                                 (1 << 63) - 2, 0, data + rng.randrange(9999))), \
                rng.choice((0, 1, 8, 16, 16, 300, 300, 4500))


KINDS = ("random", "strided", "looping", "pages", "zipf", "edges")


def compare(driver, name, options, kind, n):
    rng = random.Random(f"{name} {kind}")
    accesses = list(trace(kind, rng, n))
    options = SMALL + PLAIN + options
    text = "".join(f"{k} {a & M64:x} {b:x}\n" for k, a, b in accesses)
    run = subprocess.run([driver] + options, input=text, capture_output=True, text=True)
    if run.returncode:
        return f"status {run.returncode}: {run.stderr.strip()}"
    lines = run.stdout.splitlines()
    model = Hierarchy(config(options))
    for i, (k, a, b) in enumerate(accesses):
        want, got = model.access(k, a & M64, b), int(lines[0][2 * i:2 * i + 2], 16)
        if want != got:
            return f"access {i}, {k} {a & M64:x} {b}: missed {got:#x}, should be {want:#x}"
        if i % 64 == 0:
            model.check_inclusion()
    for row in lines[1:]:
        unit, *values = row.split()
        counts = model.units[unit].count if unit in model.units else dict.fromkeys(COUNTERS, 0)
        for counter, value in zip(COUNTERS, values):
            if counts[counter] != int(value):
                return f"{unit} {counter}: {value}, should be {counts[counter]}"
    return None


def main():
    driver, part = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else ""
    done = bad = 0
    for name, options in cases():
        if part not in name:
            continue
        for kind in KINDS:
            done += 1
            wrong = compare(driver, name, options, kind, 60 if kind == "edges" else 400)
            if wrong:
                bad += 1
                print(f"{name}, {kind}: {wrong}\n    {' '.join(SMALL + PLAIN + options)}")
    print(f"cache_sim: {done} replays, {bad} differ")
    sys.exit(1 if bad or not done else 0)


if __name__ == "__main__":
    main()
