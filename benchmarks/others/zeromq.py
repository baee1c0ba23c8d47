"""pyzmq: a PUSH to the PULL of the other end, or a PUB to the SUB of several; nothing is stored or encrypted.

Nothing is acknowledged either. Configured as advised: PUB for one to many, so that a message is handed over once
(guide, chapter 2, "messaging patterns"); no high-water mark, because nothing may be dropped; `copy=True` for small
messages (pyzmq documents, "Sending and receiving"); plain sockets rather than zmq.asyncio, because they are faster.
ZeroMQ itself joins small messages (guide, chapter 1: "batches"). `way` "parts" joins 256 texts to one message with
send_multipart, "publish" is PUB.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.others.ends import End, JsonObject, ReceivedCount

TOGETHER = 256


def absent() -> str:
    """Return the reason why this system cannot be measured here; "" if it can."""
    return "" if find_spec("zmq") else "pyzmq is not installed"


@contextmanager
def server(directory: Path, *, way: str = "one") -> Iterator[dict[str, Any]]:
    """Start no server."""
    yield {"way": way}


class Participant(End):
    """A participant that receives what the others push or publish."""

    loads = ("zmq",)
    one_way = True

    def __init__(self, number: int, taken: ReceivedCount, way: str) -> None:
        import zmq

        super().__init__(number, taken)
        self._parts, self._publish = way == "parts", way == "publish"
        self._context = zmq.Context()
        self._pushing: list[Any] = []

    async def open(self) -> JsonObject:
        import zmq

        socket = self._context.socket(zmq.SUB if self._publish else zmq.PULL)
        if self._publish:
            socket.subscribe(b"")
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

    async def meet(self, dial: list[JsonObject], links: list[int]) -> None:
        import zmq

        if self._publish and dial:
            return await asyncio.to_thread(self._meet_subscribers, dial)
        for other in dial:
            socket = self._context.socket(zmq.PUSH)
            socket.set_hwm(0)
            socket.connect(f"tcp://127.0.0.1:{other['port']}")
            self._pushing.append(socket)

    def _meet_subscribers(self, dial: list[JsonObject]) -> None:
        """Wait for all subscribers: a PUB drops messages without one, and an XPUB reports each subscription."""
        import zmq

        socket = self._context.socket(zmq.XPUB)
        socket.setsockopt(zmq.XPUB_VERBOSE, 1)  # reported for repeated subscriptions too
        socket.set_hwm(0)
        self._pushing.append(socket)
        for other in dial:
            socket.connect(f"tcp://127.0.0.1:{other['port']}")
        for _ in dial:
            socket.recv()

    async def give(self, texts: list[str]) -> None:
        await asyncio.to_thread(self._push, texts)  # several ends of one process send at once

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
