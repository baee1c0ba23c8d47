"""Reading events: consumers, cursors, repeated events, fairness."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from functools import partial
from typing import Any, assert_type

import pytest

from p2pchat import (
    ConsumerBusy,
    Delivered,
    Events,
    Joined,
    Left,
    Link,
    Message,
    PeerClosed,
    Presence,
    Sent,
    Stopped,
    TCPPeer,
)
from p2pchat.core.log import Entry, LogId, Ref
from p2pchat.messaging.event_dispatcher import HANDLED_WITHIN
from p2pchat.messaging.events import ReceiptEvent
from p2pchat.messaging.receipts import ReceiptTracker, ReceiptUpdate
from p2pchat.messaging.subscription import BREATH, LOOKS, MAX_BREATH, EventFeed, Subscription
from p2pchat.protocol import ConversationId
from p2pchat.runtime.recent_entries import EntrySpan
from p2pchat.storage.contract import ReleasedEntry
from p2pchat.testing import Mesh, mesh
from tests.messaging.test_events import ADA, BOB, ROOM, VIEWER


async def test_events_return_messages_of_others_and_ones_own(net: Mesh) -> None:
    ada, bob, _ = net.peers
    events = ada.events()
    await ada.send("room", "mine", ref="7")
    await bob.broadcast("yours")
    heard = []
    async for event in events:
        if isinstance(event, Message | Sent):
            heard.append((event.event, event.text, event.to_dict().get("ref")))
        if isinstance(event, Message):
            break
    assert heard == [("sent", "mine", "7"), ("message", "yours", None)]


async def test_events_of_ignored_users_are_returned_unless_skipped(net: Mesh) -> None:
    ada, bob, cyd = net.peers
    await ada.ignore("bob")
    async with ada.events(consumer=None) as all_, ada.events(consumer=None, ignored=False) as shown:
        receipt = await bob.broadcast("look at me")
        await bob.send("ada", "look at me!")
        bob.set_presence("idle", "sulking")
        await cyd.broadcast("hello")
        await receipt.delivered(timeout=60)  # stored and acknowledged
        async with asyncio.timeout(60):
            while not isinstance(await anext(all_), Presence):
                pass
            first = await anext(shown)
    assert isinstance(first, Message) and (first.sender.name, first.text) == ("cyd", "hello")
    assert [(post.text, post.sender.ignored) for post in await ada.history("room")] == [
        ("look at me", True),
        ("hello", False),
    ]


async def test_events_keep_the_types_of_their_classes(net: Mesh) -> None:
    """The type checker is the judge: both ways of telling events apart narrow their type."""
    ada, bob, _ = net.peers
    events = ada.events(Message, Joined, Sent)
    assert_type(events, Events[Message | Joined | Sent])
    await bob.broadcast("yours")
    async for event in ada.events(Joined, Message, Sent, consumer="types"):
        if event.event == "message":
            assert_type(event, Message)
            break
        match event:
            case Sent():
                assert_type(event, Sent)
            case _:
                assert_type(event, Joined)
    assert isinstance(event, Message)


async def test_a_bot_answers(net: Mesh) -> None:
    ada, bob, _ = net.peers

    async def bot() -> None:
        async for message in bob.events(Message):
            await message.reply(message.text.upper())

    running = asyncio.create_task(bot())
    receipt = await ada.send("bob", "ping")
    answer = await ada.wait_for(Message, where=lambda m: m.reply_to == receipt.id, timeout=60)
    assert (answer.text, answer.conversation) == ("PING", ada.find("bob"))
    running.cancel()


async def test_only_the_types_asked_for_are_returned(net: Mesh) -> None:
    ada, _, cyd = net.peers
    events = ada.events(Left, Delivered)
    receipt = await ada.broadcast("hello")
    await receipt.delivered(timeout=60)
    await cyd.aclose()
    heard = [(await anext(events)).to_dict() for _ in range(3)]
    lines = [(line["event"], line.get("id"), line.get("count"), line.get("of")) for line in heard]
    assert lines == [("delivered", receipt.id, 1, 2), ("delivered", receipt.id, 2, 2), ("left", None, None, None)]
    assert (heard[2]["user"], heard[2]["reason"]) == ("cyd", "left")


async def test_a_consumer_resumes_after_a_crash(net: Mesh) -> None:
    ada, bob, _ = net.peers
    events = bob.events(Message)
    for number in range(5):
        await ada.send("bob", str(number))
    first = [(await anext(events)).text for _ in range(3)]
    await events.ack()
    await net.crash(bob)
    bob = await net.restart(bob)
    await ada.send("bob", "5")
    again = bob.events(Message)
    rest = [(await anext(again)).text for _ in range(3)]
    assert first + rest == ["0", "1", "2", "3", "4", "5"]


async def test_events_not_acknowledged_are_repeated(net: Mesh) -> None:
    ada, bob, _ = net.peers
    async with bob.events(Message, consumer="bot") as events:
        await ada.send("bob", "important")
        assert (await anext(events)).text == "important"
    await ada.send("bob", "next")  # written before the next read
    async with bob.events(Message, consumer="bot") as events:
        assert (await anext(events)).text == "important"
        await events.ack()
    async with bob.events(Message, consumer="bot") as events:
        assert (await anext(events)).text == "next"


async def test_a_held_reader_reads_on_and_acknowledges_nothing(net: Mesh) -> None:
    ada, bob, _ = net.peers
    await ada.send_many("bob", ["shown", "lost", "seen"])
    events = bob.events(Message, start="beginning")
    assert [(await anext(events)).text for _ in range(2)] == ["shown", "lost"]
    events.hold()
    assert (await anext(events)).text == "seen"
    await bob.aclose()
    bob = await net.restart(bob)
    again = bob.events(Message)
    assert [(await anext(again)).text for _ in range(2)] == ["lost", "seen"]


async def test_iterators_have_no_internal_methods(ada: TCPPeer) -> None:
    offered = {name for name in (*dir(ada), *dir(ada.events())) if not name.startswith("_")}
    inside = {
        "let_go",
        "live_in",
        "node",
        "begin",
        "tell",
        "wake",
        "end",
        "idle",
        "kill",
        "ledger",
        "recent",
    }
    assert offered & inside == set()


async def test_a_new_consumer_begins_where_the_peer_started_or_at_the_beginning(net: Mesh) -> None:
    ada, bob, _ = net.peers
    await (await ada.broadcast("of the run before")).delivered(timeout=60)
    await bob.aclose()
    bob = await net.restart(bob)
    await net.settle()
    await (await ada.broadcast("before anybody asked")).delivered(by="bob", timeout=60)
    now, all_ = bob.events(Message, consumer="now"), bob.events(Message, consumer="all", start="beginning")
    passing = bob.events(Message, consumer=None)
    await ada.broadcast("after")
    assert [(await anext(now)).text for _ in range(2)] == ["before anybody asked", "after"]
    assert [(await anext(all_)).text for _ in range(3)] == ["of the run before", "before anybody asked", "after"]
    assert (await anext(passing)).text == "after"  # without a consumer it begins when it is opened


async def test_a_consumer_has_one_reader(ada: TCPPeer) -> None:
    events = ada.events()
    with pytest.raises(ConsumerBusy) as caught:
        ada.events(Message)
    assert caught.value.consumer == "main"
    ada.events(Left)  # reads no messages: no cursor, no conflict
    ada.events(consumer=None)
    await events.aclose()
    ada.events()


async def test_an_exception_that_a_program_keeps_keeps_no_consumer(ada: TCPPeer) -> None:
    """Its traceback names the iterator, in a frame of the program or in one of ours."""
    await ada.broadcast("hello")
    kept: list[BaseException] = []

    async def failing() -> None:
        events = ada.events(start="beginning")
        async for _ in events:
            raise OSError

    async def timing_out() -> None:
        async with asyncio.timeout(0):
            await anext(ada.events(Left, Message))

    for reads in (asyncio.create_task(failing()), failing(), timing_out(), failing()):
        try:
            await reads
        except OSError as error:  # TimeoutError is one
            kept.append(error)
    assert len(kept) == 4
    assert len(await ada.history()) == 1
    ada.events()


async def test_a_reader_that_was_replaced_says_so(ada: TCPPeer) -> None:
    await ada.send_many("room", ["one", "two"])
    outer = ada.events(Sent, start="beginning")
    assert (await anext(outer)).text == "one"
    inner = ada.events(Sent)
    assert (await anext(inner)).text == "one"  # it was not acknowledged
    with pytest.raises(ConsumerBusy):
        await anext(outer)
    assert (await anext(inner)).text == "two"

    async def beside() -> Events[Any]:
        return ada.events()

    with pytest.raises(ConsumerBusy):
        await asyncio.create_task(beside())


async def test_a_dropped_reader_releases_its_consumer(ada: TCPPeer) -> None:
    await ada.broadcast("hello")

    async def first() -> None:
        async for _ in ada.events(start="beginning"):
            break

    await first()
    ada.events()


async def test_cancelling_a_wait_loses_nothing(net: Mesh) -> None:
    ada, bob, _ = net.peers
    events = bob.events(Message)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(anext(events), 0.01)
    await ada.send("bob", "still here")
    assert (await anext(events)).text == "still here"


async def test_a_slow_reader_gets_everything_in_order(net: Mesh) -> None:
    ada, bob, _ = net.peers
    events = bob.events(Message)
    said = [f"{number}" for number in range(9000)]  # more than is kept in memory
    await (await ada.send_many("bob", said)).delivered(timeout=60)
    assert [(await anext(events)).text for _ in said] == said


async def test_closing_while_a_reader_is_behind_loses_nothing(net: Mesh) -> None:
    ada, bob, _ = net.peers
    events = bob.events(Message, Stopped)
    said = [f"{number}" for number in range(300)]
    await (await ada.send_many("bob", said)).delivered(timeout=60)
    first = [event.text for event in [await anext(events) for _ in range(10)] if isinstance(event, Message)]
    closing = asyncio.create_task(bob.aclose())
    rest = [event async for event in events]
    await closing
    assert isinstance(rest[-1], Stopped)
    read = [event.text for event in rest if isinstance(event, Message)]
    bob = await net.restart(bob)
    again = bob.events(Message)
    heard = dict.fromkeys([*first, *read])  # the last one may come twice
    while len(heard) < len(said):
        heard[(await anext(again)).text] = None
    assert list(heard) == said


async def test_acknowledged_events_are_not_repeated_after_a_regular_close(net: Mesh) -> None:
    ada, bob, _ = net.peers
    events = bob.events(Message, Sent)
    await bob.send("ada", "mine")
    await (await ada.send_many("bob", [str(number) for number in range(100)])).delivered(timeout=60)
    heard = [(await anext(events)).text for _ in range(101)]
    asking = asyncio.create_task(anext(events, None))  # acknowledges the last
    await asyncio.sleep(0)  # the task starts
    await bob.aclose()
    assert await asking is None
    bob = await net.restart(bob)
    await ada.send("bob", "next")
    assert (await anext(bob.events(Message, Sent))).text == "next"
    assert sorted(heard) == sorted(["mine", *map(str, range(100))])


async def test_a_reader_going_on_while_the_peer_closes_gets_nothing_twice(net: Mesh) -> None:
    ada, bob, _ = net.peers
    events = bob.events(Message)
    said = [str(number) for number in range(1000)]
    heard: list[str] = []
    begun = asyncio.Event()

    async def read(events: Events[Message]) -> None:
        async for message in events:
            heard.append(message.text)
            begun.set()
            if message.text == said[-1]:
                break
            if len(heard) % 10 == 0:
                await asyncio.sleep(0)  # the peer closes meanwhile, step by step

    reading = asyncio.create_task(read(events))
    sending = asyncio.create_task(ada.send_many("bob", said))
    await begun.wait()
    await bob.aclose()
    await reading
    await sending
    assert 0 < len(heard) < len(said)
    bob = await net.restart(bob)
    await read(bob.events(Message))
    assert heard == said


async def test_an_event_being_handled_when_the_peer_closes_is_repeated(net: Mesh) -> None:
    ada, bob, _ = net.peers
    await ada.send_many("bob", ["done", "in work"])
    async for message in bob.events(Message, start="beginning"):
        if message.text == "in work":
            async with asyncio.timeout(HANDLED_WITHIN):  # the task that closes the peer is not waited for
                await bob.aclose()
    bob = await net.restart(bob)
    assert (await anext(bob.events(Message))).text == "in work"


async def test_live_events_keep_their_place_among_messages(net: Mesh) -> None:
    ada, bob, cyd = net.peers
    events = ada.events(Message, Left)
    await cyd.broadcast("bye")
    await net.settle()
    await cyd.aclose()
    await bob.broadcast("he is gone")
    heard = [(await anext(events)).event for _ in range(3)]
    assert heard == ["message", "left", "message"]


async def test_events_end_with_the_peer_and_may_be_opened_before_it_starts() -> None:
    async with mesh("ada") as net:
        peer = TCPPeer(0, net.peers[0].endpoint, temporary=True, name="bob")
        peer._lifecycle.run_in(lambda: net._home(net._hosts[0]), net.network.transport("elsewhere"))
        events = peer.events()
        await peer.start()  # one key in two processes: a self-dial, refused; never an exception
        await peer.aclose("done")
        heard = [event async for event in events]
        assert any(isinstance(event, Link) for event in heard)
        assert isinstance(heard[-1], Stopped)
        assert heard[-1].reason == "done"


async def test_repeated_waits_for_a_user_leave_nothing_behind(ada: TCPPeer) -> None:
    for _ in range(20):
        with pytest.raises(TimeoutError):
            await ada.wait_user("zoe", timeout=0.001)
    assert not ada._driver._awaited


async def test_waiting_calls_end_when_the_peer_closes(net: Mesh) -> None:
    ada, bob, _ = net.peers
    net.partition([ada], [bob])
    receipt = await ada.send("bob", "hello?")
    waiting = [
        asyncio.create_task(receipt.delivered()),
        asyncio.create_task(ada.wait_user("nobody")),
        asyncio.create_task(ada.wait_for(Joined)),
    ]
    await asyncio.sleep(0)  # the tasks start
    await ada.aclose()
    await ada.aclose()  # a second call does nothing
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(result) for result in results] == [PeerClosed] * 3
    for use in (ada.broadcast("late"), ada.history(), ada.rename("x")):
        with pytest.raises(PeerClosed):
            await use
    with pytest.raises(PeerClosed):
        ada.events()


async def test_objects_of_events_can_be_read_after_the_peer_closed(net: Mesh) -> None:
    ada, bob, _ = net.peers
    await bob.send("ada", "the last word")
    message = await anext(ada.events(Message))
    dm, room = message.conversation, ada.room
    await ada.aclose()
    assert message.to_dict()["conversation"] == "bob"
    assert (ada.room, ada.find("room"), ada.find("bob"), ada.conversation(dm.key)) == (room, room, dm, dm)
    assert ada.find("cyd").name == "cyd"
    assert room in ada.conversations()
    assert bob.me in ada.users()
    assert ada.links() == []
    for late in (message.reply("late"), ada.broadcast("late"), dm.history(), ada.connect(bob.endpoint)):
        with pytest.raises(PeerClosed, match="the peer was closed"):
            await late
    with pytest.raises(PeerClosed, match="has not been started"):
        _ = TCPPeer(temporary=True).room


THEIRS, OURS = LogId(ROOM, BOB, "01" * 8), LogId(ROOM, ADA, "01" * 8)
EARLIER, EARLIEST = LogId(ROOM, ADA, "02" * 8), LogId(ROOM, ADA, "03" * 8)


class Source(EventFeed):
    """The feed of a peer whose logs begin with the writer's profile, as in the room."""

    def __init__(self) -> None:
        super().__init__(ReceiptTracker())
        self.handed = 0
        self.count = 1

    def count_readers(self) -> int:
        return self.count

    def release(self, *texts: str, log: LogId = THEIRS) -> None:
        entries = [Entry(k="text", at=1, c=1, b=text) for text in texts]
        place = self.recent.newest + 1
        self.recent.add(EntrySpan(place, place + len(entries), log, place + 1, entries, 1, False, False, 1))

    async def places(self, after: int, limit: int) -> list[ReleasedEntry]:
        raise AssertionError("everything is in memory")

    async def entries(self, named: Sequence[tuple[ConversationId, Ref]]) -> list[ReleasedEntry | None]:
        raise AssertionError("nothing was edited")

    async def complete(self, event: ReceiptEvent) -> ReceiptEvent | None:
        await asyncio.sleep(0)  # a read of the storage takes a turn
        return None if event.seq == 1 else event

    def commit_offset(self, consumer: str, place: int) -> None:
        self.handed = place

    async def commit_offset_now(self, consumer: str, place: int) -> None: ...


