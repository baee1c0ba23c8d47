"""asyncio streams and json, one message per line: nothing is stored, acknowledged or encrypted."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.others.ends import End, JsonObject, ReceivedCount


def absent() -> str:
    """Return the reason why this system cannot be measured here; "" if it can."""
    return ""


@contextmanager
def server(directory: Path) -> Iterator[dict[str, Any]]:
    """Start no server."""
    yield {}


class Participant(End):
    """A participant that listens, dials, and reads every connection."""

    def __init__(self, number: int, taken: ReceivedCount) -> None:
        super().__init__(number, taken)
        self._writers: list[asyncio.StreamWriter] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._news = asyncio.Event()

    async def open(self) -> JsonObject:
        self._server = await asyncio.start_server(self._read, "127.0.0.1", 0, backlog=512)
        return {"port": self._server.sockets[0].getsockname()[1]}

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        self._news.set()
        while line := await reader.readline():
            json.loads(line)
            self.taken.add(1)

    async def meet(self, dial: list[JsonObject], links: list[int]) -> None:
        for other in dial:
            streams = await asyncio.open_connection("127.0.0.1", other["port"])
            self._tasks.append(asyncio.create_task(self._read(*streams)))
        while len(self._writers) < len(links):
            self._news.clear()
            await self._news.wait()

    async def give(self, texts: list[str]) -> None:
        """Write to everyone, and wait until the system has taken it."""
        for said in texts:
            line = json.dumps({"from": "giver", "text": said}).encode() + b"\n"
            for writer in self._writers:
                writer.write(line)
                await writer.drain()

    async def close(self) -> None:
        self._server.close()
        for writer in self._writers:
            writer.close()
        for task in self._tasks:
            task.cancel()
