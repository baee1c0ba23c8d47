"""What became of what was sent: receipts. Each asks the ledger (receipts.py) whenever it is asked."""

from __future__ import annotations

import asyncio
import heapq
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from itertools import count as counting
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, NamedTuple, overload

from p2pchat.core.log import LogId, message_id
from p2pchat.errors import DeliveryTimeout, PeerClosed, UnknownName
from p2pchat.protocol import ConversationId, UserId

if TYPE_CHECKING:
    from p2pchat.messaging.users import User, UserDirectory


class Receipt:
    """What became of one message. It was accepted when you got this: it is on this disk."""

    __slots__ = ("_tracker", "log", "seq")

    def __init__(self, tracker: ReceiptTracker, log: LogId, seq: int) -> None:
        self._tracker = tracker
        self.log = log
        self.seq = seq

    @property
    def id(self) -> str:
        """The message id, the same on every peer."""
        return message_id(self.log, self.seq)

    @property
    def of(self) -> list[User]:
        """Whom it is for: the other user, in the room all who were online when it was accepted; [] for nobody."""
        return [self._tracker.people.user(member) for member in self._tracker.members(self.log, self.seq)]

    @property
    def delivered_to(self) -> list[User]:
        """Whose peers are known to have it on disk."""
        return [self._tracker.people.user(member) for member in self._tracker.holders(self.log, self.seq)]

    @property
    def missing(self) -> list[User]:
        """Who in `of` is not known to have it yet; [] too when it is for nobody yet."""
        of, having = self._tracker.members(self.log, self.seq), self._tracker.holders(self.log, self.seq)
        return [self._tracker.people.user(member) for member in of if member not in having]

    @property
    def read_by(self) -> list[User]:
        """Whose application said that they have read it; nobody is known to who wants no receipts of reading."""
        return [self._tracker.people.user(member) for member in self._tracker.holders(self.log, self.seq, "read")]

    @property
    def status(self) -> str:
        """`read` or `delivered` when that is true of everybody in `of` (when `of` is empty: of anybody), else
        `accepted`."""
        return self._all("read") or self._all("delivered") or "accepted"

    def _all(self, kind: Kind) -> str:
        of, having = self._tracker.members(self.log, self.seq), self._tracker.holders(self.log, self.seq, kind)
        return kind if having and set(of) <= set(having) else ""

    @property
    def by_member(self) -> dict[User, str]:
        """What it is for each: `accepted`, `delivered` or `read`, for everybody in `of` and whoever else has it."""
        people, log, seq = self._tracker.people, self.log, self.seq
        found: dict[UserId, str] = dict.fromkeys(self._tracker.members(log, seq), "accepted")
        for kind in ("delivered", "read"):
            found.update(dict.fromkeys(self._tracker.holders(log, seq, kind), kind))
        return {people.user(member): status for member, status in found.items()}

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
        await self._wait("delivered", by, count, timeout)

    async def read(
        self, *, by: User | str | None = None, count: int | None = None, timeout: float | None = None
    ) -> None:
        """Wait until it is read: until the application of each says so. Arguments and errors as `delivered`."""
        await self._wait("read", by, count, timeout)

    async def _wait(self, kind: Kind, by: User | str | None, count: int | None, timeout: float | None) -> None:
        if by is not None and count is not None:
            raise ValueError("either by or count, not both")
        if count is not None and count < 1:
            raise ValueError("count begins at 1")
        member = None if by is None else self._member(by)
        await self._tracker.wait(self.log, self.seq, by=member, count=count, timeout=timeout, kind=kind)

    def _member(self, by: User | str) -> UserId:
        if not isinstance(by, str):
            return by.key
        user = self._tracker.people.find(by)
        of = self._tracker.members(self.log, self.seq)
        if of and user.key not in of and user.key not in self._tracker.holders(self.log, self.seq):
            raise UnknownName(by, "the message was not for that user")
        return user.key

    def __repr__(self) -> str:
        return f"<Receipt {self.id} {self.status}>"


