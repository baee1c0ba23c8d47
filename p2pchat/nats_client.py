"""NATS servers through nats-py (extra `nats`): their URLs, attempts to connect, the ends of connections; and an engine.

Links of peers (runtime/relay.py) and the accounts of a cluster (web/cluster/engine_store.py) need the same of
nats-py: the URLs of servers, signing in, growing pauses between attempts, and the ends of connections.

`Engine` is the connection of one peer, for links. The engine is never believed. It may forget, repeat, reorder and
withhold messages, go away, or be run by somebody curious; what that means for links is decided in relay.py. Here are
the messages that leave and come, and the key to sign in with. Only the core protocol of NATS is used: publish,
subscribe with callbacks, and the answer "no responders".

A client of NATS signs whatever nonce the server sends. So it has a key of its own, derived from the identity
(Identity.derive): a server that chose a head of a log as its nonce gets a signature that proves nothing.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import errno
import random
import re
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from p2pchat.errors import P2PChatError
from p2pchat.extras import missing_extra
from p2pchat.program_log import ProgramLog

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg


DEFAULT_PORT = 4222
CONNECT_TIMEOUT = 5.0  # seconds for connecting and signing in; a guess
RETRY_FIRST = 0.1  # seconds until the next attempt, doubled each time, full jitter: links are to be back soon
CLOSED_WITHIN = 1.0  # seconds; a guess
CANCELLED_EVERY = 0.2  # seconds; see cancel()
CHECKED_EVERY = 0.5  # seconds; nats-py may close a connection whose server died without calling back. A guess
MAX_OUTSTANDING_PINGS = 2  # unanswered; then the server is gone
NKEY_PURPOSE = b"p2pchat/nats/1"  # Identity.derive: the secret of the nkey
RETRY_MOST = 5.0  # a guess: one server, asked by a hundred peers, sees twenty attempts a second
LAST_WORDS = 1.0  # seconds for what waits when the connection is closed
MAX_UNREAD_BYTES = 64 << 20  # received and not handled; more than the windows of all pipes that fill at once, a guess
NOBODY = "503"  # status of "no responders"
# Of a message, or of a line of the server that has not ended: a server takes no message above 64 MiB, whatever its
# operator configures; its longest line names all servers of its cluster. A guess, as the next
MAX_MESSAGE_BYTES = 64 << 20
MAX_LINE_BYTES = 256 << 10
MIN_PAYLOAD_BYTES = 4096  # that an engine has to take in one message: links cost a message for each piece. A guess
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
        on_dropped: Called for each message that nats-py dropped because too many wait here.
        min_payload_bytes: A server that takes only smaller messages is refused.
    Attributes:
        client: The client of nats-py.
        lost: Done when the connection is lost, with the reason.
    """

    def __init__(
        self, server: str, explain: Callable[[Exception], str], on_dropped: Callable[[], None] = lambda: None,
        *, min_payload_bytes: int = MIN_PAYLOAD_BYTES,
    ) -> None:  # fmt: skip
        self.client: Client = _careful_client(server, min_payload_bytes)
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._server = server
        self._explain = explain
        self._on_dropped = on_dropped
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
            self._on_dropped()
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


# ---- the engine of one peer


class EngineAway(OSError):
    """No server of the engine is connected."""

    def __init__(self) -> None:
        super().__init__(errno.ENETUNREACH, "the engine is away")


@dataclass(frozen=True)
class EngineOptions:
    """The servers of an engine, and how this peer signs in.

    Attributes:
        servers: URLs of the servers of one engine, "nats://host:4222", as `parse_servers` returns them.
        credentials: A file of the operator, .creds or the seed of an nkey; None for the key derived here.
    """

    servers: tuple[str, ...] = field(repr=False)  # they may contain passwords
    credentials: Path | None = None


# ---- nkeys

_SEED_PREFIX, _USER_PREFIX = 18 << 3, 20 << 3  # "S" and "U" in base32


def nkey_seed(secret: bytes) -> str:
    """Return 32 secret bytes as the seed of a user's nkey ("SU..."), as NATS writes it."""
    head = bytes([_SEED_PREFIX | _USER_PREFIX >> 5, (_USER_PREFIX & 31) << 3])
    return _checked_base32(head + secret)


def nkey_public(public: bytes) -> str:
    """Return a public Ed25519 key as a user's nkey ("U..."), which the operator of an engine admits."""
    return _checked_base32(bytes([_USER_PREFIX]) + public)


