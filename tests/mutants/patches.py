"""Mutants as patches: each tests/mutants/*.patch is one deliberate fault, with its consequence and what catches it.

A patch is a unified diff with one line of context, below a head of two lines:

    Why: a peer that relays a log can write in another's name
    Caught by: simulation of 60 seeds: invented        (the rule that is broken, within so many histories)
    Caught by: simulation of 60 seeds with --relay: relayed        (the same, in histories with an engine)
    Caught by: tests/core/mesh/test_handshake.py::test_...  (or the one test that fails)

A hunk is located by its lines, not by its numbers: they must be in the file exactly once. So a patch only breaks when
the very lines it changes are edited.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
_HEAD = re.compile(r"Why: (?P<why>.+)\nCaught by: (?P<by>.+)\n")
_SIMULATION = re.compile(r"simulation of (\d+) seeds(?: with (--[\w-]+))?: (\w[\w-]*)")


class PatchError(ValueError):
    """A patch that does not fit, or is incomplete."""


@dataclass(frozen=True, slots=True)
class Hunk:
    """Replace the lines `old` of `file` (below the root of the project) by `new`."""

    file: str
    old: tuple[str, ...]
    new: tuple[str, ...]

    def apply(self, text: str) -> str:
        """Return the text with this change. Raises PatchError if its lines are not there exactly once."""
        lines, size = text.split("\n"), len(self.old)
        places = [n for n in range(len(lines) - size + 1) if tuple(lines[n : n + size]) == self.old]
        if len(places) != 1:
            raise PatchError(f"{self.file}: its lines are there {len(places)} times")
        return "\n".join([*lines[: places[0]], *self.new, *lines[places[0] + size :]])


@dataclass(frozen=True, slots=True)
class Mutant:
    """One deliberate fault. Either `rule` is broken within `seeds` histories, or `test` fails; the other is empty.

    Attributes:
        option: Of all these histories (p2pchat/testing/__main__.py); "" for none.
    """

    name: str
    why: str
    hunks: tuple[Hunk, ...]
    rule: str
    seeds: int
    option: str
    test: str

    @property
    def caught_by(self) -> str:
        option = f" with {self.option}" if self.option else ""
        return f"simulation{option}: {self.rule}" if self.rule else self.test.removeprefix("tests/")

    def infect(self, root: Path) -> None:
        """Apply the mutant to the copy of the project below `root`."""
        for hunk in self.hunks:
            file = root / hunk.file
            file.write_text(hunk.apply(file.read_text("utf-8")), "utf-8")


def read(path: Path) -> Mutant:
    """Read a patch. Raises PatchError if it is not one."""
    text = path.read_text("utf-8")
    head = _HEAD.match(text)
    if head is None:
        raise PatchError(f"{path.name} does not begin with Why: and Caught by:")
    simulated = _SIMULATION.fullmatch(head["by"])
    rule, seeds, option = (simulated[3], int(simulated[1]), simulated[2] or "") if simulated else ("", 0, "")
    test = "" if simulated else head["by"]
    return Mutant(path.stem, head["why"], tuple(_hunks(text, path.name)), rule, seeds, option, test)


def read_all() -> list[Mutant]:
    """Return every mutant, by name in order."""
    return [read(path) for path in sorted(HERE.glob("*.patch"))]


def _hunks(text: str, name: str) -> list[Hunk]:
    hunks: list[Hunk] = []
    for part in re.split(r"^(?=--- )", text, flags=re.MULTILINE)[1:]:
        _, to, *blocks = re.split(r"^(?:\+\+\+ b/(.+)\n|@@.*@@.*\n)", part, flags=re.MULTILINE)[0:]
        hunks += [_hunk(to, block) for block in blocks if block]
    if not hunks:
        raise PatchError(f"{name} changes nothing")
    return hunks


def _hunk(file: str, block: str) -> Hunk:
    lines = block.removesuffix("\n").split("\n")
    old = tuple(line[1:] for line in lines if line[:1] in (" ", "-", ""))
    new = tuple(line[1:] for line in lines if line[:1] in (" ", "+", ""))
    return Hunk(file, old, new)
