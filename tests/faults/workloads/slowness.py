"""The things that make a training slow, as they happen in people's scripts: a slow read, costly preprocessing, a slow disk.

Costly work is a fixed amount of it, not a time: under load it takes longer, and the stopwatch counts what it took.
"""
import math
import re
import time

from stopwatch import watch

_WORDS = "the quick brown fox, jumps over 13 lazy dogs; and again: it's a dog's life! " * 6
_TOKEN = re.compile(r"'s|'t|\w+|[^\w\s]+|\s+")


def clean_text(rounds):
    """Text cleaning in plain Python; a round is about 0.04 ms of one core."""
    kept = 0
    for number in range(rounds):
        for piece in _TOKEN.findall(_WORDS.replace("dog", "cat" + str(number % 7))):
            kept += len(piece.strip().lower())
    return kept


def slow_read(seconds, cls="input"):
    """A read from a far disk or a web store: waits, uses no CPU."""
    if seconds > 0:
        with watch.planted(cls):
            time.sleep(seconds)


def costly(rounds, cls="input"):
    if rounds > 0:
        with watch.planted(cls):
            clean_text(rounds)


def extra_compute(model_input, rounds, cls="compute"):
    """More arithmetic on the same device, as on a rank that has the longer sequences."""
    if rounds > 0:
        with watch.planted(cls):
            import torch
            with torch.no_grad():
                square = torch.full((192, 192), 1 / 192.0)
                held = square
                for _ in range(rounds):
                    held = held @ square
                if not math.isfinite(float(held[0, 0])):
                    raise RuntimeError("extra work went wrong")
