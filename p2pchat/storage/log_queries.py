"""Queries of a running node: facts of logs, receipts, and what a deletion may delete.

Each call is one transaction, so everything it reads is of one moment. A commit during a call is seen by the next call.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from operator import attrgetter, itemgetter
from typing import Any, NamedTuple

from p2pchat.core.durable_changes import (
    EVERYTHING,
    LogFacts,
    LogKey,
    Prune,
    PruneKey,
    PrunePlan,
    Record,
    ShownKey,
)
from p2pchat.core.log import Batch, LogId, RawEntry, extend_chain, first_chain, marks_of_bytes, size_bytes
from p2pchat.core.receipts.delivery_receipts import LEFT_OUT
from p2pchat.core.sync.pruner import PRUNED_ENTRIES, entries_of_one_step, left_behind
from p2pchat.protocol import ConversationId, Mark, RunId, Stub, UserId, split_ref
from p2pchat.settings import Settings
from p2pchat.storage.contract import DeletedPart, count_messages
from p2pchat.storage.database import Database
from p2pchat.storage.schema import (
    COVERED,
    FORKED,
    NEWEST_HEAD,
    SEQ_BITS,
    SEQS,
    CorruptRow,
    batch_of_text,
    header_of,
    log_of,
)

MOST_IDS = 5_000  # remembered; about 2 MiB
MOST_SHOWN = 1000  # logs looked at by shown_by(); logs farther back were read long ago, or never

FACTS = f"""
select l.number, c.id, u.id, l.run, l.state, l.builds_on, l.certificate, h.id, h.c, h.chain, w.released, p.upto
from logs l
join conversations c on c.number = l.conversation
join users u on u.number = l.writer
{NEWEST_HEAD}
left join waiting w on w.log = l.number
left join pruned p on p.log = l.number
"""
NUMBER = "select number from logs where conversation = ? and run = ? and writer = ?"
HEAD_BELOW = "select id, size, c, chain, sig from heads where id > ? and id <= ? order by id desc limit 1"
STORED = "select id, c, body from entries where id > ? and id <= ?"
LEFT = "select id, c, hash, rest from gone where id > ? and id <= ?"
HEADER = "select builds_on, certificate from logs where number = ?"
NUMBERED = "select number, run, whole, builds_on, state from logs where writer = ? and conversation = ?"
LATER = f"{NUMBERED} and number > ? order by number"
DELIVERED = """
select u.id, l.run, h.seq from logs l join heard h on h.log = l.number join users u on u.number = h.member
"""
READ = """
select u.id, l.run, r.seq from logs l join read_marks r on r.log = l.number join users u on u.number = r.reader
"""
LAST_PLACE = "select first_place + entries - 1 from places order by first_place desc limit 1"
LAST_PRUNED = "select max(place) from pruned"
PRUNED = "select size, messages, place, received_at, upto from pruned where log = ?"
DELETED = f"""
select u.id, l.run, p.messages, e.c, p.upto from pruned p
join gone e on e.id = p.log * {SEQS} + p.upto
join logs l on l.number = p.log join users u on u.number = l.writer
where l.conversation = ? and p.messages > 0
"""
BELOW_CLOCK = "select max(id) from entries where id > ? and id <= ? and c < ?"
FIRST_BODIES = f"select id, c, body from entries where id > ? and id <= ? order by id limit {PRUNED_ENTRIES}"
PLACE_OF = "select place from entries where id >= ? and id <= ? order by id limit 1"
RECEIVED = "select received_at from entries where id = ?"


class Head(NamedTuple):
    """A stored head: `size` is the bytes of the entries after the head before up to seq, `c` the clock of entry seq."""

    seq: int
    size: int
    c: int
    chain: bytes
    sig: bytes


class NumberedLog(Record):
    """A log as serving needs it; `whole` says it builds on all logs of its user there with a smaller number."""

    number: int
    run: RunId
    whole: bool
    before: tuple[Mark, ...]
    forked: bool = False


def stored_raws(database: Database, ranges: Iterable[tuple[int, int]]) -> list[RawEntry]:
    """Return the entries in these ranges of ids, each from after the first id to the last, in order."""
    asked = list(ranges)
    whole = [(id, (c, text)) for id, c, text in database.of_ranges(STORED, asked, " order by id")]
    left = [(row[0], left_of(*row[1:])) for row in database.of_ranges(LEFT, asked, " order by id")]
    return [raw for _, raw in (sorted(whole + left, key=itemgetter(0)) if left else whole)]


def left_of(c: int, hash: bytes | None, rest: str) -> RawEntry:
    """Return the entry in a row of `gone`."""
    return c, rest if hash is None else Stub(hash.hex())


def log_facts(row: Any, visible: int = EVERYTHING) -> LogFacts:
    """Return the facts in a row of FACTS."""
    _, conversation, user, run, state, builds_on, certificate, head, c, chain, released, upto = row
    log = log_of(conversation, user, run)
    seq = 0 if head is None else head % SEQS
    if head is not None and not (type(chain) is bytes and len(chain) == 32 and type(c) is int):
        raise CorruptRow("a head of a wrong type")
    return LogFacts(
        log,
        seq,
        first_chain(header_of(log, builds_on, certificate)) if head is None else chain,
        c or 0,
        seq if released is None else released,
        bool(state & COVERED),
        bool(state & FORKED),
        marks_of_bytes(builds_on),
        visible,
        pruned=upto or 0,
    )


class LogQueries:
    """Queries on one connection; the caller begins and ends transactions."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self.db = database
        self.settings = settings
        self._log_ids: dict[int, LogId] = {}

    # ---- names and numbers

    def log_id(self, number: int) -> LogId:
        if number not in self._log_ids:
            if len(self._log_ids) >= MOST_IDS:
                self._log_ids.clear()
            row = self.db.first(
                "select c.id, u.id, l.run from logs l join conversations c on c.number = l.conversation "
                "join users u on u.number = l.writer where l.number = ?",
                number,
            )
            self._log_ids[number] = log_of(*row)
        return self._log_ids[number]

    def log_number(self, log: LogId) -> int:
        """Return the number of a log; 0 if it is not here."""
        conversation, writer = self.db.number("conversations", log.conversation), self.db.number("users", log.user)
        return self.db.value(NUMBER, conversation, bytes.fromhex(log.run), writer) or 0

    # ---- facts of logs

    def lookup(self, logs: Sequence[LogKey]) -> dict[LogKey, LogFacts]:
        """Return facts of the logs that are held."""
        return {key: facts for key in logs if (facts := self._find(key))}

    def chain_at(self, log: LogId, seq: int) -> bytes:
        """Return the chain at an entry; b"" if it is not held."""
        number = self.log_number(log)
        return self.head_at(number, log, seq).chain if 1 <= seq <= self.last(number) else b""

    def _find(self, key: LogKey) -> LogFacts | None:
        conversation = self.db.number("conversations", key.conversation)
        user, run = map(bytes.fromhex, split_ref(key.ref))
        rows = self.db.all(f"{FACTS} where l.conversation = ? and l.run = ?", conversation, run)
        for row in rows:
            if row[2].startswith(user):
                return self._facts(row)
        return None

    def logs_of(self, conversation: ConversationId, user: UserId) -> list[LogFacts]:
        """Return all logs of a user in one conversation, in the order they were stored."""
        whose = (self.db.number("users", user), self.db.number("conversations", conversation))
        rows = self.db.all(f"{FACTS} where l.writer = ? and l.conversation = ? order by l.number", *whose)
        return [self._facts(row) for row in rows if row[7] is not None]

    def _facts(self, row: Any) -> LogFacts:
        """Return the facts in a row of FACTS, with the limit that only logs of talks have."""
        visible = self.db.value("select upto from seen where log = ?", row[0])
        return log_facts(row, EVERYTHING if visible is None else visible)

    def header(self, number: int, log: LogId) -> str:
        """Return the text of the header of a stored log."""
        return header_of(log, *self.db.first(HEADER, number))

    def head_at(self, number: int, log: LogId, seq: int) -> Head:
        """Return the chain at seq, and the bytes of the entries from the nearest head below up to there."""
        row = self.db.first(HEAD_BELOW, number * SEQS, number * SEQS + seq) if seq else None
        below = Head(row[0] % SEQS, *row[1:]) if row else Head(0, 0, 0, first_chain(self.header(number, log)), b"")
        if below.seq == seq:
            return below._replace(size=0)
        raws = stored_raws(self.db, [(number * SEQS + below.seq, number * SEQS + seq)])
        return Head(seq, size_bytes(raws), 0, extend_chain(below.chain, raws), b"")

    # ---- receipts, evidence, quota

    def delivered_to(self, log: LogId, seq: int) -> list[tuple[UserId, int]]:
        """Return every member known to hold this entry of a hosted user's log, with the highest seq they hold.

        In the room they are peers. Marks on later logs that build on this one count too. Sorted by member.
        """
        return self._members(log, seq, DELIVERED)

    def readers(self, log: LogId, seq: int) -> list[tuple[UserId, int]]:
        """Return every user known to have read this entry, in the form of `delivered_to`."""
        return self._members(log, seq, READ)

    def _members(self, log: LogId, seq: int, marks: str) -> list[tuple[UserId, int]]:
        """Return the members whose mark is at this entry or above."""
        number = self.log_number(log)
        whose = (self.db.number("users", log.user), self.db.number("conversations", log.conversation))
        rows = self.db.all(f"{marks} where l.writer = ? and l.conversation = ? and l.number >= ?", *whose, number)
        if not number or not rows:
            return []
        forked = self.db.first("select 1 from logs where number = ? and state >= ?", number, FORKED)
        later = () if forked else self.db.all(LATER, *whose, number)
        named = ((member.hex(), run.hex(), marked) for member, run, marked in rows)
        line = self.db.value("select value from meta where name = ?", LEFT_OUT + ",".join(log)) or ""
        return members_at(log.run, seq, self.last(number), map(numbered, later), named, frozenset(line.split()))

    def shown_by(self, key: ShownKey) -> list[tuple[LogId, int, str]]:
        """Return how far each of these logs had been shown at a place, as (log, last seq, chain there).

        A log that had not been shown at all is replaced by those that it builds on, and so on.
        """

        def shown(log: LogId) -> int | None:
            """Return the last entry of a log that had been shown, 0 for none; None if the log is not here."""
            number = self.log_number(log)
            if not number:
                return None
            deleted = self.db.first(PRUNED, number) or (0,) * 5
            if deleted[2] > key.place:
                return 0
            low, high = int(deleted[-1]), self.last(number)
            while low < high:  # a log is shown in its order
                middle = (low + high + 1) // 2
                place = self.db.value(PLACE_OF, number * SEQS + middle, number * SEQS + high)
                if place is None or place > key.place:
                    high = middle - 1
                else:
                    low = middle
            return low

        found: list[tuple[LogId, int, str]] = []
        asked, seen = list(key.logs), set(key.logs)
        while asked and len(seen) <= MOST_SHOWN:
            log = asked.pop()
            seq = shown(log)
            if seq:
                found.append((log, seq, self.chain_at(log, seq).hex()))
            elif seq is not None:
                builds_on = self.db.value("select builds_on from logs where number = ?", self.log_number(log))
                below = {log._replace(run=mark.run) for mark in marks_of_bytes(builds_on)} - seen
                seen |= below
                asked += below
        return found

    def last(self, number: int) -> int:
        """Return the last stored seq of a log; 0 if nothing of it is stored."""
        return (self.db.value(HEAD_BELOW, number * SEQS, number * SEQS + SEQS - 1) or 0) % SEQS

    def evidence(self, log: LogId) -> list[Batch]:
        """Return the two batches that prove a fork; [] if the log did not fork."""
        row = self.db.first("select one, other from forks where log = ?", self.log_number(log))
        return [batch_of_text(log, text) for text in row or ()]

    def last_place(self) -> int:
        """Return the newest place; 0 if nothing was released."""
        return int(max(self.db.value(LAST_PLACE) or 0, self.db.value(LAST_PRUNED) or 0))

    # ---- deletion

    def prunable(self, key: PruneKey) -> PrunePlan:
        """Return what one step of a deletion (core/sync/pruner.py) deletes: released entries, of each log the first."""
        conversation, user = self.db.number("conversations", key.conversation), self.db.number("users", key.user)
        only = f"and l.writer = {user}" if key.user else ""
        found: list[Prune] = []
        freed: dict[UserId, int] = {}
        entries = size = messages = kept = 0
        for row in self.db.all(f"{FACTS} where l.conversation = ? {only} order by l.number", conversation):
            facts, start = log_facts(row), row[0] * SEQS
            last = facts.released
            if key.before and last > facts.pruned:
                last = (self.db.value(BELOW_CLOCK, start + facts.pruned, start + last, key.before) or 0) % SEQS
            if last <= facts.pruned:
                continue
            if facts.log.user in key.own:
                held = max((seq for _, seq in self.delivered_to(facts.log, 1)), default=0)
                if held < last:
                    bodies = self.db.all(STORED, start + max(held, facts.pruned), start + last)
                    kept += count_messages([(c, text) for _, c, text in bodies])
                    last = held
                if last <= facts.pruned:
                    continue
            rows = self.db.all(FIRST_BODIES, start + facts.pruned, start + last)
            raws = entries_of_one_step(((c, text) for _, c, text in rows), entries, size)
            if raws:
                given = size_bytes(raws) - size_bytes(list(map(left_behind, raws)))
                found.append(self._prune(start, facts, rows[: len(raws)], given))
                messages += self._visible_messages(facts, rows[: len(raws)])
                entries, size = entries + len(raws), size + size_bytes(raws)
                freed[facts.log.user] = freed.get(facts.log.user, 0) + given
            if len(raws) < len(rows) or len(rows) == PRUNED_ENTRIES:
                return PrunePlan(found, messages, freed, 0, more=True)
        return PrunePlan(found, messages, freed, kept)

    def _prune(self, start: int, facts: LogFacts, rows: Sequence[Any], freed: int) -> Prune:
        """Return the deletion of these next entries of a log, whose ids begin above `start`."""
        size, messages, _, received_at, _ = self.db.first(PRUNED, start >> SEQ_BITS) or (0, 0, 0, 0, 0)
        received_at = received_at or self.db.value(RECEIVED, rows[0][0])
        last = rows[-1][0]
        place = self.db.value(PLACE_OF, last, last)
        messages += self._visible_messages(facts, rows)
        return Prune(facts.log, last % SEQS, size + freed, messages, place, received_at)

    def _visible_messages(self, facts: LogFacts, rows: Sequence[Any]) -> int:
        """Return how many of the next entries to be deleted are messages that programs may read."""
        visible = self.db.value("select upto from seen where log = ?", rows[0][0] >> SEQ_BITS)
        return count_messages([(c, text) for id, c, text in rows if visible is None or id % SEQS <= visible])

    def count_deleted(self) -> int:
        """Return how many entries were ever deleted here."""
        return int(self.db.value("select coalesce(sum(upto), 0) from pruned"))

    def deleted(self, conversation: ConversationId) -> list[DeletedPart]:
        """Return what was deleted here of a conversation: the parts with messages, in the order of history."""
        rows = self.db.all(DELETED, self.db.number("conversations", conversation))
        parts = [
            DeletedPart(user.hex(), messages, (c, user.hex(), run.hex(), upto)) for user, run, messages, c, upto in rows
        ]
        return sorted(parts, key=attrgetter("key"))


