"""Server of the control socket, through which commands of the same login use a running peer.

The files in the profile's directory are created after the peer has locked the profile, and removed before it unlocks
it. Any other file with such a name is stale.

On a connection command objects come in and event lines go out, as on a chat's --json. Each connection has a Session of
its own, and its requests are carried out one after the other, while a tail continues. A client that does not read gets
a bounded buffer: nothing more is produced for it until it reads. When a client ends its output, the connection ends
after its requests are answered.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import struct
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict
from heapq import merge
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

from p2pchat import Conversation, Message, P2PChatError, Sent, Stopped, TCPPeer
from p2pchat.cli.agent_messages import hook_answer
from p2pchat.cli.control_protocol import (
    BUSY,
    DEFAULT_LAST,
    DEFAULT_TIMEOUT,
    FILE_NAME,
    LOOPBACK,
    MAX_LAST,
    MAX_TIMEOUT,
    READ_BYTES,
    SOCKET_NAME,
    SocketAddress,
    encode,
)
from p2pchat.commands.activity_tracker import ActivityTracker
from p2pchat.commands.command_context import CommandContext
from p2pchat.commands.display import CommandResult, Display
from p2pchat.commands.event_text import EventLine, find_obstacle
from p2pchat.commands.exit_codes import CommandError, UsageError, print_error
from p2pchat.commands.file_commands import send_with_files
from p2pchat.commands.json_commands import MAX_LINE_BYTES, LineBuffer
from p2pchat.commands.message_commands import OutgoingMessage, parse_limit
from p2pchat.commands.session import Session, handlers_in
from p2pchat.commands.standard_output import StdoutWriter
from p2pchat.commands.unread_counter import mentions
from p2pchat.private_files import write_private
from p2pchat.program_log import ProgramLog
from p2pchat.threads import on_disk, stop_tasks

if TYPE_CHECKING:
    from p2pchat.web.accounts import Account, Accounts

HAS_SOCKETS = hasattr(socket, "AF_UNIX") and sys.platform != "win32"  # asyncio has none on Windows; tests force both
MAX_PATH_BYTES = 103  # sun_path holds 104 bytes on macOS and the BSDs, 108 on Linux, its NUL included
MAX_CONNECTIONS = 16
# Loopback connections that have not sent the token yet. One more ends the oldest: other users of this machine can
# connect there, and a command sends its token at once. More than twice what asyncio accepts at a time (100).
MAX_UNAUTHENTICATED = 256
TOKEN_TIMEOUT = 5.0  # seconds
MAX_TOKEN_BYTES = 1024
MENTIONS_AT_ONCE, MENTION_PAGES = 1000, 100  # messages in which a mention is looked for: 20,000 take 0.3 s
UNREAD_TEXTS = 100  # messages that are looked at for a text for a model
LINGER_TIMEOUT = 10.0  # seconds for which a peer run by a command waits for other commands that use it


class ControlServer:
    """Answers commands for a running peer. A peer without a directory has no control socket.

    Attributes:
        activity: The activity of the chat that runs here, which an /away of a command changes too; None without one.
        accounts: The accounts of the gateway that runs here; None without one.
    """

    def __init__(self, peer: TCPPeer) -> None:
        self._peer = peer
        self.activity: ActivityTracker | None = None
        self.accounts: Accounts | None = None
        self._directory: Path | None = None
        self._server: asyncio.Server | None = None
        self._address: SocketAddress | None = None
        self._unauthenticated: dict[asyncio.StreamWriter, None] = {}  # the oldest first
        self._connections: dict[asyncio.Task[None], ControlConnection] = {}
        self._closing = False
        self._connection_ended = asyncio.Event()  # a connection ended

    async def start(self) -> ControlServer:
        """Start to listen. A failure is a warning on stderr, because the chat works without commands."""
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
            with suppress(OSError):  # most likely a file system without sockets
                made = bind_socket(directory)
                try:
                    self._server = await asyncio.start_unix_server(self.on_connection, sock=made, limit=READ_BYTES)
                    return
                except BaseException:  # also when cancelled: do not leak the socket
                    made.close()
                    raise
        self._server = await asyncio.start_server(self._on_tcp_connection, LOOPBACK, 0, limit=READ_BYTES)
        self._address = SocketAddress(self._server.sockets[0].getsockname()[1])
        write_address(directory, self._address)

    async def shut_down(self, reason: str) -> None:
        """Stop listening, close the peer, and send each connection `stopped` with the reason."""
        await self._stop_listening()
        try:
            await self._peer.aclose(reason)
        finally:
            await self._end_connections(reason)

    async def _stop_listening(self) -> None:
        self._closing = True
        for writer in self._unauthenticated:
            writer.transport.abort()
        if self._server is not None:
            self._server.close()
            self._server = None
        if self._directory is not None:
            with suppress(OSError):  # a disk that does not answer does not keep the process
                await on_disk(remove_files, self._directory)
            self._directory = None

    async def _end_connections(self, reason: str) -> None:
        """Send each connection its last lines; cut off those that do not take them in time."""
        connections = dict(self._connections)
        await asyncio.gather(*(one.end(reason) for one in connections.values()))
        if connections:
            _, late = await asyncio.wait(connections, timeout=CLOSE_TIMEOUT)
            for task in late:
                task.cancel()
            await asyncio.gather(*connections, return_exceptions=True)

    async def wait_for_commands(self) -> None:
        """Stop listening, and wait a while for the commands that use this peer, except those that only follow it."""
        await self._stop_listening()
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER_TIMEOUT):
                while not all(one.only_follows for one in self._connections.values()):
                    self._connection_ended.clear()
                    await self._connection_ended.wait()

    def on_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a connection of this login."""
        if self._closing or not _is_same_login(writer):
            writer.close()
        elif len(self._connections) >= MAX_CONNECTIONS:
            text = f"{MAX_CONNECTIONS} commands are connected to this peer: end one first"
            writer.write(encode({"event": "error", "code": BUSY, "text": text, "about": "", "ref": None}))
            writer.close()
        else:
            connection = ControlConnection(self._peer, reader, writer, activity=self.activity, accounts=self.accounts)
            task = asyncio.create_task(connection.serve())
            self._connections[task] = connection
            task.add_done_callback(self._on_connection_ended)

    def _on_connection_ended(self, task: asyncio.Task[None]) -> None:
        del self._connections[task]
        self._connection_ended.set()

    async def _on_tcp_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a loopback connection after it has sent the token; close any other without an answer."""
        address = self._address
        if address is None:
            writer.close()
            return
        if len(self._unauthenticated) >= MAX_UNAUTHENTICATED:
            oldest = next(iter(self._unauthenticated))
            del self._unauthenticated[oldest]
            oldest.transport.abort()
        self._unauthenticated[writer] = None
        try:
            token = await _read_token(reader)
        finally:
            self._unauthenticated.pop(writer, None)
        if not address.is_token(token):
            writer.close()
            return
        writer.write(encode({"answer": address.answer}))
        self.on_connection(reader, writer)


async def _read_token(reader: asyncio.StreamReader) -> object:
    """Return the token in the first line of a connection; None for anything else."""
    try:
        async with asyncio.timeout(TOKEN_TIMEOUT):
            line = await reader.readuntil(b"\n")
        found = json.loads(line) if len(line) <= MAX_TOKEN_BYTES else None
    except (TimeoutError, OSError, EOFError, ValueError, RecursionError, asyncio.LimitOverrunError):
        return None
    return found.get("token") if isinstance(found, dict) else None


def _is_same_login(writer: asyncio.StreamWriter) -> bool:
    """Return whether the other end of a Unix socket is this login or root; True where the system does not say.

    The modes of socket and directory keep others out; this check holds even if the modes were widened.
    """
    connection = writer.get_extra_info("socket")
    if sys.platform != "linux" or connection is None or connection.family != socket.AF_UNIX:
        return True
    size = struct.calcsize("3i")
    _, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return uid in (os.geteuid(), 0)


# ---- connection

MAX_QUEUED_BATCHES = 4  # reads not carried out yet: a fast client waits
FINISH_TIMEOUT = 60.0  # seconds to finish the requests of a client that has ended its output, and may be gone
CLOSE_TIMEOUT = 1.0  # seconds in which a client may take the last lines of a stopping peer

_log = ProgramLog("p2pchat.control")


class ControlOutput(StdoutWriter):
    """Writes lines to a connection; `write` waits until the client has taken all but one buffer."""

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
        activity: The activity of the chat that runs here; None without one.
        accounts: The accounts of the gateway that runs here; None without one.
    """

    def __init__(
        self, peer: TCPPeer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *,
        activity: ActivityTracker | None = None, accounts: Accounts | None = None,
    ) -> None:  # fmt: skip
        self._peer = peer
        self._reader = reader
        self._writer = writer
        self._output = ControlOutput(writer)
        self._display = Display(self._output)
        self._display.me = peer.me.label
        self._session = Session(
            peer, self._display, interactive=False, as_json=True, activity=activity, door="s",
            handlers=handlers_in(self, AccountCommands(peer, accounts)),
        )  # fmt: skip
        self._session.on_bug = lambda error: _log.error("a command failed with an unexpected error", exc_info=error)
        self._session.only_json = True
        self._session.local_files = True
        self._batches: asyncio.Queue[list[bytes | None]] = asyncio.Queue(MAX_QUEUED_BATCHES)
        self._tail: asyncio.Task[None] | None = None  # ends with the peer
        self._taken = asyncio.Event()  # the message that the tail of a consumer showed last
        self._asked = 0  # lines
        self._asked_for_tail = False

    @property
    def only_follows(self) -> bool:
        """True if it asked for a tail and for nothing else."""
        return self._asked_for_tail and self._asked == 1

    async def serve(self) -> None:
        """Carry out the client's requests until it ends its output or goes away."""
        reading: asyncio.Task[None] | None = None
        try:
            async with asyncio.timeout(None) as limit:
                reading = asyncio.create_task(self._read(limit))
                await self._display.show_event(self._peer.listening.to_dict())
                while batch := await self._batches.get():
                    lines = [line and line.strip() for line in batch if line is None or line.strip()]
                    self._asked += len(lines)
                    if not await self._session.execute(lines):
                        break
                await self._session.sender.wait_sent()
                await self._session.wait()
        except TimeoutError:  # its output ended long ago
            self._writer.transport.abort()
        except Exception:  # a bug ends this command, not the chat beside it
            _log.exception("a command ended with an unexpected error")
        finally:
            if reading is not None:
                reading.cancel()
            await self._close()

    async def _read(self, limit: asyncio.Timeout) -> None:
        """Read batches of lines into the queue; an empty batch is the end."""
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
        await self._session.stop()
        if self._tail is not None:
            await stop_tasks([self._tail])
        self._output.closed.set()
        self._display.close()
        self._writer.close()

    async def end(self, reason: str) -> None:
        """Send the client its last lines and `stopped`, after the peer has stopped."""
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT):
                if self._tail is not None:
                    await asyncio.wait([self._tail])
                await self._display.show_event(Stopped(reason=reason).to_dict())
        except TimeoutError:  # it does not read
            self._writer.transport.abort()
        self._writer.close()

    # Handlers of commands that a chat does not have

    async def wait(
        self, ctx: CommandContext, timeout: float = DEFAULT_TIMEOUT, what: str = "delivered"
    ) -> CommandResult:
        if not 0 <= timeout <= MAX_TIMEOUT:  # nan fails too
            raise UsageError(f"`timeout` must be seconds from 0 to {MAX_TIMEOUT:g}")
        if what not in ("delivered", "read", "files"):
            raise UsageError("`what` must be delivered, read or files")
        sender, more = self._session.sender, what != "delivered"
        missing = await sender.drain(timeout, what)
        delivered = not sender.has_undelivered() and (more or not missing)
        status = what if more and delivered and not missing else "delivered" if delivered else "accepted"
        labels = [label for label in missing if label]
        return CommandResult([{"status": status, "missing": labels, "obstacle": find_obstacle(self._peer, labels)}])

    async def send_files(self, ctx: CommandContext, to: Conversation, text: str, paths: list[str]) -> CommandResult:
        ref = ctx.ref

        async def tell(copied: int, size: int) -> None:
            await self._display.show_event({"event": "copy_progress", "ref": ref, "copied": copied, "size": size})
            if self._output.closed.is_set():  # its user pressed Ctrl-C, or it was killed
                message.stop()

        message = OutgoingMessage(to, text, files=tuple(paths))
        receipt = await send_with_files(ctx, message, tell)
        ctx.on_accepted(to, receipt, [message.excerpt])
        return CommandResult([{"id": receipt.id}])

    async def inbox(
        self, ctx: CommandContext, to: Conversation | None = None, limit: int = MAX_LAST, changed: Sequence[str] = ()
    ) -> CommandResult:
        """List unread messages, the oldest first; without `to` direct ones and mentions before all others.

        Args:
            changed: The ids of messages that come before these, though they were read.
        """
        limit = parse_limit(limit)
        places = self._peer.recent_conversations() if to is None else [to]
        found = [await self._peer.unread(one, limit) for one in places]
        meant: list[list[Message]] = []
        if to is None:
            for posts in found:
                later = await self._mentions_after(posts[-1]) if len(posts) == limit else []
                meant.append([*filter(self._is_meant, posts), *later])
        listed: dict[str, Message | Sent] = {}
        for id in changed:
            with suppress(P2PChatError):  # it was deleted here
                message = await self._peer.message(id)
                if to in (None, message.conversation):
                    listed[id] = message
        for message in chain(_oldest_first(meant), _oldest_first(found)):
            listed.setdefault(message.id, message)
        out = find_obstacle(self._peer, ())
        if to is None and out and not listed:
            raise CommandError(out)
        return CommandResult([message.to_dict() for message in islice(listed.values(), limit)])

    async def shown(self, ctx: CommandContext, to: Conversation, ids: Sequence[str]) -> CommandResult:
        """Mark a conversation as read up to its first unread message that is not among these; list the others."""
        last, left = None, set(ids)
        unread = await self._peer.unread(to, len(ids) + 1)
        for message in unread:
            if message.id not in left:
                break
            last = message
            left.discard(message.id)
        if last is not None:
            await self._peer.mark_read_durably(last)
        return CommandResult([{"id": id} for id in left if unread])  # without any another command has marked them

    async def unread_text(self, ctx: CommandContext) -> CommandResult:
        """Return unread messages as a text for a model, and their ids by conversation; no row without any."""
        found = [await self._peer.unread(one, UNREAD_TEXTS) for one in self._peer.recent_conversations()]
        found.sort(key=lambda posts: any(map(self._is_meant, posts)), reverse=True)
        if not any(found):
            return CommandResult()
        return CommandResult([hook_answer(found)])

    def _is_meant(self, post: Message) -> bool:
        """Return whether a message is direct or mentions this user."""
        return post.conversation.kind == "dm" or mentions(post.text, self._peer.me.name, self._peer.me.id)

    async def _mentions_after(self, last: Message) -> list[Message]:
        """Return unread mentions in a conversation behind this message, among the newest 100,000 there."""
        found: list[Message] = []
        page: list[Message | Sent] = []
        for _ in range(MENTION_PAGES if last.conversation.kind != "dm" else 0):
            before = page[0] if page else None
            page = await self._peer.history(last.conversation, before=before, limit=MENTIONS_AT_ONCE, ignored=False)
            later = [post for post in page if post.place > last.place and not (post.old or post.expelled)]
            found = [*filter(self._is_meant, await self._peer.without_read(later)), *found]
            if not page or page[0].place <= last.place:
                break
        return found

    async def export(
        self, ctx: CommandContext, path: str, to: Conversation | None = None, files: bool = True
    ) -> CommandResult:
        return CommandResult([asdict(await self._peer.export(path, to, files=files))])

    async def import_(self, ctx: CommandContext, path: str, files: bool = True) -> CommandResult:
        return CommandResult([asdict(await self._peer.import_from(path, files=files))])

    async def tail(
        self, ctx: CommandContext, to: Conversation | None = None, last: int = DEFAULT_LAST, ignored: bool = True,
        consumer: str | None = None,
    ) -> None:  # fmt: skip
        """Follow what happens. A named consumer goes on where its last tail ended, and says `taken` to each message."""
        self._asked_for_tail = True
        if not 0 <= last <= MAX_LAST:
            raise UsageError(f"`last` must be from 0 to {MAX_LAST}")
        if self._tail is not None:
            raise UsageError("this connection has a tail already: open another one")
        self._tail = asyncio.create_task(self._run_tail(to, last, ignored, consumer, ctx.ref))
        self._tail.add_done_callback(_log_unexpected_error)

    async def taken(self, ctx: CommandContext) -> None:
        self._taken.set()

    async def _run_tail(
        self, to: Conversation | None, last: int, ignored: bool, consumer: str | None, ref: str | None
    ) -> None:
        try:
            # Subscribe before reading, so that no message is missed in between.
            async with self._peer.events(consumer=consumer, ignored=ignored) as events:
                posts = await self._peer.history(to, limit=last, ignored=ignored) if last else []
                shown = {post.id for post in posts}
                for post in posts:
                    await self._display.show_event(post.to_dict())
                await self._display.show_answer("tail", [{"last": len(posts)}], [], ref)
                async for event in events:
                    if isinstance(event, Stopped) or (isinstance(event, (Message, Sent)) and event.id in shown):
                        continue
                    line = event.to_dict()
                    if self._session.is_disabled(line):
                        continue
                    if to is None or line.get("conversation_id") == to.id:
                        self._taken.clear()
                        await self._display.show_event(line)
                        if consumer is not None and isinstance(event, Message):
                            await self._taken.wait()
        except P2PChatError as error:
            await self._session.report_error(error, ref)


