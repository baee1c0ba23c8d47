"""The store of attached files: content by root, beside the database, kept once, each piece checked by its hash.

Content is either whole, a file named by its root, or partial. Partial content has two files: `ROOT.part` with the
pieces, and `ROOT.had`, the record: the size, the list of leaves, and a byte for each piece. A piece is checked
against its leaf before it is written, and noted in the record afterwards. So noted pieces survive a kill, and need not
be fetched again. A power loss may take those that were not synced: they are checked again when the content is opened,
and synced ones are trusted. The record proves itself: its leaves must make the root.

Content becomes whole by one rename, after an fsync of all of it. So partial content has no name under which it could be
served as whole. Content of one piece has no record: it is written whole or not at all. Much of it may come at once, so
commit() syncs and renames all that was written since the last one. Nobody may be told of it before.

One thread uses a store (runtime/content_worker.py). Storage in memory has the same store in memory, with a limit.
"""

from __future__ import annotations

import errno
import math
import os
import re
import shutil
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO, FileIO
from pathlib import Path
from typing import Any

from p2pchat.core.content.pieces import (
    LEAF_BYTES,
    PIECE_BYTES,
    count_pieces,
    leaf_of,
    piece_size,
    ranges_of,
    root_of,
)
from p2pchat.core.log import MAX_FILE_BYTES
from p2pchat.errors import StorageError
from p2pchat.private_files import give_to_owner, make_private_directory, sync_directory, sync_file

CONTENT_NAME = "content"  # the directory of content, in the data directory
SYNC_EVERY_BYTES = 64 * 1024 * 1024  # written between two fsyncs: what a power loss may cost; a guess
SWEEP_NAME = "sweep.due"  # an empty file: content may be here that messages named which were deleted
MAX_OPEN = 32  # partial contents whose files are kept open; a guess: one has few downloads at once
SYNC_THREADS = 8  # one disk did 200 syncs a second one by one, and 3,000 with 8 threads; 16 were no faster
WRITTEN, SYNCED = 1, 2  # the byte of a piece in a record; 0 for one that is not here


class DiskFiles:
    """Files in a directory."""

    reserves = False  # True if what was begun has its room already

    def __init__(self, directory: Path, min_free_bytes: int) -> None:
        make_private_directory(directory)
        self._directory = directory
        self._prefix = os.path.join(directory, "")  # of paths: joined by hand, they take a fifth of pathlib's time
        self._min_free_bytes = min_free_bytes

    def names(self) -> list[str]:
        return os.listdir(self._directory)

    def size(self, name: str) -> int | None:
        """Return the bytes of a file; None if there is none."""
        try:
            return os.stat(self._prefix + name).st_size
        except FileNotFoundError:
            return None

    def age(self, name: str) -> float:
        """Return the seconds since a file was written; 0 if there is none."""
        try:
            return time.time() - (self._directory / name).stat().st_mtime
        except FileNotFoundError:
            return 0.0

    def open(self, name: str, *, new: bool = False) -> FileIO:
        """Open a file to read and write it; `new` makes it, or empties it."""
        flags = os.O_RDWR | (os.O_CREAT | os.O_TRUNC if new else 0) | getattr(os, "O_BINARY", 0)
        file = FileIO(os.open(self._prefix + name, flags, 0o600), "r+")
        if new:
            give_to_owner(self._directory / name)
        return file

    def sync(self, file: FileIO) -> None:
        sync_file(file.fileno())

    def sync_all(self, files: Sequence[FileIO]) -> None:
        """Sync files, several at once."""
        left, errors = deque(files), list[BaseException]()

        def sync_next() -> None:
            with suppress(IndexError):  # none is left
                while not errors:
                    file = left.popleft()
                    try:
                        self.sync(file)
                    except BaseException as error:  # whatever it was: this file may not be durable
                        errors.append(error)

        threads = list[threading.Thread]()
        with suppress(RuntimeError, MemoryError):  # the system has no more threads: those that run sync all of them
            for _ in range(min(SYNC_THREADS, len(files)) - 1):
                thread = threading.Thread(target=sync_next, daemon=True)
                thread.start()
                threads.append(thread)
        sync_next()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]

    def rename(self, names: Iterable[tuple[str, str]]) -> None:
        """Give files other names: pairs of the present one and the new one."""
        for name, to in names:
            os.replace(self._prefix + name, self._prefix + to)
        sync_directory(self._directory)

    def remove(self, name: str) -> None:
        with suppress(FileNotFoundError):
            os.unlink(self._prefix + name)

    def check_room(self, more: int) -> None:
        """Raise StorageError if `more` bytes would leave less free than the limit."""
        free = shutil.disk_usage(self._directory).free
        if free - more < self._min_free_bytes:
            raise StorageError(
                f"the disk has no room for {more} bytes more: {free} are free in {self._directory}, "
                f"and {self._min_free_bytes} stay free for messages: free some space"
            )


