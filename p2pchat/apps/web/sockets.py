"""What the WebSockets of a gateway have in common: who comes, and a way out that is bounded.

A browser's WebSocket carries no headers of its own, so the token may be the first frame, `{"token": ...}`; where
callers on this machine are trusted, that may be `{"name": ...}`.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from typing import Any

from fastapi import WebSocket
from starlette.websockets import WebSocketDisconnect, WebSocketState

from p2pchat.apps.web.accounts import Account
from p2pchat.apps.web.callers import account_of_token, address_of, may_name_itself, named_account, token_of
from p2pchat.apps.web.errors import Unauthorized
from p2pchat.apps.web.gateway import gateway_of
from p2pchat.apps.web.hub import Slow

MAX_HELLO_BYTES = 4096  # a token has some 50 characters


async def who_comes(socket: WebSocket, name: str | None = None) -> Account:
    """Return the account behind an accepted WebSocket: by its header, by `name` where that is trusted, else by its
    first frame.

    Args:
        name: Who it says to be in its address; None: it does not say.
    Raises:
        Unauthorized: It says nothing within token_timeout, or nobody here has that token. TooMany: It guesses.
        WebSocketDisconnect: It has gone.
    """
    if token_of(socket) is not None or (name and may_name_itself(socket)):
        return await named_account(socket, name)
    try:
        async with asyncio.timeout(gateway_of(socket).settings.token_timeout):
            said = _object(await socket.receive_text())
    except (TimeoutError, KeyError):
        raise Unauthorized('who is it? The first frame is {"token": TOKEN}') from None
    token, called = said.get("token"), said.get("name")
    if isinstance(token, str):
        return await account_of_token(gateway_of(socket), token, address_of(socket))
    return await named_account(socket, called if isinstance(called, str) else None)


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text) if len(text) <= MAX_HELLO_BYTES else None
    except (ValueError, RecursionError):
        found = None
    return found if isinstance(found, dict) else {}


class Outgoing:
    """Text frames on their way out, of which a bounded number may wait for whoever is slow.

    Args:
        frames, size_bytes: As many may wait, and as much.
    """

    def __init__(self, socket: WebSocket, *, frames: int, size_bytes: int) -> None:
        self._socket = socket
        self._frames = frames
        self._size_bytes = size_bytes
        self._waiting: deque[str] = deque()
        self._bytes = 0
        self._news = asyncio.Event()
        self._taken = asyncio.Event()

    def put(self, text: str) -> None:
        """Send this after all before it. Raises Slow when too much waits already, and sends nothing."""
        if len(self._waiting) >= self._frames or self._bytes > self._size_bytes:
            raise Slow
        self._waiting.append(text)
        self._bytes += len(text)
        self._news.set()

    async def put_when_taken(self, text: str) -> None:
        """Send this once half of what may wait has gone: for answers, which are made one after the other."""
        while len(self._waiting) > self._frames // 2 or self._bytes > self._size_bytes // 2:
            self._taken.clear()
            await self._taken.wait()
        self.put(text)

    async def run(self) -> None:
        """Send what comes, until cancelled or the other side has gone."""
        try:
            while True:
                while self._waiting:
                    text = self._waiting.popleft()
                    self._bytes -= len(text)
                    await self._socket.send_text(text)
                    self._taken.set()
                self._news.clear()
                await self._news.wait()
        except (WebSocketDisconnect, RuntimeError):  # gone: whoever reads from it notices
            self._taken.set()

    async def close(self, code: int, reason: str = "") -> None:
        """Close the WebSocket, when it is still open."""
        if self._socket.application_state == WebSocketState.CONNECTED:
            try:
                await self._socket.close(code, reason)
            except RuntimeError:
                pass  # gone meanwhile
