"""Groups with thousands of operations, forks and former writers: the next frame costs what it did at the beginning.

Costs are counted in calls of Python functions, which no other program on the machine changes.
"""

from __future__ import annotations

from collections.abc import Iterable

from p2pchat.core.groups.group_state import fork_mark, group_body, operation_hash, talk_id
from p2pchat.core.log import (
    Entry,
    LogId,
    RawEntry,
    encode_entry,
    encode_header,
    extend_chain,
    first_chain,
    head_message,
)
from p2pchat.identity.identity import Identity
from p2pchat.protocol import Entries, Naming
from tests.core.scripted_nodes import IDENTITIES, NAMES, ROOM, Far, Peer, World
from tests.core.steps import count_steps
from tests.hostile.attacker import invented_identity

EVE = IDENTITIES["eve"]
A_BATCH = 200  # operations, as many as fit one


def invented(number: int) -> Identity:
    identity = invented_identity(f"invented {number}")
    NAMES[identity.peer_id] = f"invented {number}"
    return identity


class Writer:
    """Writes one log of a group or of its talk."""

    def __init__(self, author: Identity, conversation: str, run: str, naming: Naming) -> None:
        self.log = LogId(conversation, author.peer_id, run)
        self._author = author
        self._naming = naming
        self._seq = 0
        self._header = encode_header(self.log, (), None)
        self._chain = first_chain(self._header)

    def write(self, *raws: RawEntry, fork: bool = False) -> Entries:
        first, prev = self._seq + 1, self._chain
        self._seq += len(raws)
        self._chain = extend_chain(prev, raws)
        head = self._author.sign(head_message(self.log, self._seq, self._chain)).hex()
        header = self._header if first == 1 else ""
        return Entries(*self.log, first, prev.hex(), list(raws), head, header, fork=fork, names=[self._naming])


class LongGroup:
    """A group of eve's, on ada's node.

    Args:
        members: Users it names at first, besides eve and ada.
    """

    def __init__(self, members: Iterable[Identity] = ()) -> None:
        self.ada: Peer = World().peer("ada")
        self.far: Far = self.ada.far("eve")
        self.gen = 0
        self.always = (EVE.peer_id, self.ada.id)
        raw = self.operation(members, salt="00" * 16)
        self.naming = Naming(group=(operation_hash(ROOM, raw), EVE.peer_id, "e0" * 8))
        self.pen = Writer(EVE, operation_hash(ROOM, raw), "e0" * 8, self.naming)
        self.far.say(self.pen.write(raw))
        self.group = self.ada.node.replicator.conversations.groups[operation_hash(ROOM, raw)]

    def operation(self, members: Iterable[Identity] = (), *, redo: str = "", salt: str = "", tied: int = 0) -> RawEntry:
        """Return the next operation; with `tied` one more of the same gen."""
        self.gen += not tied
        named = dict.fromkeys([*self.always, *(each.peer_id for each in members)], 1)
        body = group_body(self.gen, "ops", EVE.peer_id, named, {}, redo=redo, salt=salt)
        clock = self.gen + tied
        return encode_entry(Entry("group", clock, clock, b=body))

    def grow(self, operations: int) -> None:
        for start in range(0, operations, A_BATCH):
            self.far.say(self.pen.write(*(self.operation() for _ in range(min(A_BATCH, operations - start)))))
        assert self.group.state is not None and self.group.state.gen == self.gen

    def evidence(self, author: Identity, number: int) -> list[Entries]:
        """Return the two batches that prove a fork of a log."""
        pens = [Writer(author, self.group.id, f"{number:016x}", self.naming) for _ in range(2)]
        return [pen.write((n, '{"k":"x","at":1}'), fork=True) for n, pen in enumerate(pens, 1)]

    def calls_for(self, *frames: Entries) -> int:
        """Send frames to the node, and return how many functions were called by it."""
        return count_steps(lambda: self.far.say(*frames))


def test_a_fork_costs_no_more_in_a_long_group() -> None:
    """5,000 operations and 1,024 forks: 4 s for two frames of one entry each."""
    users, calls = [invented(n) for n in range(2)], []
    for operations in (50, 1000):
        group = LongGroup(users)
        group.grow(operations)
        for number in range(20):
            group.far.say(*group.evidence(users[number % 2], number))
        calls.append(group.calls_for(*group.evidence(users[0], 20)))
        assert len(group.group._forked_logs) == 21
    assert calls[1] < 1.5 * calls[0]


def test_an_operation_that_replaces_a_forked_log_costs_no_more_in_a_long_group() -> None:
    calls = []
    for operations in (50, 1000):
        group = LongGroup()
        group.grow(operations)
        for number in range(20):
            group.far.say(*group.evidence(EVE, number))
        logs = [LogId(group.group.id, EVE.peer_id, f"{number:016x}") for number in range(20)]
        calls.append(group.calls_for(group.pen.write(*(group.operation(redo=fork_mark(log)) for log in logs))))
        assert len(group.group._void_logs) == 20
    assert calls[1] < 1.5 * calls[0]


def test_an_operation_costs_no_more_with_many_former_writers() -> None:
    """2,000 users who had written in the talk, and 64 operations of one gen: 250 ms for one more."""
    calls = []
    for rounds in (1, 8):
        group = LongGroup()
        talk = talk_id(group.group.id)
        for part in range(rounds):
            users = [invented(100 * part + n) for n in range(30)]
            group.far.say(group.pen.write(group.operation(users)))
            for user in users:
                raw = encode_entry(Entry("text", 5, 5, g=group.group.cite, b="hi"))
                group.far.say(Writer(user, talk, "aa" * 8, Naming(talk=group.group.id)).write(raw))
        assert len(group.ada.node.replicator.conversations[talk].writers) == 30 * rounds
        group.far.say(group.pen.write(group.operation()))
        group.far.say(group.pen.write(*(group.operation(tied=n) for n in range(1, 20))))
        calls.append(group.calls_for(group.pen.write(group.operation(tied=20))))
        assert group.group.state is not None and len(group.group.state.tied) == 21
    assert calls[1] < 1.5 * calls[0]
