"""The control socket of a running peer: lets commands of the same login in, so many and no more, and ends them well.

It knows nothing of what they ask for. What stands in the directory is made after the peer holds its profile and
removed before it lets it go, so whatever else is found there is stale.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import struct
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from p2pchat import Conversation, Message, P2PChatError, Sent, Stopped, TCPPeer
from p2pchat.cli.control_client import ControlClient
from p2pchat.cli.control_socket import (
    BUSY,
    LOOPBACK,
    LineBuffer,
    SocketAddress,
    bind_socket,
    encode,
    remove_files,
    socket_path_fits,
    write_address,
)
from p2pchat.commands.context import NAME_GRACE
from p2pchat.commands.display import Display
from p2pchat.commands.errors import UsageError, print_error
from p2pchat.commands.json_commands import MAX_LINE_BYTES, BadCommand, JsonCommand
from p2pchat.commands.output import EventLine, StdoutWriter
from p2pchat.commands.read_tracking import ActivityTracker
from p2pchat.commands.session import Session

if TYPE_CHECKING:
    from p2pchat.web.accounts import Account, Accounts


MAX_CONNECTIONS = 16
MAX_UNAUTHENTICATED = 16  # on loopback: connections that have not said the token yet
TOKEN_TIMEOUT = 5.0  # seconds
MAX_TOKEN_BYTES = 1024
LINGER_TIMEOUT = 10.0  # seconds a peer that a command runs stays for other commands that came to it


class ControlServer:
    """What answers commands for a peer that runs; nothing where that has no directory.

    Attributes:
        activity: Whether somebody looks at the chat of this peer, so that an /away from outside is one of it too; None
            where there is no chat.
        accounts: Of the gateway that runs here; None where there is none.
    """

    def __init__(self, peer: TCPPeer) -> None:
        self._peer = peer
        self.activity: ActivityTracker | None = None
        self.accounts: Accounts | None = None
        self._directory: Path | None = None
        self._server: asyncio.Server | None = None
        self._address: SocketAddress | None = None
        self._unauthenticated = 0
        self._connections: dict[asyncio.Task[None], ControlConnection] = {}
        self._closing = False
        self._connection_ended = asyncio.Event()  # a connection ended
        self._started_at = asyncio.get_running_loop().time()

    async def start(self) -> ControlServer:
        """Answer from now on; what stands in the way is a warning on stderr, for the chat works without."""
        directory = self._peer.data
        if directory is None:
            return self
        self._directory = directory
        remove_files(directory)
        try:
            await self._listen(directory)
        except OSError as error:
            remove_files(directory)
            print_error(f"warning: commands like `p2pchat send` cannot reach this peer: {error.strerror or error}")
        return self

    async def _listen(self, directory: Path) -> None:
        if sys.platform != "win32" and socket_path_fits(directory):
            with suppress(OSError):  # a file system without sockets, most likely
                made = bind_socket(directory)
                try:
                    self._server = await asyncio.start_unix_server(self.on_connection, sock=made, limit=_BUFFER_BYTES)
                    return
                except BaseException:  # cancelled as well: nothing of it stays open
                    made.close()
                    raise
        self._server = await asyncio.start_server(self._on_tcp_connection, LOOPBACK, 0, limit=_BUFFER_BYTES)
        self._address = SocketAddress(self._server.sockets[0].getsockname()[1])
        write_address(directory, self._address)

    async def shut_down(self, reason: str) -> None:
        """Let nobody in any more, close the peer, and tell those who are connected that and why."""
        self._stop_listening()
        try:
            await self._peer.aclose(reason)
        finally:
            await self._end_connections(reason)

    def _stop_listening(self) -> None:
        self._closing = True
        if self._server is not None:
            self._server.close()
            self._server = None
        if self._directory is not None:
            remove_files(self._directory)
            self._directory = None

    async def _end_connections(self, reason: str) -> None:
        """Tell each what is left to tell; who does not take it in time is cut off."""
        connections = dict(self._connections)
        await asyncio.gather(*(one.end(reason) for one in connections.values()))
        if connections:
            _, late = await asyncio.wait(connections, timeout=CLOSE_TIMEOUT)
            for task in late:
                task.cancel()
            await asyncio.gather(*connections, return_exceptions=True)

    async def wait_for_commands(self) -> None:
        """Let nobody in any more, and wait a while for commands that came to this peer; not for those who follow."""
        self._stop_listening()
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER_TIMEOUT):
                while any(not one.follows for one in self._connections.values()):
                    self._connection_ended.clear()
                    await self._connection_ended.wait()

    # Who comes

    async def connect(self) -> ControlClient:
        """Return a connection from within this process."""
        ours, theirs = socket.socketpair()
        self.on_connection(*await asyncio.open_connection(sock=theirs, limit=_BUFFER_BYTES))
        return await ControlClient(*await asyncio.open_connection(sock=ours, limit=_BUFFER_BYTES)).start()

    def on_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a connection of this login."""
        if self._closing or not _is_same_login(writer):
            writer.close()
        elif len(self._connections) >= MAX_CONNECTIONS:
            text = f"{MAX_CONNECTIONS} commands are connected to this peer: end one first"
            writer.write(encode({"event": "error", "code": BUSY, "text": text, "about": "", "ref": None}))
            writer.close()
        else:
            fresh = asyncio.get_running_loop().time() < self._started_at + NAME_GRACE
            connection = ControlConnection(
                self._peer, reader, writer, fresh=fresh, activity=self.activity, accounts=self.accounts
            )
            task = asyncio.create_task(connection.serve())
            self._connections[task] = connection
            task.add_done_callback(self._on_connection_ended)

    def _on_connection_ended(self, task: asyncio.Task[None]) -> None:
        del self._connections[task]
        self._connection_ended.set()

    async def _on_tcp_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a connection on loopback once it has said the token; every other one is closed without a word."""
        door = self._address
        if door is None or self._unauthenticated >= MAX_UNAUTHENTICATED:
            writer.close()
            return
        self._unauthenticated += 1
        try:
            said = await _read_token(reader)
        finally:
            self._unauthenticated -= 1
        if not door.is_token(said):
            writer.close()
            return
        writer.write(encode({"answer": door.answer}))
        self.on_connection(reader, writer)


_BUFFER_BYTES = 64 * 1024  # read ahead of a connection, which is asked for no more than that at once


async def _read_token(reader: asyncio.StreamReader) -> object:
    """Return the token a stranger says in its first line; None for anything else."""
    try:
        async with asyncio.timeout(TOKEN_TIMEOUT):
            line = await reader.readuntil(b"\n")
        found = json.loads(line) if len(line) <= MAX_TOKEN_BYTES else None
    except (TimeoutError, OSError, EOFError, ValueError, RecursionError, asyncio.LimitOverrunError):
        return None
    return found.get("token") if isinstance(found, dict) else None


def _is_same_login(writer: asyncio.StreamWriter) -> bool:
    """Whether the other end of a Unix socket is this login's or root's, where the system tells; the modes of socket
    and directory keep others out, and this holds also where somebody has widened them."""
    connection = writer.get_extra_info("socket")
    if sys.platform != "linux" or connection is None or connection.family != socket.AF_UNIX:
        return True
    size = struct.calcsize("3i")
    _, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return uid in (os.geteuid(), 0)


# ---- connection
#
# One connection of the control socket: command objects come in, event lines go out, as on a chat's --json.
#
# Its orders are carried out one after the other, by a Session of its own, so that where its texts go is nobody else's
# business; a tail goes on beside them. A client that does not read costs a bounded buffer: nothing more is made for it
# until it reads. The end of what it says ends the connection, once what was asked for before is answered.


READ_BYTES = 64 * 1024
MAX_QUEUED_BATCHES = 4  # reads not carried out yet: a fast client waits
FINISH_TIMEOUT = 60.0  # seconds to finish in what was asked by a client that says no more, and may be gone
CLOSE_TIMEOUT = 1.0  # seconds in which a client may take the last lines of a peer that stops

_log = logging.getLogger("p2pchat.control")


class ControlOutput(StdoutWriter):
    """Lines onto a connection; `write` returns when the client has taken all but a buffer's worth."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        super().__init__(None)
        self._writer = writer

    async def write(self, text: str) -> None:
        if self.closed.is_set():
            return
        async with self._turn:
            try:
                self._writer.write((text + "\n").encode("utf-8", "backslashreplace"))
                await self._writer.drain()
            except OSError:
                self.closed.set()


