"""Each row of the table of mutants fits the code, and names what exists. tests/long/mutants hunts them."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields
from functools import cache
from importlib.util import module_from_spec
from pathlib import Path

import pytest

from p2pchat.safe_text import safe_text
from simulation.random_histories import WantedEvents
from tests.mutants.mutant import ROOT, Finder, Mutant, MutantError, infect, package
from tests.mutants.table import MUTANTS


def test_each_mutant_changes_a_text_that_is_in_the_package_once() -> None:
    assert [fault for mutant in MUTANTS if (fault := misfit(mutant))] == []


@cache
def sources(mutant: Mutant) -> dict[Path, str]:
    return mutant.sources()


def misfit(mutant: Mutant) -> str:
    try:
        sources(mutant)
    except MutantError as error:
        return str(error)
    return ""


def test_what_the_mutants_put_in_compiles() -> None:
    """All that are in one file are compiled together, for the sake of time, but for those that overlap."""
    infected = dict(package())
    for mutant in MUTANTS:
        for path, alone in sources(mutant).items():
            together = infected[path]
            for find, put in mutant.changes:
                together = together.replace(find, put)
            if together == infected[path]:
                compile(alone, path, "exec")
            infected[path] = together
    for path, text in infected.items():
        if text != package()[path]:
            compile(text, path, "exec")


def test_each_mutant_has_a_name_of_its_own_in_order() -> None:
    names = [mutant.name for mutant in MUTANTS]
    assert [name for name, count in Counter(names).items() if count > 1] == []
    assert names == sorted(names)


def test_each_mutant_names_a_test_that_exists_or_histories() -> None:
    assert [mutant for mutant in MUTANTS if not is_named(mutant)] == []


def is_named(mutant: Mutant) -> bool:
    by = mutant.caught_by
    if not isinstance(by, str):
        return by.having in {"", *(each.name for each in fields(WantedEvents))}
    file, _, name = by.partition("::")
    path = ROOT / "tests" / file
    return path.is_file() and f"def {name}(" in path.read_text("utf-8")


@pytest.mark.parametrize("find", ["there is no such text", "from __future__ import annotations"])
def test_a_text_that_is_not_there_exactly_once_is_refused(find: str) -> None:
    with pytest.raises(MutantError, match="is there"):
        Mutant("odd", "nothing", "nobody", (find, "pass")).sources()


def test_a_change_that_changes_nothing_is_refused() -> None:
    find, _ = MUTANTS[0].changes[0]
    with pytest.raises(MutantError, match="is not changed"):
        Mutant("odd", "nothing", "nobody", (find, find)).sources()


def test_a_process_that_has_imported_the_package_cannot_be_infected() -> None:
    with pytest.raises(MutantError, match="imported already"):
        infect(MUTANTS[0])


def test_a_changed_module_is_imported_without_bytecode() -> None:
    mutant = next(mutant for mutant in MUTANTS if mutant.name == "bidi-shown")
    finder = Finder(sources(mutant))
    assert finder.find_spec("p2pchat.protocol", None) is None
    spec = finder.find_spec("p2pchat.safe_text", None)
    assert spec is not None and spec.loader is not None and spec.cached is not None
    bytecode = Path(spec.cached)
    before = bytecode.read_bytes() if bytecode.exists() else b""
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.safe_text("\u202e") == "\u202e" != safe_text("\u202e")
    assert (bytecode.read_bytes() if bytecode.exists() else b"") == before
