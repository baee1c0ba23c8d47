"""Computations that all storages share: which heads to keep, where served batches end, what a mark implies.

The functions are pure: they get heads and logs as small records and know no tables. Log numbers count the logs of one
storage in the order they were begun; a log named in the `before` of another has the smaller number.

Source: docs/protocol.md, "Heads" and "Pull".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import NamedTuple

from p2pchat.config import Settings
from p2pchat.core.log import Batch, decode_entry
from p2pchat.core.records import Position, WantStart
from p2pchat.protocol import Mark, RunId


class Head(NamedTuple):
    """A stored head: `size` is the bytes of entries 1..seq, `c` the clock of entry seq."""

    seq: int
    size: int
    c: int
    chain: bytes
    sig: bytes


@dataclass(frozen=True, slots=True)
class NumberedLog:
    """A log as serving needs it; `whole` says it builds on all logs of its user there with a smaller number."""

    number: int
    run: RunId
    whole: bool
    before: tuple[Mark, ...]


def entry_bytes(raw: str) -> int:
    return len(raw) if raw.isascii() else len(raw.encode())


def clocks(batch: Batch) -> list[int]:
    """Return the clock of each entry of a batch."""
    entries = batch.entries if batch.entries is not None else map(decode_entry, batch.raws)
    return [entry.c for entry in entries]


# ---- heads


def fits(seq: int, size: int, head: Head, settings: Settings) -> bool:
    """Return whether one batch may hold everything from after (seq, size) to this head."""
    return head.seq - seq <= settings.max_batch_entries and head.size - size <= settings.max_batch_bytes


def batch_ends(seq: int, size: int, heads: Sequence[Head], settings: Settings) -> Iterator[Head]:
    """Yield the heads on which batches from after (seq, size) end: each time the farthest head within the limits.

    If even the next head is beyond the limits it is yielded all the same, since a batch cannot end elsewhere.
    """
    at = 0
    while at < len(heads):
        end = heads[at]
        at += 1
        while at < len(heads) and fits(seq, size, heads[at], settings):
            end = heads[at]
            at += 1
        yield end
        seq, size = end.seq, end.size


# ---- the marks of a link that fetches


def position_of(
    want: WantStart,
    find: Callable[[RunId], NumberedLog | None],
    chain: Callable[[NumberedLog, int], bytes | None],
    stranded: Sequence[int],
) -> Position:
    """Return where serving this want begins.

    A known mark says that the asker holds its log up to seq, and everything that log builds on: through `before`, log
    by log, down to the first `whole` one, below which it holds everything. An unknown mark says nothing. A mark with
    another chain than is stored here says nothing either: the whole log is served, so that the asker finds the fork.

    Args:
        find: Returns a log by its run.
        chain: Returns the chain stored at a seq; None above the last.
        stranded: The numbers of all tips if a log of this writer there forked, otherwise (). A log that a forked one
            built on is a tip again; a peer that holds a later log need not hold it, so only a mark of its own counts.
    """
    held: dict[int, int] = {}
    logs: dict[int, NumberedLog] = {}
    newest_first: list[int] = []

    def take(marks: Iterable[Mark]) -> None:
        for mark in marks:
            log = find(mark.run)
            if log is None:
                continue
            if log.number not in logs:
                logs[log.number] = log
                heappush(newest_first, -log.number)
            held[log.number] = max(held.get(log.number, 0), mark.seq)

    def is_known(mark: Mark) -> bool:
        log = find(mark.run)
        stored = chain(log, mark.seq) if log else None
        return stored is None or stored[:8].hex() == mark.chain8

    take(filter(is_known, (*want.tips, *want.older)))
    named = frozenset(held)
    floor = 0
    while newest_first:
        log = logs[-heappop(newest_first)]
        if log.whole:
            floor = log.number - 1
            break
        take(log.before)
    for number in stranded:
        if number not in named:
            held.pop(number, None)
            floor = min(floor, number - 1)
    above = tuple(sorted((number, seq) for number, seq in held.items() if number > floor))
    return Position(floor, above, floor + 1, held.get(floor + 1, 0) + 1)


def only(number: int, after_seq: int) -> Position:
    """Return the position that serves a single log; its floor is negative."""
    return Position(-number, (), number, after_seq + 1)


def resumed(position: Position, number: int, next_seq: int) -> Position:
    return Position(position.floor, position.held, number, next_seq)


# ---- members that hold an entry


def implied_seqs(run: RunId, last: int, later: Iterable[NumberedLog]) -> Mapping[RunId, int]:
    """Return for each later log that builds on the log `run`: a peer that holds it holds `run` up to which seq.

    Args:
        last: The last stored seq of the log `run`.
        later: The logs of the same user and conversation with larger numbers, ascending.
    """
    implied: dict[RunId, int] = {}
    for log in later:
        seqs = [mark.seq if mark.run == run else implied.get(mark.run, 0) for mark in log.before]
        seq = last if log.whole else max(seqs, default=0)
        if seq:
            implied[log.run] = seq
    return implied
