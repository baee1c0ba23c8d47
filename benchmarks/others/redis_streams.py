"""A Redis stream with consumer groups and `appendfsync always`: on the disk before the answer.

Configured as advised: pipelines of many XADD (Redis documents, "Redis pipelining"), two of them under way as p2pchat
has two send_many; XREADGROUP with COUNT and one XACK for each read (documents, "Redis Streams"); the parser in C
(hiredis) if installed. Each of several receivers is its own group.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.others.ends import End, JsonObject, ReceivedCount
from benchmarks.others.servers import found, free_port, running

PIPED = 1_000  # XADD in one pipeline; the documents speak of batches "of a reasonable number, for instance 10k"
READ = 1_000
WAIT = 0.01  # seconds between two requests to a server that is still loading


def absent() -> str:
    """Return the reason why this system cannot be measured here; "" if it can."""
    if find_spec("redis") is None:
        return "redis is not installed"
    return "" if found("redis-server") else "redis-server is not installed"


@contextmanager
def server(directory: Path) -> Iterator[dict[str, Any]]:
    """Run redis-server with an append-only file that is fsynced before each answer."""
    port = free_port()
    words = {"port": port, "bind": "127.0.0.1", "dir": directory, "appendonly": "yes", "appendfsync": "always"}
    options = [part for name, value in words.items() for part in (f"--{name}", str(value))]
    with running([found("redis-server"), *options, "--save", ""], port, directory) as pid:
        yield {"port": port, "pid": pid}


async def newest(address: dict[str, Any]) -> None:
    """Wait until a newly started server answers with its newest message, or that there is none."""
    from redis.asyncio import Redis
    from redis.exceptions import BusyLoadingError

    async with Redis(port=address["port"]) as client:
        while True:
            try:
                await client.xrevrange("talk", count=1)
                return
            except BusyLoadingError:
                await asyncio.sleep(WAIT)


class Participant(End):
    """A client that adds messages, or a consumer in its own group. One end only sends."""

    loads = ("redis.asyncio",)

    def __init__(self, number: int, taken: ReceivedCount, port: int) -> None:
        from redis.asyncio import Redis

        super().__init__(number, taken)
        self._client = Redis(port=port)
        self._group = f"group-{number}"
        self._reading: asyncio.Task[None] | None = None

    async def meet(self, dial: list[JsonObject], links: list[int]) -> None:
        from redis.exceptions import ResponseError

        if max(links) < self.number:
            return  # the last one sends
        with suppress(ResponseError):  # it existed before
            await self._client.xgroup_create("talk", self._group, id="0", mkstream=True)
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        while True:
            for _, messages in await self._client.xreadgroup(self._group, "one", {"talk": ">"}, READ, 1000):
                await self._client.xack("talk", self._group, *(id for id, _ in messages))
                self.taken.add(len(messages))

    async def give(self, texts: list[str]) -> None:
        """Send, and wait for the answer to every message; longer pipelines are not faster."""
        queue = iter(range(0, len(texts), PIPED))

        async def writer() -> None:
            for first in queue:
                async with self._client.pipeline(transaction=False) as pipe:
                    for said in texts[first : first + PIPED]:
                        pipe.xadd("talk", {"text": said})
                    await pipe.execute()

        await asyncio.gather(writer(), writer())

    async def give_one(self, said: str) -> None:
        await self._client.xadd("talk", {"text": said})

    async def close(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])
        await self._client.aclose()
