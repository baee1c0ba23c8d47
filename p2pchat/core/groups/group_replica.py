"""Known operations and leaves of one group, what each changed, and which entries of its talk are visible.

Entries come as they are stored, in any order of logs. Each call returns who was added, removed or left, and a new name
or owner. Entries are never removed: a user that was named once stays named. The state follows from the set of them
(group_state.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import NamedTuple, Protocol

from p2pchat.core.durable_changes import Cite
from p2pchat.core.groups.group_state import (
    CITED_DIGITS,
    EntryAncestry,
    GroupOperation,
    GroupState,
    GroupStates,
    VisibilityRule,
    fork_mark,
    is_first,
    lost_operations,
    read_leave,
    read_operation,
    talk_id,
)
from p2pchat.core.log import Entry, LogId, RawEntry
from p2pchat.protocol import MAX_INT, ConversationId, Mark, RunId, UserId


class GroupDifference(NamedTuple):
    """One change of a group: created, added, removed, left, renamed or owner. `target` is the user it concerns."""

    change: str
    by: UserId
    target: UserId


NO_USERS: frozenset[UserId] = frozenset()  # one object: Python makes a new one each time
NO_MEMBERS: Mapping[UserId, int] = {}


class GroupReplica:
    """One group.

    Args:
        in_groups: Counts of how many groups each user is named in; those whom this one names are added.

    Attributes:
        id, talk: The ids of its two conversations.
        state: The current state; None until the first operation is known.
    """

    __slots__ = (
        "__weakref__", "_before", "_cited", "_copies", "_fork_marks", "_forked_logs", "_ids", "_in_groups",
        "_members", "_named", "_named_cache", "_owners", "_redone_in", "_room", "_states", "_void_logs",
        "_written_in", "id", "state", "talk",
    )  # fmt: skip

    def __init__(self, group: ConversationId, room: ConversationId, in_groups: Counter[UserId] | None = None) -> None:
        self.id: ConversationId = group
        self._room = room
        self._in_groups = in_groups
        self.talk: ConversationId = talk_id(group)
        self.state: GroupState | None = None
        self._named: dict[UserId, None] = {}
        self._named_cache: frozenset[UserId] = NO_USERS  # `named`, copied when it is read after it grew
        self._members: Mapping[UserId, int] = NO_MEMBERS  # of the last operation
        self._states = GroupStates()
        # Each operation as often as it was written, by hash and writer: anyone can copy the bytes.
        self._copies: dict[tuple[str, UserId], list[GroupOperation]] = {}
        self._written_in: dict[LogId, list[tuple[str, UserId]]] = {}  # the keys of operations
        self._forked_logs: set[LogId] = set()  # logs of this group
        self._fork_marks: dict[tuple[UserId, str], LogId] = {}  # by writer and what replaces them
        self._redone_in: dict[tuple[UserId, str], set[LogId]] = {}  # logs, by writer and `redo`
        self._void_logs: set[LogId] = set()  # those whose operations were reissued
        self._cited: set[tuple[int, str]] = set()  # gen, first 16 bytes of the hash
        self._before: dict[tuple[UserId, RunId], Sequence[Mark]] = {}
        self._owners: set[UserId] = set()  # all users that owned the group, or may have
        self._ids: dict[UserId, UserId] = {}  # one string for each user id: every operation lists all members

    @property
    def creator(self) -> UserId:
        """The user that created the group; "" until the first operation is known."""
        return self._states.creator if self.state is not None else ""

    @property
    def named(self) -> frozenset[UserId]:
        """All users that any operation ever named."""
        if len(self._named_cache) != len(self._named):
            self._named_cache = frozenset(self._named)
        return self._named_cache

    @property
    def named_only_by_void(self) -> frozenset[UserId]:
        """Users named only by void operations in forked logs, or by operations of such users. The writer of the forked
        logs may not know them.
        """
        if not self._void_logs:
            return frozenset()
        lists: dict[UserId, dict[int, Mapping[UserId, int]]] = {}  # by writer; many operations share one
        for one in chain.from_iterable(self._copies.values()):
            if one.gen == 1 or one.log not in self._void_logs:
                lists.setdefault(one.by, {})[id(one.members)] = one.members
        named, waiting = {self.creator}, [self.creator]
        while waiting:
            found = set().union(*lists.get(waiting.pop(), {}).values()) - named
            named |= found
            waiting += found
        return self.named - named

    def begins_with(self, log: LogId, raw: RawEntry, entry: Entry) -> bool:
        """Return whether this entry is the first operation of the group."""
        operation = read_operation(self._room, log, 1, raw, entry)
        return operation is not None and operation.hash == self.id and is_first(operation, entry)

    def note_before(self, log: LogId, before: Sequence[Mark]) -> None:
        """Note what a log of the group's conversation builds on."""
        self._before[log.user, log.run] = before

    def add(self, log: LogId, seq: int, raw: RawEntry, entry: Entry) -> list[GroupDifference]:
        """Add an entry of the group's conversation; return what changed."""
        return self._update(log.user) if self._store(log, seq, raw, entry) else []

    def load(self, entries: Iterable[tuple[LogId, int, RawEntry, Entry]], forked: Iterable[LogId] = ()) -> None:
        """Add all stored entries of the group, and its logs that forked."""
        for log, seq, raw, entry in entries:
            self._store(log, seq, raw, entry)
        self._note_forks(forked)
        self._update("")

    def fork(self, log: LogId) -> list[GroupDifference]:
        """Note that a log of the group forked, so that no peer gets more of it. Return what changed."""
        self._note_forks([log])
        return self._update(log.user)

    def _note_forks(self, logs: Iterable[LogId]) -> None:
        """Note forks. A forked log differs between peers, so its leaves do not count, and its operations count only
        until their writer has reissued them in a log that did not fork.
        """
        for log in logs:
            self._forked_logs.add(log)
            self._fork_marks[log.user, fork_mark(log)] = log
            self._states.remove_leaves(log)
        self._refresh_void()

    def _refresh_void(self) -> None:
        """Count the operations of logs that are void now no longer, and those of logs that are not any more.

        Only these are looked at: a member can make any number of operations, and of forks. The first operation, which
        is the group, always counts.
        """
        reissued = self._fork_marks.keys() & self._redone_in.keys()  # in a log that did not fork
        void = {self._fork_marks[key] for key in reissued if not self._redone_in[key] <= self._forked_logs}
        former, self._void_logs = self._void_logs, void
        for key in [key for log in former ^ self._void_logs for key in self._written_in.get(log, ())]:
            self._count(key)

    def _count(self, key: tuple[str, UserId]) -> None:
        """Count one copy of an operation that is not in a void log, if there is one."""
        standing = [one for one in self._copies[key] if one.gen == 1 or one.log not in self._void_logs]
        if standing:
            self._states.add(_first(standing))
        else:
            self._states.remove(self._copies[key][0])

    @property
    def users_to_reissue(self) -> set[UserId]:
        """Users that may have operations to reissue: the owner, and writers of forked logs."""
        owner = set() if self.state is None else {self.state.owner}
        return owner | {log.user for log in self._forked_logs - self._void_logs}

    def logs_to_reissue(self, user: UserId) -> list[LogId]:
        """Return the forked logs of a user whose operations it has not reissued yet."""
        return [log for log in sorted(self._forked_logs - self._void_logs) if log.user == user]

    def operations_only_in(self, logs: Sequence[LogId]) -> list[GroupOperation]:
        """Return, by gen, the operations from gen 2 on that hold and exist in these logs only."""
        tied = (self._states[at].tied for at in range(1, len(self._states)))
        return [all_of[0] for all_of in tied if all(operation.log in logs for operation in all_of)]

    def _store(self, log: LogId, seq: int, raw: RawEntry, entry: Entry) -> bool:
        """Store an entry. Return False when it is neither an operation nor a leave."""
        leave = read_leave(log, seq, entry)
        operation = read_operation(self._room, log, seq, raw, entry)
        if leave is not None:
            if log not in self._forked_logs:
                self._states.add_leave(leave)
        elif operation is None or (
            operation.gen == 1 and not (operation.hash == self.id and is_first(operation, entry))
        ):
            return False
        else:
            self._add_operation(operation)
        return True

    def _add_operation(self, operation: GroupOperation) -> None:
        if operation.by in self._owners or operation.gen == 1:
            self._owners.add(operation.owner)
        members = self._interned(operation.members)
        operation = replace(operation, members=members)
        key = (operation.hash, operation.by)
        self._written_in.setdefault(operation.log, []).append(key)
        self._copies.setdefault(key, []).append(operation)
        self._count(key)
        redone = operation.by, operation.redo
        if operation.redo:
            self._redone_in.setdefault(redone, set()).add(operation.log)
        if redone in self._fork_marks and self._fork_marks[redone] not in self._void_logs:
            self._refresh_void()
        self._cited.add((operation.gen, operation.hash[:CITED_DIGITS]))
        new = members.keys() - self._named.keys()
        self._named.update(dict.fromkeys(new))
        if self._in_groups is not None:
            self._in_groups.update(new)

    def _interned(self, members: Mapping[UserId, int]) -> Mapping[UserId, int]:
        """Return an equal mapping that shares memory: mostly the members are those of the operation before."""
        if members != self._members:
            self._members = {self._ids.setdefault(user, user): gen for user, gen in members.items()}
        return self._members

    def _update(self, by: UserId) -> list[GroupDifference]:
        former = self.state
        self.state = self._states[-1] if self._states else None
        if self.state is None or self.state is former:
            return []
        return list(_differences(former, self.state, by))

    # Queries

    def knows(self, cite: tuple[int, str]) -> bool:
        """Return whether a cited operation is known, or cannot be had because it may be in a forked log."""
        return cite in self._cited or self.may_lack_operations

    @property
    def may_lack_operations(self) -> bool:
        """True if a log of an owner forked: other peers may have operations that are not here."""
        return any(log.user in self._owners for log in self._forked_logs)

    @property
    def cite(self) -> tuple[int, str]:
        """The citation for an entry that is written now."""
        assert self.state is not None
        return self.state.gen, self.state.hash[:CITED_DIGITS]

    def is_present(self, user: UserId) -> bool:
        """Return whether this user is a member and has not left."""
        return self.state is not None and user in self.state.members and user not in self.state.left

    def members_at(self, gen: int) -> frozenset[UserId]:
        """Return the members at a gen, including those that left since; nobody for an unknown gen."""
        return self._states.members(gen)

    def first_added(self, users: Container[UserId]) -> int:
        """Return the gen that added the first of these users, also after all of them were removed; 0 for none."""
        return self._states.first_added(users)

    def added(self, user: UserId) -> int:
        assert self.state is not None
        return self.state.members[user]

    def visibility_rules(self, user: UserId) -> tuple[VisibilityRule, ...]:
        return tuple(dict.fromkeys(self.state.visibility_rules(user))) if self.state else ()

    def has_cut(self, user: UserId) -> bool:
        """Return whether entries of this user were ever cut off, or may be. Then not all of them can be had."""
        return any(rule.cuts for rule in self.visibility_rules(user))

    def lost_operations(self, owner: UserId) -> list[GroupOperation]:
        """Return lost operations that this user can reissue because it owns the group."""
        if self.state is None or self.state.owner != owner:
            return []
        operations = map(_first, self._copies.values())
        return lost_operations(operations, self._states, owner, EntryAncestry(self._before))

    def below(self, operation: GroupOperation) -> GroupState:
        """Return the state that an operation of gen 2 or later was made on, as it is now."""
        return self._states[operation.gen - 2]

    @property
    def view(self) -> GroupView:
        """The current state for programs, once the group is known."""
        state = self.state
        assert state is not None
        present: Mapping[UserId, int] = {user: gen for user, gen in state.members.items() if user not in state.left}
        return GroupView(self.id, self.talk, state.name, state.owner, state.gen, present, state.left)


