"""The listening side of a peer, from an incoming connection to its Client.

The server accepts plain connections and hands (reader, writer, host) to its owner. TLS and the handshake are the
owner's business. A connection that has not finished its handshake is a *stranger*. Strangers are capped, in total and
per address, and so is the rate of new ones. A connection above a cap is closed before a byte is read. This bounds what
strangers cost, and keeps one address from taking every place.

`Server` opens sockets. `StrangerLimiter` decides whom to admit, by the clock it is given.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket
from collections.abc import Callable

from p2pchat.client import STREAM_LIMIT_BYTES
from p2pchat.config import Settings
from p2pchat.errors import P2PChatError, PortInUse

# Connections that wait in the kernel to be accepted: a mesh that forms at once, with room to spare. With a full queue
# Linux answers with SYN cookies and keeps nothing: of 600 dialled at once with 128 it accepted 276, and 600 believed
# they were connected.
BACKLOG = 1024
MAX_PORT_ATTEMPTS = 8  # to find one port that is free on all addresses of a host
ACCEPT_RETRY_AFTER = 0.02  # seconds after a failed accept; an accept that keeps failing must not keep the loop busy
SWEEP_ABOVE = 1024  # remembered addresses; above this number the idle ones are forgotten


class Server:
    """A listening socket for each address of one host, all on one port.

    Attributes:
        host, port: Where the server listens; `port` is the real one after listen(0).
        refused: Number of connections closed because of a cap, since the start.
    """

    def __init__(
        self,
        settings: Settings,
        on_accepted: Callable[[asyncio.StreamReader, asyncio.StreamWriter, str], None],
    ) -> None:
        """Make a server that does not listen yet.

        Args:
            on_accepted: Called with (reader, writer, host) for each admitted connection. The callee must call
                on_established(writer) after `go`, and on_closed(writer) when the connection ends, for any reason.
        """
        self._settings = settings
        self._on_accepted = on_accepted
        self._limiter = StrangerLimiter(settings)
        self._stranger_addresses: dict[asyncio.StreamWriter, str] = {}
        self._server: asyncio.Server | None = None
        self._accept_tasks: list[asyncio.Task[None]] = []  # one per listening socket, see loses_listener_on_error()
        self.host = ""
        self.port = 0
        self.refused = 0

    @property
    def strangers(self) -> int:
        """The number of open connections that have not finished their handshake."""
        return self._limiter.count

    async def listen(self, host: str, port: int) -> None:
        """Start listening. Port 0 picks a free port, the same on all addresses of the host.

        Raises:
            PortInUse: Another program listens there.
            P2PChatError: The host is not an address of this machine, or the port is not allowed.
        """
        accepts_itself = loses_listener_on_error(asyncio.get_running_loop())
        server = self._server = await self._bind(host, port, start_serving=not accepts_itself)
        self.host = host
        self.port = server.sockets[0].getsockname()[1]
        if accepts_itself:
            try:
                self._start_accept_tasks(server)
            except OSError as error:  # listen() can be the first call to notice that the port is taken
                await self.close()
                raise _listen_error(error, host, port) from error

    async def _bind(self, host: str, port: int, *, start_serving: bool) -> asyncio.Server:
        """Bind all addresses of a host to one port. For port 0 asyncio picks a port for each address, so retry."""
        for attempt in range(MAX_PORT_ATTEMPTS):
            try:
                server = await asyncio.start_server(
                    self.on_connection,
                    host,
                    port,
                    limit=STREAM_LIMIT_BYTES,
                    backlog=BACKLOG,
                    start_serving=start_serving,
                )
            except OSError as error:
                if error.errno == errno.EADDRINUSE and attempt and attempt < MAX_PORT_ATTEMPTS - 1:
                    port = 0
                    continue
                raise _listen_error(error, host, port) from error
            ports = {sock.getsockname()[1] for sock in server.sockets}
            if len(ports) == 1:
                return server
            server.close()
            port = min(ports)
        raise P2PChatError(f"no port is free on all addresses of {host}: name a port, or an address instead of a name")

    def _start_accept_tasks(self, server: asyncio.Server) -> None:
        """Accept connections in tasks of our own, on copies of the listening sockets."""
        for bound in server.sockets:
            sock = bound.dup()
            sock.setblocking(False)
            sock.listen(BACKLOG)
            self._accept_tasks.append(asyncio.get_running_loop().create_task(self._accept_forever(sock)))
        server.close()  # closes its own descriptors only

    async def _accept_forever(self, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with sock:
            while True:
                try:
                    connection, _ = await loop.sock_accept(sock)
                    await self._attach_streams(connection)
                except OSError:
                    await asyncio.sleep(ACCEPT_RETRY_AFTER)

    async def _attach_streams(self, connection: socket.socket) -> None:
        reader = asyncio.StreamReader(limit=STREAM_LIMIT_BYTES)
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: asyncio.StreamReaderProtocol(reader, self.on_connection), connection
            )
        except BaseException:
            connection.close()
            raise

    def on_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Admit a new connection, or close it. Connections that are not sockets enter here too."""
        peername = writer.get_extra_info("peername")
        host = str(peername[0]) if isinstance(peername, tuple) and peername else str(peername or "")
        address = address_of(host)
        if not self._limiter.admit(address, asyncio.get_running_loop().time()):
            self.refused += 1
            writer.transport.abort()
            return
        self._stranger_addresses[writer] = address
        self._on_accepted(reader, writer, host)

    def on_established(self, writer: asyncio.StreamWriter) -> None:
        """Stop counting this connection as a stranger: it finished its handshake. Calling it again does nothing."""
        address = self._stranger_addresses.pop(writer, None)
        if address is not None:
            self._limiter.release(address)

    def on_closed(self, writer: asyncio.StreamWriter) -> None:
        """Stop counting this connection as a stranger: it has ended."""
        self.on_established(writer)

    async def close(self) -> None:
        """Stop listening. Open connections stay open: they belong to the owner."""
        if self._server is not None:
            server, self._server = self._server, None
            server.close()
        tasks, self._accept_tasks = self._accept_tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class StrangerLimiter:
    """Caps on strangers, in total and per address, and a token bucket for new ones from each address.

    An address is what one party controls: an IPv4 address, or the /64 network of an IPv6 address. A bucket holds the
    tokens of one second.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._counts: dict[str, int] = {}  # strangers by address
        self._buckets: dict[str, tuple[float, float]] = {}  # by address: (tokens, time of the last update)
        self.count = 0

    def admit(self, address: str, now: float) -> bool:
        """Count one more stranger and return True, or return False: the connection must be closed.

        Args:
            address: As returned by address_of().
            now: Seconds on a monotonic clock.
        """
        max_strangers, rate = self._limits(address)
        if not self._take_token(address, now, rate):
            return False
        if self.count >= self._settings.max_strangers or self._counts.get(address, 0) >= max_strangers:
            return False
        self.count += 1
        self._counts[address] = self._counts.get(address, 0) + 1
        return True

    def release(self, address: str) -> None:
        """Uncount one admitted stranger: it became a member, or its connection ended."""
        self.count -= 1
        remaining = self._counts[address] - 1
        if remaining:
            self._counts[address] = remaining
        else:
            del self._counts[address]

    def _limits(self, address: str) -> tuple[int, int]:
        """Return (most strangers at once, new strangers a second) for one address."""
        s = self._settings
        if is_loopback(address):  # one machine's own peers and tests: trusted a little more, still bounded
            return s.max_strangers_loopback, s.strangers_a_second_loopback
        return s.max_strangers_an_address, s.strangers_a_second

    def _take_token(self, address: str, now: float, rate: int) -> bool:
        tokens, updated_at = self._buckets.get(address, (float(rate), now))
        tokens = min(float(rate), tokens + (now - updated_at) * rate)
        if len(self._buckets) >= SWEEP_ABOVE and address not in self._buckets:
            self._sweep(now)
        self._buckets[address] = (tokens - 1 if tokens >= 1 else tokens, now)
        return tokens >= 1

    def _sweep(self, now: float) -> None:
        """Forget full buckets. A bucket is full after a second without a connection."""
        self._buckets = {address: bucket for address, bucket in self._buckets.items() if now - bucket[1] < 1.0}


def loses_listener_on_error(loop: asyncio.AbstractEventLoop) -> bool:
    """Return whether the loop closes a listening socket for good when one accept fails.

    asyncio's own loop for Windows does (https://github.com/python/cpython/issues/93821): a visitor that resets its
    connection at once is enough. The workaround, _start_accept_tasks(), is for that loop alone: winloop does not allow
    a second descriptor for its sockets.
    """
    return isinstance(loop, getattr(asyncio, "ProactorEventLoop", ()))


def address_of(host: str) -> str:
    """Return the address that counts for caps: IPv4 as it is, also when mapped into IPv6, and IPv6 as its /64."""
    try:
        ip = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host  # an in-memory pipe, or a Unix socket
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return str(ip.ipv4_mapped)
        if not ip.is_loopback:
            return str(ipaddress.ip_network((ip, 64), strict=False))
    return str(ip)


def is_loopback(address: str) -> bool:
    """Return whether an address, as returned by address_of(), is this machine's own."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def _listen_error(error: OSError, host: str, port: int) -> P2PChatError:
    if error.errno == errno.EADDRINUSE:
        return PortInUse(host, port)
    if error.errno in (errno.EACCES, errno.EPERM):
        return P2PChatError(f"not allowed to listen on port {port}: choose one above 1023")
    # Since Python 3.12 asyncio raises an error without a number when it could bind no address at all.
    if error.errno in (errno.EADDRNOTAVAIL, None) or isinstance(error, socket.gaierror):
        hint = "listen on one that is, on 0.0.0.0 for all it has, or on 127.0.0.1 for this machine alone"
        return P2PChatError(f"{host!a} is no address of this machine: {hint}")
    return P2PChatError(f"cannot listen on {host!a} port {port}: {error.strerror or error}")
