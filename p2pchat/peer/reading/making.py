"""What a program reads, made of what was released: messages, and what edits, deletions and reactions tell of others.

It is made when somebody asks for it, from memory at the tip and from storage behind it, a run or a page at a time.
What mends a message is an event of its own; what became of a message is read with it.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple

from p2pchat.core.log import Entry, LogId, Ref, decode_entry, ref_key
from p2pchat.core.mending import MENDING
from p2pchat.messaging.access import Sight
from p2pchat.messaging.groups import GroupChanged
from p2pchat.messaging.messages import NOT_SHOWN, Message, Sent
from p2pchat.messaging.timestamps import aware
from p2pchat.peer.groups.changes import KINDS, earlier_changes
from p2pchat.peer.messages.conversation import Desk
from p2pchat.peer.messages.mending import MENDINGS, AnyMending, mending_event
from p2pchat.peer.reading.source import Source
from p2pchat.runtime.recent import Run
from p2pchat.storage.base import Mended, Shown

PAGE = 500  # entries read from storage at once

Made = Message | Sent | AnyMending
Step = tuple[int, LogId, int, Entry, int, bool, bool]  # place, log, seq, entry, received_at, old, gap
Special = dict[int, AnyMending | Mended]  # by place: what is no message, and what became of one
Changes = Mapping[Hashable, tuple[int, GroupChanged]]  # by subject: behind which place, and what


class Taken(NamedTuple):
    """What the next entries are for a program.

    Attributes:
        made: The newest first, so that the next one is last.
        read: Everything up to this place is in here, or is nothing for this program.
        changes: What became of groups in earlier runs, among these.
    """

    made: list[Made]
    read: int
    changes: Changes


class Making:
    """Makes what one reader reads.

    Args:
        desk: What messages ask, when they are asked to do something.
        sight: What of all that happens here is for this reader.
        posts: The classes wanted of messages, and of what mends them.
        groups: Whether changes of groups are wanted.
    """

    def __init__(self, source: Source, desk: Desk, sight: Sight, posts: Sequence[type], groups: bool) -> None:
        self._source = source
        self._desk = desk
        self._sight = sight
        self._posts = posts
        self._groups = groups

    async def after(self, read: int) -> Taken | None:
        """Return the next behind this place; None for nothing. PeerClosed when there is nothing to read from."""
        recent = self._source.recent
        run = recent.after(read)
        if run is None:
            return await self._stored(read)
        if not recent.mended and self._sight.is_all:
            return self._plain(run, read)
        steps = _steps_of(run, read)
        return self._kept(steps, await self._became(run.log, steps) if recent.mended else {}, {})

    async def _stored(self, read: int) -> Taken | None:
        shown = await self._source.places(read, PAGE)
        steps = [(s.place, s.log, s.seq, decode_entry(s.raw), s.received_at, s.old, s.gap) for s in shown]
        special: Special = {s.place: s.mended for s in shown if s.mended is not None}
        special |= await self._mendings(steps)
        changes = await self._changes(steps)
        return self._kept(steps, special, changes) if steps else None

    def _plain(self, run: Run, read: int) -> Taken:
        """Return what is in memory where nothing was mended and everything is for this reader: as quick as can be."""
        desk, log, received_at, old, gap = self._desk, run.log, run.received_at, run.old, run.gap
        made: list[Made] = []
        kind = Sent if log.user in self._sight.mine else Message
        if kind in self._posts:
            first, to_seq = read + 1, run.first - run.place
            newest_first = zip(range(run.end - 1, first - 1, -1), reversed(run.entries), strict=False)
            made = [
                kind(desk, log, place + to_seq, entry, place, received_at, old, gap)
                for place, entry in newest_first
                if entry.k not in NOT_SHOWN
            ]
        return Taken(made, run.end - 1, {})

    def _kept(self, steps: list[Step], special: Special, changes: Changes) -> Taken:
        """Return what of these is for this reader."""
        wanted, sight, mine, desk = self._posts, self._sight, self._sight.mine, self._desk
        read = steps[-1][0]
        if not sight.is_all:
            steps = [step for step in steps if sight.sees(step[1], step[3])]
        made: list[Made] = []
        for place, log, seq, entry, received_at, old, gap in reversed(steps):
            became = special.get(place) if special else None
            if entry.k in NOT_SHOWN:
                if became is not None and not isinstance(became, Mended):
                    made.append(became)
                continue
            kind = Sent if log.user in mine else Message
            if kind in wanted:
                made.append(kind(desk, log, seq, entry, place, received_at, old, gap, became))  # type: ignore[arg-type]
        return Taken(made, read, changes)

    async def _changes(self, steps: Sequence[Step]) -> Changes:
        """Return what became of groups in earlier runs: events behind the places of these entries."""
        if not self._groups:
            return {}
        named = [(step[0], step[1]) for step in steps if step[3].k in KINDS and step[0] <= self._source.start]
        found = await earlier_changes(self._desk, self._source.written, named) if named else {}
        return {
            (event.log, event.seq, event.change, event.target): (place, event)
            for place, events in found.items()
            for event in events
            if self._sight.hears(event.audience)
        }

    async def _became(self, log: LogId, steps: Sequence[Step]) -> Special:
        """Return what became of these of one log, which are in memory, and what those of them that mend others tell."""
        special: Special = {}
        ref = ref_key(log.user, log.run)
        seqs = self._source.recent.mended.get((log.conversation, ref))
        touched = [step for step in steps if step[2] in seqs] if seqs else []
        if touched:
            found = await self._source.entries([(log.conversation, Ref(ref, step[2])) for step in touched])
            for step, shown in zip(touched, found, strict=True):
                if shown is not None and shown.mended is not None:
                    special[step[0]] = shown.mended
        return special | await self._mendings(steps)

    async def _mendings(self, steps: Sequence[Step]) -> Special:
        """Return what the edits, deletions and reactions among these tell, by place, as far as they do anything."""
        if not any(kind in self._posts for kind in MENDINGS):
            return {}
        mending = [(step, step[3].re) for step in steps if step[3].k in MENDING]
        named = [(step[1].conversation, re) for step, re in mending if re is not None]
        if not named:
            return {}
        told: Special = {}
        found = await self._source.entries(named)
        for step, shown in zip((step for step, re in mending if re is not None), found, strict=True):
            event = None if shown is None else self._told(step, shown)
            if event is not None and type(event) in self._posts:
                told[step[0]] = event
        return told

    def _told(self, step: Step, shown: Shown) -> AnyMending | None:
        place, log, seq, entry, received_at, old, _ = step
        desk = self._desk
        kind = Sent if shown.log.user in self._sight.mine else Message
        message = kind(
            desk, shown.log, shown.seq, decode_entry(shown.raw), shown.place, shown.received_at, shown.old, shown.gap,
            shown.mended,
        )  # fmt: skip
        by = desk.people.user(log.user)
        return mending_event(
            message, by, log, seq, place, entry, received_at=aware(received_at), sent_at=aware(entry.at), old=old,
            ref=desk.ref(log, seq),
        )  # fmt: skip


def _steps_of(run: Run, read: int) -> list[Step]:
    """Return the entries of a run behind this place."""
    skip = read + 1 - run.place
    log, first, place = run.log, run.first, run.place
    return [
        (place + i, log, first + i, entry, run.received_at, run.old, run.gap)
        for i, entry in enumerate(run.entries)
        if i >= skip
    ]
