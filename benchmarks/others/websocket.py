"""websockets: a connection between any two ends, with p2pchat's TLS and without compression; nothing is stored.

Nothing is acknowledged either. Configured as advised: `compression=None` if speed matters more than bytes (websockets
documents, "Compression"), `broadcast` for several connections ("Broadcasting"). `way` "json" joins 256 texts to one
message, a JSON list: the equivalent of p2pchat's frames of entries.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.others.ends import End, JsonObject, ReceivedCount

TOGETHER = 256
OPTIONS: dict[str, Any] = {"compression": None, "open_timeout": None}  # a busy machine takes more than 10 s


def absent() -> str:
    """Return the reason why this system cannot be measured here; "" if it can."""
    return "" if find_spec("websockets") else "websockets is not installed"


@contextmanager
def server(directory: Path, *, way: str = "one") -> Iterator[dict[str, Any]]:
    """Start no server."""
    yield {"directory": str(directory), "way": way}


class Participant(End):
    """A participant that listens, dials, and reads every connection."""

    loads = ("websockets.asyncio.client", "websockets.asyncio.server", "p2pchat.identity.tls_pipe")

    def __init__(self, number: int, taken: ReceivedCount, directory: str, way: str) -> None:
        super().__init__(number, taken)
        self._directory, self._joined = directory, way == "json"
        self._sockets: list[Any] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._news = asyncio.Event()

    async def open(self) -> JsonObject:
        from websockets.asyncio.server import serve

        from p2pchat.identity.identity import Identity
        from p2pchat.identity.tls_pipe import server_context

        context = server_context(Identity.generate(), Path(self._directory))
        self._server = await serve(self._read, "127.0.0.1", 0, ssl=context, **OPTIONS)
        return {"port": next(iter(self._server.sockets)).getsockname()[1]}

    async def _read(self, socket: Any) -> None:
        self._sockets.append(socket)
        self._news.set()
        async for said in socket:
            self.taken.add(len(json.loads(said)) if self._joined else 1)

    async def meet(self, dial: list[JsonObject], links: list[int]) -> None:
        from websockets.asyncio.client import connect

        from p2pchat.identity.tls_pipe import client_context

        context = client_context()
        for other in dial:
            socket = await connect(f"wss://127.0.0.1:{other['port']}", ssl=context, **OPTIONS)
            self._tasks.append(asyncio.create_task(self._read(socket)))
        while len(self._sockets) < len(links):
            self._news.clear()
            await self._news.wait()

    async def give(self, texts: list[str]) -> None:
        """Send in a plain loop; to several ends, one broadcast each."""
        from websockets.asyncio.connection import broadcast

        if self._joined:
            texts = [json.dumps(texts[first : first + TOGETHER]) for first in range(0, len(texts), TOGETHER)]
        if len(self._sockets) == 1:
            for said in texts:
                await self._sockets[0].send(said)
            return
        for said in texts:
            broadcast(self._sockets, said)
            await asyncio.sleep(0)

    async def close(self) -> None:
        self._server.close()
        await asyncio.gather(*(socket.close() for socket in self._sockets))
        await asyncio.gather(*self._tasks)
