#!/usr/bin/env python3
"""Whole-program tests: real programs and small C programs under dragoman, against what they must print.

A test's expected output is, in this order: given in the table; a file NAME.out beside this script
(the C programs: made with qemu-aarch64 by --bless, then corrected by hand where qemu 7.2 is known to
differ from Linux, see DEVIATIONS); or what qemu-aarch64 prints now. The exit status counts too. Tests
that make processes run programs (exec) have their output in the table, for qemu cannot do that
without the host's help.

    tests/programs/run.py                          all, with build/dragoman
    tests/programs/run.py --only 'python|lua'      some
    tests/programs/run.py --host interp            by the interpreter of the IR; slow tests are left out
    tests/programs/run.py --dragoman qemu-aarch64  tries this script itself
"""
import argparse
import concurrent.futures
import hashlib
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time

import scripts

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))

# Where NAME.out says what Linux does and qemu-aarch64 7.2 does otherwise.
DEVIATIONS = {
    "memory": "MAP_FIXED_NOREPLACE over a mapping fails with EEXIST; qemu maps",
    "faults": "UDF raises SIGILL with ILL_ILLOPC (1); qemu says ILL_ILLOPN (2)",
}

ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC", "HOME": "/root",
               "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
ENVIRONMENT["DRAGOMAN_CACHE"] = os.environ.get("DRAGOMAN_CACHE", "off")
# What a build with sanitizers listens to.
ENVIRONMENT.update((k, v) for k, v in os.environ.items() if k in ("ASAN_OPTIONS", "UBSAN_OPTIONS"))


class Test:
    """One row. where: root (Debian's programs under --rootfs), busybox, c (compiled here), raw, bad, plain."""

    def __init__(self, name, where, argv, out=None, status=None, stdin=None, options=(), err=None,
                 execs=False, slow=False, build="static", entry="run", memory_kb=None):
        self.name, self.where, self.argv = name, where, argv
        self.out, self.status, self.err = out, status, err
        self.stdin, self.options, self.execs, self.slow = stdin, list(options), execs, slow
        self.build, self.entry, self.memory_kb = build, entry, memory_kb


def text(*lines):
    return "".join(line + "\n" for line in lines).encode()


def seq(n):
    return "".join(f"{i}\n" for i in range(1, n + 1)).encode()


PI_TEXT = "".join(f"line {i} {i * 7919 % 1009} {'abcdef'[i % 6] * (i % 9)}\n" for i in range(3000)).encode()


def busybox_tests():
    def t(name, *argv, **kw):
        return Test("busybox-" + name, "busybox", argv, **kw)
    yield t("echo", "echo", "hello", "a  b", out=text("hello a  b"), status=0)
    yield t("sh", "sh", "-c", scripts.SH_LOOP)
    yield t("awk", "awk", '{ s += $2; n[$3]++ } END { print s, NR, length(n), s / 7, 2 ^ 0.5, toupper("x") }',
            stdin=PI_TEXT)
    yield t("sed", "sed", "-n", "s/line \\([0-9]*\\)5 /<\\1> /p;$=", stdin=PI_TEXT)
    yield t("sort", "sort", "-k2,2nr", "-k1", stdin=PI_TEXT)
    yield t("gzip", "gzip", "-c", "-9", stdin=PI_TEXT)
    yield t("md5sum", "md5sum", stdin=PI_TEXT,
            out=text(hashlib.md5(PI_TEXT).hexdigest() + "  -"), status=0)
    yield t("sha256sum", "sha256sum", stdin=PI_TEXT,
            out=text(hashlib.sha256(PI_TEXT).hexdigest() + "  -"), status=0)
    yield t("sha512sum", "sha512sum", stdin=PI_TEXT,
            out=text(hashlib.sha512(PI_TEXT).hexdigest() + "  -"), status=0)
    yield t("tar", "tar", "-C", HERE, "-c", "-f", "-", "program.py", "signals.c")
    yield t("grep", "grep", "-c", "line [0-9]*7 ", stdin=PI_TEXT)
    yield t("bc", "bc", "-l", stdin=b"scale=30\n4*a(1)\n2^200\nsqrt(2)\n")
    yield t("od", "od", "-A", "x", "-t", "x1z", "-N", "200", stdin=PI_TEXT)
    yield t("factor", "factor", "18446744073709551557", "600851475143", "97", slow=True)
    yield t("expr", "expr", "12", "*", "(", "3", "+", "4", ")")
    yield t("false", "false", out=b"", status=1)
    yield t("wc", "wc", stdin=PI_TEXT)
    yield t("xz", "xz", "-d", "-c", stdin=_xz(PI_TEXT), out=PI_TEXT, status=0)
    yield t("base64", "base64", stdin=bytes(range(256)))
    yield t("cal", "cal", "2", "2024")
    yield t("unknown", "no-such-applet", status=127)
    yield t("pipeline", "sh", "-c", "echo a b c | tr ' ' '\\n' | sort -r | head -n 2; exit 9",
            out=text("c", "b"), status=9, execs=True)


def _xz(data):
    import lzma
    return lzma.compress(data)


