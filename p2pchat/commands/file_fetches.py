"""Fetches and copies of files in one session; and the numbers by which its user names files.

Each fetch is a task, so a person can type on, and other commands of a program are answered meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from p2pchat import Attachment
from p2pchat.commands.event_text import file_label, format_size
from p2pchat.commands.exit_codes import UsageError
from p2pchat.threads import stop_tasks

MAX_FETCHES = 256  # at once, of one session; a guess
MAX_NUMBERED = 10_000  # files; above, the oldest lose their numbers


def how_far(done: int, size: int) -> str:
    """Return how much is done: `41.0 MB of 1.2 GB, 3 %`."""
    return f"{format_size(done)} of {format_size(size)}, {100 * done // max(1, size)} %"


class FileNumbers:
    """The numbers of files for /get: from 1 on, in the order in which files were shown."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[str, int], int] = {}  # by the id of a message and the number in it
        self._files: dict[int, tuple[str, int]] = {}
        self._names: dict[int, str] = {}
        self._last = 0

    @property
    def names(self) -> list[str]:
        """The names of the files that have numbers, the newest first; without those that cannot be typed."""
        return list(dict.fromkeys(name for name in reversed(self._names.values()) if name.isprintable()))

    def number(self, message_id: str, in_message: int, name: str) -> int:
        """Return the number of a file; the next one for a file that has none. `in_message` counts from 1."""
        key = message_id, in_message
        if key not in self._numbers:
            self._last += 1
            self._numbers[key] = self._last
            self._files[self._last], self._names[self._last] = key, name
            if len(self._files) > MAX_NUMBERED:
                oldest = next(iter(self._files))
                del self._numbers[self._files.pop(oldest)], self._names[oldest]
        return self._numbers[key]

    def find(self, number: int) -> tuple[str, int] | None:
        """Return the id of the message and the number in it; None if no file has this number."""
        return self._files.get(number)


class FileFetches:
    """The files that are fetched, or copied into the profile, for one session.

    Attributes:
        on_change: Called when `row` may have changed.
    """

    def __init__(self) -> None:
        self._running: dict[asyncio.Task[None], Attachment] = {}
        self._stored: dict[Attachment, int] = {}
        self._copied: dict[object, tuple[str, int, int]] = {}  # a label, bytes, and of how many
        self.on_change: Callable[[], None] = lambda: None

    def begin(self, file: Attachment, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run what fetches a file, as a task. Raises UsageError if there are too many."""
        if len(self._running) >= MAX_FETCHES:
            work.close()
            raise UsageError(f"{MAX_FETCHES} files are being fetched: wait for some of them")
        task = asyncio.create_task(work)
        self._running[task] = file
        task.add_done_callback(self._on_done)
        self.on_change()
        return task

    def _on_done(self, task: asyncio.Task[None]) -> None:
        file = self._running.pop(task)
        self._stored.pop(file, None)
        self.on_change()
        if not task.cancelled() and (error := task.exception()) is not None:
            task.get_loop().call_exception_handler({"message": "p2pchat: a file was not fetched", "exception": error})

    def on_progress(self, file: Attachment, stored: int) -> None:
        """Handle that so many bytes of a file are here."""
        self._stored[file] = stored
        self.on_change()

    @contextmanager
    def copying(self, what: str, size: int) -> Iterator[Callable[[int], None]]:
        """Show files while they are copied into the profile; yield what to call with the bytes copied so far."""
        key = object()

        def on_copied(copied: int) -> None:
            self._copied[key] = what, copied, size
            self.on_change()

        on_copied(0)
        try:
            yield on_copied
        finally:
            del self._copied[key]
            self.on_change()

    @property
    def row(self) -> str:
        """One row about all that goes on; "" for nothing."""
        files = list(dict.fromkeys(self._running.values()))
        copies = [
            f"sending {what}: {how_far(done, size)} copied (/send stop)" for what, done, size in self._copied.values()
        ]
        if not files:
            return "   ".join(copies)
        stored, size = sum(self._stored.get(file, 0) for file in files), sum(file.size for file in files)
        what = file_label(files[0].name) if len(files) == 1 else f"{len(files)} files"
        if not any(file in self._stored for file in files):
            far = f"{format_size(size)}, waiting for somebody who has {'it' if len(files) == 1 else 'them'}"
        else:
            far = how_far(stored, size)
        return "   ".join([f"getting {what}: {far} (/get stop)", *copies])

    async def stop(self, file: tuple[str, str] | None = None) -> int:
        """Stop those that fetch one file, by the id of its message and its root, or all; return how many these were."""
        tasks = [task for task, one in self._running.items() if file in (None, (one.message.id, one.root))]
        await stop_tasks(tasks)
        return len(tasks)

    async def wait(self, timeout: float | None = None) -> None:
        """Wait until nothing is fetched any more, up to `timeout` seconds; None: as long as it takes."""
        if self._running:
            await asyncio.wait(list(self._running), timeout=timeout)
