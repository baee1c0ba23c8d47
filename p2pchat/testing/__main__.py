"""Play random histories: `python -m p2pchat.testing --seed 123 --verbose` replays one with everything that happens.

`--shrink` looks for the fewest steps of it that break the same promise, and `--steps 3,7,12` plays only those.

Without --seed it plays many, from --first on, so many or for so many minutes, in as many processes as asked for. It
stops at the first one in which a promise is broken, unless told to keep going. The exit code is 1 then.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from itertools import count

from p2pchat.testing.simulation.many import PlayResult, judge, minutes_are_over, play_many, shrink
from p2pchat.testing.simulation.scenario import Steps


def replay(seed: int, steps: Steps | None = None) -> str:
    """Return the one command that plays this history again, or these steps of it."""
    only = f" --steps {','.join(map(str, steps))}" if steps is not None else ""
    return f"python -m p2pchat.testing --seed {seed}{only} --verbose"


def shrunk(seed: int) -> str:
    """Return the one command that plays the fewest steps of a failing history that were found to break it as well."""
    return replay(seed, shrink(seed))


def main(arguments: list[str] | None = None) -> int:
    asked = _parser().parse_args(arguments)
    began = time.monotonic()
    played = _one(asked) if asked.seed is not None else _many(asked)
    if not asked.quiet:
        print(f"{played.histories:,} histories in {time.monotonic() - began:.1f} s, {len(played.broken)} failed")
        print(f"  {played.histories:8} histories")
        for what, often in sorted(played.counts.items()):
            print(f"  {often:8} {what}")
    return 1 if played.broken else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m p2pchat.testing", description="Play random histories of a mesh.")
    parser.add_argument("--seed", type=int, help="play this one only")
    parser.add_argument("--steps", help="play only these steps, as 3,7,12; the first two always are (with --seed)")
    parser.add_argument("--shrink", action="store_true", help="find the fewest steps that break it too (with --seed)")
    parser.add_argument("--first", type=int, default=0, help="begin with this seed (default 0)")
    parser.add_argument("--count", type=int, default=100, help="play so many (default 100)")
    parser.add_argument("--minutes", type=float, default=0.0, help="play for so long instead")
    parser.add_argument("--jobs", type=int, default=1, help="in so many processes (default 1; 0: one for each core)")
    parser.add_argument("--keep-going", action="store_true", help="play on after a fault")
    parser.add_argument("--until", default="", metavar="TEXT", help="play on until a fault says this")
    parser.add_argument("--quiet", action="store_true", help="say only which seed failed")
    parser.add_argument("--verbose", action="store_true", help="tell everything that happens (with --seed)")
    return parser


def _one(asked: argparse.Namespace) -> PlayResult:
    counts: Counter[str] = Counter()
    steps = [int(step) for step in asked.steps.split(",") if step] if asked.steps is not None else None
    if asked.shrink:
        steps = shrink(asked.seed)
        print(f"these steps are enough: {replay(asked.seed, steps)}", flush=True)
    faults = judge(asked.seed, counts, print if asked.verbose else None, steps)
    played = PlayResult(1, counts, {asked.seed: [str(fault) for fault in faults]} if faults else {})
    _tell(played, 20)
    return played


def _many(asked: argparse.Namespace) -> PlayResult:
    seeds = count(asked.first) if asked.minutes else range(asked.first, asked.first + asked.count)
    over = minutes_are_over(asked.minutes) if asked.minutes else lambda played: False

    def stop(played: PlayResult) -> bool:
        wanted = any(asked.until in fault for faults in played.broken.values() for fault in faults)
        return over(played) or (wanted and not asked.keep_going)

    total = PlayResult()
    for played in play_many(seeds, asked.jobs, stop=stop):
        _tell(played, 3 if asked.keep_going or asked.until else 20, asked.until)
        total.add(played)
    return total


def _tell(played: PlayResult, most: int, until: str = "") -> None:
    for seed, faults in sorted(played.broken.items()):
        print(f"seed {seed} broke {len(faults)} promises; to see how: {replay(seed)}")
        for fault in sorted(faults, key=lambda fault: until not in fault)[:most]:
            print(f"  {fault}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
