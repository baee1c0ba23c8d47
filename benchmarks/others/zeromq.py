"""pyzmq: a PULL for each end, a PUSH to each of the others; nothing is kept, acknowledged or encrypted.

Set up as advised: no high-water mark where nothing may be dropped, `copy=True` for small messages (pyzmq documents,
"Sending and receiving"), the plain sockets rather than zmq.asyncio, which are quicker. ZeroMQ itself writes small
messages together (guide, chapter 1: "batches"). `way` "parts" joins 256 texts to one message with send_multipart.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.others.ends import End, Taken, Told

TOGETHER = 256


def absent() -> str:
    """Say why this cannot be measured here."""
    return "" if find_spec("zmq") else "pyzmq is not installed"


@contextmanager
def server(directory: Path, *, way: str = "one") -> Iterator[dict[str, Any]]:
    """Nothing stands in the middle."""
    yield {"way": way}


class Part(End):
    """One that pulls what the others push."""

    one_way = True

    def __init__(self, number: int, taken: Taken, way: str) -> None:
        import zmq

        super().__init__(number, taken)
        self._parts = way == "parts"
        self._context = zmq.Context()
        self._pushing: list[Any] = []

    async def open(self) -> Told:
        import zmq

        socket = self._context.socket(zmq.PULL)
        socket.set_hwm(0)
        port = socket.bind_to_random_port("tcp://127.0.0.1")
        self._thread = threading.Thread(target=self._read, args=[socket], daemon=True)
        self._thread.start()
        return {"port": port}

    def _read(self, socket: Any) -> None:
        import zmq

        while True:
            try:
                if self._parts:
                    self.taken.add(len(socket.recv_multipart()))
                else:
                    socket.recv()
                    self.taken.add(1)
            except zmq.ContextTerminated:
                socket.close(linger=0)
                return

    async def meet(self, dial: list[Told], links: list[int]) -> None:
        import zmq

        for other in dial:
            socket = self._context.socket(zmq.PUSH)
            socket.set_hwm(0)
            socket.connect(f"tcp://127.0.0.1:{other['port']}")
            self._pushing.append(socket)

    async def give(self, texts: list[str]) -> None:
        await asyncio.to_thread(self._push, texts)  # several ends of one process give at once

    def _push(self, texts: list[str]) -> None:
        if self._parts:
            for first in range(0, len(texts), TOGETHER):
                parts = [said.encode() for said in texts[first : first + TOGETHER]]
                for socket in self._pushing:
                    socket.send_multipart(parts)
            return
        for said in texts:
            for socket in self._pushing:
                socket.send(said.encode())

    async def close(self) -> None:
        for socket in self._pushing:
            socket.close(linger=0)
        await asyncio.to_thread(self._context.term)
        self._thread.join()
