"""Activity of the user, read marks, and unread counts.

The user is active until nothing was typed for five minutes, until /away, or while the terminal reports that another
window has the keyboard. Focus changes no presence: the user of another window is still online. Input that is no
keyboard says nothing about the user: a pipe counts as active until /away.

Source: docs/protocol.md, "Receipts and presence".
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from p2pchat import Conversation, Deleted, Edited, HostedUser, Message, P2PChatError, PeerClosed, Reaction, TCPPeer


class ActivityTracker:
    """Tracks whether the user of one chat is active, and sets the presence accordingly.

    Args:
        set_presence: Called with a status and its text when they change.
        current: Returns the id (base32) of the current conversation; "" while it is unknown.
        idle_after: Seconds without a key until the user is idle; None: there are no keys.
    Attributes:
        on_view: Called when the user may see more than before: after a return, or a switch of the conversation.
    """

    def __init__(
        self, set_presence: Callable[[str, str], None], current: Callable[[], str], *, idle_after: float | None
    ) -> None:
        self.on_view: list[Callable[[], None]] = []
        self._set_presence = set_presence
        self._current = current
        self._idle_after = idle_after
        self._loop = asyncio.get_running_loop()
        self._presence = ("online", "")
        self._away: str | None = None  # the text of /away
        self._idle = False
        self._focused = True  # also if the terminal reports no focus
        self._input_at = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._start_timer()

    @property
    def is_active(self) -> bool:
        return self._focused and not self._idle and self._away is None

    def is_viewing(self, conversation_id: str) -> bool:
        """Return whether the user looks at this conversation (its id as in event lines)."""
        return self.is_active and self._current() == conversation_id

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

    def away(self, text: str) -> None:
        """Be away until back()."""
        was, self._away = self.is_active, text
        self._update(was, always=True)

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
PAST_SHOWN = 20  # older messages shown when a conversation is opened


class ReadMarker:
    """Marks messages read when they are displayed in the active conversation, or when the user returns to or opens it.

    One mark on the newest message covers all before it.

    Args:
        current: Returns the current conversation; raises P2PChatError while it is unknown.
        shows_past: Opening a conversation shows its last messages, those of earlier runs too.
    """

    def __init__(
        self,
        peer: TCPPeer | HostedUser,
        activity: ActivityTracker,
        current: Callable[[], Conversation],
        *,
        shows_past: bool,
    ) -> None:
        self._peer = peer
        self._activity = activity
        self._current = current
        self._shows_past = shows_past
        self._newest: dict[str, Message | Edited | Deleted | Reaction] = {}  # shown and unread, by conversation id
        self._read: set[str] = set()  # conversations, not the current one, whose newest message was read
        self._timer: asyncio.TimerHandle | None = None
        self._past_marked: set[str] = set()  # conversations whose past was shown in this run
        self._tasks: set[asyncio.Task[None]] = set()
        activity.on_view.append(self.mark_seen)

    def on_shown(self, event: object, *, is_read: bool = False) -> None:
        """Handle an event that was shown just now, or counted; `is_read`: elsewhere, and read there."""
        if not isinstance(event, Message) and (not isinstance(event, (Edited, Deleted, Reaction)) or event.by.is_me):
            return
        where = event.conversation.id
        self._newest[where] = event
        if is_read:
            self._read.add(where)
        if self._timer is None and (is_read or self._activity.is_viewing(where)):
            self._timer = asyncio.get_running_loop().call_later(MARK_DELAY, self.mark_seen)

    def mark_seen(self) -> None:
        """Mark the messages read that were shown to the user, and those of the current conversation."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._mark(self._read)
        self._read.clear()
        if not self._activity.is_active:
            return
        try:
            here = self._current()
            if self._shows_past and here.id not in self._past_marked:
                self._past_marked.add(here.id)
                task = asyncio.ensure_future(self._mark_past(here))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            self._mark({here.id})
        except P2PChatError:  # an open network before the first peer was met, or a closed peer
            return

    def _mark(self, conversations: Iterable[str]) -> None:
        for id in conversations:
            newest = self._newest.pop(id, None)
            if newest is not None:
                with suppress(PeerClosed):
                    newest.mark_read()

    async def _mark_past(self, here: Conversation) -> None:
        """Mark messages that earlier runs left unread."""
        try:
            received = [one for one in await here.history(limit=PAST_SHOWN) if isinstance(one, Message)]
            if received and self._activity.is_viewing(here.id):
                max(received, key=lambda message: message.place).mark_read()
        except P2PChatError:  # closed meanwhile
            return


# ---- unread counts


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
    """Unread messages of one conversation, and mentions among them, by sender."""

    direct: bool
    by: Counter[str] = field(default_factory=Counter)
    mentions_by: Counter[str] = field(default_factory=Counter)

    @property
    def rank(self) -> int:
        """0 with mentions, 1 for a direct conversation, 2 for others."""
        return 0 if self.mentions_by.total() else 1 if self.direct else 2


class UnreadCounter:
    """Unread messages by conversation id. Messages from before the join (`old`) do not count.

    Attributes:
        name, id: The own name and id, to recognize mentions; "" recognizes none.
    """

    def __init__(self, name: str = "", id: str = "") -> None:
        self.name = name
        self.id = id
        self._unread: dict[str, _UnreadLines] = {}  # in the order they became unread

    def on_event(self, line: Mapping[str, Any], here: str | None) -> bool:
        """Count an event line if it is a message of another conversation; return whether it was counted.

        Args:
            here: The id of the current conversation; None: the room, whose id may be unknown.
        """
        if line["event"] != "message" or line["old"] or is_here(line, here):
            return False
        unread = self._unread.setdefault(line["conversation_id"], _UnreadLines(line["kind"] == "dm"))
        unread.by[line["sender_id"]] += 1
        if mentions(line["text"], self.name, self.id):
            unread.mentions_by[line["sender_id"]] += 1
        return True

    def count(self, id: str) -> int:
        return self._unread[id].by.total() if id in self._unread else 0

    def mentions(self, id: str) -> int:
        """Return the number of mentions among them."""
        return self._unread[id].mentions_by.total() if id in self._unread else 0

    @property
    def ids(self) -> list[str]:
        """Conversations with unread messages, in the order they became unread."""
        return list(self._unread)

    @property
    def total(self) -> int:
        return sum(unread.by.total() for unread in self._unread.values())

    def most_urgent(self) -> str | None:
        """Return the conversation to look at next: mentions first, then direct ones, then others; None: none."""
        return min(self._unread, key=lambda id: self._unread[id].rank, default=None)

    def first(self) -> str | None:
        """Return the conversation that has been unread for longest; None: none."""
        return next(iter(self._unread), None)

    def forget_sender(self, sender_id: str) -> None:
        """Drop the messages of a user who is ignored now."""
        for id, unread in list(self._unread.items()):
            del unread.by[sender_id], unread.mentions_by[sender_id]
            if not unread.by:
                del self._unread[id]

    def recount(self, id: str, lines: Iterable[Mapping[str, Any]]) -> None:
        """Replace the unread messages of a conversation by these."""
        self.clear(id)
        for line in lines:
            self.on_event(line, "")

    def clear(self, id: str) -> None:
        """Mark a conversation read."""
        self._unread.pop(id, None)


def is_here(line: Mapping[str, Any], here: str | None) -> bool:
    """Return whether a message belongs to the conversation `here` (None: the room)."""
    return bool(line["conversation_id"] == here or (here is None and line["kind"] == "room"))
