"""State of a group, computed from its operations and leaves: a function of the set, independent of the order.

An operation is an entry of kind `group` and gives the whole group as its owner wants it. It is known by the hash of its
bytes, and the hash of the first operation is the group's id. A leave is an entry of kind `leave`. An entry without the
shape of either is stored like any entry and changes nothing.

Only the owner at gen n - 1 can make gen n, beginning with the first operation. The highest gen holds. Operations of one
gen (the owner was restored from a backup, or wrote on two devices) are *tied* and combined: a member is a user that is
one in all of them, name and owner come from the one with the smallest hash, and an entry is visible if all of them let
it be. So a state then has several visibility rules for a user, and one otherwise.

Source: docs/protocol-groups.md.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from p2pchat.core.log import Entry, LogId, RawEntry
from p2pchat.core.names import name_fault
from p2pchat.protocol import MAX_INT, ConversationId, Mark, UserId

GROUP_TAG = b"p2pchat/group/2\0"
TALK_TAG = b"p2pchat/talk/1\0"
MAX_MEMBERS = 256
SALT_BYTES = 16
CITED_DIGITS = 32  # of the hash of an operation, in citations
OPERATION, LEAVE = "group", "leave"  # kinds of entries
_DIGITS = frozenset("0123456789abcdef")
MAX_TIED = 64  # operations of one writer and gen: one for each tip it may have
MAX_LEAVES = 64  # leaves of one user

Cuts = Mapping[UserId, tuple[Mark, ...]]


@dataclass(frozen=True, slots=True)
class VisibilityRule:
    """The entries of one user that an operation makes visible.

    Attributes:
        added: Entries that cite this gen or a later one are visible; None for a user that is no member, or has left.
        cuts: Entries covered by these marks are visible as well.
    """

    added: int | None
    cuts: tuple[Mark, ...] = ()


@dataclass(frozen=True, slots=True)
class GroupState:
    """A group at one gen.

    Attributes:
        hash: Of the operation to cite: 64 hex digits.
        members: Members in all tied operations -> the gen that added each; those that left included.
        left: Members that have left since they were added.
        tied: The operations of this gen, the one with the smallest hash first.
        leaves: Those that count, by user.
    """

    gen: int
    hash: str
    name: str = field(repr=False)
    owner: UserId
    members: Mapping[UserId, int]
    left: frozenset[UserId]
    tied: tuple[GroupOperation, ...]
    leaves: Mapping[UserId, tuple[GroupLeave, ...]]

    @property
    def present(self) -> frozenset[UserId]:
        """The members that have not left."""
        return frozenset(self.members) - self.left

    @property
    def judged_users(self) -> AbstractSet[UserId]:
        """The users of whom something may be visible: each tied operation names them or cuts them off. By the rules of
        all others nothing is, whatever else an operation says.
        """
        named = [operation.members.keys() | operation.cuts.keys() for operation in self.tied]
        return named[0].intersection(*named[1:]) | self.members.keys()

    def visibility_rules(self, user: UserId) -> tuple[VisibilityRule, ...]:
        """Return the rules for a user's entries. An entry is visible if all of them make it visible."""
        return tuple(self._visibility_rule(operation, user) for operation in self.tied)

    def _visibility_rule(self, operation: GroupOperation, user: UserId) -> VisibilityRule:
        added = operation.members.get(user)
        if user == self.owner and added is None:
            added = self.members[user]
        cuts = operation.cuts.get(user, ())
        since = self.members.get(user, added)
        counting = [leave for leave in self.leaves.get(user, ()) if since is not None and leave.gen >= since]
        if added is None or not counting:
            return VisibilityRule(added, cuts)
        return VisibilityRule(None, (*cuts, *(mark for leave in counting for mark in leave.cuts)))

    def cuts(self, seen: Callable[[UserId], Sequence[Mark]]) -> dict[UserId, tuple[Mark, ...]]:
        """Return the cuts for the next operation: up to where entries of removed users and of those that left count.

        Args:
            seen: Return the marks of a user's entries that are visible here. It is used where tied operations differ.
        """
        cuts: dict[UserId, tuple[Mark, ...]] = {}
        for user in sorted({user for operation in self.tied for user in operation.cuts}):
            given = {operation.cuts.get(user) for operation in self.tied}
            cuts[user] = tuple(seen(user)) if len(given) > 1 else self.tied[0].cuts[user]
        for user in sorted(self.left):
            marks = [mark for leave in self.leaves[user] if leave.gen >= self.members[user] for mark in leave.cuts]
            cuts[user] = tuple(dict.fromkeys([*cuts.get(user, ()), *marks]))
        return {user: marks for user, marks in cuts.items() if marks}


