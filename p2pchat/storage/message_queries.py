"""Queries for messages: released entries by place, by clock or by name, with their edits and reactions.

An entry that was not released has no place and is never returned. `upto` in the table `seen` hides later entries of a
log from programs.

MySQL sorts everything before it gives the first row, and cannot look up a greatest value for a row it has just read. So
a page is asked for in steps, each within bounds in the statement: how far back the page can reach, then its entries.
If the page is too short, the bounds grow.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from p2pchat.core.durable_changes import LogKey
from p2pchat.core.edits import EntryEdits, RelatedEntry, edits_of
from p2pchat.core.log import LogId, RawEntry, decode_entry
from p2pchat.kinds import ASPECTS
from p2pchat.protocol import MAX_INT, REF_USER_BYTES, ConversationId, UserId, user_start
from p2pchat.storage.contract import ALL_MESSAGES, ReleasedEntry, SortKey, is_deleted
from p2pchat.storage.log_queries import LogQueries
from p2pchat.storage.schema import GAP, OLD, SEQ_BITS, SEQS

COLUMNS = "e.place, e.id, e.c, e.body, e.received_at, e.flags"
IS_VISIBLE = f"(id) & {SEQS - 1} <= coalesce((select upto from seen where log = (id) >> {SEQ_BITS}), {SEQS})"
VISIBLE = IS_VISIBLE.replace("(id)", "e.id")
ANY_HIDDEN = "select 1 from seen limit 1"
BY_PLACE = f"""
select {COLUMNS} from places p join entries e on e.id >= p.start and e.id < p.start + p.entries
where p.first_place >= coalesce((select max(first_place) from places where first_place <= ?), 0)
and e.place > ? and e.place - p.first_place = e.id - p.start
"""
IN_THESE = f"and (select conversation from logs where number = p.start >> {SEQ_BITS}) in "  # evaluated once a stretch
IN_PLACE = "order by p.first_place, e.id limit ?"
BY_NAME = f"select {COLUMNS} from entries e where e.id = ? and e.place is not null"
BY_CLOCK = f"""
select {COLUMNS}, u.id, l.run from entries e
join logs l on l.number = e.id >> {SEQ_BITS} join users u on u.number = l.writer where e.place is not null and
"""
NEVER = MAX_INT + 1  # above every clock
WIDER = 4  # times as much in the next step
NAMING = f"""
select a.root, a.id, exists (
    select 1 from changes m where m.conversation = l.conversation and m.run = l.run and m.seq = a.id & {SEQS - 1}
    and m.writer = substr(u.id, 1, {REF_USER_BYTES}) and m.author = l.writer and m.aspect = 'text'
) from attachments a join logs l on l.number = a.id >> {SEQ_BITS} join users u on u.number = l.writer where a.root in
"""
RAW = "select c, body from entries where id = ?"
MOST_ASKED = 500  # contents in one statement
SORT_KEY = f"(e.c, u.id, l.run, e.id & {SEQS - 1})"
FIRST_RECEIVED = "select received_at from entries where id > ? and id < ? order by id limit 1"
FIRST_LOG = "select min(number) from logs where writer = ?"
Condition = tuple[str, tuple[object, ...]]  # a part of a where clause, and its values
CHANGED = """
select writer, run, seq from changes where conversation = ? and aspect = ? and author not in {}
group by writer, run, seq order by max(c) desc limit ?
"""
CHANGERS = """
select distinct u.id from changes m join users u on u.number = m.author where m.conversation = ? and m.aspect = ?
"""
ANY_RELATION = "select 1 from changes where conversation = ? limit 1"
# One message and one person after the other, instead of a row for each of a thousand edits.
NEXT_RELATED = "select min(seq) from changes where conversation = ? and run = ? and seq > ? and seq <= ?"
OF_MESSAGE = "conversation = ? and run = ? and seq = ? and writer = ?"
MOST_AUTHORS = 500  # people in one statement: MySQL repeats a step at most 1,000 times
OF_A_MEMBER = 256  # keys of a member, first known first, that one look at a message reads, but of this gateway; a guess
OWN_MEMBER = """
select g.member from hosted h join users u on u.id = h.id join guests g on g.guest = u.number limit 1
"""
OF_OTHERS = "and not exists (select 1 from guests x where x.guest = m.author and x.member in ({}))"
NEXT_AUTHOR = f"select min(m.author) from changes m where m.{OF_MESSAGE.replace('and ', 'and m.')} and m.author >"
AUTHORS = f"""
with recursive person (author, n) as (
    select ({NEXT_AUTHOR} ? {{others}}), 1
    union all
    select ({NEXT_AUTHOR} p.author {{others}}), p.n + 1
    from person p where p.author is not null and p.n < {MOST_AUTHORS}
)
select p.author, (select g.member from guests g where g.guest = p.author order by g.member limit 1)
from person p where p.author is not null
"""
NEXT_ASPECT = """
select min(aspect) from changes where conversation = ? and run = ? and seq = ? and writer = ? and author = ?
and aspect > ?
"""
RELATION = f"""
select m.id, m.c, e.body, e.received_at from changes m join entries e on e.id = m.id
join logs l on l.number = m.id >> {SEQ_BITS}
where m.conversation = ? and m.run = ? and m.seq = ? and m.writer = ? and m.author = ? and m.aspect = ?
and m.c < ? and {IS_VISIBLE.replace("(id)", "m.id")}
order by """
NEWEST = "m.c desc, l.run desc, m.id desc limit 1"  # a million edits of one message cost one look at the index
OLDEST = "m.c, l.run, m.id limit 1"


class QueryBounds(NamedTuple):
    """Conditions with their values: `clock` those on e.c alone, for the index; `exact` those on the whole key."""

    clock: list[Condition]
    exact: list[Condition]


class MessageQueries(LogQueries):
    """Queries on one connection; the caller begins and ends transactions."""

    def places(
        self, after: int, limit: int, conversations: Sequence[ConversationId] | None = None, *, hidden: bool = False
    ) -> list[ReleasedEntry]:
        """Return released entries with place > after, in order of place.

        Entries that Change.visible has hidden are left out. `conversations` None means all; entries of others are
        skipped without being read.
        With `hidden` also those that programs may not read: the search index takes them, since they may become visible.
        """
        return self._with_edits(self._rows_by_place(after, limit, conversations, not hidden and self._hides))

    def _rows_by_place(
        self, after: int, limit: int, conversations: Sequence[ConversationId] | None, only_visible: bool
    ) -> list[Any]:
        """Return rows of BY_PLACE. Places have no gaps, so a range of places has at most as many entries."""
        seen = f"and {VISIBLE}" if only_visible else ""
        these = "" if conversations is None else IN_THESE + self._numbers("conversations", conversations)
        statement = f"{BY_PLACE} and p.first_place <= ? {these} {seen} {IN_PLACE}"
        rows: list[Any] = []
        last, width = self.last_place(), limit
        while len(rows) < limit and after < last:
            until = after + width
            found = self.db.all(statement, after + 1, after, until, limit - len(rows))
            rows += found
            # A stretch that begins within the bounds may end beyond them; it must not come twice.
            after = max(until, found[-1][0]) if found else until
            width *= WIDER
        return rows

    def _numbers(self, table: str, ids: Iterable[str]) -> str:
        """Return the numbers of conversations or users as a list of SQL; 0, which none has, for those not stored."""
        numbers = {self.db.number(table, each) for each in ids}
        return f"({', '.join(map(str, sorted(numbers))) or 0})"

    def first_received_at(self, user: UserId) -> int:
        """Return when something of a user was first received, in UTC microseconds; 0 for never."""
        number = self.db.value(FIRST_LOG, self.db.number("users", user))
        if not number:
            return 0
        deleted = self.db.value("select received_at from pruned where log = ?", number)
        return int(deleted or self.db.value(FIRST_RECEIVED, number * SEQS, (number + 1) * SEQS) or 0)

    def entry(self, log: LogId, seq: int, *, hidden: bool = False) -> ReleasedEntry | None:
        """Return one released entry; None if it is not here."""
        number = self.log_number(log)
        statement = BY_NAME if hidden else f"{BY_NAME} and {VISIBLE}"
        id = number * SEQS + seq
        row = self.db.first(statement, id) if 0 < seq < SEQS else None
        return self._with_edits([row])[0] if row else None

    def named(self, names: Sequence[tuple[LogKey, int]]) -> list[ReleasedEntry | None]:
        """Return released entries by what their ids say, of the log and the number; None for one that is not here."""
        held = self.lookup([key for key, _ in names])
        return [self.entry(held[key].log, seq) if key in held else None for key, seq in names]

    def changers(self, conversation: ConversationId, aspect: str) -> list[UserId]:
        """Return the users who changed this aspect of an entry of a conversation."""
        rows = self.db.all(CHANGERS, self.db.number("conversations", conversation), aspect)
        return [id.hex() for (id,) in rows]

    def changed(
        self, conversation: ConversationId, aspect: str, limit: int, without: Iterable[UserId] = ()
    ) -> list[ReleasedEntry]:
        """Return the released entries of which this aspect was changed last, the last one first.

        What the users `without` changed counts for nothing.
        """
        statement = CHANGED.format(self._numbers("users", without))
        rows = self.db.all(statement, self.db.number("conversations", conversation), aspect, limit)
        found = self.named([(LogKey(conversation, (writer + run).hex()), seq) for writer, run, seq in rows])
        return [one for one in found if one is not None]

    def referring(self, roots: Sequence[str], most: int = ALL_MESSAGES) -> dict[str, list[tuple[LogId, int]]]:
        """Return the stored messages that name any of these contents, by root, in the order they were stored.

        Of each content at most `most` messages are looked at, those that were stored first.

        Messages that their writer deleted, and those that were deleted here, are left out. Messages that are not
        released, or hidden, count. A root that no message names has no item.
        """
        found: dict[str, list[tuple[LogId, int]]] = {}
        asked = MOST_ASKED if most == ALL_MESSAGES else 1  # contents in one statement
        for at in range(0, len(roots), asked):
            part = [bytes.fromhex(root) for root in roots[at : at + asked]]
            text = f"{NAMING} ({', '.join('?' * len(part))}) order by a.id limit ?"
            for root, id, is_changed in self.db.all(text, *part, most):
                log, seq = self.log_id(id >> SEQ_BITS), id % SEQS
                edits = self.edits(log, {seq: self.db.first(RAW, id)}).get(seq) if is_changed else None
                if not is_deleted(edits):
                    found.setdefault(root.hex(), []).append((log, seq))
        return found

    def history(
        self,
        conversation: ConversationId | None,
        *,
        before: SortKey | None = None,
        after: SortKey | None = None,
        since: int | None = None,
        limit: int = 100,
        within: Collection[ConversationId] | None = None,
    ) -> list[ReleasedEntry]:
        """Return released entries sorted by (c, user, run, seq), oldest first.

        Entries that Change.visible has hidden are left out.

        Args:
            conversation: None means all, or all of `within`.
            before: Return the newest entries below this key; also the default, with no key.
            after: Return the oldest entries above this key instead.
            since: The lowest c.
            limit: Most entries to return; 0 means no limit.
        """
        bounds, newest_first, limit = _bounds(before, after, since), after is None, limit or ALL_MESSAGES
        if conversation is not None:
            number = self.db.number("conversations", conversation)
            rows = self._sorted([("e.conversation = ?", (number,))], bounds, newest_first, limit)
        else:
            these = "" if within is None else self._numbers("conversations", within)
            rows = self._merged(bounds, newest_first, limit, these)
        return self._with_edits([row[:6] for row in (reversed(rows) if newest_first else rows)])

    @property
    def _hides(self) -> bool:
        """Return whether any released entry is hidden, as entries removed from the talk of a group are."""
        return self.db.first(ANY_HIDDEN) is not None

    def _sorted(self, of: list[Condition], bounds: QueryBounds, newest_first: bool, limit: int) -> Sequence[Any]:
        """Return rows of these entries as _entry takes them, with the writer and run."""
        width = limit
        while True:
            edge = self._edge([*of, *bounds.clock], newest_first, width)
            rows = self._within(of, bounds, newest_first, edge)
            if edge is None or len(rows) >= limit:
                return rows[:limit]
            width *= WIDER

    def _edge(self, conditions: list[Condition], newest_first: bool, width: int) -> int | None:
        """Return the clock of the entry `width` places from the first; None if there are fewer."""
        where, values = joined(conditions)
        order = "desc" if newest_first else "asc"
        statement = f"select e.c from entries e where {where} order by e.c {order} limit 1 offset ?"
        clock: int | None = self.db.value(statement, *values, width)
        return clock

    def _within(self, of: list[Condition], bounds: QueryBounds, newest_first: bool, edge: int | None) -> Sequence[Any]:
        """Return these rows up to the edge."""
        until: list[Condition] = [] if edge is None else [(f"e.c {'>=' if newest_first else '<='} ?", (edge,))]
        hidden: list[Condition] = [(VISIBLE, ())] if self._hides else []
        where, values = joined([*of, *bounds.clock, *bounds.exact, *until, *hidden])
        order = ", ".join(f"{name} {'desc' if newest_first else 'asc'}" for name in ("e.c", "u.id", "l.run", "e.id"))
        return self.db.all(f"{BY_CLOCK} {where} order by {order}", *values)

    def _merged(self, bounds: QueryBounds, newest_first: bool, limit: int, these: str) -> Sequence[Any]:
        """Return the rows that _sorted returns of each of these conversations, "" for all.

        There is no index on the clock alone. So conversations are read in the order of their newest (oldest) entry
        within the bounds, until the page is full and that entry is beyond its end. Of each further one only what may be
        on the page is read: a user may have written to many in turn.
        """
        where, values = joined([("e.conversation = c.number", ()), *bounds.clock])
        order = "desc" if newest_first else "asc"
        edges = self.db.all(
            f"select number, (select e.c from entries e where {where} order by e.c {order} limit 1) edge "
            f"from conversations c {f'where c.number in {these}' if these else ''} order by edge {order}",
            *values,
        )
        rows: list[Any] = []
        for number, clock in edges:
            of: list[Condition] = [("e.conversation = ?", (number,))]
            if clock is None:
                continue
            if len(rows) == limit:
                if (clock < rows[-1][2]) if newest_first else (clock > rows[-1][2]):
                    continue
                of.append((f"e.c {'>=' if newest_first else '<='} ?", (rows[-1][2],)))
            rows += self._sorted(of, bounds, newest_first, limit)
            rows = sorted(rows, key=_sort_key, reverse=newest_first)[:limit]
        return rows

    def _with_edits(self, rows: Iterable[Any]) -> list[ReleasedEntry]:
        """Return the entries in these rows, with what became of them."""
        page = [self._entry(row) for row in rows]
        by_log: dict[LogId, list[int]] = {}
        for at, one in enumerate(page):
            by_log.setdefault(one.log, []).append(at)
        changed = {  # mostly nothing was edited, deleted or reacted to
            id: self.db.first(ANY_RELATION, self.db.number("conversations", id))
            for id in {log.conversation for log in by_log}
        }
        for log, places in by_log.items():
            if changed[log.conversation]:
                edits = self.edits(log, {page[at].seq: page[at].raw for at in places})
                for at in places:
                    if page[at].seq in edits:
                        page[at] = replace(page[at], edits=edits[page[at].seq])
        return page

    def edits(self, log: LogId, raws: Mapping[int, RawEntry]) -> dict[int, EntryEdits]:
        """Return what became of these entries of a log, by seq; entries without changes are left out."""
        number = self.db.number("conversations", log.conversation)
        run, writer = bytes.fromhex(log.run), bytes.fromhex(user_start(log.user))
        own = self.db.number("users", log.user)
        candidates: dict[int, list[RelatedEntry]] = {}
        for seq, author, aspect in self._authors(log, number, min(raws), max(raws)):
            if seq not in raws:
                continue
            of, until = (number, run, seq, writer), ASPECTS[aspect].until
            end = self._counting(*of, own, until, NEVER) if until else None
            row = self._counting(*of, author, aspect, NEVER if end is None else end[1])
            if row is None:
                continue  # there is none, or it is hidden
            entry = decode_entry((row[1], row[2]))
            by = self.log_id(row[0] >> SEQ_BITS)
            candidates.setdefault(seq, []).append(RelatedEntry(by, row[0] % SEQS, aspect, entry, row[3]))
        found = {seq: edits_of(raws[seq], some) for seq, some in candidates.items()}
        return {seq: edits for seq, edits in found.items() if edits is not None}

    def _counting(self, *of: Any) -> Any:
        """Return the row of what counts of the changes of one entry, author and aspect, below a clock."""
        return self.db.first(RELATION + (OLDEST if ASPECTS[of[-2]].oldest else NEWEST), *of)

    def _authors(self, log: LogId, conversation: int, first: int, last: int) -> Iterator[tuple[int, int, str]]:
        """Yield the changes of entries first..last of a log: seq, number of the user, aspect."""
        run, writer = bytes.fromhex(log.run), bytes.fromhex(user_start(log.user))
        own = self.db.number("users", log.user)
        seq = first - 1
        while seq := self.db.value(NEXT_RELATED, conversation, run, seq, last) or 0:
            for author in self._people((conversation, run, seq, writer), own):
                aspect = ""
                while aspect := self.db.value(NEXT_ASPECT, conversation, run, seq, writer, author, aspect) or "":
                    if ASPECTS[aspect].about != "own" or author == own:  # not just one whose id begins alike
                        yield seq, author, aspect

    def _people(self, of: tuple[object, ...], own: int) -> Iterator[int]:
        """Yield the numbers of those who change a message: its writer, all users of a gateway here, and of each other
        member a number of keys.
        """
        last, taken, full, others = 0, Counter[bytes](), list[bytes](), ""
        yield own
        while rows := self.db.all(AUTHORS.format(others=others), *of, last, *full, *of, *full):
            for last, member in rows:
                if last != own:
                    yield last
                taken[member] += member is not None
                if taken[member] == OF_A_MEMBER and member != self.db.value(OWN_MEMBER):
                    full.append(member)
                    others = OF_OTHERS.format(", ".join("?" * len(full)))
                    break  # whatever keys it has more, they cost nothing here

    def _entry(self, row: Any) -> ReleasedEntry:
        place, id, c, text, received_at, flags = row
        log = self.log_id(id >> SEQ_BITS)
        decode_entry((c, text))  # LogError for what is no entry: the disk is damaged (database.py)
        return ReleasedEntry(log, id % SEQS, (c, text), place, received_at, bool(flags & OLD), bool(flags & GAP))


def _sort_key(row: Any) -> tuple[int, bytes, bytes, int]:
    return (row[2], row[6], row[7], row[1] % SEQS)


def _bounds(before: SortKey | None, after: SortKey | None, since: int | None) -> QueryBounds:
    bounds = QueryBounds([], [])
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
