"""Many histories in several processes, with their counts added up and their faults collected; and shrinking.

Only a seed goes to a process, so a history has the same result wherever it is played.
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

CHUNK = 10  # seeds given to a process at once: half a second of play
MOST_FAULTS = 20  # faults kept of one history; one cause often has hundreds


@dataclass(slots=True)
class PlayResult:
    """The result of some histories.

    Attributes:
        histories: How many were played.
        counts: How often each counted event happened in all of them.
        broken: The faults as text, by the seed of each history that broke a promise.
    """

    histories: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    broken: dict[int, list[str]] = field(default_factory=dict)

    def add(self, other: PlayResult) -> None:
        """Add another result."""
        self.histories += other.histories
        self.counts.update(other.counts)
        self.broken.update(other.broken)


def check_history(
    seed: int, counts: Counter[str] | None = None, tell: Tell | None = None, steps: Steps | None = None
) -> list[Fault]:
    """Play a history, or some of its steps, and add its counts. An error in the core is a fault like others."""
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
    """Play these seeds one after the other."""
    played = PlayResult()
    for seed in seeds:
        faults = check_history(seed, played.counts)
        played.histories += 1
        if faults:
            played.broken[seed] = [str(fault) for fault in faults[:MOST_FAULTS]]
    return played


def play_many(
    seeds: Iterable[int], jobs: int = 0, *, stop: Callable[[PlayResult], bool] = lambda played: False
) -> Iterator[PlayResult]:
    """Play these seeds in `jobs` processes (0: one for each core) and yield the result of each chunk.

    Args:
        stop: Called after each chunk. Once it returns True no more chunks are started; running ones are awaited.
    """
    jobs = jobs or os.cpu_count() or 1
    dealt = iter(seeds)
    if jobs == 1:
        yield from _play_here(dealt, stop)
        return
    context = multiprocessing.get_context("spawn")  # the same on every system, and copies no threads
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_collect_rarely) as pool:
        out: set[Future[PlayResult]] = set()
        ended = False
        while True:
            while not ended and len(out) < 2 * jobs:
                chunk = list(islice(dealt, CHUNK))
                ended = not chunk
                if chunk:
                    out.add(pool.submit(play_some, chunk))
            if not out:
                return
            done, out = wait(out, return_when=FIRST_COMPLETED)
            for future in done:
                played = future.result()
                ended = ended or stop(played)
                yield played


def _collect_rarely() -> None:
    """Collect garbage rarely. A history is short and one cycle of objects; collection takes a tenth of its time."""
    gc.freeze()
    gc.set_threshold(50_000, 50, 50)


def _play_here(dealt: Iterator[int], stop: Callable[[PlayResult], bool]) -> Iterator[PlayResult]:
    for seed in dealt:
        played = play_some([seed])
        yield played
        if stop(played):
            return


def minutes_are_over(minutes: float) -> Callable[[PlayResult], bool]:
    """Return a `stop` for play_many that ends it this many minutes from now."""
    until = time.monotonic() + 60 * minutes
    return lambda played: time.monotonic() >= until


# ---- shrinking
#
# Shrinking finds the fewest steps of a failing history that still break the same rule. It leaves out ever smaller parts
# while that helps and time lasts (Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input", 2002).

SHRUNK_WITHIN = 60.0  # seconds


def shrink(seed: int, seconds: float = SHRUNK_WITHIN) -> list[int]:
    """Return the steps of a history needed to break the rule it breaks first; all of its steps if it breaks none."""
    steps = [*range(len(Scenario(seed).program))]
    faults = check_history(seed)
    if not faults:
        return steps
    rule, until = faults[0].rule, time.monotonic() + seconds

    def breaks(tried: Steps) -> bool:
        return any(fault.rule == rule for fault in check_history(seed, steps=tried))

    return fewest(steps[2:], breaks, lambda: time.monotonic() >= until)


def fewest(steps: list[int], breaks: Callable[[Steps], bool], is_over: Callable[[], bool]) -> list[int]:
    """Return steps that still break a rule, after leaving out all that could be left out in time."""
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
