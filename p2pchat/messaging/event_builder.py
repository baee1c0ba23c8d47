"""Builder of events: what a released entry of a log is for a program.

It is a message, a change of one (edited, deleted, a reaction), or a change of a group. Entries come a run in memory or
a page of storage at a time.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from p2pchat.core.edits import Edits
from p2pchat.core.effects import GroupUpdate
from p2pchat.core.entry_kinds import GROUP_KINDS, HIDDEN_KINDS
from p2pchat.core.groups.group_sync import group_updates
from p2pchat.core.groups.known_operations import GroupReplica
from p2pchat.core.log import Entry, LogId, Ref, decode_entry, ref_key
from p2pchat.messaging.access import AccessPolicy
from p2pchat.messaging.durable_event import DurableEvent
from p2pchat.messaging.events import GroupChanged, aware, now_micros
from p2pchat.messaging.groups import Group
from p2pchat.messaging.history import Viewer
from p2pchat.messaging.messages import (
    CHANGES,
    Message,
    MessageChange,
    Sent,
    post_of,
)
from p2pchat.messaging.users import by_label
from p2pchat.protocol import ConversationId
from p2pchat.runtime.recent_entries import EntrySpan
from p2pchat.storage.contract import ReleasedEntry

if TYPE_CHECKING:
    from p2pchat.messaging.subscription import Feed


PAGE = 500  # entries read from storage at once


class Step(NamedTuple):
    """One released entry."""

    place: int
    log: LogId
    seq: int
    entry: Entry
    received_at: int
    old: bool
    gap: bool


Special = dict[int, MessageChange | Edits]  # by place: the event of an entry that is no message, edits of one that is
Changes = Mapping[Hashable, tuple[int, GroupChanged]]  # by subject: the place before it, and the event


class BuiltEvents(NamedTuple):
    """Events of the next entries.

    Attributes:
        made: Messages and changes of messages, the newest first, so that the next one is last.
        read: Everything up to this place is in here, or is nothing for this subscription.
        changes: Changes of groups in earlier runs, among them.
    """

    made: list[DurableEvent]
    read: int
    changes: Changes


class EventBuilder:
    """Builds the events of one subscription, a run in memory or a page of storage at a time.

    Args:
        posts: The classes wanted of messages and of changes of messages.
        groups: Changes of groups are wanted.
    """

    def __init__(self, source: Feed, viewer: Viewer, access: AccessPolicy, posts: Sequence[type], groups: bool) -> None:
        self._source = source
        self._viewer = viewer
        self._access = access
        self._posts = posts
        self._groups = groups

    async def after(self, read: int) -> BuiltEvents | None:
        """Return the events after a place; None if there are none. Raises PeerClosed when storage is closed."""
        recent = self._source.recent
        run = recent.after(read)
        if run is None:
            return await self._from_storage(read)
        if not recent.edited and self._access.is_all:
            return self._from_run(run, read)
        steps = _steps_of(run, read)
        if not recent.edited:
            return self._from_steps(steps, {}, {})
        # What became of a message costs as much as its reactions, so it is looked up once for as many entries as wait.
        while len(steps) < PAGE and (run := recent.after(steps[-1].place)) is not None:
            steps += _steps_of(run, steps[-1].place)
        return self._from_steps(steps, await self._edits_of(steps), {})

    async def _from_storage(self, read: int) -> BuiltEvents | None:
        shown = await self._source.places(read, PAGE)
        steps = [Step(s.place, s.log, s.seq, decode_entry(s.raw), s.received_at, s.old, s.gap) for s in shown]
        special: Special = {s.place: s.edits for s in shown if s.edits is not None}
        special |= await self._message_changes(steps)
        changes = await self._group_changes(steps)
        return self._from_steps(steps, special, changes) if steps else None

    def _from_run(self, run: EntrySpan, read: int) -> BuiltEvents:
        """Build messages from memory where nothing was edited and everything is visible: the quickest way."""
        viewer, log, received_at, old, gap = self._viewer, run.log, run.received_at, run.old, run.gap
        made: list[DurableEvent] = []
        kind = Sent if log.user in self._access.mine else Message
        if kind in self._posts:
            first, to_seq = read + 1, run.first - run.place
            newest_first = zip(range(run.end - 1, first - 1, -1), reversed(run.entries), strict=False)
            made = [
                kind(viewer, log, place + to_seq, entry, place, received_at, old, gap)
                for place, entry in newest_first
                if entry.k not in HIDDEN_KINDS
            ]
        return BuiltEvents(made, run.end - 1, {})

    def _from_steps(self, steps: list[Step], special: Special, changes: Changes) -> BuiltEvents:
        """Build what this subscription wants and may see."""
        wanted, access, mine, viewer = self._posts, self._access, self._access.mine, self._viewer
        read = steps[-1].place
        if not access.is_all:
            steps = [step for step in steps if access.sees(step.log, step.entry)]
        made: list[DurableEvent] = []
        for place, log, seq, entry, received_at, old, gap in reversed(steps):
            found = special.get(place) if special else None
            if entry.k in HIDDEN_KINDS:
                if found is not None and not isinstance(found, Edits):
                    made.append(found)
                continue
            kind = Sent if log.user in mine else Message
            if kind in wanted:
                made.append(kind(viewer, log, seq, entry, place, received_at, old, gap, found))  # type: ignore[arg-type]
        return BuiltEvents(made, read, changes)

    async def _group_changes(self, steps: Sequence[Step]) -> Changes:
        """Return the changes that groups underwent in earlier runs, by these entries."""
        if not self._groups:
            return {}
        start = self._source.start
        named = [(step.place, step.log) for step in steps if step.entry.k in GROUP_KINDS and step.place <= start]
        found = await earlier_changes(self._viewer, self._source.written, named) if named else {}
        return {
            (event.log, event.seq, event.change, event.target): (place, event)
            for place, events in found.items()
            for event in events
            if self._access.hears(event.audience)
        }

    async def _edits_of(self, steps: Sequence[Step]) -> Special:
        """Return the edits of entries in memory, and the events of those that are edits themselves."""
        special: Special = {}
        edited = self._source.recent.edited
        named = [(step, Ref(ref_key(step.log.user, step.log.run), step.seq)) for step in steps]
        named = [(step, ref) for step, ref in named if ref.seq in edited.get((step.log.conversation, ref.log), ())]
        for (step, _), shown in zip(named, await self._entries(named), strict=True):
            if shown is not None and shown.edits is not None:
                special[step.place] = shown.edits
        return special | await self._message_changes(steps)

    async def _entries(self, named: Sequence[tuple[Step, Ref]]) -> list[ReleasedEntry | None]:
        """Return the entries that steps name, each looked up once."""
        keys = [(step.log.conversation, ref) for step, ref in named]
        asked = list(dict.fromkeys(keys))
        found = dict(zip(asked, await self._source.entries(asked), strict=True)) if asked else {}
        return [found[key] for key in keys]

    async def _message_changes(self, steps: Sequence[Step]) -> Special:
        """Return the events of the edits, deletions and reactions among these entries, by place."""
        wanted = {kind for kind, cls in CHANGES.items() if cls in self._posts}
        named = [(step, re) for step in steps if step.entry.k in wanted and (re := step.entry.re) is not None]
        special: Special = {}
        for (step, _), shown in zip(named, await self._entries(named), strict=True):
            event = None if shown is None else self._change_event(step, shown)
            if event is not None:
                special[step.place] = event
        return special

    def _change_event(self, step: Step, shown: ReleasedEntry) -> MessageChange | None:
        """Return the change that an entry makes to a message; None if it makes none, or is superseded."""
        place, log, seq, entry, received_at, old, gap = step
        message = post_of(self._viewer, shown, mine=shown.log.user in self._access.mine)
        made = CHANGES[entry.k](self._viewer, log, seq, entry, place, received_at, old, gap, message=message)
        return made if made.counts else None


def _steps_of(run: EntrySpan, read: int) -> list[Step]:
    """Return the entries of a run after a place."""
    skip = read + 1 - run.place
    log, first, place = run.log, run.first, run.place
    return [
        Step(place + i, log, first + i, entry, run.received_at, run.old, run.gap)
        for i, entry in enumerate(run.entries)
        if i >= skip
    ]


# ---- changes of groups


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
