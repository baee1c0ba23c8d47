"""Delivery and read receipts of one's own messages, and the wait for them: who has a message, and who lacks it.

A Receipt holds no state: its properties read the ReceiptTracker. The tracker keeps, for each log of one's own,
the number up to which each member has it and has read it. Nothing is kept for a single message; a future exists only
while a call waits for something that is not known yet. Positions only advance: a message that a member had or read once
counts permanently.

In the room a gateway's thousands of users have a message at one moment. So there the positions are those of peers: a
message has come to the users whom such a peer hosted when it was written, and to others while it hosts them.
"""

from __future__ import annotations

import asyncio
from asyncio import Future
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from itertools import islice, pairwise
from math import inf
from operator import attrgetter
from typing import TYPE_CHECKING, Literal, NamedTuple, overload

from p2pchat.bounded import remember
from p2pchat.core.effects import Guests
from p2pchat.core.log import Entry, FileRef, LogId, attachments_of, decode_entry, message_id
from p2pchat.core.node import Node
from p2pchat.errors import DeliveryTimeout, PeerClosed, UnknownName
from p2pchat.messaging.access_policy import audience_of
from p2pchat.messaging.users import check_timeout, id_of
from p2pchat.protocol import ConversationId, UserId
from p2pchat.runtime.storage_worker import resolve
from p2pchat.storage.contract import ReleasedEntry

if TYPE_CHECKING:
    from p2pchat.messaging.users import User, UserDirectory
    from p2pchat.runtime.driver import Driver
    from p2pchat.storage.sql_storage import SqlStorage

Kind = Literal["delivered", "read"]
AwaitedKind = Literal["delivered", "read", "files"]
Position = tuple[LogId, int]  # log and number of an entry
Positions = Sequence[tuple[UserId, int]]  # the number up to which each user has, or has read, one log
MAX_WITH_FILES = 10_000  # messages whose attachments are remembered; a guess: 5 MiB
FEW_MEMBERS = 2  # of a direct conversation; a gateway's users have thousands of these
NOBODY: dict[Future[None], Callable[[], bool]] = {}
MAX_COUNTED = 8  # messages of one log whose counts are kept: what a thousand members read at once; a guess