def root_tests():
    def t(name, program, *argv, **kw):
        return Test(name, "root", ["/usr/bin/" + program, *argv], **kw)

    # The shell and processes.
    yield t("bash-loop", "bash", "-c", scripts.SH_LOOP)
    yield t("bash-arrays", "bash", "-c", "declare -A m=([x]=1 [y]=2); a=(1 2 3); a+=(4); echo ${!m[@]} ${a[@]:1:2} "
            "${#a[@]}; [[ abc =~ ^a(.)c$ ]] && echo ${BASH_REMATCH[1]}; printf '%q %05.1f\\n' 'a b' 3.14159; "
            "echo $((16#ff + 2**10)) {1..5} ${x:=dflt^^}; x=Hello; echo ${x,,} ${x/l/L}")
    yield t("bash-status", "bash", "-c", "exit 43", out=b"", status=43)
    yield t("bash-pipeline", "bash", "-c", "seq 10 | wc -l; ls / | wc -l | grep -c .; echo $(echo deep $(echo er))",
            out=text("10", "1", "deep er"), status=0, execs=True)
    yield t("bash-ls-wc", "bash", "-c", "cd /etc/ssl 2>/dev/null || cd /; ls -d /usr | wc -l", out=text("1"), status=0,
            execs=True)
    yield t("bash-children", "bash", "-c", "for i in 1 2 3; do (exit $i) & done; wait; sh -c 'kill -9 $$'; echo $?; "
            "/usr/bin/false; echo $?; nosuchcommand 2>/dev/null; echo $?; env -i A=1 env",
            out=text("137", "1", "127", "A=1"), status=0, execs=True)
    yield t("bash-trap", "bash", "-c", "trap 'echo got' USR1; kill -USR1 $$; trap 'echo bye' EXIT; "
            "(kill -TERM $BASHPID); echo $?", out=text("got", "143", "bye"), status=0)
    yield t("bash-substitution", "bash", "-c", "diff <(seq 3) <(seq 4); cat <<< text | tr a-z A-Z",
            out=text("3a4", "> 4", "TEXT"), status=0, execs=True)
    yield t("bash-many", "bash", "-c", "n=0; for i in $(seq 60); do n=$((n + $(/usr/bin/expr $i + 1))); done; echo $n",
            out=text("1890"), status=0, execs=True, slow=True)
    yield t("xargs", "bash", "-c", "seq 20 | xargs -n 7 -P 2 echo | sort -n | md5sum | cut -c1-8; find /usr/bin -name 'z*cat' "
            "| sort | head -1", out=text(hashlib.md5(b"1 2 3 4 5 6 7\n8 9 10 11 12 13 14\n15 16 17 18 19 20\n")
                                         .hexdigest()[:8], "/usr/bin/zcat"), status=0, execs=True)
    yield t("script-shebang", "bash", "-c", "d=$(mktemp -d); printf '#!/bin/sh -e\\necho \"$0\" $# $1 | sed s,.*/,,\\n' >$d/s; "
            "chmod +x $d/s; $d/s one two; rm -r $d", out=text("s 2 one"), status=0, execs=True)

    # Core utilities.
    yield t("seq", "seq", "1", "0.25", "50")
    yield t("sort", "sort", "-k2,2n", "-k3,3r", stdin=PI_TEXT)
    yield t("sort-threads", "sort", "--parallel=2", "-S", "1M", stdin=seq(60000)[::-1], slow=True)
    yield t("uniq", "uniq", "-c", "-w", "6", stdin=PI_TEXT)
    for algorithm, digest in (("sha256", hashlib.sha256), ("md5", hashlib.md5), ("sha1", hashlib.sha1),
                              ("sha512", hashlib.sha512)):
        yield t(algorithm + "sum", algorithm + "sum", stdin=PI_TEXT, out=text(digest(PI_TEXT).hexdigest() + "  -"),
                status=0)
    yield t("b2sum", "b2sum", stdin=PI_TEXT, out=text(hashlib.blake2b(PI_TEXT).hexdigest() + "  -"), status=0)
    yield t("cksum", "cksum", stdin=PI_TEXT)
    yield t("date", "date", "-u", "-d", "@1234567890", "+%A %d %B %Y %T %j %V %s %N")
    yield t("date-zone", "date", "-d", "TZ=\"America/New_York\" 2024-07-04 09:00", "+%c %z")
    yield t("od", "od", "-A", "d", "-t", "f8", "-t", "x2z", "-N", "400", stdin=PI_TEXT)
    yield t("factor", "factor", "1000000007", "18446744073709551615", "340282366920938463463374607431768211455")
    yield t("tr", "tr", "a-z0-9", "A-Z#", stdin=PI_TEXT)
    yield t("cut", "cut", "-d", " ", "-f", "2,3-", "--output-delimiter=|", stdin=PI_TEXT)
    yield t("printf", "printf", "%.20g %a %e %5.3f|%x|%c|%b|%'d\\n", "0.1", "1.5", "12345.678", "2.71828", "255", "Z",
            "a\\tb", "1234567")
    yield t("numfmt", "numfmt", "--to=iec", "123456789", "1024", "999")
    yield t("base64", "base64", "-w", "60", stdin=PI_TEXT)
    yield t("wc", "wc", stdin=PI_TEXT)
    yield t("tac", "tac", stdin=PI_TEXT)
    yield t("fold", "fold", "-s", "-w", "11", stdin=PI_TEXT)
    yield t("shuf", "shuf", "--random-source=/usr/bin/tr", "-i", "1-50")
    yield t("expr", "expr", "1234567890123456789012", "*", "98765432109876543210")
    yield t("join", "paste", "-d,", "-", "-", "-", stdin=seq(30))
    yield t("stat", "stat", "-c", "%n %a %F", "/usr/bin/bash", "/tmp")
    yield t("ls-missing", "ls", "/no/such/place", out=b"", status=2, err=rb"cannot access '/no/such/place'")
    yield t("readlink", "readlink", "-f", "/usr/bin/awk")
    yield t("uname", "uname", "-sm", out=text("Linux aarch64"), status=0)
    yield t("id", "id", "-u")
    yield t("sleep", "sleep", "0.1", out=b"", status=0)
    yield t("timeout", "timeout", "0.3", "sleep", "10", out=b"", status=124, execs=True)
    yield t("env", "env", "-0", options=("-E", "DGM_TEST=yes"), execs=True, status=0)
    yield t("dd", "dd", "bs=1000", "count=7", "skip=2", "status=none", "iflag=fullblock", stdin=PI_TEXT)
    yield t("split", "bash", "-c", "d=$(mktemp -d); cd $d; seq 1000 | split -l 300; wc -l x* | tail -1; cat x* | md5sum; "
            "cp -a . ../y$$; diff -r . ../y$$ && rm -r ../y$$ $d; echo ok",
            out=text("1000 total", hashlib.md5(seq(1000)).hexdigest() + "  -", "ok"), status=0, execs=True)
    yield t("grep", "grep", "-nE", "(aa|ee)+ ?$|7(1|3) ", stdin=PI_TEXT)
    yield t("grep-perl", "grep", "-cP", r"(?<=line )\d+5(?= )", stdin=PI_TEXT)
    yield t("sed", "sed", "-E", "s/([0-9]+) ([0-9]+)/\\2:\\1/;/9 *$/d;y/abc/xyz/;5~7p", stdin=PI_TEXT)
    yield t("find", "bash", "-c", "find /usr/share/zoneinfo/Europe -type f -size +2k | sort | wc -l | grep -c .", out=text("1"),
            status=0, execs=True)
    yield t("gawk", "gawk", '{ s[$2 % 10] += $2; t = t substr($3, 1, 1) } END { PROCINFO["sorted_in"] = "@ind_num_asc"; '
            'for (k in s) printf "%s %d %.4f\\n", k, s[k], log(s[k]); print length(t), strtonum("0x1F"), 2^31, '
            'gensub(/a(b)/, "<\\\\1>", "g", "abab") }', stdin=PI_TEXT)
    yield t("mawk", "mawk", '{ n += length($0); x[$3]++ } END { for (i = 0; i < 9; i++) n += sin(i); printf "%.6f %d\\n", n, '
            'NR; print substr("hello", 2, 3), index("abc", "c"), 1e6, 0.1 + 0.2 }', stdin=PI_TEXT)
    yield t("diff", "bash", "-c", "diff <(seq 1 9) <(seq 2 11)", out=text("1d0", "< 1", "9a9,10", "> 10", "> 11"),
            status=1, execs=True)

    # Compression, there and back.
    for tool, pack in (("zstd", "zstd -q -c"), ("xz", "xz -c"), ("bzip2", "bzip2 -c"), ("gzip", "gzip -c")):
        yield t(tool, tool, "-c", *(["-q"] if tool == "zstd" else ["-n"] if tool == "gzip" else []), stdin=PI_TEXT)
        yield t(tool + "-round-trip", "bash", "-c", f"seq 40000 | {pack} | {tool} -dc | md5sum",
                out=text(hashlib.md5(seq(40000)).hexdigest() + "  -"), status=0, execs=True, slow=True)
    yield t("tar", "tar", "--mtime=@0", "--owner=0", "--group=0", "--sort=name", "-C", "/etc", "-cf", "-", "passwd", "group")
    yield t("openssl", "openssl", "dgst", "-sha3-256", stdin=PI_TEXT)
    yield t("openssl-aes", "openssl", "enc", "-aes-256-cbc", "-K", "0123456789abcdef", "-iv", "00", "-nosalt",
            stdin=PI_TEXT)

    # Interpreters.
    yield t("python-c", "python3", "-c", "print('hello', 2**100, sum(range(1000)), [x for x in 'abc'])")
    yield t("python-program", "python3", "-", stdin=open(os.path.join(HERE, "program.py"), "rb").read())
    yield t("python-threads", "python3", "-c", "import threading, queue\nq = queue.Queue()\ndef f(i):\n for k in range(100): "
            "q.put(i * k)\nt = [threading.Thread(target=f, args=(i,)) for i in range(4)]\n[x.start() for x in t]\n"
            "[x.join() for x in t]\nprint(sum(q.get() for _ in range(400)))", out=text("29700"), status=0)
    yield t("python-exit", "python3", "-c", "import sys; print('x'); sys.exit(17)", out=text("x"), status=17)
    yield t("python-raise", "python3", "-c", "1/0", out=b"", status=1, err=rb"ZeroDivisionError")
    yield t("python-subprocess", "python3", "-c", "import subprocess as s; print(s.run(['sort', '-r'], input='a\\nb\\n', "
            "text=True, capture_output=True).stdout, s.call(['sh', '-c', 'exit 3']))", out=text("b", "a", " 3"), status=0,
            execs=True)
    yield t("python-sqlite", "python3", "-c", "import sqlite3, hashlib, bz2, lzma, ctypes, uuid, datetime, random\n"
            "c = sqlite3.connect(':memory:'); c.execute('create table t(a)'); c.executemany('insert into t values (?)', "
            "[(i,) for i in range(500)])\nprint(c.execute('select sum(a) from t').fetchone(), "
            "hashlib.sha3_256(b'x').hexdigest()[:9], len(bz2.decompress(bz2.compress(b'q' * 999))), "
            "lzma.decompress(lzma.compress(b'abc')), ctypes.CDLL(None).abs(-5), "
            "datetime.date(2024, 2, 29).isocalendar())\nrandom.seed(5); print(random.random(), random.gauss(0, 1))")
    yield t("python-signal", "python3", "-c", "import signal, os\nsignal.signal(signal.SIGUSR1, lambda s, f: print('sig', s))\n"
            "os.kill(os.getpid(), signal.SIGUSR1)\nsignal.setitimer(signal.ITIMER_REAL, 0.05)\n"
            "signal.signal(signal.SIGALRM, lambda s, f: print('alarm'))\nsignal.pause()", out=text("sig 10", "alarm"),
            status=0)
    yield t("python-compileall", "bash", "-c", "d=$(mktemp -d); cp /usr/lib/python3.11/json/*.py $d; "
            "python3 -m compileall -q $d && ls $d/__pycache__ | wc -l; rm -r $d", out=text("5"), status=0, execs=True,
            slow=True)
    yield t("lua", "lua5.4", "-", stdin=scripts.LUA)
    yield t("perl", "perl", stdin=scripts.PERL)
    yield t("perl-fork", "perl", "-e", "$|=1; for (1..3) { if (!fork) { exit $_ * 2 } } my $s = 0; while (wait > 0) "
            "{ $s += $? >> 8 } print qq($s\\n); print `echo sub`; kill 15, $$", out=text("12", "sub"), status=-15,
            execs=True)
    yield t("sqlite", "sqlite3", ":memory:", stdin=scripts.SQLITE, slow=True)
    yield t("bc", "bc", "-lq", stdin=b"scale=60\n4*a(1)\ne(1)\n2^500\nsqrt(3)\nquit\n")
    yield t("jq", "jq", "-c", "[.[]|select(.v>2)|{k:.s,v:(.v*1.5)}]|group_by(.k)|map(length)",
            stdin=b'[{"v":1,"s":"a"},{"v":3,"s":"b"},{"v":5.5,"s":"b"},{"v":9,"s":"c"}]')
    yield t("file", "file", "-b", "/usr/bin/true", slow=True)

    # The compiler: its parts one by one, and all at once.
    yield Test("cc1", "root", ["/usr/lib/gcc/aarch64-linux-gnu/12/cc1", "-quiet", "-O2", "-fno-ident", "-", "-o", "-"],
               stdin=scripts.HELLO_C.replace(b"#include <stdio.h>", b"int printf(const char *, ...);")
               .replace(b"#include <math.h>", b"double sqrt(double);"), slow=True)
    yield t("objdump", "objdump", "-f", "/usr/bin/true")
    yield t("gcc", "bash", "-c", "cd $(mktemp -d) && cat >hello.c && gcc -O2 hello.c -o hello -lm && ./hello; s=$?; "
            "rm -r $PWD; exit $s", stdin=scripts.HELLO_C, out=text("hello from a64: 2.750 1.732"), status=4, execs=True,
            slow=True)


