"""The hard half of the language runtimes' rows: what their everyday programs in programs.py leave alone.

Shared memory between workers, every collector and compiler mode, stacks that overflow, callbacks from
C into the runtime, code that only a signal preempts, processes that end by a signal. The fields are
those of programs.ROWS, which these rows are a part of.
"""
JAVA = "/usr/lib/jvm/java-17-openjdk-arm64/bin"

# One line of output a mode, so that a row's expectations are the same line as often as there are modes.
NODE_MODES = ["", "--single-threaded", "--stress-compaction", "--always-sparkplug", "--no-opt", "--jitless"]
NODE = ("atomics 800000 deopt 499999550000 x1 f64 316.977074268 map 44999850000 throws 20000 .*ipc 21 "
        "exit null SIGTERM true usr2 3$")
JAVA_MODES = ["-XX:+UseG1GC", "-XX:+UseZGC", "-XX:+UseShenandoahGC", "-XX:+UseParallelGC", "-XX:+UseSerialGC",
              "-XX:TieredStopAtLevel=1"]
OPENJDK = (r"atomic 1200000 sync 1200000 so 5 oom oob 100000 div 200001 mmap 34359607296 net fut true "
           r"fma 1998\.0 int hook 4$")


def in_modes(program, modes, rest):
    """A shell loop that runs a program in each mode, its output and status on one line."""
    return (f"for o in {' '.join(repr(m) for m in modes)}; do {program} $o {rest} 2>&1 | tr '\\n' ' '; "
            "echo ${PIPESTATUS[0]}; done")


ROWS = [
    dict(name="nodejs modes", packages=["nodejs"], files=["hard.js", "hard-child.js"], timeout=300,
         command=in_modes("node", NODE_MODES, "hard.js"), expect=[NODE] * len(NODE_MODES)),
    dict(name="openjdk modes", packages=["openjdk-17-jdk-headless"], files=["Hard.java"], timeout=300,
         command=f"{JAVA}/javac Hard.java && " + in_modes(f"{JAVA}/java", JAVA_MODES, "-Xmx200m Hard"),
         expect=[OPENJDK] * len(JAVA_MODES)),
    dict(name="go hard", packages=["golang-go"], files=["hard.go"], timeout=180,
         command="go build -o hard hard.go && ./hard 2>&1; echo $?",
         expect=["preempt true", "deep 200000", "prof true 299999995", "sig user defined", "http 200", "sub",
                 "kill signal: killed", "^87ba1f1d6916716a", r'"b":1\.5', "panics 2000", "deferred", "SIGSEGV", "^2$"]),
    dict(name="cgo", packages=["golang-go"], files=["cgo.go"], timeout=180,
         command="go build -o cgo cgo.go && ./cgo && GOGC=1 ./cgo && GODEBUG=asyncpreemptoff=1 ./cgo",
         expect=["cgo 50005000 42", "fault true", "ok"] * 3),
    dict(name="rust hard", packages=["rustc"], files=["hard.rs"], timeout=120,
         command="rustc -O hard.rs -o hard && ./hard",
         expect=["atomic 600000", "u8 ok", "chan 499500", "tcp", r"Some\(7\)",
                 r"i128 388507 f \(0\.30000000000000004, 2147483647, 0, 0\)", "stack 20000", "panic true", r"sig Some\(6\)"]),
    dict(name="mono hard", packages=["mono-mcs", "mono-runtime"], files=["hard.cs"], timeout=120,
         command="mcs hard.cs && mono hard.exe", status=5,
         expect=["atomic 300000", "exc 4000", "async 190", "gc", "sub", "65", "12", "121645100408832000 0.841470984808 0.1"]),
    dict(name="ruby hard", packages=["ruby"], files=["hard.rb"], timeout=120, command="ruby hard.rb",
         expect=["500500", r"100010000, 150015000", r"\[0, 1, 2, :e\]", "^3$", "usr1", "so", "446616", "tcp", "timeout", "^30$"]),
    dict(name="luajit hard", packages=["luajit"], files=["hard.lua"], command="luajit hard.lua",
         expect=["1\t5", "49500\t2001000\t49500", "^1000$", "^3629114$", "-2314929031238253280LL\t1580159", "3080000",
                 "stack overflow", r"3 2\.50 v"]),
    dict(name="python3 hard", packages=["libpython3.11-stdlib"], files=["hard.py"], timeout=120, command="python3 -u hard.py",
         expect=["^fork 600 3", "^spawn 600 3", "^forkserver 600 3", "shm 7", r"qsort \[1, 2, 3, 4, 5\]", "fds b'root'",
                 "memfd 3 pidfd True", "pty b'tty 1' 9$", "segv 11", "alarms True", "rlimit True", "spawned",
                 "exec from threads", "UTC True"]),
]
