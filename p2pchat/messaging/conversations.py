"""The class of conversations: the room, a direct conversation or a group.

A Conversation is a small handle. Its methods call the viewer that made it: a TCPPeer, HostedUser or History, which acts
for one user.
"""

from __future__ import annotations

from collections.abc import Coroutine
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from p2pchat.core.names import base32, full_label
from p2pchat.messaging.events import json_fields
from p2pchat.messaging.messages import Message, Post, Sent
from p2pchat.messaging.users import User
from p2pchat.protocol import ConversationId, Naming

if TYPE_CHECKING:
    from p2pchat.messaging.history import Viewer
    from p2pchat.messaging.receipts import Receipt


@dataclass(frozen=True, slots=True)
class DeletedHistory:
    """The result of TCPPeer.delete_history.

    Attributes:
        messages: The number of messages deleted.
        size_bytes: The bytes of their entries, and of edits, reactions and the like.
        kept: The number of own messages that were not deleted, because no other peer has them yet.
        is_gone: False while a deleted text is still in a file here, because another program reads the database: it goes
            within seconds once that ends, or with the next start of the peer.
    """

    messages: int
    size_bytes: int
    kept: int
    is_gone: bool = True


@dataclass(frozen=True, slots=True)
class DeletedMessages:
    """Messages of one user that were deleted here.

    Attributes:
        user: The user who wrote them.
        messages: Their number, 1 or more.
        sort_key: The position in history of the last of them (see Message.sort_key).
    """

    user: User
    messages: int
    sort_key: tuple[int, str, str, int]


@dataclass(frozen=True, slots=True)
class UnansweredConversation:
    """A conversation that somebody began to whom the own user never wrote (LocalUser.unanswered).

    Attributes:
        conversation: The conversation, of a group its talk.
        user: Who began it.
        admitted_by: Who admitted that user to the network; None if that is not known.
        is_new: The own user has not opened it either (LocalUser.is_new).
        has_place: False if nothing of it is stored, since too many of that user are unanswered here: it comes once the
            own user writes to that one.
        group: The name of a group that has no place; otherwise "".
    """

    conversation: Conversation
    user: User
    admitted_by: User | None
    is_new: bool
    has_place: bool = True
    group: str = ""


class Conversation:
    """The room, a direct conversation, or a Group. Two handles with the same id are equal.

    Attributes:
        key: The id in hex, as inside and on the wire.
        naming: The name behind the id; None while that is unknown.
    """

    __slots__ = ("_id", "_viewer", "key", "naming")

    def __init__(self, viewer: Viewer, key: ConversationId, naming: Naming | None) -> None:
        self._id = ""
        self._viewer = viewer
        self.key: ConversationId = key
        self.naming: Naming | None = naming

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
            return self.full_label if self._viewer._same_name(self) else self.plain_name
        return self.kind if self.kind != "unknown" else base32(self.key[:10])

    @property
    def plain_name(self) -> str:
        """The name that the owner gave a group; `group` while it is unknown, and for other conversations."""
        group = self.naming.talk if self.naming else None
        view = self._viewer._group_view(group) if group else None
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
        people = self._viewer.directory
        one, other = self.naming.dm
        return people.user(one if other == people.me else other)

    def send(
        self, text: str, reply_to: Post | str | None = None, *, action: bool = False
    ) -> Coroutine[Any, Any, Receipt]:
        """Write one message here; see TCPPeer.send, whose coroutine this returns."""
        return self._viewer._local_user.send(self, text, reply_to, action=action)

    def typing(self, on: bool = True) -> None:
        """Show others that the own user is typing here, or has stopped; see TCPPeer.typing."""
        self._viewer._local_user.typing(self, on)

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

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Conversation) and other.key == self.key

    def __hash__(self) -> int:
        return hash(self.key)

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"<Conversation {self.kind} {self.name!a}>"


@json_fields.register(Conversation)
def _conversation_fields(conversation: Conversation, name: str) -> dict[str, str]:
    return {f"{name}_id": conversation.id}
