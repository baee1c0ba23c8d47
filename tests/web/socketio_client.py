"""Socket.IO users for tests: one with the client of python-socketio, which keeps its events, and one that polls."""

from __future__ import annotations

import asyncio
import gc
import json
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import httpx
import socketio

from tests.web.conftest import Served

PATIENCE = 60.0  # seconds
ENGINE = "/socket.io/?EIO=4&transport="


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
                 path: str = "socket.io", since: str = "", **words: Any) -> AsyncIterator[SocketUser]:  # fmt: skip
    """Connect a socket, and register it if a name is given."""
    async with aiohttp.ClientSession() as http:
        user = SocketUser(http)
        words = {"wait_timeout": PATIENCE, **words}  # the library waits a second
        await user.io.connect(url, transports=transports or ["websocket"], socketio_path=path, **words)
        try:
            if name:
                answer = await user.say("register", {"userId": name, "authToken": token, "since": since})
                assert answer == {"status": "ok", "userId": name}
            yield user
        finally:
            if user.io.connected and transports:
                # While the library posts something, as a pong, it forgets to say goodbye and waits 25 s for a ping.
                await asyncio.wait_for(user.io.eio.queue.join(), PATIENCE)
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


class Poller:
    """A client that polls by hand: it decides what one POST carries, and answers no ping by itself."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http
        self.url = ""

    async def come(self, register: str = "") -> list[str]:
        """Connect, and register with this packet; return the packets that come with its answer."""
        opened = (await self.http.get(ENGINE + "polling")).text
        self.url = f"{ENGINE}polling&sid={json.loads(opened[1:])['sid']}"
        packets = list[str]()
        if register:
            assert await self.post("40\x1e" + register) == 200
            while not any(packet.startswith("430") for packet in packets):
                packets = await self.poll()
        return packets

    async def post(self, content: Any) -> int:
        answer = await self.http.post(self.url, content=content, headers={"Content-Type": "text/plain"})
        return answer.status_code

    async def poll(self) -> list[str]:
        """Return the packets of one poll; [] once the connection is closed."""
        answer = await self.http.get(self.url)
        return answer.text.split("\x1e") if answer.status_code == 200 else []

    async def until(self, beginning: str) -> str:
        """Poll until a packet begins like this, and return it."""
        while packets := await self.poll():
            for packet in packets:
                if packet.startswith(beginning):
                    return packet
        raise AssertionError("the connection was closed")


def registration(served: Served, name: str) -> str:
    """Return the packet with which an account registers; the answer to it begins with 430."""
    return "420" + json.dumps(["register", {"userId": name, "authToken": served.tokens[name]}])


@asynccontextmanager
async def polling(served: Served, name: str = "") -> AsyncIterator[Poller]:
    """Connect by polling, as an account that is registered first if necessary, or as a stranger."""
    if name and name not in served.tokens:
        await served.register(name)
    async with served.client() as http:
        poller = Poller(http)
        await poller.come(registration(served, name) if name else "")
        yield poller
