"""NATS servers through nats-py (extra `nats`), for the engine of a cluster (engine_store.py).

Their URLs, signing in, growing pauses between attempts to connect, and the ends of connections.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from p2pchat import P2PChatError
from p2pchat.extras import missing_extra
from p2pchat.program_log import ProgramLog

if TYPE_CHECKING:
    from nats.aio.client import Client

DEFAULT_PORT = 4222
CONNECT_TIMEOUT = 5.0  # seconds for connecting and signing in; a guess
RETRY_FIRST = 0.1  # seconds until the next attempt, doubled each time, full jitter: links are to be back soon
CLOSED_WITHIN = 1.0  # seconds; a guess
CANCELLED_EVERY = 0.2  # seconds; see cancel()
CHECKED_EVERY = 0.5  # seconds; nats-py may close a connection whose server died without calling back. A guess
MAX_OUTSTANDING_PINGS = 2  # unanswered; then the server is gone
# Of a message, or of a line of the server that has not ended: a server takes no message above 64 MiB, whatever its
# operator configures; its longest line names all servers of its cluster. A guess, as the next
MAX_MESSAGE_BYTES = 64 << 20
MAX_LINE_BYTES = 256 << 10
MAX_HEADER_BYTES = 16 << 10  # of a message: those of JetStream have some hundred; nats-py takes 100 ms for 1 MiB
# In the patterns of nats-py's parser: its spaces, and those of the server, to which \v and \f are part of a name
_SPACES = {rb"[^\s]": rb"[^ \t\r\n]", rb"[^\S\r\n]": b"[ \t]", rb"\s": b"[ \t]"}
_SCHEMES = ("nats", "tls", "ws", "wss")

_log = ProgramLog("p2pchat.engine")


def require() -> None:
    """Raise P2PChatError if the extra is not installed."""
    try:
        import nats.js
        import nkeys
    except ImportError:
        raise P2PChatError(missing_extra("an engine needs nats-py", "nats")) from None
    del nats, nkeys


# ---- servers


def parse_servers(servers: str | Sequence[str]) -> tuple[str, ...]:
    """Return the URLs of an engine's servers, from one text with commas or from several.

    Raises:
        ValueError: One of them is no URL of a server; the text does not show it, since it may contain a password.
    """
    texts = servers.split(",") if isinstance(servers, str) else servers
    found = tuple(_parse_server(text.strip()) for text in texts if text.strip())
    if not found:
        raise ValueError("an engine is named by the URL of a server: nats://HOST:4222")
    return found


def _parse_server(text: str) -> str:
    url = text if "://" in text else f"nats://{text}"
    try:
        parts = urlsplit(url)
        port = parts.port or DEFAULT_PORT
    except ValueError:
        raise ValueError("the URL of an engine has no valid port: write nats://HOST:4222") from None
    if parts.scheme not in _SCHEMES or not parts.hostname or parts.path.strip("/"):
        raise ValueError("an engine is named by the URL of a server: nats://HOST:4222, or tls://HOST:4222")
    login, at, _ = parts.netloc.rpartition("@")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{login}{at}{host}:{port}"


def shown(server: str) -> str:
    """Return the URL of a server without the password in it."""
    parts = urlsplit(server)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def sign_in_with(credentials: Path) -> dict[str, Any]:
    """Return the arguments of nats-py for a file of the operator, .creds or the seed of an nkey."""
    try:
        text = credentials.read_text("ascii", "replace").strip()
    except OSError as error:
        raise P2PChatError(f"the credentials {str(credentials)!a} cannot be read: {error.strerror}") from None
    return {"nkeys_seed_str": text} if re.fullmatch("SU[A-Z2-7]+", text) else {"user_credentials": credentials}


# ---- connections


class Connection:
    """One connection to one server, until it is lost.

    Args:
        explain: Returns for people why there is no connection.
        min_payload_bytes: A server that takes only smaller messages is refused.
    Attributes:
        client: The client of nats-py.
        lost: Done when the connection is lost, with the reason.
    """

    def __init__(self, server: str, explain: Callable[[Exception], str], min_payload_bytes: int) -> None:
        self.client: Client = _careful_client(server, min_payload_bytes)
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._server = server
        self._explain = explain
        self._error: Exception | None = None  # the last one that nats-py reported

    async def open(self, sign_in: dict[str, Any], ping_every: int) -> None:
        """Connect and sign in; call it with a timeout, and ask cause() about what it raises."""
        await self.client.connect(
            servers=[self._server],
            error_cb=self._on_error,
            closed_cb=self._on_closed,
            allow_reconnect=False,
            max_reconnect_attempts=1,
            reconnect_time_wait=0,
            connect_timeout=int(CONNECT_TIMEOUT),
            ping_interval=ping_every,
            max_outstanding_pings=MAX_OUTSTANDING_PINGS,
            **sign_in,
        )

    def cause(self, error: Exception) -> Exception:
        """Return the error that explains a failed attempt; nats-py itself raises that no server is left."""
        return self._error or error

    @property
    def is_lost(self) -> bool:
        """True when the connection is lost. nats-py does not always say so: look every CHECKED_EVERY seconds.

        It reads no more, and calls itself connected, after a line of the server that it does not understand.
        """
        reading = self.client._reading_task
        return self.lost.done() or not self.client.is_connected or reading is None or reading.done()

    @property
    def reason(self) -> str:
        """Why it was lost, for people."""
        if self.lost.done():
            return self.lost.result()
        return self._explain(self._error) if self._error else "the connection was lost"

    async def _on_error(self, error: Exception) -> None:
        from nats.errors import SlowConsumerError

        if isinstance(error, SlowConsumerError):  # once for each message of a flood; the connection goes on
            return
        self._error = error
        _log.info("engine %s: %s", shown(self._server), error)

    async def _on_closed(self) -> None:
        if not self.lost.done():
            self.lost.set_result(self._explain(self._error) if self._error else "it closed the connection")


def _careful_client(server: str, min_payload_bytes: int) -> Client:
    """Return a client of nats-py that signs in at this server over TLS only, if its URL says so, and takes any message.

    nats-py uses TLS whenever the server wants it, and without a word none when the server, or whoever is in between,
    offers none: then passwords and who is linked with whom would be there to read.

    Anybody may publish a message that nats-py cannot read: it would read nothing more after it, or disconnect.

    Nobody has to run a server that is a real one. nats-py keeps a message of any size, looks through a line without end
    anew with each part of it, and compares each server that is named to it with all that were before.
    """
    from nats.aio.client import Client as AnyClient
    from nats.errors import ProtocolError
    from nats.protocol import parser

    for name, pattern in list(vars(parser).items()):  # of the module, for there is nothing smaller to change
        if isinstance(pattern, re.Pattern) and isinstance(pattern.pattern, bytes):
            setattr(parser, name, _with_spaces_of_server(pattern))

    class BoundedParser(parser.Parser):
        async def parse(self, data: bytes = b"") -> None:
            await super().parse(data)
            is_line = self.state == parser.AWAITING_CONTROL_LINE
            if len(self.buf) > MAX_LINE_BYTES if is_line else self.needed > MAX_MESSAGE_BYTES:
                await self.nc._error_cb(P2PChatError("it sends more at once than any nats-server: is the URL right?"))
                raise ProtocolError

    class CarefulClient(AnyClient):
        def __init__(self) -> None:
            super().__init__()
            self._ps = BoundedParser(self)

        async def _process_msg(self, *message: Any) -> None:
            with suppress(ValueError, IndexError):  # names or status that are no UTF-8, headers without a first line
                await super()._process_msg(*message)

        async def _process_headers(self, headers: Any) -> dict[str, str] | None:
            if len(headers or b"") > MAX_HEADER_BYTES:
                raise ValueError("no headers of a message that is read here")
            return await super()._process_headers(headers)

        async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
            if urlsplit(server).scheme == "tls" and not info.get("tls_required"):
                raise P2PChatError("it offers no TLS, which its URL demands: tls://")
            most = info.get("max_payload", min_payload_bytes)  # nats-py takes 1 MiB for a server that names none
            if not isinstance(most, int) or most < min_payload_bytes:
                raise P2PChatError(f"its max_payload is too small: {min_payload_bytes} bytes are needed")
            info.pop("connect_urls", None)  # servers are connected that were named here, and no others
            await super()._process_info(info, initial_connection)

    return CarefulClient()


def _with_spaces_of_server(pattern: re.Pattern[bytes]) -> re.Pattern[bytes]:
    text = pattern.pattern
    for spaces, of_server in _SPACES.items():
        text = text.replace(spaces, of_server)
    return re.compile(text, pattern.flags)


async def close(client: Client) -> None:
    """Close a connection, or half of one: nats-py may wait for the end of a TLS handshake that failed, for ever."""
    closing = asyncio.ensure_future(client.close())
    closing.add_done_callback(lambda task: task.cancelled() or task.exception())
    await asyncio.wait([closing], timeout=CLOSED_WITHIN)
    closing.cancel()


async def serve_always(
    servers: Sequence[str],
    serve: Callable[[str], Awaitable[str]],
    *,
    explain: Callable[[Exception], str],
    on_end: Callable[[str, str], None],
    retry_most: float,
) -> None:
    """Be connected with one of these servers, again and again; ends only when cancelled.

    Args:
        serve: Connects with a server; returns why the connection ended, or raises why there was none.
        on_end: Called with the server and the reason, which `explain` makes of an exception.
        retry_most: Seconds between two attempts at most.
    """
    loop, tries, order = asyncio.get_running_loop(), 0, [*servers]
    random.shuffle(order)
    while True:
        server, began = order[tries % len(order)], loop.time()
        try:
            reason = await serve(server)
        except Exception as error:  # any error: an engine that cannot be reached is tried again for ever
            reason = explain(error)
        on_end(server, reason)
        tries = 0 if loop.time() - began > retry_most + CONNECT_TIMEOUT else tries + 1
        await asyncio.sleep(random.random() * min(RETRY_FIRST * (1 << min(tries, 16)), retry_most))


async def cancel(tasks: Iterable[asyncio.Task[None]]) -> None:
    """End tasks that use nats-py. That waits with asyncio.wait_for, which may lose a cancellation in Python 3.11."""
    left = set(tasks)
    while left := {task for task in left if not task.done()}:
        for task in left:
            task.cancel()
        await asyncio.wait(left, timeout=CANCELLED_EVERY)


def reason_of(error: Exception) -> str:
    """Return for people why there is no connection."""
    if isinstance(error, TimeoutError):
        return "no answer"
    if isinstance(error, ConnectionRefusedError):
        return "nobody listens there"
    text = (getattr(error, "strerror", None) or str(error)).removeprefix("nats: ").strip("'")
    return text or type(error).__name__
