"""What this machine needs until a message is safe on its own disk: a peer that lives only now, and meets nobody."""

from __future__ import annotations

from pathlib import Path
from time import perf_counter

from p2pchat import TCPPeer
from p2pchat.apps.cli.commands.benching.figure import Figure, message, rate, times

SINGLES = 500  # at most
WARMING = 20  # messages that do not count: the first ones load code and make the files
AT_ONCE = 1000  # texts of one send_many
MOST = 20_000  # texts in all: 6 MB, gone at the end


async def own(place: Path, seconds: float) -> list[Figure]:
    """Write to an empty room for so long, in a directory on the disk that is meant."""
    async with TCPPeer(0, data=place, name="bench", open=True) as peer:
        for number in range(WARMING):
            await peer.send(peer.room, message(number))
        singly: list[float] = []
        until = perf_counter() + seconds
        while len(singly) < SINGLES and (not singly or perf_counter() < until):
            begun = perf_counter()
            await peer.send(peer.room, message(len(singly)))
            singly.append(perf_counter() - begun)
        begun, written = perf_counter(), 0
        while written < MOST and (not written or perf_counter() < begun + seconds):
            await peer.send_many(peer.room, [message(written + number) for number in range(AT_ONCE)])
            written += AT_ONCE
        took = perf_counter() - begun
    return [
        times("accepted", singly, "one at a time: signed, and safe on this disk"),
        rate("accepted_many", written, took, f"the same, {AT_ONCE:,} at once"),
    ]
