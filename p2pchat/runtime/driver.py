"""The driver of the core: feeds it inputs and executes its effects.

The driver is the only code that touches the core. It has one pump, and no task or queue to wait on. Whatever happens is
put into the inbox, and the next turn of the loop gives the inbox to the core and executes what the core returns. Only
what links received waits for the turn of its link (frame_queue.py). The driver waits for nobody: commits and reads run
in threads (storage_worker.py), links take bytes without waiting (connection_manager.py), programs get futures
(request_queue.py). The results of all that return as inputs.

Three things make it fast. Texts written while an own commit is under way go in as one input, so that one signature and
one transaction serve them all (request_queue.py). A frame is encoded once for all its links, and each link gets one
write a turn (OutgoingFrames). And nothing more is taken from links while some thousand received entries wait for their
commit, which is the back-pressure of the whole peer (CommitsInFlight).
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from p2pchat.core import effects as fx
from p2pchat.core.durable_changes import Change, ReadMark
from p2pchat.core.effects import Fetch, Send
from p2pchat.core.inputs import (
    CommitFailed,
    Committed,
    Faulted,
    FetchResult,
    Got,
    Input,
    Leave,
    LinkDown,
    LinkDrained,
    LinkFilled,
    Stop,
    Woke,
)
from p2pchat.core.log import Batch, LogId
from p2pchat.core.node import Node
from p2pchat.core.node_context import Now
from p2pchat.errors import FrameError, P2PChatError, PeerClosed, StorageError
from p2pchat.protocol import encode
from p2pchat.runtime.connection_manager import ConnectionManager
from p2pchat.runtime.content_remover import ContentRemover
from p2pchat.runtime.content_worker import ContentWorker
from p2pchat.runtime.frame_queue import (
    LITTLE_BYTES,
    PARTS,
    TURN_SECONDS,
    WAIT_SECONDS,
    CommitsInFlight,
    FrameQueue,
    LinkInput,
    is_page,
)
from p2pchat.runtime.garbage_collection import call_soon_and_again, gc_paused, return_memory_soon
from p2pchat.runtime.recent_entries import RecentEntries, spans_of
from p2pchat.runtime.request_queue import RequestQueue, WriteBatcher
from p2pchat.runtime.storage_worker import CoreReads, StorageWorker, resolve
from p2pchat.settings import Settings
from p2pchat.storage.content_store import CONTENT_NAME

if TYPE_CHECKING:
    from p2pchat.storage.sql_storage import SqlStorage

FINISH_TIMEOUT = 5.0  # seconds for texts on their way to the disk when the peer closes
STOP_TIMEOUT = 8.0  # seconds from stop() until a disk that does not answer is given up
MIN_CLOSE_TIMEOUT = 1.0  # seconds for the disk to close, however late it is
FLUSH_ABOVE_BYTES = 256 * 1024  # unsent bytes for links above this are written before the next input: it may fill them


class Driver:
    """Driver of one node, its storage and its connections.

    Attributes:
        node, disk, connections: What it drives.
        recent: The newest released entries.
        requests, writes: Calls of programs, and the texts among them.
        counted: What the core counted, for tests and diagnostics.
        broken: The defect that stopped the driver, or PeerClosed; None while it works.
    """

    def __init__(
        self,
        *,
        node: Node,
        storage: SqlStorage,
        connections: ConnectionManager,
        settings: Settings,
        directory: Path | None,
        recent: RecentEntries,
        tell: Mapping[type, Callable[[Any], None]],
        on_failed: Callable[[], None],
        clock: Callable[[], Now] | None = None,
    ) -> None:
        """Make a driver that handles no input before start().

        Args:
            node: Not started yet.
            storage: Open, and already loaded into the node.
            directory: Where free disk space is checked; None for temporary storage.
            tell: What takes the effects that are for programs, by their type: WriteAccepted, DeliveryReceipt ...; and
                ReadMark, that is durable.
            on_failed: Called after a defect: the peer has to be closed, and whatever still waits ends with it.
            clock: The present; tests on virtual time pass their own.
        """
        self.node = node
        self.connections = connections
        connections.strangers.knows = node.links.book.knows_host
        self.recent = recent
        self.counted: Counter[str] = Counter()
        self.broken: BaseException | None = None
        self._settings = settings
        self._tell = tell
        self._on_failed = on_failed
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        seconds, nanoseconds = self.loop.time, time.time_ns
        self._now = clock or (lambda: Now(seconds(), nanoseconds() // 1000))
        self._inbox: deque[Input] = deque()
        self._pump_handle: asyncio.Handle | None = None
        self._is_due = False  # a turn is scheduled, or under way
        self._wake_timer: asyncio.TimerHandle | None = None
        self._acked: dict[str, int] = {}  # places by consumer, not saved yet
        self._save_timer: asyncio.TimerHandle | None = None  # for these
        self._stopped = False
        self._stop_deadline = 0.0
        self._awaited: dict[asyncio.Future[None], Callable[[], bool]] = {}
        self.requests: RequestQueue = RequestQueue(self.put, self._on_written, tell, volatile=storage.is_volatile)
        self.writes: WriteBatcher = self.requests.writes
        self._in_flight = CommitsInFlight(settings.max_uncommitted_units)
        # By link: until when it is held, and the timer. A timer of uvloop that is due at once has no when().
        self._resume_timers: dict[int, tuple[float, asyncio.Handle]] = {}
        self._turns = FrameQueue(settings, connections.hold, connections.decode)
        connections.on_bytes = self._on_bytes
        connections.put_received = self._turns.put  # where they are taken from at once
        self._much_at = 0.0  # when a turn of links that sent much last ended
        self._outgoing = OutgoingFrames()
        self.disk: StorageWorker = StorageWorker(
            storage, settings, directory, self._inbox.append, self._on_storage_answered
        )
        self.disk.on_quiet = self._on_quiet
        self.disk.before_read = self.write_now
        warn = tell[fx.WarningIssued]
        self._reads = CoreReads(node, self.disk, self._inbox.append, warn, self._on_read_defect)
        content = None if directory is None or storage.in_memory else directory / CONTENT_NAME
        self.content: ContentWorker = ContentWorker(content, settings, self.put, connections.has_room, connections.send)
        connections.on_drained = self.content.on_drained
        # Storage releases memory now, and when the other links have fetched what came.
        connections.on_many_ended = partial(call_soon_and_again, self.disk.release_memory)
        self.content.is_forgotten = lambda root: node.replicator.transfers.requests.is_forgotten(root)
        self.removal: ContentRemover = ContentRemover(self.content, self.disk, self.put, self.settle)
        self._pages = PageQueue(self._reads.fetch, self._has_room)
        self._effect_handlers: dict[type, Callable[[Any], None]] = {
            **tell,
            fx.Send: self._send,
            fx.Close: self._close_link,
            fx.Dial: lambda effect: connections.dial(effect.dial, effect.endpoint),
            fx.DialThrough: lambda effect: connections.dial_through(effect.dial, effect.link, effect.circuit),
            fx.DialBeside: lambda effect: connections.dial_beside(
                effect.dial, effect.link, effect.endpoint, serve=effect.serve
            ),
            fx.CircuitReceived: lambda effect: connections.on_circuit(effect.link, effect.frame),
            fx.Resolve: lambda effect: connections.resolve(effect.dial, effect.endpoint),
            fx.Established: lambda effect: connections.on_established(effect.link),
            fx.PauseReading: self._pause_reading,
            fx.WakeAt: self._wake_at,
            fx.Commit: self._commit,
            fx.Reload: lambda effect: self.disk.reload(list(node.hosted)),
            fx.Lookup: self._reads.look_up,
            fx.Fetch: self._pages.add,
            fx.WriteAccepted: self.requests.on_accepted,
            fx.WriteRefused: self.requests.on_refused,
            fx.ImportResult: self.requests.on_answered,
            fx.PruneResult: self.requests.on_answered,
            fx.OrderContent: self.content.order,
            fx.GivePieces: self.content.give,
            fx.FindHeld: self.content.find,
            fx.ContentProgress: partial(self._on_content, self.content.on_progress),
            fx.ContentArrived: partial(self._on_content, self.content.on_arrived),
            fx.ContentStopped: partial(self._on_content, self.content.on_stopped),
            fx.ReadStored: self.requests.on_answered,
            fx.ComparisonEnded: self.requests.on_answered,
            fx.Released: self._on_released,
            fx.Counted: lambda effect: self.counted.update([effect.what]),
            fx.NodeStopped: self._on_node_stopped,
        }

    # Pump

    def start(self) -> None:
        """Start the node. From now on inputs are handled."""
        with gc_paused():
            for effect in self.node.start(self._now()):
                self._effect_handlers[type(effect)](effect)
        return_memory_soon()  # what storage was read with
        self._flush_links()
        self._schedule()
        self.removal.start()

    def put(self, input: Input) -> None:
        """Have an input handled in the next turn of the loop.

        LinkFilled goes first, because inputs before it could write more to that link. What a link received waits for
        its turn; everything else is handled before.
        """
        kind = type(input)
        if kind is Got or kind is LinkDown or kind is Faulted:
            self._turns.put(input)  # type: ignore[arg-type]
        elif kind is LinkFilled:
            self._inbox.appendleft(input)
        else:
            self._inbox.append(input)
        self._schedule()

    def write_now(self) -> None:
        """Of a peer in memory: have what waits written, and answered, before this returns."""
        while (self.writes.waiting or self._in_flight.own) and self.broken is None:
            self._pump_now()

    def _schedule(self) -> None:
        if not self._is_due:
            self._is_due = True
            self._pump_handle = self.loop.call_soon(self._pump)

    def _on_written(self) -> None:
        """Have the core take what a program wrote: at once if the commit before was of one call alone.

        Several that write wait for one commit, and write again in one turn.
        """
        if self._is_due or self._in_flight.own or self.writes.callers > 1 or self.disk.storage.is_volatile:
            self._schedule()
        else:
            self._pump_now()

    def _on_storage_answered(self) -> None:
        """Handle answers of storage in this turn: another turn makes every commit some 20 us longer."""
        if self._inbox:
            self._pump_now()

    def _pump(self) -> None:
        self._pump_handle = None
        if self.broken is not None:
            return
        self._is_due = True
        turns, waiting, in_flight = self._turns, self.writes.waiting, self._in_flight
        try:
            own = in_flight.own
            if self._inbox:
                self._handle_inbox()
            is_busy = in_flight.own < own  # writers resume
            if turns.queues:
                is_busy |= self._handle_little()
            while waiting and self._may_write():
                is_busy = True
                for request in self.writes.take():
                    self._handle(request)
            if turns.queues or turns.unread:
                if turns.queues and not in_flight.is_behind:
                    self._handle_much(is_busy=is_busy)
                turns.end()
            if self._outgoing.size_bytes or self._pages.waiting:
                self._flush_links()
            self._is_due = False
            if self._inbox or (waiting and self._may_write()) or (turns.queues and not in_flight.is_behind):
                self._schedule()
        except BaseException as error:  # KeyboardInterrupt too: a core that was left half way is not used again
            self._fail(error)
            raise
        if self._awaited:
            self._resolve_awaited()

    def _may_write(self) -> bool:
        return not self._in_flight.own and not self._stopped

    def _handle_inbox(self) -> None:
        inbox = self._inbox
        while inbox:
            input = inbox.popleft()
            kind = type(input)
            if kind is Committed:
                self._on_committed(input)  # type: ignore[arg-type]
            elif kind is CommitFailed:
                self._on_commits_failed(input.epoch)  # type: ignore[attr-defined]
            elif kind is LinkDrained and self.connections.is_full(input.link):  # type: ignore[attr-defined]
                continue  # it is full again, and LinkFilled was handled already
            self._handle(input)
            if kind is FetchResult:
                self._pages.on_answered(input.link)  # type: ignore[attr-defined]

    def _on_bytes(self, link: int, waiting: int) -> None:
        """Decode and handle what came on a link when it is its turn: to decode it takes time, too.

        That is at once for the little that a message is, unless a commit is under way, with which more gathers.
        """
        self._turns.add(link, waiting)
        if self._is_due or self._in_flight or waiting > LITTLE_BYTES:
            self._schedule()
        else:
            self._pump_now()

    def _handle_little(self) -> bool:
        """Handle what links sent of which little waits. Return whether there were any."""
        until = self.loop.time() + TURN_SECONDS
        links = [] if self._in_flight.is_blocked else self._turns.little()
        for link in links:
            part = self._turns.take(link)
            if part is not None:
                self._handle_part(part)
            if self.loop.time() >= until:
                break
        return bool(links)

    def _handle_much(self, *, is_busy: bool) -> None:
        """Handle what links sent, part by part, until the time of the turn is over.

        Not in a turn in which programs or links that sent little had something, unless it is long ago: the next turn
        is theirs. Everything for them goes out before.
        """
        now = self.loop.time()
        if is_busy and now < self._much_at + WAIT_SECONDS:
            return
        self._flush_links()
        until = now + TURN_SECONDS
        while self._turns.queues:
            part = self._turns.take(next(iter(self._turns.queues)), PARTS)
            if part is None:
                continue
            self._handle_part(part)
            if is_page(part) or self.loop.time() >= until:
                break
        self._much_at = self.loop.time()

    def _handle_part(self, part: LinkInput) -> None:
        self._handle(part)
        if type(part) is LinkDown:
            self._cancel_fetches(part.link)
        if self._inbox:
            self._handle_inbox()

    def _handle(self, input: Input) -> None:
        handlers = self._effect_handlers
        for effect in self.node.handle(input, self._now()):
            handlers[type(effect)](effect)
        if self._outgoing.size_bytes >= FLUSH_ABOVE_BYTES:
            self._flush_links()

    def _fail(self, error: BaseException) -> None:
        """Stop after a defect: the state can no longer be trusted, and no caller may wait for ever."""
        self.broken = error
        text = f"p2pchat has failed inside ({type(error).__name__}): restart it, and report it"
        self._fail_calls(lambda: P2PChatError(text))
        self._tell[fx.WarningIssued](fx.WarningIssued("internal", text))
        self._on_failed()

    def _on_content(self, handle: Callable[[Any], None], effect: fx.Effect) -> None:
        handle(effect)
        self._tell[type(effect)](effect)

    # Links

    def _send(self, effect: Send) -> None:
        """Add a frame for its links. One that cannot be sent, as of odd rows in storage, costs only itself."""
        try:
            self._outgoing.send(effect)
        except (FrameError, UnicodeError) as error:
            self.counted["unsendable"] += 1
            if self.counted["unsendable"] == 1:
                text = f"something cannot be sent, and is left out: report it ({error})"
                self._tell[fx.WarningIssued](fx.WarningIssued("internal", text))

    def _flush_links(self) -> None:
        if self._outgoing.size_bytes:
            self._outgoing.flush(self.connections.send)
        if self._pages.waiting:
            self._pages.resume()

    def _has_room(self, link: int) -> bool:
        """Return whether a link takes another page; bytes that wait for the end of the turn count too."""
        unsent = self._outgoing.waiting_bytes(link)
        return self.connections.buffered(link) + unsent <= self._settings.buffer_limit_bytes

    def _close_link(self, effect: fx.Close) -> None:
        data = self._outgoing.take(effect.link)
        if data and effect.bye is not None:
            self.connections.send(effect.link, data)
        self.connections.close(effect.link, None if effect.bye is None else encode(effect.bye))

    def _pause_reading(self, effect: fx.PauseReading) -> None:
        """Stop handling and reading a link for a while. Of two pauses, the longer one counts."""
        resume_at = self.loop.time() + effect.seconds
        former_at, former = self._resume_timers.get(effect.link, (0.0, None))
        if former is not None and former_at >= resume_at:
            return
        if former is not None:
            former.cancel()
        timer = self.loop.call_at(resume_at, self._resume_reading, effect.link)
        self._resume_timers[effect.link] = resume_at, timer
        self._turns.hold(effect.link)

    def _resume_reading(self, link: int) -> None:
        del self._resume_timers[link]
        self._turns.release(link)
        self._schedule()

    def _wake_at(self, effect: fx.WakeAt) -> None:
        if self._wake_timer is not None:
            self._wake_timer.cancel()
        self._wake_timer = self.loop.call_at(effect.mono, self._on_wake)

    def _on_wake(self) -> None:
        self._wake_timer = None
        self._inbox.append(Woke())
        self._pump_now()

    # Storage

    def _commit(self, effect: fx.Commit) -> None:
        """Give a commit to storage, with the places of consumers that wait."""
        if self._acked:
            effect.change.consumers.update(self._acked)
            self._acked.clear()
        self._in_flight.add(effect)
        if effect.change.relations or effect.change.pruned:
            self.removal.on_commit(effect.change)
        self.disk.commit(effect)

    def _on_committed(self, input: Committed) -> None:
        """Note what is no longer shown as it was written, before the core releases what changed it."""
        for ticket in input.tickets:
            change = self._in_flight.remove(ticket)
            if change.relations or change.pruned or self.removal.unknown:
                self.recent.note_edited(change.relations)
                if change.pruned:
                    self.recent.skip(self.recent.newest)
                self.removal.on_committed(change)
            for mark in change.reads:
                self._tell[ReadMark](mark)

    def _on_commits_failed(self, epoch: int) -> None:
        """Let places of consumers wait again that were not kept, unless newer ones wait."""
        for change in reversed(self._in_flight.fail(epoch)):
            self._acked = {**change.consumers, **self._acked}

    def _cancel_fetches(self, link: int) -> None:
        """Answer the fetches of a link that ended with nothing, and its pulls no more."""
        self.content.on_link_down(link)
        for effect in self._pages.remove(link):
            self.put(FetchResult(link, effect.ticket, [], None))

    def _on_read_defect(self, error: BaseException) -> None:
        self._fail(error)
        self.loop.call_exception_handler({"message": "p2pchat: reading storage failed", "exception": error})

    # Readers

    def _on_released(self, effect: fx.Released) -> None:
        last = effect.stretches[-1]
        if not self.recent.wanted():
            self.recent.skip(last.first_place + last.count - 1)
            return
        batches: dict[LogId, list[Batch]] = {}
        for batch in effect.batches:
            batches.setdefault(batch.log, []).append(batch)
        for stretch in effect.stretches:
            spans = spans_of(stretch, batches.get(stretch.log, ()))
            if spans is None:
                self.recent.skip(stretch.first_place + stretch.count - 1)
            else:
                for span in spans:
                    self.recent.add(span)
        self._tell[fx.Released](effect)

    def _on_quiet(self) -> None:
        """Give memory back after much was stored. Programs that follow have read the newest entries, or read them from
        storage.
        """
        self.recent.skip(self.recent.newest)
        return_memory_soon()

    def ack(self, consumer: str, place: int) -> None:
        """Note that a consumer has taken everything up to this place. It is saved with the next commit, or soon."""
        self._acked[consumer] = place
        if self._save_timer is None and not self._stopped:
            self._save_timer = self.loop.call_later(self._settings.consumer_saved_after, self._save_acks)

    async def ack_durably(self, places: Mapping[str, int]) -> None:
        """As ack() for each of these consumers, and return when that is on disk."""
        self._acked.update(places)
        await self.disk.write(Change(consumers=dict(places)))

    def _save_acks(self) -> None:
        """Save the places that no commit took along."""
        self._save_timer = None
        acked, self._acked = self._acked, {}

        def done(_: None, error: BaseException | None) -> None:
            if error is not None:
                self._acked = {**acked, **self._acked}  # for the next commit

        if acked:
            self.disk.write_then(Change(consumers=acked), done)

    def require_writable(self) -> None:
        """Raise StorageError if nothing of users here is accepted now; the text says why."""
        storage = self.node.storage
        if not storage.accepts_writes:
            raise StorageError("the disk is nearly full" if storage.works else "storage does not work")

    async def settle(self) -> None:
        """Return when the inputs so far are handled, and what they changed is on disk.

        Raises:
            StorageError: It could not be stored.
        """
        storage = self.node.storage
        failures = storage.epoch
        await self.wait_handled()
        await self.disk.write(Change())
        if storage.epoch > failures or not storage.works:
            raise StorageError("storage does not work: nothing was changed; try again when it does")

    async def wait_handled(self) -> None:
        """Return when the core has handled the inputs so far."""
        self._schedule()
        handled: asyncio.Future[None] = self.loop.create_future()
        self.loop.call_soon(resolve, handled, None, None)  # runs after the pump that was scheduled before
        await handled

    async def wait_until(self, is_true: Callable[[], bool]) -> None:
        """Return when something is true of the core, which is asked after each turn. Raises PeerClosed, P2PChatError.

        What `is_true` raises as P2PChatError is raised, too. It is for what rarely waits: inputs and effects cost less
        where many calls do.
        """
        if is_true():
            return
        if self._stopped or self.broken is not None:
            raise PeerClosed("the peer was closed")
        future: asyncio.Future[None] = self.loop.create_future()
        self._awaited[future] = is_true
        try:
            await future
        finally:
            del self._awaited[future]

    def _resolve_awaited(self) -> None:
        for future, is_true in self._awaited.items():
            try:
                if not future.done() and is_true():
                    future.set_result(None)
            except P2PChatError as error:  # of what is waited for, as of a name that two have
                future.set_exception(error)

    # End

    @property
    def idle(self) -> bool:
        """True if nothing is on its way to the disk or into the core."""
        return not (self.writes.waiting or self._in_flight or self._inbox or self._turns.queues)

    async def finish(self) -> None:
        """Wait until everything written is durable, at most FINISH_TIMEOUT seconds."""
        if self.broken is None:
            with suppress(TimeoutError, PeerClosed):  # it broke meanwhile
                async with asyncio.timeout(FINISH_TIMEOUT):
                    await self.wait_until(lambda: self.idle)

    async def stop(self) -> None:
        """Leave in order: make written entries durable, and say goodbye on all links. Call close() next."""
        self._stop_deadline = self.loop.time() + STOP_TIMEOUT
        self.put(Leave())
        await self.finish()
        if self.broken is None:
            self._pump_now()  # receipts that have come before the goodbye count
        self.put(Stop())
        if self.broken is None:
            self._pump_now()
        await self.connections.close_all()
        if self.broken is None:
            self._pump_now()
        self._stopped = True
        self._fail_calls(lambda: PeerClosed("the peer was closed"))
        self._cancel_timers()

    async def close(self) -> bool:
        """Save what readers acknowledged since stop(), and close storage.

        Returns:
            Whether storage is closed. False when the disk does not answer: then a warning is emitted, and storage
            closes as soon as the disk answers.
        """
        try:
            if self._acked:
                with suppress(StorageError, TimeoutError):  # the readers get it again after the next start
                    async with asyncio.timeout(self._time_left()):
                        await self.disk.write(Change(consumers=self._acked))
        finally:
            self.removal.close()
            await self.content.close()
            closed = await self.disk.close(within=self._time_left())
        if not closed:
            text = "the disk does not answer, and is not waited for: what was accepted is safe, "
            text += "what was on its way may be kept or not"
            self._tell[fx.WarningIssued](fx.WarningIssued("storage_slow", text))
        if self.broken is None:
            self.broken = PeerClosed("the peer was closed")  # later inputs are dropped
        return closed

    def _time_left(self) -> float:
        return max(MIN_CLOSE_TIMEOUT, self._stop_deadline - self.loop.time())

    async def kill(self) -> bool:
        """End at once, like a crash: drop everything uncommitted, and send no goodbye. Return as close()."""
        self._stopped = True
        if self.broken is None:
            self.broken = PeerClosed("the peer was killed")
        self._fail_calls(lambda: PeerClosed("the peer was killed"))
        self._cancel_timers()
        await self.connections.cut_all()
        self.removal.close()
        await self.content.close()
        return await self.disk.close(wait=False)

    def _fail_calls(self, make: Callable[[], P2PChatError]) -> None:
        self.requests.fail(make)
        for future in self._awaited:
            if not future.done():
                future.set_exception(PeerClosed("the peer was closed"))

    def _pump_now(self) -> None:
        if self._pump_handle is not None:
            self._pump_handle.cancel()
        try:
            self._pump()
        except Exception as error:  # report a defect, as any other turn does, and go on closing
            self.loop.call_exception_handler({"message": "p2pchat: the core failed", "exception": error})

    def _on_node_stopped(self, effect: fx.NodeStopped) -> None:
        self._stopped = True
        self.requests.close()
        self._reads.stop()

    def _cancel_timers(self) -> None:
        self._reads.stop()
        pauses = [timer for _, timer in self._resume_timers.values()]
        for handle in (self._wake_timer, self._pump_handle, self._save_timer, *pauses):
            if handle is not None:
                handle.cancel()


class OutgoingFrames:
    """Frames that go out at the end of this turn. Each is encoded once for all its links; a link gets one write.

    Attributes:
        size_bytes: Bytes of all frames, each counted once.
    """

    def __init__(self) -> None:
        self.size_bytes: int = 0
        self._parts: dict[int, list[bytes]] = {}

    def send(self, effect: Send) -> None:
        """Add a frame for its links."""
        data = encode(effect.frame)
        self.size_bytes += len(data)
        for link in effect.links:
            self._parts.setdefault(link, []).append(data)

    def waiting_bytes(self, link: int) -> int:
        """Return the number of bytes that wait here for a link."""
        return sum(map(len, self._parts.get(link, ())))

    def take(self, link: int) -> bytes:
        """Remove and return what waits here for a link."""
        return b"".join(self._parts.pop(link, ()))

    def flush(self, write: Callable[[int, bytes], None]) -> None:
        """Write everything."""
        out, self._parts = self._parts, {}
        self.size_bytes = 0
        for link, parts in out.items():
            write(link, b"".join(parts))


class PageQueue:
    """Pages of entries to read from storage for links.

    A page stays in memory until its link has taken it, and a peer may want 64 logs at once and read nothing. So the
    pages of one link are read one after the other, and only while the link has room: those that go first, then the
    others, each in the order of the requests.

    Args:
        read: Start reading a page. on_answered() must be called when the core has got it.
        has_room: Return whether a link takes another page.
    Attributes:
        waiting: By link the requests that go first, and the others; never both empty.
    """

    def __init__(self, read: Callable[[Fetch], None], has_room: Callable[[int], bool]) -> None:
        self._read = read
        self._has_room = has_room
        self.waiting: dict[int, tuple[deque[Fetch], deque[Fetch]]] = {}
        self._reading: set[int] = set()  # links

    def add(self, effect: Fetch) -> None:
        """Read a page when it is its turn."""
        first, others = self.waiting.setdefault(effect.link, (deque(), deque()))
        (first if effect.first else others).append(effect)
        self._read_next(effect.link)

    def on_answered(self, link: int) -> None:
        """Go on with the next page of a link: the core has got the one before."""
        self._reading.discard(link)
        self._read_next(link)

    def resume(self) -> None:
        """Go on with all links: they may have more room now."""
        for link in list(self.waiting):
            self._read_next(link)

    def remove(self, link: int) -> list[Fetch]:
        """Forget a link that ended; return the requests that will not be read."""
        return [effect for waiting in self.waiting.pop(link, ()) for effect in waiting]

    def _read_next(self, link: int) -> None:
        waiting = self.waiting.get(link)
        if waiting is None or link in self._reading or not self._has_room(link):
            return
        first, others = waiting
        effect = (first or others).popleft()
        if not first and not others:
            del self.waiting[link]
        self._reading.add(link)
        self._read(effect)
