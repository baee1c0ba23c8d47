"""Where lines go: standard output and the log file, each line whole and flushed, and never a wait on the loop.

A reader of ours that has gone (a closed pipe) is no error: `closed` is set, and whoever runs the chat leaves. A
standard output that was closed from the start is nobody listening, and no reason to leave.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import select
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from p2pchat.commands.errors import CommandError
from p2pchat.commands.wrap import USUAL_WIDTH, fold_marked, terminal_width
from p2pchat.safe_text import safe_json

_NEVER_BLOCKS_BYTES = 4096  # POSIX: a pipe that polls writable takes PIPE_BUF bytes, on Linux 4096


EventLine = dict[str, Any]  # an event line


def json_line(event: EventLine) -> str:
    """Return an event as one line of JSON that is safe on a terminal too."""
    return safe_json(json.dumps(event, ensure_ascii=False, separators=(",", ":")))


def iso(moment: datetime) -> str:
    """Return an aware time as event lines write it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class RawStream(Protocol):
    """What is written to: unbuffered, so that a line is out when write() returned."""

    def write(self, data: bytes, /) -> int | None: ...
    def fileno(self) -> int: ...
    def isatty(self) -> bool: ...


def raw_stdout() -> RawStream | None:
    """Return standard output without a buffer, None when it is closed; on a Windows console it takes UTF-8."""
    if sys.stdout is None:
        return None
    try:
        sys.stdout.flush()
        os.fstat(sys.stdout.fileno())
    except (OSError, ValueError):
        return None
    raw: RawStream = getattr(sys.stdout.buffer, "raw", sys.stdout.buffer)
    return raw


class StdoutWriter:
    """Lines onto standard output.

    Args:
        for_people: On a terminal they are folded, so that no row of one passes for a line.
    Attributes:
        closed: Set when the reader has gone; lines are dropped from then on.
    """

    def __init__(self, raw: RawStream | None, *, for_people: bool = False) -> None:
        self._raw = raw
        self._folds = for_people and raw is not None and os.isatty(raw.fileno())
        self._turn = asyncio.Lock()
        self.closed = asyncio.Event()

    async def write(self, text: str) -> None:
        """Write one or several lines; returns when the system has them.

        Raises:
            Failure: They cannot be written, and not because the reader went away.
        """
        if self._raw is None or self.closed.is_set():
            return
        if self._folds:
            text = fold_marked(text, terminal_width(self._raw))
        await self._put(text)

    async def write_marked(self, line: Sequence[tuple[str, str]]) -> None:
        """Write one line of which some fragments have a style, which is shown on a terminal only; as write."""
        if not self._folds:
            await self.write("".join(text for _, text in line))
            return
        from p2pchat.commands.columns import as_escapes, fold_row

        await self._put("\n".join(as_escapes(row) for row in fold_row(line, terminal_width(self._raw) or USUAL_WIDTH)))

    async def _put(self, text: str) -> None:
        if self._raw is None or self.closed.is_set():
            return
        data = (text + "\n").encode("utf-8", "backslashreplace")
        async with self._turn:
            try:
                if len(data) <= _NEVER_BLOCKS_BYTES and self._ready():
                    _write_all(self._raw, data)
                else:
                    await asyncio.get_running_loop().run_in_executor(None, _write_all, self._raw, data)
            except OSError as error:
                self.closed.set()
                if error.errno not in (errno.EPIPE, errno.EINVAL, errno.ESHUTDOWN, errno.EBADF):  # EINVAL: Windows
                    raise CommandError(f"cannot write to standard output: {error.strerror or error}") from None

    def _ready(self) -> bool:
        if sys.platform == "win32" or self._raw is None:
            return False
        return bool(select.select([], [self._raw.fileno()], [], 0)[1])


def _write_all(raw: RawStream, data: bytes) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[raw.write(bytes(view)) or 0 :]
        except BlockingIOError:  # somebody made the descriptor non-blocking, as shared terminals sometimes are
            select.select([], [raw.fileno()], [])


class EventLogFile:
    """The file of --log: every event appended as it happened. What cannot be written is told once."""

    def __init__(self, path: str, trouble: Callable[[str], None]) -> None:
        """Open `path` for appending, readable by its owner only when it is made here.

        Half a line at its end, of a process that was killed in it, stays a line of its own.
        Raises:
            OSError: It cannot be opened.
        """
        self._path = path
        self._trouble = trouble
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
        self._file = open(os.open(path, flags, 0o600), "ab", buffering=0)  # noqa: SIM115
        self.failed = False
        if _has_partial_last_line(path):
            self._file.write(b"\n")

    def write(self, line: str) -> None:
        """Append one line in one write, so that several processes may share a file."""
        if self.failed:
            return
        try:
            _write_all(self._file, (line + "\n").encode("utf-8", "backslashreplace"))
        except OSError as error:
            self.failed = True
            self._trouble(f"cannot write the log {self._path}: {error.strerror}; nothing more is logged")

    def close(self) -> None:
        self._file.close()


def _has_partial_last_line(path: str) -> bool:
    """Whether the last line of a file has no end; False for what is no plain file, or may not be read."""
    try:
        if not os.path.isfile(path) or not os.path.getsize(path):
            return False
        with open(path, "rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) != b"\n"
    except OSError:
        return False
