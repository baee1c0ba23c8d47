"""From a set of operations and leaves to the group: a function of the set, in whatever order it came.

Gen n is made by the owner at gen n - 1 and by nobody else, beginning with the first operation; the highest gen holds.
Operations of one gen (the owner was restored, or wrote on two devices) meet: a member is who is one in all of them,
name and owner come from the one with the smaller hash, and what is seen of a talk is what all of them let be seen.
That is why a state has several *sights* then, and one otherwise.

Source: docs/protocol.md, "Groups".
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from p2pchat.core.log import Entry, LogId
from p2pchat.core.names import name_fault
from p2pchat.protocol import MAX_INT, ConversationId, Mark, UserId

MAX_TIED = 64  # of one writer and gen: one for each tip it may have
MAX_LEAVES = 64  # of one user: one for each time it was a member


@dataclass(frozen=True, slots=True)
class VisibilityRule:
    """What one operation lets be seen of one user's entries.

    Attributes:
        added: Entries that cite this gen or a later one are seen; None: of no member, or of one who left.
        cuts: What these marks cover is seen as well.
    """

    added: int | None
    cuts: tuple[Mark, ...] = ()


@dataclass(frozen=True, slots=True)
class GroupState:
    """A group at one gen.

    Attributes:
        hash: Of the operation to be cited: 64 hex digits.
        members: Those in the list of all operations of this gen -> the gen that added each, those who left included.
        left: Members who have left since they were added.
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
        """The members who have not left."""
        return frozenset(self.members) - self.left

    def visibility_rules(self, user: UserId) -> tuple[VisibilityRule, ...]:
        """Return what is seen of a user's entries: those that all of these let be seen."""
        return tuple(self._sight(operation, user) for operation in self.tied)

    def _sight(self, operation: GroupOperation, user: UserId) -> VisibilityRule:
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
        """Return up to where counts what those wrote who were removed or left, for the next operation to say.

        `seen` returns the marks of what is seen of a user here: for users of whom tied operations say different things.
        """
        cuts: dict[UserId, tuple[Mark, ...]] = {}
        for user in sorted({user for operation in self.tied for user in operation.cuts}):
            said = {operation.cuts.get(user) for operation in self.tied}
            cuts[user] = tuple(seen(user)) if len(said) > 1 else self.tied[0].cuts[user]
        for user in sorted(self.left):
            marks = [mark for leave in self.leaves[user] if leave.gen >= self.members[user] for mark in leave.cuts]
            cuts[user] = tuple(dict.fromkeys([*cuts.get(user, ()), *marks]))
        return {user: marks for user, marks in cuts.items() if marks}


class GroupStates(Sequence[GroupState]):
    """The states gen 1, 2, 3 ... up to the one that holds, as operations and leaves come; empty without a first one.

    An operation costs what it changes: the states above stand on nothing of it but its owner. Of what somebody writes
    without end a fixed number counts, chosen from all of it, so that what comes of it depends on no order:
    of a writer's operations of one gen those with the smallest hashes, of a user's leaves those of the highest gens.
    """

    def __init__(self) -> None:
        self._of_gen: dict[tuple[int, UserId], list[GroupOperation]] = {}  # of each writer, by hash
        self._tied: list[tuple[GroupOperation, ...]] = []  # those that made gen 1, 2, 3 ...
        self._leaves: dict[UserId, tuple[GroupLeave, ...]] = {}
        self._last: GroupState | None = None
        self.creator: UserId = ""  # who made gen 1, "" before: that is one operation, for its hash is the group

    def add(self, operation: GroupOperation) -> None:
        """Take an operation; of two of one writer with one hash the later given counts."""
        if operation.gen == 1:
            self.creator = operation.by
        there = self._of_gen.setdefault((operation.gen, operation.by), [])
        at = bisect_left(there, operation.hash, key=_hash)
        if at < len(there) and there[at].hash == operation.hash:
            there[at] = operation
        else:
            there.insert(at, operation)
        if at < MAX_TIED:
            del there[MAX_TIED:]
            self._remake(operation.gen)

    def add_leave(self, leave: GroupLeave) -> None:
        said = sorted((*self._leaves.get(leave.by, ()), leave), key=lambda one: (-one.gen, one.log, one.seq))
        self._leaves[leave.by] = tuple(sorted(said[:MAX_LEAVES], key=lambda one: (one.log, one.seq)))
        self._last = None

    def _remake(self, gen: int) -> None:
        while 0 < gen <= len(self._tied) + 1:
            valid = tuple(self._valid(gen))
            if not valid:
                del self._tied[gen - 1 :]
                break
            is_new = gen > len(self._tied)
            same = not is_new and self._tied[gen - 1][0].owner == valid[0].owner
            if is_new:
                self._tied.append(valid)
            else:
                self._tied[gen - 1] = valid
            if same:
                break
            gen += 1
        self._last = None

    def _valid(self, gen: int) -> list[GroupOperation]:
        return self._of_gen.get((gen, self._tied[gen - 2][0].owner if gen > 1 else self.creator), [])

    def __len__(self) -> int:
        return len(self._tied)

    def __getitem__(self, at: int) -> GroupState:  # type: ignore[override]  # nobody slices it
        if at not in (-1, len(self._tied) - 1):
            return _meet(at + 1, self._tied[at], self._leaves)
        if self._last is None:
            self._last = _meet(len(self._tied), self._tied[-1], self._leaves)
        return self._last

    @property
    def leaves(self) -> list[GroupLeave]:
        """All leaves that count, or may."""
        return [leave for said in self._leaves.values() for leave in said]

    def members(self, gen: int) -> frozenset[UserId]:
        """Return the members at a gen, those included who left since; nobody for a gen that is not known."""
        return frozenset(_met(self._tied[gen - 1])) if 0 < gen <= len(self._tied) else frozenset()


