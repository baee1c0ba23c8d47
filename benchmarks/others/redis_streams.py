"""A Redis stream with consumer groups, `appendfsync always`: on the disk before it is answered.

Set up as advised: pipelines of many XADD (Redis documents, "Redis pipelining"), XREADGROUP with COUNT and one XACK
for all that came (documents, "Redis Streams"), the parser in C (hiredis) where installed. Each of several takers is a
group of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.others.ends import Taken, answer, give_rounds
from benchmarks.others.servers import found, free_port, running
from benchmarks.workers import Channel

PIPED = 1_000  # XADD in one pipeline; the documents speak of batches "of a reasonable number, for instance 10k"
READ = 1_000


def absent() -> str:
    """Say why this cannot be measured here."""
    if find_spec("redis") is None:
        return "redis is not installed"
    return "" if found("redis-server") else "redis-server is not installed"


@contextmanager
def server(directory: Path) -> Iterator[dict[str, Any]]:
    """Run redis-server with an append-only file that is fsynced before each answer."""
    port = free_port()
    words = {"port": port, "bind": "127.0.0.1", "dir": directory, "appendonly": "yes", "appendfsync": "always"}
    options = [part for name, value in words.items() for part in (f"--{name}", str(value))]
    with running([found("redis-server"), *options, "--save", ""], port, directory):
        yield {"port": port}


async def take(channel: Channel, port: int, number: int) -> None:
    """Worker: a consumer in a group of its own."""
    from redis.asyncio import Redis
    from redis.exceptions import ResponseError

    client, group = Redis(port=port), f"group-{number}"
    with suppress(ResponseError):  # it was there before
        await client.xgroup_create("talk", group, id="0", mkstream=True)
    taken = Taken()

    async def read() -> None:
        while True:
            for _, messages in await client.xreadgroup(group, "one", {"talk": ">"}, count=READ, block=1000):
                await client.xack("talk", group, *(id for id, _ in messages))
                taken.add(len(messages))

    reading = asyncio.create_task(read())
    channel.tell(ready=True)
    await answer(channel, taken)
    reading.cancel()
    await client.aclose()


async def give(channel: Channel, port: int, takers: list[Any]) -> None:
    """Worker: add; done when the server has answered every message."""
    from redis.asyncio import Redis

    client = Redis(port=port)

    async def many(texts: list[str]) -> None:
        for first in range(0, len(texts), PIPED):
            async with client.pipeline(transaction=False) as pipe:
                for said in texts[first : first + PIPED]:
                    pipe.xadd("talk", {"text": said})
                await pipe.execute()

    async def one(texts: list[str]) -> None:
        await client.xadd("talk", {"text": texts[0]})

    channel.tell(ready=True)
    await give_rounds(channel, many, one=one)
    await client.aclose()
