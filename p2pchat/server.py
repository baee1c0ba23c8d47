"""Server: the listening side, up to the moment where a connection has a Client.

It accepts plain connections and counts those who have not proved themselves yet: strangers. Over a cap they are
closed before a byte is read, so that what strangers cost is bounded whatever they do, and so that one address
cannot take all places. TLS and the handshake are not its business: it hands (reader, writer, host) on, and is told
when a stranger has become a member or is gone.

Strangers decides, by the clock it is given; Server carries out.
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

SWEEP_ABOVE = 1024  # addresses remembered for their rate before those that say nothing any more are forgotten
ONE_PORT_ATTEMPTS = 8  # to find one free port on all addresses of a host, when any port will do
# Connections the system holds until they are accepted. With a full queue Linux answers with SYN cookies and keeps
# nothing: of 600 dialled at once with 128 it accepted 276, and all 600 diallers believed they were connected.
BACKLOG = 1024  # a mesh that forms at once, with room to spare
ACCEPT_PAUSE = 0.02  # seconds after an accept that failed: what fails on and on must not keep the loop busy


class StrangerLimiter:
    """Who may come in: caps on unproven connections in all and for each address, and a rate for each address.

    An address is what one party commands: an IPv4 address, or the /64 of an IPv6 one. The rate is a bucket that
    holds one second's worth.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._here: dict[str, int] = {}  # address -> strangers now
        self._buckets: dict[str, tuple[float, float]] = {}  # address -> tokens left, at that time
        self.count = 0

    def admit(self, address: str, now: float) -> bool:
        """Count one more stranger from `address` and return True, or return False: it is to be closed.

        Args:
            address: As address_of() gives it.
            now: Seconds on a clock that never goes back.
        """
        most, rate = self._caps(address)
        if not self._spend(address, now, rate):
            return False
        if self.count >= self._settings.max_strangers or self._here.get(address, 0) >= most:
            return False
        self.count += 1
        self._here[address] = self._here.get(address, 0) + 1
        return True

    def release(self, address: str) -> None:
        """One admitted stranger from `address` is a member now, or gone."""
        self.count -= 1
        left = self._here[address] - 1
        if left:
            self._here[address] = left
        else:
            del self._here[address]

    def _caps(self, address: str) -> tuple[int, int]:
        """Return how many strangers at once, and how many new ones a second."""
        s = self._settings
        if is_loopback(address):  # one machine's own peers and tests: trusted a little more, still bounded
            return s.max_strangers_loopback, s.strangers_a_second_loopback
        return s.max_strangers_an_address, s.strangers_a_second

    def _spend(self, address: str, now: float, rate: int) -> bool:
        tokens, since = self._buckets.get(address, (float(rate), now))
        tokens = min(float(rate), tokens + (now - since) * rate)
        if len(self._buckets) >= SWEEP_ABOVE and address not in self._buckets:
            self._sweep(now)
        self._buckets[address] = (tokens - 1 if tokens >= 1 else tokens, now)
        return tokens >= 1

    def _sweep(self, now: float) -> None:
        """Forget the buckets that are full again: after a second without a connection, all are."""
        self._buckets = {address: bucket for address, bucket in self._buckets.items() if now - bucket[1] < 1.0}


