"""Copies of a profile and of its database.

A backup has key, network, database and the files of messages in one directory, on which a peer can run. The peer may be
running during the backup: the database is copied as it was at one moment. The files are copied after it: the file of
a message is kept before the message is, so the copy has the file of each message that it has, if the peer has it. What
has not come whole is left out; the copy fetches it from others. The directory appears when it is complete. Anyone who
has it can act as the user, so it is readable by the owner only.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from p2pchat.errors import P2PChatError, StorageError
from p2pchat.identity.network import FILE_NAME as NETWORK_NAME
from p2pchat.identity.network import GUEST_NAME, save_certificates, save_network
from p2pchat.identity.profile import DATABASE_NAME, data_directory, locked, network_of, stored_identity, stored_keys
from p2pchat.peer_resources import MEMORY_URL, PathLike
from p2pchat.private_files import (
    MAX_PRIVATE_BYTES,
    directory_made_whole,
    make_private_directory,
    remove_leftovers,
    sync_directory,
    sync_file,
    write_private,
)
from p2pchat.storage.content_store import CONTENT_NAME, whole_files
from p2pchat.storage.database import Database, flat, translate_errors
from p2pchat.storage.dialects.dialect import Dialect
from p2pchat.storage.dialects.sqlite_dialect import sqlite_url
from p2pchat.storage.schema import NEWEST_HEAD, OWN_KEYS, TABLES, Table, meta
from p2pchat.storage.sql_storage import SqlStorage, dialect_of
from p2pchat.threads import in_thread

Progress = Callable[[int, int], None]  # called with what is copied, and all: bytes of a file, rows of a database

LEFT_OUT = ("lock", "control.", "search.db")  # beginnings of names: files of a process, or made again
COPY_BYTES = 1024 * 1024  # of a file at once; a guess
NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)


def _report_nothing(done: int, total: int) -> None:
    """Tell nobody how far a copy is."""


@dataclass(frozen=True)
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
    files: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> Backup:
    """Copy key, network (also that of the login), database and files of a profile. Its peer may be running.

    Args:
        data: The peer's data directory, or its port.
        to: A directory that does not exist or is empty; only its owner may read it.
        db: The URL of the database, if that is elsewhere; the copy has it at its usual place.
        files: Whether attached files that are complete here are copied.
        progress: Called in a thread, now and then, with the number of bytes copied, and of all.
    Raises:
        P2PChatError: There is no peer, or the copy cannot be made.
        StorageError: The database cannot be read.
    """
    directory = data_directory(data)
    if db is not None and db.startswith("memory:"):
        raise P2PChatError("a database in memory cannot be copied: export from the running peer")
    if db is not None and not db.startswith("sqlite"):
        raise P2PChatError("this database has its own backup tools: use them, and copy the data directory, too")
    target = Path(os.path.realpath(os.path.expanduser(to)))
    return await in_thread(_backup, directory, target, db, files, progress or _report_nothing)


def _backup(directory: Path, to: Path, db: str | None, files: bool, progress: Progress) -> Backup:
    stored_identity(directory)  # readable, and a key
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise P2PChatError(f"{to} exists and is not empty: name another directory")
    remove_leftovers(to)
    with directory_made_whole(to) as aside:
        _copy(directory, aside, db, files, progress)
    return Backup(to, sum(path.stat().st_size for path in to.rglob("*") if path.is_file()))


def _copy(directory: Path, to: Path, db: str | None, files: bool, progress: Progress) -> None:
    # The database first: it may fail, and the files of its messages are there by then.
    content = directory / CONTENT_NAME
    size = sum(whole_files(content).values()) if files else 0
    storage = SqlStorage(db or sqlite_url(directory / DATABASE_NAME), read_only=True)
    try:
        storage.copy_to(to / DATABASE_NAME, lambda done, total: progress(done, total + size))
    finally:
        storage.close()
    if files:
        _copy_content(content, to / CONTENT_NAME, (to / DATABASE_NAME).stat().st_size, progress)
    network = network_of(directory)
    for path in sorted(directory.iterdir()):
        if _is_copied(path):
            write_private(to / path.name, path.read_bytes())
    save_network(to / NETWORK_NAME, network)
    save_certificates(to / GUEST_NAME, network, stored_keys(directory))


def _copy_content(content: Path, to: Path, done: int, progress: Progress) -> None:
    """Copy whole content. `done`: the bytes that are copied already."""
    sizes = whole_files(content)
    total = done + sum(sizes.values())
    if sizes:
        make_private_directory(to)
    for path, size in sizes.items():
        with suppress(FileNotFoundError):  # deleted since
            for copied in _copy_file(path, to / path.name):
                progress(done + copied, total)
        done += size
    if sizes:
        progress(total, total)
        sync_directory(to)


def _copy_file(path: Path, to: Path) -> Iterator[int]:
    """Copy a file, and yield how many of its bytes are copied, now and then."""
    with path.open("rb") as source, open(os.open(to, NEW_FILE, 0o600), "wb") as copy:
        while data := source.read(COPY_BYTES):
            copy.write(data)
            yield copy.tell()
        copy.flush()
        sync_file(copy.fileno())


def _is_copied(path: Path) -> bool:
    """Return whether a file belongs to the profile: its key, and settings of the terminal."""
    own = not path.name.startswith((DATABASE_NAME, *LEFT_OUT, "."))
    return own and path.is_file() and not path.is_symlink() and path.stat().st_size <= 16 * MAX_PRIVATE_BYTES


# ---- copying a database into another: from SQLite to a server, back, or from one server to another


@dataclass(frozen=True)
class Copied:
    """The result of copy_database.

    Attributes:
        rows: The number of rows of all tables.
        entries: How many of them are entries.
        logs: How many of them are logs.
    """

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
        DataLocked: A peer is running with one of them.
        P2PChatError: There is nothing to copy.
        StorageError: One of them cannot be used; nothing was copied.
    """
    return await in_thread(_copy_database, str(source), str(target), progress or _report_nothing)


