"""What 10,000 statements of every form cost, as in the file of this name in tests/core/members/."""

from __future__ import annotations

import pytest

from tests.conftest import Tell
from tests.core.members.test_statement_costs import FORMS, MOST_PAUSE, MOST_SECONDS, walk

pytestmark = pytest.mark.weekly  # measures CPU time


@pytest.mark.parametrize("form", FORMS)
def test_10_000_of_each_form_cost_two_seconds_and_no_pause(
    form: str, monkeypatch: pytest.MonkeyPatch, tell: Tell
) -> None:
    for name, (seconds, pause) in walk(form, 10_000, monkeypatch).items():
        tell(f"10,000 times {form}, at {name}: {seconds:.2f} s of CPU, the longest step {pause * 1000:.0f} ms")
        assert seconds < MOST_SECONDS and pause < MOST_PAUSE
