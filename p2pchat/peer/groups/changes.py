"""What became of groups while a program was not there: told at the next start, at its place among the messages.

In the run in which it happens a change is told as it happens. Of earlier runs it is worked out again: everything
written to the group, in the order it came, makes of it what it made then.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping

from p2pchat.core.effects import GroupChanged as Told
from p2pchat.core.groups.group import Group as State
from p2pchat.core.groups.operations import LEAVE, OPERATION
from p2pchat.core.log import LogId, decode_entry
from p2pchat.messaging.groups import GroupChanged, changed
from p2pchat.messaging.timestamps import aware
from p2pchat.peer.messages.conversation import Desk
from p2pchat.protocol import ConversationId
from p2pchat.storage.base import Shown

KINDS = frozenset({OPERATION, LEAVE})
Written = Callable[[ConversationId], Awaitable[list[Shown]]]  # all that was written to a group


async def earlier_changes(
    desk: Desk, written: Written, named: Iterable[tuple[int, LogId]]
) -> dict[int, list[GroupChanged]]:
    """Return what these operations and leaves, by place and log, changed when they came; by place."""
    wanted: dict[ConversationId, set[int]] = {}
    for place, log in named:
        wanted.setdefault(log.conversation, set()).add(place)
    found: dict[int, list[GroupChanged]] = {}
    for group, places in wanted.items():
        changes = _changes(desk, group, await written(group))
        found |= {place: events for place, events in changes.items() if place in places}
    return dict(sorted(found.items()))


def _changes(desk: Desk, group: ConversationId, written: Iterable[Shown]) -> Mapping[int, list[GroupChanged]]:
    state, former = State(group), ""
    found: dict[int, list[GroupChanged]] = {}
    for shown in sorted(written, key=lambda one: one.place):
        for change, by, target in state.add(shown.log, shown.seq, shown.raw, decode_entry(shown.raw)):
            view = state.view
            assert view is not None
            told = Told(
                group, view.talk, change, by, target, tuple(view.members), view.name, view.owner, shown.log, shown.seq
            )
            at = aware(shown.received_at)
            found.setdefault(shown.place, []).append(changed(desk.people, desk.conversation, told, former, at))
        former = state.view.name if state.view is not None else former
    return found
