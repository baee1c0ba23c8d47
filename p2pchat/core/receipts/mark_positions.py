"""Positions of marks in memory: of hosted readers, with the sum that compares them, and early ones of others.

A mark says up to where one reader got in one log. There may be as many as users times conversations, so the marks of a
reader on the logs of one writer are a row of bytes. mark_exchange.py announces and adopts them.

Source: docs/protocol.md, "Receipts and presence".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from functools import lru_cache
from hashlib import blake2b
from struct import Struct

from p2pchat.core.durable_changes import ReadMark
from p2pchat.core.log import SUM_MODULUS, LogId, ref_key
from p2pchat.core.storage_answers import LogKey
from p2pchat.protocol import ConversationId, RunId, UserId

HASHES_CACHED = 1 << 15  # as many marks as two peers may share, and 4 MiB

ReaderKey = tuple[ConversationId, UserId]  # conversation and reader
ReadPosition = tuple[int, str]  # the last entry of a log, and the first 8 bytes of the chain there; hex
NOWHERE: ReadPosition = (0, "")
MarksByReader = Mapping[ReaderKey, Mapping[str, ReadPosition]]  # reader -> reference key of a log -> its position
ChangedMark = tuple[ReadMark, ReadPosition]  # a mark, and the position before that a kill could not undo


@lru_cache(HASHES_CACHED)
def mark_number(pair: ReaderKey, ref: str, position: ReadPosition) -> int:
    """Return what a mark adds to a sum, 0 for NOWHERE. Only the peer that says a sum computes it."""
    data = f"{pair} {ref} {position}".encode()
    return int.from_bytes(blake2b(data, digest_size=32).digest(), "big") if position != NOWHERE else 0


def sum_text(total: int) -> str:
    """Return a sum as a frame carries it."""
    return f"{total % SUM_MODULUS:064x}"


def _sum_of(pair: ReaderKey, refs: Mapping[str, ReadPosition]) -> int:
    return sum(mark_number(pair, ref, position) for ref, position in refs.items())


class MarkPositions:
    """The positions of hosted readers: one mark for each reader and the newest log read of each writer.

    A mark on a log stands for all logs that it builds on, so it replaces marks below. The marks on the logs of one
    writer are one row of bytes: in the room there may be many thousands.
    """

    def __init__(self, stored: Iterable[ReadMark]) -> None:
        self._marks: dict[ReaderKey, dict[UserId, bytes]] = {}  # by writer
        self._sums: dict[ReaderKey, int] = {}  # over all durable marks of a reader, of those that did not change since
        # The durable position, then those ordered.
        self._changing: dict[tuple[LogId, UserId], list[ReadPosition]] = {}
        self.load(stored)

    def load(self, stored: Iterable[ReadMark], user: UserId = "") -> None:
        """Add stored marks of readers hosted here, or of one user.

        A user who was let go and comes back at once may have marks on their way to the disk: they count more.
        """
        for item in stored:
            self._put(item.log, item.reader, item.position)
        for (log, reader), ordered in self._changing.items():
            if reader == user:
                self._put(log, reader, ordered[-1])

    def forget(self, reader: UserId) -> None:
        """Forget a reader who is let go, but for marks on their way to the disk."""
        self._marks = {pair: marks for pair, marks in self._marks.items() if pair[1] != reader}
        self._sums = {pair: total for pair, total in self._sums.items() if pair[1] != reader}

    def all(self) -> Iterator[ReadMark]:
        """Yield all marks."""
        for (conversation, reader), rows in self._marks.items():
            for writer, row in rows.items():
                for run, position in _positions_of(row).items():
                    yield ReadMark(LogId(conversation, writer, run), reader, *position)

    @property
    def has_undurable(self) -> bool:
        """True if some mark is not durable yet."""
        return bool(self._changing)

    def take_undurable(self) -> list[ChangedMark]:
        """Return the marks that are not durable yet, and take them for durable."""
        taken = [(ReadMark(*mark, *ordered[-1]), min(ordered)) for mark, ordered in self._changing.items()]
        self._changing.clear()
        self._sums.clear()
        return taken

    def durable(self, log: LogId, reader: UserId) -> ReadPosition:
        """Return the position that a kill cannot undo; NOWHERE also if its removal was ordered."""
        ordered = self._changing.get((log, reader))
        return min(ordered) if ordered else self.position(log, reader)

    def on_durable(self, mark: ReadMark) -> ReadPosition | None:
        """Take that a mark is durable. Return the position before that was; None if that is nothing new."""
        ordered = self._changing.get((mark.log, mark.reader))
        if ordered is None or ordered[1] != mark.position:  # a mark of a reader elsewhere, or taken for durable
            return None
        former = min(ordered)
        del ordered[0]
        self._sums.pop((mark.log.conversation, mark.reader), None)
        if len(ordered) == 1:
            del self._changing[mark.log, mark.reader]
        return former if min(ordered) != former else None

    def _change(self, log: LogId, reader: UserId, former: ReadPosition, position: ReadPosition) -> None:
        self._sums.pop((log.conversation, reader), None)
        self._changing.setdefault((log, reader), [former]).append(position)

    def advance_to(self, log: LogId, reader: UserId, position: ReadPosition) -> bool:
        """Set a mark. Return False if it was there already, or higher."""
        former = self.position(log, reader)
        if position[0] <= former[0]:
            return False
        self._put(log, reader, position)
        self._change(log, reader, former, position)
        return True

    def keep_only(
        self, conversation: ConversationId, reader: UserId, writer: UserId, runs: AbstractSet[RunId]
    ) -> list[ChangedMark]:
        """Keep the marks on these logs of a writer, which stand for its others. Return the others, now removed."""
        marks = self.on_logs_of(conversation, reader, writer)
        others: list[ChangedMark] = []
        for log in [LogId(conversation, writer, run) for run in marks if run not in runs]:
            others.append((ReadMark(log, reader, *NOWHERE), self.durable(log, reader)))
            self._change(log, reader, marks.pop(log.run), NOWHERE)
        if others:
            self._marks[conversation, reader][writer] = _row(marks)
        return others

    def _put(self, log: LogId, reader: UserId, position: ReadPosition) -> None:
        marks = self.on_logs_of(log.conversation, reader, log.user)
        marks[log.run] = position
        if position == NOWHERE:
            del marks[log.run]
        self._marks.setdefault((log.conversation, reader), {})[log.user] = _row(marks)
        self._sums.pop((log.conversation, reader), None)

    def on_logs_of(self, conversation: ConversationId, reader: UserId, writer: UserId) -> dict[RunId, ReadPosition]:
        """Return the marks on the logs of one writer, by run."""
        marks = self._marks.get((conversation, reader))
        return _positions_of(marks.get(writer, b"")) if marks else {}

    def marks_for(
        self, readers: AbstractSet[UserId], writers: AbstractSet[UserId], is_shared: Callable[[ConversationId], bool]
    ) -> MarksByReader:
        """Return the durable marks by these readers, and those on logs of these writers, where it is shared."""
        found = self._marked(readers, writers, is_shared)
        marks = {pair: self._durable(pair, marked) for pair, marked, _ in found}
        return {pair: refs for pair, refs in marks.items() if refs}

    def sum_for(
        self, readers: AbstractSet[UserId], writers: AbstractSet[UserId], is_shared: Callable[[ConversationId], bool]
    ) -> str:
        """Return the sum over marks_for(); "" if there are none."""
        total, sums = 0, self._sums
        for pair, marked, is_all in self._marked(readers, writers, is_shared):
            known = sums.get(pair) if is_all else None
            if known is None:  # most readers marked nothing since the last time
                known = _sum_of(pair, self._durable(pair, marked))
                if is_all:
                    sums[pair] = known
            total += known
        return sum_text(total) if total else ""

    def _marked(
        self, readers: AbstractSet[UserId], writers: AbstractSet[UserId], is_shared: Callable[[ConversationId], bool]
    ) -> Iterator[tuple[ReaderKey, Collection[UserId], bool]]:
        """Yield each of these readers with the writers that it marked, and whether they are all."""
        for pair, rows in self._marks.items():
            is_all = pair[1] in readers
            marked = rows.keys() if is_all else sorted(rows.keys() & writers)
            if marked and is_shared(pair[0]):
                yield pair, marked, is_all

    def _durable(self, pair: ReaderKey, writers: Iterable[UserId]) -> dict[str, ReadPosition]:
        """Return a reader's durable marks on logs of these writers, by reference key of a log."""
        refs, rows = dict[str, ReadPosition](), self._marks[pair]
        for writer in writers:
            for run, position in _positions_of(rows[writer]).items():
                if self._changing:  # mostly none; as durable(), which would look up each position
                    position = min(self._changing.get((LogId(pair[0], writer, run), pair[1]), (position,)))
                if position != NOWHERE:
                    refs[ref_key(writer, run)] = position
        return refs

    def of_readers(self, readers: AbstractSet[UserId]) -> list[tuple[LogId, UserId]]:
        """Return the logs with marks of these readers."""
        pairs = [pair for pair in self._marks if pair[1] in readers] if readers else ()
        return [(log, reader) for conversation, reader in pairs for log in self.positions(conversation, reader)]

    def has_any(self, conversation: ConversationId, reader: UserId) -> bool:
        """Return whether there is any mark of a reader in a conversation."""
        return any(self._marks.get((conversation, reader), {}).values())

    def positions(self, conversation: ConversationId, reader: UserId) -> Mapping[LogId, int]:
        """Return a reader's positions in a conversation, by log. Each stands for all that the log builds on."""
        marks = self._marks.get((conversation, reader), {})
        return {
            LogId(conversation, writer, run): seq
            for writer, row in marks.items()
            for run, (seq, _) in _positions_of(row).items()
        }

    def position(self, log: LogId, reader: UserId) -> ReadPosition:
        """Return a reader's position in a log; NOWHERE also if a mark on a later log stands for it."""
        return self.on_logs_of(log.conversation, reader, log.user).get(log.run, NOWHERE)