class GroupStates(Sequence[GroupState]):
    """The states of gen 1, 2, 3 ... up to the current one; empty without a first operation.

    An operation costs only what it changes: later states depend on nothing of it but its owner. Of what a user writes
    without end a fixed number counts, chosen from all of it, so that the result does not depend on the order: of one
    writer's operations of one gen those with the smallest hashes, of a user's leaves those of the highest gens.
    """

    def __init__(self) -> None:
        self._operations: dict[tuple[int, UserId], list[GroupOperation]] = {}  # by (gen, writer), sorted by hash
        self._tied: list[tuple[GroupOperation, ...]] = []  # the valid operations of gen 1, 2, 3 ...
        self._leaves: dict[UserId, tuple[GroupLeave, ...]] = {}
        self._last: GroupState | None = None
        self.creator: UserId = ""  # writer of gen 1, which is one operation: its hash is the group

    def add(self, operation: GroupOperation) -> None:
        """Add an operation. Of two with one writer and hash, the one added later counts."""
        if operation.gen == 1:
            self.creator = operation.by
        there = self._operations.setdefault((operation.gen, operation.by), [])
        at = bisect_left(there, operation.hash, key=_hash)
        if at < len(there) and there[at].hash == operation.hash:
            there[at] = operation
        else:
            there.insert(at, operation)
        if at < MAX_TIED:
            self._recompute(operation.gen)

    def remove(self, operation: GroupOperation) -> None:
        """Remove an operation, if it is there."""
        there = self._operations.get((operation.gen, operation.by), [])
        at = bisect_left(there, operation.hash, key=_hash)
        if at < len(there) and there[at].hash == operation.hash:
            del there[at]
            if at < MAX_TIED:
                self._recompute(operation.gen)

    def add_leave(self, leave: GroupLeave) -> None:
        leaves = sorted((*self._leaves.get(leave.by, ()), leave), key=lambda one: (-one.gen, one.log, one.seq))
        self._leaves[leave.by] = tuple(sorted(leaves[:MAX_LEAVES], key=lambda one: (one.log, one.seq)))
        self._last = None

    def remove_leaves(self, log: LogId) -> None:
        """Remove the leaves of one log."""
        leaves = tuple(leave for leave in self._leaves.pop(log.user, ()) if leave.log != log)
        if leaves:
            self._leaves[log.user] = leaves
        self._last = None

    def _recompute(self, gen: int) -> None:
        while 0 < gen <= len(self._tied) + 1:
            owner = self._tied[gen - 2][0].owner if gen > 1 else self.creator
            valid = tuple(self._operations.get((gen, owner), [])[:MAX_TIED])
            if not valid:
                del self._tied[gen - 1 :]
                break
            former = self._tied[gen - 1 : gen]
            self._tied[gen - 1 : gen] = [valid]
            if former and former[0][0].owner == valid[0].owner:
                break
            gen += 1
        self._last = None

    def __len__(self) -> int:
        return len(self._tied)

    def __getitem__(self, at: int) -> GroupState:  # type: ignore[override]  # it is never sliced
        if at not in (-1, len(self._tied) - 1):
            return _combine(at + 1, self._tied[at], self._leaves)
        if self._last is None:
            self._last = _combine(len(self._tied), self._tied[-1], self._leaves)
        return self._last

    def members(self, gen: int) -> frozenset[UserId]:
        """Return the members at a gen, including those that left since; nobody for an unknown gen."""
        return frozenset(_common_members(self._tied[gen - 1])) if 0 < gen <= len(self._tied) else frozenset()

    def first_added(self, users: Container[UserId]) -> int:
        """Return the gen that added the first of these users, by the newest gen with any of them; 0 for none."""
        for tied in reversed(self._tied):
            gens = [gen for user, gen in _common_members(tied).items() if user in users]
            if gens:
                return min(gens)
        return 0


def _hash(operation: GroupOperation) -> str:
    return operation.hash


def _combine(gen: int, tied: tuple[GroupOperation, ...], leaves: Mapping[UserId, tuple[GroupLeave, ...]]) -> GroupState:
    first, members = tied[0], _common_members(tied)
    left = frozenset(
        user for user, own in leaves.items() if any(leave.gen >= members.get(user, MAX_INT + 1) for leave in own)
    )
    return GroupState(gen, first.hash, first.name, first.owner, members, left, tied, dict(leaves))


