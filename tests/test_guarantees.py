"""docs/guarantees.md names an existing test for each rule and each fault."""

from __future__ import annotations

import re

from tests.test_readme import NOT_BUILT, ROOT, names_defined

PAGE = (ROOT / "docs" / "guarantees.md").read_text("utf-8")
NAMED = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")


def rows(heading: str) -> list[tuple[str, str]]:
    """Return (first cell, last cell) of each row of the table under a heading."""
    section = re.split(r"^##", PAGE.partition(f"### {heading}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
    lines = [line.strip("|").split(" | ") for line in section.splitlines() if line.startswith("|")][2:]
    return [(cells[0].strip(), cells[-1].strip()) for cells in lines]


RULES = rows("What others learned the hard way")
FAULTS = rows("Faults found and fixed")


def test_each_rule_and_each_fault_names_tests() -> None:
    assert [what for what, by in RULES + FAULTS if bool(NAMED.findall(by)) == (by == NOT_BUILT)] == []


def test_no_rule_is_left_out() -> None:
    """The page has twenty-eight lessons; none may be lost when it is rewritten."""
    assert len(RULES) == 28
    assert len({what for what, _ in RULES + FAULTS}) == len(RULES + FAULTS)


def test_the_page_names_existing_tests_only() -> None:
    for path, name in NAMED.findall(PAGE):
        assert name in {"", *names_defined(ROOT / path)}, f"{path} has no {name}"