C_PROGRAMS = ["signals", "processes", "memory", "threads", "jumps", "floats", "system", "faults", "flags", "codegen", "integers",
              "vectors", "newer", "rare", "loops"]


def c_tests():
    for name in C_PROGRAMS:
        for build in ("static", "dynamic"):
            yield Test(f"{name}-{build}", "c", [name], build=build, slow=name in ("threads", "jumps", "loops"))
    yield Test("codegen-pie", "c", ["codegen"], build="static-pie")
    yield Test("floats-O0", "c", ["vectors"], build="O0")
    yield Test("flushes", "c", ["flushes"], options=("--code-cache", "1M", "--stats"), status=0, err=rb"(?m)^flushes [1-9]",
               out=text("thread 0: 0", "thread 1: 0", "thread 2: 0", "sums agree"))
    # Loops that become hot in one, or never, or are made as hot ones at once.
    for name, *options in (("both", "--stats"), ("cold", "--single-tier=cold"), ("hot", "--single-tier=hot"),
                           ("one", "--single-tier=hot", "--one-insn"),
                           ("restless", "--single-tier=restless", "--stats"), ("verify", "--single-tier=hot", "--verify"),
                           ("tool", "--single-tier=hot", "--tool", "count"),
                           ("avx2", "--single-tier=hot", "--host-limit", "avx512"),
                           ("sse", "--single-tier=hot", "--host-limit", "avx512,avx2,avx,bmi,fma,sse4,fp16,fptraps")):
        yield Test("loops-" + name, "c", ["loops"], options=options, slow=True,
                   err={"both": rb"(?m)^hot_blocks [1-9]", "restless": rb"(?m)^homes_changed [1-9]\d"}.get(name))
    # Recursion is made again with care; signals and another thread do not see it.
    yield Test("again", "c", ["again"], options=("--stats",), status=0, err=rb"(?m)^made_again [1-9]",
               out=text("thread 0: agrees", "thread 1: agrees", "signals came"))
    yield Test("again-cold", "c", ["again"], options=("--stats", "--single-tier=cold"), status=0, err=rb"(?m)^made_again 0$",
               out=text("thread 0: agrees", "thread 1: agrees", "signals came"))
    # Rare floating point traps, but not all the time; usual one never does.
    for name, kind, traps in (("rare-often", "6", rb"\d{1,3}"), ("rare-never", "0", b"0")):
        yield Test(name, "c", ["rare", kind, "2000"], options=("--stats",), status=0, err=rb"(?m)^fp_traps " + traps + b"$")
    yield Test("exec-self", "c", ["processes", "exec"], execs=True, err=None, status=0, out=text(
        "pipe 8890 bytes 1000 lines, exit 3", "vfork 11", "copied 1 2", "reaped 10 1", "exec No such file or directory",
        "pid 1 ppid 1", "child argc=5 last=l\u00e4st env=yes", "exec exit 7"))


