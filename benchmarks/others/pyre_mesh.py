"""Pyre (zeromq-pyre), the ZRE mesh in Python: SHOUT to a group of peers that found each other; nothing is kept.

Its beacons leave the loopback interface out, and this must reach nobody else: so they are sent to loopback's own
broadcast address, by the one method that chooses the interface. They use ZRE's own port, 5670: set_port of version
0.3.4 fails in Python 3.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.others.ends import Taken, answer, give_rounds
from benchmarks.workers import Channel

GROUP = "talk"
WAIT = 0.01  # seconds between two looks at who is there


def absent() -> str:
    """Say why this cannot be measured here."""
    return "" if find_spec("pyre") else "zeromq-pyre is not installed"


@contextmanager
def server(directory: Path) -> Iterator[dict[str, Any]]:
    """Nothing stands in the middle."""
    yield {}


def _node(name: str) -> Any:
    import ipaddress

    from pyre import Pyre
    from pyre.zbeacon import ZBeacon

    def on_loopback(self: Any) -> None:
        self.address = ipaddress.ip_address("127.0.0.1")
        self.network_address = ipaddress.ip_address("127.0.0.0")
        self.broadcast_address = ipaddress.ip_address("127.255.255.255")
        self.interface_name = "lo"

    ZBeacon._prepare_socket = on_loopback
    node = Pyre(name)
    node.join(GROUP)
    node.start()
    return node


async def take(channel: Channel, number: int) -> None:
    """Worker: a peer in the group."""
    taken, node = Taken(), _node(f"taker-{number}")
    over = False

    def read() -> None:
        while not over:
            if node.socket().poll(200) and node.recv()[0] == b"SHOUT":
                taken.add(1)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    channel.tell(ready=True)
    await answer(channel, taken)
    over = True
    await asyncio.to_thread(thread.join)
    node.stop()


async def give(channel: Channel, takers: list[Any]) -> None:
    """Worker: shout, when everybody is in the group."""
    node = _node("giver")
    while len(node.peers_by_group(GROUP)) < len(takers):
        await asyncio.sleep(WAIT)

    async def many(texts: list[str]) -> None:
        for said in texts:
            node.shout(GROUP, said.encode())

    channel.tell(ready=True)
    await give_rounds(channel, many)
    node.stop()
