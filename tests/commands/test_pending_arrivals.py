"""Which arrivals wait to be shown, and what ends that."""

from __future__ import annotations

from typing import Any

import pytest

from p2pchat.commands.event_text import EventLine
from p2pchat.commands.pending_arrivals import PendingArrivals

JOINED: dict[str, Any] = {"event": "joined", "user_id": "BOB", "user": "bob"}
LEFT: dict[str, Any] = {"event": "left", "user_id": "BOB", "user": "bob"}


async def nothing(line: EventLine) -> None:
    raise AssertionError(f"shown: {line}")


async def test_who_leaves_while_the_arrival_waits_was_never_shown() -> None:
    arrivals = PendingArrivals(nothing)
    assert arrivals.lines(JOINED) == []
    assert arrivals.lines(LEFT) == []
    assert arrivals.lines(LEFT) == [LEFT]


async def test_people_at_terminals_are_shown_at_once() -> None:
    arrivals = PendingArrivals(nothing)
    assert arrivals.lines(JOINED, at_once=True) == [JOINED]
    assert arrivals.lines(LEFT) == [LEFT]


SAYS: list[dict[str, Any]] = [
    {"event": "message", "sender_id": "BOB"},
    {"event": "typing", "user_id": "BOB"},
    {"event": "presence", "user_id": "BOB", "status": "online", "since": "2026-11-25T10:00:00.000000Z"},
]


@pytest.mark.parametrize("event", SAYS, ids=lambda event: event["event"])
async def test_an_arrival_is_shown_before_what_the_user_does(event: EventLine) -> None:
    arrivals = PendingArrivals(nothing)
    assert arrivals.lines(JOINED) == []
    assert arrivals.lines(event) == [JOINED, event]
    assert arrivals.lines(event) == [event]


async def test_a_status_that_nobody_set_shows_no_arrival() -> None:
    arrivals = PendingArrivals(nothing)
    arrivals.lines(JOINED)
    for status, since in (("online", None), ("offline", "2026-11-25T10:00:00.000000Z")):
        event = {"event": "presence", "user_id": "BOB", "status": status, "since": since}
        assert arrivals.lines(event) == [event]
    arrivals.close()