def _copy_database(source: str, target: str, progress: Progress) -> Copied:
    with ExitStack() as locks:
        (read, source_profile), (write, target_profile) = _find(source, create=False), _find(target, create=True)
        profiles = [found.resolve() for found in (source_profile, target_profile) if found is not None]
        if read == write or len(set(profiles)) < len(profiles):
            raise P2PChatError("source and target are the same database: name two")
        for profile in profiles:
            if profile.is_dir():
                locks.enter_context(locked(profile))
        return copy_rows(read, write, progress)


def _find(place: str, *, create: bool) -> tuple[str, Path | None]:
    """Return the URL of a database, and the profile that it is in, if any."""
    if place.startswith(MEMORY_URL):
        raise P2PChatError("a database in memory cannot be copied: export from the running peer")
    if "://" in place:
        file = place.partition("sqlite:///")[2] if place.startswith("sqlite:///") else ""
        directory = Path(file).parent if Path(file).name == DATABASE_NAME else None
    else:
        directory = Path(os.path.expanduser(place)).absolute()
        place = sqlite_url(directory / DATABASE_NAME)
        if create:
            make_private_directory(directory)
        elif not directory.is_dir():
            raise P2PChatError(f"there is no peer in {directory}: name the data directory of one")
    return place, directory


# ---- the rows of a database
#
# All rows are read as of one moment and written in one transaction, so the other database gets everything or nothing.
# At the end both are compared: the number of rows of each table, and the last head of every log, which proves the rest.

BUSY_TIMEOUT = 1.0  # seconds to wait for a peer that is just ending
ROWS_AT_ONCE = 1024  # read at once, and written in a few statements
LAST_HEADS = f"select h.id, h.size, h.chain, h.sig from logs l {NEWEST_HEAD} order by l.number"


def copy_rows(source: str, target: str, progress: Progress = _report_nothing) -> Copied:
    """Copy one database, given by its URL, into another one that is empty.

    Raises:
        StorageError: Another program writes into one of them, the target is not empty, or it cannot take a value.
    """
    with ExitStack() as ends:
        read, write = dialect_of(source, BUSY_TIMEOUT), dialect_of(target, BUSY_TIMEOUT)
        with translate_errors(read):
            origin = ends.enter_context(closing(_open_source(read, ends)))
        with translate_errors(write):
            copy = ends.enter_context(closing(Database(write, writes=True)))
            _make_tables(copy)
            with copy.transaction(), origin.transaction():
                return _copy_rows(origin, copy, progress)


def _open_source(dialect: Dialect, ends: ExitStack) -> Database:
    """Open the source for reading. On a server take the writer's lock too, so that no peer writes during the copy."""
    dialect.require()
    if dialect.is_shared:
        ends.enter_context(closing(Database(dialect, writes=True)))
    database = Database(dialect)
    with database.transaction():
        database.check()
    return database


def _make_tables(database: Database) -> None:
    database.prepare()
    with database.transaction():
        for table in TABLES:
            if any(row for row in database.all(f"select * from {table.name} limit 3") if not _is_own(table, row)):
                raise StorageError(f"{database.dialect.where} holds something already: copy into an empty database")


def _is_own(table: Table, row: Any) -> bool:
    """Return whether this row is about the database itself, and not about a peer."""
    return table is meta and row[0] in OWN_KEYS


def _copy_rows(source: Database, target: Database, progress: Progress) -> Copied:
    with translate_errors(source.dialect):
        counts = _counts(source)
    total = sum(counts.values())
    done = 0
    for table in TABLES:
        for rows in _pages(source, table):
            kept = [row for row in rows if not _is_own(table, row)]
            target.insert(table, flat(kept))
            done += len(kept)
            progress(done, total)
    _compare(source, target, counts)
    return Copied(total, counts["entries"], counts["logs"])


def _counts(database: Database) -> dict[str, int]:
    """Return the number of rows of each table, without those about the database itself."""
    found = {table.name: int(database.value(f"select count(*) from {table.name}")) for table in TABLES}
    found[meta.name] -= int(database.value(f"select count(*) from {meta.name} where name in {OWN_KEYS}"))
    return found


def _pages(database: Database, table: Table) -> Iterator[Sequence[Any]]:
    """Yield the rows of a table, some at a time."""
    with translate_errors(database.dialect):
        yield from database.pages(f"select {', '.join(table.names)} from {table.name}", ROWS_AT_ONCE)


def _compare(source: Database, target: Database, counts: dict[str, int]) -> None:
    """Raise StorageError unless the copy has as many rows in each table and the same last heads."""
    for name, count in _counts(target).items():
        if count != counts[name]:
            raise StorageError(f"the copy has {count} rows of {name} and not {counts[name]}: nothing of it was kept")
    with translate_errors(source.dialect):
        wanted = source.all(LAST_HEADS)
    for one, other in zip_longest(wanted, target.all(LAST_HEADS)):
        if tuple(one or ()) != tuple(other or ()):
            raise StorageError("the copy of a log does not end as the log does: nothing of it was kept")
