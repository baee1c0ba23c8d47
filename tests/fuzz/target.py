"""Targets: a parser and the rules it must keep, whatever bytes it gets.

`run` takes any bytes and returns, or raises: everything it raises is a fault of the code under test. `seeds` are first
inputs, each of a shape that a random one would hardly have.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass


class Violation(AssertionError):
    """A rule was broken."""


def hold(condition: object, text: str) -> None:
    """Raise Wrong unless this holds; an assert that cannot be switched off."""
    if not condition:
        raise Violation(text)


def memory_place() -> str | None:
    """Return a directory for fast, temporary files: TMPDIR if that is set, None for the usual one."""
    fast = "/dev/shm"
    return fast if "TMPDIR" not in os.environ and os.path.isdir(fast) and os.access(fast, os.W_OK) else None


@dataclass(frozen=True, slots=True)
class Target:
    """One fuzzed parser.

    Attributes:
        about: A short description.
        run: Takes an input; raises for a fault.
        seeds: Makes the first inputs.
        words: Pieces that mutation inserts into inputs.
        max_bytes: The maximum length of an input.
        examples: How many inputs hypothesis makes in the ordinary run: about a second of them.
        share: The share of the time of a run; deep and slow targets get more.
        end: Cleans up what `run` left for the next input.
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
