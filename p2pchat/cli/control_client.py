"""The other end: a command that talks to a running peer through its control socket.

One task reads all that comes. What answers a question goes to whoever asked it; the rest are event lines in their
order, of which only so many wait to be taken: a command that is slow makes the peer wait, and nothing is lost.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from p2pchat.cli.control_socket import BUSY, SOCKET_NAME, LineBuffer, SocketAddress, encode, read_address
from p2pchat.cli.loop import make_runner
from p2pchat.commands.errors import FAILED, NO_SUCH_NAME, USAGE, CommandError, UsageError
from p2pchat.commands.output import EventLine
from p2pchat.commands.settings import LastStart

if TYPE_CHECKING:
    from p2pchat import DataLocked


CONNECT_TIMEOUT = 5.0  # seconds: a peer that is there answers at once, unless it hangs
BUSY_RETRY_AFTER = 0.1  # seconds until a peer that had too many commands is asked again
READ_BYTES = 64 * 1024
MAX_QUEUED_LINES = 100  # event lines read and not taken
MAX_LINE_BYTES = 1 << 30  # an answer may have ten thousand messages; the peer is our own

_CODES = {"usage": USAGE, "too_long": USAGE, "invite_error": USAGE}
_CODES |= {"unknown_name": NO_SUCH_NAME, "ambiguous_name": NO_SUCH_NAME}


class RequestRefused(CommandError):
    """The peer answered with an error. `code` is the exit code that fits; `is_busy`: it has too many commands now."""

    def __init__(self, line: EventLine) -> None:
        super().__init__(str(line.get("text", "the peer refused this")))
        self.code = exit_code(line)
        self.is_busy = line.get("code") == BUSY


class PeerGone(CommandError):
    """The connection ended. `reason` is the peer's, "" when it did not say goodbye."""

    def __init__(self, reason: str) -> None:
        why = f"stopped ({reason})" if reason else "is gone: it was killed, or ended the connection"
        super().__init__(f"the peer {why}")
        self.reason = reason


def exit_code(error: EventLine) -> int:
    """Return the exit code for an error line."""
    return _CODES.get(str(error.get("code")), FAILED)


class ControlClient:
    """A connection to a running peer. Make one with `connect_or_run` or `connect`.

    Attributes:
        listening: The peer's first line: who and where it is.
        is_own: The command runs the peer itself.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._lines: asyncio.Queue[EventLine | None] = asyncio.Queue(MAX_QUEUED_LINES)
        self._asked: dict[str, asyncio.Future[EventLine]] = {}
        self._refs = itertools.count(1)
        self._reason = ""
        self._ended = False
        self.listening: EventLine = {}
        self.is_own = False

    async def start(self) -> ControlClient:
        """Read who answers.

        Raises:
            Failure: Nobody does in time, or with an error. Whatever it raises, the connection is closed.
        """
        self._reading = asyncio.create_task(self._read())
        try:
            self.listening = await self._read_greeting()
        except BaseException:  # cancelled as well: nothing of it stays open
            await self.aclose()
            raise
        return self

    async def _read_greeting(self) -> EventLine:
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                first = await self.next_line()
        except TimeoutError:
            raise CommandError("a peer is there and does not answer: it hangs, or its machine is very busy") from None
        if first is None:
            raise PeerGone("")
        if first.get("event") != "listening":
            raise RequestRefused(first)
        return first

    # What a command does with it

    async def say(self, **order: Any) -> None:
        """Send one command object; returns when there is room for more.

        Raises:
            PeerGone: The connection ended.
        """
        try:
            self._writer.write(encode(order))
            await self._writer.drain()
        except OSError:
            await self._raise_peer_gone()

    async def ask(self, do: str, **fields: Any) -> list[EventLine]:
        """Send a command object and return the rows of its answer.

        Raises:
            Refused: It was answered with an error. PeerGone: The connection ended before.
        """
        if self._ended:
            raise PeerGone(self._reason)
        ref = f"a{next(self._refs)}"
        self._asked[ref] = answer = asyncio.get_running_loop().create_future()
        await self.say(do=do, ref=ref, **fields)
        line = await answer
        if line["event"] == "error":
            raise RequestRefused(line)
        rows: list[EventLine] = line["rows"]
        return rows

    async def next_line(self) -> EventLine | None:
        """Return the next event line that is no answer; None at the end, again and again."""
        if self._ended and self._lines.empty():
            return None
        return await self._lines.get()

    @property
    def reason(self) -> str:
        """Why the peer stopped; "" while it has not said so."""
        return self._reason

    async def aclose(self) -> None:
        """Let it go."""
        self._reading.cancel()
        self._writer.close()
        await asyncio.gather(self._reading, return_exceptions=True)
        try:
            await self._writer.wait_closed()
        except OSError:
            pass

    # What comes

    async def _read(self) -> None:
        lines = LineBuffer(MAX_LINE_BYTES)
        try:
            while chunk := await self._reader.read(READ_BYTES):
                for raw in lines.feed(chunk):
                    if raw is not None:
                        await self._dispatch(raw)
        except (OSError, ValueError, RecursionError):
            pass  # what is no event line comes from no peer
        finally:
            self._ended = True
            for answer in self._asked.values():
                if not answer.done():
                    answer.set_exception(PeerGone(self._reason))
                    answer.exception()  # whoever asked may have gone before
        await self._lines.put(None)

    async def _dispatch(self, raw: bytes) -> None:
        line = json.loads(raw)
        if not isinstance(line, dict):
            raise ValueError("no object")
        if line.get("event") == "stopped":
            self._reason = str(line.get("reason") or "stopped")
        asked = self._asked.pop(line.get("ref") or "", None) if line.get("event") in ("answer", "error") else None
        if asked is None:
            await self._lines.put(line)
        elif not asked.done():
            asked.set_result(line)

    async def _raise_peer_gone(self) -> None:
        """The other end takes nothing more: read what it said last."""
        await asyncio.wait([self._reading], timeout=CONNECT_TIMEOUT)
        raise PeerGone(self._reason) from None


async def connect(directory: Path) -> ControlClient | None:
    """Return a connection to the peer that runs in `directory` (absolute); None when none answers there.

    Of very many commands at once some wait a little.

    Raises:
        Failure: One is there and refuses, or hangs.
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


