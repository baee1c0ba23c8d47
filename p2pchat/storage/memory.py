"""Storage in plain dicts: for tests, simulations, and bots that keep nothing.

The same contract as the database's, without a disk: nothing survives the process. `snapshot` and `restore` are for
simulations of disks that come back from an older copy. What each call does is in dicts/, divided as the database's
side is; here one lock sees to it that a read never sees half a commit.
"""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from heapq import merge
from itertools import islice
from operator import itemgetter

from p2pchat.config import Settings
from p2pchat.core.log import Batch, LogId, decode_entry, extend_chain, first_chain, ref_key
from p2pchat.core.records import (
    EVERYTHING,
    Address,
    Change,
    Cite,
    DeliveredMark,
    Fork,
    ForkStart,
    FormerName,
    GroupEntry,
    KnownConversation,
    KnownUser,
    LogFacts,
    LogKey,
    NewLog,
    Position,
    ReadMark,
    Ref,
    Relation,
    ShownKey,
    Start,
    Stored,
    StoredUser,
    Stretch,
    TailStart,
    Token,
    UnreleasedEntry,
    WantStart,
    newness,
)
from p2pchat.protocol import ConversationId, Mark, Naming, PeerId, UserId
from p2pchat.storage.base import Edits, ReleasedEntry, SortKey, StoredConversation, edits_of
from p2pchat.storage.batches import (
    Head,
    NumberedLog,
    batch_ends,
    clocks,
    entry_bytes,
    fits,
    implied_seqs,
    only,
    position_of,
    resumed,
)


class MemoryStorage:
    """See storage/base.py for what each call promises."""

    durable = False

    def __init__(self, settings: Settings | None = None) -> None:
        self._settings = settings or Settings()
        self._lock = threading.Lock()
        self._hold(Tables())

    def _hold(self, tables: Tables) -> None:
        self._tables = tables
        self._writer = Writer(tables, self._settings)
        self._reader = Reader(tables, self._settings)
        self._showing = MessageQueries(tables)

    # ---- disks that come back from an older copy

    def snapshot(self) -> Tables:
        """Return a copy of everything, to be given to `restore`, of this storage or another, any number of times."""
        with self._lock:
            return self._tables.copy()

    def restore(self, snapshot: Tables) -> None:
        """Hold what the snapshot holds, and nothing else."""
        with self._lock:
            self._hold(snapshot.copy())

    # ---- starting, and writing

    def load(self, hosted: Sequence[UserId]) -> Stored:
        with self._lock:
            return load(self._tables, hosted, self._settings)

    def meta(self) -> dict[str, str]:
        with self._lock:
            return dict(self._tables.meta)

    def hosted(self) -> list[StoredUser]:
        with self._lock:
            return load_hosted(self._tables)

    def load_users(self, users: Sequence[UserId]) -> Stored:
        with self._lock:
            return load_of_users(self._tables, users)

    def token(self, hash: bytes) -> Token | None:
        with self._lock:
            return load_token(self._tables, hash)

    def tokens(self, user: UserId | None = None) -> list[Token]:
        with self._lock:
            return load_tokens(self._tables, user)

    def commit(self, changes: Sequence[Change]) -> None:
        with self._lock:
            self._writer.commit(changes)

    def warm(self) -> None:
        pass  # memory is always warm

    def tidy(self) -> None:
        pass  # nothing is left for later

    def check_writable(self) -> None:
        pass  # and takes whatever there is room for

    def close(self) -> None:
        """Nothing to finish: what is held here stays until the object goes."""

    # ---- what the core asks for

    def lookup(
        self, logs: Sequence[LogKey], older: Sequence[tuple[ConversationId, UserId]]
    ) -> tuple[dict[LogKey, LogFacts], dict[tuple[ConversationId, UserId], list[Mark]]]:
        with self._lock:
            found = {key: facts for key in logs if (facts := self._reader.facts(key))}
            return found, {whose: self._reader.older(*whose) for whose in older}

    def logs_of(self, conversation: ConversationId, user: UserId) -> list[LogFacts]:
        with self._lock:
            return self._reader.logs_of(conversation, user)

    def fetch(
        self, conversation: ConversationId, user: UserId, start: Start, *, batches: int
    ) -> tuple[list[Batch], Position | None]:
        with self._lock:
            return BatchQueries(self._tables, self._settings, conversation, user).fetch(start, batches)

    def shown_by(self, key: ShownKey) -> list[tuple[LogId, int]]:
        with self._lock:
            return self._reader.shown_by(key)

    def size_bytes(self, user: UserId, conversation: ConversationId = "") -> int:
        with self._lock:
            return self._reader.size_bytes(user, conversation)

    # ---- what programs read

    def stored_conversations(self) -> list[StoredConversation]:
        with self._lock:
            return stored_conversations(self._tables)

    def places(
        self, after: int, limit: int, conversations: Sequence[ConversationId] | None = None
    ) -> list[ReleasedEntry]:
        with self._lock:
            return self._showing.places(after, limit, conversations)

    def history(
        self,
        conversation: ConversationId | None,
        *,
        before: SortKey | None = None,
        after: SortKey | None = None,
        since: int | None = None,
        limit: int = 100,
    ) -> list[ReleasedEntry]:
        with self._lock:
            return self._showing.history(conversation, before, after, since, limit)

    def entry(self, log: LogId, seq: int) -> ReleasedEntry | None:
        with self._lock:
            return self._showing.entry(log, seq)

    def first_heard(self, user: UserId) -> int:
        with self._lock:
            return self._showing.first_heard(user)

    def heard(self, log: LogId, seq: int) -> list[tuple[UserId, int]]:
        with self._lock:
            return self._reader.heard(log, seq)

    def readers(self, log: LogId, seq: int) -> list[tuple[UserId, int]]:
        with self._lock:
            return self._reader.readers(log, seq)