def option_tests():
    def t(name, *argv, options=(), **kw):
        return Test("option-" + name, "c", ["exits", *argv], options=options, **kw)
    yield t("exit", "exit", "42", options=("-0", "me"), out=text("argv0 me"), status=42)
    yield t("exit-255", "_exit", "255", options=("-0", "me"), out=text("argv0 me"), status=255)
    for number in (9, 15, 6, 2, 10):
        yield t(f"kill-{number}", "kill", str(number), options=("-0", "x"), out=text("argv0 x"), status=-number)
    yield t("segv", "segv", "0", options=("-0", "x"), out=text("argv0 x"), status=-signal.SIGSEGV)
    yield t("ill", "ill", "0", options=("-0", "x"), out=text("argv0 x"), status=-signal.SIGILL)
    yield t("set-env", "env", "DGM_A", options=("-0", "x", "-E", "DGM_A=b c=d"), out=text("argv0 x", "b c=d"), status=0)
    yield t("unset-env", "env", "LC_ALL", options=("-0", "x", "-U", "LC_ALL"), out=text("argv0 x", "(unset)"), status=0)
    yield t("pass-env", "env", "LC_ALL", options=("-0", "x"), out=text("argv0 x", "C.UTF-8"), status=0)
    yield t("argv", "argv", "", "two words", "--strace", "-L", options=("-0", "x"),
            out=text("argv0 x", "[x]", "[argv]", "[]", "[two words]", "[--strace]", "[-L]"), status=0)
    yield t("stderr", "stderr", "0", options=("-0", "x"), out=text("argv0 x"), status=0, err=rb"^to stderr\n$")
    yield t("qemu-line", "env", "DGM_A", options=("-0", "x", "-E", "DGM_A=1,DGM_B=2"), entry="link",
            out=text("argv0 x", "1"), status=0)
    yield t("qemu-stack", "exit", "3", options=("-0", "x", "-s", "16777216"), entry="link", out=text("argv0 x"), status=3)
    yield Test("option-strace", "c", ["exits", "exit", "0"], options=("--strace", "-0", "x"), out=text("argv0 x"), status=0,
               err=rb"write\(1, ?\"argv0 x\\n\", 8\) += 8[\s\S]*exit_group\(0\)")
    yield Test("option-stats", "c", ["exits", "exit", "0"], options=("--stats", "-0", "x"), out=text("argv0 x"), status=0,
               err=rb"(?m)^guest_instructions\s+\d+")
    yield Test("option-version", "plain", ["--version"], status=0)
    yield Test("option-help", "plain", ["--help"], status=0)
    yield Test("option-unknown", "plain", ["run", "--no-such-option", "x"], status=2, err=rb"^dragoman: .*--no-such-option")


