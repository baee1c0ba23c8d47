"""Shrinking a failing history: the fewest steps of its program that still break the same rule.

Steps draw from chances of their own (scenario.py), so most can be left out without changing the others. They are left
out in ever smaller parts, while it helps and time lasts (Zeller and Hildebrandt, "Simplifying and Isolating
Failure-Inducing Input", 2002).
"""

from __future__ import annotations

import time
from collections.abc import Callable

from p2pchat.testing.simulation.many import judge
from p2pchat.testing.simulation.scenario import History, Steps

SHRUNK_WITHIN = 60.0  # seconds


def shrink(seed: int, seconds: float = SHRUNK_WITHIN) -> list[int]:
    """Return the steps, of those of this seed, that are needed to break what it breaks first.

    All of its steps when it breaks nothing.
    """
    steps = [*range(len(History(seed).program))]
    faults = judge(seed)
    if not faults:
        return steps
    rule, until = faults[0].rule, time.monotonic() + seconds

    def breaks(tried: Steps) -> bool:
        return any(fault.rule == rule for fault in judge(seed, steps=tried))

    return fewest(steps[2:], breaks, lambda: time.monotonic() >= until)


def fewest(steps: list[int], breaks: Callable[[Steps], bool], is_over: Callable[[], bool]) -> list[int]:
    """Return steps that still break, after leaving out what could be left out before it was over."""
    size = len(steps)
    while size and not is_over():
        kept = steps
        for start in range(0, len(steps), size):
            part = {*steps[start : start + size]}
            fewer = [step for step in kept if step not in part]
            if not is_over() and breaks(fewer):
                kept = fewer
        if kept == steps or size > 1:
            size //= 2
        steps = kept
    return steps
