"""Batches of what a user wrote, in the order the logs were begun here.

They are planned from the heads alone; then the entries of each log are read at once. A log named in the `before` of
another has the smaller number. Source: docs/protocol.md, "Heads" and "Pull".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from heapq import heappop, heappush
from itertools import accumulate, chain, groupby, islice
from operator import attrgetter, itemgetter
from typing import Any, NamedTuple

from p2pchat.core.durable_changes import ForkStart, Position, Start, TailStart, TextStart, WantStart
from p2pchat.core.log import MAX_BATCH_BYTES, Batch, LogId, extend_chain, head_message, is_one_batch, parted, verify
from p2pchat.errors import LogError
from p2pchat.protocol import ConversationId, Mark, RunId, UserId
from p2pchat.settings import Settings
from p2pchat.storage.log_queries import NUMBERED, Head, LogQueries, NumberedLog, numbered, stored_raws
from p2pchat.storage.schema import FORKED, MAX_LOG, SEQS

HEADS_FROM = f"""
select l.number, l.run, h.id, h.size, h.c, h.chain, h.sig
from logs l
join heads h on h.id > (case when l.number = ? then ? else l.number * {SEQS} end) and h.id < (l.number + 1) * {SEQS}
where l.writer = ? and l.conversation = ? and l.number >= ? and l.number < ? and l.state < {FORKED}
order by l.number, h.id limit ?
"""
HAS_STUB = "select 1 from gone where id > ? and id <= ? limit 1"
NEXT_TEXT = "select min(id) from entries where id > ? and id <= ?"


class PlannedBatch(NamedTuple):
    """A batch to be served: its log, from after the head `at` to the head `end`."""

    number: int
    log: LogId
    at: Head
    end: Head
    size: int  # bytes of its entries, or more
    header: str  # of a log that is served from its beginning, else ""


class BatchQueries:
    """One fetch: serves what one user wrote in one conversation, from a start on."""

    def __init__(self, reader: LogQueries, conversation: ConversationId, user: UserId) -> None:
        self._reader = reader
        self._names = (conversation, user)
        self._whose = (reader.db.number("users", user), reader.db.number("conversations", conversation))

    def fetch(self, start: Start, batches: int) -> tuple[list[Batch], Position | TextStart | None]:
        if isinstance(start, ForkStart):
            evidence = self._reader.evidence(LogId(*self._names, start.run))
            return [_signed(_chained(batch)) for batch in evidence], None
        if not all(self._whose):
            return [], None
        if isinstance(start, TextStart):
            return self._texts(start, batches)
        position = self._position(start)
        if position is None:
            return [], None
        planned = list(islice(self._plan(position, batches), batches + 1))
        sizes = accumulate(each.size for each in planned[:batches])
        count = max(1, sum(size <= batches * MAX_BATCH_BYTES for size in sizes))
        found = list(islice(self._read(planned[:count]), batches + 1))
        served = [batch for _, batch in found[:batches]]
        if served:
            _signed(served[-1])  # only the last: a signature costs as much as reading fifty entries
        rest = [(number, batch.first) for number, batch in found[batches:]]
        rest += [(each.number, each.at.seq + 1) for each in planned[count:]]
        return served, position.replace(next_number=rest[0][0], next_seq=rest[0][1]) if rest else None

    def _texts(self, start: TextStart, batches: int) -> tuple[list[Batch], TextStart | None]:
        """Return the batches with texts in the first parts, and the parts that are left."""
        found: list[Batch] = []
        log, end = self._find(start.run), 0
        if log is None or log.forked:
            return found, None
        text, ids = self._reader.db.value, log.number * SEQS
        for at, (first, last) in enumerate(start.parts):
            while next_id := text(NEXT_TEXT, ids + max(first - 1, end), ids + last):  # there may be thousands of stubs
                for planned in self._plan_between(log.number, next_id - ids - 1, log.number + 1, batches):
                    if not text(NEXT_TEXT, ids + planned.at.seq, ids + min(last, planned.end.seq)):
                        break
                    for _, batch in self._read([planned]):
                        end = batch.first - 1
                        if end >= last:
                            break
                        if len(found) == batches:
                            return found, TextStart(start.run, ((batch.first, last), *start.parts[at + 1 :]))
                        found.append(batch)
                    else:
                        end = planned.end.seq
        return found, None

    def _position(self, start: Position | TailStart | WantStart) -> Position | None:
        """Return where serving begins; None for the tail of a log that is not here.

        A known mark of a want says that the asker holds its log up to seq, and everything that log builds on: through
        `before`, log by log, down to the first `whole` one, below which it holds everything. Logs on a forked one are
        taken without it, so only a mark of a forked log itself says that the asker holds what that builds on. An
        unknown mark says nothing.
        A mark with another chain than is stored here says nothing either: the whole log is served, so that the asker
        finds the fork.
        """
        if isinstance(start, Position):
            return start
        if isinstance(start, TailStart):
            tail = self._find(start.run)
            return Position(-tail.number, (), tail.number, start.after_seq + 1) if tail else None
        held: dict[int, int] = {}
        logs: dict[int, NumberedLog] = {}
        newest_first: list[int] = []

        def take(marks: Iterable[Mark]) -> None:
            for mark in marks:
                log = self._find(mark.run)
                if log is None:
                    continue
                if log.number not in logs:
                    logs[log.number] = log
                    heappush(newest_first, -log.number)
                held[log.number] = max(held.get(log.number, 0), mark.seq)

        def is_known(mark: Mark) -> bool:
            log = self._find(mark.run)
            stored = self._reader.chain_at(LogId(*self._names, mark.run), mark.seq)
            if not stored:
                return log is None or not log.forked  # above the end of a forked log: perhaps of its other version
            return stored.hex() == mark.chain

        marks = {*start.tips, *start.older}
        known = set(filter(is_known, marks))
        take(known)
        named = {*held}
        floor = 0
        while newest_first:
            log = logs[-heappop(newest_first)]
            if log.forked and log.number not in named:
                continue
            if log.whole:
                floor = log.number - 1
                break
            take(log.before)
        above = tuple(sorted((number, seq) for number, seq in held.items() if number > floor))
        return Position(floor, above, floor + 1, held.get(floor + 1, 0) + 1)

    def _find(self, run: RunId) -> NumberedLog | None:
        row = self._reader.db.first(f"{NUMBERED} and run = ?", *self._whose, bytes.fromhex(run))
        return numbered(row) if row else None

    def _plan(self, position: Position, most: int) -> Iterator[PlannedBatch]:
        """Yield the batches to serve from `position` on, log after log."""
        number, seq = position.next_number, position.next_seq - 1
        if position.floor < 0:
            yield from self._plan_between(number, seq, number + 1, most)
            return
        above = ((stop, held) for stop, held in position.held if stop > number)
        for stop, held in chain(above, [(MAX_LOG + 1, 0)]):
            yield from self._plan_between(number, seq, stop, most)
            number, seq = stop, held

    def _plan_between(self, number: int, seq: int, stop: int, most: int) -> Iterator[PlannedBatch]:
        """Yield the batches of the logs number..stop-1: of the first one from after seq, of the others all."""
        page = 2 * most + 2  # heads; a batch mostly ends on the next head, and later if limits were changed
        while True:
            rows = self._reader.db.all(HEADS_FROM, number, number * SEQS + seq, *self._whose, number, stop, page)
            for log_number, group in groupby(rows, key=itemgetter(0)):
                yield from self._plan_log(log_number, list(group), seq if log_number == number else 0)
            if len(rows) < page:
                return
            number, seq = rows[-1][0], rows[-1][2] % SEQS

    def _plan_log(self, number: int, rows: Sequence[Any], seq: int) -> Iterator[PlannedBatch]:
        """Yield the batches of one log after seq; `rows` are its heads from there on."""
        log = LogId(*self._names, rows[0][1].hex())
        at = self._reader.head_at(number, log, seq)
        header = "" if at.seq else self._reader.header(number, log)
        heads = [Head(row[2] % SEQS, *row[3:]) for row in rows]
        ends: Iterable[tuple[Head, int]] = [(head, head.size) for head in heads]
        if not self._reader.db.first(
            HAS_STUB, number * SEQS + at.seq, rows[-1][2]
        ):  # how long their texts are nobody knows
            ends = batch_ends(at.seq, at.size, heads, self._reader.settings)
        for end, size in ends:
            yield PlannedBatch(number, log, at, end, size, header)
            at, header = end, ""

    def _read(self, planned: Sequence[PlannedBatch]) -> Iterator[tuple[int, Batch]]:
        """Yield these batches with their entries, each with the number of its log."""
        ranges: list[tuple[int, int]] = []
        for number, group in groupby(planned, key=attrgetter("number")):
            of_log = list(group)
            ranges.append((number * SEQS + of_log[0].at.seq, number * SEQS + of_log[-1].end.seq))
        stored = iter(stored_raws(self._reader.db, ranges))
        for number, log, at, end, size, header in planned:
            raws = list(islice(stored, end.seq - at.seq))
            batch = Batch(log, at.seq + 1, raws, None, at.chain, end.chain, end.sig, size, header)
            for part in parted(batch):
                yield number, _chained(part)


def _chained(batch: Batch) -> Batch:
    """Return a batch; LogError if its chain is broken: the peer that got it would take this one for a forger."""
    if (
        len(batch.head) != 64
        or type(batch.head) is not bytes
        or not batch.raws
        or extend_chain(batch.prev, batch.raws) != batch.chain
    ):
        raise LogError(f"what is stored of entries {batch.first} to {batch.last} is not what was written")
    return batch


def _signed(batch: Batch) -> Batch:
    """Return a batch; LogError if its writer did not sign its chain."""
    if not verify(batch.log.user, batch.head, head_message(batch.log, batch.last, batch.chain)):
        raise LogError(f"what is stored of entries {batch.first} to {batch.last} is not what was signed")
    return batch


def batch_ends(seq: int, size: int, heads: Sequence[Head], settings: Settings) -> Iterator[tuple[Head, int]]:
    """Yield the heads on which batches from after seq end: each time the farthest within the limits; with their bytes.

    If even the next head is beyond the limits it is yielded all the same, since a batch cannot end elsewhere.

    Args:
        size: The bytes of the entries from the head before up to seq.
    """
    end, size = heads[0], heads[0].size - size
    for head in heads[1:]:
        if not is_one_batch(head.seq - seq, size + head.size, settings):
            yield end, size
            seq, size = end.seq, 0
        end, size = head, size + head.size
    yield end, size
