"""The other end: a command that talks to a running peer through its control socket.

One task reads all that comes. What answers a question goes to whoever asked it; the rest are event lines in their
order, of which only so many wait to be taken: a command that is slow makes the peer wait, and nothing is lost.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import sys
from pathlib import Path
from typing import Any

from p2pchat.apps.cli.control.lines import LineBuffer, encode
from p2pchat.cli.control_socket import BUSY, SOCKET_NAME, Door, read_door
from p2pchat.commands.errors import FAILED, NO_SUCH_NAME, USAGE, Failure
from p2pchat.commands.output import Line

CONNECT_WITHIN = 5.0  # seconds: a peer that is there answers at once, unless it hangs
BUSY_AGAIN = 0.1  # seconds until a peer that had too many commands is asked again
READ_BYTES = 64 * 1024
WAITING_LINES = 100  # event lines read and not taken
MAX_LINE_BYTES = 1 << 30  # an answer may have ten thousand messages; the peer is our own

_CODES = {"usage": USAGE, "too_long": USAGE, "invite_error": USAGE}
_CODES |= {"unknown_name": NO_SUCH_NAME, "ambiguous_name": NO_SUCH_NAME}


class Refused(Failure):
    """The peer answered with an error. `code` is the exit code that fits; `is_busy`: it has too many commands now."""

    def __init__(self, line: Line) -> None:
        super().__init__(str(line.get("text", "the peer refused this")))
        self.code = exit_code(line)
        self.is_busy = line.get("code") == BUSY


class PeerGone(Failure):
    """The connection ended. `reason` is the peer's, "" when it did not say goodbye."""

    def __init__(self, reason: str) -> None:
        why = f"stopped ({reason})" if reason else "is gone: it was killed, or ended the connection"
        super().__init__(f"the peer {why}")
        self.reason = reason


def exit_code(error: Line) -> int:
    """Return the exit code for an error line."""
    return _CODES.get(str(error.get("code")), FAILED)


class Control:
    """A connection to a running peer. Make one with `reach` or `connect`.

    Attributes:
        listening: The peer's first line: who and where it is.
        is_own: The command runs the peer itself.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._lines: asyncio.Queue[Line | None] = asyncio.Queue(WAITING_LINES)
        self._asked: dict[str, asyncio.Future[Line]] = {}
        self._refs = itertools.count(1)
        self._reason = ""
        self._ended = False
        self.listening: Line = {}
        self.is_own = False

    async def begin(self) -> Control:
        """Read who answers.

        Raises:
            Failure: Nobody does in time, or with an error. Whatever it raises, the connection is closed.
        """
        self._reading = asyncio.create_task(self._read())
        try:
            self.listening = await self._greeting()
        except BaseException:  # cancelled as well: nothing of it stays open
            await self.aclose()
            raise
        return self

    async def _greeting(self) -> Line:
        try:
            async with asyncio.timeout(CONNECT_WITHIN):
                first = await self.next_line()
        except TimeoutError:
            raise Failure("a peer is there and does not answer: it hangs, or its machine is very busy") from None
        if first is None:
            raise PeerGone("")
        if first.get("event") != "listening":
            raise Refused(first)
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
            await self._gone()

    async def ask(self, do: str, **fields: Any) -> list[Line]:
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
            raise Refused(line)
        rows: list[Line] = line["rows"]
        return rows

    async def next_line(self) -> Line | None:
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
                        await self._sort(raw)
        except (OSError, ValueError, RecursionError):
            pass  # what is no event line comes from no peer
        finally:
            self._ended = True
            for answer in self._asked.values():
                if not answer.done():
                    answer.set_exception(PeerGone(self._reason))
                    answer.exception()  # whoever asked may have gone before
        await self._lines.put(None)

    async def _sort(self, raw: bytes) -> None:
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

    async def _gone(self) -> None:
        """The other end takes nothing more: read what it said last."""
        await asyncio.wait([self._reading], timeout=CONNECT_WITHIN)
        raise PeerGone(self._reason) from None


async def connect(directory: Path) -> Control | None:
    """Return a connection to the peer that runs in `directory` (absolute); None when none answers there.

    Of very many commands at once some wait a little.

    Raises:
        Failure: One is there and refuses, or hangs.
    """
    deadline = asyncio.get_running_loop().time() + CONNECT_WITHIN
    while True:
        streams = await _open(directory)
        try:
            return None if streams is None else await Control(*streams).begin()
        except Refused as refused:
            if not refused.is_busy or asyncio.get_running_loop().time() > deadline:
                raise
        await asyncio.sleep(BUSY_AGAIN)


async def _open(directory: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
    path = directory / SOCKET_NAME
    if sys.platform != "win32" and path.exists():
        try:
            return await asyncio.open_unix_connection(os.fspath(path), limit=READ_BYTES)
        except OSError:  # of a peer that was killed; also one that just ends
            pass
    door = read_door(directory)
    if door is None:
        return None
    try:
        async with asyncio.timeout(CONNECT_WITHIN):
            return await _enter(door)
    except (OSError, EOFError, ValueError, RecursionError, asyncio.LimitOverrunError):
        return None


async def _enter(door: Door) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
    """Connect to whoever waits there; None, and closed, when it is somebody else than the peer."""
    reader, writer = await asyncio.open_connection(door.host, door.port, limit=READ_BYTES)
    known = False
    try:
        writer.write(encode({"token": door.token}))
        answer = json.loads(await reader.readuntil(b"\n"))
        known = isinstance(answer, dict) and door.same_answer(answer.get("answer"))
    finally:
        if not known:
            writer.close()
    return (reader, writer) if known else None
