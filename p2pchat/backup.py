"""A copy of a whole profile: key, network and database, as one directory that a peer can run on.

It may be made beside the running peer: the database is copied as it was at one moment. The directory is there whole
or not at all. It holds the key and the network's key: whoever has it can be this user, so it is for the owner only.
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
from p2pchat.identity.keys import load_identity
from p2pchat.identity.network import FILE_NAME as NETWORK_NAME
from p2pchat.identity.network import load_network, login_network, save_network
from p2pchat.identity.private_files import (
    MAX_PRIVATE_BYTES,
    aside_of,
    make_private_directory,
    remove_left,
    sync_directory,
    write_private,
)
from p2pchat.identity.profile import DATABASE_NAME, KEY_NAME, held, home_directory, profile_directory
from p2pchat.resources import MEMORY_URL, PathLike
from p2pchat.storage.dialects.sqlite import sqlite_url
from p2pchat.storage.sql import SqlStorage

KEPT_OUT = ("lock", "control.", "search.db")  # beginnings of names: what belongs to a process, or is made again


@dataclass(frozen=True, slots=True)
class Backup:
    """A copy that was made.

    Attributes:
        directory: Where it is: `p2pchat PORT --data DIRECTORY` runs it.
        size_bytes: All its files together.
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
    """Copy a profile: key, network (also when it is the login's) and database, also while its peer runs.

    Args:
        data: The peer's data directory, or its port.
        to: A directory that does not exist or is empty; made for its owner only.
        db: The database, when that is elsewhere; the copy has it at its usual place.
        progress: Told now and then how many bytes of the database are copied, of how many; called in a thread.
    Raises:
        P2PChatError: There is no peer, or the copy cannot be made. StorageError: The database cannot be read.
    """
    directory = profile_directory(data) if isinstance(data, int) else Path(data).expanduser()
    if db is not None and db.startswith("memory:"):
        raise P2PChatError("what is kept in memory cannot be copied: export it from the running peer")
    if db is not None and not db.startswith("sqlite"):
        raise P2PChatError("that database has its own tools for copies: use them, and copy the data directory beside")
    told = progress or (lambda done, total: None)
    return await asyncio.to_thread(_backup, directory, Path(to).expanduser().absolute(), db, told)


def _backup(directory: Path, to: Path, db: str | None, progress: Callable[[int, int], None]) -> Backup:
    try:
        load_identity(directory / KEY_NAME)  # readable, and a key
    except FileNotFoundError:
        raise P2PChatError(f"there is no peer in {directory}: name the data directory of one") from None
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise P2PChatError(f"{to} is there already, and not empty: name a directory that is not")
    aside = aside_of(to)
    remove_left(to)
    try:
        make_private_directory(aside)
        _copy(directory, aside, db, progress)
        if to.exists():
            to.rmdir()  # empty: not every system renames onto one
        os.replace(aside, to)
        sync_directory(to.parent)
    except OSError as error:
        raise P2PChatError(f"cannot make {to}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return Backup(to, sum(path.stat().st_size for path in to.iterdir()))


def _copy(directory: Path, to: Path, db: str | None, progress: Callable[[int, int], None]) -> None:
    """The database first: what takes long, and may fail."""
    storage = SqlStorage(db or sqlite_url(directory / DATABASE_NAME), read_only=True)
    try:
        storage.copy_to(to / DATABASE_NAME, progress)
    finally:
        storage.close()
    network = load_network(directory / NETWORK_NAME) or login_network(home_directory())
    for path in sorted(directory.iterdir()):
        if _goes_along(path):
            write_private(to / path.name, path.read_bytes())
    save_network(to / NETWORK_NAME, network)


def _goes_along(path: Path) -> bool:
    """Whether a file belongs to the peer: its key, and what the terminal remembers of it."""
    own = not path.name.startswith((DATABASE_NAME, *KEPT_OUT, "."))
    return own and path.is_file() and not path.is_symlink() and path.stat().st_size <= 16 * MAX_PRIVATE_BYTES


# ---- copying
#
# A peer's data into another database: from SQLite to a server, back, or from one server to the other.


@dataclass(frozen=True, slots=True)
class Copied:
    """What was copied: rows of all tables, the messages and other entries among them, and the logs they are in."""

    rows: int
    entries: int
    logs: int


async def copy_database(
    source: PathLike, target: PathLike, *, progress: Callable[[int, int], None] | None = None
) -> Copied:
    """Copy everything stored from one database into another one, which must be empty; neither may be in use.

    Key and network stay where they are: in the data directory.

    Args:
        source: A database URL, or a data directory, whose own database is meant.
        target: The same; what is not there is made, but for a database on a server.
        progress: Told now and then how many rows are copied, of how many; called in a thread.
    Raises:
        DataLocked: A peer runs with one of them. P2PChatError: There is nothing to copy.
        StorageError: One of them cannot be used; nothing was copied.
    """
    told = progress or (lambda done, total: None)
    return await asyncio.to_thread(_copy_copying, str(source), str(target), told)


def _copy_copying(source: str, target: str, progress: Callable[[int, int], None]) -> Copied:
    from p2pchat.storage.copy import copy_rows

    with ExitStack() as locks:
        read, write = _opened(source, locks, make=False), _opened(target, locks, make=True)
        if read == write:
            raise P2PChatError("from and to are the same database: name two")
        done = copy_rows(read, write, progress)
    return Copied(done.rows, done.entries, done.logs)


def _opened(place: str, locks: ExitStack, *, make: bool) -> str:
    """Return the URL of a place, after making sure that no peer uses it."""
    if place.startswith(MEMORY_URL):
        raise P2PChatError("what is kept in memory cannot be copied: export it from the running peer")
    if "://" in place:
        file = place.partition("sqlite:///")[2] if place.startswith("sqlite:///") else ""
        directory = Path(file).parent if Path(file).name == DATABASE_NAME else None
    else:
        directory = Path(place).expanduser().absolute()
        place = sqlite_url(directory / DATABASE_NAME)
        if make:
            make_private_directory(directory)
        elif not directory.is_dir():
            raise P2PChatError(f"there is no peer in {directory}: name the data directory of one")
    if directory is not None and directory.is_dir():
        locks.enter_context(held(directory))
    return place
