"""Connections of one peer: the race of a host's addresses, links from the plain stream to the last byte, stuck links.

ConnectionManager numbers each connection, does its TLS handshake, and reports what happens as inputs of the core. The
core's effects on links end here. Streams come from a Transport: TCP sockets here, pipes in memory in p2pchat.testing.
Which peer is at the other end, and which connection is worth keeping, is decided in core/.

An accepted connection that has not finished its handshake is a *stranger*; stranger_limiter.py limits their number.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from functools import partial
from itertools import chain, zip_longest
from typing import TYPE_CHECKING, Protocol

from p2pchat.addresses import is_address, split_endpoint
from p2pchat.client import STREAM_LIMIT_BYTES, Client, Streams
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
    Resolved,
)
from p2pchat.core.mesh.dialer import CARRIED
from p2pchat.errors import HandshakeError
from p2pchat.identity.own_addresses import address_towards
from p2pchat.protocol import AnyFrame, Carried, Circuit
from p2pchat.runtime.circuit_transport import CircuitTransport
from p2pchat.runtime.garbage_collection import link_ends
from p2pchat.runtime.stranger_limiter import Stranger, StrangerLimiter
from p2pchat.server import Server
from p2pchat.settings import Settings
from p2pchat.threads import look_up, spawn

if TYPE_CHECKING:
    from p2pchat.trace import Trace

CONNECT_STAGGER = 0.25  # seconds until the next address of a host is tried as well (RFC 8305)
MAX_RESOLVED = 16  # addresses of a name that other peers told; a guess: one of them is dialled
PUNCH_SECONDS = 3.0  # to connect from both ends: a router that drops what comes first gets it again after a second
PUNCH_TRIES = 4  # where routers refuse what comes first: few, since nobody may be there. A guess, as the next one
PUNCH_AGAIN = 0.1  # seconds after each
STUCK_CHECKS = 6  # checks of a link within stuck_after: a stuck one is noticed a sixth late at most
_UNREACHABLE = {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL}


class Transport(Protocol):
    """Source of streams."""

    async def listen(self, server: Server, host: str, port: int) -> tuple[str, int]:
        """Pass incoming connections to `server`; return the real host and port. Raises PortInUse, P2PChatError."""

    async def dial(self, host: str, port: int, *, timeout: float) -> Streams:
        """Connect. Raises OSError, TimeoutError."""

    async def resolve(self, host: str, port: int, *, timeout: float) -> list[tuple[str, str]]:
        """Return the addresses of a name, best first, each with the address of this machine towards it. Raises OSError,
        TimeoutError.
        """


def host_of(writer: asyncio.StreamWriter, otherwise: str = "") -> str:
    """Return the address at the other end of a connection; `otherwise` if that is not known."""
    peername = writer.get_extra_info("peername")
    if isinstance(peername, tuple) and peername:
        return str(peername[0])
    return str(peername or otherwise)


class TCPTransport:
    """Transport over TCP sockets. `listener` is the one to listen on, bound already; None makes one."""

    def __init__(self, listener: socket.socket | None = None) -> None:
        self._listener = listener

    async def listen(self, server: Server, host: str, port: int) -> tuple[str, int]:
        await server.listen(host, port, self._listener)
        return server.host, server.port

    async def dial(self, host: str, port: int, *, timeout: float) -> Streams:
        return await dial(host, port, timeout=timeout)

    async def resolve(self, host: str, port: int, *, timeout: float) -> list[tuple[str, str]]:
        return await resolve(host, port, timeout=timeout)


async def dial(host: str, port: int, *, timeout: float) -> Streams:
    """Connect over TCP. Client does the TLS handshake.

    Args:
        host: An address, or a name. The addresses of a name race each other.
        timeout: Seconds for everything, name resolution included.
    Raises:
        OSError: No connection. With several addresses it is the error that says most, see _ConnectRace.
        TimeoutError: No answer within `timeout` (also an OSError).
    """
    async with asyncio.timeout(timeout):
        if is_address(host):
            return await _connect(host, port)
        return await _ConnectRace(port).run(await _resolve(host, port))


async def resolve(host: str, port: int, *, timeout: float) -> list[tuple[str, str]]:
    """Return the addresses of a name, best first, each with the address of this machine towards it.

    That is "" where there is no way. Of more than MAX_RESOLVED addresses the others are left out.

    Raises:
        OSError: No such name.
        TimeoutError: No answer within `timeout` (also an OSError).
    """
    async with asyncio.timeout(timeout):
        addresses = await _resolve(host, port)
    return [(address, address_towards(address)) for address in addresses[:MAX_RESOLVED]]


async def _resolve(host: str, port: int) -> list[str]:
    """Return the addresses of a name, best first, alternating IPv6 and IPv4: one of the two may lead nowhere."""
    families: dict[int, list[str]] = {}
    for address, family in (await look_up(host, port)).items():
        families.setdefault(family, []).append(address)
    alternating = chain.from_iterable(zip_longest(*families.values()))
    return [address for address in alternating if address is not None]


async def dial_beside(other: asyncio.BaseTransport, address: str, port: int) -> Streams:
    """Connect from the port of another connection, while the far end does the same.

    Raises:
        OSError: No connection after PUNCH_TRIES, or PUNCH_SECONDS.
    """
    sock, own = other.get_extra_info("socket"), other.get_extra_info("sockname")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    async with asyncio.timeout(PUNCH_SECONDS):
        for _ in range(PUNCH_TRIES - 1):
            with suppress(ConnectionError):
                return await _connect(address, port, own[1])
            await asyncio.sleep(PUNCH_AGAIN)
        return await _connect(address, port, own[1])


async def _connect(address: str, port: int, own_port: int = 0) -> Streams:
    if "%" not in address and not own_port:
        return await asyncio.open_connection(address, port, limit=STREAM_LIMIT_BYTES)
    # asyncio would look up an address with a network card, in the executor of the program.
    [(*kind, _, place)] = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    with ExitStack() as opened:
        sock = opened.enter_context(socket.socket(*kind))
        sock.setblocking(False)
        if own_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(("", own_port))
        await asyncio.get_running_loop().sock_connect(sock, place)
        streams = await asyncio.open_connection(sock=sock, limit=STREAM_LIMIT_BYTES)
        opened.pop_all()
    return streams


class _ConnectRace:
    """A race of several addresses for one connection ("Happy Eyeballs", RFC 8305).

    Each attempt starts CONNECT_STAGGER after the one before it, or as soon as that failed. The first connection wins.
    However the race ends, the winner's connection is the only one left open.

    asyncio has such a race too (happy_eyeballs_delay), which leaks sockets when it is cancelled: CPython 3.11's
    asyncio/staggered.py returns the connection as the result of a task that no code reads any more, and its wait_for
    may swallow the cancellation. Here a connection is stored as soon as it exists, and a cancelled race closes it.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._attempts: list[asyncio.Task[None]] = []
        self._errors: list[OSError] = []
        self._winner: Streams | None = None

    async def run(self, addresses: Iterable[str]) -> Streams:
        """Return the first connection.

        Raises:
            OSError: No address could be connected to.
        """
        try:
            async with asyncio.TaskGroup() as group:  # waits for all attempts, also when it is cancelled
                for address in addresses:
                    self._attempts.append(group.create_task(self._attempt(address)))
                    await asyncio.wait(self._attempts[-1:], timeout=CONNECT_STAGGER)
                    if self._winner is not None:
                        break
        except BaseException:  # also when cancelled: do not leak the connection
            if self._winner is not None:
                self._winner[1].transport.abort()
            raise
        if self._winner is None:
            # A refusal, which proves that the machine is there, or else the first error.
            refused = (error for error in self._errors if isinstance(error, ConnectionRefusedError))
            raise next(refused, self._errors[0])
        if self._winner[1].transport.is_closing():  # cut while the other attempts were cancelled
            raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
        return self._winner

    async def _attempt(self, address: str) -> None:
        try:
            streams = await _connect(address, self._port)
        except OSError as error:
            self._errors.append(error)
            return
        self._winner = streams
        for other in self._attempts:
            if other is not asyncio.current_task():
                other.cancel()  # an attempt that has just connected closes its connection


