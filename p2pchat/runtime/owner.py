"""The owner: the only code that touches the core. It feeds inputs, carries effects out, and gathers what is said.

One pump, no task and no queue to wait on: whatever happens is put into the inbox, and the next turn of the loop hands
everything in it to the core and does what it orders. The owner waits for nobody: commits and reads run in threads
(disk.py), links take bytes without waiting (wiring.py), and what comes of both returns as inputs.

Three things make it quick. Texts that are said while an own commit is under way go in together as one input, so one
signature and one transaction serve them all. A frame is encoded once for all its links, and everything for one link
in one turn is one write. And reading stops while more than a few thousand received entries are not committed yet:
that is the back-pressure of the whole peer.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from p2pchat.config import Settings
from p2pchat.core import effects as fx
from p2pchat.core.context import Now
from p2pchat.core.inputs import (
    CommitFailed,
    Committed,
    Drained,
    Fetched,
    Filled,
    Found,
    HandedOn,
    Input,
    LinkDown,
    Stop,
    Woke,
)
from p2pchat.core.log import Batch, LogId, Ref
from p2pchat.core.node import Node
from p2pchat.core.records import Change
from p2pchat.errors import P2PChatError, PeerClosed, StorageError
from p2pchat.protocol import ConversationId, Entries, UserId, encode
from p2pchat.runtime.asking import Asked, Asking, Make
from p2pchat.runtime.collecting import nothing_is_garbage
from p2pchat.runtime.disk import Disk
from p2pchat.runtime.fetching import Fetching
from p2pchat.runtime.loads import Loading, Loads
from p2pchat.runtime.recent import Recent, runs_of
from p2pchat.runtime.rereading import Rereading
from p2pchat.runtime.saying import At, Gathering, Saying
from p2pchat.runtime.wiring import Wiring
from p2pchat.storage.base import Shown

FINISH_TIMEOUT = 5.0  # seconds that texts on their way to the disk get when the peer closes
LEAVE_WITHIN = 8.0  # seconds from stop() that a disk which does not answer is waited for in all
LEFT_SO = "what was accepted is safe, what was on its way may be kept or not"
OUT_NOW_BYTES = 256 * 1024  # so much for links is written before the next input: full ones are known by then
FEW_WOKEN = 16  # so many who said something go on before links are written to: encrypting would make them wait
LEAST = 1.0  # seconds that it gets to close, however late it is


class Owner:
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
        recent: Recent,
        tell: Callable[[fx.Effect], None],
        clock: Callable[[], Now] | None = None,
    ) -> None:
        self.node = node
        self.recent = recent
        self.disk: Disk  # given by use(): storage has to be loaded before there is a node, links come after
        self.wiring: Wiring
        self.counted: dict[str, int] = {}  # what the core counted, for tests and diagnostics
        self.saying = Gathering()
        self.asked = Asked()
        self.loads = Loads()
        self._fetching = Fetching(self._fetch, self._has_room)
        self._rereading = Rereading(tell, lambda: not node.keeping)
        self._settings = settings
        self._tell = tell
        self._loop = asyncio.get_running_loop()
        self._now = clock or (lambda: Now(self._loop.time(), time.time_ns() // 1000))
        self._inbox: deque[Input] = deque()
        self._pumping: asyncio.Handle | None = None
        self._out: dict[int, list[bytes]] = {}  # what goes to each link at the end of this turn
        self._out_bytes = 0
        self._woken = 0  # programs that are told in this turn that what they said is durable
        self._wake: asyncio.TimerHandle | None = None
        self._changes: dict[int, Change] = {}  # commits in flight, by ticket
        self._epochs: dict[int, int] = {}
        self._own: set[int] = set()  # those of them that hold entries of our users
        self._fresh: dict[LogId, list[Batch]] = {}  # of the commits that are being answered
        self._uncommitted = 0  # received entries in flight
        self.paused = False
        self._handed: dict[str, int] = {}
        self._stopped = False
        self._promised = False  # something said has been told where it will stand
        self._next: dict[tuple[ConversationId, UserId], tuple[LogId, int]] = {}  # told by the core since its last input
        self._leave_by = 0.0
        self._idle: asyncio.Future[None] | None = None
        self.broken: BaseException | None = None
        self._cutting: asyncio.Task[None] | None = None
        self._carry: dict[type, Callable[[Any], None]] = {
            fx.Send: self._send,
            fx.Close: self._close,
            fx.Dial: lambda effect: self.wiring.dial(effect.dial, effect.endpoint),
            fx.Established: lambda effect: self.wiring.established(effect.link),
            fx.PauseReading: self._pause_reading,
            fx.WakeAt: self._wake_at,
            fx.Commit: self._commit,
            fx.Reload: lambda effect: self.disk.reload(list(self.node.hosted)),
            fx.Lookup: self._lookup,
            fx.Fetch: self._fetching.ask,
            fx.Kept: self._kept,
            fx.Refused: self._refused,
            fx.Imported: self.loads.imported,
            fx.Released: self._released,
            fx.Counted: self._count,
            fx.Stopped: self._has_stopped,
        }

    # The pump

    def start(self, disk: Disk, wiring: Wiring) -> None:
        """Begin; from now on inputs are handled."""
        self.disk = disk
        self.disk.told = self._go_on
        self.wiring = wiring
        with nothing_is_garbage():
            self._carry_out(self.node.start(self._now()))
        self._flush_links()
        self._schedule()

    def put(self, input: Input) -> None:
        """Something happened: it is handled in the next turn of the loop.

        That a link is full comes before all that waits, some of which might write more to it.
        """
        if type(input) is Filled:
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
            if self._promised:
                self._keep_promises()
            if self._handed and not self._stopped:
                self._hand_on_all()  # first: no commit of this turn may put back what hand_on_now() has written
            self._handle_all()
            while self.saying and not self._own and not self._stopped:
                self._say_gathered()
                self._handle_all()  # memory storage has answered already
            self._end_turn()
        except BaseException as error:
            self._break(error)
            raise
        if self._idle is not None and not self._idle.done() and self.idle:
            self._idle.set_result(None)

    def _handle_all(self) -> None:
        inbox, handle = self._inbox, self.node.handle
        while inbox:
            input = inbox.popleft()
            kind = type(input)
            if kind is Committed:
                self._committed(input)  # type: ignore[arg-type]
            elif kind is CommitFailed:
                self._commit_failed(input)  # type: ignore[arg-type]
            elif kind is Drained and self.wiring.is_full(input.link):  # type: ignore[union-attr]
                continue  # it has filled again meanwhile, and that was told already
            self._carry_out(handle(input, self._now()))
            if self._fresh:
                self._fresh = {}
            if kind is Fetched:
                self._fetching.answered(input.link)  # type: ignore[union-attr]
            elif kind is LinkDown:
                self._give_up(input.link)  # type: ignore[union-attr]
            if self._out_bytes >= OUT_NOW_BYTES:
                self._flush_links()

    def _carry_out(self, effects: list[fx.Effect]) -> None:
        carry = self._carry
        for effect in effects:
            act = carry.get(type(effect))
            if act is not None:
                act(effect)
            else:
                self._tell(effect)

    def _break(self, error: BaseException) -> None:
        """A defect of ours: nothing goes on from a state nobody understands, and nobody waits for ever."""
        self.broken = error
        text = f"p2pchat has failed inside ({type(error).__name__}): restart it, and report it"
        self._fail(lambda: P2PChatError(text))
        self._tell(fx.Warned("internal", text))
        self._cutting = self._loop.create_task(self.wiring.cut_all())  # the others need not wait for a silence

    def _fail(self, error: Callable[[], P2PChatError]) -> None:
        """Nobody gets an answer any more."""
        self.saying.fail(error)
        self.asked.fail(error)
        self.loads.fail(error)

    # Links

    def _send(self, effect: fx.Send) -> None:
        data = encode(effect.frame)
        self._out_bytes += len(data)
        out = self._out
        for link in effect.links:
            parts = out.get(link)
            if parts is None:
                out[link] = [data]
            else:
                parts.append(data)

    def _end_turn(self) -> None:
        """Write to links; behind those who wait for what they said, while they are few."""
        if 0 < self._woken <= FEW_WOKEN:
            self._loop.call_soon(self._flush_links)
        else:
            self._flush_links()
        self._woken = 0

    def _flush_links(self) -> None:
        out, self._out = self._out, {}
        self._out_bytes = 0
        for link, parts in out.items():
            self.wiring.send(link, parts[0] if len(parts) == 1 else b"".join(parts))
        self._fetching.go_on()

    def _has_room(self, link: int) -> bool:
        """Whether a link takes a page more: what waits here for the end of the turn counts too."""
        waiting = sum(map(len, self._out.get(link, ())))
        return self.wiring.buffered(link) + waiting <= self._settings.buffer_limit_bytes

    def _close(self, effect: fx.Close) -> None:
        parts = self._out.pop(effect.link, None)
        if parts and effect.bye is not None:
            self.wiring.send(effect.link, b"".join(parts))
        self.wiring.close(effect.link, None if effect.bye is None else encode(effect.bye))

    def _pause_reading(self, effect: fx.PauseReading) -> None:
        self.wiring.hold(effect.link, True)
        self._loop.call_later(effect.seconds, self.wiring.hold, effect.link, False)

    def _wake_at(self, effect: fx.WakeAt) -> None:
        if self._wake is not None:
            self._wake.cancel()
        self._wake = self._loop.call_at(effect.mono, self._woke)

    def _woke(self) -> None:
        self._wake = None
        self.put(Woke())

    # Storage

    def _commit(self, effect: fx.Commit) -> None:
        change = effect.change
        self._changes[effect.ticket] = change
        self._epochs[effect.ticket] = effect.epoch
        if effect.own:
            self._own.add(effect.ticket)
        else:
            self._uncommitted += sum(len(batch.raws) for batch in change.batches)
            if self._uncommitted > self._settings.max_uncommitted_entries and not self.paused:
                self.paused = True
                self.wiring.pause_all(True)
        self.disk.commit(effect)

    def _committed(self, input: Committed) -> None:
        """Before the core hears of it: what it releases must be at hand."""
        for ticket in input.tickets:
            change = self._take_back(ticket)
            for batch in change.batches:
                self._fresh.setdefault(batch.log, []).append(batch)
            if change.mendings:
                self.recent.note_mended(change.mendings)

    def _commit_failed(self, input: CommitFailed) -> None:
        for ticket in [t for t, epoch in self._epochs.items() if epoch <= input.epoch]:
            self._take_back(ticket)

    def _take_back(self, ticket: int) -> Change:
        change = self._changes.pop(ticket)
        del self._epochs[ticket]
        if ticket in self._own:
            self._own.discard(ticket)
            return change
        self._uncommitted -= sum(len(batch.raws) for batch in change.batches)
        if self.paused and self._uncommitted <= self._settings.max_uncommitted_entries // 2:
            self.paused = False
            self.wiring.pause_all(False)
        return change

    def _lookup(self, effect: fx.Lookup) -> None:
        storage = self.disk.storage
        self.disk.read_then(
            lambda: (
                *storage.lookup(effect.logs, effect.older),
                {whose: storage.size_bytes(*whose) for whose in effect.sizes},
                {key: storage.shown_by(key) for key in effect.shown},
                {whose: storage.logs_of(*whose) for whose in effect.of},
            ),
            lambda found: self._found(effect, Found(effect.ticket, *found)),
            lambda error: self._again(error, self._lookup, effect),
        )

    def _found(self, effect: fx.Lookup, answer: Found) -> None:
        self._rereading.answered(effect)
        self.put(answer)

    def _fetch(self, effect: fx.Fetch) -> None:
        storage, most = self.disk.storage, self._settings.fetch_batches
        self.disk.read_then(
            lambda: storage.fetch(effect.conversation, effect.user, effect.start, batches=most),
            lambda found: self._fetched(effect, Fetched(effect.link, effect.ticket, *found)),
            lambda error: self._again(error, self._fetch, effect),
        )

    def _give_up(self, link: int) -> None:
        """A link has ended: what was to be read for it is answered, with nothing."""
        for effect in self._fetching.gone(link):
            self.put(Fetched(link, effect.ticket, [], None))

    def _fetched(self, effect: fx.Fetch, answer: Fetched) -> None:
        """Memory answers at once: the link gets what was read before more is, so that a slow one costs no memory."""
        self._rereading.answered(effect)
        if self.disk.storage.durable:
            self.put(answer)
        else:
            self._loop.call_soon(self.put, answer)

    def _again(self, error: BaseException, what: Callable[[Any], None], effect: fx.Effect) -> None:
        """A read failed: the core waits for its answer, so try until it comes."""
        if not isinstance(error, StorageError):
            self._break(error)
            self._loop.call_exception_handler({"message": "p2pchat: reading storage failed", "exception": error})
        elif isinstance(effect, fx.Fetch) and effect.link not in self.node.links.up:
            self._rereading.give_up(effect)
            self.put(Fetched(effect.link, effect.ticket, [], None))
        elif not self._stopped:
            self._rereading.failed(error, effect, lambda: what(effect))

    def _count(self, effect: fx.Counted) -> None:
        self.counted[effect.what] = self.counted.get(effect.what, 0) + effect.n

    # What is said

    def say(
        self,
        user: UserId,
        conversation: ConversationId,
        kind: str,
        bodies: Sequence[str],
        re: Ref | None = None,
        ref: str | None = None,
        claimed: int | None = None,
    ) -> Saying:
        """Write entries; the future has the log and the number of the first when they are durable: in storage that is
        only memory at once, where they are sure to be kept, so that a loop of sends shares signatures and frames.

        All bodies of one call are consecutive; `claimed`: when the first is said to be written. The future fails with
        StorageError, PeerClosed or P2PChatError.
        """
        future: Saying = self._loop.create_future()
        if self._stopped or self.broken is not None:
            future.set_exception(PeerClosed("the peer was closed"))
        elif (at := self.say_at_once(user, conversation, kind, bodies, re, ref, claimed)) is not None:
            future.set_result(at)
        else:
            self.saying.add(future, user, conversation, kind, bodies, re, ref, claimed)
            self._schedule()
        return future

    def say_at_once(
        self,
        user: UserId,
        conversation: ConversationId,
        kind: str,
        bodies: Sequence[str],
        re: Ref | None = None,
        ref: str | None = None,
        claimed: int | None = None,
    ) -> At | None:
        """Write entries where it is settled where they will stand, and return that of the first; otherwise None, and
        nothing is said: say() says it, and why it cannot be."""
        if self.disk.storage.durable or kind not in ("text", "action") or self._stopped or self.broken is not None:
            return None
        at = self._next_place(user, conversation)
        if at is not None:
            self.saying.add(None, user, conversation, kind, bodies, re, ref, claimed, at)
            self._promised = True
            self._schedule()
        return at

    def _next_place(self, user: UserId, conversation: ConversationId) -> At | None:
        """Return where an entry will stand, if that is settled: it goes in before anything else happens."""
        key, ahead = (conversation, user), self.saying.ahead(user, conversation)
        found = self._next.get(key) or self.node.next_entry(conversation, user)
        if found is None or ahead is None:
            return None
        self._next[key] = found
        return found[0], found[1] + ahead

    def _keep_promises(self) -> None:
        self._promised = False
        self._next.clear()
        for said in self.saying.take_promised():
            self._carry_out(self.node.handle(said, self._now()))

    def _say_gathered(self) -> None:
        for said in self.saying.take():
            self._carry_out(self.node.handle(said, self._now()))

    def ask(self, make: Make) -> Asking:
        """Hand in what is answered once; the future says where it is written when that is durable.

        It fails with StorageError, PeerClosed or P2PChatError, whose text says why not.
        """
        future: Asking = self._loop.create_future()
        if self._stopped or self.broken is not None:
            future.set_exception(PeerClosed("the peer was closed"))
        else:
            self.put(self.asked.add(future, make))
        return future

    def _kept(self, effect: fx.Kept) -> None:
        if not self.asked.kept(effect):
            self._tell(effect)
            self._woken += self.saying.kept(effect)

    def _refused(self, effect: fx.Refused) -> None:
        if not (self.asked.refused(effect) or self.saying.refused(effect)):
            self._tell(effect)

    def carry(self, frames: list[Entries]) -> Loading:
        """Take frames of a file; the future says what became of them, fails with PeerClosed or P2PChatError."""
        future: Loading = self._loop.create_future()
        if self._stopped or self.broken is not None:
            future.set_exception(PeerClosed("the peer was closed"))
        else:
            self.put(self.loads.add(future, frames))
        return future

    # What is released

    def _released(self, effect: fx.Released) -> None:
        wanted = self.recent.wanted()
        for stretch in effect.stretches:
            runs = None if not wanted else runs_of(stretch, self._fresh.get(stretch.log, ()))
            if runs is None:
                self.recent.skip(stretch.first_place + stretch.count - 1)
            else:
                for run in runs:
                    self.recent.add(run)
        self._tell(effect)

    async def places(self, after: int, limit: int) -> list[Shown]:
        """Read released entries from storage."""
        return await self.disk.read(lambda: self.disk.storage.places(after, limit))

    def hand_on(self, consumer: str, place: int) -> None:
        """A consumer has taken everything up to this place: saved with the next commit, or soon."""
        self._handed[consumer] = place
        self._schedule()

    async def hand_on_now(self, consumer: str, place: int) -> None:
        """The same; it is on disk when this returns."""
        self.hand_on(consumer, place)
        await self.disk.write(Change(consumers={consumer: place}))

    def _hand_on_all(self) -> None:
        handed, self._handed = self._handed, {}
        for consumer, place in handed.items():
            self._carry_out(self.node.handle(HandedOn(consumer, place), self._now()))

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
        return not (self.saying or self._changes or self._inbox or self._handed)

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
        await self.wiring.close_all()
        if self.broken is None:
            self._pump_now()
        self._stopped = True
        self._fail(lambda: PeerClosed("the peer was closed"))
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
            self._tell(fx.Warned("storage_slow", "the disk does not answer, and is not waited for: " + LEFT_SO))
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
        self._fail(lambda: PeerClosed("the peer was killed"))
        self._cancel_timers()
        await self.wiring.cut_all()
        return await self.disk.close(wait=False)

    def _pump_now(self) -> None:
        if self._pumping is not None:
            self._pumping.cancel()
        try:
            self._pump()
            self._flush_links()
        except Exception as error:  # a defect is reported, as in any other turn, and keeps nobody from closing
            self._loop.call_exception_handler({"message": "p2pchat: the core failed", "exception": error})

    def _has_stopped(self, effect: fx.Stopped) -> None:
        self._stopped = True

    def _cancel_timers(self) -> None:
        self._rereading.stop()
        for handle in (self._wake, self._pumping):
            if handle is not None:
                handle.cancel()


def _done(future: asyncio.Future[None]) -> None:
    if not future.done():  # who waited may have given up
        future.set_result(None)