# Instructions of the raw programs below.
NOP, SVC, MOV_X0_0, MOV_X8_93, SVE_CNTD = 0xd503201f, 0xd4000001, 0xd2800000, 0xd2800ba8, 0x04e0e3e0
RAW_BASE, RAW_HEADER = 0x10000, 64 + 56


def mov_x8(n):
    return 0xd2800008 | n << 5


def unimplemented_row():
    """(name, word) of a row of the decode tables that is marked as not implemented; None: there is none left."""
    folder = os.path.join(TOP, "src/guest/aarch64")
    for name in sorted(os.listdir(folder)):
        if not name.endswith(".dec"):
            continue
        with open(os.path.join(folder, name)) as f:
            for line in f:
                m = re.match(r'(\w+)\s+((?:[01x]+\s+|\w+:s?\d+\s+)+)[\w+]+\s+"[^"]*"\s+\S+\s+!\s*$', line)
                if not m:
                    continue
                bits = "".join("0" * int(t.split(":")[1].strip("s")) if ":" in t else t.replace("x", "0")
                               for t in m[2].split())
                return m[1], int(bits, 2)
    return None


def raw_programs():
    """name -> instructions: programs too odd for a compiler."""
    exit_0 = [MOV_X0_0, MOV_X8_93, SVC]
    row = unimplemented_row()
    return {"unimp-row": [NOP, row[1] if row else SVE_CNTD, *exit_0], "unimp-none": [NOP, NOP, SVE_CNTD, *exit_0],
            "unimp-syscall": [mov_x8(1000), SVC, mov_x8(280), SVC, *exit_0]}


def unimp_tests():
    """What is not there names itself under --log unimp, and is SIGILL or ENOSYS."""
    def t(name, program, log, err, status):
        return Test("option-" + name, "raw", [program], options=("--log", log) if log else (), out=b"", status=status,
                    err=rb"\A" + err + rb"\Z")
    row = unimplemented_row()
    if row:
        yield t("unimp-row", "unimp-row", "unimp", b"dragoman: unimplemented instruction at %#x: %08x [^\n]+\n"
                % (RAW_BASE + RAW_HEADER + 4, row[1]), -signal.SIGILL)
    none = rb"dragoman: undefined instruction at %#x: %08x [^\n]+\n" % (RAW_BASE + RAW_HEADER + 8, SVE_CNTD)
    yield t("unimp-none", "unimp-none", "unimp", none, -signal.SIGILL)
    yield t("unimp-quiet", "unimp-none", None, b"", -signal.SIGILL)
    yield t("unimp-range", "unimp-none", "unimp:10000-11000", none, -signal.SIGILL)
    yield t("unimp-elsewhere", "unimp-none", "unimp:20000-21000", b"", -signal.SIGILL)
    yield t("unimp-syscall", "unimp-syscall", "unimp", rb"dragoman: unimplemented system call of unknown name \(1000\)\n"
            rb"dragoman: unimplemented system call bpf \(280\)\n", 0)


