"""Memory: what dragoman needs over the same program run natively, against what it may.

The figure is the peak of resident memory of the process, all of it (pages shared with others and of
mapped files count in full), less that of the native run. Allowed are 24 MB, and 6 bytes for each byte
of guest code that was translated (--stats; code that is in several blocks counts in each).
"""
import os
import re
import subprocess
import tempfile

BASE_BYTES, BYTES_A_BYTE = 24 << 20, 6


def build_helper(folder):
    """The program that runs another and says its peak; None when there is no compiler."""
    source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "work", "peak.c")
    out = os.path.join(folder, "peak")
    if not os.path.exists(out) or os.path.getmtime(out) < os.path.getmtime(source):
        subprocess.run(["gcc", "-O2", source, "-o", out], check=True)
    return out


def peak_bytes(helper, command, env):
    with tempfile.NamedTemporaryFile("r") as said:
        r = subprocess.run([helper, said.name] + command, env=env, stdin=subprocess.DEVNULL,
                           stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        return int(said.read()) << 10 if r.returncode == 0 else None


def code_bytes(command, env):
    """Of guest code that a run translates."""
    at = command.index("run") + 1
    r = subprocess.run(command[:at] + ["--cache", "off", "--stats"] + command[at:], env=env, stdin=subprocess.DEVNULL,
                       stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    found = re.search(r"^translated_bytes (\d+)$", r.stderr, re.M)
    return int(found.group(1)) if found else None


def measure(helper, sides, commands):
    """{side: bytes}, with "allowed": bytes over native. sides: with native, dragoman and cached."""
    out = {s.name: peak_bytes(helper, commands[s.name], s.environment()) for s in sides}
    dragoman = next(s for s in sides if s.name == "dragoman")
    code = code_bytes(commands["dragoman"], dragoman.environment())
    if code is not None:
        out["allowed"] = BASE_BYTES + BYTES_A_BYTE * code
    return out


def shares(row):
    """What each side needs over native, as a part of what it may."""
    m = row.get("memory") or {}
    if not m.get("native") or not m.get("allowed"):
        return {}
    return {name: (m[name] - m["native"]) / m["allowed"] for name in ("dragoman", "cached") if m.get(name)}


def print_rows(rows):
    rows = [r for r in rows if shares(r)]
    if not rows:
        return
    print(f"{'memory, peak':22}" + "".join(f"{n + ' MB':>13}" for n in ("native", "dragoman", "cached"))
          + f"{'allowed over':>14}{'dgm over':>14}{'cached over':>14}")
    for row in rows:
        m = row["memory"]
        mb = {k: v / (1 << 20) for k, v in m.items() if v is not None}
        cells = [f"{mb[n]:13.1f}" if n in mb else f"{'-':>13}" for n in ("native", "dragoman", "cached")]
        over = [f"{mb[n] - mb['native']:14.1f}" if n in mb else f"{'-':>14}" for n in ("dragoman", "cached")]
        print(f"{row['name']:22}" + "".join(cells) + f"{mb['allowed']:14.1f}" + "".join(over))
    print()
