"""What this machine needs until a message is safe on its own disk: a peer that lives only now, and meets nobody."""

from __future__ import annotations

import asyncio
from pathlib import Path

from p2pchat import TCPPeer
from p2pchat.apps.cli.commands.benching.figure import Figure, message, rate, times

SINGLES = 500  # at most
WARMING = 20  # messages that do not count: the first ones load code and make the files
AT_ONCE = 1000  # texts of one send_many
MOST = 20_000  # texts in all: 6 MB, gone at the end


async def own(place: Path, seconds: float) -> list[Figure]:
    """Write to an empty room for so long, in a directory on the disk that is meant."""
    clock = asyncio.get_running_loop().time
    async with TCPPeer(0, data=place, name="bench", open=True) as peer:
        for number in range(WARMING):
            await peer.send(peer.room, message(number))
        singly: list[float] = []
        until = clock() + seconds
        while len(singly) < SINGLES and (not singly or clock() < until):
            begun = clock()
            await peer.send(peer.room, message(len(singly)))
            singly.append(clock() - begun)
        begun, written = clock(), 0
        while written < MOST and (not written or clock() < begun + seconds):
            await peer.send_many(peer.room, [message(written + number) for number in range(AT_ONCE)])
            written += AT_ONCE
        took = clock() - begun
    return [
        times("accepted", singly, "one at a time: signed, and safe on this disk"),
        rate("accepted_many", written, took, f"the same, {AT_ONCE:,} at once"),
    ]
