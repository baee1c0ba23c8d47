"""NATS JetStream through nats-py: a stream in files, published and consumed with acknowledgement.

Configured as advised: many publishes under way with `publish_async` (nats-py, JetStreamContext.publish_async; at most
4,000 unacknowledged, its default), a durable consumer with a callback, and AckPolicy.ALL, so that one acknowledgement
covers a batch. NATS advises pull consumers for new projects. With nats-py's `fetch`, some messages came after the
timeout, were dropped, and were then acknowledged by a later acknowledgement: the work never ended. Each of several
receivers has its own consumer, of all subjects but its own. By default the server fsyncs every two minutes;
`sync_interval: always` (server 2.10 and later) is the equivalent of p2pchat.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.others.ends import End, JsonObject, ReceivedCount
from benchmarks.others.servers import found, free_port, running

ACKNOWLEDGED = 256  # messages per acknowledgement, if that many wait


def absent() -> str:
    """Return the reason why this system cannot be measured here; "" if it can."""
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
    """Wait until a newly started server answers with its newest message, or that there is none."""
    import nats
    from nats.js.errors import NotFoundError

    client = await nats.connect(address["url"])
    with suppress(NotFoundError):
        await client.jetstream().get_last_msg("talk", "talk.1")
    await client.close()


class Participant(End):
    """A client that publishes to its subject, and has a durable consumer for the others."""

    loads = ("nats",)

    def __init__(self, number: int, taken: ReceivedCount, url: str) -> None:
        super().__init__(number, taken)
        self._url = url
        self._unacknowledged = 0

    async def open(self) -> JsonObject:
        import nats
        from nats.js.errors import BadRequestError

        self._client = await nats.connect(self._url)
        self._stream = self._client.jetstream()
        with suppress(BadRequestError):  # another end has created it
            await self._stream.add_stream(name="talk", subjects=["talk.*"])
        return {}

    async def meet(self, dial: list[JsonObject], links: list[int]) -> None:
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
            await message.ack()  # with AckPolicy.ALL, earlier ones too
            self._unacknowledged = 0
        self.taken.add(1)

    async def give(self, texts: list[str]) -> None:
        """Return when the server has acknowledged every message."""
        publish, subject = self._stream.publish_async, f"talk.{self.number}"
        for acknowledged in [await publish(subject, said.encode()) for said in texts]:
            await acknowledged

    async def give_one(self, said: str) -> None:
        await self._stream.publish(f"talk.{self.number}", said.encode())

    async def close(self) -> None:
        await self._client.close()