# ---- tables
#
# All that storage in memory keeps: one table for each kind of record, as the database has them.


@dataclass(slots=True)
class Tables:
    """Everything stored. Records are immutable, so that a copy of the containers is a copy of all."""

    logs: dict[LogId, MemoryLog] = field(default_factory=dict)
    of_user: dict[tuple[ConversationId, UserId], list[MemoryLog]] = field(default_factory=dict)
    by_ref: dict[tuple[ConversationId, str], MemoryLog] = field(default_factory=dict)
    stretches: list[Stretch] = field(default_factory=list)
    heard: dict[LogId, dict[UserId, int]] = field(default_factory=dict)
    reads: dict[LogId, dict[UserId, int]] = field(default_factory=dict)
    talks: dict[ConversationId, Naming] = field(default_factory=dict)
    users: dict[UserId, KnownUser] = field(default_factory=dict)
    former: dict[tuple[UserId, str], FormerName] = field(default_factory=dict)
    addresses: dict[tuple[PeerId, str], Address] = field(default_factory=dict)
    consumers: dict[str, int] = field(default_factory=dict)
    forks: dict[LogId, tuple[Batch, Batch]] = field(default_factory=dict)
    meta: dict[str, str] = field(default_factory=dict)
    mendings: dict[tuple[ConversationId, Ref], list[Relation]] = field(default_factory=dict)  # by what they name
    hosted: dict[UserId, StoredUser] = field(default_factory=dict)
    tokens: dict[bytes, Token] = field(default_factory=dict)

    def begin(self, new: NewLog) -> MemoryLog:
        return self._add(MemoryLog(len(self.logs) + 1, new.log, new.whole, new.before))

    def _add(self, log: MemoryLog) -> MemoryLog:
        conversation, user, run = log.id
        self.logs[log.id] = log
        self.of_user.setdefault((conversation, user), []).append(log)
        self.by_ref[conversation, ref_key(user, run)] = log
        return log

    def copy(self) -> Tables:
        other = Tables()
        for log in self.logs.values():
            other._add(log.copy())
        other.stretches = list(self.stretches)
        other.heard = {log: dict(seqs) for log, seqs in self.heard.items()}
        other.mendings = {named: list(some) for named, some in self.mendings.items()}
        other.reads = {log: dict(seqs) for log, seqs in self.reads.items()}
        for name in ("talks", "users", "former", "addresses", "consumers", "forks", "meta", "hosted", "tokens"):
            setattr(other, name, dict(getattr(self, name)))
        return other


# ---- log
#
# One log in memory: its entries, the heads that were kept, and where its entries were shown.


