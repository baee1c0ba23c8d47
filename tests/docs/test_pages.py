"""The examples of the pages in docs/ run, or say why not. tests/long/docs/test_pages.py runs them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.pages import PAGES, blocks


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_block_runs_or_says_why_not(page: Path) -> None:
    unmarked = [block for block in blocks(page.read_text("utf-8")) if not block.understood]
    assert [f"line {block.line}: {block.language}" for block in unmarked] == []
