"""The connection of `p2pchat client` to its gateway, which comes back by itself and loses nothing on the way.

What was said and not acknowledged is said again after a break, with the same key, so that it is written once; what
came meanwhile is asked for behind the last message that came (`since`), and what comes twice is passed over.
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
MOST_FRAME_BYTES = 1024 * 1024  # a text of 32 KiB has at most 192 KiB when every character of it is escaped
OPEN_WITHIN = 10.0  # seconds
PAUSES = (0.1, 0.5, 1.0, 2.0, 5.0)  # seconds before each attempt to come back; the last for all further ones
MOST_KNOWN = 4096  # ids of messages that came, to pass over what comes twice
TRY_AGAIN = (429, 502, 503, 504)  # HTTP: busy, stopping, or a proxy before a gateway that is not back yet
REFUSED = 1008  # RFC 6455: policy violation; the gateway does not want us


@dataclass(slots=True)
class GatewayAddress:
    """Where to, and as whom. `user` is a name for who carries no token."""

    url: str
    user: str = ""
    token: str = field(default="", repr=False)

    @property
    def is_on_this_machine(self) -> bool:
        return is_loopback(urlsplit(self.url).hostname or "")

    def address(self, since: str) -> str:
        """Return the address to connect to, going on behind a message."""
        parts = urlsplit(self.url)
        words = {"since": since} if self.token else {"user": self.user, "since": since}
        query = "&".join(part for part in (parts.query, urlencode(words)) if part)
        return urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/") or "/chat", query, ""))


class GatewayConnection:
    """One connection after the other.

    Args:
        heard: Called with every frame that is news, and for an answer with what was said.
        told: Called with what happens to the connection, for people.
    Attributes:
        me: How the gateway calls us; the name asked for until it says.
        ready: Set once we have been connected.
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

    # ---- what is said

    async def say(self, frame: Mapping[str, Any]) -> Frame:
        """Send a frame as soon as there is a connection; returns it as it is sent."""
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
                pass  # it is said again when we are back

    async def acknowledged(self, timeout: float) -> int:
        """Wait until everything said is answered; returns how much is not, in time."""
        try:
            async with asyncio.timeout(timeout):
                await self._quiet.wait()
        except TimeoutError:
            pass
        return len(self._unacknowledged)

    # ---- the connection

    async def run(self) -> None:
        """Connect, and come back for ever. Raises Failure when the gateway does not want us, or never was there."""
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
        """One connection, until it ends. Raises OSError when it breaks, Failure when we are refused."""
        from websockets.asyncio.client import connect
        from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI

        gateway = self._gateway
        headers = {"Authorization": f"Bearer {gateway.token}"} if gateway.token else {}
        try:
            async with connect(
                gateway.address(self._since),
                additional_headers=headers,
                open_timeout=OPEN_WITHIN,
                max_size=MOST_FRAME_BYTES,
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
        return CommandError(f"the gateway at {self._gateway.url} does not let us in: {why}")

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
        """Everything missed was told: we may speak, and first say again what was not acknowledged."""
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
        if len(self._known) > MOST_KNOWN:
            self._known.popitem(last=False)
        return True

    def _find_sent(self, frame: Frame) -> Frame | None:
        """Return what we said and got no answer to, when this message, told after a break, is it."""
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
            self._is_news(frame["id"])  # now it is known: told again after a break, it is none
        await self._on_frame(frame, self._pop_sent(str(frame.get("ref", ""))))

    def _pop_sent(self, ref: str) -> Frame | None:
        sent = self._unacknowledged.pop(ref, None)
        if not self._unacknowledged:
            self._quiet.set()
        return sent


def _why(error: OSError) -> str:
    return error.strerror or str(error) or type(error).__name__
