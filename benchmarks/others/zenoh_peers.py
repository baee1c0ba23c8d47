"""eclipse-zenoh: peers linked directly, reliable and blocking when full; nothing is kept, acknowledged or encrypted.

Set up as advised: a declared publisher, CongestionControl.BLOCK so that nothing is dropped, a callback on the taking
side (zenoh's own throughput examples, z_pub_thr.py and z_sub_thr.py), no scouting where the endpoints are known.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.others.ends import Taken, answer, give_rounds
from benchmarks.others.servers import free_port
from benchmarks.workers import Channel


def absent() -> str:
    """Say why this cannot be measured here."""
    return "" if find_spec("zenoh") else "eclipse-zenoh is not installed"


@contextmanager
def server(directory: Path) -> Iterator[dict[str, Any]]:
    """Nothing stands in the middle."""
    yield {}


def _config(**endpoints: list[str]) -> Any:
    import json

    import zenoh

    config = zenoh.Config()
    config.insert_json5("mode", '"peer"')
    config.insert_json5("scouting/multicast/enabled", "false")
    config.insert_json5("scouting/gossip/enabled", "false")
    for name in ("listen", "connect"):
        config.insert_json5(f"{name}/endpoints", json.dumps(endpoints.get(name, [])))
    return config


async def take(channel: Channel, number: int) -> None:
    """Worker: listen, and count in a callback."""
    import zenoh

    taken, port = Taken(), free_port()
    with zenoh.open(_config(listen=[f"tcp/127.0.0.1:{port}"])) as session:
        subscriber = session.declare_subscriber("talk", lambda sample: taken.add(1))
        channel.tell(port=port)
        await answer(channel, taken)
        subscriber.undeclare()


async def give(channel: Channel, takers: list[Any]) -> None:
    """Worker: put, to whoever subscribed."""
    import zenoh

    endpoints = [f"tcp/127.0.0.1:{taker['port']}" for taker in takers]
    with zenoh.open(_config(connect=endpoints)) as session:
        publisher = session.declare_publisher("talk", congestion_control=zenoh.CongestionControl.BLOCK)

        async def many(texts: list[str]) -> None:
            for said in texts:
                publisher.put(said)

        channel.tell(ready=True)
        await give_rounds(channel, many)
