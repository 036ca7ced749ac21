#!/usr/bin/env python3
"""Line tests: one line is one test of guest instructions.

    add x0, x1, x2 ; ret-less code | x1=5 x2=7 nzcv=0x60000000 | x0=12 nzcv

Left: assembly, instructions separated by ';'. Middle: registers before (others hold a fixed
pattern). Right: what to look at afterwards, with a value where it is worth stating one; without one the
value must be what qemu-aarch64 computes. Registers: x0..x29, v0..v31 (128 bits), nzcv, fpcr, fpsr, and mN, the
64-bit word at offset N of a 256-byte buffer whose address is written `buf`. '#' starts a comment.

All lines of all files become one program. It is run by qemu-aarch64 and by each dragoman given with
--run; every register named on the right must agree everywhere.
"""
import argparse
import pathlib
import re
import struct
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
RECORD = struct.Struct("<31QQQ512s256s")  # x0-30, nzcv, fpsr, v0-31, buffer
BUF_BYTES = 256


class Line:
    def __init__(self, path, number, text):
        self.where = f"{path.name}:{number}"
        parts = [p.strip() for p in text.split("|")]
        if len(parts) != 3:
            raise SystemExit(f"{self.where}: expected CODE | BEFORE | AFTER")
        self.code = [c.strip() for c in parts[0].split(";")]
        self.before = dict(self.setting(w) for w in parts[1].split())
        self.after = dict(self.setting(w) for w in parts[2].split())

    def setting(self, word):
        name, _, value = word.partition("=")
        if not re.fullmatch(r"[xv]\d+|nzcv|fpcr|fpsr|m\d+", name):
            raise SystemExit(f"{self.where}: {name}: no such register")
        return name, value if value in ("", "buf") else int(value, 0)


def read_lines(paths):
    lines = []
    for path in paths:
        for number, text in enumerate(path.read_text().splitlines(), 1):
            text = text.split("#", 1)[0] if not re.search(r"#-?\d|#0x", text) else re.sub(r"\s#\s.*", "", text)
            if text.strip() and not text.lstrip().startswith("#"):
                lines.append(Line(path, number, text))
    return lines


