"""pyzmq: PUSH to one taker, PUB to several; nothing is kept, acknowledged or encrypted.

Set up as advised: no high-water mark where nothing may be dropped, `copy=True` for small messages (pyzmq documents,
"Sending and receiving"), the plain sockets rather than zmq.asyncio, which are quicker.
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


def absent() -> str:
    """Say why this cannot be measured here."""
    return "" if find_spec("zmq") else "pyzmq is not installed"


@contextmanager
def server(directory: Path) -> Iterator[dict[str, Any]]:
    """Nothing stands in the middle."""
    yield {}


async def take(channel: Channel, number: int) -> None:
    """Worker: pull what one pushes."""
    import zmq

    context = zmq.Context()
    socket = context.socket(zmq.PULL)
    socket.set_hwm(0)
    port = socket.bind_to_random_port("tcp://127.0.0.1")
    taken = Taken()

    def read() -> None:
        while True:
            try:
                socket.recv()
            except zmq.ContextTerminated:
                socket.close(linger=0)
                return
            taken.add(1)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    channel.tell(port=port)
    await answer(channel, taken)
    await asyncio.to_thread(context.term)
    thread.join()


async def give(channel: Channel, takers: list[Any]) -> None:
    """Worker: push to every taker."""
    import zmq

    context = zmq.Context()
    sockets = []
    for taker in takers:
        socket = context.socket(zmq.PUSH)
        socket.set_hwm(0)
        socket.connect(f"tcp://127.0.0.1:{taker['port']}")
        sockets.append(socket)

    async def many(texts: list[str]) -> None:
        for said in texts:
            for socket in sockets:
                socket.send(said.encode())

    channel.tell(ready=True)
    await give_rounds(channel, many)
    context.destroy(linger=0)
