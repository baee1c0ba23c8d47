"""Command `poe soak --minutes N`: the weekly tests, then histories, kills and fuzzing on all cores for N minutes.

The parts (parts.py) take turns in slices of a few minutes, each with its own seeds, one at a time on every core. A
summary is printed at the end. The exit code is 1 if anything failed; each failure is printed with the command that
repeats it. `--only histories` runs one part, `--only weekly` the weekly tests. Those leave a row in tests/weekly.tsv
(when they ended, at which revision, and how), which is committed.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from simulation.explore import revision
from tests.soak.parts import PARTS, WEEKLY, Part

ROOT = Path(__file__).resolve().parents[2]
SLICE = 5.0  # minutes
GRACE = 5 * 60.0  # seconds that a slice may take longer before it counts as hung
WEEKLY_TIMEOUT = 60 * 60.0  # seconds for all weekly tests
COUNT = re.compile(r"^ +(\d+) (\S.*)$", re.MULTILINE)


@dataclass(slots=True)
class Soak:
    """One soak: the remaining work, and the results. All cores share it."""

    parts: list[Part]
    seed: int
    until: float = 0.0  # monotonic
    slices: Counter[str] = field(default_factory=Counter)
    spent: dict[str, float] = field(default_factory=lambda: defaultdict(float))  # minutes
    counts: Counter[str] = field(default_factory=Counter)
    last_words: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def next(self) -> tuple[Part, float, int] | None:
        """Return the next slice: a part, its minutes, its seed; None when the time is over."""
        with self.lock:
            left = (self.until - time.monotonic()) / 60
            if left <= 0.01:
                return None
            minutes = min(SLICE, left)
            part = min(self.parts, key=lambda each: self.spent[each.name] / each.share)
            self.slices[part.name] += 1
            self.spent[part.name] += minutes
            self.seed += 1
            return part, minutes, self.seed

    def done(self, part: Part, said: str, command: str, code: int) -> None:
        """Add the result of a slice."""
        with self.lock:
            for number, what in COUNT.findall(said):
                self.counts[f"{part.name}: {what}"] += int(number)
            lines = [line for line in said.splitlines() if line.strip() and not COUNT.match(line)]
            self.last_words.append(f"{part.name}: {lines[-1] if lines else ''}")
            if code:
                self.failed.append(command)
                print(f"\n{command}: exit code {code}\n{said[-20_000:]}", flush=True)


def work(soak: Soak) -> None:
    """Run slices on one core until the time is over."""
    while (todo := soak.next()) is not None:
        part, minutes, seed = todo
        run(soak, part, minutes, seed, 60 * minutes + GRACE)


def run(soak: Soak, part: Part, minutes: float, seed: int, timeout: float) -> None:
    """Run a command of a part to its end, or end it after `timeout` seconds."""
    command = [sys.executable, "-m", *part.arguments(minutes, seed)]
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=os.environ | {"P2PCHAT_TEST_LONG": "1"}, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, encoding="utf-8", errors="replace", timeout=timeout, check=False,
        )  # fmt: skip
        said, code = done.stdout, done.returncode
    except subprocess.TimeoutExpired as hung:
        said, code = f"it hung\n{hung.stdout!r}", -1
    soak.done(part, said, " ".join(["python", *command[1:]]), code)


def main() -> int:
    parser = argparse.ArgumentParser(prog="poe soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    names = [part.name for part in (WEEKLY, *PARTS)]
    parser.add_argument("--only", action="append", choices=names, help="this part; repeatable")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="at once (default: one for each core)")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    words = parser.parse_args()
    parts = [part for part in PARTS if part.runs_here and (not words.only or part.name in words.only)]
    soak = Soak(parts, words.seed)
    if not words.only or WEEKLY.name in words.only:
        print("the weekly tests", flush=True)
        soak.slices[WEEKLY.name] += 1
        run(soak, WEEKLY, 0, words.seed, WEEKLY_TIMEOUT)
        _keep_weekly(soak)
    if parts:
        print(f"seed {words.seed}: {', '.join(part.name for part in parts)} for {words.minutes:g} minutes", flush=True)
        soak.until = time.monotonic() + 60 * words.minutes
    threads = [threading.Thread(target=work, args=(soak,), daemon=True) for _ in range(words.jobs)]
    for thread in threads:
        thread.start()
    _watch(soak, threads)
    _tell(soak)
    return 1 if soak.failed else 0


def _keep_weekly(soak: Soak) -> None:
    """Add a row about the weekly tests, which have just ended."""
    ended = soak.last_words[-1].partition(": ")[2]
    with (ROOT / "tests" / "weekly.tsv").open("a", encoding="utf-8") as kept:
        kept.write(f"{time.strftime('%F')}\t{revision()}\t{ended.strip('= ')}\n")


def _watch(soak: Soak, threads: list[threading.Thread]) -> None:
    """Wait for all; show the progress on a terminal."""
    for thread in threads:
        while thread.is_alive():
            thread.join(1.0)
            if sys.stderr.isatty():
                left = max(0.0, soak.until - time.monotonic())
                doing = ", ".join(f"{count} {name}" for name, count in sorted(soak.slices.items()))
                sys.stderr.write(f"\r{left / 60:5.1f} minutes left; slices: {doing}; {len(soak.failed)} failed \x1b[K")
                sys.stderr.flush()
    if sys.stderr.isatty():
        sys.stderr.write("\n")


def _tell(soak: Soak) -> None:
    for what, count in sorted(soak.counts.items()):
        print(f"  {count:12,} {what}")
    print("last words of each slice:")
    for said in sorted(soak.last_words):
        print(f"  {said[:200]}")
    print(f"{sum(soak.slices.values())} slices, {len(soak.failed)} failed")
    for command in soak.failed:
        print(f"  {command}")


if __name__ == "__main__":
    sys.exit(main())
