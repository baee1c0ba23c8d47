"""Hunting of mutants: each runs in a copy of the package, with the tests or histories that should catch it.

`poe mutants` hunts all and prints a table; `poe mutants NAME...` some. A mutant is caught when the rule it names is
broken within its seeds, or when the test it names fails (and not merely its collection).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.mutants.patches import ROOT, Mutant, PatchError, read_all

COPIED = ("p2pchat", "tests", "pyproject.toml")
LEFT_OUT = shutil.ignore_patterns(".*")  # including bytecode: a copied file has the same time
HUNTED_FOR = 300.0  # seconds; a mutant that hangs is not caught
FAILED_TESTS = 1  # pytest's exit code when tests ran and some failed


@dataclass(frozen=True, slots=True)
class Catch:
    """The result of one hunt: the number of histories (0 for a test), the time, and the output."""

    mutant: Mutant
    caught: bool
    seeds: int
    seconds: float
    said: str


def hunt(mutant: Mutant) -> Catch:
    """Hunt one mutant. Raises PatchError if its patch does not fit."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for part in COPIED if mutant.test else COPIED[:1]:
            _copy(ROOT / part, root / part)
        mutant.infect(root)
        command = _test(mutant) if mutant.test else _histories(mutant)
        environment = os.environ | {"PYTHONPATH": name, "PYTHONUTF8": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        environment["P2PCHAT_TEST_LONG"] = "1"
        try:
            done = subprocess.run(
                [sys.executable, *command], cwd=name, env=environment, capture_output=True, encoding="utf-8",
                timeout=HUNTED_FOR, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return Catch(mutant, False, 0, time.monotonic() - began, "it took too long")
    seconds, said = time.monotonic() - began, done.stdout + done.stderr
    if mutant.test:
        return Catch(mutant, done.returncode == FAILED_TESTS and "error" not in _last(said), 0, seconds, said)
    broken = [int(seed) for seed in re.findall(r"^seed (\d+) broke", said, re.MULTILINE)]
    caught = f": {mutant.rule}: " in said
    return Catch(mutant, caught, broken[-1] + 1 if caught and broken else mutant.seeds, seconds, said)


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=LEFT_OUT)
    else:
        shutil.copy(source, target)


def _histories(mutant: Mutant) -> list[str]:
    also = [mutant.option] if mutant.option else []
    return ["-m", "p2pchat.testing", "--quiet", *also, "--count", str(mutant.seeds), "--until", f": {mutant.rule}: "]


def _test(mutant: Mutant) -> list[str]:
    return ["-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-o", "timeout=40", mutant.test]


def _last(said: str) -> str:
    return said.strip().splitlines()[-1] if said.strip() else ""


def hunt_all(mutants: Sequence[Mutant], jobs: int = 0) -> Iterator[Catch]:
    """Hunt these, so many at once (0: one per core); yield the results in their order."""
    with ThreadPoolExecutor(jobs or os.cpu_count() or 1) as pool:
        yield from pool.map(hunt, mutants)


def main(names: Sequence[str]) -> int:
    """Hunt the named mutants, or all; print a table. Return 1 if one was not caught."""
    mutants = [mutant for mutant in read_all() if not names or mutant.name in names]
    if not mutants:
        raise PatchError(f"no such mutant: {', '.join(names)}")
    free = 0
    print(f"{'mutant':40} {'seeds':>5} {'s':>4}  caught by")
    for catch in hunt_all(mutants):
        free += not catch.caught
        seeds = str(catch.seeds) if catch.mutant.rule else "-"
        by = catch.mutant.caught_by if catch.caught else f"NOTHING ({catch.mutant.caught_by})"
        print(f"{catch.mutant.name:40} {seeds:>5} {catch.seconds:4.0f}  {by}", flush=True)
        if not catch.caught and names:
            print(catch.said)
    print(f"{len(mutants) - free} of {len(mutants)} mutants caught")
    return 1 if free else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
