"""A mutant: a deliberate fault, the promise that it breaks, and what catches it.

A mutant replaces texts of the package when the changed modules are imported (`infect`): no file is written, and no
bytecode. What it finds must be in the whole package exactly once, so it names no file. It reaches one process: the test
that catches it starts no other `p2pchat`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.abc import MetaPathFinder, SourceLoader
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]


class MutantError(ValueError):
    """A mutant that does not fit the code."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule of the simulation that one of the first so many histories breaks.

    Attributes:
        seed: Of the one of them that broke it when the row was last looked at; it is played first.
        having: What each of these histories has (Wanted of the simulation's random_histories.py); "" for nothing.
    """

    name: str
    within: int
    seed: int = 0
    having: str = ""

    def __str__(self) -> str:
        having = f" with {self.having}" if self.having else ""
        return f"simulation{having}: {self.name}, within {self.within} histories"


class Mutant:
    """One deliberate fault.

    Attributes:
        breaks: The consequence of the fault for somebody.
        caught_by: A rule of the simulation, or a test, by its file below tests/ and its name.
        changes: Texts to find in the package, each with what is put in its place.
    """

    def __init__(self, name: str, breaks: str, caught_by: str | Rule, *changes: tuple[str, str]) -> None:
        self.name = name
        self.breaks = breaks
        self.caught_by = caught_by
        self.changes = changes

    def __repr__(self) -> str:
        return self.name

    def sources(self) -> dict[Path, str]:
        """Return the changed text of each file that it changes. Raises MutantError if it does not fit."""
        changed: dict[Path, str] = {}
        for find, put in self.changes:
            places = [path for path, text in package().items() for _ in range(text.count(find))]
            if len(places) != 1:
                raise MutantError(f"{self.name}: {find!r} is there {len(places)} times")
            if find == put:
                raise MutantError(f"{self.name}: {find!r} is not changed")
            text = changed.get(places[0], package()[places[0]])
            changed[places[0]] = text.replace(find, put)
        return changed


@cache
def package() -> Mapping[Path, str]:
    """Return the text of each module of the package."""
    return {path: path.read_text("utf-8") for path in sorted((ROOT / "p2pchat").rglob("*.py"))}


class _Loader(SourceLoader):
    """The loader of one changed module. It knows no time of the file, so bytecode is neither read nor written."""

    def __init__(self, path: Path, text: str) -> None:
        self._path, self._text = path, text

    def get_filename(self, fullname: str) -> str:
        return str(self._path)

    def get_data(self, path: str | bytes) -> bytes:
        return self._text.encode()


class Finder(MetaPathFinder):
    """The finder of changed modules."""

    def __init__(self, sources: Mapping[Path, str]) -> None:
        self._loaders = {module_name(path): _Loader(path, text) for path, text in sources.items()}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        loader = self._loaders.get(fullname)
        return spec_from_file_location(fullname, loader.get_filename(fullname), loader=loader) if loader else None


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def infect(mutant: Mutant) -> None:
    """Have this process import the package with the mutant. Raises MutantError if it does not fit, or is too late."""
    if any(name.partition(".")[0] == "p2pchat" for name in sys.modules):
        raise MutantError("the package is imported already")
    sys.meta_path.insert(0, Finder(mutant.sources()))