class AcceptedBatch(NamedTuple):
    """Messages accepted together: first .. first+size-1 of one log."""

    log: LogId
    first: int
    size: int


class Receipts(Sequence[Receipt]):
    """The receipts of send_many, in the order of the texts; made when looked at."""

    def __init__(self, tracker: ReceiptTracker, pieces: list[AcceptedBatch]) -> None:
        self._tracker = tracker
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
        return Receipt(self._tracker, piece.log, piece.first + piece.size - (self._ends[i] - index))

    async def delivered(self, *, timeout: float | None = None) -> None:
        """Wait until every one is delivered; as Receipt.delivered."""
        await self._wait("delivered", timeout)

    async def read(self, *, timeout: float | None = None) -> None:
        """Wait until every one is read; as Receipt.read."""
        await self._wait("read", timeout)

    async def _wait(self, kind: Kind, timeout: float | None) -> None:
        clock = asyncio.get_running_loop().time
        deadline = None if timeout is None else clock() + timeout
        for piece in self._pieces:
            left = None if deadline is None else max(0.0, deadline - clock())
            last = piece.first + piece.size - 1  # a mark says "everything up to here"
            await self._tracker.wait(piece.log, last, by=None, count=None, timeout=left, kind=kind)

    def __repr__(self) -> str:
        return f"<Receipts of {len(self)} messages>"


# ---- ledger
#
# The ledger: who has which of our messages, who has read them, who waits for that, and what is told of it.
#
# A receipt is two numbers and a reference. Nothing is kept or woken for a message nobody asks about: the ledger holds,
# for each own log, who stands where; a future exists only while somebody waits for something not known yet. Levels only
# rise: what a member once had or read counts for ever.


Kind = Literal["delivered", "read"]
MOST_ASKED = 8  # messages of one log whose counts are kept up: what a thousand read at once; a guess


class ReceiptUpdate(NamedTuple):
    """These messages of one log came to `member`, or were read there, which makes it `having` of `of` for each."""

    log: LogId
    first: int
    last: int
    member: UserId
    having: int
    of: int
    kind: Kind = "delivered"


@dataclass(slots=True)
class _Waiter:
    """Somebody waits until `missing` is empty, or `needed` members have message `seq`."""

    seq: int
    missing: set[UserId]
    needed: int  # 0: all of `missing`
    done: asyncio.Future[None]
    one: bool = False  # for one member, whether it belongs there or not


@dataclass(slots=True)
class _MemberCount:
    """How many of these have a message; they are sorted."""

    of: tuple[UserId, ...]
    count: int


def _is_among(member: UserId, of: tuple[UserId, ...]) -> bool:
    at = bisect_left(of, member)
    return at < len(of) and of[at] == member


