"""How far the users hosted here have read: one mark for each reader and newest log read of each writer.

A mark on a log stands for all that the log builds on, so the mark below goes when one above is set. The books know who
is to be told of which mark and what all of that sums up to; when it is told is decided in read_receipts.py.

Source: docs/protocol.md, "Receipts and presence".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from functools import lru_cache
from hashlib import blake2b

from p2pchat.core.log import SUM_MODULUS, LogId, ref_key
from p2pchat.core.records import ReadMark
from p2pchat.protocol import ConversationId, RunId, UserId

READ_TAG = b"p2pchat/read/1\0"
HASHES_CACHED = 1 << 15  # as many marks as two peers may have between them, and 4 MiB

Pair = tuple[ConversationId, UserId]  # conversation and reader
Told = Mapping[Pair, Mapping[str, int]]  # pair -> reference key of a log -> last seq read


@lru_cache(HASHES_CACHED)
def _read_hash(conversation: ConversationId, reader: UserId, ref: str, seq: int) -> int:
    data = READ_TAG + bytes.fromhex(conversation + reader + ref) + seq.to_bytes(8, "big")
    return int.from_bytes(blake2b(data, digest_size=32).digest(), "big")


def read_sum(marks: Told) -> str:
    """Return the sum over read marks as a `read` frame tells it."""
    hashes = (_read_hash(*pair, ref, seq) for pair, refs in marks.items() for ref, seq in refs.items())
    return f"{sum(hashes) % SUM_MODULUS:064x}"


class Bookmarks:
    """The marks of readers hosted here."""

    def __init__(self, stored: Iterable[ReadMark]) -> None:
        self._marks: dict[Pair, dict[LogId, int]] = {}
        self._about: dict[UserId, set[Pair]] = {}  # by writer
        self._of: dict[UserId, set[Pair]] = {}  # by reader
        self.unsaved: dict[tuple[LogId, UserId], int] = {}
        self.load(stored)

    def load(self, stored: Iterable[ReadMark]) -> None:
        """Take what is stored of readers hosted here."""
        for item in stored:
            self._put(item.log, item.reader, item.seq)

    def forget(self, reader: UserId) -> None:
        """A reader is hosted here no more."""
        for pair in self._of.pop(reader, ()):
            for writer in {log.user for log in self._marks.pop(pair)}:
                self._about[writer].discard(pair)

    def take_unsaved(self) -> list[ReadMark]:
        """Return what the next commit shall keep."""
        taken, self.unsaved = self.unsaved, {}
        return [ReadMark(log, reader, seq) for (log, reader), seq in taken.items()]

    def keep(self, former: Bookmarks) -> None:
        """Take over what was read before storage failed: it may not have been saved."""
        for pair, marks in former._marks.items():
            for log, seq in marks.items():
                self.rise(log, pair[1], seq)

    def rise(self, log: LogId, reader: UserId, seq: int) -> bool:
        """Set a mark; False when it stood there already or higher."""
        if seq <= self._marks.get((log.conversation, reader), {}).get(log, 0):
            return False
        self._put(log, reader, seq)
        self.unsaved[log, reader] = seq
        return True

    def only(self, conversation: ConversationId, reader: UserId, writer: UserId, runs: AbstractSet[RunId]) -> bool:
        """Of this writer's logs there only these are needed: they stand for the others; True if there were others."""
        marks = self._marks.get((conversation, reader), {})
        others = [log for log in marks if log.user == writer and log.run not in runs]
        for log in others:
            del marks[log]
            self.unsaved[log, reader] = 0
        return bool(others)

    def _put(self, log: LogId, reader: UserId, seq: int) -> None:
        pair = (log.conversation, reader)
        self._marks.setdefault(pair, {})[log] = seq
        self._about.setdefault(log.user, set()).add(pair)
        self._of.setdefault(reader, set()).add(pair)

    def toward(self, users: AbstractSet[UserId], is_shared: Callable[[ConversationId], bool]) -> Told:
        """Return what a peer hosting these users is told: what was read of theirs, and all that they have read."""
        there = users
        pairs = {pair for books in (self._about, self._of) for user in books.keys() & there for pair in books[user]}
        told: dict[Pair, dict[str, int]] = {}
        for pair in pairs:
            if not is_shared(pair[0]):
                continue
            of_theirs = pair[1] in there
            refs = {
                ref_key(log.user, log.run): seq
                for log, seq in self._marks[pair].items()
                if of_theirs or log.user in there
            }
            if refs:
                told[pair] = refs
        return told

    def of(self, conversation: ConversationId, reader: UserId) -> Mapping[LogId, int]:
        """Return how far a reader has read which logs of a conversation: a mark on one stands for all it builds on."""
        return self._marks.get((conversation, reader), {})

    def seq(self, log: LogId, reader: UserId) -> int:
        """Return how far a reader has read a log; 0: nothing, or all of it by a mark above."""
        return self._marks.get((log.conversation, reader), {}).get(log, 0)