class MemoryFile(BytesIO):
    """A file in memory. Closing it changes nothing."""

    def close(self) -> None:
        pass


class MemoryFiles:
    """Files in memory, with a limit on all their bytes together."""

    reserves = True

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._files: dict[str, MemoryFile] = {}

    def names(self) -> list[str]:
        return list(self._files)

    def size(self, name: str) -> int | None:
        return self._files[name].getbuffer().nbytes if name in self._files else None

    def age(self, name: str) -> float:
        """Return infinity: no file here is of an earlier process."""
        return math.inf

    def open(self, name: str, *, new: bool = False) -> MemoryFile:
        if new:
            self._files[name] = MemoryFile()
        if name not in self._files:
            raise FileNotFoundError(name)
        self._files[name].seek(0)
        return self._files[name]

    def sync(self, file: object) -> None:
        pass

    def sync_all(self, files: Sequence[Any]) -> None:
        for file in files:
            self.sync(file)

    def rename(self, names: Iterable[tuple[str, str]]) -> None:
        for name, to in names:
            self._files[to] = self._files.pop(name)

    def remove(self, name: str) -> None:
        self._files.pop(name, None)

    def check_room(self, more: int) -> None:
        used = sum(file.getbuffer().nbytes for file in self._files.values())
        if used + more > self._max_bytes:
            raise StorageError(f"files in memory take at most {self._max_bytes} bytes, and {used} are taken")


@dataclass
class PartialContent:
    """Content of which pieces are missing, and whose leaves are known.

    Attributes:
        size: Its bytes.
        leaves: The list of leaves, joined.
        noted: A byte for each piece: 0 while it is missing.
    """

    size: int
    leaves: bytes
    noted: bytearray
    part: Any
    record: Any
    unsynced_bytes: int = 0

    def close(self) -> None:
        self.part.close()
        self.record.close()

    def is_good(self, index: int, piece: bytes) -> bool:
        """Return whether a piece has the right bytes."""
        start = index * LEAF_BYTES
        return 0 <= index < len(self.noted) and leaf_of(piece) == self.leaves[start : start + LEAF_BYTES]

    def read(self, index: int) -> bytes:
        """Return the bytes at the place of a piece, right or not."""
        self.part.seek(index * PIECE_BYTES)
        piece: bytes = self.part.read(piece_size(self.size, index))
        return piece

    def note(self, first: int, states: bytes) -> None:
        """Write the states of the pieces from `first` on to the record."""
        self.noted[first : first + len(states)] = states
        self.record.seek(_flags_at(len(self.noted)) + first)
        _write_all(self.record, states)


