"""Two sets of logs of one conversation: the waiting logs, and the quiet logs of the room.

A waiting log has a next entry that follows entries which are not here yet. It is found by the entries that it waits
for. So an entry that is released costs as much as what waits for it, and not as much as all that waits.

A quiet log belongs to a writer of the room with nothing under way, and is one row of bytes. Anybody with an invite can
make users up, and each of them may begin a log. As objects such a log takes 1 KiB of memory, as a row a third of it.
log_index.py decides which logs are quiet, and makes objects of a row whenever something touches its writer.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator
from itertools import islice
from struct import Struct
from typing import TYPE_CHECKING, Any, NamedTuple

from p2pchat.core.log import LogId, Ref
from p2pchat.core.node_context import KeySet
from p2pchat.protocol import Mark, RunId, UserId

if TYPE_CHECKING:
    from p2pchat.core.sync.log_index import LogState

PREFIX = 16  # digits of a user id by which rows are found, as references name it
FEW_KEYS = 64  # new keys that are put in their places rather than sorted with all others; a guess
MOST = 255  # marks and profiles of one row: their numbers are bytes
_HEAD = Struct(">24s8sQ32sQQ?BB")  # the rest of the user id, run, seq, chain, last_c, pruned, may_have_stored, counts
_MARK = Struct(">8sQ8s")
_SEQ = Struct(">Q")
_ID = slice(0, 24)  # of a row: the rest of the user id
_RUN, _LAST, _CHAIN8 = slice(24, 32), slice(32, 40), slice(40, 48)  # what a mark holds


class WaitingLogs:
    """The waiting logs, and what each of them waits for.

    Attributes:
        shown_early: Logs (as references name them) that were shown without what they follow, since there was no room.
    """

    __slots__ = ("_awaited", "_logs", "shown_early")

    def __init__(self) -> None:
        self.shown_early: KeySet[str] = {}
        self._logs: dict[LogId, tuple[LogState, tuple[Ref, ...]]] = {}
        self._awaited: dict[str, dict[int, dict[LogId, LogState]]] = {}  # by log and number of the awaited entry

    def __bool__(self) -> bool:
        return bool(self._logs)

    def __contains__(self, log: object) -> bool:
        return log in self._logs

    def logs(self) -> list[LogState]:
        """Return all of them, in the order in which they began to wait."""
        return [log for log, _ in self._logs.values()]

    def get(self, id: LogId) -> LogState | None:
        """Return a log if it waits."""
        found = self._logs.get(id)
        return found[0] if found is not None else None

    def put(self, log: LogState, refs: Iterable[Ref]) -> None:
        """Note that a log waits for these entries, instead of those it waited for before."""
        refs = tuple(dict.fromkeys(refs))
        _, former = self._logs.get(log.id, (log, ()))
        self._logs[log.id] = log, refs
        if refs != former:
            self._unlist(log.id, former)
            for ref in refs:
                self._awaited.setdefault(ref.log, {}).setdefault(ref.seq, {})[log.id] = log

    def remove(self, id: LogId) -> None:
        """Forget a log, which waits no more."""
        if id in self._logs:
            self._unlist(id, self._logs.pop(id)[1])

    def _unlist(self, id: LogId, refs: Iterable[Ref]) -> None:
        for ref in refs:
            seqs = self._awaited[ref.log]
            del seqs[ref.seq][id]
            if not seqs[ref.seq]:
                del seqs[ref.seq]
            if not seqs:
                del self._awaited[ref.log]

    # By what they wait for

    def awaited(self, log: str, upto: int) -> list[Ref]:
        """Return the awaited entries of a log (as references name it) up to this one."""
        return [Ref(log, seq) for seq in self._awaited.get(log, ()) if seq <= upto]

    def waiting_for(self, log: str, first: int, last: int) -> list[LogState]:
        """Return the logs that wait for entries first..last of a log (as references name it)."""
        seqs = self._awaited.get(log)
        if not seqs:
            return []
        fewer = seqs if len(seqs) <= last - first else range(first, last + 1)
        found = {id: each for seq in fewer if first <= seq <= last for id, each in seqs.get(seq, {}).items()}
        return [*found.values()]

    def waiting_for_user(self, start: str) -> list[LogState]:
        """Return the logs that wait for any entry of the user whose id begins so, as references do."""
        logs = [log for log in self._awaited if log.startswith(start)]
        found = {id: each for log in logs for waiting in self._awaited[log].values() for id, each in waiting.items()}
        return [*found.values()]


class QuietLog(NamedTuple):
    """The only log of a writer, all of it durable and released. The fields are those of `LogState` and `WriterLogs`."""

    user: UserId
    run: RunId
    seq: int
    chain: bytes
    last_c: int
    pruned: int
    may_have_stored: bool
    before: tuple[Mark, ...]
    profiles: tuple[int, ...]


class KeyOrder:
    """The order of a dict's keys. They are sorted when somebody asks, and new ones are added when somebody asks again.

    Whoever takes a key out of the dict calls remove(), too.
    """

    __slots__ = ("_keys", "_sorted")

    def __init__(self, keys: dict[str, Any]) -> None:
        self._keys = keys
        self._sorted: list[str] = []

    def between(self, first: str, last: str) -> list[str]:
        """Return the keys from `first` to `last`, in order."""
        new = len(self._keys) - len(self._sorted)
        added = islice(reversed(self._keys), new)  # a dict has the newest at its end
        if new > FEW_KEYS:
            self._sorted += added
            self._sorted.sort()
        else:
            for key in added:
                insort(self._sorted, key)
        return self._sorted[bisect_left(self._sorted, first) : bisect_right(self._sorted, last)]

    def remove(self, key: str) -> None:
        """Forget a key that the dict holds no more."""
        at = bisect_left(self._sorted, key)
        if at < len(self._sorted) and self._sorted[at] == key:
            del self._sorted[at]


class QuietLogs:
    """The quiet logs of one conversation, one for each user."""

    __slots__ = ("_order", "_rows")

    def __init__(self) -> None:
        self._rows: dict[str, bytes] = {}  # by the beginning of the user id
        self._order: KeyOrder | None = None  # of many rows, once somebody asked for a span

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, user: object) -> bool:
        return isinstance(user, str) and self._row(user) is not None

    def users(self) -> Iterator[UserId]:
        return (prefix + row[_ID].hex() for prefix, row in self._rows.items())

    def ends(self) -> Iterator[tuple[UserId, RunId, int]]:
        """Yield the user, run and last entry of each log."""
        for prefix, row in self._rows.items():
            yield prefix + row[_ID].hex(), row[_RUN].hex(), int.from_bytes(row[_LAST], "big")

    def users_within(self, span: tuple[UserId, UserId]) -> list[UserId]:
        """Return the users within a span of ids, in order."""
        if self._order is None:
            self._order = KeyOrder(self._rows)
        prefixes = self._order.between(span[0][:PREFIX], span[1][:PREFIX]) if self._rows else []
        users = [prefix + self._rows[prefix][_ID].hex() for prefix in prefixes]
        return [user for user in users if span[0] <= user <= span[1]]

    def add(self, log: QuietLog) -> bool:
        """Add a log. Return False if it has no row: the id of another user begins alike, or it is too large."""
        if log.user[:PREFIX] in self._rows or max(len(log.before), len(log.profiles)) > MOST:
            return False
        self._rows[log.user[:PREFIX]] = _pack(log)
        return True

    def mark(self, user: UserId) -> Mark | None:
        """Return the mark of a user's log, None if it is not here."""
        row = self._row(user)
        return None if row is None else _mark(row)

    def take(self, user: UserId) -> QuietLog | None:
        """Remove and return the log of a user, None if it is not here."""
        if self._row(user) is None:
            return None
        if self._order is not None:
            self._order.remove(user[:PREFIX])
        return _unpack(user[:PREFIX], self._rows.pop(user[:PREFIX]))

    def user_of(self, ref: str) -> UserId | None:
        """Return the user of the log that references name so, None if it is not here."""
        row = self._rows.get(ref[:PREFIX])
        if row is None or row[_RUN].hex() != ref[PREFIX:]:
            return None
        return ref[:PREFIX] + row[_ID].hex()

    def _row(self, user: UserId) -> bytes | None:
        row = self._rows.get(user[:PREFIX])
        return row if row is not None and row[_ID].hex() == user[PREFIX:] else None