# name, how the file is made (see bad_files), exit code, what the one line on stderr says
BAD = [
    ("not-elf", 126, rb"ELF|format"), ("empty", 126, rb""), ("truncated-header", 126, rb""),
    ("truncated-file", 126, rb""), ("headers-outside", 126, rb""), ("many-headers", 126, rb""),
    ("huge-segment", 126, rb""), ("overlap-kernel", 126, rb""), ("bad-class", 126, rb"32-bit\); this build runs aarch64"),
    ("big-endian", 126, rb"big-endian\); this build runs aarch64"),
    ("bad-type", 126, rb""), ("interp-endless", 126, rb""), ("x86-64", 126, rb"aarch64"), ("directory", 126, rb"irectory"),
    ("no-permission", 126, rb"ermission"), ("missing", 127, rb"No such file"), ("no-interpreter", 127, rb"/lib/no-such-ld\.so was not found: give -L"),
    ("interpreter-of-host", 126, rb"x86-64"), ("mips", 126, rb"built for MIPS \(EM 8, 64-bit\); this build runs aarch64"),
    ("one-byte", 126, rb"not an ELF"), ("truncated-table", 126, rb"truncated ELF"), ("no-headers", 126, rb"0 program headers"),
    ("nothing-to-load", 126, rb"nothing to load"), ("file-beyond-memory", 126, rb"truncated ELF"),
    ("endless-bss", 126, rb"map"), ("device", 126, rb"not a regular file"),
    ("not-elf/inside", 126, rb"Not a directory"), ("loop", 126, rb"symbolic links"), ("name" * 1100, 126, rb"too long"),
    ("script-missing", 127, rb"/no/such/interpreter: No such file"), ("script-empty", 126, rb"without an interpreter"),
    ("script-loop", 126, rb"too many #!"), ("script-bad", 126, rb"not an ELF"),
]


def bad_tests():
    for name, status, err in BAD:
        yield Test("bad-" + name[:30], "bad", [name], out=b"", status=status, err=rb"^dragoman: [^\n]+: [^\n]*" + err + rb"[^\n]*\n$")
    # From no more address space than the command itself needs to begin, to nearly enough.
    for kb in (12000, 40000, 150000, 290000):
        yield Test(f"bad-no-memory-{kb}", "c", ["exits"], out=b"", status=126, memory_kb=kb,
                   err=rb"^dragoman: [^\n]+: [^\n]*([Oo]ut of|Cannot allocate) memory\n$")
    yield Test("bad-no-memory-stack", "c", ["exits"], memory_kb=290000, options=("--code-cache", "4M", "-s", "1G"), out=b"", status=126,
               err=rb"^dragoman: [^\n]+: [^\n]*([Oo]ut of|Cannot allocate) memory[^\n]*\n$")
    for option, path in (("-L", "/no/such/place"), ("--rootfs", "/etc/passwd")):
        yield Test("bad-root" + option, "c", ["exits"], options=(option, path), out=b"", status=2,
                   err=rb"^dragoman: %s %s: not a directory\n$" % (option.encode(), path.encode()))
    for option, word in (("--cpu", "z80"), ("--host", "z80"), ("--log", "z80"), ("--host-limit", "z80"), ("-s", "z80")):
        yield Test("bad-word" + option, "c", ["exits"], options=(option, word), out=b"", status=2,
                   err=rb"^dragoman: %s z80: [^\n]+\n$" % option.encode())
    yield Test("bad-no-interpreter-sysroot", "c", ["exits"], build="no-interpreter", out=b"", status=127,
               err=rb"^dragoman: [^\n]+: its interpreter /lib/no-such-ld\.so was not found under /[^\n]+/root\n$")
    yield Test("bad-no-interpreter-rootfs", "c", ["exits"], build="no-interpreter", out=b"", status=127,
               options=("--rootfs", "/usr/share"),
               err=rb"^dragoman: [^\n]+: its interpreter /lib/no-such-ld\.so was not found under /usr/share\n$")
    yield Test("bad-missing-library", "c", ["exits"], build="missing-library", out=b"", status=127, err=rb"libgone\.so")


# --- files --------------------------------------------------------------------------------------

def compile_c(folder):
    """Every C program in the builds the table asks for."""
    os.makedirs(folder, exist_ok=True)
    cc, common = "aarch64-linux-gnu-gcc", ["-std=gnu17", "-w", "-pthread"]
    jobs = []
    for name in C_PROGRAMS + ["again", "exits", "flushes"]:
        jobs += [(name, "static", ["-O2", "-static"]), (name, "dynamic", ["-O2"])]
    jobs += [("codegen", "static-pie", ["-O2", "-static-pie", "-fPIE"]), ("vectors", "O0", ["-O0", "-static"])]
    gone = os.path.join(folder, "libgone.so")
    if not os.path.exists(gone):
        subprocess.run([cc, "-shared", "-fPIC", "-x", "c", "-", "-o", gone], input=b"int gone;", check=True)
    jobs += [("exits", "missing-library", ["-O2", "-Wl,--no-as-needed", gone]),
             ("exits", "no-interpreter", ["-O2", "-Wl,--dynamic-linker=/lib/no-such-ld.so"])]
    for name, build, flags in jobs:
        source, out = os.path.join(HERE, name + ".c"), os.path.join(folder, f"{name}.{build}")
        if os.path.exists(out) and os.path.getmtime(out) > os.path.getmtime(source):
            continue
        if build == "missing-library":
            flags = flags[:-1] + ["-L" + folder, "-l:libgone.so"]
        r = subprocess.run([cc, *common, *flags, source, "-o", out, "-lm"], capture_output=True, text=True)
        if r.returncode:
            sys.exit(f"run.py: {source}: {r.stderr}")


def elf_of(words, mem_bytes=None):
    """A static ELF program of these instructions."""
    code, vaddr = struct.pack(f"<{len(words)}I", *words), RAW_BASE
    size = RAW_HEADER + len(code)
    return (struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1", 2, 183, 1, vaddr + RAW_HEADER, 64, 0, 0, 64, 56, 1, 0, 0, 0)
            + struct.pack("<IIQQQQQQ", 1, 7, 0, vaddr, vaddr, size, mem_bytes or size, 0x1000) + code)


