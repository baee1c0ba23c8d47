"""Builder of events: what a released entry of a log is for a program.

It is a message, or a change of one (edited, deleted, a reaction). Entries come a run in memory or a page of storage at
a time.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

from p2pchat.core.log import Entry, LogId, Ref, decode_entry, ref_key
from p2pchat.kinds import MESSAGE_KINDS
from p2pchat.messaging.access_policy import AccessPolicy
from p2pchat.messaging.messages import (
    CHANGES,
    DurableEvent,
    Message,
    Sent,
    post_of,
)
from p2pchat.messaging.viewer import Viewer
from p2pchat.protocol import ConversationId
from p2pchat.runtime.recent_entries import EntrySpan
from p2pchat.storage.contract import ReleasedEntry

if TYPE_CHECKING:
    from p2pchat.messaging.subscription import EventFeed


PAGE = 500  # entries read from storage at once
KIND_OF: Callable[[Entry], str] = attrgetter("k")


class PlacedEntry(NamedTuple):
    """One released entry, as the classes of events take it."""

    log: LogId
    seq: int
    entry: Entry
    place: int
    received_at: int
    old: bool
    gap: bool


Found = dict[int, ReleasedEntry]  # by place: a message that was changed; the message that a change names
EditedEntries = Mapping[tuple[ConversationId, str], Container[int]]  # as RecentEntries has them
BuiltEvents = tuple[list[DurableEvent], int]  # the newest first; all up to this place are here, or are not wanted


class EventBuilder:
    """Builds the events of one subscription, a run in memory or a page of storage at a time.

    Args:
        wanted: The classes wanted of messages and of changes of messages.
    """

    def __init__(self, source: EventFeed, viewer: Viewer, access: AccessPolicy, wanted: Sequence[type]) -> None:
        self._source = source
        self._viewer = viewer
        self._access = access
        self._wanted = wanted

    async def after(self, read: int) -> BuiltEvents:
        """Return the events after a place. Raises PeerClosed when storage is closed."""
        recent = self._source.recent
        run = recent.after(read)
        if run is None:
            return await self._from_storage(read)
        if not recent.edited and self._access.is_all and MESSAGE_KINDS.issuperset(map(KIND_OF, run.entries)):
            return self._from_run(run, read)
        steps = _steps_of(run, read)
        # What became of a message costs as much as its reactions, so it is looked up once for as many entries as wait.
        while recent.edited and len(steps) < PAGE and (run := recent.after(steps[-1].place)) is not None:
            steps += _steps_of(run, steps[-1].place)
        return self._from_steps(steps, await self._look_up(steps, recent.edited))

    async def _from_storage(self, read: int) -> BuiltEvents:
        newest = self._source.recent.newest
        shown = await self._source.places(read, PAGE)
        return await self.of(shown) if shown else ([], newest)  # the newest have only stubs

    async def of(self, shown: Sequence[ReleasedEntry]) -> BuiltEvents:
        """Build the events of stored entries, one or more in the order of their places."""
        steps = [PlacedEntry(s.log, s.seq, decode_entry(s.raw), s.place, s.received_at, s.old, s.gap) for s in shown]
        pairs = zip(shown, steps, strict=True)
        found: Found = {s.place: s for s, step in pairs if s.edits is not None and step.entry.is_message}
        return self._from_steps(steps, found | await self._look_up(steps, {}))

    def _from_run(self, run: EntrySpan, read: int) -> BuiltEvents:
        """Build messages from memory where all are visible and none was changed: _from_steps() for this, but quick."""
        viewer, log, received_at, old, gap = self._viewer, run.log, run.received_at, run.old, run.gap
        made: list[DurableEvent] = []
        cls = Sent if log.user in self._access.mine else Message
        if cls in self._wanted:
            first, to_seq = read + 1, run.first - run.place
            newest_first = zip(range(run.end - 1, first - 1, -1), reversed(run.entries), strict=False)
            made = [cls(viewer, log, at + to_seq, entry, at, received_at, old, gap) for at, entry in newest_first]
        return made, run.end - 1

    def _from_steps(self, steps: Sequence[PlacedEntry], found: Found) -> BuiltEvents:
        """Build what this subscription wants and may see."""
        viewer, wanted, access = self._viewer, self._wanted, self._access
        mine, is_all, sees = access.mine, access.is_all, access.sees
        made: list[DurableEvent] = []
        for step in reversed(steps):
            log, seq, entry, place, received_at, old, gap = step
            if not is_all and not sees(log, entry):
                continue
            message = found.get(place)
            if entry.is_message:
                if (cls := Sent if log.user in mine else Message) in wanted:
                    edits = None if message is None else message.edits
                    made.append(cls(viewer, log, seq, entry, place, received_at, old, gap, edits))
            elif message is not None and (about := decode_entry(message.raw)).is_message:  # else the core reports it
                if not is_all and not sees(message.log, about):
                    continue
                change = CHANGES[entry.k](viewer, *step, message=post_of(viewer, message, message.log.user in mine))
                made += [change] if change.counts else []  # another one is newer
        return made, steps[-1].place

    async def _look_up(self, steps: Sequence[PlacedEntry], edited: EditedEntries) -> Found:
        """Return the messages that wanted changes name, and those in `edited` as they are now; each is read once."""
        named = [(step, (step.log.conversation, ref)) for step in steps if (ref := self._named(step, edited))]
        asked = list(dict.fromkeys(key for _, key in named))
        shown = dict(zip(asked, await self._source.entries(asked), strict=True)) if asked else {}
        return {step.place: one for step, key in named if (one := shown[key]) is not None}

    def _named(self, step: PlacedEntry, edited: EditedEntries) -> Ref | None:
        """Return the entry to look up for this one: the message that it changes, or itself if it was edited."""
        if (change := CHANGES.get(step.entry.k)) is not None:
            return step.entry.re if change in self._wanted else None
        own = Ref(ref_key(step.log.user, step.log.run), step.seq) if edited else None
        return own if own and own.seq in edited.get((step.log.conversation, own.log), ()) else None


def _steps_of(run: EntrySpan, read: int) -> list[PlacedEntry]:
    """Return the entries of a run after a place."""
    skip = read + 1 - run.place
    log, first, place = run.log, run.first, run.place
    return [
        PlacedEntry(log, first + i, entry, place + i, run.received_at, run.old, run.gap)
        for i, entry in enumerate(run.entries)
        if i >= skip
    ]
