"""The command line of the simulation: `python -m simulation` plays random histories.

`--seed 123 --verbose` replays one and prints everything that happens. `--shrink` finds the fewest of its steps that
still break a promise, and `--steps 3,7,12` plays only those. Without --seed it plays many histories from --first on,
for --count histories or --minutes, in --jobs processes. It stops at the first broken promise unless --keep-going is
given. In histories with --odd someone signs any text as an entry, with --deletions someone deletes what is
stored, with --blocks someone blocks others, with --members somebody says who is a member, with --routers
peers are behind routers, with --files messages have files, and with --machines people have several machines. The exit
code is 1 if a promise was broken.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from dataclasses import fields
from itertools import count

from simulation.random_histories import (
    NOTHING,
    PlayResult,
    Steps,
    WantedEvents,
    check_history,
    minutes_are_over,
    play_many,
    shrink,
)


def replay(seed: int, steps: Steps | None = None, wanted: WantedEvents = NOTHING) -> str:
    """Return the command that replays a history, or only some of its steps."""
    only = f" --steps {','.join(map(str, steps))}" if steps is not None else ""
    return f"python -m simulation --seed {seed}{only}{wanted.options} --verbose"


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    began = time.monotonic()
    played = _one(options) if options.seed is not None else _many(options)
    if not options.quiet:
        print(f"{played.histories:,} histories in {time.monotonic() - began:.1f} s, {len(played.broken)} failed")
        print(f"  {played.histories:8} histories")
        for what, often in sorted(played.counts.items()):
            print(f"  {often:8} {what}")
    return 1 if played.broken else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m simulation", description="Play random histories of a mesh.")
    parser.add_argument("--seed", type=int, help="play only this history")
    parser.add_argument("--steps", help="play only steps such as 3,7,12, and always the first two (with --seed)")
    parser.add_argument(
        "--shrink", action="store_true", help="find the fewest steps that break a promise (with --seed)"
    )
    parser.add_argument("--first", type=int, default=0, help="first seed (default 0)")
    parser.add_argument("--count", type=int, default=100, help="number of histories (default 100)")
    parser.add_argument("--minutes", type=float, default=0.0, help="play for this long instead of --count")
    parser.add_argument("--jobs", type=int, default=1, help="number of processes (default 1; 0: one for each core)")
    parser.add_argument("--odd", action="store_true", help="someone signs any text as an entry, in each history")
    parser.add_argument("--deletions", action="store_true", help="someone deletes messages here, in each history")
    parser.add_argument("--blocks", action="store_true", help="someone blocks others, in each history")
    parser.add_argument("--members", action="store_true", help="somebody says who is a member, in each history")
    parser.add_argument("--routers", action="store_true", help="peers are behind routers, in each history")
    parser.add_argument("--files", action="store_true", help="messages have files, in each history")
    parser.add_argument("--machines", action="store_true", help="people have several machines, in each history")
    parser.add_argument("--groups", action="store_true", help="somebody makes a group, in each history")
    parser.add_argument("--keep-going", action="store_true", help="go on after a fault")
    parser.add_argument("--until", default="", metavar="TEXT", help="go on until a fault contains this text")
    parser.add_argument("--quiet", action="store_true", help="print only the seeds that failed")
    parser.add_argument("--verbose", action="store_true", help="print everything that happens (with --seed)")
    return parser


def _wanted(options: argparse.Namespace) -> WantedEvents:
    return WantedEvents(**{each.name: getattr(options, each.name) for each in fields(WantedEvents)})


def _one(options: argparse.Namespace) -> PlayResult:
    counts: Counter[str] = Counter()
    wanted = _wanted(options)
    steps = [int(step) for step in options.steps.split(",") if step] if options.steps is not None else None
    if options.shrink:
        steps = shrink(options.seed, wanted=wanted)
        print(f"these steps are enough: {replay(options.seed, steps, wanted)}", flush=True)
    faults = check_history(options.seed, counts, print if options.verbose else None, steps, wanted)
    played = PlayResult(1, counts, {options.seed: [str(fault) for fault in faults]} if faults else {})
    _print_faults(played, 20, wanted)
    return played


def _many(options: argparse.Namespace) -> PlayResult:
    seeds = count(options.first) if options.minutes else range(options.first, options.first + options.count)
    over = minutes_are_over(options.minutes) if options.minutes else lambda played: False

    def stop(played: PlayResult) -> bool:
        found = any(options.until in fault for faults in played.broken.values() for fault in faults)
        return over(played) or (found and not options.keep_going)

    total, wanted = PlayResult(), _wanted(options)
    for played in play_many(seeds, options.jobs, stop=stop, wanted=wanted):
        _print_faults(played, 3 if options.keep_going or options.until else 20, wanted, options.until)
        total.add(played)
    return total


def _print_faults(played: PlayResult, most: int, wanted: WantedEvents, until: str = "") -> None:
    for seed, faults in sorted(played.broken.items()):
        print(f"seed {seed} broke {len(faults)} promises; to see how: {replay(seed, wanted=wanted)}")
        for fault in sorted(faults, key=lambda fault: until not in fault)[:most]:
            print(f"  {fault}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
