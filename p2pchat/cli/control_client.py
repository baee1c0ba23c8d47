"""Client of the control socket: how a command uses a running peer, or runs the peer itself.

One task reads all lines. Answers go to the requests they belong to. Other lines are events, which wait in order in a
bounded queue: a slow command makes the peer wait, and nothing is lost. A request that the peer would not read is
refused before it is written: nobody could tell which one the peer means. A command talks in the same way to a peer that
it runs itself. Of several commands at once without a running peer, one runs it, and the others find it.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import aclosing, asynccontextmanager
from datetime import datetime
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any

from p2pchat import Settings, TooLong
from p2pchat.addresses import LOOPBACK
from p2pchat.cli.control_protocol import BUSY, READ_BYTES, SOCKET_NAME, SocketAddress, encode, read_address
from p2pchat.commands.event_text import EventLine, local_now
from p2pchat.commands.exit_codes import CommandError, UsageError, line_exit_code
from p2pchat.commands.json_commands import MAX_LINE_BYTES, LineBuffer
from p2pchat.commands.last_start import LastStart
from p2pchat.commands.standard_output import json_line
from p2pchat.threads import stop_tasks

if TYPE_CHECKING:
    from p2pchat import DataLocked, TCPPeer
    from p2pchat.cli.control_server import ControlServer


CONNECT_TIMEOUT = 5.0  # seconds: a running peer answers at once, unless it hangs
BUSY_RETRY_AFTER = 0.1  # seconds until the next attempt when a peer has too many connections
MAX_QUEUED_LINES = 100  # event lines
MAX_ANSWER_BYTES = 1 << 30  # one may have ten thousand messages, and the peer is trusted


class RequestRefused(CommandError):
    """The peer answered with an error, the word `error`. `code` is the exit code.

    `is_busy`: the peer has too many connections.
    """

    def __init__(self, line: EventLine) -> None:
        super().__init__(str(line.get("text", "the peer refused this")))
        self.code: int = line_exit_code(line)
        self.error: str = str(line.get("code", ""))
        self.is_busy: Any = line.get("code") == BUSY


class PeerGone(CommandError):
    """The connection ended. `reason` is why the peer stopped, "" when it did not say."""

    def __init__(self, reason: str) -> None:
        why = f"stopped ({reason})" if reason else "is gone: it was killed, or ended the connection"
        super().__init__(f"the peer {why}")
        self.reason = reason


class ControlClient:
    """A connection to a running peer. Make one with `connect_or_run` or `connect`.

    Attributes:
        listening: The peer's first line, with its name and address.
        is_own: The command runs the peer itself.
        reason: Why the peer stopped; "" while it has not.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._lines: asyncio.Queue[EventLine | None] = asyncio.Queue(MAX_QUEUED_LINES)
        self._asked: dict[str, asyncio.Future[EventLine]] = {}
        self._names_all = True  # each command so far has a `ref`
        self.reason: str = ""
        self._ended = False
        self._stopping = False
        self.listening: EventLine = {}
        self.is_own = False

    async def start(self) -> ControlClient:
        """Read the peer's first line.

        Raises:
            CommandError: None came in time, or an error. The connection is closed then.
        """
        self._reading = asyncio.create_task(self._read())
        try:
            self.listening = await self._read_greeting()
        except BaseException:  # also when cancelled: do not leak the connection
            await self.aclose()
            raise
        return self

    async def _read_greeting(self) -> EventLine:
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                first = await self.next_line()
        except TimeoutError:
            raise CommandError("the running peer does not answer: it hangs, or its machine is very busy") from None
        if first is None:
            raise PeerGone("")
        if first.get("event") != "listening":
            raise RequestRefused(first)
        return first

    async def send(self, **command: Any) -> None:
        """Send one command object; wait until there is room for more.

        Raises:
            TooLong: The peer would not read it; nothing was sent. PeerGone: The connection ended.
        """
        line = encode(command)
        if len(line) > MAX_LINE_BYTES:
            size, limit = len(str(command.get("text", "")).encode("utf-8", "replace")), Settings.max_text_bytes
            raise TooLong("the text", size, limit) if size > limit else TooLong("this", len(line), MAX_LINE_BYTES)
        self._names_all &= "ref" in command
        try:
            self._writer.write(line)
            await self._writer.drain()
        except OSError:
            await asyncio.wait([self._reading], timeout=CONNECT_TIMEOUT)  # for what the peer sent last
            raise PeerGone(self.reason) from None

    async def ask(self, do: str, **fields: Any) -> list[EventLine]:
        """Send a command object and return the rows of its answer.

        Raises:
            RequestRefused: The answer is an error. PeerGone: The connection ended before the answer. TooLong: As send.
        """
        rows: list[EventLine] = (await self._reply_to(do, **fields))["rows"]
        return rows

    async def accept(self, **fields: Any) -> EventLine:
        """Send a message through a connection with a tail; return its event line `sent`. Raises as ask."""
        return await self._reply_to("send", **fields)

    async def _reply_to(self, do: str, **command: Any) -> EventLine:
        if self._ended:
            raise PeerGone(self.reason)
        ref = f"{do} {token_hex(8)}"  # a tail also tells what other commands send, with their refs
        reply: asyncio.Future[EventLine] = asyncio.get_running_loop().create_future()
        self._asked[ref] = reply
        try:
            await self.send(do=do, ref=ref, **command)
        except BaseException:
            del self._asked[ref]
            raise
        line = await reply
        if line["event"] == "error":
            raise RequestRefused(line)
        return line

    async def next_line(self) -> EventLine | None:
        """Return the next event line, answers excepted; None at the end, also when called again."""
        if self._ended and self._lines.empty():
            return None
        return await self._lines.get()

    async def aclose(self) -> None:
        """Close the connection."""
        self._writer.close()
        await stop_tasks([self._reading])
        try:
            await self._writer.wait_closed()
        except OSError:
            pass

    async def _read(self) -> None:
        lines = LineBuffer(MAX_ANSWER_BYTES)
        try:
            while chunk := await self._reader.read(READ_BYTES):
                for raw in lines.feed(chunk):
                    if raw is not None:
                        await self._dispatch(raw)
        except (OSError, ValueError, RecursionError):
            pass  # not an event line, so not a peer
        finally:
            self._ended = True
            for answer in self._asked.values():
                if not answer.done():
                    answer.set_exception(PeerGone(self.reason))
                    answer.exception()  # retrieve it: the caller may be gone
        await self._lines.put(None)

    async def _dispatch(self, raw: bytes) -> None:
        line = json.loads(raw)
        if not isinstance(line, dict):
            raise ValueError("no object")
        if line.get("event") == "stopped":
            self.reason = str(line.get("reason") or "stopped")
        is_reply = line.get("event") in ("answer", "error")
        self._stopping |= is_reply and line.get("code") == "peer_closed"
        if is_reply and self._stopping:
            return  # its last line will tell why it stops: requests fail with PeerGone
        is_unread = line.get("event") == "error" and line.get("code") == "usage" and line.get("ref") is None
        if is_unread and self._names_all:  # one of these requests, and it is not known which
            refs = [*self._asked]
        elif line.get("ref") in self._asked and (is_reply or line["ref"].startswith("send ")):
            refs = [line["ref"]]
        else:
            refs = []
        for asked in map(self._asked.pop, refs):
            if not asked.done():
                asked.set_result(line)
        if not (refs and is_reply):
            await self._lines.put(line)


