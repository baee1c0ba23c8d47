"""Standard output: one object as a line of JSON, written whole without blocking; and the file of --log.

Each line is written whole and flushed, without blocking the loop. A closed pipe is not an error: `closed` is set, and
the chat shuts down. A standard output that was closed from the start is ignored.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import select
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Protocol, TextIO

from p2pchat.commands.event_text import EventLine
from p2pchat.commands.exit_codes import CommandError, UsageError, print_error
from p2pchat.commands.wrap import USUAL_WIDTH, MaybeTerminal, as_escapes, fold_marked, fold_row, terminal_width
from p2pchat.safe_text import safe_json
from p2pchat.threads import DISK_TIMEOUT, in_thread

STREAM = "-"  # as a file: standard input or output
_NEVER_BLOCKS_BYTES = 4096  # POSIX: a pipe that polls writable takes PIPE_BUF bytes, on Linux 4096


def json_line(event: EventLine) -> str:
    """Return an event as one line of JSON that is safe on a terminal too."""
    return safe_json(json.dumps(event, ensure_ascii=False, separators=(",", ":")))


def print_json(row: EventLine) -> None:
    """Print an event, or another row, as one line on stdout."""
    print(json_line(row), flush=True)


def check_output(path: str, what: str) -> None:
    """Raise UsageError if a file is to go to standard output, where nothing takes it. `what` is named instead of -."""
    if path == STREAM and raw_stdout() is None:
        raise UsageError(f"standard output is closed: name a {what}, or send it into a pipe or file")
    if path == STREAM and sys.stdout.isatty():
        raise UsageError(f"this would write a file onto the terminal: name a {what}, or send it into a pipe or file")


def iso(moment: datetime) -> str:
    """Return an aware time as event lines write it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def iso_or_none(moment: datetime | None) -> str | None:
    """Return an aware time as event lines write it; None for None."""
    return None if moment is None else iso(moment)


class RawStream(MaybeTerminal, Protocol):
    """An unbuffered stream: a line is out when write() returned."""

    def write(self, data: bytes, /) -> int | None: ...


def raw_stdout() -> RawStream | None:
    """Return standard output without a buffer; None if it is closed."""
    return raw_stream(sys.stdout)


def raw_stream(stream: TextIO | None) -> RawStream | None:
    """Return a standard stream without a buffer; None if it is closed. A Windows console takes UTF-8 there."""
    if stream is None:
        return None
    try:
        stream.flush()
        os.fstat(stream.fileno())
    except (OSError, ValueError):
        return None
    raw: RawStream = getattr(stream.buffer, "raw", stream.buffer)
    return raw


class StdoutWriter:
    """Writes lines to standard output, or to another standard stream.

    Args:
        for_people: Fold lines on a terminal, so that no wrapped row passes for a line.
    Attributes:
        closed: Set when the reader has gone; further lines are dropped.
    """

    def __init__(self, raw: RawStream | None, *, for_people: bool = False) -> None:
        self._raw = raw
        self._folds = for_people and raw is not None and os.isatty(raw.fileno())
        self._turn = asyncio.Lock()
        self.closed: asyncio.Event = asyncio.Event()

    @property
    def is_full(self) -> bool:
        """True while the reader is so slow that write() would wait; always False on Windows, which cannot tell."""
        return sys.platform != "win32" and self._raw is not None and not self._ready()

    async def write(self, text: str) -> None:
        """Write one or several lines; return when the system has them.

        Raises:
            CommandError: They cannot be written, for another reason than a closed pipe.
        """
        if self._raw is None or self.closed.is_set():
            return
        if self._folds:
            text = fold_marked(text, terminal_width(self._raw))
        await self._put(text)

    async def write_fragments(self, line: Sequence[tuple[str, str]]) -> None:
        """Write one line of styled fragments, like write(); styles appear on a terminal only."""
        if not self._folds:
            await self.write("".join(text for _, text in line))
            return
        await self._put("\n".join(as_escapes(row) for row in fold_row(line, terminal_width(self._raw) or USUAL_WIDTH)))

    async def _put(self, text: str) -> None:
        if self._raw is None or self.closed.is_set():
            return
        data = (text + "\n").encode("utf-8", "backslashreplace")
        async with self._turn:
            try:
                # A thread costs a turn of the loop for each line, and while others flood this peer turns are long. A
                # terminal may take less than a long line without blocking, and never says so.
                in_parts = len(data) <= _NEVER_BLOCKS_BYTES or not os.isatty(self._raw.fileno())
                while data and in_parts and self._ready():
                    part, data = data[:_NEVER_BLOCKS_BYTES], data[_NEVER_BLOCKS_BYTES:]
                    _write_all(self._raw, part)
                if data:
                    await in_thread(_write_all, self._raw, data)
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
        except BlockingIOError:  # another program made the shared terminal non-blocking
            select.select([], [raw.fileno()], [])


def open_output(path: str, flags: int = 0) -> int:
    """Open a file for writing, and return its descriptor; nobody waits for the reader of a pipe.

    Raises OSError, also if nobody reads from the pipe.
    """
    flags |= os.O_WRONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    try:
        descriptor = os.open(path, flags, 0o600)
    except OSError as error:
        if error.errno == errno.ENXIO:
            raise OSError(errno.ENXIO, "nobody reads from this pipe: start its reader first", path) from None
        raise
    if sys.platform != "win32":
        os.set_blocking(descriptor, True)
    return descriptor


class EventLogFile:
    """The file of --log: every event, as it happened. A write error is reported once.

    A thread of its own writes each line, since a disk may never answer: then no more is written.
    """

    def __init__(self, path: str) -> None:
        """Open `path` for appending; a new file is readable by its owner only.

        A partial line at its end, of a process that was killed, becomes a line of its own.
        """
        self._path = path
        try:
            self._file = open(open_output(path, os.O_CREAT | os.O_APPEND), "ab", buffering=0)  # noqa: SIM115
        except OSError as error:
            raise CommandError(f"cannot write the log {path}: {error.strerror or error}") from None
        self.failed: bool = False
        if _has_partial_last_line(path):
            self._file.write(b"\n")
        self._lines = SimpleQueue[bytes]()  # b"": the end
        self._written = SimpleQueue[OSError | None]()
        Thread(target=self._write_lines, name="p2pchat log", daemon=True).start()

    def write(self, line: str) -> None:
        """Append one line with one write, so that several processes may share the file."""
        if self.failed:
            return
        self._lines.put((line + "\n").encode("utf-8", "backslashreplace"))
        try:
            error = self._written.get(timeout=DISK_TIMEOUT)
        except Empty:
            error = OSError(errno.ETIMEDOUT, "the disk does not answer")
        if error is not None:
            self.failed = True
            print_error(f"cannot write the log {self._path}: {error.strerror}; logging stops")

    def _write_lines(self) -> None:
        while data := self._lines.get():
            failed = None
            try:
                _write_all(self._file, data)
            except OSError as error:
                failed = error
            self._written.put(failed)
        self._file.close()

    def close(self) -> None:
        self._lines.put(b"")


def _has_partial_last_line(path: str) -> bool:
    """Return whether the last line of a file is incomplete; False if it is no plain file, or not readable."""
    try:
        if not os.path.isfile(path) or not os.path.getsize(path):
            return False
        with open(path, "rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) != b"\n"
    except OSError:
        return False
