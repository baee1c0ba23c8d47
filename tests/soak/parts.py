"""Parts of a soak: commands that run for a given time, and exit with 1 on a failure.

To add one, write a command that takes `--minutes N` and a seed, prints `  123 what it did` lines or one summary line at
its end, and on a failure prints the command that repeats it.

The weekly tests are no slices: they run first, once and to their end, with nothing beside them, because some measure
the whole machine.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Part:
    """One kind of work. `share` is its share of the time; `arguments` are those of python, given minutes and a seed."""

    name: str
    share: float
    arguments: Callable[[float, int], list[str]]
    runs_here: bool = True


def _histories(minutes: float, seed: int) -> list[str]:
    return ["simulation.explore", "--minutes", f"{minutes:.3f}"]  # draws its own seeds


def _kills(minutes: float, seed: int) -> list[str]:
    return ["tests.processes.kills", "--minutes", f"{minutes:.3f}", "--seed", str(seed)]


def _inputs(minutes: float, seed: int) -> list[str]:
    return ["tests.fuzz", "--minutes", f"{minutes:.3f}", "--seed", str(seed)]


WEEKLY = Part("weekly", 0, lambda minutes, seed: ["pytest", "tests/long", "-m", "weekly", "-q"])
PARTS = (
    Part("histories", 0.5, _histories),
    Part("kills", 0.3, _kills, sys.platform == "linux"),
    Part("inputs", 0.2, _inputs),
)
