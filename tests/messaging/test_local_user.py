"""Sending, presence and typing, among real peers over pipes in memory."""

from __future__ import annotations

import asyncio
import gc
import inspect
import logging
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from p2pchat import (
    Conversation,
    Deleted,
    Delivered,
    DeliveryTimeout,
    Edited,
    GroupChanged,
    Left,
    Message,
    MessageOptions,
    PeerClosed,
    Presence,
    Reaction,
    Receipt,
    Receipts,
    Renamed,
    Sent,
    Settings,
    TCPPeer,
    TooLong,
    Typing,
    UnknownName,
)
from p2pchat.bots import BotContext
from p2pchat.messaging.messages import ref_of
from p2pchat.testing import Mesh, mesh
from p2pchat.threads import run_to_completion
from tests.deadlines import WAIT, within
from tests.messaging.texts import texts


class Markup(str):
    """A str of a program, as template engines have."""

    __slots__ = ()


class Failing(Markup):
    """One whose own methods raise."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        raise KeyError

    __hash__ = str.__hash__


class Undecided:
    def __bool__(self) -> bool:
        raise KeyError


async def test_texts_of_other_classes_than_str_are_sent_as_they_read(net: Mesh) -> None:
    ada, bob, _ = net.peers
    events = bob.events(Message, Edited, Reaction, Presence, GroupChanged, Renamed)
    await ada.send("bob", Failing("one"), ref=Failing("ref"))
    await ada.send_many(Markup("bob"), [Failing("two"), "three"])
    sent = await ada.history("bob")
    await ada.edit(sent[0], Failing("1"))
    await ada.react(sent[1], Markup("👍"))
    await ada.send("bob", "look", files=[(Markup("name"), b"data")])
    await ada.keep_file(("name", b"data"), type=Markup("text/plain"))
    ada.set_presence(Markup("idle"), Failing("away"))
    await ada.create_group(Failing("ops"), [Markup("bob")])
    await ada.rename(Failing("eve"), Failing("about"))
    ada.events(consumer=Failing("mine")).close()
    with suppress(KeyError):
        ada.typing("bob", Undecided())  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        ada.set_presence("idle", 5)  # type: ignore[arg-type]
    async with within(WAIT, "the last event"):
        seen = [await anext(events)]
        while not isinstance(seen[-1], Renamed):
            seen.append(await anext(events))
    first, *others = [event.text for event in seen if isinstance(event, Message)]
    assert first in ("one", "1") and others == ["two", "three", "look"]
    assert ada.me.name == bob.user("eve").name == "eve"
    await (await ada.send("bob", "still here")).delivered(timeout=WAIT)


async def test_a_filter_of_logs_that_raises_ends_nothing_else(
    net: Mesh, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ada, bob, cyd = net.peers
    logger, failed = logging.getLogger("p2pchat.peer"), asyncio.Event()

    def fail(record: logging.LogRecord) -> bool:
        failed.set()
        raise KeyError

    with monkeypatch.context() as patch:
        patch.setattr(logger, "level", logging.INFO)
        patch.setattr(logger, "filters", [fail])
        logger.manager._clear_cache()  # type: ignore[attr-defined]
        net.partition([ada, bob], [cyd])
        async with within(WAIT, "the failure of the filter"):
            await failed.wait()
    logger.manager._clear_cache()  # type: ignore[attr-defined]
    assert "KeyError" in capsys.readouterr().err
    await (await ada.send("bob", "still here")).delivered(timeout=WAIT)


async def test_a_room_message_reaches_everyone_and_the_receipt_says_so(net: Mesh) -> None:
    ada, bob, cyd = net.peers
    receipt = await ada.broadcast("hello, mesh")
    assert {user.name for user in receipt.of} == {"bob", "cyd"}
    await receipt.delivered(timeout=60)
    assert receipt.status == "delivered"
    assert {user.name for user in receipt.delivered_to} == {"bob", "cyd"}
    assert await texts(bob) == await texts(cyd) == ["hello, mesh"]


async def test_a_direct_message_reaches_one_user_only(net: Mesh) -> None:
    ada, bob, cyd = net.peers
    await (await ada.send("bob", "psst")).delivered(timeout=60)
    await net.settle()
    assert await texts(bob, "ada") == ["psst"]
    assert [conversation.kind for conversation in cyd.conversations()] == ["room"]


async def test_a_message_after_an_edit_of_the_same_turn_keeps_its_place(ada: TCPPeer) -> None:
    first = await ada.send("bob", "frist")
    post = await ada.message(first.id)
    second = await ada.send("bob", "second")
    edit = ada._require_running().requests.write(post.log.user, post.log.conversation, "edit", ("first",), ref_of(post))
    others = [first, second, *await asyncio.gather(ada.send("bob", "third"), ada.send("bob", "fourth"))]
    assert [int(receipt.id.rpartition(".")[2]) for receipt in others] == [1, 2, 4, 5] and (await edit)[1] == 3
    await others[-1].delivered(timeout=60)
    wrote = await ada.history("bob")
    assert [post.text for post in wrote] == ["first", "second", "third", "fourth"]
    assert [post.id for post in wrote] == [receipt.id for receipt in others]


async def test_in_memory_a_message_just_sent_is_found_at_once(ada: TCPPeer) -> None:
    await ada.send("bob", "first")
    receipt = await ada.send("bob", "second")
    assert (await ada.message(receipt.id)).text == "second"
    receipt = await ada.send("bob", "third")
    assert [post.text for post in await ada.history("bob")] == ["first", "second", "third"]
    receipt = await ada.send("bob", "fourth")
    assert (await ada.receipt(receipt.id)).id == receipt.id


async def test_a_message_has_the_same_id_and_time_on_every_peer(net: Mesh) -> None:
    receipt = await net.peers[0].broadcast("one")
    await receipt.delivered(timeout=60)
    posts = [(await peer.history("room"))[0] for peer in net.peers]
    assert {post.id for post in posts} == {receipt.id}
    assert len({post.sent_at for post in posts}) == 1
    assert [type(post) for post in posts] == [Sent, Message, Message]


async def test_send_many_keeps_the_order_and_gives_a_receipt_for_each(net: Mesh) -> None:
    ada, bob, _ = net.peers
    said = [f"line {number}" for number in range(2500)]
    receipts = await ada.send_many("bob", said)
    await receipts.delivered(timeout=60)
    read = await bob.history("ada", limit=0)
    assert [message.text for message in read] == said
    assert [receipt.id for receipt in receipts] == [message.id for message in read]
    assert receipts[-1].id == read[-1].id
    assert [receipt.status for receipt in receipts[:2]] == ["delivered", "delivered"]
    with pytest.raises(IndexError):
        receipts[2500]


async def test_the_same_text_again_is_another_message(net: Mesh) -> None:
    """Messages are never compared by text: three times ok are three messages."""
    ada, bob, _ = net.peers
    async with bob.events(Message) as events:
        receipts = [await ada.broadcast("ok"), await ada.broadcast("ok"), *await ada.send_many("room", ["ok", "ok"])]
        await receipts[-1].delivered(timeout=60)
        came = [await anext(events) for _ in receipts]
    assert [message.id for message in came] == [receipt.id for receipt in receipts]
    assert [message.text for message in await bob.history("room")] == ["ok"] * 4


async def test_send_many_of_no_texts_returns_no_receipts(net: Mesh) -> None:
    receipts = await net.peers[0].send_many("bob", [])
    await receipts.delivered(timeout=60)
    assert list(receipts) == []


async def test_many_tasks_may_send_at_once_and_each_gets_its_own_receipt(net: Mesh) -> None:
    ada, bob, _ = net.peers
    receipts = await asyncio.gather(*(ada.send("bob", str(number)) for number in range(300)))
    await receipts[-1].delivered(timeout=60)
    by_id = {message.id: message.text for message in await bob.history("ada", limit=0)}
    assert [by_id[receipt.id] for receipt in receipts] == [str(number) for number in range(300)]


async def test_replies_and_texts_keep_their_order(net: Mesh) -> None:
    ada, bob, _ = net.peers
    first = await ada.send("bob", "first")
    said = [ada.send("bob", "a"), ada.send("bob", "b", reply_to=first.id), ada.send("bob", "c"), ada.send("room", "d")]
    await asyncio.gather(*said)
    await net.settle()
    read = await bob.history("ada")
    assert [message.text for message in read] == ["first", "a", "b", "c"]
    assert [message.reply_to for message in read] == [None, None, first.id, None]


async def test_a_cancelled_send_has_written_the_message(net: Mesh) -> None:
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
    await receipt.delivered(by="cyd", timeout=60)
    await receipt.delivered(count=1, timeout=60)
    with pytest.raises(DeliveryTimeout) as caught:
        await receipt.delivered(timeout=0.05)
    assert caught.value.missing == ["bob"]
    assert isinstance(caught.value, TimeoutError)
    net.heal()
    await receipt.delivered(timeout=60)


async def test_errors_of_waiting_say_what_was_waited_for(net: Mesh) -> None:
    ada, bob, cyd = net.peers
    net.partition([ada, cyd], [bob])
    receipt = await ada.broadcast("hello?")
    await receipt.delivered(by="cyd", timeout=60)
    with pytest.raises(DeliveryTimeout, match=r"^confirmed in time by 1 of the 2 asked for, not by bob; it is kept"):
        await receipt.delivered(count=2, timeout=0)
    alone = await ada.send("cyd", "you")
    await alone.delivered(timeout=60)
    with pytest.raises(DeliveryTimeout, match=r"^confirmed in time by 1 of the 5 asked for; it is kept") as caught:
        await alone.delivered(count=5, timeout=0)
    assert (caught.value.missing, caught.value.confirmed, caught.value.count) == ([], 1, 5)
    for me in ("ada", ada.me):
        with pytest.raises(ValueError, match="ada wrote the message: one's own copy is not counted"):
            await receipt.delivered(by=me, timeout=0)
    with pytest.raises(UnknownName, match=r"^the message was not for bob$"):
        await alone.delivered(by="bob", timeout=0)
    with pytest.raises(TimeoutError, match=r"^no Message or Left came within 0 s$"):
        await ada.wait_for(Message, Left, timeout=0)
    with pytest.raises(TimeoutError, match=r"^no event of the kind asked for came within 0.01 s$"):
        await ada.wait_for(where=lambda event: False, timeout=0.01)


async def test_errors_of_arguments_say_what_to_give(ada: TCPPeer) -> None:
    with pytest.raises(TypeError, match=r"^events takes classes of events, such as p2pchat.Message, not 'Message'$"):
        ada.events("Message")  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="holds a NUL character: remove it, or send the data as text, such as base64"):
        await ada.broadcast("a\0b")


async def test_waiting_for_two_ends_when_two_have_it(net: Mesh) -> None:
    ada, bob, _ = net.peers
    net.partition([ada], [bob], [net.peers[2]])
    receipt = await ada.broadcast("hello?")
    waiting = asyncio.create_task(receipt.delivered(count=2, timeout=60))
    net.heal()
    await waiting
    assert len(receipt.delivered_to) == 2
    with pytest.raises(ValueError):
        await receipt.delivered(count=0)


async def test_with_no_member_online_the_first_user_counts() -> None:
    async with mesh("ada") as net:
        receipt = await net.peers[0].broadcast("anybody?")
        assert receipt.of == []
        waiting = asyncio.create_task(receipt.delivered(timeout=60))
        await net.add("bob")
        await waiting
        assert [user.name for user in receipt.delivered_to] == ["bob"]


async def test_a_receipt_is_found_by_message_id_after_a_restart_too(net: Mesh) -> None:
    ada, bob, _ = net.peers
    old = await ada.send(bob.me.id, "remember")
    await old.delivered(timeout=60)
    await ada.send(bob.me.id, "one more")
    await net.settle()
    await net.crash(ada)
    ada = await net.restart(ada)
    receipt = await ada.receipt(old.id)
    await receipt.delivered(timeout=60)
    assert [user.name for user in receipt.of] == ["bob"]
    with pytest.raises(UnknownName):
        await bob.receipt(old.id)
    with pytest.raises(ValueError):
        await ada.receipt("nonsense")
    new = await ada.send(bob.me.id, "a number further is none")
    assert (await ada.receipt(new.id)).of == receipt.of
    with pytest.raises(UnknownName):
        await ada.receipt(f"{new.id[:64]}.{new.seq + 1}")


async def test_receipts_of_an_earlier_run_count_all_who_have_the_message(net: Mesh) -> None:
    ada, bob, cyd = net.peers
    net.partition([ada, cyd], [bob])
    old = await ada.broadcast("bob is away")  # the profile entry before it causes no event
    await old.delivered(by="cyd", timeout=60)
    await ada.broadcast("one more")
    await net.settle()
    await net.crash(ada)
    ada = await net.restart(ada)
    events = ada.events(Delivered)
    net.heal()
    await net.settle()
    told: dict[tuple[str, str], tuple[int, int]] = {}
    async with within(WAIT, "bob's receipt, after cyd's, which may come again"):
        while (old.id, "bob") not in told:
            event = await anext(events)
            told[event.id, event.user.name] = event.count, event.of
    assert told[old.id, "bob"] == (2, 2)


async def test_an_automatic_message_says_so_here_and_there(net: Mesh) -> None:
    ada, bob, _ = net.peers
    async with within(WAIT, "the messages"):
        await ada.send("bob", "before")
        await ada.send("bob", "I am away", automatic=True, files=[("plan", b"data")])
        await ada.send("bob", "still away", action=True, automatic=True, ref="7")
        await (await ada.send("bob", "after")).delivered()
        for posts in (await bob.history("ada"), await ada.history("bob")):
            assert [post.automatic for post in posts] == [False, True, True, False]
            assert [post.to_dict().get("automatic") for post in posts] == [None, True, True, None]
            assert [len(post.attachments) for post in posts] == [0, 1, 0, 0]


def test_what_send_takes_beside_its_text_all_take_that_write_one_message() -> None:
    send, several = inspect.signature(TCPPeer.send).parameters.values(), get_type_hints(MessageOptions)
    named = {one.name for one in send if one.kind is inspect.Parameter.KEYWORD_ONLY}
    assert several.keys() == named
    for function in (Message.reply, Conversation.send, TCPPeer.broadcast, TCPPeer.request, BotContext.reply):
        assert inspect.signature(function).parameters["options"].annotation == "Unpack[MessageOptions]", function


async def test_a_reply_and_its_siblings_take_what_send_takes(net: Mesh) -> None:
    ada, bob, _ = net.peers
    moment = datetime(2020, 1, 1, tzinfo=UTC)
    async with within(WAIT, "the messages"):
        await ada.send("bob", "shall we?")
        asked = await anext(bob.events(Message))
        await asked.reply("so?", files=[("plan", b"data")], choices=("yes", "no"), hops=2, ref="7")
        await asked.reply("by itself", automatic=True, claimed_at=moment)
        await asked.conversation.send("there", asked, files=[("plan", b"data")], automatic=True, hops=3)
        await (await bob.broadcast("all", choices=("a", "b"), automatic=True)).delivered()
        _, one, other, third = await bob.history("ada")
        [told] = await ada.history("room")
    assert (one.reply_to, len(one.attachments), one.choices, one.hops, one.ref) == (asked.id, 1, ("yes", "no"), 2, "7")
    assert (other.reply_to, other.automatic, other.claimed_at, one.automatic) == (asked.id, True, moment, False)
    assert (third.reply_to, len(third.attachments), third.automatic, third.hops) == (asked.id, 1, True, 3)
    assert (told.choices, told.automatic) == (("a", "b"), True)


async def test_who_is_asked_presses_a_choice_and_everybody_sees_who_decided(net: Mesh) -> None:
    ada, bob, cyd = net.peers
    async with within(WAIT, "the question, and the answers"):
        asked = await ada.send("room", "deploy?", choices=["yes", "no"], hops=1)
        await ada.send("room", "just saying")
        await net.settle()
        for peer in net.peers:
            question, other = await peer.history("room")
            assert (question.choices, question.hops, other.choices, other.hops) == (("yes", "no"), 1, (), 0)
            assert (question.to_dict()["choices"], question.to_dict()["hops"]) == (["yes", "no"], 1)
            assert not {"choices", "hops"} & other.to_dict().keys()
        presses = ada.events(Reaction)
        await bob.react(asked.id, question.choices[1])
        await net.settle()
        await cyd.react(asked.id, "yes")  # as typed by somebody who sees no choices
        pressed = [await anext(presses), await anext(presses)]
        assert [(one.by.name, one.reaction, one.id) for one in pressed] == [
            ("bob", "no", asked.id),
            ("cyd", "yes", asked.id),
        ]


async def test_a_message_with_choices_can_be_deleted_and_not_edited(net: Mesh) -> None:
    ada, bob, _ = net.peers
    asked = await ada.send("bob", "deploy?", choices=("yes", "no"))
    [sent] = await ada.history("bob")
    for message in (asked.id, sent):
        with pytest.raises(ValueError, match="a message with choices cannot be edited: delete it and ask again"):
            await ada.edit(message, "delete all?")
    edits = bob.events(Edited, Deleted)
    me, key = ada.me.key, sent.log.conversation  # as a program that does not know choices
    await ada._require_running().requests.write(me, key, "edit", ["delete all?"], ref_of(sent))
    await net.settle()
    for peer in (ada, bob):
        [post] = await peer.history("ada" if peer is bob else "bob")
        assert (post.text, post.edited, post.choices) == ("deploy?", False, ("yes", "no"))
        assert [[one.id for one in await peer.search(word)] for word in ("deploy", "delete")] == [[asked.id], []]
    await ada.delete(asked.id)
    async with within(WAIT, "the deletion, and no edit before it"):
        deleted = await anext(edits)
    assert isinstance(deleted, Deleted) and deleted.message.choices == () and "choices" not in deleted.message.to_dict()


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"choices": ["yes"]}, "a message has 2 to 6 choices, not 1"),
        ({"choices": ["yes", "no"], "action": True}, "only a text or a poll has choices, no action"),
        ({"choices": "yes"}, "choices takes several, as a list: this is one str"),
        ({"choices": [1, 2]}, "a text is a str, not int"),
        ({"hops": 256}, "hops are 0 to 255, not 256"),
        ({"hops": "1"}, "hops are an int, not str"),
    ],
)
async def test_choices_and_hops_of_another_form_are_refused(net: Mesh, more: dict[str, Any], why: str) -> None:
    ada, *_ = net.peers
    with pytest.raises((ValueError, TypeError), match=why):
        await ada.send("room", "deploy?", **more)
    assert await ada.history("room") == []


async def test_a_claimed_time_changes_no_order(net: Mesh) -> None:
    ada, bob, _ = net.peers
    long_ago, far_off = (
        datetime(1999, 12, 31, 23, 59, tzinfo=UTC),
        datetime(2200, 1, 1, tzinfo=timezone(timedelta(hours=2))),
    )
    sent = [await ada.send("bob", f"{claim}", claimed_at=claim) for claim in (far_off, None, long_ago)]
    await sent[-1].delivered(timeout=60)
    read = await bob.history("ada")
    assert [message.id for message in read] == [receipt.id for receipt in sent]
    assert [message.claimed_at for message in read] == [far_off, None, long_ago]
    assert read == sorted(read, key=lambda message: message.sent_at) and read[0].sent_at < far_off
    for claim in (datetime(2020, 1, 1), datetime(1969, 12, 31, tzinfo=UTC), datetime(2256, 1, 1, tzinfo=UTC)):
        with pytest.raises(ValueError):
            await ada.send("bob", "never", claimed_at=claim)


async def test_an_invalid_text_is_refused_before_anything_is_written(ada: TCPPeer) -> None:
    with pytest.raises(TooLong) as caught:
        await ada.broadcast("é" * 20_000)
    assert (caught.value.limit_bytes, caught.value.size_bytes) == (32 * 1024, 40_000)
    with pytest.raises(TooLong, match=r"escaped, has 120\d\d\d bytes of UTF-8, the limit is 63488: send it in parts"):
        await ada.broadcast("\x1b" * 20_000)  # each is six bytes on the wire
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


@pytest.mark.parametrize("text", ["x" * 32_769, "\x1b" * 12_000])
async def test_a_limit_is_enforced_before_anything_is_accepted(text: str) -> None:
    async with mesh("ada") as net:
        ada = net.peers[0]
        await ada.broadcast("first")  # from here on the number of the next one is known at once
        with pytest.raises(TooLong):
            await ada.broadcast(text)
        await ada.broadcast("last")
        assert await texts(ada) == ["first", "last"]


async def test_a_reply_belongs_to_the_conversation_of_its_message(ada: TCPPeer) -> None:
    receipt = await ada.broadcast("in the room")
    with pytest.raises(ValueError):
        await ada.send("bob", "elsewhere", reply_to=receipt.id)


async def test_an_invalid_status_is_refused(net: Mesh) -> None:
    ada, bob, _ = net.peers
    for wrong in ("x" * 513, "nul \0 inside", "half \ud800"):
        with pytest.raises(ValueError):
            ada.set_presence("idle", wrong)
    ada.set_presence("idle", "é" * 512)
    await net.settle()
    assert bob.user("ada").status_text == "é" * 512
    await ada.broadcast("still here")


async def test_a_change_of_presence_reaches_all(net: Mesh) -> None:
    ada, *others = net.peers
    heard = [other.events(Presence, consumer=None) for other in others]
    ada.set_presence("idle", "lunch")
    for other, events in zip(others, heard, strict=True):
        event = await anext(events)
        assert (event.user, event.status, event.text) == (ada.me, "idle", "lunch")
        assert (event.user.status, event.user.status_text, event.user.since) == ("idle", "lunch", event.since)
        assert other.me.status == "online"
    assert ada.me.status == "idle"
    ada.set_presence("online")
    ada.set_presence("idle", "gone home")  # the newest one counts, and comes as soon
    for events in heard:
        async with asyncio.timeout(60):
            async for event in events:
                if event.text == "gone home":
                    break


async def test_a_status_holds_since_somebody_set_it(net: Mesh) -> None:
    """A program that comes and goes sets none, and so is told from people."""
    ada, bob, _ = net.peers
    assert (ada.user("bob").status, ada.user("bob").since) == ("online", None)
    events = ada.events(Presence, consumer=None)
    bob.set_presence("online")
    assert (await anext(events)).since == bob.me.since == ada.user("bob").since
    assert bob.me.since is not None and abs((bob.me.since - bob.listening.at).total_seconds()) < 60


async def test_idle_users_are_here_and_offline_ones_are_not(net: Mesh) -> None:
    ada, bob, cyd = net.peers
    assert {user.key for user in cyd.here()} == {peer.me.key for peer in net.peers}
    events = cyd.events(Presence, consumer=None)
    ada.set_presence("idle", "lunch")
    assert (await anext(events)).user == ada.me
    bob.set_presence("offline")
    assert (await anext(events)).user == bob.me
    assert set(cyd.here()) == {ada.me, cyd.me} and bob.me not in bob.here()


async def typing(events: object) -> tuple[str, str, bool]:
    async with asyncio.timeout(60):
        event = await anext(events)  # type: ignore[call-overload]
    return event.user.name, event.conversation.name, event.typing


async def test_typing_is_shown_to_readers_and_ends_with_the_message(net: Mesh) -> None:
    ada, bob, cyd = net.peers
    to_bob, to_cyd = bob.events(Typing, consumer=None), cyd.events(Typing, consumer=None)
    ada.typing("bob")
    assert await typing(to_bob) == ("ada", "ada", True)
    heard = bob.events(Message, consumer=None)
    await ada.send("bob", "psst")
    assert (await anext(heard)).text == "psst"
    assert await typing(to_bob) == ("ada", "ada", False)
    ada.room.typing()
    assert await typing(to_cyd) == ("ada", "room", True)  # and nothing before: a direct conversation is hidden


async def test_typing_in_a_group_is_shown_to_its_members_only(net: Mesh) -> None:
    ada, bob, cyd = net.peers
    ops = await ada.create_group("ops", ["bob", "cyd"])
    await (await ops.send("welcome")).delivered(timeout=60)
    to_bob, to_cyd = bob.events(Typing, consumer=None), cyd.events(Typing, consumer=None)
    ops.typing()
    assert await typing(to_bob) == await typing(to_cyd) == ("ada", "ops", True)
    await ops.remove(cyd.me)
    await (await ops.send("between us")).delivered(by="bob", timeout=60)
    assert await typing(to_bob) == ("ada", "ops", False)
    bob.find("#ops").typing()
    bob.typing("cyd")
    while (heard := await typing(to_cyd)) == ("ada", "ops", False):
        pass  # the last event as a member
    assert heard == ("bob", "bob", True)  # and nothing before


async def test_who_is_removed_from_a_group_types_no_more() -> None:
    async with mesh("ada", "bob", "cyd", settings=Settings(typing_expires=3600.0)) as net:
        ada, bob, cyd = net.peers
        ops = await ada.create_group("ops", ["bob", "cyd"])
        await net.settle()
        events = [peer.events(Typing, consumer=None) for peer in (ada, bob)]
        cyd.find("#ops").typing()
        assert [await typing(seen) for seen in events] == [("cyd", "ops", True)] * 2
        await ops.remove("cyd")
        assert [await typing(seen) for seen in events] == [("cyd", "ops", False)] * 2


async def test_the_end_of_typing_is_an_event() -> None:
    async with mesh("ada", "bob") as net:
        ada, bob = net.peers
        events = bob.events(Typing, consumer=None)
        ada.find("bob").typing()
        assert await typing(events) == ("ada", "ada", True)
        ada.typing("bob", on=False)
        assert await typing(events) == ("ada", "ada", False)


async def test_typing_raises_for_unknown_names_and_closed_peers(net: Mesh) -> None:
    ada: TCPPeer = net.peers[0]
    with pytest.raises(UnknownName):
        ada.typing("nobody")
    await ada.aclose()
    with pytest.raises(PeerClosed):
        ada.typing("bob")


async def cancel_wait(doing: Coroutine[object, object, None]) -> None:
    """Wait for it, and cancel the wait after the work has begun."""
    waiting = asyncio.create_task(run_to_completion(doing))
    await asyncio.sleep(0)  # the task starts, then the work
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_a_change_runs_to_completion_when_its_caller_is_cancelled() -> None:
    gate, done = asyncio.Event(), list[str]()

    async def doing() -> None:
        done.append("half")
        await gate.wait()
        done.append("all")

    await cancel_wait(doing())
    gate.set()
    await asyncio.sleep(0)  # the work ends
    assert done == ["half", "all"]


async def test_a_failure_without_a_caller_is_not_logged() -> None:
    gate, troubles = asyncio.Event(), list[object]()
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: troubles.append(context))

    async def failing() -> None:
        await gate.wait()
        raise ValueError("too late")

    await cancel_wait(failing())
    gate.set()
    for _ in range(3):
        await asyncio.sleep(0)  # the work ends within 3 turns
    gc.collect()
    assert troubles == []


def parameters(*words: str) -> set[tuple[str, str]]:
    """Return the public calls of a peer and its receipts with a parameter whose type begins with one of these words."""
    return {
        (f"{cls.__name__}.{name}", one.name)
        for cls in (TCPPeer, Receipt, Receipts)
        for name, function in inspect.getmembers(cls, inspect.isfunction)
        if not name.startswith("_")
        for one in inspect.signature(function).parameters.values()
        if one.kind is not inspect.Parameter.VAR_POSITIONAL and str(one.annotation).startswith(words)
    }


async def test_what_takes_several_refuses_one_and_says_so(net: Mesh) -> None:
    ada, *_ = net.peers
    one: Any = "room"
    calls: dict[tuple[str, str], Callable[[], Awaitable[Any]]] = {
        ("TCPPeer.create_group", "members"): lambda: ada.create_group("ops", one),
        ("TCPPeer.send", "choices"): lambda: ada.send("room", "deploy?", choices=one),
        ("TCPPeer.send_many", "texts"): lambda: ada.send_many("room", one),
        ("TCPPeer.poll", "options"): lambda: ada.poll("room", "which?", one),
        ("TCPPeer.released", "kinds"): lambda: ada.released(kinds=one),
        ("TCPPeer.make_invite", "at"): lambda: ada.make_invite(at=one),
    }
    path_of_one = ("TCPPeer.send", "files")
    assert {*calls, path_of_one} == parameters("Sequence[", "Collection[")
    for (_, name), call in calls.items():
        with pytest.raises(TypeError, match=f"^{name} takes several, as a list: this is one str$"):
            await call()
    assert await ada.history("room") == [] and ada.groups() == []


async def test_the_path_of_one_file_is_one_file(net: Mesh, tmp_path: Path) -> None:
    ada, *_ = net.peers
    (tmp_path / "plan.txt").write_bytes(b"data")
    for files in (str(tmp_path / "plan.txt"), tmp_path / "plan.txt"):
        await ada.send("room", "look", files=files)
    assert [[file.name for file in post.attachments] for post in await ada.history("room")] == [["plan.txt"]] * 2


async def test_a_timeout_of_another_type_says_what_it_is(net: Mesh) -> None:
    ada, bob, _ = net.peers
    wrong: Any = "5"
    receipt, receipts = await ada.send("bob", "hi"), await ada.send_many("bob", ["a", "b"])
    calls: dict[str, Callable[[], Awaitable[Any]]] = {
        "Receipt.delivered": lambda: receipt.delivered(timeout=wrong),
        "Receipt.read": lambda: receipt.read(timeout=wrong),
        "Receipt.stored_by": lambda: receipt.stored_by(timeout=wrong),
        "Receipts.delivered": lambda: receipts.delivered(timeout=wrong),
        "Receipts.read": lambda: receipts.read(timeout=wrong),
        "TCPPeer.connect": lambda: ada.connect(bob.endpoint, timeout=wrong),
        "TCPPeer.request": lambda: ada.request("bob", "are you there?", timeout=wrong),
        "TCPPeer.start": lambda: ada.start(timeout=wrong),
        "TCPPeer.wait_for": lambda: ada.wait_for(Message, timeout=wrong),
        "TCPPeer.wait_user": lambda: ada.wait_user("bob", timeout=wrong),
    }
    with_files = await ada.send("bob", "hi", files=[("plan", b"data")])
    calls["Receipt.files_delivered"] = lambda: with_files.files_delivered(timeout=wrong)
    assert calls.keys() == {name for name, parameter in parameters("float") if parameter == "timeout"}
    for call in calls.values():
        with pytest.raises(TypeError, match=r"^timeout is a number of seconds, not str$"):
            await call()


async def test_a_request_returns_the_reply_to_it_or_says_what_became_of_it(net: Mesh) -> None:
    ada, bob, cyd = net.peers

    async def answer() -> None:
        async for message in bob.events(Message):
            await bob.send("ada", "not a reply")
            if message.text == "2+2":
                await message.reply("4")

    answering = asyncio.create_task(answer())
    async with within(WAIT, "the reply"):
        reply = await ada.request("bob", "2+2", choices=("3", "4"), timeout=WAIT)
    assert (reply.text, reply.sender.name) == ("4", "bob")
    [asked] = [post for post in await ada.history("bob") if post.id == reply.reply_to]
    assert (asked.text, asked.choices) == ("2+2", ("3", "4"))
    with pytest.raises(TimeoutError, match=r"^no reply came within 0\.1 s: the message is (accepted|delivered)$"):
        await ada.request("bob", "and you?", timeout=0.1)
    answering.cancel()
    waiting = asyncio.create_task(ada.request("cyd", "later?"))
    await cyd.events(Message).__anext__()
    await ada.aclose()
    with pytest.raises(PeerClosed):
        await waiting
