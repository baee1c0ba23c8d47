"""What programs read: released entries by place, by clock, or one by its name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from p2pchat.core.log import LogId
from p2pchat.protocol import ConversationId
from p2pchat.storage.base import Shown, SortKey
from p2pchat.storage.reading import Reader
from p2pchat.storage.tables import GAP, OLD, SEQ_BITS, SEQS

BY_PLACE = """
select p.first_place + (e.id - p.start), e.id, e.body, p.received_at, p.flags
from places p join entries e on e.id >= p.start and e.id < p.start + p.entries
where p.first_place >= coalesce((select max(first_place) from places where first_place <= ?), 0)
and p.first_place + (e.id - p.start) > ?
order by p.first_place, e.id limit ?
"""
RELEASED = """
select p.first_place + (e.id - p.start), e.id, e.body, p.received_at, p.flags
from entries e
join places p on p.start = (select max(start) from places where start <= e.id) and e.id < p.start + p.entries
"""
BY_CLOCK = f"{RELEASED} join logs l on l.number = e.id >> {SEQ_BITS} join users u on u.number = l.writer where "
SORT_KEY = f"(e.c, u.id, l.run, e.id & {SEQS - 1})"
ALL = 1 << 62  # rows


class Showing:
    """Reads released entries; those that wait have no place and are nowhere here."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def places(self, after: int, limit: int) -> list[Shown]:
        return [self._shown(row) for row in self._reader.all(BY_PLACE, after + 1, after, limit)]

    def entry(self, log: LogId, seq: int) -> Shown | None:
        number = self._reader.log_number(log)
        row = self._reader.first(f"{RELEASED} where e.id = ?", number * SEQS + seq) if 0 < seq < SEQS else None
        return self._shown(row) if row else None

    def history(
        self,
        conversation: ConversationId | None,
        before: SortKey | None,
        after: SortKey | None,
        since: int | None,
        limit: int,
    ) -> list[Shown]:
        newest_first = after is None
        conditions = list(self._conditions(conversation, before, after, since))
        order = "desc" if newest_first else "asc"
        keys = ", ".join(f"{name} {order}" for name in ("e.c", "u.id", "l.run", "e.id"))
        statement = f"{BY_CLOCK} {' and '.join(text for text, _ in conditions)} order by {keys} limit ?"
        parameters = [value for _, values in conditions for value in values]
        rows = self._reader.all(statement, *parameters, limit or ALL)
        shown = [self._shown(row) for row in rows]
        return shown[::-1] if newest_first else shown

    def _conditions(
        self, conversation: ConversationId | None, before: SortKey | None, after: SortKey | None, since: int | None
    ) -> Iterator[tuple[str, tuple[object, ...]]]:
        """Yield conditions with their values. Those on e.c alone are for the index."""
        if conversation is None:
            yield "1 = 1", ()
        else:
            yield "e.conversation = ?", (self._reader.number("conversations", conversation),)
        if since is not None:
            yield "e.c >= ?", (since,)
        if before is not None:
            yield f"e.c <= ? and {SORT_KEY} < (?, ?, ?, ?)", (before[0], *_columns(before))
        if after is not None:
            yield f"e.c >= ? and {SORT_KEY} > (?, ?, ?, ?)", (after[0], *_columns(after))

    def _shown(self, row: Any) -> Shown:
        place, id, body, received_at, flags = row
        log = self._reader.log_id(id >> SEQ_BITS)
        return Shown(log, id % SEQS, body, place, received_at, bool(flags & OLD), bool(flags & GAP))


def _columns(key: SortKey) -> tuple[object, ...]:
    c, user, run, seq = key
    return (c, bytes.fromhex(user), bytes.fromhex(run), seq)
