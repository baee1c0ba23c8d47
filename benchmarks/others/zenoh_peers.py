"""eclipse-zenoh: directly linked peers, reliable and blocking when full; nothing is stored, acknowledged or encrypted.

Configured as advised: a declared publisher, CongestionControl.BLOCK so that nothing is dropped, a callback at the
receiver (zenoh's own throughput examples, z_pub_thr.py and z_sub_thr.py), no scouting if the endpoints are known. Its
transport joins small messages by itself (default configuration, transport/link/tx/queue/batching). Its shared memory
between processes of one machine is off, because loopback stands for a network here: with it, lists of 256 are 1.7 times
as fast, single messages are equally fast, and 128 peers take more than 20,000 files. `way` "list" joins 256 texts to
one put, with its own z_serialize; `gossip` lets peers that know one address find the others.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.others.ends import End, JsonObject, ReceivedCount, now
from benchmarks.others.servers import free_port

TOGETHER = 256
WAIT = 0.01  # seconds between two checks for peers
DECLARED = 0.3  # seconds until the subscriptions of others are known; the API does not name the subscribers


def absent() -> str:
    """Return the reason why this system cannot be measured here; "" if it can."""
    return "" if find_spec("zenoh") else "eclipse-zenoh is not installed"


@contextmanager
def server(directory: Path, *, way: str = "one", gossip: str = "") -> Iterator[dict[str, Any]]:
    """Start no server."""
    yield {"way": way, "gossip": bool(gossip)}


class Participant(End):
    """A peer that subscribes to the messages of the others."""

    loads = ("zenoh",)

    def __init__(self, number: int, taken: ReceivedCount, way: str, gossip: bool) -> None:
        super().__init__(number, taken)
        self._list, self._gossip, self._port = way == "list", gossip, free_port()
        self._session: Any = None

    async def open(self) -> JsonObject:
        """Do nothing: zenoh connects when it opens, so `meet` opens it, with the endpoints."""
        return {"port": self._port}

    async def meet(self, dial: list[JsonObject], links: list[int]) -> None:
        if self._session is None:
            await asyncio.to_thread(self._open, dial, links)
        while len(self._session.info.peers_zid()) < len(links):
            await asyncio.sleep(WAIT)
        self._declared_at = now() + DECLARED

    def _open(self, dial: list[JsonObject], links: list[int]) -> None:
        import zenoh

        config = zenoh.Config()
        config.insert_json5("mode", '"peer"')
        config.insert_json5("scouting/multicast/enabled", "false")
        config.insert_json5("transport/shared_memory/enabled", "false")
        config.insert_json5("scouting/gossip/enabled", json.dumps(self._gossip))
        config.insert_json5("listen/endpoints", json.dumps([f"tcp/127.0.0.1:{self._port}"]))
        config.insert_json5("connect/endpoints", json.dumps([f"tcp/127.0.0.1:{each['port']}" for each in dial]))
        self._session = zenoh.open(config)
        for number in links if not self._gossip else []:
            self._session.declare_subscriber(f"talk/{number}", self._take)
        block = zenoh.CongestionControl.BLOCK
        self._publisher = self._session.declare_publisher(f"talk/{self.number}", congestion_control=block)

    def _take(self, sample: Any) -> None:
        if not self._list:
            self.taken.add(1)
            return
        from zenoh.ext import z_deserialize

        self.taken.add(len(z_deserialize(list[str], sample.payload)))

    async def give(self, texts: list[str]) -> None:
        await asyncio.sleep(self._declared_at - now())
        await asyncio.to_thread(self._put, texts)  # several ends of one process send at once

    def _put(self, texts: list[str]) -> None:
        if not self._list:
            for said in texts:
                self._publisher.put(said)
            return
        from zenoh.ext import z_serialize

        for first in range(0, len(texts), TOGETHER):
            self._publisher.put(z_serialize(texts[first : first + TOGETHER]))

    async def close(self) -> None:
        if self._session is not None:
            await asyncio.to_thread(self._session.close)
