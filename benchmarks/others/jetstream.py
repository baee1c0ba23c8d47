"""NATS JetStream through nats-py: a stream in files, published with acknowledgement, consumed with acknowledgement.

Set up as advised: many publishes out at a time with `publish_async` (nats-py, JetStreamContext.publish_async; at most
4,000 unacknowledged, its default), a durable consumer with a callback, and AckPolicy.ALL, so that one acknowledgement
covers a batch. NATS advises pull consumers for new projects; with nats-py's `fetch` some of what was asked for came
after its time was over and was dropped, and acknowledged with what followed: the work waited for ever. Each of several
takers has a consumer of its own, of all subjects but its own. By default the server fsyncs every two minutes;
`sync_interval: always` (server 2.10 and later) is the equal of what p2pchat does.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.others.ends import End, Taken, Told
from benchmarks.others.servers import found, free_port, running

ACKNOWLEDGED = 256  # messages by one acknowledgement, if as many wait


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
    with running([found("nats-server"), "-c", "nats.conf"], port, directory) as pid:
        yield {"url": f"nats://127.0.0.1:{port}", "pid": pid}


async def newest(address: dict[str, Any]) -> None:
    """Return when a server that has just been started answers with the newest it keeps, or that there is nothing."""
    import nats
    from nats.js.errors import NotFoundError

    client = await nats.connect(address["url"])
    with suppress(NotFoundError):
        await client.jetstream().get_last_msg("talk", "talk.1")
    await client.close()


class Part(End):
    """A client that publishes to its subject, and has a durable consumer of the others'."""

    loads = ("nats",)

    def __init__(self, number: int, taken: Taken, url: str) -> None:
        super().__init__(number, taken)
        self._url = url
        self._unacknowledged = 0

    async def open(self) -> Told:
        import nats
        from nats.js.errors import BadRequestError

        self._client = await nats.connect(self._url)
        self._stream = self._client.jetstream()
        with suppress(BadRequestError):  # another end has made it
            await self._stream.add_stream(name="talk", subjects=["talk.*"])
        return {}

    async def meet(self, dial: list[Told], links: list[int]) -> None:
        from nats.js.api import AckPolicy, ConsumerConfig

        subjects = [f"talk.{number}" for number in links]
        name = f"part-{self.number}"
        config = ConsumerConfig(ack_policy=AckPolicy.ALL, max_ack_pending=20_000, filter_subjects=subjects)
        config.durable_name, config.deliver_subject = name, f"to.{name}"
        await self._stream.add_consumer("talk", config)
        self._deliveries = await self._stream.subscribe_bind(
            stream="talk", config=config, consumer=name, cb=self._take, manual_ack=True
        )

    async def _take(self, message: Any) -> None:
        self._unacknowledged += 1
        if self._unacknowledged >= ACKNOWLEDGED or not self._deliveries.pending_msgs:
            await message.ack()  # with AckPolicy.ALL those before too
            self._unacknowledged = 0
        self.taken.add(1)

    async def give(self, texts: list[str]) -> None:
        """Done when the server has acknowledged every message."""
        publish, subject = self._stream.publish_async, f"talk.{self.number}"
        for acknowledged in [await publish(subject, said.encode()) for said in texts]:
            await acknowledged

    async def give_one(self, said: str) -> None:
        await self._stream.publish(f"talk.{self.number}", said.encode())

    async def close(self) -> None:
        await self._client.close()