class ControlConnection:
    """One client of a running peer.

    Args:
        fresh: The peer has only just started: names it does not know are waited for a moment.
        activity: Whether somebody looks at the chat it comes in beside; None where there is none.
        accounts: Of the gateway that runs here; None where none does.
    Attributes:
        follows: It has a tail, which ends with the peer.
    """

    def __init__(
        self, peer: TCPPeer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, fresh: bool,
        activity: ActivityTracker | None = None, accounts: Accounts | None = None,
    ) -> None:  # fmt: skip
        self._peer = peer
        self._accounts = accounts
        self._reader = reader
        self._writer = writer
        self._output = ControlOutput(writer)
        self._display = Display(self._output, None, as_json=True, echo=True)
        self._display.me = peer.me.label
        self._session = Session(peer, self._display, interactive=False, as_json=True, activity=activity)
        if not fresh:
            self._session.stop_waiting_for_names()
        self._batches: asyncio.Queue[list[bytes | None]] = asyncio.Queue(MAX_QUEUED_BATCHES)
        self._tail: asyncio.Task[None] | None = None
        self.follows = False

    async def serve(self) -> None:
        """Carry out what the client asks for, until it says no more or goes away."""
        reading: asyncio.Task[None] | None = None
        try:
            async with asyncio.timeout(None) as limit:
                reading = asyncio.create_task(self._read(limit))
                await self._display.show_event(self._peer.listening.to_json())
                while batch := await self._batches.get():
                    if not await self._handle_lines(batch):
                        break
        except TimeoutError:  # it said no more long ago
            self._writer.transport.abort()
        except Exception:  # a defect ends this command, not the chat it came in beside
            _log.exception("a command ended with an error that is not its own")
        finally:
            if reading is not None:
                reading.cancel()
            await self._close()

    async def _read(self, limit: asyncio.Timeout) -> None:
        """Read batches of lines into the queue; an empty one is the end."""
        lines = LineBuffer(MAX_LINE_BYTES)
        try:
            while chunk := await self._reader.read(READ_BYTES):
                if batch := lines.feed(chunk):
                    await self._batches.put(batch)
        except OSError:
            pass
        if batch := lines.end():
            await self._batches.put(batch)
        limit.reschedule(asyncio.get_running_loop().time() + FINISH_TIMEOUT)
        await self._batches.put([])

    async def _close(self) -> None:
        if self._tail is not None:
            self._tail.cancel()
            await asyncio.gather(self._tail, return_exceptions=True)
        self._output.closed.set()
        self._display.close()
        self._writer.close()

    async def end(self, reason: str) -> None:
        """The peer has stopped: tell the client what is left to tell, and that."""
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT):
                if self._tail is not None:
                    await asyncio.wait([self._tail])
                await self._display.show_event(Stopped(reason=reason).to_json())
        except TimeoutError:  # it does not read
            self._writer.transport.abort()
        self._writer.close()

    # Orders

    async def _handle_lines(self, lines: Sequence[bytes | None]) -> bool:
        """Carry out some lines in their order; False when one of them said to leave."""
        for_session: list[bytes | None] = []
        for line in lines:
            if line is not None and not line.strip():
                continue
            try:
                order = None if line is None else parse_request(line)
            except UsageError as error:
                if not await self._session.execute(for_session):
                    return False
                for_session.clear()
                await self._session.report_error(error, getattr(error, "ref", None))
                continue
            if order is None:
                for_session.append(line and line.strip())
                continue
            if not await self._session.execute(for_session):
                return False
            for_session.clear()
            await self._handle_request(order)
        return await self._session.execute(for_session)

    async def _handle_request(self, order: JsonCommand) -> None:
        try:
            if order.do == "find":
                await self._find(order.fields["to"], order.ref)
            elif order.do == "wait":
                seconds, what = (
                    float(order.fields.get("timeout", DEFAULT_TIMEOUT)),
                    order.fields.get("what", "delivered"),
                )
                await self._wait(seconds, what == "read", order.ref)
            elif order.do == "tail":
                await self._start_tail(order)
            elif order.do == "export":
                await self._export(order.fields["path"], order.fields.get("to"), order.ref)
            elif order.do in ACCOUNT_REQUESTS:
                await self._handle_account_request(order)
            else:
                await self._answer("import", asdict(await self._peer.import_from(order.fields["path"])), order.ref)
        except (P2PChatError, UsageError, ValueError) as error:
            await self._session.report_error(error, order.ref)

    async def _answer(self, do: str, row: EventLine, ref: str | None) -> None:
        await self._display.show_answer(do, [row], [], ref)

    async def _find(self, address: str, ref: str | None) -> None:
        found = await self._session.resolve(address)
        row = {"conversation": found.name, "conversation_id": found.id, "kind": found.kind}
        await self._answer("find", row, ref)

    async def _wait(self, seconds: float, read: bool, ref: str | None) -> None:
        missing = await self._session.drain(seconds, read=read)
        delivered = not self._session.has_undelivered() and (read or not missing)
        status = "read" if read and delivered and not missing else "delivered" if delivered else "accepted"
        row = {"status": status, "missing": [label for label in missing if label]}
        await self._answer("wait", row, ref)

    async def _export(self, path: str, address: str | None, ref: str | None) -> None:
        to = None if address is None else await self._session.resolve(address)
        await self._answer("export", asdict(await self._peer.export(path, to)), ref)

    async def _handle_account_request(self, order: JsonCommand) -> None:
        if self._accounts is None:  # a chat runs here now, and a gateway does at other times
            from p2pchat.web.accounts import open_accounts

            self._accounts = await open_accounts(self._peer)
        rows = await ACCOUNT_REQUESTS[order.do](self._accounts, order.fields.get("name", ""))
        await self._display.show_answer(order.do, rows, [], order.ref)

    # Following

    async def _start_tail(self, order: JsonCommand) -> None:
        if self.follows:
            raise UsageError("this connection has a tail already: open another one")
        to = await self._session.resolve(order.fields["to"]) if "to" in order.fields else None
        self.follows = True
        self._tail = asyncio.create_task(self._run_tail(to, order))
        self._tail.add_done_callback(_raise_bug)

    async def _run_tail(self, to: Conversation | None, order: JsonCommand) -> None:
        last, ignored, ref = order.fields.get("last", DEFAULT_LAST), order.fields.get("ignored", True), order.ref
        try:
            # The events first: what comes meanwhile is not missed.
            async with self._peer.events(consumer=None, ignored=ignored) as events:
                posts = await self._newest(to, last, ignored)
                shown = {post.id for post in posts}
                for post in posts:
                    await self._display.show_event(post.to_json())
                await self._answer("tail", {"last": len(posts)}, ref)
                async for event in events:
                    if isinstance(event, Stopped) or (isinstance(event, (Message, Sent)) and event.id in shown):
                        continue
                    line = event.to_json()
                    if self._session.is_disabled(line):
                        continue
                    if to is None or line.get("conversation_id") == to.id:
                        await self._display.show_event(line)
        except P2PChatError as error:
            await self._session.report_error(error, ref)

    async def _newest(self, to: Conversation | None, most: int, ignored: bool) -> list[Message | Sent]:
        """Return the newest messages, oldest first; with `ignored` also of those who are."""
        found: list[Message | Sent] = []
        before: Message | Sent | None = None
        while len(found) < most:
            asked = most - len(found)
            page = await self._peer.history(to, before=before, limit=asked)
            found = [*(post for post in page if ignored or not post.sender.ignored), *found]
            if len(page) < asked:
                break
            before = page[0]
        return found


