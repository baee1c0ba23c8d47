"""Connection to an engine: a NATS server that passes messages on between peers.

The engine is never believed. It may forget, repeat, reorder and withhold messages, go away, or be run by somebody
curious; what that means for links is decided in relay.py. Here are the connection (nats-py, extra `nats`), the choice
among several servers, growing pauses between attempts, and the credentials. Only the core protocol of NATS is used:
publish, subscribe with callbacks, and the answer "no responders".

A client of NATS signs whatever nonce the server sends. So it has a key of its own, derived from the identity
(Identity.derive): a server that chose a head of a log as its nonce gets a signature that proves nothing.
"""

from __future__ import annotations

import asyncio
import base64
import errno
import logging
import random
import re
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from p2pchat.errors import P2PChatError

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg

MISSING = "an engine needs another package: pip install 'p2pchat-mesh[nats]'"
NKEY_PURPOSE = b"p2pchat/nats/1"  # Identity.derive: the secret of the nkey
DEFAULT_PORT = 4222
CONNECT_TIMEOUT = 5.0  # seconds for connecting and signing in; a guess
RETRY_FIRST = 0.1  # seconds until the next attempt, doubled each time, full jitter: links are to be back soon
RETRY_MOST = 5.0  # a guess: one server, asked by a hundred peers, sees twenty attempts a second
LAST_WORDS = 1.0  # seconds for what waits when the connection is closed
CHECKED_EVERY = 0.5  # seconds; nats-py may close a connection whose server died without calling back. A guess
MAX_OUTSTANDING_PINGS = 2  # unanswered; then the server is gone
MAX_UNREAD_BYTES = 64 << 20  # received and not handled; more than the windows of all pipes that fill at once, a guess
NOBODY = "503"  # status of "no responders"
_SCHEMES = ("nats", "tls", "ws", "wss")

_log = logging.getLogger("p2pchat.engine")


class EngineAway(OSError):
    """No server of the engine is connected."""

    def __init__(self) -> None:
        super().__init__(errno.ENETUNREACH, "the engine is away")


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """The servers of an engine, and how this peer signs in.

    Attributes:
        servers: URLs of the servers of one engine, "nats://host:4222", as `parse_servers` returns them.
        credentials: A file of the operator, .creds or the seed of an nkey; None for the key derived here.
    """

    servers: tuple[str, ...] = field(repr=False)  # they may contain passwords
    credentials: Path | None = None


def require() -> None:
    """Raise P2PChatError if the extra is not installed."""
    try:
        import nats
        import nkeys
    except ImportError:
        raise P2PChatError(MISSING) from None
    del nats, nkeys


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
    crc = 0  # CRC-16/XMODEM
    for byte in data:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ 0x1021 if crc & 0x8000 else crc << 1) & 0xFFFF
    return base64.b32encode(data + crc.to_bytes(2, "little")).decode().rstrip("=")


# ---- connection