class ConnectionManager:
    """All connections of one peer, by number. Effects on a link that is gone do nothing.

    Attributes:
        put: Called with each input for the core; replaced once there is a driver.
        strangers: Counts accepted connections before the end of their handshake.
        on_bytes: Called with a link and how much of it waits for decode(), when bytes came; replaced once there is a
            driver.
        put_received: Called with the frames that were decoded; replaced likewise.
        on_drained: Called with a link that has room again; replaced once there is a driver.
        on_many_ended: Called when half of many links have ended; replaced likewise.
    """

    def __init__(
        self,
        transport: Transport,
        settings: Settings,
        *,
        server_context: ssl.SSLContext,
        client_context: ssl.SSLContext,
        put: Callable[[Input], None],
        trace: Trace | None = None,
    ) -> None:
        self._transport = transport
        self._settings = settings
        self._server_context = server_context
        self._client_context = client_context
        self.put = put
        self._trace = trace
        self.strangers: StrangerLimiter = StrangerLimiter(settings)
        self._server = Server(self._on_connection)
        # Made once: each use of a bound method makes an object, and a mesh has thousands of links.
        self._new_client = partial(
            Client,
            settings=settings,
            on_frames=self._on_frames,
            on_fault=lambda link, code, text: self.put(Faulted(link, code, text)),
            on_down=self._on_down,
            on_full=lambda link: self.put(LinkFilled(link)),
            on_drained=self._on_drained,
            on_unsent=StuckLinks(settings).watch,
            on_bytes=lambda link, waiting: self.on_bytes(link, waiting),
        )
        self.on_bytes: Callable[[int, int], object] = lambda link, waiting: self.decode(link)
        self.put_received: Callable[[Got], None] = lambda input: self.put(input)
        self.on_drained: Callable[[int], None] = lambda link: None
        self.on_many_ended: Callable[[], object] = lambda: None
        self._clients: dict[int, Client] = {}
        self._strangers: dict[int, Stranger] = {}  # by link
        self._last_link = 0
        self._handshakes: set[asyncio.Task[None]] = set()  # dials included
        self._goodbyes: set[asyncio.Task[None]] = set()
        self._held: set[int] = set()  # links that are not read
        self._circuits: dict[tuple[int, int], CircuitTransport] = {}  # those that end here, by link and number
        self._closed = False

    async def listen(self, host: str, port: int) -> tuple[str, int]:
        """Start listening; return the real host and port."""
        return await self._transport.listen(self._server, host, port)

    # Beginning and end of a link

    def dial(self, dial: int, endpoint: str) -> None:
        """Connect to an endpoint and do the TLS handshake. The answer is LinkDialled or DialFailed."""
        if not self._closed:
            spawn(self._handshakes, self._dial(dial, endpoint))

    def dial_through(self, dial: int, link: int, circuit: int) -> None:
        """Do the TLS handshake over a circuit that begins on a link. The answer is as of dial()."""
        spawn(self._handshakes, self._dial(dial, CARRIED, self._open_circuit(link, circuit)))

    def dial_beside(self, dial: int, link: int, endpoint: str, *, serve: bool) -> None:
        """Connect from the port of a link and do the TLS handshake. The answer is as of dial(), or LinkAccepted."""
        if not self._closed:
            spawn(self._handshakes, self._dial_beside(dial, link, endpoint, serve))

    async def _dial_beside(self, dial: int, link: int, endpoint: str, serve: bool) -> None:
        try:
            host, port = split_endpoint(endpoint)
            streams = await dial_beside(self._clients[link].transport, host, port)
            client = self._make_client(*streams, endpoint, server_side=serve)
            server_key = await client.handshake(self._settings.handshake_timeout)
        except Exception as error:  # any error, as of a dial: the link may be gone, or no socket
            self._on_dial_failed(dial, endpoint, error)
        else:
            accepted = LinkAccepted(client.link_id, host, port=port, dial=dial)
            self._start(client, accepted if serve else LinkDialled(client.link_id, dial, server_key, host))

    def on_circuit(self, link: int, frame: Circuit | Carried) -> None:
        """Take what came for this end of a circuit, or a new one."""
        key = (link, frame.id)
        if key in self._circuits:
            self._circuits[key].on_frame(frame)
        elif isinstance(frame, Circuit) and frame.origin is not None:
            self._on_connection(*self._open_circuit(*key))

    def _open_circuit(self, link: int, circuit: int) -> Streams:
        key = (link, circuit)
        transport = CircuitTransport(*key, self.put, self.send, lambda: self._circuits.pop(key, None))
        self._circuits[key] = transport
        streams = transport.streams()
        transport.start()
        return streams

    def resolve(self, dial: int, endpoint: str) -> None:
        """Look up the name in an endpoint. The answer is Resolved or DialFailed."""
        if not self._closed:
            spawn(self._handshakes, self._resolve(dial, endpoint))

    async def _resolve(self, dial: int, endpoint: str) -> None:
        host, _, port = endpoint.rpartition(":")
        try:
            hosts = await self._transport.resolve(host, int(port), timeout=self._settings.handshake_timeout)
        except Exception as error:  # any error, as of a dial
            self._on_dial_failed(dial, endpoint, error)
        else:
            self.put(Resolved(dial, hosts))

    def _on_dial_failed(self, dial: int, endpoint: str, error: Exception) -> None:
        reason, code = dial_failure(error)
        if self._trace is not None:
            self._trace.put(event="failed", endpoint=endpoint, reason=reason)
        self.put(DialFailed(dial, reason, code))

    async def _dial(self, dial: int, endpoint: str, circuit: Streams | None = None) -> None:
        host, _, port = endpoint.rpartition(":")
        timeout = self._settings.handshake_timeout
        try:
            streams = circuit or await self._transport.dial(host.strip("[]"), int(port), timeout=timeout)
            reader, writer = streams
            client = self._make_client(reader, writer, endpoint, server_side=False)
            server_key = await client.handshake(timeout)
        except Exception as error:  # any error: an address whose dial never ended would never be dialled again
            self._on_dial_failed(dial, endpoint, error)
            return
        reached = host_of(writer, host)
        through = writer.get_extra_info("through", 0)
        self._start(client, LinkDialled(client.link_id, dial, server_key, reached, through))

    def _on_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host = host_of(writer)
        now, stranger = asyncio.get_running_loop().time(), None
        through = writer.get_extra_info("through", 0)
        if not self._closed:
            stranger = self.strangers.admit(host, now, writer.transport.abort, through=through)
        if stranger is None:
            if self._trace is not None:
                self._trace.put(event="refused", address=host)
            writer.transport.abort()
            return
        task = spawn(self._handshakes, self._accept(reader, writer, host, stranger))
        # A task that is cancelled before its first step runs nothing, and would leave the connection open.
        task.add_done_callback(lambda task: writer.transport.abort() if task.cancelled() else None)

    async def _accept(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, stranger: Stranger
    ) -> None:
        client = self._make_client(reader, writer, host, server_side=True)
        self._strangers[client.link_id] = stranger
        loop = asyncio.get_running_loop()
        accepted_at = loop.time()
        try:
            await client.handshake(self._settings.handshake_timeout)
        except Exception:  # any error: a stranger that is gone must not be counted as one for ever
            self._release_place(client.link_id)
            return
        through, peername = writer.get_extra_info("through", 0), writer.get_extra_info("peername")
        port = peername[1] if isinstance(peername, tuple) and not through else 0
        self._start(client, LinkAccepted(client.link_id, host, loop.time() - accepted_at, through, port))

    def _release_place(self, link: int) -> None:
        """Stop counting a link as a stranger's: it became a member's, or ended."""
        stranger = self._strangers.pop(link, None)
        if stranger is not None:
            self.strangers.release(stranger)

    def _make_client(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, address: str, *, server_side: bool
    ) -> Client:
        self._last_link += 1
        side = "accepted" if server_side else "dialled"
        return self._new_client(
            self._last_link,
            reader,
            writer,
            tls_context=self._server_context if server_side else self._client_context,
            server_side=server_side,
            trace=None if self._trace is None else self._trace.link(self._last_link, side, address),
        )

    def _start(self, client: Client, input: Input) -> None:
        self._clients[client.link_id] = client
        link_ends.add()
        self.put(input)
        client.start()

    def _on_frames(self, link: int, frames: list[AnyFrame]) -> None:
        if self._strangers and frames and link in self._strangers:
            self._strangers[link].heard_at = asyncio.get_running_loop().time()
        self.put_received(Got(link, frames))  # type: ignore[arg-type]  # the same frames; mypy does not accept the union's list

    def _on_down(self, link: int, reason: str) -> None:
        if self._clients.pop(link, None) is not None and link_ends.remove():
            self.on_many_ended()
        self._held.discard(link)
        self._release_place(link)
        self.put(LinkDown(link, "closed" if reason == "local" else reason))

    def _on_drained(self, link: int, was_full: bool) -> None:
        if was_full:
            self.put(LinkDrained(link))
        self.on_drained(link)

    # Effects of the core

    def send(self, link: int, data: bytes) -> None:
        """Write encoded frames."""
        client = self._clients.get(link)
        if client is not None:
            client.send(data)  # the driver calls this once a turn

    def is_full(self, link: int) -> bool:
        """Return whether a link's buffer rose above its limit and has not drained since."""
        client = self._clients.get(link)
        return client is not None and client.full

    def has_room(self, link: int) -> bool:
        """Return whether so little of a link is unsent that a text would hardly wait behind it."""
        client = self._clients.get(link)
        return client is None or client.has_room

    def buffered(self, link: int) -> int:
        """Return the number of bytes that a link has not taken yet."""
        client = self._clients.get(link)
        return 0 if client is None else client.buffered

    def on_established(self, link: int) -> None:
        """Treat a link as a member's from now on."""
        client = self._clients.get(link)
        if client is not None:
            client.raise_limit()
        self._release_place(link)

    def close(self, link: int, bye: bytes | None) -> None:
        """End a link: with a last frame after what is unsent, or at once for None."""
        client = self._clients.get(link)
        if client is None:
            return
        if bye is None:
            client.abort()
        else:
            spawn(self._goodbyes, client.close(bye, self._settings.bye_timeout))

    def end_strayed(self) -> None:
        """End links from addresses that this machine has no longer: it came into another network."""
        links = list(self._clients.values())
        ends = {link.own_address: link for link in links}  # one of each address is asked
        gone = [address for address, link in ends.items() if not link.has_address]
        for link in links:
            if link.own_address in gone:
                link.give_up("lost")

    # Reading

    def hold(self, link: int, on: bool) -> None:
        """Stop reading a link, or resume."""
        client = self._clients.get(link)
        if client is None or (link in self._held) == on:
            return
        if on:
            self._held.add(link)
            client.pause_reading()
        else:
            self._held.discard(link)
            client.resume_reading()
        self.put(Paused(link, on))

    def decode(self, link: int) -> int:
        """Decode some of what waits: put_received gets it. Return how many bytes are left."""
        client = self._clients.get(link)
        if client is None:
            return 0
        client.decode()
        return len(client.undecoded)

    # End

    async def close_all(self) -> None:
        """Stop listening and dialling; wait for goodbyes that are under way, then cut the remaining links."""
        self._closed = True
        await self._server.close()
        for task in set(self._handshakes):
            task.cancel()
        if self._goodbyes:
            await asyncio.wait(set(self._goodbyes), timeout=2 * self._settings.bye_timeout)
        await self._cut()

    async def cut_all(self) -> None:
        """End everything at once without a goodbye, as a crash would."""
        self._closed = True
        await self._server.close()
        await self._cut()

    async def _cut(self) -> None:
        tasks = self._handshakes | self._goodbyes
        for task in tasks:
            task.cancel()
        for client in list(self._clients.values()):
            client.abort()
        if tasks:
            await asyncio.wait(tasks)
        await asyncio.sleep(0)  # aborted clients call on_down in the next turn