def _common_members(tied: tuple[GroupOperation, ...]) -> Mapping[UserId, int]:
    """Return the members of all tied operations. The owner named by the first one is always a member."""
    first = tied[0]
    if len(tied) == 1:
        return first.members
    members = {
        user: max(operation.members[user] for operation in tied)
        for user in first.members
        if all(user in operation.members for operation in tied)
    }
    members.setdefault(first.owner, first.members[first.owner])
    return members


@dataclass(frozen=True, slots=True)
class OperationIntent:
    """The changes of one operation. `name` and `owner` are None when it did not change them."""

    added: Mapping[UserId, int]
    removed: frozenset[UserId]
    name: str | None = field(repr=False)
    owner: UserId | None

    def is_in(self, state: GroupState) -> bool:
        """Return whether a state has all of these changes."""
        return (
            self.added.keys() <= state.members.keys()
            and not self.removed & state.members.keys()
            and self.name in (None, state.name)
            and self.owner in (None, state.owner)
        )


def intent_of(operation: GroupOperation, below: GroupState) -> OperationIntent:
    """Return what an operation changed, compared with the state of the gen before it."""
    added = {user: gen for user, gen in operation.members.items() if gen > below.members.get(user, 0)}
    removed = frozenset(below.members.keys() - operation.members.keys()) - below.left
    name = operation.name if operation.name != below.name else None
    return OperationIntent(added, removed, name, operation.owner if operation.owner != below.owner else None)


class EntryAncestry:
    """Order of one user's entries: whether one was written with knowledge of another. That holds for the later entry of
    one log, and for entries of a log that builds on that log."""

    def __init__(self, before: Mapping[tuple[UserId, str], Sequence[Mark]]) -> None:
        """`before` has, for each log by user and run, the marks that it builds on."""
        self._before = before

    def knows(self, later: GroupOperation, earlier: GroupOperation) -> bool:
        if later.by != earlier.by:
            return earlier.owner == later.by  # only that operation made it the owner
        todo, seen = [(later.log.run, later.seq - 1)], {later.log.run}
        while todo:
            run, seq = todo.pop()
            if run == earlier.log.run and seq >= earlier.seq:
                return True
            for mark in self._before.get((later.by, run), ()):
                if mark.run not in seen or mark.run == earlier.log.run:
                    seen.add(mark.run)
                    todo.append((mark.run, mark.seq))
        return False


def lost_operations(
    operations: Iterable[GroupOperation], states: Sequence[GroupState], owner: UserId, ancestry: EntryAncestry
) -> list[GroupOperation]:
    """Return the lost operations of the present owner, in the order to reissue them.

    An operation is lost when no later one was built on it, the state above it lacks its changes, and no operation
    redoes it. A handover comes last: after it the user can issue nothing more.
    """
    known = [operation for operation in operations if operation.by == owner]
    redone = {operation.redo for operation in known}  # only the same writer can redo it
    found = []
    for operation in known:
        if operation.hash in redone or not 1 < operation.gen <= len(states):
            continue
        above = states[operation.gen] if operation.gen < len(states) else states[-1]
        built_on = operation.gen < len(states) and any(ancestry.knows(later, operation) for later in above.tied)
        alone = states[operation.gen - 1].tied == (operation,) and operation.gen == len(states)
        if not (built_on or alone or intent_of(operation, states[operation.gen - 2]).is_in(above)):
            found.append(operation)
    below = {operation.hash: states[operation.gen - 2] for operation in found}
    return sorted(found, key=lambda one: (one.owner != below[one.hash].owner, one.gen, one.hash))


@dataclass(frozen=True, slots=True)
class GroupOperation:
    """One operation: the whole group.

    Attributes:
        hash: Of the entry's bytes, 64 hex digits; for the first operation it is the group's id.
        by, log, seq: The writer, and the entry.
        members: Each with the gen that added it, the owner included.
        cuts: For each removed user, the marks up to which its entries count.
        redo: The hash of a lost operation that this one reissues, or "".
    """

    hash: str
    by: UserId
    log: LogId
    seq: int
    gen: int
    name: str = field(repr=False)
    owner: UserId
    members: Mapping[UserId, int]
    cuts: Cuts
    redo: str = ""


@dataclass(frozen=True, slots=True)
class GroupLeave:
    """A member's leave: its entries up to these marks count. It cites this gen, at this clock."""

    by: UserId
    log: LogId
    seq: int
    gen: int
    cuts: tuple[Mark, ...]
    c: int = 0


