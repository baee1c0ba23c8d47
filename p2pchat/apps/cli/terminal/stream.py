"""The bytes to a terminal, written by a thread: a terminal that stands still (a stalled ssh, a paused window) holds up
what is shown, and never the peer.

Looks like a text file to prompt_toolkit. What is written inside `together()` leaves in one piece, so that a prompt
that is taken away, lines above it, and the prompt again are one change of the screen.
"""

from __future__ import annotations

import asyncio
import os
import select
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Stream:
    """Writes to the terminal behind a file descriptor.

    Attributes:
        closed: Set when the terminal has gone; what is written then is dropped.
    """

    encoding = "utf-8"

    def __init__(self, fd: int, loop: asyncio.AbstractEventLoop) -> None:
        self._fd = fd
        self._loop = loop
        self._changed = threading.Condition()
        self._pieces: list[bytes] = []
        self._backlog = 0
        self._ended = False
        self._buffer: list[str] = []
        self._corks = 0
        self._waiting: list[asyncio.Future[None]] = []
        self.closed = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="terminal", daemon=True)
        self._thread.start()

    # As a file

    def fileno(self) -> int:
        return self._fd

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self._buffer.append(text)
        return len(text)

    def flush(self) -> None:
        if self._corks or not self._buffer:
            return
        data = "".join(self._buffer).encode("utf-8", "backslashreplace")
        self._buffer.clear()
        with self._changed:
            self._pieces.append(data)
            self._backlog += len(data)
            self._changed.notify_all()

    @contextmanager
    def together(self) -> Iterator[None]:
        """Let what is written inside leave in one piece."""
        self._corks += 1
        try:
            yield
        finally:
            self._corks -= 1
            self.flush()

    # How far it is

    @property
    def backlog(self) -> int:
        """Bytes the terminal has not taken yet."""
        return self._backlog

    async def drained(self) -> None:
        """Return when the terminal has taken everything, or has gone."""
        while self._backlog:
            waiting = self._loop.create_future()
            self._waiting.append(waiting)
            if not self._backlog:  # the thread may have been quicker
                self._wake()
            await waiting

    def settle(self, timeout: float) -> None:
        """Wait for the same without the loop, at most so many seconds."""
        with self._changed:
            self._changed.wait_for(lambda: not self._backlog, timeout)

    def close(self, timeout: float = 1.0) -> None:
        """Write what is left, at most so long; nothing may be written any more."""
        self.settle(timeout)
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    # The thread

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._pieces or self._ended)
                if self._ended and not self._pieces:
                    return
                data = b"".join(self._pieces)
                self._pieces.clear()
            self._write(data)
            with self._changed:
                self._backlog -= len(data)
                self._changed.notify_all()
            if not self._backlog:
                self._call(self._wake)

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view and not self.closed.is_set():
            try:
                view = view[os.write(self._fd, view) :]
            except BlockingIOError:  # somebody made the terminal non-blocking
                select.select([], [self._fd], [])
            except OSError:
                self._call(self.closed.set)
                return

    def _call(self, what: object) -> None:
        try:
            self._loop.call_soon_threadsafe(what)  # type: ignore[arg-type]
        except RuntimeError:  # the loop is closed: nobody waits any more
            pass

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            if not each.done():
                each.set_result(None)
