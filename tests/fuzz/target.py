"""What a target is: a parser and what must hold for it, whatever bytes it is given.

`run` takes any bytes and returns, or raises: everything it raises is a fault of what is fuzzed. `seeds` are inputs to
begin with, each a shape that a random one would hardly find.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass


class Wrong(AssertionError):
    """Something came out that must not."""


def hold(condition: object, text: str) -> None:
    """Raise Wrong unless this holds; an assert that no switch turns off."""
    if not condition:
        raise Wrong(text)


def memory_place() -> str | None:
    """Return where files are quick and need not last: TMPDIR where that is set, None for the usual place."""
    fast = "/dev/shm"
    return fast if "TMPDIR" not in os.environ and os.path.isdir(fast) and os.access(fast, os.W_OK) else None


@dataclass(frozen=True, slots=True)
class Target:
    """One thing that is fuzzed.

    Attributes:
        about: What it is, in a few words.
        run: Takes an input; raises for a fault.
        seeds: Makes inputs to begin with.
        words: Pieces that inputs are made of: mutation puts them in.
        max_bytes: No input is longer.
        examples: How many hypothesis makes of it in the ordinary run: about a second of them.
        share: Of the time of a run, beside the others: what is deep and slow gets more of it.
        end: Takes down what `run` left standing for the next input.
    """

    name: str
    about: str
    run: Callable[[bytes], None]
    seeds: Callable[[], Sequence[bytes]]
    words: Sequence[bytes] = ()
    max_bytes: int = 4096
    examples: int = 300
    share: int = 1
    end: Callable[[], None] = lambda: None