async def connect(directory: Path) -> ControlClient | None:
    """Connect to the peer that runs in `directory` (absolute); return None when none answers there.

    Waits a little when the peer has too many connections.

    Raises:
        CommandError: The peer refuses the connection, or hangs.
    """
    deadline = asyncio.get_running_loop().time() + CONNECT_TIMEOUT
    while True:
        streams = await _open(directory)
        try:
            return None if streams is None else await ControlClient(*streams).start()
        except RequestRefused as refused:
            if not refused.is_busy or asyncio.get_running_loop().time() > deadline:
                raise
        await asyncio.sleep(BUSY_RETRY_AFTER)


async def connect_within(server: ControlServer) -> ControlClient:
    """Return a connection to a server of this process."""
    ours, theirs = socket.socketpair()
    server.on_connection(*await asyncio.open_connection(sock=theirs, limit=READ_BYTES))
    return await ControlClient(*await asyncio.open_connection(sock=ours, limit=READ_BYTES)).start()


async def ask_running_peer(directory: Path, do: str, **fields: Any) -> list[EventLine] | None:
    """Send one command object to the peer that runs in `directory`; return its answer, None when none runs there.

    Raises:
        RequestRefused: The answer is an error. CommandError: The peer does not answer.
    """
    control = await connect(directory)
    if control is None:
        return None
    async with aclosing(control):
        return await control.ask(do, **fields)


async def ask_profile(directory: Path, db: str, do: str, **fields: Any) -> list[EventLine]:
    """Send one command object to the running peer of a profile, else to its peer that runs here meanwhile, alone.

    Args:
        db: The database of a peer run here, "" for the profile's own.
    Raises:
        RequestRefused: The answer is an error. CommandError: The peer does not answer, or cannot be run.
    """
    from p2pchat import DataLocked, open_alone
    from p2pchat.cli.control_server import ControlServer

    rows = await ask_running_peer(directory, do, **fields)
    if rows is not None:
        return rows
    try:
        async with open_alone(directory, db=db or None) as peer:
            server = ControlServer(peer)
            async with aclosing(await connect_within(server)) as control:
                rows = await control.ask(do, **fields)
            await server.shut_down("")
            return rows
    except DataLocked as locked:
        raise profile_in_use(directory, locked) from None


def print_rows(rows: Iterable[EventLine], as_json: bool, to_line: Callable[[EventLine, datetime], str]) -> None:
    """Print the rows of an answer, one line each."""
    now = local_now()
    for row in rows:
        print(json_line(row) if as_json else to_line(row, now).removeprefix("-- "), flush=True)


