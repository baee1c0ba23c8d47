"""Random mutation of inputs, for fuzzing without coverage, and reduction of failing inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

NUMBERS = (b"\0", b"\xff", b"\x7f", b"\x80", b"\n", b" ")


def mutated(data: bytes, other: bytes, words: Sequence[bytes], chance: Random, max_bytes: int) -> bytes:
    """Return `data` with a few changes; `other` is an input to take pieces from."""
    made = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 2, 3, 5, 9))):
        at = chance.randrange(len(made) + 1)
        match chance.randrange(8):
            case 0 if made:
                made[at % len(made)] ^= 1 << chance.randrange(8)
            case 1 if made:
                made[at % len(made)] = chance.randrange(256)
            case 2 if words:
                made[at:at] = chance.choice(words)
            case 3 if words:
                word = chance.choice(words)
                made[at : at + len(word)] = word
            case 4:
                del made[at : at + chance.choice((1, 1, 2, 4, 8, 16, 64))]
            case 5:
                made[at:at] = chance.randbytes(chance.choice((1, 1, 2, 4, 8)))
            case 6:
                start = chance.randrange(len(other) + 1)
                made[at:at] = other[start : start + chance.randrange(1, 64)]
            case _:
                made[at:at] = made[at : at + chance.randrange(1, 16)] or chance.choice(NUMBERS)
    return bytes(made[:max_bytes])


def smaller(data: bytes, fails: Callable[[bytes], bool], tries: int = 400) -> bytes:
    """Return a shorter input that fails too: halves are removed, then smaller and smaller pieces."""
    size = max(1, len(data) // 2)
    while size and tries:
        at, shorter = 0, False
        while at < len(data) and tries:
            tries -= 1
            without = data[:at] + data[at + size :]
            if fails(without):
                data, shorter = without, True
            else:
                at += size
        if not shorter or size > len(data):
            size //= 2
    return data
