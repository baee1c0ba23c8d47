"""Entries carried in a file: written from what a peer holds, and taken in by another, which may be far away or off.

A file is readable text and signed by those who wrote in it: whoever finds it can read it, nobody can change it. Both
ways go a piece at a time, so that a history of any length takes no memory and nobody waits for long; the core is given
the next frames when those before are on disk.

A file may be a pipe at whose other end nobody is. So whatever may wait for ever does so in a thread that nobody waits
for, neither who gives up nor the end of the process.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, TypeVar

from p2pchat.config import KIB, MIB, Settings
from p2pchat.core import effects as fx
from p2pchat.core.export_file import ExportReader
from p2pchat.errors import P2PChatError, StorageError
from p2pchat.identity.private_files import Aside
from p2pchat.protocol import LENGTH, ConversationId, Entries, Frame, encode
from p2pchat.runtime.driver import Driver
from p2pchat.storage.base import Storage
from p2pchat.storage.export import file_pages

T = TypeVar("T")
Place = str | os.PathLike[str] | BinaryIO
Progress = Callable[[int], None]  # told how many entries are done
Read = Callable[[Callable[[], list[Frame]]], Awaitable[list[Frame]]]  # runs it where storage is read

READ_BYTES = 256 * KIB
LOOKED_AT_BYTES = 16 * KIB  # between two turns of the loop: of the smallest frames these take 30 ms
WRITE_BYTES = MIB  # gathered before they are written
HANDED_IN = 2048  # entries at once: with two under way half of what makes links wait (max_uncommitted_entries)
UNDER_WAY = 2  # one is committed while the next is read
_BEGIN = b'{"t":"file",'  # behind its length, what stands first in every file


@dataclass(frozen=True, slots=True)
class Exported:
    """What a file holds.

    Attributes:
        entries: Messages, and what else is an entry: names, for one.
        conversations: Of how many conversations.
        size_bytes: The length of the file.
    """

    entries: int
    conversations: int
    size_bytes: int


@dataclass(slots=True)
class Imported:
    """What became of the entries of a file.

    Attributes:
        new: They were not here, and are now, on disk.
        known: They were here already.
        foreign: They are of conversations that this peer's user does not belong to.
        refused: How many others, by why: gap (what comes before is neither here nor in the file), head (not as
            their writer signed it), malformed, limit, full (too many logs of one writer), fork (their writer said
            two things under one number), member (their writer does not belong there).
        unreadable: Parts of the file that are damaged; how many entries they held nobody knows.
        problem: What is wrong with the file, as a sentence; "" when it is whole.
    """

    new: int = 0
    known: int = 0
    foreign: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    unreadable: int = 0
    problem: str = ""

    @property
    def entries(self) -> int:
        """How many entries were read from the file."""
        return self.new + self.known + self.foreign + sum(self.refused.values())

    def _count(self, answer: fx.ImportResult) -> None:
        self.new += answer.new
        self.known += answer.known
        self.foreign += answer.foreign
        self.refused = dict(Counter(self.refused) + Counter(answer.refused))


# ---- out


async def write_file(
    storage: Storage,
    read: Read,
    to: Place,
    *,
    room: ConversationId,
    only: ConversationId | None,
    progress: Progress | None,
) -> Exported:
    """Write everything a storage holds, or one conversation.

    Args:
        read: Runs what reads the storage.
        room: The room of the network.
        only: One conversation; None for all.
        to: A path: written beside it and put there when whole, for its owner only, also in the place of a former
            export; or a binary file to write to.
    Raises:
        P2PChatError: It cannot be written. StorageError: The storage cannot be read.
    """
    writing = _Writing(to)
    try:
        await _apart(writing.open)
        try:
            return await _write_pages(file_pages(storage, room, only), read, writing, progress)
        finally:
            await asyncio.to_thread(writing.close)
    except OSError as error:
        raise P2PChatError(f"cannot write {writing.name}: {error.strerror or error}") from error


async def _write_pages(
    pages: Iterator[list[Frame]], read: Read, writing: _Writing, progress: Progress | None
) -> Exported:
    entries = size = 0
    conversations: set[ConversationId] = set()
    gathered: list[bytes] = []
    gathered_bytes = 0
    while True:
        page = await read(lambda: next(pages, []))
        for frame in page:
            gathered.append(encode(frame))
            gathered_bytes += len(gathered[-1])
            if isinstance(frame, Entries):
                conversations.add(frame.c)
                entries += 0 if frame.fork else len(frame.e)
        if not page or gathered_bytes >= WRITE_BYTES:
            data = b"".join(gathered)
            await _apart(lambda: writing.write(data))  # noqa: B023 - it is called before the next turn
            size += gathered_bytes
            gathered, gathered_bytes = [], 0
            if progress is not None:
                progress(entries)
        if not page:
            await _apart(writing.keep)
            return Exported(entries, len(conversations), size)


class _Writing:
    """Where a file goes: to its path when it is whole, or straight into what cannot be replaced."""

    def __init__(self, to: Place) -> None:
        self._path = Path(to) if isinstance(to, (str, os.PathLike)) else None
        self._aside: Aside | None = None
        self._file: BinaryIO | None = None if isinstance(to, (str, os.PathLike)) else to
        self.name = "the file" if self._path is None else str(self._path)

    def open(self) -> None:
        if self._path is None:
            return
        if self._path.is_dir():
            raise P2PChatError(f"{self._path} is a directory: name a file in it")
        if self._path.is_file() and not _may_be_replaced(self._path):
            raise P2PChatError(f"{self._path} is there already, and no file of an export: name another one")
        if self._path.exists() and not self._path.is_file():  # a pipe, a device
            # Without a buffer, whose lock a write that waits would hold. Closed by close().
            self._file = open(self._path, "wb", buffering=0)  # noqa: SIM115
        else:
            self._aside = Aside(self._path)
            self._file = self._aside.file

    def write(self, data: bytes) -> None:
        assert self._file is not None
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) or 0 :]  # what has no buffer takes what it has room for

    def keep(self) -> None:
        assert self._file is not None
        if self._aside is not None:
            self._aside.keep()
        else:
            self._file.flush()

    def close(self) -> None:
        if self._aside is not None:
            self._aside.discard()
        elif self._file is not None and self._path is not None:
            self._file.close()


def _may_be_replaced(path: Path) -> bool:
    """Whether a file is empty, or one of ours: whoever mistypes a name shall not lose what has that name."""
    with open(path, "rb") as file:
        begins = file.read(LENGTH.size + len(_BEGIN))
    return not begins or begins[LENGTH.size :] == _BEGIN


# ---- in


async def read_file(
    driver: Driver, source: Place, *, room: ConversationId, settings: Settings, progress: Progress | None
) -> Imported:
    """Take in a file, as far as it can be read.

    Raises:
        ImportRefused: It is no such file, or one of another network; nothing of it was taken.
        P2PChatError: It cannot be read. StorageError: It cannot be stored; PeerClosed: The peer was closed. What came
            before that stays.
    """
    name = str(source) if isinstance(source, (str, os.PathLike)) else "the file"
    unpacking, done = ExportReader(room, settings), Imported()
    under_way: deque[asyncio.Future[fx.ImportResult]] = deque()
    file: BinaryIO | None = None
    try:
        opened = file = await _apart(lambda: _open(source))
        while not unpacking.ended and (data := await _apart(lambda: _read_some(opened))):
            for at in range(0, len(data), LOOKED_AT_BYTES):
                unpacking.feed(data[at : at + LOOKED_AT_BYTES])
                await asyncio.sleep(0)
            while unpacking.waiting:
                if len(under_way) >= UNDER_WAY:
                    await _next_answer(under_way, done, progress)
                under_way.append(driver.requests.import_frames(unpacking.take(HANDED_IN)))
        unpacking.finish()
    except OSError as error:
        raise P2PChatError(f"cannot read {name}: {error.strerror or error}") from error
    finally:
        if file is not None and file is not source:
            await asyncio.to_thread(file.close)
    while under_way:
        await _next_answer(under_way, done, progress)
    done.unreadable, done.problem = unpacking.unreadable, unpacking.problem
    return done


async def _next_answer(
    under_way: deque[asyncio.Future[fx.ImportResult]], done: Imported, progress: Progress | None
) -> None:
    answer = await under_way.popleft()
    if answer.failed:
        raise StorageError(answer.failed)
    done._count(answer)
    if progress is not None:
        progress(done.entries)


def _open(source: Place) -> BinaryIO:
    """Open a path without a buffer, whose lock a read that waits would hold."""
    if not isinstance(source, (str, os.PathLike)):
        return source
    return open(source, "rb", buffering=0)


def _read_some(file: BinaryIO) -> bytes:
    read: Callable[[int], bytes] = getattr(file, "read1", file.read)  # a pipe: what is there, not all that comes
    return read(READ_BYTES)


async def _apart(what: Callable[[], T]) -> T:
    """Run what may wait for ever in a thread of its own."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if done.cancelled():
            return
        if error is None:
            done.set_result(result)  # type: ignore[arg-type]
        else:
            done.set_exception(error)

    def run() -> None:
        result, error = None, None
        try:
            result = what()
        except BaseException as caught:  # whatever it is, who asked is told
            error = caught
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=run, name="file", daemon=True).start()
    return await done
