"""Opening a SQLite file: one connection that writes, one that reads, and how SQLite must be set for either.

Transactions are begun here and not by the driver: the writer's with `begin immediate`, so that it never has to turn
from a reader into a writer; the reader's plainly, so that all it reads in one call is of one moment.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.pool import NullPool

from p2pchat.errors import StorageError

PRAGMAS = {
    "journal_mode": "wal",
    "synchronous": "full",  # a commit has returned: it is on the disk
    "fullfsync": "on",  # macOS: only this makes the disk itself write; nothing elsewhere
    "checkpoint_fullfsync": "on",
    "foreign_keys": "off",  # rows are never deleted while others name them
}
PAGES_COPIED = 2000  # at once: 8 MiB, some 20 ms
SHOWN_PRAGMAS = ("journal_mode", "synchronous", "wal_autocheckpoint", "page_size", "cache_size")


def sqlite_url(path: Path) -> str:
    """Return the URL of a database file."""
    return URL.create("sqlite", database=str(path)).render_as_string()


def make_private(path: Path) -> None:
    """Create the file for its owner only, unless it is there; SQLite gives its side files the same mode."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        pass
    except OSError as error:
        raise StorageError(f"{path} cannot be created: {error.strerror}") from None


def open_connection(url: URL, begin: str, busy_timeout: float) -> Connection:
    """Return a connection that begins transactions with `begin`; any thread may use it, one at a time."""
    engine = create_engine(
        url,
        poolclass=NullPool,
        hide_parameters=True,  # they are what people wrote
        connect_args={"isolation_level": None, "check_same_thread": False, "timeout": busy_timeout},
    )
    _set_up(engine, begin)
    return engine.connect()


def temporary_copy(connection: Connection) -> Connection:
    """Return a connection to a copy of a whole database, which is nobody else's and ends with the connection.

    It lies in a file without a name, where SQLite puts what does not fit into memory.
    """

    def connect_to_nothing() -> sqlite3.Connection:
        return sqlite3.connect("", isolation_level=None, check_same_thread=False)

    engine = create_engine("sqlite://", creator=connect_to_nothing, poolclass=NullPool, hide_parameters=True)
    _set_up(engine, "begin")
    copy = engine.connect()
    driver_of(connection).backup(driver_of(copy))
    return copy


def _set_up(engine: Engine, begin: str) -> None:
    @event.listens_for(engine, "connect")
    def set_pragmas(driver: sqlite3.Connection, _record: Any) -> None:
        for name, value in PRAGMAS.items():
            driver.execute(f"pragma {name} = {value}")

    @event.listens_for(engine, "begin")
    def begin_transaction(connection: Connection) -> None:
        driver_of(connection).execute(begin)


def driver_of(connection: Connection) -> sqlite3.Connection:
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    return driver


def warm_log(connection: Connection, size_bytes: int) -> None:
    """Write and delete so many bytes, so that the write-ahead log has its size before the first commit.

    While that file still grows each fsync writes its size as well: 160 to 220 us a commit for the first thousands,
    105 to 115 afterwards. SQLite deletes the file at every clean close. A disk too full for it is no fault here.
    """
    driver = driver_of(connection)
    try:
        _write_and_delete(driver, size_bytes)
        driver.execute("pragma wal_checkpoint(restart)").fetchall()
        driver.execute("pragma shrink_memory")  # 2 MiB of pages that are nothing now
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_FULL:
            raise


def empty_log(connection: Connection) -> None:
    """Have what is in the write-ahead log written where it belongs: otherwise one commit in 200 does it, 0.4 ms.

    For the connection that writes, and no other: two that do this and commit at one moment can damage the database
    (SQLite before 3.51.3, https://sqlite.org/wal.html, "WAL-reset bug").
    """
    driver_of(connection).execute("pragma wal_checkpoint(passive)").fetchall()


def try_out(connection: Connection, size_bytes: int) -> None:
    """Write and delete so many bytes; raises what a commit would. The log is emptied first, as far as it can be."""
    driver = driver_of(connection)
    driver.execute("pragma wal_checkpoint(truncate)").fetchall()
    _write_and_delete(driver, size_bytes)


def _write_and_delete(driver: sqlite3.Connection, size_bytes: int) -> None:
    driver.execute("create table if not exists warmth (x blob)")
    driver.execute("insert into warmth values (zeroblob(?))", (size_bytes,))
    driver.execute("drop table warmth")


def pragmas(connection: Connection) -> dict[str, str]:
    """Return how SQLite is really set, for benchmarks and `doctor`."""
    driver = driver_of(connection)
    return {name: str(driver.execute(f"pragma {name}").fetchone()[0]) for name in SHOWN_PRAGMAS}


def faults(connection: Connection, most: int) -> list[str]:
    """Read the whole database and return what is wrong in its structure, at most so many, in SQLite's words."""
    rows = driver_of(connection).execute(f"pragma integrity_check({most})").fetchall()
    return [] if rows == [("ok",)] else [str(row[0]) for row in rows]


def copy_to(connection: Connection, path: Path, progress: Callable[[int, int], None]) -> None:
    """Copy the whole database of a connection into a new file, as it is at this moment.

    Args:
        connection: Inside a transaction: what others commit meanwhile is not in the copy.
        progress: Told after every some thousand pages how many bytes are copied, of how many.
    """
    driver = driver_of(connection)
    driver.execute("select count(*) from meta").fetchone()  # the moment: from here on nothing else is seen
    page_bytes = driver.execute("pragma page_size").fetchone()[0]

    def told(_status: int, remaining: int, total: int) -> None:
        progress((total - remaining) * page_bytes, total * page_bytes)

    make_private(path)
    target = sqlite3.connect(path)
    try:
        driver.backup(target, pages=PAGES_COPIED, progress=told, sleep=0)
    finally:
        target.close()
