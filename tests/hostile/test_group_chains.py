"""Groups with thousands of facts, cuts and former writers: the next frame costs what it did at the beginning.

Costs are counted in calls of Python functions, which no other program on the machine changes.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator

import pytest

from p2pchat.core.groups.group_fact import ADD, ADMIN, HEIR, LEAVE, NAME, REMOVE, UNADMIN
from p2pchat.core.groups.group_members import MAX_ALIKE, MAX_FACTS
from p2pchat.core.log import Entry, LogId, before_of, encode_entry, extend_chain, size_bytes
from p2pchat.core.sync.quota import FACT_FACTOR
from p2pchat.protocol import Entries, Mark
from tests.core.scripted_nodes import IDS, Author, Far, GroupPen, Peer, World
from tests.core.steps import count_lines, count_steps
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


def handovers_of_one_number(group: LongGroup) -> Iterator[Entries]:
    while True:
        yield group.pen.say("eve", HEIR, "bob")
        yield group.pen.say("eve", HEIR, "dan")


def of_nobody(group: LongGroup) -> Iterator[Entries]:
    while True:
        yield group.pen.say("dan", ADD, "cyd")


FORMS = [
    adds, adds_of_others, removals, removals_and_adds, leaves, admins, unadmins, names, handovers,
    handovers_of_one_number, of_nobody,
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


class CutWriter:
    """Cyd, whom eight keys of eve's removed and added again, each time with this many marks in the cut."""

    def __init__(self, marks: int) -> None:
        self.group = LongGroup()
        pen, say, outs = self.group.pen, self.group.far.say, list[str]()
        say(self.group.text("cyd"))
        cuts = self.cuts = [Mark(f"{at:016x}", 1, "00" * 32) for at in range(marks)]
        for _ in range(3):
            say(pen.say("bob", REMOVE, "cyd", cuts=[*cuts, Author("cyd", "ab", pen.talk).mark]))
            outs.append(pen.last)
            say(pen.say("eve", ADD, "cyd", ends=outs))

    def texts(self, runs: list[str], count: int) -> list[Entries]:
        """Return this many texts in each of these logs."""
        talk, again = self.group.pen.talk, self.group.pen.marks[-1]
        writers = [Author("cyd", run, talk, before=[again]) for run in runs]
        return [writer.say("x") for writer in writers for _ in range(count)]

    def cost(self, frames: list[Entries]) -> int:
        """Return what these texts cost, all of which ada shows."""
        storage, talk = self.group.ada.storage, self.group.pen.talk
        former = len(storage.history(talk, limit=0))
        lines = count_lines(lambda: [self.group.far.say(frame) for frame in frames])
        assert len(storage.history(talk, limit=0)) == former + len(frames)
        return lines


@pytest.mark.parametrize(("runs", "count"), [(["c1"], 4), (["c1", "c2", "c3", "c4"], 1)])
def test_a_text_costs_no_more_after_long_cuts(runs: list[str], count: int) -> None:
    """Each batch walked all cuts, so 300 texts took others 30 seconds."""
    costs = []
    for marks in (4, 300):
        writer = CutWriter(marks)
        costs.append(writer.cost(writer.texts(runs, count)))
    assert costs[1] < 1.2 * costs[0]


def test_a_text_that_came_late_costs_no_more_after_long_cuts() -> None:
    """It is below the cut of who is out now."""
    costs = []
    for marks in (4, 300):
        writer = CutWriter(marks)
        pen = writer.group.pen
        late = Author("cyd", "c1", pen.talk, before=[pen.marks[-1]])
        frames = [late.say("x") for _ in range(4)]
        writer.group.far.say(frames[0], pen.say("eve", REMOVE, "cyd", cuts=[*writer.cuts, late.mark]))
        costs.append(writer.cost(frames[1:]))
    assert costs[1] < 1.2 * costs[0]


def test_a_text_costs_no_more_among_many_logs_of_who_was_cut_off() -> None:
    costs = []
    for count in (2, 40):
        cyd = CutWriter(1)
        pen, before = cyd.group.pen, list[Mark]()
        for number in range(count):
            writer = Author("cyd", f"{number:02x}", pen.talk, before=[pen.marks[-1], *before])
            cyd.group.far.say(writer.say("x"))
            before = [writer.mark]
        costs.append(cyd.cost([writer.say("x") for _ in range(4)]))
    assert costs[1] < 1.2 * costs[0]


def test_a_fact_costs_no_more_after_long_cuts() -> None:
    costs = []
    for marks in (4, 300):
        group = CutWriter(marks).group
        frame = group.pen.say("bob", REMOVE, "cyd")
        costs.append(count_lines(lambda: group.far.say(frame)))  # noqa: B023
    assert costs[1] < 1.2 * costs[0]


def test_a_handover_looks_at_no_facts_of_former_owners() -> None:
    """Each had all facts of all owners looked at again."""
    costs = []
    for many in (MAX_ALIKE, 10 * MAX_ALIKE):  # of facts alike few are kept
        group = LongGroup()
        group.far.say(*(group.pen.say("eve", ADD, "cyd") for _ in range(many)))
        frames = [group.pen.say("eve", HEIR, "bob"), group.pen.say("bob", HEIR, "dan", n=1)]
        frames.append(group.pen.say("dan", HEIR, "cyd", n=2))
        group.far.say(*frames[:2])
        costs.append(count_steps(lambda: group.far.say(frames[2])))  # noqa: B023
    assert costs[1] < 1.2 * costs[0]


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
