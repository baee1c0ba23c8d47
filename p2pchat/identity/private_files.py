"""Private files: how secrets and small state get onto the disk and off it again.

A file made here is readable by its owner only from its first moment (O_EXCL, O_NOFOLLOW, 0600) and is there whole
or not at all, also after a power loss: write, fsync, rename, fsync of the directory. What is read is checked first:
a secret that others can read is refused, with the command that mends it. On Windows, which has no such modes, the
user's profile directory is what keeps others out, and the checks are left out.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import stat
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from p2pchat.errors import P2PChatError

POSIX = os.name == "posix"  # tests force the other branch
MAX_PRIVATE_BYTES = 64 * 1024  # keys and networks take a few hundred; more is some other file
UNTOUCHED = 24 * 3600.0  # seconds after which what stands beside its place was left by who was killed; a guess
OTHERS = stat.S_IRWXG | stat.S_IRWXO


def make_private_directory(path: Path) -> None:
    """Make `path` and what is missing above it, for the owner only (0700).

    A directory that exists is tightened when it is empty or ours by its `network` or `identity.pem`; another one is
    left as it is (the files in it are private themselves).
    Raises:
        P2PChatError: It cannot be made, or others may write in it.
    """
    try:
        for missing in reversed([p for p in (path, *path.parents) if not p.exists()]):
            missing.mkdir(mode=0o700, exist_ok=True)
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
    if not names or names & {"network", "identity.pem"}:
        path.chmod(0o700)
    elif mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise P2PChatError(f"others may write in {path} (mode {mode:04o}): run `chmod 700 {path}`, or choose another")


def write_private(path: Path, data: bytes) -> None:
    """Put `data` at `path`, whole or not at all, readable by the owner only; replaces what was there.

    Raises:
        OSError: The disk or the directory does not allow it; `path` is as it was.
    """
    aside = Aside(path)
    try:
        aside.file.write(data)
        aside.keep()
    finally:
        aside.discard()


def aside_of(path: Path) -> Path:
    """Return a name beside `path` that nobody has, for what is written there before it is put in place."""
    return path.with_name(f".{path.name}.{secrets.token_hex(6)}.new")


def remove_left(path: Path, untouched: float = UNTOUCHED) -> None:
    """Remove what writers of `path` left beside it when they were killed.

    Args:
        path: A file or a directory; it need not be there.
        untouched: Seconds that nothing may have been written in it; 0 for who knows, by a lock, that nobody writes.
    """
    is_left = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{12}}\.new").fullmatch
    for name in _names(path.parent):
        if is_left(name):
            remove_untouched(path.with_name(name), untouched)


def remove_untouched(left: Path, untouched: float) -> None:
    """Remove a file, or a directory with all that is in it, that nobody has written to for so many seconds."""
    with suppress(OSError):  # whoever removes it at the same moment, or may
        is_directory = left.is_dir() and not left.is_symlink()
        newest = max(each.lstat().st_mtime for each in ([left, *left.rglob("*")] if is_directory else [left]))
        if untouched and time.time() - newest < untouched:
            return
        if is_directory:
            shutil.rmtree(left)
        else:
            left.unlink()


def _names(directory: Path) -> list[str]:
    with suppress(OSError):
        return os.listdir(directory)
    return []


class Aside:
    """A file written beside its place and put there when it is whole, readable by the owner only.

    What was left of a former one that was killed a day ago or more goes.

    Attributes:
        file: Where to write. Then comes `keep`, and in any case `discard`, which does nothing after it.
    Raises:
        OSError: The directory does not allow it.
    """

    def __init__(self, path: Path) -> None:
        remove_left(path)
        self._path = path
        self._new = aside_of(path)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        self.file: BinaryIO = os.fdopen(os.open(self._new, flags, 0o600), "wb")

    def keep(self) -> None:
        """Make it survive a power loss, and put it in its place; replaces what was there."""
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()
        os.replace(self._new, self._path)
        sync_directory(self._path.parent)

    def discard(self) -> None:
        """Throw away what was not kept."""
        with suppress(OSError):  # what is still in the buffer of a full disk
            self.file.close()
        self._new.unlink(missing_ok=True)


def sync_directory(path: Path) -> None:
    """Make names put into a directory survive a power loss, where the system can do that."""
    if not POSIX:
        return
    fd = os.open(path, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
    try:
        os.fsync(fd)
    except OSError:
        pass  # some network and FUSE file systems cannot; the file itself is synced
    finally:
        os.close(fd)


def read_private(path: Path) -> bytes:
    """Return the content of a file that only its owner can read.

    A symbolic link is followed (mounted secrets are links); what counts is the file it leads to.
    Raises:
        FileNotFoundError: It is not there.
        P2PChatError: Others can read it, it is not a plain file, or it cannot be read; names the fix.
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
    if sys.platform == "win32" or not POSIX:  # said twice: type checkers understand only the first
        return
    mode = stat.S_IMODE(info.st_mode)
    if mode & OTHERS:
        raise P2PChatError(f"{path} can be read by others (mode {mode:04o}): run `chmod 600 {path}`")
    if info.st_uid not in (os.geteuid(), 0):
        raise P2PChatError(f"{path} belongs to another user: make a copy of your own, or choose another file")
