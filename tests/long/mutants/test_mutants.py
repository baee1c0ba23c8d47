"""Each mutant of the table is caught by what its row names."""

from __future__ import annotations

import pytest

from tests.mutants.hunting import HUNTED_FOR, hunt
from tests.mutants.mutant import Mutant, MutantError, Rule
from tests.mutants.table import MUTANTS
from tests.revision import part_of

pytestmark = pytest.mark.timeout(HUNTED_FOR + 60)

# A mutant tests the tests. `poe mutants` hunts all; one in EVERY of those that a test catches is hunted here.
EVERY = 10
HUNTED = [mutant for mutant in MUTANTS if isinstance(mutant.caught_by, str)][part_of(EVERY) :: EVERY]


@pytest.mark.parametrize("mutant", HUNTED, ids=repr)
def test_a_mutant_is_caught(mutant: Mutant) -> None:
    catch = hunt(mutant)
    assert catch.caught, f"{mutant} ({mutant.breaks}) is caught by nothing:\n{catch.said[-2000:]}"


@pytest.mark.parametrize("by", ["core/sync/test_ingest.py::test_a_gap_of_one_entry_is_a_gap", Rule("lost", within=2)])
def test_what_changes_only_words_is_caught_by_nothing(by: str | Rule) -> None:
    catch = hunt(Mutant("harmless", "nothing", by, ('"""The node: handle(', '"""A node: handle(')))
    assert not catch.caught, catch.said


def test_a_mutant_that_does_not_fit_is_an_error() -> None:
    with pytest.raises(MutantError, match="is there 0 times"):
        hunt(Mutant("odd", "nothing", Rule("lost", within=1), ("there is no such text", "pass")))
