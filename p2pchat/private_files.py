"""Private files: secrets and small state on disk.

A file written here is readable by its owner only from its first moment (O_EXCL, O_NOFOLLOW, 0600), and is there whole
or not at all, also after a power loss: write, fsync, rename, fsync of the directory. Files are checked before they are
read: a secret that others can read is refused, with the command that fixes it. Windows has no such modes. There the
user's profile directory keeps others out, and the checks are left out.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import BinaryIO

from p2pchat.errors import P2PChatError

if sys.platform != "win32":
    import fcntl

POSIX = os.name == "posix"  # tests change it
MAX_NAME_BYTES = 255  # of a file, on the file systems in use
MAX_PRIVATE_BYTES = 64 * 1024  # keys and networks take a few hundred; a larger file is another one
STALE_AFTER = 24 * 3600.0  # seconds after which a temporary file counts as left by a killed process; a guess
# Errors of file systems that cannot sync a directory, as some network and FUSE ones; the files themselves are synced.
CANNOT_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES, errno.EPERM}
NO_FULL_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.ENOTTY}  # of file systems without F_FULLFSYNC: SMB gives ENOTSUP
OTHERS = stat.S_IRWXG | stat.S_IRWXO
OURS = {"network", "identity.pem"}  # the directory of a login or a profile has one of them


def make_private_directory(path: Path) -> None:
    """Make `path` and missing directories above it, for the owner only (0700).

    An existing directory gets that mode when it is empty, or ours by its `network` or `identity.pem`. Another one is
    left as it is: the files in it are private themselves.
    Raises:
        P2PChatError: It cannot be made, or others may write in it.
    """
    try:
        absent = [one for one in (path / "profile").parents if not one.exists()]
        for missing in reversed(absent):
            missing.mkdir(mode=0o700, exist_ok=True)
            give_to_owner(missing)
        if not path.is_dir():
            raise P2PChatError(f"{path} is not a directory: choose another one with --data")
        if POSIX:
            _tighten(path)
    except OSError as error:
        why = error.strerror or error
        raise P2PChatError(
            f"cannot use the directory {path}: {why}; choose another with --data or P2PCHAT_HOME"
        ) from error


def _tighten(path: Path) -> None:
    mode = stat.S_IMODE(path.stat().st_mode)
    if not mode & OTHERS:
        return
    names = set(os.listdir(path))
    if not names or names & OURS:
        path.chmod(0o700)
    elif mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise P2PChatError(f"others may write in {path} (mode {mode:04o}): run `chmod 700 {path}`, or choose another")


def write_private(path: Path, data: bytes) -> None:
    """Write `data` to `path`, whole or not at all, readable by the owner only. Replace what was there.

    Raises:
        OSError: The disk or the directory does not allow it; `path` is unchanged, unless only the last step failed, the
            sync of the directory.
    """
    aside = AtomicFile(path)
    try:
        aside.write(data)
        aside.keep()
    finally:
        aside.discard()


def give_to_owner(path: Path) -> None:
    """Give what root made in the directory of a profile or login to whom that belongs: a service goes on there.

    Raises OSError.
    """
    if sys.platform == "win32" or not POSIX or os.geteuid():
        return
    owner = path.parent.stat()
    if owner.st_uid and any(OURS.intersection(os.listdir(above)) for above in path.parents[:2]):
        os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)


def temporary_path(path: Path) -> Path:
    """Return an unused name beside `path`, for a file that will be moved to `path`."""
    return path.with_name(f".{_beginning(path)}.{secrets.token_hex(6)}.new")


@contextmanager
def directory_made_whole(path: Path) -> Iterator[Path]:
    """Yield a private directory that is moved to `path` at the end; nothing is left of it if that is not reached.

    Raises:
        P2PChatError: It cannot be made; `path` is as it was, missing or empty.
    """
    aside = temporary_path(path)
    try:
        make_private_directory(aside)
        yield aside
        if path.exists():
            path.rmdir()  # it is empty; not every system renames onto an empty directory
        os.replace(aside, path)
        sync_directory(path.parent)
    except OSError as error:
        raise P2PChatError(f"cannot make {path}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _beginning(path: Path) -> str:
    """Return as much of a name as leaves room for the rest of a temporary one."""
    return os.fsencode(path.name)[: MAX_NAME_BYTES - 18].decode(errors="ignore")


def remove_leftovers(path: Path, untouched: float = STALE_AFTER) -> None:
    """Remove temporary files that killed writers of `path` left beside it.

    Args:
        path: A file or a directory; it need not exist.
        untouched: Seconds without a write after which a file counts as left. 0 is for callers that know by a lock that
            nobody writes.
    """
    is_left = re.compile(rf"\.{re.escape(_beginning(path))}\.[0-9a-f]{{12}}\.new").fullmatch
    with suppress(OSError):  # there is no such directory, or it may not be read
        for name in os.listdir(path.parent):
            if is_left(name):
                remove_stale(path.with_name(name), untouched)


def remove_stale(left: Path, untouched: float) -> None:
    """Remove a file, or a directory with its content, that was not written to for so many seconds."""
    with suppress(OSError):  # another process removes it, or only another user may
        is_directory = left.is_dir() and not left.is_symlink()
        written = [left.lstat().st_mtime]
        if is_directory:
            written += (each.lstat().st_mtime for each in left.rglob("*"))
        if untouched and time.time() - max(written) < untouched:
            return
        if is_directory:
            shutil.rmtree(left)
        else:
            left.unlink()


class AtomicFile:
    """A file that is written beside its place, readable by the owner only, and moved there when it is complete.

    Files left by writers that were killed a day ago or earlier are removed. Call write(), then keep(), and in any case
    discard(), which does nothing after keep().

    Raises:
        OSError: The directory does not allow it.
    """

    def __init__(self, path: Path) -> None:
        remove_leftovers(path)
        self._path = path
        self._new = temporary_path(path)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        self._file = os.fdopen(os.open(self._new, flags, 0o600), "wb", buffering=0)

    def write(self, data: bytes) -> None:
        write_all(self._file, data)

    def keep(self) -> None:
        """Sync the file to disk and move it to its place, replacing what was there."""
        sync_file(self._file.fileno())
        self._file.close()
        give_to_owner(self._new)
        os.replace(self._new, self._path)
        sync_directory(self._path.parent)

    def discard(self) -> None:
        """Remove the file unless it was kept."""
        self._file.close()
        self._new.unlink(missing_ok=True)


class SpecialFile:
    """A device or a pipe, into which everything is written at once. Its methods are those of AtomicFile.

    Raises:
        OSError: It may not be written, or nobody reads from the pipe, which is not waited for.
    """

    def __init__(self, path: Path) -> None:
        try:
            fd = os.open(path, os.O_WRONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        except OSError as error:
            if error.errno == errno.ENXIO and path.is_fifo():
                raise OSError(errno.ENXIO, "nobody reads from this pipe: start its reader first", str(path)) from None
            raise
        if sys.platform != "win32":
            os.set_blocking(fd, True)
        self._file = FileIO(fd, "wb")

    def write(self, data: bytes) -> None:
        write_all(self._file, data)

    def keep(self) -> None:
        """Nothing is left to do."""

    def discard(self) -> None:
        self._file.close()


def saved_file(path: Path) -> AtomicFile | SpecialFile:
    """Return a file that somebody names to be written. A symbolic link is followed. Raises OSError as both."""
    if path.exists() and not (path.is_file() or path.is_dir()):
        return SpecialFile(path)
    return AtomicFile(Path(os.path.realpath(path)))


def write_all(file: BinaryIO | FileIO, data: bytes) -> None:
    """Write all of this. A file without a buffer may take less at once."""
    view = memoryview(data)
    while view:
        view = view[file.write(view) or 0 :]


def sync_file(descriptor: int) -> None:
    """Have the disk write an open file, also one that macOS has only handed to it: the disk may keep it in a cache.

    Raises:
        OSError: The disk failed, or is full.
    """
    os.fsync(descriptor)
    if sys.platform != "win32":
        full_sync = getattr(fcntl, "F_FULLFSYNC", None)
        try:
            if full_sync is not None:
                fcntl.fcntl(descriptor, full_sync)
        except OSError as error:
            if error.errno not in NO_FULL_SYNC:
                raise


def sync_directory(path: Path) -> None:
    """Sync a directory to disk, so that its names survive a power loss, where the system can do that.

    Raises:
        OSError: The disk failed, or is full: the names may not survive.
    """
    if not POSIX:
        return
    fd = os.open(path, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
    try:
        sync_file(fd)
    except OSError as error:
        if error.errno not in CANNOT_SYNC:
            raise
    finally:
        os.close(fd)


def read_private(path: Path) -> bytes:
    """Return the content of a file that only its owner can read.

    A symbolic link is followed (mounted secrets are links), and the file it leads to is checked.
    Raises:
        FileNotFoundError: It does not exist.
        P2PChatError: Others can read it, it is not a plain file, or it cannot be read; the text names the fix.
    """
    try:
        fd = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except FileNotFoundError:
        raise
    except OSError as error:
        raise P2PChatError(f"cannot read {path}: {error.strerror or error}") from error
    try:
        _refuse_shared(path, os.fstat(fd))
        data = os.read(fd, MAX_PRIVATE_BYTES + 1)
    finally:
        os.close(fd)
    if len(data) > MAX_PRIVATE_BYTES:
        raise P2PChatError(f"{path} is too large to be a key or network file: name the right one")
    return data


def _refuse_shared(path: Path, info: os.stat_result) -> None:
    if not stat.S_ISREG(info.st_mode):
        raise P2PChatError(f"{path} is not a plain file: name the file itself")
    if sys.platform == "win32" or not POSIX:  # both: type checkers understand only the first
        return
    mode = stat.S_IMODE(info.st_mode)
    if mode & OTHERS:
        raise P2PChatError(f"{path} can be read by others (mode {mode:04o}): run `chmod 600 {path}`")
    if info.st_uid not in (os.geteuid(), 0) and os.geteuid():  # root reads what services keep
        raise P2PChatError(f"{path} belongs to another user: make a copy of your own, or choose another file")
