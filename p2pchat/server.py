"""The listening side of a peer: sockets on all addresses of a host, and how many connections wait to be accepted."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable
from typing import Any

from p2pchat.client import STREAM_LIMIT_BYTES
from p2pchat.errors import P2PChatError, PortInUse
from p2pchat.threads import look_up, stop_tasks

# Connections that wait in the kernel to be accepted: a mesh that forms at once, with room to spare. With a full queue
# Linux answers with SYN cookies and keeps nothing: of 600 dialled at once with 128 it accepted 276, and 600 believed
# they were connected.
BACKLOG = 1024
MAX_PORT_ATTEMPTS = 8  # to find one port that is free on all addresses of a host
ACCEPT_RETRY_AFTER = 0.02  # seconds after a failed accept; an accept that keeps failing must not keep the loop busy


class Server:
    """A listening socket for each address of one host, all on one port.

    Args:
        on_connection: Called with (reader, writer) for each connection; connections in memory enter here too.
    Attributes:
        host, port: Where the server listens; `port` is the real one after listen(0).
    """

    def __init__(self, on_connection: Callable[[asyncio.StreamReader, asyncio.StreamWriter], None]) -> None:
        self.on_connection = on_connection
        self._server: asyncio.Server | None = None
        self._accept_tasks: list[asyncio.Task[None]] = []  # one per listening socket, see loses_listener_on_error()
        self.host: str = ""
        self.port: int = 0

    async def listen(self, host: str, port: int, sock: socket.socket | None = None) -> None:
        """Start listening. Port 0 picks a free port, the same on all addresses of the host.

        Args:
            sock: Listen on this socket, which is bound to this host and port; close() closes it.
        Raises:
            PortInUse: Another program listens there.
            P2PChatError: The host is not an address of this machine, or the port is not allowed.
        """
        accepts_itself = loses_listener_on_error(asyncio.get_running_loop())
        server = self._server = await self._bind(host, port, sock, start_serving=not accepts_itself)
        self.host = host
        self.port = server.sockets[0].getsockname()[1]
        if accepts_itself:
            try:
                self._start_accept_tasks(server)
            except OSError as error:  # listen() can be the first call to notice that the port is taken
                await self.close()
                raise _listen_error(error, host, port) from error

    async def _bind(self, host: str, port: int, sock: socket.socket | None, *, start_serving: bool) -> asyncio.Server:
        """Bind all addresses of a host to one port. For port 0 asyncio picks a port for each address, so retry."""
        name = None if host in ("", "::") else host  # a socket of asyncio for :: takes IPv6 alone; None means both
        for attempt in range(MAX_PORT_ATTEMPTS):
            try:
                places = () if sock else await look_up(name, flags=socket.AI_PASSIVE)
                place: dict[str, Any] = {"sock": sock} if sock else {"host": [*places], "port": port}
                server = await asyncio.start_server(
                    self.on_connection,
                    **place,
                    limit=STREAM_LIMIT_BYTES,
                    backlog=BACKLOG,
                    start_serving=False,
                )
                if start_serving:
                    await _start_serving(server)
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
        except BaseException:  # also when cancelled: do not leak the socket
            connection.close()
            raise

    async def close(self) -> None:
        """Stop listening. Open connections stay open: they belong to the owner."""
        if self._server is not None:
            server, self._server = self._server, None
            # asyncio loses a connection that it has accepted in this turn if the server closes before the next one: it
            # stays open, and nobody has it (https://github.com/python/cpython/issues/109564).
            for sock in server.sockets:
                asyncio.get_running_loop().remove_reader(sock.fileno())
            try:
                await asyncio.sleep(0)
            finally:
                server.close()
        tasks, self._accept_tasks = self._accept_tasks, []
        await stop_tasks(tasks)


async def _start_serving(server: asyncio.Server) -> None:
    """Start to accept. A start_server() that is cancelled while it does this itself leaves its sockets open."""
    try:
        await server.start_serving()
    except BaseException:  # also when cancelled
        server.close()
        raise


def address_of(sock: socket.socket) -> tuple[str, int]:
    """Return the host and the port of a TCP socket that listens or is bound.

    Raises:
        ValueError: It is a socket of another kind.
    """
    if sock.family not in (socket.AF_INET, socket.AF_INET6) or sock.type != socket.SOCK_STREAM:
        raise ValueError("a peer listens on a TCP socket: this one is of another kind")
    host, port = sock.getsockname()[:2]
    if not port:
        raise ValueError("a peer listens on a socket that is bound to a port: this one is not")
    return host, port


def loses_listener_on_error(loop: asyncio.AbstractEventLoop) -> bool:
    """Return whether the loop closes a listening socket for good when one accept fails.

    asyncio's own loop for Windows does (https://github.com/python/cpython/issues/93821): a visitor that resets its
    connection at once is enough. The workaround, _start_accept_tasks(), is for that loop alone: winloop does not allow
    a second descriptor for its sockets.
    """
    return isinstance(loop, getattr(asyncio, "ProactorEventLoop", ()))


def _listen_error(error: OSError, host: str, port: int) -> P2PChatError:
    if error.errno == errno.EADDRINUSE:
        return PortInUse(host, port)
    if error.errno in (errno.EACCES, errno.EPERM):
        return P2PChatError(f"not allowed to listen on port {port}: choose one above 1023")
    # Since Python 3.12 asyncio raises an error without a number when it could bind no address at all.
    if error.errno in (errno.EADDRNOTAVAIL, None) or isinstance(error, socket.gaierror):
        hint = "listen on one that is, on 0.0.0.0 for all it has, or on 127.0.0.1 for this machine alone"
        return P2PChatError(f"{host!r} is no address of this machine: {hint}")
    return P2PChatError(f"cannot listen on {host!r} port {port}: {error.strerror or error}")
