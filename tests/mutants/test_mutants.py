"""Each mutant of the core is caught by the simulation, by what is meant for it, within its seeds."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tests.mutants.mutants import MUTANTS, Mutant, hunt

Hunts = dict[str, Future[str]]


@pytest.fixture(scope="module")
def hunts() -> Iterator[Hunts]:
    """All hunts, two at a time."""
    with ThreadPoolExecutor(2) as pool:
        yield {mutant.name: pool.submit(hunt, mutant) for mutant in MUTANTS}


def test_there_are_the_ten_that_were_asked_for() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= 10


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name.replace(" ", "-"))
def test_a_mutant_is_caught(mutant: Mutant, hunts: Hunts) -> None:
    said = hunts[mutant.name].result()
    assert mutant.sign in said, f"{mutant.name} was not caught: {said[:500] or 'no promise was broken'}"