@dataclass(slots=True)
class MemoryLog:
    """One log: entry seq is raws[seq - 1], its clock clocks[seq - 1]; stretches in order of seq."""

    number: int
    id: LogId
    whole: bool
    before: tuple[Mark, ...]
    covered: bool = False
    forked: bool = False
    released: int = 0
    raws: list[str] = field(default_factory=list)
    clocks: list[int] = field(default_factory=list)
    heads: list[Head] = field(default_factory=list)
    stretches: list[Stretch] = field(default_factory=list)
    cites: list[Cite] = field(default_factory=list)
    seen: int = EVERYTHING

    @property
    def numbered(self) -> NumberedLog:
        return NumberedLog(self.number, self.id.run, self.whole, self.before)

    @property
    def size(self) -> int:
        return self.heads[-1].size if self.heads else 0

    @property
    def is_tip(self) -> bool:
        """Whether no later log of its user builds on it, nor did it fork."""
        return bool(self.raws) and not (self.covered or self.forked)

    def copy(self) -> MemoryLog:
        return replace(
            self,
            raws=list(self.raws),
            clocks=list(self.clocks),
            heads=list(self.heads),
            stretches=list(self.stretches),
            cites=list(self.cites),
        )

    def head_below(self, seq: int) -> Head:
        """Return the newest stored head at or below seq, one of seq 0 when there is none."""
        at = bisect_right(self.heads, seq, key=lambda head: head.seq)
        return self.heads[at - 1] if at else Head(0, 0, 0, first_chain(self.id), b"")

    def at(self, seq: int) -> Head:
        """Return size and chain at seq, recomputed from the head below; its signature is empty."""
        below = self.head_below(seq)
        raws = self.raws[below.seq : seq]
        size = below.size + sum(map(entry_bytes, raws))
        return Head(seq, size, 0, extend_chain(below.chain, raws), b"")

    def extend(self, batch: Batch, settings: Settings) -> None:
        self.raws += batch.raws
        self.clocks += clocks(batch)
        size = self.size + sum(map(entry_bytes, batch.raws))
        head = Head(batch.last, size, self.clocks[-1], batch.chain, batch.head)
        anchor = self.heads[-2] if len(self.heads) > 1 else Head(0, 0, 0, b"", b"")
        if self.heads and fits(anchor.seq, anchor.size, head, settings):
            self.heads[-1] = head
        else:
            self.heads.append(head)

    @property
    def mark(self) -> Mark:
        return Mark(self.id.run, len(self.raws), self.heads[-1].chain[:8].hex())

    def newest_batch(self) -> Batch:
        """Return what lies between the last two heads."""
        end = self.heads[-1]
        at = self.at(self.heads[-2].seq if len(self.heads) > 1 else 0)
        return Batch(self.id, at.seq + 1, self.raws[at.seq :], None, at.chain, end.chain, end.sig)

    def facts(self, seq: int = 0) -> LogFacts:
        """Return what is known of this log, with the chain at seq when that is held; seq 0 asks for none."""
        last = self.head_below(len(self.raws))
        return LogFacts(
            self.id,
            last.seq,
            last.chain,
            last.c,
            self.released,
            self.covered,
            self.forked,
            self.before,
            tuple(self.cites),
            self.seen,
            self.at(seq).chain if 0 < seq <= last.seq else None,
        )

    def may_be_read(self, seq: int) -> bool:
        return self.seen == EVERYTHING or seq <= self.seen

    def shown_by(self, place: int) -> int:
        """Return the last entry that had been shown when this place was given, 0 for none."""
        at = bisect_right(self.stretches, place, key=lambda each: each.first_place)
        if not at:
            return 0
        last = self.stretches[at - 1]
        return last.first + min(last.count, place - last.first_place + 1) - 1

    def shown(self, seq: int) -> ReleasedEntry:
        stretch = self.stretches[bisect_right(self.stretches, seq, key=lambda each: each.first) - 1]
        place = stretch.first_place + seq - stretch.first
        return ReleasedEntry(self.id, seq, self.raws[seq - 1], place, stretch.received_at, stretch.old, stretch.gap)

    def first_not_below(self, key: SortKey) -> int:
        """Return the index of the first entry whose sort key is not below `key`."""
        at = bisect_left(self.clocks, key[0])
        same_clock = at < len(self.clocks) and self.clocks[at] == key[0]
        return at + (same_clock and (self.id.user, self.id.run, at + 1) < key[1:])


