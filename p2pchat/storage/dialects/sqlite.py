"""SQLite: one file, without a server.

One connection writes, one reads. Transactions are begun here and not by the driver: the writer's with `begin
immediate`, so that it never has to turn from a reader into a writer; the reader's plainly, so that everything read in
one call is of one moment.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

from p2pchat.errors import StorageError
from p2pchat.storage import schema
from p2pchat.storage.database import Database
from p2pchat.storage.dialects.dialect import BUSY, COMMON_TYPES, FULL, DatabaseURL, Dialect
from p2pchat.storage.schema import BIGINT, BYTES, NUMBER, SMALLINT, TABLES, Column

PRAGMAS = {
    "journal_mode": "wal",
    "synchronous": "full",  # a commit that has returned is on the disk
    "fullfsync": "on",  # macOS: only this makes the disk itself write; nothing elsewhere
    "checkpoint_fullfsync": "on",
    "secure_delete": "on",  # a deleted key leaves the file; so is Debian's SQLite built, others are not
    "foreign_keys": "off",  # rows are never deleted while others name them
}
# On a full disk there is no room for the index of the write-ahead log, 32 KiB. This file system of SQLite keeps it in
# memory; then no other process can read the database.
EXCLUSIVE = "unix-excl"
PAGES_COPIED = 2000  # at once: 8 MiB, some 20 ms
SHOWN_PRAGMAS = ("journal_mode", "synchronous", "wal_autocheckpoint", "page_size", "cache_size")
TABLE_NAMES = "select name from sqlite_master where type = 'table' and name not like 'sqlite!_%' escape '!'"
DAMAGED = (
    "{where} is damaged: move it away and start again, what others hold comes back by itself;"
    " or put a backup in its place"
)
NOT_TEXT = "Could not decode to UTF-8"  # this error of the driver has a text and no code
SENTENCES = {
    sqlite3.SQLITE_FULL: FULL,
    sqlite3.SQLITE_IOERR_SHMSIZE: FULL,
    sqlite3.SQLITE_BUSY: BUSY,
    sqlite3.SQLITE_LOCKED: BUSY,
    sqlite3.SQLITE_CORRUPT: DAMAGED,
    sqlite3.SQLITE_NOTADB: "{where} is not a database: name another file, or move this one away",
    sqlite3.SQLITE_READONLY: "{where} cannot be written: check its owner and its permissions",
    sqlite3.SQLITE_PERM: "{where} cannot be written: check its owner and its permissions",
    sqlite3.SQLITE_CANTOPEN: "{where} cannot be opened: check that its directory exists and may be written",
    sqlite3.SQLITE_IOERR: "the disk that holds {where} cannot be read or written: check the disk",
}


class SQLiteDialect(Dialect):
    """A database in a file."""

    errors = (sqlite3.Error,)
    types = COMMON_TYPES | {NUMBER: "INTEGER", BYTES: "BLOB"}  # INTEGER PRIMARY KEY is the row id
    table_names_query = TABLE_NAMES
    begins_write = "begin immediate"
    begins_read = "begin"
    path: Path

    def __init__(self, url: DatabaseURL, busy_timeout: float) -> None:
        if url.database in ("", ":memory:"):
            raise StorageError("a database without a file keeps nothing: name a file, sqlite:////absolute/path")
        self.path = Path(url.database)
        self.where = str(self.path)
        self.damaged = DAMAGED.format(where=self.where)
        self._busy_timeout = busy_timeout

    def require(self) -> None:
        if not self.path.exists():
            raise StorageError(f"nothing is stored at {self.path}: name another file, or start a peer there first")

    def connect(self, *, writes: bool) -> sqlite3.Connection:
        """Return a connection; any thread may use it, one at a time."""
        if writes:
            make_private(self.path)
        try:
            return _open(str(self.path), self._busy_timeout)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_IOERR_SHMSIZE:
                raise
            try:
                return _open(f"{self.path.absolute().as_uri()}?vfs={EXCLUSIVE}", self._busy_timeout)
            except sqlite3.Error:
                raise error from None  # Windows has no such file system

    def explain(self, error: BaseException | None) -> str:
        code = getattr(error, "sqlite_errorcode", 0)
        if code != sqlite3.SQLITE_IOERR_SHMSIZE:
            code &= 0xFF  # the higher bits say more, which is not needed
        known = DAMAGED if str(error).startswith(NOT_TEXT) else SENTENCES.get(code)
        if known is not None:
            return known.format(where=self.where)
        return f"{self.where} cannot be used ({getattr(error, 'sqlite_errorname', type(error).__name__)})"

    # ---- tables

    def upgraded(self, database: Database) -> Database:
        """A reader may not write: it reads a migrated copy, which SQLite keeps in memory or in a temporary file.

        Only this connection sees the copy, which ends with it.
        """
        with database.transaction():
            found = schema.version(database)
        if found is None or found >= schema.SCHEMA_VERSION:
            return database
        copy = Database(self, driver=_connect("", self._busy_timeout))
        database.driver.backup(copy.driver)
        database.close()
        schema.migrate(copy, found)
        return copy

    def back_up(self, database: Database, version: int) -> None:
        copy = self.path.with_name(f"{self.path.name}.version-{version}")
        copy.unlink(missing_ok=True)
        copy_database(database.driver, copy)
        with open(copy, "rb") as written:
            os.fsync(written.fileno())

    # ---- care

    def warm(self, database: Database, size_bytes: int) -> None:
        """Write and delete so many bytes, so that the write-ahead log has its size before the first commit.

        While that file still grows each fsync writes its size as well: 160 to 220 us a commit for the first thousands,
        105 to 115 afterwards. SQLite deletes the file at every clean close. A disk too full for it is no fault here.
        """
        try:
            _write_and_delete(database.driver, size_bytes)
            database.driver.execute("pragma wal_checkpoint(restart)").fetchall()
            database.driver.execute("pragma shrink_memory")  # 2 MiB of pages that are of no use now
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_FULL:
                raise

    def tidy(self, database: Database) -> None:
        """Move the write-ahead log into the database: otherwise one commit in 200 does it, which takes 0.4 ms.

        Only the connection that writes may do this: a checkpoint and a commit of two connections at one moment can
        damage the database (SQLite before 3.51.3, https://sqlite.org/wal.html, "WAL-reset bug").
        """
        database.driver.execute("pragma wal_checkpoint(passive)").fetchall()

    def check_writable(self, database: Database, size_bytes: int) -> None:
        """Write and delete so many bytes. The log is emptied first, as far as it can be."""
        database.driver.execute("pragma wal_checkpoint(truncate)").fetchall()
        _write_and_delete(database.driver, size_bytes)

    def most_stored(self, database: Database) -> int:
        return int(database.value("pragma page_count") * database.value("pragma page_size"))

    def size_on_disk(self, database: Database) -> int:
        """Return the bytes of the database file and of its write-ahead log."""
        files = (self.path, self.path.with_name(f"{self.path.name}-wal"))
        return sum(path.stat().st_size for path in files if path.exists())

    def faults(self, database: Database, most: int) -> list[str]:
        """Read the whole database; return what is wrong with its structure, in SQLite's words."""
        rows = database.all(f"pragma integrity_check({most})")
        return [] if rows == [("ok",)] else [str(row[0]) for row in rows]

    def wrong_types(self, database: Database) -> Iterator[str]:
        for table in TABLES:
            wrong = " or ".join(f"typeof({column.name}) not in {_kinds(column)}" for column in table.columns)
            if count := database.value(f"select count(*) from {table.name} where {wrong}"):
                yield f"{count} rows of {table.name} hold values of a wrong type"

    def copy_to(self, database: Database, path: Path, progress: Callable[[int, int], None]) -> None:
        """Copy the whole database; inside a transaction, so that later commits of others are not in the copy."""
        database.value("select count(*) from meta")  # the moment that is copied begins here
        copy_database(database.driver, path, progress)

    def interrupt(self, database: Database) -> None:
        database.driver.interrupt()

    def facts(self, database: Database) -> dict[str, str]:
        return {name: str(database.value(f"pragma {name}")) for name in SHOWN_PRAGMAS}


def sqlite_url(path: Path) -> str:
    """Return the URL of a database file."""
    return f"sqlite:///{quote(str(path), safe=' +/')}"


def make_private(path: Path) -> None:
    """Create the file for its owner only, unless it exists; SQLite gives its side files the same mode."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        pass
    except OSError as error:
        raise StorageError(f"{path} cannot be created: {error.strerror}") from None


def copy_database(
    driver: sqlite3.Connection, path: Path, progress: Callable[[int, int], None] = lambda done, total: None
) -> None:
    """Copy a database into a new private file; `progress` gets the bytes copied, and of how many."""
    page_bytes = driver.execute("pragma page_size").fetchone()[0]

    def on_pages(_status: int, remaining: int, total: int) -> None:
        progress((total - remaining) * page_bytes, total * page_bytes)

    make_private(path)
    target = sqlite3.connect(path)
    try:
        driver.backup(target, pages=PAGES_COPIED, progress=on_pages, sleep=0)
    finally:
        target.close()


def _connect(name: str, busy_timeout: float) -> sqlite3.Connection:
    """Open a file, a URI, or a temporary file without a name for "". Transactions are begun by us."""
    uri = name.startswith("file:")
    return sqlite3.connect(name, timeout=busy_timeout, isolation_level=None, check_same_thread=False, uri=uri)


def _open(name: str, busy_timeout: float) -> sqlite3.Connection:
    driver = _connect(name, busy_timeout)
    try:
        for pragma, value in PRAGMAS.items():
            driver.execute(f"pragma {pragma} = {value}")
    except BaseException:  # also when interrupted: do not leak the connection
        driver.close()
        raise
    return driver


def _write_and_delete(driver: sqlite3.Connection, size_bytes: int) -> None:
    driver.execute("create table if not exists warmth (x blob)")
    driver.execute("insert into warmth values (zeroblob(?))", (size_bytes,))
    driver.execute("drop table warmth")


def _kinds(column: Column) -> tuple[str, str]:
    kind = "blob" if column.type == BYTES else "integer" if column.type in (NUMBER, BIGINT, SMALLINT) else "text"
    return (kind, "null" if column.nullable else kind)
