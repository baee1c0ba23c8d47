"""Which kind of database a URL names. A driver is imported when its first connection is opened."""

from __future__ import annotations

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from p2pchat.errors import StorageError
from p2pchat.storage.dialects.dialect import Dialect

WRITTEN = "sqlite:////absolute/path, mysql://, mariadb:// or postgresql://USER@HOST/DATABASE"
NAMES = {"postgres": "postgresql"}  # what people write too


def parsed(url: str) -> URL:
    """Return a database URL in parts; StorageError for what is none, which is never shown: it may have a password."""
    try:
        given = make_url(url)
        backend = given.get_backend_name()
    except (ArgumentError, ValueError):
        raise StorageError(f"that is no database URL: write {WRITTEN}") from None
    return given.set(drivername=given.drivername.replace(backend, NAMES.get(backend, backend), 1))


def dialect_of(url: str, busy_timeout: float) -> Dialect:
    """Return how the database at this URL is spoken to; nothing is opened yet.

    Args:
        busy_timeout: Seconds to wait for another program that writes there.
    Raises:
        StorageError: This is no URL, names nothing that could be kept, or its driver is not installed.
    """
    given = parsed(url)
    backend = given.get_backend_name()
    if backend == "sqlite":
        from p2pchat.storage.dialects.sqlite import SQLiteDialect

        return SQLiteDialect(given, busy_timeout)
    if backend in ("mysql", "mariadb"):
        from p2pchat.storage.dialects.mysql import MySQLDialect

        return MySQLDialect(given, busy_timeout)
    if backend == "postgresql":
        from p2pchat.storage.dialects.postgresql import PostgreSQLDialect

        return PostgreSQLDialect(given, busy_timeout)
    raise StorageError(f"this version keeps no {backend!a} databases: write {WRITTEN}")
