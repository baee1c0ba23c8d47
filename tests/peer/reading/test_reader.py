"""Events, told step by step: a source that holds what is released in memory, and a reader of it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from typing import Any

import pytest

from p2pchat.core.log import Entry, LogId, Ref
from p2pchat.messaging.events import ReceiptEvent
from p2pchat.messaging.messages import Message, Sent
from p2pchat.messaging.receipts import ReceiptUpdate
from p2pchat.messaging.subscription import BREATH, LOOKS, Events, Subscription
from p2pchat.protocol import ConversationId
from p2pchat.runtime.recent import Recent, Run
from p2pchat.storage.base import ReleasedEntry
from tests.peer.messages.test_events import ADA, BOB, ROOM, Viewer

THEIRS, OURS = LogId(ROOM, BOB, "01" * 8), LogId(ROOM, ADA, "01" * 8)
EARLIER, EARLIEST = LogId(ROOM, ADA, "02" * 8), LogId(ROOM, ADA, "03" * 8)


class Source(Viewer):
    """A peer whose first entry of each log is its writer's profile, as it is in the room."""

    def __init__(self) -> None:
        super().__init__()
        self.recent = Recent(0)
        self.handed = 0

    def release(self, *texts: str, log: LogId = THEIRS) -> None:
        entries = [Entry(k="text", at=1, c=1, b=text) for text in texts]
        self.recent.add(Run(self.recent.newest + 1, log, self.recent.newest + 2, entries, 1, False, False, 1))

    async def places(self, after: int, limit: int) -> list[ReleasedEntry]:
        raise AssertionError("everything is in memory")

    async def entries(self, named: Sequence[tuple[ConversationId, Ref]]) -> list[ReleasedEntry | None]:
        raise AssertionError("nothing was edited")

    @property
    def start(self) -> int:
        return 0

    async def written(self, group: ConversationId) -> list[ReleasedEntry]:
        raise AssertionError("there are no groups")

    async def complete(self, events: Sequence[ReceiptEvent]) -> list[ReceiptEvent | None]:
        await asyncio.sleep(0)
        return [None if event.seq == 1 else event for event in events]

    def commit_offset(self, consumer: str, place: int) -> None:
        self.handed = place

    async def commit_offset_now(self, consumer: str, place: int) -> None: ...


async def test_receipts_of_what_is_no_message_never_cost_a_message() -> None:
    """After a restart receipts of earlier runs come again, those of profile entries too: nobody is told of these."""
    source = Source()
    reader = Subscription(source, source, (), None, "now")
    events: Events[Any] = Events(reader)
    reader.begin(0)
    for log in (EARLIER, EARLIEST):
        reader.push_receipts(ReceiptUpdate(log, 1, 1, BOB, 1, 1))
    source.release("one", "two")
    source.release("three")
    async with asyncio.timeout(5):
        assert [(await anext(events)).text for _ in range(3)] == ["one", "two", "three"]


async def turns_of_others(
    monkeypatch: pytest.MonkeyPatch, *, messages: int, each_takes: float, at_once: bool = True
) -> int:
    """Take so many messages, each in so many seconds; return how often others had their turn meanwhile.

    at_once: All were released together; otherwise one after the other.
    """
    loop, source = asyncio.get_running_loop(), Source()
    at, turns = loop.time(), 0
    monkeypatch.setattr(loop, "time", lambda: at)
    reader = Subscription(source, source, (), None, "now")
    reader.begin(0)
    for texts in [["hi"] * messages] if at_once else [["hi"]] * messages:
        source.release(*texts)

    async def others() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    other = asyncio.create_task(others())
    await asyncio.sleep(0)
    events: Events[Any] = Events(reader)
    await anext(events)
    turns = 0
    for _ in range(messages - 1):
        at += each_takes
        await anext(events)
    other.cancel()
    return turns


async def test_messages_taken_quickly_are_taken_in_one_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await turns_of_others(monkeypatch, messages=2000, each_takes=BREATH / 2001) <= 1


async def test_whoever_is_slow_with_each_message_lets_others_have_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await turns_of_others(monkeypatch, messages=2000, each_takes=2 * BREATH) >= 2000 // LOOKS - 1


async def test_so_does_whoever_takes_many_that_came_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await turns_of_others(monkeypatch, messages=2000, each_takes=2 * BREATH, at_once=False) >= 1998


async def test_so_does_whoever_passes_over_many_that_are_nothing_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    source, looks = Source(), itertools.count()
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: 2 * next(looks) * BREATH)
    reader = Subscription(source, source, (Sent,), None, "now")
    reader.begin(0)
    for _ in range(100):
        source.release("hi")
    source.release("mine", log=OURS)
    events: Events[Any] = Events(reader)
    taking = asyncio.ensure_future(anext(events))
    turns = 0
    while not taking.done():
        await asyncio.sleep(0)
        turns += 1
    assert taking.result().text == "mine"
    assert turns >= 100


async def test_wherever_a_program_pauses_all_but_what_it_has_in_hand_is_told_as_taken() -> None:
    source = Source()
    reader = Subscription(source, source, (), "main", "now")
    events: Events[Any] = Events(reader)
    reader.begin(0)
    source.release(*["hi"] * 200)
    taken = 0
    for count in (1, 1, 2, 3, LOOKS - 1, LOOKS, LOOKS + 1, 5, 1):
        for _ in range(count):
            taken += 1
            assert (await anext(events)).place == taken
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert source.handed == taken - 1


async def test_what_a_reader_does_not_want_of_ones_own_is_passed_over_and_counts_as_taken() -> None:
    source = Source()
    reader = Subscription(source, source, (Message,), "main", "now")
    events: Events[Any] = Events(reader)
    reader.begin(0)
    source.release("theirs")
    source.recent.add(Run(2, EARLIER, 2, [Entry(k="text", at=1, c=1, b="mine")] * 3, 1, False, False, 1))
    source.recent.add(Run(5, THEIRS, 3, [Entry(k="text", at=1, c=2, b="theirs")] * 2, 1, False, False, 1))
    assert [((message := await anext(events)).place, message.seq) for _ in range(3)] == [(1, 2), (5, 3), (6, 4)]
    assert reader.place == 5