# ---- loading
#
# What a starting node needs of the tables, and the users hosted here with their tokens.


def load(tables: Tables, whose: Sequence[UserId], settings: Settings) -> Stored:
    """Return what a node starts from."""
    tips = [log for log in tables.logs.values() if log.is_tip]
    unreleased = [log for log in tables.logs.values() if log.released < len(log.raws)]
    newest = tables.stretches[-1] if tables.stretches else None
    return Stored(
        tips=[log.facts() for log in tips],
        forked=[log.id for log in tables.logs.values() if log.forked],
        unreleased=[log.facts() for log in unreleased],
        waiting=[waiting for log in unreleased for waiting in _waiting(log)],
        next_place=newest.first_place + newest.count if newest else 1,
        conversations=[KnownConversation(conversation, naming) for conversation, naming in tables.talks.items()],
        users=list(tables.users.values()),
        former_names=list(tables.former.values()),
        delivered=_heard(tables, whose),
        reads=_reads(tables, whose),
        addresses=list(tables.addresses.values()),
        consumers=dict(tables.consumers),
        newest_c=_newest_clocks(tables),
        recent=_recent(tables, settings),
        meta=dict(tables.meta),
        group_entries=_spoken(tables),
        most_bytes=sum(log.size for log in tables.logs.values()),
    )


def load_hosted(tables: Tables) -> list[StoredUser]:
    """Return the users hosted here, in the order they came."""
    return sorted(tables.hosted.values(), key=lambda user: user.created_at)


def load_of_users(tables: Tables, users: Sequence[UserId]) -> Stored:
    """Return what is known of who has what these users wrote, and of what is read: theirs, and by them."""
    return Stored(delivered=_heard(tables, users), reads=_reads(tables, users))


def load_token(tables: Tables, hash: bytes) -> Token | None:
    """Return a token by its hash; None when there is none, or its user is hosted no more."""
    found = tables.tokens.get(hash)
    return found if found is not None and found.user in tables.hosted else None


def load_tokens(tables: Tables, user: UserId | None) -> list[Token]:
    """Return the tokens of a user, or (None) all, in the order they were made."""
    found = [token for token in tables.tokens.values() if user in (None, token.user)]
    return sorted(found, key=lambda token: (token.created_at, token.hash))


def stored_conversations(tables: Tables) -> list[StoredConversation]:
    """Return every conversation of which something is stored, and by whom."""
    found = (_holding(tables, KnownConversation(id, naming)) for id, naming in tables.talks.items())
    return [holding for holding in found if holding.writers or holding.forked]


def _holding(tables: Tables, talk: KnownConversation) -> StoredConversation:
    logs = [log for log in tables.logs.values() if log.id.conversation == talk.id]
    writers = dict.fromkeys(log.id.user for log in logs if log.raws and not log.forked)
    return StoredConversation(talk, tuple(writers), tuple(log.id for log in logs if log.forked))


def _waiting(log: MemoryLog) -> list[UnreleasedEntry]:
    return [
        UnreleasedEntry(log.id, seq, decode_entry(log.raws[seq - 1]))
        for seq in range(log.released + 1, len(log.raws) + 1)
    ]


def _heard(tables: Tables, users: Sequence[UserId]) -> list[DeliveredMark]:
    wanted = set(users)
    return [
        DeliveredMark(id, member, seq)
        for id, seqs in tables.heard.items()
        if id.user in wanted and tables.logs[id].is_tip
        for member, seq in seqs.items()
    ]


def _reads(tables: Tables, users: Sequence[UserId]) -> list[ReadMark]:
    wanted = set(users)
    return [
        ReadMark(id, reader, seq)
        for id, seqs in tables.reads.items()
        for reader, seq in seqs.items()
        if reader in wanted or (id.user in wanted and tables.logs[id].is_tip)
    ]


def _newest_clocks(tables: Tables) -> dict[ConversationId, int]:
    newest: dict[ConversationId, int] = {}
    for log in tables.logs.values():
        if log.clocks:
            newest[log.id.conversation] = max(newest.get(log.id.conversation, 0), log.clocks[-1])
    return newest