async def ask_running_peer(directory: Path, do: str, **fields: Any) -> list[EventLine] | None:
    """Send one command object to the peer that runs in `directory`; return its answer, None when none runs there.

    Raises:
        RequestRefused: It was answered with an error. CommandError: The peer does not answer.
    """
    control = await connect(directory)
    if control is None:
        return None
    try:
        return await control.ask(do, **fields)
    finally:
        await control.aclose()


async def _open(directory: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
    path = directory / SOCKET_NAME
    if sys.platform != "win32" and path.exists():
        try:
            return await asyncio.open_unix_connection(os.fspath(path), limit=READ_BYTES)
        except OSError:  # of a peer that was killed; also one that just ends
            pass
    door = read_address(directory)
    if door is None:
        return None
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            return await _authenticate(door)
    except (OSError, EOFError, ValueError, RecursionError, asyncio.LimitOverrunError):
        return None


async def _authenticate(door: SocketAddress) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
    """Connect to whoever waits there; None, and closed, when it is somebody else than the peer."""
    reader, writer = await asyncio.open_connection(door.host, door.port, limit=READ_BYTES)
    known = False
    try:
        writer.write(encode({"token": door.token}))
        answer = json.loads(await reader.readuntil(b"\n"))
        known = isinstance(answer, dict) and door.is_answer(answer.get("answer"))
    finally:
        if not known:
            writer.close()
    return (reader, writer) if known else None


# ---- reach
#
# Which peer does what a command asks for: the one that runs, or one that the command runs itself meanwhile.
#
# The command talks to both in the same way. Of several commands at once without a running peer, one runs it, and the
# others find it there.


START_TIMEOUT = 5.0  # seconds for a peer that starts to answer, and for one that stops to let go
HELD_RETRY_AFTER = 0.1  # seconds between two looks at a profile that is held
MEET_TIMEOUT = 2.0  # seconds for the first of those known here to be met, before something is said to the room


@asynccontextmanager
async def connect_or_run(directory: Path, *, port: int = -1, db: str = "") -> AsyncIterator[ControlClient]:
    """Connect to the peer of a profile, running it here when it does not run.

    Args:
        directory: The profile's.
        port: Where a peer run here listens; below 0: on the port its directory is named after, else on any.
        db: Its database, when that is elsewhere; for a peer run here.
    Raises:
        Usage: There is no profile.
        Failure: Another process holds it and does not answer, or the peer cannot run.
    """
    directory = directory.expanduser().absolute()
    deadline = asyncio.get_running_loop().time() + START_TIMEOUT
    while True:
        control = await connect(directory)
        if control is not None:
            try:
                yield control
            finally:
                await control.aclose()
            return
        runs = _CommandPeer(directory, port, db)
        if await runs.start():
            break
        if asyncio.get_running_loop().time() > deadline:
            raise runs.held
        await asyncio.sleep(HELD_RETRY_AFTER)
    try:
        yield await runs.control()
    except BaseException:  # whatever ends the command ends the peer it runs
        await runs.stop()
        raise
    await runs.wait_for_others()
    await runs.stop()


def profile_in_use(directory: Path, locked: DataLocked) -> CommandError:
    """Return the error of a profile in the hands of a process that no command can ask: an old one, or a program."""
    who = f"process {locked.pid}" if locked.pid else "another process"
    return CommandError(f"{directory} is in use by {who}, which answers no commands: stop it, or use it itself")


class _CommandPeer:
    """A peer that lives as long as a command."""

    def __init__(self, directory: Path, port: int, db: str) -> None:
        self._directory = directory
        named = int(directory.name) if directory.name.isascii() and directory.name.isdecimal() else 0
        self._port = port if port >= 0 else named if named <= 65535 else 0
        self._db = db
        self._control: ControlClient | None = None
        self.held = CommandError("")

    async def start(self) -> bool:
        """Start it; False when another process holds the profile, which `held` says then."""
        from p2pchat import DataLocked, inspect_profile
        from p2pchat.commands.settings import ChatSettings

        found = inspect_profile(self._directory)
        if not found.peer_id and not found.key_trouble:
            raise UsageError(f"there is no profile in {self._directory}: start a peer first, for example p2pchat 8080")
        last = ChatSettings.load(self._directory).last_start
        try:
            await self._start_peer_with_fallback(last)
        except DataLocked as locked:
            self.held = profile_in_use(self._directory, locked)
            return False
        return True

    async def _start_peer_with_fallback(self, last: LastStart) -> None:
        """Listen where others look for it; where that cannot be, anywhere: those it knows, it can still call."""
        from p2pchat import DataLocked, P2PChatError, PortInUse

        try:
            await self._start_peer(self._port, last)
        except PortInUse:
            await self._start_peer(0, last)
        except DataLocked:
            raise
        except P2PChatError:  # an address this machine has no more, most likely
            if last == LastStart():
                raise
            await self._start_peer_with_fallback(LastStart())

    async def _start_peer(self, port: int, how: LastStart) -> None:
        from p2pchat import Settings, TCPPeer
        from p2pchat.cli.control_server import ControlServer

        self._peer = TCPPeer(
            port,
            host=how.host,
            data=self._directory,
            db=self._db or None,
            advertise=how.advertise or None,
            discover=how.discover,
            settings=Settings(start_timeout=0.0),
        )
        await self._peer.start()
        self._server = await ControlServer(self._peer).start()

    async def control(self) -> ControlClient:
        """Return a connection to it, when somebody is met or nobody seems to be there."""
        await self._wait_for_first_user()
        self._control = await self._server.connect()
        self._control.is_own = True
        return self._control

    async def _wait_for_first_user(self) -> None:
        """Wait for somebody to be here, when anybody is known: the room is for those who are."""
        from p2pchat import Joined

        if all(user.is_me for user in self._peer.users()):
            return
        async with self._peer.events(Joined, consumer=None) as joined:
            if any(user.status in ("online", "idle") for user in self._peer.users() if not user.is_me):
                return
            try:
                await asyncio.wait_for(anext(joined), MEET_TIMEOUT)
            except (TimeoutError, StopAsyncIteration):
                pass

    async def wait_for_others(self) -> None:
        """Wait a while for other commands that found it here."""
        if self._control is not None:
            await self._control.aclose()
        await self._server.wait_for_commands()

    async def stop(self) -> None:
        """Stop it in good order."""
        if self._control is not None:
            await self._control.aclose()
        await self._server.shut_down("the command that ran it has ended")


# ---- signals
#
# Commands that end in good order on SIGTERM and SIGHUP as they do on Ctrl-C: a peer they run may have to be closed.


_SIGNALS = tuple(number for name in ("SIGTERM", "SIGHUP", "SIGBREAK") if (number := getattr(signal, name, None)))


def run_until_signal(main: Coroutine[Any, Any, int], *, terminated: Callable[[], int]) -> int:
    """Run a command; return its exit code, or what `terminated` says when a signal ended it before.

    Raises:
        KeyboardInterrupt: Ctrl-C.
    """
    before: dict[int, Any] = {}
    came = False

    async def watched() -> int:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None

        def stop(number: int, frame: FrameType | None) -> None:
            nonlocal came
            came = True
            loop.call_soon_threadsafe(task.cancel)

        for number in _SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup means it
                before[number] = signal.signal(number, stop)
        try:
            return await main
        except asyncio.CancelledError:
            if not came:
                raise
            return terminated()

    try:
        with make_runner() as runner:
            return runner.run(watched())
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