class Engine:
    """One peer's connection to the engine, made anew whenever it is lost.

    Args:
        secret: 32 bytes derived from the identity, for the nkey.
        subjects: What to subscribe to.
        on_message: Called with the subject, the subject to answer to ("" for none), the bytes, and whether the engine
            says that nobody is there for what was published with this subject to answer to.
        on_state: Called with the URL of the server and the reason: "" when the connection is up, else why it is not.

    Attributes:
        server: The URL of the server that is connected, without a password; "" while there is none.
        version: What that server says its version is.
        max_payload_bytes: The largest message that it takes.
    """

    def __init__(
        self,
        options: EngineOptions,
        secret: bytes,
        subjects: Sequence[str],
        *,
        ping_after: float,
        on_message: Callable[[str, str, bytes, bool], None],
        on_state: Callable[[str, str], None],
    ) -> None:
        self._options = options
        self._secret = secret
        self._subjects = subjects
        self._ping_after = ping_after
        self._on_message, self._on_state = on_message, on_state
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
        self._task = asyncio.get_running_loop().create_task(self._run(), name="p2pchat engine")

    async def aclose(self) -> None:
        """Publish what waits, for a moment, and disconnect."""
        if self._task is None:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS):
                await self._idle.wait()
                if self._client is not None:
                    await self._client.flush(int(LAST_WORDS))
        while not self._task.done():  # nats-py takes a cancellation for its own while it connects
            self._task.cancel()
            await asyncio.wait([self._task], timeout=LAST_WORDS)
        self._task = None

    def publish(self, subject: str, data: bytes, reply: str = "") -> None:
        """Send a message, in order. Dropped while the engine is away."""
        if self.server:
            self._outbox.append((subject, data, reply))
            self._idle.clear()
            self._wake.set()

    async def _run(self) -> None:
        tries = 0
        order = [*self._options.servers]
        random.shuffle(order)
        while True:
            server = order[tries % len(order)]
            began, reason = asyncio.get_running_loop().time(), ""
            try:
                reason = await self._serve(server)
            except Exception as error:  # any error: an engine that cannot be reached is tried again for ever
                reason = self._explain(error)
            lasted = asyncio.get_running_loop().time() - began
            self._on_state(shown(server), reason)
            tries = 0 if lasted > RETRY_MOST + CONNECT_TIMEOUT else tries + 1
            await asyncio.sleep(random.random() * min(RETRY_FIRST * (1 << min(tries, 16)), RETRY_MOST))

    async def _serve(self, server: str) -> str:
        """Connect to one server and serve it; return why that ended."""
        closed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        errors: list[Exception] = []

        async def on_error(error: Exception) -> None:
            errors[:] = [error]
            _log.info("engine %s: %s", shown(server), error)

        async def on_closed() -> None:
            if not closed.done():
                closed.set_result(self._explain(errors[0]) if errors else "it closed the connection")

        client = _client(server)
        try:
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT):
                    await client.connect(
                        servers=[server],
                        error_cb=on_error,
                        closed_cb=on_closed,
                        allow_reconnect=False,
                        max_reconnect_attempts=1,
                        reconnect_time_wait=0,
                        connect_timeout=int(CONNECT_TIMEOUT),
                        ping_interval=max(1, int(self._ping_after)),
                        max_outstanding_pings=MAX_OUTSTANDING_PINGS,
                        **self._credentials(server),
                    )
                    for subject in self._subjects:
                        await client.subscribe(subject, cb=self._on_msg, pending_bytes_limit=MAX_UNREAD_BYTES)
                    await client.flush(int(CONNECT_TIMEOUT))
            except Exception as error:  # the error of the attempt says more than that no server is left
                raise (errors[0] if errors else error) from None
            self._client, self.server = client, shown(server)
            self.version, self.max_payload_bytes = str(client.connected_server_version), client.max_payload
            self._on_state(self.server, "")
            writing = asyncio.get_running_loop().create_task(self._write(client))
            try:
                while not closed.done() and client.is_connected:
                    await asyncio.wait([closed], timeout=CHECKED_EVERY)
                return closed.result() if closed.done() else "the connection was lost"
            finally:
                writing.cancel()
                await asyncio.wait([writing])
        finally:
            self._client, self.server = None, ""
            self._outbox.clear()
            self._idle.set()
            await _close(client)

    def _credentials(self, server: str) -> dict[str, Any]:
        """Return how to sign in. The server asks for it or not."""
        path = self._options.credentials
        if path is None:
            return {} if urlsplit(server).username else {"nkeys_seed_str": nkey_seed(self._secret)}
        try:
            text = path.read_text("ascii", "replace").strip()
        except OSError as error:
            raise P2PChatError(f"the credentials {str(path)!a} cannot be read: {error.strerror}") from None
        return {"nkeys_seed_str": text} if re.fullmatch("SU[A-Z2-7]+", text) else {"user_credentials": path}

    def _explain(self, error: Exception) -> str:
        """Return for people why there is no connection."""
        reason = _reason(error)
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


async def _close(client: Client) -> None:
    """Close a connection, or half of one: nats-py may wait for the end of a TLS handshake that failed, for ever."""
    closing = asyncio.get_running_loop().create_task(client.close())
    closing.add_done_callback(lambda task: task.cancelled() or task.exception())
    await asyncio.wait([closing], timeout=LAST_WORDS)
    closing.cancel()


def _client(server: str) -> Client:
    """Return a client of nats-py that signs in at this server over TLS only, if its URL says so.

    nats-py uses TLS whenever the server wants it, and without a word none when the server, or whoever is in between,
    offers none: then passwords and who is linked with whom would be there to read.
    """
    from nats.aio.client import Client as AnyClient

    class CarefulClient(AnyClient):
        async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
            if urlsplit(server).scheme == "tls" and not info.get("tls_required"):
                raise P2PChatError("it offers no TLS, which its URL demands: tls://")
            await super()._process_info(info, initial_connection)

    return CarefulClient()


def _reason(error: Exception) -> str:
    """Return for people why there is no connection."""
    if isinstance(error, TimeoutError):
        return "no answer"
    if isinstance(error, ConnectionRefusedError):
        return "nobody listens there"
    text = (getattr(error, "strerror", None) or str(error)).removeprefix("nats: ").strip("'")
    return text or type(error).__name__
