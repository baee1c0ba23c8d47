"""Copy of a whole database into another one of any kind, row by row.

All rows are read as of one moment and written in one transaction, so the other database gets everything or nothing.
At the end both are compared: the number of rows of each table, and the last head of every log, which proves the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from p2pchat.errors import StorageError
from p2pchat.storage import schema
from p2pchat.storage.database import Database, flat, translate_errors
from p2pchat.storage.dialects.dialect import Dialect, dialect_of
from p2pchat.storage.schema import NEWEST_HEAD, OWN_KEYS, TABLES, Table, meta

BUSY_TIMEOUT = 1.0  # seconds to wait for a peer that is just ending
ROWS_AT_ONCE = 1024  # read at once, and written in a few statements
LAST_HEADS = f"select h.id, h.size, h.chain, h.sig from logs l {NEWEST_HEAD} order by l.number"

Progress = Callable[[int, int], None]  # rows copied, of how many


@dataclass(frozen=True, slots=True)
class CopiedRows:
    """The size of a copy: rows in all tables, with the entries and logs among them."""

    rows: int
    entries: int
    logs: int


def copy_rows(source: str, target: str, progress: Progress = lambda done, total: None) -> CopiedRows:
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
                return _copy(origin, copy, progress)


def _open_source(dialect: Dialect, ends: ExitStack) -> Database:
    """Open the source for reading. On a server take the writer's lock too, so that no peer writes during the copy."""
    dialect.require()
    if dialect.is_shared:
        ends.enter_context(closing(Database(dialect, writes=True)))
    database = dialect.upgraded(Database(dialect))
    with database.transaction():
        schema.check(database)
    return database


def _make_tables(database: Database) -> None:
    schema.prepare(database)
    with database.transaction():
        for table in TABLES:
            if any(row for row in database.all(f"select * from {table.name} limit 3") if not _is_own(table, row)):
                raise StorageError(f"{database.dialect.where} holds something already: copy into an empty database")


def _is_own(table: Table, row: Any) -> bool:
    """Return whether this row is about the database itself, and not about a peer."""
    return table is meta and row[0] in OWN_KEYS


def _copy(source: Database, target: Database, progress: Progress) -> CopiedRows:
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
    return CopiedRows(total, counts["entries"], counts["logs"])


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
