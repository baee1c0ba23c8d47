"""Conversations: the room, direct conversations, and groups with their members and names.

A Conversation is a small handle. Its methods call the viewer that made it: a TCPPeer, HostedUser or History, which acts
for one user. A group has one state, which its owner sets (docs/protocol-groups.md). Every change of it is an entry in a
conversation of the group's own, so it is as durable as a message and reaches members who are offline.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Unpack

from p2pchat.core.groups.group_replica import GroupView
from p2pchat.core.inputs import GroupChangeRequest, GroupLeaveRequest
from p2pchat.core.names import ROOM_SKELETON, base32, full_label, skeleton, validate_name
from p2pchat.errors import AmbiguousName, DeliveryTimeout, UnknownName
from p2pchat.messaging.events import json_fields
from p2pchat.messaging.messages import Message, MessageOptions, Post, Sent
from p2pchat.messaging.users import MAX_LISTED, NameIndex, User, listed, quoted, split_typed
from p2pchat.protocol import ConversationId, Naming, UserId

if TYPE_CHECKING:
    from p2pchat.messaging.receipts import Receipt
    from p2pchat.messaging.viewer import Viewer


@dataclass(frozen=True)
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


@dataclass(frozen=True)
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


@dataclass(frozen=True)
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
            return self.full_label if self._viewer._groups.same_name(self.key) else self.plain_name
        return self.kind if self.kind != "unknown" else base32(self.key[:10])

    @property
    def plain_name(self) -> str:
        """The name that the owner gave a group; `group` while it is unknown, and for other conversations."""
        group = self.naming.talk if self.naming else None
        view = self._viewer._groups.view(group) if group else None
        return view.name if view else "group"

    @property
    def full_label(self) -> str:
        """The name of a group followed by the beginning of its id, which makes it unique."""
        return self._viewer._groups.full_label(self.key)

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
        self, text: str, reply_to: Post | str | None = None, **options: Unpack[MessageOptions]
    ) -> Coroutine[Any, Any, Receipt]:
        """Write one message here; see TCPPeer.send, whose coroutine this returns."""
        return self._viewer._local_user.send(self, text, reply_to, **options)

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


LOOKED_AT = 500  # newest messages among which the last own one is looked for; a guess
LEAVE_WITHIN = 3.0  # seconds that members who are online have to take what a leaving user wrote; a guess

Who = User | str  # a user, a name as typed, or the full id of a user never met


class Group(Conversation):
    """A conversation with members. Its name and members are those of the present moment.

    Every method that changes the group raises P2PChatError when it cannot: the own user is not the owner, nor an admin
    who adds or removes members, or the user is already a member. UnknownName and AmbiguousName concern a name;
    StorageError and PeerClosed are raised as by TCPPeer.send.
    """

    __slots__ = ()

    @property
    def group_key(self) -> ConversationId:
        """The id (hex) of the conversation that holds the group's facts; `key` is that of its messages."""
        return "" if self.naming is None or self.naming.talk is None else self.naming.talk

    @property
    def view(self) -> GroupView | None:
        """The state of the group in the core; None while nothing is known of it here."""
        return self._viewer._groups.view(self.group_key)

    @property
    def owner(self) -> User | None:
        """The user who may change the group; None while the group is unknown here."""
        view = self.view
        return None if view is None else self._viewer.directory.user(view.owner)

    @property
    def admins(self) -> list[User]:
        """The members who add and remove others beside the owner."""
        view = self.view
        return [user for user in self.members if view is not None and user.key in view.admins]

    @property
    def members(self) -> list[User]:
        """The present members, without those who are expelled, sorted by label; [] while nothing is known of the group
        here.
        """
        return [] if self.view is None else [*self._viewer.directory.present(self.view.members)]

    @property
    def is_member(self) -> bool:
        """True if the own user is a member."""
        view = self.view
        return view is not None and self._viewer.directory.me in view.members

    async def add(self, *who: Who) -> None:
        """Add members; they receive the whole history. Name a user who was never met by the full id."""
        await self._request(GroupChangeRequest, add=await self._keys_of(who))

    async def remove(self, *who: Who) -> None:
        """Remove members. A peer that knows of the removal does not show what they write after it."""
        await self._request(GroupChangeRequest, remove=await self._keys_of(who))

    async def rename(self, name: str) -> None:
        """Change the name; raises ValueError for an invalid one."""
        await self._request(GroupChangeRequest, name=validate_name(name))

    async def hand_over(self, who: Who) -> None:
        """Make a member the owner."""
        [owner] = await self._keys_of((who,))
        await self._request(GroupChangeRequest, owner=owner)

    async def make_admin(self, *who: Who, on: bool = True) -> None:
        """Make members admins, who add and remove others; with on=False, plain members again."""
        await self._request(GroupChangeRequest, **{"admin" if on else "unadmin": await self._keys_of(who)})

    async def leave(self) -> None:
        """Leave the group. An owner hands it over first.

        What was written stays with those who have it. Nobody else is given it by one who left, so this waits up to 3 s
        until the members who are online have it; `Receipt.delivered_to` of the last message tells whether anybody has.
        """
        user = self._viewer._local_user
        if sent := [post for post in await user.history(self, limit=LOOKED_AT) if isinstance(post, Sent)]:
            last = await user.receipt(sent[-1].mended_id or sent[-1].id)
            online = [member for member in last.of if member.status in ("online", "idle")]
            waits = (last.delivered(by=member, timeout=LEAVE_WITHIN) for member in online)
            with suppress(DeliveryTimeout):
                await asyncio.gather(*waits)
        await self._request(GroupLeaveRequest)

    async def _request(self, kind: Callable[..., Any], **fields: Any) -> None:
        requests = self._viewer._local_user._require_running().requests
        await requests.ask(partial(kind, user=self._viewer.directory.me, group=self.group_key, **fields))

    async def _keys_of(self, who: tuple[Who, ...]) -> tuple[UserId, ...]:
        user = self._viewer._local_user
        return tuple([(await user._resolve(one)).key for one in who])

    def __repr__(self) -> str:
        return f"<Group {self.name!a} of {len(self.members)}>"