def numbered(row: Any) -> NumberedLog:
    number, run, whole, builds_on, state = row
    return NumberedLog(number, run.hex(), bool(whole), marks_of_bytes(builds_on), bool(state & FORKED))


def members_at(
    run: RunId, seq: int, last: int, later: Iterable[NumberedLog], marks: Iterable[tuple[UserId, RunId, int]],
    left_out: Collection[UserId],
) -> list[tuple[UserId, int]]:  # fmt: skip
    """Return the members that hold entry `seq` of the log `run`, with the highest seq of it that they hold; sorted.

    A peer that holds a later log holds what that one builds on, except what only a forked log between them builds on:
    it may have the other version of that one.

    Args:
        last: The last stored seq of the log.
        later: The logs of the same user and conversation that may build on it, with larger numbers, ascending.
        marks: The mark of each member on this log and on later ones: member, run, seq.
        left_out: The members of whom only a mark on this log itself counts.
    """
    implied: dict[RunId, int] = {}  # a holder of a later log holds this one up to here
    forked: set[RunId] = set()
    for log in later:
        before = [mark for mark in log.before if mark.run not in forked]
        held = [mark.seq if mark.run == run else implied.get(mark.run, 0) for mark in before]
        implied[log.run] = last if log.whole else max(held, default=0)
        if log.forked:
            forked.add(log.run)
    highest: dict[UserId, int] = {}
    for member, marked, own in marks:
        known = own if marked == run else 0 if member in left_out else implied.get(marked, 0)
        highest[member] = max(highest.get(member, 0), known)
    return sorted((member, known) for member, known in highest.items() if known >= seq)
