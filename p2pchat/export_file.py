"""Export of entries into a file, and import of such a file.

A file is readable text, and its entries are signed by their writers: anyone can read it, and a change is noticed. Both
directions go piece by piece, so that a history of any length takes little memory; the core gets the next frames when
those before are on disk. Before the entries stand the statements about members, behind them the content of files that
their messages name.

A file may be a pipe without another end. So calls that may never return run in a daemon thread, for which neither a
cancelled caller nor the end of the process waits.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from heapq import heappop, heappush
from itertools import count, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, Protocol, TypeVar

from p2pchat.core import effects as fx
from p2pchat.core.content.pieces import PIECE_BYTES, count_pieces, piece_size
from p2pchat.core.durable_changes import ForkStart, Start, WantStart
from p2pchat.core.groups.group_fact import talk_id
from p2pchat.core.inputs import ImportRequest
from p2pchat.core.log import MAX_FILE_BYTES, Batch, attachments_of, decode_entry, frame_of
from p2pchat.core.members.statement_exchange import file_frames
from p2pchat.core.sync.import_file import ExportReader
from p2pchat.errors import P2PChatError, StorageError
from p2pchat.private_files import AtomicFile, SpecialFile, saved_file, write_all
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
from p2pchat.settings import KIB, MIB, Settings
from p2pchat.storage.content_store import ContentStore, LocalContent
from p2pchat.storage.contract import StoredConversation
from p2pchat.threads import in_thread

if TYPE_CHECKING:
    from p2pchat.storage.sql_storage import SqlStorage

T = TypeVar("T")
Place = str | os.PathLike[str] | BinaryIO
Progress = Callable[[int], None]  # called with the number of entries processed

READ_BYTES = 256 * KIB
BYTES_PER_TURN = 16 * KIB  # decoded in one turn of the loop: 30 ms for the smallest frames
WRITE_BYTES = MIB  # collected before they are written
UNITS_AT_ONCE = 2048  # as many entries or fewer; twice as many are half of where all links wait (CommitsInFlight)
PARTS_AT_ONCE = 2  # one is committed while the next is read
MOST_HELD = 64  # batches read and not yet written, of at most 96 KiB each: 6 MiB
MOST_READ = 8  # batches in one read
_BEGIN = b'{"t":"file",'  # the beginning of every file, after its length


class ReadStorage(Protocol):
    """Runs a function in the thread that reads the storage."""

    def __call__(self, run: Callable[[], T], /) -> Awaitable[T]: ...


class ReadableContent(Protocol):
    """The content of files."""

    def holds(self, root: str, size: int) -> bool:
        """Return whether this content is whole here."""

    async def read(self, root: str, index: int) -> bytes | None:
        """Return a piece; None if it is not here."""


@dataclass(frozen=True)
class Exported:
    """The result of an export.

    Attributes:
        entries: The number of entries: messages, names and others.
        conversations: The number of their conversations; a group is one, with its operations.
        size_bytes: The length of the file.
        files: The number of contents of files, each counted once.
    """

    entries: int
    conversations: int
    size_bytes: int
    files: int = 0


@dataclass
class Imported:
    """The result of an import, in numbers of entries.

    Attributes:
        new: Entries that were not here, and are stored now.
        known: Entries that were here already.
        foreign: Entries of conversations that this peer's user does not belong to.
        refused: Others, by reason: early (the entries before are neither here nor in the file), head (the signature
            does not fit), malformed, limit, full (too many logs of one writer), fork (the writer signed two entries
            with one number), member (the writer does not belong to the conversation).
        unreadable: The number of damaged parts of the file, with an unknown number of entries or statements.
        problem: The fault of the file as a sentence; "" for an undamaged one.
        files: Contents of attachments that were not here, and are now.
        damaged_files: Those that were not what a message names; nothing of them is kept.
    """

    new: int = 0
    known: int = 0
    foreign: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    unreadable: int = 0
    problem: str = ""
    files: int = 0
    damaged_files: int = 0

    @property
    def entries(self) -> int:
        """The number of entries read from the file."""
        return self.new + self.known + self.foreign + sum(self.refused.values())

    def _count(self, answer: fx.ImportResult) -> None:
        self.new += answer.new
        self.known += answer.known
        self.foreign += answer.foreign
        self.refused = dict(Counter(self.refused) + Counter(answer.refused))
        self.unreadable += answer.unreadable


# ---- export


async def write_file(
    storage: SqlStorage,
    read: ReadStorage,
    to: Place,
    *,
    room: ConversationId,
    only: ConversationId | None,
    content: ReadableContent | None,
    progress: Progress | None,
) -> Exported:
    """Write what a storage holds into a file.

    Args:
        read: Runs a function in the thread that reads the storage.
        room: The id of the network's room.
        only: Write one conversation; None for all.
        content: The content of files that is written as far as it is here; None for none.
        to: A path, where the file appears when it is complete, for its owner only, and may replace an export of this
            network; or a binary file to write to.
    Raises:
        P2PChatError: It cannot be written.
        StorageError: The storage cannot be read.
    """
    target = _ExportTarget(to, room)
    try:
        await in_thread(target.open)
        try:
            return await _write_pages(file_pages(storage, room, only), read, target, progress, storage, content)
        finally:
            await in_thread(target.close)
    except OSError as error:
        raise P2PChatError(f"cannot write {target.name}: {error.strerror or error}") from error


async def _write_pages(
    pages: Iterator[list[Frame]], read: ReadStorage, target: _ExportTarget, progress: Progress | None,
    storage: SqlStorage, content: ReadableContent | None,
) -> Exported:  # fmt: skip
    entries = size = 0
    named: dict[str, int] = {}
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
                if content is not None and not frame.fork:
                    named.update(_named_content(frame))
        if not page or gathered_bytes >= WRITE_BYTES:
            data = b"".join(gathered)
            await in_thread(target.write, data)
            size += gathered_bytes
            gathered, gathered_bytes = [], 0
            if progress is not None:
                progress(entries)
        if not page:
            files = 0
            if content is not None:
                files, more = await _write_content(named, content, read, target, storage)
                size += more
            await in_thread(target.keep)
            return Exported(entries, len(conversations), size, files)


class _ExportTarget:
    """The target of an export: a file that somebody named, or an open one of the caller, which stays open."""

    def __init__(self, to: Place, room: ConversationId) -> None:
        self._room = room
        self._path = Path(to) if isinstance(to, (str, os.PathLike)) else None
        self._given: BinaryIO | None = None if isinstance(to, (str, os.PathLike)) else to
        self._saved: AtomicFile | SpecialFile | None = None
        self.name = "the file" if self._path is None else str(self._path)

    def open(self) -> None:
        if self._path is None:
            return
        if self._path.is_dir():
            raise P2PChatError(f"{self._path} is a directory: name a file in it")
        if self._path.is_file() and not _may_be_replaced(self._path, self._room):
            raise P2PChatError(f"{self._path} exists and is not an export of this network: name another file")
        self._saved = saved_file(self._path)

    def write(self, data: bytes) -> None:
        if self._saved is not None:
            self._saved.write(data)
        elif self._given is not None:
            write_all(self._given, data)

    def keep(self) -> None:
        if self._saved is not None:
            self._saved.keep()
        elif self._given is not None:
            self._given.flush()

    def close(self) -> None:
        if self._saved is not None:
            self._saved.discard()


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


def file_pages(storage: SqlStorage, room: ConversationId, only: ConversationId | None = None) -> Iterator[list[Frame]]:
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
    yield [File(FILE_VERSION, room), *file_frames(storage.statements(), room)]
    for holding in held:
        if only in (None, holding.conversation.id) or holding.conversation.id in groups:
            named = False
            for page in filter(None, _entries(storage, holding)):
                if not named:
                    page[0].names, named = [holding.conversation.naming], True
                entries += sum(len(frame.e) for frame in page if not frame.fork)
                yield list[Frame](page)
    yield [FileEnd(entries)]


def _entries(storage: SqlStorage, holding: StoredConversation) -> Iterator[list[Entries]]:
    conversation = holding.conversation.id
    for log in holding.forked:
        evidence, _ = storage.fetch(conversation, log.user, ForkStart(log.run), batches=MOST_READ)
        yield [frame_of(batch, fork=True) for batch in evidence]
    for batches in _merged(storage, conversation, holding.writers):
        yield [frame_of(batch) for batch in batches]


def _merged(storage: SqlStorage, conversation: ConversationId, writers: tuple[UserId, ...]) -> Iterator[list[Batch]]:
    """Yield what these users wrote, the earliest batches first."""
    most = max(1, min(MOST_READ, MOST_HELD // max(1, len(writers))))
    numbers = count()
    cursors: list[Cursor] = []

    def put(c: int, user: UserId, held: list[Batch], more: Start | None) -> None:
        heappush(cursors, Cursor(c, next(numbers), user, held, more))

    for user in writers:
        first, more = storage.fetch(conversation, user, WantStart(()), batches=most)
        if first and len(writers) <= MOST_HELD:
            put(_first_c(first[0]), user, first, more)
        elif first:  # too many writers to keep what was read: it is read again when it is due
            put(_first_c(first[0]), user, [], WantStart(()))
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
            put(batches[-1].raws[-1][0], cursor.user, [], rest)


def _due(batches: list[Batch], until: int) -> int:
    """Return how many of these come before the turn of the next writer, at clock `until`; at least one."""
    return 1 + sum(1 for _ in takewhile(lambda batch: _first_c(batch) <= until, batches[1:]))


def _first_c(batch: Batch) -> int:
    return batch.raws[0][0]


# ---- import


async def read_file(
    driver: Driver, source: Place, *, room: ConversationId, settings: Settings, files: bool, progress: Progress | None
) -> Imported:
    """Import a file as far as it can be read; `files` says whether with the content of files.

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
        opened = file = await in_thread(_open, source)
        while not unpacking.ended and (data := await in_thread(_read_some, opened)):
            for at in range(0, len(data), BYTES_PER_TURN):
                unpacking.feed(data[at : at + BYTES_PER_TURN])
                await asyncio.sleep(0)
            while unpacking.waiting:
                if len(under_way) >= PARTS_AT_ONCE:
                    await _next_answer(under_way, done, progress)
                under_way.append(driver.requests.ask(partial(ImportRequest, frames=unpacking.take(UNITS_AT_ONCE))))
        unpacking.finish()
        while under_way:
            await _next_answer(under_way, done, progress)
        done.unreadable, done.problem = done.unreadable + unpacking.unreadable, unpacking.problem
        if files and unpacking.is_complete:
            problem = await _read_content(driver, _ByteStream(opened, unpacking.rest), done)
            done.problem = done.problem or problem
    except OSError as error:
        raise P2PChatError(f"cannot read {name}: {error.strerror or error}") from error
    finally:
        if file is not None and file is not source:
            await in_thread(file.close)
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


