"""Groups as programs hold them: who belongs, what its owner and its members may do, and what is told of changes.

A group is one state that its owner gives (docs/protocol.md, "Groups"). What is asked for here is an entry of the
group's own conversation, so it is as durable as a message and reaches members who are away.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar

from p2pchat.core.effects import GroupUpdate as Told
from p2pchat.core.groups.group import GroupReplica, GroupView
from p2pchat.core.groups.state import LEAVE, OPERATION, talk_id
from p2pchat.core.inputs import GroupChangeRequest, GroupCreateRequest, GroupLeaveRequest
from p2pchat.core.log import Entry, LogId, decode_entry, message_id
from p2pchat.core.node import Node
from p2pchat.core.records import GroupEntry
from p2pchat.errors import AmbiguousName, UnknownName
from p2pchat.identity.names import ROOM_SKELETON, full_label, skeleton, split_label, suffix, validate_name
from p2pchat.messaging.events import Event
from p2pchat.messaging.messages import Conversation, Viewer
from p2pchat.messaging.timestamps import aware, now_micros
from p2pchat.messaging.users import User, UserDirectory, by_label, id_of
from p2pchat.protocol import ConversationId, UserId
from p2pchat.runtime.driver import Driver
from p2pchat.storage.base import ReleasedEntry

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
        return self._viewer.group_view(self.group_key)

    @property
    def owner(self) -> User | None:
        """Who may change it; None while nothing is known of it here."""
        view = self.view
        return None if view is None else self._viewer.people.user(view.owner)

    @property
    def members(self) -> list[User]:
        """Those who belong to it and have not left, by label; [] while nothing is known of it here."""
        view, people = self.view, self._viewer.people
        return [] if view is None else list(by_label(map(people.user, view.members)))

    @property
    def is_member(self) -> bool:
        """Whether the own user belongs to it."""
        view = self.view
        return view is not None and self._viewer.people.me in view.members

    async def add(self, *who: Who) -> None:
        """Take these in; they get the whole history. One who was never met is named by the full id."""
        people = self._viewer.people
        await self._viewer.change_group(self, add=tuple(whom(people, one) for one in who))

    async def remove(self, *who: Who) -> None:
        """Remove members: nothing they write after this is shown by anybody who knows of it. They are told."""
        people = self._viewer.people
        await self._viewer.change_group(self, remove=tuple(whom(people, one) for one in who))

    async def rename(self, name: str) -> None:
        """Give it another name; ValueError when it is none."""
        await self._viewer.change_group(self, name=name)

    async def hand_over(self, who: Who) -> None:
        """Make a member its owner."""
        await self._viewer.change_group(self, owner=whom(self._viewer.people, who))

    async def leave(self) -> None:
        """Leave it. What one wrote there stays; its owner hands it over first."""
        await self._viewer.leave_group(self)

    def __repr__(self) -> str:
        return f"<Group {self.name!a} of {len(self.members)}>"


def whom(people: UserDirectory, who: Who) -> str:
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
    people: UserDirectory,
    conversation: Callable[[ConversationId], Conversation],
    effect: Told,
    former: str,
    at: datetime | None = None,
) -> GroupChanged:
    """Return the event of a change that the core told; `former` is what the group was called before."""
    group = conversation(effect.talk)
    assert isinstance(group, Group)
    return GroupChanged(
        at=at or aware(now_micros()),
        group=group,
        change=effect.change,
        by=people.user(effect.by),
        target=people.user(effect.target) if effect.target else None,
        members=by_label(map(people.user, effect.members)),
        name=effect.name,
        former=former if effect.change == "renamed" else "",
        log=effect.log,
        seq=effect.seq,
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


# ---- groupbook
#
# The groups one peer knows, by name: what a typed `#ops` means, and which groups could be taken for each other.
#
# Like the names of users those of groups are labels somebody chose: two groups whose names are equal, or look alike,
# are both shown with the beginning of their id.


class GroupDirectory:
    """Names of groups.

    Args:
        views: Gives all groups as they are now, by the id of their operations.
    """

    def __init__(self, views: Callable[[], Mapping[ConversationId, GroupView]]) -> None:
        self._views = views
        self._names: dict[ConversationId, str] = {}  # by talk
        self._looks: dict[ConversationId, str] = {}  # the skeleton of each name
        self._alike: dict[str, set[ConversationId]] = {}  # talks by skeleton
        self._sees: Callable[[ConversationId], bool] | None = None  # None: all of them

    def seen_by(self, sees: Callable[[ConversationId], bool]) -> GroupDirectory:
        """Return the same book with the groups alone whose talks `sees` lets be known."""
        other = GroupDirectory(self._views)
        other._names, other._looks, other._alike, other._sees = self._names, self._looks, self._alike, sees
        return other

    def _fitting(self, looks: str) -> set[ConversationId]:
        """Return the talks whose names look so."""
        found = self._alike.get(looks, set())
        return found if self._sees is None else set(filter(self._sees, found))

    @classmethod
    def of_stored(cls, groups: Mapping[ConversationId, GroupReplica]) -> GroupDirectory:
        """Return the groups that storage knows, where no peer runs."""
        views = {id: group.view for id, group in groups.items() if group.view is not None}
        book = cls(lambda: views)
        book.load()
        return book

    def load(self) -> None:
        """Take the names of all groups known."""
        for view in self._views().values():
            self.learn(view.talk, view.name)

    def learn(self, talk: ConversationId, name: str) -> None:
        """Take the (new) name of a group."""
        former = self._names.get(talk)
        if former == name:
            return
        if former is not None:
            looks = self._looks[talk]
            self._alike[looks].discard(talk)
            if not self._alike[looks]:
                del self._alike[looks]
        self._names[talk] = name
        self._looks[talk] = skeleton(name)
        self._alike.setdefault(self._looks[talk], set()).add(talk)

    def name(self, talk: ConversationId) -> str:
        """Return what a group was called when it was learned last; "" for one that never was."""
        return self._names.get(talk, "")

    def all(self) -> list[GroupView]:
        """Return every group as it is now."""
        return [view for view in self._views().values() if self._sees is None or self._sees(view.talk)]

    def view(self, group: ConversationId) -> GroupView | None:
        """Return a group as it is now, by the id of its operations."""
        return self._views().get(group)

    def same_name(self, talk: ConversationId) -> bool:
        """Say whether another group, or the room, could be taken for this one."""
        name = self._names.get(talk)
        return name is not None and ((looks := self._looks[talk]) == ROOM_SKELETON or len(self._fitting(looks)) > 1)

    def hint(self, text: str) -> str:
        """Return what to add where nobody has this name, and a group has; "" when none has."""
        try:
            self.find(text)
        except UnknownName:
            return ""
        except AmbiguousName as error:
            return f"groups are: {', '.join(error.candidates)}"
        return f"the group is #{text.strip()}"

    def find(self, text: str) -> ConversationId:
        """Return the talk of the group an address names: `#ops`, `ops`, `#ops#K7QF2M3P`.

        Raises:
            UnknownName: No group here is called so. AmbiguousName: Several are, or look as if.
        """
        name, tail = split_label(unicodedata.normalize("NFC", text.strip()).removeprefix("#"))
        alike = self._fitting(skeleton(name))
        if len(alike) == 1 and not tail:  # what looks like it is not it
            fitting = [talk for talk in alike if self._names[talk].casefold() == name.casefold()]
        else:
            fitting = [talk for talk in alike if suffix(talk) == tail or not tail]
        if not fitting:
            raise UnknownName(text, self._hint())
        if len(fitting) > 1:
            raise AmbiguousName(text, sorted(self._labels(fitting)))
        return fitting[0]

    def _labels(self, talks: Iterable[ConversationId]) -> list[str]:
        return [f"#{full_label(self._names[talk], talk)}" for talk in talks]

    def _hint(self) -> str:
        seen = (name for talk, name in self._names.items() if self._sees is None or self._sees(talk))
        names = sorted({ascii(name)[1:-1] for name in seen})[:8]
        return f"groups here are {', '.join(f'#{name}' for name in names)}" if names else "there are no groups here yet"


def groups_of(spoken: Iterable[GroupEntry]) -> dict[ConversationId, GroupReplica]:
    """Return the groups that storage knows, by id; each log in order."""
    groups: dict[ConversationId, GroupReplica] = {}
    for log, seq, raw in spoken:
        groups.setdefault(log.conversation, GroupReplica(log.conversation)).add(log, seq, raw, decode_entry(raw))
    return groups


# ---- changes
#
# What became of groups while a program was not there: told at the next start, at its place among the messages.
#
# In the run in which it happens a change is told as it happens. Of earlier runs it is worked out again: everything
# written to the group, in the order it came, makes of it what it made then.


KINDS = frozenset({OPERATION, LEAVE})
Written = Callable[[ConversationId], Awaitable[list[ReleasedEntry]]]  # all that was written to a group


async def earlier_changes(
    viewer: Viewer, written: Written, named: Iterable[tuple[int, LogId]]
) -> dict[int, list[GroupChanged]]:
    """Return what these operations and leaves, by place and log, changed when they came; by place."""
    wanted: dict[ConversationId, set[int]] = {}
    for place, log in named:
        wanted.setdefault(log.conversation, set()).add(place)
    found: dict[int, list[GroupChanged]] = {}
    for group, places in wanted.items():
        changes = _changes(viewer, group, await written(group))
        found |= {place: events for place, events in changes.items() if place in places}
    return dict(sorted(found.items()))


def _changes(
    viewer: Viewer, group: ConversationId, written: Iterable[ReleasedEntry]
) -> Mapping[int, list[GroupChanged]]:
    state, former = GroupReplica(group), ""
    found: dict[int, list[GroupChanged]] = {}
    for shown in sorted(written, key=lambda one: one.place):
        for change, by, target in state.add(shown.log, shown.seq, shown.raw, decode_entry(shown.raw)):
            view = state.view
            assert view is not None
            effect = Told(
                group, view.talk, change, by, target, tuple(view.members), view.name, view.owner, shown.log, shown.seq
            )
            at = aware(shown.received_at)
            found.setdefault(shown.place, []).append(changed(viewer.people, viewer.conversation, effect, former, at))
        former = state.view.name if state.view is not None else former
    return found


# ---- grouping
#
# Asking the core to make, change or leave a group; each returns when that is accepted: on this disk.


async def make_group(driver: Driver, me: UserId, name: str, members: Sequence[UserId]) -> ConversationId:
    """Make a group and return the id of its talk. Raises ValueError for a name that is none, and as Programs.ask."""
    name = validate_name(name)
    others = tuple(dict.fromkeys(member for member in members if member != me))
    return talk_id(await driver.requests.request(lambda ticket: GroupCreateRequest(ticket, me, name, others)))


async def change_group(
    driver: Driver, me: UserId, group: ConversationId, add: tuple[UserId, ...], remove: tuple[UserId, ...],
    name: str | None, new_owner: UserId | None,
) -> None:  # fmt: skip
    """Change a group; what is () or None stays. Raises ValueError for a name that is none, and as Programs.ask."""
    name = None if name is None else validate_name(name)
    await driver.requests.request(lambda ticket: GroupChangeRequest(ticket, me, group, add, remove, name, new_owner))


async def leave_group(driver: Driver, me: UserId, group: ConversationId) -> None:
    await driver.requests.request(lambda ticket: GroupLeaveRequest(ticket, me, group))


# ---- membership
#
# Whom a message waits for that an earlier run sent: the other user of a direct conversation, in a group the members at
# the time, but for those who are gone and do not have it. In the room nobody knows any more who was online then.


def expected_recipients(node: Node, log: LogId, entry: Entry, holders: Collection[UserId]) -> tuple[UserId, ...]:
    """Return whom an entry of this log of one's own waits for, given who has it; () when that is not known."""
    conversation = node.sync.conversations.by_id.get(log.conversation)
    if conversation is None:
        return ()
    group = conversation.group
    if group is not None and entry.g is not None:
        counted = group.members_at(entry.g[0]) - {log.user}
        return tuple(sorted(user for user in counted if user in holders or group.is_present(user)))
    if conversation.naming.dm is None:
        return ()
    return tuple(sorted(set(conversation.naming.dm) - {log.user})) or (log.user,)
