"""Long tests of `tests/testing/test_eventlog_checker.py`."""

from __future__ import annotations

from tests.testing.event_logs import Writer, ada, bob, rules


def test_long_logs_are_checked_in_linear_time() -> None:
    """Check 100,000 lines: quadratic time would exceed the time limit of a test."""
    one, two, three = ada(), bob(), Writer("cyd").listening()
    for n in range(1, 25_001):
        one.sent(f"A.{n}", at=2 + n / 1000).delivered(f"A.{n}", "bob", at=2 + n / 1000, count=1)
        two.message(f"A.{n}", "ada", at=2 + n / 1000)
        three.message(f"A.{n}", "ada", at=2 + n / 1000).message(f"X.{n}", "ada", at=2 + n / 1000)
    assert rules(one, two, three) == []
