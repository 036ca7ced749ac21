#!/usr/bin/env python3
"""The Linux personality's own tests: guest C programs of this folder that check themselves.

Each prints a line for every check that failed (check.h) and `ok` when there was none. Most are also
right under qemu-aarch64 or the kernel; where qemu is not, nothing is compared with it.

    tests/linux/run.py [--dragoman build/dragoman] [--only REGEX]
"""
import argparse
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))


class Place:
    """A root with the program in it, something to bind, and what must not be seen."""

    def __init__(self, program):
        self.top = os.path.realpath(tempfile.mkdtemp(prefix="dgm-"))
        self.root = os.path.join(self.top, "root")
        for d in ("root", "root/tmp", "root/etc", "root/bound", "shared"):
            os.mkdir(os.path.join(self.top, d))
        shutil.copy(program, os.path.join(self.root, "program"))
        self.secret = os.path.join(self.top, "secret")
        for path, data in ((self.secret, b"SECRET".ljust(4242)), (os.path.join(self.top, "shared/inner"), b"inner")):
            with open(path, "wb") as f:
                f.write(data)
        os.chmod(self.secret, 0o755)
        # descriptors that a path through /proc might reach
        self.held = [open(self.secret), os.open(self.top, os.O_RDONLY)]
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.secret + ".sock")
        self.listener.listen(1)

    def options(self):
        return ["--rootfs", self.root, "--bind", os.path.join(self.top, "shared") + ":/bound"]

    def close(self):
        self.held[0].close()
        os.close(self.held[1])
        self.listener.close()
        with open(self.secret, "rb") as f:
            intact = f.read() == b"SECRET".ljust(4242)
        shutil.rmtree(self.top)
        return intact


def compile_one(name, folder):
    source, out = os.path.join(HERE, name + ".c"), os.path.join(folder, name)
    if not os.path.exists(out) or os.path.getmtime(out) < max(
            os.path.getmtime(source), os.path.getmtime(os.path.join(HERE, "check.h"))):
        subprocess.run(["aarch64-linux-gnu-gcc", "-std=gnu17", "-O1", "-w", "-pthread", "-static", source, "-o", out],
                       check=True)
    return out


# name, options, arguments, in a root
TESTS = [
    ("escape", [], ["SECRET", str(os.getpid())], True),
    ("process", [], [], False),
    ("signal", [], [], False),
    ("seccomp", [], [], False),
    ("memory", [], [], False),
    ("thread", [], [], False),
    ("exclusive", [], [], False),
    ("litmus", [], [], False),
    ("proc", ["--workdir", "/bound"], ["first"], True),
    ("socket", [], [], False),
    ("socket", [], [], True),
    ("socket", ["--fake-root"], [], True),
    ("fakeroot", ["--fake-root"], [], True),
]


def run(dragoman, folder, test, timeout):
    name, options, arguments, rooted = test
    program = compile_one(name, folder)
    place = Place(program) if rooted else None
    command = [dragoman, "run", *options]
    command += [*place.options(), "/program"] if place else [program]
    command += [place.secret if place and a == "SECRET" else a for a in arguments]
    try:
        r = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout,
                           cwd=place.top if place else "/")
        status, out, err = r.returncode, r.stdout, r.stderr
    except subprocess.TimeoutExpired as e:
        status, out, err = "timeout", e.stdout or b"", e.stderr or b""
    bad = status != 0 or not out.endswith(b"ok\n")
    if place and not place.close():
        bad, out = True, out + b"the secret was changed\n"
    return None if not bad else f"status {status}\n{(out + err).decode(errors='replace')[-3000:]}"


# Options that must be refused, and what stderr says.
REFUSED = [
    (["--bind", "/no/such/place"], rb"--bind /no/such/place: No such file"),
    (["--bind", "/tmp:relative"], rb"--bind /tmp:relative: .*absolute"),
    (["--bind", "/tmp:/a/../b"], rb"--bind /tmp:/a/../b: .*absolute"),
    (["--workdir", "/no/such/place"], rb"--workdir /no/such/place: No such file"),
    (["--fake-root-state", "junk"], rb"--fake-root: "),
]