async def test_receipts_of_no_message_never_cost_a_message() -> None:
    """After a restart receipts of earlier runs arrive again, those of profile entries too, which cause no events."""
    source = Source()
    reader = Subscription(source, VIEWER, (), None, "now", VIEWER._access)
    events: Events[Any] = Events(reader)
    reader.begin(0)
    for log in (EARLIER, EARLIEST):
        reader.push_receipts(ReceiptUpdate(log, 1, 1, BOB, 1, 1))
    source.release("one", "two")
    source.release("three")
    async with asyncio.timeout(60):
        assert [(await anext(events)).text for _ in range(3)] == ["one", "two", "three"]


async def turns_of_others(
    monkeypatch: pytest.MonkeyPatch, *, messages: int, each_takes: float, at_once: bool = True,
    others_take: float = 0.0, readers: int = 1,
) -> int:  # fmt: skip
    """Read messages, handling each for some seconds; return how often other tasks had their turn.

    at_once: All were released together; otherwise one after the other.
    others_take: Seconds of their turns.
    """
    loop, source = asyncio.get_running_loop(), Source()
    source.count = readers
    at, turns = loop.time(), 0
    monkeypatch.setattr(loop, "time", lambda: at)
    reader = Subscription(source, VIEWER, (), None, "now", VIEWER._access)
    reader.begin(0)
    for texts in [["hi"] * messages] if at_once else [["hi"]] * messages:
        source.release(*texts)

    async def others() -> None:
        nonlocal turns, at
        while True:
            await asyncio.sleep(0)  # counts the turns of the loop
            turns += 1
            at += others_take

    other = asyncio.create_task(others())
    await asyncio.sleep(0)  # the task starts
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


