"""Unread counts of conversations, and mentions of the user's name: what a text must have to be one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from p2pchat import Message

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


@dataclass
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

    While a conversation has old messages that were not shown, nothing in it is marked as read until it is opened.

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
        if line["event"] != "message" or is_here(line, here) or line.get("deleted") or line.get("expelled"):
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
        """Return whether an unread or an old message of a conversation was not shown yet."""
        return id in self._old or (id in self._unread and self._unread[id].hidden)

    def mentions(self, id: str) -> int:
        """Return the number of mentions among the unread messages of a conversation."""
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

    def recount(self, id: str, messages: Iterable[Message]) -> None:
        """Replace the unread messages of a conversation by these."""
        self._unread.pop(id, None)
        for message in messages:
            self.on_event(message.to_dict(), "")

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
