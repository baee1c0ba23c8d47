"""What stands in memory of everything stored: the tips of each writer, their marks and the sums over them.

A log is seen twice here. Its *tail* is what this node has taken in, also what is on its way to the disk: the next
batch must extend it. What is *kept* is durable: only that is told to others. Covered logs (named by a later log of
the same writer at their last entry) leave memory as soon as nothing of them waits; storage finds them again.

This file keeps the books; who may write into them is decided in ingest.py and append.py.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import NamedTuple, cast

from p2pchat.core.groups.group import GroupReplica
from p2pchat.core.groups.visibility import LogView, is_wanted, stored_may_be_visible
from p2pchat.core.log import SUM_MODULUS, Batch, LogId, Ref, extend_chain, first_chain, mark_hash, ref_key
from p2pchat.core.records import EVERYTHING, Cite, LogFacts, Relation
from p2pchat.protocol import ConversationId, Mark, Naming, RunId, UserId


class WaitingEntry(NamedTuple):
    """An entry that waits, or stands behind one: what it follows, since when (monotonic), what it will change."""

    seq: int
    refs: tuple[Ref, ...]
    since: float
    relation: Relation | None = None


class Log:
    """One log in memory."""

    __slots__ = (
        "before", "chain", "covered", "forked", "id", "durable_chain", "durable_covered", "durable_seq", "last_c",
        "own", "queue", "ref", "released", "seq", "shown_hash",
    )  # fmt: skip

    def __init__(self, log: LogId, *, own: bool = False, chain: bytes | None = None) -> None:
        """`chain` is that at its end; None: nothing is in it yet."""
        self.id = log
        self.ref = ref_key(log.user, log.run)
        self.own = own  # written by this process
        self.before: tuple[Mark, ...] = ()
        self.seq = self.durable_seq = 0
        self.chain = self.durable_chain = first_chain(log) if chain is None else chain
        self.last_c = 0
        self.covered = self.durable_covered = False
        self.forked = False
        self.released = 0  # 1..released have places
        # released + 1, and every later entry that follows something
        self.queue: deque[WaitingEntry] = deque()
        self.shown_hash = 0  # what this log adds to its conversation's sum now

    @classmethod
    def from_facts(cls, facts: LogFacts) -> Log:
        """Return a log as storage knows it."""
        log = cls(facts.log, chain=facts.chain)
        log.before = facts.before
        log.seq = log.durable_seq = facts.seq
        log.last_c = facts.last_c
        log.covered = log.durable_covered = facts.covered
        log.forked = facts.forked
        log.released = facts.released
        return log

    def extend(self, seq: int, chain: bytes, last_c: int) -> None:
        self.seq, self.chain, self.last_c = seq, chain, last_c

    def is_behind(self, mark: Mark) -> bool:
        """Return whether a mark tells of something that is not here: more of this log, or another chain of it.

        The second is a fork, if it is true; a chain that nobody knows ("") is none.
        """
        if self.forked:
            return False
        return mark.seq > self.seq or (mark.seq == self.seq and mark.chain8 not in ("", self.chain[:8].hex()))

    def is_covered_by(self, before: Iterable[Mark]) -> bool:
        """Return whether a log that builds on these covers this one."""
        return any((mark.run, mark.seq) == (self.id.run, self.seq) for mark in before)

    @property
    def show_limit(self) -> int:
        """Up to which entry it may be shown: to its end."""
        return self.seq

    @property
    def shared_seq(self) -> int:
        """Up to which entry others are told of it and given it: what is durable."""
        return self.durable_seq

    @property
    def is_tip(self) -> bool:
        """Durable, and no later log of its writer builds on all of it."""
        return self.durable_seq > 0 and not self.durable_covered and not self.forked

    @property
    def mark(self) -> Mark:
        """The mark others may hear: of what is durable."""
        return Mark(self.id.run, self.durable_seq, self.durable_chain[:8].hex())

    @property
    def tail_mark(self) -> Mark:
        """The mark of all that was taken in."""
        return Mark(self.id.run, self.seq, self.chain[:8].hex())

    @property
    def shared_chain(self) -> bytes:
        """The chain at told_seq, or at least its first 8 bytes."""
        return self.durable_chain

    def __repr__(self) -> str:
        return f"Log({self.ref[:6]}/{self.id.run[:6]} kept {self.durable_seq} of {self.seq})"


class TalkLog(Log):
    """A log of a group's talk: of it only a beginning may be visible, and nothing else is shown, told or given.

    Attributes:
        cites: Which gens it cites, from which entry on.
        visible: Up to which entry it is visible; groups.py sees to it.
        chain8: Begins the chain there, "" when that is its own end.
        hidden: A visible log of its writer builds on all of it that is visible.
        plain: Nothing of its writer's was ever cut off: then a tip is what it is elsewhere.
        noted: What storage was told of `visible`: EVERYTHING, or up to which entry.
    """

    __slots__ = ("chain8", "cites", "hidden", "stored_visible", "uncut", "visible")

    def __init__(self, log: LogId, *, own: bool = False, chain: bytes | None = None) -> None:
        super().__init__(log, own=own, chain=chain)
        self.cites: list[Cite] = []
        self.visible = 0
        self.chain8 = ""
        self.hidden = False
        self.uncut = True
        self.stored_visible = EVERYTHING

    @classmethod
    def from_facts(cls, facts: LogFacts) -> TalkLog:
        log = super().from_facts(facts)
        assert isinstance(log, TalkLog)
        log.cites = list(facts.cites)
        log.stored_visible = facts.visible
        return log

    @property
    def show_limit(self) -> int:
        return self.visible

    @property
    def shared_seq(self) -> int:
        return min(self.visible, self.durable_seq)

    @property
    def is_tip(self) -> bool:
        covered = self.durable_covered if self.uncut else self.hidden
        return self.shared_seq > 0 and not covered and not self.forked

    @property
    def shared_chain(self) -> bytes:
        return bytes.fromhex(self.chain8) if self.visible < self.durable_seq else self.durable_chain

    @property
    def mark(self) -> Mark:
        return Mark(self.id.run, self.shared_seq, self.shared_chain[:8].hex())

    @property
    def visible_mark(self) -> Mark:
        """The mark of what is visible of all that was taken in."""
        return Mark(self.id.run, self.visible, self.chain8 if self.visible < self.seq else self.chain[:8].hex())

    def add_cites(self, batch: Batch) -> list[Cite]:
        """Note which gens the entries of this batch, its next, cite; return where that changes."""
        assert batch.entries is not None
        new: list[Cite] = []
        gen = self.cites[-1].gen if self.cites else 0
        for at, entry in enumerate(batch.entries):
            if entry.g is not None and entry.g[0] != gen:
                gen = entry.g[0]
                new.append(Cite(batch.first + at, gen, extend_chain(batch.prev, batch.raws[:at])[:8].hex()))
        self.cites += new
        return new


class WriterLogs:
    """One user in one conversation."""

    __slots__ = ("may_have_stored", "logs", "uncut", "user", "all_loaded")

    def __init__(self, user: UserId) -> None:
        self.user = user
        self.logs: dict[RunId, Log] = {}
        self.may_have_stored = False  # some log builds on another: there may be logs that are not in memory
        self.uncut = True  # of a talk: nothing of it was ever cut off
        self.all_loaded = False  # of a talk: all its logs are in memory, and stay there

    @property
    def log_views(self) -> Mapping[RunId, LogView]:
        """The logs, of a talk, as the rule of visibility takes them."""
        return cast(Mapping[RunId, LogView], self.logs)

    def visible_marks(self) -> list[Mark]:
        """What of a talk is visible of all that was taken in: what its writer's next log builds on, or a cut names."""
        logs = [log for log in self.logs.values() if isinstance(log, TalkLog) and log.visible and not log.forked]
        named = [mark for log in logs for mark in log.before]
        return [
            log.visible_mark for log in logs if not any(m.run == log.id.run and m.seq >= log.visible for m in named)
        ]

    def tips(self) -> Iterator[Log]:
        return (log for log in self.logs.values() if log.is_tip)

    def may_build_on(self, log: Log, run: RunId) -> bool:
        """Return whether a log builds on another, or perhaps does: through logs that are not in memory."""
        todo, seen = [log], {log.id.run}
        while todo:
            for mark in todo.pop().before:
                below = self.logs.get(mark.run)
                if below is None or mark.run == run:
                    return True
                if mark.run not in seen:
                    seen.add(mark.run)
                    todo.append(below)
        return False

    def marks(self) -> list[Mark]:
        return [log.mark for log in self.tips()]

    def tail_tips(self) -> list[Log]:
        """The tips as they will be when everything on its way is durable."""
        return [log for log in self.logs.values() if log.seq and not log.covered and not log.forked]