def _pack(log: QuietLog) -> bytes:
    head = _HEAD.pack(
        bytes.fromhex(log.user[PREFIX:]), bytes.fromhex(log.run), log.seq, log.chain, log.last_c, log.pruned,
        log.may_have_stored, len(log.before), len(log.profiles),
    )  # fmt: skip
    marks = [_MARK.pack(bytes.fromhex(mark.run), mark.seq, bytes.fromhex(mark.chain8)) for mark in log.before]
    return b"".join([head, *marks, *map(_SEQ.pack, log.profiles)])


def _mark(row: bytes) -> Mark:
    return Mark(row[_RUN].hex(), int.from_bytes(row[_LAST], "big"), row[_CHAIN8].hex())


def _unpack(prefix: str, row: bytes) -> QuietLog:
    rest, run, seq, chain, last_c, pruned, may_have_stored, marks, _ = _HEAD.unpack_from(row)
    end = _HEAD.size + marks * _MARK.size
    before = tuple(Mark(run.hex(), seq, chain8.hex()) for run, seq, chain8 in _MARK.iter_unpack(row[_HEAD.size : end]))
    profiles = tuple(seq for (seq,) in _SEQ.iter_unpack(row[end:]))
    return QuietLog(prefix + rest.hex(), run.hex(), seq, chain, last_c, pruned, may_have_stored, before, profiles)
