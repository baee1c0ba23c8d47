"""Many histories at once: seeds dealt out to processes, what happened added up, what failed kept.

A history is judged the same wherever it is played: nothing but its seed goes to the process that plays it.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import islice

from p2pchat.testing.checker import Fault
from p2pchat.testing.simulation.scenario import Scenario, Steps, Tell, play

HAND = 10  # seeds dealt out at once: half a second of play
MOST_TOLD = 20  # faults of one history; one cause often has hundreds


@dataclass(slots=True)
class PlayResult:
    """What came of some histories.

    Attributes:
        histories: How many were played.
        counts: How often what happened in them, all together.
        broken: By seed the faults as text, of those in which a promise was broken.
    """

    histories: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    broken: dict[int, list[str]] = field(default_factory=dict)

    def add(self, other: PlayResult) -> None:
        """Take in what came of others."""
        self.histories += other.histories
        self.counts.update(other.counts)
        self.broken.update(other.broken)


def check_history(
    seed: int, counts: Counter[str] | None = None, tell: Tell | None = None, steps: Steps | None = None
) -> list[Fault]:
    """Play one history, or these steps of it, and add up what happened; an error in the core is a fault like others."""
    try:
        sim, faults = play(seed, tell, steps)
    except Exception as error:
        if tell is not None:
            import traceback

            traceback.print_exc()
        return [Fault("error", f"{type(error).__name__}: {error}", f"seed {seed}")]
    if counts is not None:
        counts.update(sim.counts)
        counts.update({f"frame {kind}": count for kind, count in sim.frames.items()})
    return faults


def play_some(seeds: Iterable[int]) -> PlayResult:
    """Play these, one after the other."""
    played = PlayResult()
    for seed in seeds:
        faults = check_history(seed, played.counts)
        played.histories += 1
        if faults:
            played.broken[seed] = [str(fault) for fault in faults[:MOST_TOLD]]
    return played


def play_many(
    seeds: Iterable[int], jobs: int = 0, *, stop: Callable[[PlayResult], bool] = lambda played: False
) -> Iterator[PlayResult]:
    """Play these in `jobs` processes (0: as many as there are cores); yield what came of each hand as it is done.

    Args:
        stop: Asked after each hand; once it says True no more are dealt out, and those out are waited for.
    """
    jobs = jobs or os.cpu_count() or 1
    dealt = iter(seeds)
    if jobs == 1:
        yield from _play_here(dealt, stop)
        return
    context = multiprocessing.get_context("spawn")  # the same on every system, and no threads are copied
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_collect_seldom) as pool:
        out: set[Future[PlayResult]] = set()
        ended = False
        while True:
            while not ended and len(out) < 2 * jobs:
                hand = list(islice(dealt, HAND))
                ended = not hand
                if hand:
                    out.add(pool.submit(play_some, hand))
            if not out:
                return
            done, out = wait(out, return_when=FIRST_COMPLETED)
            for future in done:
                played = future.result()
                ended = ended or stop(played)
                yield played


def _collect_seldom() -> None:
    """A history is one cycle of objects and short: looking for lost ones again and again takes a tenth of its time."""
    gc.freeze()
    gc.set_threshold(50_000, 50, 50)


def _play_here(dealt: Iterator[int], stop: Callable[[PlayResult], bool]) -> Iterator[PlayResult]:
    for seed in dealt:
        played = play_some([seed])
        yield played
        if stop(played):
            return


def minutes_are_over(minutes: float) -> Callable[[PlayResult], bool]:
    """Return what stops play_many after so many minutes from now."""
    until = time.monotonic() + 60 * minutes
    return lambda played: time.monotonic() >= until


# ---- shrinking
#
# Shrinking a failing history: the fewest steps of its program that still break the same rule.
#
# Steps draw from chances of their own (scenario.py), so most can be left out without changing the others. They are left
# out in ever smaller parts, while it helps and time lasts (Zeller and Hildebrandt, "Simplifying and Isolating
# Failure-Inducing Input", 2002).


SHRUNK_WITHIN = 60.0  # seconds


def shrink(seed: int, seconds: float = SHRUNK_WITHIN) -> list[int]:
    """Return the steps, of those of this seed, that are needed to break what it breaks first.

    All of its steps when it breaks nothing.
    """
    steps = [*range(len(Scenario(seed).program))]
    faults = check_history(seed)
    if not faults:
        return steps
    rule, until = faults[0].rule, time.monotonic() + seconds

    def breaks(tried: Steps) -> bool:
        return any(fault.rule == rule for fault in check_history(seed, steps=tried))

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