class Receipt:
    """The receipt of one message, which is accepted: stored on this disk, or for a peer in memory in its memory.

    Args:
        written: The position of the message's entry, or a future for it, of a peer in memory.
        repeated: True if the call wrote nothing, because the message was written before, with the same key.
    """

    __slots__ = ("_people", "_tracker", "_written", "repeated")

    def __init__(
        self, tracker: ReceiptTracker, people: UserDirectory, written: Position | Future[Position],
        repeated: bool = False,
    ) -> None:  # fmt: skip
        self._tracker = tracker
        self._people = people
        self._written = written
        self.repeated: bool = repeated

    @property
    def log(self) -> LogId:
        """The log of the message's entry."""
        return self._position[0]

    @property
    def seq(self) -> int:
        """The number of that entry in the log."""
        return self._position[1]

    @property
    def _position(self) -> Position:
        if isinstance(self._written, Future):
            self._written = self._tracker.outcome(self._written)
        return self._written

    @property
    def id(self) -> str:
        """The id of the message, the same on every peer."""
        return message_id(self.log, self.seq)

    @property
    def of(self) -> list[User]:
        """The members it is for: the other user; in the room all who were online when it was accepted; [] for none."""
        return self._users(self._members)

    @property
    def delivered_to(self) -> list[User]:
        """The users whose peers are known to have it on disk."""
        return self._users(self._holders("delivered"))

    @property
    def missing(self) -> list[User]:
        """The members in `of` who are not known to have it yet; `User.cause` says why."""
        holders = self._holders("delivered")
        return self._users(member for member in self._members if member not in holders)

    @property
    def read_by(self) -> list[User]:
        """The users who are known to have read it. Users who turned read receipts off are never among them."""
        return self._users(self._holders("read"))

    @property
    def files_delivered_to(self) -> list[User]:
        """The users known to have all files of the message on disk, verified; [] for a message without files.

        The message is delivered by itself, before its files. A user who removes one is not among them any more.
        """
        return self._users(self._tracker.holders_of_files(self.log, self.seq))

    @property
    def status(self) -> str:
        """`read` or `delivered` if that is true of all members in `of` (of any user if `of` is empty), else
        `accepted`."""
        for kind in ("read", "delivered"):
            holders = self._holders(kind)
            if holders and set(self._members) <= set(holders):
                return kind
        return "accepted"

    @property
    def _members(self) -> tuple[UserId, ...]:
        return self._tracker.members(self.log, self.seq)

    def _holders(self, kind: Kind) -> list[UserId]:
        return self._tracker.holders(self.log, self.seq, kind)

    def _users(self, ids: Iterable[UserId]) -> list[User]:
        return [self._people.user(id) for id in ids]

    async def delivered(
        self, *, by: User | str | None = None, count: int | None = None, timeout: float | None = None
    ) -> None:
        """Wait until the message is stored on the disks of others.

        Without `by` and `count` it waits for all members in `of`; if there are none, for the first user who gets it.

        Args:
            by: Wait for one member, given by name or as User.
            count: Wait for this many members.
            timeout: Seconds; None to wait without a limit.
        Raises:
            DeliveryTimeout: Not in time; `.missing` has the labels of those who lack it. It will still arrive.
            PeerClosed: The peer was closed.
            UnknownName, AmbiguousName: `by` names no user, or several.
            ValueError: It is the writer, whose own copy is not counted.
        """
        await self._wait("delivered", by, count, timeout)

    async def read(
        self, *, by: User | str | None = None, count: int | None = None, timeout: float | None = None
    ) -> None:
        """Wait until the message is marked as read. Arguments and errors are those of `delivered`."""
        await self._wait("read", by, count, timeout)

    async def files_delivered(
        self, *, by: User | str | None = None, count: int | None = None, timeout: float | None = None
    ) -> None:
        """Wait until all files of the message are on the disks of others, whole and verified.

        Arguments and errors are those of `delivered`. A message without files waits for nothing.

        Raises:
            DeliveryTimeout: Not in time; `.missing` has the labels of those who lack a file.
        """
        if self._tracker.has_files(self.log, self.seq):
            await self._wait("files", by, count, timeout)

    async def stored_by(self, *peers: str, timeout: float | None = None) -> None:
        """Wait until one of these peers has the message on its disk: another one that acts for the writer.

        It is known of linked peers only.

        Args:
            peers: Ids of peers, as in `HostPeer.id`.
            timeout: Seconds; None to wait without a limit.
        Raises:
            DeliveryTimeout: Not in time; `.missing` has the ids. It will still arrive.
            PeerClosed: The peer was closed.
            ValueError: That is no id of a peer.
        """
        await self._tracker.wait_stored(self.log, self.seq, peers, timeout)

    async def _wait(self, kind: AwaitedKind, by: User | str | None, count: int | None, timeout: float | None) -> None:
        if by is not None and count is not None:
            raise ValueError("either by or count, not both")
        if count is not None and count < 1:
            raise ValueError("count begins at 1")
        member = None if by is None else self._member(by)
        log, seq = self._position
        if log.user != self._people.me:
            return  # another wrote it: nobody is waited for
        await self._tracker.wait(self._people, log, seq, by=member, count=count, timeout=timeout, kind=kind)

    def _member(self, by: User | str) -> UserId:
        user = self._people.find(by) if isinstance(by, str) else by
        if user.key == self.log.user and user.key not in self._members:
            raise ValueError(f"{user.label} wrote the message: one's own copy is not counted as delivered or read")
        is_other = user.key not in self._members and user.key not in self._holders("delivered")
        if isinstance(by, str) and self._members and is_other:
            raise UnknownName(by, text=f"the message was not for {user.label}")
        return user.key

    def __repr__(self) -> str:
        return f"<Receipt {self.id} {self.status}>"


class Receipts(Sequence[Receipt]):
    """The receipts of send_many, in the order of the texts."""

    def __init__(self, receipts: list[Receipt]) -> None:
        self._receipts = receipts

    def __len__(self) -> int:
        return len(self._receipts)

    @overload
    def __getitem__(self, index: int) -> Receipt: ...
    @overload
    def __getitem__(self, index: slice) -> list[Receipt]: ...
    def __getitem__(self, index: int | slice) -> Receipt | list[Receipt]:
        return self._receipts[index]

    async def delivered(self, *, timeout: float | None = None) -> None:
        """Wait until every message is delivered; see Receipt.delivered."""
        await self._wait("delivered", timeout)

    async def read(self, *, timeout: float | None = None) -> None:
        """Wait until every message is read; see Receipt.read."""
        await self._wait("read", timeout)

    async def _wait(self, kind: Kind, timeout: float | None) -> None:
        check_timeout(timeout)
        clock = asyncio.get_running_loop().time
        deadline = None if timeout is None else clock() + timeout
        last_of_logs = {receipt.log: receipt for receipt in self._receipts}  # a mark covers every message up to it
        for last in last_of_logs.values():
            left = None if deadline is None else max(0.0, deadline - clock())
            await last._wait(kind, None, None, left)

    def __repr__(self) -> str:
        return f"<Receipts of {len(self)} messages>"


# ---- the positions of members in one log


class ReceiptUpdate(NamedTuple):
    """Messages of one log that `member` got, or read; `having` of `of` members now have each of them."""

    log: LogId
    first: int
    last: int
    member: UserId
    having: int
    of: int
    kind: Kind = "delivered"


