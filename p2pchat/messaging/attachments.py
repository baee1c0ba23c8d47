"""Files: those of messages, those that are being sent, and what they take of the disk of a peer.

The content of a sent file is stored here first, then the message that names it is written. The content of a received
file comes from any linked member of the conversation that has it: by itself if it is small, else when a program asks.
"""

from __future__ import annotations

import asyncio
import errno
import mimetypes
import os
import stat
from collections.abc import AsyncIterable, AsyncIterator, Callable, Container, Iterable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from p2pchat.core.content.pieces import PIECE_BYTES, count_pieces, disk_name
from p2pchat.core.log import MAX_FILE_NAME, MAX_FILES, MAX_MEDIA_TYPE, FileRef, LogId
from p2pchat.core.names import plain
from p2pchat.errors import PeerClosed, StorageError
from p2pchat.private_files import saved_file
from p2pchat.protocol import UserId
from p2pchat.runtime.content_worker import ContentWorker, Progress
from p2pchat.storage.contract import ReleasedEntry
from p2pchat.threads import in_thread, on_disk

if TYPE_CHECKING:
    from p2pchat.messaging.messages import Post
    from p2pchat.messaging.users import User
    from p2pchat.messaging.viewer import Viewer
    from p2pchat.runtime.driver import Driver


READ_BYTES = 1024 * 1024  # of a file at once; a guess
CHANGED = "it was written while it was read: send it when nothing writes it, or send a copy"
MOST_COPIES = 10_000  # files of one name in a directory; a guess


@dataclass(frozen=True)
class KeptFile:
    """A file whose content is on this disk, to be sent with any number of messages; LocalUser.keep_file makes it.

    The content stays until discard() or the end of the peer, and then as long as a message names it.

    Attributes:
        name: What readers are told it is called.
        size: Bytes.
        type: Its media type; "" for unknown.
        root: The hash of its content, in hex.
    """

    name: str = field(repr=False)
    size: int
    type: str
    root: str
    _release: Callable[[], None] = field(repr=False, compare=False)

    def discard(self) -> None:
        """Send it no more: its content goes unless a message names it. Does nothing the second time."""
        self._release()


# What is sent: a path; a name, with the bytes or an iterator of them; or what was kept before.
FileToSend = str | Path | tuple[str, bytes | AsyncIterable[bytes]] | KeptFile


