"""Export of entries into a file, and import of such a file.

A file is readable text, and its entries are signed by their writers: anyone can read it, and a change is noticed. Both
directions go piece by piece, so that a history of any length takes little memory; the core gets the next frames when
those before are on disk.

A file may be a pipe without another end. So calls that may never return run in a daemon thread, for which neither a
cancelled caller nor the end of the process waits.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count, takewhile
from pathlib import Path
from typing import BinaryIO, NamedTuple, TypeVar

from p2pchat.config import KIB, MIB, Settings
from p2pchat.core import effects as fx
from p2pchat.core.groups.state import talk_id
from p2pchat.core.log import Batch, decode_entry, frame_of
from p2pchat.core.records import ForkStart, Start, StoredStart
from p2pchat.core.sync.import_file import ExportReader
from p2pchat.errors import P2PChatError, StorageError
from p2pchat.identity.private_files import AtomicFile
from p2pchat.protocol import (
    FILE_VERSION,
    LENGTH,
    MAX_INT,
    ConversationId,
    Entries,
    File,
    FileEnd,
    Frame,
    UserId,
    encode,
)
from p2pchat.runtime.driver import Driver
from p2pchat.runtime.storage_worker import resolve
from p2pchat.storage.base import Storage, StoredConversation

T = TypeVar("T")
Place = str | os.PathLike[str] | BinaryIO
Progress = Callable[[int], None]  # called with the number of entries processed
Read = Callable[[Callable[[], list[Frame]]], Awaitable[list[Frame]]]  # runs a function in the thread that reads

READ_BYTES = 256 * KIB
BYTES_PER_TURN = 16 * KIB  # decoded in one turn of the loop: 30 ms for the smallest frames
WRITE_BYTES = MIB  # collected before they are written
ENTRIES_AT_ONCE = 2048  # two of these are half of max_uncommitted_entries, which makes links wait
PARTS_AT_ONCE = 2  # one is committed while the next is read
MOST_HELD = 64  # batches read and not yet written, of at most 96 KiB each: 6 MiB
MOST_READ = 8  # batches in one read
_BEGIN = b'{"t":"file",'  # the beginning of every file, after its length


@dataclass(frozen=True, slots=True)
class Exported:
    """The result of an export.

    Attributes:
        entries: The number of entries: messages, names and others.
        conversations: The number of their conversations; a group is one, with its operations.
        size_bytes: The length of the file.
    """

    entries: int
    conversations: int
    size_bytes: int


@dataclass(slots=True)
class Imported:
    """The result of an import, in numbers of entries.

    Attributes:
        new: Entries that were not here, and are stored now.
        known: Entries that were here already.
        foreign: Entries of conversations that this peer's user does not belong to.
        refused: Others, by reason: gap (the entries before are neither here nor in the file), head (the signature
            does not fit), malformed, limit, full (too many logs of one writer), fork (the writer signed two entries
            with one number), member (the writer does not belong to the conversation).
        unreadable: The number of damaged parts of the file, with an unknown number of entries.
        problem: The fault of the file as a sentence; "" for an undamaged one.
    """

    new: int = 0
    known: int = 0
    foreign: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    unreadable: int = 0
    problem: str = ""

    @property
    def entries(self) -> int:
        """The number of entries read from the file."""
        return self.new + self.known + self.foreign + sum(self.refused.values())

    def _count(self, answer: fx.ImportResult) -> None:
        self.new += answer.new
        self.known += answer.known
        self.foreign += answer.foreign
        self.refused = dict(Counter(self.refused) + Counter(answer.refused))


# ---- export


async def write_file(
    storage: Storage,
    read: Read,
    to: Place,
    *,
    room: ConversationId,
    only: ConversationId | None,
    progress: Progress | None,
) -> Exported:
    """Write what a storage holds into a file.

    Args:
        read: Runs a function in the thread that reads the storage.
        room: The id of the network's room.
        only: Write one conversation; None for all.
        to: A path, where the file appears when it is complete, for its owner only, and may replace an export of this
            network; or a binary file to write to.
    Raises:
        P2PChatError: It cannot be written.
        StorageError: The storage cannot be read.
    """
    target = _ExportTarget(to, room)
    try:
        await _in_daemon_thread(target.open)
        try:
            return await _write_pages(file_pages(storage, room, only), read, target, progress)
        finally:
            await asyncio.to_thread(target.close)
    except OSError as error:
        raise P2PChatError(f"cannot write {target.name}: {error.strerror or error}") from error


async def _write_pages(
    pages: Iterator[list[Frame]], read: Read, target: _ExportTarget, progress: Progress | None
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
                conversations |= {talk_id(frame.c) if named.group else frame.c for named in frame.names}
                entries += 0 if frame.fork else len(frame.e)
        if not page or gathered_bytes >= WRITE_BYTES:
            data = b"".join(gathered)
            await _in_daemon_thread(lambda: target.write(data))  # noqa: B023 - it is called before the next turn
            size += gathered_bytes
            gathered, gathered_bytes = [], 0
            if progress is not None:
                progress(entries)
        if not page:
            await _in_daemon_thread(target.keep)
            return Exported(entries, len(conversations), size)


class _ExportTarget:
    """The file written: put at its path when complete, or written directly to what cannot be replaced, as a pipe."""

    def __init__(self, to: Place, room: ConversationId) -> None:
        self._room = room
        self._path = Path(to) if isinstance(to, (str, os.PathLike)) else None
        self._aside: AtomicFile | None = None
        self._file: BinaryIO | None = None if isinstance(to, (str, os.PathLike)) else to
        self.name = "the file" if self._path is None else str(self._path)

    def open(self) -> None:
        if self._path is None:
            return
        if self._path.is_dir():
            raise P2PChatError(f"{self._path} is a directory: name a file in it")
        if self._path.is_file() and not _may_be_replaced(self._path, self._room):
            raise P2PChatError(f"{self._path} exists and is not an export of this network: name another file")
        if self._path.exists() and not self._path.is_file():  # a pipe, a device
            # Without a buffer, since a write that waits would hold its lock. Closed by close().
            self._file = open(self._path, "wb", buffering=0)  # noqa: SIM115
        else:
            self._aside = AtomicFile(self._path)
            self._file = self._aside.file

    def write(self, data: bytes) -> None:
        assert self._file is not None
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) or 0 :]  # a file without a buffer may write less than asked

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


def _may_be_replaced(path: Path, room: ConversationId) -> bool:
    """Return whether a file is empty or an export of the same network: a mistyped name must cost no other file."""
    with open(path, "rb") as file:
        begins = file.read(WRITE_BYTES)
    return not begins or (begins[LENGTH.size :].startswith(_BEGIN) and room.encode() in begins)


# ---- the pages of an export
#
# A file has one conversation after the other, so that it can be shown as it is read. Inside a conversation, the batch
# that was written earliest comes next, by any writer: a reply comes after its message, so that a reader keeps
# little waiting. At most some megabytes are in memory, however much is stored: a few batches of each of a few writers,
# or one batch at a time of many. Forked logs are left out, as on a link; the evidence of the fork stands in their
# place, before the logs that build on them. Source: docs/protocol-files.md.


class Cursor(NamedTuple):
    """Position in what one writer wrote. Sorted by `c`, a clock not above that of the next entry; `n` breaks ties."""

    c: int
    n: int
    user: UserId
    held: list[Batch]
    more: Start | None


def file_pages(storage: Storage, room: ConversationId, only: ConversationId | None = None) -> Iterator[list[Frame]]:
    """Yield the frames of a file, in pages that are never empty; each page takes one or two reads of storage.

    Args:
        room: The id of the network's room.
        only: One conversation; if it is the talk of a group, the group comes too. None for all.
    """
    entries, held = 0, storage.stored_conversations()
    groups = {
        holding.conversation.id
        for holding in held
        if holding.conversation.naming.group and talk_id(holding.conversation.id) == only
    }
    yield [File(FILE_VERSION, room)]
    for holding in held:
        if only in (None, holding.conversation.id) or holding.conversation.id in groups:
            named = False
            for page in filter(None, _entries(storage, holding)):
                if not named:
                    page[0].names, named = [holding.conversation.naming], True
                entries += sum(len(frame.e) for frame in page if not frame.fork)
                yield list[Frame](page)
    yield [FileEnd(entries)]


def _entries(storage: Storage, holding: StoredConversation) -> Iterator[list[Entries]]:
    conversation = holding.conversation.id
    for log in holding.forked:
        evidence, _ = storage.fetch(conversation, log.user, ForkStart(log.run), batches=MOST_READ)
        yield [frame_of(batch, fork=True) for batch in evidence]
    for batches in _merged(storage, conversation, holding.writers):
        yield [frame_of(batch) for batch in batches]


def _merged(storage: Storage, conversation: ConversationId, writers: tuple[UserId, ...]) -> Iterator[list[Batch]]:
    """Yield what these users wrote, the earliest batches first."""
    most = max(1, min(MOST_READ, MOST_HELD // max(1, len(writers))))
    numbers = count()
    cursors: list[Cursor] = []

    def put(c: int, user: UserId, held: list[Batch], more: Start | None) -> None:
        heappush(cursors, Cursor(c, next(numbers), user, held, more))

    for user in writers:
        first, more = storage.fetch(conversation, user, StoredStart(), batches=most)
        if first and len(writers) <= MOST_HELD:
            put(_first_c(first[0]), user, first, more)
        elif first:  # too many writers to keep what was read: it is read again when it is due
            put(_first_c(first[0]), user, [], StoredStart())
    while cursors:
        cursor = heappop(cursors)
        batches, rest = cursor.held, cursor.more
        if not batches and rest is not None:
            batches, rest = storage.fetch(conversation, cursor.user, rest, batches=most)
        due = _due(batches, cursors[0].c if cursors else MAX_INT)
        yield batches[:due]
        if due < len(batches):
            put(_first_c(batches[due]), cursor.user, batches[due:], rest)
        elif rest is not None and batches:
            put(_last_c(batches[-1]), cursor.user, [], rest)


def _due(batches: list[Batch], until: int) -> int:
    """Return how many of these come before the turn of the next writer, at clock `until`; at least one."""
    return 1 + sum(1 for _ in takewhile(lambda batch: _first_c(batch) <= until, batches[1:]))


def _first_c(batch: Batch) -> int:
    return decode_entry(batch.raws[0]).c


def _last_c(batch: Batch) -> int:
    return decode_entry(batch.raws[-1]).c


# ---- import


async def read_file(
    driver: Driver, source: Place, *, room: ConversationId, settings: Settings, progress: Progress | None
) -> Imported:
    """Import a file as far as it can be read.

    Raises:
        ImportRefused: It is no export, or one of another network; nothing was imported.
        P2PChatError: It cannot be read.
        StorageError: It cannot be stored.
        PeerClosed: The peer was closed. What was imported before stays.
    """
    name = str(source) if isinstance(source, (str, os.PathLike)) else "the file"
    unpacking, done = ExportReader(room, settings), Imported()
    under_way: deque[asyncio.Future[fx.ImportResult]] = deque()
    file: BinaryIO | None = None
    try:
        opened = file = await _in_daemon_thread(lambda: _open(source))
        while not unpacking.ended and (data := await _in_daemon_thread(lambda: _read_some(opened))):
            for at in range(0, len(data), BYTES_PER_TURN):
                unpacking.feed(data[at : at + BYTES_PER_TURN])
                await asyncio.sleep(0)
            while unpacking.waiting:
                if len(under_way) >= PARTS_AT_ONCE:
                    await _next_answer(under_way, done, progress)
                under_way.append(driver.requests.import_frames(unpacking.take(ENTRIES_AT_ONCE)))
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
    """Open a path without a buffer, since a read that waits would hold its lock."""
    if not isinstance(source, (str, os.PathLike)):
        return source
    return open(source, "rb", buffering=0)


def _read_some(file: BinaryIO) -> bytes:
    read: Callable[[int], bytes] = getattr(file, "read1", file.read)  # of a pipe read what is there
    return read(READ_BYTES)


async def _in_daemon_thread(work: Callable[[], T]) -> T:
    """Run a function that may never return in its own daemon thread, and return its result."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def run() -> None:
        result, error = None, None
        try:
            result = work()
        except BaseException as caught:  # of any kind: raised to the caller
            error = caught
        with suppress(RuntimeError):  # the loop is closed: no caller is left
            loop.call_soon_threadsafe(resolve, done, result, error)

    threading.Thread(target=run, name="file", daemon=True).start()
    return await done
