"""p2pchat itself, in the same harness: every way of sending, on a disk and in memory, to one and to several."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.others.ends import Taken, answer, give_rounds
from benchmarks.workers import Channel

AT_ONCE = 1_000  # texts of one send_many; two of them are out at a time
GATHERED = 2_000


def absent() -> str:
    """Say why this cannot be measured here."""
    return ""


@contextmanager
def server(directory: Path, *, way: str = "many", db: str = "") -> Iterator[dict[str, Any]]:
    """Nothing stands in the middle. `way` is many, gather or loop; `db` another database than SQLite."""
    yield {"directory": str(directory), "way": way, "db": db}


async def take(channel: Channel, directory: str, way: str, db: str, number: int) -> None:
    """Worker: a peer whose program takes every message."""
    from p2pchat import Message, TCPPeer

    taken = Taken()
    async with TCPPeer(data=f"{directory}/taker-{number}", name=f"taker-{number}", db=db or None) as peer:

        async def read() -> None:
            async for _ in peer.events(Message):
                taken.add(1)

        reading = asyncio.create_task(read())
        channel.tell(endpoint=peer.endpoint)
        await answer(channel, taken)
        reading.cancel()


async def give(channel: Channel, directory: str, way: str, db: str, takers: list[Any]) -> None:
    """Worker: write to the one, or to the room; done when all is delivered to everyone."""
    from p2pchat import TCPPeer

    endpoints = [taker["endpoint"] for taker in takers]
    async with TCPPeer(0, *endpoints, data=f"{directory}/giver", name="giver", db=db or None) as peer:
        users = [await peer.wait_user(f"taker-{number}", timeout=30) for number in range(len(takers))]
        to: Any = users[0] if len(users) == 1 else peer.room
        send = {"many": _many, "gather": _gather, "loop": _loop}[way]

        async def many(texts: list[str]) -> None:
            await (await send(peer, to, texts)).delivered()

        channel.tell(ready=True)
        await give_rounds(channel, many, one=many)


async def _many(peer: Any, to: Any, texts: list[str]) -> Any:
    queue = iter(range(0, len(texts), AT_ONCE))

    async def writer() -> Any:
        receipts = None
        for first in queue:
            receipts = await peer.send_many(to, texts[first : first + AT_ONCE])
        return receipts

    return [receipts for receipts in await asyncio.gather(writer(), writer()) if receipts is not None][-1]


async def _gather(peer: Any, to: Any, texts: list[str]) -> Any:
    receipts: list[Any] = []
    for first in range(0, len(texts), GATHERED):
        receipts = await asyncio.gather(*(peer.send(to, said) for said in texts[first : first + GATHERED]))
    return receipts[-1]  # a mark says "everything up to here"


async def _loop(peer: Any, to: Any, texts: list[str]) -> Any:
    receipt = None
    for said in texts:
        receipt = await peer.send(to, said)
    return receipt