def sum_of(conversations: Iterable[ConversationState]) -> str:
    """Return the sum over these as a digest tells it."""
    return f"{sum(conversation.sum for conversation in conversations) % SUM_MODULUS:064x}"


class ConversationState:
    """One conversation: who may write and read it, its writers and the sum over their tips."""

    __slots__ = (
        "blocked", "by_ref", "concerns_us", "group", "id", "is_talk", "allowed_writers", "members",
        "named_only_by_void", "naming", "is_newcomer", "newest_c", "boundary", "recently_shown", "is_stored", "sum",
        "writers",
    )  # fmt: skip

    def __init__(self, conversation: ConversationId, naming: Naming, members: frozenset[UserId] | None) -> None:
        self.id = conversation
        self.naming = naming
        self.members = members  # whose peers are told of it; None: everyone in the network
        self.allowed_writers = members  # who may have written here: of a group whoever was named once
        # Those of `members` of whom other peers may not know that they were ever named.
        self.named_only_by_void: frozenset[UserId] = frozenset()
        self.group: GroupReplica | None = None  # what this is the conversation of operations, or the talk, of
        self.is_talk = False
        self.concerns_us = True  # a member is hosted here
        self.writers: dict[UserId, WriterLogs] = {}
        self.by_ref: dict[str, Log] = {}
        self.sum = 0
        self.newest_c = 0
        self.blocked: dict[LogId, Log] = {}  # logs with waiting entries
        self.recently_shown: list[tuple[int, UserId, str, int]] = []  # (place, user, ref, seq) shown last, one a log
        self.is_newcomer = False  # nobody has told yet what there is: neither now nor before this peer started
        self.boundary = HistoryBoundary()  # what was told while new here
        self.is_stored = False  # storage knows what the id stands for

    def writer(self, user: UserId) -> WriterLogs:
        found = self.writers.get(user)
        if found is None:
            found = self.writers[user] = WriterLogs(user)
        return found

    def log(self, user: UserId, run: RunId) -> Log | None:
        writer = self.writers.get(user)
        return writer.logs.get(run) if writer else None

    def may_be_only_stored(self, user: UserId) -> bool:
        """Return whether there may be logs of this user here that are not in memory: storage is to be asked."""
        writer = self.writers.get(user)
        return writer is not None and writer.may_have_stored

    def lacks(self, user: UserId, mark: Mark) -> bool:
        """Return whether a mark tells of something that is not here and may be shown; of logs in memory."""
        log = self.log(user, mark.run)
        if log is not None and log.forked:
            return False
        if self.is_talk and self.group is not None and (log is None or mark.seq > log.seq):
            writer = self.writers.get(user)
            return is_wanted(self.group.visibility_rules(user), writer.log_views if writer else {}, mark)
        return log is None or log.is_behind(mark)

    def shows(self, batch: Batch) -> bool:
        """Return whether the beginning of a batch of a talk is visible: then it is given, up to its head."""
        log = self.log(batch.log.user, batch.log.run)
        return batch.first <= log.show_limit if log is not None else self.writer(batch.log.user).uncut

    def is_cut_off(self, ref: Ref) -> bool:
        """Return whether an entry of a talk that is not here, or not in memory, can be had no more: it was cut off."""
        found = self.by_ref.get(ref.log)
        if found is not None and found.seq >= ref.seq:
            return found.show_limit < ref.seq and not self._may_turn_out(found.id, ref.seq)
        users = [user for user in self.allowed_writers or () if user.startswith(ref.log[:16])]
        return bool(users) and not any(self.lacks(user, Mark(ref.log[16:], ref.seq, "")) for user in users)

    def _may_turn_out(self, log: LogId, seq: int) -> bool:
        """Return whether an entry of a talk that is here and not visible may be once what the cuts name has come."""
        return self.group is not None and stored_may_be_visible(
            self.group.visibility_rules(log.user), self.writer(log.user).log_views, log.run, seq
        )

    def new_log(self, id: LogId, *, own: bool = False) -> Log:
        """Return a log that begins here, not taken into memory yet."""
        return TalkLog(id, own=own) if self.is_talk else Log(id, own=own)

    def log_from(self, facts: LogFacts) -> Log:
        """Return a log as storage knows it, not taken into memory yet."""
        return TalkLog.from_facts(facts) if self.is_talk else Log.from_facts(facts)

    def add(self, log: Log) -> Log:
        """Take a log into memory."""
        writer = self.writer(log.id.user)
        writer.logs[log.id.run] = log
        writer.may_have_stored = writer.may_have_stored or bool(log.before)
        self.by_ref[log.ref] = log
        return log

    def drop_if_settled(self, log: Log) -> bool:
        """Forget a log that storage can find again: covered, nothing of it waiting or on its way; True if it was."""
        settled = log.durable_covered and log.covered and log.seq == log.durable_seq == log.released
        if not settled or log.own or log.forked or self.by_ref.get(log.ref) is not log:
            return False
        if self.is_talk and not self.writers[log.id.user].uncut:
            return False
        self.writers[log.id.user].all_loaded = False
        del self.writers[log.id.user].logs[log.id.run], self.by_ref[log.ref]
        return True

    def refresh_sum(self, log: Log) -> None:
        """Bring the sum up to date with what this log shows."""
        now = mark_hash(log.id, log.shared_seq, log.shared_chain) if log.is_tip else 0
        self.sum = (self.sum + now - log.shown_hash) % SUM_MODULUS
        log.shown_hash = now

    @property
    def boundary_key(self) -> str:
        """Under which name `past` is kept."""
        return f"{OLD_MARKS}:{self.id}" if self.is_talk else OLD_MARKS

    @property
    def is_operations(self) -> bool:
        """Return whether whoever speaks of it is listened to: operations of a group."""
        return self.group is not None and not self.is_talk

    def may_write(self, user: UserId) -> bool:
        """Return whether entries of this user may stand here."""
        return self.allowed_writers is None or user in self.allowed_writers

    def is_member(self, user: UserId) -> bool:
        """Return whether a user belongs here now."""
        return self.members is None or user in self.members

    def shared_with(self, users: Iterable[UserId]) -> bool:
        """Return whether a peer hosting these users is told of this conversation."""
        return self.members is None or (self.concerns_us and any(user in self.members for user in users))

    def marks(self, span: tuple[UserId, UserId]) -> dict[UserId, list[Mark]]:
        """The visible tips of every writer within a span of user ids who has some, by user id in order."""
        users = sorted(user for user in self.writers if span[0] <= user <= span[1])
        pairs = ((user, self.writers[user].marks()) for user in users)
        return {user: marks for user, marks in pairs if marks}

    def on_shown(self, place: int, log: Log, seq: int, keep: int) -> None:
        """Remember what was released last: the newest entry of each of the last few logs."""
        self.recently_shown = [item for item in self.recently_shown if item[2] != log.ref][-keep:]
        self.recently_shown.append((place, log.id.user, log.ref, seq))


