"""Carried links of real peers: what a third carries arrives whole, in order, and to its last word."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from p2pchat import Left, Message, TCPPeer
from p2pchat.testing.meshes import Mesh, mesh
from tests.deadlines import until, within


@pytest.fixture
async def net() -> AsyncIterator[Mesh]:
    """Yield a mesh of rita, ada and bob, of whom ada and bob cannot connect with each other."""
    async with mesh("rita") as net:
        net.network.separate("ada", "bob")
        await net.add("ada")
        await net.add("bob")
        rita, ada, bob = net.peers
        await until(lambda: carrier(ada, bob) == carrier(bob, ada) == rita.me.key, "the carried link")
        yield net


def carrier(one: TCPPeer, other: TCPPeer) -> str | None:
    """Return who carries the link of a peer with another one, "" if nobody does; None if there is no link."""
    link = one._driver.node.links.by_peer.get(other.me.key)
    return None if link is None else link.carrier


async def test_texts_of_many_windows_arrive_in_order_and_stay_unread_on_the_way(net: Mesh) -> None:
    rita, ada, bob = net.peers
    texts = [f"{number} " + "secret " * 2_000 for number in range(100)]  # 1.4 MB
    events = bob.events()
    receipts = [await ada.send("bob", text) for text in texts]
    await asyncio.gather(*(receipt.delivered() for receipt in receipts))
    came = list[str]()
    async with within(60, "all texts"):
        async for event in events:
            if isinstance(event, Message):
                came.append(event.text)
                if len(came) == len(texts):
                    break
    assert came == texts
    conversations = rita._driver.node.replicator.conversations
    assert [id for id, one in conversations.items() if one.writers] == [rita._driver.node.room]


async def test_who_leaves_says_so_through_the_carrier(net: Mesh) -> None:
    _, ada, bob = net.peers
    events = bob.events()
    await ada.aclose()
    async with within(60, "the departure"):
        async for event in events:
            if isinstance(event, Left):
                assert (event.user.name, event.reason) == ("ada", "left")
                break


async def test_a_direct_way_takes_the_place_of_a_carried_one(net: Mesh) -> None:
    _, ada, bob = net.peers
    events = bob.events()
    net.heal()
    await until(lambda: carrier(ada, bob) == carrier(bob, ada) == "", "a direct link")
    await (await ada.send("bob", "directly")).delivered()
    async with within(60, "the text"):
        async for event in events:
            assert not isinstance(event, Left)
            if isinstance(event, Message):
                break
    assert not ada._driver.connections._circuits and not bob._driver.connections._circuits


async def test_a_carrier_that_ends_leaves_nothing_of_its_circuits(net: Mesh) -> None:
    rita, ada, bob = net.peers
    await net.crash(rita)
    await until(lambda: carrier(ada, bob) is None and carrier(bob, ada) is None, "the end of the carried link")
    for peer in (ada, bob):
        assert not peer._driver.connections._circuits
        assert not peer._driver.node.links.circuits.legs
