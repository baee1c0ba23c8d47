"""Long tests of `tests/messaging/test_hosted_user.py`."""

from __future__ import annotations

import asyncio

from p2pchat import (
    Delivered,
    Sent,
    TCPPeer,
)
from p2pchat.testing import Mesh
from tests.deadlines import WAIT
from tests.messaging.test_hosted_user import net as net  # fixture


async def test_a_thousand_users_cost_one_link_and_little_else(net: Mesh) -> None:
    gate, bob = net.peers
    gathered = [gate.host(f"user {number}") for number in range(1000)]
    users = await asyncio.gather(*gathered)
    assert len({user.key for user in users}) == len(gate.hosted) == 1000 and len(gate.links()) == 1
    for user in users:
        user.set_presence("online")
    await bob.wait_user("user 999", timeout=WAIT)
    everybody = gate.hosting.everybody(Sent, Delivered)
    receipt = await users[0].broadcast("hello, all of you")
    await receipt.delivered(timeout=WAIT)
    assert len(receipt.of) == len(receipt.delivered_to) == 1001
    event, whom = await asyncio.wait_for(anext(everybody), WAIT)
    assert isinstance(event, Sent) and whom is None
    event, whom = await asyncio.wait_for(anext(everybody), WAIT)
    assert isinstance(event, Delivered) and (event.count, event.of, whom) == (1001, 1001, (users[0].key,))
    theirs = await bob.broadcast("good morning")
    await theirs.delivered(timeout=WAIT)
    assert len(theirs.of) == 1001
    await users[1].send(users[2].me, "psst")
    await net.settle()
    assert [post.text for post in await users[2].history(users[1].me)] == ["psst"]
    assert len(users[3].conversations()) == 1
    gate = await net.restart(await closed(gate))
    assert len(gate.hosted) == 1000 and gate.hosted[999].name == "user 999"


async def closed(peer: TCPPeer) -> TCPPeer:
    await peer.aclose()
    return peer
