"""Which kind of database a URL names. A driver is imported when a URL first needs it."""

from __future__ import annotations

from p2pchat.errors import StorageError
from p2pchat.storage.dialects.dialect import Dialect
from p2pchat.storage.dialects.url import WRITTEN, parse_url


def dialect_of(url: str, busy_timeout: float) -> Dialect:
    """Return the dialect of the database at this URL; nothing is opened yet.

    Args:
        busy_timeout: Seconds to wait for another program that writes there.
    Raises:
        StorageError: This is no URL, names no database we support, or its driver is not installed.
    """
    given = parse_url(url)
    if given.kind == "sqlite":
        from p2pchat.storage.dialects.sqlite import SQLiteDialect

        return SQLiteDialect(given, busy_timeout)
    if given.kind in ("mysql", "mariadb"):
        from p2pchat.storage.dialects.mysql import MySQLDialect

        return MySQLDialect(given, busy_timeout)
    if given.kind == "postgresql":
        from p2pchat.storage.dialects.postgresql import PostgreSQLDialect

        return PostgreSQLDialect(given, busy_timeout)
    raise StorageError(f"this version keeps no {given.kind!a} databases: write {WRITTEN}")
