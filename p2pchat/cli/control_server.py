"""The control socket of a running peer: lets commands of the same login in, so many and no more, and ends them well.

It knows nothing of what they ask for. What stands in the directory is made after the peer holds its profile and
removed before it lets it go, so whatever else is found there is stale.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import struct
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from p2pchat import TCPPeer
from p2pchat.apps.cli.control.connection import END_WITHIN, Connection
from p2pchat.apps.cli.control.lines import encode
from p2pchat.cli.control_client import Control
from p2pchat.cli.control_socket import BUSY, LOOPBACK, Door, make_socket, remove, takes_socket, write_door
from p2pchat.commands.context import NAME_GRACE
from p2pchat.commands.errors import complain
from p2pchat.commands.read_tracking import Attention

if TYPE_CHECKING:
    from p2pchat.web.accounts import Accounts

MOST_CONNECTIONS = 16
MOST_STRANGERS = 16  # on loopback: connections that have not said the token yet
TOKEN_WITHIN = 5.0  # seconds
MAX_TOKEN_BYTES = 1024
REST_WITHIN = 10.0  # seconds a peer that a command runs stays for other commands that came to it


class ControlServer:
    """What answers commands for a peer that runs; nothing where that has no directory.

    Attributes:
        attention: Whether somebody looks at the chat of this peer, so that an /away from outside is one of it too; None
            where there is no chat.
        accounts: Of the gateway that runs here; None where there is none.
    """

    def __init__(self, peer: TCPPeer) -> None:
        self._peer = peer
        self.attention: Attention | None = None
        self.accounts: Accounts | None = None
        self._directory: Path | None = None
        self._server: asyncio.Server | None = None
        self._door: Door | None = None
        self._strangers = 0
        self._connections: dict[asyncio.Task[None], Connection] = {}
        self._leaving = False
        self._news = asyncio.Event()  # a connection ended
        self._since = asyncio.get_running_loop().time()

    async def start(self) -> ControlServer:
        """Answer from now on; what stands in the way is a warning on stderr, for the chat works without."""
        directory = self._peer.data
        if directory is None:
            return self
        self._directory = directory
        remove(directory)
        try:
            await self._listen(directory)
        except OSError as error:
            remove(directory)
            complain(f"warning: commands like `p2pchat send` cannot reach this peer: {error.strerror or error}")
        return self

    async def _listen(self, directory: Path) -> None:
        if sys.platform != "win32" and takes_socket(directory):
            with suppress(OSError):  # a file system without sockets, most likely
                made = make_socket(directory)
                try:
                    self._server = await asyncio.start_unix_server(self.accept, sock=made, limit=_BUFFER_BYTES)
                    return
                except BaseException:  # cancelled as well: nothing of it stays open
                    made.close()
                    raise
        self._server = await asyncio.start_server(self._stranger, LOOPBACK, 0, limit=_BUFFER_BYTES)
        self._door = Door(self._server.sockets[0].getsockname()[1])
        write_door(directory, self._door)

    async def leave(self, reason: str) -> None:
        """Let nobody in any more, close the peer, and tell those who are connected that and why."""
        self._stop_listening()
        try:
            await self._peer.aclose(reason)
        finally:
            await self._end_connections(reason)

    def _stop_listening(self) -> None:
        self._leaving = True
        if self._server is not None:
            self._server.close()
            self._server = None
        if self._directory is not None:
            remove(self._directory)
            self._directory = None

    async def _end_connections(self, reason: str) -> None:
        """Tell each what is left to tell; who does not take it in time is cut off."""
        connections = dict(self._connections)
        await asyncio.gather(*(one.end(reason) for one in connections.values()))
        if connections:
            _, late = await asyncio.wait(connections, timeout=END_WITHIN)
            for task in late:
                task.cancel()
            await asyncio.gather(*connections, return_exceptions=True)

    async def rest(self) -> None:
        """Let nobody in any more, and wait a while for commands that came to this peer; not for those who follow."""
        self._stop_listening()
        with suppress(TimeoutError):
            async with asyncio.timeout(REST_WITHIN):
                while any(not one.follows for one in self._connections.values()):
                    self._news.clear()
                    await self._news.wait()

    # Who comes

    async def connect(self) -> Control:
        """Return a connection from within this process."""
        ours, theirs = socket.socketpair()
        self.accept(*await asyncio.open_connection(sock=theirs, limit=_BUFFER_BYTES))
        return await Control(*await asyncio.open_connection(sock=ours, limit=_BUFFER_BYTES)).begin()

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a connection of this login."""
        if self._leaving or not _is_of_this_login(writer):
            writer.close()
        elif len(self._connections) >= MOST_CONNECTIONS:
            text = f"{MOST_CONNECTIONS} commands are connected to this peer: end one first"
            writer.write(encode({"event": "error", "code": BUSY, "text": text, "about": "", "ref": None}))
            writer.close()
        else:
            fresh = asyncio.get_running_loop().time() < self._since + NAME_GRACE
            connection = Connection(
                self._peer, reader, writer, fresh=fresh, attention=self.attention, accounts=self.accounts
            )
            task = asyncio.create_task(connection.serve())
            self._connections[task] = connection
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._connections[task]
        self._news.set()

    async def _stranger(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a connection on loopback once it has said the token; every other one is closed without a word."""
        door = self._door
        if door is None or self._strangers >= MOST_STRANGERS:
            writer.close()
            return
        self._strangers += 1
        try:
            said = await _said(reader)
        finally:
            self._strangers -= 1
        if not door.same_token(said):
            writer.close()
            return
        writer.write(encode({"answer": door.answer}))
        self.accept(reader, writer)


_BUFFER_BYTES = 64 * 1024  # read ahead of a connection, which is asked for no more than that at once


async def _said(reader: asyncio.StreamReader) -> object:
    """Return the token a stranger says in its first line; None for anything else."""
    try:
        async with asyncio.timeout(TOKEN_WITHIN):
            line = await reader.readuntil(b"\n")
        found = json.loads(line) if len(line) <= MAX_TOKEN_BYTES else None
    except (TimeoutError, OSError, EOFError, ValueError, RecursionError, asyncio.LimitOverrunError):
        return None
    return found.get("token") if isinstance(found, dict) else None


def _is_of_this_login(writer: asyncio.StreamWriter) -> bool:
    """Whether the other end of a Unix socket is this login's or root's, where the system tells; the modes of socket
    and directory keep others out, and this holds also where somebody has widened them."""
    connection = writer.get_extra_info("socket")
    if sys.platform != "linux" or connection is None or connection.family != socket.AF_UNIX:
        return True
    size = struct.calcsize("3i")
    _, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return uid in (os.geteuid(), 0)