def state_data(line):
    """The registers before, as assembler data in the order that `load` reads them."""
    x = [line.before.get(f"x{i}", 0x0101010101010101 * (i + 1)) for i in range(31)]
    v = [line.before.get(f"v{i}", (0x1111111111111111 * (i % 15 + 1)) << 64 | 0x0F1E2D3C4B5A6978 + i) for i in range(32)]
    mem = [0] * (BUF_BYTES // 8)
    for i in range(BUF_BYTES // 8):
        mem[i] = line.before.get(f"m{8 * i}", int.from_bytes(bytes(range(8 * i, 8 * i + 8)), "little"))
    out = [".quad " + ",".join("buffer" if w == "buf" else hex(w & (1 << 64) - 1) for w in x)]
    out.append(f".quad {line.before.get('nzcv', 0)}, {line.before.get('fpcr', 0)}, {line.before.get('fpsr', 0)}")
    for w in v:
        out.append(f".quad {hex(w & (1 << 64) - 1)}, {hex(w >> 64)}")
    out.append(".quad " + ",".join(hex(w) for w in mem))
    return out


def program(lines):
    text = [".arch armv8.6-a+crypto+sha3+sm4+fp16+fp16fml+flagm+bf16+i8mm", ".text", ".global _start", "_start:"]
    data = [".data", ".balign 16"]
    for n, line in enumerate(lines):
        data += [f"in{n}:"] + state_data(line)
        # the literals of the lines before lie behind a jump, within reach of all of them
        pool = [".ltorg", ".balign 4"] if n % 256 == 255 else []
        text += [f"ldr x29, =in{n}", "adr x30, 1f", "b load"] + pool + ["1:"]
        text += [f"    {c}" for c in line.code]
        text += ["msr tpidr_el0, x30", "adr x30, 1f", "b save", "1:"]
    text += ["mov x0, #0", "mov x8, #93", "svc #0", ".ltorg"]
    # load: x29 = data, x30 = where to go on, so x30 itself holds that address when the test starts
    load = ["load:", "ldr x0, =buffer", "add x1, x29, #(31*8+24+512)"]
    load += [f"ldp x2, x3, [x1, #{16 * i}]\nstp x2, x3, [x0, #{16 * i}]" for i in range(16)]
    load += ["ldr x0, [x29, #248]", "msr nzcv, x0", "ldr x0, [x29, #256]", "msr fpcr, x0", "ldr x0, [x29, #264]", "msr fpsr, x0"]
    load += ["add x0, x29, #272"] + [f"ldr q{i}, [x0, #{16 * i}]" for i in range(32)]
    load += [f"ldr x{i}, [x29, #{8 * i}]" for i in range(29)]
    load += ["ldr x29, [x29, #232]", "br x30"]
    save = ["save:", "stp x0, x1, [sp, #-16]!", "ldr x0, =out", "str x30, [x0, #-8]"]
    save += [f"str x{i}, [x0, #{8 * i}]" for i in range(2, 30)]
    save += ["ldp x2, x3, [sp], #16", "stp x2, x3, [x0]", "mrs x2, tpidr_el0", "str x2, [x0, #240]",
             "mrs x2, nzcv", "str x2, [x0, #248]", "mrs x2, fpsr", "str x2, [x0, #256]", "add x1, x0, #264"]
    save += [f"str q{i}, [x1]\nadd x1, x1, #16" for i in range(32)]
    save += ["ldr x3, =buffer"]
    save += [f"ldp x4, x5, [x3, #{16 * i}]\nstp x4, x5, [x1, #{16 * i}]" for i in range(16)]
    save += ["msr fpcr, xzr", "mov x1, x0", f"mov x2, #{RECORD.size}", "mov x0, #1", "mov x8, #64", "svc #0",
             "ldr x0, =out", "ldr x30, [x0, #-8]", "br x30"]
    data += [".balign 16", ".balign 4096", "buffer: .space 4096", ".balign 16", ".quad 0, 0", f"out: .space {RECORD.size + 16}"]
    return "\n".join(text + load + save + data) + "\n"


def unpack(record):
    f = RECORD.unpack(record)
    regs = {f"x{i}": f[i] for i in range(31)}
    regs["nzcv"], regs["fpsr"] = f[31], f[32]
    vectors = f[33]
    for i in range(32):
        regs[f"v{i}"] = int.from_bytes(vectors[16 * i:16 * i + 16], "little")
    for i in range(0, BUF_BYTES, 8):
        regs[f"m{i}"] = int.from_bytes(f[34][i:i + 8], "little")
    return regs


def run(command, exe, n):
    p = subprocess.run(command + [str(exe)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=600)
    records = [unpack(p.stdout[i:i + RECORD.size]) for i in range(0, len(p.stdout) - RECORD.size + 1, RECORD.size)]
    if p.returncode or len(records) != n:
        print(f"{' '.join(command)}: exit status {p.returncode} after {len(records)} of {n} lines: "
              f"{p.stderr.decode(errors='replace').strip()}")
    return records


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--run", action="append", default=[], help="a command line to compare, e.g. 'build/dragoman run'")
    parser.add_argument("--oracle", default="qemu-aarch64")
    parser.add_argument("--cc", default="aarch64-linux-gnu-gcc")
    parser.add_argument("--keep", help="write the program here")
    parser.add_argument("files", nargs="*", type=pathlib.Path)
    args = parser.parse_args()
    lines = read_lines(args.files or sorted((HERE / "lines").glob("*.t")))
    with tempfile.TemporaryDirectory() as tmp:
        source, exe = pathlib.Path(tmp, "lines.s"), pathlib.Path(args.keep or pathlib.Path(tmp, "lines"))
        source.write_text(program(lines))
        subprocess.run([args.cc, "-nostdlib", "-static", "-o", str(exe), str(source)], check=True)
        runs = [(name, run(name.split(), exe, len(lines))) for name in [args.oracle] + args.run]
    failed = set()
    for n, line in enumerate(lines):
        wants = dict(line.after)
        for name, records in runs:
            if n >= len(records):
                failed.add(n)
                continue
            for reg in wants:
                value = records[n][reg]
                if wants[reg] == "":
                    wants[reg] = value  # the oracle's
                elif wants[reg] != "buf" and wants[reg] != value:
                    failed.add(n)
                    print(f"{line.where}: {'; '.join(line.code)}: {reg} = {value:#x} with {name}, expected {wants[reg]:#x}")
    print(f"{len(lines) - len(failed)} passed, {len(failed)} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
