"""The HTTP server: uvicorn on a socket of ours, told to stop by us and not by signals."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import h11
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from p2pchat.commands.errors import Failure
from p2pchat.web.settings import WebSettings

BACKLOG = 2048  # connections the system holds while we are busy: a gateway's users come back together after a restart
STOP_WITHIN = 5  # seconds in which calls under way may end
READ_AT_ONCE = 8192  # bytes of a WebSocket: 1,300 of the smallest frames, some 10 ms of work
MOST_FRAGMENTS = 1024  # of one message, whose limit counts bytes: empty ones would be kept without end
TOO_BIG = 1009  # RFC 6455: a message too big to process
PING_EVERY = 20.0  # seconds: keeps connections through proxies, and finds browsers that are gone


class Drained(asyncio.Protocol):
    """A connection whose other end takes what it asked for: one that takes nothing is ended, and its memory is free."""

    transport: asyncio.Transport
    loop: asyncio.AbstractEventLoop
    drain_timeout = 30.0  # seconds without progress, as on a link between peers
    _stuck: asyncio.TimerHandle | None = None

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stuck = self.loop.call_later(self.drain_timeout, self._look, self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        super().resume_writing()
        self._drained()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._drained()

    def _look(self, before: int) -> None:
        left = self.transport.get_write_buffer_size()
        if left >= before:
            self.transport.abort()
        elif left:
            self._stuck = self.loop.call_later(self.drain_timeout, self._look, left)

    def _drained(self) -> None:
        if self._stuck is not None:
            self._stuck.cancel()
            self._stuck = None


class Frames(Drained, WebSocketsSansIOProtocol):
    """uvicorn's WebSocket, for clients that send what costs them little and us much."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if hasattr(transport, "max_size"):  # asyncio's own: how much is read before others have their turn
            transport.max_size = READ_AT_ONCE

    def handle_cont(self, event: Any) -> None:
        if len(self.frames) >= MOST_FRAGMENTS:
            self.frames = []
            self.conn.fail(TOO_BIG, "too many fragments")
            self.handle_parser_exception()
        else:
            super().handle_cont(event)

    def handle_ping(self) -> None:
        if self.writable.is_set():
            super().handle_ping()
        else:
            self.conn.data_to_send()  # whoever does not read gets no pongs: they would be kept without end


class InTime(Drained, H11Protocol):
    """uvicorn's HTTP, with a time in which the head of a request has to be there; a body has one in middleware.py."""

    head_timeout = 10.0  # seconds; make_server says how many
    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._forget()

    def _watch(self) -> None:
        """A connection that has begun a head, or never said anything, is waited for so long."""
        if self.conn.their_state is not h11.IDLE:
            self._forget()
        elif self._late is None:
            self._late = self.loop.call_later(self.head_timeout, self.transport.abort)

    def _forget(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None


class Server(uvicorn.Server):
    """uvicorn without its signal handlers: what a signal means is decided in one place for the whole program."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens there; with "::" on IPv4 as well, where the system can.

    Raises:
        Failure: The port is taken, or there is no such address here.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    dual = host == "::" and socket.has_dualstack_ipv6()
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG, dualstack_ipv6=dual)
    except OSError as error:
        why = error.strerror or str(error)
        raise Failure(f"the page cannot have port {port} on {host}: {why}; choose another HTTP_PORT") from None


def make_server(app: FastAPI, settings: WebSettings) -> Server:
    """Return a server for an application, not started."""
    protocol = type("InTime", (InTime,), {"head_timeout": settings.body_timeout})
    config = uvicorn.Config(
        app,
        http=protocol,
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,  # ours are of named proxies only (create_app)
        server_header=False,
        ws=Frames,
        ws_max_size=settings.max_body_bytes,
        ws_ping_interval=PING_EVERY,
        ws_ping_timeout=PING_EVERY,
        ws_per_message_deflate=False,  # its windows cost more memory for each user than everything else together
        h11_max_incomplete_event_size=settings.max_header_bytes,
        timeout_graceful_shutdown=STOP_WITHIN,
        backlog=BACKLOG,
    )
    return Server(config)


async def started(server: Server, task: asyncio.Task[None]) -> None:
    """Return when a server takes connections, or its task has ended."""
    while not server.started and not task.done():
        await asyncio.sleep(0.01)  # uvicorn tells nobody


def url_of(host: str, port: int, root_path: str = "") -> str:
    """Return the address of the page on this machine."""
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{host}:{port}{root_path}/"
