"""The connection of `p2pchat client` to its gateway, which reconnects and loses nothing.

After a break, messages that were not acknowledged are sent again with the same key, so that they are written once.
Messages that came meanwhile are requested with the id of the last one received (`since`); duplicates are dropped.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit, urlunsplit

from p2pchat.commands.endpoints import is_loopback
from p2pchat.commands.errors import CommandError

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection

Frame = dict[str, Any]
MAX_FRAME_BYTES = 1024 * 1024  # a text of 32 KiB has at most 192 KiB when every character of it is escaped
OPEN_TIMEOUT = 10.0  # seconds
PAUSES = (0.1, 0.5, 1.0, 2.0, 5.0)  # seconds before each attempt to reconnect; the last one repeats
MAX_KNOWN = 4096  # ids of received messages, to drop duplicates
TRY_AGAIN = (429, 502, 503, 504)  # HTTP: busy, stopping, or a proxy whose gateway is not back yet
REFUSED = 1008  # RFC 6455: policy violation; the gateway refuses this client


@dataclass(slots=True)
class GatewayAddress:
    """The address of a gateway, with a token, or without one with the name of a user."""

    url: str
    user: str = ""
    token: str = field(default="", repr=False)

    @property
    def is_on_this_machine(self) -> bool:
        return is_loopback(urlsplit(self.url).hostname or "")

    def address(self, since: str) -> str:
        """Return the URL to connect to; `since` is the id of the last message received, "" for none."""
        parts = urlsplit(self.url)
        words = {"since": since} if self.token else {"user": self.user, "since": since}
        query = "&".join(part for part in (parts.query, urlencode(words)) if part)
        return urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/") or "/chat", query, ""))


class GatewayConnection:
    """A connection that is opened again whenever it breaks.

    Args:
        on_frame: Called with every new frame; the second argument is the frame that was sent, for an answer.
        on_status: Called with a text for people when the connection opens or breaks.
    Attributes:
        me: The name of this user at the gateway; until it answers, the one asked for.
        ready: Set after the first connection.
    """

    def __init__(
        self,
        gateway: GatewayAddress,
        on_frame: Callable[[Frame, Frame | None], Awaitable[None]],
        on_status: Callable[[str], None],
    ) -> None:
        self._gateway = gateway
        self._on_frame = on_frame
        self._on_status = on_status
        self.me = gateway.user
        self.ready = asyncio.Event()
        self._since = ""
        self._known: OrderedDict[str, None] = OrderedDict()
        self._unacknowledged: OrderedDict[str, Frame] = OrderedDict()  # not acknowledged yet, by ref
        self._refs = 0
        self._socket: ClientConnection | None = None  # one that may be written to: it has resumed
        self._connected = 0
        self._quiet = asyncio.Event()
        self._quiet.set()

    async def send(self, frame: Mapping[str, Any]) -> Frame:
        """Send a frame as soon as there is a connection; return it as it is sent."""
        self._refs += 1
        sent = {"ref": f"{self._refs}", "key": secrets.token_hex(8), **frame}
        if "text" in sent or "content" in sent:
            self._unacknowledged[str(sent["ref"])] = sent
            self._quiet.clear()
        await self._write(sent)
        return sent

    async def _write(self, frame: Frame) -> None:
        from websockets.exceptions import ConnectionClosed

        if self._socket is not None:
            try:
                await self._socket.send(json.dumps(frame, ensure_ascii=False))
            except ConnectionClosed:
                pass  # it is sent again after reconnecting

    async def acknowledged(self, timeout: float) -> int:
        """Wait until everything sent is answered; return how many frames are not answered in time."""
        try:
            async with asyncio.timeout(timeout):
                await self._quiet.wait()
        except TimeoutError:
            pass
        return len(self._unacknowledged)

    async def run(self) -> None:
        """Connect, and reconnect for ever. Raises CommandError when the gateway refuses, or was never reached."""
        attempt = 0
        while True:
            before = self._connected
            try:
                await self._once()
                reason = "it closed the connection"
            except OSError as error:
                if not self._connected:
                    raise CommandError(f"cannot reach the gateway at {self._gateway.url}: {_why(error)}") from None
                reason = _why(error)
            finally:
                self._socket = None
            if self._connected > before:
                attempt = 0
                self._on_status(f"the connection is lost ({reason}): trying again")
            await asyncio.sleep(PAUSES[min(attempt, len(PAUSES) - 1)])
            attempt += 1

    async def _once(self) -> None:
        """Run one connection until it ends. Raises OSError when it breaks, CommandError when the gateway refuses."""
        from websockets.asyncio.client import connect
        from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI

        gateway = self._gateway
        headers = {"Authorization": f"Bearer {gateway.token}"} if gateway.token else {}
        try:
            async with connect(
                gateway.address(self._since),
                additional_headers=headers,
                open_timeout=OPEN_TIMEOUT,
                max_size=MAX_FRAME_BYTES,
                proxy=None if gateway.is_on_this_machine else True,
            ) as socket:
                async for text in socket:
                    await self._take(socket, json.loads(text))
                raise ConnectionClosed(socket.protocol.close_rcvd, socket.protocol.close_sent)
        except InvalidStatus as error:
            raise self._refusal_error(error.response.status_code, error.response.body) from None
        except ConnectionClosed as error:
            if error.rcvd is not None and error.rcvd.code == REFUSED:
                raise CommandError(f"the gateway closed the connection: {error.rcvd.reason or 'refused'}") from None
            raise ConnectionError("it broke" if error.rcvd is None else error.rcvd.reason or "it was closed") from None
        except InvalidURI as error:
            raise CommandError(f"cannot reach the gateway at {gateway.url}: {error}") from None
        except (InvalidHandshake, TimeoutError, ValueError) as error:
            raise ConnectionError(str(error) or "it does not answer") from None

    def _refusal_error(self, status: int, body: bytes | bytearray | None) -> Exception:
        try:
            why = str(json.loads(body or b"")["text"])
        except (ValueError, KeyError, TypeError):
            why = f"it answers with HTTP {status}; is that a gateway, and the address its /chat?"
        if status in TRY_AGAIN and self._connected:
            return ConnectionError(why)
        return CommandError(f"the gateway at {self._gateway.url} refuses this client: {why}")

    async def _take(self, socket: ClientConnection, frame: Frame) -> None:
        kind = frame.get("type")
        if kind == "resumed":
            await self._resumed(socket, frame)
        elif kind == "message":
            self._since = frame["id"]
            if self._is_news(frame["id"]):
                await self._on_frame(frame, self._find_sent(frame))
        elif "status" in frame and kind is None:
            await self._answered(frame)
        else:
            await self._on_frame(frame, None)

    async def _resumed(self, socket: ClientConnection, frame: Frame) -> None:
        """Start to send, after all missed messages came: first again what was not acknowledged."""
        self._since = self._since or frame.get("last", "")
        self.me = frame.get("user", self.me)
        self._connected += 1
        self._socket = socket
        self.ready.set()
        self._on_status(f"{'connected' if self._connected == 1 else 'back'} as {self.me}")
        for sent in list(self._unacknowledged.values()):
            await self._write(sent)

    def _is_news(self, id: str) -> bool:
        if id in self._known:
            return False
        self._known[id] = None
        if len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)
        return True

    def _find_sent(self, frame: Frame) -> Frame | None:
        """Return the unacknowledged frame that this message, received after a break, is a copy of; None for none."""
        if frame["from"] != self.me or self._socket is not None:
            return None
        same = (
            ref
            for ref, sent in self._unacknowledged.items()
            if sent.get("text", sent.get("content")) == frame["content"]
        )
        return self._pop_sent(next(same, ""))

    async def _answered(self, frame: Frame) -> None:
        if frame["status"] == "ok":
            self._is_news(frame["id"])  # a copy received after a break is a duplicate
        await self._on_frame(frame, self._pop_sent(str(frame.get("ref", ""))))

    def _pop_sent(self, ref: str) -> Frame | None:
        sent = self._unacknowledged.pop(ref, None)
        if not self._unacknowledged:
            self._quiet.set()
        return sent


def _why(error: OSError) -> str:
    return error.strerror or str(error) or type(error).__name__
