"""Bounded send queue of one WebSocket.

put() never waits; a task of the queue's own writes the frames in order. When the queue is full, its client is too slow:
its session ends, and the client reconnects and asks for what it missed.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from fastapi import WebSocket
from starlette.websockets import WebSocketDisconnect

from p2pchat.web.settings import WebSettings

CLOSE_TIMEOUT = 5.0  # seconds to send what is left and to complete the closing handshake

Frame = dict[str, Any]  # an ASGI message, ready to send; many sockets may share one


class QueueFull(Exception):
    """A session has no room for more and is to be ended."""


class SendQueue:
    """The frames to be sent on one socket.

    Args:
        on_sent: Called with the `item` of each frame once that frame is written.
    Attributes:
        gone: The socket is closed or about to be; nothing more is sent.
    """

    __slots__ = ("_bytes", "_close", "_empty", "_frames", "_on_sent", "_settings", "_wake", "_websocket", "gone")

    def __init__(
        self, websocket: WebSocket, settings: WebSettings, on_sent: Callable[[Any], None] = lambda item: None
    ) -> None:
        self._websocket = websocket
        self._settings = settings
        self._on_sent = on_sent
        self._frames: deque[tuple[Frame, Any]] = deque()
        self._bytes = 0
        self._wake = LightEvent()  # there is something to send, or to close
        self._empty = LightEvent(is_set=True)
        self._close: tuple[int, str] | None = None
        self.gone = False

    def put(self, frame: Frame, item: Any = None, *, bounded: bool = True) -> None:
        """Queue a frame; it is dropped if the socket is gone.

        Args:
            item: Passed to `on_sent` once the frame is written.
            bounded: Check the limits. False for a caller that puts one page and then waits for drained().
        Raises:
            QueueFull: Too many frames or bytes are waiting.
        """
        if self.gone or self._close is not None:
            return
        if bounded and not self._has_room():
            raise QueueFull
        self._frames.append((frame, item))
        self._bytes += frame_size(frame)
        self._empty.clear()
        self._wake.set()

    def _has_room(self) -> bool:
        return len(self._frames) < self._settings.outbox_frames and self._bytes < self._settings.outbox_bytes

    async def drained(self) -> None:
        """Wait until the queue is empty."""
        await self._empty.wait()

    def close(self, code: int, reason: str, *, at_once: bool = False) -> None:
        """Close the socket after sending what is queued, or `at_once` without it."""
        if at_once:
            self._frames.clear()
        self._close = self._close or (code, reason)
        self._wake.set()

    async def run(self) -> None:
        """Send frames until the socket is gone or is to be closed."""
        try:
            while True:
                await self._wake.wait()
                await self._send_all()
                if self._close is not None:
                    return
        except (WebSocketDisconnect, RuntimeError, OSError):
            pass  # the client is gone
        finally:
            self.gone = True
            self._frames.clear()
            self._empty.set()
            await self._close_socket()

    async def _send_all(self) -> None:
        frames, send = self._frames, self._websocket.send
        while frames:
            frame, item = frames.popleft()
            self._bytes -= frame_size(frame)
            await send(frame)
            if item is not None:
                self._on_sent(item)
        self._wake.clear()
        self._empty.set()

    async def _close_socket(self) -> None:
        if self._close is None:
            return
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self._websocket.close(*self._close)
        except (WebSocketDisconnect, RuntimeError, OSError, TimeoutError):
            pass


class LightEvent:
    """An asyncio.Event for objects that exist in thousands.

    An asyncio.Event takes 760 bytes, even while nothing waits for it.
    """

    __slots__ = ("_is_set", "_waiters")

    def __init__(self, *, is_set: bool = False) -> None:
        self._is_set = is_set
        self._waiters: list[asyncio.Future[None]] | None = None

    def is_set(self) -> bool:
        return self._is_set

    def set(self) -> None:
        """Set the event and wake all that wait."""
        self._is_set = True
        waiters, self._waiters = self._waiters, None
        for future in waiters or ():
            if not future.done():
                future.set_result(None)

    def clear(self) -> None:
        self._is_set = False

    async def wait(self) -> None:
        """Return once the event was set, even if it was cleared again."""
        if self._is_set:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters = [*(one for one in self._waiters or () if not one.done()), future]
        await future


def as_frame(content: Mapping[str, Any]) -> Frame:
    """Return a JSON object as a text frame."""
    return {"type": "websocket.send", "text": json.dumps(content, ensure_ascii=False, separators=(",", ":"))}


def frame_size(frame: Frame) -> int:
    """Return roughly how many bytes of memory a frame takes."""
    return len(frame.get("text", "")) + 64


def read_object(text: str) -> dict[str, Any] | None:
    """Return the JSON object in a text; None if it is anything else or invalid."""
    if not text.lstrip().startswith("{"):
        return None
    try:
        found = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _refuse_constant(constant: str) -> float:
    raise ValueError(f"{constant} is not valid JSON")