def _hash(operation: GroupOperation) -> str:
    return operation.hash


def _meet(gen: int, tied: tuple[GroupOperation, ...], leaves: Mapping[UserId, tuple[GroupLeave, ...]]) -> GroupState:
    first, members = tied[0], _met(tied)
    left = frozenset(
        user for user, said in leaves.items() if any(leave.gen >= members.get(user, MAX_INT + 1) for leave in said)
    )
    return GroupState(gen, first.hash, first.name, first.owner, members, left, tied, dict(leaves))


def _met(tied: tuple[GroupOperation, ...]) -> Mapping[UserId, int]:
    """Return who is a member in all of these; the owner named always is one."""
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


# ---- what an operation meant, and which of them were lost


@dataclass(frozen=True, slots=True)
class Intent:
    """What an operation changed of the state below it. `name`, `owner`: None when they stayed."""

    added: Mapping[UserId, int]
    removed: frozenset[UserId]
    name: str | None = field(repr=False)
    owner: UserId | None

    def is_in(self, state: GroupState) -> bool:
        """Say whether a state has all of it."""
        return (
            self.added.keys() <= state.members.keys()
            and not self.removed & state.members.keys()
            and self.name in (None, state.name)
            and self.owner in (None, state.owner)
        )


def intent_of(operation: GroupOperation, below: GroupState) -> Intent:
    """Return what an operation changed, seen from the state of the gen before it."""
    added = {user: gen for user, gen in operation.members.items() if gen > below.members.get(user, 0)}
    removed = frozenset(below.members.keys() - operation.members.keys()) - below.left
    name = operation.name if operation.name != below.name else None
    return Intent(added, removed, name, operation.owner if operation.owner != below.owner else None)


class Ancestry:
    """Which entry of one user's was written knowing another: the later of one log, or of a log that builds on it."""

    def __init__(self, before: Mapping[tuple[UserId, str], Sequence[Mark]]) -> None:
        """`before`: of each log, by user and run, what it builds on."""
        self._before = before

    def knows(self, later: GroupOperation, earlier: GroupOperation) -> bool:
        if later.by != earlier.by:
            return earlier.owner == later.by  # only that operation let it write
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
    operations: Iterable[GroupOperation], states: Sequence[GroupState], owner: UserId, ancestry: Ancestry
) -> list[GroupOperation]:
    """Return the operations of the present owner that came to nothing, in the order to make them again.

    One counts as lost when nothing was built on it, what it changed is in no state above it, and none redid it.
    Handing over comes last: who did that can make nothing any more.
    """
    known = [operation for operation in operations if operation.by == owner]
    redone = {operation.redo for operation in known}  # another's word that it did so is nobody's
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


# ---- operations
#
# What is written to a group: operations, each the whole group as its owner wants it, and leaves.
#
# An operation is an entry of kind `group`; it is known by the hash of its bytes, and the first one's hash is the group.
# A leave is an entry of kind `leave`. What does not have the shape of either is stored like any entry and changes
# nothing. Whether an operation counts is decided in state.py.
#
# Source: docs/protocol.md, "Groups".


GROUP_TAG = b"p2pchat/group/1\0"
TALK_TAG = b"p2pchat/talk/1\0"
MAX_MEMBERS = 256
SALT_BYTES = 16
OPERATION, LEAVE = "group", "leave"  # kinds of entries
_DIGITS = frozenset("0123456789abcdef")

