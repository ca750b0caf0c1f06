"""A stand-in for a training loop: fixed arithmetic a step on one core, printed the way trainers print.

    python workload.py --steps 80 --extra-percent 5

Every step hashes a fixed number of bytes, so its time follows the machine's speed and nothing else; --extra-percent adds that
share of work to every step (a planted slowdown). Prints one dict line a step on stdout.
"""
import argparse
import hashlib
import sys

CHUNK = bytes(range(256)) * 64  # 16 KiB


def step(chunks):
    digest = hashlib.sha256()
    for _ in range(chunks):
        digest.update(CHUNK)
    return digest.digest()[0] / 256


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--work", type=int, default=3600, help="chunks of 16 KiB hashed a step")
    parser.add_argument("--extra-percent", type=float, default=0.0)
    args = parser.parse_args()
    chunks = round(args.work * (1 + args.extra_percent / 100))
    for number in range(1, args.steps + 1):
        noise = step(chunks)
        print({"step": number, "loss": round(4.0 / (1 + number / 50) + noise / 100, 4)}, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
