"""NATS JetStream through nats-py: a stream in files, published with acknowledgement, consumed with acknowledgement.

Set up as advised: many publishes out at a time with `publish_async` (nats-py, JetStreamContext.publish_async; at most
4,000 unacknowledged, its default), a durable pull consumer that fetches batches (NATS documents, "Consumers": pull
for new projects), and AckPolicy.ALL, so that one acknowledgement covers a batch. Each of several takers has a
consumer of its own. By default the server fsyncs every two minutes; `sync_interval: always` (server 2.10 and later)
is the equal of what p2pchat does.
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

FETCHED = 500  # messages asked for at once; nats-py's examples have 1 to 1,000


def absent() -> str:
    """Say why this cannot be measured here."""
    if find_spec("nats") is None:
        return "nats-py is not installed"
    return "" if found("nats-server") else "nats-server is not installed"


@contextmanager
def server(directory: Path, *, sync: str = "") -> Iterator[dict[str, Any]]:
    """Run nats-server; `sync` "always" makes it fsync before it acknowledges."""
    port = free_port()
    always = "sync_interval: always" if sync else ""
    (directory / "nats.conf").write_text(
        f'listen: 127.0.0.1:{port}\njetstream {{ store_dir: "{directory}/store"\n {always} }}\n', "utf-8"
    )
    with running([found("nats-server"), "-c", "nats.conf"], port, directory):
        yield {"url": f"nats://127.0.0.1:{port}"}


async def _connected(url: str) -> tuple[Any, Any]:
    import nats
    from nats.js.errors import BadRequestError

    client = await nats.connect(url)
    stream = client.jetstream()
    with suppress(BadRequestError):  # the other end has made it
        await stream.add_stream(name="talk", subjects=["talk"])
    return client, stream


async def take(channel: Channel, url: str, number: int) -> None:
    """Worker: a durable consumer of its own."""
    from nats.errors import TimeoutError as NothingYet
    from nats.js.api import AckPolicy, ConsumerConfig

    client, stream = await _connected(url)
    config = ConsumerConfig(ack_policy=AckPolicy.ALL, max_ack_pending=20_000)
    consumer = await stream.pull_subscribe("talk", durable=f"taker-{number}", config=config)
    taken = Taken()

    async def fetch() -> None:
        while True:
            with suppress(NothingYet):
                messages = await consumer.fetch(FETCHED, timeout=5)
                await messages[-1].ack()
                taken.add(len(messages))

    fetching = asyncio.create_task(fetch())
    channel.tell(ready=True)
    await answer(channel, taken)
    fetching.cancel()
    await asyncio.wait([fetching])
    await client.close()


async def give(channel: Channel, url: str, takers: list[Any]) -> None:
    """Worker: publish; done when the server has acknowledged every message."""
    client, stream = await _connected(url)

    async def many(texts: list[str]) -> None:
        for said in texts:
            await stream.publish_async("talk", said.encode())
        await stream.publish_async_completed()

    async def one(texts: list[str]) -> None:
        await stream.publish("talk", texts[0].encode())

    channel.tell(ready=True)
    await give_rounds(channel, many, one=one)
    await client.close()
