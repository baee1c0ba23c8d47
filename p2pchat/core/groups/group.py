"""One group: everything known that was written to it, and what that makes of it.

It is given entries of the group's conversation as they are taken in, in any order of logs, and says what each changed.
Nothing is ever taken out: who was named once stays named.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from p2pchat.core.groups.state import (
    Ancestry,
    GroupOperation,
    GroupState,
    GroupStates,
    VisibilityRule,
    fork_mark,
    is_first,
    lost_operations,
    operation_hash,
    read_leave,
    read_operation,
    talk_id,
)
from p2pchat.core.log import Entry, LogId
from p2pchat.protocol import ConversationId, Mark, RunId, UserId

# Operations of one user whom no owner is known to have named owner: they may come before the one that did. A guess: an
# owner's mostly number fewer, and whoever makes up operations takes 20 MiB of memory.
MAX_EARLY = 1000


class Difference(NamedTuple):
    """One thing that is other than before: created, added, removed, left, renamed or owner; `target` is whom."""

    change: str
    by: UserId
    target: UserId


class GroupReplica:
    """One group.

    Attributes:
        id, talk: Of its two conversations.
        state: As it is now; None before its first operation is known.
    """

    def __init__(self, group: ConversationId) -> None:
        self.id = group
        self.talk = talk_id(group)
        self.state: GroupState | None = None
        self._named: set[UserId] = set()
        self._named_now: frozenset[UserId] = frozenset()  # the same as it is read, made anew when it was read and grew
        self._states = GroupStates()
        self._operations: dict[tuple[str, UserId], GroupOperation] = {}  # by hash and writer: all can copy the bytes
        self._twice: dict[tuple[str, UserId], list[GroupOperation]] = {}  # of those that are written twice, each
        self._forked: set[LogId] = set()  # logs of this group
        self._void: set[LogId] = set()  # those of them whose operations were made again
        self._cited: set[tuple[int, str]] = set()  # gen, first 8 bytes of the hash
        self._before: dict[tuple[UserId, RunId], Sequence[Mark]] = {}
        self._owners: set[UserId] = set()  # whoever owned the group, or may have
        self._early: dict[UserId, int] = {}  # operations of others
        self._members: Mapping[UserId, int] = {}  # of the operation that came last
        self._ids: dict[UserId, UserId] = {}  # each user's id once: a big group is named in each of its operations

    @property
    def creator(self) -> UserId:
        """Who made it; "" before its first operation is known."""
        return self._states.creator

    @property
    def named(self) -> frozenset[UserId]:
        """Everyone whom any operation ever named."""
        if len(self._named_now) != len(self._named):
            self._named_now = frozenset(self._named)
        return self._named_now

    @property
    def named_only_by_void(self) -> frozenset[UserId]:
        """Everyone whom only operations in forked logs named that count no more: their writer may not know of it."""
        if not self._void:
            return frozenset()
        written = (one for key, known in self._operations.items() for one in self._twice.get(key, [known]))
        lists = {id(one.members): one.members for one in written if one.gen == 1 or one.log not in self._void}
        return self.named.difference(*lists.values())

    def begins_with(self, log: LogId, raw: str, entry: Entry) -> bool:
        """Say whether this entry is the group's first operation."""
        operation = read_operation(log, 1, raw, entry) if operation_hash(raw) == self.id else None
        return operation is not None and is_first(operation, entry)

    def add(self, log: LogId, seq: int, raw: str, entry: Entry) -> list[Difference]:
        """Take an entry of the group's conversation; return what is other than before, [] for nothing."""
        return self._changed(log.user) if self._note(log, seq, raw, entry) else []

    def load(self, entries: Iterable[tuple[LogId, int, str, Entry]], forked: Iterable[LogId] = ()) -> None:
        """Take what is stored of the group, and which of its logs forked."""
        for log, seq, raw, entry in entries:
            self._note(log, seq, raw, entry)
        self._forked.update(forked)
        if self._forked:
            self._remake()
        self._changed("")

    def fork(self, log: LogId) -> list[Difference]:
        """A log of the group's forked: nobody can be given more of it. Returns what is other than before."""
        self._forked.add(log)
        self._remake()
        return self._changed(log.user)

    def _remake(self) -> None:
        """Reckon anew what counts.

        What stands in a forked log is other on each peer. So its leaves count no more, and its operations only until
        their writer says, in a log that did not fork, that it made them again; the first, which is the group, always.
        """
        former, self._states = self._states, GroupStates()
        self._void = {log for log in self._forked if self._is_made_again(log)}
        for key, operation in self._operations.items():
            written = self._twice.get(key, [operation])
            standing = [one for one in written if one.gen == 1 or one.log not in self._void]
            if standing:
                self._states.add(min(standing, key=lambda one: (one.log, one.seq)))
        for leave in former.leaves:
            if leave.log not in self._forked:
                self._states.add_leave(leave)

    def _is_made_again(self, log: LogId) -> bool:
        mark = fork_mark(log)
        written = (one for key, known in self._operations.items() for one in self._twice.get(key, [known]))
        return any(one.by == log.user and one.redo == mark and one.log not in self._forked for one in written)

    @property
    def users_to_reissue(self) -> set[UserId]:
        """Who may have something to make again here: its owner, and whose logs forked."""
        owner = set() if self.state is None else {self.state.owner}
        return owner | {log.user for log in self._forked - self._void}

    def logs_to_reissue(self, user: UserId) -> list[LogId]:
        """Return the forked logs of a user whose operations it has not made again."""
        return [log for log in sorted(self._forked - self._void) if log.user == user]

    def operations_only_in(self, logs: Sequence[LogId]) -> list[GroupOperation]:
        """Return the operations of gen 2 and later that hold and stand nowhere but in these logs, by gen."""
        tied = (self._states[at].tied for at in range(1, len(self._states)))
        return [all_of[0] for all_of in tied if all(operation.log in logs for operation in all_of)]

    def _note(self, log: LogId, seq: int, raw: str, entry: Entry) -> bool:
        """Take an entry; False when it is neither an operation nor a leave."""
        if seq == 1:
            self._before[log.user, log.run] = entry.before
        leave = read_leave(log, seq, entry)
        operation = read_operation(log, seq, raw, entry)
        if leave is not None:
            if log not in self._forked:
                self._states.add_leave(leave)
        elif operation is None or (
            operation.gen == 1 and not (operation.hash == self.id and is_first(operation, entry))
        ):
            return False
        else:
            self._take(operation)
        return True

    def _take(self, operation: GroupOperation) -> None:
        if operation.by in self._owners or operation.gen == 1:
            self._owners.add(operation.owner)
        else:
            self._early[operation.by] = self._early.get(operation.by, 0) + 1
            if self._early[operation.by] > MAX_EARLY:
                return
        members = self._shared(operation.members)
        operation = replace(operation, members=members)
        key = (operation.hash, operation.by)
        known = self._operations.get(key)
        if known is not None:
            self._twice.setdefault(key, [known]).append(operation)
        if known is None or (operation.log, operation.seq) < (known.log, known.seq):  # written twice: one counts
            self._operations[key] = operation
            self._states.add(operation)
        if any(operation.redo == fork_mark(log) for log in self._forked - self._void if log.user == operation.by):
            self._remake()
        self._cited.add((operation.gen, operation.hash[:16]))
        self._named.update(members)

    def _shared(self, members: Mapping[UserId, int]) -> Mapping[UserId, int]:
        """Return the same in as little memory: mostly a list of members is that of the operation before."""
        if members != self._members:
            self._members = {self._ids.setdefault(user, user): gen for user, gen in members.items()}
        return self._members

    def _changed(self, by: UserId) -> list[Difference]:
        former = self.state
        self.state = self._states[-1] if self._states else None
        if self.state is None or self.state is former:
            return []
        return list(_differences(former, self.state, by))

    # ---- asking

    def knows(self, cite: tuple[int, str]) -> bool:
        """Say whether the operation that an entry cites is here, or cannot be had: it may stand in a forked log."""
        return cite in self._cited or any(log.user in self._owners for log in self._forked)

    @property
    def cite(self) -> tuple[int, str]:
        """What an entry written now cites."""
        assert self.state is not None
        return self.state.gen, self.state.hash[:16]

    def is_present(self, user: UserId) -> bool:
        """Say whether this is a member who has not left."""
        return self.state is not None and user in self.state.members and user not in self.state.left

    def members_at(self, gen: int) -> frozenset[UserId]:
        """Return the members at a gen, those included who left since; nobody for a gen that is not known."""
        return self._states.members(gen)

    def added(self, user: UserId) -> int:
        """Return the gen that added a member."""
        assert self.state is not None
        return self.state.members[user]

    def visibility_rules(self, user: UserId) -> tuple[VisibilityRule, ...]:
        return self.state.visibility_rules(user) if self.state else ()

    def has_cut(self, user: UserId) -> bool:
        """Say whether anything this user wrote was ever cut off, or may be: then not all of it can be had."""
        return any(sight.cuts for sight in self.visibility_rules(user))

    def lost_operations(self, owner: UserId) -> list[GroupOperation]:
        """Return operations of a user that came to nothing and can be made again: it owns the group."""
        if self.state is None or self.state.owner != owner:
            return []
        return lost_operations(self._operations.values(), self._states, owner, Ancestry(self._before))

    def below(self, operation: GroupOperation) -> GroupState:
        """Return the state an operation of gen 2 or later was made on, as it is seen now."""
        return self._states[operation.gen - 2]

    @property
    def view(self) -> GroupView | None:
        """What the outside may read; None before the group is known."""
        state = self.state
        if state is None:
            return None
        present: Mapping[UserId, int] = {user: gen for user, gen in state.members.items() if user not in state.left}
        return GroupView(self.id, self.talk, state.name, state.owner, state.gen, present, state.left)


def _differences(former: GroupState | None, now: GroupState, by: UserId) -> Iterator[Difference]:
    if former is None:
        yield Difference("created", by, "")
        return
    for user in sorted(now.present - former.present):
        yield Difference("added", by, user)
    for user in sorted(former.present - now.present):
        yield Difference("left" if user in now.left and user == by else "removed", by, user)
    if now.name != former.name:
        yield Difference("renamed", by, "")
    if now.owner != former.owner:
        yield Difference("owner", by, now.owner)


# ---- view
#
# A group as the outside may read it.


@dataclass(frozen=True, slots=True)
class GroupView:
    """A group as it is now.

    Attributes:
        group, talk: The conversation of operations and leaves, and the one in which its members talk.
        gen: Number of the operation that holds.
        members: Those who have not left -> the gen that added each.
        left: Those who left and whom no operation of the owner has dropped yet.
    """

    group: ConversationId
    talk: ConversationId
    name: str = field(repr=False)
    owner: UserId
    gen: int
    members: Mapping[UserId, int]
    left: frozenset[UserId]
