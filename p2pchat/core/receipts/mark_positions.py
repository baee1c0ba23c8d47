"""Positions of marks in memory: of hosted readers, and as each peer announced them; the sum that compares them.

A mark says up to where one reader got in one log. There may be as many as users times conversations, so the marks of a
reader on the logs of one writer are a row of bytes. mark_exchange.py announces and adopts them.

Source: docs/protocol.md, "Receipts and presence".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import lru_cache
from hashlib import blake2b
from struct import Struct

from p2pchat.core.durable_changes import ReadMark
from p2pchat.core.log import SUM_MODULUS, LogId, ref_key
from p2pchat.core.storage_answers import LogKey
from p2pchat.core.sync.mark_pages import FIRST_ID, LAST_ID, next_id
from p2pchat.protocol import ConversationId, RunId, UserId

READ_TAG = b"p2pchat/read/1\0"
HASHES_CACHED = 1 << 15  # as many marks as two peers may share, and 4 MiB

ReaderKey = tuple[ConversationId, UserId]  # conversation and reader
ReadPosition = tuple[int, str]  # the last entry of a log, and the first 8 bytes of the chain there; hex
NOWHERE: ReadPosition = (0, "")
MarksByReader = Mapping[ReaderKey, Mapping[str, ReadPosition]]  # reader -> reference key of a log -> its position


@lru_cache(HASHES_CACHED)
def _read_hash(conversation: ConversationId, reader: UserId, ref: str, position: ReadPosition) -> int:
    seq, chain8 = position
    data = READ_TAG + bytes.fromhex(conversation + reader + ref) + seq.to_bytes(8, "big") + bytes.fromhex(chain8)
    return int.from_bytes(blake2b(data, digest_size=32).digest(), "big")


def read_sum(marks: MarksByReader) -> str:
    """Return the sum of read marks as a `read` frame carries it."""
    return _text_of(sum(_sum_of(pair, refs) for pair, refs in marks.items()))


def _sum_of(pair: ReaderKey, refs: Mapping[str, ReadPosition]) -> int:
    return sum(_read_hash(*pair, ref, position) for ref, position in refs.items())


def _text_of(total: int) -> str:
    return f"{total % SUM_MODULUS:064x}"


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

    def take_undurable(self) -> list[ReadMark]:
        """Return the marks that are not durable yet, and take them for durable."""
        taken = [ReadMark(log, reader, *ordered[-1]) for (log, reader), ordered in self._changing.items()]
        self._changing.clear()
        self._sums.clear()
        return taken

    def durable(self, log: LogId, reader: UserId) -> ReadPosition:
        """Return the position that a kill cannot undo; NOWHERE also if its removal was ordered."""
        ordered = self._changing.get((log, reader))
        return min(ordered) if ordered else self.position(log, reader)

    def on_durable(self, mark: ReadMark) -> bool:
        """Take that a mark is durable. Return False if that is nothing new."""
        ordered = self._changing.get((mark.log, mark.reader))
        if ordered is None or ordered[1] != mark.position:  # a mark of a reader elsewhere, or taken for durable
            return False
        del ordered[0]
        self._sums.pop((mark.log.conversation, mark.reader), None)
        if len(ordered) == 1:
            del self._changing[mark.log, mark.reader]
        return True

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
    ) -> list[LogId]:
        """Keep the marks on these logs of a writer, which stand for its others. Return the others, now removed."""
        marks = self.on_logs_of(conversation, reader, writer)
        others = [LogId(conversation, writer, run) for run in marks if run not in runs]
        for log in others:
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
        return _text_of(total) if total else ""

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
        self._by_log: dict[LogKey, dict[tuple[int, UserId], ReadPosition]] = {}  # by link and reader
        self._counts: Counter[int] = Counter()

    def __bool__(self) -> bool:
        return bool(self._by_log)

    def keep(self, log: LogKey, link: int, reader: UserId, position: ReadPosition, most: int) -> bool:
        """Keep a mark. Return False if there would be more than `most` of that link."""
        marks = self._by_log.get(log, {})
        if (link, reader) not in marks and self._counts[link] >= most:
            return False
        self._counts[link] += (link, reader) not in marks
        self._by_log.setdefault(log, marks)[link, reader] = position
        return True

    def take(self, log: LogKey) -> Mapping[tuple[int, UserId], ReadPosition]:
        """Remove and return the marks on a log."""
        taken = self._by_log.pop(log, {})
        self._counts.subtract(link for link, _ in taken)
        return taken

    def forget(self, *, link: int = -1, reader: UserId = "") -> set[ReaderKey]:
        """Forget the marks of a link or a reader. Return their readers."""
        forgotten = set[ReaderKey]()
        for log, marks in [*self._by_log.items()]:
            for key in [key for key in marks if link == key[0] or reader == key[1]]:
                del marks[key]
                self._counts[key[0]] -= 1
                forgotten.add((log.conversation, key[1]))
            if not marks:
                del self._by_log[log]
        return forgotten


# ---- marks as announced


MAX_ANNOUNCED = 10_000  # marks of one peer, as many as users it may host; a few MiB


class AnnouncedMarks:
    """The marks that one peer announced for its users, also those that do not count here.

    So two peers can compare by a sum: each knows which marks this peer sent, even if another peer of the same reader
    sent more. Pages of all marks come in order, and replace the known marks when the last has come.

    Attributes:
        most: How many may be remembered.
    """

    def __init__(self, known: Iterable[ReadMark]) -> None:
        """Begin with the known marks of this peer's users. Most likely it announced these in an earlier run."""
        self._marks: dict[ReaderKey, dict[str, ReadPosition]] = {}
        self._count = 0
        self._sum = 0
        self.most: int = MAX_ANNOUNCED
        self._next: AnnouncedMarks | None = None  # pages received so far
        self._next_from: ConversationId = ""  # where the page after them begins
        for item in known:
            self.update((item.log.conversation, item.reader), [(ref_key(item.log.user, item.log.run), *item.position)])

    @property
    def count(self) -> int:
        """Number of marks that are remembered, those of unfinished pages too."""
        return self._count + (0 if self._next is None else self._next.count)

    @property
    def sum(self) -> str:
        return f"{self._sum % SUM_MODULUS:064x}"

    def update(self, pair: ReaderKey, refs: Sequence[tuple[str, int, str]]) -> bool:
        """Update marks of a reader in a conversation. Return False if there would be too many."""
        known = self._marks.get(pair, {})
        more = len({ref for ref, _, _ in refs if ref not in known})  # a difference would look at all that are known
        if self._count + more > self.most:
            return False
        if not refs:
            return True
        marks = self._marks.setdefault(pair, known)
        for said in refs:  # the sum is asked for with each digest
            ref, position = said[0], said[1:]
            former = marks.get(ref)
            if former != position:
                replaced = 0 if former is None else _read_hash(*pair, ref, former)
                self._sum += _read_hash(*pair, ref, position) - replaced
                marks[ref] = position
        self._count += more
        return True

    def forget(self, pair: ReaderKey) -> None:
        """Forget the marks of a reader in a conversation."""
        marks = self._marks.pop(pair, {})
        self._sum -= _sum_of(pair, marks)
        self._count -= len(marks)
        if self._next is not None:
            self._next.forget(pair)

    def on_page(
        self, span: tuple[ConversationId, ConversationId], announced: dict[ReaderKey, list[tuple[str, int, str]]]
    ) -> None:
        """Take a page of all marks. A page that does not follow the previous one ends the sequence."""
        if span[0] == FIRST_ID:
            self._next = AnnouncedMarks(())
        elif self._next is None or not self._next_from <= span[0] <= next_id(self._next_from):
            self._next = None
            return
        self._next.most = self.most
        self._next_from = span[1]
        if not all(self._next.update(pair, refs) for pair, refs in announced.items()):
            self._next = None
        elif span[1] == LAST_ID:
            latest = self._next
            self._marks, self._count, self._sum, self._next = latest._marks, latest._count, latest._sum, None
