"""The owner: the only code that touches the core. It feeds inputs, and carries effects out.

One pump, no task and no queue to wait on: whatever happens is put into the inbox, and the next turn of the loop hands
everything in it to the core and does what it orders. The owner waits for nobody: commits and reads run in threads
(storage_worker.py, storage_worker.py), links take bytes without waiting (connections.py), programs get futures
(requests.py), and what comes of all that returns as inputs.

Three things make it quick. Texts that are said while an own commit is under way go in together as one input, so one
signature and one transaction serve them all (requests.py). A frame is encoded once for all its links, and everything
for one link in one turn is one write (driver.py). And reading stops while more than a few thousand received entries are
not committed yet: that is the back-pressure of the whole peer (driver.py).
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from p2pchat.config import Settings
from p2pchat.core import effects as fx
from p2pchat.core.context import Now
from p2pchat.core.effects import Commit, Fetch, Send
from p2pchat.core.inputs import (
    CommitFailed,
    Committed,
    ConsumerAcked,
    FetchResult,
    Input,
    LinkDown,
    LinkDrained,
    LinkFilled,
    Stop,
    Woke,
    WriteRequest,
)
from p2pchat.core.log import Batch, LogId
from p2pchat.core.node import Node
from p2pchat.core.records import Change
from p2pchat.errors import P2PChatError, PeerClosed, StorageError
from p2pchat.protocol import encode
from p2pchat.runtime.connections import ConnectionManager
from p2pchat.runtime.gc_tuning import gc_paused
from p2pchat.runtime.recent import RecentEntries, spans_of
from p2pchat.runtime.requests import RequestQueue, WriteBatcher
from p2pchat.runtime.storage_worker import CoreReads, StorageWorker
from p2pchat.storage.base import ReleasedEntry

FINISH_TIMEOUT = 5.0  # seconds that texts on their way to the disk get when the peer closes
LEAVE_WITHIN = 8.0  # seconds from stop() that a disk which does not answer is waited for in all
LEFT_SO = "what was accepted is safe, what was on its way may be kept or not"
OUT_NOW_BYTES = 256 * 1024  # so much for links is written before the next input: full ones are known by then
FEW_WOKEN = 16  # so many who said something go on before links are written to: encrypting would make them wait
LEAST = 1.0  # seconds that it gets to close, however late it is


class Driver:
    """Owns one node, its storage and its connections.

    Args:
        node: Not started yet.
        tell: Takes effects that are for programs: Kept, Delivered, Released, LinkChanged, UserJoined ...
        clock: The present; tests on virtual time give their own.
    """

    def __init__(
        self,
        *,
        node: Node,
        settings: Settings,
        recent: RecentEntries,
        tell: Callable[[fx.Effect], None],
        clock: Callable[[], Now] | None = None,
    ) -> None:
        self.node = node
        self.recent = recent
        self.disk: StorageWorker  # given by start(): storage has to be loaded before there is a node, links come after
        self.connections: ConnectionManager
        self.counted: dict[str, int] = {}  # what the core counted, for tests and diagnostics
        self.writes = WriteBatcher(node.next_entry)
        self.requests = RequestQueue(self.writes, self.put, self._schedule, tell)
        self._in_flight = CommitsInFlight(
            settings.max_uncommitted_entries, lambda paused: self.connections.pause_all(paused)
        )
        self._reading = CoreReads(node, settings, self.put, tell, self._reading_broke)
        self._fetching = PageQueue(self._reading.fetch, self._has_room)
        self._outgoing = OutgoingFrames()
        self._settings = settings
        self._tell = tell
        self._loop = asyncio.get_running_loop()
        self._now = clock or (lambda: Now(self._loop.time(), time.time_ns() // 1000))
        self._inbox: deque[Input] = deque()
        self._pumping: asyncio.Handle | None = None
        self._wake: asyncio.TimerHandle | None = None
        self._fresh: dict[LogId, list[Batch]] = {}  # of the commits that are being answered
        self._handed: dict[str, int] = {}
        self._stopped = False
        self._leave_by = 0.0
        self._idle: asyncio.Future[None] | None = None
        self.broken: BaseException | None = None
        self._cutting: asyncio.Task[None] | None = None
        self._effect_handlers: dict[type, Callable[[Any], None]] = {
            fx.Send: self._outgoing.send,
            fx.Close: self._close,
            fx.Dial: lambda effect: self.connections.dial(effect.dial, effect.endpoint),
            fx.Established: lambda effect: self.connections.established(effect.link),
            fx.PauseReading: self._pause_reading,
            fx.WakeAt: self._wake_at,
            fx.Commit: self._commit,
            fx.Reload: lambda effect: self.disk.reload(list(self.node.hosted)),
            fx.Lookup: self._reading.look_up,
            fx.Fetch: self._fetching.ask,
            fx.WriteAccepted: self.requests.on_committed,
            fx.WriteRefused: self.requests.on_rejected,
            fx.ImportResult: self.requests.on_imported,
            fx.Released: self._released,
            fx.Counted: self._count,
            fx.NodeStopped: self._has_stopped,
        }

    @property
    def paused(self) -> bool:
        """Whether nothing is read from links because storage is behind."""
        return self._in_flight.paused

    # The pump

    def start(self, disk: StorageWorker, connections: ConnectionManager) -> None:
        """Begin; from now on inputs are handled."""
        self.disk = self._reading.disk = disk
        self.requests.promises = not disk.storage.durable
        self.disk.told = self._go_on
        self.connections = connections
        with gc_paused():
            self._carry_out(self.node.start(self._now()))
        self._flush_links()
        self._schedule()

    def put(self, input: Input) -> None:
        """Something happened: it is handled in the next turn of the loop.

        That a link is full comes before all that waits, some of which might write more to it.
        """
        if type(input) is LinkFilled:
            self._inbox.appendleft(input)
        else:
            self._inbox.append(input)
        self._schedule()

    def _schedule(self) -> None:
        if self._pumping is None:
            self._pumping = self._loop.call_soon(self._pump)

    def _go_on(self) -> None:
        """Storage has answered: handle that in this turn, for another one makes every commit some 20 us longer."""
        if self._pumping is not None:
            self._pumping.cancel()
            self._pump()

    def _pump(self) -> None:
        self._pumping = None
        if self.broken is not None:
            return
        try:
            if self.writes.has_promised:
                self._hand_in(self.writes.take_promised())
            if self._handed and not self._stopped:
                self._hand_on_all()  # first: no commit of this turn may put back what ack_durably() has written
            self._handle_all()
            while self.writes and not self._in_flight.own and not self._stopped:
                self._hand_in(self.writes.take())
                self._handle_all()  # memory storage has answered already
            self._end_turn()
        except BaseException as error:
            self._break(error)
            raise
        if self._idle is not None and not self._idle.done() and self.idle:
            self._idle.set_result(None)

    def _hand_in(self, groups: Iterable[WriteRequest]) -> None:
        for said in groups:
            self._carry_out(self.node.handle(said, self._now()))

    def _handle_all(self) -> None:
        inbox, handle = self._inbox, self.node.handle
        while inbox:
            input = inbox.popleft()
            kind = type(input)
            if kind is Committed:
                self._committed(input)  # type: ignore[arg-type]
            elif kind is CommitFailed:
                self._in_flight.failed(input.epoch)  # type: ignore[union-attr]
            elif kind is LinkDrained and self.connections.is_full(input.link):  # type: ignore[union-attr]
                continue  # it has filled again meanwhile, and that was told already
            self._carry_out(handle(input, self._now()))
            if self._fresh:
                self._fresh = {}
            if kind is FetchResult:
                self._fetching.answered(input.link)  # type: ignore[union-attr]
            elif kind is LinkDown:
                self._give_up(input.link)  # type: ignore[union-attr]
            if self._outgoing.size_bytes >= OUT_NOW_BYTES:
                self._flush_links()

    def _carry_out(self, effects: list[fx.Effect]) -> None:
        handlers = self._effect_handlers
        for effect in effects:
            act = handlers.get(type(effect))
            if act is not None:
                act(effect)
            else:
                self._tell(effect)

    def _break(self, error: BaseException) -> None:
        """A defect of ours: nothing goes on from a state nobody understands, and nobody waits for ever."""
        self.broken = error
        text = f"p2pchat has failed inside ({type(error).__name__}): restart it, and report it"
        self.requests.fail(lambda: P2PChatError(text))
        self._tell(fx.WarningIssued("internal", text))
        self._cutting = self._loop.create_task(self.connections.cut_all())  # the others need not wait for a silence

    # Links

    def _end_turn(self) -> None:
        """Write to links; behind those who wait for what they said, while they are few."""
        if 0 < self.requests.woken <= FEW_WOKEN:
            self._loop.call_soon(self._flush_links)
        else:
            self._flush_links()
        self.requests.woken = 0

    def _flush_links(self) -> None:
        self._outgoing.flush(self.connections.send)
        self._fetching.go_on()

    def _has_room(self, link: int) -> bool:
        """Whether a link takes a page more: what waits here for the end of the turn counts too."""
        waiting = self._outgoing.waiting_bytes(link)
        return self.connections.buffered(link) + waiting <= self._settings.buffer_limit_bytes

    def _close(self, effect: fx.Close) -> None:
        data = self._outgoing.take(effect.link)
        if data and effect.bye is not None:
            self.connections.send(effect.link, data)
        self.connections.close(effect.link, None if effect.bye is None else encode(effect.bye))

    def _pause_reading(self, effect: fx.PauseReading) -> None:
        self.connections.hold(effect.link, True)
        self._loop.call_later(effect.seconds, self.connections.hold, effect.link, False)

    def _wake_at(self, effect: fx.WakeAt) -> None:
        if self._wake is not None:
            self._wake.cancel()
        self._wake = self._loop.call_at(effect.mono, self._woke)

    def _woke(self) -> None:
        self._wake = None
        self.put(Woke())

    # Storage

    def _commit(self, effect: fx.Commit) -> None:
        self._in_flight.add(effect)
        self.disk.commit(effect)

    def _committed(self, input: Committed) -> None:
        """Before the core hears of it: what it releases must be at hand."""
        for ticket in input.tickets:
            change = self._in_flight.answered(ticket)
            for batch in change.batches:
                self._fresh.setdefault(batch.log, []).append(batch)
            if change.relations:
                self.recent.note_mended(change.relations)

    def _give_up(self, link: int) -> None:
        """A link has ended: what was to be read for it is answered, with nothing."""
        for effect in self._fetching.gone(link):
            self.put(FetchResult(link, effect.ticket, [], None))

    def _reading_broke(self, error: BaseException) -> None:
        self._break(error)
        self._loop.call_exception_handler({"message": "p2pchat: reading storage failed", "exception": error})

    def _count(self, effect: fx.Counted) -> None:
        self.counted[effect.what] = self.counted.get(effect.what, 0) + effect.n

    # What is released

    def _released(self, effect: fx.Released) -> None:
        wanted = self.recent.wanted()
        for stretch in effect.stretches:
            runs = None if not wanted else spans_of(stretch, self._fresh.get(stretch.log, ()))
            if runs is None:
                self.recent.skip(stretch.first_place + stretch.count - 1)
            else:
                for run in runs:
                    self.recent.add(run)
        self._tell(effect)

    async def places(self, after: int, limit: int) -> list[ReleasedEntry]:
        """Read released entries from storage."""
        return await self.disk.read(lambda: self.disk.storage.places(after, limit))

    def ack(self, consumer: str, place: int) -> None:
        """A consumer has taken everything up to this place: saved with the next commit, or soon."""
        self._handed[consumer] = place
        self._schedule()

    async def ack_durably(self, consumer: str, place: int) -> None:
        """The same; it is on disk when this returns."""
        self.ack(consumer, place)
        await self.disk.write(Change(consumers={consumer: place}))

    def _hand_on_all(self) -> None:
        handed, self._handed = self._handed, {}
        for consumer, place in handed.items():
            self._carry_out(self.node.handle(ConsumerAcked(consumer, place), self._now()))

    async def settle(self) -> None:
        """Return when what was put in so far is handled, and what it ordered is on disk. Raises StorageError."""
        await self.handled()
        await self.disk.write(Change())

    async def handled(self) -> None:
        """Return when the core has taken what was put in so far."""
        self._schedule()
        handled: asyncio.Future[None] = self._loop.create_future()
        self._loop.call_soon(_done, handled)  # behind the turn that handles it
        await handled

    # The end

    @property
    def idle(self) -> bool:
        """Whether nothing is on its way to the disk or into the core."""
        return not (self.writes or self._in_flight or self._inbox or self._handed)

    async def finish(self) -> None:
        """Wait until everything said is durable, FINISH_TIMEOUT at most."""
        if self.broken is not None:
            return
        if not self.idle:
            self._idle = self._loop.create_future()
            self._schedule()
            await asyncio.wait([self._idle], timeout=FINISH_TIMEOUT)

    async def stop(self) -> None:
        """Leave in good order: what was said is durable, goodbye to everyone. Then comes close()."""
        self._leave_by = self._loop.time() + LEAVE_WITHIN
        await self.finish()
        self.put(Stop())
        if self.broken is None:
            self._pump_now()
        await self.connections.close_all()
        if self.broken is None:
            self._pump_now()
        self._stopped = True
        self.requests.fail(lambda: PeerClosed("the peer was closed"))
        self._cancel_timers()

    async def close(self) -> bool:
        """After stop(): everything on disk, also what readers have taken meanwhile; nothing stays open.

        Returns:
            Whether that is so. False when the disk does not answer: people are told, and it closes when it does.
        """
        try:
            if self._handed:
                with suppress(StorageError, TimeoutError):  # then it comes again
                    async with asyncio.timeout(self._patience()):
                        await self.disk.write(Change(consumers=self._handed))
        finally:
            closed = await self.disk.close(within=self._patience())
        if not closed:
            self._tell(fx.WarningIssued("storage_slow", "the disk does not answer, and is not waited for: " + LEFT_SO))
        if self.broken is None:
            self.broken = PeerClosed("the peer was closed")  # what still comes is nobody's any more
        return closed

    def _patience(self) -> float:
        return max(LEAST, self._leave_by - self._loop.time())

    async def kill(self) -> bool:
        """End at once, as a crash would: what is not committed is lost, nobody is told. Returns as close()."""
        self._stopped = True
        if self.broken is None:
            self.broken = PeerClosed("the peer was killed")
        self.requests.fail(lambda: PeerClosed("the peer was killed"))
        self._cancel_timers()
        await self.connections.cut_all()
        return await self.disk.close(wait=False)

    def _pump_now(self) -> None:
        if self._pumping is not None:
            self._pumping.cancel()
        try:
            self._pump()
            self._flush_links()
        except Exception as error:  # a defect is reported, as in any other turn, and keeps nobody from closing
            self._loop.call_exception_handler({"message": "p2pchat: the core failed", "exception": error})

    def _has_stopped(self, effect: fx.NodeStopped) -> None:
        self._stopped = True
        self.requests.end()
        self._reading.stop()

    def _cancel_timers(self) -> None:
        self._reading.stop()
        for handle in (self._wake, self._pumping):
            if handle is not None:
                handle.cancel()


def _done(future: asyncio.Future[None]) -> None:
    if not future.done():  # who waited may have given up
        future.set_result(None)


# ---- outgoing
#
# What goes out at the end of a turn: each frame is encoded once for all its links, and a link gets one write.


class OutgoingFrames:
    """What this turn has for links.

    Attributes:
        size_bytes: Of all frames, each counted once.
    """

    def __init__(self) -> None:
        self.size_bytes = 0
        self._parts: dict[int, list[bytes]] = {}

    def send(self, effect: Send) -> None:
        """Write this frame to its links when the turn ends."""
        data = encode(effect.frame)
        self.size_bytes += len(data)
        out = self._parts
        for link in effect.links:
            parts = out.get(link)
            if parts is None:
                out[link] = [data]
            else:
                parts.append(data)

    def waiting_bytes(self, link: int) -> int:
        """Return how much waits here for a link."""
        return sum(map(len, self._parts.get(link, ())))

    def take(self, link: int) -> bytes:
        """Return what waits here for a link; the end of the turn has it no more."""
        return b"".join(self._parts.pop(link, ()))

    def flush(self, write: Callable[[int, bytes], None]) -> None:
        """Write everything."""
        out, self._parts = self._parts, {}
        self.size_bytes = 0
        for link, parts in out.items():
            write(link, parts[0] if len(parts) == 1 else b"".join(parts))


# ---- inflight
#
# Commits in flight: what storage has not answered yet, and whether reading has to stop because of it.
#
# Above a limit of received entries on their way to the disk nothing more is read from any link, until half of them are
# there: that is the back-pressure of the whole peer. What is said here does not count, for who says it waits for it.


class CommitsInFlight:
    """The book of these commits.

    Args:
        limit: So many received entries may be in flight.
        pause: Stops reading (True), or has it go on (False).
    Attributes:
        own: How many commits hold entries of our users.
        paused: Reading has stopped.
    """

    def __init__(self, limit: int, pause: Callable[[bool], None]) -> None:
        self.own = 0
        self.paused = False
        self._limit = limit
        self._pause = pause
        self._commits: dict[int, Commit] = {}  # by ticket
        self._received = 0  # entries

    def __bool__(self) -> bool:
        """Whether anything is on its way to the disk."""
        return bool(self._commits)

    def add(self, commit: Commit) -> None:
        """This goes to storage next."""
        self._commits[commit.ticket] = commit
        if commit.own:
            self.own += 1
            return
        self._received += _entries_in(commit.change)
        if not self.paused and self._received > self._limit:
            self.paused = True
            self._pause(True)

    def failed(self, epoch: int) -> None:
        """Nothing of this epoch and of those before it is going to be stored."""
        for ticket in [ticket for ticket, commit in self._commits.items() if commit.epoch <= epoch]:
            self.answered(ticket)

    def answered(self, ticket: int) -> Change:
        """This one is in flight no more; return what it was to change."""
        commit = self._commits.pop(ticket)
        if commit.own:
            self.own -= 1
            return commit.change
        self._received -= _entries_in(commit.change)
        if self.paused and self._received <= self._limit // 2:
            self.paused = False
            self._pause(False)
        return commit.change


def _entries_in(change: Change) -> int:
    return sum(len(batch.raws) for batch in change.batches)


# ---- fetching
#
# Reading for links what they lack: a page at a time for each, and none for a link that has no room for it.
#
# What was read stands in memory until the link has taken it, and a far end may want 64 logs at once and read nothing.
# So the pages of one link are read one after the other, in the order they were asked for, and the next only while what
# the link has not taken yet is below its limit.


class PageQueue:
    """Pages to be read for links.

    Args:
        read: Begins to read a page; answered() is told when the core has had it.
        has_room: Says whether a link takes another page.
    """

    def __init__(self, read: Callable[[Fetch], None], has_room: Callable[[int], bool]) -> None:
        self._read = read
        self._has_room = has_room
        self._waiting: dict[int, deque[Fetch]] = {}  # by link; none of these is empty
        self._reading: set[int] = set()

    def ask(self, effect: Fetch) -> None:
        """Read a page as soon as it is this one's turn."""
        self._waiting.setdefault(effect.link, deque()).append(effect)
        self._next(effect.link)

    def answered(self, link: int) -> None:
        """The page of this link is in the core's hands, or nobody waits for it any more."""
        self._reading.discard(link)
        self._next(link)

    def go_on(self) -> None:
        """Links may have more room than before."""
        for link in list(self._waiting):
            self._next(link)

    def gone(self, link: int) -> list[Fetch]:
        """A link has ended: return what is not going to be read for it."""
        return list(self._waiting.pop(link, ()))

    def _next(self, link: int) -> None:
        waiting = self._waiting.get(link)
        if waiting is None or link in self._reading or not self._has_room(link):
            return
        effect = waiting.popleft()
        if not waiting:
            del self._waiting[link]
        self._reading.add(link)
        self._read(effect)
