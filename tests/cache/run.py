#!/usr/bin/env python3
"""Translations kept on disk: cold, warm, damaged, shared, bounded, and never of other code.

Every test starts dragoman on Debian's arm64 programs (or on one compiled here) with a cache directory
of its own and compares output and exit status with a run without a cache. What dragoman loads and
keeps is read from `--log cache`.
"""
import argparse
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

PROGRAMS = [["/usr/bin/true"], ["/usr/bin/seq", "3000"], ["/usr/bin/sort", "-r", "/etc/passwd"],
            ["/bin/bash", "-c", "for i in 1 2 3; do echo $i | wc -c; done; exit 7"],
            ["/usr/bin/lua5.4", "-e", "local t={} for i=1,999 do t[i]=i*i end print(t[999], math.sqrt(2))"],
            ["/usr/bin/perl", "-e", "print join ',', map { $_ ** 2 } sort { $b <=> $a } 1..99"],
            ["/usr/bin/python3", "-S", "-E", "-c", "import sys; print(sum(i*i for i in range(9999)), 0.1+0.2); sys.exit(3)"]]

STATUSES = [0, 0, 0, 7, 0, 0, 3]

SOURCE = r"""
__asm__(".global _start\n_start:\n mov x2, #1\n adr x1, text\n mov x0, #1\n mov x8, #64\n svc #0\n"
        "marker: mov x0, #41\n mov x8, #93\n svc #0\n text: .ascii \"x\"\n");
"""

# f() is patched while main and a thread call it; by code that is kept, and that stays as it is.
PATCHER = r"""
#include <pthread.h>
#include <stdio.h>
#include <sys/mman.h>
__attribute__((noipa, aligned(65536), section(".text.f"))) int f(void) { return 41; }
__attribute__((noipa, aligned(65536), section(".text.g"))) int g(int n) {
    int sum = 0;
    for (int i = 0; i < n; i++) sum += f();
    return sum;
}
static volatile int stop;
static void *work(void *unused) {
    while (!stop)
        for (int sum = g(100); sum < 4100 || sum > 4300;) return (void *)1;
    return NULL;
}
static void patch(unsigned value) {
    unsigned *code = (unsigned *)(void *)f;
    for (int i = 0; i < 4; i++)
        if ((code[i] & 0xffe0001f) == 0x52800000) code[i] = 0x52800000 | value << 5;
    __builtin___clear_cache((char *)code, (char *)code + 16);
}
int main(int argc, char **argv) {
    pthread_t thread;
    void *wrong = NULL;
    printf("%d\n", g(1000));
    if (argc < 2) return 0;
    if (pthread_create(&thread, NULL, work, NULL)) return 1;
    if (mprotect((void *)f, 65536, PROT_READ | PROT_WRITE | PROT_EXEC)) return 1;
    for (unsigned i = 0; i < 300; i++) {
        patch(41 + i % 3);
        if (g(10) != 10 * (int)(41 + i % 3)) return 2;
    }
    patch(43);
    printf("%d\n", g(1000));
    stop = 1;
    pthread_join(thread, &wrong);
    return wrong ? 3 : 0;
}
"""


LOOP = r"""
#include <stdlib.h>
int main(int argc, char **argv) {
    unsigned x = 1;
    for (long n = atol(argv[argc - 1]); n--;) x = x * 1664525 + 1013904223 ^ x >> 7;
    return x & 1;
}
"""


class Failure(Exception):
    pass


