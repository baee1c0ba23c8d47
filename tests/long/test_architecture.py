"""Rules of the architecture that compare two revisions."""

from __future__ import annotations

import pytest

from tests import purse


def test_a_number_is_raised_only_by_a_line_that_says_what_paid_it() -> None:
    revision = purse.base()
    if not revision:
        pytest.skip("outside of a repository there is no former table")
    former = purse.git("show", f"{revision}:{purse.LEDGER}").decode()
    ledger = (purse.ROOT / purse.LEDGER).read_text("utf-8")
    assert ledger.startswith(former), "lines are only added"
    before, after = (
        purse.git("show", f"{revision}:{purse.TABLE}").decode(),
        (purse.ROOT / purse.TABLE).read_text("utf-8"),
    )
    assert purse.raised(before, after, ledger.removeprefix(former)) == []
