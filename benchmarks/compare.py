"""Command `python -m benchmarks.compare REV`: compare the speed with that of an older revision.

    python -m benchmarks.compare main                     # or: poe bench-compare main; about 3 minutes
    python -m benchmarks.compare HEAD~20 durable catchup --rounds 9 --json found.json

Both revisions run the current benchmarks, each in its own processes, in turn (A B A B), with the same Python and the
same libraries. Works that an older revision cannot do are left out, with the reason. Each figure has the median of
both, half the distance between the lowest and highest round, and the ratio of new to old. It is marked "worse" or
"better" if the rounds do not overlap at all; with five rounds each, this happens by chance in one of 100 figures. CPU
is the time used by all processes together; on a busy machine, trust it more than any elapsed time. Nothing is asserted.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.disk import NoDisk, check_durable, cores, workplace
from benchmarks.results import middle, shown
from benchmarks.trees import NoTree, Tree, old_tree, tree_of_now
from benchmarks.workers import ROOT, WorkFailed

# The share of the requested sizes in one round of each work: two or three seconds, mostly for starting processes.
WORKS: dict[str, tuple[str, ...]] = {
    "durable": ("messages",),
    "delivered": ("singles",),
    "catchup": ("entries",),
    "frames": ("messages",),
    "startup": (),
    "idle": ("links",),
    "meshing": ("peers",),
}
FEWEST = 3  # rounds: fewer cannot show that anything is worse
STARTS = 2  # of each kind in a round of `startup`
WORK_WIDTH = 68


@dataclass(slots=True)
class Figure:
    """One figure, with the rounds of both revisions."""

    work: str
    unit: str
    base: list[float] = field(default_factory=list)
    now: list[float] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """Return the ratio of new to old; 0.0 if one of them is 0."""
        return middle(self.now) / middle(self.base) if middle(self.base) else 0.0

    @property
    def mark(self) -> str:
        """Return "worse" or "better" if the rounds do not overlap, else ""."""
        if min(len(self.base), len(self.now)) < FEWEST:
            return ""
        if max(self.now) < min(self.base):
            return "worse" if self.more_is_better else "better"
        if min(self.now) > max(self.base):
            return "better" if self.more_is_better else "worse"
        return ""

    @property
    def more_is_better(self) -> bool:
        """Return True if the unit is a rate; times and memory should be low."""
        return self.unit.endswith("/s")

    def to_json(self) -> dict[str, Any]:
        medians = {"base_median": middle(self.base), "now_median": middle(self.now)}
        return {**asdict(self), **medians, "ratio": self.ratio, "mark": self.mark}


def compare(work: str, trees: Sequence[Tree], setting: dict[str, Any], rounds: int, home: Path) -> list[Figure]:
    """Run a work in both trees in turn. Raises CannotCompare if one of them cannot do it."""
    figures: dict[str, Figure] = {}
    for number in range(rounds):
        for tree in trees:
            progress(f"{work}: round {number + 1} of {rounds}, {tree.name}")
            directory = home / f"{work}-{number}-{tree.name}"
            directory.mkdir()
            try:
                rows = tree.once(work, {**setting, "directory": str(directory)})
            except WorkFailed as error:
                raise CannotCompare(tree, str(error)) from None
            finally:
                shutil.rmtree(directory, ignore_errors=True)
            for row in rows:
                _add(figures, tree.name, row["work"], row["unit"], row["value"])
                if row["cpu"]:
                    _add(figures, tree.name, f"    CPU a message: {row['work']}", "us", row["cpu"])
    return [figure for figure in figures.values() if figure.base and figure.now]


def _add(figures: dict[str, Figure], side: str, work: str, unit: str, value: float) -> None:
    getattr(figures.setdefault(work, Figure(work, unit)), side).append(value)


class CannotCompare(Exception):
    """One of the two revisions cannot do a work."""

    def __init__(self, tree: Tree, reason: str) -> None:
        super().__init__(reason)
        self.tree = tree


def print_figure(figure: Figure) -> None:
    work = figure.work if not figure.work.startswith("    ") else "    CPU a message"
    base, now = (f"{shown(middle(rounds)):>8} {_spread(rounds):<6}" for rounds in (figure.base, figure.now))
    print(
        f"{work[:WORK_WIDTH]:<{WORK_WIDTH}} {base} {now} {figure.unit:<4}{figure.ratio:>6.2f} x {figure.mark}".rstrip()
    )


def _spread(values: list[float]) -> str:
    """Return half the distance between lowest and highest, relative to the median."""
    return f"±{50 * (max(values) - min(values)) / middle(values):.0f}%" if middle(values) else ""


def progress(words: str) -> None:
    """Show the current step on a terminal; "" removes it."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{words}", end="", file=sys.stderr, flush=True)


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("revision", metavar="REV", help="a revision that git knows: a commit, a branch, a tag, HEAD~3")
    parser.add_argument("work", nargs="*", metavar="WORK", help=f"only these: {', '.join(WORKS)}")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each work, for each of the two")
    parser.add_argument("--dir", type=Path, help="a directory on a disk (default: the directory for temporary files)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all results there, with every round")
    parser.add_argument("--messages", type=int, default=50_000, help="messages in a round of durable and frames")
    parser.add_argument("--singles", type=int, default=300, help="messages sent one at a time")
    parser.add_argument("--entries", type=int, default=50_000, help="entries in the history that a newcomer fetches")
    parser.add_argument("--peers", type=int, default=16, help="peers in the mesh")
    parser.add_argument("--links", type=int, default=60, help="idle links whose memory is measured")
    chosen = parser.parse_args(given)
    unknown = [work for work in chosen.work if work not in WORKS]
    if unknown:
        parser.error(f"no such work: {', '.join(unknown)}; there are {', '.join(WORKS)}")
    if min(chosen.messages, chosen.rounds, chosen.singles, chosen.entries, chosen.links) < 1 or chosen.peers < 2:
        parser.error("sizes and rounds are at least 1; a mesh has at least 2 peers")
    return chosen