@dataclass(slots=True)
class _Positions:
    """How high each member stands in one own log, and who waits for more: of what is delivered, or of what is read."""

    marks: dict[UserId, int] = field(default_factory=dict)
    standing: dict[int, int] = field(default_factory=dict)  # how many stand at each number where somebody does
    asked: dict[int, _MemberCount] = field(default_factory=dict)  # by message: the last few, kept up as members rise
    heaps: dict[UserId, list[tuple[int, int, _Waiter]]] = field(default_factory=dict)
    counting: list[_Waiter] = field(default_factory=list)
    given_up: int = 0  # waits in heaps and counting that nobody waits for any more, at most

    def holding(self, seq: int) -> int:
        """Return how many stand at it or above, whoever they are."""
        return sum(count for mark, count in self.standing.items() if mark >= seq)

    def having(self, seq: int, of: tuple[UserId, ...]) -> int:
        """Return how many of those who count do: all who do where nobody is known to be waited for.

        It is asked with each of a room's thousands who rises, about the same message: they are counted once.
        """
        if not of:
            return self.holding(seq)
        asked = self.asked.get(seq)
        if asked is None or (asked.of is not of and asked.of != of):
            if len(self.asked) >= MOST_ASKED:
                del self.asked[next(iter(self.asked))]
            asked = self.asked[seq] = _MemberCount(of, self._counted_anew(seq, of))
        return asked.count

    def _counted_anew(self, seq: int, of: tuple[UserId, ...]) -> int:
        if len(self.marks) * 8 < len(of):  # hardly anybody has heard: of a gateway's thousands
            return sum(mark >= seq and _is_among(member, of) for member, mark in self.marks.items())
        return sum(self.marks.get(member, 0) >= seq for member in of)

    def set(self, member: UserId, last: int) -> None:
        """Note how high a member stands."""
        former, self.marks[member] = self.marks.get(member, 0), last
        self.standing[last] = self.standing.get(last, 0) + 1
        if former:
            self.standing[former] -= 1
            if not self.standing[former]:
                del self.standing[former]
        for seq, asked in self.asked.items():
            if former < seq <= last and _is_among(member, asked.of):
                asked.count += 1

    def rise(self, member: UserId, last: int) -> None:
        """A member stands higher: wake who waited for that."""
        self.set(member, last)
        heap = self.heaps.get(member)
        while heap and heap[0][0] <= last:
            _came(heapq.heappop(heap)[2], member)
        if self.counting:
            self.counting = [wait for wait in self.counting if not self._counted(wait)]

    def _counted(self, wait: _Waiter) -> bool:
        if not wait.done.done() and self.holding(wait.seq) >= wait.needed:
            wait.done.set_result(None)
        return wait.done.done()

    def register(self, wait: _Waiter, number: int) -> None:
        """Wake this one in time; `number` is greater than any before."""
        if wait.needed:
            self.counting.append(wait)
        for member in wait.missing:
            heapq.heappush(self.heaps.setdefault(member, []), (wait.seq, number, wait))

    def without(self, member: UserId, had: int) -> None:
        """A member is gone: who waits for all, waits for this one no more where they do not have the message."""
        for seq, _, wait in self.heaps.get(member, ()):
            if seq > had and not wait.one:
                _came(wait, member)

    def give_up(self, wait: _Waiter) -> None:
        """Whoever asks again and again for what does not come costs no memory: half of what is kept is waited for."""
        self.given_up += len(wait.missing) or 1
        if self.given_up * 2 <= len(self.counting) + sum(map(len, self.heaps.values())):
            return
        self.given_up = 0
        self.counting = [wait for wait in self.counting if not wait.done.done()]
        for member, heap in self.heaps.items():
            self.heaps[member] = [entry for entry in heap if not entry[2].done.done()]
            heapq.heapify(self.heaps[member])

    def close(self) -> None:
        waits = [*self.counting, *(entry[2] for heap in self.heaps.values() for entry in heap)]
        for wait in waits:
            if not wait.done.done():
                wait.done.set_exception(PeerClosed("the peer was closed"))
        self.counting.clear()
        self.heaps.clear()


def _came(wait: _Waiter, member: UserId) -> None:
    wait.missing.discard(member)
    if not wait.missing and not wait.done.done():
        wait.done.set_result(None)


