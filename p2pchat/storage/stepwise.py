"""Showing, for a database that sorts everything before it gives the first row, and looks up no greatest value for a row
that it has just read: MySQL and MariaDB.

The same questions are asked in steps there, each within bounds that stand in the statement: first how far back a page
can reach, then its entries, then the stretches these were released in. What a step leaves too short goes on farther.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

from p2pchat.protocol import ConversationId
from p2pchat.storage.messages import BY_PLACE, IN_PLACE, IN_THESE, SEEN, Bounds, Condition, Showing, joined
from p2pchat.storage.schema import SEQ_BITS

BY_CLOCK = f"""
select e.id, e.body, e.c, u.id, l.run from entries e
join logs l on l.number = e.id >> {SEQ_BITS} join users u on u.number = l.writer where
"""
STRETCHES = """
select first_place, start, entries, received_at, flags from places
where start >= coalesce((select max(start) from places where start <= ?), 0) and start <= ?
"""
MOST_RANGES = 32  # in one statement
WIDER = 4  # times as much in the next step


class Stepwise(Showing):
    """As Showing, in steps."""

    def _placed(
        self, after: int, limit: int, conversations: Sequence[ConversationId] | None, only_seen: bool
    ) -> list[Any]:
        """Places are numbered without a gap: so many of them are at most so many entries."""
        seen = f"and {SEEN}" if only_seen else ""
        these = "" if conversations is None else IN_THESE + self._numbers(conversations)
        statement = f"{BY_PLACE} and p.first_place <= ? {these} {seen} {IN_PLACE}"
        rows: list[Any] = []
        last, width = self.last_place(), limit
        while len(rows) < limit and after < last:
            until = after + width
            found = self._reader.all(statement, after + 1, after, until, limit - len(rows))
            rows += found
            # A stretch that begins within the bounds may end beyond them: nothing of it comes twice.
            after = max(until, found[-1][0]) if found else until
            width *= WIDER
        return rows

    def _sorted(self, of: list[Condition], bounds: Bounds, newest_first: bool, limit: int) -> Sequence[Any]:
        rows: list[Any] = []
        width = limit
        while True:
            edge = self._edge([*of, *bounds.clock], newest_first, width) if limit else None
            rows = self._within(of, bounds, newest_first, edge)
            if edge is None or len(rows) >= limit:
                return rows[:limit] if limit else rows
            width *= WIDER

    def _edge(self, conditions: list[Condition], newest_first: bool, width: int) -> int | None:
        """Return the clock of the entry so many before (or behind) the first, None where there are fewer."""
        where, values = joined(conditions)
        order = "desc" if newest_first else "asc"
        row = self._reader.first(
            f"select e.c from entries e where {where} order by e.c {order} limit 1 offset ?", *values, width
        )
        return None if row is None else int(row[0])

    def _within(self, of: list[Condition], bounds: Bounds, newest_first: bool, edge: int | None) -> list[Any]:
        """Return the rows of a page as Showing has them, all from the edge on."""
        until: list[Condition] = [] if edge is None else [(f"e.c {'>=' if newest_first else '<='} ?", (edge,))]
        unseen: list[Condition] = [(SEEN, ())] if self._hides else []
        where, values = joined([*of, *bounds.clock, *bounds.exact, *until, *unseen])
        order = ", ".join(f"{name} {'desc' if newest_first else 'asc'}" for name in ("e.c", "u.id", "l.run", "e.id"))
        found = self._reader.all(f"{BY_CLOCK} {where} order by {order}", *values)
        stretches = self._stretches([row[0] for row in found])
        starts = [stretch[1] for stretch in stretches]
        rows = []
        for id, body, *key in found:
            at = bisect_right(starts, id) - 1
            first_place, start, entries, received_at, flags = stretches[at] if at >= 0 else (0, 0, 0, 0, 0)
            if start <= id < start + entries:  # else it waits
                rows.append((first_place + id - start, id, body, received_at, flags, *key))
        return rows

    def _stretches(self, ids: Sequence[int]) -> list[Any]:
        """Return the rows of places that these entries can be in, by their start."""
        ends: dict[int, tuple[int, int]] = {}  # the first and last of each log
        for id in ids:
            low, high = ends.get(id >> SEQ_BITS, (id, id))
            ends[id >> SEQ_BITS] = (min(low, id), max(high, id))
        found = chain.from_iterable(self._of_ranges(part) for part in _parts(list(ends.values())))
        return sorted(set(map(tuple, found)), key=lambda row: row[1])

    def _of_ranges(self, ranges: Sequence[tuple[int, int]]) -> Sequence[Any]:
        return self._reader.all(" union all ".join([STRETCHES] * len(ranges)), *chain.from_iterable(ranges))


def _parts(ranges: Sequence[tuple[int, int]]) -> Iterator[Sequence[tuple[int, int]]]:
    return (ranges[at : at + MOST_RANGES] for at in range(0, len(ranges), MOST_RANGES))
