"""Idle state of the user, with the presence that follows from it, and the marks of what was read meanwhile.

The user is active until nothing was typed for five minutes, until /away, or while the terminal reports that another
window has the keyboard, or another program has the terminal. Focus changes no presence: the user of another window is
still online. Input that is no keyboard says nothing about the user: a pipe counts as active until /away.

Source: docs/protocol.md, "Receipts and presence".
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from p2pchat import DurableEvent, Message, PeerClosed


class ActivityTracker:
    """Tracks whether the user of one chat is active, and sets the presence accordingly.

    Args:
        set_presence: Called with a status and its text when they change.
        idle_after: Seconds without a key until the user is idle; None: there are no keys.
    Attributes:
        on_view: Called when the user may see more than before: after a return, or a switch of the conversation.
    """

    def __init__(self, set_presence: Callable[[str, str], None], *, idle_after: float | None) -> None:
        self.on_view: list[Callable[[], None]] = []
        self._set_presence = set_presence
        self._idle_after = idle_after
        self._loop = asyncio.get_running_loop()
        self._presence = ("online", "")
        self._away: str | None = None  # the text of /away
        self._idle = False
        self._focused = True  # also if the terminal reports no focus
        self._covered = False
        self._input_at = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        if idle_after is not None:
            set_presence(*self._presence)  # somebody is at the keys: no program that comes and goes
        self._start_timer()

    @property
    def is_active(self) -> bool:
        return self._focused and not (self._covered or self._idle) and self._away is None

    def on_input(self) -> None:
        """Handle a key. It does not end /away; /back does."""
        was = self.is_active
        self._input_at = self._loop.time()
        self._focused = True  # keys go to the focused window, also without a report of the focus
        self._idle = False
        if self._timer is None:
            self._start_timer()
        self._update(was)

    def on_focus(self, focused: bool) -> None:
        """Handle a focus report of the terminal."""
        if focused:
            self.on_input()
        else:
            self._focused = False

    def on_covered(self, covered: bool) -> None:
        """Handle that another program, such as an editor, takes the terminal, or returns it."""
        was, self._covered = self.is_active, covered
        self._update(was)

    def away(self, text: str) -> None:
        """Be away until back(). Raises ValueError: The text cannot be sent; then nothing changes."""
        self._set_presence("idle", text)
        self._presence, self._away = ("idle", text), text

    def back(self) -> None:
        was, self._away = self.is_active, None
        self._update(was, always=True)

    def on_switch(self) -> None:
        """Handle a switch of the conversation."""
        if self.is_active:
            self._notify_view()

    def close(self) -> None:
        self.on_view.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _update(self, was_active: bool, *, always: bool = False) -> None:
        """Set the presence if it changed (`always`: a command asked for it), and notify if the user is back."""
        presence = ("online", "") if self._away is None and not self._idle else ("idle", self._away or "")
        if always or presence != self._presence:
            self._presence = presence
            self._set_presence(*presence)
        if self.is_active and not was_active:
            self._notify_view()

    def _notify_view(self) -> None:
        for call in list(self.on_view):
            call()

    def _start_timer(self) -> None:
        """Check for idleness later. A key starts no timer: the one that runs checks when the last key was."""
        if self._idle_after is not None:
            self._timer = self._loop.call_at(self._input_at + self._idle_after, self._check_idle)

    def _check_idle(self) -> None:
        assert self._idle_after is not None
        self._timer = None
        if self._loop.time() < self._input_at + self._idle_after:
            self._start_timer()
        else:
            was, self._idle = self.is_active, True
            self._update(was)


# ---- read marks


MARK_DELAY = 0.02  # seconds: messages within it share one mark
LATE = timedelta(minutes=1)  # a guess at how long a message is on its way between machines that run
LATE_MARK_DELAY = 4.0  # seconds: until then a mark of another machine is told from one made here


def came_late(line: Mapping[str, Any]) -> bool:
    """Return whether a message came long after it was sent, so that its reader may have seen it elsewhere."""
    return datetime.fromisoformat(line["at"]) - datetime.fromisoformat(line["sent_at"]) > LATE


class ReadMarker:
    """Marks messages read that were shown: at once while the user is active, else when the user returns.

    One mark on a message covers all before it in its conversation. So nothing is marked behind a message that is only
    counted, until the conversation is opened and shows it.

    Args:
        on_read: Called with the id of a conversation whose messages were marked read.
    """

    def __init__(self, activity: ActivityTracker, on_read: Callable[[str], None]) -> None:
        self._activity = activity
        self._on_read = on_read
        self._shown: dict[str, DurableEvent] = {}  # the newest shown and not marked yet, by conversation id
        self._came: dict[str, DurableEvent] = {}  # the newest that came and was not shown
        self._timer: asyncio.TimerHandle | None = None
        activity.on_view.append(self.mark_seen)

    def on_event(self, event: object, *, shown: bool) -> None:
        """Handle an event that came; `shown`: it was shown in full, and so was everything before it."""
        if not isinstance(event, DurableEvent) or event.by.is_me:
            return
        (self._shown if shown else self._came)[event.conversation.id] = event
        if shown and self._timer is None and self._activity.is_active:
            delay = MARK_DELAY
            if isinstance(event, Message) and came_late(event.to_dict()):
                delay = LATE_MARK_DELAY
            self._timer = asyncio.get_running_loop().call_later(delay, self.mark_seen)

    def on_opened(self, conversation_id: str, shown: Sequence[Message], *, complete: bool) -> None:
        """Handle unread messages that were shown when their conversation was opened.

        Args:
            shown: In the order in which they came.
            complete: None is left that was not shown.
        """
        before = [self._shown.get(conversation_id), self._came.pop(conversation_id, None) if complete else None]
        newest = [*shown[-1:], *(event for event in before if event is not None)]
        if newest:
            self._shown[conversation_id] = max(newest, key=lambda event: event.place)

    def mark_seen(self) -> None:
        """Mark read what was shown, if the user is active."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._activity.is_active:
            return
        shown, self._shown = self._shown, {}
        for id, newest in shown.items():
            with suppress(PeerClosed):
                newest.mark_read()
            self._on_read(id)


# ---- unread counts
