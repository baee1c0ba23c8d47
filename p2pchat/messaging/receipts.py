"""What became of what was sent: receipts. Each asks the ledger (ledger.py) whenever it is asked."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, overload

from p2pchat.core.log import LogId, message_id
from p2pchat.errors import UnknownName
from p2pchat.peer.messages.ledger import Kind, Ledger
from p2pchat.protocol import UserId

if TYPE_CHECKING:
    from p2pchat.messaging.users import User


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
    def read_by(self) -> list[User]:
        """Whose application said that they have read it; nobody is known to who wants no receipts of reading."""
        return [self._ledger.people.user(member) for member in self._ledger.holders(self.log, self.seq, "read")]

    @property
    def status(self) -> str:
        """`read` or `delivered` when that is true of everybody in `of` (when `of` is empty: of anybody), else
        `accepted`."""
        return self._all("read") or self._all("delivered") or "accepted"

    def _all(self, kind: Kind) -> str:
        of, having = self._ledger.members(self.log, self.seq), self._ledger.holders(self.log, self.seq, kind)
        return kind if having and set(of) <= set(having) else ""

    @property
    def by_member(self) -> dict[User, str]:
        """What it is for each: `accepted`, `delivered` or `read`, for everybody in `of` and whoever else has it."""
        people, log, seq = self._ledger.people, self.log, self.seq
        found: dict[UserId, str] = dict.fromkeys(self._ledger.members(log, seq), "accepted")
        for kind in ("delivered", "read"):
            found.update(dict.fromkeys(self._ledger.holders(log, seq, kind), kind))
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
        await self._ledger.wait(self.log, self.seq, by=member, count=count, timeout=timeout, kind=kind)

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
            await self._ledger.wait(piece.log, last, by=None, count=None, timeout=left, kind=kind)

    def __repr__(self) -> str:
        return f"<Receipts of {len(self)} messages>"