def _oldest_first(found: list[list[Message]]) -> Iterator[Message]:
    return merge(*found, key=lambda message: message.received_at)


def _log_unexpected_error(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("a tail ended with an unexpected error", exc_info=error)


# ---- accounts of a gateway


class AccountCommands:
    """Handlers of the commands about the accounts of a gateway; the rows of an answer are those that it is about.

    Args:
        accounts: Those of the gateway that runs here; None: a chat runs here now, a gateway at other times.
    """

    def __init__(self, peer: TCPPeer, accounts: Accounts | None) -> None:
        self._peer = peer
        self._accounts = accounts

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[Accounts]:
        """Yield the accounts. Raises CommandError for what they refuse, because a name is taken for example."""
        from p2pchat.web.error_responses import WebError

        if self._accounts is None:
            from p2pchat.web.accounts import open_accounts

            self._accounts = await open_accounts(self._peer)
        try:
            yield self._accounts
        except WebError as error:
            raise CommandError(error.text) from None

    async def web_token(self, ctx: object, name: str, label: str = "") -> CommandResult:
        async with self._open() as accounts:
            found, token = await accounts.new_token(name, label)
            return CommandResult([{**_row(found), "token": token}])

    async def web_users(self, ctx: object) -> CommandResult:
        async with self._open() as accounts:
            elsewhere = [
                {"user": record.name, "user_id": id, "state": record.state, "sessions": 0,
                 "used": record.used.isoformat(), "tokens": [], "elsewhere": True}
                for record, id in accounts.elsewhere()
            ]  # fmt: skip
            return CommandResult([*map(_row, accounts.list()), *elsewhere])

    async def web_revoke(self, ctx: object, name: str, label: str = "") -> CommandResult:
        async with self._open() as accounts:
            return _result(await accounts.revoke(name, label))

    async def web_rename(self, ctx: object, name: str, new_name: str) -> CommandResult:
        async with self._open() as accounts:
            return _result(await accounts.rename(name, new_name))

    async def web_delete(self, ctx: object, name: str) -> CommandResult:
        async with self._open() as accounts:
            found = await accounts.fetch(name)
            if found is None:
                return CommandResult([])
            rows = [_row(found)]
            return CommandResult(rows if await accounts.delete(found) else [])

    async def web_purge(self, ctx: object, idle: int) -> CommandResult:
        async with self._open() as accounts:
            return CommandResult([_row(purged) for purged in await accounts.purge(idle)])


def _result(account: Account | None) -> CommandResult:
    return CommandResult([_row(account)] if account else [])


def _row(account: Account) -> EventLine:
    row = {
        "user": account.user.me.label, "user_id": account.id, "state": account.state, "sessions": account.sessions,
        "used": account.used.isoformat(),
        "tokens": [{"label": token.label, "used": token.used.isoformat()} for token in account.tokens.values()],
    }  # fmt: skip
    if account.user.me.expelled:
        row["state"] = "expelled"
    return row


# ---- the files in the directory of the profile


def socket_path_fits(directory: Path) -> bool:
    """Return whether a Unix socket can be bound in `directory` (absolute)."""
    return HAS_SOCKETS and len(os.fsencode(directory / SOCKET_NAME)) <= MAX_PATH_BYTES


def bind_socket(directory: Path) -> socket.socket:
    """Return a Unix socket bound in `directory`, which only the owner can connect to.

    Raises:
        OSError: The file system does not support or allow sockets.
    """
    if sys.platform == "win32":
        raise OSError("no Unix sockets here")
    path = directory / SOCKET_NAME
    path.unlink(missing_ok=True)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        made.bind(os.fspath(path))
        os.chmod(path, 0o600)  # in time: connecting is impossible before listen(), which the caller calls
    except BaseException:  # also when interrupted: do not leak the socket
        made.close()
        raise
    return made


def write_address(directory: Path, address: SocketAddress) -> None:
    """Write control.json.

    Raises:
        OSError: It cannot be written.
    """
    write_private(directory / FILE_NAME, f"{json.dumps(asdict(address))}\n".encode())


def remove_files(directory: Path) -> None:
    """Remove both files. The caller must have locked the profile."""
    for name in (SOCKET_NAME, FILE_NAME):
        try:
            (directory / name).unlink(missing_ok=True)
        except OSError:
            pass  # harmless: nothing listens there any more