def _first(copies: Iterable[GroupOperation]) -> GroupOperation:
    return min(copies, key=lambda one: (one.log, one.seq))


def _differences(former: GroupState | None, now: GroupState, by: UserId) -> Iterator[GroupDifference]:
    if former is None:
        yield GroupDifference("created", by, "")
        return
    for user in sorted(now.present - former.present):
        yield GroupDifference("added", by, user)
    for user in sorted(former.present - now.present):
        yield GroupDifference("left" if user in now.left and user == by else "removed", by, user)
    if now.name != former.name:
        yield GroupDifference("renamed", by, "")
    if now.owner != former.owner:
        yield GroupDifference("owner", by, now.owner)


@dataclass(frozen=True, slots=True)
class GroupView:
    """The current state of a group, for programs.

    Attributes:
        group, talk: The conversations of operations and leaves, and of the members' messages.
        gen: Number of the current operation.
        members: Members that have not left -> the gen that added each.
        left: Members that left and that no later operation of the owner has removed.
    """

    group: ConversationId
    talk: ConversationId
    name: str = field(repr=False)
    owner: UserId
    gen: int
    members: Mapping[UserId, int]
    left: frozenset[UserId]


# ---- visibility of entries in the group's talk
#
# There is one rule for all logs of one user. An entry is visible if a cut covers it, or if its writer is a member that
# has not left and the entry cites a gen not below the one that added the writer. A cut covers what its marks name and
# everything those logs build on. The visible part of a log is the longest prefix in which every entry is visible,
# independent of its writer's citations.


