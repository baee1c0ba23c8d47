"""History: pages, and one order everywhere."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from p2pchat.testing import Mesh


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
