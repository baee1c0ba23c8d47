"""Groups: the events about them, and what a typed group name means.

A group has one state, which its owner sets (docs/protocol.md, "Groups"). Every change is an entry in a conversation of
the group's own, so it is as durable as a message and reaches members who are offline.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar

from p2pchat.core.effects import GroupUpdate
from p2pchat.core.groups.group import GroupReplica, GroupView
from p2pchat.core.groups.state import LEAVE, OPERATION
from p2pchat.core.log import Entry, LogId, decode_entry, message_id
from p2pchat.core.node import Node
from p2pchat.core.records import GroupEntry
from p2pchat.errors import AmbiguousName, UnknownName
from p2pchat.identity.names import ROOM_SKELETON, full_label, skeleton, split_label, suffix
from p2pchat.messaging.conversations import Group, Viewer
from p2pchat.messaging.events import Event, aware, now_micros
from p2pchat.messaging.users import NameIndex, User, by_label
from p2pchat.protocol import ConversationId, UserId
from p2pchat.storage.base import ReleasedEntry

# ---- events


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupChanged(Event):
    """A group changed.

    Attributes:
        group: The group in its present state.
        change: created, added, removed, left, renamed, owner. For a new member the first one is created.
        by: The user who did it.
        target: The user added, removed or leaving, or the new owner; None for created and renamed.
        members, name: Those of the group after the change.
        former: The name before renamed; "" for other changes.
        log, seq: The entry that did it, in the conversation of the group's operations.
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
        """The ids of the users concerned: the members, the one who did it, and the target."""
        users = (*self.members, self.by, *(() if self.target is None else (self.target,)))
        return tuple(user.key for user in users)

    @property
    def entry_id(self) -> str:
        """The id of the entry that did it."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Undelivered(Event):
    """Messages of the own user that no member of a group gets, since the owner had removed the own user before.

    Attributes:
        group: The group.
        ids: The ids of the messages, in the order written.
    """

    event: ClassVar[str] = "warning"
    code: ClassVar[str] = "undelivered"
    group: Group
    ids: tuple[str, ...]

    @property
    def text(self) -> str:
        """The warning as a sentence."""
        count = "one message" if len(self.ids) == 1 else f"{len(self.ids)} messages"
        return f"{count} to #{self.group.name} reached nobody: you had been removed from the group"

    def _fields(self) -> dict[str, Any]:
        return {
            "code": self.code, "text": self.text, "about": self.ids[0], "conversation_id": self.group.id,
            "undelivered": list(self.ids),
        }  # fmt: skip


def group_changed(viewer: Viewer, effect: GroupUpdate, former: str, at: datetime | None = None) -> GroupChanged:
    """Return the event of a change that the core reported; `former` is the name of the group before it."""
    people, group = viewer.people, viewer.conversation(effect.talk)
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


# ---- changes in earlier runs
#
# In the run in which a group changes, the core reports it. For earlier runs the changes are derived again, from
# everything written to the group in the order in which it arrived, and returned at their places among the messages.


GROUP_KINDS = frozenset({OPERATION, LEAVE})
ReadGroup = Callable[[ConversationId], Awaitable[list[ReleasedEntry]]]  # reads everything written to a group


async def earlier_changes(
    viewer: Viewer, read: ReadGroup, named: Iterable[tuple[int, LogId]]
) -> dict[int, list[GroupChanged]]:
    """Return the changes that these operations and leaves, given by place and log, made when they arrived; by place."""
    wanted: dict[ConversationId, set[int]] = {}
    for place, log in named:
        wanted.setdefault(log.conversation, set()).add(place)
    found: dict[int, list[GroupChanged]] = {}
    for group, places in wanted.items():
        changes = _replay(viewer, group, await read(group))
        found |= {place: events for place, events in changes.items() if place in places}
    return dict(sorted(found.items()))


def _replay(
    viewer: Viewer, group: ConversationId, written: Iterable[ReleasedEntry]
) -> Mapping[int, list[GroupChanged]]:
    state, former = GroupReplica(group), ""
    found: dict[int, list[GroupChanged]] = {}
    for shown in sorted(written, key=lambda one: one.place):
        for change, by, target in state.add(shown.log, shown.seq, shown.raw, decode_entry(shown.raw)):
            view = state.view
            assert view is not None
            effect = GroupUpdate(
                group, view.talk, change, by, target, tuple(view.members), view.name, view.owner, shown.log, shown.seq
            )
            event = group_changed(viewer, effect, former, aware(shown.received_at))
            found.setdefault(shown.place, []).append(event)
        former = state.view.name if state.view is not None else former
    return found


# ---- names


class GroupDirectory:
    """The groups that one peer knows, by name. Names that look alike are shown with the beginning of the group's id.

    Args:
        views: Returns the present state of all groups, by the id of their operations.
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

    @classmethod
    def of_stored(cls, groups: Mapping[ConversationId, GroupReplica]) -> GroupDirectory:
        """Return a directory of the groups in storage, where no peer runs."""
        views = {id: group.view for id, group in groups.items() if group.view is not None}
        directory = cls(lambda: views)
        directory.load()
        return directory

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

    def all(self) -> list[GroupView]:
        """Return the present state of every group."""
        return [view for view in self._views().values() if self._knows(view.talk)]

    def view(self, group: ConversationId) -> GroupView | None:
        """Return the present state of a group, by the id of its operations."""
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
        return f"the group is #{text.strip()}"

    def find(self, text: str) -> ConversationId:
        """Return the id of the messages of the group that an address names: `#ops`, `ops`, `#ops#K7QF2M3P`.

        Raises:
            UnknownName: No group has this name. AmbiguousName: Several have, or have names that look like it.
        """
        names = self._index.names
        name, tail = split_label(unicodedata.normalize("NFC", text.strip()).removeprefix("#"))
        alike = self._alike(skeleton(name))
        if len(alike) == 1 and not tail:  # a name that only looks like it is another one
            fitting = [talk for talk in alike if names[talk].casefold() == name.casefold()]
        else:
            fitting = [talk for talk in alike if suffix(talk) == tail or not tail]
        if not fitting:
            raise UnknownName(text, self._hint())
        if len(fitting) > 1:
            raise AmbiguousName(text, sorted(f"#{full_label(names[talk], talk)}" for talk in fitting))
        return fitting[0]

    def _hint(self) -> str:
        known = (name for talk, name in self._index.names.items() if self._knows(talk))
        names = sorted({ascii(name)[1:-1] for name in known})[:8]
        return f"groups here are {', '.join(f'#{name}' for name in names)}" if names else "there are no groups here yet"


def load_groups(entries: Iterable[GroupEntry]) -> dict[ConversationId, GroupReplica]:
    """Return the groups in storage, by id, from their entries; those of each log in order."""
    groups: dict[ConversationId, GroupReplica] = {}
    for log, seq, raw in entries:
        groups.setdefault(log.conversation, GroupReplica(log.conversation)).add(log, seq, raw, decode_entry(raw))
    return groups


def expected_recipients(node: Node, log: LogId, entry: Entry, holders: Collection[UserId]) -> tuple[UserId, ...]:
    """Return the users whom a message of an earlier run waits for; () if they are not known any more.

    These are the other user of a direct conversation, and of a group the members at the time, without those who have
    left and do not have the message. Of the room nobody knows any more who was online then.

    Args:
        holders: The users who have the message.
    """
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
