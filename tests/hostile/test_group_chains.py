"""Groups with thousands of facts, cuts and former writers: the next frame costs what it did at the beginning.

Costs are counted in calls of Python functions, which no other program on the machine changes.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator

import pytest

from p2pchat.core.groups.group_fact import ADD, ADMIN, HEIR, LEAVE, NAME, REMOVE, UNADMIN
from p2pchat.core.groups.group_members import MAX_FACTS
from p2pchat.core.log import Entry, LogId, before_of, encode_entry, extend_chain, size_bytes
from p2pchat.core.sync.quota import FACT_FACTOR
from p2pchat.protocol import Entries, Mark
from tests.core.scripted_nodes import IDS, Author, Far, GroupPen, Peer, World
from tests.core.steps import count_steps
from tests.hostile.attacker import invented_identity


class LongGroup:
    """A group of eve's with ada and others, on ada's node; bob is an admin."""

    def __init__(self) -> None:
        self.ada: Peer = World().peer("ada")
        self.far: Far = self.ada.far("eve")
        self.pen = GroupPen("eve", "ada", "bob", "cyd", "dan")
        self.far.say(self.pen.first, self.pen.say("eve", ADMIN, "bob"))
        self.outs: list[str] = []

    def text(self, name: str) -> Entries:
        return Author(name, "ab", self.pen.talk).write(encode_entry(Entry("text", 9, 9, b="hi")))


def adds(group: LongGroup) -> Iterator[Entries]:
    while True:
        yield group.pen.say("bob", ADD, "cyd")


def adds_of_others(group: LongGroup) -> Iterator[Entries]:
    for number in range(9999):
        yield group.pen.say("bob", ADD, f"{number:064x}")


def removals(group: LongGroup) -> Iterator[Entries]:
    while True:
        yield group.pen.say("bob", REMOVE, "cyd", cuts=[Mark("ab" * 8, 1, "00" * 32)])


def removals_and_adds(group: LongGroup) -> Iterator[Entries]:
    while True:
        yield group.pen.say("bob", REMOVE, "cyd")
        yield group.pen.say("bob", ADD, "cyd", ends=[group.pen.last])


def leaves(group: LongGroup) -> Iterator[Entries]:
    while True:
        yield group.pen.say("cyd", LEAVE, cuts=[Mark("ab" * 8, 1, "00" * 32)])


def admins(group: LongGroup) -> Iterator[Entries]:
    while True:
        yield group.pen.say("eve", ADMIN, "bob")


def unadmins(group: LongGroup) -> Iterator[Entries]:
    while True:
        yield group.pen.say("eve", UNADMIN, "bob")


def names(group: LongGroup) -> Iterator[Entries]:
    for number in range(1, 9999):
        yield group.pen.say("eve", NAME, name="x", n=number)


def handovers(group: LongGroup) -> Iterator[Entries]:
    for number in range(9999):
        one, other = ("eve", "bob") if number % 2 == 0 else ("bob", "eve")
        yield group.pen.say(one, HEIR, other, n=number)


def of_nobody(group: LongGroup) -> Iterator[Entries]:
    while True:
        yield group.pen.say("dan", ADD, "cyd")


FORMS = [
    adds, adds_of_others, removals, removals_and_adds, leaves, admins, unadmins, names, handovers, of_nobody,
]  # fmt: skip


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_a_fact_costs_no_more_in_a_long_group(form: Callable[[LongGroup], Iterator[Entries]]) -> None:
    """Whoever it is about has written, and each of them may have a cut of its own."""
    calls = []
    for many in (150, 600):
        group = LongGroup()
        group.far.say(group.text("cyd"), group.text("bob"))
        frames = form(group)
        for _ in range(many):
            group.far.say(next(frames))
        calls.append(sum(count_steps(lambda: group.far.say(next(frames))) for _ in range(4)))  # noqa: B023
    assert calls[1] < 1.5 * calls[0]


def test_a_fact_costs_no_more_with_many_former_writers() -> None:
    calls = []
    for rounds in (1, 8):
        group = LongGroup()
        for number in range(30 * rounds):
            user = invented_identity(f"invented {number}").peer_id
            group.far.say(group.pen.say("eve", ADD, user))
        calls.append(count_steps(lambda: group.far.say(group.pen.say("eve", REMOVE, IDS["cyd"]))))  # noqa: B023
    assert calls[1] < 1.5 * calls[0]


def test_a_fact_copies_nothing_of_all_whom_others_named() -> None:
    """A plain member may name millions, and each further fact of anybody took as long as a copy of them."""
    group = LongGroup()
    for number in range(20):
        group.far.say(group.pen.say("dan", ADD, *(f"{number:08x}{at:056x}" for at in range(200))))
    frame = group.pen.say("eve", ADD, "ff" * 32)
    tracemalloc.start()
    try:
        group.far.say(frame)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 100_000


@pytest.mark.parametrize(("by", "count"), [("bob", 20), ("bob", 255), ("dan", 255), ("dan", 20)])
def test_facts_take_no_more_memory_than_they_count(by: str, count: int) -> None:
    """Those of an admin take most: each user whom it adds is in several tables."""
    group = LongGroup()
    replica = group.ada.node.replicator.context.conversations.groups[group.pen.id]
    frames = [group.pen.say(by, ADD, *(f"{number:08x}{at:056x}" for at in range(count))) for number in range(50)]
    counted = FACT_FACTOR * sum(size_bytes(frame.e) for frame in frames)
    tracemalloc.start()
    try:
        for frame in frames:
            log, chain = LogId(frame.c, frame.u, frame.r), extend_chain(bytes.fromhex(frame.prev), frame.e)
            fact = replica.read(log, frame.e[0], chain, before_of(frame))
            assert fact is not None
            replica.add(fact)
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert taken < counted


def test_an_admin_names_no_more_people_than_its_owner_can_take_back_at_once() -> None:
    """With 1,500 facts about 255 people each, a word that made bob an admin, or none, took every member 20 seconds."""
    group = LongGroup()
    replica = group.ada.node.replicator.context.conversations.groups[group.pen.id]
    for number in range(30):
        group.far.say(group.pen.say("bob", ADD, *(f"{number:08x}{at:056x}" for at in range(255))))
    assert MAX_FACTS <= len(replica.named) < MAX_FACTS + 300