def _recent(tables: Tables, settings: Settings) -> list[tuple[LogId, int]]:
    recent: list[tuple[LogId, int]] = []
    places = 0
    for stretch in reversed(tables.stretches):
        if places >= settings.recent_places:
            break
        places += stretch.count
        recent.append((stretch.log, stretch.first + stretch.count - 1))
    return recent[::-1]


def _spoken(tables: Tables) -> list[GroupEntry]:
    """Return what was written to groups: operations and leaves."""
    return [
        GroupEntry(log.id, seq, raw)
        for log in tables.logs.values()
        if (naming := tables.talks.get(log.id.conversation)) is not None and naming.group
        for seq, raw in enumerate(log.raws, 1)
    ]


# ---- reading
#
# What is asked of the tables while a node runs: facts of logs, who holds and has read an entry, how much is stored.


Levels = Mapping[LogId, Mapping[UserId, int]]  # how high members stand in each log


class Reader:
    """Answers questions on these tables."""

    def __init__(self, tables: Tables, settings: Settings) -> None:
        self._tables = tables
        self._settings = settings

    def facts(self, key: LogKey) -> LogFacts | None:
        log = self._tables.by_ref.get((key.conversation, key.ref))
        return None if log is None else log.facts(key.seq)

    def logs_of(self, conversation: ConversationId, user: UserId) -> list[LogFacts]:
        return [log.facts() for log in self._tables.of_user.get((conversation, user), ()) if log.raws]

    def older(self, conversation: ConversationId, user: UserId) -> list[Mark]:
        """Return the marks of the 1st, 2nd, 4th ... newest log."""
        logs = [log for log in self._tables.of_user.get((conversation, user), ()) if log.raws and not log.forked]
        steps = [1 << power for power in range(self._settings.max_older)]
        heads = [(logs[-step], logs[-step].heads[-1]) for step in steps if step <= len(logs)]
        return [Mark(log.id.run, head.seq, head.chain[:8].hex()) for log, head in heads]

    # ---- receipts, quota

    def heard(self, log: LogId, seq: int) -> list[tuple[UserId, int]]:
        """Return who holds this entry."""
        return self._levels(self._tables.heard, log, seq)

    def readers(self, log: LogId, seq: int) -> list[tuple[UserId, int]]:
        """Return who has read this entry."""
        return self._levels(self._tables.reads, log, seq)

    def _levels(self, told: Levels, log: LogId, seq: int) -> list[tuple[UserId, int]]:
        """Return who stands at this entry or above, by what was told of this log and of later ones."""
        found = self._tables.logs.get(log)
        if found is None:
            return []
        siblings = self._tables.of_user[log.conversation, log.user]
        later = [other.numbered for other in siblings if other.number > found.number]
        implied = {} if found.forked else implied_seqs(log.run, len(found.raws), later)
        highest = dict(told.get(log, {}))
        for run, implied_seq in implied.items():
            for member in told.get(log._replace(run=run), ()):
                highest[member] = max(highest.get(member, 0), implied_seq)
        return sorted((member, known) for member, known in highest.items() if known >= seq)

    def shown_by(self, key: ShownKey) -> list[tuple[LogId, int]]:
        """Return how far logs had been shown at a place; for one that had not at all, those that it builds on."""
        found: list[tuple[LogId, int]] = []
        asked, seen = list(key.logs), set(key.logs)
        while asked:
            log = self._tables.logs.get(asked.pop())
            seq = log.shown_by(key.place) if log else 0
            if log and seq:
                found.append((log.id, seq))
            elif log:
                below = {log.id._replace(run=mark.run) for mark in log.before} - seen
                seen |= below
                asked += below
        return found

    def size_bytes(self, user: UserId, conversation: ConversationId) -> int:
        """Return the entry bytes of all logs of a user, in one conversation or ("") all."""
        logs = (log for log in self._tables.logs.values() if log.id.user == user)
        return sum(log.size for log in logs if conversation in ("", log.id.conversation))


# ---- fetching
#
# Serving: batches of what a user wrote, in the order the logs were begun here.


class BatchQueries:
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


# ---- showing
#
# What programs read: released entries by place, by clock, or one by its name; with what became of them.


