"""One peer's connection to an engine, a NATS server: messages out and in, its own key, and why it is refused.

The engine is never believed. It may forget, repeat, reorder and withhold messages, go away, or be run by somebody
curious; what that means for links is decided in relay.py. Here are the messages that leave and come, and the key to
sign in with; nats_client.py connects. Only the core protocol of NATS is used: publish, subscribe with callbacks, and
the answer "no responders".

A client of NATS signs whatever nonce the server sends. So it has a key of its own, derived from the identity
(Identity.derive): a server that chose a head of a log as its nonce gets a signature that proves nothing.
"""

from __future__ import annotations

import asyncio
import base64
import errno
import logging
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from p2pchat.nats_client import (
    CHECKED_EVERY,
    CONNECT_TIMEOUT,
    Connection,
    cancel,
    close,
    reason_of,
    serve_always,
    shown,
    sign_in_with,
)

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg

NKEY_PURPOSE = b"p2pchat/nats/1"  # Identity.derive: the secret of the nkey
RETRY_MOST = 5.0  # a guess: one server, asked by a hundred peers, sees twenty attempts a second
LAST_WORDS = 1.0  # seconds for what waits when the connection is closed
MAX_UNREAD_BYTES = 64 << 20  # received and not handled; more than the windows of all pipes that fill at once, a guess
NOBODY = "503"  # status of "no responders"

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
        with suppress(TimeoutError):
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
