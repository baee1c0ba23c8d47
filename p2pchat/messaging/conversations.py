"""Conversations as programs hold them, and the checks of texts written there.

A Conversation is a small handle. Its methods call the viewer that made it: a TCPPeer, HostedUser or History, which acts
for one user.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

from p2pchat.config import Settings
from p2pchat.core.groups.group import GroupView
from p2pchat.core.log import LogId
from p2pchat.core.names import base32, full_label
from p2pchat.core.sync.append import ENTRY_OVERHEAD_BYTES, are_plain, encoded_bytes, text_fault
from p2pchat.errors import TooLong
from p2pchat.messaging.events import EPOCH
from p2pchat.messaging.users import User
from p2pchat.protocol import ConversationId, Naming, UserId

if TYPE_CHECKING:
    from p2pchat.messaging.messages import Message, Post, Sent
    from p2pchat.messaging.name_resolution import UserDirectory
    from p2pchat.messaging.receipts import Receipt, Receipts

PAGE = 500  # messages read at once by Conversation.messages(): a few hundred KiB


class ShownEntry(Protocol):
    """An entry that was released to readers: a message, or an edit, deletion or reaction."""

    @property
    def log(self) -> LogId: ...
    @property
    def seq(self) -> int: ...
    @property
    def place(self) -> int: ...


class Viewer(Protocol):
    """The user that conversations, groups and messages belong to, and whose methods they call."""

    people: UserDirectory

    def conversation(self, key: ConversationId) -> Conversation: ...

    def ref(self, log: LogId, seq: int) -> str | None:
        """Return the `ref` that the program gave when it sent this message."""

    def group_view(self, group: ConversationId) -> GroupView | None:
        """Return the present state of a group, by the id of its operations; None while the group is unknown."""

    def same_name(self, conversation: Conversation) -> bool:
        """Return whether another group has the same name, or one that looks like it."""

    async def change_group(
        self,
        group: Conversation,
        *,
        add: tuple[UserId, ...] = (),
        remove: tuple[UserId, ...] = (),
        name: str | None = None,
        owner: UserId | None = None,
    ) -> None: ...

    async def leave_group(self, group: Conversation) -> None: ...

    def mark_read(self, post: ShownEntry) -> None: ...

    async def send(
        self, to: Conversation, text: str, reply_to: Post | str | None = None, *, action: bool = False
    ) -> Receipt: ...

    async def send_many(self, to: Conversation, texts: Sequence[str]) -> Receipts: ...

    async def edit(self, message: Post | str, text: str) -> Receipt: ...

    async def delete(self, message: Post | str) -> Receipt: ...

    async def react(self, message: Post | str, reaction: str) -> Receipt: ...

    def typing(self, to: Conversation, on: bool = True) -> None: ...

    async def history(
        self,
        conversation: Conversation | None = None,
        *,
        before: Post | datetime | None = None,
        after: Post | datetime | None = None,
        since: datetime | None = None,
        limit: int = 100,
    ) -> list[Message | Sent]: ...


class Conversation:
    """The room, a direct conversation, or a Group. Two handles with the same id are equal.

    Attributes:
        key: The id in hex, as inside and on the wire.
        naming: What the id stands for; None while that is unknown.
    """

    __slots__ = ("_id", "_viewer", "key", "naming")

    def __init__(self, viewer: Viewer, key: ConversationId, naming: Naming | None) -> None:
        self._id = ""
        self._viewer = viewer
        self.key = key
        self.naming = naming

    @property
    def id(self) -> str:
        """The id as people see it: 52 characters of base32."""
        self._id = self._id or base32(self.key)
        return self._id

    @property
    def viewer(self) -> Viewer:
        """The TCPPeer, HostedUser or History that made this handle."""
        return self._viewer

    @property
    def kind(self) -> str:
        """`room`, `dm` or `group`; `unknown` for a kind that this version does not know."""
        naming = self.naming
        if naming is None:
            return "unknown"
        return "room" if naming.room else "dm" if naming.dm else "group" if naming.talk else "unknown"

    @property
    def name(self) -> str:
        """The name to show: `room`, the label of the other user, or the label of the group without `#`."""
        user = self.user
        if user is not None:
            return user.label
        if self.kind == "group":
            return self.full_label if self._viewer.same_name(self) else self.plain_name
        return self.kind if self.kind != "unknown" else base32(self.key[:10])

    @property
    def plain_name(self) -> str:
        """The name that the owner gave a group; `group` while it is unknown, and for other conversations."""
        group = self.naming.talk if self.naming else None
        view = self._viewer.group_view(group) if group else None
        return view.name if view else "group"

    @property
    def full_label(self) -> str:
        """The name of a group followed by the beginning of its id, which makes it unique."""
        return full_label(self.plain_name, self.key)

    @property
    def address(self) -> str:
        """The address to type: `room`, `@bob`, `#ops`."""
        return {"dm": "@", "group": "#"}.get(self.kind, "") + self.name

    @property
    def user(self) -> User | None:
        """The other user of a direct conversation, or the own user in one with oneself; None otherwise."""
        if self.naming is None or self.naming.dm is None:
            return None
        people = self._viewer.people
        one, other = self.naming.dm
        return people.user(one if other == people.me else other)

    def send(
        self, text: str, reply_to: Post | str | None = None, *, action: bool = False
    ) -> Coroutine[Any, Any, Receipt]:
        """Write one message here; see TCPPeer.send, whose coroutine this returns."""
        return self._viewer.send(self, text, reply_to, action=action)

    def send_many(self, texts: Sequence[str]) -> Coroutine[Any, Any, Receipts]:
        """Write many messages here; see TCPPeer.send_many, whose coroutine this returns."""
        return self._viewer.send_many(self, texts)

    def typing(self, on: bool = True) -> None:
        """Show others that the own user is typing here, or has stopped; see TCPPeer.typing."""
        self._viewer.typing(self, on)

    async def history(
        self,
        *,
        before: Post | datetime | None = None,
        after: Post | datetime | None = None,
        since: datetime | None = None,
        limit: int = 100,
    ) -> list[Message | Sent]:
        """Return messages written here, oldest first; see TCPPeer.history."""
        return await self._viewer.history(self, before=before, after=after, since=since, limit=limit)

    async def messages(self, *, since: datetime | None = None) -> AsyncIterator[Message | Sent]:
        """Iterate over every message written here, oldest first, from `since` on. Reads one page at a time."""
        page = await self._viewer.history(self, after=since or EPOCH, limit=PAGE)
        while page:
            for post in page:
                yield post
            page = await self._viewer.history(self, after=page[-1], limit=PAGE)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Conversation) and other.key == self.key

    def __hash__(self) -> int:
        return hash(self.key)

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"<Conversation {self.kind} {self.name!a}>"


def check_texts(texts: Sequence[str], settings: Settings) -> None:
    """Return if all of these texts can be sent; raises as check_text."""
    if not all(isinstance(text, str) and text for text in texts) or not are_plain(texts, settings):
        for text in texts:
            check_text(text, settings)


def check_text(text: str, settings: Settings) -> None:
    """Return if a text can be sent.

    Raises:
        TypeError: It is no str. ValueError: It is empty, contains NUL, or cannot be encoded.
        TooLong: It is too long; `.limit_bytes` is the limit.
    """
    if not isinstance(text, str):
        raise TypeError(f"a text is a str, not {type(text).__name__}")
    if not text:
        raise ValueError("the text is empty")
    if len(text) <= min(settings.max_text_bytes, settings.max_entry_bytes // 8) and text.isascii() and "\0" not in text:
        return  # the same answer as are_plain(), in a third of its time for a single text
    fault = text_fault(text, settings.max_text_bytes, settings.max_entry_bytes)
    if fault is not None and fault[0] == "too_long":
        size = len(text.encode())
        if size > settings.max_text_bytes:
            raise TooLong("the text", size, settings.max_text_bytes)
        limit = settings.max_entry_bytes - ENTRY_OVERHEAD_BYTES
        raise TooLong("the text, its control characters escaped,", encoded_bytes(text), limit)
    if fault is not None:
        raise ValueError(fault[1])
