"""The library as programs use it: real peers, over pipes in memory unless a test is about the disk or the port."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import p2pchat
from p2pchat import (
    AmbiguousName,
    ConsumerBusy,
    DataLocked,
    Delivered,
    DeliveryTimeout,
    Events,
    InviteError,
    Joined,
    Left,
    Link,
    Message,
    P2PChatError,
    PeerClosed,
    PortInUse,
    Sent,
    Stopped,
    TCPPeer,
    TooLong,
    UnknownName,
    Warned,
    open_history,
)
from p2pchat.peer.herald import HANDLED_WITHIN
from p2pchat.testing import Mesh, mesh


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("P2PCHAT_HOME", str(tmp_path / "home"))
    return tmp_path


@pytest.fixture
async def net() -> AsyncIterator[Mesh]:
    async with mesh("ada", "bob", "cyd") as net:
        yield net


async def texts(peer: TCPPeer, conversation: str = "room") -> list[str]:
    return [post.text for post in await peer.history(conversation)]


# ---- sending and receipts


async def test_a_room_message_reaches_everybody_and_the_receipt_says_so(net: Mesh) -> None:
    ada, bob, cyd = net.peers
    receipt = await ada.broadcast("hello, mesh")
    assert {user.name for user in receipt.of} == {"bob", "cyd"}
    await receipt.delivered(timeout=5)
    assert receipt.status == "delivered"
    assert {user.name for user in receipt.delivered_to} == {"bob", "cyd"}
    assert await texts(bob) == await texts(cyd) == ["hello, mesh"]


async def test_a_direct_message_reaches_one_and_nobody_else(net: Mesh) -> None:
    ada, bob, cyd = net.peers
    await (await ada.send("bob", "psst")).delivered(timeout=5)
    await net.settle()
    assert await texts(bob, "ada") == ["psst"]
    assert [conversation.kind for conversation in cyd.conversations()] == ["room"]


async def test_a_message_has_the_same_id_and_time_on_every_peer(net: Mesh) -> None:
    receipt = await net.peers[0].broadcast("one")
    await receipt.delivered(timeout=5)
    posts = [(await peer.history("room"))[0] for peer in net.peers]
    assert {post.id for post in posts} == {receipt.id}
    assert len({post.sent_at for post in posts}) == 1
    assert [type(post) for post in posts] == [Sent, Message, Message]


async def test_send_many_keeps_the_order_and_gives_a_receipt_for_each(net: Mesh) -> None:
    ada, bob, _ = net.peers
    said = [f"line {number}" for number in range(2500)]
    receipts = await ada.send_many("bob", said)
    await receipts.delivered(timeout=10)
    read = [message async for message in bob.find("ada").messages()]
    assert [message.text for message in read] == said
    assert [receipt.id for receipt in receipts] == [message.id for message in read]
    assert receipts[-1].id == read[-1].id
    assert [receipt.status for receipt in receipts[:2]] == ["delivered", "delivered"]
    with pytest.raises(IndexError):
        receipts[2500]


async def test_send_many_of_nothing_is_nothing(net: Mesh) -> None:
    receipts = await net.peers[0].send_many("bob", [])
    await receipts.delivered(timeout=1)
    assert list(receipts) == []


async def test_many_tasks_may_send_at_once_and_each_gets_its_own_receipt(net: Mesh) -> None:
    ada, bob, _ = net.peers
    receipts = await asyncio.gather(*(ada.send("bob", str(number)) for number in range(300)))
    await receipts[-1].delivered(timeout=5)
    by_id = {message.id: message.text for message in await bob.history("ada", limit=0)}
    assert [by_id[receipt.id] for receipt in receipts] == [str(number) for number in range(300)]


async def test_answers_and_texts_keep_their_order(net: Mesh) -> None:
    ada, bob, _ = net.peers
    first = await ada.send("bob", "first")
    said = [ada.send("bob", "a"), ada.send("bob", "b", reply_to=first.id), ada.send("bob", "c"), ada.send("room", "d")]
    await asyncio.gather(*said)
    await net.settle()
    read = await bob.history("ada")
    assert [message.text for message in read] == ["first", "a", "b", "c"]
    assert [message.reply_to for message in read] == [None, None, first.id, None]


async def test_a_sender_that_is_cancelled_has_written_all_the_same(net: Mesh) -> None:
    ada, _, _ = net.peers
    task = asyncio.create_task(ada.broadcast("on its way"))
    await asyncio.sleep(0)  # the task has run up to where it waits
    task.cancel()
    await ada.broadcast("after it")
    assert await texts(ada) == ["on its way", "after it"]


async def test_a_receipt_names_who_is_missing(net: Mesh) -> None:
    ada, bob, cyd = net.peers
    net.partition([ada, cyd], [bob])
    receipt = await ada.broadcast("hello?")
    await receipt.delivered(by="cyd", timeout=5)
    await receipt.delivered(count=1, timeout=5)
    with pytest.raises(DeliveryTimeout) as caught:
        await receipt.delivered(timeout=0.05)
    assert caught.value.missing == ["bob"]
    assert isinstance(caught.value, TimeoutError)
    net.heal()
    await receipt.delivered(timeout=5)


async def test_waiting_for_two_is_over_when_two_have_it(net: Mesh) -> None:
    ada, bob, _ = net.peers
    net.partition([ada], [bob], [net.peers[2]])
    receipt = await ada.broadcast("hello?")
    waiting = asyncio.create_task(receipt.delivered(count=2, timeout=5))
    net.heal()
    await waiting
    assert len(receipt.delivered_to) == 2
    with pytest.raises(ValueError):
        await receipt.delivered(count=0)


async def test_with_nobody_there_the_first_who_comes_counts() -> None:
    async with mesh("ada") as net:
        receipt = await net.peers[0].broadcast("anybody?")
        assert receipt.of == []
        waiting = asyncio.create_task(receipt.delivered(timeout=5))
        await net.add("bob")
        await waiting
        assert [user.name for user in receipt.delivered_to] == ["bob"]


async def test_a_receipt_can_be_had_again_by_its_id_also_after_a_restart(net: Mesh) -> None:
    ada, bob, _ = net.peers
    old = await ada.send(bob.me.id, "remember")
    await old.delivered(timeout=5)
    await ada.send(bob.me.id, "one more, whose commit saves what was heard")
    await net.settle()
    await net.crash(ada)
    ada = await net.restart(ada)
    receipt = await ada.receipt(old.id)
    await receipt.delivered(timeout=5)
    assert [user.name for user in receipt.of] == ["bob"]
    with pytest.raises(UnknownName):
        await bob.receipt(old.id)
    with pytest.raises(ValueError):
        await ada.receipt("nonsense")


async def test_receipts_of_an_earlier_run_count_everybody_who_has_it(net: Mesh) -> None:
    ada, bob, cyd = net.peers
    net.partition([ada, cyd], [bob])
    old = await ada.broadcast("bob is away")  # the profile before it is no message: nothing is told of that
    await old.delivered(by="cyd", timeout=5)
    await ada.broadcast("one more, whose commit saves what was heard")
    await net.settle()
    await net.crash(ada)
    ada = await net.restart(ada)
    events = ada.events(Delivered)
    net.heal()
    await net.settle()
    told = {(event.id, event.user.name): (event.count, event.of) for event in [await anext(events) for _ in range(2)]}
    assert told[old.id, "bob"] == (2, 2)


async def test_what_is_wrong_with_a_text_is_said_before_anything_is_written(net: Mesh) -> None:
    ada = net.peers[0]
    with pytest.raises(TooLong) as caught:
        await ada.broadcast("é" * 20_000)
    assert (caught.value.limit_bytes, caught.value.size_bytes) == (32 * 1024, 40_000)
    await ada.broadcast("x" * 32 * 1024)
    for wrong in ("", "nul \0 inside", "half \ud800"):
        with pytest.raises(ValueError):
            await ada.broadcast(wrong)
    with pytest.raises(TypeError):
        await ada.broadcast(b"bytes")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        await ada.send_many("room", "one text")
    with pytest.raises(TooLong):
        await ada.send_many("room", ["fine", "x" * 40_000])
    assert [len(text) for text in await texts(ada)] == [32 * 1024]


async def test_an_answer_belongs_to_the_conversation_it_answers_in(net: Mesh) -> None:
    ada = net.peers[0]
    receipt = await ada.broadcast("in the room")
    with pytest.raises(ValueError):
        await ada.send("bob", "elsewhere", reply_to=receipt.id)


# ---- names


async def test_names_as_typed(net: Mesh) -> None:
    ada, bob, _ = net.peers
    dm = ada.find("bob")
    suffix = bob.me.id[:8]
    for typed in ("@bob", " bob ", "Bob", f"bob#{suffix}", f"bob#{suffix.lower()}", bob.me.id, dm.id):
        assert ada.find(typed) == dm
    assert ada.find("room") == ada.find("#room") == ada.room
    assert ada.find(ada.people.find("bob")) == dm
    assert (dm.kind, dm.name, dm.user) == ("dm", "bob", bob.me)
    assert f"{bob.me}, {dm}" == "bob, bob"
    for nobody in ("dave", "bob#AAAAAAAA", "#ops", "b0b", "bob#" + suffix[:4]):
        with pytest.raises(UnknownName):
            ada.find(nobody)
    with pytest.raises(TypeError):
        ada.find(7)  # type: ignore[arg-type]


async def test_two_users_of_one_name_are_told_apart_by_their_ids(net: Mesh) -> None:
    ada, bob, _ = net.peers
    other = await net.add("B0b")  # looks like bob
    await net.settle()
    with pytest.raises(AmbiguousName) as caught:
        await ada.send("bob", "which?")
    assert caught.value.candidates == sorted([f"bob#{bob.me.id[:8]}", f"B0b#{other.me.id[:8]}"])
    assert ada.find(f"bob#{bob.me.id[:8]}").name == f"bob#{bob.me.id[:8]}"
    await (await ada.send(f"b0b#{other.me.id[:8]}", "you")).delivered(timeout=5)
    assert await texts(other, "ada") == ["you"]


async def test_nobody_is_taken_for_the_room(net: Mesh) -> None:
    ada, bob, _ = net.peers
    with pytest.raises(ValueError, match="everybody"):
        await bob.rename("Room")
    with pytest.raises(ValueError, match="everybody"):
        TCPPeer(0, name="r00m")
    bob.people.learn([(ada.me.key, "room")])  # as told by a peer of another make
    assert ada.me.label == "ada"
    assert bob.people.user(ada.me.key).label == f"room#{ada.me.id[:8]}"
    assert bob.find("room") == bob.room
    assert bob.find(f"room#{ada.me.id[:8]}").user == ada.me


async def test_a_new_name_is_known_everywhere_and_kept(net: Mesh) -> None:
    ada, bob, _ = net.peers
    await bob.broadcast("hello")
    await bob.rename("robert")
    robert = await ada.wait_user("robert", timeout=5)
    assert robert == bob.me
    await net.settle()
    assert [m.sender.label for m in await ada.history("room")] == ["robert"]
    with pytest.raises(ValueError):
        await bob.rename("no#good")


async def test_writing_to_oneself_is_a_conversation_too(net: Mesh) -> None:
    ada = net.peers[0]
    await ada.send(ada.me, "a note")
    assert await texts(ada, "ada") == ["a note"]


async def test_wait_user_waits_until_somebody_is_here(net: Mesh) -> None:
    ada = net.peers[0]
    waiting = asyncio.create_task(ada.wait_user("dan", timeout=5))
    dan = await net.add("dan")
    assert await waiting == dan.me
    with pytest.raises(TimeoutError):
        await ada.wait_user("eve", timeout=0.02)


# ---- events


async def test_events_tell_messages_of_others_and_what_was_sent(net: Mesh) -> None:
    ada, bob, _ = net.peers
    events = ada.events()
    await ada.send("room", "mine", ref="7")
    await bob.broadcast("yours")
    heard = []
    async for event in events:
        if isinstance(event, Message | Sent):
            heard.append((event.event, event.text, event.to_json().get("ref")))
        if isinstance(event, Message):
            break
    assert heard == [("sent", "mine", "7"), ("message", "yours", None)]


async def test_a_bot_answers(net: Mesh) -> None:
    ada, bob, _ = net.peers

    async def bot() -> None:
        async for message in bob.events(Message):
            await message.reply(message.text.upper())

    running = asyncio.create_task(bot())
    receipt = await ada.send("bob", "ping")
    answer = await ada.wait_for(Message, where=lambda m: m.reply_to == receipt.id, timeout=5)
    assert (answer.text, answer.conversation) == ("PING", ada.find("bob"))
    running.cancel()


async def test_only_the_types_asked_for_come(net: Mesh) -> None:
    ada, _, cyd = net.peers
    events = ada.events(Left, Delivered)
    receipt = await ada.broadcast("hello")
    await receipt.delivered(timeout=5)
    await cyd.aclose()
    heard = [(await anext(events)).to_json() for _ in range(3)]
    told = [(line["event"], line.get("id"), line.get("count"), line.get("of")) for line in heard]
    assert told == [("delivered", receipt.id, 1, 2), ("delivered", receipt.id, 2, 2), ("left", None, None, None)]
    assert (heard[2]["user"], heard[2]["reason"]) == ("cyd", "left")


async def test_a_consumer_goes_on_where_it_stood_after_a_crash(net: Mesh) -> None:
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


async def test_what_was_not_acknowledged_comes_again(net: Mesh) -> None:
    ada, bob, _ = net.peers
    async with bob.events(Message, consumer="bot") as events:
        await ada.send("bob", "important")
        assert (await anext(events)).text == "important"
    async with bob.events(Message, consumer="bot") as events:
        assert (await anext(events)).text == "important"
        await events.ack()
    async with bob.events(Message, consumer="bot") as events:
        await ada.send("bob", "next")
        assert (await anext(events)).text == "next"


async def test_a_reader_that_holds_its_place_reads_on_and_acknowledges_nothing(net: Mesh) -> None:
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


async def test_what_belongs_to_the_inside_of_a_peer_is_not_offered(net: Mesh) -> None:
    ada = net.peers[0]
    offered = {name for name in (*dir(ada), *dir(ada.events())) if not name.startswith("_")}
    inside = {
        "hand_on",
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
    await (await ada.broadcast("of the run before")).delivered(timeout=5)
    await bob.aclose()
    bob = await net.restart(bob)
    await net.settle()
    await (await ada.broadcast("before anybody asked")).delivered(by="bob", timeout=5)
    now, all_ = bob.events(Message, consumer="now"), bob.events(Message, consumer="all", start="beginning")
    passing = bob.events(Message, consumer=None)
    await ada.broadcast("after")
    assert [(await anext(now)).text for _ in range(2)] == ["before anybody asked", "after"]
    assert [(await anext(all_)).text for _ in range(3)] == ["of the run before", "before anybody asked", "after"]
    assert (await anext(passing)).text == "after"  # who keeps no place begins when it is opened


async def test_one_reader_for_each_consumer(net: Mesh) -> None:
    ada = net.peers[0]
    events = ada.events()
    with pytest.raises(ConsumerBusy) as caught:
        ada.events(Message)
    assert caught.value.consumer == "main"
    ada.events(Left)  # reads no messages: no cursor, no conflict
    ada.events(consumer=None)
    await events.aclose()
    ada.events()


async def test_a_reader_nobody_holds_is_free_again(net: Mesh) -> None:
    ada = net.peers[0]
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


async def test_a_slow_reader_gets_everything_from_storage_and_in_order(net: Mesh) -> None:
    ada, bob, _ = net.peers
    events = bob.events(Message)
    said = [f"{number}" for number in range(9000)]  # more than is kept in memory
    await (await ada.send_many("bob", said)).delivered(timeout=20)
    assert [(await anext(events)).text for _ in said] == said


async def test_closing_while_a_reader_is_behind_loses_nothing(net: Mesh) -> None:
    ada, bob, _ = net.peers
    events = bob.events(Message, Stopped)
    said = [f"{number}" for number in range(300)]
    await (await ada.send_many("bob", said)).delivered(timeout=5)
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


async def test_what_was_acknowledged_before_a_good_end_does_not_come_again(net: Mesh) -> None:
    ada, bob, _ = net.peers
    events = bob.events(Message, Sent)
    await bob.send("ada", "mine")
    await (await ada.send_many("bob", [str(number) for number in range(100)])).delivered(timeout=5)
    heard = [(await anext(events)).text for _ in range(101)]
    asking = asyncio.create_task(anext(events, None))  # acknowledges the last
    await asyncio.sleep(0)
    await bob.aclose()
    assert await asking is None
    bob = await net.restart(bob)
    await ada.send("bob", "next")
    assert (await anext(bob.events(Message, Sent))).text == "next"
    assert sorted(heard) == sorted(["mine", *map(str, range(100))])


async def test_a_reader_that_goes_on_while_the_peer_closes_gets_nothing_twice(net: Mesh) -> None:
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
                await asyncio.sleep(0)  # the peer closes step by step beside it

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


async def test_what_is_being_handled_when_the_peer_closes_comes_again(net: Mesh) -> None:
    ada, bob, _ = net.peers
    await ada.send_many("bob", ["done", "in work"])
    async for message in bob.events(Message, start="beginning"):
        if message.text == "in work":
            async with asyncio.timeout(HANDLED_WITHIN):  # whoever handles it is not waited for by itself
                await bob.aclose()
    bob = await net.restart(bob)
    assert (await anext(bob.events(Message))).text == "in work"


async def test_live_events_stand_where_they_happened(net: Mesh) -> None:
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
        peer._live_in(lambda: net._home(net._places[0]), net.network.wires("elsewhere"))
        events = peer.events()
        await peer.start()  # one key in two processes: a self-dial, refused; never an exception
        await peer.aclose("done")
        heard = [event async for event in events]
        assert any(isinstance(event, Link) for event in heard)
        assert isinstance(heard[-1], Stopped)
        assert heard[-1].reason == "done"


async def test_waiting_for_somebody_again_and_again_leaves_nothing_behind(net: Mesh) -> None:
    ada = net.peers[0]
    for _ in range(20):
        with pytest.raises(TimeoutError):
            await ada.wait_user("zoe", timeout=0.001)
    assert not ada._herald._waiting


async def test_whoever_waits_when_the_peer_closes_is_told(net: Mesh) -> None:
    ada, bob, _ = net.peers
    net.partition([ada], [bob])
    receipt = await ada.send("bob", "hello?")
    waiting = [
        asyncio.create_task(receipt.delivered()),
        asyncio.create_task(ada.wait_user("nobody")),
        asyncio.create_task(ada.wait_for(Joined)),
    ]
    await asyncio.sleep(0)
    await ada.aclose()
    await ada.aclose()  # again: nothing
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(result) for result in results] == [PeerClosed] * 3
    for use in (ada.broadcast("late"), ada.history(), ada.rename("x")):
        with pytest.raises(PeerClosed):
            await use
    with pytest.raises(PeerClosed):
        ada.events()


async def test_what_an_event_leads_to_can_be_looked_at_after_the_peer_has_closed(net: Mesh) -> None:
    ada, bob, _ = net.peers
    await bob.send("ada", "the last word")
    message = await anext(ada.events(Message))
    dm, room = message.conversation, ada.room
    await ada.aclose()
    assert message.to_json()["conversation"] == "bob"
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


# ---- history


async def test_history_goes_by_pages_in_one_order_everywhere(net: Mesh) -> None:
    ada, bob, cyd = net.peers
    for number in range(4):
        for peer in net.peers:
            await peer.broadcast(f"{peer.me.name} {number}")
    await net.settle()
    orders = [[post.id for post in await peer.history("room", limit=0)] for peer in net.peers]
    assert orders[0] == orders[1] == orders[2]
    assert len(orders[0]) == 12
    newest = await bob.history("room", limit=5)
    assert [post.id for post in newest] == orders[0][-5:]
    older = await bob.history("room", before=newest[0], limit=5)
    assert [post.id for post in older] == orders[0][-10:-5]
    assert [post.id for post in await bob.history("room", after=older[-1], limit=3)] == orders[0][-5:-2]
    assert [post.id for post in await bob.history("room", after=older[0], before=newest[0])] == orders[0][-9:-5]
    assert [post.id async for post in cyd.room.messages()] == orders[0]
    assert await ada.history(since=datetime.now(UTC) + timedelta(hours=1)) == []
    with pytest.raises(ValueError):
        await ada.history(limit=-1)


async def test_history_of_all_conversations_is_one_order(net: Mesh) -> None:
    ada = net.peers[0]
    await ada.broadcast("one")
    await ada.send("bob", "two")
    await ada.send(ada.me, "three")
    await ada.broadcast("four")
    assert [post.text for post in await ada.history()] == ["one", "two", "three", "four"]
    assert [post.text for post in await ada.history(limit=2)] == ["three", "four"]


# ---- on a real disk and port


async def test_a_peer_is_the_same_after_a_restart_and_its_history_can_be_read_beside_it(home: Path) -> None:
    async with TCPPeer(data=home / "ada", name="ada") as ada:
        me = ada.me.id
        receipt = await ada.broadcast("written down")
        async with open_history(home / "ada") as history:
            assert [post.text for post in await history.history("room")] == ["written down"]
    async with TCPPeer(data=home / "ada") as ada:
        assert (ada.me.id, ada.me.name) == (me, "ada")
        assert [post.id for post in await ada.history()] == [receipt.id]
    async with open_history(home / "ada") as history:
        posts = await history.history()
        assert [(type(post), post.id, post.sender.name) for post in posts] == [(Sent, receipt.id, "ada")]
        assert [conversation.name for conversation in history.conversations()] == ["room"]
        with pytest.raises(PeerClosed):
            await history.room.send("no")


async def test_two_peers_over_sockets_with_one_endpoint(home: Path) -> None:
    async with TCPPeer(temporary=True, name="ada") as ada:
        async with TCPPeer(0, ada.port, temporary=True, name="bob") as bob:
            await (await bob.send("ada", "over TCP")).delivered(timeout=5)
            assert await texts(ada, "bob") == ["over TCP"]
            assert ada.links() == [bob.me.id]


async def test_an_endpoint_that_does_not_answer_is_an_event(home: Path) -> None:
    async with TCPPeer(temporary=True) as other:
        nobody = other.endpoint
    peer = TCPPeer(0, nobody, temporary=True)
    events = peer.events(Link)
    async with peer:
        link = await anext(events)
        assert (link.endpoint, link.state) == (nobody, "trying")
        assert link.reason == "nobody listens there"
        assert await peer.connect(nobody) is False


async def test_what_keeps_a_peer_from_starting_is_said_in_one_line(home: Path) -> None:
    async with TCPPeer(data=home / "ada") as ada:
        with pytest.raises(DataLocked):
            await TCPPeer(data=home / "ada").start()
        with pytest.raises(PortInUse) as caught:
            await TCPPeer(ada.port, temporary=True).start()
        assert caught.value.port == ada.port
        with pytest.raises(PeerClosed):
            await ada.start()
    for wrong in ({"port": 70_000}, {"name": "a#b"}, {"data": home, "temporary": True}):
        with pytest.raises(ValueError):
            TCPPeer(**wrong)
    with pytest.raises(ValueError):
        TCPPeer(0, "no port")
    with pytest.raises(TypeError):
        TCPPeer("8080")  # type: ignore[arg-type]
    with pytest.raises(InviteError):
        await TCPPeer(temporary=True, invite="p2pchat:nonsense").start()
    with pytest.raises(PeerClosed):
        await TCPPeer(temporary=True).broadcast("not started")
    async with TCPPeer(data=home / "ada"):  # nothing of all that is still held
        pass


async def test_a_start_that_is_cancelled_leaves_nothing_open(home: Path) -> None:
    for turns in (1, 5):  # while its files are opened
        starting = asyncio.create_task(TCPPeer(data=home / "ada").start())
        for _ in range(turns):
            await asyncio.sleep(0)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
    connected = asyncio.Event()

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.set()
        await reader.read(-1)
        writer.close()

    async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        starting = asyncio.create_task(TCPPeer(0, port, data=home / "ada").start())
        await connected.wait()  # while it waits for an endpoint
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
    async with TCPPeer(data=home / "ada"):
        pass


async def test_a_start_that_is_cancelled_twice_leaves_nothing_open_either(home: Path) -> None:
    """Whoever loses patience twice does not wait for the files to be let go, but aclose() does."""
    for turns in range(1, 12):
        peer = TCPPeer(data=home / "ada")
        starting = asyncio.create_task(peer.start())
        for _ in range(turns):
            await asyncio.sleep(0)
        starting.cancel()
        await asyncio.sleep(0)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        await peer.aclose()
        async with TCPPeer(data=home / "ada"):
            pass


async def test_a_peer_starts_once(home: Path) -> None:
    peer = TCPPeer(temporary=True)
    results = await asyncio.gather(peer.start(), peer.start(), return_exceptions=True)
    assert [type(result) for result in results] == [type(None), PeerClosed]
    await peer.aclose()
    with pytest.raises(PeerClosed):
        await peer.start()


async def test_a_defect_inside_keeps_no_peer_from_closing(home: Path) -> None:
    peer = TCPPeer(data=home / "ada")
    events = peer.events(Warned, Stopped)
    await peer.start()
    assert peer._owner is not None
    while not peer._idle:
        await asyncio.sleep(0)
    peer._owner.node.links = None  # type: ignore[assignment]  # whatever the core does with a link is a defect now
    reported: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    await peer.aclose()
    assert [type(event) async for event in events] == [Warned, Stopped]
    assert [type(context["exception"]) for context in reported] == [AttributeError]
    async with TCPPeer(data=home / "ada"):
        pass


async def test_an_invite_brings_a_stranger_in(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with TCPPeer(temporary=True, name="ada") as ada:
        monkeypatch.setenv("P2PCHAT_HOME", str(home / "another login"))
        async with TCPPeer(0, ada.endpoint, data=home / "eve", name="eve") as eve:
            assert eve.links() == []  # another login's network
        async with TCPPeer(data=home / "bob", name="bob", invite=ada.invite) as bob:
            await (await bob.send("ada", "hello")).delivered(timeout=5)
        async with TCPPeer(data=home / "bob") as bob:  # neither invite nor endpoint: it remembers
            await bob.wait_user("ada", timeout=5)
            with pytest.raises(InviteError):
                await TCPPeer(data=home / "bob2", invite=bob.invite + "x").start()


async def test_a_profile_that_was_used_stays_in_its_network(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with TCPPeer(temporary=True, open=True) as other:
        async with TCPPeer(data=home / "ada", name="ada") as ada:
            pass
        async with TCPPeer(data=home / "new") as new:  # started before, and never wrote or read a word
            own = new.invite
        async with TCPPeer(data=home / "new", invite=other.invite) as new:
            assert new.is_open
        async with TCPPeer(data=home / "ada") as ada:
            await ada.broadcast("now it is used")
        with pytest.raises(InviteError, match=r"belongs to another network .* choose another port or --data"):
            await TCPPeer(data=home / "ada", invite=other.invite).start()
        with pytest.raises(P2PChatError, match="belongs to a network with a key"):
            await TCPPeer(data=home / "ada", open=True).start()
        with pytest.raises(InviteError):
            await TCPPeer(data=home / "new", invite=own).start()
        async with TCPPeer(data=home / "ada", invite=own) as ada:  # its own network's
            assert [post.text for post in await ada.history()] == ["now it is used"]


async def test_an_open_network_is_learnt_from_the_first_peer_met(home: Path) -> None:
    async with TCPPeer(data=home / "ada", name="ada", open=True) as ada:
        await ada.broadcast("welcome")
        async with TCPPeer(0, ada.endpoint, data=home / "bob", name="bob", open=True) as bob:
            await bob.wait_user("ada", timeout=5)
            events = bob.events(Message, start="beginning")
            message = await asyncio.wait_for(anext(events), 5)
            assert (message.text, message.old) == ("welcome", True)
            assert bob.listening.to_json()["network"] == "open"
            room = bob.room
        async with TCPPeer(0, ada.endpoint, data=home / "bob", open=True) as bob:
            assert bob.room == room
    (home / "bob" / "network").unlink()  # as when killed before it was written down: the database knows it too
    async with TCPPeer(data=home / "bob", open=True) as bob:
        assert bob.room == room


async def test_after_a_defect_inside_nobody_waits_for_ever(net: Mesh) -> None:
    ada, bob, _ = net.peers
    await net.crash(bob)
    receipt = await ada.send("bob", "are you there?")
    events = ada.events(Warned)
    waiting = [asyncio.create_task(receipt.delivered()), asyncio.create_task(ada.wait_user("zoe"))]
    await asyncio.sleep(0)
    assert ada._owner is not None
    ada._owner.node.presence = None  # type: ignore[assignment]
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    ada.set_presence("idle")
    assert (await anext(events)).code == "internal"
    async with asyncio.timeout(5):
        ends = await asyncio.gather(*waiting, ada.broadcast("too late"), return_exceptions=True)
    assert [type(end) for end in ends] == [PeerClosed] * 3


async def test_a_network_that_cannot_be_written_down_is_told_and_nothing_stays_open(home: Path) -> None:
    async with TCPPeer(data=home / "ada", open=True) as ada:
        bob = TCPPeer(0, "127.0.0.1:1", data=home / "bob", open=True)  # where nobody answers
        events = bob.events(Warned)
        await bob.start()
        (home / "bob" / "network").mkdir()  # in the way of the file
        assert await bob.connect(ada.endpoint)
        assert (await anext(events)).code == "network"
        await bob.aclose()
        (home / "bob" / "network").rmdir()
        async with TCPPeer(0, ada.endpoint, data=home / "bob", open=True):
            pass


async def test_an_open_network_has_no_room_until_somebody_is_met(home: Path) -> None:
    async with TCPPeer(temporary=True) as other:
        port = other.port
    async with TCPPeer(0, port, data=home / "bob", name="bob", open=True) as bob:
        for early in (bob.broadcast("too early"), bob.send_many("room", ["too early"]), bob.history("room")):
            with pytest.raises(UnknownName, match=r"^there is no room yet: .* first peer has been met"):
                await early
        assert bob.conversations() == []
        async with TCPPeer(port, data=home / "ada", name="ada", open=True) as ada:
            events = ada.events(Message)
            assert await bob.connect(port, timeout=5)
            await (await bob.broadcast("met")).delivered(timeout=5)
            assert (await anext(events)).conversation == ada.room == bob.room


# ---- the package


def test_importing_p2pchat_loads_little() -> None:
    code = "import sys, p2pchat; print({'sqlalchemy', 'click', 'asyncio', 'cryptography'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True)
    assert done.stdout.strip() == "set()"


def test_every_public_name_is_there() -> None:
    for name in p2pchat.__all__:
        assert getattr(p2pchat, name) is not None
    assert set(p2pchat.__all__) <= set(dir(p2pchat))
    with pytest.raises(AttributeError):
        _ = p2pchat.Nonsense