class Attachment:
    """One file of a message.

    Attributes:
        message: The message.
        name: The name its writer gave it: for display, never a path. See `disk_name`.
        size: Bytes.
        type: The media type, as its writer says; "" if unknown.
        root: The hash of its content, in hex: equal for equal content.
    """

    __slots__ = ("_file", "message")

    def __init__(self, message: Post, file: FileRef) -> None:
        self.message: Post = message
        self._file = file

    @property
    def name(self) -> str:
        """The name its writer gave it: for display, never a path."""
        return self._file.name

    @property
    def disk_name(self) -> str:
        """A name for it that is harmless on any disk, whatever its writer called it."""
        return disk_name(self._file.name)

    @property
    def size(self) -> int:
        """Bytes."""
        return self._file.size

    @property
    def type(self) -> str:
        """The media type, as its writer says; "" if unknown."""
        return self._file.type

    @property
    def root(self) -> str:
        """The hash of its content, in hex: equal for equal content."""
        return self._file.root

    def to_dict(self) -> dict[str, Any]:
        """Return it as in the event line of its message.

        `here` is the result of is_here(); False if no peer runs. `held_by` is the number of members in `held_by`, if
        there are any. `forgotten` is there if it was removed here (`is_forgotten`).
        """
        try:
            here = self._content.holds(self.root, self.size)
        except PeerClosed:
            here = False
        found = {"name": self.name, "size": self.size, "type": self.type, "root": self.root, "here": here}
        holders = self._holders()
        if count := len(holders) - (self.message.viewer.directory.me in holders):  # of a gateway's thousands
            found["held_by"] = count
        if not here and self.is_forgotten:
            found["forgotten"] = True
        return found

    @property
    def held_by(self) -> list[User]:
        """The other members who are known to have all of it on their disks, verified; sorted by id.

        What a member said last counts, also while it is away. Of files that were sent long ago it may not be known:
        a peer keeps it of the 20,000 files that were named last.
        """
        people = self.message.viewer.directory
        return [people.user(user) for user in self._holders() if user != people.me]

    def _holders(self, *, elsewhere: bool = False) -> list[UserId]:
        try:
            return self.message.viewer._local_user._file_holders(self.message.log, self._file, elsewhere=elsewhere)
        except PeerClosed:
            return []

    async def is_here(self) -> bool:
        """Return whether all of it is on this disk and verified. Raises PeerClosed, StorageError."""
        return await self._content.run(lambda store: store.is_whole(self.root, self.size))

    async def fetch(self, progress: Progress | None = None) -> None:
        """Fetch the content from members who have it; return when all of it is on this disk and verified.

        This waits for a member who has it, as long as it takes: cancel it, or use asyncio.timeout. Whatever has come
        stays, even after a crash, and the next fetch continues there.

        Args:
            progress: Called with the number of bytes that are here, and of all bytes. What it raises ends this call.
        Raises:
            StorageError: The disk cannot be used, or has no room.
            PeerClosed: The peer is not running.
        """
        await self._content.fetch(self.message.log, self.message.seq, self._file, progress)

    async def forget(self) -> None:
        """Remove the content from this disk, for all messages with it; see TCPPeer.forget_file."""
        await self._content.forget(self.root)

    @property
    def is_forgotten(self) -> bool:
        """True if it was removed from this disk, and not asked for since: it does not come by itself."""
        try:
            return self._content.is_forgotten(self.root)
        except PeerClosed:
            return False

    async def save(self, path: str | Path, progress: Progress | None = None) -> Path:
        """Fetch it, and write a copy. Return the path of the copy.

        Args:
            path: The file to write; an existing one is replaced, a device or pipe is written into. Or a directory: the
                file gets its `disk_name` there, with a number if that is taken.
            progress: As fetch.
        Raises:
            OSError: The copy cannot be written. Also raises as fetch.
        """
        content = self._content
        await self.fetch(progress)
        to = await on_disk(self._free_path, Path(path))
        copy = await on_disk(saved_file, to)
        try:
            with content.held(self.root):
                async for piece in self._pieces(content):
                    await in_thread(copy.write, piece)
            await in_thread(copy.keep)
        finally:
            await on_disk(copy.discard)
        return to

    async def read(self, start: int = 0, stop: int | None = None) -> bytes:
        """Fetch it, and return its bytes, all in memory.

        Args:
            start, stop: Only the bytes from `start` on, and before `stop`; None for the end.
        Raises:
            ValueError: They are not in order, or not within the size. Also raises as fetch.
        """
        stop = self.size if stop is None else stop
        if not 0 <= start <= stop <= self.size:
            raise ValueError(f"a file of {self.size} bytes has no bytes from {start} to {stop}")
        content = self._content
        if not content.holds(self.root, self.size):
            await self.fetch()
        first, last = start // PIECE_BYTES, count_pieces(stop)
        with content.held(self.root):
            found = b"".join([piece async for piece in self._pieces(content, first, last)])
        return found[start - first * PIECE_BYTES : stop - first * PIECE_BYTES]

    def __repr__(self) -> str:
        return f"Attachment({self.size} bytes, {self.root[:8]})"  # without the name

    @property
    def _content(self) -> ContentWorker:
        return self.message.viewer._local_user._content

    async def _pieces(self, content: ContentWorker, first: int = 0, last: int | None = None) -> AsyncIterator[bytes]:
        for index in range(first, count_pieces(self.size) if last is None else last):
            piece = await content.read(self.root, index)
            if piece is None:
                raise StorageError("the content of this file is not here any more")
            yield piece

    def _free_path(self, path: Path) -> Path:
        if not path.is_dir():
            return path
        stem, suffix = os.path.splitext(self.disk_name)
        names = (self.disk_name if copy == 1 else f"{stem} ({copy}){suffix}" for copy in range(1, MOST_COPIES))
        return next(path / name for name in names if not (path / name).exists())


@asynccontextmanager
async def kept_files(
    content: ContentWorker, files: Sequence[FileToSend] | str | Path
) -> AsyncIterator[tuple[FileRef, ...]]:
    """Keep the content of files of this machine, and yield what a message says about them.

    It stays until the end of the block at least, and longer if a message that names it is stored by then.

    Raises:
        ValueError: There are too many, or one is too large.
        OSError: A file cannot be read. StorageError: It cannot be kept.
    """
    if isinstance(files, str | Path):
        files = [files]
    if len(files) > MAX_FILES:
        raise ValueError(f"a message has at most {MAX_FILES} files")
    with ExitStack() as holds:
        try:
            found = list[FileRef]()
            for file in files:
                if isinstance(file, KeptFile):  # before the look: it may be discarded, and a sweep come, behind that
                    holds.enter_context(content.held(file.root, kept=True))
                kept = await _keep(content, file)
                holds.enter_context(content.held(kept.root, kept=True))
                found.append(kept)
            yield tuple(found)
        except BaseException:  # whatever ended it, what was kept is named by no message
            content.on_unneeded()
            raise


