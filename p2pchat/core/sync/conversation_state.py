"""Conversations in memory: the logs of their writers, their tips, marks and the sums over them, and what waits there.

A log has two ends here. `seq` is the last entry taken in, perhaps still on its way to disk; the next batch must extend
it. `durable_seq` is the last durable entry; only entries up to it are sent or announced.

Every stored log is in memory, so storage is never asked which there are. Of covered logs (a later log of the same
writer builds on their last entry) with nothing under way there are packed rows (Heads): some 150 bytes, where an object
takes 1 KiB. Rows are kept in the order of users and runs, and found by bisection. All other logs are objects.

This file holds the data. ingest.py and appender.py decide what is added.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Collection, Container, Iterable, Sequence
from collections.abc import Set as AbstractSet
from struct import Struct
from typing import NamedTuple

from p2pchat.bounded import drop, remember
from p2pchat.core.durable_changes import EVERYTHING, LogFacts, Relation
from p2pchat.core.groups.group_fact import Marks
from p2pchat.core.groups.group_replica import ALL_OF_A_LOG, NO_USERS, GroupReplica, VisibleEnd
from p2pchat.core.log import (
    MARK,
    NO_SUM,
    Batch,
    LogId,
    Ref,
    WriterKey,
    first_chain,
    hash_of,
    mark_hash,
    marks_of_bytes,
    marks_to_bytes,
    ref_key,
)
from p2pchat.core.node_context import KeySet
from p2pchat.protocol import MAX_INT, ConversationId, Hex32, Mark, Naming, RunId, UserId, split_ref

TIPS_TAG = b"p2pchat/tips/1\0"
SHARED_TAG = b"p2pchat/shared/1\0"
_HEAD = Struct(">32s8sQ32sQQ")  # user, run, seq, chain, last_c, pruned; the marks that it builds on follow
_USER, _RUN, _SEQ = slice(0, 32), slice(32, 40), slice(40, 48)
_AFTER_USER = b"\xff" * 9  # behind all rows of a user
MOST_OLDER = 512  # logs looked at for each want; of more it says what is older by some. A guess
KEPT_PROFILES = 4  # numbers of profiles kept of a log; a guess: more are hardly shown at once


class WaitingEntry(NamedTuple):
    """A waiting entry, or one behind it: what it follows, since when it waits (monotonic), what it will change."""

    seq: int
    refs: tuple[Ref, ...]
    since: float
    relation: Relation | None = None


# ---- rows of logs with nothing under way


def user_of(row: bytes) -> UserId:
    """Return who wrote the log of a row."""
    return row[_USER].hex()


def seq_of(row: bytes) -> int:
    """Return the number of the last entry of a row."""
    return int.from_bytes(row[_SEQ], "big")


class Heads:
    """The rows of one conversation: `pack_row` makes one, of a log that is durable, released and visible."""

    __slots__ = ("_rows",)

    def __init__(self) -> None:
        self._rows: list[bytes] = []

    def __len__(self) -> int:
        return len(self._rows)

    def load(self, rows: Iterable[bytes]) -> None:
        """Add rows of other logs."""
        self._rows += rows
        self._rows.sort()

    def put(self, row: bytes) -> None:
        """Add a log, or replace it."""
        at = bisect_left(self._rows, row[: _RUN.stop])
        is_here = at < len(self._rows) and self._rows[at].startswith(row[: _RUN.stop])
        self._rows[at : at + is_here] = [row]

    def get(self, user: UserId, run: RunId) -> bytes | None:
        """Return a log, None if it is not here."""
        at = self._find(bytes.fromhex(user + run))
        return None if at is None else self._rows[at]

    def remove(self, user: UserId, run: RunId) -> None:
        """Remove a log if it is here."""
        at = self._find(bytes.fromhex(user + run))
        if at is not None:
            del self._rows[at]

    def of(self, user: UserId) -> list[bytes]:
        """Return the logs of a user."""
        id, rows = bytes.fromhex(user), self._rows
        at = bisect_left(rows, id)
        return rows[at : bisect_left(rows, id + _AFTER_USER, at)]

    def take(self, user: UserId) -> list[bytes]:
        """Remove and return the logs of a user."""
        found = self.of(user)
        at = bisect_left(self._rows, bytes.fromhex(user)) if found else 0
        del self._rows[at : at + len(found)]
        return found

    def user_of(self, ref: str) -> UserId | None:
        """Return the user of the log that references name so, None if it is not here."""
        start, run = map(bytes.fromhex, split_ref(ref))
        at = bisect_left(self._rows, start)
        while at < len(self._rows) and self._rows[at].startswith(start):
            user = self._rows[at][_USER]
            if self._find(user + run) is not None:
                return user.hex()
            at = bisect_left(self._rows, user + _AFTER_USER, at)
        return None

    def _find(self, key: bytes) -> int | None:
        at = bisect_left(self._rows, key)
        return at if at < len(self._rows) and self._rows[at].startswith(key) else None


def pack_row(user: bytes, run: bytes, seq: int, chain: bytes, last_c: int, pruned: int, before: bytes) -> bytes:
    """Return the row of a log, from what storage has of it; `before` as `marks_to_bytes` makes it.

    Raises ValueError or struct.error for values that cannot be of a log.
    """
    if [len(user), len(run), len(chain), len(before) % MARK.size] != [32, 8, 32, 0]:
        raise ValueError("a log of a wrong size")
    return _HEAD.pack(user, run, seq, chain, last_c, pruned) + before


def facts_in(conversation: ConversationId, row: bytes) -> LogFacts:
    """Return what a row says of its log."""
    user, run, seq, chain, last_c, pruned = _HEAD.unpack_from(row)
    log = LogId(conversation, user.hex(), run.hex())
    before = marks_of_bytes(row[_HEAD.size :])
    return LogFacts(log, seq, chain, last_c, seq, covered=True, before=before, pruned=pruned)


# ---- logs


class LogState:
    """One log in memory, with the conversation that it is of."""

    __slots__ = (
        "before", "chain", "conversation", "covered", "forked", "history_seq", "id", "durable_chain", "durable_covered",
        "durable_seq", "key", "last_c", "own", "profiles", "pruned", "queue", "ref", "released", "seq", "shown_hash",
        "user", "hidden", "kept", "limit", "limit_chain", "stored_visible",
    )  # fmt: skip

    def __init__(self, conversation: ConversationState, log: LogId, *, own: bool = False) -> None:
        self.conversation: ConversationState = conversation
        self.id: LogId = log
        self.key: WriterKey = log.key
        self.user: UserId = log.user
        self.ref: str = ref_key(log.user, log.run)
        self.own: bool = own  # written by this process
        self.before: tuple[Mark, ...] = ()
        self.seq: int = 0
        self.durable_seq: int = 0
        self.chain: bytes = b""
        self.durable_chain: bytes = b""
        self.last_c: int = 0
        self.covered: bool = False
        self.durable_covered: bool = False
        self.forked: bool = False
        self.released: int = 0  # entries 1..released have places
        self.history_seq: int = 0  # of the others, entries up to this one are history
        self.profiles: tuple[int, ...] = ()  # the newest entries of this run that are profiles
        self.pruned: int = 0  # entries 1..pruned were deleted here
        # Entry released + 1, and every later entry that follows another entry. () is 0.6 KiB smaller than a deque.
        self.queue: Sequence[WaitingEntry] = ()
        self.shown_hash: bytes = b""  # its part of the conversation's sum
        # Of a group's talk only the beginning up to `limit` is shown, and up to `kept` announced and sent
        # (group_sync.py).
        self.limit: int = MAX_INT
        self.limit_chain: str = ""
        self.kept: Mark = ALL_OF_A_LOG
        self.hidden: bool | None = None  # of a writer of whom something was cut off: another visible log builds on this
        self.stored_visible: int = EVERYTHING  # what storage knows of the limit

    @classmethod
    def from_facts(cls, conversation: ConversationState, facts: LogFacts) -> LogState:
        """Return a log as storage knows it."""
        log = cls(conversation, facts.log)
        log.chain = log.durable_chain = facts.chain
        log.before = facts.before
        log.seq = log.durable_seq = facts.seq
        log.last_c = facts.last_c
        log.covered = log.durable_covered = facts.covered
        log.forked = facts.forked
        log.released = facts.released
        log.pruned = facts.pruned
        log.stored_visible = facts.visible
        return log

    @property
    def row(self) -> bytes:
        """The row that is kept of it when it is settled."""
        user, run = map(bytes.fromhex, self.id[1:])
        before = marks_to_bytes(self.before)
        return pack_row(user, run, self.seq, self.chain, self.last_c, self.pruned, before)

    @property
    def builds_on(self) -> tuple[Mark, ...]:
        """The marks of other logs of its writer in `before`: a log of a talk may name facts there too. A forked log
        builds on none, since who has only the evidence cannot know what that is.
        """
        group = self.conversation.group
        if self.forked:
            return ()
        if not self.conversation.is_talk or group is None:
            return self.before
        return tuple(mark for mark in self.before if mark not in group.facts)

    @property
    def is_settled(self) -> bool:
        """True if a row may keep it: nothing is on its way to disk or to readers, and nobody writes in it here."""
        is_same = self.seq == self.durable_seq == self.released and self.covered == self.durable_covered
        is_whole = self.hidden is None and self.stored_visible == EVERYTHING
        return is_same and is_whole and not (self.queue or self.own or self.forked)

    def begin(self, header: str) -> None:
        """Begin the chain with the header of the log."""
        self.chain = self.durable_chain = first_chain(header)

    def add_profile(self, seq: int) -> None:
        """Note that an entry is a profile."""
        self.profiles = (*self.profiles[1 - KEPT_PROFILES :], seq)

    def add_waiting(self, entry: WaitingEntry) -> None:
        if not isinstance(self.queue, deque):
            self.queue = deque()
        self.queue.append(entry)

    def fill_waiting(self, entries: Iterable[WaitingEntry]) -> None:
        """Let entries wait whose texts came, in their places among those that wait."""
        waiting = {each.seq: each for each in (*self.queue, *entries)}
        self.queue = deque(sorted(waiting.values())) or ()

    def pop_waiting(self) -> WaitingEntry:
        """Return the first waiting entry, which waits no more."""
        assert isinstance(self.queue, deque)
        entry: WaitingEntry = self.queue.popleft()
        self.queue = self.queue or ()
        return entry

    def is_behind(self, mark: Mark) -> bool:
        """Return whether a mark covers something that is not here: more of this log, or another chain of it.

        Another chain is a fork, if the mark is true. A chain of "" is unknown, and no fork.
        """
        if self.forked:
            return False
        return mark.seq > self.seq or (mark.seq == self.seq and mark.chain not in ("", self.chain.hex()))

    @property
    def show_limit(self) -> int:
        """The last entry that may be shown."""
        return min(self.limit, self.seq)

    @property
    def shown_end(self) -> tuple[int, str]:
        """The last released entry, and the chain there; "" if that is not in memory, or nothing was released."""
        ends = {self.durable_seq: self.durable_chain, self.seq: self.chain, 0: b""}
        return self.released, ends.get(self.released, b"").hex()

    @property
    def shared_seq(self) -> int:
        """The last entry that is announced and sent to others: the last durable one."""
        return min(self.kept.seq, self.durable_seq)

    @property
    def is_tip(self) -> bool:
        """True if it is durable and no later log of its writer builds on all of it."""
        covered = self.durable_covered if self.hidden is None else self.hidden
        return self.shared_seq > 0 and not covered and not self.forked

    @property
    def mark(self) -> Mark:
        """The mark that others may hear: of the durable part."""
        return Mark(self.id.run, self.shared_seq, self.shared_chain.hex())

    @property
    def visible_mark(self) -> Mark:
        """The mark of the visible part of everything taken in."""
        return self.tail_mark if self.limit >= self.seq else Mark(self.id.run, self.limit, self.limit_chain)

    @property
    def tail_mark(self) -> Mark:
        """The mark of everything taken in."""
        return Mark(self.id.run, self.seq, self.chain.hex())

    @property
    def shared_chain(self) -> bytes:
        """The chain at shared_seq."""
        return self.durable_chain if self.kept.seq >= self.durable_seq else bytes.fromhex(self.kept.chain)

    def __repr__(self) -> str:
        return f"LogState({self.ref[:6]}/{self.id.run[:6]} durable {self.durable_seq} of {self.seq})"


NO_LOGS: dict[RunId, LogState] = {}  # one object, by which cuts are kept


class WriterLogs:
    """The logs of one user in one conversation."""

    __slots__ = ("above", "logs", "uncut", "user")

    def __init__(self, user: UserId) -> None:
        self.user: UserId = user
        self.logs: dict[RunId, LogState] = {}  # those that are objects
        self.uncut: bool = True  # of a talk: nothing was ever cut off
        self.above: dict[RunId, list[tuple[int, LogState]]] = {}  # if not: which logs name a log, and its number

    def visible_marks(self) -> list[Mark]:
        """Return the marks of the visible part of a talk. The writer's next log builds on them, and a cut
        names them.
        """
        logs = [log for log in self.logs.values() if log.show_limit and not log.forked]
        named = [mark for log in logs for mark in log.builds_on]
        return [
            log.visible_mark for log in logs if not any(m.run == log.id.run and m.seq >= log.show_limit for m in named)
        ]

    def tips(self) -> list[LogState]:
        return [log for log in self.logs.values() if log.is_tip]

    def marks(self, most: int | None = None) -> list[Mark]:
        """Return the marks of the tips; of more than `most`, those of the newest, alike on all peers.

        A fork makes tips of what only the forked log covered, so there may be more than one list may hold.
        """
        tips = self.tips()
        if most is not None and len(tips) > most:
            tips = sorted(tips, key=lambda log: (log.last_c, log.id.run))[-most:]
        return [log.mark for log in tips]

    def shown_ends(self) -> dict[RunId, tuple[int, str]]:
        """Return the last released entry of each log that no other covers, and the chain there."""
        return {log.id.run: log.shown_end for log in self.logs.values() if not (log.covered or log.forked)}

    def tail_tips(self) -> list[LogState]:
        """Return the tips as they will be when everything in flight is durable."""
        return [log for log in self.logs.values() if log.seq and not log.covered and not log.forked]


def sum_of(conversations: Iterable[ConversationState]) -> str:
    """Return the sum of these conversations, by id in order, as a digest carries it."""
    return hash_of(SHARED_TAG, [bytes.fromhex(each.sum) for each in conversations if each.sum != NO_SUM])


# ---- conversations


class WaitingLogs:
    """The waiting logs of one conversation: the next entry of each follows entries which are not here yet.

    A waiting log is found by the entries that it waits for. So an entry that is released costs as much as what waits
    for it, and not as much as all that waits.

    Attributes:
        shown_early: Logs (as references name them) that were shown without what they follow, since there was no room.
    """

    __slots__ = ("_awaited", "_logs", "shown_early")

    def __init__(self) -> None:
        self.shown_early: KeySet[str] = {}
        self._logs: dict[LogId, tuple[LogState, tuple[Ref, ...]]] = {}
        self._awaited: dict[str, dict[int, dict[LogId, LogState]]] = {}  # by log and number of the awaited entry

    def __bool__(self) -> bool:
        return bool(self._logs)

    def __contains__(self, log: object) -> bool:
        return log in self._logs

    def logs(self) -> list[LogState]:
        """Return all of them, in the order in which they began to wait."""
        return [log for log, _ in self._logs.values()]

    def get(self, id: LogId) -> LogState | None:
        """Return a log if it waits."""
        found = self._logs.get(id)
        return found[0] if found is not None else None

    def put(self, log: LogState, refs: Iterable[Ref]) -> None:
        """Note that a log waits for these entries, instead of those it waited for before."""
        refs = tuple(dict.fromkeys(refs))
        _, former = self._logs.get(log.id, (log, ()))
        self._logs[log.id] = log, refs
        if refs != former:
            self._unlist(log.id, former)
            for ref in refs:
                self._awaited.setdefault(ref.log, {}).setdefault(ref.seq, {})[log.id] = log

    def remove(self, id: LogId) -> None:
        """Forget a log, which waits no more."""
        if id in self._logs:
            self._unlist(id, self._logs.pop(id)[1])

    def _unlist(self, id: LogId, refs: Iterable[Ref]) -> None:
        for ref in refs:
            seqs = self._awaited[ref.log]
            drop(seqs, ref.seq, id)
            if not seqs:
                del self._awaited[ref.log]

    # By what they wait for

    def awaited(self, log: str, upto: int) -> list[Ref]:
        """Return the awaited entries of a log (as references name it) up to this one."""
        return [Ref(log, seq) for seq in self._awaited.get(log, ()) if seq <= upto]

    def waiting_for(self, log: str, first: int, last: int) -> list[LogState]:
        """Return the logs that wait for entries first..last of a log (as references name it)."""
        seqs = self._awaited.get(log)
        if not seqs:
            return []
        fewer = seqs if len(seqs) <= last - first else range(first, last + 1)
        found = {id: each for seq in fewer if first <= seq <= last for id, each in seqs.get(seq, {}).items()}
        return [*found.values()]

    def waiting_for_user(self, start: str) -> list[LogState]:
        """Return the logs that wait for any entry of the user whose id begins so, as references do."""
        logs = [log for log in self._awaited if log.startswith(start)]
        found = {id: each for log in logs for waiting in self._awaited[log].values() for id, each in waiting.items()}
        return [*found.values()]


ShownEntry = tuple[int, UserId, int]  # place, user and number of a shown entry
HeldMark = tuple[Mark, LogState | None]  # a mark, and the log that it is on; None for one that is not here


class ConversationState:
    """One conversation: its members and writers, their logs, and the sum over their tips."""

    __slots__ = (
        "by_ref", "concerns_us", "covered", "group", "id", "has_facts", "is_talk", "allowed_writers", "members",
        "waiting_logs", "naming", "holds_choices", "history_until", "newest_c", "newest_place", "recently_shown",
        "is_stored", "unnamed", "writers", "_users", "_hashes", "_sum", "_unsummed",
    )  # fmt: skip

    def __init__(self, conversation: ConversationId, naming: Naming, members: AbstractSet[UserId] | None) -> None:
        self.id: ConversationId = conversation
        self.naming: Naming = naming
        # Peers of these users hear of it; None: everyone in the network.
        self.members: AbstractSet[UserId] | None = members
        self.allowed_writers: AbstractSet[UserId] | None = members  # in a group: everyone who was ever named
        self.group: GroupReplica | None = None  # the group whose facts or talk this is
        self.is_talk: bool = False
        self.has_facts: bool = False  # a group's own conversation, of facts: those are accepted from anyone
        self.concerns_us: bool = True  # a member is hosted here
        # The room, where users say their names, or one of a user with itself, of its own state.
        self.holds_choices: bool = members is None or (naming.dm is not None and naming.dm[0] == naming.dm[1])
        self.writers: dict[UserId, WriterLogs] = {}
        self.unnamed: Container[UserId] = NO_USERS  # of whom nothing is announced (member_directory.py)
        self._users: list[UserId] = []  # these writers, in order
        self.covered: Heads = Heads()  # the covered logs of all writers, as far as they are no objects
        self.by_ref: dict[str, LogState] = {}  # the logs that are objects, as references name them
        self._hashes: list[bytes] = []  # of what others may hear of, in order
        self._sum = NO_SUM
        self._unsummed: dict[LogState, None] = {}  # logs that changed since
        self.newest_c: int = 0
        self.newest_place: int = 0  # of what programs were shown here, or a higher one; 0: none is known
        self.waiting_logs: WaitingLogs = WaitingLogs()
        self.recently_shown: dict[str, ShownEntry] = {}  # the newest of a log, by log as references name it
        self.history_until: int = 0  # entries of others up to this clock predate this peer, or its being added
        self.is_stored: bool = False  # storage knows what the id stands for

    def writer(self, user: UserId) -> WriterLogs:
        found = self.writers.get(user)
        if found is None:
            found = self.writers[user] = WriterLogs(user)
            insort(self._users, user)
        return found

    def log(self, user: UserId, run: RunId) -> LogState | None:
        """Return a log. Whoever changes one of which there is a row calls add()."""
        writer = self.writers.get(user)
        found = writer.logs.get(run) if writer else None
        if found is None and len(self.covered) and (row := self.covered.get(user, run)) is not None:
            return self._covered_log(row)
        return found

    def held(self, user: UserId, marks: Iterable[Mark]) -> list[HeldMark]:
        """Return marks of a writer with the logs that they are on."""
        return [(mark, self.log(user, mark.run)) for mark in marks]

    def log_at(self, ref: str) -> LogState | None:
        """Return the log that references name so."""
        found = self.by_ref.get(ref)
        if found is None and (user := self.covered.user_of(ref)) is not None:
            return self.log(user, split_ref(ref)[1])
        return found

    def all_logs(self, user: UserId, most: int = MAX_INT) -> list[LogState]:
        """Return all logs of a writer; of many rows each second, or third ..., so that these are fewer than `most`."""
        writer, rows = self.writers.get(user), self.covered.of(user)
        objects = writer.logs.values() if writer else ()
        return [*objects, *map(self._covered_log, rows[:: 1 + len(rows) // most])]

    def is_built_on(self, user: UserId, mark: Mark) -> bool:
        """Return whether a log of a writer builds on this mark of it, and is not forked. Of rows none is."""
        writer, packed = self.writers.get(user), marks_to_bytes([mark])
        objects = writer.logs.values() if writer else ()
        is_named = any(mark in log.before for log in objects if not log.forked)
        return is_named or any(row.find(packed, _HEAD.size) >= 0 for row in self.covered.of(user))

    def open_covered(self, user: UserId) -> None:
        """Make objects of all logs of a writer."""
        for row in self.covered.take(user):
            self.add(self._covered_log(row))

    def _covered_log(self, row: bytes) -> LogState:
        return LogState.from_facts(self, facts_in(self.id, row))

    def older_marks(self, user: UserId, most: int) -> list[Mark]:
        """Return the marks of the 1st, 2nd, 4th ... newest log of a writer, about; none if no log covers another."""
        logs = [log for log in self.all_logs(user, MOST_OLDER) if log.durable_seq and not log.forked]
        if not any(log.covered for log in logs):
            return []
        logs.sort(key=lambda log: (log.last_c, log.id.run), reverse=True)
        chosen = [logs[(1 << power) - 1] for power in range(most) if 1 << power <= len(logs)]
        return [Mark(log.id.run, log.durable_seq, log.durable_chain.hex()) for log in chosen]

    def lacks(self, user: UserId, mark: Mark, log: LogState | None) -> bool:
        """Return whether a mark on this log, None for one that is not here, covers what is lacking and may be shown."""
        if log is not None and log.forked:
            return False
        if self.is_talk and self.group is not None and (log is None or mark.seq > log.seq):
            seq, before = (0, None) if log is None else (log.seq, log.before)
            return self.visible_end(self.group, user, mark.run, before).at_most > seq
        return log is None or log.is_behind(mark)

    def visible_end(self, group: GroupReplica, user: UserId, run: RunId, before: Marks | None) -> VisibleEnd:
        """Return how far a log of a talk is visible, with what its header names, None if that is unknown."""
        logs = NO_LOGS
        if user in self.writers:
            logs = self.writers[user].logs
        return group.visible_end(user, logs, run, before)

    def shows(self, batch: Batch) -> bool:
        """Return whether the beginning of a batch of a talk is kept. Then it is sent up to its head."""
        log = self.log(batch.log.user, batch.log.run)
        return batch.first <= log.kept.seq if log is not None else self.writer(batch.log.user).uncut

    def is_cut_off(self, ref: Ref) -> bool:
        """Return whether an entry of a talk was cut off, so that no peer will send it."""
        found = self.log_at(ref.log)
        if found is not None and found.seq >= ref.seq:
            if found.show_limit >= ref.seq or self.group is None:
                return found.show_limit < ref.seq
            end = self.visible_end(self.group, found.user, found.id.run, found.before)
            return end.at_most < MAX_INT  # else it may be visible when logs come that cuts name
        start, run = split_ref(ref.log)
        users = [user for user in self.allowed_writers or () if user.startswith(start)]
        mark = Mark(run, ref.seq, "")
        return bool(users) and not any(self.lacks(user, mark, self.log(user, mark.run)) for user in users)

    def add(self, log: LogState) -> LogState:
        """Keep a log as an object."""
        if len(self.covered):
            self.covered.remove(log.user, log.id.run)
        self.writer(log.user).logs[log.id.run] = log
        self.by_ref[log.ref] = log
        return log

    def pack_if_settled(self, log: LogState) -> bool:
        """Make a row of a covered log of which nothing waits or is in flight. Return True if that was done."""
        if not (log.covered and log.is_settled) or self.by_ref.get(log.ref) is not log:
            return False
        self.covered.put(log.row)
        del self.writers[log.user].logs[log.id.run], self.by_ref[log.ref]
        return True

    def refresh_sum(self, log: LogState) -> None:
        """Have the sum follow a log that changed."""
        self._unsummed[log] = None

    @property
    def sum(self) -> Hex32:
        """The sum of the tips that others may hear of. It is computed when it is asked for, not for each message."""
        if self._unsummed:
            for log in self._unsummed:
                if log.shown_hash:
                    del self._hashes[bisect_left(self._hashes, log.shown_hash)]
            for log in self._unsummed:
                log.shown_hash = b""
                if log.is_tip and self.announces(log.user):
                    log.shown_hash = mark_hash(log.id, log.shared_seq, log.shared_chain)
                    self._hashes.append(log.shown_hash)
            self._hashes.sort()
            self._sum = hash_of(TIPS_TAG, self._hashes)
            self._unsummed.clear()
        return self._sum

    def may_write(self, user: UserId) -> bool:
        """Return whether this user's entries are accepted here."""
        return self.allowed_writers is None or user in self.allowed_writers

    def announces(self, user: UserId) -> bool:
        """Return whether this user's entries are announced and served."""
        return self.may_write(user) and user not in self.unnamed

    def is_member(self, user: UserId) -> bool:
        """Return whether a user belongs here now."""
        return self.members is None or user in self.members

    def shared_with(self, users: Collection[UserId]) -> bool:
        """Return whether a peer that hosts these users may hear of this conversation."""
        if self.members is None or not self.concerns_us:
            return self.members is None
        few, many = (users, self.members) if len(users) < len(self.members) else (self.members, users)
        return any(user in many for user in few)  # asked for each conversation, and a peer may host thousands

    def marks_of(self, user: UserId, most: int | None = None) -> list[Mark]:
        """Return the marks of a writer's tips, as `WriterLogs.marks`; [] for one who has no log here."""
        found = self.writers.get(user)
        return [] if found is None else found.marks(most)

    def marks(self, span: tuple[UserId, UserId], most: int | None = None) -> dict[UserId, list[Mark]]:
        """Return the visible tips of each writer within a span of user ids, by user id in order, `most` of each."""
        users = [user for user in self.writers_within(span) if self.announces(user)]
        return {user: marks for user in users if (marks := self.writers[user].marks(most))}

    def writers_within(self, span: tuple[UserId, UserId]) -> list[UserId]:
        """Return the writers within a span of user ids, in order."""
        return self._users[bisect_left(self._users, span[0]) : bisect_right(self._users, span[1])]

    def on_shown(self, place: int, log: LogState, first: int, seq: int, keep: int) -> None:
        """Keep the newest shown entry of each of the last few logs; first..seq are new. Profiles do not count."""
        self.newest_place = place
        while seq in log.profiles:
            seq -= 1
        if seq < first:
            return
        remember(self.recently_shown, log.ref, (place, log.user, seq), keep + 1)