_first_of = attrgetter("first")


@dataclass(slots=True)
class _MemberCount:
    """The number of these members, which are sorted, who have a message."""

    of: tuple[UserId, ...]
    count: int


def _is_among(member: UserId, of: tuple[UserId, ...]) -> bool:
    at = bisect_left(of, member)
    return at < len(of) and of[at] == member


def _count_without(writer: UserId, of: tuple[UserId, ...]) -> int:
    """Return how many members, which are sorted, a message of this writer waits for."""
    return len(of) - (len(of) > 1 and _is_among(writer, of))


@dataclass(slots=True)
class _Positions:
    """The position of each member in one log of one's own, of deliveries or of reads.

    Of deliveries in the room they are those of peers, and of users who came to be users here, or were.
    """

    marks: dict[UserId, int] = field(default_factory=dict)
    members_at: dict[int, int] = field(default_factory=dict)  # the number of members at each position
    counted: dict[int, _MemberCount] = field(default_factory=dict)  # of the last few messages asked for

    def having(self, seq: int, of: tuple[UserId, ...]) -> int:
        """Return how many of these members are at a message or beyond it.

        It is called with each of a room's thousands of members about the same message, and counts them once.
        """
        counted = self.counted.get(seq)
        if counted is None or (counted.of is not of and counted.of != of):
            counted = _MemberCount(of, self._count(seq, of))
            remember(self.counted, seq, counted, MAX_COUNTED)
        return counted.count

    def _count(self, seq: int, of: tuple[UserId, ...]) -> int:
        if len(self.marks) * 8 < len(of):  # hardly any of a gateway's thousands of users has it yet
            return sum(mark >= seq and _is_among(member, of) for member, mark in self.marks.items())
        return sum(self.marks.get(member, 0) >= seq for member in of)

    def set(self, member: UserId, last: int) -> None:
        """Set the position of a member."""
        former, self.marks[member] = self.marks.get(member, 0), last
        self.members_at[last] = self.members_at.get(last, 0) + 1
        if former:
            self.members_at[former] -= 1
            if not self.members_at[former]:
                del self.members_at[former]
        for seq, counted in self.counted.items():
            if former < seq <= last and _is_among(member, counted.of):
                counted.count += 1


@dataclass(slots=True)
class _Stretch:
    """Consecutive entries of one log that wait for the same members.

    Attributes:
        of: The members, sorted. The writer may be among them and does not count where there are others: one tuple
            serves all who write in a room.
        here: The number of them that are users of this peer, and so have each other's messages.
        is_message: Receipts cause events.
        guests: In the room, those of them who have it once a peer has it that hosted them when it was written.
    """

    first: int
    last: int
    of: tuple[UserId, ...]
    here: int
    is_message: bool
    guests: Guests = ()


