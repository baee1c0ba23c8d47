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

from p2pchat.core.groups.operations import Leave, Operation
from p2pchat.protocol import MAX_INT, Mark, UserId

MAX_TIED = 64  # of one writer and gen: one for each tip it may have
MAX_LEAVES = 64  # of one user: one for each time it was a member


@dataclass(frozen=True, slots=True)
class Sight:
    """What one operation lets be seen of one user's entries.

    Attributes:
        added: Entries that cite this gen or a later one are seen; None: of no member, or of one who left.
        cuts: What these marks cover is seen as well.
    """

    added: int | None
    cuts: tuple[Mark, ...] = ()


@dataclass(frozen=True, slots=True)
class State:
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
    tied: tuple[Operation, ...]
    leaves: Mapping[UserId, tuple[Leave, ...]]

    @property
    def present(self) -> frozenset[UserId]:
        """The members who have not left."""
        return frozenset(self.members) - self.left

    def sights(self, user: UserId) -> tuple[Sight, ...]:
        """Return what is seen of a user's entries: those that all of these let be seen."""
        return tuple(self._sight(operation, user) for operation in self.tied)

    def _sight(self, operation: Operation, user: UserId) -> Sight:
        added = operation.members.get(user)
        if user == self.owner and added is None:
            added = self.members[user]
        cuts = operation.cuts.get(user, ())
        since = self.members.get(user, added)
        counting = [leave for leave in self.leaves.get(user, ()) if since is not None and leave.gen >= since]
        if added is None or not counting:
            return Sight(added, cuts)
        return Sight(None, (*cuts, *(mark for leave in counting for mark in leave.cuts)))

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


class Chain(Sequence[State]):
    """The states gen 1, 2, 3 ... up to the one that holds, as operations and leaves come; empty without a first one.

    An operation costs what it changes: the states above stand on nothing of it but its owner. Of what somebody writes
    without end a fixed number counts, chosen from all of it, so that what comes of it depends on no order:
    of a writer's operations of one gen those with the smallest hashes, of a user's leaves those of the highest gens.
    """

    def __init__(self) -> None:
        self._of_gen: dict[tuple[int, UserId], list[Operation]] = {}  # of each writer, by hash
        self._tied: list[tuple[Operation, ...]] = []  # those that made gen 1, 2, 3 ...
        self._leaves: dict[UserId, tuple[Leave, ...]] = {}
        self._last: State | None = None
        self.creator: UserId = ""  # who made gen 1, "" before: that is one operation, for its hash is the group

    def add(self, operation: Operation) -> None:
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

    def add_leave(self, leave: Leave) -> None:
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

    def _valid(self, gen: int) -> list[Operation]:
        return self._of_gen.get((gen, self._tied[gen - 2][0].owner if gen > 1 else self.creator), [])

    def __len__(self) -> int:
        return len(self._tied)

    def __getitem__(self, at: int) -> State:  # type: ignore[override]  # nobody slices it
        if at not in (-1, len(self._tied) - 1):
            return _meet(at + 1, self._tied[at], self._leaves)
        if self._last is None:
            self._last = _meet(len(self._tied), self._tied[-1], self._leaves)
        return self._last

    @property
    def leaves(self) -> list[Leave]:
        """All leaves that count, or may."""
        return [leave for said in self._leaves.values() for leave in said]

    def members(self, gen: int) -> frozenset[UserId]:
        """Return the members at a gen, those included who left since; nobody for a gen that is not known."""
        return frozenset(_met(self._tied[gen - 1])) if 0 < gen <= len(self._tied) else frozenset()


def _hash(operation: Operation) -> str:
    return operation.hash


def _meet(gen: int, tied: tuple[Operation, ...], leaves: Mapping[UserId, tuple[Leave, ...]]) -> State:
    first, members = tied[0], _met(tied)
    left = frozenset(
        user for user, said in leaves.items() if any(leave.gen >= members.get(user, MAX_INT + 1) for leave in said)
    )
    return State(gen, first.hash, first.name, first.owner, members, left, tied, dict(leaves))


def _met(tied: tuple[Operation, ...]) -> Mapping[UserId, int]:
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

    def is_in(self, state: State) -> bool:
        """Say whether a state has all of it."""
        return (
            self.added.keys() <= state.members.keys()
            and not self.removed & state.members.keys()
            and self.name in (None, state.name)
            and self.owner in (None, state.owner)
        )


def intent_of(operation: Operation, below: State) -> Intent:
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

    def knows(self, later: Operation, earlier: Operation) -> bool:
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


def lost(
    operations: Iterable[Operation], states: Sequence[State], owner: UserId, ancestry: Ancestry
) -> list[Operation]:
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