def raw_files(folder):
    os.makedirs(folder, exist_ok=True)
    for name, words in raw_programs().items():
        with open(os.path.join(folder, name), "wb") as f:
            f.write(elf_of(words))
        os.chmod(f.name, 0o755)


def bad_files(folder, good_path):
    """Files that cannot be run, made from one that can."""
    os.makedirs(folder, exist_ok=True)
    with open(good_path, "rb") as f:
        good = f.read()

    def put(name, data, mode=0o755):
        path = os.path.join(folder, name)
        if os.path.exists(path):
            os.chmod(path, 0o700)
        with open(path, "wb") as f:
            f.write(data)
        os.chmod(path, mode)

    def patched(*changes):
        data = bytearray(good)
        for at, size, value in changes:
            data[at:at + size] = value.to_bytes(size, "little")
        return bytes(data)

    phoff = int.from_bytes(good[32:40], "little")
    put("not-elf", b"just some text that is no program\n")
    put("empty", b"")
    put("truncated-header", good[:40])
    put("truncated-file", good[:len(good) // 3])
    put("headers-outside", patched((32, 8, 0x7fffffffffffff00)))
    put("many-headers", patched((56, 2, 0xfff0), (54, 2, 56)))
    put("huge-segment", patched((phoff + 40, 8, 0x7fffffffffffffff)))
    put("overlap-kernel", patched((phoff + 16, 8, 0xffff800000000000)))
    put("bad-class", patched((4, 1, 1)))
    put("big-endian", patched((5, 1, 2)))
    put("bad-type", patched((16, 2, 1)))
    put("interp-endless", patched((phoff, 4, 3), (phoff + 32, 8, 1 << 40)))
    put("x86-64", patched((18, 2, 62)))
    put("mips", patched((18, 2, 8)))
    put("one-byte", good[:1])
    put("truncated-table", good[:phoff + 56])
    put("no-headers", patched((56, 2, 0)))
    put("nothing-to-load", patched(*((phoff + 56 * i, 4, 0) for i in range(int.from_bytes(good[56:58], "little")))))
    put("file-beyond-memory", patched((phoff + 40, 8, 1)))
    put("endless-bss", elf_of([NOP], mem_bytes=1 << 39))
    put("script-missing", b"#!/no/such/interpreter\n")
    put("script-empty", b"#!  \n")
    put("script-loop", f"#!{folder}/script-loop\n".encode())
    put("script-bad", f"#!{folder}/not-elf\n".encode())
    for name, target in (("device", "/dev/null"), ("loop", "loop")):
        if not os.path.islink(os.path.join(folder, name)):
            os.symlink(target, os.path.join(folder, name))
    put("no-permission", good, 0)
    os.makedirs(os.path.join(folder, "directory"), exist_ok=True)
    with open(good_path.replace("exits.static", "exits.no-interpreter"), "rb") as f:
        dynamic = f.read()
    put("no-interpreter", dynamic)
    put("interpreter-of-host", dynamic.replace(b"/lib/no-such-ld.so\0", b"/" * 12 + b"bin/sh\0"))


# --- running ------------------------------------------------------------------------------------

class Runner:
    def __init__(self, args):
        self.args = args
        self.guest = os.path.join(args.guest, "arm64")
        self.root = os.path.join(self.guest, "root")
        self.is_qemu = "qemu" in os.path.basename(args.dragoman)
        found = shutil.which(args.dragoman)
        if not found:
            sys.exit(f"run.py: {args.dragoman}: not found; run make first")
        self.dragoman = found if self.is_qemu else os.path.abspath(found)
        self.oracle = shutil.which(args.qemu)
        self.c_folder = os.path.join(os.path.abspath(args.build), "tests-programs")

    def program(self, test):
        """Host path of the program, and the options that find its root."""
        if test.where == "root":
            return test.argv[0], ["--rootfs", self.root]
        if test.where == "busybox":
            return os.path.join(self.guest, "busybox/usr/bin/busybox"), []
        if test.where in ("bad", "raw"):
            return os.path.join(self.c_folder, test.where, test.argv[0]), []
        return os.path.join(self.c_folder, f"{test.argv[0]}.{test.build}"), ["-L", self.root]

    def arguments(self, test):
        return list(test.argv) if test.where == "busybox" else list(test.argv[1:])

    def qemu_command(self, test, qemu):
        program, options = self.program(test)
        if test.where == "root":
            program, options = self.root + program, ["-L", self.root, "-0", program]
        return [qemu, *options, *test.options, program, *self.arguments(test)]

    def command(self, test):
        if self.is_qemu:
            return self.qemu_command(test, self.dragoman)
        if test.where == "plain":
            return [self.dragoman, *test.argv]
        program, options = self.program(test)
        start = [self.dragoman, "run"]
        if test.entry == "link":
            start = [self.dragoman + "-aarch64"]
        if self.args.host:
            start.append(f"--host={self.args.host}")
        if self.args.single_tier:
            start.append(f"--single-tier={self.args.single_tier}")
        limit = ["/bin/sh", "-c", f'ulimit -v {test.memory_kb}; exec "$@"', "sh"] if test.memory_kb else []
        return [*limit, *start, *options, *test.options, program, *self.arguments(test)]

    def execute(self, command, test):
        limit = self.args.timeout * (10 if self.args.host else 1)
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                 env=ENVIRONMENT, cwd="/", start_new_session=True)
        try:
            out, err = child.communicate(test.stdin or b"", timeout=limit)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)  # the session started above, and all in it
            out, err = child.communicate()
            return None, out, err
        return child.returncode, out, err

    def skip_reason(self, test):
        if test.memory_kb and "ASAN_OPTIONS" in ENVIRONMENT:
            return "sanitizers need the address space"
        if self.args.host and test.slow:
            return "slow under --host"
        if self.args.host == "interp" and "--host-limit" in test.options:
            return "the interpreter uses no host features"
        if self.args.host and test.where == "plain":
            return "runs no program"
        if self.is_qemu and (test.execs or test.where in ("bad", "raw", "plain") or test.entry == "link" or test.memory_kb
                             or test.name in ("option-strace", "option-stats", "rare-often", "rare-never")):
            return "not for qemu"
        if test.where in ("root", "busybox") and not os.path.isdir(self.root):
            return "no guest root; run scripts/guest-root arm64"
        if test.entry == "link" and not os.path.exists(self.dragoman + "-aarch64"):
            return "no dragoman-aarch64 link"
        return None

    def expected(self, test):
        """(status, stdout), either of which None means: anything."""
        golden = os.path.join(HERE, test.argv[0] + ".out")
        if test.where == "c" and test.out is None and test.status is None and os.path.exists(golden):
            with open(golden, "rb") as f:
                data = f.read()
            body, _, status = data.rpartition(b"exit ")
            return int(status), body
        if test.out is None and test.status is None:
            if not self.oracle:
                return "skip"
            status, out, _ = self.execute(self.qemu_command(test, self.oracle), test)
            return status, out
        return test.status, test.out

    def run(self, test):
        """Returns (verdict, detail, seconds)."""
        begin = time.monotonic()
        reason = self.skip_reason(test)
        if reason:
            return "skip", reason, 0
        want = self.expected(test)
        if want == "skip":
            return "skip", "no qemu-aarch64 to compare with", 0
        status, out, err = self.execute(self.command(test), test)
        took = time.monotonic() - begin
        problems = []
        if status is None:
            problems.append(f"did not end within {self.args.timeout} s")
        elif want[0] is not None and status != want[0]:
            problems.append(f"exit status {status}, expected {want[0]}")
        if want[1] is not None and out != want[1] and not (self.is_qemu and test.argv[0] in DEVIATIONS):
            problems.append(difference(want[1], out))
        if test.err and not re.search(test.err, err):
            problems.append(f"stderr {err[-300:]!r} does not match {test.err!r}")
        if problems and err and not test.err:
            problems.append("stderr: " + err[-400:].decode(errors="replace").strip())
        return ("fail" if problems else "pass"), "\n    ".join(problems), took