class LogView(Protocol):
    """The facts of a log on which its visible part depends."""

    @property
    def seq(self) -> int:
        """The number of its entries that are here."""

    @property
    def before(self) -> tuple[Mark, ...]:
        """The marks it builds on."""

    @property
    def cites(self) -> Sequence[Cite]:
        """The gens it cites, and from which entry on."""


class CutCoverage:
    """Coverage of the cuts of one rule.

    Attributes:
        upto: The last covered entry, by run.
        is_known: All logs that the cuts name or build on have begun here, so that nothing else can prove to be covered.
    """

    def __init__(self, cuts: Sequence[Mark], views: Mapping[RunId, LogView]) -> None:
        self.upto: dict[RunId, int] = {}
        self.is_known: bool = True
        self._chains: dict[tuple[RunId, int], str] = {}
        todo = list(cuts)
        while todo:
            mark = todo.pop()
            self._chains[mark.run, mark.seq] = mark.chain
            if mark.run not in self.upto:
                view = views.get(mark.run)
                if view is not None and view.seq:
                    todo += view.before
                else:
                    self.is_known = False
            self.upto[mark.run] = max(mark.seq, self.upto.get(mark.run, 0))

    def chain(self, run: RunId, seq: int) -> str:
        """Return a log's chain where a cut ends the log; "" elsewhere."""
        return self._chains.get((run, seq), "")