@dataclass(slots=True)
class _LogReceipts:
    """The receipts of one log of one's own. Stretches are known of this run; entries between them are not writes."""

    user: UserId
    stretches: list[_Stretch] = field(default_factory=list)
    delivered: _Positions = field(default_factory=_Positions)
    read: _Positions = field(default_factory=_Positions)
    earlier: dict[int, tuple[UserId, ...]] = field(default_factory=dict)  # members, by entry of an earlier run
    changes: set[int] = field(default_factory=set)  # those of these entries that are no messages
    # By seq: the calls that wait, and what each waits for, which may become true when wake() is called.
    waiting: dict[int, dict[Future[None], Callable[[], bool]]] = field(default_factory=dict)

    def wake(self, first: int, last: int | None = None) -> None:
        """Look again at what calls wait for of entries first..last, or of all from the first on."""
        seqs: Iterable[int] = range(first, (last or 0) + 1)
        if last is None or last - first > len(self.waiting):
            seqs = [seq for seq in self.waiting if seq >= first and (last is None or seq <= last)]
        for seq in seqs:
            for done, is_true in self.waiting.get(seq, NOBODY).items():
                if not done.done() and is_true():
                    done.set_result(None)

    def close(self) -> None:
        for waiting in self.waiting.values():
            for done in waiting:
                if not done.done():
                    done.set_exception(PeerClosed("the peer was closed"))

    def positions(self, kind: Kind) -> _Positions:
        return self.read if kind == "read" else self.delivered

    def continues(
        self, first: int, count: int, of: tuple[UserId, ...], here: int, is_message: bool, guests: Guests = ()
    ) -> bool:
        """Add entries that wait for these members. Return whether the last ones waited for the same."""
        if self.stretches:
            end = self.stretches[-1]
            if end.last == first - 1 and end.is_message == is_message and end.here == here:
                if (end.of is of or end.of == of) and (end.guests is guests or end.guests == guests):
                    end.last += count
                    return True
        self.stretches.append(_Stretch(first, first + count - 1, of, here, is_message, guests))
        return False

    def _find(self, seq: int) -> _Stretch | None:
        stretches = self.stretches
        if stretches and stretches[-1].first <= seq:
            return stretches[-1]
        i = bisect_right(stretches, seq, key=_first_of) - 1
        return stretches[i] if i >= 0 else None

    def members(self, seq: int) -> tuple[UserId, ...]:
        """Return the members that a message waits for, without the writer."""
        of = self._members(seq)
        if len(of) < 2 or not _is_among(self.user, of):
            return of
        return tuple(member for member in of if member != self.user)

    def guests(self, seq: int) -> Guests:
        """Return those of them who have a message once a peer has it that hosted them when it was written."""
        stretch = self._find(seq)
        return () if stretch is None else stretch.guests

    def waits_for(self, seq: int, member: UserId) -> bool:
        """Return whether a message waits for a member; true of anyone if its members are not known."""
        of = self._members(seq)
        return not of or _is_among(member, of)

    def is_message(self, seq: int) -> bool:
        """Return whether an entry is a message, and not an edit, a profile or the like."""
        stretch = self._find(seq)
        if stretch is None:
            return not (self.stretches or seq in self.changes)
        return stretch.is_message and seq <= stretch.last

    def _members(self, seq: int) -> tuple[UserId, ...]:
        stretch = self._find(seq)
        return self.earlier.get(seq, ()) if stretch is None else stretch.of

    def count(self, seq: int, kind: Kind) -> tuple[int, int]:
        """Return how many members have a message, and how many it waits for."""
        of = self._members(seq)
        having = self.positions(kind).having(seq, of)
        if kind == "delivered" and (stretch := self._find(seq)) is not None:
            having += stretch.here + self._count_guests(seq, stretch.guests)
        return having, _count_without(self.user, of)

    def has(self, seq: int, member: UserId) -> bool:
        """Return whether a member has a message by its own position, or by a peer that hosted it then."""
        peers = next((peers for peers, users in self.guests(seq) if _is_among(member, users)), ())
        return any(self.delivered.marks.get(holder, 0) >= seq for holder in (member, *peers))

    def _count_guests(self, seq: int, guests: Guests) -> int:
        """Return how many of these have a message by a peer that hosted them, and not by themselves."""
        having = [member for member, mark in self.delivered.marks.items() if mark >= seq] if guests else []
        return sum(
            len(users) - sum(_is_among(member, users) for member in having)
            for peers, users in guests
            if not set(peers).isdisjoint(having)
        )

    def remove_member(self, member: UserId) -> None:
        """Stop waiting for a member who left, for messages that they do not have."""
        had = self.delivered.marks.get(member, 0)
        stretches: list[_Stretch] = []
        for stretch in self.stretches:
            if member not in stretch.of or stretch.last <= had:
                stretches.append(stretch)
                continue
            if stretch.first <= had:
                stretches.append(replace(stretch, last=had))
            rest = tuple(user for user in stretch.of if user != member)
            stretches.append(replace(stretch, first=max(stretch.first, had + 1), of=rest))
        self.stretches = stretches
        for seq, of in self.earlier.items():
            if seq > had:
                self.earlier[seq] = tuple(user for user in of if user != member)
        self.wake(had + 1)

    def deliver_here(self, user: UserId, *, was_hosted: bool = False) -> None:
        """Count everything that waits for a user as delivered; `was_hosted`: it is counted in `here` until now."""
        had = self.delivered.marks.get(user, 0)
        waiting = [stretch for stretch in self.stretches if stretch.last > had and _is_among(user, stretch.of)]
        if not waiting or user == self.user:
            return
        for stretch in waiting if was_hosted else ():
            stretch.here -= 1
        self.delivered.set(user, waiting[-1].last)
        self.wake(had + 1)

    def messages(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """Yield the ranges of messages among first..last."""
        if not self.stretches:
            yield first, last
        begin = max(0, bisect_right(self.stretches, first, key=_first_of) - 1)
        for stretch in islice(self.stretches, begin, None):
            if stretch.first > last:
                break
            if stretch.last >= first and stretch.is_message:
                yield max(first, stretch.first), min(last, stretch.last)


# ---- all logs


class _Deadlines:
    """Futures that fail after some time. One timer serves all of them, since nearly all are done long before.

    Attributes:
        ends: When, by future. Whoever has no use for one any more removes it.
    """

    def __init__(self) -> None:
        self.ends: dict[Future[None], float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._due = inf  # when that fires

    def future(self, timeout: float | None) -> Future[None]:
        """Return a future that gets a TimeoutError after so many seconds."""
        loop = asyncio.get_running_loop()
        made: Future[None] = loop.create_future()
        if timeout is not None:
            self.ends[made] = end = loop.time() + timeout
            if end < self._due:
                self._watch(loop, end)
        return made

    def _watch(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._due, self._timer = due, loop.call_at(due, self._on_due, loop)

    def _on_due(self, loop: asyncio.AbstractEventLoop) -> None:
        for future in [future for future, end in self.ends.items() if end <= self._due]:
            del self.ends[future]
            resolve(future, None, TimeoutError())
        self._due = inf
        if self.ends:
            self._watch(loop, min(self.ends.values()))


def _are_enough(of: Collection[UserId], having: Collection[UserId], least: int | None) -> bool:
    """Return whether at least so many members have something; None for all of these."""
    return {*having}.issuperset(of) if least is None else len(having) >= least


class ReceiptTracker:
    """The members that have each of one's own messages, and those that have read it.

    Attributes:
        taken: The users of this peer whose clients take messages from it, and up to which place they have taken all of
            their direct and group messages, on disk. To these a message is delivered when it is taken; to the other
            users of this peer when it is written. Nothing is taken in the room: it is for those who are online.
        taken_before: The same, as it was when this run began: what they had taken until then was reported then.
    """

    def __init__(self) -> None:
        self.taken: dict[UserId, int] = {}
        self.taken_before: dict[UserId, int] = {}
        self._logs: dict[LogId, _LogReceipts] = {}
        self._of_few: dict[UserId, dict[LogId, None]] = {}  # logs with entries for a few members, by each of these
        self._of_many: dict[LogId, None] = {}  # logs with entries for more
        self._files: dict[tuple[LogId, int], tuple[FileRef, ...]] = {}  # of messages asked about or sent in this run
        self._hosted: AbstractSet[UserId] = frozenset()  # the users of this peer, where there are several
        self._driver: Driver | None = None
        self._room: ConversationId = ""
        self._unanswered: Callable[[], str] = str
        self._closed = False
        self._deadlines = _Deadlines()

    # ---- users of this peer

    def open(self, driver: Driver, unanswered: Callable[[], str]) -> None:
        """Ask the core of this driver for the users of this peer, for the room, and for who has its messages.

        `unanswered` returns where nobody answers, as the end of an error.
        """
        self._driver, self._hosted, self._unanswered = driver, driver.node.hosted.keys(), unanswered
        self._room = driver.node.room

    def _running(self) -> Driver:
        if self._driver is None:
            raise PeerClosed("the peer has not been started")
        return self._driver

    def outcome(self, written: Future[Position]) -> Position:
        """Return the position of what a peer in memory has accepted: its core writes it now, if it has not yet."""
        if not written.done():
            self._running().write_now()
        return written.result()

    def is_in_room(self, log: LogId) -> bool:
        """Return whether a log is one of the room."""
        return log.conversation == self._room

    def deliver_when_taken(self, user: UserId, place: int) -> None:
        """Count messages as delivered to a user of this peer when they are taken; so far up to this place."""
        room = self._room
        for log in self._logs_for(user) if user not in self.taken else ():
            if log.conversation != room:
                self._logs[log].deliver_here(user, was_hosted=True)
        self.taken[user] = self.taken_before[user] = place

    def take(self, log: LogId, first: int, last: int, member: UserId) -> list[ReceiptUpdate]:
        """Note that a user of this peer took entries first..last, or anybody read them; return what is to be reported.

        In the room a reader may have them by a peer that did not host it when they were written.
        """
        if self.is_in_room(log):
            has_them = self._is_here(log, member) or self._of(log).has(last, member)
            return [] if has_them else self.delivered(log, first, last, member)
        had = self._of(log).delivered.marks.get(member, 0)
        if not self.takes(log, member) or last <= had:
            return []
        return self._advance(log, max(first, had + 1), last, (member,), "delivered")

    def takes(self, log: LogId, member: UserId) -> bool:
        """Return whether entries of a log are delivered to a member when they are taken here."""
        return member in self.taken and member != log.user and log.conversation != self._room

    def holders_at(self, place: int, writer: UserId, members: Iterable[UserId]) -> set[UserId]:
        """Return those of these members who have taken the message of a writer at a place; nobody who blocks them."""
        blocking = () if self._driver is None else self._driver.node.blocks.by_any(writer, members)
        return {one for one in members if self.taken.get(one, -1) >= place and one not in blocking}

    def hosted(self, user: UserId, taken: int | None) -> None:
        """Count messages already written here as delivered to a user who is hosted from now on.

        Args:
            taken: Only those up to this place are, and others when they are taken; None for all.
        """
        if taken is not None:
            self.taken[user] = self.taken_before[user] = taken
            return
        for log in self._logs_for(user):
            self._logs[log].deliver_here(user)

    def unhosted(self, user: UserId) -> None:
        """Keep messages as delivered to a user who is no longer hosted."""
        for log in self._logs_for(user):
            if not self.takes(log, user):
                self._logs[log].deliver_here(user, was_hosted=True)
        self.taken.pop(user, None)

    def _logs_for(self, user: UserId) -> Iterable[LogId]:
        """Return the logs in which entries of this run may wait for a user, and few others."""
        return {**self._of_few.get(user, {}), **self._of_many}

    def _is_here(self, log: LogId, member: UserId) -> bool:
        """Return whether a member has each message of a log when it is written."""
        return member in self._hosted and member != log.user and not self.takes(log, member)

    # ---- what happens

    def add(
        self, log: LogId, first: int, count: int, of: tuple[UserId, ...], here: tuple[UserId, ...] = (), *,
        guests: Guests = (), is_message: bool = True,
    ) -> list[ReceiptUpdate]:  # fmt: skip
        """Add accepted entries that wait for members; return the updates to report.

        There is one update for each member in `here`; in the room one for all, naming the last of them, so that a
        thousand users cost no more than one. The writer does not count.

        Args:
            here: The members who have the entries already, as users of this peer.
            guests: The members whom other peers than their own host.
        """
        if is_message and self.taken and log.conversation != self._room:
            here = tuple(member for member in here if not self.takes(log, member))
        having = _count_without(log.user, here) if here and here != (log.user,) else 0
        if not self._of(log).continues(first, count, of, having, is_message, guests):
            if len(of) > FEW_MEMBERS:
                self._of_many[log] = None
            else:
                for member in of:
                    self._of_few.setdefault(member, {})[log] = None
        if not having or not is_message:
            return []
        wanted, last = _count_without(log.user, of), first + count - 1
        if log.conversation == self._room:
            member = here[-1] if here[-1] != log.user else here[-2]
            return [ReceiptUpdate(log, first, last, member, having, wanted)]
        members = (member for member in here if member != log.user)
        return [ReceiptUpdate(log, first, last, member, n, wanted) for n, member in enumerate(members, 1)]

    def load(
        self, log: LogId, seq: int, of: tuple[UserId, ...], marks: Positions, read: Positions, shown: ReleasedEntry
    ) -> None:  # fmt: skip
        """Take from storage one entry of an earlier run, its members, and the positions in its log."""
        receipts = self._of(log)
        receipts.earlier[seq] = of
        self.note_files(log, seq, attachments_of(decode_entry(shown.raw)))
        if not decode_entry(shown.raw).is_message:
            receipts.changes.add(seq)
        else:
            here = [(member, seq) for member in self.holders_at(shown.place, log.user, of) if self.takes(log, member)]
            takes = [(member, mark) for member, mark in read if self.is_in_room(log) or self.takes(log, member)]
            marks = [*marks, *here, *takes]  # who has read a message has it
        for positions, stored in ((receipts.delivered, marks), (receipts.read, read)):
            for member, highest in stored:
                positions.set(member, max(highest, positions.marks.get(member, 0)))

    def delivered(
        self, log: LogId, first: int, last: int, member: UserId, others: tuple[UserId, ...] = (), *,
        is_reported: bool = True,
    ) -> list[ReceiptUpdate]:  # fmt: skip
        """Note that `member` and `others`, users of one peer, have entries first..last; wake the calls that wait.

        Returns the updates to report: of each of these users; in the room, where `member` is the peer, of one for all.
        None unless they are reported, since who has a message is counted for them.
        """
        if not self.is_in_room(log):
            return self._advance(log, first, last, (*others, member), "delivered", is_reported=is_reported)
        receipts = self._of(log)
        had = receipts.delivered.marks.get(member, 0)  # perhaps more: its mark that it read them came first
        if last <= had:
            return []
        receipts.delivered.set(member, last)
        receipts.wake(first, last)
        return self._updates(log, max(first, had + 1), last, [member], "delivered") if is_reported else []

    def read(self, log: LogId, first: int, last: int, member: UserId) -> list[ReceiptUpdate]:
        """Note that `member` has read entries first..last; wake the calls that wait, return the updates to report."""
        return self._advance(log, first, last, (member,), "read")

    def remove_member(self, conversation: ConversationId, member: UserId) -> None:
        """Stop waiting for a member who left, was removed or was expelled, for messages that they do not have."""
        for log, receipts in self._logs.items():
            if log.conversation == conversation:
                receipts.remove_member(member)

    def close(self) -> None:
        """Have every call that waits raise PeerClosed."""
        self._closed = True
        for receipts in self._logs.values():
            receipts.close()

    def _of(self, log: LogId) -> _LogReceipts:
        receipts = self._logs.get(log)
        if receipts is None:
            receipts = self._logs[log] = _LogReceipts(log.user)
        return receipts

    def _advance(
        self, log: LogId, first: int, last: int, members: tuple[UserId, ...], kind: Kind, *, is_reported: bool = True
    ) -> list[ReceiptUpdate]:
        receipts, in_room = self._of(log), self.is_in_room(log)
        positions = receipts.positions(kind)
        advanced, updates = list[UserId](), list[ReceiptUpdate]()
        for one in members:
            if positions.marks.get(one, 0) < last and (kind == "read" or not self._is_here(log, one)):
                advanced.append(one)
                positions.set(one, last)
                if is_reported and not in_room:
                    updates += self._updates(log, first, last, [one], kind)
        receipts.wake(first, last)
        return self._updates(log, first, last, advanced, kind, counted=True) if in_room and advanced else updates

    def _updates(
        self, log: LogId, first: int, last: int, members: list[UserId], kind: Kind, *, counted: bool = False
    ) -> list[ReceiptUpdate]:
        """Return the updates of first..last, split where the number of members who have them changes.

        Each names the last of these members; `counted`: of those whom the message waits for, since nothing changes
        with any other, such as someone who joined the room later.
        """
        receipts, found = self._of(log), list[ReceiptUpdate]()
        positions = receipts.positions(kind)
        for low, high in receipts.messages(first, last):
            cuts = {mark + 1 for mark in positions.members_at if low <= mark < high}
            for start, end in pairwise([low, *sorted(cuts), high + 1]):
                among = [one for one in members if receipts.waits_for(start, one)] if counted else members
                if among:
                    having, of = receipts.count(start, kind)
                    if not of:
                        having = of = len(self._having(receipts, log, start, kind, ()))
                    found.append(ReceiptUpdate(log, start, end - 1, among[-1], having, of, kind))
        return found

    # ---- questions

    def is_accepted(self, log: LogId, seq: int) -> bool:
        """Return whether an entry was accepted in this run, so that its receipt is known."""
        return self.wrote(log) and self._logs[log].stretches[0].first <= seq <= self._logs[log].stretches[-1].last

    def wrote(self, log: LogId) -> bool:
        """Return whether a log is of this run, so that the receipts of its messages are known."""
        return log in self._logs and bool(self._logs[log].stretches)

    def is_message(self, log: LogId, seq: int) -> bool:
        """Return whether an entry of a log of this run is a message."""
        return self._logs[log].is_message(seq)

    def members(self, log: LogId, seq: int) -> tuple[UserId, ...]:
        """Return the members that a message waits for; () if none is known."""
        receipts = self._logs.get(log)
        return receipts.members(seq) if receipts else ()

    def holders(self, log: LogId, seq: int, kind: Kind = "delivered") -> list[UserId]:
        """Return every member known to have a message, or to have read it."""
        receipts = self._logs.get(log)
        return [] if receipts is None else [*self._having(receipts, log, seq, kind, receipts.members(seq))]

    def _having(
        self, receipts: _LogReceipts, log: LogId, seq: int, kind: Kind, of: Iterable[UserId]
    ) -> Collection[UserId]:
        """Return every member known to have a message, or to have read it; of users here those who are among these."""
        marks = receipts.positions(kind).marks
        having: Collection[UserId] = [member for member, mark in marks.items() if mark >= seq]
        if kind == "read":
            return having
        if log.conversation == self._room:
            having = self.users_having(log, having, receipts.guests(seq))
        if len(self._hosted) > 1:
            having = dict.fromkeys([*having, *(one for one in of if self._has(log, seq, one))])
        return having

    def users_having(self, log: LogId, having: Collection[UserId], guests: Guests = ()) -> Collection[UserId]:
        """Return the members who have a message: these, or in the room the users of those of these who are peers."""
        if self._driver is None or not self.is_in_room(log):
            return having
        peers = {*having}
        found = self._driver.node.presence.users_at(peers)
        for hosts, users in guests:  # who moved, or left, has what came to the peers that hosted it at first
            if peers.isdisjoint(hosts):
                found -= {*users} - peers
            else:
                found.update(users)
        return sorted(found - self._hosted - {log.user})

    def _has(self, log: LogId, seq: int, member: UserId) -> bool:
        """Return whether a member has an entry because it is written here; edits are not taken, but looked at here."""
        return self._is_here(log, member) or (self.takes(log, member) and not self._of(log).is_message(seq))

    async def wait(
        self, people: UserDirectory, log: LogId, seq: int, *, by: UserId | None = None, count: int | None = None,
        timeout: float | None, kind: AwaitedKind,
    ) -> None:  # fmt: skip
        """Wait for one member, for a number of members, or for all; `people` gives labels to those who lack it."""
        check_timeout(timeout)
        receipts = self._of(log)

        def look() -> tuple[Collection[UserId], Collection[UserId]]:
            """Return who is to have it, and who has."""
            of = receipts.members(seq) if by is None else (by,)
            if kind == "files":
                return of, self.holders_of_files(log, seq)
            return of, self._having(receipts, log, seq, kind, of)

        of, having = look()
        least = count if count is not None or of else 1  # nobody was online: the first member who gets it
        if _are_enough(of, having, least):
            return
        if self._closed:
            raise PeerClosed("the peer was closed")

        def is_true() -> bool:
            return _are_enough(*look(), least)

        try:
            if kind == "files":
                await asyncio.wait_for(self._running().wait_until(is_true), timeout)
            else:
                done, waiting = self._deadlines.future(timeout), receipts.waiting.setdefault(seq, {})
                waiting[done] = is_true
                try:
                    await done
                finally:
                    self._deadlines.ends.pop(done, None)
                    del waiting[done]
                    if not waiting:
                        del receipts.waiting[seq]
        except TimeoutError:
            of, having = look()
            labels = sorted(people.label(member) for member in of if member not in having)
            raise DeliveryTimeout(message_id(log, seq), labels, len(having), count, self._unanswered()) from None

    async def wait_stored(self, log: LogId, seq: int, peers: Sequence[str], timeout: float | None) -> None:
        """Wait until one of these peers has an entry."""
        check_timeout(timeout)
        driver = self._running()
        keys = {id_of(id) for id in peers}
        if "" in keys:
            raise ValueError(f"not the id of a peer: {', '.join(id for id in peers if not id_of(id))!a}")

        def is_stored() -> bool:
            return driver.node.receipts.delivered.is_stored_by(keys, log, seq)

        try:
            await asyncio.wait_for(driver.wait_until(is_stored), timeout)
        except TimeoutError:
            raise DeliveryTimeout(message_id(log, seq), peers) from None

    # ---- files

    def note_files(self, log: LogId, seq: int, files: tuple[FileRef, ...]) -> None:
        """Note the attachments of a message."""
        if files:
            remember(self._files, (log, seq), files, MAX_WITH_FILES)

    def has_files(self, log: LogId, seq: int) -> bool:
        """Return whether a message whose receipt was asked for has attachments."""
        return bool(self._files.get((log, seq)))

    def file_holders(self, log: LogId, file: FileRef, *, elsewhere: bool = False) -> list[UserId]:
        """Return the members who are known to have a file of a conversation, sorted; `elsewhere`: on other disks."""
        driver = self._driver
        if driver is None:
            return []
        holders = driver.node.replicator.transfers.receipts.users_having(log, file.root)
        if (
            not elsewhere and len(self._hosted) > 1 and driver.content.holds(file.root, file.size)
        ):  # what is here, users here have
            conversation = driver.node.replicator.conversations.get(log.conversation)
            holders += [one for one in self._hosted if conversation is not None and conversation.is_member(one)]
        return sorted({*holders})

    def holders_of_files(self, log: LogId, seq: int) -> list[UserId]:
        """Return the members who are known to have all files of a message; sorted.

        Of the users of this peer those it is for, as in deliveries.
        """
        found = [set(self.file_holders(log, file)) for file in self._files.get((log, seq), ())]
        having = set.intersection(*found) - {log.user} if found else set[UserId]()
        return sorted(having - (self._hosted - {*self.members(log, seq)}))

    def count_files(self, log: LogId, seq: int, file: FileRef) -> tuple[int, int]:
        """Return how many members have a file of a message, and how many it is for; its writer does not count."""
        holders, members = {*self.file_holders(log, file)} - {log.user}, self.members(log, seq)
        if not members and self._driver is not None:
            audience = audience_of(self._driver.node.replicator.conversations, log.conversation)
            members = tuple(one for one in audience or () if one != log.user)
        if not members:
            return len(holders), len(holders)
        return len(holders.intersection(members)), len(members)


# ---- messages of earlier runs


def look_up_receipt(storage: SqlStorage, log: LogId, seq: int) -> tuple[ReleasedEntry | None, Positions, Positions]:
    """Return an entry of one's own, None if it was not released, who has it, and who has read it, as storage knows."""
    return storage.entry(log, seq), storage.delivered_to(log, seq), storage.readers(log, seq)


def expected_recipients(node: Node, log: LogId, entry: Entry, holders: Collection[UserId]) -> tuple[UserId, ...]:
    """Return the users whom a message of an earlier run waits for; () if they are not known any more.

    These are the other user of a direct conversation, and of a group the members at the time, without those who have
    left or were expelled and do not have the message. For the room, the users online at that time are no longer known.

    Args:
        holders: The users who have the message.
    """
    conversation = node.replicator.conversations.get(log.conversation)
    if conversation is None:
        return ()
    group = conversation.group
    if group is not None and conversation.is_talk:
        counted = {user for user in group.named if user != log.user and group.was_member(user, entry.c)}
        present = node.member_directory.within(filter(group.is_present, counted))
        return tuple(sorted(counted.intersection((*present, *holders))))
    if conversation.naming.dm is None:
        return ()
    return tuple(sorted(set(conversation.naming.dm) - {log.user})) or (log.user,)