Cuts = Mapping[UserId, tuple[Mark, ...]]


@dataclass(frozen=True, slots=True)
class GroupOperation:
    """The whole group as one operation gives it.

    Attributes:
        hash: Of the entry's bytes, 64 hex digits; of the first operation it is the group's id.
        by, log, seq: Who wrote it, and which entry it is.
        members: Each with the gen that added it; the owner is one.
        cuts: Of those who were removed, up to where what they wrote counts; it lists each user's marks.
        redo: The hash of a lost operation that this one makes anew, or "".
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
    """A member's word that it leaves: after what it wrote up to these marks, citing this gen, at this clock."""

    by: UserId
    log: LogId
    seq: int
    gen: int
    cuts: tuple[Mark, ...]
    c: int = 0


def operation_hash(raw: str) -> str:
    """Return the hash of an operation, by which entries cite it; of the first one, the id of the group."""
    return blake2b(GROUP_TAG + raw.encode(), digest_size=32).hexdigest()


def fork_mark(log: LogId) -> str:
    """Return what an operation says in `redo` when it stands for all that its writer did in a log that forked."""
    return operation_hash(log.run)


def talk_id(group: ConversationId) -> ConversationId:
    """Return the id of the conversation in which a group's members talk."""
    return blake2b(TALK_TAG + bytes.fromhex(group), digest_size=32).hexdigest()


def group_body(
    gen: int, name: str, owner: UserId, members: Mapping[UserId, int], cuts: Cuts, *, salt: str = "", redo: str = ""
) -> dict[str, Any]:
    """Return the body of an operation; `salt` is for the first, 32 hex digits."""
    flat = [[user, *mark] for user, marks in sorted(cuts.items()) for mark in marks]
    body = {"gen": gen, "name": name, "owner": owner, "members": dict(members), "cuts": flat}
    return body | ({"salt": salt} if salt else {}) | ({"redo": redo} if redo else {})


def leave_body(cuts: Sequence[Mark]) -> dict[str, Any]:
    return {"cuts": [list(mark) for mark in cuts]}


# ---- reading


def read_operation(log: LogId, seq: int, raw: str, entry: Entry) -> GroupOperation | None:
    """Return the operation an entry of a group is; None for one that is none, or not of this shape."""
    body = entry.b
    if entry.k != OPERATION or not isinstance(body, dict):
        return None
    said: tuple[Any, ...] = tuple(body.get(key) for key in ("gen", "name", "owner", "members"))
    gen, name, owner, members = said
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
    return GroupOperation(operation_hash(raw), log.user, log, seq, gen, name, owner, members, cuts, redo)


def is_first(operation: GroupOperation, entry: Entry) -> bool:
    """Say whether an operation may be a group's first: its writer's own group, nobody removed yet, with a salt."""
    alone = operation.gen == 1 and operation.by == operation.owner and not operation.cuts and not operation.redo
    return alone and isinstance(entry.b, dict) and _is_hex(entry.b.get("salt"), 2 * SALT_BYTES)


def read_leave(log: LogId, seq: int, entry: Entry) -> GroupLeave | None:
    """Return the leave an entry of a group is; None for one that is none, or not of this shape."""
    if entry.k != LEAVE or entry.g is None or not isinstance(entry.b, dict):
        return None
    said = entry.b.get("cuts")
    marks = _marks(said) if isinstance(said, list) else None
    return None if marks is None else GroupLeave(log.user, log, seq, entry.g[0], tuple(marks), entry.c)


def _cuts(said: Any) -> Cuts | None:
    if not isinstance(said, list) or not all(isinstance(item, list) and len(item) == 4 for item in said):
        return None
    marks = _marks([item[1:] for item in said])
    if marks is None or not all(_is_hex(item[0], 64) for item in said):
        return None
    cuts: dict[UserId, tuple[Mark, ...]] = {}
    for item, mark in zip(said, marks, strict=True):
        cuts[item[0]] = (*cuts.get(item[0], ()), mark)
    return cuts


def _marks(said: list[Any]) -> list[Mark] | None:
    for item in said:
        if not isinstance(item, list) or len(item) != 3:
            return None
        run, seq, chain8 = item
        if not (_is_hex(run, 16) and _is_gen(seq) and _is_hex(chain8, 16)):
            return None
    return [Mark(*item) for item in said]


def _is_gen(value: Any) -> bool:
    return type(value) is int and 1 <= value <= MAX_INT


def _is_hex(value: Any, digits: int) -> bool:
    return type(value) is str and len(value) == digits and _DIGITS.issuperset(value)
