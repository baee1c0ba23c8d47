"""Thousands of WebSocket users in one process, for the time from writing a message until all its readers have it.

It uses asyncio's transports and no WebSocket library, so that the users take little CPU from the measured server: a
frame costs about 3 us. It supports the `/chat` of the gateway, that of a plain server, and Socket.IO over its WebSocket
transport.
"""

from __future__ import annotations

import asyncio
import base64
import gc
import json
import os
import random
import time
from typing import Any

from benchmarks.results import TEXT_BYTES, percentile
from benchmarks.workers import Channel, settle

AT_ONCE = 50  # users connecting at a time
MARK = b"@@"  # the beginning of a message, followed by the time sent in ns, its number, its writer
STAMP = 19
FILLING = "The quick brown fox jumps over the lazy dog. " * 4
TEXT, CLOSE, PING, PONG = 1, 8, 9, 10


class User(asyncio.Protocol):
    """One user: its connection, and the number of messages it got."""

    def __init__(self, crowd: Crowd, number: int) -> None:
        self.crowd = crowd
        self.number = number
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._held = b""
        self._upgraded = False
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        key = base64.b64encode(os.urandom(16)).decode()
        host = f"127.0.0.1:{self.crowd.port_of(self.number)}"
        lines = [
            f"GET {self.crowd.path} HTTP/1.1", f"Host: {host}", "Upgrade: websocket", "Connection: Upgrade",
            f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13",
        ]  # fmt: skip
        if self.crowd.kind == "chat" and self.crowd.tokens:
            lines.append(f"Authorization: Bearer {self.crowd.tokens[self.number]}")
        transport.write(("\r\n".join(lines) + "\r\n\r\n").encode())

    def data_received(self, data: bytes) -> None:
        held = self._held + data if self._held else data
        if not self._upgraded:
            head, end, held = held.partition(b"\r\n\r\n")
            if not end:
                self._held = head
                return
            if b" 101 " not in head[:20]:
                self._fail(f"the server refused: {head[:300]!r} {held[:300]!r}")
                return
            self._upgraded = True
            if self.crowd.kind == "chat":
                self.ready.set_result(None)
        self._held = self._frames(held)

    def _frames(self, data: bytes) -> bytes:
        """Take all whole frames, and return the rest."""
        at, end = 0, len(data)
        while end - at >= 2:
            size, begin = data[at + 1], at + 2
            if size == 126:
                size, begin = int.from_bytes(data[at + 2 : at + 4], "big"), at + 4
            elif size == 127:
                size, begin = int.from_bytes(data[at + 2 : at + 10], "big"), at + 10
            if begin > end or begin + size > end:
                break
            self._frame(data[at] & 15, data[begin : begin + size])
            at = begin + size
        return data[at:] if at else data

    def _frame(self, kind: int, payload: bytes) -> None:
        if kind == TEXT:
            found = payload.find(MARK)
            if found >= 0:
                self.crowd.got(self, payload, found + len(MARK))
            elif self.crowd.kind == "socketio":
                self._engine(payload.decode())
            elif b'"error"' in payload:
                self._fail(f"the server said {payload[:300]!r}")
        elif kind == PING:
            self._write(PONG, payload)
        elif kind == CLOSE:
            self._fail(f"the server closed: {payload[:300]!r}")

    def _engine(self, said: str) -> None:
        """Answer Engine.IO and Socket.IO packets: 0 open, 2 ping, 40 connected, 42 an event, 43 an acknowledgement."""
        if said.startswith("0"):
            self.write("40")
        elif said == "2":
            self.write("3")
        elif said.startswith("40"):
            name = f"user{self.number}"
            given = {"userId": name, "authToken": self.crowd.tokens[self.number] if self.crowd.tokens else ""}
            self.write("420" + json.dumps(["register", given]))
        elif said.startswith("430") and not self.ready.done():
            self.ready.set_result(None)
        elif said.startswith(('42["error"', "44")):
            self._fail(f"the server said {said[:300]!r}")

    def write(self, text: str) -> None:
        self._write(TEXT, text.encode())

    def _write(self, kind: int, payload: bytes) -> None:
        """Write a frame. Its mask is zero, which is legal and needs no masking."""
        size = len(payload)
        length = bytes([128 | size]) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
        self._transport.write(bytes([128 | kind]) + length + b"\0\0\0\0" + payload)

    def say(self, text: str, **more: str) -> None:
        """Write to all users, or as `more` says."""
        if self.crowd.kind == "chat":
            self.write(json.dumps({"text": text, **more}))
        else:
            self.write("42" + json.dumps(["groupMessage", {"to": "room", "content": text}]))

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(f"the connection ended: {exc}")

    def _fail(self, why: str) -> None:
        if not self.ready.done():
            self.ready.set_exception(ConnectionError(why))
        else:
            self.crowd.fail(f"user {self.number}: {why}")


