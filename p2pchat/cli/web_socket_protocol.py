"""The WebSockets of a gateway: uvicorn's, with limits of its own."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

MAX_READ_BYTES = 8192  # at once from a WebSocket: 1,300 of the smallest frames, some 10 ms of work
# Bytes that the system keeps of what is sent on a WebSocket; Linux keeps twice as many. Left to itself it takes 4 MiB
# for each client that reads slowly, which no limit of a session counts. A guess.
SEND_BUFFER = 128 * 1024
MAX_FRAGMENTS = 1024  # of one message: the byte limit does not count empty ones
TOO_BIG = 1009  # RFC 6455: a message too big to process
ANSWER_TIMEOUT = 5.0  # seconds to answer what a client sent before its Close: half of what clients wait for the reply


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """uvicorn's WebSocket, with limits against clients that cause much work at little cost.

    It sends pings for the application and tells it when they are answered: "p2pchat.ping" in the scope's extensions.
    What the application sends after a client's Close, such as answers to the frames before it, goes out before the
    reply to the Close (RFC 6455, section 5.5.1, lets that wait).
    """

    frames: list[bytes]  # of uvicorn, as the next two
    close_sent: bool
    close_timer: asyncio.TimerHandle | None
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
