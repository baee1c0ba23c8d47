"""In-memory connections: pipes between two ends in one event loop, and a network of named hosts that can be cut.

For a program, a pipe behaves like a socket. Bytes arrive in a later turn of the loop, a reader that stops reading stops
the writer, close() is an EOF at the other end and abort() a reset. TLS and everything above run over it unchanged.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Iterable

from p2pchat.client import Streams
from p2pchat.errors import PortInUse
from p2pchat.runtime.relay import BufferedTransport, hand_over
from p2pchat.server import Server

IN_FLIGHT_BYTES = 256 * 1024  # bytes the network holds between two ends; more stay in the writer's buffer
FIRST_FREE_PORT = 20_001


class PipeEnd(BufferedTransport):
    """One end of a pipe: the transport under a StreamReader and a StreamWriter."""

    def __init__(self, own: tuple[str, int], far: tuple[str, int]) -> None:
        super().__init__({"peername": far, "sockname": own}, IN_FLIGHT_BYTES)
        self.other: PipeEnd
        self._carrying: asyncio.Handle | None = None

    def abort(self) -> None:
        self._closing = True
        self._loop.call_soon(self.lose, None)
        self._loop.call_soon(self.other.lose, ConnectionResetError(errno.ECONNRESET, "connection reset by peer"))

    def get_write_buffer_size(self) -> int:
        return max(0, self.unsent_bytes - IN_FLIGHT_BYTES)

    def _read_later(self) -> None:
        self.other._push()

    def _push(self) -> None:
        if self._carrying is None and not self._lost:
            self._carrying = self._loop.call_soon(self._carry)

    def _carry(self) -> None:
        """Deliver written bytes to the other end while it reads."""
        self._carrying = None
        while self._unsent and self.other._reading and not self.other._lost:
            data = self._take_unsent()
            hand_over(data, self.other.protocol)
        if self._unsent and self.other._lost:
            self.lose(ConnectionResetError(errno.ECONNRESET, "connection reset by peer"))
            return
        self._passed_on()
        if self._ends and not self._unsent:
            self._finish()

    def _finish(self) -> None:
        """Signal EOF to the other end after all bytes, and end this one if it was closed."""
        other = self.other
        if not other._lost and not other._closing:
            other.protocol.eof_received()
        if self._closing:
            self.lose(None)


def pipe(caller: tuple[str, int], called: tuple[str, int]) -> tuple[tuple[Streams, PipeEnd], tuple[Streams, PipeEnd]]:
    """Return both ends of a new connection, the caller's first."""
    ends = (PipeEnd(caller, called), PipeEnd(called, caller))
    ends[0].other, ends[1].other = ends[1], ends[0]
    return (ends[0].streams(), ends[0]), (ends[1].streams(), ends[1])


class PipeNetwork:
    """Named hosts that reach each other through pipes. Groups of them can be disconnected from each other."""

    def __init__(self) -> None:
        self._servers: dict[int, tuple[str, Server]] = {}  # port -> (listening host, server)
        self._pipes: list[tuple[str, str, PipeEnd]] = []
        self._groups: dict[str, int] = {}  # hosts of different groups do not reach each other
        self._next_port = FIRST_FREE_PORT

    def transport(self, host: str) -> PipeTransport:
        """Return the transport of a peer on this host."""
        return PipeTransport(self, host)

    def reaches(self, one: str, other: str) -> bool:
        """Return whether two hosts can connect now."""
        return self._groups.get(one, 0) == self._groups.get(other, 0)

    def partition(self, groups: Iterable[Iterable[str]]) -> None:
        """Disconnect these groups from each other and from all other hosts. Connections between them break."""
        self._groups = {host: number for number, group in enumerate(groups, 1) for host in group}
        kept = []
        for one, other, end in self._pipes:
            if self.reaches(one, other):
                kept.append((one, other, end))
            else:
                end.abort()
        self._pipes = kept

    def heal(self) -> None:
        """Let all hosts reach each other again."""
        self._groups = {}

    def cut(self, host: str) -> None:
        """Remove a host: it stops listening and its connections break."""
        self._servers = {port: entry for port, entry in self._servers.items() if entry[0] != host}
        for one, other, end in self._pipes:
            if host in (one, other):
                end.abort()
        self._pipes = [entry for entry in self._pipes if host not in entry[:2]]

    @property
    def quiet(self) -> bool:
        """True if no bytes are in flight between hosts that reach each other."""
        return not any(end.unsent_bytes or end.other.unsent_bytes for _, _, end in self._pipes)

    def listen(self, host: str, port: int, server: Server) -> int:
        """Have `server` accept connections to this port; 0 chooses one. Raises PortInUse."""
        if port == 0:
            port, self._next_port = self._next_port, self._next_port + 1
        if port in self._servers:
            raise PortInUse(host, port)
        self._servers[port] = (host, server)
        return port

    def connect(self, host: str, port: int) -> Streams:
        """Connect from `host` to the server on this port. Raises OSError."""
        listening, server = self._servers.get(port, ("", None))
        if server is None:
            raise ConnectionRefusedError(errno.ECONNREFUSED, "connection refused")
        if not self.reaches(host, listening):
            raise OSError(errno.EHOSTUNREACH, "no route to host")
        here, there = pipe(("127.0.0.1", 1), ("127.0.0.1", port))
        self._pipes = [entry for entry in self._pipes if not entry[2]._lost]
        self._pipes.append((host, listening, here[1]))
        server.on_connection(*there[0])
        return here[0]


class PipeTransport:
    """The transport (see p2pchat.runtime.connections) of one host in a PipeNetwork."""

    def __init__(self, network: PipeNetwork, host: str) -> None:
        self._network = network
        self._host = host

    async def listen(self, server: Server, host: str, port: int) -> tuple[str, int]:
        return host, self._network.listen(self._host, port, server)

    async def dial(self, host: str, port: int, *, timeout: float) -> Streams:
        await asyncio.sleep(0)  # a connection takes a moment
        return self._network.connect(self._host, port)

    async def resolve(self, host: str, port: int, *, timeout: float) -> list[tuple[str, str]]:
        return []  # hosts here have no names

    def __repr__(self) -> str:
        return f"<PipeTransport of {self._host!a}>"


__all__ = ["PipeEnd", "PipeNetwork", "PipeTransport", "pipe"]
