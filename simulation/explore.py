"""Exploration: play new histories of every kind for some minutes, and keep each that breaks a promise in a ledger.

    python -m simulation.explore --minutes 10      play new seeds of all kinds in turn; add to the ledger what fails
    python -m simulation.explore --open            play each open row of the ledger again, at the revision that it names
    python -m simulation.explore --rate            print how many were played and failed, by kind

The ledger (found.tsv) is committed. Its row `failed` has the revision, the options, the seed, the steps that are enough
and the first fault. Its state is `open` until somebody writes there why it failed (`product`, `judge` or `harness`) and
the commit that mended it. A change of the core changes the history of a seed, so a row is played at its own revision,
in a work tree of its own. A row `played` has the number of histories. No row makes the gate red.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import partial
from itertools import cycle
from pathlib import Path
from random import SystemRandom

from filelock import FileLock

from simulation.__main__ import replay
from simulation.random_histories import NOTHING, PlayResult, WantedEvents, play_many, shrink

ROOT = Path(__file__).resolve().parents[1]
LEDGER = ROOT / "simulation" / "found.tsv"
HEADER = "# what\trevision\toptions\tcount\tseed\tsteps\tfault\tstate\n"
KINDS = (
    NOTHING,
    *(WantedEvents(**{each.name: True}) for each in fields(WantedEvents)),
    WantedEvents(members=True, machines=True),
)
CHUNK = 40  # histories of one kind before the next has its turn
NEW_SEEDS = range(10**6, 10**9)  # far above those of tests and mutants


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the ledger.

    Attributes:
        what: "played" or "failed".
        revision: The commit, with "+" behind it if the package or the simulation was changed since.
        options: Those of `python -m simulation`; "" for a plain history.
        count: How many histories were played; 0 in a row of one that failed.
        seed, steps, fault: Of the history that failed; steps are numbers with commas, "" for all.
        state: "open", or what was at fault and the commit that mended it.
    """

    what: str
    revision: str
    options: str
    count: int = 0
    seed: int = -1
    steps: str = ""
    fault: str = ""
    state: str = ""

    @property
    def command(self) -> str:
        words = ["python -m simulation --seed", str(self.seed), self.options, "--verbose"]
        if self.steps:
            words[2:2] = ["--steps", self.steps]
        return " ".join(filter(None, words))

    def line(self) -> str:
        return "\t".join(str(getattr(self, each.name)) for each in fields(self)) + "\n"


def rows(path: Path = LEDGER) -> list[Row]:
    """Return the rows of the ledger; [] if there is no such file."""
    if not path.exists():
        return []
    parts = [line.split("\t") for line in path.read_text("utf-8").splitlines() if not line.startswith("#")]
    return [Row(what, at, options, int(count), int(seed), *rest) for what, at, options, count, seed, *rest in parts]


def add(*new: Row, path: Path = LEDGER) -> None:
    """Add rows; those that count the same kind at the same revision become one."""
    with FileLock(path.with_suffix(".lock")):  # a soak explores in several processes
        found = [*rows(path), *new]
        played: Counter[tuple[str, str]] = Counter()
        for row in found:
            played[row.revision, row.options] += row.count
        counts = [Row("played", *of, count=count) for of, count in played.items() if count]
        failed = [row for row in found if row.what == "failed"]
        path.write_text(HEADER + "".join(row.line() for row in counts + failed), "utf-8")


def revision() -> str:
    """Return the commit, with "+" if files of the package or of the simulation were changed since; else "unknown"."""
    run = partial(subprocess.run, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    name = run(["git", "rev-parse", "--short=10", "HEAD"])
    if name.returncode:
        return "unknown"
    changed = run(["git", "diff", "--quiet", "HEAD", "--", "p2pchat", "simulation/*.py"])
    return str(name.stdout).strip() + "+" * changed.returncode


def explore(minutes: float, jobs: int, kinds: Sequence[WantedEvents], path: Path = LEDGER) -> int:
    """Play new seeds; return how many failed."""
    until, first, here = time.monotonic() + 60 * minutes, SystemRandom().choice(NEW_SEEDS), revision()
    played = failed = 0
    for wanted in cycle(kinds):
        options, some = wanted.options.strip(), PlayResult()
        seeds = range(first, first + CHUNK)
        for result in play_many(seeds, jobs, wanted=wanted, stop=lambda _: time.monotonic() >= until):
            some.add(result)
        new = [Row("played", here, options, some.histories)]
        for seed, faults in sorted(some.broken.items()):
            print(f"FOUND {replay(seed, wanted=wanted)}\n  {faults[0]}", flush=True)
            steps = ",".join(map(str, shrink(seed, wanted=wanted)))
            print(f"  the steps that matter: {steps}", flush=True)
            new.append(Row("failed", here, options, 0, seed, steps, " ".join(faults[0].split()), "open"))
        add(*new, path=path)
        first += CHUNK
        played, failed = played + some.histories, failed + len(some.broken)
        if time.monotonic() >= until:
            break
    print(f"  {played:8} histories\n{played} histories, {failed} failed; they are in {path}")
    return failed


def play_open() -> int:
    """Play each open row at its revision, and print whether it fails there; return how many do."""
    fails = 0
    for row in rows():
        if row.state != "open":
            continue
        with tempfile.TemporaryDirectory() as place:
            tree = f"{place}/tree"
            subprocess.run(
                ["git", "worktree", "add", "-q", "--detach", tree, row.revision.strip("+")], cwd=ROOT, check=True
            )
            try:
                command = [sys.executable, "-m", "simulation", "--seed", str(row.seed), "--quiet", *row.options.split()]
                code = subprocess.run(command, cwd=tree, stdout=subprocess.DEVNULL, check=False).returncode
            finally:
                subprocess.run(["git", "worktree", "remove", "--force", tree], cwd=ROOT, check=True)
        fails += code != 0
        print(f"{'fails' if code else 'holds'} at {row.revision}: {row.command}\n  {row.fault}", flush=True)
    return fails


def show_rate() -> None:
    """Print how many histories were played and failed, by kind."""
    counts: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    for row in rows():
        counts[row.options] += row.count
        failed[row.options] += row.what == "failed"
    for options, count in counts.items():
        print(f"{count:8} histories {options or 'plain':12} {failed[options]:4} failed")
    print(f"{counts.total():8} histories in all       {failed.total():4} failed")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="poe explore", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10.0, help="play for this long (default 10)")
    parser.add_argument("--jobs", type=int, default=1, help="processes (default 1: a developer has the other cores)")
    parser.add_argument("--open", action="store_true", help="play the open rows of the ledger again")
    parser.add_argument("--rate", action="store_true", help="print how many were played and failed")
    for each in fields(WantedEvents):
        parser.add_argument(f"--{each.name}", action="store_true", help=f"only histories with --{each.name}")
    options = parser.parse_args(arguments)
    if options.rate:
        show_rate()
        return 0
    if options.open:
        return min(play_open(), 1)
    chosen = {each.name: True for each in fields(WantedEvents) if getattr(options, each.name)}
    kinds = [WantedEvents(**chosen)] if chosen else KINDS
    return min(explore(options.minutes, options.jobs, kinds), 1)


if __name__ == "__main__":
    sys.exit(main())