def loses_listener_on_error(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether a loop closes a listening socket for good when one accept fails: a visitor who resets at once is enough.

    asyncio's own for Windows does (https://github.com/python/cpython/issues/93821). No other may take the way round it:
    winloop lets nobody have a second descriptor of its sockets.
    """
    return isinstance(loop, getattr(asyncio, "ProactorEventLoop", ()))


def address_of(host: str) -> str:
    """Return what counts as one address: IPv4 as it is (mapped into IPv6 too), IPv6 as its /64."""
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
    """Whether an address as address_of() gives it is this machine's own."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


class Server:
    """Listens on one host and port. `port` is the real one once listen() has returned."""

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
        self._strangers = StrangerLimiter(settings)
        self._address: dict[asyncio.StreamWriter, str] = {}  # of those who are strangers still
        self._server: asyncio.Server | None = None
        self._accept_tasks: list[asyncio.Task[None]] = []  # where the loop grows deaf: one for each listening socket
        self.host = ""
        self.port = 0
        self.refused = 0  # connections closed because of a cap, since the start

    @property
    def strangers(self) -> int:
        """How many connections are here that have not proved themselves."""
        return self._strangers.count

    async def listen(self, host: str, port: int) -> None:
        """Begin to listen; port 0 takes any free one, the same on all addresses of the host.

        Raises:
            PortInUse: Somebody listens there already.
            P2PChatError: Not an address of this machine, or not allowed; says what to do.
        """
        deaf = loses_listener_on_error(asyncio.get_running_loop())
        server = self._server = await self._bind(host, port, start_serving=not deaf)
        self.host = host
        self.port = server.sockets[0].getsockname()[1]
        if deaf:
            try:
                self._start_accept_tasks(server)
            except OSError as error:  # it may find out only now that the port is taken
                await self.close()
                raise _listen_error(error, host, port) from error

    async def _bind(self, host: str, port: int, *, start_serving: bool) -> asyncio.Server:
        """A host name may have several addresses (localhost: IPv4 and IPv6), which get a port each when it is 0."""
        for attempt in range(ONE_PORT_ATTEMPTS):
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
                if error.errno == errno.EADDRINUSE and attempt and attempt < ONE_PORT_ATTEMPTS - 1:
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
        """Accept by ourselves, where the loop grows deaf."""
        for bound in server.sockets:
            sock = bound.dup()
            sock.setblocking(False)
            sock.listen(BACKLOG)
            self._accept_tasks.append(asyncio.get_running_loop().create_task(self._accept_forever(sock)))
        server.close()  # its own descriptors of the same sockets

    async def _accept_forever(self, sock: socket.socket) -> None:
        """Let in who comes to one listening socket, for ever."""
        loop = asyncio.get_running_loop()
        with sock:
            while True:
                try:
                    connection, _ = await loop.sock_accept(sock)
                    await self._attach_streams(connection)
                except OSError:
                    await asyncio.sleep(ACCEPT_PAUSE)

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
        """Take a new connection in, or close it; also the way in for connections that are no sockets."""
        peername = writer.get_extra_info("peername")
        host = str(peername[0]) if isinstance(peername, tuple) and peername else str(peername or "")
        address = address_of(host)
        if not self._strangers.admit(address, asyncio.get_running_loop().time()):
            self.refused += 1
            writer.transport.abort()
            return
        self._address[writer] = address
        self._on_accepted(reader, writer, host)

    def on_established(self, writer: asyncio.StreamWriter) -> None:
        """This connection is a member's: it counts as a stranger no more. Calling it again does nothing."""
        address = self._address.pop(writer, None)
        if address is not None:
            self._strangers.release(address)

    def on_closed(self, writer: asyncio.StreamWriter) -> None:
        """This connection has ended."""
        self.on_established(writer)

    async def close(self) -> None:
        """Listen no more. Connections that are open stay open: they are the owner's."""
        if self._server is not None:
            server, self._server = self._server, None
            server.close()
        doors, self._accept_tasks = self._accept_tasks, []
        for door in doors:
            door.cancel()
        await asyncio.gather(*doors, return_exceptions=True)


def _listen_error(error: OSError, host: str, port: int) -> P2PChatError:
    if error.errno == errno.EADDRINUSE:
        return PortInUse(host, port)
    if error.errno in (errno.EACCES, errno.EPERM):
        return P2PChatError(f"not allowed to listen on port {port}: choose one above 1023")
    # No number: asyncio since Python 3.12, when there was no address at all that it could bind.
    if error.errno in (errno.EADDRNOTAVAIL, None) or isinstance(error, socket.gaierror):
        hint = "listen on one that is, on 0.0.0.0 for all it has, or on 127.0.0.1 for this machine alone"
        return P2PChatError(f"{host!a} is no address of this machine: {hint}")
    return P2PChatError(f"cannot listen on {host!a} port {port}: {error.strerror or error}")
