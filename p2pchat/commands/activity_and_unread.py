"""Activity of the user, with the presence that follows from it; read marks, and unread counts.

The user is active until nothing was typed for five minutes, until /away, or while the terminal reports that another
window has the keyboard, or another program has the terminal. Focus changes no presence: the user of another window is
still online. Input that is no keyboard says nothing about the user: a pipe counts as active until /away.

Source: docs/protocol.md, "Receipts and presence".
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from p2pchat import Deleted, Edited, Message, PeerClosed, Reaction


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
Markable = Message | Edited | Deleted | Reaction


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
        self._shown: dict[str, Markable] = {}  # the newest shown and not marked yet, by conversation id
        self._came: dict[str, Markable] = {}  # the newest that came and was not shown
        self._timer: asyncio.TimerHandle | None = None
        activity.on_view.append(self.mark_seen)

    def on_event(self, event: object, *, shown: bool) -> None:
        """Handle an event that came; `shown`: it was shown in full, and so was everything before it."""
        if not isinstance(event, Markable) or (not isinstance(event, Message) and event.by.is_me):
            return
        (self._shown if shown else self._came)[event.conversation.id] = event
        if shown and self._timer is None and self._activity.is_active:
            self._timer = asyncio.get_running_loop().call_later(MARK_DELAY, self.mark_seen)

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


MAX_COUNTED = 10_000  # unread messages of one conversation, as many as TCPPeer.unread looks at
_SUFFIX = r"(?:#([a-z2-7]{8,52})(?!\w))?"  # of a label: the beginning of an id, in lower case


def mentions(text: str, name: str, id: str = "") -> bool:
    """Return whether a text names this user: `name` as a word, in any case, without the suffix of another user's id.

    `ada#K7QF2M3P` mentions only the ada with this id.
    """
    if not name:
        return False
    found = re.finditer(rf"(?<!\w){re.escape(name.casefold())}(?!\w){_SUFFIX}", text.casefold())
    return any(match[1] is None or id.casefold().startswith(match[1]) for match in found)


def is_addressed_to(line: Mapping[str, Any], name: str, id: str) -> bool:
    """Return whether a message is direct or mentions this user."""
    return line["kind"] == "dm" or mentions(line["text"], name, id)


@dataclass(slots=True)
class _UnreadLines:
    """Senders of the unread messages of one conversation by id, and mentions; `hidden`: not all were shown."""

    direct: bool
    hidden: bool = False
    by: dict[str, str] = field(default_factory=dict)
    mentions: set[str] = field(default_factory=set)

    @property
    def rank(self) -> int:
        """0 with mentions, 1 for a direct conversation, 2 for others."""
        return 0 if self.mentions else 1 if self.direct else 2


class UnreadCounter:
    """Unread messages by conversation id. Messages from before the join (`old`), and deleted ones, do not count.

    Nothing is read behind old messages either, until their conversation is opened.

    Attributes:
        name, id: The own name and id, to recognize mentions; "" recognizes none.
    """

    def __init__(self, name: str = "", id: str = "") -> None:
        self.name = name
        self.id = id
        self._unread: dict[str, _UnreadLines] = {}  # in the order they became unread
        self._old: set[str] = set()  # conversations with old messages that came and were not shown

    def on_event(self, line: Mapping[str, Any], here: str | None, *, shown: bool = False) -> bool:
        """Count an event line if it is a message of another conversation; return whether it was counted.

        Args:
            here: The id of the current conversation; None: the room, whose id may be unknown; "": count in all.
            shown: The message is shown in full to a user who is away.
        """
        if line["event"] != "message" or line.get("deleted") or is_here(line, here):
            return False
        if line["old"]:
            self._old.add(line["conversation_id"])
            return False
        unread = self._unread.setdefault(line["conversation_id"], _UnreadLines(line["kind"] == "dm"))
        unread.hidden |= not shown
        if len(unread.by) < MAX_COUNTED:
            unread.by[line["id"]] = line["sender_id"]
            if mentions(line["text"], self.name, self.id):
                unread.mentions.add(line["id"])
        return True

    def count(self, id: str) -> int:
        return len(self._unread[id].by) if id in self._unread else 0

    def hides(self, id: str) -> bool:
        """Return whether one of them, or an old message, was not shown yet."""
        return id in self._old or (id in self._unread and self._unread[id].hidden)

    def mentions(self, id: str) -> int:
        """Return the number of mentions among them."""
        return len(self._unread[id].mentions) if id in self._unread else 0

    @property
    def ids(self) -> list[str]:
        """Conversations with unread messages, in the order they became unread."""
        return list(self._unread)

    @property
    def total(self) -> int:
        return sum(len(unread.by) for unread in self._unread.values())

    def most_urgent(self) -> str | None:
        """Return the conversation to look at next: mentions first, then direct ones, then others; None: none."""
        return min(self._unread, key=lambda id: self._unread[id].rank, default=None)

    def first(self) -> str | None:
        """Return the conversation that has been unread for longest; None: none."""
        return next(iter(self._unread), None)

    def forget_sender(self, sender_id: str) -> None:
        """Drop the messages of a user who is ignored now."""
        for id, unread in list(self._unread.items()):
            for message in [message for message, sender in unread.by.items() if sender == sender_id]:
                self.on_deleted(id, message)

    def on_deleted(self, id: str, message_id: str) -> None:
        """Drop a message of a conversation, which its writer has deleted."""
        unread = self._unread.get(id)
        if unread is not None and unread.by.pop(message_id, None) is not None:
            unread.mentions.discard(message_id)
            if not unread.by:
                del self._unread[id]

    def recount(self, id: str, lines: Iterable[Mapping[str, Any]]) -> None:
        """Replace the unread messages of a conversation by these."""
        self._unread.pop(id, None)
        for line in lines:
            self.on_event(line, "")

    def clear(self, id: str) -> None:
        self._unread.pop(id, None)
        self._old.discard(id)

    def on_read(self, id: str) -> None:
        """Handle that what was shown of a conversation is read."""
        if not self.hides(id):
            self.clear(id)


def is_here(line: Mapping[str, Any], here: str | None) -> bool:
    """Return whether a message belongs to the conversation `here` (None: the room)."""
    return bool(line["conversation_id"] == here or (here is None and line["kind"] == "room"))