def _raise_bug(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("a tail ended with an error that is not its own", exc_info=error)


# ---- orders
#
# What can be asked over the control socket beside the command objects of --json: find, wait, tail, export, import.
#
#     {"do":"find","to":"bob"}               an `answer` with the conversation an address names, or an `error`
#     {"do":"wait","timeout":5}              an `answer` when all sent over this connection is delivered, or then.
#                                            With "what":"read" when it is read
#     {"do":"tail","to":"bob","last":10}     the newest `last`, an `answer`, and from then on every event; once. With
#                                            "ignored":false nothing of users who are ignored
#     {"do":"export","path":"/media/stick/chat","to":"bob"}      an `answer` when that file is written
#     {"do":"import","path":"/media/stick/chat"}                 an `answer` with what became of its entries
#
# The last two name files, which is why a chat's input does not have them: what is piped into it may come from anywhere.
#
# Here they are only read; control_server.py does them. As with all command objects `ref` comes back, and an unknown
# field is refused.


MAX_TIMEOUT = 86_400.0  # seconds; who has to wait longer asks again
MAX_LAST = 10_000  # messages of one answer, as of a history
DEFAULT_LAST = 10  # messages, as tail(1) has lines
DEFAULT_TIMEOUT = 5.0  # seconds for deliveries, as a chat waits at the end of its input
_NUMBER = (int, float)
_TYPE_NAMES: dict[tuple[type, ...], str] = {(str,): "a string", (bool,): "true or false"}
_REQUIRED = {"find": "to", "export": "path", "import": "path", "web_token": "name", "web_revoke": "name"}

# do -> field -> the types it may have
_FIELDS: dict[str, dict[str, tuple[type, ...]]] = {
    "find": {"to": (str,)},
    "wait": {"timeout": _NUMBER, "what": (str,)},
    "tail": {"to": (str,), "last": (int,), "ignored": (bool,)},
    "export": {"path": (str,), "to": (str,)},
    "import": {"path": (str,)},
    "web_token": {"name": (str,)},
    "web_users": {},
    "web_revoke": {"name": (str,)},
}


def parse_request(line: bytes) -> JsonCommand | None:
    """Return what a line asks for when it is one of these; None for what a session understands, or refuses.

    Raises:
        BadCommand: It is one of these, and cannot be meant; or no line can be a command object that begins so.
    """
    if not line.lstrip().startswith(b"{"):
        raise BadCommand('a line here is a command object, such as {"do":"who"}')
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    do = found.pop("do", None)
    if not isinstance(do, str) or do not in _FIELDS:
        return None
    ref = found.pop("ref", None)
    if ref is not None and not isinstance(ref, str):
        raise BadCommand("`ref` is a string")
    _check(do, found, ref)
    return JsonCommand(do, found, ref)


def _check(do: str, fields: Mapping[str, Any], ref: str | None) -> None:
    shape = _FIELDS[do]
    for name, value in fields.items():
        if name not in shape:
            raise BadCommand(f"{do!r} has no field {name!a}; its fields are {', '.join((*shape, 'ref'))}", ref)
        if type(value) not in shape[name]:
            raise BadCommand(f"`{name}` is {_TYPE_NAMES.get(shape[name], 'a number')}", ref)
    if do in _REQUIRED and _REQUIRED[do] not in fields:
        raise BadCommand(f"{do!r} needs `{_REQUIRED[do]}`", ref)
    if not 0 <= fields.get("timeout", 0) <= MAX_TIMEOUT:  # nan fails too
        raise BadCommand(f"`timeout` is seconds, 0 to {MAX_TIMEOUT:g}", ref)
    if fields.get("what", "read") not in ("delivered", "read"):
        raise BadCommand("`what` is delivered or read", ref)
    if not 0 <= fields.get("last", 0) <= MAX_LAST:
        raise BadCommand(f"`last` is 0 to {MAX_LAST}", ref)


# ---- accounts
#
# Orders about the accounts of a gateway, carried out beside it or without it: the same words, the same answers.


async def _token(accounts: Accounts, name: str) -> list[EventLine]:
    account, token = await accounts.new_token(name)
    return [{**_row(account), "token": token}]


async def _users(accounts: Accounts, name: str) -> list[EventLine]:
    return [_row(account) for account in accounts.list()]


async def _revoke(accounts: Accounts, name: str) -> list[EventLine]:
    account = await accounts.revoke(name)
    return [] if account is None else [_row(account)]


def _row(account: Account) -> EventLine:
    return {"user": account.name, "user_id": account.id, "state": account.state, "sessions": account.sessions}


ACCOUNT_REQUESTS: dict[str, Callable[[Accounts, str], Awaitable[list[EventLine]]]] = {
    "web_token": _token,
    "web_users": _users,
    "web_revoke": _revoke,
}
