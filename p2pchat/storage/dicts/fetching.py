"""Serving: batches of what a user wrote, in the order the logs were begun here."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from itertools import islice

from p2pchat.config import Settings
from p2pchat.core.log import Batch, LogId
from p2pchat.core.records import ForkStart, Position, Start, TailStart, WantStart
from p2pchat.protocol import ConversationId, UserId
from p2pchat.storage.batches import batch_ends, only, position_of, resumed
from p2pchat.storage.dicts.log import MemoryLog
from p2pchat.storage.dicts.tables import Tables


class Fetching:
    """Serves what one user wrote in one conversation from a start on; made anew for each fetch."""

    def __init__(self, tables: Tables, settings: Settings, conversation: ConversationId, user: UserId) -> None:
        self._tables = tables
        self._settings = settings
        self._names = (conversation, user)
        self._logs = tables.of_user.get(self._names, [])

    def fetch(self, start: Start, batches: int) -> tuple[list[Batch], Position | None]:
        if isinstance(start, ForkStart):
            return list(self._tables.forks.get(LogId(*self._names, start.run), ())), None
        position = self._position(start)
        return ([], None) if position is None else self._serve(position, batches)

    def _position(self, start: Position | TailStart | WantStart) -> Position | None:
        """Return where this start begins, None where there is nothing at all."""
        if isinstance(start, Position):
            return start
        logs = self._logs
        by_run = {log.id.run: log for log in logs}
        if isinstance(start, TailStart):
            tail = by_run.get(start.run)
            return only(tail.number, start.after_seq) if tail else None
        return position_of(
            start,
            lambda run: by_run[run].numbered if run in by_run else None,
            lambda log, seq: by_run[log.run].at(seq).chain if seq <= len(by_run[log.run].raws) else None,
            [log.number for log in logs if log.is_tip] if any(log.forked for log in logs) else [],
        )

    def _serve(self, position: Position, most: int) -> tuple[list[Batch], Position | None]:
        held = dict(position.held)
        served: list[Batch] = []
        for log in self._logs[bisect_left(self._logs, position.next_number, key=lambda log: log.number) :]:
            if position.floor < 0 and log.number != -position.floor:
                break
            seq = position.next_seq - 1 if log.number == position.next_number else held.get(log.number, 0)
            if log.forked or seq >= len(log.raws):
                continue
            if len(served) == most:
                return served, resumed(position, log.number, seq + 1)
            served += self._batches(log, seq, most - len(served))
            if served[-1].last < len(log.raws):
                return served, resumed(position, log.number, served[-1].last + 1)
        return served, None

    def _batches(self, log: MemoryLog, seq: int, most: int) -> list[Batch]:
        at = log.at(seq)
        batches: list[Batch] = []
        above = log.heads[bisect_right(log.heads, seq, key=lambda head: head.seq) :]
        for end in islice(batch_ends(seq, at.size, above, self._settings), most):
            raws = log.raws[at.seq : end.seq]
            batches.append(Batch(log.id, at.seq + 1, raws, None, at.chain, end.chain, end.sig))
            at = end
        return batches
