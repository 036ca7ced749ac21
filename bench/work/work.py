"""work.py N: dictionaries, classes, json, re, big integers, sorting; prints one checksum line."""
import hashlib
import json
import re
import sys


class Lcg:
    def __init__(self, seed):
        self.state = seed

    def next(self, below):
        self.state = (self.state * 6364136223846793005 + 1442695040888963407) & (2**64 - 1)
        return (self.state >> 33) % below


def records(rng, count):
    return [{"id": i, "name": f"item-{rng.next(1000):04d}", "price": rng.next(10**6) / 100,
             "tags": [f"t{rng.next(20)}" for _ in range(3)]} for i in range(count)]


def queens(size, row=0, cols=0, up=0, down=0):
    if row == size:
        return 1
    free, found = ~(cols | up | down) & (1 << size) - 1, 0
    while free:
        bit = free & -free
        free ^= bit
        found += queens(size, row + 1, cols | bit, (up | bit) << 1, (down | bit) >> 1)
    return found


def pi_digits(count):
    def arctan_inverse(x, unity):
        total = term = unity // x
        n, sign = 3, -1
        while term:
            term //= x * x
            total += sign * (term // n)
            sign, n = -sign, n + 2
        return total
    unity = 10 ** (count + 10)
    return 4 * (4 * arctan_inverse(5, unity) - arctan_inverse(239, unity)) // 10**10


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    rng, digest = Lcg(42), hashlib.md5()
    for _ in range(rounds):
        data = records(rng, 1500)
        text = json.dumps(data, sort_keys=True)
        back = json.loads(text)
        assert back == data
        by_tag = {}
        for r in back:
            for t in r["tags"]:
                by_tag.setdefault(t, []).append(r["price"])
        for t in sorted(by_tag):
            digest.update(f"{t} {sum(by_tag[t]):.2f}".encode())
        digest.update(str(len(re.findall(r'"item-0(\d)\d+"', text))).encode())
        data.sort(key=lambda r: (r["name"], -r["id"]))
        digest.update(data[7]["name"].encode())
        digest.update(str(queens(7)).encode())
        digest.update(str(pi_digits(400)).encode())
    print("python", digest.hexdigest())


main()