# ---- content of files
#
# Behind the frame `file_end`, at which earlier versions stop reading: for each content a frame with its root and size,
# and its bytes. Each is taken only if a message here names it, and kept only if it has its root.

CONTENT, CONTENT_END = "content", "content_end"
_ROOT = re.compile(r"[0-9a-f]{64}")
MAX_HEADER_BYTES = 4096
ROOTS_AT_ONCE = 500  # asked of storage


class StoredContent:
    """The content in the directory of a profile, whose peer may be running."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def holds(self, root: str, size: int) -> bool:
        with suppress(OSError):
            return (self._directory / root).stat().st_size == size
        return False

    async def read(self, root: str, index: int) -> bytes | None:
        def read() -> bytes | None:
            with suppress(FileNotFoundError), (self._directory / root).open("rb") as file:
                file.seek(index * PIECE_BYTES)
                return file.read(PIECE_BYTES)
            return None

        return await in_thread(read)


def _named_content(frame: Entries) -> dict[str, int]:
    """Return the sizes of the contents that entries name, by root."""
    entries = (decode_entry(raw) for raw in frame.e if isinstance(raw[1], str) and '"files"' in raw[1])
    return {file.root: file.size for entry in entries for file in attachments_of(entry)}


def _header(**fields: Any) -> bytes:
    data = json.dumps(fields, separators=(",", ":")).encode()
    return LENGTH.pack(len(data)) + data


async def _write_content(
    named: dict[str, int], content: ReadableContent, read: ReadStorage, target: _ExportTarget, storage: SqlStorage
) -> tuple[int, int]:
    """Write what is here of these contents, and named by messages that are not deleted; return how many, and bytes."""
    roots, count, written, held = list(named), 0, 0, bytearray()

    async def write(data: bytes, most: int = READ_BYTES) -> None:
        nonlocal written, held
        held += data
        written += len(data)
        if len(held) >= most:
            part, held = bytes(held), bytearray()
            await in_thread(target.write, part)

    for start in range(0, len(roots), ROOTS_AT_ONCE):
        part = roots[start : start + ROOTS_AT_ONCE]
        kept = await read(lambda: storage.referring(part))  # noqa: B023 - it is called before the next turn
        for root in kept:
            size = named[root]
            if not content.holds(root, size):
                continue
            await write(_header(t=CONTENT, root=root, size=size))
            for index in range(count_pieces(size)):
                piece = await content.read(root, index)
                if piece is None or len(piece) != piece_size(size, index):
                    raise StorageError("the content of a file went away while it was exported: export again")
                await write(piece)
            count += 1
    if count:
        await write(_header(t=CONTENT_END, count=count), most=0)
    return count, written


class _ByteStream:
    """The bytes of a file from some place on. `begin`: those that were read already."""

    def __init__(self, file: BinaryIO, begin: bytes) -> None:
        self._file = file
        self._held = begin

    async def some(self, most: int) -> bytes:
        """Return up to so many bytes; b"" at the end."""
        if not self._held:
            self._held = await in_thread(_read_some, self._file)
        found, self._held = self._held[:most], self._held[most:]
        return found

    async def exactly(self, count: int) -> bytes:
        """Return so many bytes; fewer only at the end."""
        found = bytearray()
        while len(found) < count and (part := await self.some(count - len(found))):
            found += part
        return bytes(found)


async def _read_content(driver: Driver, stream: _ByteStream, done: Imported) -> str:
    """Take the content behind the entries; return what is wrong. A file without any is one of an earlier version."""
    count = 0
    while length := await stream.exactly(LENGTH.size):
        header = await _read_header(stream, length)
        if header.get("t") == CONTENT_END:
            return "" if header.get("count") == count else "not all of its files could be read: it was damaged"
        root, size = header.get("root"), header.get("size")
        is_content = header.get("t") == CONTENT and isinstance(root, str) and _ROOT.fullmatch(root)
        if not is_content or type(size) is not int or not 0 <= size <= MAX_FILE_BYTES:
            return "it is damaged: what stands behind the damage cannot be found"
        count += 1
        if not await _take_content(driver, stream, str(root), size, done):
            break
    return "it is cut off: the end of its files is missing" if count else ""


async def _read_header(stream: _ByteStream, length: bytes) -> dict[str, Any]:
    """Return a frame; {} for what is none."""
    size = LENGTH.unpack(length)[0] if len(length) == LENGTH.size else 0
    if not 0 < size <= MAX_HEADER_BYTES:
        return {}
    try:
        found = json.loads(await stream.exactly(size))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


async def _take_content(driver: Driver, stream: _ByteStream, root: str, size: int, done: Imported) -> bool:
    """Take or skip one content; return False if the file ends in it."""
    content = driver.content
    named = await driver.disk.read(lambda: driver.disk.storage.referring([root]))
    local = await content.run(lambda store: store.local()) if named and not content.holds(root, size) else None
    ended = False
    try:
        left = size
        while left:
            part = await stream.some(min(left, READ_BYTES))
            if not part:
                return False
            left -= len(part)
            if local is not None:
                await content.run(partial(_add, local, part))
        ended = True
        if local is not None:
            try:
                await content.run(lambda _: local.finish(root))
                done.files += 1
                content.on_imported(root)
            except ValueError:
                done.damaged_files += 1
        return True
    finally:
        if local is not None and not ended:
            content.run_soon(lambda _: local.discard())


def _add(local: LocalContent, part: bytes, _: ContentStore) -> None:
    local.add(part)


def _open(source: Place) -> BinaryIO:
    """Open a path without a buffer, since a read that waits would hold its lock."""
    if not isinstance(source, (str, os.PathLike)):
        return source
    return open(source, "rb", buffering=0)


def _read_some(file: BinaryIO) -> bytes:
    read: Callable[[int], bytes] = getattr(file, "read1", file.read)  # of a pipe read what is there
    return read(READ_BYTES)
