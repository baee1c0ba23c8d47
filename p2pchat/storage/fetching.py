"""Serving: batches of what a user wrote, read in the order the logs were begun here.

What is sent is planned from the heads alone, then the entries of each log are read in one go.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain, groupby, islice
from operator import attrgetter, itemgetter
from typing import Any, NamedTuple

from p2pchat.config import Settings
from p2pchat.core.log import Batch, LogId, extend_chain, head_message, verify
from p2pchat.core.records import ForkStart, Position, Start, TailStart, WantStart
from p2pchat.errors import LogError
from p2pchat.protocol import ConversationId, RunId, UserId
from p2pchat.storage.batches import Head, Numbered, batch_ends, only, position_of, resumed
from p2pchat.storage.read import Reader
from p2pchat.storage.schema import FORKED, MAX_LOG, SEQS

HEADS_FROM = f"""
select l.number, l.run, h.id, h.size, h.c, h.chain, h.sig
from logs l
join heads h on h.id > (case when l.number = ? then ? else l.number * {SEQS} end) and h.id < (l.number + 1) * {SEQS}
where l.writer = ? and l.conversation = ? and l.number >= ? and l.number < ? and l.state < {FORKED}
order by l.number, h.id limit ?
"""
BODIES = "select id, body from entries where id > ? and id <= ?"
MOST_RANGES = 32  # in one statement; SQLite takes 500


class Planned(NamedTuple):
    """A batch to be served: of which log, from after `at` to `end`."""

    number: int
    log: LogId
    at: Head
    end: Head


class Fetching:
    """Serves what one user wrote in one conversation from a start on; made anew for each fetch."""

    def __init__(self, reader: Reader, settings: Settings, conversation: ConversationId, user: UserId) -> None:
        self._reader = reader
        self._settings = settings
        self._names = (conversation, user)
        self._whose = (reader.number("users", user), reader.number("conversations", conversation))

    def fetch(self, start: Start, batches: int) -> tuple[list[Batch], Position | None]:
        if isinstance(start, ForkStart):
            evidence = self._reader.evidence(LogId(*self._names, start.run))
            return [_signed(_chained(batch)) for batch in evidence], None
        position = self._position(start)
        if position is None:
            return [], None
        planned = list(islice(self._plan(position, batches), batches + 1))
        more = planned[batches] if len(planned) > batches else None
        served = self._read(planned[:batches])
        if served:
            _signed(served[-1])  # one signature for all: it costs as much as reading fifty entries
        return served, resumed(position, more.number, more.at.seq + 1) if more else None

    def _position(self, start: Position | TailStart | WantStart) -> Position | None:
        """Return where this start begins, None where there is nothing at all."""
        if not all(self._whose):
            return None
        if isinstance(start, Position):
            return start
        if isinstance(start, TailStart):
            tail = self._find(start.run)
            return only(tail.number, start.after_seq) if tail else None
        return position_of(start, self._find, self._chain, self._reader.stranded(self._whose))

    def _find(self, run: RunId) -> Numbered | None:
        return self._reader.numbered(self._whose, run)

    def _chain(self, log: Numbered, seq: int) -> bytes | None:
        if seq > self._reader.last(log.number):
            return None
        return self._reader.head_at(log.number, LogId(*self._names, log.run), seq).chain

    def _plan(self, position: Position, most: int) -> Iterator[Planned]:
        """Yield what is to be served from `position` on, log after log."""
        number, seq = position.next_number, position.next_seq - 1
        if position.floor < 0:
            yield from self._plan_between(number, seq, number + 1, most)
            return
        above = ((stop, held) for stop, held in position.held if stop > number)
        for stop, held in chain(above, [(MAX_LOG + 1, 0)]):
            yield from self._plan_between(number, seq, stop, most)
            number, seq = stop, held

    def _plan_between(self, number: int, seq: int, stop: int, most: int) -> Iterator[Planned]:
        """Yield what is to be served of the logs number..stop-1: of the first from after seq, of the others all."""
        page = 2 * most + 2  # heads; a batch mostly ends on the next one, where limits were changed on a later one
        while True:
            rows = self._reader.all(HEADS_FROM, number, number * SEQS + seq, *self._whose, number, stop, page)
            for log_number, group in groupby(rows, key=itemgetter(0)):
                yield from self._plan_log(log_number, list(group), seq if log_number == number else 0)
            if len(rows) < page:
                return
            number, seq = rows[-1][0], rows[-1][2] % SEQS

    def _plan_log(self, number: int, rows: Sequence[Any], seq: int) -> Iterator[Planned]:
        """Yield the batches of one log after seq; `rows` are its heads there."""
        log = LogId(*self._names, rows[0][1].hex())
        at = self._reader.head_at(number, log, seq)
        for end in batch_ends(at.seq, at.size, [Head(row[2] % SEQS, *row[3:]) for row in rows], self._settings):
            yield Planned(number, log, at, end)
            at = end

    def _read(self, planned: Sequence[Planned]) -> list[Batch]:
        """Return these batches with their entries."""
        ranges: list[tuple[int, int]] = []
        for number, group in groupby(planned, key=attrgetter("number")):
            of_log = list(group)
            ranges.append((number * SEQS + of_log[0].at.seq, number * SEQS + of_log[-1].end.seq))
        parts = (ranges[at : at + MOST_RANGES] for at in range(0, len(ranges), MOST_RANGES))
        raws = chain.from_iterable(self._bodies(part) for part in parts)
        return [
            _chained(Batch(log, at.seq + 1, list(islice(raws, end.seq - at.seq)), None, at.chain, end.chain, end.sig))
            for _, log, at, end in planned
        ]

    def _bodies(self, ranges: Sequence[tuple[int, int]]) -> Iterator[str]:
        """Yield the entries of these ranges of ids, all in one question: many logs have one entry."""
        rows = self._reader.all(_union(len(ranges)), *chain.from_iterable(ranges))
        return (row[1] for row in rows)


def _chained(batch: Batch) -> Batch:
    """Return a batch; LogError for one that is not what was written: whoever got it would take us for a forger."""
    if (
        len(batch.head) != 64
        or type(batch.head) is not bytes
        or not batch.raws
        or extend_chain(batch.prev, batch.raws) != batch.chain
    ):
        raise LogError(f"what is stored of entries {batch.first} to {batch.last} is not what was written")
    return batch


def _signed(batch: Batch) -> Batch:
    """Return a batch whose writer signed its chain; LogError for another."""
    if not verify(batch.log.user, batch.head, head_message(batch.log, batch.last, batch.chain)):
        raise LogError(f"what is stored of entries {batch.first} to {batch.last} is not what was signed")
    return batch


@lru_cache(maxsize=MOST_RANGES)
def _union(ranges: int) -> str:
    return " union all ".join([BODIES] * ranges) + " order by id"