def run_options(dragoman, folder):
    """Lines about what is wrong."""
    program = compile_one("proc", folder)
    for options, says in REFUSED:
        r = subprocess.run([dragoman, "run", *options, program, "args"], capture_output=True, timeout=20)
        if r.returncode != 2 or not re.match(rb"^dragoman: " + says + rb"[^\n]*\n$", r.stderr):
            yield f"{options}: status {r.returncode}, {r.stderr!r}"
    # binds without a root, by a relative name, in both styles; the inner of two binds; the later of two
    with tempfile.TemporaryDirectory() as top:
        top = os.path.realpath(top)
        for d in ("one", "two", "one/in"):
            os.mkdir(os.path.join(top, d))
        shutil.copy(program, os.path.join(top, "two/p"))
        for command in ([dragoman, "run", "--bind", "one:/zz", "--bind", "two:/zz/in"],
                        [dragoman, "run", "--bind", "one:/zz/in", "--bind=two:/zz/in/"],
                        [dragoman + "-aarch64", "-bind", "two:/zz/in"]):
            if not os.path.exists(command[0]):
                continue  # the link of that name is made by make
            r = subprocess.run([*command, "/zz/in/p", "args", "b c"], capture_output=True, timeout=20, cwd=top)
            if r.returncode != 103:
                yield f"{command}: status {r.returncode}, {r.stderr!r}"


def run_others(dragoman, folder):
    """Lines about what is wrong with how programs look to one that another dragoman runs, with and without tools."""
    program = compile_one("proc", folder)
    ways = [[dragoman, "run"], [dragoman, "run", "--tool", "count:out=/dev/null"]]
    for one in ways:
        for other in ways:
            with subprocess.Popen([*other, program, "wait"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as p:
                p.stdout.readline()
                r = subprocess.run([*one, program, "link", f"/proc/{p.pid}/exe"], capture_output=True, timeout=20)
                p.kill()
            if r.stdout.strip() != os.path.realpath(program).encode():
                yield f"{one[2:]} sees {other[2:]}: {r.stdout!r}"


# As the kernel starts an interpreter that binfmt_misc holds open (flag F).
FROM_OUTSIDE = """
import os, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
os.set_inheritable(fd, True)
os.chroot(sys.argv[2])
os.chdir("/")
os.execve(fd, ["dragoman", "run", "/process"], {})
"""


def run_alone(dragoman, folder):
    """Lines about what is wrong with the static command in a root where nothing else is."""
    if not os.path.exists(os.path.join(os.path.dirname(dragoman), "dragoman-dynamic")):
        return  # a sanitizer's build: it loads the sanitizer
    unshare = ["unshare", "-m" if os.geteuid() == 0 else "-rm"]
    with tempfile.TemporaryDirectory() as top:
        shutil.copy(dragoman, os.path.join(top, "dragoman"))
        for name in ("exclusive", "process"):
            shutil.copy(compile_one(name, folder), top)
        for d in ("etc", "proc", "tmp"):
            os.mkdir(os.path.join(top, d))

        def differs(command, want):
            r = subprocess.run([*unshare, *command], capture_output=True, timeout=60)
            got = r.returncode, r.stdout, r.stderr
            return got != want and not r.stderr.startswith((b"unshare:", b"mount:")) and f"{command[3:]}: {got}"

        yield differs(["chroot", top, "/dragoman", "run", "/exclusive"], (0, b"ok\n", b""))
        yield differs(["chroot", top, "/dragoman", "run", "--tool", "count", "/exclusive"],
                      (126, b"", b"dragoman: dragoman-dynamic: tools, traces and --log host need it: "
                                 b"No such file or directory\n"))
        os.unlink(os.path.join(top, "dragoman"))
        yield differs(["sh", "-c", 'mount --rbind /proc "$1/proc" && exec python3 -c "$3" "$2" "$1"', "sh", top,
                       dragoman, FROM_OUTSIDE], (0, b"ok\n", b""))


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--dragoman", default=os.path.join(TOP, "build/dragoman"))
    p.add_argument("--build", default=os.path.join(TOP, "build"))
    p.add_argument("--only", default="")
    p.add_argument("--timeout", type=float, default=60)
    args = p.parse_args()
    if "qemu" in os.path.basename(args.dragoman):
        print("linux: for dragoman only")
        return
    folder = os.path.join(os.path.abspath(args.build), "tests-linux")
    os.makedirs(folder, exist_ok=True)
    failed = 0
    for test in TESTS:
        if not re.search(args.only, test[0]):
            continue
        begin = time.monotonic()
        problem = run(os.path.abspath(args.dragoman), folder, test, args.timeout)
        print(f"{'FAIL' if problem else 'ok  '} linux-{test[0]} ({time.monotonic() - begin:.1f} s)")
        if problem:
            failed += 1
            print("    " + problem.replace("\n", "\n    "))
    for name, test in (("options", run_options), ("others", run_others), ("alone", run_alone)):
        if not re.search(args.only, name):
            continue
        problems = [problem for problem in test(os.path.abspath(args.dragoman), folder) if problem]
        print(f"{'FAIL' if problems else 'ok  '} linux-{name}")
        print("".join(f"    {p}\n" for p in problems), end="")
        failed += len(problems)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
