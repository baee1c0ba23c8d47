"""The reader: the durable cursor behind one iterator of events, with live events in between.

A cursor is one number, the place of the last message handed out and acknowledged; the database keeps it under the
consumer's name. Messages are made when they are asked for (subscription.py), so a slow or stopped program costs no
memory. Live events (joined, left, link, presence, delivered ...) wait here, the newest of each subject only, each
behind the messages that were there when it happened.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Hashable, Mapping, Sequence
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from p2pchat.core.log import Entry, LogId, Ref, decode_entry, ref_key
from p2pchat.core.records import RELATION_KINDS
from p2pchat.errors import PeerClosed
from p2pchat.messaging.access import AccessPolicy, Audience
from p2pchat.messaging.events import Delivered, Event, Read, ReceiptEvent
from p2pchat.messaging.groups import KINDS, GroupChanged, earlier_changes
from p2pchat.messaging.messages import (
    MESSAGE_CHANGES,
    NOT_SHOWN,
    AnyMessageChange,
    Message,
    Sent,
    Viewer,
    message_change,
)
from p2pchat.messaging.receipts import Kind, ReceiptUpdate
from p2pchat.messaging.timestamps import aware
from p2pchat.protocol import ConversationId, UserId
from p2pchat.runtime.recent import EntrySpan, RecentEntries
from p2pchat.storage.base import Edits, ReleasedEntry

BREATH = 0.002  # seconds of events without a pause before others get their turn; what one read brings takes half of it
LOOKS = 32  # events between two looks at the clock, and at everything else but what is handed out next
MOST_LIVE = 10_000  # subjects a reader may leave unread; then the oldest go
LOOKED_UP = 500  # receipts at once

AnyEvent = Event | Message | Sent
RECEIPT_EVENTS: dict[Kind, type[ReceiptEvent]] = {"delivered": Delivered, "read": Read}
Receipted = tuple[type[ReceiptEvent], LogId, int, UserId]  # which entry, and who has it or has read it


class Subscription:
    """The cursor behind one Events.

    Args:
        desk: What the messages handed out ask, when they are asked to do something.
        types: The classes of events wanted; () for all.
        sight: What of all that happens here is for this reader; None: everything.
    Attributes:
        consumer, start: As TCPPeer.events() takes them; no consumer for one that reads no messages.
        place: Everything up to here is acknowledged.
        closed: Nothing more is read.
    """

    def __init__(
        self, source: Source, viewer: Viewer, types: tuple[type, ...], consumer: str | None, start: str,
        access: AccessPolicy | None = None,
    ) -> None:  # fmt: skip
        self._source = source
        self.viewer = viewer
        self.access = access or AccessPolicy(lambda: None, lambda: viewer.people.me)
        self._types = types
        self._posts = tuple(kind for kind in (Message, Sent, *MESSAGE_CHANGES) if self._wants(kind))
        self._builder = EventBuilder(source, viewer, self.access, self._posts, self._wants(GroupChanged))
        self.consumer = consumer if self._posts else None
        self.start = start
        self.place = 0
        self.closed = False
        self._positioned = False  # the peer runs, and the place to begin at is known
        self._read = 0  # everything up to here is taken into _taken, or was nothing for this reader
        self._out = 0  # everything up to here was handed out, or is nothing for this reader
        self._saved = 0  # up to here it is surely on disk that this was acknowledged
        self._taken: list[Made] = []  # still to hand out, the next one last
        self._live: dict[
            Hashable, tuple[int, Event | ReceiptUpdate]
        ] = {}  # subject -> what happened, behind which place
        self._smooth = 0  # so many more messages are handed out without a look at anything: nothing has happened
        self._since = 0.0  # when this turn of the loop began to be ours
        self._half: ReceiptEvent | None = None  # being looked up
        self._known: dict[Receipted, ReceiptEvent | None] = {}  # looked up before storage is closed
        self._cut_off = False  # the peer closes: no more messages
        self._woken: asyncio.Future[None] | None = None
        self._task: asyncio.Task[Any] | None = None  # who asked last
        self._handled: asyncio.Future[None] | None = None  # the closing peer waits for an acknowledgement
        self._busy = False
        self._loop: asyncio.AbstractEventLoop | None = None  # of who reads
        self._noting: asyncio.Handle | None = None  # what was acknowledged in this turn of the loop is told in the next

    def _wants(self, kind: type) -> bool:
        return not self._types or issubclass(kind, self._types)

    # What the peer calls

    @property
    def reads_messages(self) -> bool:
        """Whether it reads messages now, and not only live events."""
        return bool(self._posts) and not self.closed

    def begin(self, place: int) -> None:
        """The peer runs; this is the last place that counts as read."""
        self._positioned = True
        self.place = self._read = self._out = self._saved = place
        self.wake()

    def wake(self) -> None:
        """Something may be there now."""
        woken = self._woken
        if woken is not None and not woken.done():
            woken.set_result(None)

    def tell(self, subject: Hashable, event: Event, audience: Audience = None) -> None:
        """Take a live event; it replaces an unread one of the same subject. `audience` is whom it concerns."""
        if self.closed or not self._wants(type(event)):
            return
        self._push(subject, event)

    def push_receipts(self, rise: ReceiptUpdate) -> None:
        """Take receipts: they replace nothing, and those that continue the last ones join them."""
        if self.closed or not self._wants(RECEIPT_EVENTS[rise.kind]):
            return
        last = next(reversed(self._live), None)
        if isinstance(last, ReceiptUpdate):
            behind, former = self._live[last]
            if isinstance(former, ReceiptUpdate) and former._replace(last=rise.last) == rise._replace(
                first=former.first
            ):
                if former.last + 1 == rise.first:
                    self._live[last] = (behind, former._replace(last=rise.last))
                    return
        self._push(rise, rise)

    def _push(self, subject: Hashable, event: Event | ReceiptUpdate) -> None:
        self._live.pop(subject, None)
        if len(self._live) >= MOST_LIVE:
            del self._live[next(iter(self._live))]
        self._live[subject] = (self._source.recent.newest if self._posts else 0, event)
        self._smooth = 0
        self.wake()

    def drain(self) -> None:
        """The peer closes: hand out no more messages, for soon they could not be acknowledged any more."""
        self._cut_off = True
        self._note()

    async def handled(self, closer: asyncio.Task[Any] | None) -> None:
        """Wait until the event handed out last is acknowledged, or whoever took it has ended.

        Returns at once when there is none, and when its handler is the task that closes the peer and so waits for us.
        """
        task = self._task
        if self._out <= self.place or self.consumer is None or task is None or task is closer or task.done():
            return
        self._handled = asyncio.get_running_loop().create_future()
        self._smooth = 0
        await asyncio.wait([self._handled, task], return_when=asyncio.FIRST_COMPLETED)

    def end(self) -> None:
        """The peer is closed: hand out the live events that are left, then stop."""
        self.closed = True
        self._smooth = 0
        self.wake()

    # What a program calls, through Events

    async def next(self) -> Any:
        """Return the next event; acknowledges the one before."""
        if self._smooth:  # one of many that need no waiting: as quick as can be
            self._smooth -= 1
            self._task = asyncio.current_task(self._loop)
            self.place = self._out
            message = self._taken.pop()
            self._out = message.place
            return message
        if self._busy:
            raise RuntimeError("two tasks wait for the same events: give each a reader of its own")
        loop = self._loop = self._loop or asyncio.get_running_loop()
        self._task = asyncio.current_task(loop)
        self._acknowledge()
        self._busy = True
        try:
            return await self._next()
        finally:
            self._busy = False

    async def _next(self) -> AnyEvent:
        if self._taken or self._live:
            await self._breathe()
        while True:
            event = self._live_due() or self._post()
            if isinstance(event, ReceiptEvent):
                event = await self._complete(event)
                if event is None:
                    continue  # there may be messages left: the next ones must not take their place
            if event is not None:
                return event
            if self.closed:
                raise StopAsyncIteration
            if self._posts and self._positioned and not self._cut_off and self._read < self._source.recent.newest:
                await self._breathe()  # they may have come one by one, or be nothing for this reader
                await self._take()
            elif not self._live or self._cut_off:
                await self._wait()

    async def _breathe(self) -> None:
        """Let others have their turn when this one is long."""
        assert self._loop is not None
        if self._loop.time() - self._since >= BREATH:
            await asyncio.sleep(0)
            self._since = self._loop.time()

    async def _complete(self, event: ReceiptEvent) -> ReceiptEvent | None:
        """Look up what a receipt of an earlier run lacks; it comes again when this is cancelled."""
        if (key := _receipted(event)) in self._known:
            return self._known.pop(key)
        self._half = event
        [done] = await self._source.complete([event])
        self._half = None
        return done

    async def complete_receipts(self) -> None:
        """The peer closes: find out what the receipts that wait here lack, for storage is closed next."""
        waiting = [event for _, event in self._live.values() if isinstance(event, ReceiptUpdate)]
        for rise in waiting:
            for first in range(rise.first, rise.last + 1, LOOKED_UP):
                last = min(first + LOOKED_UP - 1, rise.last)
                events = [self._receipt(rise, seq) for seq in range(first, last + 1)]
                for event, done in zip(events, await self._source.complete(events), strict=True):
                    self._known[_receipted(event)] = done

    def _acknowledge(self) -> None:
        if self._out > self.place:
            self.place = self._out
            if self._noting is None and self._loop and self.consumer is not None and not self.closed:
                self._noting = self._loop.call_soon(self._note)
        if self._handled is not None and not self._handled.done():
            self._handled.set_result(None)

    def _note(self) -> None:
        """Have it saved up to where a program has taken everything: once a turn of the loop, not with each event."""
        noting, self._noting = self._noting, None
        self._smooth = 0  # the next one is to be noted too
        if noting is not None and self.consumer is not None:
            noting.cancel()
            self._source.commit_offset(self.consumer, self.place)

    async def ack(self) -> None:
        """Acknowledge what was handed out last; it is on disk when this returns, whoever acknowledged it before."""
        fresh, self.place = self._out > self.place, max(self.place, self._out)
        place = self.place
        if self.consumer is not None and (fresh or (self._saved < place and not self.closed)):
            await self._source.commit_offset_now(self.consumer, place)
            self._saved = max(self._saved, place)

    def hold(self) -> None:
        """Acknowledge nothing any more; what was acknowledged before stays so."""
        self._note()
        self.consumer = None

    def close(self) -> None:
        """Read no more. What was not acknowledged comes again next time."""
        self.closed = True
        self._note()
        self._taken.clear()
        self._live.clear()
        self.wake()

    # Inside

    def _live_due(self) -> Event | None:
        """Return the oldest live event, if the messages before it are handed out."""
        if self._half is not None:
            return self._half
        if not self._live:
            return None
        subject, (behind, event) = next(iter(self._live.items()))
        if not self.closed and (self._read < behind or (self._taken and self._taken[-1].place <= behind)):
            return None
        if not isinstance(event, ReceiptUpdate):
            del self._live[subject]
            return event
        if event.first == event.last:
            del self._live[subject]
        else:
            self._live[subject] = (behind, event._replace(first=event.first + 1))
        return self._receipt(event, event.first)

    def _receipt(self, rise: ReceiptUpdate, seq: int) -> ReceiptEvent:
        user = self.viewer.people.user(rise.member)
        return RECEIPT_EVENTS[rise.kind](log=rise.log, seq=seq, user=user, count=rise.having, of=rise.of)

    def _post(self) -> Made | None:
        if not self._taken or self.closed or self._cut_off:
            return None
        event = self._taken.pop()
        self._out = event.place if self._taken else self._read
        if not self._live and self._half is None and (self._noting is not None or self.consumer is None):
            self._smooth = max(0, min(LOOKS, len(self._taken)) - 1)  # the last of all is acknowledged another way
        return event

    async def _take(self) -> None:
        """Get the next ones, from memory if they are there; only called when none are left."""
        try:
            taken = await self._builder.after(self._read)
        except PeerClosed:
            self._cut_off = True  # what is left comes at the next start; the last events of this one still come
            return
        if taken is None:
            return
        self._taken, self._read = taken.made, taken.read
        if taken.changes:
            self._live = {**taken.changes, **self._live}
        if not self._taken:
            self._out = self._read  # nothing for this reader: acknowledged with the next

    async def _wait(self) -> None:
        loop = asyncio.get_running_loop()
        self._woken = loop.create_future()
        try:
            await self._woken
        finally:
            self._woken = None
        self._since = loop.time()


def _receipted(event: ReceiptEvent) -> Receipted:
    return type(event), event.log, event.seq, event.user.key


# ---- iterator
#
# Events: the iterator that programs hold. What comes, and what counts as taken, its reader knows (subscription.py).


T = TypeVar("T")


class Events(AsyncIterator[T], Generic[T]):
    """An iterator over events. Cancelling a wait loses nothing; asking for the next acknowledges the one before."""

    def __init__(
        self, reader: Subscription, passed_over: Callable[[Any], bool] | None = None, consumer: str | None = None
    ) -> None:
        self._reader = reader  # a reader lives as long as its Events: whoever drops these reads no more
        self._passed_over = passed_over
        self._name = consumer

    @property
    def consumer(self) -> str | None:
        """The name under which the cursor is kept; None when nobody remembers the place, or no messages are read."""
        return None if self._reader.consumer is None else self._name

    def __aiter__(self) -> Events[T]:
        return self

    def __anext__(self) -> Coroutine[Any, Any, T]:
        """Return the next event; acknowledges the one before."""
        return self._reader.next() if self._passed_over is None else self._next_shown()

    async def _next_shown(self) -> Any:
        assert self._passed_over is not None
        while self._passed_over(event := await self._reader.next()):
            pass
        return event

    async def ack(self) -> None:
        """Acknowledge what was handed out last; it is on disk when this returns. Nothing to do: returns at once.

        Raises:
            StorageError: It could not be written.
            PeerClosed: The peer was closed.
        """
        await self._reader.ack()

    def hold(self) -> None:
        """Acknowledge nothing any more: what was handed out last and all behind it come again, to whoever is next."""
        self._reader.hold()

    async def aclose(self) -> None:
        """Read no more and free the consumer's name. What was not acknowledged comes again next time."""
        self._reader.close()

    def close(self) -> None:
        """As aclose, without await."""
        self._reader.close()

    async def __aenter__(self) -> Events[T]:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._reader.close()

    def __repr__(self) -> str:
        return f"<Events of {self.consumer!a} at place {self._reader.place}>"


