"""Copies of a profile and of its database.

A backup has key, network and database in one directory, on which a peer can run. The peer may be running meanwhile: the
database is copied as it was at one moment. The directory appears when it is complete. Whoever has it can act as the
user, so it is readable by the owner only.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from p2pchat.errors import P2PChatError
from p2pchat.identity.network import FILE_NAME as NETWORK_NAME
from p2pchat.identity.network import save_network
from p2pchat.identity.private_files import (
    MAX_PRIVATE_BYTES,
    make_private_directory,
    remove_leftovers,
    sync_directory,
    temporary_path,
    write_private,
)
from p2pchat.identity.profile import DATABASE_NAME, data_directory, locked, network_of, stored_identity
from p2pchat.resources import MEMORY_URL, PathLike
from p2pchat.storage.dialects.sqlite import sqlite_url
from p2pchat.storage.sql import SqlStorage

LEFT_OUT = ("lock", "control.", "search.db")  # beginnings of names: files of a process, or made again


@dataclass(frozen=True, slots=True)
class Backup:
    """The result of backup_profile.

    Attributes:
        directory: The copy; `p2pchat PORT --data DIRECTORY` runs it.
        size_bytes: The size of all its files.
    """

    directory: Path
    size_bytes: int


async def backup_profile(
    data: PathLike | int,
    to: PathLike,
    *,
    db: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Backup:
    """Copy key, network (also that of the login) and database of a profile, whose peer may be running.

    Args:
        data: The peer's data directory, or its port.
        to: A directory that does not exist or is empty; only its owner may read it.
        db: The URL of the database, if that is elsewhere; the copy has it at its usual place.
        progress: Called in a thread, now and then, with the number of bytes of the database copied, and of all.
    Raises:
        P2PChatError: There is no peer, or the copy cannot be made. StorageError: The database cannot be read.
    """
    directory = data_directory(data)
    if db is not None and db.startswith("memory:"):
        raise P2PChatError("a database in memory cannot be copied: export from the running peer")
    if db is not None and not db.startswith("sqlite"):
        raise P2PChatError("this database has its own backup tools: use them, and copy the data directory, too")
    report = progress or (lambda done, total: None)
    return await asyncio.to_thread(_backup, directory, Path(to).expanduser().absolute(), db, report)


def _backup(directory: Path, to: Path, db: str | None, progress: Callable[[int, int], None]) -> Backup:
    stored_identity(directory)  # readable, and a key
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise P2PChatError(f"{to} exists and is not empty: name another directory")
    aside = temporary_path(to)
    remove_leftovers(to)
    try:
        make_private_directory(aside)
        _copy(directory, aside, db, progress)
        if to.exists():
            to.rmdir()  # it is empty; not every system renames onto an empty directory
        os.replace(aside, to)
        sync_directory(to.parent)
    except OSError as error:
        raise P2PChatError(f"cannot make {to}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return Backup(to, sum(path.stat().st_size for path in to.iterdir()))


def _copy(directory: Path, to: Path, db: str | None, progress: Callable[[int, int], None]) -> None:
    # The database first: it takes longest, and may fail.
    storage = SqlStorage(db or sqlite_url(directory / DATABASE_NAME), read_only=True)
    try:
        storage.copy_to(to / DATABASE_NAME, progress)
    finally:
        storage.close()
    network = network_of(directory)
    for path in sorted(directory.iterdir()):
        if _is_copied(path):
            write_private(to / path.name, path.read_bytes())
    save_network(to / NETWORK_NAME, network)


def _is_copied(path: Path) -> bool:
    """Return whether a file belongs to the profile: its key, and settings of the terminal."""
    own = not path.name.startswith((DATABASE_NAME, *LEFT_OUT, "."))
    return own and path.is_file() and not path.is_symlink() and path.stat().st_size <= 16 * MAX_PRIVATE_BYTES


# ---- copying a database into another: from SQLite to a server, back, or from one server to another


@dataclass(frozen=True, slots=True)
class Copied:
    """The result of copy_database: the rows of all tables, and how many of them are entries and logs."""

    rows: int
    entries: int
    logs: int


async def copy_database(
    source: PathLike, target: PathLike, *, progress: Callable[[int, int], None] | None = None
) -> Copied:
    """Copy one database into another one, which must be empty; neither may be in use.

    Key and network stay in the data directory.

    Args:
        source: The URL of a database, or a data directory for the database in it.
        target: The same. It is created if it does not exist, except on a database server.
        progress: Called in a thread, now and then, with the number of rows copied, and of all.
    Raises:
        DataLocked: A peer is running with one of them. P2PChatError: There is nothing to copy.
        StorageError: One of them cannot be used; nothing was copied.
    """
    report = progress or (lambda done, total: None)
    return await asyncio.to_thread(_copy_database, str(source), str(target), report)


def _copy_database(source: str, target: str, progress: Callable[[int, int], None]) -> Copied:
    from p2pchat.storage.copy import copy_rows

    with ExitStack() as locks:
        read, write = _lock(source, locks, create=False), _lock(target, locks, create=True)
        if read == write:
            raise P2PChatError("source and target are the same database: name two")
        done = copy_rows(read, write, progress)
    return Copied(done.rows, done.entries, done.logs)


def _lock(place: str, locks: ExitStack, *, create: bool) -> str:
    """Return the URL of a database, and hold the lock of its profile."""
    if place.startswith(MEMORY_URL):
        raise P2PChatError("a database in memory cannot be copied: export from the running peer")
    if "://" in place:
        file = place.partition("sqlite:///")[2] if place.startswith("sqlite:///") else ""
        directory = Path(file).parent if Path(file).name == DATABASE_NAME else None
    else:
        directory = Path(place).expanduser().absolute()
        place = sqlite_url(directory / DATABASE_NAME)
        if create:
            make_private_directory(directory)
        elif not directory.is_dir():
            raise P2PChatError(f"there is no peer in {directory}: name the data directory of one")
    if directory is not None and directory.is_dir():
        locks.enter_context(locked(directory))
    return place