class StuckLinks:
    """Links that have not taken all bytes. One that neither takes a byte nor sends a frame for stuck_after is ended."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def watch(self, client: Client) -> None:
        """Check a link from now on, until it has taken everything."""
        self._check_later(client, client.taken_bytes, asyncio.get_running_loop().time())

    def _check_later(self, client: Client, taken: int, taken_at: float) -> None:
        after = self._settings.stuck_after / STUCK_CHECKS
        client.stuck_check = asyncio.get_running_loop().call_later(after, self._check, client, taken, taken_at)

    def _check(self, client: Client, taken: int, taken_at: float) -> None:
        """End a link that stands still.

        Args:
            taken: The bytes that it had taken at the last check; `taken_at` is when it took one, or sent a frame, last.
        """
        client.stuck_check = None
        if not client.buffered:
            return
        now = asyncio.get_running_loop().time()
        if client.taken_bytes > taken or client.spoke or not client.reads:  # then it may well be talking
            taken, taken_at, client.spoke = client.taken_bytes, now, False
        if now - taken_at >= self._settings.stuck_after:
            client.give_up()
        else:
            self._check_later(client, taken, taken_at)


def dial_failure(error: Exception) -> tuple[str, str]:
    """Return why a dial failed: a reason for people, and a stable word for programs."""
    if isinstance(error, TimeoutError):
        return "no answer", "no_answer"
    if isinstance(error, socket.gaierror | UnicodeError):  # also of a name that the name service could not be asked for
        return "no such name", "no_name"
    if isinstance(error, ConnectionRefusedError):
        return "nobody listens there", "nobody"
    if isinstance(error, OSError) and error.errno in _UNREACHABLE:
        return "no way there from this machine", "no_way"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror, "failed"
    if isinstance(error, HandshakeError):
        return "what answers there is no p2pchat peer", "no_peer"
    return str(error) or type(error).__name__, "failed"