def operation_hash(room: ConversationId, raw: RawEntry) -> str:
    """Return the hash of an operation in the network with this room, by which entries cite it.

    The first one's hash is the group's id.
    """
    c, text = raw
    assert isinstance(text, str)
    named = GROUP_TAG + bytes.fromhex(room) + c.to_bytes(8, "big")
    return blake2b(named + text.encode(), digest_size=32).hexdigest()


def fork_mark(log: LogId) -> str:
    """Return the value of `redo` in an operation that stands for all operations in a log that forked."""
    return blake2b(GROUP_TAG + log.run.encode(), digest_size=32).hexdigest()


def talk_id(group: ConversationId) -> ConversationId:
    """Return the id of the conversation in which the group's members talk."""
    return blake2b(TALK_TAG + bytes.fromhex(group), digest_size=32).hexdigest()


def group_body(
    gen: int, name: str, owner: UserId, members: Mapping[UserId, int], cuts: Cuts, *, salt: str = "", redo: str = ""
) -> dict[str, Any]:
    """Return the body of an operation. `salt` is for the first one, 32 hex digits."""
    flat = [[user, *mark] for user, marks in sorted(cuts.items()) for mark in marks]
    body = {"gen": gen, "name": name, "owner": owner, "members": dict(members), "cuts": flat}
    return body | ({"salt": salt} if salt else {}) | ({"redo": redo} if redo else {})


def leave_body(cuts: Sequence[Mark]) -> dict[str, Any]:
    return {"cuts": [list(mark) for mark in cuts]}


def read_operation(room: ConversationId, log: LogId, seq: int, raw: RawEntry, entry: Entry) -> GroupOperation | None:
    """Read an operation from an entry; None when the entry does not have the shape of one."""
    body = entry.b
    if entry.k != OPERATION or not isinstance(body, dict):
        return None
    fields: tuple[Any, ...] = tuple(body.get(key) for key in ("gen", "name", "owner", "members"))
    gen, name, owner, members = fields
    cuts = _cuts(body.get("cuts"))
    redo = body.get("redo", "")
    if not _is_gen(gen) or type(name) is not str or name_fault(name) or cuts is None:
        return None
    if not isinstance(members, dict) or not 0 < len(members) <= MAX_MEMBERS:
        return None
    if type(owner) is not str or owner not in members:
        return None
    if not all(_is_hex(user, 64) and _is_gen(added) and added <= gen for user, added in members.items()):
        return None
    if redo != "" and not _is_hex(redo, 64):
        return None
    return GroupOperation(operation_hash(room, raw), log.user, log, seq, gen, name, owner, members, cuts, redo)


def is_first(operation: GroupOperation, entry: Entry) -> bool:
    """Return whether an operation may be a group's first: by the owner itself, nobody removed yet, and with a salt."""
    alone = operation.gen == 1 and operation.by == operation.owner and not operation.cuts and not operation.redo
    return alone and isinstance(entry.b, dict) and _is_hex(entry.b.get("salt"), 2 * SALT_BYTES)


def read_leave(log: LogId, seq: int, entry: Entry) -> GroupLeave | None:
    """Read a leave from an entry; None when the entry does not have the shape of one."""
    if entry.k != LEAVE or entry.g is None or not isinstance(entry.b, dict):
        return None
    cuts = entry.b.get("cuts")
    if not isinstance(cuts, list) or not all(map(_is_mark, cuts)):
        return None
    return GroupLeave(log.user, log, seq, entry.g[0], tuple(Mark(*item) for item in cuts), entry.c)


def _cuts(items: Any) -> Cuts | None:
    if not isinstance(items, list):
        return None
    cuts: dict[UserId, tuple[Mark, ...]] = {}
    for item in items:
        if not isinstance(item, list) or not item or not _is_hex(item[0], 64) or not _is_mark(item[1:]):
            return None
        cuts[item[0]] = (*cuts.get(item[0], ()), Mark(*item[1:]))
    return cuts


def _is_mark(item: Any) -> bool:
    if not isinstance(item, list) or len(item) != 3:
        return False
    run, seq, chain = item
    return _is_hex(run, 16) and _is_gen(seq) and _is_hex(chain, 64)


def _is_gen(value: Any) -> bool:
    return type(value) is int and 1 <= value <= MAX_INT


def _is_hex(value: Any, digits: int) -> bool:
    return type(value) is str and len(value) == digits and _DIGITS.issuperset(value)