class Tests:
    def __init__(self, args):
        self.dragoman = os.path.abspath(args.dragoman)
        self.root = os.path.abspath(os.path.join(args.guest, "arm64", "root"))
        self.scratch = tempfile.mkdtemp(prefix="dragoman-cache-")
        self.cache = os.path.join(self.scratch, "cache")
        self.rng = random.Random(args.seed)
        self.damage_rounds = args.rounds
        self.expected = {}

    def environment(self, cache):
        env = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "HOME": "/", "DRAGOMAN_CACHE": cache or "off"}
        env.update((k, v) for k, v in os.environ.items() if k in ("ASAN_OPTIONS", "UBSAN_OPTIONS"))
        return env

    def command(self, program, *options):
        return [self.dragoman, "run", "--rootfs", self.root, *options, *program]

    def run(self, program, cache=True, options=()):
        """(status, stdout) and what --log cache said."""
        where = self.cache if cache is True else cache
        log = os.path.join(self.scratch, "log")
        if os.path.exists(log):
            os.unlink(log)
        r = subprocess.run(self.command(program, "--log", "cache", "--log-file", log, *options),
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=self.environment(where),
                           stdin=subprocess.DEVNULL, timeout=120)
        said = open(log).read() if os.path.exists(log) else ""
        return (r.returncode, r.stdout), said

    def check(self, program, cache=True, options=()):
        key = tuple(program)
        if key not in self.expected:
            self.expected[key] = self.run(program, None)[0]
        got, said = self.run(program, cache, options)
        if got != self.expected[key]:
            raise Failure(f"{' '.join(program)[:60]}: exit {got[0]}, output {got[1][:80]!r}; "
                          f"without a cache exit {self.expected[key][0]}, {self.expected[key][1][:80]!r}")
        return said

    @staticmethod
    def new_blocks(said):
        return sum(int(n) for n in re.findall(r"(\d+) new blocks", said))

    def forget(self):
        shutil.rmtree(self.cache, ignore_errors=True)

    def files(self):
        return sorted(os.path.join(self.cache, f) for f in os.listdir(self.cache))

    def fill(self):
        self.forget()
        for program in PROGRAMS + PROGRAMS:
            self.check(program)

    # --- the tests ---

    def test_cold_and_warm(self):
        self.forget()
        for program in PROGRAMS:
            cold = self.new_blocks(self.check(program))
            self.check(program)  # the second run keeps, the third makes up what the second left
            self.check(program)
            warm = self.new_blocks(self.check(program))
            if not cold or warm * 20 > cold + 200:
                raise Failure(f"{program[0]}: {cold} new blocks cold, {warm} warm")

    def test_other_ways_do_not_mix(self):
        self.fill()
        for options in (["--host-limit", "avx512"], ["--host-limit", "avx,avx2,avx512,bmi,fma"], ["--stats"],
                        ["--cpu", "cortex-a53"], ["--one-insn"], ["--verify"], ["--host", "interp"]):
            for program in PROGRAMS[:2]:
                self.check(program, options=options)
                self.check(program, options=options)

    def test_damage(self):
        self.fill()
        whole = {f: open(f, "rb").read() for f in self.files()}
        for n in range(self.damage_rounds):
            for path, data in whole.items():
                data = bytearray(data)
                kind = self.rng.randrange(5)
                if kind == 0:
                    data = data[:self.rng.randrange(len(data))]
                elif kind == 1:  # the head and the index
                    for _ in range(8):
                        data[self.rng.randrange(min(len(data), 4096))] ^= 1 << self.rng.randrange(8)
                elif kind == 2:
                    for _ in range(1 + len(data) // 300):
                        data[self.rng.randrange(len(data))] ^= 1 << self.rng.randrange(8)
                elif kind == 3:
                    at = self.rng.randrange(len(data))
                    data[at:at + 4096] = bytes(self.rng.randrange(256) for _ in range(64)) * 64
                else:
                    data += data[-self.rng.randrange(1, len(data)):]
                with open(path, "wb") as f:
                    f.write(data)
            self.check(PROGRAMS[n % len(PROGRAMS)])
        self.check(PROGRAMS[1])

    def test_foreign_things(self):
        self.fill()
        files = self.files()
        for path, other in zip(files, files[1:] + files[:1]):
            shutil.copy(other, path + ".other")
        for path in files:
            os.rename(path + ".other", path)
        for program in PROGRAMS[:4]:
            self.check(program)
        self.fill()
        for n, path in enumerate(self.files()):
            os.unlink(path)
            (lambda p: os.mkdir(p), lambda p: os.symlink("/etc/passwd", p), os.mkfifo,
             lambda p: open(p, "w").close())[n % 4](path)
        for program in PROGRAMS[:4]:
            self.check(program)

    def test_hostile_directory(self):
        self.fill()
        os.chmod(self.cache, 0o777)
        if "cache: off" not in self.check(PROGRAMS[0]):
            raise Failure("a directory that all can write was used")
        os.chmod(self.cache, 0o700)
        for path in self.files():
            os.chmod(path, 0o666)
        if not self.new_blocks(self.check(PROGRAMS[0])):
            raise Failure("a file that all can write was used")
        if os.geteuid() == 0:
            os.chown(self.cache, 65534, 65534)
            if "cache: off" not in self.check(PROGRAMS[0]):
                raise Failure("another user's directory was used")
        self.forget()
        open(self.cache, "w").close()
        self.check(PROGRAMS[0])
        os.unlink(self.cache)
        self.check(PROGRAMS[0], cache="/proc/none/such")

    def test_same_file_other_code(self):
        """A program patched in place, its build-id as before: what was kept must not be run."""
        source, program = os.path.join(self.scratch, "p.c"), os.path.join(self.scratch, "p")
        with open(source, "w") as f:
            f.write(SOURCE)
        subprocess.run(["aarch64-linux-gnu-gcc", "-nostdlib", "-static", "-Wl,--build-id", source, "-o", program],
                       check=True)
        def status():
            return subprocess.run([self.dragoman, "run", program], env=self.environment(self.cache),
                                  stdout=subprocess.DEVNULL).returncode
        if [status() for _ in range(4)] != [41] * 4:
            raise Failure("the program does not run")
        with open(program, "r+b") as f:
            data = f.read()
            at = data.index((0xd2800000 | 41 << 5).to_bytes(4, "little"))
            f.seek(at)
            f.write((0xd2800000 | 42 << 5).to_bytes(4, "little"))
        if status() != 42:
            raise Failure("translations of code that was there before were run")

    def test_code_changed_after_loading(self):
        """What is kept is linked to itself: blocks that are no more must be out of reach all the same."""
        self.forget()
        source, program = os.path.join(self.scratch, "patch.c"), os.path.join(self.scratch, "patch")
        with open(source, "w") as f:
            f.write(PATCHER)
        subprocess.run(["aarch64-linux-gnu-gcc", "-O1", "-static", "-pthread", "-Wl,--build-id", source, "-o", program],
                       check=True)
        for words, want in (([], "41000\n"),) * 3 + ((["patch"], "41000\n43000\n"),) * 3:
            r = subprocess.run([self.dragoman, "run", program, *words], env=self.environment(self.cache),
                               stdout=subprocess.PIPE, text=True, timeout=60)
            if r.returncode or r.stdout != want:
                raise Failure(f"patch {words}: exit {r.returncode}, {r.stdout!r}")

    def test_loops_that_are_kept(self):
        """They are made anew when they are hot, though a program that is kept has few dispatches."""
        self.forget()
        source, program = os.path.join(self.scratch, "loop.c"), os.path.join(self.scratch, "loop")
        with open(source, "w") as f:
            f.write(LOOP)
        subprocess.run(["aarch64-linux-gnu-gcc", "-O1", "-static", "-Wl,--build-id", source, "-o", program], check=True)
        for rounds in ("9", "9", "9", "300000000"):
            r = subprocess.run([self.dragoman, "run", "--stats", program, rounds], env=self.environment(self.cache),
                               stderr=subprocess.PIPE, text=True, timeout=120)
        if not re.search("(?m)^loaded_blocks [1-9]", r.stderr) or not re.search("(?m)^hot_blocks [1-9]", r.stderr):
            raise Failure(f"loop: {r.stderr}")

    def test_small_code_cache(self):
        """What is ahead of a block may flush it before it runs; kept code may have no room, or go."""
        self.forget()
        sizes = ["1M", "3M", "6M", "12M", "256M"]
        for size in sizes + ["256M"] + sizes:
            self.check(PROGRAMS[6], options=["--code-cache", size])
        before = sum(map(os.path.getsize, self.files()))
        self.check(PROGRAMS[6], options=["--code-cache", "3M"])
        if sum(map(os.path.getsize, self.files())) != before:
            raise Failure("what had no room was kept a second time")

    def test_many_processes(self):
        self.forget()
        for _ in range(3):
            running = [(p, subprocess.Popen(self.command(p), stdout=subprocess.PIPE, stdin=subprocess.DEVNULL,
                                            stderr=subprocess.PIPE, env=self.environment(self.cache)))
                       for p in PROGRAMS * 2]
            for program, child in running:
                out, _ = child.communicate(timeout=120)
                if (child.returncode, out) != self.expected[tuple(program)]:
                    raise Failure(f"{program[0]} beside others: exit {child.returncode}")
        r = subprocess.run([self.dragoman, "cache", "list"], env=self.environment(self.cache),
                           stdout=subprocess.PIPE, text=True)
        if "damaged" in r.stdout or r.returncode:
            raise Failure(f"after many processes: {r.stdout}")

    def test_killed_while_saving(self):
        self.forget()
        for n in range(12):
            child = subprocess.Popen(self.command(PROGRAMS[6]), stdout=subprocess.DEVNULL,
                                     env=self.environment(self.cache), stderr=subprocess.DEVNULL)
            time.sleep(0.03 + 0.006 * n)
            child.send_signal(signal.SIGKILL)
            child.wait()
        self.check(PROGRAMS[6])
        self.check(PROGRAMS[6])

    def test_bounded(self):
        self.forget()
        for program in PROGRAMS + PROGRAMS:
            self.check(program, options=["--cache-size", "1M"])
        total = sum(os.path.getsize(f) for f in self.files())
        if total > 1 << 20:
            raise Failure(f"{total} bytes in a cache of 1M")

    def test_disk_full(self):
        """On a file system of 256 KiB, in a mount namespace of its own."""
        self.forget()
        os.mkdir(self.cache, 0o700)
        inside = f"mount -t tmpfs -o size=256k,mode=700 none {self.cache} || exit 99; " + "; ".join(
            " ".join(f"'{w}'" for w in self.command(p)) + " </dev/null; echo status $?" for p in [PROGRAMS[4]] * 3)
        r = subprocess.run(["unshare", "-rm", "sh", "-c", inside], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                           env=self.environment(self.cache))
        if r.returncode == 99 or b"unshare" in r.stderr:
            return "no mount namespaces here"
        want = self.expected[tuple(PROGRAMS[4])]
        if r.stdout != 3 * (want[1] + b"status %d\n" % want[0]):
            raise Failure(f"on a full disk: {r.stdout[:200]!r} {r.stderr[:200]!r}")

    def test_limit_on_files(self):
        """A guest's own limit on file sizes does not kill it for our writing."""
        self.forget()
        self.check(["/bin/bash", "-c", "ulimit -f 1; /usr/bin/true; echo $?"])

    def test_fork_and_threads(self):
        self.forget()
        program = ["/usr/bin/python3", "-c",
                   "import os, threading\n"
                   "for i in range(4):\n"
                   "    if os.fork() == 0:\n"
                   "        import json, re; print(len(json.dumps(list(range(99)))), flush=True); os._exit(0)\n"
                   "    os.wait()\n"
                   "t = [threading.Thread(target=lambda: sorted(range(9999))) for _ in range(4)]\n"
                   "[x.start() for x in t]; [x.join() for x in t]; print('done')"]
        for _ in range(3):
            self.check(program)

    def test_commands(self):
        self.forget()
        def cache(*words):
            return subprocess.run([self.dragoman, "cache", *words], env=self.environment(self.cache),
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        lua = self.root + "/usr/bin/lua5.4"
        r = cache("warm", lua, self.root + "/lib/aarch64-linux-gnu/libc.so.6")
        if r.returncode or r.stdout.count("blocks translated") != 2:
            raise Failure(f"warm: {r.returncode} {r.stdout} {r.stderr}")
        cold = self.new_blocks(self.run(PROGRAMS[4], cache=self.cache + "2")[1])
        warm = self.new_blocks(self.check(PROGRAMS[4]))
        if warm * 2 > cold:
            raise Failure(f"{warm} new blocks after warming, {cold} without")
        if "lua5.4" not in cache("list").stdout:
            raise Failure("list does not name lua")
        for path in self.files():  # as a build with an older format left it
            with open(path, "r+b") as f:
                f.seek(7)
                f.write(b"1")
        said = cache("list").stdout
        if "damaged" in said or said.count("(by another build)") != len(self.files()) or "lua5.4 (by" not in said:
            raise Failure(f"files in an older format: {said}")
        if cache("clear", "lua5").stdout.split()[:2] != ["removed", "1"] or "lua5.4" in cache("list").stdout:
            raise Failure("clear lua5 did not")
        if cache("clear").returncode or cache("list").stdout.splitlines()[-1].split()[0] != "0":
            raise Failure("clear did not")
        for words, status in ((["warm", "/etc/passwd"], 126), (["warm", "/none"], 127), (["warm"], 2),
                              (["lst"], 2), ([], 2), (["-j", "0", "list"], 2), (["--cache"], 2)):
            r = cache(*words)
            if r.returncode != status or not r.stderr:
                raise Failure(f"cache {' '.join(words)}: exit {r.returncode}, wanted {status}: {r.stderr}")

    def test_warming_damaged_files(self):
        self.forget()
        whole = open(self.root + "/usr/bin/lua5.4", "rb").read()
        path = os.path.join(self.scratch, "damaged")
        for _ in range(self.damage_rounds):
            data = bytearray(whole[:self.rng.randrange(64, len(whole)) if self.rng.randrange(3) == 0 else None])
            for _ in range(self.rng.randrange(1, 12)):
                where = self.rng.choice((64, 1024, len(data)))
                data[self.rng.randrange(min(where, len(data)))] = self.rng.randrange(256)
            with open(path, "wb") as f:
                f.write(data)
            r = subprocess.run([self.dragoman, "cache", "warm", path], env=self.environment(self.cache),
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120)
            if r.returncode not in (0, 126) or (r.returncode == 126) != bool(r.stderr):
                shutil.copy(path, "/tmp/dragoman-damaged")
                raise Failure(f"warm of a damaged file: exit {r.returncode}: {r.stderr[-300:]!r}")

    def all(self, only):
        failed = 0
        for program in PROGRAMS:
            self.check(program, cache=None)
        if [self.expected[tuple(p)][0] for p in PROGRAMS] != STATUSES:
            sys.exit(f"cache tests: the programs do not run: {self.expected}")
        for name in [n for n in dir(self) if n.startswith("test_") and re.search(only, n)]:
            begin = time.time()
            try:
                skipped = getattr(self, name)()
                print(f"{'skip' if skipped else 'ok':4} cache-{name[5:]} ({time.time() - begin:.1f} s)"
                      + (f": {skipped}" if skipped else ""), flush=True)
            except (Failure, subprocess.TimeoutExpired) as e:
                failed += 1
                print(f"FAIL cache-{name[5:]}: {e}", flush=True)
        os.system(f"chmod -R u+rwx '{self.scratch}'")
        shutil.rmtree(self.scratch, ignore_errors=True)
        return failed


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--dragoman", default="build/dragoman")
    p.add_argument("--guest", default=os.path.join(TOP, "build", "guest"))
    p.add_argument("--only", default="")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--rounds", type=int, default=40, help="of damage")
    sys.exit(1 if Tests(p.parse_args()).all(p.parse_args().only) else 0)


if __name__ == "__main__":
    main()