def report(chosen: argparse.Namespace, home: Path, repository: Path) -> int:
    """Compare, print, and write the file. Return the exit code."""
    trees = [old_tree(repository, chosen.revision, home), tree_of_now(repository, home)]
    about = {tree.name: tree.words for tree in trees} | _machine(home)
    for name, words in about.items():
        print(f"{name:>12}  {words}")
    columns = f"{'base':>8} {'':<6} {'now':>8} {'':<6} {'':<4}{'ratio':>6}"
    print(f"\n{f'median of {chosen.rounds}':<{WORK_WIDTH}} {columns}", flush=True)
    found: dict[str, list[Figure]] = {}
    left_out: dict[str, str] = {}
    failed: dict[str, str] = {}
    for work in [work for work in WORKS if not chosen.work or work in chosen.work]:
        setting = {name: getattr(chosen, name) for name in WORKS[work]} | {"rounds": 1, "alone": True}
        if work == "startup":
            setting["singles"] = STARTS
        try:
            found[work] = compare(work, trees, setting, chosen.rounds, home)
        except CannotCompare as error:
            (left_out if error.tree is trees[0] else failed)[work] = str(error)
            continue
        finally:
            progress("")
        for figure in found[work]:
            print_figure(figure)
        sys.stdout.flush()
    for work, reason in left_out.items():
        print(f"left out: {work}, which base cannot do: {reason}")
    for work, reason in failed.items():
        print(f"failed: {work}, which the working tree cannot do: {reason}", file=sys.stderr)
    if chosen.json:
        rows = [{"of": work, **figure.to_json()} for work, figures in found.items() for figure in figures]
        reported = {"about": about, "figures": rows, "left_out": left_out, "failed": failed}
        chosen.json.write_text(json.dumps(reported, indent=1) + "\n", "utf-8")
    return 1 if failed or not found else 0


def _machine(home: Path) -> dict[str, str]:
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}, {cores()} cores",
        "file system": f"{check_durable(home)} at {home.parent}",
    }


def main(given: list[str] | None = None, repository: Path = ROOT) -> int:
    chosen = arguments(given)
    begun = time.monotonic()
    try:
        with workplace(chosen.dir) as home:
            code = report(chosen, home, repository)
    except (NoTree, NoDisk, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(f"\n{time.monotonic() - begun:.0f} s")
    return code


if __name__ == "__main__":
    sys.exit(main())
