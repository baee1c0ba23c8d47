"""WebSockets for tests, and clients of `/chat`, which wait for frames, never for time to pass."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio import client

from tests.web.conftest import Served

WITHIN = 60.0  # seconds for any expected frame, and to open a socket; the library's 10 are too few for a busy machine


def connect(url: str, **options: Any) -> client.connect:
    """Return a connection as the library does, without its proxies and pings, and with a minute for the handshake."""
    return client.connect(url, **{"proxy": None, "open_timeout": WITHIN, "ping_interval": None, **options})


class Chatter:
    """One open socket. Frames are kept by type, each type in order."""

    def __init__(self, socket: client.ClientConnection) -> None:
        self.socket = socket
        self._kept: dict[str, list[dict[str, Any]]] = {}

    async def say(self, what: str | dict[str, Any]) -> None:
        await self.socket.send(what if isinstance(what, str) else json.dumps(what))

    async def next(self, kind: str) -> dict[str, Any]:
        """Return the next frame of this type; "answer" is one with a status and no type."""
        while not self._kept.get(kind):
            async with asyncio.timeout(WITHIN):
                frame = json.loads(await self.socket.recv())
            self._kept.setdefault(frame.get("type", "answer"), []).append(frame)
        return self._kept[kind].pop(0)

    async def answer(self) -> dict[str, Any]:
        return await self.next("answer")

    async def message(self) -> dict[str, Any]:
        return await self.next("message")

    async def accepted(self, what: str | dict[str, Any]) -> str:
        """Write a message and return its id once it is accepted."""
        await self.say(what)
        answer = await self.answer()
        assert answer["status"] == "ok", answer
        id: str = answer["id"]
        return id

    def waiting(self, kind: str) -> list[dict[str, Any]]:
        """Return frames that came and were not read yet."""
        return self._kept.get(kind, [])


async def opened(served: Served, name: str, query: str = "", **options: Any) -> Chatter:
    """Open a socket as `name`, which is registered first if necessary."""
    if name not in served.tokens:
        await served.register(name)
    headers = {"Authorization": f"Bearer {served.tokens[name]}"}
    options = {"max_queue": None, **options}  # a client with too many unread frames waits ten seconds when it closes
    return Chatter(await connect(f"{served.ws_url}/chat{query}", additional_headers=headers, **options))


@asynccontextmanager
async def chatting(served: Served, name: str, query: str = "") -> AsyncIterator[Chatter]:
    """As opened(), closed in an orderly way at the end."""
    chatter = await opened(served, name, query)
    async with chatter.socket:
        yield chatter


async def drop(chatter: Chatter) -> None:
    """Break a client's connection without a goodbye, as a power failure does."""
    chatter.socket.transport.abort()
    await chatter.socket.wait_closed()
