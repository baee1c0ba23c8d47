"""Tables of tests/faults.md: each rule and each fault names tests."""

from __future__ import annotations

import re

from tests.test_readme import NAMED, ROOT

PAGE = (ROOT / "tests" / "faults.md").read_text("utf-8")


def rows(heading: str) -> list[tuple[str, str]]:
    """Return (first cell, last cell) of each row of the table under a heading."""
    section = re.split(r"^##", PAGE.partition(f"## {heading}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
    lines = [line.strip("|").split(" | ") for line in section.splitlines() if line.startswith("|")][2:]
    return [(cells[0].strip(), cells[-1].strip()) for cells in lines]


RULES = rows("What others learned the hard way")
FAULTS = rows("Faults found and fixed")


def test_each_rule_and_each_fault_names_tests() -> None:
    assert RULES and FAULTS
    assert [what for what, by in RULES + FAULTS if not NAMED.findall(by)] == []
