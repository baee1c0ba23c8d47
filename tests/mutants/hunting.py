"""Hunting of mutants: each runs in a process of its own, with the test or the histories that should catch it.

`poe mutants` hunts all and prints a table; `poe mutants NAME...` some, and what those said that nothing caught.
"""

from __future__ import annotations

import os
import pickle
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from tests.mutants.infected import CAUGHT
from tests.mutants.mutant import ROOT, Mutant, MutantError
from tests.mutants.table import MUTANTS

HUNTED_FOR = 800.0  # seconds: ten times what the longest takes; a mutant that hangs its histories is not caught


@dataclass(frozen=True, slots=True)
class Catch:
    """The result of one hunt: the seed of the history that was broken (-1 for a test), the time, and the output."""

    mutant: Mutant
    caught: bool
    seed: int
    seconds: float
    said: str


def hunt(mutant: Mutant) -> Catch:
    """Hunt one mutant. Raises MutantError if it does not fit."""
    began = time.monotonic()
    # Without what a run of pytest that this is a part of, perhaps of `poe test-long`, says to its own processes.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "P2PCHAT_"))}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "tests.mutants.infected"], cwd=ROOT, input=pickle.dumps(mutant),
            env=environment | {"PYTHONUTF8": "1"}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            timeout=HUNTED_FOR, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return Catch(mutant, False, -1, time.monotonic() - began, "it took too long")
    said = done.stdout.decode(errors="replace")
    if done.returncode not in (0, CAUGHT):
        raise MutantError(f"the process of {mutant.name} failed: {said}")
    seed = re.search(r"^seed (\d+)$", said, re.MULTILINE)
    seconds = time.monotonic() - began
    return Catch(mutant, done.returncode == CAUGHT, int(seed[1]) if seed else -1, seconds, said)


def hunt_all(mutants: Sequence[Mutant], jobs: int = 0) -> Iterator[Catch]:
    """Hunt these, so many at once (0: one per core); yield the results in their order."""
    with ThreadPoolExecutor(jobs or os.cpu_count() or 1) as pool:
        yield from pool.map(hunt, mutants)


def main(names: Sequence[str]) -> int:
    """Hunt the named mutants, or all; print a table. Return 1 if one was not caught."""
    unknown = set(names) - {mutant.name for mutant in MUTANTS}
    if unknown:
        print(f"no such mutant: {', '.join(sorted(unknown))}", file=sys.stderr)
        return 2
    mutants = [mutant for mutant in MUTANTS if not names or mutant.name in names]
    free = 0
    print(f"{'mutant':40} {'seed':>5} {'s':>4}  caught by")
    for catch in hunt_all(mutants):
        free += not catch.caught
        by = f"{catch.mutant.caught_by}" if catch.caught else f"NOTHING ({catch.mutant.caught_by})"
        print(
            f"{catch.mutant.name:40} {'-' if catch.seed < 0 else catch.seed:>5} {catch.seconds:4.0f}  {by}", flush=True
        )
        if not catch.caught and names:
            print(catch.said)
    print(f"{len(mutants) - free} of {len(mutants)} mutants caught")
    return 1 if free else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
