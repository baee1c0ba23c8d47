"""A peer's data into another database: from SQLite to a server, back, or from one server to the other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from p2pchat.errors import P2PChatError
from p2pchat.identity.private_files import make_private_directory
from p2pchat.identity.profile import DATABASE_NAME, held
from p2pchat.resources import MEMORY_URL, PathLike
from p2pchat.storage.connect import sqlite_url


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
    return await asyncio.to_thread(_copy, str(source), str(target), told)


def _copy(source: str, target: str, progress: Callable[[int, int], None]) -> Copied:
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
