"""Calls of programs into the core: writes, group requests and imports, each with a future for its result.

Nothing here waits. Texts are collected into batches (WriteBatcher), everything else goes into the core at once. Answers
come back as effects with the ticket of the request.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from p2pchat.bounded import remember
from p2pchat.core.effects import (
    ComparisonEnded,
    ImportResult,
    PruneResult,
    ReadStored,
    WriteAccepted,
    WriteRefused,
)
from p2pchat.core.inputs import Input, OwnStateSet, WriteRequest
from p2pchat.core.log import LogId, Marks, Ref, message_id
from p2pchat.errors import KeyReused, P2PChatError, PeerClosed, StorageError
from p2pchat.protocol import ConversationId, UserId

MAX_BATCH_ENTRIES = 4096  # given to the core at once: a transaction of some 20 ms
MAX_BATCH_CHARACTERS = 4 * 1024 * 1024
MAX_EARLY = 256  # calls in a row that do not wait; measured: half as many are a fifth slower
MAX_REFS = 10_000  # own words of programs, remembered until their Sent is read
# By the code of WriteRefused; storage, disk_low and full mean that it could not be stored.
ERRORS = {"key": KeyReused} | dict.fromkeys(("storage", "disk_low", "full"), StorageError)

Position = tuple[LogId, int]  # log and number of an entry
MakeInput = Callable[[int], Input]  # from the request's ticket
MakeError = Callable[[], P2PChatError]  # one error for each waiter: an error raised twice would collect both tracebacks


class WrittenBefore(Exception):
    """A message with this key was written before: the text is its id."""


class RequestQueue:
    """Requests of programs, and their results.

    Args:
        put: Give an input to the core.
        schedule: Have the core take the waiting writes soon.
        tell: What takes answers that no request waits for, and WriteAccepted before the writers resume, by their type.
        volatile: Nothing is safer once it is stored.
    Attributes:
        writes: The texts that wait for the core.
    """

    def __init__(
        self,
        put: Callable[[Input], None],
        schedule: Callable[[], None],
        tell: Mapping[type, Callable[[Any], None]],
        *,
        volatile: bool,
    ) -> None:
        self.writes: WriteBatcher = WriteBatcher(self._issue_ticket, in_order=volatile)
        self._pending: dict[int, asyncio.Future[Any] | PendingWrite] = {}  # by ticket
        self._last_ticket = 0
        self._put = put
        self._schedule = schedule
        self._tell = tell
        self._loop = asyncio.get_running_loop()
        self._closed = False
        self._is_volatile = volatile
        self._early = 0

    @property
    def accepts_at_once(self) -> bool:
        """True if who called write() last need not wait for it. Every so many must, for others to have a turn."""
        self._early = (self._early + 1) % MAX_EARLY
        return self._is_volatile and not self._closed and bool(self._early)

    def write(
        self,
        user: UserId,
        conversation: ConversationId,
        kind: str,
        bodies: Sequence[str],
        re: Ref | None = None,
        ref: str | None = None,
        claimed: int | None = None,
        marks: Marks | None = None,
        above: int = 0,
    ) -> asyncio.Future[Position]:
        """Write consecutive entries. The future gets the position of the first one when they are durable.

        It fails with StorageError, PeerClosed or P2PChatError.

        Args:
            re: The entry that they answer, edit or react to.
            ref: The program's own word for the first one, given back in Sent.
            claimed: When the first one is said to have been written, UTC microseconds.
            marks: Those of a single entry, which shares its request with no other then.
            above: As in WriteRequest; not 0: the same.
        """
        future: asyncio.Future[Position] = self._loop.create_future()
        if self._closed:
            future.set_exception(PeerClosed("the peer was closed"))
        else:
            if marks is None and not above:
                write = self.writes.last(user, conversation, kind, re)
            else:
                write = self.writes.begin(user, conversation, kind, re, marks, above)
            write.add(future, bodies, ref, claimed)
            self._schedule()
        return future

    def ask(self, make: MakeInput) -> asyncio.Future[Any]:
        """Give another request to the core. The future gets the effect that answers it, when that is durable.

        It fails with StorageError, PeerClosed or P2PChatError, whose text says why.
        """
        future: asyncio.Future[Any] = self._loop.create_future()
        future.add_done_callback(_retrieve_exception)  # the caller may be gone, or have given up
        if self._closed:
            future.set_exception(PeerClosed("the peer was closed"))
        else:
            self._put(make(self._issue_ticket(future)))
        return future

    def choose(self, user: UserId, texts: dict[str, str]) -> asyncio.Future[Any]:
        """Store what a user chose: a text for each key, "" for none. As ask."""
        return self.ask(lambda ticket: OwnStateSet(ticket, user, texts))

    def _issue_ticket(self, request: asyncio.Future[Any] | PendingWrite) -> int:
        """Return the ticket of a request."""
        self._last_ticket += 1
        self._pending[self._last_ticket] = request
        return self._last_ticket

    # Answers of the core

    def on_accepted(self, effect: WriteAccepted) -> None:
        if isinstance(self._pending.get(effect.ticket), asyncio.Future):
            self.on_answered(effect)
            return
        if effect.count:
            self._tell[WriteAccepted](effect)
        request = self._pending.pop(effect.ticket, None)  # None without a request here, and after fail()
        if isinstance(request, PendingWrite):
            self.writes.on_accepted(request, effect)

    def on_refused(self, effect: WriteRefused) -> None:
        request = self._pending.pop(effect.ticket, None)
        if request is None:
            self._tell[WriteRefused](effect)
        else:
            kind = ERRORS.get(effect.code, P2PChatError)
            _fail(request, lambda: kind(effect.text))

    def on_answered(self, effect: WriteAccepted | ImportResult | PruneResult | ReadStored | ComparisonEnded) -> None:
        """Answer the call, unless it was cancelled."""
        request = self._pending.pop(effect.ticket, None)
        if isinstance(request, asyncio.Future) and not request.done():
            request.set_result(effect)

    def close(self) -> None:
        """Refuse further requests."""
        self._closed = True

    def fail(self, error: MakeError) -> None:
        """Refuse further requests, and fail those that wait."""
        self.close()
        pending, self._pending = self._pending, {}
        for request in pending.values():
            _fail(request, error)
        self.writes.clear()


class PendingWrite:
    """Texts that go to the core as one WriteRequest: of one user, conversation, kind and answered entry.

    Each call has a future of its own: a shared one would be cancelled for all callers by the first that is cancelled.
    """

    __slots__ = ("characters", "claims", "refs", "request", "waiting")

    request: WriteRequest

    def __init__(self) -> None:
        self.characters: int = 0
        self.claims: dict[int, int] = {}  # index in bodies -> claimed time of writing
        self.refs: dict[int, str] = {}  # index in bodies -> the program's own word
        self.waiting: list[tuple[asyncio.Future[Position], int]] = []  # with the index in bodies

    def takes(self, user: UserId, kind: str, re: Ref | None) -> bool:
        """Return whether a text may join, given that it is the next one of this conversation."""
        request = self.request
        has_room = len(request.bodies) < MAX_BATCH_ENTRIES and self.characters < MAX_BATCH_CHARACTERS
        return has_room and request.re == re and request.kind == kind and request.user == user

    def add(
        self, future: asyncio.Future[Position], bodies: Sequence[str], ref: str | None, claimed: int | None
    ) -> None:
        """Add the bodies of one call, which become consecutive entries.

        Args:
            future: Gets the position of the first one.
            claimed: When the first one is said to have been written.
        """
        offset = len(self.request.bodies)
        self.waiting.append((future, offset))
        if ref is not None:
            self.refs[offset] = ref
        if claimed is not None:
            self.claims[offset] = claimed
        self.request.bodies.extend(bodies)
        self.characters += sum(map(len, bodies))


class WriteBatcher:
    """Texts that wait for the core. They collect while a commit of our own is under way.

    Consecutive texts of one user, conversation, kind and answered entry go to the core as one WriteRequest, so that one
    signature and one transaction serve them all.

    Args:
        issue_ticket: Return the ticket of a write.
        in_order: Whether callers go on before theirs is written: then it keeps its place among all conversations.
    Attributes:
        waiting: Those that wait, oldest first.
        refs: The programs' own words for their entries, by log and number.
        callers: How many calls the core took last, together.
    """

    def __init__(self, issue_ticket: Callable[[PendingWrite], int], *, in_order: bool) -> None:
        self.refs: dict[Position, str] = {}
        self.callers: int = 0
        self._issue_ticket = issue_ticket
        self._in_order = in_order
        self.waiting: deque[PendingWrite] = deque()
        self._last: dict[ConversationId, PendingWrite] = {}  # the write that takes the next text

    def last(self, user: UserId, conversation: ConversationId, kind: str, re: Ref | None) -> PendingWrite:
        """Return the write that the next text joins."""
        write = self._last.get(conversation)
        if write is None or not write.takes(user, kind, re) or (self._in_order and write is not self.waiting[-1]):
            write = self._last[conversation] = self.begin(user, conversation, kind, re)
        return write

    def begin(
        self, user: UserId, conversation: ConversationId, kind: str, re: Ref | None, marks: Marks | None = None,
        above: int = 0,
    ) -> PendingWrite:  # fmt: skip
        """Begin a write of its own, behind what waits."""
        write = PendingWrite()
        ticket = self._issue_ticket(write)
        write.request = WriteRequest(ticket, user, conversation, kind, [], re, write.claims, marks, above)
        self._last.pop(conversation, None)
        self.waiting.append(write)
        return write

    def take(self) -> Iterator[WriteRequest]:
        """Yield waiting writes, oldest first, up to the size of a good transaction."""
        entries = characters = self.callers = 0
        while self.waiting and entries < MAX_BATCH_ENTRIES and characters < MAX_BATCH_CHARACTERS:
            write = self.waiting.popleft()
            request = write.request
            if self._last.get(request.conversation) is write:
                del self._last[request.conversation]
            entries += len(request.bodies)
            characters += write.characters
            self.callers += len(write.waiting)
            yield request

    def on_accepted(self, write: PendingWrite, effect: WriteAccepted) -> None:
        """Resolve the calls of a write that is durable."""
        log, first = effect.log, effect.first
        for offset, ref in write.refs.items():
            remember(self.refs, (log, first + offset), ref, MAX_REFS)
        for future, offset in write.waiting:
            if future.done():  # a cancelled call does not cancel its texts
                continue
            if effect.count:
                future.set_result((log, first + offset))
            else:
                future.set_exception(WrittenBefore(message_id(log, first)))

    def clear(self) -> None:
        """Forget all waiting writes."""
        self.waiting.clear()
        self._last.clear()


def _fail(request: asyncio.Future[Any] | PendingWrite, error: MakeError) -> None:
    """Fail all calls of a request that were not cancelled."""
    calls = [future for future, _ in request.waiting] if isinstance(request, PendingWrite) else [request]
    for future in calls:
        if not future.done():
            future.set_exception(error())


def _retrieve_exception(future: asyncio.Future[Any]) -> None:
    """Keep asyncio from logging an exception that no caller retrieves."""
    if not future.cancelled():
        future.exception()
