"""eclipse-zenoh: peers linked directly, reliable and blocking when full; nothing is kept, acknowledged or encrypted.

Set up as advised: a declared publisher, CongestionControl.BLOCK so that nothing is dropped, a callback on the taking
side (zenoh's own throughput examples, z_pub_thr.py and z_sub_thr.py), no scouting where the endpoints are known. Its
transport writes small messages together by itself (default configuration, transport/link/tx/queue/batching). Its shared
memory between processes of one machine is off, for loopback stands for a network here: with it lists of 256 are 1.7
times as quick, single messages as quick as without, and 128 peers take more than 20,000 files. `way` "list" joins 256
texts to one put, by its own z_serialize; `gossip` lets peers that know one address find the others.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.others.ends import End, Taken, Told, now
from benchmarks.others.servers import free_port

TOGETHER = 256
WAIT = 0.01  # seconds between two looks at who is there
DECLARED = 0.3  # seconds until what others subscribe to is known: the API does not tell of whom


def absent() -> str:
    """Say why this cannot be measured here."""
    return "" if find_spec("zenoh") else "eclipse-zenoh is not installed"


@contextmanager
def server(directory: Path, *, way: str = "one", gossip: str = "") -> Iterator[dict[str, Any]]:
    """Nothing stands in the middle."""
    yield {"way": way, "gossip": bool(gossip)}


class Part(End):
    """A peer that subscribes to what the others put."""

    loads = ("zenoh",)

    def __init__(self, number: int, taken: Taken, way: str, gossip: bool) -> None:
        super().__init__(number, taken)
        self._list, self._gossip, self._port = way == "list", gossip, free_port()
        self._session: Any = None

    async def open(self) -> Told:
        """It connects when it opens, so it opens when it is known to whom."""
        return {"port": self._port}

    async def meet(self, dial: list[Told], links: list[int]) -> None:
        if self._session is None:
            await asyncio.to_thread(self._open, dial, links)
        while len(self._session.info.peers_zid()) < len(links):
            await asyncio.sleep(WAIT)
        self._declared_at = now() + DECLARED

    def _open(self, dial: list[Told], links: list[int]) -> None:
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
        await asyncio.to_thread(self._put, texts)  # several ends of one process give at once

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
