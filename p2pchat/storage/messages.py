"""What programs read: released entries by place, by clock, or one by its name; with what became of them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any, NamedTuple

from p2pchat.core.log import LogId, Ref, decode_entry, ref_key
from p2pchat.core.records import Relation
from p2pchat.protocol import ConversationId, UserId
from p2pchat.storage.base import Candidate, Edits, ReleasedEntry, SortKey, edits_of
from p2pchat.storage.read import LogQueries
from p2pchat.storage.schema import GAP, OLD, SEQ_BITS, SEQS

COLUMNS = "p.first_place + (e.id - p.start), e.id, e.body, p.received_at, p.flags"
MAY_BE_READ = f"(id) & {SEQS - 1} <= coalesce((select upto from seen where log = (id) >> {SEQ_BITS}), {SEQS})"
SEEN = MAY_BE_READ.replace("(id)", "e.id")
ANY_UNSEEN = "select 1 from seen limit 1"
BY_PLACE = f"""
select {COLUMNS} from places p join entries e on e.id >= p.start and e.id < p.start + p.entries
where p.first_place >= coalesce((select max(first_place) from places where first_place <= ?), 0)
and p.first_place + (e.id - p.start) > ?
"""
IN_THESE = f"and (select conversation from logs where number = p.start >> {SEQ_BITS}) in "  # asked once a stretch
IN_PLACE = "order by p.first_place, e.id limit ?"
PLACED = "places p on p.start = (select max(start) from places where start <= e.id) and e.id < p.start + p.entries"
BY_NAME = f"""
select {COLUMNS} from entries e
join places p on p.start = (select max(start) from places where start <= ?) and e.id < p.start + p.entries
where e.id = ?
"""
SHOWN_BY_CLOCK = f"""
select {COLUMNS}, e.c, u.id, l.run from entries e join {PLACED}
join logs l on l.number = e.id >> {SEQ_BITS} join users u on u.number = l.writer where
"""
SORT_KEY = f"(e.c, u.id, l.run, e.id & {SEQS - 1})"
LAST_PLACE = "select first_place + entries - 1 from places order by first_place desc limit 1"
FIRST_LOG = "select min(number) from logs where writer = ?"
FIRST_HEARD = "select received_at from places where start = ?"  # what is released of a log begins with its first entry
ALL = 1 << 62  # rows
Condition = tuple[str, tuple[object, ...]]  # a part of a where clause, and its values
ANY_MENDING = "select 1 from mendings where conversation = ? limit 1"
# one message and one person after the other: not one row for each of a thousand edits
NEXT_MENDED = "select min(seq) from mendings where conversation = ? and run = ? and seq > ? and seq <= ?"
NEXT_MENDER = """
select min(author) from mendings where conversation = ? and run = ? and seq = ? and writer = ? and author > ?
"""
NEWEST_MENDING = f"""
select m.id, m.c, e.body from mendings m join entries e on e.id = m.id join logs l on l.number = m.id >> {SEQ_BITS}
where m.conversation = ? and m.run = ? and m.seq = ? and m.writer = ? and m.author = ? and m.reaction = ?
and {MAY_BE_READ.replace("(id)", "m.id")}
order by m.c desc, l.run desc, m.id desc limit 1
"""  # who has edited one message a million times costs a look at the index, not a million entries


class Bounds(NamedTuple):
    """Conditions with their values: `clock` those on e.c alone, for the index; `exact` those on the whole key."""

    clock: list[Condition]
    exact: list[Condition]


class MessageQueries:
    """Reads released entries; those that wait have no place and are nowhere here."""

    def __init__(self, reader: LogQueries) -> None:
        self._reader = reader

    def places(
        self, after: int, limit: int, conversations: Sequence[ConversationId] | None = None, *, hidden: bool = False
    ) -> list[ReleasedEntry]:
        """Return released entries with place > after; with `hidden` also those that may not be read any more."""
        return self._all_shown(self._placed(after, limit, conversations, not hidden and self._hides))

    def _placed(
        self, after: int, limit: int, conversations: Sequence[ConversationId] | None, only_seen: bool
    ) -> Sequence[Any]:
        """Return rows of BY_PLACE."""
        seen = f"and {SEEN}" if only_seen else ""
        these = "" if conversations is None else IN_THESE + self._numbers(conversations)
        return self._reader.all(f"{BY_PLACE} {these} {seen} {IN_PLACE}", after + 1, after, limit)

    def _numbers(self, conversations: Sequence[ConversationId]) -> str:
        """Return the numbers of these as a list of SQL; 0, which none has, for what nobody wrote in yet."""
        numbers = {self._reader.number("conversations", each) for each in conversations}
        return f"({', '.join(map(str, sorted(numbers))) or 0})"

    def first_received_at(self, user: UserId) -> int:
        """Return when something of a user came first, UTC microseconds; 0 when nothing ever did."""
        number = self._reader.first(FIRST_LOG, self._reader.number("users", user))[0]
        row = self._reader.first(FIRST_HEARD, number * SEQS + 1) if number else None
        return int(row[0]) if row else 0

    def last_place(self) -> int:
        """Return the newest place, 0 when nothing was released."""
        row = self._reader.first(LAST_PLACE)
        return int(row[0]) if row else 0

    def entry(self, log: LogId, seq: int, *, hidden: bool = False) -> ReleasedEntry | None:
        number = self._reader.log_number(log)
        statement = BY_NAME if hidden else f"{BY_NAME} and {SEEN}"
        id = number * SEQS + seq
        row = self._reader.first(statement, id, id) if 0 < seq < SEQS else None
        return self._all_shown([row])[0] if row else None

    def history(
        self,
        conversation: ConversationId | None,
        before: SortKey | None,
        after: SortKey | None,
        since: int | None,
        limit: int,
    ) -> list[ReleasedEntry]:
        bounds, newest_first = _bounds(before, after, since), after is None
        if conversation is not None:
            number = self._reader.number("conversations", conversation)
            rows = self._sorted([("e.conversation = ?", (number,))], bounds, newest_first, limit)
        elif limit:
            rows = self._merged(bounds, newest_first, limit)
        else:
            rows = self._sorted([("1 = 1", ())], bounds, newest_first, limit)
        return self._all_shown([row[:5] for row in (reversed(rows) if newest_first else rows)])

    @property
    def _hides(self) -> bool:
        """Whether anything that has a place may not be read any more: what was removed from a group's talk."""
        return self._reader.first(ANY_UNSEEN) is not None

    def _sorted(self, of: list[Condition], bounds: Bounds, newest_first: bool, limit: int) -> Sequence[Any]:
        """Return rows of BY_CLOCK, newest or oldest first; limit 0 means all."""
        unseen = [(SEEN, ())] if self._hides else []
        where, values = joined([*of, *bounds.clock, *bounds.exact, *unseen])
        order = ", ".join(f"{name} {'desc' if newest_first else 'asc'}" for name in ("e.c", "u.id", "l.run", "e.id"))
        return self._reader.all(f"{SHOWN_BY_CLOCK} {where} order by {order} limit ?", *values, limit or ALL)

    def _merged(self, bounds: Bounds, newest_first: bool, limit: int) -> Sequence[Any]:
        """Return rows of BY_CLOCK of all conversations, from no more of them than can matter.

        There is no index on the clock alone. So the conversations are taken in the order of their newest (oldest)
        entry within the bounds, until that one lies beyond what is full already.
        """
        where, values = joined([("e.conversation = c.number", ()), *bounds.clock])
        order = "desc" if newest_first else "asc"
        edges = self._reader.all(
            f"select number, (select e.c from entries e where {where} order by e.c {order} limit 1) edge "
            f"from conversations c order by edge {order}",
            *values,
        )
        rows: list[Any] = []
        for number, clock in edges:
            if clock is None or (len(rows) == limit and _beyond(clock, rows[-1][5], newest_first)):
                continue
            rows += self._sorted([("e.conversation = ?", (number,))], bounds, newest_first, limit)
            rows = sorted(rows, key=_sort_key, reverse=newest_first)[:limit]
        return rows

    def _all_shown(self, rows: Iterable[Any]) -> list[ReleasedEntry]:
        page = [self._shown(row) for row in rows]
        by_log: dict[LogId, list[int]] = {}
        for at, one in enumerate(page):
            by_log.setdefault(one.log, []).append(at)
        any_there = {id: self._is_mended(id) for id in {log.conversation for log in by_log}}
        for log, places in by_log.items():
            if any_there[log.conversation]:
                edits = self.edits(log, min(page[at].seq for at in places), max(page[at].seq for at in places))
                for at in places:
                    if page[at].seq in edits:
                        page[at] = replace(page[at], edits=edits[page[at].seq])
        return page

    def _is_mended(self, conversation: ConversationId) -> bool:
        """Say whether anything at all was edited, deleted or reacted to there; mostly there is no more to ask."""
        return self._reader.first(ANY_MENDING, self._reader.number("conversations", conversation)) is not None

    def edits(self, log: LogId, first: int, last: int) -> dict[int, Edits]:
        """Return what became of entries first..last of a log, where something did, by seq."""
        number = self._reader.number("conversations", log.conversation)
        run, writer = bytes.fromhex(log.run), bytes.fromhex(log.user[:16])
        candidates: dict[int, list[Candidate]] = {}
        for seq, author, reaction in self._menders(log, number, first, last):
            row = self._reader.first(NEWEST_MENDING, number, run, seq, writer, author, int(reaction))
            if row is None:
                continue  # there is none, or what there is may not be read
            decode_entry(row[2])  # as in _shown
            by = self._reader.log_id(row[0] >> SEQ_BITS)
            mending = Relation(by, row[0] % SEQS, row[1], Ref(ref_key(log.user, log.run), seq), bool(reaction))
            candidates.setdefault(seq, []).append((mending, row[2]))
        found = {seq: edits_of(log.user, some) for seq, some in candidates.items()}
        return {seq: edits for seq, edits in found.items() if edits is not None}

    def _menders(self, log: LogId, conversation: int, first: int, last: int) -> Iterator[tuple[int, int, bool]]:
        """Yield who did something to entries first..last of a log: seq, the person's number, by a reaction or not."""
        run, writer, own = bytes.fromhex(log.run), bytes.fromhex(log.user[:16]), self._reader.number("users", log.user)
        seq = first - 1
        while seq := self._least(NEXT_MENDED, conversation, run, seq, last):
            author = 0
            while author := self._least(NEXT_MENDER, conversation, run, seq, writer, author):
                yield seq, author, True
                if author == own:  # nobody else edits it
                    yield seq, author, False

    def _least(self, statement: str, *parameters: object) -> int:
        """Return the one number a statement asks for, 0 for none."""
        return int(self._reader.first(statement, *parameters)[0] or 0)

    def _shown(self, row: Any) -> ReleasedEntry:
        place, id, body, received_at, flags = row
        log = self._reader.log_id(id >> SEQ_BITS)
        decode_entry(body)  # LogError for what can be none: the disk's doing, and said as such (errors.py)
        return ReleasedEntry(log, id % SEQS, body, place, received_at, bool(flags & OLD), bool(flags & GAP))


