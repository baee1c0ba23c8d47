"""The tables of valid entries, in the pages as in valid_entries.py. Their examples are test vectors (tests/vectors)."""

from __future__ import annotations

import pytest

from tests.docs.pages import ROOT
from tests.docs.valid_entries import TABLES, rendered
from tests.vectors.files import vectors

PAGES = {"operations": "protocol-groups"}  # all others: protocol-entries


def page(name: str) -> str:
    return (ROOT / "docs" / f"{name}.md").read_text("utf-8")


@pytest.mark.parametrize("table", TABLES)
def test_the_page_has_the_table(table: str) -> None:
    assert rendered(table) in page(PAGES.get(table, "protocol-entries"))


@pytest.mark.parametrize("name", ["blake2b of nothing", "blake2b of abc"])
def test_the_page_has_the_hashes(name: str) -> None:
    assert vectors("hashes")[name]["result"]["hash"] in page("protocol")
