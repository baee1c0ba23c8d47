"""Arrivals and departures for people: who stayed a moment, or said something.

A program that runs once comes, does its work and goes within seconds. Neither is shown: the line that somebody is here
waits until they have stayed, or do something that others see, and then comes before that. Who leaves while it waits
leaves unseen. Who types in a terminal has a status that says so, and is shown at once. Programs get every event at
once; this is for lines that people read. Other chat programs hide arrivals of whoever says nothing in the same way
(WeeChat's "smart filter").
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from p2pchat.commands.event_text import EventLine
from p2pchat.kinds import CHANGE_EVENTS

STAYS_AFTER = 8.0  # seconds: `p2pchat send` waits 5 for its delivery, and takes a moment to start and to end; a guess
_SEEN = ("message", *CHANGE_EVENTS, "group", "typing", "begun", "renamed")  # events of what somebody does


class PendingArrivals:
    """The arrivals that wait to be shown.

    Args:
        show: Shows the `joined` line of a user who has stayed.
    """

    def __init__(self, show: Callable[[EventLine], Awaitable[None]]) -> None:
        self._show = show
        self._waiting: dict[str, tuple[EventLine, asyncio.TimerHandle]] = {}  # by user id
        self._shown: set[asyncio.Task[None]] = set()

    def lines(self, event: EventLine, *, at_once: bool = False) -> list[EventLine]:
        """Return the lines to show now: none, the event, or the arrival of its user and the event.

        Args:
            at_once: Show an arrival now: of those who were here before this peer came, and of people.
        """
        user = author_id(event)
        if event["event"] == "joined" and not at_once:
            self._take(user)
            timer = asyncio.get_running_loop().call_later(STAYS_AFTER, self._on_stayed, user)
            self._waiting[user] = event, timer
            return []
        if event["event"] == "left":
            return [] if self._take(user) else [event]
        does = (event["event"] in _SEEN and not event.get("old")) or _is_set_presence(event)
        return [*(self._take(user) if does else ()), event]

    def _take(self, user: str) -> list[EventLine]:
        if user not in self._waiting:
            return []
        event, timer = self._waiting.pop(user)
        timer.cancel()
        return [event]

    def _on_stayed(self, user: str) -> None:
        for event in self._take(user):
            showing = asyncio.ensure_future(self._show(event))
            self._shown.add(showing)
            showing.add_done_callback(self._shown.discard)

    def close(self) -> None:
        """Show none of those that wait."""
        for user in list(self._waiting):
            self._take(user)


def _is_set_presence(event: EventLine) -> bool:
    return event["event"] == "presence" and event["status"] != "offline" and event["since"] is not None


def author_id(line: Mapping[str, Any]) -> str:
    """Return the id of the user whose doing an event line reports; "" for none.

    Changes of a group concern everyone, except a user's own coming and going.
    """
    if line["event"] == "group":
        return line.get("target_id") or ""
    return line.get("sender_id") or line.get("by_id") or line.get("user_id") or ""