class Crowd:
    """All users of one server, or of several in turn, and the messages on their way to them."""

    def __init__(self, kind: str, ports: list[int], tokens: list[str]) -> None:
        self.kind = kind
        self.ports = ports
        self.path = "/chat" if kind == "chat" else "/socket.io/?EIO=4&transport=websocket"
        self.tokens = tokens
        self.users: list[User] = []
        self.took: list[float] = []  # seconds of each delivery
        self._missing: dict[int, int] = {}  # message number -> number of users who do not have it yet
        self._next = 0
        self._left = 0
        self._direct = self._keys = self._is_paced = False
        self._chance = random.Random("crowd")
        self._done: asyncio.Future[None] | None = None
        self._broken = ""

    def port_of(self, number: int) -> int:
        """Return the port of the server at which a user is."""
        return self.ports[number % len(self.ports)]

    async def connect(self, count: int) -> None:
        """Wait until all users are connected."""
        gate = asyncio.Semaphore(AT_ONCE)
        loop = asyncio.get_running_loop()

        async def one(number: int) -> None:
            async with gate:
                user = User(self, number)
                self.users.append(user)
                await loop.create_connection(lambda: user, "127.0.0.1", self.port_of(number))
                await user.ready

        await asyncio.gather(*(one(number) for number in range(count)))

    async def write(
        self, messages: int, *, window: int = 1, rate: float = 0.0, direct: bool = False, keys: bool = False
    ) -> float:
        """Let users in turn write `messages` messages to everyone, or each to one user.

        Return the seconds until everyone has all. Raises ConnectionError.

        Args:
            window: Messages under way.
            rate: If given, so many are written a second, whatever is under way.
            keys: Each message has an idempotency key.
        """
        self.took = []
        self._left = messages
        self._direct, self._keys, self._is_paced = direct, keys, bool(rate)
        self._done = asyncio.get_running_loop().create_future()
        began = time.perf_counter()
        if rate:
            for number in range(messages):
                await asyncio.sleep(began + number / rate - time.perf_counter())
                self._write_one()
        else:
            for _ in range(min(window, messages)):
                self._write_one()
        await self._done
        return time.perf_counter() - began

    def _write_one(self) -> None:
        if self._broken and self._done is not None and not self._done.done():
            self._done.set_exception(ConnectionError(self._broken))
        if not self._left:
            if not self._missing:
                self._finish()
            return
        self._left -= 1
        number, self._next = self._next, self._next + 1
        count = len(self.users)
        writer = number % count
        self._missing[number] = 1 if self._direct else count - 1
        text = f"{MARK.decode()}{time.monotonic_ns():0{STAMP}d}{number:08d}{self.users[writer].number:08d} {FILLING}"
        more = {"key": f"k{number}"} if self._keys else {}
        if self._direct:
            reader = (writer + self._chance.randrange(1, count)) % count
            more["to"] = f"user{self.users[reader].number}"
        self.users[writer].say(text[:TEXT_BYTES], **more)

    def _finish(self) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_result(None)

    def got(self, user: User, payload: bytes, at: int) -> None:
        """Record that a user other than the writer got a message."""
        if int(payload[at + STAMP + 8 : at + STAMP + 16]) == user.number:
            return
        number = int(payload[at + STAMP : at + STAMP + 8])
        self.took.append((time.monotonic_ns() - int(payload[at : at + STAMP])) / 1e9)
        missing = self._missing[number] - 1
        if missing:
            self._missing[number] = missing
        else:
            del self._missing[number]
            if not self._is_paced:
                self._write_one()
            elif not self._missing and not self._left:
                self._finish()

    def fail(self, why: str) -> None:
        self._broken = self._broken or why
        if self._done is not None and not self._done.done():
            self._done.set_exception(ConnectionError(why))


async def crowd(channel: Channel, kind: str, ports: list[int], users: int, tokens: str) -> None:
    """Run as a worker: connect the users, then write messages on request. `tokens` is a file of tokens, or ""."""
    found: list[str] = []
    if tokens:
        with open(tokens, encoding="utf-8") as file:
            found = json.load(file)
    here = Crowd(kind, ports, found)
    try:
        await here.connect(users)
        channel.send(connected=users)
        settle()
        gc.disable()
        while asked := await channel.receive():
            channel.send(**await _answer(here, asked))
    except ConnectionError as error:
        channel.send(failed=str(error))
    os._exit(0)  # like the servers


async def _answer(here: Crowd, asked: dict[str, Any]) -> dict[str, Any]:
    seconds = await here.write(**asked)
    took = here.took
    return {
        "seconds": seconds, "deliveries": len(took), "middle": percentile(took, 0.5), "p99": percentile(took, 0.99),
    }  # fmt: skip