def own_nkey(secret: bytes) -> str:
    """Return the public nkey of 32 secret bytes."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return nkey_public(Ed25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw())


def _checked_base32(data: bytes) -> str:
    crc = binascii.crc_hqx(data, 0)  # CRC-16/XMODEM
    return base64.b32encode(data + crc.to_bytes(2, "little")).decode().rstrip("=")


# ---- connection


class Engine:
    """One peer's connection to the engine, made anew whenever it is lost.

    Args:
        secret: 32 bytes derived from the identity, for the nkey.
        subjects: What to subscribe to, and how many messages of each may wait here; more are dropped.
        on_message: Called with the subject, the subject to answer to ("" for none), the bytes, and whether the engine
            says that nobody is there for what was published with this subject to answer to.
        on_state: Called with the URL of the server and the reason: "" when the connection is up, else why it is not.
        on_dropped: Called for each message that was dropped because too many wait.

    Attributes:
        server: The URL of the server that is connected, without a password; "" while there is none.
        version: What that server says its version is.
        max_payload_bytes: The largest message that it takes.
    """

    def __init__(
        self,
        options: EngineOptions,
        secret: bytes,
        subjects: Mapping[str, int],
        *,
        ping_after: float,
        on_message: Callable[[str, str, bytes, bool], None],
        on_state: Callable[[str, str], None],
        on_dropped: Callable[[], None],
    ) -> None:
        self._options = options
        self._secret = secret
        self._subjects = subjects
        self._ping_after = ping_after
        self._on_message, self._on_state, self._on_dropped = on_message, on_state, on_dropped
        self.server: str = ""
        self.version: str = ""
        self.max_payload_bytes: int = 0
        self._client: Client | None = None
        self._outbox: deque[tuple[str, bytes, str]] = deque()
        self._wake: asyncio.Event = asyncio.Event()
        self._idle: asyncio.Event = asyncio.Event()  # nothing waits in the outbox
        self._idle.set()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Connect in the background, and again after each loss."""
        running = serve_always(
            self._options.servers,
            self._serve,
            explain=self._explain,
            on_end=lambda server, reason: self._on_state(shown(server), reason),
            retry_most=RETRY_MOST,
        )
        self._task = asyncio.get_running_loop().create_task(running, name="p2pchat engine")

    async def aclose(self) -> None:
        """Publish what waits, for a moment, and disconnect."""
        if self._task is None:
            return
        from nats.errors import Error

        with suppress(TimeoutError, Error):  # the connection may have ended a moment ago
            async with asyncio.timeout(LAST_WORDS):
                await self._idle.wait()
                if self._client is not None:
                    await self._client.flush(int(LAST_WORDS))
        await cancel([self._task])
        self._task = None

    def publish(self, subject: str, data: bytes, reply: str = "") -> None:
        """Send a message, in order. Dropped while the engine is away."""
        if self.server:
            self._outbox.append((subject, data, reply))
            self._idle.clear()
            self._wake.set()

    @property
    def waiting(self) -> int:
        """Number of messages that wait to be published."""
        return len(self._outbox)

    async def _serve(self, server: str) -> str:
        """Connect to one server and serve it; return why that ended."""
        connection = Connection(server, self._explain, self._on_dropped)
        client = connection.client
        try:
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT):
                    await connection.open(self._sign_in(server), max(1, int(self._ping_after)))
                    for subject, most in self._subjects.items():
                        await client.subscribe(
                            subject, cb=self._on_msg, pending_msgs_limit=most, pending_bytes_limit=MAX_UNREAD_BYTES
                        )
                    await client.flush(int(CONNECT_TIMEOUT))
            except Exception as error:  # of whatever kind: it says only that no server is left
                raise connection.cause(error) from None
            self._client, self.server = client, shown(server)
            self.version, self.max_payload_bytes = str(client.connected_server_version), client.max_payload
            self._on_state(self.server, "")
            writing = asyncio.get_running_loop().create_task(self._write(client))
            try:
                while not connection.is_lost:
                    await asyncio.wait([connection.lost], timeout=CHECKED_EVERY)
                return connection.reason
            finally:
                writing.cancel()
                await asyncio.wait([writing])
        finally:
            self._client, self.server = None, ""
            self._outbox.clear()
            self._idle.set()
            await close(client)

    def _sign_in(self, server: str) -> dict[str, Any]:
        """Return how to sign in. The server asks for it or not."""
        if self._options.credentials is not None:
            return sign_in_with(self._options.credentials)
        return {} if urlsplit(server).username else {"nkeys_seed_str": nkey_seed(self._secret)}

    def _explain(self, error: Exception) -> str:
        """Return for people why there is no connection."""
        reason = reason_of(error)
        if "authorization" not in reason.lower():
            return reason
        if self._options.credentials is None:
            return (
                f"it does not admit this peer: give its operator the key {own_nkey(self._secret)}, or name credentials"
            )
        return "it does not admit this peer: ask its operator for other credentials"

    async def _on_msg(self, message: Msg) -> None:
        nobody = not message.data and (message.headers or {}).get("Status") == NOBODY
        self._on_message(message.subject, message.reply, message.data, nobody)

    async def _write(self, client: Client) -> None:
        while True:
            self._wake.clear()
            while self._outbox:
                subject, data, reply = self._outbox.popleft()
                try:
                    await client.publish(subject, data, reply=reply)
                except Exception as error:  # the connection is closing; pipes notice by numbers what is missing
                    _log.info("engine: not published: %s", error)
                    self._outbox.clear()
            self._idle.set()
            await self._wake.wait()
