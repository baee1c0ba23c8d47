"""All connections of one peer: dialled and accepted, from the plain stream to the last byte.

Wiring gives every connection its number, puts TLS on it, and passes on what happens as inputs of the core; it does
what the core's effects on links say. Wires is the small interface below: real sockets here, pipes in memory in
p2pchat.testing. Who is at the other end, and which connection is worth keeping, the core decides.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Protocol

from p2pchat.client import Client
from p2pchat.client import dial as dial_socket
from p2pchat.config import Settings
from p2pchat.core.inputs import (
    DialFailed,
    Faulted,
    Got,
    Input,
    LinkAccepted,
    LinkDialled,
    LinkDown,
    LinkDrained,
    LinkFilled,
    Paused,
)
from p2pchat.errors import HandshakeError
from p2pchat.protocol import AnyFrame
from p2pchat.runtime.gc_tuning import link_ends
from p2pchat.server import Server

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
_NO_WAY = {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL}


class Transport(Protocol):
    """Where streams come from."""

    async def listen(self, server: Server, host: str, port: int) -> tuple[str, int]:
        """Have `server` take what connects there; return the real host and port. Raises PortInUse, P2PChatError."""

    async def dial(self, host: str, port: int, *, timeout: float) -> Streams:
        """Connect. Raises OSError, TimeoutError."""


class TCPTransport:
    """Wires that are TCP sockets."""

    async def listen(self, server: Server, host: str, port: int) -> tuple[str, int]:
        await server.listen(host, port)
        return server.host, server.port

    async def dial(self, host: str, port: int, *, timeout: float) -> Streams:
        return await dial_socket(host, port, timeout=timeout)


class ConnectionManager:
    """Every connection of one peer, by number."""

    def __init__(
        self,
        transport: Transport,
        settings: Settings,
        *,
        server_context: ssl.SSLContext,
        client_context: ssl.SSLContext,
        tell: Callable[[Input], None],
    ) -> None:
        self._transport = transport
        self._settings = settings
        self._server_context = server_context
        self._client_context = client_context
        self._tell = tell
        self._server = Server(settings, self._accepted)
        # Once for all of them: each mention of a method makes an object, and a mesh has thousands of links.
        self._new_client = partial(
            Client, settings=settings, on_frames=self._got, on_fault=self._faulted, on_down=self._down,
            on_full=self._filled, on_drained=self._drained,
        )  # fmt: skip
        self._clients: dict[int, Client] = {}
        self._writers: dict[int, asyncio.StreamWriter] = {}  # of accepted ones: what the server knows them by
        self._count = 0
        self._comings: set[asyncio.Task[None]] = set()  # dials, and TLS with who has come
        self._goodbyes: set[asyncio.Task[None]] = set()
        self._all_paused = False  # storage is behind
        self._held: set[int] = set()  # links paused for what they do themselves
        self._closed = False

    async def listen(self, host: str, port: int) -> tuple[str, int]:
        """Begin to listen; return the real host and port."""
        return await self._transport.listen(self._server, host, port)

    # Coming and going

    def dial(self, dial: int, endpoint: str) -> None:
        """Connect there and set up TLS; answered by Dialled or DialFailed."""
        if not self._closed:
            self._spawn(self._dial(dial, endpoint), self._comings)

    async def _dial(self, dial: int, endpoint: str) -> None:
        host, _, port = endpoint.rpartition(":")
        timeout = self._settings.handshake_timeout
        try:
            reader, writer = await self._transport.dial(host.strip("[]"), int(port), timeout=timeout)
            client = self._client(reader, writer, server_side=False)
            server = await client.handshake(timeout)
        except Exception as error:  # whatever it is: an address whose dial never ended would never be dialled again
            self._tell(DialFailed(dial, *_reason(error)))
            return
        peername = writer.get_extra_info("peername")
        reached = str(peername[0]) if isinstance(peername, tuple) and peername else host
        self._begin(client, LinkDialled(client.link_id, dial, server, reached))

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str) -> None:
        if self._closed:
            self._server.on_closed(writer)
            writer.transport.abort()
            return
        coming = self._spawn(self._accept(reader, writer, host), self._comings)
        # Cancelled before its first step a task runs nothing, and would leave the connection open.
        coming.add_done_callback(lambda task: writer.transport.abort() if task.cancelled() else None)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str) -> None:
        client = self._client(reader, writer, server_side=True)
        loop = asyncio.get_running_loop()
        came_at = loop.time()
        try:
            await client.handshake(self._settings.handshake_timeout)
        except Exception:  # whatever it is: a stranger who is gone must not go on counting as one
            self._server.on_closed(writer)
            return
        self._writers[client.link_id] = writer
        self._begin(client, LinkAccepted(client.link_id, host, took=loop.time() - came_at))

    def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, server_side: bool) -> Client:
        self._count += 1
        return self._new_client(
            self._count,
            reader,
            writer,
            tls_context=self._server_context if server_side else self._client_context,
            server_side=server_side,
        )

    def _begin(self, client: Client, input: Input) -> None:
        self._clients[client.link_id] = client
        link_ends.began()
        self._tell(input)
        if self._all_paused:
            client.pause_reading()
            self._tell(Paused(client.link_id, True))
        client.start()

    def _got(self, link: int, frames: list[AnyFrame]) -> None:
        self._tell(Got(link, frames))  # type: ignore[arg-type]  # a list of the same, told apart by mypy only

    def _faulted(self, link: int, code: str, text: str) -> None:
        self._tell(Faulted(link, code, text))

    def _filled(self, link: int) -> None:
        self._tell(LinkFilled(link))

    def _drained(self, link: int) -> None:
        self._tell(LinkDrained(link))

    def _down(self, link: int, reason: str) -> None:
        if self._clients.pop(link, None) is not None:
            link_ends.ended()
        self._held.discard(link)
        writer = self._writers.pop(link, None)
        if writer is not None:
            self._server.on_closed(writer)
        self._tell(LinkDown(link, "closed" if reason == "local" else reason))

    def _spawn(self, work: Coroutine[Any, Any, None], tasks: set[asyncio.Task[None]]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        return task

    # What the core orders

    def send(self, link: int, data: bytes) -> None:
        """Write whole frames; nothing when the link is gone."""
        client = self._clients.get(link)
        if client is not None:
            client.write(data)  # the owner sends once a turn

    def is_full(self, link: int) -> bool:
        """Whether a link's buffer is above its limit, and has not drained since."""
        client = self._clients.get(link)
        return client is not None and client.full

    def buffered(self, link: int) -> int:
        """Return how many bytes a link has not taken yet."""
        client = self._clients.get(link)
        return 0 if client is None else client.buffered

    def established(self, link: int) -> None:
        """This link is a member's."""
        client = self._clients.get(link)
        if client is not None:
            client.allow_full_frames()
        writer = self._writers.get(link)
        if writer is not None:
            self._server.on_established(writer)

    def close(self, link: int, bye: bytes | None) -> None:
        """End a link: with a last frame after what is unsent, or at once."""
        client = self._clients.get(link)
        if client is None:
            return
        if bye is None:
            client.abort()
        else:
            self._spawn(client.close(bye, self._settings.bye_timeout), self._goodbyes)

    # Reading

    def pause_all(self, on: bool) -> None:
        """Read no link, or read them all again."""
        self._all_paused = on
        for link in list(self._clients):
            if link not in self._held:
                self._pause(link, on)

    def hold(self, link: int, on: bool) -> None:
        """Read one link no more, or again."""
        if link not in self._clients or (link in self._held) == on:
            return
        (self._held.add if on else self._held.discard)(link)
        if not self._all_paused:
            self._pause(link, on)

    def _pause(self, link: int, on: bool) -> None:
        client = self._clients[link]
        if on:
            client.pause_reading()
        else:
            client.resume_reading()
        self._tell(Paused(link, on))

    # The end

    async def close_all(self) -> None:
        """Listen and dial no more; wait for the goodbyes that are under way, cut what is left."""
        self._closed = True
        await self._server.close()
        for task in set(self._comings):
            task.cancel()  # nobody waits for who is not here yet
        if self._goodbyes:
            await asyncio.wait(set(self._goodbyes), timeout=2 * self._settings.bye_timeout)
        await self._cut()

    async def cut_all(self) -> None:
        """End everything at once, without a word: what a crash looks like from outside."""
        self._closed = True
        await self._server.close()
        await self._cut()

    async def _cut(self) -> None:
        tasks = self._comings | self._goodbyes
        for task in tasks:
            task.cancel()
        for client in list(self._clients.values()):
            client.abort()
        if tasks:
            await asyncio.wait(tasks)
        await asyncio.sleep(0)  # aborted links say so in the next turn


def _reason(error: Exception) -> tuple[str, str]:
    """Return why a dial failed, for people and as a stable word."""
    if isinstance(error, TimeoutError):
        return "no answer", "no_answer"
    if isinstance(error, socket.gaierror):
        return "no such name", "no_name"
    if isinstance(error, ConnectionRefusedError):
        return "nobody listens there", "nobody"
    if isinstance(error, OSError) and error.errno in _NO_WAY:
        return "no way there from this machine", "no_way"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror, "failed"
    if isinstance(error, HandshakeError):
        return "what answers there is no p2pchat peer", "no_peer"
    return str(error) or type(error).__name__, "failed"
