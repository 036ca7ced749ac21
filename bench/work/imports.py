"""Imports as much of Python's library as there is: large code, each piece run about once."""
import importlib
import pkgutil
import sys

SKIP = {"antigravity", "this", "idlelib", "lib2to3", "turtle", "turtledemo", "test", "ensurepip", "distutils"}
sys.path = [p for p in sys.path if "work" not in p]
names = sorted(m.name for m in pkgutil.iter_modules() if m.name not in SKIP and not m.name.startswith("_"))
good = 0
for name in names:
    try:
        importlib.import_module(name)
        good += 1
    except Exception:  # what this root has not got
        pass
print(good > 100)
