"""What commands act on: the peer, its settings, where texts go, what is unread, what was shown last."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import NamedTuple, TypeVar

from p2pchat import (
    Conversation,
    GroupChanged,
    HostedUser,
    Message,
    P2PChatError,
    Receipt,
    Sent,
    Settings,
    TCPPeer,
    UnknownName,
    User,
)
from p2pchat.commands.display import Display
from p2pchat.commands.errors import UsageError
from p2pchat.commands.output import EventLine
from p2pchat.commands.read_tracking import ActivityTracker, UnreadCounter
from p2pchat.commands.render import EDIT_EVENTS, format_gap, format_message, with_gap
from p2pchat.commands.settings import ChatSettings, is_ignored, without_ignored

NAME_GRACE = 3.0  # seconds in which piped input waits for a name: who is linked through others comes a moment later
T = TypeVar("T")


class CommandResult(NamedTuple):
    """What a command says: `rows` for programs, `lines` for people."""

    rows: Sequence[EventLine] = ()
    lines: Sequence[str] = ()


class CommandContext:
    """One session's surroundings.

    Attributes:
        peer: Whose session it is: a peer's own user, or one that a peer hosts.
        interactive: Somebody types, and sees what is said.
        for_people: What is shown is lines, and leaves out whom they ignore.
        calls: Takes an endpoint that is about to be called, so that what becomes of it is told.
        elsewhere: Where texts go; None: the room, whose id may not be known yet.
        attention: Whether somebody looks, and where.
        kept: Takes what became of something else than a text that was said: an edit, for one.
    """

    def __init__(
        self, peer: TCPPeer | HostedUser, show: Display, settings: ChatSettings, *, interactive: bool, for_people: bool,
        attention: ActivityTracker | None = None,
    ) -> None:  # fmt: skip
        self.peer = peer
        self.show = show
        self.settings = settings
        self.interactive = interactive
        self.for_people = for_people
        self.calls: Callable[[str], None] = lambda endpoint: None
        self.kept: Callable[[Conversation, Receipt], None] = lambda to, receipt: None
        self.elsewhere: Conversation | None = None
        self.unread = UnreadCounter(peer.me.name, peer.me.id)
        idle_after = Settings().idle_after if interactive else None  # a pipe has no keys
        self.attention = attention or ActivityTracker(peer.set_presence, self._current_id, idle_after=idle_after)
        self._newest: dict[str, str] = {}  # message shown last of another, by conversation id
        self._names_by = asyncio.get_running_loop().time() + NAME_GRACE

    @property
    def whole_peer(self) -> TCPPeer:
        """The peer itself, for what concerns all of its users.

        Raises:
            Usage: This is a user whom it hosts beside others.
        """
        if isinstance(self.peer, HostedUser):
            raise UsageError("that is for whoever runs the peer")
        return self.peer

    @property
    def current(self) -> Conversation:
        """Where a text goes. UnknownName in an open network that has met nobody yet."""
        return self.elsewhere or self.peer.room

    def _current_id(self) -> str:
        try:
            return self.current.id
        except P2PChatError:  # an open network that has met nobody yet, or a peer that is closed
            return ""

    def is_current(self, conversation: Conversation) -> bool:
        return conversation == self.elsewhere or (self.elsewhere is None and conversation.kind == "room")

    def hides(self, line: EventLine) -> bool:
        """Whether this event line is of somebody people do not want to read."""
        return self.for_people and is_ignored(self.peer, line)

    async def go(self, conversation: Conversation) -> None:
        """Send what follows there; nothing of it is unread."""
        self.elsewhere = None if conversation.kind == "room" else conversation
        self.show.numbers.clear()
        self.unread.seen(conversation.id)
        await self.show.went(conversation)
        self.attention.moved()

    # What was shown

    def noticed(self, line: EventLine) -> None:
        """Take an event line before it is shown: it may be unread, and an answer may be to it."""
        if line["event"] != "message" or self.hides(line):
            return
        self.show.me = self.peer.me.label  # renamed elsewhere, or another took the same name
        self.unread.name = self.peer.me.name
        self.unread.noticed(line, self.elsewhere.id if self.elsewhere else None)  # asks nothing of a closed peer
        if not line["old"]:  # which is only counted, and comes in no order that anybody has seen
            self._newest[line["conversation_id"]] = line["id"]

    def newest_shown(self, conversation: Conversation) -> str | None:
        """Return the id of the message of another that was shown last there in this run."""
        return self._newest.get(conversation.id)

    def number(self, rows: Sequence[EventLine]) -> None:
        """Give the lines of an answer numbers by which they can be named: 1 is the newest."""
        self.show.numbers = {row["id"]: number for number, row in enumerate(reversed(rows), 1)}

    def numbered(self, number: str) -> str:
        """Return the id of the line that has this number now, "" for what is none."""
        return next((id for id, one in self.show.numbers.items() if str(one) == number), "")

    async def answered(self, line: EventLine) -> EventLine | None:
        """Return the line of the message this one answers, edits, deletes or reacts to; None when it is not here, or
        not to be shown."""
        named = line["id"] if line["event"] in EDIT_EVENTS else line.get("reply_to")
        if not named:
            return None
        try:
            found = (await self.peer.message(named)).to_json()
        except (P2PChatError, ValueError):  # not here (yet), or of a later kind
            return None
        return None if self.hides(found) else found

    async def rows_of(self, posts: Sequence[Message | Sent]) -> list[EventLine]:
        """Return messages as programs read them."""
        return [await with_gap(self.peer, post) for post in posts]

    async def lines_of(self, rows: Sequence[EventLine]) -> list[str]:
        """Return rows of messages as people read them, with the numbers they have from now on; [] for programs."""
        if not self.for_people:
            return []
        now = datetime.now().astimezone()
        lines: list[str] = []
        shown = [without_ignored(self.peer, row) for row in rows if not self.hides(row)]
        self.number(shown)
        width = len(str(len(shown)))
        for row in shown:
            gap = format_gap(row)
            lines += [gap] if gap else []
            number = f"{self.show.numbers[row['id']]:>{width}}"
            lines.append(f"{number} {format_message(row, self.show.me, now, await self.answered(row))}")
        return lines

    # Names

    def names_are_known(self) -> None:
        """Wait for no name any more."""
        self._names_by = 0.0

    async def resolve(self, address: str) -> Conversation:
        """Return the conversation an address names; piped input waits a moment for a name nobody told yet."""
        return await self.waiting_for(address, lambda: self.peer.find(address))

    async def user(self, address: str) -> User:
        """Return the user an address names; waits as resolve."""
        return await self.waiting_for(address, lambda: self.peer.user(address))

    async def waiting_for(self, address: str, find: Callable[[], T]) -> T:
        """Return what `find` finds for this address; raises what it raises, waits as resolve."""
        while True:
            try:
                return find()
            except UnknownName:
                left = self._names_by - asyncio.get_running_loop().time()
                if self.interactive or left <= 0:
                    raise
                if not await self._news_of(address.removeprefix("@"), left):
                    self.names_are_known()

    async def _news_of(self, name: str, timeout: float) -> bool:
        """Wait until this user comes, or any group does; False when neither did in time."""
        group = asyncio.ensure_future(self.peer.wait_for(GroupChanged))
        user = asyncio.ensure_future(self.peer.wait_user(name))
        try:
            done, _ = await asyncio.wait([group, user], timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        finally:
            group.cancel()
            user.cancel()
        return any(not one.cancelled() and one.exception() is None for one in done)


Handler = Callable[..., Awaitable[CommandResult]]
