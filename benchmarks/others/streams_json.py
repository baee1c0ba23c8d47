"""asyncio streams and json, a message a line, as everyone first writes it: nothing is kept, acked or encrypted."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.others.ends import Taken, answer, give_rounds
from benchmarks.workers import Channel


def absent() -> str:
    """Say why this cannot be measured here."""
    return ""


@contextmanager
def server(directory: Path) -> Iterator[dict[str, Any]]:
    """Nothing stands in the middle."""
    yield {}


async def take(channel: Channel, number: int) -> None:
    """Worker: listen, and read whoever comes."""
    taken = Taken()

    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            json.loads(line)
            taken.add(1)
        writer.close()

    async with await asyncio.start_server(accepted, "127.0.0.1", 0) as listening:
        channel.tell(port=listening.sockets[0].getsockname()[1])
        await answer(channel, taken)


async def give(channel: Channel, takers: list[Any]) -> None:
    """Worker: write to everyone, and wait until the system has taken it."""
    writers = [(await asyncio.open_connection("127.0.0.1", taker["port"]))[1] for taker in takers]

    async def many(texts: list[str]) -> None:
        for said in texts:
            line = json.dumps({"from": "giver", "text": said}).encode() + b"\n"
            for writer in writers:
                writer.write(line)
                await writer.drain()

    channel.tell(ready=True)
    await give_rounds(channel, many)
    for writer in writers:
        writer.close()