class LocalContent:
    """Content that this machine writes, from its first byte to its last. finish() or discard() ends it.

    discard() after finish() does nothing.
    """

    def __init__(self, store: ContentStore, files: DiskFiles | MemoryFiles, name: str) -> None:
        self._store = store
        self._files = files
        self._name = name
        self._file: Any = files.open(name, new=True)
        self._ended = False
        self._waiting = bytearray()  # less than a piece
        self._leaves = bytearray()
        self._size = 0

    def add(self, data: bytes) -> None:
        """Write more of it.

        Raises:
            ValueError: It is larger than content may be.
            StorageError: The disk cannot be used, or is full.
        """
        left = memoryview(data)  # copied only where a piece begins in other data
        with _translated:
            while len(self._waiting) + len(left) >= PIECE_BYTES:
                end = PIECE_BYTES - len(self._waiting)
                piece, left = left[:end], left[end:]
                if self._waiting:
                    self._waiting += piece
                    piece, self._waiting = memoryview(self._waiting), bytearray()
                self._write(piece)
        self._waiting += left

    def finish(self, root: str | None = None) -> tuple[str, int]:
        """Return its root and size. It is whole after the next commit() of the store.

        Args:
            root: What its root must be; None: any.
        Raises:
            ValueError: It has another root; nothing is kept.
        """
        with _translated:
            if self._waiting:
                self._write(memoryview(self._waiting))
            if root not in (None, root_of(self._size, bytes(self._leaves))):
                self.discard()
                raise ValueError("this content has another root")
            self._ended = True
            try:
                return self._store.keep(self._name, self._file, self._size, bytes(self._leaves)), self._size
            except BaseException:  # whatever it was: nobody else removes it
                _remove_failed(self._files, self._file, [self._name])
                raise

    def discard(self) -> None:
        """Remove it unless it is finished."""
        if self._ended:
            return
        self._ended = True
        with _translated:
            self._file.close()
            self._files.remove(self._name)

    def _write(self, piece: memoryview) -> None:
        if self._size + len(piece) > MAX_FILE_BYTES:
            raise ValueError(f"a file has at most {MAX_FILE_BYTES} bytes")
        self._files.check_room(len(piece))
        _write_all(self._file, piece)
        self._leaves += leaf_of(piece)
        self._size += len(piece)


