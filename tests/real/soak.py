#!/usr/bin/env python3
"""make soak: programs that do not rest, side by side, for SOAK_SECONDS: a parallel build, java, python
with processes and timers, and a redis server that lives all the time; stopped, continued and signalled
at random from outside. Fails when a piece of work fails, when the server grows, and when a process or
a zombie is left.
"""
import argparse
import ctypes
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

import run as real
import programs

PORT = 7790
GROWTH_KB = 24 * 1024
STORM = r"""
import os, signal, threading, time
count = [0]
def on(signo, frame): count[0] += 1
for s in (signal.SIGALRM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD, signal.SIGWINCH): signal.signal(s, on)
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
me, end = os.getpid(), time.time() + 3
def pelt():
    while time.time() < end:
        os.kill(me, signal.SIGUSR1); os.kill(me, signal.SIGUSR2); time.sleep(0.0005)
threads = [threading.Thread(target=pelt) for _ in range(3)]
[t.start() for t in threads]
work = 0
while time.time() < end:
    pid = os.fork()
    if not pid: os._exit(len(str(sum(i * i for i in range(2000)))) % 7)
    work += os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    r, w = os.pipe()
    os.write(w, b'x' * 100)
    assert os.read(r, 100) == b'x' * 100
    os.close(r), os.close(w)
[t.join() for t in threads]
signal.setitimer(signal.ITIMER_REAL, 0)
print('storm', count[0] > 1000, work > 0)
"""


