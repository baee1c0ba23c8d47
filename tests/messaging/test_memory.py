"""Peers in memory: a message is accepted at once, and whatever asks for it afterwards finds it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from p2pchat import Message, P2PChatError, TCPPeer
from tests.deadlines import WAIT

Pair = tuple[TCPPeer, TCPPeer]


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    """Return two linked peers in memory."""
    async with TCPPeer(0, name="ada", db="memory://") as ada, TCPPeer(0, name="bob", db="memory://") as bob:
        assert await ada.connect(f"127.0.0.1:{bob.port}", timeout=WAIT)
        await ada.wait_user("bob", timeout=WAIT)
        yield ada, bob


async def test_what_was_sent_in_a_loop_has_ids_and_comes_in_order(pair: Pair) -> None:
    ada, bob = pair
    texts = [f"message {number}" for number in range(1000)]
    receipts = [await ada.send("bob" if number % 3 else ada.room, text) for number, text in enumerate(texts)]
    assert [post.id for post in await ada.history(limit=1000)] == [receipt.id for receipt in receipts]
    assert [user.name for user in receipts[0].of] == ["bob"]
    await receipts[-1].delivered(timeout=WAIT)
    await receipts[-3].delivered(timeout=WAIT)
    assert not receipts[0].missing
    assert [post.text for post in await bob.history(limit=1000)] == texts


async def test_an_id_can_be_asked_before_anything_else_had_a_turn(pair: Pair) -> None:
    ada, _ = pair
    receipt = await ada.broadcast("now")
    other = await ada.broadcast("then")
    assert other.log == receipt.log and other.seq == receipt.seq + 1
    assert (await ada.message(receipt.id)).text == "now"


async def test_a_search_and_a_list_find_what_was_just_sent(pair: Pair) -> None:
    ada, _ = pair
    await ada.send("bob", "needle")
    assert [post.text for post in await ada.history("bob")] == ["needle"]
    assert [hit.text for hit in await ada.search("needle")] == ["needle"]


async def test_who_closes_at_once_has_sent() -> None:
    async with TCPPeer(0, name="bob", db="memory://") as bob:
        events = bob.events(Message, consumer=None)
        async with TCPPeer(0, name="ada", db="memory://") as ada:
            assert await ada.connect(f"127.0.0.1:{bob.port}", timeout=WAIT)
            await (await ada.broadcast("message 0")).delivered(timeout=WAIT)
            for number in range(1, 10):
                await ada.broadcast(f"message {number}")
        async with asyncio.timeout(WAIT):
            assert [(await anext(events)).text for _ in range(10)] == [f"message {number}" for number in range(10)]


async def test_a_refusal_reaches_its_caller(pair: Pair) -> None:
    ada, bob = pair
    group = await ada.create_group("ops", ["bob"])
    async with asyncio.timeout(WAIT):
        while not bob.groups():
            await asyncio.sleep(0.01)  # poll: the group comes to bob
    await group.remove("bob")
    async with asyncio.timeout(WAIT):
        while bob.group("#ops").is_member:
            await asyncio.sleep(0.01)  # poll: the removal comes to bob
    with pytest.raises(P2PChatError, match="only members can write"):
        await bob.send("#ops", "am I still in?")
