#!/usr/bin/env python3
"""Makes a C file of a text: embed.py INPUT OUTPUT NAME defines `const char NAME[]`. ASCII only."""
import sys


def main():
    source, target, name = sys.argv[1:]
    with open(source, encoding="ascii", newline="\n") as f:
        lines = f.read().splitlines(keepends=True)
    escapes = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "?": "\\?"}
    with open(target, "w", encoding="ascii") as f:
        f.write(f"extern const char {name}[];\nconst char {name}[] =\n")
        f.writelines('    "' + "".join(escapes.get(c, c) for c in line) + '"\n' for line in lines)
        f.write("    ;\n")


if __name__ == "__main__":
    main()