async def _open(directory: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
    path = directory / SOCKET_NAME
    if sys.platform != "win32" and path.exists():
        try:
            return await asyncio.open_unix_connection(os.fspath(path), limit=READ_BYTES)
        except OSError:  # the socket of a peer that was killed, or is just stopping
            pass
    address = read_address(directory)
    if address is None:
        return None
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            return await _authenticate(address)
    except (OSError, EOFError, ValueError, RecursionError, asyncio.LimitOverrunError):
        return None


async def _authenticate(address: SocketAddress) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
    """Connect to an address; return None, with the connection closed, when another program listens there."""
    reader, writer = await asyncio.open_connection(address.host, address.port, limit=READ_BYTES)
    is_peer = False
    try:
        writer.write(encode({"token": address.token}))
        answer = json.loads(await reader.readuntil(b"\n"))
        is_peer = isinstance(answer, dict) and address.is_answer(answer.get("answer"))
    finally:
        if not is_peer:
            writer.close()
    return (reader, writer) if is_peer else None


# ---- a peer run by a command

START_TIMEOUT = 5.0  # seconds for a starting peer to answer, and for a stopping one to unlock its profile
HELD_RETRY_AFTER = 0.1  # seconds between two attempts to lock a profile
MEET_TIMEOUT = 2.0  # seconds for the first known user to come online, before something is sent to the room


@asynccontextmanager
async def connect_or_run(
    directory: Path, *, port: int = -1, db: str = "", meets: bool = False
) -> AsyncIterator[ControlClient]:
    """Connect to the peer of a profile. When it is not running, run it until the connection is closed.

    Args:
        directory: The profile's data directory.
        port: Where a peer run here listens; below 0: on the port the directory is named after, else on any.
        db: The database of a peer run here, "" for the profile's own.
        meets: A peer run here first waits a moment for someone it knows: messages to the room go to those online.
    Raises:
        UsageError: There is no profile.
        CommandError: Another process holds the profile and does not answer, or the peer cannot run.
    """
    from p2pchat import DataLocked

    directory = directory.absolute()
    deadline = asyncio.get_running_loop().time() + START_TIMEOUT
    while (control := await connect(directory)) is None:
        try:
            peer, server = await _run_peer(directory, port, db)
            break
        except DataLocked as locked:
            if asyncio.get_running_loop().time() > deadline:
                raise profile_in_use(directory, locked) from None
        await asyncio.sleep(HELD_RETRY_AFTER)
    if control is not None:
        async with aclosing(control):
            yield control
        return
    try:
        if meets:
            await _wait_for_first_user(peer)
        own = await connect_within(server)
        own.is_own = True
        async with aclosing(own):
            yield own
        await server.wait_for_commands()
    finally:
        await server.shut_down("the command that ran it has ended")


def profile_in_use(directory: Path, locked: DataLocked) -> CommandError:
    """Return the error for a profile held by a process without a control socket: a program that uses the library."""
    who = f"process {locked.pid}" if locked.pid else "another process"
    return CommandError(f"{directory} is in use by {who}, which answers no commands: stop it, or use it itself")


async def _run_peer(directory: Path, port: int, db: str) -> tuple[TCPPeer, ControlServer]:
    """Start the peer of a profile, where others expect it.

    Raises:
        DataLocked: Another process holds the profile.
    """
    from p2pchat import inspect_profile
    from p2pchat.cli.profiles import port_of

    found = inspect_profile(directory)
    if not found.peer_id and not found.key_trouble:
        example = port if port > 0 else 8080
        raise UsageError(f"there is no profile in {directory}: start a peer first, for example p2pchat {example}")
    last = LastStart.load(directory)
    return await _start_peer(directory, port if port >= 0 else port_of(directory), db, last)


async def _start_peer(directory: Path, port: int, db: str, how: LastStart) -> tuple[TCPPeer, ControlServer]:
    """Listen at the given address, or elsewhere if that fails: the peer can still dial known peers."""
    from p2pchat import DataLocked, P2PChatError, PortInUse, TCPPeer
    from p2pchat.cli.control_server import ControlServer

    peer = TCPPeer(
        port,
        host=how.host or LOOPBACK,
        data=directory,
        db=db or None,
        advertise=how.advertise or None,
        discover=how.discover,
        listen=how.listen,
    )
    try:
        await peer.start(timeout=0)
    except PortInUse:
        if not port:
            raise
        return await _start_peer(directory, 0, db, how)
    except P2PChatError as error:  # most likely an address this machine no longer has
        if isinstance(error, DataLocked) or how == LastStart():
            raise
        return await _start_peer(directory, port, db, LastStart())
    return peer, await ControlServer(peer).start()


async def _wait_for_first_user(peer: TCPPeer) -> None:
    """Wait until a known user is online: a room message is sent to the users online at that time."""
    from p2pchat import Joined

    if all(user.is_me for user in peer.users()):
        return
    async with peer.events(Joined, consumer=None) as joined:
        if any(user.status in ("online", "idle") for user in peer.users() if not user.is_me):
            return
        try:
            await asyncio.wait_for(anext(joined), MEET_TIMEOUT)
        except (TimeoutError, StopAsyncIteration):
            pass
