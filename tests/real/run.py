#!/usr/bin/env python3
"""make test-programs: every row of programs.py under dragoman, one after the other, as a table."""
import argparse
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, HERE)
import programs  # noqa: E402

NOBODY = 65534


def apt_folders(scratch, real):
    """An empty database of packages, in which libc6 is installed; bound over the root's own."""
    shutil.copytree(os.path.join(real, "repo"), os.path.join(scratch, "repo"))
    for name in ("dpkg/info", "dpkg/updates", "dpkg/triggers", "dpkg/alternatives", "dpkg/parts", "apt/lists/partial",
                 "cache/archives/partial", "etc/apt.conf.d", "etc/preferences.d", "etc/sources.list.d",
                 "etc/trusted.gpg.d", "log", "alternatives"):
        os.makedirs(os.path.join(scratch, name))
    open(os.path.join(scratch, "dpkg", "available"), "w").close()
    with open(os.path.join(scratch, "dpkg", "status"), "w") as f:
        f.write("Package: libc6\nStatus: install ok installed\nVersion: 2.99\nArchitecture: arm64\n"
                "Maintainer: x <x@y>\nDescription: x\n\n")
    with open(os.path.join(scratch, "dpkg", "info", "libc6.list"), "w") as f:  # what a removal must leave
        f.write("\n".join(["/.", "/bin", "/sbin", "/lib", "/usr", "/usr/bin", "/usr/sbin", "/usr/lib", "/usr/share",
                           "/usr/lib/aarch64-linux-gnu", "/lib/aarch64-linux-gnu"]) + "\n")
    with open(os.path.join(scratch, "etc", "sources.list"), "w") as f:
        f.write("deb [trusted=yes] file:/work/repo ./\n")
    return [("dpkg", "/var/lib/dpkg"), ("apt", "/var/lib/apt"), ("cache", "/var/cache/apt"), ("etc", "/etc/apt"),
            ("log", "/var/log"), ("alternatives", "/etc/alternatives")]


def command_of(row, args, scratch):
    command = [args.dragoman, "run", "--rootfs", args.root, "--bind", scratch + ":/work", "--workdir", "/work",
               *row.get("options", [])]
    if row.get("repo"):
        for inside, at in apt_folders(scratch, os.path.dirname(args.root)):
            command += ["--bind", f"{scratch}/{inside}:{at}"]
    if row.get("user") == "nobody" and os.geteuid() == 0:
        os.chown(scratch, NOBODY, NOBODY)
        command = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *command]
    return command + ["/bin/bash", "-c", row["command"]]


def type_keys(command, env, keys, timeout):
    """(status, output) of a command on a terminal of its own."""
    pid, fd = pty.fork()
    if not pid:
        os.execvpe(command[0], command, env)
    out, end, keys = b"", time.time() + timeout, list(keys)
    next_key = time.time() + keys[0][0]
    while time.time() < end:
        if keys and time.time() >= next_key:
            os.write(fd, keys.pop(0)[1])
            next_key = time.time() + (keys[0][0] if keys else 0)
        if select.select([fd], [], [], 0.05)[0]:
            try:
                data = os.read(fd, 65536)
            except OSError:
                break
            if not data:
                break
            out += data
    else:
        os.kill(pid, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.close(fd)
    return status, out


def start(row, command, env):
    """(status or None for a timeout, stdout, stderr)."""
    timeout = row.get("timeout", 60)
    if row.get("keys"):
        status, out = type_keys(command, env, row["keys"], timeout)
        return status, out, b""
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                             env=env, start_new_session=True)
    try:
        out, err = child.communicate(timeout=timeout)
        return child.returncode, out, err
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        out, err = child.communicate()
        return None, out, err


def complaint(row, status, out, err):
    """What is wrong, or None."""
    text, at = out.decode(errors="replace"), 0
    tail = (err or out).decode(errors="replace").strip()[-300:]
    if status is None:
        return f"not done in {row.get('timeout', 60)} s: {tail}"
    for pattern in row["expect"]:
        m = re.compile(pattern, re.M).search(text, at)
        if not m:
            return f"exit {status}, no '{pattern}' in the output: {tail}"
        at = m.end()
    if status != row.get("status", 0):
        return f"exit {status}: {tail}"
    return None


def run_row(row, args, env):
    scratch = tempfile.mkdtemp(prefix="dragoman-real-")
    os.chmod(scratch, 0o755)
    for name in row.get("files", []):
        shutil.copy(os.path.join(HERE, "src", name), scratch)
    begin = time.time()
    try:
        wrong = complaint(row, *start(row, command_of(row, args, scratch), env))
    finally:
        subprocess.run(["rm", "-rf", scratch])
    return wrong, time.time() - begin


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--dragoman", default=os.path.join(TOP, "build", "dragoman"))
    p.add_argument("--guest", default=os.path.join(TOP, "build", "guest"))
    p.add_argument("--only", default="", metavar="REGEX")
    p.add_argument("--list", action="store_true")
    args = p.parse_args()
    rows = [r for r in programs.ROWS if re.search(args.only, r["name"])]
    if args.list:
        print("\n".join(r["name"] for r in rows))
        return
    args.dragoman = os.path.abspath(args.dragoman)
    args.root = os.path.join(os.path.abspath(args.guest), "real", "root")
    if not os.path.isdir(args.root):
        sys.exit("test-programs: no guest root; run scripts/guest-root real")
    env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/work", "LC_ALL": "C.UTF-8", "TERM": "xterm",
           "DEBIAN_FRONTEND": "noninteractive", "DRAGOMAN_CACHE": os.environ.get("DRAGOMAN_CACHE", "off")}
    failed, excused = [], []
    for row in rows:
        wrong, took = run_row(row, args, env)
        state = "ok" if not wrong else "why" if row.get("why") else "FAIL"
        print(f"{state:5}{row['name']:16}{took:7.1f} s" + (f"  {row.get('why') or wrong}" if wrong else ""), flush=True)
        if state == "FAIL":
            failed.append(row["name"])
        elif wrong:
            excused.append(row["name"])
    print(f"test-programs: {len(rows) - len(failed) - len(excused)} of {len(rows)} work"
          + (f", {len(excused)} known not to: {', '.join(excused)}" if excused else "")
          + (f"; failed: {', '.join(failed)}" if failed else ""))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
