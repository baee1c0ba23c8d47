"""What waits to be sent on one WebSocket: bounded, in order, written by a task of its own.

Whoever puts something in never waits. Beyond the bounds the socket is too slow for what it gets: it is closed, and
its client comes back and asks for what it missed.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from fastapi import WebSocket
from starlette.websockets import WebSocketDisconnect

from p2pchat.web.hub import LightEvent, QueueFull
from p2pchat.web.settings import WebSettings

CLOSE_WITHIN = 5.0  # seconds for what is left, and for the goodbye of the other side


class SendQueue:
    """The frames for one socket.

    Args:
        sent: Told what was put in with a frame once that frame is written.
    Attributes:
        gone: The socket is closed, or about to be: nothing more is sent.
    """

    __slots__ = ("_bytes", "_close", "_frames", "_room", "_sent", "_settings", "_there", "_websocket", "gone")

    def __init__(
        self, websocket: WebSocket, settings: WebSettings, sent: Callable[[Any], None] = lambda what: None
    ) -> None:
        self._websocket = websocket
        self._settings = settings
        self._sent = sent
        self._frames: deque[tuple[Frame, Any]] = deque()
        self._bytes = 0
        self._there = LightEvent()  # something to send, or to close
        self._room = LightEvent(up=True)  # nothing waits
        self._close: tuple[int, str] | None = None
        self.gone = False

    def put(self, frame: Frame, what: Any = None, *, bounded: bool = True) -> None:
        """Send a frame soon; it is dropped when the socket is gone.

        Args:
            what: Handed to `sent` once it is written.
            bounded: Only if there is room; False for who gives a page and waits then (drained): the page is the bound.
        Raises:
            Slow: Too much waits already.
        """
        if self.gone or self._close is not None:
            return
        if bounded and not self._has_room():
            raise QueueFull
        self._frames.append((frame, what))
        self._bytes += size_of(frame)
        self._room.clear()
        self._there.set()

    def _has_room(self) -> bool:
        return len(self._frames) < self._settings.outbox_frames and self._bytes < self._settings.outbox_bytes

    async def drained(self) -> None:
        """Wait until nothing is left to be sent: for who has much to say and may wait."""
        await self._room.wait()

    def close(self, code: int, reason: str, *, at_once: bool = False) -> None:
        """Send what is left, then close; `at_once`: without what is left."""
        if at_once:
            self._frames.clear()
        self._close = self._close or (code, reason)
        self._there.set()

    async def run(self) -> None:
        """Send until the socket is gone or is to be closed."""
        try:
            while True:
                await self._there.wait()
                await self._send_all()
                if self._close is not None:
                    return
        except (WebSocketDisconnect, RuntimeError, OSError):
            pass  # the other side has gone
        finally:
            self.gone = True
            self._frames.clear()
            self._room.set()
            await self._say_goodbye()

    async def _send_all(self) -> None:
        frames, send = self._frames, self._websocket.send
        while frames:
            frame, what = frames.popleft()
            self._bytes -= size_of(frame)
            await send(frame)
            if what is not None:
                self._sent(what)
        self._there.clear()
        self._room.set()

    async def _say_goodbye(self) -> None:
        if self._close is None:
            return
        try:
            async with asyncio.timeout(CLOSE_WITHIN):
                await self._websocket.close(*self._close)
        except (WebSocketDisconnect, RuntimeError, OSError, TimeoutError):
            pass


# ---- frames
#
# JSON in text frames of WebSockets: what comes in is an object or nothing, what goes out is made once for many.


Frame = dict[str, Any]  # a message of ASGI, ready to be sent; the same object may go to many sockets


def as_frame(said: Mapping[str, Any]) -> Frame:
    """Return an object as a frame to send."""
    return {"type": "websocket.send", "text": json.dumps(said, ensure_ascii=False, separators=(",", ":"))}


def size_of(frame: Frame) -> int:
    """Return about how many bytes of memory a frame takes."""
    return len(frame.get("text", "")) + 64


def read_object(text: str) -> dict[str, Any] | None:
    """Return the JSON object in a text; None when it is something else, also when it only begins like one."""
    if not text.lstrip().startswith("{"):
        return None
    try:
        found = json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _no_number(constant: str) -> float:
    raise ValueError(f"{constant} is no JSON")