class GroupDirectory:
    """The groups that one peer knows, by name. Names that look alike are shown with the beginning of the group's id.

    Args:
        views: Returns the present state of all groups, by the id of their facts.
    """

    def __init__(self, views: Callable[[], Mapping[ConversationId, GroupView]]) -> None:
        self._views = views
        self._index = NameIndex()  # ids are those of the groups' messages
        self._knows: Callable[[ConversationId], bool] = lambda talk: True

    def seen_by(self, knows: Callable[[ConversationId], bool]) -> GroupDirectory:
        """Return the same directory, limited to the groups for whose messages `knows` returns true."""
        other = GroupDirectory(self._views)
        other._index, other._knows = self._index, knows
        return other

    def load(self) -> None:
        """Take the names of all groups."""
        for view in self._views().values():
            self.learn(view.talk, view.name)

    def learn(self, talk: ConversationId, name: str) -> None:
        """Set the name of a group."""
        if self._index.names.get(talk) != name:
            self._index.learn(talk, name)

    def name(self, talk: ConversationId) -> str:
        """Return the name of a group; "" while it is unknown."""
        return self._index.names.get(talk, "")

    def full_label(self, talk: ConversationId) -> str:
        """Return the name of a group, "group" while it is unknown, with the beginning of its id."""
        return self._index.full_label(talk) if talk in self._index.names else full_label("group", talk)

    def all(self) -> list[GroupView]:
        """Return the present state of every group whose name is known, which it is once its facts are stored."""
        return [view for view in self._views().values() if view.talk in self._index.names and self._knows(view.talk)]

    def view(self, group: ConversationId) -> GroupView | None:
        """Return the present state of a group, by the id of its facts."""
        return self._views().get(group)

    def same_name(self, talk: ConversationId) -> bool:
        """Return whether the name looks like that of another group, or of the room."""
        look = self._index.looks.get(talk)
        return look is not None and (look == ROOM_SKELETON or len(self._alike(look)) > 1)

    def _alike(self, look: str) -> list[ConversationId]:
        return list(filter(self._knows, self._index.alike.get(look, ())))

    def hint(self, text: str) -> str:
        """Return a hint for a name that no user has, but a group; "" if none has."""
        try:
            self.find(text)
        except UnknownName:
            return ""
        except AmbiguousName as error:
            return f"groups are: {', '.join(error.candidates)}"
        return f"the group is #{quoted(text.strip())}"

    def find(self, text: str) -> ConversationId:
        """Return the id of the messages of the group that an address names; see LocalUser.group."""
        names = self._index.names
        name, tail = split_typed(text, "#")
        alike = self._alike(skeleton(name))
        if len(alike) == 1 and not tail:  # a name that only looks like it is another one
            fitting = [talk for talk in alike if names[talk].casefold() == name.casefold()]
        else:
            fitting = [talk for talk in alike if not tail or (len(tail) >= 8 and base32(talk).startswith(tail))]
        if not fitting:
            raise UnknownName(text, self._hint())
        if len(fitting) > 1:
            raise AmbiguousName(text, sorted(f"#{self._index.full_label(talk)}" for talk in fitting))
        return fitting[0]

    def _hint(self) -> str:
        known = (name for talk, name in self._index.names.items() if self._knows(talk))
        names = [f"#{quoted(name)}" for name in sorted(set(known))]
        known_names = listed(names[:MAX_LISTED], len(names[MAX_LISTED:]))
        return f"groups here are {known_names}" if names else "there are no groups here yet"