def matches(types: tuple[type, ...], where: Callable[[Any], bool] | None, event: AnyEvent) -> bool:
    """Whether an event is one that somebody waits for."""
    return (not types or isinstance(event, types)) and (where is None or where(event))


# ---- source
#
# What readers are fed from, as they see it: dispatcher.py is it for a running peer, tests have one of their own.


class Source(Protocol):
    """What feeds a reader."""

    recent: RecentEntries

    async def places(self, after: int, limit: int) -> list[ReleasedEntry]:
        """Read released entries from storage; PeerClosed when that is over."""

    async def entries(self, named: Sequence[tuple[ConversationId, Ref]]) -> list[ReleasedEntry | None]:
        """Read released entries by what names them, with what became of them; PeerClosed when that is over."""

    @property
    def start(self) -> int:
        """The newest place of earlier runs."""

    async def written(self, group: ConversationId) -> list[ReleasedEntry]:
        """Read everything released of one conversation; PeerClosed when that is over."""

    async def complete(self, events: Sequence[ReceiptEvent]) -> list[ReceiptEvent | None]:
        """Return what to tell of receipts; None for those of no message."""

    def commit_offset(self, consumer: str, place: int) -> None:
        """A consumer has taken everything up to there; saved soon."""

    async def commit_offset_now(self, consumer: str, place: int) -> None:
        """The same; returns when it is on disk."""


