"""SQLite: one file, this process its only server; how it is opened and looked after is in sqlite.py."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool
from sqlalchemy.schema import CreateIndex, CreateTable

from p2pchat.errors import StorageError
from p2pchat.storage import migrations
from p2pchat.storage.database import Database
from p2pchat.storage.dialects.dialect import Dialect
from p2pchat.storage.errors import DAMAGED, sentence
from p2pchat.storage.schema import metadata
from p2pchat.storage.verify import unproven, wrong_types


class SQLiteDialect(Dialect):
    """A database in a file."""

    errors = (sqlite3.Error,)
    begins = "begin immediate"
    path: Path

    def __init__(self, url: URL, busy_timeout: float) -> None:
        if url.database in (None, "", ":memory:"):
            raise StorageError("a database without a file keeps nothing: name a file, sqlite:////absolute/path")
        self.path = Path(str(url.database))
        self.where = str(self.path)
        self.damaged = DAMAGED.format(where=self.where)
        self._url = url
        self._busy_timeout = busy_timeout

    def require(self) -> None:
        if not self.path.exists():
            raise StorageError(f"nothing is stored at {self.path}: name another file, or start a peer there first")

    def connect(self, *, writes: bool) -> Connection:
        if writes:
            make_private(self.path)
        return open_connection(self._url, self.begins if writes else "begin", self._busy_timeout)

    def answers(self, connection: Connection) -> bool:
        return True

    def sentence(self, error: BaseException | None) -> str:
        return sentence(error, self.where)

    def make_tables(self, database: Database) -> None:
        for statement in _making():
            database.run(statement)

    def older(self, database: Database) -> Database | None:
        """Who may not write reads a database of an earlier version as it will be: from a copy that is up to date."""
        with database.begin():
            older = migrations.is_older(database)
        if not older:
            return None
        copy = Database(self, connection=temporary_copy(database.connection))
        migrations.bring_up_to_date(copy)
        return copy

    def keep_former(self, database: Database, version: int) -> None:
        copy = self.path.with_name(f"{self.path.name}.version-{version}")
        copy.unlink(missing_ok=True)
        make_private(copy)
        target = sqlite3.connect(copy)
        try:
            driver_of(database.connection).backup(target)
        finally:
            target.close()
        with open(copy, "rb") as written:
            os.fsync(written.fileno())

    def warm(self, database: Database, size_bytes: int) -> None:
        warm_log(database.connection, size_bytes)

    def tidy(self, database: Database) -> None:
        empty_log(database.connection)

    def check_writable(self, database: Database, size_bytes: int) -> None:
        check_writable(database.connection, size_bytes)

    def most_stored(self, database: Database) -> int:
        return int(database.value("pragma page_count") * database.value("pragma page_size"))

    def size_on_disk(self, database: Database) -> int:
        """Return the bytes of the database file and of its write-ahead log."""
        files = (self.path, self.path.with_name(f"{self.path.name}-wal"))
        return sum(path.stat().st_size for path in files if path.exists())

    def faults(self, database: Database, most: int) -> list[str]:
        return faults(database.connection, most)

    def wrong_types(self, database: Database) -> Iterator[str]:
        return wrong_types(database)

    def is_damaged(self, database: Database) -> bool:
        """Whether anything is wrong; the quick looks first. It may take 10 s a million entries."""
        try:
            with database.begin():
                return any(wrong_types(database)) or bool(self.faults(database, 1) or unproven(database, 1))
        except (DBAPIError, sqlite3.Error):
            return True

    def copy_to(self, database: Database, path: Path, progress: Callable[[int, int], None]) -> None:
        copy_to(database.connection, path, progress)

    def interrupt(self, database: Database) -> None:
        driver_of(database.connection).interrupt()

    def facts(self, database: Database) -> dict[str, str]:
        return pragmas(database.connection)


@lru_cache
def _making() -> Sequence[str]:
    """Return what makes the tables of an empty database.

    SQLAlchemy would look for each of them first, and work out its text for each database anew.
    """
    made: list[CreateTable | CreateIndex] = []
    for table in metadata.sorted_tables:
        made += [CreateTable(table), *map(CreateIndex, sorted(table.indexes, key=lambda index: str(index.name)))]
    return [str(each.compile(dialect=sqlite.dialect())) for each in made]


# ---- connect
#
# Opening a SQLite file: one connection that writes, one that reads, and how SQLite must be set for either.
#
# Transactions are begun here and not by the driver: the writer's with `begin immediate`, so that it never has to turn
# from a reader into a writer; the reader's plainly, so that all it reads in one call is of one moment.


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


def check_writable(connection: Connection, size_bytes: int) -> None:
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