class Soak:
    def __init__(self, args):
        self.args, self.end = args, time.time() + args.seconds
        self.scratch = tempfile.mkdtemp(prefix="dragoman-soak-")
        os.chmod(self.scratch, 0o755)
        self.failures, self.done, self.lock = [], {}, threading.Lock()
        self.env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/work", "LC_ALL": "C.UTF-8",
                    "DRAGOMAN_CACHE": os.path.join(self.scratch, "cache")}
        self.pelted = set()  # process groups that may be stopped and continued

    def start(self, name, command, **more):
        folder = os.path.join(self.scratch, name)
        os.makedirs(folder, exist_ok=True)
        words = [self.args.dragoman, "run", "--rootfs", self.args.root, "--bind", folder + ":/work", "--workdir", "/work",
                 "/bin/bash", "-c", command]
        return subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                env=self.env, start_new_session=True, **more)

    def copy(self, name, *files):
        folder = os.path.join(self.scratch, name)
        os.makedirs(folder, exist_ok=True)
        for f in files:
            shutil.copy(os.path.join(real.HERE, "src", f), folder)

    def loop(self, name, command, expect, timeout=240):
        while time.time() < self.end and not self.failures:
            child = self.start(name, command)
            with self.lock:
                self.pelted.add(child.pid)
            try:
                out = child.communicate(timeout=timeout)[0].decode(errors="replace")
            except subprocess.TimeoutExpired:
                os.killpg(child.pid, signal.SIGABRT)
                out = "hangs: " + child.communicate()[0].decode(errors="replace")
            with self.lock:
                self.pelted.discard(child.pid)
                self.done[name] = self.done.get(name, 0) + 1
                if child.returncode or not re.search(expect, out):
                    self.failures.append(f"{name}, round {self.done[name]}: exit {child.returncode}: {out[-400:]}")

    def pelt(self):
        """Stops and continues whole process groups, and sends what is ignored by default."""
        rng = random.Random(self.args.seed)
        while time.time() < self.end and not self.failures:
            time.sleep(rng.random() * 0.4)
            with self.lock:
                groups = sorted(self.pelted)
            for group in groups:
                try:
                    os.killpg(group, rng.choice((signal.SIGWINCH, signal.SIGURG, signal.SIGSTOP)))
                    time.sleep(rng.random() * 0.02)
                    os.killpg(group, signal.SIGCONT)
                except ProcessLookupError:
                    pass

    @staticmethod
    def rss_kb(pid):
        with open(f"/proc/{pid}/status") as f:
            return int(re.search(r"VmRSS:\s+(\d+)", f.read())[1])

    @staticmethod
    def fds(pid):
        return len(os.listdir(f"/proc/{pid}/fd"))

    def run(self):
        self.copy("build", "gen.sh")
        self.copy("java", "T.java")
        server = self.start("redis", f"exec redis-server --port {PORT} --save '' --maxmemory 30mb --maxmemory-policy allkeys-lru")
        time.sleep(2)
        work = [("build", "bash gen.sh; rm -f *.o p; printf 'p: $(patsubst %%.cpp,%%.o,$(wildcard *.cpp))\\n\\tg++ -o $@ $^\\n' > Makefile; "
                 "make -j2 CXXFLAGS=-O1 > log 2>&1; ./p", "21253"),
                ("java", f"{programs.JAVA}/javac T.java && {programs.JAVA}/java T", "map 50000"),
                ("storm", "exec python3 -c \"$STORM\"", "storm True True"),
                ("bench", f"redis-benchmark -p {PORT} -n 20000 -r 100000 -d 200 -c 10 --csv -t set,get,lpush,lpop; sleep 1", '"LPOP"')]
        self.env["STORM"] = STORM
        threads = [threading.Thread(target=self.loop, args=w) for w in work] + [threading.Thread(target=self.pelt)]
        for t in threads:
            t.start()
        settled, begin = None, time.time()
        while time.time() < self.end and not self.failures:
            time.sleep(5)
            if server.poll() is not None:
                self.failures.append(f"redis-server ended: {server.communicate()[0][-400:]!r}")
            elif not settled and time.time() - begin > min(120, self.args.seconds / 3):
                settled = self.rss_kb(server.pid), self.fds(server.pid)
            if sys.stderr.isatty():
                print(f"\r\033[K{time.time() - begin:.0f} s {self.done}", end="", file=sys.stderr)
        for t in threads:
            t.join()
        if server.poll() is None:
            last = self.rss_kb(server.pid), self.fds(server.pid)
            print(f"soak: redis-server {settled[0] if settled else '?'} kB after settling, {last[0]} kB at the end; "
                  f"descriptors {settled[1] if settled else '?'}, {last[1]}")
            if settled and (last[0] - settled[0] > GROWTH_KB or last[1] > settled[1] + 20):
                self.failures.append("redis-server grew")
            server.terminate()
            server.communicate()
        self.look_for_leftovers()
        shutil.rmtree(self.scratch, ignore_errors=True)
        print(f"soak: {args_text(self.args)}: rounds {self.done}; " + ("; ".join(self.failures) or "no failure, nothing left"))
        return 1 if self.failures else 0

    def look_for_leftovers(self):
        """We adopt all orphans: whoever is our child now was forgotten."""
        time.sleep(1)
        left = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/stat") as f:
                    fields = f.read().rsplit(")", 1)[1].split()
            except OSError:
                continue
            if int(fields[1]) == os.getpid():
                left.append(f"{pid} ({fields[0]})")
        # an orphan that has ended is ours to reap, as init would: not a guest's zombie
        left = [x for x in left if "(Z)" not in x]
        if left:
            self.failures.append("left: " + ", ".join(left))


def args_text(args):
    return f"{args.seconds:.0f} s"


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--dragoman", default=os.path.join(real.TOP, "build", "dragoman"))
    p.add_argument("--guest", default=os.path.join(real.TOP, "build", "guest"))
    p.add_argument("--seconds", type=float, default=3600)
    p.add_argument("--seed", type=int, default=1)
    args = p.parse_args()
    args.dragoman = os.path.abspath(args.dragoman)
    args.root = os.path.join(os.path.abspath(args.guest), "real", "root")
    if not os.path.isdir(args.root):
        sys.exit("soak: no guest root; run scripts/guest-root real")
    PR_SET_CHILD_SUBREAPER = 36
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    sys.exit(Soak(args).run())


if __name__ == "__main__":
    main()
