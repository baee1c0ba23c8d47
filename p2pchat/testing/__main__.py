"""Play random histories: `python -m p2pchat.testing --seed 123 --verbose` replays one with everything that happens.

Without --seed it plays many, from --first on, and stops at the first one in which a promise is broken. The exit code
is 1 then.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections import Counter

from p2pchat.testing.checker import Fault
from p2pchat.testing.faults import Tell, play


def replay(seed: int) -> str:
    """Return the one command that plays this history again."""
    return f"python -m p2pchat.testing --seed {seed} --verbose"


def judge(seed: int, counts: Counter[str], tell: Tell | None = None) -> list[Fault]:
    """Play one history and add up what happened; an error in the core is a fault like others."""
    try:
        sim, faults = play(seed, tell)
    except Exception as error:
        if tell is not None:
            traceback.print_exc()
        return [Fault("error", f"{type(error).__name__}: {error}", f"seed {seed}")]
    counts.update(sim.counts)
    counts.update({f"frame {kind}": count for kind, count in sim.frames.items()})
    return faults


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m p2pchat.testing", description="Play random histories of a mesh.")
    parser.add_argument("--seed", type=int, help="play this one only")
    parser.add_argument("--first", type=int, default=0, help="begin with this seed (default 0)")
    parser.add_argument("--count", type=int, default=100, help="play so many (default 100)")
    parser.add_argument("--keep-going", action="store_true", help="play on after a fault")
    parser.add_argument("--until", default="", metavar="TEXT", help="play on until a fault says this")
    parser.add_argument("--quiet", action="store_true", help="say only which seed failed")
    parser.add_argument("--verbose", action="store_true", help="tell everything that happens")
    asked = parser.parse_args(arguments)
    seeds = [asked.seed] if asked.seed is not None else range(asked.first, asked.first + asked.count)
    counts: Counter[str] = Counter()
    began, failed, played = time.monotonic(), 0, 0
    for seed in seeds:
        faults = judge(seed, counts, print if asked.verbose else None)
        played += 1
        if faults:
            failed += 1
            print(f"seed {seed} broke {len(faults)} promises; to see how: {replay(seed)}")
            told = sorted(faults, key=lambda fault: asked.until not in str(fault))
            for fault in told[: 3 if asked.keep_going or asked.until else 20]:
                print(f"  {fault}")
            wanted = any(asked.until in str(fault) for fault in faults)
            if wanted and not asked.keep_going:
                break
    if not asked.quiet:
        print(f"{played} histories in {time.monotonic() - began:.1f} s, {failed} failed")
        for what, count in sorted(counts.items()):
            print(f"  {count:8} {what}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
