"""Rates: tokens come steadily, up to a number, and whoever has them all again is forgotten."""

from __future__ import annotations

from p2pchat.core.node_context import SLACK
from p2pchat.core.work_limits import MOST_LACKING, Rate, WorkLimits, rates_of
from p2pchat.settings import Settings


class Limited:
    """A limiter with one rate, at a moment."""

    def __init__(self) -> None:
        self.now = 100.0
        self.work = WorkLimits({"dials": Rate(2, 3), "frames": Rate(2, 3)}, lambda: self.now)

    def taken(self, who: str, tries: int) -> int:
        return sum(self.work.take("dials", who) for _ in range(tries))


def test_tokens_come_at_a_rate_up_to_a_burst() -> None:
    limited = Limited()
    assert limited.taken("ada", 4) == 3
    limited.now = 100.25
    assert limited.work.wait("dials", "ada") == 0.25 and limited.taken("ada", 1) == 0
    limited.now = 100.5
    assert limited.work.wait("dials", "ada") == 0.0 and limited.taken("ada", 1) == 1
    limited.now = 200.0
    assert limited.taken("ada", 4) == 3


def test_a_charge_may_take_more_tokens_than_there_are() -> None:
    limited = Limited()
    assert [limited.work.charge("dials", "ada", count) for count in (3, 1)] == [0.0, 0.5]
    limited.now = 100.5
    assert (limited.work.charge("dials", "ada"), limited.work.wait("dials", "ada")) == (0.5, 1.0)
    limited.now = 101.5
    assert limited.work.wait("dials", "ada") == 0.0


def test_who_gets_tokens_back_never_has_more_than_at_first() -> None:
    limited = Limited()
    limited.work.charge("dials", "ada", -5)
    assert limited.taken("ada", 5) == 3
    assert limited.work.charge("dials", "ada", -2) == 0.0 and limited.taken("ada", 5) == 2


def test_some_may_have_more_tokens_at_once_which_come_at_the_rate_too() -> None:
    limited = Limited()
    assert limited.work.charge("frames", "ada", 3) == 0.0
    limited.now = 200.0
    assert [limited.work.charge("frames", "ada", count, more=2) for count in (5, 1)] == [0.0, 0.5]
    limited.now = 300.0
    assert [limited.work.charge("frames", "ada", count, more=more) for count, more in ((2, 2), (4, 0))] == [0.0, 0.5]


def test_each_is_charged_apart_for_each_kind_and_who_waited_enough_is_forgotten() -> None:
    limited = Limited()
    assert [limited.taken("ada", 4), limited.taken("bob", 4), limited.work.take("frames", "ada")] == [3, 3, True]
    for number in range(2 * MOST_LACKING):
        limited.now += 2.0
        limited.taken(f"member {number}", 1)
    assert len(limited.work._left) <= MOST_LACKING


def test_a_host_may_be_dialled_without_a_pause() -> None:
    work = WorkLimits(rates_of(Settings(told_host_pause=0.0)), lambda: 100.0)
    assert work.charge("hosts", "192.0.2.1") == 0.0 and work.wait("hosts", "192.0.2.1") <= SLACK
