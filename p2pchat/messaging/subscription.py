"""Subscriptions: the durable cursor behind one iterator of events, with live events in between.

A cursor is one number, the place of the last event that was returned and acknowledged; the database keeps it under the
consumer's name. Messages are made when they are asked for, from memory or from storage, so a slow or stopped program
costs no memory. Live events (Joined, Left, Link, Presence, Delivered ...) wait here, only the newest of each subject,
each behind the messages that were there when it happened. Events of ignored users are left out here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Hashable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Generic, TypeVar
from weakref import ref

from p2pchat.bounded import remember
from p2pchat.core.durable_changes import LogKey, Stored
from p2pchat.core.log import LogId, Ref, decode_entry
from p2pchat.errors import ConsumerBusy, PeerClosed
from p2pchat.messaging.access_policy import AccessPolicy, Audience
from p2pchat.messaging.event_builder import EventBuilder
from p2pchat.messaging.events import Delivered, Event, Read, ReceiptEvent
from p2pchat.messaging.messages import DURABLE_EVENTS, DurableEvent
from p2pchat.messaging.receipts import (
    Kind,
    ReceiptTracker,
    ReceiptUpdate,
    expected_recipients,
    look_up_receipt,
)
from p2pchat.messaging.users import User
from p2pchat.messaging.viewer import Viewer
from p2pchat.protocol import ConversationId
from p2pchat.runtime.driver import Driver
from p2pchat.runtime.recent_entries import RecentEntries
from p2pchat.storage.contract import ReleasedEntry

BREATH = 0.002  # seconds of events without a pause before others get their turn; one read of a link takes half of it
MAX_BREATH = 0.05  # for all readers together, however long others took; a guess: nobody notices 50 ms
LOOKS = 32  # events returned between two checks of the clock and of everything else
MAX_LIVE = 10_000  # unread subjects of a subscription; beyond it the oldest are dropped

AnyEvent = Event | DurableEvent
ReceiptKey = tuple[type[ReceiptEvent], LogId, int, User]  # the message, and who has or has read it
RECEIPT_EVENTS: dict[Kind, type[ReceiptEvent]] = {"delivered": Delivered, "read": Read}
T_co = TypeVar("T_co", covariant=True)


class Subscription:
    """The cursor behind one Events.

    Args:
        viewer: The user who reads; given to messages and events.
        types: The classes of events wanted; () for all.
    Attributes:
        consumer, start: As TCPPeer.events; no consumer where no messages are read.
        place: Everything up to here is acknowledged.
        closed: Nothing more is read.
    """

    def __init__(
        self, source: EventFeed, viewer: Viewer, types: tuple[type, ...], consumer: str | None, start: str,
        access: AccessPolicy,
    ) -> None:  # fmt: skip
        self._source = source
        self.viewer = viewer
        self.access = access
        self._types = types
        self._posts = tuple(kind for kind in DURABLE_EVENTS if self._wants(kind))
        self._builder = EventBuilder(source, viewer, access, self._posts)
        self.consumer = consumer if self._posts else None
        self.start = start
        self.place: int = 0
        self.closed: bool = False
        self._positioned = False  # the peer runs, and the first place is known
        self._read = 0  # everything up to here is in _built, or is nothing for this subscription
        self._out = 0  # everything up to here was returned, or is nothing for this subscription
        self._saved = 0  # up to here the acknowledgement is on disk
        self._built: list[DurableEvent] = []  # to be returned, the next one last
        self._live: dict[Hashable, tuple[int, Event | ReceiptUpdate]] = {}  # by subject, after a place
        self._fast = 0  # how many more messages can be returned without any check: nothing has happened
        self._turn_began = 0.0  # when this turn of the loop began, by its clock
        self._breath = BREATH  # seconds in this turn
        self._half: ReceiptEvent | None = None  # being looked up
        self._completed: dict[ReceiptKey, ReceiptEvent | None] = {}  # looked up before storage is closed
        self._no_messages = False  # the peer closes: return no more messages
        self._woken: asyncio.Future[None] | None = None
        self._task: asyncio.Task[Any] | None = None  # the one that asked last
        self._handled: asyncio.Future[None] | None = None  # the closing peer waits for an acknowledgement
        self._busy = False
        self._replaced = False  # by another one for its consumer
        self._loop: asyncio.AbstractEventLoop | None = None  # of the program that reads
        self._committing: asyncio.Handle | None = None  # what is acknowledged meanwhile is committed in the next turn

    def _wants(self, kind: type) -> bool:
        return not self._types or issubclass(kind, self._types)

    # ---- called by the peer

    @property
    def is_left(self) -> bool:
        """True if its task reads no more: it has ended, or it is the one that asks.

        A program that keeps an exception keeps what the traceback names, so a reader that it left may stay.
        """
        task = self._task
        return task is not None and not self._busy and (task.done() or task is asyncio.current_task(self._loop))

    def replace(self) -> None:
        """Let another one read for its consumer."""
        self._replaced = True
        self.close()

    @property
    def reads_messages(self) -> bool:
        """True if it reads messages, and not only live events."""
        return bool(self._posts) and not self.closed

    @property
    def read_to(self) -> int:
        """The place up to which entries were read; 0 before the peer runs."""
        return self._read

    def begin(self, place: int) -> None:
        """Begin behind a place: the peer runs."""
        self._positioned = True
        self.place = self._read = self._out = self._saved = place
        self.wake()

    def wake(self) -> None:
        """Have the waiting program look for the next event."""
        woken = self._woken
        if woken is not None and not woken.done():
            woken.set_result(None)

    def push(self, subject: Hashable, event: Event, audience: Audience = None) -> None:
        """Take a live event for the users in `audience`; it replaces an unread one of the same subject."""
        if not self.closed and self._wants(type(event)) and self.access.shows(event):
            self._push(subject, event)

    def wants_receipts(self, log: LogId, kind: Kind) -> bool:
        """Return whether receipts of this kind for this log may be taken."""
        return not self.closed and self._wants(RECEIPT_EVENTS[kind]) and self.access.hears((log.user,))

    def push_receipts(self, update: ReceiptUpdate) -> None:
        """Take receipts that are wanted; they replace nothing, and join the last ones if they continue them."""
        last = next(reversed(self._live), None)
        if isinstance(last, ReceiptUpdate):
            behind, former = self._live[last]
            if isinstance(former, ReceiptUpdate) and former._replace(last=update.last) == update._replace(
                first=former.first
            ):
                if former.last + 1 == update.first:
                    self._live[last] = (behind, former._replace(last=update.last))
                    return
        self._push(update, update)

    def _push(self, subject: Hashable, event: Event | ReceiptUpdate) -> None:
        behind = self._source.recent.newest if self._posts else 0
        remember(self._live, subject, (behind, event), MAX_LIVE)
        self._fast = 0
        self.wake()

    def stop_messages(self) -> None:
        """Return no more messages: the peer closes, and soon they could not be acknowledged."""
        self._no_messages = True
        self._commit()

    async def handled(self, closer: asyncio.Task[Any] | None) -> None:
        """Wait until the last event returned is acknowledged, or the task that handles it has ended.

        Returns at once if there is none, and if its task is the one that closes the peer and so waits for us.
        """
        task = self._task
        if self._out <= self.place or self.consumer is None or task is None or task is closer or task.done():
            return
        self._handled = asyncio.get_running_loop().create_future()
        self._fast = 0
        await asyncio.wait([self._handled, task], return_when=asyncio.FIRST_COMPLETED)

    async def complete_receipts(self) -> None:
        """Look up what waiting receipts lack, before storage is closed."""
        for _, update in [*self._live.values()]:
            if isinstance(update, ReceiptUpdate):
                for seq in range(update.first, update.last + 1):
                    event = self._receipt(update, seq)
                    self._completed[_key_of(event)] = await self._source.complete(event)

    def end(self) -> None:
        """Return the live events that are left, then stop: the peer is closed."""
        self.closed = True
        self._fast = 0
        self.wake()

    # ---- called by a program, through Events

    async def next(self) -> Any:
        """Return the next event; acknowledges the one before."""
        if self._fast:  # one of many that need no check: the quickest way
            self._fast -= 1
            self._task = asyncio.current_task(self._loop)
            self.place = self._out
            message = self._built.pop()
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

    async def ack(self) -> None:
        """Acknowledge the last event returned; returns when that, or an earlier acknowledgement of it, is on disk."""
        is_new, self.place = self._out > self.place, max(self.place, self._out)
        place = self.place
        if self.consumer is not None and (is_new or (self._saved < place and not self.closed)):
            await self._source.commit_offset_now(self.consumer, place)
            self._saved = max(self._saved, place)

    def hold(self) -> None:
        """Acknowledge nothing from now on."""
        self._commit()
        self.consumer = None

    def close(self) -> None:
        """Stop reading. Events that were not acknowledged are repeated next time."""
        self.closed = True
        self._commit()
        self._built.clear()
        self._live.clear()
        self.wake()

    # ---- inside

    async def _next(self) -> AnyEvent:
        if self._built or self._live:
            await self._breathe()
        while True:
            event: AnyEvent | None = None
            if self._live or self._half is not None:
                event = self._pop_live()
            if event is None and self._built:
                event = self._pop_message()
            if isinstance(event, ReceiptEvent):
                event = await self._complete(event)
                if event is None:
                    continue  # live events may be left: the next messages must not overtake them
            if event is not None:
                return event
            if self._replaced:
                raise ConsumerBusy(self.consumer or "")
            if self.closed:
                raise StopAsyncIteration
            can_read = self._posts and self._positioned and not self._no_messages
            if can_read and self._read < self._source.recent.newest:
                await self._breathe()  # entries may come one by one, or be nothing for this subscription
                try:
                    self._built, self._read = await self._builder.after(self._read)
                except PeerClosed:
                    self._no_messages = True  # the rest comes at the next start; live events of this run still come
                    continue
                if not self._built:
                    self._out = self._read  # nothing for this subscription: acknowledged with the next event
            elif not self._live or self._no_messages:
                await self._wait()

    async def _breathe(self) -> None:
        """Let others have their turn if this one is long.

        All readers together may take half as long as the others took: so none falls behind while a flood comes in,
        whose entries take longer to store than to read.
        """
        assert self._loop is not None
        now = self._loop.time()
        if now - self._turn_began >= self._breath:
            await asyncio.sleep(0)
            self._turn_began = self._loop.time()
            others = min(self._turn_began - now, 2 * MAX_BREATH)
            self._breath = max(BREATH, others / (2 * self._source.count_readers()))

    async def _complete(self, event: ReceiptEvent) -> ReceiptEvent | None:
        """Look up what a receipt of an earlier run lacks; if this is cancelled, the receipt is returned later."""
        if (key := _key_of(event)) in self._completed:
            return self._completed.pop(key)
        self._half = event
        completed = await self._source.complete(event)
        self._half = None
        return completed

    def _acknowledge(self) -> None:
        if self._out > self.place:
            self.place = self._out
            if self.consumer is not None and not self.closed:
                self._source.commit_offset(self.consumer, self.place)
        if self._handled is not None and not self._handled.done():
            self._handled.set_result(None)

    def _commit(self) -> None:
        """Commit the place that was acknowledged without any check: once in a turn of the loop, not for each event."""
        committing, self._committing = self._committing, None
        self._fast = 0  # the next one has to be committed, too
        if committing is not None and self.consumer is not None:
            committing.cancel()
            self._source.commit_offset(self.consumer, self.place)

    def _pop_live(self) -> Event | None:
        """Return the oldest live event, if the messages before it were returned."""
        if self._half is not None:
            return self._half
        subject, (behind, event) = next(iter(self._live.items()))
        if not self.closed and (self._read < behind or (self._built and self._built[-1].place <= behind)):
            return None
        if not isinstance(event, ReceiptUpdate):
            del self._live[subject]
            return event
        if event.first == event.last:
            del self._live[subject]
        else:
            self._live[subject] = (behind, event._replace(first=event.first + 1))
        return self._receipt(event, event.first)

    def _receipt(self, update: ReceiptUpdate, seq: int) -> ReceiptEvent:
        user = self.viewer.directory.user(update.member)
        return RECEIPT_EVENTS[update.kind](
            log=update.log, seq=seq, user=user, count=update.having, of=update.of,
            at_gateway=self.viewer.is_at_gateway(user),
        )  # fmt: skip

    def _pop_message(self) -> DurableEvent | None:
        if self.closed or self._no_messages:
            return None
        event = self._built.pop()
        self._out = event.place if self._built else self._read
        if not self._live and self._half is None:
            self._fast = max(0, min(LOOKS, len(self._built)) - 1)  # the last one is acknowledged up to _read
            if self._fast and self.consumer is not None and self._committing is None and self._loop is not None:
                self._committing = self._loop.call_soon(self._commit)
        return event

    async def _wait(self) -> None:
        loop = asyncio.get_running_loop()
        self._woken = loop.create_future()
        try:
            await self._woken
        finally:
            self._woken = None
        self._turn_began = loop.time()


def _key_of(event: ReceiptEvent) -> ReceiptKey:
    return type(event), event.log, event.seq, event.user


class Events(AsyncIterator[T_co], Generic[T_co]):
    """An iterator over events. Cancelling a wait loses nothing; asking for the next event acknowledges the one before.

    A program that drops the iterator stops reading.
    """

    def __init__(self, reader: Subscription, *, skips_ignored: bool = False, consumer: str | None = None) -> None:
        self._reader = reader
        self._skips_ignored = skips_ignored
        self._name = consumer

    @property
    def consumer(self) -> str | None:
        """The name under which the cursor is stored; None if it is not stored, or no messages are read."""
        return None if self._reader.consumer is None else self._name

    @property
    def place(self) -> int:
        """The place up to which messages were returned; all later ones are still to come."""
        return self._reader._out

    def __aiter__(self) -> Events[T_co]:
        return self

    def __anext__(self) -> Coroutine[Any, Any, T_co]:
        """Return the next event; acknowledges the one before."""
        return self._next_shown() if self._skips_ignored else self._reader.next()

    async def _next_shown(self) -> Any:
        while is_of_ignored(event := await self._reader.next()):
            pass
        return event

    async def ack(self) -> None:
        """Acknowledge the last event returned; returns when that is on disk, at once if it is already.

        Raises:
            StorageError: It could not be written.
            PeerClosed: The peer was closed.
        """
        await self._reader.ack()

    def hold(self) -> None:
        """Acknowledge nothing from now on: the last event returned and all later ones are repeated next time."""
        self._reader.hold()

    async def aclose(self) -> None:
        """Stop reading and release the consumer's name. Events that were not acknowledged are repeated next time."""
        self._reader.close()

    def close(self) -> None:
        """Stop reading; the same as aclose, without await."""
        self._reader.close()

    async def __aenter__(self) -> Events[T_co]:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._reader.close()

    def __repr__(self) -> str:
        return f"<Events of {self.consumer!a} at place {self._reader.place}>"


