"""Where messages go: the room, a direct conversation of two users, or the talk of a group (group.py).

A Conversation is a small handle; what it does, the peer behind it does. Desk is what handles ask of whoever made
them: a running peer, or a history that is only read.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

from p2pchat.core.groups.view import GroupView
from p2pchat.core.log import LogId
from p2pchat.identity.names import base32, full_label
from p2pchat.messaging.timestamps import EPOCH
from p2pchat.messaging.users import People, User
from p2pchat.protocol import ConversationId, Naming, UserId

if TYPE_CHECKING:
    from p2pchat.messaging.messages import Message, Post, Sent
    from p2pchat.messaging.receipts import Receipt, Receipts

PAGE = 500  # messages read at once by Conversation.messages(): a few hundred KiB


class Placed(Protocol):
    """Something that was shown: a message, or what became of one."""

    @property
    def log(self) -> LogId: ...
    @property
    def seq(self) -> int: ...
    @property
    def place(self) -> int: ...


class Desk(Protocol):
    """What users, conversations and messages ask of whoever made them."""

    people: People

    def conversation(self, key: ConversationId) -> Conversation:
        """Return the one handle of a conversation."""

    def ref(self, log: LogId, seq: int) -> str | None:
        """Return what the program called this message when it sent it."""

    def group_view(self, group: ConversationId) -> GroupView | None:
        """Return a group as it is now, by the id of its operations; None while it is not known."""

    def same_name(self, conversation: Conversation) -> bool:
        """Say whether another group could be taken for this one."""

    async def change_group(
        self,
        group: Conversation,
        *,
        add: tuple[UserId, ...] = (),
        remove: tuple[UserId, ...] = (),
        name: str | None = None,
        owner: UserId | None = None,
    ) -> None:
        """Change a group of one's own."""

    async def leave_group(self, group: Conversation) -> None:
        """Leave a group."""

    def mark_read(self, post: Placed) -> None:
        """Say that everything in the conversation up to this message is read."""

    async def send(
        self, to: Conversation, text: str, reply_to: Post | str | None = None, *, action: bool = False
    ) -> Receipt:
        """Write one message; returns when it is accepted."""

    async def send_many(self, to: Conversation, texts: Sequence[str]) -> Receipts:
        """Write many; returns when all are accepted."""

    async def edit(self, message: Post | str, text: str) -> Receipt:
        """Have an own message say something else."""

    async def delete(self, message: Post | str) -> Receipt:
        """Take an own message back."""

    async def react(self, message: Post | str, reaction: str) -> Receipt:
        """React to a message."""

    def typing(self, to: Conversation, on: bool = True) -> None:
        """Tell that one writes there just now, or has stopped."""

    async def history(
        self,
        conversation: Conversation | None = None,
        *,
        before: Post | datetime | None = None,
        after: Post | datetime | None = None,
        since: datetime | None = None,
        limit: int = 100,
    ) -> list[Message | Sent]:
        """Return what was written, oldest first."""


class Conversation:
    """The room, a direct conversation, or a Group. Equal by id.

    Attributes:
        key: The id as it is inside and on the wire, hex.
        naming: What the id stands for.
    """

    __slots__ = ("_desk", "_id", "key", "naming")

    def __init__(self, desk: Desk, key: ConversationId, naming: Naming | None) -> None:
        self._id = ""
        self._desk = desk
        self.key = key
        self.naming = naming

    @property
    def id(self) -> str:
        """The id as people see it: 52 characters of base32."""
        self._id = self._id or base32(self.key)
        return self._id

    @property
    def desk(self) -> Desk:
        """Whoever made it: a peer, a hosted user, or a history."""
        return self._desk

    @property
    def kind(self) -> str:
        """`room`, `dm` or `group`; `unknown` for a kind this version does not have."""
        naming = self.naming
        if naming is None:
            return "unknown"
        return "room" if naming.room else "dm" if naming.dm else "group" if naming.talk else "unknown"

    @property
    def name(self) -> str:
        """The name to show: `room`, the label of the other user, or of the group (without #)."""
        user = self.user
        if user is not None:
            return user.label
        if self.kind == "group":
            return self.full_label if self._desk.same_name(self) else self.plain_name
        return self.kind if self.kind != "unknown" else base32(self.key[:10])

    @property
    def plain_name(self) -> str:
        """What a group's owner calls it; `group` while that is not known, or of what is no group."""
        group = self.naming.talk if self.naming else None
        view = self._desk.group_view(group) if group else None
        return view.name if view else "group"

    @property
    def full_label(self) -> str:
        """The name of a group with the beginning of its id, which no other has."""
        return full_label(self.plain_name, self.key)

    @property
    def address(self) -> str:
        """What to type to mean it: `room`, `@bob`, `#ops`."""
        return {"dm": "@", "group": "#"}.get(self.kind, "") + self.name

    @property
    def user(self) -> User | None:
        """The other user of a direct conversation (oneself in one with oneself); None for the room."""
        if self.naming is None or self.naming.dm is None:
            return None
        people = self._desk.people
        one, other = self.naming.dm
        return people.user(one if other == people.me else other)

    def send(
        self, text: str, reply_to: Post | str | None = None, *, action: bool = False
    ) -> Coroutine[Any, Any, Receipt]:
        """Write one message here; as TCPPeer.send, whose coroutine it returns."""
        return self._desk.send(self, text, reply_to, action=action)

    def send_many(self, texts: Sequence[str]) -> Coroutine[Any, Any, Receipts]:
        """Write many messages here; as TCPPeer.send_many, whose coroutine it returns."""
        return self._desk.send_many(self, texts)

    def typing(self, on: bool = True) -> None:
        """Tell whoever can read this that one writes here just now, or has stopped; as TCPPeer.typing."""
        self._desk.typing(self, on)

    async def history(
        self,
        *,
        before: Post | datetime | None = None,
        after: Post | datetime | None = None,
        since: datetime | None = None,
        limit: int = 100,
    ) -> list[Message | Sent]:
        """Return what was written here, oldest first; as TCPPeer.history."""
        return await self._desk.history(self, before=before, after=after, since=since, limit=limit)

    async def messages(self, *, since: datetime | None = None) -> AsyncIterator[Message | Sent]:
        """Walk through everything written here, oldest first, from `since` on; reads page after page."""
        page = await self._desk.history(self, after=since or EPOCH, limit=PAGE)
        while page:
            for post in page:
                yield post
            page = await self._desk.history(self, after=page[-1], limit=PAGE)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Conversation) and other.key == self.key

    def __hash__(self) -> int:
        return hash(self.key)

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"<Conversation {self.kind} {self.name!a}>"