# ---- past
#
# What was in a room before this peer came: it is handed on as old, so that a bot can pass over it.
#
# The first marks heard say what there is; all up to them is old. They are kept until everything they name was shown,
# over restarts too: who was killed in the middle of its first fetch is no less new to the rest.


MAX_WRITERS = 10_000  # whose first marks are remembered; a guess: 2 MiB
MAX_ANNOUNCEMENTS = (
    4  # as often as first marks of one writer may all be of other logs, before no more are remembered; a guess
)
OLD_MARKS = "old_marks"  # in meta: the marks, until all they name was shown; then ""


class HistoryBoundary:
    """Of each writer the marks first heard; 0 for a log shown up to its mark, and for news that builds on one."""

    def __init__(self, text: str = "") -> None:
        """Begin with what `str` of another said."""
        self.marks: dict[UserId, dict[RunId, int]] = {}
        self.grew = False  # news of such a writer began: what builds on that is news as well
        self._from_files: set[tuple[UserId, RunId]] = set()  # whose marks files made, and no member yet
        for line in text.split():
            user, *logs = line.split(",")
            self.marks[user] = {log[:16]: int(log[16:]) for log in logs}

    def __str__(self) -> str:
        lines = ((user, *(f"{run}{seq}" for run, seq in logs.items())) for user, logs in self.marks.items())
        return " ".join(",".join(line) for line in lines)

    def add_marks(self, user: UserId, marks: Iterable[Mark], most: int) -> None:
        """Take first marks of a writer; `most` are told at a time.

        Before all of them were told the writer may have begun a log that builds on one that was told of, and another
        member may be behind: what is told then is added, a few times.
        """
        old = self.marks.get(user)
        if old is None and len(self.marks) < MAX_WRITERS:
            old = self.marks[user] = {}
        if old is not None:
            has_room = len(old) < MAX_ANNOUNCEMENTS * most
            old.update({mark.run: max(mark.seq, old.get(mark.run, 0)) for mark in marks if has_room or mark.run in old})

    def on_listed(self, user: UserId, runs: Collection[RunId]) -> None:
        """A member listed all of this writer's logs that nothing builds on.

        What a file made a mark of and is not among them is built on, however much of it the file lacked: all of it is
        old, as it is of any log that was not told of.
        """
        for log in [log for log in self._from_files if log[0] == user and log[1] not in runs]:
            self._from_files.discard(log)
            logs = self.marks.get(user, {})
            logs.pop(log[1], None)
            if not logs:
                self.marks.pop(user, None)

    def on_imported(self, log: LogId, seq: int, before: Iterable[Mark], most: int) -> None:
        """A file brought a log up to here: a mark that takes the place of those of the logs it builds on."""
        old = self.marks.get(log.user, {})
        for mark in before:
            if old.get(mark.run) == mark.seq:
                del old[mark.run]
        heard = log.run in old and (log.user, log.run) not in self._from_files
        self.add_marks(log.user, [Mark(log.run, seq, "")], most)
        if not heard and log.run in self.marks.get(log.user, ()):
            self._from_files.add((log.user, log.run))

    def on_pushed(self, log: LogId, before: Iterable[Mark], first: int) -> None:
        """A writer sent this unasked, so it wrote it just now: news from there on, of a log that was not told of.

        All of it is, when it builds on one that was. If not: the writer's disk may be lost; or a member told of a log
        that never was.
        """
        logs = self.marks.get(log.user)
        if logs is not None and log.run not in logs:
            logs[log.run] = 0 if any(mark.run in logs for mark in before) else first - 1
            self.grew = True

    def unshown(self, conversation: ConversationId) -> Iterator[LogId]:
        """Return the logs of which something old is to be shown yet."""
        return (LogId(conversation, user, run) for user, logs in [*self.marks.items()] for run in logs if logs[run])

    def on_shown(self, log: LogId, seq: int) -> None:
        """A log was shown up to here."""
        logs = self.marks.get(log.user, {})
        if seq >= logs.get(log.run, seq + 1):
            logs[log.run] = 0
            if not any(logs.values()):
                del self.marks[log.user]

    def split_by_age(self, log: LogId, before: Iterable[Mark], first: int, end: int) -> tuple[int, bool]:
        """Return up to which entry of first..end all are old, or none is; and whether they are.

        A log that was not told of, and builds on none that was, is taken for one that those build on. Who lost its disk
        in the seconds of this peer's first fetch begins such a one too, or who writes on a second peer to which the
        first had given nothing: what others tell of it is then old here.
        """
        logs = self.marks.get(log.user)
        if not logs:
            return end, False
        limit = logs.get(log.run)
        if limit is None:  # those told of build on it, and it is old; or it builds on them, and it is news
            if not any(mark.run in logs for mark in before):
                return end, True
            limit = logs[log.run] = 0
            self.grew = True
        return (min(end, limit), True) if first <= limit else (end, False)


# ---- clock
#
# The clock entries are sorted by: as near to the time of day as order allows.
#
# c = max(now, own previous + 1, newest other here + 1), in UTC microseconds, where stamps more than five minutes
# ahead of the local time do not count: a writer whose clock is wrong must not drag everyone's along.
# It is a hybrid logical clock without the second counter (Kulkarni et al., "Logical Physical Clocks", 2014).


def next_c(now_us: int, own_last: int, newest_other: int) -> int:
    """Return the clock of the next entry; own_last and newest_other are 0 when there is none."""
    return max(now_us, own_last + 1, newest_other + 1)


def is_plausible(c: int, now_us: int, ahead_s: float) -> bool:
    """Return whether a stamp is near enough to the local time to drive the clock."""
    return c <= now_us + int(ahead_s * 1_000_000)