def difference(want, got):
    a, b = want.splitlines(), got.splitlines()
    for number, (x, y) in enumerate(zip(a, b), 1):
        if x != y:
            return f"stdout line {number}: {y[:160]!r}\n    expected:     {x[:160]!r}"
    return f"stdout has {len(b)} lines ({len(got)} bytes), expected {len(a)} ({len(want)} bytes)"


def bless(runner):
    """Writes NAME.out from qemu-aarch64; DEVIATIONS are to be mended by hand afterwards."""
    for name in C_PROGRAMS:
        test = Test(name, "c", [name])
        status, out, _ = runner.execute(runner.qemu_command(test, runner.oracle), test)
        with open(os.path.join(HERE, name + ".out"), "wb") as f:
            f.write(out + f"exit {status}\n".encode())
        print("blessed", name, "- mend by hand: " + DEVIATIONS[name] if name in DEVIATIONS else "")


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--dragoman", default=os.path.join(TOP, "build", "dragoman"))
    p.add_argument("--qemu", default="qemu-aarch64", help="the oracle")
    p.add_argument("--guest", default=os.path.join(TOP, "build", "guest"))
    p.add_argument("--build", default=os.path.join(TOP, "build"), help="where the C programs are compiled to")
    p.add_argument("--host", help="passed on as --host=HOST")
    p.add_argument("--single-tier", choices=("cold", "hot", "restless"), help="passed on")
    p.add_argument("--only", default="", metavar="REGEX")
    p.add_argument("--skip", metavar="REGEX", action="append", default=[], help="tests to leave out; each counts")
    p.add_argument("--jobs", type=int, default=2)
    p.add_argument("--timeout", type=float, default=60, metavar="SECONDS")
    p.add_argument("--verbose", "-v", action="store_true", help="a line for each test")
    p.add_argument("--bless", action="store_true", help="write the .out files from qemu-aarch64")
    args = p.parse_args()
    args.guest = os.path.abspath(args.guest)
    runner = Runner(args)
    compile_c(runner.c_folder)
    raw_files(os.path.join(runner.c_folder, "raw"))
    bad_files(os.path.join(runner.c_folder, "bad"), os.path.join(runner.c_folder, "exits.static"))
    if args.bless:
        bless(runner)
        return
    tests = [t for part in (c_tests, option_tests, unimp_tests, bad_tests, busybox_tests, root_tests) for t in part()]
    tests = [t for t in tests if re.search(args.only, t.name) and not any(re.search(s, t.name) for s in args.skip)]
    count = {"pass": 0, "fail": 0, "skip": 0}
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        for test, result in zip(tests, pool.map(runner.run, tests)):
            verdict, detail, took = result
            count[verdict] += 1
            if verdict == "fail":
                print(f"FAIL {test.name}: {detail}", flush=True)
            elif args.verbose:
                print(f"{verdict:4} {test.name} {took:.2f} s {detail}", flush=True)
    print(f"programs: {count['pass']} passed, {count['fail']} failed, {count['skip']} skipped")
    sys.exit(1 if count["fail"] else 0)


if __name__ == "__main__":
    main()