async def keep_file(content: ContentWorker, file: FileToSend, type: str, size: int) -> KeptFile:
    """Keep the content of one file; see LocalUser.keep_file."""
    kept = await _keep(content, file, type, size)
    return KeptFile(kept.name, kept.size, kept.type, kept.root, content.hold(kept.root))


async def _keep(content: ContentWorker, file: FileToSend, type: str = "", size: int = 0) -> FileRef:
    if isinstance(file, KeptFile):
        kept = FileRef(file.name, file.size, file.type, file.root)
        if not await content.run(lambda store: store.is_whole(kept.root, kept.size)):
            raise ValueError("the content of a file is not here any more: send the file anew")
        return kept
    if isinstance(file, tuple):
        name, source = file
        size = len(source) if isinstance(source, bytes) else size
    else:
        path = Path(file)
        name = path.name
        size, small = await on_disk(_read_small, path)
        source = small or _chunks_of_file(path, size)
    name, type = _checked(name, type)
    if isinstance(source, bytes) and len(source) <= PIECE_BYTES:
        root = await content.run(lambda store: store.keep_piece(source))
        return FileRef(name, len(source), type, root)
    local = await content.run(lambda store: store.local(size))
    try:
        async for chunk in _chunks_of(source) if isinstance(source, bytes) else source:
            await content.run(lambda _, chunk=chunk: local.add(chunk))  # type: ignore[misc]
        root, size = await content.run(lambda _: local.finish())
    except BaseException:  # also when cancelled
        content.run_soon(lambda _: local.discard())
        raise
    return FileRef(name, size, type, root)


def _checked(name: str, type: str) -> tuple[str, str]:
    """Return the name of a file and its media type, as its message says them."""
    type = plain(type)
    name = plain(name).encode("utf-8", "replace").decode()  # a name on a disk may hold bytes that are no text
    if len(name) > MAX_FILE_NAME:
        raise ValueError(f"the name of a file has at most {MAX_FILE_NAME} characters")
    if len(type) > MAX_MEDIA_TYPE:
        raise ValueError(f"a media type has at most {MAX_MEDIA_TYPE} characters")
    return name, type or mimetypes.guess_type(name)[0] or ""


def _read_small(path: Path) -> tuple[int, bytes | None]:
    """Return the size of a file, 0 for a pipe, and the content of a plain file of one piece."""
    found = path.stat()
    if not stat.S_ISREG(found.st_mode) or found.st_size > PIECE_BYTES:
        return found.st_size, None
    with path.open("rb") as file, _unchanged(file):
        return found.st_size, file.read()


async def _chunks_of(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), READ_BYTES):
        yield data[start : start + READ_BYTES]


async def _chunks_of_file(path: Path, size: int) -> AsyncIterator[bytes]:
    """Yield the content of a file, or what comes through a pipe, whose size is 0, for as long as that takes."""
    read = on_disk if size else in_thread
    file = await read(path.open, "rb")
    try:
        with _unchanged(file):
            while chunk := await read(file.read, READ_BYTES):
                yield chunk
    finally:
        await on_disk(file.close)


@contextmanager
def _unchanged(file: BinaryIO) -> Iterator[None]:
    """Raise OSError at the end of the block if the file was written meanwhile: what was read may never have been it."""
    before = os.fstat(file.fileno())
    yield
    after = os.fstat(file.fileno())
    if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
        raise OSError(errno.EBUSY, CHANGED, file.name)


FILES_AT_ONCE = 250  # read in one job, behind which other reads wait: some 60 ms on a busy machine
MESSAGES_OF_ONE = 100  # looked at for one file: one may be sent again and again


