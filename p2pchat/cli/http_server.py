"""The HTTP server of a gateway: uvicorn, with limits of its own on WebSockets.

web/security.py limits what a complete request may be. What connections cost before and after that, as slow heads and
answers that nobody reads, is for a proxy to limit (docs/operations.md).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Callable, Iterator
from typing import Any

import h11
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from p2pchat.commands.exit_codes import CommandError
from p2pchat.web import WebSettings

BACKLOG = 2048  # of waiting connections: after a restart all users reconnect at once
STOP_TIMEOUT = 5  # seconds for requests in progress to end
MAX_READ_BYTES = 8192  # at once from a WebSocket: 1,300 of the smallest frames, some 10 ms of work
# Bytes that the system keeps of what is sent on a WebSocket; Linux keeps twice as many. Left to itself it takes 4 MiB
# for each client that reads slowly, which no limit of a session counts. A guess.
SEND_BUFFER = 128 * 1024
MAX_FRAGMENTS = 1024  # of one message: the byte limit does not count empty ones
TOO_BIG = 1009  # RFC 6455: a message too big to process
ANSWER_TIMEOUT = 5.0  # seconds to answer what a client sent before its Close: half of what clients wait for the reply
# Lines of uvicorn, by their beginnings, that a client causes as often as it likes: gigabytes a day.
LINES_OF_CLIENTS = (
    "Invalid HTTP request received", "Unsupported upgrade request", "Invalid UTF-8 sequence received",
    "ASGI callable returned without completing handshake",
)  # fmt: skip
PING_INTERVAL = 20.0  # seconds: keeps connections open through proxies, and detects browsers that are gone


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """uvicorn's WebSocket, with limits against clients that cause much work at little cost.

    It sends pings for the application and tells it when they are answered: "p2pchat.ping" in the scope's extensions.
    What the application sends after a client's Close, such as answers to the frames before it, goes out before the
    reply to the Close (RFC 6455, section 5.5.1, lets that wait). Frames that come before the application has accepted
    the connection wait until then.
    """

    frames: list[bytes]  # of uvicorn, as the next two
    close_sent: bool
    close_timer: asyncio.TimerHandle | None
    _early = b""  # came before the answer to the handshake
    _close_reply: bytes | None = None  # to the client's Close
    _pings = 0
    _unanswered: tuple[bytes, Callable[[], None]] | None = None  # the payload of the last ping

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if hasattr(transport, "max_size"):  # of asyncio: how much is read before other connections have their turn
            transport.max_size = MAX_READ_BYTES
        if (connected := transport.get_extra_info("socket")) is not None:
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)

    def handle_connect(self, event: Any) -> None:
        super().handle_connect(event)
        if self.response.status_code == 101:
            self.scope["extensions"]["p2pchat.ping"] = self.ping  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        if self.handshake_initiated and not self.handshake_complete:
            self._early += data
            self.transport.pause_reading()
        else:
            super().data_received(data)

    def ping(self, on_pong: Callable[[], None]) -> None:
        """Send a ping, and call `on_pong` once it is answered: the client has everything sent before it."""
        if not (self.close_sent or self.transport.is_closing()):
            self._pings += 1
            self._unanswered = self._pings.to_bytes(8), on_pong  # uvicorn's own pings have 4 bytes
            self.conn.send_ping(self._unanswered[0])
            self.transport.write(b"".join(self.conn.data_to_send()))

    def handle_pong(self, event: Any) -> None:
        if self._unanswered is not None and bytes(event.data) == self._unanswered[0]:
            (_, on_pong), self._unanswered = self._unanswered, None
            on_pong()
        else:
            super().handle_pong(event)

    def handle_cont(self, event: Any) -> None:
        if len(self.frames) >= MAX_FRAGMENTS:
            self.frames = []
            self.conn.fail(TOO_BIG, "too many fragments")
            self.handle_parser_exception()
        else:
            super().handle_cont(event)

    def handle_close(self, event: Any) -> None:
        if self.close_sent or self.transport.is_closing():
            super().handle_close(event)
            return
        close = self.conn.close_rcvd
        assert close is not None
        self.queue.put_nowait({"type": "websocket.disconnect", "code": close.code, "reason": close.reason})
        self.close_sent, self._close_reply = True, b"".join(self.conn.data_to_send())
        self.close_timer = self.loop.call_later(ANSWER_TIMEOUT, self._reply_to_close)

    async def send(self, message: Any) -> None:
        if self._close_reply is None:
            await super().send(message)
            if self._early and self.handshake_complete:
                early, self._early = self._early, b""
                if not self.transport.is_closing():  # it is after a refusal
                    self.transport.resume_reading()
                    self.data_received(early)
            await self.writable.wait()  # so that whoever sends knows when the client has taken it
            return
        await self.writable.wait()
        if self.transport.is_closing():
            raise ClientDisconnected
        if message["type"] == "websocket.send":  # websockets itself sends nothing any more
            from websockets.frames import Frame, Opcode

            text = message.get("text")
            frame = Frame(Opcode.BINARY, message["bytes"]) if text is None else Frame(Opcode.TEXT, text.encode())
            self.transport.write(frame.serialize(mask=False, extensions=self.conn.extensions))
        else:
            self._reply_to_close()

    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        super().on_task_complete(task)
        self._reply_to_close()

    def _reply_to_close(self) -> None:
        if self._close_reply is not None and not self.transport.is_closing():
            self.transport.write(self._close_reply)
            self.transport.close()

    def handle_ping(self) -> None:
        if self.conn.close_rcvd is not None:
            return  # a Close came with the ping: the pong goes out with the reply to it
        if self.writable.is_set():
            super().handle_ping()
        else:
            self.conn.data_to_send()  # discard the pong: for a client that does not read, pongs would pile up


class RequestProtocol(H11Protocol):
    """uvicorn's HTTP, without a gap before a WebSocket."""

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """Pass on frames that came with the request too: uvicorn drops what came before the WebSocket took over."""
        super().handle_websocket_upgrade(event)
        early, _ = self.conn.trailing_data
        if early:
            self.transport.get_protocol().data_received(early)  # type: ignore[attr-defined]