def _sort_key(row: Any) -> tuple[int, bytes, bytes, int]:
    return (row[5], row[6], row[7], row[1] % SEQS)


def _beyond(clock: int, last: int, newest_first: bool) -> bool:
    return clock < last if newest_first else clock > last


def _bounds(before: SortKey | None, after: SortKey | None, since: int | None) -> Bounds:
    bounds = Bounds([], [])
    if since is not None:
        bounds.clock.append(("e.c >= ?", (since,)))
    if before is not None:
        bounds.clock.append(("e.c <= ?", (before[0],)))
        bounds.exact.append((f"{SORT_KEY} < (?, ?, ?, ?)", _columns(before)))
    if after is not None:
        bounds.clock.append(("e.c >= ?", (after[0],)))
        bounds.exact.append((f"{SORT_KEY} > (?, ?, ?, ?)", _columns(after)))
    return bounds


def joined(conditions: list[Condition]) -> tuple[str, list[object]]:
    return " and ".join(text for text, _ in conditions), [value for _, values in conditions for value in values]


def _columns(key: SortKey) -> tuple[object, ...]:
    c, user, run, seq = key
    return (c, bytes.fromhex(user), bytes.fromhex(run), seq)


# ---- stepwise
#
# Showing, for a database that sorts everything before it gives the first row, and looks up no greatest value for a row
# that it has just read: MySQL and MariaDB.
#
# The same questions are asked in steps there, each within bounds that stand in the statement: first how far back a page
# can reach, then its entries, then the stretches these were released in. What a step leaves too short goes on farther.


STEPS_BY_CLOCK = f"""
select e.id, e.body, e.c, u.id, l.run from entries e
join logs l on l.number = e.id >> {SEQ_BITS} join users u on u.number = l.writer where
"""
STRETCHES = """
select first_place, start, entries, received_at, flags from places
where start >= coalesce((select max(start) from places where start <= ?), 0) and start <= ?
"""
MOST_RANGES = 32  # in one statement
WIDER = 4  # times as much in the next step


class BoundedMessageQueries(MessageQueries):
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
        found = self._reader.all(f"{STEPS_BY_CLOCK} {where} order by {order}", *values)
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