_MARK = Struct(">8sQ8s")


def _row(marks: Mapping[RunId, ReadPosition]) -> bytes:
    return b"".join([_MARK.pack(bytes.fromhex(run), seq, bytes.fromhex(at)) for run, (seq, at) in marks.items()])


def _positions_of(row: bytes) -> dict[RunId, ReadPosition]:
    return {run.hex(): (seq, chain8.hex()) for run, seq, chain8 in _MARK.iter_unpack(row)}


# ---- marks that cannot be counted yet


class EarlyMarks:
    """Marks that cannot be counted yet: their entries are not here, or storage is asked for the chain there.

    They are counted by link, so that a flood displaces only its own.
    """

    def __init__(self) -> None:
        self.by_log: dict[LogKey, dict[tuple[int, UserId], ReadPosition]] = {}  # by link and reader
        self._counts: Counter[int] = Counter()

    def keep(self, log: LogKey, link: int, reader: UserId, position: ReadPosition, most: int) -> bool:
        """Keep a mark. Return False if there would be more than `most` of that link."""
        marks = self.by_log.get(log, {})
        if (link, reader) not in marks and self._counts[link] >= most:
            return False
        self._counts[link] += (link, reader) not in marks
        self.by_log.setdefault(log, marks)[link, reader] = position
        return True

    def take(self, log: LogKey) -> Mapping[tuple[int, UserId], ReadPosition]:
        """Remove and return the marks on a log."""
        taken = self.by_log.pop(log, {})
        self._counts.subtract(link for link, _ in taken)
        return taken

    def forget(self, *, link: int = -1, reader: UserId = "") -> bool:
        """Forget the marks of a link or a reader. Return whether there were any."""
        forgotten = [(log, key) for log, marks in self.by_log.items() for key in marks if link in key or reader in key]
        for log, key in forgotten:
            del self.by_log[log][key]
            self._counts[key[0]] -= 1
            if not self.by_log[log]:
                del self.by_log[log]
        self._counts = +self._counts  # without links that have none
        return bool(forgotten)
