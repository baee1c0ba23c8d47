"""Meshes of many peers in one process: all of them are told of all others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

from p2pchat import Joined, Settings, TCPPeer

PEERS = 32
WITHIN = 200.0  # seconds; 3 on a machine with nothing else to do
# All peers share one core here, and perhaps with other tests: then 10 s pass before a handshake has its turn.
SHARED = Settings(handshake_timeout=WITHIN, go_timeout=WITHIN, dead_after=WITHIN)


async def met_by(peer: TCPPeer, news: AsyncIterator[Joined]) -> set[str]:
    """Return the names of the users of whom a peer was told, once those are all."""
    met = {peer.me.name}
    while len(met) < PEERS:
        met.add((await anext(news)).user.name)
    return met


async def test_each_of_32_peers_is_told_that_all_others_joined(home: Path) -> None:
    """Programs of a mesh of 32 peers that started together were told of half of them; the others were numbers."""
    async with AsyncExitStack() as stack, asyncio.timeout(WITHIN):
        first = await stack.enter_async_context(TCPPeer(temporary=True, name="peer 0", settings=SHARED))
        others = [
            TCPPeer(0, first.endpoint, temporary=True, name=f"peer {n}", settings=SHARED) for n in range(1, PEERS)
        ]
        readers = [peer.events(Joined) for peer in (first, *others)]
        await asyncio.gather(*(stack.enter_async_context(peer) for peer in others))
        met = await asyncio.gather(*map(met_by, (first, *others), readers))
        assert met == [{f"peer {n}" for n in range(PEERS)}] * PEERS
