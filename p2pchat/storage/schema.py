"""Which version a database has: made when new, migrated when older, refused when newer.

A migration (migrating.py) turns version n into n + 1; all that are needed run in one transaction, after a backup copy
beside the database. The tables of the present version are in tables.py.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import Connection, inspect, select, update

from p2pchat.errors import StorageError
from p2pchat.storage.connect import driver_of, make_private
from p2pchat.storage.migrating import MIGRATIONS, Migration
from p2pchat.storage.tables import SCHEMA_KEY, SCHEMA_VERSION, meta, metadata


def prepare(connection: Connection, path: Path, migrations: Sequence[Migration] = MIGRATIONS) -> None:
    """Make the tables of a new database, or bring an older one to this version.

    Raises:
        StorageError: It is of a newer version, or no database of ours; it is left as it was.
    """
    wanted = 1 + len(migrations)
    with connection.begin():
        found = version(connection, path)
        if found is None:
            metadata.create_all(connection)
            connection.execute(meta.insert().values(name=SCHEMA_KEY, value=str(wanted)))
            return
    if found > wanted:
        raise _newer(path, found)
    if found < wanted:
        _back_up(connection, path.with_name(f"{path.name}.version-{found}"))
        _migrate(connection, migrations, found)


def is_older(connection: Connection, path: Path) -> bool:
    """Say whether a database is of an earlier version of ours; StorageError when it is none of ours."""
    found = version(connection, path)
    return found is not None and found < SCHEMA_VERSION


def bring_up_to_date(connection: Connection, path: Path) -> None:
    """Migrate a database that is only a copy; `path` is what it is a copy of."""
    with connection.begin():
        found = version(connection, path) or 1
    _migrate(connection, MIGRATIONS, found)


def check(connection: Connection, path: Path) -> None:
    """Raise StorageError unless the database has exactly this version: for those that only read."""
    found = version(connection, path)
    if found is not None and found > SCHEMA_VERSION:
        raise _newer(path, found)
    if found != SCHEMA_VERSION:
        raise StorageError(f"{path} has schema {found or 'none'}, not {SCHEMA_VERSION}: start a peer with it once")


def _newer(path: Path, found: int) -> StorageError:
    return StorageError(f"{path} was written by a newer version of p2pchat (schema {found}): update this one")


def version(connection: Connection, path: Path) -> int | None:
    """Return the schema version, None for an empty database."""
    tables = inspect(connection).get_table_names()
    if not tables:
        return None
    text = connection.scalar(select(meta.c.value).where(meta.c.name == SCHEMA_KEY)) if "meta" in tables else None
    if not isinstance(text, str) or not (text.isdecimal() and len(text) < 9):
        raise StorageError(f"{path} is a database of another program: name another file")
    return int(text)


def _back_up(connection: Connection, copy: Path) -> None:
    copy.unlink(missing_ok=True)
    make_private(copy)
    target = sqlite3.connect(copy)
    try:
        driver_of(connection).backup(target)
    finally:
        target.close()
    with open(copy, "rb") as written:
        os.fsync(written.fileno())


def _migrate(connection: Connection, migrations: Sequence[Migration], found: int) -> None:
    with connection.begin():
        for migration in migrations[found - 1 :]:
            migration(connection)
        connection.execute(update(meta).where(meta.c.name == SCHEMA_KEY).values(value=str(1 + len(migrations))))
