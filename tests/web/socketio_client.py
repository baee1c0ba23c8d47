"""A Socket.IO user for tests, with the client of python-socketio. It keeps the events it received in order."""

from __future__ import annotations

import asyncio
import gc
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import socketio

from tests.web.conftest import Served

PATIENCE = 60.0  # seconds


class SocketUser:
    """One socket. `told` are the events it got, as (name, payload)."""

    def __init__(self, http: aiohttp.ClientSession) -> None:
        self.io = socketio.AsyncClient(reconnection=False, http_session=http, request_timeout=PATIENCE)
        self.told: list[tuple[str, Any]] = []
        self.gone = asyncio.Event()
        self._news = asyncio.Event()
        self.io.on("*", self._got)
        self.io.on("disconnect", self._left)

    async def _got(self, event: str, payload: Any = None) -> None:
        self.told.append((event, payload))
        self._news.set()

    async def _left(self, reason: str = "") -> None:
        self.gone.set()

    async def say(self, event: str, payload: Any) -> Any:
        """Emit an event and return the payload of its acknowledgement."""
        return await self.io.call(event, payload, timeout=PATIENCE)

    async def hear(self, event: str, where: Callable[[Any], bool] = lambda payload: True) -> Any:
        """Wait for an event, remove it and return its payload; earlier events count too."""
        async with asyncio.timeout(PATIENCE):
            while True:
                for number, (name, payload) in enumerate(self.told):
                    if name == event and where(payload):
                        del self.told[number]
                        return payload
                self._news.clear()
                await self._news.wait()

    def said(self, event: str) -> list[Any]:
        """Return the payloads of an event so far."""
        return [payload for name, payload in self.told if name == event]


@asynccontextmanager
async def talking(served: Served, name: str, **words: Any) -> AsyncIterator[SocketUser]:
    """Connect as an account, which is registered first if necessary."""
    if name not in served.tokens:
        await served.register(name)
    async with socket(served.url, name, served.tokens[name], **words) as user:
        yield user


@asynccontextmanager
async def socket(url: str, name: str = "", token: str = "", *, transports: list[str] | None = None,
                 path: str = "socket.io", **words: Any) -> AsyncIterator[SocketUser]:  # fmt: skip
    """Connect a socket, and register it if a name is given."""
    async with aiohttp.ClientSession() as http:
        user = SocketUser(http)
        words = {"wait_timeout": PATIENCE, **words}  # the library waits a second
        await user.io.connect(url, transports=transports or ["websocket"], socketio_path=path, **words)
        try:
            if name:
                answer = await user.say("register", {"userId": name, "authToken": token})
                assert answer == {"status": "ok", "userId": name}
            yield user
        finally:
            await user.io.disconnect()
            if transports and "polling" in transports:
                engine = user.io.eio
                if engine.write_loop_task is not None:
                    await asyncio.wait([engine.write_loop_task], timeout=PATIENCE)  # it may be sending a pong
                if engine.http not in (http, None):  # the library opens another session when this one is closed
                    await engine.http.close()
                _drop_unread_answers()


def _drop_unread_answers() -> None:
    """Suppress aiohttp's warnings: the library's client does not read the answers to its POST requests."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
