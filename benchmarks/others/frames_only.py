"""p2pchat's frames over TLS and nothing above: protocol.py and client.py, no core, no storage; one frame a message."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.frames import TOGETHER, End, _contexts
from benchmarks.others.ends import Taken, answer, give_rounds
from benchmarks.workers import Channel


def absent() -> str:
    """Say why this cannot be measured here."""
    return ""


@contextmanager
def server(directory: Path) -> Iterator[dict[str, Any]]:
    """Nothing stands in the middle."""
    yield {"directory": str(directory)}


async def take(channel: Channel, directory: str, number: int) -> None:
    """Worker: listen, and count frames."""
    taken, context = Taken(), _contexts(directory)[0]
    ends: list[End] = []

    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        end = End(reader, writer, context, server=True, on_frames=lambda frames: taken.add(len(frames)))
        ends.append(end)
        await end.client.handshake(10)
        end.client.start()

    async with await asyncio.start_server(accepted, "127.0.0.1", 0) as listening:
        channel.tell(port=listening.sockets[0].getsockname()[1])
        await answer(channel, taken)


async def give(channel: Channel, directory: str, takers: list[Any]) -> None:
    """Worker: encode each message once and send it to everyone."""
    from p2pchat.client import dial
    from p2pchat.protocol import Bye, encode

    ends = []
    for taker in takers:
        end = End(*await dial("127.0.0.1", taker["port"], timeout=10), _contexts(directory)[1], server=False)
        await end.client.handshake(10)
        end.client.start()
        ends.append(end)

    async def many(texts: list[str]) -> None:
        for i, said in enumerate(texts):
            frame = encode(Bye("left", said))  # the only frame that holds a text and little else
            for end in ends:
                end.client.send(frame)
            if not i % TOGETHER:
                await asyncio.sleep(0)
                for end in ends:
                    if end.client.full:
                        end.drained.clear()
                        await end.drained.wait()

    channel.tell(ready=True)
    await give_rounds(channel, many)