class PageServer(uvicorn.Server):
    """uvicorn without its signal handlers: Shutdown handles the signals of the whole program."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that will listen there once a server has it; "::" is for IPv4 too, where the system can.

    Until then connections are refused: a balancer gives them to another gateway, and they need not wait for this one.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # unnamed, asyncio sets no TCP_NODELAY
    try:
        if os.name == "posix":  # as socket.create_server does: on Windows it would take another's port
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            is_dual = host == "::" and socket.has_dualstack_ipv6()
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not is_dual)
        made.bind((host, port))
        return made
    except OSError as error:
        made.close()
        why = f"the page cannot have port {port} on {host}: {error.strerror or error}; choose another HTTP_PORT"
        raise CommandError(why) from None


def make_server(app: FastAPI, settings: WebSettings) -> PageServer:
    """Return a server for an application, not yet started."""
    logging.getLogger("uvicorn.error").addFilter(_is_of_gateway)  # a second time does nothing
    config = uvicorn.Config(
        app,
        http=RequestProtocol,
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,  # create_app handles those of named proxies only
        server_header=False,
        ws=WebSocketProtocol,
        ws_max_size=settings.max_body_bytes,
        ws_ping_interval=PING_INTERVAL,
        ws_ping_timeout=PING_INTERVAL,
        ws_per_message_deflate=False,  # its windows take more memory for each user than everything else
        h11_max_incomplete_event_size=settings.max_header_bytes,
        timeout_graceful_shutdown=STOP_TIMEOUT,
        backlog=BACKLOG,
    )
    return PageServer(config)


def _is_of_gateway(record: logging.LogRecord) -> bool:
    """Return whether a line of the log is about the gateway, and not about what a client sent."""
    return not str(record.msg).startswith(LINES_OF_CLIENTS)


async def wait_until_started(server: PageServer, task: asyncio.Task[None]) -> None:
    """Wait until a server accepts connections, or its task has ended."""
    while not server.started and not task.done():
        await asyncio.sleep(0.01)  # uvicorn has no event for it


def url_of(host: str, port: int, root_path: str = "") -> str:
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{host}:{port}{root_path}/"
