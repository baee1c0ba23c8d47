"""SQLite: one file, this process its only server; how it is opened and looked after is in connect.py."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path

from sqlalchemy import URL, Connection
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import DBAPIError
from sqlalchemy.schema import CreateIndex, CreateTable

from p2pchat.errors import StorageError
from p2pchat.storage import connect, migrations
from p2pchat.storage.connect import driver_of, make_private
from p2pchat.storage.database import Database
from p2pchat.storage.dialects.dialect import Dialect
from p2pchat.storage.errors import DAMAGED, sentence
from p2pchat.storage.schema import metadata
from p2pchat.storage.verify import misfits, unproven


class SQLite(Dialect):
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
        return connect.open_connection(self._url, self.begins if writes else "begin", self._busy_timeout)

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
        copy = Database(self, connection=connect.temporary_copy(database.connection))
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
        connect.warm_log(database.connection, size_bytes)

    def tidy(self, database: Database) -> None:
        connect.empty_log(database.connection)

    def try_out(self, database: Database, size_bytes: int) -> None:
        connect.try_out(database.connection, size_bytes)

    def most_stored(self, database: Database) -> int:
        return int(database.value("pragma page_count") * database.value("pragma page_size"))

    def size_on_disk(self, database: Database) -> int:
        """Return the bytes of the database file and of its write-ahead log."""
        files = (self.path, self.path.with_name(f"{self.path.name}-wal"))
        return sum(path.stat().st_size for path in files if path.exists())

    def faults(self, database: Database, most: int) -> list[str]:
        return connect.faults(database.connection, most)

    def misfits(self, database: Database) -> Iterator[str]:
        return misfits(database)

    def is_damaged(self, database: Database) -> bool:
        """Whether anything is wrong; the quick looks first. It may take 10 s a million entries."""
        try:
            with database.begin():
                return any(misfits(database)) or bool(self.faults(database, 1) or unproven(database, 1))
        except (DBAPIError, sqlite3.Error):
            return True

    def copy_to(self, database: Database, path: Path, progress: Callable[[int, int], None]) -> None:
        connect.copy_to(database.connection, path, progress)

    def interrupt(self, database: Database) -> None:
        driver_of(database.connection).interrupt()

    def facts(self, database: Database) -> dict[str, str]:
        return connect.pragmas(database.connection)


@lru_cache
def _making() -> Sequence[str]:
    """Return what makes the tables of an empty database.

    SQLAlchemy would look for each of them first, and work out its text for each database anew.
    """
    made: list[CreateTable | CreateIndex] = []
    for table in metadata.sorted_tables:
        made += [CreateTable(table), *map(CreateIndex, sorted(table.indexes, key=lambda index: str(index.name)))]
    return [str(each.compile(dialect=sqlite.dialect())) for each in made]