class ContentStore:
    """All content of one peer. Every method may raise StorageError: the disk cannot be used, or is full.

    Args:
        files: Disk(directory), or Memory(limit) for a peer without a data directory.

    Attributes:
        awaits_commit: Set when something was written that is whole after the next commit(), or was found so. And
            by what is done with it until then, so that nobody hears of that before.
    """

    def __init__(self, files: DiskFiles | MemoryFiles) -> None:
        self._files = files
        self._open: OrderedDict[str, PartialContent] = OrderedDict()
        self.awaits_commit: bool = False
        self._written: dict[str, tuple[str, Any]] = {}  # name and open file of what is whole after commit(), by root
        self._untold: set[str] = set()  # what was written since the last commit(), also if it was deleted meanwhile
        self._used: set[str] | None = None  # kept or asked for since begin_sweep(); None while nothing is swept
        self._judged: tuple[str, bytes | None] = "", None  # the root whose list was asked for last, and that list
        self._made = 0  # contents begun by this machine, for their temporary names
        for name in files.names():
            if name.endswith(".new"):
                files.remove(name)  # of a killed process: nobody knows its root

    @property
    def written(self) -> int:
        """The number of contents that the next commit() makes whole."""
        return len(self._written)

    def commit(self) -> None:
        """Make content of one piece whole that was written since the last commit."""
        written, self._written = self._written, {}
        self._untold.clear()
        if not written:
            return
        with _translated:
            try:
                self._files.sync_all([file for _, file in written.values()])
                for _, file in written.values():
                    file.close()
                self._files.rename((name, root) for root, (name, _) in written.items())
            except BaseException:  # whatever it was: names that may not be durable must not count as whole
                for root, (name, file) in written.items():
                    _remove_failed(self._files, file, [name, root])  # nothing of this root was whole before
                raise

    def close(self) -> None:
        """Close all files. Nothing is lost without it, but what no commit() has made whole."""
        for _, file in self._written.values():
            file.close()
        for root in list(self._open):
            self._close(root)

    # ---- whole content

    def is_whole(self, root: str, size: int) -> bool:
        """Return whether all of it is here, on the disk and verified."""
        return self._files.size(root) == size

    def has_whole(self, root: str) -> bool:
        """Return whether this content is whole here, whatever its size."""
        with _translated:
            return self._files.size(root) is not None

    def has_size(self, root: str, size: int) -> bool:
        """Return whether something of this content is here, and it has this size. Anybody can name a root beside
        another size, and whoever then gives what is right gives what is wrong for that message."""
        with _translated:
            found = self._files.size(root)
            if found is None and (partial := self._partial(root)) is not None:
                found = partial.size
            return found == size

    def read(self, root: str, index: int) -> bytes | None:
        """Return a piece of whole content, or one that is noted of partial content; None if it is not here."""
        with _translated:
            size = self._files.size(root)
            if size is None:
                partial = self._partial(root)
                is_here = partial is not None and 0 <= index < len(partial.noted) and partial.noted[index]
                return partial.read(index) if partial is not None and is_here else None
            if not 0 <= index < count_pieces(size):
                return None
            file = self._files.open(root)
            try:
                file.seek(index * PIECE_BYTES)
                return file.read(piece_size(size, index))
            finally:
                file.close()

    def leaves(self, root: str) -> bytes | None:
        """Return the list of leaves; None if it is not known here."""
        with _translated:
            partial = self._partial(root)
            if partial is not None:
                return partial.leaves
            size = self._files.size(root)
            if size is None:
                return None
            if self._judged[0] == root:  # a list is given in parts, and judged once for all of them
                return self._judged[1]
            leaves = _read_leaves(self._files, root, size)
            if leaves is None:  # content of one piece, or a record that was damaged
                leaves = b"".join(leaf_of(piece) for piece in self._pieces(root, size))
                if size > PIECE_BYTES and root_of(size, leaves) == root:  # reading all takes seconds: do it once
                    with suppress(OSError):
                        self._write_record(root, size, leaves, bytes([SYNCED]) * count_pieces(size))
            self._judged = root, leaves if root_of(size, leaves) == root else None
            return self._judged[1]

    def held(self, root: str, most: int) -> list[tuple[int, int]]:
        """Return which pieces are here, as ranges (first, count), at most `most` of them."""
        with _translated:
            partial = self._partial(root)
            if partial is not None:
                return ranges_of((index for index, state in enumerate(partial.noted) if state), most)
            size = self._files.size(root)
            return [(0, count_pieces(size))] if size else []

    def delete(self, root: str) -> None:
        """Delete what is here of it. Nothing is, if this is not a root: programs may pass any text."""
        if not _is_root(root):
            return
        self._follow(root)
        with _translated:
            self._close(root)
            if root in self._written:
                name, file = self._written.pop(root)
                file.close()
                self._files.remove(name)
            for name in (root, f"{root}.part", f"{root}.had"):
                self._files.remove(name)

    def roots(self) -> list[str]:
        """Return the roots of all that is here, of partial content too, and of what the next commit() makes whole."""
        with _translated:
            found = dict.fromkeys([*self._written, *(name.partition(".")[0] for name in self._files.names())])
        return [root for root in found if _is_root(root)]  # another one is being written by this machine

    def sizes(self, roots: Iterable[str]) -> dict[str, int]:
        """Return the bytes on the disk by root, partial content and records included; of what is here."""
        taken: dict[str, int] = {}
        with _translated:
            for root in filter(_is_root, roots):
                found = [self._files.size(name) for name in (root, f"{root}.part", f"{root}.had")]
                if any(size is not None for size in found):
                    taken[root] = sum(size or 0 for size in found)
        return taken

    def begin_sweep(self) -> list[str]:
        """Return the roots of all that is here, and note from now on what is kept or asked for.

        Content that was written and is not committed yet is among them: whoever kept it must hear of that first.
        """
        self._used = set()
        self.awaits_commit = self.awaits_commit or bool(self._written)
        return self.roots()

    def sweep(self, roots: Iterable[str], *, is_last: bool = True) -> list[str]:
        """End a sweep: delete those that were not kept or asked for since it began, and return them.

        Args:
            is_last: No further sweep is due.
        """
        used, self._used = self._used or set[str](), None
        gone = [root for root in roots if root not in used]
        for root in gone:
            self.delete(root)
        if is_last:
            with _translated:
                self._files.remove(SWEEP_NAME)
        return gone

    def is_sweep_due(self) -> bool:
        """Return whether a sweep was due when the process before ended."""
        return self._files.size(SWEEP_NAME) is not None

    def younger(self, roots: Iterable[str], seconds: float) -> set[str]:
        """Return which of these were written within so many seconds."""
        names = {root: root if self._files.size(root) is not None else f"{root}.part" for root in roots}
        return {root for root, name in names.items() if self._files.age(name) < seconds}

    def _note_use(self, root: str) -> None:
        if self._used is not None:
            self._used.add(root)

    def _pieces(self, root: str, size: int) -> Iterator[bytes]:
        return (self.read(root, index) or b"" for index in range(count_pieces(size)))

    def local(self, size: int = 0) -> LocalContent:
        """Return new content, to be filled by this machine; with `size`, the bytes expected, once there is room."""
        with _translated:
            self._files.check_room(size)
            return LocalContent(self, self._files, self._new_name())

    def keep_piece(self, data: bytes) -> str:
        """Keep content of one piece, or none, that this machine has; return its root. It is whole after commit()."""
        root = root_of(len(data), leaf_of(data) if data else b"")
        self._note_use(root)
        with _translated:
            self._add_only_piece(root, len(data), data)
        return root

    def keep(self, name: str, file: Any, size: int, leaves: bytes) -> str:
        """Make an open file of this store whole content, or have commit() do it. Called by LocalContent."""
        root = root_of(size, leaves)
        self._note_use(root)
        if self.is_whole(root, size) or self._is_written(root):
            file.close()
            self._files.remove(name)
        elif count_pieces(size) < 2:
            self._write_later(root, name, file)
        else:
            self._files.sync(file)
            file.close()
            self._close(root)
            self._files.remove(f"{root}.part")  # first: the new record would speak of it
            try:
                self._write_record(root, size, leaves, bytes([SYNCED]) * count_pieces(size))
                self._files.rename([(name, root)])
            except BaseException:  # whatever it was: a name that may not be durable must not count as whole
                _remove_failed(self._files, file, [root, f"{root}.had"])
                raise
        return root

    def _new_name(self) -> str:
        self._made += 1
        return f"{self._made}.new"

    def _write_later(self, root: str, name: str, file: Any) -> None:
        """Have the next commit() make this file whole content."""
        self._written[root] = name, file
        self._untold.add(root)
        self.awaits_commit = True

    def _follow(self, root: str) -> None:
        """Have the caller wait for the next commit(), if those wait for it who wrote this content."""
        self.awaits_commit |= root in self._untold

    def _is_written(self, root: str) -> bool:
        """Return whether this is whole after the next commit(), which the caller must then wait for."""
        self._follow(root)
        return root in self._written

    # ---- partial content

    def missing(self, root: str, size: int) -> list[int] | None:
        """Return the pieces that are not here, in order; None if the leaves must come first.

        Raises:
            StorageError: Also if the disk has no room for what is missing: then nothing of it need be asked for.
        """
        self._note_use(root)
        self._follow(root)
        with _translated:
            is_one_piece = count_pieces(size) < 2
            partial = None if is_one_piece else self._partial(root)
            if self.is_whole(root, size) or self._is_written(root) or (
                not size and self._judge_only_piece(root, 0, 0, b"")
            ):  # fmt: skip
                return []
            if partial is not None and partial.size == size:
                left = [index for index, state in enumerate(partial.noted) if not state]
                if not self._files.reserves:
                    self._files.check_room(sum(piece_size(size, index) for index in left))
                return left
            self._files.check_room(size)
            return [0] if is_one_piece else None

    def begin(self, root: str, size: int, leaves: bytes) -> bool:
        """Take the leaves of content that is to be fetched. Return False, and keep nothing, if they are wrong."""
        if len(leaves) != LEAF_BYTES * count_pieces(size) or root_of(size, leaves) != root:
            return False
        with _translated:
            if self._partial(root) is None and not self.is_whole(root, size) and count_pieces(size) > 1:
                self._files.check_room(size)
                part: Any = self._files.open(f"{root}.part", new=True)
                try:
                    part.seek(size - 1)
                    _write_all(part, b"\0")  # the size is right from now on; a file system that can leaves a hole
                finally:
                    part.close()
                self._write_record(root, size, leaves, bytes(count_pieces(size)))
        return True

    def add(self, root: str, size: int, pieces: Iterable[tuple[int, bytes]]) -> list[int]:
        """Check pieces, and keep those that are right. Return the indices of those kept, in order. Content of one piece
        is kept after the next commit().

        A piece of whole content is right when its bytes are, and is not written.

        Raises:
            StorageError: Also if its leaves are not known: it was removed meanwhile, and nobody is to blame.
        """
        with _translated:
            if count_pieces(size) < 2:
                return [index for index, piece in pieces if self._judge_only_piece(root, size, index, piece)]
            partial = self._partial(root)
            if partial is None and not self.has_whole(root):
                raise StorageError("the file does not come any more: it was removed here")
            if partial is None:
                return [index for index, piece in pieces if self.read(root, index) == piece]
            return [index for index, piece in pieces if self._add_piece(root, partial, index, piece)]

    def _judge_only_piece(self, root: str, size: int, index: int, piece: bytes) -> bool:
        """Check content of one piece, and keep it if it is right. Empty content counts as one piece."""
        if index or len(piece) != size or root_of(size, leaf_of(piece) if piece else b"") != root:
            return False
        self._add_only_piece(root, size, piece)
        return True

    def _add_only_piece(self, root: str, size: int, piece: bytes) -> None:
        if self.is_whole(root, size) or self._is_written(root):
            return
        self._files.check_room(size)
        name = self._new_name()
        file: Any = self._files.open(name, new=True)
        try:
            _write_all(file, piece)
        except OSError:
            file.close()
            self._files.remove(name)
            raise
        self._write_later(root, name, file)

    def _add_piece(self, root: str, partial: PartialContent, index: int, piece: bytes) -> bool:
        if not partial.is_good(index, piece):
            return False
        if partial.noted[index]:
            return True
        if not self._files.reserves:
            self._files.check_room(len(piece))
        partial.part.seek(index * PIECE_BYTES)
        _write_all(partial.part, piece)
        partial.note(index, bytes([WRITTEN]))
        partial.unsynced_bytes += len(piece)
        if 0 not in partial.noted:
            self._finish(root, partial)
        elif partial.unsynced_bytes >= SYNC_EVERY_BYTES:
            self._sync(partial)
        return True

    def _sync(self, partial: PartialContent) -> None:
        self._files.sync(partial.part)
        partial.unsynced_bytes = 0
        partial.note(0, bytes(SYNCED if state else 0 for state in partial.noted))

    def _finish(self, root: str, partial: PartialContent) -> None:
        """Make partial content whole."""
        self._sync(partial)
        self._open.pop(root, None)
        partial.close()
        self._files.rename([(f"{root}.part", root)])

    def _partial(self, root: str) -> PartialContent | None:
        """Return partial content, opened if need be; None if there is none whose leaves are known."""
        found = self._open.get(root)
        if found is None and self._files.size(f"{root}.part") is not None:
            found = self._open_partial(root)
        if found is not None:
            self._open[root] = found
            self._open.move_to_end(root)
            while len(self._open) > MAX_OPEN:
                self._close(next(iter(self._open)))
        return found

    def _open_partial(self, root: str) -> PartialContent | None:
        """Open partial content. Pieces that were not synced stay noted only if they are right."""
        record = self._files.open(f"{root}.had") if self._files.size(f"{root}.had") is not None else None
        size = int.from_bytes(record.read(8), "big") if record is not None else 0
        leaves = _read_leaves(self._files, root, size) if record is not None else None
        if record is None or leaves is None:
            if record is not None:
                record.close()
            for name in (f"{root}.part", f"{root}.had"):
                self._files.remove(name)
            return None
        record.seek(_flags_at(count_pieces(size)))
        noted = bytearray(record.read(count_pieces(size)).ljust(count_pieces(size), b"\0"))
        found = PartialContent(size, leaves, noted, self._files.open(f"{root}.part"), record)
        for index, state in enumerate(noted):
            if state != SYNCED and (not state or not found.is_good(index, found.read(index))):
                noted[index] = 0
        found.unsynced_bytes = PIECE_BYTES * noted.count(WRITTEN)
        if 0 not in noted:  # killed before the rename
            self._finish(root, found)
            return None
        return found

    def _write_record(self, root: str, size: int, leaves: bytes, states: bytes) -> None:
        record: Any = self._files.open(f"{root}.had", new=True)
        try:
            _write_all(record, size.to_bytes(8, "big") + leaves + states)
            self._files.sync(record)
        finally:
            record.close()

    def _close(self, root: str) -> None:
        partial = self._open.pop(root, None)
        if partial is not None:
            partial.close()


