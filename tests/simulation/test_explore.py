"""The ledger of histories that broke a promise."""

from __future__ import annotations

from pathlib import Path

from simulation.explore import KINDS, LEDGER, Row, add, rows
from simulation.random_histories import NOTHING

FAILED = Row("failed", "0123456789", "--files", 0, 7, "1,2", "ada: lost: has 1 of 2", "open")


def test_a_row_comes_back_as_it_was_written_and_counts_add_up(tmp_path: Path) -> None:
    ledger = tmp_path / "found.tsv"
    add(Row("played", "0123456789", "--files", 40), FAILED, path=ledger)
    add(Row("played", "0123456789", "--files", 2), Row("played", "0123456789", "", 3), path=ledger)
    counts = [Row("played", "0123456789", "--files", 42), Row("played", "0123456789", "", 3)]
    assert rows(ledger) == [*counts, FAILED]


def test_a_row_has_the_command_that_shows_its_history() -> None:
    assert FAILED.command == "python -m simulation --seed 7 --steps 1,2 --files --verbose"
    assert Row("failed", "0123456789", "", seed=8).command == "python -m simulation --seed 8 --verbose"


def test_the_committed_ledger_can_be_read() -> None:
    kinds = {wanted.options.strip() for wanted in KINDS}
    assert NOTHING in KINDS and rows()
    assert [row for row in rows(LEDGER) if row.what not in ("played", "failed") or row.options not in kinds] == []
