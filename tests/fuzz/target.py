"""Targets: a parser and the rules it must keep for all inputs.

`run` takes any bytes. An exception that it raises is a fault of the code under test. `seeds` are the first inputs, in
shapes that random bytes would hardly have.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass


class Violation(AssertionError):
    """A rule was broken."""


def hold(condition: object, text: str) -> None:
    """Raise Violation unless this holds; unlike an assert, it cannot be switched off."""
    if not condition:
        raise Violation(text)


def memory_place() -> str | None:
    """Return a directory for temporary files, in memory if possible: TMPDIR if set, None for the default."""
    fast = "/dev/shm"
    return fast if "TMPDIR" not in os.environ and os.path.isdir(fast) and os.access(fast, os.W_OK) else None


@dataclass(frozen=True, slots=True)
class Target:
    """One fuzzed parser.

    Attributes:
        about: A short description.
        run: Takes an input; an exception is a fault.
        seeds: Makes the first inputs.
        words: Pieces that mutation inserts into inputs.
        max_bytes: The maximum length of an input.
        examples: The number of inputs that hypothesis makes in the ordinary run: about one second.
        share: The share of the time of a run; deep and slow targets get more.
        end: Closes what `run` keeps open between inputs.
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