@dataclass(frozen=True)
class StoredFile:
    """Content on the disk of a peer, whole or a part of it.

    Attributes:
        root: The hash of the content, in hex: as Attachment.root.
        size_bytes: What it takes of the disk; of content that is not whole the room that is kept for all of it.
        is_whole: All of it is here, and verified.
        attachments: The files with this content in messages that are shown here, the oldest first, at most 100; () if
            they are not shown yet.
        messages: How many messages name it.
        came_at: When the newest of these came; None if none is shown yet.
    """

    root: str
    size_bytes: int
    is_whole: bool
    attachments: tuple[Attachment, ...]
    messages: int
    came_at: datetime | None

    @property
    def name(self) -> str:
        """The name of the newest attachment with it, which is only a name; "" if there is none."""
        return self.attachments[-1].name if self.attachments else ""

    @property
    def held_by(self) -> list[User]:
        """The members of its conversations who are known to have it too, on other disks."""
        keys = dict.fromkeys(key for file in self.attachments for key in file._holders(elsewhere=True))
        return [self.attachments[0].message.viewer.directory.user(key) for key in keys]

    @property
    def is_only_here(self) -> bool:
        """True if all of it is here, and nobody else is known to have it."""
        return self.is_whole and not self.held_by


async def only_here(files: Sequence[StoredFile]) -> set[str]:
    """Return the roots of those that nobody else is known to have; other work goes on meanwhile."""
    found: set[str] = set()
    for at in range(0, len(files), FILES_AT_ONCE):
        found.update(file.root for file in files[at : at + FILES_AT_ONCE] if file.is_only_here)
        await asyncio.sleep(0)
    return found


async def stored_files(viewer: Viewer, driver: Driver) -> list[StoredFile]:
    """Return everything in the store of content, the largest first."""
    roots = await driver.content.run(lambda store: store.roots())
    files: list[StoredFile] = []
    posts: dict[tuple[LogId, int], Post] = {}  # one for all files of a message
    for at in range(0, len(roots), FILES_AT_ONCE):
        files += await _files_of(viewer, driver, roots[at : at + FILES_AT_ONCE], posts)
    return _largest_first(files)


async def _files_of(
    viewer: Viewer, driver: Driver, asked: Sequence[str], posts: dict[tuple[LogId, int], Post]
) -> list[StoredFile]:
    """Return the content with these roots, as far as it is here. `posts`: messages that were read before."""
    taken = await driver.content.run(lambda store: store.sizes(asked))
    storage, roots = driver.disk.storage, list(taken)

    def read() -> tuple[dict[str, list[tuple[LogId, int]]], dict[tuple[LogId, int], ReleasedEntry]]:
        naming = storage.referring(roots)
        shown = {each for found in naming.values() for each in found[-MESSAGES_OF_ONE:]}
        entries = {each: storage.entry(*each) for each in shown if each not in posts}
        return naming, {each: entry for each, entry in entries.items() if entry is not None}

    naming, entries = await driver.disk.read(read)
    posts.update(zip(entries, viewer._posts(entries.values()), strict=True))
    files: list[StoredFile] = []
    for root in roots:
        found = naming.get(root, [])
        shown = sorted(
            (posts[each] for each in found[-MESSAGES_OF_ONE:] if each in posts), key=lambda post: post.received_at
        )
        attachments = tuple(file for post in shown for file in post.attachments if file.root == root)
        is_whole = any(driver.content.holds(root, size) for size in {file.size for file in attachments})
        came_at = shown[-1].received_at if shown else None
        files.append(StoredFile(root, taken[root], is_whole, attachments, len(found), came_at))
    return files


def _largest_first(files: Iterable[StoredFile]) -> list[StoredFile]:
    return sorted(files, key=lambda file: (-file.size_bytes, file.root))


def unwanted(
    files: Sequence[StoredFile], before: datetime | None, keep_bytes: int | None, stay: Container[str] = ()
) -> list[StoredFile]:
    """Return which of these are to go, the largest first: those that came longest ago go first.

    With `keep_bytes`, what takes more by itself goes before these: no older file makes room for it.

    Args:
        before: Only what came last before this; what is not shown yet stays then.
        keep_bytes: Only until the rest takes at most so many bytes.
        stay: Roots of what stays all the same.
    """
    left = sum(file.size_bytes for file in files)
    found: list[StoredFile] = []
    for file in sorted(
        files,
        key=lambda file: (
            keep_bytes is None or file.size_bytes <= keep_bytes,
            file.came_at is None,
            file.came_at or datetime.min,
        ),
    ):
        if keep_bytes is not None and left <= keep_bytes:
            break
        if before is not None and (file.came_at is None or file.came_at >= before):
            continue
        if file.root not in stay:
            found.append(file)
            left -= file.size_bytes
    return _largest_first(found)
