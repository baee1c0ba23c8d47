"""The class of groups, and the events that tell programs of changes in them.

A group has one state, which its owner sets (docs/protocol-groups.md). Every change is an entry in a conversation of
the group's own, so it is as durable as a message and reaches members who are offline.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from p2pchat.core.effects import GroupUpdate
from p2pchat.core.groups.group_state import LEAVE, OPERATION
from p2pchat.core.groups.group_sync import group_updates
from p2pchat.core.groups.known_operations import GroupReplica, GroupView
from p2pchat.core.inputs import GroupChangeRequest, GroupLeaveRequest
from p2pchat.core.log import LogId, decode_entry, message_id
from p2pchat.core.names import validate_name
from p2pchat.errors import DeliveryTimeout
from p2pchat.messaging.conversations import PAGE, Conversation
from p2pchat.messaging.events import Event, aware, json_fields, now_micros
from p2pchat.messaging.messages import Sent
from p2pchat.messaging.users import User, by_label
from p2pchat.protocol import ConversationId, UserId
from p2pchat.storage.contract import ReleasedEntry

if TYPE_CHECKING:
    from p2pchat.messaging.history import Viewer

LEAVE_WITHIN = 3.0  # seconds that members who are online have to take what a leaving user wrote; a guess

Who = User | str  # a user, a name as typed, or the full id of a user never met


class Group(Conversation):
    """A conversation with members. Its name and members are those of the present moment.

    Every method that changes the group raises P2PChatError when it cannot: the own user is not the owner, or the user
    is already a member. UnknownName and AmbiguousName concern a name; StorageError and PeerClosed are raised as by
    TCPPeer.send.
    """

    __slots__ = ()

    @property
    def group_key(self) -> ConversationId:
        """The id (hex) of the conversation that holds the group's operations; `key` is that of its messages."""
        return "" if self.naming is None or self.naming.talk is None else self.naming.talk

    @property
    def view(self) -> GroupView | None:
        """The state of the group in the core; None while nothing is known of it here."""
        return self._viewer._group_view(self.group_key)

    @property
    def owner(self) -> User | None:
        """The user who may change the group; None while the group is unknown here."""
        view = self.view
        return None if view is None else self._viewer.people.user(view.owner)

    @property
    def members(self) -> list[User]:
        """The present members, sorted by label; [] while nothing is known of the group here."""
        view, people = self.view, self._viewer.people
        return [] if view is None else list(by_label(map(people.user, view.members)))

    @property
    def is_member(self) -> bool:
        """True if the own user is a member."""
        view = self.view
        return view is not None and self._viewer.people.me in view.members

    async def add(self, *who: Who) -> None:
        """Add members; they receive the whole history. Name a user who was never met by the full id."""
        await self._change(add=self._keys_of(who))

    async def remove(self, *who: Who) -> None:
        """Remove members. A peer that knows of the removal does not show what they write after it."""
        await self._change(remove=self._keys_of(who))

    async def rename(self, name: str) -> None:
        """Change the name; raises ValueError for an invalid one."""
        await self._change(name=name)

    async def hand_over(self, who: Who) -> None:
        """Make a member the owner."""
        await self._change(owner=self._viewer.people.resolve(who).key)

    async def leave(self) -> None:
        """Leave the group. An owner hands it over first.

        What was written stays with those who have it. Nobody else is given it by one who left, so this waits up to 3 s
        until the members who are online have it; `Receipt.delivered_to` of the last message tells whether anybody has.
        """
        user, me, key = self._viewer._local_user, self._viewer.people.me, self.group_key
        requests = user._require_running().requests
        if sent := [post for post in await user.history(self, limit=PAGE) if isinstance(post, Sent)]:
            last = await user.receipt(sent[-1].mended_id or sent[-1].id)
            online = [member for member in last.of if member.status in ("online", "idle")]
            waits = (last.delivered(by=member, timeout=LEAVE_WITHIN) for member in online)
            with suppress(DeliveryTimeout):
                await asyncio.gather(*waits)
        await requests.request(lambda ticket: GroupLeaveRequest(ticket, me, key))

    async def _change(
        self,
        *,
        add: tuple[UserId, ...] = (),
        remove: tuple[UserId, ...] = (),
        name: str | None = None,
        owner: UserId | None = None,
    ) -> None:
        user, me, key = self._viewer._local_user, self._viewer.people.me, self.group_key
        requests = user._require_running().requests
        new_name = None if name is None else validate_name(name)
        await requests.request(lambda ticket: GroupChangeRequest(ticket, me, key, add, remove, new_name, owner))

    def _keys_of(self, who: tuple[Who, ...]) -> tuple[UserId, ...]:
        return tuple(self._viewer.people.resolve(one).key for one in who)

    def __repr__(self) -> str:
        return f"<Group {self.name!a} of {len(self.members)}>"


# ---- events


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupChanged(Event):
    """A group changed.

    Attributes:
        group: The group in its present state.
        change: created, added, removed, left, renamed, owner. For a new member the first one is created.
        by: The user who did it.
        target: The user added, removed or leaving, or the new owner; None for created and renamed.
        members: Those of the group after the change.
        name: That of the group after the change.
        former: The name before renamed; "" for other changes.
        log: The log of the entry that did it, in the conversation of the group's operations.
        seq: The number of that entry in the log.
    """

    event: ClassVar[Literal["group"]] = "group"
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
            **json_fields(self.by, "by"), "members": [user.label for user in self.members],
            "member_ids": [user.id for user in self.members],
            "target": None if self.target is None else self.target.label,
            "target_id": None if self.target is None else self.target.id, "entry_id": self.entry_id, **renamed,
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Undelivered(Event):
    """Entries of the own user that no member of a group gets, since the owner had removed the own user before.

    Attributes:
        code: "undelivered".
        group: The group.
        ids: The ids of messages, edits, deletions and reactions, in the order written.
    """

    event: ClassVar[Literal["warning"]] = "warning"
    code: ClassVar[str] = "undelivered"
    group: Group
    ids: tuple[str, ...]

    @property
    def text(self) -> str:
        """The warning as a sentence."""
        several = f"{len(self.ids)} messages, edits, deletions or reactions"
        what = "one message, edit, deletion or reaction" if len(self.ids) == 1 else several
        return f"{what} to #{self.group.name} reached nobody: you had been removed from the group"

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
        log, seq = shown.log, shown.seq
        differences = state.add(log, seq, shown.raw, decode_entry(shown.raw))
        updates = group_updates(state, differences, log, seq)
        if updates:
            at = aware(shown.received_at)
            found[shown.place] = [group_changed(viewer, update, former, at) for update in updates]
        former = state.state.name if state.state is not None else former
    return found
