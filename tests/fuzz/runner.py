"""Fuzzing for a given time: by coverage (atheris) if that is installed, otherwise by seeded mutation of known inputs.

A fault does not end the run: its input is kept, and the run continues to find others. atheris never returns and has
state of the process, so each target that uses it runs in a separate process.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any

from tests.fuzz.findings import FOUND, Findings, fault_of, kept
from tests.fuzz.mutation import mutated
from tests.fuzz.target import Target, memory_place

REPORTED_EVERY = 2.0  # seconds between lines of progress
MOST_KEPT = 400  # inputs that mutation starts from
ROOT = Path(__file__).resolve().parents[2]
Tell = Callable[[str], None]


@dataclass(slots=True)
class Report:
    """The result of fuzzing.

    Attributes:
        inputs: The number of inputs, by target.
        faults: The faults found, as text.
        seconds: The time taken.
    """

    inputs: dict[str, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def total(self) -> int:
        return sum(self.inputs.values())


def has_coverage() -> bool:
    """Return True if atheris is installed."""
    return importlib.util.find_spec("atheris") is not None


def run(minutes: float, seed: int = 1, names: Sequence[str] = (), tell: Tell = lambda line: None) -> Report:
    """Fuzz these targets (all if none is named) for `minutes` together, without their start; keep and report faults."""
    from tests.fuzz.targets import TARGETS

    report, begun = Report(), time.monotonic()
    chosen = [TARGETS[name] for name in names or TARGETS]
    for target in chosen:
        seconds = minutes * 60 * target.share / sum(each.share for each in chosen)
        if has_coverage():
            _run_guided(target, seconds, seed, report, tell)
        else:
            by_chance(target, seconds, seed, report, tell)
    report.seconds = time.monotonic() - begun
    return report


# ---- by mutation


def by_chance(target: Target, seconds: float, seed: int, report: Report, tell: Tell) -> None:
    """Mutate known inputs repeatedly; the same seed makes the same inputs."""
    chance, findings = Random(f"{seed} {target.name}"), Findings(target)
    corpus = beginning(target)
    progress = Progress(target.name, tell)
    for data in corpus:
        _one(target, data, findings, progress)
    end = progress.begun + seconds
    while time.monotonic() < end:
        data = mutated(chance.choice(corpus), chance.choice(corpus), target.words, chance, target.max_bytes)
        _one(target, data, findings, progress)
        if chance.random() < 0.001:  # keep some, so that inputs can get far from the seeds
            corpus.append(data)
            if len(corpus) > MOST_KEPT:
                corpus.pop(chance.randrange(len(corpus) // 2, len(corpus)))
    target.end()
    progress.end()
    report.inputs[target.name] = report.inputs.get(target.name, 0) + progress.count
    report.faults += findings.reports.values()


def beginning(target: Target) -> list[bytes]:
    """Return the first inputs of a target: its seeds, and all inputs found before."""
    return [*target.seeds(), *(path.read_bytes() for path in kept(target.name))]


def _one(target: Target, data: bytes, findings: Findings, progress: Progress) -> None:
    error = fault_of(target, data)
    progress.one()
    if error is not None and (text := findings.take(data, error)):
        progress.tell(text)


class Progress:
    """Counts inputs and reports progress from time to time."""

    def __init__(self, name: str, tell: Tell) -> None:
        self.begun = time.monotonic()
        self.count = 0
        self.tell = tell
        self._name = name
        self._reported_at = self.begun

    def one(self) -> None:
        self.count += 1
        now = time.monotonic()
        if now - self._reported_at >= REPORTED_EVERY:
            self._reported_at = now
            self.tell(f"\r{self._name}: {self.count:,} inputs, {self.count / (now - self.begun):,.0f} a second")

    def end(self) -> None:
        seconds = max(time.monotonic() - self.begun, 1e-9)
        self.tell(f"{self._name}: {self.count:,} inputs in {seconds:.0f} s, {self.count / seconds:,.0f} a second")


# ---- with coverage


def _run_guided(target: Target, seconds: float, seed: int, report: Report, tell: Tell) -> None:
    """Fuzz in a separate process and read its reports, one line of JSON each."""
    with tempfile.TemporaryDirectory(prefix="p2pchat-fuzz-", dir=memory_place()) as place:
        command = [sys.executable, "-m", "tests.fuzz", target.name, "--guided", str(max(1, int(seconds)))]
        command += ["--seed", str(seed), "--corpus", place]
        words = Path(place, "stderr")
        with (
            open(words, "wb") as stderr,
            subprocess.Popen(
                command,
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=stderr,
                encoding="utf-8",
                env={**os.environ, "TMPDIR": place},  # the process ends without cleaning up
            ) as child,
        ):
            assert child.stdout is not None
            for line in child.stdout:
                _heard(target, json.loads(line), report, tell)
        if child.returncode:
            said = words.read_text("utf-8", "replace").splitlines()
            last = "\n".join([line for line in said if not line.startswith("INFO")][-30:])
            report.faults.append(f"{target.name}: the process that fuzzed it ended with {child.returncode}:\n{last}")
            tell(report.faults[-1])
    tell(f"{target.name}: {report.inputs.get(target.name, 0):,} inputs in {seconds:.0f} s, with coverage")


def _heard(target: Target, said: dict[str, Any], report: Report, tell: Tell) -> None:
    if "fault" in said:
        report.faults.append(said["fault"])
        tell(said["fault"])
    else:
        report.inputs[target.name] = said["inputs"]
        tell(f"\r{target.name}: {said['inputs']:,} inputs, with coverage")


def guided(
    target: Target, seconds: int, seed: int, place: Path, atheris: ModuleType, say: Callable[[dict[str, object]], None]
) -> None:
    """Let atheris choose the inputs; never return. The package must have been imported with its instrumentation.

    Args:
        place: A directory for the inputs that reach new code.
        say: Called with the number of inputs, and with each fault.
    """
    findings = Findings(target)
    count, reported_at = 0, time.monotonic()

    def one(data: bytes) -> None:
        nonlocal count, reported_at
        count += 1
        error = fault_of(target, data)
        if error is not None and (text := findings.take(data, error)):
            say({"fault": text})
        if time.monotonic() - reported_at >= REPORTED_EVERY:
            reported_at = time.monotonic()
            say({"inputs": count})

    corpus, words = place / "corpus", place / "words"
    corpus.mkdir()
    for number, data in enumerate(beginning(target)):
        (corpus / f"seed-{number}").write_bytes(data)
    words.write_text("".join(f'"{_escaped(word[:64])}"\n' for word in target.words if word))
    atheris.Setup(
        [sys.argv[0], f"-max_total_time={seconds}", f"-seed={seed}", f"-max_len={target.max_bytes}",
         "-rss_limit_mb=2048", "-timeout=60", f"-artifact_prefix={FOUND / target.name}-killed-", "-verbosity=0",
         *([f"-dict={words}"] if target.words else []), str(corpus)],
        one,
    )  # fmt: skip
    atheris.Fuzz()


def _escaped(word: bytes) -> str:
    """Return a word in the syntax of libFuzzer's dictionaries."""
    return "".join(f"\\x{byte:02x}" for byte in word)
