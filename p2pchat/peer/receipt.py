"""What became of what was sent: receipts, and the ledger that knows who has what.

A receipt is two numbers and a reference. Nothing is kept or woken for a message nobody asks about: the ledger holds,
for each own log, who has it up to where; a future exists only while somebody waits for something not known yet.
Levels only rise: what a member once had counts for ever.
"""

from __future__ import annotations

import asyncio
import heapq
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple, overload

from p2pchat.core.log import LogId
from p2pchat.errors import DeliveryTimeout, PeerClosed, UnknownName
from p2pchat.peer.events import message_id
from p2pchat.protocol import UserId

if TYPE_CHECKING:
    from p2pchat.peer.people import People, User


class Rise(NamedTuple):
    """These messages of one log came to `member`, which makes it `having` of `of` for each of them."""

    log: LogId
    first: int
    last: int
    member: UserId
    having: int
    of: int


@dataclass(slots=True)
class _Wait:
    """Somebody waits until `missing` is empty, or `needed` members have message `seq`."""

    seq: int
    missing: set[UserId]
    needed: int  # 0: all of `missing`
    done: asyncio.Future[None]


@dataclass(slots=True)
class _Own:
    """One own log. Stretch i of its messages, starts[i] .. ends[i], waits for members[i]; between them are entries
    that are no messages. Of a log of an earlier run no stretch is known."""

    starts: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    members: list[tuple[UserId, ...]] = field(default_factory=list)
    marks: dict[UserId, int] = field(default_factory=dict)
    heaps: dict[UserId, list[tuple[int, int, _Wait]]] = field(default_factory=dict)
    counting: list[_Wait] = field(default_factory=list)
    given_up: int = 0  # waits in heaps and counting that nobody waits for any more, at most
    others: tuple[UserId, ...] = ()  # whom a log of an earlier run waits for, where that is known

    def of(self, seq: int) -> tuple[UserId, ...]:
        i = bisect_right(self.starts, seq) - 1
        return self.members[i] if i >= 0 else self.others

    def stretches(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """Yield the messages among first..last."""
        if not self.starts:
            yield first, last
        for i in range(max(0, bisect_right(self.starts, first) - 1), len(self.starts)):
            if self.starts[i] > last:
                break
            if self.ends[i] >= first:
                yield max(first, self.starts[i]), min(last, self.ends[i])

    def holding(self, seq: int) -> int:
        """Return how many have it, whoever they are."""
        return sum(mark >= seq for mark in self.marks.values())

    def having(self, seq: int) -> int:
        """Return how many of those who count have it: all who do where nobody is known to be waited for."""
        marks, of = self.marks, self.of(seq)
        if not of:
            return self.holding(seq)
        return sum(marks.get(member, 0) >= seq for member in of)


class Ledger:
    """Who has which of our messages, by log, member and highest number."""

    def __init__(self, people: People) -> None:
        self.people = people
        self._logs: dict[LogId, _Own] = {}
        self._count = 0  # breaks ties in heaps
        self._closed = False

    def kept(self, log: LogId, first: int, count: int, of: tuple[UserId, ...]) -> None:
        """So many messages from `first` on are accepted and wait for these members."""
        own = self._logs.setdefault(log, _Own())
        if own.members and own.members[-1] == of and own.ends[-1] == first - 1:
            own.ends[-1] += count
            return
        own.starts.append(first)
        own.ends.append(first + count - 1)
        own.members.append(of)

    def heard(self, log: LogId, marks: Iterable[tuple[UserId, int]], of: tuple[UserId, ...]) -> None:
        """Take what storage knows of a log of an earlier run."""
        own = self._logs.setdefault(log, _Own())
        own.others = of
        for member, seq in marks:
            own.marks[member] = max(seq, own.marks.get(member, 0))

    def wrote(self, log: LogId) -> bool:
        """Whether this is a log of this run, so that all its messages are known."""
        return log in self._logs and bool(self._logs[log].starts)

    def delivered(self, log: LogId, first: int, last: int, member: UserId) -> list[Rise]:
        """`member` has entries first..last now; wake who waited, return what to tell."""
        own = self._logs.setdefault(log, _Own())
        if last <= own.marks.get(member, 0):
            return []
        own.marks[member] = last
        heap = own.heaps.get(member)
        while heap and heap[0][0] <= last:
            self._came(heapq.heappop(heap)[2], member)
        if own.counting:
            own.counting = [wait for wait in own.counting if not self._counted(own, wait)]
        return [rise for part in own.stretches(first, last) for rise in self._rises(own, log, part[0], part[1], member)]

    def _came(self, wait: _Wait, member: UserId) -> None:
        wait.missing.discard(member)
        if not wait.missing and not wait.done.done():
            wait.done.set_result(None)

    def _counted(self, own: _Own, wait: _Wait) -> bool:
        if not wait.done.done() and own.holding(wait.seq) >= wait.needed:
            wait.done.set_result(None)
        return wait.done.done()

    def _rises(self, own: _Own, log: LogId, first: int, last: int, member: UserId) -> Iterator[Rise]:
        """Cut first..last, which lie in one stretch, where the count changes."""
        cuts = {mark + 1 for mark in own.marks.values() if first <= mark < last}
        edges = [first, *sorted(cuts), last + 1]
        for start, end in pairwise(edges):
            count = own.having(start)
            yield Rise(log, start, end - 1, member, count, len(own.of(start)) or count)

    def members(self, log: LogId, seq: int) -> tuple[UserId, ...]:
        """Return whom the receipt of this message waits for; () when nobody is known."""
        own = self._logs.get(log)
        return own.of(seq) if own else ()

    def holders(self, log: LogId, seq: int) -> list[UserId]:
        """Return every member known to have it."""
        own = self._logs.get(log)
        return [] if own is None else [member for member, mark in own.marks.items() if mark >= seq]

    async def wait(self, log: LogId, seq: int, *, by: UserId | None, count: int | None, timeout: float | None) -> None:
        """Wait for one member, or so many, or all."""
        own = self._logs.setdefault(log, _Own())
        wanted = (by,) if by is not None else own.of(seq)
        if count is None and not wanted:
            count = 1  # nobody was there: the first who comes
        missing = {member for member in wanted if own.marks.get(member, 0) < seq} if count is None else set()
        if not missing and (count is None or own.holding(seq) >= count):
            return
        if self._closed:
            raise PeerClosed("the peer was closed")
        wait = _Wait(seq, missing, count or 0, asyncio.get_running_loop().create_future())
        self._register(own, wait)
        try:
            await asyncio.wait_for(wait.done, timeout)
        except TimeoutError:
            lacking = wait.missing or {member for member in own.of(seq) if own.marks.get(member, 0) < seq}
            labels = sorted(self.people.label(member) for member in lacking)
            raise DeliveryTimeout(message_id(log, seq), labels) from None
        finally:
            if wait.done.cancelled():
                self._give_up(own, wait)

    def _register(self, own: _Own, wait: _Wait) -> None:
        if wait.needed:
            own.counting.append(wait)
        for member in wait.missing:
            self._count += 1
            heapq.heappush(own.heaps.setdefault(member, []), (wait.seq, self._count, wait))

    def _give_up(self, own: _Own, wait: _Wait) -> None:
        """Whoever asks again and again for what does not come costs no memory: half of what is kept is waited for."""
        own.given_up += len(wait.missing) or 1
        if own.given_up * 2 <= len(own.counting) + sum(map(len, own.heaps.values())):
            return
        own.given_up = 0
        own.counting = [wait for wait in own.counting if not wait.done.done()]
        for member, heap in own.heaps.items():
            own.heaps[member] = [entry for entry in heap if not entry[2].done.done()]
            heapq.heapify(own.heaps[member])

    def close(self) -> None:
        """Nothing more will be heard: whoever waits gets PeerClosed."""
        self._closed = True
        for own in self._logs.values():
            waits = [*own.counting, *(entry[2] for heap in own.heaps.values() for entry in heap)]
            for wait in waits:
                if not wait.done.done():
                    wait.done.set_exception(PeerClosed("the peer was closed"))
            own.counting.clear()
            own.heaps.clear()


class Receipt:
    """What became of one message. It was accepted when you got this: it is on this disk."""

    __slots__ = ("_ledger", "log", "seq")

    def __init__(self, ledger: Ledger, log: LogId, seq: int) -> None:
        self._ledger = ledger
        self.log = log
        self.seq = seq

    @property
    def id(self) -> str:
        """The message id, the same on every peer."""
        return message_id(self.log, self.seq)

    @property
    def of(self) -> list[User]:
        """Whom it is for: the other user, in the room all who were online when it was accepted; [] for nobody."""
        return [self._ledger.people.user(member) for member in self._ledger.members(self.log, self.seq)]

    @property
    def delivered_to(self) -> list[User]:
        """Whose peers are known to have it on disk."""
        return [self._ledger.people.user(member) for member in self._ledger.holders(self.log, self.seq)]

    @property
    def missing(self) -> list[User]:
        """Who in `of` is not known to have it yet; [] too when it is for nobody yet."""
        of, having = self._ledger.members(self.log, self.seq), self._ledger.holders(self.log, self.seq)
        return [self._ledger.people.user(member) for member in of if member not in having]

    @property
    def status(self) -> str:
        """`delivered` when everybody in `of` has it (when `of` is empty: anybody), else `accepted`."""
        of, having = self._ledger.members(self.log, self.seq), self._ledger.holders(self.log, self.seq)
        return "delivered" if having and set(of) <= set(having) else "accepted"

    async def delivered(
        self, *, by: User | str | None = None, count: int | None = None, timeout: float | None = None
    ) -> None:
        """Wait until it is safe on the disks of others.

        Args:
            by: One member, by name or as User.
            count: So many members, whoever they are.
            timeout: Seconds; None waits for ever.
        Without `by` and `count`: all of `of`; when that is empty, the first who comes.
        Raises:
            DeliveryTimeout: Not in time; `.missing` are the labels of those who lack it. It is kept and will arrive.
            PeerClosed: The peer was closed meanwhile.
            UnknownName, AmbiguousName: `by` is no user, or several.
        """
        if by is not None and count is not None:
            raise ValueError("either by or count, not both")
        if count is not None and count < 1:
            raise ValueError("count begins at 1")
        member = None if by is None else self._member(by)
        await self._ledger.wait(self.log, self.seq, by=member, count=count, timeout=timeout)

    def _member(self, by: User | str) -> UserId:
        if not isinstance(by, str):
            return by.key
        user = self._ledger.people.find(by)
        of = self._ledger.members(self.log, self.seq)
        if of and user.key not in of and user.key not in self._ledger.holders(self.log, self.seq):
            raise UnknownName(by, "the message was not for that user")
        return user.key

    def __repr__(self) -> str:
        return f"<Receipt {self.id} {self.status}>"


class Piece(NamedTuple):
    """Messages accepted together: first .. first+size-1 of one log."""

    log: LogId
    first: int
    size: int


class Receipts(Sequence[Receipt]):
    """The receipts of send_many, in the order of the texts; made when looked at."""

    def __init__(self, ledger: Ledger, pieces: list[Piece]) -> None:
        self._ledger = ledger
        self._pieces = pieces
        self._ends: list[int] = []
        end = 0
        for piece in pieces:
            end += piece.size
            self._ends.append(end)

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    @overload
    def __getitem__(self, index: int) -> Receipt: ...
    @overload
    def __getitem__(self, index: slice) -> list[Receipt]: ...
    def __getitem__(self, index: int | slice) -> Receipt | list[Receipt]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if index < 0:
            index += len(self)
        if not 0 <= index < len(self):
            raise IndexError("no such receipt")
        i = bisect_right(self._ends, index)
        piece = self._pieces[i]
        return Receipt(self._ledger, piece.log, piece.first + piece.size - (self._ends[i] - index))

    async def delivered(self, *, timeout: float | None = None) -> None:
        """Wait until every one is delivered; as Receipt.delivered."""
        clock = asyncio.get_running_loop().time
        deadline = None if timeout is None else clock() + timeout
        for piece in self._pieces:
            left = None if deadline is None else max(0.0, deadline - clock())
            last = Receipt(self._ledger, piece.log, piece.first + piece.size - 1)
            await last.delivered(timeout=left)  # a mark says "everything up to here"

    def __repr__(self) -> str:
        return f"<Receipts of {len(self)} messages>"
