"""Stored messages: pages, search, single messages, released and unread ones."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from p2pchat import Receipt, Settings, TCPPeer, UnknownName, open_history
from p2pchat.core.node_context import Now
from p2pchat.messaging import search_indexer
from p2pchat.storage.contract import ReleasedEntry
from p2pchat.testing import Mesh


async def test_a_search_finds_the_newest_oldest_first(net: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_indexer, "FOUND_AT_ONCE", (2, 2))  # so that the index is asked often
    ada, bob, cyd = net.peers
    for number in range(8):
        await ada.broadcast(f"Tea number {number} at the STRASSE")
        await bob.broadcast("nothing of the kind")
    await ada.send("bob", "tea for two, number 9")
    await net.settle()
    found = await cyd.search("tea number", limit=3)
    assert [post.text for post in found] == [f"Tea number {number} at the STRASSE" for number in (5, 6, 7)]
    older = await cyd.search("TEA", "room", before=found[0], limit=2)
    assert [post.text[11] for post in older] == ["3", "4"]
    assert [post.text for post in await bob.search("number tea two")] == ["tea for two, number 9"]
    assert [post.text for post in await bob.search("two", bob.find("ada"))] == ["tea for two, number 9"]
    assert await bob.search("two", "room") == []
    assert await cyd.search("two") == []
    assert len(await ada.search("straße")) == 8
    assert await ada.search("tea", since=datetime.now(UTC) + timedelta(hours=1)) == []


@pytest.mark.parametrize(("words", "limit"), [("", 50), ("  ", 50), ("tea", 0)])
async def test_a_search_for_nothing_is_refused(net: Mesh, words: str, limit: int) -> None:
    with pytest.raises(ValueError):
        await net.peers[0].search(words, limit=limit)


async def test_a_message_is_found_by_its_id(net: Mesh) -> None:
    ada, bob, cyd = net.peers
    first = await ada.broadcast("are you there?")
    secret = await ada.send("bob", "psst")
    await net.settle()
    assert (await cyd.message(first.id)).text == "are you there?"
    assert (await ada.message(secret.id)).event == "sent"
    answer = await (await bob.message(first.id)).reply("yes")
    await net.settle()
    reply = await cyd.message(answer.id)
    assert reply.reply_to is not None and (await cyd.message(reply.reply_to)).sender.name == "ada"
    with pytest.raises(UnknownName):
        await cyd.message(secret.id)
    with pytest.raises(UnknownName):
        await cyd.message(first.id.partition(".")[0] + ".999")
    with pytest.raises(ValueError):
        await cyd.message("psst")


async def test_an_offline_history_can_be_searched(tmp_path: Path) -> None:
    async with TCPPeer(0, data=tmp_path / "ada", name="ada", settings=Settings(start_timeout=0.0)) as ada:
        receipt = await ada.broadcast("remember the milk")
        await ada.broadcast("and the bread")
    async with open_history(tmp_path / "ada") as history:
        assert [post.text for post in await history.search("milk", "room")] == ["remember the milk"]
        assert (await history.message(receipt.id)).text == "remember the milk"


async def test_a_receipt_names_who_lacks_it(net: Mesh) -> None:
    ada, _, cyd = net.peers
    await net.crash(cyd)
    receipt: Receipt = await ada.send("cyd", "for later")
    assert (receipt.status, [user.name for user in receipt.missing]) == ("accepted", ["cyd"])
    cyd = await net.restart(cyd)
    await receipt.delivered(timeout=60)
    assert (receipt.status, receipt.missing) == ("delivered", [])


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
    assert [post.id for post in await cyd.history("room", limit=0)] == orders[0]
    assert await ada.history(since=datetime.now(UTC) + timedelta(hours=1)) == []
    with pytest.raises(ValueError):
        await ada.history(limit=-1)


async def test_history_of_all_conversations_is_one_order(ada: TCPPeer) -> None:
    await ada.broadcast("one")
    await ada.send("bob", "two")
    await ada.send(ada.me, "three")
    await ada.broadcast("four")
    assert [post.text for post in await ada.history()] == ["one", "two", "three", "four"]
    assert [post.text for post in await ada.history(limit=2)] == ["three", "four"]


async def test_a_clock_that_was_ahead_for_one_message_hides_no_later_one(tmp_path: Path) -> None:
    async with (
        TCPPeer(name="ada", data=tmp_path / "ada") as ada,
        TCPPeer(0, ada.endpoint, name="bob", data=tmp_path / "bob") as bob,
    ):
        for text in ("some", "older", "ones"):
            receipt = await bob.broadcast(text)
        await receipt.delivered()
        driver = ada._lifecycle.started_driver
        right = driver._now
        driver._now = lambda: Now(right().mono, right().utc + 7_200_000_000)
        receipt = await ada.broadcast("before the clock was set")
        await receipt.delivered()
        driver._now = right
        for text in ("one", "two", "three"):
            receipt = await ada.broadcast(text)
            await receipt.delivered()
        for peer in (ada, bob):
            last = await peer.history(limit=3)
            assert [post.text for post in last] == ["one", "two", "three"]
            assert all(abs(post.sent_at - datetime.now(UTC)) < timedelta(minutes=5) for post in last)


async def test_released_returns_what_was_shown_from_a_moment_on(net: Mesh) -> None:
    ada, bob, _ = net.peers
    for number in range(40):
        await ada.send("bob", str(number))
        await net.settle()
    shown = await bob.released(kinds=("dm",))
    for first in (0, 1, 17, 38, 39):
        at = shown[first].received_at
        since_then = [post.text for post in shown if post.received_at >= at]  # several where a clock is coarse
        assert [post.text for post in await bob.released(at)] == since_then
    assert await bob.released(shown[-1].received_at + timedelta(microseconds=1)) == []
    assert len(await bob.released(datetime(2020, 1, 1, tzinfo=UTC), limit=3)) == 3


async def test_a_message_that_is_not_here_was_written_after_those_before_it_in_its_log(net: Mesh) -> None:
    ada, bob, _ = net.peers
    zoe = await bob.host("zoe")
    await ada.send("zoe", "one")
    last = await ada.send("zoe", "two")
    await net.settle()
    log, number = last.id.split(".")
    assert await zoe.written_before(f"{log}.{int(number) + 5}") == (await zoe.message(last.id)).sent_at
    assert await zoe.written_before(last.id) == (await zoe.history("ada"))[0].sent_at
    assert await zoe.written_before(f"{log}.1") is None
    assert await zoe.written_before("BVMRTKYYVIBVXDV5L7KR6J7XCHUILOF7XZ4FYNYZJYSOV3UUSNUGY2XM344OGAB6.2") is None


async def test_released_returns_what_was_shown_since_a_message(net: Mesh) -> None:
    ada, bob, cyd = net.peers
    await ada.send("bob", "before")
    await net.settle()
    await ada.broadcast("seen")
    await net.settle()
    seen = (await bob.released(kinds=("room",)))[-1]
    net.partition([cyd], [ada, bob])
    await cyd.broadcast("written early, shown late")
    await ada.send("bob", "psst")
    await net.settle()
    net.heal()
    await net.settle()
    assert [post.text for post in await bob.released(seen)] == ["psst", "written early, shown late"]
    assert [post.text for post in await bob.released(seen, kinds=("dm",))] == ["psst"]
    assert [post.text for post in await bob.released(seen, limit=1)] == ["psst"]
    newest = (await bob.released(seen))[-1]
    assert await bob.released(newest) == []
    with pytest.raises(ValueError, match="1 message or more"):
        await bob.released(limit=0)


async def test_pages_of_released_leave_out_what_is_no_message_at_little_cost(
    net: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada, bob, _ = net.peers
    await ada.broadcast("first")
    for number in range(100):
        await ada.rename(f"ada{number}")
    said = [f"message {number}" for number in range(10)]
    for text in said:
        await ada.broadcast(text)
    await net.settle()
    first = (await bob.released(kinds=("room",), limit=1))[0]
    storage, reads = bob._driver.disk.storage, [0]
    places = storage.places

    def count(*words: Any) -> list[ReleasedEntry]:
        reads[0] += 1
        return places(*words)

    monkeypatch.setattr(storage, "places", count)
    pages, last = [], first
    while page := await bob.released(last, kinds=("room",), limit=4):
        pages.append([post.text for post in page])
        last = page[-1]
    assert (pages, reads[0]) == ([said[:4], said[4:8], said[8:]], 6)


async def test_released_misses_no_conversation_that_begins_while_it_reads(tmp_path: Path) -> None:
    """A later message of a known conversation never comes before the first one of a new conversation."""
    async with TCPPeer(0, data=tmp_path / "ada", name="ada", settings=Settings(start_timeout=0.0)) as ada:
        bob, cyd = await ada.host("bob"), await ada.host("cyd")
        await cyd.send("ada", "one")
        known = await ada.broadcast("before")
        after = await bob.message(known.id)
        is_free, disk = Event(), bob._lifecycle.started_driver.disk
        held = asyncio.create_task(disk.read(is_free.wait))  # as a reader with much to do
        try:
            await asyncio.sleep(0)
            reading = asyncio.create_task(bob.released(after))
            await asyncio.sleep(0)
            await ada.send("bob", "the first one")
            await ada.broadcast("a later one")
        finally:
            is_free.set()
        await held
        shown = await reading
        while page := await bob.released(shown[-1] if shown else after):
            shown += page
        assert [post.text for post in shown] == ["the first one", "a later one"]


async def test_the_place_of_a_consumer_is_stored_and_never_goes_back(net: Mesh) -> None:
    ada, bob, _ = net.peers
    zoe = await bob.host("zoe")
    for text in ("one", "two", "three"):
        await ada.send("zoe", text)
        await ada.send("bob", text)
    await net.settle()
    one, two, three = await zoe.released(consumer="phone", kinds=("dm",))
    zoe.hand_on(two, "phone")
    zoe.hand_on(one, "phone")
    assert await zoe.released(consumer="phone", kinds=("dm",)) == [three]
    await bob.broadcast("saved with the next commit, or soon")
    await net.crash(bob)
    bob = await net.restart(bob)
    [zoe] = bob.hosted
    assert [post.text for post in await zoe.released(consumer="phone", kinds=("dm",))] == ["three"]
    assert await bob.released(consumer="new", kinds=("dm",)) == []


async def test_messages_of_others_are_unread_until_marked_over_restarts(net: Mesh) -> None:
    ada, bob, cyd = net.peers
    for text in ("one", "two", "three"):
        await ada.send("bob", text)
    await bob.send("ada", "my own is not")
    await net.settle()
    unread = await bob.unread("ada")
    assert [message.text for message in unread] == ["one", "two", "three"]
    assert await bob.unread("ada", limit=2) == unread[:2]
    assert await bob.unread("ada", max_bytes=len(unread[0].text) + 1) == unread[:2]
    unread[1].mark_read()
    await net.settle()
    assert [message.text for message in await bob.unread("ada")] == ["three"]
    for peer in (ada, bob):
        await peer.aclose()
        await net.restart(peer)
    ada, bob, cyd = net.peers
    await net.settle()
    assert [message.text for message in await bob.unread("ada")] == ["three"]
    await ada.send("bob", "four, in another run of its writer")
    await net.settle()
    assert [message.text for message in await bob.unread("ada")] == ["three", "four, in another run of its writer"]
    (await bob.unread("ada"))[-1].mark_read()
    await net.settle()
    assert await bob.unread("ada") == [] == await cyd.unread("room")


async def test_without_receipts_what_was_read_is_not_unread_after_a_restart(net: Mesh) -> None:
    ada, bob, _ = net.peers
    await bob.set_receipts(False, "ada")
    await ada.send("bob", "one")
    await net.settle()
    [one] = await bob.unread("ada")
    one.mark_read()
    await ada.send("bob", "two")
    await net.settle()
    assert [message.text for message in await bob.unread("ada")] == ["two"]
    await bob.aclose()
    bob = await net.restart(bob)
    assert [message.text for message in await bob.unread("ada")] == ["two"]


async def test_messages_of_ignored_users_are_not_unread(net: Mesh) -> None:
    ada, bob, _ = net.peers
    await ada.broadcast("noise")
    await net.settle()
    assert len(await bob.unread("room")) == 1
    await bob.ignore("ada")
    assert await bob.unread("room") == []


async def test_messages_from_before_a_user_was_hosted_are_not_unread(net: Mesh) -> None:
    ada, bob, _ = net.peers
    await ada.broadcast("before")
    await net.settle()
    zoe = await bob.host("zoe")
    await ada.broadcast("after")
    await net.settle()
    assert [message.text for message in await zoe.unread("room")] == ["after"]
