"""The list of tests that failed once in a gate and then passed alone (flaky.tsv, written by .ci/again.py)."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

LISTED = Path(__file__).with_name("flaky.tsv")


def _rows() -> list[list[str]]:
    return [line.split("\t") for line in LISTED.read_text("utf-8").splitlines() if not line.startswith("#")]


def test_what_failed_twice_by_chance_is_mended() -> None:
    """Whoever mends a test, or makes it weekly, takes its rows away."""
    often = Counter(test for test, _, _ in _rows())
    assert [test for test, count in often.items() if count > 1] == []


def test_rows_name_tests_that_are_there(pytestconfig: pytest.Config) -> None:
    gone = []
    for test, _, _ in _rows():
        file, *names = test.split("::")
        path = pytestconfig.rootpath / file
        if not path.exists() or f"def {names[-1].partition('[')[0]}(" not in path.read_text("utf-8"):
            gone.append(test)
    assert gone == []