class VisibleEnd(NamedTuple):
    """The last visible entry of a log. `chain` is its chain there, "" at the log's own end or at 0."""

    seq: int
    chain: str = ""


def visible_ends(rules: Sequence[VisibilityRule], views: Mapping[RunId, LogView]) -> dict[RunId, VisibleEnd]:
    """Return how far each of one user's logs is visible, under all rules together."""
    coverages = [CutCoverage(rule.cuts, views) for rule in rules]
    ends: dict[RunId, VisibleEnd] = {}
    for run, view in views.items():
        each = [_visible_end(rule, coverage, run, view) for rule, coverage in zip(rules, coverages, strict=True)]
        ends[run] = min(each, key=lambda end: end.seq, default=VisibleEnd(0))
    return ends


def _visible_end(rule: VisibilityRule, coverage: CutCoverage, run: RunId, view: LogView) -> VisibleEnd:
    seq = min(coverage.upto.get(run, 0), view.seq)
    chain = coverage.chain(run, seq)
    for at, cite in enumerate(view.cites if rule.added is not None else ()):
        following = view.cites[at + 1] if at + 1 < len(view.cites) else None
        last = following.first - 1 if following else view.seq
        if last <= seq:
            continue
        if rule.added is None or cite.gen < rule.added:
            break
        seq, chain = last, following.chain if following else ""
    return VisibleEnd(seq, "" if seq in (0, view.seq) else chain)


def may_be_visible(
    rules: Sequence[VisibilityRule], views: Mapping[RunId, LogView], run: RunId, seq: int, gen: int
) -> bool:
    """Return whether entry seq, the next of its log, citing gen, is visible or may become visible.

    It may still become visible while logs named by the cuts are missing, since those may build on this log. An entry
    after an invisible one never is.
    """
    view = views.get(run)
    for rule in rules:
        coverage = CutCoverage(rule.cuts, views)
        covered = seq <= coverage.upto.get(run, 0) or (run not in coverage.upto and not coverage.is_known)
        is_whole = view is None or _visible_end(rule, coverage, run, view).seq == view.seq
        if not covered and not (rule.added is not None and gen >= rule.added and is_whole):
            return False
    return bool(rules)


def stored_may_be_visible(
    rules: Sequence[VisibilityRule], views: Mapping[RunId, LogView], run: RunId, seq: int
) -> bool:
    """Return whether a stored entry is visible, or may become visible once all logs named by the cuts have come."""
    for rule in rules:
        coverage = CutCoverage(rule.cuts, views)
        is_seen = seq <= _visible_end(rule, coverage, run, views[run]).seq
        if not is_seen and (run in coverage.upto or coverage.is_known):
            return False
    return bool(rules)


def is_wanted(rules: Sequence[VisibilityRule], views: Mapping[RunId, LogView], mark: Mark) -> bool:
    """Return whether a mark names entries that are missing here and may be visible, whatever they cite."""
    view = views.get(mark.run)
    seq = view.seq if view is not None else 0
    return mark.seq > seq and may_be_visible(rules, views, mark.run, seq + 1, MAX_INT)


def may_read(group: GroupReplica, user: UserId, entry: Entry) -> bool:
    """Return whether a user may read a visible entry of the talk.

    A user who left the group, or was removed, may read what was written by those who did not know that yet.
    """
    if group.is_present(user):
        return True
    if entry.g is None or group.state is None or user not in group.members_at(entry.g[0]):
        return False
    left = [leave.c for leave in group.state.leaves.get(user, ()) if leave.gen <= entry.g[0]]
    return not left or entry.c <= max(left)