def whole_files(directory: Path) -> dict[Path, int]:
    """Return the files of all whole content in the directory of a store, with their sizes.

    The store may be in use: these files never change, but content may be deleted. A pipe in a directory that came from
    elsewhere would be read for ever, and a link may lead to any file.
    """
    sizes: dict[str, int] = {}
    if directory.is_dir():
        with os.scandir(directory) as found:
            for each in found:
                with suppress(FileNotFoundError):
                    if each.is_file(follow_symlinks=False):
                        sizes[each.name] = each.stat().st_size
    roots = sorted(name for name in sizes if len(name) == 2 * LEAF_BYTES)
    return {directory / name: sizes[name] for root in roots for name in (root, f"{root}.had") if name in sizes}


def _is_root(text: str) -> bool:
    return re.fullmatch(rf"[0-9a-f]{{{2 * LEAF_BYTES}}}", text) is not None


def _flags_at(pieces: int) -> int:
    """Return where the bytes of the pieces begin in a record."""
    return 8 + LEAF_BYTES * pieces


def _read_leaves(files: DiskFiles | MemoryFiles, root: str, size: int) -> bytes | None:
    """Return the leaves from a record; None if there is none, or one of something else."""
    if not size <= MAX_FILE_BYTES or files.size(f"{root}.had") is None:
        return None
    record = files.open(f"{root}.had")
    try:
        said = record.read(_flags_at(count_pieces(size)))
    finally:
        record.close()
    leaves = said[8:]
    return leaves if said[:8] == size.to_bytes(8, "big") and root_of(size, leaves) == root else None


def _write_all(file: Any, data: bytes | memoryview) -> None:
    """Write all of this. An unbuffered file may take less when the disk is full."""
    if file.write(data) != len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _remove_failed(files: DiskFiles | MemoryFiles, file: Any, names: Iterable[str]) -> None:
    """Close a file that could not be made whole, and remove these names as far as they are there."""
    with suppress(OSError):
        file.close()
    for name in names:
        with suppress(OSError):
            files.remove(name)


class _Translation:
    """Raises StorageError for an error of the disk. A generator would take four times as long."""

    __slots__ = ()

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            advice = ": free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
            raise StorageError(f"files cannot be kept: {error.strerror or error}{advice}") from error


_translated = _Translation()
