"""Whether somebody looks at this chat, and at which conversation: one small object that hears of keys, of the window
and of /away, tells others `online` or `idle`, and answers what may count as read.

Somebody is there until nothing was typed for five minutes, until /away, or while the terminal tells that another window
has the keyboard. The last says nothing to others: who reads in the window beside is still online. Input that is no
keyboard tells nothing of anybody: a pipe counts as in use until /away.

Source: docs/protocol.md, "Receipts and presence".
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from p2pchat import Conversation, Deleted, Edited, HostedUser, Message, P2PChatError, Reaction, TCPPeer


class ActivityTracker:
    """One chat's attention.

    Args:
        tell: Takes what others are told, when it is another: a status and its text.
        current: Returns the id (base32) of the conversation of the moment; "" while it is not known.
        idle_after: Seconds without a key until nobody is there; None: keys tell nothing, for there are none.
    Attributes:
        looking: Called whenever more may be seen than before: somebody came back, or went to another conversation.
    """

    def __init__(
        self, tell: Callable[[str, str], None], current: Callable[[], str], *, idle_after: float | None
    ) -> None:
        self.looking: list[Callable[[], None]] = []
        self._tell = tell
        self._current = current
        self._idle_after = idle_after
        self._loop = asyncio.get_running_loop()
        self._told = ("online", "")
        self._away: str | None = None  # the text of an /away that holds
        self._idle = False
        self._focused = True  # also where the terminal does not tell
        self._used_at = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._look_later()

    # What may count as read

    @property
    def in_use(self) -> bool:
        """Whether somebody looks here."""
        return self._focused and not self._idle and self._away is None

    def sees(self, conversation_id: str) -> bool:
        """Whether somebody looks at this conversation (its id as in event lines)."""
        return self.in_use and self._current() == conversation_id

    # What happens

    def used(self) -> None:
        """Something was typed. After an /away that alone is no return: /back is."""
        was = self.in_use
        self._used_at = self._loop.time()
        self._focused = True  # keys go to the window in front, whatever was told before
        self._idle = False
        if self._timer is None:
            self._look_later()
        self._changed(was)

    def focus(self, on: bool) -> None:
        """The terminal tells that this window got the keyboard, or lost it."""
        if on:
            self.used()
        else:
            self._focused = False

    def away(self, text: str) -> None:
        """Somebody says to be away, until back()."""
        was, self._away = self.in_use, text
        self._changed(was, anyhow=True)

    def back(self) -> None:
        """Somebody says to be back."""
        was, self._away = self.in_use, None
        self._changed(was, anyhow=True)

    def moved(self) -> None:
        """Another conversation is the one of the moment."""
        if self.in_use:
            self._look()

    def close(self) -> None:
        """Tell nothing any more."""
        self.looking.clear()
        if self._timer is not None:
            self._timer.cancel()

    # Inside

    def _changed(self, was: bool, *, anyhow: bool = False) -> None:
        """Tell others what is another, or what somebody said (`anyhow`); and whoever waits for somebody to look."""
        word = ("online", "") if self._away is None and not self._idle else ("idle", self._away or "")
        if anyhow or word != self._told:
            self._told = word
            self._tell(*word)
        if self.in_use and not was:
            self._look()

    def _look(self) -> None:
        for call in list(self.looking):
            call()

    def _look_later(self) -> None:
        """See later whether something was typed meanwhile: a key costs no timer."""
        if self._idle_after is not None:
            self._timer = self._loop.call_at(self._used_at + self._idle_after, self._see)

    def _see(self) -> None:
        assert self._idle_after is not None
        self._timer = None
        if self._loop.time() < self._used_at + self._idle_after:
            self._look_later()
        else:
            was, self._idle = self.in_use, True
            self._changed(was)


# ---- seen
#
# What somebody sees is read: messages of the conversation in front while somebody looks, the others at the moment one
# comes back or goes there.
#
# Who looks is read_tracking.py's to say. It is one mark on the message shown last: it stands for all that came before
# it.


MARK_DELAY = 0.02  # seconds: what comes within so long is one mark
PAST_SHOWN = 20  # messages that are shown of the past; the one that came last of them is what was seen


class ReadMarker:
    """One chat's eyes.

    Args:
        current: Returns where one is; raises P2PChatError while that is not known.
        shows_past: The last messages of where one goes are shown there, also those of earlier runs.
    """

    def __init__(
        self,
        peer: TCPPeer | HostedUser,
        attention: ActivityTracker,
        current: Callable[[], Conversation],
        *,
        shows_past: bool,
    ) -> None:
        self._peer = peer
        self._attention = attention
        self._current = current
        self._shows_past = shows_past
        self._unread: dict[str, Message | Edited | Deleted | Reaction] = {}  # the one shown last, by conversation id
        self._soon: asyncio.TimerHandle | None = None
        self._looked_back: set[str] = set()  # conversations whose past was shown in this run
        self._looking: set[asyncio.Task[None]] = set()
        attention.looking.append(self.look)

    def shown(self, event: object) -> None:
        """Take an event that was shown just now, or counted."""
        if not isinstance(event, Message) and (not isinstance(event, (Edited, Deleted, Reaction)) or event.by.is_me):
            return
        self._unread[event.conversation.id] = event
        if self._soon is None and self._attention.sees(event.conversation.id):
            self._soon = asyncio.get_running_loop().call_later(MARK_DELAY, self.look)

    def look(self) -> None:
        """Somebody looks at the conversation of the moment: what was shown there is read."""
        if self._soon is not None:
            self._soon.cancel()
            self._soon = None
        if not self._attention.in_use:
            return
        try:
            here = self._current()
            if self._shows_past and here.id not in self._looked_back:
                self._looked_back.add(here.id)
                self._look_back(here)
            newest = self._unread.pop(here.id, None)
            if newest is not None:
                newest.mark_read()
        except P2PChatError:  # an open network that has met nobody yet, or a peer that is closed
            return

    def _look_back(self, here: Conversation) -> None:
        task = asyncio.ensure_future(self._read_past(here))
        self._looking.add(task)
        task.add_done_callback(self._looking.discard)

    async def _read_past(self, here: Conversation) -> None:
        """Mark what earlier runs have left unread, or was read elsewhere."""
        try:
            posts = await here.history(limit=PAST_SHOWN)
            came = [post for post in posts if isinstance(post, Message)]
            if came and self._attention.sees(here.id):
                max(came, key=lambda post: post.place).mark_read()
        except P2PChatError:  # closed meanwhile
            return


# ---- unread
#
# What is unread in the conversations one is not in: how much, how often one is meant, and what came first.
#
# It counts lines, and knows nothing of who sees them. What was written before one came (`old`) is nobody's news.


_SUFFIX = r"(?:#([a-z2-7]{8,52})(?!\w))?"  # of a label: the beginning of an id, in small letters as all is compared


def mentions(text: str, name: str, id: str = "") -> bool:
    """Whether `name` stands in `text` as a word of its own, whatever the case: alone, or as a label of this id
    (`ada#K7QF2M3P`) and not of another one of that name."""
    if not name:
        return False
    found = re.finditer(rf"(?<!\w){re.escape(name.casefold())}(?!\w){_SUFFIX}", text.casefold())
    return any(match[1] is None or id.casefold().startswith(match[1]) for match in found)


def is_addressed_to(line: Mapping[str, Any], name: str, id: str) -> bool:
    """Whether a message is for this user in particular: it goes to nobody else, or says the name."""
    return line["kind"] == "dm" or mentions(line["text"], name, id)


@dataclass(slots=True)
class _UnreadLines:
    """One conversation's unread lines, by who wrote them, and those of them in which one is meant."""

    direct: bool
    by: Counter[str] = field(default_factory=Counter)
    meant_by: Counter[str] = field(default_factory=Counter)

    @property
    def rank(self) -> int:
        """0 where one is meant, 1 what goes to oneself alone, 2 the rest."""
        return 0 if self.meant_by.total() else 1 if self.direct else 2


