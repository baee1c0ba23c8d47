"""Clients of `/chat` for tests: real WebSockets, which wait for what they are told and never for time to pass."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from tests.web.conftest import Served

WITHIN = 10.0  # seconds for anything that has to come


class Chatter:
    """One open socket. Frames are sorted by what they are, each sort in order."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self._kept: dict[str, list[dict[str, Any]]] = {}

    async def say(self, what: str | dict[str, Any]) -> None:
        await self.socket.send(what if isinstance(what, str) else json.dumps(what))

    async def next(self, kind: str) -> dict[str, Any]:
        """Return the next frame of this type; "answer" is one with a status."""
        while not self._kept.get(kind):
            async with asyncio.timeout(WITHIN):
                frame = json.loads(await self.socket.recv())
            self._kept.setdefault(frame.get("type", "answer"), []).append(frame)
        return self._kept[kind].pop(0)

    async def answer(self) -> dict[str, Any]:
        return await self.next("answer")

    async def message(self) -> dict[str, Any]:
        return await self.next("message")

    def waiting(self, kind: str) -> list[dict[str, Any]]:
        """Return what came and was not asked for yet."""
        return self._kept.get(kind, [])


@asynccontextmanager
async def chatting(served: Served, name: str, query: str = "", *, register: bool = True) -> AsyncIterator[Chatter]:
    """Open a socket as `name`, registered before when it is not, with its token."""
    if register and name not in served.tokens:
        await served.register(name)
    headers = {"Authorization": f"Bearer {served.tokens[name]}"}
    async with connect(f"{served.ws_url}/chat{query}", additional_headers=headers, proxy=None) as socket:
        yield Chatter(socket)