# ---- ignored users
#
# Ignoring affects only what programs show: entries of ignored users are stored, passed on and acknowledged as all
# others. What is stored of blocked users is hidden in the same way. The ids are stored in the database, so that another
# name makes no difference.


def is_of_ignored(event: Any) -> bool:
    """Return whether an event shows what an ignored user wrote or did, or their presence.

    Receipts of one's own messages do not count. Of changes of a group only those count that
    concern the ignored user alone: as a new or leaving member.
    """
    if event.event in ("delivered", "read"):
        return False
    for name in ("target",) if event.event == "group" else ("by", "user"):
        who = getattr(event, name, None)
        if isinstance(who, User):
            return who.ignored
    return False


# ---- the source of messages, and the places of consumers
#
# Messages come from memory at the newest place, and from storage behind it. The place of a consumer is stored soon
# after it changes, at the latest when the peer closes gracefully. Receipts of earlier runs are completed here before
# they are reported.

MAIN = "main"  # the consumer of events() without a name; the command line reads with it, too


class EventFeed:
    """The source of all subscriptions of one peer.

    Attributes:
        recent: The newest messages, in memory.
        start: The newest place when the peer started.
    """

    def __init__(self, tracker: ReceiptTracker) -> None:
        self.recent: RecentEntries = RecentEntries(0)
        self.start: int = 0
        self._tracker = tracker
        self._readers: dict[ref[Subscription], None] = {}  # one that the program dropped disappears
        self._driver: Driver | None = None
        self._offsets: dict[str, int] = {}  # the last place that each consumer acknowledged

    # ---- subscriptions

    @property
    def readers(self) -> list[Subscription]:
        """The open subscriptions."""
        return [reader for each in [*self._readers] if (reader := each()) is not None] if self._readers else []

    def count_readers(self) -> int:
        """Return the number of subscriptions, at least 1."""
        return max(1, len(self._readers))

    def _is_reading(self) -> bool:
        """Return whether messages need to be kept in memory."""
        return any(reader.reads_messages for reader in self.readers)

    def _read_to(self) -> int:
        """Return the place up to which they need not."""
        return min((reader.read_to for reader in self.readers if reader.reads_messages), default=0)

    def load(self, stored: Stored) -> None:
        """Load the places of consumers."""
        self.start = stored.next_place - 1
        self.recent = RecentEntries(self.start, self._is_reading, self._read_to)
        self._offsets = dict(stored.consumers)

    def open(self, driver: Driver) -> None:
        """Begin the subscriptions opened before the peer ran.

        The first start on a profile makes the consumer MAIN: what is delivered before a program first asks for events
        is not lost to it if this run is killed.
        """
        self._driver = driver
        if not self.start and MAIN not in self._offsets:
            self.commit_offset(MAIN, 0)
        for reader in self.readers:
            self._begin(reader)

    def add(self, reader: Subscription, first: int | None = None) -> None:
        """Add a subscription, which begins once the peer runs; ConsumerBusy if another one reads for its consumer.

        It replaces one that its task has left.

        Args:
            first: The place of a new consumer of this user; None for the place where the peer started.
        """
        consumer = reader.consumer
        for one in self.readers:
            if consumer is not None and one.consumer == consumer and not one.closed:
                if not one.is_left:
                    raise ConsumerBusy(consumer)
                one.replace()
        self._readers[ref(reader, self._readers.pop)] = None
        if self._driver is not None:
            self._begin(reader, first)

    def _begin(self, reader: Subscription, first: int | None = None) -> None:
        """Set the place where a subscription begins: behind the last one that its consumer acknowledged."""
        consumer = reader.consumer
        place = None if consumer is None else self._offsets.get(consumer)
        if place is None:
            newest = self.recent.newest if consumer is None else self.start if first is None else first
            place = 0 if reader.start == "beginning" else newest
            if consumer is not None:
                self.commit_offset(consumer, place)
        reader.begin(place)

    # ---- places of consumers

    def place_of(self, consumer: str, first: int | None = None) -> int:
        """Return the last place that a consumer acknowledged; for a new one `first`, or the newest at the start."""
        return self._offsets.get(consumer, self.start if first is None else first)

    def load_offsets(self, places: Mapping[str, int]) -> None:
        """Take places that are stored already, or are about to be."""
        self._offsets.update(places)

    def commit_offset(self, consumer: str, place: int) -> None:
        """Set the place of a consumer; stored soon."""
        self._offsets[consumer] = place
        if self._driver is not None:
            self._driver.ack(consumer, place)

    async def commit_offset_now(self, consumer: str, place: int) -> None:
        """Set the place of a consumer; returns when it is on disk."""
        self._offsets[consumer] = place
        if self._driver is not None:
            await self._driver.ack_durably({consumer: place})

    # ---- reading storage; PeerClosed before the peer runs, and when its storage is closed

    def _running(self) -> Driver:
        if self._driver is None:
            raise PeerClosed("the peer has not been started")
        return self._driver

    async def places(self, after: int, limit: int) -> list[ReleasedEntry]:
        """Return stored entries in the order in which they were released."""
        disk = self._running().disk
        return await disk.read(partial(disk.storage.places, after, limit))

    async def entries(self, named: Sequence[tuple[ConversationId, Ref]]) -> list[ReleasedEntry | None]:
        """Return these entries with their edits; None for one that is not released here."""
        disk = self._running().disk
        keys = [(LogKey(conversation, ref.log), ref.seq) for conversation, ref in named]
        return await disk.read(lambda: disk.storage.named(keys))

    # ---- receipts of earlier runs

    async def complete(self, event: ReceiptEvent) -> ReceiptEvent | None:
        """Return a receipt with its counts; None for one that was reported, is of no message, or cannot be looked up.

        Messages of this run are known. For earlier ones storage knows which entries are messages and who has them;
        the users for whom a room message waited are no longer known.
        """
        log, seq, driver = event.log, event.seq, self._driver
        if driver is None or self._tracker.wrote(log):
            is_known = driver is None or self._tracker.is_message(log, seq)
            return event if is_known else None
        try:
            shown, marks, read = await driver.disk.read(partial(look_up_receipt, driver.disk.storage, log, seq))
        except PeerClosed:
            return None
        if shown is None or not decode_entry(shown.raw).is_message:
            return None
        if isinstance(event, Delivered) and self._tracker.taken_before.get(event.user.key, -1) >= shown.place:
            return None  # a read delivers all before it, whatever of that was taken in an earlier run
        holders = {*self._tracker.users_having(log, [member for member, mark in marks if mark >= seq])}
        holders.update(self._tracker.holders(log, seq))
        readers = {member for member, mark in read if mark >= seq} | set(self._tracker.holders(log, seq, "read"))
        counted = readers if isinstance(event, Read) else holders
        of = set(expected_recipients(driver.node, log, decode_entry(shown.raw), holders)) or holders | readers
        holders |= self._tracker.holders_at(shown.place, log.user, of)
        return replace(event, count=len(counted & of), of=len(of))