async def test_a_slow_handler_lets_others_have_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await turns_of_others(monkeypatch, messages=2000, each_takes=2 * BREATH) >= 2000 // LOOKS - 1


async def test_a_reader_of_single_messages_lets_others_have_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await turns_of_others(monkeypatch, messages=2000, each_takes=2 * BREATH, at_once=False) >= 1998


async def test_a_reader_keeps_up_with_others_whose_turns_are_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who floods a peer has long turns, and the messages of contacts come to programs behind those of the flood."""
    turns = partial(
        turns_of_others, monkeypatch, messages=200, each_takes=BREATH / 2, at_once=False, others_take=16 * BREATH
    )
    assert await turns() <= 200 // 16 + 2
    assert await turns(readers=4) >= 200 // 5 - 2  # these take as long together


async def test_a_reader_takes_no_long_turn_after_a_pause_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    most = int(MAX_BREATH / BREATH) + 1
    turns = await turns_of_others(monkeypatch, messages=200, each_takes=BREATH, at_once=False, others_take=5.0)
    assert turns >= 200 // most - 1


async def test_a_reader_skipping_messages_lets_others_have_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    source, looks = Source(), itertools.count()
    source.count = 2
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: 2 * next(looks) * BREATH)
    reader = Subscription(source, VIEWER, (Sent,), None, "now", VIEWER._access)
    reader.begin(0)
    for _ in range(100):
        source.release("hi")
    source.release("mine", log=OURS)
    events: Events[Any] = Events(reader)
    taking = asyncio.ensure_future(anext(events))
    turns = 0
    while not taking.done():
        await asyncio.sleep(0)  # counts the turns of the loop
        turns += 1
    assert taking.result().text == "mine"
    assert turns >= 100


async def test_all_but_the_last_event_are_committed_wherever_a_program_pauses() -> None:
    source = Source()
    reader = Subscription(source, VIEWER, (), "main", "now", VIEWER._access)
    events: Events[Any] = Events(reader)
    reader.begin(0)
    source.release(*["hi"] * 200)
    taken = 0
    for count in (1, 1, 2, 3, LOOKS - 1, LOOKS, LOOKS + 1, 5, 1):
        for _ in range(count):
            taken += 1
            assert (await anext(events)).place == taken
        await asyncio.sleep(0)  # time for a wrong acknowledgement
        await asyncio.sleep(0)
        assert source.handed == taken - 1


async def test_a_reader_waits_where_the_newest_entries_have_only_stubs() -> None:
    """It asked storage again and again, with a core of the machine."""

    class Stubs(Source):
        asked = 0

        async def places(self, after: int, limit: int) -> list[ReleasedEntry]:
            self.asked += 1
            return []

    source = Stubs()
    source.recent.skip(5)
    reader = Subscription(source, VIEWER, (Message,), None, "now", VIEWER._access)
    reader.begin(2)
    taking = asyncio.ensure_future(anext(Events[Any](reader)))
    for _ in range(20):
        await asyncio.sleep(0)
    assert source.asked == 1 and not taking.done()
    source.recent.add(EntrySpan(6, 7, THEIRS, 1, [Entry(k="text", at=1, c=1, b="hi")], 1, False, False, 1))
    reader.wake()
    assert (await taking).text == "hi"


async def test_skipped_messages_count_as_acknowledged() -> None:
    source = Source()
    reader = Subscription(source, VIEWER, (Message,), "main", "now", VIEWER._access)
    events: Events[Any] = Events(reader)
    reader.begin(0)
    source.release("theirs")
    source.recent.add(EntrySpan(2, 5, EARLIER, 2, [Entry(k="text", at=1, c=1, b="mine")] * 3, 1, False, False, 1))
    source.recent.add(EntrySpan(5, 7, THEIRS, 3, [Entry(k="text", at=1, c=2, b="theirs")] * 2, 1, False, False, 1))
    assert [((message := await anext(events)).place, message.seq) for _ in range(3)] == [(1, 2), (5, 3), (6, 4)]
    assert reader.place == 5
