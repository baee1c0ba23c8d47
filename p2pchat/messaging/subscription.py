"""The reader: the durable cursor behind one iterator of events, with live events in between.

A cursor is one number, the place of the last message handed out and acknowledged; the database keeps it under the
consumer's name. Messages are made when they are asked for (making.py), so a slow or stopped program costs no memory.
Live events (joined, left, link, presence, delivered ...) wait here, the newest of each subject only, each behind the
messages that were there when it happened.
"""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from typing import Any

from p2pchat.core.log import LogId
from p2pchat.errors import PeerClosed
from p2pchat.messaging.access import Audience, Sight
from p2pchat.messaging.events import Delivered, Event, Read, Risen
from p2pchat.messaging.groups import GroupChanged
from p2pchat.messaging.messages import Message, Sent
from p2pchat.peer.messages.conversation import Desk
from p2pchat.peer.messages.ledger import Kind, Rise
from p2pchat.peer.messages.mending import MENDINGS
from p2pchat.peer.reading.making import Made, Making
from p2pchat.peer.reading.source import Source
from p2pchat.protocol import UserId

BREATH = 0.002  # seconds of events without a pause before others get their turn; what one read brings takes half of it
LOOKS = 32  # events between two looks at the clock, and at everything else but what is handed out next
MOST_LIVE = 10_000  # subjects a reader may leave unread; then the oldest go
LOOKED_UP = 500  # receipts at once

AnyEvent = Event | Message | Sent
RISEN: dict[Kind, type[Risen]] = {"delivered": Delivered, "read": Read}
Receipted = tuple[type[Risen], LogId, int, UserId]  # which entry, and who has it or has read it


class Reader:
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
        self, source: Source, desk: Desk, types: tuple[type, ...], consumer: str | None, start: str,
        sight: Sight | None = None,
    ) -> None:  # fmt: skip
        self._source = source
        self.desk = desk
        self.sight = sight or Sight(lambda: None, lambda: desk.people.me)
        self._types = types
        self._posts = tuple(kind for kind in (Message, Sent, *MENDINGS) if self._wants(kind))
        self._making = Making(source, desk, self.sight, self._posts, self._wants(GroupChanged))
        self.consumer = consumer if self._posts else None
        self.start = start
        self.place = 0
        self.closed = False
        self._begun = False  # the peer runs, and the place to begin at is known
        self._read = 0  # everything up to here is taken into _taken, or was nothing for this reader
        self._out = 0  # everything up to here was handed out, or is nothing for this reader
        self._saved = 0  # up to here it is surely on disk that this was acknowledged
        self._taken: list[Made] = []  # still to hand out, the next one last
        self._live: dict[Hashable, tuple[int, Event | Rise]] = {}  # subject -> what happened, behind which place
        self._smooth = 0  # so many more messages are handed out without a look at anything: nothing has happened
        self._since = 0.0  # when this turn of the loop began to be ours
        self._half: Risen | None = None  # being looked up
        self._known: dict[Receipted, Risen | None] = {}  # looked up before storage is closed
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
        self._begun = True
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

    def tell_rise(self, rise: Rise) -> None:
        """Take receipts: they replace nothing, and those that continue the last ones join them."""
        if self.closed or not self._wants(RISEN[rise.kind]):
            return
        last = next(reversed(self._live), None)
        if isinstance(last, Rise):
            behind, former = self._live[last]
            if isinstance(former, Rise) and former._replace(last=rise.last) == rise._replace(first=former.first):
                if former.last + 1 == rise.first:
                    self._live[last] = (behind, former._replace(last=rise.last))
                    return
        self._push(rise, rise)

    def _push(self, subject: Hashable, event: Event | Rise) -> None:
        self._live.pop(subject, None)
        if len(self._live) >= MOST_LIVE:
            del self._live[next(iter(self._live))]
        self._live[subject] = (self._source.recent.newest if self._posts else 0, event)
        self._smooth = 0
        self.wake()

    def rest(self) -> None:
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
            if isinstance(event, Risen):
                event = await self._complete(event)
                if event is None:
                    continue  # there may be messages left: the next ones must not take their place
            if event is not None:
                return event
            if self.closed:
                raise StopAsyncIteration
            if self._posts and self._begun and not self._cut_off and self._read < self._source.recent.newest:
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

    async def _complete(self, event: Risen) -> Risen | None:
        """Look up what a receipt of an earlier run lacks; it comes again when this is cancelled."""
        if (key := _receipted(event)) in self._known:
            return self._known.pop(key)
        self._half = event
        [done] = await self._source.complete([event])
        self._half = None
        return done

    async def look_up(self) -> None:
        """The peer closes: find out what the receipts that wait here lack, for storage is closed next."""
        waiting = [event for _, event in self._live.values() if isinstance(event, Rise)]
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
            self._source.hand_on(self.consumer, self.place)

    async def ack(self) -> None:
        """Acknowledge what was handed out last; it is on disk when this returns, whoever acknowledged it before."""
        fresh, self.place = self._out > self.place, max(self.place, self._out)
        place = self.place
        if self.consumer is not None and (fresh or (self._saved < place and not self.closed)):
            await self._source.hand_on_now(self.consumer, place)
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
        if not isinstance(event, Rise):
            del self._live[subject]
            return event
        if event.first == event.last:
            del self._live[subject]
        else:
            self._live[subject] = (behind, event._replace(first=event.first + 1))
        return self._receipt(event, event.first)

    def _receipt(self, rise: Rise, seq: int) -> Risen:
        user = self.desk.people.user(rise.member)
        return RISEN[rise.kind](log=rise.log, seq=seq, user=user, count=rise.having, of=rise.of)

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
            taken = await self._making.after(self._read)
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


def _receipted(event: Risen) -> Receipted:
    return type(event), event.log, event.seq, event.user.key
