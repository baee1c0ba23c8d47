"""Groups as programs hold them: who belongs, what its owner and its members may do, and what is told of changes.

A group is one state that its owner gives (docs/protocol.md, "Groups"). What is asked for here is an entry of the
group's own conversation, so it is as durable as a message and reaches members who are away.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar

from p2pchat.core.effects import GroupChanged as Told
from p2pchat.core.groups.view import GroupView
from p2pchat.core.log import message_id
from p2pchat.messaging.events import Event
from p2pchat.messaging.timestamps import aware, now_micros
from p2pchat.messaging.users import People, User, by_label, id_of
from p2pchat.peer.messages.conversation import Conversation
from p2pchat.protocol import ConversationId, UserId

if TYPE_CHECKING:
    from p2pchat.core.log import LogId

Who = User | str  # a user, a name as typed, or the full id of somebody never met


class Group(Conversation):
    """A conversation of members. What it is called and who belongs are those of this moment.

    Raised by everything that changes it: P2PChatError says why not (it is not one's own group, somebody is a member
    already ...), UnknownName and AmbiguousName of a name, StorageError and PeerClosed as in send.
    """

    __slots__ = ()

    @property
    def group_key(self) -> ConversationId:
        """The id of the conversation of its operations, hex; `key` is that of the talk."""
        return "" if self.naming is None or self.naming.talk is None else self.naming.talk

    @property
    def view(self) -> GroupView | None:
        """The group as the core knows it; None while nothing is known of it here."""
        return self._desk.group_view(self.group_key)

    @property
    def owner(self) -> User | None:
        """Who may change it; None while nothing is known of it here."""
        view = self.view
        return None if view is None else self._desk.people.user(view.owner)

    @property
    def members(self) -> list[User]:
        """Those who belong to it and have not left, by label; [] while nothing is known of it here."""
        view, people = self.view, self._desk.people
        return [] if view is None else list(by_label(map(people.user, view.members)))

    @property
    def is_member(self) -> bool:
        """Whether the own user belongs to it."""
        view = self.view
        return view is not None and self._desk.people.me in view.members

    async def add(self, *who: Who) -> None:
        """Take these in; they get the whole history. One who was never met is named by the full id."""
        people = self._desk.people
        await self._desk.change_group(self, add=tuple(whom(people, one) for one in who))

    async def remove(self, *who: Who) -> None:
        """Remove members: nothing they write after this is shown by anybody who knows of it. They are told."""
        people = self._desk.people
        await self._desk.change_group(self, remove=tuple(whom(people, one) for one in who))

    async def rename(self, name: str) -> None:
        """Give it another name; ValueError when it is none."""
        await self._desk.change_group(self, name=name)

    async def hand_over(self, who: Who) -> None:
        """Make a member its owner."""
        await self._desk.change_group(self, owner=whom(self._desk.people, who))

    async def leave(self) -> None:
        """Leave it. What one wrote there stays; its owner hands it over first."""
        await self._desk.leave_group(self)

    def __repr__(self) -> str:
        return f"<Group {self.name!a} of {len(self.members)}>"


def whom(people: People, who: Who) -> str:
    """Return the inner id of who is meant: a user, a name as typed, or anybody's full id.

    Raises:
        UnknownName, AmbiguousName: Nobody is called so, or several. TypeError: It is nothing of these.
    """
    if isinstance(who, User):
        return who.key
    if not isinstance(who, str):
        raise TypeError(f"a member is a User or a name, not {type(who).__name__}")
    return id_of(who.strip().removeprefix("@")) or people.find(who).key


# ---- events


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupChanged(Event):
    """A group is another than before.

    Attributes:
        group: The group, as it is now.
        change: created, added, removed, left, renamed, owner. A group one is taken into begins with created.
        by: Who did it.
        target: The user added, removed, leaving, or owner now; None for created and renamed.
        former: What the group was called before it was renamed; "" for other changes.
        log, seq: Which entry of the group's conversation did it.
    """

    event: ClassVar[str] = "group"
    group: Group
    change: str
    by: User
    target: User | None
    members: tuple[User, ...]
    name: str = field(repr=False)
    former: str = field(default="", repr=False)
    log: LogId
    seq: int

    @property
    def audience(self) -> tuple[UserId, ...]:
        """Whom it concerns: who belongs to the group now, who did it and to whom."""
        users = (*self.members, self.by, *(() if self.target is None else (self.target,)))
        return tuple(user.key for user in users)

    @property
    def entry_id(self) -> str:
        """The id of the operation or the leave."""
        return message_id(self.log, self.seq)

    def _fields(self) -> dict[str, Any]:
        renamed = {"former": self.former} if self.former else {}
        return {
            "conversation_id": self.group.id, "group": self.name, "change": self.change,
            "by": self.by.label, "by_id": self.by.id, "members": [user.label for user in self.members],
            "member_ids": [user.id for user in self.members],
            "target": None if self.target is None else self.target.label,
            "target_id": None if self.target is None else self.target.id, "entry_id": self.entry_id, **renamed,
        }  # fmt: skip


def changed(
    people: People,
    conversation: Callable[[ConversationId], Conversation],
    told: Told,
    former: str,
    at: datetime | None = None,
) -> GroupChanged:
    """Return the event of a change that the core told; `former` is what the group was called before."""
    group = conversation(told.talk)
    assert isinstance(group, Group)
    return GroupChanged(
        at=at or aware(now_micros()),
        group=group,
        change=told.change,
        by=people.user(told.by),
        target=people.user(told.target) if told.target else None,
        members=by_label(map(people.user, told.members)),
        name=told.name,
        former=former if told.change == "renamed" else "",
        log=told.log,
        seq=told.seq,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Undelivered(Event):
    """Messages of one's own that nobody of a group gets: they were written after its owner had removed one.

    Attributes:
        group: The group.
        ids: The messages, in the order written.
    """

    event: ClassVar[str] = "warning"
    code: ClassVar[str] = "undelivered"
    group: Group
    ids: tuple[str, ...]

    @property
    def text(self) -> str:
        count = "one message" if len(self.ids) == 1 else f"{len(self.ids)} messages"
        return f"{count} to #{self.group.name} reached nobody: you had been removed from the group"

    def _fields(self) -> dict[str, Any]:
        return {
            "code": self.code, "text": self.text, "about": self.ids[0], "conversation_id": self.group.id,
            "undelivered": list(self.ids),
        }  # fmt: skip