# ---- making
#
# What a program reads, made of what was released: messages, and what edits, deletions and reactions tell of others.
#
# It is made when somebody asks for it, from memory at the tip and from storage behind it, a run or a page at a time.
# What mends a message is an event of its own; what became of a message is read with it.


PAGE = 500  # entries read from storage at once

Made = Message | Sent | AnyMessageChange
Step = tuple[int, LogId, int, Entry, int, bool, bool]  # place, log, seq, entry, received_at, old, gap
Special = dict[int, AnyMessageChange | Edits]  # by place: what is no message, and what became of one
Changes = Mapping[Hashable, tuple[int, GroupChanged]]  # by subject: behind which place, and what


class BuiltEvents(NamedTuple):
    """What the next entries are for a program.

    Attributes:
        made: The newest first, so that the next one is last.
        read: Everything up to this place is in here, or is nothing for this program.
        changes: What became of groups in earlier runs, among these.
    """

    made: list[Made]
    read: int
    changes: Changes


class EventBuilder:
    """Makes what one reader reads.

    Args:
        desk: What messages ask, when they are asked to do something.
        sight: What of all that happens here is for this reader.
        posts: The classes wanted of messages, and of what mends them.
        groups: Whether changes of groups are wanted.
    """

    def __init__(
        self, source: Source, viewer: Viewer, access: AccessPolicy, posts: Sequence[type], groups: bool
    ) -> None:
        self._source = source
        self._viewer = viewer
        self._access = access
        self._posts = posts
        self._groups = groups

    async def after(self, read: int) -> BuiltEvents | None:
        """Return the next behind this place; None for nothing. PeerClosed when there is nothing to read from."""
        recent = self._source.recent
        run = recent.after(read)
        if run is None:
            return await self._from_storage(read)
        if not recent.edited and self._access.is_all:
            return self._from_run(run, read)
        steps = _steps_of(run, read)
        return self._from_steps(steps, await self._changes_of(run.log, steps) if recent.edited else {}, {})

    async def _from_storage(self, read: int) -> BuiltEvents | None:
        shown = await self._source.places(read, PAGE)
        steps = [(s.place, s.log, s.seq, decode_entry(s.raw), s.received_at, s.old, s.gap) for s in shown]
        special: Special = {s.place: s.edits for s in shown if s.edits is not None}
        special |= await self._message_changes(steps)
        changes = await self._changes(steps)
        return self._from_steps(steps, special, changes) if steps else None

    def _from_run(self, run: EntrySpan, read: int) -> BuiltEvents:
        """Return what is in memory where nothing was mended and everything is for this reader: as quick as can be."""
        viewer, log, received_at, old, gap = self._viewer, run.log, run.received_at, run.old, run.gap
        made: list[Made] = []
        kind = Sent if log.user in self._access.mine else Message
        if kind in self._posts:
            first, to_seq = read + 1, run.first - run.place
            newest_first = zip(range(run.end - 1, first - 1, -1), reversed(run.entries), strict=False)
            made = [
                kind(viewer, log, place + to_seq, entry, place, received_at, old, gap)
                for place, entry in newest_first
                if entry.k not in NOT_SHOWN
            ]
        return BuiltEvents(made, run.end - 1, {})

    def _from_steps(self, steps: list[Step], special: Special, changes: Changes) -> BuiltEvents:
        """Return what of these is for this reader."""
        wanted, access, mine, viewer = self._posts, self._access, self._access.mine, self._viewer
        read = steps[-1][0]
        if not access.is_all:
            steps = [step for step in steps if access.sees(step[1], step[3])]
        made: list[Made] = []
        for place, log, seq, entry, received_at, old, gap in reversed(steps):
            became = special.get(place) if special else None
            if entry.k in NOT_SHOWN:
                if became is not None and not isinstance(became, Edits):
                    made.append(became)
                continue
            kind = Sent if log.user in mine else Message
            if kind in wanted:
                made.append(kind(viewer, log, seq, entry, place, received_at, old, gap, became))  # type: ignore[arg-type]
        return BuiltEvents(made, read, changes)

    async def _changes(self, steps: Sequence[Step]) -> Changes:
        """Return what became of groups in earlier runs: events behind the places of these entries."""
        if not self._groups:
            return {}
        named = [(step[0], step[1]) for step in steps if step[3].k in KINDS and step[0] <= self._source.start]
        found = await earlier_changes(self._viewer, self._source.written, named) if named else {}
        return {
            (event.log, event.seq, event.change, event.target): (place, event)
            for place, events in found.items()
            for event in events
            if self._access.hears(event.audience)
        }

    async def _changes_of(self, log: LogId, steps: Sequence[Step]) -> Special:
        """Return what became of these of one log, which are in memory, and what those of them that mend others tell."""
        special: Special = {}
        ref = ref_key(log.user, log.run)
        seqs = self._source.recent.edited.get((log.conversation, ref))
        touched = [step for step in steps if step[2] in seqs] if seqs else []
        if touched:
            found = await self._source.entries([(log.conversation, Ref(ref, step[2])) for step in touched])
            for step, shown in zip(touched, found, strict=True):
                if shown is not None and shown.edits is not None:
                    special[step[0]] = shown.edits
        return special | await self._message_changes(steps)

    async def _message_changes(self, steps: Sequence[Step]) -> Special:
        """Return what the edits, deletions and reactions among these tell, by place, as far as they do anything."""
        if not any(kind in self._posts for kind in MESSAGE_CHANGES):
            return {}
        mending = [(step, step[3].re) for step in steps if step[3].k in RELATION_KINDS]
        named = [(step[1].conversation, re) for step, re in mending if re is not None]
        if not named:
            return {}
        changes: Special = {}
        found = await self._source.entries(named)
        for step, shown in zip((step for step, re in mending if re is not None), found, strict=True):
            event = None if shown is None else self._change_event(step, shown)
            if event is not None and type(event) in self._posts:
                changes[step[0]] = event
        return changes

    def _change_event(self, step: Step, shown: ReleasedEntry) -> AnyMessageChange | None:
        place, log, seq, entry, received_at, old, _ = step
        viewer = self._viewer
        kind = Sent if shown.log.user in self._access.mine else Message
        message = kind(
            viewer, shown.log, shown.seq, decode_entry(shown.raw), shown.place, shown.received_at, shown.old, shown.gap,
            shown.edits,
        )  # fmt: skip
        by = viewer.people.user(log.user)
        return message_change(
            message, by, log, seq, place, entry, received_at=aware(received_at), sent_at=aware(entry.at), old=old,
            ref=viewer.ref(log, seq),
        )  # fmt: skip


def _steps_of(run: EntrySpan, read: int) -> list[Step]:
    """Return the entries of a run behind this place."""
    skip = read + 1 - run.place
    log, first, place = run.log, run.first, run.place
    return [
        (place + i, log, first + i, entry, run.received_at, run.old, run.gap)
        for i, entry in enumerate(run.entries)
        if i >= skip
    ]
