"""A line where the day changes, and none where it does not."""

from __future__ import annotations

from datetime import date, datetime, timedelta

from p2pchat.cli.terminal.view import DateRule, rule_line

TODAY = date(2026, 11, 20)
NOON = datetime(2026, 11, 20, 12).astimezone()


def test_a_day_is_told_when_it_is_another_than_that_of_the_line_before() -> None:
    days = DateRule()
    moments = [NOON, NOON, NOON - timedelta(days=1), NOON - timedelta(days=1), NOON, NOON + timedelta(days=1)]
    assert [days.change(moment, TODAY) for moment in moments] == [
        None,
        None,
        "Thursday 19 November 2026",
        None,
        "Friday 20 November 2026",
        "Saturday 21 November 2026",
    ]


def test_the_first_line_of_all_is_of_today_or_says_its_day() -> None:
    assert DateRule().change(NOON - timedelta(days=2), TODAY) == "Wednesday 18 November 2026"


def test_a_rule_fits_the_screen() -> None:
    assert rule_line("room", 80) == "──── room ────"
    assert rule_line("a long name", 12) == "── a long na"