class UnreadCounter:
    """What is unread, by conversation id.

    Attributes:
        name, id: The own name and id, to know who is meant; "" knows nobody.
    """

    def __init__(self, name: str = "", id: str = "") -> None:
        self.name = name
        self.id = id
        self._waiting: dict[str, _UnreadLines] = {}  # in the order they became unread

    def noticed(self, line: Mapping[str, Any], here: str | None) -> bool:
        """Count an event line, if it is a message that belongs elsewhere than `here`; return whether it was counted.

        Args:
            here: The id of the conversation of the moment; None: the room, which may not be known yet.
        """
        if line["event"] != "message" or line["old"] or is_here(line, here):
            return False
        waiting = self._waiting.setdefault(line["conversation_id"], _UnreadLines(line["kind"] == "dm"))
        waiting.by[line["sender_id"]] += 1
        if mentions(line["text"], self.name, self.id):
            waiting.meant_by[line["sender_id"]] += 1
        return True

    def count(self, id: str) -> int:
        """Return how many lines are unread there."""
        return self._waiting[id].by.total() if id in self._waiting else 0

    def mentions(self, id: str) -> int:
        """Return in how many of them one is meant."""
        return self._waiting[id].meant_by.total() if id in self._waiting else 0

    @property
    def ids(self) -> list[str]:
        """Every conversation with something unread, in the order they became so."""
        return list(self._waiting)

    @property
    def total(self) -> int:
        return sum(waiting.by.total() for waiting in self._waiting.values())

    def next(self) -> str | None:
        """Return the conversation to look at next: one where one is meant, then a direct one, then any; the longest
        waiting of them. None: nothing is unread."""
        return min(self._waiting, key=lambda id: self._waiting[id].rank, default=None)

    def first(self) -> str | None:
        """Return the conversation of the first unread line; None: nothing is unread."""
        return next(iter(self._waiting), None)

    def forget(self, sender_id: str) -> None:
        """Nothing of this user is to be read any more."""
        for id, waiting in list(self._waiting.items()):
            del waiting.by[sender_id], waiting.meant_by[sender_id]
            if not waiting.by:
                del self._waiting[id]

    def recount(self, id: str, lines: Iterable[Mapping[str, Any]]) -> None:
        """These lines are what is unread there, and nothing else."""
        self.seen(id)
        for line in lines:
            self.noticed(line, "")

    def seen(self, id: str) -> None:
        """Somebody is there now: nothing of it is unread."""
        self._waiting.pop(id, None)


def is_here(line: Mapping[str, Any], here: str | None) -> bool:
    """Whether a message belongs to the conversation `here` (None: the room)."""
    return bool(line["conversation_id"] == here or (here is None and line["kind"] == "room"))
