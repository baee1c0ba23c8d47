"""Pyre (zeromq-pyre), the ZRE mesh in Python: SHOUT to a group of peers that found each other; nothing is stored.

Its beacons skip the loopback interface, but this benchmark must not reach other machines. So the one method that
chooses the interface is overridden, and beacons go to the broadcast address of loopback. They use ZRE's port, 5670,
because set_port of version 0.3.4 fails in Python 3.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.others.ends import End, JsonObject, ReceivedCount

WAIT = 0.01  # seconds between two checks for peers


def absent() -> str:
    """Return the reason why this system cannot be measured here; "" if it can."""
    return "" if find_spec("pyre") else "zeromq-pyre is not installed"


@contextmanager
def server(directory: Path) -> Iterator[dict[str, Any]]:
    """Start no server. The group is unique to this run, so another run on this machine is not in it."""
    yield {"group": f"talk-{os.getpid()}"}


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
    return Pyre(name)


class Participant(End):
    """A peer in the group: it finds the others by itself, and shouts."""

    loads = ("pyre",)

    def __init__(self, number: int, taken: ReceivedCount, group: str) -> None:
        super().__init__(number, taken)
        self._group, self._over = group, False

    async def open(self) -> JsonObject:
        self._node = _node(f"part-{self.number}")
        self._node.join(self._group)
        await asyncio.to_thread(self._node.start)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        return {}

    def _read(self) -> None:
        while not self._over:
            if self._node.socket().poll(200) and self._node.recv()[0] == b"SHOUT":
                self.taken.add(1)

    async def meet(self, dial: list[JsonObject], links: list[int]) -> None:
        while len(self._node.peers_by_group(self._group)) < len(links):
            await asyncio.sleep(WAIT)

    async def give(self, texts: list[str]) -> None:
        await asyncio.to_thread(self._shout, texts)  # several ends of one process send at once

    def _shout(self, texts: list[str]) -> None:
        for said in texts:
            self._node.shout(self._group, said.encode())

    async def close(self) -> None:
        self._over = True
        await asyncio.to_thread(self._thread.join)
        await asyncio.to_thread(self._node.stop)