@dataclass(slots=True)
class _LogReceipts:
    """One own log. Stretch i of what was said in it, starts[i] .. ends[i], waits for members[i], and programs hear of
    that when told[i]; between them are entries nobody said. Of a log of an earlier run no stretch is known.

    Among members[i], sorted, may be the writer, who does not count where there are others: one list serves all who
    write in a room. here[i] of them are users of this peer, who have what another of them wrote.
    """

    user: UserId
    starts: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    members: list[tuple[UserId, ...]] = field(default_factory=list)
    here: list[int] = field(default_factory=list)
    is_message: list[bool] = field(default_factory=list)
    delivered: _Positions = field(default_factory=_Positions)
    read: _Positions = field(default_factory=_Positions)
    earlier: dict[int, tuple[UserId, ...]] = field(default_factory=dict)  # whom messages of an earlier run wait for

    def level(self, kind: Kind) -> _Positions:
        return self.read if kind == "read" else self.delivered

    def keep(self, first: int, count: int, of: tuple[UserId, ...], here: int, is_message: bool) -> None:
        """So many entries from `first` on wait for these members."""
        if self.members and self.ends[-1] == first - 1 and (self.is_message[-1], self.here[-1]) == (is_message, here):
            if self.members[-1] is of or self.members[-1] == of:
                self.ends[-1] += count
                return
        self.starts.append(first)
        self.ends.append(first + count - 1)
        self.members.append(of)
        self.here.append(here)
        self.is_message.append(is_message)

    def of(self, seq: int) -> tuple[UserId, ...]:
        """Return whom a message waits for, without the writer."""
        of = self._of(seq)
        if _counted(of, self.user) == len(of):
            return of
        return tuple(member for member in of if member != self.user)

    def _of(self, seq: int) -> tuple[UserId, ...]:
        i = bisect_right(self.starts, seq) - 1
        return self.members[i] if i >= 0 else self.earlier.get(seq, ())

    def count(self, seq: int, kind: Kind) -> tuple[int, int]:
        """Return how many of those who count stand at this message or above, and how many count."""
        of, level = self._of(seq), self.level(kind)
        having = level.having(seq, of)
        if kind == "delivered" and (i := bisect_right(self.starts, seq) - 1) >= 0:
            having += self.here[i]
        return having, _counted(of, self.user)

    def without(self, member: UserId) -> None:
        """A member is gone: what they do not have waits for them no more."""
        had = self.delivered.marks.get(member, 0)
        parts = list(zip(self.starts, self.ends, self.members, self.here, self.is_message, strict=True))
        for i in range(len(parts) - 1, -1, -1):
            start, end, of, here, is_message = parts[i]
            if member not in of or end <= had:
                continue
            rest = tuple(user for user in of if user != member)
            cut = [(start, had, of, here, is_message)] if start <= had else []
            parts[i : i + 1] = [*cut, (max(start, had + 1), end, rest, here, is_message)]
        self.starts, self.ends = [part[0] for part in parts], [part[1] for part in parts]
        self.members, self.here = [part[2] for part in parts], [part[3] for part in parts]
        self.is_message = [part[4] for part in parts]
        for seq, of in self.earlier.items():
            if seq > had:
                self.earlier[seq] = tuple(user for user in of if user != member)
        self.delivered.without(member, had)
        self.read.without(member, had)

    def is_here(self, user: UserId, *, was: bool = False) -> None:
        """What waits for this user it has, being one of this peer's; `was`: it counts in `here` until now."""
        had = self.delivered.marks.get(user, 0)
        waiting = [i for i, of in enumerate(self.members) if self.ends[i] > had and _is_among(user, of)]
        if not waiting or user == self.user:
            return
        for i in waiting if was else ():
            self.here[i] -= 1
        self.delivered.rise(user, self.ends[waiting[-1]])

    def stretches(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """Yield the messages among first..last."""
        if not self.starts:
            yield first, last
        for i in range(max(0, bisect_right(self.starts, first) - 1), len(self.starts)):
            if self.starts[i] > last:
                break
            if self.ends[i] >= first and self.is_message[i]:
                yield max(first, self.starts[i]), min(last, self.ends[i])


def _counted(of: tuple[UserId, ...], writer: UserId) -> int:
    """Return how many of these a message of this writer waits for; they are sorted."""
    return len(of) - (len(of) > 1 and _is_among(writer, of))


@dataclass(slots=True)
class _SharedReceipts:
    """What all users of a peer share of a ledger."""

    logs: dict[LogId, _LogReceipts] = field(default_factory=dict)
    numbers: Iterator[int] = field(default_factory=lambda: counting(1))  # break ties in heaps
    hosted: AbstractSet[UserId] = frozenset()  # users of this peer, where there are several: what is here they have
    closed: bool = False


class ReceiptTracker:
    """Who has which of our messages, and who has read them, by log, member and highest number."""

    __slots__ = ("_shared", "_logs", "people")

    def __init__(self, people: UserDirectory) -> None:
        self.people = people
        self._shared = _SharedReceipts()
        self._logs = self._shared.logs

    def seen_by(self, people: UserDirectory) -> ReceiptTracker:
        """Return the same ledger, which speaks of people as another user of this peer sees them."""
        other = ReceiptTracker(people)
        other._shared, other._logs = self._shared, self._logs
        return other

    def share(self, hosted: AbstractSet[UserId]) -> None:
        """These are the users of this peer, a live view: each has what another of them has written."""
        self._shared.hosted = hosted

    def hosted(self, user: UserId) -> None:
        """A user is one of this peer from now on: what was written here to it, it has, for ever."""
        for own in self._logs.values():
            own.is_here(user)

    def unhosted(self, user: UserId) -> None:
        """A user is one of this peer no longer: what it had as one of them, it has."""
        for own in self._logs.values():
            own.is_here(user, was=True)

    def _is_here(self, log: LogId, member: UserId) -> bool:
        return member in self._shared.hosted and member != log.user

    def kept(
        self, log: LogId, first: int, count: int, of: tuple[UserId, ...], here: tuple[UserId, ...] = (), *,
        is_message: bool = True,
    ) -> list[ReceiptUpdate]:  # fmt: skip
        """So many entries from `first` on are accepted and wait for these members; `is_message`: they are messages.

        Args:
            here: Those of them who have it already: users of this peer. Of `of` and `here` the writer does not count.
        Returns:
            What to tell of those: one for all of them, in the name of the last, so that a thousand cost what one does.
        """
        own = self._own(log)
        if not here:
            own.keep(first, count, of, 0, is_message)
            return []
        having = _counted(here, log.user) if len(here) > 1 or here[0] != log.user else 0
        own.keep(first, count, of, having, is_message)
        if not having or not is_message:
            return []
        member = here[-1] if here[-1] != log.user else here[-2]
        return [ReceiptUpdate(log, first, first + count - 1, member, having, _counted(of, log.user))]

    def _own(self, log: LogId) -> _LogReceipts:
        own = self._logs.get(log)
        if own is None:
            own = self._logs[log] = _LogReceipts(log.user)
        return own

    def heard(
        self,
        log: LogId,
        marks: Iterable[tuple[UserId, int]],
        of: tuple[UserId, ...],
        read: Iterable[tuple[UserId, int]] = (),
        *,
        seq: int,
    ) -> None:
        """Take what storage knows of message `seq` of a log of an earlier run."""
        own = self._own(log)
        own.earlier[seq] = of
        for level, heard in ((own.delivered, marks), (own.read, read)):
            for member, highest in heard:
                level.set(member, max(highest, level.marks.get(member, 0)))

    def said(self, log: LogId, seq: int) -> bool:
        """Whether this was accepted in this run, so that all is known of it."""
        return self.wrote(log) and self._logs[log].starts[0] <= seq <= self._logs[log].ends[-1]

    def wrote(self, log: LogId) -> bool:
        """Whether this is a log of this run, so that all its messages are known."""
        return log in self._logs and bool(self._logs[log].starts)

    def delivered(
        self, log: LogId, first: int, last: int, member: UserId, others: tuple[UserId, ...] = ()
    ) -> list[ReceiptUpdate]:
        """`member` has entries first..last now, and so have others of the same peer; wake who waited.

        Returns what to tell: of all of them in the name of `member`.
        """
        if not others:
            return self._rise(log, first, last, member, "delivered")
        level = self._own(log).delivered
        risen = [one for one in others if level.marks.get(one, 0) < last and not self._is_here(log, one)]
        for one in risen:
            level.rise(one, last)
        updates = self._rise(log, first, last, member, "delivered")
        return updates or (self._told(log, first, last, risen[-1], "delivered") if risen else [])

    def read(self, log: LogId, first: int, last: int, member: UserId) -> list[ReceiptUpdate]:
        """`member` has read entries first..last now; wake who waited, return what to tell."""
        return self._rise(log, first, last, member, "read")

    def _rise(self, log: LogId, first: int, last: int, member: UserId, kind: Kind) -> list[ReceiptUpdate]:
        own = self._own(log)
        level = own.level(kind)
        if last <= level.marks.get(member, 0) or (kind == "delivered" and self._is_here(log, member)):
            return []
        level.rise(member, last)
        return self._told(log, first, last, member, kind)

    def _told(self, log: LogId, first: int, last: int, member: UserId, kind: Kind) -> list[ReceiptUpdate]:
        own = self._own(log)
        parts = own.stretches(first, last)
        return [rise for part in parts for rise in self._rises(own, log, part[0], part[1], member, kind)]

    def _rises(
        self, own: _LogReceipts, log: LogId, first: int, last: int, member: UserId, kind: Kind
    ) -> Iterator[ReceiptUpdate]:
        """Cut first..last, which lie in one stretch, where the count changes."""
        level = own.level(kind)
        cuts = {mark + 1 for mark in level.standing if first <= mark < last}
        edges = [first, *sorted(cuts), last + 1]
        for start, end in pairwise(edges):
            having, of = own.count(start, kind)
            yield ReceiptUpdate(
                log, start, end - 1, member, having, of or max(having, own.delivered.holding(start)), kind
            )

    def gone(self, conversation: ConversationId, member: UserId) -> None:
        """Somebody is no member any more: what they do not have waits for them no more."""
        for log, own in self._logs.items():
            if log.conversation == conversation:
                own.without(member)

    def members(self, log: LogId, seq: int) -> tuple[UserId, ...]:
        """Return whom the receipt of this message waits for; () when nobody is known."""
        own = self._logs.get(log)
        return own.of(seq) if own else ()

    def holders(self, log: LogId, seq: int, kind: Kind = "delivered") -> list[UserId]:
        """Return every member known to have it, or to have read it."""
        own = self._logs.get(log)
        if own is None:
            return []
        known = [member for member, mark in own.level(kind).marks.items() if mark >= seq]
        if kind == "delivered" and len(self._shared.hosted) > 1:
            known += [member for member in own.of(seq) if self._is_here(log, member) and member not in known]
        return known

    async def wait(
        self, log: LogId, seq: int, *, by: UserId | None, count: int | None, timeout: float | None,
        kind: Kind = "delivered",
    ) -> None:  # fmt: skip
        """Wait for one member, or so many, or all."""
        own = self._own(log)
        if own.ends and seq > own.ends[-1]:
            await asyncio.sleep(0)  # it is promised only: the core takes it in this turn of the loop
        level = own.level(kind)
        wanted = (by,) if by is not None else own.of(seq)
        if count is None and not wanted:
            count = 1  # nobody was there: the first who comes
        here = {member for member in wanted if kind == "delivered" and self._is_here(log, member)}
        missing = {member for member in wanted if level.marks.get(member, 0) < seq} - here if count is None else set()
        count = None if count is None else count - len(here)
        if not missing and (count is None or level.holding(seq) >= count):
            return
        if self._shared.closed:
            raise PeerClosed("the peer was closed")
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        wait = _Waiter(seq, missing, count or 0, future, one=by is not None)
        level.register(wait, next(self._shared.numbers))
        try:
            await asyncio.wait_for(wait.done, timeout)
        except TimeoutError:
            lacking = wait.missing or {member for member in own.of(seq) if level.marks.get(member, 0) < seq} - here
            labels = sorted(self.people.label(member) for member in lacking)
            raise DeliveryTimeout(message_id(log, seq), labels) from None
        finally:
            if wait.done.cancelled():
                level.give_up(wait)

    def close(self) -> None:
        """Nothing more will be heard: whoever waits gets PeerClosed."""
        self._shared.closed = True
        for own in self._logs.values():
            own.delivered.close()
            own.read.close()
