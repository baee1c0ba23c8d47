"""Fuzzing of the inputs that p2pchat gets from strangers, members, disks and users.

    python -m tests.fuzz                       all targets, ten minutes together
    python -m tests.fuzz node --minutes 60     one target, for an hour
    python -m tests.fuzz --list                list the targets
    python -m tests.fuzz --replay FILE         replay one failing input, with its traceback

With the extra `fuzz` (atheris), inputs are chosen by coverage, otherwise by seeded mutation. A failing input is kept in
tests/fuzz/found/ and reported with the command that replays it. The exit code is 1 after a fault.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from pathlib import Path

from tests.fuzz.runner import guided, has_coverage, run


def main() -> int:
    parser = argparse.ArgumentParser(
        "python -m tests.fuzz", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("targets", nargs="*")
    parser.add_argument("--minutes", type=float, default=10.0, help="of all targets together (default 10)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--list", action="store_true", help="show the targets and end")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="run one input and show what it raises")
    parser.add_argument("--guided", type=int, metavar="SECONDS", help=argparse.SUPPRESS)
    parser.add_argument("--corpus", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.guided:
        return with_coverage(given.targets[0], given.guided, given.seed, given.corpus)

    from tests.fuzz.targets import TARGETS

    if unknown := [name for name in given.targets if name not in TARGETS]:
        parser.error(f"no target {unknown[0]!a}; there are {', '.join(TARGETS)}")
    if given.list:
        for target in TARGETS.values():
            print(f"{target.name:<14} {target.about}")
        return 0
    if given.replay:
        target = TARGETS[given.replay.name.partition("-")[0]]
        try:
            target.run(given.replay.read_bytes())
        finally:
            target.end()
        print("nothing was raised")
        return 0
    return fuzz(given.minutes, given.seed, given.targets)


def fuzz(minutes: float, seed: int, names: list[str]) -> int:
    on_terminal = sys.stderr.isatty()

    def tell(line: str) -> None:
        if not line.startswith("\r"):
            print("\r\x1b[K" * on_terminal + line, file=sys.stderr, flush=True)
        elif on_terminal:
            print("\r\x1b[K" + line[1:], end="", file=sys.stderr, flush=True)

    tell(
        "inputs are chosen by coverage (atheris)"
        if has_coverage()
        else "inputs are chosen by seeded mutation; with the extra `fuzz`, by coverage"
    )
    report = run(minutes, seed, names, tell)
    print(f"{report.total:,} inputs, {len(report.inputs)} targets, {report.seconds:.0f} s: {len(report.faults)} faults")
    return 1 if report.faults else 0


def with_coverage(name: str, seconds: int, seed: int, place: Path) -> int:
    """Run as the process that fuzzes one target: only lines of JSON on stdout."""
    atheris = importlib.import_module("atheris")
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # libFuzzer's own output
    with atheris.instrument_imports(include=["p2pchat"]):
        from tests.fuzz.targets import TARGETS

        for target in TARGETS.values():
            target.seeds()

    def say(line: dict[str, object]) -> None:
        out.write(json.dumps(line) + "\n")
        out.flush()

    guided(TARGETS[name], seconds, seed, place, atheris, say)
    return 0


if __name__ == "__main__":
    sys.exit(main())