class MessageQueries:
    """Reads released entries; those that wait have no place and are nowhere here."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def places(self, after: int, limit: int, conversations: Sequence[ConversationId] | None) -> list[ReleasedEntry]:
        """Return released entries with place > after."""
        stretches = self._tables.stretches
        begin = bisect_right(stretches, after, key=lambda each: each.first_place + each.count - 1)
        later = stretches[begin:]
        if conversations is not None:
            these = frozenset(conversations)
            later = [each for each in later if each.log.conversation in these]
        return self._with_mended(islice(self._shown_from(later, after), limit))

    def _shown_from(self, stretches: list[Stretch], after: int) -> Iterator[ReleasedEntry]:
        for stretch in stretches:
            log = self._tables.logs[stretch.log]
            skipped = max(0, after + 1 - stretch.first_place)
            seqs = range(stretch.first + skipped, stretch.first + stretch.count)
            yield from (log.shown(seq) for seq in seqs if log.may_be_read(seq))

    def history(
        self,
        conversation: ConversationId | None,
        before: SortKey | None,
        after: SortKey | None,
        since: int | None,
        limit: int,
    ) -> list[ReleasedEntry]:
        newest_first = after is None
        logs = [log for log in self._tables.logs.values() if conversation in (None, log.id.conversation)]
        between = [_keys(log, before, after, since, newest_first) for log in logs]
        ordered = merge(*between, key=itemgetter(0), reverse=newest_first)
        keys = list(islice(ordered, limit or None))
        chosen = keys[::-1] if newest_first else keys
        return self._with_mended(log.shown(key[3]) for key, log in chosen)

    def entry(self, log: LogId, seq: int) -> ReleasedEntry | None:
        found = self._tables.logs.get(log)
        if found is None or not 0 < seq <= found.released or not found.may_be_read(seq):
            return None
        return self._with_mended([found.shown(seq)])[0]

    def first_heard(self, user: UserId) -> int:
        """Return when something of a user came first, UTC microseconds; 0 when nothing ever did."""
        first = next((log for log in self._tables.logs.values() if log.id.user == user), None)
        return first.shown(1).received_at if first is not None and first.released else 0

    def _with_mended(self, page: Iterable[ReleasedEntry]) -> list[ReleasedEntry]:
        """Return these with what became of them."""
        if not self._tables.mendings:
            return list(page)
        return [one if (edits := self._edits(one)) is None else replace(one, edits=edits) for one in page]

    def _edits(self, one: ReleasedEntry) -> Edits | None:
        named = Ref(ref_key(one.log.user, one.log.run), one.seq)
        some = self._tables.mendings.get((one.log.conversation, named))
        if some is None:
            return None
        logs = self._tables.logs
        seen = [each for each in some if logs[each.log].may_be_read(each.seq)]
        newest = {(each.log.user, each.reaction): each for each in sorted(seen, key=newness)}
        return edits_of(one.log.user, [(each, logs[each.log].raws[each.seq - 1]) for each in newest.values()])


def _keys(
    log: MemoryLog, before: SortKey | None, after: SortKey | None, since: int | None, newest_first: bool
) -> Iterator[tuple[SortKey, MemoryLog]]:
    """Yield the sort keys of the released entries between these bounds, in the order asked for."""
    readable = log.released if log.seen == EVERYTHING else min(log.released, log.seen)
    end = readable if before is None else min(readable, log.first_not_below(before))
    begin = 0 if after is None else log.first_not_below((*after[:3], after[3] + 1))
    if since is not None:
        begin = max(begin, bisect_left(log.clocks, since))
    order = range(end - 1, begin - 1, -1) if newest_first else range(begin, end)
    return (((log.clocks[at], log.id.user, log.id.run, at + 1), log) for at in order)


# ---- writing
#
# Commits: changes go into the tables. All are checked before any changes anything, so a commit is all or nothing.


class Writer:
    """Carries out commits on these tables."""

    def __init__(self, tables: Tables, settings: Settings) -> None:
        self._tables = tables
        self._settings = settings

    def commit(self, changes: Sequence[Change]) -> None:
        """Apply these in order; ValueError, and nothing is applied, for what does not follow from what is stored."""
        self._check(changes)
        for change in changes:
            self._apply_logs(change)
            self._apply_rest(change)

    def _check(self, changes: Sequence[Change]) -> None:
        """Raise ValueError for a step that does not follow from what is stored: a fault of the caller."""
        last: dict[LogId, int] = {}
        for change in changes:
            for new in change.logs:
                if new.log in self._tables.logs or new.log in last:
                    raise ValueError(f"this log was begun before: {new.log.run}")
                last[new.log] = 0
            new_forks = {fork.log for fork in change.forks} - self._tables.logs.keys() - last.keys()
            last.update(dict.fromkeys(new_forks, 0))
            for batch in change.batches:
                if batch.log not in last:
                    last[batch.log] = len(self._log(batch.log).raws)
                if batch.first != last[batch.log] + 1 or not batch.raws:
                    raise ValueError(f"{batch} does not follow entry {last[batch.log]}")
                last[batch.log] = batch.last
            for log in (*change.covered, *change.uncovered, *(stretch.log for stretch in change.stretches)):
                if log not in last:
                    self._log(log)

    def _log(self, log: LogId) -> MemoryLog:
        found = self._tables.logs.get(log)
        if found is None:
            raise ValueError(f"no such log: {log.run}")
        return found

    def _apply_logs(self, change: Change) -> None:
        tables = self._tables
        for new in change.logs:
            tables.begin(new)
        for batch in change.batches:
            tables.logs[batch.log].extend(batch, self._settings)
        for uncovered in change.uncovered:
            self._uncover(tables.logs[uncovered])
        for covered in change.covered:
            tables.logs[covered].covered = True
        for fork in change.forks:
            self._add_fork(fork)
        for stretch in change.stretches:
            log = tables.logs[stretch.log]
            log.stretches.append(stretch)
            log.released = max(log.released, stretch.first + stretch.count - 1)
            tables.stretches.append(stretch)
        for log_id, cite in change.cites:
            tables.logs[log_id].cites.append(cite)
        for log_id, seen in change.visible.items():
            tables.logs[log_id].seen = seen
        for mending in change.relations:
            tables.mendings.setdefault((mending.log.conversation, mending.re), []).append(mending)

    def _add_fork(self, fork: Fork) -> None:
        tables = self._tables
        log = tables.logs.get(fork.log) or tables.begin(NewLog(fork.log, (), False))
        log.forked = True
        tables.forks[fork.log] = (fork.one or log.newest_batch(), fork.other)
        logs = tables.of_user[log.id.conversation, log.id.user]
        kept = {mark for each in logs if not each.forked for mark in each.before}
        for other in logs:
            if other.covered and other.raws and other.mark in log.before and other.mark not in kept:
                self._uncover(other)

    def _uncover(self, log: MemoryLog) -> None:
        """Make a tip of it again: no later log of its user builds on everything below itself any more."""
        log.covered = False
        for other in self._tables.of_user[log.id.conversation, log.id.user]:
            if other.number > log.number:
                other.whole = False

    def _apply_rest(self, change: Change) -> None:
        tables = self._tables
        for heard in change.delivered:
            if heard.log in tables.logs:
                seqs = tables.heard.setdefault(heard.log, {})
                seqs[heard.member] = max(seqs.get(heard.member, 0), heard.seq)
        for mark in change.reads:
            if mark.log in tables.logs:
                seqs = tables.reads.setdefault(mark.log, {})
                seqs[mark.reader] = max(seqs.get(mark.reader, 0), mark.seq) if mark.seq else 0
                if not mark.seq:
                    del seqs[mark.reader]
        tables.talks.update((talk.id, talk.naming) for talk in change.conversations)
        tables.users.update((user.id, user) for user in change.users)
        for one in change.former_names:
            known = tables.former.get((one.user, one.name))
            if known is None or known.c < one.c:
                tables.former[one.user, one.name] = one
        tables.addresses.update(((address.peer, address.endpoint), address) for address in change.addresses)
        for forgotten in change.forgotten:
            tables.addresses.pop(forgotten, None)
        tables.consumers.update(change.consumers)
        tables.meta.update(change.meta)
        self._apply_hosted(change)

    def _apply_hosted(self, change: Change) -> None:
        tables = self._tables
        tables.hosted.update((user.id, user) for user in change.hosted)
        for id in change.unhosted:
            tables.hosted.pop(id, None)
            tables.tokens = {hash: token for hash, token in tables.tokens.items() if token.user != id}
        tables.tokens.update((token.hash, token) for token in change.tokens)
        for hash in change.revoked:
            tables.tokens.pop(hash, None)
